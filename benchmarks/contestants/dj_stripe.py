"""dj-stripe's webhook: it mirrors Stripe's objects, and opens no payments itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import replace

import stripe
from djstripe.models import Account, WebhookEndpoint

from benchmarks.contestants.base import Contestant, Message
from benchmarks.settings import SECRET
from benchmarks.stub import ACCOUNT, payment_intent


class DjStripe(Contestant):
    """As its documentation has a shop use it: signatures verified, no extra handler."""

    name = "dj-stripe"
    jobs = frozenset({"callback", "duplicate", "forged"})
    url = ""
    signature_header = "Stripe-Signature"
    refusal = 400

    def __init__(self, provider_url: str) -> None:
        super().__init__(provider_url)
        stripe.api_base = provider_url
        owner, _ = Account.objects.get_or_create(
            id=ACCOUNT["id"], defaults={"livemode": False, "stripe_data": ACCOUNT}
        )
        endpoint = WebhookEndpoint.objects.create(
            id=f"we_{secrets.token_hex(12)}",
            url="https://shop.example/",
            secret=SECRET,
            enabled_events=["*"],
            livemode=False,
            djstripe_owner_account=owner,
        )
        self.url = f"/rivals/stripe/webhook/{endpoint.djstripe_uuid}/"

    def checkout(self) -> str:
        """Make up what Stripe's own page would have opened."""
        return f"pi_{secrets.token_hex(12)}"

    def message(self, reference: str) -> Message:
        """Return Stripe's message that ``reference`` succeeded, signed by its scheme."""
        body = json.dumps(
            {
                "id": f"evt_{reference}",
                "object": "event",
                "api_version": "2026-05-27.dahlia",
                "created": int(time.time()),
                "data": {"object": payment_intent(reference)},
                "livemode": False,
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": None},
                "type": "payment_intent.succeeded",
            }
        )
        return Message(self.url, body.encode(), self._signed(body, SECRET))

    def forged(self, message: Message) -> Message:
        """Sign with another secret."""
        headers = self._signed(message.body.decode(), "another secret")
        return replace(message, headers=headers)

    def _signed(self, body: str, secret: str) -> dict[str, str]:
        now = int(time.time())
        proof = hmac.new(secret.encode(), f"{now}.{body}".encode(), hashlib.sha256)
        return {self.signature_header: f"t={now},v1={proof.hexdigest()}"}
