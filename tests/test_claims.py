"""Short transactions: bounded waits, rows that are one worker's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.urls import reverse

from django_multipay.enums import PaymentStatus
from django_multipay.flows import start_payment
from django_multipay.ledger import claims
from django_multipay.models import Payment
from tests.flows.scripted import ScriptedProvider, message, new_payment

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20

BOUNDS = {
    "postgresql": ("SET lock_timeout = '300ms'", "SET lock_timeout = 0"),
    "mysql": (
        "SET SESSION innodb_lock_wait_timeout = 1",
        "SET SESSION innodb_lock_wait_timeout = 50",
    ),
    "sqlite": ("PRAGMA busy_timeout = 300", "PRAGMA busy_timeout = 20000"),
}
"""How each database is told not to wait for long, and to wait again."""


@pytest.fixture
def payment(scripted: ScriptedProvider) -> Payment:
    """One whose buyer stands before the provider's page."""
    payment = new_payment()
    start_payment(payment)
    return payment


@pytest.fixture
def bounded() -> Iterator[None]:
    """The site's connections wait for a lock as long as its operator has said."""
    begin, end = BOUNDS[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(begin)
    yield
    with connection.cursor() as cursor:
        cursor.execute(end)


@contextmanager
def locked(payment: Payment) -> Iterator[Callable[[], None]]:
    """Somebody holds the row and does not come back, or only when told to."""
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Payment.objects.select_for_update().get(pk=payment.pk)
            Payment.objects.filter(pk=payment.pk).update(description="held")
            is_held.set()
            is_over.wait(PATIENCE)
        connection.close()

    def let_go() -> None:
        is_over.set()
        holder.join()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert is_held.wait(PATIENCE)
        yield let_go
    finally:
        let_go()


@pytest.mark.usefixtures("bounded")
def test_a_message_about_a_locked_payment_is_put_off_and_applied_later(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "PATIENCE", timedelta(milliseconds=100))
    path = reverse("multipay:webhook", args=["scripted"])
    incoming = message(payment, PaymentStatus.PAID)

    def send() -> int:
        return (
            Client()
            .post(path, incoming.body, "application/json", headers=incoming.headers)
            .status_code
        )

    with locked(payment):
        assert send() == 503
    assert send() == 200
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


def test_who_waited_in_vain_once_does_not_wait_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection.ensure_connection()
    calls: list[str] = []

    def wait() -> None:
        calls.append("waited")
        raise OperationalError("lock timeout")

    work: Callable[[], None] = claims.retried(wait)
    monkeypatch.setattr(claims, "PATIENCE", timedelta(0))
    with pytest.raises(OperationalError):
        work()
    assert calls == ["waited"]
    # The guard's twin: with patience left it is tried again.
    monkeypatch.setattr(claims, "PATIENCE", timedelta(hours=1))
    with pytest.raises(OperationalError):
        work()
    assert len(calls) == 1 + claims.ATTEMPTS


@pytest.mark.usefixtures("bounded")
def test_a_transaction_that_waited_in_vain_for_a_lock_is_tried_again(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    @claims.retried
    def describe() -> None:
        attempts.append(len(attempts))
        with transaction.atomic(durable=True):
            Payment.objects.filter(pk=payment.pk).update(description="ours")

    with locked(payment) as let_go:
        # The holder comes back between the two attempts.
        monkeypatch.setattr(time, "sleep", lambda seconds: let_go())
        describe()
    assert attempts == [0, 1]
    payment.refresh_from_db()
    assert payment.description == "ours"


@pytest.mark.parametrize("is_guarded", [True, False])
def test_of_two_that_wait_for_each_other_both_are_done(
    scripted: ScriptedProvider, *, is_guarded: bool
) -> None:
    # Where there is one writer at a time, nobody has to give way.
    has_row_locks = connection.features.has_select_for_update
    first, second = new_payment(), new_payment()
    have_one_each = threading.Barrier(2 if has_row_locks else 1)
    errors: list[BaseException] = []
    attempts: list[str] = []

    def describe(name: str, *payments: Payment) -> None:
        attempts.append(name)
        with transaction.atomic(durable=True):
            for payment in payments:
                Payment.objects.filter(pk=payment.pk).update(description=name)
                if attempts.count(name) == 1 and payment is payments[0]:
                    have_one_each.wait(PATIENCE)

    work = claims.retried(describe) if is_guarded else describe

    def run(name: str, *payments: Payment) -> None:
        try:
            work(name, *payments)
        except OperationalError as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=("one", first, second)),
        threading.Thread(target=run, args=("two", second, first)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The database ends one of the two, which is tried again where it is guarded.
    ended = (3, 0) if is_guarded else (2, 1)
    assert (len(attempts), len(errors)) == (ended if has_row_locks else (2, 0))
    assert len(set(Payment.objects.values_list("description", flat=True))) == 1


def test_what_one_took_the_other_does_not_get(payment: Payment) -> None:
    due = Payment.objects.filter(sync_at__isnull=False)
    free = {"sync_at": None}
    assert claims.take(due, due.order_by("pk"), 5, free) == [payment.pk]
    assert claims.take(due, due.order_by("pk"), 5, free) == []
    assert claims.take(due, due.order_by("pk"), 0, free) == []


def test_a_row_that_was_taken_between_the_look_and_the_claim_is_not_ours(
    payment: Payment,
) -> None:
    everything = Payment.objects.order_by("pk")
    nothing_due = Payment.objects.filter(sync_at__lt=claims.DatabaseNow())
    assert claims.take(nothing_due, everything, 5, {"sync_at": None}) == []
    payment.refresh_from_db()
    assert payment.sync_at is not None


@pytest.mark.usefixtures("bounded")
def test_rows_that_are_locked_for_a_moment_are_not_forgotten(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = Payment.objects.filter(sync_at__isnull=False)
    with locked(payment) as let_go:
        monkeypatch.setattr(time, "sleep", lambda seconds: let_go())
        taken = claims.take(due, due.order_by("pk"), 5, {"sync_at": None})
    assert taken == [payment.pk]


def test_no_more_rows_are_taken_than_asked_for_and_the_first_ones(
    scripted: ScriptedProvider,
) -> None:
    made = [new_payment().pk for _ in range(4)]
    due = Payment.objects.filter(sync_at=None)
    taken = claims.take(due, due.order_by("-pk"), 3, {"sync_at": claims.DatabaseNow()})
    assert taken == made[:0:-1]
