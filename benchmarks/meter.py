"""Counting what a job costs: time, CPU, statements, commits."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

NO_WORK = frozenset({"BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT"})
"""What every contestant's transactions need, and no table is asked."""


@dataclass
class Cost:
    """What one job of one contestant cost, in each round."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    database: list[float] = field(default_factory=list)
    """Of the seconds, those in which a statement or a commit was waited for."""
    statements: list[int] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    connections: int = 0
    """Connections to the provider that were opened, in all rounds."""


class Meter:
    """Counts statements and commits of the default connection of this thread."""

    def __init__(self) -> None:
        self.statements = self.commits = 0
        self.waited = 0.0

    @contextmanager
    def shops(self, names: Iterable[str]) -> Iterator[dict[str, BaseDatabaseWrapper]]:
        """Yield a connection for each of ``names``, to be made the default one.

        As each has where it is alone: what a rollback of one makes a driver forget, it
        forgets for that one only.
        """
        first = connections[DEFAULT_DB_ALIAS]
        own = {name: first.copy() for name in names}
        for database in own.values():
            self._count_commits(database)
        try:
            yield own
        finally:
            connections[DEFAULT_DB_ALIAS] = first
            for database in own.values():
                database.close()

    def _count_commits(self, database: Any) -> None:
        commit = database._commit

        def counted() -> None:
            self.commits += 1
            with self._waiting():
                commit()

        database._commit = counted

    def execute(self, run: Callable[..., Any], sql: str, *rest: Any) -> Any:
        """Count one statement."""
        word = sql.lstrip().split(" ", 1)[0].upper()
        if word not in NO_WORK:
            self.statements += 1
            # Outside of a transaction a write is a commit too.
            if not connection.in_atomic_block and word != "SELECT":
                self.commits += 1
        with self._waiting():
            return run(sql, *rest)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.waited += time.perf_counter() - began

    @contextmanager
    def measuring(self, cost: Cost) -> Iterator[None]:
        """Add what happens inside to ``cost``."""
        self.statements = self.commits = 0
        self.waited = 0.0
        with connection.execute_wrapper(self.execute):
            processor, began = time.process_time(), time.perf_counter()
            yield
            cost.seconds.append(time.perf_counter() - began)
            cost.processor.append(time.process_time() - processor)
        cost.database.append(self.waited)
        cost.statements.append(self.statements)
        cost.commits.append(self.commits)


@contextmanager
def counting_everywhere() -> Iterator[Callable[[], int]]:
    """Yield a function that says how many statements all threads have made."""
    lock = threading.Lock()
    count = 0

    def execute(run: Callable[..., Any], sql: str, *rest: Any) -> Any:
        nonlocal count
        if sql.lstrip().split(" ", 1)[0].upper() not in NO_WORK:
            with lock:
                count += 1
        return run(sql, *rest)

    def watch(connection: BaseDatabaseWrapper, **_more: Any) -> None:
        connection.execute_wrappers.append(execute)

    connection_created.connect(watch)
    try:
        with connection.execute_wrapper(execute):
            yield lambda: count
    finally:
        connection_created.disconnect(watch)
        connections.close_all()


def spread(mine: Sequence[float], its: Sequence[float]) -> dict[str, Any]:
    """Return the ratio of two medians, and the quartiles of the rounds' ratios."""
    ratios = [one / other for one, other in zip(mine, its, strict=True)]
    low, high = ratios[0], ratios[0]
    if len(ratios) > 1:
        low, _middle, high = statistics.quantiles(ratios, n=4)
    return {
        "ratio": statistics.median(mine) / statistics.median(its),
        "ratio_quartiles": [low, high],
    }
