"""What a buyer is told by e-mail: the text is ours, the sending is the shop's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string

from django_multipay import money
from django_multipay.flows.links import absolute_url
from django_multipay.models import Payment
from django_multipay.views.languages import speaking


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A plain-text e-mail in the buyer's language."""

    subject: str
    body: str


def deposit_letter(payment: Payment, request: HttpRequest | None = None) -> Letter:
    """Return where and until when to pay a deposit, for a payment that awaits one.

    `ProviderConfigurationError` without ``request`` and without ``SITE_URL``.
    """
    return _letter(
        "deposit",
        payment,
        outcome_url=absolute_url(payment.get_outcome_url(), request),
        details=payment.details,
    )


def link_letter(
    payment: Payment, request: HttpRequest | None = None, note: str = ""
) -> Letter:
    """Return an invitation to pay, with the address of the payment page.

    ``note`` is a word of the shop's staff. `ProviderConfigurationError` without
    ``request`` and without ``SITE_URL``.
    """
    return _letter(
        "link",
        payment,
        checkout_url=absolute_url(payment.get_checkout_url(), request),
        note=note,
    )


def _letter(name: str, payment: Payment, **context: Any) -> Letter:
    with speaking(payment.locale):
        values = {
            "payment": payment,
            "amount": money.display(payment.amount),
            **context,
        }
        subject, body = (
            render_to_string(f"multipay/emails/{name}_{part}.txt", values)
            for part in ("subject", "body")
        )
    # A line break would begin another header.
    return Letter(subject=" ".join(subject.split()), body=body.strip() + "\n")
