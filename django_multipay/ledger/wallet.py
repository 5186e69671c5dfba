"""Saved methods: rows that change inside the transaction of what changed them.

Whoever calls has an open transaction, and the payment's lock where there is a payment.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from django_multipay import crypto
from django_multipay.enums import DeclineCode, TokenStatus
from django_multipay.ledger.claims import DatabaseNow
from django_multipay.messages import TokenSnapshot
from django_multipay.models import Notice, Payment, Token
from django_multipay.redaction import storable

logger = logging.getLogger("django_multipay.ledger")

HOPELESS = frozenset({DeclineCode.EXPIRED_CARD, DeclineCode.LOST_OR_STOLEN})
"""Declines after which the same method will never be accepted again."""


def save_token(payment: Payment, snapshot: TokenSnapshot) -> None:
    """Remember what ``payment`` was paid with, for the customer who wished it.

    What another customer saved before is never theirs, whatever became of it: where
    a provider knows a method by an address, whoever types that address would be
    charged to somebody else's card. What was deleted comes back only with a payment
    that was made afterwards; older news of it change nothing.
    """
    if snapshot.status != TokenStatus.ACTIVE or not snapshot.reference:
        return
    identity = hashlib.sha256(snapshot.reference.encode()).hexdigest()
    digests = crypto.keyed_digests(identity)
    described = _description(snapshot)
    token = (
        Token.objects.select_for_update()
        .filter(provider=payment.provider, token_digest__in=digests)
        .first()
    )
    is_new = token is None
    if token is None:
        token, is_new = Token.objects.get_or_create(
            provider=payment.provider,
            token_digest=digests[0],
            defaults={
                "customer_id": payment.customer_id,
                "provider_token": snapshot.reference,
                "identity": identity,
                "created_by_payment": payment,
                **described,
            },
        )
    if is_new:
        tell(["token_created"], token.pk, payment)
    elif token.customer_id != payment.customer_id:
        logger.warning(
            "payment %s: its method was saved by another customer; it is not saved",
            payment.uuid,
        )
    elif token.status == TokenStatus.ACTIVE:
        _describe(token, described)
    elif token.ended_at is not None and payment.created_at > token.ended_at:
        described |= {
            "provider_token": snapshot.reference,
            "status": TokenStatus.ACTIVE,
            "ended_at": None,
        }
        _describe(token, described)
        tell(["token_created"], token.pk, payment)
    _remember(payment, token)


def _remember(payment: Payment, token: Token) -> None:
    """Write on ``payment`` what it was paid with, for the plan that it may begin."""
    is_theirs = token.customer_id == payment.customer_id
    if is_theirs and token.status == TokenStatus.ACTIVE and payment.token_id is None:
        payment.token = token
        Payment.objects.filter(pk=payment.pk).update(token=token)


def _description(snapshot: TokenSnapshot) -> dict[str, Any]:
    """Return what may be shown of a method, as far as the provider says it."""
    said = {
        "fingerprint": storable(snapshot.fingerprint, 64),
        "brand": storable(snapshot.brand, 32),
        "last4": snapshot.last4[:4],
        "expires_on": snapshot.expires_on,
    }
    return {name: value for name, value in said.items() if value}


def _describe(token: Token, described: dict[str, Any]) -> None:
    news = {
        name: value
        for name, value in described.items()
        if getattr(token, name) != value
    }
    if "expires_on" in news:
        # Another date: the shop must hear of that one, too.
        news["expiry_told_at"] = None
    for name, value in news.items():
        setattr(token, name, value)
    if news:
        token.save(update_fields=[*news, "updated_at"])


def describe_token(token: Token, snapshot: TokenSnapshot) -> None:
    """Write what the provider says about ``token`` now."""
    _describe(token, _description(snapshot))


def end_token(token_id: int, status: TokenStatus, payment: Payment | None) -> bool:
    """Let a saved method be charged no more, and tell the shop; False if it was over.

    ``payment`` is the one that showed it, if one did. A dead method may still be
    deleted.
    """
    before = {TokenStatus.ACTIVE, TokenStatus.DEAD} - {status}
    now = DatabaseNow()
    is_news = Token.objects.filter(pk=token_id, status__in=before).update(
        status=status, ended_at=now, updated_at=now
    )
    if is_news:
        tell(["token_status_changed"], token_id, payment)
    return bool(is_news)


def tell(signals: list[str], token_id: int, payment: Payment | None = None) -> None:
    """Write what the shop must hear about a saved method."""
    Notice.objects.create(
        token_id=token_id, payment=payment, signals=signals, due_at=DatabaseNow()
    )
