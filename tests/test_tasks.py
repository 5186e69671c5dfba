"""The same flows by a task engine: a real one, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from pytest_django import Settings

from django_multipay import tasks
from django_multipay.enums import BatchItemState, BatchKind, PaymentStatus, Verdict
from django_multipay.flows import create_batch, receive_webhook
from django_multipay.models import Notice, Payment, Refund, WebhookDelivery
from tests.corridor import ACCEPTED, Corridor, heard, reconcile_later
from tests.engines import WORKERS, engine_of
from tests.flows.scripted import ScriptedProvider, message, new_payment
from tests.flows.test_crash import database_url

pytestmark = pytest.mark.django_db(transaction=True)

# Real engines ---------------------------------------------------------------------------


def child(corridor: Corridor, engine: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process of a site with this engine, on our database."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ
        | {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.engine_settings",
            "ENGINE": engine,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "SANDBOX_URL": corridor.sandbox.url,
            # The database is ours alone; macOS would mind the fork of a worker.
            "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """Return what ``process`` said when it has ended well."""
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 0, said
    return said


WEB = """
import json, sys

import django

django.setup()

from django.core.management import call_command
from django.test import Client
from django_multipay.tasks import carry_out_batch

call_command("migrate", verbosity=0)
messages, batch = json.loads(sys.argv[1])
form = "application/x-www-form-urlencoded"
for path, body in messages:
    print(Client().post(path, body, content_type=form).content.decode())
for _ in range(2):
    carry_out_batch.enqueue(batch)
"""


@pytest.mark.parametrize("kind", WORKERS)
def test_two_workers_carry_out_messages_and_a_batch_and_double_nothing(
    corridor: Corridor, kind: str
) -> None:
    with engine_of(kind) as engine:
        work_off(corridor, engine, WORKERS[kind])


def work_off(corridor: Corridor, engine: str, worker: list[str]) -> None:
    """Let a site hand messages and a batch over, and two workers carry them out."""
    paid = [corridor.payment() for _ in range(3)]
    for payment in paid:
        news = corridor.pay(payment)
        assert corridor.send(news.status_path, news.status_body).content == ACCEPTED
    batch = create_batch(BatchKind.REFUND, paid, by="ann")
    waiting = [corridor.payment() for _ in range(4)]
    doors = [
        (news.status_path, news.status_body) for news in map(corridor.pay, waiting)
    ]

    web = child(
        corridor, engine, "-c", WEB, json.dumps([[*doors, *doors], str(batch.uuid)])
    )
    # Each message came twice and was acknowledged twice, before anybody applied it.
    assert finished(web).split() == [ACCEPTED.decode()] * 8
    stored = WebhookDelivery.objects.filter(verdict=Verdict.STORED)
    assert stored.count() == len(waiting)
    assert not Refund.objects.exists()

    workers = [child(corridor, engine, "-m", "django", *worker) for _ in range(2)]
    for process in workers:
        finished(process)
    assert not stored.exists()
    statuses = [Payment.objects.get(pk=payment.pk).status for payment in waiting]
    assert statuses == [PaymentStatus.PAID] * 4
    assert set(batch.items.values_list("state", flat=True)) == {BatchItemState.DONE}
    assert Refund.objects.count() == corridor.calls()["cancel"] == 3
    told = Notice.objects.filter(payment__in=waiting, state="delivered")
    assert told.count() == 4


# Without workers ------------------------------------------------------------------------


@pytest.fixture
def handing_over(settings: Settings, scripted: ScriptedProvider) -> ScriptedProvider:
    """A site whose messages are applied by the engine."""
    settings.MULTIPAY = {**settings.MULTIPAY, "WEBHOOKS": "task"}
    return scripted


class LostTask:
    """An engine that takes everything and does nothing."""

    def enqueue(self, delivery_uuid: str) -> None:
        """Forget it."""


class AbsentEngine:
    """An engine whose server is away."""

    def enqueue(self, delivery_uuid: str) -> None:
        """Say so."""
        raise ConnectionError("the engine is away")


@pytest.mark.usefixtures("handing_over")
def test_a_task_that_is_lost_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    payment = new_payment()
    monkeypatch.setattr(tasks, "apply_delivery", LostTask())
    answer = receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    assert answer.status == 200
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.CREATED
    assert reconcile_later().deliveries == 1
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


@pytest.mark.usefixtures("handing_over")
def test_while_the_engine_is_away_messages_are_applied_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payment = new_payment()
    monkeypatch.setattr(tasks, "apply_delivery", AbsentEngine())
    answer = receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    assert answer.status == 200
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


@pytest.mark.usefixtures("handing_over")
def test_without_an_engine_the_task_runs_in_the_request() -> None:
    payment = new_payment()
    with heard() as signals:
        receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert [name for name, *_ in signals].count("payment_paid") == 1


def test_a_message_that_was_applied_is_not_applied_again_by_its_task(
    scripted: ScriptedProvider,
) -> None:
    payment = new_payment()
    receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    delivery = WebhookDelivery.objects.get()
    assert tasks.apply_delivery.call(str(delivery.uuid)) == Verdict.APPLIED
    assert payment.transactions.count() == 1


def test_reconciling_and_delivering_are_tasks_too(scripted: ScriptedProvider) -> None:
    new_payment()
    done = tasks.reconcile_now.call()
    assert done == {**dict.fromkeys(done, 0)}
    assert json.dumps(done)
    assert tasks.deliver.call() == 0
