"""Many at once: threads on a real database, real commits, real locks.

A test of a lock says little unless its twin without the lock fails, so the lock's
twin stands beside it.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from django.db import connection, connections
from django.test import Client
from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import (
    DeclineCode,
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    ReviewReason,
    Source,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import InvalidTransition
from django_multipay.flows import (
    create_payment,
    deliver_notices,
    start_payment,
    sync_payment,
)
from django_multipay.messages import Decline, PaymentSnapshot, dump_action
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Transaction,
    WebhookDelivery,
)
from django_multipay.providers.eximbay import EximbayProvider
from tests.corridor import ACCEPTED, Corridor, heard, reconcile_later

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNT = ledger.Account(alias="eximbay", account="1849705C64", is_live=None)
PATIENCE = 0.5
"""Seconds that show a thread is held up by a lock; nothing waits so long otherwise."""

T = TypeVar("T")


def at_once(steps: Sequence[Callable[[], T]]) -> list[T]:
    """Run every step in its own thread, all from the same moment; raise what raised."""
    start = threading.Barrier(len(steps))

    def run(step: Callable[[], T]) -> T:
        try:
            start.wait(timeout=20)
            return step()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(steps)) as pool:
        return list(pool.map(run, steps))


def new_payment() -> Payment:
    return create_payment(
        provider="eximbay", order_id="R-1001", amount=Money("26.30", "USD")
    )


def apply(payment: Payment, status: PaymentStatus, **more: Any) -> Verdict:
    values: dict[str, Any] = {
        "provider_reference": "T-1",
        "merchant_reference": payment.merchant_reference,
        "account": ACCOUNT.account,
        "amount": payment.amount,
        **more,
    }
    return ledger.apply_snapshot(
        payment.pk,
        PaymentSnapshot(status=status, **values),
        account=ACCOUNT,
        source=Source.WEBHOOK,
    )


def count(payment: Payment, kind: TransactionKind) -> int:
    return payment.transactions.filter(kind=kind).count()


# The doors ------------------------------------------------------------------------------


def test_a_hundred_deliveries_by_eight_threads_pay_once_and_tell_once(
    corridor: Corridor,
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment)

    def status() -> bool:
        return corridor.send(messages.status_path, messages.status_body).content == (
            ACCEPTED
        )

    def returned() -> bool:
        answer = corridor.send(messages.return_path, messages.return_body)
        return bool(answer.status_code == 303)

    def visited() -> bool:
        answer = Client().get(f"{messages.return_path}?{messages.return_body}")
        return answer.status_code == 303

    def synced() -> bool:
        verdict = sync_payment(Payment.objects.get(pk=payment.pk))
        return verdict in {Verdict.APPLIED, Verdict.IGNORED}

    def second() -> bool:
        body = corridor.signed(payment, param2="another notice of the same")
        return corridor.send(messages.status_path, body).content == ACCEPTED

    kinds = itertools.cycle([status, returned, visited, synced, status, second])
    work = list(itertools.islice(kinds, 100))
    with heard() as signals:
        answers = at_once(
            [
                lambda share=share: [step() for step in share]  # type: ignore[misc]
                for share in (work[number::8] for number in range(8))
            ]
        )
    assert all(all(share) for share in answers)
    assert sum(len(share) for share in answers) == 100
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert payment.captured_minor == payment.amount_minor
    assert count(payment, TransactionKind.CAPTURE) == 1
    assert Transaction.objects.count() == Notice.objects.count() == 1
    assert Counter(name for name, *_ in signals)["payment_paid"] == 1
    assert max(Counter(signals).values()) == 1
    assert WebhookDelivery.objects.count() == 2
    verdicts = set(WebhookDelivery.objects.values_list("verdict", flat=True))
    assert verdicts <= {Verdict.APPLIED, Verdict.IGNORED}
    assert reconcile_later().errors == 0


def test_eight_threads_that_insert_one_message_make_one_row() -> None:
    def insert() -> int:
        delivery = WebhookDelivery(
            provider="eximbay", digest="a" * 64, source=Source.WEBHOOK, payload={}
        )
        return ledger.store_delivery(delivery).pk

    for _ in range(5):
        assert len(set(at_once([insert] * 8))) == 1
        assert WebhookDelivery.objects.count() == 1
        WebhookDelivery.objects.all().delete()


def test_a_message_that_comes_before_the_checkout_was_concluded_is_applied(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = EximbayProvider.start_payment
    answers = []

    def start(self: EximbayProvider, request: Any) -> PaymentSnapshot:
        snapshot = original(self, request)
        assert snapshot.next_action is not None
        early = Payment.objects.get()
        assert early.next_action is None
        early.next_action = dump_action(snapshot.next_action)
        messages = corridor.pay(early)
        answers.append(corridor.send(messages.status_path, messages.status_body))
        return snapshot

    monkeypatch.setattr(EximbayProvider, "start_payment", start)
    payment = corridor.payment()
    assert [answer.content for answer in answers] == [ACCEPTED]
    assert payment.status == PaymentStatus.PAID
    assert payment.next_action is None
    assert payment.sync_at is None
    assert payment.started_at is not None
    operation = payment.operations.get()
    assert operation.state == OperationState.SUCCEEDED
    assert operation.open_slot is None


# The lock and its twin ---------------------------------------------------------------------


def unlocked(payment_id: int) -> Payment:
    return Payment.objects.get(pk=payment_id)


def a_failure_overtaken_by_the_money(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Apply a failure, and the money between its reading and its writing.

    True if the money got in between.
    """
    failure_has_read, money_is_in = threading.Event(), threading.Event()
    overtaken = []
    original = ledger._facts

    def facts(
        payment: Payment, snapshot: PaymentSnapshot, known: Sequence[Transaction]
    ) -> list[Transaction]:
        found = original(payment, snapshot, known)
        if snapshot.status is PaymentStatus.FAILED:
            failure_has_read.set()
            overtaken.append(money_is_in.wait(PATIENCE))
        return found

    def fail() -> None:
        apply(payment, PaymentStatus.FAILED, provider_reference="F-1")

    def pay() -> None:
        assert failure_has_read.wait(20)
        apply(payment, PaymentStatus.PAID)
        money_is_in.set()

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_facts", facts)
        at_once([fail, pay])
    payment.refresh_from_db()
    return overtaken[0]


def test_nobody_decides_between_the_reading_and_the_writing_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payment = new_payment()
    assert not a_failure_overtaken_by_the_money(payment, monkeypatch)
    assert payment.status == PaymentStatus.PAID
    assert payment.captured_minor == payment.amount_minor
    assert payment.review_reason == ""
    assert Transaction.objects.count() == Notice.objects.count() == 2


def test_twin_without_the_lock_the_money_is_forgotten_where_rows_are_locked_singly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "_lock", unlocked)
    monkeypatch.setattr(ledger, "_lock_again", Payment.refresh_from_db)
    payment = new_payment()
    was_overtaken = a_failure_overtaken_by_the_money(payment, monkeypatch)
    assert count(payment, TransactionKind.CAPTURE) == 1
    if connection.vendor == "sqlite":
        # BEGIN IMMEDIATE locks the whole database, so this lock is not what guards.
        assert not was_overtaken
        assert payment.status == PaymentStatus.PAID
    else:
        assert was_overtaken
        assert payment.status == PaymentStatus.FAILED
        assert payment.captured_minor == 0


def two_equal_claims(payments: Sequence[Payment], patch: pytest.MonkeyPatch) -> Any:
    """Apply one claim of money to each, after both have looked who has its reference.

    Returns the verdicts; where they cannot look at the same time, one after another.
    """
    both_have_looked = threading.Barrier(2)
    first_look = threading.local()
    original = ledger._facts

    def facts(
        payment: Payment, snapshot: PaymentSnapshot, known: Sequence[Transaction]
    ) -> list[Transaction]:
        if not hasattr(first_look, "is_over"):
            first_look.is_over = True
            try:
                both_have_looked.wait(PATIENCE)
            except threading.BrokenBarrierError:
                pass
        return original(payment, snapshot, known)

    with patch.context() as context:
        context.setattr(ledger, "_facts", facts)
        return at_once(
            [
                lambda payment=payment: apply(payment, PaymentStatus.PAID)  # type: ignore[misc]
                for payment in payments
            ]
        )


def test_one_transaction_claimed_for_two_payments_at_once_pays_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payments = [new_payment(), new_payment()]
    verdicts = two_equal_claims(payments, monkeypatch)
    assert sorted(verdicts) == [Verdict.APPLIED, Verdict.HELD]
    statuses = sorted(Payment.objects.values_list("status", flat=True))
    assert statuses == [PaymentStatus.CREATED, PaymentStatus.PAID]
    held = Payment.objects.get(status=PaymentStatus.CREATED)
    assert held.review_reason == ReviewReason.REFERENCE_MISMATCH


def test_the_same_claim_twice_at_once_is_one_fact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payment = new_payment()
    # Even without the lock: the unique constraint is the second guard.
    monkeypatch.setattr(ledger, "_lock", unlocked)
    monkeypatch.setattr(ledger, "_lock_again", Payment.refresh_from_db)
    verdicts = two_equal_claims([payment, payment], monkeypatch)
    assert sorted(verdicts) == [Verdict.APPLIED, Verdict.IGNORED]
    assert count(payment, TransactionKind.CAPTURE) == 1
    assert Notice.objects.count() == 1


def test_different_facts_of_one_payment_by_eight_threads_are_all_counted() -> None:
    payment = new_payment()
    claims: list[tuple[PaymentStatus, str]] = [
        (PaymentStatus.FAILED, "F-1"),
        (PaymentStatus.FAILED, "F-2"),
        (PaymentStatus.AUTHORIZED, "T-1"),
        (PaymentStatus.PAID, "T-1"),
        (PaymentStatus.PAID, "T-1"),
        (PaymentStatus.AWAITING_FUNDS, "T-1"),
        (PaymentStatus.EXPIRED, "E-1"),
        (PaymentStatus.CANCELED, "C-1"),
    ]
    at_once(
        [
            lambda claim=claim: apply(  # type: ignore[misc]
                payment, claim[0], provider_reference=claim[1]
            )
            for claim in claims
        ]
    )
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert payment.captured_minor == payment.amount_minor
    assert Transaction.objects.count() == Notice.objects.count() == 7


# Leases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_expired", [False, True])
def test_of_sixteen_workers_one_gets_the_operation(is_expired: bool) -> None:
    operation = Operation.objects.create(
        kind=OperationKind.CHECKOUT, payment=new_payment()
    )
    if is_expired:
        Operation.objects.update(
            state=OperationState.IN_FLIGHT, lease_until=datetime(2020, 1, 1, tzinfo=UTC)
        )
    claims = [Operation.objects.get(pk=operation.pk) for _ in range(16)]
    won = at_once([lambda one=one: ledger.claim_operation(one) for one in claims])  # type: ignore[misc]
    assert won.count(True) == 1
    operation.refresh_from_db()
    assert operation.attempts == 1
    assert operation.lease_token == claims[won.index(True)].lease_token


def test_four_dispatchers_deliver_each_notice_once() -> None:
    for _ in range(6):
        payment = new_payment()
        reference = f"T-{payment.pk}"
        apply(payment, PaymentStatus.AUTHORIZED, provider_reference=reference)
        apply(payment, PaymentStatus.PAID, provider_reference=reference)
    with heard() as signals:
        delivered = at_once([deliver_notices] * 4)
    assert sum(delivered) == 12
    assert not Notice.objects.exclude(state=NoticeState.DELIVERED).exists()
    assert max(Counter(signals).values()) == 1
    assert [name for name, *_ in signals].count("payment_paid") == 6


# The checkout ----------------------------------------------------------------------------------


def test_eight_clicks_at_once_open_one_payment_page(corridor: Corridor) -> None:
    payment = create_payment(
        provider="eximbay",
        order_id="R-1001",
        amount=Money("26.30", "USD"),
        buyer=corridor.buyer,
    )

    def click() -> Any:
        return start_payment(Payment.objects.get(pk=payment.pk))

    actions = at_once([click] * 8)
    assert corridor.calls()["ready"] == 1
    opened = [action for action in actions if action is not None]
    assert opened
    assert all(action == opened[0] for action in opened)
    assert Operation.objects.count() == 1


def test_a_click_that_another_overtakes_gets_the_page_of_the_other(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = create_payment(
        provider="eximbay",
        order_id="R-1001",
        amount=Money("26.30", "USD"),
        buyer=corridor.buyer,
    )
    original = ledger.begin_checkout
    others = []

    def overtake(mine: Payment, *admit: Any, **chosen: Any) -> Operation | None:
        monkeypatch.setattr(ledger, "begin_checkout", original)
        others.append(start_payment(Payment.objects.get(pk=mine.pk)))
        return original(mine, *admit, **chosen)

    monkeypatch.setattr(ledger, "begin_checkout", overtake)
    assert start_payment(payment) == others[0]
    assert corridor.calls()["ready"] == 1
    assert Operation.objects.filter(kind=OperationKind.CHECKOUT).count() == 1


def test_a_payment_settled_meanwhile_is_not_opened_again(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = create_payment(
        provider="eximbay",
        order_id="R-1001",
        amount=Money("26.30", "USD"),
        buyer=corridor.buyer,
    )
    original = ledger.begin_checkout

    def overtake(mine: Payment, *admit: Any, **chosen: Any) -> Operation | None:
        apply(mine, PaymentStatus.PAID)
        return original(mine, *admit, **chosen)

    monkeypatch.setattr(ledger, "begin_checkout", overtake)
    with pytest.raises(InvalidTransition, match="is paid"):
        start_payment(payment)
    assert corridor.calls()["ready"] == 0


# Every order of arrival ---------------------------------------------------------------------------


HISTORY: Sequence[dict[str, Any]] = (
    {"status": PaymentStatus.PENDING, "provider_reference": ""},
    {"status": PaymentStatus.AWAITING_FUNDS},
    {"status": PaymentStatus.AUTHORIZED},
    {"status": PaymentStatus.PAID},
    {"status": PaymentStatus.PAID},
    {
        "status": PaymentStatus.PARTIALLY_REFUNDED,
        "refunded": Money("10.00", "USD"),
    },
    {
        "status": PaymentStatus.FAILED,
        "provider_reference": "F-1",
        "decline": Decline(code=DeclineCode.EXPIRED_CARD),
        "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
    },
)


def orders(count: int) -> Iterator[Sequence[dict[str, Any]]]:
    """A repeatable sample of all 5,040 orders of `HISTORY`, the two plain ones too."""
    yield HISTORY
    yield HISTORY[::-1]
    chance = random.Random(7)
    for _ in range(count):
        yield chance.sample(HISTORY, len(HISTORY))


@pytest.mark.django_db
def test_every_order_of_arrival_ends_in_the_same_state_and_tells_once() -> None:
    ends = set()
    for order in orders(60):
        payment = new_payment()
        for event in order:
            reference = f"{event.get('provider_reference', 'T-1')}-{payment.pk}"
            apply(payment, **{**event, "provider_reference": reference})
        payment.refresh_from_db()
        notices = Notice.objects.filter(payment=payment)
        told = Counter(name for notice in notices for name in notice.signals)
        ends.add(
            (
                payment.status,
                payment.authorized_minor,
                payment.captured_minor,
                payment.refunded_minor,
                payment.review_reason,
                payment.decline_code,
                payment.paid_at is not None,
                payment.sync_at,
                payment.transactions.count(),
                notices.count(),
                told["payment_paid"],
            )
        )
    assert ends == {
        (
            PaymentStatus.PARTIALLY_REFUNDED,
            2630,
            2630,
            1000,
            "",
            "",
            True,
            None,
            5,
            # One for each fact, and one for the refund that nobody here asked for.
            6,
            1,
        ),
    }
