"""``{% load multipay %}``: buttons and a status line for a shop's own pages."""

from __future__ import annotations

import re
from typing import Any

import segno
from django import template
from django.utils.html import format_html

from django_multipay import money
from django_multipay.enums import PaymentStatus
from django_multipay.flows.checkout import providers_for
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
    """Show one button for each provider that can take the payment.

    Each is a small POST form, so the page needs a CSRF token from its request.
    """
    return {
        "payment": payment,
        "amount": money.display(payment.amount),
        "csrf_token": context.get("csrf_token"),
        "providers": providers_for(payment)
        if payment.status == PaymentStatus.CREATED
        else [],
    }


@register.inclusion_tag("multipay/tags/payment_status.html")
def payment_status(payment: Payment) -> dict[str, Any]:
    """Show where the payment stands, in the buyer's language."""
    return {"payment": payment, "amount": money.display(payment.amount)}
