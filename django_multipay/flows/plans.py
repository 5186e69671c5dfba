"""Recurring plans: begun, charged when they fall due, changed and ended.

A plan is charged by its provider, which tells us of each renewal, or by this site from
a saved method. Either way each charge is a payment of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone
from moneyed import Money

from django_multipay import ledger, money
from django_multipay.enums import (
    Capability,
    OperationKind,
    OperationState,
    PlanManager,
    PlanStatus,
)
from django_multipay.exceptions import (
    InvalidOperation,
    MultipayError,
    UnsupportedOperation,
)
from django_multipay.flows.checkout import create_payment
from django_multipay.flows.guards import (
    actor_of,
    is_in_transaction,
    refuse_open_transaction,
    state_after,
    wait_of,
)
from django_multipay.flows.notices import deliver_notices
from django_multipay.flows.sync import sync_payment
from django_multipay.flows.tokens import carry_out_charge, client_key_of
from django_multipay.flows.wishes import (
    buyer_columns,
    check_amount,
    check_moment,
    check_token,
    choice,
    identifier,
    words,
)
from django_multipay.ledger import plans
from django_multipay.messages import (
    Buyer,
    PlanCancelRequest,
    PlanChangeRequest,
    PlanSnapshot,
)
from django_multipay.models import Operation, Payment, RecurringPlan, Token
from django_multipay.providers.base import Provider
from django_multipay.recurrence import MAX_INTERVAL
from django_multipay.registry import registry
from django_multipay.states import ENDED_PLAN_STATUSES

logger = logging.getLogger("django_multipay.flows")

MOST_PROBLEMS = 20
"""How many problems a report spells out; it counts them all."""

Progress = Callable[[int, int], None]
"""Called with how many plans were worked on, and how many were due at the start."""


# The life of a plan -------------------------------------------------------------------


def create_plan(
    *,
    provider: str,
    customer_id: str,
    amount: Money,
    order_id: str,
    start_on: date,
    interval_months: int = 1,
    token: Token | None = None,
    ends_on: date | None = None,
    managed_by: str | None = None,
    buyer: Buyer | None = None,
    description: str = "",
    success_url: str = "",
    failure_url: str = "",
    locale: str = "",
    method: str = "",
    provider_data: Mapping[str, Any] | None = None,
) -> RecurringPlan:
    """Record that ``amount`` is to be collected every ``interval_months``.

    ``provider`` is an alias; ``start_on`` the first day, from which all others are
    counted; nothing falls due on ``ends_on`` or after it. ``managed_by`` None: the
    provider where it can, this site otherwise or with a ``token``.

    With a token the first charge is made on ``start_on`` by `charge_due_plans`.
    Without one, ``plan.first_payment`` is for the buyer: send them to its page; it
    pays the first period, and brings the saved method or registers the plan at the
    provider. ``method`` and ``provider_data`` are for that payment.

    Joins the caller's transaction. `InvalidAmount` and `InvalidOperation` (with
    ``field``), `UnsupportedOperation` where the provider can do neither.
    """
    chosen = registry[provider]
    manager = _manager_of(chosen, managed_by, token)
    check_amount(amount, chosen)
    check_token(token, provider, customer_id)
    _check_days(start_on, ends_on)
    # A bool would pass for a whole number.
    is_whole = type(interval_months) is int
    if not is_whole or not 1 <= interval_months <= MAX_INTERVAL:
        raise InvalidOperation(
            f"interval_months is {interval_months!r}; use 1 to {MAX_INTERVAL}",
            "interval_months",
        )
    if manager == PlanManager.APP and not customer_id:
        raise InvalidOperation(
            "a plan needs customer_id: a saved method belongs to somebody",
            "customer_id",
        )
    buyer = buyer or Buyer()
    plan = RecurringPlan(
        provider=provider,
        customer_id=identifier("customer_id", customer_id, 64, False),
        order_id=identifier("order_id", order_id, 64),
        description=words("description", description, 255),
        **buyer_columns(buyer),
        locale=identifier("locale", locale, 16, False),
        success_url=identifier("success_url", success_url, 500, False),
        failure_url=identifier("failure_url", failure_url, 500, False),
        token=token,
        amount_minor=money.to_minor(amount),
        currency=amount.currency.code,
        interval_months=interval_months,
        start_on=start_on,
        next_on=start_on if token else None,
        ends_on=ends_on,
        managed_by=manager,
    )
    with transaction.atomic():
        plans.open_plan(plan)
        if token is None:
            payment = create_payment(
                provider=provider,
                order_id=order_id,
                amount=amount,
                buyer=buyer,
                customer_id=customer_id,
                success_url=success_url,
                failure_url=failure_url,
                description=description,
                locale=locale,
                method=method,
                save_token=manager == PlanManager.APP,
                plan=plan,
                provider_data=provider_data,
            )
            plans.bind_payment(plan, payment)
    return plan


def change_plan(
    plan: RecurringPlan,
    amount: Money | None = None,
    *,
    token: Token | None = None,
    ends_on: date | None = None,
    by: object = None,
) -> RecurringPlan:
    """Change what the charges to come cost, are charged to, or when they end.

    What is None stays. Refreshes ``plan`` and returns it. Inside a caller's
    transaction the provider of a plan it charges is called after the commit;
    otherwise now, and `OutcomeUnknown` or `ProviderUnavailable` mean that it is told
    again by `reconcile`. `InvalidTransition` for a plan that is over,
    `InvalidAmount`, `InvalidOperation` or `UnsupportedOperation` before anything is
    written.
    """
    provider = registry[plan.provider]
    is_theirs = plan.managed_by == PlanManager.PROVIDER
    if amount is not None:
        check_amount(amount, provider)
        if amount.currency.code != plan.currency:
            raise InvalidOperation(
                f"the plan is in {plan.currency}; make another one for another "
                "currency",
                "amount",
            )
        if is_theirs:
            _need(provider, Capability.CHANGE_PLAN)
    if token is not None:
        if is_theirs:
            raise InvalidOperation(
                "the provider charges this plan to what it was registered with",
                "token",
            )
        check_token(token, plan.provider, plan.customer_id)
    if ends_on is not None:
        _check_day("ends_on", ends_on)
        if is_theirs:
            _need(provider, Capability.CANCEL_PLAN)
    operation = plans.change_terms(
        plan.pk,
        amount=amount,
        token=token,
        ends_on=ends_on,
        today=timezone.localdate(),
        actor=actor_of(by),
    )
    return _carried_out(plan, operation)


def pause_plan(plan: RecurringPlan, *, by: object = None) -> RecurringPlan:
    """Let nothing fall due until `resume_plan`; only for plans that this site charges.

    Joins the caller's transaction. Refreshes ``plan`` and returns it.
    """
    plans.pause(plan.pk, actor_of(by))
    return _carried_out(plan, None)


def resume_plan(plan: RecurringPlan, *, by: object = None) -> RecurringPlan:
    """Let a paused plan go on; the periods that began meanwhile are left out.

    What had been refused before the pause is still owed. Joins the caller's
    transaction. Refreshes ``plan`` and returns it.
    """
    plans.resume(plan.pk, timezone.localdate(), actor_of(by))
    return _carried_out(plan, None)


def cancel_plan(
    plan: RecurringPlan, *, at_period_end: bool = False, by: object = None
) -> RecurringPlan:
    """End ``plan`` now, or with the period that is paid for; nothing is given back.

    A charge that is under way is finished and reported; with ``at_period_end`` the
    plan then lasts for the period it pays, or ends if it is refused. Refreshes ``plan`` and
    returns it; works inside a transaction, and raises, as `change_plan`.
    """
    if plan.managed_by == PlanManager.PROVIDER:
        _need(registry[plan.provider], Capability.CANCEL_PLAN)
    operation = plans.request_cancel(
        plan.pk, at_period_end=at_period_end, actor=actor_of(by)
    )
    return _carried_out(plan, operation)


def charge_plan(
    plan: RecurringPlan,
    *,
    idempotency_key: str | None = None,
    by: object = None,
) -> Payment:
    """Charge the period that ``plan`` says is next, now: early, or once more.

    Returns its payment. A period is charged once: whoever asks again with a plan read
    before gets the same payment. With the same ``idempotency_key`` one that was
    refused is not tried again, either. Raises as `charge_token`, and
    `InvalidTransition` or `InvalidOperation` if nothing can be charged. Refreshes
    ``plan``.
    """
    refuse_open_transaction("charge_plan")
    _need(registry[plan.provider], Capability.TOKENS)
    due_on = plan.due_on
    operation = plans.charge_now(
        plan.pk,
        due_on,
        timezone.localdate(),
        client_key=client_key_of(plan.customer_id, idempotency_key),
        actor=actor_of(by),
    )
    if operation is None:
        deliver_notices()
        plan.refresh_from_db()
        attempts = plans.attempts_at(plan, due_on)
        return next(filter(plans.is_collected, attempts), attempts[-1])
    try:
        return carry_out_charge(operation)
    finally:
        plans.follow(plan.pk)
        deliver_notices()
        plan.refresh_from_db()


def recovery_payment(plan: RecurringPlan) -> Payment:
    """Return a payment with which the buyer pays in person what ``plan`` owes.

    Send them ``payment.get_checkout_url()``. Once it is paid the plan goes on, with
    the method they paid with. Asked again, the same payment is returned as long as it
    can be paid. Joins the caller's transaction. `InvalidTransition` if nothing is
    owed, or a charge is under way.
    """
    return plans.open_recovery(plan.pk)


def sync_plan(plan: RecurringPlan) -> PlanStatus:
    """Ask the provider how a plan stands that it charges, and believe its answer.

    Refreshes ``plan``. `UnsupportedOperation` where it cannot be asked.
    """
    refuse_open_transaction("sync_plan")
    provider = registry[plan.provider]
    first = plan.first_payment
    if plan.managed_by == PlanManager.APP:
        raise UnsupportedOperation("this site charges the plan; nobody else knows more")
    if plan.provider_reference is None and first is not None:
        # Its name may have come with an answer that was lost.
        sync_payment(first)
        plan.refresh_from_db()
    if plan.provider_reference is not None:
        _need(provider, Capability.FETCH_PLAN)
        _believe(plan, provider.fetch_plan(plan.provider_reference))
    deliver_notices()
    plan.refresh_from_db()
    return PlanStatus(plan.status)


# What falls due -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """What one run of `charge_due_plans` did; with ``dry_run``, what it would do.

    ``plans`` were looked at; their charges brought money (``charged``), were refused
    or are open. ``ended`` are plans whose last day or grace is over, ``asked`` those
    about which a provider was asked. ``problems`` spells the first errors out.
    """

    plans: int = 0
    charged: int = 0
    refused: int = 0
    open: int = 0
    ended: int = 0
    asked: int = 0
    errors: int = 0
    problems: Sequence[str] = ()


def charge_due_plans(
    providers: Sequence[str] | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    now: datetime | None = None,
    *,
    catch_up: bool = False,
    progress: Progress | None = None,
) -> PlanReport:
    """Charge every plan of this site that is due on the day of ``now``.

    ``providers`` are aliases (None: all), ``limit`` bounds the plans (default 500).
    The site's time zone says which day it is. However often it runs, and on how many
    machines, a period is charged once; after an outage a plan is charged for one
    period a day, or for all at once with ``catch_up``. Plans whose last day has come
    end here, and providers are asked about renewals that are overdue.

    Never raises because of a plan: its problem is in the report, the others go on.
    Plans of an account that left the settings are reported, and wait for its return.
    """
    refuse_open_transaction("charge_due_plans")
    check_moment("now", now)
    today = timezone.localdate(now)
    bound = 500 if limit is None else limit
    due, overdue = plans.due_plans(today), plans.overdue_plans()
    if providers is not None:
        due = due.filter(provider__in=providers)
        overdue = overdue.filter(provider__in=providers)
    known = due.filter(provider__in=list(registry))
    keys = list(known.order_by("next_on", "id").values_list("pk", flat=True)[:bound])
    ask = list(overdue.order_by("sync_at", "id").values_list("pk", flat=True)[:bound])
    if dry_run:
        return PlanReport(plans=len(keys), asked=len(ask))
    run = _Run(today, catch_up=catch_up)
    run.report_strangers(due)
    for number, pk in enumerate(keys, 1):
        run.attempt(run.charge, pk)
        if progress is not None:
            progress(number, len(keys))
    for pk in ask:
        run.attempt(run.ask, pk)
    deliver_notices()
    return PlanReport(
        plans=len(keys),
        **run.counts,
        errors=len(run.problems),
        problems=tuple(run.problems[:MOST_PROBLEMS]),
    )


class _Run:
    """One run over due plans, and what came of it."""

    def __init__(self, today: date, *, catch_up: bool) -> None:
        self.today = today
        self.catch_up = catch_up
        self.counts = dict.fromkeys(("charged", "refused", "open", "ended", "asked"), 0)
        self.problems: list[str] = []

    def attempt(self, step: Callable[[int], None], pk: int) -> None:
        """Run ``step``: one plan must not stop the others."""
        try:
            step(pk)
        except MultipayError as error:
            logger.warning("plan %s: %s", pk, error)
            self.problems.append(f"plan {pk}: {error}")
        except Exception as error:
            logger.exception("plan %s failed", pk)
            self.problems.append(f"plan {pk}: {type(error).__name__}")

    def report_strangers(self, due: QuerySet[RecurringPlan]) -> None:
        """Name the accounts of ``due`` plans that nobody can charge at the moment."""
        strangers = due.exclude(provider__in=list(registry)).order_by("provider")
        for alias, count in strangers.values_list("provider").annotate(Count("pk")):
            problem = f"{count} plans of {alias!r}, which is not in the settings"
            logger.warning("due: %s", problem)
            self.problems.append(problem)

    def charge(self, pk: int) -> None:
        """Charge one plan if it is due: once, or until it is not due any more."""
        while True:
            plan, operation = plans.charge_due(pk, self.today, catch_up=self.catch_up)
            self.counts["ended"] += plan.status in ENDED_PLAN_STATUSES
            if operation is None:
                return
            try:
                payment = carry_out_charge(operation)
            finally:
                plans.follow(pk)
            is_paid = plans.is_collected(payment)
            outcome = "open" if plans.is_open(payment) else "refused"
            self.counts["charged" if is_paid else outcome] += 1
            if not (is_paid and self.catch_up):
                return

    def ask(self, pk: int) -> None:
        """Ask the provider about one plan, if nobody else does."""
        plan = RecurringPlan.objects.get(pk=pk)
        if not plans.claim_sync(plan) or plan.provider not in registry:
            return
        can_ask = Capability.FETCH_PLAN in registry[plan.provider].capabilities
        if can_ask or plan.provider_reference is None:
            sync_plan(plan)
            self.counts["asked"] += 1


# Calls about plans --------------------------------------------------------------------


def resume_plan_call(operation: Operation) -> None:
    """Carry an open change or cancellation on: ask about it, or send it again.

    Neither moves money, and both say what is to be: sent twice, they do it once.
    """
    refuse_open_transaction("resume_plan_call")
    plan = _plan_of(operation)
    is_unknown = operation.state == OperationState.UNKNOWN
    if is_unknown and operation.kind == OperationKind.CANCEL_PLAN:
        provider = registry[plan.provider]
        if Capability.FETCH_PLAN in provider.capabilities and plan.provider_reference:
            snapshot = provider.fetch_plan(plan.provider_reference)
            is_ending = operation.at_period_end and snapshot.next_on is None
            if snapshot.status in ENDED_PLAN_STATUSES or is_ending:
                plans.conclude_plan(operation, snapshot)
                _believe(plan, snapshot)
                deliver_notices()
                return
    _carry_out(operation)


def _carried_out(plan: RecurringPlan, operation: Operation | None) -> RecurringPlan:
    """Send ``operation``, and drop what is not to be sent: now, or after the commit."""
    calls: list[Callable[[], Any]] = []
    if operation is not None:
        calls.append(lambda: _carry_out(operation))
    if plan.managed_by == PlanManager.APP:
        calls += [lambda: _drop_unsent(plan), deliver_notices]
    for call in calls:
        if is_in_transaction():
            transaction.on_commit(lambda call=call: _later(call), robust=True)  # type: ignore[misc]
        else:
            call()
    plan.refresh_from_db()
    return plan


def _later(call: Callable[[], Any]) -> None:
    """Carry out after a commit that nobody waits for; what fails is tried again."""
    try:
        call()
    except MultipayError as error:
        logger.warning("a plan after a commit: %s", error)


def _drop_unsent(plan: RecurringPlan) -> None:
    """Let charges of a plan that is over be refused before they are sent."""
    for operation in plans.unsent_charges(plan):
        if RecurringPlan.objects.filter(
            pk=plan.pk, status__in=ENDED_PLAN_STATUSES
        ).exists():
            carry_out_charge(operation)


def _carry_out(operation: Operation) -> None:
    """Send one call about a plan and conclude it; nothing if another worker has it."""
    plan = _plan_of(operation)
    plan.refresh_from_db()
    is_fresh = ledger.claim_operation(operation)
    is_again = not is_fresh and ledger.claim_operation(operation, is_repeatable=True)
    if not (is_fresh or is_again):
        return
    try:
        snapshot = _call(registry[plan.provider], operation, plan)
    except MultipayError as error:
        # What went wrong with the second attempt says nothing about the first.
        state = OperationState.UNKNOWN if is_again else state_after(error)
        ledger.conclude_operation(operation, state, str(error), wait_of(error))
        if not is_again:
            raise
        logger.warning("operation %s is still unknown: %s", operation.pk, error)
        return
    plans.conclude_plan(operation, snapshot)
    plans.follow(plan.pk)
    deliver_notices()


def _call(
    provider: Provider, operation: Operation, plan: RecurringPlan
) -> PlanSnapshot:
    reference = plan.provider_reference or ""
    if operation.kind == OperationKind.CHANGE_PLAN:
        return provider.change_plan(
            PlanChangeRequest(
                key=operation.key,
                provider_reference=reference,
                amount=money.from_minor(operation.amount_minor, plan.currency),
            )
        )
    return provider.cancel_plan(
        PlanCancelRequest(
            key=operation.key,
            provider_reference=reference,
            at_period_end=operation.at_period_end,
        )
    )


def _believe(plan: RecurringPlan, snapshot: PlanSnapshot) -> None:
    """Write what the provider answered about ``plan`` just now."""
    plans.learn(plan.pk, snapshot, payment_id=None, is_current=True)
    plans.follow(plan.pk)


def _plan_of(operation: Operation) -> RecurringPlan:
    plan = operation.plan
    assert plan is not None  # noqa: S101  (calls about plans name their plan)
    return plan


# Checks of what the caller gave -------------------------------------------------------


def _manager_of(
    provider: Provider, managed_by: str | None, token: Token | None
) -> PlanManager:
    """Return who charges the plan, if they can."""
    has_plans = Capability.PLANS in provider.capabilities
    if managed_by is None:
        is_theirs = has_plans and token is None
        manager = PlanManager.PROVIDER if is_theirs else PlanManager.APP
    else:
        manager = PlanManager(choice("managed_by", managed_by, PlanManager))
    if manager == PlanManager.PROVIDER:
        _need(provider, Capability.PLANS)
        if token is not None:
            raise InvalidOperation(
                "a plan that the provider charges is registered by its first payment, "
                "not with a saved method",
                "token",
            )
    else:
        _need(provider, Capability.TOKENS)
    return manager


def _need(provider: Provider, capability: Capability) -> None:
    if capability not in provider.capabilities:
        raise UnsupportedOperation(
            f"{provider.display_name} cannot {capability.value.replace('_', ' ')}"
        )


def _check_day(field: str, value: object) -> None:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise InvalidOperation(
            f"{field} is a {type(value).__name__}; use datetime.date", field
        )


def _check_days(start_on: date, ends_on: date | None) -> None:
    _check_day("start_on", start_on)
    if start_on < timezone.localdate():
        raise InvalidOperation(
            f"start_on is {start_on}, which is over; use the next day to be charged",
            "start_on",
        )
    if ends_on is not None:
        _check_day("ends_on", ends_on)
        if ends_on <= start_on:
            raise InvalidOperation(
                f"ends_on is {ends_on}; it must come after start_on", "ends_on"
            )
