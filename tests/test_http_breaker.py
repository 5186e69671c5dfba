"""An account that fails again and again is left alone for a while, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pytest_django import Settings

from django_multipay import http, signals
from django_multipay.enums import OperationState, PaymentStatus, RefundStatus
from django_multipay.exceptions import (
    CredentialsRejected,
    OutcomeUnknown,
    ProviderUnavailable,
)
from django_multipay.flows import reconcile, refund_payment
from django_multipay.http import MOST_FAILURES, Breaker, HttpClient
from django_multipay.messages import Health, HttpRequest, HttpResponse
from django_multipay.models import AccountHealth
from django_multipay.registry import registry
from tests.corridor import let_everything_be_due
from tests.flows.scripted import ObligingProvider, account_settings
from tests.flows.test_operations import payment_that_is

READ = HttpRequest(
    method="GET", url="https://provider.example/", operation="fetch", is_read=True
)
WRITE = HttpRequest(
    method="POST", url="https://provider.example/", operation="refund", is_read=False
)

Answer = int | Exception


class Wire:
    """What comes back, one after the other; the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[Answer] = [200]
        self.sent = 0
        monkeypatch.setattr(HttpClient, "_send", self._send)

    def _send(self, request: HttpRequest, prepared: object) -> HttpResponse:
        self.sent += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return HttpResponse(status=answer, headers={}, body=b"{}")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.fixture
def client() -> HttpClient:
    return HttpClient("cards", breaker=Breaker("cards"))


@pytest.fixture
def news() -> Iterator[list[Health]]:
    """What is told to those who listen for accounts; nothing is written down."""
    heard: list[Health] = []

    def hear(provider: str, health: Health, **details: object) -> None:
        assert provider == "cards"
        heard.append(health)

    receivers = signals.account_health_changed.receivers
    signals.account_health_changed.receivers = []
    signals.account_health_changed.connect(hear)
    yield heard
    signals.account_health_changed.receivers = receivers


LOST = OutcomeUnknown("lost", "cards", "refund")
UNSENT = ProviderUnavailable("not sent", "cards", "fetch")


def fail(client: HttpClient, wire: Wire, answer: Answer, times: int) -> None:
    wire.answers = [answer]
    for _ in range(times):
        if isinstance(answer, int):
            client.send(READ)
        else:
            with pytest.raises(type(answer)):
                client.send(WRITE)


@pytest.mark.parametrize("answer", [LOST, UNSENT, 500, 503, 401, 403])
@pytest.mark.usefixtures("news")
def test_after_many_failures_in_a_row_nothing_is_sent(client, wire, answer):
    fail(client, wire, answer, MOST_FAILURES - 1)
    assert not client.breaker.is_paused
    fail(client, wire, answer, 1)
    assert client.breaker.is_paused
    with pytest.raises(ProviderUnavailable, match="nothing was sent") as caught:
        client.send(WRITE)
    assert 0 < caught.value.retry_after <= http.PAUSES[0].total_seconds()
    assert wire.sent == MOST_FAILURES


@pytest.mark.parametrize("answer", [200, 400, 404, 429])
@pytest.mark.usefixtures("news")
def test_an_answer_ends_the_row(client, wire, answer):
    for _ in range(3):
        fail(client, wire, 500, MOST_FAILURES - 1)
        fail(client, wire, answer, 1)
    assert not client.breaker.is_paused
    assert client.breaker.health.failures == 0


@pytest.mark.usefixtures("news")
def test_without_a_breaker_every_call_is_sent(wire):
    plain = HttpClient("cards")
    fail(plain, wire, LOST, 3 * MOST_FAILURES)
    assert wire.sent == 3 * MOST_FAILURES


def test_after_the_pause_one_call_tries_and_the_others_wait_for_it(
    client, wire, news, monkeypatch
):
    monkeypatch.setattr(http, "PAUSES", (timedelta(0),))
    fail(client, wire, UNSENT, MOST_FAILURES)
    refused: list[str] = []

    def meanwhile(*arguments: Any) -> HttpResponse:
        with pytest.raises(ProviderUnavailable) as caught:
            client.breaker.enter(READ, client.limits)
        refused.append(str(caught.value))
        return HttpResponse(status=200, headers={}, body=b"")

    monkeypatch.setattr(HttpClient, "_send", meanwhile)
    assert client.send(READ).status == 200
    assert len(refused) == 1
    assert not client.breaker.is_paused
    assert [bool(health.paused_until) for health in news] == [True, False]


@pytest.mark.usefixtures("news")
def test_each_attempt_in_vain_makes_the_pause_longer(client, wire, monkeypatch):
    waits = []
    fail(client, wire, UNSENT, MOST_FAILURES)
    for _ in range(5):
        health = client.breaker.health
        waits.append(round((health.paused_until - health.failed_at).total_seconds()))
        client.breaker._until_ns = 0
        fail(client, wire, UNSENT, 1)
    assert waits == [15, 30, 60, 120, 120]


def test_credentials_that_are_refused_are_told_at_once_and_once(client, wire, news):
    fail(client, wire, 401, 3)
    assert [health.is_refused for health in news] == [True]
    assert news[0].failure == CredentialsRejected.__name__
    fail(client, wire, 200, 1)
    assert [health.is_refused for health in news] == [True, False]


@pytest.mark.django_db
def test_what_is_seen_is_written_down_for_the_admin(client, wire, admin_client):
    fail(client, wire, 401, 1)
    row = AccountHealth.objects.get(provider="cards")
    assert (row.is_refused, row.failures) == (True, 1)
    page = admin_client.get("/admin/multipay/accounthealth/").content.decode()
    assert "credentials refused" in page
    overview = admin_client.get("/admin/multipay/payment/overview/").content.decode()
    assert "refuse our credentials" in overview
    fail(client, wire, 200, 1)
    row.refresh_from_db()
    assert (row.is_refused, row.failures) == (False, 0)
    assert row.succeeded_at is not None


@pytest.mark.django_db(transaction=True)
def test_a_pause_leaves_what_is_unknown_unknown(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(scripted=ObligingProvider)
    payment = payment_that_is(PaymentStatus.PAID)
    provider = registry["scripted"]
    assert isinstance(provider, ObligingProvider)
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment)
    breaker = provider.http.breaker
    assert breaker is not None
    for _ in range(MOST_FAILURES):
        breaker.note("OutcomeUnknown")
    let_everything_be_due()
    report = reconcile()
    assert report.paused == ("scripted",)
    refund = payment.refunds.get()
    assert refund.status == RefundStatus.UNKNOWN
    assert refund.operations.get().state == OperationState.UNKNOWN
    assert len(provider.told("refund")) == 1
