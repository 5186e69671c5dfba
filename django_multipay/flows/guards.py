"""What every flow that talks to a provider checks first."""

from __future__ import annotations

from django.db import connection

from django_multipay import ledger
from django_multipay.providers.base import Provider


def refuse_open_transaction(flow: str) -> None:
    """Raise `RuntimeError` inside a caller's transaction.

    A rollback there would forget an intent that the provider has already carried
    out, and a row lock would be held for as long as the provider takes to answer.
    """
    # What ``atomic(durable=True)`` looks at, without opening a transaction: on SQLite
    # that would take the write lock, for every message a stranger sends.
    blocks = connection.atomic_blocks
    if blocks and not getattr(blocks[-1], "_from_testcase", False):
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
