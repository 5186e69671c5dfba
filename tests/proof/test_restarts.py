"""The database server crashes under a worker, and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.proof.figures import Figures, size
from tests.proof.restarts import SERVERS

TIMEOUT = size(170, 3000)
SERVER = SERVERS.get(connection.vendor)

if SERVER is not None and SERVER.is_possible():  # Else the report shows a dash.

    @pytest.mark.timeout(TIMEOUT + 10)
    def test_a_server_that_crashes_under_a_call_loses_and_doubles_nothing(
        figures: Figures, tmp_path: Path
    ) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.proof.restarts"),
                *(connection.vendor, str(tmp_path)),
            ],
            env=os.environ
            | {
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        counts = json.loads(done.stdout, parse_float=str)
        figures.did("restarts", counts.pop("restarts"))
        figures.left("waiting", counts.pop("waiting"))
        for name, count in counts.items():
            figures.found(name, [name] * count)
