"""The cockpit for staff; Django's admin finds the registrations here."""

from __future__ import annotations

from django_multipay.admin import batches, payments, records

__all__ = ["batches", "payments", "records"]
