"""Saved methods: whose they are, when they are charged, and how they end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Field
from django.utils import timezone
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import (
    DeclineCode,
    Initiator,
    OperationKind,
    OperationState,
    PaymentStatus,
    ReviewReason,
    TokenStatus,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidAmount,
    InvalidOperation,
    InvalidTransition,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderUnavailable,
    RequestRejected,
    UnsupportedOperation,
)
from django_multipay.flows import (
    abandon_operation,
    charge_token,
    delete_token,
    inspect_token,
    receive_webhook,
    reconcile,
    release_review,
    retry_payment,
    start_payment,
)
from django_multipay.flows.operations import resume_operation
from django_multipay.messages import (
    Address,
    Buyer,
    Decline,
    IncomingRequest,
    LineItem,
    PaymentSnapshot,
    ProviderEvent,
    Redirect,
    TokenSnapshot,
)
from django_multipay.models import Operation, Payment, Token
from django_multipay.models.fields import EncryptedJSONField
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.scripted import (
    ObligingProvider,
    account_settings,
    message,
    new_payment,
    snapshot_of,
)
from tests.flows.tokens import (
    PRICE,
    CarefulSavingProvider,
    KeepingProvider,
    SavingProvider,
    TaciturnSavingProvider,
    gone,
    hear,
    pay_and_save,
    saved,
    saved_snapshot,
)

pytestmark = pytest.mark.django_db

PAID, FAILED, PENDING = (
    PaymentStatus.PAID,
    PaymentStatus.FAILED,
    PaymentStatus.PENDING,
)
ACTIVE, DEAD, DELETED = TokenStatus.ACTIVE, TokenStatus.DEAD, TokenStatus.DELETED
TOKEN_NEWS = ("token_created", "token_status_changed", "token_expiring")


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(
        saving=SavingProvider,
        careful=CarefulSavingProvider,
        keeping=KeepingProvider,
        taciturn=TaciturnSavingProvider,
        plain=ObligingProvider,
    )


@pytest.fixture
def provider() -> Any:
    return registry["saving"]


@pytest.fixture
def told(listen: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the shop hears of saved methods."""
    return listen(*TOKEN_NEWS)


def charge(token: Token, **changes: Any) -> Payment:
    return charge_token(token, **{"order_id": "box-1", "amount": PRICE, **changes})


def sweep() -> None:
    let_everything_be_due()
    reconcile()


def names(told: Sequence[dict[str, Any]]) -> list[str]:
    return [news["name"] for news in told]


def operation_of(payment: Payment) -> Operation:
    return payment.operations.get(kind=OperationKind.CHARGE)


def declined(code: DeclineCode) -> Callable[[], PaymentSnapshot]:
    """The answer "no" to the charge that was made last."""

    def answer() -> PaymentSnapshot:
        payment = Payment.objects.latest("pk")
        return snapshot_of(payment, FAILED, decline=Decline(code=code))

    return answer


def pending(**changes: Any) -> Callable[[], PaymentSnapshot]:
    return lambda: snapshot_of(Payment.objects.latest("pk"), PENDING, **changes)


def raw(token: Token, name: str) -> str:
    """A column as it is stored."""
    field = Token._meta.get_field(name)
    assert isinstance(field, Field)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {field.column} FROM multipay_token WHERE id = %s", [token.pk]
        )
        return str(cursor.fetchone()[0])


# Saving --------------------------------------------------------------------------------


def test_what_the_buyer_paid_with_is_saved_for_them_and_the_shop_hears_of_it(told):
    payment = pay_and_save()
    reconcile()
    token = Token.objects.get()
    assert (token.provider, token.customer_id) == ("saving", "42")
    assert (token.brand, token.last4, token.expires_on) == (
        "Visa",
        "4242",
        date(2040, 12, 31),
    )
    assert token.provider_token == "tok-1"
    assert names(told) == ["token_created"]
    assert (told[0]["token"], told[0]["payment"]) == (token, payment)
    hear(payment, token=saved_snapshot())
    reconcile()
    assert len(told) == 1


def test_nothing_readable_is_stored_of_a_saved_method():
    token = saved("tok-canary")
    for field in Token._meta.fields:
        assert "canary" not in raw(token, field.name)
    sealed = {f.name for f in Token._meta.fields if isinstance(f, EncryptedJSONField)}
    assert sealed == {"provider_token", "identity"}
    assert "canary" not in repr(token) + str(token)


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"save_token": False, "customer_id": "42"}, PAID),
        ({"save_token": True, "customer_id": "42"}, FAILED),
        ({"save_token": True, "customer_id": "42"}, PENDING),
    ],
)
def test_nothing_is_saved_without_the_wish_or_before_money_is_proven(wish, status):
    payment = new_payment(provider="saving", **wish)
    start_payment(payment)
    hear(payment, status, token=saved_snapshot())
    assert not Token.objects.exists()


def test_a_message_that_is_held_saves_nothing():
    payment = new_payment(provider="saving", customer_id="42", save_token=True)
    start_payment(payment)
    hear(payment, amount=Money("1.00", "USD"), token=saved_snapshot())
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH
    assert not Token.objects.exists()


def test_what_another_customer_saved_first_stays_theirs_for_ever(told, caplog):
    token = saved(customer_id="victim")
    with caplog.at_level(logging.WARNING, "django_multipay"):
        pay_and_save(customer_id="mallory")
    assert "saved by another customer" in caplog.text
    assert Token.objects.get() == token
    delete_token(token)
    pay_and_save(customer_id="mallory")
    token.refresh_from_db()
    assert (token.customer_id, token.status) == ("victim", DELETED)
    assert Token.objects.count() == 1
    assert names(told).count("token_created") == 1


def test_what_was_deleted_comes_back_only_with_a_later_payment_of_theirs(told):
    before = pay_and_save()
    token = Token.objects.get()
    delete_token(token)
    # The same news again, and the end of a payment that was made before.
    hear(before, token=saved_snapshot())
    token.refresh_from_db()
    assert token.status == DELETED
    assert token.provider_token is None
    pay_and_save(last4="1881")
    token.refresh_from_db()
    assert (token.status, token.provider_token) == (ACTIVE, "tok-1")
    assert (token.last4, token.ended_at) == ("1881", None)
    reconcile()
    assert names(told) == ["token_created", "token_status_changed", "token_created"]
    assert charge(token).status == PAID


def test_a_saved_method_is_found_again_while_keys_are_rotated(settings):
    settings.MULTIPAY |= {"ENCRYPTION_KEYS": ["old"]}
    saved()
    for keys in (["old", "new"], ["new", "old"]):
        settings.MULTIPAY |= {"ENCRYPTION_KEYS": keys}
        pay_and_save(customer_id="mallory")
        pay_and_save()
        assert Token.objects.get().customer_id == "42"


# Charging ------------------------------------------------------------------------------


def test_a_charge_without_the_buyer(provider):
    token = saved()
    payment = charge(token, description="Coffee box", metadata={"box": 7}, by="cron")
    assert (payment.status, payment.captured) == (PAID, PRICE)
    assert payment.initiator == Initiator.MERCHANT
    assert (payment.token, payment.customer_id) == (token, "42")
    assert (payment.order_id, payment.metadata) == ("box-1", {"box": 7})
    (sent,) = provider.told("charge")
    operation = operation_of(payment)
    assert (sent.key, sent.token) == (operation.key, "tok-1")
    assert (sent.amount, sent.description) == (PRICE, "Coffee box")
    assert sent.merchant_reference == payment.merchant_reference
    # As they called themselves when they saved it.
    assert (sent.buyer.name, sent.buyer.email) == ("Ada", "ada@example.com")
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)
    assert (operation.actor, operation.token) == ("cron", token)
    assert "tok-1" not in repr(sent)


def test_what_is_charged_and_to_whom_reaches_the_provider(provider):
    buyer = Buyer(name="Bob", country="KR", address=Address(city="Seoul"))
    item = LineItem(name="Box", unit_price=PRICE)
    charge(saved(), buyer=buyer, items=[item])
    (sent,) = provider.told("charge")
    assert sent.buyer == buyer
    assert sent.items == [item]


def test_buyers_pay_by_themselves_otherwise():
    assert pay_and_save().initiator == Initiator.BUYER


def test_a_decline_is_a_result(provider, listen):
    failed = listen("payment_failed")
    token = saved()
    provider.will("charge", declined(DeclineCode.INSUFFICIENT_FUNDS))
    payment = charge(token)
    assert payment.status == FAILED
    assert payment.decline_code == DeclineCode.INSUFFICIENT_FUNDS
    operation = operation_of(payment)
    assert (operation.state, operation.open_slot) == (OperationState.REFUSED, None)
    assert [news["payment"] for news in failed] == [payment]
    token.refresh_from_db()
    assert token.status == ACTIVE
    assert charge(token).status == PAID


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProviderUnavailable, DeclineCode.NOT_ASKED),
        (RequestRejected, DeclineCode.NOT_SUPPORTED),
        (CredentialsRejected, DeclineCode.NOT_ASKED),
        (ProviderConfigurationError, DeclineCode.NOT_ASKED),
    ],
)
def test_where_nothing_happened_the_payment_has_failed_and_another_may_be_tried(
    provider, error, reason
):
    token = saved()
    provider.will("charge", error("no", "saving", "charge"))
    with pytest.raises(error):
        charge(token)
    payment = Payment.objects.latest("pk")
    assert (payment.status, payment.decline_code) == (FAILED, reason)
    assert operation_of(payment).state == OperationState.REFUSED
    sweep()
    assert len(provider.told("charge")) == 1
    assert charge(token).status == PAID


def test_a_refused_wish_of_the_provider_class_fails_the_payment(provider):
    provider.will("charge", InvalidOperation("a product needs a link", "items"))
    with pytest.raises(InvalidOperation):
        charge(saved())
    assert Payment.objects.latest("pk").status == FAILED


def test_an_unknown_outcome_stays_pending_is_asked_about_and_never_sent_again(provider):
    token = saved()
    provider.will("charge", OutcomeUnknown("lost", "saving", "charge"))
    with pytest.raises(OutcomeUnknown):
        charge(token, idempotency_key="box-1")
    payment = Payment.objects.latest("pk")
    operation = operation_of(payment)
    assert (payment.status, operation.state) == (PENDING, OperationState.UNKNOWN)
    assert operation.open_slot == f"charge:{payment.pk}"
    # The shop asks again with its key, and the sweeper comes by: nobody sends.
    assert charge(token, idempotency_key="box-1") == payment
    sweep()
    assert len(provider.told("charge")) == 1
    provider.will("fetch", snapshot_of(payment, PAID))
    sweep()
    payment.refresh_from_db()
    operation.refresh_from_db()
    assert (payment.status, operation.state) == (PAID, OperationState.SUCCEEDED)
    assert operation.open_slot is None
    assert len(provider.told("charge")) == 1


def test_an_unknown_outcome_that_was_a_no_ends_the_charge(provider):
    provider.will("charge", OutcomeUnknown("lost", "saving", "charge"))
    with pytest.raises(OutcomeUnknown):
        charge(saved())
    payment = Payment.objects.latest("pk")
    provider.will("fetch", snapshot_of(payment, FAILED))
    sweep()
    payment.refresh_from_db()
    assert payment.status == FAILED
    assert operation_of(payment).state == OperationState.REFUSED


def test_only_where_the_provider_charges_once_it_is_sent_again():
    provider: Any = registry["careful"]
    provider.will("charge", OutcomeUnknown("lost", "careful", "charge"))
    with pytest.raises(OutcomeUnknown):
        charge(saved(provider="careful"))
    provider.will("charge", ProviderUnavailable("down", "careful", "charge"))
    sweep()
    payment = Payment.objects.latest("pk")
    # That the second attempt came to nothing says nothing about the first.
    assert operation_of(payment).state == OperationState.UNKNOWN
    sweep()
    payment.refresh_from_db()
    assert payment.status == PAID
    assert len({sent.key for sent in provider.told("charge")}) == 1
    assert len(provider.told("charge")) == 3


def test_where_nobody_can_ask_it_waits_for_a_person():
    provider: Any = registry["taciturn"]
    provider.will("charge", OutcomeUnknown("lost", "taciturn", "charge"))
    with pytest.raises(OutcomeUnknown):
        charge(saved(provider="taciturn"))
    payment = Payment.objects.latest("pk")
    for _ in range(3):
        sweep()
    operation = operation_of(payment)
    assert operation.state == OperationState.UNKNOWN
    abandon_operation(operation, by="ann")
    payment.refresh_from_db()
    assert (payment.status, len(provider.told("charge"))) == (FAILED, 1)
    # Proof that it did happen still counts, and somebody looks.
    hear(payment)
    assert payment.status == PAID
    assert payment.review_reason == ReviewReason.CONTRADICTION


def test_a_charge_of_which_nobody_knows_does_not_expire_by_itself(provider):
    provider.will("charge", OutcomeUnknown("lost", "saving", "charge"))
    with pytest.raises(OutcomeUnknown):
        charge(saved())
    payment = Payment.objects.latest("pk")
    Payment.objects.filter(pk=payment.pk).update(sync_attempts=100)
    sweep()
    payment.refresh_from_db()
    assert payment.status == PENDING
    # The twin: where nothing of the charge is open, it does.
    operation = operation_of(payment)
    Operation.objects.filter(pk=operation.pk).update(
        state=OperationState.SUCCEEDED, open_slot=None
    )
    sweep()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.EXPIRED


def test_what_the_provider_has_not_decided_is_asked_about(provider):
    provider.will("charge", pending(provider_reference="P-1"))
    payment = charge(saved())
    assert (payment.status, payment.provider_reference) == (PENDING, "P-1")
    assert operation_of(payment).state == OperationState.UNKNOWN
    provider.will("fetch", snapshot_of(payment, PAID))
    sweep()
    payment.refresh_from_db()
    assert payment.status == PAID
    assert operation_of(payment).state == OperationState.SUCCEEDED


def test_where_the_bank_wants_the_buyer_the_payment_page_sends_them_on(provider):
    provider.will("charge", pending(next_action=Redirect("https://bank.example/3ds")))
    payment = charge(saved())
    assert payment.action == Redirect("https://bank.example/3ds")
    assert operation_of(payment).state == OperationState.SUCCEEDED
    assert start_payment(payment) == payment.action


def test_an_answer_about_another_amount_is_held_and_nothing_is_sent_again(provider):
    provider.will(
        "charge",
        lambda: snapshot_of(
            Payment.objects.latest("pk"), PAID, amount=Money("99.00", "USD")
        ),
    )
    payment = charge(saved())
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH
    assert payment.captured_minor == 0
    assert operation_of(payment).state == OperationState.UNKNOWN
    sweep()
    assert len(provider.told("charge")) == 1


# Idempotency ---------------------------------------------------------------------------


def test_the_same_key_and_wish_are_one_charge_whatever_became_of_the_method(provider):
    token = saved()
    payment = charge(token, idempotency_key="a")
    assert charge(token, idempotency_key="a") == payment
    delete_token(token)
    assert charge(token, idempotency_key="a") == payment
    assert len(provider.told("charge")) == 1


def test_without_a_key_two_equal_charges_are_both_meant(provider):
    token = saved()
    assert charge(token) != charge(token)
    assert len(provider.told("charge")) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": Money("9.91", "USD")},
        {"amount": Money("9.90", "EUR")},
        {"order_id": "box-2"},
        {"description": "other"},
        {"metadata": {"a": 1}},
        {"buyer": Buyer(name="Eve")},
        {"items": [LineItem(name="Box", unit_price=PRICE)]},
    ],
    ids=["amount", "currency", "order", "description", "metadata", "buyer", "items"],
)
def test_a_key_that_was_used_for_another_wish_is_refused(provider, changes):
    token = saved()
    charge(token, idempotency_key="a")
    with pytest.raises(InvalidOperation) as caught:
        charge(token, idempotency_key="a", **changes)
    assert caught.value.field == "idempotency_key"
    assert len(provider.told("charge")) == 1


def test_a_key_is_the_customers_own_and_means_one_method():
    token, other = saved(), saved("tok-2")
    payment = charge(token, idempotency_key="a")
    with pytest.raises(InvalidOperation):
        charge(other, idempotency_key="a")
    foreign = saved("tok-3", customer_id="43")
    assert charge(foreign, idempotency_key="a") != payment
    with pytest.raises(InvalidOperation):
        charge(token, idempotency_key=" ")


def test_a_key_is_recognized_after_the_keys_were_rotated(settings):
    settings.MULTIPAY |= {"ENCRYPTION_KEYS": ["old"]}
    token = saved()
    payment = charge(token, idempotency_key="a")
    settings.MULTIPAY |= {"ENCRYPTION_KEYS": ["new", "old"]}
    assert charge(token, idempotency_key="a") == payment


# Refused before any call -----------------------------------------------------------------


@pytest.mark.parametrize("status", [DELETED, DEAD])
def test_a_method_that_is_over_is_not_charged(provider, status):
    token = saved()
    Token.objects.filter(pk=token.pk).update(status=status)
    with pytest.raises(InvalidOperation) as caught:
        charge(token)
    assert caught.value.field == "token"
    assert provider.told("charge") == []
    assert Payment.objects.count() == 1


def test_a_method_of_an_account_that_left_the_settings_is_not_charged(settings):
    token = saved()
    settings.MULTIPAY = account_settings(other=SavingProvider)
    with pytest.raises(InvalidOperation, match="'saving'") as caught:
        charge(token)
    assert caught.value.field == "token"


def test_a_method_of_nobody_is_not_charged():
    token = saved()
    Token.objects.update(customer_id="")
    token.refresh_from_db()
    with pytest.raises(InvalidOperation, match="nobody"):
        charge(token)


def test_a_provider_without_tokens_says_so():
    Token.objects.filter(pk=saved().pk).update(provider="plain")
    with pytest.raises(UnsupportedOperation):
        charge(Token.objects.get())


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"amount": 9.9}, InvalidAmount, "amount"),
        ({"amount": Money("0", "USD")}, InvalidAmount, "amount"),
        ({"amount": Money("9.90", "GBP")}, InvalidAmount, "amount"),
        ({"order_id": ""}, InvalidOperation, "order_id"),
        ({"order_id": "x" * 65}, InvalidOperation, "order_id"),
        ({"metadata": {"price": 1.5}}, InvalidOperation, "metadata"),
        ({"items": ["box"]}, InvalidOperation, "items"),
    ],
)
def test_what_cannot_be_charged_is_refused_before_anything_is_written(
    provider, changes, error, field
):
    token = saved()
    with pytest.raises(error) as caught:
        charge(token, **changes)
    assert caught.value.field == field
    assert Payment.objects.count() == 1
    assert provider.told("charge") == []


def test_a_charge_cannot_be_paid_by_a_buyer_as_well(provider):
    provider.will("charge", OutcomeUnknown("lost", "saving", "charge"))
    with pytest.raises(OutcomeUnknown):
        charge(saved())
    with pytest.raises(InvalidTransition, match="without the buyer"):
        start_payment(Payment.objects.latest("pk"))


# With the buyer present --------------------------------------------------------------------


def test_one_click_hands_the_method_to_the_provider(provider):
    token = saved()
    payment = new_payment(provider="saving", customer_id="42", token=token)
    start_payment(payment)
    assert provider.told("start")[-1].token == "tok-1"
    assert payment.initiator == Initiator.BUYER


def test_one_click_whose_answer_was_lost_is_not_sent_again_while_it_may_be_at_work(
    provider,
):
    payment = new_payment(provider="saving", customer_id="42", token=saved())
    before = len(provider.told("start"))
    provider.will("start", OutcomeUnknown("lost", "saving", "start"))
    with pytest.raises(OutcomeUnknown):
        start_payment(payment)
    assert start_payment(payment) is None
    assert len(provider.told("start")) == before + 1
    # Later whoever asks the provider first finds what was done.
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert start_payment(payment) is not None
    assert len(provider.told("start")) == before + 2


@pytest.mark.parametrize(
    "answer",
    [{"status": PENDING}, {"status": PAID, "amount": Money("99.00", "USD")}],
    ids=["it thinks about it", "it is held"],
)
def test_one_click_that_was_answered_is_not_sent_again(provider, answer):
    payment = new_payment(provider="saving", customer_id="42", token=saved())
    before = len(provider.told("start"))
    provider.will("start", snapshot_of(payment, **answer))
    assert start_payment(payment) is None
    # Of what is held it is refused; the rest is as it is.
    with suppress(InvalidTransition):
        assert start_payment(Payment.objects.get(pk=payment.pk)) is None
    assert len(provider.told("start")) == before + 1


@pytest.mark.parametrize("is_looked_at", [False, True])
def test_one_click_whose_answer_was_lost_is_not_sent_again_for_money_that_does_not_fit(
    provider, is_looked_at
):
    payment = new_payment(provider="saving", customer_id="42", token=saved())
    before = len(provider.told("start"))
    provider.will("start", OutcomeUnknown("lost", "saving", "start"))
    with pytest.raises(OutcomeUnknown):
        start_payment(payment)
    receive_webhook("saving", message(payment, PAID, amount="26.29"))
    if is_looked_at:
        release_review(payment, by="ann")
        assert start_payment(payment) is None
    else:
        with pytest.raises(InvalidTransition, match="held for review"):
            start_payment(payment)
    assert len(provider.told("start")) == before + 1
    assert payment.operations.get().state == OperationState.UNKNOWN


def test_of_two_clicks_whose_answers_were_lost_one_failure_tells_one_only(provider):
    payment = new_payment(provider="saving", customer_id="42", token=saved())

    def fail() -> None:
        receive_webhook("saving", message(payment, FAILED))
        raise OutcomeUnknown("lost", "saving", "start")

    provider.will("start", OutcomeUnknown("lost", "saving", "start"), fail)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            start_payment(payment)
        let_everything_be_due()
    payment.refresh_from_db()
    assert payment.status == FAILED
    with pytest.raises(InvalidTransition, match="no known outcome"):
        retry_payment(payment)


@pytest.mark.parametrize(
    "error", [ProviderUnavailable, RequestRejected, CredentialsRejected]
)
def test_what_goes_wrong_with_the_second_click_says_nothing_of_the_first(
    provider, error
):
    token = saved()
    payment = new_payment(provider=None, customer_id="42")
    provider.will("start", OutcomeUnknown("lost", "saving", "start"))
    with pytest.raises(OutcomeUnknown):
        start_payment(payment, provider="saving", token=token)
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    provider.will("start", error("no", "saving", "start"))
    with pytest.raises(error):
        start_payment(payment, provider="saving", token=token)

    payment.refresh_from_db()
    assert (payment.provider, payment.token) == ("saving", token)
    assert payment.operations.get().state == OperationState.UNKNOWN
    with pytest.raises(InvalidTransition):
        start_payment(payment, provider="careful")


@pytest.mark.parametrize(
    "wish",
    [
        {"provider": "saving", "customer_id": "43"},
        {"provider": "saving", "customer_id": ""},
        {"provider": "careful", "customer_id": "42"},
        {"provider": None, "customer_id": "42"},
    ],
)
def test_a_method_is_for_its_customer_and_account_only(wish):
    token = saved()
    with pytest.raises(InvalidOperation) as caught:
        new_payment(token=token, **wish)
    assert caught.value.field == "token"


def test_a_method_that_was_deleted_meanwhile_opens_no_page(provider):
    token = saved()
    payment = new_payment(provider="saving", customer_id="42", token=token)
    delete_token(token)
    with pytest.raises(InvalidOperation) as caught:
        start_payment(Payment.objects.get(pk=payment.pk))
    assert caught.value.field == "token"
    assert len(provider.told("start")) == 1


# Inside a transaction ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_is_charged_after_the_commit(provider):
    token = saved()
    with transaction.atomic():
        payment = charge(token)
        assert payment.status == PaymentStatus.CREATED
        assert provider.told("charge") == []
    payment.refresh_from_db()
    assert payment.status == PAID
    assert provider.calls_in_a_transaction == []


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_was_never_charged(provider):
    token = saved()
    with transaction.atomic():
        charge(token)
        transaction.set_rollback(True)
    sweep()
    assert provider.told("charge") == []
    assert Payment.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_charge_that_fails_after_the_commit_is_told_by_its_payment(provider):
    token = saved()
    provider.will("charge", ProviderUnavailable("down", "saving", "charge"))
    with transaction.atomic():
        payment = charge(token)
    payment.refresh_from_db()
    assert payment.status == FAILED


@pytest.mark.django_db(transaction=True)
def test_a_deletion_inside_a_transaction_is_sent_after_the_commit(provider):
    token = saved()
    with transaction.atomic():
        delete_token(token)
        assert provider.told("delete") == []
    token.refresh_from_db()
    assert provider.told("delete") == ["tok-1"]
    assert token.provider_token is None


# The end of a method ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [DeclineCode.LOST_OR_STOLEN, DeclineCode.EXPIRED_CARD])
def test_a_dead_card_is_charged_no_more_and_the_shop_hears_of_it(provider, told, code):
    token = saved()
    provider.will("charge", declined(code))
    payment = charge(token)
    token.refresh_from_db()
    assert token.status == DEAD
    reconcile()
    assert names(told) == ["token_created", "token_status_changed"]
    assert (told[1]["token"], told[1]["payment"]) == (token, payment)
    with pytest.raises(InvalidOperation):
        charge(token)
    assert len(provider.told("charge")) == 1


def test_another_card_that_was_declined_before_says_nothing_about_this_one():
    payment = pay_and_save()
    stolen = Decline(code=DeclineCode.LOST_OR_STOLEN)
    hear(payment, FAILED, provider_reference="T-first-card", decline=stolen)
    assert Token.objects.get().status == ACTIVE


def test_a_method_that_the_provider_does_not_know_any_more_is_dead(provider):
    token = saved()
    provider.will("charge", gone())
    provider.will("inspect", gone())
    with pytest.raises(RequestRejected):
        charge(token)
    token.refresh_from_db()
    assert token.status == DEAD


def test_a_refused_request_about_a_method_that_is_fine_leaves_it_alive(provider):
    token = saved()
    provider.will("charge", gone())
    with pytest.raises(RequestRejected):
        charge(token)
    assert provider.told("inspect") == ["tok-1"]
    provider.will("charge", gone())
    provider.will("inspect", ProviderUnavailable("down", "saving", "inspect"))
    with pytest.raises(RequestRejected):
        charge(token)
    token.refresh_from_db()
    assert token.status == ACTIVE


def test_a_key_that_is_refused_says_nothing_of_the_method(provider):
    token = saved()
    provider.will("charge", CredentialsRejected("mend the key", "saving"))
    with pytest.raises(CredentialsRejected):
        charge(token)
    assert provider.told("inspect") == []
    token.refresh_from_db()
    assert token.status == ACTIVE


def test_deleting_is_done_at_the_provider_and_then_here(provider, told):
    token = saved()
    delete_token(token, by="ann")
    assert provider.told("delete") == ["tok-1"]
    assert (token.status, token.provider_token) == (DELETED, None)
    assert raw(token, "provider_token") == ""
    operation = Operation.objects.get(kind=OperationKind.DELETE_TOKEN)
    assert (operation.state, operation.actor) == (OperationState.SUCCEEDED, "ann")
    reconcile()
    assert names(told) == ["token_created", "token_status_changed"]
    assert told[1]["payment"] is None
    delete_token(token)
    assert resume_operation(operation) == OperationState.SUCCEEDED
    reconcile()
    assert (len(provider.told("delete")), len(told)) == (1, 2)


def test_where_the_provider_cannot_delete_it_is_forgotten_here():
    token = saved(provider="keeping")
    delete_token(token)
    assert (token.status, token.provider_token) == (DELETED, None)
    assert not Operation.objects.filter(kind=OperationKind.DELETE_TOKEN).exists()


def test_a_method_of_an_account_that_is_gone_can_be_deleted(settings):
    token = saved()
    settings.MULTIPAY = account_settings(other=SavingProvider)
    delete_token(token)
    assert (token.status, token.provider_token) == (DELETED, None)


@pytest.mark.parametrize("error", [ProviderUnavailable, OutcomeUnknown])
def test_a_deletion_that_failed_is_sent_again_and_nothing_is_charged_meanwhile(
    provider, error
):
    token = saved()
    provider.will("delete", error("no", "saving", "delete"))
    with pytest.raises(error):
        delete_token(token)
    token.refresh_from_db()
    assert (token.status, token.provider_token) == (DELETED, "tok-1")
    with pytest.raises(InvalidOperation):
        charge(token)
    sweep()
    token.refresh_from_db()
    assert token.provider_token is None
    assert provider.told("delete") == ["tok-1", "tok-1"]


def test_a_deletion_of_what_is_gone_there_is_done(provider):
    token = saved()
    provider.will("delete", gone())
    provider.will("inspect", gone())
    delete_token(token)
    assert token.provider_token is None


def test_a_refused_deletion_can_be_asked_for_again(provider):
    token = saved()
    provider.will("delete", gone())
    with pytest.raises(RequestRejected):
        delete_token(token)
    sweep()
    assert len(provider.told("delete")) == 1
    delete_token(token)
    assert token.provider_token is None


def test_a_charge_that_was_written_but_not_sent_is_refused_once_it_is_deleted(
    provider,
):
    token = saved()
    operation = ledger.charges.open_charge(
        Payment(order_id="box-1", amount_minor=990, currency="USD"), token
    )
    delete_token(token)
    sweep()
    assert operation.payment is not None
    operation.payment.refresh_from_db()
    assert operation.payment.status == FAILED
    assert provider.told("charge") == []


def test_a_dead_method_can_still_be_deleted(provider, told):
    token = saved()
    provider.will("charge", declined(DeclineCode.LOST_OR_STOLEN))
    charge(token)
    delete_token(token)
    assert token.status == DELETED
    assert provider.told("delete") == ["tok-1"]
    assert names(told) == ["token_created", *["token_status_changed"] * 2]


# Looking at a method -------------------------------------------------------------------------------


def test_inspecting_writes_what_the_provider_says(provider):
    token = saved()
    said = saved_snapshot(fingerprint="same-card", expires_on=date(2041, 1, 31))
    provider.will("inspect", said)
    assert inspect_token(token) == said
    assert (token.fingerprint, token.expires_on) == ("same-card", date(2041, 1, 31))
    assert (token.brand, token.last4) == ("Visa", "4242")


@pytest.mark.parametrize(
    "answer", [gone(), TokenSnapshot(reference="tok-1", status=TokenStatus.DELETED)]
)
def test_inspecting_finds_out_that_a_method_is_dead(provider, told, answer):
    token = saved()
    provider.will("inspect", answer)
    assert inspect_token(token).status != ACTIVE
    assert token.status == DEAD
    assert names(told)[-1] == "token_status_changed"


def test_what_cannot_be_inspected_is_refused(provider):
    with pytest.raises(UnsupportedOperation):
        inspect_token(saved(provider="keeping"))
    token = saved()
    delete_token(token)
    with pytest.raises(InvalidOperation):
        inspect_token(token)
    assert provider.told("inspect") == []


# Expiring -------------------------------------------------------------------------------------------


def test_the_shop_hears_once_that_a_card_expires_soon(told):
    token = saved()
    today = timezone.now().date()
    for days, count in ((31, 0), (30, 1), (30, 1)):
        Token.objects.update(expires_on=today + timedelta(days=days))
        reconcile()
        assert names(told).count("token_expiring") == count
    assert told[-1]["token"] == token
    # A new date is news again.
    pay_and_save(expires_on=today + timedelta(days=5))
    reconcile()
    assert names(told).count("token_expiring") == 2


@pytest.mark.parametrize("status", [DELETED, DEAD])
def test_nobody_is_told_that_a_method_expires_that_is_over(told, status):
    saved()
    Token.objects.update(expires_on=timezone.now().date(), status=status)
    reconcile()
    assert "token_expiring" not in names(told)


# News of them, with a message ------------------------------------------------------------


def test_the_shop_hears_at_once_of_a_method_that_a_message_brings(monkeypatch, told):
    payment = new_payment(provider="saving", customer_id="42", save_token=True)
    start_payment(payment)
    say_also(monkeypatch, token=saved_snapshot("tok-7"))
    receive_webhook("saving", message(payment, PAID))
    assert names(told) == ["token_created"]


def test_the_shop_hears_at_once_of_a_method_that_a_message_shows_to_be_dead(
    monkeypatch, provider, told
):
    token = saved()
    provider.will("charge", PaymentSnapshot(status=PENDING))
    payment = charge(token)
    say_also(monkeypatch, decline=Decline(code=DeclineCode.EXPIRED_CARD))
    told.clear()
    receive_webhook("saving", message(payment, FAILED))
    assert names(told) == ["token_status_changed"]


def say_also(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Let the provider's messages say more than those of the scripted one do."""
    original = SavingProvider.parse_webhook

    def parse(self: SavingProvider, incoming: IncomingRequest) -> list[ProviderEvent]:
        (event,) = original(self, incoming)
        return [replace(event, snapshot=replace(event.snapshot, **more))]

    monkeypatch.setattr(SavingProvider, "parse_webhook", parse)
