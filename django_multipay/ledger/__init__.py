"""The only hand that writes money rows: what may change, and is it safe?

Every function is one short transaction, outermost by design (``durable``), so none
can be open while a provider is called. Lock order: the payment first, then its rows.
A decision is taken only from rows read under the payment's lock, or holds only if the
statement that writes it down finds them so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import re
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, When
from django.utils import timezone
from moneyed import Money

from django_multipay import crypto, money, states
from django_multipay.enums import (
    BatchItemState,
    DeclineCode,
    EndpointStatus,
    Initiator,
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    RefundStatus,
    ReviewReason,
    Source,
    TokenStatus,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidOperation,
    InvalidTransition,
    MultipayError,
)
from django_multipay.ledger import claims, conditions, wallet
from django_multipay.ledger.claims import ClockNow, DatabaseNow
from django_multipay.ledger.claims import retried as _retried
from django_multipay.ledger.statements import (
    Gathering,
    Given,
    Held,
    InsertIf,
    RowVersion,
    Select,
    Unflushed,
    Update,
    can_hold,
    gathered,
    insert,
    refresh,
    update,
)
from django_multipay.messages import (
    DisputeSnapshot,
    PaymentSnapshot,
    RefundSnapshot,
    dump_action,
)
from django_multipay.models import (
    Batch,
    BatchItem,
    Endpoint,
    Notice,
    Operation,
    Payment,
    Refund,
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

_MAX_ATTEMPTS = 32767

WORK_LEASE = timedelta(seconds=30)
"""How long a row that `reconcile` took waits at most for its turn and its call."""


def _step(delays: Sequence[timedelta], number: int) -> timedelta:
    """Return the delay after attempt ``number`` (from 0); the last one repeats."""
    return delays[min(number, len(delays) - 1)]


def _postponed(attempts: str) -> Case:
    """Return the moment of the next attempt, by how many the column ``attempts`` counts.

    Not before the lease of whoever takes the row is over.
    """
    *first, last = (DatabaseNow() + max(delay, WORK_LEASE) for delay in SYNC_DELAYS)
    return Case(
        *(
            When(**{attempts: number}, then=moment)
            for number, moment in enumerate(first)
        ),
        default=last,
    )


def _lock(payment_id: int) -> Payment:
    """Return the payment, locked until the transaction ends."""
    found = _LOCKED(pk=payment_id)
    if not found:
        raise Payment.DoesNotExist(f"there is no payment {payment_id} any more")
    return found[0]


# Without what is kept under a key, so that one that no key opens loses no news of money.
_LOCKABLE = Payment.objects.select_for_update().defer("checkout_data").order_by()

_LOCKED = Select(_LOCKABLE.filter(pk=Given("pk")))

# The same without the lock. Whether it is still so asks what is then written.
_VERSIONS = (
    Payment.objects.annotate(version=RowVersion("pk")).defer("checkout_data").order_by()
)

_HAS_ENDPOINTS = Exists(Endpoint.objects.filter(status=EndpointStatus.ENABLED))

_UNCHANGED = Held(
    _VERSIONS.filter(pk=Given("pk"), version=Given("version")),
    has_endpoints=_HAS_ENDPOINTS,
)


def _heard(notices: list[Notice], gathering: Gathering) -> list[Notice]:
    """Return ``notices``, which know now whether an endpoint was there to hear them."""
    for notice in notices:
        notice.has_endpoints = gathering.said["has_endpoints"]
    return notices


def _as_read(payment: Payment) -> dict[str, Any]:
    """Return what `_UNCHANGED` must find if ``payment`` is as it was read."""
    return {"pk": payment.pk, "version": vars(payment)["version"]}


def _lock_again(payment: Payment) -> None:
    """Refresh ``payment``, locked until the transaction ends."""
    refresh(payment, _lock(payment.pk))


def _facts_of(payment: Payment) -> list[Transaction]:
    """Return what is known of ``payment``."""
    return _FACTS(payment=payment.pk)


_COLUMNS = {column.name: column for column in Payment._meta.concrete_fields}

_FACTS = Select(Transaction.objects.filter(payment_id=Given("payment")))


# Payments and operations -----------------------------------------------------------


def open_payment(payment: Payment) -> Payment:
    """Insert ``payment``; joins the caller's transaction, because nothing is sent."""
    payment.is_provider_open = not payment.provider
    payment.is_method_open = not payment.method and payment.token is None
    payment.pay_until = payment.expires_at
    insert(payment)
    setattr(payment._state, _INSERTED, deepcopy(_said_by(payment)))
    return payment


_INSERTED = "inserted"
"""Where the state of a payment keeps what it said when it was inserted."""


def _said_by(payment: Payment) -> dict[str, Any]:
    return {name: payment.__dict__.get(name) for name in _ATTRIBUTES}


_ATTRIBUTES = [column.attname for column in Payment._meta.concrete_fields]


_STARTABLE = frozenset({PaymentStatus.CREATED, PaymentStatus.PENDING})


@_retried
def begin_checkout(
    payment: Payment,
    admit: Callable[[], None],
    *,
    provider: str = "",
    method: str = "",
    token: Token | None = None,
) -> Operation | None:
    """Write ahead that ``payment`` is opened now, by us; refreshes ``payment``.

    ``admit`` is called with the row locked, and may raise what forbids it. Of a payment
    that was inserted here and is unchanged it is asked without the lock, and what it
    allows is written only if the row is unchanged, too.

    None if it is open already, or while another worker opens it. ``provider`` is
    written to the payment while it has none; ``method`` and ``token`` while the shop
    left them open and nothing was sent with others. The operation says with
    ``is_again`` that what an earlier worker sent may have had an effect.
    """
    is_chosen = provider in {"", payment.provider} and method in {"", payment.method}
    try:
        if is_chosen and token is None and _is_alone() and _is_as_inserted(payment):
            operation = _begin_at_once(payment, admit)
            if operation is not None:
                return operation
        return _begin_checkout(payment, admit, provider, method, token, is_first=True)
    except IntegrityError:
        # Its slot is taken: by one that was lost, or that another worker is at.
        return _begin_checkout(payment, admit, provider, method, token, is_first=False)


def _is_alone() -> bool:
    """Say whether one statement is a transaction, and keeps nobody waiting.

    In MySQL's family an INSERT that reads may lock the table's keys until its commit.
    """
    return not connection.in_atomic_block and connection.vendor != "mysql"


def _is_as_inserted(payment: Payment) -> bool:
    """Say, once, whether ``payment`` was inserted here, stands alone and is unchanged."""
    was = payment._state.__dict__.pop(_INSERTED, None)
    others = (payment.retry_of_id, payment.plan_id, payment.token_id)
    return others == (None, None, None) and was == _said_by(payment)


def _begin_at_once(payment: Payment, admit: Callable[[], None]) -> Operation | None:
    """Write it ahead in one statement if nobody has written to ``payment`` meanwhile."""
    try:
        admit()
    except MultipayError:
        # The row may know better.
        return None
    operation = _start_of(payment)
    return operation if _BEGIN(operation, **_said_by(payment)) else None


# While nobody has written to it, it says what it said when it was inserted.
_BEGIN = InsertIf(
    Payment.objects.filter(
        **{
            name: Given(name, _COLUMNS[name])
            for name in (
                *("id", "updated_at", "provider", "method"),
                *("amount_minor", "currency"),
            )
        },
        status=PaymentStatus.CREATED,
        review_reason="",
        next_action__isnull=True,
        started_at=None,
    ).order_by()
)


def _begin_checkout(
    payment: Payment,
    admit: Callable[[], None],
    provider: str,
    method: str,
    token: Token | None,
    *,
    is_first: bool,
) -> Operation | None:
    with transaction.atomic(durable=True):
        _lock_again(payment)
        if payment.next_action:
            return None
        admit()
        if payment.started_at is not None:
            # Answered, and nothing for the buyer to do: it may have been a charge.
            return None
        slot = _checkout_slot(payment)
        operation = (
            None if is_first else Operation.objects.filter(open_slot=slot).first()
        )
        before = (payment.provider, payment.method, payment.token_id)
        payment.provider = payment.provider or provider
        if payment.is_method_open and (operation is None or operation.attempts == 0):
            payment.method = method
            payment.token = token or payment.token
        if (payment.provider, payment.method, payment.token_id) != before:
            update(payment, ["provider", "method", "token", "updated_at"])
        if operation is not None:
            operation.is_again = operation.state != OperationState.REQUESTED
            return operation if _claim(operation) else None
        operation = _start_of(payment)
        insert(operation)
    return operation


def _start_of(payment: Payment) -> Operation:
    operation = Operation(
        kind=OperationKind.CHECKOUT,
        payment=payment,
        amount_minor=payment.amount_minor,
        open_slot=_checkout_slot(payment),
    )
    _lease(operation)
    return operation


def _checkout_slot(payment: Payment) -> str:
    return f"checkout:{payment.pk}"


_LEASED = ClockNow() + LEASE


def _lease(operation: Operation) -> None:
    """Make an operation that is not written yet ours, and say that it is being sent."""
    operation.state = OperationState.IN_FLIGHT
    operation.lease_token = uuid.uuid4().hex
    operation.lease_until = operation.retry_at = _LEASED
    operation.attempts = 1
    operation.is_ours = True


@_retried
def claim_operation(operation: Operation, *, is_repeatable: bool = False) -> bool:
    """Take the lease of ``operation``; False while somebody else holds it.

    One conditional UPDATE decides, by the database's clock. What was sent before is
    sent again only where ``is_repeatable`` says that the provider does it once, or
    for a checkout: opening a page moves no money. What waits for a second person
    stays where it is.
    """
    with transaction.atomic(durable=True):
        return _claim(operation, is_repeatable=is_repeatable)


def _claim(operation: Operation, *, is_repeatable: bool = False) -> bool:
    """Take the lease of ``operation``; the caller holds the transaction."""
    token = uuid.uuid4().hex
    now = DatabaseNow()
    # As long as the provider asked us to wait, or may still be at work.
    is_rested = Q(lease_until=None) | Q(lease_until__lt=now)
    claimable = (
        Q(state=OperationState.REQUESTED)
        & (Q(needs_approval=False) | ~Q(approved_by=""))
        & is_rested
    )
    if is_repeatable or operation.kind == OperationKind.CHECKOUT:
        claimable |= Q(state=OperationState.IN_FLIGHT, lease_until__lt=now)
        claimable |= Q(state=OperationState.UNKNOWN) & is_rested
    claimed = Operation.objects.filter(claimable, pk=operation.pk).update(
        state=OperationState.IN_FLIGHT,
        lease_token=token,
        lease_until=now + LEASE,
        retry_at=now + LEASE,
        attempts=F("attempts") + 1,
        updated_at=now,
    )
    if claimed:
        operation.lease_token = token
        operation.state = OperationState.IN_FLIGHT
    return bool(claimed)


@_retried
def conclude_operation(
    operation: Operation, state: str, error: str = "", wait: int | None = None
) -> bool:
    """Write the end of a call; False if the lease was lost meanwhile.

    What is to be sent again is not sent for ``wait`` seconds.

    Only *succeeded*, *refused* and *abandoned* free the slot: unknown keeps it. The
    refund behind the operation, if there is one, follows.
    """
    with transaction.atomic(durable=True):
        if operation.payment_id is not None and operation.refund_id is not None:
            _lock(operation.payment_id)
        if operation.kind == OperationKind.CHECKOUT and state == OperationState.UNKNOWN:
            payment = _lock(_payment_id(operation))
            _ask_soon(payment)
            state = OperationState.SUCCEEDED if _is_told(payment, operation) else state
        is_ours = _conclude(operation, state, error, wait)
        if is_ours and operation.refund_id is not None:
            _move_refund(
                Refund.objects.get(pk=operation.refund_id),
                _REFUND_AFTER[OperationState(state)],
                error=error,
            )
    return is_ours


@_retried
def end_if_told(operation: Operation) -> None:
    """End a start of unknown outcome of which a message or another worker has told."""
    with transaction.atomic(durable=True):
        payment = _lock(_payment_id(operation))
        if _is_told(payment, operation):
            _end_unknown_start(payment)


def _end_unknown_start(payment: Payment) -> None:
    payment.operations.filter(
        kind=OperationKind.CHECKOUT, state=OperationState.UNKNOWN
    ).update(state=OperationState.SUCCEEDED, open_slot=None, updated_at=DatabaseNow())


def _is_told(payment: Payment, operation: Operation) -> bool:
    """Say whether messages, or another worker, told what became of the start.

    Then no later one would prove it: a checkout whose answer is lost is over. But of
    two clicks that charge a saved method they may have told of one only.
    """
    is_second = operation.is_again or operation.attempts > 1
    if payment.token_id is not None and is_second:
        return False
    return payment.started_at is not None or payment.status not in _STARTABLE


def _ask_soon(payment: Payment) -> None:
    """Let somebody ask what became of a checkout whose answer was lost."""
    # Nobody would end the asking about a payment that is final.
    if payment.sync_at is None and payment.status not in states.FINAL_STATUSES:
        Payment.objects.filter(pk=payment.pk).update(sync_at=DatabaseNow())


def _lease_of(operation: Operation) -> dict[str, Any]:
    return {"pk": operation.pk, "lease_token": operation.lease_token}


def _conclude(
    operation: Operation, state: str, error: str = "", wait: int | None = None
) -> bool:
    """Write the end of a call whose lease is ours; the caller holds the transaction."""
    values = {"state": state, "error": storable(error, 255)}
    lease = _lease_of(operation)
    if state not in _OPEN_STATES:
        return bool(_END(**lease, **values))
    return bool(
        Operation.objects.filter(**lease, state=OperationState.IN_FLIGHT).update(
            **values,
            lease_until=DatabaseNow() + timedelta(seconds=wait) if wait else None,
            retry_at=DatabaseNow() + _step(SYNC_DELAYS, operation.attempts),
            updated_at=DatabaseNow(),
        )
    )


_END = Update(
    Operation.objects.filter(
        pk=Given("pk"),
        state=OperationState.IN_FLIGHT,
        lease_token=Given("lease_token"),
    ),
    state=Given("state"),
    error=Given("error"),
    lease_until=None,
    open_slot=None,
    updated_at=DatabaseNow(),
)


@_retried
def conclude_checkout(
    payment: Payment, operation: Operation, snapshot: PaymentSnapshot
) -> None:
    """Store where the buyer goes next and mark the checkout as started.

    A result whose lease was lost is dropped when another worker stored its own.
    Refreshes ``payment``.
    """
    theirs = snapshot.provider_reference
    if len(theirs) > 128 or not theirs.isprintable():
        # No column takes it, and the buyer must get to the page; ours names it, too.
        snapshot = dataclasses.replace(snapshot, provider_reference="")
    with contextlib.suppress(IntegrityError):
        if _store_page(payment, operation, snapshot):
            return
    with transaction.atomic(durable=True):
        _lock_again(payment)
        is_ours = _conclude(operation, OperationState.SUCCEEDED)
        if not is_ours:
            _end_start_of_another(payment)
        if is_ours or not payment.next_action:
            _note_start(payment, snapshot)


def _end_start_of_another(payment: Payment) -> None:
    """End a start that another worker took over, and of which it may not have heard.

    Nobody will ask about it: it opened the same page.
    """
    if payment.token_id is None:
        _end_unknown_start(payment)


def _store_page(
    payment: Payment, operation: Operation, snapshot: PaymentSnapshot
) -> bool:
    """Store it without a lock if nothing was heard of ``payment`` meanwhile.

    Nor, about any payment, of the provider's reference. `IntegrityError` if another one
    was opened under it.
    """
    now = timezone.now()
    values = {
        "status": PaymentStatus.PENDING,
        "next_action": snapshot.next_action and dump_action(snapshot.next_action),
        "provider_reference": snapshot.provider_reference or None,
        "expires_at": payment.expires_at or snapshot.expires_at,
        "started_at": now,
        "sync_at": now + SYNC_DELAYS[0],
        "updated_at": now,
    }
    store = _STORE_PAGE if payment.expires_at is None else _STORE_PAGE_IN_TIME
    where = {"pk": payment.pk, "deadline": payment.expires_at}
    end = _lease_of(operation) | {"state": OperationState.SUCCEEDED, "error": ""}
    if can_hold():
        with gathered(store, **where, **values) as gathering:
            _END.later(**end)
        is_stored, is_ours = gathering.is_written, any(gathering.found)
        if is_stored and not is_ours:
            with transaction.atomic(durable=True):
                _end_start_of_another(payment)
    else:
        with transaction.atomic(durable=True):
            is_stored = bool(store(**where, **values))
            if is_stored and not _END(**end):
                _end_start_of_another(payment)
    if is_stored:
        for name, value in values.items():
            setattr(payment, name, value)
    return is_stored


def _storing_page(**deadline: object) -> Update:
    names = (
        *("status", "next_action", "provider_reference", "expires_at"),
        *("started_at", "sync_at", "updated_at"),
    )
    is_untouched = Q(
        status__in=_STARTABLE,
        next_action__isnull=True,
        started_at=None,
        provider_reference=None,
        **deadline,
    )
    # A reference that is not there is new: nothing is equal to NULL.
    is_new = conditions.is_unheard(Given("provider_reference"))
    return Update(
        Payment.objects.filter(is_untouched, is_new, pk=Given("pk")),
        **{name: Given(name, _COLUMNS[name]) for name in names},
    )


_STORE_PAGE = _storing_page(expires_at=None)
_STORE_PAGE_IN_TIME = _storing_page(
    expires_at=Given("deadline", _COLUMNS["expires_at"])
)


def _note_start(payment: Payment, snapshot: PaymentSnapshot) -> None:
    """Store what a start brought, as far as it is not overtaken; it is locked."""
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
    update(payment, fields)


# Calls that move money -------------------------------------------------------------

_OPEN_STATES = frozenset(
    {OperationState.REQUESTED, OperationState.IN_FLIGHT, OperationState.UNKNOWN}
)
_SENT_STATES = frozenset({OperationState.IN_FLIGHT, OperationState.UNKNOWN})

RESERVING_STATUSES = frozenset(
    {RefundStatus.REQUESTED, RefundStatus.PENDING, RefundStatus.UNKNOWN}
)
"""Refunds whose money is spoken for although it has not moved yet."""

_REFUND_AFTER: Mapping[OperationState, RefundStatus] = {
    OperationState.REQUESTED: RefundStatus.REQUESTED,
    OperationState.IN_FLIGHT: RefundStatus.REQUESTED,
    OperationState.UNKNOWN: RefundStatus.UNKNOWN,
    OperationState.REFUSED: RefundStatus.FAILED,
    OperationState.ABANDONED: RefundStatus.FAILED,
}

_OPERATION_AFTER: Mapping[RefundStatus, OperationState] = {
    RefundStatus.REQUESTED: OperationState.UNKNOWN,
    RefundStatus.UNKNOWN: OperationState.UNKNOWN,
    RefundStatus.PENDING: OperationState.SUCCEEDED,
    RefundStatus.SUCCEEDED: OperationState.SUCCEEDED,
    RefundStatus.FAILED: OperationState.REFUSED,
}

_SHARED_SLOT = frozenset(
    {OperationKind.CONFIRM, OperationKind.CAPTURE, OperationKind.VOID}
)
"""At most one of these is open for a payment: they decide over the same money."""

_MAY_VOID = frozenset({PaymentStatus.AUTHORIZED, PaymentStatus.IN_REVIEW})
_MAY_SETTLE = frozenset({PaymentStatus.PAID, PaymentStatus.PARTIALLY_REFUNDED})


def refundable_minor(payment: Payment) -> int:
    """Return what may still be given back: taken, not returned, not spoken for.

    What the buyer's bank took back is not there to be given a second time.
    """
    spoken_for = sum(
        payment.refunds.filter(status__in=RESERVING_STATUSES).values_list(
            "amount_minor", flat=True
        )
    )
    return _refundable(payment, spoken_for, _facts_of(payment))


def has_open_refund(payment: Payment) -> bool:
    """Say whether a refund of ``payment`` may still move money."""
    return payment.refunds.filter(status__in=RESERVING_STATUSES).exists()


def _refundable(payment: Payment, spoken_for: int, facts: Iterable[Transaction]) -> int:
    disputed = {TransactionKind.CHARGEBACK: 0, TransactionKind.CHARGEBACK_REVERSAL: 0}
    for fact in facts:
        if fact.kind in disputed:
            disputed[TransactionKind(fact.kind)] += fact.amount_minor
    lost, won = disputed.values()
    left = payment.captured_minor - payment.refunded_minor - max(lost - won, 0)
    return max(left - spoken_for, 0)


def movable_minor(payment: Payment, kind: OperationKind) -> int:
    """Return the most that ``kind`` may move now, in minor units; 0: not possible."""
    status = PaymentStatus(payment.status)
    match kind:
        case OperationKind.REFUND:
            return refundable_minor(payment)
        case OperationKind.CAPTURE:
            is_open = status in {*_MAY_SETTLE, PaymentStatus.AUTHORIZED}
            left = payment.authorized_minor - payment.captured_minor
            return max(left, 0) if is_open else 0
        case OperationKind.VOID:
            is_open = status in _MAY_VOID and payment.captured_minor == 0
            return payment.authorized_minor if is_open else 0
        case OperationKind.CONFIRM:
            is_open = status == PaymentStatus.AUTHENTICATED
            return payment.amount_minor if is_open else 0
        case OperationKind.SETTLE:
            is_done = payment.transactions.filter(kind=TransactionKind.SETTLEMENT)
            is_open = status in _MAY_SETTLE and not is_done.exists()
            return payment.captured_minor if is_open else 0
        case _:
            return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What somebody wants done to a payment, before it is allowed.

    ``amount`` None: all that is left. ``may_be_partial``: the provider can do less
    than all of it. ``reserves_only``: a confirmation that takes nothing yet.
    ``expected_left_minor`` is what the asker saw: if something else is left by now,
    they must look again. ``approval_above_minor``: above it, with what this payment gave back before, a
    second person must agree.
    """

    kind: OperationKind
    amount: Money | None = None
    may_be_partial: bool = False
    reserves_only: bool = False
    actor: str = ""
    client_key: str | None = None
    reason: str = ""
    account: Mapping[str, str] | None = None
    provider_data: Mapping[str, Any] | None = None
    expected_left_minor: int | None = None
    approval_above_minor: int | None = None

    @property
    def wish(self) -> str:
        """The wish itself: a key that comes again must come with the same one.

        Stored as a keyed digest: a bank account could be guessed from a plain one.
        """
        said = [
            self.kind,
            str(self.amount),
            self.reserves_only,
            self.reason,
            self.account,
            self.provider_data,
        ]
        return json.dumps(said, sort_keys=True, default=str)

    @property
    def fingerprint(self) -> str:
        """The digest of the wish as it is stored now; older keys gave other ones."""
        return crypto.keyed_digest(self.wish)


@_retried
def request_operation(
    payment: Payment,
    intent: Intent,
    *,
    is_sent_now: bool = False,
) -> tuple[Operation, list[Notice]]:
    """Reserve what ``intent`` wants and write it ahead; nothing is sent.

    Joins the caller's transaction, and refreshes ``payment``. ``is_sent_now``: the
    caller sends it as soon as it is committed; it ``is_ours`` then, in flight, and so
    are the notices, for `NOTICE_LEASE`. A client key that was seen before returns its own
    operation. So does the same wish while it is still open, but for refunds: two equal
    refunds may both be meant.

    `InvalidAmount`, `InvalidTransition` or `InvalidOperation`, with ``field``.
    """
    if is_sent_now and _is_plain_refund(intent):
        reserved = _reserve_unlocked(payment, intent)
        if reserved is not None:
            return reserved
    with transaction.atomic():
        _lock_again(payment)
        if intent.client_key is not None:
            seen = Operation.objects.filter(client_key=intent.client_key).first()
            if seen is not None:
                return _same_wish(seen, intent.wish), []
        # A locking read and a write, so that no isolation level decides by old rows.
        spoken_for = sum(
            refund.amount_minor
            for refund in _LOCKED_REFUNDS(payment=payment.pk)
            if refund.status in RESERVING_STATUSES
        )
        _TOUCH(pk=payment.pk)
        slot = _slot(payment, intent.kind)
        open_one = slot and Operation.objects.filter(open_slot=slot).first()
        left = (
            _refundable(payment, spoken_for, _facts_of(payment))
            if intent.kind == OperationKind.REFUND
            else movable_minor(payment, intent.kind)
        )
        amount_minor = _amount_minor(payment, intent, left, open_one or None)
        if open_one:
            return open_one, []
        with gathered():
            return _reserve(payment, intent, amount_minor, left, is_sent_now)


def _is_plain_refund(intent: Intent) -> bool:
    """Say whether it is one that cannot have been asked for before."""
    return intent.kind == OperationKind.REFUND and intent.client_key is None


def _reserve_unlocked(
    payment: Payment, intent: Intent
) -> tuple[Operation, list[Notice]] | None:
    """Reserve it in one statement, if nothing is written to ``payment`` meanwhile.

    None where it has to be locked: another refund is under way, or it is not possible
    as the row is read.
    """
    if not can_hold(Payment, Refund, Operation, Notice):
        return None
    found = _REFUNDABLE(pk=payment.pk)
    if not found:
        return None
    refresh(payment, found[0])
    facts = _facts_of(payment)
    left = _refundable(payment, 0, facts)
    try:
        amount_minor = _amount_minor(payment, intent, left, None)
    except MultipayError:
        # Said again with the row locked, or not any more.
        return None
    with gathered(_UNCHANGED, **_as_read(payment)) as gathering:
        update(payment, ["updated_at"])
        operation, notices = _reserve(payment, intent, amount_minor, left, True)
    if not gathering.is_written:
        return None
    as_written = _AsWritten(version=gathering.version, facts=facts)
    setattr(operation.refund._state, _WRITTEN, as_written)  # type: ignore[union-attr]
    return operation, _heard(notices, gathering)


@dataclass(frozen=True, slots=True, kw_only=True)
class _AsWritten:
    """What a refund and its payment were when it was written ahead, and its facts."""

    version: str
    facts: list[Transaction]


_WRITTEN = "written"
"""Where the state of a refund keeps it."""

# Whatever reserves, frees or loses money of a payment writes to its row, too; but for
# what another refund frees.
_REFUNDABLE = Select(
    _VERSIONS.filter(
        ~Exists(
            Refund.objects.filter(
                payment=OuterRef("pk"), status__in=sorted(RESERVING_STATUSES)
            )
        ),
        pk=Given("pk"),
    )
)


def _reserve(
    payment: Payment, intent: Intent, amount_minor: int, left: int, is_sent_now: bool
) -> tuple[Operation, list[Notice]]:
    """Write ``amount_minor`` of what is ``left`` ahead; inside of `gathered`."""
    notices: list[Notice] = []
    limit = intent.approval_above_minor
    # With what went back before, or many small ones would pass for none.
    returned = payment.captured_minor - left
    operation = Operation(
        kind=intent.kind,
        payment=payment,
        amount_minor=amount_minor,
        open_slot=_slot(payment, intent.kind),
        client_key=intent.client_key,
        client_fingerprint=intent.fingerprint if intent.client_key else "",
        actor=storable(intent.actor, 150),
        needs_approval=limit is not None and returned + amount_minor > limit,
    )
    if intent.kind == OperationKind.REFUND:
        refund = Refund(
            payment=payment,
            amount_minor=amount_minor,
            reason=storable(intent.reason, 255),
            requested_by=operation.actor,
            account=_refund_extras(intent),
        )
        insert(refund)
        operation.refund = refund
        _tell_refund(refund, notices if is_sent_now else None)
    if is_sent_now and not operation.needs_approval:
        _lease(operation)
    insert(operation)
    return operation, notices


_LOCKED_REFUNDS = Select(
    Refund.objects.select_for_update().filter(payment_id=Given("payment"))
)

_TOUCH = Update(Payment.objects.filter(pk=Given("pk")), updated_at=DatabaseNow())


def _same_wish(seen: Operation, wish: str) -> Operation:
    if seen.client_fingerprint not in crypto.keyed_digests(wish):
        raise InvalidOperation(
            "the idempotency key was used for something else; use a new one",
            "idempotency_key",
        )
    return seen


def _slot(payment: Payment, kind: OperationKind) -> str | None:
    if kind == OperationKind.REFUND:
        return None
    name = "authorization" if kind in _SHARED_SLOT else str(kind)
    return f"{name}:{payment.pk}"


def _refund_extras(intent: Intent) -> dict[str, Any] | None:
    extras = {"account": intent.account, "provider_data": intent.provider_data}
    return extras if any(extras.values()) else None


def _amount_minor(
    payment: Payment, intent: Intent, left: int, open_one: Operation | None
) -> int:
    """Return what ``intent`` moves of what is ``left``, or raise what is wrong."""
    kind = intent.kind
    if open_one is not None and open_one.kind != kind:
        raise InvalidTransition(
            f"payment {payment.uuid}: a {open_one.kind} is under way and its outcome "
            f"is not known yet; wait for it before you {kind}"
        )
    if open_one is not None and intent.reserves_only != (open_one.amount_minor == 0):
        raise InvalidTransition(
            f"payment {payment.uuid}: another {kind} is under way; wait for it",
            "capture",
        )
    if open_one is None and left == 0:
        raise InvalidTransition(
            f"payment {payment.uuid} is {payment.status}: nothing is left to {kind}"
        )
    if open_one is not None:
        left = open_one.amount_minor
    if intent.expected_left_minor not in {None, left}:
        raise InvalidTransition(
            f"the payment has changed meanwhile: "
            f"{money.from_minor(left, payment.currency)} is left to {kind}; "
            "look at it again",
            "expected_left",
        )
    if intent.reserves_only:
        return 0
    if intent.amount is None:
        amount_minor = left
    else:
        amount_minor = _checked_amount(payment, intent.amount)
    if open_one is not None and amount_minor != left:
        raise InvalidTransition(
            f"payment {payment.uuid}: another {kind} is under way; wait for it",
            "amount",
        )
    if amount_minor > left:
        raise InvalidAmount(
            f"amount {intent.amount} is more than what is left to {kind}, "
            f"{money.from_minor(left, payment.currency)}",
            "amount",
        )
    whole = payment.captured_minor if kind == OperationKind.REFUND else left
    if amount_minor != whole and not intent.may_be_partial:
        raise InvalidAmount(
            f"the provider can only {kind} all of it: "
            f"{money.from_minor(whole, payment.currency)}",
            "amount",
        )
    return amount_minor


def _checked_amount(payment: Payment, amount: object) -> int:
    if not isinstance(amount, Money):
        raise InvalidAmount(
            f"amount is a {type(amount).__name__}; use Money('26.30', 'USD')", "amount"
        )
    if amount.currency.code != payment.currency:
        raise InvalidAmount(
            f"amount is in {amount.currency.code}, the payment in {payment.currency}",
            "amount",
        )
    minor = money.to_minor(amount)
    if minor <= 0:
        raise InvalidAmount(f"amount {amount} must be above zero", "amount")
    return minor


@_retried
def approve_operation(operation: Operation, actor: str) -> bool:
    """Let a second person agree; False if it does not wait, or they asked for it."""
    with transaction.atomic():
        return bool(
            actor
            and Operation.objects.filter(
                pk=operation.pk,
                state=OperationState.REQUESTED,
                needs_approval=True,
                approved_by="",
            )
            .exclude(actor=storable(actor, 150))
            .update(approved_by=storable(actor, 150), updated_at=DatabaseNow())
        )


@_retried
def abandon_operation(operation: Operation, actor: str) -> bool:
    """Free what ``operation`` reserved because a person says that it did not happen.

    Only what nobody works on: waiting, or of unknown outcome.
    """
    with transaction.atomic(durable=True):
        payment = None
        if operation.payment_id is not None:
            payment = _lock(operation.payment_id)
        is_done = Operation.objects.filter(
            pk=operation.pk,
            state__in=[OperationState.REQUESTED, OperationState.UNKNOWN],
        ).update(
            state=OperationState.ABANDONED,
            open_slot=None,
            error=storable(f"abandoned by {actor}", 255),
            updated_at=DatabaseNow(),
        )
        if is_done and operation.refund_id is not None:
            refund = Refund.objects.get(pk=operation.refund_id)
            _move_refund(refund, RefundStatus.FAILED, error=f"abandoned by {actor}")
        if is_done and payment is not None and operation.kind == OperationKind.CHARGE:
            _add_failure(payment, f"abandoned by {actor}", Source.STAFF)
    return bool(is_done)


def _add_failure(
    payment: Payment,
    detail: str,
    source: Source,
    reason: DeclineCode = DeclineCode.GENERIC,
) -> None:
    """Add the fact that nothing was charged to a payment that is locked."""
    known = _facts_of(payment)
    fact = Transaction(
        payment=payment,
        kind=TransactionKind.FAILURE,
        currency=payment.currency,
        source=source,
        reason=reason,
        detail=storable(detail, 255),
    )
    if _is_new(fact, known):
        _add_facts(payment, known, [fact])


@_retried
def expire_lease(operation: Operation) -> bool:
    """Mark a call as unknown whose worker died; False while somebody works on it."""
    refund, start = operation.refund, None
    with transaction.atomic(durable=True):
        if operation.payment_id is not None:
            payment = _lock(operation.payment_id)
            start = payment if operation.kind == OperationKind.CHECKOUT else None
        if refund is not None:
            refund.refresh_from_db()
        # Proof may have come another way before the answer was lost.
        is_proven = (
            refund is not None and refund.status == RefundStatus.SUCCEEDED
        ) or (start is not None and _is_told(start, operation))
        is_lost = Operation.objects.filter(
            pk=operation.pk,
            state=OperationState.IN_FLIGHT,
            lease_until__lt=DatabaseNow(),
        ).update(
            state=OperationState.SUCCEEDED if is_proven else OperationState.UNKNOWN,
            lease_until=None,
            open_slot=None if is_proven else F("open_slot"),
            error="" if is_proven else "the worker was lost",
            updated_at=DatabaseNow(),
        )
        if is_lost and refund is not None:
            _move_refund(refund, RefundStatus.UNKNOWN)
        if is_lost and start is not None:
            _ask_soon(start)
    return bool(is_lost)


def open_operations(payment: Payment) -> list[Operation]:
    """Return the calls on the money of ``payment`` that may be carried on."""
    return list(
        payment.operations.filter(
            Q(needs_approval=False) | ~Q(approved_by=""), state__in=_OPEN_STATES
        ).exclude(kind=OperationKind.CHECKOUT)
    )


def due_operations() -> QuerySet[Operation]:
    """Return the calls that are open and that nobody works on right now.

    What waits for a second person is not due; of the checkouts, those are whose worker
    was lost, or of which another worker has told meanwhile.
    """
    is_told = Exists(
        Payment.objects.filter(
            pk=OuterRef("payment_id"), started_at__isnull=False, token=None
        )
    )
    return Operation.objects.filter(
        ~Q(kind=OperationKind.CHECKOUT)
        | Q(state=OperationState.IN_FLIGHT)
        | Q(is_told, state=OperationState.UNKNOWN),
        Q(needs_approval=False) | ~Q(approved_by=""),
        state__in=_OPEN_STATES,
        retry_at__lte=DatabaseNow(),
    )


def postponed_operation() -> dict[str, Any]:
    """Return what makes an open operation the taker's until its next attempt."""
    return {"retry_at": _postponed("attempts"), "attempts": F("attempts") + 1}


def _payment_id(operation: Operation) -> int:
    payment_id = operation.payment_id
    assert payment_id is not None, "operations on money name their payment"  # noqa: S101
    return payment_id


@_retried
def conclude_payment_operation(
    operation: Operation, snapshot: PaymentSnapshot, *, account: Account
) -> tuple[Verdict, list[Notice]]:
    """Write the answer to a capture, void, confirmation or settlement as facts.

    A refused capture or void leaves the authorization as it was; a refused
    confirmation ends the payment, as a decline does. The notices are the caller's to
    deliver, for `NOTICE_LEASE`.
    """
    notices: list[Notice] = []
    kind = OperationKind(operation.kind)
    is_refused = snapshot.status in states.UNSUCCESSFUL_STATUSES
    if kind == OperationKind.VOID:
        is_refused = snapshot.status == PaymentStatus.FAILED
    decline = snapshot.decline
    with transaction.atomic(durable=True):
        payment = _lock(_payment_id(operation))
        if is_refused and kind != OperationKind.CONFIRM:
            said = (decline.message or decline.provider_code) if decline else ""
            _conclude(operation, OperationState.REFUSED, said)
            return Verdict.IGNORED, notices
        verdict = _apply(
            payment,
            _as_done(operation, snapshot),
            account=account,
            source=Source.OPERATION,
            done=kind,
            notices=notices,
        )
        is_open = snapshot.status == PaymentStatus.PENDING or (
            kind in _DONE and snapshot.status not in _DONE[kind]
        )
        if verdict == Verdict.HELD or is_open:
            _conclude(operation, OperationState.UNKNOWN, "the answer is not final")
        else:
            is_done = not is_refused
            _conclude(
                operation,
                OperationState.SUCCEEDED if is_done else OperationState.REFUSED,
            )
    return verdict, notices


_DONE: Mapping[OperationKind, frozenset[PaymentStatus]] = {
    OperationKind.CAPTURE: states.PAID_STATUSES,
    OperationKind.SETTLE: states.PAID_STATUSES,
    OperationKind.VOID: frozenset({PaymentStatus.CANCELED}),
}
"""What an answer must say for the call to have happened."""


def _as_done(operation: Operation, snapshot: PaymentSnapshot) -> PaymentSnapshot:
    """Return ``snapshot`` with the new total, where a provider only says "done".

    Counted from the payment as it was read before the call: a message or an inquiry
    may have brought the same capture meanwhile. A capture with a reference of its own
    has a total of its own.
    """
    payment = operation.payment
    is_capture = operation.kind == OperationKind.CAPTURE
    if payment is None or not is_capture or snapshot.captured is not None:
        return snapshot
    is_same = snapshot.provider_reference in {"", payment.transaction_reference}
    total = operation.amount_minor + (payment.captured_minor if is_same else 0)
    return dataclasses.replace(
        snapshot, captured=money.from_minor(total, payment.currency)
    )


# Refunds ---------------------------------------------------------------------------


@_retried
def conclude_refund(
    refund: Refund,
    snapshot: RefundSnapshot,
    *,
    source: Source,
    operation: Operation | None = None,
) -> list[Notice]:
    """Write what the provider says about one of our refunds, and its fact.

    ``operation`` is the call that was answered, if this is its answer. Success is
    final; proof of it beats an earlier failure. Another amount than ours is held.
    Refreshes ``refund`` and its payment. The notices are the caller's to deliver, for
    `NOTICE_LEASE`.
    """
    payment = refund.payment
    as_written = refund._state.__dict__.pop(_WRITTEN, None)
    if as_written is not None and _is_plain_success(refund, snapshot):
        notices: list[Notice] = []
        version = {"pk": payment.pk, "version": as_written.version}
        with gathered(_AS_WRITTEN, refund=refund.pk, **version) as gathering:
            _conclude_refund(
                payment,
                refund,
                snapshot,
                source,
                notices=notices,
                known=as_written.facts,
            )
        if gathering.is_written:
            return _heard(notices, gathering)
    notices = []
    with transaction.atomic(durable=True):
        _lock_again(payment)
        refresh(refund, _REFUND(pk=refund.pk)[0])
        with gathered():
            _conclude_refund(payment, refund, snapshot, source, operation, notices)
    return notices


_REFUND = Select(Refund.objects.defer("account").filter(pk=Given("pk")))

# From the payment, because that is locked first.
_AS_WRITTEN = Held(
    Payment.objects.order_by()
    .filter(pk=Given("pk"), refunds=Given("refund"))
    .annotate(version=RowVersion("pk"), of_refund=RowVersion("refunds__created_at"))
    .filter(version=Given("version"), of_refund=Given("version")),
    has_endpoints=_HAS_ENDPOINTS,
)


def _is_plain_success(refund: Refund, snapshot: RefundSnapshot) -> bool:
    """Say whether no row but those of a refund and its payment decides about it."""
    return (
        snapshot.status == RefundStatus.SUCCEEDED
        and snapshot.amount in (None, refund.amount)
        and refund.payment.status in _MAY_SETTLE
        and can_hold(Payment, Transaction, Refund, Operation, Notice)
    )


def _conclude_refund(
    payment: Payment,
    refund: Refund,
    snapshot: RefundSnapshot,
    source: Source,
    operation: Operation | None = None,
    notices: list[Notice] | None = None,
    known: Sequence[Transaction] | None = None,
) -> None:
    """Write it down, inside of `gathered`; ``known`` are the facts of ``payment``."""
    refund.payment = payment
    status = snapshot.status
    if snapshot.amount is not None and snapshot.amount != refund.amount:
        known = _facts_of(payment)
        claim = PaymentSnapshot(
            status=PaymentStatus.PENDING,
            provider_reference=snapshot.provider_reference,
            amount=snapshot.amount,
        )
        fact = _discrepancy(payment, claim, ReviewReason.AMOUNT_MISMATCH)
        fact.source = source
        if _is_new(fact, known):
            _add_facts(payment, known, [fact], notices=notices)
        status = RefundStatus.UNKNOWN
    reference = snapshot.provider_reference
    if _COMPARABLE.fullmatch(reference) and not refund.provider_reference:
        refund.provider_reference = reference
    state = _OPERATION_AFTER[status]
    if state != OperationState.UNKNOWN:
        # Also what was not sent, as far as we knew: it must not be sent again.
        _END_OF_REFUND.later(
            refund=refund.pk, state=state, error=storable(_said(snapshot), 255)
        )
    elif operation is not None:
        _conclude(operation, state, _said(snapshot))
    if status == RefundStatus.REQUESTED:
        status = RefundStatus.UNKNOWN
    if refund.status == RefundStatus.FAILED and not _reopens(refund, status):
        status = RefundStatus.FAILED
    if status == RefundStatus.SUCCEEDED:
        if known is None:
            known = _facts_of(payment)
        _add_refund_fact(payment, refund, source, snapshot.occurred_at, notices, known)
    _move_refund(refund, status, _said(snapshot) or refund.error, notices)


_END_OF_REFUND = Update(
    Operation.objects.filter(refund_id=Given("refund"), state__in=_OPEN_STATES),
    state=Given("state"),
    error=Given("error"),
    lease_until=None,
    updated_at=DatabaseNow(),
)


def _reopens(refund: Refund, status: RefundStatus) -> bool:
    """Say whether news about a failed refund are more than an echo of older times.

    Success is. So is a refund in transit that a person believed not to have happened.
    """
    return status == RefundStatus.SUCCEEDED or (
        status == RefundStatus.PENDING
        and refund.operations.filter(state=OperationState.ABANDONED).exists()
    )


def _said(snapshot: RefundSnapshot) -> str:
    decline = snapshot.decline
    return (decline.message or decline.provider_code) if decline else ""


def _is_new(fact: Transaction, known: Iterable[Transaction]) -> bool:
    return (fact.kind, fact.provider_reference) not in {
        (other.kind, other.provider_reference) for other in known
    }


def _add_refund_fact(
    payment: Payment,
    refund: Refund,
    source: Source,
    occurred_at: datetime | None,
    notices: list[Notice] | None,
    known: Sequence[Transaction],
) -> None:
    """Add the fact that ``refund`` happened, under our own reference of it.

    The caller moves ``refund``.
    """
    fact = Transaction(
        payment=payment,
        kind=TransactionKind.REFUND,
        amount_minor=refund.amount_minor,
        currency=payment.currency,
        provider_reference=refund.merchant_reference,
        source=source,
        occurred_at=occurred_at,
    )
    if _is_new(fact, known):
        _add_facts(payment, known, [fact], moved=refund, notices=notices)


def _move_refund(
    refund: Refund,
    status: RefundStatus,
    error: str = "",
    notices: list[Notice] | None = None,
) -> None:
    """Write a refund's new status and tell the shop; a success stays a success."""
    before = RefundStatus(refund.status)
    if before == RefundStatus.SUCCEEDED:
        status = before
    refund.status = status
    is_over = status not in RESERVING_STATUSES
    refund.sync_at = None
    fields = ["provider_reference", "status", "sync_at", "error", "updated_at"]
    if is_over:
        refund.account = None
        fields.append("account")
    elif status != RefundStatus.REQUESTED:
        refund.sync_at = timezone.now() + _step(SYNC_DELAYS, refund.sync_attempts)
    refund.error = storable(error, 255) if status != RefundStatus.SUCCEEDED else ""
    update(refund, fields)
    if before not in RESERVING_STATUSES and not is_over:
        # For whoever is about to give the same money back, without a lock.
        _TOUCH(pk=refund.payment_id)
    if status != before:
        _tell_refund(refund, notices)


def _tell_refund(refund: Refund, notices: list[Notice] | None = None) -> None:
    notice = Notice(
        refund=refund, payment=refund.payment, signals=["refund_status_changed"]
    )
    _write_notice(notice, notices)


def due_refunds() -> QuerySet[Refund]:
    """Return the refunds in transit about which the provider should be asked now."""
    return Refund.objects.filter(sync_at__lte=DatabaseNow())


@_retried
def apply_refund(
    payment_id: int, snapshot: RefundSnapshot, *, source: Source
) -> Verdict:
    """Turn a message about a refund into facts, whoever made the refund.

    One that is not ours was made at the provider: it becomes a fact once it succeeded.
    """
    with transaction.atomic(durable=True):
        payment = _lock(payment_id)
        ours = _our_refund(payment, snapshot)
        if ours is not None:
            before = ours.status
            _conclude_refund(payment, ours, snapshot, source)
            return Verdict.APPLIED if ours.status != before else Verdict.IGNORED
        if snapshot.status != RefundStatus.SUCCEEDED or snapshot.amount is None:
            return Verdict.IGNORED
        if (
            not snapshot.provider_reference
            or snapshot.amount.currency.code != payment.currency
            or not _COMPARABLE.fullmatch(snapshot.provider_reference)
        ):
            return Verdict.HELD
        if _name_external_refund(payment, snapshot.provider_reference, snapshot.amount):
            return Verdict.IGNORED
        known = _facts_of(payment)
        fact = Transaction(
            payment=payment,
            kind=TransactionKind.REFUND,
            amount_minor=money.to_minor(snapshot.amount),
            currency=payment.currency,
            provider_reference=snapshot.provider_reference,
            source=source,
            occurred_at=snapshot.occurred_at,
        )
        if not _is_new(fact, known):
            return Verdict.IGNORED
        _add_facts(payment, known, [fact])
    return Verdict.APPLIED


def _our_refund(payment: Payment, snapshot: RefundSnapshot) -> Refund | None:
    """Return the refund of ours that a message is about.

    By either reference; failing that, the one of the same amount that was sent and
    whose answer, with the provider's name for it, is still to come.
    """
    ours = payment.refunds.filter(is_external=False)
    named = ours.filter(
        Q(merchant_reference=snapshot.merchant_reference or "-")
        | Q(provider_reference=snapshot.provider_reference or "-")
    ).first()
    if named is not None or snapshot.merchant_reference is not None:
        return named
    return next(
        (
            refund
            for refund in _unanswered_refunds(payment)
            if not refund.provider_reference and refund.amount == snapshot.amount
        ),
        None,
    )


def _name_external_refund(payment: Payment, reference: str, amount: Money) -> bool:
    """Say whether a refund made at the provider is counted, by its name or by a total.

    One that was noticed by a total only gets its name now. Several may be behind one
    total, so it gives each its part. More than was taken cannot have gone back: what
    would exceed it is in a total already.
    """
    external = payment.refunds.filter(is_external=True)
    if external.filter(provider_reference=reference).exists():
        return True
    by_totals = external.filter(provider_reference__startswith="+")
    minor = money.to_minor(amount)
    source = by_totals.filter(amount_minor__gte=minor).order_by("amount_minor").first()
    if source is None:
        is_full = payment.refunded_minor + minor > payment.captured_minor
        return is_full and by_totals.exists()
    if source.amount_minor == minor:
        source.provider_reference = reference
        source.save(update_fields=["provider_reference", "updated_at"])
        return True
    source.amount_minor -= minor
    source.save(update_fields=["amount_minor", "updated_at"])
    Refund.objects.create(
        payment=payment,
        amount_minor=minor,
        status=RefundStatus.SUCCEEDED,
        provider_reference=reference,
        is_external=True,
    )
    return True


@_retried
def apply_dispute(
    payment_id: int, dispute: DisputeSnapshot, *, source: Source
) -> Verdict:
    """Turn a dispute, or the end of one, into a fact that a person must look at."""
    kind = TransactionKind.CHARGEBACK
    if dispute.is_reversed:
        kind = TransactionKind.CHARGEBACK_REVERSAL
    with transaction.atomic(durable=True):
        payment = _lock(payment_id)
        is_comparable = bool(
            dispute.reference and _COMPARABLE.fullmatch(dispute.reference)
        )
        if not is_comparable or dispute.amount.currency.code != payment.currency:
            return Verdict.HELD
        known = _facts_of(payment)
        fact = Transaction(
            payment=payment,
            kind=kind,
            amount_minor=money.to_minor(dispute.amount),
            currency=payment.currency,
            provider_reference=dispute.reference,
            source=source,
            occurred_at=dispute.occurred_at,
        )
        if not _is_new(fact, known):
            return Verdict.IGNORED
        _add_facts(payment, known, [fact])
    return Verdict.APPLIED


# Batches ---------------------------------------------------------------------------


def open_batch(kind: str, payment_ids: Sequence[int], actor: str) -> Batch:
    """Insert a batch and an item for each payment, in one transaction."""
    with transaction.atomic():
        batch = Batch.objects.create(kind=kind, actor=storable(actor, 150))
        BatchItem.objects.bulk_create(
            BatchItem(batch=batch, payment_id=pk) for pk in dict.fromkeys(payment_ids)
        )
    return batch


@_retried
def conclude_batch_item(item: BatchItem, state: BatchItemState, note: str) -> None:
    """Write what became of one payment of a batch; the first final word stands."""
    open_states = [BatchItemState.WAITING, BatchItemState.OPEN]
    with transaction.atomic(durable=True):
        BatchItem.objects.filter(pk=item.pk, state__in=open_states).update(
            state=state, note=storable(note, 255)
        )


# The inbox -------------------------------------------------------------------------


def find_delivery(provider: str, digest: str) -> WebhookDelivery | None:
    """Return the stored delivery with this digest, or None."""
    return next(iter(_DELIVERIES(provider=provider, digest=digest)), None)


_DELIVERIES = Select(
    WebhookDelivery.objects.filter(
        provider=Given("provider"), digest=Given("digest")
    ).order_by()
)


@_retried
def store_delivery(delivery: WebhookDelivery) -> WebhookDelivery:
    """Insert the inbox row of an authentic message; a duplicate returns the first.

    The unique constraint decides, not a look before the insert.
    """
    # Whoever stored it applies it; it is for others if that did not come about.
    delivery.retry_at = timezone.now() + WORK_LEASE
    try:
        with transaction.atomic(durable=True):
            insert(delivery)
    except IntegrityError:
        return WebhookDelivery.objects.get(
            provider=delivery.provider, digest=delivery.digest
        )
    return delivery


def due_deliveries() -> QuerySet[WebhookDelivery]:
    """Return the stored messages that should be applied now."""
    return WebhookDelivery.objects.filter(
        verdict=Verdict.STORED, retry_at__lte=DatabaseNow()
    )


def due_strays() -> QuerySet[WebhookDelivery]:
    """Return the held messages whose payment should be looked for again now."""
    return WebhookDelivery.objects.filter(rematch_at__lte=DatabaseNow())


def postponed_delivery() -> dict[str, Any]:
    """Return what makes a stored message the taker's; its end counts the attempt."""
    return {"retry_at": _postponed("attempts")}


def postponed_stray() -> dict[str, Any]:
    """Return what makes a held message the taker's; its end counts the attempt."""
    return {"rematch_at": _postponed("attempts")}


_SETTLED = frozenset({Verdict.APPLIED, Verdict.IGNORED})


@_retried
def conclude_delivery(
    delivery: WebhookDelivery,
    verdict: Verdict,
    error: str = "",
    *,
    is_stray: bool = False,
) -> None:
    """Write what became of a delivery; its raw message is erased once applied.

    One that could not be applied for `DELIVERY_PATIENCE` is held for a person. For as
    long, the payment of a held one ``is_stray`` is looked for again: it may come later.
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
        "rematch_at": None,
    }
    if verdict in _SETTLED:
        values |= {"applied_at": timezone.now(), "payload": None}
    later = DatabaseNow() + _step(SYNC_DELAYS, delivery.attempts)
    if verdict == Verdict.STORED:
        values["retry_at"] = later
    if verdict == Verdict.HELD and is_stray and not is_old:
        values["rematch_at"] = later
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
        return _apply(
            _lock(payment_id),
            snapshot,
            account=account,
            source=source,
            suspicion=suspicion,
        )


def apply_snapshots(
    snapshots: Mapping[int, PaymentSnapshot], *, account: Account, source: Source
) -> tuple[list[Payment], list[Notice]]:
    """Apply what the provider says about payments, by their keys, in one transaction.

    Returns those it was applied to, as they are now, and the notices, which are the
    caller's to deliver for `NOTICE_LEASE`. Left out are payments for which other rows
    may have to be locked, or were to be read before they are written: `apply_snapshot`
    is for those. Whatever is raised, nothing was written.
    """
    notices: list[Notice] = []
    references = (snapshot.provider_reference for snapshot in snapshots.values())
    named = Counter(filter(None, references))
    with transaction.atomic(durable=True):
        # In one order, so that two who do this wait for each other and get on.
        locked = {
            payment.pk: payment
            # Who is locked keeps nobody else waiting.
            for payment in Payment.objects.defer("checkout_data")
            .select_for_update(
                skip_locked=connection.features.has_select_for_update_skip_locked
            )
            .filter(pk__in=snapshots)
            .order_by("pk")
            if _stands_alone(payment, snapshots[payment.pk])
            # Whether it is another's can only be asked once that was written.
            and named[snapshots[payment.pk].provider_reference] <= 1
        }
        # When all are locked: under REPEATABLE READ what is read is as old as this.
        known: dict[int, list[Transaction]] = {key: [] for key in locked}
        for fact in Transaction.objects.filter(payment__in=locked):
            known[fact.payment_id].append(fact)
        with gathered():
            for key, payment in locked.items():
                _apply(
                    payment,
                    snapshots[key],
                    account=account,
                    source=source,
                    known=known[key],
                    notices=notices,
                )
    return list(locked.values()), notices


def _stands_alone(payment: Payment, snapshot: PaymentSnapshot) -> bool:
    """Say whether no plan, saved method or other attempt must follow ``payment``."""
    others = (payment.plan_id, payment.token_id, payment.retry_of_id, snapshot.token)
    return (
        others == (None, None, None, None)
        and payment.status not in states.UNSUCCESSFUL_STATUSES
    )


def has_news(payment: Payment, snapshot: PaymentSnapshot, *, account: Account) -> bool:
    """Say whether applying ``snapshot`` to ``payment``, as it was read, may write.

    Not where it stands for no fact, describes nothing and fits the record: so it is
    with most payments that are asked about, and those need not be locked.
    """
    return bool(
        _CLAIMS[snapshot.status]
        or snapshot.needs_review
        or snapshot.details
        or _mismatch(payment, snapshot, account)
    )


@dataclass(frozen=True, slots=True)
class Name:
    """How a message names a payment: by our reference, or else by the provider's."""

    kind: str
    reference: str


_BY_NAME: Mapping[str, Q] = {
    "ours": Q(merchant_reference=Given("reference")),
    "theirs": Q(provider_reference=Given("reference"))
    | Q(transaction_reference=Given("reference")),
}

_NAMED = {
    kind: Select(Payment.objects.filter(named, provider=Given("provider")))
    for kind, named in _BY_NAME.items()
}

_LOCKED_BY_NAME = {
    kind: Select(_LOCKABLE.filter(named, provider=Given("provider"))[:1])
    for kind, named in _BY_NAME.items()
}


_UNLESS_HEARD = {
    kind: Select(
        _VERSIONS.filter(
            named,
            ~Exists(
                WebhookDelivery.objects.filter(
                    provider=Given("provider"), digest=Given("digest")
                )
            ),
            provider=Given("provider"),
        )[:1]
    )
    for kind, named in _BY_NAME.items()
}


def find_payment(provider: str, name: Name) -> Payment | None:
    """Return the payment that ``provider`` means, or None."""
    return next(
        iter(_NAMED[name.kind](provider=provider, reference=name.reference)), None
    )


@_retried
def apply_at_once(
    delivery: WebhookDelivery,
    name: Name,
    snapshot: PaymentSnapshot,
    *,
    account: Account,
) -> tuple[WebhookDelivery, list[Notice]] | None:
    """Store ``delivery`` and apply its ``snapshot`` in one transaction.

    Returns it as it was stored, now or before, and the notices, which are the caller's
    to deliver for `NOTICE_LEASE`. None where that is no matter of one transaction: no
    payment of ours has this ``name``, or a plan or a saved method must follow.
    Whatever is raised, nothing was stored: then it is stored first, and applied after.
    """
    named = {"provider": delivery.provider, "reference": name.reference}
    must_look = True
    if can_hold(Payment, Transaction, Notice, WebhookDelivery):
        unheard = _UNLESS_HEARD[name.kind](**named, digest=delivery.digest)
        must_look = not unheard
        if unheard and _is_first_claim(unheard[0], snapshot):
            with gathered(_UNCHANGED, **_as_read(unheard[0])) as gathering:
                applied = _store_applied(delivery, unheard[0], snapshot, account)
            if gathering.is_written:
                return applied[0], _heard(applied[1], gathering)
            # What was written instead may have been this very message.
            must_look = True
    if must_look:
        # A look that locks nothing. Of two at once, the constraint decides.
        seen = find_delivery(delivery.provider, delivery.digest)
        if seen is not None:
            return seen, []
    with transaction.atomic(durable=True):
        found = _LOCKED_BY_NAME[name.kind](**named)
        payment = found[0] if found else None
        if payment is None or (payment.plan_id, payment.token_id) != (None, None):
            return None
        return _store_applied(delivery, payment, snapshot, account)


def _is_first_claim(payment: Payment, snapshot: PaymentSnapshot) -> bool:
    """Say whether no row but that of ``payment`` decides what ``snapshot`` does."""
    is_about_refunds = snapshot.refunded is not None or snapshot.status in {
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.REFUNDED,
    }
    return (
        _stands_alone(payment, snapshot)
        and not _may_have_calls(payment)
        and not is_about_refunds
    )


def _store_applied(
    delivery: WebhookDelivery,
    payment: Payment,
    snapshot: PaymentSnapshot,
    account: Account,
) -> tuple[WebhookDelivery, list[Notice]]:
    """Apply ``snapshot`` to ``payment`` and insert its delivery."""
    notices: list[Notice] = []
    # A copy: what is rolled back must not look like applied.
    delivery = copy(delivery)
    delivery.payment = payment
    delivery.verdict = _apply(
        payment,
        snapshot,
        account=account,
        source=Source(delivery.source),
        notices=notices,
    )
    delivery.attempts = 1
    if delivery.verdict in _SETTLED:
        delivery.applied_at = timezone.now()
        delivery.payload = None
    insert(delivery)
    return delivery, notices


def _apply(
    payment: Payment,
    snapshot: PaymentSnapshot,
    *,
    account: Account,
    source: Source,
    suspicion: ReviewReason | None = None,
    done: OperationKind | None = None,
    known: Sequence[Transaction] | None = None,
    notices: list[Notice] | None = None,
) -> Verdict:
    """Apply ``snapshot`` to a payment that is locked; ``done`` is what it answers.

    ``known`` are its facts, read under the lock. ``notices`` takes those that the
    caller delivers.
    """
    mismatch = _mismatch(payment, snapshot, account) or suspicion
    if known is None:
        known = (
            ()
            if not (mismatch or done or _may_hold(snapshot)) and _is_unmarked(payment)
            else _facts_of(payment)
        )
    wanted = (
        [_discrepancy(payment, snapshot, mismatch)]
        if mismatch
        else _facts_of_operation(payment, snapshot, done)
        or _facts(payment, snapshot, known)
    )
    new = [fact for fact in wanted if _is_new(fact, known)]
    if source in _CARRIED:
        new = _without_doubtful_refunds(payment, new)
    for fact in new:
        fact.source = source
    if not mismatch:
        _take_over(payment, snapshot)
    if new:
        _add_facts(payment, known, new, notices=notices)
    elif not mismatch and snapshot.details:
        update(payment, _DESCRIPTION_FIELDS)
    if mismatch:
        logger.warning(
            "payment %s: a message of %s is held: %s",
            payment.uuid,
            account.alias,
            mismatch,
        )
        return Verdict.HELD
    return Verdict.APPLIED if new else Verdict.IGNORED


def _may_hold(snapshot: PaymentSnapshot) -> bool:
    """Say whether it may repeat a hold that was released since."""
    is_hold = TransactionKind.REVIEW_HOLD in _CLAIMS[snapshot.status]
    return snapshot.needs_review or is_hold


def _is_unmarked(payment: Payment) -> bool:
    """Say whether no fact of ``payment`` has left a mark on its row, which is locked.

    Then nothing that may be known of it, such as questions that a person has answered,
    changes what a first claim does: ``tests/test_states.py`` tries all of it.
    """
    return payment.status == PaymentStatus.PENDING and not any(
        (
            payment.authorized_minor,
            payment.captured_minor,
            payment.refunded_minor,
            payment.transaction_reference,
            payment.review_reason,
            payment.decline_code,
            # The order may have been paid before.
            payment.retry_of_id,
        )
    )


def _may_have_calls(payment: Payment) -> bool:
    """Say whether calls about ``payment``, which is locked, may wait for a proof.

    Without a fact nothing but its start can have been called, or a saved method; and a
    start is over when it is written that it was: see `_is_told` and `_end_start`, and
    `end_if_told` for whom they missed.
    """
    is_started = payment.started_at is not None and payment.token_id is None
    return not (is_started and _is_unmarked(payment))


_IS_PROVABLE = Q(state=OperationState.UNKNOWN) | (
    # In flight, too: if its answer is lost, no new fact will come to prove it again.
    Q(state=OperationState.IN_FLIGHT) & ~Q(kind=OperationKind.CHECKOUT)
)


def _mismatch(
    payment: Payment, snapshot: PaymentSnapshot, account: Account
) -> ReviewReason | None:
    """Return the first difference between the snapshot and our record.

    What would make a fact must name account, order and amount: missing is unequal.
    The order is named by our reference, or by the one the provider gave it before.
    """
    is_strict = bool(_CLAIMS[snapshot.status]) or snapshot.needs_review
    named = snapshot.merchant_reference
    if snapshot.provider_reference in _references(payment) and (
        named is None or named == _first_reference_of_plan(payment)
    ):
        named = payment.merchant_reference
    pairs = (
        (payment.provider, account.alias, ReviewReason.ACCOUNT_MISMATCH),
        (account.account, snapshot.account, ReviewReason.ACCOUNT_MISMATCH),
        (account.is_live, snapshot.is_live, ReviewReason.MODE_MISMATCH),
        (payment.merchant_reference, named, ReviewReason.REFERENCE_MISMATCH),
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
    if snapshot.amount is None and snapshot.captured is None:
        return ReviewReason.FIELD_MISSING if is_strict else None
    if snapshot.amount is not None:
        if snapshot.amount.currency.code != payment.currency:
            return ReviewReason.CURRENCY_MISMATCH
        if snapshot.amount != payment.amount:
            return ReviewReason.AMOUNT_MISMATCH
    return _money_mismatch(payment, snapshot)


def _first_reference_of_plan(payment: Payment) -> str | None:
    """Return our reference of the plan's first payment, which renewals may repeat."""
    plan = payment.plan
    first = plan.first_payment if plan is not None else None
    return first.merchant_reference if first is not None else None


def _references(payment: Payment) -> set[str]:
    """Return the names under which the provider knows ``payment``."""
    return {payment.provider_reference or "", payment.transaction_reference or ""} - {
        ""
    }


def _money_mismatch(payment: Payment, snapshot: PaymentSnapshot) -> ReviewReason | None:
    """Return what is wrong with a claim that money moved or will, if it is one."""
    kinds = _CLAIMS[snapshot.status]
    if not set(conditions.NAMING_KINDS).intersection(kinds):
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
    if not reference or reference in _references(payment):
        return False
    return not _FREE(pk=payment.pk, provider=payment.provider, reference=reference)


_FREE = Select(
    Payment.objects.filter(
        conditions.is_free(Given("provider"), Given("pk"), Given("reference")),
        pk=Given("pk"),
    )
    .only("pk")
    .order_by()
)


def _facts(
    payment: Payment, snapshot: PaymentSnapshot, known: Sequence[Transaction]
) -> list[Transaction]:
    """Return the facts that ``snapshot`` stands for, unsaved.

    ``captured`` and ``refunded`` are totals: what they have grown by is a fact of its
    own, so a refund made at the provider's console is noticed.
    """
    kinds = _CLAIMS[snapshot.status]
    if any(fact.kind == TransactionKind.VOID for fact in known):
        # Its word for what we voided; nobody else canceled anything.
        kinds = tuple(kind for kind in kinds if kind != TransactionKind.CANCELLATION)
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
            facts += _refund_growth(payment, known, refunded)
        for fact in facts:
            fact.occurred_at = _moment(snapshot)
    return facts


def _facts_of_operation(
    payment: Payment, snapshot: PaymentSnapshot, done: OperationKind | None
) -> list[Transaction]:
    """Return the fact of a void or a settlement, which no status word stands for."""
    kinds = {
        OperationKind.VOID: TransactionKind.VOID,
        OperationKind.SETTLE: TransactionKind.SETTLEMENT,
    }
    if done not in kinds or snapshot.status not in _DONE[done]:
        return []
    is_void = done == OperationKind.VOID
    return [
        Transaction(
            payment=payment,
            kind=kinds[done],
            amount_minor=payment.authorized_minor if is_void else 0,
            currency=payment.currency,
            provider_reference=snapshot.provider_reference,
            occurred_at=_moment(snapshot),
        )
    ]


def _refund_growth(
    payment: Payment, known: Sequence[Transaction], total: Money
) -> list[Transaction]:
    """Return what a total of refunds has grown by: first our own, then others'.

    A refund of ours that was sent and whose answer is not known explains the growth
    before a refund made at the provider's console does.
    """
    facts: list[Transaction] = []
    for fact in _growth(payment, known, TransactionKind.REFUND, "", total):
        explaining = _explaining(_unanswered_refunds(payment), fact.amount_minor)
        facts += [
            Transaction(
                payment=payment,
                kind=TransactionKind.REFUND,
                amount_minor=refund.amount_minor,
                currency=payment.currency,
                provider_reference=refund.merchant_reference,
            )
            for refund in explaining
        ]
        fact.amount_minor -= sum(refund.amount_minor for refund in explaining)
        if fact.amount_minor:
            facts.append(fact)
    return facts


_CARRIED = frozenset({Source.WEBHOOK, Source.RETURN})
"""Sources that may bring old news; the answer to an inquiry is of now."""


def _without_doubtful_refunds(
    payment: Payment, new: list[Transaction]
) -> list[Transaction]:
    """Return ``new`` without what a carried total puts down to the console wrongly.

    An old total lacks refunds of ours that were made after it. While one of them is
    undecided the difference cannot be told from theirs, so it waits for an inquiry.
    """
    by_total = [
        fact
        for fact in new
        if fact.kind == TransactionKind.REFUND
        and fact.provider_reference.startswith("+")
    ]
    if not by_total:
        return new
    explained = {fact.provider_reference for fact in new}
    is_doubtful = any(
        refund.status in RESERVING_STATUSES
        and refund.merchant_reference not in explained
        for refund in _unanswered_refunds(payment)
    )
    return [fact for fact in new if not is_doubtful or fact not in by_total]


def _unanswered_refunds(payment: Payment) -> list[Refund]:
    """Return our refunds that were sent and whose end is not known.

    First those whose answer is still to come: it adds nothing to a fact of theirs, but
    would count a second time what was taken for another's.
    """
    was_sent = Q(operations__state__in=_SENT_STATES) | Q(
        status__in=[RefundStatus.PENDING, RefundStatus.UNKNOWN]
    )
    # A person said that it did not happen; a total may know better.
    was_dropped = Q(
        status=RefundStatus.FAILED,
        operations__state=OperationState.ABANDONED,
        operations__attempts__gt=0,
    )
    sent = payment.refunds.filter(is_external=False).filter(
        Q(status__in=RESERVING_STATUSES) & was_sent | was_dropped
    )
    under_way = set(
        payment.operations.filter(state=OperationState.IN_FLIGHT).values_list(
            "refund_id", flat=True
        )
    )
    return sorted(
        sent.distinct(),
        key=lambda refund: (
            refund.pk not in under_way,
            refund.status == RefundStatus.FAILED,
            refund.pk,
        ),
    )


_MOST_COMBINED = 10


def _explaining(refunds: Sequence[Refund], growth_minor: int) -> Sequence[Refund]:
    """Return the refunds that come nearest to ``growth_minor`` together, not above it.

    Of equals the fewest, and those that come first.
    """
    few = refunds[:_MOST_COMBINED]
    groups = (
        group
        for size in range(len(few) + 1)
        for group in itertools.combinations(few, size)
    )
    totals = ((sum(one.amount_minor for one in group), group) for group in groups)
    return max(
        (pair for pair in totals if pair[0] <= growth_minor), key=lambda pair: pair[0]
    )[1]


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
    # Only with a claim of money, which must name account, order and amount.
    is_proven = bool(_MONEY_KINDS.intersection(_CLAIMS[snapshot.status]))
    is_wished = payment.save_token and bool(payment.customer_id)
    if snapshot.token and is_proven and is_wished:
        wallet.save_token(payment, snapshot.token)


_FOLDED_FIELDS = (
    *_DESCRIPTION_FIELDS,
    "provider_reference",
    "transaction_reference",
    "status",
    "authorized_minor",
    "captured_minor",
    "refunded_minor",
    "review_reason",
    "decline_code",
    "paid_at",
    "sync_at",
    "sync_attempts",
    "next_action",
)


def _add_facts(
    payment: Payment,
    known: Iterable[Transaction],
    new: list[Transaction],
    *,
    moved: Refund | None = None,
    notices: list[Notice] | None = None,
) -> None:
    """Insert the facts, fold, and write what the shop must hear, in this order.

    ``moved`` is a refund that the caller lets follow. ``notices`` takes those that the
    caller delivers.
    """
    before = (payment.status, payment.review_reason)
    may_have_calls = _may_have_calls(payment)
    new = [*new, *_hold_if_paid_twice(payment, known, new)]
    payment.provider_reference = payment.provider_reference or _first_reference(
        new, conditions.NAMING_KINDS
    )
    payment.transaction_reference = payment.transaction_reference or _first_reference(
        new, _MONEY_KINDS
    )
    for fact in new:
        insert(fact)
    state = _fold(payment, (*known, *new))
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
    fields = [*_FOLDED_FIELDS]
    if payment.status in states.FINAL_STATUSES:
        payment.sync_at = None
        payment.checkout_data = None
        fields.append("checkout_data")
    if payment.status in states.UNSUCCESSFUL_STATUSES and any(
        fact.reason == ReviewReason.CONTRADICTION for fact in new
    ):
        # The provider spoke of money after all: ask until it is proven or denied.
        payment.sync_at = timezone.now() + SYNC_DELAYS[0]
        payment.sync_attempts = 0
    if payment.status != PaymentStatus.PENDING:
        payment.next_action = None
    update(payment, fields)
    proven = set().union(*(_PROOF.get(fact.kind, _START) for fact in new))
    if may_have_calls and proven:
        payment.operations.filter(_IS_PROVABLE, kind__in=proven).update(
            state=OperationState.SUCCEEDED, open_slot=None, updated_at=DatabaseNow()
        )
    _finish_refunds(payment, new, moved, notices)
    if payment.token_id is not None:
        _finish_charge(payment, new)
    _write_notices(
        payment, new, before, is_first_settled=is_first_settled, notices=notices
    )


_TAKING_KINDS = frozenset({TransactionKind.AUTHORIZATION, TransactionKind.CAPTURE})


def _hold_if_paid_twice(
    payment: Payment, known: Iterable[Transaction], new: Sequence[Transaction]
) -> list[Transaction]:
    """Return what holds money of an order that another attempt has paid already.

    Only an attempt that had failed, or that came after one, can be the second. The
    others are locked, so that of two that are paid at once one sees the other.
    """
    is_chained = (
        payment.retry_of_id is not None
        or payment.status in states.UNSUCCESSFUL_STATUSES
    )
    taking = [fact for fact in new if fact.kind in _TAKING_KINDS]
    if not (is_chained and taking):
        return []
    paid = next(filter(has_money, other_attempts(payment, is_locked=True)), None)
    if paid is None:
        return []
    hold = Transaction(
        payment=payment,
        kind=TransactionKind.REVIEW_HOLD,
        currency=payment.currency,
        provider_reference=f"paid_twice:{paid.uuid}",
        source=taking[0].source,
        reason=ReviewReason.PAID_TWICE,
        detail=f"{paid.uuid} paid {paid.order_id}",
    )
    return [hold] if _is_new(hold, known) else []


def other_attempts(payment: Payment, *, is_locked: bool = False) -> list[Payment]:
    """Return the payments that ``payment`` was tried again after, or by."""
    # What is kept under a key is nobody's business here.
    rows = Payment.objects.order_by("pk").defer("checkout_data")
    others: dict[int, Payment] = {}
    edge = [payment]
    while edge:
        # Along the chain, not by the order's id: a shop may give one id to many
        # payments that have nothing in common.
        is_next = Q(retry_of__in=[row.pk for row in edge]) | Q(
            pk__in=[row.retry_of_id for row in edge if row.retry_of_id is not None]
        )
        edge = list(rows.filter(is_next).exclude(pk__in=[payment.pk, *others]))
        others |= {row.pk: row for row in edge}
    if is_locked and others:
        return list(rows.filter(pk__in=others).select_for_update())
    return sorted(others.values(), key=lambda row: row.pk)


def has_money(payment: Payment) -> bool:
    """Say whether the buyer's money was taken or reserved and is not back."""
    is_open = payment.status not in states.UNSUCCESSFUL_STATUSES
    taken = max(payment.captured_minor, payment.authorized_minor if is_open else 0)
    return taken > payment.refunded_minor


def _finish_charge(payment: Payment, new: Iterable[Transaction]) -> None:
    """Let the charge of a saved method, and the method, follow the facts."""
    if payment.status not in states.UNSUCCESSFUL_STATUSES:
        return
    payment.operations.filter(kind=OperationKind.CHARGE, state__in=_SENT_STATES).update(
        state=OperationState.REFUSED, open_slot=None, updated_at=DatabaseNow()
    )
    is_hopeless = any(
        fact.kind == TransactionKind.FAILURE and fact.reason in wallet.HOPELESS
        for fact in new
    )
    if is_hopeless and payment.token_id is not None:
        wallet.end_token(payment.token_id, TokenStatus.DEAD, payment)


def _fold(payment: Payment, facts: Iterable[Transaction]) -> states.State:
    return states.fold(
        payment.amount_minor,
        [fact.as_fact() for fact in facts],
        is_started=payment.started_at is not None,
    )


_START = (OperationKind.CHECKOUT,)

_PROOF: Mapping[str, tuple[OperationKind, ...]] = {
    TransactionKind.AUTHORIZATION: (
        *_START,
        OperationKind.CONFIRM,
        OperationKind.CHARGE,
    ),
    TransactionKind.CAPTURE: (
        *_START,
        OperationKind.CONFIRM,
        OperationKind.CAPTURE,
        OperationKind.CHARGE,
    ),
    TransactionKind.VOID: (OperationKind.VOID,),
    TransactionKind.CANCELLATION: (*_START, OperationKind.VOID),
    TransactionKind.SETTLEMENT: (OperationKind.SETTLE,),
    # Its own call is concluded with it.
    TransactionKind.REFUND: (),
    # What does not fit may be about something else, and so is what a person says of it.
    TransactionKind.DISCREPANCY: (),
    TransactionKind.REVIEW_RELEASE: (),
}
"""Which calls a new fact proves to have happened; any other kind, the start."""


def _first_reference(
    facts: Iterable[Transaction], kinds: Collection[TransactionKind]
) -> str | None:
    return next(
        (
            fact.provider_reference
            for fact in facts
            if fact.provider_reference and fact.kind in kinds
        ),
        None,
    )


def _finish_refunds(
    payment: Payment,
    new: Iterable[Transaction],
    moved: Refund | None,
    notices: list[Notice] | None,
) -> None:
    """Let the refunds follow their facts; one that nobody asked for gets a row.

    But for ``moved``, which the caller moves.
    """
    for fact in new:
        if fact.kind != TransactionKind.REFUND:
            continue
        if moved is not None and fact.provider_reference == moved.merchant_reference:
            continue
        refund = payment.refunds.filter(
            merchant_reference=fact.provider_reference
        ).first()
        if refund is None:
            refund = Refund.objects.create(
                payment=payment,
                amount_minor=fact.amount_minor,
                status=RefundStatus.SUCCEEDED,
                provider_reference=fact.provider_reference,
                is_external=True,
            )
            _tell_refund(refund, notices)
            continue
        _move_refund(refund, RefundStatus.SUCCEEDED, notices=notices)
        refund.operations.filter(state__in=_OPEN_STATES).update(
            state=OperationState.SUCCEEDED, updated_at=DatabaseNow()
        )


def _write_notices(
    payment: Payment,
    new: list[Transaction],
    before: tuple[str, str],
    *,
    is_first_settled: bool,
    notices: list[Notice] | None = None,
) -> None:
    """Write one notice per fact; news about the payment go with the last one."""
    status_before, review_before = before
    news = {
        "payment_status_changed": payment.status != status_before,
        "payment_paid": is_first_settled,
        "payment_failed": payment.status in states.UNSUCCESSFUL_STATUSES
        and status_before not in states.UNSUCCESSFUL_STATUSES,
        "payment_needs_review": bool(payment.review_reason)
        and payment.review_reason != review_before,
    }
    for fact in new:
        signals = ["payment_refunded"] if fact.kind == TransactionKind.REFUND else []
        if fact is new[-1]:
            signals += [name for name, is_news in news.items() if is_news]
        notice = Notice(transaction=fact, payment=payment, signals=signals)
        _write_notice(notice, notices)


def _write_notice(notice: Notice, ours: list[Notice] | None) -> None:
    """Insert ``notice``, due at once, or leased to whoever takes it with ``ours``."""
    # The clock that `claim_notices` reads, or it may not be due at once.
    notice.due_at = DatabaseNow()
    if not notice.signals:
        notice.state = NoticeState.DELIVERED
    elif ours is not None:
        notice.due_at = _LEASED_NOTICE
        notice.attempts = 1
        ours.append(notice)
    insert(notice)


_LEASED_NOTICE = ClockNow() + NOTICE_LEASE


# Asking again ----------------------------------------------------------------------


def due_payments() -> QuerySet[Payment]:
    """Return the payments about which the provider should be asked now."""
    return Payment.objects.filter(sync_at__lte=DatabaseNow())


def postponed_sync() -> dict[str, Any]:
    """Return what makes an inquiry the taker's, and the next one later."""
    return {
        "sync_at": _postponed("sync_attempts"),
        "sync_attempts": F("sync_attempts") + 1,
    }


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

    A buyer has a week of daily inquiries, a deposit one day after its deadline. A
    charge without the buyer of which nobody knows is never given up by itself: the
    shop would charge again.
    """
    if payment.initiator == Initiator.MERCHANT and (
        payment.operations.filter(
            kind=OperationKind.CHARGE, state__in=_OPEN_STATES
        ).exists()
    ):
        return False
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
def release_review(
    payment_id: int, actor: str, note: str = "", reason: ReviewReason | None = None
) -> bool:
    """Record that a person has looked; False if there was nothing to look at.

    Only at ``reason``, if it is given: what came up meanwhile stays open.
    """
    with transaction.atomic(durable=True):
        payment = _lock(payment_id)
        known = _facts_of(payment)
        questions = _fold(payment, known).open_questions
        new = [
            Transaction(
                payment=payment,
                kind=TransactionKind.REVIEW_RELEASE,
                currency=payment.currency,
                provider_reference=reference,
                source=Source.STAFF,
                reason=question,
                detail=storable(f"{actor}: {note}" if note else actor, 255),
                occurred_at=timezone.now(),
            )
            for question, references in questions.items()
            if reason in {None, question}
            for reference in sorted(references)
        ]
        if new:
            _add_facts(payment, known, new)
    return bool(new)


# The outbox ------------------------------------------------------------------------


def due_notices() -> QuerySet[Notice]:
    """Return the notices that nobody delivers right now and that should be."""
    return Notice.objects.filter(state=NoticeState.WAITING, due_at__lte=DatabaseNow())


def claim_notices(limit: int) -> list[Notice]:
    """Return due notices that are now ours for `NOTICE_LEASE`, in order."""
    due = due_notices()
    keys = claims.take(
        due,
        # By their turn, which the index knows: the oldest rows are long delivered.
        due.order_by("due_at", "id"),
        limit,
        {"due_at": DatabaseNow() + NOTICE_LEASE, "attempts": F("attempts") + 1},
    )
    return claims.read(Notice, keys, *_NAMED_BY_NOTICE)


_NAMED_BY_NOTICE = ("payment", "transaction", "refund", "token", "plan")


@_retried
def conclude_notices(notices: Sequence[Notice]) -> None:
    """Mark ``notices`` as delivered; there is at least one."""
    keys = {str(place): notice.pk for place, notice in enumerate(notices)}
    _delivering(len(keys), can_hold())(**keys)


@functools.lru_cache(maxsize=40)
def _delivering(count: int, is_alone: bool) -> Update:
    keys: list[Any] = [Given(str(place)) for place in range(count)]
    rows = Notice.objects.filter(pk__in=keys)
    if is_alone:
        rows = rows.filter(Unflushed())
    return Update(
        rows,
        error="",
        state=NoticeState.DELIVERED,
        delivered_at=DatabaseNow(),
    )


@_retried
def postpone_notice(notice: Notice, error: str) -> None:
    """Let ``notice`` be due again later, because a receiver raised."""
    delay = NOTICE_DELAYS[min(notice.attempts, len(NOTICE_DELAYS)) - 1]
    with transaction.atomic(durable=True):
        Notice.objects.filter(pk=notice.pk).update(
            error=storable(error, 255), due_at=DatabaseNow() + delay
        )
