"""From an order to a buyer who stands at the provider's door."""

from __future__ import annotations

import importlib
import inspect
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.db import connection, transaction
from django.test import RequestFactory
from django.utils import timezone, translation
from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import (
    OperationState,
    PaymentStatus,
    TokenStatus,
    Verdict,
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
    UnexpectedAnswer,
)
from django_multipay.flows import (
    receive_webhook,
    reconcile,
    replay_delivery,
    start_payment,
    sync_payment,
)
from django_multipay.flows.operations import resume_operation
from django_multipay.messages import (
    Address,
    Buyer,
    LineItem,
    PaymentSnapshot,
    Redirect,
)
from django_multipay.models import Operation, Payment, Token, WebhookDelivery
from tests.corridor import reconcile_later
from tests.flows.scripted import (
    ScriptedProvider,
    account_settings,
    message,
    new_payment,
    snapshot_of,
)
from tests.flows.test_races import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]

CARD = "4111111111111111"


def usd(amount: str) -> Money:
    return Money(amount, "USD")


# What is refused ---------------------------------------------------------------------

BAD = {
    "no order": ({"order_id": ""}, "order_id"),
    "blank order": ({"order_id": "  "}, "order_id"),
    "order as number": ({"order_id": 1001}, "order_id"),
    "long order": ({"order_id": "x" * 65}, "order_id"),
    "order with NUL": ({"order_id": "1\x00"}, "order_id"),
    "order with surrogate": ({"order_id": "1\ud800"}, "order_id"),
    "card as order": ({"order_id": CARD}, "order_id"),
    "amount as number": ({"amount": 26}, "amount"),
    "amount as float": ({"amount": 26.3}, "amount"),
    "amount as text": ({"amount": "26.30 USD"}, "amount"),
    "amount as decimal": ({"amount": Decimal("26.30")}, "amount"),
    "no amount": ({"amount": None}, "amount"),
    "zero": ({"amount": usd("0")}, "amount"),
    "negative": ({"amount": usd("-1")}, "amount"),
    "half a cent": ({"amount": usd("1.005")}, "amount"),
    "half a won": ({"amount": Money("100.5", "KRW")}, "amount"),
    "not a number": ({"amount": usd("NaN")}, "amount"),
    "infinite": ({"amount": usd("Infinity")}, "amount"),
    "too much": ({"amount": usd("1E+30")}, "amount"),
    "currency the provider lacks": ({"amount": Money("1", "JPY")}, "amount"),
    "item in another currency": (
        {"items": [LineItem(name="Tea", unit_price=Money("1", "EUR"))]},
        "items",
    ),
    "item with half a cent": (
        {"items": [LineItem(name="Tea", unit_price=usd("0.005"))]},
        "amount",
    ),
    "no tea": (
        {"items": [LineItem(name="Tea", quantity=0, unit_price=usd("1"))]},
        "items",
    ),
    "half a tea": (
        {"items": [LineItem(name="Tea", quantity=0.5, unit_price=usd("1"))]},  # type: ignore[arg-type]
        "items",
    ),
    "true tea": (
        {"items": [LineItem(name="Tea", quantity=True, unit_price=usd("1"))]},
        "items",
    ),
    "endless tea": (
        {"items": [LineItem(name="Tea", quantity=10**7, unit_price=usd("1"))]},
        "items",
    ),
    "item without a price": (
        {"items": [LineItem(name="Tea", unit_price="1.00")]},  # type: ignore[arg-type]
        "items",
    ),
    "item as dict": ({"items": [{"name": "Tea"}]}, "items"),
    "nameless item": (
        {"items": [LineItem(name=None, unit_price=usd("1"))]},  # type: ignore[arg-type]
        "items",
    ),
    "item with a bad link": (
        {"items": [LineItem(name="Tea", unit_price=usd("1"), url="/\x00")]},
        "items",
    ),
    "unknown capture mode": ({"capture_mode": "later"}, "capture_mode"),
    "long method": ({"method": "x" * 65}, "method"),
    "long e-mail": ({"buyer": Buyer(email="x" * 255)}, "buyer.email"),
    "long phone": ({"buyer": Buyer(phone="1" * 41)}, "buyer.phone"),
    "long country": ({"buyer": Buyer(country="KOR")}, "buyer.country"),
    "long customer": ({"customer_id": "x" * 65}, "customer_id"),
    "customer as number": ({"customer_id": 42}, "customer_id"),
    "long locale": ({"locale": "x" * 17}, "locale"),
    "long success_url": ({"success_url": "/" * 501}, "success_url"),
    "long failure_url": ({"failure_url": "/" * 501}, "failure_url"),
    "metadata as list": ({"metadata": ["gift"]}, "metadata"),
    "metadata with a fraction": ({"metadata": {"vat": 0.1}}, "metadata"),
    "metadata with NaN": ({"metadata": {"vat": float("nan")}}, "metadata"),
    "metadata with an object": ({"metadata": {"on": timezone.now()}}, "metadata"),
    "provider_data as text": ({"provider_data": "shop"}, "provider_data"),
    "provider_data with an object": ({"provider_data": {"x": set()}}, "provider_data"),
    "time without a zone": ({"expires_at": datetime(2100, 1, 1)}, "expires_at"),  # noqa: DTZ001
    "day as expiry": ({"expires_at": date(2100, 1, 1)}, "expires_at"),
    "no description": ({"description": None}, "description"),
    "nameless buyer": ({"buyer": Buyer(name=None)}, "buyer.name"),  # type: ignore[arg-type]
    "saved for nobody": ({"save_token": True}, "customer_id"),
}


@pytest.mark.parametrize(("changes", "field"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_name_and_nothing_is_stored(changes, field):
    with pytest.raises(InvalidOperation) as caught:
        new_payment(**changes)
    assert caught.value.field == field
    assert len(str(caught.value)) < 200
    assert CARD not in str(caught.value)
    assert not Payment.objects.exists()
    assert not Operation.objects.exists()


@pytest.mark.parametrize("alias", ["", "stripe", "Scripted"])
def test_an_unknown_provider_is_an_error_of_the_settings(alias):
    with pytest.raises(ProviderConfigurationError, match="known: scripted"):
        new_payment(provider=alias)
    assert not Payment.objects.exists()


def saved_method(**changes) -> Token:
    values = {"provider": "scripted", "customer_id": "42", "provider_token": "tok-1"}
    return Token.objects.create(token_digest="x", **{**values, **changes})


@pytest.mark.parametrize(
    ("method", "customer_id"),
    [
        ({}, "43"),
        ({}, ""),
        ({"customer_id": ""}, ""),
        ({"provider": "other"}, "42"),
        ({"status": TokenStatus.DELETED}, "42"),
    ],
)
def test_only_ones_own_saved_method_can_be_used(method, customer_id):
    with pytest.raises(InvalidOperation) as caught:
        new_payment(token=saved_method(**method), customer_id=customer_id)
    assert caught.value.field == "token"
    assert not Payment.objects.exists()


# What is recorded --------------------------------------------------------------------


def test_a_payment_remembers_the_order_and_sends_nothing(scripted):
    payment = new_payment(
        buyer=Buyer(
            name="Hong Gil Dong",
            email="buyer@example.com",
            phone="+82 10 0000 0000",
            country="KR",
            address=Address(street="1 Teheran-ro", city="Seoul"),
        ),
        ship_to=Address(city="Busan"),
        customer_id="42",
        success_url="/thanks/",
        failure_url="/cart/",
        description="Tea and cake",
        locale="ko",
        method="P000",
        capture_mode="manual",
        metadata={"gift": True, "lines": [1, "two"], "none": None},
        provider_data={"shop": "Seoul"},
        expires_at=datetime(2100, 1, 1, tzinfo=UTC),
    )
    stored = Payment.objects.get()
    assert stored == payment
    assert stored.status == PaymentStatus.CREATED
    assert stored.amount == usd("26.30")
    assert stored.order_id == "1001"
    assert stored.buyer_name == "Hong Gil Dong"
    assert stored.buyer_country == "KR"
    assert stored.metadata == {"gift": True, "lines": [1, "two"], "none": None}
    assert stored.checkout_data["address"]["city"] == "Seoul"
    assert stored.checkout_data["ship_to"]["city"] == "Busan"
    assert stored.checkout_data["provider_data"] == {"shop": "Seoul"}
    assert (stored.customer_id, stored.locale, stored.method) == ("42", "ko", "P000")
    assert stored.expires_at == datetime(2100, 1, 1, tzinfo=UTC)
    assert not stored.operations.exists()
    assert scripted.calls == []


def test_a_single_minor_unit_is_an_amount():
    assert new_payment(amount=usd("0.01")).amount_minor == 1


def test_items_keep_their_prices_in_minor_units():
    items = [
        LineItem(name="Tea", quantity=2, unit_price=usd("10.00"), url="/tea/"),
        LineItem(name="Gift card", unit_price=usd("-3.70"), is_surcharge=True),
        LineItem(name="Shipping", unit_price=usd("10"), is_surcharge=True),
    ]
    payment = new_payment(items=items)
    assert payment.items[0] == {
        "name": "Tea",
        "quantity": 2,
        "unit_minor": 1000,
        "url": "/tea/",
        "is_surcharge": False,
    }
    assert [item["unit_minor"] for item in payment.items] == [1000, -370, 1000]


def test_card_numbers_are_masked_wherever_words_are_kept():
    payment = new_payment(
        description=f"card {CARD}",
        buyer=Buyer(name=f"Hong {CARD}"),
        items=[LineItem(name=f"Refill {CARD}", unit_price=usd("26.30"))],
        metadata={"note": CARD, CARD: ["4111-1111-1111-1111"]},
        provider_data={"shop": CARD},
    )
    payment.refresh_from_db()
    kept = f"{payment.description}{payment.buyer_name}{payment.items}"
    kept += f"{payment.metadata}{payment.checkout_data}"
    assert "4111" not in kept
    assert kept.count("***1111") == 7


def test_words_that_no_database_takes_are_made_fit():
    payment = new_payment(
        description="a\x00b\ud800" + "x" * 300,
        buyer=Buyer(name="N\x00" + "x" * 300),
        metadata={"note\x00": "\ud800"},
    )
    payment.refresh_from_db()
    assert payment.description.startswith("a\ufffdb?x")
    assert len(payment.description) == 255
    assert len(payment.buyer_name) == 150
    assert payment.metadata == {"note\ufffd": "?"}


def test_the_language_of_the_page_is_the_language_of_the_payment():
    with translation.override("ko"):
        assert new_payment().locale == "ko"
        assert new_payment(locale="ja").locale == "ja"


def test_attempts_of_one_order_have_references_of_their_own():
    first, second = new_payment(), new_payment()
    assert first.order_id == second.order_id
    assert first.merchant_reference != second.merchant_reference


@pytest.mark.django_db(transaction=True)
def test_a_payment_goes_with_the_callers_transaction():
    with transaction.atomic():
        new_payment()
        transaction.set_rollback(True)
    assert not Payment.objects.exists()
    with transaction.atomic():
        new_payment()
    assert Payment.objects.count() == 1


# Starting ----------------------------------------------------------------------------


def page_of(payment: Payment) -> Redirect:
    return Redirect(f"https://provider.example/pay/{payment.merchant_reference}")


def test_starting_returns_where_the_buyer_goes_next(scripted):
    payment = new_payment()
    assert start_payment(payment) == page_of(payment)
    assert payment.status == PaymentStatus.PENDING
    assert payment.action == page_of(payment)
    assert payment.started_at is not None
    assert payment.sync_at > payment.started_at
    operation = payment.operations.get()
    assert operation.state == OperationState.SUCCEEDED
    assert operation.open_slot is None


def test_the_provider_is_told_everything_it_may_need(scripted):
    items = [LineItem(name="Tea", quantity=2, unit_price=usd("13.15"), url="/tea/")]
    buyer = Buyer(name="Hong", email="b@example.com", address=Address(city="Seoul"))
    payment = new_payment(
        items=items,
        buyer=buyer,
        ship_to=Address(city="Busan"),
        metadata={"gift": True},
        provider_data={"shop": "Seoul"},
        customer_id="42",
        token=saved_method(),
    )
    start_payment(payment)
    (request,) = scripted.told("start")
    assert request.merchant_reference == payment.merchant_reference
    assert request.key == payment.operations.get().key
    assert request.amount == usd("26.30")
    assert request.items == items
    assert request.buyer == buyer
    assert request.ship_to == Address(city="Busan")
    assert request.metadata == {"gift": True}
    assert request.provider_data == {"shop": "Seoul"}
    assert request.token == "tok-1"
    assert request.plan is None
    assert request.return_url.startswith("https://shop.example/payments/return/")
    assert request.status_url.startswith("https://shop.example/payments/status/")
    assert request.cancel_url == f"https://shop.example{payment.get_outcome_url()}"
    assert request.return_url.rsplit("/", 2)[1] != request.status_url.rsplit("/", 2)[1]


def test_callbacks_come_to_the_requests_host_when_no_site_is_set(scripted, settings):
    settings.MULTIPAY = {**settings.MULTIPAY, "SITE_URL": None}
    agent = "Mozilla/5.0 (iPhone) Mobile/15E148"
    request = RequestFactory().get(
        "/", headers={"host": "testserver", "user-agent": agent}
    )
    start_payment(payment := new_payment(), request)
    assert payment.action == page_of(payment)


def test_without_site_and_request_nobody_knows_where_callbacks_go(settings):
    settings.MULTIPAY = {**settings.MULTIPAY, "SITE_URL": None}
    payment = new_payment()
    with pytest.raises(ProviderConfigurationError, match="SITE_URL"):
        start_payment(payment)
    assert Operation.objects.get().state == OperationState.REQUESTED
    settings.MULTIPAY = {**settings.MULTIPAY, "SITE_URL": "https://shop.example"}
    assert start_payment(payment) == page_of(payment)


def test_starting_twice_gives_the_same_page_for_one_call(scripted):
    payment = new_payment()
    copy = Payment.objects.get()
    pages = {start_payment(payment), start_payment(copy), start_payment(payment)}
    assert pages == {page_of(payment)}
    assert len(scripted.told("start")) == 1


def test_while_one_worker_opens_the_page_the_other_waits(scripted):
    payment = new_payment()
    seen = []

    def meanwhile() -> PaymentSnapshot:
        seen.append(start_payment(Payment.objects.get()))
        return PaymentSnapshot(
            status=PaymentStatus.PENDING, next_action=page_of(payment)
        )

    scripted.will("start", meanwhile)
    assert start_payment(payment) == page_of(payment)
    assert seen == [None]
    assert len(scripted.told("start")) == 1


@pytest.mark.parametrize(
    ("error", "state", "has_new_key"),
    [
        (ProviderUnavailable, OperationState.REQUESTED, False),
        (OutcomeUnknown, OperationState.UNKNOWN, False),
        (UnexpectedAnswer, OperationState.UNKNOWN, False),
        (RequestRejected, OperationState.REFUSED, True),
        (CredentialsRejected, OperationState.REFUSED, True),
    ],
)
def test_a_start_that_failed_says_so_and_a_later_one_works(
    scripted, error, state, has_new_key
):
    payment = new_payment()
    scripted.will("start", error("no", "scripted", "start"))
    with pytest.raises(error):
        start_payment(payment)
    operation = Operation.objects.get()
    assert operation.state == state
    assert operation.lease_until is None
    assert "no" in operation.error
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.CREATED
    assert start_payment(payment) == page_of(payment)
    first, second = scripted.told("start")
    assert (first.key != second.key) is has_new_key
    assert first.merchant_reference == second.merchant_reference


@pytest.mark.parametrize(
    "reference", ["s" * 129, "s\x00", "s\ud800"], ids=["long", "NUL", "surrogate"]
)
def test_a_reference_that_no_column_takes_does_not_keep_the_buyer_from_the_page(
    scripted, reference
):
    payment = new_payment()
    page = Redirect("https://provider.example/pay")
    snapshot = snapshot_of(payment, PaymentStatus.PENDING, next_action=page)
    scripted.will("start", replace(snapshot, provider_reference=reference))
    assert start_payment(payment) == page
    payment.refresh_from_db()
    assert (payment.status, payment.provider_reference) == (PaymentStatus.PENDING, None)


def test_a_bug_in_a_provider_leaves_the_outcome_unknown_until_the_lease_ends(scripted):
    payment = new_payment()
    scripted.will("start", KeyError("url"))
    with pytest.raises(KeyError):
        start_payment(payment)
    assert start_payment(payment) is None
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert start_payment(payment) == page_of(payment)


@pytest.mark.parametrize(
    "status",
    [
        PaymentStatus.PAID,
        PaymentStatus.AWAITING_FUNDS,
        PaymentStatus.FAILED,
        PaymentStatus.CANCELED,
        PaymentStatus.AUTHORIZED,
    ],
)
def test_a_payment_that_got_somewhere_is_not_started_again(scripted, status):
    payment = new_payment()
    receive_webhook("scripted", message(payment, status))
    with pytest.raises(InvalidTransition, match="create a new payment"):
        start_payment(payment)
    assert scripted.told("start") == []


def test_an_expired_payment_is_not_started(scripted):
    payment = new_payment(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(InvalidTransition) as caught:
        start_payment(payment)
    assert caught.value.field == "expires_at"
    assert scripted.calls == []


# What is written ahead without a look at the row, because nobody has touched it.


@pytest.mark.django_db(transaction=True)
def test_what_another_worker_wrote_meanwhile_is_what_the_provider_is_told(scripted):
    payment = new_payment()
    other = Payment.objects.get()
    other.amount = usd("99.00")
    other.save()
    start_payment(payment)
    (request,) = scripted.told("start")
    assert request.amount == payment.amount == usd("99.00")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "value"),
    [("amount_minor", 1), ("status", "paid"), ("provider", "other"), ("method", "x")],
)
def test_what_was_not_saved_is_not_told_and_decides_nothing(scripted, name, value):
    payment = new_payment()
    setattr(payment, name, value)
    assert start_payment(payment) == page_of(payment)
    (request,) = scripted.told("start")
    assert (request.amount, request.method) == (usd("26.30"), "")
    payment.refresh_from_db()
    assert (payment.amount, payment.provider) == (usd("26.30"), "scripted")
    assert payment.status == PaymentStatus.PENDING


@pytest.mark.django_db(transaction=True)
def test_a_deadline_that_another_worker_moved_counts(scripted):
    payment = new_payment(expires_at=timezone.now() - timedelta(seconds=1))
    later = timezone.now() + timedelta(hours=1)
    Payment.objects.update(expires_at=later, updated_at=timezone.now())
    assert start_payment(payment) == page_of(payment)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"status": "failed"}, InvalidTransition),
        ({"review_reason": "amount_mismatch"}, InvalidTransition),
        ({"started_at": datetime(2026, 3, 1, tzinfo=UTC)}, None),
        ({"amount_minor": 9900}, usd("99.00")),
        ({"currency": "EUR"}, Money("26.30", "EUR")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_a_row_was_told_in_silence_counts(scripted, change, outcome):
    """Without a new ``updated_at``, as an UPDATE by hand leaves it."""
    payment = new_payment()
    Payment.objects.update(**change)
    if outcome is InvalidTransition:
        with pytest.raises(InvalidTransition):
            start_payment(payment)
    else:
        start_payment(payment)
    told = [request.amount for request in scripted.told("start")]
    assert told == ([outcome] if isinstance(outcome, Money) else [])


@pytest.mark.django_db(transaction=True)
def test_what_was_changed_in_place_and_not_saved_is_not_told(scripted):
    payment = new_payment(metadata={"gift": {"wrap": "red"}})
    payment.metadata["gift"]["wrap"] = "blue"
    start_payment(payment)
    (request,) = scripted.told("start")
    assert request.metadata == {"gift": {"wrap": "red"}}


def test_a_deadline_is_told_as_it_would_be_read_again(scripted):
    seoul = timezone.now().astimezone(timezone.get_fixed_timezone(9 * 60))
    payment = new_payment(expires_at=seoul + timedelta(hours=1))
    assert payment.expires_at == seoul + timedelta(hours=1)
    assert payment.expires_at.utcoffset() == timedelta(0)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_written_ahead_inside_of_a_transaction(scripted):
    payment = new_payment()
    with transaction.atomic(), pytest.raises(RuntimeError):
        ledger.begin_checkout(payment, lambda: None)
    assert not Operation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_payment_that_was_rolled_back_cannot_be_started(scripted):
    with transaction.atomic():
        payment = new_payment()
        transaction.set_rollback(True)
    with pytest.raises(Payment.DoesNotExist):
        start_payment(payment)
    assert scripted.told("start") == []
    assert not Operation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_eight_copies_that_are_started_at_once_one_reaches_the_provider(scripted):
    payment = new_payment()
    copies = [deepcopy(payment) for _ in range(8)]
    pages = at_once([partial(start_payment, copy) for copy in copies])
    assert page_of(payment) in pages
    assert set(pages) <= {page_of(payment), None}
    assert len(scripted.told("start")) == 1
    assert Operation.objects.get().state == OperationState.SUCCEEDED


# Two workers at one page. What one did not hear the other did.


@pytest.mark.parametrize("is_lost", [False, True], ids=["no answer", "a dead worker"])
def test_a_page_that_another_worker_brought_ends_the_start(scripted, is_lost):
    payment = new_payment()

    def overtaken() -> PaymentSnapshot:
        """The lease is over, and another worker opens the page."""
        Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        other = Payment.objects.get()
        scripted.will("start", late)
        with pytest.raises(KeyError if is_lost else OutcomeUnknown):
            start_payment(other)
        return snapshot_of(payment, PaymentStatus.PENDING, next_action=page_of(payment))

    def late() -> PaymentSnapshot:
        """The first worker's answer is written while the second one waits."""
        raise KeyError if is_lost else OutcomeUnknown("no", "scripted", "start")

    scripted.will("start", overtaken)
    assert start_payment(payment) == page_of(payment)
    if is_lost:
        Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        resume_operation(Operation.objects.get())
    operation = Operation.objects.get()
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)


def test_an_answer_that_is_lost_after_another_worker_brought_the_page(scripted):
    payment = new_payment()

    def overtaken() -> PaymentSnapshot:
        Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        scripted.will("start", second)
        with pytest.raises(OutcomeUnknown):
            start_payment(Payment.objects.get())
        raise OutcomeUnknown("no", "scripted", "start")

    def second() -> PaymentSnapshot:
        # The first worker's page, stored by whoever heard of it.
        row = Payment.objects.get()
        ledger.conclude_checkout(
            row,
            Operation(pk=0, lease_token="of somebody else"),
            snapshot_of(payment, PaymentStatus.PENDING, next_action=page_of(payment)),
        )
        raise OutcomeUnknown("no", "scripted", "start")

    scripted.will("start", overtaken)
    with pytest.raises(OutcomeUnknown):
        start_payment(payment)
    operation = Operation.objects.get()
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)
    payment.refresh_from_db()
    assert payment.action == page_of(payment)


def test_a_start_that_was_left_open_beside_a_page_is_ended_by_reconcile(scripted):
    """As an older version left it, or two workers who saw one picture."""
    payment = new_payment()
    start_payment(payment)
    Operation.objects.update(
        state=OperationState.UNKNOWN,
        open_slot=f"checkout:{payment.pk}",
        retry_at=timezone.now() - timedelta(seconds=1),
    )
    assert reconcile().errors == 0
    operation = Operation.objects.get()
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)
    assert len(scripted.told("start")) == 1
    assert reconcile() == reconcile(dry_run=True)


def test_a_start_of_which_nobody_heard_is_left_to_the_buyer(scripted):
    payment = new_payment()
    scripted.will("start", OutcomeUnknown("no", "scripted", "start"))
    with pytest.raises(OutcomeUnknown):
        start_payment(payment)
    Operation.objects.update(retry_at=timezone.now() - timedelta(seconds=1))
    assert not ledger.due_operations().exists()
    ledger.end_if_told(Operation.objects.get())
    assert Operation.objects.get().state == OperationState.UNKNOWN


# The buyer chooses -------------------------------------------------------------------


@pytest.fixture
def two_accounts(scripted, settings) -> None:
    settings.MULTIPAY = account_settings(cards=ScriptedProvider, bank=ScriptedProvider)


@pytest.mark.usefixtures("two_accounts")
def test_a_payment_without_a_provider_goes_where_the_buyer_says():
    payment = new_payment(provider=None)
    assert payment.provider == ""
    assert not payment.operations.exists()
    assert start_payment(payment, provider="bank") == page_of(payment)
    assert payment.provider == "bank"
    Payment.objects.update(next_action=None)
    with pytest.raises(InvalidTransition) as caught:
        start_payment(payment, provider="cards")
    assert caught.value.field == "provider"


@pytest.mark.usefixtures("two_accounts")
def test_without_a_choice_there_is_nothing_to_start():
    with pytest.raises(InvalidOperation) as caught:
        start_payment(new_payment(provider=None))
    assert caught.value.field == "provider"


@pytest.mark.usefixtures("two_accounts")
def test_a_choice_that_does_not_exist_or_fit_is_refused():
    with pytest.raises(ProviderConfigurationError):
        start_payment(new_payment(provider=None), provider="stripe")
    yen = new_payment(provider=None, amount=Money("100", "JPY"))
    with pytest.raises(InvalidAmount):
        start_payment(yen, provider="bank")
    yen.refresh_from_db()
    assert yen.provider == ""


# No transaction around a call ------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_provider_is_called(scripted):
    payment = new_payment()
    start_payment(payment)
    sync_payment(payment)
    paid = snapshot_of(payment, PaymentStatus.PAID)
    scripted.will("fetch", PaymentSnapshot(status=PaymentStatus.PENDING), paid)
    receive_webhook("scripted", message(payment, PaymentStatus.PAID, ask=True))
    reconcile_later()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert [verb for verb, _ in scripted.calls] == ["start", "fetch", "fetch", "fetch"]
    assert scripted.calls_in_a_transaction == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "flow",
    ["start_payment", "sync_payment", "receive_webhook", "replay_delivery"],
)
def test_a_flow_that_calls_the_provider_refuses_the_callers_transaction(scripted, flow):
    payment = new_payment()
    said = message(payment, PaymentStatus.PAID)
    delivery = WebhookDelivery.objects.create(provider="scripted", payload={"x": 1})
    steps = {
        "start_payment": lambda: start_payment(payment),
        "sync_payment": lambda: sync_payment(payment),
        "receive_webhook": lambda: receive_webhook("scripted", said),
        "replay_delivery": lambda: replay_delivery(delivery),
    }
    with pytest.raises(RuntimeError) as caught, transaction.atomic():
        steps[flow]()
    assert str(caught.value).startswith(f"{flow}() talks to the provider")
    assert "transaction.on_commit" in str(caught.value)
    assert scripted.calls == []
    delivery.refresh_from_db()
    assert delivery.verdict == Verdict.STORED


ALONE = [
    "batches.run_batch",
    "cancellation.cancel_payment",
    "checkout.refresh_action",
    "checkout.start_payment",
    "drift.drift_report",
    "endpoints.deliver_endpoints",
    "endpoints.resend_since",
    "endpoints.send_now",
    "endpoints.send_test_event",
    "idempotency.begin_request",
    "keys.rotate_keys",
    "operations.abandon_operation",
    "operations.resume_operation",
    "operations.sync_refund",
    "plans.charge_due_plans",
    "plans.charge_plan",
    "plans.resume_plan_call",
    "plans.sync_plan",
    "purge.erase_buyer",
    "purge.purge",
    "reconcile.reconcile",
    "review.release_review",
    "sync.sync_payment",
    "tokens.carry_out_charge",
    "tokens.carry_out_deletion",
    "tokens.inspect_token",
    "webhooks.receive_webhook",
    "webhooks.replay_delivery",
]


@pytest.mark.parametrize("name", ALONE)
def test_what_commits_by_itself_refuses_the_callers_transaction_first_of_all(name):
    module, _, flow = name.partition(".")
    step = getattr(importlib.import_module(f"django_multipay.flows.{module}"), flow)
    untouched = {
        parameter.name: None
        for parameter in inspect.signature(step).parameters.values()
        if parameter.default is parameter.empty
    }
    with transaction.atomic(), pytest.raises(RuntimeError, match=r"on_commit"):
        step(**untouched)


@pytest.mark.django_db(transaction=True)
def test_after_the_commit_a_payment_can_be_started(scripted):
    pages = []
    with transaction.atomic():
        payment = new_payment()
        transaction.on_commit(lambda: pages.append(start_payment(payment)))
    assert pages == [page_of(payment)]
    assert scripted.calls_in_a_transaction == []


# What it costs ---------------------------------------------------------------------------


SAVEPOINTS = 2
"""A test's own transaction turns each of ours into a savepoint and its release."""


def test_creating_costs_one_insert(django_assert_num_queries):
    with django_assert_num_queries(1):
        new_payment()


BORDERS = 2
"""The beginning and the commit of a transaction."""


STARTING = {
    # Write ahead; store the page and conclude in one.
    "postgresql": 2,
    # Write ahead; store the page, conclude.
    "sqlite": 3 + BORDERS,
    # Lock, write ahead; store the page, conclude.
    "mysql": 4 + 2 * BORDERS,
}


@pytest.mark.django_db(transaction=True)
def test_starting_costs_few_statements(django_assert_num_queries):
    payment = new_payment()
    with django_assert_num_queries(STARTING[connection.vendor]):
        start_payment(payment)


def test_starting_what_was_read_costs_four_statements(django_assert_num_queries):
    new_payment()
    payment = Payment.objects.get()
    # Lock, write ahead; store the page, conclude.
    with django_assert_num_queries(4 + 2 * SAVEPOINTS):
        start_payment(payment)


def test_showing_the_same_page_again_costs_one_read(django_assert_num_queries):
    start_payment(payment := new_payment())
    with django_assert_num_queries(1):
        start_payment(payment)
