"""EasyBilling: what its pages say, said again by hand and compared with ours."""

from __future__ import annotations

import logging
import pickle
import random
import re
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from moneyed import Money

from django_multipay import money
from django_multipay.enums import (
    AmountFormat,
    CaptureMode,
    DeclineCode,
    PaymentStatus,
    RefundStatus,
    WebhookOutcome,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidAmount,
    InvalidOperation,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    SignatureMismatch,
    UnexpectedAnswer,
)
from django_multipay.messages import (
    BankAccount,
    Buyer,
    Decline,
    IncomingRequest,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    PlanTerms,
    QRCode,
    Redirect,
    RefundQuery,
    RefundRequest,
    RefundSnapshot,
    TokenChargeRequest,
    TokenSnapshot,
)
from django_multipay.providers.easybilling import EasyBillingProvider
from django_multipay.testing.provider_contract import (
    FAULTS,
    Call,
    LocalServer,
    ProviderContract,
    Reply,
)
from django_multipay.testing.sandbox_contract import SandboxContract

API_TOKEN = "eb-token-7f3a91c0"
OPTIONS = {
    "api_token": API_TOKEN,
    "base_url": "https://sbx.api.easybilling.cloud/payment-hub",
}
USERNAME = "shop-7"
PASSWORD = "correct horse battery staple"
LOG_IN = {
    "username": USERNAME,
    "password": PASSWORD,
    "base_url": "https://sbx.api.easybilling.cloud/payment-hub",
}
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzaG9wLTcifQ.c2lnbmF0dXJl"

# The four fields of the reference's answer, with values in their types.
START_ANSWER: dict[str, Any] = {
    "paymentUrl": "https://checkout.stripe.com/c/pay/cs_test_a1",
    "paymentId": "pay_8Hq2",
    "expireTime": 1800,
    "status": "waiting",
}
STATUS_ANSWER = START_ANSWER | {"status": "completed-with-success"}
REFUND_ANSWER = {"transactionId": "MP-7", "status": "created"}

GATEWAYS = ["stripe-connect", "alipay-page", "wechat-pay-native", "payer-max-isv"]


def usd(text: str) -> Money:
    return Money(Decimal(text), "USD")


USDT = Money(1, money.currency_of("USDT"))


def working_reply(call: Call) -> Reply:
    """EasyBilling in ten lines: every transaction is paid, every refund accepted."""
    path = call.path.partition("?")[0]
    if path.endswith("/api/authenticate/login"):
        return Reply(json={"message": "Authentication successful", "token": JWT})
    if path.endswith("/status"):
        return Reply(json=STATUS_ANSWER)
    if path.endswith("/api/refund"):
        return Reply(json=REFUND_ANSWER)
    return Reply(json=START_ANSWER)


class TestContract(ProviderContract):
    provider_class = EasyBillingProvider
    options = OPTIONS

    def reply(self, call):
        return working_reply(call)

    def unknown_status(self, call):
        return Reply(json=STATUS_ANSWER | {"status": "half-done"})

    def build(self, **changes):
        # A charge without its buyer names a page, and Stripe wants https.
        page = {"offline_redirect_url": "https://shop.example/"}
        return super().build(**page | changes)


class TestContractAfterLogIn(TestContract):
    """The same, where a token has to be fetched first and may run out."""

    options = LOG_IN

    @pytest.fixture
    def provider(self, server):
        provider = self.build(base_url=server.url)
        provider.http.session_token = JWT
        return provider

    def _secrets(self):
        return [PASSWORD, JWT]


class TestContractInMajorUnits(TestContract):
    options = OPTIONS | {"amount_unit": "major"}


@pytest.fixture
def server():
    with LocalServer(working_reply) as server:
        yield server


@pytest.fixture
def build(server):
    """Returns a provider under a base URL with a path; options may be changed."""

    def build(**options: Any) -> EasyBillingProvider:
        values = {
            "api_token": API_TOKEN,
            "base_url": f"{server.url}/payment-hub",
            "offline_redirect_url": "https://shop.example/",
            **options,
        }
        values = {name: value for name, value in values.items() if value is not None}
        return EasyBillingProvider(
            "hub", EasyBillingProvider.options_class.from_mapping(values, alias="hub")
        )

    return build


@pytest.fixture
def log_in(build):
    """Returns a provider that logs in."""

    def log_in(**options: Any) -> EasyBillingProvider:
        return build(api_token=None, username=USERNAME, password=PASSWORD, **options)

    return log_in


@pytest.fixture
def provider(build):
    return build()


def request(**changes: Any) -> PaymentRequest:
    values: dict[str, Any] = {
        "key": "k-1",
        "merchant_reference": "MP-7",
        "order_id": "1001",
        "amount": usd("26.30"),
        "return_url": "https://shop.example/return/",
        "status_url": "https://shop.example/status/",
        "cancel_url": "https://shop.example/cart/",
        "description": "Order 1001",
        "buyer": Buyer(name="Hong", email="buyer@shop.example", phone="+8210"),
    }
    return PaymentRequest(**values | changes)


def query(**changes: Any) -> PaymentQuery:
    values: dict[str, Any] = {
        "merchant_reference": "MP-7",
        "provider_reference": "pay_8Hq2",
        "amount": usd("26.30"),
        "buyer_email": "buyer@shop.example",
        "customer_id": "c-42",
    }
    return PaymentQuery(**values | changes)


def refund(**changes: Any) -> RefundRequest:
    values: dict[str, Any] = {
        "key": "k-2",
        "query": query(),
        "merchant_reference": "RF-9",
        "amount": usd("10.00"),
        "refundable": usd("26.30"),
        "reason": "damaged",
    }
    return RefundRequest(**values | changes)


def refund_query() -> RefundQuery:
    return RefundQuery(
        query=query(),
        merchant_reference="RF-9",
        provider_reference="",
        amount=usd("10.00"),
    )


def charge(**changes: Any) -> TokenChargeRequest:
    values: dict[str, Any] = {
        "key": "k-3",
        "merchant_reference": "MP-8",
        "token": "buyer@shop.example",
        "amount": usd("26.30"),
        "description": "June",
        "buyer": Buyer(name="Hong"),
    }
    return TokenChargeRequest(**values | changes)


VERBS = {
    "start": lambda provider: provider.start_payment(request()),
    "fetch": lambda provider: provider.fetch_payment(query()),
    "refund": lambda provider: provider.refund_payment(refund()),
    "fetch_refund": lambda provider: provider.fetch_refund(refund_query()),
    "charge": lambda provider: provider.charge_token(charge()),
}
READS = {"fetch", "fetch_refund"}


def today_or(day: str) -> str:
    """``day`` if it is a payment day of this test, which may run at midnight."""
    today = datetime.now(UTC).date()
    days = {today.isoformat(), (today - timedelta(days=1)).isoformat()}
    return day if day in days else "another day"


# POST /api/transactions: the buyer is there ---------------------------------------


def test_a_start_has_every_field_of_the_reference(provider, server):
    provider.start_payment(request())
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/payment-hub/api/transactions")
    assert call.headers["authorization"] == f"Bearer {API_TOKEN}"
    assert call.headers["content-type"] == "application/json"
    assert call.json == {
        "transactionId": "MP-7",
        "description": "Order 1001",
        "amount": "2630",
        "currency": "USD",
        "date": today_or(call.json["date"]),
        "paymentGatewayType": "stripe-connect",
        "completePayRedirectUrl": "https://shop.example/return/",
        "onlineScenario": True,
        "customerIdentifier": "buyer@shop.example",
        "cancelPayRedirectUrl": "https://shop.example/cart/",
    }
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", call.json["date"])


def test_only_what_is_optional_is_left_out(build, server):
    build(gateway="alipay-page").start_payment(
        request(description="  ", cancel_url="", buyer=Buyer(name="Hong"))
    )
    assert set(server.calls[0].json) == {
        "transactionId",
        "amount",
        "currency",
        "date",
        "paymentGatewayType",
        "completePayRedirectUrl",
        "cancelPayRedirectUrl",
        "onlineScenario",
    }
    # Mandatory, so the page of the return stands in for that of the cancellation.
    assert server.calls[0].json["cancelPayRedirectUrl"] == (
        "https://shop.example/return/"
    )


def test_the_date_that_newer_pages_do_not_know_can_be_left_out(build, server):
    build(send_date=False).start_payment(request())
    build(send_date=False).charge_token(charge())
    assert all("date" not in call.json for call in server.calls)


def test_every_call_has_a_trace_id_of_its_own(provider, server):
    for verb in VERBS.values():
        verb(provider)
        verb(provider)
    traces = [call.headers["trace-id"] for call in server.calls]
    assert len(set(traces)) == 2 * len(VERBS)
    assert all(str(uuid.UUID(trace)) == trace for trace in traces)


@pytest.mark.parametrize("gateway", ["stripe-connect", "alipay-page", "payer-max-isv"])
def test_the_page_is_a_redirect_until_the_time_is_out(build, gateway):
    before = datetime.now(UTC)
    snapshot = build(gateway=gateway).start_payment(request())
    after = datetime.now(UTC)
    assert snapshot == PaymentSnapshot(
        status=PaymentStatus.PENDING,
        provider_reference="pay_8Hq2",
        merchant_reference="MP-7",
        amount=usd("26.30"),
        method=gateway,
        provider_status="waiting",
        next_action=Redirect("https://checkout.stripe.com/c/pay/cs_test_a1"),
        expires_at=snapshot.expires_at,
    )
    assert before <= snapshot.expires_at - timedelta(seconds=1800) <= after


def test_the_link_of_wechat_is_drawn_as_a_code(build, server):
    link = "weixin://wxpay/bizpayurl?pr=p4lpSuKzz"
    server.reply = lambda call: Reply(json=START_ANSWER | {"paymentUrl": link})
    snapshot = build(gateway="wechat-pay-native").start_payment(request())
    assert snapshot.next_action == QRCode(data=link, expires_at=snapshot.expires_at)
    assert snapshot.expires_at.tzinfo is UTC


@pytest.mark.parametrize("seconds", [0, -1, None, "1800", True, [], 1763714400, 10**30])
def test_what_is_no_duration_in_seconds_is_no_deadline(provider, server, seconds):
    server.reply = lambda call: Reply(json=START_ANSWER | {"expireTime": seconds})
    snapshot = provider.start_payment(request())
    assert snapshot.expires_at is None
    assert snapshot.next_action is not None


@pytest.mark.parametrize(
    ("gateway", "url"),
    [
        ("stripe-connect", None),
        ("stripe-connect", ""),
        ("stripe-connect", 7),
        ("stripe-connect", "javascript:alert(1)"),
        ("stripe-connect", "/pay/1"),
        ("stripe-connect", "https://pay.example/ x"),
        ("stripe-connect", "weixin://wxpay/bizpayurl?pr=1"),
        ("wechat-pay-native", ""),
        ("wechat-pay-native", None),
    ],
)
def test_a_start_without_a_page_may_have_happened(build, server, gateway, url):
    server.reply = lambda call: Reply(json=START_ANSWER | {"paymentUrl": url})
    with pytest.raises(OutcomeUnknown, match="no page"):
        build(gateway=gateway).start_payment(request())


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_payment_may_name_its_gateway(build, server, gateway):
    snapshot = build(gateway="alipay-page").start_payment(request(method=gateway))
    assert server.calls[0].json["paymentGatewayType"] == gateway
    # Kept with the payment, so that a changed option changes no open payment.
    assert snapshot.method == gateway


@pytest.mark.parametrize(
    ("gateway", "changes", "identifier"),
    [
        ("stripe-connect", {"customer_id": "c-42"}, "buyer@shop.example"),
        ("alipay-page", {"customer_id": "c-42"}, "c-42"),
        ("wechat-pay-native", {}, "buyer@shop.example"),
        ("payer-max-isv", {"buyer": Buyer(phone="+8210")}, "+8210"),
    ],
)
def test_stripe_knows_customers_by_e_mail_and_the_others_by_our_id(
    build, server, gateway, changes, identifier
):
    build(gateway=gateway).start_payment(request(**changes))
    assert server.calls[0].json["customerIdentifier"] == identifier


@pytest.mark.parametrize("gateway", ["stripe-connect", "payer-max-isv"])
def test_saving_a_method_prepares_later_charges(build, server, gateway):
    build(gateway=gateway).start_payment(request(save_token=True, customer_id="c-42"))
    body = server.calls[0].json
    assert body["onlineScenario"] is True
    assert body["supportOfflineScenario"] is True


def test_a_payment_that_saves_nothing_does_not_speak_of_it(provider, server):
    provider.start_payment(request())
    assert "supportOfflineScenario" not in server.calls[0].json


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("succeeded", PaymentStatus.PAID),
        ("failed", PaymentStatus.FAILED),
        ("closed", PaymentStatus.CANCELED),
    ],
)
def test_a_transaction_that_is_over_already_needs_no_page(
    provider, server, word, status
):
    """``transactionId`` is the idempotency key, so a second start tells the truth."""
    answer = {"paymentId": "pay_8Hq2", "status": word}
    server.reply = lambda call: Reply(json=answer)
    snapshot = provider.start_payment(request())
    assert snapshot.status is status
    assert (snapshot.merchant_reference, snapshot.amount) == ("MP-7", usd("26.30"))
    assert (snapshot.captured == usd("26.30")) == (status is PaymentStatus.PAID)
    assert snapshot.next_action is None


def test_a_start_repeated_after_a_lost_answer_names_the_same_transaction(
    provider, server
):
    server.reply = lambda call: Reply(is_lost=True)
    with pytest.raises(OutcomeUnknown):
        provider.start_payment(request())
    server.reply = working_reply
    provider.start_payment(request())
    first, second = (call.json["transactionId"] for call in server.calls)
    assert first == second == "MP-7"


def test_a_conflict_may_be_with_our_own_first_try(provider, server):
    server.reply = lambda call: Reply(status=409, json={})
    for name, verb in VERBS.items():
        with pytest.raises(RequestRejected if name in READS else OutcomeUnknown):
            verb(provider)


# Refused before anything is sent ----------------------------------------------------


@pytest.mark.parametrize(
    ("gateway", "changes", "field"),
    [
        ("stripe-connect", {"amount": usd("0")}, "amount"),
        ("stripe-connect", {"amount": usd("-1")}, "amount"),
        ("stripe-connect", {"amount": usd("1.005")}, "amount"),
        ("stripe-connect", {"method": "card"}, "method"),
        ("stripe-connect", {"merchant_reference": "x" * 33}, "merchant_reference"),
        ("stripe-connect", {"buyer": Buyer()}, "buyer.email"),
        ("stripe-connect", {"buyer": Buyer(phone="+8210")}, "buyer.email"),
        ("stripe-connect", {"buyer": Buyer(email="user-12345")}, "buyer.email"),
        ("stripe-connect", {"buyer": Buyer(email="a b@shop.example")}, "buyer.email"),
        ("stripe-connect", {"return_url": "http://shop.example/"}, "return_url"),
        ("stripe-connect", {"return_url": "http://127.0.0.1:8000/"}, "return_url"),
        ("stripe-connect", {"cancel_url": "http://shop.example/"}, "cancel_url"),
        ("stripe-connect", {"capture_mode": CaptureMode.MANUAL}, "capture_mode"),
        ("stripe-connect", {"token": "buyer@shop.example"}, "token"),
        ("stripe-connect", {"plan": True}, "plan"),
        ("stripe-connect", {"provider_data": {"date": "2026"}}, "provider_data.date"),
        ("alipay-page", {"save_token": True}, "save_token"),
        ("wechat-pay-native", {"save_token": True}, "save_token"),
        # A later charge is made by the account's gateway, which is another one.
        (
            "payer-max-isv",
            {"save_token": True, "method": "stripe-connect"},
            "save_token",
        ),
    ],
)
def test_what_easybilling_cannot_be_told_is_refused(
    build, server, gateway, changes, field
):
    if "plan" in changes:
        today = datetime.now(UTC).date()
        terms = PlanTerms(amount=usd("1"), interval_months=1, start_on=today)
        changes = {"plan": terms}
    with pytest.raises(InvalidOperation) as caught:
        build(gateway=gateway).start_payment(request(**changes))
    assert caught.value.field == field
    assert field.partition(".")[0] in str(caught.value)
    assert "@" not in str(caught.value)
    assert server.calls == []


def test_the_longest_reference_is_32_characters(provider, server):
    provider.start_payment(request(merchant_reference="x" * 32))
    assert server.calls[0].json["transactionId"] == "x" * 32


@pytest.mark.parametrize(
    ("gateway", "require_https"),
    [
        ("alipay-page", True),
        ("wechat-pay-native", True),
        ("payer-max-isv", True),
        ("stripe-connect", False),
    ],
)
def test_https_is_for_stripe_and_can_be_waived_for_a_sandbox(
    build, server, gateway, require_https
):
    build(gateway=gateway, require_https=require_https).start_payment(
        request(return_url="http://127.0.0.1/r/", cancel_url="http://127.0.0.1/c/")
    )
    assert server.calls[0].json["completePayRedirectUrl"] == "http://127.0.0.1/r/"
    assert server.calls[0].json["cancelPayRedirectUrl"] == "http://127.0.0.1/c/"


# Amounts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        ("minor", usd("26.30"), "2630"),
        ("minor", usd("99"), "9900"),
        ("minor", Money(132000, "KRW"), "132000"),
        ("minor", Money(Decimal("4.125"), "KWD"), "4125"),
        ("major", usd("26.30"), "26.30"),
        ("major", usd("99"), "99.00"),
        ("major", Money(132000, "KRW"), "132000"),
        ("major", Money(Decimal("4.125"), "KWD"), "4.125"),
    ],
)
def test_an_amount_is_always_text_and_its_unit_an_option(
    build, server, unit, amount, text
):
    provider = build(amount_unit=unit)
    asked = query(amount=amount)
    provider.start_payment(request(amount=amount))
    provider.charge_token(charge(amount=amount))
    provider.refund_payment(refund(query=asked, amount=amount, refundable=amount))
    assert [call.json["amount"] for call in server.calls] == [text] * 3


def test_the_unit_belongs_to_the_account(build):
    one, other = build(), build(amount_unit="major")
    assert one.amount_format is AmountFormat.MINOR_INTEGER
    assert other.amount_format is AmountFormat.MAJOR_STRING


@pytest.mark.parametrize(
    ("amount", "is_taken"),
    [
        (usd("0.01"), True),
        (Money(1, "XTS"), True),
        (usd("0"), False),
        (usd("-1"), False),
        (usd("0.001"), False),
        (usd("NaN"), False),
        (USDT, False),
    ],
)
def test_every_amount_of_an_iso_currency_is_taken_that_can_be_written(
    provider, amount, is_taken
):
    assert provider.can_take(amount) == is_taken


@pytest.mark.parametrize("amount", [usd("0"), usd("0.001"), usd("NaN"), USDT])
def test_what_is_not_taken_is_not_sent(provider, server, amount):
    for refused in (
        lambda: provider.start_payment(request(amount=amount)),
        lambda: provider.charge_token(charge(amount=amount)),
    ):
        with pytest.raises(InvalidAmount) as caught:
            refused()
        assert caught.value.field == "amount"
    assert server.calls == []


# GET /transactions/{transactionId}/status -------------------------------------------


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "/payment-hub/transactions/MP-7/status"),
        (
            {"status_path": "/api/transactions/{id}/status"},
            "/payment-hub/api/transactions/MP-7/status",
        ),
    ],
)
def test_the_status_is_asked_for_without_the_prefix_of_the_others(
    build, server, options, path
):
    build(**options).fetch_payment(query())
    (call,) = server.calls
    assert (call.method, call.path, call.body) == ("GET", path, b"")
    assert call.headers["authorization"] == f"Bearer {API_TOKEN}"
    assert "content-type" not in call.headers


def test_a_reference_cannot_leave_its_place_in_the_path(provider, server):
    provider.fetch_payment(query(merchant_reference="../a?b"))
    assert server.calls[0].path == "/payment-hub/transactions/..%2Fa%3Fb/status"


def test_a_paid_answer_is_about_what_was_asked(provider):
    assert provider.fetch_payment(query()) == PaymentSnapshot(
        status=PaymentStatus.PAID,
        provider_reference="pay_8Hq2",
        merchant_reference="MP-7",
        amount=usd("26.30"),
        captured=usd("26.30"),
        method="stripe-connect",
        provider_status="completed-with-success",
        token=TokenSnapshot(reference="buyer@shop.example"),
    )


WORDS = [
    ("waiting", PaymentStatus.PENDING),
    ("pending", PaymentStatus.PENDING),
    ("processing", PaymentStatus.PENDING),
    ("succeeded", PaymentStatus.PAID),
    ("completed-with-success", PaymentStatus.PAID),
    ("failed", PaymentStatus.FAILED),
    ("completed-with-failure", PaymentStatus.FAILED),
    ("expired", PaymentStatus.EXPIRED),
    ("closed", PaymentStatus.CANCELED),
    ("refunded", PaymentStatus.REFUNDED),
]


@pytest.mark.parametrize(
    "spell", [str, str.upper, str.title, lambda word: word.upper().replace("-", "_")]
)
@pytest.mark.parametrize(("word", "status"), WORDS)
def test_all_vocabularies_are_read_in_any_case(
    provider, server, caplog, word, status, spell
):
    server.reply = lambda call: Reply(json=STATUS_ANSWER | {"status": spell(word)})
    snapshot = provider.fetch_payment(query())
    assert snapshot.status is status
    assert snapshot.provider_status == spell(word)
    has_money = status in {PaymentStatus.PAID, PaymentStatus.REFUNDED}
    assert (snapshot.captured == usd("26.30")) == has_money
    assert (snapshot.captured is None) != has_money
    assert not [item for item in caplog.records if item.levelno >= logging.WARNING]


@pytest.mark.parametrize("word", ["failed", "completed-with-failure"])
def test_a_failure_is_a_decline_without_a_reason(provider, server, word):
    server.reply = lambda call: Reply(json=STATUS_ANSWER | {"status": word})
    assert provider.fetch_payment(query()).decline == Decline(
        code=DeclineCode.GENERIC, provider_code=word
    )


@pytest.mark.parametrize(
    "word",
    ["paid", "completed", "success", "successful", "not-succeeded", "succeeded."],
)
def test_only_an_exact_word_is_money(provider, server, caplog, word):
    server.reply = lambda call: Reply(json=STATUS_ANSWER | {"status": word})
    snapshot = provider.fetch_payment(query())
    assert (snapshot.status, snapshot.captured) == (PaymentStatus.PENDING, None)
    assert word in caplog.text


@pytest.mark.parametrize("word", [None, "", "  ", True, [], {"a": 1}])
def test_an_answer_without_a_status_says_nothing(provider, server, word):
    server.reply = lambda call: Reply(
        json=START_ANSWER | REFUND_ANSWER | {"status": word}
    )
    for name, verb in VERBS.items():
        with pytest.raises(UnexpectedAnswer if name in READS else OutcomeUnknown):
            verb(provider)


def test_money_without_a_payment_id_is_left_for_the_core_to_hold(provider, server):
    server.reply = lambda call: Reply(json={"status": "succeeded"})
    snapshot = provider.fetch_payment(query())
    assert (snapshot.status, snapshot.provider_reference) == (PaymentStatus.PAID, "")


def test_the_deadline_is_that_of_the_start(provider, server):
    server.reply = lambda call: Reply(json=START_ANSWER)
    snapshot = provider.fetch_payment(query())
    assert (snapshot.status, snapshot.expires_at) == (PaymentStatus.PENDING, None)


def test_an_order_whose_start_never_arrived_is_pending(provider, server):
    server.reply = lambda call: Reply(status=404, json={"message": "not found"})
    assert provider.fetch_payment(query(provider_reference="")) == PaymentSnapshot(
        status=PaymentStatus.PENDING, provider_status="404"
    )


@pytest.mark.parametrize(
    ("reference", "reply"),
    [
        # EasyBilling named it, so it cannot be unknown: the path is wrong.
        ("pay_8Hq2", Reply(status=404, json={"message": "not found"})),
        ("", Reply(status=404, body=b"<html>no such page</html>")),
        ("", Reply(status=404, json=["no"])),
        ("", Reply(status=410, json={"message": "gone"})),
    ],
)
def test_a_wrong_path_is_no_unknown_order(provider, server, reference, reply):
    server.reply = lambda call: reply
    with pytest.raises(RequestRejected):
        provider.fetch_payment(query(provider_reference=reference))


@pytest.mark.parametrize(
    ("method", "is_ours"),
    [("wechat-pay-native", True), ("", False), ("card", False)],
)
def test_a_payment_keeps_the_gateway_it_was_started_with(provider, method, is_ours):
    snapshot = provider.fetch_payment(query(method=method))
    assert snapshot.method == (method if is_ours else "stripe-connect")


# Saved methods ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gateway", "changes", "reference"),
    [
        ("stripe-connect", {}, "buyer@shop.example"),
        ("stripe-connect", {"buyer_email": ""}, None),
        ("payer-max-isv", {}, "c-42"),
        ("payer-max-isv", {"customer_id": ""}, "buyer@shop.example"),
        ("payer-max-isv", {"method": "stripe-connect"}, None),
        ("alipay-page", {}, None),
        ("wechat-pay-native", {}, None),
    ],
)
def test_a_token_is_the_identifier_as_it_was_sent(build, gateway, changes, reference):
    token = build(gateway=gateway).fetch_payment(query(**changes)).token
    assert token == (reference and TokenSnapshot(reference=reference))


@pytest.mark.parametrize("gateway", ["stripe-connect", "payer-max-isv"])
def test_start_and_inquiry_agree_about_the_token(build, server, gateway):
    provider = build(gateway=gateway)
    server.reply = lambda call: Reply(json=STATUS_ANSWER)
    started = provider.start_payment(request(save_token=True, customer_id="c-42"))
    assert started.token == provider.fetch_payment(query()).token
    assert started.token.reference == server.calls[0].json["customerIdentifier"]


@pytest.mark.parametrize("word", [word for word, status in WORDS if status != "paid"])
def test_only_a_paid_payment_has_saved_something(provider, server, word):
    server.reply = lambda call: Reply(json=STATUS_ANSWER | {"status": word})
    assert provider.fetch_payment(query()).token is None


def test_a_charge_without_the_buyer_has_every_mandatory_field(provider, server):
    provider.charge_token(charge())
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/payment-hub/api/transactions")
    assert call.headers["authorization"] == f"Bearer {API_TOKEN}"
    assert call.json == {
        "transactionId": "MP-8",
        "description": "June",
        "amount": "2630",
        "currency": "USD",
        "date": today_or(call.json["date"]),
        "paymentGatewayType": "stripe-connect",
        "completePayRedirectUrl": "https://shop.example/",
        "onlineScenario": False,
        "customerIdentifier": "buyer@shop.example",
        "cancelPayRedirectUrl": "https://shop.example/",
    }


def test_a_charge_names_the_hub_where_no_other_page_is_known(build, server):
    build(
        gateway="payer-max-isv",
        offline_redirect_url=None,
        base_url=f"{server.url}/payment-hub",
    ).charge_token(charge(token="c-42"))
    assert server.calls[0].json["customerIdentifier"] == "c-42"
    assert server.calls[0].json["completePayRedirectUrl"] == (
        f"{server.url}/payment-hub"
    )


@pytest.mark.parametrize(
    "answer",
    [
        START_ANSWER | {"status": "processing"},
        {"status": "processing", "paymentId": "pay_9", "paymentUrl": ""},
        {"status": "processing"},
    ],
)
def test_a_charge_under_way_sends_nobody_anywhere(provider, server, answer):
    server.reply = lambda call: Reply(json=answer)
    snapshot = provider.charge_token(charge())
    assert (snapshot.status, snapshot.next_action) == (PaymentStatus.PENDING, None)
    assert snapshot.provider_reference == answer.get("paymentId", "")
    assert (snapshot.merchant_reference, snapshot.amount) == ("MP-8", usd("26.30"))


def test_a_charge_may_be_paid_or_declined_at_once(provider, server):
    server.reply = lambda call: Reply(json=START_ANSWER | {"status": "SUCCEEDED"})
    assert provider.charge_token(charge()).captured == usd("26.30")
    server.reply = lambda call: Reply(json=START_ANSWER | {"status": "FAILED"})
    snapshot = provider.charge_token(charge())
    assert snapshot.status is PaymentStatus.FAILED
    assert snapshot.decline == Decline(code=DeclineCode.GENERIC, provider_code="FAILED")


@pytest.mark.parametrize(
    ("options", "changes", "field"),
    [
        ({"gateway": "alipay-page"}, {}, "token"),
        ({"gateway": "wechat-pay-native"}, {}, "token"),
        ({}, {"token": "c-42"}, "token"),
        ({}, {"amount": usd("0")}, "amount"),
        ({}, {"merchant_reference": "x" * 33}, "merchant_reference"),
        (
            {"offline_redirect_url": "http://shop.example/"},
            {},
            "OPTIONS['offline_redirect_url']",
        ),
    ],
)
def test_a_charge_that_cannot_be_made_is_refused(
    build, server, options, changes, field
):
    with pytest.raises(InvalidOperation) as caught:
        build(**options).charge_token(charge(**changes))
    assert caught.value.field == field
    assert server.calls == []


# Refunds ----------------------------------------------------------------------------


def test_a_refund_has_the_fields_of_the_references_sample(provider, server):
    assert provider.refund_payment(refund()) == RefundSnapshot(
        status=RefundStatus.PENDING
    )
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/payment-hub/api/refund")
    assert call.headers["authorization"] == f"Bearer {API_TOKEN}"
    assert call.json == {"transactionId": "MP-7", "requestId": "RF-9", "amount": "1000"}


def test_a_refund_is_asked_for_by_both_names(provider, server):
    assert provider.fetch_refund(refund_query()) == RefundSnapshot(
        status=RefundStatus.PENDING
    )
    (call,) = server.calls
    assert (call.method, call.path, call.body) == (
        "GET",
        "/payment-hub/api/refund?transactionId=MP-7&requestId=RF-9",
        b"",
    )
    assert call.headers["authorization"] == f"Bearer {API_TOKEN}"


@pytest.mark.parametrize("spell", [str, str.upper])
@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("created", RefundStatus.PENDING),
        ("refunding", RefundStatus.PENDING),
        ("success", RefundStatus.SUCCEEDED),
        ("succeeded", RefundStatus.SUCCEEDED),
        ("failure", RefundStatus.FAILED),
        ("failed", RefundStatus.FAILED),
        ("cancel", RefundStatus.FAILED),
        ("canceled", RefundStatus.FAILED),
        ("closed", RefundStatus.FAILED),
        ("half", RefundStatus.PENDING),
    ],
)
def test_both_vocabularies_of_refunds_are_read(
    provider, server, caplog, word, status, spell
):
    server.reply = lambda call: Reply(json=REFUND_ANSWER | {"status": spell(word)})
    is_unknown = word == "half"
    for snapshot in (
        provider.refund_payment(refund()),
        provider.fetch_refund(refund_query()),
    ):
        assert snapshot.status is status
        decline = Decline(code=DeclineCode.GENERIC, provider_code=spell(word))
        assert snapshot.decline == (decline if status == "failed" else None)
    assert (spell(word) in caplog.text) == is_unknown


@pytest.mark.parametrize("name", ["transactionId", "requestId"])
def test_an_answer_about_something_else_settles_nothing(provider, server, name):
    server.reply = lambda call: Reply(
        json=REFUND_ANSWER | {"status": "success", name: "MP-6"}
    )
    with pytest.raises(OutcomeUnknown, match=f"another {name}"):
        provider.refund_payment(refund())
    with pytest.raises(UnexpectedAnswer, match=f"another {name}"):
        provider.fetch_refund(refund_query())


def test_an_answer_may_repeat_the_name_of_the_refund_or_leave_all_names_out(
    provider, server
):
    for answer in ({"status": "success"}, {"status": "success", "requestId": "RF-9"}):
        server.reply = lambda call, answer=answer: Reply(json=answer)
        for snapshot in (
            provider.refund_payment(refund()),
            provider.fetch_refund(refund_query()),
        ):
            assert snapshot == RefundSnapshot(
                status=RefundStatus.SUCCEEDED,
                merchant_reference=answer.get("requestId"),
            )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": usd("0")}, "amount"),
        ({"amount": usd("1.005")}, "amount"),
        ({"amount": Money(10, "EUR")}, "amount"),
        ({"account": BankAccount(holder="H", bank_code="1", number="2")}, "account"),
        ({"provider_data": {"status": "created"}}, "provider_data.status"),
    ],
)
def test_a_refund_that_cannot_be_said_is_refused(provider, server, changes, field):
    with pytest.raises(InvalidOperation) as caught:
        provider.refund_payment(refund(**changes))
    assert caught.value.field == field
    assert isinstance(caught.value, InvalidAmount) == (field == "amount")
    assert server.calls == []


def test_a_refund_the_hub_does_not_know_was_only_requested(provider, server):
    """Neither a failure nor a reason to send it again: its query is not published."""
    server.reply = lambda call: Reply(status=404, json={"message": "not found"})
    assert provider.fetch_refund(refund_query()) == RefundSnapshot(
        status=RefundStatus.REQUESTED
    )
    with pytest.raises(RequestRejected):
        provider.refund_payment(refund())


def test_nothing_that_moves_money_is_promised_to_happen_once(provider):
    """A lost refund or charge waits for its inquiry or a person; it is not repeated."""
    assert provider.repeatable == frozenset()


# The log-in -------------------------------------------------------------------------


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_log_in_comes_first_and_lasts(log_in, server, is_elsewhere):
    options = {"login_url": f"{server.url}/billing/"} if is_elsewhere else {}
    provider = log_in(**options)
    provider.start_payment(request())
    provider.fetch_payment(query())
    paths = [call.path for call in server.calls]
    base = "/billing" if is_elsewhere else "/payment-hub"
    assert paths == [
        f"{base}/api/authenticate/login",
        "/payment-hub/api/transactions",
        "/payment-hub/transactions/MP-7/status",
    ]
    first, *others = server.calls
    assert first.method == "POST"
    assert first.json == {"username": USERNAME, "password": PASSWORD}
    assert first.headers["content-type"] == "application/json"
    assert "authorization" not in first.headers
    assert [call.headers["authorization"] for call in others] == [f"Bearer {JWT}"] * 2
    assert len({call.headers["trace-id"] for call in server.calls}) == 3


class Sessions:
    """A hub whose tokens count up, and that takes the newest one only."""

    def __init__(self) -> None:
        self.issued = 0
        self.done: list[str] = []

    def __call__(self, call: Call) -> Reply:
        if call.path.endswith("/login"):
            self.issued += 1
            return Reply(json={"token": f"session-{self.issued}"})
        if call.headers["authorization"] != f"Bearer session-{self.issued}":
            return Reply(status=401, json={"message": "expired"})
        self.done.append(call.path)
        return working_reply(call)


@pytest.mark.parametrize("verb", VERBS)
def test_a_token_that_ran_out_costs_one_log_in_and_one_repetition(log_in, server, verb):
    server.reply = sessions = Sessions()
    provider = log_in()
    provider.http.session_token = "session-of-yesterday"
    VERBS[verb](provider)
    assert len(sessions.done) == sessions.issued == 1
    assert len(server.calls) == 3
    assert provider.http.session_token == "session-1"
    refused, _, repeated = server.calls
    assert refused.body == repeated.body
    assert refused.headers["trace-id"] != repeated.headers["trace-id"]


def test_a_token_that_is_never_taken_is_not_tried_for_ever(log_in, server):
    server.reply = lambda call: (
        working_reply(call) if call.path.endswith("/login") else Reply(status=401)
    )
    with pytest.raises(CredentialsRejected):
        log_in().start_payment(request())
    assert len(server.calls) == 4


def test_the_log_in_of_another_thread_is_used(log_in, server):
    """While our call with the old token was under way, somebody got a new one."""
    provider = log_in()
    provider.http.session_token = "old"

    def reply(call: Call) -> Reply:
        if call.headers["authorization"] == "Bearer old":
            provider.http.session_token = "new"
            return Reply(status=401)
        return working_reply(call)

    server.reply = reply
    provider.start_payment(request())
    assert [call.headers["authorization"] for call in server.calls] == [
        "Bearer old",
        "Bearer new",
    ]
    assert provider.http.session_token == "new"


@pytest.mark.parametrize("status", [403, 500])
def test_only_a_401_is_repeated(log_in, server, status):
    server.reply = lambda call: (
        working_reply(call) if call.path.endswith("/login") else Reply(status=status)
    )
    with pytest.raises(CredentialsRejected if status == 403 else OutcomeUnknown):
        log_in().refund_payment(refund())
    assert len(server.calls) == 2


def test_an_issued_token_is_sent_once(provider, server):
    server.reply = lambda call: Reply(status=401)
    with pytest.raises(CredentialsRejected):
        provider.start_payment(request())
    assert len(server.calls) == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", VERBS)
def test_while_nobody_can_log_in_nothing_happened(log_in, server, caplog, verb, fault):
    caplog.set_level(logging.DEBUG)
    server.reply = lambda call: FAULTS[fault][0]
    with pytest.raises(
        (ProviderUnavailable, CredentialsRejected, RequestRejected)
    ) as caught:
        VERBS[verb](log_in())
    assert {call.path for call in server.calls} == {
        "/payment-hub/api/authenticate/login"
    }
    error = caught.value
    assert error.operation == "log in"
    assert PASSWORD not in f"{error} {error!r} {error.__cause__!r} {caplog.text}"
    assert pickle.loads(pickle.dumps(error)).args == error.args


@pytest.mark.parametrize("token", [None, "", " ", "a b", "a\r\nX: y", 7.5, ["x"]])
def test_a_log_in_without_a_usable_token_is_none(log_in, server, token):
    server.reply = lambda call: Reply(json={"message": "ok", "token": token})
    provider = log_in()
    with pytest.raises(ProviderUnavailable, match="log-in"):
        provider.start_payment(request())
    assert provider.http.session_token == ""
    assert len(server.calls) == 1


def test_without_any_credentials_nothing_is_sent(build, server):
    with pytest.raises(ProviderConfigurationError, match=r"\['hub'\]\['OPTIONS'\]"):
        build(api_token=None).start_payment(request())
    assert server.calls == []


# The line ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_lost_write_may_have_happened_and_a_lost_read_did_not(
    provider, server, caplog, verb, fault
):
    caplog.set_level(logging.DEBUG)
    reply, error_of_read, error_of_write = FAULTS[fault]
    server.reply = lambda call: reply
    with pytest.raises(ProviderError) as caught:
        VERBS[verb](provider)
    error = caught.value
    assert type(error) is (error_of_read if verb in READS else error_of_write)
    text = f"{error} {error!r} {error.__cause__!r} {caplog.text}"
    for secret in (API_TOKEN, "buyer@shop.example"):
        assert secret not in text


def test_whatever_is_answered_only_a_provider_error_comes_of_it(provider, server):
    """A thousand answers, documented and not; the seed makes them the same ones."""
    dice = random.Random(20261121)
    words = [word for word, _ in WORDS] + ["success", "created", "\x00", "4111" * 4]
    values = [None, True, 0, -1, 7, 10**40, "", " ", [], {}, "\ud800", "x" * 5000]
    urls = ["https://pay.example/", "weixin://x", "javascript:1", "http://\n"]
    for _ in range(200):
        answer = {
            name: dice.choice([*values, *words, *urls])
            for name in ("status", "paymentUrl", "paymentId", "expireTime")
            if dice.random() < 0.9
        } | {"transactionId": dice.choice(["MP-7", "MP-8", *values])}
        server.reply = lambda call, answer=answer: Reply(
            status=dice.choice([200, 200, 200, 201, 404]), json=answer
        )
        for verb in VERBS.values():
            try:
                snapshot = verb(provider)
            except ProviderError:
                continue
            assert isinstance(snapshot, (PaymentSnapshot, RefundSnapshot))
            assert not getattr(snapshot, "captured", None) or answer["status"] in {
                "succeeded",
                "completed-with-success",
                "refunded",
            }


# Inbound ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b'{"transactionId":"MP-7","status":"succeeded"}']
)
def test_there_are_no_webhooks_so_nothing_is_believed(provider, server, body):
    incoming = IncomingRequest(
        method="POST", body=body, headers={"authorization": f"Bearer {API_TOKEN}"}
    )
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(incoming)
    assert provider.parse_webhook(incoming) == ()
    assert server.calls == []


def test_the_return_proves_and_names_nothing(provider):
    incoming = IncomingRequest(method="GET", body=b"", query_string="status=succeeded")
    assert provider.identify_return(incoming) == ""
    assert provider.webhook_answer(WebhookOutcome.REFUSED).status == 400


# Options ----------------------------------------------------------------------------


def problems(build: Any, **options: Any) -> str:
    return "\n".join(build(**options).problems())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api_token": None}, "api_token'] is missing"),
        ({"username": USERNAME, "password": PASSWORD}, "keep one way"),
        ({"api_token": None, "username": USERNAME}, "username and password together"),
        ({"api_token": None, "password": PASSWORD}, "username and password together"),
        ({"status_path": "/transactions/status"}, "one {id}"),
        ({"status_path": "/{id}/{id}"}, "one {id}"),
        ({"status_path": "/t/{id}/{x}"}, "one {id}"),
        ({"status_path": "t/{id}"}, "one {id}"),
        ({"status_path": "/t/{id}?x=1"}, "one {id}"),
        ({"status_path": "/t/{id}/"}, "one {id}"),
        ({"base_url": "https://sbx.api.easybilling.cloud/billing/"}, "payment hub"),
    ],
)
def test_options_that_cannot_work_are_named_with_their_remedy(build, options, words):
    assert words in problems(build, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"api_token": None, "username": USERNAME, "password": PASSWORD},
        {"status_path": "/api/transactions/{id}/status"},
        {"base_url": "https://tenant.easybilling.cloud"},
    ],
)
def test_options_that_can_work_have_no_problems(build, options):
    assert problems(build, **options) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gateway", "stripe"),
        ("amount_unit", "cents"),
        ("send_date", "yes"),
        ("require_https", 0),
        ("login_url", "sbx.api.easybilling.cloud"),
        ("offline_redirect_url", "/thanks/"),
        ("base_url", "https://user:secret@hub.example"),
    ],
)
def test_a_malformed_option_is_named(build, name, value):
    with pytest.raises(ProviderConfigurationError, match=name) as caught:
        build(**{name: value})
    assert "secret" not in str(caught.value)


LIVE = {"base_url": "https://app.api.easybilling.cloud/payment-hub"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"base_url": "https://sbx.api.easybilling.cloud/payment-hub"},
            ["test system"],
        ),
        ({"base_url": "https://test.api.easybilling.cloud/x"}, ["test system"]),
        ({"base_url": "http://app.api.easybilling.cloud/x"}, ["'base_url'] is not"]),
        (LIVE | {"login_url": "http://hub.example"}, ["'login_url'] is not https"]),
        (LIVE | {"require_https": False}, ["require_https"]),
        (LIVE, []),
    ],
)
def test_what_must_not_go_live_is_named(build, options, words):
    found = build(**options).deploy_problems()
    assert len(found) == len(words)
    for word, problem in zip(words, found, strict=True):
        assert word in problem


def test_of_several_tokens_the_first_is_sent(build, server):
    build(api_token=["new-token", "old-token"]).fetch_payment(query())
    assert server.calls[0].headers["authorization"] == "Bearer new-token"


def test_neither_token_nor_identifier_shows(build, server):
    provider = build()
    provider.http.session_token = JWT
    snapshot = provider.fetch_payment(query())
    text = f"{provider!r} {provider.options!r} {vars(provider)!r} {snapshot!r}"
    for secret in (API_TOKEN, JWT, "buyer@shop.example"):
        assert secret not in text
    assert replace(snapshot, token=None).details == {}


# Both sides together ---------------------------------------------------------------


class TestSandbox(SandboxContract):
    provider_class = EasyBillingProvider
    # Jasmine Tea House and Harbor Books, as the sandbox made them up.
    options = {
        "api_token": "eb_sandbox_4f2b8c1d9e7a6053",
        "offline_redirect_url": "https://shop.example/",
    }
    foreign_options = {"api_token": "eb_sandbox_90c3d7e5b1f8a264"}
    wrong_options = {"api_token": "eb_sandbox_nobody"}
    base_path = "/easybilling"
    written = "2630"
    operations = {
        "start_payment": "start",
        "fetch_payment": "status",
        "refund_payment": "refund",
        "charge_token": "start",
    }
    no_wrong_amount = "its inquiry names no amount"
    declined_charge = {"offline_outcome": "fail"}


class TestSandboxInMajorUnits(TestSandbox):
    options = TestSandbox.options | {"amount_unit": "major"}
    settings = {"amount_unit": "major"}
    written = "26.30"


class TestSandboxAfterLogIn(TestSandbox):
    """The same with a name and a password."""

    options = {
        "username": "tea@sandbox.easybilling.example",
        "password": "jasmine-2026",
        "offline_redirect_url": "https://shop.example/",
    }
    foreign_options = {
        "username": "books@sandbox.easybilling.example",
        "password": "harbor-2026",
    }
    wrong_options = {"password": "nobody's"}
