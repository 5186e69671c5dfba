"""The pytest plugin: a running sandbox for the tests of a shop, and for our own.

It comes with the package (entry point ``pytest11``), so it is imported by every
pytest run beside which the package is installed: nothing heavy at import time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

READY = "Sandbox ready on "
START_SECONDS = 30
STOP_SECONDS = 10


class Sandbox:
    """A sandbox in a process of its own; ``url`` is its origin."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self._client = client

    def get(self, path: str) -> Any:
        """What the control API answers, for example to ``/_control/requests``."""
        return self._client.get(path).raise_for_status().json()

    def post(self, path: str, json: Any = None) -> Any:
        """Change something through the control API, for example ``/_control/faults``."""
        return self._client.post(path, json=json).raise_for_status().json()

    def reset(self) -> None:
        """Empty books, no faults, default settings, the clock at now."""
        self.post("/_control/reset")


@pytest.fixture(scope="session")
def multipay_sandbox() -> Iterator[Sandbox]:
    """The sandbox of this test session, emptied before each test that uses it."""
    import httpx  # of the extra "sandbox", which the sandbox itself needs as well

    with tempfile.TemporaryDirectory(prefix="multipay-sandbox-") as folder:
        output = Path(folder, "output.txt")
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "django_multipay.sandbox", "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        try:
            url = _wait_until_ready(process, output)
            # The sandbox is on this machine: a proxy of the environment is not asked.
            with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
                yield Sandbox(url, client)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(autouse=True)
def _multipay_sandbox_reset(request: pytest.FixtureRequest) -> None:
    if "multipay_sandbox" in request.fixturenames:
        request.getfixturevalue("multipay_sandbox").reset()


def _wait_until_ready(process: subprocess.Popen[bytes], output: Path) -> str:
    """The origin from the sandbox's ready line."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in output.read_text().splitlines(keepends=True):
            if line.startswith(READY) and line.endswith("\n"):
                return line.removeprefix(READY).strip()
        time.sleep(0.05)
    pytest.fail(f"The sandbox did not start:\n{output.read_text()}", pytrace=False)
