"""Many workers share the work: each row is one worker's, and none is forgotten.

The claim is what keeps two workers apart, so its twin stands beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import PaymentStatus
from django_multipay.exceptions import ProviderUnavailable
from django_multipay.flows import reconcile
from django_multipay.http import MOST_FAILURES
from django_multipay.ledger import claims
from django_multipay.messages import PaymentQuery, PaymentSnapshot
from django_multipay.models import AccountHealth, Payment
from django_multipay.registry import registry
from tests.corridor import Corridor, heard
from tests.flows.scripted import (
    ScriptedProvider,
    account_settings,
    answer_to,
    snapshot_of,
)
from tests.flows.test_crash import database_url

pytestmark = pytest.mark.django_db(transaction=True)

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
    # Each thread has closed its own.
    assert len(opened) == MeetingProvider.crowd
    assert [used for used in opened if used.connection is not None] == []


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
