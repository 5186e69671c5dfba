"""Saved payment methods and recurring plans."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_multipay.enums import (
    DeclineCode,
    PlanManager,
    PlanStatus,
    TokenStatus,
)
from django_multipay.models.fields import (
    EncryptedJSONField,
    currency_code,
    minor_units,
)
from django_multipay.money import MAX_MINOR, from_minor, to_minor
from django_multipay.recurrence import due_date

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager
    from moneyed import Money

    from django_multipay.models.operation import Operation
    from django_multipay.models.payment import Payment


class Token(models.Model):
    """A reference to a payment method the buyer saved; never the card itself."""

    Status = TokenStatus

    uuid = models.UUIDField(
        _("public id"), default=uuid.uuid4, unique=True, editable=False
    )
    provider = models.CharField(_("provider"), max_length=64)
    customer_id = models.CharField(_("customer"), max_length=64)
    provider_token = EncryptedJSONField(default=None, blank=True, editable=False)
    """Erased once the method was deleted."""
    identity = EncryptedJSONField(default=None, blank=True, editable=False)
    """A plain digest of the provider's token, which outlives it: whose it was."""
    token_digest = models.CharField(max_length=64, editable=False)
    """HMAC of ``identity``: finds the row again without decrypting."""
    digests: ClassVar[Mapping[str, str]] = {"token_digest": "identity"}
    """Columns that hold the keyed digest of another: rewritten when keys are rotated."""
    fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    brand = models.CharField(_("brand"), max_length=32, blank=True)
    last4 = models.CharField(_("last digits"), max_length=4, blank=True)
    expires_on = models.DateField(_("expires on"), null=True, blank=True)
    status = models.CharField(
        _("status"),
        max_length=10,
        choices=TokenStatus.choices,
        default=TokenStatus.ACTIVE,
    )
    ended_at = models.DateTimeField(
        _("ended at"), null=True, blank=True, editable=False
    )
    """When it was deleted, or found dead; only what is paid later saves it again."""
    expiry_told_at = models.DateTimeField(
        _("shop told of the expiry at"), null=True, blank=True, editable=False
    )
    """When the shop was told that the card is about to expire."""
    created_by_payment = models.ForeignKey(
        "multipay.Payment",
        on_delete=models.PROTECT,
        verbose_name=_("saved by"),
        null=True,
        related_name="created_tokens",
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    if TYPE_CHECKING:
        payments: RelatedManager[Payment]
        operations: RelatedManager[Operation]

    class Meta:
        verbose_name = _("saved method")
        verbose_name_plural = _("saved methods")
        ordering: ClassVar[list[str]] = ["-id"]
        permissions: ClassVar[list[tuple[str, Any]]] = [
            ("end_token", _("Can delete saved methods at the provider")),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["status", "expiry_told_at", "expires_on"],
                name="multipay_token_expiring",
            ),
            models.Index(fields=["customer_id"], name="multipay_token_customer"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["provider", "token_digest"], name="multipay_token_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.brand} •••• {self.last4}" if self.last4 else str(self.uuid)


class RecurringPlan(models.Model):
    """An amount charged every ``interval_months`` until it is canceled.

    Its status follows its payments; only ``ledger`` writes it.
    """

    Status = PlanStatus

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    provider = models.CharField(_("provider"), max_length=64)
    customer_id = models.CharField(_("customer"), max_length=64)
    order_id = models.CharField(_("order"), max_length=64, blank=True)
    description = models.CharField(_("description"), max_length=255, blank=True)
    buyer_name = models.CharField(_("buyer"), max_length=150, blank=True)
    buyer_email = models.EmailField(_("e-mail"), blank=True)
    buyer_phone = models.CharField(_("phone"), max_length=40, blank=True)
    buyer_country = models.CharField(_("country"), max_length=2, blank=True)
    locale = models.CharField(max_length=16, blank=True)
    success_url = models.CharField(max_length=500, blank=True)
    failure_url = models.CharField(max_length=500, blank=True)
    # NULL until it is known: NULLs are no duplicates of each other on any database.
    provider_reference = models.CharField(  # noqa: DJ001
        max_length=128, null=True, editable=False
    )
    first_payment = models.OneToOneField(
        "multipay.Payment",
        on_delete=models.PROTECT,
        null=True,
        related_name="registered_plan",
    )
    token = models.ForeignKey(
        Token, on_delete=models.PROTECT, null=True, blank=True, related_name="plans"
    )
    amount_minor = minor_units()
    currency = currency_code()
    interval_months = models.PositiveSmallIntegerField(
        _("months between charges"), default=1
    )
    start_on = models.DateField(_("first day"))
    period = models.PositiveIntegerField(default=0, editable=False)
    """The number of the period that is collected next, or being collected."""
    next_on = models.DateField(_("next charge"), null=True, blank=True)
    """When something is to happen next; None: nothing is."""
    ends_on = models.DateField(_("ends on"), null=True, blank=True)
    """Nothing falls due on this day or after it."""
    is_ending = models.BooleanField(default=False, editable=False)
    """It was canceled with the end of what is paid for."""
    status = models.CharField(
        _("status"),
        max_length=10,
        choices=PlanStatus.choices,
        default=PlanStatus.PENDING,
    )
    managed_by = models.CharField(
        _("charged by"), max_length=10, choices=PlanManager.choices
    )
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    """Charges of the current period that were refused."""
    tried_on = models.DateField(null=True, editable=False)
    past_due_since = models.DateField(_("past due since"), null=True, editable=False)
    decline_code = models.CharField(
        max_length=32, blank=True, choices=DeclineCode.choices, editable=False
    )
    last_error = models.CharField(max_length=255, blank=True, editable=False)
    needs_buyer = models.BooleanField(
        _("needs the buyer"), default=False, editable=False
    )
    """No charge can succeed until the buyer pays in person or gives another method."""
    buyer_until = models.DateTimeField(null=True, editable=False)
    """The buyer is paying in person, so nothing is charged by itself before this."""
    canceled_at = models.DateTimeField(null=True, editable=False)
    sync_at = models.DateTimeField(null=True, editable=False)
    """When to ask the provider about the plan next."""
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    if TYPE_CHECKING:
        id: int
        payments: RelatedManager[Payment]
        operations: RelatedManager[Operation]

    class Meta:
        verbose_name = _("recurring plan")
        verbose_name_plural = _("recurring plans")
        ordering: ClassVar[list[str]] = ["-id"]
        permissions: ClassVar[list[tuple[str, Any]]] = [
            ("manage_plan", _("Can change, charge and cancel recurring plans")),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["status", "next_on"], name="multipay_plan_due"),
            models.Index(fields=["customer_id"], name="multipay_plan_customer"),
            models.Index(fields=["order_id"], name="multipay_plan_order"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["provider", "provider_reference"],
                name="multipay_plan_provider_reference",
            ),
            models.CheckConstraint(
                condition=models.Q(amount_minor__gt=0, amount_minor__lte=MAX_MINOR),
                name="multipay_plan_amount",
            ),
            models.CheckConstraint(
                condition=models.Q(interval_months__gte=1),
                name="multipay_plan_interval",
            ),
        ]

    def __str__(self) -> str:
        return str(self.uuid)

    @property
    def amount(self) -> Money:
        """What each period costs; set it with Money."""
        return from_minor(self.amount_minor, self.currency)

    @amount.setter
    def amount(self, value: Money) -> None:
        self.amount_minor = to_minor(value)
        self.currency = value.currency.code

    def due_date(self, period: int) -> date:
        """Return the first day of a period; they are counted from 0."""
        return due_date(self.start_on, period * self.interval_months)

    @property
    def due_on(self) -> date:
        """The first day of the period that is collected next, or being collected."""
        return self.due_date(self.period)
