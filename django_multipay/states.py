"""Which facts give which state: a pure fold, the same for every order of arrival.

No message is "the last one". A payment's status, sums and reasons for review are
computed from the *set* of its facts, so duplicates and shuffled deliveries cannot
change the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django_multipay.enums import (
    PaymentStatus,
    PlanStatus,
    ReviewReason,
    TransactionKind,
)

Kind = TransactionKind

PAID_STATUSES = frozenset(
    {PaymentStatus.PAID, PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.REFUNDED}
)
"""The money was taken; that some of it went back does not undo it."""

UNSUCCESSFUL_STATUSES = frozenset(
    {PaymentStatus.FAILED, PaymentStatus.CANCELED, PaymentStatus.EXPIRED}
)

FINAL_STATUSES = PAID_STATUSES | UNSUCCESSFUL_STATUSES
"""Nothing more is expected by itself; late proof of money still counts."""

WAITING_STATUSES = frozenset(
    {
        PaymentStatus.PENDING,
        PaymentStatus.AWAITING_FUNDS,
        PaymentStatus.IN_REVIEW,
    }
)
"""The provider may still change its mind; asking again makes sense."""

ENDED_PLAN_STATUSES = frozenset({PlanStatus.CANCELED, PlanStatus.ENDED})
"""Nothing is charged any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One confirmed event; ``amount_minor`` in the payment's currency."""

    kind: TransactionKind
    amount_minor: int = 0
    provider_reference: str = ""
    reason: str = ""
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the facts say. Amounts in minor units of the payment's currency."""

    status: PaymentStatus
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    review_reason: ReviewReason | None
    open_questions: Mapping[ReviewReason, frozenset[str]] = field(hash=False)
    """Every reason to look, with the references of the releases that would close it."""
    decline_code: str
    """Reason of the latest failure while no money came, or empty."""
    is_settled: bool
    """Money is ours and nothing forbids to deliver; refunds do not undo it."""


def fold(amount_minor: int, facts: Iterable[Fact], *, is_started: bool) -> State:
    """Return the state of a payment of ``amount_minor`` with these ``facts``.

    ``is_started``: the buyer was sent to the provider, so it is at least pending.
    The order of ``facts`` does not matter.
    """
    known = set(facts)

    def total(kind: TransactionKind) -> int:
        return sum(fact.amount_minor for fact in known if fact.kind is kind)

    def references(kind: TransactionKind) -> set[str]:
        return {fact.provider_reference for fact in known if fact.kind is kind}

    captured = max(total(Kind.CAPTURE) - total(Kind.CAPTURE_REVERSAL), 0)
    authorized = max(total(Kind.AUTHORIZATION), captured)
    refunded = total(Kind.REFUND)
    charged_back = total(Kind.CHARGEBACK) - total(Kind.CHARGEBACK_REVERSAL)
    released = references(Kind.REVIEW_RELEASE)
    is_returned = 0 < captured <= refunded
    is_underpaid = (
        0 < captured < amount_minor
        and not is_returned
        # A capture below the authorization is the shop's own choice.
        and total(Kind.AUTHORIZATION) < amount_minor
        # Or a person took what there was.
        and _question(ReviewReason.UNDERPAID, known) not in released
    )
    is_void = not captured and bool(
        references(Kind.VOID)
        # A provider that says "canceled" of what it had authorized has voided it.
        or (references(Kind.CANCELLATION) & references(Kind.AUTHORIZATION))
    )

    # Nothing is left to decide about what was released or given back.
    is_held = not (is_void or is_returned) and bool(
        references(Kind.REVIEW_HOLD) - released
    )

    # A failed attempt before a good one has a reference of its own.
    denials = references(Kind.FAILURE) | references(Kind.CANCELLATION)
    promises = references(Kind.CAPTURE) | references(Kind.AUTHORIZATION)
    is_contradicted = not is_void and bool(promises and denials & (promises | {""}))
    status = _status(
        {fact.kind for fact in known},
        captured=captured,
        refunded=refunded,
        authorized=authorized,
        is_void=is_void,
        is_blocked=is_held or is_underpaid,
        is_started=is_started,
    )
    questions = _open_questions(
        known,
        released,
        {
            ReviewReason.CHARGEBACK: charged_back > 0,
            ReviewReason.CONTRADICTION: is_contradicted,
            ReviewReason.OVERPAID: captured - refunded > amount_minor,
            ReviewReason.UNDERPAID: is_underpaid,
        },
        is_held=is_held,
    )
    return State(
        status=status,
        authorized_minor=authorized,
        captured_minor=captured,
        refunded_minor=refunded,
        review_reason=next(iter(questions), None),
        open_questions=questions,
        decline_code=max(
            (
                (fact.occurred_at.isoformat() if fact.occurred_at else "", fact.reason)
                for fact in known
                if fact.kind is Kind.FAILURE and not captured
            ),
            default=("", ""),
        )[1],
        is_settled=captured > 0 and not is_held and not is_underpaid,
    )


def _status(
    kinds: set[TransactionKind],
    *,
    captured: int,
    refunded: int,
    authorized: int,
    is_void: bool,
    is_blocked: bool,
    is_started: bool,
) -> PaymentStatus:
    """Return the status; the first rule that fits wins, money before words."""
    rules = (
        (captured > 0 and refunded >= captured, PaymentStatus.REFUNDED),
        (captured > 0 and is_blocked, PaymentStatus.IN_REVIEW),
        (captured > 0 and refunded > 0, PaymentStatus.PARTIALLY_REFUNDED),
        (captured > 0, PaymentStatus.PAID),
        (is_void, PaymentStatus.CANCELED),
        (authorized > 0 and is_blocked, PaymentStatus.IN_REVIEW),
        (authorized > 0, PaymentStatus.AUTHORIZED),
        (Kind.FAILURE in kinds, PaymentStatus.FAILED),
        (Kind.CAPTURE_REVERSAL in kinds, PaymentStatus.FAILED),
        (Kind.CANCELLATION in kinds, PaymentStatus.CANCELED),
        (Kind.EXPIRY in kinds, PaymentStatus.EXPIRED),
        (is_blocked, PaymentStatus.IN_REVIEW),
        (Kind.AUTHENTICATION in kinds, PaymentStatus.AUTHENTICATED),
        (Kind.REGISTRATION in kinds, PaymentStatus.AWAITING_FUNDS),
        (is_started, PaymentStatus.PENDING),
    )
    return next((status for applies, status in rules if applies), PaymentStatus.CREATED)


_ABOUT: Mapping[ReviewReason, frozenset[TransactionKind]] = {
    ReviewReason.CHARGEBACK: frozenset({Kind.CHARGEBACK, Kind.CHARGEBACK_REVERSAL}),
    ReviewReason.CONTRADICTION: frozenset(
        {Kind.CAPTURE, Kind.AUTHORIZATION, Kind.FAILURE, Kind.CANCELLATION}
    ),
    ReviewReason.OVERPAID: frozenset({Kind.CAPTURE, Kind.CAPTURE_REVERSAL}),
    ReviewReason.UNDERPAID: frozenset({Kind.CAPTURE, Kind.CAPTURE_REVERSAL}),
}
"""The facts that make each reason; a person's answer holds until one more comes."""


def _question(reason: ReviewReason, facts: set[Fact]) -> str:
    """Return the reference of the release that answers ``reason`` as the facts stand."""
    about = sorted(
        f"{fact.kind} {fact.provider_reference} {fact.amount_minor}"
        for fact in facts
        if fact.kind in _ABOUT[reason]
    )
    said = "\n".join(about).encode("utf-8", "backslashreplace")
    return f"{reason}:{hashlib.sha256(said).hexdigest()[:32]}"


def _open_questions(
    facts: set[Fact],
    released: set[str],
    applies: Mapping[ReviewReason, bool],
    *,
    is_held: bool,
) -> dict[ReviewReason, frozenset[str]]:
    """Return the reasons for a person to look, the gravest first."""
    questions: dict[ReviewReason, frozenset[str]] = {}
    for reason, is_so in applies.items():
        question = _question(reason, facts)
        if is_so and question not in released:
            questions[reason] = frozenset({question})
    mismatches = sorted(
        (fact.reason, fact.provider_reference)
        for fact in facts
        if fact.kind is Kind.DISCREPANCY and fact.reason
    )
    for reason_text, reference in mismatches:
        if reference not in released:
            reason = ReviewReason(reason_text)
            questions[reason] = questions.get(reason, frozenset()) | {reference}
    holds: dict[ReviewReason, set[str]] = {}
    for fact in facts:
        if fact.kind is Kind.REVIEW_HOLD and fact.provider_reference not in released:
            # Held by us because the order was paid before, or by the provider.
            is_ours = fact.reason == ReviewReason.PAID_TWICE
            reason = ReviewReason.PAID_TWICE if is_ours else ReviewReason.RISK_REVIEW
            holds.setdefault(reason, set()).add(fact.provider_reference)
    if is_held:
        for reason in sorted(holds):
            questions[reason] = frozenset(holds[reason])
    return questions
