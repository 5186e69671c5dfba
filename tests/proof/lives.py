"""The calls that a proof interrupts: what must be there before, and what afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django_multipay.enums import (
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    RefundStatus,
    Verdict,
)
from django_multipay.flows import deliver_notices, reconcile, start_payment
from django_multipay.flows.operations import CAPABILITIES
from django_multipay.models import Notice, Operation, Payment, WebhookDelivery
from tests.corridor import let_everything_be_due
from tests.flows.scripted import SECRET, message, new_payment
from tests.flows.test_operation_crash import (
    AMOUNT,
    ASKED,
    PROVIDERS,
    BookProvider,
    book_settings,
    payment_for,
    provider_of,
    query_about,
)
from tests.flows.test_plan_races import CarefulBooks, ChargingBooks

MOVES = (OperationKind.REFUND, OperationKind.CAPTURE, OperationKind.VOID)
ALIASES = ("careful", "plain")
"""Does once what comes twice with one key; and does not."""

CHARGERS: Mapping[str, type[BookProvider]] = {
    "charging once": CarefulBooks,
    "charging": ChargingBooks,
}
"""The same two, where methods are saved."""

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def accounts_at(books: Path) -> dict[str, Any]:
    """Return ``MULTIPAY`` with an account at each kind of provider with these books."""
    return book_settings({**PROVIDERS, **CHARGERS}, books)


def sweep() -> None:
    """Run `reconcile` when every lease is over and everything is due."""
    let_everything_be_due()
    Notice.objects.filter(state=NoticeState.WAITING).update(due_at=LONG_AGO)
    WebhookDelivery.objects.filter(verdict=Verdict.STORED).update(retry_at=LONG_AGO)
    reconcile()


@dataclass
class Wreck:
    """What two sweeps could not put right, if anything; see `tests.proof.figures`."""

    lost: list[object]
    doubled: list[object]
    stuck: list[object]
    waiting: int = 0


def order_of(payment: Payment, kind: OperationKind) -> dict[str, Any]:
    """Return the order for a worker that does ``kind`` to ``payment``."""
    amounts = [str(amount.amount) for amount in ASKED[kind]]
    return {"act": kind, "payment": payment.pk, "amounts": amounts}


def later_order_of(payment: Payment, kind: OperationKind) -> dict[str, Any]:
    """Return the same order, asked for in a transaction: it is sent after its commit."""
    return {**order_of(payment, kind), "is_later": True}


def ready_for(kind: OperationKind, alias: str) -> Payment:
    """Return a payment that ``kind`` is possible for."""
    payment = payment_for(kind, provider_of(alias))
    deliver_notices()
    return payment


def paid_at_the_provider(
    alias: str, *, is_asked_about: bool = True
) -> tuple[Payment, dict[str, Any]]:
    """Return a payment that its buyer has paid, and the order to take the news."""
    payment = new_payment(amount=AMOUNT, provider=alias)
    start_payment(payment)
    provider_of(alias).note(
        query_about(payment), "capture", payment.amount_minor, "page"
    )
    return payment, news(payment, is_asked_about=is_asked_about)


def news(payment: Payment, *, is_asked_about: bool = True) -> dict[str, Any]:
    """Return the order to take the news that ``payment`` was paid.

    ``is_asked_about``: the provider must confirm it; otherwise it is applied at once.
    """
    said = message(payment, PaymentStatus.PAID, ask=is_asked_about)
    return {
        "act": "callback",
        "path": f"/payments/webhook/{payment.provider}/",
        "body": said.body.decode(),
        "secret": SECRET,
    }


def after_two_sweeps(
    payments: Sequence[Payment], kind: OperationKind | None = None
) -> Wreck:
    """Compare both books; ``kind`` is what each payment was to go through once."""
    sweep()
    sweep()
    wreck = Wreck([], [], [])
    for payment in payments:
        payment.refresh_from_db()
        provider, query = provider_of(payment.provider), query_about(payment)
        entries = provider.entries(query)
        done = [one for one in entries if one["kind"] == kind]
        if kind and len(done) > 1:
            wreck.doubled.append((payment.pk, done))
        for name, ours in (
            ("capture", payment.captured_minor),
            ("refund", payment.refunded_minor),
        ):
            theirs = provider.total(query, name)
            if ours < theirs:
                wreck.lost.append((payment.pk, name, ours, theirs))
            if ours > theirs:
                wreck.doubled.append((payment.pk, name, ours, theirs))
        is_void = any(one["kind"] == "void" for one in entries)
        if is_void != (payment.status == PaymentStatus.CANCELED):
            wreck.lost.append((payment.pk, "void", payment.status))
        _judge_operations(wreck, payment, provider, entries)
    wreck.stuck += WebhookDelivery.objects.filter(verdict=Verdict.STORED)
    wreck.stuck += Notice.objects.filter(state=NoticeState.WAITING)
    return wreck


def _judge_operations(
    wreck: Wreck,
    payment: Payment,
    provider: BookProvider,
    entries: Sequence[Mapping[str, Any]],
) -> None:
    open_states = [
        OperationState.REQUESTED,
        OperationState.IN_FLIGHT,
        OperationState.UNKNOWN,
    ]
    keys = {one["key"] for one in entries}
    for operation in Operation.objects.filter(payment=payment, state__in=open_states):
        if operation.kind == OperationKind.CHECKOUT:
            continue  # The buyer's reload opens it; no money is behind it.
        is_for_a_person = (
            operation.state == OperationState.UNKNOWN
            and operation.key not in keys
            and CAPABILITIES[OperationKind(operation.kind)] not in provider.repeatable
        )
        if is_for_a_person:
            wreck.waiting += 1
        else:
            wreck.stuck.append(operation)
    waiting = [RefundStatus.REQUESTED, RefundStatus.PENDING]
    wreck.stuck += payment.refunds.filter(status__in=waiting)
