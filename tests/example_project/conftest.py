"""The shop is a project of its own and is tested under its own settings:

``DJANGO_SETTINGS_MODULE=shop_project.settings python -m pytest tests/example_project``
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

SETTINGS = "shop_project.settings"

if os.environ.get("DJANGO_SETTINGS_MODULE") != SETTINGS:
    # Its models have no app under the settings of the other tests.
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def shelf(db: None) -> None:
    """The seeded products."""
    from shop.seed import seed_products

    seed_products()


@pytest.fixture
def place_order(shelf: None) -> Callable[..., Any]:
    """Return a function that makes an order and its first payment.

    It takes what `payment_for` takes.
    """
    from django.contrib.sessions.backends.signed_cookies import SessionStore
    from django.test import RequestFactory

    from shop.cart import Cart
    from shop.checkout import payment_for, place_order
    from shop.models import Order, Product

    def place(currency: str = "USD", **wishes: Any) -> tuple[Any, Any]:
        cart = Cart(SessionStore())
        cart.choose_currency(currency)
        cart.add(Product.objects.get(slug="paper-filters"), 1)
        order = place_order(
            Order(
                customer_id="c" * 32, name="Ada", email="ada@example.com", country="GB"
            ),
            cart,
        )
        return order, payment_for(order, RequestFactory().get("/"), **wishes)

    return place
