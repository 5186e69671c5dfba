"""A shop in production whose only provider is the stub.

``DATABASE_URL`` chooses the database, ``BENCHMARK_DATABASE`` renames it (the processes
that a benchmark starts use the test database that Django made), ``BENCHMARK_STUB`` is
the origin of the stub. With ``BENCHMARK_PREPARED`` PostgreSQL keeps the statements that
come again. Packages to compare with are installed where they can be imported.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import environ

env = environ.Env()

SECRET = "a secret of forty-two characters, made up."

SECRET_KEY = "only-for-benchmarks"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
ROOT_URLCONF = "benchmarks.urls"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"nowhere": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["nowhere"]},
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.staticfiles",
    "django_multipay",
    "benchmarks.floor",
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

DATABASE = env.db_url("DATABASE_URL", default="sqlite:///benchmark.sqlite3")
DATABASE["NAME"] = os.environ.get("BENCHMARK_DATABASE", DATABASE["NAME"])
# Connections are kept, as a shop with traffic keeps them.
DATABASE["CONN_MAX_AGE"] = None
if DATABASE["ENGINE"] == "django.db.backends.sqlite3":
    # A file, because threads and processes share it.
    DATABASE["TEST"] = {"NAME": f"{DATABASE['NAME']}.test"}
    DATABASE["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
    }
if "postgresql" in DATABASE["ENGINE"] and env.bool("BENCHMARK_PREPARED", False):
    # As docs/scaling.md says.
    DATABASE["OPTIONS"] = {"server_side_binding": True, "prepare_threshold": 5}
DATABASES = {"default": DATABASE}

STUB = os.environ.get("BENCHMARK_STUB", "http://127.0.0.1:9")

MULTIPAY = {
    "PROVIDERS": {
        "stub": {
            "BACKEND": "benchmarks.provider.StubProvider",
            "OPTIONS": {"base_url": STUB, "secret": SECRET},
        }
    },
    "SITE_URL": "https://shop.example",
    "ENCRYPTION_KEYS": ["a key for what the benchmarks store"],
}

# --- Packages to compare with -------------------------------------------------------

SITE_ID = 1

if find_spec("payments"):
    INSTALLED_APPS += ["payments", "benchmarks.rivals.shop_payments"]
    PAYMENT_HOST = "shop.example"
    PAYMENT_USES_SSL = True
    PAYMENT_MODEL = "shop_payments.Payment"
    PAYMENT_VARIANTS = {
        "stub": (
            "benchmarks.rivals.shop_payments.provider.StubProvider",
            {"secret": SECRET},
        )
    }

if find_spec("getpaid"):
    INSTALLED_APPS += ["benchmarks.rivals.shop_getpaid", "getpaid"]
    GETPAID_ORDER_MODEL = "shop_getpaid.Order"

if find_spec("djstripe"):
    INSTALLED_APPS += ["djstripe"]
    STRIPE_LIVE_MODE = False
    STRIPE_TEST_SECRET_KEY = f"sk_test_{'0' * 24}"
    DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
