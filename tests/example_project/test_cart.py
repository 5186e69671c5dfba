"""The cart adds up exactly, in every currency."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from moneyed import Money

from shop.cart import MAX_QUANTITY, Cart
from shop.models import Price, Product
from shop.money import USDT, money_of, written

pytestmark = pytest.mark.usefixtures("shelf")


def product(slug: str) -> Product:
    return Product.objects.get(slug=slug)


def test_sums_are_exact_where_floats_are_not() -> None:
    Price.objects.filter(product__slug="paper-filters", currency="USD").update(
        amount=Decimal("0.10")
    )
    cart = Cart(SessionStore())
    cart.add(product("paper-filters"), 3)

    assert cart.total == Money("0.30", "USD")
    assert isinstance(cart.total.amount, Decimal)


def test_total_is_the_sum_of_the_lines() -> None:
    cart = Cart(SessionStore())
    cart.add(product("tasting-box"), 2)
    cart.add(product("hand-grinder"), 1)

    assert [line.subtotal for line in cart] == [
        Money("79.90", "USD"),
        Money("52.60", "USD"),
    ]
    assert cart.total == Money("132.50", "USD")
    assert len(cart) == 3


@pytest.mark.parametrize(
    ("currency", "total"),
    [("USD", "18.50"), ("KRW", "25000"), ("JPY", "2800"), ("USDT", "18.490000")],
)
def test_currency_prices_the_same_cart_anew(currency: str, total: str) -> None:
    cart = Cart(SessionStore())
    cart.add(product("first-light"), 1)
    cart.choose_currency(currency)

    assert cart.total == money_of(Decimal(total), currency)
    # Won and yen have no decimals, although the column keeps six.
    assert str(cart.total.amount) == total


def test_six_decimals_of_usdt_add_up() -> None:
    cart = Cart(SessionStore())
    cart.add(product("paper-filters"), 3)
    cart.choose_currency("USDT")

    assert cart.total == Money("20.236875", USDT)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("1234.5", "USD", "$1,234.50"),
        ("18.49", "USDT", "18.49 USDT"),
        ("20", "USDT", "20.00 USDT"),
        ("6.745625", "USDT", "6.745625 USDT"),
        ("1234.5", "USDT", "1,234.50 USDT"),
    ],
)
def test_amounts_are_written_as_buyers_read_them(
    amount: str, currency: str, text: str
) -> None:
    assert written(money_of(Decimal(amount), currency)) == text


def test_a_product_without_a_price_in_the_currency_is_not_in_the_cart() -> None:
    Price.objects.filter(product__slug="first-light", currency="KRW").delete()
    cart = Cart(SessionStore())
    cart.add(product("first-light"), 1)
    cart.choose_currency("KRW")

    assert not cart
    assert cart.total == Money(0, "KRW")


def test_quantities_stay_between_nothing_and_the_limit() -> None:
    cart = Cart(SessionStore())
    cart.add(product("first-light"), MAX_QUANTITY + 5)
    assert len(cart) == MAX_QUANTITY

    cart.add(product("first-light"), -3)
    assert len(cart) == MAX_QUANTITY

    cart.set_quantity(product("first-light"), 0)
    assert len(cart) == 0


def test_the_cart_lives_in_the_session() -> None:
    session = SessionStore()
    Cart(session).add(product("first-light"), 2)

    assert len(Cart(session)) == 2


def test_a_cleared_cart_becomes_another_order() -> None:
    cart = Cart(SessionStore())
    first = cart.ensure_checkout_key()
    assert cart.ensure_checkout_key() == first

    cart.clear()
    assert cart.ensure_checkout_key() != first
