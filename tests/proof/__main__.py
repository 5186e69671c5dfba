"""``python -m tests.proof [--full] [DATABASE_URL…]``: run the proof, keep its figures.

Without addresses: SQLite, and PostgreSQL and MariaDB on their usual ports of this
machine, if something listens there. ``--full`` takes the best part of an hour for each
database; without it a run takes a few minutes. The figures of each database go
to ``figures.json``, from which ``cog -r docs/reliability.md`` writes the table.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.proof.figures import ELSEWHERE, FILE, REPORT

DATABASES: Mapping[str, tuple[str, int]] = {
    "SQLite": ("sqlite://", 0),
    "PostgreSQL": ("postgres://postgres@127.0.0.1:5432/multipay_proof", 5432),
    "MariaDB": ("mysql://root@127.0.0.1:3306/multipay_proof", 3306),
}
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB"}


def listens(port: int) -> bool:
    """Say whether something on this machine takes connections."""
    with socket.socket() as probe:
        return not port or probe.connect_ex(("127.0.0.1", port)) == 0


def prove(url: str, is_full: bool) -> tuple[dict[str, Any], bool]:
    """Run the proof on one database; return its figures, and whether it held."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        full = {"MULTIPAY_PROOF": "full", "MULTIPAY_HISTORIES": "300"}
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-o", "timeout=3600"),
                *("tests/proof", *ELSEWHERE),
            ],
            env=os.environ
            | {"DATABASE_URL": url, REPORT: str(report)}
            | (full if is_full else {}),
        )
        figures: dict[str, Any] = json.loads(report.read_text(), parse_float=str)
    minutes = round((time.monotonic() - begun) / 60)
    name = NAMES[figures.pop("vendor")]
    return {"database": name, "minutes": minutes, **figures}, done.returncode == 0


def keep(figures: Mapping[str, Any]) -> None:
    """Write the figures of one run in the place of the last ones of its database."""
    kept = json.loads(FILE.read_text())["runs"] if FILE.exists() else []
    runs = {run["database"]: run for run in [*kept, figures]}
    ordered = [runs[name] for name in DATABASES if name in runs]
    FILE.write_text(json.dumps({"runs": ordered}, indent=1) + "\n")


def main() -> int:
    """Run everything; 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("urls", nargs="*", metavar="DATABASE_URL")
    options = parser.parse_args()
    found = [url for url, port in DATABASES.values() if listens(port)]
    has_held = True
    for url in options.urls or found:
        figures, is_good = prove(url, options.full)
        keep(figures)
        has_held = has_held and is_good
    return 0 if has_held else 1


if __name__ == "__main__":
    sys.exit(main())
