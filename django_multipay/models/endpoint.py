"""Addresses of the shop's own systems, and what each of them has to hear."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from django.db import models
from django.dispatch import Signal
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from django_multipay.enums import (
    EndpointDeliveryState,
    EndpointStatus,
    EndpointTrouble,
)
from django_multipay.models.fields import EncryptedJSONField
from django_multipay.models.operation import Notice

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager

deliveries_written = Signal()
"""Sent when deliveries wait; a task engine wakes up by it. Not for shops."""


class Endpoint(models.Model):
    """An address that hears of events by signed HTTP requests."""

    Status = EndpointStatus

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    url = models.CharField(_("address"), max_length=500)
    description = models.CharField(_("description"), max_length=255, blank=True)
    events = models.JSONField(_("events"), default=list, blank=True)
    """Types of events it hears of; empty: all."""
    secrets = EncryptedJSONField(editable=False)
    """The newest first: ``{"secret": "whsec_…", "retires_at": moment or None}``."""
    secret_shown_at = models.DateTimeField(
        _("secret shown at"), null=True, editable=False
    )
    """When staff saw the newest secret; it is not shown again."""
    status = models.CharField(
        _("status"),
        max_length=10,
        choices=EndpointStatus.choices,
        default=EndpointStatus.ENABLED,
        editable=False,
    )
    disabled_reason = models.CharField(
        _("disabled because"),
        max_length=10,
        choices=EndpointTrouble.choices,
        blank=True,
        editable=False,
    )
    failing_since = models.DateTimeField(_("failing since"), null=True, editable=False)
    """The first failure after the last success; None while all is well."""
    paused_until = models.DateTimeField(
        _("not called before"), null=True, editable=False
    )
    """Nothing is sent there before: it gave no answer, or asked for a rest."""
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    if TYPE_CHECKING:
        deliveries: RelatedManager[EndpointDelivery]

    class Meta:
        verbose_name = _("endpoint")
        verbose_name_plural = _("endpoints")
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        # Without the path, which may hold what lets one in.
        return self.description or urlsplit(self.url).netloc

    @property
    def live_secrets(self) -> Sequence[str]:
        """The secrets that sign what is sent now, the newest first."""
        kept: Sequence[Mapping[str, str | None]] = self.secrets
        now = timezone.now()
        return [
            str(one["secret"])
            for one in kept
            if (retires_at := parse_datetime(one["retires_at"] or "")) is None
            or retires_at > now
        ]

    def hears_of(self, event_type: str) -> bool:
        """Say whether an event of this type goes there."""
        return not self.events or event_type in self.events


class EndpointDelivery(models.Model):
    """One event for one endpoint: written once, sent until it is taken."""

    State = EndpointDeliveryState

    endpoint = models.ForeignKey(
        Endpoint,
        on_delete=models.PROTECT,
        verbose_name=_("endpoint"),
        related_name="deliveries",
        db_index=False,  # The constraint's begins with it.
    )
    # Gone with its notice, which is deleted only when its time is over.
    notice = models.ForeignKey(
        Notice,
        on_delete=models.CASCADE,
        verbose_name=_("notice"),
        null=True,
        related_name="endpoint_deliveries",
    )
    """The fact it tells of; None for a test event."""
    event_id = models.CharField(_("event"), max_length=40, editable=False)
    """``webhook-id``: the same for every attempt, and for every endpoint."""
    event_type = models.CharField(_("type"), max_length=64, editable=False)
    body = models.TextField(editable=False)
    """Exactly what is signed and sent."""
    state = models.CharField(
        _("state"),
        max_length=10,
        choices=EndpointDeliveryState.choices,
        default=EndpointDeliveryState.WAITING,
    )
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    due_at = models.DateTimeField(_("not before"), default=timezone.now)
    """Not before this moment; a claim moves it forward, so it is the lease too."""
    last_status = models.PositiveSmallIntegerField(
        _("last HTTP status"), null=True, editable=False
    )
    """None when no answer came."""
    error = models.CharField(_("error"), max_length=255, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    delivered_at = models.DateTimeField(_("delivered at"), null=True)

    class Meta:
        verbose_name = _("endpoint delivery")
        verbose_name_plural = _("endpoint deliveries")
        ordering: ClassVar[list[str]] = ["-id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["endpoint", "state", "due_at", "id"],
                name="multipay_endpoint_due",
            ),
            models.Index(
                fields=["-created_at", "-id"], name="multipay_endpoint_created"
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["endpoint", "event_id"], name="multipay_endpoint_event_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} ({self.get_state_display()})"
