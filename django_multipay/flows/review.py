"""What a person decides about a payment that was held."""

from __future__ import annotations

from django_multipay import ledger
from django_multipay.enums import ReviewReason
from django_multipay.exceptions import InvalidOperation, InvalidTransition
from django_multipay.flows.guards import actor_of, refuse_open_transaction
from django_multipay.flows.notices import deliver_notices
from django_multipay.models import Payment


def release_review(
    payment: Payment, *, by: object, note: str = "", reason: str = ""
) -> None:
    """Record that a person looked at ``payment`` and lets it pass as it is.

    ``by`` is the user, or a name, and stays with the fact, as does ``note``. All
    reasons for review are answered, or only ``reason``. If the money is there and
    nothing else forbids to deliver, the shop now hears `payment_paid`. A new fact of
    the same kind asks anew. `InvalidTransition` when there is nothing to look at, or
    while a refund is under way.
    """
    refuse_open_transaction("release_review")
    if reason not in {"", *ReviewReason.values}:
        raise InvalidOperation(
            f"reason is {reason!r}; use one of: {', '.join(ReviewReason.values)}",
            "reason",
        )
    about = ReviewReason(reason) if reason else None
    if ledger.has_open_refund(payment):
        raise InvalidTransition(
            f"payment {payment.uuid} has a refund under way; wait for its outcome"
        )
    if not ledger.release_review(payment.pk, actor_of(by), note, about):
        raise InvalidTransition(f"payment {payment.uuid} is not held for review")
    deliver_notices()
    payment.refresh_from_db()
