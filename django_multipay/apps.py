"""The app's entry in ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MultipayConfig(AppConfig):
    """Label ``multipay``; registers the system checks."""

    name = "django_multipay"
    label = "multipay"
    verbose_name = _("Payments")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Bind the system checks."""
        from django_multipay import checks  # noqa: F401
