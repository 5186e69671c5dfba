"""What is written without a lock, if nothing was written meanwhile; else with one.

PostgreSQL alone can do it; elsewhere the same tests go the other way, to the same end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import Model
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import (
    OperationState,
    PaymentStatus,
    RefundStatus,
    Source,
    Verdict,
)
from django_multipay.exceptions import InvalidTransition, OutcomeUnknown
from django_multipay.flows import (
    abandon_operation,
    create_endpoint,
    receive_webhook,
    refund_payment,
    start_payment,
)
from django_multipay.flows.operations import refundable
from django_multipay.ledger.statements import Given, Held, can_hold
from django_multipay.messages import (
    DisputeSnapshot,
    IncomingRequest,
    RefundSnapshot,
    WebhookAnswer,
)
from django_multipay.models import (
    EndpointDelivery,
    Notice,
    Operation,
    Payment,
    Refund,
    Transaction,
    WebhookDelivery,
)
from tests.corridor import heard
from tests.flows.scripted import (
    ScriptedProvider,
    message,
    new_payment,
)
from tests.flows.test_crash import assert_sound
from tests.flows.test_operation_races import assert_sums
from tests.test_statements import wait_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)

PAID = PaymentStatus.PAID
CENT = Money("0.01", "USD")


@pytest.fixture(autouse=True)
def provider(obliging: ScriptedProvider) -> ScriptedProvider:
    return obliging


@pytest.fixture
def payment() -> Payment:
    """Its buyer stands before the provider's page."""
    payment = new_payment()
    start_payment(payment)
    return payment


@pytest.fixture
def paid(payment: Payment) -> Payment:
    receive(message(payment, PAID))
    payment.refresh_from_db()
    return payment


def receive(incoming: IncomingRequest) -> WebhookAnswer:
    return receive_webhook("scripted", incoming)


def elsewhere(step: Callable[[], Any]) -> Any:
    """Let another worker do ``step``, now."""

    def run() -> Any:
        try:
            return step()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(20)


def overtake(
    patch: pytest.MonkeyPatch, name: str, step: Callable[[], Any]
) -> list[str]:
    """Let another worker do ``step`` when ``ledger.name`` is called first.

    Returns a list with an entry for each call.
    """
    calls: list[str] = []
    original = getattr(ledger, name)

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == 1:
            elsewhere(step)
        return original(*args, **kwargs)

    patch.setattr(ledger, name, overtaken)
    return calls


def locks_none() -> bool:
    return connection.vendor == "postgresql"


def statements(queries: CaptureQueriesContext) -> int:
    borders = ("BEGIN", "COMMIT", "START", "SET")
    return sum(not one["sql"].startswith(borders) for one in queries)


# A message ------------------------------------------------------------------------------


def test_a_first_message_is_two_statements_and_one_that_says_it_was_told(
    payment: Payment,
) -> None:
    Payment.objects.update(provider_reference=f"T-{payment.merchant_reference}")
    with CaptureQueriesContext(connection) as queries:
        receive(message(payment, PAID))
    # Elsewhere: look, lock; fact, payment, notice, inbox; endpoints, told.
    assert statements(queries) == (3 if locks_none() else 8)
    assert_sound()


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (PAID, {}),
        (PaymentStatus.FAILED, {}),
        (PaymentStatus.PENDING, {}),
        (PAID, {"amount": "1.00"}),
        (PAID, {"currency": "EUR"}),
        (PAID, {"account": "another"}),
    ],
    ids=str,
)
def test_it_writes_what_a_lock_would_have_written(
    monkeypatch: pytest.MonkeyPatch, status: PaymentStatus, changes: dict[str, str]
) -> None:
    said = []
    for is_able in (True, False):
        payment = new_payment()
        start_payment(payment)
        with monkeypatch.context() as patch, heard() as signals:
            if not is_able:
                patch.setattr(ledger, "can_hold", lambda *_models: False)
            receive(message(payment, status, **changes))
        rows: list[Model] = [
            Payment.objects.get(pk=payment.pk),
            *Transaction.objects.filter(payment=payment),
            *Notice.objects.filter(payment=payment),
            *WebhookDelivery.objects.filter(payment=payment),
        ]
        said.append(
            (
                [name for name, *_ in signals],
                [type(row).__name__ for row in rows],
                [columns(row) for row in rows],
            )
        )
        payment.refresh_from_db()
        assert (payment.captured_minor == 2630) == (status == PAID and not changes)
        assert bool(payment.review_reason) == bool(changes)
    assert said[0] == said[1]


def columns(row: Model) -> dict[str, Any]:
    """What ``row`` says, but for what is another's with every payment."""
    unlike = {"id", "uuid", "digest", "body", "payload", "detail", "next_action"}
    return {
        name: value
        for field in row._meta.concrete_fields
        if not (name := field.attname).endswith(("_id", "_at", "reference"))
        and name not in unlike
        for value in [getattr(row, name)]
    }


@pytest.mark.parametrize(
    "change", [{"description": "by hand"}, {"metadata": {"gift": True}}], ids=str
)
def test_what_was_written_meanwhile_is_kept(
    payment: Payment, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Even by hand, which leaves no trace but the row's version."""
    by_hand = Payment.objects.filter(pk=payment.pk)
    calls = overtake(monkeypatch, "_facts", lambda: by_hand.update(**change))
    if not locks_none():
        # The row is locked then, and whoever writes by hand waits.
        monkeypatch.undo()
        by_hand.update(**change)
        calls += ["", ""]
    assert receive(message(payment, PAID)).status == 200
    assert len(calls) == 2
    payment.refresh_from_db()
    assert {name: getattr(payment, name) for name in change} == change
    assert (payment.status, payment.captured_minor) == (PAID, 2630)
    assert Transaction.objects.count() == Notice.objects.count() == 1
    assert WebhookDelivery.objects.get().verdict == Verdict.APPLIED
    assert_sound()


def test_a_failure_that_overtakes_the_money_is_not_forgotten(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = message(payment, PaymentStatus.FAILED, reference="F-1")
    if locks_none():
        overtake(monkeypatch, "_facts", lambda: receive(failure))
    else:
        receive(failure)
    receive(message(payment, PAID))
    payment.refresh_from_db()
    assert (payment.status, payment.captured_minor) == (PAID, 2630)
    kinds = payment.transactions.order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["failure", "capture"]
    assert WebhookDelivery.objects.filter(verdict=Verdict.APPLIED).count() == 2
    assert_sound()


def test_the_same_message_that_overtakes_itself_is_one(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with heard() as signals:
        if locks_none():
            again = lambda: receive(message(payment, PAID))  # noqa: E731
            overtake(monkeypatch, "_facts", again)
        else:
            receive(message(payment, PAID))
        assert receive(message(payment, PAID)).status == 200
    assert [name for name, *_ in signals] == ["payment_status_changed", "payment_paid"]
    assert Transaction.objects.count() == Notice.objects.count() == 1
    assert WebhookDelivery.objects.count() == 1
    assert_sound()


def test_a_shop_that_hears_save_signals_hears_them_in_the_transaction(
    payment: Payment,
) -> None:
    seen: list[bool] = []

    def receiver(**_said: Any) -> None:
        seen.append(connection.in_atomic_block)
        raise RuntimeError("the shop's own row could not be written")

    post_save.connect(receiver, sender=Notice)
    try:
        receive(message(payment, PAID))
    finally:
        post_save.disconnect(receiver, sender=Notice)
    assert seen
    assert all(seen)
    assert not Notice.objects.exists()
    assert not Transaction.objects.exists()


# Who hears of it ------------------------------------------------------------------------


def test_an_endpoint_that_is_enabled_before_it_is_written_hears_of_it(
    payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    enable = lambda: create_endpoint("https://erp.example/hook")  # noqa: E731
    if locks_none():
        overtake(monkeypatch, "_facts", enable)
    else:
        enable()
    receive(message(payment, PAID))
    told = EndpointDelivery.objects.values_list("event_type", flat=True)
    assert "payment.paid" in told


def test_both_halves_of_a_refund_are_heard_of_by_who_is_there(
    paid: Payment, provider: ScriptedProvider
) -> None:
    def answer() -> RefundSnapshot:
        elsewhere(lambda: create_endpoint("https://erp.example/hook"))
        return RefundSnapshot(status=RefundStatus.SUCCEEDED, provider_reference="R")

    provider.will("refund", answer)
    refund_payment(paid)
    told = EndpointDelivery.objects.values_list("event_type", flat=True)
    assert "payment.refunded" in told


# A refund -------------------------------------------------------------------------------


def test_a_refund_is_five_statements(paid: Payment, provider: ScriptedProvider) -> None:
    with CaptureQueriesContext(connection) as queries:
        refund_payment(paid)
    # Payment and facts, what is written ahead; what came of it; told.
    assert statements(queries) == (5 if locks_none() else 17)
    assert provider.calls_in_a_transaction == []
    assert Refund.objects.get().status == RefundStatus.SUCCEEDED
    assert_sums(paid, 2630, 2630)


def test_a_refund_goes_by_what_is_stored_not_by_what_the_shop_holds(
    paid: Payment, provider: ScriptedProvider
) -> None:
    shops = Payment.objects.get(pk=paid.pk)
    refund_payment(paid, Money("20.00", "USD"))
    shops.captured_minor = 9999
    refund = refund_payment(shops)
    assert refund.amount == Money("6.30", "USD")
    assert refund.payment is shops
    assert (shops.captured_minor, shops.refunded_minor) == (2630, 2630)
    assert [one.amount for one in provider.told("refund")] == [
        Money("20.00", "USD"),
        Money("6.30", "USD"),
    ]
    assert_sums(paid, 2630, 2630)


def test_a_refund_that_was_overtaken_by_another_is_refused(
    paid: Payment, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops = Payment.objects.get(pk=paid.pk)
    if locks_none():
        overtake(monkeypatch, "_reserve", lambda: refund_payment(shops))
    else:
        refund_payment(shops)
    with pytest.raises(InvalidTransition, match="nothing is left"):
        refund_payment(paid)
    assert len(provider.told("refund")) == Refund.objects.count() == 1
    assert_sums(paid, 2630, 2630)


def test_twin_without_the_version_it_is_sent_twice(
    paid: Payment, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not locks_none():
        assert not can_hold(Payment)
        return
    careless = Held(
        Payment.objects.order_by().filter(pk=Given("pk")),
        has_endpoints=ledger._HAS_ENDPOINTS,
    )
    monkeypatch.setattr(ledger, "_UNCHANGED", careless)
    shops = Payment.objects.get(pk=paid.pk)
    overtake(monkeypatch, "_reserve", lambda: refund_payment(shops))
    refund_payment(paid)
    assert len(provider.told("refund")) == 2


def dispute(payment: Payment) -> None:
    """The buyer's bank takes all but a cent back."""
    ledger.apply_dispute(
        payment.pk,
        DisputeSnapshot(reference="D-1", amount=payment.amount - CENT),
        source=Source.WEBHOOK,
    )


def test_a_refund_that_was_overtaken_by_a_chargeback_leaves_that_alone(
    paid: Payment, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    if locks_none():
        overtake(monkeypatch, "_reserve", lambda: dispute(paid))
    else:
        dispute(paid)
    refund_payment(Payment.objects.get(pk=paid.pk))
    (sent,) = provider.told("refund")
    assert sent.amount == CENT
    assert_sums(paid, 2630, 1)


def test_a_chargeback_during_the_call_is_not_forgotten(
    paid: Payment, provider: ScriptedProvider
) -> None:
    def answer() -> RefundSnapshot:
        elsewhere(lambda: dispute(paid))
        return RefundSnapshot(status=RefundStatus.SUCCEEDED, provider_reference="R")

    provider.will("refund", answer)
    refund = refund_payment(paid, Money("6.30", "USD"))
    assert refund.status == RefundStatus.SUCCEEDED
    fresh = Payment.objects.get(pk=paid.pk)
    assert fresh.refunded_minor == 630
    assert fresh.review_reason
    kinds = fresh.transactions.order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["capture", "chargeback", "refund"]


@pytest.mark.parametrize("status", [RefundStatus.PENDING, RefundStatus.SUCCEEDED])
def test_a_message_about_the_refund_during_its_call_is_counted_once(
    paid: Payment, provider: ScriptedProvider, status: RefundStatus
) -> None:
    def answer() -> RefundSnapshot:
        refund = Refund.objects.get()
        said = RefundSnapshot(
            status=status,
            provider_reference="R-1",
            merchant_reference=refund.merchant_reference,
        )
        elsewhere(lambda: ledger.apply_refund(paid.pk, said, source=Source.WEBHOOK))
        return RefundSnapshot(status=RefundStatus.SUCCEEDED, provider_reference="R-1")

    provider.will("refund", answer)
    refund = refund_payment(paid, Money("6.30", "USD"))
    assert refund.status == Refund.objects.get().status == RefundStatus.SUCCEEDED
    assert Payment.objects.get().refunded_minor == 630
    assert Transaction.objects.filter(kind="refund").count() == 1
    assert Operation.objects.filter(kind="refund").get().state == (
        OperationState.SUCCEEDED
    )


def test_a_refund_that_is_in_transit_after_all_reserves_its_money_at_once(
    paid: Payment, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(paid)
    abandon_operation(Operation.objects.get(kind="refund"), by="staff")
    first = Refund.objects.get()
    said = RefundSnapshot(
        status=RefundStatus.PENDING,
        provider_reference="R-1",
        merchant_reference=first.merchant_reference,
    )

    def tell() -> None:
        ledger.apply_refund(paid.pk, said, source=Source.WEBHOOK)

    if locks_none():
        overtake(monkeypatch, "_reserve", tell)
    else:
        tell()
    with pytest.raises(InvalidTransition, match="nothing is left"):
        refund_payment(paid)
    assert len(provider.told("refund")) == 1
    assert refundable(Payment.objects.get()) == Money(0, "USD")


def test_a_refund_that_had_to_wait_is_ours_for_the_whole_lease(
    paid: Payment, provider: ScriptedProvider
) -> None:
    """Whoever holds the payment keeps it waiting, but takes nothing of its time."""
    is_locked, released = threading.Event(), []

    def hold() -> None:
        with transaction.atomic():
            Payment.objects.select_for_update().get(pk=paid.pk)
            is_locked.set()
            if locks_none():
                elsewhere(wait_for_a_lock)
            released.append(timezone.now())

    def answer() -> RefundSnapshot:
        (lease,) = Operation.objects.filter(kind="refund").values_list(
            "lease_until", flat=True
        )
        assert lease is not None
        assert lease >= released[0] + ledger.LEASE
        return RefundSnapshot(status=RefundStatus.SUCCEEDED, provider_reference="R")

    provider.will("refund", answer)
    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(lambda: elsewhere(hold))
        assert is_locked.wait(20)
        assert refund_payment(paid).status == RefundStatus.SUCCEEDED
        holder.result(20)
