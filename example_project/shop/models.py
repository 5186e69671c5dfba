"""What the shop remembers: its goods, the orders, and what it heard of payments."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from moneyed import Money

from django_multipay.models import Payment, RecurringPlan
from shop.coffee_box import SIZES, BoxSize
from shop.money import money_of

# No letter or digit that is mistaken for another when read aloud.
REFERENCE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_reference(prefix: str = "QK") -> str:
    """Return a random reference: it cannot be guessed from another one."""
    return prefix + "".join(secrets.choice(REFERENCE_ALPHABET) for _ in range(8))


def new_subscription_reference() -> str:
    """Return a random reference that nobody takes for an order's."""
    return new_reference("QB")


class Currency(models.TextChoices):
    """The currencies the shop prices its goods in."""

    USD = "USD", _("US dollar")
    KRW = "KRW", _("Korean won")
    JPY = "JPY", _("Japanese yen")
    USDT = "USDT", _("Tether on Tron")


class ProductQuerySet(models.QuerySet["Product"]):
    """Products as the shop window asks for them."""

    def sold_in(self, currency: str) -> ProductQuerySet:
        """Return what can be bought in ``currency``, each with its ``amount``."""
        return (
            self.filter(is_active=True, prices__currency=currency)
            .annotate(
                amount=models.F("prices__amount"), currency=models.F("prices__currency")
            )
            .order_by("position", "pk")
        )


class Product(models.Model):
    """One thing on the shelf."""

    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)
    tagline = models.CharField(max_length=120)
    description = models.TextField()
    facts = models.JSONField(
        default=dict, blank=True, help_text=_("Shown as a small table: name to value.")
    )
    picture = models.SlugField(
        help_text=_("A drawing in static/shop/pictures, without the ending.")
    )
    picture_alt = models.CharField(_("picture in words"), max_length=120)
    position = models.PositiveSmallIntegerField(default=0)
    is_active = models.BooleanField(_("on sale"), default=True)

    objects = ProductQuerySet.as_manager()

    class Meta:
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:product", args=[self.slug])

    @property
    def picture_path(self) -> str:
        """The drawing's path below the static files."""
        return f"shop/pictures/{self.picture}.svg"

    @property
    def price(self) -> Money:
        """The price, on a product that came from ``sold_in``."""
        return money_of(self.amount, self.currency)  # type: ignore[attr-defined]


class Price(models.Model):
    """What a product costs in one currency; prices are set, never converted."""

    product = models.ForeignKey(
        Product, on_delete=models.CASCADE, related_name="prices"
    )
    currency = models.CharField(max_length=4, choices=Currency)
    amount = models.DecimalField(
        max_digits=16,
        decimal_places=6,
        validators=[MinValueValidator(Decimal("0.000001"))],
    )

    class Meta:
        ordering = ["product", "currency"]
        constraints = [
            models.UniqueConstraint(
                fields=["product", "currency"], name="one_price_per_currency"
            ),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0), name="price_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return str(self.money)

    @property
    def money(self) -> Money:
        """The price as Money."""
        return money_of(self.amount, self.currency)


class Order(models.Model):
    """What somebody wants to buy; its status is a summary of its payments."""

    class Status(models.TextChoices):
        OPEN = "open", _("waiting for payment")
        AWAITING_DEPOSIT = "awaiting_deposit", _("awaiting deposit")
        IN_REVIEW = "in_review", _("payment in review")
        AUTHORIZED = "authorized", _("payment authorized")
        PAID = "paid", _("paid")
        PAYMENT_FAILED = "payment_failed", _("payment failed")
        PARTIALLY_REFUNDED = "partially_refunded", _("partially refunded")
        REFUNDED = "refunded", _("refunded")

    PAYABLE = frozenset({Status.OPEN, Status.PAYMENT_FAILED})

    reference = models.CharField(
        max_length=12, unique=True, default=new_reference, editable=False
    )
    # The same checkout form sent twice meets this and becomes one order.
    checkout_key = models.UUIDField(unique=True, editable=False)
    customer_id = models.CharField(max_length=32, db_index=True, editable=False)
    name = models.CharField(max_length=80)
    email = models.EmailField(_("e-mail"))
    phone = models.CharField(max_length=24, blank=True)
    country = models.CharField(max_length=2)
    currency = models.CharField(max_length=4, choices=Currency)
    total = models.DecimalField(max_digits=16, decimal_places=6)
    status = models.CharField(
        max_length=20, choices=Status, default=Status.OPEN, db_index=True
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.reference

    def get_absolute_url(self) -> str:
        return reverse("shop:order", args=[self.reference])

    @property
    def amount(self) -> Money:
        """What the buyer is asked for."""
        return money_of(self.total, self.currency)

    @property
    def payments(self) -> models.QuerySet[Payment]:
        """Every attempt to pay this order, the newest first."""
        return Payment.objects.filter(order_id=self.reference).order_by("-pk")

    @property
    def is_payable(self) -> bool:
        """Whether the buyer should be asked for money."""
        return self.status in self.PAYABLE


# The first row that any payment of the order reaches decides: money that arrived
# beats money that may still arrive, which beats an attempt that failed.
STATUS_BY_PAYMENT: tuple[tuple[str, Order.Status], ...] = (
    (Payment.Status.PAID, Order.Status.PAID),
    (Payment.Status.PARTIALLY_REFUNDED, Order.Status.PARTIALLY_REFUNDED),
    (Payment.Status.REFUNDED, Order.Status.REFUNDED),
    (Payment.Status.AUTHORIZED, Order.Status.AUTHORIZED),
    (Payment.Status.IN_REVIEW, Order.Status.IN_REVIEW),
    (Payment.Status.AWAITING_FUNDS, Order.Status.AWAITING_DEPOSIT),
)


HOLDS_MONEY = frozenset(
    {
        Payment.Status.PAID,
        Payment.Status.PARTIALLY_REFUNDED,
        Payment.Status.AUTHORIZED,
    }
)


def order_status(payments: Iterable[Payment]) -> Order.Status:
    """Return what ``payments`` (the newest first) mean for their order.

    A summary of what is true now, so neither the order nor the number of the
    notices that led here can change the answer.
    """
    attempts = list(payments)
    # Money that does not fit is not a sale yet: a person has to look first.
    if any(payment.review_reason for payment in attempts):
        return Order.Status.IN_REVIEW
    # Neither is money that came twice, for two attempts in two windows.
    if sum(payment.status in HOLDS_MONEY for payment in attempts) > 1:
        return Order.Status.IN_REVIEW
    reached = {payment.status for payment in attempts}
    for payment_status, status in STATUS_BY_PAYMENT:
        if payment_status in reached:
            return status
    if attempts and attempts[0].status == Payment.Status.FAILED:
        return Order.Status.PAYMENT_FAILED
    return Order.Status.OPEN


class OrderLine(models.Model):
    """One product of an order, at the price of that day."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(
        Product, on_delete=models.PROTECT, related_name="order_lines"
    )
    name = models.CharField(max_length=80)
    quantity = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    unit_amount = models.DecimalField(max_digits=16, decimal_places=6)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.name}"

    @property
    def unit_price(self) -> Money:
        """The price of one."""
        return money_of(self.unit_amount, self.order.currency)

    @property
    def subtotal(self) -> Money:
        """The price of all of them."""
        return self.unit_price * self.quantity


class OrderEvent(models.Model):
    """One line of an order's history; a notice about a payment leaves exactly one."""

    class Kind(models.TextChoices):
        PLACED = "placed", _("order placed")
        PAYMENT_PAID = "payment_paid", _("payment received")
        PAYMENT_FAILED = "payment_failed", _("payment did not go through")
        PAYMENT_NEEDS_REVIEW = "payment_needs_review", _("payment needs a review")
        PAYMENT_REFUNDED = "payment_refunded", _("money returned")
        PAYMENT_STATUS_CHANGED = "payment_status_changed", _("payment status changed")

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=24, choices=Kind)
    notice_id = models.UUIDField(null=True, editable=False)
    note = models.CharField(max_length=120, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            # NULL never equals NULL, so events without a notice are not limited.
            models.UniqueConstraint(
                fields=["notice_id", "kind"], name="one_event_per_notice"
            )
        ]

    def __str__(self) -> str:
        return f"{self.order} {self.kind}"


class Subscription(models.Model):
    """Somebody gets the coffee box every month; what is charged is the plan's matter."""

    reference = models.CharField(
        max_length=12, unique=True, default=new_subscription_reference, editable=False
    )
    # The same form sent twice meets this and becomes one subscription.
    form_key = models.UUIDField(unique=True, editable=False)
    customer_id = models.CharField(max_length=32, db_index=True, editable=False)
    size = models.SlugField(choices=[(size.slug, size.name) for size in SIZES.values()])
    plan = models.OneToOneField(
        RecurringPlan, on_delete=models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.reference

    def get_absolute_url(self) -> str:
        return reverse("shop:subscription", args=[self.reference])

    @property
    def box(self) -> BoxSize:
        """The size as it is sold today."""
        return SIZES[self.size]


class Box(models.Model):
    """One box that was packed; a charge of the plan packs exactly one."""

    subscription = models.ForeignKey(
        Subscription, on_delete=models.CASCADE, related_name="boxes"
    )
    # The notice of a charge may come twice; the box does not.
    payment_uuid = models.UUIDField(unique=True, editable=False)
    packed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = _("boxes")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.subscription} {self.payment_uuid}"
