"""Clink: cards and Asian and American wallets, hosted or direct, with subscriptions.

Reference: https://docs.clinkbill.com/api-reference/endpoint/create-payment and the
OpenAPI file beside it (a copy of each read 2026-11-21; the second is the newer one).
Where they differ the newer one is sent and both are understood;
`docs/providers/clink.md` lists the differences and what could not be verified.

Amounts: JSON numbers in major units; some webhooks write them as text.
Webhooks: JSON, signed with HMAC-SHA256 over timestamp, a dot and the raw body.
Proof of payment: a signed message, or the order that Clink returns when asked.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

from moneyed import Money

from django_multipay import money
from django_multipay.enums import (
    AmountFormat,
    Capability,
    CaptureMode,
    DeclineCode,
    MethodKind,
    PaymentStatus,
    PlanStatus,
    RefundStatus,
    WebhookOutcome,
    WebhookTrust,
)
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidOperation,
    MalformedWebhook,
    OutcomeUnknown,
    ProviderError,
    RequestRejected,
    SignatureMismatch,
    UnexpectedAnswer,
    UnsupportedOperation,
)
from django_multipay.http import error_for_status, loads_strict, read_json
from django_multipay.messages import (
    Address,
    Buyer,
    Decline,
    DisputeSnapshot,
    HttpRequest,
    HttpResponse,
    IncomingRequest,
    LineItem,
    Method,
    NextAction,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    PlanCancelRequest,
    PlanSnapshot,
    PostForm,
    ProviderEvent,
    QRCode,
    Redirect,
    RefundQuery,
    RefundRequest,
    RefundSnapshot,
    TokenChargeRequest,
    TokenSnapshot,
    WebhookAnswer,
)
from django_multipay.providers.base import Provider, ProviderOptions, Secret
from django_multipay.redaction import MASK, storable
from django_multipay.signatures import check_timestamp, verify_hmac_sha256

logger = logging.getLogger(__name__)

# Tables of the reference ------------------------------------------------------------

SUCCESS = 200
"""``code`` of success; an answer with HTTP 200 and another one is a refusal."""

NAMED_ERRORS = ("CUSTOMER_NOT_FOUND", "CUSTOMER_IDENTIFIER_NOT_MATCHED")
"""The only errors with a published name. Their ``code`` is not published, so the name
decides wherever it stands: nothing was created."""

METHODS: Mapping[str, tuple[str, ...]] = {
    "ALIPAY": ("session", "payment"),
    "APPLEPAY": ("session",),
    "CARD": ("session", "payment", "subscription"),
    "CASHAPP": ("session", "payment", "subscription"),
    "GCASH": ("session", "payment", "subscription"),
    "GOOGLEPAY": ("session",),
    "KAKAO": ("session", "payment"),
    "PAYPAL": ("session",),
    "PIX": ("session", "payment", "subscription"),
    "PROMPTPAY": ("payment",),
    "QRIS": ("session", "payment"),
    "TNG": ("payment",),
    "UPI": ("session", "payment", "subscription"),
    "WECHAT": ("session", "payment"),
}
"""``paymentMethodType`` → the calls that know it; ``session`` is the hosted page."""

_KINDS: Mapping[str, tuple[MethodKind, str, str]] = {
    # paymentMethodType: kind, name for people, its only currency or ""
    "CARD": (MethodKind.CARD, "", ""),
    "PAYPAL": (MethodKind.WALLET, "PayPal", ""),
    "APPLEPAY": (MethodKind.WALLET, "Apple Pay", ""),
    "GOOGLEPAY": (MethodKind.WALLET, "Google Pay", ""),
    "CASHAPP": (MethodKind.QR, "Cash App Pay", "USD"),
    "ALIPAY": (MethodKind.WALLET, "Alipay", ""),
    "WECHAT": (MethodKind.WALLET, "WeChat Pay", ""),
    "KAKAO": (MethodKind.WALLET, "KakaoPay", "KRW"),
    "GCASH": (MethodKind.WALLET, "GCash", "PHP"),
    "TNG": (MethodKind.WALLET, "Touch 'n Go", "MYR"),
    "PROMPTPAY": (MethodKind.QR, "PromptPay", "THB"),
    "QRIS": (MethodKind.QR, "QRIS", "IDR"),
    "PIX": (MethodKind.BANK_TRANSFER, "Pix", "BRL"),
    "UPI": (MethodKind.BANK_TRANSFER, "UPI", "INR"),
}
"""The reference has no currencies by method: these are what each method settles in
wherever it is described, so a payment page does not offer it for others."""

SELF_MADE_INSTRUMENTS: Mapping[str, frozenset[str]] = {
    "payment": frozenset(
        {
            "ALIPAY",
            "CASHAPP",
            "GCASH",
            "KAKAO",
            "PROMPTPAY",
            "QRIS",
            "TNG",
            "WECHAT",
        }
    ),
    "subscription": frozenset({"CASHAPP", "GCASH"}),
}
"""Methods whose instrument Clink makes by itself; the others must bring one."""

INSTRUMENT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "PIX": ("cpfName", "cpfNumber"),
    "UPI": ("upiName", "phoneNumber", "billingAddress"),
}
"""What ``POST /payment-instrument`` demands for the methods that need it."""

ORDER_STATUSES: Mapping[str, PaymentStatus] = {
    "created": PaymentStatus.PENDING,
    "requires_action": PaymentStatus.PENDING,
    "pending": PaymentStatus.PENDING,
    "success": PaymentStatus.PAID,
    # The order does not say how much went back; the refund's own message does.
    "partial_refunded": PaymentStatus.PAID,
    "refunded": PaymentStatus.REFUNDED,
    "failed": PaymentStatus.FAILED,
}
"""``created`` stands in no enum, but in the events of Clink's own command line tool."""

RESULTS: Mapping[str, PaymentStatus] = {
    "1": PaymentStatus.PAID,
    "2": PaymentStatus.PENDING,
    "3": PaymentStatus.FAILED,
    "5": PaymentStatus.PENDING,
}
"""``status`` of a direct call; 5 comes with an ``action``."""

NEXT_ACTION = "5"

SESSION_STATUSES = frozenset({"open", "complete", "completed", "expired"})
"""The guide says complete where the reference says completed."""

REFUND_STATUSES: Mapping[str, RefundStatus] = {
    "created": RefundStatus.PENDING,
    "received": RefundStatus.PENDING,
    "refunding": RefundStatus.PENDING,
    "success": RefundStatus.SUCCEEDED,
    "failed": RefundStatus.FAILED,
    # Nobody says whether money moved before it was closed, so a person looks.
    "closed": RefundStatus.UNKNOWN,
}

REFUND_REASONS: Mapping[str, int] = {
    "duplicate": 0,
    "duplicate payment": 0,
    "fraud": 1,
    "fraudulent": 1,
    "fraudulent activity": 1,
    "requested_by_customer": 2,
    "customer initiated refund": 2,
}
"""Reason of a refund → ``refundReasonType``; any other text is 3 (other)."""

PLAN_STATUSES: Mapping[str, PlanStatus] = {
    "incomplete": PlanStatus.PENDING,
    "free_trial": PlanStatus.ACTIVE,
    "active": PlanStatus.ACTIVE,
    "past_due": PlanStatus.PAST_DUE,
    "cancelled": PlanStatus.CANCELED,  # codespell:ignore cancelled
    "incomplete_expired": PlanStatus.ENDED,
}

PERIOD_STARTS = ("currentPeriodStart", "periodStart")
"""Where an invoice may say when its period begins; its fields are not published. A
subscription has both names, and only the second moves on with each period."""

DISPUTE_REVERSED = frozenset({"3", "5"})
"""``status`` of a dispute that was won (3) or withdrawn (5); 1 and 2 are open, 4 lost."""

DECLINE_CODES: Mapping[str, DeclineCode] = {
    "card_declined": DeclineCode.GENERIC,
    "processor_communication_error": DeclineCode.TEMPORARY,
}
"""The two published ``failureCode``; whatever is not listed is *generic*."""

METHOD_DETAILS: Mapping[str, str] = {
    "cardScheme": "card_brand",
    "cardLastFour": "card_last4",
    "issuerRegion": "issuer_region",
    "issuerBank": "issuer_bank",
}
"""Field of an order's ``paymentMethod`` → name in `PaymentSnapshot.details`."""

_ID = r"[!-~]{1,100}"
_TEXT = r".{1,255}"
_FLAG = r"true|false"

_PRICE_FIELDS = {"customerId": _ID, "productId": _ID, "priceId": _ID}
_DIRECT_FIELDS = {
    **_PRICE_FIELDS,
    "paymentInstrumentId": _ID,
    "paymentCurrency": r"[A-Z]{3}",
    "deviceType": r"Android|iOS",
    "promotionCode": _ID,
    "cpfName": _TEXT,
    "cpfNumber": r"[0-9.-]{11,14}",
    "upiName": _TEXT,
    "phoneNumber": r"[0-9+() -]{5,40}",
}

PROVIDER_DATA: Mapping[str, Mapping[str, str]] = {
    # call: its fields and the pattern of their values
    "session": {
        **_PRICE_FIELDS,
        "directPaymentQrCodePaymentMethodType": r"CASHAPP|QRIS",
        "localPriceOnly": _FLAG,
        "allowPromotionCodes": _FLAG,
        "showPromotionCode": _FLAG,
        "promotionCode": _ID,
    },
    "payment": _DIRECT_FIELDS,
    "subscription": _DIRECT_FIELDS,
}
"""What a shop may add in ``provider_data`` to each call, in the reference's own names.

Beside them may stand ``metadata`` (texts by name), ``paymentMethodTypeBlackList`` (a list
of methods, ``session`` only) and ``billingAddress`` (the other two)."""

PROMOTIONS = ("allowPromotionCodes", "showPromotionCode", "promotionCode")
"""Fields that may lower what the buyer is charged."""

_TEST_HOSTS = frozenset({"uat-api.clinkbill.com", "api.clinkbill.dev"})
_MONEY = frozenset({PaymentStatus.PAID, PaymentStatus.REFUNDED})

_MAX_METADATA_KEYS = 20
_MAX_METADATA_KEY = 40
_MAX_METADATA_VALUE = 500
_MAX_REMARK = 500
_PAGE_SIZE = 50

_CANCEL_REASON = "Canceled by the merchant"

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_WEB_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_APP_URL = re.compile(r"(?!javascript:|data:|vbscript:)[a-z][a-z0-9+.-]*:\S+", re.I)
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,[0-9A-Za-z+/]+=*")
_BASE64 = re.compile(r"[0-9A-Za-z+/]{16,}=*")
_PRIVATE = re.compile(r"\S+@\S+|(?=\w*[0-9])\w{20,}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MILLISECONDS = 10**11
"""Smaller numbers are seconds: only ``expiresAt`` of a wallet is documented as such."""

# A renewal's period begins a day later at the earliest; clocks differ by less.
_SAME_PERIOD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinkOptions(ProviderOptions):
    """``OPTIONS`` of one Clink account."""

    api_key: Secret = field(
        metadata={"help": "the secret key: 'sk_test_…' or 'sk_prod_…'"}
    )
    webhook_secret: Secret = field(
        metadata={"help": "the signing secret of the webhook endpoint: 'whsec_…'"}
    )
    base_url: str = field(
        metadata={
            "help": "with its path: 'https://uat-api.clinkbill.com/api', or "
            "'https://api.clinkbill.com/api' for real money",
            "url": True,
        }
    )
    webhook_tolerance: timedelta = field(
        default=timedelta(seconds=300),
        metadata={"help": "how far a webhook's time may be from ours, either way"},
    )
    promotions: bool = field(
        default=False,
        metadata={
            "help": "your promotion codes at Clink may lower what is charged; without "
            "it a lower charge waits for a person"
        },
    )
    site_url: str | None = field(
        default=None,
        metadata={
            "help": "your shop's address, for answer_account and as return address of "
            "charges without a buyer",
            "url": True,
        },
    )
    answer_account: bool = field(
        default=False,
        metadata={
            "help": "answer order.succeeded with the account record that newer pages of "
            "Clink describe"
        },
    )


class ClinkProvider(Provider):
    """One Clink account."""

    slug = "clink"
    display_name = "Clink"
    docs_url = "https://docs.clinkbill.com/"
    capabilities = frozenset(
        {
            Capability.FETCH,
            Capability.REFRESH_ACTION,
            Capability.REFUND,
            Capability.PARTIAL_REFUND,
            Capability.FETCH_REFUND,
            Capability.TOKENS,
            Capability.PLANS,
            Capability.FETCH_PLAN,
            Capability.CANCEL_PLAN,
        }
    )
    amount_format = AmountFormat.MAJOR_NUMBER
    webhook_trust = WebhookTrust.SIGNED
    options_class = ClinkOptions
    repeatable = frozenset({Capability.REFUND})
    # The list of the reference is that of prices; payments take "ISO code".
    currencies = frozenset[str]()
    methods = tuple(
        Method(
            code=code,
            kind=kind,
            name=name,
            currencies=frozenset({currency} if currency else ()),
        )
        for code, (kind, name, currency) in _KINDS.items()
    )
    takes_saved_methods = True

    options: ClinkOptions

    def problems(self) -> Sequence[str]:
        """Return contradictions between the options."""
        found = []
        key = self.options.api_key.current
        parts = urlsplit(self.options.base_url)
        host = parts.hostname or ""
        if key.startswith("pk_"):
            found.append(
                "OPTIONS['api_key'] is a publishable key; use the secret one, 'sk_…'"
            )
        if key.startswith("sk_test_") and host == "api.clinkbill.com":
            found.append(
                "OPTIONS['api_key'] is a test key, but ['base_url'] takes real money"
            )
        if key.startswith("sk_prod_") and host in _TEST_HOSTS:
            found.append(
                "OPTIONS['api_key'] is a live key, but ['base_url'] is for tests"
            )
        if host.endswith("clinkbill.com") and not parts.path.strip("/"):
            found.append(f"OPTIONS['base_url'] has no path; use 'https://{host}/api'")
        if self.options.answer_account and self.options.site_url is None:
            found.append(
                "OPTIONS['site_url'] is missing: answer_account names your shop by it"
            )
        if self.options.webhook_tolerance <= timedelta():
            found.append(
                "OPTIONS['webhook_tolerance'] must be above zero; Clink's tools use 300"
            )
        return found

    def deploy_problems(self) -> Sequence[str]:
        """Return what belongs to tests or to a laptop."""
        found = []
        parts = urlsplit(self.options.base_url)
        if parts.hostname in _TEST_HOSTS:
            found.append("OPTIONS['base_url'] is the test system; no money will arrive")
        if self.options.api_key.current.startswith("sk_test_"):
            found.append("OPTIONS['api_key'] is a test key; no money will arrive")
        urls = {"base_url": self.options.base_url, "site_url": self.options.site_url}
        for name, url in urls.items():
            if url is not None and urlsplit(url).scheme != "https":
                found.append(
                    f"OPTIONS[{name!r}] is not https; anybody on the way could read"
                )
        return found

    def can_take(self, amount: Money) -> bool:
        """Say whether the amount can be written in an ISO currency."""
        try:
            money.to_minor(amount, self.exponents)
        except InvalidAmount:
            return False
        return len(amount.currency.code) == 3 and amount.amount > 0

    # A payment's life ---------------------------------------------------------------

    def start_payment(self, request: PaymentRequest) -> PaymentSnapshot:
        """Open the hosted page, or pay directly with a method or a saved instrument.

        Direct are the methods whose instrument Clink makes, PIX and UPI with their
        data in ``provider_data``, and every method with an instrument; the others open
        the hosted page with the method chosen.
        """
        if request.plan is not None:
            return self.start_plan(request)
        token = _Token.read(request.token)
        method = _direct_method("payment", request, token)
        if not method:
            return self._open_session(request)
        extra = self._extra("payment", request)
        _check_price(extra)
        price = (
            {"productId": extra["productId"], "priceId": extra["priceId"]}
            if "priceId" in extra
            else self._price_fields(request)
        )
        body = {
            **self._direct_body("payment", request, method, token, extra),
            **price,
        }
        return self._pay("payment", request.merchant_reference, request.amount, body)

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Return the order: by its id, through its session, or by our reference.

        A failed order of a session that is still open decides nothing: the buyer may
        try again there.
        """
        if order_id := _order_id(query):
            order = self._get(f"/order/{_part(order_id)}", "get_order")
            return self._order_snapshot(order, query.merchant_reference)
        if not query.provider_reference:
            return self._find_order(query.merchant_reference) or PaymentSnapshot(
                status=PaymentStatus.PENDING,
                merchant_reference=query.merchant_reference,
                provider_status="NONE",
            )
        session = self._session(query)
        if not (order_id := _text(session.get("orderId"))):
            snapshot = self._session_snapshot(session, query.merchant_reference)
            if session.get("amountSubtotal") is None:
                snapshot = replace(snapshot, amount=query.amount)
            return snapshot
        order = self._get(f"/order/{_part(order_id)}", "get_order")
        snapshot = self._order_snapshot(order, query.merchant_reference)
        is_open = _text(session.get("status")) == "open"
        if snapshot.status is PaymentStatus.FAILED and is_open:
            snapshot = replace(snapshot, status=PaymentStatus.PENDING, decline=None)
        return replace(snapshot, plan=self._session_plan(session, snapshot.status))

    def refresh_action(self, query: PaymentQuery) -> PaymentSnapshot:
        """Return a fresh code for Cash App, the only method that has the call."""
        if query.method not in {"", "CASHAPP"}:
            raise UnsupportedOperation(
                f"Clink makes a fresh code for CASHAPP only, not for {query.method}; "
                "start a new payment",
                "method",
            )
        order_id = _order_id(query)
        if not order_id:
            raise InvalidOperation(
                "the payment has no order at Clink yet; send the buyer to its page",
                "provider_reference",
            )
        operation = "refresh_qr_code"
        data = self._post(f"/payment/{_part(order_id)}/qrcode/refresh", operation)
        return PaymentSnapshot(
            status=PaymentStatus.PENDING,
            provider_reference=order_id,
            merchant_reference=query.merchant_reference,
            amount=query.amount,
            method="CASHAPP",
            next_action=self._next_action(data.get("action"), operation),
        )

    def refund_payment(self, request: RefundRequest) -> RefundSnapshot:
        """Give money back; the same ``merchant_reference`` gives the same refund.

        The order is read first: a refund has no currency on the wire, so one of a
        payment that Clink converted would give back another amount than was meant.
        """
        if request.amount.amount <= 0:
            raise InvalidAmount("a refund must be above zero", "amount")
        order_id = _order_id(request.query) or self._resolve_order(request.query)
        order = self._get(f"/order/{_part(order_id)}", "get_order")
        charged = _text(order.get("paymentCurrency"))
        if charged not in {"", request.amount.currency.code}:
            raise InvalidOperation(
                f"Clink charged this payment in {charged}; refund it at Clink's "
                "dashboard, where the currency can be seen",
                "amount",
            )
        kind = REFUND_REASONS.get(request.reason.strip().lower(), 3)
        body = {
            "orderId": order_id,
            "refundMerchantOrderId": request.merchant_reference,
            "refundAmount": self.wire_amount(request.amount),
            "refundReasonType": _reason_type(request.provider_data, kind),
            "remark": request.reason[:_MAX_REMARK],
        }
        data = self._post("/refund", "create_refund", _without_blanks(body))
        return self._refund_snapshot(data)

    def fetch_refund(self, query: RefundQuery) -> RefundSnapshot:
        """Return the refund by Clink's id of it.

        Clink finds none by our own reference, so one whose id was lost stays
        *unknown*; `refund_payment` with the same reference returns it.
        """
        if not query.provider_reference:
            return RefundSnapshot(
                status=RefundStatus.UNKNOWN,
                merchant_reference=query.merchant_reference,
            )
        path = f"/refund/{_part(query.provider_reference)}"
        return self._refund_snapshot(self._get(path, "get_refund"))

    def charge_token(self, request: TokenChargeRequest) -> PaymentSnapshot:
        """Charge a saved instrument; the customer it belongs to is part of the token.

        Clink demands a return URL although no buyer is there to return.
        """
        self._check_amount(request.amount)
        token = _Token.read(request.token)
        body = {
            **_customer(token.customer_id, request.buyer, ""),
            "paymentInstrumentId": token.instrument_id,
            "paymentMethodType": token.method,
            "returnUrl": self.options.site_url or self.options.base_url,
            "merchantReferenceId": request.merchant_reference,
            **self._price_fields(request),
        }
        return self._pay("payment", request.merchant_reference, request.amount, body)

    def start_plan(self, request: PaymentRequest) -> PaymentSnapshot:
        """Start the subscription of a recurring price that was made at Clink.

        The price decides amount and interval, so ``provider_data`` must name it; what
        is charged first must be the payment's amount, or the core holds it.
        """
        token = _Token.read(request.token)
        method = _direct_method("subscription", request, token)
        extra = self._extra("subscription" if method else "session", request)
        if not {"productId", "priceId"} <= set(extra):
            raise InvalidOperation(
                "a plan needs the recurring price it charges; put productId and "
                "priceId of Clink's dashboard into provider_data",
                "provider_data.priceId",
            )
        if not method:
            return self._open_session(request)
        body = {
            **self._direct_body("subscription", request, method, token, extra),
            "productId": extra["productId"],
            "priceId": extra["priceId"],
            "paymentCurrency": extra.get(
                "paymentCurrency", request.amount.currency.code
            ),
        }
        return self._pay(
            "subscription", request.merchant_reference, request.amount, body
        )

    def fetch_plan(self, reference: str) -> PlanSnapshot:
        """Return the subscription."""
        return self._plan_snapshot(
            self._get(f"/subscription/{_part(reference)}", "get_subscription"),
            reference,
        )

    def cancel_plan(self, request: PlanCancelRequest) -> PlanSnapshot:
        """End the subscription, now (without a refund) or with its paid period.

        What Clink answers is not published; without a status the wish was fulfilled.
        """
        path = f"/subscription/{_part(request.provider_reference)}/cancel"
        body = {
            "reason": _CANCEL_REASON,
            "cancelReasonCode": "other_reasons",
            "cancelImmediately": not request.at_period_end,
        }
        answer = self._send(path, "cancel_subscription", method="POST", body=body)
        data = answer.get("data")
        if isinstance(data, Mapping) and _text(data.get("status")):
            return self._plan_snapshot(data, request.provider_reference)
        is_over = not request.at_period_end
        return PlanSnapshot(
            reference=request.provider_reference,
            status=PlanStatus.CANCELED if is_over else PlanStatus.ACTIVE,
        )

    # Inbound ------------------------------------------------------------------------

    def verify_webhook(self, incoming: IncomingRequest) -> None:
        """Check the signature over the raw body, then the age, before anything is read.

        Some pages list ``X-API-KEY`` for webhooks; it never comes and is not expected.
        """
        if incoming.method != "POST":
            raise MalformedWebhook(f"{self.alias}: Clink sends its messages by POST")
        kind = incoming.headers.get("x-clink-signtype", "SHA256")
        if kind.upper() != "SHA256":
            raise SignatureMismatch(
                f"{self.alias}: the signature is of the kind {storable(kind, 20)!r}"
            )
        stamp = incoming.headers.get("x-clink-timestamp", "")
        signature = incoming.headers.get("x-clink-signature", "")
        verify_hmac_sha256(
            stamp.encode("utf-8", "surrogatepass") + b"." + incoming.body,
            signature.lower(),
            self.options.webhook_secret.values,
        )
        check_timestamp(stamp, datetime.now(UTC), self.options.webhook_tolerance)

    def parse_webhook(self, incoming: IncomingRequest) -> Sequence[ProviderEvent]:
        """Return what the message says, if it is about payments or plans.

        A subscription's order does not name its subscription, so Clink is asked for the
        invoice of such an order; ``invoice.paid`` reports the same money once more and
        is therefore no event.
        """
        event = _read_event(incoming.body)
        kind, resource = _text(event.get("type")), _resource(event)
        occurred_at = _moment(event.get("created"))
        match kind.partition(".")[0]:
            case "order":
                found = self._order_event(resource, occurred_at)
            case "refund":
                found = self._refund_event(resource, occurred_at)
            case "dispute":
                found = self._dispute_event(kind, resource, occurred_at)
            case "session":
                word = kind.partition(".")[2]
                session = {"status": word, **_without_nulls(resource)}
                found = ProviderEvent(snapshot=self._session_snapshot(session))
            case "subscription":
                found = self._subscription_event(resource)
            case _:
                return ()
        return [replace(found, event_id=_text(event.get("id")))]

    def webhook_answer(
        self, outcome: WebhookOutcome, incoming: IncomingRequest | None = None
    ) -> WebhookAnswer:
        """Answer with the status alone, or with the account record if that is on."""
        answer = super().webhook_answer(outcome, incoming)
        is_wanted = self.options.answer_account and outcome == WebhookOutcome.ACCEPTED
        if incoming is None or not is_wanted:
            return answer
        body = _account_record(incoming.body, self.options.site_url or "")
        if not body:
            return answer
        return replace(answer, body=body, content_type="application/json")

    # To the wire --------------------------------------------------------------------

    def _open_session(self, request: PaymentRequest) -> PaymentSnapshot:
        extra = self._extra("session", request)
        _check_price(extra)
        operation = "create_session"
        body = {
            "originalAmount": self.wire_amount(request.amount),
            "originalCurrency": request.amount.currency.code,
            "merchantReferenceId": request.merchant_reference,
            **_customer(
                extra.pop("customerId", ""), request.buyer, request.customer_id
            ),
            "uiMode": "hostedPage",
            "successUrl": request.return_url,
            "cancelUrl": request.cancel_url,
            "paymentMethodType": request.method,
            "priceDataList": [] if "priceId" in extra else self._lines(request),
            **extra,
        }
        data = self._post("/checkout/session", operation, _without_blanks(body))
        session_id, url = _text(data.get("sessionId")), _text(data.get("url"))
        if not session_id or not _WEB_URL.fullmatch(url):
            raise self._unreadable(operation, "the answer has no session or no page")
        return PaymentSnapshot(
            status=PaymentStatus.PENDING,
            provider_reference=session_id,
            merchant_reference=request.merchant_reference,
            amount=request.amount,
            next_action=Redirect(url=url),
            expires_at=_moment(data.get("expireTime")),
        )

    def _direct_body(
        self,
        call: str,
        request: PaymentRequest,
        method: str,
        token: _Token,
        extra: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return what the two direct calls have in common."""
        customer = _customer(
            token.customer_id or extra.get("customerId", ""),
            request.buyer,
            request.customer_id,
        )
        instrument_id = token.instrument_id or extra.get("paymentInstrumentId", "")
        if not instrument_id and method not in SELF_MADE_INSTRUMENTS[call]:
            instrument_id = self._make_instrument(
                method, request.buyer, customer, extra
            )
        optional = ("deviceType", "paymentCurrency", "promotionCode", "metadata")
        return {
            **customer,
            "paymentInstrumentId": instrument_id,
            "paymentMethodType": method,
            "returnUrl": request.return_url,
            "merchantReferenceId": request.merchant_reference,
            "platformType": "WAP" if request.is_mobile else "WEB",
            **{name: extra[name] for name in optional if name in extra},
        }

    def _make_instrument(
        self,
        method: str,
        buyer: Buyer,
        customer: Mapping[str, str],
        extra: Mapping[str, Any],
    ) -> str:
        """Return the instrument of a PIX or UPI payer."""
        known = {
            "cpfName": buyer.name,
            "upiName": buyer.name,
            "phoneNumber": buyer.phone,
            "billingAddress": _billing_address(buyer.address),
            **extra,
        }
        fields = {name: known.get(name) for name in INSTRUMENT_FIELDS[method]}
        if missing := [name for name, value in fields.items() if not value]:
            raise InvalidOperation(
                f"{method} needs {', '.join(missing)}; put them into provider_data, or "
                "name, phone and the whole address into buyer",
                f"provider_data.{missing[0]}",
            )
        body = {
            "paymentInstrumentType": method,
            **customer,
            "customerName": buyer.name,
            **fields,
        }
        operation = "create_instrument"
        data = self._post("/payment-instrument", operation, _without_blanks(body))
        instrument_id = _text(data.get("id"))
        if not instrument_id:
            raise self._unreadable(operation, "the answer has no instrument")
        return instrument_id

    def _pay(
        self, call: str, reference: str, amount: Money, body: Mapping[str, Any]
    ) -> PaymentSnapshot:
        """Pay, unless an order with this reference is there already.

        Clink knows no idempotency key here: after a lost answer only its own list of
        orders tells whether the buyer has paid.
        """
        if existing := self._find_order(reference):
            logger.warning(
                "%s: order %s was there before it was paid again",
                self.alias,
                storable(existing.provider_reference, 100),
            )
            return existing
        data = self._post(f"/{call}", f"create_{call}", _without_blanks(body))
        return self._result_snapshot(call, reference, amount, body, data)

    def _extra(self, call: str, request: PaymentRequest) -> dict[str, Any]:
        """Return ``provider_data`` for ``call``, checked, with what we must add.

        `InvalidOperation` names a field that the call does not know, or whose value
        it does not allow, and says what to write instead.
        """
        self._check_amount(request.amount)
        if request.capture_mode != CaptureMode.AUTOMATIC:
            raise InvalidOperation(
                "Clink charges at once and cannot only authorize; leave capture_mode "
                "out",
                "capture_mode",
            )
        data = dict(request.provider_data)
        metadata = _metadata(data.pop("metadata", {}))
        if self.options.answer_account and request.customer_id:
            metadata.setdefault("userId", request.customer_id)
        extra: dict[str, Any] = {"metadata": metadata} if metadata else {}
        if call == "session" and "paymentMethodTypeBlackList" in data:
            extra["paymentMethodTypeBlackList"] = _black_list(
                data.pop("paymentMethodTypeBlackList")
            )
        if call != "session" and "billingAddress" in data:
            extra["billingAddress"] = _read_address(data.pop("billingAddress"))
        for name, value in data.items():
            extra[str(name)] = _read_field(call, name, value)
        for name in PROMOTIONS:
            if name in extra and not self.options.promotions:
                raise InvalidOperation(
                    f"provider_data.{name} may lower the charge; set OPTIONS"
                    "['promotions'] of the account to True first",
                    f"provider_data.{name}",
                )
        return extra

    def _check_amount(self, amount: Money) -> None:
        if not self.can_take(amount):
            raise InvalidAmount(
                f"Clink does not take {amount}; use an amount above zero in an ISO "
                "currency",
                "amount",
            )

    def _price_fields(
        self, request: PaymentRequest | TokenChargeRequest
    ) -> dict[str, Any]:
        return {
            "amount": self.wire_amount(request.amount),
            "currency": request.amount.currency.code,
            "priceDataList": self._lines(request),
        }

    def _lines(
        self, request: PaymentRequest | TokenChargeRequest
    ) -> list[dict[str, Any]]:
        """Return the items if Clink can take them, else the description as one line.

        A line's price must be above zero, and lines that do not add up to the amount
        would show the buyer another sum.
        """
        items = list(request.items)
        nothing = Money(Decimal(0), request.amount.currency)
        is_whole = (
            all(
                item.unit_price.currency == request.amount.currency
                and item.unit_price.amount > 0
                and item.quantity > 0
                for item in items
            )
            and sum((item.unit_price * item.quantity for item in items), nothing)
            == request.amount
        )
        if not is_whole:
            items = [LineItem(name=request.description, unit_price=request.amount)]
        return [
            {
                "name": item.name,
                "quantity": item.quantity,
                "unitAmount": self.wire_amount(item.unit_price),
                "currency": item.unit_price.currency.code,
            }
            for item in items
            if item.name
        ]

    # From the wire: payments --------------------------------------------------------

    def _session(self, query: PaymentQuery) -> Mapping[str, Any]:
        path = f"/checkout/session/{_part(query.provider_reference)}"
        return self._get(path, "get_session")

    def _find_order(self, reference: str) -> PaymentSnapshot | None:
        """Return the order that tells most about our ``reference``, or None.

        Money first, then what is still open, then the latest failure. Two paid orders
        for one reference are for a person, except where the later ones are renewals.
        """
        query = urlencode(
            {"merchantReferenceId": reference, "pageNum": 1, "pageSize": _PAGE_SIZE}
        )
        answer = self._send(f"/order?{query}", "list_orders")
        rows = answer.get("rows")
        orders = [
            order
            for order in (rows if isinstance(rows, list) else [])
            # An older version of the call does not know this filter.
            if isinstance(order, Mapping)
            and _reference(order.get("merchantReferenceId")) == reference
        ]
        if not orders:
            return None
        orders.sort(key=_created)
        found = [self._order_snapshot(order, reference) for order in orders]
        paid = [item for item in found if item.status in _MONEY]
        is_doubled = len(paid) > 1 and orders[0].get("type") != "recurring"
        if paid:
            return replace(paid[0], needs_review=is_doubled)
        waiting = [item for item in found if item.status is PaymentStatus.PENDING]
        return [*found, *waiting][-1]

    def _resolve_order(self, query: PaymentQuery) -> str:
        """Return the id of the order of a payment that was opened as a session."""
        order_id = ""
        if query.provider_reference:
            order_id = _text(self._session(query).get("orderId"))
        if not order_id and (order := self._find_order(query.merchant_reference)):
            order_id = order.provider_reference
        if not order_id:
            raise InvalidOperation(
                "Clink has no order for this payment, so nothing can be refunded",
                "payment",
            )
        return order_id

    def _order_snapshot(
        self, order: Mapping[str, Any], asked: str | None = None
    ) -> PaymentSnapshot:
        """Return an order; ``asked`` is our reference if we asked for it."""
        word = _text(order.get("status"))
        status = ORDER_STATUSES.get(word) or self._unknown("order", word)
        method = order.get("paymentMethod")
        method = method if isinstance(method, Mapping) else {}
        priced, captured, details = self._amounts(order)
        return PaymentSnapshot(
            status=status,
            provider_reference=_text(order.get("orderId")),
            merchant_reference=_reference(order.get("merchantReferenceId")) or asked,
            amount=priced,
            captured=captured if status in _MONEY else None,
            method=storable(_text(method.get("paymentMethodType")), 64),
            provider_status=storable(word, 64),
            decline=_decline(order) if status is PaymentStatus.FAILED else None,
            details={
                **_method_details(method),
                **_shown("risk_level", order.get("riskLevel")),
                **details,
            },
            occurred_at=_moment(order.get("paymentTime")),
            token=_token(order, method) if status is PaymentStatus.PAID else None,
        )

    def _session_snapshot(
        self, session: Mapping[str, Any], asked: str | None = None
    ) -> PaymentSnapshot:
        """Return what a session says by itself, without its order."""
        word = _text(session.get("status"))
        if word not in SESSION_STATUSES:
            self._unknown("session", word)
        paid, order_id = (
            _text(session.get(name)) for name in ("paymentStatus", "orderId")
        )
        status = PaymentStatus.PENDING
        if paid == "paid" and order_id:
            status = PaymentStatus.PAID
        elif word == "expired" and paid in {"", "unpaid"}:
            status = PaymentStatus.EXPIRED
        priced, captured, details = self._amounts(session)
        return PaymentSnapshot(
            status=status,
            provider_reference=order_id or _text(session.get("sessionId")),
            merchant_reference=_reference(session.get("merchantReferenceId")) or asked,
            amount=priced,
            captured=captured if status in _MONEY else None,
            provider_status=storable(word, 64),
            details=details,
            plan=self._session_plan(session, status),
        )

    def _session_plan(
        self, session: Mapping[str, Any], status: PaymentStatus
    ) -> PlanSnapshot | None:
        reference = _text(session.get("subscriptionId"))
        if not reference:
            return None
        is_active = status in _MONEY
        return PlanSnapshot(
            reference=reference,
            status=PlanStatus.ACTIVE if is_active else PlanStatus.PENDING,
        )

    def _result_snapshot(
        self,
        call: str,
        reference: str,
        asked: Money,
        body: Mapping[str, Any],
        data: Mapping[str, Any],
    ) -> PaymentSnapshot:
        """Return the answer of a direct call.

        What was asked for is the price, unless Clink's own price was asked for: then
        what it charges is, and the core compares the two. Where that is in another
        currency, or a free trial takes nothing yet, the order must prove the money.
        """
        operation = f"create_{call}"
        order_id = _text(data.get("orderId"))
        subscription_id = _text(data.get("subscriptionId"))
        if not order_id and not subscription_id:
            raise self._unreadable(operation, "the answer has no order")
        word, action = _text(data.get("status")), data.get("action")
        if not word and isinstance(action, Mapping) and action:
            word = NEXT_ACTION  # The older reference has no status beside an action.
        status = RESULTS.get(word) or self._unknown("result", word)
        total = self._money(data.get("amount"), _text(data.get("currency")))
        priced: Money | None = asked
        if "priceId" in body:
            is_comparable = total is not None and total.currency == asked.currency
            priced = total if is_comparable else None
        if status is PaymentStatus.PAID and (not order_id or priced is None):
            status = PaymentStatus.PENDING
        is_paid = status is PaymentStatus.PAID
        captured, details = self._charged(priced, total) if is_paid else (None, {})
        plan = PlanSnapshot(
            reference=subscription_id,
            status=PlanStatus.ACTIVE if word == "1" else PlanStatus.PENDING,
        )
        return PaymentSnapshot(
            status=status,
            provider_reference=order_id or _text(data.get("sessionId")),
            merchant_reference=reference,
            amount=priced if is_paid else asked,
            captured=captured,
            method=_text(body["paymentMethodType"]),
            provider_status=storable(word, 64),
            decline=_decline(data) if status is PaymentStatus.FAILED else None,
            details=details,
            next_action=self._next_action(action, operation)
            if word == NEXT_ACTION
            else None,
            plan=plan if subscription_id else None,
        )

    def _amounts(
        self, resource: Mapping[str, Any]
    ) -> tuple[Money | None, Money | None, dict[str, str]]:
        """Return the priced amount, what was charged of it, and what to show.

        The subtotal is compared in the currency we asked in; the total may be in the
        currency the buyer chose, and has discounts and taxes in it.
        """
        payment_currency = _text(resource.get("paymentCurrency"))
        currency = _text(resource.get("originalCurrency")) or payment_currency
        priced = self._money(resource.get("amountSubtotal"), currency)
        total = self._money(resource.get("amountTotal"), payment_currency or currency)
        return (priced, *self._charged(priced, total))

    def _charged(
        self, priced: Money | None, total: Money | None
    ) -> tuple[Money | None, dict[str, str]]:
        """Return what counts as captured of the price, and what to show.

        A total below the price is a discount; above it are taxes, which are not ours.
        """
        if priced is None or total is None or total == priced:
            return priced, {}
        details = {
            "charged_amount": f"{total.amount:f}",
            "charged_currency": total.currency.code,
        }
        is_less = total.currency == priced.currency and total < priced
        return total if is_less and not self.options.promotions else priced, details

    def _next_action(self, action: object, operation: str) -> NextAction | None:
        """Return the form, the code or the page that ``action`` describes."""
        action = action if isinstance(action, Mapping) else {}
        url = _web_url(action.get("redirectUrl"))
        fields = action.get("postData")
        fields = fields if isinstance(fields, Mapping) else {}
        method = _text(action.get("method")).upper() or ("POST" if fields else "GET")
        if url and method == "POST":
            return PostForm(
                url=url, fields={str(k): _text(v) for k, v in fields.items()}
            )
        wallet = action.get("walletHandleRedirectOrDisplayQrCode")
        wallet = wallet if isinstance(wallet, Mapping) else {}
        found = _wallet_action(wallet, action.get("redirectUrl"))
        if found is None:
            logger.warning(
                "%s: %s wants a next action that cannot be shown", self.alias, operation
            )
        return found

    # From the wire: everything else -------------------------------------------------

    def _order_event(
        self, order: Mapping[str, Any], occurred_at: datetime | None
    ) -> ProviderEvent:
        """Return the order; a failure is for the inquiry, because it may be one try.

        The message does not say whether the page is still open for another. A renewal
        has no page, and its failure is the plan's.
        """
        snapshot = self._order_snapshot(order)
        if snapshot.occurred_at is None:
            snapshot = replace(snapshot, occurred_at=occurred_at)
        is_failed = snapshot.status is PaymentStatus.FAILED
        is_over = is_failed or snapshot.status in _MONEY
        due_on: date | None = None
        if order.get("type") == "recurring" and is_over:
            plan, due_on = self._plan_of(order)
            snapshot = replace(snapshot, plan=plan)
        if due_on or not is_failed:
            return ProviderEvent(
                snapshot=snapshot, is_renewal=due_on is not None, due_on=due_on
            )
        claim = replace(snapshot, status=PaymentStatus.PENDING, decline=None)
        return ProviderEvent(snapshot=claim, must_fetch=True)

    def _plan_of(
        self, order: Mapping[str, Any]
    ) -> tuple[PlanSnapshot | None, date | None]:
        """Return the plan an order charged, and the period's day if it is a later one.

        A subscription's ``currentPeriodStart`` never changes: an invoice whose period
        begins later is a renewal's, whenever the message arrives.
        """
        invoice_id = _text(order.get("invoiceId"))
        if not invoice_id:
            return None, None
        invoice = self._get(f"/subscription/invoice/{_part(invoice_id)}", "get_invoice")
        reference = _text(invoice.get("subscriptionId"))
        if not reference:
            return None, None
        subscription = self._get(
            f"/subscription/{_part(reference)}", "get_subscription"
        )
        first = _moment(subscription.get("currentPeriodStart"))
        starts = [_moment(invoice.get(name)) for name in PERIOD_STARTS]
        period = max((start for start in starts if start), default=None)
        is_later = first and period and period - first > _SAME_PERIOD
        due_on = period.astimezone(UTC).date() if period and is_later else None
        return self._plan_snapshot(subscription, reference), due_on

    def _refund_event(
        self, refund: Mapping[str, Any], occurred_at: datetime | None
    ) -> ProviderEvent:
        snapshot = self._refund_snapshot(refund)
        return ProviderEvent(
            snapshot=_about_order(refund),
            refund=replace(snapshot, occurred_at=occurred_at or snapshot.occurred_at),
        )

    def _dispute_event(
        self, kind: str, dispute: Mapping[str, Any], occurred_at: datetime | None
    ) -> ProviderEvent:
        """Return the dispute; a lost one stays what it was when it was created."""
        reference = _text(dispute.get("chargeBackId"))
        amount = self._money(
            dispute.get("disputeAmount"), _text(dispute.get("disputeCurrency"))
        )
        if not reference or amount is None:
            raise MalformedWebhook(f"{self.alias}: the dispute has no id or no amount")
        status = _text(dispute.get("status"))
        is_reversed = status in DISPUTE_REVERSED or (
            not status and kind == "dispute.won"
        )
        return ProviderEvent(
            snapshot=_about_order(dispute),
            dispute=DisputeSnapshot(
                reference=reference,
                amount=amount,
                is_reversed=is_reversed,
                occurred_at=occurred_at,
            ),
        )

    def _subscription_event(self, subscription: Mapping[str, Any]) -> ProviderEvent:
        reference = _text(subscription.get("subscriptionId"))
        if not reference:
            raise MalformedWebhook(f"{self.alias}: the subscription has no id")
        return ProviderEvent(
            snapshot=PaymentSnapshot(
                status=PaymentStatus.PENDING,
                provider_reference=_text(subscription.get("sessionId")),
                # Here, and only here, the field has another name.
                merchant_reference=_reference(subscription.get("merchantReference")),
                plan=self._plan_snapshot(subscription, reference),
            )
        )

    def _plan_snapshot(
        self, subscription: Mapping[str, Any], reference: str
    ) -> PlanSnapshot:
        word = _text(subscription.get("status"))
        status = PLAN_STATUSES.get(word)
        if status is None:
            self._unknown("subscription", word)
            status = PlanStatus.PENDING
        return PlanSnapshot(
            reference=reference, status=status, next_on=_next_on(subscription, status)
        )

    def _refund_snapshot(self, refund: Mapping[str, Any]) -> RefundSnapshot:
        word = _text(refund.get("status"))
        status = REFUND_STATUSES.get(word)
        if status is None:
            self._unknown("refund", word)
            status = RefundStatus.PENDING
        return RefundSnapshot(
            status=status,
            provider_reference=_text(refund.get("refundId")),
            merchant_reference=_reference(refund.get("refundMerchantOrderId")),
            amount=self._money(
                refund.get("refundAmount"), _text(refund.get("refundCurrency"))
            ),
            decline=_decline(refund) if status is RefundStatus.FAILED else None,
            occurred_at=_moment(refund.get("createTime")),
        )

    def _money(self, value: object, currency: str) -> Money | None:
        """Return an amount; None, which the core holds, if it cannot be read."""
        if value in (None, "") or not currency:
            return None
        try:
            return self.read_amount(value, currency)
        except InvalidAmount as error:
            logger.warning("%s: an amount cannot be read: %s", self.alias, error)
            return None

    def _unknown(self, what: str, word: str) -> PaymentStatus:
        logger.warning(
            "%s: %s status %r is unknown and counts as pending",
            self.alias,
            what,
            storable(word, 40),
        )
        return PaymentStatus.PENDING

    # The wire -----------------------------------------------------------------------

    def _get(self, path: str, operation: str) -> Mapping[str, Any]:
        return self._data(self._send(path, operation), operation, is_read=True)

    def _post(
        self, path: str, operation: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        answer = self._send(path, operation, method="POST", body=body)
        return self._data(answer, operation, is_read=False)

    def _data(
        self, answer: Mapping[str, Any], operation: str, *, is_read: bool
    ) -> Mapping[str, Any]:
        data = answer.get("data")
        if not isinstance(data, Mapping):
            raise self._unreadable(operation, "the answer has no data", is_read=is_read)
        return data

    def _send(
        self,
        path: str,
        operation: str,
        *,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the envelope of an answer whose ``code`` says success.

        ``msg`` is not looked at: it is ``success`` on one page and ``Success`` on
        another. The time is called a part of a signature, but nothing is signed.
        """
        request = HttpRequest(
            operation=operation,
            method=method,
            url=f"{self.options.base_url.rstrip('/')}{path}",
            headers={
                "X-API-KEY": self.options.api_key.current,
                "X-Timestamp": str(time.time_ns() // 1_000_000),
            },
            json=body,
            is_read=method == "GET",
        )
        response = self.http.send(request)
        is_success = 200 <= response.status < 300
        try:
            answer = read_json(request, response, self.alias)
        except (UnexpectedAnswer, OutcomeUnknown):
            if is_success:
                raise
            answer = {}  # The documented 401 is a bare text.
        code = _number(answer.get("code"))
        if not is_success or code != SUCCESS:
            raise self._refusal(request, response, answer, code)
        return answer

    def _refusal(
        self,
        request: HttpRequest,
        response: HttpResponse,
        answer: Mapping[str, Any],
        code: int,
    ) -> ProviderError:
        """Return the error a refusal stands for; its ``code`` mirrors HTTP statuses.

        A code nobody documented says nothing about whether a write was done.
        """
        said = _text(answer.get("msg"))
        named = next((name for name in NAMED_ERRORS if name in said), "")
        is_success = 200 <= response.status < 300
        seen = replace(response, status=code) if is_success else response
        error = error_for_status(request, seen, self.alias)
        kind = RequestRejected if named else type(error)
        return kind(
            _harmless(said) or error.message,
            self.alias,
            request.operation,
            code=named or (str(code) if code else ""),
            http_status=response.status,
            retry_after=error.retry_after,
        )

    def _unreadable(
        self, operation: str, message: str, *, is_read: bool = False
    ) -> ProviderError:
        kind = UnexpectedAnswer if is_read else OutcomeUnknown
        return kind(message, self.alias, operation)


@dataclass(frozen=True, slots=True)
class _Token:
    """A saved instrument with all that a charge without its buyer needs.

    Written ``pi_…:CARD:cus_…``: Clink wants the method again, and a customer, who may
    have another address by then. A bare ``pi_…`` is a card's.
    """

    instrument_id: str = ""
    method: str = "CARD"
    customer_id: str = ""

    @classmethod
    def read(cls, text: str) -> _Token:
        instrument_id, _, rest = text.partition(":")
        method, _, customer_id = rest.partition(":")
        return cls(instrument_id, method or "CARD", customer_id)

    def __str__(self) -> str:
        return f"{self.instrument_id}:{self.method}:{self.customer_id}"


# To the wire, without an account ----------------------------------------------------


def _direct_method(call: str, request: PaymentRequest, token: _Token) -> str:
    """Return the method to charge without the hosted page, or "" for the page."""
    method = request.method or (token.method if token.instrument_id else "")
    data = request.provider_data
    has_instrument = bool(token.instrument_id or data.get("paymentInstrumentId"))
    has_payer = any(name in data for name in INSTRUMENT_FIELDS.get(method, ()))
    is_ready = has_instrument or has_payer or method in SELF_MADE_INSTRUMENTS[call]
    places = METHODS.get(method, ()) if method else ("session",)
    if is_ready and call in places:
        return method
    if has_instrument or "session" not in places:
        wanted = {call} if has_instrument else {call, "session"}
        known = [name for name, calls in METHODS.items() if wanted & {*calls}]
        raise InvalidOperation(
            f"method {method[:20]!r} is not one that Clink takes for this; use one of: "
            f"{', '.join(known)}",
            "method",
        )
    return ""


def _customer(customer_id: str, buyer: Buyer, reference: str) -> dict[str, str]:
    """Return who pays: by Clink's own id, else the e-mail address, else our id.

    One name only. Two must belong to one customer, and a buyer who comes back with
    another account of the shop, or with a new address, would be refused.
    """
    if customer_id:
        return {"customerId": customer_id}
    if buyer.email and not _EMAIL.fullmatch(buyer.email):
        raise InvalidOperation(
            "buyer.email is not an e-mail address; give one such as 'a@example.com'",
            "buyer.email",
        )
    if buyer.email:
        return {"customerEmail": buyer.email}
    if not reference:
        raise InvalidOperation(
            "Clink must know who pays; give buyer.email or customer_id", "buyer.email"
        )
    return {"referenceCustomerId": reference}


def _check_price(extra: Mapping[str, Any]) -> None:
    if ("productId" in extra) != ("priceId" in extra):
        raise InvalidOperation(
            "provider_data.productId and provider_data.priceId go together; give both "
            "or neither",
            "provider_data.priceId",
        )


def _read_field(call: str, name: object, value: object) -> object:
    path = f"provider_data.{name}"
    known = PROVIDER_DATA[call]
    if not isinstance(name, str) or name not in known:
        _refuse(
            path,
            f"is unknown to Clink's {call}; remove it or use one of: "
            f"{', '.join([*known, 'metadata'])}",
        )
    pattern = known[name]
    if pattern == _FLAG:
        if not isinstance(value, bool):
            _refuse(path, "must be True or False")
        return value
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        _refuse(path, f"must be text that matches {pattern}")
    return value


def _refuse(path: str, problem: str) -> NoReturn:
    raise InvalidOperation(f"{path} {problem}", path)


def _metadata(value: object) -> dict[str, str]:
    path = "provider_data.metadata"
    if not isinstance(value, Mapping):
        _refuse(path, "must be a mapping of texts")
    if len(value) > _MAX_METADATA_KEYS:
        _refuse(path, f"has more than {_MAX_METADATA_KEYS} names; remove some")
    for name, text in value.items():
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_METADATA_KEY:
            _refuse(path, f"needs names of 1 to {_MAX_METADATA_KEY} characters")
        if not isinstance(text, str) or len(text) > _MAX_METADATA_VALUE:
            _refuse(
                f"{path}.{name}",
                f"must be text of at most {_MAX_METADATA_VALUE} characters",
            )
    return dict(value)


def _black_list(value: object) -> list[str]:
    hosted = [name for name, calls in METHODS.items() if "session" in calls]
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(name, str) and name in hosted for name in value
    ):
        _refuse(
            "provider_data.paymentMethodTypeBlackList",
            f"must be a list of: {', '.join(hosted)}",
        )
    return list(value)


_ADDRESS_FIELDS = ("city", "region", "country", "line1", "postalCode")


def _read_address(value: object) -> dict[str, str]:
    path = "provider_data.billingAddress"
    if not isinstance(value, Mapping) or not set(value) <= {*_ADDRESS_FIELDS, "line2"}:
        _refuse(path, f"must be a mapping of {', '.join(_ADDRESS_FIELDS)}")
    if not set(_ADDRESS_FIELDS) <= set(value) or not all(
        isinstance(text, str) and re.fullmatch(_TEXT, text) for text in value.values()
    ):
        _refuse(path, f"needs {', '.join(_ADDRESS_FIELDS)}, each of them text")
    return dict(value)


def _billing_address(address: Address | None) -> dict[str, str]:
    """Return the buyer's address, or nothing if a part that is demanded is missing."""
    if address is None:
        return {}
    values = {
        "city": address.city,
        "region": address.state,
        "country": address.country,
        "line1": address.street,
        "postalCode": address.postal_code,
    }
    return values if all(values.values()) else {}


def _reason_type(data: Mapping[str, Any], fitting: int) -> int:
    for name in data:
        if name != "refundReasonType":
            _refuse(
                f"provider_data.{name}",
                "is unknown to Clink's refund; remove it or use refundReasonType",
            )
    chosen = data.get("refundReasonType", fitting)
    if type(chosen) is not int or not 0 <= chosen <= 3:
        _refuse("provider_data.refundReasonType", "must be 0, 1, 2 or 3")
    return chosen


def _order_id(query: PaymentQuery) -> str:
    """Return the order as far as it is known; what we opened may be a session."""
    if query.transaction_reference:
        return query.transaction_reference
    is_session = query.provider_reference.startswith("sess_")
    return "" if is_session else query.provider_reference


def _part(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _without_blanks(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in values.items() if value not in ("", None, [], {})
    }


# From the wire, without an account --------------------------------------------------


def _read_event(body: bytes) -> Mapping[str, Any]:
    try:
        event = loads_strict(body)
    except ValueError as error:
        cause = error.with_traceback(None)
        raise MalformedWebhook("the message is not valid JSON") from cause
    if not isinstance(event, Mapping) or not _text(event.get("type")):
        raise MalformedWebhook("the message is not an event")
    return event


def _resource(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the event is about; older messages have it directly in ``data``."""
    data = event.get("data")
    resource = data.get("object") if isinstance(data, Mapping) else None
    if isinstance(resource, Mapping):
        return resource
    if isinstance(data, Mapping) and resource is None:
        return data
    raise MalformedWebhook("the event has no data")


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _about_order(resource: Mapping[str, Any]) -> PaymentSnapshot:
    """Return which payment a refund or a dispute is about; it claims nothing else.

    The order is exact: a renewal's may carry the reference of the first payment.
    """
    order_id = _text(resource.get("orderId"))
    reference = _reference(resource.get("merchantReferenceId"))
    return PaymentSnapshot(
        status=PaymentStatus.PENDING,
        provider_reference=order_id,
        merchant_reference=None if order_id else reference,
    )


def _text(value: object) -> str:
    """Return a JSON text or whole number as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    """Return a whole number, also one written as text, or 0."""
    text = _text(value)
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else 0


def _reference(value: object) -> str | None:
    """Return a reference, or None: Clink has sent ``"null"`` and a blank for it."""
    text = _text(value).strip()
    return None if text in {"", "null"} else text


def _moment(value: object) -> datetime | None:
    """Return Unix seconds, Unix milliseconds or ISO 8601 with a zone as a moment."""
    text = _text(value)
    try:
        if re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
            number = int(text)
            is_seconds = number < _FIRST_MILLISECONDS
            return _EPOCH + timedelta(milliseconds=number * (1000 if is_seconds else 1))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else None


def _created(order: Mapping[str, Any]) -> datetime:
    return _moment(order.get("createTime")) or _EPOCH


def _next_on(subscription: Mapping[str, Any], status: PlanStatus) -> date | None:
    """Return the day of the next charge (UTC): the end of the running period.

    ``currentPeriodStart`` never moves, so the running period is that of the item.
    """
    is_ending = subscription.get("cancelAtPeriodEnd") is True
    if status is not PlanStatus.ACTIVE or is_ending:
        return None
    item = subscription.get("recurringInvoiceItem")
    end = item.get("periodEnd") if isinstance(item, Mapping) else None
    moment = _moment(end) or _moment(subscription.get("currentPeriodEnd"))
    return moment.astimezone(UTC).date() if moment else None


def _method_details(method: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for theirs, ours in METHOD_DETAILS.items():
        found |= _shown(ours, method.get(theirs))
    if "card_last4" in found:
        found["card_last4"] = found["card_last4"][-4:]
    return found


def _shown(name: str, value: object) -> dict[str, str]:
    text = storable(_text(value), 255)
    return {name: text} if text else {}


def _token(order: Mapping[str, Any], method: Mapping[str, Any]) -> TokenSnapshot | None:
    instrument_id = _text(method.get("paymentInstrumentId"))
    kind = _text(method.get("paymentMethodType"))
    if not instrument_id or "payment" not in METHODS.get(kind, ()):
        return None
    customer_id = _text(order.get("customerId"))
    return TokenSnapshot(
        reference=str(_Token(instrument_id, kind, customer_id)),
        brand=_text(method.get("cardScheme")),
        last4=_text(method.get("cardLastFour"))[-4:],
    )


def _decline(resource: Mapping[str, Any]) -> Decline:
    code = _text(resource.get("failureCode"))
    return Decline(
        code=DECLINE_CODES.get(code, DeclineCode.GENERIC),
        provider_code=storable(code, 40),
        message=_harmless(_text(resource.get("failureMessage"))),
    )


def _wallet_action(
    wallet: Mapping[str, Any], redirect_url: object
) -> NextAction | None:
    """Return the code of a wallet with its links, or a page if there is no code.

    Without a picture the app's own link is drawn: it is what such a code holds.
    """
    image = _image(wallet)
    page = (
        _web_url(wallet.get("hostedInstructionsUrl"))
        or _web_url(wallet.get("fallbackUrl"))
        or _web_url(redirect_url)
    )
    link = _app_url(wallet.get("mobileAuthUrl"))
    if not link and not _web_url(redirect_url):
        link = _app_url(redirect_url)
    if not image and not link:
        return Redirect(url=page) if page else None
    return QRCode(
        data="" if image else link,
        image=image,
        deep_link=link,
        fallback_url=_web_url(wallet.get("fallbackUrl")) or page,
        expires_at=_code_expiry(wallet),
    )


def _code_expiry(wallet: Mapping[str, Any]) -> datetime | None:
    if moment := _moment(wallet.get("expiresAt")):
        return moment
    seconds = _number(wallet.get("expiresSecond"))
    return datetime.now(UTC) + timedelta(seconds=seconds) if seconds else None


def _image(wallet: Mapping[str, Any]) -> str:
    """Return the picture of a code, as a URL if there is one, else as a data URL.

    The fields named URL may hold the picture itself, in Base64.
    """
    given = {
        # Base64 is often broken into lines.
        name: "".join(_text(wallet.get(name)).split())
        for name in ("imageUrlPng", "imageUrlSvg", "imageDataUrl")
    }
    for text in given.values():
        if _WEB_URL.fullmatch(text):
            return text
    for name, text in given.items():
        if _DATA_URL.fullmatch(text):
            return text
        if _BASE64.fullmatch(text):
            kind = "svg+xml" if name == "imageUrlSvg" else "png"
            return f"data:image/{kind};base64,{text}"
    return ""


def _web_url(value: object) -> str:
    text = _text(value)
    return text if _WEB_URL.fullmatch(text) else ""


def _app_url(value: object) -> str:
    """Return a link of the web or of an app, unless it is a script."""
    text = _text(value)
    return text if _APP_URL.fullmatch(text) else ""


def _account_record(body: bytes, site_url: str) -> str:
    """Return the answer to ``order.succeeded``, or "" for any other message.

    The same message gives the same answer. The amount is copied digit by digit.
    """
    try:
        event = _read_event(body)
        order = _resource(event)
    except MalformedWebhook:
        return ""
    amount = order.get("amountTotal")
    email = _text(order.get("customerEmail"))
    currency = _text(order.get("paymentCurrency"))
    metadata = order.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    user_id = _text(metadata.get("userId")) or _reference(
        order.get("merchantReferenceId")
    )
    if not isinstance(amount, (int, Decimal)) or isinstance(amount, bool):
        return ""
    is_whole = bool(email and currency and user_id)
    if event.get("type") != "order.succeeded" or not is_whole:
        return ""
    fields = {
        "customerEmail": json.dumps(email),
        "webSite": json.dumps(site_url),
        "userId": json.dumps(user_id),
        "amount": f"{Decimal(amount):f}",
        "currency": json.dumps(currency),
    }
    data = ",".join(f'"{name}":{text}' for name, text in fields.items())
    return f'{{"object":"event","type":"account.reloaded","data":{{{data}}}}}'


def _harmless(message: str) -> str:
    """Return the provider's words without addresses, keys and card numbers."""
    return _PRIVATE.sub(MASK, storable(message, 1000))[:200]
