"""A module of somebody else's takes part in the sandbox by being named."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command

from django_multipay.sandbox.__main__ import main
from django_multipay.sandbox.providers import discover

SLUGS = ["clink", "easybilling", "excoinz", "eximbay", "payer"]


@pytest.fixture
def till(tmp_path, monkeypatch):
    """A folder of modules that Python finds, though one works elsewhere."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_it_is_played_beside_ours_in_the_order_of_the_slugs(till):
    call_command(
        "multipay_startprovider",
        "kudupay",
        directory=till / "farm",
        stdout=io.StringIO(),
    )
    assert [one.slug for one in discover()] == SLUGS
    assert [one.slug for one in discover(["farm.kudupay_sandbox"])] == [
        *SLUGS[:4],
        "kudupay",
        *SLUGS[4:],
    ]


def test_a_slug_is_played_once():
    with pytest.raises(
        ValueError, match=r"the slug 'payer', which is taken by .*payer"
    ):
        discover(["django_multipay.sandbox.providers.payer"])


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("nowhere.kudupay_sandbox", "No module named 'nowhere'"),
        ("json", "json defines no subclass of SandboxProvider"),
    ],
)
def test_a_module_without_a_provider_is_named(capsys, module, problem):
    with pytest.raises(SystemExit):
        main(["--port", "0", "--provider", module])
    assert f"--provider: {problem}" in capsys.readouterr().err


def test_the_command_of_a_project_finds_what_the_project_finds(till, capfd):
    (till / "farm").mkdir()
    (till / "farm" / "empty.py").touch()
    with pytest.raises(SystemExit):
        call_command("multipay_sandbox", port=0, provider=["farm.empty"])
    assert "--provider: farm.empty defines no subclass" in capfd.readouterr().err


def test_a_command_that_is_told_to_stop_leaves_no_sandbox_behind():
    command = [sys.executable, "-m", "django", "multipay_sandbox", "--port", "0"]
    settings = {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    python_path = {"PYTHONPATH": os.pathsep.join(["", *sys.path])}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | settings | python_path | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        url = urlsplit(process.stdout.readline().split()[-1])
        process.terminate()
        assert process.wait(30) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port), timeout=5)
