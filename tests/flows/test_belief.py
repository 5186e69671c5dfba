"""What is believed of a message when the inquiry says something else."""

from __future__ import annotations

from typing import Any

import pytest
from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import PaymentStatus, ReviewReason, Source, Verdict
from django_multipay.exceptions import InvalidTransition, RequestRejected
from django_multipay.flows import receive_webhook, release_review, start_payment
from django_multipay.flows.webhooks import REMOTE_CHECKS_PER_MINUTE
from django_multipay.models import Payment, WebhookDelivery
from django_multipay.registry import registry
from tests.corridor import reconcile_later
from tests.flows.scripted import ACCOUNT as MERCHANT
from tests.flows.scripted import (
    HintingProvider,
    ScriptedProvider,
    account_settings,
    message,
    new_payment,
    snapshot_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]

PENDING, PAID, FAILED = (
    PaymentStatus.PENDING,
    PaymentStatus.PAID,
    PaymentStatus.FAILED,
)
ACCOUNT = ledger.Account(alias="scripted", account=MERCHANT, is_live=None)


def started() -> Payment:
    payment = new_payment()
    start_payment(payment)
    return payment


def hear(payment: Payment, status: PaymentStatus, **changes) -> Verdict:
    said = message(payment, status, ask=True, **changes)
    receive_webhook("scripted", said)
    payment.refresh_from_db()
    return Verdict(WebhookDelivery.objects.latest("id").verdict)


def say(payment: Payment, status: PaymentStatus, **changes) -> Verdict:
    verdict = ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, status, **changes),
        account=ACCOUNT,
        source=Source.SYNC,
    )
    payment.refresh_from_db()
    return verdict


def test_their_name_for_a_payment_counts_at_the_account_it_belongs_to(settings):
    settings.MULTIPAY = account_settings(
        scripted=ScriptedProvider, other=ScriptedProvider
    )
    payment = started()
    Payment.objects.update(provider_reference="T-1")
    said = message(payment, PAID, order=None, reference="T-1")
    for alias, found, captured in (("other", None, 0), ("scripted", payment, 2630)):
        receive_webhook(alias, said)
        assert WebhookDelivery.objects.get(provider=alias).payment == found
        payment.refresh_from_db()
        assert payment.captured_minor == captured


def test_money_claimed_for_a_failed_payment_is_looked_for_until_it_is_found(scripted):
    payment = started()
    say(payment, FAILED)
    scripted.will("fetch", snapshot_of(payment, PENDING))
    assert hear(payment, PAID) is Verdict.HELD
    assert payment.status == FAILED
    assert payment.review_reason == ReviewReason.CONTRADICTION
    Payment.objects.update(sync_at=payment.created_at)
    scripted.will("fetch", snapshot_of(payment, PAID))
    reconcile_later()
    payment.refresh_from_db()
    assert payment.status == PAID


def test_a_deposit_that_the_inquiry_does_not_show_yet_is_kept(scripted):
    payment = started()
    say(payment, PaymentStatus.AWAITING_FUNDS)
    waiting = snapshot_of(payment, PaymentStatus.AWAITING_FUNDS)
    scripted.will("fetch", waiting, snapshot_of(payment, PAID))
    assert hear(payment, PAID, word="SALE") is Verdict.STORED
    assert payment.status == PaymentStatus.AWAITING_FUNDS
    reconcile_later()
    payment.refresh_from_db()
    assert payment.status == PAID


@pytest.mark.parametrize("first", ["cancel", "money"])
def test_a_cancel_without_a_reference_never_takes_an_authorization_away(first):
    payment = started()
    steps = [
        lambda: say(payment, PaymentStatus.CANCELED, provider_reference=""),
        lambda: say(payment, PaymentStatus.AUTHORIZED),
    ]
    for step in steps if first == "cancel" else reversed(steps):
        step()
    assert payment.status == PaymentStatus.AUTHORIZED
    assert payment.review_reason == ReviewReason.CONTRADICTION


def test_a_sale_that_was_given_back_at_the_provider_is_not_announced(listen):
    told = listen("payment_paid", "payment_refunded")
    payment = started()
    say(payment, PAID, captured=payment.amount, refunded=payment.amount)
    assert payment.status == PaymentStatus.REFUNDED
    assert payment.refunded == payment.amount
    reconcile_later()
    assert [news["name"] for news in told] == ["payment_refunded"]
    assert payment.paid_at is None


@pytest.mark.parametrize("totals", [["5.00", "12.00"], ["12.00", "5.00", "12.00"]])
def test_refunds_made_at_the_provider_are_noticed_once(totals):
    payment = started()
    for total in totals:
        say(payment, PAID, captured=payment.amount, refunded=Money(total, "USD"))
    assert payment.status == PaymentStatus.PARTIALLY_REFUNDED
    assert payment.refunded == Money("12.00", "USD")


@pytest.mark.parametrize("totals", [["10.00", "26.30"], ["26.30", "10.00"]])
def test_a_captured_total_may_grow_in_any_order(totals):
    payment = started()
    for total in totals:
        say(payment, PAID, captured=Money(total, "USD"))
    assert payment.captured == Money("26.30", "USD")
    assert payment.status == PAID


def test_a_second_transaction_for_one_order_is_shown_to_a_person(scripted):
    payment = started()
    proven = snapshot_of(payment, PAID)
    scripted.will("fetch", proven)
    assert hear(payment, PAID, reference="T-other") is Verdict.HELD
    assert payment.status == PAID
    assert payment.review_reason == ReviewReason.REFERENCE_MISMATCH


def test_one_transaction_of_the_provider_pays_one_order():
    first, second = started(), started()
    say(first, PaymentStatus.AWAITING_FUNDS, provider_reference="session-1")
    say(second, PaymentStatus.AWAITING_FUNDS, provider_reference="session-2")
    assert say(first, PAID, provider_reference="T-1") is Verdict.APPLIED
    assert say(second, PAID, provider_reference="T-1") is Verdict.HELD
    assert second.status == PaymentStatus.AWAITING_FUNDS


def test_a_person_lets_a_held_payment_pass_and_the_shop_hears_of_it(listen):
    paid = listen("payment_paid")
    payment = started()
    say(payment, PAID, needs_review=True)
    assert payment.status == PaymentStatus.IN_REVIEW
    release_review(payment, by="Kim")
    payment.refresh_from_db()
    assert payment.status == PAID
    assert payment.review_reason == ""
    assert len(paid) == 1
    with pytest.raises(InvalidTransition):
        release_review(payment, by="Kim")


def test_a_start_that_is_answered_with_the_money_is_paid_at_once(scripted, listen):
    paid = listen("payment_paid")
    payment = new_payment()
    scripted.will("start", snapshot_of(payment, PAID))
    assert start_payment(payment) is None
    assert payment.status == PAID
    assert len(paid) == 1


def test_a_start_that_is_answered_with_another_amount_is_held(scripted):
    payment = new_payment()
    other = Money("1.00", "USD")
    scripted.will("start", snapshot_of(payment, PAID, amount=other, captured=other))
    start_payment(payment)
    assert payment.status == PENDING
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH


def test_the_same_hint_again_asks_again(settings):
    settings.MULTIPAY = account_settings(scripted=HintingProvider)
    provider: Any = registry["scripted"]
    payment = started()
    provider.will("fetch", snapshot_of(payment, PENDING), snapshot_of(payment, PAID))
    said = message(payment, PAID)
    for _ in range(2):
        receive_webhook("scripted", said)
    payment.refresh_from_db()
    assert payment.status == PAID
    assert WebhookDelivery.objects.count() == 1


def test_a_hint_that_names_nothing_of_ours_asks_and_stores_nothing(settings):
    settings.MULTIPAY = account_settings(scripted=HintingProvider)
    provider: Any = registry["scripted"]
    payment = new_payment()
    for order in ("unknown", "", None):
        receive_webhook("scripted", message(payment, PAID, order=order, reference="x"))
    assert provider.told("fetch") == []
    assert not WebhookDelivery.objects.exists()


def test_hints_about_one_payment_are_rationed(settings):
    settings.MULTIPAY = account_settings(scripted=HintingProvider)
    provider: Any = registry["scripted"]
    payment = started()
    for number in range(40):
        receive_webhook("scripted", message(payment, PAID, note=number))
    assert len(provider.told("fetch")) == REMOTE_CHECKS_PER_MINUTE
    assert WebhookDelivery.objects.count() == REMOTE_CHECKS_PER_MINUTE


def test_a_message_may_name_the_payment_by_the_providers_reference(scripted):
    payment = started()
    Payment.objects.update(provider_reference=f"T-{payment.merchant_reference}")
    receive_webhook("scripted", message(payment, PAID, order=None))
    payment.refresh_from_db()
    assert payment.status == PAID


def test_a_page_that_would_ask_for_another_amount_is_never_shown(scripted):
    payment = new_payment()
    scripted.will("start", snapshot_of(payment, PENDING, amount=Money("2630", "USD")))
    with pytest.raises(RequestRejected, match="would ask"):
        start_payment(payment)
    payment.refresh_from_db()
    assert payment.action is None


@pytest.mark.parametrize(
    ("arrived", "reason", "is_paid"),
    [
        ("26.29", ReviewReason.UNDERPAID, False),
        ("26.31", ReviewReason.OVERPAID, True),
        ("26.30", "", True),
    ],
)
def test_what_was_paid_may_differ_from_what_was_asked(arrived, reason, is_paid, listen):
    told = listen("payment_paid")
    payment = started()
    say(payment, PAID, amount=None, captured=Money(arrived, "USD"))
    reconcile_later()
    assert payment.captured == Money(arrived, "USD")
    assert payment.review_reason == reason
    assert bool(told) is is_paid


def test_an_underpayment_that_a_person_accepts_is_paid(listen):
    told = listen("payment_paid")
    payment = started()
    say(payment, PAID, amount=None, captured=Money("26.29", "USD"))
    release_review(payment, by="ann", note="one cent", reason=ReviewReason.UNDERPAID)
    assert (payment.status, payment.review_reason) == (PAID, "")
    assert len(told) == 1
    with pytest.raises(InvalidTransition):
        release_review(payment, by="ann")


def test_a_person_answers_what_they_saw_and_nothing_that_came_later():
    payment = started()
    say(payment, PAID, amount=None, captured=Money("30.00", "USD"))
    release_review(payment, by="ann", reason=ReviewReason.OVERPAID)
    assert payment.review_reason == ""
    say(payment, PAID, amount=None, captured=Money("40.00", "USD"))
    assert payment.review_reason == ReviewReason.OVERPAID


def test_a_mismatch_is_closed_by_a_person_and_reopened_by_another():
    payment = started()
    say(payment, PAID, amount=Money("1.00", "USD"))
    say(payment, PAID, amount=Money("2.00", "USD"))
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH
    release_review(payment, by="ann")
    assert payment.review_reason == ""
    say(payment, PAID, amount=Money("2.00", "USD"))
    assert payment.review_reason == ""
    say(payment, PAID, amount=Money("3.00", "USD"))
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH


def test_a_payment_whose_mismatch_was_answered_is_paid_like_any_other():
    payment = started()
    say(payment, PAID, amount=Money("1.00", "USD"))
    release_review(payment, by="ann")
    for _ in range(2):
        say(payment, PAID)
        assert (payment.status, payment.review_reason) == (PAID, "")
        assert payment.captured == payment.amount
        assert payment.transactions.count() == 3


def test_a_hold_that_a_person_released_is_nothing_new_when_it_is_said_again():
    payment = started()
    say(payment, PaymentStatus.IN_REVIEW)
    release_review(payment, by="ann")
    assert payment.status == PaymentStatus.PENDING
    assert hear(payment, PaymentStatus.IN_REVIEW) == Verdict.IGNORED
    assert payment.transactions.count() == 2
