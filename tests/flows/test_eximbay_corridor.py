"""Every way a payment at Eximbay can go, over real HTTP with the sandbox."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import permutations

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path
from django.utils import timezone
from moneyed import Money

from django_multipay import signals
from django_multipay.enums import (
    DeclineCode,
    OperationState,
    PaymentStatus,
    ReviewReason,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
)
from django_multipay.flows import (
    create_payment,
    start_payment,
    sync_payment,
)
from django_multipay.messages import Buyer, ProviderScript
from django_multipay.models import Operation, Payment, Token, WebhookDelivery
from tests.corridor import ACCEPTED, Corridor, Messages, reconcile_later

pytestmark = pytest.mark.django_db

BUYER = Buyer(name="Hong Gil Dong", email="buyer@example.com")
DOLLARS = Money("26.30", "USD")
WON = Money("132000", "KRW")
ORDERS = [
    ["status", "return"],
    ["return", "status"],
    ["status", "status", "return", "return"],
    ["return", "return", "status", "return", "status"],
]


def order(amount: Money = DOLLARS, **more) -> Payment:
    """A payment that waits for its buyer at Eximbay."""
    payment = create_payment(
        provider="eximbay", order_id="1001", amount=amount, buyer=BUYER, **more
    )
    start_payment(payment)
    return payment


def deliver(corridor: Corridor, said: Messages, door: str):
    """Carry one message to its door; the buyer who never came back carries none."""
    if door == "status":
        return corridor.send(said.status_path, said.status_body)
    if not said.return_body:
        return None
    return corridor.send(said.return_path, said.return_body)


def switch(corridor: Corridor, **settings) -> None:
    corridor.sandbox.post("/_control/settings", {"eximbay": settings})


def kinds(payment: Payment) -> list[str]:
    return [fact.kind for fact in payment.transactions.all()]


# Outcomes ------------------------------------------------------------------------------

OUTCOMES = {
    "approve": ("approve", {}, {}, "paid", "", ["payment_paid"]),
    "decline": (
        "decline",
        {"rescode": "HE02"},
        {},
        "failed",
        DeclineCode.INCORRECT_CVC,
        ["payment_failed"],
    ),
    "cancel": (
        "cancel",
        {},
        {},
        "failed",
        DeclineCode.GENERIC,
        ["payment_failed"],
    ),
    "close": ("close", {}, {}, "paid", "", ["payment_paid"]),
    "close after a refusal": (
        "close",
        {"rescode": "HE02"},
        {},
        "failed",
        DeclineCode.INCORRECT_CVC,
        ["payment_failed"],
    ),
    "register": ("register", {}, {"amount": WON}, "awaiting_funds", "", []),
    "review": ("review", {}, {}, "in_review", "", ["payment_needs_review"]),
    "authorize": ("approve", {}, {"capture_mode": "manual"}, "authorized", "", []),
    "authenticate": (
        "approve",
        {},
        {"provider_data": {"transaction_type": "PAYER_AUTH"}},
        "authenticated",
        "",
        [],
    ),
}


@pytest.mark.parametrize("doors", ORDERS, ids="-".join)
@pytest.mark.parametrize(
    ("outcome", "choices", "wishes", "status", "decline", "expected"),
    OUTCOMES.values(),
    ids=OUTCOMES.keys(),
)
def test_an_outcome_is_the_same_whichever_message_comes_first_and_how_often(
    corridor, listen, doors, outcome, choices, wishes, status, decline, expected
):
    told = listen("payment_paid", "payment_failed", "payment_needs_review")
    changes = listen("payment_status_changed")
    payment = order(**wishes)
    said = corridor.pay(payment, outcome, **choices)
    answers = [deliver(corridor, said, door) for door in doors]
    assert {answer.status_code for answer in answers if answer} <= {200, 303}
    payment.refresh_from_db()
    assert payment.status == status
    assert payment.decline_code == decline
    assert [news["name"] for news in told] == expected
    assert len(changes) == 1
    assert sum(delivery.attempts for delivery in WebhookDelivery.objects.all()) == 1


def test_each_door_answers_in_its_own_way(corridor):
    payment = order()
    said = corridor.pay(payment)
    status = deliver(corridor, said, "status")
    assert (status.status_code, status.content) == (200, ACCEPTED)
    returned = deliver(corridor, said, "return")
    assert returned.status_code == 303
    assert returned["Location"] == payment.get_outcome_url()
    assert not returned.cookies


def test_a_paid_payment_knows_what_staff_will_ask_for(corridor):
    payment = order()
    deliver(corridor, corridor.pay(payment, method="P101"), "status")
    payment.refresh_from_db()
    assert payment.captured == DOLLARS
    assert payment.provider_reference.startswith("1849705C64")
    assert payment.method == "P101"
    assert payment.details["payment_method_name"] == "VISA"
    assert payment.details["card_last4"] == "1111"
    (fact,) = payment.transactions.all()
    assert fact.kind == TransactionKind.CAPTURE
    assert abs(fact.occurred_at - timezone.now()) < timedelta(minutes=5)


def test_a_buyer_who_went_back_is_canceled_where_the_code_is_known(corridor, settings):
    accounts = settings.MULTIPAY["PROVIDERS"]
    accounts["eximbay"]["OPTIONS"]["cancel_codes"] = ["XC00"]
    settings.MULTIPAY = {**settings.MULTIPAY}
    payment = order()
    deliver(corridor, corridor.pay(payment, "cancel"), "return")
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.CANCELED


@pytest.mark.parametrize(
    ("amount", "method", "details"),
    [
        (WON, "P305", {"virtual_account_number", "virtual_account_bank_name"}),
        (Money("5400", "JPY"), "P006", {"payment_url"}),
    ],
)
def test_a_deposit_is_awaited_and_then_paid(corridor, listen, amount, method, details):
    paid = listen("payment_paid")
    payment = order(amount)
    deliver(corridor, corridor.pay(payment, "register", method=method), "return")
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.AWAITING_FUNDS
    assert details <= set(payment.details)
    assert payment.next_action is None
    assert not paid
    desk = f"/_control/eximbay/payments/{payment.merchant_reference}"
    corridor.sandbox.post(f"{desk}/deposit")
    *_, notice = corridor.sandbox.get("/_control/callbacks")
    corridor.send(corridor_status(corridor, payment), notice["body"])
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert kinds(payment) == [TransactionKind.REGISTRATION, TransactionKind.CAPTURE]
    assert len(paid) == 1


def corridor_status(corridor: Corridor, payment: Payment) -> str:
    url = corridor.sandbox.get(
        f"/_control/eximbay/payments/{payment.merchant_reference}"
    )["status_url"]
    return url.removeprefix("http://testserver")


def test_a_review_keeps_the_money_and_delivers_nothing(corridor, listen):
    paid = listen("payment_paid")
    payment = order()
    said = corridor.pay(payment, "review")
    for door in ("return", "status", "return"):
        deliver(corridor, said, door)
    sync_payment(payment)
    assert payment.status == PaymentStatus.IN_REVIEW
    assert payment.review_reason == ReviewReason.RISK_REVIEW
    assert payment.captured == DOLLARS
    assert payment.paid_at is None
    assert not paid


@pytest.mark.parametrize("doors", list(permutations(["status", "return"])))
def test_a_success_that_the_books_deny_is_never_believed(corridor, listen, doors):
    paid = listen("payment_paid")
    payment = order()
    said = corridor.pay(payment, "contradict")
    for door in doors:
        deliver(corridor, said, door)
    Payment.objects.update(sync_at=timezone.now())
    reconcile_later()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.FAILED
    assert not paid
    assert not WebhookDelivery.objects.filter(verdict=Verdict.STORED).exists()


def test_a_return_that_says_yes_too_early_waits_for_the_proof(corridor):
    payment = order()
    said = corridor.pay(payment, "contradict")
    assert deliver(corridor, said, "return").status_code == 303
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.STORED
    assert "does not confirm the money yet" in delivery.error


# Other ways to write the same --------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        {"legacy_key_names": True},
        {"version_key": "ver"},
        {"comma_amounts": True},
        {"legacy_key_names": True, "comma_amounts": True},
        {"status_in_callback": "always"},
        {"status_in_callback": "never"},
        {"errcode_in_callback": True},
        {"card_field_spelling": "card_number"},
        {"retrieve_amount_as_text": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("amount", [WON, Money("1320.00", "USD")], ids=str)
def test_every_known_spelling_of_a_message_is_understood(corridor, spelling, amount):
    switch(corridor, **spelling)
    payment = order(amount)
    said = corridor.pay(payment, method="P101")
    assert deliver(corridor, said, "status").content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert payment.captured == amount


def test_the_buyer_may_come_back_by_a_link(corridor):
    payment = order()
    said = corridor.pay(payment)
    answer = Client().get(f"{said.return_path}?{said.return_body}")
    assert answer.status_code == 303
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    # The same words by another way are the same message.
    assert deliver(corridor, said, "status").content == ACCEPTED
    assert WebhookDelivery.objects.count() == 1


def test_a_return_without_a_word_proves_nothing(corridor):
    payment = order()
    said = corridor.pay(payment)
    assert Client().get(said.return_path).status_code == 303
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING


# Trouble on the line -----------------------------------------------------------------

FAULTS = {
    # A read is repeated once by itself when the line broke, so it breaks twice.
    "drop_before": 2,
    "drop_after": 2,
    "truncate": 2,
    "status": 1,
    "html": 1,
    "garbage": 1,
    "redirect": 1,
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_start_that_failed_can_be_repeated(corridor, kind):
    corridor.fault("ready", kind, times=FAULTS[kind])
    payment = create_payment(
        provider="eximbay", order_id="1001", amount=DOLLARS, buyer=BUYER
    )
    with pytest.raises(ProviderError):
        start_payment(payment)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.CREATED
    assert payment.action is None
    assert Operation.objects.get().state in {
        OperationState.REQUESTED,
        OperationState.UNKNOWN,
    }
    assert isinstance(start_payment(payment), ProviderScript)
    deliver(corridor, corridor.pay(payment), "status")
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


@pytest.mark.parametrize("door", ["status", "return"])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_message_that_could_not_be_verified_is_asked_for_again(corridor, kind, door):
    payment = order()
    said = corridor.pay(payment)
    corridor.fault("verify", kind, times=FAULTS[kind])
    answer = deliver(corridor, said, door)
    assert answer.status_code == (503 if door == "status" else 303)
    assert b"rescode=0000" not in answer.content
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING
    assert not WebhookDelivery.objects.exists()
    deliver(corridor, said, door)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


@pytest.mark.parametrize("healer", ["the provider's retry", "reconcile"])
@pytest.mark.parametrize("outcome", ["approve", "decline"])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_message_that_could_not_be_confirmed_is_kept(
    corridor, listen, kind, outcome, healer
):
    told = listen("payment_paid", "payment_failed")
    payment = order()
    said = corridor.pay(payment, outcome)
    corridor.fault("retrieve", kind, times=FAULTS[kind])
    assert deliver(corridor, said, "status").status_code == 503
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING
    assert WebhookDelivery.objects.get().verdict == Verdict.STORED
    assert not told
    if healer == "reconcile":
        assert reconcile_later().deliveries == 1
    else:
        assert deliver(corridor, said, "status").content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == ("paid" if outcome == "approve" else "failed")
    assert len(told) == 1
    assert len(kinds(payment)) == 1


@pytest.mark.parametrize("operation", ["ready", "verify", "retrieve"])
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "truncate"])
def test_one_broken_line_is_not_even_noticed(corridor, operation, kind):
    corridor.fault(operation, kind, times=1)
    payment = order()
    assert deliver(corridor, corridor.pay(payment), "status").content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


@pytest.mark.parametrize("operation", ["ready", "verify", "retrieve"])
def test_a_slow_provider_is_waited_for(corridor, operation):
    corridor.fault(operation, "latency", seconds=0.2)
    payment = order()
    assert deliver(corridor, corridor.pay(payment), "status").content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


def test_an_inquiry_that_names_another_amount_is_held(corridor):
    payment = order()
    said = corridor.pay(payment)
    corridor.fault("retrieve", "wrong_amount")
    assert deliver(corridor, said, "status").content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH
    sync_payment(payment)
    assert payment.status == PaymentStatus.PAID


@pytest.mark.parametrize(
    ("outcome", "wishes", "status"),
    [
        ("approve", {}, PaymentStatus.PAID),
        ("approve", {"capture_mode": "manual"}, PaymentStatus.AUTHORIZED),
        ("register", {"amount": WON}, PaymentStatus.AWAITING_FUNDS),
    ],
)
def test_asking_alone_proves_a_payment_whose_messages_were_lost(
    corridor, listen, outcome, wishes, status
):
    changes = listen("payment_status_changed")
    payment = order(**wishes)
    corridor.pay(payment, outcome)
    assert sync_payment(payment) is Verdict.APPLIED
    assert payment.status == status
    assert sync_payment(payment) is Verdict.IGNORED
    assert len(changes) == 1


def test_asking_before_the_buyer_decided_changes_nothing(corridor):
    payment = order()
    assert sync_payment(payment) is Verdict.IGNORED
    assert payment.status == PaymentStatus.PENDING


def test_a_message_after_the_inquiry_changes_nothing_more(corridor, listen):
    paid = listen("payment_paid")
    payment = order()
    said = corridor.pay(payment)
    sync_payment(payment)
    for door in ("status", "return"):
        deliver(corridor, said, door)
    assert kinds(payment) == [TransactionKind.CAPTURE]
    assert len(paid) == 1


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("api_key", "test_0000000000000000", CredentialsRejected),
        ("base_url", "http://127.0.0.1:9", ProviderUnavailable),
    ],
)
def test_a_wrong_account_says_what_is_wrong(corridor, settings, option, value, error):
    settings.MULTIPAY["PROVIDERS"]["eximbay"]["OPTIONS"][option] = value
    settings.MULTIPAY = {**settings.MULTIPAY}
    with pytest.raises(error) as caught:
        order()
    assert "test_0000" not in str(caught.value)
    assert caught.value.operation == "ready"


def test_what_eximbay_refuses_is_refused_for_good(corridor):
    token = Token.objects.create(
        provider="eximbay", customer_id="42", provider_token="gone", token_digest="x"
    )
    with pytest.raises(RequestRejected) as caught:
        order(token=token, customer_id="42")
    assert caught.value.code == "EC00"
    assert "gone" not in str(caught.value)
    assert Operation.objects.get().state == OperationState.REFUSED


# A shop under ATOMIC_REQUESTS --------------------------------------------------------


def careless(request):
    """A shop's view that starts a payment inside its request's transaction."""
    start_payment(Payment.objects.get(), request)
    return HttpResponse()


urlpatterns = [
    path("careless/", careless),
    path("payments/", include("django_multipay.urls")),
]


@pytest.fixture
def atomic_requests(monkeypatch, settings) -> None:
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.mark.usefixtures("atomic_requests")
@pytest.mark.parametrize("doors", ORDERS[:2], ids="-".join)
def test_our_doors_work_where_every_request_is_a_transaction(corridor, doors):
    payment = order()
    said = corridor.pay(payment)
    for door in doors:
        deliver(corridor, said, door)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


@pytest.mark.usefixtures("atomic_requests")
def test_a_shops_view_in_a_transaction_is_told_what_to_do(corridor):
    payment = create_payment(
        provider="eximbay", order_id="1001", amount=DOLLARS, buyer=BUYER
    )
    with pytest.raises(RuntimeError, match="non_atomic_requests"):
        Client().get("/careless/")
    assert not corridor.calls()
    assert start_payment(payment) is not None


# The sandbox sends by itself ---------------------------------------------------------


@pytest.fixture
def live_corridor(corridor, live_server, settings) -> Corridor:
    """The shop on a real port, so that Eximbay's notices find it."""
    settings.MULTIPAY = {**settings.MULTIPAY, "SITE_URL": live_server.url}
    switch(corridor, callbacks_enabled=True, retry_count=5, retry_delay_seconds=0.05)
    return corridor


@pytest.fixture
def is_told() -> Iterator[threading.Event]:
    """The shop hears of it after the answer, so the provider may be done before."""
    told = threading.Event()

    def receiver(**_news: object) -> None:
        told.set()

    signals.payment_paid.connect(receiver)
    yield told
    signals.payment_paid.disconnect(receiver)


@pytest.mark.django_db(transaction=True)
def test_a_buyer_pays_and_the_shop_hears_of_it_without_any_return(
    live_corridor, listen, is_told
):
    paid = listen("payment_paid")
    payment = order()
    live_corridor.pay(payment, "close")
    sent = live_corridor.sandbox.post("/_control/callbacks/flush")
    assert sent == {"pending": 0, "delivered": 1, "undelivered": 0}
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert is_told.wait(timeout=30)
    assert len(paid) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("operation", ["verify", "retrieve"])
def test_eximbays_own_retry_heals_what_a_fault_broke(live_corridor, operation):
    payment = order()
    live_corridor.fault(operation, "status", times=2)
    live_corridor.pay(payment, "close")
    sent = live_corridor.sandbox.post("/_control/callbacks/flush")
    assert sent["delivered"] == 1
    (notice,) = live_corridor.sandbox.get("/_control/callbacks")
    assert [attempt["status"] for attempt in notice["attempts"]] == [503, 503, 200]
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


@pytest.mark.django_db(transaction=True)
def test_eight_equal_notices_at_once_make_one_fact(live_corridor, listen, is_told):
    paid = listen("payment_paid")
    payment = order()
    switch(live_corridor, callbacks_enabled=False)
    live_corridor.pay(payment, "close")
    (notice,) = live_corridor.sandbox.get("/_control/callbacks")
    address = f"/_control/callbacks/{notice['id']}/resend"
    sent = live_corridor.sandbox.post(f"{address}?times=8&concurrent=1")
    assert {attempt["status"] for attempt in sent["attempts"]} == {200}
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert kinds(payment) == [TransactionKind.CAPTURE]
    assert WebhookDelivery.objects.count() == 1
    assert is_told.wait(timeout=30)
    assert len({news["notice_id"] for news in paid}) == 1


# What a message costs ------------------------------------------------------------------

VALID = 16 + 4 * 2
"""Four transactions, which the test's own turns into savepoints and their releases, and
a write by itself."""

WRITES = re.compile(r"INSERT|UPDATE|DELETE|SAVEPOINT|REPLACE", re.IGNORECASE)


def test_a_valid_message_costs_a_fixed_number_of_statements(
    corridor, django_assert_num_queries
):
    said = corridor.pay(order())
    with django_assert_num_queries(VALID):
        deliver(corridor, said, "status")


def test_a_duplicate_costs_two_reads(corridor, django_assert_num_queries):
    said = corridor.pay(order())
    deliver(corridor, said, "status")
    with django_assert_num_queries(2) as statements:
        deliver(corridor, said, "return")
    assert not any(WRITES.match(item["sql"]) for item in statements.captured_queries)


@pytest.mark.parametrize("door", ["status", "return"])
def test_a_forged_message_costs_two_reads_and_writes_nothing(
    corridor, django_assert_num_queries, door
):
    switch(corridor, tamper_fgkey=True)
    said = corridor.pay(order())
    with django_assert_num_queries(2) as statements:
        deliver(corridor, said, door)
    assert not any(WRITES.match(item["sql"]) for item in statements.captured_queries)
