"""Forgetting: what need not be kept is taken out of rows, a few at a time.

Amounts, references and facts stay, whoever asks: accounting outlives a buyer's wish.
Each function that changes rows takes one chunk, so a purge that was stopped goes on
where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When

from django_multipay import crypto, states
from django_multipay.enums import (
    EndpointDeliveryState,
    NoticeState,
    OperationState,
    RefundStatus,
    TokenStatus,
    Verdict,
)
from django_multipay.ledger.claims import DatabaseNow, retried
from django_multipay.models import (
    EndpointDelivery,
    Notice,
    Operation,
    Payment,
    RecurringPlan,
    Refund,
    Token,
    WebhookDelivery,
)

ERASED = "erased-"
"""How the pseudonym of a customer begins, which takes the place of the shop's id."""

_BUYER: dict[str, Any] = {
    "buyer_name": "",
    "buyer_email": "",
    "buyer_phone": "",
    "buyer_country": "",
    "success_url": "",
    "failure_url": "",
}
"""What a payment or a plan says of its buyer once they are forgotten."""


def old_messages(moment: datetime) -> QuerySet[WebhookDelivery]:
    """Return the messages from before ``moment`` that still show or hold anything.

    Not those that are still applied again: they come to an end by themselves.
    """
    return (
        WebhookDelivery.objects.filter(received_at__lt=moment, rematch_at=None)
        .exclude(verdict=Verdict.STORED)
        .exclude(body="", payload="")
    )


def old_events(moment: datetime) -> QuerySet[EndpointDelivery]:
    """Return what was sent to endpoints, or given up, before ``moment``."""
    return EndpointDelivery.objects.filter(created_at__lt=moment).exclude(
        state=EndpointDeliveryState.WAITING
    )


def old_notices(moment: datetime) -> QuerySet[Notice]:
    """Return the notices from before ``moment`` that everybody has taken."""
    sent = EndpointDelivery.objects.filter(notice=OuterRef("pk"))
    return Notice.objects.filter(
        ~Exists(sent), state=NoticeState.DELIVERED, created_at__lt=moment
    )


def old_checkouts(moment: datetime) -> QuerySet[Payment]:
    """Return the payments from before ``moment`` that still hold an address."""
    return Payment.objects.filter(created_at__lt=moment).exclude(checkout_data="")


def closed_payments() -> QuerySet[Payment]:
    """Return the payments whose buyer may be forgotten: nothing of them is open."""
    operations = Operation.objects.filter(
        payment=OuterRef("pk"),
        state__in=[
            OperationState.REQUESTED,
            OperationState.IN_FLIGHT,
            OperationState.UNKNOWN,
        ],
    )
    refunds = Refund.objects.filter(payment=OuterRef("pk")).exclude(
        status__in=[RefundStatus.SUCCEEDED, RefundStatus.FAILED]
    )
    return known_payments().filter(
        ~Exists(operations),
        ~Exists(refunds),
        status__in=states.FINAL_STATUSES,
        review_reason="",
        sync_at=None,
    )


def known_payments() -> QuerySet[Payment]:
    """Return the payments whose buyer is not forgotten."""
    return Payment.objects.filter(erased_at=None)


def known_plans() -> QuerySet[RecurringPlan]:
    """Return the plans whose buyer is not forgotten."""
    return RecurringPlan.objects.exclude(customer_id__startswith=ERASED)


def known_tokens() -> QuerySet[Token]:
    """Return the saved methods whose owner is not forgotten."""
    return Token.objects.exclude(customer_id__startswith=ERASED)


def is_over() -> Q:
    """Return the condition on a plan that it collects nothing any more."""
    return Q(status__in=states.ENDED_PLAN_STATUSES)


def is_gone() -> Q:
    """Return the condition on a saved method that it cannot be charged any more."""
    return ~Q(status=TokenStatus.ACTIVE)


@retried
def trim_messages(keys: Sequence[int]) -> int:
    """Erase what messages said; that they came, and their digest, stays."""
    with transaction.atomic(durable=True):
        return WebhookDelivery.objects.filter(pk__in=keys).update(
            headers={}, body="", payload=None
        )


@retried
def drop_events(keys: Sequence[int]) -> int:
    """Delete what was sent to endpoints."""
    with transaction.atomic(durable=True):
        return EndpointDelivery.objects.filter(pk__in=keys).delete()[0]


@retried
def drop_notices(keys: Sequence[int]) -> int:
    """Delete notices that were delivered; the facts behind them stay."""
    with transaction.atomic(durable=True):
        return Notice.objects.filter(pk__in=keys).delete()[0]


@retried
def drop_checkouts(keys: Sequence[int]) -> int:
    """Erase the addresses that only an open checkout needs."""
    with transaction.atomic(durable=True):
        return Payment.objects.filter(pk__in=keys).update(checkout_data=None)


@retried
def forget_buyers(keys: Sequence[int]) -> int:
    """Take the buyers out of payments, and of what came with them.

    A customer gets a pseudonym, the same for all their payments.
    """
    with transaction.atomic(durable=True):
        rows = Payment.objects.filter(pk__in=keys)
        count = rows.update(
            **_BUYER,
            customer_id=_pseudonyms(rows),
            metadata={},
            details={},
            next_action=None,
            checkout_data=None,
            erased_at=DatabaseNow(),
        )
        Refund.objects.filter(payment__in=keys).update(reason="", account=None)
        WebhookDelivery.objects.filter(payment__in=keys).update(
            headers={}, body="", payload=None
        )
    return count


@retried
def forget_plans(keys: Sequence[int]) -> int:
    """Take the buyers out of plans that are over."""
    return _renamed(RecurringPlan.objects.filter(pk__in=keys), _BUYER)


@retried
def forget_tokens(keys: Sequence[int]) -> int:
    """Take the owner off saved methods that are gone."""
    return _renamed(Token.objects.filter(pk__in=keys), {"identity": None})


def _renamed(rows: QuerySet[Any], values: dict[str, Any]) -> int:
    with transaction.atomic(durable=True):
        return rows.update(customer_id=_pseudonyms(rows), **values)


def _pseudonyms(rows: QuerySet[Any]) -> Case:
    """Return who the customer of each of ``rows`` is from now on: in one statement."""
    customers = rows.exclude(customer_id="").values_list("pk", "customer_id")
    return Case(
        *(When(pk=key, then=Value(pseudonym(customer))) for key, customer in customers),
        default=F("customer_id"),
    )


def pseudonym(customer_id: str) -> str:
    """Return what stands for ``customer_id`` from now on; "" stays nobody."""
    if not customer_id or customer_id.startswith(ERASED):
        return customer_id
    return f"{ERASED}{crypto.keyed_digest(customer_id)[:32]}"


Drop = Callable[[Sequence[int]], int]
"""Changes the rows of these keys in one transaction; returns how many it changed."""
