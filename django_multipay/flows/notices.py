"""Telling the shop: from the outbox, at least once, each receiver by itself."""

from __future__ import annotations

import logging

from django.dispatch import Signal

from django_multipay import ledger, signals
from django_multipay.models import Notice, Payment

logger = logging.getLogger("django_multipay.flows")


def deliver_notices(limit: int = 100) -> int:
    """Send due notices as signals; return how many every receiver accepted.

    A receiver that raises keeps its notice due: it comes again later, with the same
    ``notice_id``, to all receivers. Nothing that was recorded is undone.
    """
    delivered = 0
    for notice in ledger.claim_notices(limit):
        error = _send(notice)
        ledger.conclude_notice(notice, error)
        delivered += not error
    return delivered


def _send(notice: Notice) -> str:
    """Send the signals of ``notice``; return what went wrong, or ""."""
    problems = []
    for name in notice.signals:
        signal: Signal = getattr(signals, name)
        results = signal.send_robust(
            sender=Payment,
            payment=notice.payment,
            transaction=notice.transaction,
            refund=notice.refund,
            notice_id=str(notice.uuid),
        )
        for receiver, answer in results:
            if isinstance(answer, Exception):
                where = getattr(receiver, "__qualname__", type(receiver).__name__)
                logger.error(
                    "%s: receiver %s raised and will be called again",
                    name,
                    where,
                    exc_info=answer,
                )
                problems.append(f"{name}: {where}: {type(answer).__name__}")
    return "; ".join(problems)
