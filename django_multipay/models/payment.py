"""Payments, their facts and their refunds."""

from __future__ import annotations

import secrets
import string
import uuid
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from django_multipay.enums import (
    CaptureMode,
    DeclineCode,
    Initiator,
    PaymentStatus,
    RefundStatus,
    ReviewReason,
    Source,
    TransactionKind,
)
from django_multipay.exceptions import InvalidOperation
from django_multipay.models.fields import (
    EncryptedJSONField,
    currency_code,
    minor_units,
)
from django_multipay.money import MAX_MINOR, from_minor, to_minor

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager
    from moneyed import Money

    from django_multipay.messages import NextAction
    from django_multipay.models.operation import Operation
    from django_multipay.states import Fact

_REFERENCE_ALPHABET = string.ascii_lowercase + string.digits


def new_merchant_reference() -> str:
    """Return a reference that was never used: 24 of ``[a-z0-9]``, 124 random bits.

    Lower case only, because MariaDB's default collation ignores case.
    """
    return "".join(secrets.choice(_REFERENCE_ALPHABET) for _ in range(24))


class Payment(models.Model):
    """Our intent to collect one amount once.

    Status and sums are a cached fold of the payment's `Transaction` rows; only
    ``ledger`` writes them.
    """

    Status = PaymentStatus

    uuid = models.UUIDField(
        _("public id"), default=uuid.uuid4, unique=True, editable=False
    )
    provider = models.CharField(_("provider"), max_length=64, blank=True)
    order_id = models.CharField(_("order"), max_length=64)
    merchant_reference = models.CharField(
        _("our reference"),
        max_length=30,
        default=new_merchant_reference,
        editable=False,
    )
    # NULL until it is known: NULLs are no duplicates of each other on any database.
    provider_reference = models.CharField(  # noqa: DJ001
        _("provider's reference"), max_length=128, null=True, editable=False
    )
    transaction_reference = models.CharField(  # noqa: DJ001
        _("provider's transaction"), max_length=128, null=True, editable=False
    )
    """What the provider calls the transaction that reserved or took the money."""
    status = models.CharField(
        _("status"),
        max_length=20,
        choices=PaymentStatus.choices,
        default=PaymentStatus.CREATED,
        editable=False,
    )
    amount_minor = minor_units()
    authorized_minor = minor_units(default=0)
    captured_minor = minor_units(default=0)
    refunded_minor = minor_units(default=0)
    currency = currency_code()
    capture_mode = models.CharField(
        max_length=10, choices=CaptureMode.choices, default=CaptureMode.AUTOMATIC
    )
    initiator = models.CharField(
        _("made by"), max_length=10, choices=Initiator.choices, default=Initiator.BUYER
    )
    method = models.CharField(_("method"), max_length=64, blank=True)
    description = models.CharField(_("description"), max_length=255, blank=True)
    items = models.JSONField(default=list, blank=True)
    buyer_name = models.CharField(_("buyer"), max_length=150, blank=True)
    buyer_email = models.EmailField(_("e-mail"), blank=True)
    buyer_phone = models.CharField(_("phone"), max_length=40, blank=True)
    buyer_country = models.CharField(_("country"), max_length=2, blank=True)
    customer_id = models.CharField(_("customer"), max_length=64, blank=True)
    locale = models.CharField(max_length=16, blank=True)
    success_url = models.CharField(max_length=500, blank=True)
    failure_url = models.CharField(max_length=500, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    details = models.JSONField(default=dict, blank=True, editable=False)
    next_action = models.JSONField(null=True, blank=True, editable=False)
    decline_code = models.CharField(
        max_length=32, blank=True, choices=DeclineCode.choices, editable=False
    )
    review_reason = models.CharField(
        max_length=32, blank=True, choices=ReviewReason.choices, editable=False
    )
    save_token = models.BooleanField(default=False)
    checkout_data = EncryptedJSONField(default=None, blank=True, editable=False)
    """Addresses and provider-only fields; erased when the payment is final."""
    expires_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    sync_at = models.DateTimeField(null=True, editable=False)
    """When to ask the provider next; None: nothing is expected."""
    sync_attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    erased_at = models.DateTimeField(null=True, editable=False)
    """When the buyer was taken out of it; None: it still knows them."""
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    token = models.ForeignKey(
        "multipay.Token",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="payments",
        db_index=False,  # Nobody asks for them.
    )
    plan = models.ForeignKey(
        "multipay.RecurringPlan",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="payments",
        db_index=False,  # The constraint's begins with it.
    )
    plan_due_on = models.DateField(null=True, editable=False)
    plan_attempt = models.PositiveSmallIntegerField(default=0, editable=False)
    """Which attempt at its period of the plan; each is made once."""
    plan_told = models.BooleanField(default=False, editable=False)
    """The shop was told that the plan was charged."""
    # One to one, so that two clicks make one attempt.
    retry_of = models.OneToOneField(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="retry",
    )
    """The attempt before this one, which did not go through."""
    is_provider_open = models.BooleanField(default=False, editable=False)
    """The shop leaves the provider to the buyer."""
    is_method_open = models.BooleanField(default=False, editable=False)
    """The shop leaves the method to the buyer."""
    pay_until = models.DateTimeField(null=True, editable=False)
    """Until when the shop lets the buyer pay; ``expires_at`` may be the provider's."""

    if TYPE_CHECKING:
        id: int
        transactions: RelatedManager[Transaction]
        operations: RelatedManager[Operation]
        refunds: RelatedManager[Refund]

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        ordering: ClassVar[list[str]] = ["-id"]
        permissions: ClassVar[list[tuple[str, Any]]] = [
            ("refund_payment", _("Can refund payments")),
            ("capture_payment", _("Can capture, confirm and settle payments")),
            ("void_payment", _("Can void payments")),
            ("view_buyer_data", _("Can see buyers' names, addresses and numbers")),
            ("add_payment_link", _("Can create payment links and send them")),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # The admin's list is ordered by its date hierarchy, whatever the filter.
            models.Index(
                fields=["-created_at", "-id"], name="multipay_payment_created"
            ),
            models.Index(
                fields=["provider", "-created_at", "-id"],
                name="multipay_payment_account",
            ),
            models.Index(
                fields=["review_reason", "-created_at", "-id"],
                name="multipay_payment_review",
            ),
            models.Index(fields=["order_id"], name="multipay_payment_order"),
            models.Index(fields=["buyer_email"], name="multipay_payment_email"),
            models.Index(fields=["sync_at"], name="multipay_payment_sync"),
            models.Index(
                fields=["status", "-created_at", "-id"], name="multipay_payment_status"
            ),
            models.Index(fields=["customer_id"], name="multipay_payment_customer"),
        ]
        # Not ``unique`` or ``db_index`` at a text: PostgreSQL would get a second index of
        # it, for searches by its beginning, which nobody makes, and which each row costs.
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["merchant_reference"],
                name="multipay_payment_merchant_reference",
            ),
            models.UniqueConstraint(
                fields=["provider", "provider_reference"],
                name="multipay_payment_provider_reference",
            ),
            models.UniqueConstraint(
                fields=["provider", "transaction_reference"],
                name="multipay_payment_transaction_reference",
            ),
            models.UniqueConstraint(
                fields=["plan", "plan_due_on", "plan_attempt"],
                name="multipay_payment_plan_due",
            ),
            models.CheckConstraint(
                condition=models.Q(amount_minor__gt=0, amount_minor__lte=MAX_MINOR),
                name="multipay_payment_amount",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    authorized_minor__gte=0,
                    captured_minor__gte=0,
                    refunded_minor__gte=0,
                ),
                name="multipay_payment_sums",
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=PaymentStatus.values),
                name="multipay_payment_known_status",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id} ({self.uuid})"

    @property
    def amount(self) -> Money:
        """What is asked for; set it with Money (`InvalidAmount` if it is none)."""
        return from_minor(self.amount_minor, self.currency)

    @amount.setter
    def amount(self, value: Money) -> None:
        self.amount_minor = to_minor(value)
        self.currency = value.currency.code

    @property
    def authorized(self) -> Money:
        """What was reserved."""
        return from_minor(self.authorized_minor, self.currency)

    @property
    def captured(self) -> Money:
        """What was taken."""
        return from_minor(self.captured_minor, self.currency)

    @property
    def refunded(self) -> Money:
        """What was given back."""
        return from_minor(self.refunded_minor, self.currency)

    @property
    def action(self) -> NextAction | None:
        """What the buyer has to do next, if anything."""
        # Not at the top: the messages are dear to define, and most processes that
        # load the models (a migration, a shell) send none.
        from django_multipay.messages import load_action

        return load_action(self.next_action) if self.next_action else None

    def get_checkout_url(self) -> str:
        """Return the path of the payment page; send the buyer there."""
        return reverse("multipay:checkout", args=[self.uuid])

    def get_outcome_url(self) -> str:
        """Return the path of the page that tells how the payment went."""
        return reverse("multipay:outcome", args=[self.uuid])


class AppendOnlyQuerySet(models.QuerySet["Transaction"]):
    """Rows are added and read, never changed."""

    def _refuse(self) -> NoReturn:
        raise InvalidOperation(
            "transactions are facts and cannot be changed; add the opposite fact"
        )

    def update(self, **kwargs: Any) -> NoReturn:
        """Raise `InvalidOperation`."""
        self._refuse()

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `InvalidOperation`."""
        self._refuse()

    def delete(self) -> NoReturn:
        """Raise `InvalidOperation`."""
        self._refuse()


class Transaction(models.Model):
    """One fact about a payment: append-only, here and in the database."""

    payment = models.ForeignKey(
        Payment,
        on_delete=models.PROTECT,
        related_name="transactions",
        db_index=False,  # The constraint's begins with it.
    )
    kind = models.CharField(max_length=24, choices=TransactionKind.choices)
    amount_minor = minor_units(default=0)
    currency = currency_code()
    provider_reference = models.CharField(max_length=128, blank=True)
    source = models.CharField(max_length=12, choices=Source.choices)
    reason = models.CharField(max_length=32, blank=True)
    detail = models.CharField(max_length=255, blank=True)
    occurred_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("transaction")
        verbose_name_plural = _("transactions")
        ordering: ClassVar[list[str]] = ["id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["provider_reference"], name="multipay_transaction_reference"
            ),
            # All that a day's takings are made of, so that no row need be read.
            models.Index(
                fields=["created_at", "kind", "currency", "amount_minor", "payment"],
                name="multipay_transaction_takings",
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["payment", "kind", "provider_reference"],
                name="multipay_transaction_once",
            ),
            models.CheckConstraint(
                condition=models.Q(amount_minor__gte=0, amount_minor__lte=MAX_MINOR),
                name="multipay_transaction_amount",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.amount}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the fact; `InvalidOperation` when it exists already."""
        if not self._state.adding:
            raise InvalidOperation("a transaction is a fact and cannot be changed")
        # With a key that exists Django would try an UPDATE first.
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `InvalidOperation`."""
        raise InvalidOperation("a transaction is a fact and cannot be deleted")

    @property
    def amount(self) -> Money:
        """How much money the fact is about; zero where none moved."""
        return from_minor(self.amount_minor, self.currency)

    def as_fact(self) -> Fact:
        """Return what the fold needs to know."""
        # Not at the top: only what folds facts needs their tables.
        from django_multipay.states import Fact

        return Fact(
            kind=TransactionKind(self.kind),
            amount_minor=self.amount_minor,
            provider_reference=self.provider_reference,
            reason=self.reason,
            occurred_at=self.occurred_at,
        )


class Refund(models.Model):
    """One request to give captured money back."""

    Status = RefundStatus

    uuid = models.UUIDField(
        _("public id"), default=uuid.uuid4, unique=True, editable=False
    )
    payment = models.ForeignKey(
        Payment,
        on_delete=models.PROTECT,
        verbose_name=_("payment"),
        related_name="refunds",
    )
    merchant_reference = models.CharField(
        _("our reference"),
        max_length=30,
        default=new_merchant_reference,
        editable=False,
    )
    provider_reference = models.CharField(
        _("provider's reference"), max_length=128, blank=True, editable=False
    )
    amount_minor = minor_units()
    status = models.CharField(
        _("status"),
        max_length=12,
        choices=RefundStatus.choices,
        default=RefundStatus.REQUESTED,
        editable=False,
    )
    reason = models.CharField(_("reason"), max_length=255, blank=True)
    requested_by = models.CharField(_("asked for by"), max_length=150, blank=True)
    error = models.CharField(_("error"), max_length=255, blank=True, editable=False)
    """Why the provider refused it, in its own words."""
    is_external = models.BooleanField(
        _("made at the provider"), default=False, editable=False
    )
    """Made at the provider's own console, and noticed afterwards."""
    account = EncryptedJSONField(default=None, blank=True, editable=False)
    """The bank account to pay to, and what only the provider knows; erased when the
    refund is over."""
    sync_at = models.DateTimeField(_("next check"), null=True, editable=False)
    """When to ask the provider next; None: nothing is expected."""
    sync_attempts = models.PositiveSmallIntegerField(
        _("checks"), default=0, editable=False
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        ordering: ClassVar[list[str]] = ["-id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["sync_at"], name="multipay_refund_sync"),
            models.Index(fields=["-created_at", "-id"], name="multipay_refund_created"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["merchant_reference"],
                name="multipay_refund_merchant_reference",
            ),
            models.CheckConstraint(
                condition=models.Q(amount_minor__gt=0, amount_minor__lte=MAX_MINOR),
                name="multipay_refund_amount",
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=RefundStatus.values),
                name="multipay_refund_known_status",
            ),
        ]

    def __str__(self) -> str:
        return str(self.uuid)

    @property
    def amount(self) -> Money:
        """How much goes back."""
        return from_minor(self.amount_minor, self.payment.currency)
