"""What must be true of every row, whatever happened: the query after every chaos."""

from __future__ import annotations

from collections.abc import Iterator

from django_multipay import ledger
from django_multipay.enums import (
    OperationState,
    PaymentStatus,
    RefundStatus,
    TransactionKind,
    Verdict,
)
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Refund,
    Transaction,
    WebhookDelivery,
)

WAITING = frozenset({PaymentStatus.PENDING, PaymentStatus.IN_REVIEW})


def violations() -> list[str]:
    """Return what is wrong, as sentences."""
    return [
        *_payments(),
        *_refunds(),
        *_operations(),
        *_messages(),
    ]


def _payments() -> Iterator[str]:
    for payment in Payment.objects.prefetch_related("transactions"):
        facts = list(payment.transactions.all())

        def total(*kinds: str, facts: list[Transaction] = facts) -> int:
            return sum(fact.amount_minor for fact in facts if fact.kind in kinds)

        captured = total("capture") - total("capture_reversal")
        refunded = total("refund")
        name = f"payment {payment.pk}"
        if payment.captured_minor != max(captured, 0):
            yield f"{name}: captured {payment.captured_minor} is not {captured}"
        if payment.refunded_minor != refunded:
            yield f"{name}: refunded {payment.refunded_minor} is not {refunded}"
        if payment.captured_minor > payment.authorized_minor:
            yield f"{name}: more is captured than was authorized"
        if payment.refunded_minor > payment.captured_minor:
            yield f"{name}: more is refunded than was captured"
        state = ledger._fold(payment, facts)
        if facts and payment.status != state.status:
            yield f"{name}: {payment.status} is not {state.status}"
        if payment.status == PaymentStatus.PENDING and payment.sync_at is None:
            yield f"{name}: nobody will ask about it"
        succeeded = sum(
            refund.amount_minor
            for refund in payment.refunds.filter(status=RefundStatus.SUCCEEDED)
        )
        if succeeded != refunded:
            yield f"{name}: refunds of {succeeded}, facts of {refunded}"
        told = Notice.objects.filter(payment=payment, transaction__isnull=False)
        if told.count() != len(facts):
            yield f"{name}: {len(facts)} facts, {told.count()} notices"
        checkouts = payment.operations.filter(open_slot=f"checkout:{payment.pk}")
        if payment.status == PaymentStatus.PAID and any(
            one.state == OperationState.UNKNOWN for one in checkouts
        ):
            yield f"{name}: paid, and its checkout unknown"
        kinds = [fact.kind for fact in facts]
        if kinds.count(TransactionKind.VOID) > 1:
            yield f"{name}: voided twice"


def _refunds() -> Iterator[str]:
    for refund in Refund.objects.filter(status__in=ledger.RESERVING_STATUSES):
        is_open = refund.operations.filter(state__in=ledger._OPEN_STATES).exists()
        if refund.sync_at is None and not is_open:
            yield f"refund {refund.pk}: {refund.status}, and nobody will look again"


def _operations() -> Iterator[str]:
    for operation in Operation.objects.all():
        is_open = operation.state in ledger._OPEN_STATES
        if operation.open_slot is not None and not is_open:
            yield f"operation {operation.pk}: {operation.state}, and holds its slot"
        is_in_flight = operation.state == OperationState.IN_FLIGHT
        if is_in_flight and operation.lease_until is None:
            yield f"operation {operation.pk}: in flight without a lease"


def _messages() -> Iterator[str]:
    for delivery in WebhookDelivery.objects.all():
        is_stored = delivery.verdict == Verdict.STORED
        if is_stored and (delivery.payload is None or delivery.retry_at is None):
            yield f"delivery {delivery.pk}: stored, and cannot be applied"
        if delivery.verdict == Verdict.APPLIED and delivery.payload is not None:
            yield f"delivery {delivery.pk}: applied, and its message kept"
