"""What a caller asks for: checked, then to the columns of a payment and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import models
from django.utils import timezone
from moneyed import Money

from django_multipay import money
from django_multipay.enums import TokenStatus
from django_multipay.exceptions import InvalidAmount, InvalidOperation
from django_multipay.messages import Address, Buyer, LineItem
from django_multipay.models import Payment, Token
from django_multipay.providers.base import Provider
from django_multipay.redaction import scrub, storable

_MAX_QUANTITY = 10**6


def check_amount(amount: Money, provider: Provider | None) -> None:
    """Raise `InvalidAmount` unless ``amount`` can be asked for, at ``provider``."""
    if not isinstance(amount, Money):
        raise InvalidAmount(
            f"amount is a {type(amount).__name__}; use Money('26.30', 'USD')", "amount"
        )
    money.currency_of(amount.currency.code)
    if money.to_minor(amount) <= 0:
        raise InvalidAmount(f"amount {amount} must be above zero", "amount")
    if provider and not provider.can_take(amount):
        raise InvalidAmount(
            f"{provider.display_name} ({provider.alias}) does not take {amount}; "
            f"its currencies are {', '.join(sorted(provider.currencies)) or 'its own'}",
            "amount",
        )


def check_items(items: Sequence[object], amount: Money) -> None:
    """Raise `InvalidOperation` unless ``items`` fit a payment of ``amount``."""
    for number, item in enumerate(items):
        if not isinstance(item, LineItem) or not isinstance(item.unit_price, Money):
            raise InvalidOperation(
                f"items[{number}] must be a LineItem with a unit_price of Money",
                "items",
            )
        if item.unit_price.currency != amount.currency:
            raise InvalidAmount(
                f"items[{number}].unit_price is in {item.unit_price.currency.code}, "
                f"the payment in {amount.currency.code}; use one currency",
                "items",
            )
        money.to_minor(item.unit_price)
        words("items", item.name, 255)
        identifier("items", item.url, 2000, is_required=False)
        # A bool would pass for a whole number.
        is_whole = type(item.quantity) is int
        if not is_whole or not 1 <= item.quantity <= _MAX_QUANTITY:
            raise InvalidOperation(
                f"items[{number}].quantity is {item.quantity!r}; use a whole number, "
                f"1 to {_MAX_QUANTITY}",
                "items",
            )


def check_usable(token: Token) -> None:
    """Raise `InvalidOperation` for a saved method that is charged no more."""
    if token.status != TokenStatus.ACTIVE:
        raise InvalidOperation(
            "the saved method was deleted, or is not accepted; use another", "token"
        )


def check_token(token: Token | None, provider: str | None, customer_id: str) -> None:
    """Raise `InvalidOperation` unless the customer can pay with ``token`` there."""
    if token is None:
        return
    check_usable(token)
    # Two buyers without a name are not the same buyer.
    is_theirs = token.customer_id == customer_id and bool(customer_id)
    if token.provider != provider or not is_theirs:
        raise InvalidOperation(
            "the saved method belongs to another customer or provider account", "token"
        )


def identifier(field: str, value: str, limit: int, is_required: bool = True) -> str:
    """Return ``value``; `InvalidOperation` if it is no text, empty or too long."""
    if not isinstance(value, str):
        raise InvalidOperation(f"{field} is a {type(value).__name__}, not text", field)
    if is_required and not value.strip():
        raise InvalidOperation(f"{field} is empty; it must name your order", field)
    if len(value) > limit:
        raise InvalidOperation(f"{field} is longer than {limit} characters", field)
    if value != storable(value, limit):
        raise InvalidOperation(
            f"{field} holds a card number or characters no database takes", field
        )
    return value


def words(field: str, value: object, limit: int) -> str:
    """Return text for people, made fit to store; `InvalidOperation` if it is none."""
    if not isinstance(value, str):
        raise InvalidOperation(f"{field} is a {type(value).__name__}, not text", field)
    return storable(value, limit)


def check_moment(field: str, value: object) -> None:
    """Raise `InvalidOperation` for what is neither None nor an aware datetime."""
    if value is None:
        return
    if not isinstance(value, datetime) or timezone.is_naive(value):
        raise InvalidOperation(
            f"{field} is no moment with a time zone; use django.utils.timezone", field
        )


def choice(field: str, value: str, choices: type[models.TextChoices]) -> str:
    """Return ``value``; `InvalidOperation` if it is none of ``choices``."""
    if value not in choices.values:
        raise InvalidOperation(
            f"{field} is {value!r}; use one of: {', '.join(choices.values)}", field
        )
    return value


def plain_json(field: str, value: Mapping[str, Any]) -> Any:
    """Return a dict fit to store; `InvalidOperation` if JSON would not keep it."""
    if not isinstance(value, Mapping):
        raise InvalidOperation(
            f"{field} is a {type(value).__name__}, not a dict", field
        )
    try:
        text = json.dumps(value, allow_nan=False)
        return scrub(json.loads(text, parse_float=_refuse_fraction))
    except (TypeError, ValueError) as error:
        raise InvalidOperation(
            f"{field} is not plain JSON ({error}); use texts, whole numbers, lists "
            "and dicts",
            field,
        ) from error


def _refuse_fraction(text: str) -> None:
    raise ValueError(f"{text} would lose digits; write it as text")


# To and from the columns --------------------------------------------------------------


def buyer_columns(buyer: Buyer) -> dict[str, str]:
    """Return the columns that name ``buyer``; `InvalidOperation` if they cannot."""
    return {
        "buyer_name": words("buyer.name", buyer.name, 150),
        "buyer_email": identifier("buyer.email", buyer.email, 254, is_required=False),
        "buyer_phone": identifier("buyer.phone", buyer.phone, 40, is_required=False),
        "buyer_country": identifier(
            "buyer.country", buyer.country, 2, is_required=False
        ),
    }


def load_buyer(payment: Payment) -> Buyer:
    """Return the buyer of ``payment``, with the address while it is kept."""
    data = payment.checkout_data or {}
    return Buyer(
        name=payment.buyer_name,
        email=payment.buyer_email,
        phone=payment.buyer_phone,
        country=payment.buyer_country,
        address=load_address(data.get("address")),
    )


def checkout_data(
    buyer: Buyer, ship_to: Address | None, provider_data: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return what is kept only until the payment is over, None for nothing."""
    data = {
        "address": dataclasses.asdict(buyer.address) if buyer.address else None,
        "ship_to": dataclasses.asdict(ship_to) if ship_to else None,
        "provider_data": plain_json("provider_data", provider_data or {}),
    }
    return data if any(data.values()) else None


def dump_item(item: LineItem) -> dict[str, Any]:
    """Return ``item`` as plain JSON, its price in minor units."""
    return {
        "name": storable(item.name, 255),
        "quantity": item.quantity,
        "unit_minor": money.to_minor(item.unit_price),
        "url": item.url,
        "is_surcharge": item.is_surcharge,
    }


def load_items(payment: Payment) -> list[LineItem]:
    """Return what ``payment`` is for, as `dump_item` stored it."""
    return [
        LineItem(
            name=data["name"],
            quantity=data["quantity"],
            unit_price=money.from_minor(data["unit_minor"], payment.currency),
            url=data["url"],
            is_surcharge=data["is_surcharge"],
        )
        for data in payment.items
    ]


def load_address(data: Mapping[str, str] | None) -> Address | None:
    """Return an address as `checkout_data` stored it."""
    return Address(**data) if data else None
