"""Clink's ledger: customers, sessions, orders, refunds, subscriptions, their ids."""

import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.agenda import months_later
from django_multipay.sandbox.clink.codes import CATALOG, Account, Price

# The kinds of session: a hosted checkout, or the shadow of a direct call.
CHECKOUT, PAYMENT, SUBSCRIPTION = "checkout", "payment", "subscription"

OPEN, COMPLETED, EXPIRED = "open", "completed", "expired"
UNPAID, PROCESSING, PAID = "unpaid", "processing", "paid"

SUCCESS, FAILED, PENDING = "success", "failed", "pending"
REQUIRES_ACTION = "requires_action"
PARTIAL_REFUNDED, REFUNDED = "partial_refunded", "refunded"
REFUNDABLE = (SUCCESS, PARTIAL_REFUNDED)

REFUNDING = "refunding"

INCOMPLETE, ACTIVE, PAST_DUE = "incomplete", "active", "past_due"
INCOMPLETE_EXPIRED, CANCELLED = "incomplete_expired", "cancelled"  # codespell:ignore


@dataclass(slots=True, kw_only=True)
class Customer:
    """Made by the first call that names him; there is no customer API."""

    customer_id: str
    account: Account
    email: str = ""
    reference: str = ""


@dataclass(slots=True, kw_only=True)
class Instrument:
    """A saved way to pay."""

    instrument_id: str
    account: Account
    customer: Customer
    kind: str
    created: datetime
    card: dict[str, Any] | None = None
    charges: int = 0


@dataclass(slots=True, kw_only=True)
class Session:
    """One purchase intention: a hosted checkout, or what a direct call stands for."""

    session_id: str
    account: Account
    customer: Customer
    kind: str
    request: dict[str, Any]
    token: str
    amount: Decimal
    currency: str
    price: Price | None
    created: datetime
    expires: datetime
    origin: str
    status: str = OPEN
    payment_status: str = UNPAID
    orders: list["Order"] = field(default_factory=list)
    subscription: "Subscription | None" = None
    callbacks: list[str] = field(default_factory=list)

    @property
    def merchant_reference(self) -> str | None:
        return self.request.get("merchantReferenceId")

    @property
    def reference(self) -> str:
        """What the control desk calls it."""
        return self.merchant_reference or self.session_id

    @property
    def order(self) -> "Order | None":
        """The order of the latest attempt."""
        return self.orders[-1] if self.orders else None


@dataclass(slots=True, kw_only=True)
class Order:
    """One attempt to take money."""

    order_id: str
    account: Account
    customer: Customer
    session: Session | None
    kind: str
    method: str
    subtotal: Decimal
    total: Decimal
    original_currency: str
    currency: str
    status: str
    created: datetime
    merchant_reference: str | None
    price: Price | None = None
    items: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None
    instrument: Instrument | None = None
    subscription: "Subscription | None" = None
    invoice: "Invoice | None" = None
    paid: datetime | None = None
    failure_code: str = ""
    failure_message: str = ""
    action: dict[str, Any] | None = None
    form_token: str = ""
    qr_code: str = ""
    qr_expires: datetime | None = None
    refunds: list["Refund"] = field(default_factory=list)
    dispute: dict[str, Any] | None = None
    callbacks: list[str] = field(default_factory=list)

    @property
    def decided_at(self) -> datetime | None:
        """When the money was taken, or refused."""
        return self.created if self.status == FAILED else self.paid

    @property
    def reference(self) -> str:
        """What the control desk calls it; a renewal goes by its own id."""
        return self.session.reference if self.session else self.order_id

    @property
    def refunded(self) -> Decimal:
        return sum((item.amount for item in self.refunds if item.is_done), Decimal(0))

    @property
    def refundable(self) -> Decimal:
        """What no refund has taken or may still take."""
        held = (item.amount for item in self.refunds if item.status != FAILED)
        return self.total - sum(held, Decimal(0))


@dataclass(slots=True, kw_only=True)
class Refund:
    """Money on its way back."""

    refund_id: str
    merchant_id: str
    order: Order
    amount: Decimal
    status: str
    created: datetime
    reason: str | None
    failure_code: str = ""
    failure_message: str = ""

    @property
    def is_done(self) -> bool:
        return self.status == SUCCESS


@dataclass(slots=True, kw_only=True)
class Invoice:
    """The bill of one period."""

    invoice_id: str
    subscription: "Subscription"
    amount: Decimal
    currency: str
    period_start: datetime
    period_end: datetime
    created: datetime
    status: str = OPEN
    order: Order | None = None
    paid: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Subscription:
    """A recurring price on one customer. The period counts from `started`."""

    subscription_id: str
    account: Account
    customer: Customer
    price: Price
    method: str
    currency: str
    amount: Decimal
    merchant_reference: str | None
    metadata: dict[str, str] | None
    started: datetime
    period: int = 0
    status: str = INCOMPLETE
    instrument: Instrument | None = None
    invoices: list[Invoice] = field(default_factory=list)
    is_canceled_at_period_end: bool = False
    cancel_reason: str | None = None
    canceled: datetime | None = None

    @property
    def period_start(self) -> datetime:
        return months_later(self.started, self.period * self.price.interval_months)

    @property
    def period_end(self) -> datetime:
        months = (self.period + 1) * self.price.interval_months
        return months_later(self.started, months)


class Ledger:
    """Clink's books. What one merchant has, another never finds."""

    def __init__(self) -> None:
        self.customers: dict[str, Customer] = {}
        self.instruments: dict[str, Instrument] = {}
        self.sessions: dict[str, Session] = {}
        self.orders: dict[str, Order] = {}
        self.refunds: dict[str, Refund] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.invoices: dict[str, Invoice] = {}
        self.prices: dict[str, Price] = {}
        self._charges: Counter[tuple[str, str]] = Counter()
        self.clear()

    def clear(self) -> None:
        self.customers.clear()
        self.instruments.clear()
        self.sessions.clear()
        self.orders.clear()
        self.refunds.clear()
        self.subscriptions.clear()
        self.invoices.clear()
        self._charges.clear()
        self.prices = {price.price_id: price for price in CATALOG}

    def customers_of(self, account: Account) -> Iterator[Customer]:
        return (item for item in self.customers.values() if item.account is account)

    def refund_of(self, account: Account, merchant_id: str) -> Refund | None:
        for refund in self.refunds.values():
            is_his = refund.order.account is account
            if is_his and refund.merchant_id == merchant_id:
                return refund
        return None

    def order_of_code(self, code: str) -> Order | None:
        """The order whose current QR code this is."""
        for order in self.orders.values():
            if code and secrets.compare_digest(order.qr_code, code):
                return order
        return None

    def known_as(self, reference: str) -> Session | Order | None:
        """By the merchant's reference, else by one of ours; the newest wins."""
        for session in reversed(self.sessions.values()):
            if reference in (session.reference, session.session_id):
                return session
        order = self.orders.get(reference)
        return order if order is None or order.session is None else order.session

    def count_charge(self, order: Order) -> None:
        self._charges[order.account.merchant_id, order.reference] += 1

    def charges(self, subject: Session | Order) -> int:
        """How often money was taken under this reference, over all its sessions."""
        return self._charges[subject.account.merchant_id, subject.reference]


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
