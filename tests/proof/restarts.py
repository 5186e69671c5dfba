"""A database server of our own, killed and started again under workers that hold on.

``python -m tests.proof.restarts postgresql|mysql FOLDER`` makes a server in the folder,
lets it crash under the steps of calls, and prints what was found as JSON. SQLite has no
server.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IS_ROOT = os.geteuid() == 0

PATH = os.pathsep.join(
    [
        os.environ.get("PATH", ""),
        "/usr/sbin",
        # Where Debian has them, the newest first.
        *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True),
    ]
)


def program(name: str) -> str:
    """Return the path of a program, or "" where there is none."""
    return shutil.which(name, path=PATH) or ""


class Server(ABC):
    """One server of a kind, in a folder and on a port of its own."""

    account: str
    """Who runs it in the place of root, as no server lets root do."""
    programs: Sequence[str]
    """What must be there."""

    def __init__(self, folder: Path) -> None:
        self.owner = self.account if IS_ROOT else getpass.getuser()
        self.folder = folder / "server"
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @classmethod
    def is_possible(cls) -> bool:
        """Say whether its programs are installed."""
        return all(map(program, cls.programs))

    @property
    @abstractmethod
    def url(self) -> str:
        """What ``DATABASE_URL`` is."""

    @abstractmethod
    def make(self) -> None:
        """Make an empty server, which is not started."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it takes connections."""

    @abstractmethod
    def kill(self) -> None:
        """End it without a word to anybody."""

    def command(self, name: str, *words: str) -> list[str]:
        """Return how its owner calls one of its programs."""
        who = ["runuser", "-u", self.owner, "--"] if IS_ROOT else []
        return [*who, program(name), *words]

    def run(self, name: str, *words: str) -> None:
        """Call one of its programs and wait for it."""
        command = self.command(name, *words)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make it and start it; end it in the end."""
        self.folder.mkdir()
        if IS_ROOT:
            shutil.chown(self.folder, self.owner)
            for parent in self.folder.parents[:3]:
                parent.chmod(parent.stat().st_mode | 0o011)
        self.make()
        self.start()
        try:
            yield
        finally:
            self.kill()


class PostgreSQL(Server):
    """A cluster."""

    account = "postgres"
    programs = ("pg_ctl", "initdb")

    # A crash of the server loses nothing without fsync; only one of the machine does.
    settings = "fsync = off\nmax_connections = 40\nshared_buffers = 16MB\n"

    @property
    def url(self) -> str:
        """The database that every cluster has."""
        return f"postgres://{self.owner}@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """Make the cluster."""
        options = f"--auth=trust --no-sync -U {self.owner}"
        self.run("pg_ctl", "-D", str(self.data), "initdb", "-o", options)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(f"{self.settings}port = {self.port}\n")
            settings.write(f"unix_socket_directories = '{self.folder}'\n")

    def start(self) -> None:
        """Start it; `pg_ctl` waits."""
        self.run("pg_ctl", "-D", str(self.data), "start", "-w", "-l", str(self.log))

    def kill(self) -> None:
        """Abort it: no transaction ends, no checkpoint is written."""
        self.run("pg_ctl", "-D", str(self.data), "stop", "-m", "immediate")


class MariaDB(Server):
    """A data directory."""

    account = "mysql"
    programs = ("mariadbd", "mariadb-install-db", "mariadb-admin")

    @property
    def url(self) -> str:
        """A database that it makes when it starts."""
        return f"mysql://root@127.0.0.1:{self.port}/multipay"

    def make(self) -> None:
        """Make the data directory, with a root that needs no password."""
        self.run(
            "mariadb-install-db",
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            f"--datadir={self.data}",
        )
        (self.folder / "init.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS multipay"
            " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n"
        )

    def start(self) -> None:
        """Start it and ask until it answers."""
        address = [
            "--no-defaults",
            f"--socket={self.folder / 'socket'}",
            f"--port={self.port}",
        ]
        command = self.command(
            "mariadbd",
            *address,
            "--bind-address=127.0.0.1",
            f"--datadir={self.data}",
            f"--pid-file={self.folder / 'pid'}",
            f"--log-error={self.log}",
            f"--init-file={self.folder / 'init.sql'}",
            "--innodb-buffer-pool-size=16M",
        )
        self.process = subprocess.Popen(command, cwd="/")
        ping = self.command("mariadb-admin", *address, "--user=root", "ping")
        while subprocess.run(ping, capture_output=True, cwd="/").returncode:
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text(errors="replace"))

    def kill(self) -> None:
        """Kill it as the kernel does that needs memory."""
        os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
        self.process.wait(20)


SERVERS: Mapping[str, type[Server]] = {"postgresql": PostgreSQL, "mysql": MariaDB}
"""By the vendor, as Django calls it."""


def crash_under_calls(server: Server, books: Path) -> dict[str, int]:
    """Crash the server under steps of a refund, a capture and a void."""
    import django
    from django.conf import settings

    from tests.proof.figures import sample

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from tests.proof.crew import Crew
    from tests.proof.invariants import violations
    from tests.proof.lives import (
        MOVES,
        accounts_at,
        after_two_sweeps,
        order_of,
        ready_for,
    )

    settings.MULTIPAY = accounts_at(books)
    call_command("migrate", verbosity=0)
    counts = dict.fromkeys(("restarts", "lost", "doubled", "stuck", "waiting"), 0)
    with Crew(settings.MULTIPAY) as crew:
        for kind in MOVES:
            whole = crew.order(**order_of(ready_for(kind, "careful"), kind))
            payments: list[Any] = []
            # The first and the last step are the least interesting ones.
            steps: Sequence[int] = sample(range(3, whole["steps"] - 1), 2)
            for at in steps:
                payment = ready_for(kind, "careful")
                payments.append(payment)
                order = order_of(payment, kind)
                held = crew.order(**order, at=at, fate="hold")
                connection.close()
                server.kill()
                server.start()
                crew.order(stopped=held["stopped"])
                counts["restarts"] += 1
            wreck = after_two_sweeps(payments, kind)
            counts["lost"] += len(wreck.lost)
            counts["doubled"] += len(wreck.doubled)
            counts["stuck"] += len(wreck.stuck)
            counts["waiting"] += wreck.waiting
    return {**counts, "violations": len(violations())}


def main(vendor: str, folder: str) -> None:
    """Print the counts."""
    server = SERVERS[vendor](Path(folder))
    os.environ["DATABASE_URL"] = server.url
    with server.running():
        counts = crash_under_calls(server, Path(folder, "books.jsonl"))
    sys.stdout.write(f"{json.dumps(counts)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
