"""What staff see of a plan, what they do to it, and that it is done once."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from moneyed import Money
from pytest_django import Settings

from django_multipay import recurrence
from django_multipay.admin.plans import MONTHS_AHEAD, PLAN_STEPS
from django_multipay.enums import OperationState, PlanStatus
from django_multipay.exceptions import OutcomeUnknown, ProviderUnavailable
from django_multipay.flows import cancel_plan, change_plan
from django_multipay.models import Payment, RecurringPlan
from django_multipay.registry import registry
from tests.flows.scripted import account_settings
from tests.flows.test_plans import (
    ChargingProvider,
    PlanningProvider,
    new_plan,
    registered,
    run_on,
    today,
)


@pytest.fixture(autouse=True)
def plan_accounts(accounts: None, settings: Settings) -> None:
    settings.MULTIPAY = account_settings(
        scripted=ChargingProvider, planning=PlanningProvider
    )


@pytest.fixture
def plan() -> RecurringPlan:
    """A plan that this site charges, its first period paid."""
    made = new_plan()
    run_on(today())
    made.refresh_from_db()
    return made


def url_of(plan: RecurringPlan, *step: str) -> str:
    name = "step" if step else "change"
    return reverse(f"admin:multipay_recurringplan_{name}", args=[plan.pk, *step])


def walk(desk: Any, plan: RecurringPlan, step: str, **fields: str) -> Any:
    """Form, preview and confirmation; return the page after it."""
    return press(desk, plan, step, preview(desk, plan, step, **fields))


def preview(desk: Any, plan: RecurringPlan, step: str, **fields: str) -> dict[str, str]:
    page = desk.client.post(url_of(plan, step), {**fields, "preview": "1"})
    assert page.context["is_preview"], page.content
    hidden: dict[str, str] = desk.unseen(page)
    return hidden


def press(desk: Any, plan: RecurringPlan, step: str, hidden: dict[str, str]) -> Any:
    return desk.client.post(
        url_of(plan, step), {**hidden, "confirmed": "1"}, follow=True
    )


def test_the_page_shows_what_was_charged_and_what_will_be(
    ann: Any, plan: RecurringPlan
) -> None:
    page = ann.client.get(url_of(plan))
    days = [item["due_on"] for item in page.context["coming"]]
    assert days == [
        recurrence.due_date(plan.start_on, n) for n in range(1, MONTHS_AHEAD + 1)
    ]
    (past,) = page.context["past"]
    assert past["payment"].plan_due_on == plan.start_on
    text = page.content.decode()
    payment_url = reverse("admin:multipay_payment_change", args=[past["payment"].pk])
    assert payment_url in text
    assert reverse("admin:multipay_token_change", args=[plan.token_id]) in text
    shown = ann.client.get(payment_url).content.decode()
    assert url_of(plan) in shown
    cancel_plan(plan)
    assert ann.client.get(url_of(plan)).context["coming"] == []


def test_the_last_day_ends_the_calendar(ann: Any) -> None:
    plan = new_plan(ends_on=recurrence.due_date(today(), 2))
    page = ann.client.get(url_of(plan))
    assert len(page.context["coming"]) == 2


def test_buyers_are_masked_for_whom_may_not_see_them(
    desk: Any, plan: RecurringPlan
) -> None:
    nosy = desk("nosy", "view_recurringplan").client.get(url_of(plan))
    assert "buyer@example.com" not in nosy.content.decode()
    assert nosy.context["steps"] == []
    trusted = desk("trusted", "view_recurringplan", "view_buyer_data")
    assert "buyer@example.com" in trusted.client.get(url_of(plan)).content.decode()


@pytest.mark.parametrize("step", PLAN_STEPS)
def test_a_step_needs_its_permission_and_a_post(
    desk: Any, plan: RecurringPlan, step: str
) -> None:
    before = RecurringPlan.objects.values().get(pk=plan.pk)
    nosy = desk("nosy", "view_recurringplan")
    fields = {"confirmed": "1", "ticket": "", "amount": "1.00"}
    assert nosy.client.post(url_of(plan, step), fields).status_code == 403
    boss = desk("boss", "manage_plan")
    boss.client.get(url_of(plan, step), fields)
    # A confirmation without a preview is no confirmation.
    assert boss.client.post(url_of(plan, step), fields).status_code == 409
    assert RecurringPlan.objects.values().get(pk=plan.pk) == before
    assert nosy.client.post(url_of(plan), {"status": "ended"}).status_code == 403
    assert boss.client.get(url_of(plan, "burn")).status_code == 404


def test_staff_walk_through_all_steps(
    ann: Any, plan: RecurringPlan, logged: Any
) -> None:
    walk(ann, plan, "change", amount="12.00")
    walk(ann, plan, "pause")
    plan.refresh_from_db()
    assert (plan.amount, plan.status) == (Money("12.00", "USD"), PlanStatus.PAUSED)
    refused = ann.client.get(url_of(plan, "charge"), follow=True)
    assert "paused" in str(next(iter(refused.context["messages"])))
    walk(ann, plan, "resume")
    walk(ann, plan, "charge")
    plan.refresh_from_db()
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 2)
    walk(ann, plan, "cancel", at_period_end="on")
    plan.refresh_from_db()
    assert plan.is_ending
    assert plan.status == PlanStatus.ACTIVE
    walk(ann, plan, "cancel")
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED
    verbs = [line.split(": ")[1] for line in logged(plan)]
    assert verbs == [
        "Change the amount",
        "Pause",
        "Resume",
        "Charge now",
        "Cancel the plan",
        "Cancel the plan",
    ]
    actors = plan.operations.exclude(actor="").values_list("actor", flat=True)
    assert {*actors} == {"ann"}


def test_a_button_that_is_pressed_twice_charges_once(
    ann: Any, plan: RecurringPlan
) -> None:
    hidden = preview(ann, plan, "charge")
    assert press(ann, plan, "charge", hidden).status_code == 200
    assert press(ann, plan, "charge", hidden).status_code == 409
    assert Payment.objects.filter(plan=plan).count() == 2


def test_nobody_acts_on_a_plan_that_they_did_not_see(
    ann: Any, bob: Any, plan: RecurringPlan
) -> None:
    hidden = preview(ann, plan, "charge")
    assert press(bob, plan, "charge", hidden).status_code == 409
    change_plan(plan, Money("99.00", "USD"))
    assert press(ann, plan, "charge", hidden).status_code == 409
    assert Payment.objects.filter(plan=plan).count() == 1


@pytest.mark.parametrize("amount", ["", "0", "-1", "1.001", "1e2", "NaN"])
def test_an_amount_that_is_none_is_refused(
    ann: Any, plan: RecurringPlan, amount: str
) -> None:
    page = ann.client.post(url_of(plan, "change"), {"amount": amount, "preview": "1"})
    assert page.context["form"].errors
    assert not page.context["is_preview"]


def test_what_the_provider_charges_is_changed_there(ann: Any) -> None:
    planner = registry["planning"]
    assert isinstance(planner, PlanningProvider)
    plan = registered(planner)
    page = ann.client.get(url_of(plan))
    refused = {item["step"].name for item in page.context["steps"] if item["refusal"]}
    assert refused == {"charge", "pause", "resume"}
    check = reverse("admin:multipay_recurringplan_check", args=[plan.pk])
    assert ann.client.get(check).status_code == 405
    assert "active" in ann.client.post(check, follow=True).content.decode()

    planner.will("change_plan", OutcomeUnknown("lost", "planning"))
    shown = walk(ann, plan, "change", amount="12.00")
    assert "outcome unknown" in shown.content.decode()
    operation = plan.operations.get()
    abandon = reverse(
        "admin:multipay_recurringplan_abandon", args=[plan.pk, operation.pk]
    )
    assert abandon in shown.content.decode()
    ann.client.post(abandon)
    operation.refresh_from_db()
    assert operation.state == OperationState.ABANDONED
    ann.client.post(abandon)
    planner.will("cancel_plan", ProviderUnavailable("away", "planning"))
    shown = walk(ann, plan, "cancel")
    assert "cannot be reached" in shown.content.decode()


def test_a_plan_whose_account_is_gone_can_be_read(
    ann: Any, plan: RecurringPlan, settings: Settings
) -> None:
    settings.MULTIPAY = account_settings(planning=PlanningProvider)
    page = ann.client.get(url_of(plan))
    assert page.status_code == 200
    assert all(item["refusal"] for item in page.context["steps"])
