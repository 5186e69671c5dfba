"""What the app adds to the start of a process: time, memory, libraries.

``django.setup()`` in a process of its own, with the app and without it in turn: first
in a shop with what every site has, then in one that has the admin as well, which
imports the pages of every app.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

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
import json, sys, time, tracemalloc
import django
from django.conf import settings

apps, is_traced, heavy = json.loads(sys.argv[1])
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

before = resident()
if is_traced:
    tracemalloc.start()
began = time.perf_counter()
django.setup()
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "resident": resident() - before,
    "traced": tracemalloc.get_traced_memory()[0] if is_traced else 0,
    "imported": [name for name in heavy if name in sys.modules],
}))
"""


Pairs = list[tuple[dict[str, Any], dict[str, Any]]]


def measure(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each shop: what the app adds, which libraries it imports."""
    for name, shop in SHOPS.items():
        with_app = [*shop, "django_multipay"]
        _setup(shop), _setup(with_app)  # So that all is compiled.
        pairs = [(_setup(shop), _setup(with_app)) for _ in range(rounds)]
        traced = [(_setup(shop, True), _setup(with_app, True)) for _ in range(3)]
        yield {
            "job": "startup",
            "contestant": "django-multipay",
            "shop": name,
            "without_ms": statistics.median(one["seconds"] for one, _ in pairs) * 1000,
            "added_ms": _added("seconds", pairs) * 1000,
            "added_mib": _added("traced", traced) / 2**20,
            "added_resident_mib": _added("resident", pairs) / 2**20,
            "imported": sorted(
                set(pairs[0][1]["imported"]) - set(pairs[0][0]["imported"])
            ),
        }


def _added(what: str, pairs: Pairs) -> float:
    """Return the median with the app less the median without it."""
    without, over = zip(*pairs, strict=True)
    more: float = statistics.median(one[what] for one in over)
    less: float = statistics.median(one[what] for one in without)
    return more - less


def _setup(apps: Sequence[str], is_traced: bool = False) -> dict[str, Any]:
    """Set Django up with ``apps`` in a new process; return what that took."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([list(apps), is_traced, HEAVY])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
