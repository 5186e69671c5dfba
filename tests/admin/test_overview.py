"""The overview says what happened, of one currency at a time, at a fixed price."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_multipay.admin.overview import NOTHING
from django_multipay.enums import (
    DeclineCode,
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    ReviewReason,
    Source,
    TransactionKind,
    Verdict,
)
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Transaction,
    WebhookDelivery,
)

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
TODAY = "03/31/2026"
TABLES = re.compile(r'FROM ["`]multipay_')

Kind = TransactionKind
numbers = itertools.count()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the clock that rows and pages read."""

    def show(moment: datetime) -> None:
        monkeypatch.setattr(timezone, "now", lambda: moment)

    show(NOW)
    return show


@pytest.fixture
def row(clock) -> Callable[..., Any]:
    """Write one row at a moment of the past."""

    def write(model: Any, at: datetime = NOW, **values: Any) -> Any:
        clock(at)
        written = model.objects.create(**values)
        clock(NOW)
        return written

    return write


@pytest.fixture
def payment(row) -> Callable[..., Payment]:
    """Write a payment, paid unless it is said otherwise."""

    def write(at: datetime = NOW, **values: Any) -> Payment:
        made = {
            "provider": "eximbay",
            "order_id": "1001",
            "status": PaymentStatus.PAID,
            "amount_minor": 1000,
            "currency": "USD",
        }
        return row(Payment, at, **(made | values))

    return write


@pytest.fixture
def fact(row) -> Callable[..., Transaction]:
    """Write one fact about a payment."""

    def write(
        payment: Payment, kind: TransactionKind, minor: int, at: datetime = NOW
    ) -> Transaction:
        return row(
            Transaction,
            at,
            payment=payment,
            kind=kind,
            amount_minor=minor,
            currency=payment.currency,
            provider_reference=str(next(numbers)),
            source=Source.WEBHOOK,
        )

    return write


def show(client: Client, **query: str) -> dict[str, Any]:
    """What the page of these parameters is made from."""
    answer: Any = client.get(reverse("admin:multipay_payment_overview"), query)
    assert answer.status_code == 200
    return {**answer.context_data, "html": answer.content.decode()}


def line(rows: list[dict[str, Any]], label: str) -> dict[str, Any]:
    """The line of a table with this label."""
    (found,) = (row for row in rows if row["label"] == label)
    return found


def tile(page: dict[str, Any], label: str) -> tuple[str, str]:
    (found,) = (tile for tile in page["tiles"] if tile["label"] == label)
    return found["value"], found["note"]


# What the figures mean ----------------------------------------------------------------


def test_takings_are_captured_less_refunded_and_charged_back(
    admin_client, payment, fact
):
    paid = payment()
    fact(paid, Kind.AUTHORIZATION, 9999)
    fact(paid, Kind.CAPTURE, 5000)
    fact(paid, Kind.CAPTURE_REVERSAL, 500)
    fact(paid, Kind.REFUND, 700)
    fact(paid, Kind.CHARGEBACK, 400)
    fact(paid, Kind.CHARGEBACK_REVERSAL, 100)
    page = show(admin_client)
    assert tile(page, "Net takings") == ("$35.00", "$45.00 taken")
    assert tile(page, "Refunded") == ("$7.00", "$3.00 charged back")
    for found in (line(page["providers"], "eximbay"), line(page["days"], TODAY)):
        assert found["taken"] == "$45.00"
        assert found["refunded"] == "$7.00"
        assert found["charged_back"] == "$3.00"
        assert found["net"] == "$35.00"


def test_money_counts_on_the_day_of_its_fact(admin_client, payment, fact):
    old = payment(NOW - timedelta(days=60))
    fact(old, Kind.CAPTURE, 5000, NOW - timedelta(days=60))
    fact(old, Kind.REFUND, 2000, NOW - timedelta(days=1))
    page = show(admin_client)
    yesterday = line(page["days"], "03/30/2026")
    assert yesterday["refunded"] == "$20.00"
    assert yesterday["net"] == "-$20.00"
    assert yesterday["created"] == 0
    assert tile(page, "Net takings") == ("-$20.00", "$0.00 taken")


def test_sums_of_currencies_are_never_added(admin_client, payment, fact):
    for currency, count in (("USD", 2), ("KRW", 1)):
        for _ in range(count):
            fact(payment(currency=currency), Kind.CAPTURE, 5000)
    page = show(admin_client)
    assert page["currency"] == "USD"
    assert tile(page, "Net takings")[0] == "$100.00"
    assert [code for code, *_ in page["currency_links"]] == ["KRW", "USD"]
    assert tile(show(admin_client, currency="KRW"), "Net takings")[0] == "₩5,000"


def test_success_is_paid_of_what_came_to_an_end(admin_client, payment):
    for status in PaymentStatus:
        payment(status=status)
    page = show(admin_client)
    assert line(page["days"], TODAY)["created"] == len(PaymentStatus)
    # Paid, partially refunded and refunded; against failed, canceled and expired.
    assert tile(page, "Success rate") == ("50.0%", "3 paid of 6 decided")


def test_without_a_payment_that_ended_there_is_no_rate(admin_client, payment):
    payment(status=PaymentStatus.PENDING, provider="")
    page = show(admin_client)
    assert tile(page, "Success rate")[0] == NOTHING
    assert tile(page, "Time to paid, median") == (
        NOTHING,
        f"nine of ten within {NOTHING}",
    )
    assert line(page["providers"], "not chosen yet")["created"] == 1


def test_time_to_paid_is_a_time_that_happened(admin_client, payment):
    waits = [5, 20, 65, 70, 75, 80, 3700, 7300, 90_000, 999_999]
    for seconds in waits:
        payment(started_at=NOW, paid_at=NOW + timedelta(seconds=seconds))
    payment(started_at=None, paid_at=NOW)
    page = show(admin_client)
    assert line(page["providers"], "eximbay")["median"] == "1 min 15 s"
    assert line(page["providers"], "eximbay")["p90"] == "1 d 1 h"


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 s"), (61, "1 min 1 s"), (3660, "1 h 1 min")]
)
def test_a_time_is_said_in_its_two_largest_units(admin_client, payment, seconds, said):
    payment(started_at=NOW, paid_at=NOW + timedelta(seconds=seconds))
    assert tile(show(admin_client), "Time to paid, median")[0] == said


def test_declines_are_counted_with_their_share(admin_client, payment):
    for code in (DeclineCode.EXPIRED_CARD, DeclineCode.EXPIRED_CARD, ""):
        payment(status=PaymentStatus.FAILED, decline_code=code)
    # The attempt after the decline went well.
    payment(decline_code=DeclineCode.LIMIT_EXCEEDED, status=PaymentStatus.AUTHORIZED)
    assert show(admin_client)["declines"] == [
        {"reason": "The card has expired.", "count": 2, "share": "66.7%"},
        {"reason": "No reason given.", "count": 1, "share": "33.3%"},
    ]


def test_deposits_are_told_by_provider_and_currency_whenever_created(
    admin_client, payment
):
    waits = {"status": PaymentStatus.AWAITING_FUNDS, "provider": "payer"}
    payment(NOW - timedelta(days=300), expires_at=NOW - timedelta(days=1), **waits)
    payment(expires_at=NOW + timedelta(days=1), **waits)
    payment(expires_at=None, currency="KRW", **waits)
    rows = show(admin_client)["deposits"]
    assert [
        (row["currency"], row["count"], row["amount"], row["overdue"]) for row in rows
    ] == [("KRW", 1, "₩1,000", "₩0"), ("USD", 2, "$20.00", "$10.00")]
    assert [row["overdue_count"] for row in rows] == [0, 1]


# Days ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Kathmandu", "America/New_York", "Asia/Seoul"]
)
def test_a_day_is_one_of_the_active_time_zone(
    admin_client, payment, fact, settings, zone
):
    settings.TIME_ZONE = zone
    # In New York the eighth of March 2026 has 23 hours.
    for day in (7, 8, 9):
        midnight = datetime(2026, 3, day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        made = payment(midnight)
        fact(made, Kind.CAPTURE, 1000, midnight)
        fact(made, Kind.CAPTURE, 10, midnight - timedelta(microseconds=1))
    page = show(admin_client, start="2026-03-07", end="2026-03-09")
    assert [(row["label"], row["created"], row["taken"]) for row in page["days"]] == [
        ("03/09/2026", 1, "$10.00"),
        ("03/08/2026", 1, "$10.10"),
        ("03/07/2026", 1, "$10.10"),
    ]
    assert f"time zone {zone}" in page["html"]


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ({}, "2026-03-02", "2026-03-31"),
        ({"period": "7d"}, "2026-03-25", "2026-03-31"),
        ({"period": "90d"}, "2026-01-01", "2026-03-31"),
        ({"period": "this_month"}, "2026-03-01", "2026-03-31"),
        ({"period": "last_month"}, "2026-02-01", "2026-02-28"),
        ({"start": "2026-01-05", "end": "2026-01-05"}, "2026-01-05", "2026-01-05"),
        ({"start": "2025-03-31", "end": "2026-03-31"}, "2025-03-31", "2026-03-31"),
    ],
)
def test_a_period_is_whole_days(admin_client, clock, query, first, last):
    page = show(admin_client, **query)
    assert page["complaints"] == []
    assert (str(page["period"].first), str(page["period"].last)) == (first, last)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"period": "forever"}, "Period: Select a valid choice"),
        ({"start": "yesterday", "end": "2026-01-01"}, "From: Enter a valid date."),
        ({"start": "2026-01-01"}, "Choose both days"),
        ({"end": "2026-01-01"}, "Choose both days"),
        ({"start": "2026-01-02", "end": "2026-01-01"}, "must not be later"),
        ({"start": "0001-01-01", "end": "0001-01-01"}, "From: Ensure this value"),
        ({"start": "9999-12-31", "end": "9999-12-31"}, "To: Ensure this value"),
        ({"start": "2025-03-30", "end": "2026-03-31"}, "at most 366 days"),
        ({"currency": "<script>"}, "Currency: Enter a valid value."),
        ({"currency": "US\x00D"}, "Currency: "),
        ({"currency": "EUR"}, "Nothing of this period is in the currency “EUR”."),
    ],
)
def test_what_is_not_valid_is_explained(admin_client, payment, query, complaint):
    payment()
    page = show(admin_client, **query)
    assert complaint in " ".join(page["complaints"])
    assert 'role="alert"' in page["html"]
    assert str(page["period"].last) == "2026-03-31"
    assert page["currency"] == "USD"
    assert "<script>" not in page["html"].partition("<main")[2]


def test_a_period_without_payments_says_so(admin_client, clock):
    page = show(admin_client)
    assert "No payments and no movements of money in this period." in page["html"]
    assert "<figure" not in page["html"]


# What needs a person ------------------------------------------------------------------


@pytest.fixture
def waiting(payment, row) -> None:
    """One row of each kind that waits for a person, among others that do not."""
    first, _other = (
        payment(NOW - timedelta(days=500), review_reason=reason)
        for reason in (ReviewReason.OVERPAID, "")
    )
    for values in (
        {"needs_approval": True},
        {"needs_approval": True, "approved_by": "second"},
        {"needs_approval": False},
        {"state": OperationState.UNKNOWN},
        {"state": OperationState.SUCCEEDED},
    ):
        row(Operation, kind=OperationKind.REFUND, payment=first, **values)
    for verdict in (Verdict.HELD, Verdict.APPLIED):
        row(WebhookDelivery, provider="payer", digest=verdict, verdict=verdict)
    for minutes, state in (
        (20, NoticeState.WAITING),
        (10, NoticeState.WAITING),
        (20, NoticeState.DELIVERED),
    ):
        at = NOW - timedelta(minutes=minutes)
        row(Notice, at, payment=first, state=state, signals=["payment_paid"])


@pytest.mark.usefixtures("waiting")
def test_what_waits_for_a_person_is_counted(admin_client):
    assert [
        (item["label"], item["count"]) for item in show(admin_client)["attention"]
    ] == [
        ("Payments to review: more money arrived than was asked for", 1),
        ("Waiting for a second person's approval", 1),
        ("Calls whose outcome is unknown", 1),
        ("Messages of providers held for staff", 1),
        ("Facts of which the shop has not heard for long", 1),
    ]


@pytest.mark.usefixtures("waiting")
def test_each_link_leads_to_a_list_of_what_was_counted(admin_client):
    listed = []
    for item in show(admin_client)["attention"]:
        answer: Any = admin_client.get(item["url"])
        assert answer.status_code == 200, item["url"]
        listed.append(answer.context_data["cl"].result_count)
    # The lists of approvals and of notices have no filter for the last condition.
    assert listed == [1, 2, 1, 1, 2]


@pytest.mark.usefixtures("waiting")
def test_a_list_that_a_person_may_not_see_is_not_linked(client):
    client.force_login(staff("view_payment"))
    links = [item["url"] for item in show(client)["attention"]]
    assert links[0].startswith("/admin/multipay/payment/")
    assert links[1:] == ["", "", "", ""]


# Who may see it -----------------------------------------------------------------------


def staff(*permissions: str) -> User:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def test_staff_without_the_permission_are_refused(client):
    client.force_login(staff("view_refund"))
    answer = client.get(reverse("admin:multipay_payment_overview"))
    assert answer.status_code == 403


def test_a_guest_is_asked_to_log_in(client):
    answer = client.get(reverse("admin:multipay_payment_overview"))
    assert answer.status_code == 302
    assert "login" in answer["Location"]


# What it costs ------------------------------------------------------------------------


def queries(client: Client) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        show(client, period="90d")
    found = [query["sql"] for query in captured.captured_queries]
    return [sql for sql in found if TABLES.search(sql)]


def test_the_number_of_queries_does_not_grow(admin_client, payment, fact):
    assert len(queries(admin_client)) == 10
    for number in range(40):
        at = NOW - timedelta(days=number)
        made = payment(
            at,
            provider=f"account-{number}",
            currency=("USD", "KRW")[number % 2],
            review_reason=ReviewReason.values[number % 5],
            started_at=at,
            paid_at=at,
        )
        fact(made, Kind.CAPTURE, 1000, at)
    assert len(queries(admin_client)) == 10


def test_the_rows_of_a_day_are_added_by_the_database(admin_client, payment, fact):
    for _ in range(30):
        fact(payment(), Kind.CAPTURE, 1000)
    by_day = [sql for sql in queries(admin_client) if sql.startswith("SELECT CASE")]
    assert len(by_day) == 2
    assert all(" GROUP BY " in sql for sql in by_day)


def test_times_come_from_a_bounded_sample(admin_client, payment, monkeypatch):
    monkeypatch.setattr("django_multipay.admin.overview.TIMED", 2)
    for number in range(3):
        at = NOW - timedelta(days=number)
        payment(at, started_at=at, paid_at=at + timedelta(hours=number))
    page = show(admin_client)
    # The oldest, which took two hours, is not among the latest two.
    assert tile(page, "Time to paid, median")[1] == "nine of ten within 1 h 0 min"
    assert "latest 2 payments" in page["html"]


# How it is drawn ----------------------------------------------------------------------


@pytest.fixture
def drawn(admin_client, payment, fact) -> dict[str, Any]:
    """A page with gains, losses and failures on it."""
    made = payment()
    fact(made, Kind.CAPTURE, 4000)
    fact(made, Kind.REFUND, 1000)
    fact(made, Kind.CHARGEBACK, 1)
    payment(status=PaymentStatus.FAILED)
    return show(admin_client, period="7d")


def test_the_page_needs_no_inline_script_or_style(drawn):
    own = drawn["html"].partition('<div class="multipay-overview">')[2]
    own = own.partition('<footer id="footer">')[0]
    assert "<svg" in own
    assert not re.search(r"<script|<style|\bstyle=|\bon[a-z]+=|javascript:", own)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", own)


def test_charts_have_a_name_a_description_and_a_table_beside(drawn):
    plots = re.findall(r"<svg[^>]*role=\"img\".*?</svg>", drawn["html"], re.DOTALL)
    assert len(plots) == 2
    for plot in plots:
        for attribute, tag in (("labelledby", "title"), ("describedby", "desc")):
            (name,) = re.findall(rf'aria-{attribute}="([^"]+)"', plot)
            assert re.search(rf'<{tag} id="{name}">[^<]+</{tag}>', plot)
    assert "Taken $40.00, Refunded $10.00, Charged back $0.01" in plots[0]
    assert "Success rate 50.0%" in plots[1]
    assert len(drawn["days"]) == len(drawn["charts"][0]["bars"]) == 7


def test_gains_stand_on_the_zero_line_and_losses_hang_below(drawn):
    takings = drawn["charts"][0]
    zero = takings["zero"]
    taken, refunded, charged_back = takings["bars"][-1]["parts"]
    assert taken["y"] + taken["height"] == zero
    assert refunded["y"] == zero
    assert charged_back["y"] == refunded["y"] + refunded["height"]
    # Whole pixels: a bar may be one too high or too low.
    assert abs(taken["height"] - 4 * refunded["height"]) <= 4
    # A cent is a thin line, not nothing.
    assert charged_back["height"] == 1
    assert takings["bars"][0]["parts"] == []


def test_every_line_of_the_grid_has_a_round_amount(drawn):
    assert [label for _y, label in drawn["charts"][0]["lines"]] == [
        "-$20.00",
        "-$10.00",
        "$0.00",
        "$10.00",
        "$20.00",
        "$30.00",
        "$40.00",
    ]


def test_a_bar_of_success_is_as_high_as_the_rate(drawn):
    paid, unsuccessful = drawn["charts"][1]["bars"][-1]["parts"]
    assert paid["height"] == unsuccessful["height"]
    assert unsuccessful["y"] + unsuccessful["height"] == paid["y"]


@pytest.mark.parametrize(
    ("days", "marks"),
    [(1, ["middle"]), (2, ["middle", "middle"]), (7, ["start", "middle", "end"])],
)
def test_days_are_named_below_a_chart(admin_client, payment, days, marks):
    payment()
    start = str((NOW - timedelta(days=days - 1)).date())
    page = show(admin_client, start=start, end="2026-03-31")
    assert [mark["anchor"] for mark in page["charts"][0]["marks"]] == marks


def test_only_facts_without_any_gain_are_drawn_too(admin_client, payment, fact):
    old = payment(NOW - timedelta(days=60))
    fact(old, Kind.REFUND, 3)
    chart = show(admin_client)["charts"][0]
    assert [part["name"] for part in chart["bars"][-1]["parts"]] == ["refunded"]
    assert chart["lines"][-1][1] == "$0.00"
