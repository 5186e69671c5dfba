"""What staff see of a plan, what they do to it, and that it is done once."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import formats
from moneyed import Money
from pytest_django import Settings

from django_multipay import recurrence
from django_multipay.admin.plans import MONTHS_AHEAD, PLAN_STEPS
from django_multipay.enums import DeclineCode, OperationState, PlanStatus
from django_multipay.exceptions import OutcomeUnknown, ProviderUnavailable
from django_multipay.flows import cancel_plan, change_plan
from django_multipay.models import Payment, RecurringPlan
from django_multipay.registry import registry
from tests.flows.scripted import account_settings
from tests.flows.test_plans import (
    ChargingProvider,
    PlanningProvider,
    declined,
    new_plan,
    new_token,
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
    walk(ann, plan, "change", amount="12.00", reason="a larger <b>box</b>")
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
    assert logged(plan)[0].endswith("active. a larger <b>box</b>")
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


def test_a_reason_is_shown_before_it_is_kept(ann: Any, plan: RecurringPlan) -> None:
    page = ann.client.post(
        url_of(plan, "pause"), {"reason": "asked <i>by phone</i>", "preview": "1"}
    )
    assert "asked &lt;i&gt;by phone&lt;/i&gt;" in page.content.decode()
    press(ann, plan, "pause", ann.unseen(page))
    log = reverse("admin:multipay_recurringplan_history", args=[plan.pk])
    assert "by phone" in ann.client.get(log).content.decode()


def test_a_cancellation_says_when_the_plan_ends(ann: Any, plan: RecurringPlan) -> None:
    def end(**fields: str) -> str:
        page = ann.client.post(url_of(plan, "cancel"), {**fields, "preview": "1"})
        label, text = page.context["preview"][0]
        assert label == "Ends"
        return str(text)

    assert end() == "at once"
    assert end(at_period_end="on") == formats.date_format(plan.due_on)
    RecurringPlan.objects.update(status=PlanStatus.PAST_DUE)
    assert end(at_period_end="on") == "at once"


def test_the_buyer_is_sent_a_link_to_what_is_owed(desk: Any, logged: Any) -> None:
    provider = registry["scripted"]
    assert isinstance(provider, ChargingProvider)
    provider.will("charge", declined(DeclineCode.EXPIRED_CARD))
    plan = new_plan()
    run_on(today())
    plan.refresh_from_db()
    link = reverse("admin:multipay_recurringplan_link", args=[plan.pk])
    nosy = desk("nosy", "manage_plan")
    page = nosy.client.get(url_of(plan))
    assert "buyer is needed" in page.content.decode()
    assert link not in page.content.decode()
    assert nosy.client.post(link).status_code == 403
    boss = desk("boss", "manage_plan", "add_payment_link")
    page = boss.client.get(url_of(plan))
    assert link in page.content.decode()
    first, second = page.context["coming"][:2]
    assert "waits for the buyer" in first["remark"]
    assert second["remark"] == ""
    assert boss.client.get(link).status_code == 405
    for _ in range(2):
        shown = boss.client.post(link, follow=True)
        payment = plan.payments.get(initiator="buyer")
        assert payment.get_checkout_url() in shown.content.decode()
    assert logged(plan) == ["boss: Link for the buyer"] * 2
    cancel_plan(plan)
    refused = boss.client.post(link, follow=True)
    assert "nothing is due" in refused.content.decode()
    assert link not in refused.content.decode()


def test_the_calendar_says_what_the_next_charge_waits_for(ann: Any) -> None:
    provider = registry["scripted"]
    assert isinstance(provider, ChargingProvider)

    def remark(plan: RecurringPlan) -> str:
        text: str = ann.client.get(url_of(plan)).context["coming"][0]["remark"]
        return text

    assert "first payment" in remark(new_plan(token=None))
    provider.will("charge", declined(DeclineCode.INSUFFICIENT_FUNDS))
    plan = new_plan()
    assert remark(plan) == ""
    run_on(today())
    tomorrow = formats.date_format(today() + timedelta(days=1), "SHORT_DATE_FORMAT")
    assert remark(plan) == f"tried on {tomorrow}"


def test_a_plan_is_found_by_what_is_written_in_full(
    desk: Any, plan: RecurringPlan
) -> None:
    new_plan(order_id="P-2", token=new_token(customer_id="c-8"), customer_id="c-8")
    url = reverse("admin:multipay_recurringplan_changelist")
    boss = desk("boss", "view_recurringplan", "view_buyer_data")
    nosy = desk("nosy", "view_recurringplan")

    def found(who: Any, term: str) -> list[str]:
        rows = who.client.get(url, {"q": term}).context["cl"].result_list
        return sorted(row.order_id for row in rows)

    assert found(boss, "P-1") == found(boss, str(plan.uuid)) == ["P-1"]
    assert found(boss, "c-8") == ["P-2"]
    assert found(nosy, "c-8") == found(boss, "P-") == []
    assert found(boss, "") == ["P-1", "P-2"]


def test_a_list_and_a_page_ask_the_same_questions_whatever_their_length(
    ann: Any, plan: RecurringPlan
) -> None:
    changelist = reverse("admin:multipay_recurringplan_changelist")

    def queries(url: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert ann.client.get(url).status_code == 200
        return len(captured)

    few = queries(changelist), queries(url_of(plan))
    for number in range(2, 40):
        new_plan(order_id=f"P-{number}")
        payment = Payment.objects.filter(plan=plan).latest("pk")
        payment.pk, payment.plan_due_on = None, plan.due_date(number)
        payment.uuid = uuid.uuid4()
        payment.merchant_reference = f"M-{number}"
        payment.provider_reference = payment.transaction_reference = None
        payment.save(force_insert=True)
        change_plan(plan, Money(f"{number}.00", "USD"), by="ann")
    page = ann.client.get(url_of(plan))
    assert (len(page.context["past"]), len(page.context["log"])) == (39, 20)
    many = queries(changelist), queries(url_of(plan))
    assert many[0] <= few[0] + 1 <= 6
    assert many[1] == few[1] <= 7
