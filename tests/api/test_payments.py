"""A payment from its creation to its end, through the API alone."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from django_multipay.enums import PaymentStatus
from django_multipay.exceptions import RequestRejected
from django_multipay.models import Operation, Payment
from tests import fakes
from tests.api.conftest import USD, caller, paid_payment, user_with
from tests.flows.scripted import new_payment

pytestmark = pytest.mark.django_db(transaction=True)

NEW = {
    "order_id": "1001",
    "amount": USD,
    "provider": "scripted",
    "buyer": {"name": "Ada", "email": "ada@buyer.example"},
    "items": [{"name": "Cup", "quantity": 2, "unit_minor": 1315}],
    "metadata": {"cart": [1, "two"]},
    "expires_at": "2100-01-31T12:00:00Z",
}


def test_a_payment_is_made_and_found_again(staff):
    made = staff.post("/payments/", NEW)
    assert made.status_code == 201, made.content
    data = made.json()
    assert data["amount"] == {
        "amount": "26.30",
        "currency": "USD",
        "amount_minor": 2630,
    }
    assert data["status"] == "created"
    assert data["items"][0]["unit_minor"] == 1315

    found = staff.client.get(made["Location"]).json()
    assert found == {name: data[name] for name in data if name != "client_secret"}
    assert staff.get("/payments/").json()["results"] == [found]


def test_the_buyer_starts_with_the_secret_that_the_shop_was_given(staff, shop):
    data = staff.post("/payments/", NEW).json()
    browser = caller(Authorization=f"Multipay-Client {data['client_secret']}")

    ways = browser.get(f"/payments/{data['uuid']}/methods/").json()
    assert [(way["provider"], way["method"]) for way in ways] == [("scripted", "")]
    started = browser.post(f"/payments/{data['uuid']}/start/", key=None)

    assert started.status_code == 200, started.content
    assert started.json()["status"] == "pending"
    action = started.json()["next_action"]
    assert action["type"] == "redirect"
    assert action["url"].startswith("https://provider.example/pay/")
    again = browser.post(f"/payments/{data['uuid']}/start/", key=None)
    assert again.json() == started.json()
    assert len(shop.told("start")) == 1


def test_the_buyer_sees_no_personal_data_and_no_reference_of_the_shop(staff, buyer):
    data = staff.post("/payments/", NEW).json()
    payment = Payment.objects.get()
    seen = buyer(payment).get(f"/payments/{payment.uuid}/")
    assert seen.json()["amount"]["amount_minor"] == 2630
    for secret in ("Ada", "ada@buyer.example", "cart", payment.merchant_reference):
        assert secret not in seen.text
        assert secret in json.dumps(data)


def test_staff_without_the_permission_for_buyers_see_none(staff):
    staff.post("/payments/", {**NEW, "customer_id": "customer-7"})
    clerk = caller(user_with("view_payment", name="bob"))
    (seen,) = clerk.get("/payments/").json()["results"]
    assert seen["buyer"] is seen["customer_id"] is seen["metadata"] is None
    assert clerk.get("/payments/", customer_id="customer-7").status_code == 403
    assert staff.get("/payments/", customer_id="customer-7").json()["results"]


@pytest.mark.parametrize(
    ("path", "status", "body", "after"),
    [
        ("capture", PaymentStatus.AUTHORIZED, {}, "paid"),
        ("capture", PaymentStatus.AUTHORIZED, {"amount": USD}, "paid"),
        ("void", PaymentStatus.AUTHORIZED, {}, "canceled"),
        ("confirm", PaymentStatus.AUTHENTICATED, {}, "paid"),
        ("confirm", PaymentStatus.AUTHENTICATED, {"capture": False}, "authorized"),
        ("settle", PaymentStatus.PAID, {}, "paid"),
    ],
)
def test_money_moves_as_the_flows_move_it(staff, shop, path, status, body, after):
    payment = paid_payment(status, capture_mode="manual")
    done = staff.post(f"/payments/{payment.uuid}/{path}/", body)
    assert done.status_code == 200, done.content
    assert done.json()["state"] == "succeeded"
    assert done.json()["payment"]["status"] == after
    assert len(shop.told(path)) == 1
    assert Operation.objects.get(kind=path).actor == "ann"


def test_what_the_state_forbids_is_a_conflict_with_a_remedy(staff, shop):
    payment = new_payment()
    answer = staff.post(f"/payments/{payment.uuid}/capture/")
    assert answer.status_code == 409
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "invalid_transition"
    assert answer.json()["remedy"]
    assert not shop.told("capture")


def test_an_attempt_that_was_never_opened_is_canceled(buyer, shop, listen):
    heard = listen("payment_failed")
    payment = new_payment()
    browser = buyer(payment)
    canceled = browser.post(f"/payments/{payment.uuid}/cancel/", key=None)
    assert canceled.status_code == 200
    assert canceled.json()["status"] == "canceled"
    assert [news["payment"] for news in heard] == [payment]
    # Nothing to do is no mistake, and no way back.
    again = browser.post(f"/payments/{payment.uuid}/cancel/", key=None)
    assert again.json() == canceled.json()
    assert browser.post(f"/payments/{payment.uuid}/start/").status_code == 409
    assert not shop.calls


def test_an_attempt_that_can_still_be_paid_is_not_canceled(buyer, shop):
    payment = paid_payment(PaymentStatus.PENDING)
    answer = buyer(payment).post(f"/payments/{payment.uuid}/cancel/", key=None)
    assert answer.status_code == 409
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING


def test_a_buyer_asks_the_provider_only_when_it_is_due(buyer, staff, shop):
    payment = paid_payment(PaymentStatus.PENDING)
    browser = buyer(payment)
    for _ in range(3):
        assert (
            browser.post(f"/payments/{payment.uuid}/sync/", key=None).status_code == 200
        )
    assert len(shop.told("fetch")) <= 1
    before = len(shop.told("fetch"))
    assert staff.post(f"/payments/{payment.uuid}/sync/", key=None).status_code == 200
    assert len(shop.told("fetch")) == before + 1


def test_a_fresh_code_to_scan_takes_the_place_of_the_old_one(buyer, settings):
    settings.MULTIPAY = fakes.accounts(code="code")
    payment = new_payment(provider="code")
    browser, path = buyer(payment), f"/payments/{payment.uuid}"
    assert browser.post(f"{path}/refresh/", key=None).json()["next_action"] is None
    old = browser.post(f"{path}/start/", key=None).json()["next_action"]
    fresh = browser.post(f"{path}/refresh/", key=None)
    assert fresh.status_code == 200, fresh.content
    action = fresh.json()["next_action"]
    assert (action["type"], action["data"]) == ("qr_code", "fake:new")
    assert action != old
    assert browser.get(f"{path}/").json()["next_action"] == action


def test_what_the_provider_refused_is_told_to_staff_and_not_to_buyers(
    staff, buyer, shop
):
    why = RequestRejected("account 4711 is closed", "scripted", "start")
    shop.will("start", why, why)
    payment = new_payment()
    path = f"/payments/{payment.uuid}/start/"
    seen = buyer(payment).post(path, key=None)
    assert (seen.status_code, seen.json()["code"]) == (502, "provider_refused")
    assert "4711" not in seen.text
    told = staff.post(path, key=None)
    assert (told.status_code, told.json()["code"]) == (502, "provider_refused")
    assert "4711" in told.json()["detail"]


def test_atomic_requests_hold_no_transaction(staff, shop, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    made = staff.post("/payments/", NEW).json()
    path = f"/payments/{made['uuid']}/start/"
    assert staff.post(path).json()["next_action"]
    assert shop.told("start")
    assert not shop.calls_in_a_transaction


def test_a_buyer_who_was_declined_tries_again(buyer, shop):
    payment = paid_payment(PaymentStatus.FAILED)
    browser = buyer(payment)
    seen = browser.get(f"/payments/{payment.uuid}/").json()
    assert seen["decline"]["code"] == "generic"
    again = browser.post(f"/payments/{payment.uuid}/retry/", key=None)
    assert again.status_code == 201, again.content
    assert again.json()["uuid"] != str(payment.uuid)
    second = caller(Authorization=f"Multipay-Client {again.json()['client_secret']}")
    path = f"/payments/{again.json()['uuid']}/start/"
    assert second.post(path, key=None).json()["next_action"]
    assert browser.post(path, key=None).status_code == 404
