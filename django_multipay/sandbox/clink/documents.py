"""The requests by the document: every field, its type, and the rules among them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.clink.codes import (
    CANCEL_REASONS,
    CHECKOUT_METHODS,
    INSTRUMENT_TYPES,
    PAYMENT_METHODS,
    PRICE_CURRENCIES,
    SUBSCRIPTION_METHODS,
    decimal_places,
)
from django_multipay.sandbox.wire import is_web_address

BAD_REQUEST, NOT_FOUND = 400, 404

# The two names the document has for business errors; they stand in `msg`.
CUSTOMER_NOT_FOUND = "CUSTOMER_NOT_FOUND"
CUSTOMER_IDENTIFIER_NOT_MATCHED = "CUSTOMER_IDENTIFIER_NOT_MATCHED"

# No document says what is too much.
TOO_MUCH = 10**15

MOST_METADATA_KEYS, LONGEST_METADATA_KEY, LONGEST_METADATA_VALUE = 20, 40, 500


class Refused(Exception):
    """The request gets another `code` than 200."""

    def __init__(self, msg: str, code: int = BAD_REQUEST) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request. `kind` is a JSON type or a stricter reading of it."""

    name: str
    kind: str = "string"
    required: bool = False
    choices: tuple[str | int, ...] = ()
    longest: int = 0

    def problem_with(self, value: object) -> str | None:
        if not _is_of_kind(value, self.kind):
            return f"{self.name} must be {KINDS[self.kind]}"
        if self.choices:
            given = value if isinstance(value, list) else [value]
            if not all(item in self.choices for item in given):
                return f"{self.name} must be one of {', '.join(map(str, self.choices))}"
        if self.longest and isinstance(value, str) and len(value) > self.longest:
            return f"{self.name} is longer than {self.longest}"
        return None


KINDS = {
    "string": "a string with at least one character",
    "amount": "a number above zero, not a string",
    "whole": "a whole number",
    "flag": "true or false",
    "object": "an object",
    "objects": "a list of objects",
    "strings": "a list of strings",
    "url": "an absolute http or https address",
    "email": "an e-mail address",
    "currency": "a three-letter ISO code",
    "metadata": (
        f"an object of strings, at most {MOST_METADATA_KEYS} keys of at most "
        f"{LONGEST_METADATA_KEY} characters, values of at most "
        f"{LONGEST_METADATA_VALUE}"
    ),
}

IDENTIFIERS = (
    Field("customerId"),
    Field("customerEmail", "email"),
    Field("referenceCustomerId"),
)
DEVICE = (
    Field("platformType", choices=("WEB", "WAP")),
    Field("deviceType", choices=("Android", "iOS")),
)
COMMON = (
    *IDENTIFIERS,
    Field("merchantReferenceId"),
    Field("promotionCode"),
    Field("metadata", "metadata"),
)

CHECKOUT_SESSION = (
    *COMMON,
    Field("originalAmount", "amount", required=True),
    Field("originalCurrency", "currency", required=True),
    Field("productId"),
    Field("priceId"),
    Field("priceDataList", "objects"),
    Field("uiMode", choices=("hostedPage", "elements")),
    Field("returnUrl", "url"),
    Field("successUrl", "url"),
    Field("cancelUrl", "url"),
    Field("paymentMethodType", choices=CHECKOUT_METHODS),
    Field("paymentMethodTypeBlackList", "strings", choices=CHECKOUT_METHODS),
    Field("directPaymentQrCodePaymentMethodType", choices=("CASHAPP", "QRIS")),
    Field("allowPromotionCodes", "flag"),
    Field("showPromotionCode", "flag"),
    Field("localPriceOnly", "flag"),
    Field("scheduledPhases", "objects"),
    Field("historicalPaymentInstrumentImport", "object"),
)
DIRECT_PAYMENT = (
    *COMMON,
    *DEVICE,
    Field("paymentInstrumentId"),
    Field("paymentMethodType", required=True, choices=PAYMENT_METHODS),
    Field("returnUrl", "url", required=True),
    Field("productId"),
    Field("priceId"),
    Field("priceDataList", "objects"),
    Field("amount", "amount"),
    Field("currency", "currency"),
    Field("paymentCurrency", "currency"),
)
ITEM = (
    Field("name", required=True),
    Field("unitAmount", "amount", required=True),
    Field("quantity", "whole"),
    Field("currency", "currency"),
    Field("imageUrl", "url"),
)
NEW_SUBSCRIPTION = (
    *COMMON,
    *DEVICE,
    Field("priceId", required=True),
    Field("productId", required=True),
    Field("paymentMethodType", required=True, choices=SUBSCRIPTION_METHODS),
    Field("paymentCurrency", "currency", required=True, choices=PRICE_CURRENCIES),
    Field("returnUrl", "url", required=True),
    Field("paymentInstrumentId"),
    Field("scheduledPhases", "objects"),
)
CANCELLATION = (
    Field("reason", required=True, longest=255),
    Field("cancelReasonCode", choices=CANCEL_REASONS),
    Field("cancelImmediately", "flag"),
)
INSTRUMENT = (
    *IDENTIFIERS,
    Field("paymentInstrumentType", required=True, choices=INSTRUMENT_TYPES),
    Field("customerName"),
    Field("cpfName"),
    Field("cpfNumber"),
    Field("upiName"),
    Field("phoneNumber"),
    Field("billingAddress", "object"),
    Field("metadata", "metadata"),
)
INSTRUMENT_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "PIX": ("cpfName", "cpfNumber"),
    "UPI": ("upiName", "phoneNumber", "billingAddress"),
}
BILLING_ADDRESS = tuple(
    Field(name, required=True)
    for name in ("city", "region", "country", "line1", "postalCode")
)
NEW_REFUND = (
    Field("orderId", required=True),
    Field("refundMerchantOrderId", required=True),
    Field("refundAmount", "amount", required=True),
    Field("refundReasonType", "whole", choices=(0, 1, 2, 3)),
    Field("remark", longest=500),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strictness:
    """How much is checked beyond what the document says outright."""

    refuses_unknown: bool
    checks_sums: bool
    checks_decimals: bool


def check(
    body: Mapping[str, Any],
    fields: Sequence[Field],
    strictness: Strictness,
    where: str = "",
) -> dict[str, Any]:
    """The body without its nulls, when every field of it is as documented."""
    given = {name: value for name, value in body.items() if value is not None}
    for problem in _problems(given, fields, strictness):
        raise Refused(f"{where}{problem}")
    return given


def _problems(
    given: Mapping[str, Any], fields: Sequence[Field], strictness: Strictness
) -> Iterable[str]:
    known = {item.name: item for item in fields}
    for item in fields:
        if item.required and item.name not in given:
            yield f"{item.name} is required"
    for name, value in given.items():
        if name in known:
            if problem := known[name].problem_with(value):
                yield problem
        elif strictness.refuses_unknown:
            yield f"{name} is unknown"


def check_amount(
    name: str, amount: Decimal, currency: str, strictness: Strictness
) -> None:
    places = decimal_places(currency)
    if strictness.checks_decimals and amount != round(amount, places):
        raise Refused(f"{name} has more than {places} decimals for {currency}")


def check_items(
    items: Sequence[Mapping[str, Any]],
    total: Decimal,
    currency: str,
    strictness: Strictness,
) -> None:
    """Unregistered items: each well formed, and together the amount asked for."""
    added = Decimal(0)
    for number, item in enumerate(items):
        good = check(item, ITEM, strictness, where=f"priceDataList[{number}].")
        quantity = good.get("quantity", 1)
        if quantity < 1:
            raise Refused("priceDataList quantity must be at least 1")
        if good.get("currency", currency) != currency:
            raise Refused("priceDataList currency differs from the currency asked for")
        check_amount("unitAmount", good["unitAmount"], currency, strictness)
        added += good["unitAmount"] * quantity
    if items and strictness.checks_sums and added != total:
        raise Refused(f"priceDataList adds up to {added}, not to {total}")


def check_instrument(body: Mapping[str, Any], strictness: Strictness) -> None:
    """What each type needs beside the customer, and nothing of another type."""
    kind = body["paymentInstrumentType"]
    for owner, names in INSTRUMENT_EXTRAS.items():
        for name in names:
            if owner == kind and name not in body:
                raise Refused(f"{name} is required for {kind}")
            if owner != kind and name in body:
                raise Refused(f"{name} is only for {owner}")
    if kind == "PIX" and not re.fullmatch(
        r"\d{11}|\d{3}\.\d{3}\.\d{3}-\d{2}", body["cpfNumber"], re.ASCII
    ):
        raise Refused("cpfNumber must have 11 digits")
    if kind == "UPI":
        address = body["billingAddress"]
        check(address, BILLING_ADDRESS, strictness, where="billingAddress.")


def _is_of_kind(value: object, kind: str) -> bool:
    match kind:
        case "amount":
            return _is_number(value) and 0 < Decimal(str(value)) < TOO_MUCH
        case "whole":
            return isinstance(value, int) and not isinstance(value, bool)
        case "flag":
            return isinstance(value, bool)
        case "object":
            return isinstance(value, dict) and bool(value)
        case "objects":
            return isinstance(value, list) and all(
                isinstance(item, dict) for item in value
            )
        case "strings":
            return isinstance(value, list) and all(
                isinstance(item, str) for item in value
            )
        case "metadata":
            return _is_metadata(value)
        case _:
            return isinstance(value, str) and _is_text(value, kind)


def _is_text(value: str, kind: str) -> bool:
    match kind:
        case "url":
            return is_web_address(value)
        case "email":
            return bool(re.fullmatch(r"[^@\s]+@[^@\s]+", value))
        case "currency":
            return bool(re.fullmatch(r"[A-Z]{3}", value))
        case _:
            return bool(value.strip())


def _is_number(value: object) -> bool:
    """Integers and, as the body is read, Decimals; a quoted number is a string."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _is_metadata(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_METADATA_KEYS
        and all(
            isinstance(text, str)
            and 0 < len(key) <= LONGEST_METADATA_KEY
            and len(text) <= LONGEST_METADATA_VALUE
            for key, text in value.items()
        )
    )
