"""From an order to a buyer who stands at the provider's door."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from django.db import models
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import get_language
from moneyed import Money

from django_multipay import ledger, money
from django_multipay.enums import (
    CaptureMode,
    PaymentStatus,
    Purpose,
    Source,
    TokenStatus,
)
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidOperation,
    InvalidTransition,
    MultipayError,
    RequestRejected,
)
from django_multipay.flows.guards import (
    account_of,
    refuse_open_transaction,
    state_after,
    wait_of,
)
from django_multipay.flows.links import absolute_url, callback_url
from django_multipay.flows.notices import deliver_notices
from django_multipay.messages import (
    Address,
    Buyer,
    LineItem,
    NextAction,
    PaymentRequest,
    PlanTerms,
)
from django_multipay.models import Payment, RecurringPlan, Token
from django_multipay.providers.base import Provider
from django_multipay.redaction import scrub, storable
from django_multipay.registry import registry

logger = logging.getLogger("django_multipay.flows")

_MAX_QUANTITY = 10**6


def create_payment(
    *,
    provider: str | None = None,
    order_id: str,
    amount: Money,
    buyer: Buyer | None = None,
    customer_id: str = "",
    success_url: str = "",
    failure_url: str = "",
    description: str = "",
    items: Sequence[LineItem] = (),
    locale: str = "",
    method: str = "",
    capture_mode: str = CaptureMode.AUTOMATIC,
    save_token: bool = False,
    token: Token | None = None,
    plan: RecurringPlan | None = None,
    metadata: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    ship_to: Address | None = None,
    provider_data: Mapping[str, Any] | None = None,
) -> Payment:
    """Record that one ``amount`` is to be collected for ``order_id``; send nothing.

    ``provider`` is an alias, or None to let the buyer choose. ``amount`` is in major
    units, exactly as the currency allows. ``provider_data`` holds fields that only
    this provider knows (see its page). Joins the caller's transaction.

    `InvalidAmount`, `InvalidOperation` (with ``field``) or, for an unknown alias,
    `ProviderConfigurationError`.
    """
    buyer = buyer or Buyer()
    chosen = registry[provider] if provider is not None else None
    _check_amount(amount, chosen)
    _check_items(items, amount)
    _check_token(token, provider, customer_id)
    if save_token and not customer_id:
        raise InvalidOperation(
            "save_token needs customer_id: a saved method belongs to somebody",
            "customer_id",
        )
    _check_moment("expires_at", expires_at)
    payment = Payment(
        provider=provider or "",
        order_id=_identifier("order_id", order_id, 64),
        amount_minor=money.to_minor(amount),
        currency=amount.currency.code,
        capture_mode=_choice("capture_mode", capture_mode, CaptureMode),
        method=_identifier("method", method, 64, is_required=False),
        description=_words("description", description, 255),
        items=[_dump_item(item) for item in items],
        buyer_name=_words("buyer.name", buyer.name, 150),
        buyer_email=_identifier("buyer.email", buyer.email, 254, is_required=False),
        buyer_phone=_identifier("buyer.phone", buyer.phone, 40, is_required=False),
        buyer_country=_identifier("buyer.country", buyer.country, 2, is_required=False),
        customer_id=_identifier("customer_id", customer_id, 64, is_required=False),
        locale=_identifier("locale", locale or get_language() or "", 16, False),
        success_url=_identifier("success_url", success_url, 500, is_required=False),
        failure_url=_identifier("failure_url", failure_url, 500, is_required=False),
        metadata=_plain_json("metadata", metadata or {}),
        save_token=save_token,
        token=token,
        plan=plan,
        expires_at=expires_at,
        checkout_data=_checkout_data(buyer, ship_to, provider_data),
    )
    return ledger.open_payment(payment)


def start_payment(
    payment: Payment, request: HttpRequest | None = None, *, provider: str = ""
) -> NextAction | None:
    """Open ``payment`` at its provider and return what the buyer does next.

    Safe to call again: an action that was stored is returned as it is, and only one
    caller at a time reaches the provider. None means that another worker is opening
    it right now; ask again in a moment. ``provider`` chooses the alias while the
    payment has none.

    `InvalidTransition` once the payment is over, `ProviderError` when the provider
    could not be reached or refused, `RuntimeError` inside a transaction.
    """
    refuse_open_transaction("start_payment")
    payment.refresh_from_db()
    if payment.next_action:
        return payment.action
    _check_startable(payment, provider)
    operation = ledger.request_checkout(payment, provider)
    chosen = registry[payment.provider]
    if operation is None or not ledger.claim_operation(operation):
        payment.refresh_from_db()
        return payment.action
    try:
        snapshot = chosen.start_payment(
            _payment_request(payment, operation.key, request)
        )
        is_open = snapshot.status in {PaymentStatus.CREATED, PaymentStatus.PENDING}
        if is_open and snapshot.amount not in {None, payment.amount}:
            raise RequestRejected(
                f"the provider would ask the buyer for {snapshot.amount}, not for "
                f"{payment.amount}; nobody is sent there",
                payment.provider,
                "start",
            )
    except MultipayError as error:
        ledger.conclude_operation(
            operation, state_after(error), str(error), wait_of(error)
        )
        raise
    ledger.conclude_checkout(payment.pk, operation, snapshot)
    if not is_open:
        ledger.apply_snapshot(
            payment.pk, snapshot, account=account_of(chosen), source=Source.START
        )
        deliver_notices()
    payment.refresh_from_db()
    return payment.action


def providers_for(payment: Payment) -> list[Provider]:
    """Return the providers that can take ``payment``, in the order of the settings."""
    aliases = [payment.provider] if payment.provider else list(registry)
    return [
        registry[alias]
        for alias in aliases
        if alias in registry and registry[alias].can_take(payment.amount)
    ]


def _check_startable(payment: Payment, provider: str) -> None:
    if payment.status not in {PaymentStatus.CREATED, PaymentStatus.PENDING}:
        raise InvalidTransition(
            f"payment {payment.uuid} is {payment.status} and cannot be started; "
            "create a new payment for another attempt"
        )
    if payment.expires_at and payment.expires_at <= timezone.now():
        raise InvalidTransition(
            f"payment {payment.uuid} expired; create a new payment", "expires_at"
        )
    if not (payment.provider or provider):
        raise InvalidOperation(
            "the payment has no provider yet; pass the alias the buyer chose",
            "provider",
        )
    if payment.provider and provider not in {"", payment.provider}:
        raise InvalidTransition(
            f"payment {payment.uuid} was already opened at {payment.provider}; "
            "create a new payment to use another provider",
            "provider",
        )
    if not payment.provider:
        _check_amount(payment.amount, registry[provider])


def _payment_request(
    payment: Payment, key: str, request: HttpRequest | None
) -> PaymentRequest:
    data = payment.checkout_data or {}
    agent = request.headers.get("User-Agent", "") if request else ""
    return PaymentRequest(
        key=key,
        merchant_reference=payment.merchant_reference,
        order_id=payment.order_id,
        amount=payment.amount,
        return_url=callback_url(payment, Purpose.RETURN, request),
        status_url=callback_url(payment, Purpose.STATUS, request),
        cancel_url=absolute_url(payment.get_outcome_url(), request),
        capture_mode=CaptureMode(payment.capture_mode),
        method=payment.method,
        description=payment.description,
        items=[_load_item(item, payment) for item in payment.items],
        buyer=Buyer(
            name=payment.buyer_name,
            email=payment.buyer_email,
            phone=payment.buyer_phone,
            country=payment.buyer_country,
            address=_load_address(data.get("address")),
        ),
        ship_to=_load_address(data.get("ship_to")),
        customer_id=payment.customer_id,
        locale=payment.locale,
        is_mobile="Mobi" in agent,
        save_token=payment.save_token,
        token=payment.token.provider_token if payment.token else "",
        plan=_plan_terms(payment, request),
        expires_at=payment.expires_at,
        metadata=payment.metadata,
        provider_data=data.get("provider_data") or {},
    )


def _plan_terms(payment: Payment, request: HttpRequest | None) -> PlanTerms | None:
    plan = payment.plan
    if plan is None or plan.first_payment_id != payment.pk:
        return None
    start_on: date = plan.start_on
    return PlanTerms(
        amount=plan.amount,
        interval_months=plan.interval_months,
        start_on=start_on,
        notice_url=callback_url(payment, Purpose.PLAN, request),
    )


# Checks of what the caller gave ------------------------------------------------------


def _check_amount(amount: Money, provider: Provider | None) -> None:
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


def _check_items(items: Sequence[object], amount: Money) -> None:
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
        _words("items", item.name, 255)
        _identifier("items", item.url, 2000, is_required=False)
        # A bool would pass for a whole number.
        is_whole = type(item.quantity) is int
        if not is_whole or not 1 <= item.quantity <= _MAX_QUANTITY:
            raise InvalidOperation(
                f"items[{number}].quantity is {item.quantity!r}; use a whole number, "
                f"1 to {_MAX_QUANTITY}",
                "items",
            )


def _check_token(token: Token | None, provider: str | None, customer_id: str) -> None:
    if token is None:
        return
    if token.status != TokenStatus.ACTIVE:
        raise InvalidOperation("the saved method was deleted; use another", "token")
    # Two buyers without a name are not the same buyer.
    is_theirs = token.customer_id == customer_id and bool(customer_id)
    if token.provider != provider or not is_theirs:
        raise InvalidOperation(
            "the saved method belongs to another customer or provider account", "token"
        )


def _identifier(field: str, value: str, limit: int, is_required: bool = True) -> str:
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


def _words(field: str, value: object, limit: int) -> str:
    """Return text for people, made fit to store; `InvalidOperation` if it is none."""
    if not isinstance(value, str):
        raise InvalidOperation(f"{field} is a {type(value).__name__}, not text", field)
    return storable(value, limit)


def _check_moment(field: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, datetime) or timezone.is_naive(value):
        raise InvalidOperation(
            f"{field} is no moment with a time zone; use django.utils.timezone", field
        )


def _choice(field: str, value: str, choices: type[models.TextChoices]) -> str:
    if value not in choices.values:
        raise InvalidOperation(
            f"{field} is {value!r}; use one of: {', '.join(choices.values)}", field
        )
    return value


def _plain_json(field: str, value: Mapping[str, Any]) -> Any:
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


def _checkout_data(
    buyer: Buyer, ship_to: Address | None, provider_data: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    data = {
        "address": dataclasses.asdict(buyer.address) if buyer.address else None,
        "ship_to": dataclasses.asdict(ship_to) if ship_to else None,
        "provider_data": _plain_json("provider_data", provider_data or {}),
    }
    return data if any(data.values()) else None


def _dump_item(item: LineItem) -> dict[str, Any]:
    return {
        "name": storable(item.name, 255),
        "quantity": item.quantity,
        "unit_minor": money.to_minor(item.unit_price),
        "url": item.url,
        "is_surcharge": item.is_surcharge,
    }


def _load_item(data: Mapping[str, Any], payment: Payment) -> LineItem:
    return LineItem(
        name=data["name"],
        quantity=data["quantity"],
        unit_price=money.from_minor(data["unit_minor"], payment.currency),
        url=data["url"],
        is_surcharge=data["is_surcharge"],
    )


def _load_address(data: Mapping[str, str] | None) -> Address | None:
    return Address(**data) if data else None
