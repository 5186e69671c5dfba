"""One step for many payments, asked for by one person."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_multipay.enums import BatchItemState, BatchKind
from django_multipay.models.payment import Payment

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager


class Batch(models.Model):
    """What somebody asked for; its uuid is the idempotency key of every item."""

    uuid = models.UUIDField(
        _("public id"), default=uuid.uuid4, unique=True, editable=False
    )
    kind = models.CharField(_("step"), max_length=16, choices=BatchKind.choices)
    actor = models.CharField(_("asked for by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    if TYPE_CHECKING:
        items: RelatedManager[BatchItem]

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        ordering: ClassVar[list[str]] = ["-id"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} ({self.uuid})"


class BatchItem(models.Model):
    """One payment of a batch, and what became of it."""

    batch = models.ForeignKey(
        Batch,
        on_delete=models.PROTECT,
        related_name="items",
        db_index=False,  # The constraint's begins with it.
    )
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(
        max_length=10,
        choices=BatchItemState.choices,
        default=BatchItemState.WAITING,
    )
    note = models.CharField(max_length=255, blank=True)

    class Meta:
        verbose_name = _("batch item")
        verbose_name_plural = _("batch items")
        ordering: ClassVar[list[str]] = ["id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state"], name="multipay_batch_item_state"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["batch", "payment"], name="multipay_batch_item_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.payment_id}: {self.get_state_display()}"
