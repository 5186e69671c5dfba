"""django-getpaid, with a backend for the stub."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from django.test import RequestFactory
from django.urls import reverse
from getpaid.models import Payment

from benchmarks.contestants.base import CURRENCY, Contestant, Message
from benchmarks.rivals.shop_getpaid import processor
from benchmarks.rivals.shop_getpaid.models import Order


class Getpaid(Contestant):
    """As its documentation has a shop use it; the order is there already."""

    name = "django-getpaid"
    url = ""

    def __init__(self, provider_url: str) -> None:
        super().__init__(provider_url)
        processor.BASE_URL = provider_url
        self.order = Order.objects.create(total=Decimal("26.30"), currency=CURRENCY)

    def checkout(self) -> str:
        """Create the payment, prepare its transaction."""
        payment = Payment.objects.create(
            order=self.order,
            amount_required=self.order.get_total_amount(),
            currency=CURRENCY,
            backend="stub",
            description=self.order.get_description(),
        )
        payment.prepare_transaction(request=RequestFactory().post("/"))
        return str(payment.pk)

    def message(self, reference: str) -> Message:
        """Return a message to the URL of this payment."""
        path = reverse("getpaid:callback", kwargs={"pk": reference})
        return replace(super().message(reference), path=path)

    def refund(self, reference: str) -> None:
        """Give all of it back."""
        payment = Payment.objects.get(pk=reference)
        payment.start_refund()
        payment.save()
        payment.confirm_refund()
        payment.mark_as_refunded()
        payment.save()
