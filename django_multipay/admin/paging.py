"""Lists that cost the same at a thousand rows and at a million."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.cache import cache
from django.core.exceptions import EmptyResultSet
from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

COUNTED = 100_000
"""Rows a list counts; whoever looks further back narrows the list first."""

REMEMBERED_SECONDS = 600
"""How long nobody counts a list again that has so many: rows go by the night's purge."""

if TYPE_CHECKING:
    LargeTableAdminBase = admin.ModelAdmin[Any]
    PaginatorBase = Paginator[Any]
    QuerySetBase = QuerySet[Any]
else:
    LargeTableAdminBase = admin.ModelAdmin
    PaginatorBase = Paginator
    QuerySetBase = QuerySet


Mark = tuple[Any, ...]
"""What a row says in the columns by which a list is sorted."""


class BoundedPaginator(PaginatorBase):
    """Counts `COUNTED` rows at most, and finds a page from the nearer end of them.

    By keys alone: only what is shown is read in full. What went from the middle of a
    list, or came there, since it was counted, moves the farther half of its pages.
    """

    _ends: Sequence[Mark] = ()
    """The first and the last row of those that were counted, where both are known."""

    @cached_property
    def count(self) -> int:
        """The number of rows, up to the bound.

        In the order of the list, whose index counts as fast as it finds a page. Of a
        list that has reached the bound that is remembered for a while.
        """
        rows = self._rows.values("pk")[:COUNTED]
        try:
            said = str(rows.query)
        except EmptyResultSet:
            return 0
        key = f"multipay:ends:{hashlib.sha256(said.encode()).hexdigest()}"
        ends: Sequence[Mark] | None = None
        # Staff must see the payments while the cache is away, too.
        with contextlib.suppress(Exception):
            ends = cache.get(key)
        if ends is None:
            count = rows.count()
            if count < COUNTED:
                return count
            ends = self._look_for_ends()
            with contextlib.suppress(Exception):
                cache.set(key, ends, REMEMBERED_SECONDS)
        self._ends = ends
        return COUNTED

    @property
    def is_bounded(self) -> bool:
        """Whether there may be more rows than were counted."""
        return self.count == COUNTED

    def page(self, number: int | str) -> Any:
        """Return one page; only the rows shown are read in full."""
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        stop = min(start + self.per_page, self.count)
        keys = self._rows.values_list("pk", flat=True)
        if self._ends and start + stop > self.count:
            first, last = self._ends
            # What came since then has moved all others on.
            more = max(self._rows.filter(self._from(first)).count() - 1, 0)
            start, stop = self.count + more - stop, self.count + more - start
            keys = keys.filter(self._from(last)).reverse()
        # MariaDB refuses a LIMIT inside of IN, so the keys are fetched first.
        found = list(keys[start:stop])
        return Page(self._rows.filter(pk__in=found), number, self)

    @property
    def _rows(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows

    @property
    def _names(self) -> list[str]:
        """The columns by which the list is sorted downwards; none if it is otherwise."""
        query: Any = self._rows.query
        order = [str(name) for name in query.order_by or query.get_meta().ordering]
        is_downwards = all(name.startswith("-") for name in order)
        return [name.removeprefix("-") for name in order] if is_downwards else []

    def _look_for_ends(self) -> Sequence[Mark]:
        """Return both ends, or nothing: one went meanwhile, or nobody can begin there."""
        if not self._names:
            return []
        marks = self._rows.values_list(*self._names)
        ends = [*marks[:1], *marks[COUNTED - 1 : COUNTED]]
        is_known = len(ends) == 2 and None not in (*ends[0], *ends[1])
        return ends if is_known else []

    def _from(self, mark: Mark) -> Q:
        """Return what is true of the row that says ``mark``, and of all before it."""
        condition = Q()
        for name, value in zip(self._names[::-1], mark[::-1], strict=True):
            if condition:
                condition = Q(**{f"{name}__gt": value}) | condition
            # An index finds this part of it; the other is for rows that are equal in it.
            condition = Q(**{f"{name}__gte": value}) & condition
        return condition


class OneOrderChangeList(ChangeList):
    """A list that no address can sort by a column without an index."""

    def get_ordering_field(self, field_name: Any) -> None:
        """Return nothing: columns do not sort."""

    def get_filters(self, request: HttpRequest) -> Any:
        """Return the filters; a date that no calendar has is a wrong address."""
        try:
            return super().get_filters(request)
        except (ValueError, OverflowError) as error:
            raise IncorrectLookupParameters(error) from error


class LargeTableAdmin(LargeTableAdminBase):
    """Lists with one order, a bounded count, and no filters but those they show.

    Django lets an address filter by every column of the table. That is slow without
    an index, and it tells, one letter after another, what a column holds that its
    reader may not see.
    """

    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    sortable_by = ()
    list_per_page = 100
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that has one order."""
        return OneOrderChangeList

    def lookup_allowed(
        self, lookup: str, value: Any, request: HttpRequest | None = None
    ) -> bool:
        """Say whether ``lookup`` is one of the filters beside the list."""
        shown = {getattr(item, "parameter_name", item) for item in self.list_filter}
        name, _, how = lookup.partition("__")
        if name == self.date_hierarchy:
            return how in {"year", "month", "day", "gte", "lt"}
        return name in shown and how in {"", "exact"}


class ProbingQuerySet(QuerySetBase):
    """Finds out by looking which years, months and days have rows at all.

    Django's date hierarchy asks for all distinct dates, which reads every row of a
    table; a look at an index for each year, month or day that has rows reads one.
    """

    def datetimes(  # type: ignore[override]
        self, field_name: str, kind: str, order: str = "ASC", tzinfo: Any = None
    ) -> list[datetime]:
        """Return the first moment of each ``kind`` of period that has a row."""
        zone = tzinfo or timezone.get_current_timezone()
        moments = self.order_by(field_name).values_list(field_name, flat=True)
        found: list[datetime] = []
        # Ordered, because a plain look may begin at the wrong end of the table.
        moment = moments.first()
        while moment is not None:
            start, stop = _period(moment.astimezone(zone), kind)
            found.append(start)
            later = {f"{field_name}__gte": stop.astimezone(UTC)}
            moment = moments.filter(**later).first()
        return found if order == "ASC" else found[::-1]


def _period(moment: datetime, kind: str) -> tuple[datetime, datetime]:
    """Return start and end of the year, month or day of ``moment``, in its zone."""
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if kind in {"year", "month"}:
        start = start.replace(day=1)
    if kind == "year":
        start = start.replace(month=1)
    # Far enough to be in the next period whatever its length; a date knows no zone.
    step = {"year": 370, "month": 32, "day": 1}[kind]
    stop = start + timedelta(days=step)
    if kind != "day":
        stop = stop.replace(day=1)
    if kind == "year":
        stop = stop.replace(month=1)
    return start, stop
