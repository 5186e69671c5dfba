"""The export is a file that spreadsheets and programs can open without harm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from django_multipay.admin import export
from django_multipay.admin.export import harmless, written
from django_multipay.enums import DeclineCode, PaymentStatus, ReviewReason
from django_multipay.models import Payment

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
BUYER = {"customer", "buyer_name", "buyer_email", "buyer_phone", "buyer_country"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show the same moment to rows and pages."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def payment(**values: Any) -> Payment:
    """A payment of today, unless ``created_at`` says another moment."""
    created_at = values.pop("created_at", NOW)
    made = Payment.objects.create(
        **{"order_id": "1001", "amount_minor": 2630, "currency": "USD", **values}
    )
    Payment.objects.filter(pk=made.pk).update(created_at=created_at)
    made.refresh_from_db()
    return made


def download(client: Client, **query: str) -> bytes:
    """The whole file."""
    answer: Any = client.get(reverse("admin:multipay_payment_overview_export"), query)
    assert answer.status_code == 200
    return b"".join(answer.streaming_content)


def rows(client: Client, **query: str) -> list[dict[str, str]]:
    """The lines of the file by their columns."""
    text = download(client, **query).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def staff(*permissions: str) -> User:
    """A person with these permissions and no others."""
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


# Cells --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+49 30 123",
        "-2+3",
        "@SUM(A1)",
        "=cmd|' /C calc'!A0",
        "  =1+1",
        "\N{NO-BREAK SPACE}=1+1",
        "\N{IDEOGRAPHIC SPACE}=1+1",
        "\N{ZERO WIDTH SPACE}=1+1",
        "\N{ZERO WIDTH NO-BREAK SPACE}=1+1",
        "\x00=1+1",
        "\N{FULLWIDTH EQUALS SIGN}1+1",
        "\N{FULLWIDTH PLUS SIGN}1",
        "\N{FULLWIDTH HYPHEN-MINUS}1",
        "\N{FULLWIDTH COMMERCIAL AT}A1",
        "\N{SMALL EQUALS SIGN}1",
        "\N{MINUS SIGN}1",
        "\tquiet",
        "\rquiet",
        "\nquiet",
    ],
)
def test_what_would_be_calculated_is_shown(text):
    assert harmless(text).startswith("'")


def test_a_formula_after_the_separator_of_other_countries_is_shown_too():
    assert harmless("a;=1+1; @b;c") == "a;'=1+1;' @b;c"
    assert harmless('a;"=1+1;') == "a;'\"=1+1;"


@pytest.mark.parametrize(
    "text", ["", "1001", "R-1001", "a=b", "Kim & Söhne", "김철수", "a@example.com"]
)
def test_an_ordinary_text_stays_as_it_is(text):
    assert harmless(text) == text


def test_a_cell_is_one_line_without_controls():
    assert harmless("a\r\nb\rc\nd\te\x00f\x1bg\N{LINE SEPARATOR}h") == "a b c d efg h"


@given(st.text())
def test_no_text_is_calculated_or_breaks_the_line(text):
    shown = harmless(text)
    for part in shown.split(";"):
        assert part.lstrip()[:1] not in {*"=+-@"}
    assert shown.splitlines() in ([shown], [])


def test_numbers_of_our_own_stay_numbers():
    assert written(Decimal("-12.50")) == "-12.50"
    assert written(Decimal("1E+3")) == "1000"


# Files --------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
def test_a_payment_is_one_row(admin_client):
    made = payment(
        provider="eximbay",
        provider_reference="20260331X",
        transaction_reference="T-9",
        method="card",
        status=PaymentStatus.PARTIALLY_REFUNDED,
        captured_minor=2630,
        refunded_minor=1005,
        paid_at=NOW + timedelta(seconds=90),
        decline_code=DeclineCode.EXPIRED_CARD,
        review_reason=ReviewReason.OVERPAID,
        buyer_name="Kim",
        buyer_country="KR",
    )
    assert rows(admin_client) == [
        {
            "order": "1001",
            "payment": str(made.uuid),
            "merchant_reference": made.merchant_reference,
            "provider_reference": "20260331X",
            "transaction_reference": "T-9",
            "provider": "eximbay",
            "method": "card",
            "status": "partially_refunded",
            "currency": "USD",
            "amount": "26.30",
            "captured": "26.30",
            "refunded": "10.05",
            "created_at": "2026-03-31 12:00:00+00:00",
            "paid_at": "2026-03-31 12:01:30+00:00",
            "decline": "expired_card",
            "review": "overpaid",
            "customer": "",
            "buyer_name": "Kim",
            "buyer_email": "",
            "buyer_phone": "",
            "buyer_country": "KR",
        }
    ]


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
def test_amounts_have_the_decimals_of_their_currency(admin_client):
    for currency in ("USD", "KRW", "KWD", "USDT"):
        payment(currency=currency, amount_minor=1500)
    assert [(row["currency"], row["amount"]) for row in rows(admin_client)] == [
        ("USD", "15.00"),
        ("KRW", "1500"),
        ("KWD", "1.500"),
        ("USDT", "0.001500"),
    ]
    assert [row["currency"] for row in rows(admin_client, currency="KRW")] == ["KRW"]


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
def test_the_file_is_as_rfc_4180_says_with_a_byte_order_mark(admin_client):
    payment(order_id='a,"b"', buyer_name="Söhne\r\n=1")
    content = download(admin_client)
    assert content.startswith(b"\xef\xbb\xbforder,payment,")
    assert content.count(b"\r\n") == content.count(b"\n") == 2
    assert b'\r\n"a,""b""",' in content
    assert "Söhne =1" in content.decode()


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
def test_a_hostile_buyer_harms_nobody(admin_client):
    payment(
        order_id="=1+1", buyer_name='=HYPERLINK("http://evil")', buyer_phone="+82 1"
    )
    (row,) = rows(admin_client)
    assert row["order"] == "'=1+1"
    assert row["buyer_name"] == '\'=HYPERLINK("http://evil")'
    assert row["buyer_phone"] == "'+82 1"


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
def test_the_rows_are_those_of_the_period_in_its_time_zone(admin_client, settings):
    settings.TIME_ZONE = "Asia/Seoul"
    for order, moment in (
        ("before", datetime(2026, 3, 9, 14, 59, 59, tzinfo=UTC)),
        ("first", datetime(2026, 3, 9, 15, tzinfo=UTC)),
        ("last", datetime(2026, 3, 10, 14, 59, 59, tzinfo=UTC)),
        ("after", datetime(2026, 3, 10, 15, tzinfo=UTC)),
    ):
        payment(order_id=order, created_at=moment)
    found = rows(admin_client, start="2026-03-10", end="2026-03-10")
    assert [row["order"] for row in found] == ["first", "last"]
    assert found[0]["created_at"] == "2026-03-10 00:00:00+09:00"


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
def test_the_file_is_named_after_what_is_in_it(admin_client):
    answer = admin_client.get(
        reverse("admin:multipay_payment_overview_export"),
        {"period": "7d", "currency": "USD"},
    )
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"] == (
        'attachment; filename="payments-2026-03-25-2026-03-31-USD.csv"'
    )
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "query",
    [
        {"start": "2026-02-30", "end": "2026-03-01"},
        {"period": "forever"},
        {"currency": 'USD"\r\nX-Evil: 1'},
    ],
)
def test_what_is_not_valid_is_explained_on_the_overview(admin_client, query):
    answer = admin_client.get(
        reverse("admin:multipay_payment_overview_export"), query, follow=True
    )
    assert answer.redirect_chain[0][0].startswith(
        reverse("admin:multipay_payment_overview") + "?"
    )
    assert answer.context_data["complaints"]


# Size ---------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
def test_a_long_file_is_sent_piece_by_piece(admin_client, monkeypatch):
    monkeypatch.setattr(export, "PIECE", 1000)
    monkeypatch.setattr(export, "CHUNK", 10)
    for number in range(30):
        payment(order_id=str(number))
    with CaptureQueriesContext(connection) as captured:
        answer = admin_client.get(reverse("admin:multipay_payment_overview_export"))
        pieces: Iterator[bytes] = iter(answer.streaming_content)
        first = next(pieces)
        rest = list(pieces)
    assert len(rest) > 3
    assert max(map(len, [first, *rest])) < 2000
    text = b"".join([first, *rest]).decode("utf-8-sig")
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == [
        str(number) for number in range(30)
    ]
    # No more than a few rows at a time, whatever the driver does with a long result.
    asked = [query for query in captured if "merchant_reference" in query["sql"]]
    assert len(asked) == 4


# Who may have it ----------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
def test_buyers_are_named_only_to_those_who_may_see_them(client):
    payment(buyer_name="Kim Buyer", buyer_email="kim@example.com", customer_id="C-7")
    user = staff("view_payment")
    client.force_login(user)
    (row,) = rows(client)
    assert not BUYER & {*row}
    assert not {"Kim Buyer", "kim@example.com", "C-7"} & {*row.values()}
    user.user_permissions.add(Permission.objects.get(codename="view_buyer_data"))
    (row,) = rows(client)
    assert BUYER.issubset(row)
    assert row["buyer_name"] == "Kim Buyer"


@pytest.mark.django_db
def test_staff_without_the_permission_are_refused(client):
    client.force_login(staff("view_refund"))
    answer = client.get(reverse("admin:multipay_payment_overview_export"))
    assert answer.status_code == 403
