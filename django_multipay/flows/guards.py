"""What every flow that talks to a provider checks first."""

from __future__ import annotations

from django.db import connection

from django_multipay import ledger
from django_multipay.enums import OperationState
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidOperation,
    MultipayError,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
)
from django_multipay.messages import PaymentQuery
from django_multipay.models import Payment
from django_multipay.providers.base import Provider


def is_in_transaction() -> bool:
    """Say whether a caller's transaction is open."""
    # What ``atomic(durable=True)`` looks at, without opening a transaction: on SQLite
    # that would take the write lock, for every message a stranger sends.
    blocks = connection.atomic_blocks
    return bool(blocks) and not getattr(blocks[-1], "_from_testcase", False)


def refuse_open_transaction(flow: str) -> None:
    """Raise `RuntimeError` inside a caller's transaction.

    A rollback there would forget an intent that the provider has already carried
    out, and a row lock would be held for as long as the provider takes to answer.
    """
    if is_in_transaction():
        raise RuntimeError(
            f"{flow}() talks to the provider and cannot run inside "
            "transaction.atomic() or a view under ATOMIC_REQUESTS; call it after the "
            "commit (transaction.on_commit) or mark the view non_atomic_requests"
        )


def account_of(provider: Provider) -> ledger.Account:
    """Return what the ledger compares a message of ``provider`` with."""
    return ledger.Account(
        alias=provider.alias, account=provider.account, is_live=provider.is_live
    )


def query_of(payment: Payment) -> PaymentQuery:
    """Return how a provider is asked about ``payment``."""
    return PaymentQuery(
        merchant_reference=payment.merchant_reference,
        provider_reference=payment.provider_reference or "",
        transaction_reference=payment.transaction_reference or "",
        amount=payment.amount,
        method=payment.method,
        customer_id=payment.customer_id,
        buyer_email=payment.buyer_email,
        locale=payment.locale,
    )


def state_after(error: MultipayError) -> OperationState:
    """Return what an error says about the call that raised it."""
    if isinstance(error, (ProviderUnavailable, ProviderConfigurationError)):
        return OperationState.REQUESTED
    if isinstance(error, (RequestRejected, CredentialsRejected, InvalidOperation)):
        return OperationState.REFUSED
    return OperationState.UNKNOWN


def wait_of(error: MultipayError) -> int | None:
    """Return for how many seconds the provider asked us to wait, if it did."""
    return error.retry_after if isinstance(error, ProviderError) else None


def actor_of(by: object) -> str:
    """Return the name of who acts: a user's, a text as it is, "" for nobody."""
    if by is None or isinstance(by, str):
        return by or ""
    return str(getattr(by, "get_username", by.__str__)())
