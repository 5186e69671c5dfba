"""kill -9 in the middle of a refund, a capture or a void: none lost, none doubled.

The provider's books are a file, so they outlive the worker that is killed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from moneyed import Money
from pytest_django import Settings

from django_multipay import flows, ledger, money
from django_multipay.enums import (
    Capability,
    CaptureMode,
    OperationKind,
    OperationState,
    PaymentStatus,
    RefundStatus,
    Source,
)
from django_multipay.exceptions import InvalidOperation, RequestRejected
from django_multipay.flows import (
    abandon_operation,
    capture_payment,
    reconcile,
    refund_payment,
    start_payment,
    void_payment,
)
from django_multipay.messages import (
    CaptureRequest,
    PaymentQuery,
    PaymentSnapshot,
    RefundRequest,
    RefundSnapshot,
    VoidRequest,
)
from django_multipay.models import Payment
from django_multipay.providers.base import ProviderOptions
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.mortals import Mortals, Place
from tests.flows.scripted import (
    ObligingProvider,
    ScriptedOptions,
    account_settings,
    answer_to,
    new_payment,
    snapshot_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

AMOUNT = Money("100.00", "USD")
PART = Money("60.00", "USD")


# A provider with books ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BookOptions(ScriptedOptions):
    """Where the books are, and whether the answer to a capture tells the total."""

    books: str = field(default="")
    tells_totals: bool = False


class BookProvider(ObligingProvider):
    """It does what it is asked as often as it is asked, and writes it into its books.

    Only what its books do not allow is refused.
    """

    options_class = BookOptions
    options: BookOptions

    def __init__(self, alias: str, options: ProviderOptions) -> None:
        super().__init__(alias, options)
        self.path = Path(self.options.books)

    def entries(self, query: PaymentQuery) -> list[dict[str, Any]]:
        """What was done to one payment, in order."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        entries = [json.loads(line, parse_float=str) for line in lines]
        return [one for one in entries if one["order"] == query.merchant_reference]

    def total(self, query: PaymentQuery, *kinds: str) -> int:
        """What these kinds of entries sum up to, in minor units."""
        entries = self.entries(query)
        return sum(one["amount"] for one in entries if one["kind"] in kinds)

    def write(self, query: PaymentQuery, kind: str, amount: int, key: str) -> None:
        """Do it. `RequestRejected` where the books say that it cannot be done."""
        is_same = any(one["key"] == key for one in self.entries(query))
        if is_same and Capability(kind) in self.repeatable:
            return
        taken = self.total(query, "capture")
        left = {
            "capture": money.to_minor(query.amount) - taken,
            "refund": taken - self.total(query, "refund", "console"),
            # Nothing is moved by it, and it comes too late once something was taken.
            "void": -taken,
        }
        is_void = any(one["kind"] == "void" for one in self.entries(query))
        if amount > left[kind] or is_void:
            raise RequestRejected("the books do not allow it", self.alias, kind)
        self.note(query, kind, amount, key)

    def note(self, query: PaymentQuery, kind: str, amount: int, key: str) -> None:
        """Write one line, at once and whole."""
        line = {"order": query.merchant_reference, "kind": kind, "amount": amount}
        with self.path.open("a") as books:
            books.write(f"{json.dumps({**line, 'key': key})}\n")

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Say what the books say."""
        captured = self.total(query, "capture")
        if any(one["kind"] == "void" for one in self.entries(query)):
            return answer_to(query, PaymentStatus.CANCELED)
        if not captured:
            return answer_to(query, PaymentStatus.AUTHORIZED)
        return self.with_totals(query)

    def with_totals(self, query: PaymentQuery) -> PaymentSnapshot:
        """The inquiry's answer once money was taken."""

        def total(*kinds: str) -> Money:
            return money.from_minor(self.total(query, *kinds), "USD")

        return dataclasses.replace(
            answer_to(query, PaymentStatus.PAID),
            captured=total("capture"),
            refunded=total("refund", "console"),
        )

    def capture_payment(self, request: CaptureRequest) -> PaymentSnapshot:
        """Take it."""
        query = request.query
        self.write(query, "capture", money.to_minor(request.amount), request.key)
        if self.options.tells_totals:
            return self._answer("capture", request, self.with_totals(query))
        return super().capture_payment(request)

    def void_payment(self, request: VoidRequest) -> PaymentSnapshot:
        """Release it."""
        self.write(request.query, "void", 0, request.key)
        return super().void_payment(request)

    def refund_payment(self, request: RefundRequest) -> RefundSnapshot:
        """Give it back."""
        amount = money.to_minor(request.amount)
        self.write(request.query, "refund", amount, request.key)
        return super().refund_payment(request)


class CarefulProvider(BookProvider):
    """It does once what comes twice with the same key."""

    repeatable = frozenset({Capability.CAPTURE, Capability.VOID, Capability.REFUND})


class TaciturnProvider(BookProvider):
    """It cannot be asked."""

    capabilities = BookProvider.capabilities - {Capability.FETCH}


PROVIDERS: Mapping[str, type[BookProvider]] = {
    "careful": CarefulProvider,
    "plain": BookProvider,
    "taciturn": TaciturnProvider,
}


def book_settings(
    providers: Mapping[str, type[BookProvider]], books: Path, **options: Any
) -> dict[str, Any]:
    """``MULTIPAY`` with these kinds of providers over the same books."""
    multipay = account_settings(**providers)
    for account in multipay["PROVIDERS"].values():
        account["OPTIONS"] = {"books": str(books), **options}
    return multipay


# Dying ----------------------------------------------------------------------------------


def work(flow: str, payment: int, amount: list[str], is_later: bool) -> None:
    """What a worker does that will be killed."""
    asked = [Money(text, "USD") for text in amount]
    with transaction.atomic() if is_later else nullcontext():
        getattr(flows, flow)(Payment.objects.get(pk=payment), *asked)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the provider of this process and of the workers writes to."""
    return tmp_path_factory.mktemp("books") / "books.jsonl"


@pytest.fixture(autouse=True)
def accounts(settings: Settings, books: Path) -> None:
    settings.MULTIPAY = book_settings(PROVIDERS, books)


@pytest.fixture(scope="module")
def mortals(django_db_setup: None, books: Path) -> Iterator[Mortals]:
    with Mortals(book_settings(PROVIDERS, books), BOOKS) as workers:
        yield workers


@dataclass(frozen=True)
class Point:
    """A moment to die, and how far the call had come by then."""

    name: str
    place: Place
    is_later: bool = False
    """It was asked for in the shop's own transaction, and is sent after its commit."""
    is_sent: bool = True
    is_done: bool = False
    is_concluded: bool = False


LEDGER, FLOW = "django_multipay.ledger", "django_multipay.flows.operations"
BOOKS = "tests.flows.test_operation_crash"


def points(kind: OperationKind) -> list[Point]:
    """Every step of a call that moves money, with a death before the next one."""
    conclude = "conclude_refund" if kind == "refund" else "conclude_payment_operation"
    return [
        Point("the intent", (LEDGER, "", "request_operation", True)),
        Point(
            "the shop's commit",
            (LEDGER, "", "claim_operation", False),
            is_later=True,
            is_sent=False,
        ),
        Point("the claim", (LEDGER, "", "claim_operation", True), is_later=True),
        Point("the request", (BOOKS, "BookProvider", "write", False)),
        Point(
            "the provider's work", (BOOKS, "BookProvider", "note", True), is_done=True
        ),
        Point("half the conclusion", (LEDGER, "", "_add_facts", True), is_done=True),
        Point(
            "the conclusion",
            (LEDGER, "", conclude, True),
            is_done=True,
            is_concluded=True,
        ),
    ]


FLOWS: dict[OperationKind, Callable[..., Any]] = {
    OperationKind.REFUND: refund_payment,
    OperationKind.CAPTURE: capture_payment,
    OperationKind.VOID: void_payment,
}
ASKED = {
    OperationKind.REFUND: [PART],
    OperationKind.CAPTURE: [PART],
    OperationKind.VOID: [],
}
RIVALS: dict[OperationKind, Callable[[Payment], Any]] = {
    OperationKind.REFUND: lambda payment: refund_payment(payment, PART),
    OperationKind.CAPTURE: void_payment,
    OperationKind.VOID: capture_payment,
}
AFTERWARDS = {
    OperationKind.REFUND: PaymentStatus.PARTIALLY_REFUNDED,
    OperationKind.CAPTURE: PaymentStatus.PAID,
    OperationKind.VOID: PaymentStatus.CANCELED,
}
DEATHS = [(kind, point) for kind in FLOWS for point in points(kind)]


def payment_for(kind: OperationKind, provider: BookProvider) -> Payment:
    """A payment that ``kind`` is possible for, in our books and in theirs."""
    payment = new_payment(
        amount=AMOUNT, provider=provider.alias, capture_mode=CaptureMode.MANUAL
    )
    start_payment(payment)
    status = PaymentStatus.AUTHORIZED
    if kind == OperationKind.REFUND:
        status = PaymentStatus.PAID
        provider.note(query_about(payment), "capture", payment.amount_minor, "checkout")
    ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, status),
        account=ledger.Account(
            alias=provider.alias, account=provider.account, is_live=None
        ),
        source=Source.SYNC,
    )
    payment.refresh_from_db()
    return payment


def provider_of(alias: str) -> BookProvider:
    """The provider of this process, whose books are those of the workers."""
    provider = registry[alias]
    assert isinstance(provider, BookProvider)
    return provider


def query_about(payment: Payment) -> PaymentQuery:
    return PaymentQuery(
        merchant_reference=payment.merchant_reference,
        provider_reference="",
        amount=payment.amount,
    )


def sweep() -> None:
    """Run `reconcile` when everything is due."""
    let_everything_be_due()
    reconcile()


@pytest.mark.parametrize(
    ("kind", "point"), DEATHS, ids=[f"{kind}-after {one.name}" for kind, one in DEATHS]
)
def test_kill_9_loses_and_doubles_nothing(
    mortals: Mortals, kind: OperationKind, point: Point
) -> None:
    payments = {alias: payment_for(kind, provider_of(alias)) for alias in PROVIDERS}
    for payment in payments.values():
        kill(mortals, kind, point, payment)
    sweep()
    sweep()
    for alias, payment in payments.items():
        is_found = point.is_done and alias != "taciturn"
        is_repeated = not point.is_sent or alias == "careful"
        if is_found or is_repeated or point.is_concluded:
            assert_done_once(payment, kind)
        else:
            assert_it_waits_for_a_person(payment, kind, point)


def kill(mortals: Mortals, kind: OperationKind, point: Point, payment: Payment) -> None:
    """Let a worker die at ``point`` of this call."""
    mortals.kill(
        point.place,
        flow=FLOWS[kind].__name__,
        payment=payment.pk,
        amount=[str(amount.amount) for amount in ASKED[kind]],
        is_later=point.is_later,
    )


def assert_done_once(payment: Payment, kind: OperationKind) -> None:
    """It is in both books, once, and nothing waits for anything any more."""
    payment.refresh_from_db()
    provider, query = provider_of(payment.provider), query_about(payment)
    done = [one["amount"] for one in provider.entries(query) if one["kind"] == kind]
    assert done == [sum(map(money.to_minor, ASKED[kind]))]
    assert payment.captured_minor == provider.total(query, "capture")
    assert payment.refunded_minor == provider.total(query, "refund")
    assert payment.status == AFTERWARDS[kind]
    assert payment.review_reason == ""
    operations = payment.operations.filter(kind=kind)
    assert operations.last().state == OperationState.SUCCEEDED  # type: ignore[union-attr]
    assert not payment.operations.filter(open_slot__isnull=False).exists()
    for refund in payment.refunds.exclude(status=RefundStatus.FAILED):
        assert refund.status == RefundStatus.SUCCEEDED
        assert not refund.is_external


def assert_it_waits_for_a_person(
    payment: Payment, kind: OperationKind, point: Point
) -> None:
    """Nobody else can tell, and until then the money is spoken for."""
    payment.refresh_from_db()
    provider, query = provider_of(payment.provider), query_about(payment)
    operation = payment.operations.get(kind=kind)
    assert operation.state == OperationState.UNKNOWN
    with pytest.raises(InvalidOperation):
        RIVALS[kind](payment)
    done = [one for one in provider.entries(query) if one["kind"] == kind]
    assert len(done) == point.is_done
    assert payment.refunded_minor == 0
    assert payment.status in {PaymentStatus.AUTHORIZED, PaymentStatus.PAID}
    if not point.is_done:
        abandon_operation(operation, by="ann")
        FLOWS[kind](payment, *ASKED[kind])
        assert_done_once(payment, kind)
