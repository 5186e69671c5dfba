"""The payment that django-payments asks a shop to define."""

from __future__ import annotations

from payments.models import BasePayment


class Payment(BasePayment):
    """As in its documentation."""

    def get_failure_url(self) -> str:
        """Return where the buyer goes if it failed."""
        return "https://shop.example/cart/"

    def get_success_url(self) -> str:
        """Return where the buyer goes afterwards."""
        return "https://shop.example/thanks/"
