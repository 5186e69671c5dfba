"""The shop's other systems hear of every fact: each event once, or again until taken.

Time is moved forward in the rows; nothing waits. Where it is about what is written down,
a scripted receiver stands in for the wire; over the wire goes what is about the wire.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from moneyed import Money
from standardwebhooks import Webhook

from django_multipay import outgoing, signals, tasks
from django_multipay.enums import (
    EndpointDeliveryState,
    EndpointStatus,
    EndpointTrouble,
    NoticeState,
    PaymentStatus,
    Source,
)
from django_multipay.exceptions import InvalidOperation
from django_multipay.flows import (
    create_endpoint,
    deliver_endpoints,
    deliver_notices,
    disable_endpoint,
    enable_endpoint,
    reconcile,
    refund_payment,
    resend_since,
    reveal_secret,
    rotate_secret,
    send_now,
    send_test_event,
)
from django_multipay.flows import endpoints as flow
from django_multipay.ledger import Account, apply_snapshot, claim_notices
from django_multipay.ledger import endpoints as ledger
from django_multipay.messages import Buyer
from django_multipay.models import Endpoint, EndpointDelivery, Notice, Payment
from django_multipay.models.endpoint import deliveries_written
from django_multipay.outgoing import Receipt
from tests.flows.scripted import (
    ACCOUNT,
    ObligingProvider,
    account_settings,
    new_payment,
    snapshot_of,
)
from tests.flows.test_races import at_once
from tests.test_http import Server, always

pytestmark = pytest.mark.django_db

URL = "https://hooks.example/multipay"
TAKEN = Receipt(status=200)
BROKEN = Receipt(status=500, error="the endpoint answered 500")
SILENT = Receipt(status=None, error="could not connect, nothing was sent")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WAITING, DELIVERED, FAILED = (
    EndpointDeliveryState.WAITING,
    EndpointDeliveryState.DELIVERED,
    EndpointDeliveryState.FAILED,
)


class Receivers:
    """What stands at the other end of every endpoint: it answers as a test says."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}

    def __call__(self, url: str, **sent: Any) -> Receipt:
        self.heard.append({"url": url, **sent})
        answer = self.answers.get(url, TAKEN)
        return answer(sent) if callable(answer) else answer

    @property
    def types(self) -> list[str]:
        return [json.loads(sent["body"])["type"] for sent in self.heard]

    @property
    def ids(self) -> list[str]:
        return [sent["event_id"] for sent in self.heard]


@pytest.fixture(autouse=True)
def accounts(settings):
    settings.MULTIPAY = account_settings(scripted=ObligingProvider)


@pytest.fixture
def receivers(monkeypatch):
    found = Receivers()
    monkeypatch.setattr(flow, "send_event", found)
    return found


def fact(payment: Payment, status: PaymentStatus, **changes: Any) -> None:
    """Let the provider say so; nobody is told yet."""
    apply_snapshot(
        payment.pk,
        snapshot_of(payment, status, **changes),
        account=Account(alias="scripted", account=ACCOUNT, is_live=None),
        source=Source.WEBHOOK,
    )


def paid(**changes: Any) -> Payment:
    payment = new_payment(**changes)
    fact(payment, PaymentStatus.PAID)
    deliver_notices()
    return payment


def later(**shift: int) -> None:
    """Move time forward for everything that waits for an endpoint."""
    by = timedelta(**shift)
    for delivery in EndpointDelivery.objects.filter(state=WAITING):
        EndpointDelivery.objects.filter(pk=delivery.pk).update(
            due_at=delivery.due_at - by
        )
    for endpoint in Endpoint.objects.all():
        Endpoint.objects.filter(pk=endpoint.pk).update(
            failing_since=endpoint.failing_since and endpoint.failing_since - by,
            paused_until=endpoint.paused_until and endpoint.paused_until - by,
        )


def body_of(delivery: EndpointDelivery) -> Any:
    return json.loads(delivery.body)


# What is told -------------------------------------------------------------------------


def test_a_fact_becomes_one_event_for_each_of_its_signals(receivers):
    endpoint = create_endpoint(URL)
    payment = paid()
    first, second = endpoint.deliveries.order_by("id")
    notice = Notice.objects.get()
    assert (first.event_type, second.event_type) == (
        "payment.status_changed",
        "payment.paid",
    )
    assert first.event_id != second.event_id
    assert first.notice == second.notice == notice
    assert body_of(second) == {
        "id": second.event_id,
        "type": "payment.paid",
        "timestamp": notice.created_at.isoformat(),
        "data": {
            "payment": {
                "uuid": str(payment.uuid),
                "order_id": "1001",
                "provider": "scripted",
                "status": "paid",
                "currency": "USD",
                "amount": "26.30",
                "amount_minor": 2630,
                "captured": "26.30",
                "captured_minor": 2630,
                "refunded": "0.00",
                "refunded_minor": 0,
                "decline_code": "",
                "review_reason": "",
            },
            "transaction": {
                "kind": "capture",
                "currency": "USD",
                "amount": "26.30",
                "amount_minor": 2630,
            },
        },
    }
    assert deliver_endpoints() == 2
    assert receivers.ids == [first.event_id, second.event_id]
    assert {sent["url"] for sent in receivers.heard} == {URL}


def test_a_refund_is_told_with_its_amount(receivers):
    create_endpoint(URL, events=["refund.status_changed", "payment.refunded"])
    payment = paid(amount=Money(50000, "KRW"))
    refund = refund_payment(payment, Money(20000, "KRW"), reason="broken")
    told = {
        one.event_type: body_of(one)["data"] for one in EndpointDelivery.objects.all()
    }
    fact, step = told["payment.refunded"], told["refund.status_changed"]
    assert fact["transaction"] == {
        "kind": "refund",
        "currency": "KRW",
        "amount": "20000",
        "amount_minor": 20000,
    }
    assert fact["payment"]["refunded"] == "20000"
    assert fact["payment"]["status"] == "partially_refunded"
    assert step["refund"] == {
        "uuid": str(refund.uuid),
        "status": "succeeded",
        "currency": "KRW",
        "amount": "20000",
        "amount_minor": 20000,
    }


def test_every_signal_has_its_type_of_event():
    sent = [
        name
        for name, item in vars(signals).items()
        if isinstance(item, signals.NoticeSignal)
    ]
    assert len(flow.EVENT_TYPES) == len(sent) >= 9
    assert {"payment.paid", "refund.status_changed", "plan.charged"} <= {
        *flow.EVENT_TYPES
    }


def test_an_event_holds_neither_personal_data_nor_secrets(receivers):
    create_endpoint(URL)
    payment = paid(
        buyer=Buyer(name="Canary", email="canary@example.com", phone="+canary"),
        customer_id="canary-customer",
        description="canary description",
        metadata={"canary": "canary"},
        success_url="/canary/",
    )
    refund_payment(payment, Money("1.00", "USD"), reason="canary", by="canary")
    bodies = " ".join(EndpointDelivery.objects.values_list("body", flat=True))
    assert str(payment.uuid) in bodies
    assert "canary" not in bodies.lower()
    assert payment.merchant_reference not in bodies


def test_an_endpoint_hears_of_what_it_asked_for(receivers):
    create_endpoint("https://a.example/", events=["payment.paid"])
    create_endpoint("https://b.example/", events=["refund.status_changed"])
    create_endpoint("https://c.example/")
    disable_endpoint(create_endpoint("https://d.example/"))
    paid()
    told = Counter(EndpointDelivery.objects.values_list("endpoint__url", flat=True))
    assert told == {"https://a.example/": 1, "https://c.example/": 2}


def test_one_event_has_one_id_at_every_endpoint(receivers):
    for name in "ab":
        create_endpoint(f"https://{name}.example/", events=["payment.paid"])
    paid()
    assert EndpointDelivery.objects.count() == 2
    assert EndpointDelivery.objects.values("event_id").distinct().count() == 1


def test_who_tells_nobody_writes_nothing(receivers, django_assert_num_queries):
    fact(new_payment(), PaymentStatus.PAID)
    notices = claim_notices(10)
    with django_assert_num_queries(1):
        assert flow.tell_endpoints(notices) == {}
    with django_assert_num_queries(0):
        assert flow.tell_endpoints([]) == {}


# None is lost, none is written twice ------------------------------------------------------


def test_a_notice_that_comes_again_writes_nothing_again(receivers, listen):
    create_endpoint(URL)
    heard = listen("payment_paid")
    fact(new_payment(), PaymentStatus.PAID)
    # Claimed and told, then the dispatcher dies before it concludes.
    (notice,) = claim_notices(10)
    flow.tell_endpoints([notice])
    assert EndpointDelivery.objects.count() == 2
    before = [*EndpointDelivery.objects.values("id", "event_id", "body")]
    Notice.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert deliver_notices() == 1
    assert len(heard) == 1
    assert [*EndpointDelivery.objects.values("id", "event_id", "body")] == before


def test_a_dispatcher_that_dies_before_it_wrote_loses_nothing(receivers):
    create_endpoint(URL)
    fact(new_payment(), PaymentStatus.PAID)
    assert len(claim_notices(10)) == 1
    assert deliver_notices() == 0
    Notice.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert deliver_notices() == 1
    assert EndpointDelivery.objects.count() == 2


def test_a_receiver_that_raises_keeps_nothing_from_the_endpoints(receivers, caplog):
    create_endpoint(URL, events=["payment.paid"])

    def broken(**news: Any) -> None:
        raise ValueError("no")

    signals.payment_paid.connect(broken)
    try:
        paid()
        for _ in range(2):
            Notice.objects.update(due_at=timezone.now() - timedelta(seconds=1))
            deliver_notices()
    finally:
        signals.payment_paid.disconnect(broken)
    assert Notice.objects.get().state == NoticeState.WAITING
    assert deliver_endpoints() == 1
    assert len(receivers.heard) == 1


def test_what_cannot_be_put_in_words_comes_again_and_stops_nobody(
    receivers, listen, monkeypatch, caplog
):
    create_endpoint(URL, events=["payment.paid"])
    heard = listen("payment_paid")
    bad, good = new_payment(), new_payment(order_id="1002")
    for payment in (bad, good):
        fact(payment, PaymentStatus.PAID)
    original = flow._said_of_payment

    def said(payment: Payment | None) -> dict[str, Any]:
        if payment == bad:
            raise ValueError("4111111111111111")
        return original(payment)

    with monkeypatch.context() as patch:
        patch.setattr(flow, "_said_of_payment", said)
        assert deliver_notices() == 1
    assert len(heard) == 2
    assert "endpoints: ValueError" in Notice.objects.get(payment=bad).error
    assert EndpointDelivery.objects.get().notice.payment == good
    Notice.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert deliver_notices() == 1
    assert EndpointDelivery.objects.count() == 2


def test_a_database_that_fails_there_keeps_no_receiver_waiting(
    receivers, listen, monkeypatch, caplog
):
    create_endpoint(URL)
    heard = listen("payment_paid")

    def broken(*arguments: Any) -> int:
        raise RuntimeError("no")

    monkeypatch.setattr(ledger, "fan_out", broken)
    paid()
    assert len(heard) == 1
    assert Notice.objects.get().error == "endpoints: RuntimeError"


def test_the_database_takes_no_event_twice_for_an_endpoint(receivers):
    create_endpoint(URL, events=["payment.paid"])
    paid()
    again = EndpointDelivery.objects.get()
    again.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        again.save(force_insert=True)


@pytest.mark.django_db(transaction=True)
def test_eight_dispatchers_that_write_one_notice_write_it_once(receivers):
    create_endpoint(URL)
    fact(new_payment(), PaymentStatus.PAID)
    (notice,) = claim_notices(1)
    assert at_once([lambda: flow.tell_endpoints([notice])] * 8) == [{}] * 8
    assert EndpointDelivery.objects.count() == 2


# Sending ------------------------------------------------------------------------------


def test_what_was_taken_is_not_sent_again(receivers):
    create_endpoint(URL, events=["payment.paid"])
    paid()
    assert deliver_endpoints() == 1
    later(days=9)
    assert deliver_endpoints() == 0
    delivery = EndpointDelivery.objects.get()
    assert delivery.state == DELIVERED
    assert delivery.delivered_at is not None
    assert (delivery.attempts, delivery.last_status, delivery.error) == (1, 200, "")


def test_what_was_refused_is_sent_again_less_and_less_often_for_three_days(receivers):
    create_endpoint(URL, events=["payment.paid"])
    receivers.answers[URL] = BROKEN
    paid()
    waits = []
    for _ in range(9):
        assert deliver_endpoints() == 0
        delivery = EndpointDelivery.objects.get()
        assert delivery.state == WAITING
        assert delivery.error == BROKEN.error
        assert delivery.last_status == 500
        wait = delivery.due_at - timezone.now()
        waits.append(wait)
        sent = len(receivers.heard)
        later(seconds=round(wait.total_seconds() * 9 / 10) - 2)
        deliver_endpoints()
        assert len(receivers.heard) == sent, "too early"
        later(days=1)
        Endpoint.objects.update(failing_since=timezone.now())
    assert deliver_endpoints() == 0
    for wait, delay in zip(waits, ledger.ENDPOINT_DELAYS, strict=True):
        spread = delay * ledger.JITTER / 100 + timedelta(seconds=5)
        assert delay - spread < wait < delay + spread
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == (FAILED, 10)
    assert len(receivers.heard) == 10
    assert len(set(receivers.ids)) == 1
    assert (
        timedelta(days=2, hours=22)
        < sum(ledger.ENDPOINT_DELAYS, timedelta())
        < timedelta(days=3, hours=2)
    )


def test_failures_spread(receivers, monkeypatch):
    create_endpoint(URL, events=["payment.paid"])
    receivers.answers[URL] = BROKEN
    monkeypatch.setattr(ledger, "ENDPOINT_DELAYS", (timedelta(hours=10),))
    for _ in range(8):
        paid()
    deliver_endpoints()
    due = EndpointDelivery.objects.values_list("due_at", flat=True)
    # Two hours of room: that eight of them fall within a minute is no accident.
    assert max(due) - min(due) > timedelta(minutes=1)


def test_a_receiver_that_asks_for_a_rest_gets_it(receivers):
    create_endpoint(URL)
    busy = Receipt(status=429, error="the endpoint answered 429", retry_after=1200)
    receivers.answers[URL] = busy
    paid()
    deliver_endpoints()
    # The second event would be due; the endpoint is not.
    assert len(receivers.heard) == 1
    receivers.answers.clear()
    later(minutes=19)
    assert deliver_endpoints() == 0
    later(minutes=2)
    assert deliver_endpoints() == 2
    assert Endpoint.objects.get().paused_until is None


def test_an_endpoint_that_does_not_answer_delays_nobody_else(receivers):
    dead, well = "https://dead.example/", "https://well.example/"
    receivers.answers[dead] = SILENT
    for url in (dead, well):
        create_endpoint(url, events=["payment.paid"])
    for _ in range(5):
        paid()
    assert deliver_endpoints() == 5
    assert deliver_endpoints() == 0
    assert [sent["url"] for sent in receivers.heard].count(dead) == 1
    later(minutes=2)
    paid()
    assert deliver_endpoints() == 1
    # The one in trouble comes last, however long it has waited.
    assert [sent["url"] for sent in receivers.heard][-2:] == [well, dead]


def test_endpoints_take_turns(receivers):
    for name in "abc":
        create_endpoint(f"https://{name}.example/", events=["payment.paid"])
    for _ in range(3):
        paid()
    assert deliver_endpoints(limit=3) == 3
    assert len({sent["url"] for sent in receivers.heard}) == 3
    assert deliver_endpoints(limit=2) == 2
    assert deliver_endpoints(budget=timedelta()) == 0
    assert deliver_endpoints() == 4
    assert (
        len(set(zip([s["url"] for s in receivers.heard], receivers.ids, strict=True)))
        == 9
    )


def test_an_endpoint_that_is_gone_is_disabled_at_once(receivers, caplog):
    endpoint = create_endpoint(URL)
    receivers.answers[URL] = Receipt(status=410, error="the endpoint answered 410")
    paid()
    deliver_endpoints()
    endpoint.refresh_from_db()
    assert endpoint.status == EndpointStatus.DISABLED
    assert endpoint.disabled_reason == EndpointTrouble.GONE
    assert len(receivers.heard) == 1
    later(days=1)
    assert deliver_endpoints() == 0
    assert len(receivers.heard) == 1
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [str(endpoint.uuid) in record.message for record in errors] == [True]


def test_five_days_of_nothing_but_failures_disable_an_endpoint(receivers, caplog):
    endpoint = create_endpoint(URL)
    receivers.answers[URL] = SILENT
    paid()
    deliver_endpoints()
    later(days=4, hours=23)
    deliver_endpoints()
    endpoint.refresh_from_db()
    assert endpoint.status == EndpointStatus.ENABLED
    later(hours=2)
    paid()
    deliver_endpoints()
    endpoint.refresh_from_db()
    assert endpoint.status == EndpointStatus.DISABLED
    assert endpoint.disabled_reason == EndpointTrouble.FAILING


def test_one_success_ends_the_count(receivers):
    endpoint = create_endpoint(URL, events=["payment.paid"])
    receivers.answers[URL] = BROKEN
    paid()
    deliver_endpoints()
    later(days=4)
    receivers.answers.clear()
    assert deliver_endpoints() == 1
    endpoint.refresh_from_db()
    assert endpoint.failing_since is None
    receivers.answers[URL] = BROKEN
    paid()
    later(days=2)
    deliver_endpoints()
    endpoint.refresh_from_db()
    assert endpoint.status == EndpointStatus.ENABLED


def test_a_secret_is_changed_in_no_transaction_that_could_take_it_back():
    endpoint = create_endpoint(URL)
    before = endpoint.live_secrets
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        rotate_secret(endpoint)
    endpoint.refresh_from_db()
    assert endpoint.live_secrets == before


def test_what_waits_for_a_disabled_endpoint_goes_out_when_it_is_enabled(receivers):
    endpoint = create_endpoint(URL, events=["payment.paid"])
    paid()
    disable_endpoint(endpoint)
    assert endpoint.disabled_reason == EndpointTrouble.STAFF
    paid()
    assert deliver_endpoints() == 0
    enable_endpoint(endpoint)
    assert (endpoint.status, endpoint.disabled_reason) == ("enabled", "")
    assert deliver_endpoints() == 1
    # What happened meanwhile was not written down.
    assert resend_since(endpoint, timezone.now() - timedelta(days=1)) == 2
    assert deliver_endpoints() == 2
    assert len(receivers.heard) == 3
    assert len(set(receivers.ids)) == 2


def test_reconcile_sends_what_waits(receivers):
    create_endpoint(URL, events=["payment.paid"])
    fact(new_payment(), PaymentStatus.PAID)
    assert reconcile(dry_run=True).loops["endpoints"] == 0
    assert reconcile().loops["endpoints"] == 1
    assert len(receivers.heard) == 1
    assert reconcile().loops["endpoints"] == 0


def test_whoever_runs_an_engine_is_woken_up(receivers):
    woken = []

    def wake(**details: Any) -> None:
        woken.append(EndpointDelivery.objects.count())

    deliveries_written.connect(wake)
    try:
        paid()
        assert woken == []
        create_endpoint(URL, events=["payment.paid"])
        paid()
    finally:
        deliveries_written.disconnect(wake)
    assert woken == [1]


# Never two at the same time --------------------------------------------------------------


def rivals(receivers: Receivers, count: int) -> Counter[str]:
    """Let ``count`` workers send what waits; return how often each event was sent."""
    at_once([deliver_endpoints] * count)
    return Counter(receivers.ids)


@pytest.mark.django_db(transaction=True)
def test_four_workers_send_each_event_once(receivers):
    create_endpoint(URL)
    for _ in range(4):
        paid()
    sent = rivals(receivers, 4)
    assert len(sent) == 8
    assert set(sent.values()) == {1}
    assert not EndpointDelivery.objects.exclude(state=DELIVERED).exists()


@pytest.mark.django_db(transaction=True)
def test_twin_without_the_claim_events_are_sent_several_times(receivers, monkeypatch):
    def unclaimed(endpoint: Endpoint, delivery_id: Any = None) -> Any:
        due = ledger.due_endpoint_deliveries().filter(endpoint=endpoint)
        return due.select_related("endpoint").first()

    monkeypatch.setattr(ledger, "claim_endpoint_delivery", unclaimed)
    monkeypatch.setattr(
        ledger, "conclude_endpoint_delivery", lambda delivery, **said: None
    )
    create_endpoint(URL, events=["payment.paid"])
    paid()
    at_once([lambda: deliver_endpoints(limit=1)] * 4)
    assert len(receivers.heard) == 4


def test_nobody_takes_what_another_is_sending(receivers):
    endpoint = create_endpoint(URL, events=["payment.paid"])
    paid()
    claimed = ledger.claim_endpoint_delivery(endpoint)
    assert claimed is not None
    assert deliver_endpoints() == 0
    send_now(claimed)
    assert resend_since(endpoint, timezone.now() - timedelta(days=1)) == 0
    assert deliver_endpoints() == 0
    assert receivers.heard == []
    # Its lease ends: it is taken for dead.
    later(minutes=6)
    assert deliver_endpoints() == 1
    # The dead one was only slow, and its attempt failed: too late to count.
    assert ledger.conclude_endpoint_delivery(claimed, status=500, error="no") is None
    claimed.refresh_from_db()
    assert claimed.state == DELIVERED
    assert Endpoint.objects.get().failing_since is None


def test_a_slow_success_counts_even_after_the_lease(receivers):
    endpoint = create_endpoint(URL, events=["payment.paid"])
    paid()
    slow = ledger.claim_endpoint_delivery(endpoint)
    later(minutes=6)
    receivers.answers[URL] = BROKEN
    deliver_endpoints()
    assert slow is not None
    ledger.conclude_endpoint_delivery(slow, status=200)
    assert EndpointDelivery.objects.get().state == DELIVERED


def test_a_worker_that_dies_after_sending_is_followed_by_one_with_the_same_id(
    receivers, monkeypatch
):
    create_endpoint(URL, events=["payment.paid"])
    paid()

    def die(*arguments: Any, **said: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "conclude_endpoint_delivery", die)
        with pytest.raises(KeyboardInterrupt):
            deliver_endpoints()
    assert deliver_endpoints() == 0
    later(minutes=6)
    assert deliver_endpoints() == 1
    first, second = receivers.heard
    assert first["event_id"] == second["event_id"]
    assert first["body"] == second["body"]


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_an_event_is_sent(receivers):
    depths = []
    receivers.answers[URL] = lambda sent: (
        depths.append(connection.in_atomic_block) or TAKEN
    )
    endpoint = create_endpoint(URL, events=["payment.paid"])
    paid()
    deliver_endpoints()
    send_test_event(endpoint)
    assert depths == [False, False]


# Over the wire ----------------------------------------------------------------------------


@pytest.fixture
def at_home(settings: Any) -> Iterator[None]:
    settings.MULTIPAY |= {"ENDPOINTS": {"ALLOW_PRIVATE": True}}
    outgoing._client.cache_clear()
    yield
    outgoing._client().close()
    outgoing._client.cache_clear()


def test_what_arrives_is_verified_by_the_package_of_the_standard(at_home):
    with Server(always(OK)) as server:
        endpoint = create_endpoint(f"{server.url}/hooks")
        payment = paid(order_id="차-1001")
        assert deliver_endpoints() == 2
        old = endpoint.live_secrets[0]
        new = rotate_secret(endpoint)
        assert send_test_event(endpoint).state == DELIVERED
    changed, is_paid, test = server.received
    for received in (changed, is_paid):
        said = Webhook(old).verify(received.body, dict(received.headers))
        assert said["data"]["payment"]["uuid"] == str(payment.uuid)
        assert said["data"]["payment"]["order_id"] == "차-1001"
        assert [said["id"]] == received.header("webhook-id")
    for secret in (old, new):
        said = Webhook(secret).verify(test.body, dict(test.headers))
        assert said["type"] == "endpoint.test"


# Secrets ------------------------------------------------------------------------------


def test_secrets_are_long_random_and_encrypted_at_rest():
    endpoint, other = create_endpoint(URL), create_endpoint(URL)
    (secret,) = endpoint.live_secrets
    assert [secret] != other.live_secrets
    Webhook(secret)
    assert len(secret.removeprefix("whsec_")) == 44
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM multipay_endpoint")
        stored = str(cursor.fetchall())
    assert secret not in stored
    assert "whsec_" not in stored


def test_an_old_secret_signs_on_for_a_day(receivers):
    endpoint = create_endpoint(URL)
    (old,) = endpoint.live_secrets
    new = rotate_secret(endpoint)
    assert endpoint.live_secrets == [new, old]
    kept = endpoint.secrets
    kept[1]["retires_at"] = (timezone.now() - timedelta(seconds=1)).isoformat()
    Endpoint.objects.filter(pk=endpoint.pk).update(secrets=kept)
    endpoint.refresh_from_db()
    assert endpoint.live_secrets == [new]


def test_a_secret_that_leaked_signs_nothing_more(receivers):
    endpoint = create_endpoint(URL)
    new = rotate_secret(endpoint, keep_for=timedelta())
    assert endpoint.live_secrets == [new]


def test_of_many_secrets_the_oldest_are_dropped():
    endpoint = create_endpoint(URL)
    made = [rotate_secret(endpoint) for _ in range(7)]
    assert endpoint.live_secrets == made[:1:-1]


def test_a_secret_is_shown_once():
    endpoint = create_endpoint(URL)
    assert reveal_secret(endpoint) == endpoint.live_secrets[0]
    assert reveal_secret(endpoint) is None
    new = rotate_secret(endpoint)
    assert reveal_secret(endpoint) == new
    assert reveal_secret(endpoint) is None


def test_a_secret_that_no_key_opens_stops_its_endpoint_only(receivers, settings):
    broken = create_endpoint("https://broken.example/", events=["payment.paid"])
    settings.MULTIPAY |= {"ENCRYPTION_KEYS": ["a quite new key of this test"]}
    create_endpoint("https://well.example/", events=["payment.paid"])
    paid()
    assert deliver_endpoints() == 1
    delivery = broken.deliveries.get()
    assert delivery.state == WAITING
    assert "ENCRYPTION_KEYS" in delivery.error
    broken = Endpoint.objects.defer("secrets").get(pk=broken.pk)
    rotate_secret(broken)
    assert send_now(delivery).state == DELIVERED


# By hand ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [DELIVERED, FAILED, WAITING])
def test_a_single_delivery_can_be_sent_again(receivers, state):
    create_endpoint(URL, events=["payment.paid"])
    paid()
    EndpointDelivery.objects.update(
        state=state,
        attempts=7,
        error="no",
        due_at=timezone.now() + timedelta(hours=9),
    )
    delivery = send_now(EndpointDelivery.objects.get())
    assert (delivery.state, delivery.attempts) == (DELIVERED, 1)
    assert receivers.ids == [delivery.event_id]


def test_a_failed_attempt_by_hand_begins_the_schedule_anew(receivers):
    create_endpoint(URL, events=["payment.paid"])
    paid()
    EndpointDelivery.objects.update(state=FAILED, attempts=10, error="no")
    receivers.answers[URL] = BROKEN
    delivery = send_now(EndpointDelivery.objects.get())
    assert (delivery.state, delivery.attempts) == (WAITING, 1)
    assert delivery.due_at - timezone.now() < timedelta(seconds=6)


def test_everything_since_a_moment_is_sent_again_and_nothing_older(receivers):
    paid(order_id="too old")
    Notice.objects.update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
    early = create_endpoint(URL, events=["payment.paid"])
    paid(order_id="before")
    deliver_endpoints()
    late = create_endpoint("https://late.example/", events=["payment.paid"])
    paid(order_id="after")
    deliver_endpoints()
    send_test_event(late)
    receivers.heard.clear()
    since = timezone.now() - timedelta(hours=1)
    assert resend_since(late, since) == 2
    assert deliver_endpoints() == 2
    said = [json.loads(sent["body"]) for sent in receivers.heard]
    assert {one["data"]["payment"]["order_id"] for one in said} == {"before", "after"}
    assert {sent["url"] for sent in receivers.heard} == {late.url}
    assert early.deliveries.exclude(state=DELIVERED).count() == 0


def test_a_test_event_goes_to_one_endpoint_whatever_it_hears_of(receivers):
    create_endpoint("https://other.example/")
    endpoint = create_endpoint(URL, events=["payment.paid"])
    delivery = send_test_event(endpoint)
    assert (delivery.state, delivery.event_type) == (DELIVERED, "endpoint.test")
    assert [sent["url"] for sent in receivers.heard] == [URL]
    assert body_of(delivery)["data"] == {}
    disable_endpoint(endpoint)
    with pytest.raises(InvalidOperation, match="disabled"):
        send_test_event(endpoint)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"url": "http://hooks.example/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": ""}, "url"),
        ({"url": URL, "events": ["payment.unknown"]}, "events"),
        ({"url": URL, "events": ["endpoint.test"]}, "events"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_entered(values, field):
    with pytest.raises(InvalidOperation) as caught:
        create_endpoint(**values)
    assert caught.value.field == field
    assert not Endpoint.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_inside_of_a_transaction(receivers):
    endpoint = create_endpoint(URL, events=["payment.paid"])
    paid()
    delivery = EndpointDelivery.objects.get()
    acts: list[Callable[[], Any]] = [
        deliver_endpoints,
        lambda: send_test_event(endpoint),
        lambda: send_now(delivery),
        lambda: resend_since(endpoint, timezone.now()),
    ]
    for act in acts:
        with transaction.atomic(), pytest.raises(RuntimeError, match="atomic"):
            act()
    assert receivers.heard == []


def test_a_notice_whose_time_is_over_takes_its_deliveries_along(receivers):
    create_endpoint(URL)
    paid()
    Notice.objects.all().delete()
    assert not EndpointDelivery.objects.exists()


# The engine ------------------------------------------------------------------------------


def test_an_engine_sends_what_was_written(receivers, settings):
    create_endpoint(URL, events=["payment.paid"])
    paid()
    # Where tasks run at once they would run in a buyer's request: nothing is sent.
    assert receivers.heard == []
    # Of the framework, or of its backport: it keeps what it is asked for.
    home = type(tasks.send_events.get_backend()).__module__.rpartition(".")[0]
    settings.TASKS = {"default": {"BACKEND": f"{home}.dummy.DummyBackend"}}
    paid()
    (asked,) = tasks.send_events.get_backend().results
    assert asked.task.func is tasks.send_events.func
    assert receivers.heard == []
    assert tasks.send_events.func() == 2
