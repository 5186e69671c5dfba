"""What a view answers while the database is away."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse

from django_multipay.exceptions import ProviderConfigurationError

logger = logging.getLogger("django_multipay.views")

RETRY_AFTER = 30
"""Seconds after which whoever asked may ask again."""

P = ParamSpec("P")


def told_to_retry(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Decorate ``view``: what is wrong on our side is 503, for the sender to repeat."""

    @functools.wraps(view)
    def guarded(
        request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs
    ) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except (OperationalError, InterfaceError, ProviderConfigurationError):
            logger.exception("%s cannot be answered now", request.path_info)
            return HttpResponse(status=503, headers={"Retry-After": str(RETRY_AFTER)})

    return guarded
