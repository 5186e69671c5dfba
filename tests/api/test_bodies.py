"""What is refused: everything that two readers could understand differently."""

from __future__ import annotations

import io
import json

import pytest

from django_multipay.api.bodies import MAX_BYTES, MAX_DEPTH
from django_multipay.models import Payment, Refund
from tests.api.conftest import USD, paid_payment

pytestmark = pytest.mark.django_db


def nested(depth: int) -> str:
    """A body of objects in each other, ``depth`` deep with itself."""
    return '{"metadata":' + '{"a":' * (depth - 2) + "{}" + "}" * (depth - 1)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "null",
        '"text"',
        "1",
        "{} {}",
        "{} // remark",
        "{'a': 1}",
        '{"order_id": "1", "order_id": "2"}',
        '{"metadata": {"a": 1, "a": 1}}',
        '{"amount": {"amount": 26.30, "currency": "USD"}}',
        '{"amount": {"amount_minor": 2630.0, "currency": "USD"}}',
        '{"metadata": {"a": NaN}}',
        '{"metadata": {"a": Infinity}}',
        '{"metadata": {"a": -Infinity}}',
        '{"metadata": {"a": 1e2}}',
        '{"metadata": {"a": 1e400}}',
        '{"metadata": {"a": -0}}',
        '{"metadata": {"a": ' + "9" * 5000 + "}}",
        '{"metadata": {"a": "\\ud800"}}',
        '{"metadata": {"\\u0000": 1}}',
        b"\xef\xbb\xbf{}",
        '{"order_id": "1"}'.encode("utf-16"),
        b'{"order_id": "\xff"}',
        "[" * 100_000,
        '{"a":' * 9_000,
        nested(MAX_DEPTH + 1),
    ],
)
def test_a_body_that_is_not_plain_json_is_malformed(staff, body):
    answer = staff.post("/payments/", body)
    assert answer.status_code in {400, 413}
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] in {"malformed", "too_large"}
    assert not Payment.objects.exists()


class Broken(io.BytesIO):
    """A connection that breaks while the body is on its way."""

    def read(self, size: int | None = -1) -> bytes:
        raise ConnectionResetError


def test_a_body_that_breaks_off_is_malformed(staff):
    answer = staff.client.post(
        "/payments/api/payments/",
        "{}",
        content_type="application/json",
        headers={"Idempotency-Key": "1"},
        **{"wsgi.input": Broken()},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_body_may_be_as_deep_and_as_large_as_it_is_said(staff):
    assert staff.post("/payments/", nested(MAX_DEPTH)).json()["code"] != "malformed"
    large = json.dumps({"description": "x" * (MAX_BYTES - 19)})
    assert staff.post("/payments/", large).json()["code"] == "invalid"
    larger = staff.post("/payments/", large + " ")
    assert (larger.status_code, larger.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("amount", "field"),
    [
        ({"amount": text, "currency": "USD"}, "amount.amount")
        for text in (
            "NaN",
            "sNaN",
            "Infinity",
            "-0",
            "-1",
            "+5",
            "1e2",
            "1E+5",
            "1e1000000",
            "1_000",
            " 7 ",
            "7\n",
            "\u096d",
            "\u0663.\u0665\u0660",
            "\uff17",
            "0x10",
            "1,000",
            ".5",
            "5.",
            "",
            "1.005",
            "9" * 5000,
            "9999999999999999",
            None,
            True,
            26,
            ["26.30"],
            {"amount": "26.30"},
        )
    ]
    + [
        ({"amount": "26.30", "currency": code}, "amount.currency")
        for code in (
            "usd",
            "US",
            "\uff35\uff33\uff24",
            "USD ",
            "XXXX",
            "",
            None,
            840,
            "USDUSDUSD",
        )
    ]
    + [
        ({"amount_minor": minor, "currency": "USD"}, "amount.amount_minor")
        for minor in (-1, "2630", True, 10**16, None)
    ]
    + [
        (
            {"amount": "26.30", "amount_minor": 2631, "currency": "USD"},
            "amount.amount_minor",
        ),
        ({"amount": "1.5", "currency": "JPY"}, "amount.amount"),
        (
            {"amount": "1.0", "currency": "JPY", "amount_minor": 10},
            "amount.amount_minor",
        ),
        ({"amount": "0", "currency": "USD"}, "amount"),
        ({"currency": "USD"}, "amount.amount"),
        ({"amount": "26.30"}, "amount.currency"),
        ({**USD, "exponent": 2}, "amount.exponent"),
        ("26.30 USD", "amount"),
        (2630, "amount"),
        (None, "amount"),
    ],
)
def test_an_amount_is_plain_or_refused(staff, amount, field):
    answer = staff.post("/payments/", {"order_id": "1", "amount": amount})
    assert answer.status_code == 400, answer.content
    assert answer.json()["field"] == field
    assert not Payment.objects.exists()


@pytest.mark.parametrize(
    ("amount", "minor"),
    [
        ({"amount": "26.3", "currency": "USD"}, 2630),
        ({"amount": "26.30", "currency": "USD", "amount_minor": 2630}, 2630),
        ({"amount_minor": 2630, "currency": "USD"}, 2630),
        ({"amount": "1500", "currency": "JPY"}, 1500),
        ({"amount": "1.0", "currency": "JPY"}, 1),
        ({"amount": "1.234", "currency": "KWD"}, 1234),
        ({"amount": "0.000001", "currency": "USDT"}, 1),
    ],
)
def test_an_amount_is_read_exactly_and_said_in_all_ways(staff, amount, minor):
    answer = staff.post("/payments/", {"order_id": "1", "amount": amount})
    assert answer.status_code == 201, answer.content
    assert answer.json()["amount"]["amount_minor"] == minor
    said = answer.json()["amount"]
    again = staff.post("/payments/", {"order_id": "1", "amount": said})
    assert again.json()["amount"] == said


READ_ONLY = ("status", "captured", "uuid", "refunded", "merchant_reference", "owner")


@pytest.mark.parametrize("name", READ_ONLY)
def test_fields_that_nobody_may_set_are_refused(staff, name):
    answer = staff.post("/payments/", {"order_id": "1", "amount": USD, name: "paid"})
    assert answer.status_code == 400
    assert answer.json()["code"] in {"unknown_field", "read_only_field"}
    assert answer.json()["field"] == name
    assert not Payment.objects.exists()


@pytest.mark.parametrize(
    "path", ["capture", "void", "confirm", "settle", "start", "cancel", "sync"]
)
def test_no_endpoint_takes_a_field_it_does_not_know(staff, shop, path):
    payment = paid_payment()
    before = list(shop.calls)
    answer = staff.post(f"/payments/{payment.uuid}/{path}/", {"status": "paid"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field")
    assert shop.calls == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"order_id": 1001}, "order_id"),
        ({"order_id": ["1"]}, "order_id"),
        ({"order_id": "x" * 65}, "order_id"),
        ({"order_id": " "}, "order_id"),
        ({"provider": "nobody"}, "provider"),
        ({"provider": {}}, "provider"),
        ({"save_token": "yes"}, "save_token"),
        ({"save_token": 1}, "save_token"),
        ({"capture_mode": "later"}, "capture_mode"),
        ({"capture_mode": []}, "capture_mode"),
        ({"items": [{"name": "Cup", "unit_minor": "1"}]}, "items.0.unit_minor"),
        ({"items": [{"name": "Cup", "unit_minor": 1, "price": 2}]}, "items.0.price"),
        ({"items": [{"name": "Cup", "unit_minor": 1}, {}]}, "items.1.name"),
        ({"items": {}}, "items"),
        ({"metadata": []}, "metadata"),
        ({"buyer": {"name": "Ada", "is_staff": True}}, "buyer.is_staff"),
        ({"buyer": "Ada"}, "buyer"),
        ({"token": "1"}, "token"),
        ({"token": "6f9c3c1e-0a52-4a7b-9c43-0d4a3f1f6a10"}, "token"),
        ({"token": 1}, "token"),
        ({"expires_at": "2100-01-31"}, "expires_at"),
        ({"expires_at": "2100-01-31T12:00:00"}, "expires_at"),
        ({"expires_at": "2100-02-31T12:00:00Z"}, "expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": "\uff12\uff1100-01-31T12:00:00Z"}, "expires_at"),
        ({"expires_at": 4102444800}, "expires_at"),
    ],
)
def test_a_value_that_only_looks_right_is_refused_by_name(staff, body, field):
    answer = staff.post("/payments/", {"order_id": "1", "amount": USD, **body})
    assert answer.status_code == 400, answer.content
    problem = answer.json()
    assert problem["field"] == field
    assert problem["title"]
    assert problem["remedy"]
    assert problem["status"] == 400
    assert problem["type"] == f"urn:multipay:problem:{problem['code']}"
    assert field in [complaint["field"] for complaint in problem["errors"]] or (
        not problem["errors"]
    )
    assert not Payment.objects.exists()


@pytest.mark.parametrize(
    "query",
    [
        "owner=1",
        "payment__order_id=1",
        "status__in=paid",
        "status=nothing",
        "status=paid&status=created",
        "ordering=id",
        "ordering=buyer_email",
        "page_size=0",
        "page_size=101",
        "page_size=-1",
        "page_size=5_0",
        "page_size=\u0665",
        "cursor=MTIz",
        "cursor=%00",
        "cursor=é",
        "created_after=yesterday",
        "created_after=2026-01-01",
        "needs_review=1",
        "order_id=%00",
        f"order_id={'x' * 65}",
        "limit=5",
        "format=xml",
    ],
)
def test_a_list_takes_only_what_it_knows(staff, query):
    answer = staff.client.get(f"/payments/api/payments/?{query}")
    assert answer.status_code == 400, answer.content
    assert answer.json()["field"] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", "order_id=1"),
        ("multipart/form-data; boundary=x", "--x--"),
        ("text/plain", "{}"),
        ("", "{}"),
        ("application/jsonp", "{}"),
    ],
)
def test_only_json_is_read(staff, kind, body):
    answer = staff.client.generic(
        "POST",
        "/payments/api/payments/",
        body,
        content_type=kind,
        headers={"Idempotency-Key": "1"},
    )
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


def test_an_answer_is_json_whatever_is_accepted_and_stays_out_of_caches(staff):
    for accepted in ("text/html", "application/xml", "*/*", "image/png;q=junk"):
        answer = staff.client.get(
            "/payments/api/payments/", headers={"Accept": accepted}
        )
        assert answer["Content-Type"] == "application/json"
        assert answer["Cache-Control"] == "no-store"


def test_a_refund_of_nonsense_moves_nothing(staff, shop):
    payment = paid_payment()
    for body in (
        {
            "payment": str(payment.uuid),
            "amount": {"amount": "26.31", "currency": "USD"},
        },
        {"payment": str(payment.uuid), "amount": {"amount": "1", "currency": "EUR"}},
        {"payment": str(payment.uuid), "amount": {"amount": "0", "currency": "USD"}},
        {"payment": str(payment.uuid).upper()},
        {"payment": f"{{{payment.uuid}}}"},
        {"payment": payment.pk},
        {"payment": "6f9c3c1e-0a52-4a7b-9c43-0d4a3f1f6a10"},
        {"payment": str(payment.uuid), "account": {"holder": "A", "number": "1"}},
    ):
        assert staff.post("/refunds/", body).status_code == 400, body
    assert not Refund.objects.exists()
    assert not shop.told("refund")
