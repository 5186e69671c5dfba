"""What a process of a site pays for having the app, before it does anything."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys

import pytest
from django.apps import AppConfig, apps

START = """
import sys
from django.conf import settings

settings.configure(
    SECRET_KEY="only-for-tests",
    INSTALLED_APPS=sys.argv[1:],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
import django

django.setup()
print(*sys.modules)
"""
DJANGO = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
]
NETWORK = {"requests", "urllib3", "http.server"}
EXTRAS = {"drf_spectacular", "redis", "rest_framework", "rq", "starlette"}
MONEY = {"babel", "moneyed"}
ON_DEMAND = NETWORK | EXTRAS | MONEY | {"cryptography", "segno"}
ROOMS_OF_EVERY_PROCESS = {
    f"django_multipay.{room}"
    for room in (
        "apps",
        "enums",
        "exceptions",
        "models",
        "money",
        "recurrence",
        "signals",
    )
}


def started(*apps: str) -> set[str]:
    """Return the modules of a new process after ``django.setup()``."""
    process = subprocess.run(
        [sys.executable, "-c", START, *apps],
        capture_output=True,
        check=True,
        text=True,
    )
    return set(process.stdout.split())


def opened(modules: set[str]) -> set[str]:
    """Return the rooms of the house that are among ``modules``."""
    return {
        ".".join(module.split(".")[:2])
        for module in modules
        if module.startswith("django_multipay.")
    }


def test_starting_a_site_imports_only_what_the_models_need():
    modules = started(*DJANGO, "django_multipay")
    assert not modules & ON_DEMAND
    assert opened(modules) == ROOMS_OF_EVERY_PROCESS


def test_the_admin_opens_no_room_before_somebody_looks_at_it():
    modules = started("django.contrib.admin", *DJANGO, "django_multipay")
    assert not modules & ON_DEMAND
    assert opened(modules) == ROOMS_OF_EVERY_PROCESS | {"django_multipay.admin"}
    assert "django_multipay.admin.payments" not in modules


@pytest.mark.parametrize("room", ["flows", "tasks", "urls"])
def test_no_room_needs_another_to_be_opened_first(room):
    site = START + f"\nimport django_multipay.{room}"
    subprocess.run(
        [sys.executable, "-c", site, *DJANGO, "django_multipay"],
        capture_output=True,
        check=True,
    )


@pytest.fixture
def collector():
    """Let a test turn Python's collector off, and turn it on again after it."""
    yield
    gc.enable()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("was_on", [True, False])
@pytest.mark.parametrize("problem", [None, ImportError("a model that is broken")])
def test_the_collector_rests_only_while_the_models_are_imported(
    monkeypatch, was_on, problem
):
    seen = []

    def import_models(config):
        seen.append((config.label, gc.isenabled()))
        if problem:
            raise problem

    monkeypatch.setattr(AppConfig, "import_models", import_models)
    (gc.enable if was_on else gc.disable)()
    with pytest.raises(ImportError) if problem else contextlib.nullcontext():
        apps.get_app_config("multipay").import_models()
    assert seen == [("multipay", False)]
    assert gc.isenabled() == was_on
