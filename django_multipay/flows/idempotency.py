"""A request that comes again is answered as before, and carried out once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from django_multipay import crypto
from django_multipay.enums import KeyRefusal
from django_multipay.flows.guards import refuse_open_transaction
from django_multipay.ledger.idempotency import (
    claim_key,
    conclude_key,
    drop_expired_keys,
    drop_key,
    unlock_key,
)
from django_multipay.models import IdempotencyKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered to a request; ``body`` is its text."""

    status: int
    body: str = field(repr=False)
    location: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to carry out one request, for as long as its lease.

    ``flow_key`` is the ``idempotency_key`` for the flows: always the same for the same
    caller and key. So even if a worker dies between the money and the answer, or the
    key expires, whoever carries the request on finds what was done already.
    """

    row: IdempotencyKey
    flow_key: str


def begin_request(who: str, key: str, said: str) -> Turn | Answer | KeyRefusal:
    """Take the turn for the request ``said`` of ``who`` under ``key``.

    Returns the answer instead if there is one already, or why there is none: the same
    request is under way, or the key came with another one.
    """
    refuse_open_transaction("begin_request")
    digest = hashlib.sha256(f"{who} {key}".encode()).hexdigest()
    # Keyed: a bank account in the body could be guessed from a plain digest.
    # Under every key: the first request may have come before a rotation.
    fingerprints = crypto.keyed_digests(said)
    row, is_ours = claim_key(digest, fingerprints)
    if is_ours:
        return Turn(row, digest)
    if row.fingerprint not in fingerprints:
        return KeyRefusal.OTHER_REQUEST
    if row.answer_status is None:
        return KeyRefusal.IN_PROGRESS
    return Answer(
        status=row.answer_status, body=row.answer_body, location=row.answer_location
    )


def finish_request(turn: Turn, answer: Answer) -> bool:
    """Keep ``answer`` for whoever asks again; False if the turn was lost meanwhile.

    Joins the caller's transaction, so that what was written and its answer are kept
    together or not at all.
    """
    return conclude_key(turn.row, answer.status, answer.body, answer.location)


def give_up_turn(turn: Turn) -> None:
    """Let the same request come again at once: its outcome is not known yet."""
    unlock_key(turn.row)


def forget_request(turn: Turn) -> None:
    """Free the key: the request was refused, and nothing was done."""
    drop_key(turn.row)


def forget_expired_requests(limit: int = 1000) -> int:
    """Delete at most ``limit`` answers that are older than a day; return how many."""
    return drop_expired_keys(limit)
