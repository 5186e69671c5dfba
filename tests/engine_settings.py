"""Settings of a site with a task engine: ``ENGINE`` is ``db`` or a Redis address."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MULTIPAY, env

ENGINE = env.str("ENGINE")
INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks"]
if ENGINE == "db":
    INSTALLED_APPS += ["django_tasks_db"]
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
else:
    INSTALLED_APPS += ["django_rq"]
    RQ_QUEUES = {"default": {"URL": ENGINE}}
    TASKS = {"default": {"BACKEND": "django_tasks_rq.RQBackend"}}

MULTIPAY["PROVIDERS"]["eximbay"]["OPTIONS"]["base_url"] = env.str("SANDBOX_URL")
MULTIPAY |= {"SITE_URL": "http://testserver", "WEBHOOKS": "task"}
