"""Saved payment methods and recurring plans."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from moneyed import Money

from django_multipay.enums import PlanManager, PlanStatus, TokenStatus
from django_multipay.models.fields import (
    EncryptedJSONField,
    currency_code,
    minor_units,
)
from django_multipay.money import MAX_MINOR, from_minor, to_minor

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager

    from django_multipay.models.payment import Payment


class Token(models.Model):
    """A reference to a payment method the buyer saved; never the card itself."""

    Status = TokenStatus

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    provider = models.CharField(_("provider"), max_length=64)
    customer_id = models.CharField(_("customer"), max_length=64, db_index=True)
    provider_token = EncryptedJSONField(editable=False)
    token_digest = models.CharField(max_length=64, editable=False)
    """HMAC of the provider's token: finds it again without decrypting."""
    fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    brand = models.CharField(max_length=32, blank=True)
    last4 = models.CharField(max_length=4, blank=True)
    expires_on = models.DateField(null=True, blank=True)
    status = models.CharField(
        max_length=10, choices=TokenStatus.choices, default=TokenStatus.ACTIVE
    )
    created_by_payment = models.ForeignKey(
        "multipay.Payment",
        on_delete=models.PROTECT,
        null=True,
        related_name="created_tokens",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    if TYPE_CHECKING:
        payments: RelatedManager[Payment]

    class Meta:
        verbose_name = _("saved method")
        verbose_name_plural = _("saved methods")
        ordering: ClassVar[list[str]] = ["-id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["provider", "token_digest"], name="multipay_token_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.brand} •••• {self.last4}" if self.last4 else str(self.uuid)


class RecurringPlan(models.Model):
    """An amount charged every ``interval_months`` until it is canceled."""

    Status = PlanStatus

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    provider = models.CharField(_("provider"), max_length=64)
    customer_id = models.CharField(_("customer"), max_length=64, db_index=True)
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
    interval_months = models.PositiveSmallIntegerField(default=1)
    start_on = models.DateField()
    next_on = models.DateField(null=True, blank=True)
    ends_on = models.DateField(null=True, blank=True)
    status = models.CharField(
        max_length=10, choices=PlanStatus.choices, default=PlanStatus.PENDING
    )
    managed_by = models.CharField(max_length=10, choices=PlanManager.choices)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    if TYPE_CHECKING:
        payments: RelatedManager[Payment]

    class Meta:
        verbose_name = _("recurring plan")
        verbose_name_plural = _("recurring plans")
        ordering: ClassVar[list[str]] = ["-id"]
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
