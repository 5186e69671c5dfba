"""A message that needs nobody's confirmation: stored, applied and told in one go.

It is one transaction, and the shop hears of it after the answer. Whoever dies on the
way leaves either nothing, or all of it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import resolve
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import (
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    Purpose,
    RefundStatus,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import OutcomeUnknown
from django_multipay.flows import (
    capture_payment,
    notices,
    receive_webhook,
    refund_payment,
    start_payment,
    webhooks,
)
from django_multipay.flows.links import callback_url
from django_multipay.flows.reconcile import reconcile
from django_multipay.ledger import statements
from django_multipay.messages import IncomingRequest, PaymentSnapshot
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Transaction,
    WebhookDelivery,
)
from django_multipay.registry import registry
from django_multipay.signals import payment_paid
from tests.corridor import heard, let_everything_be_due, reconcile_later
from tests.flows.scripted import (
    ScriptedProvider,
    answer_to,
    message,
    new_payment,
)
from tests.flows.test_crash import (
    Killed,
    Point,
    assert_sound,
    cut_connection,
    let_time_pass,
    points,
)
from tests.flows.test_operation_crash import query_about
from tests.flows.test_operation_races import see_one_picture
from tests.flows.test_races import PATIENCE, at_once

pytestmark = pytest.mark.django_db(transaction=True)

PAID = PaymentStatus.PAID


@pytest.fixture(autouse=True)
def provider(obliging: ScriptedProvider) -> ScriptedProvider:
    return obliging


@pytest.fixture
def payment() -> Payment:
    """Its buyer stands before the provider's page."""
    payment = new_payment()
    start_payment(payment)
    return payment


def send(incoming: IncomingRequest) -> Any:
    """POST a message as the provider does; the server closes the answer, as always."""
    return Client(raise_request_exception=False).post(
        "/payments/webhook/scripted/",
        incoming.body,
        content_type=incoming.content_type,
        headers=dict(incoming.headers),
    )


# Dying ----------------------------------------------------------------------------------


MESSAGE = points(
    (ScriptedProvider, "verify_webhook"),
    (ledger, "apply_at_once"),
    (ledger, "_facts"),
    (Transaction, "saved"),
    (Payment, "saved"),
    (ledger, "_write_notices"),
    (Notice, "saved"),
    (WebhookDelivery, "saved"),
    (webhooks, "tell"),
    (notices, "tell_endpoints"),
    (notices, "_send"),
    (ledger, "conclude_notices"),
)


def provider_repeats(payment: Payment) -> None:
    assert send(message(payment, PAID)).status_code == 200


def nobody_comes_again(payment: Payment) -> None:
    """The sweeper is all there is; it can ask."""


@pytest.mark.parametrize(
    "heal", [provider_repeats, nobody_comes_again], ids=lambda heal: heal.__name__
)
@pytest.mark.parametrize("point", MESSAGE, ids=str)
def test_a_message_that_died_anywhere_ends_in_one_payment_and_is_told(
    payment: Payment,
    provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
    point: Point,
    heal: Callable[[Payment], None],
) -> None:
    provider.will("fetch", answer_to(query_about(payment), PAID))
    with heard() as signals:
        with point.armed(monkeypatch), pytest.raises(Killed):
            send(message(payment, PAID))
        heal(payment)
        let_time_pass()
        assert reconcile_later().errors == 0
        let_time_pass()
        assert reconcile_later() == reconcile_later(dry_run=True)

    payment.refresh_from_db()
    assert payment.status == PAID
    assert payment.captured_minor == payment.amount_minor
    assert payment.review_reason == ""
    assert Transaction.objects.get().kind == TransactionKind.CAPTURE
    assert_sound()
    told = Counter(
        (name, notice) for name, _, notice in signals if name == "payment_paid"
    )
    # At least once; if twice, then as the same notice, so that a shop can tell.
    assert len(told) == 1
    times = 2 if str(point) in TOLD_BUT_NOT_CONCLUDED else 1
    assert max(told.values()) == times
    assert Notice.objects.get().state == NoticeState.DELIVERED


TOLD_BUT_NOT_CONCLUDED = {"after notices._send", "before ledger.conclude_notices"}


def test_nobody_else_tells_the_shop_while_the_worker_may_be_about_to(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with heard() as signals:
        with (
            Point(webhooks, "tell").armed(monkeypatch),
            pytest.raises(Killed),
        ):
            send(message(payment, PAID))
        reconcile()
        assert signals == []
        let_time_pass()
        reconcile()
    assert [name for name, *_ in signals] == ["payment_status_changed", "payment_paid"]


# The database ---------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["apply_at_once", "_facts", "_write_notices"])
def test_a_connection_that_is_cut_in_the_middle_is_the_providers_to_retry(
    payment: Payment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(ledger, step)

    def cut(*args: Any, **kwargs: Any) -> Any:
        cut_connection()
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, step, cut)
        answer = send(message(payment, PAID))
    connection.close()
    if connection.vendor == "sqlite" and step == "apply_at_once":
        # A file that failed once: the message is stored and applied after all.
        assert answer.status_code == 200
    else:
        assert answer.status_code == 503
    assert send(message(payment, PAID)).status_code == 200
    payment.refresh_from_db()
    assert payment.status == PAID
    assert_sound()


@pytest.mark.parametrize("error", [OperationalError, IntegrityError])
def test_what_was_rolled_back_leaks_into_nothing(
    payment: Payment, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    failures: list[object] = []

    def insert(row: Model) -> None:
        statements.insert(row)
        if isinstance(row, WebhookDelivery) and len(failures) < 2:
            failures.append(row.verdict)
            raise error("deadlock detected")

    monkeypatch.setattr(ledger, "insert", insert)
    with heard() as signals:
        assert send(message(payment, PAID)).status_code == 200
    # Written whole each time, and taken back whole.
    assert failures == [Verdict.APPLIED] * 2
    assert [name for name, *_ in signals] == ["payment_status_changed", "payment_paid"]
    assert {notice for *_, notice in signals} == {str(Notice.objects.get().uuid)}
    assert WebhookDelivery.objects.get().verdict == Verdict.APPLIED
    payment.refresh_from_db()
    assert payment.status == PAID
    assert_sound()


def test_what_cannot_be_applied_at_once_is_stored_and_not_called_applied(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_facts", fail)
        assert send(message(payment, PAID)).status_code == 200
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.HELD
    assert delivery.payload is not None
    assert not Transaction.objects.exists()
    assert webhooks.replay_delivery(delivery) == Verdict.APPLIED
    payment.refresh_from_db()
    assert payment.status == PAID


def test_a_message_that_was_taken_back_at_the_last_moment_is_stored_as_it_came(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts: list[str] = []

    def insert(row: Model) -> None:
        statements.insert(row)
        if isinstance(row, WebhookDelivery):
            verdicts.append(row.verdict)
            if len(verdicts) == 1:
                raise ValueError("a bug")

    monkeypatch.setattr(ledger, "insert", insert)
    assert send(message(payment, PAID)).status_code == 200
    assert verdicts == [Verdict.APPLIED, Verdict.STORED]
    payment.refresh_from_db()
    assert payment.status == PAID
    assert WebhookDelivery.objects.get().verdict == Verdict.APPLIED


@pytest.mark.parametrize("sees_one_picture", [False, True])
def test_a_failure_that_waited_for_the_money_does_not_forget_it(
    payment: Payment, monkeypatch: pytest.MonkeyPatch, sees_one_picture: bool
) -> None:
    """Whatever the isolation level is: what was read before the lock is no ground."""
    money_is_locked = threading.Event()
    original = ledger._write_notices

    def write(locked: Payment, *args: Any, **options: Any) -> None:
        if locked.status == PAID and not money_is_locked.is_set():
            money_is_locked.set()
            # The failure comes now, and waits for the lock.
            threading.Event().wait(PATIENCE)
        original(locked, *args, **options)

    def fail() -> None:
        if sees_one_picture:
            see_one_picture()
        assert money_is_locked.wait(20)
        failure = message(payment, PaymentStatus.FAILED, reference="F-1")
        receive_webhook("scripted", failure)

    monkeypatch.setattr(ledger, "_write_notices", write)
    at_once([lambda: receive_webhook("scripted", message(payment, PAID)), fail])
    payment.refresh_from_db()
    assert payment.status == PAID
    assert payment.captured_minor == payment.amount_minor
    assert WebhookDelivery.objects.filter(verdict=Verdict.APPLIED).count() == 2
    assert Notice.objects.count() == payment.transactions.count() == 2


def test_eight_times_the_same_message_at_once_is_one_and_is_told_once(
    payment: Payment,
) -> None:
    with heard() as signals:
        answers = at_once([lambda: send(message(payment, PAID)).status_code] * 8)
    assert answers == [200] * 8
    assert WebhookDelivery.objects.count() == 1
    assert [name for name, *_ in signals].count("payment_paid") == 1
    assert_sound()


# Answering ------------------------------------------------------------------------------


@pytest.fixture
def on_paid() -> Any:
    """Connect a receiver for the length of a test."""
    connected: list[Any] = []

    def connect(receiver: Any) -> None:
        payment_paid.connect(receiver, weak=False)
        connected.append(receiver)

    yield connect
    for receiver in connected:
        payment_paid.disconnect(receiver)


def knocked(path: str, incoming: IncomingRequest) -> HttpResponse:
    """Return our answer as the server has it in hand, not sent or closed yet."""
    request = RequestFactory().post(
        path,
        incoming.body,
        content_type=incoming.content_type,
        headers=dict(incoming.headers),
    )
    view, arguments, named = resolve(path)
    answer: HttpResponse = view(request, *arguments, **named)
    return answer


def test_the_provider_is_answered_before_the_shop_is_told(
    payment: Payment, on_paid: Any
) -> None:
    told: list[object] = []
    on_paid(lambda **news: told.append(news["notice_id"]))
    answer = knocked("/payments/webhook/scripted/", message(payment, PAID))
    assert answer.status_code == 200
    assert told == []
    payment.refresh_from_db()
    assert payment.status == PAID
    answer.close()
    assert told == [str(Notice.objects.get().uuid)]


def test_the_shop_is_told_before_the_buyer_is_sent_to_the_outcome(
    payment: Payment, on_paid: Any
) -> None:
    told: list[object] = []
    on_paid(lambda **news: told.append(news["notice_id"]))
    path = urlsplit(callback_url(payment, Purpose.RETURN, None)).path
    answer = knocked(path, message(payment, PAID))
    assert answer.status_code == 303
    assert told == [str(Notice.objects.get().uuid)]


def test_a_receiver_that_raises_changes_nothing_of_the_answer(
    payment: Payment, on_paid: Any
) -> None:
    def fail(**news: Any) -> None:
        raise RuntimeError("the shop's own trouble")

    other = new_payment()
    start_payment(other)
    plain = send(message(other, PAID))
    on_paid(fail)
    answer = send(message(payment, PAID))
    assert (answer.status_code, answer.content) == (plain.status_code, plain.content)
    assert Notice.objects.get(payment=payment).state == NoticeState.WAITING


def test_a_shop_that_cannot_be_told_changes_nothing_of_the_answer(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> int:
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "tell", fail)
        assert send(message(payment, PAID)).status_code == 200
    with heard() as signals:
        let_time_pass()
        reconcile()
    assert [name for name, *_ in signals].count("payment_paid") == 1


# Calls under way ------------------------------------------------------------------------


def test_a_start_whose_answer_was_lost_is_over_once_the_provider_told_the_end(
    provider: ScriptedProvider,
) -> None:
    """In whichever order: nothing is asked for ever, and the buyer may try again."""
    payment = new_payment()

    def told_before_the_worker_died() -> Any:
        receive_webhook("scripted", message(payment, PaymentStatus.FAILED))
        raise Killed

    provider.will("start", told_before_the_worker_died)
    with pytest.raises(Killed):
        start_payment(payment)
    let_everything_be_due()
    reconcile()
    payment.refresh_from_db()
    operation = payment.operations.get()
    assert payment.status == PaymentStatus.FAILED
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)
    assert payment.sync_at is None
    assert provider.told("fetch") == []


@pytest.mark.parametrize("status", [PAID, PaymentStatus.FAILED, PaymentStatus.PENDING])
def test_a_checkout_whose_worker_died_is_asked_about(
    provider: ScriptedProvider, status: PaymentStatus
) -> None:
    payment = new_payment()

    def die() -> Any:
        raise Killed

    provider.will("start", die)
    with pytest.raises(Killed):
        start_payment(payment)
    # While it may be at work nobody asks.
    assert reconcile() == reconcile(dry_run=True)
    provider.will("fetch", answer_to(query_about(payment), status))
    for _ in range(2):
        let_everything_be_due()
        assert reconcile().errors == 0
    payment.refresh_from_db()
    if status == PaymentStatus.PENDING:
        for _ in range(20):
            let_everything_be_due()
            reconcile()
        payment.refresh_from_db()
        status = PaymentStatus.EXPIRED
    assert payment.status == status
    operation = payment.operations.get()
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)
    assert payment.sync_at is None
    assert len(provider.told("start")) == 1
    assert reconcile() == reconcile(dry_run=True)


def test_two_starts_at_once_reach_the_provider_once(
    provider: ScriptedProvider,
) -> None:
    for _ in range(5):
        payment = new_payment()
        at_once([lambda: start_payment(Payment.objects.get(pk=payment.pk))] * 2)  # noqa: B023
        assert payment.operations.count() == 1
    assert len(provider.told("start")) == 5


def test_a_checkout_that_an_older_version_wrote_ahead_is_opened_once(
    provider: ScriptedProvider,
) -> None:
    payment = new_payment()
    ahead = Operation.objects.create(
        kind=OperationKind.CHECKOUT,
        payment=payment,
        amount_minor=payment.amount_minor,
        open_slot=f"checkout:{payment.pk}",
    )
    assert start_payment(payment) is not None
    assert [request.key for request in provider.told("start")] == [ahead.key]
    ahead.refresh_from_db()
    assert (ahead.state, ahead.attempts) == (OperationState.SUCCEEDED, 1)
    assert payment.operations.count() == 1


def paid(payment: Payment) -> Payment:
    receive_webhook("scripted", message(payment, PAID))
    payment.refresh_from_db()
    return payment


def test_a_refund_that_waits_for_a_second_person_is_not_sent(
    payment: Payment, provider: ScriptedProvider, settings: Settings
) -> None:
    paid(payment)
    settings.MULTIPAY = {**settings.MULTIPAY, "REFUND_APPROVAL_ABOVE": {"USD": "10.00"}}
    provider = registry["scripted"]  # type: ignore[assignment]
    with heard():
        refund = refund_payment(payment, by="ann")
    assert provider.told("refund") == []
    operation = refund.operations.get()
    assert operation.needs_approval
    assert (operation.state, operation.attempts) == (OperationState.REQUESTED, 0)
    assert operation.lease_until is None
    assert not Notice.objects.filter(state=NoticeState.WAITING).exists()


def test_callers_keep_what_is_so_now(
    payment: Payment, provider: ScriptedProvider
) -> None:
    """The payment and the refund that they hold need not be read again."""
    paid(payment)
    refund = refund_payment(payment)
    assert refund.status == RefundStatus.SUCCEEDED
    assert refund.payment is payment
    assert payment.status == PaymentStatus.REFUNDED
    assert payment.refunded_minor == payment.amount_minor
    fresh = Payment.objects.get(pk=payment.pk)
    for name in ("status", "captured_minor", "refunded_minor", "provider_reference"):
        assert getattr(payment, name) == getattr(fresh, name)


def test_a_capture_returns_how_it_stands(provider: ScriptedProvider) -> None:
    payment = new_payment(capture_mode="manual")
    start_payment(payment)
    receive_webhook("scripted", message(payment, PaymentStatus.AUTHORIZED))
    operation = capture_payment(payment)
    assert operation.state == OperationState.SUCCEEDED
    assert payment.status == PAID
    assert payment.captured_minor == payment.amount_minor


LOST = OutcomeUnknown("no answer", "scripted", "capture")


@pytest.mark.parametrize("is_during_the_call", [True, False])
def test_a_message_proves_a_capture_whose_answer_is_lost(
    provider: ScriptedProvider, is_during_the_call: bool
) -> None:
    payment = new_payment(capture_mode="manual")
    start_payment(payment)
    receive_webhook("scripted", message(payment, PaymentStatus.AUTHORIZED))

    def tell() -> None:
        receive_webhook("scripted", message(payment, PAID))

    def lose() -> PaymentSnapshot:
        if is_during_the_call:
            tell()
        raise LOST

    provider.will("capture", lose)
    with pytest.raises(OutcomeUnknown):
        capture_payment(payment)
    if not is_during_the_call:
        tell()
    operation = payment.operations.get(kind=OperationKind.CAPTURE)
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)
    payment.refresh_from_db()
    assert payment.captured_minor == payment.amount_minor


def test_a_message_proves_a_start_whose_answer_was_lost(
    provider: ScriptedProvider,
) -> None:
    payment = new_payment()
    provider.will("start", LOST)
    with pytest.raises(OutcomeUnknown):
        start_payment(payment)
    receive_webhook("scripted", message(payment, PAID))
    operation = payment.operations.get()
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)


def test_the_shop_hears_of_every_step_of_a_refund_that_is_sent_at_once(
    payment: Payment, listen: Any
) -> None:
    paid(payment)
    told = listen("refund_status_changed", "payment_refunded")
    refund_payment(payment)
    assert [news["name"] for news in told] == [
        "refund_status_changed",
        "payment_refunded",
        "refund_status_changed",
    ]
    assert not Notice.objects.filter(state=NoticeState.WAITING).exists()


def test_a_worker_that_dies_before_it_tells_of_a_refund_is_made_up_for(
    payment: Payment, monkeypatch: pytest.MonkeyPatch, listen: Any
) -> None:
    paid(payment)
    told = listen("refund_status_changed", "payment_refunded")
    point = Point(notices, "tell_endpoints")
    with point.armed(monkeypatch), pytest.raises(Killed):
        refund_payment(payment)
    assert told == []
    let_time_pass()
    reconcile()
    names = Counter(news["name"] for news in told)
    assert names == {"refund_status_changed": 2, "payment_refunded": 1}
    assert len({news["notice_id"] for news in told}) == 3
    assert Operation.objects.get(kind=OperationKind.REFUND).state == (
        OperationState.SUCCEEDED
    )
