"""A provider class of django-payments for the stub."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NoReturn

import requests
from django.http import HttpRequest, HttpResponse
from payments import PaymentError, PaymentStatus, RedirectNeeded
from payments.core import BasicProvider

from benchmarks.contestants.base import is_genuine

BASE_URL = ""
"""Where the stub is; the contestant says so."""


class StubProvider(BasicProvider):
    """Redirects the buyer, believes signed messages at the static URL."""

    def __init__(self, secret: str, **options: Any) -> None:
        super().__init__(**options)
        self.secret = secret
        # Its own providers open a connection for each call; this one does not.
        self.session = requests.Session()

    def get_form(self, payment: Any, data: Any = None) -> NoReturn:
        """Open the payment and send the buyer away."""
        answer = self._post("payments", payment.token, payment.total)
        payment.transaction_id = answer["id"]
        payment.save(update_fields=["transaction_id", "modified"])
        payment.change_status(PaymentStatus.INPUT)
        raise RedirectNeeded(answer["url"])

    def get_token_from_request(self, payment: Any, request: HttpRequest) -> str:
        """Return the payment's token if the message is genuine."""
        if not is_genuine(request.body, request.headers.get("X-Signature", "")):
            raise PaymentError("not genuine", code=401)
        token: str = json.loads(request.body)["reference"]
        return token

    def process_data(self, payment: Any, request: HttpRequest) -> HttpResponse:
        """Apply what the message says, once."""
        said = json.loads(request.body)
        if (payment.total * 100, payment.currency) != (
            said["amount_minor"],
            said["currency"],
        ):
            return HttpResponse(status=400)
        if payment.status != PaymentStatus.CONFIRMED:
            payment.captured_amount = payment.total
            payment.save(update_fields=["captured_amount", "modified"])
            payment.change_status(PaymentStatus.CONFIRMED)
        return HttpResponse(status=200)

    def refund(self, payment: Any, amount: Decimal | None = None) -> Decimal:
        """Give money back."""
        amount = payment.captured_amount if amount is None else amount
        self._post("refunds", payment.token, amount)
        return amount

    def _post(self, path: str, reference: str, amount: Decimal) -> dict[str, str]:
        answer = self.session.post(
            f"{BASE_URL}/{path}",
            json={"reference": reference, "amount": str(amount), "currency": "USD"},
            timeout=(3, 10),
        )
        answer.raise_for_status()
        said: dict[str, str] = answer.json()
        return said
