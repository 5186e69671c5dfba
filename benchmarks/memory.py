"""What the long jobs hold in memory over a million rows: the peak over the start.

    python -m benchmarks.memory JOB

runs one job in the database of the environment, and prints the figures as JSON; each
job is measured in a process of its own. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.stage import environment, stub

RECONCILED_FOR = timedelta(minutes=2)
"""A million payments take hours at any provider's pace; memory is settled by then."""

NEW_KEY = "another key for what the benchmarks store"


def measure(rows: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each job, over ``rows`` payments with all that belongs to them."""
    from benchmarks.growth import fill

    fill(rows)
    with stub(0, "pending") as url:
        for job, prepare in PREPARED.items():
            prepare()
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", job],
                env=environment(BENCHMARK_STUB=url),
                stdout=subprocess.PIPE,
                check=True,
            )
            yield {
                "job": "memory",
                "contestant": "django-multipay",
                "what": job,
                "rows": rows,
                **json.loads(done.stdout),
            }


# Before a job: so that it has a million rows to work on ------------------------------


def _nothing() -> None:
    """Leave the rows as they are."""


def _make_one_day() -> None:
    """Let all payments be made on one day: an export has a year at most."""
    from django_multipay.models import Payment

    Payment.objects.update(created_at=datetime(2025, 1, 1, 12, tzinfo=UTC))


def _make_due() -> None:
    from django.utils import timezone

    from django_multipay.models import Payment

    Payment.objects.update(
        status=Payment.Status.PENDING, sync_at=timezone.now() - timedelta(hours=1)
    )


def _seal() -> None:
    """Give every payment an address, encrypted under the key of today."""
    from django.db import connection

    from django_multipay.models import Payment

    example = Payment.objects.create(
        order_id="1001", amount_minor=1, currency="USD", checkout_data={"city": "Seoul"}
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE multipay_payment SET checkout_data ="
            " (SELECT checkout_data FROM multipay_payment WHERE id = %s)",
            [example.pk],
        )


# The jobs, each in its own process ---------------------------------------------------


def _export() -> int:
    from django.contrib.auth.models import User
    from django.test import Client
    from django.urls import reverse

    client = Client()
    client.force_login(User.objects.create_superuser("benchmark"))
    answer: Any = client.get(
        reverse("admin:multipay_payment_overview_export"),
        {"start": "2025-01-01", "end": "2025-01-01"},
    )
    assert answer.status_code == 200, answer
    lines: int = sum(piece.count(b"\n") for piece in answer.streaming_content)
    return lines - 1


def _purge() -> int:
    from django_multipay.flows import purge

    report = purge()
    return report.messages + report.notices


def _rotate() -> int:
    from django.conf import settings
    from django.test import override_settings

    from django_multipay.flows import rotate_keys

    keys = [NEW_KEY, *settings.MULTIPAY["ENCRYPTION_KEYS"]]
    with override_settings(MULTIPAY={**settings.MULTIPAY, "ENCRYPTION_KEYS": keys}):
        report = rotate_keys()
    assert report.is_complete, report
    return sum(report.rotated.values())


def _reconcile() -> int:
    from django_multipay.flows import reconcile

    report = reconcile(budget=RECONCILED_FOR)
    assert not report.errors, report.problems
    return report.payments


PREPARED: dict[str, Callable[[], None]] = {
    "export": _make_one_day,
    "purge": _nothing,
    "rotate": _seal,
    "reconcile": _make_due,
}
JOBS: dict[str, Callable[[], int]] = {
    "export": _export,
    "purge": _purge,
    "rotate": _rotate,
    "reconcile": _reconcile,
}


def _resident(name: str) -> int:
    """Return ``VmRSS``, the memory of now, or ``VmHWM``, the most there was; bytes."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    raise LookupError(name)


def main() -> None:
    """Run one job, print how far memory rose above what it was at the start."""
    import django

    django.setup()
    from django.db import connection

    connection.ensure_connection()
    start, began = _resident("VmRSS"), time.perf_counter()
    worked_on = JOBS[sys.argv[1]]()
    figures = {
        "worked_on": worked_on,
        "seconds": time.perf_counter() - began,
        "start_mib": start / 2**20,
        "over_start_mib": (_resident("VmHWM") - start) / 2**20,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
