"""From a cart to an order, and from an order to a payment."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.templatetags.static import static

from django_multipay.flows import create_payment
from django_multipay.messages import Buyer, LineItem
from django_multipay.models import Payment
from shop.cart import Cart
from shop.models import Order, OrderEvent, OrderLine
from shop.ways import Way

UNSUCCESSFUL = frozenset(
    {Payment.Status.FAILED, Payment.Status.CANCELED, Payment.Status.EXPIRED}
)


def unfinished_payment(order: Order) -> Payment | None:
    """Return the attempt that was opened at a provider and may still be paid there.

    Starting another one beside it could only lead to paying twice.
    """
    return order.payments.filter(
        Q(status=Payment.Status.PENDING)
        | Q(status=Payment.Status.CREATED, started_at__isnull=False)
    ).first()


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
    way: Way | None = None,
    capture_mode: str = "automatic",
    save_card: bool = False,
    back_url: str = "",
) -> Payment | None:
    """Return the payment with which ``order`` can be paid now, in this ``way``.

    An unfinished attempt is continued; after a failure, or when the buyer thinks of
    another way before anything was opened, there is a new one with the same
    ``order_id``. Without a way the payment page asks for the provider. ``None`` when
    the order wants no money (any more). Afterwards the buyer comes to ``back_url``, or
    to the page of the order. `InvalidTransition` while the last attempt, which did not
    go through, could still turn out to have been paid.
    """
    with transaction.atomic():
        # Two clicks meet at the order's row and leave with the same payment.
        order = Order.objects.select_for_update().get(pk=order.pk)
        if not order.is_payable:
            return None
        unfinished = unfinished_payment(order) or _same_choice(order, way)
        if unfinished is not None:
            return unfinished
        latest = order.payments.first()
        return create_payment(
            # With this the app sees to it that late money of the attempt before is
            # noticed, and not kept beside this one's.
            retry_of=latest if latest and latest.status in UNSUCCESSFUL else None,
            provider=way.provider if way else None,
            method=way.method if way else "",
            token=way.token if way else None,
            save_token=save_card,
            order_id=order.reference,
            amount=order.amount,
            buyer=Buyer(
                name=order.name,
                email=order.email,
                phone=order.phone,
                country=order.country,
            ),
            customer_id=order.customer_id,
            success_url=back_url or order.get_absolute_url(),
            failure_url=back_url or order.get_absolute_url(),
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
            provider_data=_picture(order, way, request),
        )


def _picture(order: Order, way: Way | None, request: HttpRequest) -> dict[str, str]:
    """Return the picture of the first of the goods, for a provider that shows one."""
    line = order.lines.select_related("product").first()
    if way is None or not way.picture_field or line is None:
        return {}
    address = request.build_absolute_uri(static(line.product.picture_path))
    return {way.picture_field: address}


def _same_choice(order: Order, way: Way | None) -> Payment | None:
    """Return the attempt that waits to be started in this very way, or in any."""
    latest = order.payments.first()
    if latest is None or latest.status != Payment.Status.CREATED:
        return None
    is_same = way is None or (latest.provider, latest.method, latest.token) == (
        way.provider,
        way.method,
        way.token,
    )
    return latest if is_same else None
