"""Payments: made and moved by staff, started and watched by their buyers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.utils import (
    OpenApiExample,
    PolymorphicProxySerializer,
)
from rest_framework.request import Request
from rest_framework.response import Response

from django_multipay import flows
from django_multipay.api.access import BUYER_DATA, STEPS, buyer_of, may
from django_multipay.api.base import ApiView, created
from django_multipay.api.clients import client_secret
from django_multipay.api.fields import (
    Moment,
    StrictSerializer,
    Text,
    TrueFalse,
    Word,
)
from django_multipay.api.pages import (
    PageQuery,
    filtered,
    list_page,
    page_schema,
    read_query,
)
from django_multipay.api.problems import Problem
from django_multipay.api.providers import methods_data
from django_multipay.api.schema import Method, described
from django_multipay.api.serializers import (
    AmountToMoveSerializer,
    ConfirmSerializer,
    CreatedPaymentForBuyerSerializer,
    CreatedPaymentSerializer,
    MethodSerializer,
    NewPaymentSerializer,
    NothingSerializer,
    OperationSerializer,
    PaymentForBuyerSerializer,
    PaymentSerializer,
    StartedSerializer,
    StartSerializer,
    line_items,
)
from django_multipay.enums import OperationKind, PaymentStatus, ProblemCode
from django_multipay.exceptions import MultipayError, ProviderConfigurationError
from django_multipay.flows.sync import sync_if_due
from django_multipay.messages import NextAction, dump_action
from django_multipay.models import Operation, Payment, Token
from django_multipay.registry import registry

logger = logging.getLogger("django_multipay.api")

VIEW = "multipay.view_payment"
ADD = "multipay.add_payment"
CHECK = "multipay.change_payment"

_SEEN = PolymorphicProxySerializer(
    component_name="PaymentOfCaller",
    serializers=[PaymentSerializer, PaymentForBuyerSerializer],
    resource_type_field_name=None,
)
_CREATED = PolymorphicProxySerializer(
    component_name="AttemptOfCaller",
    serializers=[CreatedPaymentSerializer, CreatedPaymentForBuyerSerializer],
    resource_type_field_name=None,
)
"""Staff and the buyer see the same payment differently."""


def shown(request: Request) -> dict[str, bool]:
    """Return the context in which a payment is written for this caller."""
    return {"shows_buyer": may(request, BUYER_DATA)}


def payment_data(payment: Payment, request: Request) -> dict[str, Any]:
    """Return ``payment`` as this caller may see it."""
    if buyer_of(request):
        return dict(PaymentForBuyerSerializer(payment).data)
    return dict(PaymentSerializer(payment, context=shown(request)).data)


def with_token(values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` with the saved method that they name, or raise `Problem`."""
    if values.get("token") is None:
        return values
    token = Token.objects.filter(uuid=values["token"]).first()
    if token is None:
        raise Problem(ProblemCode.INVALID, "There is no such token.", "token")
    return {**values, "token": token}


class PaymentQuery(PageQuery):
    """Which payments, in which order."""

    status = Word(PaymentStatus.choices, required=False)
    provider = Text(required=False, max_length=64, help_text="An alias")
    order_id = Text(required=False, max_length=64)
    customer_id = Text(
        required=False, max_length=64, help_text="Needs `view_buyer_data`"
    )
    needs_review = TrueFalse(required=False)
    created_after = Moment(required=False)
    created_before = Moment(required=False)
    ordering = Word(["-created_at", "created_at"], default="-created_at")


_FILTERS = {
    "status": "status",
    "provider": "provider",
    "order_id": "order_id",
    "created_after": "created_at__gt",
    "created_before": "created_at__lt",
}
"""The parameters of the list, and what they compare."""


class PaymentsView(ApiView):
    """All payments."""

    permissions = {"GET": VIEW, "POST": ADD}
    needs_key = frozenset({"POST"})

    @described(
        operation_id="listPayments",
        tags=["payments"],
        parameters=[PaymentQuery],
        responses=page_schema(PaymentSerializer),
    )
    def get(self, request: Request) -> Response:
        """List payments, the newest first."""
        query = read_query(request, PaymentQuery)
        payments = Payment.objects.select_related("token", "plan")
        rows = filtered(request, payments, query, _FILTERS)
        if "needs_review" in query:
            is_clear = {"review_reason": ""}
            rows = (
                rows.exclude(**is_clear)
                if query["needs_review"] is True
                else rows.filter(**is_clear)
            )
        return Response(
            list_page(request, rows, PaymentSerializer, query, shown(request))
        )

    @described(
        operation_id="createPayment",
        tags=["payments"],
        request=NewPaymentSerializer,
        responses={201: CreatedPaymentSerializer},
        examples=[
            OpenApiExample(
                "The buyer chooses how to pay",
                request_only=True,
                value={
                    "order_id": "1001",
                    "amount": {"amount": "26.30", "currency": "USD"},
                    "buyer": {"name": "Hong Gil Dong", "email": "buyer@example.com"},
                    "success_url": "/thanks/",
                },
            )
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Record that an amount is to be collected; nothing is sent yet.

        The answer has the `client_secret` for the buyer's browser.
        """
        values = self.read(NewPaymentSerializer)
        return self.carry_out(lambda _: self._create(values), is_local=True)

    def _create(self, values: dict[str, Any]) -> Response:
        amount = values["amount"]
        values["items"] = line_items(values.get("items", []), amount.currency.code)
        try:
            payment = flows.create_payment(**with_token(values))
        except ProviderConfigurationError as error:
            raise Problem(
                ProblemCode.INVALID, "There is no such account.", "provider"
            ) from error
        payment.refresh_from_db()
        data = CreatedPaymentSerializer(payment, context=shown(self.request)).data
        return created(data, "payment", payment.uuid)


class PaymentView(ApiView):
    """One payment."""

    permissions = {"GET": VIEW}
    open_to_buyers = frozenset({"GET"})

    @described(
        operation_id="getPayment",
        tags=["payments"],
        responses=_SEEN,
    )
    def get(self, request: Request, payment_uuid: UUID) -> Response:
        """Return one payment; its buyer sees only what a buyer needs."""
        return Response(payment_data(self.payment(payment_uuid), request))


def _is_offered(payment: Payment, wish: Mapping[str, str]) -> bool:
    """Say whether a buyer may choose this: what the payment page would offer, too."""
    if not any(wish.values()) or payment.status != PaymentStatus.CREATED:
        return True
    alias = wish.get("provider") or payment.provider
    known = {"", payment.method}
    return any(
        way.provider.alias == alias
        and wish.get("method", "") in {*known, way.method.code}
        for way in flows.ways_for(payment)
    )


def _started(payment: Payment, action: NextAction | None) -> Response:
    """Return the answer to a buyer who wants to know what to do next."""
    return Response(
        {
            "status": payment.status,
            "next_action": dump_action(action) if action else None,
        }
    )


class StartView(ApiView):
    """The door to the provider."""

    permissions = {"POST": CHECK}
    open_to_buyers = frozenset({"POST"})
    is_start = True

    @described(
        operation_id="startPayment",
        tags=["payments"],
        request=StartSerializer,
        responses=StartedSerializer,
        examples=[
            OpenApiExample(
                "In the way that the buyer chose",
                request_only=True,
                value={"provider": "eximbay", "method": "card"},
            ),
            OpenApiExample(
                "Send the buyer to a page",
                response_only=True,
                value={
                    "status": "pending",
                    "next_action": {
                        "type": "redirect",
                        "url": "https://pay.example.com/s/1",
                    },
                },
            ),
        ],
    )
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Open the payment at a provider, and say what the buyer does next.

        Safe to call again: the same action is returned.
        """
        values = self.read(StartSerializer)
        payment = self.payment(payment_uuid)
        if values.get("provider") and values["provider"] not in registry:
            raise Problem(ProblemCode.INVALID, "There is no such account.", "provider")
        if buyer_of(request) and not _is_offered(payment, values):
            raise Problem(ProblemCode.INVALID, "This way is not on offer.", "method")
        return self.carry_out(lambda _: self._start(payment, values))

    def _start(self, payment: Payment, values: dict[str, Any]) -> Response:
        http: HttpRequest = self.request._request
        return _started(payment, flows.start_payment(payment, http, **values))


class _PaymentStepView(ApiView):
    """Something done to one payment, after which it is returned."""

    open_to_buyers = frozenset({"POST"})

    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Do it, and return the payment."""
        self.read(NothingSerializer)
        payment = self.payment(payment_uuid)
        return self.carry_out(lambda _: self._step(payment))

    def _step(self, payment: Payment) -> Response:
        self.change(payment)
        return Response(payment_data(payment, self.request))

    def change(self, payment: Payment) -> None:
        """Do what this endpoint is for."""
        raise NotImplementedError

    def actor(self) -> object:
        """Return who is named in the record."""
        return "buyer" if buyer_of(self.request) else self.request.user


class CancelView(_PaymentStepView):
    """The end of an attempt."""

    permissions = {"POST": STEPS[OperationKind.VOID]}

    @described(
        operation_id="cancelPayment",
        tags=["payments"],
        request=NothingSerializer,
        responses=_SEEN,
    )
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """End an attempt that nobody can pay any more.

        One that was opened at its provider may still be paid there: then the provider
        is asked, and the answer is 409 unless it says that the attempt is over.
        """
        return super().post(request, payment_uuid)

    def change(self, payment: Payment) -> None:
        """Cancel it."""
        flows.cancel_payment(payment, by=self.actor())


class SyncView(_PaymentStepView):
    """The question how it stands."""

    permissions = {"POST": CHECK}

    @described(
        operation_id="syncPayment",
        tags=["payments"],
        request=NothingSerializer,
        responses=_SEEN,
    )
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Ask the provider how the payment stands.

        For buyers it is asked at growing intervals only, however often they call.
        """
        return super().post(request, payment_uuid)

    def change(self, payment: Payment) -> None:
        """Ask: staff now, buyers when it is due."""
        if not buyer_of(self.request):
            flows.check_payment(payment)
            return
        try:
            sync_if_due(payment)
        except MultipayError as error:
            # What a buyer is shown is our record; it need not be the newest.
            logger.info("payment %s could not be asked: %s", payment.uuid, error)


class RefreshView(ApiView):
    """A fresh code to scan."""

    permissions = {"POST": CHECK}
    open_to_buyers = frozenset({"POST"})

    @described(
        operation_id="refreshAction",
        tags=["payments"],
        request=NothingSerializer,
        responses=StartedSerializer,
    )
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Return a fresh code to scan, when the one at hand ran out."""
        self.read(NothingSerializer)
        payment = self.payment(payment_uuid)
        return self.carry_out(lambda _: self._refresh(payment))

    def _refresh(self, payment: Payment) -> Response:
        return _started(payment, flows.refresh_action(payment))


class RetryView(ApiView):
    """Another attempt."""

    permissions = {"POST": ADD}
    open_to_buyers = frozenset({"POST"})

    @described(
        operation_id="retryPayment",
        tags=["payments"],
        request=NothingSerializer,
        responses={201: _CREATED},
    )
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Begin another attempt of an order that did not go through.

        It has a uuid and a client secret of its own; asked again, it is the same one.
        """
        self.read(NothingSerializer)
        payment = self.payment(payment_uuid)
        return self.carry_out(lambda _: self._retry(payment), is_local=True)

    def _retry(self, payment: Payment) -> Response:
        attempt = flows.retry_payment(payment)
        attempt.refresh_from_db()
        data = {
            **payment_data(attempt, self.request),
            "client_secret": client_secret(attempt),
        }
        return created(data, "payment", attempt.uuid)


class PaymentMethodsView(ApiView):
    """The ways to pay one payment."""

    permissions = {"GET": VIEW}
    open_to_buyers = frozenset({"GET"})

    @described(
        operation_id="listMethodsOfPayment",
        tags=["payments"],
        responses=MethodSerializer(many=True),
    )
    def get(self, request: Request, payment_uuid: UUID) -> Response:
        """List the ways to pay this payment, the first one first."""
        return Response(methods_data(flows.ways_for(self.payment(payment_uuid))))


# Money after the checkout --------------------------------------------------------------


class _MoneyView(ApiView):
    """A call on money, after which the operation is returned."""

    needs_key = frozenset({"POST"})
    body: ClassVar[type[StrictSerializer]] = NothingSerializer

    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Do it once."""
        values = self.read(self.body)
        payment = self.payment(payment_uuid)
        return self.carry_out(lambda key: self._move(payment, values, key))

    def _move(
        self, payment: Payment, values: dict[str, Any], key: str | None
    ) -> Response:
        operation = self.move(
            payment, **values, by=self.request.user, idempotency_key=key
        )
        operation.payment = payment
        kind = OperationSerializer(operation, context=shown(self.request))
        return Response(kind.data)

    def move(self, payment: Payment, **how: Any) -> Operation:
        """Do what this endpoint is for."""
        raise NotImplementedError


def _money_schema(
    operation_id: str, body: type[StrictSerializer]
) -> Callable[[Method], Method]:
    return described(
        operation_id=operation_id,
        tags=["money"],
        request=body,
        responses=OperationSerializer,
    )


class CaptureView(_MoneyView):
    """Capture."""

    permissions = {"POST": STEPS[OperationKind.CAPTURE]}
    body = AmountToMoveSerializer

    @_money_schema("capturePayment", AmountToMoveSerializer)
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Take what was authorized, whole or in part."""
        return super().post(request, payment_uuid)

    def move(self, payment: Payment, **how: Any) -> Operation:
        """Capture it."""
        return flows.capture_payment(payment, **how)


class VoidView(_MoneyView):
    """Void."""

    permissions = {"POST": STEPS[OperationKind.VOID]}

    @_money_schema("voidPayment", NothingSerializer)
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Release an authorization of which nothing was taken."""
        return super().post(request, payment_uuid)

    def move(self, payment: Payment, **how: Any) -> Operation:
        """Void it."""
        return flows.void_payment(payment, **how)


class ConfirmView(_MoneyView):
    """Confirm."""

    permissions = {"POST": STEPS[OperationKind.CONFIRM]}
    body = ConfirmSerializer

    @_money_schema("confirmPayment", ConfirmSerializer)
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Charge a buyer who was authenticated, or only reserve the money."""
        return super().post(request, payment_uuid)

    def move(self, payment: Payment, **how: Any) -> Operation:
        """Confirm it."""
        return flows.confirm_payment(payment, **how)


class SettleView(_MoneyView):
    """Settle."""

    permissions = {"POST": STEPS[OperationKind.SETTLE]}

    @_money_schema("settlePayment", NothingSerializer)
    def post(self, request: Request, payment_uuid: UUID) -> HttpResponseBase:
        """Release a captured payment into settlement."""
        return super().post(request, payment_uuid)

    def move(self, payment: Payment, **how: Any) -> Operation:
        """Settle it."""
        return flows.settle_payment(payment, **how)
