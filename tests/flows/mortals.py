"""Workers that really die, by SIGKILL, at a chosen moment of what they do.

One process waits with everything imported and is forked for each death.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from tests.flows.test_crash import database_url

Place = tuple[str, str, str, bool]
"""Module, class or "", function, and whether the worker dies after it, not before."""

WORKER = """
import importlib, json, os, signal, sys

import django
from django.conf import settings

settings.MULTIPAY = json.loads(sys.argv[1], parse_float=str)
django.setup()


def die_at(module, owner, name, is_after):
    place = importlib.import_module(module)
    place = getattr(place, owner) if owner else place
    original = getattr(place, name)

    def dying(*args, **kwargs):
        if is_after:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(place, name, dying)


work = importlib.import_module(sys.argv[2]).work
for line in sys.stdin:
    order = json.loads(line, parse_float=str)
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1], flush=True)
        continue
    die_at(*order.pop("place"))
    work(**order)
    os._exit(0)
"""


class Forks:
    """A process that forks a worker for each order, which is a line of JSON."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, *self.arguments],
            env=os.environ
            | {
                "DATABASE_URL": database_url(),
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()
            assert self.process.wait(20) == 0

    def answer_to(self, **order: Any) -> str:
        """Give one order and return the line that the process answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(order)}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


class Mortals(Forks):
    """Workers that carry out ``work`` of ``module`` until they die."""

    def __init__(self, multipay: Mapping[str, Any], module: str) -> None:
        super().__init__("-c", WORKER, json.dumps(multipay), module)

    def kill(self, place: Place, **order: Any) -> None:
        """Let a worker that was given this order die at ``place``."""
        status = int(self.answer_to(place=place, **order))
        assert os.WTERMSIG(status) == signal.SIGKILL
