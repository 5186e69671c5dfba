"""The app's entry in ``INSTALLED_APPS``."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django_multipay.messages import Health


class MultipayConfig(AppConfig):
    """Label ``multipay``; registers the system checks."""

    name = "django_multipay"
    label = "multipay"
    verbose_name = _("Payments")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Bind the system checks, the health of accounts, and tasks that send events."""
        from django_multipay import checks, signals  # noqa: F401

        signals.account_health_changed.connect(_record_health)
        # Django 5.2 has tasks only with the extra of this name.
        if find_spec("django.tasks") or find_spec("django_tasks"):
            from django_multipay import tasks  # noqa: F401


def _record_health(provider: str, health: Health, **details: object) -> None:
    # Not before there is news: a site need not import the flows to start.
    from django_multipay.flows.health import record_health

    record_health(provider, health)
