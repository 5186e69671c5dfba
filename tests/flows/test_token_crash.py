"""kill -9 in the middle of a charge, or of a deletion: none lost, none doubled.

The provider's books are a file, so they outlive the worker that is killed. One process
waits with everything imported and is forked for each death, which is real: SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_django import Settings

from django_multipay import money
from django_multipay.enums import (
    Capability,
    Initiator,
    OperationKind,
    OperationState,
    PaymentStatus,
    TokenStatus,
)
from django_multipay.flows import abandon_operation, charge_token, reconcile
from django_multipay.messages import PaymentQuery, PaymentSnapshot, TokenChargeRequest
from django_multipay.models import Payment, Token
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.scripted import answer_to
from tests.flows.test_crash import database_url
from tests.flows.test_operation_crash import BookProvider, book_settings
from tests.flows.tokens import PRICE, query_of_charge, saved

pytestmark = pytest.mark.django_db(transaction=True)

PAID, FAILED, PENDING = (
    PaymentStatus.PAID,
    PaymentStatus.FAILED,
    PaymentStatus.PENDING,
)


# A provider with books, which keeps methods ----------------------------------------------


class PurseProvider(BookProvider):
    """It charges as often as it is asked to, and writes it into its books."""

    capabilities = BookProvider.capabilities | {
        Capability.TOKENS,
        Capability.DELETE_TOKEN,
    }

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Say what the books say; what is not in them is pending."""
        if not self.entries(query):
            return PaymentSnapshot(status=PENDING)
        return answer_to(query, PAID)

    def charge_token(self, request: TokenChargeRequest) -> PaymentSnapshot:
        """Charge it."""
        query = query_of_charge(request)
        is_same = any(one["key"] == request.key for one in self.entries(query))
        if not (is_same and Capability.TOKENS in self.repeatable):
            amount = money.to_minor(request.amount)
            self.note(query, "capture", amount, request.key)
        return answer_to(query, PAID)

    def delete_token(self, reference: str) -> None:
        """Forget it; to forget it twice is no harm."""
        with self.path.with_suffix(".deleted").open("a") as deleted:
            deleted.write(f"{reference}\n")

    def deleted(self) -> set[str]:
        """The methods that were deleted."""
        path = self.path.with_suffix(".deleted")
        return set(path.read_text().split()) if path.exists() else set()


class CarefulPurseProvider(PurseProvider):
    """It charges once what comes twice with the same key."""

    repeatable = frozenset({Capability.TOKENS})


class TaciturnPurseProvider(PurseProvider):
    """It cannot be asked."""

    capabilities = PurseProvider.capabilities - {Capability.FETCH}


PROVIDERS: Mapping[str, type[PurseProvider]] = {
    "careful": CarefulPurseProvider,
    "plain": PurseProvider,
    "taciturn": TaciturnPurseProvider,
}


# Dying ----------------------------------------------------------------------------------


WORKER = """
import importlib, json, os, signal, sys

import django
from django.conf import settings

settings.MULTIPAY = json.loads(sys.argv[1], parse_float=str)
django.setup()

from moneyed import Money

from django_multipay import flows
from django_multipay.models import Token


def die_at(module, owner, name, is_after):
    place = importlib.import_module(module)
    place = getattr(place, owner) if owner else place
    original = getattr(place, name)

    def dying(*args, **kwargs):
        if is_after:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(place, name, dying)


importlib.import_module("tests.flows.test_token_crash")
for line in sys.stdin:
    order = json.loads(line, parse_float=str)
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1], flush=True)
        continue
    die_at(*order["point"])
    token = Token.objects.get(pk=order["token"])
    if order["flow"] == "charge":
        flows.charge_token(token, "box", Money("9.90", "USD"), idempotency_key="box")
    else:
        flows.delete_token(token)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the provider of this process and of the workers writes to."""
    return tmp_path_factory.mktemp("books") / "books.jsonl"


@pytest.fixture(autouse=True)
def accounts(settings: Settings, books: Path) -> None:
    settings.MULTIPAY = book_settings(PROVIDERS, books)


@pytest.fixture(scope="module")
def worker(django_db_setup: None, books: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that forks one worker for each order it reads."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, json.dumps(book_settings(PROVIDERS, books))],
        env=os.environ
        | {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


@dataclass(frozen=True)
class Point:
    """A moment to die, and how far the charge had come by then."""

    name: str
    place: tuple[str, str, str, bool]
    is_sent: bool = True
    is_done: bool = False


HERE, CHARGES = "tests.flows.test_token_crash", "django_multipay.ledger.charges"
POINTS = [
    Point("the intent", (CHARGES, "", "open_charge", True), is_sent=False),
    Point("the claim", (CHARGES, "", "claim_charge", True)),
    Point("the request", (HERE, "PurseProvider", "note", False)),
    Point("the provider's work", (HERE, "PurseProvider", "note", True), is_done=True),
    Point(
        "half the conclusion",
        ("django_multipay.ledger", "", "_add_facts", True),
        is_done=True,
    ),
    Point("the conclusion", (CHARGES, "", "conclude_charge", True), is_done=True),
]
DELETION_POINTS = [
    (CHARGES, "", "request_deletion", True),
    ("django_multipay.ledger", "", "claim_operation", True),
    (HERE, "PurseProvider", "delete_token", True),
    (CHARGES, "", "conclude_deletion", True),
]


def kill(
    worker: subprocess.Popen[str],
    flow: str,
    place: tuple[str, str, str, bool],
    token: Token,
) -> None:
    """Let a process of its own die at ``place`` of this flow."""
    order = {"flow": flow, "token": token.pk, "point": place}
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{json.dumps(order)}\n")
    worker.stdin.flush()
    assert os.WTERMSIG(int(worker.stdout.readline())) == signal.SIGKILL


def provider_of(token: Token) -> PurseProvider:
    provider = registry[token.provider]
    assert isinstance(provider, PurseProvider)
    return provider


def taken(payment: Payment, token: Token) -> int:
    """What the provider's books say was taken for ``payment``."""
    query = PaymentQuery(
        merchant_reference=payment.merchant_reference,
        provider_reference="",
        amount=payment.amount,
    )
    return provider_of(token).total(query, "capture")


def sweep() -> None:
    let_everything_be_due()
    reconcile()


@pytest.mark.parametrize("point", POINTS, ids=[point.name for point in POINTS])
def test_kill_9_during_a_charge_loses_and_doubles_nothing(
    worker: subprocess.Popen[str], point: Point
) -> None:
    methods = [saved(f"tok-{point.name}", alias, alias) for alias in PROVIDERS]
    for token in methods:
        kill(worker, "charge", point.place, token)
    sweep()
    sweep()
    for token in methods:
        # Whoever asked asks again, with the same key: it is the same payment.
        payment = charge_token(token, "box", PRICE, idempotency_key="box")
        charged = Payment.objects.filter(token=token, initiator=Initiator.MERCHANT)
        assert charged.get() == payment
        is_known = point.is_done and (
            token.provider != "taciturn" or point.name == "the conclusion"
        )
        if is_known or not point.is_sent or token.provider == "careful":
            assert (payment.status, taken(payment, token)) == (PAID, 990)
            operation = payment.operations.get(kind=OperationKind.CHARGE)
            assert operation.state == OperationState.SUCCEEDED
            assert operation.open_slot is None
            assert payment.review_reason == ""
        else:
            assert_it_waits_for_a_person(payment, token, point)


def assert_it_waits_for_a_person(payment: Payment, token: Token, point: Point) -> None:
    """Nobody else can tell, and until then nothing is charged again."""
    assert payment.status == PENDING
    assert taken(payment, token) == (990 if point.is_done else 0)
    operation = payment.operations.get(kind=OperationKind.CHARGE)
    assert operation.state == OperationState.UNKNOWN
    abandon_operation(operation, by="ann")
    payment.refresh_from_db()
    assert payment.status == FAILED


@pytest.mark.parametrize(
    "place", DELETION_POINTS, ids=[place[2] for place in DELETION_POINTS]
)
def test_kill_9_during_a_deletion_leaves_it_to_others(
    worker: subprocess.Popen[str], place: tuple[str, str, str, bool]
) -> None:
    token = saved(f"tok-{place[2]}", provider="plain")
    kill(worker, "delete", place, token)
    token.refresh_from_db()
    assert token.status == TokenStatus.DELETED
    sweep()
    token.refresh_from_db()
    assert token.provider_token is None
    assert f"tok-{place[2]}" in provider_of(token).deleted()
    assert not token.operations.filter(open_slot__isnull=False).exists()
