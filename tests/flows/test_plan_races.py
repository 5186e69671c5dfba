"""Many hands on one plan: schedulers, people, messages; and workers that are killed.

However many there are, and wherever one dies, a period is charged once.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from django_multipay import recurrence
from django_multipay.enums import (
    Capability,
    DeclineCode,
    NoticeState,
    OperationState,
    PaymentStatus,
    PlanStatus,
)
from django_multipay.exceptions import MultipayError
from django_multipay.flows import (
    cancel_plan,
    charge_due_plans,
    charge_plan,
    deliver_notices,
    receive_webhook,
    reconcile,
    recovery_payment,
    start_payment,
)
from django_multipay.flows.plans import PlanReport
from django_multipay.ledger import plans
from django_multipay.messages import PaymentSnapshot, TokenChargeRequest
from django_multipay.models import Notice, Payment, RecurringPlan
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.mortals import Mortals, Place
from tests.flows.scripted import account_settings, message
from tests.flows.test_operation_crash import (
    BookOptions,
    BookProvider,
    book_settings,
    query_about,
)
from tests.flows.test_operation_races import meet
from tests.flows.test_plans import (
    ChargingProvider,
    PlanningProvider,
    declined,
    new_plan,
    registered,
    renew,
    renewal,
)
from tests.flows.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)

PERIODS = 50 if os.environ.get("MULTIPAY_PROOF") == "full" else 6
PAID, FAILED = PaymentStatus.PAID, PaymentStatus.FAILED


@pytest.fixture
def provider(settings: Settings) -> ChargingProvider:
    settings.MULTIPAY = account_settings(
        scripted=ChargingProvider, planning=PlanningProvider
    )
    found = registry["scripted"]
    assert isinstance(found, ChargingProvider)
    return found


def noon(day: date) -> datetime:
    return timezone.make_aware(datetime(day.year, day.month, day.day, 12))  # noqa: DTZ001


def again(plan: RecurringPlan) -> RecurringPlan:
    """The same plan as another worker reads it."""
    return RecurringPlan.objects.get(pk=plan.pk)


def attempt(step: Callable[[], Any]) -> Any:
    """What ``step`` returns, or how it was refused."""
    try:
        return step()
    except MultipayError as error:
        return error


def unlocked(plan_id: int) -> RecurringPlan:
    return RecurringPlan.objects.get(pk=plan_id)


# Many hands -----------------------------------------------------------------------------


def test_two_schedulers_cron_a_person_and_a_message_charge_each_period_once(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    sent: SimpleQueue[Payment] = SimpleQueue()

    def taken() -> PaymentSnapshot:
        """Take the money, and send a message beside the answer."""
        sent.put(Payment.objects.get(plan=plan, status=PaymentStatus.PENDING))
        return PaymentSnapshot(status=PAID)

    def overtaken() -> PaymentSnapshot:
        """Let the message arrive before the answer, and once more beside it."""
        payment = Payment.objects.get(plan=plan, status=PaymentStatus.PENDING)
        receive_webhook("scripted", message(payment, PAID))
        sent.put(payment)
        return PaymentSnapshot(status=PAID)

    def hear() -> None:
        receive_webhook("scripted", message(sent.get(timeout=20), PAID))

    for number in range(PERIODS):
        provider.will("charge", overtaken if number % 2 else taken)
        now = noon(plan.due_date(number))
        seen = again(plan)
        hands: list[Callable[[], Any]] = [
            partial(charge_due_plans, now=now),
            partial(charge_due_plans, now=now),
            partial(charge_due_plans, now=now, catch_up=True),
            partial(attempt, partial(charge_plan, seen)),
            reconcile,
            hear,
        ]
        at_once(hands)
        deliver_notices()
        plans.follow(plan.pk)
    assert len(provider.told("charge")) == PERIODS
    paid = plan.payments.filter(status=PAID).order_by("plan_due_on")
    assert [one.plan_due_on for one in paid] == [
        plan.due_date(number) for number in range(PERIODS)
    ]
    assert plan.payments.count() == PERIODS
    assert again(plan).period == PERIODS
    charged = Notice.objects.filter(plan=plan, signals=["plan_charged"])
    assert charged.count() == PERIODS
    assert provider.calls_in_a_transaction == []


def test_two_schedulers_share_many_plans(provider: ChargingProvider) -> None:
    many = [new_plan(order_id=f"P-{number}") for number in range(10)]
    now = noon(timezone.localdate())
    reports = at_once([lambda: charge_due_plans(now=now)] * 3)
    assert all(isinstance(report, PlanReport) for report in reports)
    assert len(provider.told("charge")) == len(many)
    assert sum(report.charged for report in reports) == len(many)


def test_a_plan_canceled_while_it_is_charged_is_charged_and_told_or_not_charged(
    provider: ChargingProvider,
) -> None:
    now = noon(timezone.localdate())
    for _ in range(5):
        plan = new_plan()
        before = len(provider.told("charge"))
        at_once(
            [
                lambda now=now: charge_due_plans(now=now),  # type: ignore[misc]
                lambda plan=plan: cancel_plan(again(plan)),  # type: ignore[misc]
            ]
        )
        deliver_notices()
        paid = plan.payments.filter(status=PAID).count()
        assert paid == len(provider.told("charge")) - before <= 1
        assert again(plan).status == PlanStatus.CANCELED
        assert not plan.payments.exclude(status__in=[PAID, FAILED]).exists()


def charge_while_the_buyer_goes_to_pay(
    provider: ChargingProvider, patch: pytest.MonkeyPatch
) -> Counter[str]:
    """Retry a charge just when its buyer goes to pay in person; who got through."""
    plan = new_plan()
    provider.will("charge", declined(DeclineCode.INSUFFICIENT_FUNDS))
    charge_due_plans()
    payment = recovery_payment(plan)
    tomorrow = noon(again(plan).next_on or date.max)
    with patch.context() as context:
        # Each decides by what it reads here.
        meet(context, plans, "is_open", 2)
        at_once(
            [
                lambda: charge_due_plans(now=tomorrow),
                lambda: attempt(lambda: start_payment(payment)),
            ]
        )
    return Counter({"charge": len(provider.told("charge")) - 1}) + Counter(
        {"start": len(provider.told("start"))}
    )


def test_a_retry_and_the_buyer_in_person_are_not_both_let_through(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert charge_while_the_buyer_goes_to_pay(provider, monkeypatch).total() == 1


def test_twin_without_the_plans_lock_both_pass_where_rows_are_locked_singly(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "lock_plan", unlocked)
    passed = charge_while_the_buyer_goes_to_pay(provider, monkeypatch)
    # BEGIN IMMEDIATE locks the whole database, so there this lock is not what guards.
    assert passed.total() == (1 if connection.vendor == "sqlite" else 2)


def charge_twice_unlocked(provider: ChargingProvider, patch: pytest.MonkeyPatch) -> int:
    """Let two schedulers look before either writes; how often the buyer is charged."""
    new_plan()
    now = noon(timezone.localdate())
    with patch.context() as context:
        context.setattr(plans, "lock_plan", unlocked)
        # What it writes first would lock the row as well.
        context.setattr(
            plans, "_follow", lambda plan: plans.attempts_at(plan, plan.due_on)
        )
        meet(context, plans, "_is_busy", 2)
        at_once([lambda: charge_due_plans(now=now)] * 2)
    return len(provider.told("charge"))


def test_without_the_lock_the_unique_attempt_is_the_second_guard(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert charge_twice_unlocked(provider, monkeypatch) == 1


def test_twin_without_either_the_buyer_is_charged_twice(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(100))
    original = plans._payment_of

    def numbered(plan: RecurringPlan, **more: Any) -> Payment:
        values = {**more, "plan_attempt": next(numbers), "retry_of": None}
        return original(plan, **values)

    monkeypatch.setattr(plans, "_payment_of", numbered)
    charged = charge_twice_unlocked(provider, monkeypatch)
    assert charged == (1 if connection.vendor == "sqlite" else 2)


def test_one_renewal_told_by_eight_at_once_is_one_payment(
    provider: ChargingProvider,
) -> None:
    planner = registry["planning"]
    assert isinstance(planner, PlanningProvider)
    plan = registered(planner)
    news = renewal(plan, 1)
    at_once([lambda: renew(planner, news)] * 8)
    deliver_notices()
    (payment,) = plan.payments.filter(plan_due_on=plan.due_date(1))
    assert payment.captured == plan.amount
    assert payment.transactions.count() == 1


# Dying ----------------------------------------------------------------------------------


class ChargingBooks(BookProvider):
    """It charges saved methods, as often as it is asked, and writes it down."""

    capabilities = BookProvider.capabilities | {Capability.TOKENS}

    def charge_token(self, request: TokenChargeRequest) -> PaymentSnapshot:
        """Take the money."""
        payment = Payment.objects.get(merchant_reference=request.merchant_reference)
        query = query_about(payment)
        is_same = any(one["key"] == request.key for one in self.entries(query))
        if not (is_same and Capability.TOKENS in self.repeatable):
            self.note(query, "capture", payment.amount_minor, request.key)
        return self.with_totals(query)

    def fetch_payment(self, query: Any) -> PaymentSnapshot:
        """Say what the books say; nothing is known of what was never charged."""
        if not self.total(query, "capture"):
            return PaymentSnapshot(status=PaymentStatus.PENDING)
        return super().fetch_payment(query)


class CarefulBooks(ChargingBooks):
    """It charges once for the same key."""

    repeatable = frozenset({Capability.TOKENS})


BOOKS: Mapping[str, type[BookProvider]] = {
    "careful": CarefulBooks,
    "plain": ChargingBooks,
}


def work() -> None:
    """What a worker does that will be killed."""
    charge_due_plans()


LEDGER, PLANS = "django_multipay.ledger", "django_multipay.ledger.plans"
HERE, CHARGES = "tests.flows.test_plan_races", "django_multipay.ledger.charges"

# Where a worker dies, and whether the provider has done its part by then.
DEATHS: Mapping[str, tuple[Place, bool]] = {
    "half the intent": ((CHARGES, "", "insert_charge", True), False),
    "the intent": ((PLANS, "", "charge_due", True), False),
    "the claim": ((CHARGES, "", "claim_charge", True), False),
    "the request": ((HERE, "ChargingBooks", "note", False), False),
    "the provider's work": ((HERE, "ChargingBooks", "note", True), True),
    "half the conclusion": ((LEDGER, "", "_add_facts", True), True),
    "the conclusion": ((CHARGES, "", "conclude_charge", True), True),
    "the plan's next day": ((PLANS, "", "follow", True), True),
}


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the provider of this process and of the workers writes to."""
    return tmp_path_factory.mktemp("books") / "books.jsonl"


@pytest.fixture(scope="module")
def mortals(django_db_setup: None, books: Path) -> Iterator[Mortals]:
    with Mortals(book_settings(BOOKS, books), HERE) as workers:
        yield workers


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("alias", BOOKS)
def test_kill_9_in_a_charge_run_loses_and_doubles_nothing(
    settings: Settings,
    books: Path,
    mortals: Mortals,
    alias: str,
    death: str,
) -> None:
    settings.MULTIPAY = book_settings(BOOKS, books)
    provider = registry[alias]
    assert isinstance(provider, ChargingBooks)
    assert isinstance(provider.options, BookOptions)
    plan = new_plan(provider=alias)
    other = new_plan(provider=alias, order_id="P-2")
    place, is_done = DEATHS[death]
    mortals.kill(place)
    for _ in range(2):
        let_everything_be_due()
        Notice.objects.filter(state=NoticeState.WAITING).update(due_at=timezone.now())
        charge_due_plans()
        reconcile()
    # Whoever comes after the one that the worker died of is not forgotten.
    assert again(other).next_on == recurrence.due_date(other.start_on, 1)
    assert provider.total(query_about(other.payments.get()), "capture") == 990
    payment = plan.payments.get()
    charged = provider.total(query_about(payment), "capture")
    was_sent = death in {"the claim", "the request"}
    if was_sent and alias == "plain" and not is_done:
        # Nobody can tell whether it happened: a person must, and nothing is doubled.
        assert charged == 0
        assert payment.operations.get().state == OperationState.UNKNOWN
        assert again(plan).period == 0
        return
    assert charged == payment.captured_minor == plan.amount_minor
    assert again(plan).status == PlanStatus.ACTIVE
    assert again(plan).next_on == recurrence.due_date(plan.start_on, 1)
    assert Notice.objects.filter(plan=plan, signals=["plan_charged"]).count() == 1
    assert not payment.operations.filter(open_slot__isnull=False).exists()


def test_the_meeting_point_of_the_twins_is_passed_by_both(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twins prove nothing if nobody comes to where they meet."""
    new_plan()
    seen = threading.Event()
    original = plans._is_busy

    def looked(plan: RecurringPlan, attempts: Sequence[Payment]) -> bool:
        seen.set()
        return original(plan, attempts)

    monkeypatch.setattr(plans, "_is_busy", looked)
    charge_due_plans()
    assert seen.is_set()
