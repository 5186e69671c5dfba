"""Refunds: asked for once, and watched until they are over."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from django_multipay import flows
from django_multipay.api.access import STEPS
from django_multipay.api.base import ApiView, created
from django_multipay.api.fields import Identifier, Moment, Word
from django_multipay.api.pages import (
    PageQuery,
    filtered,
    list_page,
    page_schema,
    read_query,
)
from django_multipay.api.problems import Problem
from django_multipay.api.schema import described
from django_multipay.api.serializers import NewRefundSerializer, RefundSerializer
from django_multipay.enums import OperationKind, ProblemCode, RefundStatus
from django_multipay.models import Payment, Refund

VIEW = "multipay.view_refund"


class RefundQuery(PageQuery):
    """Which refunds, in which order."""

    payment = Identifier(required=False)
    status = Word(RefundStatus.choices, required=False)
    created_after = Moment(required=False)
    created_before = Moment(required=False)
    ordering = Word(["-created_at", "created_at"], default="-created_at")


_FILTERS = {
    "payment": "payment__uuid",
    "status": "status",
    "created_after": "created_at__gt",
    "created_before": "created_at__lt",
}
"""The parameters of the list, and what they compare."""


class RefundsView(ApiView):
    """All refunds."""

    permissions = {"GET": VIEW, "POST": STEPS[OperationKind.REFUND]}
    needs_key = frozenset({"POST"})

    @described(
        operation_id="listRefunds",
        tags=["refunds"],
        parameters=[RefundQuery],
        responses=page_schema(RefundSerializer),
    )
    def get(self, request: Request) -> Response:
        """List refunds, the newest first."""
        query = read_query(request, RefundQuery)
        refunds = Refund.objects.select_related("payment")
        rows = filtered(request, refunds, query, _FILTERS)
        return Response(list_page(request, rows, RefundSerializer, query))

    @described(
        operation_id="createRefund",
        tags=["refunds"],
        request=NewRefundSerializer,
        responses={201: RefundSerializer},
        examples=[
            OpenApiExample(
                "A part of a payment",
                request_only=True,
                value={
                    "payment": "6f9c3c1e-0a52-4a7b-9c43-0d4a3f1f6a10",
                    "amount": {"amount": "6.30", "currency": "USD"},
                    "reason": "one box arrived broken",
                },
            )
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Give money of a payment back; without `amount` all that is left.

        `status` of the answer says how it went: a refusal of the provider is `failed`
        with its `error`, and a refund that a second person must approve is
        `requested`.
        """
        values = self.read(NewRefundSerializer)
        payment = Payment.objects.filter(uuid=values.pop("payment")).first()
        if payment is None:
            raise Problem(ProblemCode.INVALID, "There is no such payment.", "payment")
        return self.carry_out(lambda key: self._refund(payment, values, key))

    def _refund(
        self, payment: Payment, values: dict[str, Any], key: str | None
    ) -> Response:
        refund = flows.refund_payment(
            payment, **values, by=self.request.user, idempotency_key=key
        )
        return created(RefundSerializer(refund).data, "refund", refund.uuid)


class RefundView(ApiView):
    """One refund."""

    permissions = {"GET": VIEW}

    @described(operation_id="getRefund", tags=["refunds"], responses=RefundSerializer)
    def get(self, request: Request, refund_uuid: UUID) -> Response:
        """Return one refund."""
        refunds = Refund.objects.select_related("payment")
        refund = get_object_or_404(refunds, uuid=refund_uuid)
        return Response(RefundSerializer(refund).data)
