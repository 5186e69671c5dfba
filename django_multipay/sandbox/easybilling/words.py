"""EasyBilling's words as tables: accounts, gateways, statuses, outcomes, currencies.

Sources: the reference page of `POST /api/transactions` ("seed"), the page of the
transaction status ("status-page"), the pages of the payment hub ("hub"), and an
unofficial integration guide ("guide"). None was checked against the live system.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """One tenant. All of it is made up here: EasyBilling publishes no test data."""

    name: str
    api_token: str = field(repr=False)
    username: str
    password: str = field(repr=False)


ACCOUNTS = (
    Account(
        "Jasmine Tea House",
        "eb_sandbox_4f2b8c1d9e7a6053",
        "tea@sandbox.easybilling.example",
        "jasmine-2026",
    ),
    Account(
        "Harbor Books",
        "eb_sandbox_90c3d7e5b1f8a264",
        "books@sandbox.easybilling.example",
        "harbor-2026",
    ),
)

STRIPE, ALIPAY = "stripe-connect", "alipay-page"
WECHAT, PAYERMAX = "wechat-pay-native", "payer-max-isv"
# The seed has the first three, the hub's pages all four.
GATEWAYS: Mapping[str, str] = {
    STRIPE: "Stripe",
    ALIPAY: "Alipay",
    WECHAT: "WeChat Pay",
    PAYERMAX: "PayerMax",
}
# Where the hub can set up a method beforehand; so only these can be charged later.
PRESET_GATEWAYS = (STRIPE, PAYERMAX)
# The form of WeChat's own native links; not from EasyBilling's pages.
WECHAT_LINK = "weixin://wxpay/bizpayurl?pr="

# -- payments --------------------------------------------------------------------

WAITING, PROCESSING, SUCCEEDED = "waiting", "processing", "succeeded"
FAILED, CLOSED, EXPIRED, REFUNDED = "failed", "closed", "expired", "refunded"
OPEN = (WAITING, PROCESSING)

# Each page writes the same state in its own words. The seed has no word for a
# time-out and none for a refund: its nearest are taken.
PAYMENT_WORDS: Mapping[str, Mapping[str, str]] = {
    "seed": {
        WAITING: "waiting",
        PROCESSING: "processing",
        SUCCEEDED: "succeeded",
        FAILED: "failed",
        CLOSED: "closed",
        EXPIRED: "closed",
        REFUNDED: "succeeded",
    },
    "status-page": {
        WAITING: "pending",
        PROCESSING: "processing",
        SUCCEEDED: "completed-with-success",
        FAILED: "completed-with-failure",
        CLOSED: "closed",
        EXPIRED: "expired",
        REFUNDED: "refunded",
    },
    "guide": {
        WAITING: "pending",
        PROCESSING: "processing",
        SUCCEEDED: "succeeded",
        FAILED: "failed",
        CLOSED: "closed",
        EXPIRED: "expired",
        REFUNDED: "succeeded",
    },
}

# -- refunds ---------------------------------------------------------------------

CREATED, REFUNDING = "created", "refunding"
SUCCESS, FAILURE, CANCEL, REFUND_CLOSED = "success", "failure", "cancel", "closed"
REFUND_OPEN = (CREATED, REFUNDING)

REFUND_WORDS: Mapping[str, Mapping[str, str]] = {
    "hub": {
        CREATED: "created",
        REFUNDING: "refunding",
        SUCCESS: "success",
        FAILURE: "failure",
        CANCEL: "cancel",
        REFUND_CLOSED: "closed",
    },
    "guide": {
        CREATED: "created",
        REFUNDING: "refunding",
        SUCCESS: "succeeded",
        FAILURE: "failed",
        CANCEL: "canceled",
        REFUND_CLOSED: "closed",
    },
}
# How the control desk finishes a refund.
REFUND_OUTCOMES: Mapping[str, str] = {
    "succeed": SUCCESS,
    "fail": FAILURE,
    "cancel": CANCEL,
    "close": REFUND_CLOSED,
}

# -- outcomes of a payment -------------------------------------------------------

COMPLETE_URL, CANCEL_URL, NOWHERE = "complete", "cancel", ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a button of the hosted page does, and where the browser goes after it."""

    status: str
    destination: str
    label: str
    meaning: str


OUTCOMES: Mapping[str, Outcome] = {
    "approve": Outcome(SUCCEEDED, COMPLETE_URL, "Pay", "The payment succeeds."),
    "decline": Outcome(
        FAILED,
        COMPLETE_URL,
        "Decline",
        "The payment fails; the buyer goes to the same address as after a success.",
    ),
    "cancel": Outcome(
        CLOSED, CANCEL_URL, "Cancel", "The buyer goes to the shop's cancel address."
    ),
    "expire": Outcome(
        EXPIRED, NOWHERE, "Let it expire", "As if the time to pay had run out."
    ),
    "pending": Outcome(
        PROCESSING,
        COMPLETE_URL,
        "Pay, decided later",
        "The buyer goes back, the gateway is still processing.",
    ),
    "close": Outcome(
        CLOSED,
        NOWHERE,
        "Close the transaction",
        "The gateway closes it; nobody is sent back.",
    ),
    "vanish": Outcome(
        SUCCEEDED,
        NOWHERE,
        "Pay, then close the browser",
        "The payment succeeds, the buyer never comes back.",
    ),
}

# -- currencies (ISO 4217) -------------------------------------------------------

ISO_4217 = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD
BTN BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB
EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK
JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA
MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK
PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN
SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV
WST XAF XCD XOF XPF YER ZAR ZMW ZWG
"""
CURRENCIES = frozenset(ISO_4217.split())
WITHOUT_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
WITH_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"


def decimal_places(currency: str) -> int:
    """How many decimals an amount of this currency has."""
    if currency in WITHOUT_DECIMALS.split():
        return 0
    return 3 if currency in WITH_THREE_DECIMALS.split() else 2


def payment_word(status: str, *, page: str, vocabulary: str) -> str:
    """A state in the words of a page ("seed" or "status-page"), or of the setting."""
    return _spoken(PAYMENT_WORDS, status, page, vocabulary)


def refund_word(status: str, *, vocabulary: str) -> str:
    """A refund's state in the hub's words, or in those of the setting."""
    return _spoken(REFUND_WORDS, status, "hub", vocabulary)


def _spoken(
    words: Mapping[str, Mapping[str, str]], status: str, page: str, vocabulary: str
) -> str:
    word = words.get(vocabulary, words[page])[status]
    return word.upper() if vocabulary == "capitals" else word
