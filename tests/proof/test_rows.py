"""Rows of `tests.proof.coverage` that no other room has a test for; and that each row
names tests which are there."""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_multipay.enums import PaymentStatus
from django_multipay.flows import refund_payment
from django_multipay.models import Payment
from tests.corridor import Corridor
from tests.proof import coverage
from tests.proof.crew import Crew
from tests.proof.figures import ELSEWHERE, Figures, size
from tests.proof.invariants import violations
from tests.proof.lives import paid_at_the_provider

TESTS = Path(__file__).resolve().parent.parent
ROWS = {**coverage.VULNERABILITIES, **coverage.INPUTS, **coverage.GUARDS}


# Behavior -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_return_after_the_refund_shows_the_refund(corridor: Corridor) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment)
    corridor.send(messages.status_path, messages.status_body)
    payment.refresh_from_db()
    refund_payment(payment)
    before = payment.transactions.count()
    for path, body in (
        (messages.return_path, messages.return_body),
        (messages.status_path, messages.status_body),
    ):
        answer = corridor.send(path, body)
        assert answer.status_code in {200, 303}
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.REFUNDED
    assert payment.transactions.count() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("accounts")
def test_workers_forked_after_a_query_have_connections_of_their_own(
    crew: Crew, figures: Figures
) -> None:
    """As a server that loads the site first: it closes what it opened, then forks."""
    orders = [paid_at_the_provider("plain")[1] for _ in range(size(8, 64))]
    answer = crew.order(crowd=orders, preloaded=True)
    figures.did("deliveries", len(orders))
    wrong = [result for result in answer["results"] if result != "200"]
    figures.found("server_errors", wrong)
    lost = Payment.objects.exclude(status=PaymentStatus.PAID)
    figures.found("lost", list(lost))
    figures.found("violations", violations())


# The table -----------------------------------------------------------------------------------


@functools.cache
def functions_of(path: Path) -> set[str]:
    """Return the tests in a file that are written there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def is_there(test: str) -> bool:
    """Say whether ``file::test`` or ``file::Class::test`` would be collected."""
    file, _, name = test.partition("::")
    path = TESTS / file
    if not path.exists():
        return False
    kind, _, inherited = name.partition("::")
    if not inherited:
        return name.startswith("test_") and name in functions_of(path)
    module = importlib.import_module(f"tests.{file[:-3].replace('/', '.')}")
    return inherited.startswith("test_") and callable(
        getattr(getattr(module, kind, None), inherited, None)
    )


def missing() -> Iterator[str]:
    for number, row in ROWS.items():
        for test in row.tests:
            if not is_there(test):
                yield f"{number}: {test}"


def test_every_row_names_tests_that_are_there() -> None:
    assert not list(missing())


def test_a_test_that_is_not_there_is_noticed() -> None:
    assert not is_there("proof/test_rows.py::test_of_a_dream")
    assert not is_there("providers/test_clink.py::TestContract::test_of_a_dream")
    assert not is_there("proof/test_nothing.py::test_every_row")


def test_no_row_is_left_out() -> None:
    assert [*coverage.VULNERABILITIES] == [f"V{number}" for number in range(1, 30)]
    assert [*coverage.INPUTS] == [str(number) for number in range(1, 113)]
    without = {number for number, row in ROWS.items() if not row.tests}
    assert all(len(row.tests) >= 2 for row in coverage.GUARDS.values())
    # What no provider does, and what the package does not ship.
    assert without == {"17", "54", "82"}


def test_the_tests_of_other_rooms_that_are_counted_are_there() -> None:
    assert [one for one in ELSEWHERE if not is_there(one.removeprefix("tests/"))] == []
