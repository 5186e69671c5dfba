"""The test project's settings, with the stub as the only provider."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

SECRET = "a secret of forty-two characters, made up."

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.floor"]
ROOT_URLCONF = "benchmarks.urls"
LOGGING_CONFIG = None
MULTIPAY = {
    "PROVIDERS": {
        "stub": {
            "BACKEND": "benchmarks.provider.StubProvider",
            "OPTIONS": {
                "base_url": os.environ.get("MULTIPAY_STUB", "http://127.0.0.1:9"),
                "secret": SECRET,
            },
        }
    },
    "SITE_URL": "https://shop.example",
}
