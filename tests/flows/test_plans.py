"""Plans that this site charges, and what every plan has in common."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import hypothesis
import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger, recurrence
from django_multipay.enums import (
    Capability,
    DeclineCode,
    OperationKind,
    OperationState,
    PaymentStatus,
    PlanManager,
    PlanStatus,
    Source,
    TokenStatus,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidAmount,
    InvalidOperation,
    InvalidTransition,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    UnsupportedOperation,
)
from django_multipay.flows import (
    cancel_plan,
    change_plan,
    charge_due_plans,
    charge_plan,
    create_plan,
    deliver_notices,
    pause_plan,
    reconcile,
    recovery_payment,
    resume_plan,
    start_payment,
    sync_plan,
)
from django_multipay.flows.guards import account_of
from django_multipay.ledger import plans
from django_multipay.messages import (
    Buyer,
    Decline,
    PaymentSnapshot,
    PlanCancelRequest,
    PlanChangeRequest,
    PlanSnapshot,
    Redirect,
    TokenChargeRequest,
    TokenSnapshot,
)
from django_multipay.models import Notice, Operation, Payment, RecurringPlan, Token
from django_multipay.registry import registry
from django_multipay.tasks import charge_due
from tests.corridor import let_everything_be_due
from tests.flows.scripted import (
    ACCOUNT,
    ScriptedProvider,
    account_settings,
    snapshot_of,
)

pytestmark = pytest.mark.django_db

PRICE = Money("9.90", "USD")
LIVES = 100 if os.environ.get("MULTIPAY_PROOF") == "full" else 8
PAID, FAILED, PENDING = PaymentStatus.PAID, PaymentStatus.FAILED, PaymentStatus.PENDING
Listen = Callable[..., list[dict[str, Any]]]


class ChargingProvider(ScriptedProvider):
    """It charges saved methods, and every charge succeeds unless the script differs."""

    capabilities = frozenset({Capability.FETCH, Capability.TOKENS})

    def charge_token(self, request: TokenChargeRequest) -> PaymentSnapshot:
        """Take the money."""
        answer = self._answer("charge", request, PaymentSnapshot(status=PAID))
        return dataclasses.replace(
            answer,
            provider_reference=f"T-{request.merchant_reference}",
            merchant_reference=request.merchant_reference,
            account=ACCOUNT,
            amount=request.amount,
        )


class PlanningProvider(ChargingProvider):
    """It charges plans by itself, too; its plans can be asked about and changed."""

    capabilities = ChargingProvider.capabilities | {
        Capability.PLANS,
        Capability.FETCH_PLAN,
        Capability.CHANGE_PLAN,
        Capability.CANCEL_PLAN,
    }

    def start_plan(self, request: Any) -> PaymentSnapshot:
        """Send the buyer to a page of ours."""
        page = Redirect(f"https://provider.example/plan/{request.merchant_reference}")
        default = PaymentSnapshot(status=PENDING, next_action=page)
        return self._answer("start_plan", request, default)

    def fetch_plan(self, reference: str) -> PlanSnapshot:
        """It is alive, unless the script says otherwise."""
        default = PlanSnapshot(reference=reference, status=PlanStatus.ACTIVE)
        return self._answer("fetch_plan", reference, default)

    def change_plan(self, request: PlanChangeRequest) -> PlanSnapshot:
        """Say that it was changed."""
        default = PlanSnapshot(
            reference=request.provider_reference, status=PlanStatus.ACTIVE
        )
        return self._answer("change_plan", request, default)

    def cancel_plan(self, request: PlanCancelRequest) -> PlanSnapshot:
        """Say that it was, or will be, ended."""
        status = PlanStatus.ACTIVE if request.at_period_end else PlanStatus.CANCELED
        default = PlanSnapshot(reference=request.provider_reference, status=status)
        return self._answer("cancel_plan", request, default)


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(
        scripted=ChargingProvider, planning=PlanningProvider, other=ChargingProvider
    )


@pytest.fixture
def provider() -> ChargingProvider:
    found = registry["scripted"]
    assert isinstance(found, ChargingProvider)
    return found


@pytest.fixture
def planner() -> PlanningProvider:
    found = registry["planning"]
    assert isinstance(found, PlanningProvider)
    return found


def today() -> date:
    return timezone.localdate()


def new_token(alias: str = "scripted", customer_id: str = "c-7") -> Token:
    return Token.objects.create(
        provider=alias,
        customer_id=customer_id,
        provider_token=f"tok-{customer_id}",
        token_digest=f"{alias}{customer_id}{Token.objects.count()}",
    )


def new_plan(**changes: Any) -> RecurringPlan:
    """A plan over 9.90 USD a month that this site charges, from today on."""
    values: dict[str, Any] = {
        "provider": "scripted",
        "customer_id": "c-7",
        "amount": PRICE,
        "order_id": "P-1",
        "start_on": today(),
        "buyer": Buyer(name="Hong Gil Dong", email="buyer@example.com"),
        "managed_by": PlanManager.APP,
    }
    if "token" not in changes and changes.get("managed_by") != PlanManager.PROVIDER:
        values["token"] = new_token(changes.get("provider", "scripted"))
    return create_plan(**values | changes)


def moment(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def run_on(day: date, **more: Any) -> Any:
    return charge_due_plans(now=moment(day), **more)


def declined(code: DeclineCode) -> PaymentSnapshot:
    return PaymentSnapshot(status=FAILED, decline=Decline(code=code))


def tell(payment: Payment, snapshot: PaymentSnapshot) -> None:
    """Let the provider's answer to an inquiry arrive."""
    provider = registry[payment.provider]
    verdict = ledger.apply_snapshot(
        payment.pk, snapshot, account=account_of(provider), source=Source.SYNC
    )
    plans.hear(payment, snapshot, verdict)
    deliver_notices()
    payment.refresh_from_db()


def pay_in_person(payment: Payment, token: str = "tok-new") -> None:
    """Let the buyer pay ``payment`` on its page and save what they paid with."""
    start_payment(payment)
    snapshot = snapshot_of(payment, PAID, token=TokenSnapshot(reference=token))
    tell(payment, snapshot)


def names(heard: list[dict[str, Any]]) -> list[str]:
    return [news["name"] for news in heard]


# Days ---------------------------------------------------------------------------------

DAYS = st.dates(min_value=date(2020, 1, 1), max_value=date(2100, 12, 31))


@given(start=DAYS, interval=st.integers(1, 24), number=st.integers(0, 240))
def test_due_dates_keep_their_day_and_every_period_has_one(
    start: date, interval: int, number: int
) -> None:
    due = recurrence.due_date(start, number * interval)
    following = recurrence.due_date(start, (number + 1) * interval)
    months = (due.year - start.year) * 12 + due.month - start.month
    assert months == number * interval
    assert due < following
    is_month_end = (due + timedelta(days=1)).month != due.month
    assert due.day == start.day or (due.day < start.day and is_month_end)
    at = recurrence.period_at
    assert at(start, interval, due) == number
    assert at(start, interval, following - timedelta(days=1)) == number
    assert at(start, interval, start - timedelta(days=1)) == -1


def test_the_31st_is_the_last_day_of_a_short_month_and_the_31st_again() -> None:
    days = [recurrence.due_date(date(2024, 1, 31), n) for n in range(4)]
    assert [day.day for day in days] == [31, 29, 31, 30]
    leap = [recurrence.due_date(date(2024, 2, 29), 12 * n) for n in (1, 4)]
    assert leap == [date(2025, 2, 28), date(2028, 2, 29)]
    with pytest.raises(OverflowError):
        recurrence.due_date(date(9999, 1, 1), 12)


def test_the_zone_of_the_site_says_which_day_it_is(settings: Settings) -> None:
    plan = new_plan(start_on=today() + timedelta(days=2))
    late = datetime.combine(plan.start_on, datetime.min.time(), UTC) - timedelta(
        hours=1
    )
    assert charge_due_plans(now=late).charged == 0
    settings.TIME_ZONE = "Asia/Seoul"
    assert charge_due_plans(now=late).charged == 1


# The beginning ------------------------------------------------------------------------


def test_the_buyer_pays_the_first_period_and_leaves_a_method(
    provider: ChargingProvider, listen: Listen
) -> None:
    heard = listen("plan_status_changed", "plan_charged", "payment_paid")
    plan = new_plan(token=None)
    first = plan.first_payment
    assert first is not None
    assert (plan.status, plan.next_on, first.save_token) == ("pending", None, True)
    assert run_on(today()).plans == 0
    pay_in_person(first)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ACTIVE
    assert plan.next_on == recurrence.due_date(today(), 1)
    assert plan.token is not None
    assert plan.token.created_by_payment == first
    assert names(heard).count("plan_charged") == 1
    assert heard[-1]["plan"] == plan
    assert {news["payment"] for news in heard} == {first, None}

    due_on = plan.due_on
    assert run_on(due_on).charged == 1
    (request,) = provider.told("charge")
    assert request.token == "tok-new"
    assert request.buyer.email == "buyer@example.com"
    second = plan.payments.get(plan_due_on=due_on)
    assert (second.status, second.order_id, second.amount) == (PAID, "P-1", PRICE)


def test_a_method_that_comes_after_the_money_is_still_taken(
    provider: ChargingProvider,
) -> None:
    plan = new_plan(token=None)
    first = plan.first_payment
    assert first is not None
    start_payment(first)
    tell(first, snapshot_of(first, PAID))
    plan.refresh_from_db()
    assert (plan.status, plan.token) == (PlanStatus.ACTIVE, None)
    assert plan.last_error
    tell(first, snapshot_of(first, PAID, token=TokenSnapshot(reference="tok-late")))
    plan.refresh_from_db()
    assert plan.token is not None
    assert plan.last_error == ""


def test_with_a_token_the_first_charge_is_made_on_the_first_day() -> None:
    plan = new_plan(start_on=today() + timedelta(days=3))
    assert plan.first_payment is None
    assert run_on(today()).plans == 0
    assert run_on(plan.start_on).charged == 1
    plan.refresh_from_db()
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)


def test_a_long_description_is_cut_to_what_a_column_holds() -> None:
    assert new_plan(description="x" * 300).description == "x" * 255


@pytest.mark.parametrize(
    ("wishes", "error"),
    [
        ({"amount": Money("0", "USD")}, InvalidAmount),
        ({"customer_id": ""}, InvalidOperation),
        ({"order_id": ""}, InvalidOperation),
        ({"order_id": "x" * 65}, InvalidOperation),
        ({"interval_months": 0}, InvalidOperation),
        ({"interval_months": True}, InvalidOperation),
        ({"start_on": datetime(2100, 1, 1, tzinfo=UTC)}, InvalidOperation),
        ({"start_on": date(2020, 1, 1)}, InvalidOperation),
        ({"start_on": date(2100, 1, 2), "ends_on": date(2100, 1, 2)}, InvalidOperation),
        ({"managed_by": "nobody"}, InvalidOperation),
        ({"managed_by": PlanManager.PROVIDER, "token": None}, UnsupportedOperation),
        ({"provider": "other"}, InvalidOperation),
    ],
)
def test_what_cannot_be_a_plan_is_refused_before_anything_is_written(
    wishes: dict[str, Any], error: type[Exception]
) -> None:
    token = new_token()
    with pytest.raises(error):
        new_plan(**{"token": token} | wishes)
    assert not RecurringPlan.objects.exists()
    assert not Payment.objects.exists()


def test_a_plan_joins_the_transaction_of_its_caller() -> None:
    with transaction.atomic():
        new_plan(token=None)
        assert RecurringPlan.objects.exists()
        transaction.set_rollback(True)
    assert not RecurringPlan.objects.exists()


# One charge for each period -----------------------------------------------------------


@given(
    start=st.dates(min_value=date(2026, 12, 1), max_value=date(2100, 12, 31)),
    interval=st.integers(1, 13),
    waits=st.lists(st.integers(0, 70), max_size=4),
    catch_up=st.booleans(),
)
@example(start=date(2028, 1, 31), interval=1, waits=[0, 30, 1, 60], catch_up=False)
@hypothesis.settings(max_examples=LIVES, deadline=None)
def test_however_the_runs_fall_each_period_that_began_is_charged_once_in_order(
    start: date, interval: int, waits: list[int], catch_up: bool
) -> None:
    # Those of earlier examples.
    RecurringPlan.objects.update(status=PlanStatus.ENDED)
    plan = new_plan(start_on=start, interval_months=interval)
    day = start - timedelta(days=1)
    run_on(day, catch_up=catch_up)
    assert not plan.payments.exists()
    for wait in waits:
        day += timedelta(days=wait)
        run_on(day, catch_up=catch_up)
    # Whoever comes late is caught up with, and not ahead of time.
    began = max(0, recurrence.period_at(start, interval, day) + 1)
    for number in range(began + 1):
        run_on(day + timedelta(days=0 if catch_up else number), catch_up=catch_up)
    days = plan.payments.order_by("pk").values_list("plan_due_on", flat=True)
    due = [recurrence.due_date(start, n * interval) for n in range(len(days))]
    assert [*days] == due
    assert len(due) >= began
    assert all(one <= day + timedelta(days=began) for one in due)
    assert not plan.payments.exclude(status=PAID).exists()


def test_a_year_is_charged_twelve_times_however_often_it_is_asked(
    provider: ChargingProvider, listen: Listen
) -> None:
    heard = listen("plan_charged")
    plan = new_plan(interval_months=1)
    day = today()
    for _ in range(365):
        run_on(day)
        run_on(day)
        day += timedelta(days=1)
    due = [recurrence.due_date(plan.start_on, n) for n in range(13)]
    due = [one for one in due if one < day]
    paid = plan.payments.order_by("plan_due_on")
    assert [one.plan_due_on for one in paid] == due
    assert len(provider.told("charge")) == len(due) == len(heard)


def test_an_outage_is_caught_up_with_one_charge_a_day() -> None:
    plan = new_plan()
    day = recurrence.due_date(plan.start_on, 2)
    assert [run_on(day).charged for _ in range(3)] == [1, 0, 0]
    later = [run_on(day + timedelta(days=n)).charged for n in range(1, 4)]
    assert later == [1, 1, 0]


def test_an_outage_is_caught_up_with_at_once_if_the_shop_wants_it() -> None:
    plan = new_plan()
    report = run_on(recurrence.due_date(plan.start_on, 2), catch_up=True)
    assert report.charged == 3
    assert plan.payments.filter(status=PAID).count() == 3


def test_the_same_attempt_cannot_be_written_twice() -> None:
    plan = new_plan()
    run_on(today())
    payment = plan.payments.get()
    payment.pk = None
    payment.merchant_reference = "another"
    payment.provider_reference = payment.transaction_reference = None
    with pytest.raises(IntegrityError), transaction.atomic():
        payment.save(force_insert=True)


def test_what_is_unknown_is_never_charged_again(provider: ChargingProvider) -> None:
    plan = new_plan()
    provider.will("charge", OutcomeUnknown("lost", "scripted"))
    assert run_on(today()).errors == 1
    for days in range(1, 70):
        run_on(today() + timedelta(days=days))
    assert len(provider.told("charge")) == 1
    payment = plan.payments.get()
    assert payment.status == PENDING
    tell(payment, snapshot_of(payment, PAID))
    plan.refresh_from_db()
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)


def test_a_plan_follows_what_was_learned_by_somebody_who_died(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = new_plan()
    with monkeypatch.context() as patch:
        patch.setattr(plans, "follow", lambda plan_id: None)
        run_on(today())
        Notice.objects.update(state="waiting", due_at=timezone.now())
    plan.refresh_from_db()
    assert plan.period == 0
    deliver_notices()
    plan.refresh_from_db()
    assert (plan.period, plan.status) == (1, PlanStatus.ACTIVE)


def test_without_any_news_the_next_run_sees_that_the_period_is_paid(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = new_plan()
    with monkeypatch.context() as patch:
        patch.setattr(plans, "follow", lambda plan_id: None)
        run_on(today())
    run_on(today() + timedelta(days=1))
    assert len(provider.told("charge")) == 1
    plan.refresh_from_db()
    assert plan.period == 1


def test_a_dry_run_and_the_accounts_of_others_charge_nothing(
    provider: ChargingProvider,
) -> None:
    new_plan()
    assert run_on(today(), dry_run=True).plans == 1
    assert run_on(today(), providers=["other"]).plans == 0
    assert run_on(today(), limit=0).plans == 0
    assert provider.told("charge") == []


def test_one_plan_that_cannot_be_charged_does_not_stop_the_others(
    settings: Settings, provider: ChargingProvider
) -> None:
    stuck, fine = new_plan(provider="other"), new_plan(order_id="P-2")
    settings.MULTIPAY = account_settings(scripted=ChargingProvider)
    report = run_on(today(), limit=1)
    assert (report.plans, report.errors, report.charged) == (1, 1, 1)
    assert report.problems == ("1 plans of 'other', which is not in the settings",)
    fine.refresh_from_db()
    assert fine.period == 1
    # It is no fault of the buyer, so nobody is reminded and nothing is written.
    stuck.refresh_from_db()
    assert (stuck.status, stuck.attempts) == (PlanStatus.PENDING, 0)
    with pytest.raises(ProviderConfigurationError):
        charge_plan(stuck)
    assert not stuck.payments.exists()


def test_an_error_in_one_plan_does_not_stop_the_others(
    provider: ChargingProvider,
) -> None:
    first, second = new_plan(), new_plan(order_id="P-2")
    provider.will("charge", ZeroDivisionError("a mistake of ours"))
    report = run_on(today())
    assert (report.errors, report.charged) == (1, 1)
    assert report.problems == (f"plan {first.pk}: ZeroDivisionError",)
    second.refresh_from_db()
    assert second.period == 1


@pytest.mark.parametrize(
    "news", [{"status": PAID, "captured_minor": 990}, {"status": FAILED}]
)
@pytest.mark.parametrize("is_person", [False, True])
def test_what_was_open_when_it_was_read_is_not_asked_for_again(
    provider: ChargingProvider,
    monkeypatch: pytest.MonkeyPatch,
    news: dict[str, Any],
    is_person: bool,
) -> None:
    plan = new_plan()
    provider.will("charge", OutcomeUnknown("lost", "scripted"))
    run_on(today())
    original = plans.attempts_at

    def read(plan: RecurringPlan, due_on: date) -> list[Payment]:
        """The provider answers right after somebody looked."""
        found = original(plan, due_on)
        plan.payments.update(**news)
        return found

    monkeypatch.setattr(plans, "attempts_at", read)
    tomorrow = today() + timedelta(days=1)
    if is_person:
        operation = plans.charge_now(plan.pk, plan.due_on, tomorrow, actor="ann")
    else:
        _, operation = plans.charge_due(plan.pk, tomorrow)
    assert operation is None
    assert plan.payments.count() == 1


def test_the_command_and_the_task_charge_what_is_due(
    capsys: pytest.CaptureFixture[str],
) -> None:
    new_plan(provider="scripted")
    call_command("multipay_charge_due", "--dry-run", "--json")
    assert '"plans": 1' in capsys.readouterr().out
    call_command("multipay_charge_due", "--provider", "scripted", "--limit", "5")
    assert "1 charged" in capsys.readouterr().out
    RecurringPlan.objects.update(
        start_on=recurrence.due_date(today(), -3), next_on=today()
    )
    call_command("multipay_charge_due", "--catch-up")
    # That of today was charged before.
    assert "2 charged" in capsys.readouterr().out
    new_plan(order_id="P-2")
    assert charge_due.enqueue().return_value == {"charged": 1, "errors": 0}


# Refusals -----------------------------------------------------------------------------


def test_a_soft_refusal_is_tried_again_after_1_3_5_and_7_days(
    provider: ChargingProvider, listen: Listen
) -> None:
    heard = listen("plan_status_changed")
    plan = new_plan()
    provider.will("charge", *[declined(DeclineCode.INSUFFICIENT_FUNDS)] * 5)
    tried = []
    for days in range(30):
        report = run_on(today() + timedelta(days=days))
        tried += [days] * report.refused
        plan.refresh_from_db()
    assert tried == [0, 1, 3, 5, 7]
    assert plan.payments.filter(status=FAILED).count() == 5
    assert [one.plan_attempt for one in plan.payments.order_by("pk")] == [*range(5)]
    # Seven days of grace, and nobody paid.
    assert plan.status == PlanStatus.CANCELED
    assert plan.next_on is None
    # Each refusal, and the end.
    assert len(heard) == 6


@pytest.mark.parametrize("code", DeclineCode)
def test_every_kind_of_decline_is_tried_again_or_needs_the_buyer(
    code: DeclineCode,
) -> None:
    only_the_buyer = {
        "expired_card",
        "lost_or_stolen",
        "suspected_fraud",
        "incorrect_data",
        "incorrect_cvc",
        "authentication_failed",
        "canceled_by_buyer",
    }
    day = date(2024, 2, 28)
    days = [recurrence.next_try(code, n, day, [1, 3]) for n in (1, 2, 3)]
    if code in only_the_buyer:
        assert days == [None] * 3
    else:
        assert days == [date(2024, 2, 29), date(2024, 3, 2), None]


def test_a_refusal_that_is_overcome_leaves_no_trace(provider: ChargingProvider) -> None:
    plan = new_plan()
    provider.will("charge", declined(DeclineCode.CONTACT_ISSUER))
    run_on(today())
    plan.refresh_from_db()
    assert (plan.status, plan.attempts, plan.needs_buyer) == ("past_due", 1, False)
    assert plan.decline_code == DeclineCode.CONTACT_ISSUER
    assert plan.next_on == today() + timedelta(days=1)
    assert run_on(plan.next_on).charged == 1
    plan.refresh_from_db()
    assert (plan.status, plan.attempts, plan.decline_code) == ("active", 0, "")
    assert plan.next_on == recurrence.due_date(plan.start_on, 1)


@pytest.mark.parametrize(
    "code", [DeclineCode.EXPIRED_CARD, DeclineCode.AUTHENTICATION_FAILED]
)
def test_a_hard_refusal_needs_the_buyer_at_once(
    provider: ChargingProvider, code: DeclineCode
) -> None:
    plan = new_plan()
    provider.will("charge", declined(code))
    run_on(today())
    plan.refresh_from_db()
    assert (plan.status, plan.needs_buyer) == (PlanStatus.PAST_DUE, True)
    for days in range(1, 7):
        run_on(today() + timedelta(days=days))
    assert len(provider.told("charge")) == 1
    plan.refresh_from_db()
    assert plan.status == PlanStatus.PAST_DUE
    run_on(today() + timedelta(days=7))
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED


def test_the_shop_decides_how_often_and_how_long(
    settings: Settings, provider: ChargingProvider
) -> None:
    settings.MULTIPAY["PLANS"] = {"RETRY_DAYS": [2], "GRACE_DAYS": 1}
    plan = new_plan()
    provider.will("charge", *[declined(DeclineCode.GENERIC)] * 2)
    outcomes = [run_on(today() + timedelta(days=days)) for days in range(4)]
    assert [one.refused for one in outcomes] == [1, 0, 1, 0]
    assert [one.ended for one in outcomes] == [0, 0, 0, 1]
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED


@pytest.mark.parametrize("error", [ProviderUnavailable, CredentialsRejected])
def test_an_account_that_is_away_or_refused_is_no_refusal_by_the_buyer(
    provider: ChargingProvider, listen: Listen, error: type[ProviderError]
) -> None:
    heard = listen("plan_status_changed")
    plan = new_plan()
    provider.will("charge", *[error("mend the key", "scripted")] * 20)
    for days in range(20):
        day = today() + timedelta(days=days)
        report = run_on(day)
        assert (report.errors, report.refused) == (1, 0)
        assert "mend the key" in report.problems[0]
        # Once a day, also for who catches up.
        assert run_on(day, catch_up=True).errors == 0
        plan.refresh_from_db()
        assert (plan.next_on, plan.last_error) == (
            day + timedelta(days=1),
            "scripted: mend the key",
        )
    assert (plan.status, plan.attempts, plan.needs_buyer) == ("pending", 0, False)
    assert (plan.past_due_since, heard) == (None, [])
    assert run_on(today() + timedelta(days=20)).charged == 1
    plan.refresh_from_db()
    assert (plan.period, plan.last_error) == (1, "")
    assert [one.status for one in plan.payments.order_by("pk")] == [FAILED] * 20 + [
        PAID
    ]


def test_between_refusals_an_account_that_is_refused_does_not_count(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    refused = declined(DeclineCode.INSUFFICIENT_FUNDS)
    bad_key = CredentialsRejected("mend the key", "scripted")
    provider.will("charge", refused, bad_key, refused)
    seen = []
    for days in range(4):
        report = run_on(today() + timedelta(days=days))
        plan.refresh_from_db()
        seen.append((report.refused, report.errors, plan.attempts))
    assert seen == [(1, 0, 1), (0, 1, 1), (1, 0, 2), (0, 0, 0)]
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)


def test_without_a_living_method_nothing_is_sent_and_the_buyer_is_needed(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    Token.objects.update(status=TokenStatus.DEAD)
    run_on(today())
    plan.refresh_from_db()
    assert (plan.status, plan.needs_buyer) == (PlanStatus.PAST_DUE, True)
    assert provider.told("charge") == []
    assert not plan.payments.exists()


def test_a_bank_that_wants_the_buyer_is_no_refusal(provider: ChargingProvider) -> None:
    plan = new_plan()
    page = Redirect("https://bank.example/confirm")
    provider.will("charge", PaymentSnapshot(status=PENDING, next_action=page))
    assert run_on(today()).open == 1
    plan.refresh_from_db()
    assert (plan.status, plan.needs_buyer) == (PlanStatus.PAST_DUE, True)
    payment = recovery_payment(plan)
    assert payment == plan.payments.get()
    assert payment.action == page
    tell(payment, snapshot_of(payment, PAID))
    plan.refresh_from_db()
    assert (plan.status, plan.needs_buyer, plan.period) == ("active", False, 1)


# The buyer in person ------------------------------------------------------------------


def in_arrears(provider: ChargingProvider, code: str = "expired_card") -> RecurringPlan:
    plan = new_plan()
    provider.will("charge", declined(DeclineCode(code)))
    run_on(today())
    plan.refresh_from_db()
    return plan


def test_the_buyer_pays_what_is_owed_and_the_plan_goes_on_with_their_new_method(
    provider: ChargingProvider,
) -> None:
    plan = in_arrears(provider)
    payment = recovery_payment(plan)
    assert payment == recovery_payment(plan)
    assert (payment.plan_due_on, payment.plan_attempt) == (today(), 1)
    pay_in_person(payment)
    plan.refresh_from_db()
    assert (plan.status, plan.needs_buyer, plan.period) == ("active", False, 1)
    run_on(plan.due_on)
    assert provider.told("charge")[-1].token == "tok-new"
    with pytest.raises(InvalidTransition):
        recovery_payment(plan)


def test_what_was_paid_for_one_period_does_not_pay_the_next(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    run_on(today())
    plan.refresh_from_db()
    provider.will("charge", declined(DeclineCode.EXPIRED_CARD))
    run_on(plan.due_on)
    plan.refresh_from_db()
    payment = recovery_payment(plan)
    pay_in_person(payment)
    plan.refresh_from_db()
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 2)
    paid = {one.plan_due_on for one in plan.payments.filter(status=PAID)}
    assert paid == {today(), payment.plan_due_on}


def test_while_the_buyer_pays_nothing_is_charged_by_itself(
    provider: ChargingProvider,
) -> None:
    plan = in_arrears(provider, "insufficient_funds")
    payment = recovery_payment(plan)
    # A link that nobody follows stops nothing.
    start_payment(payment)
    assert run_on(today() + timedelta(days=1)).charged == 0
    RecurringPlan.objects.update(buyer_until=None)
    assert run_on(today() + timedelta(days=2)).charged == 0
    assert len(provider.told("charge")) == 1


def test_one_click_whose_answer_was_lost_stops_the_next_try(
    provider: ChargingProvider,
) -> None:
    """It may have been charged, although no page was opened."""
    plan = in_arrears(provider, "insufficient_funds")
    payment = recovery_payment(plan)
    provider.will("start", OutcomeUnknown("lost", "scripted", "start"))
    with pytest.raises(OutcomeUnknown):
        start_payment(payment, token=plan.token)
    # Another click that does not even get there changes nothing about the first.
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    provider.will("start", ProviderUnavailable("away", "scripted", "start"))
    with pytest.raises(ProviderUnavailable):
        start_payment(payment, token=plan.token)
    RecurringPlan.objects.update(buyer_until=None)
    run_on(today() + timedelta(days=2))
    assert len(provider.told("charge")) == 1
    tell(payment, snapshot_of(payment, PAID))
    plan.refresh_from_db()
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)


def test_a_link_that_nobody_follows_does_not_stop_the_next_try(
    provider: ChargingProvider,
) -> None:
    plan = in_arrears(provider, "insufficient_funds")
    payment = recovery_payment(plan)
    assert run_on(today() + timedelta(days=1)).charged == 1
    with pytest.raises(InvalidTransition):
        start_payment(payment)
    plan.refresh_from_db()
    assert plan.period == 1


def test_a_buyer_who_pays_after_the_grace_gets_their_plan_back(
    provider: ChargingProvider,
) -> None:
    plan = in_arrears(provider)
    payment = recovery_payment(plan)
    run_on(today() + timedelta(days=7))
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED
    pay_in_person(payment)
    plan.refresh_from_db()
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)


def test_a_buyer_whose_first_attempt_failed_gets_another(
    provider: ChargingProvider,
) -> None:
    plan = new_plan(token=None)
    first = plan.first_payment
    assert first is not None
    start_payment(first)
    tell(first, snapshot_of(first, FAILED))
    plan.refresh_from_db()
    assert plan.status == PlanStatus.PENDING
    pay_in_person(recovery_payment(plan))
    plan.refresh_from_db()
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)


# What people decide -------------------------------------------------------------------


def test_a_new_amount_counts_from_the_next_charge(provider: ChargingProvider) -> None:
    plan = new_plan()
    run_on(today())
    change_plan(plan, Money("12.00", "USD"), by="ann")
    run_on(recurrence.due_date(today(), 1))
    amounts = [one.amount for one in provider.told("charge")]
    assert amounts == [PRICE, Money("12.00", "USD")]
    change = plan.operations.get(kind=OperationKind.CHANGE_PLAN)
    assert (change.actor, change.amount_minor) == ("ann", 1200)
    with pytest.raises(InvalidOperation):
        change_plan(plan, Money("12.00", "EUR"))
    with pytest.raises(InvalidAmount):
        change_plan(plan, Money("-1.00", "USD"))


def test_a_new_method_is_tried_at_once_where_the_plan_waits_for_one(
    provider: ChargingProvider,
) -> None:
    plan = in_arrears(provider)
    with pytest.raises(InvalidOperation):
        change_plan(plan, token=new_token(customer_id="c-8"))
    change_plan(plan, token=new_token())
    assert (plan.needs_buyer, plan.next_on) == (False, today())
    assert run_on(today()).charged == 1


def test_nothing_falls_due_on_the_last_day_or_after_it(
    provider: ChargingProvider,
) -> None:
    end = recurrence.due_date(today(), 3)
    plan = new_plan(ends_on=end)
    for n in range(6):
        run_on(recurrence.due_date(today(), n))
    assert len(provider.told("charge")) == 3
    plan.refresh_from_db()
    assert (plan.status, plan.next_on) == (PlanStatus.ENDED, None)


def test_a_plan_that_waits_for_its_first_payment_takes_a_method_instead(
    provider: ChargingProvider,
) -> None:
    plan = new_plan(token=None)
    change_plan(plan, token=new_token())
    assert (plan.status, plan.next_on) == (PlanStatus.PENDING, today())
    assert run_on(today()).charged == 1
    plan.refresh_from_db()
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)
    # The page of the first payment takes no money for a period that is paid.
    assert plan.first_payment is not None
    with pytest.raises(InvalidTransition):
        start_payment(plan.first_payment)


def test_the_last_day_can_be_set_later(
    provider: ChargingProvider, planner: PlanningProvider
) -> None:
    plan = new_plan()
    run_on(today())
    end = recurrence.due_date(today(), 2)
    change_plan(plan, ends_on=end, by="ann")
    for n in range(1, 5):
        run_on(recurrence.due_date(today(), n))
    assert len(provider.told("charge")) == 2
    plan.refresh_from_db()
    assert (plan.status, plan.ends_on) == (PlanStatus.ENDED, end)
    for late in (today(), None):
        with pytest.raises(InvalidTransition):
            change_plan(plan, Money("1.00", "USD"), ends_on=late)
    with pytest.raises(InvalidOperation):
        change_plan(plan, ends_on=datetime(2100, 1, 1, tzinfo=UTC))
    # The provider is told at once where no charge is left before that day.
    theirs = registered(planner)
    change_plan(theirs, ends_on=theirs.due_on)
    let_everything_be_due()
    reconcile()
    (told,) = planner.told("cancel_plan")
    assert told.provider_reference == theirs.provider_reference
    theirs.refresh_from_db()
    assert (theirs.status, theirs.next_on) == (PlanStatus.ACTIVE, theirs.ends_on)


def test_a_paused_plan_leaves_out_what_began_meanwhile(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = new_plan()
    run_on(today())
    pause_plan(plan, by="ann")
    assert (plan.status, plan.next_on) == (PlanStatus.PAUSED, None)
    later = recurrence.due_date(today(), 3) + timedelta(days=1)
    run_on(later)
    assert len(provider.told("charge")) == 1
    monkeypatch.setattr(timezone, "localdate", lambda now=None: later)
    resume_plan(plan)
    assert plan.status == PlanStatus.ACTIVE
    assert plan.next_on == recurrence.due_date(plan.start_on, 4)
    with pytest.raises(InvalidTransition):
        pause_plan(new_plan(order_id="P-2"))


def test_a_canceled_plan_is_not_charged_and_cannot_be_canceled_again(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    cancel_plan(plan, by="ann")
    assert plan.status == PlanStatus.CANCELED
    run_on(today())
    assert provider.told("charge") == []
    for act in (cancel_plan, resume_plan, pause_plan, charge_plan):
        with pytest.raises(InvalidTransition):
            act(plan)
    with pytest.raises(InvalidTransition):
        change_plan(plan, Money("1.00", "USD"))


def test_a_plan_canceled_with_its_period_lasts_as_long_as_it_is_paid_for(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    run_on(today())
    plan.refresh_from_db()
    cancel_plan(plan, at_period_end=True)
    assert plan.status == PlanStatus.ACTIVE
    run_on(plan.due_on - timedelta(days=1))
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ACTIVE
    run_on(plan.due_on)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED
    assert len(provider.told("charge")) == 1


@pytest.mark.parametrize("is_known", [False, True])
def test_a_plan_canceled_while_its_period_is_being_paid_lasts_for_that_period(
    provider: ChargingProvider, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    plan = new_plan()
    run_on(today())
    second = recurrence.due_date(today(), 1)
    if is_known:
        # The money came, and nobody has looked at the plan since.
        with monkeypatch.context() as patch:
            patch.setattr(plans, "follow", lambda plan_id: None)
            run_on(second)
    else:
        provider.will("charge", OutcomeUnknown("lost", "scripted"))
        run_on(second)
    cancel_plan(plan, at_period_end=True)
    assert plan.ends_on == recurrence.due_date(today(), 2)
    if not is_known:
        payment = plan.payments.get(plan_due_on=second)
        tell(payment, snapshot_of(payment, PAID))
    run_on(plan.ends_on - timedelta(days=1))
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ACTIVE
    run_on(plan.ends_on)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED
    assert len(provider.told("charge")) == 2


def test_a_plan_canceled_while_its_period_is_refused_is_not_charged_again(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    run_on(today())
    second = recurrence.due_date(today(), 1)
    provider.will("charge", OutcomeUnknown("lost", "scripted"))
    run_on(second)
    cancel_plan(plan, at_period_end=True)
    payment = plan.payments.get(plan_due_on=second)
    tell(payment, snapshot_of(payment, FAILED))
    plan.refresh_from_db()
    assert (plan.status, plan.next_on, plan.needs_buyer) == ("canceled", None, False)
    for days in range(10):
        run_on(second + timedelta(days=days))
    assert len(provider.told("charge")) == 2


def test_a_charge_that_was_not_sent_is_dropped_with_its_plan(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    _, operation = plans.charge_due(plan.pk, today())
    assert operation is not None
    cancel_plan(plan)
    operation.refresh_from_db()
    assert operation.state == OperationState.REFUSED
    let_everything_be_due()
    reconcile()
    assert provider.told("charge") == []
    assert plan.payments.get().status == FAILED


def test_charging_now_is_early_and_once(provider: ChargingProvider) -> None:
    plan = new_plan()
    run_on(today())
    plan.refresh_from_db()
    seen = RecurringPlan.objects.get(pk=plan.pk)
    payment = charge_plan(plan, by="ann")
    assert (payment.status, payment.plan_due_on) == (PAID, seen.due_on)
    # Who saw the plan before asks for the same period.
    assert charge_plan(seen) == payment
    assert len(provider.told("charge")) == 2
    operation = payment.operations.get()
    assert (operation.actor, operation.kind) == ("ann", OperationKind.CHARGE)
    run_on(recurrence.due_date(today(), 1))
    assert len(provider.told("charge")) == 2


def test_charging_now_tries_the_refused_period_again(
    provider: ChargingProvider,
) -> None:
    plan = in_arrears(provider, "authentication_failed")
    assert charge_plan(plan).status == PAID
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)
    # A method that is dead is not sent again.
    plan = in_arrears(provider)
    with pytest.raises(InvalidOperation):
        charge_plan(plan)


def test_the_same_key_never_charges_twice_however_it_ended(
    provider: ChargingProvider,
) -> None:
    plan = new_plan()
    provider.will("charge", declined(DeclineCode.INSUFFICIENT_FUNDS))
    refused = charge_plan(plan, idempotency_key="k-1")
    assert refused.status == FAILED
    assert charge_plan(plan, idempotency_key="k-1") == refused
    paid = charge_plan(plan, idempotency_key="k-2")
    assert (paid.status, plan.period) == (PAID, 1)
    # The plan collects the next period by now.
    assert charge_plan(plan, idempotency_key="k-2") == paid
    assert charge_plan(plan, idempotency_key="k-1") == refused
    cancel_plan(plan)
    assert charge_plan(plan, idempotency_key="k-1") == refused
    assert len(provider.told("charge")) == 2
    other = new_plan(token=plan.token)
    with pytest.raises(InvalidOperation) as caught:
        charge_plan(other, idempotency_key="k-1")
    assert caught.value.field == "idempotency_key"
    assert len(provider.told("charge")) == 2


@pytest.mark.django_db(transaction=True)
def test_staff_can_do_it_inside_a_transaction_of_their_own(
    planner: PlanningProvider,
) -> None:
    plan = registered(planner)
    with transaction.atomic():
        change_plan(plan, Money("12.00", "USD"))
        assert planner.told("change_plan") == []
    assert len(planner.told("change_plan")) == 1
    with pytest.raises(RuntimeError), transaction.atomic():
        charge_due_plans()


# Plans that the provider charges ------------------------------------------------------


def registered(planner: PlanningProvider, **wishes: Any) -> RecurringPlan:
    """A plan that its provider charges, with its first payment paid."""
    wishes = {"provider": "planning", "managed_by": None, "token": None} | wishes
    plan = new_plan(**wishes)
    first = plan.first_payment
    assert first is not None
    start_payment(first)
    named = PlanSnapshot(reference=f"R-{plan.pk}", status=PlanStatus.ACTIVE)
    tell(first, snapshot_of(first, PAID, plan=named))
    plan.refresh_from_db()
    return plan


def test_the_first_payment_registers_the_plan_and_proves_it(
    planner: PlanningProvider, listen: Listen
) -> None:
    heard = listen("plan_status_changed", "plan_charged")
    plan = registered(planner)
    (request,) = planner.told("start_plan")
    assert request.plan.amount == PRICE
    assert request.plan.notice_url.startswith("https://shop.example/payments/plan/")
    assert not request.save_token
    assert plan.managed_by == PlanManager.PROVIDER
    assert (plan.status, plan.period) == (PlanStatus.ACTIVE, 1)
    assert plan.provider_reference == f"R-{plan.pk}"
    assert names(heard) == ["plan_charged", "plan_status_changed"]
    assert charge_due_plans(now=moment(plan.due_on)).plans == 0
    for act in (charge_plan, pause_plan, recovery_payment):
        with pytest.raises(InvalidTransition):
            act(plan)


def test_a_reference_of_another_plan_is_not_taken(planner: PlanningProvider) -> None:
    plan = registered(planner)
    other = new_plan(provider="planning", managed_by=None, token=None)
    first = other.first_payment
    assert first is not None
    start_payment(first)
    stolen = PlanSnapshot(
        reference=plan.provider_reference or "", status=PlanStatus.ACTIVE
    )
    tell(first, snapshot_of(first, PAID, plan=stolen))
    other.refresh_from_db()
    assert other.provider_reference is None
    assert other.status == PlanStatus.ACTIVE


def test_a_plan_whose_name_was_lost_is_found_by_its_first_payment(
    planner: PlanningProvider,
) -> None:
    plan = new_plan(provider="planning", managed_by=None, token=None)
    first = plan.first_payment
    assert first is not None
    start_payment(first)
    named = PlanSnapshot(reference="R-1", status=PlanStatus.ACTIVE)
    planner.will("fetch", snapshot_of(first, PAID, plan=named))
    for _ in range(2):
        assert sync_plan(plan) == PlanStatus.ACTIVE
        assert plan.provider_reference == "R-1"
    assert len(planner.told("fetch")) == 1
    assert planner.told("fetch_plan") == ["R-1", "R-1"]


def renewal(plan: RecurringPlan, number: int, /, **changes: Any) -> PaymentSnapshot:
    """What the provider says of a later charge."""
    fitting = PaymentSnapshot(
        status=PAID,
        provider_reference=f"T-{plan.pk}-{number}",
        account=ACCOUNT,
        amount=plan.amount,
        occurred_at=moment(plan.due_date(number)),
        plan=PlanSnapshot(
            reference=plan.provider_reference or "", status=PlanStatus.ACTIVE
        ),
    )
    return dataclasses.replace(fitting, **changes)


def renew(planner: PlanningProvider, snapshot: PaymentSnapshot) -> str:
    """Let a message about a renewal arrive; return its verdict."""
    from django_multipay.flows.webhooks import receive_webhook
    from django_multipay.messages import IncomingRequest, ProviderEvent
    from django_multipay.models import WebhookDelivery
    from tests.flows.scripted import SECRET

    event = ProviderEvent(snapshot=snapshot, is_renewal=True)
    parse = lambda incoming: [event]  # noqa: E731
    object.__setattr__(planner, "parse_webhook", parse)
    receive_webhook(
        "planning",
        IncomingRequest(
            method="POST",
            body=b'{"said": "%d"}' % WebhookDelivery.objects.count(),
            headers={"x-secret": SECRET},
        ),
    )
    return str(WebhookDelivery.objects.latest("pk").verdict)


def test_renewals_in_any_order_are_one_payment_each(
    planner: PlanningProvider, listen: Listen
) -> None:
    plan = registered(planner)
    heard = listen("plan_charged")
    for number in (3, 1, 2, 1, 3):
        renew(planner, renewal(plan, number))
    paid = plan.payments.order_by("plan_due_on")
    assert [one.plan_due_on for one in paid] == [plan.due_date(n) for n in range(4)]
    assert all(one.captured == PRICE for one in paid)
    assert len(heard) == 3
    plan.refresh_from_db()
    assert (plan.status, plan.period, plan.next_on) == ("active", 4, plan.due_date(4))
    # Another transaction for a period that is paid is for a person.
    twice = renewal(plan, 2, provider_reference="T-other")
    assert renew(planner, twice) == "held"
    assert plan.payments.count() == 4


@pytest.mark.parametrize(
    ("changes", "is_written"),
    [
        ({"amount": Money("9.91", "USD")}, True),
        ({"amount": Money("9.90", "EUR")}, True),
        ({"amount": None}, True),
        ({"account": "another"}, False),
        ({"account": None}, False),
        ({"provider_reference": ""}, False),
        ({"occurred_at": datetime(2020, 1, 1, tzinfo=UTC)}, False),
    ],
)
def test_a_renewal_that_does_not_fit_is_held(
    planner: PlanningProvider, changes: dict[str, Any], is_written: bool
) -> None:
    plan = registered(planner)
    assert renew(planner, renewal(plan, 1, **changes)) == "held"
    held = plan.payments.filter(plan_due_on=plan.due_date(1))
    assert held.exists() == is_written
    assert not held.filter(captured_minor__gt=0).exists()
    # The right message still counts.
    assert renew(planner, renewal(plan, 1)) == "applied"
    assert held.get().captured == PRICE


def test_a_renewal_of_a_plan_that_nobody_knows_is_held(
    planner: PlanningProvider,
) -> None:
    plan = registered(planner)
    unknown = PlanSnapshot(reference="R-unknown", status=PlanStatus.ACTIVE)
    assert renew(planner, renewal(plan, 1, plan=unknown)) == "held"
    assert plan.payments.count() == 1


def test_a_renewal_whose_worker_died_half_way_is_counted_once_all_the_same(
    planner: PlanningProvider, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = registered(planner)
    heard = listen("plan_charged")

    def die(*args: Any, **kwargs: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_add_facts", die)
        with pytest.raises(SystemExit):
            renew(planner, renewal(plan, 1))
    payment = plan.payments.get(plan_due_on=plan.due_date(1))
    assert (payment.status, heard) == (PENDING, [])
    let_everything_be_due()
    reconcile()
    renew(planner, renewal(plan, 1))
    payment.refresh_from_db()
    assert (payment.captured, len(heard)) == (PRICE, 1)
    assert plan.payments.count() == 2


def test_a_renewal_that_failed_and_was_tried_again(planner: PlanningProvider) -> None:
    plan = registered(planner)
    declined_one = renewal(
        plan,
        1,
        status=FAILED,
        provider_reference="T-declined",
        decline=Decline(code=DeclineCode.INSUFFICIENT_FUNDS),
    )
    assert renew(planner, declined_one) == "applied"
    assert renew(planner, declined_one) == "ignored"
    plan.refresh_from_db()
    assert (plan.status, plan.decline_code) == ("past_due", "insufficient_funds")
    late = moment(plan.due_date(1) + timedelta(days=3))
    assert renew(planner, renewal(plan, 1, occurred_at=late)) == "applied"
    plan.refresh_from_db()
    assert (plan.status, plan.decline_code) == ("active", "")
    assert plan.payments.filter(plan_due_on=plan.due_date(1)).count() == 2


def test_a_late_renewal_may_have_the_amount_from_before_a_change(
    planner: PlanningProvider,
) -> None:
    plan = registered(planner)
    change_plan(plan, Money("12.00", "USD"))
    assert plan.amount == Money("12.00", "USD")
    old = renewal(plan, 1, amount=PRICE)
    # It was changed less than a day ago.
    assert renew(planner, old) == "applied"
    Operation.objects.filter(kind=OperationKind.CHANGE_PLAN).update(
        updated_at=timezone.now() - timedelta(days=2)
    )
    assert renew(planner, renewal(plan, 2, amount=PRICE)) == "held"
    assert renew(planner, renewal(plan, 2)) == "applied"


def test_what_was_asked_of_the_provider_counts_once_it_says_so(
    planner: PlanningProvider,
) -> None:
    plan = registered(planner)
    planner.will("change_plan", RequestRejected("no", "planning"))
    with pytest.raises(RequestRejected):
        change_plan(plan, Money("12.00", "USD"))
    plan.refresh_from_db()
    assert plan.amount == PRICE
    planner.will("change_plan", OutcomeUnknown("lost", "planning"))
    with pytest.raises(OutcomeUnknown):
        change_plan(plan, Money("12.00", "USD"))
    with pytest.raises(InvalidTransition):
        change_plan(plan, Money("13.00", "USD"))
    let_everything_be_due()
    reconcile()
    plan.refresh_from_db()
    assert plan.amount == Money("12.00", "USD")
    assert len(planner.told("change_plan")) == 3


def test_a_cancellation_of_unknown_outcome_is_asked_about(
    planner: PlanningProvider,
) -> None:
    plan = registered(planner)
    planner.will("cancel_plan", OutcomeUnknown("lost", "planning"))
    with pytest.raises(OutcomeUnknown):
        cancel_plan(plan)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ACTIVE
    gone = PlanSnapshot(
        reference=plan.provider_reference or "", status=PlanStatus.CANCELED
    )
    planner.will("fetch_plan", gone)
    let_everything_be_due()
    reconcile()
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED
    assert len(planner.told("cancel_plan")) == 1


def test_a_cancellation_with_the_period_ends_the_plan_on_its_last_day(
    planner: PlanningProvider,
) -> None:
    plan = registered(planner)
    due_on = plan.due_on
    cancel_plan(plan, at_period_end=True)
    assert (plan.status, plan.ends_on) == (PlanStatus.ACTIVE, due_on)
    run_on(due_on)
    plan.refresh_from_db()
    assert (plan.status, plan.next_on) == (PlanStatus.CANCELED, None)


def test_the_last_day_is_told_to_a_provider_that_knows_none(
    planner: PlanningProvider,
) -> None:
    end = recurrence.due_date(today(), 2)
    plan = registered(planner, ends_on=end)
    assert planner.told("cancel_plan") == []
    renew(planner, renewal(plan, 1))
    let_everything_be_due()
    reconcile()
    assert len(planner.told("cancel_plan")) == 1
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ACTIVE
    run_on(end)
    plan.refresh_from_db()
    assert plan.status == PlanStatus.ENDED


def test_a_plan_canceled_before_it_was_registered_is_ended_there_once_it_is(
    planner: PlanningProvider,
) -> None:
    plan = new_plan(provider="planning", managed_by=None, token=None)
    first = plan.first_payment
    assert first is not None
    start_payment(first)
    cancel_plan(plan)
    assert planner.told("cancel_plan") == []
    named = PlanSnapshot(reference="R-late", status=PlanStatus.ACTIVE)
    tell(first, snapshot_of(first, PAID, plan=named))
    let_everything_be_due()
    reconcile()
    assert len(planner.told("cancel_plan")) == 1
    plan.refresh_from_db()
    assert plan.status == PlanStatus.CANCELED


def test_a_renewal_that_nobody_told_us_of_is_asked_about(
    planner: PlanningProvider,
) -> None:
    plan = registered(planner)
    assert plan.sync_at is not None
    RecurringPlan.objects.update(sync_at=timezone.now() - timedelta(seconds=1))
    gone = PlanSnapshot(
        reference=plan.provider_reference or "", status=PlanStatus.PAST_DUE
    )
    planner.will("fetch_plan", gone)
    assert run_on(today()).asked == 1
    assert run_on(today()).asked == 0
    plan.refresh_from_db()
    assert plan.status == PlanStatus.PAST_DUE
