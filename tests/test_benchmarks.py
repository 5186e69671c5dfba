"""The benchmarks measure what they say: every job works, and its costs are counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.goals import FLOOR, GOALS, OURS, Goal, one

ROOT = Path(__file__).parents[1]

JOBS = ("checkout", "callback", "duplicate", "forged", "refund")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The figures of one round of every job that is about one payment, on SQLite."""
    file = tmp_path_factory.mktemp("benchmarks") / "figures.json"
    ours = {"DATABASE_URL", "DJANGO_SETTINGS_MODULE"}
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", *JOBS),
            *("--rounds", "1", "--json", str(file)),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ours},
        capture_output=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
    return found


def of(rows: list[dict[str, Any]], job: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["job"] == job]


@pytest.mark.parametrize("job", JOBS)
def test_every_job_is_done_by_the_package_and_by_both_floors(rows, job):
    names = {row["contestant"] for row in of(rows, job)}
    assert {OURS, FLOOR, "floor (SQL)"} <= names


@pytest.mark.parametrize(
    ("job", "statements", "commits"),
    [
        ("checkout", 2, 2),
        ("callback", 3, 1),
        ("duplicate", 2, 0),
        ("forged", 0, 0),
        ("refund", 3, 2),
    ],
)
@pytest.mark.parametrize("floor", [FLOOR, "floor (SQL)"])
def test_the_floor_asks_the_database_for_no_more_than_it_must(
    rows, floor, job, statements, commits
):
    row = one(of(rows, job), floor)
    assert (row["statements"], row["commits"]) == (statements, commits)


def test_nobody_opens_a_connection_for_a_call(rows):
    assert {row["connections"] for row in rows if "connections" in row} == {0}


@pytest.mark.parametrize(
    "goal",
    [goal for goal in GOALS if goal.job in JOBS and not goal.unit],
    ids=lambda goal: goal.what,
)
def test_the_package_keeps_the_goals_that_no_machine_changes(rows, goal: Goal):
    figure = goal.figure(of(rows, goal.job))
    assert figure is not None
    assert goal.is_kept(figure), f"{goal.said(figure)}, {goal.bound}"


def test_a_goal_is_judged_by_the_figure_that_is_shown():
    goal = Goal(what="", job="", figure=lambda rows: None, most=1.4, digits=2)
    assert goal.said(1.404) == "1.40"
    assert goal.is_kept(1.404)
    assert not goal.is_kept(1.406)


def test_a_goal_with_a_lower_bound_is_missed_below_it():
    goal = Goal(what="", job="", figure=lambda rows: None, least=0.75, digits=2)
    assert goal.is_kept(0.8)
    assert not goal.is_kept(0.7)
