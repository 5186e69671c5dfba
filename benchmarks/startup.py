"""What the app adds to the start of a process: time, memory, libraries.

``django.setup()`` in a process of its own, without the app, with the same models and
nothing else, and with the app in turn: first in a shop with what every site has, then in
one that has the admin as well, which imports the pages of every app.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db.migrations.writer import MigrationWriter

from benchmarks.stage import ROOT

ROUNDS = 20

SHOP = (
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
)
SHOPS = {"without the admin": SHOP, "with the admin": ("django.contrib.admin", *SHOP)}

HEAVY = ("requests", "urllib3", "rest_framework", "drf_spectacular", "segno")
"""Libraries for HTTP, the REST API and QR codes: whoever needs them can wait."""

CHILD = """
import gc, json, sys, time, tracemalloc
import django
from django.conf import settings

apps, folder, is_traced, heavy = json.loads(sys.argv[1])
sys.path.append(folder)
settings.configure(
    SECRET_KEY="only-for-benchmarks",
    INSTALLED_APPS=apps,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MULTIPAY={"PROVIDERS": {"cards": {
        "BACKEND": "django_multipay.providers.eximbay.EximbayProvider",
        "OPTIONS": {"mid": "1849705C64", "api_key": "test_1849705C642C217E0B2D",
                    "base_url": "https://api-test.eximbay.com"},
    }}},
    USE_TZ=True,
)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

moments = []

def watch(phase, info):
    if info["generation"] == 2:
        moments.append(time.perf_counter())

gc.callbacks.append(watch)
before = resident()
if is_traced:
    tracemalloc.start()
began = time.perf_counter()
django.setup()
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "collecting": sum(moments[1::2]) - sum(moments[::2]),
    "resident": resident() - before,
    "traced": tracemalloc.get_traced_memory()[0] if is_traced else 0,
    "imported": [name for name in heavy if name in sys.modules],
}))
"""


Runs = Sequence[Mapping[str, Any]]


def measure(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each shop: what the app adds, which libraries it imports."""
    with tempfile.TemporaryDirectory() as folder:
        models_alone = Path(folder, "multipay")
        models_alone.mkdir()
        Path(models_alone, "__init__.py").touch()
        Path(models_alone, "models.py").write_text(_models_alone())
        for name, shop in SHOPS.items():
            with_app = [*shop, "django_multipay"]
            contestants = (shop, [*shop, "multipay"], with_app)
            for one in contestants:
                _setup(one, folder)  # So that all is compiled.
            without, models, ours = zip(
                *([_setup(one, folder) for one in contestants] for _ in range(rounds)),
                strict=True,
            )
            less, more = zip(
                *(
                    [_setup(one, folder, True) for one in (shop, with_app)]
                    for _ in range(3)
                ),
                strict=True,
            )
            yield {
                "job": "startup",
                "contestant": "django-multipay",
                "shop": name,
                "without_ms": 1000
                * statistics.median(run["seconds"] for run in without),
                "models_alone_ms": _added("seconds", without, models) * 1000,
                "added_ms": _added("seconds", without, ours) * 1000,
                "collecting_ms": _added("collecting", without, ours) * 1000,
                "added_mib": _added("traced", less, more) / 2**20,
                "added_resident_mib": _added("resident", without, ours) / 2**20,
                "imported": sorted(
                    set(ours[0]["imported"]) - set(without[0]["imported"])
                ),
            }


def _models_alone() -> str:
    """Return the source of models with the columns of ours, and nothing else."""
    lines = [
        "import uuid",
        "import django.db.models.deletion",
        "import django.utils.timezone",
        "from django.db import models",
    ]
    for model in apps.get_app_config("multipay").get_models():
        lines.append(f"class {model.__name__}(models.Model):")
        for field in model._meta.local_fields:
            _name, path, _args, kwargs = field.deconstruct()
            kind = (
                path.rpartition(".")[2] if path.startswith("django.") else "TextField"
            )
            said = ", ".join(
                f"{name}={_source(value)}" for name, value in kwargs.items()
            )
            lines.append(f"    {field.name} = models.{kind}({said})")
        lines.append("    class Meta:")
        for name, value in model._meta.original_attrs.items():
            lines.append(f"        {name} = {_source(value)}")
    return "\n".join(lines)


def _source(value: Any) -> str:
    # Whatever makes our defaults, the column costs the same.
    if callable(value) and value.__module__.startswith("django_multipay."):
        return "str"
    return str(MigrationWriter.serialize(value)[0])


def _added(what: str, without: Runs, over: Runs) -> float:
    """Return the median of what each of ``over`` has more than its pair without."""
    pairs = zip(without, over, strict=True)
    added: float = statistics.median(more[what] - less[what] for less, more in pairs)
    return added


def _setup(
    installed: Sequence[str], folder: str, is_traced: bool = False
) -> dict[str, Any]:
    """Set Django up with these apps in a new process; return what that took."""
    told = json.dumps([list(installed), folder, is_traced, HEAVY])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, told],
        cwd=ROOT,
        # An installer compiles what it installs, and so it did with Django. Where Python
        # may not keep what it compiled, it would compile us again for every figure.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
