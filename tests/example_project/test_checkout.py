"""From the cart to one order and one payment, however often the buyer clicks."""

from __future__ import annotations

import copy
import re
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.test import Client, RequestFactory
from moneyed import Money
from pytest_django import Settings

from django_multipay.models import Operation, Payment, Token
from django_multipay.registry import registry
from django_multipay.testing.buyer import DeliverWebhook, Outcome, Pay
from django_multipay.testing.plugin import Sandbox
from shop.cart import Cart
from shop.checkout import payment_for, place_order
from shop.customers import customer_id, customer_of
from shop.models import Order, Price, Product
from shop.money import money_of
from shop.ways import WAYS, Way, ways_for

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


@pytest.mark.parametrize("currency", ["USD", "KRW", "JPY", "USDT"])
def test_every_way_on_offer_can_take_the_payment(currency: str) -> None:
    for way in ways_for(currency):
        provider = registry[way.provider]
        assert provider.can_take(money_of(Decimal(20), currency)), way.slug


def test_every_provider_is_on_offer() -> None:
    assert {way.provider for way in WAYS} == set(registry)


def test_a_provider_that_is_not_configured_is_not_on_offer(settings: Settings) -> None:
    settings.MULTIPAY = {
        "PROVIDERS": {"payer": settings.MULTIPAY["PROVIDERS"]["payer"]}
    }

    assert [way.slug for way in ways_for("USD")] == ["payer"]
    assert ways_for("USDT") == []


@pytest.mark.parametrize("way", [way for way in WAYS if "USD" in way.currencies])
def test_the_chosen_way_becomes_provider_and_method(client: Client, way: Way) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "way": way.slug})

    payment = Payment.objects.get()
    assert (payment.provider, payment.method) == (way.provider, way.method)


def test_without_a_way_the_payment_page_asks(client: Client) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)

    assert Payment.objects.get().provider == ""


@pytest.mark.parametrize("way", ["excoinz", "kakao", "cash", "<b>"])
def test_a_way_that_does_not_take_the_currency_is_refused(
    client: Client, way: str
) -> None:
    add(client, "tasting-box")
    answer = client.post("/checkout/", {**BUYER, "way": way})

    assert "way" in answer.context["form"].errors
    assert not Order.objects.exists()


def test_usdt_is_paid_to_six_decimals_with_a_picture(client: Client) -> None:
    client.post("/currency/", {"currency": "USDT"})
    add(client, "paper-filters", "3")
    client.post("/checkout/", {**BUYER, "way": "excoinz"})

    payment = Payment.objects.get()
    assert payment.amount_minor == 20_236_875
    assert payment.currency == "USDT"
    assert payment.checkout_data["provider_data"] == {
        "item_img_url": "http://testserver/static/shop/pictures/paper-filters.svg"
    }


def test_only_who_can_authorize_is_asked_to(client: Client, settings: Settings) -> None:
    settings.SHOP_DEMO_OPTIONS = True
    add(client, "tasting-box")
    form = {**BUYER, "capture_mode": "manual"}

    answer = client.post("/checkout/", {**form, "way": "payer"})
    assert "capture_mode" in answer.context["form"].errors
    client.post("/checkout/", {**form, "way": "eximbay"})
    assert Payment.objects.get().capture_mode == "manual"


def test_another_way_can_be_taken_before_anything_was_opened(client: Client) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "way": "payer"})
    order = Order.objects.get()

    client.post(f"{order.get_absolute_url()}pay/", {"way": "wechat"})
    again = client.post(f"{order.get_absolute_url()}pay/", {"way": "wechat"})

    newest = order.payments[0]
    assert (newest.provider, newest.method) == ("easybilling", "wechat-pay-native")
    assert again["Location"] == newest.get_checkout_url()
    assert Payment.objects.count() == 2


@pytest.mark.parametrize("outcome", ["pending", "canceled"])
def test_what_was_opened_is_finished_there(
    client: Client, pay: Pay, outcome: Outcome
) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "way": "payer"})
    pay(Payment.objects.get(), outcome)
    order = Order.objects.get()

    assert 'name="way"' not in client.get(order.get_absolute_url()).text
    answer = client.post(f"{order.get_absolute_url()}pay/", {"way": "wechat"})

    assert answer["Location"] == Payment.objects.get().get_checkout_url()


def test_an_attempt_that_was_opened_in_an_old_window_is_finished(
    client: Client, pay: Pay
) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "way": "payer"})
    url = f"{Order.objects.get().get_absolute_url()}pay/"
    client.post(url, {"way": "wechat"})
    opened = pay(Payment.objects.get(provider="payer"), "pending")

    answer = client.post(url, {"way": "wechat"})

    assert answer["Location"] == opened.get_checkout_url()


def test_the_order_proposes_the_way_of_the_last_attempt(
    client: Client, pay: Pay
) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "way": "alipay"})
    pay(Payment.objects.get(), "declined")

    page = client.get(Order.objects.get().get_absolute_url()).text

    assert re.findall(r'value="([\w-]+)" checked', page) == ["alipay"]


@pytest.mark.parametrize("status", ["created", "pending"])
def test_an_unfinished_payment_is_continued(client: Client, status: str) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)
    Payment.objects.update(status=status)

    answer = client.post(f"{Order.objects.get().get_absolute_url()}pay/")

    assert answer["Location"] == Payment.objects.get().get_checkout_url()


@pytest.mark.parametrize(
    ("way", "outcome"),
    [("eximbay", "declined"), ("eximbay", "canceled"), ("clink", "expired")],
)
def test_after_a_failure_a_new_payment_has_the_same_order(
    client: Client, pay: Pay, way: str, outcome: Outcome
) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)
    order = Order.objects.get()
    pay(Payment.objects.get(), outcome, provider=way)

    answer = client.post(f"{order.get_absolute_url()}pay/")

    assert Payment.objects.count() == 2
    newest = order.payments[0]
    assert newest.status == "created"
    assert newest.order_id == order.reference
    assert newest.retry_of == order.payments[1]
    assert answer["Location"] == newest.get_checkout_url()


def test_nobody_pays_again_while_the_first_payment_is_being_checked(
    client: Client,
) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", BUYER)
    order = Order.objects.get()
    Payment.objects.update(status="failed")
    Operation.objects.create(
        payment=Payment.objects.get(), kind="confirm", state="unknown", open_slot="1"
    )

    answer = client.post(f"{order.get_absolute_url()}pay/", follow=True)

    assert "still being checked" in answer.text
    assert Payment.objects.count() == 1


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


# Saved cards -------------------------------------------------------------------------


def save_card(customer_id: str, **values: Any) -> Token:
    token: Token = Token.objects.create(
        **{
            "provider": "clink",
            "customer_id": customer_id,
            "provider_token": "secret",
            "token_digest": uuid4().hex,
            "brand": "VISA",
            "last4": "4242",
            "expires_on": date(2030, 12, 31),
            **values,
        }
    )
    return token


def test_a_card_is_saved_only_if_the_buyer_says_so(client: Client) -> None:
    for wanted in ({}, {"save_card": "on"}):
        add(client, "tasting-box")
        client.post("/checkout/", {**BUYER, "way": "clink", **wanted})

    saved = Payment.objects.order_by("pk").values_list("save_token", flat=True)
    assert list(saved) == [False, True]


def test_only_cards_can_be_saved(client: Client) -> None:
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "way": "wechat", "save_card": "on"})

    assert not Payment.objects.get().save_token


@pytest.fixture
def card(client: Client, pay: Pay) -> Token:
    """The card that the visitor paid with and let Clink save."""
    add(client, "tasting-box")
    client.post("/checkout/", {**BUYER, "way": "clink", "save_card": "on"})
    pay(Payment.objects.get())
    return Token.objects.get()


def test_a_saved_card_is_one_click_away(
    client: Client, card: Token, deliver_webhook: DeliverWebhook
) -> None:
    add(client, "paper-filters")
    page = client.get("/checkout/").text
    assert f"{card.brand} •••• {card.last4}" in page

    answer = client.post("/checkout/", {**BUYER, "way": f"saved-{card.uuid}"})
    deliver_webhook()

    payment = Payment.objects.latest("pk")
    assert payment.token == card
    assert payment.status == Payment.Status.PAID
    assert answer["Location"] == payment.get_checkout_url()
    assert set(Order.objects.values_list("status", flat=True)) == {"paid"}


def test_a_saved_card_says_until_when_it_is_valid(client: Client) -> None:
    client.get("/cards/")
    save_card(client.session["customer_id"])
    add(client, "tasting-box")

    assert "Valid until 12/30." in client.get("/checkout/").text


def test_a_saved_card_that_fails_leaves_the_order_to_be_paid(
    client: Client, card: Token, multipay_sandbox: Sandbox
) -> None:
    multipay_sandbox.post(
        "/_control/faults",
        {"provider": "clink", "operation": "payment", "fault": "drop_before"},
    )
    add(client, "paper-filters")

    page = client.post(
        "/checkout/", {**BUYER, "way": f"saved-{card.uuid}"}, follow=True
    )

    assert "Nothing was taken." in page.text
    order = Order.objects.latest("pk")
    assert page.redirect_chain[-1][0] == order.get_absolute_url()
    assert order.is_payable


def test_nobody_pays_with_the_card_of_somebody_else(client: Client) -> None:
    token = save_card("somebody-else")
    add(client, "tasting-box")
    assert "4242" not in client.get("/checkout/").text

    answer = client.post("/checkout/", {**BUYER, "way": f"saved-{token.uuid}"})

    assert "way" in answer.context["form"].errors
    assert not Payment.objects.exists()


@pytest.mark.parametrize(
    "values",
    [
        {"status": Token.Status.DELETED},
        {"status": Token.Status.DEAD},
        {"provider": "left-the-settings"},
    ],
    ids=["deleted", "dead", "gone"],
)
def test_what_cannot_be_charged_is_not_offered(values: dict[str, str]) -> None:
    save_card("ada", **values)

    assert all(way.token is None for way in ways_for("USD", "ada"))


def test_a_customer_is_the_session_or_the_account(client: Client, rf: Any) -> None:
    user = User.objects.create_user("ada")
    request = rf.get("/")
    request.session, request.user = {}, AnonymousUser()
    assert customer_id(request) == ""

    request.user = user
    assert customer_of(request) == customer_id(request) == f"user-{user.pk}"

    request.user = AnonymousUser()
    visitor = customer_of(request)
    request.user = user
    # Who bought something and then logs in does not lose it.
    assert customer_id(request) == visitor == request.session["customer_id"]
    # No database takes two of them for one text.
    for known in (visitor, f"user-{user.pk}"):
        assert re.fullmatch("[a-z0-9-]+", known)
