"""Providers that keep saved methods, and the methods that tests save there."""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar

from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import Capability, PaymentStatus, Source
from django_multipay.exceptions import RequestRejected
from django_multipay.flows import start_payment
from django_multipay.messages import (
    Buyer,
    PaymentQuery,
    PaymentSnapshot,
    TokenChargeRequest,
    TokenSnapshot,
)
from django_multipay.models import Payment, Token
from tests.flows.scripted import (
    ACCOUNT,
    ObligingProvider,
    answer_to,
    new_payment,
    snapshot_of,
)

PRICE = Money("9.90", "USD")


class SavingProvider(ObligingProvider):
    """It saves methods, charges, describes and deletes them, and can be asked."""

    capabilities: ClassVar[frozenset[Capability]] = ObligingProvider.capabilities | {
        Capability.TOKENS,
        Capability.INSPECT_TOKEN,
        Capability.DELETE_TOKEN,
    }

    def charge_token(self, request: TokenChargeRequest) -> PaymentSnapshot:
        """Charge it."""
        default = answer_to(query_of_charge(request), PaymentStatus.PAID)
        return self._answer("charge", request, default)

    def inspect_token(self, reference: str) -> TokenSnapshot:
        """Say that it is fine."""
        return self._answer("inspect", reference, TokenSnapshot(reference=reference))

    def delete_token(self, reference: str) -> None:
        """Delete it."""
        self._answer("delete", reference, None)


class CarefulSavingProvider(SavingProvider):
    """It charges once for the same key."""

    repeatable = frozenset({Capability.TOKENS})


class KeepingProvider(SavingProvider):
    """It saves methods for good, and cannot be asked about them."""

    capabilities = SavingProvider.capabilities - {
        Capability.INSPECT_TOKEN,
        Capability.DELETE_TOKEN,
    }


class TaciturnSavingProvider(SavingProvider):
    """Nobody can ask it what became of a payment."""

    capabilities = SavingProvider.capabilities - {Capability.FETCH}


def query_of_charge(request: TokenChargeRequest) -> PaymentQuery:
    """How the payment of a charge is called."""
    return PaymentQuery(
        merchant_reference=request.merchant_reference,
        provider_reference="",
        amount=request.amount,
    )


def gone(*_: Any) -> RequestRejected:
    """What a provider says of a method that it does not know."""
    return RequestRejected("no such token", "saving", "charge")


def saved_snapshot(reference: str = "tok-1", **changes: Any) -> TokenSnapshot:
    """A card as the provider describes it when it was saved."""
    values: dict[str, Any] = {
        "reference": reference,
        "brand": "Visa",
        "last4": "4242",
        "expires_on": date(2040, 12, 31),
    }
    return TokenSnapshot(**values | changes)


def pay_and_save(
    reference: str = "tok-1",
    customer_id: str = "42",
    provider: str = "saving",
    **changes: Any,
) -> Payment:
    """A payment at which the buyer saved a method, and of which we have heard."""
    payment = new_payment(
        provider=provider,
        customer_id=customer_id,
        save_token=True,
        buyer=Buyer(name="Ada", email="ada@example.com"),
    )
    start_payment(payment)
    hear(payment, token=saved_snapshot(reference, **changes))
    return payment


def hear(
    payment: Payment, status: PaymentStatus = PaymentStatus.PAID, **changes: Any
) -> None:
    """Let the provider say this about ``payment``."""
    account = ledger.Account(alias=payment.provider, account=ACCOUNT, is_live=None)
    snapshot = snapshot_of(payment, status, **changes)
    ledger.apply_snapshot(payment.pk, snapshot, account=account, source=Source.WEBHOOK)
    payment.refresh_from_db()


def saved(
    reference: str = "tok-1", customer_id: str = "42", provider: str = "saving"
) -> Token:
    """A saved method that may be charged."""
    payment = pay_and_save(reference, customer_id, provider)
    return Token.objects.get(created_by_payment=payment)
