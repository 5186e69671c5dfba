"""One step for many payments: chosen in the list, confirmed, watched on a page."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from django_multipay import money
from django_multipay.admin.access import CHECK, PERMISSIONS, may
from django_multipay.admin.timeline import CHECKED
from django_multipay.enums import BatchItemState, BatchKind, OperationKind
from django_multipay.exceptions import InvalidOperation
from django_multipay.flows.batches import MOST, create_batch
from django_multipay.models import Batch, BatchItem, Payment

if TYPE_CHECKING:
    BatchAdminBase = admin.ModelAdmin[Batch]
else:
    BatchAdminBase = admin.ModelAdmin

logger = logging.getLogger("django_multipay.admin")

NEEDED: Mapping[str, str] = {
    BatchKind.CHECK: CHECK,
    BatchKind.CAPTURE: PERMISSIONS[OperationKind.CAPTURE],
    BatchKind.VOID: PERMISSIONS[OperationKind.VOID],
    BatchKind.REFUND: PERMISSIONS[OperationKind.REFUND],
}
"""What each kind of batch needs of the person who asks for it."""

REFRESH_SECONDS = "3"


def start(kind: BatchKind, request: HttpRequest, chosen: Any) -> HttpResponse:
    """Show what was chosen and ask for a yes; then begin."""
    if not may(request, NEEDED[kind]):
        raise PermissionDenied
    payments = list(chosen.order_by("id")[: MOST + 1])
    if len(payments) > MOST:
        messages.error(
            request,
            gettext("Choose at most %(most)d payments at once.") % {"most": MOST},
        )
        return HttpResponseRedirect(request.get_full_path())
    if "confirmed" not in request.POST:
        return _ask(kind, request, payments)
    try:
        batch = create_batch(kind, payments, by=request.user)
    except InvalidOperation as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(request.get_full_path())
    for payment in payments:
        _log(request, payment, batch)
    _enqueue(batch)
    return HttpResponseRedirect(reverse("admin:multipay_batch_change", args=[batch.pk]))


def _ask(
    kind: BatchKind, request: HttpRequest, payments: list[Payment]
) -> HttpResponse:
    totals: Counter[str] = Counter()
    for payment in payments:
        totals[payment.currency] += payment.amount_minor
    return TemplateResponse(
        request,
        "admin/multipay/batch/confirm.html",
        {
            **admin.site.each_context(request),
            "title": str(kind.label).capitalize(),
            "opts": Payment._meta,
            "kind": kind,
            "payments": payments,
            "totals": [
                money.display(money.from_minor(minor, code))
                for code, minor in sorted(totals.items())
            ],
            "action_name": f"batch_{kind}",
            "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "list_url": reverse("admin:multipay_payment_changelist"),
        },
    )


def _log(request: HttpRequest, payment: Payment, batch: Batch) -> None:
    payment_admin = admin.site.get_model_admin(Payment)
    is_check = batch.kind == BatchKind.CHECK
    act = CHECKED if is_check else batch.get_kind_display()
    payment_admin.log_change(request, payment, f"{act}: {batch}")


def _summary(items: list[BatchItem]) -> str:
    """Say what became of how many, in the order in which it happens to each."""
    found = Counter(item.state for item in items)
    told = [f"{found[state]} {state.label}" for state in BatchItemState if found[state]]
    return ngettext(
        "%(count)d payment: %(told)s.", "%(count)d payments: %(told)s.", len(items)
    ) % {"count": len(items), "told": ", ".join(told)}


def _enqueue(batch: Batch) -> None:
    # Only here: a site without the extra "tasks" must be able to start.
    from django_multipay.tasks import carry_out_batch

    def enqueue() -> None:
        try:
            carry_out_batch.enqueue(str(batch.uuid))
        except Exception:
            # The batch is written: its page shows what waits, with a way to go on.
            logger.exception("batch %s was not given to the task engine", batch.uuid)

    # Under ATOMIC_REQUESTS no worker could see the batch before the commit.
    transaction.on_commit(enqueue)


def _has_engine() -> bool:
    """Say whether this Django has tasks, by itself or by the extra ``tasks``."""
    return any(map(find_spec, ("django.tasks", "django_tasks")))


def _action(kind: BatchKind) -> Any:
    def act(modeladmin: Any, request: HttpRequest, chosen: Any) -> HttpResponse:
        return start(kind, request, chosen)

    act.__name__ = f"batch_{kind}"
    return act


ACTIONS = {kind: _action(kind) for kind in BatchKind}


class BatchAdmin(BatchAdminBase):
    """What was asked for, and how far it got."""

    list_display = ("created_at", "kind", "actor", "progress")
    ordering = ("-id",)
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: batches are made in the list of payments."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may see payments."""
        return may(request, "multipay.view_payment") or may(request, CHECK)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the batches with their counts, in one query."""
        waiting = Q(items__state=BatchItemState.WAITING)
        return (
            super()
            .get_queryset(request)
            .annotate(size=Count("items"), waiting=Count("items", filter=waiting))
        )

    @admin.display(description=_("progress"))
    def progress(self, batch: Any) -> str:
        """How many payments are done."""
        return f"{batch.size - batch.waiting} / {batch.size}"

    def get_urls(self) -> list[URLPattern]:
        """Add the way to carry an interrupted batch on."""
        return [
            path(
                "<int:batch_id>/go-on/",
                self.admin_site.admin_view(require_POST(self.go_on_view)),
                name="multipay_batch_go_on",
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
        """Show how far a batch is; the page asks again by itself while it runs."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        batch = self.get_object(request, object_id)
        if batch is None:
            raise Http404
        items = list(
            batch.items.select_related("payment").defer("payment__checkout_data")
        )
        waiting = sum(item.state == BatchItemState.WAITING for item in items)
        response = TemplateResponse(
            request,
            "admin/multipay/batch/progress.html",
            {
                **self.admin_site.each_context(request),
                "title": str(batch.get_kind_display()).capitalize(),
                "opts": self.opts,
                "batch": batch,
                "items": items,
                "done": len(items) - waiting,
                "waiting": waiting,
                "may_go_on": may(request, NEEDED[batch.kind]),
                "summary": _summary(items),
            },
        )
        if waiting:
            # A header, not a script: it works under the strictest policy.
            response["Refresh"] = REFRESH_SECONDS
        return response

    def go_on_view(self, request: HttpRequest, batch_id: int) -> HttpResponse:
        """Carry on with what still waits."""
        batch = self.get_object(request, str(batch_id))
        if batch is None:
            raise Http404
        is_allowed = may(request, NEEDED[batch.kind])
        if not (is_allowed and self.has_view_permission(request)):
            raise PermissionDenied
        _enqueue(batch)
        url = reverse("admin:multipay_batch_change", args=[batch_id])
        return HttpResponseRedirect(url)


def actions_for(request: HttpRequest) -> dict[str, Any]:
    """Return the actions that the person behind ``request`` may choose."""
    if not _has_engine():
        return {}
    return {
        act.__name__: (act, act.__name__, str(kind.label).capitalize())
        for kind, act in ACTIONS.items()
        if may(request, NEEDED[kind])
    }
