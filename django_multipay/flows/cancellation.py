"""Ending an attempt before anybody has paid."""

from __future__ import annotations

from django_multipay.exceptions import InvalidTransition
from django_multipay.flows.guards import actor_of, refuse_open_transaction
from django_multipay.flows.notices import deliver_notices
from django_multipay.flows.sync import sync_if_due
from django_multipay.ledger.cancellation import cancel_unstarted
from django_multipay.models import Payment
from django_multipay.states import UNSUCCESSFUL_STATUSES


def cancel_payment(payment: Payment, *, by: object = None) -> None:
    """End the attempt ``payment``, if nobody can pay it any more; refreshes it.

    One that was never opened at a provider is *canceled*. One that was opened may
    still be paid there: the provider is asked, as often as an inquiry is due, and
    `InvalidTransition` is raised unless it says that the attempt is over. To an
    attempt that is over without money this does nothing. `ProviderError` as it comes.
    """
    refuse_open_transaction("cancel_payment")
    if cancel_unstarted(payment.pk, actor_of(by)):
        deliver_notices()
        payment.refresh_from_db()
        return
    payment.refresh_from_db()
    if payment.status not in UNSUCCESSFUL_STATUSES:
        sync_if_due(payment)
    if payment.status not in UNSUCCESSFUL_STATUSES:
        raise InvalidTransition(
            f"payment {payment.uuid} is {payment.status}: it was opened at its "
            "provider and can still be paid there"
        )
