"""Telling the shop's other systems: signed requests, from the outbox, until taken.

A fact becomes one delivery per endpoint and event, written before the receivers of
signals are called; a worker sends it later, so nobody waits for somebody else's
server. Sending is at least once, always with the same id.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from django_multipay import money, signals
from django_multipay.enums import EndpointStatus
from django_multipay.exceptions import InvalidOperation, MultipayError
from django_multipay.flows.guards import refuse_open_transaction
from django_multipay.ledger import endpoints as ledger
from django_multipay.models import (
    Endpoint,
    EndpointDelivery,
    Notice,
    Payment,
    RecurringPlan,
    Refund,
    Token,
    Transaction,
)
from django_multipay.models.endpoint import deliveries_written
from django_multipay.outgoing import Receipt, check_url, send_event
from django_multipay.redaction import storable
from django_multipay.signatures import SECRET_PREFIX

logger = logging.getLogger("django_multipay.flows")

TEST_EVENT = "endpoint.test"
KEEP_FOR = timedelta(days=1)
"""How long a secret signs on after it was replaced."""


def event_type_of(signal: str) -> str:
    """Return the type of event for the name of a signal: ``payment.paid``."""
    return signal.replace("_", ".", 1)


EVENT_TYPES = tuple(
    event_type_of(name)
    for name, item in vars(signals).items()
    if isinstance(item, signals.NoticeSignal)
)
"""What an endpoint can hear of: one type for each signal."""


# Endpoints ----------------------------------------------------------------------------


def create_endpoint(
    url: str, *, events: Iterable[str] = (), description: str = ""
) -> Endpoint:
    """Add an address that hears of ``events`` (none named: of all), and its secret.

    `InvalidOperation` with ``field`` where the address or a type cannot be used. The
    secret is ``endpoint.live_secrets[0]``; give it to the receiver, in confidence.
    """
    return ledger.open_endpoint(
        Endpoint(
            url=checked_url(url),
            events=checked_events(events),
            description=storable(description, 255),
            secrets=[{"secret": _new_secret(), "retires_at": None}],
        )
    )


def change_endpoint(
    endpoint: Endpoint, *, url: str, events: Iterable[str], description: str
) -> None:
    """Change where ``endpoint`` is and what it hears of; errors as for a new one.

    What waits for it goes to the new address; what was not written down for it
    because it did not hear of it stays unwritten.
    """
    endpoint.url = checked_url(url)
    endpoint.events = checked_events(events)
    endpoint.description = storable(description, 255)
    ledger.save_endpoint(endpoint)


def checked_url(url: str) -> str:
    """Return ``url``; `InvalidOperation` where nothing would be sent to it."""
    check_url(url)
    return url


def checked_events(events: Iterable[str]) -> list[str]:
    """Return ``events`` in their usual order; `InvalidOperation` for an unknown one."""
    wanted = set(events)
    unknown = ", ".join(sorted(wanted.difference(EVENT_TYPES)))
    if unknown:
        known = ", ".join(EVENT_TYPES)
        raise InvalidOperation(f"{unknown}: use some of {known}", "events")
    return [name for name in EVENT_TYPES if name in wanted]


def _new_secret() -> str:
    return f"{SECRET_PREFIX}{base64.b64encode(secrets.token_bytes(32)).decode()}"


def rotate_secret(endpoint: Endpoint, *, keep_for: timedelta = KEEP_FOR) -> str:
    """Give ``endpoint`` a new secret and return it.

    For ``keep_for`` every request is signed with the older ones too, so that the
    receiver can change over without losing any. Nothing (``timedelta()``) drops them
    at once, for a secret that leaked.
    """
    secret = _new_secret()
    ledger.add_secret(endpoint, secret, keep_for)
    endpoint.refresh_from_db()
    return secret


def reveal_secret(endpoint: Endpoint) -> str | None:
    """Return the newest secret the first time it is asked for, then None."""
    return endpoint.live_secrets[0] if ledger.show_secret(endpoint) else None


def enable_endpoint(endpoint: Endpoint) -> None:
    """Tell ``endpoint`` of events again; what waited for it goes out now.

    What happened while it was disabled was not written down: `resend_since` sends it.
    """
    ledger.enable_endpoint(endpoint)
    endpoint.refresh_from_db()
    deliveries_written.send_robust(sender=Endpoint)


def disable_endpoint(endpoint: Endpoint) -> None:
    """Stop telling ``endpoint`` of events."""
    ledger.disable_endpoint(endpoint)
    endpoint.refresh_from_db()


# Events -------------------------------------------------------------------------------


def tell_endpoints(notices: Sequence[Notice]) -> dict[int, str]:
    """Write what the endpoints hear of ``notices``; return what went wrong, by key.

    However often it is called for a notice, each endpoint gets each event once. It
    does not raise: the receivers of signals are told all the same.
    """
    problems: dict[int, str] = {}
    events: list[ledger.Event] = []
    try:
        may_hear = any(notice.has_endpoints for notice in notices)
        listening = ledger.enabled_endpoints() if may_hear else []
        for notice in notices if listening else ():
            try:
                events += events_of(notice)
            except Exception as error:
                logger.exception("notice %s cannot be put in words", notice.uuid)
                problems[notice.pk] = f"endpoints: {type(error).__name__}"
        if ledger.fan_out(events, listening):
            deliveries_written.send_robust(sender=Endpoint)
    except Exception as error:
        logger.exception("the endpoints were not told")
        return {notice.pk: f"endpoints: {type(error).__name__}" for notice in notices}
    return problems


def send_test_event(endpoint: Endpoint) -> EndpointDelivery:
    """Write an event that says nothing, for ``endpoint`` alone, and send it now.

    Returns the delivery with what became of it. `InvalidOperation` while the endpoint
    is disabled.
    """
    refuse_open_transaction("send_test_event")
    if endpoint.status != EndpointStatus.ENABLED:
        raise InvalidOperation("the endpoint is disabled; enable it first", "status")
    event = _event(uuid.uuid4(), TEST_EVENT, timezone.now(), {})
    ledger.fan_out([event], [endpoint])
    return send_now(EndpointDelivery.objects.get(event_id=event.id))


def events_of(notice: Notice) -> list[ledger.Event]:
    """Return the events of one notice, one for each of its signals, in their order.

    The ids follow from the notice's, so they are the same whenever it is asked.
    """
    data = {
        name: said
        for name, said in (
            ("payment", _said_of_payment(notice.payment)),
            ("transaction", _said_of_transaction(notice.transaction)),
            ("refund", _said_of_refund(notice.refund)),
            ("token", _said_of_token(notice.token)),
            ("plan", _said_of_plan(notice.plan)),
        )
        if said
    }
    return [
        _event(
            uuid.uuid5(notice.uuid, name),
            event_type_of(name),
            notice.created_at,
            data,
            notice,
        )
        for name in notice.signals
    ]


def _event(
    identity: uuid.UUID,
    event_type: str,
    moment: datetime,
    data: Mapping[str, Any],
    notice: Notice | None = None,
) -> ledger.Event:
    event_id = f"evt_{identity.hex}"
    body = {
        "id": event_id,
        "type": event_type,
        "timestamp": moment.isoformat(),
        "data": data,
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return ledger.Event(id=event_id, type=event_type, body=text, notice=notice)


def _amount(name: str, minor: int, currency: str) -> dict[str, Any]:
    """Return an amount as text in major units and as whole minor units."""
    major = money.from_minor(minor, currency).amount
    return {name: f"{major:f}", f"{name}_minor": minor}


def _said_of_payment(payment: Payment | None) -> dict[str, Any]:
    if payment is None:
        return {}
    currency = payment.currency
    return {
        "uuid": str(payment.uuid),
        "order_id": payment.order_id,
        "provider": payment.provider,
        "status": payment.status,
        "currency": currency,
        **_amount("amount", payment.amount_minor, currency),
        **_amount("captured", payment.captured_minor, currency),
        **_amount("refunded", payment.refunded_minor, currency),
        "decline_code": payment.decline_code,
        "review_reason": payment.review_reason,
    }


def _said_of_transaction(fact: Transaction | None) -> dict[str, Any]:
    if fact is None:
        return {}
    return {
        "kind": fact.kind,
        "currency": fact.currency,
        **_amount("amount", fact.amount_minor, fact.currency),
    }


def _said_of_refund(refund: Refund | None) -> dict[str, Any]:
    if refund is None:
        return {}
    currency = refund.payment.currency
    return {
        "uuid": str(refund.uuid),
        "status": refund.status,
        "currency": currency,
        **_amount("amount", refund.amount_minor, currency),
    }


def _said_of_token(token: Token | None) -> dict[str, Any]:
    if token is None:
        return {}
    return {"uuid": str(token.uuid), "provider": token.provider, "status": token.status}


def _said_of_plan(plan: RecurringPlan | None) -> dict[str, Any]:
    if plan is None:
        return {}
    return {
        "uuid": str(plan.uuid),
        "provider": plan.provider,
        "status": plan.status,
        "interval_months": plan.interval_months,
        "next_on": plan.next_on.isoformat() if plan.next_on else None,
        "currency": plan.currency,
        **_amount("amount", plan.amount_minor, plan.currency),
    }


# Sending ------------------------------------------------------------------------------


def deliver_endpoints(limit: int = 100, *, budget: timedelta | None = None) -> int:
    """Send what waits for the endpoints; return how many deliveries were taken.

    At most ``limit`` are sent, and no further one once ``budget`` is used up. The
    endpoints take turns, those in trouble last; one that gives no answer is left
    alone for a minute, so a dead server delays its own events only.
    """
    refuse_open_transaction("deliver_endpoints")
    started = time.monotonic()
    taken = sent = 0
    waiting = list(ledger.callable_endpoints())
    while waiting:
        for endpoint in list(waiting):
            is_spent = budget is not None and budget <= timedelta(
                seconds=time.monotonic() - started
            )
            if sent >= limit or is_spent:
                return taken
            delivery = ledger.claim_endpoint_delivery(endpoint)
            if delivery is None:
                waiting.remove(endpoint)
                continue
            sent += 1
            taken += _send(delivery).state == EndpointDelivery.State.DELIVERED
    return taken


def send_now(delivery: EndpointDelivery) -> EndpointDelivery:
    """Send one delivery again, whatever became of it; return what becomes of it now.

    One that is being sent right now, or whose endpoint is disabled, is left as it is.
    """
    refuse_open_transaction("send_now")
    ledger.resend(EndpointDelivery.objects.filter(pk=delivery.pk))
    claimed = ledger.claim_endpoint_delivery(delivery.endpoint, delivery.pk)
    if claimed is not None:
        return _send(claimed)
    delivery.refresh_from_db()
    return delivery


def _send(delivery: EndpointDelivery) -> EndpointDelivery:
    """Send a claimed delivery once, and write down what came of it."""
    endpoint = delivery.endpoint
    try:
        keys: Sequence[str] = endpoint.live_secrets
    except MultipayError as error:
        receipt = Receipt(status=None, error=str(error))
    else:
        receipt = send_event(
            endpoint.url,
            event_id=delivery.event_id,
            body=delivery.body.encode(),
            secrets=keys,
            moment=timezone.now(),
        )
    trouble = ledger.conclude_endpoint_delivery(
        delivery,
        status=receipt.status,
        error=receipt.error,
        retry_after=receipt.retry_after,
    )
    if trouble:
        # For whoever watches the log; the overview in the admin counts it, too.
        logger.error("endpoint %s was disabled: %s", endpoint.uuid, trouble.value)
    delivery.refresh_from_db()
    return delivery


_CHUNK = 500


def resend_since(endpoint: Endpoint, since: datetime) -> int:
    """Send ``endpoint`` again whatever happened since, taken or not; return how many.

    What happened while it was disabled, or before it was there, is written down now,
    as it stands now. The same event keeps its id. Test events are left out.
    """
    refuse_open_transaction("resend_since")
    told = last = 0
    while chunk := list(
        Notice.objects.filter(pk__gt=last, created_at__gte=since)
        .select_related("payment", "transaction", "refund__payment", "token", "plan")
        .order_by("pk")[:_CHUNK]
    ):
        last = chunk[-1].pk
        told += ledger.resend(endpoint.deliveries.filter(notice__in=chunk))
        events = [event for notice in chunk for event in events_of(notice)]
        told += ledger.fan_out(events, [endpoint])
    deliveries_written.send_robust(sender=Endpoint)
    return told
