"""What the admin's pages cost at a thousand payments and at a million.

    python benchmarks/admin.py [--rows 1000000] [--database-url URL]

Fills a database of its own (SQLite in a temporary folder, or the one the URL names,
which must not exist yet and is dropped afterwards), asks for each page through Django's
test client, and prints a table: median time of fifteen, queries, and the ratio between
the two sizes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

SMALL = 1_000
CHUNK = 5_000
REPEATS = 15
FIRST_DAY = datetime(2024, 10, 1, tzinfo=UTC)
STATUSES = ("paid",) * 7 + ("failed", "canceled", "expired")


def main() -> None:
    """Fill, measure, fill up, measure again, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database-url", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="multipay-benchmark-") as folder:
        os.environ["DATABASE_URL"] = (
            options.database_url or f"sqlite:///{folder}/benchmark.sqlite3"
        )
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        import django

        django.setup()
        from django.db import connection

        # Django's own test database: made, migrated and dropped by it.
        connection.creation.create_test_db(verbosity=0)
        try:
            client = log_in()
            fill(0, SMALL)
            small = measure(client, SMALL)
            began = time.monotonic()
            fill(SMALL, options.rows)
            print(f"filled in {time.monotonic() - began:.0f} s", file=sys.stderr)
            large = measure(client, options.rows)
        finally:
            connection.creation.destroy_test_db(os.environ["DATABASE_URL"], verbosity=0)
        report(connection.vendor, options.rows, small, large)


def log_in():
    """Return a client of the admin who may do everything."""
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_superuser("benchmark"))
    return client


def fill(start: int, stop: int) -> None:
    """Insert the payments ``start`` to ``stop``, each with its fact."""
    from django.db import connection

    from django_multipay.models import Payment, Transaction

    for first in range(start, stop, CHUNK):
        numbers = range(first, min(first + CHUNK, stop))
        Payment.objects.bulk_create(payments(numbers))
        ids = Payment.objects.filter(
            order_id__in=[f"SHOP-{number}" for number in numbers]
        ).values_list("pk", "amount_minor")
        Transaction.objects.bulk_create(
            Transaction(
                payment_id=pk,
                kind="capture",
                amount_minor=amount_minor,
                currency="USD",
                provider_reference=f"T-{pk}",
                source="webhook",
            )
            for pk, amount_minor in ids
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor != "mysql" else "SELECT 1")


def payments(numbers: range) -> Iterator[object]:
    """Yield payments of a shop that takes one a minute."""
    from django.utils import timezone

    from django_multipay.models import Payment

    for number in numbers:
        moment = FIRST_DAY + number * timedelta(minutes=1)
        payment = Payment(
            provider="eximbay",
            order_id=f"SHOP-{number}",
            provider_reference=f"T-{number}",
            transaction_reference=f"T-{number}",
            status=STATUSES[number % len(STATUSES)],
            amount_minor=1000 + number % 90_000,
            captured_minor=1000 + number % 90_000,
            currency="USD",
            buyer_email=f"buyer{number % 400_000}@example.com",
            review_reason="overpaid" if number % 200 == 3 else "",
            started_at=timezone.now(),
        )
        # The clock of the table, not of this run.
        payment._meta.get_field("created_at").auto_now_add = False
        payment.created_at = moment
        yield payment


def pages(rows: int) -> Mapping[str, str]:
    """Return what staff look at, by name."""
    from django_multipay.models import Payment

    row = Payment.objects.get(order_id=f"SHOP-{rows // 2}")
    listing = "/admin/multipay/payment/"
    last = min(1000, rows // 100)
    return {
        "first page": listing,
        "page 1,000 (or the last)": f"{listing}?p={last}",
        "search by order": f"{listing}?q={row.order_id}",
        "search by our reference": f"{listing}?q={row.merchant_reference}",
        "search by the provider's": f"{listing}?q={row.provider_reference}",
        "search by e-mail": f"{listing}?q={row.buyer_email}",
        "paid only": f"{listing}?status__exact=paid",
        "review queue": f"{listing}?review=any",
        "one day": f"{listing}?created_at__year=2024&created_at__month=10"
        "&created_at__day=1",
        "one payment": f"{listing}{row.pk}/change/",
    }


def measure(client, rows: int) -> dict[str, tuple[float, int]]:
    """Return milliseconds and queries of each page."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    looked_at = pages(rows)
    times: dict[str, list[float]] = {name: [] for name in looked_at}
    statements = {}
    # In turn, so that a slow moment of the machine falls on no page alone.
    for _ in range(REPEATS):
        for name, url in looked_at.items():
            with CaptureQueriesContext(connection) as queries:
                began = time.perf_counter()
                answer = client.get(url)
                times[name].append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, (name, answer.status_code)
            statements[name] = len(queries)
    return {
        name: (statistics.median(taken), statements[name])
        for name, taken in times.items()
    }


def report(
    vendor: str,
    rows: int,
    small: Mapping[str, tuple[float, int]],
    large: Mapping[str, tuple[float, int]],
) -> None:
    """Print the table."""
    print(f"| {vendor} | {SMALL:,} rows | {rows:,} rows | ratio | queries |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (milliseconds, queries) in large.items():
        before = small[name][0]
        print(
            f"| {name} | {before:.0f} ms | {milliseconds:.0f} ms "
            f"| {milliseconds / before:.2f} | {queries} |"
        )


if __name__ == "__main__":
    main()
