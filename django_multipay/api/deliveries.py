"""The inbox: what providers told us, and once more."""

from __future__ import annotations

from uuid import UUID

from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from django_multipay import flows
from django_multipay.api.base import ApiView
from django_multipay.api.fields import Identifier, Moment, Text, Word
from django_multipay.api.pages import (
    PageQuery,
    filtered,
    list_page,
    page_schema,
    read_query,
)
from django_multipay.api.schema import described
from django_multipay.api.serializers import DeliverySerializer, NothingSerializer
from django_multipay.enums import Verdict
from django_multipay.models import WebhookDelivery

VIEW = "multipay.view_webhookdelivery"
REPLAY = "multipay.replay_delivery"


class DeliveryQuery(PageQuery):
    """Which messages, in which order."""

    verdict = Word(Verdict.choices, required=False)
    provider = Text(required=False, max_length=64, help_text="An alias")
    payment = Identifier(required=False)
    received_after = Moment(required=False)
    received_before = Moment(required=False)
    ordering = Word(["-received_at", "received_at"], default="-received_at")


_FILTERS = {
    "verdict": "verdict",
    "provider": "provider",
    "payment": "payment__uuid",
    "received_after": "received_at__gt",
    "received_before": "received_at__lt",
}
"""The parameters of the list, and what they compare."""

_ROWS = WebhookDelivery.objects.select_related("payment").defer("payload", "body")


def delivery_of(delivery_uuid: UUID) -> WebhookDelivery:
    """Return the message, or raise what says that there is none."""
    return get_object_or_404(_ROWS, uuid=delivery_uuid)


class DeliveriesView(ApiView):
    """All messages."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="listDeliveries",
        tags=["deliveries"],
        parameters=[DeliveryQuery],
        responses=page_schema(DeliverySerializer),
    )
    def get(self, request: Request) -> Response:
        """List the messages of providers, the newest first."""
        query = read_query(request, DeliveryQuery)
        rows = filtered(request, _ROWS, query, _FILTERS)
        return Response(list_page(request, rows, DeliverySerializer, query))


class DeliveryView(ApiView):
    """One message."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="getDelivery", tags=["deliveries"], responses=DeliverySerializer
    )
    def get(self, request: Request, delivery_uuid: UUID) -> Response:
        """Return one message, and what became of it."""
        return Response(DeliverySerializer(delivery_of(delivery_uuid)).data)


class ReplayView(ApiView):
    """One message, applied again."""

    permissions = {"POST": REPLAY}

    @described(
        operation_id="replayDelivery",
        tags=["deliveries"],
        request=NothingSerializer,
        responses=DeliverySerializer,
    )
    def post(self, request: Request, delivery_uuid: UUID) -> HttpResponseBase:
        """Apply a message again; what it says counts once."""
        self.read(NothingSerializer)
        delivery = delivery_of(delivery_uuid)
        return self.carry_out(lambda _: self._replay(delivery))

    def _replay(self, delivery: WebhookDelivery) -> Response:
        flows.replay_delivery(delivery)
        return Response(DeliverySerializer(delivery_of(delivery.uuid)).data)
