"""EasyBilling's books: payments, refunds, saved methods, log-ins, and their rules."""

import base64
import json
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.easybilling.documents import (
    Order,
    RefundOrder,
    Refused,
    Setup,
    check_amount,
)
from django_multipay.sandbox.easybilling.words import (
    CANCEL_URL,
    COMPLETE_URL,
    CREATED,
    EXPIRED,
    FAILED,
    FAILURE,
    OPEN,
    OUTCOMES,
    PROCESSING,
    REFUND_OPEN,
    REFUNDED,
    REFUNDING,
    SUCCEEDED,
    SUCCESS,
    WAITING,
    WECHAT,
    WECHAT_LINK,
    Account,
    decimal_places,
)

OFFLINE_STATUS = {"succeed": SUCCEEDED, "pending": PROCESSING, "fail": FAILED}
# No refund id is documented; this one is only for the control desk.
REFUND_ID_PREFIX = "rf_"


@dataclass(slots=True, kw_only=True)
class Refund:
    """Money on its way back. `fate` is what it becomes once it is due."""

    request_id: str
    refund_id: str
    amount: str
    due_at: datetime
    fate: str = ""
    status: str = CREATED

    def as_json(self) -> dict[str, str]:
        return {
            "reference": self.request_id,
            "provider_reference": self.refund_id,
            "amount": self.amount,
            "status": self.status,
        }


@dataclass(slots=True, kw_only=True)
class Payment:
    """One transactionId of one account, with its newest link."""

    account: Account
    order: Order
    payment_id: str
    wechat_code: str = ""
    expires_at: datetime
    expire_seconds: int
    state: str = WAITING
    # What the hub's own copy says: behind `state` only with stale_until_refresh.
    copied_state: str = WAITING
    charges: int = 0
    # When it succeeded, failed or ran out.
    decided_at: datetime | None = None
    return_url: str = ""
    refunds: list[Refund] = field(default_factory=list)

    @property
    def page(self) -> str:
        return f"/easybilling/pay/{self.payment_id}" if self.order.is_online else ""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def refunded(self) -> Decimal:
        return self._sum(SUCCESS)

    @property
    def refundable(self) -> Decimal:
        """What neither went back nor is on its way back."""
        return Decimal(self.order.amount) - self._sum(SUCCESS, *REFUND_OPEN)

    def payment_url(self, origin: str) -> str:
        """What the merchant shows: a page, WeChat's code, or nothing offline."""
        if self.wechat_code:
            return WECHAT_LINK + self.wechat_code
        return origin + self.page if self.page else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "reference": self.order.transaction_id,
            "provider_reference": self.payment_id,
            "status": self.state,
            "amount": self.order.amount,
            "currency": self.order.currency,
            "refunded": str(self.refunded),
            "refunds": [refund.as_json() for refund in self.refunds],
            "charges": self.charges,
            "gateway": self.order.gateway,
            "online": self.order.is_online,
            "customer": self.order.customer,
            "account": self.account.name,
            "page": self.page,
            "wechat_code": self.wechat_code,
            "expires_at": self.expires_at.isoformat(),
        }

    def _sum(self, *states: str) -> Decimal:
        amounts = (
            Decimal(refund.amount) for refund in self.refunds if refund.status in states
        )
        return sum(amounts, Decimal(0))


@dataclass(slots=True, kw_only=True)
class SetupPage:
    """A page where a buyer saves a payment method."""

    setup_id: str
    account: Account
    setup: Setup
    status: str = "open"

    @property
    def page(self) -> str:
        return f"/easybilling/setup/{self.setup_id}"

    def as_json(self) -> dict[str, str]:
        return {
            "id": self.setup_id,
            "status": self.status,
            "gateway": self.setup.gateway,
            "customer": self.setup.customer,
            "account": self.account.name,
            "page": self.page,
        }


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in and when it ends."""

    account: Account
    ends_at: datetime


class Ledger:
    """The books of all accounts. A transactionId belongs to its account."""

    def __init__(self, clock: Clock, settings: Mapping[str, Any]) -> None:
        self._clock = clock
        self._settings = settings
        self.payments: dict[tuple[str, str], Payment] = {}
        # Every link ever given out, also those replaced by a newer one.
        self.pages: dict[str, Payment] = {}
        # (account, gateway, customer): no token is ever handed out.
        self.methods: set[tuple[str, str, str]] = set()
        self.setups: dict[str, SetupPage] = {}
        self.sessions: dict[str, Session] = {}

    def clear(self) -> None:
        self.payments.clear()
        self.pages.clear()
        self.methods.clear()
        self.setups.clear()
        self.sessions.clear()

    # -- log-in --------------------------------------------------------------

    def log_in(self, account: Account) -> str:
        """A token in the form of a JWT; its signature is random."""
        now = self._clock.now()
        ends_at = now + timedelta(seconds=self._settings["token_lifetime_seconds"])
        claims = {
            "sub": account.username,
            "iat": int(now.timestamp()),
            "exp": int(ends_at.timestamp()),
            "jti": uuid.uuid4().hex,
        }
        parts = [json.dumps(part) for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
        encoded = [base64.urlsafe_b64encode(part.encode()).decode() for part in parts]
        token = ".".join(
            [*(part.rstrip("=") for part in encoded), secrets.token_urlsafe(256)]
        )
        self.sessions[token] = Session(account, ends_at)
        return token

    # -- payments ------------------------------------------------------------

    def find(self, account: Account, transaction_id: str) -> Payment:
        """The account's payment as of now, or Refused."""
        payment = self.payments.get((account.name, transaction_id))
        if payment is None:
            raise Refused(404, "no such transaction")
        self.look_at_clock(payment)
        return payment

    def start(self, account: Account, order: Order) -> Payment:
        """A new payment, the one of before, or a new link for it; or Refused."""
        known = self.payments.get((account.name, order.transaction_id))
        if known is not None:
            self.look_at_clock(known)
            if not self._is_reissued(known, order):
                return known
        if not order.is_online:
            self._check_method(account, order)
        seconds = int(self._settings["expire_seconds"])
        payment = Payment(
            account=account,
            order=order,
            payment_id=uuid.uuid4().hex,
            expires_at=self._clock.now() + timedelta(seconds=seconds),
            expire_seconds=seconds,
        )
        if order.gateway == WECHAT and order.is_online:
            payment.wechat_code = secrets.token_hex(5)
        if not order.is_online:
            self._book(payment, OFFLINE_STATUS[self._settings["offline_outcome"]])
        payment.copied_state = payment.state
        # Newest last, also when it takes the place of a failed one.
        self.payments.pop((account.name, order.transaction_id), None)
        self.payments[account.name, order.transaction_id] = payment
        self.pages[payment.payment_id] = payment
        return payment

    def is_replaced(self, payment: Payment) -> bool:
        """Whether a newer link was given out for the same transaction."""
        key = payment.account.name, payment.order.transaction_id
        return self.payments[key] is not payment

    def look_at_clock(self, payment: Payment) -> None:
        """What time alone has done: a link ran out, a refund came due."""
        now = self._clock.now()
        # A payment in progress is with the gateway: it may still succeed.
        if payment.state == WAITING and now >= payment.expires_at:
            payment.state = EXPIRED
            payment.decided_at = payment.expires_at
        for refund in payment.refunds:
            if refund.status not in REFUND_OPEN:
                continue
            if refund.fate and now >= refund.due_at:
                self.finish_refund(payment, refund, refund.fate)

    def decide(self, payment: Payment, outcome: str, *, is_forced: bool = False) -> str:
        """Book an outcome; the answer is where the buyer's browser goes, if at all."""
        chosen = OUTCOMES[outcome]
        if not payment.is_open and not is_forced:
            raise Refused(409, f"the transaction is {payment.state}")
        if outcome != "cancel" or self._settings["cancel_closes"]:
            self._book(payment, chosen.status)
        url = {
            COMPLETE_URL: payment.order.complete_url,
            CANCEL_URL: payment.order.cancel_url,
        }.get(chosen.destination, "")
        # An offline charge has no browser; a WeChat payer's is on another device.
        is_elsewhere = (
            payment.order.gateway == WECHAT and not self._settings["wechat_returns"]
        )
        if is_elsewhere or not payment.order.is_online:
            url = ""
        payment.return_url = url
        return url

    def _is_reissued(self, known: Payment, order: Order) -> bool:
        has_changed = known.order.identity != order.identity
        if has_changed and self._settings["changed_repeat"] == "refuse":
            raise Refused(409, "transactionId was used for another payment")
        policy = self._settings["reissue"]
        if known.is_open:
            return bool(policy == "always")
        if known.state == FAILED:
            return bool(policy != "never")
        if self._settings["repeat_of_finished"] == "refuse":
            raise Refused(409, f"the transaction is {known.state}")
        return False

    def _check_method(self, account: Account, order: Order) -> None:
        if (account.name, order.gateway, order.customer) not in self.methods:
            raise Refused(400, "this customerIdentifier has no saved payment method")

    def _book(self, payment: Payment, state: str) -> None:
        if state == SUCCEEDED and not payment.charges:
            payment.charges = 1
            if payment.order.saves_method:
                self.methods.add(
                    (
                        payment.account.name,
                        payment.order.gateway,
                        payment.order.customer,
                    )
                )
        payment.state = state
        payment.decided_at = None if payment.is_open else self._clock.now()

    # -- refunds -------------------------------------------------------------

    def refund(self, account: Account, wish: RefundOrder) -> Refund:
        """A new refund, or the one of before with the same requestId; or Refused."""
        payment = self.find(account, wish.transaction_id)
        check_amount(wish.amount, payment.order.currency, self._settings["amount_unit"])
        for owner, known in self._refunds_of(account):
            if known.request_id == wish.request_id:
                is_same = Decimal(known.amount) == Decimal(wish.amount)
                if owner is not payment or not is_same:
                    raise Refused(409, "requestId was used for another refund")
                return known
        if payment.state not in (SUCCEEDED, REFUNDED):
            raise Refused(409, f"the transaction is {payment.state}")
        if Decimal(wish.amount) > payment.refundable:
            raise Refused(400, "amount is more than what is left of the payment")
        refund = Refund(
            request_id=wish.request_id,
            refund_id=REFUND_ID_PREFIX + uuid.uuid4().hex[:24],
            amount=wish.amount,
            due_at=self._clock.now()
            + timedelta(seconds=self._settings["refund_delay_seconds"]),
            fate={"succeed": SUCCESS, "fail": FAILURE}.get(
                self._settings["refund_outcome"], ""
            ),
        )
        payment.refunds.append(refund)
        self.look_at_clock(payment)
        return refund

    def find_refund(
        self, account: Account, transaction_id: str, request_id: str
    ) -> tuple[Payment, Refund]:
        """The newest of the account's refunds that fits what was given, or Refused."""
        found = [
            (payment, refund)
            for payment, refund in self._refunds_of(account)
            if transaction_id in ("", payment.order.transaction_id)
            and request_id in ("", refund.request_id)
        ]
        if not found:
            raise Refused(404, "no such refund")
        payment, refund = found[-1]
        self.look_at_clock(payment)
        return payment, refund

    def progress(self, refund: Refund) -> None:
        """A refund that is asked about has at least been begun."""
        if refund.status == CREATED:
            refund.status = REFUNDING

    def finish_refund(self, payment: Payment, refund: Refund, status: str) -> None:
        """The end of a refund; a payment that went back whole says so."""
        refund.status = status
        if payment.refunded == Decimal(payment.order.amount):
            payment.state = REFUNDED

    def _refunds_of(self, account: Account) -> Iterator[tuple[Payment, Refund]]:
        for payment in self.payments.values():
            if payment.account is account:
                for refund in payment.refunds:
                    yield payment, refund

    # -- saved methods -------------------------------------------------------

    def open_setup(self, account: Account, setup: Setup) -> SetupPage:
        """A page where the buyer saves a method."""
        page = SetupPage(setup_id=uuid.uuid4().hex, account=account, setup=setup)
        self.setups[page.setup_id] = page
        return page

    def decide_setup(self, page: SetupPage, outcome: str) -> str:
        """Save the method or not; the answer is where the buyer's browser goes."""
        if page.status != "open":
            raise Refused(409, f"the set-up is {page.status}")
        setup = page.setup
        if outcome == "save":
            page.status = "saved"
            self.methods.add((page.account.name, setup.gateway, setup.customer))
            return setup.redirect_url
        page.status = "canceled"
        return setup.cancel_url


def shown_amount(order: Order, unit: str) -> str:
    """An amount as people read it: `USD 1,234.50`."""
    places = decimal_places(order.currency)
    amount = Decimal(order.amount)
    if unit == "minor":
        amount = amount.scaleb(-places)
    return f"{order.currency} {amount:,.{places}f}"
