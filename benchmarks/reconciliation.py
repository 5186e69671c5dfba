"""A thousand open payments, asked about at a provider that takes 20 ms.

Beside a hand-written loop with as many threads, a pooled session and the ORM. Once
nothing is new, once every payment turns out paid.
"""

from __future__ import annotations

import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import requests
from django.db import connections, transaction
from django.utils import timezone

from benchmarks.contestants.base import AMOUNT_MINOR, CURRENCY, ORDER_ID
from benchmarks.contestants.floor import OrmFloor
from benchmarks.contestants.ours import Ours
from benchmarks.floor.models import Charge
from benchmarks.meter import counting_everywhere, spread
from benchmarks.stage import stub
from django_multipay.flows import reconcile
from django_multipay.models import Payment

ROUNDS = 5
PAYMENTS = 1_000
DELAY_MS = 20
THREADS = 16

ANSWERS = ("pending", "paid")


def measure(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each answer of the provider and each contestant."""
    for answer in ANSWERS:
        seconds: dict[str, list[float]] = {OrmFloor.name: [], Ours.name: []}
        statements: dict[str, list[float]] = {OrmFloor.name: [], Ours.name: []}
        with stub(DELAY_MS, answer) as url:
            for _ in range(rounds):
                for name in seconds:
                    _open_payments()
                    with counting_everywhere() as count:
                        began = time.perf_counter()
                        if name == Ours.name:
                            report = reconcile()
                            assert report.payments == PAYMENTS, report
                            assert not report.errors, report.problems
                        else:
                            _ask_by_hand(url)
                        seconds[name].append(time.perf_counter() - began)
                        statements[name].append(count() / PAYMENTS)
        for name, took in seconds.items():
            yield {
                "job": "reconcile",
                "answer": answer,
                "contestant": name,
                "median_s": statistics.median(took),
                **spread(took, seconds[OrmFloor.name]),
                "statements_each": statistics.median(statements[name]),
            }


def _open_payments() -> None:
    """Insert `PAYMENTS` open payments for each contestant; forget all others."""
    Payment.objects.update(sync_at=None)
    Charge.objects.update(status="forgotten")
    due = timezone.now() - timedelta(minutes=1)
    references = [secrets.token_hex(12) for _ in range(PAYMENTS)]
    Payment.objects.bulk_create(
        Payment(
            provider="stub",
            order_id=ORDER_ID,
            merchant_reference=reference,
            provider_reference=f"P-{reference}",
            status=Payment.Status.PENDING,
            amount_minor=AMOUNT_MINOR,
            currency=CURRENCY,
            started_at=due,
            sync_at=due,
        )
        for reference in references
    )
    Charge.objects.bulk_create(
        Charge(
            reference=reference,
            order_id=ORDER_ID,
            amount_minor=AMOUNT_MINOR,
            currency=CURRENCY,
            status="pending",
        )
        for reference in references
    )


def _ask_by_hand(url: str) -> None:
    """Ask about every pending charge, so many at a time; write down what is said."""
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=THREADS))
    waiting = Charge.objects.filter(status="pending").values_list("pk", "reference")
    todo = iter(list(waiting))
    lock = threading.Lock()

    def work() -> None:
        try:
            while True:
                with lock:
                    key, reference = next(todo, (0, ""))
                if not key:
                    return
                answer = session.get(f"{url}/payments/{reference}", timeout=(3, 10))
                answer.raise_for_status()
                _write_down(key, answer.json()["status"])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(THREADS) as pool:
        for thread in [pool.submit(work) for _ in range(THREADS)]:
            thread.result()


def _write_down(key: int, status: str) -> None:
    if status == "pending":
        Charge.objects.filter(pk=key).update(updated_at=timezone.now())
        return
    with transaction.atomic():
        charge = Charge.objects.select_for_update().get(pk=key)
        charge.status = status
        charge.save(update_fields=["status", "updated_at"])
