"""The order that django-getpaid asks a shop to define."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from getpaid.abstracts import AbstractOrder


class Order(AbstractOrder):
    """One order; its payments point at it."""

    total = models.DecimalField(max_digits=20, decimal_places=2)
    currency = models.CharField(max_length=3)

    def get_absolute_url(self) -> str:
        """Return where the buyer sees the order."""
        return f"/orders/{self.pk}/"

    def get_total_amount(self) -> Decimal:
        """Return what is to be paid."""
        total: Decimal = self.total
        return total

    def get_buyer_info(self) -> dict[str, str]:
        """Return who buys."""
        return {"email": "buyer@example.com"}

    def get_description(self) -> str:
        """Return what the provider shows."""
        return f"Order {self.pk}"
