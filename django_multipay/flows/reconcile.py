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
from django_multipay.flows.sync import sync_if_due
from django_multipay.flows.webhooks import replay_delivery
from django_multipay.models import Payment, WebhookDelivery

logger = logging.getLogger("django_multipay.flows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run of `reconcile` found; with ``dry_run``, what it would do."""

    deliveries: int
    payments: int
    notices: int
    errors: int


def reconcile(
    providers: Sequence[str] | None = None,
    older_than: timedelta | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> Report:
    """Apply stored messages, ask about open payments, deliver notices.

    ``providers`` are aliases (None: all), ``older_than`` leaves out younger rows,
    ``limit`` bounds each of the three (default 500). Never starts a payment. Safe
    to run many times at once: every row is claimed before it is worked on.
    """
    bound = 500 if limit is None else limit
    deliveries = WebhookDelivery.objects.filter(
        verdict=Verdict.STORED, retry_at__lte=ledger.DatabaseNow()
    )
    payments = Payment.objects.filter(sync_at__lte=ledger.DatabaseNow())
    if providers is not None:
        deliveries = deliveries.filter(provider__in=providers)
        payments = payments.filter(provider__in=providers)
    if older_than is not None:
        moment = timezone.now() - older_than
        deliveries = deliveries.filter(received_at__lte=moment)
        payments = payments.filter(created_at__lte=moment)
    # Only the keys: a row that cannot be read must not hide the others.
    stored = list(
        deliveries.order_by("retry_at", "id").values_list("pk", flat=True)[:bound]
    )
    due = list(payments.order_by("sync_at").values_list("pk", flat=True)[:bound])
    if dry_run:
        return Report(
            deliveries=len(stored),
            payments=len(due),
            notices=ledger.due_notices()[:bound].count(),
            errors=0,
        )
    applied = [_tried(_replay, pk) for pk in stored]
    asked = [_tried(_ask, pk) for pk in due]
    return Report(
        deliveries=applied.count(True),
        payments=asked.count(True),
        notices=deliver_notices(bound),
        errors=[*applied, *asked].count(None),
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
