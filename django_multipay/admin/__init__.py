"""The cockpit for staff; Django's admin finds the registrations here."""

from __future__ import annotations

from django_multipay.admin import (
    batches,
    endpoints,
    health,
    payments,
    plans,
    records,
    tokens,
)

__all__ = ["batches", "endpoints", "health", "payments", "plans", "records", "tokens"]
