"""A provider's own tests, run as its author runs them: in a pytest of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

# A project of somebody else's does not know our settings.
OURS = {"DJANGO_SETTINGS_MODULE", "PYTHONPATH", "PYTEST_ADDOPTS"}


@dataclass(frozen=True)
class Verdict:
    """What pytest came to."""

    status: int
    output: str

    @property
    def red(self) -> set[str]:
        """The files with a test that failed, or that could not be read."""
        named = re.findall(r"^(?:FAILED|ERROR) ([^\s:]+)", self.output, re.MULTILINE)
        return set(named)

    @property
    def counts(self) -> Counter[str]:
        """How many tests passed, failed and so on."""
        last = self.output.strip().rpartition("\n")[2]
        return Counter({word: int(n) for n, word in re.findall(r"(\d+) (\w+)", last)})


def conformance(project: Path, *arguments: str) -> Verdict:
    """Run pytest in the folder ``project``; ``arguments`` name the tests."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env={name: text for name, text in os.environ.items() if name not in OURS},
        capture_output=True,
        check=False,
        text=True,
        timeout=110,
    )
    return Verdict(run.returncode, run.stdout + run.stderr)
