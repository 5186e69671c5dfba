"""Everything else in the admin: to be read, and messages to be applied again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from django_multipay import flows, money
from django_multipay.admin.access import BUYER, REPLAY, masked, may, page
from django_multipay.admin.paging import LargeTableAdmin
from django_multipay.admin.payments import badge
from django_multipay.admin.timeline import REPLAYED
from django_multipay.enums import (
    NoticeState,
    OperationState,
    PlanStatus,
    RefundStatus,
    Source,
    TokenStatus,
    Verdict,
)
from django_multipay.exceptions import MultipayError
from django_multipay.models import (
    Notice,
    Operation,
    Refund,
    WebhookDelivery,
)
from django_multipay.models.fields import EncryptedJSONField
from django_multipay.redaction import storable

_GOOD = {
    RefundStatus.SUCCEEDED,
    OperationState.SUCCEEDED,
    Verdict.APPLIED,
    Verdict.IGNORED,
    TokenStatus.ACTIVE,
    PlanStatus.ACTIVE,
    NoticeState.DELIVERED,
}
_BAD = {
    RefundStatus.FAILED,
    OperationState.REFUSED,
    OperationState.ABANDONED,
    Verdict.HELD,
    TokenStatus.DEAD,
    TokenStatus.DELETED,
    PlanStatus.PAST_DUE,
    PlanStatus.CANCELED,
}


def tone(word: str) -> str:
    """Return the color of a status: good, bad, or still waiting."""
    return "good" if word in _GOOD else "bad" if word in _BAD else "wait"


def _payment_link(row: Any) -> str:
    if row.payment_id is None:
        return ""
    url = reverse("admin:multipay_payment_change", args=[row.payment_id])
    return format_html('<a href="{}">{}</a>', url, row.payment.order_id)


class RecordAdmin(LargeTableAdmin):
    """Rows that the flows write; nobody edits, adds or deletes them by hand."""

    change_form_template = "admin/multipay/record.html"
    hidden_fields: ClassVar[tuple[str, ...]] = ()
    """Secrets that no page shows."""

    class Media:
        css = {"all": ("multipay/admin/cockpit.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows with those they name, and without what is encrypted.

        A list must not open a hundred envelopes, nor fail at one that no key opens.
        """
        keys = [field for field in self.opts.fields if field.is_relation]
        sealed = [
            f"{key.name}__{field.name}"
            for key in keys
            for field in key.related_model._meta.fields  # type: ignore[union-attr]
            if isinstance(field, EncryptedJSONField)
        ]
        rows: QuerySet[Any] = super().get_queryset(request)
        named = rows.select_related(*(key.name for key in keys)) if keys else rows
        return named.defer(*self.hidden_fields, *sealed)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns, masked as `_visible` says."""
        return self._visible(request, super().get_list_display(request))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Return every column but the hidden ones; amounts in their currency."""
        return self._visible(
            request,
            (
                {"amount_minor": "shown_amount"}.get(field.name, field.name)
                for field in self.opts.fields
                if not field.primary_key
                and field.name not in {*self.hidden_fields, "currency"}
            ),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Return all of them."""
        return self.get_fields(request, obj)

    def _visible(self, request: HttpRequest, names: Iterable[Any]) -> list[Any]:
        """Return ``names``, with the buyer masked for whom may not see buyers."""
        shown = {} if may(request, BUYER) else {"customer_id": "masked_customer"}
        return [shown.get(name, name) for name in names]

    @admin.display(description=_("customer"))
    def masked_customer(self, row: Any) -> str:
        """The shop's id of the buyer, which may well be an e-mail address."""
        return masked(row.customer_id)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may see or change such rows."""
        name = self.opts.model_name
        return any(may(request, f"multipay.{act}_{name}") for act in ("view", "change"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


class WebhookDeliveryAdmin(RecordAdmin):
    """The inbox: every authentic message, what became of it, and once more."""

    list_display = (
        "received_at",
        "shown_verdict",
        "payment_link",
        "provider",
        "source_label",
        "error",
    )
    list_filter = ("verdict",)
    hidden_fields = ("payload", "digest")

    @admin.display(description=_("came by"))
    def source_label(self, delivery: WebhookDelivery) -> str:
        """Webhook or buyer's return."""
        return str(dict(Source.choices).get(delivery.source, delivery.source))

    @admin.display(description=_("verdict"))
    def shown_verdict(self, delivery: WebhookDelivery) -> str:
        """What became of it, as a colored mark."""
        return badge(delivery.get_verdict_display(), tone(delivery.verdict))

    @admin.display(description=_("order"))
    def payment_link(self, delivery: WebhookDelivery) -> str:
        """The payment it is about."""
        return _payment_link(delivery)

    def get_urls(self) -> list[URLPattern]:
        """Add the way to apply a message again."""
        return [
            path(
                "<int:delivery_id>/replay/",
                page(self.admin_site, require_POST(self.replay_view)),
                name="multipay_webhookdelivery_replay",
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
        """Show a message; with a button to apply it again where that makes sense."""
        delivery = self.get_object(request, unquote(object_id))
        replay_url = ""
        if delivery is not None and may(request, REPLAY):
            # Compared in the database, so that nothing is decrypted to be looked at.
            sealed = WebhookDelivery.objects.exclude(payload="").filter(pk=delivery.pk)
            if sealed.exists():
                name = "admin:multipay_webhookdelivery_replay"
                replay_url = reverse(name, args=[delivery.pk])
        context = {"replay_url": replay_url, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def replay_view(self, request: HttpRequest, delivery_id: int) -> HttpResponse:
        """Apply a stored or held message again."""
        if not self.has_view_permission(request) or not may(request, REPLAY):
            raise PermissionDenied
        try:
            delivery = WebhookDelivery.objects.filter(pk=delivery_id).first()
            if delivery is None:
                raise Http404
            if delivery.payload is None:
                text = gettext("This message was applied; nothing is left to apply.")
                messages.info(request, text)
            else:
                self._replay(request, delivery)
        except MultipayError as error:
            messages.error(request, storable(str(error), 255))
        url = reverse("admin:multipay_webhookdelivery_change", args=[delivery_id])
        return HttpResponseRedirect(url)

    def _replay(self, request: HttpRequest, delivery: WebhookDelivery) -> None:
        verdict = flows.replay_delivery(delivery)
        self.log_change(request, delivery, f"{REPLAYED}: {verdict}")
        if delivery.payment is not None:
            self.log_change(request, delivery.payment, f"{REPLAYED}: {verdict}")
        is_done = verdict in {Verdict.APPLIED, Verdict.IGNORED}
        messages.add_message(
            request,
            messages.SUCCESS if is_done else messages.WARNING,
            gettext("Applied again: %(verdict)s") % {"verdict": verdict.label},
        )


class RefundAdmin(RecordAdmin):
    """Every refund, ours and those made at the provider."""

    list_display = (
        "created_at",
        "payment_link",
        "shown_amount",
        "shown_status",
        "reason",
        "requested_by",
        "is_external",
    )
    list_filter = ("status", "is_external")
    hidden_fields = ("account",)

    @admin.display(description=_("order"))
    def payment_link(self, refund: Refund) -> str:
        """The payment it gives back."""
        return _payment_link(refund)

    @admin.display(description=_("amount"))
    def shown_amount(self, refund: Refund) -> str:
        """How much, in its currency."""
        return money.display(refund.amount)

    @admin.display(description=_("status"))
    def shown_status(self, refund: Refund) -> str:
        """Where it stands, as a colored mark."""
        return badge(refund.get_status_display(), tone(refund.status))


class OperationAdmin(RecordAdmin):
    """Every call that changes something at a provider, written ahead."""

    list_display = (
        "created_at",
        "kind",
        "shown_state",
        "payment_link",
        "shown_amount",
        "actor",
        "attempts",
        "error",
    )
    list_filter = ("state", "kind", "needs_approval")
    hidden_fields = ("key", "client_key", "client_fingerprint", "lease_token")

    @admin.display(description=_("state"))
    def shown_state(self, operation: Operation) -> str:
        """Where the call stands, as a colored mark."""
        return badge(operation.get_state_display(), tone(operation.state))

    @admin.display(description=_("amount"))
    def shown_amount(self, operation: Operation) -> str:
        """How much, in the currency of the payment."""
        if operation.payment is None or not operation.amount_minor:
            return ""
        return money.display(
            money.from_minor(operation.amount_minor, operation.payment.currency)
        )

    @admin.display(description=_("order"))
    def payment_link(self, operation: Operation) -> str:
        """The payment it is about."""
        return _payment_link(operation)


class NoticeAdmin(RecordAdmin):
    """The outbox: what the shop was told, and what it must still hear."""

    list_display = (
        "created_at",
        "payment_link",
        "signals",
        "state",
        "attempts",
        "error",
    )
    list_filter = ("state",)

    @admin.display(description=_("order"))
    def payment_link(self, notice: Notice) -> str:
        """The payment it is about."""
        return _payment_link(notice)
