"""A content security policy as strict as it can be, with a nonce for each page."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from tests import fakes

POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
    f"img-src 'self' data: {fakes.HOST}; connect-src 'self'; "
    f"form-action 'self' {fakes.HOST}; frame-ancestors 'none'; base-uri 'none'"
)
"""No host may send scripts: the provider's pass by the nonce of ours."""


def nonce_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Do as django-csp does: the nonce is on the request, the policy on the answer."""

    def respond(request: Any) -> HttpResponse:
        request.csp_nonce = secrets.token_urlsafe(16)
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY.format(nonce=request.csp_nonce)
        return response

    return respond
