"""Payer: one payment in US dollars on a hosted, white-labeled page.

Reference: https://payer.mintlify.app/api-reference/payments/create (read 2026-11-21),
the only page that is public, and without its samples: hosts, paths, the webhook and
the bodies of errors are unknown. What had to be assumed is an option or a table here;
`docs/providers/payer.md` lists it. Other products called Payer have nothing in common.

Amounts: whole cents (``2630``).
Webhooks: a hint, for no signature is documented.
Proof of payment: the inquiry (``retrieve``).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from moneyed import Money

from django_multipay import money
from django_multipay.enums import (
    AmountFormat,
    Capability,
    CaptureMode,
    DeclineCode,
    PaymentStatus,
    WebhookTrust,
)
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidOperation,
    MalformedWebhook,
    OutcomeUnknown,
    UnexpectedAnswer,
    UnsupportedOperation,
)
from django_multipay.http import error_for_status, loads_strict, read_json
from django_multipay.messages import (
    Decline,
    HttpRequest,
    IncomingRequest,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    ProviderEvent,
    Redirect,
)
from django_multipay.providers.base import Provider, ProviderOptions, Secret
from django_multipay.redaction import storable

logger = logging.getLogger(__name__)

# Tables of the reference ------------------------------------------------------------

CURRENCY = "USD"
"""The only one; lower case on the wire, read in any case."""

MINIMUM_CENTS = 50
"""The page's example "10000 = 0.50" cannot be: it is $100.00 and this minimum, run
together by the page's typesetting."""

MAX_METADATA_KEYS = 50
MAX_METADATA_BYTES = 5000
"""Of ``metadata`` as compact JSON. "5KB" is read as the smaller of its two meanings."""

STATUSES: Mapping[str, PaymentStatus] = {
    "pending": PaymentStatus.PENDING,
    "completed": PaymentStatus.PAID,
    "failed": PaymentStatus.FAILED,
    "refunded": PaymentStatus.REFUNDED,
}

PAYMENT_ID_FIELDS: Sequence[str] = (
    "payment_id",
    "paymentId",
    "payment.id",
    "payment",
    "data.payment_id",
    "data.paymentId",
    "data.payment.id",
    "data.payment",
    "data.object.id",
    "data.id",
    "id",
)
"""Where a webhook or a return may name the payment (not published), the surest first:
an ``id`` at the top beside ``data`` would be that of the event."""

_ID = re.compile(r"[0-9A-Za-z][!-*,-~]{0,99}")
_PAGE = re.compile(r"https?://[^\s/]\S*")
_MAX_PARAMETERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PayerOptions(ProviderOptions):
    """``OPTIONS`` of one Payer shop."""

    api_key: Secret = field(metadata={"help": "the API key of the shop"})
    base_url: str = field(
        metadata={
            "help": "where the API is, such as 'https://api.example.com/v1'; ask "
            "Payer, no public page says it",
            "url": True,
        }
    )
    create_path: str = field(
        default="/payments",
        metadata={"help": "what follows base_url where a payment is created"},
    )
    retrieve_path: str = field(
        default="/payments/{id}",
        metadata={"help": "what follows base_url where a payment is retrieved"},
    )
    webhook_id_field: str = field(
        default="",
        metadata={
            "help": "where a webhook names the payment, such as 'event.payment.id'; "
            "by default the usual places are tried"
        },
    )


class PayerProvider(Provider):
    """One Payer shop."""

    slug = "payer"
    display_name = "Payer"
    docs_url = "https://payer.mintlify.app/api-reference/payments/create"
    capabilities = frozenset({Capability.FETCH})
    amount_format = AmountFormat.MINOR_INTEGER
    webhook_trust = WebhookTrust.HINT
    options_class = PayerOptions
    currencies = frozenset({CURRENCY})

    options: PayerOptions

    def problems(self) -> Sequence[str]:
        """Return what can only be a slip in the options."""
        found = []
        keys = self.options.api_key.values
        if any(key.lower().startswith("bearer ") for key in keys):
            found.append(
                "OPTIONS['api_key'] begins with 'Bearer'; leave the word out, it is "
                "added to the header"
            )
        paths = {
            "create_path": self.options.create_path,
            "retrieve_path": self.options.retrieve_path,
        }
        for name, path in paths.items():
            if not re.fullmatch(r"/[^\s?#]*", path):
                found.append(
                    f"OPTIONS[{name!r}] is {path!r}; begin it with '/' and leave "
                    "query and blanks out"
                )
        if "{id}" not in self.options.retrieve_path:
            found.append(
                "OPTIONS['retrieve_path'] has no '{id}', where the payment's id goes"
            )
        return found

    def deploy_problems(self) -> Sequence[str]:
        """Return what belongs to a laptop; no test system is known."""
        if urlsplit(self.options.base_url).scheme != "https":
            return ["OPTIONS['base_url'] is not https; anybody on the way could read"]
        return ()

    def can_take(self, amount: Money) -> bool:
        """Say whether the amount is in US dollars, whole cents, and not too small."""
        if not super().can_take(amount):
            return False
        try:
            return money.to_minor(amount) >= MINIMUM_CENTS
        except InvalidAmount:
            return False

    # A payment's life ---------------------------------------------------------------

    def start_payment(self, request: PaymentRequest) -> PaymentSnapshot:
        """Create the payment and send the buyer to its ``checkout_url``.

        The key of the operation is the ``Idempotency-Key``, so that a repeated start
        finds the first payment, in whatever status it may be by then.
        """
        wire = HttpRequest(
            operation="create",
            method="POST",
            url=f"{self._base_url}{self.options.create_path}",
            headers={**self._authorization(), "Idempotency-Key": request.key},
            json=self._create_body(request),
        )
        answer = self._ask(wire)
        snapshot = self._snapshot(answer)
        if not _ID.fullmatch(snapshot.provider_reference):
            raise OutcomeUnknown("the answer has no id", self.alias, "create")
        url = _text(answer.get("checkout_url"))
        if _PAGE.fullmatch(url):
            return replace(snapshot, next_action=Redirect(url))
        if snapshot.status is PaymentStatus.PENDING:
            raise OutcomeUnknown("the answer has no checkout_url", self.alias, "create")
        return snapshot

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Ask for the payment by the id its creation brought (``retrieve``).

        Without an id there is nothing to ask for: Payer finds no payment by our words.
        """
        if not query.provider_reference:
            return PaymentSnapshot(
                status=PaymentStatus.PENDING,
                merchant_reference=query.merchant_reference,
            )
        path = self.options.retrieve_path.replace(
            "{id}", quote(query.provider_reference, safe="")
        )
        wire = HttpRequest(
            operation="retrieve",
            method="GET",
            url=f"{self._base_url}{path}",
            headers=self._authorization(),
            is_read=True,
        )
        snapshot = self._snapshot(self._ask(wire))
        if snapshot.provider_reference != query.provider_reference:
            raise UnexpectedAnswer(
                "the answer is about another payment", self.alias, "retrieve"
            )
        return snapshot

    # Inbound ------------------------------------------------------------------------

    def identify_return(self, incoming: IncomingRequest) -> str:
        """Return "": a return has Payer's id only; its URL names the payment."""
        return ""

    def verify_webhook(self, incoming: IncomingRequest) -> None:
        """Refuse what names no payment; what does is a hint to ask, and no more."""
        self._named_payment(incoming)

    def parse_webhook(self, incoming: IncomingRequest) -> Sequence[ProviderEvent]:
        """Return which payment to ask about; what else is said is not read."""
        snapshot = PaymentSnapshot(
            status=PaymentStatus.PENDING,
            provider_reference=self._named_payment(incoming),
        )
        return [ProviderEvent(snapshot=snapshot)]

    # To the wire --------------------------------------------------------------------

    def _create_body(self, request: PaymentRequest) -> dict[str, Any]:
        """Return the fields of the reference; optional ones only with a value."""
        _refuse_unknown_wishes(request)
        if not self.can_take(request.amount):
            raise InvalidAmount(
                f"Payer takes {CURRENCY} from {MINIMUM_CENTS} cents on, in whole "
                "cents; ask for such an amount",
                "amount",
            )
        if not _PAGE.fullmatch(request.return_url):
            raise InvalidOperation(
                "return_url must be absolute, such as 'https://shop.example/return/'; "
                "set MULTIPAY['SITE_URL']",
                "return_url",
            )
        body = {
            "amount": self.wire_amount(request.amount),
            "currency": CURRENCY.lower(),
            "return_url": request.return_url,
            "customer_email": request.buyer.email,
            "customer_name": request.buyer.name,
            "metadata": _metadata(request),
        }
        return {name: value for name, value in body.items() if value}

    # From the wire ------------------------------------------------------------------

    def _snapshot(self, answer: Mapping[str, Any]) -> PaymentSnapshot:
        """Return what a payment object says.

        How much was refunded it does not say, so ``refunded`` stands for everything.
        """
        word = _text(answer.get("status"))
        status = self._status(word)
        amount = self._amount(answer)
        has_money = status in {PaymentStatus.PAID, PaymentStatus.REFUNDED}
        is_failed = status is PaymentStatus.FAILED
        metadata = answer.get("metadata")
        reference = (
            _text(metadata.get("merchant_reference"))
            if isinstance(metadata, Mapping)
            else ""
        )
        return PaymentSnapshot(
            status=status,
            provider_reference=_text(answer.get("id")),
            merchant_reference=reference or None,
            amount=amount,
            captured=amount if has_money else None,
            provider_status=storable(word, 64),
            decline=Decline(code=DeclineCode.GENERIC, provider_code=word)
            if is_failed
            else None,
        )

    def _status(self, word: str) -> PaymentStatus:
        status = STATUSES.get(word)
        if status is None:
            logger.warning(
                "%s: status %r is unknown and counts as pending",
                self.alias,
                storable(word, 40),
            )
        return status or PaymentStatus.PENDING

    def _amount(self, answer: Mapping[str, Any]) -> Money | None:
        """Return the amount, or None, and the core then holds the answer."""
        currency = _text(answer.get("currency")).upper()
        try:
            return self.read_amount(answer.get("amount"), currency)
        except InvalidAmount:
            return None

    def _named_payment(self, incoming: IncomingRequest) -> str:
        """Return the id a message names; `MalformedWebhook` if there is none."""
        message = _read_message(incoming)
        for path in (self.options.webhook_id_field, *PAYMENT_ID_FIELDS):
            value: object = message
            for name in path.split("."):
                value = value.get(name) if isinstance(value, Mapping) else None
            if isinstance(value, str) and _ID.fullmatch(value):
                return value
        raise MalformedWebhook(f"{self.alias}: the message names no payment")

    # The wire -----------------------------------------------------------------------

    @property
    def _base_url(self) -> str:
        return self.options.base_url.rstrip("/")

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.options.api_key.current}"}

    def _ask(self, request: HttpRequest) -> dict[str, Any]:
        """Return the answer; errors speak by their status, their body is unknown.

        400: a field is wrong. 401: no or a wrong key, or the shop is inactive.
        429: too many calls. 500: their problem, so after a create it is not known
        what happened.
        """
        response = self.http.send(request)
        if response.status >= 300:
            raise error_for_status(request, response, self.alias)
        return read_json(request, response, self.alias)


# To the wire, without an account ----------------------------------------------------


def _refuse_unknown_wishes(request: PaymentRequest) -> None:
    """Raise for what cannot be said to Payer, rather than do less than asked."""
    wishes: Mapping[str, object] = {
        "capture_mode": request.capture_mode == CaptureMode.MANUAL,
        "method": request.method,
        "save_token": request.save_token,
        "token": request.token,
        "plan": request.plan,
    }
    for name, is_wished in wishes.items():
        if is_wished:
            raise UnsupportedOperation(
                f"Payer takes one payment at once and nothing else; leave {name} out",
                name,
            )
    for name in request.provider_data:
        path = f"provider_data.{name}"
        raise InvalidOperation(
            f"{path} is unknown to Payer; remove it, or use metadata", path
        )


def _metadata(request: PaymentRequest) -> dict[str, Any]:
    """Return our two references with the shop's own data, within Payer's limits."""
    ours = {
        "merchant_reference": request.merchant_reference,
        "order_id": request.order_id,
    }
    for name, value in request.metadata.items():
        if not isinstance(value, (str, int)):
            raise InvalidOperation(
                f"metadata.{name} is a {type(value).__name__}; Payer takes texts, "
                "whole numbers and booleans",
                f"metadata.{name}",
            )
        if ours.get(name, value) != value:
            raise InvalidOperation(
                f"metadata.{name} is ours at Payer and says something else; rename it",
                f"metadata.{name}",
            )
    metadata = {**ours, **request.metadata}
    if len(metadata) > MAX_METADATA_KEYS:
        raise InvalidOperation(
            f"metadata has {len(metadata)} keys with our {len(ours)}; Payer takes "
            f"{MAX_METADATA_KEYS}",
            "metadata",
        )
    text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_METADATA_BYTES:
        raise InvalidOperation(
            f"metadata has {size} bytes with our references; Payer takes "
            f"{MAX_METADATA_BYTES}",
            "metadata",
        )
    return metadata


# From the wire, without an account --------------------------------------------------


def _read_message(incoming: IncomingRequest) -> Mapping[str, Any]:
    """Return the JSON object of a POST, or the parameters of a GET, each once."""
    if incoming.method == "POST":
        try:
            message = loads_strict(incoming.body)
        except ValueError:
            raise MalformedWebhook("the message is not valid JSON") from None
        if not isinstance(message, dict):
            raise MalformedWebhook("the message is not a JSON object")
        return message
    try:
        pairs = parse_qsl(incoming.query_string, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise MalformedWebhook("the message has too many parameters") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise MalformedWebhook("the message has a parameter twice")
    return parameters


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
