"""kill -9 in the middle of a charge, or of a deletion: none lost, none doubled.

The provider's books are a file, so they outlive the worker that is killed.
"""

from __future__ import annotations

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
from django_multipay.flows import (
    abandon_operation,
    charge_token,
    delete_token,
    reconcile,
)
from django_multipay.messages import PaymentQuery, PaymentSnapshot, TokenChargeRequest
from django_multipay.models import Payment, Token
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.mortals import Mortals, Place
from tests.flows.scripted import answer_to
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


def work(flow: str, token: int) -> None:
    """What a worker does that will be killed."""
    method = Token.objects.get(pk=token)
    if flow == "charge":
        charge_token(method, "box", PRICE, idempotency_key="box")
    else:
        delete_token(method)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the provider of this process and of the workers writes to."""
    return tmp_path_factory.mktemp("books") / "books.jsonl"


@pytest.fixture(autouse=True)
def accounts(settings: Settings, books: Path) -> None:
    settings.MULTIPAY = book_settings(PROVIDERS, books)


@pytest.fixture(scope="module")
def mortals(django_db_setup: None, books: Path) -> Iterator[Mortals]:
    with Mortals(book_settings(PROVIDERS, books), HERE) as workers:
        yield workers


@dataclass(frozen=True)
class Point:
    """A moment to die, and how far the charge had come by then."""

    name: str
    place: Place
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
    mortals: Mortals, point: Point
) -> None:
    methods = [saved(f"tok-{point.name}", alias, alias) for alias in PROVIDERS]
    for token in methods:
        mortals.kill(point.place, flow="charge", token=token.pk)
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
    mortals: Mortals, place: Place
) -> None:
    token = saved(f"tok-{place[2]}", provider="plain")
    mortals.kill(place, flow="delete", token=token.pk)
    token.refresh_from_db()
    assert token.status == TokenStatus.DELETED
    sweep()
    token.refresh_from_db()
    assert token.provider_token is None
    assert f"tok-{place[2]}" in provider_of(token).deleted()
    assert not token.operations.filter(open_slot__isnull=False).exists()
