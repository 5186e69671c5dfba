"""Settings of the test project; ``DATABASE_URL`` chooses the database.

``postgres://postgres@127.0.0.1:5432/multipay`` and
``mysql://root@127.0.0.1:3306/multipay`` are the other two; Django makes the test
database (``test_multipay``) itself. ``MULTIPAY_TEST_COLLATION`` is MariaDB's collation:
``utf8mb4_general_ci`` folds case, as servers do that nobody told otherwise. With
``MULTIPAY_TEST_PREPARED`` PostgreSQL keeps the statements that come again.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from typing import Any

import environ

env = environ.Env()

SECRET_KEY = "only-for-tests"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Fast, and these passwords guard nothing.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_multipay",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASE = env.db_url("DATABASE_URL", default="sqlite://")
match DATABASE["ENGINE"]:
    case "django.db.backends.sqlite3":
        # Threads and processes share one test database, so it is a file: each run's
        # own, unless DATABASE_URL names one.
        if DATABASE["NAME"] == ":memory:":
            folder = tempfile.mkdtemp(prefix="multipay-tests-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            DATABASE["NAME"] = f"{folder}/db.sqlite3"
        DATABASE["TEST"] = {"NAME": f"{DATABASE['NAME']}.test"}
        DATABASE["OPTIONS"] = {
            # As the documentation tells shops: writers queue instead of failing.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
        }
    case "django.db.backends.postgresql" if env.bool("MULTIPAY_TEST_PREPARED", False):
        # From the second time on, or a test would hardly meet one.
        DATABASE["OPTIONS"] = {"server_side_binding": True, "prepare_threshold": 1}
    case "django.db.backends.mysql":
        DATABASE["OPTIONS"] = {"charset": "utf8mb4"}
        # What the documentation recommends, or what a server does by itself.
        collation = env.str("MULTIPAY_TEST_COLLATION", "utf8mb4_bin")
        DATABASE["TEST"] = {"CHARSET": "utf8mb4", "COLLATION": collation}
DATABASES = {"default": DATABASE}

MULTIPAY: dict[str, Any] = {
    "PROVIDERS": {
        "eximbay": {
            "BACKEND": "django_multipay.providers.eximbay.EximbayProvider",
            "OPTIONS": {
                # The test account that Eximbay publishes in its documentation.
                "mid": "1849705C64",
                "api_key": "test_1849705C642C217E0B2D",
                # Nothing listens here; the fixture sandbox_settings knows better.
                "base_url": "http://127.0.0.1:9",
            },
        },
    },
}
