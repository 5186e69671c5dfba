"""Nothing that a shop does every day slows down when its tables grow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from benchmarks.growth import ACCOUNT, FIRST_DAY, explained, fill
from django_multipay.admin import paging
from django_multipay.models import Payment
from tests.flows.scripted import account_settings
from tests.flows.test_crash import database_url
from tests.flows.tokens import SavingProvider

PAYMENTS = 20_000
WHOLE_TABLES = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
"""Ways of PostgreSQL that read all of a table where an index would do."""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def grown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A shop that has been open for a while, on PostgreSQL; it forgets the first day.

    As at a million rows, to read all of a table is the last resort: these are small
    enough that it would be the first.
    """
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL's plans are read here")
    day = (timezone.now() - FIRST_DAY - timedelta(hours=2)).days
    settings.MULTIPAY = {
        **account_settings(**{ACCOUNT: SavingProvider}),
        "CONCURRENCY": 1,
        "RETENTION": {"MESSAGES": day, "NOTICES": day, "CHECKOUTS": day},
    }
    # So that the far page is the last one of those that are counted.
    monkeypatch.setattr(paging, "COUNTED", 3000)
    fill(PAYMENTS, ACCOUNT)
    with connection.cursor() as cursor:
        for way in WHOLE_TABLES:
            cursor.execute(f"SET {way} = off")
    yield
    with connection.cursor() as cursor:
        for way in WHOLE_TABLES:
            cursor.execute(f"RESET {way}")
        # Row by row, as after every other test, it would take longer than the test.
        cursor.execute("TRUNCATE multipay_payment CASCADE")


@pytest.mark.usefixtures("grown")
def test_no_statement_reads_more_when_the_tables_grow() -> None:
    problems = {
        f"{plan.work}: {problem}\n{plan.sql}"
        for plan in explained()
        for problem in plan.problems
    }
    assert not problems, "\n\n".join(sorted(problems))


# Memory ---------------------------------------------------------------------------------

ROWS = 1500
SAID = "x" * 30_000
"""What each payment holds: all of them at once would be forty megabytes."""

SEALED = {"street": "y" * 10_000}
MOST = 20 * 2**20
"""Bytes that a job may need, however many rows it works on."""

JOBS = """
import json, resource, sys

import django
from django.conf import settings

multipay = {
    "PROVIDERS": {
        "scripted": {
            "BACKEND": "tests.flows.scripted.ScriptedProvider",
            "OPTIONS": {},
        }
    },
    "CONCURRENCY": 4,
    "RETENTION": {"BUYERS": 0},
}
settings.MULTIPAY = multipay
django.setup()

from django_multipay import crypto, flows

UNIT = 1 if sys.platform == "darwin" else 1024


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def needed(job):
    before = peak()
    report = job()
    return [peak() - before, repr(report)]


# What is imported or connected at the first time is not what grows.
crypto.decrypt(crypto.encrypt("x"))
flows.reconcile(limit=40)
flows.purge(dry_run=True)
said = {"reconcile": needed(flows.reconcile)}
settings.MULTIPAY = {**multipay, "ENCRYPTION_KEYS": ["new", settings.SECRET_KEY]}
said["rotate"] = needed(flows.rotate_keys)
from django_multipay.admin import paging
from django_multipay.models import Payment
Payment.objects.update(status="paid", sync_at=None)
said["purge"] = needed(flows.purge)
print(json.dumps(said))
"""


def test_a_job_needs_no_more_memory_for_more_rows() -> None:
    past = timezone.now() - timedelta(hours=1)
    Payment.objects.bulk_create(
        (
            Payment(
                provider="scripted",
                order_id="1001",
                amount_minor=2630,
                currency="USD",
                status=Payment.Status.PENDING,
                started_at=past,
                sync_at=past,
                metadata={"said": SAID},
                checkout_data=SEALED,
            )
            for _ in range(ROWS)
        ),
        batch_size=50,
    )
    child = subprocess.run(
        # A process begins with the peak of the one that started it: a small one.
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", JOBS],
        env=os.environ
        | {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(child.stdout)
    assert f"payments={ROWS - 40}" in said["reconcile"][1]
    assert f"'payment': {ROWS}" in said["rotate"][1]
    assert f"buyers={ROWS}" in said["purge"][1]
    assert {job: grown for job, (grown, _) in said.items() if grown > MOST} == {}
