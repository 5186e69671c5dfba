"""Recurring plans in the admin: what was charged, what will be, and the steps left.

Nothing of a plan can be edited. As with payments, a step has a page of its own: what
will happen is shown first, then confirmed, then done once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import formats, timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from moneyed import Money

from django_multipay import flows, money
from django_multipay.admin.access import BUYER, LINK, PLAN, masked, may, page
from django_multipay.admin.forms import MAX_REASON, AmountField, amount_of
from django_multipay.admin.payments import TICKET_AGE, TONES, badge
from django_multipay.admin.records import RecordAdmin, tone
from django_multipay.enums import (
    Capability,
    OperationState,
    PlanManager,
    PlanStatus,
)
from django_multipay.exceptions import (
    MultipayError,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderUnavailable,
)
from django_multipay.models import RecurringPlan
from django_multipay.recurrence import due_date
from django_multipay.redaction import storable
from django_multipay.registry import registry

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

TICKET_SALT = "multipay.admin.plan"
MONTHS_AHEAD = 12
MOST_SHOWN = 60
"""Past charges on the page of a plan; the list of payments has all of them."""


class StepForm(forms.Form):
    """Why a step is taken; most need nothing else but a yes."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=_("For your records; kept in the log of the plan."),
    )
    field_order = ("amount", "at_period_end")

    def as_arguments(self) -> dict[str, Any]:
        """Return the cleaned data as arguments of the flow, which takes no reason."""
        return {
            name: value for name, value in self.cleaned_data.items() if name != "reason"
        }


class NewAmountForm(StepForm):
    """What the charges to come shall cost, in major units of the plan's currency."""

    amount = AmountField()

    def __init__(self, *args: Any, plan: RecurringPlan, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plan = plan
        self.fields["amount"].initial = f"{plan.amount.amount:f}"

    def clean_amount(self) -> Money:
        """Return the amount as Money."""
        return amount_of(self.cleaned_data["amount"], self.plan.amount.currency)


class CancelForm(StepForm):
    """When the plan shall end."""

    at_period_end = forms.BooleanField(
        label=_("With the period that is paid for"), required=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """One thing staff can do to a plan, and what its page says."""

    name: str
    verb: StrOrPromise
    explanation: StrOrPromise
    flow: Callable[..., Any]
    statuses: frozenset[PlanStatus]
    needs: Capability | None = None
    """What the provider must be able to, where it charges the plan; None: it cannot."""
    is_grave: bool = False


_RUNNING = frozenset({PlanStatus.ACTIVE, PlanStatus.PAST_DUE})
_ALIVE = _RUNNING | {PlanStatus.PENDING, PlanStatus.PAUSED}

PLAN_STEPS: Mapping[str, PlanStep] = {
    step.name: step
    for step in (
        PlanStep(
            name="charge",
            verb=_("Charge now"),
            explanation=_("Charges the saved method; the buyer is not asked."),
            flow=flows.charge_plan,
            statuses=_RUNNING,
            is_grave=True,
        ),
        PlanStep(
            name="change",
            verb=_("Change the amount"),
            explanation=_("Counts from the next charge on."),
            flow=flows.change_plan,
            statuses=_ALIVE,
            needs=Capability.CHANGE_PLAN,
        ),
        PlanStep(
            name="pause",
            verb=_("Pause"),
            explanation=_("Nothing is charged until somebody resumes the plan."),
            flow=flows.pause_plan,
            statuses=_RUNNING,
        ),
        PlanStep(
            name="resume",
            verb=_("Resume"),
            explanation=_("What began while the plan was paused is left out."),
            flow=flows.resume_plan,
            statuses=frozenset({PlanStatus.PAUSED}),
        ),
        PlanStep(
            name="cancel",
            verb=_("Cancel the plan"),
            explanation=_("Nothing is charged any more; it cannot be taken back."),
            flow=flows.cancel_plan,
            statuses=_ALIVE,
            needs=Capability.CANCEL_PLAN,
            is_grave=True,
        ),
    )
}


class RecurringPlanAdmin(RecordAdmin):
    """The list, the page of one plan, and the steps behind its buttons."""

    list_display = (
        "created_at",
        "order_id",
        "shown_status",
        "shown_amount",
        "next_on",
        "interval_months",
        "provider",
        "customer_id",
    )
    list_filter = ("status", "managed_by", "needs_buyer")
    search_help_text = _("Order, customer or any reference, written in full.")
    # Django shows the search box only where fields are named; see get_search_results.
    search_fields = ("order_id",)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Find by whole references only: each has an index, and parts have none."""
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(order_id=term) | Q(
            provider__in=list(registry), provider_reference=term
        )
        if may(request, BUYER):
            wanted |= Q(customer_id=term)
        try:
            wanted |= Q(uuid=uuid.UUID(term))
        except ValueError:
            pass
        return queryset.filter(wanted), False

    @admin.display(description=_("amount"))
    def shown_amount(self, plan: RecurringPlan) -> str:
        """What each period costs."""
        return money.display(plan.amount)

    @admin.display(description=_("status"))
    def shown_status(self, plan: RecurringPlan) -> str:
        """Where it stands, as a colored mark."""
        return badge(plan.get_status_display(), tone(plan.status))

    def get_urls(self) -> list[URLPattern]:
        """Return the steps' pages before Django's own."""
        site = self.admin_site
        return [
            path(
                "<int:plan_id>/step/<slug:name>/",
                page(site, self.step_view),
                name="multipay_recurringplan_step",
            ),
            path(
                "<int:plan_id>/link/",
                page(site, require_POST(self.link_view)),
                name="multipay_recurringplan_link",
            ),
            path(
                "<int:plan_id>/check/",
                page(site, require_POST(self.check_view)),
                name="multipay_recurringplan_check",
            ),
            path(
                "<int:plan_id>/operation/<int:operation_id>/abandon/",
                page(site, require_POST(self.abandon_view)),
                name="multipay_recurringplan_abandon",
            ),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one plan: what it is, what can be done, and its calendar."""
        plan = self._plan(request, object_id)
        if request.method not in {"GET", "HEAD"}:
            raise PermissionDenied
        may_manage = may(request, PLAN)
        return TemplateResponse(
            request,
            "admin/multipay/plan/detail.html",
            {
                **self._context(request, plan),
                "tone": tone(plan.status),
                "facts": _facts(plan),
                "buyer": _buyer(plan, is_shown=may(request, BUYER)),
                "steps": _steps(plan) if may_manage else [],
                "may_link": may_manage and may(request, LINK) and _is_owed(plan),
                "may_check": may_manage and not _why_not_check(plan),
                "may_manage": may_manage,
                "open_operations": plan.operations.filter(
                    payment=None,
                    state__in=[OperationState.REQUESTED, OperationState.UNKNOWN],
                ),
                "past": _past(plan),
                "coming": _coming(plan),
                "log": plan.operations.filter(payment=None).order_by("-pk")[:20],
            },
        )

    def step_view(
        self, request: HttpRequest, plan_id: int | str, name: str
    ) -> HttpResponse:
        """Ask what is needed, show what will happen, then do it."""
        plan = self._plan(request, plan_id)
        step = PLAN_STEPS.get(name)
        if step is None:
            raise Http404
        if not may(request, PLAN):
            raise PermissionDenied
        is_post = request.method == "POST"
        if is_post and "confirmed" in request.POST:
            return self._do(request, plan, step)
        if refusal := _why_not(plan, step):
            messages.error(request, refusal)
            return _back(plan)
        form = _form_of(plan, step, request.POST if is_post else None)
        is_preview = is_post and form.is_valid()
        return self._step_page(request, plan, step, form, is_preview=is_preview)

    def _step_page(
        self,
        request: HttpRequest,
        plan: RecurringPlan,
        step: PlanStep,
        form: StepForm,
        *,
        is_preview: bool = False,
        problem: str = "",
    ) -> HttpResponse:
        shown = []
        if is_preview:
            shown = [
                (field.label, _text(form.cleaned_data[name]))
                for name, field in form.fields.items()
                if form.cleaned_data[name] != ""
            ]
            if step.name == "cancel":
                is_later = form.cleaned_data["at_period_end"]
                shown[0] = (_("Ends"), _end_of(plan, is_later=is_later))
            if step.name == "charge":
                shown += [
                    (_("Amount"), money.display(plan.amount)),
                    (_("Due on"), formats.date_format(plan.due_on)),
                    (_("Saved method"), str(plan.token or "-")),
                ]
        return TemplateResponse(
            request,
            "admin/multipay/plan/step.html",
            {
                **self._context(request, plan),
                "step": step,
                "form": form,
                "is_preview": is_preview,
                "preview": shown,
                "hidden": [
                    (name, form[name].value())
                    for name in form.fields
                    if is_preview and form[name].value()
                ],
                "problem": problem,
                "ticket": signing.dumps(
                    _standing(request, plan, step), salt=TICKET_SALT
                ),
            },
            status=409 if problem else 200,
        )

    def _do(
        self, request: HttpRequest, plan: RecurringPlan, step: PlanStep
    ) -> HttpResponse:
        """Carry a confirmed step out, on the plan as its reader saw it."""
        ticket = request.POST.get("ticket", "")
        form = _form_of(plan, step, request.POST)
        try:
            seen = signing.loads(ticket, salt=TICKET_SALT, max_age=TICKET_AGE)
        except signing.BadSignature:
            seen = None
        if seen != _standing(request, plan, step) or not form.is_valid():
            return self._step_page(
                request,
                plan,
                step,
                _form_of(plan, step, None),
                problem=gettext(
                    "The plan has changed, or this page is too old. Please look at it "
                    "again."
                ),
            )
        try:
            step.flow(plan, **form.as_arguments(), by=request.user)
        except OutcomeUnknown:
            said, level = gettext("outcome unknown, being checked"), messages.WARNING
        except ProviderUnavailable:
            said, level = gettext("the provider cannot be reached"), messages.WARNING
        except MultipayError as error:
            said, level = storable(str(error), 255), messages.ERROR
        else:
            said, level = plan.get_status_display(), messages.SUCCESS
        why = form.cleaned_data["reason"]
        self.log_change(request, plan, f"{step.verb}: {said}. {why}".strip(". "))
        messages.add_message(request, level, f"{step.verb}: {said}")
        return _back(plan)

    def link_view(self, request: HttpRequest, plan_id: int) -> HttpResponse:
        """Make the link with which the buyer pays in person, and go to its page."""
        plan = self._plan(request, plan_id)
        if not (may(request, PLAN) and may(request, LINK)):
            raise PermissionDenied
        try:
            payment = flows.recovery_payment(plan)
        except MultipayError as error:
            messages.error(request, storable(str(error), 255))
            return _back(plan)
        self.log_change(request, plan, gettext("Link for the buyer"))
        return HttpResponseRedirect(
            reverse("admin:multipay_payment_link", args=[payment.pk])
        )

    def check_view(self, request: HttpRequest, plan_id: int) -> HttpResponse:
        """Ask the provider how the plan stands."""
        plan = self._plan(request, plan_id)
        if not may(request, PLAN):
            raise PermissionDenied
        try:
            status = flows.sync_plan(plan)
        except MultipayError as error:
            messages.error(request, storable(str(error), 255))
        else:
            messages.success(
                request,
                gettext("The provider was asked: the plan is %(status)s.")
                % {"status": status.label},
            )
        return _back(plan)

    def abandon_view(
        self, request: HttpRequest, plan_id: int, operation_id: int
    ) -> HttpResponse:
        """Drop a call about the plan that is known not to have happened."""
        plan = self._plan(request, plan_id)
        if not may(request, PLAN):
            raise PermissionDenied
        operation = plan.operations.filter(pk=operation_id, payment=None).first()
        if operation is None:
            raise Http404
        try:
            flows.abandon_operation(operation, by=request.user)
        except MultipayError as error:
            messages.error(request, storable(str(error), 255))
        else:
            said = gettext("dropped")
            self.log_change(request, plan, f"{operation.get_kind_display()}: {said}")
            messages.success(request, gettext("The call was dropped."))
        return _back(plan)

    def _plan(self, request: HttpRequest, plan_id: int | str) -> RecurringPlan:
        if not self.has_view_permission(request) and not may(request, PLAN):
            raise PermissionDenied
        try:
            return RecurringPlan.objects.get(pk=plan_id)
        except (RecurringPlan.DoesNotExist, ValueError, TypeError) as error:
            raise Http404 from error

    def _context(self, request: HttpRequest, plan: RecurringPlan) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": plan,
            "plan": plan,
            "title": gettext("Plan of order %(order)s") % {"order": plan.order_id},
            "amount": money.display(plan.amount),
        }


def _back(plan: RecurringPlan) -> HttpResponse:
    url = reverse("admin:multipay_recurringplan_change", args=[plan.pk])
    return HttpResponseRedirect(url)


def _form_of(plan: RecurringPlan, step: PlanStep, data: Any) -> StepForm:
    match step.name:
        case "change":
            return NewAmountForm(data, plan=plan)
        case "cancel":
            return CancelForm(data)
        case _:
            return StepForm(data)


def _text(value: object) -> str:
    return money.display(value) if isinstance(value, Money) else str(value)


def _end_of(plan: RecurringPlan, *, is_later: bool) -> str:
    """Return when the plan ends if it is canceled now."""
    is_paid_for = plan.status in {PlanStatus.ACTIVE, PlanStatus.PAUSED}
    if not (is_later and is_paid_for):
        return gettext("at once")
    return str(formats.date_format(plan.due_on))


def _standing(
    request: HttpRequest, plan: RecurringPlan, step: PlanStep
) -> list[str | int]:
    """Return whose ticket it is, what for, and what its reader saw of the plan."""
    return [
        str(request.user.pk),
        plan.pk,
        step.name,
        plan.status,
        plan.period,
        plan.attempts,
        plan.amount_minor,
    ]


# What the page of a plan shows ----------------------------------------------------------


def _why_not(plan: RecurringPlan, step: PlanStep) -> str:
    """Return why a step is not possible now; "" if it is."""
    if plan.status not in step.statuses:
        return gettext("the plan is %(status)s") % {"status": plan.get_status_display()}
    try:
        provider = registry[plan.provider]
    except ProviderConfigurationError:
        return gettext("its account is not in the settings")
    if plan.managed_by == PlanManager.APP:
        return ""
    if step.needs is None or step.needs not in provider.capabilities:
        return gettext("the provider charges the plan, and cannot do this")
    return ""


def _why_not_check(plan: RecurringPlan) -> bool:
    """Say whether nobody can be asked about the plan."""
    if plan.managed_by == PlanManager.APP or plan.provider not in registry:
        return True
    return Capability.FETCH_PLAN not in registry[plan.provider].capabilities


def _is_owed(plan: RecurringPlan) -> bool:
    """Say whether the buyer could pay a period of the plan in person."""
    is_unborn = plan.status == PlanStatus.PENDING and plan.first_payment_id is not None
    is_owed = plan.status == PlanStatus.PAST_DUE or plan.needs_buyer or is_unborn
    return plan.managed_by == PlanManager.APP and is_owed


def _steps(plan: RecurringPlan) -> list[dict[str, Any]]:
    steps = [
        {
            "step": step,
            "refusal": _why_not(plan, step),
            "url": reverse(
                "admin:multipay_recurringplan_step", args=[plan.pk, step.name]
            ),
        }
        for step in PLAN_STEPS.values()
    ]
    return sorted(steps, key=lambda item: bool(item["refusal"]))


def _facts(plan: RecurringPlan) -> list[tuple[Any, Any]]:
    rows: list[tuple[Any, Any]] = [
        (_("Provider"), plan.provider),
        (_("Charged by"), plan.get_managed_by_display()),
        (_("Provider's reference"), plan.provider_reference),
        (_("Public id"), plan.uuid),
        (_("Description"), plan.description),
        (_("Months between charges"), plan.interval_months),
        (_("First day"), plan.start_on),
        (
            _("The buyer has until") if plan.needs_buyer else _("Next charge"),
            plan.next_on,
        ),
        (_("Ends on"), plan.ends_on),
        (_("Past due since"), plan.past_due_since),
        (_("Refused charges"), plan.attempts),
        (_("Decline"), plan.get_decline_code_display()),
        (_("Last error"), plan.last_error),
        (_("Created"), plan.created_at),
        (_("Canceled"), plan.canceled_at),
    ]
    return [(label, value) for label, value in rows if value]


def _buyer(plan: RecurringPlan, *, is_shown: bool) -> list[tuple[Any, str]]:
    rows = [
        (_("Name"), plan.buyer_name),
        (_("E-mail"), plan.buyer_email),
        (_("Phone"), plan.buyer_phone),
        (_("Country"), plan.buyer_country),
        (_("Customer"), plan.customer_id),
    ]
    return [
        (label, value if is_shown else masked(value)) for label, value in rows if value
    ]


def _past(plan: RecurringPlan) -> list[dict[str, Any]]:
    rows = plan.payments.filter(plan_due_on__isnull=False).defer("checkout_data")
    return [
        {
            "payment": payment,
            "amount": money.display(payment.amount),
            "status": badge(
                payment.get_status_display(), TONES.get(payment.status, "wait")
            ),
        }
        for payment in rows.order_by("-plan_due_on", "-plan_attempt")[:MOST_SHOWN]
    ]


def _coming(plan: RecurringPlan) -> list[dict[str, Any]]:
    """Return the charges of the next twelve months, as things stand."""
    if plan.status not in _RUNNING | {PlanStatus.PENDING}:
        return []
    last = due_date(timezone.localdate(), MONTHS_AHEAD)
    days: list[dict[str, Any]] = []
    period = plan.period
    while (day := plan.due_date(period)) <= last:
        if plan.ends_on is not None and day >= plan.ends_on:
            break
        remark = "" if days else _remark(plan)
        days.append(
            {"due_on": day, "amount": money.display(plan.amount), "remark": remark}
        )
        period += 1
    return days


def _remark(plan: RecurringPlan) -> str:
    """Return what the next charge waits for; "" if only for its day."""
    if plan.next_on is None:
        return gettext("with the buyer's first payment")
    day = formats.date_format(plan.next_on, "SHORT_DATE_FORMAT")
    if plan.needs_buyer:
        return gettext("waits for the buyer until %(day)s") % {"day": day}
    if plan.next_on > plan.due_on:
        return gettext("tried on %(day)s") % {"day": day}
    return ""
