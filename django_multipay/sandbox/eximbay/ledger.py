"""Eximbay's ledger: orders, tokens, plans, and the ids they get."""

import secrets
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.eximbay.codes import (
    ACCOUNTS_BY_MID,
    SEOUL,
    Account,
    decimal_places,
)

NONE, REGISTERED, AUTH, SALE = "NONE", "REGISTERED", "AUTH", "SALE"
AUTHENTICATED, FAILED = "AUTHENTICATED", "FAILED"
# What `retrieve` knows; the other words are only for the control desk.
RETRIEVABLE = {REGISTERED, AUTH, SALE}


@dataclass(slots=True, kw_only=True)
class Payment:
    """One order at Eximbay. `fields` is the request in its flat, signed form."""

    fields: dict[str, str]
    status: str = NONE
    # Set once by the first outcome: an order id is never used again.
    closed: bool = False
    rescode: str = ""
    resmsg: str = ""
    errcode: str = ""
    method: str = ""
    transaction_id: str = ""
    transaction_date: str = ""
    auth_code: str = ""
    payer_auth_id: str = ""
    dm_decision: str = ""
    balance: Decimal = Decimal(0)
    token_id: str = ""
    recurring_id: str = ""
    # Fields only some callbacks have: virtual account, payment_url, token, plan.
    extras: dict[str, str] = field(default_factory=dict)
    callbacks: list[str] = field(default_factory=list)
    returned: str = ""

    @property
    def mid(self) -> str:
        return self.fields["mid"]

    @property
    def order_id(self) -> str:
        return self.fields["ref"]

    @property
    def transaction_type(self) -> str:
        return self.fields["txntype"]

    @property
    def amount(self) -> str:
        return self.fields["amt"]

    @property
    def currency(self) -> str:
        return self.fields["cur"]

    @property
    def account(self) -> Account:
        return ACCOUNTS_BY_MID[self.mid]

    @property
    def is_domestic(self) -> bool:
        return self.account.is_domestic or self.fields.get("issuercountry") == "KR"

    def as_json(self) -> dict[str, Any]:
        return {
            "order_id": self.order_id,
            "mid": self.mid,
            "transaction_id": self.transaction_id,
            "status": self.status,
            "transaction_type": self.transaction_type,
            "currency": self.currency,
            "amount": self.amount,
            "balance": wire_amount(self.balance, self.currency),
            "rescode": self.rescode,
            "resmsg": self.resmsg,
            "errcode": self.errcode,
            "dm_decision": self.dm_decision,
            "payment_method": self.method,
            "payer_auth_id": self.payer_auth_id,
            "token_id": self.token_id,
            "recurring_id": self.recurring_id,
            "return_url": self.fields["returnurl"],
            "status_url": self.fields["statusurl"],
            "callbacks": list(self.callbacks),
        }


@dataclass(slots=True, kw_only=True)
class SavedToken:
    token_id: str
    mid: str
    method: str
    card: tuple[str, str]
    order_id: str = ""
    deleted: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "token_id": self.token_id,
            "mid": self.mid,
            "payment_method": self.method,
            "card_number1": self.card[0],
            "card_number4": self.card[1],
            "order_id": self.order_id,
            "deleted": self.deleted,
        }


@dataclass(slots=True, kw_only=True)
class RecurringPlan:
    recurring_id: str
    mid: str
    order_id: str
    currency: str
    amount: str
    interval_months: int
    next_date: date
    noti_url: str
    method: str
    deleted: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "recurring_id": self.recurring_id,
            "mid": self.mid,
            "order_id": self.order_id,
            "currency": self.currency,
            "recurring_amount": self.amount,
            "recurring_interval": self.interval_months,
            "recurring_next_date": f"{self.next_date:%Y%m%d}",
            "recurring_noti_url": self.noti_url,
            "payment_method": self.method,
            "deleted": self.deleted,
        }


class Ledger:
    """Eximbay's books. An order id belongs to its merchant."""

    def __init__(self) -> None:
        self.payments: dict[tuple[str, str], Payment] = {}
        self.pages: dict[str, Payment] = {}
        self.tokens: dict[str, SavedToken] = {}
        self.plans: dict[str, RecurringPlan] = {}

    def clear(self) -> None:
        self.payments.clear()
        self.pages.clear()
        self.tokens.clear()
        self.plans.clear()

    def is_used(self, mid: str, order_id: str) -> bool:
        payment = self.payments.get((mid, order_id))
        return payment is not None and payment.closed

    def put(self, payment: Payment) -> None:
        self.payments[payment.mid, payment.order_id] = payment

    def by_order(self, order_id: str) -> Payment | None:
        for payment in self.payments.values():
            if payment.order_id == order_id:
                return payment
        return None

    def by_transaction(self, mid: str, transaction_id: str) -> Payment | None:
        for payment in self.payments.values():
            if transaction_id and payment.transaction_id == transaction_id:
                return payment if payment.mid == mid else None
        return None

    def token_of_card(
        self, mid: str, method: str, card: tuple[str, str]
    ) -> SavedToken | None:
        for token in self.tokens.values():
            same_card = (token.mid, token.method, token.card) == (mid, method, card)
            if same_card and not token.deleted:
                return token
        return None


class Numbers:
    """Ids in the documented shapes.

    Counters start from the time of day and survive a reset: a shop that keeps its
    database while the sandbox restarts must not meet an id twice.
    """

    # The day's counter has six digits; so many fit into one second of it.
    PER_SECOND = 11

    def __init__(self, now: datetime) -> None:
        seoul = now.astimezone(SEOUL)
        seconds = seoul.hour * 3600 + seoul.minute * 60 + seoul.second
        self._count = seconds * self.PER_SECOND
        self._domestic = int(now.timestamp() * 1000)

    def transaction_id(self, mid: str, now: datetime, *, is_domestic: bool) -> str:
        """24 characters: MID, date and counter; or MID, W and 13 digits."""
        if is_domestic:
            self._domestic += 1
            return f"{mid}W{self._domestic:013d}"
        return f"{mid}{seoul_date(now)}{self._next():06d}"

    def payer_auth_id(self, now: datetime) -> str:
        return seoul_time(now) + secrets.token_hex(5).upper()

    def token_id(self, now: datetime) -> str:
        return f"{seoul_time(now)}{self._next():06d}"

    def recurring_id(self, now: datetime) -> str:
        return f"R{seoul_date(now)}{self._next():06d}"

    def _next(self) -> int:
        self._count = (self._count + 1) % 1_000_000
        return self._count


def wire_amount(amount: Decimal, currency: str) -> str:
    return f"{amount:.{decimal_places(currency)}f}"


def shown_amount(payment: Payment) -> str:
    amount = wire_amount(Decimal(payment.amount), payment.currency)
    return f"{payment.currency} {with_commas(amount)}"


def with_commas(amount: str) -> str:
    whole, point, fraction = amount.partition(".")
    return f"{int(whole):,}{point}{fraction}" if whole.isdigit() else amount


def seoul_time(moment: datetime) -> str:
    return f"{moment.astimezone(SEOUL):%Y%m%d%H%M%S}"


def seoul_date(moment: datetime) -> str:
    return f"{moment.astimezone(SEOUL):%Y%m%d}"


def months_later(day: date, months: int) -> date:
    """The same day of a later month, or that month's last day."""
    years, month = divmod(day.month - 1 + months, 12)
    first = date(day.year + years, month + 1, 1)
    after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return first.replace(day=min(day.day, (after - timedelta(days=1)).day))
