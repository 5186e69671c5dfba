"""The client secret: what lets a buyer's browser speak for one payment."""

from __future__ import annotations

import uuid

from django.core import signing

from django_multipay.models import Payment

SCHEME = "Multipay-Client"
"""``Authorization: Multipay-Client <secret>``; never part of a URL."""

PROBLEM_TYPE = "application/problem+json"


def client_secret(payment: Payment) -> str:
    """Return the secret with which a browser may see, start and cancel ``payment``.

    Give it to the buyer of this payment only. It is signed with ``SECRET_KEY`` and
    stored nowhere; a key that moved to ``SECRET_KEY_FALLBACKS`` still verifies.
    """
    return _signer().sign(payment.uuid.hex)


def payment_named_by(secret: str) -> uuid.UUID | None:
    """Return the payment that ``secret`` speaks for, or None unless it is ours."""
    try:
        # Compares in constant time.
        return uuid.UUID(hex=_signer().unsign(secret))
    except (signing.BadSignature, ValueError):
        return None


def _signer() -> signing.Signer:
    return signing.Signer(salt="django_multipay.api.client_secret")
