"""A year of a monthly plan, over real HTTP to the sandbox whose clock is moved.

Whoever charges, our payments are those of the provider's books, to the cent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone
from moneyed import Money
from pytest_django import Settings

from django_multipay import recurrence
from django_multipay.enums import PaymentStatus, PlanManager, PlanStatus, Verdict
from django_multipay.exceptions import InvalidOperation, UnsupportedOperation
from django_multipay.flows import (
    cancel_plan,
    change_plan,
    charge_due_plans,
    create_plan,
    reconcile,
    refund_payment,
    start_payment,
    sync_payment,
    sync_plan,
)
from django_multipay.messages import Buyer
from django_multipay.models import Payment, RecurringPlan, WebhookDelivery
from django_multipay.testing.plugin import Sandbox
from tests.five import Shop, reconcile_later, settings_at, with_charges

pytestmark = pytest.mark.django_db

Listen = Callable[..., list[dict[str, Any]]]

TEA = {
    "productId": "prd_sandbox_tea",
    "priceId": "price_sandbox_tea_monthly",
}
PRICE = Money("9.99", "USD")
DEAR = Money("12.50", "USD")
MONTHS = 12


@pytest.fixture
def shop(
    request: pytest.FixtureRequest, settings: Settings, multipay_sandbox: Sandbox
) -> Shop:
    """The shop's side of the provider that a test is about."""
    settings.MULTIPAY = with_charges(settings_at(multipay_sandbox))
    cache.clear()
    return Shop(multipay_sandbox, request.param)


def at(*slugs: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shop", slugs, indirect=True)


def begin(shop: Shop, **wishes: Any) -> RecurringPlan:
    """A plan whose first payment is paid, as its provider told the shop."""
    values: dict[str, Any] = {
        "provider": shop.slug,
        "customer_id": "customer-7",
        "amount": PRICE,
        "order_id": "tea-box",
        "start_on": timezone.localdate(),
        "buyer": Buyer(name="Hong Gil Dong", email="buyer@example.com"),
    }
    if shop.slug == "clink" and wishes.get("managed_by") != PlanManager.APP:
        values["provider_data"] = TEA
    plan = create_plan(**values | wishes)
    first = plan.first_payment
    assert first is not None
    start_payment(first)
    is_app = plan.managed_by == PlanManager.APP
    choices = {"save_card": True} if shop.slug == "clink" and is_app else {}
    shop.tell(first, shop.decide(first, "approve", **choices))
    plan.refresh_from_db()
    return plan


def pass_days(shop: Shop, days: float) -> None:
    """Let time go by at the provider, and all it has to say arrive."""
    seconds = timedelta(days=days).total_seconds()
    shop.sandbox.post("/_control/clock", {"advance_seconds": seconds})
    hear(shop)


def hear(shop: Shop) -> None:
    """Let every message that the provider has to tell arrive."""
    shop.sandbox.get(f"{shop.desk.path}/payments")
    shop.sandbox.post("/_control/callbacks/flush")
    for message in shop.messages():
        message.send()


def books(shop: Shop) -> list[int]:
    """What the provider took for each charge, in minor units, by its books."""
    entries = shop.sandbox.get(f"{shop.desk.path}/payments")
    return sorted(
        round(100 * shop._money(one, one["amount"]).amount)
        for one in entries
        if one["charges"]
    )


def ours(plan: RecurringPlan) -> list[int]:
    """What our payments of the plan say was taken."""
    return sorted(plan.payments.values_list("captured_minor", flat=True))


def noon(day: date) -> datetime:
    return timezone.make_aware(datetime(day.year, day.month, day.day, 12))  # noqa: DTZ001


@at("eximbay", "clink")
def test_a_year_that_the_provider_charges(shop: Shop, listen: Listen) -> None:
    heard = listen("plan_charged", "payment_paid")
    plan = begin(shop)
    assert plan.managed_by == PlanManager.PROVIDER
    assert plan.status == PlanStatus.ACTIVE
    assert plan.provider_reference
    for _ in range(MONTHS):
        pass_days(shop, 30.5)
    plan.refresh_from_db()
    assert len(ours(plan)) >= MONTHS
    assert ours(plan) == books(shop)
    days = [one.plan_due_on for one in plan.payments.order_by("plan_due_on")]
    assert days == [plan.due_date(number) for number in range(len(days))]
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, len(days))
    assert plan.next_on == plan.due_date(len(days))
    paid = [news for news in heard if news["name"] == "payment_paid"]
    assert len(paid) == len(days) == len(heard) - len(paid)
    assert not WebhookDelivery.objects.filter(verdict=Verdict.HELD).exists()
    assert not plan.payments.exclude(review_reason="").exists()

    # A renewal is a payment like any other: it can be asked about and given back.
    last = plan.payments.latest("plan_due_on")
    sync_payment(last)
    assert last.review_reason == ""
    refund_payment(last)
    sync_payment(last)
    assert last.status == PaymentStatus.REFUNDED

    cancel_plan(plan, by="ann")
    assert plan.status == PlanStatus.CANCELED
    before = len(books(shop))
    pass_days(shop, 65)
    assert len(books(shop)) == before


@at("eximbay", "clink")
def test_a_renewal_that_is_told_often_and_in_any_order_counts_once(
    shop: Shop, listen: Listen
) -> None:
    plan = begin(shop)
    heard = listen("plan_charged")
    shop.sandbox.post(
        "/_control/clock", {"advance_seconds": timedelta(days=93).total_seconds()}
    )
    shop.sandbox.get(f"{shop.desk.path}/payments")
    shop.sandbox.post("/_control/callbacks/flush")
    told = shop.messages()
    for message in [*reversed(told), *told, *told]:
        message.send()
    assert len(books(shop)) > 2
    assert ours(plan) == books(shop)
    assert len(heard) == len(books(shop)) - 1
    # What nobody signed is not even kept.
    kept = WebhookDelivery.objects.count()
    forged = told[-1].body.replace(b"9.99", b"9.98")
    assert forged != told[-1].body
    assert dataclasses.replace(told[-1], body=forged).send().status_code >= 400
    assert WebhookDelivery.objects.count() == kept
    assert ours(plan) == books(shop)


@at("eximbay")
def test_a_plan_of_every_third_month_is_renewed_every_third_month(shop: Shop) -> None:
    plan = begin(shop, interval_months=3)
    pass_days(shop, 62)
    assert ours(plan) == books(shop) == [999]
    pass_days(shop, 32)
    assert ours(plan) == books(shop) == [999, 999]
    plan.refresh_from_db()
    assert plan.next_on == recurrence.due_date(plan.start_on, 6)


@at("eximbay")
def test_a_changed_amount_is_charged_from_the_next_day_on(shop: Shop) -> None:
    plan = begin(shop)
    change_plan(plan, DEAR)
    assert plan.amount == DEAR
    pass_days(shop, 32)
    assert ours(plan) == books(shop) == [999, 1250]
    with pytest.raises(InvalidOperation):
        cancel_plan(plan, at_period_end=True)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ACTIVE


@at("eximbay")
def test_a_renewal_is_heard_through_the_door_made_for_the_plan(shop: Shop) -> None:
    plan = begin(shop)
    pass_days(shop, 32)
    assert plan.first_payment is not None
    (renewal,) = plan.payments.exclude(pk=plan.first_payment.pk)
    assert [entry.path for entry in shop.messages(renewal)] != []
    assert all("/plan/" in entry.path for entry in shop.messages(renewal))
    assert renewal.merchant_reference.startswith(plan.provider_reference or "-")
    # As another amount than the plan's, genuine or not, it counts for nothing.
    changed = shop.changed(renewal, amount="99.00")
    before = ours(plan)
    changed.send()
    reconcile_later()
    assert ours(plan) == before


@at("eximbay")
def test_a_renewal_that_is_declined_makes_the_plan_past_due(shop: Shop) -> None:
    plan = begin(shop)
    shop.desk.set({"charge_rescode": "AD05"})
    pass_days(shop, 32)
    reconcile_later()
    plan.refresh_from_db()
    assert plan.status == PlanStatus.PAST_DUE
    shop.desk.set({"charge_rescode": ""})
    pass_days(shop, 31)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ACTIVE
    assert [one for one in ours(plan) if one] == books(shop)


@at("clink")
def test_a_subscription_that_ends_with_its_period(shop: Shop) -> None:
    plan = begin(shop)
    with pytest.raises(UnsupportedOperation):
        change_plan(plan, DEAR)
    cancel_plan(plan, at_period_end=True)
    assert (plan.status, plan.ends_on) == (PlanStatus.ACTIVE, plan.next_on)
    assert sync_plan(plan) == PlanStatus.ACTIVE
    pass_days(shop, 32)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED
    assert ours(plan) == books(shop) == [999]


@at("clink")
def test_a_subscription_whose_renewal_fails_and_then_succeeds(shop: Shop) -> None:
    plan = begin(shop)
    shop.desk.set({"renewal_outcome": "fail", "renewal_reference": "none"})
    pass_days(shop, 32)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.PAST_DUE
    assert sync_plan(plan) == PlanStatus.PAST_DUE
    shop.desk.set({"renewal_outcome": "succeed"})
    pass_days(shop, 31)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ACTIVE
    assert [one for one in ours(plan) if one] == books(shop)


@at("eximbay", "clink", "easybilling")
def test_a_year_that_this_site_charges(shop: Shop) -> None:
    plan = begin(shop, managed_by=PlanManager.APP)
    assert plan.status == PlanStatus.ACTIVE
    assert plan.token is not None
    for number in range(1, MONTHS + 1):
        day = recurrence.due_date(plan.start_on, number)
        assert charge_due_plans(now=noon(day - timedelta(days=1))).charged == 0
        assert [charge_due_plans(now=noon(day)).charged for _ in "12"] == [1, 0]
        for payment in Payment.objects.filter(plan_due_on=day):
            shop.tell(payment)
    reconcile()
    plan.refresh_from_db()
    assert ours(plan) == books(shop) == [999] * (MONTHS + 1)
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, MONTHS + 1)
