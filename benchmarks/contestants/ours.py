"""This package, through its public interface and its own view."""

from __future__ import annotations

from moneyed import Money

from benchmarks.contestants.base import ORDER_ID, Contestant
from django_multipay.flows import create_payment, refund_payment, start_payment
from django_multipay.models import Payment


class Ours(Contestant):
    """As a shop uses it."""

    name = "django-multipay"
    url = "/payments/webhook/stub/"

    def checkout(self) -> str:
        """Create and start."""
        payment = create_payment(
            provider="stub",
            order_id=ORDER_ID,
            amount=Money("26.30", "USD"),
            success_url="/thanks/",
            failure_url="/cart/",
        )
        start_payment(payment)
        return payment.merchant_reference

    def refund(self, reference: str) -> None:
        """Give all of it back."""
        refund_payment(Payment.objects.get(merchant_reference=reference))
