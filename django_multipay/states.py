"""Which facts give which state: a pure fold, the same for every order of arrival.

No message is "the last one". A payment's status, sums and reasons for review are
computed from the *set* of its facts, so duplicates and shuffled deliveries cannot
change the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django_multipay.enums import (
    PaymentStatus,
    ReviewReason,
    TransactionKind,
)

Kind = TransactionKind

FINAL_STATUSES = frozenset(
    {
        PaymentStatus.PAID,
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.REFUNDED,
        PaymentStatus.FAILED,
        PaymentStatus.CANCELED,
        PaymentStatus.EXPIRED,
    }
)
"""Nothing more is expected by itself; late proof of money still counts."""

UNSUCCESSFUL_STATUSES = frozenset(
    {PaymentStatus.FAILED, PaymentStatus.CANCELED, PaymentStatus.EXPIRED}
)

WAITING_STATUSES = frozenset(
    {
        PaymentStatus.PENDING,
        PaymentStatus.AWAITING_FUNDS,
        PaymentStatus.IN_REVIEW,
    }
)
"""The provider may still change its mind; asking again makes sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One confirmed event; ``amount_minor`` in the payment's currency."""

    kind: TransactionKind
    amount_minor: int = 0
    provider_reference: str = ""
    reason: str = ""
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the facts say. Amounts in minor units of the payment's currency."""

    status: PaymentStatus
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    review_reason: ReviewReason | None
    decline_code: str
    """Reason of the latest failure while no money came, or empty."""
    is_settled: bool
    """Money is ours and nothing forbids to deliver; refunds do not undo it."""


def fold(amount_minor: int, facts: Iterable[Fact], *, is_started: bool) -> State:
    """Return the state of a payment of ``amount_minor`` with these ``facts``.

    ``is_started``: the buyer was sent to the provider, so it is at least pending.
    The order of ``facts`` does not matter.
    """
    known = set(facts)

    def total(kind: TransactionKind) -> int:
        return sum(fact.amount_minor for fact in known if fact.kind is kind)

    def references(kind: TransactionKind) -> set[str]:
        return {fact.provider_reference for fact in known if fact.kind is kind}

    captured = max(total(Kind.CAPTURE) - total(Kind.CAPTURE_REVERSAL), 0)
    authorized = max(total(Kind.AUTHORIZATION), captured)
    refunded = total(Kind.REFUND)
    charged_back = total(Kind.CHARGEBACK) - total(Kind.CHARGEBACK_REVERSAL)
    is_held = bool(references(Kind.REVIEW_HOLD) - references(Kind.REVIEW_RELEASE))
    is_underpaid = 0 < captured < amount_minor and not (
        # A capture below the authorization is the shop's own choice.
        total(Kind.AUTHORIZATION) >= amount_minor
    )
    is_void = not captured and bool(
        references(Kind.VOID)
        # A provider that says "canceled" of what it had authorized has voided it.
        or (references(Kind.CANCELLATION) & references(Kind.AUTHORIZATION))
    )

    # A failed attempt before a good one has a reference of its own.
    denials = references(Kind.FAILURE) | references(Kind.CANCELLATION)
    promises = references(Kind.CAPTURE) | references(Kind.AUTHORIZATION)
    is_contradicted = not is_void and bool(promises and denials & (promises | {""}))
    status = _status(
        {fact.kind for fact in known},
        captured=captured,
        refunded=refunded,
        authorized=authorized,
        is_void=is_void,
        is_blocked=is_held or is_underpaid,
        is_started=is_started,
    )
    review_reason = _review_reason(
        known,
        is_held=is_held,
        is_underpaid=is_underpaid,
        is_overpaid=captured > amount_minor,
        is_charged_back=charged_back > 0,
        is_contradicted=is_contradicted,
    )
    return State(
        status=status,
        authorized_minor=authorized,
        captured_minor=captured,
        refunded_minor=refunded,
        review_reason=review_reason,
        decline_code=max(
            (
                (fact.occurred_at.isoformat() if fact.occurred_at else "", fact.reason)
                for fact in known
                if fact.kind is Kind.FAILURE and not captured
            ),
            default=("", ""),
        )[1],
        is_settled=captured > 0 and not is_held and not is_underpaid,
    )


def _status(
    kinds: set[TransactionKind],
    *,
    captured: int,
    refunded: int,
    authorized: int,
    is_void: bool,
    is_blocked: bool,
    is_started: bool,
) -> PaymentStatus:
    """Return the status; the first rule that fits wins, money before words."""
    rules = (
        (captured > 0 and refunded >= captured, PaymentStatus.REFUNDED),
        (captured > 0 and is_blocked, PaymentStatus.IN_REVIEW),
        (captured > 0 and refunded > 0, PaymentStatus.PARTIALLY_REFUNDED),
        (captured > 0, PaymentStatus.PAID),
        (is_void, PaymentStatus.CANCELED),
        (authorized > 0 and is_blocked, PaymentStatus.IN_REVIEW),
        (authorized > 0, PaymentStatus.AUTHORIZED),
        (Kind.FAILURE in kinds, PaymentStatus.FAILED),
        (Kind.CAPTURE_REVERSAL in kinds, PaymentStatus.FAILED),
        (Kind.CANCELLATION in kinds, PaymentStatus.CANCELED),
        (Kind.EXPIRY in kinds, PaymentStatus.EXPIRED),
        (is_blocked, PaymentStatus.IN_REVIEW),
        (Kind.AUTHENTICATION in kinds, PaymentStatus.AUTHENTICATED),
        (Kind.REGISTRATION in kinds, PaymentStatus.AWAITING_FUNDS),
        (is_started, PaymentStatus.PENDING),
    )
    return next((status for applies, status in rules if applies), PaymentStatus.CREATED)


def _review_reason(
    facts: set[Fact],
    *,
    is_held: bool,
    is_underpaid: bool,
    is_overpaid: bool,
    is_charged_back: bool,
    is_contradicted: bool,
) -> ReviewReason | None:
    """Return the gravest reason for a person to look, or None."""
    mismatches = sorted(
        fact.reason for fact in facts if fact.kind is Kind.DISCREPANCY and fact.reason
    )
    rules = (
        (is_charged_back, ReviewReason.CHARGEBACK),
        (is_contradicted, ReviewReason.CONTRADICTION),
        (is_overpaid, ReviewReason.OVERPAID),
        (is_underpaid, ReviewReason.UNDERPAID),
    )
    for applies, reason in rules:
        if applies:
            return reason
    if mismatches:
        return ReviewReason(mismatches[0])
    return ReviewReason.RISK_REVIEW if is_held else None
