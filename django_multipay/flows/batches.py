"""One step for many payments: every one by itself, none twice.

The batch's uuid is the idempotency key of each step, so a batch may be run again after
a crash, or by two workers at once: what was done is found, not repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from django_multipay import ledger
from django_multipay.enums import (
    BatchItemState,
    BatchKind,
    OperationState,
    RefundStatus,
)
from django_multipay.exceptions import (
    InvalidOperation,
    MultipayError,
    OutcomeUnknown,
    ProviderUnavailable,
)
from django_multipay.flows.guards import actor_of, refuse_open_transaction
from django_multipay.flows.operations import (
    capture_payment,
    check_payment,
    refund_payment,
    void_payment,
)
from django_multipay.models import Batch, Operation, Payment, Refund

logger = logging.getLogger("django_multipay.flows")

MOST = 500
"""Payments in one batch; whoever needs more makes more batches."""

_STEPS: Mapping[str, Callable[[Payment, str, str], object]] = {
    BatchKind.CHECK: lambda payment, by, key: check_payment(payment),
    BatchKind.CAPTURE: lambda payment, by, key: capture_payment(
        payment, by=by, idempotency_key=key
    ),
    BatchKind.VOID: lambda payment, by, key: void_payment(
        payment, by=by, idempotency_key=key
    ),
    BatchKind.REFUND: lambda payment, by, key: refund_payment(
        payment, by=by, idempotency_key=key
    ),
}


def create_batch(kind: str, payments: Sequence[Payment], *, by: object) -> Batch:
    """Record that ``kind`` is wanted for each of ``payments``; nothing is sent.

    `InvalidOperation` for an unknown kind, no payment, or more than `MOST`.
    """
    if kind not in BatchKind.values:
        raise InvalidOperation(
            f"kind is {kind!r}; use one of: {', '.join(BatchKind.values)}", "kind"
        )
    if not 0 < len(payments) <= MOST:
        raise InvalidOperation(
            f"{len(payments)} payments are chosen; choose 1 to {MOST}", "payments"
        )
    return ledger.open_batch(kind, [payment.pk for payment in payments], actor_of(by))


def run_batch(batch: Batch, *, budget: timedelta | None = None) -> int:
    """Carry out what waits in ``batch``; return how many payments are left.

    Starts no further payment once ``budget`` is used up.
    """
    refuse_open_transaction("run_batch")
    started = time.monotonic()
    for item in batch.items.filter(state=BatchItemState.WAITING).select_related(
        "payment"
    ):
        state, note = _carry_out(batch, item.payment)
        ledger.conclude_batch_item(item, state, note)
        is_spent = (
            budget is not None
            and timedelta(seconds=time.monotonic() - started) >= budget
        )
        if is_spent:
            break
    return batch.items.filter(state=BatchItemState.WAITING).count()


def _carry_out(batch: Batch, payment: Payment) -> tuple[BatchItemState, str]:
    """Do the step for one payment; whatever goes wrong stays with that payment."""
    try:
        done = _STEPS[batch.kind](payment, batch.actor, str(batch.uuid))
    except (OutcomeUnknown, ProviderUnavailable) as error:
        # What was written ahead is carried on by `reconcile`, not by the batch.
        is_check = batch.kind == BatchKind.CHECK
        return (BatchItemState.FAILED if is_check else BatchItemState.OPEN), str(error)
    except MultipayError as error:
        return BatchItemState.FAILED, str(error)
    except Exception as error:
        logger.exception("batch %s: payment %s failed", batch.uuid, payment.uuid)
        return BatchItemState.FAILED, type(error).__name__
    if isinstance(done, Refund):
        state, note = _REFUNDS[RefundStatus(done.status)], done.get_status_display()
    elif isinstance(done, Operation):
        state, note = _OPERATIONS[OperationState(done.state)], done.get_state_display()
    else:
        return BatchItemState.DONE, str(payment.get_status_display())
    return state, done.error or str(note)


_REFUNDS: Mapping[RefundStatus, BatchItemState] = {
    RefundStatus.REQUESTED: BatchItemState.OPEN,
    RefundStatus.PENDING: BatchItemState.OPEN,
    RefundStatus.UNKNOWN: BatchItemState.OPEN,
    RefundStatus.SUCCEEDED: BatchItemState.DONE,
    RefundStatus.FAILED: BatchItemState.FAILED,
}
_OPERATIONS: Mapping[OperationState, BatchItemState] = {
    OperationState.REQUESTED: BatchItemState.OPEN,
    OperationState.IN_FLIGHT: BatchItemState.OPEN,
    OperationState.UNKNOWN: BatchItemState.OPEN,
    OperationState.SUCCEEDED: BatchItemState.DONE,
    OperationState.REFUSED: BatchItemState.FAILED,
    OperationState.ABANDONED: BatchItemState.FAILED,
}
