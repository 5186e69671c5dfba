"""Money after the checkout: refund, capture, void, confirm, settle.

Each is written ahead, sent once, and concluded: what is left is reserved under a lock
before the call, and a call of unknown outcome keeps its reservation until the provider
or a person says what became of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from moneyed import Money

from django_multipay import ledger, money
from django_multipay.conf import conf
from django_multipay.enums import (
    Capability,
    OperationKind,
    OperationState,
    RefundStatus,
    Source,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import (
    InvalidOperation,
    InvalidTransition,
    MultipayError,
    UnsupportedOperation,
)
from django_multipay.flows.guards import (
    account_of,
    actor_of,
    is_in_transaction,
    query_of,
    refuse_open_transaction,
    state_after,
    wait_of,
)
from django_multipay.flows.notices import deliver_notices, tell
from django_multipay.flows.plans import resume_plan_call
from django_multipay.flows.sync import sync_if_due, sync_payment
from django_multipay.flows.tokens import carry_out_charge, carry_out_deletion
from django_multipay.ledger import Intent
from django_multipay.messages import (
    BankAccount,
    CaptureRequest,
    ConfirmRequest,
    PaymentSnapshot,
    RefundQuery,
    RefundRequest,
    SettleRequest,
    VoidRequest,
)
from django_multipay.models import Notice, Operation, Payment, Refund
from django_multipay.providers.base import Provider
from django_multipay.registry import registry

logger = logging.getLogger("django_multipay.flows")

CAPABILITIES: Mapping[OperationKind, Capability] = {
    OperationKind.CONFIRM: Capability.CONFIRM,
    OperationKind.CAPTURE: Capability.CAPTURE,
    OperationKind.VOID: Capability.VOID,
    OperationKind.REFUND: Capability.REFUND,
    OperationKind.SETTLE: Capability.SETTLE,
    OperationKind.CHARGE: Capability.TOKENS,
}
"""What each kind of call needs of its provider."""

_PARTIAL = {
    OperationKind.CAPTURE: Capability.PARTIAL_CAPTURE,
    OperationKind.REFUND: Capability.PARTIAL_REFUND,
}


# What a caller may ask for ------------------------------------------------------------


def refund_payment(
    payment: Payment,
    amount: Money | None = None,
    *,
    reason: str = "",
    by: object = None,
    account: BankAccount | None = None,
    idempotency_key: str | None = None,
    provider_data: Mapping[str, Any] | None = None,
    expected_left: Money | None = None,
) -> Refund:
    """Give ``amount`` of ``payment`` back; None: all that is left.

    ``by`` is the user, or a name, for the record. ``account`` is where the money of a
    bank deposit goes. With the same ``idempotency_key`` the same refund is returned
    and nothing is sent twice; without one, two equal calls are two refunds. With
    ``expected_left``, the refund is refused if something else is left by now: two
    people who looked at the same page do not refund twice. Above
    ``MULTIPAY["REFUND_APPROVAL_ABOVE"]`` the refund waits for `approve_refund`.

    Inside a caller's transaction the refund is recorded with it and sent after its
    commit. Otherwise it is sent now: `OutcomeUnknown` if the answer was lost (the
    refund is kept and asked about), `ProviderUnavailable` if nothing was sent (it is
    sent later), `RequestRejected` if the provider refused it. `InvalidAmount`,
    `InvalidTransition` or `UnsupportedOperation` before anything is sent.
    """
    provider = _able(payment, OperationKind.REFUND)
    needs_account = provider.needs_refund_account(query_of(payment))
    if needs_account and account is None:
        raise InvalidOperation(
            "this payment came from a bank account; name the account to pay back to",
            "account",
        )
    limit = conf.refund_approval_above.get(payment.currency)
    operation = _request(
        payment,
        Intent(
            kind=OperationKind.REFUND,
            amount=amount,
            may_be_partial=_may_be_partial(provider, OperationKind.REFUND),
            actor=actor_of(by),
            client_key=_client_key(payment, OperationKind.REFUND, idempotency_key),
            reason=reason,
            account=dataclasses.asdict(account) if account else None,
            provider_data=provider_data,
            expected_left_minor=_minor(expected_left),
            approval_above_minor=None
            if limit is None
            else money.to_minor(Money(str(limit), payment.currency)),
        ),
    )
    refund = operation.refund
    assert refund is not None  # noqa: S101  (every refund operation has its refund)
    return refund


def capture_payment(
    payment: Payment,
    amount: Money | None = None,
    *,
    by: object = None,
    idempotency_key: str | None = None,
    expected_left: Money | None = None,
) -> Operation:
    """Take ``amount`` of what was authorized; None: all of it.

    Returns the operation, whose ``state`` says whether the provider did it; raises
    and works inside a transaction as `refund_payment` does.
    """
    return _move(
        payment,
        OperationKind.CAPTURE,
        amount,
        by,
        idempotency_key,
        expected_left=expected_left,
    )


def void_payment(
    payment: Payment, *, by: object = None, idempotency_key: str | None = None
) -> Operation:
    """Release an authorization of which nothing was taken; as `capture_payment`."""
    return _move(payment, OperationKind.VOID, None, by, idempotency_key)


def confirm_payment(
    payment: Payment,
    *,
    capture: bool = True,
    by: object = None,
    idempotency_key: str | None = None,
) -> Operation:
    """Charge a payment whose buyer was authenticated, or only reserve the money.

    A decline is a result: the payment has *failed* afterwards. As `capture_payment`.
    """
    return _move(
        payment,
        OperationKind.CONFIRM,
        None,
        by,
        idempotency_key,
        reserves_only=not capture,
    )


def settle_payment(
    payment: Payment, *, by: object = None, idempotency_key: str | None = None
) -> Operation:
    """Release a captured payment into settlement; as `capture_payment`."""
    return _move(payment, OperationKind.SETTLE, None, by, idempotency_key)


def approve_refund(refund: Refund, *, by: object) -> Refund:
    """Let ``refund`` go as the second person, and send it.

    `InvalidTransition` if it does not wait, or ``by`` is who asked for it.
    """
    operation = refund.operations.filter(kind=OperationKind.REFUND).first()
    if operation is None or not ledger.approve_operation(operation, actor_of(by)):
        raise InvalidTransition(
            f"refund {refund.uuid} does not wait for approval, or the same person "
            "asked for it; another one must agree"
        )
    _send(operation)
    refund.refresh_from_db()
    return refund


def abandon_operation(operation: Operation, *, by: object) -> None:
    """Free what ``operation`` reserved: a person knows that it did not happen.

    Late proof that it did happen still counts. `InvalidTransition` once it is over or
    while somebody works on it.
    """
    refuse_open_transaction("abandon_operation")
    if not ledger.abandon_operation(operation, actor_of(by)):
        raise InvalidTransition("the operation is over, or under way right now")
    deliver_notices()


def why_not(payment: Payment, kind: OperationKind) -> str:
    """Return why ``kind`` is not possible for ``payment`` now; "" if it is.

    For buttons: what is refused here would be refused by the flow.
    """
    try:
        _able(payment, kind)
    except MultipayError as error:
        return str(error)
    if ledger.movable_minor(payment, kind) == 0:
        return f"nothing is left to {kind} while it is {payment.get_status_display()}"
    return ""


def refundable(payment: Payment) -> Money:
    """Return what may still be given back: taken, not returned, not spoken for."""
    return money.from_minor(ledger.refundable_minor(payment), payment.currency)


def capturable(payment: Payment) -> Money:
    """Return what is authorized and not taken."""
    left = ledger.movable_minor(payment, OperationKind.CAPTURE)
    return money.from_minor(left, payment.currency)


# What became of it ----------------------------------------------------------------------


def sync_refund(refund: Refund) -> RefundStatus:
    """Ask the provider what became of ``refund`` and believe its answer.

    Where it has no inquiry for refunds, the payment's totals are asked for instead.
    Refreshes ``refund``.
    """
    refuse_open_transaction("sync_refund")
    payment = refund.payment
    provider = registry[payment.provider]
    if Capability.FETCH_REFUND in provider.capabilities:
        snapshot = provider.fetch_refund(
            RefundQuery(
                query=query_of(payment),
                merchant_reference=refund.merchant_reference,
                provider_reference=refund.provider_reference,
                amount=refund.amount,
            )
        )
        tell(ledger.conclude_refund(refund, snapshot, source=Source.SYNC))
    else:
        sync_payment(payment)
    refund.refresh_from_db()
    return RefundStatus(refund.status)


def resume_operation(operation: Operation) -> OperationState:
    """Carry an open operation on: send it, or find out what became of it.

    What was never sent is sent. What was sent is asked about first, and sent again
    only where the provider does it once. Otherwise it waits for a person. Refreshes
    ``operation``.
    """
    refuse_open_transaction("resume_operation")
    ledger.expire_lease(operation)
    operation.refresh_from_db()
    if operation.kind == OperationKind.CHECKOUT:
        # To open it again is the buyer's; what became of it can be asked.
        ledger.end_if_told(operation)
        if operation.payment is not None:
            sync_if_due(operation.payment)
        operation.refresh_from_db()
        return OperationState(operation.state)
    if operation.kind == OperationKind.DELETE_TOKEN:
        carry_out_deletion(operation)
        operation.refresh_from_db()
        return OperationState(operation.state)
    if operation.kind in {OperationKind.CHANGE_PLAN, OperationKind.CANCEL_PLAN}:
        resume_plan_call(operation)
        operation.refresh_from_db()
        return OperationState(operation.state)
    state = OperationState(operation.state)
    if state == OperationState.UNKNOWN:
        _ask_about(operation)
        operation.refresh_from_db()
        state = OperationState(operation.state)
    if state == OperationState.REQUESTED or (
        state == OperationState.UNKNOWN and _is_repeatable(operation)
    ):
        _carry_out(operation)
        operation.refresh_from_db()
    return OperationState(operation.state)


def check_payment(payment: Payment) -> None:
    """Ask the provider about ``payment`` and everything of it that is open.

    For a person who presses a button now, whatever is due. Refreshes ``payment``.
    `UnsupportedOperation` where nothing can be asked; `ProviderError` as it comes.
    """
    open_operations = ledger.open_operations(payment)
    if Capability.FETCH in registry[payment.provider].capabilities or (
        not open_operations
    ):
        sync_payment(payment)
    for operation in open_operations:
        resume_operation(operation)
    for refund in payment.refunds.filter(sync_at__isnull=False):
        sync_refund(refund)
    payment.refresh_from_db()


# How it is done ---------------------------------------------------------------------------


def _able(payment: Payment, kind: OperationKind) -> Provider:
    """Return the provider of ``payment`` if it can do ``kind`` at all."""
    if not payment.provider:
        raise InvalidTransition(f"payment {payment.uuid} has no provider yet")
    provider = registry[payment.provider]
    if CAPABILITIES[kind] not in provider.capabilities:
        raise UnsupportedOperation(f"{provider.display_name} cannot {kind} payments")
    return provider


def _may_be_partial(provider: Provider, kind: OperationKind) -> bool:
    return _PARTIAL.get(kind) in provider.capabilities


def _minor(amount: Money | None) -> int | None:
    return None if amount is None else money.to_minor(amount)


def _client_key(payment: Payment, kind: str, key: str | None) -> str | None:
    """Return the caller's key as it is stored: bound to the payment and the kind."""
    if key is None:
        return None
    if not key.strip():
        raise InvalidOperation(
            "idempotency_key is empty; use a random text", "idempotency_key"
        )
    said = f"{kind} {payment.uuid} {key}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(said).hexdigest()


def _move(
    payment: Payment,
    kind: OperationKind,
    amount: Money | None,
    by: object,
    idempotency_key: str | None,
    *,
    reserves_only: bool = False,
    expected_left: Money | None = None,
) -> Operation:
    provider = _able(payment, kind)
    operation = _request(
        payment,
        Intent(
            kind=kind,
            amount=amount,
            may_be_partial=_may_be_partial(provider, kind),
            actor=actor_of(by),
            client_key=_client_key(payment, kind, idempotency_key),
            reserves_only=reserves_only,
            expected_left_minor=_minor(expected_left),
        ),
    )
    operation.refresh_from_db()
    return operation


def _request(payment: Payment, intent: Intent) -> Operation:
    """Write ``intent`` ahead and carry it out: now, or after the caller's commit.

    Refreshes ``payment``; so is the refund of the operation.
    """
    operation, notices = ledger.request_operation(
        payment, intent, is_sent_now=not is_in_transaction()
    )
    if operation.is_ours:
        _call_and_conclude(operation, payment, notices=notices)
        return operation
    tell(notices)
    _send(operation)
    payment.refresh_from_db()
    if operation.refund is not None:
        operation.refund.refresh_from_db()
    return operation


def _send(operation: Operation) -> None:
    """Carry out now, or after the caller's commit, whose other hooks run anyway."""
    if is_in_transaction():
        transaction.on_commit(lambda: _carry_out_later(operation), robust=True)
    else:
        _carry_out(operation)


def _carry_out_later(operation: Operation) -> None:
    """Carry out after a commit that nobody waits for; what fails is tried again."""
    try:
        _carry_out(operation)
    except MultipayError as error:
        logger.warning("operation %s after a commit: %s", operation.pk, error)


def _is_repeatable(operation: Operation) -> bool:
    payment = operation.payment
    if payment is None or payment.provider not in registry:
        return False
    provider = registry[payment.provider]
    return CAPABILITIES[OperationKind(operation.kind)] in provider.repeatable


def _carry_out(operation: Operation) -> None:
    """Send one operation and conclude it; nothing if another worker has it."""
    if operation.kind == OperationKind.CHARGE:
        carry_out_charge(operation)
        return
    payment = operation.payment
    assert payment is not None  # noqa: S101  (operations on money name their payment)
    # Before the claim: what is proven from now on may be this very call.
    payment.refresh_from_db()
    is_fresh = ledger.claim_operation(operation)
    is_again = not is_fresh and (
        _is_repeatable(operation)
        and ledger.claim_operation(operation, is_repeatable=True)
    )
    if not (is_fresh or is_again):
        # It may wait for a second person, and the shop may want to tell them.
        deliver_notices()
        return
    _call_and_conclude(operation, payment, is_again=is_again)


def _call_and_conclude(
    operation: Operation,
    payment: Payment,
    *,
    is_again: bool = False,
    notices: Sequence[Notice] = (),
) -> None:
    """Send an operation that is ours, write down what came of it, and tell the shop.

    Of ``notices``, too. Refreshes ``payment`` and the refund.
    """
    is_answered = False
    try:
        provider = registry[payment.provider]
        if operation.refund is not None:
            refunded = provider.refund_payment(_refund_request(operation, payment))
            is_answered = True
            news = ledger.conclude_refund(
                operation.refund, refunded, source=Source.OPERATION, operation=operation
            )
        else:
            moved = _call(provider, operation, payment)
            is_answered = True
            _verdict, news = ledger.conclude_payment_operation(
                operation, moved, account=account_of(provider)
            )
            payment.refresh_from_db()
    except MultipayError as error:
        # An answer that cannot be written down is no refusal, and what went wrong
        # with the second attempt says nothing about the first.
        is_open = is_answered or is_again
        state = OperationState.UNKNOWN if is_open else state_after(error)
        ledger.conclude_operation(operation, state, str(error), wait_of(error))
        tell(notices)
        deliver_notices()
        if not is_again:
            raise
        logger.warning("operation %s is still unknown: %s", operation.pk, error)
    else:
        tell([*notices, *news])


def _call(
    provider: Provider, operation: Operation, payment: Payment
) -> PaymentSnapshot:
    key, query = operation.key, query_of(payment)
    match OperationKind(operation.kind):
        case OperationKind.CAPTURE:
            return provider.capture_payment(
                CaptureRequest(
                    key=key,
                    query=query,
                    amount=money.from_minor(operation.amount_minor, payment.currency),
                )
            )
        case OperationKind.VOID:
            return provider.void_payment(VoidRequest(key=key, query=query))
        case OperationKind.SETTLE:
            return provider.settle_payment(SettleRequest(key=key, query=query))
        case OperationKind.CONFIRM:
            return provider.confirm_payment(
                ConfirmRequest(
                    key=key,
                    query=query,
                    authentication_reference=_authentication_of(payment),
                    capture=operation.amount_minor > 0,
                )
            )
        case _:
            raise UnsupportedOperation(f"a {operation.kind} is not carried out here")


def _authentication_of(payment: Payment) -> str:
    fact = payment.transactions.filter(kind=TransactionKind.AUTHENTICATION).last()
    return fact.provider_reference if fact else ""


def _refund_request(operation: Operation, payment: Payment) -> RefundRequest:
    refund = operation.refund
    assert refund is not None  # noqa: S101  (asked for by the caller)
    extras = refund.account or {}
    account = extras.get("account")
    return RefundRequest(
        key=operation.key,
        query=query_of(payment),
        merchant_reference=refund.merchant_reference,
        amount=refund.amount,
        refundable=payment.captured - payment.refunded,
        reason=refund.reason,
        account=BankAccount(**account) if account else None,
        provider_data=extras.get("provider_data") or {},
    )


def _ask_about(operation: Operation) -> None:
    """Find out what became of a call; nothing where the provider cannot be asked."""
    payment = operation.payment
    if payment is None or payment.provider not in registry:
        return
    capabilities = registry[payment.provider].capabilities
    if operation.refund is not None and Capability.FETCH_REFUND in capabilities:
        sync_refund(operation.refund)
    elif Capability.FETCH in capabilities and sync_payment(payment) == Verdict.HELD:
        logger.warning("operation %s: the provider's answer is held", operation.pk)
