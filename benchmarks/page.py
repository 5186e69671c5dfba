"""The generated parts of ``docs/performance.md``, for cog."""

from __future__ import annotations

from datetime import datetime

from benchmarks import results, tables
from benchmarks.goals import GOALS

NOTHING = "not measured"


def goals_table() -> str:
    """Every goal with its bound and what was measured last, for each database."""
    newest = results.newest()
    lines = []
    for goal in GOALS:
        cells = []
        for jobs in newest.values():
            rows = jobs[goal.job][1] if goal.job in jobs else []
            figure = goal.figure(rows)
            if figure is None:
                cells.append(NOTHING)
                continue
            behind = goal.behind(rows)
            said = goal.said(figure) + (f" ({behind})" if behind else "")
            cells.append(said if goal.is_kept(figure) else f"**{said}, missed**")
        lines.append([goal.what, goal.bound, *cells])
    return tables.of_cells(["Goal", "Bound", *newest], lines)


def days_table() -> str:
    """What was measured on the last two days, one beside the other."""
    found = {
        f"{database}, {day}": jobs
        for day in results.days()[-2:]
        for database, jobs in results.newest(day).items()
    }
    lines = []
    for goal in GOALS:
        figures = [
            goal.figure(jobs[goal.job][1] if goal.job in jobs else [])
            for jobs in (found[name] for name in sorted(found))
        ]
        if sum(figure is not None for figure in figures) > 1:
            said = ("" if one is None else goal.said(one) for one in figures)
            lines.append([goal.what, goal.bound, *said])
    return tables.of_cells(["Goal", "Bound", *sorted(found)], lines)


def jobs_tables(*jobs: str) -> str:
    """The rows of ``jobs`` as measured last, a table for each database."""
    parts = []
    for database, found in results.newest().items():
        rows = [row for job in jobs if job in found for row in found[job][1]]
        if rows:
            run = next(found[job][0] for job in jobs if job in found)
            day = datetime.fromisoformat(run["date"]).date()
            parts.append(f"{database}, {day}:\n\n{tables.of_rows(rows)}")
    return "\n".join(parts)


def runs_table() -> str:
    """When, where and with which versions the figures of this page were measured."""
    used: dict[str, tuple[results.Run, list[str]]] = {}
    for jobs in results.newest().values():
        for job, (run, _rows) in jobs.items():
            used.setdefault(run["date"], (run, []))[1].append(job)
    return tables.of_cells(
        ["When (UTC)", "Database", "Machine", "Load before", "Versions", "Jobs"],
        [
            [
                run["date"][:16].replace("T", " "),
                run["database"],
                run["machine"],
                str(run.get("load", "")),
                ", ".join(f"{name} {one}" for name, one in run["versions"].items()),
                ", ".join(done),
            ]
            for run, done in used.values()
        ],
    )
