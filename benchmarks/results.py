"""One file for each run: the figures, when, with which versions, on what machine."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"

PACKAGES = (
    "Django",
    "django-multipay",
    "requests",
    "gunicorn",
    "django-payments",
    "django-getpaid",
    "dj-stripe",
)

Row = dict[str, Any]
Run = dict[str, Any]


def new_run() -> Run:
    """Return a run without figures yet: only what was true when it began."""
    from benchmarks.contestants import absent

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "database": _database(),
        "versions": {
            "Python": platform.python_version(),
            **{name: found for name in PACKAGES if (found := _version(name))},
        },
        "machine": _machine(),
        # Far above 0, the figures were measured beside something else.
        "load": round(os.getloadavg()[0], 1),
        "absent": absent(),
        "rows": [],
    }


def write(run: Run, file: Path) -> None:
    """Write ``run`` to ``file`` as JSON."""
    file.write_text(json.dumps(_rounded(run), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    """Return ``value`` without digits that mean nothing."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def keep(run: Run) -> None:
    """Add ``run`` to the results, and draw the plots of the documentation anew."""
    from benchmarks import plots

    FOLDER.mkdir(exist_ok=True)
    moment = datetime.fromisoformat(run["date"]).strftime("%Y-%m-%dT%H%M%S")
    database = name_of_database(run).lower().replace(", ", "-")
    write(run, FOLDER / f"{moment}-{database}.json")
    plots.draw()


def all_runs() -> list[Run]:
    """Return what was kept, the oldest first."""
    return [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]


def newest(day: str = "") -> dict[str, dict[str, tuple[Run, list[Row]]]]:
    """Return database to job to the newest run that did it, and its rows.

    ``day``: of those of this date only.
    """
    found: dict[str, dict[str, tuple[Run, list[Row]]]] = {}
    for run in all_runs():
        if not run["date"].startswith(day):
            continue
        jobs = found.setdefault(name_of_database(run), {})
        for job in dict.fromkeys(row["job"] for row in run["rows"]):
            jobs[job] = (run, [row for row in run["rows"] if row["job"] == job])
    return found


def name_of_database(run: Run) -> str:
    """Return what ``run`` was measured on, without the number of its version."""
    return str(run["database"]).rsplit(" ", 1)[0]


def days() -> list[str]:
    """Return the dates on which was measured, the first one first."""
    return sorted({run["date"][:10] for run in all_runs()})


def _database() -> str:
    from django.db import connection

    connection.ensure_connection()
    numbers = connection.get_database_version()
    is_prepared = "prepare_threshold" in connection.settings_dict["OPTIONS"]
    name = connection.display_name + (", prepared" if is_prepared else "")
    return f"{name} {'.'.join(map(str, numbers))}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"
