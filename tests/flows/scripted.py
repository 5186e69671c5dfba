"""A provider that does what a test tells it, and remembers what it was told.

It is a real provider on the outside: the core cannot tell the difference. Its
"company" is the list of answers that a test puts into it.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

from django.db import connection
from moneyed import Money

from django_multipay.enums import (
    AmountFormat,
    Capability,
    DeclineCode,
    PaymentStatus,
    RefundStatus,
    WebhookTrust,
)
from django_multipay.exceptions import MalformedWebhook, SignatureMismatch
from django_multipay.flows import create_payment
from django_multipay.messages import (
    CaptureRequest,
    ConfirmRequest,
    Decline,
    IncomingRequest,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    ProviderEvent,
    Redirect,
    RefundQuery,
    RefundRequest,
    RefundSnapshot,
    SettleRequest,
    VoidRequest,
)
from django_multipay.models import Payment
from django_multipay.providers.base import Provider, ProviderOptions, Secret

ACCOUNT = "shop-1"
SECRET = "a secret of forty-two characters, made up."

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedOptions(ProviderOptions):
    """``OPTIONS`` of a scripted account."""

    account: str = ACCOUNT
    secret: Secret = field(default_factory=lambda: Secret((SECRET,)))


class ScriptedProvider(Provider):
    """Answers in the order a test put in; without a script: pending."""

    slug = "scripted"
    display_name = "Scripted"
    docs_url = "https://provider.example/docs"
    capabilities = frozenset({Capability.FETCH})
    amount_format = AmountFormat.MAJOR_STRING
    webhook_trust = WebhookTrust.SIGNED
    options_class: ClassVar[type[ProviderOptions]] = ScriptedOptions
    currencies = frozenset({"USD", "EUR", "KRW"})

    options: ScriptedOptions

    def __init__(self, alias: str, options: ProviderOptions) -> None:
        super().__init__(alias, options)
        self.calls: list[tuple[str, Any]] = []
        self.calls_in_a_transaction: list[str] = []
        self._script: defaultdict[str, list[Any]] = defaultdict(list)

    def will(self, verb: str, *answers: Any) -> None:
        """Put answers in: a snapshot, an exception to raise, or a function."""
        self._script[verb] += answers

    def told(self, verb: str) -> list[Any]:
        """What this verb was called with."""
        return [message for name, message in self.calls if name == verb]

    @property
    def account(self) -> str:
        """The account every message names."""
        return self.options.account

    def start_payment(self, request: PaymentRequest) -> PaymentSnapshot:
        """Send the buyer to a page of ours."""
        page = f"https://provider.example/pay/{request.merchant_reference}"
        default = PaymentSnapshot(
            status=PaymentStatus.PENDING, next_action=Redirect(page)
        )
        return self._answer("start", request, default)

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Say what the script says."""
        default = PaymentSnapshot(status=PaymentStatus.PENDING)
        return self._answer("fetch", query, default)

    def identify_return(self, incoming: IncomingRequest) -> str:
        """Return the order the message names."""
        return str(_read(incoming).get("order", ""))

    def verify_webhook(self, incoming: IncomingRequest) -> None:
        """Believe whoever knows the secret."""
        if incoming.headers.get("x-secret") not in self.options.secret.values:
            raise SignatureMismatch(f"{self.alias}: not ours")

    def parse_webhook(self, incoming: IncomingRequest) -> Sequence[ProviderEvent]:
        """Return the one event of a message."""
        said = _read(incoming)
        snapshot = PaymentSnapshot(
            status=PaymentStatus(said["status"]),
            provider_reference=said.get("reference", ""),
            merchant_reference=said.get("order"),
            account=said.get("account"),
            amount=Money(said["amount"], said["currency"])
            if "amount" in said
            else None,
            provider_status=said.get("word", ""),
        )
        return [ProviderEvent(snapshot=snapshot, must_fetch=said.get("ask", False))]

    def _answer(self, verb: str, message: Any, default: T) -> T:
        self.calls.append((verb, message))
        if connection.in_atomic_block:
            self.calls_in_a_transaction.append(verb)
        answer = self._script[verb].pop(0) if self._script[verb] else default
        if isinstance(answer, Exception):
            raise answer
        snapshot: T = answer() if callable(answer) else answer
        return snapshot


class ObligingProvider(ScriptedProvider):
    """It does everything that can be done with money, whole or in part."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.FETCH,
            Capability.CONFIRM,
            Capability.CAPTURE,
            Capability.PARTIAL_CAPTURE,
            Capability.VOID,
            Capability.REFUND,
            Capability.PARTIAL_REFUND,
            Capability.SETTLE,
        }
    )
    asks_for_an_account: ClassVar[bool] = False

    def needs_refund_account(self, query: PaymentQuery) -> bool:
        """Only where the class says so."""
        return self.asks_for_an_account

    def confirm_payment(self, request: ConfirmRequest) -> PaymentSnapshot:
        """Charge, or reserve."""
        status = PaymentStatus.PAID if request.capture else PaymentStatus.AUTHORIZED
        return self._answer("confirm", request, answer_to(request.query, status))

    def capture_payment(self, request: CaptureRequest) -> PaymentSnapshot:
        """Say that it was captured."""
        default = answer_to(request.query, PaymentStatus.PAID)
        return self._answer("capture", request, default)

    def void_payment(self, request: VoidRequest) -> PaymentSnapshot:
        """Say that it was released."""
        default = answer_to(request.query, PaymentStatus.CANCELED)
        return self._answer("void", request, default)

    def settle_payment(self, request: SettleRequest) -> PaymentSnapshot:
        """Say that it will be settled."""
        default = answer_to(request.query, PaymentStatus.PAID)
        return self._answer("settle", request, default)

    def refund_payment(self, request: RefundRequest) -> RefundSnapshot:
        """Say that it was given back."""
        default = RefundSnapshot(
            status=RefundStatus.SUCCEEDED,
            provider_reference=f"R-{request.merchant_reference}",
        )
        return self._answer("refund", request, default)


class TracingProvider(ObligingProvider):
    """It can be asked about refunds, and does the same refund once."""

    capabilities = ObligingProvider.capabilities | {Capability.FETCH_REFUND}
    repeatable = frozenset({Capability.REFUND})

    def fetch_refund(self, query: RefundQuery) -> RefundSnapshot:
        """Never heard of it, unless the script says so."""
        default = RefundSnapshot(status=RefundStatus.REQUESTED)
        return self._answer("fetch_refund", query, default)


class BankProvider(ObligingProvider):
    """Its refunds go to a bank account."""

    asks_for_an_account = True


class WholesaleProvider(ObligingProvider):
    """It knows only whole amounts."""

    capabilities = ObligingProvider.capabilities - {
        Capability.PARTIAL_CAPTURE,
        Capability.PARTIAL_REFUND,
    }


class HintingProvider(ScriptedProvider):
    """Its messages prove nothing; only the inquiry does."""

    webhook_trust = WebhookTrust.HINT


class SilentProvider(ScriptedProvider):
    """It has no inquiry."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()


class UnprovableProvider(SilentProvider):
    """It has neither an inquiry nor authentic messages."""

    webhook_trust = WebhookTrust.HINT


def account_settings(**aliases: type[Provider]) -> dict[str, Any]:
    """``MULTIPAY`` with an account for each alias."""
    return {
        "SITE_URL": "https://shop.example",
        "PROVIDERS": {
            alias: {"BACKEND": f"{kind.__module__}.{kind.__name__}", "OPTIONS": {}}
            for alias, kind in aliases.items()
        },
    }


def new_payment(**changes: Any) -> Payment:
    """A payment of 26.30 USD at the scripted provider."""
    return create_payment(
        **{
            "provider": "scripted",
            "order_id": "1001",
            "amount": Money("26.30", "USD"),
            **changes,
        }
    )


def snapshot_of(
    payment: Payment, status: PaymentStatus, **changes: Any
) -> PaymentSnapshot:
    """What the provider says about ``payment`` if it fits our record in full."""
    fitting = PaymentSnapshot(
        status=status,
        provider_reference=f"T-{payment.merchant_reference}",
        merchant_reference=payment.merchant_reference,
        account=ACCOUNT,
        amount=payment.amount,
        decline=Decline(code=DeclineCode.GENERIC)
        if status is PaymentStatus.FAILED
        else None,
    )
    return dataclasses.replace(fitting, **changes)


def answer_to(query: PaymentQuery, status: PaymentStatus) -> PaymentSnapshot:
    """What the provider answers to our own call about ``query``."""
    return PaymentSnapshot(
        status=status,
        provider_reference=f"T-{query.merchant_reference}",
        merchant_reference=query.merchant_reference,
        account=ACCOUNT,
        amount=query.amount,
    )


def message(
    payment: Payment, status: PaymentStatus, secret: str = SECRET, **changes: Any
) -> IncomingRequest:
    """A message of the scripted provider; a field that is None is left out."""
    said = {
        "order": payment.merchant_reference,
        "status": status.value,
        "reference": f"T-{payment.merchant_reference}",
        "account": ACCOUNT,
        "amount": str(payment.amount.amount),
        "currency": payment.currency,
        **changes,
    }
    return IncomingRequest(
        method="POST",
        body=json.dumps(
            {name: value for name, value in said.items() if value is not None}
        ).encode(),
        content_type="application/json",
        headers={"x-secret": secret},
    )


def _read(incoming: IncomingRequest) -> Mapping[str, Any]:
    try:
        said: Mapping[str, Any] = json.loads(incoming.body, parse_float=Decimal)
    except ValueError as error:
        raise MalformedWebhook("not JSON") from error
    return said
