"""Several web workers and several task workers on one database double nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest
import requests
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from django_multipay.enums import PaymentStatus, TransactionKind, Verdict
from django_multipay.flows import start_payment
from django_multipay.messages import PaymentQuery, PaymentSnapshot
from django_multipay.models import Payment, Transaction, WebhookDelivery
from tests import shop
from tests.engines import WORKERS, engine_of
from tests.flows.scripted import (
    SECRET,
    ScriptedProvider,
    account_settings,
    answer_to,
    message,
    new_payment,
)
from tests.flows.test_crash import database_url

pytestmark = pytest.mark.django_db(transaction=True)

PAYMENTS = 16
TOLD = 10
"""So many of them the provider tells of; about the others it must be asked."""

WORDS = ("paid", "settled")
"""Two messages about each payment, which say the same in other words."""

TIMES = 3
"""How often each message comes, at the same moment."""

LASTING = [word for word in WORKERS.get("rq", ()) if word != "--burst"]
"""The command of a worker that goes on until it is told to end."""


class PayingProvider(ScriptedProvider):
    """Whoever asks it hears that it was paid."""

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Say so, under the same reference as the messages."""
        return answer_to(query, PaymentStatus.PAID)


@pytest.fixture
def diary() -> Iterator[None]:
    """A table of the shop's own."""
    if connection.vendor != "postgresql" or "rq" not in WORKERS:
        pytest.skip("needs PostgreSQL and a Redis server")
    with connection.cursor() as cursor:
        cursor.execute(shop.CREATE)
    yield
    with connection.cursor() as cursor:
        cursor.execute(shop.DROP)


@contextmanager
def running(engine: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process of the shop; it is told to end, and ends well."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ
        | {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.shop_settings",
            "ENGINE": engine,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "SANDBOX_URL": "http://127.0.0.1:9",
            "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        said = process.communicate(timeout=60)[0]
    assert "Traceback" not in said, said


def heard(process: subprocess.Popen[str], words: str) -> re.Match[str]:
    """Return the first line that has ``words``, once the process has said it."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(words, line):
            return found
    raise AssertionError("".join(said))


ENQUEUE = "from django_multipay.tasks import reconcile_now; reconcile_now.enqueue()"


def told_by_many(engine: str, bodies: Sequence[bytes]) -> Counter[int]:
    """Send each message some times to two web workers, while two others carry it out.

    These are asked twice to reconcile meanwhile. Returns how often which status was
    answered.
    """
    with ExitStack() as stack:

        def start(*command: str) -> subprocess.Popen[str]:
            return stack.enter_context(running(engine, *command))

        workers = [start("django", *LASTING) for _ in range(2)]
        site = start(
            "uvicorn",
            "--factory",
            "django.core.asgi:get_asgi_application",
            "--workers=2",
            "--port=0",
            "--no-access-log",
        )
        origin = heard(site, r"http://127\.0\.0\.1:\d+").group()
        for _ in range(2):
            heard(site, "startup complete")
        for worker in workers:
            heard(worker, "Listening on")

        def send(body: bytes) -> int:
            return requests.post(
                f"{origin}/payments/webhook/scripted/",
                data=body,
                headers={"Content-Type": "application/json", "X-Secret": SECRET},
                timeout=60,
            ).status_code

        clocks = [start("django", "shell", "-c", ENQUEUE) for _ in range(2)]
        with ThreadPoolExecutor(8) as senders:
            # The same ones beside each other.
            every = [body for body in bodies for _ in range(TIMES)]
            statuses = Counter(senders.map(send, every))
        for clock in clocks:
            assert clock.wait(60) == 0
    return statuses


@pytest.mark.usefixtures("diary")
def test_two_web_workers_and_two_task_workers_double_nothing(
    settings: Settings,
) -> None:
    settings.MULTIPAY = account_settings(scripted=PayingProvider)
    payments = [new_payment(order_id=f"order-{n}") for n in range(PAYMENTS)]
    for payment in payments:
        start_payment(payment)
    # Whoever looks first asks the provider about all of them, while it tells of some.
    Payment.objects.update(sync_at=timezone.now() - timedelta(minutes=1))
    bodies = [
        message(payment, PaymentStatus.PAID, word=word).body
        for payment in payments[:TOLD]
        for word in WORDS
    ]

    with engine_of("rq") as engine:
        statuses = told_by_many(engine, bodies)
        # What is left when the two were told to end.
        with running(engine, "django", *WORKERS["rq"]) as last:
            assert last.wait(60) == 0

    assert statuses == Counter({200: len(bodies) * TIMES})
    assert WebhookDelivery.objects.count() == len(bodies)
    assert not WebhookDelivery.objects.filter(verdict=Verdict.STORED).exists()
    facts = Counter(Transaction.objects.values_list("payment__order_id", "kind"))
    assert facts == Counter((one.order_id, TransactionKind.CAPTURE) for one in payments)
    assert set(Payment.objects.values_list("status", flat=True)) == {PaymentStatus.PAID}
    with connection.cursor() as cursor:
        cursor.execute(shop.READ)
        lines = Counter(order_id for order_id, _ in cursor.fetchall())
    assert lines == Counter(one.order_id for one in payments)
