"""What the shop does with a subscription: begin it, and let its buyer change it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.db import IntegrityError, transaction
from django.shortcuts import get_object_or_404

from django_multipay import flows
from django_multipay.exceptions import InvalidTransition
from django_multipay.messages import Buyer
from django_multipay.models import Payment, RecurringPlan
from shop import clock
from shop.coffee_box import CLINK_PRODUCT, SHOP, BoxSize, BoxWay, clink_price
from shop.models import Subscription

Status = RecurringPlan.Status
OVER = frozenset({Status.CANCELED, Status.ENDED})
WAITING: frozenset[str] = frozenset({Payment.Status.CREATED, Payment.Status.PENDING})


def subscribe(
    *,
    form_key: UUID,
    customer_id: str,
    size: BoxSize,
    currency: str,
    way: BoxWay,
    buyer: Buyer,
) -> Subscription:
    """Begin a subscription; a form that is sent twice finds the one of the first time.

    A new card is paid with at a checkout, ``plan.first_payment``; a saved one is
    charged by `flows.charge_due_plans`, as all that falls due, or at once by
    `flows.charge_plan`.
    """
    subscription = Subscription(
        form_key=form_key, customer_id=customer_id, size=size.slug
    )
    page = subscription.get_absolute_url()
    try:
        with transaction.atomic():
            subscription.save(force_insert=True)
            subscription.plan = flows.create_plan(
                provider=way.provider,
                customer_id=customer_id,
                amount=size.price(currency),
                interval_months=1,
                start_on=clock.today(),
                token=way.token,
                managed_by=way.managed_by,
                order_id=subscription.reference,
                buyer=buyer,
                description=f"Coffee box: {size.name.lower()}",
                success_url=page,
                failure_url=page,
                provider_data=_provider_data(size, currency, way),
            )
            subscription.save(update_fields=["plan"])
    except IntegrityError:
        return get_object_or_404(
            Subscription.objects.select_related("plan__first_payment"),
            form_key=form_key,
            customer_id=customer_id,
        )
    return subscription


def _provider_data(size: BoxSize, currency: str, way: BoxWay) -> Mapping[str, str]:
    """Return what only this provider wants to know about a plan."""
    if way.provider != "clink" or way.managed_by == SHOP:
        return {}
    return {"productId": CLINK_PRODUCT, "priceId": clink_price(size, currency)}


def payment_of_buyer(plan: RecurringPlan) -> Payment | None:
    """Return the payment that the buyer can make now, in person, if one is wanted.

    That is the first of a plan that has not begun, or the one that the card refused.
    """
    if plan.managed_by == SHOP:
        is_wanted = plan.status in {Status.PENDING, Status.PAST_DUE}
        if not (is_wanted or plan.needs_buyer):
            return None
        try:
            return flows.recovery_payment(plan)
        except InvalidTransition:
            # A charge is under way: money may come without anybody's help.
            return None
    first = plan.first_payment
    if first is None or plan.status != Status.PENDING:
        return None
    return first if first.status in WAITING else None


def change_size(subscription: Subscription, size: BoxSize) -> None:
    """Let the boxes to come be of another size, at today's price of it."""
    plan = subscription.plan
    if plan is not None and size.slug != subscription.size:
        flows.change_plan(plan, size.price(plan.currency))
        subscription.size = size.slug
        subscription.save(update_fields=["size"])
