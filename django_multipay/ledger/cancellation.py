"""Ending an attempt that no provider has heard of."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from django_multipay.enums import (
    OperationKind,
    OperationState,
    PaymentStatus,
    Source,
    TransactionKind,
)
from django_multipay.ledger import _add_facts, _lock
from django_multipay.ledger.claims import DatabaseNow, retried
from django_multipay.models import Operation, Transaction
from django_multipay.redaction import storable


@retried
def cancel_unstarted(payment_id: int, actor: str) -> bool:
    """Cancel a payment nobody can pay any more; False if a provider may know of it.

    Its intent to start is taken back under the same row locks that a start needs, so
    of a click on *pay* and a click on *cancel* exactly one comes through.
    """
    with transaction.atomic(durable=True):
        payment = _lock(payment_id)
        known = list(payment.transactions.all())
        # A locking read: a plain one would show MariaDB's older view of the rows.
        starts = list(
            Operation.objects.select_for_update().filter(
                payment_id=payment_id, kind=OperationKind.CHECKOUT
            )
        )
        is_unknown_there = all(
            start.state in {OperationState.REQUESTED, OperationState.REFUSED}
            for start in starts
        )
        if payment.status != PaymentStatus.CREATED or known or not is_unknown_there:
            return False
        payment.operations.filter(
            kind=OperationKind.CHECKOUT, state=OperationState.REQUESTED
        ).update(
            state=OperationState.ABANDONED, open_slot=None, updated_at=DatabaseNow()
        )
        fact = Transaction(
            payment=payment,
            kind=TransactionKind.CANCELLATION,
            currency=payment.currency,
            source=Source.SITE,
            detail=storable(actor, 255),
            occurred_at=timezone.now(),
        )
        _add_facts(payment, known, [fact])
    return True
