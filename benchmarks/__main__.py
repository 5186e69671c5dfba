"""Measures what payments cost here, and prints a table for each kind of job.

    python -m benchmarks [jobs…] [--database-url URL [--prepared]] [--rounds N]
                         [--json FILE] [--save]

Makes a database of its own, which must not exist yet, and drops it afterwards:
SQLite in a temporary folder, or the one the URL names.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEFAULT_JOBS = (
    *("checkout", "callback", "duplicate", "forged", "refund"),
    *("throughput", "startup", "reconcile"),
)
LONG_JOBS = ("memory", "admin")
"""With a million rows: only when they are asked for."""


def main() -> None:
    """Measure what was asked for, print it, and write it where it was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "jobs",
        nargs="*",
        metavar="job",
        help=f"of {', '.join(DEFAULT_JOBS)} (all of these by default), "
        f"{' and '.join(LONG_JOBS)}",
    )
    parser.add_argument("--database-url", default="", help="default: SQLite")
    parser.add_argument(
        "--prepared",
        action="store_true",
        help="let PostgreSQL keep the statements that come again",
    )
    parser.add_argument(
        "--rounds", type=int, help="how often each job is done (each has a default)"
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=1_000_000,
        help="payments in the database, for memory and admin (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument(
        "--save",
        action="store_true",
        help="keep the figures in benchmarks/results and draw the plots of the docs",
    )
    options = parser.parse_args()
    jobs = options.jobs or list(DEFAULT_JOBS)
    if unknown := set(jobs) - {*DEFAULT_JOBS, *LONG_JOBS}:
        parser.error(f"there is no job {', '.join(sorted(unknown))}")

    with tempfile.TemporaryDirectory(prefix="multipay-benchmark-") as folder:
        os.environ["DATABASE_URL"] = (
            options.database_url or f"sqlite:///{folder}/benchmark.sqlite3"
        )
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        os.environ["BENCHMARK_PREPARED"] = str(options.prepared)
        import django

        django.setup()
        from django.db import connection

        from benchmarks import results, tables

        connection.creation.create_test_db(verbosity=0)
        try:
            run = results.new_run()
            for rows in measured(jobs, options.rounds, options.rows):
                run["rows"] += rows
                print(tables.of_rows(rows), flush=True)
        finally:
            connection.creation.destroy_test_db(os.environ["DATABASE_URL"], verbosity=0)
    for name in run["absent"]:
        print(f"{name} is not installed here, and not measured.")
    if options.json:
        results.write(run, options.json)
    if options.save:
        results.keep(run)


def measured(
    jobs: list[str], rounds: int | None, rows: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each kind of job; ``rounds`` None: as many as it needs."""
    from django.core.management import call_command

    from benchmarks import (
        lists,
        memory,
        payments,
        reconciliation,
        startup,
        throughput,
    )

    def tell(name: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {name} …", file=sys.stderr, flush=True)

    if of_payments := [job for job in jobs if job in payments.JOBS]:
        tell(", ".join(of_payments))
        yield list(payments.measure(rounds or payments.ROUNDS, of_payments))
    for name, kind in (
        ("throughput", throughput),
        ("startup", startup),
        ("reconcile", reconciliation),
    ):
        if name in jobs:
            tell(name)
            yield list(kind.measure(rounds or kind.ROUNDS))
    for name, long_kind in (("memory", memory), ("admin", lists)):
        if name in jobs:
            tell(name)
            # They compare sizes of a database that nobody else has filled.
            call_command("flush", interactive=False, verbosity=0)
            yield list(long_kind.measure(rows))


if __name__ == "__main__":
    main()
