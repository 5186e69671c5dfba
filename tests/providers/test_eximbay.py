"""Eximbay: what its reference says, said again by hand and compared with ours."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin

import httpx
import pytest
from moneyed import Money

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
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    SignatureMismatch,
    UnexpectedAnswer,
    WebhookError,
)
from django_multipay.messages import (
    Address,
    BankAccount,
    Buyer,
    CaptureRequest,
    ConfirmRequest,
    Decline,
    IncomingRequest,
    LineItem,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    PlanCancelRequest,
    PlanChangeRequest,
    PlanSnapshot,
    PlanTerms,
    ProviderEvent,
    ProviderScript,
    RefundRequest,
    RefundSnapshot,
    SettleRequest,
    TokenChargeRequest,
    TokenSnapshot,
    VoidRequest,
)
from django_multipay.providers.eximbay import EximbayProvider
from django_multipay.redaction import storable
from django_multipay.testing.plugin import Sandbox
from django_multipay.testing.provider_contract import (
    FAULTS,
    Call,
    LocalServer,
    ProviderContract,
    Reply,
)
from django_multipay.testing.sandbox_contract import SandboxContract

MID = "1849705C64"
# Both are printed in public: the key in Eximbay's documentation, the secret of the
# older API in several plugins.
API_KEY = "test_1849705C642C217E0B2D"
SECRET = "289F40E6640124B2628640168C3C5464"
OPTIONS = {"mid": MID, "api_key": API_KEY, "base_url": "https://api-test.eximbay.com"}
KST = timezone(timedelta(hours=9))


def usd(text: str) -> Money:
    return Money(Decimal(text), "USD")


def krw(text: str) -> Money:
    return Money(Decimal(text), "KRW")


def fgkey(secret: str, pairs: Mapping[str, str]) -> str:
    """Section 6.1 of our notes, written a second time."""
    line = "&".join(f"{k}={v}" for k, v in sorted(pairs.items()) if k != "fgkey")
    return hashlib.sha256(f"{secret}?{line}".encode()).hexdigest().upper()


def signed(pairs: Mapping[str, str], secret: str = SECRET) -> str:
    """A message as Eximbay would send it."""
    return urlencode({**pairs, "fgkey": fgkey(secret, pairs)})


def posted(body: str | bytes, **kwargs: Any) -> IncomingRequest:
    return IncomingRequest(
        method="POST",
        body=body if isinstance(body, bytes) else body.encode(),
        content_type="application/x-www-form-urlencoded",
        **kwargs,
    )


def working_reply(call: Call) -> Reply:
    """Eximbay in ten lines: the order of every inquiry is paid."""
    if call.path == "/v1/payments/ready":
        return Reply(json=READY_ANSWER)
    if call.path == "/v1/payments/verify":
        pairs = dict(parse_qsl(call.json["data"], keep_blank_values=True))
        is_genuine = pairs["fgkey"] == fgkey(SECRET, pairs)
        return Reply(json={"rescode": "0000" if is_genuine else "VE00", "resmsg": "x"})
    asked = call.json["payment"]
    paid = RETRIEVE_ANSWER["payment"] | {
        name: asked[name] for name in ("order_id", "currency", "amount")
    }
    return Reply(json=RETRIEVE_ANSWER | {"payment": paid | {"status": "SALE"}})


class TestContract(ProviderContract):
    provider_class = EximbayProvider
    # A charge of a saved card needs a link for its goods.
    options = OPTIONS | {"secret_key": SECRET, "shop_url": "https://shop.example/"}
    start_is_read = True
    webhook_secret = SECRET
    webhook_secret_option = "secret_key"
    webhook_changes = (
        (b"amount=26.30", b"amount=26.3"),
        (b"amount=26.30", b"amount=0.30"),
        (b"rescode=0000", b"rescode=0001"),
        (b"currency=USD", b"currency=KRW"),
        (b"order_id=MP-CONTRACT-1", b"order_id=MP-CONTRACT-2"),
        (b"&dm_review=", b""),
        (b"&dm_review=", b"&dm_review=1"),
        (b"mid=1849705C64", b"mid=1849705C65"),
        (b"fgkey=", b"fgkey=0"),
        (b"fgkey=", b"extra=1&fgkey="),
    )

    def reply(self, call):
        return working_reply(call)

    def unknown_status(self, call):
        payment = RETRIEVE_ANSWER["payment"] | {"status": "PARTLY_SOLD"}
        return Reply(json=RETRIEVE_ANSWER | {"payment": payment})

    def webhook(self, secret):
        return posted(signed(NOTICE | {"order_id": "MP-CONTRACT-1"}, secret))

    def unsigned_webhook(self):
        return posted(urlencode(NOTICE))


class TestContractWithoutTheOlderSecret(TestContract):
    """The same, where only Eximbay itself can check a message."""

    options = OPTIONS | {"shop_url": "https://shop.example/"}
    webhook_secret_option = ""


@pytest.fixture
def server():
    with LocalServer(working_reply) as server:
        yield server


@pytest.fixture
def build(server):
    """Returns a provider; its options may be changed."""

    def build(**options: Any) -> EximbayProvider:
        values = OPTIONS | {"base_url": server.url} | options
        return EximbayProvider(
            "eximbay",
            EximbayProvider.options_class.from_mapping(values, alias="eximbay"),
        )

    return build


@pytest.fixture
def provider(build):
    return build()


# ready: from our words to the reference's -------------------------------------------


def request(**changes: Any) -> PaymentRequest:
    values: dict[str, Any] = {
        "key": "k-1",
        "merchant_reference": "MP-7",
        "order_id": "1001",
        "amount": usd("26.30"),
        "return_url": "https://shop.example/return/",
        "status_url": "https://shop.example/status/",
        "buyer": Buyer(name="Hong Gil Dong", email="buyer@shop.example"),
        "locale": "en",
    }
    return PaymentRequest(**values | changes)


@pytest.fixture
def sent(server, build):
    """Returns what reaches ``ready`` for a request with these changes."""

    def sent(options: Mapping[str, Any] | None = None, **changes: Any) -> Any:
        build(**options or {}).start_payment(request(**changes))
        return server.calls[-1].json

    return sent


MINIMAL_BODY = {
    "payment": {
        "transaction_type": "PAYMENT",
        "order_id": "MP-7",
        "currency": "USD",
        "amount": "26.30",
        "lang": "EN",
    },
    "merchant": {"mid": "1849705C64"},
    "url": {
        "return_url": "https://shop.example/return/",
        "status_url": "https://shop.example/status/",
    },
    "buyer": {"name": "Hong Gil Dong", "email": "buyer@shop.example"},
    "settings": {"display_type": "R", "autoclose": "Y"},
}


def test_the_shortest_order_has_only_what_must_be_there(sent):
    assert sent() == MINIMAL_BODY


def test_every_object_of_the_reference_can_be_sent(sent):
    assert (
        sent(
            options={"shop": "Shop of Hong", "partner_code": "PARTNER-1"},
            method="P000",
            locale="ko-KR",
            is_mobile=True,
            save_token=True,
            expires_at=datetime(2026, 11, 30, 15, 45, tzinfo=UTC),
            buyer=Buyer(
                name="Hong Gil Dong",
                email="buyer@shop.example",
                phone="+82-10-0000-0000",
                address=Address(
                    first_name="Gil Dong",
                    last_name="Hong",
                    street="1 Sejong-daero",
                    city="Seoul",
                    state="Seoul",
                    postal_code="04524",
                    country="KR",
                    phone="+82-10-0000-0000",
                ),
            ),
            ship_to=Address(
                first_name="Jane",
                last_name="Doe",
                street="1 Main Street",
                city="Springfield",
                state="IL",
                postal_code="62701",
                country="us",
                phone="+1-217-000-0000",
            ),
            items=[
                LineItem(
                    name="Coffee",
                    quantity=2,
                    unit_price=usd("10.00"),
                    url="https://shop.example/coffee/",
                ),
                LineItem(name="Filter", unit_price=usd("5.10")),
                LineItem(name="Shipping", unit_price=usd("3.00"), is_surcharge=True),
                LineItem(name="Coupon", unit_price=usd("-1.80")),
            ],
            plan=PlanTerms(
                amount=usd("10.50"),
                interval_months=3,
                start_on=date(2026, 12, 1),
                notice_url="https://shop.example/plan/",
            ),
            provider_data={
                "multi_payment_method": ["P000", "P001"],
                "param1": "first",
                "tax": {
                    "receipt_status": "Y",
                    "amount_tax_free": "0",
                    "amount_taxable": usd("23.91"),
                    "amount_vat": "2.39",
                    "amount_service_fee": 0,
                },
                "settings": {
                    "display_type": "P",
                    "autoclose": "N",
                    "site_foreign_currency": "EUR",
                    "call_from_app": "Y",
                    "call_from_scheme": "shop://",
                    "issuer_country": "KR",
                },
                "tokenbilling": {"unique_token_id": "N"},
                "recurring": {"remind_email_interval": 7},
                "fast_payment": {"user_id": "user-1", "gender": "F"},
            },
        )
        == FULL_BODY
    )


FULL_BODY = {
    "payment": {
        "transaction_type": "PAYMENT",
        "order_id": "MP-7",
        "currency": "USD",
        "amount": "26.30",
        "lang": "KR",
        "payment_method": "P000",
        "multi_payment_method": "P000-P001",
    },
    "merchant": {
        "mid": "1849705C64",
        "shop": "Shop of Hong",
        "partner_code": "PARTNER-1",
    },
    "url": {
        "return_url": "https://shop.example/return/",
        "status_url": "https://shop.example/status/",
    },
    "buyer": {
        "name": "Hong Gil Dong",
        "phone_number": "+82-10-0000-0000",
        "email": "buyer@shop.example",
    },
    "tax": {
        "receipt_status": "Y",
        "amount_tax_free": "0",
        "amount_taxable": "23.91",
        "amount_vat": "2.39",
        "amount_service_fee": "0",
    },
    # The second one is ours: it tells a plan's first payment from later ones.
    "other_param": {"param1": "first", "param2": "MP-7"},
    "product": [
        {
            "name": "Coffee",
            "quantity": "2",
            "unit_price": "10.00",
            "link": "https://shop.example/coffee/",
        },
        {
            "name": "Filter",
            "quantity": "1",
            "unit_price": "5.10",
            "link": "https://shop.example/",
        },
    ],
    "surcharge": [
        {"name": "Shipping", "quantity": "1", "unit_price": "3.00"},
        {"name": "Coupon", "quantity": "1", "unit_price": "-1.80"},
    ],
    "ship_to": {
        "city": "Springfield",
        "country": "US",
        "first_name": "Jane",
        "last_name": "Doe",
        "phone_number": "+1-217-000-0000",
        "postal_code": "62701",
        "state": "IL",
        "street1": "1 Main Street",
    },
    # No state: it is for the US and Canada only.
    "bill_to": {
        "city": "Seoul",
        "country": "KR",
        "first_name": "Gil Dong",
        "last_name": "Hong",
        "phone_number": "+82-10-0000-0000",
        "postal_code": "04524",
        "street1": "1 Sejong-daero",
    },
    "settings": {
        "display_type": "P",
        "autoclose": "N",
        "site_foreign_currency": "EUR",
        "call_from_app": "Y",
        "call_from_scheme": "shop://",
        "issuer_country": "KR",
        "ostype": "M",
        # 15:45 UTC is 00:45 of the next day in Seoul.
        "virtualaccount_expiry_date": "2026120100",
    },
    "tokenbilling": {"token_creation": "Y", "unique_token_id": "N"},
    "recurring": {
        "recurring_amount": "10.50",
        "recurring_start_date": "20261201",
        "recurring_interval": "3",
        "recurring_noti_url": "https://shop.example/plan/",
        "remind_email_interval": "7",
    },
    # Mandatory even when blank.
    "fast_payment": {
        "user_id": "user-1",
        "user_ci": "",
        "phone_number": "",
        "birthday": "",
        "gender": "F",
        "foreigner": "",
    },
}


def test_every_value_on_the_wire_is_text(sent):
    def values(node: Any) -> Any:
        if isinstance(node, dict):
            for item in node.values():
                yield from values(item)
        elif isinstance(node, list):
            for item in node:
                yield from values(item)
        else:
            yield node

    body = sent(
        items=[LineItem(name="Coffee", quantity=2, unit_price=usd("13.15"))],
        plan=PlanTerms(
            amount=usd("10.50"), interval_months=1, start_on=date(2026, 12, 1)
        ),
        provider_data={"tax": {"amount_vat": 1}},
    )
    assert {type(value) for value in values(body)} == {str}


def test_the_key_is_the_user_name_and_the_password_is_empty(provider, server):
    provider.start_payment(request())
    # The header of the reference's own example.
    assert (
        server.calls[0].headers["authorization"]
        == "Basic dGVzdF8xODQ5NzA1QzY0MkMyMTdFMEIyRDo="
    )
    assert server.calls[0].headers["content-type"] == "application/json"
    assert (server.calls[0].method, server.calls[0].path) == (
        "POST",
        "/v1/payments/ready",
    )


def test_the_browser_repeats_the_very_same_object_with_the_fgkey(server, provider):
    snapshot = provider.start_payment(request(description="Order 1001"))
    assert snapshot == PaymentSnapshot(
        status=PaymentStatus.PENDING,
        next_action=ProviderScript(
            src=f"{server.url}/v2/javascriptSDK.js",
            call="EXIMBAY.request_pay",
            payload={
                "fgkey": READY_ANSWER["fgkey"],
                **server.calls[0].json,
            },
        ),
    )


def test_version_1_of_the_sdk_loads_jquery_first_and_a_popup_needs_a_click(build):
    action = (
        build(
            sdk_url="https://api-test.eximbay.com/v1/javascriptSDK.js",
            sdk_requires=["https://code.jquery.com/jquery-1.12.4.min.js"],
            display_type="P",
        )
        .start_payment(request())
        .next_action
    )
    assert action.src == "https://api-test.eximbay.com/v1/javascriptSDK.js"
    assert action.requires == ("https://code.jquery.com/jquery-1.12.4.min.js",)
    assert action.opens_popup
    assert action.payload["settings"]["display_type"] == "P"


@pytest.mark.parametrize(
    ("changes", "transaction_type"),
    [
        ({}, "PAYMENT"),
        ({"capture_mode": CaptureMode.MANUAL}, "AUTHORIZE"),
        ({"token": "TOKEN-1"}, "REBILL"),
        ({"provider_data": {"transaction_type": "PAYER_AUTH"}}, "PAYER_AUTH"),
        (
            {
                "capture_mode": CaptureMode.MANUAL,
                "provider_data": {"transaction_type": "PAYER_AUTH"},
            },
            "PAYER_AUTH",
        ),
        ({"provider_data": {"transaction_type": "PAYMENT"}}, "PAYMENT"),
    ],
)
def test_the_transaction_type_follows_from_the_payment(sent, changes, transaction_type):
    assert sent(**changes)["payment"]["transaction_type"] == transaction_type


def test_a_saved_card_is_named_by_its_token(sent):
    assert sent(token="TOKEN-1")["tokenbilling"] == {"token_id": "TOKEN-1"}


@pytest.mark.parametrize(
    ("locale", "lang"),
    [
        ("", "EN"),
        ("en-gb", "EN"),
        ("ko", "KR"),
        ("ko_KR", "KR"),
        ("ja", "JP"),
        ("zh", "CN"),
        ("zh-Hans-CN", "CN"),
        ("zh-hant", "TW"),
        ("zh_Hant_HK", "TW"),
        ("zh-TW", "TW"),
        ("ru", "RU"),
        ("th", "TH"),
        ("vi", "VN"),
        ("KR", "KR"),
        ("jp", "JP"),
        ("CN", "CN"),
        ("tw", "TW"),
        ("de", "EN"),
    ],
)
def test_a_locale_becomes_eximbays_own_language_code(sent, locale, lang):
    assert sent(locale=locale)["payment"]["lang"] == lang


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (usd("26.30"), "26.30"),
        (usd("1"), "1.00"),
        (krw("132000"), "132000"),
        (Money(500, "JPY"), "500"),
    ],
)
def test_ready_and_retrieve_have_the_same_text_for_an_amount(
    provider, server, amount, text
):
    provider.start_payment(request(amount=amount))
    provider.fetch_payment(query(amount=amount))
    ready, retrieve = (call.json["payment"]["amount"] for call in server.calls)
    assert ready == retrieve == text


# Goods and surcharges ---------------------------------------------------------------


def total(body: Mapping[str, Any]) -> Decimal:
    return sum(
        (
            Decimal(line["quantity"]) * Decimal(line["unit_price"])
            for line in [*body.get("product", []), *body.get("surcharge", [])]
        ),
        Decimal(0),
    )


def test_what_the_lines_leave_open_becomes_a_surcharge(sent):
    body = sent(
        amount=usd("10.01"),
        items=[LineItem(name="A", quantity=3, unit_price=usd("3.33"))],
    )
    assert body["surcharge"] == [
        {"name": "Adjustment", "quantity": "1", "unit_price": "0.02"}
    ]
    assert total(body) == Decimal("10.01")


def test_lines_above_the_amount_become_a_discount(sent):
    body = sent(
        amount=usd("10.00"),
        items=[LineItem(name="A", quantity=3, unit_price=usd("3.50"))],
    )
    assert body["surcharge"] == [
        {"name": "Adjustment", "quantity": "1", "unit_price": "-0.50"}
    ]
    assert total(body) == Decimal("10.00")


def test_four_goods_become_three_lines(sent):
    body = sent(
        amount=usd("20.00"),
        items=[
            LineItem(name="A", unit_price=usd("1.00")),
            LineItem(name="B", unit_price=usd("2.00")),
            LineItem(name="C", quantity=2, unit_price=usd("3.00"), url="https://c/"),
            LineItem(name="D", unit_price=usd("4.00")),
            LineItem(name="E", unit_price=usd("7.00"), url="https://e/"),
        ],
    )
    assert [(line["name"], line["unit_price"]) for line in body["product"]] == [
        ("A", "1.00"),
        ("B", "2.00"),
        ("C (+2)", "17.00"),
    ]
    assert body["product"][2]["link"] == "https://c/"
    assert "surcharge" not in body
    assert total(body) == Decimal("20.00")


def test_four_surcharges_become_three_lines(sent):
    body = sent(
        items=[
            LineItem(name="Goods", unit_price=usd("20.00")),
            LineItem(name="Shipping", unit_price=usd("5.00"), is_surcharge=True),
            LineItem(name="Gift wrap", unit_price=usd("2.00"), is_surcharge=True),
            LineItem(name="Coupon", unit_price=usd("-1.00")),
        ]
    )
    assert [(line["name"], line["unit_price"]) for line in body["surcharge"]] == [
        ("Shipping", "5.00"),
        ("Gift wrap", "2.00"),
        # The coupon and the 0.30 that the lines leave open.
        ("Coupon (+1)", "-0.70"),
    ]
    assert total(body) == Decimal("26.30")


def test_a_payment_without_items_has_its_description_as_one_product(sent):
    body = sent(description="Order 1001")
    assert body["product"] == [
        {
            "name": "Order 1001",
            "quantity": "1",
            "unit_price": "26.30",
            "link": "https://shop.example/",
        }
    ]
    assert "surcharge" not in body


def test_a_long_name_is_cut(sent):
    body = sent(items=[LineItem(name="x" * 300, unit_price=usd("26.30"))])
    assert body["product"][0]["name"] == "x" * 255


# What is refused before anything is sent ------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": usd("0")}, "amount"),
        ({"amount": usd("-1")}, "amount"),
        ({"amount": usd("1.005")}, "amount"),
        ({"amount": krw("0.5")}, "amount"),
        ({"buyer": Buyer(email="b@shop.example")}, "buyer.name"),
        ({"buyer": Buyer(name="Hong", email="  ")}, "buyer.email"),
        ({"method": "card"}, "method"),
        ({"items": [LineItem(name="A", unit_price=krw("10"))]}, "items"),
        ({"items": [LineItem(name="A", quantity=0, unit_price=usd("1"))]}, "items"),
        ({"token": "T", "capture_mode": CaptureMode.MANUAL}, "token"),
        ({"token": "T", "save_token": True}, "token"),
        ({"save_token": True, "capture_mode": CaptureMode.MANUAL}, "save_token"),
        ({"plan": {"amount": krw("1000")}}, "plan.amount"),
        ({"plan": {"amount": usd("0")}}, "plan.amount"),
        ({"plan": {"amount": usd("123456789.00")}}, "plan.amount"),
        ({"plan": {"interval_months": 11}}, "plan.interval_months"),
        ({"plan": {"interval_months": 0}}, "plan.interval_months"),
        ({"plan": {"notice_url": f"https://{'x' * 250}"}}, "plan.notice_url"),
    ],
)
def test_what_eximbay_cannot_be_told_is_refused(provider, server, changes, field):
    if "plan" in changes:
        terms = {
            "amount": usd("10.50"),
            "interval_months": 1,
            "start_on": date(2026, 12, 1),
        }
        changes = {"plan": PlanTerms(**terms | changes["plan"])}
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(**changes))
    assert caught.value.field == field
    assert server.calls == []


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"param3": "x"}, "param3"),
        ({"tax": {"vat": "1"}}, "tax.vat"),
        ({"tax": "1"}, "tax"),
        ({"tax": {"amount_vat": "1,000"}}, "tax.amount_vat"),
        ({"tax": {"amount_vat": 1.5}}, "tax.amount_vat"),
        ({"tax": {"amount_vat": True}}, "tax.amount_vat"),
        ({"tax": {"receipt_status": "yes"}}, "tax.receipt_status"),
        ({"param1": "x" * 256}, "param1"),
        ({"param1": None}, "param1"),
        ({"transaction_type": "AUTHORIZE"}, "transaction_type"),
        ({"transaction_type": "REBILL"}, "transaction_type"),
        ({"transaction_type": "SALE"}, "transaction_type"),
        ({"multi_payment_method": "P000,P001"}, "multi_payment_method"),
        ({"settings": {"display_type": "X"}}, "settings.display_type"),
        ({"settings": {"issuer_country": "JP"}}, "settings.issuer_country"),
        (
            {"settings": {"virtualaccount_expiry_date": "2026-12-01"}},
            "settings.virtualaccount_expiry_date",
        ),
        ({"tokenbilling": {"unique_token_id": "Y"}}, "tokenbilling"),
        ({"tokenbilling": {"token_id": "T"}}, "tokenbilling.token_id"),
        ({"recurring": {"remind_email_interval": "7"}}, "recurring"),
        (
            {"recurring": {"remind_email_interval": "100"}},
            "recurring.remind_email_interval",
        ),
        ({"fast_payment": {"gender": "M"}}, "fast_payment.user_id"),
        ({"payment": {"amount": "1"}}, "payment"),
        ({3: "x"}, "3"),
    ],
)
def test_a_field_the_reference_does_not_have_is_refused(provider, server, data, field):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(provider_data=data))
    assert caught.value.field == f"provider_data.{field}"
    assert caught.value.field in str(caught.value)
    assert server.calls == []


def test_an_unknown_field_is_told_the_known_ones(provider):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(request(provider_data={"tax": {"vat": "1"}}))
    assert str(caught.value) == (
        "provider_data.tax.vat is unknown to Eximbay; remove it or use one of: "
        "receipt_status, amount_tax_free, amount_taxable, amount_vat, "
        "amount_service_fee"
    )


@pytest.mark.parametrize("method", ["", "P000"])
def test_the_currency_of_the_card_is_shown_for_cards(sent, method):
    body = sent(options={"site_foreign_currency": "EUR"}, method=method)
    assert body["settings"]["site_foreign_currency"] == "EUR"


def test_the_currency_of_the_card_is_left_out_for_other_methods(sent, provider):
    body = sent(options={"site_foreign_currency": "EUR"}, method="P003")
    assert "site_foreign_currency" not in body["settings"]
    with pytest.raises(InvalidOperation, match="P000 only"):
        provider.start_payment(
            request(
                method="P003",
                provider_data={"settings": {"site_foreign_currency": "EUR"}},
            )
        )


# Answers to ready -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error", "code"),
    [
        (
            Reply(
                status=401,
                json={"rescode": "EC1000", "resmsg": "Authorization is invalid"},
            ),
            CredentialsRejected,
            "EC1000",
        ),
        (
            Reply(json={"rescode": "EC1000", "resmsg": "Authorization is invalid"}),
            CredentialsRejected,
            "EC1000",
        ),
        (Reply(json={"rescode": "EC00", "resmsg": "amount"}), RequestRejected, "EC00"),
        (
            Reply(status=400, json={"rescode": "EC00", "resmsg": "amount"}),
            RequestRejected,
            "EC00",
        ),
        (Reply(json={"rescode": "Z999", "resmsg": "new"}), RequestRejected, "Z999"),
        (
            Reply(status=500, json={"rescode": "EM00", "resmsg": "Internal"}),
            ProviderUnavailable,
            "EM00",
        ),
        (Reply(json={"rescode": "EE01"}), ProviderUnavailable, "EE01"),
        (Reply(json={"rescode": "EX1000"}), ProviderUnavailable, "EX1000"),
        (Reply(status=429, json={"rescode": "Z999"}), ProviderUnavailable, ""),
        (Reply(status=500, json={"rescode": "Z999"}), ProviderUnavailable, ""),
        (Reply(status=500, json={"rescode": "0000"}), ProviderUnavailable, ""),
        (Reply(status=400, json={"rescode": "0000"}), RequestRejected, ""),
        (Reply(status=401, json={"message": "no"}), CredentialsRejected, ""),
        (Reply(json={"message": "no rescode"}), UnexpectedAnswer, ""),
        (Reply(json={"rescode": None}), UnexpectedAnswer, ""),
        (Reply(json={"rescode": "0000"}), UnexpectedAnswer, ""),
        (Reply(json={"rescode": "0000", "fgkey": "1"}), UnexpectedAnswer, ""),
    ],
)
def test_an_answer_is_read_before_its_status(provider, server, reply, error, code):
    server.reply = lambda call: reply
    with pytest.raises(error) as caught:
        provider.start_payment(request())
    assert type(caught.value) is error
    assert caught.value.code == code


def test_an_error_repeats_no_secret_that_eximbay_repeats(provider, server):
    message = (
        f"bad buyer@shop.example {API_KEY} {READY_ANSWER['fgkey']} 4111 1111 1111 1111"
    )
    server.reply = lambda call: Reply(json={"rescode": "EC00", "resmsg": message})
    with pytest.raises(RequestRejected) as caught:
        provider.start_payment(request())
    assert (
        str(caught.value)
        == "eximbay ready: bad *** *** *** ***1111 (code EC00, HTTP 200)"
    )


# retrieve ---------------------------------------------------------------------------


def query(**changes: Any) -> PaymentQuery:
    values: dict[str, Any] = {
        "merchant_reference": "MP-7",
        "provider_reference": "1849705C6420220902000010",
        "amount": usd("26.30"),
        "locale": "ko",
    }
    return PaymentQuery(**values | changes)


def retrieved(server: LocalServer, provider: EximbayProvider, **payment: Any):
    """The snapshot of an inquiry whose answer has these fields of ``payment``."""
    fields = RETRIEVE_ANSWER["payment"] | payment
    fields = {name: value for name, value in fields.items() if value is not None}
    server.reply = lambda call: Reply(json=RETRIEVE_ANSWER | {"payment": fields})
    return provider.fetch_payment(query())


def test_the_inquiry_asks_for_the_order(provider, server):
    provider.fetch_payment(query())
    assert server.calls[0].path == "/v1/payments/retrieve"
    assert server.calls[0].json == {
        "mid": "1849705C64",
        "key_field": "order_id",
        "payment": {
            "order_id": "MP-7",
            "currency": "USD",
            "amount": "26.30",
            "lang": "KR",
        },
    }


def test_a_transaction_is_asked_for_where_the_order_is_not_found(provider, server):
    """The keys are those of the reference's example."""
    transaction = "1849705C6420220902000010"

    def reply(call: Call) -> Reply:
        is_order = call.json["key_field"] == "order_id"
        return Reply(json={"rescode": "Q004"} if is_order else RETRIEVE_ANSWER)

    server.reply = reply
    snapshot = provider.fetch_payment(query(transaction_reference=transaction))
    assert snapshot.status is PaymentStatus.AUTHORIZED
    assert server.calls[1].json == {
        "mid": "1849705C64",
        "key_field": "transaction_id",
        "payment": {
            "order_id": "MP-7",
            "currency": "USD",
            "amount": "26.30",
            "transaction_id": transaction,
            "lang": "KR",
        },
    }


def test_another_transaction_of_the_order_is_not_hidden(provider, server):
    server.reply = lambda call: Reply(json=RETRIEVE_ANSWER)
    snapshot = provider.fetch_payment(query(transaction_reference="1849705C64OTHER"))
    assert snapshot.provider_reference == "1849705C6420220902000010"
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("balance", "status"),
    [
        ("1.00", PaymentStatus.AUTHORIZED),
        ("0.40", PaymentStatus.AUTHORIZED),
        ("0.00", PaymentStatus.CANCELED),
        ("0", PaymentStatus.CANCELED),
        ("", PaymentStatus.AUTHORIZED),
        (None, PaymentStatus.AUTHORIZED),
    ],
)
def test_an_authorization_of_which_nothing_is_left_was_released(
    provider, server, balance, status
):
    snapshot = retrieved(server, provider, status="AUTH", amount="1", balance=balance)
    assert snapshot.status is status
    assert snapshot.provider_reference
    assert snapshot.captured is None


def test_the_references_own_answer_is_an_authorization(provider, server):
    server.reply = lambda call: Reply(json=RETRIEVE_ANSWER)
    assert provider.fetch_payment(query()) == PaymentSnapshot(
        status=PaymentStatus.AUTHORIZED,
        provider_reference="1849705C6420220902000010",
        merchant_reference="20220902101716",
        account="1849705C64",
        amount=usd("1"),
        provider_status="AUTH",
        details={"auth_code": "485760", "balance": "1.00", "card_last4": "1111"},
        occurred_at=datetime(2022, 9, 2, 10, 17, 49, tzinfo=KST),
    )


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("SALE", PaymentStatus.PAID),
        ("Sale", PaymentStatus.PAID),
        ("AUTH", PaymentStatus.AUTHORIZED),
        ("Auth", PaymentStatus.AUTHORIZED),
        ("REGISTERED", PaymentStatus.AWAITING_FUNDS),
        ("Registered", PaymentStatus.AWAITING_FUNDS),
        ("NONE", PaymentStatus.PENDING),
        ("", PaymentStatus.PENDING),
        ("SOLD", PaymentStatus.PENDING),
    ],
)
def test_a_status_counts_in_any_case(provider, server, word, status):
    snapshot = retrieved(server, provider, status=word)
    assert snapshot.status is status
    assert (snapshot.captured is None) == (status is not PaymentStatus.PAID)


@pytest.mark.parametrize(
    ("amount", "balance", "captured", "refunded"),
    [
        ("10", "10.00", usd("10"), usd("0")),
        ("10.00", "4.5", usd("10"), usd("5.50")),
        ("10.00", "0.00", usd("10"), usd("10")),
        ("10.00", None, usd("10"), None),
        ("10.00", "11.00", usd("10"), None),
    ],
)
def test_only_the_balance_tells_of_refunds(
    provider, server, amount, balance, captured, refunded
):
    snapshot = retrieved(
        server, provider, status="SALE", amount=amount, balance=balance
    )
    assert (snapshot.captured, snapshot.refunded) == (captured, refunded)


@pytest.mark.parametrize("spelling", ["card_number4", "cardno4"])
def test_both_spellings_of_the_card_are_read(provider, server, spelling):
    server.reply = lambda call: Reply(
        json=RETRIEVE_ANSWER | {"card_info": {spelling: "1111"}}
    )
    assert provider.fetch_payment(query()).details["card_last4"] == "1111"


@pytest.mark.parametrize(
    ("answer", "provider_status"),
    [
        (
            {
                "rescode": "Q004",
                "resmsg": "No Transaction",
                "payment": {"status": "NONE"},
            },
            "NONE",
        ),
        ({"rescode": "Q004", "resmsg": "No Transaction"}, "NONE"),
        # What a failed order answers is not published.
        ({"rescode": "8327", "resmsg": "limit"}, "8327"),
    ],
)
def test_an_order_without_a_transaction_is_pending(
    provider, server, answer, provider_status
):
    server.reply = lambda call: Reply(json=answer)
    assert provider.fetch_payment(query()) == PaymentSnapshot(
        status=PaymentStatus.PENDING, provider_status=provider_status
    )


def test_a_refused_inquiry_is_an_error(provider, server):
    server.reply = lambda call: Reply(json={"rescode": "EC00", "resmsg": "x"})
    with pytest.raises(RequestRejected):
        provider.fetch_payment(query())


def test_what_the_answer_lacks_is_not_made_up(provider, server):
    server.reply = lambda call: Reply(
        json={"rescode": "0000", "payment": {"status": "SALE"}}
    )
    assert provider.fetch_payment(query()) == PaymentSnapshot(
        status=PaymentStatus.PAID, provider_status="SALE"
    )


@pytest.mark.parametrize(
    "payment",
    [
        {"amount": "one"},
        {"amount": "1e3"},
        {"amount": "1.005"},
        {"amount": "1,5"},
        {"currency": "usd"},
        {"currency": "XYZ"},
        {"balance": "much"},
    ],
)
def test_an_amount_nobody_can_read_is_unexpected(provider, server, payment):
    with pytest.raises(UnexpectedAnswer):
        retrieved(server, provider, **{"status": "SALE"} | payment)


def test_a_number_in_the_answer_is_read_like_text(provider, server):
    server.reply = lambda call: Reply(
        body=b'{"rescode": "0000", "mid": 7, "payment": {"status": "SALE",'
        b' "currency": "USD", "amount": 26.30, "balance": 26, "order_id": ["x"]}}'
    )
    snapshot = provider.fetch_payment(query())
    assert (snapshot.amount, snapshot.refunded) == (usd("26.30"), usd("0.30"))
    assert (snapshot.account, snapshot.merchant_reference) == ("7", None)


# Calls that change something ----------------------------------------------------------

ORDER = "20220902101716"
TRANSACTION = "1849705C6420220922000016"
TOKEN = "T0000000000000000001"
PLAN = "R0000000000000000001"


def asked(**changes: Any) -> PaymentQuery:
    values: dict[str, Any] = {
        "merchant_reference": ORDER,
        "provider_reference": TRANSACTION,
        "transaction_reference": TRANSACTION,
        "amount": usd("1"),
        "locale": "en",
    }
    return PaymentQuery(**values | changes)


def refund(**changes: Any) -> RefundRequest:
    values: dict[str, Any] = {
        "key": "k-1",
        "query": asked(),
        "merchant_reference": "MP-R-1",
        "amount": usd("1"),
        "refundable": usd("1"),
        "reason": "change of mind",
    }
    return RefundRequest(**values | changes)


def charge(**changes: Any) -> TokenChargeRequest:
    values: dict[str, Any] = {
        "key": "k-1",
        "merchant_reference": ORDER,
        "token": TOKEN,
        "amount": usd("1"),
        "buyer": Buyer(name="eximbay", email="test@eximbay.com"),
        "locale": "en",
    }
    return TokenChargeRequest(**values | changes)


CONFIRM = ConfirmRequest(key="k-1", query=asked(), authentication_reference="A" * 24)
CAPTURE = CaptureRequest(key="k-1", query=asked(), amount=usd("1"))
VOID = VoidRequest(key="0123456789abcdef0123456789abcdef", query=asked())
SETTLE = SettleRequest(key="k-1", query=asked())
CHANGE = PlanChangeRequest(key="k-1", provider_reference=PLAN, amount=usd("10.50"))
CANCEL = PlanCancelRequest(key="k-1", provider_reference=PLAN)

LINKED = LineItem(
    name="Order 1001", unit_price=usd("1"), url="https://shop.example/1001/"
)

PAYMENT_WRITES: dict[str, Callable[[EximbayProvider], Any]] = {
    "confirm": lambda provider: provider.confirm_payment(CONFIRM),
    "capture": lambda provider: provider.capture_payment(CAPTURE),
    "void": lambda provider: provider.void_payment(VOID),
    "refund": lambda provider: provider.refund_payment(refund()),
    "rebill": lambda provider: provider.charge_token(charge()),
}
"""Writes whose outcome an inquiry can tell."""

OTHER_WRITES: dict[str, Callable[[EximbayProvider], Any]] = {
    "settle": lambda provider: provider.settle_payment(SETTLE),
    "delete token": lambda provider: provider.delete_token(TOKEN),
    "change plan": lambda provider: provider.change_plan(CHANGE),
    "cancel plan": lambda provider: provider.cancel_plan(CANCEL),
}

WRITES = PAYMENT_WRITES | OTHER_WRITES

JSON = "application/json"
JSON_IN_UTF8 = "application/json; charset=UTF-8"

EXAMPLES: dict[str, tuple[Callable[[EximbayProvider], Any], str, str, str, Any]] = {
    "confirm": (
        lambda provider: provider.confirm_payment(
            replace(CONFIRM, authentication_reference="20220902101716")
        ),
        "POST",
        "/v1/payments/confirm",
        JSON,
        {
            "transaction_type": "PAYMENT_PA",
            "mid": "1849705C64",
            "payment": {
                "order_id": "20220902101716",
                "currency": "USD",
                "amount": "1.00",
                "payer_auth_id": "20220902101716",
                "lang": "EN",
            },
        },
    ),
    "confirm, reserve only": (
        lambda provider: provider.confirm_payment(replace(CONFIRM, capture=False)),
        "POST",
        "/v1/payments/confirm",
        JSON,
        {
            "transaction_type": "AUTHORIZE_PA",
            "mid": "1849705C64",
            "payment": {
                "order_id": "20220902101716",
                "currency": "USD",
                "amount": "1.00",
                "payer_auth_id": "A" * 24,
                "lang": "EN",
            },
        },
    ),
    "cancel": (
        lambda provider: provider.refund_payment(
            refund(
                query=asked(merchant_reference="20220829170258"),
                merchant_reference="1849705C64",
            )
        ),
        "POST",
        f"/v1/payments/{TRANSACTION}/cancel",
        JSON,
        {
            "mid": "1849705C64",
            "refund": {
                "refund_type": "F",
                "refund_amount": "1.00",
                "refund_id": "1849705C64",
                "reason": "change of mind",
            },
            "payment": {
                "order_id": "20220829170258",
                "currency": "USD",
                "amount": "1.00",
                "balance": "1.00",
                "lang": "EN",
            },
        },
    ),
    "cancel of an authorization": (
        lambda provider: provider.void_payment(VOID),
        "POST",
        f"/v1/payments/{TRANSACTION}/cancel",
        JSON,
        {
            "mid": "1849705C64",
            "refund": {
                "refund_type": "F",
                "refund_amount": "1.00",
                # Ids of at most 30 characters: no length is published.
                "refund_id": "0123456789abcdef0123456789abcd",
                "reason": "void",
            },
            "payment": {
                "order_id": "20220902101716",
                "currency": "USD",
                "amount": "1.00",
                "balance": "1.00",
                "lang": "EN",
            },
        },
    ),
    "capture": (
        lambda provider: provider.capture_payment(CAPTURE),
        "POST",
        f"/v1/payments/{TRANSACTION}/capture",
        JSON,
        {
            "mid": "1849705C64",
            "payment": {
                "order_id": "20220902101716",
                "currency": "USD",
                "amount": "1.00",
                "lang": "EN",
            },
        },
    ),
    "settle": (
        lambda provider: provider.settle_payment(SETTLE),
        "POST",
        f"/v1/payments/{TRANSACTION}/settle",
        JSON,
        {
            "mid": "1849705C64",
            "payment": {
                "order_id": "20220902101716",
                "currency": "USD",
                "amount": "1.00",
            },
        },
    ),
    # Its example leaves out lang and buyer, which its table calls mandatory.
    "rebill": (
        lambda provider: provider.charge_token(charge(items=[LINKED])),
        "POST",
        f"/v1/payments/tokenbilling/{TOKEN}/rebill",
        JSON,
        {
            "payment": {
                "order_id": "20220902101716",
                "currency": "USD",
                "amount": "1.00",
                "lang": "EN",
            },
            "merchant": {"mid": "1849705C64"},
            "buyer": {"name": "eximbay", "email": "test@eximbay.com"},
            "product": [
                {
                    "name": "Order 1001",
                    "quantity": "1",
                    "unit_price": "1.00",
                    "link": "https://shop.example/1001/",
                }
            ],
        },
    ),
    "token, delete": (
        lambda provider: provider.delete_token(TOKEN),
        "POST",
        f"/v1/payments/tokenbilling/{TOKEN}/delete",
        JSON_IN_UTF8,
        {},
    ),
    "token, card": (
        lambda provider: provider.inspect_token(TOKEN),
        "GET",
        f"/v1/payments/tokenbilling/{TOKEN}",
        JSON_IN_UTF8,
        {},
    ),
    "recurring, delete": (
        lambda provider: provider.cancel_plan(CANCEL),
        "POST",
        f"/v1/payments/recurring/{PLAN}/delete",
        JSON_IN_UTF8,
        {},
    ),
    "recurring, adjust": (
        lambda provider: provider.change_plan(CHANGE),
        "POST",
        f"/v1/payments/recurring/{PLAN}/adjust",
        JSON_IN_UTF8,
        {"adjust_amount": "10.50"},
    ),
}


def answer_to(call: Call) -> Reply:
    """A success of every write, with the one field that some cannot do without."""
    payment = {"transaction_id": TRANSACTION}
    return Reply(json={"rescode": "0000", "resmsg": "Success.", "payment": payment})


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_call_is_the_example_of_the_reference(provider, server, name):
    perform, method, path, content_type, body = EXAMPLES[name]
    server.reply = answer_to
    perform(provider)
    (call,) = server.calls
    assert (call.method, call.path) == (method, path)
    assert call.headers["content-type"] == content_type
    assert call.headers["authorization"] == (
        "Basic dGVzdF8xODQ5NzA1QzY0MkMyMTdFMEIyRDo="
    )
    assert call.json == body


def answers(server: LocalServer, write: Any, inquiry: Any = None) -> None:
    """Let every write be answered by one reply, every inquiry by another."""
    first, second = (
        reply if isinstance(reply, Reply) else Reply(json=reply)
        for reply in (write, inquiry or {"rescode": "Q004", "resmsg": "No Transaction"})
    )
    server.reply = lambda call: second if call.path.endswith("/retrieve") else first


def inquiry(**payment: Any) -> dict[str, Any]:
    """The answer of an inquiry about the order of these tests."""
    fields = {
        "order_id": ORDER,
        "currency": "USD",
        "amount": "1.00",
        "transaction_id": TRANSACTION,
        "status": "SALE",
        "balance": "1.00",
    }
    return {"rescode": "0000", "mid": MID, "payment": fields | payment}


REFUSED = {"rescode": "8327", "resmsg": "over the limit of buyer@shop.example"}


# A lost or doubtful answer to a write -------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITES)
def test_a_write_without_a_usable_answer_may_have_happened(
    provider, server, caplog, name, fault
):
    caplog.set_level(logging.DEBUG)
    reply, _, error_of_write = FAULTS[fault]
    server.reply = lambda call: reply
    with pytest.raises(ProviderError) as caught:
        WRITES[name](provider)
    assert type(caught.value) is error_of_write
    assert len(server.calls) == 1
    text = f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {caplog.text}"
    assert API_KEY not in text
    assert "test@eximbay.com" not in text


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize(
    "reply",
    [
        *({"rescode": code} for code in ("EE00", "EE99", "EEEE", "EM00", "EX1000")),
        Reply(status=500, json={"rescode": "EM00"}),
        Reply(status=500, json={"rescode": "0000"}),
        Reply(status=400, json={"rescode": "0000"}),
        {"resmsg": "no rescode"},
        {"rescode": None},
    ],
)
def test_trouble_inside_eximbay_does_not_say_that_nothing_happened(
    provider, server, name, reply
):
    answers(server, reply)
    with pytest.raises(OutcomeUnknown):
        WRITES[name](provider)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("EC1000", CredentialsRejected),
        ("EC1001", RequestRejected),
        ("EC1002", RequestRejected),
        ("EC1003", RequestRejected),
    ],
)
def test_what_was_refused_at_the_door_did_not_happen(
    provider, server, name, code, error
):
    answers(server, {"rescode": code, "resmsg": "x"})
    with pytest.raises(error) as caught:
        WRITES[name](provider)
    assert type(caught.value) is error
    assert caught.value.code == code
    assert len(server.calls) == 1


@pytest.mark.parametrize("name", WRITES)
def test_a_wrong_parameter_is_our_mistake(provider, server, name):
    answers(server, {"rescode": "EC00", "resmsg": "amount"})
    with pytest.raises(RequestRejected) as caught:
        WRITES[name](provider)
    assert caught.value.code == "EC00"


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("confirm", inquiry()),
        ("confirm", inquiry(status="AUTH")),
        ("confirm", inquiry(status="Registered")),
        ("capture", inquiry()),
        ("void", inquiry(status="AUTH", balance="0.00")),
        ("rebill", inquiry()),
    ],
)
@pytest.mark.parametrize(
    "refusal",
    [
        {"rescode": "EC00", "resmsg": "order_id"},
        {"rescode": "9999", "errcode": "DUPLICATE_TRANSACTION"},
        {"rescode": "9999", "errcode": "TRANSACTION_ALREADY_CAPTURED"},
        REFUSED,
    ],
)
def test_the_refusal_of_a_second_call_is_the_success_of_the_first(
    provider, server, name, now, refusal
):
    """Order and refund ids work once, and nobody published what a reuse is told."""
    answers(server, refusal, now)
    snapshot = PAYMENT_WRITES[name](provider)
    assert snapshot == provider.fetch_payment(asked())
    assert snapshot.decline is None


def test_a_second_refund_is_never_called_a_failure(provider, server):
    for balance in ("0.00", "0.40"):
        answers(server, REFUSED, inquiry(balance=balance))
        with pytest.raises(OutcomeUnknown):
            provider.refund_payment(refund())


@pytest.mark.parametrize("name", PAYMENT_WRITES)
@pytest.mark.parametrize(
    "inquiry",
    [Reply(is_lost=True), Reply(status=503), {"rescode": "EM00"}, {"rescode": "EC00"}],
)
def test_a_refusal_nobody_can_check_is_no_refusal(provider, server, name, inquiry):
    answers(server, REFUSED, inquiry)
    with pytest.raises(OutcomeUnknown) as caught:
        PAYMENT_WRITES[name](provider)
    assert caught.value.code == "8327"
    assert "buyer@shop.example" not in str(caught.value)


@pytest.mark.parametrize("name", PAYMENT_WRITES)
@pytest.mark.parametrize(
    "errcode",
    [
        "ALREADY_VOID_CAPTURED_TRANSACTION",
        "DUPLICATE_TRANSACTION",
        "DUPLICATION_DECLINE",
        "TEMPORARY_ERROR",
        "TRANSACTION_ALREADY_CANCELED",
        "TRANSACTION_ALREADY_CAPTURED",
        "TRANSACTION_ALREADY_CAPTURED_OR_CANCELED",
    ],
)
def test_a_doubtful_refusal_is_no_refusal_even_if_the_inquiry_knows_nothing(
    provider, server, name, errcode
):
    answers(server, {"rescode": "9999", "errcode": errcode, "resmsg": "x"})
    with pytest.raises(OutcomeUnknown) as caught:
        PAYMENT_WRITES[name](provider)
    assert caught.value.code == "9999"
    assert f": {errcode}: x (code" in str(caught.value)


@pytest.mark.parametrize("name", ["capture", "void", *OTHER_WRITES])
def test_a_refusal_of_what_is_no_charge_is_an_error(provider, server, name):
    """The authorization, the card, the plan live on; nothing of them has failed."""
    answers(server, REFUSED, inquiry(status="AUTH"))
    with pytest.raises(RequestRejected) as caught:
        WRITES[name](provider)
    assert caught.value.code == "8327"
    assert "over the limit of ***" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["confirm", "capture", "void", "refund", "settle", "rebill"]
)
def test_an_answer_whose_amount_nobody_can_read_is_an_unknown_outcome(
    provider, server, name
):
    payment = {"transaction_id": TRANSACTION, "amount": "one", "balance": "much"}
    answers(server, {"rescode": "0000", "payment": payment})
    with pytest.raises(OutcomeUnknown):
        WRITES[name](provider)


# confirm and rebill -------------------------------------------------------------------

CONFIRM_ANSWER: dict[str, Any] = {
    "rescode": "0000",
    "resmsg": "Success",
    "mid": "1849705C64",
    "payment": {
        "order_id": ORDER,
        "currency": "USD",
        "amount": "1",
        "email": "test@eximbay.com",
        "transaction_id": TRANSACTION,
        "auth_code": "485760",
        "transaction_date": "20220902101749",
        "access_country": "KR",
        "payment_method": "P101",
        "pay_to": "EXIMBAY.COM",
        "base_currency": "USD",
        "base_amount": "1.00",
        "base_rate": "1.000000",
        "dcc_rate": "1.000000",
        "card_number": "4111111111111111",
        "expiry_date": "2912",
    },
    "foreign": {
        "foreign_currency": "USD",
        "foreign_amount": "1.00",
        "foreign_rate": "1",
    },
    "card_info": {
        "card_holder": "HONG GIL DONG",
        "card_number1": "4111",
        "card_number4": "1111",
    },
    "cash_receipt": {
        "use_flag": "Y",
        "cash_receipt_type": "1",
        "customer_information_type": "phone",
        "customer_information": "01000000000",
    },
    "ship_to": {"street1": "1 Main Street", "first_name": "Jane"},
    "dm": {"dm_decision": "ACCEPT", "dm_reject": "", "dm_review": ""},
    "other_param": {"param1": "x"},
}


def test_a_confirmed_payment_is_paid(provider, server):
    answers(server, CONFIRM_ANSWER)
    snapshot = provider.confirm_payment(CONFIRM)
    assert snapshot == PaymentSnapshot(
        status=PaymentStatus.PAID,
        provider_reference=TRANSACTION,
        merchant_reference=ORDER,
        account=MID,
        amount=usd("1"),
        captured=usd("1"),
        method="P101",
        details={
            "access_country": "KR",
            "auth_code": "485760",
            "base_amount": "1.00",
            "base_currency": "USD",
            "base_rate": "1.000000",
            "card_last4": "1111",
            "cash_receipt_type": "1",
            "dcc_rate": "1.000000",
            "dm_decision": "ACCEPT",
            "foreign_amount": "1.00",
            "foreign_currency": "USD",
            "foreign_rate": "1",
            "has_cash_receipt": "Y",
            "payment_method_name": "VISA",
        },
        occurred_at=datetime(2022, 9, 2, 10, 17, 49, tzinfo=KST),
    )
    for private in ("HONG", "test@eximbay", "4111", "2912", "0100000", "Main"):
        assert private not in repr(snapshot)


@pytest.mark.parametrize(
    ("capture", "word", "status"),
    [
        (True, None, PaymentStatus.PAID),
        (False, None, PaymentStatus.AUTHORIZED),
        (True, "Sale", PaymentStatus.PAID),
        (True, "Registered", PaymentStatus.AWAITING_FUNDS),
        (False, "AUTH", PaymentStatus.AUTHORIZED),
        (True, "NONE", PaymentStatus.PENDING),
        (True, "SOLD", PaymentStatus.PENDING),
    ],
)
def test_a_confirmation_means_what_was_asked_or_said(
    provider, server, capture, word, status
):
    payment = CONFIRM_ANSWER["payment"] | ({"status": word} if word else {})
    answers(server, CONFIRM_ANSWER | {"payment": payment})
    snapshot = provider.confirm_payment(replace(CONFIRM, capture=capture))
    assert snapshot.status is status
    assert (snapshot.captured == usd("1")) == (status is PaymentStatus.PAID)


@pytest.mark.parametrize("decision", ["REVIEW", "REJECT", "ERROR"])
@pytest.mark.parametrize("name", ["confirm", "rebill"])
def test_a_charge_under_review_waits_for_a_person(provider, server, name, decision):
    answers(server, CONFIRM_ANSWER | {"dm": {"dm_decision": decision}})
    assert PAYMENT_WRITES[name](provider).needs_review


@pytest.mark.parametrize("name", ["confirm", "rebill"])
def test_a_success_without_a_transaction_must_be_asked_for(provider, server, name):
    """As in the reference's own example of ``confirm``."""
    answers(server, {"rescode": "0000", "resmsg": "Success", "mid": MID})
    with pytest.raises(OutcomeUnknown, match="no transaction"):
        PAYMENT_WRITES[name](provider)


@pytest.mark.parametrize("name", ["confirm", "rebill"])
@pytest.mark.parametrize("blanks", [{}, {"order_id": "", "currency": "", "amount": ""}])
def test_what_a_success_leaves_out_is_what_was_asked(provider, server, name, blanks):
    payment = blanks | {"transaction_id": TRANSACTION}
    answers(server, {"rescode": "0000", "mid": "", "payment": payment})
    snapshot = PAYMENT_WRITES[name](provider)
    assert snapshot == PaymentSnapshot(
        status=PaymentStatus.PAID,
        provider_reference=TRANSACTION,
        merchant_reference=ORDER,
        account=MID,
        amount=usd("1"),
        captured=usd("1"),
    )


@pytest.mark.parametrize("name", ["confirm", "rebill"])
@pytest.mark.parametrize(
    "other", [{"mid": "OTHER70564"}, {"payment": {"order_id": "MP-8", "amount": "2"}}]
)
def test_what_a_success_says_otherwise_is_passed_on_for_comparison(
    provider, server, name, other
):
    payment = {"transaction_id": TRANSACTION} | other.get("payment", {})
    answers(server, {"rescode": "0000", **other, "payment": payment})
    snapshot = PAYMENT_WRITES[name](provider)
    assert (snapshot.account, snapshot.merchant_reference, snapshot.amount) in {
        ("OTHER70564", ORDER, usd("1")),
        (MID, "MP-8", usd("2")),
    }


@pytest.mark.parametrize("name", ["confirm", "rebill"])
@pytest.mark.parametrize(
    ("answer", "decline"),
    [
        (
            REFUSED,
            Decline(
                code=DeclineCode.GENERIC,
                provider_code="8327",
                message="over the limit of ***",
            ),
        ),
        (
            {"rescode": "8327", "errcode": "INSUFFICIENT_FUNDS", "resmsg": "no"},
            Decline(
                code=DeclineCode.INSUFFICIENT_FUNDS,
                provider_code="INSUFFICIENT_FUNDS",
                message="no",
            ),
        ),
        (
            {"rescode": "DP00", "resmsg": "DmPlus", "dm": {"dm_decision": "REJECT"}},
            Decline(
                code=DeclineCode.SUSPECTED_FRAUD,
                provider_code="DP00",
                message="DmPlus",
            ),
        ),
    ],
)
def test_a_declined_charge_is_a_failed_payment(provider, server, name, answer, decline):
    answers(server, answer)
    snapshot = PAYMENT_WRITES[name](provider)
    assert snapshot.status is PaymentStatus.FAILED
    assert snapshot.decline == decline
    assert not snapshot.needs_review
    assert (snapshot.account, snapshot.merchant_reference, snapshot.amount) == (
        MID,
        ORDER,
        usd("1"),
    )
    assert snapshot.captured is None
    # Asked once more, by the order: a decline moves no money, or it was none.
    assert [call.json.get("key_field") for call in server.calls][1] == "order_id"


def test_the_answer_to_rebill_printed_in_the_reference(provider, server):
    """Placeholders and all; it lacks mid, buyer and errcode."""
    answers(
        server,
        {
            "rescode": "0000",
            "resmsg": "Success.",
            "payment": {
                "order_id": "20220902101716",
                "currency": "USD",
                "amount": "1",
                "transaction_id": "EN",
                "auth_code": "EN",
                "transaction_date": "EN",
                "access_country": "EN",
                "payment_method": "EN",
                "pay_to": "EN",
                "lang": "EN",
                "payment_method_name": "EN",
            },
            "card_info": {
                "card_holder": "HONG GIL DONG",
                "card_number1": "4111",
                "card_number4": "1111",
            },
            "token_id": TOKEN,
        },
    )
    assert provider.charge_token(charge()) == PaymentSnapshot(
        status=PaymentStatus.PAID,
        provider_reference="EN",
        merchant_reference="20220902101716",
        account=MID,
        amount=usd("1"),
        captured=usd("1"),
        method="EN",
        details={"access_country": "EN", "auth_code": "EN", "card_last4": "1111"},
    )


def test_a_charge_of_a_saved_card_carries_goods_and_buyer(build, server):
    server.reply = answer_to
    provider = build(shop="Shop of Hong", shop_url="https://shop.example/")
    provider.charge_token(
        charge(
            amount=usd("26.30"),
            locale="ko",
            buyer=Buyer(
                name="Hong",
                email="buyer@shop.example",
                phone="+82-10-0000-0000",
                address=Address(city="Seoul", country="KR"),
            ),
            items=[
                LineItem(
                    name="Coffee",
                    quantity=2,
                    unit_price=usd("10.00"),
                    url="https://shop.example/coffee/",
                ),
                LineItem(name="Filter", unit_price=usd("5.10")),
                LineItem(name="Shipping", unit_price=usd("1.20"), is_surcharge=True),
            ],
        )
    )
    assert server.calls[0].json == {
        "payment": {
            "order_id": "20220902101716",
            "currency": "USD",
            "amount": "26.30",
            "lang": "KR",
        },
        "merchant": {"mid": "1849705C64", "shop": "Shop of Hong"},
        "buyer": {
            "name": "Hong",
            "phone_number": "+82-10-0000-0000",
            "email": "buyer@shop.example",
        },
        "product": [
            {
                "name": "Coffee",
                "quantity": "2",
                "unit_price": "10.00",
                "link": "https://shop.example/coffee/",
            },
            {
                "name": "Filter",
                "quantity": "1",
                "unit_price": "5.10",
                "link": "https://shop.example/",
            },
        ],
        "surcharge": [{"name": "Shipping", "quantity": "1", "unit_price": "1.20"}],
        "bill_to": {"city": "Seoul", "country": "KR"},
    }


# capture, cancel, settle --------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["allowed_pvoid", "partially_cancelable"])
def test_the_answer_to_capture_printed_in_the_reference(provider, server, spelling):
    answers(
        server,
        {
            "rescode": "0000",
            "resmsg": "Success.",
            "mid": "1849705C64",
            "payment": {
                "order_id": "20220922114007",
                "currency": "USD",
                "amount": "1",
                "transaction_id": "1849705C6420220922000016",
                "captured_date": "20220922114212",
                spelling: "Y",
            },
        },
    )
    assert provider.capture_payment(CAPTURE) == PaymentSnapshot(
        status=PaymentStatus.PAID,
        provider_reference="1849705C6420220922000016",
        merchant_reference="20220922114007",
        account=MID,
        amount=usd("1"),
        captured=usd("1"),
        details={"partially_cancelable": "Y"},
        occurred_at=datetime(2022, 9, 22, 11, 42, 12, tzinfo=KST),
    )


def test_the_answer_to_settle_printed_in_the_reference(provider, server):
    answers(
        server,
        {
            "rescode": "0000",
            "resmsg": "Success.",
            "mid": "1849705C64",
            "payment": {
                "order_id": "20220922114007",
                "currency": "USD",
                "amount": "1",
                "transaction_id": "1849705C6420220922000016",
                "settled_date": "20220922114212",
            },
        },
    )
    assert provider.settle_payment(SETTLE) == PaymentSnapshot(
        status=PaymentStatus.PAID,
        provider_reference="1849705C6420220922000016",
        merchant_reference="20220922114007",
        account=MID,
        amount=usd("1"),
        captured=usd("1"),
        details={"settled_date": "20220922114212"},
    )


CANCEL_ANSWER: dict[str, Any] = {
    "rescode": "0000",
    "resmsg": "Success.",
    "mid": "1849705C64",
    "refund": {
        "refund_amount": "1.00",
        "refund_id": "1849705C64",
        "refund_date": "20220922113927",
        "refund_transaction_id": "1849705C6420220922000014",
    },
    "payment": {
        "order_id": "20220922113330",
        "currency": "USD",
        "amount": "1.00",
        "transaction_id": "1849705C6420220922000013",
        "balance": "0.00",
        "base_amount": "1.00",
        "base_rate": "1.000000",
        "dcc_rate": "1.000000",
        "payment_method": "P101",
    },
    "foreign": {
        "foregin_currency": "USD",
        "foregin_amount": "1.00",
        "foregin_rate": "0",
    },
}
CANCEL_DETAILS = {
    "balance": "0.00",
    "base_amount": "1.00",
    "base_rate": "1.000000",
    "dcc_rate": "1.000000",
    "foreign_amount": "1.00",
    "foreign_currency": "USD",
    "foreign_rate": "0",
    "payment_method_name": "VISA",
}


@pytest.mark.parametrize("spelling", ["foregin", "foreign"])
def test_the_answer_to_cancel_printed_in_the_reference(provider, server, spelling):
    foreign = {
        name.replace("foregin", spelling): value
        for name, value in CANCEL_ANSWER["foreign"].items()
    }
    answers(server, CANCEL_ANSWER | {"foreign": foreign})
    assert provider.refund_payment(refund()) == RefundSnapshot(
        status=RefundStatus.SUCCEEDED,
        provider_reference="1849705C6420220922000014",
        merchant_reference="1849705C64",
        amount=usd("1"),
        refundable=usd("0"),
        details=CANCEL_DETAILS,
        occurred_at=datetime(2022, 9, 22, 11, 39, 27, tzinfo=KST),
    )


def test_a_released_authorization_is_canceled_under_its_own_transaction(
    provider, server
):
    answers(server, CANCEL_ANSWER)
    assert provider.void_payment(VOID) == PaymentSnapshot(
        status=PaymentStatus.CANCELED,
        provider_reference="1849705C6420220922000013",
        merchant_reference="20220922113330",
        account=MID,
        amount=usd("1"),
        method="P101",
        details=CANCEL_DETAILS,
        occurred_at=datetime(2022, 9, 22, 11, 39, 27, tzinfo=KST),
    )


def test_a_bare_success_names_what_was_asked(provider, server):
    answers(server, {"rescode": "0000"})
    for perform in (provider.capture_payment, provider.void_payment):
        snapshot = perform(CAPTURE if perform == provider.capture_payment else VOID)
        assert snapshot.provider_reference == TRANSACTION
        assert (snapshot.account, snapshot.merchant_reference) == (MID, ORDER)
        assert snapshot.amount == usd("1")
    assert provider.refund_payment(refund()) == RefundSnapshot(
        status=RefundStatus.SUCCEEDED, amount=usd("1")
    )


def test_a_payment_is_given_back_in_parts(provider, server):
    server.reply = answer_to
    total = asked(amount=usd("10"))
    steps = [("4", "10"), ("3.50", "6"), ("2.50", "2.50")]
    for number, (amount, left) in enumerate(steps):
        provider.refund_payment(
            refund(
                query=total,
                merchant_reference=f"MP-R-{number}",
                amount=usd(amount),
                refundable=usd(left),
                reason="",
            )
        )
    assert [(call.json["refund"], call.json["payment"]) for call in server.calls] == [
        (
            {
                "refund_type": "P",
                "refund_amount": amount,
                "refund_id": f"MP-R-{number}",
                # Mandatory, so a refund without a reason says what it is.
                "reason": "refund",
            },
            {
                "order_id": ORDER,
                "currency": "USD",
                "amount": "10.00",
                "balance": balance,
                "lang": "EN",
            },
        )
        for number, (amount, balance) in enumerate(
            [("4.00", "10.00"), ("3.50", "6.00"), ("2.50", "2.50")]
        )
    ]


def test_a_deposit_goes_back_to_a_bank_account_with_its_tax(provider, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.reply = answer_to
    provider.refund_payment(
        refund(
            query=asked(method="P305", amount=krw("132000")),
            amount=krw("132000"),
            refundable=krw("132000"),
            account=BankAccount(
                holder="Hong Gil Dong", bank_code="088", number="110-123-456789"
            ),
            provider_data={
                "param1": "first",
                "tax": {
                    "receipt_status": "Y",
                    "amount_tax_free": 0,
                    "amount_taxable": krw("120000"),
                    "amount_vat": "12000",
                    "amount_service_fee": "0",
                },
            },
        )
    )
    assert server.calls[0].json == {
        "mid": "1849705C64",
        "refund": {
            "refund_type": "F",
            "refund_amount": "132000",
            "refund_id": "MP-R-1",
            "reason": "change of mind",
        },
        "payment": {
            "order_id": ORDER,
            "currency": "KRW",
            "amount": "132000",
            "balance": "132000",
            "lang": "EN",
        },
        "other_param": {"param1": "first"},
        "refund_account": {
            "user_name": "Hong Gil Dong",
            "bank_code": "088",
            "account_number": "110-123-456789",
        },
        "tax": {
            "receipt_status": "Y",
            "amount_tax_free": "0",
            "amount_taxable": "120000",
            "amount_vat": "12000",
            "amount_service_fee": "0",
        },
    }
    assert "456789" not in caplog.text
    assert "Hong" not in caplog.text


@pytest.mark.parametrize("balance", ["1.00", None])
def test_a_refused_refund_has_failed_and_says_why(provider, server, balance):
    answers(
        server,
        {
            "rescode": "9999",
            "errcode": "INSUFFICIENT_MERCHANT_REFUND_FUNDS",
            "resmsg": "balance of the merchant",
        },
        inquiry(**({"balance": balance} if balance else {"status": "SALE"})),
    )
    assert provider.refund_payment(refund()) == RefundSnapshot(
        status=RefundStatus.FAILED,
        merchant_reference="MP-R-1",
        amount=usd("1"),
        refundable=usd("1"),
        decline=Decline(
            code=DeclineCode.GENERIC,
            provider_code="INSUFFICIENT_MERCHANT_REFUND_FUNDS",
            message="balance of the merchant",
        ),
    )


def test_a_refund_is_believed_to_be_refused_where_no_balance_is_told(provider, server):
    payment = {
        name: value for name, value in inquiry()["payment"].items() if name != "balance"
    }
    answers(server, REFUSED, inquiry() | {"payment": payment})
    assert provider.refund_payment(refund()).status is RefundStatus.FAILED


# What is refused before a write -------------------------------------------------------


UNSAYABLE: dict[str, tuple[Callable[[EximbayProvider], Any], str]] = {
    "a part of an authorization": (
        lambda p: p.capture_payment(replace(CAPTURE, amount=usd("0.50"))),
        "amount",
    ),
    "more than was authorized": (
        lambda p: p.capture_payment(replace(CAPTURE, amount=usd("2"))),
        "amount",
    ),
    "no authentication": (
        lambda p: p.confirm_payment(replace(CONFIRM, authentication_reference=" ")),
        "authentication_reference",
    ),
    "a refund of nothing": (
        lambda p: p.refund_payment(refund(amount=usd("0"))),
        "amount",
    ),
    "a refund of too much": (
        lambda p: p.refund_payment(refund(amount=usd("1.01"))),
        "amount",
    ),
    "a refund in another currency": (
        lambda p: p.refund_payment(refund(amount=krw("1"))),
        "amount",
    ),
    "a rest in another currency": (
        lambda p: p.refund_payment(refund(refundable=krw("1"))),
        "amount",
    ),
    "a rest above the payment": (
        lambda p: p.refund_payment(refund(refundable=usd("2"))),
        "amount",
    ),
    "a Korean deposit without an account": (
        lambda p: p.refund_payment(refund(query=asked(method="P305"))),
        "account",
    ),
    "an overseas deposit without an account": (
        lambda p: p.refund_payment(refund(query=asked(method="P310"))),
        "account",
    ),
    "an account without a bank": (
        lambda p: p.refund_payment(
            refund(account=BankAccount(holder="Hong", bank_code="", number="1"))
        ),
        "account.bank_code",
    ),
    "a refund with a field of the page": (
        lambda p: p.refund_payment(refund(provider_data={"shop": "x"})),
        "provider_data.shop",
    ),
    "a refund with an unknown tax": (
        lambda p: p.refund_payment(refund(provider_data={"tax": {"vat": "1"}})),
        "provider_data.tax.vat",
    ),
    "a charge of nothing": (
        lambda p: p.charge_token(charge(amount=usd("0"))),
        "amount",
    ),
    "a charge of nobody": (
        lambda p: p.charge_token(charge(buyer=Buyer(name="x"))),
        "buyer.email",
    ),
    "a charge of an order without a link": (
        lambda p: p.charge_token(charge(description="Order 1001")),
        "OPTIONS['shop_url']",
    ),
    "a charge of one item without a link": (
        lambda p: p.charge_token(
            charge(items=[LINKED, LineItem(name="Filter", unit_price=usd("1"))])
        ),
        "OPTIONS['shop_url']",
    ),
    "a charge without a token": (
        lambda p: p.charge_token(charge(token="")),
        "token",
    ),
    "a token that is a step up": (lambda p: p.inspect_token(".."), "token"),
    "a token with a blank": (lambda p: p.delete_token("a b"), "token"),
    "a token that is too long": (lambda p: p.delete_token("x" * 65), "token"),
    "a plan for nothing": (
        lambda p: p.change_plan(replace(CHANGE, amount=usd("0"))),
        "amount",
    ),
    "a plan of eleven digits": (
        lambda p: p.change_plan(replace(CHANGE, amount=usd("123456789"))),
        "amount",
    ),
    "a plan without an id": (
        lambda p: p.change_plan(replace(CHANGE, provider_reference="")),
        "provider_reference",
    ),
    "a plan that ends later": (
        lambda p: p.cancel_plan(replace(CANCEL, at_period_end=True)),
        "at_period_end",
    ),
    "a plan without terms": (lambda p: p.start_plan(request()), "plan"),
}


@pytest.mark.parametrize("name", UNSAYABLE)
def test_a_write_that_cannot_be_said_is_not_sent(provider, server, name):
    perform, field = UNSAYABLE[name]
    with pytest.raises(InvalidOperation) as caught:
        perform(provider)
    assert caught.value.field == field
    assert server.calls == []


@pytest.mark.parametrize("reference", ["", "..", "../cancel", "a b", "ä"])
def test_only_a_transaction_can_be_captured_or_canceled(provider, server, reference):
    unknown = asked(provider_reference=reference, transaction_reference="")
    if reference == "../cancel":
        server.reply = answer_to
        provider.capture_payment(replace(CAPTURE, query=unknown))
        assert server.calls[0].path == "/v1/payments/..%2Fcancel/capture"
        return
    for perform, wish in (
        (provider.capture_payment, CAPTURE),
        (provider.void_payment, VOID),
        (provider.settle_payment, SETTLE),
        (provider.refund_payment, refund()),
    ):
        with pytest.raises(InvalidOperation) as caught:
            perform(replace(wish, query=unknown))
        assert caught.value.field == "transaction_reference"
    assert server.calls == []


# Saved cards and plans ----------------------------------------------------------------


def test_the_card_behind_a_token_has_an_identity(provider, server):
    answers(
        server,
        {
            "rescode": "0000",
            "resmsg": "Success.",
            "token_id": TOKEN,
            "card_identifier": "c" * 64,
        },
    )
    snapshot = provider.inspect_token(TOKEN)
    assert snapshot == TokenSnapshot(reference=TOKEN, fingerprint="c" * 64)
    assert TOKEN not in repr(snapshot)


def test_the_blank_answer_printed_in_the_reference_is_an_answer(provider, server):
    answers(server, {"rescode": "0000", "token_id": "", "card_identifier": ""})
    assert provider.inspect_token(TOKEN) == TokenSnapshot(reference=TOKEN)


def test_the_card_of_another_token_is_not_believed(provider, server):
    answers(server, {"rescode": "0000", "token_id": "T2", "card_identifier": "c"})
    with pytest.raises(UnexpectedAnswer):
        provider.inspect_token(TOKEN)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_inquiry_of_a_card_is_a_read(provider, server, fault):
    reply, error_of_read, _ = FAULTS[fault]
    server.reply = lambda call: reply
    with pytest.raises(ProviderError) as caught:
        provider.inspect_token(TOKEN)
    assert type(caught.value) is error_of_read


def test_an_unknown_token_is_refused(provider, server):
    answers(server, {"rescode": "9999", "errcode": "INVALID_REQEUST_ID"})
    with pytest.raises(RequestRejected, match="INVALID_REQEUST_ID"):
        provider.inspect_token(TOKEN)


def test_a_plan_is_changed_and_ended_at_once(provider, server):
    answers(server, {"rescode": "0000", "resmsg": "Success."})
    assert provider.change_plan(CHANGE) == PlanSnapshot(
        reference=PLAN, status=PlanStatus.ACTIVE
    )
    assert provider.cancel_plan(CANCEL) == PlanSnapshot(
        reference=PLAN, status=PlanStatus.CANCELED
    )
    assert provider.delete_token(TOKEN) is None


TERMS = PlanTerms(
    amount=usd("10.50"),
    interval_months=1,
    start_on=date(2026, 12, 1),
    notice_url="https://shop.example/plan/",
)


def test_a_plan_starts_with_its_first_payment(provider, server):
    wish = request(plan=TERMS)
    assert provider.start_plan(wish) == provider.start_payment(wish)
    first, second = (call.json for call in server.calls)
    assert first == second
    assert first["recurring"]["recurring_noti_url"] == "https://shop.example/plan/"
    assert first["other_param"] == {"param2": "MP-7"}


def test_the_mark_of_a_first_payment_cannot_be_overwritten(provider, server):
    with pytest.raises(InvalidOperation) as caught:
        provider.start_plan(request(plan=TERMS, provider_data={"param2": "mine"}))
    assert caught.value.field == "provider_data.param2"
    assert server.calls == []


@pytest.mark.parametrize(
    ("changes", "is_renewal"),
    [
        # The first payment brings its own order id back.
        ({"param2": "ORDER-1"}, False),
        ({"order_id": "ORDER-2", "param2": "ORDER-1"}, True),
        ({"order_id": "ORDER-2", "param2": ""}, True),
        ({"order_id": "ORDER-2", "param2": None}, True),
        # Of a payment without a plan the second parameter is the shop's.
        ({"recurring_id": None, "param2": "mine"}, False),
        ({"recurring_id": "", "param2": "mine"}, False),
    ],
)
@pytest.mark.parametrize("rescode", ["0000", "8327"])
def test_a_later_charge_of_a_plan_is_told_from_the_first(
    provider, changes, is_renewal, rescode
):
    fields = NOTICE | {
        "rescode": rescode,
        "recurring_payment": "Y",
        "recurring_id": "R-1",
        "recurring_next_date": "20260201",
    }
    fields = {k: v for k, v in (fields | changes).items() if v is not None}
    body = posted(signed(fields))
    provider.verify_webhook(body)
    (event,) = provider.parse_webhook(body)
    assert (event.is_renewal, event.must_fetch) == (is_renewal, True)
    if is_renewal:
        failed = rescode != "0000"
        assert event.snapshot.merchant_reference == "ORDER-2"
        assert event.snapshot.plan == PlanSnapshot(
            reference="R-1",
            status=PlanStatus.PAST_DUE if failed else PlanStatus.ACTIVE,
            next_on=date(2026, 2, 1),
        )


# Korean domestic methods --------------------------------------------------------------


def test_a_second_account_shows_the_page_of_korea(build, server):
    build(issuer_country="KR").start_payment(
        request(amount=krw("132000"), method="P302", locale="ko")
    )
    body = server.calls[0].json
    assert body["settings"]["issuer_country"] == "KR"
    assert body["payment"]["amount"] == "132000"
    assert body["payment"]["payment_method"] == "P302"


TAX = {
    "receipt_status": "N",
    "amount_tax_free": "0",
    "amount_taxable": "120000",
    "amount_vat": "12000",
    "amount_service_fee": "0",
}


@pytest.mark.parametrize(
    ("method", "tax", "missing"),
    [
        ("P301", {}, "receipt_status"),
        ("P301", {"amount_vat": "1"}, "receipt_status"),
        ("P301", {"receipt_status": "N"}, ""),
        ("P308", {}, "receipt_status"),
        *(("P308", {n: v for n, v in TAX.items() if n != name}, name) for name in TAX),
        ("P308", TAX, ""),
        ("P302", {}, ""),
    ],
)
def test_two_korean_methods_demand_tax_data(provider, server, method, tax, missing):
    wish = request(amount=krw("132000"), method=method, provider_data={"tax": tax})
    if not missing:
        provider.start_payment(wish)
        assert server.calls[0].json.get("tax", {}) == tax
        return
    with pytest.raises(InvalidOperation) as caught:
        provider.start_payment(wish)
    assert caught.value.field == f"provider_data.tax.{missing}"
    assert server.calls == []


def test_the_shops_address_is_the_link_of_goods_that_have_none(sent):
    body = sent(options={"shop_url": "https://coffee.example/"}, description="Order")
    assert body["product"][0]["link"] == "https://coffee.example/"


# fgkey ------------------------------------------------------------------------------


def test_the_rule_makes_the_fgkey_of_the_reference():
    """6.1 (a): the fgkey printed for ``ready``, over the names of the older API."""
    line = (
        "amt=1&buyer=eximbay&cur=USD&displaytype=P&email=test@eximbay.com&lang=EN"
        "&mid=1849705C64&ostype=P&ref=20220819105102&returnurl=eximbay.com"
        "&statusurl=eximbay.com&txntype=PAYMENT&ver=230"
    )
    assert fgkey(SECRET, dict(parse_qsl(line))) == (
        "0E9BE04BA239A519E68171F26B68604ADA0A85C8350DBF5C8C0FCCF98461DB09"
    )


def test_the_rule_makes_the_fgkey_of_a_notice(build, server):
    """6.1 (b): blanks and decoded values count, and the provider finds the same."""
    assert (
        fgkey(SECRET, dict(parse_qsl(VECTOR, keep_blank_values=True))) == VECTOR_FGKEY
    )
    provider = build(secret_key=SECRET)
    for key in (VECTOR_FGKEY, VECTOR_FGKEY.lower()):
        server.reply = lambda call: Reply(json={"rescode": "0000"})
        provider.verify_webhook(posted(f"{VECTOR}&fgkey={key}"))
    assert [call.path for call in server.calls] == ["/v1/payments/verify"] * 2


def test_with_the_older_secret_a_forged_notice_costs_no_call(build, server):
    provider = build(secret_key=["new", SECRET])
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(
            posted(f"{VECTOR.replace('26.30', '26.31')}&fgkey={VECTOR_FGKEY}")
        )
    assert server.calls == []


def test_with_the_older_secret_eximbay_is_still_asked(build, server):
    server.reply = lambda call: Reply(json={"rescode": "VE00", "resmsg": "fgkey"})
    with pytest.raises(SignatureMismatch):
        build(secret_key=SECRET).verify_webhook(
            posted(f"{VECTOR}&fgkey={VECTOR_FGKEY}")
        )
    assert len(server.calls) == 1


def test_a_value_that_is_not_utf_8_keeps_its_bytes(build):
    body = b"&".join(
        name.encode() + b"=" + value
        for name, value in sorted(
            {
                "mid": MID.encode(),
                "order_id": b"MP-7",
                "rescode": b"0000",
                "card_holder": b"\xb1\xe8",  # EUC-KR
                "currency": b"USD",
                "amount": b"26.30",
            }.items()
        )
    )
    digest = hashlib.sha256(f"{SECRET}?".encode() + body).hexdigest()
    escaped = body.replace(b"\xb1\xe8", b"%B1%E8") + f"&fgkey={digest}".encode()
    provider = build(secret_key=SECRET)
    # Our stand-in for Eximbay reads UTF-8, so only the check made here counts.
    with pytest.raises(SignatureMismatch, match="did not send"):
        provider.verify_webhook(posted(escaped))
    assert provider.identify_return(posted(escaped)) == "MP-7"


# verify -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET", "GET with ?"])
def test_the_raw_string_goes_back_byte_for_byte(provider, server, method):
    """Blanks, order and the sender's way of escaping stay as they are."""
    raw = f"param2=a+b%20c%2f@d&{VECTOR.replace('&param2=', '')}&fgkey={VECTOR_FGKEY}"
    assert "&dm_reject=&" in raw
    incoming = IncomingRequest(
        method=method[:4].strip(),
        body=raw.encode() if method == "POST" else b"",
        query_string={"POST": "x=1", "GET": raw, "GET with ?": f"?{raw}"}[method],
    )
    server.reply = lambda call: Reply(json={"rescode": "0000"})
    provider.verify_webhook(incoming)
    assert [(call.path, call.json) for call in server.calls] == [
        ("/v1/payments/verify", {"data": raw})
    ]


@pytest.mark.parametrize("name", ["mid", "order_id", "fgkey", "rescode"])
@pytest.mark.parametrize("is_blank", [True, False])
def test_a_notice_without_a_mandatory_field_is_refused_without_a_call(
    provider, server, name, is_blank
):
    pairs = dict(parse_qsl(signed(NOTICE), keep_blank_values=True))
    pairs[name] = ""
    if not is_blank:
        del pairs[name]
    with pytest.raises(MalformedWebhook, match=name):
        provider.verify_webhook(posted(urlencode(pairs)))
    assert server.calls == []


@pytest.mark.parametrize(
    "changes",
    [
        {"mid": "OTHER70564"},
        {"mid": "1849705c64"},
        {"fgkey": "0" * 63},
        {"fgkey": "0" * 65},
        {"fgkey": "g" * 64},
        {"fgkey": "٣" * 64},
        {"fgkey": "0" * 64 + "\n"},
    ],
)
def test_another_account_or_no_fgkey_is_refused_without_a_call(
    provider, server, changes
):
    pairs = dict(parse_qsl(signed(NOTICE), keep_blank_values=True)) | changes
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(posted(urlencode(pairs)))
    assert server.calls == []


@pytest.mark.parametrize(
    "extra",
    [
        "amount=1",
        "amt=1",  # the older name of the same field
        "ref=MP-8",
        "dm_review=",
        "extra=1&extra=1",
    ],
)
def test_a_field_may_come_once_under_either_name(provider, server, extra):
    body = posted(f"{signed(NOTICE)}&{extra}")
    for read in (
        provider.verify_webhook,
        provider.parse_webhook,
        provider.identify_return,
    ):
        with pytest.raises(MalformedWebhook):
            read(body)
    assert server.calls == []


@pytest.mark.parametrize(
    "extra",
    [
        "extra=%00",
        "&".join(f"f{number}=" for number in range(200)),
        f"extra={'x' * 65_536}",
    ],
    ids=["NUL", "many fields", "long"],
)
def test_a_notice_has_bounds(provider, server, extra):
    for read in (
        provider.verify_webhook,
        provider.parse_webhook,
        provider.identify_return,
    ):
        with pytest.raises(MalformedWebhook):
            read(posted(f"{signed(NOTICE)}&{extra}"))
    assert server.calls == []


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(json={"rescode": "EC1000", "resmsg": "x"}), CredentialsRejected),
        (Reply(status=401, json={"rescode": "EC1000"}), CredentialsRejected),
        (Reply(json={"rescode": "EC00", "resmsg": "x"}), RequestRejected),
        (Reply(status=502, body=b"<html>"), ProviderUnavailable),
        (Reply(status=500, json={"rescode": "VE00"}), ProviderUnavailable),
        (Reply(status=500, json={"rescode": "0000"}), ProviderUnavailable),
        (Reply(is_lost=True), ProviderUnavailable),
        (Reply(json={}), UnexpectedAnswer),
        (Reply(json={"rescode": 0}), SignatureMismatch),
        (Reply(json={"rescode": "0000 "}), SignatureMismatch),
        (Reply(json={"rescode": "VE00", "resmsg": "x"}), SignatureMismatch),
        (Reply(status=400, json={"rescode": "VE00"}), SignatureMismatch),
        (Reply(status=403, json={"rescode": "VE00"}), SignatureMismatch),
    ],
)
def test_a_notice_is_refused_only_when_eximbay_says_so(provider, server, reply, error):
    """Trouble of our own, or of Eximbay's, defers a notice: it may be genuine."""
    server.reply = lambda call: reply
    with pytest.raises(error) as caught:
        provider.verify_webhook(posted(signed(NOTICE)))
    assert type(caught.value) is error


def test_an_allow_list_refuses_strangers_and_says_whose_order_it_was(
    build, server, caplog
):
    provider = build(source_addresses=["15.165.144.33", "192.0.2.0/24"])
    for address in ("15.165.144.33", "192.0.2.7"):
        provider.verify_webhook(posted(signed(NOTICE), remote_address=address))
    assert len(server.calls) == 2
    for address in ("15.165.144.34", "", "unix:", "::1"):
        with pytest.raises(SignatureMismatch):
            provider.verify_webhook(posted(signed(NOTICE), remote_address=address))
    assert len(server.calls) == 2
    refusals = [
        record for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert len(refusals) == 4
    assert "ORDER-1" in refusals[0].getMessage()


def test_a_buyer_may_come_back_from_any_address(build, server):
    provider = build(source_addresses=["15.165.144.33"])
    carried = replace(posted(signed(NOTICE)), is_by_buyer=True)
    provider.verify_webhook(replace(carried, remote_address="203.0.113.9"))
    assert len(server.calls) == 1


def test_an_allow_list_is_never_the_only_check(build):
    provider = build(source_addresses=["15.165.144.33"])
    with pytest.raises(SignatureMismatch):
        provider.verify_webhook(
            posted(signed(NOTICE, "forged"), remote_address="15.165.144.33")
        )


# parse ------------------------------------------------------------------------------


@pytest.fixture
def read(provider):
    """Returns the snapshot of a notice with these fields changed; None removes."""

    def read(**changes: str | None) -> PaymentSnapshot:
        pairs = {
            name: value
            for name, value in (NOTICE | changes).items()
            if value is not None
        }
        (event,) = provider.parse_webhook(posted(urlencode(pairs)))
        assert event.must_fetch
        assert event.event_id == ""
        return event.snapshot

    return read


def test_a_notice_becomes_a_claim_with_everything_worth_keeping(read):
    assert read() == PaymentSnapshot(
        status=PaymentStatus.PAID,
        provider_reference="1849705C6420260102000001",
        merchant_reference="ORDER-1",
        account="1849705C64",
        amount=usd("26.30"),
        captured=usd("26.30"),
        method="P101",
        details={
            "access_country": "KR",
            "auth_code": "123456",
            "card_last4": "1111",
            "installment_months": "00",
            "payment_method_name": "VISA",
        },
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=KST),
    )


def test_a_snapshot_keeps_no_card_holder_no_address_and_no_key(read):
    text = repr(
        read(
            card_number="4111111111111111",
            expiry_date="2912",
            cavv="CAVV",
            token_id="TOKEN-1",
            ship_to_street1="1 Main Street",
            cash_receipt_user_info="0101234567",
        )
    )
    for private in (
        "HONG",
        "buyer+1",
        "4111",
        "2912",
        "CAVV",
        "TOKEN-1",
        "Main",
        "0101234567",
        VECTOR_FGKEY,
    ):
        assert private not in text


def test_of_a_card_number_only_the_last_four_digits_are_kept(read):
    snapshot = read(card_number4="4111111111112222", token_id="TOKEN-1")
    assert snapshot.details["card_last4"] == snapshot.token.last4 == "2222"


@pytest.mark.parametrize(
    ("transaction_type", "status", "expected"),
    [
        # Every known sample of a card payment comes without a status.
        ("PAYMENT", None, PaymentStatus.PAID),
        ("PAYMENT", "", PaymentStatus.PAID),
        ("REBILL", None, PaymentStatus.PAID),
        ("AUTHORIZE", None, PaymentStatus.AUTHORIZED),
        ("SOMETHING", None, PaymentStatus.PENDING),
        (None, None, PaymentStatus.PENDING),
        ("PAYMENT", "SALE", PaymentStatus.PAID),
        ("PAYMENT", "Sale", PaymentStatus.PAID),
        ("PAYMENT", "Registered", PaymentStatus.AWAITING_FUNDS),
        ("PAYMENT", "AUTH", PaymentStatus.AUTHORIZED),
        ("PAYMENT", "NONE", PaymentStatus.PENDING),
        ("PAYMENT", "PARTLY", PaymentStatus.PENDING),
        ("AUTHORIZE", "SALE", PaymentStatus.PAID),
    ],
)
def test_a_success_claims_what_status_or_type_says(
    read, transaction_type, status, expected
):
    snapshot = read(transaction_type=transaction_type, status=status)
    assert snapshot.status is expected
    assert (snapshot.captured == usd("26.30")) == (expected is PaymentStatus.PAID)


def test_a_genuine_notice_of_failure_verifies_and_fails(provider):
    """``verify`` answers 0000 for it, so the notice's own rescode comes first."""
    body = posted(
        signed(
            NOTICE
            | {
                "rescode": "X059",
                "resmsg": "Lost card of buyer@shop.example",
                "status": "SALE",
                "transaction_id": "",
            }
        )
    )
    provider.verify_webhook(body)
    (event,) = provider.parse_webhook(body)
    assert event.snapshot.status is PaymentStatus.FAILED
    assert event.snapshot.captured is None
    assert event.snapshot.provider_reference == ""
    assert event.snapshot.decline == Decline(
        code=DeclineCode.GENERIC, provider_code="X059", message="Lost card of ***"
    )
    assert event.must_fetch


@pytest.mark.parametrize(
    ("rescode", "errcode", "code", "provider_code"),
    [
        ("HE00", None, DeclineCode.INCORRECT_DATA, "HE00"),
        ("HE02", None, DeclineCode.INCORRECT_CVC, "HE02"),
        ("EE01", None, DeclineCode.TEMPORARY, "EE01"),
        ("DP00", None, DeclineCode.SUSPECTED_FRAUD, "DP00"),
        ("PC04", None, DeclineCode.NOT_SUPPORTED, "PC04"),
        ("8327", None, DeclineCode.GENERIC, "8327"),
        (
            "8327",
            "INSUFFICIENT_FUNDS",
            DeclineCode.INSUFFICIENT_FUNDS,
            "INSUFFICIENT_FUNDS",
        ),
        ("8327", "INVAILD_CARD_DATA", DeclineCode.INCORRECT_DATA, "INVAILD_CARD_DATA"),
        ("8327", "NEW_ERROR", DeclineCode.GENERIC, "NEW_ERROR"),
    ],
)
def test_a_decline_is_told_in_our_words(read, rescode, errcode, code, provider_code):
    decline = read(rescode=rescode, errcode=errcode).decline
    assert (decline.code, decline.provider_code) == (code, provider_code)


def test_a_failure_without_amount_or_id_is_still_a_failure(read):
    snapshot = read(rescode="9999", amount=None, transaction_id=None, currency=None)
    assert snapshot.status is PaymentStatus.FAILED
    assert snapshot.amount is None


def test_a_buyer_who_went_back_is_recognized_by_the_codes_of_the_account(build):
    provider = build(cancel_codes=["ZZ01"])
    (event,) = provider.parse_webhook(posted(signed(NOTICE | {"rescode": "ZZ01"})))
    assert event.snapshot.status is PaymentStatus.CANCELED
    assert event.snapshot.decline.code is DeclineCode.CANCELED_BY_BUYER


def test_a_thousands_comma_is_taken_out(read):
    snapshot = read(currency="KRW", amount="132,000")
    assert snapshot.amount == snapshot.captured == krw("132000")
    assert read(amount="1,234,567.80").amount == usd("1234567.80")


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": "1,5"},
        {"amount": ",132,000"},
        {"amount": "132,0000"},
        {"amount": "1 000"},
        {"amount": "NaN"},
        {"amount": "26.305"},
        {"amount": "٢٦"},
        {"currency": "USD "},
        {"currency": "usd"},
    ],
)
def test_an_amount_that_can_be_read_in_two_ways_is_not_read(read, changes):
    assert read(**changes).amount is None


def test_a_notice_in_the_older_names_is_understood(provider):
    """As a PAYER_AUTH notice of 2023-04 was seen."""
    body = posted(
        signed(
            {
                "ver": "230",
                "mid": MID,
                "txntype": "PAYER_AUTH",
                "ref": "MP-7",
                "cur": "USD",
                "amt": "26.30",
                "payerauthid": "202601020304050A1B2C3D4E",
                "eci": "05",
                "xid": "X",
                "cavv": "C",
                "rescode": "0000",
                "resmsg": "Success.",
                "email": "buyer@shop.example",
                "param1": "",
                "param2": "",
                "param3": "OPENAPI",
                "dm_decision": "",
                "dm_reject": "",
                "dm_review": "",
            }
        )
    )
    provider.verify_webhook(body)
    assert provider.identify_return(body) == "MP-7"
    (event,) = provider.parse_webhook(body)
    assert event.snapshot == PaymentSnapshot(
        status=PaymentStatus.AUTHENTICATED,
        provider_reference="202601020304050A1B2C3D4E",
        merchant_reference="MP-7",
        account=MID,
        amount=usd("26.30"),
    )


def test_every_older_name_has_its_new_one(provider):
    older = {
        "cur": "USD",
        "amt": "26.30",
        "ref": "MP-7",
        "txntype": "PAYMENT",
        "transid": "1849705C6420260102000001",
        "authcode": "123456",
        "resdt": "20260102030405",
        "paymethod": "P101",
        "cardno1": "4111",
        "cardno4": "1111",
        "cardholder": "HONG",
        "paymentURL": "https://pay.example/1",
        "mid": MID,
        "rescode": "0000",
    }
    newer = {
        "currency": "USD",
        "amount": "26.30",
        "order_id": "MP-7",
        "transaction_type": "PAYMENT",
        "transaction_id": "1849705C6420260102000001",
        "auth_code": "123456",
        "transaction_date": "20260102030405",
        "payment_method": "P101",
        "card_number1": "4111",
        "card_number4": "1111",
        "card_holder": "HONG",
        "payment_url": "https://pay.example/1",
        "mid": MID,
        "rescode": "0000",
    }
    assert provider.parse_webhook(posted(urlencode(older))) == provider.parse_webhook(
        posted(urlencode(newer))
    )


@pytest.mark.parametrize("name", ["version", "ver"])
def test_either_name_of_the_version_verifies(provider, name):
    pairs = {k: v for k, v in NOTICE.items() if k != "version"} | {name: "230"}
    provider.verify_webhook(posted(signed(pairs)))


@pytest.mark.parametrize(
    ("decision", "needs_review"),
    [
        (None, False),
        ("", False),
        ("ACCEPT", False),
        ("accept", False),
        ("REVIEW", True),
        ("REJECT", True),
        ("ERROR", True),
        ("SOMETHING", True),
    ],
)
def test_whatever_the_risk_check_did_not_accept_waits_for_a_person(
    read, decision, needs_review
):
    assert read(dm_decision=decision).needs_review is needs_review


def test_a_refused_payment_needs_no_review(read):
    assert not read(rescode="DP00", dm_decision="REJECT").needs_review


def test_a_virtual_account_waits_and_shows_where_to_pay(read):
    snapshot = read(
        status="Registered",
        payment_method="P305",
        virtual_account_number="110-123-456789",
        virtual_account_bank_name="Shinhan",
        virtual_account_depositor="EXIMBAY",
        virtual_account_due_date="2026010423",
        card_number4="",
    )
    assert snapshot.status is PaymentStatus.AWAITING_FUNDS
    assert snapshot.details == {
        "access_country": "KR",
        "auth_code": "123456",
        "installment_months": "00",
        "payment_method_name": "Virtual account (Korea)",
        "virtual_account_bank_name": "Shinhan",
        "virtual_account_depositor": "EXIMBAY",
        "virtual_account_due_date": "2026010423",
        "virtual_account_number": "110-123-456789",
    }
    assert snapshot.expires_at == datetime.fromisoformat("2026-01-04T23:00:00+09:00")


def test_an_account_that_looks_like_a_card_is_shown_in_full(read):
    # 56119012345675 passes the check of card numbers.
    assert storable("56119012345675", 40) == "***5675"
    snapshot = read(status="Registered", virtual_account_number="56119012345675")
    assert snapshot.details["virtual_account_number"] == "56119012345675"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20260104", "2026-01-04T23:59:59+09:00"),
        ("202601042330", "2026-01-04T23:30:00+09:00"),
        ("20260104233015", "2026-01-04T23:30:15+09:00"),
        ("2026013223", None),
        ("soon", None),
    ],
)
def test_the_deadline_of_a_deposit_is_read_tolerantly(read, text, moment):
    snapshot = read(status="Registered", virtual_account_due_date=text)
    wanted = datetime.fromisoformat(moment) if moment else None
    assert snapshot.expires_at == wanted


@pytest.mark.parametrize(
    ("url", "is_kept"),
    [
        ("https://pay.example/1", True),
        ("http://pay.example/1", True),
        ("javascript:alert(1)", False),
        ("//pay.example", False),
        ("http:[", False),
    ],
)
def test_only_a_page_is_kept_as_payment_url(read, url, is_kept):
    details = read(status="REGISTERED", payment_url=url).details
    assert details.get("payment_url") == (url if is_kept else None)


def test_a_new_token_is_told_with_its_card(read):
    token = read(token_id="TOKEN-1", token_creation="Y").token
    assert token == TokenSnapshot(reference="TOKEN-1", brand="VISA", last4="1111")


def test_a_used_or_refused_token_is_not_told_again(read):
    assert read(transaction_type="REBILL", token_id="TOKEN-1").token is None
    assert read(rescode="9999", token_id="TOKEN-1").token is None


@pytest.mark.parametrize(
    ("day", "next_on"),
    [("20260201", date(2026, 2, 1)), ("20260230", None), ("soon", None), ("", None)],
)
def test_a_new_plan_is_told_with_its_next_day(read, day, next_on):
    plan = read(recurring_payment="Y", recurring_id="R-1", recurring_next_date=day).plan
    assert plan == PlanSnapshot(
        reference="R-1", status=PlanStatus.ACTIVE, next_on=next_on
    )


@pytest.mark.parametrize("text", ["", "20261302030405", "2026010203", "٢" * 14])
def test_a_date_nobody_can_read_is_left_out(read, text):
    assert read(transaction_date=text).occurred_at is None


@pytest.mark.parametrize("code", ["P999", "PG01"])
def test_an_unknown_method_is_kept_as_it_is(read, code):
    snapshot = read(payment_method=code)
    assert snapshot.method == code
    assert "payment_method_name" not in snapshot.details


def test_text_that_no_database_takes_is_made_harmless(provider):
    body = posted(urlencode(NOTICE | {"auth_code": "x"}).replace("=x&", "=%FFx&"))
    (event,) = provider.parse_webhook(body)
    assert event.snapshot.details["auth_code"] == "\ufffdx"


def test_noise_in_a_notice_is_never_more_than_a_refusal(build):
    chance = random.Random(20261121)
    provider = build(secret_key=SECRET)
    names = [*NOTICE, "recurring_id", "param2", "ref", "fgkey", "dm_decision"]
    pieces = ["", "0", "-1", "%00", "%ff", "\ud800", "9" * 400, "=&", "٣", "2026"]
    for _ in range(500):
        fields = dict(NOTICE)
        for _ in range(chance.randrange(1, 6)):
            name = chance.choice(names)
            fields[name] = "".join(chance.choices(pieces, k=chance.randrange(3)))
        raw = urlencode(fields, errors="surrogatepass").encode()
        at = chance.randrange(len(raw))
        body = posted(raw[:at] + bytes(chance.choices(range(256), k=3)) + raw[at:])
        for read in (
            provider.identify_return,
            provider.parse_webhook,
            provider.verify_webhook,
        ):
            try:
                read(body)
            except WebhookError:
                pass


# return and answers -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["order_id", "ref"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_return_names_its_payment_without_a_call(provider, server, name, method):
    text = f"{name}=MP-7&rescode=0000"
    incoming = IncomingRequest(
        method=method,
        body=text.encode() if method == "POST" else b"",
        query_string=text if method == "GET" else "",
    )
    assert provider.identify_return(incoming) == "MP-7"
    assert server.calls == []


def test_a_return_without_parameters_names_nothing(provider):
    assert provider.identify_return(IncomingRequest(method="GET", body=b"")) == ""


@pytest.mark.parametrize(
    ("outcome", "status", "body"),
    [
        (WebhookOutcome.ACCEPTED, 200, "rescode=0000&resmsg=Success"),
        (WebhookOutcome.DEFERRED, 503, "rescode=9999&resmsg=Try again later"),
        (WebhookOutcome.REFUSED, 400, "rescode=9999&resmsg=Refused"),
    ],
)
def test_eximbay_gets_the_answer_it_waits_for(provider, outcome, status, body):
    answer = provider.webhook_answer(outcome)
    assert (answer.status, answer.body) == (status, body)
    assert answer.content_type.startswith("text/plain")


# The account ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mid": "1849705C65"}, "another mid"),
        ({"base_url": "https://api.eximbay.com"}, "test key"),
        ({"api_key": "live_1849705C642C217E0B2D"}, "live key"),
        (
            {"sdk_url": "https://api-test.eximbay.com/v1/javascriptSDK.js"},
            "needs jQuery",
        ),
        ({"source_addresses": ["15.165.144.33/8"]}, "'15.165.144.33/8'"),
        ({"source_addresses": ["localhost"]}, "'localhost'"),
    ],
)
def test_options_that_contradict_each_other_are_named(build, options, words):
    account = build(**{"base_url": "https://api-test.eximbay.com"} | options)
    (problem,) = account.problems()
    assert words in problem
    assert "2C217E0B2D" not in problem


def test_a_key_of_another_shape_is_left_to_eximbay(build):
    assert build(api_key="a key for a sandbox").problems() == []


def test_what_must_not_go_live_is_named(build):
    live = build(
        api_key="live_1849705C642C217E0B2D", base_url="https://api.eximbay.com"
    )
    assert live.deploy_problems() == []
    test = build(base_url="https://api-test.eximbay.com")
    assert [problem.split(" ")[0] for problem in test.deploy_problems()] == [
        "OPTIONS['base_url']",
        "OPTIONS['api_key']",
    ]
    local = build(api_key="key", base_url="http://127.0.0.1:8100")
    assert [problem.split(" ")[0] for problem in local.deploy_problems()] == [
        "OPTIONS['base_url']",
        "OPTIONS['sdk_url']",
    ]


@pytest.mark.parametrize(
    ("amount", "can_take"),
    [
        (usd("26.30"), True),
        (usd("0"), False),
        (usd("-1"), False),
        (usd("1.005"), False),
        (krw("1"), True),
        (krw("0.5"), False),
        (Money(1, "CHF"), False),
    ],
)
def test_it_takes_published_currencies_in_amounts_it_can_write(
    provider, amount, can_take
):
    assert provider.can_take(amount) is can_take


def test_it_declares_what_the_reference_has():
    assert EximbayProvider.capabilities == set(Capability) - {
        # No part of an authorization can be captured, by the reference.
        Capability.PARTIAL_CAPTURE,
        # The inquiry knows payments only: no refund by our id, no plan.
        Capability.FETCH_REFUND,
        Capability.FETCH_PLAN,
        # The page is opened anew with the same object.
        Capability.REFRESH_ACTION,
    }


def test_an_amount_that_cannot_be_written_is_the_callers_mistake(provider, server):
    with pytest.raises(InvalidAmount):
        provider.fetch_payment(query(amount=usd("1.005")))
    assert server.calls == []


# Against the sandbox, which was written from the same documents by somebody else ------


class Forms(HTMLParser):
    """The forms of a page: where each goes, and what it carries."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            self.found.append((values.get("action") or "", {}))
        elif tag == "input" and self.found and (name := values.get("name")):
            self.found[-1][1][name] = values.get("value") or ""


class Shop:
    """A shop's callback URL, a buyer's browser, and the sandbox behind them."""

    def __init__(self, sandbox: Sandbox, browser: httpx.Client) -> None:
        self.sandbox = sandbox
        self.browser = browser
        self.provider = self.account()
        self.server = LocalServer(self.take_notice)
        self.events: list[ProviderEvent] = []
        self.refused: list[IncomingRequest] = []

    def account(self, **options: Any) -> EximbayProvider:
        values = OPTIONS | {"base_url": self.sandbox.url} | options
        return EximbayProvider(
            "eximbay",
            EximbayProvider.options_class.from_mapping(values, alias="eximbay"),
        )

    def take_notice(self, call: Call) -> Reply:
        """Verify, then parse, then acknowledge in the provider's words."""
        incoming = posted(call.body)
        outcome = WebhookOutcome.ACCEPTED
        try:
            self.provider.verify_webhook(incoming)
        except SignatureMismatch:
            self.refused.append(incoming)
            outcome = WebhookOutcome.REFUSED
        else:
            self.events += self.provider.parse_webhook(incoming)
        answer = self.provider.webhook_answer(outcome)
        return Reply(
            status=answer.status,
            body=answer.body.encode(),
            headers={"Content-Type": answer.content_type},
        )

    def order(self, **changes: Any) -> PaymentRequest:
        return request(
            status_url=f"{self.server.url}/status/",
            return_url=f"{self.server.url}/return/",
            **changes,
        )

    def open_page(self, order: PaymentRequest) -> str:
        """Do what the SDK does in the browser; return the page's address."""
        action = self.provider.start_payment(order).next_action
        assert isinstance(action, ProviderScript)
        assert self.browser.get(action.src).status_code == 200
        answer = self.browser.post(
            f"{self.sandbox.url}/v1/payments", json=dict(action.payload)
        ).json()
        assert "url" in answer, answer
        fields = {
            name: value
            for name, value in answer.items()
            if name not in {"url", "display_type"}
        }
        page = self.browser.post(answer["url"], data=fields | {"param3": "OPENAPI"})
        assert page.status_code == 303
        return urljoin(answer["url"], page.headers["location"])

    def pay(
        self, order: PaymentRequest, outcome: str, **choice: str
    ) -> IncomingRequest:
        """Let the buyer choose; return what the browser brings back to the shop."""
        page = self.browser.post(
            self.open_page(order), data={"outcome": outcome, **choice}
        )
        assert page.status_code == 200, page.text
        (fields,) = (
            fields for address, fields in Forms(page.text).found if "fgkey" in fields
        )
        self.settle()
        return posted(urlencode(fields))

    def settle(self) -> None:
        """Wait until every notice has arrived."""
        self.sandbox.post("/_control/callbacks/flush")

    def ask(self, order: PaymentRequest) -> PaymentSnapshot:
        return self.provider.fetch_payment(
            PaymentQuery(
                merchant_reference=order.merchant_reference,
                provider_reference="",
                amount=order.amount,
                locale=order.locale,
            )
        )

    def choose(self, **settings: Any) -> None:
        self.sandbox.post("/_control/settings", {"eximbay": settings})


@pytest.fixture
def shop(multipay_sandbox):
    with httpx.Client(trust_env=False, timeout=20) as browser:
        shop = Shop(multipay_sandbox, browser)
        with shop.server:
            yield shop


def test_a_payment_from_the_start_to_the_proof(shop):
    order = shop.order()
    assert shop.ask(order).status is PaymentStatus.PENDING
    back = shop.pay(order, "approve")

    assert shop.provider.identify_return(back) == "MP-7"
    shop.provider.verify_webhook(back)
    (event,) = shop.events
    assert shop.provider.parse_webhook(back) == [event]
    claim = event.snapshot
    assert (claim.status, claim.amount) == (PaymentStatus.PAID, usd("26.30"))
    assert (claim.account, claim.merchant_reference) == (MID, "MP-7")

    proof = shop.ask(order)
    assert (proof.status, proof.captured, proof.refunded) == (
        PaymentStatus.PAID,
        usd("26.30"),
        usd("0"),
    )
    assert (proof.account, proof.merchant_reference) == (MID, "MP-7")
    assert proof.provider_reference == claim.provider_reference
    assert proof.details["card_last4"] == "1111"
    # Eximbay read our answer and will not send again.
    assert [
        (callback["kind"], callback["delivered"])
        for callback in shop.sandbox.get("/_control/callbacks")
    ].count(("status", True)) == 1


def test_every_object_of_ready_is_one_the_sandbox_knows(shop):
    """It refuses unknown fields and sums that do not add up."""
    address = Address(
        first_name="Jane",
        last_name="Doe",
        street="1 Main Street",
        city="Springfield",
        state="IL",
        postal_code="62701",
        country="US",
        phone="+1-217-000-0000",
    )
    order = shop.order(
        method="P000",
        is_mobile=True,
        save_token=True,
        expires_at=datetime(2026, 11, 30, 15, 45, tzinfo=UTC),
        buyer=Buyer(
            name="Hong", email="buyer@shop.example", phone="+82", address=address
        ),
        ship_to=address,
        items=[
            *(LineItem(name=name, unit_price=usd("5.00")) for name in "ABCD"),
            LineItem(name="Shipping", unit_price=usd("7.00"), is_surcharge=True),
            LineItem(name="Gift wrap", unit_price=usd("1.00"), is_surcharge=True),
            LineItem(name="Coupon", unit_price=usd("-2.00")),
        ],
        plan=PlanTerms(
            amount=usd("10.50"),
            interval_months=3,
            start_on=date(2026, 12, 1),
            notice_url="https://shop.example/plan/",
        ),
        provider_data={
            "multi_payment_method": ["P000", "P001"],
            "shop": "Shop of Hong",
            "partner_code": "P1",
            "param1": "first",
            "tax": {"receipt_status": "Y", "amount_vat": "2.39"},
            "settings": {
                "site_foreign_currency": "EUR",
                "call_from_app": "Y",
                "call_from_scheme": "shop://",
            },
            "tokenbilling": {"unique_token_id": "N"},
            "recurring": {"remind_email_interval": 7},
            "fast_payment": {"user_id": "user-1"},
        },
    )
    shop.pay(order, "approve")
    (event,) = shop.events
    assert event.snapshot.token.reference
    assert (event.snapshot.token.brand, event.snapshot.token.last4) == ("VISA", "1111")
    assert event.snapshot.plan.status is PlanStatus.ACTIVE
    assert event.snapshot.plan.next_on == date(2027, 3, 1)
    assert shop.ask(order).status is PaymentStatus.PAID


def test_a_saved_card_is_charged_on_the_page(shop):
    shop.pay(shop.order(merchant_reference="MP-1", save_token=True), "approve")
    token = shop.events[0].snapshot.token.reference
    order = shop.order(merchant_reference="MP-2", token=token)
    shop.pay(order, "approve")
    assert shop.events[1].snapshot.status is PaymentStatus.PAID
    assert shop.events[1].snapshot.token is None
    assert shop.ask(order).status is PaymentStatus.PAID


def test_two_steps_authorize_only(shop):
    order = shop.order(capture_mode=CaptureMode.MANUAL)
    shop.pay(order, "approve")
    assert shop.events[0].snapshot.status is PaymentStatus.AUTHORIZED
    assert shop.ask(order).status is PaymentStatus.AUTHORIZED
    assert shop.ask(order).captured is None


def test_an_authenticated_buyer_has_not_paid(shop):
    order = shop.order(provider_data={"transaction_type": "PAYER_AUTH"})
    shop.pay(order, "approve")
    (event,) = shop.events
    assert event.snapshot.status is PaymentStatus.AUTHENTICATED
    assert event.snapshot.provider_reference
    assert shop.ask(order).status is PaymentStatus.PENDING


@pytest.mark.parametrize(
    ("outcome", "choice", "code"),
    [
        ("decline", {"rescode": "HE02"}, DeclineCode.INCORRECT_CVC),
        ("decline", {}, None),
        ("cancel", {}, None),
    ],
)
def test_a_failure_is_genuine_and_fails(shop, outcome, choice, code):
    order = shop.order()
    back = shop.pay(order, outcome, **choice)
    shop.provider.verify_webhook(back)
    (event,) = shop.events
    assert event.snapshot.status is PaymentStatus.FAILED
    assert event.snapshot.decline.provider_code
    assert code is None or event.snapshot.decline.code is code
    assert shop.ask(order).status is PaymentStatus.PENDING


def test_the_sandboxs_cancel_is_recognized_with_its_code(shop):
    shop.provider = shop.account(cancel_codes=["XC00"])
    shop.pay(shop.order(), "cancel")
    assert shop.events[0].snapshot.status is PaymentStatus.CANCELED


def test_a_deposit_comes_later(shop):
    # A convenience store wants a phone number.
    buyer = Buyer(name="Hanako", email="buyer@shop.example", phone="0312345678")
    order = shop.order(amount=Money(500, "JPY"), method="P006", buyer=buyer)
    shop.pay(order, "register")
    assert shop.events[0].snapshot.status is PaymentStatus.AWAITING_FUNDS
    assert shop.events[0].snapshot.details["payment_url"].startswith("http")
    assert shop.ask(order).status is PaymentStatus.AWAITING_FUNDS
    shop.sandbox.post("/_control/eximbay/payments/MP-7/deposit")
    shop.settle()
    assert shop.events[1].snapshot.status is PaymentStatus.PAID
    proof = shop.ask(order)
    assert (proof.status, proof.captured) == (PaymentStatus.PAID, Money(500, "JPY"))


def test_a_risk_review_holds_what_was_charged(shop):
    order = shop.order()
    shop.pay(order, "review")
    assert shop.events[0].snapshot.needs_review
    assert shop.ask(order).status is PaymentStatus.PAID


def test_the_inquiry_decides_between_a_return_and_a_notice_that_disagree(shop):
    order = shop.order()
    back = shop.pay(order, "contradict")
    shop.provider.verify_webhook(back)
    (claim,) = shop.provider.parse_webhook(back)
    shop.sandbox.post("/_control/clock", {"advance_seconds": 60})
    shop.settle()
    assert claim.snapshot.status is PaymentStatus.PAID
    assert claim.must_fetch
    assert shop.events[-1].snapshot.status is PaymentStatus.FAILED
    assert shop.ask(order).status is PaymentStatus.PENDING


@pytest.mark.parametrize(
    "settings",
    [
        {"legacy_key_names": True},
        {"version_key": "ver"},
        {"comma_amounts": True},
        {"status_in_callback": True},
        {"status_in_callback": False},
        {"card_field_spelling": "card_number"},
        {"retrieve_amount_as_text": True},
        {"auth_error_status": 200, "request_error_status": 200},
    ],
)
def test_every_variant_of_the_documents_ends_in_the_same_proof(shop, settings):
    shop.choose(**settings)
    order = shop.order(amount=usd("1326.30"))
    shop.pay(order, "approve")
    (event,) = shop.events
    assert event.snapshot.status is PaymentStatus.PAID
    proof = shop.ask(order)
    assert event.snapshot.amount == proof.amount == proof.captured == order.amount
    assert event.snapshot.merchant_reference == proof.merchant_reference == "MP-7"
    assert event.snapshot.provider_reference == proof.provider_reference != ""
    assert event.snapshot.details["card_last4"] == proof.details["card_last4"] == "1111"


@pytest.mark.parametrize("secret_key", [None, SECRET])
def test_a_tampered_notice_is_refused(shop, secret_key):
    shop.provider = shop.account(secret_key=secret_key)
    shop.choose(tamper_fgkey=True, retry_count=1)
    shop.pay(shop.order(), "approve")
    assert shop.events == []
    assert len(shop.refused) == 1


def test_the_sandbox_believes_what_was_signed_with_the_older_secret(shop):
    """The secret is Eximbay's; the rule was written three times, here and there."""
    shop.provider = shop.account(secret_key=SECRET)
    shop.pay(shop.order(), "approve")
    assert len(shop.events) == 1
    shop.provider.verify_webhook(posted(signed(NOTICE)))


@pytest.mark.parametrize("status", [200, 401])
def test_a_wrong_key_is_ours_to_mend(shop, status):
    shop.choose(auth_error_status=status)
    shop.provider = shop.account(api_key="test_1849705C640000000000")
    with pytest.raises(CredentialsRejected):
        shop.provider.start_payment(shop.order())
    with pytest.raises(CredentialsRejected):
        shop.ask(shop.order())
    with pytest.raises(CredentialsRejected):
        shop.provider.verify_webhook(posted(signed(NOTICE)))


def test_a_used_order_id_is_refused(shop):
    order = shop.order()
    shop.pay(order, "decline")
    with pytest.raises(RequestRejected):
        shop.provider.start_payment(order)


@pytest.mark.parametrize(
    ("fault", "times"),
    # Twice: the client itself repeats a read once when the line broke.
    [("drop_before", 2), ("drop_after", 2), ("truncate", 2), ("status", 1)],
)
def test_a_start_whose_answer_was_lost_may_be_repeated(shop, fault, times):
    shop.sandbox.post(
        "/_control/faults",
        {"provider": "eximbay", "operation": "ready", "fault": fault, "times": times},
    )
    order = shop.order()
    with pytest.raises(ProviderUnavailable):
        shop.provider.start_payment(order)
    first = shop.provider.start_payment(order)
    assert shop.provider.start_payment(order) == first
    shop.pay(order, "approve")
    assert shop.ask(order).status is PaymentStatus.PAID


def test_an_amount_of_somebody_else_is_passed_on_for_comparison(shop):
    """The core compares; the provider must not hide the difference."""
    order = shop.order()
    shop.pay(order, "approve")
    shop.sandbox.post(
        "/_control/faults",
        {
            "provider": "eximbay",
            "operation": "retrieve",
            "fault": "wrong_amount",
            "times": 1,
        },
    )
    assert shop.ask(order).amount not in {None, order.amount}


def lose_answer(shop: Shop, operation: str, times: int = 1) -> None:
    """Let the sandbox do its work and say nothing."""
    shop.sandbox.post(
        "/_control/faults",
        {
            "provider": "eximbay",
            "operation": operation,
            "fault": "drop_after",
            "times": times,
        },
    )


def advance(shop: Shop, days: int) -> None:
    """Let the sandbox's days pass and its notices arrive."""
    shop.sandbox.post("/_control/clock", {"advance_seconds": 86400 * days})
    shop.settle()


def known(shop: Shop, order: PaymentRequest) -> PaymentQuery:
    """What a shop knows of a payment after its first inquiry."""
    reference = shop.ask(order).provider_reference
    return PaymentQuery(
        merchant_reference=order.merchant_reference,
        provider_reference=reference,
        transaction_reference=reference,
        amount=order.amount,
        locale=order.locale,
    )


@pytest.mark.parametrize("is_lost", [False, True])
def test_an_authorization_is_captured_once(shop, is_lost):
    order = shop.order(capture_mode=CaptureMode.MANUAL)
    shop.pay(order, "approve")
    wish = CaptureRequest(key="k", query=known(shop, order), amount=order.amount)
    if is_lost:
        lose_answer(shop, "capture")
        with pytest.raises(OutcomeUnknown):
            shop.provider.capture_payment(wish)
    done = shop.provider.capture_payment(wish)
    assert (done.status, done.captured) == (PaymentStatus.PAID, order.amount)
    assert done.provider_reference == wish.query.provider_reference
    proof = shop.ask(order)
    assert (proof.status, proof.captured) == (PaymentStatus.PAID, order.amount)


@pytest.mark.parametrize("is_lost", [False, True])
def test_an_authorization_is_released(shop, is_lost):
    order = shop.order(capture_mode=CaptureMode.MANUAL)
    shop.pay(order, "approve")
    wish = VoidRequest(key="a" * 32, query=known(shop, order))
    if is_lost:
        lose_answer(shop, "cancel")
        with pytest.raises(OutcomeUnknown):
            shop.provider.void_payment(wish)
    done = shop.provider.void_payment(wish)
    assert done.status is PaymentStatus.CANCELED
    assert done.provider_reference == wish.query.provider_reference
    assert shop.ask(order).status is PaymentStatus.CANCELED


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("is_lost", [False, True])
def test_an_authenticated_buyer_is_charged_once(shop, capture, is_lost):
    order = shop.order(provider_data={"transaction_type": "PAYER_AUTH"})
    shop.pay(order, "approve")
    wish = ConfirmRequest(
        key="k",
        query=PaymentQuery(
            merchant_reference=order.merchant_reference,
            provider_reference="",
            amount=order.amount,
            locale=order.locale,
        ),
        authentication_reference=shop.events[0].snapshot.provider_reference,
        capture=capture,
    )
    if is_lost:
        lose_answer(shop, "confirm")
        with pytest.raises(OutcomeUnknown):
            shop.provider.confirm_payment(wish)
    done = shop.provider.confirm_payment(wish)
    expected = PaymentStatus.PAID if capture else PaymentStatus.AUTHORIZED
    assert (done.status, done.amount) == (expected, order.amount)
    proof = shop.ask(order)
    assert (proof.status, proof.provider_reference) == (
        expected,
        done.provider_reference,
    )


def test_a_payment_goes_back_in_three_parts_and_no_fourth(shop):
    order = shop.order()
    shop.pay(order, "approve")
    query = known(shop, order)

    def give_back(number: int, amount: str, left: str) -> RefundSnapshot:
        return shop.provider.refund_payment(
            RefundRequest(
                key=f"k-{number}",
                query=query,
                merchant_reference=f"MP-R-{number}",
                amount=usd(amount),
                refundable=usd(left),
                reason="damaged",
            )
        )

    steps = [("6.30", "26.30", "20"), ("8", "20", "12"), ("12", "12", "0")]
    references = set()
    for number, (amount, before, after) in enumerate(steps):
        done = give_back(number, amount, before)
        assert done.status is RefundStatus.SUCCEEDED
        assert (done.amount, done.refundable) == (usd(amount), usd(after))
        assert done.merchant_reference == f"MP-R-{number}"
        references.add(done.provider_reference)
        assert shop.ask(order).refunded == order.amount - usd(after)
    assert len(references) == 3
    with pytest.raises(OutcomeUnknown):
        give_back(3, "12", "12")


def test_a_refund_whose_answer_was_lost_is_never_called_a_failure(shop):
    order = shop.order()
    shop.pay(order, "approve")
    wish = RefundRequest(
        key="k",
        query=known(shop, order),
        merchant_reference="MP-R-1",
        amount=usd("6.30"),
        refundable=order.amount,
    )
    lose_answer(shop, "cancel")
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            shop.provider.refund_payment(wish)
    assert shop.ask(order).refunded == usd("6.30")


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_saved_card_is_charged_without_its_buyer_once(shop, is_lost):
    shop.pay(shop.order(merchant_reference="MP-1", save_token=True), "approve")
    token = shop.events[0].snapshot.token.reference
    wish = TokenChargeRequest(
        key="k",
        merchant_reference="MP-2",
        token=token,
        amount=usd("26.30"),
        description="Order 1002",
        buyer=Buyer(name="Hong Gil Dong", email="buyer@shop.example"),
        locale="en",
    )
    shop.provider = shop.account(shop_url="https://shop.example/")
    if is_lost:
        lose_answer(shop, "rebill")
        with pytest.raises(OutcomeUnknown):
            shop.provider.charge_token(wish)
    done = shop.provider.charge_token(wish)
    assert (done.status, done.captured) == (PaymentStatus.PAID, usd("26.30"))
    assert done.merchant_reference == "MP-2"
    proof = shop.ask(shop.order(merchant_reference="MP-2"))
    assert proof.provider_reference == done.provider_reference
    assert proof.captured == usd("26.30")


def test_a_token_is_inspected_deleted_and_gone(shop):
    shop.pay(shop.order(save_token=True), "approve")
    token = shop.events[0].snapshot.token.reference
    snapshot = shop.provider.inspect_token(token)
    assert snapshot.reference == token
    assert snapshot.fingerprint
    shop.provider.delete_token(token)
    for perform in (shop.provider.inspect_token, shop.provider.delete_token):
        with pytest.raises(RequestRejected):
            perform(token)


def test_a_sale_is_released_into_settlement(shop):
    order = shop.order()
    shop.pay(order, "approve")
    done = shop.provider.settle_payment(
        SettleRequest(key="k", query=known(shop, order))
    )
    assert (done.status, done.captured) == (PaymentStatus.PAID, order.amount)
    assert done.details["settled_date"]


def test_a_plan_is_registered_charged_changed_and_ended(shop):
    order = shop.order(
        plan=PlanTerms(
            amount=usd("10.50"),
            interval_months=1,
            start_on=datetime.now(KST).date(),
            notice_url=f"{shop.server.url}/plan/",
        )
    )
    shop.pay(order, "approve")
    (first,) = shop.events
    assert not first.is_renewal
    plan = first.snapshot.plan.reference
    changed = shop.provider.change_plan(
        PlanChangeRequest(key="k", provider_reference=plan, amount=usd("12.00"))
    )
    assert changed == PlanSnapshot(reference=plan, status=PlanStatus.ACTIVE)
    # A month and two weeks: time for one charge, and not for a second one.
    advance(shop, days=45)
    renewal = shop.events[1]
    assert renewal.is_renewal
    assert renewal.snapshot.status is PaymentStatus.PAID
    assert renewal.snapshot.amount == usd("12.00")
    assert renewal.snapshot.plan.reference == plan
    proof = shop.provider.fetch_payment(
        PaymentQuery(
            merchant_reference=renewal.snapshot.merchant_reference,
            provider_reference="",
            amount=usd("12.00"),
        )
    )
    assert (proof.status, proof.provider_reference) == (
        PaymentStatus.PAID,
        renewal.snapshot.provider_reference,
    )
    ended = shop.provider.cancel_plan(
        PlanCancelRequest(key="k", provider_reference=plan)
    )
    assert ended == PlanSnapshot(reference=plan, status=PlanStatus.CANCELED)
    advance(shop, days=90)
    assert len(shop.events) == 2


@pytest.mark.parametrize("setting", ["cancel_answer", "capture_answer"])
@pytest.mark.parametrize("variant", ["example", "text"])
def test_either_spelling_of_an_answer_is_understood(shop, setting, variant):
    shop.choose(**{setting: variant})
    order = shop.order(capture_mode=CaptureMode.MANUAL)
    shop.pay(order, "approve")
    query = known(shop, order)
    captured = shop.provider.capture_payment(
        CaptureRequest(key="k", query=query, amount=order.amount)
    )
    assert captured.captured == order.amount
    assert captured.details["partially_cancelable"] == "Y"
    refunded = shop.provider.refund_payment(
        RefundRequest(
            key="k",
            query=query,
            merchant_reference="MP-R-1",
            amount=usd("1"),
            refundable=order.amount,
        )
    )
    assert refunded.refundable == usd("25.30")
    assert "foregin_rate" not in refunded.details


def test_a_refund_that_eximbay_refuses_has_failed(shop):
    order = shop.order()
    shop.pay(order, "approve")
    wish = RefundRequest(
        key="k",
        query=known(shop, order),
        merchant_reference="MP-R-1",
        amount=order.amount,
        refundable=order.amount,
    )
    shop.choose(refund_outcome="fail")
    failed = shop.provider.refund_payment(wish)
    assert failed.status is RefundStatus.FAILED
    assert failed.decline.provider_code
    assert shop.ask(order).refunded == usd("0")


def test_a_charge_that_the_issuer_refuses_has_failed(shop):
    order = shop.order(provider_data={"transaction_type": "PAYER_AUTH"})
    shop.pay(order, "approve")
    shop.choose(charge_rescode="8327")
    failed = shop.provider.confirm_payment(
        ConfirmRequest(
            key="k",
            query=replace(asked(), merchant_reference="MP-7", amount=order.amount),
            authentication_reference=shop.events[0].snapshot.provider_reference,
        )
    )
    assert (failed.status, failed.merchant_reference) == (PaymentStatus.FAILED, "MP-7")
    assert failed.decline.provider_code
    assert shop.ask(order).status is PaymentStatus.PENDING


def test_the_bare_answer_to_confirm_is_completed_by_the_inquiry(shop):
    """The example of the reference has neither payment nor transaction."""
    shop.choose(confirm_answer="example")
    order = shop.order(provider_data={"transaction_type": "PAYER_AUTH"})
    shop.pay(order, "approve")
    with pytest.raises(OutcomeUnknown, match="no transaction"):
        shop.provider.confirm_payment(
            ConfirmRequest(
                key="k",
                query=replace(asked(), merchant_reference="MP-7", amount=order.amount),
                authentication_reference=shop.events[0].snapshot.provider_reference,
            )
        )
    assert shop.ask(order).status is PaymentStatus.PAID


# Payloads ---------------------------------------------------------------------------

# The answer printed in the reference.
READY_ANSWER = {
    "rescode": "0000",
    "resmsg": "Success",
    "fgkey": "0E9BE04BA239A519E68171F26B68604ADA0A85C8350DBF5C8C0FCCF98461DB09",
}

# The answer printed in the reference, "cardno" included.
RETRIEVE_ANSWER: dict[str, Any] = {
    "rescode": "0000",
    "resmsg": "Success.",
    "mid": "1849705C64",
    "payment": {
        "order_id": "20220902101716",
        "currency": "USD",
        "amount": "1",
        "transaction_id": "1849705C6420220902000010",
        "status": "AUTH",
        "auth_code": "485760",
        "transaction_date": "20220902101749",
        "balance": "1.00",
    },
    "card_info": {"cardno1": "4111", "cardno4": "1111"},
}

# Fields and blanks as in a real test notice of 2024-06, values of our own; the fgkey
# was made with the rule that the real one confirmed.
VECTOR = (
    "card_number4=1111&dm_reject=&card_number1=4111&mid=1849705C64&foreign_currency="
    "&card_holder=HONG+GIL+DONG&dm_review=&base_amount=&currency=USD"
    "&pay_to=EXIMBAY.COM&email=buyer%2B1%40example.com&payment_method=P101"
    "&transaction_id=1849705C6420260102000001&transaction_date=20260102030405"
    "&base_currency=&amount=26.30&dcc_rate=&installment_months=00&dm_decision="
    "&transaction_type=PAYMENT&param3=OPENAPI&resmsg=Success.&foreign_rate="
    "&version=230&param1=&rescode=0000&param2=&auth_code=123456&base_rate="
    "&foreign_amount=&order_id=ORDER-1&access_country=KR"
)
VECTOR_FGKEY = "72B5F086E3545F3A9F8AA6969363F7526CE5F08C14449D4BFDAB22D519294664"
NOTICE: dict[str, str] = dict(parse_qsl(VECTOR, keep_blank_values=True))


# Both sides together ---------------------------------------------------------------


class TestSandbox(SandboxContract):
    provider_class = EximbayProvider
    # The published test merchant, and one that the sandbox made up.
    options = {
        "mid": "1849705C64",
        "api_key": "test_1849705C642C217E0B2D",
        "secret_key": "289F40E6640124B2628640168C3C5464",
        "shop_url": "https://shop.example/",
    }
    foreign_options = {
        "mid": "SANDBOXKR1",
        "api_key": "test_SANDBOXKR1000000DE01",
        "secret_key": "5A4DB0C05A4DB0C05A4DB0C05A4DB0C0",
    }
    wrong_options = {"api_key": "test_1849705C640000000000"}
    operations = {
        "start_payment": "ready",
        "fetch_payment": "retrieve",
        "confirm_payment": "confirm",
        "capture_payment": "capture",
        "void_payment": "cancel",
        "refund_payment": "cancel",
        "charge_token": "rebill",
    }
    settings = {"callbacks_enabled": False}
    # The inquiry knows nothing of an order that failed, and nothing expires.
    outcomes = {
        "approve": (PaymentStatus.PAID, PaymentStatus.PAID),
        "decline": (PaymentStatus.PENDING, PaymentStatus.FAILED),
        "cancel": (PaymentStatus.PENDING, PaymentStatus.FAILED),
    }
    forgery = {"tamper_fgkey": True}
    start_is_read = True
    declined_charge = {"charge_rescode": "0005"}

    def authentication_request(self):
        return self.request(provider_data={"transaction_type": "PAYER_AUTH"})


class TestSandboxWithoutTheOlderSecret(TestSandbox):
    """The same, where only Eximbay itself can check a message."""

    options = {
        "mid": "1849705C64",
        "api_key": "test_1849705C642C217E0B2D",
        "shop_url": "https://shop.example/",
    }
