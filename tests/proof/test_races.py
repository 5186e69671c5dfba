"""Sixteen processes, each with a connection of its own, from the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from django_multipay.enums import NoticeState, OperationKind, PaymentStatus
from django_multipay.models import Notice, Payment, WebhookDelivery
from tests.corridor import let_everything_be_due
from tests.flows.test_operation_crash import provider_of, query_about
from tests.proof.crew import Crew
from tests.proof.figures import Figures, size
from tests.proof.invariants import violations
from tests.proof.lives import (
    ALIASES,
    MOVES,
    after_two_sweeps,
    later_order_of,
    order_of,
    paid_at_the_provider,
    ready_for,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("accounts"),
]

ROUNDS = size(1, 50)
CROWD = 16
POLITE = {"done", "InvalidAmount", "InvalidTransition"}
"""How a call that came too late may end: with the same operation, or refused."""


def calls(payment: Payment, *kinds: OperationKind) -> int:
    """How often the provider was made to do one of ``kinds``."""
    entries = provider_of(payment.provider).entries(query_about(payment))
    return sum(entry["kind"] in kinds for entry in entries)


def one_call_each(
    figures: Figures,
    payments: Sequence[Payment],
    results: Sequence[str],
    *kinds: OperationKind,
) -> None:
    """Count what was sent more than once, and what ended in an odd way."""
    figures.did("races", len(payments))
    numbers = [calls(payment, *kinds) for payment in payments]
    figures.found("doubled", [number for number in numbers if number > 1])
    figures.found("lost", [number for number in numbers if number < 1])
    assert set(results) <= POLITE
    wreck = after_two_sweeps(payments)
    figures.found("lost", wreck.lost)
    figures.found("stuck", wreck.stuck)
    figures.found("violations", violations())


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("kind", MOVES)
def test_sixteen_processes_want_the_same(
    crew: Crew, figures: Figures, kind: OperationKind, alias: str
) -> None:
    """Of refunds of 60 out of 100, and of captures and voids of all of it, one."""
    payments: list[Payment] = []
    results: list[str] = []
    for _ in range(ROUNDS):
        payment = ready_for(kind, alias)
        payments.append(payment)
        results += crew.all_at_once([order_of(payment, kind)] * CROWD)
    one_call_each(figures, payments, results, kind)


def test_of_captures_and_voids_at_once_one_reaches_the_provider(
    crew: Crew, figures: Figures
) -> None:
    capture, void = OperationKind.CAPTURE, OperationKind.VOID
    payments: list[Payment] = []
    results: list[str] = []
    for _ in range(ROUNDS):
        payment = ready_for(capture, "plain")
        payments.append(payment)
        orders = [order_of(payment, capture), order_of(payment, void)]
        results += crew.all_at_once(orders * (CROWD // 2))
    one_call_each(figures, payments, results, capture, void)


@pytest.mark.parametrize("is_asked_about", [True, False], ids=["asked", "believed"])
def test_one_message_at_sixteen_doors_is_one_fact_and_one_notice(
    crew: Crew, figures: Figures, is_asked_about: bool
) -> None:
    results: list[str] = []
    for _ in range(ROUNDS):
        _, order = paid_at_the_provider("plain", is_asked_about=is_asked_about)
        results += crew.all_at_once([order] * CROWD)
        figures.did("races")
        figures.did("deliveries", CROWD)
    figures.found("server_errors", [one for one in results if one != "200"])
    assert WebhookDelivery.objects.count() == ROUNDS
    for payment in Payment.objects.all():
        assert payment.status == PaymentStatus.PAID
        fact = payment.transactions.get()
        notice = Notice.objects.get(transaction=fact)
        assert notice.state == NoticeState.DELIVERED
        figures.found("doubled", ["notice"] * (notice.attempts - 1))
    figures.found("violations", violations())


@pytest.mark.parametrize("alias", ALIASES)
def test_sixteen_sweepers_send_what_was_never_sent_once(
    crew: Crew, figures: Figures, alias: str
) -> None:
    """The workers before them died between the shop's commit and the call."""
    kind = OperationKind.CAPTURE
    at = intent(crew, kind)
    payments = [ready_for(kind, alias) for _ in range(size(6, 60))]
    for payment in payments:
        crew.order(**later_order_of(payment, kind), at=at, fate="die")
    let_everything_be_due()
    results = crew.all_at_once([{"act": "sweep"}] * CROWD)
    assert all(result.startswith("Report(") for result in results)
    one_call_each(figures, payments, ["done"], kind)


def intent(crew: Crew, kind: OperationKind) -> int:
    """Return the step at which a shop has just committed its wish for ``kind``."""
    at = 1
    while point(crew, kind, at) != "after COMMIT":
        at += 1
    return at


def point(crew: Crew, kind: OperationKind, at: int) -> str:
    order = later_order_of(ready_for(kind, "careful"), kind)
    found: str = crew.order(**order, at=at, fate="look").get("point", "")
    return found


# That it would be noticed -----------------------------------------------------------------------


def test_twin_without_the_reservation_who_is_overtaken_gives_it_a_second_time(
    crew: Crew,
) -> None:
    """Look, call, save: the first has looked, and is stopped before its call."""

    def wish() -> tuple[Payment, dict[str, Any]]:
        payment = ready_for(OperationKind.REFUND, "plain")
        return payment, {"act": "hasty", "payment": payment.pk, "amounts": ["6.00"]}

    called = "before the provider's work"
    steps = range(1, 20)
    at = next(n for n in steps if called == crew.order(**wish()[1], at=n).get("point"))
    payment, order = wish()
    first = crew.order(**order, at=at, fate="stop")
    crew.order(**order)
    crew.order(stopped=first["stopped"])
    assert calls(payment, OperationKind.REFUND) == 2
