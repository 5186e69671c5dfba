"""The providers' view and ours are compared, and nothing is written."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from moneyed import Money

from django_multipay.enums import Drift, PaymentStatus
from django_multipay.exceptions import ProviderUnavailable
from django_multipay.flows import drift_report, start_payment
from django_multipay.ledger import claims
from django_multipay.models import Payment
from django_multipay.registry import registry
from tests.corridor import everything
from tests.flows.scripted import (
    ScriptedProvider,
    SilentProvider,
    account_settings,
    new_payment,
    snapshot_of,
)
from tests.flows.test_operations import payment_that_is
from tests.flows.test_reconcile_shared import MeetingProvider

pytestmark = pytest.mark.django_db


def found(**options: Any) -> list[tuple[Drift, str, str, str]]:
    """What one comparison found; it has written nothing."""
    before = everything()
    report = drift_report(**options)
    assert everything() == before
    assert report.errors == 0
    return [(one.kind, one.field, one.ours, one.theirs) for one in report.differences]


@pytest.fixture
def provider(scripted: ScriptedProvider) -> ScriptedProvider:
    return scripted


def started() -> Payment:
    payment = new_payment()
    start_payment(payment)
    return payment


def test_where_both_agree_there_is_no_drift(provider):
    payment = payment_that_is(PaymentStatus.PAID)
    provider.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    assert found() == []


def test_money_that_only_the_provider_knows(provider):
    payment = started()
    provider.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    assert found() == [(Drift.ONLY_THEIRS, "captured", "0.00 USD", "26.30 USD")]


@pytest.mark.parametrize("status", [PaymentStatus.PENDING, PaymentStatus.FAILED])
def test_money_that_only_we_know(provider, status):
    payment = payment_that_is(PaymentStatus.PAID)
    provider.will("fetch", snapshot_of(payment, status))
    assert found() == [(Drift.ONLY_OURS, "captured", "100.00 USD", "0.00 USD")]


def test_another_sum_than_ours(provider):
    payment = payment_that_is(PaymentStatus.PAID)
    less = Money("20.00", "USD")
    provider.will("fetch", snapshot_of(payment, PaymentStatus.PAID, captured=less))
    assert found() == [(Drift.AMOUNTS_DIFFER, "captured", "100.00 USD", "20.00 USD")]


def test_another_amount_and_another_currency_than_we_asked_for(provider):
    payment = started()
    other = Money("26.30", "EUR")
    provider.will("fetch", snapshot_of(payment, PaymentStatus.PENDING, amount=other))
    assert found() == [(Drift.AMOUNTS_DIFFER, "amount", "26.30 USD", "26.30 EUR")]


def test_a_refund_at_the_providers_console(provider):
    payment = payment_that_is(PaymentStatus.PAID)
    back = snapshot_of(
        payment, PaymentStatus.PARTIALLY_REFUNDED, refunded=Money("5.00", "USD")
    )
    provider.will("fetch", back)
    assert found() == [(Drift.ONLY_THEIRS, "refunded", "0.00 USD", "5.00 USD")]


def test_a_payment_that_was_never_opened_is_not_asked_about(provider):
    new_payment()
    assert found() == []
    assert provider.told("fetch") == []


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [(2, 0, 1), (None, 0, 0), (3, 2, 0), (None, None, 0)],
)
def test_only_the_payments_of_the_span_are_compared(provider, since, until, expected):
    now = timezone.now()
    started()
    Payment.objects.update(created_at=now - timedelta(days=1, hours=1))
    report = drift_report(
        since=since and now - timedelta(days=since),
        until=None if until is None else now - timedelta(days=until),
    )
    assert report.compared == expected


def test_who_cannot_be_asked_and_who_does_not_answer_is_said(settings):
    settings.MULTIPAY = account_settings(scripted=ScriptedProvider, mute=SilentProvider)
    start_payment(new_payment(provider="mute"))
    payment = started()
    registry["scripted"].will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    report = drift_report()
    assert (report.compared, report.unasked, report.errors) == (0, 1, 1)
    assert str(payment.uuid) in report.problems[0]


def test_more_payments_than_fit_into_memory_at_once_are_all_compared(
    provider, monkeypatch
):
    monkeypatch.setattr(claims, "CHUNK", 2)
    for _ in range(5):
        started()
    seen = []
    report = drift_report(progress=lambda done, total: seen.append((done, total)))
    assert report.compared == 5
    assert seen[-1] == (5, 5)
    assert len(provider.told("fetch")) == 5


class MeetingInPairs(MeetingProvider):
    """Answers two inquiries at a time, and counts how many are under way."""

    meeting = threading.Barrier(2)


def test_no_more_inquiries_of_an_account_are_under_way_than_the_site_allows(settings):
    settings.MULTIPAY = {
        **account_settings(scripted=MeetingInPairs, other=ScriptedProvider),
        "CONCURRENCY": 2,
    }
    for _ in range(6):
        started()
    report = drift_report()
    assert (report.compared, report.errors) == (6, 0)
    assert MeetingInPairs.most == 2
