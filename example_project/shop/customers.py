"""Who a visitor is: an id in the session, or the account of somebody who logged in.

``MULTIPAY["CUSTOMER_ID"]`` names ``customer_id``, so that the pages of django-multipay
show everybody their own saved methods and nobody else's.

An id is digits, hyphens and small letters: a database that takes ``anna`` and ``ANNA``
for one text, as MariaDB does by default, still takes no two customers for one.
"""

from __future__ import annotations

import secrets

from django.http import HttpRequest


def customer_id(request: HttpRequest) -> str:
    """Return the shop's id of this visitor, "" for one it does not know yet.

    Who bought something before logging in keeps that id as long as the session lasts.
    """
    known: str | None = request.session.get("customer_id")
    if known is not None:
        return known
    if request.user.is_authenticated:
        return f"user-{request.user.pk}"
    return ""


def customer_of(request: HttpRequest) -> str:
    """Return the shop's id of this visitor; a new one gets one. Nobody has to register."""
    known = customer_id(request)
    if not known:
        known = request.session["customer_id"] = secrets.token_hex(16)
    return known
