"""A worker may die, stop or lose its database between any two statements.

The steps are not named: each statement, commit and call of the provider is one, so no
step that somebody adds can be forgotten. For each push some of them, in full all.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import pytest

from django_multipay.enums import (
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    PlanStatus,
    TransactionKind,
)
from django_multipay.flows import charge_due_plans, start_payment
from django_multipay.models import Notice, Operation, Payment, RecurringPlan
from tests.corridor import let_everything_be_due
from tests.flows.test_operation_crash import AFTERWARDS
from tests.flows.test_plans import new_plan
from tests.proof.crew import Crew
from tests.proof.figures import Figures, sample
from tests.proof.invariants import violations
from tests.proof.lives import (
    ALIASES,
    CHARGERS,
    MOVES,
    Wreck,
    after_two_sweeps,
    news,
    order_of,
    paid_at_the_provider,
    ready_for,
    sweep,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("accounts"),
]

FEW = 5
"""How many steps of each call are tried for each push."""


def report(figures: Figures, wreck: Wreck) -> None:
    figures.left("waiting", wreck.waiting)
    figures.found("lost", wreck.lost)
    figures.found("doubled", wreck.doubled)
    figures.found("stuck", wreck.stuck)
    figures.found("violations", violations())


def steps_of(answer: dict[str, Any]) -> Sequence[int]:
    """Return the numbers of the steps that a worker took who came to the end."""
    assert answer["steps"], answer
    return sample(range(1, answer["steps"] + 1), FEW)


# Money ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("kind", MOVES)
def test_kill_9_at_any_step_of_a_move(
    crew: Crew, figures: Figures, kind: OperationKind, alias: str
) -> None:
    whole = ready_for(kind, alias)
    steps = steps_of(crew.order(**order_of(whole, kind)))
    payments = [ready_for(kind, alias) for _ in steps]
    for payment, at in zip(payments, steps, strict=True):
        answer = crew.order(**order_of(payment, kind), at=at, fate="die")
        assert answer["signal"] == signal.SIGKILL
        figures.did("kills")
    report(figures, after_two_sweeps([whole, *payments], kind))
    whole.refresh_from_db()
    assert whole.status == AFTERWARDS[kind]


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("kind", MOVES)
def test_a_worker_that_sleeps_through_its_lease(
    crew: Crew, figures: Figures, kind: OperationKind, alias: str
) -> None:
    order = order_of(ready_for(kind, alias), kind)
    steps = steps_of(crew.order(**order, fate="stop"))
    for at in steps:
        payment = ready_for(kind, alias)
        answer = crew.order(**order_of(payment, kind), at=at, fate="stop")
        sweep()
        crew.order(stopped=answer["stopped"])
        figures.did("freezes")
        report(figures, after_two_sweeps([payment], kind))


@pytest.mark.parametrize("kind", MOVES)
def test_a_connection_that_is_cut_at_any_step_of_a_move(
    crew: Crew, figures: Figures, kind: OperationKind
) -> None:
    steps = steps_of(crew.order(**order_of(ready_for(kind, "careful"), kind)))
    payments = [ready_for(kind, "careful") for _ in steps]
    for payment, at in zip(payments, steps, strict=True):
        answer = crew.order(**order_of(payment, kind), at=at, fate="cut")
        assert answer["point"]
        figures.did("cuts")
    report(figures, after_two_sweeps(payments, kind))


@pytest.mark.parametrize("alias", CHARGERS)
def test_kill_9_at_any_step_of_a_recurring_charge(
    crew: Crew, figures: Figures, alias: str
) -> None:
    new_plan(provider=alias)
    for at in steps_of(crew.order(act="charges")):
        plan = new_plan(provider=alias)
        answer = crew.order(act="charges", at=at, fate="die")
        assert answer["signal"] == signal.SIGKILL
        figures.did("kills")
        for _ in range(2):
            sweep()
            charge_due_plans()
        wreck = after_two_sweeps(list(plan.payments.all()), OperationKind.CAPTURE)
        report(figures, wreck)
        (payment,) = plan.payments.all()
        told = Notice.objects.filter(plan=plan, signals=["plan_charged"])
        is_charged = payment.status == PaymentStatus.PAID
        assert told.count() == is_charged != bool(wreck.waiting)
        # Whoever waits for a person must not be in the way of the next one.
        RecurringPlan.objects.update(status=PlanStatus.ENDED)


# A message --------------------------------------------------------------------------------


def interrupted_messages(
    crew: Crew, figures: Figures, fate: str, figure: str, is_asked_about: bool
) -> Sequence[tuple[Payment, dict[str, Any]]]:
    """Interrupt the news that a payment was paid at one step after the other."""
    whole, order = paid_at_the_provider("plain", is_asked_about=is_asked_about)
    steps = steps_of(crew.order(**order))
    results = []
    for at in steps:
        payment, order = paid_at_the_provider("plain", is_asked_about=is_asked_about)
        results.append((payment, crew.order(**order, at=at, fate=fate)))
        figures.did(figure)
    return [(whole, {"result": "200"}), *results]


def assert_each_is_paid_and_told(payments: Sequence[Payment]) -> None:
    """One fact, one notice of it, and the notice is out."""
    for payment in payments:
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.PAID
        fact = payment.transactions.get()
        assert fact.kind == TransactionKind.CAPTURE
        assert Notice.objects.get(transaction=fact).state == NoticeState.DELIVERED


EITHER_WAY = pytest.mark.parametrize(
    "is_asked_about", [True, False], ids=["asked", "believed"]
)
"""The provider must confirm the message first, or it is applied at once."""


@EITHER_WAY
@pytest.mark.parametrize("is_repeated", [True, False], ids=["repeated", "alone"])
def test_kill_9_at_any_step_of_a_message(
    crew: Crew, figures: Figures, is_repeated: bool, is_asked_about: bool
) -> None:
    killed = interrupted_messages(crew, figures, "die", "kills", is_asked_about)
    payments = [payment for payment, _ in killed]
    if is_repeated:
        orders = [news(payment, is_asked_about=is_asked_about) for payment in payments]
        answers = [crew.order(**order)["result"] for order in orders]
        assert set(answers) == {"200"}
    report(figures, after_two_sweeps(payments))
    assert_each_is_paid_and_told(payments)


@EITHER_WAY
def test_a_connection_that_is_cut_at_any_step_of_a_message(
    crew: Crew, figures: Figures, is_asked_about: bool
) -> None:
    cut = interrupted_messages(crew, figures, "cut", "cuts", is_asked_about)
    payments = [payment for payment, _ in cut]
    answers = [answer["result"] for _, answer in cut]
    figures.found(
        "server_errors", [one for one in answers if one not in {"200", "503"}]
    )
    orders = [news(payment, is_asked_about=is_asked_about) for payment in payments]
    repeated = [crew.order(**order)["result"] for order in orders]
    assert set(repeated) == {"200"}
    report(figures, after_two_sweeps(payments))
    assert_each_is_paid_and_told(payments)


# The checkout and the sweeper ----------------------------------------------------------------


@pytest.mark.parametrize("alias", ALIASES)
def test_kill_9_at_any_step_of_a_checkout(
    crew: Crew, figures: Figures, alias: str
) -> None:
    def order(number: int) -> dict[str, Any]:
        return {"act": "checkout", "provider": alias, "order_id": f"order-{number}"}

    steps = steps_of(crew.order(**order(0)))
    for at in steps:
        answer = crew.order(**order(at), at=at, fate="die")
        assert answer["signal"] == signal.SIGKILL
        figures.did("kills")
    let_everything_be_due()
    lost = []
    for at in steps:
        payment = Payment.objects.filter(order_id=f"order-{at}").first()
        if payment is None:  # The order was never placed: the buyer repeats.
            crew.order(**order(at))
            payment = Payment.objects.get(order_id=f"order-{at}")
        if start_payment(payment) is None:
            lost.append(payment)
    figures.found("lost", lost)
    open_ones = Operation.objects.exclude(state=OperationState.SUCCEEDED)
    figures.found("stuck", list(open_ones))
    assert Payment.objects.count() == len(steps) + 1
    figures.found("violations", violations())


def test_kill_9_at_any_step_of_a_sweep(crew: Crew, figures: Figures) -> None:
    """The sweeper finds a move without its answer, and news that nobody applied."""

    def trouble() -> tuple[Payment, Payment]:
        refunded = ready_for(OperationKind.REFUND, "careful")
        order = order_of(refunded, OperationKind.REFUND)
        crew.order(**order, at=after_the_work, fate="die")
        paid, _ = paid_at_the_provider("plain")
        let_everything_be_due()
        return refunded, paid

    after_the_work = step_of(crew, "after the provider's work")
    first = trouble()
    steps = steps_of(crew.order(act="sweep"))
    for at in steps:
        refunded, paid = trouble()
        crew.order(act="sweep", at=at, fate="die")
        figures.did("kills")
        report(figures, after_two_sweeps([*first, refunded], OperationKind.REFUND))
        assert_each_is_paid_and_told([paid])


def step_of(crew: Crew, point: str) -> int:
    """Return the number of a step of a refund by its name."""
    numbers = range(1, 200)
    for at in numbers:
        payment = ready_for(OperationKind.REFUND, "careful")
        order = order_of(payment, OperationKind.REFUND)
        if crew.order(**order, at=at, fate="look").get("point") == point:
            return at
    raise AssertionError(f"a refund has no step {point}")


# That it would be noticed ---------------------------------------------------------------------


def test_twin_without_the_intent_a_kill_doubles_the_money(crew: Crew) -> None:
    """Lock, call, save, commit: the lock does not help who dies with it in hand."""

    def wish() -> tuple[Payment, dict[str, Any]]:
        payment = ready_for(OperationKind.REFUND, "plain")
        return payment, {"act": "naive", "payment": payment.pk, "amounts": ["30.00"]}

    steps = crew.order(**wish()[1])["steps"]
    doubled = 0
    for at in range(1, steps + 1):
        payment, order = wish()
        crew.order(**order, at=at, fate="die")
        crew.order(**order)
        doubled += len(after_two_sweeps([payment], OperationKind.REFUND).doubled)
    assert doubled
