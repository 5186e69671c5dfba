"""What the proof did and what it found, counted; and the table that shows it.

A proof counts its work under the names of `DONE` and its findings under those of
`FOUND`, before it asserts that nothing was found. ``python -m tests.proof`` keeps the
counts of one run for each database in ``figures.json``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("figures.json")
REPORT = "MULTIPAY_PROOF_REPORT"
"""The environment variable that names a file for the counts of this run."""

IS_FULL = os.environ.get("MULTIPAY_PROOF") == "full"

DONE: Mapping[str, str] = {
    "kills": "`kill -9` between two statements",
    "freezes": "workers stopped until their lease was over, then continued",
    "cuts": "database connections cut in the middle",
    "restarts": "restarts of the database server under load",
    "deliveries": "webhooks delivered twice, shuffled, by eight threads",
    "orders": "orders of arrival of one history",
    "races": "races of sixteen processes",
    "histories": "random histories against the provider's books",
    "faults": "faults of the line, by operation",
    "forgeries": "forged or mutated messages",
    "plants": "places where secrets were planted",
}
"""What a run did, in the order of the table."""

FOUND: Mapping[str, str] = {
    "lost": "movements lost",
    "doubled": "movements doubled",
    "stuck": "rows stuck after two sweeps",
    "server_errors": "HTTP 5xx that was not a 503 while the database was away",
    "unverified": "state changes by what was not verified",
    "misread": "faults of the line taken for another kind",
    "violations": "violations of the invariants",
    "leaks": "secrets found",
    "failures": "tests of the proof that failed",
}
"""What must be 0."""

LEFT: Mapping[str, str] = {
    "waiting": "left to a person: sent, not found, and not safe to send again",
}
"""What is no fault, but is told: no crash heals these by itself."""

HISTORIES = int(os.environ.get("MULTIPAY_HISTORIES", "12"))

ELSEWHERE: Mapping[str, tuple[str, int]] = {
    "tests/flows/test_crash.py::test_kill_9_in_the_middle_of_a_message_loses_and_doubles_nothing": (
        "kills",
        1,
    ),
    "tests/flows/test_operation_crash.py::test_kill_9_loses_and_doubles_nothing": (
        "kills",
        3,
    ),
    "tests/flows/test_plan_races.py::test_kill_9_in_a_charge_run_loses_and_doubles_nothing": (
        "kills",
        1,
    ),
    "tests/flows/test_token_crash.py::test_kill_9_during_a_charge_loses_and_doubles_nothing": (
        "kills",
        3,
    ),
    "tests/flows/test_token_crash.py::test_kill_9_during_a_deletion_leaves_it_to_others": (
        "kills",
        1,
    ),
    "tests/flows/test_attacks.py::test_five_thousand_mutated_requests_change_nothing_and_crash_nothing": (
        "forgeries",
        5000,
    ),
    "tests/flows/test_provider_fuzz.py::test_thousands_of_changed_messages_change_nothing_and_crash_nothing": (
        "forgeries",
        5000,
    ),
    "tests/flows/test_operation_machine.py::test_any_history_ends_with_the_providers_books": (
        "histories",
        HISTORIES,
    ),
}
"""Tests of other rooms that belong to the proof, and what one of them that passes
counts for: it would not pass, had it found anything."""

_WARNED = "—"


def size(few: int, many: int) -> int:
    """Return how much of something to do: ``few`` for each push, ``many`` in full."""
    return many if IS_FULL else few


def sample(points: Sequence[Any], few: int) -> Sequence[Any]:
    """Return all ``points`` in full, else ``few`` of them from end to end."""
    if IS_FULL or len(points) <= few:
        return points
    return [points[number * (len(points) - 1) // (few - 1)] for number in range(few)]


class Figures:
    """The counts of one run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def did(self, name: str, count: int = 1) -> None:
        """Count work."""
        assert name in DONE
        self.counts[name] += count

    def found(self, name: str, what: Sequence[object]) -> None:
        """Count findings, and fail if there are any."""
        assert name in FOUND
        self.counts[name] += len(what)
        assert not what, f"{name}: {list(what)[:10]}"

    def left(self, name: str, count: int) -> None:
        """Count what waits for a person."""
        assert name in LEFT
        self.counts[name] += count

    def reported(self, node_id: str, when: str, outcome: str) -> None:
        """Count what pytest says about a test: a failure, or work of another room."""
        if outcome == "failed":
            self.counts["failures"] += 1
        for prefix, (name, count) in ELSEWHERE.items():
            if node_id.startswith(prefix) and (when, outcome) == ("call", "passed"):
                self.counts[name] += count

    def write(self, path: Path, about: Mapping[str, str]) -> None:
        """Write the counts as JSON."""
        path.write_text(json.dumps({**about, "counts": dict(self.counts)}))


FIGURES = Figures()


def described() -> str:
    """Return in a sentence what the table shows."""
    runs = json.loads(FILE.read_text(encoding="utf-8"))["runs"]
    places = ", ".join(
        f"{run['database']} ({run['size']} size, Python {run['python']}, "
        f"Django {run['django']}, {run['minutes']} min)"
        for run in runs
    )
    return f"Last run: {places}.\n"


def table() -> str:
    """Return the table of the last run, one column for each database."""
    runs: Sequence[Mapping[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))[
        "runs"
    ]
    lines = [
        ["", *(run["database"] for run in runs)],
        ["---", *("---:" for _ in runs)],
        *_rows(DONE, runs),
        ["**found**", *("" for _ in runs)],
        *_rows(FOUND, runs, is_finding=True),
        *_rows(LEFT, runs, is_finding=True),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(
    names: Mapping[str, str],
    runs: Sequence[Mapping[str, Any]],
    *,
    is_finding: bool = False,
) -> Iterable[list[str]]:
    for name, label in names.items():
        cells = [run["counts"].get(name) for run in runs]
        nothing = "0" if is_finding else _WARNED
        yield [label, *(f"{cell:,}" if cell else nothing for cell in cells)]
