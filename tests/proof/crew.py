"""The side of the tests: orders for the processes of `tests.proof.worker`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tests.flows.test_crash import database_url


class Crew:
    """A process that forks a worker for each order."""

    def __init__(self, multipay: Mapping[str, Any]) -> None:
        self.multipay = multipay

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.proof.worker", json.dumps(self.multipay)],
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

    def order(self, **order: Any) -> dict[str, Any]:
        """Give one order and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(order)}\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(
            self.process.stdout.readline(), parse_float=str
        )
        return answer

    def all_at_once(self, orders: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Give orders to as many workers, from the same moment; return the results."""
        results: Sequence[str] = self.order(crowd=list(orders))["results"]
        return results
