"""Endpoints in the admin: who hears of events, with which secret, and what became of it.

A secret is shown once, in the answer to a press of a button, and stored nowhere on the
way: not in a message, which cookies and sessions keep, and not in an address.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from django_multipay import flows
from django_multipay.admin.access import may, page
from django_multipay.admin.paging import LargeTableAdmin
from django_multipay.admin.payments import badge
from django_multipay.admin.records import RecordAdmin
from django_multipay.enums import EndpointDeliveryState, EndpointStatus
from django_multipay.exceptions import InvalidOperation, MultipayError
from django_multipay.flows.endpoints import EVENT_TYPES, checked_url
from django_multipay.models import Endpoint, EndpointDelivery
from django_multipay.redaction import storable

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    EndpointFormBase = forms.ModelForm[Endpoint]
else:
    EndpointFormBase = forms.ModelForm

MANAGE = "multipay.change_endpoint"
"""Every step of an endpoint changes what leaves the house."""

_TONES: Mapping[str, str] = {
    EndpointStatus.ENABLED: "good",
    EndpointStatus.DISABLED: "bad",
    EndpointDeliveryState.DELIVERED: "good",
    EndpointDeliveryState.FAILED: "bad",
}


def _tone(word: str) -> str:
    return _TONES.get(word, "wait")


class EndpointForm(EndpointFormBase):
    """Where events go, and which."""

    url = forms.CharField(
        label=_("Address"),
        max_length=500,
        widget=forms.URLInput(attrs={"class": "vLargeTextField"}),
        help_text=_("Begins with https:// and belongs to the public internet."),
    )
    events = forms.MultipleChoiceField(
        label=_("Events"),
        required=False,
        choices=[(name, name) for name in EVENT_TYPES],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Nothing chosen: all of them, also those of later versions."),
    )

    class Meta:
        model = Endpoint
        fields = ("url", "description", "events")

    def clean_url(self) -> str:
        """Refuse what nothing would be sent to."""
        try:
            return checked_url(self.cleaned_data["url"])
        except InvalidOperation as error:
            raise ValidationError(storable(str(error), 255)) from None


class SinceForm(forms.Form):
    """From which moment on events are sent again."""

    since = forms.DateTimeField(
        label=_("Send again everything since"),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )


Said = tuple[int, str]
"""A level of Django's messages, and a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One button of an endpoint's page."""

    verb: StrOrPromise
    run: Callable[[Endpoint], Said]
    is_for: frozenset[str] = frozenset(EndpointStatus.values)
    is_grave: bool = False


def _rotate(endpoint: Endpoint) -> Said:
    flows.rotate_secret(endpoint)
    text = gettext("A new secret signs from now on; the old one signs on for a day.")
    return messages.SUCCESS, text


def _replace(endpoint: Endpoint) -> Said:
    flows.rotate_secret(endpoint, keep_for=timedelta())
    text = gettext("A new secret signs from now on; the old one signs nothing more.")
    return messages.SUCCESS, text


def _test(endpoint: Endpoint) -> Said:
    return _outcome(flows.send_test_event(endpoint))


def _outcome(delivery: EndpointDelivery) -> Said:
    if delivery.state == EndpointDeliveryState.DELIVERED:
        return messages.SUCCESS, gettext("The endpoint took the event.")
    if delivery.error:
        return messages.WARNING, gettext("It was not taken: %(error)s") % {
            "error": delivery.error
        }
    text = gettext("It is not sent now: the endpoint is disabled, or it is under way.")
    return messages.WARNING, text


def _enable(endpoint: Endpoint) -> Said:
    flows.enable_endpoint(endpoint)
    text = gettext("Enabled. What happened meanwhile can be sent again below.")
    return messages.SUCCESS, text


def _disable(endpoint: Endpoint) -> Said:
    flows.disable_endpoint(endpoint)
    return messages.SUCCESS, gettext("Disabled: it hears of nothing more.")


_ENABLED = frozenset({EndpointStatus.ENABLED.value})
_DISABLED = frozenset({EndpointStatus.DISABLED.value})

ACTS: Mapping[str, Act] = {
    "test": Act(verb=_("Send a test event"), run=_test, is_for=_ENABLED),
    "rotate": Act(verb=_("New secret"), run=_rotate),
    "replace": Act(
        verb=_("New secret, drop the old one now"), run=_replace, is_grave=True
    ),
    "disable": Act(verb=_("Disable"), run=_disable, is_for=_ENABLED, is_grave=True),
    "enable": Act(verb=_("Enable"), run=_enable, is_for=_DISABLED),
}


class EndpointAdmin(LargeTableAdmin):
    """Who hears of events; added and changed here, disabled instead of deleted."""

    form = EndpointForm
    list_display = ("shown_name", "shown_status", "shown_events", "failing_since")
    list_filter = ("status",)
    readonly_fields = (
        "shown_status",
        "disabled_reason",
        "failing_since",
        "paused_until",
        "shown_secret",
        "created_at",
    )
    change_form_template = "admin/multipay/endpoint/change_form.html"

    class Media:
        css = {"all": ("multipay/admin/cockpit.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the endpoints without their secrets."""
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.defer("secrets")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return what nobody edits; a new endpoint has nothing of it yet."""
        return self.readonly_fields if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: what it was sent stays on record."""
        return False

    @admin.display(description=_("endpoint"))
    def shown_name(self, endpoint: Endpoint) -> str:
        """What it is called, or where it is."""
        return str(endpoint)

    @admin.display(description=_("status"))
    def shown_status(self, endpoint: Endpoint) -> str:
        """Whether it is told, as a colored mark."""
        return badge(endpoint.get_status_display(), _tone(endpoint.status))

    @admin.display(description=_("events"))
    def shown_events(self, endpoint: Endpoint) -> str:
        """What it hears of."""
        return ", ".join(endpoint.events) or gettext("all")

    @admin.display(description=_("secret"))
    def shown_secret(self, endpoint: Endpoint) -> str:
        """Whether somebody has seen it; never the secret."""
        if endpoint.secret_shown_at is None:
            return gettext("not shown yet")
        return "whsec_••••"

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: bool
    ) -> None:
        """Let the flows write, who make the secret."""
        values = {name: form.cleaned_data[name] for name in EndpointForm.Meta.fields}
        if change:
            flows.change_endpoint(obj, **values)
        else:
            obj.pk = flows.create_endpoint(**values).pk

    # The steps ------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add the buttons of an endpoint's page."""
        views = {
            "reveal": self.reveal_view,
            "resend": self.resend_view,
            **dict.fromkeys(ACTS, self.act_view),
        }
        return [
            *(
                path(
                    f"<int:endpoint_id>/{name}/",
                    page(self.admin_site, require_POST(view)),
                    {"act": name},
                    name=f"multipay_endpoint_{name}",
                )
                for name, view in views.items()
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
        """Show an endpoint, with buttons for who may change it."""
        endpoint = self.get_object(request, unquote(object_id))
        context: dict[str, Any] = {}
        if endpoint is not None and may(request, MANAGE):
            context = {
                "acts": [
                    (self._url(endpoint, name), act)
                    for name, act in ACTS.items()
                    if endpoint.status in act.is_for
                ],
                "reveal_url": ""
                if endpoint.secret_shown_at
                else self._url(endpoint, "reveal"),
                "resend_url": self._url(endpoint, "resend"),
                "since_form": SinceForm(),
            }
        if endpoint is not None:
            name = "admin:multipay_endpointdelivery_changelist"
            context["deliveries_url"] = f"{reverse(name)}?endpoint={endpoint.pk}"
        context |= extra_context or {}
        return super().change_view(request, object_id, form_url, context)

    @staticmethod
    def _url(endpoint: Endpoint, name: str) -> str:
        return reverse(f"admin:multipay_endpoint_{name}", args=[endpoint.pk])

    def _endpoint(self, request: HttpRequest, endpoint_id: int) -> Endpoint:
        if not may(request, MANAGE):
            raise PermissionDenied
        endpoint = self.get_object(request, str(endpoint_id))
        if endpoint is None:
            raise Http404
        found: Endpoint = endpoint
        return found

    def act_view(
        self, request: HttpRequest, endpoint_id: int, act: str
    ) -> HttpResponse:
        """Do what a button says."""
        endpoint = self._endpoint(request, endpoint_id)
        try:
            level, text = ACTS[act].run(endpoint)
        except MultipayError as error:
            level, text = messages.ERROR, storable(str(error), 255)
        else:
            self.log_change(request, endpoint, str(ACTS[act].verb))
        messages.add_message(request, level, text)
        return self._back(endpoint)

    def reveal_view(
        self, request: HttpRequest, endpoint_id: int, act: str
    ) -> HttpResponse:
        """Show the newest secret, once."""
        endpoint = self._endpoint(request, endpoint_id)
        try:
            secret = flows.reveal_secret(endpoint)
        except MultipayError as error:
            messages.error(request, storable(str(error), 255))
            return self._back(endpoint)
        if secret is None:
            text = gettext("The secret was shown before. Make a new one if it is lost.")
            messages.warning(request, text)
            return self._back(endpoint)
        self.log_change(request, endpoint, "Secret shown")
        # The admin lets no browser keep its pages.
        return TemplateResponse(
            request,
            "admin/multipay/endpoint/secret.html",
            {
                **self.admin_site.each_context(request),
                "title": gettext("The secret of this endpoint"),
                "opts": self.opts,
                "endpoint": endpoint,
                "secret": secret,
            },
        )

    def resend_view(
        self, request: HttpRequest, endpoint_id: int, act: str
    ) -> HttpResponse:
        """Send again whatever happened since a moment."""
        endpoint = self._endpoint(request, endpoint_id)
        form = SinceForm(request.POST)
        if form.is_valid():
            count = flows.resend_since(endpoint, form.cleaned_data["since"])
            text = ngettext(
                "%(count)s event is sent again.",
                "%(count)s events are sent again.",
                count,
            )
            messages.success(request, text % {"count": count})
            since = form.cleaned_data["since"].isoformat()
            self.log_change(request, endpoint, f"Events sent again since {since}")
        else:
            messages.error(request, gettext("Say since when, as a date and a time."))
        return self._back(endpoint)

    def _back(self, endpoint: Endpoint) -> HttpResponse:
        name = "admin:multipay_endpoint_change"
        return HttpResponseRedirect(reverse(name, args=[endpoint.pk]))


class EndpointFilter(admin.SimpleListFilter):
    """By endpoint."""

    title = _("endpoint")
    parameter_name = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return every endpoint."""
        rows = Endpoint.objects.defer("secrets")
        return [(str(endpoint.pk), str(endpoint)) for endpoint in rows]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep the deliveries of the chosen endpoint."""
        chosen = [pk for pk, _name in self.lookup_choices if pk == self.value()]
        return queryset.filter(endpoint__in=chosen) if self.value() else queryset


class EndpointDeliveryAdmin(RecordAdmin):
    """Every event for every endpoint, what became of it, and once more."""

    change_form_template = "admin/multipay/endpoint/delivery.html"
    list_display = (
        "created_at",
        "shown_event",
        "shown_state",
        "attempts",
        "error",
    )
    list_filter = ("state", EndpointFilter)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Return the columns, the body in a shape for people."""
        names = super().get_fields(request, obj)
        return ["shown_body" if name == "body" else name for name in names]

    @admin.display(description=_("body"))
    def shown_body(self, delivery: EndpointDelivery) -> str:
        """What is sent, a line for each thing."""
        said = json.loads(delivery.body)
        text = json.dumps(said, indent=2, ensure_ascii=False)
        return format_html("<pre>{}</pre>", text)

    @admin.display(description=_("event"))
    def shown_event(self, delivery: EndpointDelivery) -> str:
        """What is told, and to whom."""
        return format_html(
            '{} <span class="multipay-note">{}</span>',
            delivery.event_type,
            Truncator(str(delivery.endpoint)).chars(30),
        )

    @admin.display(description=_("state"))
    def shown_state(self, delivery: EndpointDelivery) -> str:
        """What became of it, as a colored mark."""
        return badge(delivery.get_state_display(), _tone(delivery.state))

    def get_urls(self) -> list[URLPattern]:
        """Add the way to send one again."""
        return [
            path(
                "<int:delivery_id>/send/",
                page(self.admin_site, require_POST(self.send_view)),
                name="multipay_endpointdelivery_send",
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
        """Show a delivery, with a button to send it again."""
        delivery = self.get_object(request, unquote(object_id))
        send_url = ""
        if delivery is not None and may(request, MANAGE):
            name = "admin:multipay_endpointdelivery_send"
            send_url = reverse(name, args=[delivery.pk])
        context = {"send_url": send_url, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def send_view(self, request: HttpRequest, delivery_id: int) -> HttpResponse:
        """Send one delivery again, now."""
        if not self.has_view_permission(request) or not may(request, MANAGE):
            raise PermissionDenied
        delivery = self.get_object(request, str(delivery_id))
        if delivery is None:
            raise Http404
        done = flows.send_now(delivery)
        messages.add_message(request, *_outcome(done))
        self.log_change(request, delivery, f"Sent again: {done.state}")
        url = reverse("admin:multipay_endpointdelivery_change", args=[delivery_id])
        return HttpResponseRedirect(url)
