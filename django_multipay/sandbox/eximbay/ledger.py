"""Eximbay's ledger: orders, tokens, plans, and the ids they get."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.agenda import months_later
from django_multipay.sandbox.eximbay.codes import (
    ACCOUNTS_BY_MID,
    OK,
    SEOUL,
    Account,
    Refusal,
    decimal_places,
    is_card,
)

NONE, REGISTERED, AUTH, SALE = "NONE", "REGISTERED", "AUTH", "SALE"
AUTHENTICATED, FAILED = "AUTHENTICATED", "FAILED"
# What `retrieve` knows; the other words are only for the control desk.
RETRIEVABLE = {REGISTERED, AUTH, SALE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One cancel that reached the bank. `errcode` is empty when it succeeded."""

    refund_id: str
    transaction_id: str
    date: str
    amount: Decimal
    errcode: str = ""

    @property
    def is_done(self) -> bool:
        return not self.errcode


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
    # When it was accepted or refused.
    decided_at: datetime | None = None
    auth_code: str = ""
    payer_auth_id: str = ""
    dm_decision: str = ""
    balance: Decimal = Decimal(0)
    # How many times money was taken: 1 once it is a SALE.
    charges: int = 0
    captured_date: str = ""
    settled_date: str = ""
    refunds: list[Refund] = field(default_factory=list)
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

    @property
    def refunded(self) -> Decimal:
        return sum((item.amount for item in self.refunds if item.is_done), Decimal(0))

    def accept(self, status: str, transaction_id: str, moment: datetime) -> None:
        """The acquirer's yes, or a registration that still waits for its money."""
        self.closed = True
        self.decided_at = moment
        self.rescode, self.resmsg, self.errcode = OK, "Success.", ""
        self.status = status
        self.transaction_id = transaction_id
        self.transaction_date = seoul_time(moment)
        if status == REGISTERED:
            return
        # "A simplified payment transaction does not generate an authorization number."
        if is_card(self.method):
            self.auth_code = f"{secrets.randbelow(1_000_000):06d}"
        self.balance = Decimal(self.amount)
        self.charges = 1 if status == SALE else 0

    def refuse(self, refusal: Refusal, moment: datetime) -> None:
        """A no: nothing of an earlier yes is left, and the order id is used up."""
        self.closed = True
        self.decided_at = moment
        self.status = FAILED
        self.rescode = refusal.rescode
        self.resmsg = refusal.resmsg
        self.errcode = refusal.errcode
        self.transaction_id = self.transaction_date = self.auth_code = ""
        self.payer_auth_id = self.token_id = self.recurring_id = ""
        self.balance = Decimal(0)
        self.charges = 0
        self.extras = {}
        self.dm_decision = "REJECT" if refusal.rescode.startswith("DP") else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "reference": self.order_id,
            "provider_reference": self.transaction_id,
            "order_id": self.order_id,
            "mid": self.mid,
            "transaction_id": self.transaction_id,
            "status": self.status,
            "transaction_type": self.transaction_type,
            "currency": self.currency,
            "amount": self.amount,
            "balance": wire_amount(self.balance, self.currency),
            "refunded": wire_amount(self.refunded, self.currency),
            "refunds": [
                {
                    "reference": item.refund_id,
                    "provider_reference": item.transaction_id,
                    "amount": wire_amount(item.amount, self.currency),
                    "status": "SUCCEEDED" if item.is_done else "FAILED",
                }
                for item in self.refunds
            ],
            "charges": self.charges,
            "captured_date": self.captured_date,
            "settled_date": self.settled_date,
            "rescode": self.rescode,
            "resmsg": self.resmsg,
            "errcode": self.errcode,
            "dm_decision": self.dm_decision,
            "payment_method": self.method,
            "payer_auth_id": self.payer_auth_id,
            "token_id": self.token_id,
            "recurring_id": self.recurring_id,
            # A charge by token or plan has no page and no URL to come back to.
            "return_url": self.fields.get("returnurl", ""),
            "status_url": self.fields.get("statusurl", ""),
            "callbacks": list(self.callbacks),
        }


@dataclass(slots=True, kw_only=True)
class SavedToken:
    token_id: str
    mid: str
    method: str
    card: tuple[str, str]
    holder: str
    order_id: str = ""
    deleted: bool = False

    @property
    def card_identifier(self) -> str:
        """The same for every token of one card at one merchant."""
        card = f"{self.mid}:{self.method}:{''.join(self.card)}"
        return hashlib.sha256(card.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return {
            "token_id": self.token_id,
            "mid": self.mid,
            "payment_method": self.method,
            "card_number1": self.card[0],
            "card_number4": self.card[1],
            "card_identifier": self.card_identifier,
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
    start_date: date
    interval_months: int
    noti_url: str
    method: str
    # The next charge is so many intervals after the start.
    period: int = 1
    charges: list[str] = field(default_factory=list)
    deleted: bool = False

    @property
    def next_date(self) -> date:
        """Counted from the start, so a plan of the 31st goes back to the 31st."""
        return months_later(self.start_date, self.interval_months * self.period)

    @property
    def due_at(self) -> datetime:
        return datetime.combine(self.next_date, time(), SEOUL)

    def skip_until_after(self, day: date) -> None:
        while self.next_date <= day:
            self.period += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "recurring_id": self.recurring_id,
            "mid": self.mid,
            "order_id": self.order_id,
            "currency": self.currency,
            "recurring_amount": self.amount,
            "recurring_start_date": f"{self.start_date:%Y%m%d}",
            "recurring_interval": self.interval_months,
            "recurring_next_date": f"{self.next_date:%Y%m%d}",
            "recurring_noti_url": self.noti_url,
            "payment_method": self.method,
            "charges": list(self.charges),
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

    def by_transaction(self, mid: str, transaction_id: str) -> Payment | None:
        for payment in self.payments.values():
            if transaction_id and payment.transaction_id == transaction_id:
                return payment if payment.mid == mid else None
        return None

    def is_refund_id_used(self, mid: str, refund_id: str) -> bool:
        return any(
            refund.refund_id == refund_id
            for payment in self.payments.values()
            if payment.mid == mid
            for refund in payment.refunds
        )

    def token(self, mid: str, token_id: str) -> SavedToken | None:
        token = self.tokens.get(token_id)
        is_live = token is not None and not token.deleted and token.mid == mid
        return token if is_live else None

    def plan(self, mid: str, recurring_id: str) -> RecurringPlan | None:
        plan = self.plans.get(recurring_id)
        is_live = plan is not None and not plan.deleted and plan.mid == mid
        return plan if is_live else None

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
