"""Short transactions: the clock they go by, when they are repeated, how rows are taken.

Whoever takes rows moves the moment at which they are due in the same statement that
finds them still due. So a row belongs to one worker until that moment, and to anybody
afterwards: a worker that died is waited for, not searched for.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from django.db import IntegrityError, OperationalError, connection, models, transaction
from django.db.models.functions import Now

from django_multipay.models.fields import EncryptedJSONField

logger = logging.getLogger("django_multipay.ledger")

ATTEMPTS = 5
"""How often a transaction is tried that met a deadlock or a busy database."""

PATIENCE = timedelta(seconds=4)
"""How long it is tried: what waited for a lock as long as this does not wait again."""

CHUNK = 200
"""How many rows are in memory, or in a transaction, where all have to be looked at."""

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=models.Model)


class DatabaseNow(Now):
    """The database's clock, so that workers whose clocks differ agree on leases."""

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Return UTC, because a session's time zone need not be."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


class ClockNow(DatabaseNow):
    """The same, but after what the statement itself had to wait for, such as a lock."""

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Return the moment at which it is asked, not that of the statement."""
        return self.as_sql(compiler, connection, template="CLOCK_TIMESTAMP()", **extra)


def retried(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` again after a deadlock, a busy database or a lost race.

    Only as the outermost block: inside a caller's transaction the error is theirs.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        began = time.monotonic_ns()
        for attempt in range(1, ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except (OperationalError, IntegrityError):
                waited = timedelta(microseconds=(time.monotonic_ns() - began) // 1000)
                if (
                    connection.in_atomic_block
                    or waited > PATIENCE
                    or not is_connected()
                ):
                    raise
                logger.info("%s: attempt %s is repeated", function.__name__, attempt)
                _give_way(attempt)
        return function(*args, **kwargs)

    return wrapper


def _give_way(attempt: int) -> None:
    """Let whoever is in the way come to an end."""
    # Jitter only; nothing secret depends on it.
    time.sleep(random.randint(5, 40) * attempt / 1000)  # noqa: S311


def is_connected() -> bool:
    """Say whether this thread's connection to the database is alive."""
    # MariaDB's own check fails when there is no connection at all.
    return connection.connection is not None and connection.is_usable()


def take(
    due: models.QuerySet[Any],
    candidates: models.QuerySet[Any],
    limit: int,
    postponed: Mapping[str, Any],
) -> list[int]:
    """Return the keys of at most ``limit`` rows of ``candidates`` that are now ours.

    In their order. ``due`` says, by columns of the row alone, that nobody has it;
    ``postponed`` are the values that make it so. Rows that somebody has locked are
    passed by; where there are no others, they are looked at a few times more, because
    MariaDB also locks, for a moment, rows that nobody wants.
    """
    for attempt in range(1, ATTEMPTS):
        taken, has_passed = _take(due, candidates, limit, postponed)
        if taken or not has_passed:
            return taken
        _give_way(attempt)
    return _take(due, candidates, limit, postponed)[0]


@retried
def _take(
    due: models.QuerySet[Any],
    candidates: models.QuerySet[Any],
    limit: int,
    postponed: Mapping[str, Any],
) -> tuple[list[int], bool]:
    """Return what is ours, and whether rows were passed by."""
    passed: set[int] = set()
    while limit:
        rest = candidates.exclude(pk__in=passed) if passed else candidates
        found = list(rest.values_list("pk", flat=True)[:limit])
        if not found:
            break
        with transaction.atomic(durable=True):
            # Asked here, where a connection is open: MariaDB needs one to answer.
            can_skip = connection.features.has_select_for_update_skip_locked
            free = due.filter(pk__in=found).order_by()
            locked = free.select_for_update(skip_locked=can_skip)
            ours = set(locked.values_list("pk", flat=True))
            # Where the database locks no rows, this statement alone decides.
            count = due.filter(pk__in=ours).update(**postponed) if ours else 0
            if count != len(ours):
                raise OperationalError("another worker took some of these rows")
        if ours:
            return [key for key in found if key in ours], bool(passed)
        # Somebody else has these right now, so what comes behind them is for us.
        passed.update(found)
    return [], bool(passed)


def chunks(rows: models.QuerySet[Any]) -> Iterator[list[int]]:
    """Yield the keys of ``rows`` in their order, `CHUNK` at a time."""
    last = 0
    while True:
        later = rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)
        keys = list(later[:CHUNK])
        if not keys:
            return
        yield keys
        last = keys[-1]


def read(model: type[M], keys: Sequence[int], *related: str) -> list[M]:
    """Return the rows of ``keys`` in this order, with those they name.

    Without encrypted columns: a value that no key opens fails with its own row only,
    where it is needed.
    """
    owners: list[tuple[str, type[models.Model]]] = [("", model)]
    sealed = [
        f"{prefix}{field.name}"
        for prefix, owner in owners + _related(model, related)
        for field in owner._meta.get_fields()
        if isinstance(field, EncryptedJSONField)
    ]
    wanted = model._default_manager.defer(*sealed)
    if related:
        wanted = wanted.select_related(*related)
    rows = wanted.in_bulk(keys)
    return [rows[key] for key in keys if key in rows]


def _related(
    model: type[models.Model], names: Sequence[str]
) -> list[tuple[str, type[models.Model]]]:
    found = []
    for name in names:
        target = model._meta.get_field(name).related_model
        assert isinstance(target, type)  # noqa: S101  (a name of a foreign key)
        found.append((f"{name}__", target))
    return found
