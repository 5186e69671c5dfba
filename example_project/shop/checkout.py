"""From a cart to an order, and from an order to a payment."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.http import HttpRequest

from django_multipay.flows import create_payment
from django_multipay.messages import Buyer, LineItem
from django_multipay.models import Payment
from shop.cart import Cart
from shop.models import Order, OrderEvent, OrderLine

# The buyer has not finished these; starting another one beside them could only
# lead to paying twice.
UNFINISHED = frozenset({Payment.Status.CREATED, Payment.Status.PENDING})


def place_order(order: Order, cart: Cart) -> Order:
    """Save ``order`` with the contents of ``cart``.

    A form that is sent twice finds the order of the first time.
    """
    order.currency = cart.currency
    order.total = cart.total.amount
    order.checkout_key = cart.ensure_checkout_key()
    try:
        with transaction.atomic():
            order.save(force_insert=True)
            OrderLine.objects.bulk_create(
                OrderLine(
                    order=order,
                    product=line.product,
                    name=line.product.name,
                    quantity=line.quantity,
                    unit_amount=line.product.price.amount,
                )
                for line in cart
            )
            order.events.create(kind=OrderEvent.Kind.PLACED)
    except IntegrityError:
        return Order.objects.get(
            checkout_key=order.checkout_key, customer_id=order.customer_id
        )
    return order


def payment_for(
    order: Order,
    request: HttpRequest,
    *,
    capture_mode: str = "automatic",
) -> Payment | None:
    """Return the payment with which ``order`` can be paid now.

    An unfinished attempt is continued; after a failure there is a new one with the
    same ``order_id``. ``None`` when the order wants no money (any more).
    """
    with transaction.atomic():
        # Two clicks meet at the order's row and leave with the same payment.
        order = Order.objects.select_for_update().get(pk=order.pk)
        if not order.is_payable:
            return None
        latest = order.payments.first()
        if latest is not None and latest.status in UNFINISHED:
            return latest
        return create_payment(
            provider=None,
            order_id=order.reference,
            amount=order.amount,
            buyer=Buyer(
                name=order.name,
                email=order.email,
                phone=order.phone,
                country=order.country,
            ),
            customer_id=order.customer_id,
            success_url=order.get_absolute_url(),
            failure_url=order.get_absolute_url(),
            description="Quiet Kettle",
            items=[
                LineItem(
                    name=line.name,
                    quantity=line.quantity,
                    unit_price=line.unit_price,
                    url=request.build_absolute_uri(line.product.get_absolute_url()),
                )
                for line in order.lines.select_related("product", "order")
            ],
            locale="en",
            capture_mode=capture_mode,
        )
