"""Registers the backend, as django-getpaid's documentation says."""

from __future__ import annotations

from django.apps import AppConfig


class ShopGetpaidConfig(AppConfig):
    """The order and the backend in one app."""

    name = "benchmarks.rivals.shop_getpaid"
    label = "shop_getpaid"

    def ready(self) -> None:
        """Make the backend known."""
        from getpaid.registry import registry

        from benchmarks.rivals.shop_getpaid.processor import PaymentProcessor

        registry.register(PaymentProcessor)
