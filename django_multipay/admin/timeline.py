"""The story of one payment: facts, calls, messages, refunds and notices as one list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext as _

from django_multipay import money
from django_multipay.enums import (
    NoticeState,
    OperationState,
    RefundStatus,
    ReviewReason,
    Source,
    TransactionKind,
    Verdict,
)
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Refund,
    Transaction,
    WebhookDelivery,
)

MOST = 200
"""Entries of each kind that a page shows; the newest of them."""

CHECKED = "Checked with provider"
REPLAYED = "Message applied again"
"""How the admin's log begins what no other row remembers the person of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line: when, what, how much, by whom, and how it was learned.

    ``tone`` is "good", "wait", "bad" or "" and colors the line's mark.
    """

    at: datetime
    kind: str
    title: str
    amount: str = ""
    actor: str = ""
    source: str = ""
    note: str = ""
    tone: str = ""
    url: str = ""


_BAD_FACTS = frozenset(
    {
        TransactionKind.FAILURE,
        TransactionKind.CHARGEBACK,
        TransactionKind.DISCREPANCY,
        TransactionKind.CAPTURE_REVERSAL,
    }
)
_WAITING_FACTS = frozenset(
    {
        TransactionKind.REGISTRATION,
        TransactionKind.AUTHENTICATION,
        TransactionKind.REVIEW_HOLD,
    }
)
_OPERATION_TONES: Mapping[str, str] = {
    OperationState.SUCCEEDED: "good",
    OperationState.REFUSED: "bad",
    OperationState.ABANDONED: "bad",
}
_REFUND_TONES: Mapping[str, str] = {
    RefundStatus.SUCCEEDED: "good",
    RefundStatus.FAILED: "bad",
}
_VERDICT_TONES: Mapping[str, str] = {
    Verdict.APPLIED: "good",
    Verdict.IGNORED: "",
    Verdict.HELD: "bad",
}


def timeline(payment: Payment) -> list[Entry]:
    """Return the story of ``payment``, the newest first, in six queries."""
    entries = [
        Entry(
            at=payment.created_at,
            kind=_("payment"),
            title=_("Payment created"),
            amount=money.display(payment.amount),
        ),
        *_facts(payment),
        *_operations(payment),
        *_deliveries(payment),
        *_refunds(payment),
        *_notices(payment),
        *_acts(payment),
    ]
    return sorted(entries, key=lambda entry: entry.at, reverse=True)


def _newest(rows: Any) -> Any:
    return rows.order_by("-id")[:MOST]


def _facts(payment: Payment) -> Iterator[Entry]:
    fact: Transaction
    for fact in _newest(payment.transactions):
        tone = "good"
        if fact.kind in _BAD_FACTS:
            tone = "bad"
        elif fact.kind in _WAITING_FACTS:
            tone = "wait"
        is_release = fact.kind == TransactionKind.REVIEW_RELEASE
        yield Entry(
            at=fact.created_at,
            kind=_("fact"),
            title=_title(fact),
            amount=_shown(fact.amount_minor, payment),
            actor=fact.detail if is_release else "",
            source=_label(Source, fact.source),
            note=" · ".join(
                filter(
                    None,
                    (
                        "" if is_release else fact.detail,
                        fact.provider_reference[:64],
                    ),
                )
            ),
            tone=tone,
        )


def _title(fact: Transaction) -> str:
    title = _label(TransactionKind, fact.kind)
    if fact.reason in ReviewReason.values:
        title = f"{title}: {ReviewReason(fact.reason).label}"
    return title[0].upper() + title[1:]


def _label(words: Any, value: str) -> str:
    """Return what a word means; the word itself where a later version wrote it."""
    return str(words(value).label) if value in words.values else value


def _operations(payment: Payment) -> Iterator[Entry]:
    operation: Operation
    for operation in _newest(payment.operations):
        note = operation.error
        if operation.needs_approval:
            approver = operation.approved_by
            said = (
                _("approved by %(name)s") % {"name": approver}
                if approver
                else _("waits for a second person")
            )
            note = f"{said} · {note}" if note else said
        yield Entry(
            at=operation.created_at,
            kind=_("call"),
            title=f"{operation.get_kind_display()}: {operation.get_state_display()}",
            amount=_shown(operation.amount_minor, payment),
            actor=operation.actor,
            note=note,
            tone=_OPERATION_TONES.get(operation.state, "wait"),
        )


def _deliveries(payment: Payment) -> Iterator[Entry]:
    delivery: WebhookDelivery
    for delivery in _newest(payment.deliveries.defer("payload")):
        yield Entry(
            at=delivery.received_at,
            kind=_("message"),
            title=_("Message received: %(verdict)s")
            % {"verdict": delivery.get_verdict_display()},
            source=_label(Source, delivery.source),
            note=delivery.error,
            tone=_VERDICT_TONES.get(delivery.verdict, "wait"),
            url=reverse("admin:multipay_webhookdelivery_change", args=[delivery.pk]),
        )


def _refunds(payment: Payment) -> Iterator[Entry]:
    refund: Refund
    for refund in _newest(payment.refunds.defer("account")):
        yield Entry(
            at=refund.created_at,
            kind=_("refund"),
            title=_("Refund: %(status)s") % {"status": refund.get_status_display()},
            amount=_shown(refund.amount_minor, payment),
            actor=_("made at the provider")
            if refund.is_external
            else refund.requested_by,
            note=" · ".join(filter(None, (refund.reason, refund.error))),
            tone=_REFUND_TONES.get(refund.status, "wait"),
            url=reverse("admin:multipay_refund_change", args=[refund.pk]),
        )


def _notices(payment: Payment) -> Iterator[Entry]:
    notice: Notice
    for notice in _newest(payment.notices):
        if not notice.signals:
            continue
        is_told = notice.state == NoticeState.DELIVERED
        yield Entry(
            at=notice.delivered_at or notice.created_at,
            kind=_("notice"),
            title=_("Shop was told") if is_told else _("Shop must still be told"),
            note=" · ".join(
                filter(None, (", ".join(map(str, notice.signals)), notice.error))
            ),
            tone="" if is_told else "wait",
        )


def _acts(payment: Payment) -> Iterator[Entry]:
    titles = {
        CHECKED: _("The provider was asked"),
        REPLAYED: _("A message was applied again"),
    }
    entries = LogEntry.objects.filter(
        Q(change_message__startswith=CHECKED) | Q(change_message__startswith=REPLAYED),
        content_type=get_content_type_for_model(Payment),
        object_id=str(payment.pk),
    )
    for entry in _newest(entries.select_related("user")):
        act, _colon, outcome = entry.change_message.partition(": ")
        yield Entry(
            at=entry.action_time,
            kind=_("staff"),
            title=titles.get(act, act),
            actor=entry.user.get_username(),
            note=outcome,
        )


def _shown(amount_minor: int, payment: Payment) -> str:
    if not amount_minor:
        return ""
    return money.display(money.from_minor(amount_minor, payment.currency))
