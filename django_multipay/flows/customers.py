"""Who stands before us: the one question by which a page shows what is whose."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.module_loading import import_string

from django_multipay.conf import conf
from django_multipay.exceptions import InvalidOperation


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
