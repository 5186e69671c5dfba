"""Saved methods through the API: found, charged once, and deleted."""

from __future__ import annotations

import dataclasses

import pytest

from django_multipay.enums import DeclineCode, PaymentStatus, TokenStatus
from django_multipay.exceptions import OutcomeUnknown, ProviderUnavailable
from django_multipay.messages import Decline
from django_multipay.models import Payment, Token
from django_multipay.registry import registry
from tests.api.conftest import Caller, caller, user_with
from tests.flows.scripted import account_settings, answer_to
from tests.flows.tokens import SavingProvider, query_of_charge, saved

pytestmark = pytest.mark.django_db

CHARGE = {
    "order_id": "2001",
    "amount": {"amount": "9.90", "currency": "USD"},
    "items": [{"name": "Beans", "unit_minor": 990}],
}


@pytest.fixture
def saving(settings) -> SavingProvider:
    """The provider behind the alias ``saving``; it keeps methods and charges them."""
    settings.MULTIPAY = account_settings(saving=SavingProvider)
    provider = registry["saving"]
    assert isinstance(provider, SavingProvider)
    return provider


@pytest.fixture
def staff(saving) -> Caller:
    return caller(user_with())


def uuids(answer) -> set[str]:
    return {row["uuid"] for row in answer.json()["results"]}


def test_saved_methods_are_found_by_what_may_be_shown_of_them(staff):
    mine, other = saved("tok-1", "42"), saved("tok-2", "43")
    Token.objects.filter(pk=other.pk).update(status=TokenStatus.DELETED)
    for query, found in (
        ({}, {mine, other}),
        ({"customer_id": "42"}, {mine}),
        ({"customer_id": "4"}, set()),
        ({"status": "deleted"}, {other}),
        ({"provider": "saving", "status": "active"}, {mine}),
        ({"provider": "elsewhere"}, set()),
    ):
        page = staff.get("/tokens/", **query)
        assert uuids(page) == {str(token.uuid) for token in found}, query
        assert "tok-" not in page.text
    one = staff.get(f"/tokens/{mine.uuid}/").json()
    assert (one["brand"], one["last4"], one["customer_id"]) == ("Visa", "4242", "42")


def test_staff_without_the_permission_for_buyers_do_not_learn_whose_it_is(staff):
    token = saved()
    clerk = caller(user_with("view_token", name="bob"))
    assert clerk.get(f"/tokens/{token.uuid}/").json()["customer_id"] is None
    assert clerk.get("/tokens/", customer_id="42").status_code == 403


def test_a_charge_is_a_payment_and_made_once(staff, saving):
    token = saved()
    made = staff.post(f"/tokens/{token.uuid}/charge/", CHARGE, key="k-1")
    again = staff.post(f"/tokens/{token.uuid}/charge/", CHARGE, key="k-1")
    assert made.status_code == 201, made.content
    data = made.json()
    assert (data["status"], data["order_id"]) == ("paid", "2001")
    assert data["captured"]["amount_minor"] == 990
    assert data["token"] == str(token.uuid)
    assert again.content == made.content
    assert staff.client.get(made["Location"]).json() == data
    (told,) = saving.told("charge")
    assert told.token == "tok-1"


def test_a_decline_of_a_charge_is_a_result(staff, saving):
    token = saved()

    def no():
        query = query_of_charge(saving.told("charge")[-1])
        why = Decline(code=DeclineCode.INSUFFICIENT_FUNDS)
        return dataclasses.replace(answer_to(query, PaymentStatus.FAILED), decline=why)

    saving.will("charge", no)
    answer = staff.post(f"/tokens/{token.uuid}/charge/", CHARGE)
    assert answer.status_code == 201, answer.content
    assert answer.json()["status"] == "failed"
    assert answer.json()["decline"]["code"] == "insufficient_funds"


def test_a_charge_of_unknown_outcome_is_not_sent_again(staff, saving):
    token = saved()
    saving.will("charge", OutcomeUnknown("lost", "saving", "charge"))
    lost = staff.post(f"/tokens/{token.uuid}/charge/", CHARGE, key="k-1")
    assert (lost.status_code, lost.json()["code"]) == (504, "outcome_unknown")
    later = staff.post(f"/tokens/{token.uuid}/charge/", CHARGE, key="k-1")
    assert (later.status_code, later.json()["status"]) == (201, "pending")
    assert len(saving.told("charge")) == 1
    assert Payment.objects.filter(order_id="2001").count() == 1


def test_a_deleted_method_is_deleted_there_too_and_charged_no_more(staff, saving):
    token = saved()
    for _ in range(2):
        gone = staff.delete(f"/tokens/{token.uuid}/")
        assert (gone.status_code, gone.json()["status"]) == (200, "deleted")
    assert saving.told("delete") == ["tok-1"]
    answer = staff.post(f"/tokens/{token.uuid}/charge/", CHARGE)
    assert (answer.status_code, answer.json()["field"]) == (400, "token")
    assert not saving.told("charge")


def test_a_deletion_that_did_not_arrive_is_said_and_still_charges_nothing(
    staff, saving
):
    token = saved()
    saving.will("delete", ProviderUnavailable("down", "saving", "delete"))
    answer = staff.delete(f"/tokens/{token.uuid}/")
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    charge = staff.post(f"/tokens/{token.uuid}/charge/", CHARGE)
    assert charge.status_code == 400
    assert not saving.told("charge")
