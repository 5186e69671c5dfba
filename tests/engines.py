"""Real task engines: the database, and a Redis server where one answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

REDIS = "redis://127.0.0.1:6379"

WORKERS = {"db": ["db_worker", "--batch", "--no-startup-delay"]}
"""Commands that work off what waits, and end; ``rq`` only where Redis answers."""


def _answers(url: str) -> bool:
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname, place.port), timeout=2).close()
    except OSError:
        return False
    return True


if _answers(REDIS):
    WORKERS["rq"] = ["rqworker", "--burst", "--job-class", "django_tasks_rq.Job"]


@contextmanager
def engine_of(kind: str) -> Iterator[str]:
    """Give ``db``, or the address of a Redis database that no other test uses."""
    if kind == "db":
        yield kind
        return
    from redis import Redis

    for number in range(1, 16):
        url = f"{REDIS}/{number}"
        with closing(Redis.from_url(url)) as client:
            if client.set("multipay-tests", "taken", nx=True, ex=120):
                try:
                    yield url
                finally:
                    client.flushdb()
                return
    raise RuntimeError("every database of the Redis server is taken by another run")
