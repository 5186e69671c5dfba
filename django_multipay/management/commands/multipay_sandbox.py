"""``manage.py multipay_sandbox``: every provider's wire protocol on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Run the sandbox in a process of its own until it is interrupted."""

    help = "Runs the local sandbox that speaks every provider's wire protocol."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the address to listen on."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8100)
        parser.add_argument(
            "--provider",
            action="append",
            default=[],
            metavar="MODULE",
            help="dotted path of a module with a provider of yours; may be repeated",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Start the module; its exit status becomes ours."""
        command = [
            sys.executable,
            "-m",
            "django_multipay.sandbox",
            "--host",
            options["host"],
            "--port",
            str(options["port"]),
            *(f"--provider={module}" for module in options["provider"]),
        ]
        # The sandbox finds what manage.py finds, wherever it was called from.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        # Whoever stops us means the sandbox; left alone, it would keep the port.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            sys.exit(subprocess.call(command, env=environment))  # noqa: S603
        except KeyboardInterrupt:
            self.stdout.write("Sandbox stopped.")
        finally:
            signal.signal(signal.SIGTERM, before)
