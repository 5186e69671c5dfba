"""``{% load multipay %}``: buttons and a status line for a shop's own pages."""

from __future__ import annotations

import re
from typing import Any

import segno
from django import template
from django.template import Context
from django.utils.html import format_html

from django_multipay import money
from django_multipay.enums import PaymentStatus
from django_multipay.flows.checkout import ways_for
from django_multipay.models import Payment

register = template.Library()

_PICTURE = re.compile(
    r"https?://\S+|data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]+"
)
_LINK = re.compile(r"(?!javascript:|data:|vbscript:)[a-z][a-z0-9+.-]*:\S+", re.I)


@register.filter
def qr_svg(data: str) -> str:
    """Draw ``data`` as a QR code, with the quiet zone that scanners need.

    Nothing is drawn of what no code can hold.
    """
    try:
        code = segno.make(data, micro=False)
    except segno.DataOverflowError:
        return ""
    rows = list(code.matrix_iter(border=2))
    squares = "".join(
        f"M{x} {y}h1v1h-1z"
        for y, row in enumerate(rows)
        for x, is_dark in enumerate(row)
        if is_dark
    )
    return format_html(
        '<svg viewBox="0 0 {0} {0}" shape-rendering="crispEdges">'
        '<path fill="#000" d="{1}"/></svg>',
        len(rows),
        squares,
    )


@register.filter
def safe_link(url: object) -> str:
    """Return a provider's ``url``, of the web or of an app, unless it is a script."""
    return url if isinstance(url, str) and _LINK.fullmatch(url) else ""


@register.filter
def safe_image(source: object) -> str:
    """Return the address of a provider's picture, or the picture itself as a data URL.

    A picture that is shown as one cannot run scripts, not even an SVG.
    """
    is_picture = isinstance(source, str) and _PICTURE.fullmatch(source)
    return str(source) if is_picture else ""


@register.simple_tag(takes_context=True)
def multipay_nonce(context: Context) -> str:
    """Return the attribute that lets a script or a sheet pass the page's policy.

    The nonce is Django's own (6.0 and newer) or django-csp's; without one there is
    nothing to write, and the policy names ``'self'``.
    """
    request = getattr(context, "request", None)
    for nonce in (
        context.get("csp_nonce"),
        # Where Django's middleware leaves it for ``django.middleware.csp.get_nonce``.
        getattr(request, "_csp_nonce", None),
        getattr(request, "csp_nonce", None),
    ):
        # Both are lazy, and Django's is false until it is written.
        if nonce is not None:
            return format_html(' nonce="{}"', str(nonce))
    return ""


@register.inclusion_tag("multipay/tags/pay_button.html")
def pay_button(payment: Payment) -> dict[str, Any]:
    """Show one button that opens the payment page (or nothing once it is over)."""
    return {
        "payment": payment,
        "amount": money.display(payment.amount),
        "is_open": payment.status in {PaymentStatus.CREATED, PaymentStatus.PENDING},
    }


@register.inclusion_tag("multipay/tags/pay_buttons.html", takes_context=True)
def pay_buttons(context: dict[str, Any], payment: Payment) -> dict[str, Any]:
    """Show one button for each way in which the payment can be made.

    Each is a small POST form, so the page needs a CSRF token from its request.
    """
    is_open = payment.status == PaymentStatus.CREATED
    return {
        "payment": payment,
        "amount": money.display(payment.amount),
        "csrf_token": context.get("csrf_token"),
        "ways": ways_for(payment) if is_open else [],
    }


@register.inclusion_tag("multipay/tags/payment_status.html")
def payment_status(payment: Payment) -> dict[str, Any]:
    """Show where the payment stands, in the buyer's language."""
    return {"payment": payment, "amount": money.display(payment.amount)}
