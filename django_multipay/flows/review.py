"""What a person decides about a payment that was held."""

from __future__ import annotations

from django_multipay import ledger
from django_multipay.exceptions import InvalidTransition
from django_multipay.flows.guards import refuse_open_transaction
from django_multipay.flows.notices import deliver_notices
from django_multipay.models import Payment


def release_review(payment: Payment, *, by: str) -> None:
    """Let ``payment`` pass although the provider's risk check wanted a decision.

    ``by`` names who decided; it stays with the fact. If the money is there, the shop
    now hears `payment_paid`. `InvalidTransition` when nothing is held.
    """
    refuse_open_transaction("release_review")
    if not ledger.release_review(payment.pk, by):
        raise InvalidTransition(f"payment {payment.uuid} is not held for review")
    deliver_notices()
    payment.refresh_from_db()
