"""A request that comes again is answered as before; money moves once."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.db.models import TextField
from django.db.models.functions import Cast
from django.utils import timezone

from django_multipay.api import base, payments
from django_multipay.api.base import REPLAYED_HEADER
from django_multipay.api.urls import urlpatterns
from django_multipay.enums import RefundStatus
from django_multipay.exceptions import OutcomeUnknown, ProviderUnavailable
from django_multipay.flows import idempotency, reconcile
from django_multipay.messages import RefundSnapshot
from django_multipay.models import IdempotencyKey, Payment, Refund
from tests.api.conftest import USD, caller, paid_payment, user_with

pytestmark = pytest.mark.django_db(transaction=True)

NEW = {"order_id": "1001", "amount": USD, "provider": "scripted"}
LONG_AGO = timedelta(days=30)


def refund_of(payment: Payment, amount: str = "6.30") -> dict:
    return {
        "payment": str(payment.uuid),
        "amount": {"amount": amount, "currency": "USD"},
        "reason": "broken",
    }


MONEY = {
    pattern.name: pattern
    for pattern in urlpatterns
    if "POST" in getattr(getattr(pattern.callback, "cls", None), "needs_key", ())
}


def test_an_answer_from_before_new_encryption_keys_is_given_again(
    staff, shop, settings
):
    body = refund_of(paid_payment())
    settings.MULTIPAY = {**settings.MULTIPAY, "ENCRYPTION_KEYS": ["an older key, long"]}
    first = staff.post("/refunds/", body, key="over-the-rotation")
    keys = ["a newer key, as long", "an older key, long"]
    settings.MULTIPAY = {**settings.MULTIPAY, "ENCRYPTION_KEYS": keys}
    again = staff.post("/refunds/", body, key="over-the-rotation")
    assert (again.status_code, again.json()) == (201, first.json())
    # Also a request that was left behind is carried on, and no other one for it.
    IdempotencyKey.objects.update(answer_status=None, lease_until=timezone.now())
    assert staff.post("/refunds/", body, key="over-the-rotation").status_code == 201
    body["reason"] = "another"
    other = staff.post("/refunds/", body, key="over-the-rotation")
    assert other.json()["code"] == "key_reused"
    assert Refund.objects.count() == 1


def test_what_may_move_money_is_known():
    assert set(MONEY) == {
        "payments",
        "capture",
        "void",
        "confirm",
        "settle",
        "refunds",
        "charge",
        "plans",
        "change_plan",
        "pause_plan",
        "resume_plan",
        "cancel_plan",
        "charge_plan",
    }


def test_money_is_not_moved_without_a_key(staff, shop):
    payment = paid_payment()
    before = list(shop.calls)
    for path, body in (("/refunds/", refund_of(payment)), ("/payments/", NEW)):
        answer = staff.post(path, body, key=None)
        assert (answer.status_code, answer.json()["code"]) == (400, "key_missing")
    assert shop.calls == before
    assert Payment.objects.count() == 1


@pytest.mark.parametrize("key", [" ", "a b", "x" * 256, "k\u00e9y", "a\tb"])
def test_a_key_is_plain_text_of_bounded_length(staff, key):
    answer = staff.post("/payments/", NEW, **{"Idempotency-Key": key}, key=None)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not Payment.objects.exists()


@pytest.mark.parametrize("path", ["/payments/", "/refunds/"])
def test_the_same_request_gets_the_very_same_answer(staff, shop, path):
    body = NEW if path == "/payments/" else refund_of(paid_payment())
    first = staff.post(path, body, key="k-1")
    # The order of the fields is no part of what was asked for.
    again = staff.post(path, dict(reversed(body.items())), key="k-1")

    assert first.status_code == again.status_code == 201
    assert again.content == first.content
    assert again["Location"] == first["Location"]
    assert REPLAYED_HEADER not in first
    assert again[REPLAYED_HEADER] == "true"
    assert Payment.objects.count() == 1
    assert len(shop.told("refund")) == Refund.objects.count() <= 1


def test_a_replayed_answer_is_the_old_one_although_things_moved_on(staff):
    payment = paid_payment()
    first = staff.post("/refunds/", refund_of(payment), key="k-1")
    Refund.objects.update(status=RefundStatus.FAILED)
    assert staff.post("/refunds/", refund_of(payment), key="k-1").content == (
        first.content
    )


def test_a_key_is_bound_to_body_and_path(staff, shop):
    payment = paid_payment()
    assert staff.post("/refunds/", refund_of(payment), key="k-1").status_code == 201
    for path, body in (
        ("/refunds/", refund_of(payment, "6.31")),
        ("/payments/", NEW),
        (f"/payments/{payment.uuid}/settle/", {}),
        ("/refunds/?x=1", refund_of(payment)),
    ):
        answer = staff.post(path, body, key="k-1")
        assert (answer.status_code, answer.json()["code"]) == (422, "key_reused")
    assert len(shop.told("refund")) == 1
    assert not shop.told("settle")


def test_another_caller_with_the_same_key_is_another_wish(staff, shop):
    payment = paid_payment()
    other = caller(user_with(name="bob"))
    first = staff.post("/refunds/", refund_of(payment), key="k-1")
    second = other.post("/refunds/", refund_of(payment), key="k-1")
    assert first.json()["uuid"] != second.json()["uuid"]
    assert len(shop.told("refund")) == 2


def test_what_was_refused_frees_its_key(staff):
    payment = paid_payment()
    wrong = staff.post("/refunds/", refund_of(payment, "99.00"), key="k-1")
    assert (wrong.status_code, wrong.json()["field"]) == (400, "amount")
    right = staff.post("/refunds/", refund_of(payment), key="k-1")
    assert right.status_code == 201
    assert REPLAYED_HEADER not in right


@pytest.mark.parametrize(
    ("error", "status", "code", "after"),
    [
        (ProviderUnavailable, 503, "provider_unavailable", "succeeded"),
        (OutcomeUnknown, 504, "outcome_unknown", "unknown"),
    ],
)
def test_an_outcome_that_is_not_known_is_asked_for_with_the_same_key(
    staff, shop, error, status, code, after
):
    payment = paid_payment()
    shop.will("refund", error("no", "scripted", "refund"))
    first = staff.post("/refunds/", refund_of(payment), key="k-1")
    assert (first.status_code, first.json()["code"]) == (status, code)
    second = staff.post("/refunds/", refund_of(payment), key="k-1")
    assert second.status_code == 201, second.content
    assert second.json()["status"] == after
    assert Refund.objects.count() == 1
    # Sent again only where the first was certainly not done.
    assert len(shop.told("refund")) == (2 if after == "succeeded" else 1)


def test_while_the_database_is_away_the_key_is_kept_for_later(staff, shop):
    """The money moved, and then the answer could not be written."""
    payment = paid_payment()
    refund = {"is_sent": False}

    def sent():
        refund["is_sent"] = True
        return _succeeded(shop)

    def fail(execute, *statement):
        if refund["is_sent"]:
            raise OperationalError("connection refused")
        return execute(*statement)

    shop.will("refund", sent)
    with connection.execute_wrapper(fail):
        lost = staff.post("/refunds/", refund_of(payment), key="k-1")
    assert (lost.status_code, lost.json()["code"]) == (503, "site_unavailable")
    assert lost["Retry-After"] == "30"

    lease_ends()
    again = staff.post("/refunds/", refund_of(payment), key="k-1")
    assert again.status_code == 201
    assert len(shop.told("refund")) == Refund.objects.count() == 1


# At the same time, and after a crash ---------------------------------------------------


def while_the_first_is_at_the_provider(staff, shop, payment) -> tuple[list, object]:
    """Answers to eight equal requests that come during the first, and its own."""
    others = [caller() for _ in range(8)]
    for other in others:
        other.client.cookies = staff.client.cookies
    start = threading.Barrier(len(others))
    seen: list = []

    def ask(other):
        start.wait()
        try:
            return other.post("/refunds/", refund_of(payment), key="k-1")
        finally:
            connection.close()

    def refund():
        with ThreadPoolExecutor(len(others)) as pool:
            seen.extend(pool.map(ask, others))
        return _succeeded(shop)

    shop.will("refund", refund)
    return seen, staff.post("/refunds/", refund_of(payment), key="k-1")


def _succeeded(shop):
    reference = shop.told("refund")[-1].merchant_reference
    return RefundSnapshot(
        status=RefundStatus.SUCCEEDED, provider_reference=f"R-{reference}"
    )


def test_of_equal_requests_at_once_one_is_carried_out(staff, shop):
    payment = paid_payment()
    seen, first = while_the_first_is_at_the_provider(staff, shop, payment)
    assert first.status_code == 201
    assert [answer.status_code for answer in seen] == [409] * 8
    assert {answer.json()["code"] for answer in seen} == {"key_in_progress"}
    assert {answer["Retry-After"] for answer in seen} == {"1"}
    assert len(shop.told("refund")) == Refund.objects.count() == 1
    again = staff.post("/refunds/", refund_of(payment), key="k-1")
    assert again.content == first.content


def test_without_the_claim_they_would_all_pass(staff, shop, monkeypatch):
    """The twin: the column that is unique is what tells the others to wait."""
    claim = idempotency.claim_key
    monkeypatch.setattr(idempotency, "claim_key", lambda *said: (claim(*said)[0], True))
    payment = paid_payment()
    seen, _ = while_the_first_is_at_the_provider(staff, shop, payment)
    assert 409 not in [answer.status_code for answer in seen]


def test_many_who_come_first_at_once_make_one_payment(staff):
    others = [caller() for _ in range(8)]
    for other in others:
        other.client.cookies = staff.client.cookies
    start = threading.Barrier(len(others))

    def ask(other):
        start.wait()
        try:
            return other.post("/payments/", NEW, key="k-1")
        finally:
            connection.close()

    with ThreadPoolExecutor(len(others)) as pool:
        answers = list(pool.map(ask, others))
    made = {answer.content for answer in answers if answer.status_code == 201}
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len(made) == Payment.objects.count() == 1


class Killed(BaseException):
    """The process is gone: nothing after it runs, no answer is written."""


def killed_at_the_provider(staff, shop, payment) -> None:
    """The first worker dies after the provider did it and before it said so."""

    def die():
        raise Killed

    shop.will("refund", die)
    with pytest.raises(Killed):
        staff.post("/refunds/", refund_of(payment), key="k-1")


def lease_ends() -> None:
    assert IdempotencyKey.objects.filter(answer_status=None).update(
        lease_until=timezone.now() - LONG_AGO
    )


def test_a_lock_that_a_crash_left_ends_and_nothing_is_doubled(staff, shop):
    payment = paid_payment()
    killed_at_the_provider(staff, shop, payment)
    locked = staff.post("/refunds/", refund_of(payment), key="k-1")
    assert (locked.status_code, locked.json()["code"]) == (409, "key_in_progress")

    lease_ends()
    again = staff.post("/refunds/", refund_of(payment), key="k-1")
    assert again.status_code == 201
    assert len(shop.told("refund")) == Refund.objects.count() == 1
    assert again.json()["uuid"] == str(Refund.objects.get().uuid)
    # From now on this is the answer.
    assert staff.post("/refunds/", refund_of(payment), key="k-1")[REPLAYED_HEADER]


def test_without_the_key_for_the_flows_a_crash_would_double(staff, shop, monkeypatch):
    """The twin: the desk alone does not know what the dead worker had done."""
    begin = base.begin_request

    def forgetful(*said):
        begun = begin(*said)
        return dataclasses.replace(begun, flow_key=uuid.uuid4().hex)

    monkeypatch.setattr(base, "begin_request", forgetful)
    payment = paid_payment()
    killed_at_the_provider(staff, shop, payment)
    lease_ends()
    staff.post("/refunds/", refund_of(payment), key="k-1")
    assert len(shop.told("refund")) == 2


def test_other_words_do_not_take_over_after_a_crash(staff, shop):
    payment = paid_payment()
    killed_at_the_provider(staff, shop, payment)
    lease_ends()
    answer = staff.post("/refunds/", refund_of(payment, "6.31"), key="k-1")
    assert answer.status_code == 422
    assert Refund.objects.count() == 1


def test_what_a_worker_wrote_without_its_turn_is_rolled_back(staff, monkeypatch):
    """A worker that slept beyond its lease leaves no second payment behind."""
    original = payments.flows.create_payment

    def slow(**values):
        payment = original(**values)
        IdempotencyKey.objects.update(lease_token="another worker")
        return payment

    monkeypatch.setattr(payments.flows, "create_payment", slow)
    answer = staff.post("/payments/", NEW, key="k-1")
    assert (answer.status_code, answer.json()["code"]) == (409, "key_in_progress")
    assert not Payment.objects.exists()


# After a day --------------------------------------------------------------------------


def test_a_key_expires_and_money_still_moves_once(staff, shop):
    payment = paid_payment()
    made = staff.post("/payments/", NEW, key="k-1").json()
    refund = staff.post("/refunds/", refund_of(payment), key="k-2").json()
    IdempotencyKey.objects.update(expires_at=timezone.now() - LONG_AGO)

    # What moved nothing is a new wish; what moved money is still the same one.
    assert staff.post("/payments/", NEW, key="k-1").json()["uuid"] != made["uuid"]
    again = staff.post("/refunds/", refund_of(payment), key="k-2")
    assert REPLAYED_HEADER not in again
    assert again.json()["uuid"] == refund["uuid"]
    assert len(shop.told("refund")) == 1
    IdempotencyKey.objects.update(expires_at=timezone.now() - LONG_AGO)
    other = staff.post("/refunds/", refund_of(payment, "6.31"), key="k-2")
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


def test_expired_answers_are_deleted_in_turns(staff):
    for number in range(3):
        staff.post("/payments/", NEW, key=f"k-{number}")
    old = IdempotencyKey.objects.order_by("id")[:2].values_list("pk", flat=True)
    IdempotencyKey.objects.filter(pk__in=list(old)).update(
        expires_at=timezone.now() - LONG_AGO
    )
    assert idempotency.forget_expired_requests(limit=1) == 1
    assert reconcile().loops["answers"] == 1
    assert reconcile(dry_run=True).loops["answers"] == 0
    assert IdempotencyKey.objects.count() == 1


def test_neither_key_nor_answer_is_kept_in_clear(staff):
    # Too long to stand in what is encrypted by chance.
    key, name, order = "the-key-of-a-shop", "Ada Lovelace", "order-1001-of-ada"
    wish = {**NEW, "order_id": order, "buyer": {"name": name}}
    said = staff.post("/payments/", wish, key=key)
    assert said.json()["client_secret"]
    rows = IdempotencyKey.objects.annotate(
        raw=Cast("answer_body", output_field=TextField())
    )
    row = rows.values("raw", "digest", "fingerprint").get()
    text = " ".join(row.values())
    for secret in (key, name, said.json()["client_secret"], order):
        assert secret not in text
