"""Forgetting in time: what `MULTIPAY["RETENTION"]` says, and what a buyer asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Lower
from django.utils import timezone

from django_multipay.conf import conf
from django_multipay.exceptions import InvalidOperation
from django_multipay.flows.guards import refuse_open_transaction
from django_multipay.ledger import claims, retention
from django_multipay.models import Payment, RecurringPlan, Token
from django_multipay.models.fields import Exactly, exactly

Progress = Callable[[int, int], None]
"""Called with how many rows were purged, and how many were to be at the start."""

_Step = tuple[str, Callable[[datetime], QuerySet[Any]], retention.Drop]

_STEPS: tuple[tuple[str, tuple[_Step, ...]], ...] = (
    (
        "MESSAGES",
        (("messages", retention.old_messages, retention.trim_messages),),
    ),
    (
        "NOTICES",
        (
            ("events", retention.old_events, retention.drop_events),
            ("notices", retention.old_notices, retention.drop_notices),
        ),
    ),
    (
        "CHECKOUTS",
        (("checkouts", retention.old_checkouts, retention.drop_checkouts),),
    ),
    (
        "BUYERS",
        (
            (
                "buyers",
                lambda moment: retention.closed_payments().filter(
                    created_at__lt=moment
                ),
                retention.forget_buyers,
            ),
        ),
    ),
)
"""What each key of the setting looks after, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeReport:
    """How many rows were purged; with ``dry_run``, how many would be.

    ``messages`` and ``checkouts`` were emptied, ``events`` and ``notices`` deleted,
    of ``buyers`` the payments know nothing any more.
    """

    messages: int = 0
    events: int = 0
    notices: int = 0
    checkouts: int = 0
    buyers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport:
    """How many rows of a buyer were made nobody's; with ``dry_run``, would be.

    ``open_rows`` are payments, plans and saved methods that are not over, and are
    left alone: end them first, then ask again.
    """

    payments: int = 0
    plans: int = 0
    tokens: int = 0
    open_rows: int = 0


def purge(*, dry_run: bool = False, progress: Progress | None = None) -> PurgeReport:
    """Take out of the database what ``MULTIPAY["RETENTION"]`` keeps no longer.

    A few rows at a time, in transactions of their own: it may run beside the site, be
    stopped, and be run again. Amounts, references and facts stay.
    """
    refuse_open_transaction("purge")
    days = conf.retention
    now = timezone.now()
    wanted = {
        name: (find(now - timedelta(days=age)), drop)
        for key, steps in _STEPS
        if (age := days[key]) is not None
        for name, find, drop in steps
    }
    return PurgeReport(**_worked_off(wanted, dry_run, progress))


def erase_buyer(
    *,
    customer_id: str = "",
    email: str = "",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ErasureReport:
    """Forget one buyer, by the shop's id of them, by their e-mail address, or both.

    What they paid stays, under a pseudonym. `InvalidOperation` if neither is given.
    """
    refuse_open_transaction("erase_buyer")
    if not (customer_id or email):
        raise InvalidOperation("name the buyer: customer_id or email", "customer_id")
    own = exactly("customer_id", customer_id) if customer_id else Q(pk__in=[])
    # Not `iexact`: where a collation is binary, MariaDB would compare the letters' case.
    same_address = Q(Exactly(Lower("buyer_email"), Lower(Value(email))))
    buyers = own | same_address if email else own
    plans = retention.known_plans().filter(buyers)
    tokens = retention.known_tokens().filter(own)
    wanted: dict[str, tuple[QuerySet[Any], retention.Drop]] = {
        "payments": (
            retention.closed_payments().filter(buyers),
            retention.forget_buyers,
        ),
        "plans": (plans.filter(retention.is_over()), retention.forget_plans),
        "tokens": (tokens.filter(retention.is_gone()), retention.forget_tokens),
    }
    whole: tuple[QuerySet[Payment] | QuerySet[RecurringPlan] | QuerySet[Token], ...] = (
        retention.known_payments().filter(buyers),
        plans,
        tokens,
    )
    # Counted before: what is over by then is not open.
    known = sum(rows.count() for rows in whole)
    done = _worked_off(wanted, dry_run, progress)
    return ErasureReport(**done, open_rows=max(0, known - sum(done.values())))


def _worked_off(
    wanted: dict[str, tuple[QuerySet[Any], retention.Drop]],
    dry_run: bool,
    progress: Progress | None,
) -> dict[str, int]:
    """Work off each kind of row, chunk by chunk; return how many of each."""
    if dry_run:
        return {name: rows.count() for name, (rows, _) in wanted.items()}
    total = sum(rows.count() for rows, _ in wanted.values()) if progress else 0
    done = dict.fromkeys(wanted, 0)
    for name, (rows, drop) in wanted.items():
        for keys in claims.chunks(rows):
            done[name] += drop(keys)
            if progress is not None:
                progress(min(sum(done.values()), total), total)
    return done
