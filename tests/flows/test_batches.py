"""One step for many payments: each by itself, none twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from moneyed import Money

from django_multipay.enums import (
    BatchItemState,
    BatchKind,
    OperationKind,
    PaymentStatus,
)
from django_multipay.exceptions import InvalidOperation, OutcomeUnknown
from django_multipay.flows import refund_payment
from django_multipay.flows.batches import MOST, create_batch, run_batch
from django_multipay.models import Batch, BatchItem, Payment, Refund
from django_multipay.registry import registry
from django_multipay.tasks import carry_out_batch
from tests.flows.scripted import ObligingProvider, SilentProvider, account_settings
from tests.flows.test_operations import payment_that_is

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def provider(settings) -> Any:
    settings.MULTIPAY = account_settings(
        scripted=ObligingProvider, silent=SilentProvider
    )
    return registry["scripted"]


def paid(alias: str = "scripted") -> Payment:
    return payment_that_is(PaymentStatus.PAID, alias=alias)


def states(batch: Batch) -> list[str]:
    return list(batch.items.values_list("state", flat=True))


def test_each_payment_is_refunded_once_however_often_the_batch_runs(provider):
    payments = [paid() for _ in range(3)]
    batch = create_batch(BatchKind.REFUND, payments, by="ann")
    assert run_batch(batch) == 0
    BatchItem.objects.update(state=BatchItemState.WAITING)
    assert run_batch(batch) == 0
    assert len(provider.told("refund")) == Refund.objects.count() == 3
    assert {refund.requested_by for refund in Refund.objects.all()} == {"ann"}


def test_what_one_payment_does_not_allow_leaves_the_others_alone(provider):
    gone = paid()
    refund_payment(gone)
    payments = [gone, paid("silent"), paid()]
    batch = create_batch(BatchKind.REFUND, payments, by="ann")
    run_batch(batch)
    assert states(batch) == [
        BatchItemState.FAILED,
        BatchItemState.FAILED,
        BatchItemState.DONE,
    ]
    notes = list(batch.items.values_list("note", flat=True))
    assert "nothing is left" in notes[0]
    assert "cannot refund" in notes[1]


def test_a_lost_answer_is_reported_and_not_asked_again(provider):
    batch = create_batch(BatchKind.REFUND, [paid()], by="ann")
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    run_batch(batch)
    run_batch(batch)
    assert states(batch) == [BatchItemState.OPEN]
    assert len(provider.told("refund")) == 1


def test_a_bug_in_one_payment_does_not_stop_the_batch(provider):
    batch = create_batch(BatchKind.REFUND, [paid(), paid()], by="ann")
    provider.will("refund", ZeroDivisionError())
    run_batch(batch)
    assert states(batch) == [BatchItemState.FAILED, BatchItemState.DONE]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (BatchKind.CAPTURE, PaymentStatus.AUTHORIZED),
        (BatchKind.VOID, PaymentStatus.AUTHORIZED),
        (BatchKind.CHECK, PaymentStatus.PAID),
    ],
)
def test_every_kind_of_step(provider, kind, status):
    payment = payment_that_is(status)
    batch = create_batch(kind, [payment], by="ann")
    run_batch(batch)
    assert states(batch) == [BatchItemState.DONE]
    if kind != BatchKind.CHECK:
        operation = payment.operations.get(kind=OperationKind(kind.value))
        assert operation.actor == "ann"


def test_a_turn_ends_when_its_time_is_up(provider):
    batch = create_batch(BatchKind.CHECK, [paid(), paid()], by="ann")
    assert run_batch(batch, budget=timedelta()) == 1
    assert run_batch(batch, budget=timedelta()) == 0


def test_a_batch_is_bounded_and_known(provider):
    payment = paid()
    for kind, payments in (
        ("settle", [payment]),
        (BatchKind.CHECK, []),
        (BatchKind.CHECK, [payment] * (MOST + 1)),
    ):
        with pytest.raises(InvalidOperation):
            create_batch(kind, payments, by="ann")
    assert not Batch.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_task_engine_carries_a_batch_out(provider):
    batch = create_batch(BatchKind.REFUND, [paid(), paid()], by="ann")
    carry_out_batch.enqueue(str(batch.uuid))
    assert states(batch) == [BatchItemState.DONE] * 2
    assert all(
        payment.refunded == Money("100.00", "USD") for payment in Payment.objects.all()
    )
