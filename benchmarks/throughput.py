"""Callbacks per second under gunicorn, beside the floor on the same server.

Two workers serve all contestants; eight clients send bursts of callbacks, one
contestant after the other, each callback about another payment.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.contestants.base import Contestant, Message
from benchmarks.contestants.floor import OrmFloor
from benchmarks.contestants.ours import Ours
from benchmarks.meter import spread
from benchmarks.stage import environment, stub

ROUNDS = 30
BURST = 200
WARM_UP = 1
WORKERS = 2
CLIENTS = 8


def measure(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each contestant: callbacks a second, and how long one waits."""
    with stub(0) as url, _gunicorn() as port:
        everybody: list[Contestant] = [OrmFloor(url), Ours(url)]
        rates: dict[str, list[float]] = {one.name: [] for one in everybody}
        waits: dict[str, list[float]] = {one.name: [] for one in everybody}
        for number in range(WARM_UP + rounds):
            for one in everybody:
                messages = [one.message(one.checkout()) for _ in range(BURST)]
                seconds, waited = _burst(port, messages)
                if number >= WARM_UP:
                    rates[one.name].append(BURST / seconds)
                    waits[one.name] += waited
    floor = rates[OrmFloor.name]
    for one in everybody:
        ordered = sorted(waits[one.name])
        yield {
            "job": "throughput",
            "contestant": one.name,
            "per_second": statistics.median(rates[one.name]),
            **spread(rates[one.name], floor),
            "p50_ms": _percentile(ordered, 50) * 1000,
            "p99_ms": _percentile(ordered, 99) * 1000,
        }


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@contextmanager
def _gunicorn() -> Iterator[int]:
    """Serve ``benchmarks.wsgi``; yield the port."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(128)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "benchmarks.wsgi"),
                *("--workers", str(WORKERS), "--bind", f"fd://{door.fileno()}"),
                *("--log-level", "error"),
            ],
            env=environment(),
            pass_fds=[door.fileno()],
            start_new_session=True,
        )
        try:
            yield door.getsockname()[1]
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _burst(port: int, messages: Sequence[Message]) -> tuple[float, list[float]]:
    """Send ``messages``; return the seconds of all, and of each."""
    said = {
        "port": port,
        "clients": CLIENTS,
        "requests": [_written(message) for message in messages],
    }
    # In a process of its own, which does not share our interpreter's lock.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.clients"],
        input=json.dumps(said),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert set(answer["statuses"]) == {200}, answer["statuses"]
    return answer["seconds"], answer["waited"]


def _written(message: Message) -> str:
    headers = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(message.body)),
        "Connection": "close",
        **message.headers,
    }
    lines = [f"POST {message.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", message.body.decode()])
