"""A backend of django-getpaid for the stub."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import requests
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views import View
from django_fsm import can_proceed
from getpaid.processor import BaseProcessor

from benchmarks.contestants.base import is_genuine

BASE_URL = ""
"""Where the stub is; the contestant says so."""

# Its own backends open a connection for each call; this one does not.
session = requests.Session()


class PaymentProcessor(BaseProcessor):
    """Redirects the buyer, believes signed messages at the payment's URL."""

    slug = "stub"
    display_name = "Stub"
    accepted_currencies = ("USD",)

    def prepare_transaction(
        self, request: HttpRequest, view: View | None = None, **options: Any
    ) -> HttpResponse:
        """Open the payment and send the buyer away."""
        answer = self._post("payments", self.payment.amount_required)
        self.payment.external_id = answer["id"]
        self.payment.confirm_prepared()
        self.payment.save()
        return HttpResponseRedirect(answer["url"])

    def handle_paywall_callback(
        self, request: HttpRequest, **options: Any
    ) -> HttpResponse:
        """Apply what a genuine message says, once."""
        if not is_genuine(request.body, request.headers.get("X-Signature", "")):
            return HttpResponse(status=401)
        said = json.loads(request.body)
        if (self.payment.amount_required * 100, self.payment.currency) != (
            said["amount_minor"],
            said["currency"],
        ):
            return HttpResponse(status=400)
        if can_proceed(self.payment.confirm_payment):
            self.payment.confirm_payment()
            if can_proceed(self.payment.mark_as_paid):
                self.payment.mark_as_paid()
            self.payment.save()
        return HttpResponse(status=200)

    def start_refund(self, amount: Any = None, **options: Any) -> Decimal:
        """Give money back."""
        self._post("refunds", amount)
        back: Decimal = amount
        return back

    def _post(self, path: str, amount: Decimal) -> dict[str, str]:
        answer = session.post(
            f"{BASE_URL}/{path}",
            json={
                "reference": str(self.payment.pk),
                "amount": str(amount),
                "currency": self.payment.currency,
            },
            timeout=(3, 10),
        )
        answer.raise_for_status()
        said: dict[str, str] = answer.json()
        return said
