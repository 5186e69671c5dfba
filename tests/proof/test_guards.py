"""Each guard and its twin: with the guard nothing happens, without it there is damage.

A test of a guard says little unless it fails when the guard is off. Here both are one
test over one attack; guards that need threads or processes have their twins beside
their own tests, and `tests.proof.coverage` lists them all.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.db.models import Model
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger, money
from django_multipay.enums import OperationKind, OperationState, PaymentStatus
from django_multipay.exceptions import MultipayError, OutcomeUnknown
from django_multipay.flows import (
    capture_payment,
    operations,
    receive_webhook,
    refund_payment,
    start_payment,
    sync,
    sync_payment,
    void_payment,
    webhooks,
)
from django_multipay.ledger import statements
from django_multipay.messages import IncomingRequest, PaymentSnapshot, Redirect
from django_multipay.models import Payment, Transaction, WebhookDelivery
from django_multipay.models.operation import new_key
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.scripted import (
    HintingProvider,
    ObligingProvider,
    ScriptedProvider,
    account_settings,
    answer_to,
    message,
    new_payment,
)
from tests.flows.test_operation_crash import query_about
from tests.proof.figures import Figures

pytestmark = pytest.mark.django_db

PAID = PaymentStatus.PAID
PART = Money("20.00", "USD")


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(
        scripted=ObligingProvider, hinting=HintingProvider
    )
    cache.clear()


def provider_of(alias: str = "scripted") -> ScriptedProvider:
    provider = registry[alias]
    assert isinstance(provider, ScriptedProvider)
    return provider


def take(incoming: IncomingRequest, alias: str = "scripted") -> None:
    receive_webhook(alias, incoming)


def opened(**changes: Any) -> Payment:
    """A payment whose buyer stands before the provider's page."""
    payment = new_payment(**changes)
    start_payment(payment)
    return payment


def settled() -> Payment:
    """A payment that was paid."""
    payment = opened()
    take(message(payment, PAID))
    payment.refresh_from_db()
    assert payment.status == PAID
    return payment


def authorized() -> Payment:
    """A payment whose money is reserved."""
    payment = opened(capture_mode="manual")
    take(message(payment, PaymentStatus.AUTHORIZED))
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.AUTHORIZED
    return payment


def attempt(step: Callable[[], object]) -> None:
    with contextlib.suppress(MultipayError):
        step()


# Attacks: each returns how much damage it did ----------------------------------------------


def a_message_by_somebody_else() -> int:
    payment = opened()
    take(message(payment, PAID, secret="guessed"))
    payment.refresh_from_db()
    return payment.captured_minor


def a_message_that_does_not_fit(**changes: str) -> int:
    payment = opened()
    take(message(payment, PAID, **changes))
    payment.refresh_from_db()
    return payment.captured_minor


def the_transaction_of_another_order() -> int:
    reference = f"T-{settled().merchant_reference}"
    payment = opened()
    take(message(payment, PAID, reference=reference))
    payment.refresh_from_db()
    return payment.captured_minor


def one_message_twice() -> int:
    payment = settled()
    take(message(payment, PAID))
    return WebhookDelivery.objects.count() - 1


def one_fact_twice() -> int:
    payment = settled()
    # In other words, so that the inbox does not know it.
    take(message(payment, PAID, word="settled"))
    payment.refresh_from_db()
    return payment.captured_minor - payment.amount_minor


def many_hints() -> int:
    payment = opened(provider="hinting")
    for number in range(webhooks.REMOTE_CHECKS_PER_MINUTE + 10):
        hint = message(payment, PAID, word=str(number), provider="hinting")
        take(hint, "hinting")
    return max(
        len(provider_of("hinting").told("fetch")) - webhooks.REMOTE_CHECKS_PER_MINUTE,
        0,
    )


def a_second_refund_while_the_first_is_unknown() -> int:
    payment = settled()
    provider_of().will("refund", OutcomeUnknown("no answer", "scripted", "refund"))
    attempt(lambda: refund_payment(payment, PART))
    attempt(lambda: refund_payment(payment, PART))
    return len(provider_of().told("refund")) - 1


def a_void_while_the_capture_is_unknown() -> int:
    payment = authorized()
    provider_of().will("capture", OutcomeUnknown("no answer", "scripted", "capture"))
    attempt(lambda: capture_payment(payment))
    attempt(lambda: void_payment(payment))
    return len(provider_of().told("void"))


def a_second_worker_during_the_call() -> int:
    payment = authorized()

    def overtaken() -> PaymentSnapshot:
        attempt(
            lambda: operations.resume_operation(payment.operations.get(kind="capture"))
        )
        return answer_to(query_about(payment), PAID)

    provider_of().will("capture", overtaken)
    attempt(lambda: capture_payment(payment))
    return len(provider_of().told("capture")) - 1


def a_second_click_during_the_start() -> int:
    payment = new_payment()

    def overtaken() -> PaymentSnapshot:
        attempt(lambda: start_payment(Payment.objects.get(pk=payment.pk)))
        return PaymentSnapshot(
            status=PaymentStatus.PENDING, next_action=Redirect("https://1.example/")
        )

    provider_of().will("start", overtaken)
    start_payment(payment)
    return len(provider_of().told("start")) - 1


def a_lost_answer_at_a_provider_that_does_the_same_key_twice() -> int:
    payment = settled()
    provider_of().will("refund", OutcomeUnknown("no answer", "scripted", "refund"))
    attempt(lambda: refund_payment(payment, PART))
    let_everything_be_due()
    attempt(lambda: operations.resume_operation(payment.operations.get(kind="refund")))
    return len(provider_of().told("refund")) - 1


def a_lost_answer_that_is_not_asked_about() -> int:
    payment = authorized()
    provider_of().will("capture", OutcomeUnknown("no answer", "scripted", "capture"))
    attempt(lambda: capture_payment(payment))
    provider_of().will("fetch", answer_to(query_about(payment), PAID))
    let_everything_be_due()
    operation = payment.operations.get(kind="capture")
    attempt(lambda: operations.resume_operation(operation))
    return int(operation.state == OperationState.UNKNOWN)


def one_click_twice() -> int:
    payment = settled()
    amount = Money("5.00", "USD")
    for _ in range(2):
        attempt(lambda: refund_payment(payment, amount, idempotency_key="click-1"))
    return len(provider_of().told("refund")) - 1


def an_inquiry_inside_a_transaction() -> int:
    payment = opened()
    with contextlib.suppress(RuntimeError), transaction.atomic():
        sync_payment(payment)
    return len(provider_of().calls_in_a_transaction)


def more_than_was_taken() -> int:
    payment = settled()
    attempt(lambda: refund_payment(payment, payment.amount + PART))
    return len(provider_of().told("refund"))


# Guards, and how each is taken away ----------------------------------------------------------

Patch = pytest.MonkeyPatch


def without_the_signature(patch: Patch) -> None:
    patch.setattr(ScriptedProvider, "verify_webhook", lambda *args: None)


def without_the_comparison(patch: Patch) -> None:
    patch.setattr(ledger, "_mismatch", lambda *args: None)


def without_the_owner_of_a_transaction(patch: Patch) -> None:
    """Whether another payment has it, and the unique column that decides."""
    patch.setattr(ledger, "_is_taken", lambda *args: False)
    patch.setattr(ledger, "_first_reference", lambda *args: None)


def without_the_digest(patch: Patch) -> None:
    patch.setattr(webhooks, "_digest", lambda incoming: new_key())


def without_the_name_of_a_fact(patch: Patch) -> None:
    """Whether it is known, and the unique constraint that has the last word."""
    numbers = itertools.count()

    def insert(row: Model) -> None:
        if isinstance(row, Transaction):
            row.provider_reference = f"X-{next(numbers)}"
        statements.insert(row)

    growth = ledger._growth
    patch.setattr(ledger, "_is_new", lambda *args: True)
    patch.setattr(
        ledger, "_growth", lambda payment, known, *args: growth(payment, (), *args)
    )
    patch.setattr(ledger, "insert", insert)


def without_the_ration(patch: Patch) -> None:
    patch.setattr(webhooks, "_ration", lambda *args: None)


def without_the_reservation(patch: Patch) -> None:
    patch.setattr(ledger, "RESERVING_STATUSES", frozenset())


def without_the_slot(patch: Patch) -> None:
    patch.setattr(ledger, "_slot", lambda *args: None)
    original = ledger.movable_minor
    patch.setattr(
        ledger,
        "movable_minor",
        lambda payment, kind: original(payment, OperationKind.CAPTURE),
    )


def without_the_claim(patch: Patch) -> None:
    def taken(operation: Any, **options: Any) -> bool:
        return True

    def unanswered(operation: Any) -> bool:
        operation.__class__.objects.filter(pk=operation.pk).update(
            state=OperationState.REQUESTED
        )
        return True

    patch.setattr(ledger, "claim_operation", taken)
    patch.setattr(ledger, "expire_lease", unanswered)


def without_the_claim_of_a_start(patch: Patch) -> None:
    patch.setattr(ledger, "_claim", lambda operation: True)


def without_the_doubt(patch: Patch) -> None:
    patch.setattr(operations, "_is_repeatable", lambda operation: True)


def without_the_question(patch: Patch) -> None:
    patch.setattr(operations, "_ask_about", lambda operation: None)


def without_the_key(patch: Patch) -> None:
    patch.setattr(operations, "_client_key", lambda *args: None)


def without_the_refusal(patch: Patch) -> None:
    patch.setattr(sync, "refuse_open_transaction", lambda flow: None)


def without_the_limit(patch: Patch) -> None:
    patch.setattr(
        ledger,
        "_amount_minor",
        lambda payment, intent, *args: money.to_minor(intent.amount),
    )


@dataclass(frozen=True)
class Guard:
    """What is tried, and how to take away what stands in its way."""

    attack: Callable[[], int]
    off: Callable[[Patch], None]


def misfit(**changes: str) -> Guard:
    return Guard(lambda: a_message_that_does_not_fit(**changes), without_the_comparison)


GUARDS: Mapping[str, Guard] = {
    "signature": Guard(a_message_by_somebody_else, without_the_signature),
    "amount": misfit(amount="26.29"),
    "currency": misfit(currency="EUR"),
    "account": misfit(account="shop-2"),
    "order": Guard(
        the_transaction_of_another_order, without_the_owner_of_a_transaction
    ),
    "inbox": Guard(one_message_twice, without_the_digest),
    "fact": Guard(one_fact_twice, without_the_name_of_a_fact),
    "ration": Guard(many_hints, without_the_ration),
    "reservation": Guard(
        a_second_refund_while_the_first_is_unknown, without_the_reservation
    ),
    "slot": Guard(a_void_while_the_capture_is_unknown, without_the_slot),
    "claim": Guard(a_second_worker_during_the_call, without_the_claim),
    "start": Guard(a_second_click_during_the_start, without_the_claim_of_a_start),
    "repetition": Guard(
        a_lost_answer_at_a_provider_that_does_the_same_key_twice, without_the_doubt
    ),
    "inquiry": Guard(a_lost_answer_that_is_not_asked_about, without_the_question),
    "client key": Guard(one_click_twice, without_the_key),
    "transaction": Guard(an_inquiry_inside_a_transaction, without_the_refusal),
    "limit": Guard(more_than_was_taken, without_the_limit),
}


NAMES = [
    # Where a test runs in a transaction, every call is made inside one.
    pytest.param(name, marks=pytest.mark.django_db(transaction=name == "transaction"))
    for name in GUARDS
]


@pytest.mark.parametrize("name", NAMES)
def test_the_guard_holds(name: str) -> None:
    assert GUARDS[name].attack() == 0


@pytest.mark.parametrize("name", NAMES)
def test_twin_without_the_guard_there_is_damage(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    GUARDS[name].off(monkeypatch)
    assert GUARDS[name].attack() > 0


def test_what_nobody_verified_changes_nothing(figures: Figures) -> None:
    """Every word of the provider, by somebody who does not know the secret."""
    payments = [opened() for _ in PaymentStatus]

    def state() -> Sequence[object]:
        rows = Payment.objects.order_by("pk").values_list()
        return [*rows, Transaction.objects.count(), WebhookDelivery.objects.count()]

    before = state()
    for payment, status in itertools.product(payments, PaymentStatus):
        take(message(payment, status, secret="guessed"))
        figures.did("forgeries")
    changed = [row for row in state() if row not in before]
    figures.found("unverified", changed)
