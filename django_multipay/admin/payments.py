"""Payments in the admin: found quickly, read as one story, acted upon safely.

Nothing of a payment can be edited. What staff can do are steps with a page of their
own: what will be sent is shown first, then confirmed, then written ahead and sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from django import forms
from django.contrib import admin, messages
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from moneyed import Money

from django_multipay import flows, money
from django_multipay.admin.access import (
    BUYER,
    CHECK,
    LINK,
    PERMISSIONS,
    masked,
    may,
    page,
)
from django_multipay.admin.batches import actions_for
from django_multipay.admin.forms import (
    AmountForm,
    ConfirmForm,
    OperationForm,
    RefundForm,
    ReviewForm,
)
from django_multipay.admin.paging import LargeTableAdmin, ProbingQuerySet
from django_multipay.admin.timeline import CHECKED, timeline
from django_multipay.conf import conf
from django_multipay.enums import (
    Capability,
    OperationKind,
    OperationState,
    PaymentStatus,
    RefundStatus,
    ReviewReason,
)
from django_multipay.exceptions import (
    InvalidOperation,
    MultipayError,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderUnavailable,
)
from django_multipay.flows.checkout import attempts_of
from django_multipay.flows.guards import query_of
from django_multipay.flows.operations import capturable, refundable, why_not
from django_multipay.models import Operation, Payment, Refund, Transaction
from django_multipay.providers.base import Provider
from django_multipay.redaction import storable
from django_multipay.registry import registry

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

TICKET_SALT = "multipay.admin.ticket"
TICKET_AGE = 12 * 60 * 60
"""Seconds a form may lie open before its button asks to look again."""

TONES: Mapping[str, str] = {
    PaymentStatus.PAID: "good",
    PaymentStatus.AUTHORIZED: "good",
    PaymentStatus.PARTIALLY_REFUNDED: "good",
    PaymentStatus.REFUNDED: "",
    PaymentStatus.FAILED: "bad",
    PaymentStatus.CANCELED: "bad",
    PaymentStatus.EXPIRED: "bad",
}
"""Colors of the statuses; what is not listed waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing staff can do to a payment, and what its page says."""

    kind: OperationKind
    verb: StrOrPromise
    explanation: StrOrPromise
    is_grave: bool = False


STEPS: Mapping[str, Step] = {
    step.kind.value: step
    for step in (
        Step(
            kind=OperationKind.CONFIRM,
            verb=_("Confirm"),
            explanation=_("The buyer was authenticated; nothing is charged yet."),
        ),
        Step(
            kind=OperationKind.CAPTURE,
            verb=_("Capture"),
            explanation=_("Takes money that was authorized."),
        ),
        Step(
            kind=OperationKind.VOID,
            verb=_("Void"),
            explanation=_("Releases the authorization; it cannot be taken back."),
            is_grave=True,
        ),
        Step(
            kind=OperationKind.SETTLE,
            verb=_("Settle"),
            explanation=_("Releases the payment into settlement."),
        ),
        Step(
            kind=OperationKind.REFUND,
            verb=_("Refund"),
            explanation=_("Gives money back to the buyer; it cannot be taken back."),
            is_grave=True,
        ),
    )
}


class ProviderFilter(admin.SimpleListFilter):
    """By account; the choices come from the settings, not from all rows."""

    title = _("provider")
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the aliases of the settings."""
        return [(alias, _account_name(alias)) for alias in registry]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep the payments of the chosen account."""
        return queryset.filter(provider=self.value()) if self.value() else queryset


class ReviewFilter(admin.SimpleListFilter):
    """What a person should look at, by reason; "all" is the review queue."""

    title = _("needs review")
    parameter_name = "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return every reason."""
        return [("any", _("any reason")), *ReviewReason.choices]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep the payments with the chosen reason."""
        if self.value() == "any":
            return queryset.filter(review_reason__in=ReviewReason.values)
        if self.value():
            return queryset.filter(review_reason=self.value())
        return queryset


class PaymentAdmin(LargeTableAdmin):
    """The list, the page of one payment, and the steps behind its buttons."""

    list_display = (
        "order",
        "shown_amount",
        "shown_status",
        "age",
        "account",
        "buyer",
    )
    list_filter = ("status", ReviewFilter, ProviderFilter)
    date_hierarchy = "created_at"
    # Not by id: one index finds, orders and counts a period of one account or status.
    ordering = ("-created_at", "-id")
    search_help_text = _("Order, any reference or e-mail address, written in full.")
    # Django shows the search box only where fields are named; see get_search_results.
    search_fields = ("order_id",)
    change_list_template = "admin/multipay/payment/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Payment]:
        """Return the payments without the columns no list shows."""
        rows: QuerySet[Payment] = ProbingQuerySet(Payment)
        return rows.defer(
            "items", "metadata", "details", "next_action", "checkout_data"
        )

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Find by whole references only: each has an index, and parts have none."""
        term = search_term.strip()
        if not term:
            return queryset, False
        accounts = {*registry, ""}
        wanted = (
            Q(order_id__in={term, search_term})
            | Q(merchant_reference=term)
            | Q(provider__in=accounts, provider_reference=term)
            | Q(provider__in=accounts, transaction_reference=term)
            | Q(pk__in=_named_by_records(term))
        )
        if may(request, BUYER):
            wanted |= Q(buyer_email=term)
        try:
            wanted |= Q(uuid=uuid.UUID(term))
        except ValueError:
            pass
        return queryset.filter(wanted), False

    # Nothing is edited here -------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: payments are made by the shop."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: a payment is a record."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may see payments, or change what is known of them."""
        return may(request, "multipay.view_payment") or may(request, CHECK)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody, as far as fields go; steps have permissions of their own."""
        return False

    # The list -----------------------------------------------------------------------

    @admin.display(description=_("order"))
    def order(self, payment: Payment) -> str:
        """The shop's own name of the order."""
        return payment.order_id

    @admin.display(description=_("amount"))
    def shown_amount(self, payment: Payment) -> str:
        """The amount in its currency, and what went back."""
        amount = money.display(payment.amount)
        if not payment.refunded_minor:
            return amount
        return format_html(
            '{} <span class="multipay-note">&minus;{}</span>',
            amount,
            money.display(payment.refunded),
        )

    @admin.display(description=_("status"))
    def shown_status(self, payment: Payment) -> str:
        """The status as a colored mark, and why a person should look."""
        mark = badge(payment.get_status_display(), TONES.get(payment.status, "wait"))
        if not payment.review_reason:
            return mark
        return format_html(
            '{} <span class="multipay-reason">{}</span>',
            mark,
            payment.get_review_reason_display(),
        )

    @admin.display(description=_("buyer"))
    def buyer(self, payment: Payment) -> str:
        """Masked here for everybody: a list is seen over many shoulders."""
        return masked(payment.buyer_email or payment.buyer_name)

    @admin.display(description=_("age"))
    def age(self, payment: Payment) -> str:
        """How long ago it was created."""
        return format_html(
            '<time datetime="{}">{}</time>',
            payment.created_at.isoformat(),
            timesince(payment.created_at, depth=1),
        )

    @admin.display(description=_("provider"))
    def account(self, payment: Payment) -> str:
        """The account it went to, and the method the buyer chose there."""
        return format_html(
            '{} <span class="multipay-note">{}</span>', payment.provider, payment.method
        )

    def get_actions(
        self, request: HttpRequest, action_location: Any = None
    ) -> dict[str, Any]:
        """Return what this person may do to many payments at once.

        Django 6.1 and later say where the actions are offered.
        """
        return actions_for(request)

    # Pages ----------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Return the steps' pages before Django's own."""
        site = self.admin_site
        return [
            path(
                "overview/",
                page(site, self.overview_view),
                name="multipay_payment_overview",
            ),
            path(
                "overview/export/",
                page(site, self.export_view),
                name="multipay_payment_overview_export",
            ),
            path(
                "link/",
                page(site, self.add_link_view),
                name="multipay_payment_link_add",
            ),
            path(
                "<int:payment_id>/link/",
                page(site, self.link_view),
                name="multipay_payment_link",
            ),
            path(
                "<int:payment_id>/step/<slug:kind>/",
                page(site, self.step_view),
                name="multipay_payment_step",
            ),
            path(
                "<int:payment_id>/check/",
                page(site, require_POST(self.check_view)),
                name="multipay_payment_check",
            ),
            path(
                "<int:payment_id>/release/",
                page(site, require_POST(self.release_view)),
                name="multipay_payment_release",
            ),
            path(
                "<int:payment_id>/operation/<int:operation_id>/<slug:act>/",
                page(site, require_POST(self.operation_view)),
                name="multipay_payment_operation",
            ),
            *super().get_urls(),
        ]

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        """Show how business goes."""
        from django_multipay.admin.overview import overview_view

        if not self.has_view_permission(request):
            raise PermissionDenied
        return overview_view(request, self.admin_site)

    def export_view(self, request: HttpRequest) -> HttpResponse:
        """Hand the payments of a period out as a table."""
        from django_multipay.admin.export import export_view

        if not self.has_view_permission(request):
            raise PermissionDenied
        return export_view(request, self.admin_site)

    def add_link_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for what a new payment link is for."""
        from django_multipay.admin.links import add_view

        return add_view(request, self)

    def link_view(self, request: HttpRequest, payment_id: int) -> HttpResponse:
        """Show a payment link, to be copied or sent."""
        from django_multipay.admin.links import link_view

        return link_view(request, self, payment_id)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, with the ways to the overview and to a new link."""
        context = {
            "overview_url": reverse("admin:multipay_payment_overview"),
            "link_url": reverse("admin:multipay_payment_link_add")
            if may(request, LINK)
            else "",
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one payment: what it is, what can be done, and its whole story."""
        payment = self._payment(request, object_id)
        if request.method not in {"GET", "HEAD"}:
            raise PermissionDenied
        open_operations = self._open_operations(request, payment)
        no_account = _why_no_account(payment)
        return TemplateResponse(
            request,
            "admin/multipay/payment/detail.html",
            {
                **self._context(request, payment),
                "tone": TONES.get(payment.status, "wait"),
                "facts": _facts(payment),
                "buyer": _buyer(payment, is_shown=may(request, BUYER)),
                "may_see_buyer": may(request, BUYER),
                "items": _items(payment),
                "details": _details(payment, is_shown=may(request, BUYER)),
                "no_account": no_account,
                "steps": [] if no_account else self._steps(request, payment),
                "check_refusal": _why_not_check(payment, is_open=bool(open_operations)),
                "may_check": may(request, CHECK),
                "review": _review(payment),
                "review_form": ReviewForm(initial={"reason": payment.review_reason}),
                "open_operations": open_operations,
                "refunds": _refunds(payment),
                "entries": timeline(payment),
                "attempts": _attempts(payment),
                "order_url": conf.order_url.replace(
                    "{order_id}", quote(payment.order_id, safe="")
                ),
            },
        )

    def step_view(
        self, request: HttpRequest, payment_id: int, kind: str
    ) -> HttpResponse:
        """Ask how much and why, show what will be sent, then do it."""
        payment = self._payment(request, payment_id)
        step = STEPS.get(kind)
        if step is None:
            raise Http404
        if not may(request, PERMISSIONS[step.kind]):
            raise PermissionDenied
        refusal = _why_no_account(payment)
        if not refusal and request.method == "POST" and "confirmed" in request.POST:
            return self._do(request, payment, step)
        refusal = refusal or why_not(payment, step.kind)
        if refusal:
            messages.error(request, refusal)
            return self._back(payment)
        data = request.POST if request.method == "POST" else None
        form = _form_of(payment, step, data)
        is_preview = data is not None and form.is_valid()
        return self._step_page(request, payment, step, form, is_preview=is_preview)

    def _step_page(
        self,
        request: HttpRequest,
        payment: Payment,
        step: Step,
        form: forms.Form,
        *,
        is_preview: bool = False,
        problem: str = "",
    ) -> HttpResponse:
        ticket = request.POST.get("ticket", "")
        if not is_preview or _read_ticket(ticket, request, payment, step) is None:
            ticket = _new_ticket(request, payment, step)
        return TemplateResponse(
            request,
            "admin/multipay/payment/step.html",
            {
                **self._context(request, payment),
                "step": step,
                "form": form,
                "left": _left(payment, step),
                "is_preview": is_preview,
                "preview": _preview(form) if is_preview else [],
                "hidden": _hidden(form) if is_preview else [],
                "problem": problem,
                "ticket": ticket,
            },
            status=409 if problem else 200,
        )

    def _do(self, request: HttpRequest, payment: Payment, step: Step) -> HttpResponse:
        """Carry a confirmed step out; once, however often its button is pressed."""
        ticket = request.POST.get("ticket", "")
        seen = _read_ticket(ticket, request, payment, step)
        form = _form_of(payment, step, request.POST, seen)
        if seen is None or not form.is_valid():
            form = _form_of(payment, step, None)
            return self._step_page(
                request,
                payment,
                step,
                form,
                problem=gettext("This page is too old. Please look at it again."),
            )
        key, left = seen
        arguments: dict[str, Any] = {
            **form.as_arguments(),
            "by": request.user,
            "idempotency_key": key,
        }
        if step.kind in {OperationKind.REFUND, OperationKind.CAPTURE}:
            arguments["expected_left"] = left
        return self._carried_out(
            request,
            payment,
            step,
            lambda: _FLOWS[step.kind](payment, **arguments),
            before=dict(payment.operations.values_list("pk", "attempts")),
        )

    def _carried_out(
        self,
        request: HttpRequest,
        payment: Payment,
        step: Step,
        act: Callable[[], Refund | Operation],
        before: Mapping[int, int] = MappingProxyType({}),
    ) -> HttpResponse:
        """Run ``act``, note it in the admin's log, and say what became of it.

        ``before`` has the attempts of each operation so far. One that was there and
        was not tried again, or that another worker has, is somebody's earlier act: it
        is shown, and not logged twice.
        """
        try:
            done = act()
        except InvalidOperation as error:
            if error.field in {"expected_left", "amount", "idempotency_key"}:
                payment.refresh_from_db()
                return self._step_page(
                    request,
                    payment,
                    step,
                    _form_of(payment, step, None),
                    problem=_problem(error, payment, step),
                )
            self._log(request, payment, step.verb, _said(error))
            messages.error(request, _said(error))
        except OutcomeUnknown:
            self._log(request, payment, step.verb, gettext("outcome unknown"))
            messages.warning(
                request,
                gettext(
                    "The provider's answer was lost, so the outcome is unknown, being "
                    "checked. Nothing will be sent twice."
                ),
            )
        except ProviderUnavailable:
            self._log(request, payment, step.verb, gettext("provider unavailable"))
            messages.warning(
                request,
                gettext(
                    "The provider cannot be reached. Nothing happened yet; it will be "
                    "sent as soon as the provider answers."
                ),
            )
        except MultipayError as error:
            said = _said(error)
            self._log(request, payment, step.verb, said)
            messages.error(request, said)
        else:
            level, text = _report(done)
            operation = _operation_of(done)
            is_tried = operation.attempts > before.get(operation.pk, -1)
            if is_tried and operation.state != OperationState.IN_FLIGHT:
                self._log(request, payment, step.verb, text)
                messages.add_message(request, level, text)
            else:
                said = gettext("This was asked for before; nothing was sent twice.")
                messages.info(request, f"{said} {text}")
        return self._back(payment)

    def check_view(self, request: HttpRequest, payment_id: int) -> HttpResponse:
        """Ask the provider what it knows now."""
        payment = self._payment(request, payment_id)
        if not may(request, CHECK):
            raise PermissionDenied
        before = _standing(payment)
        try:
            flows.check_payment(payment)
        except MultipayError as error:
            said = _said(error)
            self._log(request, payment, CHECKED, said)
            messages.error(request, said)
        else:
            self._log(request, payment, CHECKED, payment.status)
            messages.success(
                request,
                gettext("The provider was asked: nothing new.")
                if _standing(payment) == before
                else gettext("The provider was asked: the payment is %(status)s.")
                % {"status": payment.get_status_display()},
            )
        return self._back(payment)

    def release_view(self, request: HttpRequest, payment_id: int) -> HttpResponse:
        """Let a payment pass that waits for a person."""
        payment = self._payment(request, payment_id)
        if not may(request, CHECK):
            raise PermissionDenied
        form = ReviewForm(request.POST)
        if not form.is_valid():
            for name, errors in form.errors.items():
                messages.error(request, f"{form.fields[name].label}: {errors[0]}")
            return self._back(payment)
        note, reason = form.cleaned_data["note"], form.cleaned_data["reason"]
        try:
            flows.release_review(payment, by=request.user, note=note, reason=reason)
        except MultipayError as error:
            messages.error(request, str(error))
        else:
            said = f"{ReviewReason(reason).label}. {note}".strip()
            self._log(request, payment, gettext("Reviewed"), said)
            messages.success(request, gettext("The payment passed the review."))
        return self._back(payment)

    def operation_view(
        self, request: HttpRequest, payment_id: int, operation_id: int, act: str
    ) -> HttpResponse:
        """Approve a refund, or drop a call that is known not to have happened."""
        payment = self._payment(request, payment_id)
        operation = payment.operations.filter(pk=operation_id).first()
        if operation is None or act not in {"approve", "abandon"}:
            raise Http404
        kind = OperationKind(operation.kind)
        if kind not in PERMISSIONS or not may(request, PERMISSIONS[kind]):
            raise PermissionDenied
        step = STEPS[kind.value]
        if act == "approve":
            refund = payment.refunds.filter(operations=operation).first()
            if refund is None:
                raise Http404
            return self._carried_out(
                request,
                payment,
                step,
                lambda: flows.approve_refund(refund, by=request.user),
            )
        try:
            flows.abandon_operation(operation, by=request.user)
        except MultipayError as error:
            messages.error(request, str(error))
        else:
            self._log(request, payment, step.verb, gettext("dropped"))
            messages.success(request, gettext("What it had reserved is free again."))
        return self._back(payment)

    # What the pages are made of ---------------------------------------------------------

    def _payment(self, request: HttpRequest, object_id: int | str) -> Payment:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            payment = Payment.objects.defer("checkout_data").get(pk=object_id)
        except (Payment.DoesNotExist, ValueError, TypeError) as error:
            raise Http404 from error
        return payment

    def _context(self, request: HttpRequest, payment: Payment) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": payment,
            "payment": payment,
            "title": gettext("Payment of order %(order)s")
            % {"order": payment.order_id},
            "amount": money.display(payment.amount),
            "provider_name": _provider_name(payment),
        }

    def _steps(self, request: HttpRequest, payment: Payment) -> list[dict[str, Any]]:
        steps = [
            {
                "step": step,
                "refusal": why_not(payment, step.kind),
                "url": reverse(
                    "admin:multipay_payment_step", args=[payment.pk, step.kind.value]
                ),
            }
            for step in STEPS.values()
            if may(request, PERMISSIONS[step.kind])
        ]
        return sorted(steps, key=lambda item: bool(item["refusal"]))

    def _open_operations(
        self, request: HttpRequest, payment: Payment
    ) -> list[dict[str, Any]]:
        """Return the calls a person can do something about."""
        rows = payment.operations.filter(
            kind__in=PERMISSIONS,
            state__in=[OperationState.REQUESTED, OperationState.UNKNOWN],
        )
        return [
            {
                "operation": operation,
                "amount": money.display(
                    money.from_minor(operation.amount_minor, payment.currency)
                ),
                "waits_for_approval": operation.needs_approval
                and not operation.approved_by,
                "may_approve": operation.actor != request.user.get_username(),
                "is_allowed": may(request, PERMISSIONS[OperationKind(operation.kind)]),
            }
            for operation in rows
        ]

    def _log(
        self,
        request: HttpRequest,
        payment: Payment,
        act: StrOrPromise,
        outcome: str,
    ) -> None:
        self.log_change(request, payment, f"{act}: {outcome}")

    def _back(self, payment: Payment) -> HttpResponse:
        url = reverse("admin:multipay_payment_change", args=[payment.pk])
        return HttpResponseRedirect(url)


_FLOWS: Mapping[OperationKind, Callable[..., Refund | Operation]] = {
    OperationKind.REFUND: flows.refund_payment,
    OperationKind.CAPTURE: flows.capture_payment,
    OperationKind.VOID: flows.void_payment,
    OperationKind.CONFIRM: flows.confirm_payment,
    OperationKind.SETTLE: flows.settle_payment,
}


def _problem(error: InvalidOperation, payment: Payment, step: Step) -> str:
    """Return what to do about a form that was refused, in a person's words."""
    match error.field:
        case "expected_left":
            return gettext(
                "The payment has changed meanwhile: %(left)s is left. Please look at "
                "it again."
            ) % {"left": money.display(_left(payment, step))}
        case "idempotency_key":
            return gettext(
                "This form was sent before, with something else in it. Please look at "
                "the payment, then fill it in again."
            )
        case _:
            return str(error)


def _named_by_records(term: str) -> list[int]:
    """Return the payments whose facts or refunds bear the reference ``term``.

    Asked for by themselves: inside one condition they would cost the payments'
    indexes. Facts know what an account was called that left the settings.
    """
    facts = Transaction.objects.filter(provider_reference=term)
    refunds = Refund.objects.filter(merchant_reference=term)
    return [
        *facts.values_list("payment_id", flat=True)[:_MOST_NAMED],
        *refunds.values_list("payment_id", flat=True),
    ]


_MOST_NAMED = 100


def badge(text: object, tone: str) -> str:
    """Return ``text`` as a colored mark; the color never says more than the text."""
    return format_html(
        '<span class="multipay-badge multipay-{}">{}</span>', tone or "plain", text
    )


# Tickets: one form, one act ---------------------------------------------------------------


def _new_ticket(request: HttpRequest, payment: Payment, step: Step) -> str:
    """Return what a form carries: a key for this one act, and what its reader saw."""
    left = money.to_minor(_left(payment, step))
    value = [_purpose(request, payment, step), uuid.uuid4().hex, left]
    return signing.dumps(value, salt=TICKET_SALT)


def _read_ticket(
    ticket: str, request: HttpRequest, payment: Payment, step: Step
) -> tuple[str, Money] | None:
    try:
        purpose, key, left = signing.loads(ticket, salt=TICKET_SALT, max_age=TICKET_AGE)
    except signing.BadSignature:
        return None
    if purpose != _purpose(request, payment, step):
        return None
    return key, money.from_minor(left, payment.currency)


def _purpose(request: HttpRequest, payment: Payment, step: Step) -> list[str]:
    """Return whose ticket it is, and what for."""
    return [str(request.user.pk), str(payment.pk), step.kind.value]


def _left(payment: Payment, step: Step) -> Money:
    if step.kind == OperationKind.REFUND:
        return refundable(payment)
    if step.kind == OperationKind.CAPTURE:
        return capturable(payment)
    return payment.amount


def _form_of(
    payment: Payment,
    step: Step,
    data: Any,
    seen: tuple[str, Money] | None = None,
) -> OperationForm:
    """Return the form of a step; with ``seen``, judged by what its reader saw."""
    provider = registry[payment.provider]
    left = seen[1] if seen else _left(payment, step)
    match step.kind:
        case OperationKind.REFUND:
            return RefundForm(
                data,
                left=left,
                may_be_partial=Capability.PARTIAL_REFUND in provider.capabilities,
                needs_account=provider.needs_refund_account(query_of(payment)),
            )
        case OperationKind.CAPTURE:
            return AmountForm(
                data,
                left=left,
                may_be_partial=Capability.PARTIAL_CAPTURE in provider.capabilities,
            )
        case OperationKind.CONFIRM:
            return ConfirmForm(data)
        case _:
            return OperationForm(data)


def _preview(form: forms.Form) -> list[tuple[Any, str]]:
    """Return what was filled in, for people."""
    shown = []
    for name, field in form.fields.items():
        value = form.cleaned_data[name]
        if isinstance(value, Money):
            text = money.display(value)
        elif isinstance(value, bool):
            text = gettext("yes") if value else gettext("no")
        else:
            text = str(value)
        shown.append((field.label, text))
    return shown


def _hidden(form: forms.Form) -> Sequence[Any]:
    """Return what was filled in, to be sent once more with the confirmation."""
    return [(name, form[name].value()) for name in form.fields if form[name].value()]


def _report(done: Refund | Operation) -> tuple[int, str]:
    """Return how a step went: the level of its message, and the message."""
    if isinstance(done, Refund):
        status = RefundStatus(done.status)
        amount = money.display(done.amount)
        if status == RefundStatus.FAILED:
            return messages.ERROR, gettext("The provider refused: %(why)s") % {
                "why": done.error or status.label
            }
        operation = _operation_of(done)
        if operation.needs_approval and not operation.approved_by:
            return messages.WARNING, gettext(
                "The refund of %(amount)s waits for a second person."
            ) % {"amount": amount}
        is_known = status in {RefundStatus.SUCCEEDED, RefundStatus.PENDING}
        level = messages.SUCCESS if is_known else messages.WARNING
        return level, gettext("Refund of %(amount)s: %(status)s.") % {
            "amount": amount,
            "status": status.label,
        }
    state = OperationState(done.state)
    if state == OperationState.REFUSED:
        return messages.ERROR, gettext("The provider refused: %(why)s") % {
            "why": done.error or state.label
        }
    level = messages.SUCCESS if state == OperationState.SUCCEEDED else messages.WARNING
    return level, f"{done.get_kind_display()}: {state.label}".capitalize()


def _operation_of(done: Refund | Operation) -> Operation:
    return done.operations.latest("pk") if isinstance(done, Refund) else done


def _said(error: MultipayError) -> str:
    """Return an error for people; a provider's words may hold anything."""
    return storable(str(error), 255)


# What the page of a payment shows ----------------------------------------------------------


def _account(alias: str) -> Provider | None:
    """Return the provider behind ``alias``; None if it left the settings or is broken."""
    try:
        return registry[alias]
    except ProviderConfigurationError:
        return None


def _account_name(alias: str) -> str:
    provider = _account(alias)
    return f"{provider.display_name} ({alias})" if provider else alias


def _provider_name(payment: Payment) -> str:
    return _account_name(payment.provider) or gettext("not chosen yet")


def _why_no_account(payment: Payment) -> str:
    """Return why nothing at all can be asked of the provider; "" if it can."""
    if not payment.provider:
        return gettext("the buyer has not chosen a provider yet")
    if _account(payment.provider) is None:
        return gettext("its account is not in the settings")
    return ""


def _why_not_check(payment: Payment, *, is_open: bool) -> str:
    """Return why the provider cannot be asked; what is open can always be carried on."""
    refusal = _why_no_account(payment)
    if refusal or is_open:
        return refusal
    if Capability.FETCH not in registry[payment.provider].capabilities:
        return gettext("the provider cannot be asked")
    return ""


def _standing(payment: Payment) -> list[Any]:
    """Return everything that news from the provider would change."""
    return [
        payment.status,
        payment.review_reason,
        payment.transactions.count(),
        *payment.refunds.order_by("pk").values_list("pk", "status"),
        *payment.operations.order_by("pk").values_list("pk", "state"),
    ]


def _facts(payment: Payment) -> list[tuple[Any, Any]]:
    rows: list[tuple[Any, Any]] = [
        (_("Provider"), _provider_name(payment)),
        (_("Method"), payment.method),
        (_("Our reference"), payment.merchant_reference),
        (_("Provider's reference"), payment.provider_reference),
        (_("Provider's transaction"), payment.transaction_reference),
        (_("Public id"), payment.uuid),
        (_("Description"), payment.description),
        (_("Capture"), payment.get_capture_mode_display()),
        (_("Authorized"), _money_or_nothing(payment.authorized)),
        (_("Captured"), _money_or_nothing(payment.captured)),
        (_("Refunded"), _money_or_nothing(payment.refunded)),
        (_("Decline"), payment.get_decline_code_display()),
        (_("Created"), payment.created_at),
        (_("Paid"), payment.paid_at),
        (_("Expires"), payment.expires_at),
        (_("Asked again"), payment.sync_at),
        (_("Plan"), _row_link("recurringplan", payment.plan_id, payment.plan)),
        (_("Saved method"), _row_link("token", payment.token_id, payment.token)),
    ]
    return [(label, value) for label, value in rows if value]


def _row_link(model: str, pk: int | None, row: object) -> str:
    if pk is None:
        return ""
    url = reverse(f"admin:multipay_{model}_change", args=[pk])
    return format_html('<a href="{}">{}</a>', url, str(row))


def _money_or_nothing(amount: Money) -> str:
    return money.display(amount) if amount.amount else ""


def _buyer(payment: Payment, *, is_shown: bool) -> list[tuple[Any, str]]:
    rows = [
        (_("Name"), payment.buyer_name),
        (_("E-mail"), payment.buyer_email),
        (_("Phone"), payment.buyer_phone),
        (_("Country"), payment.buyer_country),
        (_("Customer"), payment.customer_id),
    ]
    return [
        (label, value if is_shown else masked(value)) for label, value in rows if value
    ]


PERSONAL_DETAILS = frozenset({"virtual_account_depositor", "virtual_account_number"})
"""What providers tell of a payment that leads to the person who paid."""


def _details(payment: Payment, *, is_shown: bool) -> list[tuple[str, Any]]:
    if not isinstance(payment.details, dict):
        return []
    return [
        (
            name.replace("_", " ").capitalize(),
            value if is_shown or name not in PERSONAL_DETAILS else masked(str(value)),
        )
        for name, value in sorted(payment.details.items())
    ]


def _items(payment: Payment) -> list[dict[str, Any]]:
    rows = payment.items if isinstance(payment.items, list) else []
    return [
        {**row, "total": _total(row, payment.currency)}
        for row in rows
        if isinstance(row, dict)
    ]


def _total(row: Mapping[str, Any], currency: str) -> str:
    """Return what a line of the order costs; "" where it does not say so."""
    match row:
        case {"unit_minor": int(unit), "quantity": int(quantity)} if (
            abs(unit * quantity) <= money.MAX_MINOR
        ):
            return money.display(money.from_minor(unit * quantity, currency))
        case _:
            return ""


def _refunds(payment: Payment) -> list[dict[str, Any]]:
    return [
        {
            "refund": refund,
            "amount": money.display(
                money.from_minor(refund.amount_minor, payment.currency)
            ),
            "status": badge(
                refund.get_status_display(),
                {
                    RefundStatus.SUCCEEDED.value: "good",
                    RefundStatus.FAILED.value: "bad",
                }.get(refund.status, "wait"),
            ),
        }
        for refund in payment.refunds.defer("account").order_by("-id")[:50]
    ]


def _attempts(payment: Payment) -> list[dict[str, Any]]:
    """Return the attempts to pay this order; nothing where it is the only one."""
    attempts = attempts_of(payment)
    return [
        {
            "attempt": attempt,
            "is_this": attempt.pk == payment.pk,
            "provider": _provider_name(attempt),
            "amount": money.display(attempt.amount),
            "status": badge(
                attempt.get_status_display(), TONES.get(attempt.status, "wait")
            ),
        }
        for attempt in attempts
        if len(attempts) > 1
    ]


_ADVICE: Mapping[str, Any] = {
    ReviewReason.UNDERPAID: _(
        "Less arrived than was asked for. Letting it pass accepts what arrived; "
        "otherwise refund it."
    ),
    ReviewReason.OVERPAID: _(
        "More arrived than was asked for. Refund the difference, or let it pass."
    ),
    ReviewReason.CHARGEBACK: _(
        "The buyer's bank took the money back. Answer at the provider; do not refund."
    ),
    ReviewReason.CONTRADICTION: _(
        "The provider reported success and failure. Check with the provider, and look "
        "at its console before you deliver."
    ),
    ReviewReason.RISK_REVIEW: _(
        "The provider's risk check wants a decision. Let it pass, or refund or void it."
    ),
    ReviewReason.PAID_TWICE: _(
        "Another attempt of this order was paid before. Refund or void this one; let "
        "it pass only if the buyer owes both."
    ),
}
_OTHER_ADVICE = _(
    "A message did not fit our record and was not applied. Compare with the provider's "
    "console before you let it pass."
)


def _review(payment: Payment) -> dict[str, Any] | None:
    if not payment.review_reason:
        return None
    return {
        "reason": payment.review_reason,
        "label": payment.get_review_reason_display(),
        "advice": _ADVICE.get(payment.review_reason, _OTHER_ADVICE),
    }
