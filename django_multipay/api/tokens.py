"""Saved methods: listed, charged and deleted by staff."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from django_multipay import flows
from django_multipay.api.base import ApiView, created
from django_multipay.api.fields import Text, Word
from django_multipay.api.pages import (
    PageQuery,
    filtered,
    list_page,
    page_schema,
    read_query,
)
from django_multipay.api.payments import shown
from django_multipay.api.schema import described
from django_multipay.api.serializers import (
    ChargeSerializer,
    PaymentSerializer,
    TokenSerializer,
    line_items,
)
from django_multipay.enums import TokenStatus
from django_multipay.models import Token

VIEW = "multipay.view_token"
CHARGE = "multipay.add_payment"
DELETE = "multipay.end_token"


class TokenQuery(PageQuery):
    """Which saved methods."""

    provider = Text(required=False, max_length=64, help_text="An alias")
    customer_id = Text(
        required=False, max_length=64, help_text="Needs `view_buyer_data`"
    )
    status = Word(TokenStatus.choices, required=False)
    ordering = Word(["-created_at", "created_at"], default="-created_at")


_FILTERS = {"provider": "provider", "status": "status"}
"""The parameters of the list, and what they compare."""

_ROWS = Token.objects.select_related("created_by_payment")


def token_of(token_uuid: UUID) -> Token:
    """Return the saved method, or raise what says that there is none."""
    return get_object_or_404(_ROWS, uuid=token_uuid)


class TokensView(ApiView):
    """All saved methods."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="listTokens",
        tags=["tokens"],
        parameters=[TokenQuery],
        responses=page_schema(TokenSerializer),
    )
    def get(self, request: Request) -> Response:
        """List saved methods, the newest first."""
        query = read_query(request, TokenQuery)
        tokens = Token.objects.defer("provider_token")
        rows = filtered(request, tokens, query, _FILTERS)
        return Response(
            list_page(request, rows, TokenSerializer, query, shown(request))
        )


class TokenView(ApiView):
    """One saved method."""

    permissions = {"GET": VIEW, "DELETE": DELETE}

    @described(operation_id="getToken", tags=["tokens"], responses=TokenSerializer)
    def get(self, request: Request, token_uuid: UUID) -> Response:
        """Return one saved method."""
        token = token_of(token_uuid)
        return Response(TokenSerializer(token, context=shown(request)).data)

    @described(
        operation_id="deleteToken", tags=["tokens"], responses={200: TokenSerializer}
    )
    def delete(self, request: Request, token_uuid: UUID) -> Response:
        """Delete a saved method, at its provider too; it is charged no more."""
        token = token_of(token_uuid)
        flows.delete_token(token, by=request.user)
        return Response(TokenSerializer(token, context=shown(request)).data)


class ChargeView(ApiView):
    """A charge without the buyer."""

    permissions = {"POST": CHARGE}
    needs_key = frozenset({"POST"})

    @described(
        operation_id="chargeToken",
        tags=["tokens"],
        request=ChargeSerializer,
        responses={201: PaymentSerializer},
        examples=[
            OpenApiExample(
                "The order of a customer who is known",
                request_only=True,
                value={
                    "order_id": "1002",
                    "amount": {"amount": "9.90", "currency": "USD"},
                    "description": "Refill of October",
                },
            )
        ],
    )
    def post(self, request: Request, token_uuid: UUID) -> HttpResponseBase:
        """Charge a saved method; the buyer is not there.

        A decline is a result: the payment has the status `failed`.
        """
        values = self.read(ChargeSerializer)
        token = token_of(token_uuid)
        return self.carry_out(lambda key: self._charge(token, values, key))

    def _charge(
        self, token: Token, values: dict[str, Any], key: str | None
    ) -> Response:
        code = values["amount"].currency.code
        payment = flows.charge_token(
            token,
            **{**values, "items": line_items(values.get("items", []), code)},
            by=self.request.user,
            idempotency_key=key,
        )
        payment.refresh_from_db()
        data = PaymentSerializer(payment, context=shown(self.request)).data
        return created(data, "payment", payment.uuid)
