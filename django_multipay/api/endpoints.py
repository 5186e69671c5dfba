"""What the endpoints of the shop's own systems were sent, and once more."""

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
from django_multipay.api.serializers import (
    EndpointDeliverySerializer,
    NothingSerializer,
)
from django_multipay.enums import EndpointDeliveryState
from django_multipay.models import EndpointDelivery
from django_multipay.models.fields import exactly

VIEW = "multipay.view_endpointdelivery"
SEND = "multipay.change_endpoint"


class EndpointDeliveryQuery(PageQuery):
    """Which deliveries, in which order."""

    endpoint = Identifier(required=False)
    state = Word(EndpointDeliveryState.choices, required=False)
    type = Text(required=False, max_length=64, help_text="Such as payment.paid")
    created_after = Moment(required=False)
    created_before = Moment(required=False)
    ordering = Word(["-created_at", "created_at"], default="-created_at")


_FILTERS = {
    "endpoint": "endpoint__uuid",
    "state": "state",
    "type": "event_type",
    "created_after": "created_at__gt",
    "created_before": "created_at__lt",
}
"""The parameters of the list, and what they compare."""

# Neither what was sent, which names a buyer, nor what signs it.
_ROWS = EndpointDelivery.objects.select_related("endpoint").defer(
    "body", "endpoint__secrets"
)


def endpoint_delivery_of(endpoint_uuid: UUID, event_id: str) -> EndpointDelivery:
    """Return what an endpoint was told of an event, or raise that there is none."""
    return get_object_or_404(
        _ROWS, exactly("event_id", event_id), endpoint__uuid=endpoint_uuid
    )


class EndpointDeliveriesView(ApiView):
    """All deliveries."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="listEndpointDeliveries",
        tags=["endpoint deliveries"],
        parameters=[EndpointDeliveryQuery],
        responses=page_schema(EndpointDeliverySerializer),
    )
    def get(self, request: Request) -> Response:
        """List what the shop's endpoints were sent, the newest first."""
        query = read_query(request, EndpointDeliveryQuery)
        rows = filtered(request, _ROWS, query, _FILTERS)
        return Response(list_page(request, rows, EndpointDeliverySerializer, query))


class EndpointDeliveryView(ApiView):
    """One event for one endpoint."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="getEndpointDelivery",
        tags=["endpoint deliveries"],
        responses=EndpointDeliverySerializer,
    )
    def get(self, request: Request, endpoint_uuid: UUID, event_id: str) -> Response:
        """Return what became of one event for one endpoint."""
        delivery = endpoint_delivery_of(endpoint_uuid, event_id)
        return Response(EndpointDeliverySerializer(delivery).data)


class SendAgainView(ApiView):
    """One event for one endpoint, once more."""

    permissions = {"POST": SEND}

    @described(
        operation_id="sendEndpointDelivery",
        tags=["endpoint deliveries"],
        request=NothingSerializer,
        responses=EndpointDeliverySerializer,
    )
    def post(
        self, request: Request, endpoint_uuid: UUID, event_id: str
    ) -> HttpResponseBase:
        """Send an event to an endpoint again, now; it has the same id as before.

        Nothing is sent while it is being sent, or to an endpoint that is disabled.
        """
        self.read(NothingSerializer)
        delivery = endpoint_delivery_of(endpoint_uuid, event_id)
        return self.carry_out(lambda _: self._send(delivery))

    def _send(self, delivery: EndpointDelivery) -> Response:
        sent = flows.send_now(delivery)
        return Response(EndpointDeliverySerializer(sent).data)
