"""What a payment costs, beside a view that a careful engineer writes by hand.

    python benchmarks/payments.py [--rounds 200] [--database-url URL] [--json FILE]

Each round lets every contestant do the same job once, in turn, so that whatever else
the machine does falls on all of them alike. Prints medians, the ratio to the ORM floor
with its quartiles over the rounds, statements, commits, and connections opened.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

DELAYS = (0, 50)
WARM_UP = 10
NO_WORK = frozenset({"BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK"})
"""What every contestant's transactions need, and no table is asked."""


@dataclass
class Cost:
    """What one job of one contestant cost, in each round."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    statements: list[int] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    connections: int = 0


class Meter:
    """Counts statements and commits of the default connection."""

    def __init__(self) -> None:
        from django.db import connection

        self.statements = self.commits = 0
        self.connection = connection
        commit = connection._commit

        def counted() -> None:
            self.commits += 1
            commit()

        connection._commit = counted

    def execute(self, run: Callable[..., Any], sql: str, *rest: Any) -> Any:
        """Count one statement."""
        word = sql.lstrip().split(" ", 1)[0].upper()
        if word not in NO_WORK:
            self.statements += 1
            # Outside of a transaction a write is a commit too.
            if not self.connection.in_atomic_block and word != "SELECT":
                self.commits += 1
        return run(sql, *rest)

    @contextmanager
    def measuring(self, cost: Cost) -> Iterator[None]:
        """Add what happens inside to ``cost``."""
        self.statements = self.commits = 0
        with self.connection.execute_wrapper(self.execute):
            processor, began = time.process_time(), time.perf_counter()
            yield
            cost.seconds.append(time.perf_counter() - began)
            cost.processor.append(time.process_time() - processor)
        cost.statements.append(self.statements)
        cost.commits.append(self.commits)


@contextmanager
def stub(delay: int) -> Iterator[str]:
    """Run a stub that answers after ``delay`` milliseconds; yield its origin."""
    command = [sys.executable, str(ROOT / "benchmarks/stub.py"), "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def connections(url: str) -> int:
    """Return how many connections the stub has seen, this one included."""
    with urllib.request.urlopen(f"{url}/connections") as answer:
        return json.load(answer)["connections"]


def main() -> None:
    """Measure all jobs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--database-url", default="")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="multipay-benchmark-") as folder:
        os.environ["DATABASE_URL"] = (
            options.database_url or f"sqlite:///{folder}/benchmark.sqlite3"
        )
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        import django

        django.setup()
        logging.getLogger("django_multipay").addHandler(logging.NullHandler())
        from django.db import connection

        connection.creation.create_test_db(verbosity=0)
        try:
            rows = [row for delay in DELAYS for row in measure(delay, options.rounds)]
        finally:
            connection.creation.destroy_test_db(os.environ["DATABASE_URL"], verbosity=0)
        print(f"{connection.vendor}, {options.rounds} rounds\n")
        report(rows)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))


def measure(delay: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each job and contestant, with a stub of ``delay``."""
    from django.conf import settings
    from django.test import override_settings

    from benchmarks.contestants import OrmFloor, Ours, SqlFloor
    from django_multipay.registry import registry

    meter = Meter()
    costs: dict[tuple[str, str], Cost] = defaultdict(Cost)
    with stub(delay) as url:
        account = settings.MULTIPAY["PROVIDERS"]["stub"]
        there = {**account, "OPTIONS": {**account["OPTIONS"], "base_url": url}}
        changed = {**settings.MULTIPAY, "PROVIDERS": {"stub": there}}
        with override_settings(MULTIPAY=changed):
            everybody = [OrmFloor(url), SqlFloor(url), Ours(url)]
            assert registry["stub"].options.base_url == url
            for number in range(WARM_UP + rounds):
                if number == WARM_UP:
                    costs.clear()
                for one in everybody:
                    live(one, url, meter, costs)
    for job in dict.fromkeys(job for job, _name in costs):
        if delay and job not in OUTGOING:
            continue
        floor = costs[job, OrmFloor.name].seconds
        for one in everybody:
            cost = costs[job, one.name]
            ratios = [mine / its for mine, its in zip(cost.seconds, floor, strict=True)]
            low, _middle, high = statistics.quantiles(ratios, n=4)
            yield {
                "job": job,
                "delay_ms": delay,
                "contestant": one.name,
                "median_ms": statistics.median(cost.seconds) * 1000,
                "processor_ms": statistics.median(cost.processor) * 1000,
                "ratio": statistics.median(cost.seconds) / statistics.median(floor),
                "ratio_quartiles": [low, high],
                "statements": statistics.median(cost.statements),
                "commits": statistics.median(cost.commits),
                "connections": cost.connections,
            }


def live(one: Any, url: str, meter: Meter, costs: dict[tuple[str, str], Cost]) -> None:
    """Let ``one`` take a payment from its start to its refund; add up the costs."""
    from benchmarks.contestants import Message

    def done(job: str, act: Callable[..., Any], *args: Any) -> Any:
        cost = costs[job, one.name]
        before = connections(url) if job in OUTGOING else 0
        with meter.measuring(cost):
            answer = act(*args)
        if job in OUTGOING:
            cost.connections += connections(url) - before - 1
        return answer

    reference = done("checkout", one.checkout)
    message = one.message(reference)
    assert done("callback", one.callback, message).status_code == 200
    assert done("duplicate", one.callback, message).status_code == 200
    forged = Message(message.body, "0" * 64)
    assert done("forged", one.callback, forged).status_code == 401
    done("refund", one.refund, reference)


OUTGOING = frozenset({"checkout", "refund"})


def report(rows: list[dict[str, Any]]) -> None:
    """Print ``rows`` as a table."""
    print(
        "| Job | provider | contestant | median | CPU | ratio | quartiles "
        "| statements | commits | new connections |"
    )
    print("| --- | ---: | --- " + "| ---: " * 7 + "|")
    for row in rows:
        low, high = row["ratio_quartiles"]
        print(
            f"| {row['job']} | {row['delay_ms']} ms | {row['contestant']} "
            f"| {row['median_ms']:.2f} ms | {row['processor_ms']:.2f} ms "
            f"| {row['ratio']:.2f} | {low:.2f} to {high:.2f} "
            f"| {row['statements']:.0f} | {row['commits']:.0f} "
            f"| {row['connections']} |"
        )


if __name__ == "__main__":
    main()
