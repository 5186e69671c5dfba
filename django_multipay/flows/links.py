"""Signed links: a callback URL names one payment and one purpose."""

from __future__ import annotations

import uuid

from django.core import signing
from django.http import HttpRequest
from django.urls import reverse

from django_multipay.conf import conf
from django_multipay.enums import Purpose
from django_multipay.exceptions import ProviderConfigurationError
from django_multipay.models import Payment

_ROUTES = {
    Purpose.RETURN: "multipay:return",
    Purpose.STATUS: "multipay:status",
    Purpose.PLAN: "multipay:plan_notice",
}


def _signer(purpose: Purpose) -> signing.Signer:
    return signing.Signer(salt=f"django_multipay.{purpose}")


def callback_url(
    payment: Payment, purpose: Purpose, request: HttpRequest | None
) -> str:
    """Return the absolute URL that the provider calls for ``payment``.

    The origin is ``SITE_URL``, else the request's; without either it cannot be known
    and `ProviderConfigurationError` is raised.
    """
    path = reverse(_ROUTES[purpose], args=[_signer(purpose).sign(payment.uuid.hex)])
    return absolute_url(path, request)


def absolute_url(path: str, request: HttpRequest | None) -> str:
    """Return ``path`` on ``SITE_URL``, else on the request's origin."""
    if conf.site_url:
        return f"{conf.site_url}{path}"
    if request is None:
        raise ProviderConfigurationError(
            "MULTIPAY['SITE_URL'] is needed to start a payment without a request; "
            "set it to this site's origin, such as 'https://shop.example'"
        )
    return request.build_absolute_uri(path)


def read_link(signed: str, purpose: Purpose) -> uuid.UUID | None:
    """Return the payment's uuid, or None unless ``signed`` is ours and for this."""
    try:
        return uuid.UUID(hex=_signer(purpose).unsign(signed))
    except (signing.BadSignature, ValueError):
        # UnicodeEncodeError of a lone surrogate is a ValueError too.
        return None
