"""The pages of the shop."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from django_multipay.exceptions import InvalidTransition, MultipayError
from django_multipay.flows import start_payment
from django_multipay.messages import Redirect
from django_multipay.models import Payment
from shop.cart import MAX_QUANTITY, Cart
from shop.checkout import payment_for, place_order, unfinished_payment
from shop.customers import customer_id, customer_of
from shop.forms import CheckoutForm, WayForm
from shop.models import Order, Product


@require_GET
def catalog(request: HttpRequest) -> HttpResponse:
    """Everything on the shelf."""
    products = Product.objects.sold_in(Cart(request.session).currency)
    return render(request, "shop/catalog.html", {"products": products})


@require_GET
def product(request: HttpRequest, slug: str) -> HttpResponse:
    """One product, and three others beside it."""
    on_sale = Product.objects.sold_in(Cart(request.session).currency)
    chosen = get_object_or_404(on_sale, slug=slug)
    return render(
        request,
        "shop/product.html",
        {
            "product": chosen,
            "others": on_sale.exclude(pk=chosen.pk)[:4],
            "quantities": range(1, MAX_QUANTITY + 1),
        },
    )


@require_GET
def cart(request: HttpRequest) -> HttpResponse:
    """What the visitor has put aside."""
    return render(request, "shop/cart.html", {"max_quantity": MAX_QUANTITY})


@require_POST
def change_cart(request: HttpRequest, slug: str) -> HttpResponse:
    """Add some of a product, or set how many there are."""
    chosen = get_object_or_404(Product, slug=slug, is_active=True)
    try:
        quantity = int(request.POST.get("quantity", ""))
    except ValueError:
        return redirect(chosen)
    visitors_cart = Cart(request.session)
    if "add" in request.POST:
        visitors_cart.add(chosen, quantity)
        messages.success(request, f"{chosen.name} is in your cart.")
    else:
        visitors_cart.set_quantity(chosen, quantity)
    return redirect("shop:cart")


@require_POST
def choose_currency(request: HttpRequest) -> HttpResponse:
    """Show every price in another currency."""
    currency = request.POST.get("currency", "")
    if currency in settings.SHOP_CURRENCIES:
        Cart(request.session).choose_currency(currency)
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(back, {request.get_host()}):
        back = "shop:catalog"
    return redirect(back)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def checkout(request: HttpRequest) -> HttpResponse:
    """Ask who buys, write the order, and hand the buyer over to the payment."""
    visitors_cart = Cart(request.session)
    if not visitors_cart:
        return redirect("shop:cart")
    # Made here, on the way to the form, so that a double click sends the same key.
    visitors_cart.ensure_checkout_key()
    form = CheckoutForm(
        request.POST or None,
        instance=Order(customer_id=customer_of(request)),
        currency=visitors_cart.currency,
        customer_id=customer_id(request),
    )
    if request.method == "POST" and form.is_valid():
        placed = place_order(form.save(commit=False), visitors_cart)
        visitors_cart.clear()
        payment = payment_for(
            placed,
            request,
            way=form.chosen_way,
            capture_mode=form.chosen_capture_mode,
            save_card=form.saves_card,
        )
        return to_payment(request, payment, placed) if payment else redirect(placed)
    return render(request, "shop/checkout.html", {"form": form})


@never_cache
@require_GET
def orders(request: HttpRequest) -> HttpResponse:
    """The visitor's orders, the newest first."""
    own = Order.objects.filter(customer_id=customer_of(request))
    page = Paginator(own.prefetch_related("lines__product"), 10).get_page(
        request.GET.get("page")
    )
    return render(request, "shop/orders.html", {"page": page})


@never_cache
@require_GET
def order(request: HttpRequest, reference: str) -> HttpResponse:
    """One order, how it is paid, and what happened to it."""
    own = own_order(request, reference)
    attempts = list(own.payments)
    return render(
        request,
        "shop/order.html",
        {
            "order": own,
            "payment": attempts[0] if attempts else None,
            "earlier_payments": attempts[1:],
            "form": _way_form(own),
            "deposit": next(
                (
                    attempt
                    for attempt in attempts
                    if attempt.status == Payment.Status.AWAITING_FUNDS
                ),
                None,
            ),
            "lines": own.lines.select_related("product", "order"),
            "events": own.events.all(),
        },
    )


def _way_form(own: Order) -> WayForm | None:
    """Return the choice of ways, unless one was taken that can still be finished."""
    if not own.is_payable or unfinished_payment(own):
        return None
    latest = own.payments.first()
    form = WayForm(currency=own.currency, customer_id=own.customer_id)
    for way in form.ways.values():
        if latest and (latest.provider, latest.method, latest.token) == (
            way.provider,
            way.method,
            way.token,
        ):
            form.initial["way"] = way.slug
    return form


@require_POST
def pay(request: HttpRequest, reference: str) -> HttpResponse:
    """Continue the payment of an order, or try again after one that failed."""
    own = own_order(request, reference)
    form = WayForm(request.POST, currency=own.currency, customer_id=own.customer_id)
    way = form.chosen_way if form.is_valid() else None
    try:
        payment = payment_for(own, request, way=way)
    except InvalidTransition:
        # What became of the last attempt is not known for sure yet.
        messages.info(request, "Please wait: the last payment is still being checked.")
        return redirect(own)
    if payment is None:
        messages.info(request, "This order needs no payment now.")
        return redirect(own)
    return to_payment(request, payment, own)


def to_payment(request: HttpRequest, payment: Payment, own: Order) -> HttpResponse:
    """Hand the buyer over; with a saved card nothing is left to ask on our side."""
    if payment.token is None:
        return redirect(payment.get_checkout_url())
    try:
        action = start_payment(payment, request)
    except MultipayError:
        messages.error(request, "The saved card could not be used. Nothing was taken.")
        return redirect(own)
    if isinstance(action, Redirect):
        return redirect(action.url)
    return redirect(payment.get_checkout_url())


def own_order(request: HttpRequest, reference: str) -> Order:
    """Return the visitor's own order; another's does not exist for them."""
    return get_object_or_404(
        Order, reference=reference, customer_id=customer_of(request)
    )
