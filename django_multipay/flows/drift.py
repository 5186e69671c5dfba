"""Comparing: what the providers say about payments, and what our facts say.

A provider can only be asked about one payment after another, so this is an inquiry
for each, by as many at once as `reconcile` makes. Nothing is written: what differs is
for a person, who may then press "check with provider".
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from django.db.models import QuerySet
from django.utils import timezone
from moneyed import Money

from django_multipay.conf import conf
from django_multipay.enums import Capability, Drift, PaymentStatus
from django_multipay.exceptions import MultipayError
from django_multipay.flows.guards import refuse_open_transaction
from django_multipay.flows.sync import ask
from django_multipay.ledger import claims
from django_multipay.messages import PaymentSnapshot
from django_multipay.models import Payment
from django_multipay.money import from_minor
from django_multipay.registry import registry
from django_multipay.states import PAID_STATUSES

logger = logging.getLogger("django_multipay.flows")

DEFAULT_SPAN = timedelta(days=1)
"""How far back `drift_report` looks by itself."""

MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One sum of one payment that the provider and we do not agree about.

    ``field`` is ``authorized``, ``captured``, ``refunded`` or ``amount``; ``ours`` and
    ``theirs`` are amounts with their currency.
    """

    kind: Drift
    field: str
    payment: str
    order_id: str
    provider: str
    reference: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What was compared, and where the provider's view is not ours.

    ``errors`` counts payments about which there was no answer, ``unasked`` those whose
    account has no inquiry; ``problems`` spells the first errors out.
    """

    since: datetime
    until: datetime
    compared: int = 0
    unasked: int = 0
    errors: int = 0
    differences: Sequence[Difference] = ()
    problems: Sequence[str] = field(default=())


def drift_report(
    providers: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> DriftReport:
    """Ask about every payment created from ``since`` until ``until``, and compare.

    ``providers`` are aliases (None: all). By default the last day. Reads only: no fact
    is written, whatever the provider says. `RuntimeError` inside a transaction.
    """
    refuse_open_transaction("drift_report")
    until = until or timezone.now()
    since = since or until - DEFAULT_SPAN
    askable = [
        alias
        for alias in registry
        if (providers is None or alias in providers)
        and Capability.FETCH in registry[alias].capabilities
    ]
    started = Payment.objects.filter(
        created_at__gte=since, created_at__lt=until, started_at__isnull=False
    )
    if providers is not None:
        started = started.filter(provider__in=providers)
    wanted = started.filter(provider__in=askable)
    total = wanted.count()
    unasked = started.exclude(provider__in=askable).count()
    compared, errors = 0, 0
    differences: list[Difference] = []
    problems: list[str] = []
    for payment, answer in _answers(_in_chunks(wanted), askable):
        if isinstance(answer, PaymentSnapshot):
            compared += 1
            differences += _differences(payment, answer)
        else:
            errors += 1
            if len(problems) < MOST_PROBLEMS:
                problems.append(f"payment {payment.uuid}: {answer}")
        if progress is not None:
            progress(compared + errors, total)
    return DriftReport(
        since=since,
        until=until,
        compared=compared,
        unasked=unasked,
        errors=errors,
        differences=tuple(differences),
        problems=tuple(problems),
    )


def _in_chunks(payments: QuerySet[Payment]) -> Iterator[Payment]:
    """Return the payments in order of their keys, a few in memory at a time."""
    for keys in claims.chunks(payments):
        yield from claims.read(Payment, keys)


Answer = PaymentSnapshot | str


def _answers(
    payments: Iterator[Payment], askable: Sequence[str]
) -> Iterator[tuple[Payment, Answer]]:
    """Ask about each payment, some at once; the threads touch no database.

    An account is asked by at most ``MULTIPAY["CONCURRENCY"]`` at a time.
    """
    limits = {alias: threading.Semaphore(conf.concurrency) for alias in askable}

    def answer(payment: Payment) -> Answer:
        with limits[payment.provider]:
            try:
                return ask(registry[payment.provider], payment)
            except MultipayError as error:
                return str(error)
            except Exception as error:
                logger.exception("payment %s cannot be compared", payment.uuid)
                return type(error).__name__

    width = max(1, conf.concurrency * len(askable))
    with ThreadPoolExecutor(width, "multipay-drift") as pool:
        under_way: dict[Future[Answer], Payment] = {}
        while True:
            for payment in islice(payments, width - len(under_way)):
                under_way[pool.submit(answer, payment)] = payment
            if not under_way:
                return
            finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in finished:
                yield under_way.pop(future), future.result()


def _differences(payment: Payment, snapshot: PaymentSnapshot) -> Iterator[Difference]:
    """Return where ``snapshot`` and our sums of ``payment`` are not the same."""
    theirs = _sums(payment, snapshot)
    ours = {
        "authorized": payment.authorized,
        "captured": payment.captured,
        "refunded": payment.refunded,
        "amount": payment.amount,
    }
    for name, amount in theirs.items():
        if amount == ours[name]:
            continue
        kind = Drift.AMOUNTS_DIFFER
        if name != "amount" and not ours[name]:
            kind = Drift.ONLY_THEIRS
        elif name != "amount" and not amount:
            kind = Drift.ONLY_OURS
        yield Difference(
            kind=kind,
            field=name,
            payment=str(payment.uuid),
            order_id=payment.order_id,
            provider=payment.provider,
            reference=snapshot.provider_reference or payment.provider_reference or "",
            ours=_written(ours[name]),
            theirs=_written(amount),
        )


def _sums(payment: Payment, snapshot: PaymentSnapshot) -> dict[str, Money]:
    """Return the sums that the provider names, or that its status means.

    What it does not speak of is left out: silence is no difference.
    """
    nothing = from_minor(0, payment.currency)
    amount = snapshot.amount or payment.amount
    sums: dict[str, Money] = {}
    if snapshot.amount is not None:
        sums["amount"] = snapshot.amount
    if snapshot.status in PAID_STATUSES:
        sums["captured"] = snapshot.captured or amount
    else:
        sums["captured"] = snapshot.captured or nothing
    if snapshot.refunded is not None:
        sums["refunded"] = snapshot.refunded
    elif snapshot.status == PaymentStatus.REFUNDED:
        sums["refunded"] = sums["captured"]
    if snapshot.status == PaymentStatus.AUTHORIZED:
        sums["authorized"] = amount
    return sums


def _written(amount: Money) -> str:
    return f"{amount.amount} {amount.currency.code}"
