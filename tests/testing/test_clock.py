"""One clock for shop and providers: what expires, what is charged, what comes late."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from django.utils import timezone
from moneyed import Money

from django_multipay.exceptions import ProviderUnavailable
from django_multipay.flows import (
    charge_due_plans,
    create_plan,
    reconcile,
    start_payment,
    sync_payment,
)
from django_multipay.http import MOST_FAILURES
from django_multipay.messages import Buyer
from django_multipay.models import RecurringPlan
from django_multipay.registry import registry
from django_multipay.sandbox.agenda import months_later
from django_multipay.testing.clock import ticking

# What reconcile does in threads of its own must see what the test wrote.
pytestmark = pytest.mark.django_db(transaction=True)

SOON = timedelta(seconds=20)


TEA = {"productId": "prd_sandbox_tea", "priceId": "price_sandbox_tea_monthly"}


def plan_at(provider, managed_by, price="16.50"):
    return create_plan(
        provider=provider,
        customer_id="c1",
        amount=Money(price, "USD"),
        interval_months=1,
        start_on=timezone.localdate(),
        managed_by=managed_by,
        order_id="box",
        buyer=Buyer(name="Hong Gil Dong", email="buyer@example.com"),
        description="Coffee box",
        provider_data=TEA if (provider, managed_by) == ("clink", "provider") else {},
    )


def test_shop_and_providers_see_the_same_time(multipay_clock, multipay_sandbox):
    began = multipay_clock.now
    assert multipay_clock.advance(days=2, hours=3, minutes=4, seconds=5) >= (
        began + timedelta(days=2, hours=3, minutes=4, seconds=5)
    )
    here = multipay_clock.advance(months=1)

    assert abs(here - months_later(began + timedelta(days=2, hours=3), 1)) < (
        timedelta(minutes=5)
    )
    theirs = datetime.fromisoformat(multipay_sandbox.get("/_control/clock")["now"])
    for now in (timezone.now(), datetime.now(UTC), multipay_clock.now, theirs):
        assert abs(now - here) < SOON


def test_the_time_goes_on_by_itself_and_never_back(multipay_clock):
    first = multipay_clock.advance(days=1)
    assert first < multipay_clock.now
    with pytest.raises(httpx.HTTPStatusError):
        multipay_clock.advance(days=-1)


def test_afterwards_it_is_the_present_again(multipay_sandbox):
    zone, before = time.tzname, time.monotonic()
    began = timezone.now()
    with ticking(multipay_sandbox) as clock:
        clock.advance(days=400)
    assert timezone.now() - began < timedelta(seconds=time.monotonic() - before + 1)
    assert time.tzname == zone


def test_a_page_that_nobody_paid_at_expires(
    order, pay, deliver_webhook, multipay_clock
):
    payment = order("excoinz")
    start_payment(payment)

    multipay_clock.advance(hours=2)
    deliver_webhook()

    payment.refresh_from_db()
    assert payment.status == "failed"


def test_what_nobody_tells_is_found_by_the_timer(order, pay, multipay_clock):
    expired = pay(order("easybilling"), "expired")
    unheard = pay(order("clink"), webhook=False, buyer_returns=False)
    assert (expired.status, unheard.status) == ("pending", "pending")

    multipay_clock.advance(hours=1)
    reconcile()

    expired.refresh_from_db()
    unheard.refresh_from_db()
    assert (expired.status, unheard.status) == ("expired", "paid")


def test_who_was_left_alone_is_asked_again_later(
    order, pay, multipay_clock, multipay_sandbox
):
    payment = pay(order("clink"), webhook=False, buyer_returns=False)
    away = {"provider": "*", "operation": "*", "fault": "drop_before", "times": 99}
    multipay_sandbox.post("/_control/faults", away)
    for _ in range(MOST_FAILURES):
        with pytest.raises(ProviderUnavailable):
            sync_payment(payment)
    assert registry["clink"].is_paused
    httpx.delete(f"{multipay_sandbox.url}/_control/faults", trust_env=False)

    multipay_clock.advance(hours=1)
    reconcile()

    payment.refresh_from_db()
    assert payment.status == "paid"


@pytest.mark.parametrize(
    ("provider", "price", "reference"),
    [
        ("eximbay", "16.50", "same"),
        ("clink", "9.99", "same"),
        ("clink", "9.99", "none"),
    ],
)
def test_a_provider_charges_a_plan_by_itself(
    pay, deliver_webhook, multipay_clock, multipay_sandbox, provider, price, reference
):
    multipay_sandbox.post(
        "/_control/settings", {"clink": {"renewal_reference": reference}}
    )
    plan = plan_at(provider, "provider", price)
    pay(plan.first_payment)
    deliver_webhook()

    for month in (1, 2):
        multipay_clock.advance(months=1)
        assert plan.payments.filter(status="paid").count() == month
        answers = deliver_webhook()
        assert {answer.status_code for answer in answers} == {200}
        assert plan.payments.filter(status="paid").count() == month + 1
    # Everything has been brought.
    assert deliver_webhook() == []


@pytest.mark.parametrize("provider", ["eximbay", "clink", "easybilling"])
def test_a_shop_charges_a_plan_with_a_saved_method(pay, multipay_clock, provider):
    plan = plan_at(provider, "app")
    first = pay(plan.first_payment)
    assert first.status == "paid"

    for _ in range(2):
        multipay_clock.advance(months=1)
        charge_due_plans()

    plan.refresh_from_db()
    assert plan.status == RecurringPlan.Status.ACTIVE
    assert plan.payments.filter(status="paid").count() == 3


def test_a_message_signed_long_ago_is_too_late(
    order, pay, deliver_webhook, multipay_clock
):
    payment = pay(order("clink"), webhook=False, buyer_returns=False)

    multipay_clock.advance(days=1)
    answers = deliver_webhook(payment)

    assert {answer.status_code for answer in answers} == {401}
