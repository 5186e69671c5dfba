"""From the cart to one order and one payment, however often the buyer clicks."""

from __future__ import annotations

import copy
from decimal import Decimal

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.test import Client, RequestFactory
from moneyed import Money
from pytest_django import Settings

from django_multipay.models import Payment
from shop.cart import Cart
from shop.checkout import payment_for, place_order
from shop.models import Order, Price, Product

pytestmark = pytest.mark.usefixtures("shelf")

BUYER = {"name": "Ada", "email": "ada@example.com", "phone": "", "country": "GB"}


def add(client: Client, slug: str, quantity: str = "1") -> None:
    client.post(f"/cart/{slug}/", {"add": "1", "quantity": quantity})


def test_checkout_makes_order_lines_and_payment(client: Client) -> None:
    add(client, "tasting-box", "2")
    add(client, "paper-filters")

    answer = client.post("/checkout/", BUYER)

    order = Order.objects.get()
    payment = Payment.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == payment.get_checkout_url()
    assert payment.order_id == order.reference
    assert payment.amount == order.amount == Money("59.35", "USD")
    assert payment.customer_id == order.customer_id
    assert payment.capture_mode == "automatic"
    assert sum(line.subtotal.amount for line in order.lines.all()) == order.total


def test_the_order_keeps_the_price_of_its_day(client: Client) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)

    Price.objects.update(amount=Decimal(99))

    order = Order.objects.get()
    assert order.amount == order.lines.get().subtotal == Money("26.30", "USD")


def test_the_cart_is_empty_afterwards(client: Client) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)

    assert client.get("/checkout/")["Location"] == "/cart/"


def test_the_same_form_sent_twice_is_one_order_and_one_payment(
    rf: RequestFactory,
) -> None:
    # Two requests read the same session before either of them has written it.
    session = SessionStore()
    Cart(session).add(Product.objects.get(slug="tasting-box"), 1)
    Cart(session).ensure_checkout_key()
    orders = [
        place_order(
            Order(customer_id="c" * 32, name="Ada", email="a@example.com"),
            Cart(copy.deepcopy(session)),
        )
        for _ in range(2)
    ]
    payments = {payment_for(order, rf.get("/")) for order in orders}

    assert orders[0] == orders[1]
    assert Order.objects.count() == 1
    assert len(payments) == Payment.objects.count() == 1


@pytest.mark.parametrize("field", ["name", "email", "country"])
def test_who_buys_must_be_known(client: Client, field: str) -> None:
    add(client, "tasting-box")

    answer = client.post("/checkout/", {**BUYER, field: ""})

    assert answer.status_code == 200
    assert not Order.objects.exists()
    assert field in answer.context["form"].errors


def test_a_convenience_store_needs_a_phone_number(client: Client) -> None:
    client.post("/currency/", {"currency": "JPY"})
    add(client, "tasting-box")

    assert "phone" in client.post("/checkout/", BUYER).context["form"].errors
    answer = client.post("/checkout/", {**BUYER, "phone": "+81 3 1234 5678"})
    assert answer.status_code == 302


def test_buyers_are_not_asked_how_to_take_the_money(client: Client) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "capture_mode": "manual"})

    assert Payment.objects.get().capture_mode == "automatic"


def test_the_demo_may_ask(client: Client, settings: Settings) -> None:
    settings.SHOP_DEMO_OPTIONS = True
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "capture_mode": "manual"})

    assert Payment.objects.get().capture_mode == "manual"


@pytest.mark.parametrize("status", ["created", "pending"])
def test_an_unfinished_payment_is_continued(client: Client, status: str) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)
    Payment.objects.update(status=status)

    answer = client.post(f"{Order.objects.get().get_absolute_url()}pay/")

    assert answer["Location"] == Payment.objects.get().get_checkout_url()


@pytest.mark.parametrize("status", ["failed", "canceled", "expired"])
def test_after_a_failure_a_new_payment_has_the_same_order(
    client: Client, status: str
) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)
    order = Order.objects.get()
    Payment.objects.update(status=status)

    answer = client.post(f"{order.get_absolute_url()}pay/")

    assert Payment.objects.count() == 2
    newest = order.payments[0]
    assert newest.status == "created"
    assert newest.order_id == order.reference
    assert answer["Location"] == newest.get_checkout_url()


@pytest.mark.parametrize(
    "status", ["paid", "awaiting_deposit", "in_review", "authorized", "refunded"]
)
def test_an_order_that_wants_no_money_gets_no_payment(
    client: Client, status: str
) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)
    Order.objects.update(status=status)
    order = Order.objects.get()

    answer = client.post(f"{order.get_absolute_url()}pay/")

    assert answer["Location"] == order.get_absolute_url()
    assert Payment.objects.count() == 1
