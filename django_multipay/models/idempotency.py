"""What was answered to a request that may come again."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_multipay.models.fields import EncryptedJSONField


class IdempotencyKey(models.Model):
    """One ``Idempotency-Key`` of one caller, for a day; the key itself is not kept.

    While ``answer_status`` is NULL the request is under way, or its worker died: then
    ``lease_until`` says from when on another one may carry it on.
    """

    digest = models.CharField(max_length=64, editable=False)
    """Who asked, and under which key."""
    fingerprint = models.CharField(max_length=64, editable=False)
    """What was asked: method, path and body."""
    lease_token = models.CharField(max_length=32, editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    answer_status = models.PositiveSmallIntegerField(null=True, editable=False)
    answer_body = EncryptedJSONField(default=None, blank=True, editable=False)
    answer_location = models.CharField(max_length=255, blank=True, editable=False)
    expires_at = models.DateTimeField(editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["expires_at"], name="multipay_idempotency_expiry"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["digest"], name="multipay_idempotency_digest"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.digest[:8]} ({self.answer_status or '…'})"
