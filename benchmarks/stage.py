"""What a benchmark needs around it: the stub, its account, processes of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.test import override_settings

ROOT = Path(__file__).parents[1]


@contextmanager
def stub(delay_ms: int, status: str = "paid") -> Iterator[str]:
    """Run a stub that answers after ``delay_ms``, and make it our account's provider.

    Yields its origin. ``status`` is how every payment stands there.
    """
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "benchmarks/stub.py")),
            *("--delay", str(delay_ms), "--status", status),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        ours: dict[str, Any] = settings.MULTIPAY
        account = ours["PROVIDERS"]["stub"]
        there = {**account, "OPTIONS": {**account["OPTIONS"], "base_url": url}}
        changed = {**ours, "PROVIDERS": {"stub": there}}
        with override_settings(MULTIPAY=changed):
            yield url
    finally:
        process.kill()
        process.wait()


def connections_opened(url: str) -> int:
    """Return how many connections the stub has seen, this one included."""
    with urllib.request.urlopen(f"{url}/connections") as answer:
        count: int = json.load(answer)["connections"]
    return count


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process that shares our database."""
    return {
        **os.environ,
        "BENCHMARK_DATABASE": str(connection.settings_dict["NAME"]),
        "PYTHONPATH": str(ROOT),
        **more,
    }
