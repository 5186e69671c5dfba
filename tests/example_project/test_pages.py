"""What visitors see, and what they must not see."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client

from django_multipay.models import Payment
from shop.models import Currency, Order, Product
from shop.seed import SHELF, seed_products
from shop_project import settings as shop_settings

pytestmark = pytest.mark.usefixtures("shelf")

BUYER = {"name": "Ada", "email": "ada@example.com", "country": "GB"}


@pytest.fixture
def order(client: Client) -> Order:
    client.post("/cart/tasting-box/", {"add": "1", "quantity": "1"})
    client.post("/checkout/", BUYER)
    return Order.objects.get()


def test_seeding_twice_changes_nothing() -> None:
    before = list(Product.objects.values())
    seed_products()
    assert list(Product.objects.values()) == before


@pytest.mark.parametrize("goods", SHELF, ids=lambda goods: goods.slug)
def test_every_product_has_its_drawing_and_all_prices(goods: object) -> None:
    product = Product.objects.get(slug=goods.slug)  # type: ignore[attr-defined]
    assert finders.find(product.picture_path)
    assert {price.currency for price in product.prices.all()} == set(Currency.values)


@pytest.mark.parametrize(
    ("currency", "price"),
    [
        ("USD", "$18.50"),
        ("KRW", "₩25,000"),
        ("JPY", "¥2,800"),
        ("USDT", "18.49 USDT"),
    ],
)
def test_the_currency_chooser_changes_every_price(
    client: Client, currency: str, price: str
) -> None:
    answer = client.post("/currency/", {"currency": currency, "next": "/cart/"})

    assert answer["Location"] == "/cart/"
    assert price in client.get("/").text
    assert price in client.get("/coffee/first-light/").text


@pytest.mark.parametrize("currency", ["", "EUR", "usd", "<b>"])
def test_the_currency_chooser_knows_only_its_currencies(
    client: Client, currency: str
) -> None:
    client.post("/currency/", {"currency": currency})
    assert "$18.50" in client.get("/").text


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "\\\\evil", ""],
)
def test_the_currency_chooser_leads_nowhere_else(client: Client, target: str) -> None:
    answer = client.post("/currency/", {"currency": "KRW", "next": target})
    assert answer["Location"] == "/"


def test_the_shop_window_takes_few_queries(
    client: Client, django_assert_num_queries: Callable[..., object]
) -> None:
    with django_assert_num_queries(1):  # type: ignore[attr-defined]
        client.get("/")


def test_the_order_shows_its_payment(client: Client, order: Order) -> None:
    page = client.get(order.get_absolute_url())
    assert page.status_code == 200
    assert 'data-order-status="open"' in page.text
    assert "$26.30" in page.text


def test_another_visitors_order_does_not_exist(order: Order) -> None:
    stranger = Client()
    url = order.get_absolute_url()

    assert stranger.get(url).status_code == 404
    assert stranger.post(f"{url}pay/").status_code == 404
    assert order.reference not in stranger.get("/orders/").text
    assert Payment.objects.count() == 1


def test_an_order_that_never_was_looks_the_same(client: Client, order: Order) -> None:
    assert client.get("/orders/QK22222222/").status_code == 404


def test_the_history_shows_the_visitors_orders(client: Client, order: Order) -> None:
    assert order.reference in client.get("/orders/").text


def test_references_are_random_and_readable() -> None:
    references = {Order().reference for _ in range(500)}
    assert len(references) == 500
    assert all(re.fullmatch(r"QK[2-9A-HJKMNP-TV-Z]{8}", text) for text in references)


@pytest.mark.parametrize("status", Order.Status.values)
def test_an_order_page_exists_for_every_status(
    client: Client, order: Order, status: str
) -> None:
    Order.objects.update(status=status)
    page = client.get(order.get_absolute_url())
    assert ("/pay/" in page.text) == (status in Order.PAYABLE)


@pytest.mark.parametrize("quantity", ["", "two", "1.5", "१२३x"])
def test_a_quantity_that_is_no_number_changes_nothing(
    client: Client, quantity: str
) -> None:
    answer = client.post("/cart/first-light/", {"add": "1", "quantity": quantity})
    assert answer.status_code == 302
    assert "cart" not in client.session


@pytest.mark.parametrize("path", ["/cart/first-light/", "/currency/"])
def test_nothing_changes_by_get(client: Client, path: str) -> None:
    assert client.get(path).status_code == 405


@pytest.mark.parametrize(
    "path", ["/currency/", "/cart/first-light/", "/checkout/", "/coffee-box/"]
)
def test_nothing_changes_without_the_csrf_token(path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(path, {"currency": "KRW"}).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/coffee/first-light/",
        "/cart/",
        "/checkout/",
        "/orders/",
        "/coffee-box/",
        "/subscriptions/",
    ],
)
def test_nothing_is_inline_and_nothing_is_foreign(client: Client, path: str) -> None:
    client.post("/cart/first-light/", {"add": "1", "quantity": "1"})
    page = client.get(path)

    assert page.status_code == 200
    assert "script-src 'self'" in page["Content-Security-Policy"]
    assert "unsafe" not in page["Content-Security-Policy"]
    assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=", page.text)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page.text)


def test_the_content_policy_names_only_the_origins_that_are_needed(
    client: Client,
) -> None:
    directives = dict(
        directive.split(" ", 1)
        for directive in client.get("/")["Content-Security-Policy"].split("; ")
    )

    sandbox = "http://127.0.0.1:8100"
    assert directives["default-src"] == "'self'"
    assert directives["script-src"] == directives["connect-src"]
    assert directives["form-action"] == f"'self' {sandbox}"
    assert directives["img-src"] == f"'self' data: {sandbox}"


@pytest.mark.parametrize(
    ("variables", "directive", "sources"),
    [
        (
            {"EXIMBAY_URL": "https://api.eximbay.com"},
            "script-src",
            "'self' https://api.eximbay.com",
        ),
        (
            {"CLINK_URL": "https://api.clinkbill.com/api"},
            "img-src",
            "'self' data: https://api.clinkbill.com",
        ),
        (
            {"PAYMENT_ORIGINS": "https://checkout.example,https://pay.example"},
            "form-action",
            "'self' https://checkout.example https://pay.example",
        ),
    ],
)
def test_the_content_policy_follows_the_accounts(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    directive: str,
    sources: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    policy = runpy.run_path(shop_settings.__file__)["CONTENT_SECURITY_POLICY"]

    assert " ".join(policy[directive]) == sources


def test_staff_read_orders_and_change_goods(order: Order) -> None:
    staff = Client()
    staff.force_login(
        User.objects.create_superuser("staff", "staff@example.com", "secret")
    )

    for path in (
        "/admin/",
        "/admin/shop/order/",
        f"/admin/shop/order/{order.pk}/change/",
        "/admin/shop/product/",
        f"/admin/shop/product/{Product.objects.all()[0].pk}/change/",
    ):
        assert staff.get(path).status_code == 200, path
    assert staff.get("/admin/shop/order/add/").status_code == 403
    assert staff.post(f"/admin/shop/order/{order.pk}/delete/").status_code == 403


def test_pages_that_name_no_icon_get_the_shops(client: Client) -> None:
    answer = client.get("/favicon.ico")
    assert answer.status_code == 302
    assert finders.find(answer["Location"].removeprefix("/static/"))
