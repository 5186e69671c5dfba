"""The shop hears of every fact at least once, and acts on it exactly once."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.dispatch import Signal
from moneyed import Money

from django_multipay.flows import create_payment
from django_multipay.models import Payment
from django_multipay.signals import (
    payment_failed,
    payment_needs_review,
    payment_paid,
    payment_status_changed,
)
from shop.models import Order, OrderEvent, order_status

PlaceOrder = Callable[..., tuple[Order, Payment]]


def reach(payment: Payment, status: str, **values: Any) -> Payment:
    """Bring the payment where the ledger would have brought it."""
    Payment.objects.filter(pk=payment.pk).update(status=status, **values)
    payment.refresh_from_db()
    return payment


def tell(signal: Signal, payment: Payment, notice_id: str = "") -> None:
    """Send a notice as the outbox does."""
    results = signal.send_robust(
        sender=Payment, payment=payment, notice_id=notice_id or str(uuid.uuid4())
    )
    for _, answer in results:
        assert not isinstance(answer, Exception), answer


def kinds(order: Order) -> list[str]:
    return list(order.events.values_list("kind", flat=True))


@pytest.mark.parametrize(
    ("signal", "status", "order_becomes"),
    [
        (payment_paid, "paid", "paid"),
        (payment_failed, "failed", "payment_failed"),
        (payment_failed, "canceled", "open"),
        (payment_failed, "expired", "open"),
        (payment_needs_review, "in_review", "in_review"),
        (payment_status_changed, "awaiting_funds", "awaiting_deposit"),
        (payment_status_changed, "authorized", "authorized"),
        (payment_status_changed, "partially_refunded", "partially_refunded"),
        (payment_status_changed, "refunded", "refunded"),
    ],
)
def test_the_order_follows_its_payment(
    place_order: PlaceOrder, signal: Signal, status: str, order_becomes: str
) -> None:
    order, payment = place_order()

    tell(signal, reach(payment, status))

    order.refresh_from_db()
    assert order.status == order_becomes


def test_a_duplicated_notice_leaves_one_event(place_order: PlaceOrder) -> None:
    order, payment = place_order()
    reach(payment, "paid")
    notice_id = str(uuid.uuid4())

    for _ in range(3):
        tell(payment_paid, payment, notice_id)

    order.refresh_from_db()
    assert order.status == Order.Status.PAID
    assert kinds(order) == ["placed", "payment_paid"]


def test_one_notice_may_carry_two_signals(place_order: PlaceOrder) -> None:
    order, payment = place_order()
    reach(payment, "paid")
    notice_id = str(uuid.uuid4())

    tell(payment_status_changed, payment, notice_id)
    tell(payment_paid, payment, notice_id)

    assert kinds(order) == ["placed", "payment_paid"]


def test_a_late_notice_does_not_undo_what_is_true_now(place_order: PlaceOrder) -> None:
    order, payment = place_order()
    reach(payment, "paid")
    tell(payment_paid, payment)

    # The deposit was registered before it was paid, but the notice comes after.
    tell(payment_status_changed, payment)
    tell(payment_failed, payment)

    order.refresh_from_db()
    assert order.status == Order.Status.PAID


def test_a_payment_of_no_order_is_nobodys_business(db: None) -> None:
    payment = create_payment(
        provider=None, order_id="elsewhere", amount=Money("1.00", "USD")
    )

    tell(payment_paid, reach(payment, "paid"))

    assert not OrderEvent.objects.exists()


def test_money_for_one_attempt_beats_the_failure_of_another(
    place_order: PlaceOrder,
) -> None:
    order, first = place_order()
    second = create_payment(
        provider=None, order_id=order.reference, amount=order.amount
    )
    reach(first, "paid")
    reach(second, "failed")

    tell(payment_failed, second)

    order.refresh_from_db()
    assert order.status == Order.Status.PAID


def test_a_reason_for_review_holds_the_order(place_order: PlaceOrder) -> None:
    order, payment = place_order()

    tell(payment_needs_review, reach(payment, "paid", review_reason="overpaid"))

    order.refresh_from_db()
    assert order.status == Order.Status.IN_REVIEW
    assert not order.is_payable


def test_money_that_came_twice_is_for_a_person() -> None:
    paid, authorized = Payment(status="paid"), Payment(status="authorized")

    assert order_status([paid, Payment(status="paid")]) == Order.Status.IN_REVIEW
    assert order_status([authorized, paid]) == Order.Status.IN_REVIEW
    assert order_status([Payment(status="refunded"), paid]) == Order.Status.PAID


def test_the_sequence_of_attempts_matters_only_for_failures() -> None:
    statuses = ["failed", "canceled", "paid"]
    for sequence in itertools.permutations(statuses):
        payments = [Payment(status=status) for status in sequence]
        assert order_status(payments) == Order.Status.PAID

    newest_first = [Payment(status="canceled"), Payment(status="failed")]
    assert order_status(newest_first) == Order.Status.OPEN
    assert order_status(newest_first[::-1]) == Order.Status.PAYMENT_FAILED


def test_every_payment_status_has_a_meaning_for_the_order() -> None:
    for status in Payment.Status.values:
        assert order_status([Payment(status=status)]) in Order.Status
