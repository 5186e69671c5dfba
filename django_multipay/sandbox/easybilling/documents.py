"""The requests by the document: every field, every rule, and what they are read into.

No error answer is documented. Every refusal has one shape, made up here:
`{"error": "invalid_request", "message": "amount is mandatory"}`. It has no `status`,
so that nobody takes it for a payment's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.easybilling.words import (
    CURRENCIES,
    GATEWAYS,
    PRESET_GATEWAYS,
    STRIPE,
    decimal_places,
)
from django_multipay.sandbox.wire import is_web_address

# HTTP status -> the word in the error body.
ERRORS: Mapping[int, str] = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
}

# An id stands in the path of the inquiry, so it has only what a path may have.
REFERENCE = r"[A-Za-z0-9._~-]+"
EMAIL = r"[^@\s]+@[^@\s]+\.[^@\s]+"
MINOR_AMOUNT = r"[1-9][0-9]{0,14}"
MAJOR_AMOUNT = r"(0|[1-9][0-9]{0,14})(\.[0-9]+)?"


class Refused(Exception):
    """The request gets an error body instead of an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request body; null is no value of any."""

    name: str
    kind: type[str] | type[bool] = str
    required: bool = True
    may_be_blank: bool = False
    choices: tuple[str, ...] = ()

    def check(self, body: Mapping[str, Any]) -> None:
        if self.name not in body:
            if self.required:
                raise Refused(400, f"{self.name} is mandatory")
            return
        value = body[self.name]
        if not isinstance(value, self.kind):
            word = "a string" if self.kind is str else "a boolean"
            raise Refused(400, f"{self.name} must be {word}")
        if isinstance(value, str) and not _is_text(value):
            raise Refused(400, f"{self.name} is no valid text")
        if value == "" and not self.may_be_blank:
            raise Refused(400, f"{self.name} must not be empty")
        if self.choices and value not in self.choices:
            raise Refused(400, f"{self.name} must be one of {', '.join(self.choices)}")


# As the seed lists them; supportOfflineScenario is from the hub's newer page.
TRANSACTION = (
    Field("transactionId"),
    Field("amount"),
    Field("currency"),
    Field("date"),
    Field("paymentGatewayType", choices=tuple(GATEWAYS)),
    Field("completePayRedirectUrl"),
    Field("onlineScenario", bool),
    Field("cancelPayRedirectUrl"),
    Field("description", required=False, may_be_blank=True),
    Field("customerIdentifier", required=False),
    Field("supportOfflineScenario", bool, required=False),
)
# The page's sample has `amount`, its field table has `status` instead.
REFUND = (
    Field("transactionId"),
    Field("requestId"),
    Field("amount"),
    Field("status", required=False, may_be_blank=True),
)
PAYMENT_METHOD = (
    Field("paymentGatewayType", choices=PRESET_GATEWAYS),
    Field("customerIdentifier"),
    Field("redirectUrl"),
    Field("cancelUrl", required=False),
)
LOGIN = (Field("username"), Field("password"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A checked request to start a payment."""

    transaction_id: str
    amount: str
    currency: str
    gateway: str
    complete_url: str
    cancel_url: str
    is_online: bool
    description: str
    customer: str
    saves_method: bool

    @property
    def identity(self) -> tuple[object, ...]:
        """What a repeated request must not change."""
        return (
            Decimal(self.amount),
            self.currency,
            self.gateway,
            self.customer,
            self.is_online,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A checked request to save a payment method before any payment."""

    gateway: str
    customer: str
    redirect_url: str
    cancel_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    """A checked request to give money back."""

    transaction_id: str
    request_id: str
    amount: str


def read_transaction(body: Mapping[str, Any], settings: Mapping[str, Any]) -> Order:
    """The body of `POST /api/transactions`, or Refused."""
    fields: tuple[Field, ...] = TRANSACTION
    if not settings["date_required"]:
        fields = tuple(
            Field("date", required=False) if field.name == "date" else field
            for field in fields
        )
    _check_fields(body, fields, settings)
    order = Order(
        transaction_id=body["transactionId"],
        amount=body["amount"],
        currency=body["currency"],
        gateway=body["paymentGatewayType"],
        complete_url=body["completePayRedirectUrl"],
        cancel_url=body["cancelPayRedirectUrl"],
        is_online=body["onlineScenario"],
        description=body.get("description", ""),
        customer=body.get("customerIdentifier", ""),
        saves_method=body.get("supportOfflineScenario", False),
    )
    _check_reference("transactionId", order.transaction_id, settings)
    if order.currency not in CURRENCIES:
        raise Refused(400, "currency must be an ISO 4217 code")
    check_amount(order.amount, order.currency, settings["amount_unit"])
    if "date" in body:
        _check_date(body["date"])
    is_secure = order.gateway == STRIPE and settings["https_required"]
    _check_url("completePayRedirectUrl", order.complete_url, is_secure=is_secure)
    _check_url("cancelPayRedirectUrl", order.cancel_url, is_secure=is_secure)
    _check_customer(order, settings)
    return order


def read_refund(body: Mapping[str, Any], settings: Mapping[str, Any]) -> RefundOrder:
    """The body of `POST /api/refund`, or Refused. The amount is not checked yet."""
    _check_fields(body, REFUND, settings)
    _check_reference("requestId", body["requestId"], settings)
    return RefundOrder(
        transaction_id=body["transactionId"],
        request_id=body["requestId"],
        amount=body["amount"],
    )


def read_payment_method(body: Mapping[str, Any], settings: Mapping[str, Any]) -> Setup:
    """The body of `POST /api/payment-methods`, or Refused.

    The page's own sample has `user-12345` with stripe-connect: no e-mail rule here.
    """
    _check_fields(body, PAYMENT_METHOD, settings)
    setup = Setup(
        gateway=body["paymentGatewayType"],
        customer=body["customerIdentifier"],
        redirect_url=body["redirectUrl"],
        cancel_url=body.get("cancelUrl", ""),
    )
    if setup.gateway == STRIPE and not setup.cancel_url:
        raise Refused(400, "cancelUrl is mandatory for stripe-connect")
    _check_url("redirectUrl", setup.redirect_url, is_secure=False)
    if setup.cancel_url:
        _check_url("cancelUrl", setup.cancel_url, is_secure=False)
    return setup


def read_login(body: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[str, str]:
    """Username and password of `POST /api/authenticate/login`, or Refused."""
    _check_fields(body, LOGIN, settings)
    return body["username"], body["password"]


def check_amount(amount: str, currency: str, unit: str) -> None:
    """Plain digits above zero; in major units with the currency's decimals at most."""
    if unit == "minor":
        if not re.fullmatch(MINOR_AMOUNT, amount):
            raise Refused(400, "amount must be whole minor units, digits only")
        return
    places = decimal_places(currency)
    if not re.fullmatch(MAJOR_AMOUNT, amount) or Decimal(amount) == 0:
        raise Refused(400, "amount must be a plain number above zero")
    if len(amount.partition(".")[2]) > places:
        raise Refused(400, f"amount has more than {places} decimals")


def _is_text(value: str) -> bool:
    """Half a character (a lone surrogate) is legal JSON, but no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_fields(
    body: Mapping[str, Any], fields: tuple[Field, ...], settings: Mapping[str, Any]
) -> None:
    for field in fields:
        field.check(body)
    known = {field.name for field in fields}
    if settings["refuse_unknown_fields"] and (unknown := sorted(body.keys() - known)):
        raise Refused(400, f"unknown field: {unknown[0]}")


def _check_reference(name: str, value: str, settings: Mapping[str, Any]) -> None:
    longest = settings["transaction_id_length"]
    if len(value) > longest:
        raise Refused(400, f"{name} is longer than {longest} characters")
    if not re.fullmatch(REFERENCE, value):
        raise Refused(400, f"{name} has characters other than letters, digits, . _ ~ -")


def _check_date(text: str) -> None:
    # fromisoformat alone would take 20260501 and 2026-W18-5, too.
    try:
        is_day = f"{date.fromisoformat(text)}" == text
    except ValueError:
        is_day = False
    if not is_day:
        raise Refused(400, "date must be a day, YYYY-MM-DD")


def _check_url(name: str, url: str, *, is_secure: bool) -> None:
    if not is_web_address(url):
        raise Refused(400, f"{name} must be an absolute URL")
    if is_secure and not url.startswith("https://"):
        raise Refused(400, f"{name} must start with https for {STRIPE}")


def _check_customer(order: Order, settings: Mapping[str, Any]) -> None:
    gateway = order.gateway
    if gateway == STRIPE:
        if settings["customer_required_for_stripe"] and not order.customer:
            raise Refused(400, f"customerIdentifier is mandatory for {STRIPE}")
        if order.customer and not re.fullmatch(EMAIL, order.customer):
            raise Refused(400, f"customerIdentifier must be an email for {STRIPE}")
    if order.is_online and not order.saves_method:
        return
    if order.saves_method and not order.is_online:
        raise Refused(400, "supportOfflineScenario needs onlineScenario true")
    if not order.customer:
        raise Refused(400, "customerIdentifier is mandatory for offline charges")
    if settings["offline_gateways"] == "presets" and gateway not in PRESET_GATEWAYS:
        raise Refused(400, f"{gateway} has no offline charges")
