"""Who calls, and what may they do: buyers by a client secret, staff by permissions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.settings import api_settings

from django_multipay.api.clients import SCHEME, payment_named_by
from django_multipay.enums import OperationKind

STEPS: Mapping[OperationKind, str] = {
    OperationKind.REFUND: "multipay.refund_payment",
    OperationKind.CAPTURE: "multipay.capture_payment",
    OperationKind.CONFIRM: "multipay.capture_payment",
    OperationKind.SETTLE: "multipay.capture_payment",
    OperationKind.VOID: "multipay.void_payment",
}
"""What each call on money needs; a test holds it to what the admin asks for."""

BUYER_DATA = "multipay.view_buyer_data"


@dataclass(frozen=True, slots=True)
class BuyerOf:
    """Whoever holds the client secret of one payment, and may touch no other."""

    payment_uuid: uuid.UUID


class ClientSecretAuthentication(BaseAuthentication):
    """``Authorization: Multipay-Client <secret>``; nobody is logged in by it."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, BuyerOf] | None:
        """Return the buyer; None: another scheme; `AuthenticationFailed` if forged."""
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != SCHEME.lower().encode():
            return None
        payment_uuid = payment_named_by(secret.decode("ascii", "replace"))
        if payment_uuid is None:
            raise AuthenticationFailed
        return AnonymousUser(), BuyerOf(payment_uuid)

    def authenticate_header(self, request: Request) -> str:
        """Return the scheme, so that nobody is answered 401 and not 403."""
        return SCHEME


def authenticators() -> list[BaseAuthentication]:
    """Return ours, then the site's of ``REST_FRAMEWORK``, else the session's.

    REST framework's own default would also take passwords in every request.
    """
    named = "DEFAULT_AUTHENTICATION_CLASSES" in api_settings.user_settings
    classes: Any = (
        api_settings.DEFAULT_AUTHENTICATION_CLASSES
        if named
        else [SessionAuthentication]
    )
    return [ClientSecretAuthentication(), *(kind() for kind in classes)]


def buyer_of(request: Request) -> BuyerOf | None:
    """Return the buyer who calls, or None if it is somebody else."""
    return request.auth if isinstance(request.auth, BuyerOf) else None


def may(request: Request, permission: str) -> bool:
    """Say whether a member of staff calls who has ``permission``, as in the admin."""
    user: Any = request.user
    is_staff = bool(user and user.is_active and getattr(user, "is_staff", False))
    return is_staff and bool(user.has_perm(permission))


def caller_of(request: Request) -> str:
    """Return who calls, for throttles and idempotency keys; "" for nobody."""
    if buyer := buyer_of(request):
        return f"buyer:{buyer.payment_uuid.hex}"
    user: Any = request.user
    return f"user:{user.pk}" if user and user.is_authenticated else ""
