"""What a payment costs, beside views that a careful engineer writes by hand.

Each round lets every contestant live through one payment, in turn, so that whatever
else the machine does falls on all of them alike.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from benchmarks.contestants import contestants
from benchmarks.contestants.base import Contestant
from benchmarks.contestants.floor import OrmFloor
from benchmarks.meter import Cost, Meter, spread
from benchmarks.stage import connections_opened, stub

JOBS = ("checkout", "callback", "duplicate", "forged", "refund")
DELAYS_MS = (0, 50)
ROUNDS = 200
WARM_UP = 10

OUTGOING = frozenset({"checkout", "refund"})
"""The jobs in which the provider is called, so that its delay matters."""

AFTER = "after the callback"
"""What is done when the answer to a callback is on its way."""

Costs = dict[tuple[str, str], Cost]


def measure(rounds: int, jobs: Collection[str] = JOBS) -> Iterator[dict[str, Any]]:
    """Yield a row for each job, delay of the provider, and contestant."""
    meter = Meter()
    for delay_ms in DELAYS_MS:
        wanted = [job for job in JOBS if job in jobs]
        if delay_ms:
            wanted = [job for job in wanted if job in OUTGOING]
        if not wanted:
            continue
        costs: Costs = defaultdict(Cost)
        with stub(delay_ms) as url:
            everybody = contestants(url)
            with meter.shops(one.name for one in everybody) as shops:
                for number in range(WARM_UP + rounds):
                    if number == WARM_UP:
                        costs.clear()
                    # Nobody always follows the same one, nor pays for what it left.
                    first = number % len(everybody)
                    for one in everybody[first:] + everybody[:first]:
                        connections[DEFAULT_DB_ALIAS] = shops[one.name]
                        _live(one, url, meter, costs)
        for job in wanted:
            for one in everybody:
                if job in one.jobs:
                    yield _row(job, delay_ms, one, costs)


def _live(one: Contestant, url: str, meter: Meter, costs: Costs) -> None:
    """Let ``one`` take a payment from its start to its refund; add up the costs."""

    def done(job: str, act: Callable[..., Any], *args: Any) -> Any:
        cost = costs[job, one.name]
        before = connections_opened(url) if job in OUTGOING else 0
        with meter.measuring(cost):
            answer = act(*args)
        if job in OUTGOING:
            cost.connections += connections_opened(url) - before - 1
        return answer

    reference = done("checkout", one.checkout)
    message = one.message(reference)
    for job, said, status in (
        ("callback", message, 200),
        ("duplicate", message, 200),
        ("forged", one.forged(message), one.refusal),
    ):
        answer = done(job, one.callback, said)
        assert answer.status_code in {status, 204}, (one.name, job, answer)
        # A server does this when the answer was sent.
        done(AFTER if job == "callback" else f"after {job}", answer.close)
    if "refund" in one.jobs:
        done("refund", one.refund, reference)


def _row(job: str, delay_ms: int, one: Contestant, costs: Costs) -> dict[str, Any]:
    cost, floor = costs[job, one.name], costs[job, OrmFloor.name]
    row = {
        "job": job,
        "delay_ms": delay_ms,
        "contestant": one.name,
        "median_ms": statistics.median(cost.seconds) * 1000,
        "processor_ms": statistics.median(cost.processor) * 1000,
        "database_ms": statistics.median(cost.database) * 1000,
        **spread(cost.seconds, floor.seconds),
        "statements": statistics.median(cost.statements),
        "commits": statistics.median(cost.commits),
    }
    if job in OUTGOING:
        row["connections"] = cost.connections
    if job == "duplicate":
        valid = statistics.median(costs["callback", OrmFloor.name].seconds)
        row["ratio_to_valid"] = statistics.median(cost.seconds) / valid
    if job == "callback":
        after = costs[AFTER, one.name]
        row |= {
            "after_ms": statistics.median(after.seconds) * 1000,
            "after_statements": statistics.median(after.statements),
            "after_commits": statistics.median(after.commits),
        }
    return row
