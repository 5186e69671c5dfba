"""What need not be kept is forgotten; amounts, references and facts stay."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone

from django_multipay.enums import (
    NoticeState,
    PaymentStatus,
    PlanManager,
    PlanStatus,
    RefundStatus,
    TokenStatus,
    Verdict,
)
from django_multipay.exceptions import InvalidOperation
from django_multipay.flows import erase_buyer, purge, receive_webhook, start_payment
from django_multipay.flows.purge import ErasureReport, PurgeReport
from django_multipay.ledger import claims, retention
from django_multipay.messages import Address, Buyer
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    RecurringPlan,
    Refund,
    Token,
    Transaction,
    WebhookDelivery,
)
from tests.flows.scripted import message, new_payment

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]

# Its package has a function of the same name.
forgetting = importlib.import_module("django_multipay.flows.purge")

KNOWN = {
    "buyer": Buyer(
        name="Hong Gil Dong",
        email="hong@example.com",
        phone="+821012345678",
        country="KR",
        address=Address(street="Sejong-daero 110", city="Seoul", country="KR"),
    ),
    "customer_id": "hong",
    "metadata": {"note": "for Hong"},
    "success_url": "/thanks/hong/",
}


def paid(**changes: Any) -> Payment:
    """A payment whose buyer is known, and that is over."""
    payment = new_payment(**{**KNOWN, **changes})
    start_payment(payment)
    receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    return payment


def make_old(days: int) -> None:
    moment = timezone.now() - timedelta(days=days)
    WebhookDelivery.objects.update(received_at=moment)
    for model in (Payment, Notice):
        model.objects.update(created_at=moment)


def tables_with(name: str) -> set[str]:
    """The models that have ``name`` in any column of any row, encrypted or not."""
    return {
        model.__name__
        for model in apps.get_app_config("multipay").get_models()
        if name.casefold() in str(list(model._default_manager.values())).casefold()
    }


# In time --------------------------------------------------------------------------------


def test_old_messages_and_notices_go_and_facts_stay():
    payment = paid()
    before = list(Transaction.objects.values())
    WebhookDelivery.objects.update(headers={"x-buyer": "hong"})
    digest = WebhookDelivery.objects.get().digest
    make_old(89)
    assert purge() == PurgeReport()
    make_old(91)
    assert purge() == PurgeReport(messages=1, notices=1)
    delivery = WebhookDelivery.objects.get()
    assert (delivery.body, delivery.headers, delivery.payload) == ("", {}, None)
    assert (delivery.digest, delivery.verdict) == (digest, Verdict.APPLIED)
    assert not Notice.objects.exists()
    assert list(Transaction.objects.values()) == before
    payment.refresh_from_db()
    assert payment.buyer_name == "Hong Gil Dong"
    assert purge() == PurgeReport()


def test_what_is_not_over_is_kept_however_old():
    payment = paid()
    Notice.objects.update(state=NoticeState.WAITING)
    WebhookDelivery.objects.update(verdict=Verdict.STORED)
    make_old(1000)
    assert purge() == PurgeReport()
    WebhookDelivery.objects.update(
        verdict=Verdict.HELD, rematch_at=timezone.now(), payment=payment
    )
    assert purge() == PurgeReport()


def test_a_trimmed_message_comes_again_and_does_nothing(listen):
    heard = listen("payment_paid")
    payment = paid()
    make_old(91)
    purge()
    answer = receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    assert answer.status == 200
    assert len(heard) == 1
    assert WebhookDelivery.objects.count() == 1


def test_the_address_of_a_checkout_that_came_to_nothing_goes():
    payment = new_payment(**KNOWN)
    make_old(29)
    assert purge() == PurgeReport()
    make_old(31)
    assert purge() == PurgeReport(checkouts=1)
    payment.refresh_from_db()
    assert payment.checkout_data is None


def test_buyers_are_forgotten_only_where_the_site_says_after_how_long(settings):
    paid()
    make_old(10_000)
    assert purge().buyers == 0
    settings.MULTIPAY = {**settings.MULTIPAY, "RETENTION": {"BUYERS": 365}}
    make_old(364)
    assert purge().buyers == 0
    make_old(366)
    assert purge().buyers == 1
    assert tables_with("hong") == set()


def test_a_buyer_whose_provider_is_to_be_asked_again_is_not_forgotten(settings):
    payment = paid()
    make_old(10_000)
    settings.MULTIPAY = {**settings.MULTIPAY, "RETENTION": {"BUYERS": 365}}
    Payment.objects.update(sync_at=timezone.now())
    assert purge().buyers == 0
    Payment.objects.update(sync_at=None)
    assert purge().buyers == 1
    payment.refresh_from_db()
    assert payment.buyer_name == ""
    assert purge().buyers == 0


def test_a_buyer_whose_refund_is_under_way_is_not_forgotten(settings):
    payment = paid()
    make_old(10_000)
    settings.MULTIPAY = {**settings.MULTIPAY, "RETENTION": {"BUYERS": 365}}
    refund = Refund.objects.create(
        payment=payment, amount_minor=1, status=RefundStatus.PENDING
    )
    assert purge().buyers == 0
    refund.status = RefundStatus.SUCCEEDED
    refund.save()
    assert purge().buyers == 1


def test_a_kind_may_be_kept_for_ever(settings):
    settings.MULTIPAY = {
        **settings.MULTIPAY,
        "RETENTION": dict.fromkeys(("MESSAGES", "NOTICES", "CHECKOUTS")),
    }
    paid()
    new_payment(**KNOWN)
    make_old(10_000)
    assert purge() == PurgeReport()


# For one buyer --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [{"customer_id": "hong"}, {"email": "HONG@example.com"}]
)
def test_a_buyer_is_forgotten_and_what_they_paid_is_not(name):
    payment, again = paid(), paid()
    other = paid(customer_id="kim", buyer=Buyer(name="Kim", email="kim@example.com"))
    facts = list(Transaction.objects.values())
    kept = (
        "amount_minor",
        "captured_minor",
        "provider_reference",
        "order_id",
        "status",
    )
    sums = list(Payment.objects.order_by("pk").values(*kept))
    assert erase_buyer(**name) == ErasureReport(payments=2)
    assert tables_with("Hong Gil") == tables_with("hong@") == set()
    assert tables_with("+8210") == tables_with("Sejong") == set()
    payment.refresh_from_db()
    again.refresh_from_db()
    assert payment.customer_id == again.customer_id
    assert payment.customer_id.startswith(retention.ERASED)
    assert payment.erased_at is not None
    assert list(Transaction.objects.values()) == facts
    assert list(Payment.objects.order_by("pk").values(*kept)) == sums
    other.refresh_from_db()
    assert (other.buyer_name, other.customer_id) == ("Kim", "kim")
    assert erase_buyer(**name) == ErasureReport()


def test_what_is_open_is_left_alone_and_said():
    paid()
    waiting = new_payment(**KNOWN)
    unsettled = paid()
    Operation.objects.create(kind="capture", payment=unsettled, state="unknown")
    assert erase_buyer(customer_id="hong") == ErasureReport(payments=1, open_rows=2)
    waiting.refresh_from_db()
    assert waiting.buyer_name == "Hong Gil Dong"


def test_plans_and_saved_methods_that_are_over_are_forgotten_too():
    names = {"customer_id": "hong", "provider": "scripted"}
    token = Token.objects.create(token_digest="1", **names)
    plan = RecurringPlan.objects.create(
        **names,
        order_id="P-1",
        amount_minor=990,
        currency="USD",
        interval_months=1,
        start_on=timezone.localdate(),
        managed_by=PlanManager.APP,
        buyer_name="Hong Gil Dong",
        buyer_email="hong@example.com",
        status=PlanStatus.ACTIVE,
        token=token,
    )
    assert erase_buyer(customer_id="hong") == ErasureReport(open_rows=2)
    RecurringPlan.objects.update(status=PlanStatus.CANCELED)
    Token.objects.update(status=TokenStatus.DELETED)
    assert erase_buyer(customer_id="hong") == ErasureReport(plans=1, tokens=1)
    assert tables_with("hong") == set()
    plan.refresh_from_db()
    token.refresh_from_db()
    assert plan.customer_id == token.customer_id
    assert plan.customer_id.startswith(retention.ERASED)
    assert (plan.amount_minor, plan.order_id) == (990, "P-1")
    assert erase_buyer(customer_id=plan.customer_id) == ErasureReport()


def test_somebody_must_be_named():
    paid(customer_id="", buyer=Buyer())
    with pytest.raises(InvalidOperation, match="name the buyer"):
        erase_buyer()
    assert Payment.objects.get().erased_at is None


def test_a_dry_run_counts_what_a_run_does():
    paid()
    make_old(91)
    assert purge(dry_run=True) == PurgeReport(messages=1, notices=1)
    assert erase_buyer(customer_id="hong", dry_run=True) == ErasureReport(payments=1)
    assert purge() == PurgeReport(messages=1, notices=1)
    assert erase_buyer(customer_id="hong") == ErasureReport(payments=1)


def test_a_purge_that_is_killed_goes_on_where_it_was(monkeypatch):
    class Killed(BaseException):
        """The process is gone."""

    for _ in range(5):
        paid()
    make_old(91)
    monkeypatch.setattr(claims, "CHUNK", 2)
    trim, calls = retention.trim_messages, []

    def dying(keys: list[int]) -> int:
        if len(calls) == 1:
            raise Killed
        calls.append(keys)
        return trim(keys)

    with monkeypatch.context() as patch:
        patch.setattr(
            forgetting,
            "_STEPS",
            (("MESSAGES", (("messages", retention.old_messages, dying),)),),
        )
        with pytest.raises(Killed):
            purge()
    assert WebhookDelivery.objects.filter(body="").count() == 2
    seen = []
    report = purge(progress=lambda done, total: seen.append((done, total)))
    assert report.messages == 3
    assert seen[-1] == (8, 8)
    assert not WebhookDelivery.objects.exclude(body="").exists()
