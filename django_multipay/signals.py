"""Signals a shop listens to; all are sent from the outbox, at least once.

Every receiver gets ``payment``, ``transaction``, ``refund``, ``token`` and ``plan``
(None where the news is not about one) and ``notice_id``: a stable UUID string. The
same notice may arrive twice, with the same id; a receiver that raises is called again
later and undoes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.dispatch import Signal


class NoticeSignal(Signal):
    """A signal of the outbox; whoever sends it reports the receivers that raised."""

    def _log_robust_failure(self, receiver: Callable[..., Any], err: Exception) -> None:
        # Django's own raises for a receiver without a name, such as a partial.
        pass


payment_paid = NoticeSignal()
payment_failed = NoticeSignal()
payment_refunded = NoticeSignal()
payment_status_changed = NoticeSignal()
payment_needs_review = NoticeSignal()
refund_status_changed = NoticeSignal()
token_created = NoticeSignal()
token_status_changed = NoticeSignal()
token_expiring = NoticeSignal()
plan_status_changed = NoticeSignal()
plan_charged = NoticeSignal()

account_health_changed = Signal()
"""Not of the outbox: this process saw ``provider`` (an alias) fail too often, refuse
our credentials, or answer again; ``health`` is what it saw. Made for alarms."""
