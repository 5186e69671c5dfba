"""Flows as Django Tasks, for whatever engine the site has chosen.

Django 6.0 and later bring the interface; on 5.2 it is the package ``django-tasks``
(extra ``tasks``). Without a ``TASKS`` setting they run at once, where they are asked
for.
"""

from __future__ import annotations

from datetime import timedelta

from django_multipay.flows.batches import run_batch
from django_multipay.models import Batch

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
