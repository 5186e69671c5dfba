"""Lists by cursor: stable while rows are added, and cheap on the last page too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from rest_framework import exceptions as drf
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.utils.urls import remove_query_param, replace_query_param

from django_multipay import crypto
from django_multipay.api.access import BUYER_DATA, may
from django_multipay.api.fields import Digits, StrictSerializer, Text
from django_multipay.api.problems import Problem
from django_multipay.enums import ProblemCode
from django_multipay.exceptions import MultipayError
from django_multipay.models.fields import exactly

PAGE_SIZE = 50
MAX_PAGE_SIZE = 100


class PageQuery(StrictSerializer):
    """What every list takes."""

    cursor = Text(required=False, max_length=500, help_text="As `next` has it")
    page_size = Digits(
        required=False, min_value=1, max_value=MAX_PAGE_SIZE, default=PAGE_SIZE
    )


def read_query(request: Request, kind: type[StrictSerializer]) -> dict[str, Any]:
    """Return the query's parameters as ``kind`` has them, each at most once."""
    for name, said in request.query_params.lists():
        if len(said) > 1:
            raise Problem(ProblemCode.INVALID, "This comes twice.", name)
    serializer = kind(data=request.query_params.dict())
    serializer.is_valid(raise_exception=True)
    values: dict[str, Any] = serializer.validated_data
    return values


def filtered(
    request: Request,
    rows: QuerySet[Any],
    query: dict[str, Any],
    columns: Mapping[str, str],
) -> QuerySet[Any]:
    """Return those of ``rows`` that ``query`` asks for.

    ``columns`` has the parameters of the list, and what they compare; nothing else is
    looked up but ``customer_id``, and that only for who may see buyers:
    `PermissionDenied`.
    """
    if "customer_id" in query:
        if not may(request, BUYER_DATA):
            raise drf.PermissionDenied
        rows = rows.filter(exactly("customer_id", query["customer_id"]))
    return rows.filter(
        **{column: query[name] for name, column in columns.items() if name in query}
    )


def list_page(
    request: Request,
    rows: QuerySet[Any],
    kind: type[serializers.Serializer[Any]],
    query: dict[str, Any],
    context: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one page of ``rows`` as ``kind`` writes them, with the ways on.

    In the ``ordering`` of ``query``, if it has one, which is by a column that never
    changes; then by key, in the same direction.
    """
    ordering = _ordering(query.get("ordering", ""))
    size = query["page_size"]
    cursor = _read_cursor(query.get("cursor", ""), ordering)
    is_backward = cursor is not None and cursor[0] == "before"
    columns = [name.removeprefix("-") for name in ordering]
    is_descending = ordering[0].startswith("-") is not is_backward
    if cursor is not None:
        rows = rows.filter(_beyond(columns, cursor[1], is_descending))
    sign = "-" if is_descending else ""
    found = list(rows.order_by(*(f"{sign}{name}" for name in columns))[: size + 1])
    has_more = len(found) > size
    found = found[:size]
    if is_backward:
        found.reverse()
    here = remove_query_param(request.build_absolute_uri(), "cursor")

    def link(way: str, row: Any) -> str:
        values = [getattr(row, name) for name in columns]
        return replace_query_param(here, "cursor", _cursor(way, ordering, values))

    has_next = bool(found) and (has_more or is_backward)
    has_previous = bool(found) and (has_more if is_backward else cursor is not None)
    return {
        "next": link("after", found[-1]) if has_next else None,
        "previous": link("before", found[0]) if has_previous else None,
        "cursor": _cursor("after", ordering, [getattr(found[-1], n) for n in columns])
        if found
        else query.get("cursor"),
        "results": kind(found, many=True, context=context or {}).data,
    }


def _ordering(wanted: str) -> list[str]:
    return [wanted, "-id" if wanted.startswith("-") else "id"] if wanted else ["id"]


def page_schema(kind: type[serializers.Serializer[Any]]) -> Any:
    """Return what one page of ``kind`` looks like, for the description."""
    name = kind.__name__.removesuffix("Serializer")
    return type(
        f"{name}PageSerializer",
        (serializers.Serializer,),
        {
            "__doc__": "One page; `cursor` is the place after its last row.",
            "__module__": __name__,
            "next": serializers.CharField(allow_null=True, help_text="A URL"),
            "previous": serializers.CharField(allow_null=True, help_text="A URL"),
            "cursor": serializers.CharField(allow_null=True),
            "results": kind(many=True),
        },
    )


def _beyond(columns: Sequence[str], values: Sequence[Any], is_descending: bool) -> Q:
    """Return the rows behind the one with ``values``."""
    word = "lt" if is_descending else "gt"
    first, *others = zip(columns, values, strict=True)
    beyond = Q(**{f"{first[0]}__{word}": first[1]})
    if others:
        (name, value) = others[0]
        # The first part lets the index find the place.
        beyond = Q(**{f"{first[0]}__{word}e": first[1]}) & (
            beyond | Q(**{first[0]: first[1], f"{name}__{word}": value})
        )
    return beyond


def _cursor(way: str, ordering: Sequence[str], values: Sequence[Any]) -> str:
    """Return a place in a list; encrypted, because integer keys stay inside."""
    said = [way, list(ordering), *(_plain(value) for value in values)]
    return crypto.encrypt(json.dumps(said))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _read_cursor(text: str, ordering: Sequence[str]) -> tuple[str, list[Any]] | None:
    if not text:
        return None
    try:
        way, order, *values = json.loads(crypto.decrypt(text))  # only ours opens
    except MultipayError:
        raise Problem(
            ProblemCode.INVALID, "This is no cursor of ours.", "cursor"
        ) from None
    if order != list(ordering):
        raise Problem(ProblemCode.INVALID, "The cursor is of another list.", "cursor")
    if len(values) > 1:
        values[0] = datetime.fromisoformat(values[0])
    return way, values
