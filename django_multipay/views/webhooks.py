"""The provider's doors: raw bytes in, one short answer out.

Who is not known gets 404; what will not be read 400, 413 or 415; while the database
is away it is 503 with Retry-After. All else is answered as the provider wants it.

They need no session, set no cookie, take no part in ATOMIC_REQUESTS and never answer
500 because of what was sent.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from django_multipay.enums import Purpose, Source
from django_multipay.flows.links import read_link
from django_multipay.flows.webhooks import (
    Reception,
    carries_message,
    receive_webhook,
    take_webhook,
)
from django_multipay.messages import IncomingRequest
from django_multipay.models import Payment
from django_multipay.registry import registry
from django_multipay.views.outages import told_to_retry

logger = logging.getLogger("django_multipay.webhooks")

MAX_BODY = 256 * 1024

View = Callable[..., HttpResponse]


NEVER_KEPT = "max-age=0, no-cache, no-store, must-revalidate, private"
"""What Django's ``never_cache`` says, which takes as long as to check a signature."""


def _door(view: View) -> View:
    """Decorate a callback view; what is wrong on our side is the sender's to retry."""
    answered = require_http_methods(["GET", "POST"])(told_to_retry(view))

    @functools.wraps(view)
    def door(request: HttpRequest, /, **kwargs: str) -> HttpResponse:
        response: HttpResponse = answered(request, **kwargs)
        response.headers["Cache-Control"] = NEVER_KEPT
        return response

    for decorate in (
        csrf_exempt,
        login_not_required,
        transaction.non_atomic_requests,
    ):
        door = decorate(door)
    return door


def _incoming(request: HttpRequest) -> IncomingRequest | HttpResponse:
    """Return the message as it was sent, or the refusal of one we will not read."""
    sent = request.META
    if sent.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        return HttpResponse(status=415)
    declared = sent.get("CONTENT_LENGTH") or "0"
    if not (declared.isascii() and declared.isdigit()):
        return HttpResponse(status=400)
    if len(declared) > 9 or int(declared) > MAX_BODY:
        return HttpResponse(status=413)
    try:
        body = request.read(MAX_BODY + 1)
    except (RawPostDataException, UnreadablePostError):
        return HttpResponse(status=400)
    if len(body) > MAX_BODY:
        return HttpResponse(status=413)
    query = sent.get("QUERY_STRING", "")
    return IncomingRequest(
        method=request.method or "",
        body=body,
        query_string=query if len(query) <= MAX_BODY else "",
        content_type=sent.get("CONTENT_TYPE", ""),
        headers=_headers(sent),
        remote_address=sent.get("REMOTE_ADDR", ""),
    )


_OTHER_HEADERS = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


def _headers(sent: Mapping[str, str]) -> dict[str, str]:
    """Return the headers by their names in lower case.

    But for the buyer's session, which is none of a provider's business.
    """
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in sent.items()
        if name.startswith("HTTP_") and name != "HTTP_COOKIE"
    }
    return headers | {
        header: sent[name] for name, header in _OTHER_HEADERS.items() if name in sent
    }


def _payment_of(signed: str, purpose: Purpose) -> Payment:
    """Return the payment that a signed link names; 404 for anything else."""
    payment_uuid = read_link(signed, purpose)
    if payment_uuid is None:
        raise Http404
    payment = get_object_or_404(Payment, uuid=payment_uuid)
    if payment.provider not in registry:
        raise Http404
    return payment


class Acknowledgment(HttpResponse):
    """Our answer to a message; the shop hears of it once it is sent.

    So that receivers that take their time do not make the provider send it again.
    """

    def __init__(self, reception: Reception) -> None:
        answer = reception.answer
        super().__init__(
            answer.body, status=answer.status, content_type=answer.content_type
        )
        self._tell: Callable[[], object] | None = reception.tell

    def close(self) -> None:
        """Tell the shop, once; the server calls this when the answer is out."""
        tell, self._tell = self._tell, None
        try:
            if tell is not None:
                tell()
        except Exception:
            # It is in the outbox, for `reconcile`.
            logger.exception("the shop was not told")
        super().close()


def _answer(
    request: HttpRequest, alias: str, payment: Payment | None = None, door: str = ""
) -> HttpResponse:
    incoming = _incoming(request)
    if isinstance(incoming, HttpResponse):
        return incoming
    return Acknowledgment(take_webhook(alias, incoming, payment=payment, door=door))


@_door
def status(request: HttpRequest, signed: str) -> HttpResponse:
    """Take a provider's message about the one payment its signed URL was made for."""
    payment = _payment_of(signed, Purpose.STATUS)
    return _answer(request, payment.provider, payment)


@_door
def plan_notice(request: HttpRequest, signed: str) -> HttpResponse:
    """Take a provider's message about a charge of the plan this payment registered."""
    payment = _payment_of(signed, Purpose.PLAN)
    return _answer(request, payment.provider, door=f"plan {payment.uuid}")


@_door
def webhook(request: HttpRequest, alias: str) -> HttpResponse:
    """Take a provider's message about anything of the account ``alias``."""
    if alias not in registry:
        raise Http404
    return _answer(request, alias)


@_door
def buyer_return(request: HttpRequest, signed: str) -> HttpResponse:
    """Take the buyer back, with whatever the provider gave them to carry.

    The answer is always 303 to the outcome page, because a cross-site POST brings no
    cookies and must set none. What the buyer carries is checked like any webhook.
    """
    payment = _payment_of(signed, Purpose.RETURN)
    incoming = _incoming(request)
    if isinstance(incoming, IncomingRequest) and carries_message(payment, incoming):
        receive_webhook(
            payment.provider,
            dataclasses.replace(incoming, is_by_buyer=True),
            payment=payment,
            source=Source.RETURN,
        )
    return HttpResponse(
        status=303,
        headers={
            "Location": payment.get_outcome_url(),
            # Django's default would cut a pop-up off from the page that opened it.
            "Cross-Origin-Opener-Policy": "unsafe-none",
        },
    )
