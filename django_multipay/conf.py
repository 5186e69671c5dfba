"""The only place that reads Django's settings, at each access, never at import."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import ENVIRONMENT_VARIABLE, settings

DEFAULTS: Mapping[str, Any] = {
    "PROVIDERS": {},
    "SITE_URL": None,
    "ENCRYPTION_KEYS": None,
    "ORDER_URL": "",
    "REFUND_APPROVAL_ABOVE": {},
}


class Conf:
    """``settings.MULTIPAY`` with its defaults, typed."""

    @property
    def raw(self) -> Any:
        """The setting as written, for the system checks."""
        return getattr(settings, "MULTIPAY", {})

    def _get(self, name: str) -> Any:
        return self.raw.get(name, DEFAULTS[name])

    @property
    def providers(self) -> Mapping[str, Any]:
        """Alias to account: ``{"BACKEND": dotted path, "OPTIONS": {…}}``."""
        providers: Mapping[str, Any] = self._get("PROVIDERS")
        return providers

    @property
    def site_url(self) -> str:
        """Origin for absolute callback URLs, without a slash; empty: the request's."""
        return (self._get("SITE_URL") or "").rstrip("/")

    @property
    def encryption_keys(self) -> Sequence[str]:
        """The first encrypts, all decrypt; derived from ``SECRET_KEY`` when unset."""
        keys: Sequence[str] | None = self._get("ENCRYPTION_KEYS")
        return keys or [settings.SECRET_KEY, *map(str, settings.SECRET_KEY_FALLBACKS)]

    @property
    def order_url(self) -> str:
        """Where staff see an order, with ``{order_id}`` in it; empty: no link."""
        url: str = self._get("ORDER_URL")
        return url

    @property
    def refund_approval_above(self) -> Mapping[str, Any]:
        """Currency code to the amount, in major units, that one person may refund."""
        limits: Mapping[str, Any] = self._get("REFUND_APPROVAL_ABOVE")
        return limits

    @property
    def debug(self) -> bool:
        """Whether the site runs in Django's debug mode."""
        return bool(settings.DEBUG)

    @property
    def source(self) -> str:
        """The settings module as it is written, or "" where there is none to read."""
        module = sys.modules.get(os.environ.get(ENVIRONMENT_VARIABLE, ""))
        try:
            return inspect.getsource(module) if module else ""
        except OSError:
            return ""

    @property
    def databases(self) -> Mapping[str, Mapping[str, Any]]:
        """Django's ``DATABASES``, for the deploy check."""
        databases: Mapping[str, Mapping[str, Any]] = settings.DATABASES
        return databases


conf = Conf()
