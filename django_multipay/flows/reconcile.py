"""Healing: whatever a crash or a lost message left open is found and finished."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from django_multipay import ledger
from django_multipay.enums import Verdict
from django_multipay.exceptions import MultipayError
from django_multipay.flows.notices import deliver_notices
from django_multipay.flows.operations import resume_if_due, sync_refund_if_due
from django_multipay.flows.sync import sync_if_due
from django_multipay.flows.webhooks import replay_delivery
from django_multipay.models import Operation, Payment, Refund, WebhookDelivery

logger = logging.getLogger("django_multipay.flows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run of `reconcile` found; with ``dry_run``, what it would do."""

    deliveries: int = 0
    payments: int = 0
    operations: int = 0
    refunds: int = 0
    notices: int = 0
    errors: int = 0


def reconcile(
    providers: Sequence[str] | None = None,
    older_than: timedelta | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> Report:
    """Apply stored messages, ask about open payments, carry on what was interrupted.

    ``providers`` are aliases (None: all), ``older_than`` leaves out younger rows,
    ``limit`` bounds each kind of row (default 500). Never starts a payment. Safe
    to run many times at once: every row is claimed before it is worked on.
    """
    bound = 500 if limit is None else limit
    deliveries = WebhookDelivery.objects.filter(
        verdict=Verdict.STORED, retry_at__lte=ledger.DatabaseNow()
    )
    payments = Payment.objects.filter(sync_at__lte=ledger.DatabaseNow())
    operations = ledger.due_operations()
    refunds = Refund.objects.filter(sync_at__lte=ledger.DatabaseNow())
    if providers is not None:
        deliveries = deliveries.filter(provider__in=providers)
        payments = payments.filter(provider__in=providers)
        operations = operations.filter(payment__provider__in=providers)
        refunds = refunds.filter(payment__provider__in=providers)
    if older_than is not None:
        moment = timezone.now() - older_than
        deliveries = deliveries.filter(received_at__lte=moment)
        payments = payments.filter(created_at__lte=moment)
        operations = operations.filter(created_at__lte=moment)
        refunds = refunds.filter(created_at__lte=moment)
    # Only the keys: a row that cannot be read must not hide the others.
    stored = list(
        deliveries.order_by("retry_at", "id").values_list("pk", flat=True)[:bound]
    )
    due = list(payments.order_by("sync_at").values_list("pk", flat=True)[:bound])
    left_open = list(
        operations.order_by("retry_at", "id").values_list("pk", flat=True)[:bound]
    )
    in_transit = list(refunds.order_by("sync_at").values_list("pk", flat=True)[:bound])
    if dry_run:
        return Report(
            deliveries=len(stored),
            payments=len(due),
            operations=len(left_open),
            refunds=len(in_transit),
            notices=ledger.due_notices()[:bound].count(),
            errors=0,
        )
    applied = [_tried(_replay, pk) for pk in stored]
    asked = [_tried(_ask, pk) for pk in due]
    resumed = [_tried(_resume, pk) for pk in left_open]
    traced = [_tried(_trace, pk) for pk in in_transit]
    return Report(
        deliveries=applied.count(True),
        payments=asked.count(True),
        operations=resumed.count(True),
        refunds=traced.count(True),
        notices=deliver_notices(bound),
        errors=[*applied, *asked, *resumed, *traced].count(None),
    )


def _tried(step: Callable[[int], bool], pk: int) -> bool | None:
    """Run ``step``; None if it raised: one bad row must not stop the others."""
    try:
        return step(pk)
    except MultipayError as error:
        logger.warning("%s %s: %s", step.__name__, pk, error)
    except Exception:
        logger.exception("%s %s failed", step.__name__, pk)
    return None


def _replay(delivery_id: int) -> bool:
    delivery = WebhookDelivery.objects.get(pk=delivery_id)
    return replay_delivery(delivery) is not Verdict.STORED


def _ask(payment_id: int) -> bool:
    return sync_if_due(Payment.objects.get(pk=payment_id))


def _resume(operation_id: int) -> bool:
    return resume_if_due(Operation.objects.get(pk=operation_id))


def _trace(refund_id: int) -> bool:
    return sync_refund_if_due(Refund.objects.get(pk=refund_id))
