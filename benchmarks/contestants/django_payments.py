"""django-payments, with a provider class for the stub."""

from __future__ import annotations

from decimal import Decimal

from payments import RedirectNeeded

from benchmarks.contestants.base import CURRENCY, ORDER_ID, Contestant
from benchmarks.rivals.shop_payments import provider
from benchmarks.rivals.shop_payments.models import Payment


class DjangoPayments(Contestant):
    """As its documentation has a shop use it."""

    name = "django-payments"
    url = "/rivals/payments/process/stub/"

    def __init__(self, provider_url: str) -> None:
        super().__init__(provider_url)
        provider.BASE_URL = provider_url

    def checkout(self) -> str:
        """Create the payment, ask for its form."""
        payment = Payment.objects.create(
            variant="stub",
            description=ORDER_ID,
            total=Decimal("26.30"),
            currency=CURRENCY,
        )
        try:
            payment.get_form()
        except RedirectNeeded:
            pass  # The buyer is sent to the provider.
        token: str = payment.token
        return token

    def refund(self, reference: str) -> None:
        """Give all of it back."""
        Payment.objects.get(token=reference).refund()
