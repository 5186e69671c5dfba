"""What every flow that talks to a provider checks first."""

from __future__ import annotations

from django.db import transaction

from django_multipay import ledger
from django_multipay.providers.base import Provider


def refuse_open_transaction(flow: str) -> None:
    """Raise `RuntimeError` inside a caller's transaction.

    A rollback there would forget an intent that the provider has already carried
    out, and a row lock would be held for as long as the provider takes to answer.
    """
    try:
        with transaction.atomic(durable=True):
            pass
    except RuntimeError as error:
        raise RuntimeError(
            f"{flow}() talks to the provider and cannot run inside "
            "transaction.atomic() or a view under ATOMIC_REQUESTS; call it after the "
            "commit (transaction.on_commit) or mark the view non_atomic_requests"
        ) from error


def account_of(provider: Provider) -> ledger.Account:
    """Return what the ledger compares a message of ``provider`` with."""
    return ledger.Account(
        alias=provider.alias, account=provider.account, is_live=provider.is_live
    )
