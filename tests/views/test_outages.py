"""While the database is away every door says so, at once, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse

from django_multipay.api import client_secret
from django_multipay.enums import PaymentStatus, Purpose
from django_multipay.flows import start_payment
from django_multipay.flows.links import callback_url
from django_multipay.models import Payment
from tests.flows.scripted import ScriptedProvider, message, new_payment

pytestmark = pytest.mark.django_db


@pytest.fixture
def payment(scripted: ScriptedProvider) -> Payment:
    """One whose buyer stands before the provider's page."""
    payment = new_payment()
    start_payment(payment)
    return payment


@pytest.fixture
def outage(payment: Payment) -> Iterator[None]:
    """Every statement fails as it does without a server."""

    def fail(*arguments: Any) -> None:
        raise OperationalError("connection refused")

    with connection.execute_wrapper(fail):
        yield


def doors(payment: Payment) -> dict[str, tuple[str, str]]:
    return {
        "webhook": ("post", reverse("multipay:webhook", args=["scripted"])),
        "status": ("post", callback_url(payment, Purpose.STATUS, None)),
        "return": ("post", callback_url(payment, Purpose.RETURN, None)),
        "return by link": ("get", callback_url(payment, Purpose.RETURN, None)),
        "plan notice": ("post", callback_url(payment, Purpose.PLAN, None)),
        "checkout": ("get", payment.get_checkout_url()),
        "outcome": ("get", payment.get_outcome_url()),
        "state": ("get", reverse("multipay:state", args=[payment.uuid])),
        "api": ("get", reverse("multipay_api:payment", args=[payment.uuid])),
    }


@pytest.mark.parametrize(
    "door",
    [
        "webhook",
        "status",
        "return",
        "return by link",
        "plan notice",
        "checkout",
        "outcome",
        "state",
        "api",
    ],
)
@pytest.mark.usefixtures("outage")
def test_a_door_says_that_it_cannot_answer_and_when_to_come_again(payment, door):
    method, url = doors(payment)[door]
    path = url.removeprefix("https://shop.example")
    incoming = message(payment, PaymentStatus.PAID)
    more = (
        {
            "data": incoming.body,
            "content_type": "application/json",
            "headers": incoming.headers,
        }
        if method == "post"
        else {"headers": {"Authorization": f"Multipay-Client {client_secret(payment)}"}}
    )
    answer = getattr(Client(), method)(path, **more)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "30"


def test_what_was_not_taken_is_taken_when_it_comes_again(payment):
    incoming = message(payment, PaymentStatus.PAID)
    path = reverse("multipay:webhook", args=["scripted"])
    answers = []
    for is_away in (True, False):

        def fail(execute: Any, *arguments: Any, is_away: bool = is_away) -> Any:
            if is_away:
                raise OperationalError("connection refused")
            return execute(*arguments)

        with connection.execute_wrapper(fail):
            answer = Client().post(
                path, incoming.body, "application/json", headers=incoming.headers
            )
            answers.append(answer.status_code)
    assert answers == [503, 200]
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
