"""Signals a shop listens to; all are sent from the outbox, at least once.

Every receiver gets ``payment`` (or ``refund``, ``token``, ``plan``) and
``notice_id``: a stable UUID string. The same notice may arrive twice, with the same
id; a receiver that raises is called again later and undoes nothing.
"""

from __future__ import annotations

from django.dispatch import Signal

payment_paid = Signal()
payment_failed = Signal()
payment_refunded = Signal()
payment_status_changed = Signal()
payment_needs_review = Signal()
refund_status_changed = Signal()
token_created = Signal()
plan_status_changed = Signal()
plan_charged = Signal()
