"""How the accounts are: what a process saw of them, written down for all to see."""

from __future__ import annotations

from django_multipay.messages import Health
from django_multipay.models import AccountHealth


def record_health(provider: str, health: Health) -> None:
    """Write what this process last saw of the account ``provider``."""
    AccountHealth.objects.update_or_create(
        provider=provider,
        defaults={
            "is_refused": health.is_refused,
            "failures": health.failures,
            "failure": health.failure[:64],
            "paused_until": health.paused_until,
            "succeeded_at": health.succeeded_at,
            "failed_at": health.failed_at,
        },
    )
