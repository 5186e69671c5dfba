"""Saved methods in the admin: what may be shown of them, and the way to delete one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from django_multipay import flows
from django_multipay.admin.access import END_TOKEN, may, page
from django_multipay.admin.payments import badge
from django_multipay.admin.records import RecordAdmin, tone
from django_multipay.enums import TokenStatus
from django_multipay.exceptions import MultipayError
from django_multipay.models import Token
from django_multipay.redaction import storable

DELETED = "Deleted at the provider"
"""What the log says; the same in every language."""


class TokenAdmin(RecordAdmin):
    """Saved methods, by what may be shown of them."""

    change_form_template = "admin/multipay/token.html"
    list_display = (
        "created_at",
        "shown_status",
        "brand",
        "last4",
        "expires_on",
        "provider",
        "customer_id",
    )
    list_filter = ("status",)
    hidden_fields = ("provider_token", "identity", "token_digest", "fingerprint")

    @admin.display(description=_("status"))
    def shown_status(self, token: Token) -> str:
        """Whether it may be charged, as a colored mark."""
        return badge(token.get_status_display(), tone(token.status))

    def get_urls(self) -> list[URLPattern]:
        """Add the way to delete a method for good."""
        return [
            path(
                "<int:token_id>/end/",
                page(self.admin_site, require_POST(self.end_view)),
                name="multipay_token_end",
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
        """Show a method; with a button to delete it as long as something is left."""
        token = self.get_object(request, unquote(object_id))
        end_url = ""
        if token is not None and may(request, END_TOKEN) and _is_left(token):
            end_url = reverse("admin:multipay_token_end", args=[token.pk])
        context = {"end_url": end_url, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def end_view(self, request: HttpRequest, token_id: int) -> HttpResponse:
        """Delete a method at the provider, where it can, and here."""
        if not self.has_view_permission(request) or not may(request, END_TOKEN):
            raise PermissionDenied
        # Whether or not a key opens it, it can be deleted.
        rows = Token.objects.defer("provider_token", "identity")
        token = rows.filter(pk=token_id).first()
        if token is None:
            raise Http404
        try:
            flows.delete_token(token, by=request.user)
            messages.success(request, gettext("The saved method was deleted."))
        except MultipayError as error:
            messages.error(request, storable(str(error), 255))
        self.log_change(request, token, DELETED)
        url = reverse("admin:multipay_token_change", args=[token_id])
        return HttpResponseRedirect(url)


def _is_left(token: Token) -> bool:
    """Say whether there is anything to delete; compared without decrypting."""
    kept = Token.objects.exclude(provider_token="").filter(pk=token.pk)
    return token.status != TokenStatus.DELETED or kept.exists()
