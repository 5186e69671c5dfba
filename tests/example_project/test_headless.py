"""The checkout of the shop's own page: an order, and a secret for this browser only."""

from __future__ import annotations

import copy
import json

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.test import Client, RequestFactory
from pytest_django.asserts import assertContains, assertNotContains

from django_multipay.models import Payment
from shop import headless
from shop.cart import Cart
from shop.models import Order, Product

pytestmark = pytest.mark.usefixtures("shelf")

BUYER = {"name": "Ada", "email": "ada@example.com", "phone": "", "country": "GB"}


@pytest.fixture
def visitor(client: Client) -> Client:
    """A visitor with a box in the cart, who looks at the page."""
    client.post("/cart/tasting-box/", {"add": "1", "quantity": "1"})
    assert client.get("/headless/").status_code == 200
    return client


def test_the_browser_gets_the_secret_of_its_own_payment(visitor: Client) -> None:
    said = visitor.post("/headless/order/", BUYER).json()
    payment = Payment.objects.get()
    assert said["payment"] == str(payment.uuid)
    assert payment.order_id == Order.objects.get().reference
    assert payment.success_url == payment.failure_url == "/headless/"

    other = Client()
    other.post("/cart/paper-filters/", {"add": "1", "quantity": "1"})
    other.get("/headless/")
    theirs = other.post("/headless/order/", BUYER).json()
    for uuid, status in ((said["payment"], 200), (theirs["payment"], 404)):
        seen = Client().get(
            f"/payments/api/payments/{uuid}/",
            headers={"Authorization": f"Multipay-Client {said['secret']}"},
        )
        assert seen.status_code == status


def test_a_double_click_is_one_order_and_one_payment(rf: RequestFactory) -> None:
    # Two requests read the same session before either of them has written it.
    session = SessionStore()
    session["customer_id"] = "c" * 32
    Cart(session).add(Product.objects.get(slug="tasting-box"), 1)
    Cart(session).ensure_checkout_key()
    answers = []
    for _ in range(2):
        request = rf.post("/headless/order/", BUYER)
        request.session, request.user = copy.deepcopy(session), AnonymousUser()
        answers.append(json.loads(headless.order(request).content))
    assert answers[0] == answers[1]
    assert Order.objects.count() == Payment.objects.count() == 1


def test_what_is_wrong_with_the_form_is_said(visitor: Client) -> None:
    wrong = visitor.post("/headless/order/", {**BUYER, "email": "nobody"})
    assert wrong.status_code == 400
    assert "e-mail" in wrong.json()["detail"].lower().replace("email", "e-mail")
    assert not Order.objects.exists()


def test_an_empty_cart_is_no_order(client: Client, shelf: None) -> None:
    empty = client.post("/headless/order/", BUYER)
    assert (empty.status_code, empty.json()["detail"]) == (400, "Empty cart.")
    assert not Payment.objects.exists()


def test_an_empty_cart_gets_no_form_to_fill_in(client: Client) -> None:
    page = client.get("/headless/")
    assertContains(page, "Your cart is empty.")
    assertNotContains(page, "Choose how to pay")


def test_the_page_has_words_for_every_status(visitor: Client) -> None:
    page = visitor.get("/headless/")
    words = json.loads(page.context["words"])
    assert set(Payment.Status.values) - set(words) == {"created"}


def test_the_page_of_the_api_reads_the_description_from_here(client: Client) -> None:
    page = client.get("/api/")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert client.get("/payments/api/schema/").json()["openapi"].startswith("3.1")
