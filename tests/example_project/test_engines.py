"""Who carries tasks out is a matter of settings alone: ``TASK_ENGINE`` of the shop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import WORKERS, engine_of

MANAGE = Path(__file__).parents[2] / "example_project" / "manage.py"

SHOP = """
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django_multipay.tasks import deliver

call_command("migrate", verbosity=0)
waiting = deliver.enqueue()
print(settings.MULTIPAY["WEBHOOKS"], waiting.status)
connections.close_all()
for worker in {workers}:
    call_command(*worker, verbosity=0)
    print(deliver.get_result(waiting.id).status)
"""


def said_by_the_shop(folder: Path, engine: str, *workers: list[str]) -> list[str]:
    """Let the shop hand a task over and ``workers`` carry it out; return what it says."""
    done = subprocess.run(
        [sys.executable, MANAGE, "shell", "-v0", "-c", SHOP.format(workers=workers)],
        env=os.environ
        | {"DATABASE_URL": f"sqlite:///{folder / 'shop.sqlite3'}"}
        | {"TASK_ENGINE": engine},
        capture_output=True,
        check=True,
        text=True,
        timeout=100,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", WORKERS)
def test_with_an_engine_messages_and_tasks_wait_for_a_worker(
    tmp_path: Path, kind: str
) -> None:
    with engine_of(kind) as engine:
        said = said_by_the_shop(tmp_path, engine, WORKERS[kind])
    assert said == ["task READY", "SUCCESSFUL"]


def test_without_an_engine_nothing_waits(tmp_path: Path) -> None:
    assert said_by_the_shop(tmp_path, "none") == ["inline SUCCESSFUL"]
