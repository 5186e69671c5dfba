"""A database server of our own, killed and started again under workers that hold on.

``python -m tests.proof.restarts FOLDER`` makes a PostgreSQL cluster in the folder, lets
it crash once for each step of a call, and prints what was found as JSON.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
"""Where Debian has them; elsewhere they are on the path."""

PG_CTL = str(PROGRAMS[-1]) if PROGRAMS else shutil.which("pg_ctl") or ""
IS_ROOT = os.geteuid() == 0
OWNER = "postgres" if IS_ROOT else getpass.getuser()

# What a crash costs here, it costs in a minute at most.
TUNING = "fsync = off\nmax_connections = 40\nshared_buffers = 16MB\n"


class Server:
    """One cluster, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cluster"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """What ``DATABASE_URL`` is."""
        return f"postgres://{OWNER}@127.0.0.1:{self.port}/postgres"

    def control(self, *words: str) -> None:
        """Run ``pg_ctl``, which no server lets root do."""
        who = ["runuser", "-u", OWNER, "--"] if IS_ROOT else []
        command = [*who, PG_CTL, "-D", str(self.folder), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the cluster and start it; stop it in the end."""
        self.folder.mkdir()
        if IS_ROOT:
            shutil.chown(self.folder, OWNER)
            for parent in self.folder.parents[:3]:
                parent.chmod(parent.stat().st_mode | 0o011)
        self.control("initdb", "-o", f"--auth=trust --no-sync -U {OWNER}")
        with (self.folder / "postgresql.conf").open("a") as settings:
            settings.write(f"{TUNING}port = {self.port}\n")
            settings.write(f"unix_socket_directories = '{self.folder}'\n")
        self.start()
        try:
            yield
        finally:
            self.control("stop", "-m", "immediate")

    def start(self) -> None:
        self.control("start", "-w", "-l", str(self.folder / "log"))

    def crash(self) -> None:
        """Kill the server without a word, and start it again."""
        self.control("stop", "-m", "immediate")
        self.start()


def crash_at_every_step(server: Server, books: Path) -> dict[str, int]:
    """Crash the server under each step of a refund, a capture and a void."""
    import django
    from django.conf import settings

    from tests.proof.figures import sample

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from tests.flows.test_operation_crash import PROVIDERS, book_settings
    from tests.proof.crew import Crew
    from tests.proof.invariants import violations
    from tests.proof.lives import MOVES, after_two_sweeps, order_of, ready_for

    settings.MULTIPAY = book_settings(PROVIDERS, books)
    call_command("migrate", verbosity=0)
    counts = dict.fromkeys(("restarts", "lost", "doubled", "stuck", "waiting"), 0)
    with Crew(settings.MULTIPAY) as crew:
        for kind in MOVES:
            whole = crew.order(**order_of(ready_for(kind, "careful"), kind))
            payments: list[Any] = []
            steps: Sequence[int] = sample(range(1, whole["steps"] + 1), 2)
            for at in steps:
                payment = ready_for(kind, "careful")
                payments.append(payment)
                order = order_of(payment, kind)
                held = crew.order(**order, at=at, fate="hold")
                connection.close()
                server.crash()
                crew.order(stopped=held["stopped"])
                counts["restarts"] += 1
            wreck = after_two_sweeps(payments, kind)
            counts["lost"] += len(wreck.lost)
            counts["doubled"] += len(wreck.doubled)
            counts["stuck"] += len(wreck.stuck)
            counts["waiting"] += wreck.waiting
    return {**counts, "violations": len(violations())}


def main(folder: str) -> None:
    """Print the counts."""
    server = Server(Path(folder))
    os.environ["DATABASE_URL"] = server.url
    with server.running():
        counts = crash_at_every_step(server, Path(folder, "books.jsonl"))
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1])
