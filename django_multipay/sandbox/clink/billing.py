"""Subscriptions: the first period, the renewals, the end."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.agenda import Agenda
from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.clink.codes import DECLINES, FAILURES
from django_multipay.sandbox.clink.ledger import (
    ACTIVE,
    CANCELLED,  # codespell:ignore
    FAILED,
    INCOMPLETE_EXPIRED,
    PAST_DUE,
    PENDING,
    SUCCESS,
    Invoice,
    Ledger,
    Order,
    Session,
    Subscription,
    new_id,
)
from django_multipay.sandbox.clink.webhook import Webhooks
from django_multipay.sandbox.clink.wire import (
    amounts_as_text,
    invoice_object,
    order_event,
    subscription_object,
)

RECURRING = "recurring"


class Billing:
    """Charges each period once, when the clock passes the end of the last one."""

    def __init__(
        self,
        ledger: Ledger,
        webhooks: Webhooks,
        agenda: Agenda,
        clock: Clock,
        settings: Mapping[str, Any],
    ) -> None:
        self._ledger = ledger
        self._webhooks = webhooks
        self._agenda = agenda
        self._clock = clock
        self._settings = settings

    def open(
        self, session: Session, method: str, amount: Decimal, currency: str
    ) -> Subscription:
        """A subscription that waits for its first payment."""
        if session.price is None:
            raise ValueError("a subscription needs a price")
        subscription = Subscription(
            subscription_id=new_id("sub"),
            account=session.account,
            customer=session.customer,
            price=session.price,
            method=method,
            currency=currency,
            amount=amount,
            merchant_reference=session.merchant_reference,
            metadata=session.request.get("metadata"),
            started=self._clock.now(),
        )
        session.subscription = subscription
        self._ledger.subscriptions[subscription.subscription_id] = subscription
        self._tell(session, "subscription.created", subscription)
        return subscription

    def bill(self, subscription: Subscription, order: Order) -> None:
        """The invoice of the running period, to be paid by this order."""
        order.subscription = subscription
        last = subscription.invoices[-1] if subscription.invoices else None
        if last is not None and last.period_start == subscription.period_start:
            # Another attempt at the same bill.
            last.order, order.invoice = order, last
            return
        invoice = Invoice(
            invoice_id=new_id("inv"),
            subscription=subscription,
            amount=subscription.amount,
            currency=subscription.currency,
            period_start=subscription.period_start,
            period_end=subscription.period_end,
            created=self._clock.now(),
            order=order,
        )
        order.invoice = invoice
        subscription.invoices.append(invoice)
        self._ledger.invoices[invoice.invoice_id] = invoice
        self._tell_invoice("invoice.open", invoice, order)

    def activate(self, subscription: Subscription, order: Order) -> None:
        """The first payment arrived: the period begins now."""
        subscription.started = self._clock.now()
        subscription.status = ACTIVE
        subscription.instrument = order.instrument
        subscription.method = order.method
        if order.invoice is not None:
            order.invoice.period_start = subscription.period_start
            order.invoice.period_end = subscription.period_end
        self._pay_invoice(order)
        self._tell(order, "subscription.activated", subscription)
        self._expect_end_of_period(subscription)

    def give_up(self, subscription: Subscription, order: Order) -> None:
        """The first payment will not come."""
        if order.invoice is not None:
            order.invoice.status = "void"
            self._tell_invoice("invoice.void", order.invoice, order)
        subscription.status = INCOMPLETE_EXPIRED
        self._tell(order, "subscription.incomplete_expired", subscription)

    def cancel(
        self, subscription: Subscription, reason: str, *, is_immediate: bool
    ) -> None:
        subscription.cancel_reason = reason
        subject = self._subject(subscription)
        if is_immediate:
            self._end(subscription, subject)
            return
        subscription.is_canceled_at_period_end = True
        event = "subscription.updated.cancel_at_period_end_set"
        self._tell(subject, event, subscription)

    def _expect_end_of_period(self, subscription: Subscription) -> None:
        end = subscription.period_end
        self._agenda.at(end, lambda: self._end_of_period(subscription, end))

    def _end_of_period(self, subscription: Subscription, moment: datetime) -> None:
        if subscription.status not in (ACTIVE, PAST_DUE):
            return
        if subscription.period_end != moment:
            return
        if subscription.is_canceled_at_period_end:
            self._end(subscription, self._subject(subscription))
            return
        subscription.period += 1
        self._renew(subscription)
        self._expect_end_of_period(subscription)

    def _renew(self, subscription: Subscription) -> None:
        order = self._renewal_order(subscription)
        self._ledger.orders[order.order_id] = order
        self.bill(subscription, order)
        if self._settings["renewal_outcome"] == "fail":
            order.status = FAILED
            order.failure_code = DECLINES[0]
            order.failure_message = FAILURES[DECLINES[0]]
            self._webhooks.tell("order.failed", order, order_event(order))
            subscription.status = PAST_DUE
            self._tell(order, "subscription.past_due", subscription)
            return
        order.status, order.paid = SUCCESS, self._clock.now()
        self._ledger.count_charge(order)
        if order.instrument is not None:
            order.instrument.charges += 1
        subscription.status = ACTIVE
        events = self._settings["renewal_events"]
        if events != "invoice":
            self._webhooks.tell("order.succeeded", order, order_event(order))
        self._pay_invoice(order, is_told=events != "order")
        self._tell(order, "subscription.updated.renewed", subscription)

    def _renewal_order(self, subscription: Subscription) -> Order:
        has_reference = self._settings["renewal_reference"] == "same"
        reference = subscription.merchant_reference if has_reference else None
        return Order(
            order_id=new_id("order"),
            account=subscription.account,
            customer=subscription.customer,
            session=None,
            kind=RECURRING,
            method=subscription.method,
            subtotal=subscription.amount,
            total=subscription.amount,
            original_currency=subscription.currency,
            currency=subscription.currency,
            status=PENDING,
            created=self._clock.now(),
            merchant_reference=reference,
            price=subscription.price,
            metadata=subscription.metadata,
            instrument=subscription.instrument,
        )

    def _pay_invoice(self, order: Order, *, is_told: bool = True) -> None:
        invoice = order.invoice
        if invoice is None:
            return
        invoice.status, invoice.paid = "paid", self._clock.now()
        if is_told:
            self._tell_invoice("invoice.paid", invoice, order)

    def _end(self, subscription: Subscription, subject: Session | Order) -> None:
        subscription.status = CANCELLED  # codespell:ignore
        subscription.canceled = self._clock.now()
        self._tell(subject, "subscription.cancelled", subscription)  # codespell:ignore

    def _subject(self, subscription: Subscription) -> Session | Order:
        """Under whose reference events of the subscription itself are filed."""
        for session in self._ledger.sessions.values():
            if session.subscription is subscription:
                return session
        raise LookupError(subscription.subscription_id)

    def _tell(self, subject: Session | Order, kind: str, item: Subscription) -> None:
        data = amounts_as_text(subscription_object(item))
        self._webhooks.tell(kind, subject, data)

    def _tell_invoice(self, kind: str, invoice: Invoice, order: Order) -> None:
        data = amounts_as_text(invoice_object(invoice))
        self._webhooks.tell(kind, order, data)
