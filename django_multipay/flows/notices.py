"""Telling the shop: from the outbox, at least once, each receiver by itself."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from operator import attrgetter

from django.dispatch import Signal

from django_multipay import ledger, signals
from django_multipay.flows.endpoints import tell_endpoints
from django_multipay.ledger import plans
from django_multipay.models import Notice, Payment

logger = logging.getLogger("django_multipay.flows")

_MOMENT_NS = 100_000_000
"""What was told within it is marked together: so much is repeated after a crash."""


def deliver_notices(limit: int = 100) -> int:
    """Send due notices as signals; return how many every receiver accepted.

    A receiver that raises keeps its notice due: it comes again later, with the same
    ``notice_id``, to all receivers. Nothing that was recorded is undone. What the
    endpoints hear of is written down first, once, whatever the receivers do.
    """
    return tell(ledger.claim_notices(limit), limit)


def tell(notices: Sequence[Notice], limit: int = 100) -> int:
    """Deliver ``notices``, which are the caller's; return how many were accepted."""
    delivered = 0
    astray = _follow_plans(notices)
    # Before the receivers, so that none of them can keep it from the endpoints.
    untold = tell_endpoints(notices)
    accepted: list[Notice] = []
    began = time.monotonic_ns()
    for _payment, group in itertools.groupby(notices, attrgetter("payment_id")):
        for notice in group:
            problems = [astray.get(notice.pk), _send(notice), untold.get(notice.pk)]
            if error := "; ".join(filter(None, problems)):
                ledger.postpone_notice(notice, error)
            else:
                accepted.append(notice)
        if accepted and time.monotonic_ns() - began > _MOMENT_NS:
            ledger.conclude_notices(accepted)
            delivered += len(accepted)
            accepted, began = [], time.monotonic_ns()
    if accepted:
        ledger.conclude_notices(accepted)
    delivered += len(accepted)
    if any(map(_is_of_a_plan, notices)):
        # What their plans made of it.
        delivered += deliver_notices(limit)
    return delivered


def _is_of_a_plan(notice: Notice) -> bool:
    """Say whether it is news of a payment that a plan must follow."""
    payment = notice.payment
    return payment is not None and payment.plan_id is not None and not notice.plan_id


def _follow_plans(notices: Sequence[Notice]) -> dict[int, str]:
    """Let the plans of what the notices are about follow; return what went wrong.

    Whoever wrote the facts does it, too; but they may have died before.
    """
    problems = {}
    for notice in filter(_is_of_a_plan, notices):
        assert notice.payment is not None  # noqa: S101  (just asked)
        assert notice.payment.plan_id is not None  # noqa: S101
        try:
            plans.follow(notice.payment.plan_id)
        except Exception as error:
            logger.exception("plan %s did not follow", notice.payment.plan_id)
            problems[notice.pk] = f"plan: {type(error).__name__}"
    return problems


def _send(notice: Notice) -> str:
    """Send the signals of ``notice``; return what went wrong, or ""."""
    problems = []
    for name in notice.signals:
        signal: Signal | None = getattr(signals, name, None)
        if signal is None:
            # Written by a newer version: one of its workers will know it.
            problems.append(f"{name}: no such signal here")
            continue
        results = signal.send_robust(
            sender=Payment,
            payment=notice.payment,
            transaction=notice.transaction,
            refund=notice.refund,
            token=notice.token,
            plan=notice.plan,
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
