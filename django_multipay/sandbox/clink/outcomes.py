"""What becomes of a session and its orders. Books and events; nothing is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.clink.actions import make_action
from django_multipay.sandbox.clink.billing import RECURRING, Billing
from django_multipay.sandbox.clink.codes import (
    CANCELED,
    CARD,
    CHECKOUT_METHODS,
    DECLINES,
    FAILURES,
    PAYMENT_EXPIRED,
    RATES,
    TEST_CARD,
    convert,
)
from django_multipay.sandbox.clink.ledger import (
    CHECKOUT,
    COMPLETED,
    EXPIRED,
    FAILED,
    OPEN,
    PAID,
    PARTIAL_REFUNDED,
    PENDING,
    PROCESSING,
    REFUNDED,
    REFUNDING,
    REQUIRES_ACTION,
    SUCCESS,
    UNPAID,
    Instrument,
    Ledger,
    Order,
    Refund,
    Session,
    new_id,
)
from django_multipay.sandbox.clink.webhook import Webhooks
from django_multipay.sandbox.clink.wire import (
    order_event,
    refund_object,
    session_object,
)

OUTCOMES = ("approve", "decline", "cancel", "expire", "pending", "settle", "convert")


class Impossible(Exception):
    """The outcome exists, but not for a session in this state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the buyer did on the page."""

    outcome: str
    method: str = ""
    failure_code: str = DECLINES[0]
    saves_card: bool = False


class UnknownChoice(ValueError):
    """No button of the page does that."""


def read_choice(wish: Mapping[str, Any]) -> Choice:
    """What a form of the page, or the control API, asks for."""
    outcome = str(wish.get("outcome", ""))
    if outcome not in OUTCOMES:
        raise UnknownChoice(f"unknown outcome, use one of {', '.join(OUTCOMES)}")
    failure_code = str(wish.get("failure_code") or DECLINES[0])
    if failure_code not in FAILURES:
        known = ", ".join(FAILURES)
        raise UnknownChoice(f"unknown failure_code, use one of {known}")
    return Choice(
        outcome=outcome,
        method=str(wish.get("method", "")),
        failure_code=failure_code,
        saves_card=wish.get("save_card") in (True, "yes"),
    )


class Till:
    """Where the buyer decides, and where money is booked."""

    def __init__(
        self,
        ledger: Ledger,
        webhooks: Webhooks,
        billing: Billing,
        clock: Clock,
        settings: Mapping[str, Any],
    ) -> None:
        self._ledger = ledger
        self._webhooks = webhooks
        self._billing = billing
        self._clock = clock
        self._settings = settings

    def offered(self, session: Session) -> list[str]:
        """The methods the hosted page shows, in order."""
        wanted = session.request.get("paymentMethodType")
        if wanted:
            return [wanted]
        unwanted = session.request.get("paymentMethodTypeBlackList", [])
        offered = [method for method in CHECKOUT_METHODS if method not in unwanted]
        return offered or [CARD]

    def decide(self, session: Session, choice: Choice) -> str | None:
        """Book the buyer's choice. The answer is where his browser goes next.

        None keeps him on the page: a hosted session takes another attempt after a
        decline, and a merchant may give no address.
        """
        self._check_state(session, choice.outcome)
        if choice.outcome == "cancel":
            return self._cancel(session)
        if choice.outcome == "expire":
            self.expire(session)
            return None
        if choice.outcome == "settle":
            return self._pay(self._running(session))
        if choice.outcome == "decline":
            return self._decline(session, choice)
        order = self._attempt(session, choice)
        if choice.outcome == "convert":
            self._convert(order)
        self._save_instrument(order, choice)
        if choice.outcome == "pending":
            order.status = PENDING
            session.payment_status = PROCESSING
            return self.way_back(session)
        return self._pay(order)

    def way_back(self, session: Session) -> str | None:
        """Where the browser goes after a payment, or None without an address."""
        asked = session.request
        if session.kind != CHECKOUT:
            return str(asked["returnUrl"])
        if asked.get("uiMode") == "elements":
            address = str(asked["returnUrl"])
            return address.replace("{ELEMENTS_SESSION_ID}", session.session_id)
        target, name = asked.get("successUrl"), self._settings["return_parameter"]
        if not target or not name:
            return target
        joint = "&" if "?" in target else "?"
        return f"{target}{joint}{quote(name, safe='')}={session.session_id}"

    def open_direct(self, session: Session, order: Order) -> int:
        """Run a direct payment as far as it goes; the answer is its `status`."""
        self._create(session, order)
        result = self._settings["payment_result"]
        if result == "by_method":
            result = "success" if order.method == CARD else "action"
        if result == "action" or self._settings["action_always"]:
            order.action = make_action(
                session, order, self._settings, self._clock.now()
            )
        if result == "success":
            self._pay(order)
            return 1
        if result == "pending":
            session.payment_status = PROCESSING
            return 2
        if result == "failure":
            self._fail(order, DECLINES[0])
            self._close_direct(session, order)
            return 3
        order.status = REQUIRES_ACTION
        self._tell("order.next_action", order)
        return 5

    def expire(self, session: Session) -> None:
        """The clock or the buyer's patience ran out."""
        order = session.order
        if order is not None and order.status in (REQUIRES_ACTION, PENDING):
            self._fail(order, PAYMENT_EXPIRED)
        if order is not None:
            self._drop_subscription(session, order)
        session.status, session.payment_status = EXPIRED, UNPAID
        if session.kind == CHECKOUT:
            self._webhooks.tell("session.expired", session, session_object(session))

    def expire_if_open(self, session: Session) -> None:
        """A payment under way is not cut off by the clock."""
        if session.status == OPEN and session.payment_status == UNPAID:
            self.expire(session)

    def open_refund(self, order: Order, merchant_id: str, amount: Decimal) -> Refund:
        refund = Refund(
            refund_id=new_id("rfd"),
            merchant_id=merchant_id,
            order=order,
            amount=amount,
            status=REFUNDING,
            created=self._clock.now(),
            reason=None,
        )
        order.refunds.append(refund)
        self._ledger.refunds[refund.refund_id] = refund
        return refund

    def announce_refund(self, refund: Refund) -> None:
        self._webhooks.tell("refund.created", refund.order, refund_object(refund))

    def finish_refund(self, refund: Refund, *, is_success: bool) -> None:
        order = refund.order
        if is_success:
            refund.status = SUCCESS
            is_all = order.refunded == order.total
            order.status = REFUNDED if is_all else PARTIAL_REFUNDED
        else:
            refund.status = FAILED
            refund.failure_code = "processor_communication_error"
            refund.failure_message = FAILURES[refund.failure_code]
        kind = "refund.succeeded" if is_success else "refund.failed"
        self._webhooks.tell(kind, order, refund_object(refund))

    def _check_state(self, session: Session, outcome: str) -> None:
        if session.status != OPEN:
            raise Impossible(f"{session.reference} is {session.status}")
        is_processing = session.payment_status == PROCESSING
        if outcome == "settle" and not is_processing:
            raise Impossible(f"{session.reference} is not processing")
        if is_processing and outcome not in ("settle", "decline"):
            raise Impossible(f"{session.reference} is processing")
        if outcome == "convert" and session.currency not in RATES:
            raise Impossible(f"no rate for {session.currency} is known")

    def _attempt(self, session: Session, choice: Choice) -> Order:
        """The order of this attempt; a direct payment has had its own from the start."""
        if session.kind != CHECKOUT:
            return self._running(session)
        offered = self.offered(session)
        method = choice.method if choice.method in offered else offered[0]
        price = session.price
        is_recurring = price is not None and price.is_recurring
        order = Order(
            order_id=new_id("order"),
            account=session.account,
            customer=session.customer,
            session=session,
            kind=RECURRING if is_recurring else "onetime",
            method=method,
            subtotal=session.amount,
            total=session.amount,
            original_currency=session.currency,
            currency=session.currency,
            status=PENDING,
            created=self._clock.now(),
            merchant_reference=session.merchant_reference,
            price=price,
            items=session.request.get("priceDataList"),
            metadata=session.request.get("metadata"),
        )
        self._create(session, order)
        return order

    def _create(self, session: Session, order: Order) -> None:
        """Into the books, and told before anything happens to it."""
        session.orders.append(order)
        self._ledger.orders[order.order_id] = order
        if order.kind == RECURRING:
            subscription = session.subscription or self._billing.open(
                session, order.method, order.total, order.currency
            )
            self._billing.bill(subscription, order)
        data = order_event(order) | {"status": self._settings["order_created_status"]}
        self._webhooks.tell("order.created", order, data)

    def _running(self, session: Session) -> Order:
        order = session.order
        if order is None or order.status not in (PENDING, REQUIRES_ACTION):
            raise Impossible(f"{session.reference} has no payment under way")
        return order

    def _pay(self, order: Order) -> str | None:
        order.status, order.paid = SUCCESS, self._clock.now()
        order.failure_code = order.failure_message = ""
        self._ledger.count_charge(order)
        if order.instrument is not None:
            order.instrument.charges += 1
        self._tell("order.succeeded", order)
        session = order.session
        if session is None:
            return None
        session.status, session.payment_status = COMPLETED, PAID
        if order.subscription is not None:
            self._billing.activate(order.subscription, order)
        if session.kind == CHECKOUT:
            self._webhooks.tell("session.complete", session, session_object(session))
        return self.way_back(session)

    def _decline(self, session: Session, choice: Choice) -> str | None:
        is_processing = session.payment_status == PROCESSING
        order = (
            self._running(session) if is_processing else self._attempt(session, choice)
        )
        self._fail(order, choice.failure_code)
        session.payment_status = UNPAID
        if session.kind == CHECKOUT:
            return None
        self._close_direct(session, order)
        return self.way_back(session)

    def _cancel(self, session: Session) -> str | None:
        """A hosted session stays open; a direct payment has only one attempt."""
        if session.kind == CHECKOUT:
            return session.request.get("cancelUrl")
        order = self._running(session)
        self._fail(order, CANCELED)
        self._close_direct(session, order)
        return self.way_back(session)

    def _close_direct(self, session: Session, order: Order) -> None:
        session.status, session.payment_status = EXPIRED, UNPAID
        self._drop_subscription(session, order)

    def _drop_subscription(self, session: Session, order: Order) -> None:
        if session.subscription is not None:
            self._billing.give_up(session.subscription, order)

    def _fail(self, order: Order, failure_code: str) -> None:
        order.status = FAILED
        order.failure_code = failure_code
        order.failure_message = FAILURES[failure_code]
        order.qr_code = order.form_token = ""
        self._tell("order.failed", order)

    def _convert(self, order: Order) -> None:
        """The buyer pays in another currency: euros, or dollars instead of euros."""
        target = "USD" if order.original_currency == "EUR" else "EUR"
        converted = convert(order.total, order.currency, target)
        if converted is None:
            raise LookupError(order.currency)
        order.total, order.currency = converted, target
        if self._settings["subtotal_currency"] == "payment":
            order.subtotal = converted

    def _save_instrument(self, order: Order, choice: Choice) -> None:
        """A card is kept when the buyer says so, or when a renewal will need it."""
        is_kept = choice.saves_card and order.method == CARD
        if order.instrument is not None or not (is_kept or order.kind == RECURRING):
            return
        order.instrument = Instrument(
            instrument_id=new_id("pi"),
            account=order.account,
            customer=order.customer,
            kind=order.method,
            created=self._clock.now(),
            card=dict(TEST_CARD) if order.method == CARD else None,
        )
        self._ledger.instruments[order.instrument.instrument_id] = order.instrument

    def _tell(self, kind: str, order: Order) -> None:
        self._webhooks.tell(kind, order, order_event(order))
