"""Callers of the API, and a shop whose provider does what it is asked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from django_multipay.api import client_secret
from django_multipay.enums import PaymentStatus, Source
from django_multipay.flows import start_payment
from django_multipay.flows.guards import account_of
from django_multipay.ledger import apply_snapshot
from django_multipay.models import (
    Endpoint,
    Payment,
    RecurringPlan,
    Token,
    WebhookDelivery,
)
from django_multipay.registry import registry
from tests.flows.scripted import (
    ObligingProvider,
    account_settings,
    new_payment,
    snapshot_of,
)

ROOT = "/payments/api"
USD = {"amount": "26.30", "currency": "USD"}


class Caller:
    """Somebody with a browser: calls the API and reads what it says."""

    def __init__(self, client: Client, **headers: str) -> None:
        self.client = client
        self.headers = headers
        self.keys = itertools.count(1)

    def get(self, path: str, **query: Any) -> Any:
        """GET with a query."""
        url = path if path.startswith("http") else f"{ROOT}{path}"
        return self.client.get(url, query, headers=self.headers)

    def post(
        self, path: str, data: Any = None, *, key: str | None = "", **headers: str
    ) -> Any:
        """POST a JSON body; with a key of its own, another's, or None."""
        if key is not None:
            headers["Idempotency-Key"] = key or f"key-{next(self.keys)}"
        return self.client.post(
            f"{ROOT}{path}",
            data if isinstance(data, (bytes, str)) else json.dumps(data or {}),
            content_type="application/json",
            headers={**self.headers, **headers},
        )

    def delete(self, path: str) -> Any:
        """DELETE."""
        return self.client.delete(f"{ROOT}{path}", headers=self.headers)


def user_with(*codes: str, name: str = "ann") -> User:
    """Return a member of staff with these permissions of ours, or with all."""
    user = User.objects.create_user(name, is_staff=True)
    ours = Permission.objects.filter(content_type__app_label="multipay")
    user.user_permissions.set(ours.filter(codename__in=codes) if codes else ours)
    return user


def caller(user: User | None = None, **headers: str) -> Caller:
    """Return somebody who is logged in as ``user``, or a stranger."""
    client = Client(raise_request_exception=True)
    if user is not None:
        client.force_login(user)
    return Caller(client, **headers)


@pytest.fixture
def shop(settings: Settings) -> ObligingProvider:
    """The provider behind the alias ``scripted``; it can do everything."""
    settings.MULTIPAY = account_settings(scripted=ObligingProvider)
    cache.clear()
    provider = registry["scripted"]
    assert isinstance(provider, ObligingProvider)
    return provider


@pytest.fixture
def staff(db: None, shop: ObligingProvider) -> Caller:
    """A member of staff with every permission."""
    return caller(user_with())


@pytest.fixture
def buyer(db: None, shop: ObligingProvider) -> Callable[[Payment], Caller]:
    """Return a maker of buyers, who hold the secret of one payment."""

    def make(payment: Payment) -> Caller:
        return caller(Authorization=f"Multipay-Client {client_secret(payment)}")

    return make


def paid_payment(status: PaymentStatus = PaymentStatus.PAID, **more: Any) -> Payment:
    """Return a payment that the scripted provider says to be ``status``."""
    payment = new_payment(**more)
    start_payment(payment)
    provider = registry["scripted"]
    snapshot = snapshot_of(payment, status)
    apply_snapshot(
        payment.pk, snapshot, account=account_of(provider), source=Source.SYNC
    )
    payment.refresh_from_db()
    return payment


def ids_beside(payment: Payment) -> dict[str, str]:
    """Make one of everything; return what the paths call it, and ``payment``."""
    token = Token.objects.create(
        provider="scripted", customer_id="7", provider_token="t", token_digest="d"
    )
    plan = RecurringPlan.objects.create(
        provider="scripted",
        customer_id="7",
        token=token,
        amount_minor=100,
        currency="USD",
        start_on=date(2030, 1, 31),
        managed_by="app",
    )
    delivery = WebhookDelivery.objects.create(provider="scripted", digest="d")
    # Disabled, so that nothing leaves the house.
    endpoint = Endpoint.objects.create(
        url="https://hooks.example/", secrets=[], status="disabled"
    )
    endpoint.deliveries.create(event_id="evt_1", event_type="a", body="{}")
    return {
        "payment_uuid": str(payment.uuid),
        "token_uuid": str(token.uuid),
        "plan_uuid": str(plan.uuid),
        "delivery_uuid": str(delivery.uuid),
        "endpoint_uuid": str(endpoint.uuid),
        "event_id": "evt_1",
        "alias": "scripted",
    }
