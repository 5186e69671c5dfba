"""What is said between rooms is frozen, plain and shows no secret."""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from moneyed import Money

from django_multipay import messages
from django_multipay.messages import (
    Address,
    BankAccount,
    Buyer,
    HttpRequest,
    HttpResponse,
    IncomingRequest,
    NextAction,
    PaymentQuery,
    PaymentRequest,
    PostForm,
    ProviderScript,
    QRCode,
    Redirect,
    RefundRequest,
    TokenChargeRequest,
    TokenSnapshot,
    dump_action,
    load_action,
)

ACTIONS = [
    Redirect("https://pay.example/p?a=1&b=2"),
    PostForm("https://pay.example/", {"mid": "1", "amount": "26.30", "empty": ""}),
    ProviderScript(
        "https://sdk.example/v1.js", "SDK.pay", {"a": {"b": ["1", 2, True]}}
    ),
    ProviderScript(
        "https://sdk.example/v1.js",
        "SDK.pay",
        {},
        requires=("https://code.example/jquery.js",),
        opens_popup=True,
    ),
    QRCode(data="tron:T123?amount=1"),
    QRCode(
        image="https://pay.example/qr.png",
        deep_link="app://pay",
        fallback_url="https://pay.example/",
        expires_at=datetime(2026, 11, 21, 12, 30, tzinfo=UTC),
    ),
]


@pytest.mark.parametrize("action", ACTIONS, ids=repr)
def test_a_next_action_survives_being_stored(action):
    stored = json.loads(json.dumps(dump_action(action)))
    assert stored == dump_action(action)
    assert load_action(stored) == action


def test_the_examples_cover_every_next_action():
    kinds = typing.get_args(NextAction)
    assert {type(action) for action in ACTIONS} == set(kinds)
    assert len({kind.type for kind in kinds}) == len(kinds)


def test_a_dump_is_plain_data_of_its_own():
    fields = {"a": "1"}
    dump = dump_action(PostForm("https://pay.example/", MappingProxyType(fields)))
    fields["a"] = "2"
    assert dump == {
        "type": "post_form",
        "url": "https://pay.example/",
        "fields": {"a": "1"},
    }


MESSAGES = [
    kind
    for _, kind in inspect.getmembers(messages, dataclasses.is_dataclass)
    if kind.__module__ == messages.__name__
]


def test_the_messages_are_found():
    assert len(MESSAGES) > 20


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_message_is_frozen_slotted_and_explained(kind):
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in vars(kind)
    assert not (kind.__doc__ or f"{kind.__name__}(").startswith(f"{kind.__name__}(")


def test_a_message_cannot_be_changed():
    action: Any = Redirect("/")
    with pytest.raises(dataclasses.FrozenInstanceError):
        action.url = "https://evil.example/"
    with pytest.raises((AttributeError, TypeError)):
        action.note = "new"


def test_the_wire_shows_neither_headers_nor_bodies():
    request = HttpRequest(
        operation="capture",
        method="POST",
        url="https://api.example/",
        headers={"Authorization": "canary"},
        json={"card": "canary"},
        form={"card": "canary"},
    )
    response = HttpResponse(status=200, headers={"x": "canary"}, body=b"canary")
    assert "canary" not in f"{request!r} {response!r}"


def test_a_token_does_not_show_its_reference():
    assert "canary" not in repr(TokenSnapshot(reference="canary"))


CANARY = "canary"
BUYER = Buyer(
    name=CANARY, email=CANARY, phone=CANARY, address=Address(last_name=CANARY)
)
ACCOUNT = BankAccount(holder=CANARY, bank_code="004", number=CANARY)
QUERY = PaymentQuery(
    merchant_reference="MP-1",
    provider_reference="p",
    amount=Money(1, "USD"),
    buyer_email=CANARY,
)


@pytest.mark.parametrize(
    "message",
    [
        ACCOUNT,
        QUERY,
        PaymentRequest(
            key="k",
            merchant_reference="MP-1",
            order_id="1001",
            amount=Money(1, "USD"),
            return_url="https://shop.example/",
            status_url="https://shop.example/",
            buyer=BUYER,
            ship_to=Address(street=CANARY),
            token=CANARY,
            provider_data={"cpfNumber": CANARY},
        ),
        TokenChargeRequest(
            key="k",
            merchant_reference="MP-1",
            token=CANARY,
            amount=Money(1, "USD"),
            buyer=BUYER,
        ),
        RefundRequest(
            key="k",
            query=QUERY,
            merchant_reference="RF-1",
            amount=Money(1, "USD"),
            refundable=Money(1, "USD"),
            account=ACCOUNT,
            provider_data={"account": CANARY},
        ),
        IncomingRequest(
            method="POST",
            body=b"canary",
            query_string=CANARY,
            headers={"x-signature": CANARY},
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_nothing_secret_or_personal_is_shown(message):
    assert CANARY in str(dataclasses.asdict(message))
    assert CANARY not in repr(message)


def test_requests_of_money_are_compared_by_value():
    query = {"merchant_reference": "a", "provider_reference": "b"}
    one, other = (
        messages.PaymentQuery(amount=Money(amount, "USD"), **query)
        for amount in ("26.30", "26.3")
    )
    assert one == other
