"""What we are about to do, what was told to us, and what the shop must still hear."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_multipay.enums import (
    NoticeState,
    OperationKind,
    OperationState,
    Verdict,
)
from django_multipay.models.fields import EncryptedJSONField, minor_units
from django_multipay.models.payment import Payment, Refund, Transaction
from django_multipay.models.recurring import RecurringPlan, Token


def new_key() -> str:
    """Return a random idempotency key; never built from anything a user sent."""
    return uuid.uuid4().hex


class Operation(models.Model):
    """The write-ahead record of one call that changes something at a provider.

    It is committed before the call. ``open_slot`` is unique while the operation is
    open and NULL afterwards: "at most one open X" on every database.
    """

    key = models.CharField(max_length=32, default=new_key, editable=False)
    kind = models.CharField(_("kind"), max_length=16, choices=OperationKind.choices)
    payment = models.ForeignKey(
        Payment,
        on_delete=models.PROTECT,
        verbose_name=_("payment"),
        null=True,
        related_name="operations",
    )
    refund = models.ForeignKey(
        Refund,
        on_delete=models.PROTECT,
        verbose_name=_("refund"),
        null=True,
        related_name="operations",
    )
    token = models.ForeignKey(
        Token,
        on_delete=models.PROTECT,
        verbose_name=_("saved method"),
        null=True,
        related_name="operations",
        db_index=False,  # Nobody asks for them.
    )
    plan = models.ForeignKey(
        RecurringPlan,
        on_delete=models.PROTECT,
        verbose_name=_("recurring plan"),
        null=True,
        related_name="operations",
    )
    amount_minor = minor_units(default=0)
    at_period_end = models.BooleanField(_("at the end of the period"), default=False)
    """A plan is to end with the period that is paid for, not at once."""
    state = models.CharField(
        _("state"),
        max_length=10,
        choices=OperationState.choices,
        default=OperationState.REQUESTED,
    )
    # NULL, because NULLs are no duplicates of each other on any database.
    open_slot = models.CharField(_("open slot"), max_length=64, null=True)  # noqa: DJ001
    client_key = models.CharField(max_length=64, null=True)  # noqa: DJ001
    client_fingerprint = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(_("leased until"), null=True)
    lease_token = models.CharField(max_length=32, blank=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    retry_at = models.DateTimeField(_("not before"), default=timezone.now)
    """Not sent, nor asked about, before this moment by `reconcile`."""
    actor = models.CharField(_("asked for by"), max_length=150, blank=True)
    needs_approval = models.BooleanField(_("needs approval"), default=False)
    """A second person must approve before it is sent."""
    approved_by = models.CharField(_("approved by"), max_length=150, blank=True)
    error = models.CharField(_("error"), max_length=255, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    is_ours = False
    """Set for whoever wrote it in order to send it at once."""
    is_again = False
    """Set for whoever took it: it was sent before, and may have been carried out."""

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        ordering: ClassVar[list[str]] = ["id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "retry_at"], name="multipay_operation_open"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["key"], name="multipay_operation_key"),
            models.UniqueConstraint(
                fields=["open_slot"], name="multipay_operation_slot"
            ),
            models.UniqueConstraint(
                fields=["client_key"], name="multipay_operation_client_key"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} ({self.get_state_display()})"


class WebhookDelivery(models.Model):
    """The inbox: every authentic message, once, before it is applied."""

    uuid = models.UUIDField(
        _("public id"), default=uuid.uuid4, unique=True, editable=False
    )
    provider = models.CharField(_("provider"), max_length=64)
    digest = models.CharField(max_length=64, editable=False)
    payment = models.ForeignKey(
        Payment,
        on_delete=models.PROTECT,
        verbose_name=_("payment"),
        null=True,
        related_name="deliveries",
    )
    source = models.CharField(_("came by"), max_length=12, editable=False)
    verdict = models.CharField(
        _("verdict"), max_length=10, choices=Verdict.choices, default=Verdict.STORED
    )
    headers = models.JSONField(_("headers"), default=dict, editable=False)
    body = models.TextField(_("body"), blank=True, editable=False)
    payload = EncryptedJSONField(default=None, blank=True, editable=False)
    """The raw message, encrypted, until it is applied."""
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    error = models.CharField(_("error"), max_length=255, blank=True)
    received_at = models.DateTimeField(_("received at"), auto_now_add=True)
    retry_at = models.DateTimeField(_("not before"), default=timezone.now)
    """Not applied again before this moment by `reconcile`."""
    rematch_at = models.DateTimeField(_("next search for its payment"), null=True)
    """When to look again for the payment of a held message; None: a person must."""
    applied_at = models.DateTimeField(_("applied at"), null=True)

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        ordering: ClassVar[list[str]] = ["-id"]
        permissions: ClassVar[list[tuple[str, Any]]] = [
            ("replay_delivery", _("Can apply webhook deliveries again")),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["verdict", "retry_at"], name="multipay_delivery_verdict"
            ),
            models.Index(fields=["rematch_at"], name="multipay_delivery_rematch"),
            models.Index(
                fields=["-received_at", "-id"], name="multipay_delivery_received"
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["provider", "digest"], name="multipay_delivery_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.received_at:%Y-%m-%d %H:%M}"


class Notice(models.Model):
    """The outbox: one row per fact, written with it, delivered at least once.

    Without ``transaction``, it is about a step that moved no money: of ``refund``, of
    a saved method (``token``) or of a ``plan``. ``payment`` is the one it came with.
    """

    uuid = models.UUIDField(
        _("public id"), default=uuid.uuid4, unique=True, editable=False
    )
    transaction = models.OneToOneField(
        Transaction,
        on_delete=models.PROTECT,
        verbose_name=_("transaction"),
        null=True,
        related_name="notice",
    )
    # Without indexes: a notice is found by its turn, or by its payment.
    refund = models.ForeignKey(
        Refund,
        on_delete=models.PROTECT,
        verbose_name=_("refund"),
        null=True,
        related_name="notices",
        db_index=False,
    )
    payment = models.ForeignKey(
        Payment,
        on_delete=models.PROTECT,
        verbose_name=_("payment"),
        null=True,
        related_name="notices",
    )
    token = models.ForeignKey(
        Token,
        on_delete=models.PROTECT,
        verbose_name=_("saved method"),
        null=True,
        related_name="notices",
        db_index=False,
    )
    plan = models.ForeignKey(
        RecurringPlan,
        on_delete=models.PROTECT,
        verbose_name=_("recurring plan"),
        null=True,
        related_name="notices",
        db_index=False,
    )
    signals = models.JSONField(_("signals"), default=list)
    """Names in ``django_multipay.signals``, in the order they are sent."""
    state = models.CharField(
        _("state"),
        max_length=10,
        choices=NoticeState.choices,
        default=NoticeState.WAITING,
    )
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    due_at = models.DateTimeField(_("not before"), default=timezone.now)
    """Not before this moment; a claim moves it forward, so it is the lease too."""
    error = models.CharField(_("error"), max_length=255, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    delivered_at = models.DateTimeField(_("delivered at"), null=True)

    has_endpoints = True
    """False for whoever wrote it when no endpoint was enabled to hear of it."""

    class Meta:
        verbose_name = _("notice")
        verbose_name_plural = _("notices")
        ordering: ClassVar[list[str]] = ["id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "due_at"], name="multipay_notice_due"),
        ]

    def __str__(self) -> str:
        return f"{', '.join(self.signals)} ({self.get_state_display()})"
