"""Who may carry out a request that carries a key, and what was answered to it.

No money row is written here: that one wish moves money once is the business of
`Operation.client_key`. This is the desk before it, which answers a repeated request as
it was answered before.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet

from django_multipay.ledger import LEASE
from django_multipay.ledger.claims import DatabaseNow, retried
from django_multipay.models import IdempotencyKey

LIFETIME = timedelta(hours=24)
"""How long an answer is kept; then its key is as good as new."""


@retried
def claim_key(digest: str, fingerprints: Sequence[str]) -> tuple[IdempotencyKey, bool]:
    """Return the row of a key, and whether the caller may carry out the request.

    ``fingerprints`` are those of the request under every encryption key, the first
    key's first.

    It may if the key is new or expired, or if the same request was left without an
    answer by a worker whose lease is over. The database's clock and a unique column
    decide, so among many only one may.
    """
    now = DatabaseNow()
    token = uuid.uuid4().hex
    lease = {"lease_token": token, "lease_until": now + LEASE}
    with transaction.atomic(durable=True):
        row = IdempotencyKey.objects.filter(digest=digest).first()
        if row is None:
            row = IdempotencyKey.objects.create(
                digest=digest,
                fingerprint=fingerprints[0],
                lease_token=token,
                # From the clock that is asked later whether it is over.
                lease_until=now + LEASE,
                expires_at=now + LIFETIME,
            )
            return row, True
        rows = IdempotencyKey.objects.filter(pk=row.pk)
        is_ours = rows.filter(expires_at__lte=now).update(
            **lease,
            fingerprint=fingerprints[0],
            expires_at=now + LIFETIME,
            answer_status=None,
            answer_body=None,
            answer_location="",
        ) or rows.filter(
            fingerprint__in=fingerprints, answer_status=None, lease_until__lte=now
        ).update(**lease)
    if is_ours:
        row.lease_token = token
    else:
        row.refresh_from_db()
    return row, bool(is_ours)


def conclude_key(row: IdempotencyKey, status: int, body: str, location: str) -> bool:
    """Keep the answer; False if the lease went to another worker meanwhile.

    Joins the caller's transaction.
    """
    return bool(
        IdempotencyKey.objects.filter(pk=row.pk, lease_token=row.lease_token).update(
            answer_status=status,
            answer_body=body,
            answer_location=location,
            lease_until=None,
        )
    )


@retried
def unlock_key(row: IdempotencyKey) -> None:
    """Let the same request be carried on at once."""
    with transaction.atomic(durable=True):
        IdempotencyKey.objects.filter(
            pk=row.pk, lease_token=row.lease_token, answer_status=None
        ).update(lease_until=DatabaseNow())


@retried
def drop_key(row: IdempotencyKey) -> None:
    """Forget the request: it was refused before anything was done."""
    with transaction.atomic(durable=True):
        IdempotencyKey.objects.filter(
            pk=row.pk, lease_token=row.lease_token, answer_status=None
        ).delete()


def expired_keys() -> QuerySet[IdempotencyKey]:
    """Return the keys whose answers nobody may expect any more."""
    return IdempotencyKey.objects.filter(expires_at__lte=DatabaseNow())


@retried
def drop_expired_keys(limit: int) -> int:
    """Delete at most ``limit`` expired keys; return how many there were."""
    with transaction.atomic(durable=True):
        chosen = list(expired_keys().order_by("expires_at").values_list("pk")[:limit])
        return IdempotencyKey.objects.filter(pk__in=[pk for (pk,) in chosen]).delete()[
            0
        ]
