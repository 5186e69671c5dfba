"""Messages twice, shuffled, and by many at once; and every order of one history."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from django.test import Client
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import (
    NoticeState,
    PaymentStatus,
    RefundStatus,
    Source,
    Verdict,
)
from django_multipay.flows import start_payment
from django_multipay.messages import DisputeSnapshot, IncomingRequest, RefundSnapshot
from django_multipay.models import Notice, Payment, Transaction, WebhookDelivery
from tests.corridor import heard
from tests.flows.scripted import (
    ACCOUNT,
    ScriptedProvider,
    account_settings,
    message,
    new_payment,
    snapshot_of,
)
from tests.flows.test_races import at_once
from tests.proof.figures import Figures, sample, size
from tests.proof.invariants import violations

PAYMENTS = size(90, 640)
THREADS = 8
SEED = 20261121

LIFE = (
    PaymentStatus.PENDING,
    PaymentStatus.AWAITING_FUNDS,
    PaymentStatus.AUTHENTICATED,
    PaymentStatus.AUTHORIZED,
    PaymentStatus.PAID,
    PaymentStatus.FAILED,
    PaymentStatus.EXPIRED,
)
"""Seven events; the failure is of an earlier attempt, the expiry of an old page."""


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(scripted=ScriptedProvider)


def events_of(payment: Payment) -> list[IncomingRequest]:
    """Return the seven messages about ``payment``, each of which is genuine."""
    other = {PaymentStatus.FAILED: "F", PaymentStatus.EXPIRED: "E"}
    return [
        message(
            payment,
            status,
            reference=f"{other.get(status, 'T')}-{payment.merchant_reference}",
        )
        for status in LIFE
    ]


def deliver(incoming: IncomingRequest) -> int:
    """Bring one message through the door; return the status of the answer."""
    answer = Client(raise_request_exception=False).post(
        "/payments/webhook/scripted/",
        incoming.body,
        content_type="application/json",
        headers={"X-Secret": incoming.headers["x-secret"]},
    )
    return int(answer.status_code)


# Many at once ------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_deliveries_twice_and_shuffled_by_eight_threads_end_in_one_state(
    figures: Figures,
) -> None:
    payments = [new_payment(order_id=f"R-{number}") for number in range(PAYMENTS)]
    for payment in payments:
        start_payment(payment)
    # Every event twice, and a fourth part of them a third time.
    chance = random.Random(SEED)
    bag = [event for payment in payments for event in events_of(payment)]
    bag += [*bag, *chance.sample(bag, len(bag) // 4)]
    chance.shuffle(bag)

    def share(number: int) -> list[int]:
        return [deliver(incoming) for incoming in bag[number::THREADS]]

    with heard() as signals:
        answers = at_once([lambda one=n: share(one) for n in range(THREADS)])  # type: ignore[misc]
    statuses = Counter(itertools.chain(*answers))
    figures.did("deliveries", statuses.total())
    wrong = [status for status in statuses if status != 200]
    figures.found("server_errors", wrong)

    lost: list[object] = []
    doubled: list[object] = []
    for payment in payments:
        payment.refresh_from_db()
        if payment.status != PaymentStatus.PAID or payment.review_reason:
            lost.append((payment.pk, payment.status, payment.review_reason))
        paid = [one for one in signals if one[:2] == ("payment_paid", payment.pk)]
        if len(paid) != 1:
            (doubled if paid else lost).append((payment.pk, paid))
    kinds = Counter(Transaction.objects.values_list("kind", flat=True))
    # An event that says "pending" is no fact.
    assert kinds == dict.fromkeys(kinds, PAYMENTS)
    assert kinds.total() == PAYMENTS * (len(LIFE) - 1)
    figures.found("lost", lost)
    figures.found("doubled", doubled)
    figures.found("doubled", [one for one, n in Counter(signals).items() if n > 1])
    assert WebhookDelivery.objects.count() == PAYMENTS * len(LIFE)
    late = Notice.objects.exclude(state=NoticeState.DELIVERED)
    stored = WebhookDelivery.objects.filter(verdict=Verdict.STORED)
    figures.found("stuck", [*late, *stored])
    figures.found("violations", violations())


# Every order ------------------------------------------------------------------------------


def news_of(payment: Payment) -> Sequence[tuple[Any, Any]]:
    """Return seven events, from the authorization to a dispute that is won."""
    order = payment.merchant_reference
    dispute = DisputeSnapshot(reference=f"D-{order}", amount=payment.amount)
    won = DisputeSnapshot(
        reference=f"D-{order}", amount=payment.amount, is_reversed=True
    )
    refund = RefundSnapshot(
        status=RefundStatus.SUCCEEDED,
        provider_reference=f"R-{order}",
        amount=Money("10.00", "USD"),
    )
    account = ledger.Account(alias="scripted", account=ACCOUNT, is_live=None)

    def snapshot(status: PaymentStatus, **changes: Any) -> tuple[Any, Any]:
        said = snapshot_of(payment, status, **changes)
        return ledger.apply_snapshot, (said, {"account": account})

    return [
        snapshot(PaymentStatus.AUTHORIZED),
        snapshot(PaymentStatus.PAID),
        snapshot(PaymentStatus.PAID),
        snapshot(PaymentStatus.FAILED, provider_reference=f"F-{order}"),
        (ledger.apply_refund, (refund, {})),
        (ledger.apply_dispute, (dispute, {})),
        (ledger.apply_dispute, (won, {})),
    ]


@pytest.mark.django_db
def test_every_order_of_seven_events_ends_in_one_state(figures: Figures) -> None:
    """From the authorization to a dispute that is won; 5,040 of them in full."""
    orders = list(itertools.permutations(range(len(LIFE))))
    ends = Counter[Any]()
    for order in sample(orders, 24):
        payment = new_payment()
        start_payment(payment)
        events = news_of(payment)
        for number in order:
            apply, (said, more) = events[number]
            apply(payment.pk, said, source=Source.WEBHOOK, **more)
        payment.refresh_from_db()
        told = Notice.objects.filter(payment=payment)
        ends[
            payment.status,
            payment.authorized_minor,
            payment.captured_minor,
            payment.refunded_minor,
            payment.review_reason,
            payment.decline_code,
            payment.sync_at,
            payment.paid_at is not None,
            tuple(sorted(payment.transactions.values_list("kind", "amount_minor"))),
            told.count(),
            sum("payment_paid" in notice.signals for notice in told),
        ] += 1
        figures.did("orders")
    assert len(ends) == 1, ends
    figures.found("violations", violations())
