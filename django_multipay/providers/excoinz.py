"""Excoinz ExPay: USDT on Tron, paid on a page that Excoinz hosts.

Reference: https://payment.excoinz.com/core-api/payment-apis (read 2026-11-21), with
the pages on the webhook, on authentication and on firewalls of the same site.
An older generation of the API, with access tokens and ``/payment/validate``, and
withdrawals, which pay a user's own funds out, are not spoken here.

Amounts: decimal text in USDT (``"10.500000"``).
Webhooks: JSON that repeats a secret both sides know; no signature, no timestamp.
Proof of payment: that message, for there is no inquiry.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from moneyed import Money

from django_multipay import money
from django_multipay.enums import (
    AmountFormat,
    CaptureMode,
    DeclineCode,
    MethodKind,
    PaymentStatus,
    WebhookTrust,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidAmount,
    InvalidOperation,
    MalformedWebhook,
    OutcomeUnknown,
    ProviderError,
    RequestRejected,
    SignatureMismatch,
    UnsupportedOperation,
)
from django_multipay.http import error_for_status, loads_strict, read_json
from django_multipay.messages import (
    Decline,
    HttpRequest,
    HttpResponse,
    IncomingRequest,
    Method,
    PaymentRequest,
    PaymentSnapshot,
    ProviderEvent,
    Redirect,
)
from django_multipay.providers.base import Provider, ProviderOptions, Secret
from django_multipay.redaction import MASK, storable
from django_multipay.signatures import constant_time_equal

logger = logging.getLogger(__name__)

# Tables of the reference ------------------------------------------------------------

CURRENCY = "USDT"
"""``symbol`` of the only asset the webhook page names. In which unit ``amount`` of
``ready`` is, no page says; it is read as the same."""

CURRENCIES: Mapping[str, int] = {CURRENCY: 6}
"""Currencies with their decimals: six, as the token has them on Tron."""

LOCALES: Mapping[str, str] = {
    "en": "en",
    "ko": "ko",
    "zh": "cn",
    # Countries that stand for their language, as on the buyer's pages.
    "kr": "ko",
    "cn": "cn",
    "tw": "cn",
}
"""Language → ``locale``, which has three values; others are sent as ``en``."""

STATES: Mapping[str, PaymentStatus] = {
    "success": PaymentStatus.PAID,
    "pending": PaymentStatus.PENDING,
    "fail": PaymentStatus.FAILED,
}
"""``state`` of a webhook. The page also speaks of expired and canceled payments, which
have no word of their own, so both are taken for ``fail``. ``pending`` is described
for withdrawals only."""

ERRORS: Mapping[str, type[ProviderError]] = {"-101": CredentialsRejected}
"""``code`` → error; any other code refuses the request.

-101 is "Invalid Client ID". The page with the other codes is not public."""

DETAILS: Mapping[str, str] = {
    "refId": "ref_id",
    "symbol": "symbol",
    "amount": "reported_amount",
}
"""Field of a webhook → name in `PaymentSnapshot.details`; nothing else is kept."""

PROVIDER_DATA: Mapping[str, str] = {"item_img_url": r"https?://\S{1,2000}"}
"""What a shop may add in ``provider_data``, with the pattern of its value."""

_COME_LATER = frozenset({408, 425, 429})
_PAGE = re.compile(r"https?://[^\s/]\S*")
_PRIVATE = re.compile(r"\S+@\S+|(?=\w*[0-9])\w{20,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcoinzOptions(ProviderOptions):
    """``OPTIONS`` of one ExPay merchant."""

    client_id: str = field(metadata={"help": "the client id in the ExPay Admin"})
    secret_key: Secret = field(
        metadata={"help": "the secret key in the ExPay Admin, without 'Bearer'"}
    )
    base_url: str = field(
        metadata={"help": "'https://api.excoinz.com' for real money", "url": True}
    )
    webhook_secret: Secret | None = field(
        default=None,
        metadata={"help": "the secret that webhooks carry; by default secret_key"},
    )
    source_addresses: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "addresses or networks that webhooks may come from, such as "
            "'13.229.255.195'; an extra check"
        },
    )


class ExcoinzProvider(Provider):
    """One ExPay merchant."""

    slug = "excoinz"
    display_name = "Excoinz ExPay"
    docs_url = "https://payment.excoinz.com/core-api/payment-apis"
    capabilities = frozenset()
    amount_format = AmountFormat.MAJOR_STRING
    webhook_trust = WebhookTrust.SHARED_SECRET
    options_class = ExcoinzOptions
    currencies = frozenset(CURRENCIES)
    exponents = CURRENCIES
    methods = (Method(code="", kind=MethodKind.CRYPTO, name=CURRENCY),)

    options: ExcoinzOptions

    def problems(self) -> Sequence[str]:
        """Return what can only be a slip in the options."""
        found = []
        keys = self.options.secret_key.values
        if any(key.lower().startswith("bearer ") for key in keys):
            found.append(
                "OPTIONS['secret_key'] begins with 'Bearer'; leave the word out, it is "
                "added to the header"
            )
        for address in self.options.source_addresses:
            try:
                ipaddress.ip_network(address)
            except ValueError:
                found.append(
                    f"OPTIONS['source_addresses'] holds {address!r}; use addresses or "
                    "networks such as '13.229.255.195' or '192.0.2.0/24'"
                )
        return found

    def deploy_problems(self) -> Sequence[str]:
        """Return what belongs to a laptop; no test system is known."""
        if urlsplit(self.options.base_url).scheme != "https":
            return ["OPTIONS['base_url'] is not https; anybody on the way could read"]
        return ()

    def can_take(self, amount: Money) -> bool:
        """Say whether the amount is in USDT, above zero and can be written."""
        try:
            money.to_minor(amount, self.exponents)
        except InvalidAmount:
            return False
        return super().can_take(amount) and amount.amount > 0

    # A payment's life ---------------------------------------------------------------

    def start_payment(self, request: PaymentRequest) -> PaymentSnapshot:
        """Open the payment (``ready``) and send the buyer to the hosted page.

        A ``partner_order_id`` is taken once: after a lost answer the same payment is
        refused, and the buyer needs a new one.
        """
        url = self._ready(self._ready_body(request))
        return PaymentSnapshot(status=PaymentStatus.PENDING, next_action=Redirect(url))

    # Inbound ------------------------------------------------------------------------

    def identify_return(self, incoming: IncomingRequest) -> str:
        """Return ``txId``: the ``partner_order_id`` we sent, no blockchain hash."""
        return _text(_read_message(incoming).get("txId"))

    def verify_webhook(self, incoming: IncomingRequest) -> None:
        """Compare ``secret`` with ours; nothing else in the message proves anything.

        The published address of the sender is checked too where the options name it.
        Browsers come from anywhere, so it does not concern what a buyer carries.
        """
        message = _read_message(incoming)
        known = self.options.webhook_secret or self.options.secret_key
        given = message.get("secret")
        # Each is compared, so that the time does not tell which one fits.
        matches = [constant_time_equal(given, value) for value in known.values]
        if not any(matches):
            raise SignatureMismatch(f"{self.alias}: the message's secret is not ours")
        if not (incoming.is_by_buyer or self._is_welcome(incoming.remote_address)):
            logger.warning(
                "%s: a message about order %s from %s is refused: the address is not "
                "among source_addresses",
                self.alias,
                storable(_text(message.get("txId")), 40),
                storable(incoming.remote_address, 45),
            )
            raise SignatureMismatch(f"{self.alias}: the message's sender is not known")

    def parse_webhook(self, incoming: IncomingRequest) -> Sequence[ProviderEvent]:
        """Return the one event of a message.

        It says what was paid, never what was asked, so `PaymentSnapshot.amount` stays
        None. The payment is called by ``txId`` and not by ``refId``, which may be
        null: a repetition with another ``refId`` would count as a second payment.
        """
        message = _read_message(incoming)
        order_id, state = _text(message.get("txId")), _text(message.get("state"))
        if not order_id or not state:
            raise MalformedWebhook(f"{self.alias}: the message has no txId or state")
        status = self._status(state)
        captured, decline = None, None
        if status is PaymentStatus.PAID:
            captured = self._paid_amount(message)
        elif status is PaymentStatus.FAILED:
            captured = Money(Decimal(0), money.currency_of(CURRENCY))
            decline = Decline(code=DeclineCode.GENERIC, provider_code=state)
        snapshot = PaymentSnapshot(
            status=status,
            provider_reference=order_id,
            merchant_reference=order_id,
            captured=captured,
            provider_status=storable(state, 64),
            decline=decline,
            details={
                ours: storable(text, 255)
                for theirs, ours in DETAILS.items()
                if (text := _text(message.get(theirs)))
            },
        )
        return [ProviderEvent(snapshot=snapshot)]

    # To the wire --------------------------------------------------------------------

    def _ready_body(self, request: PaymentRequest) -> dict[str, str]:
        """Return the fields of ``ready`` in the order of the reference.

        It does not say which are mandatory, so all are there; "" is no value.
        """
        _refuse_unknown_wishes(request)
        if not self.can_take(request.amount):
            raise InvalidAmount(
                f"Excoinz takes {CURRENCY} above zero with at most "
                f"{CURRENCIES[CURRENCY]} decimals; ask for such an amount",
                "amount",
            )
        first_item = next((item.name for item in request.items), request.order_id)
        return {
            "client_id": self.options.client_id,
            "item_name": request.description or first_item,
            "item_img_url": _read_provider_data(request).get("item_img_url", ""),
            "partner_order_id": request.merchant_reference,
            "partner_user_id": request.customer_id,
            "amount": str(self.wire_amount(request.amount)),
            "locale": _locale(request.locale),
        }

    # From the wire ------------------------------------------------------------------

    def _status(self, word: str) -> PaymentStatus:
        status = STATES.get(word)
        if status is None:
            logger.warning(
                "%s: state %r is unknown and counts as pending",
                self.alias,
                storable(word, 40),
            )
        return status or PaymentStatus.PENDING

    def _paid_amount(self, message: Mapping[str, Any]) -> Money | None:
        """Return what was paid, or None, and the core then holds the message."""
        if message.get("symbol") != CURRENCY:
            return None
        try:
            return self.read_amount(message.get("amount"), CURRENCY)
        except InvalidAmount:
            return None

    def _is_welcome(self, address: str) -> bool:
        if not self.options.source_addresses:
            return True
        try:
            sender = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(
            sender in ipaddress.ip_network(network)
            for network in self.options.source_addresses
        )

    # The wire -----------------------------------------------------------------------

    def _ready(self, body: Mapping[str, str]) -> str:
        """Return the ``redirect_url`` of a new payment.

        What a duplicate order id answers is not published, so a ``code`` refuses
        whatever the status, unless that says that the provider itself has a problem.
        """
        request = HttpRequest(
            operation="ready",
            method="POST",
            url=f"{self.options.base_url.rstrip('/')}/payment/ready",
            headers={
                # With an underscore, and with "Bearer": the older API had it without.
                "EXCOINZ_SECRET": f"Bearer {self.options.secret_key.current}"
            },
            json=body,
        )
        response = self.http.send(request)
        if response.status >= 500 or response.status in _COME_LATER:
            raise error_for_status(request, response, self.alias)
        try:
            answer = read_json(request, response, self.alias)
        except OutcomeUnknown:
            if response.status < 300:
                raise
            answer = {}
        if code := _text(answer.get("code")):
            raise self._refusal(request, response, answer, code)
        if response.status >= 300:
            raise error_for_status(request, response, self.alias)
        url = _text(answer.get("redirect_url"))
        if not _PAGE.fullmatch(url):
            raise OutcomeUnknown(
                "the answer has no redirect_url",
                self.alias,
                "ready",
                http_status=response.status,
            )
        return url

    def _refusal(
        self,
        request: HttpRequest,
        response: HttpResponse,
        answer: Mapping[str, Any],
        code: str,
    ) -> ProviderError:
        is_denied = response.status in {401, 403}
        usual = CredentialsRejected if is_denied else RequestRejected
        return ERRORS.get(code, usual)(
            self._harmless(_text(answer.get("message")))
            or "the provider refused the payment",
            self.alias,
            request.operation,
            code=storable(code, 40),
            http_status=response.status,
        )

    def _harmless(self, message: str) -> str:
        """Return the provider's words without our secrets, addresses and long ids."""
        for secret in self.options.secret_key.values:
            message = message.replace(secret, MASK)
        return _PRIVATE.sub(MASK, storable(message, 1000))[:200]


# To the wire, without an account ----------------------------------------------------


def _locale(locale: str) -> str:
    language = locale.lower().replace("_", "-").partition("-")[0]
    return LOCALES.get(language, "en")


def _refuse_unknown_wishes(request: PaymentRequest) -> None:
    """Raise for what cannot be said to Excoinz, rather than do less than asked."""
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
                f"Excoinz takes one payment at once and nothing else; leave {name} out",
                name,
            )


def _read_provider_data(request: PaymentRequest) -> dict[str, str]:
    """Return the shop's own additions; `InvalidOperation` names a wrong one."""
    for name, value in request.provider_data.items():
        path = f"provider_data.{name}"
        if name not in PROVIDER_DATA:
            raise InvalidOperation(
                f"{path} is unknown to Excoinz; remove it or use one of: "
                f"{', '.join(PROVIDER_DATA)}",
                path,
            )
        pattern = PROVIDER_DATA[name]
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise InvalidOperation(f"{path} must be text that matches {pattern}", path)
    return dict(request.provider_data)


# From the wire, without an account --------------------------------------------------


def _read_message(incoming: IncomingRequest) -> dict[str, Any]:
    """Return the object of a webhook; `MalformedWebhook` without quoting any of it.

    Method and content type are not published; a "request object" is read as the body
    of a POST, whatever it is called.
    """
    if incoming.method != "POST":
        raise MalformedWebhook("the message is not a POST")
    try:
        message = loads_strict(incoming.body)
    except ValueError:
        # The cause holds the whole body, and so the secret.
        raise MalformedWebhook("the message is not valid JSON") from None
    if not isinstance(message, dict):
        raise MalformedWebhook("the message is not a JSON object")
    return message


def _text(value: object) -> str:
    """Return a text or a whole number as text; anything else is no answer."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
