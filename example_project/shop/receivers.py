"""How the shop hears of its payments.

A notice arrives at least once, perhaps twice, perhaps late. So a receiver writes one
event per ``notice_id`` and then works the status out again from the payments as they
are now; doing it twice changes nothing. An error is not swallowed here: the
notice is delivered again later.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction
from django.dispatch import receiver

from django_multipay.models import Payment, RecurringPlan
from django_multipay.signals import (
    payment_failed,
    payment_needs_review,
    payment_paid,
    payment_refunded,
    payment_status_changed,
    plan_charged,
)
from shop.models import Box, Order, OrderEvent, Subscription, order_status


@receiver(payment_paid)
def on_payment_paid(*, payment: Payment, notice_id: str, **kwargs: Any) -> None:
    take_notice(OrderEvent.Kind.PAYMENT_PAID, payment, notice_id)


@receiver(payment_failed)
def on_payment_failed(*, payment: Payment, notice_id: str, **kwargs: Any) -> None:
    take_notice(OrderEvent.Kind.PAYMENT_FAILED, payment, notice_id)


@receiver(payment_needs_review)
def on_payment_needs_review(*, payment: Payment, notice_id: str, **kwargs: Any) -> None:
    take_notice(OrderEvent.Kind.PAYMENT_NEEDS_REVIEW, payment, notice_id)


@receiver(payment_refunded)
def on_payment_refunded(*, payment: Payment, notice_id: str, **kwargs: Any) -> None:
    take_notice(OrderEvent.Kind.PAYMENT_REFUNDED, payment, notice_id)


@receiver(payment_status_changed)
def on_payment_status_changed(
    *, payment: Payment, notice_id: str, **kwargs: Any
) -> None:
    take_notice(OrderEvent.Kind.PAYMENT_STATUS_CHANGED, payment, notice_id)


@receiver(plan_charged)
def on_plan_charged(*, plan: RecurringPlan, payment: Payment, **kwargs: Any) -> None:
    """Pack one box for each charge of a subscription, however often we hear of it."""
    subscription = Subscription.objects.filter(plan=plan).first()
    if subscription is not None:
        Box.objects.get_or_create(
            payment_uuid=payment.uuid, defaults={"subscription": subscription}
        )


# Only these changes have no signal of their own, so only they make a line in the
# order's history; the order's status follows every change.
WITHOUT_OWN_SIGNAL = frozenset(
    {Payment.Status.AWAITING_FUNDS, Payment.Status.AUTHORIZED}
)


def take_notice(kind: OrderEvent.Kind, payment: Payment, notice_id: str) -> None:
    """Record the notice once, and bring the order's status up to date."""
    with transaction.atomic():
        order = (
            Order.objects.select_for_update().filter(reference=payment.order_id).first()
        )
        if order is None:
            # Somebody took a payment that no order of this shop asked for.
            return
        if (
            kind != OrderEvent.Kind.PAYMENT_STATUS_CHANGED
            or payment.status in WITHOUT_OWN_SIGNAL
        ):
            OrderEvent.objects.get_or_create(
                notice_id=UUID(notice_id),
                kind=kind,
                defaults={"order": order, "note": payment.get_status_display()},
            )
        order.status = order_status(order.payments)
        order.save(update_fields=["status", "updated_at"])
