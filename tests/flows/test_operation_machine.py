"""Any history of captures, voids and refunds: the provider's own books are the truth.

Hypothesis makes up the histories. Answers get lost before or after the provider's work,
money moves while an answer is under way, old messages come late. Amounts are powers of
two, each used once, so that a total can be explained in one way only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.db import transaction
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger, money
from django_multipay.enums import (
    Capability,
    CaptureMode,
    OperationState,
    PaymentStatus,
    RefundStatus,
    Source,
)
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidTransition,
    MultipayError,
    OutcomeUnknown,
    ProviderUnavailable,
    RequestRejected,
)
from django_multipay.flows import (
    abandon_operation,
    capture_payment,
    reconcile,
    refund_payment,
    start_payment,
    sync_payment,
    void_payment,
)
from django_multipay.messages import PaymentSnapshot, RefundQuery, RefundSnapshot
from django_multipay.models import Operation, Payment, Refund
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.scripted import new_payment, snapshot_of
from tests.flows.test_operation_crash import (
    BookProvider,
    CarefulProvider,
    book_settings,
    query_about,
)

HISTORIES = int(os.environ.get("MULTIPAY_HISTORIES", "12"))
"""How many of each kind; a nightly run takes some hundreds."""

AUTHORIZED = Money("127.00", "USD")
POWERS, CENTS = 7, 6
"""How many amounts there are for captures and refunds, and at the console."""


class OpenBookProvider(BookProvider):
    """Its refunds can be asked about by our name of them."""

    capabilities = BookProvider.capabilities | {Capability.FETCH_REFUND}

    def fetch_refund(self, query: RefundQuery) -> RefundSnapshot:
        """Say whether it is in the books; the key of a refund is noted with its name."""
        refund = Refund.objects.get(merchant_reference=query.merchant_reference)
        keys = set(refund.operations.values_list("key", flat=True))
        is_done = any(one["key"] in keys for one in self.entries(query.query))
        status = RefundStatus.SUCCEEDED if is_done else RefundStatus.REQUESTED
        return RefundSnapshot(status=status)


PROVIDERS: Mapping[str, type[BookProvider]] = {
    "plain": BookProvider,
    "careful": CarefulProvider,
    "open": OpenBookProvider,
}

FATES = st.sampled_from(
    [
        "lost before",
        "lost after",
        "answered",
        "seen and answered",
        "seen and lost",
        "refused",
        "away",
    ]
)


class PaymentLife(RuleBasedStateMachine):
    """One payment of 127 USD, authorized, and everybody who may touch it."""

    books: Path

    def __init__(self) -> None:
        super().__init__()
        # Facts cannot be deleted, so each history is taken back as a whole.
        self.history = transaction.atomic()
        # As Django's own test case does: our flows may run inside of it.
        setattr(self.history, "_from_testcase", True)  # noqa: B010
        self.history.__enter__()

    @initialize(
        alias=st.sampled_from(sorted(PROVIDERS)),
        taken=st.sampled_from(["16.00", "64.00", "127.00", ""]),
    )
    def authorize(self, alias: str, taken: str) -> None:
        """The buyer has paid, and most shops have taken something by now."""
        provider = registry[alias]
        assert isinstance(provider, BookProvider)
        self.provider = provider
        self.payment = new_payment(
            amount=AUTHORIZED, provider=alias, capture_mode=CaptureMode.MANUAL
        )
        self.query = query_about(self.payment)
        self.powers = {"capture": set(range(POWERS)), "refund": set(range(POWERS))}
        self.cents = set(range(CENTS))
        self.messages: list[PaymentSnapshot] = []
        start_payment(self.payment)
        self.tell(snapshot_of(self.payment, PaymentStatus.AUTHORIZED))
        if taken:
            capture_payment(self.payment, Money(taken, "USD"))

    def tell(self, snapshot: PaymentSnapshot) -> None:
        """Bring a message of the provider."""
        account = ledger.Account(
            alias=self.provider.alias, account=self.provider.account, is_live=None
        )
        ledger.apply_snapshot(
            self.payment.pk, snapshot, account=account, source=Source.WEBHOOK
        )
        self.payment.refresh_from_db()

    def amount(self, kind: str, data: st.DataObject) -> Money:
        power = data.draw(st.sampled_from(sorted(self.powers[kind])))
        self.powers[kind].remove(power)
        return Money(2**power, "USD")

    def call(self, kind: str, fate: str, step: Callable[[], Any]) -> None:
        """Ask for something, and let its answer have ``fate``."""
        lost = OutcomeUnknown("no answer", self.provider.alias, kind)

        def seen(then: Exception | None) -> None:
            sync_payment(Payment.objects.get(pk=self.payment.pk))
            if then is not None:
                raise then

        original, work = self.provider.write, self.provider.note

        def before(*args: Any) -> None:
            match fate:
                case "lost before":
                    raise lost
                case "refused":
                    raise RequestRejected("no", self.provider.alias, kind)
                case "away":
                    raise ProviderUnavailable("away", self.provider.alias, kind)
            original(*args)

        def after(*args: Any) -> None:
            work(*args)
            match fate:
                case "lost after":
                    raise lost
                case "seen and answered":
                    seen(None)
                case "seen and lost":
                    seen(lost)

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(MultipayError):
            patch.setattr(self.provider, "write", before)
            patch.setattr(self.provider, "note", after)
            step()

    @precondition(lambda self: self.powers["capture"])
    @rule(data=st.data(), fate=FATES, is_whole=st.booleans())
    def capture(self, data: st.DataObject, fate: str, is_whole: bool) -> None:
        """Take what is left, or a part."""
        amount = None if is_whole else self.amount("capture", data)
        self.call("capture", fate, lambda: capture_payment(self.payment, amount))

    @precondition(lambda self: not self.payment.captured_minor)
    @rule(fate=FATES)
    def void(self, fate: str) -> None:
        """Release the authorization."""
        self.call("void", fate, lambda: void_payment(self.payment))

    @precondition(lambda self: self.powers["refund"])
    @rule(data=st.data(), fate=FATES)
    def refund(self, data: st.DataObject, fate: str) -> None:
        """Give a part back."""
        amount = self.amount("refund", data)
        self.call("refund", fate, lambda: refund_payment(self.payment, amount))

    @precondition(lambda self: self.cents)
    @rule(data=st.data())
    def refund_at_the_console(self, data: st.DataObject) -> None:
        """Somebody gives a few cents back without us."""
        cents = data.draw(st.sampled_from(sorted(self.cents)))
        minor, key = 2**cents, f"console-{cents}"
        taken = self.provider.total(self.query, "capture")
        if taken - self.provider.total(self.query, "refund", "console") >= minor:
            self.cents.remove(cents)
            self.provider.note(self.query, "console", minor, key)

    @rule()
    def sync(self) -> None:
        """Ask."""
        sync_payment(self.payment)

    @rule()
    def write_a_message(self) -> None:
        """The provider writes how the payment stands; nobody has read it yet."""
        self.messages.append(self.provider.fetch_payment(self.query))

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def bring_a_message(self, data: st.DataObject) -> None:
        """One of them arrives: late, again, in whatever order."""
        self.tell(data.draw(st.sampled_from(self.messages)))

    @rule(data=st.data())
    def bring_a_message_about_a_refund(self, data: st.DataObject) -> None:
        """The provider names one of our refunds that it has made."""
        keys = {one["key"] for one in self.provider.entries(self.query)}
        done = Refund.objects.filter(operations__key__in=keys).order_by("id")
        if done:
            refund = data.draw(st.sampled_from(list(done)))
            said = RefundSnapshot(
                status=RefundStatus.SUCCEEDED,
                merchant_reference=refund.merchant_reference,
                amount=refund.amount,
            )
            ledger.apply_refund(self.payment.pk, said, source=Source.WEBHOOK)

    @rule()
    def sweep(self) -> None:
        """Everything is due."""
        let_everything_be_due()
        reconcile()
        self.payment.refresh_from_db()

    @rule()
    def abandon(self) -> None:
        """A person has looked into the provider's books and says what is not there."""
        keys = {one["key"] for one in self.provider.entries(self.query)}
        for operation in Operation.objects.filter(state=OperationState.UNKNOWN):
            if operation.key not in keys:
                abandon_operation(operation, by="ann")

    # What always holds -------------------------------------------------------------------

    @invariant()
    def nothing_is_believed_that_did_not_happen(self) -> None:
        """Our sums never exceed theirs, and theirs never what was allowed."""
        payment = Payment.objects.get(pk=self.payment.pk)
        captured = self.provider.total(self.query, "capture")
        refunded = self.provider.total(self.query, "refund", "console")
        assert payment.captured_minor <= captured <= money.to_minor(AUTHORIZED)
        assert payment.refunded_minor <= refunded <= captured

    @invariant()
    def nothing_is_done_twice(self) -> None:
        """Each call of ours is in their books once at most."""
        keys = [one["key"] for one in self.provider.entries(self.query)]
        assert len(keys) == len(set(keys))

    @invariant()
    def the_status_is_the_fold(self) -> None:
        """Status and sums are what the facts say."""
        payment = Payment.objects.get(pk=self.payment.pk)
        state = ledger._fold(payment, payment.transactions.all())
        assert payment.status == state.status
        assert payment.captured_minor == state.captured_minor
        assert payment.refunded_minor == state.refunded_minor

    @invariant()
    def refunds_and_their_facts_agree(self) -> None:
        """What is refunded is the refunds that succeeded, and no call outlives one."""
        payment = Payment.objects.get(pk=self.payment.pk)
        succeeded = payment.refunds.filter(status=RefundStatus.SUCCEEDED)
        assert payment.refunded_minor == sum(one.amount_minor for one in succeeded)
        if len(self.cents) == CENTS:
            assert not payment.refunds.filter(is_external=True).exists()
        for refund in payment.refunds.filter(is_external=False):
            state = OperationState(refund.operations.get().state)
            is_open = state in ledger._OPEN_STATES
            assert is_open == (refund.status in ledger.RESERVING_STATUSES)

    @invariant()
    def no_more_is_reserved_than_there_is(self) -> None:
        """Without a console, what is given back and spoken for was taken before."""
        payment = Payment.objects.get(pk=self.payment.pk)
        if len(self.cents) == CENTS:
            assert payment.refunded_minor + self.spoken_for() <= payment.captured_minor

    @invariant()
    def a_cent_more_than_is_left_is_refused(self) -> None:
        """What is given back, or spoken for, cannot be given a second time."""
        payment = Payment.objects.get(pk=self.payment.pk)
        left = payment.captured_minor - payment.refunded_minor - self.spoken_for()
        with pytest.raises((InvalidAmount, InvalidTransition)):
            refund_payment(payment, money.from_minor(max(left, 0) + 1, "USD"))

    def spoken_for(self) -> int:
        """What is asked for and not over yet, in minor units."""
        open_ones = Refund.objects.filter(
            payment=self.payment, status__in=ledger.RESERVING_STATUSES
        )
        return sum(one.amount_minor for one in open_ones)

    def teardown(self) -> None:
        """Two sweeps with a provider that answers, and both books say the same."""
        try:
            if hasattr(self, "payment"):
                self.sweep()
                if len(self.cents) < CENTS:  # Nobody tells us of a console.
                    self.sync()
                self.sweep()
                # What nobody can be asked about, a person decides.
                self.abandon()
                if len(self.cents) < CENTS:
                    self.sync()
                self.assert_books_agree()
        finally:
            transaction.set_rollback(True)
            self.history.__exit__(None, None, None)
            self.books.unlink(missing_ok=True)

    def assert_books_agree(self) -> None:
        payment = Payment.objects.get(pk=self.payment.pk)
        assert payment.captured_minor == self.provider.total(self.query, "capture")
        assert payment.refunded_minor == self.provider.total(
            self.query, "refund", "console"
        )
        keys = {one["key"] for one in self.provider.entries(self.query)}
        for operation in payment.operations.filter(state__in=ledger._OPEN_STATES):
            # It waits for a person, and only where it was not done.
            assert operation.state == OperationState.UNKNOWN
            assert operation.key not in keys
            assert Capability(operation.kind) not in self.provider.repeatable


@pytest.mark.django_db
@pytest.mark.parametrize("tells_totals", [False, True])
def test_any_history_ends_with_the_providers_books(
    settings: Settings, tmp_path: Path, tells_totals: bool
) -> None:
    class Life(PaymentLife):
        books = tmp_path / "books.jsonl"

    settings.MULTIPAY = book_settings(PROVIDERS, Life.books, tells_totals=tells_totals)
    run_state_machine_as_test(
        Life,
        settings=hypothesis.settings(
            max_examples=HISTORIES,
            # The same histories in every run, unless somebody asks for more.
            derandomize="MULTIPAY_HISTORIES" not in os.environ,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
