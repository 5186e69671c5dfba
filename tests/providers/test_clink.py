"""Clink: what its reference says, said again by hand and compared with ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from django.core.cache import cache
from moneyed import Money

from django_multipay import money
from django_multipay.enums import (
    Capability,
    CaptureMode,
    DeclineCode,
    PaymentStatus,
    PlanStatus,
    RefundStatus,
    WebhookOutcome,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidAmount,
    InvalidOperation,
    MalformedWebhook,
    MultipayError,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    SignatureMismatch,
    UnexpectedAnswer,
    UnsupportedOperation,
    WebhookError,
    WebhookExpired,
)
from django_multipay.messages import (
    Address,
    Buyer,
    Decline,
    DisputeSnapshot,
    IncomingRequest,
    LineItem,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    PlanCancelRequest,
    PlanSnapshot,
    PlanTerms,
    PostForm,
    ProviderEvent,
    QRCode,
    Redirect,
    RefundQuery,
    RefundRequest,
    RefundSnapshot,
    TokenChargeRequest,
    TokenSnapshot,
)
from django_multipay.providers.clink import PROVIDER_DATA, ClinkProvider
from django_multipay.testing.provider_contract import (
    Call,
    LocalServer,
    ProviderContract,
    Reply,
)
from django_multipay.testing.sandbox_contract import SandboxContract
from tests.five import Shop, facts, settings_at

API_KEY = "sk_test_51Hx9canaryOfTheKey"
SECRET = "whsec_canaryOfTheWebhook"
BASE_URL = "https://uat-api.clinkbill.com/api"
OPTIONS = {"api_key": API_KEY, "webhook_secret": SECRET, "base_url": BASE_URL}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
USDT = money.currency_of("USDT")
ORDER_ID = "order_def456uvw"
SESSION_ID = "sess_abc123xyz"


def usd(text: str) -> Money:
    return Money(Decimal(text), "USD")


def ok(data: object) -> Reply:
    """The success envelope of the reference."""
    return Reply(json={"code": 200, "msg": "success", "data": data})


def rows(*orders: Mapping[str, Any]) -> Reply:
    """A list has no ``data``."""
    return Reply(
        json={
            "total": len(orders),
            "rows": [dict(order) for order in orders],
            "code": 200,
            "msg": "success",
        }
    )


# The order of the reference, with its own example values.
ORDER = {
    "orderId": ORDER_ID,
    "type": "onetime",
    "merchantReferenceId": "MP-7",
    "sessionId": SESSION_ID,
    "invoiceId": None,
    "customerId": "cus_ghi789rst",
    "customerEmail": "customer@example.com",
    "createTime": 1754819711382,
    "productId": None,
    "priceId": None,
    "priceDataList": None,
    "paymentMethod": {
        "paymentMethodType": "CARD",
        "paymentInstrumentId": "pi_xxxxx",
        "cardScheme": "Visa",
        "cardLastFour": "4242",
        "issuerRegion": "US",
        "issuerBank": "Chase Bank",
        "wallet": None,
    },
    "paymentExecutionDetails": None,
    "amountSubtotal": 9.99,
    "amountTotal": 9.99,
    "paymentCurrency": "USD",
    "originalCurrency": "USD",
    "status": "success",
    "paymentTime": 1754819711382,
    "metadata": {},
    "riskLevel": "LOW",
}
PAID_AT = datetime(2025, 8, 10, 9, 55, 11, 382000, tzinfo=UTC)

SESSION_ANSWER = {
    "sessionId": SESSION_ID,
    "tokenValue": "tok_canary",
    "customerId": "cus_12345",
    "originalAmount": 99.99,
    "originalCurrency": "USD",
    "uiMode": "hostedPage",
    "url": "https://uat-checkout.clinkbill.com/pay/sess_abc123xyz",
    "merchantReferenceId": "MP-7",
    "expireTime": "2026-11-22T10:00:00Z",
}

SESSION = {
    "sessionId": SESSION_ID,
    "status": "open",
    "paymentStatus": "unpaid",
    "amountSubtotal": 9.99,
    "amountTotal": 9.99,
    "originalCurrency": "USD",
    "paymentCurrency": "USD",
    "subscriptionId": None,
    "invoiceId": None,
    "orderId": None,
    "merchantReferenceId": "MP-7",
}

REFUND = {
    "createTime": 1754819711382,
    "refundId": "rfd_abc123xyz",
    "refundMerchantOrderId": "refund_ref_10001",
    "orderId": ORDER_ID,
    "customerId": "cus_ghi789rst",
    "refundAmount": 19.99,
    "refundCurrency": "USD",
    "status": "success",
    "refundReason": "Customer Initiated Refund",
    "metadata": {"arn": "8377252556170253", "merchantReferenceId": "sample_id"},
    "paymentInstrumentId": "pi_xxxxx",
}

# As Clink's own tool says that production writes it; amounts are text.
SUBSCRIPTION = {
    "merchantReference": "MP-7",
    "subscriptionId": "sub_1",
    "sessionId": SESSION_ID,
    "customerId": "cus_1",
    "productId": "prd_1",
    "priceId": "price_1",
    "createTime": 1772542049186,
    "currentPeriodStart": 1772542049024,
    "currentPeriodEnd": 1785761249024,
    "cancelAtPeriodEnd": None,
    "status": "active",
    "currency": "USD",
    "recurringInvoiceItem": {
        "amount": "20",
        "periodStart": 1783082849024,
        "periodEnd": 1785761249024,
    },
}
NEXT_ON = date(2026, 8, 3)
OVER = "cancelled"  # codespell:ignore cancelled

INVOICE = {
    "invoiceId": "inv_1",
    "subscriptionId": "sub_1",
    "orderId": ORDER_ID,
    "status": "paid",
    "currentPeriodStart": 1772542049024,
    "originalAmount": "9.99",
    "originalCurrency": "USD",
}

DISPUTE = {
    "chargeBackId": "cbi_1",
    "orderId": ORDER_ID,
    "merchantReferenceId": " ",
    "merchantId": "mcht_1",
    "disputeAmount": 10.46,
    "disputeCurrency": "USD",
    "originalAmount": 10.46,
    "originalCurrency": "USD",
    "reasonCode": "10.4",
    "status": 1,
    "evidenceDeadline": 1787680800000,
    "channelDisputeTime": 1785888000000,
}


PAYMENT_ANSWER = {
    "orderId": ORDER_ID,
    "sessionId": SESSION_ID,
    "paymentInstrumentId": "pi_xxxxx",
    "status": 1,
    "amount": 9.99,
    "currency": "USD",
}

# The recurring price of a plan, made at Clink.
PRICE = {"productId": "prd_1", "priceId": "price_1"}

CONTRACT_ORDER = ORDER | {
    "merchantReferenceId": "MP-CONTRACT-1",
    "amountSubtotal": 26.3,
    "amountTotal": 26.3,
}


def working_reply(call: Call) -> Reply:
    """Clink in ten lines: the payment of the contract is paid, no other one is there."""
    path = urlsplit(call.path)
    if path.path == "/order":
        is_known = "MP-CONTRACT-1" in path.query
        return rows(CONTRACT_ORDER) if is_known else rows()
    if path.path == "/checkout/session":
        return ok(SESSION_ANSWER)
    known = {
        "order": CONTRACT_ORDER,
        "payment": PAYMENT_ANSWER,
        "refund": REFUND,
        "subscription": SUBSCRIPTION,
    }
    return ok(known[path.path.split("/")[1]])


def signature(secret: str, stamp: str, body: bytes) -> str:
    """The rule of the reference, written a second time."""
    text = stamp.encode() + b"." + body
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def now_ms(shift: timedelta = timedelta()) -> str:
    return str(time.time_ns() // 1_000_000 + shift // timedelta(milliseconds=1))


def signed(
    body: bytes,
    secret: str = SECRET,
    stamp: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> IncomingRequest:
    """A message as Clink would send it."""
    stamp = now_ms() if stamp is None else stamp
    return IncomingRequest(
        method="POST",
        body=body,
        content_type="application/json",
        headers={
            "x-clink-timestamp": stamp,
            "x-clink-signature": signature(secret, stamp, body),
            "x-clink-signtype": "SHA256",
            **(headers or {}),
        },
    )


def event(kind: str, resource: object, **changes: Any) -> bytes:
    """The envelope of the newer reference."""
    values = {
        "id": "event_1",
        "object": "event",
        "created": 1750062041000,
        "type": kind,
        "data": {"object": resource},
    }
    return json.dumps(values | changes).encode()


CREATED = datetime(2025, 6, 16, 8, 20, 41, tzinfo=UTC)


class TestContract(ProviderContract):
    provider_class = ClinkProvider
    options = OPTIONS
    webhook_secret = SECRET
    webhook_secret_option = "webhook_secret"
    webhook_changes = (
        (b'"amountSubtotal": 26.3', b'"amountSubtotal": 6.3'),
        (b'"status": "success"', b'"status": "failed"'),
        (b"MP-CONTRACT-1", b"MP-CONTRACT-2"),
        (b"USD", b"KRW"),
        (b"{", b" {"),
    )
    webhook_tolerance = timedelta(seconds=300)
    nameless: ClassVar[Mapping[str, str]] = {
        "refresh_action": "a fresh code moves nothing, and the older one just ends"
    }

    def reply(self, call):
        return working_reply(call)

    def unknown_status(self, call):
        return rows(CONTRACT_ORDER | {"status": "half_paid"})

    def webhook(self, secret):
        return signed(event("order.succeeded", CONTRACT_ORDER), secret)

    def webhook_at(self, secret, moment):
        stamp = str((moment - EPOCH) // timedelta(milliseconds=1))
        return signed(event("order.succeeded", CONTRACT_ORDER), secret, stamp)

    def unsigned_webhook(self):
        message = self.webhook(SECRET)
        headers = {"x-clink-timestamp": message.headers["x-clink-timestamp"]}
        return replace(message, headers=headers)

    def plan_request(self):
        return replace(super().plan_request(), provider_data=PRICE)


@pytest.fixture
def server():
    with LocalServer(working_reply) as server:
        yield server


@pytest.fixture
def build(server):
    """Returns a provider; its options may be changed."""

    def build(**options: Any) -> ClinkProvider:
        values = OPTIONS | {"base_url": server.url} | options
        return ClinkProvider(
            "clink", ClinkProvider.options_class.from_mapping(values, alias="clink")
        )

    return build


@pytest.fixture
def provider(build):
    return build()


def by_path(replies: Mapping[str, Reply]) -> Any:
    """Answers by path; a list of orders is empty unless it is named."""
    known = {"/order": rows(), **replies}
    return lambda call: known[urlsplit(call.path).path]


@pytest.fixture
def pays(server):
    """Sets what a direct payment is answered."""

    def pays(data: Any) -> None:
        server.reply = by_path({"/payment": ok(data)})

    return pays


def request(**changes: Any) -> PaymentRequest:
    values: dict[str, Any] = {
        "key": "k-1",
        "merchant_reference": "MP-7",
        "order_id": "1001",
        "amount": usd("9.99"),
        "return_url": "https://shop.example/return/",
        "status_url": "https://shop.example/status/",
        "buyer": Buyer(name="Hong Gil Dong", email="customer@example.com"),
    }
    return PaymentRequest(**values | changes)


def query(**changes: Any) -> PaymentQuery:
    values: dict[str, Any] = {
        "merchant_reference": "MP-7",
        "provider_reference": "",
        "amount": usd("9.99"),
    }
    return PaymentQuery(**values | changes)


# The hosted page --------------------------------------------------------------------


def test_a_session_is_opened_as_in_the_reference(provider, server):
    snapshot = provider.start_payment(
        request(
            amount=usd("99.99"),
            cancel_url="https://shop.example/cancel/",
            customer_id="user-42",
            items=[
                LineItem(name="Coffee", quantity=2, unit_price=usd("40.00")),
                LineItem(name="Shipping", unit_price=usd("19.99")),
            ],
            provider_data={
                "metadata": {"campaign": "spring"},
                "localPriceOnly": False,
                "paymentMethodTypeBlackList": ["PAYPAL", "KAKAO"],
            },
        )
    )
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/checkout/session")
    assert call.headers["content-type"] == "application/json"
    assert call.headers["x-api-key"] == API_KEY
    assert call.json == {
        "originalAmount": Decimal("99.99"),
        "originalCurrency": "USD",
        "merchantReferenceId": "MP-7",
        "customerEmail": "customer@example.com",
        "uiMode": "hostedPage",
        "successUrl": "https://shop.example/return/",
        "cancelUrl": "https://shop.example/cancel/",
        "priceDataList": [
            {
                "name": "Coffee",
                "quantity": 2,
                "unitAmount": Decimal("40.00"),
                "currency": "USD",
            },
            {
                "name": "Shipping",
                "quantity": 1,
                "unitAmount": Decimal("19.99"),
                "currency": "USD",
            },
        ],
        "metadata": {"campaign": "spring"},
        "localPriceOnly": False,
        "paymentMethodTypeBlackList": ["PAYPAL", "KAKAO"],
    }
    assert b'"originalAmount":99.99,' in call.body
    assert snapshot == PaymentSnapshot(
        status=PaymentStatus.PENDING,
        provider_reference=SESSION_ID,
        merchant_reference="MP-7",
        amount=usd("99.99"),
        next_action=Redirect(
            url="https://uat-checkout.clinkbill.com/pay/sess_abc123xyz"
        ),
        expires_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
    )


def test_the_time_of_a_call_is_in_milliseconds(provider, server):
    before = time.time_ns() // 1_000_000
    provider.start_payment(request())
    after = time.time_ns() // 1_000_000
    assert before <= int(server.calls[0].headers["x-timestamp"]) <= after


@pytest.mark.parametrize("method", ["CARD", "PAYPAL", "GOOGLEPAY", "APPLEPAY", "PIX"])
def test_what_cannot_be_paid_directly_opens_the_page_with_the_method(
    provider, server, method
):
    provider.start_payment(request(method=method))
    assert server.calls[0].path == "/checkout/session"
    assert server.calls[0].json["paymentMethodType"] == method


def test_a_registered_price_goes_to_the_page_instead_of_lines(provider, server):
    provider.start_payment(
        request(
            description="Course",
            provider_data={"productId": "prd_1", "priceId": "price_1"},
        )
    )
    body = server.calls[0].json
    assert (body["productId"], body["priceId"]) == ("prd_1", "price_1")
    assert "priceDataList" not in body
    assert body["originalAmount"] == Decimal("9.99")


@pytest.mark.parametrize(
    "items",
    [
        [LineItem(name="Coffee", unit_price=usd("9.98"))],
        [
            LineItem(name="Coffee", unit_price=usd("10.99")),
            LineItem(name="Coupon", unit_price=usd("-1.00")),
        ],
        [LineItem(name="Coffee", unit_price=Money("9.99", "EUR"))],
        [],
    ],
    ids=["not the sum", "discount", "another currency", "none"],
)
def test_lines_that_clink_could_not_take_become_the_description(
    provider, server, items
):
    provider.start_payment(request(items=items, description="Order 1001"))
    assert server.calls[0].json["priceDataList"] == [
        {
            "name": "Order 1001",
            "quantity": 1,
            "unitAmount": Decimal("9.99"),
            "currency": "USD",
        }
    ]


def test_without_items_and_description_there_are_no_lines(provider, server):
    provider.start_payment(request())
    assert "priceDataList" not in server.calls[0].json


def test_clinks_own_customer_id_stands_alone_for_the_others_must_match(
    provider, server
):
    provider.start_payment(
        request(customer_id="user-42", provider_data={"customerId": "cus_12345"})
    )
    body = server.calls[0].json
    assert body["customerId"] == "cus_12345"
    assert "customerEmail" not in body
    assert "referenceCustomerId" not in body


@pytest.mark.parametrize(
    ("buyer", "customer_id", "sent"),
    [
        (Buyer(email="a@example.com"), "", {"customerEmail": "a@example.com"}),
        (Buyer(email="a@example.com"), "u-1", {"customerEmail": "a@example.com"}),
        (Buyer(), "user-42", {"referenceCustomerId": "user-42"}),
    ],
)
def test_one_way_to_name_the_customer_is_enough(
    provider, server, buyer, customer_id, sent
):
    provider.start_payment(request(buyer=buyer, customer_id=customer_id))
    body = server.calls[0].json
    names = ("customerId", "customerEmail", "referenceCustomerId")
    assert {name: body[name] for name in names if name in body} == sent


@pytest.mark.parametrize("text", ["132000", "1"])
def test_a_currency_without_decimals_has_none_on_the_wire(provider, server, text):
    provider.start_payment(request(amount=Money(text, "KRW")))
    assert f'"originalAmount":{text},'.encode() in server.calls[0].body


@pytest.mark.parametrize(
    "data",
    [
        {},
        SESSION_ANSWER | {"sessionId": None},
        SESSION_ANSWER | {"url": ""},
        SESSION_ANSWER | {"url": "javascript:alert(1)"},
        [SESSION_ANSWER],
        None,
    ],
)
def test_an_answer_without_a_page_leaves_the_outcome_unknown(provider, server, data):
    server.reply = lambda call: ok(data)
    with pytest.raises(OutcomeUnknown):
        provider.start_payment(request())


def test_an_expiry_without_a_zone_is_not_guessed(provider, server):
    server.reply = lambda call: ok(SESSION_ANSWER | {"expireTime": "2026-11-22T10:00"})
    assert provider.start_payment(request()).expires_at is None


# What is refused before anything is sent --------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": usd("0")}, "amount"),
        ({"amount": usd("1.001")}, "amount"),
        ({"amount": Money("1", USDT)}, "amount"),
        ({"capture_mode": CaptureMode.MANUAL}, "capture_mode"),
        ({"method": "BITCOIN"}, "method"),
        ({"method": "card"}, "method"),
        ({"method": "PAYPAL", "token": "pi_1"}, "method"),
        ({"buyer": Buyer()}, "buyer.email"),
        ({"buyer": Buyer(email="nobody")}, "buyer.email"),
        ({"provider_data": {"productId": "prd_1"}}, "provider_data.priceId"),
        ({"provider_data": {"priceId": "price_1"}}, "provider_data.priceId"),
        ({"provider_data": {"nonsense": "1"}}, "provider_data.nonsense"),
        ({"provider_data": {"uiMode": "elements"}}, "provider_data.uiMode"),
        ({"provider_data": {"deviceType": "iOS"}}, "provider_data.deviceType"),
        ({"provider_data": {"customerId": "a b"}}, "provider_data.customerId"),
        ({"provider_data": {"localPriceOnly": "true"}}, "provider_data.localPriceOnly"),
        ({"provider_data": {"metadata": "x"}}, "provider_data.metadata"),
        (
            {"provider_data": {"metadata": {str(n): "x" for n in range(21)}}},
            "provider_data.metadata",
        ),
        ({"provider_data": {"metadata": {"n" * 41: "x"}}}, "provider_data.metadata"),
        ({"provider_data": {"metadata": {"": "x"}}}, "provider_data.metadata"),
        ({"provider_data": {"metadata": {"n": "x" * 501}}}, "provider_data.metadata.n"),
        ({"provider_data": {"metadata": {"n": 1}}}, "provider_data.metadata.n"),
        (
            {"provider_data": {"paymentMethodTypeBlackList": ["TNG"]}},
            "provider_data.paymentMethodTypeBlackList",
        ),
        (
            {"provider_data": {"paymentMethodTypeBlackList": "CARD"}},
            "provider_data.paymentMethodTypeBlackList",
        ),
        ({"provider_data": {"promotionCode": "HALF"}}, "provider_data.promotionCode"),
        ({"provider_data": {"paymentInstrumentId": "pi_1"}}, "method"),
        (
            {"method": "CASHAPP", "provider_data": {"deviceType": "Nokia"}},
            "provider_data.deviceType",
        ),
        (
            {"method": "CASHAPP", "provider_data": {"localPriceOnly": True}},
            "provider_data.localPriceOnly",
        ),
        (
            {
                "method": "PIX",
                "buyer": Buyer(email="a@example.com"),
                "provider_data": {"cpfNumber": "12345678909"},
            },
            "provider_data.cpfName",
        ),
        (
            {"method": "UPI", "provider_data": {"upiName": "A"}},
            "provider_data.phoneNumber",
        ),
        (
            {
                "method": "UPI",
                "provider_data": {"upiName": "A", "billingAddress": {"city": "B"}},
            },
            "provider_data.billingAddress",
        ),
        (
            {"method": "UPI", "provider_data": {"billingAddress": {"planet": "B"}}},
            "provider_data.billingAddress",
        ),
    ],
)
def test_what_clink_would_refuse_is_refused_here_with_the_field(
    provider, server, changes, field
):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(**changes))
    assert caught.value.field == field
    assert server.calls == []


def test_the_limits_of_metadata_themselves_are_fine(provider, server):
    metadata = {f"{n:040}": "x" * 500 for n in range(20)}
    provider.start_payment(request(provider_data={"metadata": metadata}))
    assert server.calls[0].json["metadata"] == metadata


def test_promotions_must_be_switched_on_first(build, server):
    provider = build(promotions=True)
    data = {
        "allowPromotionCodes": True,
        "showPromotionCode": False,
        "promotionCode": "HALF",
    }
    provider.start_payment(request(provider_data=data))
    assert data.items() <= server.calls[0].json.items()


def test_an_error_about_a_field_names_all_that_could_stand_there(provider):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(provider_data={"nonsense": "1"}))
    for name in PROVIDER_DATA["session"]:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("amount", "is_taken"),
    [
        (usd("0.01"), True),
        (usd("0"), False),
        (usd("1.001"), False),
        (Money("100", "KRW"), True),
        (Money("1.234", "KWD"), True),
        (Money("1", USDT), False),
    ],
)
def test_it_says_itself_what_it_can_take(provider, amount, is_taken):
    assert provider.can_take(amount) is is_taken


# The direct call --------------------------------------------------------------------


def test_a_card_is_charged_with_the_body_of_the_reference(provider, server, pays):
    pays(PAYMENT_ANSWER)
    provider.start_payment(
        request(
            method="CARD",
            merchant_reference="pay_ref_123",
            return_url="https://merchant.example.com/payment/return",
            provider_data={
                "customerId": "cus_xxxxx",
                "productId": "prd_xxxxx",
                "priceId": "price_xxxxx",
                "paymentInstrumentId": "pi_xxxxx",
                "deviceType": "Android",
            },
        )
    )
    look_up, call = server.calls
    assert look_up.method == "GET"
    assert look_up.path == (
        "/order?merchantReferenceId=pay_ref_123&pageNum=1&pageSize=50"
    )
    assert look_up.body == b""
    assert (call.method, call.path) == ("POST", "/payment")
    assert call.headers["x-api-key"] == API_KEY
    assert call.headers["x-timestamp"].isdigit()
    # The example of the reference, letter by letter.
    assert call.json == {
        "customerId": "cus_xxxxx",
        "productId": "prd_xxxxx",
        "priceId": "price_xxxxx",
        "paymentInstrumentId": "pi_xxxxx",
        "paymentMethodType": "CARD",
        "returnUrl": "https://merchant.example.com/payment/return",
        "merchantReferenceId": "pay_ref_123",
        "platformType": "WEB",
        "deviceType": "Android",
    }


def test_the_amount_form_of_a_payment_with_everything(provider, server, pays):
    pays(PAYMENT_ANSWER)
    provider.start_payment(
        request(
            method="WECHAT",
            is_mobile=True,
            customer_id="user-42",
            description="Order 1001",
            provider_data={"paymentCurrency": "HKD", "metadata": {"a": "b"}},
        )
    )
    assert server.calls[-1].json == {
        "customerEmail": "customer@example.com",
        "paymentMethodType": "WECHAT",
        "returnUrl": "https://shop.example/return/",
        "merchantReferenceId": "MP-7",
        "platformType": "WAP",
        "paymentCurrency": "HKD",
        "metadata": {"a": "b"},
        "amount": Decimal("9.99"),
        "currency": "USD",
        "priceDataList": [
            {
                "name": "Order 1001",
                "quantity": 1,
                "unitAmount": Decimal("9.99"),
                "currency": "USD",
            }
        ],
    }
    assert b'"amount":9.99' in server.calls[-1].body


@pytest.mark.parametrize(
    "method",
    ["ALIPAY", "CASHAPP", "GCASH", "KAKAO", "PROMPTPAY", "QRIS", "TNG", "WECHAT"],
)
def test_a_wallet_needs_no_instrument(provider, server, pays, method):
    pays(PAYMENT_ANSWER)
    snapshot = provider.start_payment(request(method=method))
    assert server.calls[-1].json["paymentMethodType"] == method
    assert "paymentInstrumentId" not in server.calls[-1].json
    assert snapshot.method == method


def test_pix_makes_its_instrument_first(provider, server):
    server.reply = by_path(
        {"/payment-instrument": ok({"id": "pi_pix"}), "/payment": ok(PAYMENT_ANSWER)}
    )
    provider.start_payment(
        request(method="PIX", provider_data={"cpfNumber": "123.456.789-09"})
    )
    made, _, paid = server.calls
    assert (made.method, made.path) == ("POST", "/payment-instrument")
    assert made.json == {
        "paymentInstrumentType": "PIX",
        "customerEmail": "customer@example.com",
        "customerName": "Hong Gil Dong",
        "cpfName": "Hong Gil Dong",
        "cpfNumber": "123.456.789-09",
    }
    assert paid.json["paymentInstrumentId"] == "pi_pix"
    assert paid.json["paymentMethodType"] == "PIX"


def test_upi_takes_name_phone_and_address_of_the_buyer(provider, server):
    server.reply = by_path(
        {"/payment-instrument": ok({"id": "pi_upi"}), "/payment": ok(PAYMENT_ANSWER)}
    )
    address = Address(
        street="1 MG Road",
        city="Bengaluru",
        state="Karnataka",
        postal_code="560001",
        country="IN",
    )
    buyer = Buyer(
        name="Asha", email="a@example.com", phone="+91 98 0000 0000", address=address
    )
    provider.start_payment(
        request(method="UPI", buyer=buyer, provider_data={"upiName": "Asha R"})
    )
    assert server.calls[0].json == {
        "paymentInstrumentType": "UPI",
        "customerEmail": "a@example.com",
        "customerName": "Asha",
        "upiName": "Asha R",
        "phoneNumber": "+91 98 0000 0000",
        "billingAddress": {
            "city": "Bengaluru",
            "region": "Karnataka",
            "country": "IN",
            "line1": "1 MG Road",
            "postalCode": "560001",
        },
    }


def test_upi_takes_the_address_of_provider_data_first(provider, server):
    server.reply = by_path(
        {"/payment-instrument": ok({"id": "pi_upi"}), "/payment": ok(PAYMENT_ANSWER)}
    )
    address = {
        "city": "Pune",
        "region": "MH",
        "country": "IN",
        "line1": "1 FC Road",
        "postalCode": "411001",
    }
    provider.start_payment(
        request(
            method="UPI",
            provider_data={"phoneNumber": "9800000000", "billingAddress": address},
        )
    )
    assert server.calls[0].json["billingAddress"] == address
    assert "billingAddress" not in server.calls[-1].json


def test_an_instrument_without_an_id_is_not_paid_with(provider, server):
    server.reply = by_path({"/payment-instrument": ok({})})
    with pytest.raises(OutcomeUnknown):
        provider.start_payment(
            request(method="PIX", provider_data={"cpfNumber": "12345678909"})
        )
    assert [call.path for call in server.calls] == ["/payment-instrument"]


def test_an_order_that_is_there_already_is_not_paid_again(provider, server, caplog):
    """A lost answer may have been a payment, and Clink has no idempotency key."""
    server.reply = by_path({"/order": rows(ORDER)})
    snapshot = provider.start_payment(request(method="CASHAPP"))
    assert [call.method for call in server.calls] == ["GET"]
    assert snapshot.status is PaymentStatus.PAID
    assert snapshot.provider_reference == ORDER_ID
    assert ORDER_ID in caplog.text


def test_an_answer_that_is_lost_after_the_payment_is_unknown(provider, server):
    server.reply = by_path({"/payment": Reply(is_lost=True)})
    with pytest.raises(OutcomeUnknown):
        provider.start_payment(request(method="CASHAPP"))
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (1, PaymentStatus.PAID),
        (2, PaymentStatus.PENDING),
        (3, PaymentStatus.FAILED),
        (5, PaymentStatus.PENDING),
        pytest.param("1", PaymentStatus.PAID, id="as text"),
    ],
)
def test_every_result_of_a_direct_call(provider, pays, status, expected):
    action = {"redirectUrl": "https://wallet.example/", "method": "GET"}
    pays(PAYMENT_ANSWER | {"status": status, "action": action})
    snapshot = provider.start_payment(request(method="ALIPAY"))
    is_paid = expected is PaymentStatus.PAID
    assert snapshot == PaymentSnapshot(
        status=expected,
        provider_reference=ORDER_ID,
        merchant_reference="MP-7",
        amount=usd("9.99"),
        captured=usd("9.99") if is_paid else None,
        method="ALIPAY",
        provider_status=str(status),
        decline=Decline(code=DeclineCode.GENERIC)
        if expected is PaymentStatus.FAILED
        else None,
        # The older reference prints an action beside every result; only 5 means it.
        next_action=Redirect(url="https://wallet.example/") if status == 5 else None,
    )


@pytest.mark.parametrize("status", [4, 0, -1, "paid", True, [1], 10**9])
def test_an_unknown_result_is_pending_and_logged(provider, pays, caplog, status):
    pays(PAYMENT_ANSWER | {"status": status})
    snapshot = provider.start_payment(request(method="ALIPAY"))
    assert snapshot.status is PaymentStatus.PENDING
    assert snapshot.captured is None
    assert "unknown" in caplog.text


def test_a_result_without_an_order_is_unknown(provider, pays):
    pays(PAYMENT_ANSWER | {"orderId": None})
    with pytest.raises(OutcomeUnknown):
        provider.start_payment(request(method="ALIPAY"))


def test_a_converted_payment_is_compared_with_what_was_asked(provider, pays):
    pays(PAYMENT_ANSWER | {"amount": 78.12, "currency": "HKD"})
    snapshot = provider.start_payment(request(method="ALIPAY"))
    assert snapshot.amount == snapshot.captured == usd("9.99")
    assert snapshot.details == {
        "charged_amount": "78.12",
        "charged_currency": "HKD",
    }


def test_a_registered_price_that_differs_is_seen_by_the_core(provider, pays):
    pays(PAYMENT_ANSWER | {"amount": 12})
    data = {"productId": "prd_1", "priceId": "price_1"}
    snapshot = provider.start_payment(request(method="ALIPAY", provider_data=data))
    assert snapshot.amount == usd("12")


@pytest.mark.parametrize("currency", ["HKD", None])
def test_a_registered_price_in_another_currency_is_left_to_the_order(
    provider, pays, currency
):
    pays(PAYMENT_ANSWER | {"amount": 78.12, "currency": currency})
    data = {"productId": "prd_1", "priceId": "price_1"}
    snapshot = provider.start_payment(request(method="ALIPAY", provider_data=data))
    assert snapshot.status is PaymentStatus.PENDING
    assert snapshot.captured is None
    assert snapshot.provider_reference == ORDER_ID


def test_less_than_asked_is_captured_as_less(provider, build, pays):
    pays(PAYMENT_ANSWER | {"amount": 4.99})
    snapshot = provider.start_payment(request(method="ALIPAY"))
    assert (snapshot.amount, snapshot.captured) == (usd("9.99"), usd("4.99"))
    trusting = build(promotions=True).start_payment(request(method="ALIPAY"))
    assert trusting.captured == usd("9.99")
    assert trusting.details["charged_amount"] == "4.99"


# Next actions -----------------------------------------------------------------------

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n canary of a picture").decode()
SVG = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode()
EXPIRY = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
EXPIRES_AT = 1795251600


def wallet(**fields: Any) -> dict[str, Any]:
    return {"walletHandleRedirectOrDisplayQrCode": fields}


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (
            {"redirectUrl": "https://pay.example/3ds", "method": "GET"},
            Redirect(url="https://pay.example/3ds"),
        ),
        (
            # As in the older reference: neither method nor type.
            {"redirectUrl": "https://pay.example/3ds", "postData": {}},
            Redirect(url="https://pay.example/3ds"),
        ),
        (
            {
                "redirectUrl": "https://acs.example/",
                "method": "POST",
                "type": "CARD",
                "postData": {"PaReq": "abc", "MD": "def"},
            },
            PostForm(url="https://acs.example/", fields={"PaReq": "abc", "MD": "def"}),
        ),
        (
            {"redirectUrl": "https://acs.example/", "postData": {"MD": "def"}},
            PostForm(url="https://acs.example/", fields={"MD": "def"}),
        ),
        (
            {"redirectUrl": "https://acs.example/", "method": "POST"},
            PostForm(url="https://acs.example/", fields={}),
        ),
        (
            wallet(
                imageUrlPng="https://qr.example/1.png",
                imageUrlSvg="https://qr.example/1.svg",
                imageDataUrl=f"data:image/png;base64,{PNG}",
                hostedInstructionsUrl="https://cash.example/hosted",
                mobileAuthUrl="cashapp://pay/1",
                fallbackUrl="https://cash.example/fallback",
                packageName="com.squareup.cash",
                expiresAt=EXPIRES_AT,
                expiresSecond=300,
            ),
            QRCode(
                image="https://qr.example/1.png",
                deep_link="cashapp://pay/1",
                fallback_url="https://cash.example/fallback",
                expires_at=EXPIRY,
            ),
        ),
        (
            wallet(
                imageUrlSvg="https://qr.example/1.svg",
                hostedInstructionsUrl="https://cash.example/hosted",
            ),
            QRCode(
                image="https://qr.example/1.svg",
                fallback_url="https://cash.example/hosted",
            ),
        ),
        (
            wallet(imageUrlPng=PNG),
            QRCode(image=f"data:image/png;base64,{PNG}"),
        ),
        (
            wallet(imageUrlSvg=SVG),
            QRCode(image=f"data:image/svg+xml;base64,{SVG}"),
        ),
        (
            wallet(imageDataUrl=f"data:image/png;base64,{PNG}"),
            QRCode(image=f"data:image/png;base64,{PNG}"),
        ),
        (
            wallet(imageDataUrl=PNG),
            QRCode(image=f"data:image/png;base64,{PNG}"),
        ),
        (
            wallet(imageUrlPng=f"{PNG[:20]}\r\n{PNG[20:]}\n"),
            QRCode(image=f"data:image/png;base64,{PNG}"),
        ),
        (
            wallet(imageUrlPng=PNG, imageUrlSvg="https://qr.example/1.svg"),
            QRCode(image="https://qr.example/1.svg"),
        ),
        (
            wallet(mobileAuthUrl="https://cash.app/pay/1"),
            QRCode(data="https://cash.app/pay/1", deep_link="https://cash.app/pay/1"),
        ),
        (
            {"redirectUrl": "weixin://wap/pay?prepayid=1"},
            QRCode(
                data="weixin://wap/pay?prepayid=1",
                deep_link="weixin://wap/pay?prepayid=1",
            ),
        ),
        (
            wallet(hostedInstructionsUrl="https://cash.example/hosted"),
            Redirect(url="https://cash.example/hosted"),
        ),
        (
            wallet(fallbackUrl="https://cash.example/fallback"),
            Redirect(url="https://cash.example/fallback"),
        ),
        (
            {"redirectUrl": "https://pay.example/", **wallet(imageUrlPng=PNG)},
            QRCode(
                image=f"data:image/png;base64,{PNG}",
                fallback_url="https://pay.example/",
            ),
        ),
        ({"redirectUrl": "javascript:alert(1)"}, None),
        (wallet(mobileAuthUrl="javascript:alert(1)", imageUrlPng="x"), None),
        (wallet(imageDataUrl="data:text/html;base64,PGI+"), None),
        ({}, None),
        (None, None),
        (["x"], None),
        (wallet(imageUrlPng=7, mobileAuthUrl=[], expiresAt={}), None),
    ],
)
def test_every_shape_of_a_next_action(provider, pays, action, expected):
    pays(PAYMENT_ANSWER | {"status": 5, "action": action})
    snapshot = provider.start_payment(request(method="CASHAPP"))
    assert snapshot.status is PaymentStatus.PENDING
    assert snapshot.next_action == expected


def test_an_action_without_a_result_is_that_of_the_older_reference(provider, pays):
    answer = {name: PAYMENT_ANSWER[name] for name in ("orderId", "sessionId")}
    action = {"redirectUrl": "https://wallet.example/", "postData": {}}
    pays(answer | {"action": action})
    snapshot = provider.start_payment(request(method="ALIPAY"))
    assert snapshot.next_action == Redirect(url="https://wallet.example/")


def test_a_countdown_is_counted_from_now(provider, pays):
    action = wallet(imageUrlPng=PNG, expiresSecond=600)
    pays(PAYMENT_ANSWER | {"status": 5, "action": action})
    before = datetime.now(UTC)
    code = provider.start_payment(request(method="CASHAPP")).next_action
    after = datetime.now(UTC)
    assert isinstance(code, QRCode)
    assert code.expires_at is not None
    ten_minutes = timedelta(seconds=600)
    assert before + ten_minutes <= code.expires_at <= after + ten_minutes


def test_a_fresh_code_is_asked_for_without_a_body(provider, server):
    action = wallet(imageUrlPng="https://qr.example/2.png", expiresAt=EXPIRES_AT)
    data = {"orderId": ORDER_ID, "action": action}
    server.reply = lambda call: ok(data)
    snapshot = provider.refresh_action(
        query(method="CASHAPP", provider_reference=ORDER_ID)
    )
    (call,) = server.calls
    assert (call.method, call.path, call.body) == (
        "POST",
        "/payment/order_def456uvw/qrcode/refresh",
        b"",
    )
    assert snapshot == PaymentSnapshot(
        status=PaymentStatus.PENDING,
        provider_reference=ORDER_ID,
        merchant_reference="MP-7",
        amount=usd("9.99"),
        method="CASHAPP",
        next_action=QRCode(image="https://qr.example/2.png", expires_at=EXPIRY),
    )


def test_a_fresh_code_is_there_for_cash_app_only(provider, server):
    with pytest.raises(UnsupportedOperation):
        provider.refresh_action(query(method="QRIS", provider_reference=ORDER_ID))
    with pytest.raises(InvalidOperation):
        provider.refresh_action(query(provider_reference=SESSION_ID))
    assert server.calls == []


# Asking -----------------------------------------------------------------------------


def paid(**changes: Any) -> PaymentSnapshot:
    values: dict[str, Any] = {
        "status": PaymentStatus.PAID,
        "provider_reference": ORDER_ID,
        "merchant_reference": "MP-7",
        "amount": usd("9.99"),
        "captured": usd("9.99"),
        "method": "CARD",
        "provider_status": "success",
        "details": {
            "card_brand": "Visa",
            "card_last4": "4242",
            "issuer_region": "US",
            "issuer_bank": "Chase Bank",
            "risk_level": "LOW",
        },
        "occurred_at": PAID_AT,
        "token": TokenSnapshot(
            reference="pi_xxxxx:CARD:cus_ghi789rst", brand="Visa", last4="4242"
        ),
    }
    return PaymentSnapshot(**values | changes)


@pytest.mark.parametrize(
    "known",
    [
        {"transaction_reference": ORDER_ID, "provider_reference": SESSION_ID},
        {"provider_reference": ORDER_ID},
    ],
)
def test_a_known_order_is_asked_for_by_its_id(provider, server, known):
    server.reply = lambda call: ok(ORDER)
    assert provider.fetch_payment(query(**known)) == paid()
    (call,) = server.calls
    assert (call.method, call.path, call.body) == ("GET", f"/order/{ORDER_ID}", b"")
    assert call.headers["x-api-key"] == API_KEY
    assert "content-type" not in call.headers


def test_a_session_leads_to_its_order(provider, server):
    server.reply = by_path(
        {
            f"/checkout/session/{SESSION_ID}": ok(
                SESSION
                | {"status": "completed", "paymentStatus": "paid", "orderId": ORDER_ID}
            ),
            f"/order/{ORDER_ID}": ok(ORDER),
        }
    )
    assert provider.fetch_payment(query(provider_reference=SESSION_ID)) == paid()
    assert [call.path for call in server.calls] == [
        f"/checkout/session/{SESSION_ID}",
        f"/order/{ORDER_ID}",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, PaymentStatus.PENDING),
        ({"status": "expired"}, PaymentStatus.EXPIRED),
        ({"status": "expired", "paymentStatus": None}, PaymentStatus.EXPIRED),
        (
            {"status": "expired", "paymentStatus": "processing"},
            PaymentStatus.PENDING,
        ),
        # Money without an order cannot be named, so it is not claimed yet.
        ({"status": "completed", "paymentStatus": "paid"}, PaymentStatus.PENDING),
        ({"status": "complete", "paymentStatus": "paid"}, PaymentStatus.PENDING),
    ],
)
def test_a_session_without_an_order(provider, server, changes, expected):
    server.reply = lambda call: ok(SESSION | changes)
    snapshot = provider.fetch_payment(query(provider_reference=SESSION_ID))
    assert snapshot.status is expected
    assert snapshot.provider_reference == SESSION_ID
    assert snapshot.merchant_reference == "MP-7"
    assert snapshot.amount == usd("9.99")
    assert snapshot.captured is None


def test_a_session_that_repeats_nothing_is_still_the_one_we_asked_for(provider, server):
    server.reply = lambda call: ok({"sessionId": SESSION_ID, "status": "expired"})
    snapshot = provider.fetch_payment(query(provider_reference=SESSION_ID))
    assert snapshot.status is PaymentStatus.EXPIRED
    assert snapshot.merchant_reference == "MP-7"
    assert snapshot.amount == usd("9.99")


def test_an_unknown_session_status_is_pending_and_logged(provider, server, caplog):
    server.reply = lambda call: ok(SESSION | {"status": "frozen"})
    snapshot = provider.fetch_payment(query(provider_reference=SESSION_ID))
    assert snapshot.status is PaymentStatus.PENDING
    assert "frozen" in caplog.text


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        # One session allows several attempts until one succeeds.
        ("open", PaymentStatus.PENDING),
        ("completed", PaymentStatus.FAILED),
        ("expired", PaymentStatus.FAILED),
    ],
)
def test_a_failed_attempt_is_final_once_the_session_is(
    provider, server, status, expected
):
    server.reply = by_path(
        {
            f"/checkout/session/{SESSION_ID}": ok(
                SESSION | {"status": status, "orderId": ORDER_ID}
            ),
            f"/order/{ORDER_ID}": ok(ORDER | FAILURE),
        }
    )
    snapshot = provider.fetch_payment(query(provider_reference=SESSION_ID))
    assert snapshot.status is expected
    assert (snapshot.decline is None) == (expected is PaymentStatus.PENDING)


FAILURE = {
    "status": "failed",
    "failureCode": "card_declined",
    "failureMessage": "The card was declined",
}


def test_our_reference_finds_an_order_too(provider, server):
    server.reply = lambda call: rows(ORDER)
    assert provider.fetch_payment(query()) == paid()
    (call,) = server.calls
    assert (call.method, call.path) == (
        "GET",
        "/order?merchantReferenceId=MP-7&pageNum=1&pageSize=50",
    )


@pytest.mark.parametrize(
    "answer",
    [
        rows(),
        # The older list does not know the filter and returns everybody's orders.
        rows(ORDER | {"merchantReferenceId": "MP-8"}),
        rows(ORDER | {"merchantReferenceId": "null"}),
        Reply(json={"code": 200, "msg": "success", "total": 0}),
        Reply(json={"code": 200, "rows": [None, 7, "x"]}),
    ],
)
def test_an_order_that_is_not_there_is_pending(provider, server, answer):
    server.reply = lambda call: answer
    assert provider.fetch_payment(query()) == PaymentSnapshot(
        status=PaymentStatus.PENDING,
        merchant_reference="MP-7",
        provider_status="NONE",
    )


def listed(order_id: str, status: str, created: int, kind: str = "onetime") -> Any:
    changes = {"orderId": order_id, "status": status, "createTime": created}
    return ORDER | changes | {"type": kind}


@pytest.mark.parametrize(
    ("orders", "expected", "needs_review"),
    [
        ([listed("o1", "failed", 1), listed("o2", "success", 2)], "o2", False),
        ([listed("o2", "success", 2), listed("o3", "failed", 3)], "o2", False),
        ([listed("o1", "failed", 1), listed("o2", "pending", 2)], "o2", False),
        ([listed("o2", "requires_action", 1), listed("o3", "failed", 3)], "o2", False),
        ([listed("o3", "failed", 3), listed("o1", "failed", 1)], "o3", False),
        ([listed("o2", "success", 2), listed("o1", "success", 1)], "o1", True),
        (
            [
                listed("o2", "success", 2, "recurring"),
                listed("o1", "success", 1, "recurring"),
            ],
            "o1",
            False,
        ),
    ],
)
def test_of_several_orders_the_one_with_money_counts(
    provider, server, orders, expected, needs_review
):
    server.reply = lambda call: rows(*orders)
    snapshot = provider.fetch_payment(query())
    assert snapshot.provider_reference == expected
    assert snapshot.needs_review is needs_review


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("success", PaymentStatus.PAID),
        ("failed", PaymentStatus.FAILED),
        ("requires_action", PaymentStatus.PENDING),
        ("pending", PaymentStatus.PENDING),
        ("created", PaymentStatus.PENDING),
        ("refunded", PaymentStatus.REFUNDED),
        # How much went back is not said, so the order proves the capture only.
        ("partial_refunded", PaymentStatus.PAID),
    ],
)
def test_every_status_of_an_order(provider, server, caplog, word, expected):
    server.reply = lambda call: ok(ORDER | {"status": word})
    snapshot = provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.status is expected
    assert snapshot.provider_status == word
    assert snapshot.refunded is None
    has_money = expected in {PaymentStatus.PAID, PaymentStatus.REFUNDED}
    assert (snapshot.captured == usd("9.99")) is has_money
    assert (snapshot.token is not None) is (expected is PaymentStatus.PAID)
    assert has_no_warning(caplog)


def has_no_warning(caplog) -> bool:
    return all(record.levelno < logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("word", ["", "SUCCESS", "paid", None, 1, ["success"]])
def test_an_unknown_status_of_an_order_is_pending(provider, server, caplog, word):
    server.reply = lambda call: ok(ORDER | {"status": word})
    snapshot = provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.status is PaymentStatus.PENDING
    assert snapshot.captured is None
    assert not has_no_warning(caplog)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (
            "card_declined",
            "The card was declined",
            Decline(
                code=DeclineCode.GENERIC,
                provider_code="card_declined",
                message="The card was declined",
            ),
        ),
        (
            "processor_communication_error",
            "Please try again later.",
            Decline(
                code=DeclineCode.TEMPORARY,
                provider_code="processor_communication_error",
                message="Please try again later.",
            ),
        ),
        (
            "never_heard_of",
            "a@example.com has 4242424242424242",
            Decline(
                code=DeclineCode.GENERIC,
                provider_code="never_heard_of",
                message="*** has ***4242",
            ),
        ),
        (None, None, Decline(code=DeclineCode.GENERIC)),
    ],
)
def test_a_failure_says_why(provider, server, code, message, expected):
    failure = {"status": "failed", "failureCode": code, "failureMessage": message}
    server.reply = lambda call: ok(ORDER | failure)
    snapshot = provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.decline == expected


@pytest.mark.parametrize("reference", ["null", " ", "", None, 0.5, "  null "])
def test_a_reference_that_is_none_is_the_one_we_asked_about(
    provider, server, reference
):
    server.reply = lambda call: ok(ORDER | {"merchantReferenceId": reference})
    snapshot = provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.merchant_reference == "MP-7"


def test_another_reference_than_asked_for_is_shown_to_the_core(provider, server):
    server.reply = lambda call: ok(ORDER | {"merchantReferenceId": "MP-8"})
    snapshot = provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.merchant_reference == "MP-8"


def test_nothing_but_public_facts_is_kept_of_an_order(provider, server):
    server.reply = lambda call: ok(
        ORDER
        | {
            "metadata": {"secret": "canary"},
            "paymentMethod": {
                **ORDER["paymentMethod"],
                "cardLastFour": "4242424242424242",
                "wallet": {"accountTag": "s*****@canary.example.com"},
            },
        }
    )
    snapshot = provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.details["card_last4"] == "4242"
    assert snapshot.token.last4 == "4242"
    assert "canary" not in repr(snapshot)
    assert "pi_xxxxx" not in repr(snapshot)
    assert "customer@example.com" not in repr(snapshot)


# Amounts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "amount", "captured", "details"),
    [
        ({}, usd("9.99"), usd("9.99"), {}),
        ({"amountSubtotal": "9.99"}, usd("9.99"), usd("9.99"), {}),
        # A discount is for a person unless promotions are on.
        (
            {"amountTotal": 4.99},
            usd("9.99"),
            usd("4.99"),
            {"charged_amount": "4.99", "charged_currency": "USD"},
        ),
        # Taxes on top are Clink's.
        (
            {"amountTotal": 11.99},
            usd("9.99"),
            usd("9.99"),
            {"charged_amount": "11.99", "charged_currency": "USD"},
        ),
        # The buyer chose another currency.
        (
            {"amountTotal": 13900, "paymentCurrency": "KRW"},
            usd("9.99"),
            usd("9.99"),
            {"charged_amount": "13900", "charged_currency": "KRW"},
        ),
        ({"originalCurrency": None}, usd("9.99"), usd("9.99"), {}),
        (
            {"originalCurrency": "EUR", "paymentCurrency": "EUR"},
            Money("9.99", "EUR"),
            Money("9.99", "EUR"),
            {},
        ),
        # What cannot be read is missing, and the core holds what misses an amount.
        ({"amountSubtotal": None}, None, None, {}),
        ({"amountSubtotal": 9.999}, None, None, {}),
        ({"amountSubtotal": True}, None, None, {}),
        ({"amountSubtotal": [9.99]}, None, None, {}),
        ({"originalCurrency": "XXX0"}, None, None, {}),
        ({"originalCurrency": None, "paymentCurrency": None}, None, None, {}),
        ({"amountTotal": None}, usd("9.99"), usd("9.99"), {}),
    ],
)
def test_the_priced_amount_is_compared_and_the_charged_one_is_shown(
    provider, server, changes, amount, captured, details
):
    server.reply = lambda call: ok(ORDER | changes)
    snapshot = provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.status is PaymentStatus.PAID
    assert (snapshot.amount, snapshot.captured) == (amount, captured)
    shown = {n: t for n, t in snapshot.details.items() if n.startswith("charged")}
    assert shown == details


def test_a_discount_is_fine_where_promotions_are_on(build, server):
    server.reply = lambda call: ok(ORDER | {"amountTotal": 4.99})
    snapshot = build(promotions=True).fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.amount == snapshot.captured == usd("9.99")
    assert snapshot.details["charged_amount"] == "4.99"


# Refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "of_read", "of_write"),
    [
        (
            Reply(json={"code": 400, "msg": "bad request"}),
            RequestRejected,
            RequestRejected,
        ),
        (
            Reply(json={"code": 401, "msg": "no"}),
            CredentialsRejected,
            CredentialsRejected,
        ),
        (
            Reply(json={"code": 404, "msg": "not found"}),
            RequestRejected,
            RequestRejected,
        ),
        (
            Reply(json={"code": 429, "msg": "slow down"}),
            ProviderUnavailable,
            ProviderUnavailable,
        ),
        (Reply(json={"code": 500, "msg": "oops"}), ProviderUnavailable, OutcomeUnknown),
        (Reply(json={"code": "500"}), ProviderUnavailable, OutcomeUnknown),
        (Reply(json={"code": 601, "msg": "hm"}), UnexpectedAnswer, OutcomeUnknown),
        (Reply(json={"code": 0, "msg": "hm"}), UnexpectedAnswer, OutcomeUnknown),
        (Reply(json={"msg": "success"}), UnexpectedAnswer, OutcomeUnknown),
        (Reply(json={"code": True}), UnexpectedAnswer, OutcomeUnknown),
        # The only documented error is a bare text.
        (
            Reply(status=401, body=b"Unauthorized"),
            CredentialsRejected,
            CredentialsRejected,
        ),
        (
            Reply(status=401, json="Unauthorized"),
            CredentialsRejected,
            CredentialsRejected,
        ),
        (
            Reply(status=400, json={"code": 400, "msg": "bad"}),
            RequestRejected,
            RequestRejected,
        ),
        (
            Reply(status=500, json={"code": 200, "msg": "success", "data": {}}),
            ProviderUnavailable,
            OutcomeUnknown,
        ),
        # The names are published, their codes are not.
        (
            Reply(json={"code": 500, "msg": "CUSTOMER_NOT_FOUND"}),
            RequestRejected,
            RequestRejected,
        ),
        (
            Reply(json={"code": 1234, "msg": "CUSTOMER_IDENTIFIER_NOT_MATCHED: x"}),
            RequestRejected,
            RequestRejected,
        ),
        (ok(None), UnexpectedAnswer, OutcomeUnknown),
        (ok("x"), UnexpectedAnswer, OutcomeUnknown),
    ],
)
def test_a_refusal_is_the_right_error(provider, server, reply, of_read, of_write):
    server.reply = lambda call: reply
    with pytest.raises(ProviderError) as caught:
        provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert type(caught.value) is of_read
    with pytest.raises(ProviderError) as caught:
        provider.start_payment(request())
    assert type(caught.value) is of_write
    assert caught.value.provider == "clink"
    assert caught.value.operation == "create_session"


def test_a_refusal_quotes_clink_without_what_is_private(provider, server):
    said = f"customer a@canary.example owns {API_KEY} and 4242424242424242"
    server.reply = lambda call: Reply(json={"code": 400, "msg": said})
    with pytest.raises(RequestRejected) as caught:
        provider.start_payment(request())
    text = str(caught.value)
    assert "customer" in text
    assert "canary" not in text
    assert "4242424242" not in text
    assert caught.value.code == "400"


def test_a_named_refusal_keeps_its_name(provider, server):
    server.reply = lambda call: Reply(json={"code": 500, "msg": "CUSTOMER_NOT_FOUND"})
    with pytest.raises(RequestRejected) as caught:
        provider.start_payment(request())
    assert caught.value.code == "CUSTOMER_NOT_FOUND"


def test_a_success_may_be_written_in_any_way(provider, server):
    server.reply = lambda call: Reply(
        json={"code": 200, "msg": "Success", "data": SESSION_ANSWER}
    )
    assert provider.start_payment(request()).provider_reference == SESSION_ID


# Refunds ----------------------------------------------------------------------------


def refund_request(**changes: Any) -> RefundRequest:
    values: dict[str, Any] = {
        "key": "k-2",
        "query": query(transaction_reference=ORDER_ID),
        "merchant_reference": "refund_ref_10001",
        "amount": usd("19.99"),
        "refundable": usd("19.99"),
    }
    return RefundRequest(**values | changes)


REFUND_REPLIES = {f"/order/{ORDER_ID}": ok(ORDER), "/refund": ok(REFUND)}

REFUNDED = RefundSnapshot(
    status=RefundStatus.SUCCEEDED,
    provider_reference="rfd_abc123xyz",
    merchant_reference="refund_ref_10001",
    amount=usd("19.99"),
    occurred_at=PAID_AT,
)


def test_a_refund_is_sent_as_in_the_reference(provider, server):
    server.reply = by_path(REFUND_REPLIES)
    snapshot = provider.refund_payment(refund_request(reason="requested_by_customer"))
    call = server.calls[-1]
    assert (call.method, call.path) == ("POST", "/refund")
    assert call.json == {
        "orderId": ORDER_ID,
        "refundMerchantOrderId": "refund_ref_10001",
        "refundAmount": Decimal("19.99"),
        "refundReasonType": 2,
        "remark": "requested_by_customer",
    }
    assert snapshot == REFUNDED


def test_a_refund_may_be_repeated_for_clink_does_it_once():
    assert Capability.REFUND in ClinkProvider.repeatable


@pytest.mark.parametrize(
    ("reason", "data", "expected"),
    [
        ("duplicate", {}, 0),
        ("Fraudulent", {}, 1),
        ("Customer Initiated Refund", {}, 2),
        ("damaged", {}, 3),
        ("", {}, 3),
        ("damaged", {"refundReasonType": 0}, 0),
    ],
)
def test_the_reason_of_a_refund(provider, server, reason, data, expected):
    server.reply = by_path(REFUND_REPLIES)
    provider.refund_payment(refund_request(reason=reason, provider_data=data))
    assert server.calls[-1].json["refundReasonType"] == expected


def test_a_long_reason_is_cut(provider, server):
    server.reply = by_path(REFUND_REPLIES)
    provider.refund_payment(refund_request(reason="x" * 501))
    assert server.calls[-1].json["remark"] == "x" * 500


@pytest.mark.parametrize(
    "data", [{"refundReasonType": 4}, {"refundReasonType": "0"}, {"why": "x"}]
)
def test_a_refund_knows_one_field_of_provider_data(provider, server, data):
    server.reply = by_path(REFUND_REPLIES)
    with pytest.raises(InvalidOperation, match=r"provider_data\."):
        provider.refund_payment(refund_request(provider_data=data))
    assert all(call.method == "GET" for call in server.calls)


@pytest.mark.parametrize(
    ("known", "replies"),
    [
        (
            {"provider_reference": SESSION_ID},
            {f"/checkout/session/{SESSION_ID}": ok(SESSION | {"orderId": ORDER_ID})},
        ),
        (
            {"provider_reference": SESSION_ID},
            {
                f"/checkout/session/{SESSION_ID}": ok(SESSION),
                "/order": rows(ORDER),
            },
        ),
        ({}, {"/order": rows(ORDER)}),
    ],
)
def test_the_order_of_a_refund_is_looked_up_if_need_be(
    provider, server, known, replies
):
    server.reply = by_path(REFUND_REPLIES | replies)
    provider.refund_payment(refund_request(query=query(**known)))
    assert server.calls[-1].json["orderId"] == ORDER_ID


def test_without_an_order_nothing_is_refunded(provider, server):
    server.reply = by_path({})
    with pytest.raises(InvalidOperation):
        provider.refund_payment(refund_request(query=query()))


def test_a_converted_payment_is_not_refunded_in_a_currency_nobody_named(
    provider, server
):
    converted = ok(ORDER | {"paymentCurrency": "KRW", "amountTotal": 13900})
    server.reply = by_path({f"/order/{ORDER_ID}": converted})
    with pytest.raises(InvalidOperation, match="KRW"):
        provider.refund_payment(refund_request())
    assert [call.method for call in server.calls] == ["GET"]


def test_nothing_is_not_refunded(provider, server):
    with pytest.raises(InvalidAmount):
        provider.refund_payment(refund_request(amount=usd("0")))
    assert server.calls == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("created", RefundStatus.PENDING),
        ("received", RefundStatus.PENDING),
        ("refunding", RefundStatus.PENDING),
        ("success", RefundStatus.SUCCEEDED),
        ("failed", RefundStatus.FAILED),
        ("closed", RefundStatus.UNKNOWN),
        ("never_heard_of", RefundStatus.PENDING),
        (None, RefundStatus.PENDING),
    ],
)
def test_every_status_of_a_refund(provider, server, word, expected):
    server.reply = lambda call: ok(REFUND | {"status": word})
    snapshot = provider.fetch_refund(refund_query("rfd_abc123xyz"))
    assert snapshot.status is expected
    (call,) = server.calls
    assert (call.method, call.path) == ("GET", "/refund/rfd_abc123xyz")


def refund_query(provider_reference: str) -> RefundQuery:
    return RefundQuery(
        query=query(transaction_reference=ORDER_ID),
        merchant_reference="refund_ref_10001",
        provider_reference=provider_reference,
        amount=usd("19.99"),
    )


def test_a_failed_refund_says_why(provider, server):
    failure = {
        "status": "failed",
        "failureCode": "already_refunded",
        "failureMessage": "This payment has already been fully refunded.",
    }
    server.reply = lambda call: ok(REFUND | failure)
    assert provider.fetch_refund(refund_query("rfd_1")).decline == Decline(
        code=DeclineCode.GENERIC,
        provider_code="already_refunded",
        message="This payment has already been fully refunded.",
    )


def test_a_refund_whose_id_was_lost_stays_unknown(provider, server):
    snapshot = provider.fetch_refund(refund_query(""))
    assert snapshot.status is RefundStatus.UNKNOWN
    assert snapshot.merchant_reference == "refund_ref_10001"
    assert server.calls == []


@pytest.mark.parametrize("metadata", ['{"arn": "1"}', {"arn": "1"}, None, []])
def test_metadata_of_a_refund_may_be_anything(provider, server, metadata):
    server.reply = lambda call: ok(REFUND | {"metadata": metadata})
    assert provider.fetch_refund(refund_query("rfd_1")) == REFUNDED


# Saved methods ----------------------------------------------------------------------


def charge(**changes: Any) -> TokenChargeRequest:
    values: dict[str, Any] = {
        "key": "k-3",
        "merchant_reference": "MP-9",
        "token": "pi_xxxxx:CARD:cus_ghi789rst",
        "amount": usd("9.99"),
        "description": "March",
    }
    return TokenChargeRequest(**values | changes)


def test_a_saved_card_is_charged_as_its_customers(build, server):
    server.reply = by_path({"/payment": ok(PAYMENT_ANSWER)})
    provider = build(site_url="https://shop.example")
    snapshot = provider.charge_token(charge())
    assert server.calls[0].path.startswith("/order?merchantReferenceId=MP-9&")
    assert server.calls[1].json == {
        "customerId": "cus_ghi789rst",
        "paymentInstrumentId": "pi_xxxxx",
        "paymentMethodType": "CARD",
        "returnUrl": "https://shop.example",
        "merchantReferenceId": "MP-9",
        "amount": Decimal("9.99"),
        "currency": "USD",
        "priceDataList": [
            {
                "name": "March",
                "quantity": 1,
                "unitAmount": Decimal("9.99"),
                "currency": "USD",
            }
        ],
    }
    assert snapshot.status is PaymentStatus.PAID
    assert snapshot.merchant_reference == "MP-9"
    assert snapshot.captured == usd("9.99")


def test_a_token_from_an_order_can_be_charged(provider, server):
    server.reply = lambda call: ok(
        ORDER | {"paymentMethod": ORDER["paymentMethod"] | {"paymentMethodType": "UPI"}}
    )
    token = provider.fetch_payment(query(provider_reference=ORDER_ID)).token
    server.reply = by_path({"/payment": ok(PAYMENT_ANSWER)})
    provider.charge_token(charge(token=token.reference))
    assert server.calls[-1].json["paymentMethodType"] == "UPI"
    assert server.calls[-1].json["customerId"] == "cus_ghi789rst"


def test_a_bare_instrument_is_a_card_of_the_buyer(provider, server):
    server.reply = by_path({"/payment": ok(PAYMENT_ANSWER)})
    provider.charge_token(charge(token="pi_1", buyer=Buyer(email="a@example.com")))
    body = server.calls[-1].json
    assert body["paymentInstrumentId"] == "pi_1"
    assert body["paymentMethodType"] == "CARD"
    assert body["customerEmail"] == "a@example.com"
    # Clink demands a return address; without one of ours it gets its own.
    assert body["returnUrl"] == server.url


def test_a_charge_without_any_customer_is_refused(provider, server):
    with pytest.raises(InvalidOperation) as caught:
        provider.charge_token(charge(token="pi_1"))
    assert caught.value.field == "buyer.email"
    with pytest.raises(InvalidAmount):
        provider.charge_token(charge(amount=usd("0")))
    assert server.calls == []


def test_a_charge_that_was_done_is_not_done_again(provider, server):
    server.reply = by_path({"/order": rows(ORDER | {"merchantReferenceId": "MP-9"})})
    assert provider.charge_token(charge()).status is PaymentStatus.PAID
    assert [call.method for call in server.calls] == ["GET"]


def test_a_declined_charge_is_a_result(provider, server):
    server.reply = by_path({"/payment": ok(PAYMENT_ANSWER | {"status": 3})})
    snapshot = provider.charge_token(charge())
    assert snapshot.status is PaymentStatus.FAILED
    assert snapshot.decline is not None


def test_a_buyer_may_pay_with_a_saved_method(provider, server):
    server.reply = by_path({"/payment": ok(PAYMENT_ANSWER)})
    provider.start_payment(request(token="pi_2:CASHAPP:cus_2"))
    body = server.calls[-1].json
    assert body["paymentMethodType"] == "CASHAPP"
    assert body["paymentInstrumentId"] == "pi_2"
    assert body["customerId"] == "cus_2"
    assert "customerEmail" not in body


def test_a_wallet_of_the_browser_gives_no_token(provider, server):
    method = ORDER["paymentMethod"] | {"paymentMethodType": "APPLEPAY"}
    server.reply = lambda call: ok(ORDER | {"paymentMethod": method})
    snapshot = provider.fetch_payment(query(provider_reference=ORDER_ID))
    assert snapshot.token is None


# Plans ------------------------------------------------------------------------------

TERMS = PlanTerms(amount=usd("9.99"), interval_months=1, start_on=date(2026, 12, 1))
SUBSCRIPTION_ANSWER = PAYMENT_ANSWER | {"subscriptionId": "sub_1", "invoiceId": "inv_1"}


def test_a_plan_is_started_directly_as_in_the_reference(provider, server):
    server.reply = by_path({"/subscription": ok(SUBSCRIPTION_ANSWER)})
    snapshot = provider.start_plan(
        request(plan=TERMS, method="GCASH", provider_data=PRICE)
    )
    call = server.calls[-1]
    assert (call.method, call.path) == ("POST", "/subscription")
    assert call.json == {
        "customerEmail": "customer@example.com",
        "paymentMethodType": "GCASH",
        "returnUrl": "https://shop.example/return/",
        "merchantReferenceId": "MP-7",
        "platformType": "WEB",
        "productId": "prd_1",
        "priceId": "price_1",
        "paymentCurrency": "USD",
    }
    assert snapshot.status is PaymentStatus.PAID
    assert snapshot.amount == snapshot.captured == usd("9.99")
    assert snapshot.plan == PlanSnapshot(reference="sub_1", status=PlanStatus.ACTIVE)


def test_a_plan_with_a_saved_card(provider, server):
    server.reply = by_path({"/subscription": ok(SUBSCRIPTION_ANSWER)})
    provider.start_plan(
        request(plan=TERMS, token="pi_1:CARD:cus_1", provider_data=PRICE)
    )
    body = server.calls[-1].json
    assert body["customerId"] == "cus_1"
    assert body["paymentInstrumentId"] == "pi_1"
    assert body["paymentMethodType"] == "CARD"


@pytest.mark.parametrize("method", ["", "CARD", "ALIPAY"])
def test_a_plan_without_an_instrument_opens_the_page(provider, server, method):
    snapshot = provider.start_payment(
        request(plan=TERMS, method=method, provider_data=PRICE)
    )
    (call,) = server.calls
    assert call.path == "/checkout/session"
    assert (call.json["productId"], call.json["priceId"]) == ("prd_1", "price_1")
    assert call.json.get("paymentMethodType", "") == method
    assert isinstance(snapshot.next_action, Redirect)


@pytest.mark.parametrize("data", [{}, {"priceId": "price_1"}])
def test_a_plan_needs_its_price(provider, server, data):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_plan(request(plan=TERMS, provider_data=data))
    assert caught.value.field == "provider_data.priceId"
    assert server.calls == []


def test_a_plan_with_a_method_without_subscriptions_is_refused(provider, server):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_plan(request(plan=TERMS, method="TNG", provider_data=PRICE))
    assert caught.value.field == "method"
    assert server.calls == []


def test_a_plan_charged_at_another_price_is_seen_by_the_core(provider, server):
    server.reply = by_path({"/subscription": ok(SUBSCRIPTION_ANSWER | {"amount": 12})})
    snapshot = provider.start_plan(
        request(plan=TERMS, method="GCASH", provider_data=PRICE)
    )
    assert snapshot.amount == usd("12")


@pytest.mark.parametrize(
    ("changes", "status", "plan_status"),
    [
        ({"status": 2}, PaymentStatus.PENDING, PlanStatus.PENDING),
        ({"status": 3}, PaymentStatus.FAILED, PlanStatus.PENDING),
        ({"status": 5}, PaymentStatus.PENDING, PlanStatus.PENDING),
        # A trial takes no money yet.
        (
            {"status": 1, "orderId": None, "amount": 0},
            PaymentStatus.PENDING,
            PlanStatus.ACTIVE,
        ),
    ],
)
def test_every_result_of_a_new_plan(provider, server, changes, status, plan_status):
    server.reply = by_path({"/subscription": ok(SUBSCRIPTION_ANSWER | changes)})
    snapshot = provider.start_plan(
        request(plan=TERMS, method="GCASH", provider_data=PRICE)
    )
    assert snapshot.status is status
    assert snapshot.captured is None
    assert snapshot.plan == PlanSnapshot(reference="sub_1", status=plan_status)


@pytest.mark.parametrize(
    ("changes", "status", "next_on"),
    [
        ({}, PlanStatus.ACTIVE, NEXT_ON),
        ({"recurringInvoiceItem": None}, PlanStatus.ACTIVE, NEXT_ON),
        ({"status": "free_trial"}, PlanStatus.ACTIVE, NEXT_ON),
        ({"cancelAtPeriodEnd": True}, PlanStatus.ACTIVE, None),
        ({"status": "incomplete"}, PlanStatus.PENDING, None),
        ({"status": "past_due"}, PlanStatus.PAST_DUE, None),
        ({"status": OVER}, PlanStatus.CANCELED, None),
        ({"status": "incomplete_expired"}, PlanStatus.ENDED, None),
        ({"status": "paused"}, PlanStatus.PENDING, None),
    ],
)
def test_every_status_of_a_plan(provider, server, changes, status, next_on):
    server.reply = lambda call: ok(SUBSCRIPTION | changes)
    assert provider.fetch_plan("sub_1") == PlanSnapshot(
        reference="sub_1", status=status, next_on=next_on
    )
    (call,) = server.calls
    assert (call.method, call.path) == ("GET", "/subscription/sub_1")


@pytest.mark.parametrize(
    ("at_period_end", "data", "expected"),
    [
        (True, None, PlanStatus.ACTIVE),
        (False, None, PlanStatus.CANCELED),
        (True, {}, PlanStatus.ACTIVE),
        (False, SUBSCRIPTION | {"status": OVER}, PlanStatus.CANCELED),
        (
            True,
            SUBSCRIPTION | {"cancelAtPeriodEnd": True},
            PlanStatus.ACTIVE,
        ),
    ],
)
def test_a_plan_is_canceled_as_in_the_reference(
    provider, server, at_period_end, data, expected
):
    server.reply = lambda call: ok(data)
    snapshot = provider.cancel_plan(
        PlanCancelRequest(
            key="k-4", provider_reference="sub_1", at_period_end=at_period_end
        )
    )
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/subscription/sub_1/cancel")
    assert call.json == {
        "reason": "Canceled by the merchant",
        "cancelReasonCode": "other_reasons",
        "cancelImmediately": not at_period_end,
    }
    assert snapshot == PlanSnapshot(reference="sub_1", status=expected)


def test_a_reference_cannot_leave_its_path(provider, server):
    server.reply = lambda call: ok(SUBSCRIPTION)
    provider.fetch_plan("../refund?x=1#")
    assert server.calls[0].path == "/subscription/..%2Frefund%3Fx%3D1%23"


# Webhooks: whether they are genuine -------------------------------------------------

SUCCEEDED = event("order.succeeded", ORDER)


def test_a_message_signed_by_the_rule_of_the_reference_is_genuine(provider):
    provider.verify_webhook(signed(SUCCEEDED))


def test_the_signature_may_be_in_upper_case(provider):
    message = signed(SUCCEEDED)
    name = "x-clink-signature"
    upper = {**message.headers, name: message.headers[name].upper()}
    provider.verify_webhook(replace(message, headers=upper))


def test_seconds_are_understood_too(provider):
    provider.verify_webhook(signed(SUCCEEDED, stamp=str(time.time_ns() // 10**9)))


@pytest.mark.parametrize("minutes", [-6, 6, -60 * 24 * 365])
def test_a_message_out_of_its_time_is_refused(provider, minutes):
    stamp = now_ms(timedelta(minutes=minutes))
    with pytest.raises(WebhookExpired):
        provider.verify_webhook(signed(SUCCEEDED, stamp=stamp))


def test_the_tolerance_is_an_option(build):
    stamp = now_ms(timedelta(minutes=-6))
    build(webhook_tolerance=600).verify_webhook(signed(SUCCEEDED, stamp=stamp))


def test_a_new_time_on_an_old_signature_is_refused(provider):
    message = signed(SUCCEEDED, stamp=now_ms(timedelta(minutes=-6)))
    headers = {**message.headers, "x-clink-timestamp": now_ms()}
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(replace(message, headers=headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"x-clink-signature": ""},
        {"x-clink-signature": "0" * 64},
        {"x-clink-signature": "zz"},
        {"x-clink-signature": "\udcff"},
        {"x-clink-timestamp": ""},
        {"x-clink-timestamp": "tomorrow"},
        {"x-clink-timestamp": "\udcff"},
        {"x-clink-signtype": "MD5"},
        {"x-clink-signtype": ""},
    ],
)
def test_a_broken_header_is_refused(provider, headers):
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(signed(SUCCEEDED, headers=headers))


def test_a_signed_time_that_is_none_is_refused(provider):
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(signed(SUCCEEDED, stamp="soon"))


def test_the_key_headers_of_the_older_pages_prove_nothing(provider):
    headers = {"x-api-key": API_KEY, "x-timestamp": now_ms()}
    message = IncomingRequest(method="POST", body=SUCCEEDED, headers=headers)
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(message)


@pytest.mark.parametrize("method", ["GET", "PUT", "post"])
def test_only_a_post_is_a_message(provider, method):
    with pytest.raises(MalformedWebhook):
        provider.verify_webhook(replace(signed(SUCCEEDED), method=method))


def test_the_signature_is_checked_before_anything_is_read(provider):
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(signed(b"{not JSON", secret="somebody-else"))
    provider.verify_webhook(signed(b"{not JSON"))


def test_a_key_is_rotated_without_a_gap(build):
    provider = build(webhook_secret=["whsec_new", SECRET])
    provider.verify_webhook(signed(SUCCEEDED, secret="whsec_new"))
    provider.verify_webhook(signed(SUCCEEDED, secret=SECRET))
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(signed(SUCCEEDED, secret="new"))


# Webhooks: what they say ------------------------------------------------------------


def parse(provider: ClinkProvider, body: bytes) -> list[ProviderEvent]:
    return list(provider.parse_webhook(signed(body)))


def test_an_order_is_a_claim_of_money(provider, server):
    assert parse(provider, SUCCEEDED) == [
        ProviderEvent(event_id="event_1", snapshot=paid())
    ]
    assert server.calls == []


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("order.created", "created", PaymentStatus.PENDING),
        ("order.created", "pending", PaymentStatus.PENDING),
        ("order.next_action", "requires_action", PaymentStatus.PENDING),
        ("order.succeeded", "success", PaymentStatus.PAID),
        # It may be one try of several, so the inquiry decides.
        ("order.failed", "failed", PaymentStatus.PENDING),
        # The order's own status decides, not the name of the event.
        ("order.succeeded", "pending", PaymentStatus.PENDING),
        ("order.succeeded", "never_heard_of", PaymentStatus.PENDING),
        ("order.succeeded", None, PaymentStatus.PENDING),
    ],
)
def test_every_event_of_an_order(provider, kind, status, expected):
    (found,) = parse(provider, event(kind, ORDER | {"status": status}))
    assert found.snapshot.status is expected
    assert found.snapshot.merchant_reference == "MP-7"
    assert found.snapshot.account is None
    assert found.snapshot.is_live is None
    assert found.must_fetch == (status == "failed")


def test_the_older_envelope_is_understood(provider):
    body = event("order.succeeded", None, data=ORDER, created="2025-06-16T08:20:41Z")
    assert parse(provider, body) == [ProviderEvent(event_id="event_1", snapshot=paid())]


@pytest.mark.parametrize(
    "created", [1750062041000, 1750062041, "2025-06-16T08:20:41+00:00"]
)
def test_an_event_says_when_if_its_order_does_not(provider, created):
    body = event("order.succeeded", ORDER | {"paymentTime": None}, created=created)
    (found,) = parse(provider, body)
    assert found.snapshot.occurred_at == CREATED


@pytest.mark.parametrize("reference", ["null", " ", None])
def test_a_message_without_a_reference_names_none(provider, reference):
    body = event("order.succeeded", ORDER | {"merchantReferenceId": reference})
    (found,) = parse(provider, body)
    assert found.snapshot.merchant_reference is None
    assert found.snapshot.provider_reference == ORDER_ID


def test_the_failed_order_that_production_sent(provider):
    """From the recorded messages of Clink's own tool."""
    order = {
        "orderId": "order_mocked219d5b63",
        "type": "onetime",
        "sessionId": "sess_mocked79a4f29d",
        "merchantReferenceId": "null",
        "customerEmail": "mocked_user@example.com",
        "paymentMethod": {
            "paymentMethodType": "CARD",
            "paymentInstrumentId": "pi_mockedefd74f04",
            "cardScheme": "Mastercard",
            "cardLastFour": "1003",
            "wallet": None,
        },
        "paymentExecutionDetails": None,
        "amountSubtotal": 2,
        "amountTotal": 2,
        "paymentCurrency": "USD",
        "originalCurrency": "USD",
        "status": "failed",
        "failureCode": "processor_communication_error",
        "paymentTime": 1785936113600,
        "metadata": {},
        "riskLevel": "LOW",
    }
    (found,) = parse(provider, event("order.failed", order))
    assert found.must_fetch
    assert found.snapshot.status is PaymentStatus.PENDING
    assert found.snapshot.merchant_reference is None
    assert found.snapshot.provider_reference == "order_mocked219d5b63"
    assert found.snapshot.amount == usd("2")
    assert found.snapshot.captured is None
    assert found.snapshot.token is None
    assert found.snapshot.decline is None


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("refund.created", "created", RefundStatus.PENDING),
        ("refund.succeeded", "success", RefundStatus.SUCCEEDED),
        ("refund.failed", "failed", RefundStatus.FAILED),
    ],
)
def test_a_refund_claims_nothing_about_its_payment(provider, kind, status, expected):
    (found,) = parse(provider, event(kind, REFUND | {"status": status}))
    # The reference in the metadata may be the refund's, so the order names the payment.
    assert found.snapshot == PaymentSnapshot(
        status=PaymentStatus.PENDING, provider_reference=ORDER_ID
    )
    assert found.event_id == "event_1"
    assert found.refund is not None
    assert found.refund.status is expected
    assert found.refund.provider_reference == "rfd_abc123xyz"
    assert found.refund.merchant_reference == "refund_ref_10001"
    assert found.refund.amount == usd("19.99")
    assert found.refund.occurred_at == CREATED


@pytest.mark.parametrize(
    ("kind", "status", "is_reversed"),
    [
        ("dispute.created", 1, False),
        ("dispute.updated", 2, False),
        ("dispute.won", 3, True),
        ("dispute.lost", 4, False),
        ("dispute.closed", 3, True),
        ("dispute.closed", 4, False),
        ("dispute.updated", 5, True),
        ("dispute.won", None, True),
        ("dispute.closed", None, False),
        ("dispute.won", 1, False),
    ],
)
def test_a_dispute_takes_back_or_gives_up(provider, kind, status, is_reversed):
    (found,) = parse(provider, event(kind, DISPUTE | {"status": status}))
    assert found == ProviderEvent(
        event_id="event_1",
        snapshot=PaymentSnapshot(
            status=PaymentStatus.PENDING, provider_reference=ORDER_ID
        ),
        dispute=DisputeSnapshot(
            reference="cbi_1",
            amount=usd("10.46"),
            is_reversed=is_reversed,
            occurred_at=CREATED,
        ),
    )


@pytest.mark.parametrize(
    "changes", [{"chargeBackId": None}, {"disputeAmount": "x"}, {"disputeCurrency": ""}]
)
def test_a_dispute_that_cannot_be_counted_is_malformed(provider, changes):
    with pytest.raises(MalformedWebhook):
        parse(provider, event("dispute.created", DISPUTE | changes))


def test_the_order_of_a_dispute_is_more_exact_than_the_reference(provider):
    """A renewal's order may carry the reference of the first payment."""
    body = event("dispute.created", DISPUTE | {"merchantReferenceId": "MP-7"})
    (found,) = parse(provider, body)
    assert found.snapshot.merchant_reference is None
    assert found.snapshot.provider_reference == ORDER_ID


def test_without_an_order_our_reference_names_the_payment(provider):
    changes = {"orderId": None, "merchantReferenceId": "MP-7"}
    (found,) = parse(provider, event("dispute.created", DISPUTE | changes))
    assert found.snapshot.merchant_reference == "MP-7"
    assert found.snapshot.provider_reference == ""


@pytest.mark.parametrize(
    ("kind", "changes", "expected", "reference"),
    [
        (
            "session.expired",
            {"status": "expired"},
            PaymentStatus.EXPIRED,
            SESSION_ID,
        ),
        ("session.expired", {"status": None}, PaymentStatus.EXPIRED, SESSION_ID),
        ("session.expired", {"paymentStatus": []}, PaymentStatus.PENDING, SESSION_ID),
        (
            "session.complete",
            {"status": "completed", "paymentStatus": "paid", "orderId": ORDER_ID},
            PaymentStatus.PAID,
            ORDER_ID,
        ),
        (
            "session.complete",
            {"status": "complete", "paymentStatus": "processing", "orderId": ORDER_ID},
            PaymentStatus.PENDING,
            ORDER_ID,
        ),
        (
            "session.complete",
            {"status": None, "paymentStatus": "unpaid"},
            PaymentStatus.PENDING,
            SESSION_ID,
        ),
    ],
)
def test_every_event_of_a_session(provider, kind, changes, expected, reference):
    (found,) = parse(provider, event(kind, SESSION | changes))
    assert found.snapshot.status is expected
    assert found.snapshot.provider_reference == reference
    assert found.snapshot.merchant_reference == "MP-7"
    assert found.snapshot.amount == usd("9.99")


def test_a_session_names_its_plan(provider):
    session = SESSION | {
        "status": "completed",
        "paymentStatus": "paid",
        "orderId": ORDER_ID,
        "subscriptionId": "sub_1",
    }
    (found,) = parse(provider, event("session.complete", session))
    assert found.snapshot.plan == PlanSnapshot(
        reference="sub_1", status=PlanStatus.ACTIVE
    )


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("subscription.created", "incomplete", PlanStatus.PENDING),
        ("subscription.trialing", "free_trial", PlanStatus.ACTIVE),
        ("subscription.activated", "active", PlanStatus.ACTIVE),
        ("subscription.incomplete_expired", "incomplete_expired", PlanStatus.ENDED),
        ("subscription.past_due", "past_due", PlanStatus.PAST_DUE),
        (f"subscription.{OVER}", OVER, PlanStatus.CANCELED),
        ("subscription.updated.renewed", "active", PlanStatus.ACTIVE),
        ("subscription.updated.plan_changed", "active", PlanStatus.ACTIVE),
    ],
)
def test_every_event_of_a_subscription(provider, server, kind, status, expected):
    (found,) = parse(provider, event(kind, SUBSCRIPTION | {"status": status}))
    is_running = expected is PlanStatus.ACTIVE
    assert found == ProviderEvent(
        event_id="event_1",
        snapshot=PaymentSnapshot(
            status=PaymentStatus.PENDING,
            provider_reference=SESSION_ID,
            merchant_reference="MP-7",
            plan=PlanSnapshot(
                reference="sub_1",
                status=expected,
                next_on=NEXT_ON if is_running else None,
            ),
        ),
    )
    assert server.calls == []


RECURRING = ORDER | {"type": "recurring", "invoiceId": "inv_1"}
SIGN_UP = 1772542049024
MONTH = 30 * 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("period_start", "is_renewal"),
    [
        (SIGN_UP, False),
        (SIGN_UP + 1000, False),
        (SIGN_UP + MONTH, True),
        (SIGN_UP + 5 * MONTH, True),
        (None, False),
    ],
)
def test_an_invoice_tells_a_renewal_from_the_first_payment(
    provider, server, period_start, is_renewal
):
    server.reply = by_path(
        {
            "/subscription/invoice/inv_1": ok(
                INVOICE | {"currentPeriodStart": period_start}
            ),
            "/subscription/sub_1": ok(SUBSCRIPTION),
        }
    )
    (found,) = parse(provider, event("order.succeeded", RECURRING))
    assert found.is_renewal is is_renewal
    assert found.snapshot == paid(
        plan=PlanSnapshot(reference="sub_1", status=PlanStatus.ACTIVE, next_on=NEXT_ON)
    )
    assert [(call.method, call.path) for call in server.calls] == [
        ("GET", "/subscription/invoice/inv_1"),
        ("GET", "/subscription/sub_1"),
    ]


def test_a_failed_order_of_a_plan_is_one_try_unless_it_is_a_renewal(provider, server):
    periods = {SIGN_UP: PaymentStatus.PENDING, SIGN_UP + MONTH: PaymentStatus.FAILED}
    for start, status in periods.items():
        invoice = ok(INVOICE | {"currentPeriodStart": start})
        server.reply = by_path(
            {
                "/subscription/invoice/inv_1": invoice,
                "/subscription/sub_1": ok(SUBSCRIPTION),
            }
        )
        body = event("order.failed", RECURRING | {"status": "failed"})
        (found,) = parse(provider, body)
        assert found.snapshot.status is status
        assert found.snapshot.plan is not None
        is_renewal = status is PaymentStatus.FAILED
        assert (found.is_renewal, found.must_fetch) == (is_renewal, not is_renewal)


def test_the_paid_invoice_of_a_renewal_does_not_count_it_twice(provider, server):
    assert parse(provider, event("invoice.paid", INVOICE)) == []
    assert server.calls == []


@pytest.mark.parametrize(
    ("order", "invoice"),
    [
        (RECURRING | {"invoiceId": None}, INVOICE),
        (RECURRING, INVOICE | {"subscriptionId": None}),
    ],
)
def test_without_a_subscription_nothing_is_called_a_renewal(
    provider, server, order, invoice
):
    server.reply = by_path({"/subscription/invoice/inv_1": ok(invoice)})
    (found,) = parse(provider, event("order.succeeded", order))
    assert found == ProviderEvent(event_id="event_1", snapshot=paid())


def test_a_renewal_waits_while_clink_cannot_be_asked(provider, server):
    server.reply = lambda call: Reply(status=503)
    with pytest.raises(ProviderUnavailable):
        parse(provider, event("order.succeeded", RECURRING))


def test_a_pending_order_of_a_plan_costs_no_call(provider, server):
    parse(provider, event("order.created", RECURRING | {"status": "pending"}))
    assert server.calls == []


@pytest.mark.parametrize(
    "kind",
    [
        "invoice.open",
        "invoice.paid",
        "invoice.void",
        "customer.verify",
        "payment_method.added",
        "payment_method.default_change",
        "payment_method.update",
        "risk_rule.updated",
        "agent_order.succeeded",
        "agent_refund.succeeded",
        "purchase_instruction.created",
        "vic_device.binding_succeeded",
        "something.new",
    ],
)
def test_events_about_something_else_are_no_events(provider, kind):
    assert parse(provider, event(kind, {"orderId": ORDER_ID})) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"type": 5}',
        b'{"type": "order.succeeded"}',
        b'{"type": "order.succeeded", "data": []}',
        b'{"type": "order.succeeded", "data": {"object": []}}',
        b'{"type": "subscription.created", "data": {"object": {}}}',
        b'{"type": "order.succeeded", "type": "order.failed", "data": {}}',
        b"\xff\xfe",
        b"[" * 5000,
    ],
)
def test_what_cannot_be_read_is_malformed(provider, body):
    with pytest.raises(MalformedWebhook):
        parse(provider, body)


def test_a_return_names_no_payment_so_the_signed_url_does(provider):
    message = IncomingRequest(
        method="GET", body=b"", query_string=f"session_id={SESSION_ID}"
    )
    assert provider.identify_return(message) == ""


ODD_VALUES: tuple[object, ...] = (
    None,
    True,
    0,
    -1,
    10**18,
    "",
    " ",
    "null",
    "x" * 500,
    "\x00",
    "\ud800",
    "9.99",
    "-9.99",
    "1e9",
    9.99,
    [],
    {},
    [{}],
    {"a": {"b": []}},
)


def test_no_authentic_message_breaks_the_reader(provider, server):
    """Every field of every kind of event with every odd value, by a fixed seed."""
    server.reply = lambda call: ok(INVOICE | SUBSCRIPTION)
    chance = random.Random(20261121)
    kinds = {
        "order.succeeded": ORDER,
        "order.failed": ORDER | {"type": "recurring", "invoiceId": "inv_1"},
        "refund.succeeded": REFUND,
        "dispute.created": DISPUTE,
        "session.complete": SESSION,
        "subscription.activated": SUBSCRIPTION,
        "invoice.paid": INVOICE,
    }
    for _ in range(1500):
        kind, resource = chance.choice(list(kinds.items()))
        changed = {
            name: chance.choice(ODD_VALUES) if chance.random() < 0.3 else value
            for name, value in resource.items()
        }
        changes = {}
        if chance.random() < 0.3:
            changes = {chance.choice(["id", "created"]): chance.choice(ODD_VALUES)}
        message = signed(event(kind, changed, **changes))
        provider.verify_webhook(message)
        try:
            for found in provider.parse_webhook(message):
                assert isinstance(found, ProviderEvent)
        except (WebhookError, ProviderError):
            pass
        provider.webhook_answer(WebhookOutcome.ACCEPTED, message)


def test_no_forged_message_breaks_the_check(provider, server):
    chance = random.Random(20261121)
    genuine = signed(SUCCEEDED)
    for _ in range(500):
        body = bytearray(genuine.body)
        for _ in range(chance.randint(1, 5)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        if bytes(body) == genuine.body:
            continue
        with pytest.raises(WebhookError):
            provider.verify_webhook(replace(genuine, body=bytes(body)))
    assert server.calls == []


# The answer -------------------------------------------------------------------------


def test_the_plain_answer_is_the_status(provider):
    answer = provider.webhook_answer(WebhookOutcome.ACCEPTED, signed(SUCCEEDED))
    assert (answer.status, answer.body) == (200, "")


@pytest.fixture
def answering(build):
    return build(answer_account=True, site_url="https://shop.example")


def test_the_account_record_is_that_of_the_reference(answering):
    order = ORDER | {
        "amountTotal": 19.99,
        "metadata": {"userId": "usr_xxxxx"},
    }
    message = signed(event("order.succeeded", order))
    answer = answering.webhook_answer(WebhookOutcome.ACCEPTED, message)
    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == {
        "object": "event",
        "type": "account.reloaded",
        "data": {
            "customerEmail": "customer@example.com",
            "webSite": "https://shop.example",
            "userId": "usr_xxxxx",
            "amount": 19.99,
            "currency": "USD",
        },
    }
    assert '"amount":19.99,' in answer.body
    again = answering.webhook_answer(WebhookOutcome.ACCEPTED, message)
    assert again == answer


def test_without_a_user_the_payment_stands_for_one(answering):
    message = signed(event("order.succeeded", ORDER | {"amountTotal": 2}))
    answer = answering.webhook_answer(WebhookOutcome.ACCEPTED, message)
    assert json.loads(answer.body)["data"]["userId"] == "MP-7"
    assert '"amount":2,' in answer.body


def test_the_user_of_the_account_record_travels_as_metadata(answering, server):
    answering.start_payment(request(customer_id="user-42"))
    assert server.calls[-1].json["metadata"] == {"userId": "user-42"}


@pytest.mark.parametrize("outcome", [WebhookOutcome.DEFERRED, WebhookOutcome.REFUSED])
def test_a_message_that_was_not_taken_gets_no_record(answering, outcome):
    assert answering.webhook_answer(outcome, signed(SUCCEEDED)).body == ""


@pytest.mark.parametrize(
    "body",
    [
        event("order.failed", ORDER),
        event("refund.succeeded", REFUND),
        event("order.succeeded", ORDER | {"customerEmail": None}),
        event("order.succeeded", ORDER | {"amountTotal": "x"}),
        event("order.succeeded", ORDER | {"amountTotal": True}),
        event("order.succeeded", ORDER | {"paymentCurrency": None}),
        event("order.succeeded", ORDER | {"merchantReferenceId": "null"}),
        b"{not JSON",
    ],
)
def test_other_messages_get_the_plain_answer(answering, body):
    answer = answering.webhook_answer(WebhookOutcome.ACCEPTED, signed(body))
    assert (answer.status, answer.body) == (200, "")
    assert answering.webhook_answer(WebhookOutcome.ACCEPTED).body == ""


# Options ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_key": "pk_test_1"}, "publishable"),
        ({"base_url": "https://api.clinkbill.com/api"}, "takes real money"),
        ({"api_key": "sk_prod_1", "base_url": BASE_URL}, "for tests"),
        ({"base_url": "https://uat-api.clinkbill.com"}, "has no path"),
        ({"base_url": "https://uat-api.clinkbill.com/"}, "has no path"),
        ({"answer_account": True}, "site_url"),
        ({"webhook_tolerance": 0}, "webhook_tolerance"),
    ],
)
def test_options_that_contradict_each_other_are_named(build, options, said):
    (problem,) = build(**OPTIONS | options).problems()
    assert said in problem
    assert problem.startswith("OPTIONS[")
    assert API_KEY not in problem


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"base_url": "https://uat-api.clinkbill.com/api/"},
        {"api_key": "sk_prod_1", "base_url": "https://api.clinkbill.com/api"},
        {"answer_account": True, "site_url": "https://shop.example"},
    ],
)
def test_options_that_fit_have_no_problems(build, options):
    assert list(build(**OPTIONS | options).problems()) == []


def test_what_must_not_go_live_is_named(build):
    found = build(**OPTIONS, site_url="http://shop.example").deploy_problems()
    assert [text.split("]")[0] for text in found] == [
        "OPTIONS['base_url'",
        "OPTIONS['api_key'",
        "OPTIONS['site_url'",
    ]
    live = build(api_key="sk_prod_1", base_url="https://api.clinkbill.com/api")
    assert list(live.deploy_problems()) == []


def test_a_slash_at_the_end_of_the_address_does_no_harm(build, server):
    server.reply = lambda call: ok(SESSION_ANSWER)
    build(base_url=f"{server.url}/api/").start_payment(request())
    assert server.calls[-1].path == "/api/checkout/session"


def test_no_secret_and_no_buyer_is_logged(provider, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.reply = by_path({"/payment": ok(PAYMENT_ANSWER | {"status": 9})})
    provider.start_payment(request(method="CASHAPP", token="pi_canary:CASHAPP:cus_2"))
    parse(provider, SUCCEEDED)
    with pytest.raises(MultipayError):
        provider.verify_webhook(signed(SUCCEEDED, secret="another"))
    for secret in (API_KEY, SECRET, "customer@example.com", "pi_canary"):
        assert secret not in caplog.text


# Both sides together ---------------------------------------------------------------


class TestSandbox(SandboxContract):
    provider_class = ClinkProvider
    # Sandbox Tea House and Sandbox Book Shop, as the sandbox made them up.
    options = {
        "api_key": "sk_test_clinkSandbox1a2b3c4d5e6f7a8b",
        "webhook_secret": "whsec_clinkSandbox1a2b3c4d5e6f7a8b",
    }
    foreign_options = {
        "api_key": "sk_test_clinkSandbox2b3c4d5e6f7a8b9c",
        "webhook_secret": "whsec_clinkSandbox2b3c4d5e6f7a8b9c",
    }
    wrong_options = {"api_key": "sk_test_nobody"}
    base_path = "/clink/api"
    operations = {
        "start_payment": "create_session",
        "fetch_payment": "get_order",
        "refund_payment": "refund",
        "charge_token": "payment",
    }
    outcomes = {
        "approve": (PaymentStatus.PAID, PaymentStatus.PAID),
        "decline": (PaymentStatus.PENDING, None),
        "cancel": (PaymentStatus.PENDING, None),
        "expire": (PaymentStatus.EXPIRED, PaymentStatus.EXPIRED),
    }
    forgery = {"tamper_signature": True}
    saving = {"save_card": True}
    # It knows no key: the page of a lost answer stays, but nobody has its address.
    repeated_start = "another"
    no_wrong_amount = "the sandbox's fault knows none of its names for amounts"
    declined_charge = {"payment_result": "failure"}

    def plan_request(self):
        return replace(
            super().plan_request(),
            amount=Money(Decimal("9.99"), "USD"),
            provider_data={
                "productId": "prd_sandbox_tea",
                "priceId": "price_sandbox_tea_monthly",
            },
        )


@pytest.fixture
def shop(settings, multipay_sandbox):
    """A shop whose payments are started in the sandbox; it hears what a test tells."""
    settings.MULTIPAY = settings_at(multipay_sandbox)
    cache.clear()
    return Shop(multipay_sandbox, "clink")


@pytest.mark.django_db
def test_a_declined_try_on_an_open_page_does_not_end_the_payment(shop, listen):
    heard = listen("payment_failed", "payment_paid")
    payment = shop.start()
    for _ in range(2):
        shop.tell(payment, shop.decide(payment, "decline"))
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.PENDING
        assert payment.next_action
    shop.tell(payment, shop.decide(payment, "approve"))
    assert shop.agrees(payment)
    assert payment.status == PaymentStatus.PAID
    assert not payment.review_reason
    assert facts(payment) == ["capture"]
    assert [news["name"] for news in heard] == ["payment_paid"]


@pytest.mark.django_db
def test_a_declined_try_that_is_heard_of_too_late_changes_nothing(shop, listen):
    heard = listen("payment_failed", "payment_paid")
    payment = shop.start()
    shop.decide(payment, "decline")
    shop.decide(payment, "approve")
    for message in reversed(shop.messages(payment)):
        message.send()
    assert shop.agrees(payment)
    assert payment.status == PaymentStatus.PAID
    assert not payment.review_reason
    assert facts(payment) == ["capture"]
    assert [news["name"] for news in heard] == ["payment_paid"]


@pytest.mark.django_db
def test_the_inquiry_says_that_a_direct_order_failed_and_why(shop):
    payment = shop.start(method="CASHAPP")
    shop.decide(payment, "decline")
    for message in shop.messages(payment):
        message.send()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.FAILED
    assert payment.decline_code == DeclineCode.GENERIC
    (failure,) = payment.transactions.all()
    assert failure.detail == "The card was declined."
    assert shop.calls()["get_order"] == 1
