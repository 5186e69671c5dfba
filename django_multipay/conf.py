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
    "CUSTOMER_ID": None,
    "REFUND_APPROVAL_ABOVE": {},
    "ENDPOINTS": {},
    "PLANS": {},
    "WEBHOOKS": "inline",
    "CONCURRENCY": 16,
    "RETENTION": {},
}

RETENTION: Mapping[str, int | None] = {
    "MESSAGES": 90,
    "NOTICES": 90,
    "CHECKOUTS": 30,
    "BUYERS": None,
}
"""Days; what each kind means is said in the documentation of the settings."""

PLAN_DEFAULTS: Mapping[str, Any] = {"RETRY_DAYS": (1, 3, 5, 7), "GRACE_DAYS": 7}

ENDPOINT_DEFAULTS: Mapping[str, Any] = {"ALLOW_PRIVATE": False, "PORTS": (443, 8443)}


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
    def customer_id(self) -> Any:
        """How to find out who sent a request: a callable, its path, or None."""
        return self._get("CUSTOMER_ID")

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
    def webhooks(self) -> str:
        """Who applies a message: ``inline``, its own request, or ``task``, the engine."""
        who: str = self._get("WEBHOOKS")
        return who

    @property
    def concurrency(self) -> int:
        """How many calls to one account `reconcile` makes at the same time."""
        count: int = self._get("CONCURRENCY")
        return count

    @property
    def retention(self) -> Mapping[str, int | None]:
        """Kind of row to the days after which `purge` looks at it; None: never."""
        days: Mapping[str, int | None] = self._get("RETENTION")
        return {**RETENTION, **days}

    @property
    def tasks(self) -> Mapping[str, Any]:
        """Django's ``TASKS``; empty while no engine is chosen."""
        engines: Mapping[str, Any] = getattr(settings, "TASKS", {})
        return engines

    @property
    def plan_retry_days(self) -> Sequence[int]:
        """Days after the first refusal on which a plan's charge is tried again."""
        plans: Mapping[str, Any] = self._get("PLANS")
        days: Sequence[int] = plans.get("RETRY_DAYS", PLAN_DEFAULTS["RETRY_DAYS"])
        return days

    @property
    def plan_grace_days(self) -> int:
        """Days that a buyer has to pay before a plan in arrears is canceled."""
        plans: Mapping[str, Any] = self._get("PLANS")
        days: int = plans.get("GRACE_DAYS", PLAN_DEFAULTS["GRACE_DAYS"])
        return days

    def _endpoint(self, name: str) -> Any:
        return self._get("ENDPOINTS").get(name, ENDPOINT_DEFAULTS[name])

    @property
    def endpoints_allow_private(self) -> bool:
        """Whether events may go to http and to private addresses; for development."""
        return bool(self._endpoint("ALLOW_PRIVATE"))

    @property
    def endpoint_ports(self) -> Sequence[int]:
        """The ports to which events may go."""
        ports: Sequence[int] = self._endpoint("PORTS")
        return ports

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
