"""The stub's provider class: the shortest there can be, so that the core is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django_multipay.enums import (
    AmountFormat,
    Capability,
    PaymentStatus,
    RefundStatus,
    WebhookTrust,
)
from django_multipay.http import loads_strict, read_json
from django_multipay.messages import (
    HttpRequest,
    IncomingRequest,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    ProviderEvent,
    Redirect,
    RefundRequest,
    RefundSnapshot,
)
from django_multipay.money import from_minor
from django_multipay.providers.base import Provider, ProviderOptions, Secret
from django_multipay.signatures import verify_hmac_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class StubOptions(ProviderOptions):
    """Where it is, and what it signs with."""

    base_url: str
    secret: Secret


class StubProvider(Provider):
    """One call to open a payment, one to give it back, one signed message."""

    slug = "stub"
    display_name = "Stub"
    docs_url = "https://provider.example/docs"
    capabilities = frozenset(
        {Capability.FETCH, Capability.REFUND, Capability.PARTIAL_REFUND}
    )
    amount_format = AmountFormat.MINOR_INTEGER
    webhook_trust = WebhookTrust.SIGNED
    options_class = StubOptions
    currencies = frozenset({"USD"})
    options: StubOptions

    def start_payment(self, request: PaymentRequest) -> PaymentSnapshot:
        """Open it."""
        said = {
            "reference": request.merchant_reference,
            "amount_minor": self.wire_amount(request.amount),
            "currency": request.amount.currency.code,
        }
        answer = self._post("payments", said)
        return PaymentSnapshot(
            status=PaymentStatus.PENDING,
            provider_reference=answer["id"],
            next_action=Redirect(answer["url"]),
        )

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Ask for it."""
        wire = HttpRequest(
            operation="fetch",
            method="GET",
            url=f"{self.options.base_url}/payments/{query.merchant_reference}",
            is_read=True,
        )
        answer = read_json(wire, self.http.send(wire), self.alias)
        return PaymentSnapshot(
            status=PaymentStatus(answer["status"]),
            provider_reference=answer["id"],
            merchant_reference=query.merchant_reference,
            amount=query.amount,
        )

    def refund_payment(self, request: RefundRequest) -> RefundSnapshot:
        """Give it back."""
        said = {
            "reference": request.merchant_reference,
            "amount_minor": self.wire_amount(request.amount),
            "currency": request.amount.currency.code,
        }
        answer = self._post("refunds", said)
        return RefundSnapshot(
            status=RefundStatus.SUCCEEDED, provider_reference=answer["id"]
        )

    def verify_webhook(self, incoming: IncomingRequest) -> None:
        """Check the signature."""
        verify_hmac_sha256(
            incoming.body,
            incoming.headers.get("x-signature", ""),
            self.options.secret.values,
        )

    def parse_webhook(self, incoming: IncomingRequest) -> Sequence[ProviderEvent]:
        """Read it."""
        said = loads_strict(incoming.body)
        snapshot = PaymentSnapshot(
            status=PaymentStatus(said["status"]),
            provider_reference=said["id"],
            merchant_reference=said["reference"],
            amount=from_minor(said["amount_minor"], said["currency"]),
        )
        return [ProviderEvent(snapshot=snapshot, event_id=said["event"])]

    def _post(self, path: str, said: Mapping[str, object]) -> dict[str, str]:
        wire = HttpRequest(
            operation=path,
            method="POST",
            url=f"{self.options.base_url}/{path}",
            json=said,
        )
        return read_json(wire, self.http.send(wire), self.alias)
