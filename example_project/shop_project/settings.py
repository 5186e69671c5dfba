"""Settings of the demo shop; every value that may differ comes from the environment.

The variables and their defaults are listed in ``example_project/README.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()

# Site -------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = env.str("SECRET_KEY", default="")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("Set SECRET_KEY: DEBUG is off.")
    SECRET_KEY = "only-for-this-demo-on-one-laptop-while-debug-is-on"  # noqa: S105

ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[])
SITE_URL = env.str("SITE_URL", default="").rstrip("/")
CSRF_TRUSTED_ORIGINS: list[str] = env.list(
    "CSRF_TRUSTED_ORIGINS", default=[SITE_URL] if SITE_URL else []
)
if env.bool("BEHIND_HTTPS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

ROOT_URLCONF = "shop_project.urls"
WSGI_APPLICATION = "shop_project.wsgi.application"
ASGI_APPLICATION = "shop_project.asgi.application"

INSTALLED_APPS = [
    "shop.apps.ShopConfig",
    "django_multipay",
    # The page that shows the REST API; the API itself needs neither.
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "shop.middleware.ContentSecurityPolicyMiddleware",
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
                "shop.context_processors.shop",
            ],
        },
    },
]

# Database ---------------------------------------------------------------------

DATABASES = {
    "default": env.db_url(
        "DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'demo.sqlite3'}"
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # A transaction that will write takes its lock at once and waits for it;
        # without this two writers meet in "database is locked".
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
    }
else:
    # Nobody waits for ever: for a row that is locked, or a server that is away.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 2,
        **(
            {
                "options": "-c lock_timeout=3s",
                # Statements that come again are read and planned once.
                "server_side_binding": True,
                "prepare_threshold": env.int("PREPARE_THRESHOLD", default=5) or None,
            }
            if "postgresql" in DATABASES["default"]["ENGINE"]
            else {
                "charset": "utf8mb4",
                "init_command": "SET SESSION innodb_lock_wait_timeout = 3",
            }
        ),
    }
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = env.bool(
        "CONN_HEALTH_CHECKS", default=True
    )
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Tasks ------------------------------------------------------------------------

# Who carries out what need not be done in a request: nobody else ("none"), a worker
# that reads the database ("db"), or one that reads a Redis server (its address).
TASK_ENGINE = env.str("TASK_ENGINE", default="none")
if TASK_ENGINE != "none":
    INSTALLED_APPS += ["django_tasks"]
if TASK_ENGINE == "db":
    INSTALLED_APPS += ["django_tasks_db"]
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
elif TASK_ENGINE != "none":
    INSTALLED_APPS += ["django_rq"]
    RQ_QUEUES = {"default": {"URL": TASK_ENGINE}}
    TASKS = {"default": {"BACKEND": "django_tasks_rq.RQBackend"}}

# Language, time, static files ---------------------------------------------------

LANGUAGE_CODE = "en-us"
USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", default="UTC")

STATIC_URL = "static/"
STATIC_ROOT = env.path("STATIC_ROOT", default=BASE_DIR / "static_root")
SERVE_STATIC = env.bool("SERVE_STATIC", default=True)

# Security -----------------------------------------------------------------------

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SITE_URL.startswith("https://")
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=False)
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=0)

# Buyers need no account; staff log in.
LOGIN_URL = "admin:login"

# Payments -----------------------------------------------------------------------

SANDBOX_URL = env.str("SANDBOX_URL", default="http://127.0.0.1:8100").rstrip("/")

EXIMBAY_URL = env.str("EXIMBAY_URL", default=SANDBOX_URL).rstrip("/")
CLINK_URL = env.str("CLINK_URL", default=f"{SANDBOX_URL}/clink/api").rstrip("/")
EASYBILLING_URL = env.str(
    "EASYBILLING_URL", default=f"{SANDBOX_URL}/easybilling"
).rstrip("/")
PAYER_URL = env.str("PAYER_URL", default=f"{SANDBOX_URL}/payer").rstrip("/")
EXCOINZ_URL = env.str("EXCOINZ_URL", default=f"{SANDBOX_URL}/excoinz").rstrip("/")

# One account of each provider; the defaults are the sandbox's.
MULTIPAY: dict[str, Any] = {
    "PROVIDERS": {
        "eximbay": {
            "BACKEND": "django_multipay.providers.eximbay.EximbayProvider",
            "OPTIONS": {
                # The test account that Eximbay publishes in its documentation.
                "mid": env.str("EXIMBAY_MID", default="1849705C64"),
                "api_key": env.str(
                    "EXIMBAY_API_KEY", default="test_1849705C642C217E0B2D"
                ),
                "base_url": EXIMBAY_URL,
                # Charging a saved card wants a link to the shop.
                **({"shop_url": SITE_URL} if SITE_URL else {}),
                # Eximbay publishes no code for a buyer who cancels; this one is the
                # sandbox's.
                "cancel_codes": env.list("EXIMBAY_CANCEL_CODES", default=["XC00"]),
                # R: the payment page in the same window; P: in a pop-up.
                "display_type": env.str("EXIMBAY_DISPLAY_TYPE", default="R"),
            },
        },
        "clink": {
            "BACKEND": "django_multipay.providers.clink.ClinkProvider",
            "OPTIONS": {
                "api_key": env.str(
                    "CLINK_API_KEY", default="sk_test_clinkSandbox1a2b3c4d5e6f7a8b"
                ),
                "webhook_secret": env.str(
                    "CLINK_WEBHOOK_SECRET", default="whsec_clinkSandbox1a2b3c4d5e6f7a8b"
                ),
                "base_url": CLINK_URL,
            },
        },
        "easybilling": {
            "BACKEND": "django_multipay.providers.easybilling.EasyBillingProvider",
            "OPTIONS": {
                "api_token": env.str(
                    "EASYBILLING_API_TOKEN", default="eb_sandbox_4f2b8c1d9e7a6053"
                ),
                "base_url": EASYBILLING_URL,
                # A shop on a laptop has no https, and its sandbox wants none.
                "require_https": EASYBILLING_URL.startswith("https://"),
            },
        },
        "payer": {
            "BACKEND": "django_multipay.providers.payer.PayerProvider",
            "OPTIONS": {
                "api_key": env.str(
                    "PAYER_API_KEY", default="payer_test_5Wd8Qk2Zr7Tn4Yb9Hc3Mx6Vp"
                ),
                "base_url": PAYER_URL,
            },
        },
        "excoinz": {
            "BACKEND": "django_multipay.providers.excoinz.ExcoinzProvider",
            "OPTIONS": {
                "client_id": env.str("EXCOINZ_CLIENT_ID", default="SANDBOXEXPAY"),
                "secret_key": env.str(
                    "EXCOINZ_SECRET_KEY", default="sk_sandbox_expay_4f1d0c7b9a2e4d6f"
                ),
                "base_url": EXCOINZ_URL,
            },
        },
    },
    "SITE_URL": SITE_URL or None,
    # With an engine, messages are acknowledged first and applied by a worker.
    "WEBHOOKS": "inline" if TASK_ENGINE == "none" else "task",
    # Whose saved methods a visitor sees: the session's customer, or who logged in.
    "CUSTOMER_ID": "shop.customers.customer_id",
    # The first encrypts, all decrypt; without any, the key derives from SECRET_KEY.
    "ENCRYPTION_KEYS": env.list("MULTIPAY_ENCRYPTION_KEYS", default=[]) or None,
}


def origins(*urls: str) -> list[str]:
    """Return the origins of ``urls``, each once."""
    return sorted({"{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in urls})


# Where a buyer may be sent: a form of ours is answered with a redirect to there.
PAYMENT_ORIGINS: list[str] = env.list(
    "PAYMENT_ORIGINS",
    default=origins(EXIMBAY_URL, CLINK_URL, EASYBILLING_URL, PAYER_URL, EXCOINZ_URL),
)

CONTENT_SECURITY_POLICY = {
    "default-src": ["'self'"],
    # Only Eximbay has a script, which calls its own server.
    "script-src": ["'self'", *origins(EXIMBAY_URL)],
    "connect-src": ["'self'", *origins(EXIMBAY_URL)],
    "form-action": ["'self'", *PAYMENT_ORIGINS],
    # A code to scan may be a picture in the page, or one of Clink's.
    "img-src": ["'self'", "data:", *origins(CLINK_URL)],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}

# The page that shows the REST API brings its own scripts.
SPECTACULAR_SETTINGS = {
    "TITLE": "Quiet Kettle",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# Shop ---------------------------------------------------------------------------

SHOP_CURRENCIES = ["USD", "KRW", "JPY", "USDT"]
# Shows the choices at the checkout that a buyer would never be offered.
SHOP_DEMO_OPTIONS = env.bool("SHOP_DEMO_OPTIONS", default=False)
# Where the shop reads what time it is; empty: its own clock. The demo names the
# sandbox's, which a person can move.
SHOP_CLOCK_URL = env.str("SHOP_CLOCK_URL", default="")
