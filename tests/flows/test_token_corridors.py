"""Saved methods at the three providers that have them, over real HTTP to the sandbox.

Saved from what the provider itself says, charged without the buyer and with one click,
deleted where that can be done: and always our sums are those of the provider's books.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from moneyed import Money
from pytest_django import Settings

from django_multipay.enums import (
    Capability,
    OperationKind,
    OperationState,
    PaymentStatus,
    TokenStatus,
)
from django_multipay.exceptions import (
    InvalidOperation,
    OutcomeUnknown,
    ProviderUnavailable,
    RequestRejected,
    UnsupportedOperation,
)
from django_multipay.flows import charge_token, delete_token, inspect_token
from django_multipay.models import Payment, Token
from django_multipay.testing.plugin import Sandbox
from tests.five import FOREIGN, Shop, reconcile_later, settings_at, with_charges

pytestmark = pytest.mark.django_db

Listen = Callable[..., list[dict[str, Any]]]

PAID = PaymentStatus.PAID
PRICE = Money("9.90", "USD")
CHARGES = {"eximbay": "rebill", "clink": "payment", "easybilling": "start"}
"""Provider that saves methods → what the sandbox calls a charge of one."""


@pytest.fixture
def shop(
    request: pytest.FixtureRequest, settings: Settings, multipay_sandbox: Sandbox
) -> Shop:
    """The shop's side of the provider that a test is about."""
    settings.MULTIPAY = with_charges(settings_at(multipay_sandbox))
    cache.clear()
    return Shop(multipay_sandbox, request.param)


def at(*slugs: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shop", slugs, indirect=True)


everywhere = at("eximbay", "clink", "easybilling")


def saved(shop: Shop, customer_id: str = "42", **wishes: Any) -> Token:
    """A method that a customer saved with a payment."""
    payment = shop.start(customer_id=customer_id, save_token=True, **wishes)
    shop.tell(payment, approve_and_save(shop, payment))
    return Token.objects.get(created_by_payment=payment)


def approve_and_save(shop: Shop, payment: Payment) -> Any:
    """Pay; at Clink it is the buyer who ticks that the card is kept."""
    choices = {"save_card": True} if shop.slug == "clink" else {}
    return shop.decide(payment, "approve", **choices)


def charge(token: Token, **wishes: Any) -> Payment:
    return charge_token(token, **{"order_id": "box", "amount": PRICE, **wishes})


def theirs(shop: Shop) -> list[dict[str, Any]]:
    """The methods that the provider keeps."""
    entries: list[dict[str, Any]] = shop.sandbox.get(f"{shop.desk.path}/tokens")
    return entries


@everywhere
def test_a_method_is_saved_once_however_often_it_is_told(
    shop: Shop, listen: Listen
) -> None:
    heard = listen("token_created")
    payment = shop.start(customer_id="42", save_token=True)
    answer = approve_and_save(shop, payment)
    for _ in range(2):
        shop.tell(payment, answer)
    token = Token.objects.get()
    assert (token.provider, token.customer_id) == (shop.slug, "42")
    assert token.created_by_payment == payment
    assert [news["token"] for news in heard] == [token]
    assert len(theirs(shop)) == 1


@everywhere
def test_without_the_wish_and_after_a_decline_nothing_is_saved(shop: Shop) -> None:
    shop.paid(customer_id="42")
    declined = shop.start(customer_id="42", save_token=True)
    shop.tell(declined, shop.decide(declined, "decline"))
    assert not Token.objects.exists()


@everywhere
def test_a_charge_without_the_buyer_is_in_both_books(shop: Shop) -> None:
    payment = charge(saved(shop))
    reconcile_later()
    assert shop.agrees(payment)
    assert (payment.status, payment.captured) == (PAID, PRICE)
    assert not payment.review_reason
    operation = payment.operations.get(kind=OperationKind.CHARGE)
    assert operation.state == OperationState.SUCCEEDED


@everywhere
def test_a_lost_answer_is_found_by_asking_and_nothing_is_charged_twice(
    shop: Shop,
) -> None:
    token = saved(shop)
    shop.fault(CHARGES[shop.slug], "drop_after")
    with pytest.raises(OutcomeUnknown):
        charge(token, idempotency_key="box")
    shop.mend()
    payment = charge(token, idempotency_key="box")
    assert payment.status == PaymentStatus.PENDING
    for _ in range(3):
        reconcile_later()
    assert shop.agrees(payment)
    assert (payment.status, payment.captured) == (PAID, PRICE)
    assert shop.books(payment)["charges"] == 1


@everywhere
def test_a_charge_that_never_arrived_has_failed_and_the_next_one_works(
    shop: Shop,
) -> None:
    token = saved(shop)
    shop.fault(CHARGES[shop.slug], "status", status=429)
    with pytest.raises(ProviderUnavailable):
        charge(token)
    assert Payment.objects.latest("pk").status == PaymentStatus.FAILED
    shop.mend()
    payment = charge(token)
    for _ in range(2):
        reconcile_later()
    assert shop.agrees(payment)
    assert payment.status == PAID
    assert Payment.objects.filter(status=PAID).count() == 2


@at("eximbay", "clink")
def test_one_click_with_the_buyer_present(shop: Shop) -> None:
    token = saved(shop)
    payment = shop.start(customer_id="42", token=token, amount=PRICE)
    if shop.slug == "eximbay":
        shop.tell(payment, shop.decide(payment, "approve"))
    reconcile_later()
    assert shop.agrees(payment)
    assert (payment.status, payment.captured) == (PAID, PRICE)
    assert Token.objects.count() == 1


@at("easybilling")
def test_where_one_click_is_not_to_be_had_the_start_says_so(shop: Shop) -> None:
    token = saved(shop)
    with pytest.raises(InvalidOperation, match="without the buyer only"):
        shop.start(customer_id="42", token=token)


@at("eximbay")
def test_a_method_is_deleted_at_the_provider(shop: Shop) -> None:
    token = saved(shop)
    reference = token.provider_token
    delete_token(token)
    assert (token.status, token.provider_token) == (TokenStatus.DELETED, None)
    assert theirs(shop)[0]["deleted"]
    assert reference not in str(Token.objects.values())


@at("eximbay")
def test_a_method_that_was_deleted_there_is_found_dead(
    shop: Shop, listen: Listen
) -> None:
    heard = listen("token_status_changed")
    token = saved(shop)
    shop.provider.delete_token(token.provider_token)
    with pytest.raises(RequestRejected):
        charge(token)
    token.refresh_from_db()
    assert token.status == TokenStatus.DEAD
    assert [news["token"] for news in heard] == [token]
    with pytest.raises(InvalidOperation):
        charge(token)
    # And to delete it is no error.
    delete_token(token)
    assert token.status == TokenStatus.DELETED


@at("eximbay")
def test_a_method_is_described_by_its_provider(shop: Shop) -> None:
    token = saved(shop)
    assert inspect_token(token).fingerprint == theirs(shop)[0]["card_identifier"]
    assert token.fingerprint == theirs(shop)[0]["card_identifier"]
    assert (token.brand, token.last4) != ("", "")


@at("clink", "easybilling")
def test_where_a_method_cannot_be_deleted_there_it_is_forgotten_here(
    shop: Shop,
) -> None:
    assert Capability.DELETE_TOKEN not in shop.provider.capabilities
    token = saved(shop)
    payment = token.created_by_payment
    assert payment is not None
    delete_token(token)
    assert (token.status, token.provider_token) == (TokenStatus.DELETED, None)
    with pytest.raises(UnsupportedOperation):
        inspect_token(token)
    with pytest.raises(InvalidOperation):
        charge(token)
    # Old news, told again, bring nothing back.
    shop.tell(payment)
    token.refresh_from_db()
    assert token.provider_token is None
    assert Token.objects.count() == 1


@at("easybilling")
def test_who_has_the_address_of_another_does_not_get_their_method(shop: Shop) -> None:
    """EasyBilling charges whoever bears the address, so it is the first one's."""
    token = saved(shop)
    shop.paid(customer_id="mallory", save_token=True)
    assert Token.objects.get() == token
    assert token.customer_id == "42"


@everywhere
def test_another_account_cannot_use_it(shop: Shop) -> None:
    token = saved(shop)
    with pytest.raises(InvalidOperation):
        shop.start(alias=f"{shop.slug}{FOREIGN}", customer_id="42", token=token)
    Token.objects.filter(pk=token.pk).update(provider=f"{shop.slug}{FOREIGN}")
    token.refresh_from_db()
    try:
        payment = charge(token)
    except (RequestRejected, ProviderUnavailable):
        payment = Payment.objects.latest("pk")
    reconcile_later()
    payment.refresh_from_db()
    assert payment.captured_minor == 0
