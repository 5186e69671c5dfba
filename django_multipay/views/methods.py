"""The customer's page of saved methods: what is there, and away with it."""

from __future__ import annotations

import logging
import uuid

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from django_multipay.enums import TokenStatus
from django_multipay.exceptions import MultipayError
from django_multipay.flows import delete_token
from django_multipay.flows.customers import customer_of
from django_multipay.models import RecurringPlan, Token
from django_multipay.models.fields import exactly
from django_multipay.registry import registry
from django_multipay.states import ENDED_PLAN_STATUSES
from django_multipay.views.checkout import SeeOther, View, open_page

logger = logging.getLogger("django_multipay.views")


def _of_customer(view: View) -> View:
    """Make a page of one customer, for nobody else.

    Who they are is the shop's to say, so no middleware decides it before.
    """

    def for_customer(request: HttpRequest, **arguments: object) -> HttpResponse:
        customer_id = customer_of(request)
        if not customer_id:
            user = getattr(request, "user", None)
            if user is not None and user.is_authenticated:
                raise PermissionDenied
            return redirect_to_login(reverse("multipay:methods"))
        return view(request, customer_id, **arguments)

    return open_page(for_customer)


@require_safe
@_of_customer
def methods(request: HttpRequest, customer_id: str) -> HttpResponse:
    """Show what this customer saved, without anything that could be charged."""
    pays = RecurringPlan.objects.filter(token=OuterRef("pk")).exclude(
        status__in=ENDED_PLAN_STATUSES
    )
    tokens = (
        Token.objects.filter(exactly("customer_id", customer_id))
        .exclude(status=TokenStatus.DELETED)
        .defer("provider_token", "identity")
        .annotate(pays_for_plan=Exists(pays))
    )
    context = {
        "methods": [
            {
                "token": token,
                "name": token.brand or _name_of(token),
                "is_expired": token.expires_on is not None
                and token.expires_on < timezone.now().date(),
                "is_dead": token.status == TokenStatus.DEAD,
            }
            for token in tokens
        ],
        "is_deleted": "deleted" in request.GET,
    }
    return render(request, "multipay/methods.html", context)


@require_POST
@_of_customer
def method_delete(
    request: HttpRequest, customer_id: str, token_uuid: uuid.UUID
) -> HttpResponse:
    """Delete one method of this customer; a second click finds it done."""
    rows = Token.objects.defer("provider_token", "identity")
    own = rows.filter(exactly("customer_id", customer_id))
    token = get_object_or_404(own, uuid=token_uuid)
    try:
        delete_token(token, by=f"customer {customer_id}")
    except MultipayError as error:
        # Charged no more from now on; the provider is asked again by itself.
        logger.warning("token %s is not deleted there yet: %s", token.uuid, error)
    return SeeOther(f"{reverse('multipay:methods')}?deleted")


def _name_of(token: Token) -> str:
    """Return what the customer knows the provider as; its alias where it is gone."""
    if token.provider not in registry:
        return token.provider
    return registry[token.provider].display_name
