"""Accounts, catalog and closed lists: what Clink's tables say."""

from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A merchant. The key authenticates his calls, the secret signs ours."""

    merchant_id: str
    name: str
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)


# Made up here in the documented shapes: Clink publishes no test account.
ACCOUNTS = (
    Account(
        merchant_id="mch_sandbox1",
        name="Sandbox Tea House",
        api_key="sk_test_clinkSandbox1a2b3c4d5e6f7a8b",
        webhook_secret="whsec_clinkSandbox1a2b3c4d5e6f7a8b",  # noqa: S106
    ),
    Account(
        merchant_id="mch_sandbox2",
        name="Sandbox Book Shop",
        api_key="sk_test_clinkSandbox2b3c4d5e6f7a8b9c",
        webhook_secret="whsec_clinkSandbox2b3c4d5e6f7a8b9c",  # noqa: S106
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price of a product; `interval_months` 0 is a one-time price."""

    price_id: str
    product_id: str
    product_name: str
    amount: Decimal
    currency: str
    interval_months: int = 0

    @property
    def is_recurring(self) -> bool:
        return self.interval_months > 0


def _prices(
    product: str, name: str, one_time: str, monthly: str, currency: str
) -> tuple[Price, ...]:
    amounts = (("once", one_time, 0), ("monthly", monthly, 1))
    return tuple(
        Price(
            price_id=f"price_sandbox_{product}_{word}",
            product_id=f"prd_sandbox_{product}",
            product_name=name,
            amount=Decimal(amount),
            currency=currency,
            interval_months=months,
        )
        for word, amount, months in amounts
    )


# Made up here; both accounts sell it. The control API adds to it.
CATALOG = (
    *_prices("tea", "Tea of the month", "19.99", "9.99", "USD"),
    *_prices("kimchi", "Kimchi box", "30000", "15000", "KRW"),
)

CARD = "CARD"
# Methods of the direct calls, and what the buyer must do for each. Which method
# gives which action is in no document; CASHAPP and QRIS certainly show a QR code.
ACTION_OF_METHOD = {
    "ALIPAY": "redirect",
    "CARD": "none",
    "CASHAPP": "qr",
    "GCASH": "redirect",
    "KAKAO": "redirect",
    "PIX": "qr",
    "PROMPTPAY": "qr",
    "QRIS": "qr",
    "TNG": "redirect",
    "UPI": "redirect",
    "WECHAT": "qr",
}
PAYMENT_METHODS = tuple(ACTION_OF_METHOD)
# Only these need no instrument beforehand: it is made with the payment.
METHODS_WITHOUT_INSTRUMENT = frozenset(
    {"ALIPAY", "CASHAPP", "GCASH", "KAKAO", "PROMPTPAY", "QRIS", "TNG", "WECHAT"}
)
SUBSCRIPTION_METHODS = ("CARD", "CASHAPP", "GCASH", "PIX", "UPI")
SUBSCRIPTION_METHODS_WITHOUT_INSTRUMENT = frozenset({"CASHAPP", "GCASH"})
# Cards and browser wallets are saved at a checkout, never by a call.
INSTRUMENT_TYPES = tuple(method for method in PAYMENT_METHODS if method != CARD)
CHECKOUT_METHODS = (
    "CARD",
    "CASHAPP",
    "WECHAT",
    "KAKAO",
    "PIX",
    "ALIPAY",
    "UPI",
    "PAYPAL",
    "GOOGLEPAY",
    "APPLEPAY",
    "QRIS",
    "GCASH",
)
METHODS_WITH_QR_REFRESH = frozenset({"CASHAPP"})
LABELS = {
    "ALIPAY": "Alipay",
    "APPLEPAY": "Apple Pay",
    "CARD": "Card",
    "CASHAPP": "Cash App Pay",
    "GCASH": "GCash",
    "GOOGLEPAY": "Google Pay",
    "KAKAO": "KakaoPay",
    "PAYPAL": "PayPal",
    "PIX": "Pix",
    "PROMPTPAY": "PromptPay",
    "QRIS": "QRIS",
    "TNG": "Touch 'n Go",
    "UPI": "UPI",
    "WECHAT": "WeChat Pay",
}

# The number Clink gives for tests; every card of the sandbox is this one.
TEST_CARD = {
    "last4": "4242",
    "name": "SANDBOX BUYER",
    "expiryYear": "2034",
    "expiryMonth": "12",
    "scheme": "VISA",
    "funding": "CREDIT",
    "issuerRegion": "US",
    "issuerBank": "SANDBOX BANK",
    "billingAddress": None,
}

# The documents show the first two; the others are made up here.
FAILURES = {
    "card_declined": "The card was declined.",
    "processor_communication_error": "The processor could not be reached.",
    "canceled_by_customer": "The customer canceled the payment.",
    "payment_expired": "The customer did not finish in time.",
}
DECLINES = ("card_declined", "processor_communication_error")
CANCELED, PAYMENT_EXPIRED = "canceled_by_customer", "payment_expired"

REFUND_REASONS = (
    "Duplicate payment",
    "Fraudulent activity",
    "Customer Initiated Refund",
    "Other",
)
CANCEL_REASONS = (
    "too_expensive",
    "need_more_features",
    "found_alternative",
    "no_longer_needed",
    "poor_customer_service",
    "poor_usability",
    "poor_quality",
    "other_reasons",
)

# Outcome of a dispute -> its status number and its events, the last one closing it.
DISPUTE_OUTCOMES = {
    "open": (1, ("dispute.created",)),
    "won": (3, ("dispute.won", "dispute.closed")),
    "lost": (4, ("dispute.lost", "dispute.closed")),
    "withdrawn": (5, ("dispute.closed",)),
}

# Units of each currency for one US dollar: made up here, and never moving.
RATES = {
    "USD": Decimal(1),
    "EUR": Decimal("0.9"),
    "JPY": Decimal(150),
    "GBP": Decimal("0.8"),
    "AUD": Decimal("1.5"),
    "CAD": Decimal("1.35"),
    "CNY": Decimal("7.2"),
    "HKD": Decimal("7.8"),
    "SGD": Decimal("1.35"),
    "KRW": Decimal(1300),
    "AED": Decimal("3.67"),
    "THB": Decimal(36),
    "IDR": Decimal(16000),
    "PHP": Decimal(57),
    "MYR": Decimal("4.7"),
    "BRL": Decimal(5),
    "INR": Decimal(83),
}
# Prices and subscriptions know no other currency.
PRICE_CURRENCIES = tuple(RATES)

_PLACES = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "BHD": 3, "JOD": 3, "KWD": 3}


def decimal_places(currency: str) -> int:
    """Digits after the point by ISO 4217, two unless the table says otherwise."""
    return _PLACES.get(currency, 2)


def convert(amount: Decimal, source: str, target: str) -> Decimal | None:
    """The amount in another currency, or None when no rate is known."""
    if source == target:
        return amount
    if source not in RATES or target not in RATES:
        return None
    converted = amount / RATES[source] * RATES[target]
    step = Decimal(1).scaleb(-decimal_places(target))
    return max(converted.quantize(step, ROUND_HALF_UP), step)
