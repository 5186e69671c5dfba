"""Start and stop the sandbox and the shop, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import requests
from django.conf import settings

HOST = "127.0.0.1"
PORTS_TRIED = 50
START_SECONDS = 60
STOP_SECONDS = 10
TAIL_LINES = 25
READY = "Sandbox ready on "
TIMER_READY = "The timer runs from"

# What the demo decides itself. A key or an address of a real provider in the
# developer's environment must not make a demo talk to it.
OWN_VARIABLES = (
    "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS",
    "DEBUG",
    "PAYMENT_ORIGINS",
    "SHOP_CLOCK_URL",
)
HARMLESS_VARIABLES = ("EXIMBAY_DISPLAY_TYPE",)


class DemoProblem(Exception):
    """Something the person at the keyboard can mend; the message says how."""


def free_port(wanted: int = 0) -> int:
    """Return ``wanted`` or the next free port above it; any free one for 0."""
    last = min(wanted + PORTS_TRIED, 65536)
    for port in range(wanted, last) if wanted else (0,):
        with socket.socket() as probe:
            # Like the servers do, so that a port they could reuse counts as free.
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoProblem(
        f"The ports {wanted} to {last - 1} are all busy. "
        "Choose others with --port and --sandbox-port."
    )


def shop_environment(
    *, shop_url: str, sandbox_url: str, **more: str
) -> Mapping[str, str]:
    """Return the environment in which the shop of the demo runs."""
    of_providers = tuple(
        f"{alias.upper()}_" for alias in settings.MULTIPAY["PROVIDERS"]
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in HARMLESS_VARIABLES
        or not (name in OWN_VARIABLES or name.startswith(of_providers))
    }
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "SITE_URL": shop_url,
        "SANDBOX_URL": sandbox_url,
        "SHOP_DEMO_OPTIONS": "true",
        "SHOP_CLOCK_URL": f"{sandbox_url}/_control/clock",
        **more,
    }


def manage(*arguments: str, env: Mapping[str, str]) -> None:
    """Run one command of ``manage.py`` to its end."""
    done = subprocess.run(  # noqa: S603  (a command of our own)
        _manage(*arguments), env=dict(env), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoProblem(
            f"'manage.py {' '.join(arguments)}' failed:\n{_tail(done.stderr)}"
        )


class Server:
    """A process that serves until it is stopped. A context manager."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.url = ""
        with log.open("wb") as stream:
            self.process = subprocess.Popen(  # noqa: S603  (a command of our own)
                command,
                env=dict(env) if env is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask the process to end, then insist."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ensure_running(self) -> None:
        """Raise `DemoProblem` with the end of the log if the process has ended."""
        if self.process.poll() is not None:
            raise DemoProblem(
                f"{self.name} stopped by itself (exit code "
                f"{self.process.returncode}). Its last words:\n{self.tail()}"
            )

    def tail(self) -> str:
        """Return the end of what the process wrote."""
        return _tail(self.log.read_text(errors="replace"))

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait for ``is_ready``; a server that never is gets stopped."""
        deadline = time.monotonic() + START_SECONDS
        try:
            while not is_ready():
                self.ensure_running()
                if time.monotonic() > deadline:
                    raise DemoProblem(
                        f"{self.name} was not ready after {START_SECONDS} seconds. "
                        f"Its last words:\n{self.tail()}"
                    )
                time.sleep(0.1)
        except BaseException:
            self.stop()
            raise


def start_sandbox(port: int, *, log: Path) -> Server:
    """Start the sandbox and wait for the line that names its address."""
    server = Server(
        "The sandbox",
        [sys.executable, "-m", "django_multipay.sandbox", "--port", str(port)],
        log=log,
    )

    def is_ready() -> bool:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith(READY):
                server.url = line.removeprefix(READY).strip()
        return bool(server.url)

    server.wait_until(is_ready)
    return server


def start_shop(url: str, *, env: Mapping[str, str], log: Path) -> Server:
    """Start the shop and wait until it shows its first page."""
    server = Server(
        "The shop",
        _manage("runserver", "--noreload", url.removeprefix("http://")),
        env=env,
        log=log,
    )
    server.url = url

    def is_ready() -> bool:
        with requests.Session() as session:
            # A proxy from the environment has no business between us and ourselves.
            session.trust_env = False
            try:
                return session.get(url, timeout=5).ok
            except requests.ConnectionError:
                return False

    server.wait_until(is_ready)
    return server


def start_timer(*, env: Mapping[str, str], log: Path) -> Server:
    """Start the shop's timer, which follows the sandbox's clock."""
    server = Server("The timer", _manage("timer"), env=env, log=log)
    server.wait_until(lambda: TIMER_READY in log.read_text(errors="replace"))
    return server


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-TAIL_LINES:])
