"""The buyer's pages: choose and start, then learn the truth."""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_deny
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
)

from django_multipay import money, states
from django_multipay.enums import DECLINE_ADVICE, Capability, DeclineCode, PaymentStatus
from django_multipay.exceptions import (
    InvalidOperation,
    InvalidTransition,
    MultipayError,
    ProviderConfigurationError,
)
from django_multipay.flows.checkout import (
    Way,
    check_retryable,
    latest_attempt,
    paid_attempt,
    refresh_action,
    retry_payment,
    start_payment,
    ways_for,
)
from django_multipay.flows.customers import customer_of, may_pay_with
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
from django_multipay.providers.base import Provider
from django_multipay.registry import registry
from django_multipay.views.languages import speaking
from django_multipay.views.letters import deposit_letter
from django_multipay.views.outages import told_to_retry

logger = logging.getLogger("django_multipay.views")

View = Callable[..., HttpResponse]

_MAX_MAIL_LINK = 1900
"""What every mail program takes of a ``mailto:`` address."""


class SeeOther(HttpResponseRedirect):
    """303: whatever the request was, the next one is a GET."""

    status_code = 303


def open_page(view: View) -> View:
    """Return ``view`` as a page: fresh, never framed, open to guests, not atomic.

    Whatever ATOMIC_REQUESTS says, because what a page asks for is committed before a
    provider is called.
    """
    for decorate in (
        never_cache,
        xframe_options_deny,
        login_not_required,
        transaction.non_atomic_requests,
    ):
        view = decorate(view)
    return view


def _page(view: Callable[[HttpRequest, Payment], HttpResponse]) -> View:
    """Make one of the buyer's pages, in the language of the payment."""

    @functools.wraps(view)
    def of_payment(request: HttpRequest, payment_uuid: uuid.UUID) -> HttpResponse:
        payment = get_object_or_404(Payment, uuid=payment_uuid)
        with speaking(payment.locale):
            response = view(request, payment)
            response.headers.setdefault("Content-Language", get_language() or "en")
        return response

    return open_page(told_to_retry(of_payment))


# Choosing and starting ---------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@_page
def checkout(request: HttpRequest, payment: Payment) -> HttpResponse:
    """GET shows what will be paid and how; POST opens the payment there.

    Who asks for JSON is told the same in JSON.
    """
    if isinstance(payment.action, QRCode):
        _refresh(payment)
    if payment.status == PaymentStatus.CREATED and (paid := paid_attempt(payment)):
        return HttpResponseRedirect(paid.get_outcome_url())
    action = payment.action
    is_open = payment.status in {PaymentStatus.CREATED, PaymentStatus.PENDING}
    if not is_open or (payment.started_at and action is None):
        return HttpResponseRedirect(payment.get_outcome_url())
    if request.method == "POST":
        return _start(request, payment)
    if action is not None:
        return _next_step(request, payment, action)
    return _choice(request, payment)


@require_http_methods(["GET", "HEAD", "POST"])
@_page
def retry(request: HttpRequest, payment: Payment) -> HttpResponse:
    """GET says why a payment did not go through and how else; POST tries again."""
    latest = latest_attempt(payment)
    if latest.pk != payment.pk:
        return SeeOther(latest.get_checkout_url())
    try:
        if request.method == "POST":
            return _start(request, retry_payment(payment))
        check_retryable(payment)
    except InvalidTransition as error:
        logger.info("payment %s is not tried again: %s", payment.uuid, error)
        return SeeOther(payment.get_outcome_url())
    return _choice(request, payment)


@require_POST
@_page
def refresh(request: HttpRequest, payment: Payment) -> HttpResponse:
    """Show a fresh code to scan; the buyer comes back by GET."""
    try:
        refresh_action(payment)
    except MultipayError as error:
        logger.warning("payment %s has no fresh code: %s", payment.uuid, error)
        if payment.action is not None:
            return _next_step(request, payment, payment.action, problem="refresh")
    return SeeOther(payment.get_checkout_url())


def _start(request: HttpRequest, payment: Payment) -> HttpResponse:
    """Open the payment; the buyer comes back by GET, so no page asks to post again."""
    if payment.action is not None:
        return _started(request, payment, payment.action)
    way = _chosen(request, payment)
    if way is None:
        return _choice(request, payment, problem="invalid", status=409)
    try:
        action = start_payment(
            payment,
            request,
            provider=way.provider.alias,
            method=way.method.code,
            token=way.token,
        )
    except InvalidOperation as error:
        logger.warning("payment %s cannot start: %s", payment.uuid, error)
        return _choice(request, payment, problem="invalid", status=409)
    except MultipayError as error:
        logger.warning("payment %s did not start: %s", payment.uuid, error)
        return _choice(request, payment, problem="unavailable", status=503, failed=way)
    if action is None and payment.status == PaymentStatus.CREATED:
        return _choice(request, payment, problem="starting", status=202)
    return _started(request, payment, action)


def _started(
    request: HttpRequest, payment: Payment, action: NextAction | None
) -> HttpResponse:
    if _wants_json(request):
        return JsonResponse(_as_json(request, payment, []))
    return SeeOther(
        action.url if isinstance(action, Redirect) else payment.get_checkout_url()
    )


def _chosen(request: HttpRequest, payment: Payment) -> Way | None:
    """Return the way that was pressed, if it is on offer."""
    alias = request.POST.get("provider") or payment.provider
    method, token = request.POST.get("method"), request.POST.get("token", "")
    fitting = [
        way
        for way in _ways(request, payment)
        if way.provider.alias == alias
        and method in {None, way.method.code}
        and token in _tokens(payment, way)
    ]
    return fitting[0] if fitting and (method is not None or len(fitting) == 1) else None


def _tokens(payment: Payment, way: Way) -> set[str]:
    """Return what a button of ``way`` may send as its saved method."""
    if way.token is None:
        return {""}
    # With a saved method of its own a payment has no other way; nothing need be said.
    return {str(way.token.uuid), *([""] if payment.token else [])}


def _ways(request: HttpRequest, payment: Payment) -> list[Way]:
    is_over = payment.expires_at is not None and payment.expires_at <= timezone.now()
    is_new = payment.status == PaymentStatus.CREATED
    if _is_anothers(request, payment):
        return []
    # Who stands before us matters only where somebody may have saved something.
    customer_id = customer_of(request) if payment.customer_id else ""
    return [] if is_over and is_new else ways_for(payment, customer_id)


def _is_anothers(request: HttpRequest, payment: Payment) -> bool:
    """Say whether ``payment`` is to be paid with what somebody else saved."""
    is_new = payment.status == PaymentStatus.CREATED
    return (
        is_new
        and payment.token is not None
        and not may_pay_with(request, payment.token)
    )


def _choice(
    request: HttpRequest,
    payment: Payment,
    problem: str = "",
    status: int = 200,
    failed: Way | None = None,
) -> HttpResponse:
    """Return the payment page; of a payment that failed, for another attempt."""
    ways = _ways(request, payment)
    is_retry = payment.status in states.UNSUCCESSFUL_STATUSES
    before = payment if is_retry else payment.retry_of
    if _wants_json(request):
        answer = {**_as_json(request, payment, ways), "problem": problem}
        return JsonResponse(answer, status=status)
    context = {
        **_summary(payment),
        "ways": ways,
        "problem": problem,
        "failed": failed,
        "before": before,
        "why": _why(before) if before else [],
        "is_straight": len(ways) == 1 and not (problem or is_retry),
        "form_url": _retry_url(payment) if is_retry else payment.get_checkout_url(),
        "is_anothers": _is_anothers(request, payment),
        "is_over": not ways and payment.pay_until and not is_retry,
        "back_url": _own_url(request, payment.failure_url),
    }
    return render(request, "multipay/checkout.html", context, status=status)


def _why(payment: Payment) -> list[str]:
    """Return why ``payment`` did not go through, and what its buyer can do."""
    if not payment.decline_code:
        return []
    code = DeclineCode(payment.decline_code)
    # The page says already that it was declined.
    reason = [] if code == DeclineCode.GENERIC else [str(code.label)]
    return [*reason, str(DECLINE_ADVICE[code])]


# What comes next ---------------------------------------------------------------------


def _next_step(
    request: HttpRequest, payment: Payment, action: NextAction, problem: str = ""
) -> HttpResponse:
    """Return the page for ``action``; a plain redirect needs none."""
    if _wants_json(request):
        return JsonResponse(_as_json(request, payment, []))
    if isinstance(action, Redirect):
        return SeeOther(action.url)
    provider = _provider(payment)
    context = {
        **_summary(payment),
        "action": action,
        "action_data": dump_action(action),
        # A list, because a field may be called "items".
        "fields": list(action.fields.items()) if isinstance(action, PostForm) else [],
        # What the buyer knows it as; its alias where it is gone.
        "provider_name": provider.display_name if provider else payment.provider,
        "can_refresh": provider is not None
        and Capability.REFRESH_ACTION in provider.capabilities,
        "problem": problem,
        "back_url": _own_url(request, payment.failure_url),
    }
    response = render(
        request, _template(action), context, status=503 if problem else 200
    )
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


# How it went -------------------------------------------------------------------------


@require_GET
@_page
def outcome(request: HttpRequest, payment: Payment) -> HttpResponse:
    """Tell how the payment went, from the ledger; wait where it is still open."""
    _refresh(payment)
    phase = _phase(payment)
    context = {
        **_summary(payment),
        "phase": phase,
        "why": _why(payment) if phase == "failed" else [],
        "next_url": _next_url(request, payment),
        "mail_link": _mail_link(request, payment) if phase == "deposit" else "",
        **(_another_attempt(payment) if phase in _ENDED else {}),
    }
    response = render(request, "multipay/outcome.html", context)
    response["Cross-Origin-Opener-Policy"] = "unsafe-none"
    return response


@require_GET
@_page
def state(request: HttpRequest, payment: Payment) -> HttpResponse:
    """Say where the payment stands, for the waiting page: no personal data."""
    _refresh(payment)
    return JsonResponse(_state(request, payment))


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

_ENDED = frozenset({"failed", "canceled", "expired"})


def _phase(payment: Payment) -> str:
    return _PHASES[PaymentStatus(payment.status)]


def _another_attempt(payment: Payment) -> dict[str, str]:
    """Return where the buyer of a payment that did not go through goes on."""
    if paid := paid_attempt(payment):
        return {"paid_url": paid.get_outcome_url()}
    latest = latest_attempt(payment)
    if latest.pk != payment.pk:
        return {"retry_url": latest.get_checkout_url()}
    try:
        check_retryable(payment)
    except InvalidTransition:
        return {}
    return {"retry_url": _retry_url(payment)}


def _retry_url(payment: Payment) -> str:
    return reverse("multipay:retry", args=[payment.uuid])


def _mail_link(request: HttpRequest, payment: Payment) -> str:
    """Return a link with which buyers send the instructions to themselves."""
    letter = deposit_letter(payment, request)
    link = f"mailto:?subject={quote(letter.subject)}&body={quote(letter.body)}"
    return link if len(link) <= _MAX_MAIL_LINK else ""


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


def _provider(payment: Payment) -> Provider | None:
    try:
        return registry[payment.provider]
    except ProviderConfigurationError:
        return None


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


# The same in JSON ----------------------------------------------------------------------


def _wants_json(request: HttpRequest) -> bool:
    wanted = request.get_preferred_type(["text/html", "application/json"])
    return wanted == "application/json"


def _state(request: HttpRequest, payment: Payment) -> dict[str, Any]:
    return {
        "status": payment.status,
        "label": payment.get_status_display(),
        "phase": _phase(payment),
        "is_waiting": _phase(payment) == "waiting",
        "outcome_url": payment.get_outcome_url(),
        "next_url": _next_url(request, payment),
    }


def _as_json(
    request: HttpRequest, payment: Payment, ways: Iterable[Way]
) -> Mapping[str, Any]:
    """Return what a shop needs to draw the payment page by itself."""
    action = payment.action
    return {
        **_state(request, payment),
        "amount": f"{payment.amount.amount:f}",
        "currency": payment.currency,
        "shown_amount": money.display(payment.amount),
        "ways": [
            {
                "provider": way.provider.alias,
                "provider_name": way.provider.display_name,
                "method": way.method.code,
                "kind": way.method.kind.value,
                "name": way.name,
                "token": str(way.token.uuid) if way.token else "",
            }
            for way in ways
        ],
        "action": dump_action(action) if action else None,
    }
