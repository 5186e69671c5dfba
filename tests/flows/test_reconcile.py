"""Whatever a crash or a lost message left open is found and finished."""

from __future__ import annotations

import dataclasses
import importlib
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone
from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import PaymentStatus, Verdict, WebhookOutcome
from django_multipay.exceptions import (
    OutcomeUnknown,
    ProviderUnavailable,
    UnsupportedOperation,
)
from django_multipay.flows import (
    receive_webhook,
    reconcile,
    replay_delivery,
    start_payment,
    sync_payment,
)
from django_multipay.flows.reconcile import CHORES, Report
from django_multipay.flows.sync import sync_claimed, sync_if_due
from django_multipay.messages import IncomingRequest, PaymentSnapshot
from django_multipay.models import Notice, Payment, WebhookDelivery
from django_multipay.registry import registry
from tests.corridor import reconcile_later
from tests.flows.scripted import (
    HintingProvider,
    ScriptedProvider,
    SilentProvider,
    account_settings,
    message,
    new_payment,
    snapshot_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]

# Its package has a function of the same name.
healing = importlib.import_module("django_multipay.flows.reconcile")

NOTHING = Report(deliveries=0, payments=0, notices=0, errors=0)


def make_due() -> None:
    Payment.objects.exclude(sync_at=None).update(
        sync_at=timezone.now() - timedelta(seconds=1)
    )


def started(**changes) -> Payment:
    payment = new_payment(**changes)
    start_payment(payment)
    return payment


def waiting_message(scripted: ScriptedProvider, payment: Payment) -> WebhookDelivery:
    """A message that was stored but could not be applied."""
    scripted.will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    answer = receive_webhook(
        payment.provider, message(payment, PaymentStatus.PAID, ask=True)
    )
    assert answer.outcome is WebhookOutcome.DEFERRED
    return WebhookDelivery.objects.latest("id")


# Messages that wait ------------------------------------------------------------------


def test_there_may_be_nothing_to_do():
    new_payment()
    assert reconcile_later() == NOTHING


def test_a_stored_message_is_applied_when_the_provider_answers_again(scripted):
    payment = started()
    delivery = waiting_message(scripted, payment)
    assert delivery.verdict == Verdict.STORED
    assert "down" in delivery.error
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    assert reconcile_later().deliveries == 1
    payment.refresh_from_db()
    delivery.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert delivery.verdict == Verdict.APPLIED
    assert delivery.attempts == 2
    assert delivery.error == ""
    assert delivery.payload is None
    assert reconcile_later() == NOTHING


def test_a_message_that_still_cannot_be_applied_goes_on_waiting(scripted):
    payment = started()
    delivery = waiting_message(scripted, payment)
    scripted.will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    assert reconcile_later() == NOTHING
    delivery.refresh_from_db()
    assert delivery.verdict == Verdict.STORED
    assert delivery.attempts == 2
    assert delivery.payload


def test_a_message_of_an_account_that_left_the_settings_waits(scripted, settings):
    delivery = waiting_message(scripted, started())
    settings.MULTIPAY = {}
    assert reconcile_later().deliveries == 0
    delivery.refresh_from_db()
    assert delivery.verdict == Verdict.STORED


def test_messages_that_failed_often_let_the_others_go_first(scripted):
    payment = started()
    in_a_day = timezone.now() + timedelta(days=1)
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(provider="gone", digest=str(number), retry_at=in_a_day)
        for number in range(5)
    )
    delivery = waiting_message(scripted, payment)
    WebhookDelivery.objects.filter(pk=delivery.pk).update(retry_at=payment.created_at)
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    assert reconcile(limit=1).deliveries == 1


def test_a_message_may_wait_for_longer_than_its_counter_counts(scripted):
    delivery = waiting_message(scripted, started())
    WebhookDelivery.objects.update(attempts=32767)
    scripted.will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    reconcile_later()
    delivery.refresh_from_db()
    assert delivery.attempts == 32767


def test_replaying_an_applied_message_does_nothing(scripted, listen):
    heard = listen("payment_paid")
    payment = started()
    receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    delivery = WebhookDelivery.objects.get()
    assert replay_delivery(delivery) is Verdict.APPLIED
    assert len(heard) == 1


def test_a_message_is_stored_without_what_nobody_may_read(scripted):
    incoming = message(started(), PaymentStatus.PENDING, email="buyer@example.com")
    receive_webhook("scripted", incoming)
    row = WebhookDelivery.objects.values("headers", "body").get()
    assert "buyer@example.com" not in str(row)
    assert "a secret" not in str(row)


# What is believed ------------------------------------------------------------------------


def test_an_unauthentic_message_leaves_no_row(scripted):
    payment = started()
    answer = receive_webhook(
        "scripted", message(payment, PaymentStatus.PAID, secret="wrong")
    )
    assert answer.outcome is WebhookOutcome.REFUSED
    assert answer.status == 401
    assert not WebhookDelivery.objects.exists()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"order": 1}'])
def test_a_message_nobody_can_read_is_refused(scripted, body):
    incoming = IncomingRequest(method="POST", body=body, headers={"x-secret": "x"})
    answer = receive_webhook("scripted", incoming)
    assert answer.outcome is WebhookOutcome.REFUSED
    assert answer.status in {400, 401}
    assert not WebhookDelivery.objects.exists()


def test_a_message_for_an_unknown_order_is_kept_for_staff(scripted):
    payment = started()
    incoming = message(payment, PaymentStatus.PAID, order="neverheardof")
    assert receive_webhook("scripted", incoming).status == 200
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.HELD
    assert delivery.payment is None
    assert delivery.payload


def test_a_hint_is_only_the_occasion_to_ask(settings):
    settings.MULTIPAY = account_settings(scripted=HintingProvider)
    provider = registry["scripted"]
    payment = started()
    receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING
    provider.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    receive_webhook("scripted", message(payment, PaymentStatus.PAID, hint="again"))
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


# Payments that wait ------------------------------------------------------------------


def test_a_payment_whose_messages_were_lost_is_asked_about(scripted, listen):
    heard = listen("payment_paid")
    payment = started()
    assert reconcile_later() == NOTHING
    make_due()
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    report = reconcile_later()
    assert (report.payments, report.errors) == (1, 0)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert payment.sync_at is None
    assert len(heard) == 1


def test_the_provider_is_asked_at_growing_intervals_only(scripted):
    payment = started()
    waits = []
    for _ in range(len(ledger.SYNC_DELAYS) + 2):
        payment.refresh_from_db()
        assert not sync_if_due(payment)
        make_due()
        assert sync_if_due(payment)
        assert not sync_if_due(payment)
        payment.refresh_from_db()
        waits.append(round((payment.sync_at - timezone.now()).total_seconds()))
    assert waits == [5, 15, 30, 60, 120, 600, 3600, 21600, 86400, 86400, 86400]
    assert len(scripted.told("fetch")) == len(waits)


def test_a_page_that_is_reloaded_all_day_asks_once(scripted):
    payment = started()
    make_due()
    asked = [sync_if_due(Payment.objects.get()) for _ in range(20)]
    assert asked == [True] + [False] * 19
    assert len(scripted.told("fetch")) == 1
    assert payment.provider == "scripted"


def test_a_provider_that_is_down_is_an_error_in_the_report_and_asked_later(scripted):
    first, second = started(), started()
    make_due()
    scripted.will(
        "fetch",
        ProviderUnavailable("down", "scripted", "fetch"),
        snapshot_of(second, PaymentStatus.PAID),
    )
    Payment.objects.filter(pk=first.pk).update(
        sync_at=F("sync_at") - timedelta(hours=1)
    )
    report = reconcile_later()
    assert (report.payments, report.errors) == (1, 1)
    first.refresh_from_db()
    second.refresh_from_db()
    assert first.status == PaymentStatus.PENDING
    assert first.sync_at > timezone.now()
    assert second.status == PaymentStatus.PAID


def test_payments_nobody_can_ask_about_do_not_keep_the_others_waiting(
    scripted, settings
):
    multipay = account_settings(
        scripted=ScriptedProvider, gone=ScriptedProvider, mute=SilentProvider
    )
    settings.MULTIPAY = multipay
    for alias in ("gone", "mute"):
        started(provider=alias)
    payment = started()
    del multipay["PROVIDERS"]["gone"]
    settings.MULTIPAY = {**multipay}
    make_due()
    Payment.objects.filter(provider="scripted").update(
        sync_at=timezone.now() - timedelta(milliseconds=100)
    )
    provider = registry["scripted"]
    provider.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    reports = [reconcile_later(limit=1) for _ in range(3)]
    assert sum(report.payments for report in reports) == 1
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert sum(report.errors for report in reports) == 0


def test_a_provider_without_an_inquiry_cannot_be_asked(settings):
    settings.MULTIPAY = account_settings(scripted=SilentProvider)
    with pytest.raises(UnsupportedOperation, match="no payment inquiry"):
        sync_payment(started())


def test_an_answer_that_tells_nothing_new_changes_nothing(scripted):
    payment = started()
    before = payment.updated_at
    scripted.will("fetch", PaymentSnapshot(status=PaymentStatus.PENDING))
    assert sync_payment(payment) is Verdict.IGNORED
    assert payment.updated_at == before


# What can be asked for ---------------------------------------------------------------


def test_a_dry_run_counts_and_touches_nothing(scripted, listen):
    heard = listen("payment_paid")
    first, second = started(), started()
    waiting_message(scripted, first)
    make_due()
    ledger.apply_snapshot(
        second.pk,
        snapshot_of(second, PaymentStatus.AUTHORIZED),
        account=ledger.Account(alias="scripted", account="shop-1", is_live=None),
        source="webhook",
    )
    calls = len(scripted.calls)
    report = reconcile_later(dry_run=True)
    assert report == Report(deliveries=1, payments=2, notices=1, errors=0)
    assert reconcile_later(dry_run=True) == report
    assert len(scripted.calls) == calls
    assert not heard


@pytest.fixture
def two_accounts(scripted, settings) -> None:
    settings.MULTIPAY = account_settings(
        scripted=ScriptedProvider, other=ScriptedProvider
    )


@pytest.mark.usefixtures("two_accounts")
@pytest.mark.parametrize(
    ("providers", "expected"),
    [(None, 3), (["scripted"], 1), (["other"], 2), ([], 0), (["scripted", "other"], 3)],
)
def test_only_the_named_accounts_are_looked_at(providers, expected):
    for alias in ("scripted", "other", "other"):
        waiting_message(registry[alias], started(provider=alias))
    make_due()
    report = reconcile_later(providers=providers, dry_run=True)
    assert (report.deliveries, report.payments) == (expected, expected)


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (2, 2), (None, 3)])
def test_a_limit_bounds_each_kind_of_work(scripted, limit, expected):
    for _ in range(3):
        waiting_message(scripted, started())
    make_due()
    report = reconcile_later(limit=limit, dry_run=True)
    assert (report.deliveries, report.payments) == (expected, expected)
    assert reconcile_later(limit=limit).payments == expected


def test_young_rows_can_be_left_alone(scripted):
    waiting_message(scripted, started())
    make_due()
    assert reconcile_later(older_than=timedelta(hours=1), dry_run=True) == NOTHING
    hour_ago = timezone.now() - timedelta(hours=2)
    Payment.objects.update(created_at=hour_ago)
    WebhookDelivery.objects.update(received_at=hour_ago)
    report = reconcile_later(older_than=timedelta(hours=1), dry_run=True)
    assert (report.deliveries, report.payments) == (1, 1)


def test_after_a_week_of_daily_questions_an_unpaid_payment_is_expired(scripted):
    payment = started()
    for _ in range(len(ledger.SYNC_DELAYS) + 7):
        make_due()
        assert sync_if_due(Payment.objects.get())
        assert Payment.objects.get().status == PaymentStatus.PENDING
    make_due()
    assert sync_if_due(Payment.objects.get())
    payment.refresh_from_db()
    assert payment.sync_at is None
    assert payment.status == PaymentStatus.EXPIRED


def test_an_outage_expires_nothing(scripted):
    payment = started()
    Payment.objects.update(sync_attempts=100)
    make_due()
    scripted.will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    with pytest.raises(ProviderUnavailable):
        sync_if_due(Payment.objects.get())
    payment.refresh_from_db()
    assert payment.sync_at is not None
    assert payment.status == PaymentStatus.PENDING


def test_late_money_beats_the_expiry(scripted):
    payment = started()
    Payment.objects.update(sync_attempts=100)
    make_due()
    sync_if_due(Payment.objects.get())
    assert Payment.objects.get().status == PaymentStatus.EXPIRED
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    sync_payment(payment)
    assert payment.status == PaymentStatus.PAID


@pytest.mark.parametrize(("days", "is_over"), [(-2, True), (0, False), (2, False)])
def test_a_deposit_is_expired_a_day_after_its_deadline(scripted, days, is_over):
    payment = started()
    deadline = timezone.now() + timedelta(days=days)
    waiting = snapshot_of(payment, PaymentStatus.AWAITING_FUNDS, expires_at=deadline)
    scripted.will("fetch", waiting, waiting)
    make_due()
    sync_if_due(Payment.objects.get())
    payment.refresh_from_db()
    assert (payment.status == PaymentStatus.EXPIRED) == is_over


def test_a_message_that_waits_asks_at_growing_intervals(scripted):
    payment = started()
    waiting_message(scripted, payment)
    scripted.will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    asked = len(scripted.told("fetch"))
    for _ in range(5):
        reconcile()
    assert len(scripted.told("fetch")) == asked
    reconcile_later()
    assert len(scripted.told("fetch")) == asked + 1
    delivery = WebhookDelivery.objects.get()
    wait = (delivery.retry_at - timezone.now()).total_seconds()
    assert 10 < wait <= 15


def test_a_message_that_waited_for_three_days_is_held_for_a_person(scripted):
    waiting_message(scripted, started())
    WebhookDelivery.objects.update(received_at=timezone.now() - timedelta(hours=73))
    scripted.will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    reconcile_later()
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.HELD
    assert delivery.payload is not None


def test_a_start_whose_answer_was_lost_is_asked_about(scripted):
    payment = new_payment()
    scripted.will("start", OutcomeUnknown("lost", "scripted", "start"))
    with pytest.raises(OutcomeUnknown):
        start_payment(payment)
    make_due()
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    assert reconcile_later().payments == 1
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


def test_while_a_deposit_may_come_the_questions_go_on(scripted):
    payment = started(expires_at=timezone.now() + timedelta(days=90))
    for _ in range(len(ledger.SYNC_DELAYS) + 10):
        make_due()
        assert sync_if_due(Payment.objects.get())
    payment.refresh_from_db()
    assert payment.sync_at is not None


# Held messages whose payment comes later ------------------------------------------------


def strayed(payment: Payment) -> WebhookDelivery:
    """A message that names a payment as the provider does, before we know the name."""
    known = payment.merchant_reference
    Payment.objects.filter(pk=payment.pk).update(merchant_reference="notyet")
    receive_webhook(payment.provider, message(payment, PaymentStatus.PAID))
    Payment.objects.filter(pk=payment.pk).update(merchant_reference=known)
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.HELD
    return delivery


def look_again_now() -> None:
    WebhookDelivery.objects.exclude(rematch_at=None).update(
        rematch_at=timezone.now() - timedelta(seconds=1)
    )


@pytest.mark.usefixtures("scripted")
def test_a_message_that_came_before_its_payment_is_applied_later():
    payment = started()
    delivery = strayed(payment)
    assert reconcile().loops["strays"] == 0
    look_again_now()
    assert reconcile().loops["strays"] == 1
    payment.refresh_from_db()
    delivery.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert delivery.verdict == Verdict.APPLIED
    assert delivery.rematch_at is None


@pytest.mark.usefixtures("scripted")
def test_a_message_of_nobody_is_looked_at_for_three_days_and_then_by_a_person():
    receive_webhook(
        "scripted", message(started(), PaymentStatus.PAID, order="neverheardof")
    )
    look_again_now()
    assert reconcile().loops["strays"] == 0
    delivery = WebhookDelivery.objects.get()
    assert delivery.rematch_at > timezone.now()
    WebhookDelivery.objects.update(received_at=timezone.now() - timedelta(hours=73))
    look_again_now()
    reconcile()
    delivery.refresh_from_db()
    assert delivery.verdict == Verdict.HELD
    assert delivery.rematch_at is None
    assert delivery.payload


@pytest.mark.usefixtures("scripted")
def test_a_message_that_contradicts_its_payment_waits_for_a_person_only():
    receive_webhook("scripted", message(started(), PaymentStatus.PAID, amount="1.00"))
    delivery = WebhookDelivery.objects.get()
    assert (delivery.verdict, delivery.rematch_at) == (Verdict.HELD, None)


# How a run goes -------------------------------------------------------------------------


@pytest.mark.usefixtures("scripted")
def test_no_row_is_begun_after_the_budget():
    for _ in range(3):
        started()
    make_due()
    report = reconcile(budget=timedelta(0))
    assert (report.payments, report.is_complete) == (0, False)
    report = reconcile(budget=timedelta(minutes=5))
    assert (report.payments, report.is_complete) == (3, True)


@pytest.mark.usefixtures("scripted")
def test_who_watches_sees_every_row():
    for _ in range(3):
        started()
    make_due()
    seen = []
    reconcile(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3), (3, 3)]


def test_a_payment_whose_address_no_key_opens_is_paid_like_any_other(
    scripted, settings
):
    settings.MULTIPAY = {
        **settings.MULTIPAY,
        "ENCRYPTION_KEYS": ["the first key, gone"],
    }
    sealed = started(provider_data={"gift": "yes"})
    settings.MULTIPAY = {
        **settings.MULTIPAY,
        "ENCRYPTION_KEYS": ["another key of ours"],
    }
    others = [started() for _ in range(3)]
    make_due()
    registry["scripted"].will(
        "fetch", *(snapshot_of(one, PaymentStatus.PAID) for one in (sealed, *others))
    )
    report = reconcile()
    assert (report.payments, report.errors) == (4, 0)
    assert Payment.objects.filter(status=PaymentStatus.PAID).count() == 4
    assert report.notices == 4
    # What nobody can read is not needed any more.
    assert Payment.objects.get(pk=sealed.pk).checkout_data is None


def test_each_account_gets_its_part_of_a_limit(scripted, settings):
    settings.MULTIPAY = account_settings(scripted=ScriptedProvider, z=ScriptedProvider)
    for alias in ("scripted",) * 5 + ("z",):
        started(provider=alias)
    make_due()
    assert reconcile(limit=3).payments == 3
    assert len(registry["z"].told("fetch")) == 1


def test_a_chore_that_raises_is_an_error_in_the_report(scripted, monkeypatch):
    def broken(limit: int) -> int:
        raise RuntimeError("a bug")

    untold, payment = started(), started()
    ledger.apply_snapshot(
        untold.pk,
        snapshot_of(untold, PaymentStatus.PAID),
        account=ledger.Account(alias="scripted", account="shop-1", is_live=None),
        source="webhook",
    )
    chores = [dataclasses.replace(chore, run=broken) for chore in CHORES]
    monkeypatch.setattr(healing, "CHORES", tuple(chores))
    make_due()
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    report = reconcile()
    assert (report.payments, report.notices, report.errors) == (1, 1, 1)
    assert report.problems == ("notices: RuntimeError",)


def test_receivers_that_cannot_be_called_are_an_error_and_called_later(
    scripted, monkeypatch, listen
):
    def broken(notices: object) -> int:
        raise RuntimeError("a bug")

    heard = listen("payment_paid")
    payment = started()
    make_due()
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    with monkeypatch.context() as patch:
        patch.setattr(healing, "tell", broken)
        report = reconcile()
    assert (report.payments, report.notices, report.errors) == (1, 0, 1)
    assert report.problems == ("notices: RuntimeError",)
    assert not heard
    Notice.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert reconcile().notices == 1
    assert len(heard) == 1


def test_the_shop_hears_of_money_at_once_and_of_nothing_twice(scripted, listen):
    heard = listen("payment_paid")
    payments = [started() for _ in range(3)]
    make_due()
    scripted.will("fetch", *(snapshot_of(one, PaymentStatus.PAID) for one in payments))
    assert reconcile().notices == 3
    assert reconcile().notices == 0
    assert [news["payment"] for news in heard] == payments
    assert {news["payment"].status for news in heard} == {PaymentStatus.PAID}


def test_a_total_of_refunds_is_not_kept_waiting(scripted):
    refunded = started()
    ledger.apply_snapshot(
        refunded.pk,
        snapshot_of(refunded, PaymentStatus.PAID),
        account=ledger.Account(alias="scripted", account="shop-1", is_live=None),
        source="webhook",
    )
    totals = {
        PaymentStatus.PAID: Money("1.30", "USD"),
        PaymentStatus.PARTIALLY_REFUNDED: Money("2.30", "USD"),
        PaymentStatus.REFUNDED: None,
    }
    for count, (status, total) in enumerate(totals.items(), start=1):
        scripted.will("fetch", snapshot_of(refunded, status, refunded=total))
        assert sync_claimed(refunded) is True
        assert refunded.refunds.filter(is_external=True).count() == count
