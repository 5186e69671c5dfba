"""Who may see and do what: one permission for each act on money."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from django.contrib.admin import AdminSite
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from django_multipay.enums import OperationKind

PERMISSIONS: Mapping[OperationKind, str] = {
    OperationKind.REFUND: "multipay.refund_payment",
    OperationKind.CAPTURE: "multipay.capture_payment",
    OperationKind.CONFIRM: "multipay.capture_payment",
    OperationKind.SETTLE: "multipay.capture_payment",
    OperationKind.VOID: "multipay.void_payment",
}
"""What each call on money needs of the person who asks for it."""

CHECK = "multipay.change_payment"
"""Asking the provider, and answering a review, change what we know of a payment."""

REPLAY = "multipay.replay_delivery"
END_TOKEN = "multipay.end_token"  # noqa: S105  (a permission)
BUYER = "multipay.view_buyer_data"
PLAN = "multipay.manage_plan"
LINK = "multipay.add_payment_link"

_SHOWN = 1


def may(request: HttpRequest, permission: str) -> bool:
    """Say whether the person behind ``request`` has ``permission``."""
    user: AbstractBaseUser | AnonymousUser = request.user
    return bool(getattr(user, "has_perm", lambda name: False)(permission))


def page(
    site: AdminSite, view: Callable[..., HttpResponse]
) -> Callable[..., HttpResponse]:
    """Return ``view`` as a page of ``site``, outside of ATOMIC_REQUESTS.

    A step commits before it calls the provider, so no transaction may be open.
    """
    return transaction.non_atomic_requests(site.admin_view(view))


def masked(text: str) -> str:
    """Return a buyer's name, address or number so that it can be told apart only."""
    name, at, domain = text.partition("@")
    if not text:
        return ""
    return f"{name[:_SHOWN]}•••{at}{domain if at else ''}"
