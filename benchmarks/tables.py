"""Rows of figures as Markdown, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def _number(name: str, digits: int = 2, unit: str = "") -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = row.get(name)
        return "" if value is None else f"{value:,.{digits}f}{unit}"

    return cell


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name])


def _quartiles(row: Row) -> str:
    low, high = row["ratio_quartiles"]
    return f"{low:.2f} to {high:.2f}"


def _afterwards(row: Row) -> str:
    if not row.get("after_statements"):
        return ""
    return f"{row['after_ms']:.2f} ms, {row['after_statements']:.0f} queries"


RATIO: tuple[Column, ...] = (
    ("ratio", _number("ratio")),
    ("quartiles", _quartiles),
)

PAYMENTS: tuple[Column, ...] = (
    ("job", _text("job")),
    ("provider", _number("delay_ms", 0, " ms")),
    ("contestant", _text("contestant")),
    ("median", _number("median_ms", 2, " ms")),
    ("CPU", _number("processor_ms", 2, " ms")),
    ("waiting for the database", _number("database_ms", 2, " ms")),
    *RATIO,
    ("to the floor's valid one", _number("ratio_to_valid")),
    ("queries", _number("statements", 0)),
    ("commits", _number("commits", 0)),
    ("new connections", _number("connections", 0)),
    ("after the answer", _afterwards),
)

TELLING_APART = frozenset({"job", "provider"})
"""Columns that a table does not need if all its rows say the same there."""

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    **dict.fromkeys(
        ("checkout", "callback", "duplicate", "forged", "refund"), PAYMENTS
    ),
    "throughput": (
        ("contestant", _text("contestant")),
        ("callbacks a second", _number("per_second", 0)),
        *RATIO,
        ("half take at most", _number("p50_ms", 1, " ms")),
        ("99 of 100 take at most", _number("p99_ms", 1, " ms")),
    ),
    "startup": (
        ("shop", _text("shop")),
        ("`django.setup()` without", _number("without_ms", 0, " ms")),
        ("the same models alone add", _number("models_alone_ms", 1, " ms")),
        ("the app adds", _number("added_ms", 1, " ms")),
        ("of which full collections", _number("collecting_ms", 1, " ms")),
        ("memory of Python's objects", _number("added_mib", 2, " MiB")),
        ("resident memory", _number("added_resident_mib", 2, " MiB")),
        (
            "of the heavy libraries",
            lambda row: ", ".join(row["imported"]) or "none",
        ),
    ),
    "reconcile": (
        ("the provider says", _text("answer")),
        ("contestant", _text("contestant")),
        ("median", _number("median_s", 2, " s")),
        *RATIO,
        ("queries per payment", _number("statements_each", 2)),
    ),
    "memory": (
        ("job", _text("what")),
        ("payments", _number("rows", 0)),
        ("worked on", _number("worked_on", 0)),
        ("took", _number("seconds", 0, " s")),
        ("at the start", _number("start_mib", 0, " MiB")),
        ("peak over the start", _number("over_start_mib", 1, " MiB")),
    ),
    "admin": (
        ("page", _text("what")),
        ("1,000 payments", _number("small_ms", 0, " ms")),
        ("many payments", _number("large_ms", 0, " ms")),
        ("how many", _number("rows", 0)),
        ("ratio", _number("ratio")),
        ("queries", _number("statements", 0)),
    ),
}


def of_rows(rows: Sequence[Row]) -> str:
    """Return ``rows``, which are of one kind of job, as a table."""
    shown = [
        (title, cell)
        for title, cell in COLUMNS[rows[0]["job"]]
        # What no row has anything to say about is left out.
        if any(map(cell, rows))
        and (title not in TELLING_APART or len(set(map(cell, rows))) > 1)
    ]
    return of_cells(
        [title for title, _cell in shown],
        ([cell(row) for _title, cell in shown] for row in rows),
    )


def of_cells(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table with these titles and cells."""
    everything = [titles, ["---"] * len(titles), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in everything)
