"""A checkout of the shop's own pages: the browser pays through the REST API."""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from django_multipay.api import client_secret
from shop.cart import Cart
from shop.checkout import payment_for, place_order
from shop.customers import customer_of
from shop.forms import CheckoutForm
from shop.models import Order

WORDS = {
    "paid": "Paid. Thank you!",
    "authorized": "Paid. Thank you!",
    "refunded": "Your money is on its way back.",
    "partially_refunded": "A part of your money is on its way back.",
    "pending": "Waiting for the confirmation. Please do not pay again.",
    "authenticated": "Waiting for the confirmation. Please do not pay again.",
    "in_review": "A person looks at your payment. Please do not pay again.",
    "awaiting_funds": "Waiting for your deposit.",
    "failed": "The payment did not go through.",
    "canceled": "The payment was canceled.",
    "expired": "The time to pay is over.",
    "again": "Try again",
    "continue": "Not paid yet? Continue",
    "wrong": "Something went wrong. Please try again.",
}
"""What the page says; a script has no other words."""


@never_cache
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The whole checkout on one page; the script does the rest."""
    cart = Cart(request.session)
    if cart:
        # Made here, on the way to the form, so that a double click sends the same key.
        cart.ensure_checkout_key()
    form = CheckoutForm(
        instance=Order(customer_id=customer_of(request)), currency=cart.currency
    )
    context = {
        "form": form,
        "words": json.dumps(WORDS),
        # Where the API is: the site decides, and the script asks nobody else.
        "api": reverse("multipay_api:payments").removesuffix("/payments/"),
    }
    return render(request, "shop/headless.html", context)


@never_cache
@require_POST
def order(request: HttpRequest) -> JsonResponse:
    """Write the order; answer the payment and the secret for this browser."""
    cart = Cart(request.session)
    form = CheckoutForm(
        request.POST,
        instance=Order(customer_id=customer_of(request)),
        currency=cart.currency,
    )
    if not cart or not form.is_valid():
        errors = [str(text) for texts in form.errors.values() for text in texts]
        return JsonResponse({"detail": " ".join(errors) or "Empty cart."}, status=400)
    placed = place_order(form.save(commit=False), cart)
    cart.clear()
    payment = payment_for(placed, request, back_url=reverse("shop:headless"))
    if payment is None:
        return JsonResponse({"detail": "Nothing is to be paid."}, status=409)
    return JsonResponse(
        {"payment": str(payment.uuid), "secret": client_secret(payment)}
    )
