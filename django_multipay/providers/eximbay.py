"""Eximbay: Korean and cross-border cards, wallets, bank deposits on one hosted page.

Reference: https://developer.eximbay.com/eng/eximbay/api_list/reference.html
(read 2026-11-21; the JSON API ``/v1/payments``, with the browser SDK of version 2).
What other sources add is marked with theirs; `docs/providers/eximbay.md` names them.

Amounts: decimal text in major units (``"26.30"``), the same text in every call.
Webhooks: a form or query string with an ``fgkey``, checked by asking Eximbay itself.
Proof of payment: the inquiry (``retrieve``); a genuine notice is only its occasion.
Idempotency: none but that ``order_id`` and ``refund_id`` work once. A repetition is
refused, by a code nobody published, so a refused write is followed by the inquiry.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

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
    CredentialsRejected,
    InvalidAmount,
    InvalidOperation,
    MalformedWebhook,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    SignatureMismatch,
    UnexpectedAnswer,
)
from django_multipay.http import error_for_status, read_json
from django_multipay.messages import (
    Address,
    BankAccount,
    Buyer,
    CaptureRequest,
    ConfirmRequest,
    Decline,
    HttpRequest,
    IncomingRequest,
    LineItem,
    Method,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    PlanCancelRequest,
    PlanChangeRequest,
    PlanSnapshot,
    PlanTerms,
    ProviderEvent,
    ProviderScript,
    RefundRequest,
    RefundSnapshot,
    SettleRequest,
    TokenChargeRequest,
    TokenSnapshot,
    VoidRequest,
    WebhookAnswer,
)
from django_multipay.providers.base import Provider, ProviderOptions, Secret
from django_multipay.redaction import MASK, storable
from django_multipay.signatures import constant_time_equal

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Tables of the reference ------------------------------------------------------------

SUCCESS = "0000"
"""``rescode`` of success everywhere; the text beside it varies, so it is not read."""

INVALID_PARAMETER = "EC00"

NO_TRANSACTION = "Q004"
"""Answer of ``retrieve`` for an order without a transaction (reported 2026-08-07)."""

CURRENCIES: Mapping[str, int] = {
    "KRW": 0,
    "JPY": 0,
    "USD": 2,
    "EUR": 2,
    "GBP": 2,
    "THB": 2,
    "SGD": 2,
    "RUB": 2,
    "HKD": 2,
    "CAD": 2,
    "AUD": 2,
}
"""Currencies with their decimals."""

LANGUAGES: Mapping[str, str] = {
    "ko": "KR",
    "en": "EN",
    "ja": "JP",
    "zh": "CN",
    "zh-hk": "TW",
    "zh-hant": "TW",
    "zh-mo": "TW",
    "zh-tw": "TW",
    "ru": "RU",
    "th": "TH",
    "vi": "VN",
    # Its own words are understood too.
    "kr": "KR",
    "jp": "JP",
    "cn": "CN",
    "tw": "TW",
}
"""Locale → ``lang``, which is not ISO 639. Eximbay shows others in English."""

ANY_CARD = "P000"

CARD_BRANDS: Mapping[str, str] = {
    "P101": "VISA",
    "P102": "MasterCard",
    "P103": "AMEX",
    "P104": "JCB",
    "P106": "Diners",
    "P107": "Discover",
    "P108": "Mir",
    "P109": "UnionPay",
    "P110": "BC",
    "P111": "KB",
    "P112": "Hana",
    "P113": "Samsung",
    "P114": "Shinhan",
    "P115": "Hyundai",
    "P116": "Lotte",
    "P117": "NongHyup",
    "P119": "Citi",
    "P120": "Woori",
    "P121": "Suhyup",
    "P122": "Jeju",
    "P123": "Jeonbuk",
    "P124": "Gwangju",
    "P125": "KakaoBank",
    "P126": "K bank",
    "P127": "Mirae Asset",
    "P128": "Kona",
    "P129": "Toss card",
    "P130": "Chai",
}

PAYMENT_METHODS: Mapping[str, str] = {
    ANY_CARD: "Credit card",
    **CARD_BRANDS,
    "P001": "PayPal",
    "P002": "UnionPay (UPOP)",
    "P003": "Alipay",
    "P006": "eContext (convenience store, Japan)",
    "P015": "Naver Pay",
    "P091": "Apple Pay VISA",
    "P092": "Apple Pay MasterCard",
    "P093": "Apple Pay AMEX",
    "P094": "Apple Pay JCB",
    "P095": "Apple Pay UnionPay",
    "P096": "Samsung Pay VISA",
    "P097": "Samsung Pay MasterCard",
    "P098": "Samsung Pay AMEX",
    "P141": "WeChat Pay (PC)",
    "P142": "WeChat Pay (mobile)",
    "P143": "WeChat Pay (POP)",
    "P144": "WeChat Pay (mini)",
    "P174": "Alipay CN",
    "P175": "TrueMoney",
    "P176": "DANA",
    "P177": "Alipay HK",
    "P178": "TNG",
    "P179": "GCash",
    "P185": "GrabPay (SGD, older code)",
    "P186": "LINE Pay (older code)",
    "P195": "Alipay+ mini",
    "P197": "Klarna",
    "P198": "Apple Pay",
    "P199": "Samsung Pay",
    "P300": "Unifipay",
    "P301": "Bank transfer (Korea)",
    "P302": "KakaoPay",
    "P303": "Toss",
    "P304": "PAYCO",
    "P305": "Virtual account (Korea)",
    "P307": "Naver Pay (card)",
    "P308": "Naver Pay (points)",
    "P310": "Virtual account (overseas)",
    "P350": "GrabPay (MYR)",
    "P351": "GrabPay (SGD)",
    "P352": "ShopeePay (THB)",
    "P353": "JKOPAY (TWD)",
    "P354": "PayPay",
}
"""Names for people. The page asked for and the method used differ in code, and the
published lists differ from each other, so an unknown code is kept as it is. The older
codes are here because the reference still prints them."""

BANK_TRANSFER, NAVER_POINTS = "P301", "P308"

VIRTUAL_ACCOUNTS = frozenset({"P305", "P310"})
"""Methods whose refund needs a bank account."""

_KRW, _JPY = frozenset({"KRW"}), frozenset({"JPY"})

METHODS: Sequence[Method] = (
    Method(code=ANY_CARD, kind=MethodKind.CARD),
    Method(code="P001", kind=MethodKind.WALLET, name="PayPal"),
    Method(code="P198", kind=MethodKind.WALLET, name="Apple Pay"),
    Method(code="P199", kind=MethodKind.WALLET, name="Samsung Pay"),
    Method(code="P302", kind=MethodKind.WALLET, name="KakaoPay", currencies=_KRW),
    Method(code="P015", kind=MethodKind.WALLET, name="Naver Pay", currencies=_KRW),
    Method(code="P303", kind=MethodKind.WALLET, name="Toss", currencies=_KRW),
    Method(code="P304", kind=MethodKind.WALLET, name="PAYCO", currencies=_KRW),
    Method(code="P003", kind=MethodKind.WALLET, name="Alipay"),
    Method(code="P141", kind=MethodKind.WALLET, name="WeChat Pay"),
    Method(code="P002", kind=MethodKind.WALLET, name="UnionPay"),
    Method(code="P354", kind=MethodKind.WALLET, name="PayPay", currencies=_JPY),
    Method(
        code="P351",
        kind=MethodKind.WALLET,
        name="GrabPay",
        currencies=frozenset({"SGD"}),
    ),
    Method(
        code="P352",
        kind=MethodKind.WALLET,
        name="ShopeePay",
        currencies=frozenset({"THB"}),
    ),
    Method(code=BANK_TRANSFER, kind=MethodKind.BANK_TRANSFER, currencies=_KRW),
    Method(code="P305", kind=MethodKind.VIRTUAL_ACCOUNT, currencies=_KRW),
    Method(code="P310", kind=MethodKind.VIRTUAL_ACCOUNT),
    Method(code="P006", kind=MethodKind.CONVENIENCE_STORE, currencies=_JPY),
)
"""What a payment page may offer. Won for Korean methods and yen for Japanese ones are
stated; baht and Singapore dollar stand in the names of the code table."""

STATUSES: Mapping[str, PaymentStatus] = {
    "SALE": PaymentStatus.PAID,
    "AUTH": PaymentStatus.AUTHORIZED,
    "REGISTERED": PaymentStatus.AWAITING_FUNDS,
    "NONE": PaymentStatus.PENDING,
}
"""Compared in upper case: one endpoint writes ``Sale``, another ``SALE``."""

CLAIMS: Mapping[str, PaymentStatus] = {
    "PAYMENT": PaymentStatus.PAID,
    "PAYMENT_PA": PaymentStatus.PAID,
    "REBILL": PaymentStatus.PAID,
    "AUTHORIZE": PaymentStatus.AUTHORIZED,
    "AUTHORIZE_PA": PaymentStatus.AUTHORIZED,
}
"""What a success means by ``transaction_type`` when it comes without a ``status``."""

API_ERRORS: Mapping[str, type[ProviderError]] = {
    "EC1000": CredentialsRejected,
    "EC": RequestRejected,
    "EE": OutcomeUnknown,
    "EM": OutcomeUnknown,
    "EX": OutcomeUnknown,
}
"""Beginnings of a ``rescode`` that speaks of the call, not of the payment.

EC complains of key, content type, verb and parameters, so of a call that was not
begun; but the parameter may be an id that was used before (see `_inquiry_if_done`).
The others are trouble with the acquirer or inside Eximbay: a write may have happened
all the same. Of a call that only reads they mean *unavailable*."""

UNDECIDED = frozenset(
    {
        "ALREADY_VOID_CAPTURED_TRANSACTION",
        "DUPLICATE_TRANSACTION",
        "DUPLICATION_DECLINE",
        "TEMPORARY_ERROR",
        "TRANSACTION_ALREADY_CANCELED",
        "TRANSACTION_ALREADY_CAPTURED",
        "TRANSACTION_ALREADY_CAPTURED_OR_CANCELED",
    }
)
"""``errcode`` of a refusal that does not prove that nothing happened: it may answer
the second of two equal calls, or come before the acquirer has made up its mind."""

DECLINE_CODES: Mapping[str, DeclineCode] = {
    # errcode: words, in Eximbay's own spelling
    "EXPIRED_CARD": DeclineCode.EXPIRED_CARD,
    "INVALID_CARD_NUMBER": DeclineCode.INCORRECT_DATA,
    "INVAILD_CARD_DATA": DeclineCode.INCORRECT_DATA,
    "INVALID_CARD_IDENTITY": DeclineCode.INCORRECT_DATA,
    "INVALID_ACCOUNT": DeclineCode.INCORRECT_DATA,
    "INVALID_ADDRESS": DeclineCode.INCORRECT_DATA,
    "INVALID_CVC": DeclineCode.INCORRECT_CVC,
    "INVALID_PASSWORD": DeclineCode.AUTHENTICATION_FAILED,
    "PASSWORD_REQUIRED": DeclineCode.AUTHENTICATION_FAILED,
    "INVALID_AUTHENTICATION": DeclineCode.AUTHENTICATION_FAILED,
    "INVALID_CAVV": DeclineCode.AUTHENTICATION_FAILED,
    "FRAUDULENT_DECLINE": DeclineCode.SUSPECTED_FRAUD,
    "STOLEN_OR_LOST_CARD": DeclineCode.LOST_OR_STOLEN,
    "CONTACT_CARD_ISSUER": DeclineCode.CONTACT_ISSUER,
    "RESTRICTED_CARD": DeclineCode.CONTACT_ISSUER,
    "NOT_REGISTERED_CARD": DeclineCode.CONTACT_ISSUER,
    "CARD_NOT_SUPPORTED": DeclineCode.NOT_SUPPORTED,
    "KEYIN_NOT_SUPPORTED": DeclineCode.NOT_SUPPORTED,
    "CURRENCY_NOT_SUPPORTED": DeclineCode.NOT_SUPPORTED,
    "NOT_SUPPORT_DISCOUNT": DeclineCode.NOT_SUPPORTED,
    "NOT_SUPPORT_INSTALLMENT_PLAN": DeclineCode.NOT_SUPPORTED,
    "POINTS_NOT_SUPPORTED": DeclineCode.NOT_SUPPORTED,
    "CARD_PAYMENT_COUNT_EXCEEDED": DeclineCode.LIMIT_EXCEEDED,
    "CARD_VELOCITY_EXCEEDED": DeclineCode.LIMIT_EXCEEDED,
    "INSUFFICIENT_FUNDS": DeclineCode.INSUFFICIENT_FUNDS,
    "TEMPORARY_ERROR": DeclineCode.TEMPORARY,
    # rescode
    "DP00": DeclineCode.SUSPECTED_FRAUD,
    "DP01": DeclineCode.SUSPECTED_FRAUD,
    "EE00": DeclineCode.TEMPORARY,
    "EE01": DeclineCode.TEMPORARY,
    "EE02": DeclineCode.TEMPORARY,
    "EE99": DeclineCode.TEMPORARY,
    "EM00": DeclineCode.TEMPORARY,
    "HE00": DeclineCode.INCORRECT_DATA,
    "HE01": DeclineCode.INCORRECT_DATA,
    "HE02": DeclineCode.INCORRECT_CVC,
    "PC04": DeclineCode.NOT_SUPPORTED,
}
"""``errcode`` and ``rescode`` → our words; whatever is not listed is *generic*.

Bare numbers are the issuer's own and mean something else with every issuer; ``X059``
is a lost card as well as missing goods, so it stays generic too."""

ALIASES: Mapping[str, str] = {
    "amt": "amount",
    "authcode": "auth_code",
    "cardholder": "card_holder",
    "cardno1": "card_number1",
    "cardno4": "card_number4",
    "cur": "currency",
    "foregin_amount": "foreign_amount",
    "foregin_currency": "foreign_currency",
    "foregin_rate": "foreign_rate",
    "payerauthid": "payer_auth_id",
    "paymethod": "payment_method",
    "paymentURL": "payment_url",
    "ref": "order_id",
    "resdt": "transaction_date",
    "transid": "transaction_id",
    "txntype": "transaction_type",
    "useFlag": "use_flag",
    "ver": "version",
    "allowed_pvoid": "partially_cancelable",
}
"""Names of the older form API, and slips → names of the reference. Both are sent: a
``PAYER_AUTH`` notice came in the old names (2023-04), ``ver`` is in the reference's
own example, ``cardno4`` in that of ``retrieve``, ``foregin`` in that of ``cancel``,
``allowed_pvoid`` in that of ``capture``; ``use_flag`` has two spellings in its text."""

DETAILS: Mapping[str, str] = {
    "access_country": "access_country",
    "auth_code": "auth_code",
    "balance": "balance",
    "base_amount": "base_amount",
    "base_currency": "base_currency",
    "base_rate": "base_rate",
    "card_number4": "card_last4",
    "cash_receipt_type": "cash_receipt_type",
    "dcc_rate": "dcc_rate",
    "dm_decision": "dm_decision",
    "dm_reject": "dm_reject",
    "dm_review": "dm_review",
    "foreign_amount": "foreign_amount",
    "foreign_currency": "foreign_currency",
    "foreign_rate": "foreign_rate",
    "installment_months": "installment_months",
    "partially_cancelable": "partially_cancelable",
    "payment_url": "payment_url",
    "settled_date": "settled_date",
    "use_flag": "has_cash_receipt",
    "virtual_account_bank_name": "virtual_account_bank_name",
    "virtual_account_depositor": "virtual_account_depositor",
    "virtual_account_due_date": "virtual_account_due_date",
    "virtual_account_number": "virtual_account_number",
}
"""Field of a message → name in `PaymentSnapshot.details`; nothing else is kept."""

_TEXT = r".{1,255}"
_YES_NO = r"[YN]"
_MONEY = r"[0-9]{1,13}(\.[0-9]{1,2})?"

PROVIDER_DATA: Mapping[str, Mapping[str, str]] = {
    "": {
        "transaction_type": r"PAYMENT|PAYER_AUTH|AUTHORIZE|REBILL",
        "multi_payment_method": r"P[0-9A-Z]{3}(-P[0-9A-Z]{3})*",
        "shop": _TEXT,
        "partner_code": _TEXT,
        "param1": _TEXT,
        "param2": _TEXT,
    },
    "tax": {
        "receipt_status": _YES_NO,
        "amount_tax_free": _MONEY,
        "amount_taxable": _MONEY,
        "amount_vat": _MONEY,
        "amount_service_fee": _MONEY,
    },
    "settings": {
        "display_type": r"[PR]",
        "autoclose": _YES_NO,
        "site_foreign_currency": r"[A-Z]{3}",
        "call_from_app": _YES_NO,
        "call_from_scheme": _TEXT,
        "issuer_country": r"KR",
        "ostype": r"[PM]",
        "virtualaccount_expiry_date": r"[0-9]{10}",
    },
    "tokenbilling": {"unique_token_id": _YES_NO},
    "recurring": {"remind_email_interval": r"[0-9]{1,2}"},
    "fast_payment": {
        "user_id": _TEXT,
        "user_ci": r".{0,255}",
        "phone_number": r".{0,255}",
        "birthday": r"([0-9]{8})?",
        "gender": r"[MF]?",
        "foreigner": r"[TF]?",
    },
}
"""What a shop may add in ``provider_data``, in the reference's own names.

Fields of ``payment``, ``merchant`` and ``other_param`` stand at the top, the others
under the name of their object. Everything else of ``ready`` has a word of ours."""

REFUND_DATA: Mapping[str, Mapping[str, str]] = {
    "": {"param1": _TEXT, "param2": _TEXT},
    "tax": PROVIDER_DATA["tax"],
}
"""The same for a refund; its ``tax`` is that of the amount given back."""

_OBJECTS = (
    "merchant",
    "payment",
    "refund",
    "foreign",
    "card_info",
    "cash_receipt",
    "dm",
)
"""The objects of an answer that are read; buyer and addresses are not."""

_COMPARED = (
    "mid",
    "order_id",
    "currency",
    "amount",
    "refund_amount",
    "transaction_type",
)
"""What an answer to our own call may leave out, for it was asked about just this."""

_DATES = ("transaction_date", "captured_date", "refund_date")

_TAKEN = frozenset(
    {PaymentStatus.PAID, PaymentStatus.AUTHORIZED, PaymentStatus.AWAITING_FUNDS}
)

# As the examples have it in the calls for tokens and plans, and only there.
_JSON_IN_UTF8 = "application/json; charset=UTF-8"

_MAX_LINES = 3
_MAX_ID = 30
_MAX_NAME = 255
_MAX_PLAN_DIGITS = 10
_MAX_PLAN_MONTHS = 10
_MAX_NOTICE_BYTES = 64 * 1024
_MAX_NOTICE_FIELDS = 200

_REQUIRED = ("mid", "order_id", "fgkey", "rescode")
_IDENTIFIER = re.compile(r"(?!\.+$)[!-~]{1,64}")
_ACCOUNT = re.compile(r"[0-9A-Za-z -]{1,40}")
_FGKEY = re.compile(r"[0-9A-Fa-f]{64}")
_THOUSANDS = re.compile(r"[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?")
_PRIVATE = re.compile(r"\S+@\S+|(?=\w*[0-9])\w{20,}")

# Dates carry no zone. All that is known of Eximbay is Korean time, which has neither
# summer time nor, since 1988, any change.
SEOUL = timezone(timedelta(hours=9), "KST")


@dataclass(frozen=True, slots=True, kw_only=True)
class EximbayOptions(ProviderOptions):
    """``OPTIONS`` of one Eximbay account (MID)."""

    mid: str = field(metadata={"help": "your merchant id, such as '1849705C64'"})
    api_key: Secret = field(
        metadata={"help": "the API key of this mid: 'test_…' or 'live_…'"}
    )
    base_url: str = field(
        metadata={
            "help": "'https://api-test.eximbay.com', or 'https://api.eximbay.com' "
            "for real money",
            "url": True,
        }
    )
    sdk_url: str | None = field(
        default=None,
        metadata={
            "help": "the browser script; by default base_url with /v2/javascriptSDK.js",
            "url": True,
        },
    )
    sdk_requires: tuple[str, ...] = field(
        default=(),
        metadata={"help": "scripts to load first; version 1 of the SDK needs jQuery"},
    )
    display_type: str = field(
        default="R",
        metadata={
            "help": "R: the same window; P: a popup",
            "choices": ("R", "P"),
        },
    )
    autoclose: str = field(
        default="Y",
        metadata={
            "help": "Y: straight back to the shop; N: Eximbay's success page first",
            "choices": ("Y", "N"),
        },
    )
    secret_key: Secret | None = field(
        default=None,
        metadata={
            "help": "the secret of the older API, if you have one: forged notices are "
            "then refused without a call"
        },
    )
    issuer_country: str = field(
        default="",
        metadata={"help": "KR: the page for cards of Korea", "choices": ("KR",)},
    )
    site_foreign_currency: str = field(
        default="",
        metadata={"help": "currency in which cards are shown the amount (DCC)"},
    )
    shop: str = field(
        default="", metadata={"help": "name of the shop if not the merchant's"}
    )
    shop_url: str = field(
        default="",
        metadata={
            "help": "the shop's address, the link of products that have none; without "
            "it a page links them to the origin of the return URL, and a charge of a "
            "saved card is refused unless all its items have links",
            "url": True,
        },
    )
    partner_code: str = field(
        default="", metadata={"help": "partner code, if Eximbay gave you one"}
    )
    cancel_codes: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "rescodes that mean the buyer went back; Eximbay publishes none, "
            "so without them such a payment is failed instead of canceled"
        },
    )
    source_addresses: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "addresses or networks that notices may come from; an extra check"
        },
    )


class EximbayProvider(Provider):
    """One Eximbay account."""

    slug = "eximbay"
    display_name = "Eximbay"
    docs_url = "https://developer.eximbay.com/eng/eximbay/api_list/reference.html"
    capabilities = frozenset(
        {
            Capability.FETCH,
            Capability.CONFIRM,
            Capability.CAPTURE,
            Capability.VOID,
            Capability.REFUND,
            Capability.PARTIAL_REFUND,
            Capability.SETTLE,
            Capability.TOKENS,
            Capability.INSPECT_TOKEN,
            Capability.DELETE_TOKEN,
            Capability.PLANS,
            Capability.CHANGE_PLAN,
            Capability.CANCEL_PLAN,
        }
    )
    amount_format = AmountFormat.MAJOR_STRING
    webhook_trust = WebhookTrust.SIGNED
    options_class = EximbayOptions
    currencies = frozenset(CURRENCIES)
    exponents = CURRENCIES
    methods = METHODS
    takes_saved_methods = True
    verifies_remotely = True

    options: EximbayOptions

    @property
    def account(self) -> str:
        """The mid that every message must name."""
        return self.options.mid

    def problems(self) -> Sequence[str]:
        """Return contradictions between the options."""
        found = []
        key = self.options.api_key.current
        # The published key is its mid between "test_" and ten hexadecimal digits.
        shape = re.fullmatch(r"(test|live)_([0-9A-Z]{10})[0-9A-F]{10}", key)
        if shape and shape[2] != self.options.mid:
            found.append(
                "OPTIONS['api_key'] belongs to another mid; each mid has its own key"
            )
        host = urlsplit(self.options.base_url).hostname
        if key.startswith("test_") and host == "api.eximbay.com":
            found.append(
                "OPTIONS['api_key'] is a test key, but ['base_url'] takes real money"
            )
        if key.startswith("live_") and host == "api-test.eximbay.com":
            found.append(
                "OPTIONS['api_key'] is a live key, but ['base_url'] is for tests"
            )
        if "/v1/" in self._sdk_url and not self.options.sdk_requires:
            found.append(
                "OPTIONS['sdk_requires'] is missing: SDK version 1 needs jQuery, "
                "such as ['https://code.jquery.com/jquery-1.12.4.min.js']"
            )
        for address in self.options.source_addresses:
            try:
                ipaddress.ip_network(address)
            except ValueError:
                found.append(
                    f"OPTIONS['source_addresses'] holds {address!r}; use addresses or "
                    "networks such as '15.165.144.33' or '192.0.2.0/24'"
                )
        return found

    def deploy_problems(self) -> Sequence[str]:
        """Return what belongs to tests or to a laptop."""
        found = []
        if urlsplit(self.options.base_url).hostname == "api-test.eximbay.com":
            found.append("OPTIONS['base_url'] is the test system; no money will arrive")
        if self.options.api_key.current.startswith("test_"):
            found.append("OPTIONS['api_key'] is a test key; no money will arrive")
        urls = {
            "base_url": [self.options.base_url],
            "sdk_url": [self._sdk_url],
            "sdk_requires": self.options.sdk_requires,
        }
        for name, values in urls.items():
            if any(urlsplit(url).scheme != "https" for url in values):
                found.append(
                    f"OPTIONS[{name!r}] is not https; anybody on the way could read"
                )
        return found

    def can_take(self, amount: Money) -> bool:
        """Say whether the currency is published and the amount can be written."""
        try:
            money.to_minor(amount, self.exponents)
        except InvalidAmount:
            return False
        return super().can_take(amount) and amount.amount > 0

    def needs_refund_account(self, query: PaymentQuery) -> bool:
        """Say whether the payment came through a virtual account (table of methods)."""
        return query.method in VIRTUAL_ACCOUNTS

    # A payment's life ---------------------------------------------------------------

    def start_payment(self, request: PaymentRequest) -> PaymentSnapshot:
        """Sign the order (``ready``); the browser's SDK then opens the page with it.

        The SDK must repeat the very same object, or Eximbay answers ``VE00``.
        """
        body = self._ready_body(request)
        # It changes nothing: ``ready`` hashes the order with the merchant's secret
        # (its documented fgkey was computed again from its documented body,
        # 2026-11-21), and asking twice gives the same key twice.
        answer = self._ask("ready", "ready", body, is_read=True)
        if answer["rescode"] != SUCCESS:
            raise self._refusal("ready", answer)
        fgkey = _text(answer.get("fgkey"))
        if not _FGKEY.fullmatch(fgkey):
            raise UnexpectedAnswer("the answer has no fgkey", self.alias, "ready")
        return PaymentSnapshot(
            status=PaymentStatus.PENDING,
            next_action=ProviderScript(
                src=self._sdk_url,
                call="EXIMBAY.request_pay",
                payload={"fgkey": fgkey, **body},
                requires=self.options.sdk_requires,
                opens_popup=body["settings"]["display_type"] == "P",
            ),
        )

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Ask for the order (``retrieve``), and only then for its transaction.

        The order id is known before the first notice and stays the same when a payment
        gets another transaction, as from ``PAYER_AUTH`` to its confirmation; and an
        order with a transaction we do not know must show it, not hide it behind the
        one we do. Where the order's answer knows of nothing although we know of a
        transaction, that one is asked for by its own id.
        """
        snapshot = self._retrieve(query, "order_id")
        if snapshot.status is PaymentStatus.PENDING and query.transaction_reference:
            snapshot = self._retrieve(query, "transaction_id")
        return snapshot

    def confirm_payment(self, request: ConfirmRequest) -> PaymentSnapshot:
        """Charge or reserve (``confirm``) after ``PAYER_AUTH``; a decline is *failed*.

        ``PAYMENT_PA`` captures too: the guide says so, the reference's own text for it
        speaks of the page, which is over by now.
        """
        query = request.query
        body = {
            "transaction_type": "PAYMENT_PA" if request.capture else "AUTHORIZE_PA",
            "mid": self.options.mid,
            "payment": {
                **self._payment(query),
                "payer_auth_id": _required(
                    request.authentication_reference, "authentication_reference"
                ),
            },
        }
        return self._charge("confirm", "confirm", body, query)

    def capture_payment(self, request: CaptureRequest) -> PaymentSnapshot:
        """Take an authorization (``capture``), as a whole: no part is documented.

        `RequestRejected` when Eximbay refuses and the inquiry still knows an
        authorization: that one lives on, so it is no failure of the payment.
        """
        query = request.query
        if request.amount != query.amount:
            raise InvalidAmount(
                f"Eximbay captures an authorization as a whole; capture {query.amount}",
                "amount",
            )
        body = {"mid": self.options.mid, "payment": self._payment(query)}
        answer = self._ask("capture", f"{_transaction(query)}/capture", body)
        if answer["rescode"] != SUCCESS:
            return self._unless_done(
                "capture", query, answer, lambda now: now.captured is not None
            )
        return self._read("capture", self._sale, _answered(body, answer, query))

    def void_payment(self, request: VoidRequest) -> PaymentSnapshot:
        """Release an authorization: a full ``cancel`` before the capture.

        `RequestRejected` when Eximbay refuses and the inquiry still knows it.
        """
        query = request.query
        refund = {
            "refund_type": "F",
            "refund_amount": self._amount_text(query.amount),
            # The length is not published; what is left of a random key is unique.
            "refund_id": request.key[:_MAX_ID],
            "reason": "void",
        }
        body = self._cancel_body(query, refund, query.amount)
        answer = self._ask("cancel", f"{_transaction(query)}/cancel", body)
        if answer["rescode"] != SUCCESS:
            return self._unless_done(
                "cancel",
                query,
                answer,
                lambda now: now.status is PaymentStatus.CANCELED,
            )
        return self._read(
            "cancel",
            lambda fields: self._snapshot(fields, PaymentStatus.CANCELED),
            _answered(body, answer, query),
        )

    def refund_payment(self, request: RefundRequest) -> RefundSnapshot:
        """Give captured money back (``cancel``), whole or in parts.

        ``F`` is the whole payment untouched by earlier refunds; everything else is
        ``P``, the last part too. A refusal is a *failed* refund with its reason (the
        merchant's balance may be too small), once the inquiry has shown that nothing
        was given back; what Eximbay says of the call itself is `RequestRejected`.
        The answer has date and id of the refund, so it is done, although the bank
        behind a virtual account may take longer.
        """
        query = request.query
        self._check_refund(request)
        extra = self._read_provider_data(request.provider_data, REFUND_DATA)
        refund = {
            "refund_type": "F" if request.amount == query.amount else "P",
            "refund_amount": self._amount_text(request.amount),
            "refund_id": request.merchant_reference,
            "reason": storable(request.reason, _MAX_NAME) or "refund",
        }
        body = {
            **self._cancel_body(query, refund, request.refundable),
            "other_param": extra.pop(""),
            "refund_account": _bank_account(request.account),
            **extra,
        }
        body = {name: value for name, value in body.items() if value}
        answer = self._ask("cancel", f"{_transaction(query)}/cancel", body)
        if answer["rescode"] == SUCCESS:
            return self._read(
                "cancel", self._refund_snapshot, _answered(body, answer, query)
            )
        if self._inquiry_if_done(
            "cancel",
            query,
            answer,
            lambda now: _left(now) not in (None, request.refundable),
        ):
            # Less is left than before: whose refund that was, nobody can tell.
            raise self._refusal("cancel", answer, OutcomeUnknown)
        return RefundSnapshot(
            status=RefundStatus.FAILED,
            merchant_reference=request.merchant_reference,
            amount=request.amount,
            refundable=request.refundable,
            decline=_decline(_flatten(answer), is_cancel=False),
        )

    def settle_payment(self, request: SettleRequest) -> PaymentSnapshot:
        """Release a captured payment into settlement (``settle``); needs a contract.

        The inquiry does not show a settlement, so a lost answer stays unknown;
        settling again moves no money, and a refusal is `RequestRejected`.
        """
        query = request.query
        payment = self._payment(query)
        del payment["lang"]
        body = {"mid": self.options.mid, "payment": payment}
        answer = self._ask("settle", f"{_transaction(query)}/settle", body)
        if answer["rescode"] != SUCCESS:
            raise self._refusal("settle", answer)
        return self._read("settle", self._sale, _answered(body, answer, query))

    # Saved cards --------------------------------------------------------------------

    def charge_token(self, request: TokenChargeRequest) -> PaymentSnapshot:
        """Charge a saved card (``rebill``), the buyer absent; a decline is *failed*.

        With the buyer present the page does it: `start_payment` with ``token``.
        `InvalidOperation` for goods without a link, which it refuses
        ("product[0].link is mandatory"): no return URL tells where the shop is.
        """
        query = PaymentQuery(
            merchant_reference=request.merchant_reference,
            provider_reference="",
            amount=_positive(request.amount),
            locale=request.locale,
        )
        products, surcharges = self._lines(request, self.options.shop_url)
        if not all("link" in product for product in products):
            raise InvalidOperation(
                "Eximbay demands a link with every product; set OPTIONS['shop_url'] of "
                "the account, or give every item a url",
                "OPTIONS['shop_url']",
            )
        body = _filled(
            {
                "payment": self._payment(query),
                "merchant": {"mid": self.options.mid, "shop": self.options.shop},
                "buyer": _buyer(request.buyer),
                "product": products,
                "surcharge": surcharges,
                "bill_to": _address(request.buyer.address),
            }
        )
        path = f"tokenbilling/{_segment(request.token, 'token')}/rebill"
        return self._charge("rebill", path, body, query, transaction_type="REBILL")

    def inspect_token(self, reference: str) -> TokenSnapshot:
        """Return what identifies the card behind a token (``card_identifier``).

        `RequestRejected` for a token that Eximbay does not know.
        """
        answer = self._ask(
            "inspect token",
            f"tokenbilling/{_segment(reference, 'token')}",
            {},
            method="GET",
            content_type=_JSON_IN_UTF8,
            is_read=True,
        )
        if answer["rescode"] != SUCCESS:
            raise self._refusal("inspect token", answer)
        named = _text(answer.get("token_id"))
        if named and not constant_time_equal(named, reference):
            raise UnexpectedAnswer(
                "the answer names another token", self.alias, "inspect token"
            )
        return TokenSnapshot(
            reference=reference, fingerprint=_text(answer.get("card_identifier"))
        )

    def delete_token(self, reference: str) -> None:
        """Delete a token for good; `RequestRejected` when Eximbay does not."""
        path = f"tokenbilling/{_segment(reference, 'token')}/delete"
        self._manage("delete token", path, {})

    # Plans --------------------------------------------------------------------------

    def start_plan(self, request: PaymentRequest) -> PaymentSnapshot:
        """Register a plan with its first payment: ``ready`` with ``recurring``."""
        if request.plan is None:
            raise InvalidOperation("the payment has no plan to register", "plan")
        return self.start_payment(request)

    def change_plan(self, request: PlanChangeRequest) -> PlanSnapshot:
        """Change the amount of the charges to come (``adjust``)."""
        reference = request.provider_reference
        path = f"recurring/{_segment(reference, 'provider_reference')}/adjust"
        amount = self._plan_amount(request.amount, "amount")
        self._manage("change plan", path, {"adjust_amount": amount})
        return PlanSnapshot(reference=reference, status=PlanStatus.ACTIVE)

    def cancel_plan(self, request: PlanCancelRequest) -> PlanSnapshot:
        """End a plan at once (``delete``); Eximbay knows no later end."""
        if request.at_period_end:
            raise InvalidOperation(
                "Eximbay ends a plan at once; leave at_period_end out and let the "
                "buyer keep what is paid for",
                "at_period_end",
            )
        reference = request.provider_reference
        path = f"recurring/{_segment(reference, 'provider_reference')}/delete"
        self._manage("cancel plan", path, {})
        return PlanSnapshot(reference=reference, status=PlanStatus.CANCELED)

    # Inbound ------------------------------------------------------------------------

    def identify_return(self, incoming: IncomingRequest) -> str:
        """Return the ``order_id`` the message names; no call, no proof."""
        return _read_notice(_raw(incoming)).get("order_id", "")

    def verify_webhook(self, incoming: IncomingRequest) -> None:
        """Ask Eximbay whether it sent this (``verify``), whatever the message says.

        The string goes back byte for byte: the ``fgkey`` covers empty fields too, and
        whoever takes the message apart and builds it again loses them.
        """
        raw = _raw(incoming)
        fields = _read_notice(raw)
        missing = [name for name in _REQUIRED if not fields.get(name)]
        if missing:
            raise MalformedWebhook(f"{self.alias}: the notice has no {missing[0]}")
        is_by_eximbay = not incoming.is_by_buyer
        if is_by_eximbay and not self._is_welcome(incoming.remote_address):
            logger.warning(
                "%s: a notice about order %s from %s is refused: the address is not "
                "among source_addresses",
                self.alias,
                storable(fields["order_id"], 40),
                storable(incoming.remote_address, 45),
            )
            raise SignatureMismatch(f"{self.alias}: the notice's sender is not known")
        if fields["mid"] != self.options.mid:
            raise SignatureMismatch(f"{self.alias}: the notice names another mid")
        if not _FGKEY.fullmatch(fields["fgkey"]):
            raise SignatureMismatch(f"{self.alias}: the notice's fgkey is none")
        if not self._has_valid_fgkey(raw):
            raise SignatureMismatch(f"{self.alias}: the notice's fgkey is wrong")
        answer = self._ask("verify", "verify", {"data": raw}, is_read=True)
        if answer["rescode"] != SUCCESS:
            raise SignatureMismatch(f"{self.alias}: Eximbay did not send this notice")

    def parse_webhook(self, incoming: IncomingRequest) -> Sequence[ProviderEvent]:
        """Return the one event of a notice, always to be confirmed by an inquiry.

        ``rescode`` first: ``verify`` finds a genuine notice of failure genuine. And a
        return said success a second before the notice said failure (seen with Naver
        Pay, 2026-09), so the inquiry decides.

        What comes to ``recurring_noti_url`` is not documented, so it is taken for a
        notice like the others. A plan's first payment was given its own order id as
        ``param2``: a plan's notice about another order is a later charge.
        """
        fields = _read_notice(_raw(incoming))
        try:
            snapshot = self._notice_snapshot(fields)
        except InvalidAmount:
            # Without an amount the core holds what it cannot compare.
            snapshot = self._notice_snapshot({**fields, "amount": ""})
        plan = _plan(fields)
        is_renewal = plan is not None and fields.get("param2") != fields.get("order_id")
        if plan and is_renewal and snapshot.decline:
            snapshot = replace(snapshot, plan=replace(plan, status=PlanStatus.PAST_DUE))
        return [
            ProviderEvent(snapshot=snapshot, must_fetch=True, is_renewal=is_renewal)
        ]

    def webhook_answer(
        self, outcome: WebhookOutcome, incoming: IncomingRequest | None = None
    ) -> WebhookAnswer:
        """Answer in the words Eximbay waits for; without them it sends again.

        Whether it reads the status or the text is not published, so both agree.
        """
        status, body = {
            WebhookOutcome.ACCEPTED: (200, "rescode=0000&resmsg=Success"),
            WebhookOutcome.DEFERRED: (503, "rescode=9999&resmsg=Try again later"),
            WebhookOutcome.REFUSED: (400, "rescode=9999&resmsg=Refused"),
        }[outcome]
        return WebhookAnswer(outcome=outcome, status=status, body=body)

    # To the wire --------------------------------------------------------------------

    def _ready_body(self, request: PaymentRequest) -> dict[str, Any]:
        """Return the objects of ``ready`` in the order of the reference."""
        _positive(request.amount)
        extra = self._read_provider_data(request.provider_data, PROVIDER_DATA)
        top = extra.pop("")
        # "Mandatory" with every product; the shop's front page when there is no other.
        parts = urlsplit(request.return_url)
        home = self.options.shop_url or f"{parts.scheme}://{parts.netloc}/"
        products, surcharges = self._lines(request, home)
        body = {
            "payment": {
                "transaction_type": _transaction_type(request, top),
                **self._payment(request),
                "payment_method": _method(request.method),
                "multi_payment_method": top.get("multi_payment_method", ""),
            },
            "merchant": {
                "mid": self.options.mid,
                "shop": top.get("shop", self.options.shop),
                "partner_code": top.get("partner_code", self.options.partner_code),
            },
            "url": {
                "return_url": request.return_url,
                "status_url": request.status_url,
            },
            "buyer": _buyer(request.buyer),
            "tax": _tax(request.method, extra.get("tax", {})),
            "other_param": {
                "param1": top.get("param1", ""),
                "param2": _second_param(request, top),
            },
            "product": products,
            "surcharge": surcharges,
            "ship_to": _address(request.ship_to),
            "bill_to": _address(request.buyer.address),
            "settings": self._settings(request, extra.get("settings", {})),
            "tokenbilling": _token_billing(request, extra.get("tokenbilling", {})),
            "recurring": self._recurring(request, extra.get("recurring", {})),
        }
        # Its fields are mandatory even when they are blank.
        fast_payment = _fast_payment(extra.get("fast_payment", {}))
        return _filled(body) | ({"fast_payment": fast_payment} if fast_payment else {})

    def _payment(self, about: PaymentRequest | PaymentQuery) -> dict[str, str]:
        """Return what every call says about its payment."""
        return {
            "order_id": about.merchant_reference,
            "currency": about.amount.currency.code,
            "amount": self._amount_text(about.amount),
            "lang": _language(about.locale),
        }

    def _cancel_body(
        self, query: PaymentQuery, refund: Mapping[str, str], balance: Money
    ) -> dict[str, Any]:
        """Return the body of ``cancel``; ``balance`` is what is left before it."""
        return {
            "mid": self.options.mid,
            "refund": refund,
            "payment": {**self._payment(query), "balance": self._amount_text(balance)},
        }

    def _check_refund(self, request: RefundRequest) -> None:
        amount, total = _positive(request.amount), request.query.amount
        if not amount.currency == request.refundable.currency == total.currency:
            raise InvalidAmount("a refund has the currency of its payment", "amount")
        if not amount <= request.refundable <= total:
            raise InvalidAmount(
                f"a refund is at most what is left, {request.refundable}", "amount"
            )
        if request.query.method in VIRTUAL_ACCOUNTS and request.account is None:
            raise InvalidOperation(
                "a payment into a virtual account is given back to a bank account; "
                "give holder, bank code and number",
                "account",
            )

    def _read_provider_data(
        self, data: Mapping[str, Any], table: Mapping[str, Mapping[str, str]]
    ) -> dict[str, dict[str, str]]:
        """Return the shop's own additions by object of ``table``, as text.

        `InvalidOperation` names a field that the reference does not know, or whose
        value it does not allow, and says what to write instead.
        """
        nested = {name: data[name] for name in data if name in table and name}
        top = {name: value for name, value in data.items() if name not in nested}
        result: dict[str, dict[str, str]] = {}
        for name, values in {"": top, **nested}.items():
            if not isinstance(values, Mapping):
                raise InvalidOperation(
                    f"provider_data.{name} must be a mapping of its fields, "
                    f"not {type(values).__name__}",
                    f"provider_data.{name}",
                )
            result[name] = {
                key: self._read_field(table, name, key, value)
                for key, value in values.items()
            }
        return result

    def _read_field(
        self,
        table: Mapping[str, Mapping[str, str]],
        name: str,
        key: object,
        value: object,
    ) -> str:
        path = f"provider_data.{name}.{key}" if name else f"provider_data.{key}"
        known = table[name]
        if not isinstance(key, str) or key not in known:
            remedy = known if name else [*known, *filter(None, table)]
            raise InvalidOperation(
                f"{path} is unknown to Eximbay; remove it or use one of: "
                f"{', '.join(remedy)}",
                path,
            )
        if isinstance(value, Money):
            value = self._amount_text(value)
        elif isinstance(value, (list, tuple)):
            value = "-".join(map(str, value))
        elif isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not re.fullmatch(known[key], value, re.DOTALL):
            raise InvalidOperation(
                f"{path} must be text that matches {known[key]}", path
            )
        return value

    def _lines(
        self, request: PaymentRequest | TokenChargeRequest, home: str
    ) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """Return products and surcharges, three of each at most, equal to the amount.

        Wallets refuse a payment without products, and Eximbay one whose lines do not
        add up (integrators, 2026), so what is left becomes a surcharge of its own.
        ``home`` is the link of a product that has none; "" leaves it out.
        """
        items = [_checked_item(item, request.amount) for item in request.items]
        if not items and request.description:
            items = [LineItem(name=request.description, unit_price=request.amount)]
        if not items:
            return [], []
        goods = [item for item in items if not _is_surcharge(item)]
        extras = [item for item in items if _is_surcharge(item)]
        rest = request.amount - _sum(items, request.amount)
        if rest.amount:
            extras.append(LineItem(name="Adjustment", unit_price=rest))
        return (
            [
                _without_blanks({**self._line(item), "link": item.url or home})
                for item in _merged(goods, request.amount)
            ],
            [self._line(item) for item in _merged(extras, request.amount)],
        )

    def _line(self, item: LineItem) -> dict[str, str]:
        return {
            "name": item.name[:_MAX_NAME],
            "quantity": str(item.quantity),
            "unit_price": self._amount_text(item.unit_price),
        }

    def _settings(
        self, request: PaymentRequest, extra: Mapping[str, str]
    ) -> dict[str, str]:
        has_dcc = request.method in {"", ANY_CARD}
        if "site_foreign_currency" in extra and not has_dcc:
            raise InvalidOperation(
                f"provider_data.settings.site_foreign_currency goes with the method "
                f"{ANY_CARD} only, not with {request.method}",
                "provider_data.settings.site_foreign_currency",
            )
        # Cut to the hour: a deposit is never taken after our own deadline.
        expiry = (
            request.expires_at.astimezone(SEOUL).strftime("%Y%m%d%H")
            if request.expires_at
            else ""
        )
        return {
            "display_type": self.options.display_type,
            "autoclose": self.options.autoclose,
            "site_foreign_currency": self.options.site_foreign_currency
            if has_dcc
            else "",
            "issuer_country": self.options.issuer_country,
            "ostype": "M" if request.is_mobile else "",
            "virtualaccount_expiry_date": expiry,
            **extra,
        }

    def _recurring(
        self, request: PaymentRequest, extra: Mapping[str, str]
    ) -> dict[str, str]:
        plan = request.plan
        if plan is None:
            if extra:
                raise InvalidOperation(
                    "provider_data.recurring goes with a plan only",
                    "provider_data.recurring",
                )
            return {}
        if plan.amount.currency != request.amount.currency:
            raise InvalidAmount(
                "a plan has the currency of its first payment: Eximbay asks for one",
                "plan.amount",
            )
        return {
            "recurring_amount": self._plan_amount(plan.amount, "plan.amount"),
            "recurring_start_date": plan.start_on.strftime("%Y%m%d"),
            "recurring_interval": _plan_interval(plan),
            "recurring_noti_url": _plan_url(plan),
            **extra,
        }

    def _plan_amount(self, amount: Money, field: str) -> str:
        text = self._amount_text(_positive(amount, field))
        if len(text.replace(".", "")) > _MAX_PLAN_DIGITS:
            raise InvalidAmount(
                f"the plan's amount has more than {_MAX_PLAN_DIGITS} digits", field
            )
        return text

    def _amount_text(self, amount: Money) -> str:
        return str(self.wire_amount(amount))

    # From the wire ------------------------------------------------------------------

    def _inquiry_snapshot(self, fields: Mapping[str, str]) -> PaymentSnapshot:
        status = self._status(fields.get("status", ""))
        snapshot = self._snapshot(fields, status)
        # Neither a refund nor a release has a status of its own; only the balance
        # tells, "authorization amount - refund amount". An authorization starts with
        # its whole amount there (example of the reference).
        balance = self._amount(fields.get("balance", ""), fields)
        is_empty = balance is not None and not balance.amount
        if status is PaymentStatus.AUTHORIZED and is_empty:
            return replace(snapshot, status=PaymentStatus.CANCELED)
        if status is not PaymentStatus.PAID or snapshot.amount is None:
            return snapshot
        return replace(
            snapshot,
            captured=snapshot.amount,
            refunded=snapshot.amount - balance
            if balance is not None and balance <= snapshot.amount
            else None,
        )

    def _notice_snapshot(self, fields: Mapping[str, str]) -> PaymentSnapshot:
        if fields.get("rescode") != SUCCESS:
            is_cancel = fields.get("rescode") in self.options.cancel_codes
            return replace(
                self._snapshot(
                    fields,
                    PaymentStatus.CANCELED if is_cancel else PaymentStatus.FAILED,
                ),
                decline=_decline(fields, is_cancel=is_cancel),
            )
        transaction_type = fields.get("transaction_type", "").upper()
        if transaction_type == "PAYER_AUTH":
            status = PaymentStatus.AUTHENTICATED
        elif fields.get("status"):
            status = self._status(fields["status"])
        else:
            status = CLAIMS.get(transaction_type, PaymentStatus.PENDING)
        snapshot = self._snapshot(fields, status)
        return replace(
            snapshot,
            captured=snapshot.amount if status is PaymentStatus.PAID else None,
            # REJECT or ERROR beside a success fits nothing documented: a person looks.
            needs_review=fields.get("dm_decision", "").upper() not in {"", "ACCEPT"},
            token=None if transaction_type == "REBILL" else _token(fields),
            plan=_plan(fields),
        )

    def _sale(self, fields: Mapping[str, str]) -> PaymentSnapshot:
        snapshot = self._snapshot(fields, PaymentStatus.PAID)
        return replace(snapshot, captured=snapshot.amount)

    def _refund_snapshot(self, fields: Mapping[str, str]) -> RefundSnapshot:
        return RefundSnapshot(
            status=RefundStatus.SUCCEEDED,
            provider_reference=fields.get("refund_transaction_id", ""),
            merchant_reference=fields.get("refund_id") or None,
            amount=self._amount(fields.get("refund_amount", ""), fields),
            refundable=self._amount(fields.get("balance", ""), fields),
            details=_details(fields),
            occurred_at=_moment(fields.get("refund_date", "")),
        )

    def _snapshot(
        self, fields: Mapping[str, str], status: PaymentStatus
    ) -> PaymentSnapshot:
        """Return what all messages about a payment have in common."""
        reference = fields.get("transaction_id", "")
        if status is PaymentStatus.AUTHENTICATED:
            reference = fields.get("payer_auth_id", "")
        return PaymentSnapshot(
            status=status,
            provider_reference=reference,
            merchant_reference=fields.get("order_id") or None,
            account=fields.get("mid") or None,
            amount=self._amount(fields.get("amount", ""), fields),
            method=storable(fields.get("payment_method", ""), 64),
            provider_status=storable(fields.get("status", ""), 64),
            details=_details(fields),
            expires_at=_deadline(fields.get("virtual_account_due_date", "")),
            occurred_at=_moment(
                next((fields[name] for name in _DATES if fields.get(name)), "")
            ),
        )

    def _status(self, word: str) -> PaymentStatus:
        status = STATUSES.get(word.upper())
        if status is None:
            logger.warning(
                "%s: status %r is unknown and counts as pending",
                self.alias,
                storable(word, 40),
            )
        return status or PaymentStatus.PENDING

    def _amount(self, text: str, fields: Mapping[str, str]) -> Money | None:
        """Return an amount, or None when it or its currency is not there.

        Commas between thousands are taken out: ``132,000`` came for KRW (integrator).
        """
        if not text or not fields.get("currency"):
            return None
        if _THOUSANDS.fullmatch(text):
            text = text.replace(",", "")
        return self.read_amount(text, fields["currency"])

    # The wire -----------------------------------------------------------------------

    @property
    def _base_url(self) -> str:
        return self.options.base_url.rstrip("/")

    @property
    def _sdk_url(self) -> str:
        return self.options.sdk_url or f"{self._base_url}/v2/javascriptSDK.js"

    def _retrieve(self, query: PaymentQuery, key_field: str) -> PaymentSnapshot:
        """Ask for one transaction or for the order, by the ``key_field``.

        Amount and currency take part in the search (measured by an integrator,
        2026-08), so they are written exactly as in ``ready``; the order id is
        mandatory for both.
        """
        payment = self._payment(query)
        if key_field == "transaction_id":
            payment["transaction_id"] = query.transaction_reference
        body = {"mid": self.options.mid, "key_field": key_field, "payment": payment}
        answer = self._ask("retrieve", "retrieve", body, is_read=True)
        fields = _flatten(answer)
        if fields["rescode"] != SUCCESS:
            # What a failed order answers is not published. Nothing here proves a
            # failure, and nothing proves money: the buyer may still try again.
            is_unknown = fields["rescode"] == NO_TRANSACTION
            return PaymentSnapshot(
                status=PaymentStatus.PENDING,
                provider_status="NONE" if is_unknown else fields["rescode"],
            )
        return self._read("retrieve", self._inquiry_snapshot, fields, UnexpectedAnswer)

    def _charge(
        self,
        operation: str,
        path: str,
        body: Mapping[str, Any],
        query: PaymentQuery,
        **known: str,
    ) -> PaymentSnapshot:
        """Charge, and return what became of it: a decline is *failed*."""
        answer = self._ask(operation, path, body)
        fields = _answered(body, answer) | known
        if answer["rescode"] != SUCCESS:
            done = self._inquiry_if_done(
                operation, query, answer, lambda now: now.status in _TAKEN
            )
            return done or self._read(operation, self._notice_snapshot, fields)
        if not fields.get("transaction_id"):
            # As in the example of ``confirm``. It is mandatory all the same, and
            # without it nobody could refund: the inquiry must tell.
            raise OutcomeUnknown(
                "the answer names no transaction", self.alias, operation
            )
        return self._read(operation, self._notice_snapshot, fields)

    def _manage(self, operation: str, path: str, body: Mapping[str, str]) -> None:
        """Change a token or a plan; the answer says no more than whether it did."""
        answer = self._ask(operation, path, body, content_type=_JSON_IN_UTF8)
        if answer["rescode"] != SUCCESS:
            raise self._refusal(operation, answer)

    def _inquiry_if_done(
        self,
        operation: str,
        query: PaymentQuery,
        answer: Mapping[str, Any],
        is_done: Callable[[PaymentSnapshot], bool],
    ) -> PaymentSnapshot | None:
        """Return the inquiry if it shows that a write was done which was refused.

        Ids work once, and the code that refuses a second use is not published: a
        refusal may be the echo of a call whose answer was lost.
        """
        try:
            now = self.fetch_payment(query)
        except ProviderError as error:
            raise self._refusal(operation, answer, OutcomeUnknown) from error
        if is_done(now):
            return now
        if _text(answer.get("errcode")) in UNDECIDED:
            raise self._refusal(operation, answer, OutcomeUnknown)
        if answer["rescode"] == INVALID_PARAMETER:
            raise self._refusal(operation, answer)
        return None

    def _unless_done(
        self,
        operation: str,
        query: PaymentQuery,
        answer: Mapping[str, Any],
        is_done: Callable[[PaymentSnapshot], bool],
    ) -> PaymentSnapshot:
        """Raise the refusal in ``answer``, unless the inquiry shows it was done."""
        now = self._inquiry_if_done(operation, query, answer, is_done)
        if now is None:
            raise self._refusal(operation, answer)
        return now

    def _read(
        self,
        operation: str,
        reader: Callable[[Mapping[str, str]], T],
        fields: Mapping[str, str],
        kind: type[ProviderError] = OutcomeUnknown,
    ) -> T:
        """Return the snapshot of an answer; ``kind`` if an amount is unreadable."""
        try:
            return reader(fields)
        except InvalidAmount as error:
            raise kind(
                f"the answer has an amount nobody can read: {error}",
                self.alias,
                operation,
            ) from error

    def _ask(
        self,
        operation: str,
        path: str,
        body: Mapping[str, Any],
        *,
        method: str = "POST",
        content_type: str = "application/json",
        is_read: bool = False,
    ) -> dict[str, Any]:
        """Return the answer, whose ``rescode`` speaks of the payment or the token.

        What speaks of the call is raised. The status of an error is not published, so
        the body speaks first.
        """
        request = HttpRequest(
            operation=operation,
            method=method,
            url=f"{self._base_url}/v1/payments/{path}",
            headers={
                "Authorization": self._authorization(),
                "Content-Type": content_type,
            },
            json=body,
            is_read=is_read,
            has_secret_path=path.startswith("tokenbilling/"),
        )
        response = self.http.send(request)
        is_success = 200 <= response.status < 300
        try:
            answer = read_json(request, response, self.alias)
        except (UnexpectedAnswer, OutcomeUnknown):
            if is_success:
                raise
            answer = {}
        code = answer["rescode"] = _text(answer.get("rescode"))
        kind = next(
            (kind for start, kind in API_ERRORS.items() if code.startswith(start)), None
        )
        if kind is OutcomeUnknown and is_read:
            kind = ProviderUnavailable
        elif code == INVALID_PARAMETER and not is_read:
            kind = None
        if kind is not None:
            raise self._refusal(operation, answer, kind, response.status)
        if code == SUCCESS and not is_success and not is_read:
            # The body says that it was done, the status that it was not.
            raise self._refusal(operation, answer, OutcomeUnknown, response.status)
        is_overloaded = response.status >= 500 or response.status in {408, 425, 429}
        if is_overloaded or (not is_success and code in {"", SUCCESS}):
            raise error_for_status(request, response, self.alias)
        if not code:
            kind = UnexpectedAnswer if is_read else OutcomeUnknown
            raise kind(
                "the answer has no rescode",
                self.alias,
                operation,
                http_status=response.status,
            )
        return answer

    def _authorization(self) -> str:
        """The key as user name without a password, as in every printed example.

        A page of the documentation is said to have ``mid:key``, which is refused.
        """
        pair = f"{self.options.api_key.current}:"
        return f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"

    def _refusal(
        self,
        operation: str,
        answer: Mapping[str, Any],
        kind: type[ProviderError] = RequestRejected,
        status: int = 0,
    ) -> ProviderError:
        words = (_text(answer.get(name)) for name in ("errcode", "resmsg"))
        return kind(
            _harmless(": ".join(filter(None, words)))
            or "the provider refused the call",
            self.alias,
            operation,
            code=storable(_text(answer.get("rescode")), 40),
            http_status=status,
        )

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

    def _has_valid_fgkey(self, raw: str) -> bool:
        """Check the key here if we can: a forged notice then costs no call."""
        if self.options.secret_key is None:
            return True
        pairs = dict(_pairs(raw))
        given = pairs.pop("fgkey").lower()
        return any(
            constant_time_equal(given, _fgkey(secret, pairs))
            for secret in self.options.secret_key.values
        )


# To the wire, without an account ----------------------------------------------------


def _language(locale: str) -> str:
    parts = locale.lower().replace("_", "-").split("-")
    tags = ("-".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next((LANGUAGES[tag] for tag in tags if tag in LANGUAGES), "EN")


def _method(code: str) -> str:
    if code and not re.fullmatch(r"P[0-9A-Z]{3}", code):
        raise InvalidOperation(
            f"method {code[:20]!r} is not a code of Eximbay; use one such as "
            f"{ANY_CARD!r} (any card), or leave it out",
            "method",
        )
    return code


def _transaction_type(request: PaymentRequest, extra: Mapping[str, str]) -> str:
    """Return what the page shall do; contradictory wishes are refused."""
    is_manual = request.capture_mode == CaptureMode.MANUAL
    if request.token and (is_manual or request.save_token):
        raise InvalidOperation(
            "a saved card is charged at once and is not saved again; leave "
            "capture_mode and save_token out",
            "token",
        )
    fitting = "REBILL" if request.token else "AUTHORIZE" if is_manual else "PAYMENT"
    chosen = extra.get("transaction_type", fitting)
    if chosen != fitting and (chosen != "PAYER_AUTH" or request.token):
        raise InvalidOperation(
            f"provider_data.transaction_type {chosen} contradicts the payment, which "
            f"is {fitting}; change capture_mode or token, or leave it out",
            "provider_data.transaction_type",
        )
    if request.save_token and chosen != "PAYMENT":
        raise InvalidOperation(
            f"Eximbay saves a card with the transaction type PAYMENT only, not with "
            f"{chosen}; capture at once or leave save_token out",
            "save_token",
        )
    return chosen


def _required(text: str, name: str) -> str:
    if not text.strip():
        raise InvalidOperation(f"Eximbay demands {name}; give it a value", name)
    return text


def _positive(amount: Money, field: str = "amount") -> Money:
    if amount.amount <= 0:
        raise InvalidAmount(f"{field} must be above zero", field)
    return amount


def _segment(identifier: str, field: str) -> str:
    """Return an id of Eximbay as a part of a path."""
    if not _IDENTIFIER.fullmatch(identifier):
        raise InvalidOperation(f"{field} is not an id of Eximbay", field)
    return quote(identifier, safe="")


def _transaction(query: PaymentQuery) -> str:
    reference = query.transaction_reference or query.provider_reference
    if not reference:
        raise InvalidOperation(
            "the payment has no transaction at Eximbay yet; sync it first",
            "transaction_reference",
        )
    return _segment(reference, "transaction_reference")


def _buyer(buyer: Buyer) -> dict[str, str]:
    return {
        "name": _required(buyer.name, "buyer.name"),
        "phone_number": buyer.phone,
        "email": _required(buyer.email, "buyer.email"),
    }


def _bank_account(account: BankAccount | None) -> dict[str, str]:
    if account is None:
        return {}
    return {
        "user_name": _required(account.holder, "account.holder"),
        "bank_code": _required(account.bank_code, "account.bank_code"),
        "account_number": _required(account.number, "account.number"),
    }


def _tax(method: str, extra: Mapping[str, str]) -> Mapping[str, str]:
    """Return the tax object; two Korean methods cannot do without."""
    needed = {BANK_TRANSFER: ["receipt_status"], NAVER_POINTS: PROVIDER_DATA["tax"]}
    for name in needed.get(method, ()):
        _required(extra.get(name, ""), f"provider_data.tax.{name}")
    return extra


def _second_param(request: PaymentRequest, extra: Mapping[str, str]) -> str:
    if request.plan is None:
        return extra.get("param2", "")
    if "param2" in extra:
        raise InvalidOperation(
            "provider_data.param2 marks the first payment of a plan; use param1",
            "provider_data.param2",
        )
    return request.merchant_reference


def _is_surcharge(item: LineItem) -> bool:
    # Only a surcharge may be negative.
    return item.is_surcharge or item.unit_price.amount < 0


def _checked_item(item: LineItem, amount: Money) -> LineItem:
    if item.unit_price.currency != amount.currency:
        raise InvalidAmount(
            f"item {item.name[:40]!r} has another currency than the payment", "items"
        )
    if item.quantity < 1:
        raise InvalidOperation(
            f"item {item.name[:40]!r} needs a quantity above zero", "items"
        )
    return item


def _sum(items: Sequence[LineItem], amount: Money) -> Money:
    nothing = Money(Decimal(0), amount.currency)
    return sum((item.unit_price * item.quantity for item in items), nothing)


def _merged(items: list[LineItem], amount: Money) -> list[LineItem]:
    """Return at most three lines; the last one stands for all the others."""
    if len(items) <= _MAX_LINES:
        return items
    kept, rest = items[: _MAX_LINES - 1], items[_MAX_LINES - 1 :]
    suffix = f" (+{len(rest) - 1})"
    name = rest[0].name[: _MAX_NAME - len(suffix)] + suffix
    price = _sum(rest, amount)
    return [*kept, LineItem(name=name, unit_price=price, url=rest[0].url)]


def _address(address: Address | None) -> dict[str, str]:
    if address is None:
        return {}
    country = address.country.upper()
    return {
        "city": address.city,
        "country": country,
        "first_name": address.first_name,
        "last_name": address.last_name,
        "phone_number": address.phone,
        "postal_code": address.postal_code,
        # "Applicable for delivery addresses in the U.S. and Canada."
        "state": address.state if country in {"US", "CA"} else "",
        "street1": address.street,
    }


def _token_billing(request: PaymentRequest, extra: Mapping[str, str]) -> dict[str, str]:
    if extra and not request.save_token:
        raise InvalidOperation(
            "provider_data.tokenbilling goes with save_token only",
            "provider_data.tokenbilling",
        )
    creation = {"token_creation": "Y"} if request.save_token else {}
    return {**creation, **extra, "token_id": request.token}


def _plan_interval(plan: PlanTerms) -> str:
    if not 1 <= plan.interval_months <= _MAX_PLAN_MONTHS:
        raise InvalidOperation(
            f"Eximbay charges a plan every 1 to {_MAX_PLAN_MONTHS} months, "
            f"not every {plan.interval_months}",
            "plan.interval_months",
        )
    return str(plan.interval_months)


def _plan_url(plan: PlanTerms) -> str:
    if len(plan.notice_url) > _MAX_NAME:
        raise InvalidOperation(
            f"the plan's notice_url is longer than {_MAX_NAME} characters",
            "plan.notice_url",
        )
    return plan.notice_url


def _fast_payment(extra: Mapping[str, str]) -> dict[str, str]:
    if not extra:
        return {}
    _required(extra.get("user_id", ""), "provider_data.fast_payment.user_id")
    return dict.fromkeys(PROVIDER_DATA["fast_payment"], "") | dict(extra)


def _without_blanks(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _filled(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the objects and lists that say something, without blank fields."""
    objects = {
        name: _without_blanks(value) if isinstance(value, Mapping) else value
        for name, value in body.items()
    }
    return {name: value for name, value in objects.items() if value}


# From the wire, without an account --------------------------------------------------


def _raw(incoming: IncomingRequest) -> str:
    """Return the parameters as they came: the body of a POST, or the query string."""
    try:
        raw = (
            incoming.body.decode("utf-8")
            if incoming.method == "POST"
            else incoming.query_string.removeprefix("?")
        )
    except UnicodeDecodeError as error:
        raise MalformedWebhook("the notice is not text") from error
    if len(raw) > _MAX_NOTICE_BYTES:
        raise MalformedWebhook("the notice is too long")
    return raw


def _pairs(raw: str) -> list[tuple[str, str]]:
    """Return names and values as they came, blanks kept; bytes stay recoverable."""
    try:
        return parse_qsl(
            raw,
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=_MAX_NOTICE_FIELDS,
        )
    except ValueError as error:
        raise MalformedWebhook("the notice has too many fields") from error


def _read_notice(raw: str) -> dict[str, str]:
    """Return the fields under the reference's names; each may come once."""
    fields: dict[str, str] = {}
    for name, value in _pairs(raw):
        text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        key = ALIASES.get(name, name)
        if key in fields or "\x00" in text:
            raise MalformedWebhook("the notice has a field twice, or one with a NUL")
        fields[key] = text
    return fields


def _flatten(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of an answer under the reference's names."""
    objects = (answer, *map(answer.get, _OBJECTS))
    return {
        ALIASES.get(name, name): _text(value)
        for part in objects
        if isinstance(part, Mapping)
        for name, value in part.items()
    }


def _answered(
    body: Mapping[str, Any],
    answer: Mapping[str, Any],
    query: PaymentQuery | None = None,
) -> dict[str, str]:
    """Return the fields of an answer, completed by what was asked."""
    asked = _flatten(body)
    reference = (
        (query.transaction_reference or query.provider_reference) if query else ""
    )
    return {
        "transaction_id": reference,
        **{name: asked[name] for name in _COMPARED if name in asked},
        **_without_blanks(_flatten(answer)),
    }


def _left(known: PaymentSnapshot) -> Money | None:
    """Return what an inquiry says is left of a payment, if it does."""
    if known.captured is None or known.refunded is None:
        return None
    return known.captured - known.refunded


def _text(value: object) -> str:
    """Return a JSON scalar as text; all are documented as strings."""
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    return value if isinstance(value, str) else ""


def _fgkey(secret: str, pairs: Mapping[str, str]) -> str:
    """Return the key of a message, in lower case.

    SHA-256 over the secret, "?" and all fields but the key itself by name, decoded,
    blanks included. Not in the reference; confirmed 2026-11-21 with its example of
    ``ready`` and with a real notice of 2024-06.
    """
    query = "&".join(f"{name}={pairs[name]}" for name in sorted(pairs))
    data = f"{secret}?{query}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()


def _decline(fields: Mapping[str, str], *, is_cancel: bool) -> Decline:
    rescode, errcode = fields.get("rescode", ""), fields.get("errcode", "")
    code = DECLINE_CODES.get(errcode) or DECLINE_CODES.get(rescode)
    return Decline(
        code=DeclineCode.CANCELED_BY_BUYER
        if is_cancel
        else code or DeclineCode.GENERIC,
        provider_code=storable(errcode or rescode, 40),
        message=_harmless(fields.get("resmsg", "")),
    )


def _details(fields: Mapping[str, str]) -> dict[str, str]:
    found = {
        ours: storable(fields[theirs], 255)
        for theirs, ours in DETAILS.items()
        if fields.get(theirs)
    }
    account = fields.get("virtual_account_number", "")
    if _ACCOUNT.fullmatch(account):
        # As it is: one number in ten could be a card's, and the buyer needs them all.
        found["virtual_account_number"] = account
    if "card_last4" in found:
        found["card_last4"] = found["card_last4"][-4:]
    # It becomes a link, so nothing but a page may stand there.
    if not re.match(r"https?://", found.get("payment_url", "https://")):
        del found["payment_url"]
    if name := PAYMENT_METHODS.get(fields.get("payment_method", "")):
        found["payment_method_name"] = name
    return found


def _token(fields: Mapping[str, str]) -> TokenSnapshot | None:
    if not fields.get("token_id"):
        return None
    return TokenSnapshot(
        reference=fields["token_id"],
        brand=CARD_BRANDS.get(fields.get("payment_method", ""), ""),
        last4=fields.get("card_number4", "")[-4:],
    )


def _plan(fields: Mapping[str, str]) -> PlanSnapshot | None:
    if not fields.get("recurring_id"):
        return None
    return PlanSnapshot(
        reference=fields["recurring_id"],
        status=PlanStatus.ACTIVE,
        next_on=_day(fields.get("recurring_next_date", "")),
    )


def _moment(text: str) -> datetime | None:
    """Return ``YYYYMMDDHHMMSS`` as a moment, or None."""
    if not re.fullmatch(r"[0-9]{14}", text):
        return None
    try:
        return datetime.fromisoformat(f"{text[:8]}T{text[8:]}").replace(tzinfo=SEOUL)
    except ValueError:
        return None


def _deadline(text: str) -> datetime | None:
    """Return until when a deposit may come, or None.

    A notice's format is not published; ``ready`` takes ``YYYYMMDDHH``, and whoever
    sends less or more of the same digits is understood too.
    """
    if not re.fullmatch(r"[0-9]{8}([0-9]{2}){0,3}", text):
        return None
    return _moment(f"{text:0<14}" if len(text) > 8 else f"{text}235959")


def _day(text: str) -> date | None:
    """Return ``YYYYMMDD`` as a day, or None."""
    if not re.fullmatch(r"[0-9]{8}", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _harmless(message: str) -> str:
    """Return the provider's words without addresses, keys and card numbers."""
    return _PRIVATE.sub(MASK, storable(message, 1000))[:200]
