"""The app's entry in ``INSTALLED_APPS``.

Every process of a site pays for what is imported here: workers, shells, migrations. So
a room that such a process may not need is imported when it is first asked.
"""

from __future__ import annotations

import gc
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, register
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django_multipay.messages import Health


class MultipayConfig(AppConfig):
    """Label ``multipay``; registers the system checks."""

    name = "django_multipay"
    label = "multipay"
    verbose_name = _("Payments")
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        """Import the models while Python's collector rests.

        What they are made of stays as long as the process does. To look through it,
        and through all that was imported before, takes longer than to import it.
        """
        was_on = gc.isenabled()
        gc.disable()
        try:
            super().import_models()
        finally:
            if was_on:
                gc.enable()

    def ready(self) -> None:
        """Bind the system checks, the health of accounts, and tasks that send events."""
        from django_multipay import signals
        from django_multipay.models.endpoint import deliveries_written

        register(_check_settings, Tags.compatibility)
        register(_check_deployment, Tags.security, deploy=True)
        signals.account_health_changed.connect(_record_health)
        # Django 5.2 has tasks only with the extra of this name.
        if find_spec("django.tasks") or find_spec("django_tasks"):
            deliveries_written.connect(_wake_up)


def _check_settings(**kwargs: Any) -> list[CheckMessage]:
    from django_multipay.checks import check_settings

    return check_settings(**kwargs)


def _check_deployment(**kwargs: Any) -> list[CheckMessage]:
    from django_multipay.checks import check_deployment

    return check_deployment(**kwargs)


def _wake_up(**details: object) -> None:
    from django_multipay.tasks import wake_up

    wake_up()


def _record_health(provider: str, health: Health, **details: object) -> None:
    from django_multipay.flows.health import record_health

    record_health(provider, health)
