"""What endpoints have to hear, written so that two workers never send one event.

A claim moves ``due_at`` behind the lease, on the database's clock; it clears
``error``, so a delivery that was tried and has none is being sent right now.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from django_multipay.enums import (
    EndpointDeliveryState,
    EndpointStatus,
    EndpointTrouble,
)
from django_multipay.exceptions import MultipayError
from django_multipay.ledger import claims
from django_multipay.ledger.claims import DatabaseNow, retried
from django_multipay.ledger.statements import Select
from django_multipay.models import Endpoint, EndpointDelivery, Notice
from django_multipay.redaction import storable

ENDPOINT_LEASE = timedelta(minutes=5)
"""How long one attempt may take: many times the limit of a call, because the look-up
of a name cannot be interrupted."""

ENDPOINT_DELAYS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 72000)
)
"""Before the second attempt, the third and so on: ten attempts in three days."""

JITTER = 10
"""Per cent that a delay may be longer or shorter, so that failures spread."""

PAUSE = timedelta(minutes=1)
"""How long an endpoint is left alone that gave no answer, or is too busy."""

PATIENCE = timedelta(days=5)
"""An endpoint that took nothing for so long is disabled."""

MOST_SECRETS = 5
"""Each signs every request; the oldest is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What is told to the endpoints; ``body`` is JSON, exactly as it is signed."""

    id: str
    type: str
    body: str
    notice: Notice | None
    """None for a test event, which goes to whom it is for, whatever they hear of."""


# Without the secrets: one that no key opens must not hide the others.
_ENABLED = Endpoint.objects.defer("secrets").filter(status=EndpointStatus.ENABLED)

_LISTENING = Select(_ENABLED)


def enabled_endpoints() -> list[Endpoint]:
    """Return the endpoints that are told."""
    return _LISTENING()


def callable_endpoints() -> QuerySet[Endpoint]:
    """Return the endpoints that may be called now, those in trouble last."""
    rows = _ENABLED.filter(_is_callable())
    return rows.order_by(F("failing_since").asc(nulls_first=True), "id")


def _is_callable(prefix: str = "") -> Q:
    name = f"{prefix}paused_until"
    is_enabled = Q(**{f"{prefix}status": EndpointStatus.ENABLED})
    is_rested = Q(**{name: None}) | Q(**{f"{name}__lte": DatabaseNow()})
    return is_enabled & is_rested


@retried
def fan_out(events: Sequence[Event], endpoints: Sequence[Endpoint]) -> int:
    """Write one delivery for each endpoint and event it hears of; return how many.

    Again for the same events it writes what is missing only: the unique constraint
    decides, not the look before the insert.
    """
    if not events or not endpoints:
        return 0
    with transaction.atomic(durable=True):
        known = set(
            EndpointDelivery.objects.filter(
                event_id__in=[event.id for event in events],
                endpoint__in=endpoints,
            ).values_list("endpoint_id", "event_id")
        )
        rows = [
            EndpointDelivery(
                endpoint=endpoint,
                notice=event.notice,
                event_id=event.id,
                event_type=event.type,
                body=event.body,
                # The clock that `claim_endpoint_delivery` reads.
                due_at=DatabaseNow(),
            )
            for event in events
            for endpoint in endpoints
            if (event.notice is None or endpoint.hears_of(event.type))
            and (endpoint.pk, event.id) not in known
        ]
        EndpointDelivery.objects.bulk_create(rows)
    return len(rows)


def due_endpoint_deliveries() -> QuerySet[EndpointDelivery]:
    """Return what nobody sends right now and that should be sent."""
    return EndpointDelivery.objects.filter(
        _is_callable("endpoint__"),
        state=EndpointDeliveryState.WAITING,
        due_at__lte=DatabaseNow(),
    )


def claim_endpoint_delivery(
    endpoint: Endpoint, delivery_id: int | None = None
) -> EndpointDelivery | None:
    """Return a due delivery of ``endpoint``, ours for `ENDPOINT_LEASE`.

    That with ``delivery_id``, or the next; None if there is none, or others have it.
    """
    due = EndpointDelivery.objects.filter(
        state=EndpointDeliveryState.WAITING, due_at__lte=DatabaseNow()
    )
    found = due_endpoint_deliveries().filter(endpoint=endpoint)
    if delivery_id is not None:
        # Somebody wants to know now, also whether it answers again.
        found = due.filter(pk=delivery_id, endpoint__status=EndpointStatus.ENABLED)
    ours = claims.take(
        due,
        found.order_by("due_at", "id"),
        1,
        {
            "due_at": DatabaseNow() + ENDPOINT_LEASE,
            "attempts": F("attempts") + 1,
            "error": "",
        },
    )
    return next(iter(claims.read(EndpointDelivery, ours, "endpoint")), None)


@retried
def conclude_endpoint_delivery(
    delivery: EndpointDelivery,
    *,
    status: int | None,
    error: str = "",
    retry_after: int | None = None,
) -> EndpointTrouble | None:
    """Write what one attempt came to, and what it says about the endpoint.

    Without ``error`` it was taken, which stands whoever says so. With it, the delivery
    is due again later, by the schedule or when the receiver asked for it, and given
    up after the last attempt; a worker whose lease ended changes nothing then.
    Returns why the endpoint was disabled by it, or None.
    """
    rows = EndpointDelivery.objects.filter(
        pk=delivery.pk, state=EndpointDeliveryState.WAITING
    )
    values: dict[str, Any] = {"last_status": status, "error": storable(error, 255)}
    if not error:
        values |= {
            "state": EndpointDeliveryState.DELIVERED,
            "delivered_at": DatabaseNow(),
        }
    else:
        rows = rows.filter(attempts=delivery.attempts)
        values |= _after(delivery.attempts, timedelta(seconds=retry_after or 0))
    endpoints = Endpoint.objects.filter(pk=delivery.endpoint_id)
    enabled = endpoints.filter(status=EndpointStatus.ENABLED)
    with transaction.atomic(durable=True):
        if not rows.update(**values):
            return None
        if not error:
            in_trouble = endpoints.exclude(failing_since=None)
            in_trouble.update(failing_since=None, paused_until=None)
            return None
        endpoints.filter(failing_since=None).update(failing_since=DatabaseNow())
        if status is None or status in _BUSY:
            rest = max(PAUSE, timedelta(seconds=retry_after or 0))
            endpoints.update(paused_until=DatabaseNow() + rest)
        if status == _GONE and _disable(enabled, EndpointTrouble.GONE):
            return EndpointTrouble.GONE
        failing = enabled.filter(failing_since__lte=DatabaseNow() - PATIENCE)
        if _disable(failing, EndpointTrouble.FAILING):
            return EndpointTrouble.FAILING
    return None


_GONE = 410
_BUSY = frozenset({429, 502, 503, 504})


def _after(attempts: int, wait: timedelta) -> dict[str, Any]:
    """Return what becomes of a delivery after its attempt number ``attempts``."""
    if attempts > len(ENDPOINT_DELAYS):
        return {"state": EndpointDeliveryState.FAILED}
    # Spreads the load; nothing secret depends on it.
    percent = random.randint(100 - JITTER, 100 + JITTER)  # noqa: S311
    delay = ENDPOINT_DELAYS[attempts - 1] * percent / 100
    return {"due_at": DatabaseNow() + max(delay, wait)}


def _disable(endpoints: QuerySet[Endpoint], reason: EndpointTrouble) -> int:
    return endpoints.update(status=EndpointStatus.DISABLED, disabled_reason=reason)


def open_endpoint(endpoint: Endpoint) -> Endpoint:
    """Insert ``endpoint``; joins the caller's transaction."""
    endpoint.save(force_insert=True)
    return endpoint


def save_endpoint(endpoint: Endpoint) -> None:
    """Write what a person may change of ``endpoint``; joins their transaction."""
    endpoint.save(update_fields=["url", "events", "description", "updated_at"])


@retried
def add_secret(endpoint: Endpoint, secret: str, keep_for: timedelta) -> None:
    """Put a new secret in front; the others sign for ``keep_for`` more.

    Those that no key opens any more are dropped: nobody can sign with them.
    """
    with transaction.atomic(durable=True):
        row = Endpoint.objects.select_for_update().defer("secrets").get(pk=endpoint.pk)
        try:
            live = row.live_secrets
        except MultipayError:
            live = []
        last = (timezone.now() + keep_for).isoformat()
        kept = [{"secret": one, "retires_at": last} for one in live if keep_for]
        row.secrets = [{"secret": secret, "retires_at": None}, *kept][:MOST_SECRETS]
        row.secret_shown_at = None
        row.save(update_fields=["secrets", "secret_shown_at", "updated_at"])


@retried
def show_secret(endpoint: Endpoint) -> bool:
    """Note that the newest secret is shown; False if it was shown before."""
    with transaction.atomic(durable=True):
        return bool(
            Endpoint.objects.filter(pk=endpoint.pk, secret_shown_at=None).update(
                secret_shown_at=DatabaseNow()
            )
        )


@retried
def enable_endpoint(endpoint: Endpoint) -> None:
    """Tell ``endpoint`` of events again; what waits for it is due."""
    with transaction.atomic(durable=True):
        Endpoint.objects.filter(pk=endpoint.pk).update(
            status=EndpointStatus.ENABLED,
            disabled_reason="",
            failing_since=None,
            paused_until=None,
        )
        _resend(
            endpoint.deliveries.filter(
                state=EndpointDeliveryState.WAITING, due_at__gt=DatabaseNow()
            )
        )


@retried
def disable_endpoint(endpoint: Endpoint) -> None:
    """Stop telling ``endpoint``; what waits for it goes on waiting."""
    with transaction.atomic(durable=True):
        _disable(
            Endpoint.objects.filter(pk=endpoint.pk, status=EndpointStatus.ENABLED),
            EndpointTrouble.STAFF,
        )


@retried
def resend(deliveries: QuerySet[EndpointDelivery]) -> int:
    """Make ``deliveries`` due now, whatever became of them; return how many.

    Those that are being sent right now are left alone.
    """
    with transaction.atomic(durable=True):
        return _resend(deliveries)


def _resend(deliveries: QuerySet[EndpointDelivery]) -> int:
    is_being_sent = Q(state=EndpointDeliveryState.WAITING, attempts__gt=0, error="")
    return deliveries.exclude(is_being_sent).update(
        state=EndpointDeliveryState.WAITING,
        attempts=0,
        due_at=DatabaseNow(),
        delivered_at=None,
    )
