"""Clink's part of the control desk: what tests and people see and change."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from django_multipay.sandbox.callbacks import Forgery
from django_multipay.sandbox.clink.actions import authorize_address
from django_multipay.sandbox.clink.codes import (
    CARD,
    DISPUTE_OUTCOMES,
    LABELS,
    PRICE_CURRENCIES,
    Price,
    decimal_places,
)
from django_multipay.sandbox.clink.ledger import (
    ACTIVE,
    CHECKOUT,
    EXPIRED,
    FAILED,
    INCOMPLETE,
    OPEN,
    PARTIAL_REFUNDED,
    PAST_DUE,
    PENDING,
    PROCESSING,
    REFUNDED,
    REFUNDING,
    REQUIRES_ACTION,
    SUCCESS,
    Ledger,
    Order,
    Refund,
    Session,
    Subscription,
    milliseconds,
    new_id,
)
from django_multipay.sandbox.clink.outcomes import (
    Impossible,
    Till,
    UnknownChoice,
    read_choice,
)
from django_multipay.sandbox.clink.webhook import Webhooks
from django_multipay.sandbox.clink.wire import (
    amounts_as_text,
    encode,
    instrument_object,
    invoice_object,
    iso,
    order_event,
    page_address,
    plain,
    refund_object,
    session_object,
    subscription_object,
)
from django_multipay.sandbox.control import (
    read_json,
    read_outcome,
    read_wish,
    sent_back,
)
from django_multipay.sandbox.providers import (
    Handler,
    PlanRow,
    Row,
    World,
    every_months,
)

# Colors of the control page.
TONES = {
    SUCCESS: "good",
    PARTIAL_REFUNDED: "good",
    REFUNDED: "good",
    PENDING: "wait",
    REQUIRES_ACTION: "wait",
    FAILED: "bad",
    EXPIRED: "bad",
    # Of subscriptions.
    ACTIVE: "good",
    INCOMPLETE: "wait",
    PAST_DUE: "bad",
}
REFUND_OUTCOMES = ("succeed", "fail")
EVIDENCE_DAYS = 14

Work = Callable[[Request], Awaitable[Any]]


class Desk:
    """Reads everything, and does what a buyer, a bank or a forger would."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        till: Till,
        webhooks: Webhooks,
        settings: Mapping[str, Any],
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._till = till
        self._webhooks = webhooks
        self._settings = settings

    def routes(self) -> Sequence[BaseRoute]:
        post = ["POST"]
        one = "/payments/{reference}"
        table: tuple[tuple[str, Work, list[str]], ...] = (
            ("/payments", self.list_payments, ["GET"]),
            (one, self.show_payment, ["GET"]),
            (f"{one}/outcome", self.decide, post),
            (f"{one}/callback", self.forge, post),
            (f"{one}/dispute", self.dispute, post),
            (f"{one}/refunds/{{refund}}/outcome", self.finish_refund, post),
            ("/tokens", self.list_tokens, ["GET"]),
            ("/plans", self.list_plans, ["GET"]),
            ("/prices", self.prices, ["GET", "POST"]),
        )
        return [
            Route(path, self._door(work), methods=methods)
            for path, work, methods in table
        ]

    async def list_payments(self, request: Request) -> list[dict[str, Any]]:
        return [self._as_json(subject) for subject in self.subjects()]

    async def show_payment(self, request: Request) -> dict[str, Any]:
        return self._as_json(self._subject(request))

    async def decide(self, request: Request) -> dict[str, Any]:
        """What a buyer's press of that button does."""
        subject = self._subject(request)
        choice = read_choice(await read_wish(request))
        if isinstance(subject, Order):
            raise Impossible("a renewal has no page")
        back = self._till.decide(subject, choice)
        await self._webhooks.deliver()
        return sent_back(back, payment=self._as_json(subject))

    async def forge(self, request: Request) -> dict[str, Any]:
        """A correctly signed event with any field of its object changed."""
        subject = self._subject(request)
        wish = await read_json(request)
        kind = str(wish.pop("event", "order.succeeded"))
        event_id = str(wish.pop("event_id", ""))
        forgery = Forgery.read(wish)
        data = forgery.applied_to(self._forged_object(subject, kind))
        message = self._webhooks.compose(kind, subject, data, event_id=event_id)
        return await self._webhooks.outbox.forge(message, forgery)

    async def dispute(self, request: Request) -> dict[str, Any]:
        """The cardholder's bank asks for the money back, or has decided."""
        subject = self._subject(request)
        order = _order_of(subject)
        outcome, _ = await read_outcome(request, DISPUTE_OUTCOMES)
        if order is None or order.paid is None:
            raise Impossible("nothing was charged here")
        is_running = order.dispute is not None and order.dispute["status"] == 1
        if outcome != "open" and not is_running:
            raise Impossible("no dispute is open here")
        if outcome == "open" and order.dispute is not None:
            raise Impossible("there has been a dispute here already")
        order.dispute = order.dispute or self._new_dispute(order)
        order.dispute["status"], events = DISPUTE_OUTCOMES[outcome]
        for event in events:
            self._webhooks.tell(event, order, order.dispute)
        await self._webhooks.deliver()
        return {"dispute": order.dispute, "payment": self._as_json(subject)}

    async def finish_refund(self, request: Request) -> dict[str, Any]:
        subject = self._subject(request)
        refund = _refund_of(subject, request.path_params["refund"])
        outcome, _ = await read_outcome(request, REFUND_OUTCOMES)
        if refund.status != REFUNDING:
            raise Impossible(f"the refund is {refund.status}")
        self._till.finish_refund(refund, is_success=outcome == "succeed")
        await self._webhooks.deliver()
        return {"refund": refund_object(refund), "payment": self._as_json(subject)}

    async def list_tokens(self, request: Request) -> list[dict[str, Any]]:
        return [
            {**instrument_object(item), "charges": item.charges}
            for item in self._ledger.instruments.values()
        ]

    async def list_plans(self, request: Request) -> list[dict[str, Any]]:
        return [
            {
                **subscription_object(item),
                "charges": sum(one.paid is not None for one in item.invoices),
                "invoices": [invoice_object(one) for one in item.invoices],
            }
            for item in self._ledger.subscriptions.values()
        ]

    async def prices(self, request: Request) -> list[dict[str, Any]]:
        """The catalog; a POST adds a price to it."""
        if request.method == "POST":
            price = _read_price(await read_json(request))
            self._ledger.prices[price.price_id] = price
        return [
            {
                "price_id": price.price_id,
                "product_id": price.product_id,
                "product_name": price.product_name,
                "amount": price.amount,
                "currency": price.currency,
                "interval_months": price.interval_months,
            }
            for price in self._ledger.prices.values()
        ]

    def _door(self, work: Work) -> Handler:
        async def handler(request: Request) -> Response:
            try:
                answer = await work(request)
            except UnknownChoice as error:
                raise HTTPException(400, str(error)) from error
            except Impossible as error:
                raise HTTPException(409, str(error)) from error
            return Response(encode(answer), media_type="application/json")

        return handler

    def subjects(self) -> list[Session | Order]:
        """Sessions, and renewals, which have none; oldest first."""
        renewals = [one for one in self._ledger.orders.values() if one.session is None]
        subjects: list[Session | Order] = [*self._ledger.sessions.values(), *renewals]
        return sorted(subjects, key=lambda subject: subject.created)

    def _subject(self, request: Request) -> Session | Order:
        reference = request.path_params["reference"]
        subject = self._ledger.known_as(reference)
        if subject is None:
            raise HTTPException(404, f"no payment {reference}")
        return subject

    def _as_json(self, subject: Session | Order) -> dict[str, Any]:
        order = _order_of(subject)
        amount, currency = money_of(subject)
        refunds = order.refunds if order else []
        instrument = order.instrument if order else None
        subscription = order.subscription if order else None
        return {
            "reference": subject.reference,
            "provider_reference": _provider_reference(subject),
            "status": _status_of(subject),
            "amount": amount,
            "currency": currency,
            "refunded": f"{plain(order.refunded if order else Decimal(0)):f}",
            "refunds": [_refund_json(refund) for refund in refunds],
            "charges": self._ledger.charges(subject),
            "merchant_id": subject.account.merchant_id,
            **_session_json(subject),
            "order_id": order.order_id if order else None,
            "customer_id": subject.customer.customer_id,
            "payment_method": order.method if order else None,
            "payment_instrument_id": instrument.instrument_id if instrument else None,
            "subscription_id": subscription.subscription_id if subscription else None,
            "invoice_id": order.invoice.invoice_id if order and order.invoice else None,
            "dispute": order.dispute if order else None,
        }

    def _forged_object(self, subject: Session | Order, kind: str) -> dict[str, Any]:
        order = _order_of(subject)
        group = kind.partition(".")[0]
        if group == "session" and isinstance(subject, Session):
            return session_object(subject)
        if group == "order":
            return order_event(order or self._as_if_paid(subject))
        if group == "refund" and order and order.refunds:
            return refund_object(order.refunds[-1])
        if group == "subscription" and order and order.subscription:
            return dict(amounts_as_text(subscription_object(order.subscription)))
        if group == "invoice" and order and order.invoice:
            return dict(amounts_as_text(invoice_object(order.invoice)))
        if group == "dispute" and order:
            return dict(order.dispute or self._new_dispute(order))
        raise UnknownChoice(f"there is nothing here that {kind} could be about")

    def _as_if_paid(self, subject: Session | Order) -> Order:
        """A session without an order is forged as paid; the books do not change."""
        if isinstance(subject, Order):
            return subject
        now = self._world.clock.now()
        return Order(
            order_id=new_id("order"),
            account=subject.account,
            customer=subject.customer,
            session=subject,
            kind="onetime",
            method=CARD,
            subtotal=subject.amount,
            total=subject.amount,
            original_currency=subject.currency,
            currency=subject.currency,
            status=SUCCESS,
            created=now,
            paid=now,
            merchant_reference=subject.merchant_reference,
        )

    def _new_dispute(self, order: Order) -> dict[str, Any]:
        now = self._world.clock.now()
        write = milliseconds if self._settings["dispute_times"] == "ms" else iso
        return {
            "chargeBackId": new_id("cb"),
            "orderId": order.order_id,
            "merchantReferenceId": order.merchant_reference,
            "merchantId": order.account.merchant_id,
            "customerId": order.customer.customer_id,
            "disputeAmount": order.total,
            "disputeCurrency": order.currency,
            "originalAmount": order.subtotal,
            "originalCurrency": order.original_currency,
            "reasonCode": "10.4",
            "reasonDescription": "Other Fraud, Card Absent Environment",
            "status": 1,
            "evidenceDeadline": write(now + timedelta(days=EVIDENCE_DAYS)),
            "channelDisputeTime": write(now),
            "networkReasonCode": "10.4",
        }

    def row(self, subject: Session | Order, control: str) -> Row:
        """The subject on the control page; `control` is its path there."""
        order = _order_of(subject)
        amount, currency = money_of(subject)
        status = _status_of(subject)
        kind = subject.kind if isinstance(subject, Session) else "renewal"
        notes = [kind, LABELS[order.method] if order else ""]
        if order is not None:
            notes += [order.failure_code, "disputed" if order.dispute else ""]
            if order.refunded:
                notes.append(f"refunded {plain(order.refunded):f}")
        return Row(
            reference=subject.reference,
            amount=shown_amount(amount, currency),
            status=status,
            tone=TONES.get(status, ""),
            at=order.decided_at if order else None,
            note=" / ".join(note for note in notes if note),
            actions=_actions(subject, control),
            page=_page_of(subject),
        )

    def plan_row(self, plan: Subscription) -> PlanRow:
        """A subscription on the control page."""
        is_running = plan.status in (ACTIVE, PAST_DUE)
        is_ending = is_running and plan.is_canceled_at_period_end
        return PlanRow(
            reference=plan.subscription_id,
            amount=shown_amount(plan.amount, plan.currency),
            every=every_months(plan.price.interval_months),
            status="ends with its period" if is_ending else plan.status,
            tone=TONES.get(plan.status, "") if not is_ending else "wait",
            next_at=plan.period_end if is_running and not is_ending else None,
            charges=sum(invoice.paid is not None for invoice in plan.invoices),
        )


def money_of(subject: Session | Order) -> tuple[Decimal, str]:
    """What was or will be charged."""
    order = _order_of(subject)
    if order is not None:
        return order.total, order.currency
    if isinstance(subject, Session):
        return subject.amount, subject.currency
    raise LookupError(subject.order_id)


def shown_amount(amount: Decimal, currency: str) -> str:
    return f"{currency} {amount:,.{decimal_places(currency)}f}"


def _actions(subject: Session | Order, control: str) -> tuple[tuple[str, str], ...]:
    actions: list[tuple[str, str]] = []
    if isinstance(subject, Session) and subject.status == OPEN:
        is_processing = subject.payment_status == PROCESSING
        yes = ("Settle", "settle") if is_processing else ("Approve", "approve")
        for label, outcome in (yes, ("Decline", "decline")):
            actions.append((label, f"{control}/outcome?outcome={outcome}"))
    order = _order_of(subject)
    if order is None:
        return tuple(actions)
    for refund in order.refunds:
        if refund.status == REFUNDING:
            address = f"{control}/refunds/{refund.refund_id}/outcome"
            actions.append(("Finish refund", f"{address}?outcome=succeed"))
    if order.paid and order.dispute is None:
        actions.append(("Open dispute", f"{control}/dispute?outcome=open"))
    if order.paid:
        actions.append(("Send order.succeeded again", f"{control}/callback"))
    return tuple(actions)


def _page_of(subject: Session | Order) -> str:
    """A direct payment that needed no action never had one; a form is no link."""
    if isinstance(subject, Order):
        return ""
    if subject.kind == CHECKOUT:
        return page_address(subject)
    order = subject.order
    has_page = order is not None and order.action and not order.form_token
    return authorize_address(subject, order) if order and has_page else ""


def _order_of(subject: Session | Order) -> Order | None:
    return subject.order if isinstance(subject, Session) else subject


def _status_of(subject: Session | Order) -> str:
    """The order's word; a session has its own until there is one, and at its end."""
    order = _order_of(subject)
    if isinstance(subject, Session):
        if subject.status == EXPIRED and (order is None or subject.kind == CHECKOUT):
            return EXPIRED
        if order is None:
            return subject.payment_status
    return order.status if order else ""


def _provider_reference(subject: Session | Order) -> str:
    """A checkout has no order at first, so it goes by its session."""
    if isinstance(subject, Session) and subject.kind == CHECKOUT:
        return subject.session_id
    order = _order_of(subject)
    return order.order_id if order else ""


def _session_json(subject: Session | Order) -> dict[str, Any]:
    if isinstance(subject, Order):
        return {
            "kind": "renewal",
            "session_id": None,
            "session_status": None,
            "payment_status": None,
            "order_ids": [subject.order_id],
            "callbacks": list(subject.callbacks),
        }
    of_orders = [entry for order in subject.orders for entry in order.callbacks]
    return {
        "kind": subject.kind,
        "session_id": subject.session_id,
        "session_status": subject.status,
        "payment_status": subject.payment_status,
        "order_ids": [order.order_id for order in subject.orders],
        "callbacks": sorted([*subject.callbacks, *of_orders]),
    }


def _refund_json(refund: Refund) -> dict[str, Any]:
    return {
        "reference": refund.merchant_id,
        "provider_reference": refund.refund_id,
        "amount": refund.amount,
        "status": refund.status,
    }


def _refund_of(subject: Session | Order, wanted: str) -> Refund:
    order = _order_of(subject)
    for refund in order.refunds if order else ():
        if wanted in (refund.merchant_id, refund.refund_id):
            return refund
    raise HTTPException(404, f"no refund {wanted}")


def _read_price(wish: Mapping[str, Any]) -> Price:
    try:
        price = Price(
            price_id=str(wish["price_id"]),
            product_id=str(wish["product_id"]),
            product_name=str(wish.get("product_name", wish["product_id"])),
            amount=Decimal(str(wish["amount"])),
            currency=str(wish["currency"]),
            interval_months=int(wish.get("interval_months", 0)),
        )
    except (KeyError, ValueError, InvalidOperation) as error:
        raise UnknownChoice(
            "a price needs price_id, product_id, amount and currency"
        ) from error
    if price.currency not in PRICE_CURRENCIES or price.amount <= 0:
        raise UnknownChoice("the price's currency or amount is not possible")
    return price
