"""What every contestant is asked to do."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import resolve

from benchmarks.settings import SECRET

AMOUNT_MINOR = 2630
CURRENCY = "USD"
ORDER_ID = "1001"


@dataclass(frozen=True)
class Message:
    """A webhook as it arrives."""

    path: str
    body: bytes
    headers: Mapping[str, str]


def sign(body: bytes) -> str:
    """Return what proves that the stub wrote ``body``."""
    return hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def is_genuine(body: bytes, signature: str) -> bool:
    """Say whether ``signature`` proves that the stub wrote ``body``."""
    return hmac.compare_digest(signature.encode(), sign(body).encode())


class Contestant:
    """One way to take payments: a name, the jobs it can do, and how it does them."""

    name: ClassVar[str]
    jobs: ClassVar[frozenset[str]] = frozenset(
        {"checkout", "callback", "duplicate", "forged", "refund"}
    )
    url: str
    """Where the provider's messages arrive; may be overridden for each message."""
    signature_header: ClassVar[str] = "X-Signature"
    refusal: ClassVar[int] = 401
    """What a forged message is answered."""

    def __init__(self, provider_url: str) -> None:
        self.provider_url = provider_url
        self.factory = RequestFactory()

    def checkout(self) -> str:
        """Open a payment at the provider; return its reference."""
        raise NotImplementedError

    def refund(self, reference: str) -> None:
        """Give all of a paid payment back."""
        raise NotImplementedError

    def message(self, reference: str) -> Message:
        """Return the provider's genuine message that ``reference`` was paid."""
        body = json.dumps(
            {
                "event": f"E-{reference}",
                "id": f"P-{reference}",
                "reference": reference,
                "status": "paid",
                "amount_minor": AMOUNT_MINOR,
                "currency": CURRENCY,
            }
        ).encode()
        return Message(self.url, body, {self.signature_header: sign(body)})

    def forged(self, message: Message) -> Message:
        """Return ``message`` as somebody sends it who does not know the secret."""
        return replace(message, headers={self.signature_header: "0" * 64})

    def callback(self, message: Message) -> HttpResponse:
        """Let the view of this contestant take ``message``."""
        request = self.factory.post(
            message.path,
            data=message.body,
            content_type="application/json",
            headers=message.headers,
        )
        match = resolve(message.path)
        response: HttpResponse = match.func(request, *match.args, **match.kwargs)
        return response
