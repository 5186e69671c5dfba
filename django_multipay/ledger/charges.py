"""Charges of saved methods without the buyer, and the end of saved methods.

Lock order: the payment, then the token; whoever inserts a payment holds nobody up.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from django_multipay import crypto, ledger, states
from django_multipay.enums import (
    DeclineCode,
    Initiator,
    OperationKind,
    OperationState,
    PaymentStatus,
    Source,
    TokenStatus,
    Verdict,
)
from django_multipay.exceptions import InvalidOperation
from django_multipay.ledger import wallet
from django_multipay.ledger.claims import DatabaseNow
from django_multipay.ledger.claims import retried as _retried
from django_multipay.messages import PaymentSnapshot, TokenSnapshot, dump_action
from django_multipay.models import (
    Operation,
    Payment,
    RecurringPlan,
    Token,
)
from django_multipay.redaction import storable

# Charges -----------------------------------------------------------------------------


@_retried
def open_charge(
    payment: Payment,
    token: Token,
    *,
    client_key: str | None = None,
    fingerprint: str = "",
    actor: str = "",
) -> Operation:
    """Write a charge of ``token`` ahead; joins the caller's transaction.

    As `insert_charge`.
    """
    with transaction.atomic():
        return insert_charge(
            payment,
            token,
            client_key=client_key,
            fingerprint=fingerprint,
            actor=actor,
        )


def insert_charge(
    payment: Payment,
    token: Token,
    *,
    client_key: str | None = None,
    fingerprint: str = "",
    actor: str = "",
) -> Operation:
    """Insert ``payment``, unsaved until now, and the intent to charge it to ``token``.

    Inside the caller's transaction; nothing is sent. The payment is made the token's:
    its provider, its customer. A ``client_key`` that was seen before returns its own
    operation if ``fingerprint``, the wish as a text, is the same. `InvalidOperation`
    if it is not, or if the method was deleted or is dead.
    """
    # Whoever deletes the method comes before, or after what is written here.
    locked = Token.objects.select_for_update().get(pk=token.pk)
    seen = find_charge(client_key, fingerprint)
    if seen is not None:
        return seen
    if locked.status != TokenStatus.ACTIVE:
        raise InvalidOperation(
            "the saved method was deleted, or is no longer accepted; ask the buyer "
            "for another",
            "token",
        )
    payment.token = locked
    payment.provider = locked.provider
    payment.customer_id = locked.customer_id
    payment.initiator = Initiator.MERCHANT
    # As if it had never been tried, where this is the second attempt to write it.
    payment.pk = None
    payment.save(force_insert=True)
    return Operation.objects.create(
        kind=OperationKind.CHARGE,
        payment=payment,
        token=locked,
        plan=payment.plan,
        amount_minor=payment.amount_minor,
        open_slot=f"charge:{payment.pk}",
        client_key=client_key,
        client_fingerprint=crypto.keyed_digest(fingerprint) if client_key else "",
        actor=storable(actor, 150),
    )


def find_charge(client_key: str | None, fingerprint: str) -> Operation | None:
    """Return the charge that was written under ``client_key``, if one was.

    `InvalidOperation` if that was another wish than ``fingerprint``.
    """
    if client_key is None:
        return None
    seen = Operation.objects.filter(client_key=client_key).first()
    return None if seen is None else ledger._same_wish(seen, fingerprint)


@_retried
def claim_charge(operation: Operation, *, is_repeatable: bool = False) -> bool:
    """Take the lease of a charge, and mark its payment as under way.

    False while somebody else holds it, or if it must not be sent (again). What was
    never sent is refused for good if its method was deleted meanwhile.
    """
    with transaction.atomic(durable=True):
        payment = ledger._lock(ledger._payment_id(operation))
        token = Token.objects.select_for_update().get(pk=_token_id(operation))
        if token.status != TokenStatus.ACTIVE:
            if ledger._claim(operation):
                _fail(
                    payment,
                    operation,
                    "the saved method is deleted or dead; nothing was sent",
                    DeclineCode.NOT_SUPPORTED,
                )
            return False
        if _is_plan_over(payment):
            if ledger._claim(operation):
                _fail(
                    payment,
                    operation,
                    "the plan is over; nothing was sent",
                    DeclineCode.CANCELED_BY_BUYER,
                )
            return False
        if not ledger._claim(operation, is_repeatable=is_repeatable):
            return False
        now = DatabaseNow()
        values: dict[str, Any] = {"sync_at": now + ledger.LEASE, "updated_at": now}
        if payment.started_at is None:
            values["started_at"] = now
        if payment.status == PaymentStatus.CREATED:
            values["status"] = PaymentStatus.PENDING
        Payment.objects.filter(pk=payment.pk).update(**values)
    return True


def _is_plan_over(payment: Payment) -> bool:
    """Say whether the plan that wanted the charge was ended before it was sent."""
    if payment.plan_id is None:
        return False
    plans = RecurringPlan.objects.filter(pk=payment.plan_id)
    return plans.filter(status__in=states.ENDED_PLAN_STATUSES).exists()


@_retried
def conclude_charge(
    operation: Operation, snapshot: PaymentSnapshot, *, account: ledger.Account
) -> Verdict:
    """Write the answer to a charge as facts; a decline ends the payment.

    While the provider has not made up its mind the outcome is unknown, and nothing is
    charged again; where it wants the buyer, the payment page sends them to it.
    """
    with transaction.atomic(durable=True):
        payment = ledger._lock(ledger._payment_id(operation))
        verdict = ledger._apply(
            payment, snapshot, account=account, source=Source.OPERATION
        )
        needs_buyer = (
            snapshot.next_action is not None
            and payment.status == PaymentStatus.PENDING
            and verdict != Verdict.HELD
        )
        if needs_buyer and snapshot.next_action is not None:
            payment.next_action = dump_action(snapshot.next_action)
            payment.save(update_fields=["next_action", "updated_at"])
        is_open = snapshot.status in {PaymentStatus.CREATED, PaymentStatus.PENDING}
        if verdict == Verdict.HELD or (is_open and not needs_buyer):
            state, said = OperationState.UNKNOWN, "the answer is not final"
            _name(payment, snapshot, verdict)
        elif snapshot.status in states.UNSUCCESSFUL_STATUSES:
            state, said = OperationState.REFUSED, ""
        else:
            state, said = OperationState.SUCCEEDED, ""
        ledger._conclude(operation, state, said)
    return verdict


def _name(payment: Payment, snapshot: PaymentSnapshot, verdict: Verdict) -> None:
    """Keep how the provider calls a charge that it has not decided yet."""
    if (
        verdict != Verdict.HELD
        and snapshot.provider_reference
        and not payment.provider_reference
        and not ledger._is_taken(payment, snapshot)
    ):
        payment.provider_reference = snapshot.provider_reference
        payment.save(update_fields=["provider_reference", "updated_at"])


@_retried
def fail_charge(operation: Operation, error: str, reason: DeclineCode) -> None:
    """End a charge that did not happen, so that the shop may try another."""
    with transaction.atomic(durable=True):
        payment = ledger._lock(ledger._payment_id(operation))
        _fail(payment, operation, error, reason)


def _fail(
    payment: Payment, operation: Operation, error: str, reason: DeclineCode
) -> None:
    if ledger._conclude(operation, OperationState.REFUSED, error):
        ledger._add_failure(payment, error, Source.OPERATION, reason)


# The end of saved methods ------------------------------------------------------------


@_retried
def request_deletion(
    token: Token, *, at_provider: bool, actor: str = ""
) -> Operation | None:
    """Let ``token`` be charged no more; return the call that deletes it, if any.

    Joins the caller's transaction. ``at_provider``: it can be deleted there; if not,
    the row forgets it at once. Asked again: what is still open, or was refused, is
    carried on.
    """
    with transaction.atomic():
        # Whether or not a key opens it, it can be charged no more.
        rows = Token.objects.defer("provider_token", "identity")
        locked = rows.select_for_update().get(pk=token.pk)
        wallet.end_token(locked.pk, TokenStatus.DELETED, None)
        if rows.filter(pk=locked.pk, provider_token="").exists():
            return None
        if not at_provider:
            _forget(locked.pk)
            return None
        slot = f"delete:{locked.pk}"
        return Operation.objects.filter(
            open_slot=slot
        ).first() or Operation.objects.create(
            kind=OperationKind.DELETE_TOKEN,
            token=locked,
            open_slot=slot,
            actor=storable(actor, 150),
        )


@_retried
def conclude_deletion(operation: Operation) -> None:
    """Write that a method is deleted at its provider, and forget it here."""
    with transaction.atomic(durable=True):
        if ledger._conclude(operation, OperationState.SUCCEEDED):
            _forget(_token_id(operation))


def _token_id(operation: Operation) -> int:
    token_id = operation.token_id
    assert token_id is not None, "it names its token"  # noqa: S101
    return token_id


def _forget(token_id: int) -> None:
    # Its digest stays: it must not come back by old news, nor become another's.
    Token.objects.filter(pk=token_id).update(
        provider_token=None, updated_at=DatabaseNow()
    )


@_retried
def mark_dead(token: Token, payment: Payment | None = None) -> bool:
    """Let a method that its provider no longer accepts be charged no more."""
    with transaction.atomic(durable=True):
        return wallet.end_token(token.pk, TokenStatus.DEAD, payment)


@_retried
def describe(token: Token, snapshot: TokenSnapshot) -> None:
    """Write what the provider says about ``token`` now."""
    with transaction.atomic(durable=True):
        locked = Token.objects.select_for_update().get(pk=token.pk)
        wallet.describe_token(locked, snapshot)


def expiring_tokens(until: date) -> QuerySet[Token]:
    """Return the saved cards that expire by ``until`` and that nobody told of."""
    return Token.objects.filter(
        status=TokenStatus.ACTIVE, expires_on__lte=until, expiry_told_at=None
    )


@_retried
def tell_expiring(token_id: int) -> bool:
    """Write that a card is about to expire; False if that was written before."""
    with transaction.atomic(durable=True):
        now = DatabaseNow()
        is_first = Token.objects.filter(
            pk=token_id, status=TokenStatus.ACTIVE, expiry_told_at=None
        ).update(expiry_told_at=now, updated_at=now)
        if is_first:
            wallet.tell(["token_expiring"], token_id)
    return bool(is_first)
