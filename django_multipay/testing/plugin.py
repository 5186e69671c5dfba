"""The pytest plugin: a running sandbox for the tests of a shop, and for our own.

It comes with the package (entry point ``pytest11``), so it is imported by every
pytest run beside which the package is installed: nothing heavy at import time.
"""

from __future__ import annotations

import contextlib
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
    from django.test import Client
    from pytest_django import Settings

    from django_multipay.testing.buyer import DeliverWebhook, Pay
    from django_multipay.testing.clock import Clock

READY = "Sandbox ready on "
START_SECONDS = 30
STOP_SECONDS = 10


class Sandbox:
    """A sandbox in a process of its own; ``url`` is its origin.

    What it refuses is raised as ``httpx.HTTPStatusError``.
    """

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self._client = client

    def get(self, path: str) -> Any:
        """Return what the control API answers, for example to ``/_control/requests``."""
        return self._client.get(path).raise_for_status().json()

    def post(self, path: str, json: Any = None) -> Any:
        """Change something, for example ``/_control/faults``; return the answer."""
        return self._client.post(path, json=json).raise_for_status().json()

    def reset(self) -> None:
        """Empty books, no faults, default settings, the clock at now."""
        self.post("/_control/reset")


@contextlib.contextmanager
def running_sandbox(*providers: str) -> Iterator[Sandbox]:
    """Run a sandbox for the ``with`` block; the test fails where it does not start.

    ``providers`` are dotted paths of modules whose providers it plays beside ours.
    """
    import httpx  # of the extra "sandbox", which the sandbox itself needs as well

    command = [sys.executable, "-m", "django_multipay.sandbox", "--port", "0"]
    command += [f"--provider={module}" for module in providers]
    # It finds what the tests find.
    python_path = os.pathsep.join(sys.path)
    with tempfile.TemporaryDirectory(prefix="multipay-sandbox-") as folder:
        output = Path(folder, "output.txt")
        with output.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path},
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


@pytest.fixture(scope="session")
def multipay_sandbox() -> Iterator[Sandbox]:
    """The sandbox of this test session, emptied before each test that uses it."""
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _multipay_sandbox_reset(request: pytest.FixtureRequest) -> None:
    if "multipay_sandbox" in request.fixturenames:
        request.getfixturevalue("multipay_sandbox").reset()


@pytest.fixture
def multipay_settings(
    request: pytest.FixtureRequest, settings: Settings, multipay_sandbox: Sandbox
) -> Settings:
    """Settings whose accounts are the sandbox's; its messages wait for the test.

    Fixtures below imply it. Where the test uses ``live_server``, providers send the
    buyer there, otherwise to https://testserver.
    """
    from django_multipay.testing.accounts import at_sandbox, hold_messages

    site_url = "https://testserver"
    if "live_server" in request.fixturenames:
        site_url = request.getfixturevalue("live_server").url
    hold_messages(multipay_sandbox, site_url)
    settings.MULTIPAY = at_sandbox(settings.MULTIPAY, multipay_sandbox, site_url)
    return settings


@pytest.fixture
def deliver_webhook(
    multipay_settings: Settings, multipay_sandbox: Sandbox
) -> DeliverWebhook:
    """``deliver_webhook(payment)`` brings a provider's messages to the shop."""
    from django_multipay.testing.buyer import DeliverWebhook

    return DeliverWebhook(multipay_sandbox)


@pytest.fixture
def pay(
    client: Client, multipay_sandbox: Sandbox, deliver_webhook: DeliverWebhook
) -> Pay:
    """``pay(payment, "declined")`` does what a buyer does, at any provider."""
    from django_multipay.testing.buyer import Pay

    return Pay(multipay_sandbox, deliver_webhook, client)


@pytest.fixture
def multipay_clock(
    multipay_settings: Settings, multipay_sandbox: Sandbox
) -> Iterator[Clock]:
    """``multipay_clock.advance(days=31)`` lets time pass for shop and providers."""
    from django_multipay.testing.clock import ticking

    with ticking(multipay_sandbox) as clock:
        yield clock


def _wait_until_ready(process: subprocess.Popen[bytes], output: Path) -> str:
    """Return the origin from the sandbox's ready line."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in output.read_text().splitlines(keepends=True):
            if line.startswith(READY) and line.endswith("\n"):
                return line.removeprefix(READY).strip()
        time.sleep(0.05)
    pytest.fail(f"The sandbox did not start:\n{output.read_text()}", pytrace=False)
