"""Who stands before us: the one question by which a page shows what is whose."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.module_loading import import_string

from django_multipay.conf import conf
from django_multipay.exceptions import InvalidOperation
from django_multipay.models import Token


def customer_of(request: HttpRequest) -> str:
    """Return the shop's id of who sent ``request``; "" for nobody in particular.

    As ``MULTIPAY["CUSTOMER_ID"]`` says; without it the key of the user who is logged
    in. What belongs to a customer is compared with it, and "" owns nothing.
    """
    hook = conf.customer_id
    if hook is None:
        user = getattr(request, "user", None)
        return str(user.pk) if user is not None and user.is_authenticated else ""
    find = import_string(hook) if isinstance(hook, str) else hook
    customer = find(request)
    if not isinstance(customer, str):
        raise InvalidOperation(
            f"MULTIPAY['CUSTOMER_ID'] returned a {type(customer).__name__}; return a "
            "text, and '' for nobody",
            "customer_id",
        )
    return customer


def may_pay_with(request: HttpRequest, token: Token) -> bool:
    """Say whether who sent ``request`` may see ``token``, and pay with it.

    Only its customer may. Without ``MULTIPAY["CUSTOMER_ID"]`` we do not know how the
    shop calls its customers: then whoever was given the link of the payment.
    """
    return conf.customer_id is None or customer_of(request) == token.customer_id
