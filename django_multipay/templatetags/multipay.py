"""``{% load multipay %}``: buttons and a status line for a shop's own pages."""

from __future__ import annotations

from typing import Any

from django import template

from django_multipay import money
from django_multipay.enums import PaymentStatus
from django_multipay.flows.checkout import providers_for
from django_multipay.models import Payment

register = template.Library()


@register.inclusion_tag("multipay/tags/pay_button.html", takes_context=True)
def pay_button(context: dict[str, Any], payment: Payment) -> dict[str, Any]:
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
