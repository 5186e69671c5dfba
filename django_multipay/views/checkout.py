"""The buyer's pages: choose and start, then learn the truth."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_deny
from django.views.decorators.http import require_GET, require_http_methods

from django_multipay import money, states
from django_multipay.enums import PaymentStatus
from django_multipay.exceptions import InvalidOperation, MultipayError
from django_multipay.flows.checkout import providers_for, start_payment
from django_multipay.flows.sync import sync_if_due
from django_multipay.messages import (
    NextAction,
    PostForm,
    ProviderScript,
    QRCode,
    Redirect,
    dump_action,
)
from django_multipay.models import Payment
from django_multipay.registry import registry

logger = logging.getLogger("django_multipay.views")

View = Callable[..., HttpResponse]


class SeeOther(HttpResponseRedirect):
    """303: whatever the request was, the next one is a GET."""

    status_code = 303


def _page(view: View) -> View:
    """Decorate one of the buyer's pages: fresh, never framed, open to guests.

    Outside ATOMIC_REQUESTS, because starting a payment commits before it calls.
    """
    for decorate in (
        never_cache,
        xframe_options_deny,
        login_not_required,
        transaction.non_atomic_requests,
    ):
        view = decorate(view)
    return view


@_page
@require_http_methods(["GET", "HEAD", "POST"])
def checkout(request: HttpRequest, payment_uuid: uuid.UUID) -> HttpResponse:
    """GET shows what will be paid and where; POST opens the payment there."""
    payment = get_object_or_404(Payment, uuid=payment_uuid)
    action = payment.action
    is_open = payment.status in {PaymentStatus.CREATED, PaymentStatus.PENDING}
    if not is_open or (payment.started_at and action is None):
        return HttpResponseRedirect(payment.get_outcome_url())
    if request.method == "POST":
        return _start(request, payment)
    if action is not None:
        return _next_step(request, payment, action)
    return _choice(request, payment)


def _start(request: HttpRequest, payment: Payment) -> HttpResponse:
    """Open the payment; the buyer comes back by GET, so no page asks to post again."""
    provider = request.POST.get("provider", "")
    if provider and provider not in registry:
        return _choice(request, payment, problem="invalid", status=409)
    try:
        action = start_payment(payment, request, provider=provider)
    except InvalidOperation as error:
        logger.warning("payment %s cannot start: %s", payment.uuid, error)
        return _choice(request, payment, problem="invalid", status=409)
    except MultipayError as error:
        logger.warning("payment %s did not start: %s", payment.uuid, error)
        return _choice(request, payment, problem="unavailable", status=503)
    if action is None and payment.status == PaymentStatus.CREATED:
        return _choice(request, payment, problem="starting", status=202)
    location = (
        action.url if isinstance(action, Redirect) else payment.get_checkout_url()
    )
    return SeeOther(location)


def _choice(
    request: HttpRequest, payment: Payment, problem: str = "", status: int = 200
) -> HttpResponse:
    is_over = payment.expires_at is not None and payment.expires_at <= timezone.now()
    context = {
        **_summary(payment),
        "providers": [] if is_over else providers_for(payment),
        "problem": problem,
        "back_url": _own_url(request, payment.failure_url),
    }
    return render(request, "multipay/checkout.html", context, status=status)


def _next_step(
    request: HttpRequest, payment: Payment, action: NextAction
) -> HttpResponse:
    """Return the page for ``action``; a plain redirect needs none."""
    if isinstance(action, Redirect):
        return SeeOther(action.url)
    context = {
        **_summary(payment),
        "action": action,
        "action_data": dump_action(action),
        # A list, because a field may be called "items".
        "fields": list(action.fields.items()) if isinstance(action, PostForm) else [],
        "provider_name": _provider_name(payment),
        "back_url": _own_url(request, payment.failure_url),
    }
    response = render(request, _template(action), context)
    # The provider's pop-up must keep its opener, or it cannot be closed by itself.
    response["Cross-Origin-Opener-Policy"] = "same-origin-allow-popups"
    return response


def _template(action: PostForm | ProviderScript | QRCode) -> str:
    match action:
        case PostForm():
            return "multipay/next_action/post_form.html"
        case ProviderScript():
            return "multipay/next_action/provider_script.html"
        case QRCode():
            return "multipay/next_action/qr_code.html"


@_page
@require_GET
def outcome(request: HttpRequest, payment_uuid: uuid.UUID) -> HttpResponse:
    """Tell how the payment went, from the ledger; wait where it is still open."""
    payment = get_object_or_404(Payment, uuid=payment_uuid)
    _refresh(payment)
    context = {
        **_summary(payment),
        "phase": _phase(payment),
        "next_url": _next_url(request, payment),
    }
    response = render(request, "multipay/outcome.html", context)
    response["Cross-Origin-Opener-Policy"] = "unsafe-none"
    return response


@_page
@require_GET
def state(request: HttpRequest, payment_uuid: uuid.UUID) -> JsonResponse:
    """Say where the payment stands, for the waiting page: no personal data."""
    payment = get_object_or_404(Payment, uuid=payment_uuid)
    _refresh(payment)
    return JsonResponse(
        {
            "status": payment.status,
            "label": payment.get_status_display(),
            "phase": _phase(payment),
            "is_waiting": _phase(payment) == "waiting",
            "outcome_url": payment.get_outcome_url(),
            "next_url": _next_url(request, payment),
        }
    )


def _refresh(payment: Payment) -> None:
    """Ask the provider if an inquiry is due; a buyer's page never fails for it."""
    is_due = payment.sync_at is not None and payment.sync_at <= timezone.now()
    # A look at the row at hand: reloading a page should cost no write.
    if not is_due or payment.status not in states.WAITING_STATUSES:
        return
    try:
        sync_if_due(payment)
    except MultipayError as error:
        logger.info("payment %s could not be asked: %s", payment.uuid, error)


_PHASES = {
    PaymentStatus.CREATED: "open",
    PaymentStatus.PENDING: "waiting",
    PaymentStatus.AWAITING_FUNDS: "deposit",
    PaymentStatus.IN_REVIEW: "review",
    PaymentStatus.AUTHENTICATED: "waiting",
    PaymentStatus.AUTHORIZED: "paid",
    PaymentStatus.PAID: "paid",
    PaymentStatus.PARTIALLY_REFUNDED: "refunded",
    PaymentStatus.REFUNDED: "refunded",
    PaymentStatus.FAILED: "failed",
    PaymentStatus.CANCELED: "canceled",
    PaymentStatus.EXPIRED: "expired",
}
"""What a status means to a buyer; an authorization is as good as paid to them."""


def _phase(payment: Payment) -> str:
    return _PHASES[PaymentStatus(payment.status)]


def _next_url(request: HttpRequest, payment: Payment) -> str:
    """Return where the shop wants the buyer next; only on this very host."""
    status = PaymentStatus(payment.status)
    is_over = status in states.UNSUCCESSFUL_STATUSES
    url = payment.failure_url if is_over else payment.success_url
    return _own_url(request, url)


def _own_url(request: HttpRequest, url: str) -> str:
    """Return ``url`` if it is on this very host, else nothing."""
    is_safe = url_has_allowed_host_and_scheme(
        url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return url if is_safe else ""


def _provider_name(payment: Payment) -> str:
    """Return what the buyer knows the provider as; its alias where it is gone."""
    if payment.provider not in registry:
        return payment.provider
    return registry[payment.provider].display_name


def _summary(payment: Payment) -> dict[str, Any]:
    return {
        "payment": payment,
        "amount": money.display(payment.amount),
        "refunded": money.display(payment.refunded),
        "items": [
            {
                **item,
                "total": money.display(
                    money.from_minor(
                        item["unit_minor"] * item["quantity"], payment.currency
                    )
                ),
            }
            for item in payment.items
        ],
    }
