"""The back room: goods can be changed, orders can only be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from django_multipay.models import Payment, RecurringPlan
from shop.models import (
    Box,
    Currency,
    Order,
    OrderEvent,
    OrderLine,
    Price,
    Product,
    Subscription,
)
from shop.templatetags.shop import money

if TYPE_CHECKING:
    OrderAdminBase = admin.ModelAdmin[Order]
    SubscriptionAdminBase = admin.ModelAdmin[Subscription]
    ProductAdminBase = admin.ModelAdmin[Product]
    TabularBase = admin.TabularInline[Any, Any]
else:
    OrderAdminBase = ProductAdminBase = SubscriptionAdminBase = admin.ModelAdmin
    TabularBase = admin.TabularInline


class PriceInline(TabularBase):
    model = Price
    extra = 0
    max_num = len(Currency)


@admin.register(Product)
class ProductAdmin(ProductAdminBase):
    list_display = ["thumbnail", "name", "price_list", "is_active", "position"]
    list_display_links = ["name"]
    list_editable = ["is_active", "position"]
    list_filter = ["is_active"]
    search_fields = ["name", "tagline"]
    prepopulated_fields = {"slug": ["name"]}
    inlines = [PriceInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        return super().get_queryset(request).prefetch_related("prices")

    @admin.display(description="")
    def thumbnail(self, product: Product) -> SafeString:
        return format_html(
            '<img src="{}" alt="" width="48" height="48">', static(product.picture_path)
        )

    @admin.display(description=_("prices"))
    def price_list(self, product: Product) -> str:
        return ", ".join(money(price.money) for price in product.prices.all())


class ReadOnlyInline(TabularBase):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OrderLineInline(ReadOnlyInline):
    model = OrderLine
    fields = ["name", "quantity", "price", "sum"]
    readonly_fields = ["price", "sum"]

    @admin.display(description=_("price"))
    def price(self, line: OrderLine) -> str:
        return money(line.unit_price)

    @admin.display(description=_("sum"))
    def sum(self, line: OrderLine) -> str:
        return money(line.subtotal)


class OrderEventInline(ReadOnlyInline):
    model = OrderEvent
    verbose_name_plural = _("history")
    fields = ["created_at", "kind", "note", "notice_id"]
    readonly_fields = ["created_at", "kind", "note", "notice_id"]


@admin.register(Order)
class OrderAdmin(OrderAdminBase):
    list_display = ["reference", "created_at", "name", "things", "amount", "status"]
    # The order's page is for the visitor who placed it, not for staff.
    view_on_site = False
    list_filter = ["status", "currency", "created_at"]
    search_fields = ["reference", "name", "email"]
    date_hierarchy = "created_at"
    fields = [
        ("reference", "status"),
        ("amount", "attempts"),
        ("name", "email", "phone", "country"),
        ("created_at", "updated_at"),
    ]
    readonly_fields = ["reference", "amount", "attempts", "created_at", "updated_at"]
    inlines = [OrderLineInline, OrderEventInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        return super().get_queryset(request).annotate(line_count=Count("lines"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # What the buyer ordered and what happened to it is not rewritten.
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("lines"), ordering="line_count")
    def things(self, order: Order) -> int:
        return order.line_count  # type: ignore[attr-defined,no-any-return]

    @admin.display(description=_("total"), ordering="total")
    def amount(self, order: Order) -> str:
        return money(order.amount)

    @admin.display(description=_("payments"))
    def attempts(self, order: Order) -> SafeString | str:
        return (
            format_html_join(
                mark_safe("<br>"),
                "{} {}",
                (
                    (self.link_to(payment), payment.get_status_display())
                    for payment in order.payments
                ),
            )
            or "-"
        )

    def link_to(self, payment: Payment) -> SafeString | str:
        """Return the payment's amount, with the way to its page where there is one."""
        amount = money(payment.amount)
        if not self.admin_site.is_registered(Payment):
            return amount
        url = reverse("admin:multipay_payment_change", args=[payment.pk])
        return format_html('<a href="{}">{}</a>', url, amount)


class BoxInline(ReadOnlyInline):
    model = Box
    fields = ["packed_at", "payment_uuid"]
    readonly_fields = ["packed_at", "payment_uuid"]


@admin.register(Subscription)
class SubscriptionAdmin(SubscriptionAdminBase):
    list_display = ["reference", "created_at", "size", "status"]
    list_filter = ["size", "plan__status"]
    list_select_related = ["plan"]
    search_fields = ["reference", "plan__buyer_email"]
    # The subscription's page is for the visitor who has it, not for staff.
    view_on_site = False
    fields = ["reference", "size", "status", "the_plan", "created_at"]
    readonly_fields = ["reference", "status", "the_plan", "created_at"]
    inlines = [BoxInline]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # What is charged is changed at the plan.
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("status"), ordering="plan__status")
    def status(self, subscription: Subscription) -> str:
        return subscription.plan.get_status_display() if subscription.plan else "-"

    @admin.display(description=_("plan"))
    def the_plan(self, subscription: Subscription) -> SafeString | str:
        """Return the plan's amount, with the way to its page where there is one."""
        plan = subscription.plan
        if plan is None:
            return "-"
        if not self.admin_site.is_registered(RecurringPlan):
            return money(plan.amount)
        url = reverse("admin:multipay_recurringplan_change", args=[plan.pk])
        return format_html('<a href="{}">{}</a>', url, money(plan.amount))
