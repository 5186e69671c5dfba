"""Many hands on the same money: refunds, captures and voids from real threads.

Where a lock guards, the twin without it stands beside the test. Nobody sleeps: threads
meet at barriers, and what is overtaken is overtaken by a hook.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import (
    CaptureMode,
    OperationKind,
    OperationState,
    PaymentStatus,
    RefundStatus,
    Source,
    TransactionKind,
)
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidTransition,
    MultipayError,
    OutcomeUnknown,
    ProviderUnavailable,
)
from django_multipay.flows import (
    abandon_operation,
    approve_refund,
    capture_payment,
    reconcile,
    refund_payment,
    start_payment,
    sync_payment,
    sync_refund,
    void_payment,
)
from django_multipay.flows.operations import refundable, resume_operation
from django_multipay.messages import PaymentSnapshot, RefundSnapshot
from django_multipay.models import Operation, Payment, Refund
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.scripted import (
    ACCOUNT,
    ObligingProvider,
    TracingProvider,
    account_settings,
    new_payment,
    snapshot_of,
)
from tests.flows.test_races import PATIENCE, at_once, unlocked

pytestmark = pytest.mark.django_db(transaction=True)

PAID, AUTHORIZED = PaymentStatus.PAID, PaymentStatus.AUTHORIZED
HUNDRED, SIXTY = Money("100.00", "USD"), Money("60.00", "USD")
REFUSALS = (InvalidAmount, InvalidTransition)


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(
        scripted=ObligingProvider, tracing=TracingProvider
    )


@pytest.fixture
def provider() -> Any:
    return registry["scripted"]


@pytest.fixture
def tracing() -> Any:
    return registry["tracing"]


def payment_that_is(status: PaymentStatus, alias: str = "scripted") -> Payment:
    """A payment of 100 USD, its buyer long gone."""
    is_manual = status is AUTHORIZED
    payment = new_payment(
        amount=HUNDRED,
        provider=alias,
        capture_mode=CaptureMode.MANUAL if is_manual else CaptureMode.AUTOMATIC,
    )
    start_payment(payment)
    ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, status),
        account=ledger.Account(alias=alias, account=ACCOUNT, is_live=None),
        source=Source.SYNC,
    )
    payment.refresh_from_db()
    return payment


def again(payment: Payment) -> Payment:
    """The same payment as another worker reads it."""
    return Payment.objects.get(pk=payment.pk)


def total(payment: Payment, **totals: Money) -> PaymentSnapshot:
    """What the inquiry answers once money has moved."""
    return snapshot_of(payment, PAID, **{"captured": payment.amount, **totals})


def assert_sums(payment: Payment, captured: int, refunded: int) -> None:
    payment.refresh_from_db()
    assert (payment.captured_minor, payment.refunded_minor) == (captured, refunded)
    for kind, expected in (("capture", captured), ("refund", refunded)):
        facts = payment.transactions.filter(kind=kind)
        assert sum(fact.amount_minor for fact in facts) == expected


def outcome(step: Callable[[], Any]) -> Any:
    """What ``step`` returns, or how it was refused."""
    try:
        return step()
    except MultipayError as error:
        return error


def meet(patch: pytest.MonkeyPatch, owner: Any, name: str, count: int) -> None:
    """Let ``count`` threads wait for each other once, after each ran ``owner.name``.

    Where a lock lets only one come so far, it goes on alone after a while.
    """
    barrier, been_there = threading.Barrier(count), threading.local()
    original = getattr(owner, name)

    def meeting(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            if not hasattr(been_there, "yes"):
                been_there.yes = True
                try:
                    barrier.wait(PATIENCE)
                except threading.BrokenBarrierError:
                    pass

    patch.setattr(owner, name, meeting)


def decide_without_the_lock(patch: pytest.MonkeyPatch) -> None:
    """Let every thread's first decision read the payment without locking it."""
    been_there = threading.local()

    def first_unlocked(name: str, otherwise: Callable[[Any], Any]) -> None:
        locked = getattr(ledger, name)

        def decide(payment: Any) -> Any:
            if hasattr(been_there, "yes"):
                return locked(payment)
            been_there.yes = True
            return otherwise(payment)

        patch.setattr(ledger, name, decide)

    first_unlocked("_lock", unlocked)
    first_unlocked("_lock_again", Payment.refresh_from_db)
    # Without one, PostgreSQL writes only what was decided by what is still there.
    patch.setattr(ledger, "can_hold", lambda *_tables: False)


# More than there is ---------------------------------------------------------------------


def sixteen_refunds(
    payment: Payment,
    patch: pytest.MonkeyPatch,
    begin: Callable[[], None] = lambda: None,
) -> Sequence[Any]:
    """Refund 60 of 100 sixteen times; all look at what is left before one writes."""

    def refund() -> Any:
        begin()
        return outcome(lambda: refund_payment(again(payment), SIXTY))

    with patch.context() as context:
        meet(context, ledger, "_amount_minor", 16)
        return at_once([refund] * 16)


def test_of_sixteen_refunds_of_sixty_out_of_a_hundred_one_is_sent(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = payment_that_is(PAID)
    outcomes = sixteen_refunds(payment, monkeypatch)
    assert len(provider.told("refund")) == 1
    assert [type(one) for one in outcomes].count(Refund) == 1
    assert sum(isinstance(one, REFUSALS) for one in outcomes) == 15
    assert Refund.objects.get().status == RefundStatus.SUCCEEDED
    assert_sums(payment, 10000, 6000)
    assert provider.calls_in_a_transaction == []


def test_twin_without_the_lock_more_is_sent_than_was_taken(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = payment_that_is(PAID)
    decide_without_the_lock(monkeypatch)
    sixteen_refunds(payment, monkeypatch)
    if connection.vendor == "sqlite":
        # BEGIN IMMEDIATE lets one transaction in at a time: that is what guards here.
        assert len(provider.told("refund")) == 1
    else:
        assert len(provider.told("refund")) == 16


def see_one_picture() -> None:
    """Let this thread's transactions see the rows as they were at their first look.

    SQLite has no such level: a transaction that means to write keeps others out.
    """
    level = {
        "postgresql": "CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "mysql": "TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    }.get(connection.vendor)
    if level is not None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {level}")


def test_of_sixteen_refunds_that_see_an_old_picture_one_is_sent(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = payment_that_is(PAID)
    # On PostgreSQL the fifteen cannot write over what they did not see, and look again.
    outcomes = sixteen_refunds(payment, monkeypatch, see_one_picture)
    assert len(provider.told("refund")) == 1
    assert sum(isinstance(one, REFUSALS) for one in outcomes) == 15
    assert_sums(payment, 10000, 6000)


def test_a_refund_inside_a_transaction_that_has_read_before_is_not_sent_twice(
    provider: Any,
) -> None:
    payment = payment_that_is(PAID)
    # What a lost answer reserves is in a row of its own, not in the payment's sums.
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    has_looked, is_refunded = threading.Event(), threading.Event()
    is_alone = connection.vendor == "sqlite"

    def shop() -> Any:
        """A view under ATOMIC_REQUESTS: it looks, and refunds by what it saw."""
        see_one_picture()
        try:
            with transaction.atomic():
                assert not Refund.objects.exists()
                has_looked.set()
                # SQLite's BEGIN IMMEDIATE lets nobody else write until it is over.
                assert is_refunded.wait(PATIENCE if is_alone else 20) != is_alone
                return refund_payment(again(payment), SIXTY)
        except (OperationalError, MultipayError) as error:
            return error

    def colleague() -> Any:
        assert has_looked.wait(20)
        try:
            return outcome(lambda: refund_payment(again(payment), SIXTY))
        finally:
            is_refunded.set()

    of_shop, of_colleague = at_once([shop, colleague])
    assert len(provider.told("refund")) == Refund.objects.count() == 1
    assert Refund.objects.get().status == RefundStatus.UNKNOWN
    assert refundable(again(payment)) == HUNDRED - SIXTY
    assert provider.calls_in_a_transaction == []
    # PostgreSQL, and MariaDB since 11.6, refuse to write by an old picture. That error
    # is for whoever opened the transaction: nothing of it was written or sent, and
    # only they can run it again.
    expected: dict[str, Any] = {
        "sqlite": (Refund, InvalidAmount),
        "postgresql": (OperationalError, OutcomeUnknown),
        "mysql": ((InvalidAmount, OperationalError), OutcomeUnknown),
    }
    for answer, kind in zip(
        (of_shop, of_colleague), expected[connection.vendor], strict=True
    ):
        assert isinstance(answer, kind)


def test_sixteen_clicks_with_one_key_are_one_refund(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = payment_that_is(PAID)
    meet(monkeypatch, ledger, "_slot", 16)
    refunds = at_once(
        [lambda: refund_payment(again(payment), SIXTY, idempotency_key="form-1")] * 16
    )
    assert len({refund.pk for refund in refunds}) == 1
    assert len(provider.told("refund")) == Refund.objects.count() == 1
    assert_sums(payment, 10000, 6000)


@pytest.mark.parametrize("is_locked", [True, False])
def test_of_a_capture_and_a_void_at_once_one_reaches_the_provider(
    provider: Any, monkeypatch: pytest.MonkeyPatch, is_locked: bool
) -> None:
    payment = payment_that_is(AUTHORIZED)
    if not is_locked:
        # The unique slot is the second guard, on every database.
        decide_without_the_lock(monkeypatch)
    meet(monkeypatch, ledger, "_amount_minor", 2)
    outcomes = at_once(
        [
            lambda: outcome(lambda: capture_payment(again(payment))),
            lambda: outcome(lambda: void_payment(again(payment))),
        ]
    )
    assert len(provider.told("capture")) + len(provider.told("void")) == 1
    assert {type(one) for one in outcomes} == {Operation, InvalidTransition}
    payment.refresh_from_db()
    is_captured = bool(provider.told("capture"))
    assert payment.status == (PAID if is_captured else PaymentStatus.CANCELED)


def test_eight_captures_of_thirty_never_take_more_than_a_hundred(provider: Any) -> None:
    payment = payment_that_is(AUTHORIZED)
    thirty = Money("30.00", "USD")
    for _ in range(2):
        at_once([lambda: outcome(lambda: capture_payment(again(payment), thirty))] * 4)
    while isinstance(
        outcome(lambda: capture_payment(again(payment), thirty)), Operation
    ):
        pass
    assert len(provider.told("capture")) == 3
    assert_sums(payment, 9000, 0)


# One call, whoever makes it ------------------------------------------------------------


@pytest.mark.parametrize("alias", ["scripted", "tracing"])
def test_two_workers_that_resume_one_operation_send_it_once(
    monkeypatch: pytest.MonkeyPatch, alias: str
) -> None:
    provider: Any = registry[alias]
    payment = payment_that_is(PAID, alias)
    error = OutcomeUnknown if alias == "tracing" else ProviderUnavailable
    provider.will("refund", error("no answer", alias, "refund"))
    with pytest.raises(error):
        refund_payment(payment, SIXTY)
    (operation,) = payment.operations.filter(kind=OperationKind.REFUND)
    meet(monkeypatch, ledger, "expire_lease", 2)
    meet(monkeypatch, ledger, "claim_operation", 2)
    at_once([lambda: resume_operation(Operation.objects.get(pk=operation.pk))] * 2)
    assert len(provider.told("refund")) == 2
    assert Refund.objects.get().status == RefundStatus.SUCCEEDED
    assert_sums(payment, 10000, 6000)


def test_four_sweepers_over_thirty_open_operations_send_each_at_most_once(
    provider: Any, tracing: Any
) -> None:
    expected: dict[str, int] = {}
    for number in range(30):
        alias = "tracing" if number % 3 == 0 else "scripted"
        error = ProviderUnavailable if number % 3 == 1 else OutcomeUnknown
        payment = payment_that_is(PAID, alias)
        registry[alias].will("refund", error("no answer", alias))  # type: ignore[attr-defined]
        with pytest.raises(error):
            refund_payment(payment, SIXTY)
        # Once in vain, and again where nothing happened or where it is done once only.
        is_sent_again = alias == "tracing" or error is ProviderUnavailable
        expected[payment.refunds.get().merchant_reference] = 1 + is_sent_again
    let_everything_be_due()
    reports = at_once([reconcile] * 4)
    assert sum(report.errors for report in reports) == 0
    told = [*provider.told("refund"), *tracing.told("refund")]
    assert Counter(sent.merchant_reference for sent in told) == expected
    states = Counter(Refund.objects.values_list("status", flat=True))
    assert states == {RefundStatus.SUCCEEDED: 20, RefundStatus.UNKNOWN: 10}


# An answer, overtaken -------------------------------------------------------------------


def test_a_total_seen_before_the_answer_of_the_refund_counts_once(
    provider: Any,
) -> None:
    payment = payment_that_is(PAID)

    def overtaken() -> RefundSnapshot:
        sync_payment(again(payment))
        return RefundSnapshot(status=RefundStatus.SUCCEEDED, provider_reference="R-1")

    provider.will("fetch", total(payment, refunded=SIXTY))
    provider.will("refund", overtaken)
    refund = refund_payment(payment, SIXTY)
    assert (refund.status, refund.provider_reference) == (RefundStatus.SUCCEEDED, "R-1")
    assert Refund.objects.count() == 1
    assert_sums(payment, 10000, 6000)


def test_a_total_written_after_the_answer_of_the_refund_counts_once(
    provider: Any,
) -> None:
    payment = payment_that_is(PAID)

    def slow() -> PaymentSnapshot:
        refund_payment(again(payment), SIXTY)
        return total(payment, refunded=SIXTY)

    provider.will("fetch", slow)
    sync_payment(payment)
    assert Refund.objects.get().status == RefundStatus.SUCCEEDED
    assert_sums(payment, 10000, 6000)


@pytest.mark.parametrize(
    ("news", "is_locked"),
    # A total names no refund: without the lock nothing but luck would tell whose
    # growth it is. A message does, and the unique constraint is its second guard.
    [("total", True), ("message", True), ("message", False)],
)
def test_an_answer_and_other_news_of_the_refund_at_once_are_one_fact(
    provider: Any, monkeypatch: pytest.MonkeyPatch, news: str, is_locked: bool
) -> None:
    payment = payment_that_is(PAID)
    is_done, is_known = threading.Event(), threading.Event()

    def answer() -> RefundSnapshot:
        is_done.set()
        assert is_known.wait(20)
        return RefundSnapshot(status=RefundStatus.SUCCEEDED)

    def tell() -> None:
        assert is_done.wait(20)
        is_known.set()
        if news == "total":
            sync_payment(again(payment))
        else:
            refund = Refund.objects.get()
            said = RefundSnapshot(
                status=RefundStatus.SUCCEEDED,
                merchant_reference=refund.merchant_reference,
                amount=SIXTY,
            )
            ledger.apply_refund(payment.pk, said, source=Source.WEBHOOK)

    provider.will("fetch", total(payment, refunded=SIXTY))
    provider.will("refund", answer)
    if not is_locked:
        monkeypatch.setattr(ledger, "_lock", unlocked)
        monkeypatch.setattr(ledger, "_lock_again", Payment.refresh_from_db)
    meet(monkeypatch, ledger, "_is_new", 2)
    at_once([lambda: refund_payment(again(payment), SIXTY), tell])
    assert Refund.objects.get().status == RefundStatus.SUCCEEDED
    assert payment.transactions.filter(kind=TransactionKind.REFUND).count() == 1
    assert_sums(payment, 10000, 6000)


def test_a_total_is_the_refund_under_way_before_it_is_an_older_lost_one(
    provider: Any,
) -> None:
    payment = payment_that_is(PAID)
    thirty = Money("30.00", "USD")
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, thirty)

    def overtaken() -> RefundSnapshot:
        sync_payment(again(payment))
        return RefundSnapshot(status=RefundStatus.SUCCEEDED)

    provider.will("fetch", total(payment, refunded=thirty))
    provider.will("refund", overtaken)
    refund_payment(payment, thirty)
    states = list(Refund.objects.order_by("id").values_list("status", flat=True))
    assert states == [RefundStatus.UNKNOWN, RefundStatus.SUCCEEDED]
    assert_sums(payment, 10000, 3000)


@pytest.mark.parametrize("amount", [HUNDRED, Money("30.00", "USD")])
@pytest.mark.parametrize("is_answer_lost", [False, True])
def test_a_capture_seen_before_its_answer_counts_once(
    provider: Any, amount: Money, is_answer_lost: bool
) -> None:
    payment = payment_that_is(AUTHORIZED)
    seen = snapshot_of(payment, PAID, captured=amount)

    def overtaken() -> PaymentSnapshot:
        sync_payment(again(payment))
        if is_answer_lost:
            raise OutcomeUnknown("lost", "scripted", "capture")
        return snapshot_of(payment, PAID)

    provider.will("fetch", seen, seen, seen)
    provider.will("capture", overtaken)
    outcome(lambda: capture_payment(payment, amount))
    let_everything_be_due()
    reconcile()
    (operation,) = payment.operations.filter(kind=OperationKind.CAPTURE)
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)
    assert len(provider.told("capture")) == 1
    assert_sums(payment, int(amount.amount * 100), 0)


def test_a_void_seen_before_its_answer_was_lost_is_over(provider: Any) -> None:
    payment = payment_that_is(AUTHORIZED)

    def overtaken() -> PaymentSnapshot:
        sync_payment(again(payment))
        raise OutcomeUnknown("lost", "scripted", "void")

    provider.will("fetch", snapshot_of(payment, PaymentStatus.CANCELED))
    provider.will("void", overtaken)
    with pytest.raises(OutcomeUnknown):
        void_payment(payment)
    (operation,) = payment.operations.filter(kind=OperationKind.VOID)
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)
    assert again(payment).status == PaymentStatus.CANCELED


def test_a_failure_told_before_the_answer_is_not_taken_back_by_it(
    provider: Any,
) -> None:
    payment = payment_that_is(PAID)

    def overtaken() -> RefundSnapshot:
        refund = Refund.objects.get()
        said = RefundSnapshot(
            status=RefundStatus.FAILED, merchant_reference=refund.merchant_reference
        )
        ledger.apply_refund(payment.pk, said, source=Source.WEBHOOK)
        return RefundSnapshot(status=RefundStatus.PENDING)

    provider.will("refund", overtaken)
    assert refund_payment(payment, SIXTY).status == RefundStatus.FAILED
    assert refundable(payment) == HUNDRED


def test_a_refund_that_is_proven_before_it_is_sent_again_is_not(provider: Any) -> None:
    payment = payment_that_is(PAID)
    provider.will("refund", ProviderUnavailable("away", "scripted", "refund"))
    with pytest.raises(ProviderUnavailable):
        refund_payment(payment, SIXTY)
    said = RefundSnapshot(
        status=RefundStatus.SUCCEEDED,
        merchant_reference=Refund.objects.get().merchant_reference,
        amount=SIXTY,
    )
    ledger.apply_refund(payment.pk, said, source=Source.WEBHOOK)
    let_everything_be_due()
    reconcile()
    assert len(provider.told("refund")) == 1
    assert_sums(payment, 10000, 6000)


# People ----------------------------------------------------------------------------------


def waiting_refund(settings: Settings) -> Refund:
    """A refund that waits for a second person."""
    settings.MULTIPAY |= {"REFUND_APPROVAL_ABOVE": {"USD": "50"}}
    return refund_payment(payment_that_is(PAID), SIXTY, by="ann")


def approve(refund: Refund) -> Any:
    return outcome(lambda: approve_refund(Refund.objects.get(pk=refund.pk), by="bob"))


def abandon(refund: Refund) -> Any:
    return outcome(lambda: abandon_operation(refund.operations.get(), by="eve"))


def assert_one_of_two(refund: Refund, provider: Any) -> None:
    """Either it was sent, or it was dropped and its money is free again."""
    refund.refresh_from_db()
    state = refund.operations.get().state
    sent = len(provider.told("refund"))
    assert (sent, state, refund.status) in {
        (1, OperationState.SUCCEEDED, RefundStatus.SUCCEEDED),
        (0, OperationState.ABANDONED, RefundStatus.FAILED),
    }
    assert refundable(again(refund.payment)) == HUNDRED - SIXTY * sent


def test_of_approving_and_dropping_at_once_one_wins(settings: Settings) -> None:
    refund = waiting_refund(settings)
    at_once([lambda: approve(refund), lambda: abandon(refund)])
    assert_one_of_two(refund, registry["scripted"])


def test_what_is_dropped_between_the_approval_and_the_call_is_not_sent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refund = waiting_refund(settings)
    original = ledger.claim_operation

    def overtaken(*args: Any, **kwargs: Any) -> bool:
        assert abandon(refund) is None
        return original(*args, **kwargs)

    monkeypatch.setattr(ledger, "claim_operation", overtaken)
    assert approve(refund).status == RefundStatus.FAILED
    assert_one_of_two(refund, registry["scripted"])


def test_what_is_under_way_cannot_be_dropped(settings: Settings) -> None:
    refund = waiting_refund(settings)
    provider: Any = registry["scripted"]
    answers = []

    def overtaken() -> RefundSnapshot:
        answers.append(abandon(refund))
        return RefundSnapshot(status=RefundStatus.SUCCEEDED)

    provider.will("refund", overtaken)
    approve(refund)
    assert [type(answer) for answer in answers] == [InvalidTransition]
    assert_one_of_two(refund, provider)


def test_an_inquiry_that_knows_nothing_does_not_undo_what_a_person_said(
    tracing: Any,
) -> None:
    payment = payment_that_is(PAID, "tracing")
    tracing.will("refund", OutcomeUnknown("lost", "tracing", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, SIXTY)
    refund = Refund.objects.get()

    def overtaken() -> RefundSnapshot:
        assert abandon(refund) is None
        return RefundSnapshot(status=RefundStatus.REQUESTED)

    tracing.will("fetch_refund", overtaken)
    assert sync_refund(refund) == RefundStatus.FAILED
    assert refundable(payment) == HUNDRED
    # That it is on its way after all is more than nothing.
    tracing.will("fetch_refund", RefundSnapshot(status=RefundStatus.PENDING))
    assert sync_refund(refund) == RefundStatus.PENDING
    assert refundable(payment) == HUNDRED - SIXTY
