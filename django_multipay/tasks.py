"""Flows as Django Tasks, for whatever engine the site has chosen.

Django 6.0 and later bring the interface; on 5.2 it is the package ``django-tasks``
(extra ``tasks``). Without a ``TASKS`` setting they run at once, where they are asked
for.
"""

from __future__ import annotations

from datetime import timedelta

from django_multipay.enums import Verdict
from django_multipay.flows.batches import run_batch
from django_multipay.flows.endpoints import deliver_endpoints
from django_multipay.flows.notices import deliver_notices
from django_multipay.flows.plans import charge_due_plans
from django_multipay.flows.reconcile import reconcile
from django_multipay.flows.webhooks import replay_delivery
from django_multipay.models import Batch, WebhookDelivery

try:
    from django.tasks import task
    from django.tasks.backends.immediate import ImmediateBackend
except ImportError:  # Django 5.2
    from django_tasks import task  # type: ignore[no-redef]
    from django_tasks.backends.immediate import (  # type: ignore[assignment]
        ImmediateBackend,
    )

TURN = timedelta(seconds=20)
"""How long one task works on a batch before it makes room for others."""


@task()
def carry_out_batch(batch_uuid: str) -> int:
    """Carry out what waits in a batch, a turn at a time; return what is left."""
    left = run_batch(Batch.objects.get(uuid=batch_uuid), budget=TURN)
    # Where tasks run at once, asking again would not make room but nest.
    if left and not isinstance(carry_out_batch.get_backend(), ImmediateBackend):
        carry_out_batch.enqueue(batch_uuid)
    return left


@task()
def charge_due() -> dict[str, int]:
    """Charge the plans that are due; return how many were, and how many errors met."""
    report = charge_due_plans()
    return {"charged": report.charged, "errors": report.errors}


@task()
def apply_delivery(delivery_uuid: str) -> str:
    """Apply a message that waits in the inbox; return what became of it."""
    delivery = WebhookDelivery.objects.get(uuid=delivery_uuid)
    if delivery.verdict != Verdict.STORED:
        return delivery.verdict
    return str(replay_delivery(delivery))


@task()
def deliver() -> int:
    """Send the notices that are due; return how many every receiver accepted."""
    return deliver_notices()


@task()
def reconcile_now() -> dict[str, int]:
    """Finish what was left open, for a turn; return what was done, by its kind.

    For a scheduler that knows tasks; cron calls the command of the same work.
    """
    report = reconcile(budget=TURN)
    return {**report.loops, "errors": report.errors}


@task()
def send_events() -> int:
    """Send what waits for the endpoints, for a turn; return how many were taken.

    What is left, and what must be tried again later, is found by `reconcile`.
    """
    return deliver_endpoints(budget=TURN)


def wake_up() -> None:
    """Let the engine send events at once; nobody's request waits for an endpoint."""
    if not isinstance(send_events.get_backend(), ImmediateBackend):
        send_events.enqueue()
