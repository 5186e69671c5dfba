"""Accounts, result codes and payment methods: what Eximbay's tables say."""

from dataclasses import dataclass, field
from datetime import timedelta, timezone


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A merchant contract. The secret signs; the API key only authenticates."""

    mid: str
    api_key: str
    secret: str = field(repr=False)
    is_domestic: bool = False


ACCOUNTS = (
    # Published by Eximbay for everybody's tests; the legacy secret of the same MID
    # stands in several public plugins.
    Account(
        mid="1849705C64",
        api_key="test_1849705C642C217E0B2D",
        secret="289F40E6640124B2628640168C3C5464",  # noqa: S106
    ),
    # Made up here: a Korean domestic contract in the documented shapes.
    Account(
        mid="SANDBOXKR1",
        api_key="test_SANDBOXKR1000000DE01",
        secret="5A4DB0C05A4DB0C05A4DB0C05A4DB0C0",  # noqa: S106
        is_domestic=True,
    ),
)
ACCOUNTS_BY_MID = {account.mid: account for account in ACCOUNTS}


OK = "0000"
BAD_REQUEST = "EC00"
BAD_CREDENTIALS = "EC1000"
BAD_CONTENT_TYPE = "EC1001"
BAD_TRANSACTION_ID = "EC1002"
BAD_METHOD = "EC1003"
NOT_FOUND = "Q004"
BAD_FGKEY = "VE00"

# Answered with the HTTP status of a wrong request; other codes tell an outcome.
BAD_REQUESTS = {BAD_REQUEST, BAD_CONTENT_TYPE, BAD_TRANSACTION_ID, BAD_FGKEY}

# Not in any document: ours.
CANCELED_BY_BUYER = "XC00"
CARD_ALREADY_SAVED = "TK01"
REFUND_REFUSED = "RF00"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An issuer's or Eximbay's no. Which errcode goes with which code is ASSUMED."""

    rescode: str
    errcode: str
    resmsg: str


DECLINES = (
    Refusal("8327", "CARD_VELOCITY_EXCEEDED", "Card limit exceeded."),
    Refusal("X059", "STOLEN_OR_LOST_CARD", "Lost or stolen card."),
    Refusal("HE00", "INVALID_CARD_NUMBER", "Invalid card number."),
    Refusal("HE01", "EXPIRED_CARD", "Invalid expiry date."),
    Refusal("HE02", "INVALID_CVC", "Invalid cvc."),
    Refusal("PC04", "CARD_NOT_SUPPORTED", "Card not supported by this merchant."),
    Refusal("X042", "NOT_REGISTERED_MERCHANT", "No contract for this method."),
    Refusal("DP00", "FRAUDULENT_DECLINE", "DmPlus Confirm fail."),
    Refusal("EE99", "TEMPORARY_ERROR", "Communication Error."),
)
DECLINES_BY_CODE = {refusal.rescode: refusal for refusal in DECLINES}
CANCELED = Refusal(CANCELED_BY_BUYER, "GENERIC_DECLINE", "Canceled by the buyer.")
TOKEN_REFUSED = Refusal(CARD_ALREADY_SAVED, "DUPLICATION_DECLINE", "Card has a token.")
CONTRADICTION = DECLINES_BY_CODE["X059"]
NO_REFUND_FUNDS = Refusal(
    REFUND_REFUSED, "INSUFFICIENT_MERCHANT_REFUND_FUNDS", "Insufficient refund funds."
)

CARDS = {
    "P101": "VISA",
    "P102": "Mastercard",
    "P103": "American Express",
    "P104": "JCB",
    "P106": "Diners Club",
    "P107": "Discover",
    "P108": "Mir",
    "P109": "UnionPay",
}
KOREAN_CARDS = {
    "P111": "KB",
    "P110": "BC",
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
WALLETS = {
    "P001": "PayPal",
    "P002": "UnionPay UPOP",
    "P003": "Alipay+",
    "P141": "WeChat Pay",
    "P142": "WeChat Pay (mobile)",
    "P143": "WeChat Pay (popup)",
    "P144": "WeChat Pay (mini program)",
    "P174": "Alipay CN",
    "P175": "TrueMoney",
    "P176": "DANA",
    "P177": "Alipay HK",
    "P178": "Touch 'n Go",
    "P179": "GCash",
    "P195": "Alipay+ (mini program)",
    "P197": "Klarna",
    "P198": "Apple Pay",
    "P091": "Apple Pay VISA",
    "P092": "Apple Pay Mastercard",
    "P093": "Apple Pay American Express",
    "P094": "Apple Pay JCB",
    "P095": "Apple Pay UnionPay",
    "P199": "Samsung Pay",
    "P096": "Samsung Pay VISA",
    "P097": "Samsung Pay Mastercard",
    "P098": "Samsung Pay American Express",
    "P300": "Unifipay",
    "P350": "GrabPay (Malaysia)",
    "P351": "GrabPay (Singapore)",
    "P352": "ShopeePay",
    "P353": "JKOPAY",
    "P354": "PayPay",
}
KOREAN_WALLETS = {
    "P301": "Bank transfer",
    "P302": "KakaoPay",
    "P303": "Toss",
    "P304": "PAYCO",
    "P015": "Naver Pay (card and points)",
    "P307": "Naver Pay (card)",
    "P308": "Naver Pay (points)",
}
# Registered first, paid later.
DEFERRED = {
    "P305": "Virtual account",
    "P310": "Virtual account (overseas)",
    "P006": "Convenience store (eContext)",
}
# Gone from the current table; the reference still prints P185 and P186.
OLDER_METHODS = {
    "P105": "UnionPay 2D",
    "P118": "Hana (formerly SK)",
    "P185": "GrabPay (Singapore, older code)",
    "P186": "LINE Pay",
    "P189": "GrabPay (Malaysia, older code)",
    "P190": "GrabPay (Philippines)",
    "P194": "LINE Pay (eContext)",
    "P306": "SmilePay",
}
ANY_CARD = "P000"
GROUPS = (
    ("cards", CARDS),
    ("korean_cards", KOREAN_CARDS),
    ("wallets", {**WALLETS, **OLDER_METHODS}),
    ("korean_wallets", KOREAN_WALLETS),
    ("deferred", DEFERRED),
)
GROUP_OF = {code: name for name, methods in GROUPS for code in methods}
LABELS = {code: label for _, methods in GROUPS for code, label in methods.items()}
KOREAN_ONLY = {*KOREAN_CARDS, *KOREAN_WALLETS, "P305"}
YEN_ONLY = {"P006", "P354"}
VIRTUAL_ACCOUNTS = {"P305", "P310"}
NAVER_POINTS = {"P015", "P308"}
BANK_TRANSFER = "P301"

# What the page offers beside cards when the request names no method.
USUAL_CROSS_BORDER = ("P001", "P003", "P141")
USUAL_KOREAN = ("P302", "P303", "P304", "P307", "P301", "P305")
USUAL_YEN = ("P354", "P006")

# (first four, last four) digits of test cards; no full number exists anywhere.
CARD_DIGITS = {
    "P101": ("4111", "1111"),
    "P102": ("5555", "4444"),
    "P103": ("3782", "0005"),
    "P104": ("3530", "0000"),
    "P106": ("3056", "5904"),
    "P107": ("6011", "1117"),
}
OTHER_CARD_DIGITS = ("9490", "0001")

CURRENCIES = (
    *("KRW", "USD", "EUR", "GBP", "JPY", "THB"),
    *("SGD", "RUB", "HKD", "CAD", "AUD"),
)
WHOLE_UNIT_CURRENCIES = {"KRW", "JPY"}
LANGUAGES = ("EN", "KR", "JP", "CN", "TW", "RU", "TH", "VN")
SEOUL = timezone(timedelta(hours=9), "Asia/Seoul")


def refusal_of(rescode: str) -> Refusal:
    return DECLINES_BY_CODE.get(rescode) or Refusal(
        rescode, "GENERIC_DECLINE", "Declined."
    )


def is_method(code: str) -> bool:
    return code == ANY_CARD or code in LABELS


def is_card(method: str) -> bool:
    return method in CARDS or method in KOREAN_CARDS


def card_digits(method: str) -> tuple[str, str]:
    return CARD_DIGITS.get(method, OTHER_CARD_DIGITS)


def decimal_places(currency: str) -> int:
    return 0 if currency in WHOLE_UNIT_CURRENCIES else 2
