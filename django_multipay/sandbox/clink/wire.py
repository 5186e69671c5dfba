"""How Clink writes things: the objects of its answers and events, and its JSON."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django_multipay.sandbox import wire
from django_multipay.sandbox.clink.codes import CARD, TEST_CARD, Price
from django_multipay.sandbox.clink.ledger import (
    CHECKOUT,
    PAID,
    Instrument,
    Invoice,
    Order,
    Refund,
    Session,
    Subscription,
    milliseconds,
)


def encode(value: object) -> str:
    """JSON whose Decimals are numbers without trailing zeros."""
    return wire.encode(value, lambda amount: f"{plain(amount):f}")


def plain(amount: Decimal) -> Decimal:
    """Without trailing zeros after the point: 2, 19.99, 227.91."""
    return (
        amount.to_integral() if amount == amount.to_integral() else amount.normalize()
    )


def session_answer(session: Session) -> dict[str, Any]:
    """The answer of creating a checkout session."""
    asked = session.request
    is_hosted = asked.get("uiMode", "hostedPage") == "hostedPage"
    return {
        "sessionId": session.session_id,
        "tokenValue": session.token,
        "customerId": session.customer.customer_id,
        "originalAmount": session.amount,
        "originalCurrency": session.currency,
        "uiMode": asked.get("uiMode", "hostedPage"),
        "returnUrl": asked.get("returnUrl"),
        "url": page_address(session) if is_hosted else None,
        "merchantReferenceId": session.merchant_reference,
        "expireTime": iso(session.expires),
    }


def session_object(session: Session) -> dict[str, Any]:
    """A session as an inquiry and its events show it."""
    asked, order = session.request, session.order
    is_paid = order is not None and session.payment_status == PAID
    subscription = session.subscription
    return {
        "sessionId": session.session_id,
        "status": session.status,
        "paymentStatus": session.payment_status,
        "amountSubtotal": order.subtotal if order and is_paid else session.amount,
        "amountTotal": order.total if order and is_paid else session.amount,
        "originalCurrency": session.currency,
        "paymentCurrency": order.currency if order and is_paid else session.currency,
        "subscriptionId": subscription.subscription_id if subscription else None,
        "invoiceId": order.invoice.invoice_id if order and order.invoice else None,
        "orderId": order.order_id if order else None,
        "merchantReferenceId": session.merchant_reference,
        "locale": "en",
        "uiMode": asked.get("uiMode", "hostedPage"),
        "successUrl": asked.get("successUrl"),
        "cancelUrl": asked.get("cancelUrl"),
        "returnUrl": asked.get("returnUrl"),
        "url": page_address(session) if session.kind == CHECKOUT else None,
        "created": milliseconds(session.created),
        "expire": milliseconds(session.expires),
        "price": _price(session.price),
        "product": _product(session.price),
        "customer": {
            "customerId": session.customer.customer_id,
            "email": session.customer.email or None,
        },
        "priceDataList": asked.get("priceDataList"),
        "metadata": asked.get("metadata"),
    }


def order_object(order: Order) -> dict[str, Any]:
    """An order as an inquiry and its events show it."""
    instrument = order.instrument
    card = TEST_CARD if order.method == CARD else {}
    return {
        "orderId": order.order_id,
        "type": order.kind,
        "merchantReferenceId": order.merchant_reference,
        "sessionId": order.session.session_id if order.session else None,
        "invoiceId": order.invoice.invoice_id if order.invoice else None,
        "customerId": order.customer.customer_id,
        "customerEmail": order.customer.email or None,
        "createTime": milliseconds(order.created),
        "productId": order.price.product_id if order.price else None,
        "priceId": order.price.price_id if order.price else None,
        "priceDataList": order.items,
        "paymentMethod": {
            "paymentMethodType": order.method,
            "paymentInstrumentId": instrument.instrument_id if instrument else None,
            "cardScheme": card.get("scheme"),
            "cardLastFour": card.get("last4"),
            "issuerRegion": card.get("issuerRegion"),
            "issuerBank": card.get("issuerBank"),
            "wallet": None if card else {"accountTag": None},
        },
        "paymentExecutionDetails": None,
        "amountSubtotal": order.subtotal,
        "amountTotal": order.total,
        "paymentCurrency": order.currency,
        "originalCurrency": order.original_currency,
        "status": order.status,
        "failureCode": order.failure_code or None,
        "failureMessage": order.failure_message or None,
        "paymentTime": milliseconds(order.paid) if order.paid else None,
        "metadata": order.metadata,
        "riskLevel": "LOW",
    }


def order_event(order: Order) -> dict[str, Any]:
    """Events show an order without its time of creation."""
    data = order_object(order)
    del data["createTime"]
    return data


def refund_object(refund: Refund) -> dict[str, Any]:
    order = refund.order
    instrument = order.instrument
    return {
        "createTime": milliseconds(refund.created),
        "refundId": refund.refund_id,
        "refundMerchantOrderId": refund.merchant_id,
        "orderId": order.order_id,
        "customerId": order.customer.customer_id,
        "refundAmount": refund.amount,
        "refundCurrency": order.currency,
        "status": refund.status,
        "failureCode": refund.failure_code or None,
        "failureMessage": refund.failure_message or None,
        "refundReason": refund.reason,
        "metadata": order.metadata,
        "paymentInstrumentId": instrument.instrument_id if instrument else None,
    }


def instrument_object(instrument: Instrument) -> dict[str, Any]:
    return {
        "id": instrument.instrument_id,
        "customerId": instrument.customer.customer_id,
        "type": instrument.kind,
        "card": instrument.card,
        "wallet": None if instrument.card else {"accountTag": None},
        "created": milliseconds(instrument.created),
    }


def subscription_object(item: Subscription) -> dict[str, Any]:
    """`currentPeriodStart` stays at the start; the item has the running period."""
    instrument = item.instrument
    return {
        "subscriptionId": item.subscription_id,
        "status": item.status,
        "merchantReference": item.merchant_reference,
        "customerId": item.customer.customer_id,
        "productId": item.price.product_id,
        "priceId": item.price.price_id,
        "paymentMethodType": item.method,
        "paymentInstrumentId": instrument.instrument_id if instrument else None,
        "amount": item.amount,
        "currency": item.currency,
        "currentPeriodStart": milliseconds(item.started),
        "recurringInvoiceItem": {
            "priceId": item.price.price_id,
            "quantity": 1,
            "amount": item.amount,
            "currency": item.currency,
            "periodStart": milliseconds(item.period_start),
            "periodEnd": milliseconds(item.period_end),
        },
        "invoiceId": item.invoices[-1].invoice_id if item.invoices else None,
        "cancelAtPeriodEnd": item.is_canceled_at_period_end,
        "cancelReason": item.cancel_reason,
        "cancelTime": milliseconds(item.canceled) if item.canceled else None,
        "metadata": item.metadata,
        "created": milliseconds(item.started),
    }


def invoice_object(invoice: Invoice) -> dict[str, Any]:
    subscription = invoice.subscription
    return {
        "invoiceId": invoice.invoice_id,
        "subscriptionId": subscription.subscription_id,
        "merchantReference": subscription.merchant_reference,
        "orderId": invoice.order.order_id if invoice.order else None,
        "customerId": subscription.customer.customer_id,
        "status": invoice.status,
        "amountTotal": invoice.amount,
        "currency": invoice.currency,
        "periodStart": milliseconds(invoice.period_start),
        "periodEnd": milliseconds(invoice.period_end),
        "created": milliseconds(invoice.created),
        "paidTime": milliseconds(invoice.paid) if invoice.paid else None,
    }


def amounts_as_text(value: object) -> Any:
    """Events of subscriptions and invoices write amounts as decimal strings."""
    match value:
        case Decimal():
            return f"{plain(value):f}"
        case dict():
            return {key: amounts_as_text(item) for key, item in value.items()}
        case _:
            return value


def page_address(session: Session) -> str:
    return f"{session.origin}/clink/pay/{session.session_id}"


def iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _price(price: Price | None) -> dict[str, Any] | None:
    if price is None:
        return None
    return {
        "priceId": price.price_id,
        "type": "recurring" if price.is_recurring else "one_time",
        "amount": price.amount,
        "currency": price.currency,
    }


def _product(price: Price | None) -> dict[str, Any] | None:
    if price is None:
        return None
    return {"productId": price.product_id, "name": price.product_name}
