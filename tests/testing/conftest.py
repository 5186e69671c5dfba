"""A shop that is in business, and whose tests may call nobody outside."""

from __future__ import annotations

import pytest
from moneyed import Money

from django_multipay import money
from django_multipay.flows import create_payment
from django_multipay.messages import Buyer

PACKAGE = "django_multipay.providers"
REAL = {
    "eximbay": {
        "BACKEND": f"{PACKAGE}.eximbay.EximbayProvider",
        "OPTIONS": {
            "mid": "A123456789",
            "api_key": "live_A1234567890123456789",
            "secret_key": "of the older API",
            "base_url": "https://api.eximbay.com",
            "shop_url": "https://shop.example/",
            "display_type": "P",
        },
    },
    "excoinz": {
        "BACKEND": f"{PACKAGE}.excoinz.ExcoinzProvider",
        "OPTIONS": {
            "client_id": "SHOP",
            "secret_key": "secret",
            "webhook_secret": "another",
            "source_addresses": ["13.229.255.195"],
            "base_url": "https://api.excoinz.com",
        },
    },
    "payer": {
        "BACKEND": f"{PACKAGE}.payer.PayerProvider",
        "OPTIONS": {
            "api_key": "key",
            "base_url": "https://payer.example",
            "create_path": "/v2/payments",
        },
    },
    "clink": {
        "BACKEND": f"{PACKAGE}.clink.ClinkProvider",
        "OPTIONS": {
            "api_key": "sk_prod_key",
            "webhook_secret": "whsec_key",
            "base_url": "https://api.clinkbill.com/api",
        },
    },
    "easybilling": {
        "BACKEND": f"{PACKAGE}.easybilling.EasyBillingProvider",
        "OPTIONS": {
            "username": "shop",
            "password": "word",
            "amount_unit": "major",
            "base_url": "https://app.api.easybilling.cloud/payment-hub",
        },
    },
}


@pytest.fixture(autouse=True)
def in_business(settings):
    """The settings of a shop with an account at every provider."""
    settings.MULTIPAY = {"PROVIDERS": REAL}


@pytest.fixture
def order(in_business):
    """Return a function that makes a payment, as a shop's checkout does."""

    def order(provider="", **more):
        amount = Money("26.30", "USD")
        if provider == "excoinz":
            amount = Money("10.50", money.currency_of("USDT"))
        values = {
            "provider": provider or None,
            "order_id": "1001",
            "amount": amount,
            "buyer": Buyer(name="Hong Gil Dong", email="buyer@example.com"),
        }
        return create_payment(**values | more)

    return order
