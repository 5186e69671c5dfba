"""What was promised of speed, and whether the newest figures keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "django-multipay"
FLOOR = "floor (ORM)"

MILLION = 1_000_000

FULLER = "review queue"
"""The page of the admin that shows five payments of a thousand, and then a hundred."""

FORGED_MS = 0.25
"""What it takes to refuse a forged message: reading it, and one HMAC."""

Row = Mapping[str, Any]
Rows = Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One promise: a figure of one job, and its bound."""

    what: str
    job: str
    figure: Callable[[Rows], float | None]
    """The figure, from the rows of the job; None: they do not have it."""
    most: float = 0
    least: float = 0
    """Where this is given, the figure must not be less; otherwise not `most`."""
    unit: str = ""
    digits: int = 0
    behind: Callable[[Rows], str] = lambda rows: ""
    """The two figures of which it is the ratio, in words."""

    @property
    def bound(self) -> str:
        """The bound in words."""
        number = self.said(self.least or self.most)
        return f"at least {number}" if self.least else f"at most {number}"

    def said(self, figure: float) -> str:
        """Return ``figure`` as people read it."""
        return f"{figure:.{self.digits}f}{self.unit}"

    def is_kept(self, figure: float) -> bool:
        """Say whether ``figure``, rounded as it is shown, is within the bound."""
        shown = round(figure, self.digits)
        return shown >= self.least if self.least else shown <= self.most


def one(rows: Rows, contestant: str = OURS, **fields: Any) -> Row:
    """Return the first row of ``contestant`` with these fields; {} without one."""
    wanted = {"contestant": contestant, **fields}
    return next((row for row in rows if wanted.items() <= row.items()), {})


def _figure(name: str, **fields: Any) -> Callable[[Rows], float | None]:
    return lambda rows: one(rows, **fields).get(name)


def _two(name: str, digits: int, unit: str, **fields: Any) -> Callable[[Rows], str]:
    def behind(rows: Rows) -> str:
        ours, floor = one(rows, **fields), one(rows, FLOOR, **fields)
        return f"{ours[name]:.{digits}f} to {floor[name]:.{digits}f}{unit}"

    return behind


def _share(name: str) -> Callable[[Rows], float | None]:
    """Return ours over the floor's of a figure that has no ratio of its own."""

    def figure(rows: Rows) -> float | None:
        ours, floor = one(rows), one(rows, FLOOR)
        return ours[name] / floor[name] if ours and floor else None

    return figure


def _worst(name: str) -> Callable[[Rows], float | None]:
    return lambda rows: max((row[name] for row in rows), default=None)


def _at_a_million(rows: Rows) -> Rows:
    """Return the rows that were measured at a size for which goals are set."""
    return [row for row in rows if row["rows"] >= MILLION]


def _lists_of_a_million(rows: Rows) -> Rows:
    """Return the pages of the admin that show as much at both sizes."""
    return [row for row in _at_a_million(rows) if row["what"] != FULLER]


def _name_of_worst(name: str, rows: Rows) -> str:
    return str(max(rows, key=lambda row: row[name])["what"])


def _ratio(job: str, what: str, most: float, **fields: Any) -> Goal:
    return Goal(
        what=what,
        job=job,
        figure=_figure("ratio", **fields),
        most=most,
        unit="x",
        digits=2,
        behind=_two("median_ms", 2, " ms", **fields),
    )


def _count(job: str, what: str, name: str, most: int) -> Goal:
    return Goal(what=what, job=job, figure=_figure(name), most=most)


GOALS: tuple[Goal, ...] = (
    _ratio("checkout", "Checkout, provider answers at once", 1.6, delay_ms=0),
    _ratio("checkout", "Checkout, provider takes 50 ms", 1.05, delay_ms=50),
    _count("checkout", "Checkout: queries", "statements", 5),
    _count("checkout", "Checkout: commits", "commits", 3),
    _count("checkout", "Checkout: new connections", "connections", 0),
    _ratio("callback", "Callback that is valid", 1.4),
    _count("callback", "Callback: queries before the answer", "statements", 6),
    _count("callback", "Callback: commits before the answer", "commits", 1),
    Goal(
        what="Callback that came before, beside the floor's valid one",
        job="duplicate",
        figure=_figure("ratio_to_valid"),
        most=0.8,
        unit="x",
        digits=2,
        behind=lambda rows: f"{one(rows)['median_ms']:.2f} ms",
    ),
    Goal(
        what=f"Callback that is forged, beside {FORGED_MS} ms",
        job="forged",
        figure=lambda rows: one(rows)["median_ms"] / FORGED_MS if one(rows) else None,
        most=1.3,
        unit="x",
        digits=2,
        behind=_two("median_ms", 2, " ms"),
    ),
    _count("forged", "Callback that is forged: queries", "statements", 0),
    Goal(
        what="Callbacks a second under gunicorn, 2 workers, 8 clients",
        job="throughput",
        figure=_figure("ratio"),
        least=0.75,
        unit="x",
        digits=2,
        behind=_two("per_second", 0, ""),
    ),
    Goal(
        what="The same: what 99 of 100 callbacks take at most",
        job="throughput",
        figure=_share("p99_ms"),
        most=2,
        unit="x",
        digits=2,
        behind=_two("p99_ms", 1, " ms"),
    ),
    _ratio("refund", "Refund from code, provider answers at once", 1.5, delay_ms=0),
    _count("refund", "Refund: new connections", "connections", 0),
    Goal(
        what="Start of a process: time over none, admin or not",
        job="startup",
        figure=_worst("added_ms"),
        most=15,
        unit=" ms",
        digits=1,
    ),
    Goal(
        what="Start of a process: memory over none, admin or not",
        job="startup",
        figure=_worst("added_mib"),
        most=1.5,
        unit=" MiB",
        digits=2,
    ),
    Goal(
        what="Start of a process: libraries for HTTP, REST and QR codes",
        job="startup",
        figure=lambda rows: (
            len({name for row in rows for name in row["imported"]}) if rows else None
        ),
    ),
    *(
        goal
        for answer, outcome in (("pending", "nothing new"), ("paid", "all are paid"))
        for goal in (
            Goal(
                what=f"Reconcile 1,000 payments at 20 ms, {outcome}",
                job="reconcile",
                figure=_figure("ratio", answer=answer),
                most=1.3,
                unit="x",
                digits=2,
                behind=_two("median_s", 2, " s", answer=answer),
            ),
            Goal(
                what=f"The same, {outcome}: queries per payment",
                job="reconcile",
                figure=_figure("statements_each", answer=answer),
                most=4,
                digits=1,
            ),
        )
    ),
    Goal(
        what="The admin's lists at 1,000,000 payments, beside 1,000 (slowest page)",
        job="admin",
        figure=lambda rows: _worst("ratio")(_lists_of_a_million(rows)),
        most=1.3,
        unit="x",
        digits=2,
        behind=lambda rows: _name_of_worst("ratio", _lists_of_a_million(rows)),
    ),
    Goal(
        what="Memory of the long jobs over 1,000,000 rows (the largest)",
        job="memory",
        figure=lambda rows: _worst("over_start_mib")(_at_a_million(rows)),
        most=50,
        unit=" MiB",
        digits=1,
        behind=lambda rows: _name_of_worst("over_start_mib", _at_a_million(rows)),
    ),
)
