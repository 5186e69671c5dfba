"""Saved methods: charged without the buyer, looked at, and deleted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from moneyed import Money

from django_multipay import ledger, money
from django_multipay.enums import (
    Capability,
    DeclineCode,
    OperationKind,
    OperationState,
    TokenStatus,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidOperation,
    MultipayError,
    ProviderConfigurationError,
    ProviderUnavailable,
    RequestRejected,
    UnsupportedOperation,
)
from django_multipay.flows.guards import (
    account_of,
    actor_of,
    is_in_transaction,
    refuse_open_transaction,
    state_after,
    wait_of,
)
from django_multipay.flows.notices import deliver_notices
from django_multipay.flows.wishes import (
    buyer_columns,
    check_amount,
    check_items,
    checkout_data,
    dump_item,
    identifier,
    load_buyer,
    load_items,
    plain_json,
    words,
)
from django_multipay.ledger import charges
from django_multipay.messages import Buyer, LineItem, TokenChargeRequest, TokenSnapshot
from django_multipay.models import Operation, Payment, Token
from django_multipay.providers.base import Provider
from django_multipay.registry import registry

logger = logging.getLogger("django_multipay.flows")

EXPIRY_WARNING = timedelta(days=30)
"""How long before a card expires the shop hears of it."""


# What a caller may ask for ------------------------------------------------------------


def charge_token(
    token: Token,
    order_id: str,
    amount: Money,
    description: str = "",
    buyer: Buyer | None = None,
    idempotency_key: str | None = None,
    items: Sequence[LineItem] = (),
    metadata: Mapping[str, Any] | None = None,
    by: object = None,
) -> Payment:
    """Charge ``amount`` to a saved method; the buyer is not present.

    Returns a new payment. A decline is a result: the payment has *failed*, with its
    ``decline_code``. ``buyer`` None: as they named themselves when they saved the
    method. With the same ``idempotency_key`` the same payment is returned and nothing
    is charged twice; without one, two equal calls are two charges.

    Inside a caller's transaction the charge is recorded with it and sent after its
    commit. Otherwise it is sent now: `OutcomeUnknown` if the answer was lost (the
    payment stays pending and is asked about; never charge again because of it),
    `ProviderUnavailable`, `RequestRejected` or `CredentialsRejected` if nothing was
    charged (the payment has failed; charge again with a new key). `InvalidAmount`,
    `InvalidOperation` (with ``field``) or `UnsupportedOperation` before anything is
    written.
    """
    _chargeable_at(token)
    buyer = buyer or _buyer_of(token)
    payment = draft_charge(
        token,
        order_id=order_id,
        amount=amount,
        description=description,
        buyer=buyer,
        items=items,
        metadata=metadata,
    )
    said = [
        str(token.uuid),
        payment.order_id,
        payment.amount_minor,
        payment.currency,
        payment.description,
        payment.items,
        payment.metadata,
        dataclasses.asdict(buyer),
    ]
    operation = charges.open_charge(
        payment,
        token,
        client_key=client_key_of(token.customer_id, idempotency_key),
        fingerprint=json.dumps(said, sort_keys=True, default=str),
        actor=actor_of(by),
    )
    made = operation.payment
    assert made is not None  # noqa: S101  (every charge has its payment)
    if is_in_transaction():
        transaction.on_commit(lambda: _carry_out_later(operation), robust=True)
        return made
    return carry_out_charge(operation)


def draft_charge(
    token: Token,
    *,
    order_id: str,
    amount: Money,
    description: str = "",
    buyer: Buyer | None = None,
    items: Sequence[LineItem] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Payment:
    """Return an unsaved payment to charge to ``token``; checked as `create_payment`."""
    buyer = buyer or Buyer()
    check_amount(amount, _chargeable_at(token))
    check_items(items, amount)
    return Payment(
        provider=token.provider,
        customer_id=token.customer_id,
        order_id=identifier("order_id", order_id, 64),
        amount_minor=money.to_minor(amount),
        currency=amount.currency.code,
        description=words("description", description, 255),
        items=[dump_item(item) for item in items],
        **buyer_columns(buyer),
        locale=token.created_by_payment.locale if token.created_by_payment else "",
        metadata=plain_json("metadata", metadata or {}),
        checkout_data=checkout_data(buyer, None, None),
    )


def delete_token(token: Token, by: object = None) -> None:
    """Delete a saved method, at the provider where it can and then here.

    From the moment this is recorded the method is charged no more, whatever happens
    next; what was sent before is not taken back. Deleting again does no harm, and
    carries on what is left to do. Refreshes ``token``.

    Inside a caller's transaction the provider is called after its commit. Otherwise
    now: `ProviderError` if it could not be reached (`reconcile` tries again) or
    refused.
    """
    can_delete = token.provider in registry and (
        Capability.DELETE_TOKEN in registry[token.provider].capabilities
    )
    operation = charges.request_deletion(
        token, at_provider=can_delete, actor=actor_of(by)
    )
    if is_in_transaction():
        if operation is not None:
            transaction.on_commit(lambda: _delete_later(operation), robust=True)
    elif operation is not None:
        carry_out_deletion(operation)
    else:
        deliver_notices()
    token.refresh_from_db()


def inspect_token(token: Token) -> TokenSnapshot:
    """Ask the provider about a saved method, and write what it says.

    A method that it no longer knows is dead afterwards, and the shop hears of it.
    `UnsupportedOperation` where nothing can be asked, `InvalidOperation` for one that
    was deleted here.
    """
    refuse_open_transaction("inspect_token")
    provider = registry[token.provider]
    if Capability.INSPECT_TOKEN not in provider.capabilities:
        raise UnsupportedOperation(
            f"{provider.display_name} cannot be asked about saved methods"
        )
    reference = token.provider_token
    if reference is None:
        raise InvalidOperation("the saved method was deleted", "token")
    try:
        snapshot = provider.inspect_token(reference)
    except RequestRejected as error:
        logger.info("token %s: %s", token.uuid, error)
        snapshot = TokenSnapshot(reference=reference, status=TokenStatus.DEAD)
    if snapshot.status == TokenStatus.ACTIVE:
        charges.describe(token, snapshot)
    else:
        charges.mark_dead(token)
        deliver_notices()
    token.refresh_from_db()
    return snapshot


def expiring_tokens() -> QuerySet[Token]:
    """Return the saved cards that expire soon and of which the shop was not told."""
    return charges.expiring_tokens(timezone.now().date() + EXPIRY_WARNING)


def tell_of_expiring_tokens(limit: int) -> int:
    """Tell the shop of at most so many of them, each once; return how many."""
    due = expiring_tokens().order_by("expires_on", "pk")
    keys = list(due.values_list("pk", flat=True)[:limit])
    return sum(charges.tell_expiring(pk) for pk in keys)


# How it is done ---------------------------------------------------------------------------


def carry_out_charge(operation: Operation) -> Payment:
    """Send one charge and write what became of it; return its payment.

    Nothing is sent if another worker has it, or if it was sent before and the provider
    does not promise to charge once. Errors as `charge_token`.
    """
    refuse_open_transaction("carry_out_charge")
    payment = operation.payment
    assert payment is not None  # noqa: S101  (every charge has its payment)
    is_fresh = charges.claim_charge(operation)
    is_again = not is_fresh and (
        _is_repeatable(operation)
        and charges.claim_charge(operation, is_repeatable=True)
    )
    if not (is_fresh or is_again):
        deliver_notices()
        payment.refresh_from_db()
        return payment
    is_answered = False
    try:
        provider = _chargeable_at(_token_of(operation))
        snapshot = provider.charge_token(_charge_request(operation, payment))
        is_answered = True
        charges.conclude_charge(operation, snapshot, account=account_of(provider))
    except MultipayError as error:
        # An answer that cannot be written down is no refusal, and what went wrong
        # with the second attempt says nothing about the first.
        is_open = is_answered or is_again
        if is_open or state_after(error) == OperationState.UNKNOWN:
            ledger.conclude_operation(
                operation, OperationState.UNKNOWN, str(error), wait_of(error)
            )
        else:
            _give_up(operation, error)
        deliver_notices()
        if not is_again:
            raise
        logger.warning("charge %s is still unknown: %s", operation.pk, error)
    deliver_notices()
    payment.refresh_from_db()
    return payment


def carry_out_deletion(operation: Operation) -> None:
    """Delete one method at its provider; sent again whenever that is in doubt."""
    refuse_open_transaction("carry_out_deletion")
    token = _token_of(operation)
    if not ledger.claim_operation(operation, is_repeatable=True):
        deliver_notices()
        return
    reference = token.provider_token
    try:
        provider = registry[token.provider]
        if reference is not None:
            try:
                provider.delete_token(reference)
            except RequestRejected:
                if not _is_gone(provider, reference):
                    raise
    except MultipayError as error:
        state = state_after(error)
        ledger.conclude_operation(operation, state, str(error), wait_of(error))
        deliver_notices()
        raise
    charges.conclude_deletion(operation)
    deliver_notices()


def _carry_out_later(operation: Operation) -> None:
    """Carry out after a commit that nobody waits for; the payment tells how it went."""
    try:
        carry_out_charge(operation)
    except MultipayError as error:
        logger.warning("charge %s after a commit: %s", operation.pk, error)


def _delete_later(operation: Operation) -> None:
    """Carry out after a commit that nobody waits for; what fails is tried again."""
    try:
        carry_out_deletion(operation)
    except MultipayError as error:
        logger.warning("deletion %s after a commit: %s", operation.pk, error)


def _give_up(operation: Operation, error: MultipayError) -> None:
    """End a charge that did not happen; where the method is gone, end that too."""
    # An account that is away, or is not set up well, says nothing of the buyer.
    is_ours = isinstance(
        error, (ProviderUnavailable, CredentialsRejected, ProviderConfigurationError)
    )
    reason = DeclineCode.NOT_ASKED if is_ours else DeclineCode.NOT_SUPPORTED
    token = _token_of(operation)
    if isinstance(error, RequestRejected) and token.provider_token is not None:
        provider = registry[token.provider]
        if _is_gone(provider, token.provider_token):
            charges.mark_dead(token, operation.payment)
    charges.fail_charge(operation, str(error), reason)


def _is_gone(provider: Provider, reference: str) -> bool:
    """Say whether the provider, asked about a method it refused, does not know it."""
    if Capability.INSPECT_TOKEN not in provider.capabilities:
        return False
    try:
        return provider.inspect_token(reference).status != TokenStatus.ACTIVE
    except RequestRejected:
        return True
    except MultipayError as error:
        logger.info("%s could not be asked about a token: %s", provider.alias, error)
        return False


def _chargeable_at(token: Token) -> Provider:
    """Return the provider of ``token`` if it can be charged there at all."""
    if token.provider not in registry:
        raise InvalidOperation(
            f"the saved method belongs to {token.provider!r}, which is not in "
            "MULTIPAY['PROVIDERS'] any more",
            "token",
        )
    if not token.customer_id:
        raise InvalidOperation("the saved method belongs to nobody", "token")
    provider = registry[token.provider]
    if Capability.TOKENS not in provider.capabilities:
        raise UnsupportedOperation(
            f"{provider.display_name} cannot charge saved methods", "token"
        )
    return provider


def _buyer_of(token: Token) -> Buyer:
    """Return how the buyer was called when they saved the method."""
    payment = token.created_by_payment
    if payment is None:
        return Buyer()
    return Buyer(
        name=payment.buyer_name,
        email=payment.buyer_email,
        phone=payment.buyer_phone,
        country=payment.buyer_country,
    )


def client_key_of(customer_id: str, key: str | None) -> str | None:
    """Return a caller's key for a charge as it is stored: bound to the customer.

    None for none; `InvalidOperation` for an empty one.
    """
    if key is None:
        return None
    if not key.strip():
        raise InvalidOperation(
            "idempotency_key is empty; use a random text", "idempotency_key"
        )
    said = json.dumps([OperationKind.CHARGE, customer_id, key])
    return hashlib.sha256(said.encode()).hexdigest()


def _token_of(operation: Operation) -> Token:
    token = operation.token
    assert token is not None  # noqa: S101  (charges and deletions name their token)
    return token


def _is_repeatable(operation: Operation) -> bool:
    alias = _token_of(operation).provider
    return alias in registry and Capability.TOKENS in registry[alias].repeatable


def _charge_request(operation: Operation, payment: Payment) -> TokenChargeRequest:
    return TokenChargeRequest(
        key=operation.key,
        merchant_reference=payment.merchant_reference,
        token=_token_of(operation).provider_token,
        amount=payment.amount,
        description=payment.description,
        items=load_items(payment),
        buyer=load_buyer(payment),
        locale=payment.locale,
    )
