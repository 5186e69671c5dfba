"""Payments and accounts for the buyer's pages."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from moneyed import Money
from pytest_django import Settings

from django_multipay.flows import create_payment
from django_multipay.messages import Buyer, LineItem
from django_multipay.models import Payment
from tests import fakes

Pay = Callable[..., Payment]


@pytest.fixture
def fake_accounts(settings: Settings) -> Settings:
    """One fake account for each answer, and nothing remembered from before."""
    settings.MULTIPAY = fakes.accounts(
        **{answer: answer for answer in (*fakes.ACTIONS, *fakes.ERRORS, fakes.NOTHING)}
    )
    fakes.FakeProvider.starts.clear()
    fakes.FakeProvider.refreshes.clear()
    cache.clear()
    return settings


@pytest.fixture
def pay(db: None, fake_accounts: Settings) -> Pay:
    """Return a maker of payments; ``status`` and such are written as they are."""
    numbers = itertools.count(1)

    def make(provider: str | None = "redirect", **values: Any) -> Payment:
        columns = {
            name: values.pop(name)
            for name in list(values)
            if name in {field.name for field in Payment._meta.fields}
            and name not in {"expires_at", "success_url", "failure_url"}
            and name not in {"order_id", "description", "amount", "items"}
        }
        payment = create_payment(
            **{
                "provider": provider,
                "order_id": f"order-{next(numbers)}",
                "amount": Money("26.30", "USD"),
                "items": [
                    LineItem(name="Cup", quantity=2, unit_price=Money("11.65", "USD")),
                    LineItem(
                        name="Shipping",
                        unit_price=Money("3", "USD"),
                        is_surcharge=True,
                    ),
                ],
                "buyer": Buyer(
                    name="Ada Lovelace",
                    email="ada@buyer.example",
                    phone="+441234567",
                ),
                "success_url": "/thanks/",
                "failure_url": "/cart/",
                **values,
            }
        )
        Payment.objects.filter(pk=payment.pk).update(**columns)
        payment.refresh_from_db()
        return payment

    return make
