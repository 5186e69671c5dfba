"""How the conversation with each provider account goes."""

from __future__ import annotations

from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_multipay.admin.payments import badge
from django_multipay.admin.records import RecordAdmin
from django_multipay.models import AccountHealth


class AccountHealthAdmin(RecordAdmin):
    """Each account: does it answer, does it accept our key, since when not."""

    list_display = (
        "provider",
        "shown_state",
        "succeeded_at",
        "failed_at",
        "failure",
        "failures",
        "paused_until",
    )

    @admin.display(description=_("state"))
    def shown_state(self, health: AccountHealth) -> str:
        """What a person should know first, as a colored mark."""
        if health.is_refused:
            return badge(gettext("credentials refused"), "bad")
        if health.paused_until and health.paused_until > timezone.now():
            return badge(gettext("left alone for a while"), "bad")
        if health.failures:
            return badge(gettext("failing"), "wait")
        return badge(gettext("answers"), "good")
