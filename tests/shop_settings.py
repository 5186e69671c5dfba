"""Settings of `tests.shop`: its messages are applied by a task engine."""

from __future__ import annotations

from tests.engine_settings import *  # noqa: F403
from tests.engine_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.shop.Shop"]
MULTIPAY = {
    "PROVIDERS": {
        "scripted": {"BACKEND": "tests.test_workers.PayingProvider", "OPTIONS": {}}
    },
    "SITE_URL": "https://shop.example",
    "WEBHOOKS": "task",
    "CONCURRENCY": 4,
}
