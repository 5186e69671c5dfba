"""How often somebody may call; the site's ``DEFAULT_THROTTLE_RATES`` may say otherwise."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from django_multipay.api.access import buyer_of, caller_of

logger = logging.getLogger("django_multipay.api")

RATES: Mapping[str, str] = {
    "multipay_anonymous": "60/min",
    "multipay_buyer": "60/min",
    "multipay_start": "20/min",
    "multipay_staff": "600/min",
    "multipay_money": "120/min",
}
"""Scope and rate: strangers and starts by address, the others by who calls."""


class Throttle(SimpleRateThrottle):
    """Counts the calls of one scope."""

    scope: str

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__()

    def get_rate(self) -> str | None:
        """Return the site's rate of this scope, else ours; None: no limit."""
        rates: Mapping[str, Any] = api_settings.DEFAULT_THROTTLE_RATES
        rate: str | None = rates.get(self.scope, RATES[self.scope])
        return rate

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Say whether the call may pass; without its cache a site still takes money."""
        try:
            return super().allow_request(request, view)
        except Exception:
            logger.exception("the cache did not count a call")
            return True

    def get_cache_key(self, request: Request, view: APIView) -> str:
        """Return what is counted together."""
        is_by_address = self.scope in {"multipay_anonymous", "multipay_start"}
        who = self.get_ident(request) if is_by_address else caller_of(request)
        return f"multipay:throttle:{self.scope}:{who}"

    def get_ident(self, request: Request) -> str:
        """Return the caller's address; a header counts only behind known proxies."""
        if api_settings.NUM_PROXIES is None:
            return str(request.META.get("REMOTE_ADDR", ""))
        return super().get_ident(request)


def throttles_for(
    request: Request, *, is_money: bool, is_start: bool
) -> list[SimpleRateThrottle]:
    """Return what counts this call."""
    if buyer_of(request):
        scopes = ["multipay_buyer", *(["multipay_start"] if is_start else [])]
    elif caller_of(request):
        scopes = ["multipay_staff", *(["multipay_money"] if is_money else [])]
    else:
        scopes = ["multipay_anonymous"]
    return [Throttle(scope) for scope in scopes]
