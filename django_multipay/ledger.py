"""The only hand that writes money rows: what may change, and is it safe?

Every function is one short transaction, outermost by design (``durable``), so none
can be open while a provider is called. Lock order: the payment first, then its rows.
A decision is taken only from rows read under the payment's lock.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from moneyed import Money

from django_multipay import crypto, money, states
from django_multipay.enums import (
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    ReviewReason,
    Source,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import InvalidAmount
from django_multipay.messages import PaymentSnapshot, TokenSnapshot, dump_action
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Token,
    Transaction,
    WebhookDelivery,
)
from django_multipay.redaction import scrub, storable

logger = logging.getLogger("django_multipay.ledger")

LEASE = timedelta(seconds=60)
"""How long a worker owns an operation: four times the total budget of a call."""

NOTICE_LEASE = timedelta(minutes=5)
"""How long a dispatcher owns a notice before another may deliver it."""

NOTICE_DELAYS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 720))
SYNC_DELAYS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 15, 30, 60, 120, 600, 3600, 21600, 86400)
)
"""When to ask again; the last delay repeats."""

DELIVERY_PATIENCE = timedelta(hours=72)
"""How long a stored message is applied again before a person must look."""

_DAYS_TO_ASK = 7

_ATTEMPTS = 5
_MAX_ATTEMPTS = 32767

P = ParamSpec("P")
R = TypeVar("R")


def _step(delays: Sequence[timedelta], number: int) -> timedelta:
    """Return the delay after attempt ``number`` (from 0); the last one repeats."""
    return delays[min(number, len(delays) - 1)]


class DatabaseNow(Now):
    """The database's clock, so that workers whose clocks differ agree on leases."""

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Return UTC, because a session's time zone need not be."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


def _retried(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` again after a deadlock, a busy database or a lost race.

    Only as the outermost block: inside a caller's transaction the error is theirs.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, _ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except (OperationalError, IntegrityError):
                if connection.in_atomic_block or not _is_connected():
                    raise
                logger.info("%s: attempt %s is repeated", function.__name__, attempt)
                # Jitter only; nothing secret depends on it.
                time.sleep(random.randint(5, 40) * attempt / 1000)  # noqa: S311
        return function(*args, **kwargs)

    return wrapper


def _is_connected() -> bool:
    # MariaDB's own check fails when there is no connection at all.
    return connection.connection is not None and connection.is_usable()


def _lock(payment_id: int) -> Payment:
    """Return the payment, locked until the transaction ends."""
    return Payment.objects.select_for_update().get(pk=payment_id)


# Payments and operations -----------------------------------------------------------


def open_payment(payment: Payment) -> Payment:
    """Insert ``payment`` and, if its provider is known, the intent to start it.

    Joins the caller's transaction, because nothing is sent here.
    """
    with transaction.atomic():
        payment.save(force_insert=True)
        if payment.provider:
            _open_checkout(payment)
    return payment


def _open_checkout(payment: Payment) -> Operation:
    return Operation.objects.create(
        kind=OperationKind.CHECKOUT,
        payment=payment,
        amount_minor=payment.amount_minor,
        open_slot=f"checkout:{payment.pk}",
    )


_STARTABLE = frozenset({PaymentStatus.CREATED, PaymentStatus.PENDING})


@_retried
def request_checkout(payment: Payment, provider: str) -> Operation | None:
    """Return the one open checkout operation of ``payment``, made if need be.

    None if another worker has started the payment, or it is over, by now.
    ``provider`` is written to the payment while it has none.
    """
    with transaction.atomic(durable=True):
        locked = _lock(payment.pk)
        if locked.next_action or locked.status not in _STARTABLE:
            payment.provider = locked.provider
            return None
        if not locked.provider:
            locked.provider = provider
            locked.save(update_fields=["provider", "updated_at"])
        payment.provider = locked.provider
        operation = locked.operations.filter(
            kind=OperationKind.CHECKOUT, open_slot__isnull=False
        ).first()
        return operation or _open_checkout(locked)


@_retried
def claim_operation(operation: Operation) -> bool:
    """Take the lease of ``operation``; False while somebody else holds it.

    One conditional UPDATE decides, by the database's clock. A checkout whose outcome
    is unknown may be started again: opening a page moves no money.
    """
    token = uuid.uuid4().hex
    now = DatabaseNow()
    claimable = Q(state=OperationState.REQUESTED) | Q(
        state=OperationState.IN_FLIGHT, lease_until__lt=now
    )
    if operation.kind == OperationKind.CHECKOUT:
        claimable |= Q(state=OperationState.UNKNOWN)
    with transaction.atomic(durable=True):
        claimed = Operation.objects.filter(claimable, pk=operation.pk).update(
            state=OperationState.IN_FLIGHT,
            lease_token=token,
            lease_until=now + LEASE,
            attempts=F("attempts") + 1,
            updated_at=now,
        )
        if claimed and operation.kind == OperationKind.CHECKOUT:
            # Even if its answer is lost: somebody will ask what became of it.
            Payment.objects.filter(operations=operation, sync_at=None).update(
                sync_at=now + LEASE
            )
    if claimed:
        operation.lease_token = token
        operation.state = OperationState.IN_FLIGHT
    return bool(claimed)


@_retried
def conclude_operation(operation: Operation, state: str, error: str = "") -> bool:
    """Write the end of a call; False if the lease was lost meanwhile.

    Only *succeeded* and *refused* free the slot: unknown keeps it.
    """
    is_open = state in {OperationState.REQUESTED, OperationState.UNKNOWN}
    with transaction.atomic(durable=True):
        return bool(
            Operation.objects.filter(
                pk=operation.pk,
                state=OperationState.IN_FLIGHT,
                lease_token=operation.lease_token,
            ).update(
                state=state,
                error=storable(error, 255),
                lease_until=None,
                open_slot=F("open_slot") if is_open else None,
                updated_at=DatabaseNow(),
            )
        )


@_retried
def conclude_checkout(
    payment_id: int, operation: Operation, snapshot: PaymentSnapshot
) -> Payment:
    """Store where the buyer goes next and mark the checkout as started.

    A result whose lease was lost is dropped when another worker stored its own.
    """
    with transaction.atomic(durable=True):
        payment = _lock(payment_id)
        is_ours = Operation.objects.filter(
            pk=operation.pk,
            state=OperationState.IN_FLIGHT,
            lease_token=operation.lease_token,
        ).update(
            state=OperationState.SUCCEEDED,
            lease_until=None,
            open_slot=None,
            error="",
            updated_at=DatabaseNow(),
        )
        if not is_ours and payment.next_action:
            return payment
        now = timezone.now()
        payment.started_at = payment.started_at or now
        fields = ["started_at", "sync_at", "status", "updated_at"]
        if payment.status not in states.FINAL_STATUSES:
            payment.sync_at = now + SYNC_DELAYS[0]
        if payment.status in _STARTABLE:
            payment.status = PaymentStatus.PENDING
            if snapshot.next_action:
                payment.next_action = dump_action(snapshot.next_action)
                fields.append("next_action")
        if not payment.provider_reference and not _is_taken(payment, snapshot):
            payment.provider_reference = snapshot.provider_reference or None
            fields.append("provider_reference")
        if snapshot.expires_at and not payment.expires_at:
            payment.expires_at = snapshot.expires_at
            fields.append("expires_at")
        payment.save(update_fields=fields)
    return payment


# The inbox -------------------------------------------------------------------------


def find_delivery(provider: str, digest: str) -> WebhookDelivery | None:
    """Return the stored delivery with this digest, or None."""
    return WebhookDelivery.objects.filter(provider=provider, digest=digest).first()


@_retried
def store_delivery(
    *,
    provider: str,
    digest: str,
    source: Source,
    headers: Mapping[str, str],
    body: str,
    payload: Mapping[str, Any],
) -> WebhookDelivery:
    """Return the inbox row of an authentic message; a duplicate returns the first.

    The unique constraint decides, not a look before the insert.
    """
    delivery = WebhookDelivery(
        provider=provider,
        digest=digest,
        source=source,
        headers=dict(headers),
        body=body,
        payload=payload,
    )
    try:
        with transaction.atomic(durable=True):
            delivery.save(force_insert=True)
    except IntegrityError:
        return WebhookDelivery.objects.get(provider=provider, digest=digest)
    return delivery


_SETTLED = frozenset({Verdict.APPLIED, Verdict.IGNORED})


@_retried
def conclude_delivery(
    delivery: WebhookDelivery, verdict: Verdict, error: str = ""
) -> None:
    """Write what became of a delivery; its raw message is erased once applied.

    One that could not be applied for `DELIVERY_PATIENCE` is held for a person.
    """
    is_old = timezone.now() - delivery.received_at > DELIVERY_PATIENCE
    if verdict == Verdict.STORED and is_old:
        verdict = Verdict.HELD
    delivery.verdict = verdict
    values: dict[str, Any] = {
        "verdict": verdict,
        "payment": delivery.payment,
        "error": storable(error, 255),
        # Not above what the column takes: a message may wait for a very long time.
        "attempts": min(delivery.attempts + 1, _MAX_ATTEMPTS),
    }
    if verdict in _SETTLED:
        values |= {"applied_at": timezone.now(), "payload": None}
    if verdict == Verdict.STORED:
        values["retry_at"] = DatabaseNow() + _step(SYNC_DELAYS, delivery.attempts)
    rows = WebhookDelivery.objects.filter(pk=delivery.pk)
    if verdict != Verdict.APPLIED:
        # A slower worker takes nothing back: without its message nobody could repeat.
        rows = rows.exclude(verdict__in=_SETTLED)
    with transaction.atomic(durable=True):
        rows.update(**values)


# Facts -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a message must name: the provider's alias, merchant account and mode."""

    alias: str
    account: str | None
    is_live: bool | None


_CLAIMS: Mapping[PaymentStatus, tuple[TransactionKind, ...]] = {
    PaymentStatus.CREATED: (),
    PaymentStatus.PENDING: (),
    PaymentStatus.AWAITING_FUNDS: (TransactionKind.REGISTRATION,),
    PaymentStatus.IN_REVIEW: (TransactionKind.REVIEW_HOLD,),
    PaymentStatus.AUTHENTICATED: (TransactionKind.AUTHENTICATION,),
    PaymentStatus.AUTHORIZED: (TransactionKind.AUTHORIZATION,),
    PaymentStatus.PAID: (TransactionKind.CAPTURE,),
    PaymentStatus.PARTIALLY_REFUNDED: (TransactionKind.CAPTURE,),
    PaymentStatus.REFUNDED: (TransactionKind.CAPTURE,),
    PaymentStatus.FAILED: (TransactionKind.FAILURE,),
    PaymentStatus.CANCELED: (TransactionKind.CANCELLATION,),
    PaymentStatus.EXPIRED: (TransactionKind.EXPIRY,),
}
"""The facts each status word of a snapshot stands for."""

_MONEY_KINDS = {TransactionKind.AUTHORIZATION, TransactionKind.CAPTURE}

_NAMING_KINDS = {*_MONEY_KINDS, TransactionKind.REGISTRATION}
"""The facts whose reference becomes the payment's own."""

_COMPARABLE = re.compile(r"[!-*,-~]{0,100}")
"""References as providers make them: ASCII, no blanks, no plus sign (ours, for totals
that grow), and short enough to name the growth behind them."""


@_retried
def apply_snapshot(
    payment_id: int,
    snapshot: PaymentSnapshot,
    *,
    account: Account,
    source: Source,
    suspicion: ReviewReason | None = None,
) -> Verdict:
    """Turn what the provider says into facts; the one place where states change.

    The snapshot must come from an authentic message or from an answer to our own
    call. What does not fit our record becomes a discrepancy that flags the payment
    and changes nothing else; so does a caller's own ``suspicion``. Returns *applied*,
    *ignored* (nothing new) or *held*.
    """
    with transaction.atomic(durable=True):
        payment = _lock(payment_id)
        known = list(payment.transactions.all())
        mismatch = _mismatch(payment, snapshot, account) or suspicion
        wanted = (
            [_discrepancy(payment, snapshot, mismatch)]
            if mismatch
            else _facts(payment, snapshot, known)
        )
        identities = {(fact.kind, fact.provider_reference) for fact in known}
        new = [
            fact
            for fact in wanted
            if (fact.kind, fact.provider_reference) not in identities
        ]
        for fact in new:
            fact.source = source
        if not mismatch:
            _take_over(payment, snapshot)
        if new:
            _add_facts(payment, known, new)
        elif not mismatch and snapshot.details:
            payment.save(update_fields=_DESCRIPTION_FIELDS)
    if mismatch:
        logger.warning(
            "payment %s: a message of %s is held: %s",
            payment.uuid,
            account.alias,
            mismatch,
        )
        return Verdict.HELD
    return Verdict.APPLIED if new else Verdict.IGNORED


def _mismatch(
    payment: Payment, snapshot: PaymentSnapshot, account: Account
) -> ReviewReason | None:
    """Return the first difference between the snapshot and our record.

    What would make a fact must name account, order and amount: missing is unequal.
    """
    is_strict = bool(_CLAIMS[snapshot.status]) or snapshot.needs_review
    pairs = (
        (payment.provider, account.alias, ReviewReason.ACCOUNT_MISMATCH),
        (account.account, snapshot.account, ReviewReason.ACCOUNT_MISMATCH),
        (account.is_live, snapshot.is_live, ReviewReason.MODE_MISMATCH),
        (
            payment.merchant_reference,
            snapshot.merchant_reference,
            ReviewReason.REFERENCE_MISMATCH,
        ),
    )
    for ours, theirs, reason in pairs:
        if ours is None:
            continue
        if theirs is None:
            if is_strict:
                return ReviewReason.FIELD_MISSING
        elif ours != theirs:
            return reason
    if not _COMPARABLE.fullmatch(snapshot.provider_reference):
        return ReviewReason.REFERENCE_MISMATCH
    if snapshot.amount is None:
        return ReviewReason.FIELD_MISSING if is_strict else None
    if snapshot.amount.currency.code != payment.currency:
        return ReviewReason.CURRENCY_MISMATCH
    if snapshot.amount != payment.amount:
        return ReviewReason.AMOUNT_MISMATCH
    return _money_mismatch(payment, snapshot)


def _money_mismatch(payment: Payment, snapshot: PaymentSnapshot) -> ReviewReason | None:
    """Return what is wrong with a claim that money moved or will, if it is one."""
    kinds = _CLAIMS[snapshot.status]
    if not _NAMING_KINDS.intersection(kinds):
        return None
    if not snapshot.provider_reference and _MONEY_KINDS.intersection(kinds):
        return ReviewReason.FIELD_MISSING
    captured = snapshot.captured
    for total in (captured, snapshot.refunded):
        if total is not None and total.currency.code != payment.currency:
            return ReviewReason.CURRENCY_MISMATCH
    if (
        captured is not None
        and captured.amount <= 0
        and TransactionKind.CAPTURE in kinds
    ):
        return ReviewReason.AMOUNT_MISMATCH
    if snapshot.status == PaymentStatus.PARTIALLY_REFUNDED and not snapshot.refunded:
        return ReviewReason.FIELD_MISSING
    is_taken = _is_taken(payment, snapshot)
    return ReviewReason.REFERENCE_MISMATCH if is_taken else None


def _is_taken(payment: Payment, snapshot: PaymentSnapshot) -> bool:
    """Say whether another payment has this transaction of the provider already."""
    reference = snapshot.provider_reference
    if reference in {"", payment.provider_reference}:
        return False
    others = Payment.objects.filter(provider=payment.provider).exclude(pk=payment.pk)
    return (
        others.filter(provider_reference=reference).exists()
        or others.filter(
            transactions__kind__in=_NAMING_KINDS,
            transactions__provider_reference=reference,
        ).exists()
    )


def _facts(
    payment: Payment, snapshot: PaymentSnapshot, known: Sequence[Transaction]
) -> list[Transaction]:
    """Return the facts that ``snapshot`` stands for, unsaved.

    ``captured`` and ``refunded`` are totals: what they have grown by is a fact of its
    own, so a refund made at the provider's console is noticed.
    """
    kinds = _CLAIMS[snapshot.status]
    if snapshot.needs_review and TransactionKind.REVIEW_HOLD not in kinds:
        kinds = (*kinds, TransactionKind.REVIEW_HOLD)
    decline = snapshot.decline
    facts = [
        Transaction(
            payment=payment,
            kind=kind,
            amount_minor=payment.amount_minor if kind in _MONEY_KINDS else 0,
            currency=payment.currency,
            provider_reference=snapshot.provider_reference,
            reason=decline.code if decline else "",
            detail=storable(decline.message or decline.provider_code, 255)
            if decline
            else "",
            occurred_at=_moment(snapshot),
        )
        for kind in kinds
        if kind != TransactionKind.CAPTURE
    ]
    if TransactionKind.CAPTURE in kinds:
        reference = snapshot.provider_reference
        captured = snapshot.captured or payment.amount
        refunded = snapshot.refunded
        if refunded is None and snapshot.status == PaymentStatus.REFUNDED:
            refunded = captured
        facts += _growth(payment, known, TransactionKind.CAPTURE, reference, captured)
        if refunded:
            facts += _growth(payment, known, TransactionKind.REFUND, "", refunded)
        for fact in facts:
            fact.occurred_at = _moment(snapshot)
    return facts


def _growth(
    payment: Payment,
    known: Sequence[Transaction],
    kind: TransactionKind,
    reference: str,
    total: Money,
) -> list[Transaction]:
    """Return the fact that a total has grown beyond the known facts, if it has.

    Of a capture, under the same ``reference``; of refunds, whoever made them.
    """
    same = [
        fact
        for fact in known
        if fact.kind == kind
        and (not reference or fact.provider_reference.split("+")[0] == reference)
    ]
    total_minor = money.to_minor(total)
    growth = total_minor - sum(fact.amount_minor for fact in same)
    if growth <= 0:
        return []
    name = reference if reference and not same else f"{reference}+{total_minor}"
    return [
        Transaction(
            payment=payment,
            kind=kind,
            amount_minor=growth,
            currency=payment.currency,
            provider_reference=name,
        )
    ]


def _moment(snapshot: PaymentSnapshot) -> datetime | None:
    """Return when it happened in UTC, as it reads once it is stored."""
    try:
        return snapshot.occurred_at and snapshot.occurred_at.astimezone(UTC)
    except OverflowError:
        return None  # The first or the last day of all, in another zone.


def _discrepancy(
    payment: Payment, snapshot: PaymentSnapshot, reason: ReviewReason
) -> Transaction:
    """Return the fact that an authentic message does not fit our record."""
    claim = f"{snapshot.status} {snapshot.amount} {snapshot.provider_reference}"
    identity = f"{reason} {claim}".encode("utf-8", "backslashreplace")
    try:
        reported = money.to_minor(snapshot.amount) if snapshot.amount else 0
    except InvalidAmount:
        reported = 0
    return Transaction(
        payment=payment,
        kind=TransactionKind.DISCREPANCY,
        amount_minor=max(reported, 0),
        currency=snapshot.amount.currency.code if snapshot.amount else payment.currency,
        # The claim is its identity, so a repeated message makes one fact.
        provider_reference=hashlib.sha256(identity).hexdigest(),
        reason=reason,
        detail=storable(claim, 255),
        occurred_at=_moment(snapshot),
    )


_DESCRIPTION_FIELDS = ("method", "details", "expires_at", "updated_at")


def _is_account(name: str, value: object) -> bool:
    """Say whether this is an account to pay into, which is never masked.

    One such number in ten looks like a card number, and the buyer needs them all.
    """
    return name == "virtual_account_number" and bool(
        re.fullmatch(r"[0-9A-Za-z -]{1,40}", str(value))
    )


def _take_over(payment: Payment, snapshot: PaymentSnapshot) -> None:
    """Copy what describes the payment but decides nothing."""
    if snapshot.method:
        payment.method = storable(snapshot.method, 64)
    if snapshot.expires_at:
        payment.expires_at = snapshot.expires_at
    payment.details = {
        **payment.details,
        **{
            name: value if _is_account(name, value) else scrub(value)
            for name, value in snapshot.details.items()
            if value
        },
    }
    if snapshot.token and payment.save_token and payment.customer_id:
        _save_token(payment, snapshot.token)


def _save_token(payment: Payment, token: TokenSnapshot) -> None:
    Token.objects.get_or_create(
        provider=payment.provider,
        token_digest=crypto.keyed_digest(token.reference),
        defaults={
            "customer_id": payment.customer_id,
            "provider_token": token.reference,
            "fingerprint": token.fingerprint[:64],
            "brand": storable(token.brand, 32),
            "last4": token.last4[:4],
            "expires_on": token.expires_on,
            "created_by_payment": payment,
        },
    )


def _add_facts(
    payment: Payment, known: Iterable[Transaction], new: list[Transaction]
) -> None:
    """Insert the facts, fold, and write what the shop must hear, in this order."""
    before = (payment.status, payment.review_reason)
    if not payment.provider_reference:
        payment.provider_reference = next(
            (
                fact.provider_reference
                for fact in new
                if fact.provider_reference and fact.kind in _NAMING_KINDS
            ),
            None,
        )
    # One by one: MariaDB and older SQLite return no keys from a bulk insert.
    for fact in new:
        fact.save(force_insert=True)
    state = states.fold(
        payment.amount_minor,
        [fact.as_fact() for fact in (*known, *new)],
        is_started=payment.started_at is not None,
    )
    # Money that was given back before the shop heard of it is nothing to deliver for.
    is_first_settled = (
        state.is_settled
        and payment.paid_at is None
        and state.status != PaymentStatus.REFUNDED
    )
    payment.status = state.status
    payment.authorized_minor = state.authorized_minor
    payment.captured_minor = state.captured_minor
    payment.refunded_minor = state.refunded_minor
    payment.review_reason = state.review_reason or ""
    payment.decline_code = state.decline_code
    if is_first_settled:
        payment.paid_at = timezone.now()
    if payment.status in states.FINAL_STATUSES:
        payment.sync_at = None
        payment.checkout_data = None
    if payment.status in states.UNSUCCESSFUL_STATUSES and any(
        fact.reason == ReviewReason.CONTRADICTION for fact in new
    ):
        # The provider spoke of money after all: ask until it is proven or denied.
        payment.sync_at = timezone.now() + SYNC_DELAYS[0]
        payment.sync_attempts = 0
    if payment.status != PaymentStatus.PENDING:
        payment.next_action = None
    payment.save(
        update_fields=[
            *_DESCRIPTION_FIELDS,
            "provider_reference",
            "status",
            "authorized_minor",
            "captured_minor",
            "refunded_minor",
            "review_reason",
            "decline_code",
            "paid_at",
            "sync_at",
            "sync_attempts",
            "checkout_data",
            "next_action",
        ]
    )
    payment.operations.filter(
        kind=OperationKind.CHECKOUT, state=OperationState.UNKNOWN
    ).update(state=OperationState.SUCCEEDED, open_slot=None, updated_at=DatabaseNow())
    _write_notices(payment, new, before, is_first_settled=is_first_settled)


def _write_notices(
    payment: Payment,
    new: list[Transaction],
    before: tuple[str, str],
    *,
    is_first_settled: bool,
) -> None:
    """Write one notice per fact; news about the payment go with the last one."""
    status_before, review_before = before
    news = {
        "payment_status_changed": payment.status != status_before,
        "payment_paid": is_first_settled,
        "payment_failed": payment.status != status_before
        and payment.status in states.UNSUCCESSFUL_STATUSES,
        "payment_needs_review": bool(payment.review_reason)
        and payment.review_reason != review_before,
    }
    for fact in new:
        signals = ["payment_refunded"] if fact.kind == TransactionKind.REFUND else []
        if fact is new[-1]:
            signals += [name for name, is_news in news.items() if is_news]
        Notice.objects.create(
            transaction=fact,
            payment=payment,
            signals=signals,
            state=NoticeState.WAITING if signals else NoticeState.DELIVERED,
            # The clock that `claim_notices` reads, or it may not be due at once.
            due_at=DatabaseNow(),
        )


# Asking again ----------------------------------------------------------------------


@_retried
def claim_sync(payment: Payment) -> bool:
    """Take the next inquiry about ``payment``; False if it is not due yet.

    The inquiry moves further away with every attempt, whoever asks for it.
    """
    now = DatabaseNow()
    with transaction.atomic(durable=True):
        return bool(
            Payment.objects.filter(pk=payment.pk, sync_at__lte=now).update(
                sync_at=now + _step(SYNC_DELAYS, payment.sync_attempts),
                sync_attempts=F("sync_attempts") + 1,
            )
        )


def is_abandoned(payment: Payment) -> bool:
    """Say whether nothing is expected of ``payment`` any more, once it was asked about.

    A buyer has a week of daily inquiries, a deposit one day after its deadline.
    """
    deadline = payment.expires_at
    if payment.status == PaymentStatus.AWAITING_FUNDS:
        return deadline is not None and deadline + timedelta(days=1) < timezone.now()
    is_open = deadline is not None and deadline > timezone.now()
    return (
        payment.status in _STARTABLE | states.UNSUCCESSFUL_STATUSES
        and not is_open
        and payment.sync_attempts > len(SYNC_DELAYS) + _DAYS_TO_ASK
    )


@_retried
def release_review(payment_id: int, actor: str) -> bool:
    """Record that a person let a held payment pass; False if nothing was held."""
    with transaction.atomic(durable=True):
        payment = _lock(payment_id)
        known = list(payment.transactions.all())

        def references(kind: TransactionKind) -> set[str]:
            return {fact.provider_reference for fact in known if fact.kind == kind}

        held = references(TransactionKind.REVIEW_HOLD)
        new = [
            Transaction(
                payment=payment,
                kind=TransactionKind.REVIEW_RELEASE,
                currency=payment.currency,
                provider_reference=reference,
                source=Source.STAFF,
                detail=storable(actor, 255),
                occurred_at=timezone.now(),
            )
            for reference in sorted(held - references(TransactionKind.REVIEW_RELEASE))
        ]
        if new:
            _add_facts(payment, known, new)
    return bool(new)


# The outbox ------------------------------------------------------------------------


def due_notices() -> QuerySet[Notice]:
    """Return the notices that nobody delivers right now and that should be."""
    return Notice.objects.filter(state=NoticeState.WAITING, due_at__lte=DatabaseNow())


@_retried
def claim_notices(limit: int) -> list[Notice]:
    """Return due notices that are now ours for `NOTICE_LEASE`, in order."""
    now = DatabaseNow()
    due = due_notices()
    claimed = []
    for pk in list(due.order_by("id").values_list("pk", flat=True)[:limit]):
        with transaction.atomic(durable=True):
            is_ours = due.filter(pk=pk).update(
                due_at=now + NOTICE_LEASE, attempts=F("attempts") + 1
            )
        if is_ours:
            claimed.append(pk)
    if not claimed:
        return []
    return list(
        Notice.objects.filter(pk__in=claimed)
        .select_related("payment", "transaction")
        .order_by("id")
    )


@_retried
def conclude_notice(notice: Notice, error: str = "") -> None:
    """Mark ``notice`` as delivered, or due again later if a receiver raised."""
    if error:
        delay = NOTICE_DELAYS[min(notice.attempts, len(NOTICE_DELAYS)) - 1]
        values: dict[str, Any] = {
            "error": storable(error, 255),
            "due_at": DatabaseNow() + delay,
        }
    else:
        values = {
            "error": "",
            "state": NoticeState.DELIVERED,
            "delivered_at": DatabaseNow(),
        }
    with transaction.atomic(durable=True):
        Notice.objects.filter(pk=notice.pk).update(**values)
