"""Excoinz ExPay: what its pages say, said again by hand and compared with ours."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money

from django_multipay import money
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
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    SignatureMismatch,
    UnsupportedOperation,
    WebhookError,
)
from django_multipay.messages import (
    Buyer,
    Decline,
    IncomingRequest,
    LineItem,
    PaymentRequest,
    PaymentSnapshot,
    ProviderEvent,
    Redirect,
)
from django_multipay.providers.excoinz import ExcoinzProvider
from django_multipay.testing.provider_contract import (
    LocalServer,
    ProviderContract,
    Reply,
)
from django_multipay.testing.sandbox_contract import SandboxContract

SECRET = "expay-secret-key-canary"
WEBHOOK_SECRET = "expay-webhook-secret-canary"
OPTIONS = {
    "client_id": "MERCHANT0001",
    "secret_key": SECRET,
    "base_url": "https://api.excoinz.com",
}
PAGE = "https://pay.excoinz.com/payment?locale=en&t=yourtoken"
"""The answer's own example; the page prints it without quotes around the key."""

EXCOINZ_ADDRESS = "13.229.255.195"


def usdt(text: str) -> Money:
    return Money(Decimal(text), money.currency_of("USDT"))


def posted(message: object, **kwargs: Any) -> IncomingRequest:
    return IncomingRequest(
        method="POST",
        body=message if isinstance(message, bytes) else json.dumps(message).encode(),
        content_type="application/json",
        **kwargs,
    )


# The six fields of the webhook page.
MESSAGE = {
    "secret": WEBHOOK_SECRET,
    "txId": "MP-7",
    "state": "success",
    "amount": "10.5",
    "symbol": "USDT",
    "refId": "EXPAY-1",
}


class TestContract(ProviderContract):
    provider_class = ExcoinzProvider
    options = OPTIONS | {"webhook_secret": WEBHOOK_SECRET}
    amount = usdt("10.50")
    webhook_secret = WEBHOOK_SECRET
    webhook_secret_option = "webhook_secret"
    # The secret is the whole proof: of the rest nothing can be found changed.
    webhook_changes: ClassVar[Sequence[tuple[bytes, bytes]]] = (
        (b'"secret": "', b'"secret": "x'),
        (b'canary"', b'canary "'),
        (b'"secret"', b'"Secret"'),
        (b'"state"', b'"secret": "x", "state"'),
        (b'"expay-webhook-secret-canary"', b"null"),
        (b'"expay-webhook-secret-canary"', b'["expay-webhook-secret-canary"]'),
        (b'"expay-webhook-secret-canary"', b'""'),
        (b'"expay-webhook-secret-canary"', b"true"),
        # The API's secret is no substitute where the webhook has its own.
        (b"expay-webhook-secret-canary", SECRET.encode()),
    )

    def reply(self, call):
        return Reply(json={"redirect_url": PAGE})

    def webhook(self, secret):
        return posted(MESSAGE | {"txId": "MP-CONTRACT-1", "secret": secret})

    def unsigned_webhook(self):
        return posted({name: MESSAGE[name] for name in MESSAGE if name != "secret"})


class TestContractWithOneSecret(TestContract):
    """The same, where the webhook carries the API's secret."""

    options = OPTIONS
    webhook_secret = SECRET
    webhook_secret_option = "secret_key"
    webhook_changes = ((b'"secret": "', b'"secret": "x'), (b'"secret"', b'"Secret"'))


@pytest.fixture
def server():
    with LocalServer(lambda call: Reply(json={"redirect_url": PAGE})) as server:
        yield server


def provider_with(**options: Any) -> ExcoinzProvider:
    values = OPTIONS | {"webhook_secret": WEBHOOK_SECRET} | options
    return ExcoinzProvider(
        "excoinz", ExcoinzProvider.options_class.from_mapping(values, alias="excoinz")
    )


@pytest.fixture
def provider(server):
    return provider_with(base_url=server.url)


def request(**changes: Any) -> PaymentRequest:
    values: dict[str, Any] = {
        "key": "k-1",
        "merchant_reference": "MP-7",
        "order_id": "1001",
        "amount": usdt("10.50"),
        "return_url": "https://shop.example/return/",
        "status_url": "https://shop.example/status/",
        "buyer": Buyer(name="Hong Gil Dong", email="buyer@shop.example"),
    }
    return PaymentRequest(**values | changes)


# ready ------------------------------------------------------------------------------


def test_every_field_of_the_reference_can_be_sent(provider, server):
    provider.start_payment(
        request(
            description="Gold, 500 coins",
            customer_id="user-42",
            locale="ko",
            provider_data={"item_img_url": "https://shop.example/gold.png"},
        )
    )
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/payment/ready")
    assert call.headers["content-type"] == "application/json"
    assert call.json == {
        "client_id": "MERCHANT0001",
        "item_name": "Gold, 500 coins",
        "item_img_url": "https://shop.example/gold.png",
        "partner_order_id": "MP-7",
        "partner_user_id": "user-42",
        "amount": "10.500000",
        "locale": "ko",
    }


class RawServer(socketserver.TCPServer):
    """Keeps the bytes of a request: servers like to drop underscores from names."""

    def __init__(self) -> None:
        self.received = b""
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += self.rfile.readline()
                server.received = head
                body = json.dumps({"redirect_url": PAGE}).encode()
                size = str(len(body)).encode()
                self.wfile.write(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: "
                    + size
                    + b"\r\n\r\n"
                    + body
                )

        super().__init__(("127.0.0.1", 0), Handler)


def test_the_secret_leaves_in_a_header_with_an_underscore_and_as_a_bearer():
    with RawServer() as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        provider_with(base_url=url).start_payment(request())
        thread.join()
    lines = server.received.split(b"\r\n")
    assert lines[0] == b"POST /payment/ready HTTP/1.1"
    assert b"EXCOINZ_SECRET: Bearer expay-secret-key-canary" in lines
    assert b"Content-Type: application/json" in lines


def test_the_first_of_two_secrets_is_sent_and_a_slash_too_many_is_not(server):
    provider = provider_with(
        base_url=f"{server.url}/", secret_key=["the-new-secret", "the-old-secret"]
    )
    provider.start_payment(request())
    assert server.calls[0].headers["excoinz_secret"] == "Bearer the-new-secret"
    assert server.calls[0].path == "/payment/ready"


def test_the_buyer_goes_to_the_hosted_page(provider):
    assert provider.start_payment(request()) == PaymentSnapshot(
        status=PaymentStatus.PENDING, next_action=Redirect(PAGE)
    )


def test_what_has_no_value_is_sent_blank(provider, server):
    provider.start_payment(request())
    assert server.calls[0].json == {
        "client_id": "MERCHANT0001",
        "item_name": "1001",
        "item_img_url": "",
        "partner_order_id": "MP-7",
        "partner_user_id": "",
        "amount": "10.500000",
        "locale": "en",
    }


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"description": "Order 1001"}, "Order 1001"),
        ({"items": [LineItem(name="Gold", unit_price=usdt("10.50"))]}, "Gold"),
        ({}, "1001"),
    ],
)
def test_the_checkout_shows_a_name_whatever_the_shop_gave(
    provider, server, changes, name
):
    provider.start_payment(request(**changes))
    assert server.calls[0].json["item_name"] == name


@pytest.mark.parametrize(
    ("locale", "wire"),
    [
        ("", "en"),
        ("en", "en"),
        ("en-gb", "en"),
        ("ko", "ko"),
        ("ko_KR", "ko"),
        ("zh", "cn"),
        ("zh-Hans-CN", "cn"),
        ("zh-TW", "cn"),
        ("cn", "cn"),
        ("KR", "ko"),
        ("tw", "cn"),
        ("de", "en"),
    ],
)
def test_a_locale_becomes_one_of_three(provider, server, locale, wire):
    provider.start_payment(request(locale=locale))
    assert server.calls[0].json["locale"] == wire


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("1", "1.000000"),
        ("0.000001", "0.000001"),
        ("10.50", "10.500000"),
        ("999999999.999999", "999999999.999999"),
    ],
)
def test_an_amount_is_plain_decimal_text(provider, server, text, wire):
    provider.start_payment(request(amount=usdt(text)))
    assert server.calls[0].json["amount"] == wire


@pytest.mark.parametrize(
    "amount",
    [
        usdt("0"),
        usdt("-1"),
        usdt("0.0000001"),
        usdt("NaN"),
        usdt("1000000000.000001"),
        Money(10, "USD"),
        Money(10, "KRW"),
    ],
)
def test_any_other_amount_is_refused_before_it_is_sent(provider, server, amount):
    assert not provider.can_take(amount)
    with pytest.raises(InvalidAmount) as caught:
        provider.start_payment(request(amount=amount))
    assert caught.value.field == "amount"
    assert server.calls == []


@pytest.mark.parametrize(
    "wish",
    [
        {"capture_mode": CaptureMode.MANUAL},
        {"method": "card"},
        {"save_token": True},
        {"token": "T"},
    ],
)
def test_what_excoinz_cannot_be_told_is_refused(provider, server, wish):
    with pytest.raises(UnsupportedOperation) as caught:
        provider.start_payment(request(**wish))
    assert [caught.value.field] == list(wish)
    assert server.calls == []


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"item_image": "https://shop.example/x.png"}, "item_image"),
        ({"currency": "KRW"}, "currency"),
        ({"item_img_url": "/x.png"}, "item_img_url"),
        ({"item_img_url": "javascript:alert(1)"}, "item_img_url"),
        ({"item_img_url": "https://shop.example/a b.png"}, "item_img_url"),
        ({"item_img_url": f"https://{'x' * 2001}"}, "item_img_url"),
        ({"item_img_url": None}, "item_img_url"),
    ],
)
def test_provider_data_is_read_strictly(provider, server, data, field):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(provider_data=data))
    assert caught.value.field == f"provider_data.{field}"
    assert "item_img_url" in str(caught.value)
    assert server.calls == []


# What ready answers -----------------------------------------------------------------


def test_a_wrong_client_id_is_a_matter_of_the_settings(provider, server):
    # The reference's own example.
    server.reply = lambda call: Reply(
        status=400, json={"code": -101, "message": "Invalid Client ID"}
    )
    with pytest.raises(CredentialsRejected) as caught:
        provider.start_payment(request())
    error = caught.value
    assert (error.code, error.http_status) == ("-101", 400)
    assert (error.operation, error.message) == ("ready", "Invalid Client ID")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        # The code as text, and with the wrong status: neither is documented.
        (400, "-101", CredentialsRejected),
        (200, -101, CredentialsRejected),
        # A duplicate partner_order_id, whose code nobody knows.
        (400, -102, RequestRejected),
        (409, -102, RequestRejected),
        (200, -102, RequestRejected),
        (400, "DUPLICATE", RequestRejected),
        (401, -100, CredentialsRejected),
        (403, -100, CredentialsRejected),
        # Their problem: the status says whether anything may have happened.
        (429, -102, ProviderUnavailable),
        (500, -102, OutcomeUnknown),
        (503, -101, OutcomeUnknown),
    ],
)
def test_a_code_refuses(provider, server, status, code, error):
    server.reply = lambda call: Reply(
        status=status, json={"code": code, "message": "No"}
    )
    with pytest.raises(ProviderError) as caught:
        provider.start_payment(request())
    assert type(caught.value) is error
    assert caught.value.http_status == status
    if error in {CredentialsRejected, RequestRejected}:
        assert caught.value.code == str(code)


@pytest.mark.parametrize("code", [None, "", [], {}, True])
def test_an_error_without_a_code_is_judged_by_its_status(provider, server, code):
    server.reply = lambda call: Reply(status=400, json={"code": code})
    with pytest.raises(RequestRejected) as caught:
        provider.start_payment(request())
    assert (caught.value.code, caught.value.http_status) == ("", 400)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"redirect_url": None},
        {"redirect_url": ""},
        {"redirect_url": 7},
        {"redirect_url": "/payment?t=yourtoken"},
        {"redirect_url": "javascript:alert(1)"},
        {"redirect_url": "https://pay.excoinz.com/ payment"},
        {"redirectUrl": PAGE},
    ],
)
def test_a_success_without_a_page_leaves_the_outcome_open(provider, server, answer):
    server.reply = lambda call: Reply(json=answer)
    with pytest.raises(OutcomeUnknown):
        provider.start_payment(request())


def test_the_printed_success_is_a_slip_of_the_page(provider, server):
    # A bare key and single quotes: read as JSON it would be read as anything.
    body = (
        b"{\n  redirect_url:'https://pay.excoinz.com/payment?locale=en&t=yourtoken'\n}"
    )
    server.reply = lambda call: Reply(body=body)
    with pytest.raises(OutcomeUnknown):
        provider.start_payment(request())


def test_an_error_that_repeats_our_secret_does_not_get_far(provider, server, caplog):
    caplog.set_level(logging.DEBUG)
    words = f"Bad secret {SECRET} of buyer@shop.example, key 0123456789abcdef01234567"
    server.reply = lambda call: Reply(status=400, json={"code": -1, "message": words})
    with pytest.raises(RequestRejected) as caught:
        provider.start_payment(request())
    assert caught.value.message == "Bad secret *** of *** key ***"
    assert SECRET not in f"{caught.value!r} {caplog.text}"


# Webhooks ---------------------------------------------------------------------------


def event(**changes: Any) -> ProviderEvent:
    (event,) = provider_with().parse_webhook(posted(MESSAGE | changes))
    return event


def test_a_success_says_what_was_paid_and_not_what_was_asked():
    assert event() == ProviderEvent(
        snapshot=PaymentSnapshot(
            status=PaymentStatus.PAID,
            provider_reference="MP-7",
            merchant_reference="MP-7",
            amount=None,
            captured=usdt("10.5"),
            provider_status="success",
            details={"ref_id": "EXPAY-1", "symbol": "USDT", "reported_amount": "10.5"},
        )
    )


def test_a_failure_took_no_money_whatever_amount_it_repeats():
    for amount in ("0", "10.5", "", None):
        snapshot = event(state="fail", amount=amount).snapshot
        assert snapshot.status is PaymentStatus.FAILED
        assert snapshot.amount is None
        assert snapshot.captured == usdt("0")
        assert snapshot.decline == Decline(
            code=DeclineCode.GENERIC, provider_code="fail"
        )


def test_pending_claims_nothing():
    snapshot = event(state="pending").snapshot
    assert snapshot.status is PaymentStatus.PENDING
    assert snapshot.captured is snapshot.amount is snapshot.decline is None


@pytest.mark.parametrize("state", ["expired", "canceled", "SUCCESS", "completed", "1"])
def test_an_unknown_state_is_pending_and_logged(caplog, state):
    snapshot = event(state=state).snapshot
    assert snapshot.status is PaymentStatus.PENDING
    assert snapshot.provider_status == state
    assert snapshot.captured is None
    assert state in caplog.text
    assert WEBHOOK_SECRET not in caplog.text


@pytest.mark.parametrize("ref_id", [None, "", "EXPAY-1", "EXPAY-2", 7, [], {"a": 1}])
def test_the_payment_has_one_name_whatever_becomes_of_ref_id(ref_id):
    snapshot = event(refId=ref_id).snapshot
    assert snapshot.provider_reference == snapshot.merchant_reference == "MP-7"
    expected = str(ref_id) if ref_id and isinstance(ref_id, (str, int)) else None
    assert snapshot.details.get("ref_id") == expected


def test_a_message_may_lack_ref_id_altogether():
    body = {name: MESSAGE[name] for name in MESSAGE if name != "refId"}
    (found,) = provider_with().parse_webhook(posted(body))
    assert found.snapshot.captured == usdt("10.5")


@pytest.mark.parametrize(
    ("amount", "paid"),
    [
        ("10.5", "10.5"),
        ("10.500000", "10.5"),
        ("0.000001", "0.000001"),
        # Less, more and nothing: for the core to compare.
        ("9.99", "9.99"),
        ("11", "11"),
        ("0", "0"),
        # A number instead of a text loses nothing here.
        (12, "12"),
    ],
)
def test_what_was_paid_is_read_exactly(amount, paid):
    assert event(amount=amount).snapshot.captured == usdt(paid)


def test_a_number_with_a_point_loses_no_digit():
    body = json.dumps(MESSAGE).replace('"10.5"', "0.100001").encode()
    (found,) = provider_with().parse_webhook(posted(body))
    assert found.snapshot.captured == usdt("0.100001")


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": None},
        {"amount": ""},
        {"amount": "10.5000001"},
        {"amount": "10,5"},
        {"amount": "1e3"},
        {"amount": "NaN"},
        {"amount": " 10.5"},
        {"amount": "1000000000.000001"},
        {"amount": True},
        {"amount": ["10.5"]},
        {"symbol": None},
        {"symbol": ""},
        {"symbol": "TRX"},
        {"symbol": "usdt"},
        {"symbol": "USD"},
        {"symbol": ["USDT"]},
    ],
)
def test_a_success_without_a_readable_amount_names_none(changes):
    """Then nothing can be compared, and the core holds the message."""
    snapshot = event(**changes).snapshot
    assert snapshot.status is PaymentStatus.PAID
    assert snapshot.captured is None
    assert snapshot.amount is None


@pytest.mark.parametrize(
    "changes",
    [{"txId": None}, {"txId": ""}, {"txId": ["MP-7"]}, {"state": None}, {"state": ""}],
)
def test_a_message_about_no_payment_cannot_be_read(changes):
    with pytest.raises(MalformedWebhook):
        provider_with().parse_webhook(posted(MESSAGE | changes))


def test_the_message_names_our_order():
    assert provider_with().identify_return(posted(MESSAGE)) == "MP-7"


@pytest.mark.parametrize(
    "incoming",
    [
        IncomingRequest(method="GET", body=b"", query_string="txId=MP-7"),
        IncomingRequest(method="PUT", body=json.dumps(MESSAGE).encode()),
        posted([MESSAGE]),
        posted(b"\xef\xbb\xbf" + json.dumps(MESSAGE).encode()),
        posted(
            json.dumps(MESSAGE).replace('"state"', '"txId": "MP-8", "state"').encode()
        ),
    ],
)
def test_only_one_json_object_in_a_post_is_read(incoming):
    provider = provider_with()
    for read in (
        provider.identify_return,
        provider.verify_webhook,
        provider.parse_webhook,
    ):
        with pytest.raises(MalformedWebhook):
            read(incoming)


def test_the_content_type_is_not_published_and_not_asked_for():
    provider_with().verify_webhook(replace(posted(MESSAGE), content_type="text/plain"))


@pytest.mark.parametrize(
    ("options", "secret", "is_known"),
    [
        ({"webhook_secret": None}, SECRET, True),
        ({"webhook_secret": None}, WEBHOOK_SECRET, False),
        ({}, WEBHOOK_SECRET, True),
        ({}, SECRET, False),
        ({"webhook_secret": ["new", "old"]}, "new", True),
        ({"webhook_secret": ["new", "old"]}, "old", True),
        ({"webhook_secret": ["new", "old"]}, "newold", False),
        ({"webhook_secret": None, "secret_key": ["new", "old"]}, "old", True),
        ({}, f" {WEBHOOK_SECRET}", False),
        ({}, WEBHOOK_SECRET.upper(), False),
        ({}, "\ud800", False),
        ({}, 7, False),
    ],
)
def test_the_secret_is_the_proof(options, secret, is_known):
    message = posted(MESSAGE | {"secret": secret})
    provider = provider_with(**options)
    if is_known:
        provider.verify_webhook(message)
    else:
        with pytest.raises(SignatureMismatch):
            provider.verify_webhook(message)


def test_every_secret_is_compared_even_after_one_fits(monkeypatch):
    """Or the time would tell which one a stranger had guessed."""
    seen = []
    name = "django_multipay.providers.excoinz.constant_time_equal"
    monkeypatch.setattr(name, lambda given, ours: not seen.append(ours))
    provider = provider_with(webhook_secret=["first", "second", "third"])
    provider.verify_webhook(posted(MESSAGE | {"secret": "first"}))
    assert seen == ["first", "second", "third"]


def test_nothing_that_is_refused_shows_a_secret(caplog):
    caplog.set_level(logging.DEBUG)
    cut = json.dumps(MESSAGE)[:-1].encode()
    foreign = MESSAGE | {"secret": "somebody-elses-canary"}
    provider = provider_with(source_addresses=[EXCOINZ_ADDRESS])
    texts = []
    for incoming in (
        posted(cut),
        posted(foreign),
        posted(MESSAGE, remote_address="192.0.2.7"),
    ):
        with pytest.raises(WebhookError) as caught:
            provider.verify_webhook(incoming)
        error = caught.value
        texts.append(f"{error} {error!r} {error.__cause__!r}")
    assert "canary" not in f"{texts} {caplog.text}"


@pytest.mark.parametrize(
    ("addresses", "sender", "is_welcome"),
    [
        ([], "192.0.2.7", True),
        ([], "", True),
        ([EXCOINZ_ADDRESS], EXCOINZ_ADDRESS, True),
        ([EXCOINZ_ADDRESS], "192.0.2.7", False),
        ([EXCOINZ_ADDRESS], "", False),
        ([EXCOINZ_ADDRESS], "13.229.255.1955", False),
        (["13.229.255.0/24", "2001:db8::/32"], "13.229.255.9", True),
        (["13.229.255.0/24", "2001:db8::/32"], "2001:db8::1", True),
    ],
)
def test_the_senders_address_is_checked_where_the_options_name_it(
    caplog, addresses, sender, is_welcome
):
    provider = provider_with(source_addresses=addresses)
    message = posted(MESSAGE, remote_address=sender)
    if is_welcome:
        provider.verify_webhook(message)
    else:
        with pytest.raises(SignatureMismatch):
            provider.verify_webhook(message)
        assert "MP-7" in caplog.text
    # Whatever a browser carries comes from its own address.
    provider.verify_webhook(replace(message, is_by_buyer=True))


def test_an_address_replaces_no_secret():
    provider = provider_with(source_addresses=[EXCOINZ_ADDRESS])
    for is_by_buyer in (False, True):
        with pytest.raises(SignatureMismatch):
            provider.verify_webhook(
                posted(
                    MESSAGE | {"secret": "forged"},
                    remote_address=EXCOINZ_ADDRESS,
                    is_by_buyer=is_by_buyer,
                )
            )


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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([SECRET]),
    lambda items: st.lists(items) | st.dictionaries(st.text(), items),
    max_leaves=8,
)


@given(body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_refused_by_name(body):
    with pytest.raises(WebhookError):
        provider_with().verify_webhook(posted(body))


@given(changes=st.dictionaries(st.sampled_from(list(MESSAGE)), JSON))
def test_any_field_may_hold_anything(changes):
    message = posted(MESSAGE | changes)
    provider = provider_with(webhook_secret=[WEBHOOK_SECRET, SECRET])
    try:
        provider.verify_webhook(message)
        (found,) = provider.parse_webhook(message)
    except WebhookError:
        return
    snapshot = found.snapshot
    assert snapshot.provider_reference == provider.identify_return(message)
    assert snapshot.amount is None
    if snapshot.status is PaymentStatus.PENDING:
        assert snapshot.captured is None


# Options ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secret_key": "Bearer abc"}, "Bearer"),
        ({"secret_key": ["abc", "bearer def"]}, "Bearer"),
        ({"source_addresses": ["13.229.255"]}, "13.229.255"),
        ({"source_addresses": [EXCOINZ_ADDRESS, "pay.excoinz.com"]}, "pay.excoinz"),
    ],
)
def test_a_slip_in_the_options_is_found(options, words):
    (problem,) = provider_with(**options).problems()
    assert words in problem


def test_only_https_goes_live():
    assert list(provider_with().deploy_problems()) == []
    (problem,) = provider_with(base_url="http://127.0.0.1:8100").deploy_problems()
    assert "base_url" in problem


def test_the_host_has_no_default():
    values = {name: OPTIONS[name] for name in ("client_id", "secret_key")}
    with pytest.raises(ProviderConfigurationError, match="base_url"):
        ExcoinzProvider.options_class.from_mapping(values, alias="excoinz")


# Both sides together ---------------------------------------------------------------


class TestSandbox(SandboxContract):
    provider_class = ExcoinzProvider
    # Two merchants, as the sandbox made them up.
    options = {
        "client_id": "SANDBOXEXPAY",
        "secret_key": "sk_sandbox_expay_4f1d0c7b9a2e4d6f",
    }
    foreign_options = {
        "client_id": "SANDBOXOTHER",
        "secret_key": "sk_sandbox_other_8b3a6e5d1c0f4a92",
    }
    wrong_options = {"secret_key": "sk_sandbox_nobody"}
    base_path = "/excoinz"
    amount = Money(Decimal("10.50"), money.currency_of("USDT"))
    written = "10.50"
    operations = {"start_payment": "ready"}
    # There is one word for whatever did not end well.
    outcomes = {
        "approve": (None, PaymentStatus.PAID),
        "decline": (None, PaymentStatus.FAILED),
        "cancel": (None, PaymentStatus.FAILED),
        "expire": (None, PaymentStatus.FAILED),
    }
    forgery = {"wrong_secret": True}
    repeated_start = "refusal"
