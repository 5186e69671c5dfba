"""The plots of ``docs/performance.md``, drawn from the newest results.

python -m benchmarks.plots
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks import results
from benchmarks.goals import GOALS, Goal

STATIC = Path(__file__).parents[1] / "docs/_static"

JOBS = ("checkout", "callback", "duplicate", "forged", "refund")

COLORS = {
    "django-multipay": "#0b6e4f",
    "floor (ORM)": "#6c757d",
    "floor (SQL)": "#adb5bd",
    "django-payments": "#e09f3e",
    "django-getpaid": "#9e2a2b",
    "dj-stripe": "#540b0e",
}
DATABASE_COLORS = ("#0b6e4f", "#7b2d8b", "#c1666b")

FARTHEST = 3
"""Where the plot of the goals ends; what lies beyond stands there with its number."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Text stays text, and two drawings of the same figures are the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "django-multipay",
}


def draw() -> None:
    """Write both plots into ``docs/_static``."""
    with mpl.rc_context(STYLE):
        _jobs(results.newest())
        _goals(results.newest())


def _save(figure: Any, name: str) -> None:
    figure.savefig(
        STATIC / name, bbox_inches="tight", facecolor="white", metadata={"Date": None}
    )
    plt.close(figure)


def _jobs(newest: Any) -> None:
    """Draw what each job takes, a panel for each database, a bar for each contestant."""
    databases = [name for name, jobs in newest.items() if JOBS[0] in jobs]
    if not databases:
        # Only other jobs were measured so far: the old drawing stays.
        return
    figure, panels = plt.subplots(
        len(databases), 1, figsize=(8, 3.2 * len(databases)), squeeze=False
    )
    names = [
        name
        for name in COLORS
        if any(
            row["contestant"] == name
            for database in databases
            for job in JOBS
            for row in newest[database].get(job, (None, []))[1]
        )
    ]
    width = 0.84 / len(names)
    for database, panel in zip(databases, panels[:, 0], strict=True):
        for number, name in enumerate(names):
            found = [
                (place + (number - (len(names) - 1) / 2) * width, row["median_ms"])
                for place, job in enumerate(JOBS)
                for row in newest[database].get(job, (None, []))[1]
                if row["contestant"] == name and not row["delay_ms"]
            ]
            places, heights = zip(*found, strict=True)
            panel.bar(places, heights, width * 0.92, label=name, color=COLORS[name])
            for place, height in found:
                panel.annotate(
                    f"{height:.1f}" if height >= 1 else f"{height:.2f}",
                    (place, height),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=6.5,
                )
        panel.set_yscale("log")
        panel.set_xticks(range(len(JOBS)), JOBS)
        panel.tick_params(axis="x", length=0)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_ylabel("milliseconds (log)")
        panel.set_title(database, loc="left", fontweight="bold")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3,
        frameon=False,
    )
    figure.tight_layout()
    _save(figure, "performance-jobs.svg")


def _goals(newest: Any) -> None:
    """Draw each goal's figure as a part of its bound: left of the line is kept."""
    shown = [goal for goal in GOALS if goal.unit]
    figure, panel = plt.subplots(figsize=(6, 0.34 * len(shown) + 1.2))
    for number, (database, jobs) in enumerate(newest.items()):
        found = [
            (share, -place)
            for place, goal in enumerate(shown)
            if (share := _share(goal, jobs.get(goal.job, (None, []))[1])) is not None
        ]
        if found:
            panel.scatter(
                [min(share, FARTHEST) for share, _place in found],
                [place for _share, place in found],
                s=42,
                marker="os^"[number],
                color=DATABASE_COLORS[number],
                alpha=0.85,
                label=database,
                zorder=3,
            )
        for share, place in found:
            if share > FARTHEST:
                panel.annotate(
                    f"{share:.1f}",
                    (FARTHEST, place),
                    (-7 - 24 * number, -3),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8,
                    color=DATABASE_COLORS[number],
                )
    panel.axvline(1, color="#333333", linewidth=1.2)
    panel.axvspan(0, 1, color="#0b6e4f", alpha=0.07)
    panel.set_yticks(
        [-place for place in range(len(shown))],
        [f"{goal.what} ({goal.bound})" for goal in shown],
        fontsize=8,
    )
    panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    panel.tick_params(axis="y", length=0)
    panel.set_xlim(0, FARTHEST + 0.1)
    panel.set_xlabel("part of the bound that is used; beyond 1 the goal is missed")
    panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    _save(figure, "performance-goals.svg")


def _share(goal: Goal, rows: Sequence[Any]) -> float | None:
    figure = goal.figure(rows)
    if figure is None:
        return None
    return goal.least / figure if goal.least else figure / goal.most


if __name__ == "__main__":
    draw()
