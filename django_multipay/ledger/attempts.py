"""Attempts of one order: choosing again, trying again, and never paying twice."""

from __future__ import annotations

from django.db import transaction

from django_multipay import ledger, states
from django_multipay.enums import OperationKind, OperationState, PaymentStatus
from django_multipay.exceptions import InvalidTransition
from django_multipay.ledger.claims import retried
from django_multipay.messages import PaymentSnapshot, dump_action
from django_multipay.models import Operation, Payment


@retried
def release_choice(payment_id: int, operation: Operation, error: str) -> bool:
    """End a start that did nothing, and let the buyer choose again what was open.

    False if the lease was lost meanwhile: then another worker's start decides.
    """
    with transaction.atomic(durable=True):
        payment = ledger._lock(payment_id)
        if not ledger._conclude(operation, OperationState.REFUSED, error):
            return False
        if payment.is_provider_open:
            payment.provider = ""
        if payment.is_method_open:
            payment.method = ""
            payment.token = None
        payment.save(update_fields=["provider", "method", "token", "updated_at"])
    return True


def paid_attempt(payment: Payment) -> Payment | None:
    """Return another attempt of the same order that has the buyer's money."""
    return next(filter(ledger.has_money, ledger.other_attempts(payment)), None)


@retried
def open_retry(payment: Payment, attempt: Payment) -> Payment:
    """Insert ``attempt`` after ``payment``; return the one that is there already.

    Joins the caller's transaction. `InvalidTransition` unless ``payment`` is over
    without success, nothing about it is open or unknown, and nobody paid the order.
    """
    with transaction.atomic():
        locked = ledger._lock(payment.pk)
        existing = Payment.objects.filter(retry_of=locked).first()
        if existing is not None:
            return existing
        check_retryable(locked)
        attempt.retry_of = locked
        attempt.order_id = locked.order_id
        return ledger.open_payment(attempt)


def check_retryable(payment: Payment) -> None:
    """Raise `InvalidTransition` if another attempt could make the buyer pay twice."""
    if payment.status not in states.UNSUCCESSFUL_STATUSES:
        raise InvalidTransition(
            f"payment {payment.uuid} is {payment.status}; another attempt may begin "
            "when it failed, was canceled or expired"
        )
    # A page that was never opened cannot be opened any more.
    undecided = payment.operations.filter(open_slot__isnull=False).exclude(
        kind=OperationKind.CHECKOUT, state=OperationState.REQUESTED
    )
    if undecided.exists():
        raise InvalidTransition(
            f"a call about payment {payment.uuid} has no known outcome yet; wait for it"
        )
    if payment.review_reason:
        raise InvalidTransition(
            f"payment {payment.uuid} is held for review: {payment.review_reason}"
        )
    if paid := paid_attempt(payment):
        raise InvalidTransition(f"the order was paid by payment {paid.uuid}")


@retried
def store_action(payment_id: int, snapshot: PaymentSnapshot) -> None:
    """Replace the next action of a payment that still waits for the buyer."""
    with transaction.atomic(durable=True):
        payment = ledger._lock(payment_id)
        is_waiting = payment.status == PaymentStatus.PENDING and payment.next_action
        if is_waiting and snapshot.next_action is not None:
            payment.next_action = dump_action(snapshot.next_action)
            payment.save(update_fields=["next_action", "updated_at"])
