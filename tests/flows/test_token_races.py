"""Many hands on one saved method: charges with one key, charges while it is deleted."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from typing import Any

import pytest
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import (
    OperationKind,
    OperationState,
    PaymentStatus,
    TokenStatus,
)
from django_multipay.exceptions import InvalidOperation, MultipayError
from django_multipay.flows import (
    charge_token,
    delete_token,
    reconcile,
    start_payment,
    tokens,
)
from django_multipay.flows.tokens import carry_out_charge
from django_multipay.ledger import charges, wallet
from django_multipay.models import Notice, Operation, Payment, Token
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.scripted import account_settings, new_payment, snapshot_of
from tests.flows.test_races import at_once
from tests.flows.tokens import (
    PRICE,
    SavingProvider,
    hear,
    pay_and_save,
    saved,
    saved_snapshot,
)

pytestmark = pytest.mark.django_db(transaction=True)

FAILED, PAID = PaymentStatus.FAILED, PaymentStatus.PAID


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(saving=SavingProvider)


@pytest.fixture
def provider() -> Any:
    return registry["saving"]


def charge(token: Token, key: str | None = None) -> Any:
    """The payment as another worker makes it, or how it was refused."""
    again = Token.objects.get(pk=token.pk)
    try:
        return charge_token(again, "box", PRICE, idempotency_key=key)
    except MultipayError as error:
        return error


def charged() -> list[Payment]:
    return list(Payment.objects.filter(operations__kind=OperationKind.CHARGE))


def test_sixteen_charges_with_one_key_are_one_call(provider: Any) -> None:
    token = saved()
    outcomes = at_once([lambda: charge(token, "box-2026-11")] * 16)
    assert len(provider.told("charge")) == 1
    (payment,) = charged()
    assert {one.pk for one in outcomes} == {payment.pk}
    payment.refresh_from_db()
    assert (payment.status, payment.captured) == (PAID, PRICE)
    assert provider.calls_in_a_transaction == []


def test_twin_without_the_key_each_is_meant(provider: Any) -> None:
    token = saved()
    at_once([lambda: charge(token)] * 16)
    assert len(provider.told("charge")) == len(charged()) == 16


def test_sixteen_workers_carry_one_charge_out_once(provider: Any) -> None:
    """As after a crash: the intent is there, and everybody finds it."""
    payment = Payment(order_id="box", amount_minor=990, currency="USD")
    operation = charges.open_charge(payment, saved())
    at_once(
        [lambda: carry_out_charge(Operation.objects.get(pk=operation.pk))] * 15
        + [reconcile]
    )
    assert len(provider.told("charge")) == 1
    payment.refresh_from_db()
    assert payment.status == PAID


def test_charges_while_the_method_is_deleted_are_sent_and_counted_or_refused(
    provider: Any,
) -> None:
    token = saved()
    steps = [lambda: charge(token)] * 8
    steps.insert(4, lambda: delete_token(Token.objects.get(pk=token.pk)))
    at_once(steps)
    let_everything_be_due()
    reconcile()
    statuses = Counter(payment.status for payment in charged())
    assert statuses[PAID] == len(provider.told("charge"))
    assert set(statuses) <= {PAID, FAILED}
    token.refresh_from_db()
    assert (token.status, token.provider_token) == (TokenStatus.DELETED, None)
    assert not Operation.objects.filter(open_slot__isnull=False).exists()


def delete_between(
    patch: pytest.MonkeyPatch, owner: Any, name: str, token: Token
) -> None:
    """Let the method be deleted right before ``owner.name`` runs."""
    original, once = getattr(owner, name), threading.Lock()

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        if once.acquire(blocking=False):
            delete_token(Token.objects.get(pk=token.pk))
        return original(*args, **kwargs)

    patch.setattr(owner, name, overtaken)


def test_a_deletion_before_the_claim_stops_the_charge(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = saved()
    delete_between(monkeypatch, charges, "claim_charge", token)
    assert charge(token).status == FAILED
    assert provider.told("charge") == []


def test_twin_where_the_claim_does_not_look_at_the_method_it_is_charged(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = saved()
    with monkeypatch.context() as patch:
        # As if the deletion were not seen: only the row says that it was deleted.
        patch.setattr(wallet, "end_token", lambda *args: False)
        patch.setattr(charges, "_forget", lambda token_id: None)
        delete_between(patch, charges, "claim_charge", token)
        assert charge(token).status == PAID
    assert provider.told("delete") == ["tok-1"]
    assert len(provider.told("charge")) == 1


def test_a_deletion_after_the_claim_comes_too_late_for_the_charge(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = saved()
    delete_between(monkeypatch, tokens, "_charge_request", token)
    payment = charge(token)
    token.refresh_from_db()
    assert token.status == TokenStatus.DELETED
    # Its answer, whichever it is, is in the books.
    assert payment.status == PAID
    assert len(provider.told("charge")) == 1
    assert isinstance(charge(token), InvalidOperation)


def test_a_second_click_before_the_answer_to_the_first_is_applied_charges_nothing(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = new_payment(provider="saving", customer_id="42", token=saved())
    before = len(provider.told("start"))
    provider.will("start", *[lambda: snapshot_of(payment, PAID)] * 2)
    original, clicks = ledger.apply_snapshot, []

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        clicks.append(start_payment(Payment.objects.get(pk=payment.pk)))
        return original(*args, **kwargs)

    monkeypatch.setattr(ledger, "apply_snapshot", overtaken)
    start_payment(payment)
    assert clicks == [None]
    assert len(provider.told("start")) == before + 1
    assert (payment.status, payment.captured_minor) == (PAID, payment.amount_minor)


def test_a_method_that_many_messages_bring_is_one_row_and_one_piece_of_news() -> None:
    payments = [pay_and_save(f"tok-{number}") for number in range(8)]
    before = Token.objects.count()
    news = functools.partial(hear, token=saved_snapshot("tok-new"))
    at_once([functools.partial(news, payment) for payment in payments])
    assert Token.objects.count() == before + 1
    told = [notice.signals for notice in Notice.objects.exclude(token=None)]
    assert told.count(["token_created"]) == before + 1


def test_sixteen_deletions_are_one(provider: Any) -> None:
    token = saved()
    at_once([lambda: delete_token(Token.objects.get(pk=token.pk))] * 16)
    let_everything_be_due()
    reconcile()
    token.refresh_from_db()
    assert token.provider_token is None
    operation = Operation.objects.get(kind=OperationKind.DELETE_TOKEN)
    assert operation.state == OperationState.SUCCEEDED
    assert len(provider.told("delete")) == 1
