"""Any life of a payment at a sandbox over real HTTP: the sandbox's books are the truth.

Hypothesis makes the lives up. The line breaks before or after the provider's work,
messages come twice, late or never, the buyer opens the page again, staff give back,
take and release.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import httpx
import hypothesis
import pytest
from django.core.cache import cache
from django.db import transaction
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from moneyed import Money
from pytest_django import Settings

from django_multipay.exceptions import MultipayError
from django_multipay.flows import (
    capture_payment,
    refund_payment,
    start_payment,
    sync_payment,
    void_payment,
)
from django_multipay.flows.operations import check_payment
from django_multipay.models import Payment
from django_multipay.testing.plugin import Sandbox
from tests.corridor import let_everything_be_due
from tests.five import Shop, reconcile_later, settings_at
from tests.proof.figures import IS_FULL, Figures, size
from tests.proof.invariants import violations

LIVES = size(4, 150)
STEPS = size(12, 30)

FAULTS = st.sampled_from(
    ["", "", "", "drop_before", "drop_after", "html", "truncate", "status"]
)
WISHES: dict[str, list[dict[str, Any]]] = {
    "eximbay": [{}, {"capture_mode": "manual"}],
    "clink": [{}],
    "easybilling": [{}],
}
CALLS = {
    "eximbay": {"start": "ready", "refund": "cancel", "capture": "capture"},
    "clink": {"start": "create_session", "refund": "refund"},
    "easybilling": {"start": "start", "refund": "refund"},
}
AMOUNTS = st.sampled_from([Money(text, "USD") for text in ("5.00", "10.00", "26.30")])


class Life(RuleBasedStateMachine):
    """One payment at a time, and everybody who has to do with it."""

    sandbox: Sandbox
    slug: str
    figures: Figures

    def __init__(self) -> None:
        super().__init__()
        # Facts cannot be deleted, so each life is taken back as a whole.
        self.life = transaction.atomic()
        setattr(self.life, "_from_testcase", True)  # noqa: B010
        self.life.__enter__()
        self.sandbox.reset()
        cache.clear()
        self.shop = Shop(self.sandbox, self.slug)

    @initialize(
        data=st.data(), fault=FAULTS, has_paid=st.sampled_from([True] * 4 + [False])
    )
    def begin(self, data: st.DataObject, fault: str, has_paid: bool) -> None:
        """The buyer clicks, perhaps twice, and most of them pay."""
        wish = data.draw(st.sampled_from(WISHES[self.slug]))
        self.payment = self.shop._create(**wish)
        self.broken("start", fault, lambda: start_payment(self.payment))
        let_everything_be_due()
        self.broken("", "", lambda: start_payment(self.payment))
        if has_paid:
            self.decide("approve")
            self.ask()

    def broken(self, call: str, fault: str, step: Callable[[], object]) -> None:
        """Do ``step`` over a line with ``fault``, however it ends."""
        operation = CALLS[self.slug].get(call)
        if fault and operation:
            self.shop.fault(
                operation, fault, **({"status": 502} if fault == "status" else {})
            )
        with contextlib.suppress(MultipayError):
            step()
        self.shop.mend()
        self.payment.refresh_from_db()

    @rule(fault=FAULTS)
    def open_the_page_again(self, fault: str) -> None:
        """A reload."""
        self.broken("start", fault, lambda: start_payment(self.payment))

    @rule(outcome=st.sampled_from(["approve", "decline"]))
    def decide(self, outcome: str) -> None:
        """Press a button of the hosted page, if it is there and open."""
        if self.payment.next_action:
            with contextlib.suppress(httpx.HTTPStatusError):
                self.shop.decide(self.payment, outcome)

    @rule(data=st.data())
    def bring_messages(self, data: st.DataObject) -> None:
        """Some of what the provider has to say arrives, in any order, twice too."""
        messages = self.shop.messages(self.payment)
        count = len(messages)
        numbers = st.lists(st.integers(0, max(count - 1, 0)), max_size=3)
        for number in data.draw(numbers) if messages else ():
            assert messages[number].send().status_code < 500

    @rule()
    def ask(self) -> None:
        """Staff ask how it stands."""
        self.broken("", "", lambda: sync_payment(self.payment))

    @rule(amount=AMOUNTS, fault=FAULTS)
    def refund(self, amount: Money, fault: str) -> None:
        """Staff give a part back, or all."""
        self.broken("refund", fault, lambda: refund_payment(self.payment, amount))

    @rule(amount=AMOUNTS, fault=FAULTS)
    def capture(self, amount: Money, fault: str) -> None:
        """Staff take what was reserved."""
        self.broken("capture", fault, lambda: capture_payment(self.payment, amount))

    @rule(fault=FAULTS)
    def void(self, fault: str) -> None:
        """Staff release what was reserved."""
        self.broken("refund", fault, lambda: void_payment(self.payment))

    @rule()
    def sweep(self) -> None:
        """Everything is due."""
        let_everything_be_due()
        reconcile_later()
        self.payment.refresh_from_db()

    # What always holds -------------------------------------------------------------------

    @invariant()
    def no_money_is_made_up(self) -> None:
        """What we say was taken or given back is in their books, and so in bounds."""
        payment = Payment.objects.get(pk=self.payment.pk)
        if not payment.started_at:
            return
        taken, given = self.shop.sums(payment)
        assert payment.captured <= taken <= payment.amount
        assert payment.refunded <= given <= taken

    @invariant()
    def every_row_is_sound(self) -> None:
        """What must be true of every row is true."""
        assert violations() == []

    def teardown(self) -> None:
        """Two sweeps over a good line, and both books say the same."""
        try:
            if hasattr(self, "payment"):
                self.figures.did("histories")
                self.sweep()
                self.sweep()
                for message in self.shop.messages(self.payment):
                    message.send()
                with contextlib.suppress(MultipayError):
                    check_payment(self.payment)
                if self.payment.started_at:
                    is_same = self.shop.agrees(self.payment)
                    self.figures.found("lost", [self.payment] * (not is_same))
        finally:
            transaction.set_rollback(True)
            self.life.__exit__(None, None, None)


@pytest.mark.django_db
@pytest.mark.parametrize("slug", WISHES)
def test_any_life_ends_with_the_sandboxs_books(
    settings: Settings, multipay_sandbox: Sandbox, figures: Figures, slug: str
) -> None:
    settings.MULTIPAY = settings_at(multipay_sandbox)
    place = {"sandbox": multipay_sandbox, "slug": slug, "figures": figures}
    life = type("LifeAt", (Life,), place)
    run_state_machine_as_test(
        life,
        settings=hypothesis.settings(
            max_examples=LIVES,
            # The same lives for each push; others whenever the whole proof is asked for.
            derandomize=not IS_FULL,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
