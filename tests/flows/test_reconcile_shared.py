"""Many workers share the work: each row is one worker's, and none is forgotten.

The claim is what keeps two workers apart, so its twin stands beside it.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import (
    NoticeState,
    PaymentStatus,
    ReviewReason,
    Source,
    Verdict,
    WebhookOutcome,
)
from django_multipay.exceptions import ProviderUnavailable
from django_multipay.flows import (
    deliver_notices,
    notices,
    receive_webhook,
    reconcile,
)
from django_multipay.flows.guards import account_of
from django_multipay.flows.notices import tell
from django_multipay.flows.sync import Answer, apply_answer, apply_answers
from django_multipay.http import MOST_FAILURES
from django_multipay.ledger import claims
from django_multipay.messages import PaymentQuery, PaymentSnapshot
from django_multipay.models import (
    AccountHealth,
    Notice,
    Payment,
    Transaction,
    WebhookDelivery,
)
from django_multipay.registry import registry
from django_multipay.signals import payment_paid
from tests.corridor import Corridor, heard
from tests.flows.scripted import (
    ScriptedProvider,
    account_settings,
    answer_to,
    message,
    snapshot_of,
)
from tests.flows.test_crash import (
    Killed,
    Point,
    database_url,
    let_time_pass,
    points,
)
from tests.flows.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)

# Its package has a function of the same name.
healing = importlib.import_module("django_multipay.flows.reconcile")

PATIENCE = 20
"""Seconds after which a thread that waits for another has waited in vain."""


def due_payments(count: int, provider: str = "scripted") -> list[Payment]:
    """Payments that were opened, and about which the provider should be asked now."""
    past = timezone.now() - timedelta(minutes=1)
    Payment.objects.bulk_create(
        Payment(
            provider=provider,
            order_id=str(number),
            amount_minor=2630,
            currency="USD",
            status=PaymentStatus.PENDING,
            started_at=past,
            sync_at=past,
        )
        for number in range(count)
    )
    return list(Payment.objects.filter(provider=provider).order_by("pk"))


# Processes ------------------------------------------------------------------------------


WORKER = """
import sys

import django
from django.conf import settings

url, is_guarded = sys.argv[1:]
settings.MULTIPAY["PROVIDERS"]["eximbay"]["OPTIONS"]["base_url"] = url
settings.MULTIPAY["CONCURRENCY"] = 4
django.setup()

from django_multipay.flows import reconcile
from django_multipay.ledger import claims

if is_guarded == "no":
    claims.take = lambda due, candidates, limit, postponed: list(
        candidates.values_list("pk", flat=True)[:limit]
    )
print("ready", flush=True)
sys.stdin.readline()
report = reconcile()
print(report.payments, report.errors, flush=True)
"""


def reconciled_by_two(corridor: Corridor, *, is_guarded: bool) -> list[int]:
    """Let two processes reconcile at the same moment; return how many each asked."""
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                WORKER,
                corridor.sandbox.url,
                "yes" if is_guarded else "no",
            ],
            env=os.environ
            | {
                "DATABASE_URL": database_url(),
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert [errors for _, errors in said] == ["0", "0"]
    return [int(asked) for asked, _ in said]


def test_two_processes_ask_about_each_of_200_payments_once(corridor: Corridor) -> None:
    due_payments(200, "eximbay")
    asked = reconciled_by_two(corridor, is_guarded=True)
    assert sum(asked) == 200
    assert corridor.calls()["retrieve"] == 200


def test_without_the_claim_both_processes_ask_about_all(corridor: Corridor) -> None:
    due_payments(40, "eximbay")
    reconciled_by_two(corridor, is_guarded=False)
    assert corridor.calls()["retrieve"] > 40


@pytest.mark.usefixtures("scripted")
def test_what_a_killed_worker_had_taken_is_worked_on_after_its_lease() -> None:
    due_payments(5)
    due = ledger.due_payments()
    taken = claims.take(due, due.order_by("pk"), 3, ledger.postponed_sync())
    assert len(taken) == 3
    assert reconcile().payments == 2
    lease = timedelta(seconds=1) + ledger.WORK_LEASE
    for payment in Payment.objects.filter(pk__in=taken):
        assert payment.sync_at is not None
        Payment.objects.filter(pk=payment.pk).update(sync_at=payment.sync_at - lease)
    assert reconcile().payments == 3


@pytest.mark.usefixtures("scripted")
def test_a_row_that_somebody_has_locked_is_passed_by(scripted: Any) -> None:
    if not connection.features.has_select_for_update_skip_locked:
        # Such a database has one writer, so there is no row to pass by.
        assert not connection.features.has_select_for_update
        return
    first, *others = due_payments(3)
    is_locked, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Payment.objects.select_for_update().get(pk=first.pk)
            is_locked.set()
            is_over.wait(PATIENCE)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert is_locked.wait(PATIENCE)
        due = ledger.due_payments()
        taken = claims.take(due, due.order_by("pk"), 1, ledger.postponed_sync())
        assert taken == [others[0].pk]
    finally:
        is_over.set()
        holder.join()


# Threads --------------------------------------------------------------------------------


class MeetingProvider(ScriptedProvider):
    """Its inquiries wait until as many as ``crowd`` are under way at once."""

    crowd: ClassVar[int] = 4
    meeting: ClassVar[threading.Barrier] = threading.Barrier(4)
    at_once: ClassVar[int] = 0
    most: ClassVar[int] = 0
    lock = threading.Lock()

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Meet the others, then answer that it was paid."""
        kind = type(self)
        with self.lock:
            kind.at_once += 1
            kind.most = max(kind.most, kind.at_once)
        self.meeting.wait(PATIENCE)
        with self.lock:
            kind.at_once -= 1
        return answer_to(query, PaymentStatus.PAID)


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    """The connections to the database that were opened meanwhile."""
    opened: list[Any] = []

    def note(connection: Any, **details: object) -> None:
        opened.append(connection)

    connection_created.connect(note)
    yield opened
    connection_created.disconnect(note)


def test_so_many_calls_of_an_account_are_under_way_at_once_and_no_more(
    settings: Settings, opened: list[Any]
) -> None:
    settings.MULTIPAY = {
        **account_settings(scripted=MeetingProvider),
        "CONCURRENCY": MeetingProvider.crowd,
    }
    due_payments(2 * MeetingProvider.crowd)
    opened.clear()
    with heard() as signals:
        report = reconcile()
    assert (report.payments, report.errors) == (8, 0)
    assert MeetingProvider.most == MeetingProvider.crowd
    assert Payment.objects.filter(status=PaymentStatus.PAID).count() == 8
    assert [name for name, *_ in signals].count("payment_paid") == 8
    # Each thread that needed one has closed its own.
    assert 0 < len(opened) <= MeetingProvider.crowd
    assert [used for used in opened if used.connection is not None] == []


Queue = Any
"""The rows of one account, as its threads take them."""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Numbers for rows: a chunk, and eight more."""
    monkeypatch.setattr(claims, "read", lambda model, keys: keys)
    (loop,) = (loop for loop in healing.LOOPS if loop.name == "payments")
    count, nobody = healing._CHUNK + 8, Payment.objects.none()
    return healing._Queue(loop, nobody, count, None, ahead=healing._AHEAD)


@pytest.fixture
def number() -> Iterator[int]:
    return itertools.count()


def test_while_one_thread_takes_more_rows_the_others_get_on(
    queue: Queue, number: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    more_are_taken, others_got_on = threading.Event(), threading.Event()

    def take(due: Any, candidates: Any, limit: int, postponed: Any) -> list[int]:
        keys = list(itertools.islice(number, limit))
        if keys[0]:
            more_are_taken.set()
            assert others_got_on.wait(PATIENCE)
        return keys

    def get_on() -> Any:
        assert more_are_taken.wait(PATIENCE)
        row = queue.next()
        others_got_on.set()
        return row

    monkeypatch.setattr(claims, "take", take)
    while len(queue._taken) != healing._AHEAD:
        queue.next()
    last = healing._CHUNK - healing._AHEAD
    assert at_once([queue.next, get_on]) == [last, last + 1]
    rest = list(iter(queue.next, None))
    assert rest == list(range(last + 2, healing._CHUNK + 8))


def test_a_row_in_hand_is_worked_on_though_no_more_could_be_taken(
    queue: Queue, number: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []

    def take(due: Any, candidates: Any, limit: int, postponed: Any) -> list[int]:
        if queue._taken and len(failures) < 3:
            failures.append(len(queue._taken))
            raise OperationalError("the database is away")
        return list(itertools.islice(number, limit))

    monkeypatch.setattr(claims, "take", take)
    assert list(iter(queue.next, None)) == list(range(healing._CHUNK + 8))
    assert failures == [7, 6, 5]


def test_rows_that_nobody_can_take_are_an_error(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(*args: Any) -> list[int]:
        raise OperationalError("the database is away")

    monkeypatch.setattr(claims, "take", take)
    with pytest.raises(OperationalError):
        queue.next()


def test_no_more_rows_are_held_than_are_worked_off_in_time(
    number: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def take(due: Any, candidates: Any, limit: int, postponed: Any) -> list[int]:
        held.append(len(rows._taken) + limit)
        return list(itertools.islice(number, limit))

    monkeypatch.setattr(claims, "take", take)
    monkeypatch.setattr(claims, "read", lambda model, keys: keys)
    nobody = Payment.objects.none()
    (loop,) = (loop for loop in healing.LOOPS if loop.name == "payments")
    rows = healing._Queue(loop, nobody, 100, None, ahead=healing._AHEAD)
    assert len(list(iter(rows.next, None))) == 100
    assert max(held) == healing._CHUNK


class PatientProvider(ScriptedProvider):
    """Does not answer before the other account was asked about everything."""

    others_are_done: ClassVar[threading.Event] = threading.Event()

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Wait for the others."""
        if not self.others_are_done.wait(PATIENCE):
            raise ProviderUnavailable("waited in vain", self.alias, "fetch")
        return super().fetch_payment(query)


class CountingProvider(ScriptedProvider):
    """Says when it has answered three times."""

    answered: ClassVar[Iterator[int]] = iter(range(1, 10))

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Count, and wake the others up."""
        if next(self.answered) == 3:
            PatientProvider.others_are_done.set()
        return super().fetch_payment(query)


def test_an_account_that_is_slow_keeps_no_other_account_waiting(
    settings: Settings,
) -> None:
    settings.MULTIPAY = {
        **account_settings(scripted=PatientProvider, other=CountingProvider),
        "CONCURRENCY": 1 + 1,
    }
    due_payments(3)
    due_payments(3, "other")
    report = reconcile()
    assert (report.payments, report.errors) == (6, 0)


def test_an_account_that_does_not_answer_is_left_alone_and_named(
    settings: Settings,
) -> None:
    settings.MULTIPAY = account_settings(scripted=ScriptedProvider)
    breaker = registry["scripted"].http.breaker
    assert breaker is not None
    for _ in range(MOST_FAILURES):
        breaker.note("ProviderUnavailable")
    due_payments(3)
    report = reconcile()
    assert (report.payments, report.errors) == (0, 0)
    assert (report.paused, report.is_complete) == (("scripted",), False)
    assert ledger.due_payments().count() == 3
    health = AccountHealth.objects.get(provider="scripted")
    assert health.failures == MOST_FAILURES
    assert health.paused_until is not None


@pytest.mark.usefixtures("scripted")
def test_a_payment_that_is_still_pending_costs_four_queries_at_most(
    settings: Settings,
) -> None:
    settings.MULTIPAY = {**settings.MULTIPAY, "CONCURRENCY": 1}
    due_payments(64)
    with CaptureQueriesContext(connection) as queries:
        assert reconcile().payments == 64
    asked = [
        query["sql"]
        for query in queries.captured_queries
        if query["sql"].startswith(("SELECT", "UPDATE", "INSERT", "DELETE"))
    ]
    assert len(asked) <= 4 * 64


def test_it_does_not_run_inside_a_transaction() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="reconcile"):
        reconcile()


def test_a_worker_that_raises_stops_the_others_and_is_heard(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(BaseException):
        """The process is told to end."""

    def end(provider: ScriptedProvider, query: PaymentQuery) -> None:
        raise Gone

    settings.MULTIPAY = account_settings(scripted=ScriptedProvider)
    monkeypatch.setattr(ScriptedProvider, "fetch_payment", end)
    due_payments(3)
    with pytest.raises(Gone):
        reconcile()


def test_money_that_came_is_written_by_threads_as_by_one(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(scripted=ScriptedProvider)
    payments = due_payments(12)
    provider = registry["scripted"]
    assert isinstance(provider, ScriptedProvider)
    answers = {
        payment.merchant_reference: snapshot_of(payment, PaymentStatus.PAID)
        for payment in payments
    }
    provider.fetch_payment = lambda query: answers[  # type: ignore[method-assign]
        query.merchant_reference
    ]
    report = reconcile()
    assert (report.payments, report.notices, report.errors) == (12, 12, 0)
    for payment in Payment.objects.all():
        assert payment.captured_minor == payment.amount_minor
        assert payment.transactions.count() == 1


# Together -------------------------------------------------------------------------------


class PayingProvider(ScriptedProvider):
    """Everything it is asked about was paid."""

    fetched: ClassVar[threading.Semaphore] = threading.Semaphore(0)

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Say so."""
        answer = answer_to(query, PaymentStatus.PAID)
        self.fetched.release()
        return answer


@pytest.fixture
def paying(settings: Settings) -> None:
    settings.MULTIPAY = {
        **account_settings(scripted=PayingProvider),
        "CONCURRENCY": 4,
    }


def paid(payments: Sequence[Payment]) -> list[Answer]:
    """What the provider says when all of them are paid."""
    account = account_of(registry["scripted"])
    return [
        Answer(payment, snapshot_of(payment, PaymentStatus.PAID), account)
        for payment in payments
    ]


def assert_paid_once(count: int) -> None:
    """Every payment was, with one fact and one notice, which was delivered."""
    payments = Payment.objects.all()
    assert [payment.status for payment in payments] == [PaymentStatus.PAID] * count
    assert {payment.captured_minor for payment in payments} == {2630}
    assert Transaction.objects.count() == count
    states = list(Notice.objects.values_list("state", flat=True))
    assert states == [NoticeState.DELIVERED] * count


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each transaction applied: the first waits for the others."""
    sizes: list[int] = []
    first = threading.Lock()

    def together(answers: Sequence[Answer]) -> Any:
        if first.acquire(blocking=False):
            for _ in range(12):
                assert PayingProvider.fetched.acquire(timeout=PATIENCE)
        sizes.append(len(answers))
        return apply_answers(answers)

    monkeypatch.setattr(healing, "apply_answers", together)
    monkeypatch.setattr(PayingProvider, "fetched", threading.Semaphore(0))
    return sizes


@pytest.mark.usefixtures("paying")
def test_what_was_answered_while_one_is_written_is_written_together(
    sizes: list[int],
) -> None:
    due_payments(12)
    with heard() as signals:
        report = reconcile()
    assert (report.payments, report.notices, report.errors) == (12, 12, 0)
    assert [name for name, *_ in signals].count("payment_paid") == 12
    assert sum(sizes) == 12
    assert sizes[0] == 1
    # But for those that were on the way to it, one for each of the other threads.
    assert sizes[1] >= 12 - 1 - 3
    assert_paid_once(12)


@pytest.mark.usefixtures("paying")
def test_one_bad_payment_holds_up_no_other_and_loses_nothing(sizes: list[int]) -> None:
    bad = due_payments(12)[7]

    def refuse(instance: Transaction, **_said: object) -> None:
        if instance.payment_id == bad.pk:
            raise RuntimeError("a bug of the shop")

    pre_save.connect(refuse, sender=Transaction)
    try:
        report = reconcile()
    finally:
        pre_save.disconnect(refuse, sender=Transaction)
    assert (report.payments, report.errors) == (11, 1)
    assert report.problems == (f"payments {bad.uuid}: RuntimeError",)
    assert Payment.objects.get(status=PaymentStatus.PENDING) == bad
    assert not bad.transactions.exists()
    Payment.objects.filter(pk=bad.pk).update(sync_at=timezone.now())
    assert reconcile().payments == 1
    assert reconcile().payments == 0
    assert deliver_notices() == 0
    assert_paid_once(12)


@pytest.mark.usefixtures("paying")
def test_a_payment_that_turns_out_paid_costs_four_queries_at_most() -> None:
    payments = due_payments(32)
    for payment in payments:
        # As a provider that named it when it was opened.
        payment.provider_reference = f"T-{payment.merchant_reference}"
        payment.save(update_fields=["provider_reference"])
    asked: list[Any] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.extend(params if many else [params])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        _, fresh = apply_answers(paid(payments))
        assert tell(fresh) == 32
    # Taking them, and reading what was taken, is four for all.
    assert len(asked) + 4 <= 4 * 32
    assert_paid_once(32)


DEATHS = points(
    (ledger, "apply_snapshots"),
    (ledger, "_apply"),
    (ledger, "_add_facts"),
    (Transaction, "saved"),
    (Payment, "saved"),
    (Notice, "saved"),
    (notices, "tell_endpoints"),
    (notices, "_send"),
    (ledger, "conclude_notices"),
)


@pytest.mark.usefixtures("paying")
@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", DEATHS, ids=str)
def test_whoever_dies_among_many_leaves_them_to_others(
    monkeypatch: pytest.MonkeyPatch, point: Point, nth: int
) -> None:
    payments = due_payments(5)
    is_for_all = point.name in {
        "apply_snapshots",
        "tell_endpoints",
        "conclude_notices",
    }
    with heard() as signals:
        with (
            point.armed(monkeypatch, 1 if is_for_all else nth),
            pytest.raises(Killed),
        ):
            notices.tell(apply_answers(paid(payments))[1])
        # In one transaction: all of them, or none.
        assert Transaction.objects.count() in {0, 5}
        let_time_pass()
        reconcile()
    assert_paid_once(5)
    told = Counter(signal for signal in signals if signal[0] == "payment_paid")
    assert len(told) == 5
    assert max(told.values()) <= 2


@pytest.mark.usefixtures("paying")
def test_a_message_that_comes_while_many_are_written_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payments = due_payments(4)
    threads: list[threading.Thread] = []
    original = ledger._add_facts

    def deliver() -> None:
        receive_webhook("scripted", message(payments[-1], PaymentStatus.PAID))
        connection.close()

    def interrupted(*args: Any, **more: Any) -> None:
        if not threads:
            threads.append(threading.Thread(target=deliver))
            threads[0].start()
        original(*args, **more)

    monkeypatch.setattr(ledger, "_add_facts", interrupted)
    with heard() as signals:
        tell(apply_answers(paid(payments))[1])
        threads[0].join(PATIENCE)
    assert [name for name, *_ in signals].count("payment_paid") == 4
    assert WebhookDelivery.objects.get().verdict == Verdict.IGNORED
    assert_paid_once(4)


@pytest.mark.usefixtures("paying")
def test_what_a_message_is_writing_is_left_to_be_applied_after_it() -> None:
    if not connection.features.has_select_for_update_skip_locked:
        # Nobody gets one row while another writes a second: there is one writer.
        assert connection.vendor != "postgresql"
        return
    payments = due_payments(3)
    is_locked, is_over = threading.Event(), threading.Event()

    def hold(**_said: object) -> None:
        is_locked.set()
        assert is_over.wait(PATIENCE)

    def deliver() -> None:
        receive_webhook("scripted", message(payments[-1], PaymentStatus.PAID))
        connection.close()

    answers = paid(payments)
    post_save.connect(hold, sender=Transaction)
    courier = threading.Thread(target=deliver)
    courier.start()
    try:
        assert is_locked.wait(PATIENCE)
        post_save.disconnect(hold, sender=Transaction)
        applied, fresh = apply_answers(answers)
    finally:
        post_save.disconnect(hold, sender=Transaction)
        is_over.set()
        courier.join(PATIENCE)
    assert sorted(applied) == [payment.pk for payment in payments[:-1]]
    assert [notice.payment for notice in fresh] == payments[:-1]
    tell(fresh)
    apply_answer(answers[-1])
    assert_paid_once(3)


@pytest.mark.usefixtures("paying")
def test_those_who_write_the_same_many_and_messages_wait_for_each_other() -> None:
    payments = due_payments(16)

    def write(some: Sequence[Payment]) -> int:
        return tell(apply_answers(paid(some))[1])

    def carry(some: Sequence[Payment]) -> int:
        for payment in some:
            answer = receive_webhook("scripted", message(payment, PaymentStatus.PAID))
            assert answer.outcome is WebhookOutcome.ACCEPTED
        return 0

    with heard() as signals:
        told = at_once(
            [
                lambda: write(payments),
                lambda: write(payments[::-1]),
                lambda: carry(payments),
                lambda: carry(payments[::-1]),
            ]
        )
    assert sum(told) <= 16
    assert [name for name, *_ in signals].count("payment_paid") == 16
    assert_paid_once(16)


@pytest.mark.usefixtures("paying")
def test_payments_that_others_must_follow_are_written_by_themselves() -> None:
    first, second, third = due_payments(3)
    Payment.objects.filter(pk=second.pk).update(retry_of=first)
    Payment.objects.filter(pk=third.pk).update(status=PaymentStatus.FAILED)
    applied, _ = apply_answers(paid([first, second, third]))
    assert list(applied) == [first.pk]
    assert reconcile().payments == 2
    second.refresh_from_db()
    assert second.review_reason == ReviewReason.PAID_TWICE


@pytest.mark.usefixtures("paying")
def test_two_payments_that_are_said_to_be_one_transaction_are_paid_once() -> None:
    payments = due_payments(3)
    answers = [
        dataclasses.replace(
            answer,
            snapshot=dataclasses.replace(answer.snapshot, provider_reference="T-1"),
        )
        for answer in paid(payments)
    ]
    applied, fresh = apply_answers(answers)
    tell(fresh)
    for answer in answers:
        if answer.payment.pk not in applied:
            apply_answer(answer)
    deliver_notices()
    first, *others = Payment.objects.order_by("pk")
    assert (first.status, first.review_reason) == (PaymentStatus.PAID, "")
    for other in others:
        assert other.captured_minor == 0
        assert other.review_reason == ReviewReason.REFERENCE_MISMATCH


class TurnsProvider(ScriptedProvider):
    """Says that the first payment is paid; the second, once the shop heard of it."""

    first: ClassVar[threading.Lock] = threading.Lock()
    is_first_told: ClassVar[threading.Event] = threading.Event()

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Let all but one wait."""
        if not self.first.acquire(blocking=False):
            assert self.is_first_told.wait(PATIENCE)
        return answer_to(query, PaymentStatus.PAID)


def test_a_slow_receiver_keeps_no_other_payment_from_being_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TurnsProvider, "first", threading.Lock())
    monkeypatch.setattr(TurnsProvider, "is_first_told", threading.Event())
    settings.MULTIPAY = {
        **account_settings(scripted=TurnsProvider),
        "CONCURRENCY": 2,
    }
    due_payments(2)
    was_written: list[bool] = []
    is_second_written, first = threading.Event(), threading.Lock()

    def receive(**_news: object) -> None:
        if first.acquire(blocking=False):
            TurnsProvider.is_first_told.set()
            was_written.append(is_second_written.wait(PATIENCE))

    def note(**_said: object) -> None:
        if TurnsProvider.is_first_told.is_set():
            is_second_written.set()

    payment_paid.connect(receive)
    post_save.connect(note, sender=Transaction)
    try:
        report = reconcile()
    finally:
        post_save.disconnect(note, sender=Transaction)
        payment_paid.disconnect(receive)
    assert was_written == [True]
    assert (report.payments, report.notices, report.errors) == (2, 2, 0)
    assert_paid_once(2)


def test_a_payment_that_somebody_holds_keeps_no_other_waiting(
    settings: Settings,
) -> None:
    settings.MULTIPAY = account_settings(scripted=ScriptedProvider)
    free, held = due_payments(2)
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Payment.objects.select_for_update().get(pk=held.pk)
            is_held.set()
            assert is_over.wait(PATIENCE)
        connection.close()

    shop = threading.Thread(target=hold)
    if connection.features.has_select_for_update_skip_locked:
        shop.start()
        assert is_held.wait(PATIENCE)
    else:
        # Only a whole database can be held there.
        assert connection.vendor != "postgresql"
    account = account_of(registry["scripted"])
    said = {one.pk: snapshot_of(one, PaymentStatus.PAID) for one in (free, held)}
    try:
        applied, _notices = ledger.apply_snapshots(
            said, account=account, source=Source.SYNC
        )
    finally:
        is_over.set()
        if is_held.is_set():
            shop.join(PATIENCE)
    assert applied == ([free] if is_held.is_set() else [free, held])
    free.refresh_from_db()
    assert free.status == PaymentStatus.PAID
