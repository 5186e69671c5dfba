"""The ledger as a feed: every fact once, in order, and none skipped."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from django_multipay.api.base import ApiView
from django_multipay.api.fields import Identifier, Word
from django_multipay.api.pages import (
    PageQuery,
    filtered,
    list_page,
    page_schema,
    read_query,
)
from django_multipay.api.schema import described
from django_multipay.api.serializers import EventSerializer
from django_multipay.enums import TransactionKind
from django_multipay.models import Transaction

VIEW = "multipay.view_transaction"

SETTLED_AFTER = timedelta(seconds=10)
"""Facts younger than this are not told yet: one with a smaller key may still be in a
transaction that commits later, and whoever has passed it would never hear of it."""


class EventQuery(PageQuery):
    """Which facts."""

    payment = Identifier(required=False)
    kind = Word(TransactionKind.choices, required=False)


_FILTERS = {"payment": "payment__uuid", "kind": "kind"}
"""The parameters of the list, and what they compare."""


class EventsView(ApiView):
    """The facts of the ledger."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="listEvents",
        tags=["events"],
        parameters=[EventQuery],
        responses=page_schema(EventSerializer),
    )
    def get(self, request: Request) -> Response:
        """List the facts of the ledger, the oldest first.

        Keep `cursor` and come back with it: you get what was added since, also when
        the page was the last one. A fact appears some seconds after it was written.
        """
        query = read_query(request, EventQuery)
        facts = Transaction.objects.select_related("payment", "notice").filter(
            created_at__lte=timezone.now() - SETTLED_AFTER
        )
        rows = filtered(request, facts, query, _FILTERS)
        return Response(list_page(request, rows, EventSerializer, query))
