"""A worker may die between any two steps; whatever it left is finished by others.

Most deaths are an exception that nothing catches, raised before or after one step;
the last ones are real: kill -9 of a process in the middle of a message.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.signals import post_save, pre_save
from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import (
    NoticeState,
    OperationState,
    PaymentStatus,
    TransactionKind,
)
from django_multipay.flows import (
    checkout,
    create_payment,
    notices,
    start_payment,
    webhooks,
)
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Transaction,
    WebhookDelivery,
)
from django_multipay.providers.eximbay import EximbayProvider
from tests.corridor import ACCEPTED, Corridor, Messages, heard, reconcile_later

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process is gone: no handler runs, what was not committed never was."""


@dataclass(frozen=True)
class Point:
    """A moment to die: before or after ``owner.name`` ran, or a row was "saved"."""

    owner: Any
    name: str
    is_after: bool = False

    def __str__(self) -> str:
        owner = self.owner.__name__.rpartition(".")[2]
        return f"{'after' if self.is_after else 'before'} {owner}.{self.name}"

    @contextmanager
    def armed(self, patch: pytest.MonkeyPatch, nth: int = 1) -> Any:
        """Die at this point, once: when it is passed for the ``nth`` time."""
        passed: list[object] = []
        if self.name == "saved":
            with self._armed_row(passed, nth):
                yield
            assert len(passed) >= nth, f"nothing came by: {self}"
            return
        original = getattr(self.owner, self.name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            passed.append(True)
            if len(passed) != nth:
                return original(*args, **kwargs)
            if self.is_after:
                original(*args, **kwargs)
            raise Killed(str(self))

        with patch.context() as context:
            context.setattr(self.owner, self.name, dying)
            yield
        assert len(passed) >= nth, f"nothing came by: {self}"

    @contextmanager
    def _armed_row(self, passed: list[object], nth: int) -> Any:
        """Die before or after a row of the model ``owner`` is written."""
        moment = post_save if self.is_after else pre_save

        def dying(**_said: Any) -> None:
            passed.append(True)
            if len(passed) == nth:
                raise Killed(str(self))

        moment.connect(dying, sender=self.owner)
        try:
            yield
        finally:
            moment.disconnect(dying, sender=self.owner)


def points(*steps: tuple[Any, str]) -> list[Point]:
    """Before and after each step."""
    return [Point(*step, is_after) for step in steps for is_after in (False, True)]


def let_time_pass() -> None:
    """Every lease has run out and every inquiry is due."""
    Operation.objects.filter(lease_until__isnull=False).update(lease_until=LONG_AGO)
    Payment.objects.filter(sync_at__isnull=False).update(sync_at=LONG_AGO)
    Notice.objects.filter(state=NoticeState.WAITING).update(due_at=LONG_AGO)


def assert_sound() -> None:
    """The books balance and nothing is left that nobody will look at again."""
    for payment in Payment.objects.all():
        captured = sum(
            fact.amount_minor
            for fact in payment.transactions.filter(kind=TransactionKind.CAPTURE)
        )
        assert payment.captured_minor == captured <= payment.amount_minor
        assert payment.operations.filter(open_slot__isnull=False).count() <= 1
        is_waiting = payment.status == PaymentStatus.PENDING
        assert (payment.sync_at is not None) == is_waiting
    assert Notice.objects.count() == Transaction.objects.count()


# The checkout ----------------------------------------------------------------------------


CHECKOUT = points(
    (ledger, "open_payment"),
    (ledger, "begin_checkout"),
    (Operation, "saved"),
    (checkout, "_payment_request"),
    (EximbayProvider, "start_payment"),
    (EximbayProvider, "_ask"),
    (ledger, "conclude_checkout"),
    (Payment, "saved"),
)


@pytest.mark.parametrize("point", CHECKOUT, ids=str)
def test_a_checkout_that_died_anywhere_is_opened_by_a_reload(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch, point: Point
) -> None:
    def buy() -> None:
        payment = create_payment(
            provider="eximbay",
            order_id="R-1001",
            amount=Money("26.30", "USD"),
            buyer=corridor.buyer,
        )
        start_payment(payment)

    with point.armed(monkeypatch), pytest.raises(Killed):
        buy()
    if not Payment.objects.exists():  # The order was never placed: the buyer repeats.
        buy()
    let_time_pass()

    payment = Payment.objects.get()
    action = start_payment(payment)
    assert action is not None
    assert payment.action == action
    operation = Operation.objects.get()
    assert operation.state == OperationState.SUCCEEDED
    assert operation.open_slot is None

    messages = corridor.pay(payment)
    corridor.send(messages.status_path, messages.status_body)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert_sound()


def test_a_reload_before_the_lease_ends_waits_instead_of_calling_again(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = Point(EximbayProvider, "start_payment", is_after=True)
    with point.armed(monkeypatch), pytest.raises(Killed):
        corridor.payment()
    payment = Payment.objects.get()
    assert start_payment(payment) is None
    assert corridor.calls()["ready"] == 1


def test_the_same_key_goes_out_again_after_a_crash(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    original = EximbayProvider.start_payment

    def start(self: EximbayProvider, request: Any) -> Any:
        keys.append(request.key)
        return original(self, request)

    monkeypatch.setattr(EximbayProvider, "start_payment", start)
    point = Point(ledger, "conclude_checkout")
    with point.armed(monkeypatch), pytest.raises(Killed):
        corridor.payment()
    let_time_pass()
    assert start_payment(Payment.objects.get()) is not None
    assert len(keys) == 2
    assert keys[0] == keys[1]


# The message ---------------------------------------------------------------------------------


MESSAGE = points(
    (EximbayProvider, "verify_webhook"),
    (ledger, "store_delivery"),
    (WebhookDelivery, "saved"),
    (webhooks, "apply_delivery"),
    (EximbayProvider, "fetch_payment"),
    (ledger, "apply_snapshot"),
    (ledger, "_lock"),
    (ledger, "_facts"),
    (ledger, "_add_facts"),
    (Transaction, "saved"),
    (Payment, "saved"),
    (ledger, "_write_notices"),
    (ledger, "conclude_delivery"),
    (webhooks, "deliver_notices"),
    (ledger, "claim_notices"),
    (notices, "_send"),
    (ledger, "conclude_notices"),
)


def provider_repeats(corridor: Corridor, messages: Messages) -> None:
    answer = corridor.send(messages.status_path, messages.status_body)
    assert answer.content == ACCEPTED


def buyer_returns(corridor: Corridor, messages: Messages) -> None:
    answer = corridor.send(messages.return_path, messages.return_body)
    assert answer.status_code == 303


def nobody_comes_again(corridor: Corridor, messages: Messages) -> None:
    """The sweeper is all there is."""


HEALERS: Sequence[Callable[[Corridor, Messages], None]] = (
    provider_repeats,
    buyer_returns,
    nobody_comes_again,
)


@pytest.mark.parametrize("heal", HEALERS, ids=lambda heal: heal.__name__)
@pytest.mark.parametrize("point", MESSAGE, ids=str)
def test_a_message_that_died_anywhere_ends_in_one_payment_and_is_told(
    corridor: Corridor,
    monkeypatch: pytest.MonkeyPatch,
    point: Point,
    heal: Callable[[Corridor, Messages], None],
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment)
    with heard() as signals:
        with point.armed(monkeypatch), pytest.raises(Killed):
            corridor.send(messages.status_path, messages.status_body)
        heal(corridor, messages)
        let_time_pass()
        assert reconcile_later().errors == 0
        let_time_pass()
        assert reconcile_later() == reconcile_later(dry_run=True)

    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert payment.review_reason == ""
    fact = Transaction.objects.get()
    assert fact.kind == TransactionKind.CAPTURE
    assert_sound()
    told = Counter(
        (name, notice) for name, _, notice in signals if name == "payment_paid"
    )
    # At least once; if twice, then as the same notice, so that a shop can tell.
    assert len(told) == 1
    assert max(told.values()) <= 2
    if point.name not in {"_send", "conclude_notices"}:
        assert max(told.values()) == 1
    assert Notice.objects.get().state == NoticeState.DELIVERED


def test_a_shop_whose_receiver_raises_loses_nothing_and_hears_it_again(
    corridor: Corridor,
) -> None:
    from django_multipay.signals import payment_paid

    payment = corridor.payment()
    messages = corridor.pay(payment)
    calls = []

    def receive(notice_id: str, **kwargs: Any) -> None:
        calls.append(notice_id)
        if len(calls) == 1:
            raise RuntimeError("the shop's own trouble")

    payment_paid.connect(receive)
    try:
        answer = corridor.send(messages.status_path, messages.status_body)
        assert answer.content == ACCEPTED
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.PAID
        let_time_pass()
        reconcile_later()
    finally:
        payment_paid.disconnect(receive)
    assert len(calls) == 2
    assert calls[0] == calls[1]
    assert Notice.objects.get().state == NoticeState.DELIVERED


# The database ---------------------------------------------------------------------------------


def cut_connection() -> None:
    """End this connection as a database server does that is stopped."""
    statement = {
        "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
        "mysql": "KILL CONNECTION_ID()",
    }.get(connection.vendor)
    if statement is None:  # A file has no server; what is left is a failing disk.
        raise OperationalError("disk I/O error")
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize(
    "step", ["find_delivery", "store_delivery", "_facts", "_write_notices"]
)
def test_a_connection_that_is_cut_in_the_middle_is_the_providers_to_retry(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment)
    original = getattr(ledger, step)

    def cut(*args: Any, **kwargs: Any) -> Any:
        cut_connection()
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, step, cut)
        answer = corridor.send(messages.status_path, messages.status_body)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "30"
    connection.close()
    assert corridor.send(messages.status_path, messages.status_body).content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert_sound()


@pytest.mark.parametrize("step", ["verify_webhook", "fetch_payment"])
def test_a_database_that_cannot_be_reached_again_is_the_providers_to_retry(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment)
    original = getattr(EximbayProvider, step)

    def refuse(*args: Any) -> Any:
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:

        def lose(*args: Any) -> Any:
            connection.close()
            patch.setattr(connection, "get_new_connection", refuse)
            return original(*args)

        patch.setattr(EximbayProvider, step, lose)
        answer = corridor.send(messages.status_path, messages.status_body)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "30"
    assert corridor.send(messages.status_path, messages.status_body).content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert_sound()


def test_a_database_that_fails_once_is_asked_again_by_ourselves(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment)
    original = ledger._facts
    failures: list[object] = []

    def deadlock(*args: Any) -> Any:
        if len(failures) < 3:
            failures.append(transaction.get_connection().in_atomic_block)
            raise OperationalError("deadlock detected")
        return original(*args)

    monkeypatch.setattr(ledger, "_facts", deadlock)
    assert corridor.send(messages.status_path, messages.status_body).content == ACCEPTED
    assert failures == [True] * 3
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


# kill -9 ----------------------------------------------------------------------------------------


CHILD = """
import importlib, os, signal, sys

import django
from django.conf import settings

url, path, body, module, owner, name = sys.argv[1:]
settings.MULTIPAY["PROVIDERS"]["eximbay"]["OPTIONS"]["base_url"] = url
django.setup()

from django.test import Client

place = importlib.import_module(module)
if owner:
    place = getattr(place, owner)
original = getattr(place, name)


def killed(*args, **kwargs):
    original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)


setattr(place, name, killed)
Client().post(path, body, content_type="application/x-www-form-urlencoded")
"""


def database_url() -> str:
    """The test database as another process reaches it."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    scheme = {"postgresql": "postgres", "mysql": "mysql"}[connection.vendor]
    login = ":".join(filter(None, (values["USER"], values["PASSWORD"])))
    return f"{scheme}://{login}@{values['HOST']}:{values['PORT']}/{values['NAME']}"


@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [
        ("django_multipay.ledger", "", "store_delivery"),
        ("django_multipay.ledger", "", "_fold"),
        ("django_multipay.ledger", "", "_write_notices"),
        ("django_multipay.ledger", "", "claim_notices"),
    ],
)
def test_kill_9_in_the_middle_of_a_message_loses_and_doubles_nothing(
    corridor: Corridor, module: str, owner: str, name: str
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment)
    place = [module, owner, name]
    message = [messages.status_path, messages.status_body]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, corridor.sandbox.url, *message, *place],
        env=os.environ
        | {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    with heard() as signals:
        let_time_pass()
        assert reconcile_later().errors == 0
        provider_repeats(corridor, messages)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert Transaction.objects.count() == 1
    assert [name for name, *_ in signals].count("payment_paid") == 1
    assert_sound()
