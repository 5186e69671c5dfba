"""The shop hears of every fact at least once, whatever happens to it or to us."""

from __future__ import annotations

import functools
import logging
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_multipay import ledger, signals
from django_multipay.enums import NoticeState, PaymentStatus, Source
from django_multipay.flows import (
    deliver_notices,
    receive_webhook,
    start_payment,
)
from django_multipay.flows.guards import account_of
from django_multipay.models import Notice, Payment, WebhookDelivery
from django_multipay.registry import registry
from tests.corridor import reconcile_later
from tests.flows.scripted import message, new_payment, snapshot_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]


class Shop:
    """A receiver that fails so many times and then works."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.told: list[str] = []

    def __call__(self, notice_id: str, **news) -> None:
        self.told.append(notice_id)
        if self.failures:
            self.failures -= 1
            raise ValueError("the stock of 4111111111111111 is empty")


@pytest.fixture
def open_shop():
    """Connect a shop to a signal for the length of a test."""
    shops = []

    def connect(signal=signals.payment_paid, **values) -> Shop:
        shop = Shop(**values)
        signal.connect(shop)
        shops.append((signal, shop))
        return shop

    yield connect
    for signal, shop in shops:
        signal.disconnect(shop)


def pay(payment: Payment) -> None:
    receive_webhook("scripted", message(payment, PaymentStatus.PAID))


def record_only(payment: Payment, status: PaymentStatus) -> None:
    """Write the facts and die before anybody is told."""
    ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, status),
        account=account_of(registry["scripted"]),
        source=Source.WEBHOOK,
    )


def make_due() -> None:
    Notice.objects.update(due_at=timezone.now() - timedelta(seconds=1))


def test_a_receiver_gets_the_payment_the_fact_and_a_stable_id(listen):
    heard = listen("payment_paid")
    payment = new_payment()
    pay(payment)
    (news,) = heard
    notice = Notice.objects.get()
    assert news["payment"] == payment
    assert news["payment"].status == PaymentStatus.PAID
    assert news["transaction"] == payment.transactions.get()
    assert news["notice_id"] == str(notice.uuid)
    assert news["sender"] is Payment
    assert notice.state == NoticeState.DELIVERED
    assert notice.delivered_at is not None


def test_a_notice_is_delivered_once(listen):
    heard = listen("payment_paid", "payment_status_changed")
    payment = new_payment()
    for _ in range(3):
        pay(payment)
        assert deliver_notices() == 0
    make_due()
    assert reconcile_later().notices == 0
    assert len(heard) == 2


@pytest.mark.django_db(transaction=True)
def test_no_disk_is_waited_for_to_write_down_that_the_shop_was_told():
    is_able = connection.vendor == "postgresql"
    with CaptureQueriesContext(connection) as queries:
        pay(new_payment())
    *before, mark = [query["sql"] for query in queries]
    assert "synchronous_commit" not in "".join(before)
    assert ("synchronous_commit" in mark) == is_able
    notice = Notice.objects.get()
    assert notice.state == NoticeState.DELIVERED
    # What a caller writes in the same transaction must not be lost with it.
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        ledger.conclude_notices([notice])
    assert "synchronous_commit" not in str(queries.captured_queries)
    if is_able:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("on",)


def test_the_change_of_status_is_told_before_what_it_means(listen):
    heard = listen("payment_paid", "payment_status_changed")
    pay(new_payment())
    assert [news["name"] for news in heard] == [
        "payment_status_changed",
        "payment_paid",
    ]
    assert len({news["notice_id"] for news in heard}) == 1


def test_notices_come_in_the_order_of_the_facts(listen):
    heard = listen("payment_status_changed")
    first, second = new_payment(), new_payment()
    record_only(second, PaymentStatus.AUTHORIZED)
    record_only(first, PaymentStatus.PAID)
    record_only(second, PaymentStatus.PAID)
    assert deliver_notices() == 3
    assert [news["payment"] for news in heard] == [second, first, second]


def test_a_receiver_that_raises_undoes_nothing_and_stops_nobody(open_shop, caplog):
    bad, good = open_shop(failures=1), open_shop()
    payment = new_payment()
    pay(payment)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert len(bad.told) == len(good.told) == 1
    notice = Notice.objects.get()
    assert notice.state == NoticeState.WAITING
    assert notice.due_at > timezone.now()
    assert "Shop" in notice.error
    assert "4111111111111111" not in notice.error
    assert [
        record.levelno for record in caplog.records if "Shop" in record.message
    ] == [logging.ERROR]


def test_a_failed_notice_comes_again_to_everybody_with_the_same_id(open_shop):
    bad, good = open_shop(failures=2), open_shop()
    pay(new_payment())
    for _ in range(3):
        make_due()
        deliver_notices()
    assert len(bad.told) == len(good.told) == 3
    assert len({*bad.told, *good.told}) == 1
    notice = Notice.objects.get()
    assert notice.state == NoticeState.DELIVERED
    assert notice.error == ""
    assert notice.attempts == 3


def test_a_notice_that_keeps_failing_comes_less_and_less_often(open_shop):
    open_shop(failures=99)
    pay(new_payment())
    waits = []
    for _ in range(len(ledger.NOTICE_DELAYS) + 2):
        notice = Notice.objects.get()
        waits.append(round((notice.due_at - timezone.now()).total_seconds() / 60))
        assert deliver_notices() == 0
        make_due()
        deliver_notices()
    assert waits == [1, 5, 30, 120, 720, 720, 720]


def test_a_receiver_without_a_name_may_raise_too(open_shop):
    def receiver(problem: Exception, **news) -> None:
        raise problem

    nameless = functools.partial(receiver, ValueError("no"))
    signals.payment_paid.connect(nameless)
    try:
        good = open_shop()
        pay(new_payment())
    finally:
        signals.payment_paid.disconnect(nameless)
    assert len(good.told) == 1
    assert "partial: ValueError" in Notice.objects.get().error


def test_one_bad_notice_does_not_hold_the_others_up(open_shop):
    shop = open_shop(failures=1)
    first, second = new_payment(), new_payment()
    record_only(first, PaymentStatus.PAID)
    record_only(second, PaymentStatus.PAID)
    assert deliver_notices() == 1
    assert len(set(shop.told)) == 2


def test_a_crash_between_commit_and_delivery_loses_nothing(listen):
    heard = listen("payment_paid")
    record_only(new_payment(), PaymentStatus.PAID)
    assert not heard
    assert reconcile_later().notices == 1
    assert len(heard) == 1


def test_a_dispatcher_that_died_is_replaced_when_its_lease_ends(listen):
    heard = listen("payment_paid")
    record_only(new_payment(), PaymentStatus.PAID)
    assert len(ledger.claim_notices(10)) == 1
    assert deliver_notices() == 0
    assert not heard
    make_due()
    assert deliver_notices() == 1
    assert len(heard) == 1


def test_two_dispatchers_never_have_the_same_notice():
    for _ in range(4):
        record_only(new_payment(), PaymentStatus.PAID)
    mine, theirs = ledger.claim_notices(2), ledger.claim_notices(10)
    assert len(mine) == len(theirs) == 2
    assert not {notice.pk for notice in mine} & {notice.pk for notice in theirs}


def test_a_run_delivers_no_more_than_it_is_asked_to(listen):
    heard = listen("payment_paid")
    for _ in range(3):
        record_only(new_payment(), PaymentStatus.PAID)
    assert deliver_notices(limit=2) == 2
    assert len(heard) == 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (PaymentStatus.PAID, ["payment_paid", "payment_status_changed"]),
        (PaymentStatus.FAILED, ["payment_failed", "payment_status_changed"]),
        (PaymentStatus.CANCELED, ["payment_failed", "payment_status_changed"]),
        (PaymentStatus.EXPIRED, ["payment_failed", "payment_status_changed"]),
        (PaymentStatus.AUTHORIZED, ["payment_status_changed"]),
        (PaymentStatus.AWAITING_FUNDS, ["payment_status_changed"]),
        (PaymentStatus.IN_REVIEW, ["payment_needs_review", "payment_status_changed"]),
    ],
)
def test_each_fact_has_its_signals(listen, status, expected):
    names = ("payment_paid", "payment_failed", "payment_needs_review")
    heard = listen(*names, "payment_refunded", "payment_status_changed")
    record_only(new_payment(), status)
    deliver_notices()
    assert sorted(news["name"] for news in heard) == expected


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_receiver_runs(listen):
    depths = []

    def receiver(**news) -> None:
        depths.append(transaction.get_connection().in_atomic_block)

    signals.payment_paid.connect(receiver)
    try:
        pay(new_payment())
    finally:
        signals.payment_paid.disconnect(receiver)
    assert depths == [False]


@pytest.mark.django_db(transaction=True)
def test_a_receiver_may_roll_its_own_work_back_and_start_another_payment(scripted):
    started = []

    def receiver(payment: Payment, **news) -> None:
        with transaction.atomic():
            Payment.objects.update(description="by the receiver")
            transaction.set_rollback(True)
        follow_up = new_payment(order_id="1002")
        started.append(start_payment(follow_up))

    signals.payment_paid.connect(receiver)
    try:
        pay(new_payment())
    finally:
        signals.payment_paid.disconnect(receiver)
    assert len(started) == 1
    assert scripted.calls_in_a_transaction == []
    assert not Payment.objects.filter(description="by the receiver").exists()
    assert Payment.objects.get(order_id="1001").status == PaymentStatus.PAID


@pytest.mark.django_db(transaction=True)
def test_news_of_a_newer_version_wait_for_it_and_hold_up_no_others(listen):
    heard = listen("payment_paid")
    first, second = new_payment(), new_payment()
    for payment in (first, second):
        ledger.apply_snapshot(
            payment.pk,
            snapshot_of(payment, PaymentStatus.PAID),
            account=account_of(registry["scripted"]),
            source=Source.SYNC,
        )
    Notice.objects.filter(payment=first).update(signals=["payment_teleported"])
    assert deliver_notices() == 1
    assert [news["payment"] for news in heard] == [second]
    waiting = Notice.objects.get(payment=first)
    assert waiting.state == NoticeState.WAITING
    assert "payment_teleported" in waiting.error


def test_a_rollback_of_facts_takes_their_notice_along(monkeypatch, listen):
    heard = listen("payment_paid")
    payment = new_payment()

    def crash(*args, **kwargs) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_write_notices", crash)
        with pytest.raises(KeyboardInterrupt):
            pay(payment)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.CREATED
    assert not payment.transactions.exists()
    # Nothing was answered, so the provider sends it again.
    assert not WebhookDelivery.objects.exists()
    pay(payment)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert len(heard) == 1
