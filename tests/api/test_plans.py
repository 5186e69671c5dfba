"""Recurring plans through the API, from the first day to the last."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_multipay.api import base
from django_multipay.enums import DeclineCode, PaymentStatus
from django_multipay.messages import Decline
from django_multipay.models import IdempotencyKey, Payment, RecurringPlan
from django_multipay.registry import registry
from tests.api.conftest import Caller, caller, user_with
from tests.flows.scripted import account_settings, snapshot_of
from tests.flows.tokens import SavingProvider, saved

pytestmark = pytest.mark.django_db

PRICE = {"amount": "9.90", "currency": "USD"}


@pytest.fixture
def saving(settings) -> SavingProvider:
    """The provider behind the alias ``saving``; this site charges its plans."""
    settings.MULTIPAY = account_settings(saving=SavingProvider)
    provider = registry["saving"]
    assert isinstance(provider, SavingProvider)
    return provider


@pytest.fixture
def staff(saving) -> Caller:
    return caller(user_with())


def wanted(**more) -> dict:
    """The body for a new plan that begins today."""
    return {
        "provider": "saving",
        "customer_id": "42",
        "order_id": "P-1",
        "amount": PRICE,
        "start_on": timezone.localdate().isoformat(),
        "managed_by": "app",
        **more,
    }


@pytest.fixture
def plan(staff) -> dict:
    """A plan on a saved method, as the API describes it."""
    made = staff.post("/plans/", wanted(token=str(saved().uuid)))
    assert made.status_code == 201, made.content
    return made.json()


def test_without_a_token_the_buyer_pays_the_first_period(staff, saving):
    made = staff.post("/plans/", wanted(), key="k-1")
    assert made.status_code == 201, made.content
    assert staff.post("/plans/", wanted(), key="k-1").content == made.content
    data = made.json()
    assert (data["status"], data["amount"]["amount_minor"]) == ("pending", 990)
    browser = caller(Authorization=f"Multipay-Client {data['client_secret']}")
    path = f"/payments/{data['first_payment']}/start/"
    assert browser.post(path, key=None).json()["next_action"]["type"] == "redirect"
    # The secret is of the payment, and opens no plan.
    assert browser.get(f"/plans/{data['uuid']}/").status_code == 404
    found = staff.client.get(made["Location"]).json()
    assert found == {
        **{name: data[name] for name in found},
        "updated_at": found["updated_at"],
    }
    assert RecurringPlan.objects.count() == 1


def test_with_a_token_there_is_nothing_for_the_buyer_to_do(plan):
    assert plan["client_secret"] is plan["first_payment"] is None


def test_plans_are_found_by_what_they_are(staff, plan):
    other = staff.post("/plans/", wanted(customer_id="43", order_id="P-2")).json()
    for query, found in (
        ({}, {plan["uuid"], other["uuid"]}),
        ({"customer_id": "42"}, {plan["uuid"]}),
        ({"order_id": "P-2"}, {other["uuid"]}),
        ({"token": plan["token"]}, {plan["uuid"]}),
        ({"status": "canceled"}, set()),
        ({"provider": "elsewhere"}, set()),
    ):
        rows = staff.get("/plans/", **query).json()["results"]
        assert {row["uuid"] for row in rows} == found, query
    clerk = caller(user_with("view_recurringplan", name="bob"))
    assert clerk.get("/plans/", customer_id="42").status_code == 403
    assert clerk.get(f"/plans/{plan['uuid']}/").json()["customer_id"] is None


def test_a_period_is_charged_once_under_whatever_key(staff, saving, plan):
    path, body = f"/plans/{plan['uuid']}/charge/", {"due_on": plan["due_on"]}
    first = staff.post(path, body, key="k-1")
    assert first.status_code == 200, first.content
    assert first.json()["status"] == "paid"
    assert staff.post(path, body, key="k-1").content == first.content
    assert staff.post(path, body, key="k-2").json()["uuid"] == first.json()["uuid"]
    assert len(saving.told("charge")) == 1
    after = staff.get(f"/plans/{plan['uuid']}/").json()
    assert after["due_on"] > plan["due_on"]
    assert after["status"] == "active"


def test_a_worker_that_died_after_a_refusal_is_no_second_try(
    staff, saving, plan, monkeypatch
):
    path, body = f"/plans/{plan['uuid']}/charge/", {"due_on": plan["due_on"]}

    def refused():
        decline = Decline(code=DeclineCode.INSUFFICIENT_FUNDS)
        payment = Payment.objects.latest("pk")
        return snapshot_of(payment, PaymentStatus.FAILED, decline=decline)

    def killed(*_):
        raise KeyboardInterrupt

    saving.will("charge", refused)
    with monkeypatch.context() as patch:
        patch.setattr(base, "finish_request", killed)
        with pytest.raises(KeyboardInterrupt):
            staff.post(path, body, key="k-1")
    IdempotencyKey.objects.update(lease_until=timezone.now() - timedelta(days=1))
    again = staff.post(path, body, key="k-1")
    assert (again.status_code, again.json()["status"]) == (200, "failed")
    assert len(saving.told("charge")) == 1
    assert staff.post(path, body, key="k-2").json()["status"] == "paid"


def test_a_period_that_the_plan_does_not_have_is_not_charged(staff, saving, plan):
    path = f"/plans/{plan['uuid']}/charge/"
    answer = staff.post(path, {"due_on": "2100-01-31"})
    assert (answer.status_code, answer.json()["field"]) == (409, "due_on")
    assert staff.post(path, {}).json()["field"] == "due_on"
    assert not saving.told("charge")


def test_new_terms_count_from_the_next_charge(staff, saving, plan):
    path, token = f"/plans/{plan['uuid']}/change/", saved("tok-2")
    changed = staff.post(
        path,
        {
            "amount": {"amount": "12.00", "currency": "USD"},
            "token": str(token.uuid),
            "ends_on": "2100-01-31",
        },
    )
    assert changed.status_code == 200, changed.content
    said = changed.json()
    assert (said["amount"]["amount"], said["ends_on"]) == ("12.00", "2100-01-31")
    assert said["token"] == str(token.uuid)
    staff.post(f"/plans/{plan['uuid']}/charge/", {"due_on": plan["due_on"]})
    (told,) = saving.told("charge")
    assert (told.token, str(told.amount.amount)) == ("tok-2", "12.00")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount": {"amount": "12.00", "currency": "EUR"}}, "amount"),
        ({"amount": {"amount": "0", "currency": "USD"}}, "amount"),
        ({"token": "6f9c3c1e-0a52-4a7b-9c43-0d4a3f1f6a10"}, "token"),
        ({"ends_on": "31.01.2100"}, "ends_on"),
        ({"status": "active"}, "status"),
        ({"interval_months": 12}, "interval_months"),
    ],
)
def test_terms_that_cannot_be_are_refused_by_name(staff, plan, body, field):
    answer = staff.post(f"/plans/{plan['uuid']}/change/", body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert staff.get(f"/plans/{plan['uuid']}/").json()["amount"] == plan["amount"]


def test_a_paused_plan_waits_and_goes_on(staff, saving, plan):
    path = f"/plans/{plan['uuid']}"
    early = staff.post(f"{path}/pause/")
    assert (early.status_code, early.json()["code"]) == (409, "invalid_transition")
    staff.post(f"{path}/charge/", {"due_on": plan["due_on"]})
    paused = staff.post(f"{path}/pause/").json()
    assert paused["status"] == "paused"
    charge = staff.post(f"{path}/charge/", {"due_on": paused["due_on"]})
    assert (charge.status_code, charge.json()["code"]) == (409, "invalid_transition")
    assert len(saving.told("charge")) == 1
    assert staff.post(f"{path}/resume/").json()["status"] == "active"


def test_a_plan_ends_with_its_period_or_now_and_is_charged_no_more(staff, saving, plan):
    path = f"/plans/{plan['uuid']}"
    staff.post(f"{path}/charge/", {"due_on": plan["due_on"]})
    ending = staff.post(f"{path}/cancel/", {"at_period_end": True}).json()
    assert (ending["status"], ending["is_ending"]) == ("active", True)
    assert staff.post(f"{path}/cancel/").json()["status"] == "canceled"
    assert staff.post(f"{path}/cancel/").status_code == 409
    charge = staff.post(f"{path}/charge/", {"due_on": ending["due_on"]})
    assert charge.status_code == 409
    assert Payment.objects.filter(plan__uuid=plan["uuid"]).count() == 1


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"provider": "elsewhere"}, "provider"),
        ({"token": "6f9c3c1e-0a52-4a7b-9c43-0d4a3f1f6a10"}, "token"),
        ({"interval_months": 0}, "interval_months"),
        ({"interval_months": "1"}, "interval_months"),
        ({"start_on": "2100-02-31"}, "start_on"),
        ({"start_on": "\uff12\uff1100-01-31"}, "start_on"),
        ({"managed_by": "nobody"}, "managed_by"),
        ({"status": "active"}, "status"),
        ({"next_on": "2100-01-31"}, "next_on"),
    ],
)
def test_what_cannot_be_a_plan_is_refused_by_name(staff, more, field):
    answer = staff.post("/plans/", wanted(**more))
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert not RecurringPlan.objects.exists()
