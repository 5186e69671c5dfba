"""Payer: what its one public page says, said again by hand and compared with ours."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money

from django_multipay.enums import (
    CaptureMode,
    DeclineCode,
    PaymentStatus,
    WebhookOutcome,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidAmount,
    InvalidOperation,
    MalformedWebhook,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    UnexpectedAnswer,
    UnsupportedOperation,
    WebhookError,
)
from django_multipay.messages import (
    Buyer,
    Decline,
    IncomingRequest,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    ProviderEvent,
    Redirect,
)
from django_multipay.providers.payer import PayerProvider
from django_multipay.testing.provider_contract import (
    LocalServer,
    ProviderContract,
    Reply,
)
from django_multipay.testing.sandbox_contract import SandboxContract

API_KEY = "payer-api-key-canary"
OPTIONS = {"api_key": API_KEY, "base_url": "https://payer.example/api"}
CHECKOUT = "https://checkout.example/pay_1"


def usd(text: str) -> Money:
    return Money(Decimal(text), "USD")


# All response fields of the page; the values are ours, its sample is missing.
ANSWER: dict[str, Any] = {
    "id": "pay_1",
    "amount": 2630,
    "currency": "usd",
    "status": "pending",
    "checkout_url": CHECKOUT,
    "customer_email": "buyer@shop.example",
    "customer_name": "Hong Gil Dong",
    "metadata": {"merchant_reference": "MP-7", "order_id": "1001"},
    "created_at": "2026-11-21T08:00:00Z",
}


class TestContract(ProviderContract):
    provider_class = PayerProvider
    options = OPTIONS

    def reply(self, call):
        if call.method == "POST":
            return Reply(json=ANSWER | {"metadata": call.json["metadata"]})
        paid = {
            "status": "completed",
            "metadata": {"merchant_reference": "MP-CONTRACT-1"},
        }
        return Reply(json=ANSWER | paid)

    def unknown_status(self, call):
        return Reply(json=ANSWER | {"status": "partially_refunded"})

    def query(self):
        # Payer finds a payment by its own id only.
        return replace(super().query(), provider_reference="pay_1")


@pytest.fixture
def server():
    with LocalServer(lambda call: Reply(json=ANSWER)) as server:
        yield server


def provider_with(**options: Any) -> PayerProvider:
    values = OPTIONS | options
    return PayerProvider(
        "payer", PayerProvider.options_class.from_mapping(values, alias="payer")
    )


@pytest.fixture
def provider(server):
    return provider_with(base_url=server.url)


def request(**changes: Any) -> PaymentRequest:
    values: dict[str, Any] = {
        "key": "5c7c0f1e-8f6b-4f5c-8f0e-2d6f3f3b9a11",
        "merchant_reference": "MP-7",
        "order_id": "1001",
        "amount": usd("26.30"),
        "return_url": "https://shop.example/payments/return/signed/",
        "status_url": "https://shop.example/payments/status/signed/",
    }
    return PaymentRequest(**values | changes)


def query(**changes: Any) -> PaymentQuery:
    values: dict[str, Any] = {
        "merchant_reference": "MP-7",
        "provider_reference": "pay_1",
        "amount": usd("26.30"),
    }
    return PaymentQuery(**values | changes)


# Create -----------------------------------------------------------------------------


def test_every_field_of_the_reference_can_be_sent(provider, server):
    provider.start_payment(
        request(
            buyer=Buyer(name="Hong Gil Dong", email="buyer@shop.example"),
            metadata={"campaign": "spring", "visits": 3, "is_gift": True},
        )
    )
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/payments")
    assert call.headers["authorization"] == "Bearer payer-api-key-canary"
    assert call.headers["content-type"] == "application/json"
    key = call.headers["idempotency-key"]
    assert key == "5c7c0f1e-8f6b-4f5c-8f0e-2d6f3f3b9a11"
    assert call.json == {
        "amount": 2630,
        "currency": "usd",
        "return_url": "https://shop.example/payments/return/signed/",
        "customer_email": "buyer@shop.example",
        "customer_name": "Hong Gil Dong",
        "metadata": {
            "merchant_reference": "MP-7",
            "order_id": "1001",
            "campaign": "spring",
            "visits": 3,
            "is_gift": True,
        },
    }
    assert type(call.json["amount"]) is int
    assert call.json["metadata"]["is_gift"] is True


def test_what_has_no_value_is_left_out(provider, server):
    provider.start_payment(request())
    assert server.calls[0].json == {
        "amount": 2630,
        "currency": "usd",
        "return_url": "https://shop.example/payments/return/signed/",
        "metadata": {"merchant_reference": "MP-7", "order_id": "1001"},
    }


def test_the_buyer_goes_to_the_checkout(provider):
    assert provider.start_payment(request()) == PaymentSnapshot(
        status=PaymentStatus.PENDING,
        provider_reference="pay_1",
        merchant_reference="MP-7",
        amount=usd("26.30"),
        provider_status="pending",
        next_action=Redirect(CHECKOUT),
    )


def test_a_repeated_start_is_the_same_request(provider, server):
    for _ in range(2):
        provider.start_payment(request())
    first, second = server.calls
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("completed", PaymentStatus.PAID),
        ("failed", PaymentStatus.FAILED),
        ("refunded", PaymentStatus.REFUNDED),
    ],
)
def test_a_repeated_start_may_find_the_payment_over(provider, server, status, expected):
    over = {name: ANSWER[name] for name in ANSWER if name != "checkout_url"}
    server.reply = lambda call: Reply(json=over | {"status": status})
    snapshot = provider.start_payment(request())
    assert snapshot.status is expected
    assert snapshot.next_action is None
    assert snapshot.amount == usd("26.30")
    assert snapshot.merchant_reference == "MP-7"


def test_created_is_a_success_too_although_the_page_says_200(provider, server):
    server.reply = lambda call: Reply(status=201, json=ANSWER)
    assert provider.start_payment(request()).provider_reference == "pay_1"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"id": ""},
        {"id": 7},
        {"id": "pay 1"},
        {"id": "../shops"},
        {"id": "x" * 101},
        {"checkout_url": None},
        {"checkout_url": ""},
        {"checkout_url": "/pay_1"},
        {"checkout_url": "javascript:alert(1)"},
        {"checkout_url": ["https://checkout.example/"]},
    ],
)
def test_a_success_without_id_or_checkout_leaves_the_outcome_open(
    provider, server, changes
):
    server.reply = lambda call: Reply(json=ANSWER | changes)
    with pytest.raises(OutcomeUnknown):
        provider.start_payment(request())


def test_the_paths_are_options_for_no_page_has_them(server):
    provider = provider_with(
        base_url=f"{server.url}/v2/",
        create_path="/shop/payment",
        retrieve_path="/shop/payment/{id}/status",
    )
    provider.start_payment(request())
    provider.fetch_payment(query())
    assert [(call.method, call.path) for call in server.calls] == [
        ("POST", "/v2/shop/payment"),
        ("GET", "/v2/shop/payment/pay_1/status"),
    ]


def test_the_first_of_two_keys_is_sent(server):
    provider = provider_with(base_url=server.url, api_key=["new-key", "old-key"])
    provider.start_payment(request())
    assert server.calls[0].headers["authorization"] == "Bearer new-key"


# Amounts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cents"),
    [("0.50", 50), ("1", 100), ("26.30", 2630), ("100.00", 10000)],
)
def test_an_amount_is_in_cents_and_10000_is_a_hundred_dollars(
    provider, server, text, cents
):
    """Where the page says that 10000 is 0.50."""
    server.reply = lambda call: Reply(json=ANSWER | {"amount": cents})
    snapshot = provider.start_payment(request(amount=usd(text)))
    assert server.calls[0].json["amount"] == cents
    assert snapshot.amount == usd(text)


@pytest.mark.parametrize(
    "amount",
    [
        usd("0.49"),
        usd("0"),
        usd("-1"),
        usd("1.005"),
        usd("NaN"),
        Money(10, "EUR"),
        Money(1000, "KRW"),
    ],
)
def test_any_other_amount_is_refused_before_it_is_sent(provider, server, amount):
    assert not provider.can_take(amount)
    with pytest.raises(InvalidAmount) as caught:
        provider.start_payment(request(amount=amount))
    assert caught.value.field == "amount"
    assert "50 cents" in str(caught.value)
    assert server.calls == []


def test_the_minimum_itself_is_taken(provider):
    assert provider.can_take(usd("0.50"))


# What is refused before anything is sent --------------------------------------------


@pytest.mark.parametrize(
    "wish",
    [
        {"capture_mode": CaptureMode.MANUAL},
        {"method": "card"},
        {"save_token": True},
        {"token": "T"},
    ],
)
def test_what_payer_cannot_be_told_is_refused(provider, server, wish):
    with pytest.raises(UnsupportedOperation) as caught:
        provider.start_payment(request(**wish))
    assert [caught.value.field] == list(wish)
    assert server.calls == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"return_url": ""}, "return_url"),
        ({"return_url": "/payments/return/signed/"}, "return_url"),
        ({"return_url": "shop.example/return/"}, "return_url"),
        ({"return_url": "javascript:alert(1)"}, "return_url"),
        ({"return_url": "https://shop.example/a b"}, "return_url"),
        ({"provider_data": {"theme": "dark"}}, "provider_data.theme"),
        ({"metadata": {"tags": ["a"]}}, "metadata.tags"),
        ({"metadata": {"cart": {"a": 1}}}, "metadata.cart"),
        ({"metadata": {"note": None}}, "metadata.note"),
        ({"metadata": {"order_id": "1002"}}, "metadata.order_id"),
        ({"metadata": {"merchant_reference": "x"}}, "metadata.merchant_reference"),
    ],
)
def test_a_wrong_field_is_named(provider, server, changes, field):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(**changes))
    assert caught.value.field == field
    assert field in str(caught.value)
    assert server.calls == []


def test_the_shop_may_repeat_what_we_say_ourselves(provider, server):
    provider.start_payment(request(metadata={"order_id": "1001"}))
    assert server.calls[0].json["metadata"] == {
        "merchant_reference": "MP-7",
        "order_id": "1001",
    }


def test_fifty_keys_are_taken_ours_among_them(provider, server):
    shop = {f"k{number}": number for number in range(48)}
    provider.start_payment(request(metadata=shop))
    assert len(server.calls[0].json["metadata"]) == 50
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(metadata=shop | {"one": "more"}))
    assert caught.value.field == "metadata"
    assert "51 keys" in str(caught.value)
    assert len(server.calls) == 1


# '{"merchant_reference":"MP-7","order_id":"1001","note":"…"}' without the note.
OUR_BYTES = 57


@pytest.mark.parametrize(
    ("letter", "bytes_each"), [("x", 1), ("é", 2), ("한", 3), ('"', 2)]
)
def test_five_kilobytes_are_counted_as_they_are_written(
    provider, server, letter, bytes_each
):
    count, padding = divmod(5000 - OUR_BYTES, bytes_each)
    note = letter * count + "x" * padding
    provider.start_payment(request(metadata={"note": note}))
    assert server.calls[0].json["metadata"]["note"] == note
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(metadata={"note": f"{note}x"}))
    assert caught.value.field == "metadata"
    assert "5001 bytes" in str(caught.value)
    assert len(server.calls) == 1


# Errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "of_create", "of_retrieve"),
    [
        (400, RequestRejected, RequestRejected),
        # A missing, malformed, unknown or deleted key, and also an inactive shop.
        (401, CredentialsRejected, CredentialsRejected),
        (429, ProviderUnavailable, ProviderUnavailable),
        (500, OutcomeUnknown, ProviderUnavailable),
        # Not in the page: the same key with another body, perhaps.
        (409, RequestRejected, RequestRejected),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"error": "payer-api-key-canary is wrong"}'])
def test_an_error_speaks_by_its_status(
    provider, server, caplog, body, status, of_create, of_retrieve
):
    caplog.set_level(logging.DEBUG)
    server.reply = lambda call: Reply(
        status=status, body=body, headers={"Retry-After": "7"}
    )
    for call, expected in (
        (lambda: provider.start_payment(request()), of_create),
        (lambda: provider.fetch_payment(query()), of_retrieve),
    ):
        with pytest.raises(ProviderError) as caught:
            call()
        error = caught.value
        assert type(error) is expected
        assert (error.http_status, error.retry_after) == (status, 7)
        assert API_KEY not in f"{error!r} {caplog.text}"


# Retrieve ---------------------------------------------------------------------------


def test_the_payment_is_asked_for_by_payers_own_id(provider, server):
    provider.fetch_payment(query())
    (call,) = server.calls
    assert (call.method, call.path, call.body) == ("GET", "/payments/pay_1", b"")
    assert call.headers["authorization"] == "Bearer payer-api-key-canary"
    assert "idempotency-key" not in call.headers


def test_an_id_stays_one_piece_of_the_path(provider, server):
    strange = "a/b?c#d%2e.."
    server.reply = lambda call: Reply(json=ANSWER | {"id": strange})
    provider.fetch_payment(query(provider_reference=strange))
    assert server.calls[0].path == "/payments/a%2Fb%3Fc%23d%252e.."


def test_without_an_id_there_is_nothing_to_ask_for(provider, server):
    assert provider.fetch_payment(query(provider_reference="")) == PaymentSnapshot(
        status=PaymentStatus.PENDING, merchant_reference="MP-7"
    )
    assert server.calls == []


@pytest.mark.parametrize(
    ("word", "status", "captured"),
    [
        ("pending", PaymentStatus.PENDING, None),
        ("completed", PaymentStatus.PAID, usd("26.30")),
        ("failed", PaymentStatus.FAILED, None),
        ("refunded", PaymentStatus.REFUNDED, usd("26.30")),
    ],
)
def test_each_status_word_has_its_meaning(provider, server, word, status, captured):
    server.reply = lambda call: Reply(json=ANSWER | {"status": word})
    snapshot = provider.fetch_payment(query())
    assert snapshot == PaymentSnapshot(
        status=status,
        provider_reference="pay_1",
        merchant_reference="MP-7",
        amount=usd("26.30"),
        captured=captured,
        provider_status=word,
        decline=Decline(code=DeclineCode.GENERIC, provider_code="failed")
        if word == "failed"
        else None,
    )


@pytest.mark.parametrize(
    "word",
    ["canceled", "expired", "partially_refunded", "Completed", "paid", "", None, True],
)
def test_any_other_word_is_pending_and_logged(provider, server, caplog, word):
    server.reply = lambda call: Reply(json=ANSWER | {"status": word})
    snapshot = provider.fetch_payment(query())
    assert snapshot.status is PaymentStatus.PENDING
    assert snapshot.captured is None
    assert "unknown" in caplog.text


@pytest.mark.parametrize("answer_id", ["pay_2", "PAY_1", "", None, 7])
def test_an_answer_about_another_payment_is_not_read(provider, server, answer_id):
    server.reply = lambda call: Reply(
        json=ANSWER | {"id": answer_id, "status": "completed"}
    )
    with pytest.raises(UnexpectedAnswer):
        provider.fetch_payment(query())


@pytest.mark.parametrize(
    ("metadata", "reference"),
    [
        ({"merchant_reference": "MP-7"}, "MP-7"),
        ({"merchant_reference": "MP-8"}, "MP-8"),
        ({"merchant_reference": ""}, None),
        ({"merchant_reference": 7}, None),
        ({"order_id": "1001"}, None),
        ({}, None),
        (None, None),
        ([], None),
        ("MP-7", None),
    ],
)
def test_our_reference_comes_from_the_metadata_or_not_at_all(
    provider, server, metadata, reference
):
    """The core compares it; what we asked for is no answer."""
    server.reply = lambda call: Reply(json=ANSWER | {"metadata": metadata})
    assert provider.fetch_payment(query()).merchant_reference == reference


@pytest.mark.parametrize("currency", ["usd", "USD", "Usd"])
def test_the_currency_is_read_in_any_case(provider, server, currency):
    server.reply = lambda call: Reply(json=ANSWER | {"currency": currency})
    assert provider.fetch_payment(query()).amount == usd("26.30")


def test_another_amount_or_currency_is_told_as_it_is(provider, server):
    other = {"amount": 10000, "currency": "krw", "status": "completed"}
    server.reply = lambda call: Reply(json=ANSWER | other)
    snapshot = provider.fetch_payment(query())
    assert snapshot.captured == snapshot.amount == Money(10000, "KRW")


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": None},
        {"amount": True},
        {"amount": ""},
        {"amount": "26,30"},
        {"amount": 10**40},
        {"currency": None},
        {"currency": ""},
        {"currency": "dollars"},
        {"currency": 840},
    ],
)
def test_an_amount_nobody_can_read_is_left_out(provider, server, changes):
    """Then nothing can be compared, and the core holds the answer."""
    server.reply = lambda call: Reply(json=ANSWER | {"status": "completed"} | changes)
    snapshot = provider.fetch_payment(query())
    assert snapshot.status is PaymentStatus.PAID
    assert snapshot.amount is snapshot.captured is None


def test_half_a_cent_is_no_amount(provider, server):
    body = json.dumps(ANSWER | {"status": "completed"}).replace("2630", "2630.5")
    server.reply = lambda call: Reply(body=body.encode())
    assert provider.fetch_payment(query()).amount is None


def test_optional_values_may_be_null_or_missing(provider, server):
    for answer in (
        ANSWER | {"customer_email": None, "customer_name": None, "created_at": None},
        {name: ANSWER[name] for name in ("id", "amount", "currency", "status")},
    ):
        server.reply = lambda call, answer=answer: Reply(json=answer)
        assert provider.fetch_payment(query()).amount == usd("26.30")


def test_nothing_personal_is_kept(provider, server):
    text = repr(provider.fetch_payment(query()))
    assert "buyer@shop.example" not in text
    assert "Hong" not in text


# Webhooks and returns: hints --------------------------------------------------------


def posted(message: object) -> IncomingRequest:
    return IncomingRequest(
        method="POST",
        body=message if isinstance(message, bytes) else json.dumps(message).encode(),
        content_type="application/json",
    )


def returned(query_string: str) -> IncomingRequest:
    return IncomingRequest(
        method="GET", body=b"", query_string=query_string, is_by_buyer=True
    )


HINT = [
    ProviderEvent(
        snapshot=PaymentSnapshot(
            status=PaymentStatus.PENDING, provider_reference="pay_1"
        )
    )
]


@pytest.mark.parametrize(
    "message",
    [
        ANSWER,
        ANSWER | {"status": "completed"},
        {"payment_id": "pay_1"},
        {"paymentId": "pay_1", "id": "evt_1"},
        {"event": "payment.completed", "payment": "pay_1"},
        {"id": "evt_1", "event": "payment.completed", "payment": ANSWER},
        {"id": "evt_1", "type": "payment.completed", "data": ANSWER},
        {"id": "evt_1", "data": {"object": ANSWER}},
        {"id": "evt_1", "data": {"payment": ANSWER}},
        {"id": "evt_1", "data": {"payment": "pay_1"}},
        {"id": "evt_1", "data": {"payment_id": "pay_1", "id": "ch_1"}},
        {"id": "evt_1", "data": {"paymentId": "pay_1"}},
        # A place of no use does not hide the next one.
        {"payment_id": None, "payment": [], "data": "none", "id": "pay_1"},
        {"payment_id": "pay 1", "id": "pay_1"},
    ],
    ids=str,
)
def test_a_webhook_says_which_payment_to_ask_about_and_no_more(provider, message):
    provider.verify_webhook(posted(message))
    assert provider.parse_webhook(posted(message)) == HINT
    assert provider.identify_return(posted(message)) == ""


@pytest.mark.parametrize(
    "query_string",
    [
        "payment_id=pay_1",
        "paymentId=pay_1",
        "payment=pay_1",
        "id=pay_1",
        "status=completed&payment_id=pay_1",
        "id=evt_1&payment_id=pay_1",
        "payment_id=pay%5F1",
        "status=&payment_id=pay_1",
    ],
)
def test_a_return_says_the_same_under_whatever_name(provider, query_string):
    provider.verify_webhook(returned(query_string))
    assert provider.parse_webhook(returned(query_string)) == HINT
    assert provider.identify_return(returned(query_string)) == ""


def test_neither_makes_a_call(provider, server):
    provider.verify_webhook(posted(ANSWER))
    provider.parse_webhook(posted(ANSWER))
    assert server.calls == []


@pytest.mark.parametrize(
    "incoming",
    [
        posted(b""),
        posted(b"payment_id=pay_1"),
        posted(b'"pay_1"'),
        posted(["pay_1"]),
        posted({}),
        posted({"status": "completed"}),
        posted({"id": ""}),
        posted({"id": None}),
        posted({"id": 7}),
        posted({"id": ["pay_1"]}),
        posted({"id": "pay 1"}),
        posted({"id": "pay_1\n"}),
        posted({"id": "../pay_1"}),
        posted({"id": "pay+1"}),
        posted({"id": "zählung"}),
        posted({"id": "x" * 101}),
        posted(b'{"id": "pay_1", "id": "pay_2"}'),
        replace(posted(b""), query_string="id=pay_1"),
        returned(""),
        returned("status=completed"),
        returned("id="),
        returned("id=pay_1&id=pay_2"),
        returned("id=pay_1&id=pay_1"),
        returned("id=pay%201"),
        returned("&".join(f"f{number}=1" for number in range(101)) + "&id=pay_1"),
    ],
    ids=lambda incoming: f"{incoming.method} {incoming.body!r} {incoming.query_string}"[
        :60
    ],
)
def test_what_names_no_payment_is_refused(provider, incoming):
    for read in (provider.verify_webhook, provider.parse_webhook):
        with pytest.raises(MalformedWebhook):
            read(incoming)


def test_the_place_of_the_id_is_an_option_for_no_page_has_it():
    message = {"id": "evt_1", "event": {"subject": {"id": "pay_1"}}}
    usual, told = provider_with(), provider_with(webhook_id_field="event.subject.id")
    (event,) = usual.parse_webhook(posted(message))
    assert event.snapshot.provider_reference == "evt_1"
    assert told.parse_webhook(posted(message)) == HINT
    # A return has its own shape.
    assert told.parse_webhook(returned("payment_id=pay_1")) == HINT


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (WebhookOutcome.ACCEPTED, 200),
        (WebhookOutcome.DEFERRED, 503),
        (WebhookOutcome.REFUSED, 400),
    ],
)
def test_the_answer_is_the_status(outcome, status):
    answer = provider_with().webhook_answer(outcome)
    assert (answer.status, answer.body) == (status, "")


NAMES = st.sampled_from(["id", "payment_id", "payment", "data", "object"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda items: st.lists(items) | st.dictionaries(NAMES | st.text(), items),
    max_leaves=8,
)


@given(
    body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()),
    query_string=st.text(),
)
def test_any_message_names_a_payment_or_is_refused(body, query_string):
    provider = provider_with()
    for incoming in (posted(body), returned(query_string)):
        try:
            provider.verify_webhook(incoming)
        except WebhookError:
            continue
        (event,) = provider.parse_webhook(incoming)
        assert event.snapshot.status is PaymentStatus.PENDING
        assert 0 < len(event.snapshot.provider_reference) <= 100


# Options ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api_key": "Bearer abc"}, "Bearer"),
        ({"create_path": "payments"}, "create_path"),
        ({"create_path": "/payments?shop=1"}, "create_path"),
        ({"create_path": "/pay ments"}, "create_path"),
        ({"retrieve_path": "payments/{id}"}, "retrieve_path"),
        ({"retrieve_path": "/payments/:id"}, "{id}"),
    ],
)
def test_a_slip_in_the_options_is_found(options, words):
    (problem,) = provider_with(**options).problems()
    assert words in problem


def test_only_https_goes_live():
    assert list(provider_with().deploy_problems()) == []
    (problem,) = provider_with(base_url="http://127.0.0.1:8100").deploy_problems()
    assert "base_url" in problem


# Both sides together ---------------------------------------------------------------


class TestSandbox(SandboxContract):
    provider_class = PayerProvider
    # Sandbox Shop and Other Shop, as the sandbox made them up.
    options = {"api_key": "payer_test_5Wd8Qk2Zr7Tn4Yb9Hc3Mx6Vp"}
    foreign_options = {"api_key": "payer_test_9Fj3Lg6Sx2Ra8Ue5Kt7Bw4Nq"}
    wrong_options = {"api_key": "payer_test_000000000000000000000000"}
    base_path = "/payer"
    written = "2630"
    operations = {"start_payment": "create", "fetch_payment": "retrieve"}
    # A buyer who goes back may still pay; nothing expires.
    outcomes = {
        "approve": (PaymentStatus.PAID, None),
        "decline": (PaymentStatus.FAILED, None),
        "cancel": (PaymentStatus.PENDING, None),
    }
