"""Recurring plans: made, changed, paused, charged and ended by staff."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, ClassVar
from uuid import UUID

from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from django_multipay.api.base import ApiView, created
from django_multipay.api.fields import Identifier, StrictSerializer, Text, Word
from django_multipay.api.pages import (
    PageQuery,
    filtered,
    list_page,
    page_schema,
    read_query,
)
from django_multipay.api.payments import shown, with_token
from django_multipay.api.problems import Problem
from django_multipay.api.schema import Method, described
from django_multipay.api.serializers import (
    CancelPlanSerializer,
    ChangePlanSerializer,
    ChargePlanSerializer,
    CreatedPlanSerializer,
    NewPlanSerializer,
    NothingSerializer,
    PaymentSerializer,
    PlanSerializer,
)
from django_multipay.enums import PlanStatus, ProblemCode
from django_multipay.exceptions import InvalidTransition, ProviderConfigurationError
from django_multipay.flows import plans
from django_multipay.models import Payment, RecurringPlan

VIEW = "multipay.view_recurringplan"
MANAGE = "multipay.manage_plan"


class PlanQuery(PageQuery):
    """Which plans, in which order."""

    status = Word(PlanStatus.choices, required=False)
    provider = Text(required=False, max_length=64, help_text="An alias")
    order_id = Text(required=False, max_length=64)
    customer_id = Text(
        required=False, max_length=64, help_text="Needs `view_buyer_data`"
    )
    token = Identifier(required=False)
    ordering = Word(["-created_at", "created_at"], default="-created_at")


_FILTERS = {
    "status": "status",
    "provider": "provider",
    "order_id": "order_id",
    "token": "token__uuid",
}
"""The parameters of the list, and what they compare."""

_ROWS = RecurringPlan.objects.select_related("token", "first_payment")


def plan_of(plan_uuid: UUID) -> RecurringPlan:
    """Return the plan, or raise what says that there is none."""
    return get_object_or_404(_ROWS, uuid=plan_uuid)


class PlansView(ApiView):
    """All plans."""

    permissions = {"GET": VIEW, "POST": MANAGE}
    needs_key = frozenset({"POST"})

    @described(
        operation_id="listPlans",
        tags=["plans"],
        parameters=[PlanQuery],
        responses=page_schema(PlanSerializer),
    )
    def get(self, request: Request) -> Response:
        """List plans, the newest first."""
        query = read_query(request, PlanQuery)
        rows = filtered(request, _ROWS, query, _FILTERS)
        return Response(list_page(request, rows, PlanSerializer, query, shown(request)))

    @described(
        operation_id="createPlan",
        tags=["plans"],
        request=NewPlanSerializer,
        responses={201: CreatedPlanSerializer},
        examples=[
            OpenApiExample(
                "Every month; the buyer pays the first one at the checkout",
                request_only=True,
                value={
                    "provider": "eximbay",
                    "customer_id": "42",
                    "order_id": "box-42",
                    "amount": {"amount": "9.90", "currency": "USD"},
                    "start_on": "2030-01-31",
                },
            )
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Record that an amount is to be collected every so many months.

        Without a token the answer has the first payment and its `client_secret`: send
        the buyer there. With one the first charge is made on the first day.
        """
        values = with_token(self.read(NewPlanSerializer))
        return self.carry_out(lambda _: self._create(values), is_local=True)

    def _create(self, values: dict[str, Any]) -> Response:
        try:
            plan = plans.create_plan(**values)
        except ProviderConfigurationError as error:
            raise Problem(
                ProblemCode.INVALID, "There is no such account.", "provider"
            ) from error
        data = CreatedPlanSerializer(
            plan_of(plan.uuid), context=shown(self.request)
        ).data
        return created(data, "plan", plan.uuid)


class PlanView(ApiView):
    """One plan."""

    permissions = {"GET": VIEW}

    @described(operation_id="getPlan", tags=["plans"], responses=PlanSerializer)
    def get(self, request: Request, plan_uuid: UUID) -> Response:
        """Return one plan."""
        return Response(PlanSerializer(plan_of(plan_uuid), context=shown(request)).data)


class _PlanStepView(ApiView):
    """Something done to one plan, after which it is returned."""

    permissions = {"POST": MANAGE}
    needs_key = frozenset({"POST"})
    body: ClassVar[type[StrictSerializer]] = NothingSerializer
    is_local: ClassVar[bool] = False

    def post(self, request: Request, plan_uuid: UUID) -> HttpResponseBase:
        """Do it, and return the plan."""
        values = with_token(self.read(self.body))
        plan = plan_of(plan_uuid)
        return self.carry_out(
            lambda _: self._step(plan, values), is_local=self.is_local
        )

    def _step(self, plan: RecurringPlan, values: dict[str, Any]) -> Response:
        self.change(plan, **values, by=self.request.user)
        context = shown(self.request)
        return Response(PlanSerializer(plan_of(plan.uuid), context=context).data)

    def change(self, plan: RecurringPlan, **how: Any) -> None:
        """Do what this endpoint is for."""
        raise NotImplementedError


def _step_schema(
    operation_id: str, body: type[StrictSerializer]
) -> Callable[[Method], Method]:
    return described(
        operation_id=operation_id,
        tags=["plans"],
        request=body,
        responses=PlanSerializer,
    )


class ChangePlanView(_PlanStepView):
    """Other terms."""

    body = ChangePlanSerializer

    @_step_schema("changePlan", ChangePlanSerializer)
    def post(self, request: Request, plan_uuid: UUID) -> HttpResponseBase:
        """Change what the charges to come cost, are charged to, or when they end."""
        return super().post(request, plan_uuid)

    def change(self, plan: RecurringPlan, **how: Any) -> None:
        """Change it."""
        plans.change_plan(plan, **how)


class PausePlanView(_PlanStepView):
    """A pause."""

    is_local = True

    @_step_schema("pausePlan", NothingSerializer)
    def post(self, request: Request, plan_uuid: UUID) -> HttpResponseBase:
        """Let nothing fall due until the plan is resumed."""
        return super().post(request, plan_uuid)

    def change(self, plan: RecurringPlan, **how: Any) -> None:
        """Pause it."""
        plans.pause_plan(plan, **how)


class ResumePlanView(_PlanStepView):
    """The end of a pause."""

    is_local = True

    @_step_schema("resumePlan", NothingSerializer)
    def post(self, request: Request, plan_uuid: UUID) -> HttpResponseBase:
        """Let a paused plan go on; periods that began meanwhile are left out."""
        return super().post(request, plan_uuid)

    def change(self, plan: RecurringPlan, **how: Any) -> None:
        """Resume it."""
        plans.resume_plan(plan, **how)


class CancelPlanView(_PlanStepView):
    """The end of a plan."""

    body = CancelPlanSerializer

    @_step_schema("cancelPlan", CancelPlanSerializer)
    def post(self, request: Request, plan_uuid: UUID) -> HttpResponseBase:
        """End the plan now, or with the period that is paid for."""
        return super().post(request, plan_uuid)

    def change(self, plan: RecurringPlan, **how: Any) -> None:
        """Cancel it."""
        plans.cancel_plan(plan, **how)


class ChargePlanView(ApiView):
    """A period charged now."""

    permissions = {"POST": MANAGE}
    needs_key = frozenset({"POST"})

    @described(
        operation_id="chargePlan",
        tags=["plans"],
        request=ChargePlanSerializer,
        responses=PaymentSerializer,
        examples=[
            OpenApiExample(
                "The period that the plan says is next",
                request_only=True,
                value={"due_on": "2030-01-31"},
            )
        ],
    )
    def post(self, request: Request, plan_uuid: UUID) -> HttpResponseBase:
        """Charge one period now: early, or once more after a refusal.

        `due_on` names the period as the plan has it. So a request that comes again
        never charges the period after it.
        """
        values = self.read(ChargePlanSerializer)
        plan = plan_of(plan_uuid)
        return self.carry_out(lambda key: self._charge(plan, key, **values))

    def _charge(
        self, plan: RecurringPlan, key: str | None, *, due_on: date
    ) -> Response:
        if plan.due_on == due_on:
            payment = plans.charge_plan(plan, idempotency_key=key, by=self.request.user)
        else:
            earlier = Payment.objects.filter(plan=plan, plan_due_on=due_on)
            found = earlier.order_by("-id").first()
            if found is None:
                raise InvalidTransition(
                    f"the plan collects {plan.due_on} next, not {due_on}", "due_on"
                )
            payment = found
        payment.refresh_from_db()
        data = PaymentSerializer(payment, context=shown(self.request)).data
        return Response(data)
