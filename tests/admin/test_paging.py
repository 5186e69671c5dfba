"""Lists of a million rows: what is counted, how a far page and a period are found."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import cache
from django.db import connection
from django.db.models import F, QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_multipay.admin import paging
from django_multipay.admin.paging import BoundedPaginator, ProbingQuerySet
from django_multipay.models import Payment


def payments_at(*moments: datetime) -> None:
    rows = Payment.objects.bulk_create(
        Payment(order_id=str(number), amount_minor=1000, currency="USD")
        for number, _ in enumerate(moments)
    )
    for row, moment in zip(rows, moments, strict=True):
        Payment.objects.filter(pk=row.pk).update(created_at=moment)


def rows() -> QuerySet[Payment]:
    probing: QuerySet[Payment] = ProbingQuerySet(Payment)
    return probing


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Pages ---------------------------------------------------------------------------------


@pytest.fixture
def at_most_five(monkeypatch):
    monkeypatch.setattr(paging, "COUNTED", 5)


def test_no_more_rows_are_counted_than_the_bound(at_most_five):
    payments_at(*[timezone.now()] * 8)
    paginator = BoundedPaginator(rows(), 2)
    with CaptureQueriesContext(connection) as queries:
        assert (paginator.count, paginator.num_pages) == (5, 3)
    assert paginator.is_bounded
    assert "LIMIT 5" in queries.captured_queries[0]["sql"]


def test_a_list_that_has_reached_the_bound_is_not_counted_again(
    at_most_five, django_assert_num_queries
):
    payments_at(*[timezone.now()] * 8)
    assert BoundedPaginator(rows(), 2).count == 5
    with django_assert_num_queries(0):
        assert BoundedPaginator(rows(), 2).count == 5
    # Another list is, and so is one that has not.
    few = rows().filter(order_id__gte="4")
    for _ in range(2):
        with django_assert_num_queries(1):
            assert BoundedPaginator(few, 2).count == 4


def test_a_list_is_shown_while_the_cache_is_away(ann, at_most_five, monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("the cache is away")

    for name in ("get", "set"):
        monkeypatch.setattr(type(paging.cache._connections["default"]), name, fail)
    payments_at(*[timezone.now()] * 8)
    assert BoundedPaginator(rows(), 2).count == 5
    assert "Only the newest are counted" in ann.list().content.decode()


def test_a_list_of_nothing_has_no_rows(at_most_five, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert BoundedPaginator(rows().none(), 2).count == 0


def test_fewer_rows_are_counted_exactly(at_most_five):
    payments_at(*[timezone.now()] * 3)
    paginator = BoundedPaginator(rows(), 2)
    assert (paginator.count, paginator.is_bounded) == (3, False)
    assert [row.order_id for row in paginator.page(2)] == ["0"]


def test_the_last_page_ends_at_the_bound(at_most_five):
    payments_at(*[timezone.now()] * 8)
    paginator = BoundedPaginator(rows(), 2)
    pages = [[row.order_id for row in paginator.page(number)] for number in (1, 2, 3)]
    assert pages == [["7", "6"], ["5", "4"], ["3"]]


def test_only_the_rows_of_a_page_are_read_in_full(at_most_five):
    payments_at(*[timezone.now()] * 5)
    with CaptureQueriesContext(connection) as queries:
        list(BoundedPaginator(rows(), 2).page(2))
    whole = [query["sql"] for query in queries if "order_id" in query["sql"]]
    assert len(whole) == 1
    assert "OFFSET" not in whole[0]


def read(listed: QuerySet[Payment]) -> list[list[int]]:
    """Return each page of a list as one who opens it now sees it."""
    paginator = BoundedPaginator(listed, 2)
    return [[row.pk for row in paginator.page(number)] for number in (1, 2, 3)]


def newest(listed: QuerySet[Payment]) -> list[list[int]]:
    """Return the newest five of it, two on a page."""
    keys = [row.pk for row in listed.all()]
    return [keys[:2], keys[2:4], keys[4:5]]


TIED = ["2026-01-01", "2026-01-02", "2026-01-02", "2026-01-02", "2026-01-03"] * 2


@pytest.mark.parametrize("order", [["-id"], ["-created_at", "-id"]])
def test_a_list_that_was_counted_before_shows_its_rows_of_now(at_most_five, order):
    payments_at(*map(at, TIED))
    listed = rows().order_by(*order)
    assert read(listed) == newest(listed)
    payments_at(*map(at, ["2026-01-03", "2026-01-04", "2026-01-04"]))
    assert read(listed) == newest(listed)
    # How many went nobody knows until it is counted again; no page fails by it.
    listed.exclude(pk__in=newest(listed)[0]).delete()
    assert read(listed)[0] == newest(listed)[0]
    cache.clear()
    assert BoundedPaginator(listed, 2).count == 2


@pytest.mark.parametrize(
    "order", [["id"], ["created_at", "-id"], [F("created_at").desc(), "-id"]]
)
def test_a_list_in_another_order_is_shown_too(
    at_most_five, order, django_assert_num_queries
):
    payments_at(*map(at, TIED))
    listed = rows().order_by(*order)
    for _ in range(2):
        assert read(listed) == newest(listed)
    with django_assert_num_queries(0):
        assert BoundedPaginator(listed, 2).count == 5


def test_a_list_that_shrinks_while_it_is_counted_is_shown(at_most_five, monkeypatch):
    payments_at(*[timezone.now()] * 5)
    count = QuerySet.count

    def count_and_lose_one(listed: QuerySet[Payment]) -> int:
        found = count(listed)
        Payment.objects.filter(order_id="0").delete()
        return found

    monkeypatch.setattr(QuerySet, "count", count_and_lose_one)
    for _ in range(2):
        assert read(rows()) == newest(rows())


def test_a_page_is_looked_for_from_the_nearer_end(at_most_five):
    payments_at(*[timezone.now()] * 8)
    assert BoundedPaginator(rows(), 1).count == 5
    sql = {}
    for number in (1, 2, 4, 5):
        with CaptureQueriesContext(connection) as queries:
            BoundedPaginator(rows(), 1).page(number)
        sql[number] = queries.captured_queries[-1]["sql"]
    assert "OFFSET" not in sql[1]
    assert "OFFSET 1" in sql[2]
    assert "OFFSET 1" in sql[4]
    assert "OFFSET" not in sql[5]


def test_the_list_says_that_older_rows_were_not_counted(ann, at_most_five):
    payments_at(*[timezone.now()] * 8)
    assert "Only the newest are counted" in ann.list().content.decode()
    Payment.objects.filter(order_id__in="01234").delete()
    # That there were so many is forgotten after a while.
    cache.clear()
    assert "Only the newest are counted" not in ann.list().content.decode()


# Periods ------------------------------------------------------------------------------


MOMENTS = [
    "2019-12-31T23:59:59",
    "2020-01-01T00:00:00",
    "2020-02-29T12:00:00",
    "2020-02-29T13:00:00",
    "2023-03-31T23:30:00",
]


@pytest.mark.parametrize(
    ("kind", "name"), [("year", "%Y"), ("month", "%Y-%m"), ("day", "%Y-%m-%d")]
)
@pytest.mark.parametrize("order", ["ASC", "DESC"])
@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Seoul", "America/New_York", "Africa/Cairo", "Pacific/Apia"]
)
def test_every_period_that_has_a_row_is_found_once(kind, name, order, zone):
    payments_at(*map(at, MOMENTS))
    where = ZoneInfo(zone)
    found = rows().datetimes("created_at", kind, order, where)
    expected = {at(moment).astimezone(where).strftime(name) for moment in MOMENTS}
    is_reversed = order == "DESC"
    assert [start.strftime(name) for start in found] == sorted(
        expected, reverse=is_reversed
    )
    assert {start.time().isoformat() for start in found} == {"00:00:00"}
    assert kind == "day" or {start.day for start in found} == {1}
    assert kind != "year" or {start.month for start in found} == {1}


def test_days_around_a_change_of_the_clock_are_days():
    berlin = ZoneInfo("Europe/Berlin")
    payments_at(
        at("2025-03-29T23:30:00"),  # half past midnight of the short day
        at("2025-03-30T21:30:00"),
        at("2025-03-30T22:30:00"),  # the next day
        at("2025-10-26T00:30:00"),  # both half past two of the long day
        at("2025-10-26T01:30:00"),
        at("2025-10-26T22:59:00"),
        at("2025-10-26T23:00:00"),  # the next day
    )
    found = rows().datetimes("created_at", "day", tzinfo=berlin)
    assert [day.strftime("%m-%d %H") for day in found] == [
        "03-30 00",
        "03-31 00",
        "10-26 00",
        "10-27 00",
    ]


def test_a_day_without_a_midnight_is_a_day():
    # Clocks in Cairo went from 24:00 to 01:00 of the 28th of April 2023.
    cairo = ZoneInfo("Africa/Cairo")
    payments_at(at("2023-04-27T21:30:00"), at("2023-04-27T22:30:00"))
    found = rows().datetimes("created_at", "day", tzinfo=cairo)
    assert [day.day for day in found] == [27, 28]


def test_an_empty_table_has_no_periods():
    assert rows().datetimes("created_at", "year") == []


def test_one_look_for_each_period_and_one_more():
    payments_at(*map(at, MOMENTS))
    with CaptureQueriesContext(connection) as queries:
        assert len(rows().datetimes("created_at", "year", tzinfo=UTC)) == 3
    assert len(queries) == 4
    assert all("LIMIT 1" in query["sql"] for query in queries)


def test_filters_hold_for_periods_too():
    payments_at(*map(at, MOMENTS))
    found = rows().filter(order_id="4").datetimes("created_at", "month", tzinfo=UTC)
    assert found == [at("2023-03-01T00:00:00")]
