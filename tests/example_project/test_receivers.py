"""The shop hears of every fact at least once, and acts on it exactly once."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from django.dispatch import Signal
from moneyed import Money

from django_multipay.flows import create_payment, refund_payment
from django_multipay.models import Notice, Payment
from django_multipay.signals import (
    payment_failed,
    payment_paid,
    payment_status_changed,
)
from django_multipay.testing.buyer import DeliverWebhook, Outcome, Pay
from shop.models import Order, OrderEvent, order_status

PlaceOrder = Callable[..., tuple[Order, Payment]]


def tell(signal: Signal, payment: Payment) -> None:
    """Send the first notice about ``payment`` again, as the outbox does."""
    notice = Notice.objects.filter(payment=payment).earliest("pk")
    results = signal.send_robust(
        sender=Payment, payment=payment, notice_id=str(notice.uuid)
    )
    for _, answer in results:
        assert not isinstance(answer, Exception), answer


def kinds(order: Order) -> list[str]:
    return list(order.events.values_list("kind", flat=True))


@pytest.mark.parametrize(
    ("provider", "outcome", "order_becomes"),
    [
        ("eximbay", "paid", "paid"),
        ("eximbay", "declined", "payment_failed"),
        ("eximbay", "canceled", "open"),
        ("eximbay", "in_review", "in_review"),
        ("clink", "expired", "open"),
        ("payer", "pending", "open"),
    ],
)
def test_the_order_follows_its_payment(
    place_order: PlaceOrder,
    pay: Pay,
    provider: str,
    outcome: Outcome,
    order_becomes: str,
) -> None:
    order, payment = place_order()

    pay(payment, outcome, provider=provider)

    order.refresh_from_db()
    assert order.status == order_becomes


def test_an_order_waits_for_its_deposit(place_order: PlaceOrder, pay: Pay) -> None:
    order, payment = place_order(currency="KRW")

    pay(payment, "awaiting_funds", provider="eximbay")
    order.refresh_from_db()
    assert order.status == Order.Status.AWAITING_DEPOSIT

    pay(payment)
    order.refresh_from_db()
    assert order.status == Order.Status.PAID


def test_reserved_money_is_no_sale_yet(place_order: PlaceOrder, pay: Pay) -> None:
    order, payment = place_order(capture_mode="manual")

    pay(payment, provider="eximbay")

    order.refresh_from_db()
    assert order.status == Order.Status.AUTHORIZED


def test_money_that_goes_back_is_told(place_order: PlaceOrder, pay: Pay) -> None:
    order, payment = place_order()
    pay(payment, provider="eximbay")
    seen = []

    for amount in (Money("1.00", "USD"), None):
        payment.refresh_from_db()
        refund_payment(payment, amount=amount, by="staff")
        order.refresh_from_db()
        seen.append(order.status)

    assert seen == [Order.Status.PARTIALLY_REFUNDED, Order.Status.REFUNDED]


@pytest.mark.parametrize("provider", ["eximbay", "payer", "clink"])
def test_a_duplicated_message_leaves_one_event(
    place_order: PlaceOrder, pay: Pay, deliver_webhook: DeliverWebhook, provider: str
) -> None:
    order, payment = place_order()
    pay(payment, provider=provider)

    for _ in range(2):
        assert deliver_webhook(payment)

    order.refresh_from_db()
    assert order.status == Order.Status.PAID
    assert kinds(order) == ["placed", "payment_paid"]


def test_a_duplicated_notice_leaves_one_event(
    place_order: PlaceOrder, pay: Pay
) -> None:
    order, payment = place_order()
    pay(payment, provider="eximbay")

    for _ in range(2):
        tell(payment_paid, payment)

    assert kinds(order) == ["placed", "payment_paid"]


def test_one_notice_may_carry_two_signals(place_order: PlaceOrder, pay: Pay) -> None:
    order, payment = place_order()
    pay(payment, provider="eximbay")

    notice = Notice.objects.get(payment=payment)
    assert {"payment_status_changed", "payment_paid"} <= set(notice.signals)
    assert kinds(order) == ["placed", "payment_paid"]


def test_a_late_notice_does_not_undo_what_is_true_now(
    place_order: PlaceOrder, pay: Pay
) -> None:
    order, payment = place_order()
    pay(payment, provider="eximbay")

    # The deposit was registered before it was paid, but the notice comes after.
    tell(payment_status_changed, payment)
    tell(payment_failed, payment)

    order.refresh_from_db()
    assert order.status == Order.Status.PAID


def test_a_payment_of_no_order_is_nobodys_business(db: None, pay: Pay) -> None:
    payment = create_payment(
        provider="payer", order_id="elsewhere", amount=Money("1.00", "USD")
    )

    assert pay(payment).status == Payment.Status.PAID

    assert not OrderEvent.objects.exists()


def test_money_for_one_attempt_beats_the_failure_of_another(
    place_order: PlaceOrder, pay: Pay
) -> None:
    order, first = place_order()
    second = create_payment(
        provider="payer", order_id=order.reference, amount=order.amount
    )

    pay(first, provider="eximbay")
    pay(second, "declined")

    order.refresh_from_db()
    assert order.status == Order.Status.PAID


def test_a_reason_for_review_holds_the_order(place_order: PlaceOrder, pay: Pay) -> None:
    order, payment = place_order(currency="USDT")

    assert pay(payment, "overpaid", provider="excoinz").status == Payment.Status.PAID

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
