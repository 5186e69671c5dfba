"""The API is an extra: who did not install it misses nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys

# As if neither were installed.
sys.modules["rest_framework"] = sys.modules["drf_spectacular"] = None

import django
from django.conf import settings
from django.core.management import call_command

settings.ROOT_URLCONF = "django_multipay.urls"
django.setup()

import django_multipay

for found in pkgutil.walk_packages(django_multipay.__path__, "django_multipay."):
    if not found.name.startswith(("django_multipay.api.", "django_multipay.sandbox")):
        importlib.import_module(found.name)

from django_multipay.api import client_secret
from django_multipay.models import Payment

assert client_secret(Payment())
call_command("check", fail_level="ERROR")
try:
    import django_multipay.api.urls
except ImportError as error:
    print(error)
"""


def test_everything_but_the_endpoints_works_without_rest_framework():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rest_framework" in done.stdout
