"""Recurring plans: what falls due, what was charged, and what follows from it.

A plan follows its payments: `follow` reads them and writes where the plan stands, and
may run at any time, any number of times. Lock order: the plan, then the token; nobody
who has locked a payment waits for a plan.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from moneyed import Money

from django_multipay import ledger, money, recurrence, states
from django_multipay.conf import conf
from django_multipay.enums import (
    DeclineCode,
    Initiator,
    OperationKind,
    OperationState,
    PaymentStatus,
    PlanManager,
    PlanStatus,
    TokenStatus,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import InvalidOperation, InvalidTransition
from django_multipay.ledger import charges
from django_multipay.ledger.claims import DatabaseNow, retried
from django_multipay.messages import PaymentSnapshot, PlanSnapshot
from django_multipay.models import Notice, Operation, Payment, RecurringPlan, Token
from django_multipay.models.fields import exactly
from django_multipay.redaction import storable

logger = logging.getLogger("django_multipay.ledger")

CHARGED = frozenset({PlanStatus.ACTIVE, PlanStatus.PAST_DUE})

BUYER_TIME = timedelta(hours=1)
"""How long nothing is charged by itself once the buyer went to pay in person."""

LATE_AMOUNT = timedelta(days=1)
"""How long a provider may still charge the amount from before a change."""

SYNC_EVERY = timedelta(days=1)

_REFERENCE = re.compile(r"[A-Za-z0-9-]{1,30}")


def lock_plan(plan_id: int) -> RecurringPlan:
    """Return the plan, locked until the transaction ends."""
    return RecurringPlan.objects.select_for_update().get(pk=plan_id)


# The beginning -----------------------------------------------------------------------


def open_plan(plan: RecurringPlan) -> None:
    """Insert ``plan``; joins the caller's transaction."""
    with transaction.atomic():
        plan.save(force_insert=True)


def bind_payment(plan: RecurringPlan, payment: Payment) -> None:
    """Let ``payment``, not started yet, be the first of ``plan``, for its period."""
    with transaction.atomic():
        Payment.objects.filter(pk=payment.pk).update(plan_due_on=plan.start_on)
        payment.plan_due_on = plan.start_on
        plan.first_payment = payment
        plan.save(update_fields=["first_payment", "updated_at"])


def find_plan(provider: str, reference: str) -> RecurringPlan | None:
    """Return the plan that the account ``provider`` calls ``reference``."""
    if not _is_reference(reference):
        return None
    return RecurringPlan.objects.filter(
        exactly("provider_reference", reference), provider=provider
    ).first()


def _is_reference(text: str) -> bool:
    # No database takes NUL, and no provider makes references as long as that.
    return 0 < len(text) <= 128 and text.isprintable()


# What follows from the payments ------------------------------------------------------


@retried
def follow(plan_id: int) -> RecurringPlan:
    """Let a plan follow its payments, and write what the shop must hear of it."""
    with transaction.atomic(durable=True):
        plan = lock_plan(plan_id)
        _follow(plan)
    return plan


def _follow(plan: RecurringPlan) -> list[Payment]:
    """Write where ``plan``, which is locked, stands by its payments.

    Return what was tried for the period that this site collects. Whoever charges must
    decide by that reading: the plan's lock does not stop payments, and one that was
    open a moment ago may be paid, and final, when it is read again.
    """
    before = _standing(plan)
    attempts: list[Payment] = []
    if plan.managed_by == PlanManager.APP:
        attempts = _follow_charges(plan)
    else:
        _follow_renewals(plan)
    _write(plan, before)
    return attempts


def _standing(plan: RecurringPlan) -> list[Any]:
    return [plan.status, plan.needs_buyer, plan.attempts]


_FIELDS = (
    "token",
    "amount_minor",
    "period",
    "next_on",
    "ends_on",
    "is_ending",
    "status",
    "attempts",
    "tried_on",
    "past_due_since",
    "decline_code",
    "last_error",
    "needs_buyer",
    "buyer_until",
    "canceled_at",
    "provider_reference",
    "sync_at",
    "updated_at",
)


def _write(plan: RecurringPlan, before: Sequence[Any]) -> None:
    """Save ``plan`` and tell the shop if anything but a date changed."""
    plan.save(update_fields=_FIELDS)
    if _standing(plan) != before:
        _tell(plan, "plan_status_changed")


def _tell(plan: RecurringPlan, signal: str, payment: Payment | None = None) -> None:
    Notice.objects.create(
        plan=plan, payment=payment, signals=[signal], due_at=DatabaseNow()
    )


def _tell_charged(plan: RecurringPlan) -> None:
    """Tell the shop of every charge that brought money, each once."""
    for payment in plan.payments.filter(
        plan_told=False, plan_due_on__isnull=False, captured_minor__gt=0
    ).order_by("plan_due_on", "pk"):
        Payment.objects.filter(pk=payment.pk).update(plan_told=True)
        _tell(plan, "plan_charged", payment)


def attempts_at(plan: RecurringPlan, due_on: date) -> list[Payment]:
    """Return what was tried for one period, in order; the last decides last."""
    rows = plan.payments.filter(plan_due_on=due_on)
    return list(rows.defer("checkout_data").order_by("plan_attempt"))


def is_collected(payment: Payment) -> bool:
    """Say whether money came, whatever became of it afterwards: once is enough."""
    return payment.captured_minor > 0 or payment.status == PaymentStatus.AUTHORIZED


def is_open(payment: Payment) -> bool:
    """Say whether money may still come without anybody doing anything new."""
    if payment.status in states.FINAL_STATUSES:
        return False
    # A page that the buyer never opened charges nobody.
    is_idle = payment.status == PaymentStatus.CREATED and payment.started_at is None
    if not (is_idle and payment.initiator == Initiator.BUYER):
        return True
    # A saved method may be charged by one click, and the answer be lost.
    clicks = payment.operations.filter(
        kind=OperationKind.CHECKOUT, state__in=ledger._SENT_STATES
    )
    return payment.token_id is not None and clicks.exists()


def _follow_charges(plan: RecurringPlan) -> list[Payment]:
    """Follow the charges that this site makes, one period after the other.

    Return the attempts at the period that the plan stands at then.
    """
    _tell_charged(plan)
    # One that dunning ended comes back when its buyer pays after all.
    if plan.status in states.ENDED_PLAN_STATUSES and not plan.needs_buyer:
        return []
    while True:
        attempts = attempts_at(plan, plan.due_on)
        if not any(map(is_collected, attempts)):
            break
        _advance(plan)
    _take_token(plan)
    if plan.status in states.ENDED_PLAN_STATUSES:
        return attempts
    ours = [one for one in attempts if one.initiator == Initiator.MERCHANT]
    failed = [one for one in ours if _is_refusal(one)]
    if ours and ours[-1].decline_code == DeclineCode.NOT_ASKED:
        plan.last_error = _why(ours[-1])
    if any(one.next_action for one in ours) and not plan.needs_buyer:
        plan.last_error = "the bank wants the buyer to confirm the payment"
        _wait_for_buyer(plan, plan.tried_on or timezone.localdate())
    elif len(failed) > plan.attempts and not any(map(is_open, attempts)):
        _dun(plan, failed)
    return attempts


def _is_refusal(payment: Payment) -> bool:
    """Say whether a charge was refused; not if no bank was ever asked about it.

    For an account that is away, or whose key is not accepted, no buyer is dunned.
    """
    is_over = payment.status in states.UNSUCCESSFUL_STATUSES
    return is_over and payment.decline_code != DeclineCode.NOT_ASKED


def _advance(plan: RecurringPlan) -> None:
    """Go on to the next period, because this one is paid."""
    plan.period += 1
    plan.attempts = 0
    plan.decline_code = plan.last_error = ""
    plan.needs_buyer = False
    plan.past_due_since = plan.buyer_until = plan.canceled_at = None
    if plan.status != PlanStatus.PAUSED:
        plan.status = PlanStatus.ACTIVE
        plan.next_on = plan.due_on
        if plan.tried_on is not None:
            # However much is in arrears, a buyer is charged once a day at most.
            plan.next_on = max(plan.due_on, plan.tried_on + timedelta(days=1))


def _take_token(plan: RecurringPlan) -> None:
    """Charge from now on what the buyer paid with last, if they let us keep it."""
    if plan.period == 0:
        return
    last = next(
        filter(is_collected, attempts_at(plan, plan.due_date(plan.period - 1))), None
    )
    if last is None or not last.save_token:
        return
    token = last.token
    if token is None or token.pk == plan.token_id:
        if plan.token_id is None and not plan.needs_buyer:
            plan.last_error = "the payment brought no saved method to charge again"
        return
    is_chosen_later = plan.operations.filter(
        kind=OperationKind.CHANGE_PLAN,
        token__isnull=False,
        created_at__gt=last.created_at,
    ).exists()
    if token.status == TokenStatus.ACTIVE and not is_chosen_later:
        plan.token = token
        plan.last_error = ""


def _dun(plan: RecurringPlan, failed: Sequence[Payment]) -> None:
    """Say when to try again after the last of ``failed``, or that the buyer must."""
    last = failed[-1]
    tried_on = plan.tried_on or last.created_at.date()
    plan.attempts = len(failed)
    plan.decline_code = last.decline_code
    plan.last_error = _why(last)
    plan.past_due_since = plan.past_due_since or tried_on
    if plan.is_ending:
        # Nobody wants another period, so nobody is asked for it again.
        _cancel(plan)
        return
    if plan.status != PlanStatus.PAUSED:
        plan.status = PlanStatus.PAST_DUE
    again_on = recurrence.next_try(
        last.decline_code, plan.attempts, plan.past_due_since, conf.plan_retry_days
    )
    is_alive = plan.token is not None and plan.token.status == TokenStatus.ACTIVE
    if again_on is not None and is_alive:
        plan.next_on = max(again_on, tried_on + timedelta(days=1))
    else:
        _wait_for_buyer(plan, tried_on)


def _why(payment: Payment) -> str:
    fact = payment.transactions.filter(kind=TransactionKind.FAILURE).last()
    said = fact.detail if fact else ""
    return storable(said or str(payment.get_decline_code_display()), 255)


def _wait_for_buyer(plan: RecurringPlan, today: date) -> None:
    """Let nothing happen by itself until the buyer acts or the grace is over."""
    plan.needs_buyer = True
    plan.past_due_since = plan.past_due_since or today
    if plan.status != PlanStatus.PAUSED:
        plan.status = PlanStatus.PAST_DUE
    plan.next_on = today + timedelta(days=conf.plan_grace_days)


def _follow_renewals(plan: RecurringPlan) -> None:
    """Follow the charges that the provider makes and tells us of, in any order."""
    _tell_charged(plan)
    if plan.status in states.ENDED_PLAN_STATUSES:
        return
    days = plan.payments.filter(plan_due_on__isnull=False)
    latest = days.aggregate(day=Max("plan_due_on"))["day"]
    if latest is None:
        return
    attempts = attempts_at(plan, latest)
    is_paid = any(map(is_collected, attempts))
    failed = [one for one in attempts if one.status in states.UNSUCCESSFUL_STATUSES]
    if plan.status == PlanStatus.PENDING and not is_paid:
        return
    reached = recurrence.period_at(plan.start_on, plan.interval_months, latest) + 1
    if reached > plan.period:
        plan.period = reached
        if not plan.is_ending:
            plan.next_on = plan.due_on
            plan.sync_at = _overdue_at(plan.next_on)
    _end_there(plan)
    if plan.past_due_since is not None and plan.past_due_since > latest:
        return
    if is_paid:
        plan.attempts = 0
        plan.decline_code = plan.last_error = ""
        plan.past_due_since = None
        plan.status = PlanStatus.ACTIVE
        return
    if failed and (plan.past_due_since, plan.attempts) != (latest, len(failed)):
        plan.attempts = len(failed)
        plan.decline_code = failed[-1].decline_code
        plan.last_error = _why(failed[-1])
        plan.past_due_since = latest
        plan.status = PlanStatus.PAST_DUE


def _overdue_at(due_on: date) -> datetime:
    """Return when a charge of ``due_on`` that nobody told us of is asked about."""
    return datetime.combine(due_on + timedelta(days=2), time(), UTC)


def _end_there(plan: RecurringPlan) -> None:
    """End at the provider what has no charge left before its last day."""
    is_last = plan.ends_on is not None and plan.due_on >= plan.ends_on
    if is_last and plan.provider_reference:
        _cancel_there(plan)


# What falls due ----------------------------------------------------------------------


def due_plans(today: date) -> QuerySet[RecurringPlan]:
    """Return the plans of which something may have to happen by ``today``."""
    return RecurringPlan.objects.filter(
        Q(managed_by=PlanManager.APP) | Q(ends_on__isnull=False),
        status__in=[PlanStatus.PENDING, PlanStatus.ACTIVE, PlanStatus.PAST_DUE],
        next_on__lte=today,
    )


@retried
def charge_due(
    plan_id: int, today: date, *, catch_up: bool = False
) -> tuple[RecurringPlan, Operation | None]:
    """Write the charge of a plan ahead that is due by ``today``, if one is.

    What is not to be charged any more ends here; so does what was in arrears for
    longer than its grace. ``catch_up``: a second period on one day, too. Nothing is
    sent.
    """
    with transaction.atomic(durable=True):
        plan = lock_plan(plan_id)
        attempts = _follow(plan)
        before = _standing(plan)
        operation = _charge_due(plan, attempts, today, catch_up=catch_up)
        _write(plan, before)
    return plan, operation


def _charge_due(
    plan: RecurringPlan, attempts: Sequence[Payment], today: date, *, catch_up: bool
) -> Operation | None:
    if (
        plan.status in states.ENDED_PLAN_STATUSES
        or plan.status == PlanStatus.PAUSED
        or plan.next_on is None
    ):
        return None
    is_in_arrears = catch_up and not attempts and plan.due_on <= today
    if plan.next_on > today and not is_in_arrears:
        return None
    if _is_at_its_end(plan):
        _end_by(plan, today)
        return None
    if plan.managed_by != PlanManager.APP or plan.due_on > today:
        return None
    if plan.needs_buyer and not _is_at_the_door(plan):
        # Its grace is over; should the buyer pay after all, it goes on.
        plan.status = PlanStatus.CANCELED
        plan.canceled_at = timezone.now()
        plan.next_on = None
        return None
    if _is_busy(plan, attempts):
        plan.next_on = today + timedelta(days=1)
        return None
    if plan.token is None or plan.token.status != TokenStatus.ACTIVE:
        plan.last_error = "there is no saved method to charge"
        _wait_for_buyer(plan, today)
        return None
    return _insert_charge(plan, plan.token, attempts, today)


def _is_at_its_end(plan: RecurringPlan) -> bool:
    # A provider's own last day may differ from ours.
    due_on = plan.next_on if plan.is_ending and plan.next_on else plan.due_on
    return plan.ends_on is not None and due_on >= plan.ends_on


def _end_by(plan: RecurringPlan, today: date) -> None:
    """End a plan whose last period is over, or look again on its last day."""
    assert plan.ends_on is not None  # noqa: S101  (asked for by the caller)
    if plan.ends_on > today:
        plan.next_on = plan.ends_on
        return
    plan.status = PlanStatus.CANCELED if plan.is_ending else PlanStatus.ENDED
    plan.next_on = plan.sync_at = None


def _is_at_the_door(plan: RecurringPlan) -> bool:
    return plan.buyer_until is not None and plan.buyer_until > timezone.now()


def _is_busy(plan: RecurringPlan, attempts: Sequence[Payment]) -> bool:
    """Say whether money for the period may come already, so that none is asked for."""
    return _is_at_the_door(plan) or any(map(is_open, attempts))


def _insert_charge(
    plan: RecurringPlan,
    token: Token,
    earlier: Sequence[Payment],
    today: date,
    **by: Any,
) -> Operation:
    """Write a charge of ``token`` ahead; ``by`` as `charges.insert_charge` takes it."""
    operation = charges.insert_charge(
        _payment_of(
            plan,
            plan_due_on=plan.due_on,
            plan_attempt=len(earlier),
            retry_of=earlier[-1] if earlier else None,
        ),
        token,
        **by,
    )
    plan.tried_on = today
    # Looked at again, should nobody tell us what became of it.
    plan.next_on = today + timedelta(days=1)
    return operation


def _payment_of(plan: RecurringPlan, **more: Any) -> Payment:
    """Return an unsaved payment of ``plan`` by what the plan says."""
    values: dict[str, Any] = {
        name: getattr(plan, name)
        for name in (
            "provider",
            "customer_id",
            "order_id",
            "description",
            "amount_minor",
            "currency",
            "buyer_name",
            "buyer_email",
            "buyer_phone",
            "buyer_country",
            "locale",
            "success_url",
            "failure_url",
        )
    }
    return Payment(plan=plan, **(values | more))


@retried
def charge_now(
    plan_id: int,
    due_on: date,
    today: date,
    *,
    client_key: str | None = None,
    actor: str = "",
) -> Operation | None:
    """Write the charge of the period ``due_on`` ahead because a person wants it now.

    None if that period was paid, or is being paid, by now: asking twice charges once.
    A ``client_key`` that was seen before returns its own charge, however it ended.
    `InvalidTransition` if the plan is not to be charged, `InvalidOperation` if there
    is nothing to charge, or if the key was used for something else.
    """
    with transaction.atomic(durable=True):
        plan = lock_plan(plan_id)
        wish = f"plan {plan.uuid}"
        seen = charges.find_charge(client_key, wish)
        if seen is not None:
            return seen
        attempts = _follow(plan)
        before = _standing(plan)
        if due_on < plan.due_on:
            return None
        _check_chargeable(plan, due_on)
        if _is_busy(plan, attempts):
            return None
        if plan.token is None:
            raise InvalidOperation(
                "the plan has no saved method to charge; let the buyer pay in person",
                "token",
            )
        operation = _insert_charge(
            plan,
            plan.token,
            attempts,
            today,
            client_key=client_key,
            fingerprint=wish,
            actor=actor,
        )
        _write(plan, before)
    return operation


def _check_chargeable(plan: RecurringPlan, due_on: date) -> None:
    if plan.managed_by != PlanManager.APP:
        raise InvalidTransition(f"plan {plan.uuid} is charged by its provider")
    is_waiting = plan.status == PlanStatus.PENDING and plan.token_id is not None
    if plan.status not in CHARGED and not is_waiting:
        raise InvalidTransition(f"plan {plan.uuid} is {plan.status}; nothing is due")
    if due_on != plan.due_on or _is_at_its_end(plan):
        raise InvalidTransition(
            f"plan {plan.uuid} has no charge due on {due_on}; look at it again",
            "due_on",
        )


# The buyer in person -----------------------------------------------------------------


@retried
def open_recovery(plan_id: int) -> Payment:
    """Return a payment for the buyer to pay the current period with, in person.

    Joins the caller's transaction. The same one as long as it can be paid.
    `InvalidTransition` if nothing is to be paid.
    """
    with transaction.atomic():
        plan = lock_plan(plan_id)
        attempts = _follow(plan)
        is_owed = plan.status == PlanStatus.PAST_DUE or plan.needs_buyer
        is_unborn = (
            plan.status == PlanStatus.PENDING and plan.first_payment_id is not None
        )
        if plan.managed_by != PlanManager.APP:
            raise InvalidTransition(f"plan {plan.uuid} is charged by its provider")
        if not (is_owed or is_unborn):
            raise InvalidTransition(
                f"plan {plan.uuid} is {plan.status}; nothing is due"
            )
        last = attempts[-1] if attempts else None
        if last is not None and last.status not in states.FINAL_STATUSES:
            return _page_of(plan, last)
        payment = _payment_of(
            plan,
            save_token=True,
            plan_due_on=plan.due_on,
            plan_attempt=len(attempts),
            retry_of=last,
        )
        return ledger.open_payment(payment)


def _page_of(plan: RecurringPlan, payment: Payment) -> Payment:
    """Return ``payment`` if its page lets the buyer do something."""
    if payment.initiator == Initiator.BUYER or payment.next_action:
        return payment
    raise InvalidTransition(
        f"plan {plan.uuid}: a charge is under way and its outcome is not known yet"
    )


@retried
def admit_buyer(payment: Payment) -> None:
    """Let the buyer pay a plan's period in person, and nobody charge it meanwhile.

    `InvalidTransition` if it was paid, is being charged, or the plan is over.
    """
    assert payment.plan_id is not None  # noqa: S101  (asked for by the caller)
    with transaction.atomic(durable=True):
        plan = lock_plan(payment.plan_id)
        if plan.status in states.ENDED_PLAN_STATUSES and not plan.needs_buyer:
            raise InvalidTransition(f"the plan is {plan.status}; nothing is due")
        others = [
            one
            for one in plan.payments.filter(plan_due_on=payment.plan_due_on)
            if one.pk != payment.pk
        ]
        if any(is_collected(one) or is_open(one) for one in others):
            raise InvalidTransition(
                "this period of the plan is paid, or being charged right now"
            )
        plan.buyer_until = timezone.now() + BUYER_TIME
        plan.save(update_fields=["buyer_until", "updated_at"])


# What people decide ------------------------------------------------------------------


def _record(
    plan: RecurringPlan, kind: OperationKind, actor: str, **values: Any
) -> Operation:
    """Write who decided what, where nobody has to be called."""
    return Operation.objects.create(
        kind=kind,
        plan=plan,
        state=OperationState.SUCCEEDED,
        actor=storable(actor, 150),
        **values,
    )


@retried
def change_terms(
    plan_id: int,
    *,
    amount: Money | None,
    token: Token | None,
    ends_on: date | None,
    today: date,
    actor: str,
) -> Operation | None:
    """Write new terms; return the call that tells the provider, if one must.

    Joins the caller's transaction. A new method is tried at once where the plan waits
    for one. `InvalidTransition` for a plan that is over.
    """
    with transaction.atomic():
        plan = lock_plan(plan_id)
        before = _standing(plan)
        if plan.status in states.ENDED_PLAN_STATUSES:
            raise InvalidTransition(f"plan {plan.uuid} is {plan.status}")
        if ends_on is not None:
            plan.ends_on = ends_on
            if plan.next_on is not None and plan.due_on >= ends_on:
                plan.next_on = min(plan.next_on, ends_on)
            if plan.managed_by == PlanManager.PROVIDER:
                _end_there(plan)
        operation = None
        amount_minor = money.to_minor(amount) if amount is not None else 0
        if plan.managed_by == PlanManager.PROVIDER and amount is not None:
            operation = _request(
                plan, OperationKind.CHANGE_PLAN, actor, amount_minor=amount_minor
            )
        elif amount is not None or token is not None:
            _record(
                plan,
                OperationKind.CHANGE_PLAN,
                actor,
                amount_minor=amount_minor,
                token=token,
            )
            plan.amount_minor = amount_minor or plan.amount_minor
        if token is not None:
            plan.token = token
            plan.last_error = ""
            if plan.needs_buyer or plan.past_due_since is not None:
                plan.needs_buyer = False
                plan.next_on = today
            elif plan.status == PlanStatus.PENDING:
                # Nobody has to pay its first period in person any more.
                plan.next_on = max(plan.due_on, today)
        _write(plan, before)
    return operation


@retried
def pause(plan_id: int, actor: str) -> None:
    """Let nothing fall due until somebody resumes the plan; joins the transaction."""
    with transaction.atomic():
        plan = lock_plan(plan_id)
        if plan.status == PlanStatus.PAUSED:
            return
        before = _standing(plan)
        if plan.managed_by != PlanManager.APP or plan.status not in CHARGED:
            raise InvalidTransition(
                f"plan {plan.uuid} is {plan.status}, charged by {plan.managed_by}; "
                "only a running plan that this site charges can be paused"
            )
        plan.status = PlanStatus.PAUSED
        plan.next_on = None
        _record(plan, OperationKind.CHANGE_PLAN, actor)
        _write(plan, before)


@retried
def resume(plan_id: int, today: date, actor: str) -> None:
    """Let a paused plan go on; what fell due meanwhile is left out. Joins, too."""
    with transaction.atomic():
        plan = lock_plan(plan_id)
        if plan.status in CHARGED:
            return
        before = _standing(plan)
        if plan.status != PlanStatus.PAUSED:
            raise InvalidTransition(f"plan {plan.uuid} is {plan.status}, not paused")
        if plan.past_due_since is not None:
            # What was refused before is still owed.
            plan.status = PlanStatus.PAST_DUE
            plan.next_on = today
            if plan.needs_buyer:
                _wait_for_buyer(plan, today)
        else:
            while plan.due_on < today and not attempts_at(plan, plan.due_on):
                plan.period += 1
            plan.status = PlanStatus.ACTIVE
            plan.next_on = plan.due_on
        _record(plan, OperationKind.CHANGE_PLAN, actor)
        _write(plan, before)


@retried
def request_cancel(
    plan_id: int, *, at_period_end: bool, actor: str
) -> Operation | None:
    """End a plan; return the call that ends it at the provider, if one must.

    Joins the caller's transaction. A charge that nobody has sent yet is not sent any
    more. `InvalidTransition` for a plan that is over.
    """
    with transaction.atomic():
        plan = lock_plan(plan_id)
        # What was paid a moment ago is paid for.
        is_ours = plan.managed_by == PlanManager.APP
        attempts = _follow(plan) if is_ours else []
        before = _standing(plan)
        if plan.status in states.ENDED_PLAN_STATUSES:
            if plan.needs_buyer:
                plan.needs_buyer = False
                _write(plan, before)
                return None
            raise InvalidTransition(f"plan {plan.uuid} is {plan.status} already")
        if plan.managed_by == PlanManager.PROVIDER and plan.provider_reference:
            return _request(
                plan,
                OperationKind.CANCEL_PLAN,
                actor,
                at_period_end=at_period_end,
            )
        is_paid_for = plan.status in {PlanStatus.ACTIVE, PlanStatus.PAUSED}
        _record(plan, OperationKind.CANCEL_PLAN, actor, at_period_end=at_period_end)
        if at_period_end and is_paid_for:
            plan.is_ending = True
            plan.status = PlanStatus.ACTIVE
            if any(map(is_open, attempts)):
                # Should the charge that is under way succeed, it pays for its period.
                plan.ends_on = plan.due_date(plan.period + 1)
            else:
                plan.ends_on = plan.next_on = plan.due_on
        else:
            _cancel(plan)
        _write(plan, before)
    return None


def _cancel(plan: RecurringPlan) -> None:
    plan.status = PlanStatus.CANCELED
    plan.needs_buyer = False
    plan.canceled_at = plan.canceled_at or timezone.now()
    plan.next_on = plan.sync_at = None


def unsent_charges(plan: RecurringPlan) -> list[Operation]:
    """Return the charges of ``plan`` that were written ahead and never sent."""
    rows = plan.operations.filter(
        kind=OperationKind.CHARGE, state=OperationState.REQUESTED
    )
    return list(rows)


# Calls about plans -------------------------------------------------------------------


def _request(
    plan: RecurringPlan, kind: OperationKind, actor: str, **values: Any
) -> Operation:
    """Write a call ahead; the same wish returns the call that is open.

    `InvalidTransition` while another one is: the provider must answer it first.
    """
    slot = f"plan:{plan.pk}"
    open_one = Operation.objects.filter(open_slot=slot).first()
    if open_one is None:
        return Operation.objects.create(
            kind=kind, plan=plan, open_slot=slot, actor=storable(actor, 150), **values
        )
    is_same = open_one.kind == kind and all(
        getattr(open_one, name) == value for name, value in values.items()
    )
    if not is_same:
        raise InvalidTransition(
            f"plan {plan.uuid}: a {open_one.get_kind_display()} is under way and its "
            "outcome is not known yet"
        )
    return open_one


@retried
def conclude_plan(operation: Operation, snapshot: PlanSnapshot) -> None:
    """Write that the provider did what ``operation`` asked of it."""
    with transaction.atomic(durable=True):
        plan = lock_plan(_plan_id(operation))
        before = _standing(plan)
        state = OperationState.SUCCEEDED
        was_sent = Q(pk=operation.pk, state__in=ledger._SENT_STATES)
        is_ours = ledger._conclude(operation, state) or Operation.objects.filter(
            was_sent
        ).update(state=state, open_slot=None, error="", updated_at=DatabaseNow())
        if not is_ours:
            return
        if operation.kind == OperationKind.CHANGE_PLAN:
            plan.amount_minor = operation.amount_minor
        elif (
            operation.at_period_end
            and snapshot.status not in states.ENDED_PLAN_STATUSES
        ):
            plan.is_ending = True
            plan.ends_on = plan.next_on = plan.next_on or plan.due_on
        elif plan.status not in states.ENDED_PLAN_STATUSES:
            _end_or_cancel(plan, operation)
        _write(plan, before)


def _end_or_cancel(plan: RecurringPlan, operation: Operation) -> None:
    """Write the end that the provider was told; paid until its last day, if ours."""
    is_ours = not operation.actor
    if is_ours and plan.status == PlanStatus.ACTIVE and _is_before_its_end(plan):
        plan.next_on, plan.sync_at = plan.ends_on, None
    else:
        _cancel(plan)


def _is_before_its_end(plan: RecurringPlan) -> bool:
    return plan.ends_on is not None and plan.ends_on > timezone.localdate()


def _plan_id(operation: Operation) -> int:
    plan_id = operation.plan_id
    assert plan_id is not None, "calls about plans name their plan"  # noqa: S101
    return plan_id


# What the provider says about plans --------------------------------------------------


def hear(payment: Payment, snapshot: PaymentSnapshot, verdict: Verdict) -> None:
    """Let the plan of ``payment`` learn what came with a snapshot, and follow."""
    if payment.plan_id is None or verdict == Verdict.HELD:
        return
    if snapshot.plan is not None:
        learn(payment.plan_id, snapshot.plan, payment_id=payment.pk, is_current=False)
    follow(payment.plan_id)


@retried
def learn(
    plan_id: int, snapshot: PlanSnapshot, *, payment_id: int | None, is_current: bool
) -> bool:
    """Take over what the provider says about a plan; False if it is not this plan.

    ``payment_id`` is the payment that the news came with, None where they were asked
    for or named the plan. Only the first payment may give a plan its name.
    ``is_current``: an answer of now, not a message that may be old. What the plan's
    payments prove is left to `follow`.
    """
    with transaction.atomic(durable=True):
        plan = lock_plan(plan_id)
        if plan.managed_by != PlanManager.PROVIDER:
            return False
        before = _standing(plan)
        if not _name(plan, snapshot, payment_id):
            return False
        if plan.status not in states.ENDED_PLAN_STATUSES:
            _take_over(plan, snapshot, is_current=is_current)
        elif (
            plan.status == PlanStatus.CANCELED
            and snapshot.status not in states.ENDED_PLAN_STATUSES
        ):
            # It had no name there yet when it was canceled here.
            _cancel_there(plan)
        _write(plan, before)
    return True


def _name(plan: RecurringPlan, snapshot: PlanSnapshot, payment_id: int | None) -> bool:
    """Give the plan the provider's name for it; False if it is another's."""
    reference = snapshot.reference
    if plan.provider_reference:
        return plan.provider_reference == reference
    if not _is_reference(reference):
        return False
    others = RecurringPlan.objects.filter(
        provider=plan.provider, provider_reference=reference
    )
    if payment_id != plan.first_payment_id or others.exists():
        logger.warning("plan %s: a reference that is another's is refused", plan.uuid)
        return False
    plan.provider_reference = reference
    return True


def _take_over(
    plan: RecurringPlan, snapshot: PlanSnapshot, *, is_current: bool
) -> None:
    if snapshot.status in states.ENDED_PLAN_STATUSES:
        if _is_before_its_end(plan) and not plan.is_ending and _was_told(plan):
            # We ended it early, because it knows no last day; ours is still to come.
            plan.next_on = plan.ends_on
            return
        plan.status = snapshot.status
        plan.canceled_at = plan.canceled_at or timezone.now()
        plan.next_on = plan.sync_at = None
        return
    if is_current and plan.status in CHARGED and snapshot.status in CHARGED:
        is_late = snapshot.status == PlanStatus.PAST_DUE
        plan.status = snapshot.status
        plan.past_due_since = (plan.past_due_since or plan.due_on) if is_late else None
    next_on = None if plan.is_ending else snapshot.next_on
    if next_on is not None and (
        is_current or plan.next_on is None or next_on > plan.next_on
    ):
        plan.next_on = next_on
        plan.sync_at = _overdue_at(next_on)


def _cancel_there(plan: RecurringPlan) -> None:
    """Have the provider end the plan, unless it was told to before."""
    if not _was_told(plan):
        _request(plan, OperationKind.CANCEL_PLAN, "", at_period_end=False)


def _was_told(plan: RecurringPlan) -> bool:
    calls = plan.operations.filter(kind=OperationKind.CANCEL_PLAN, attempts__gt=0)
    return calls.exclude(state=OperationState.REFUSED).exists()


@retried
def open_renewal(
    plan_id: int, snapshot: PaymentSnapshot, day: date | None = None
) -> Payment | None:
    """Return the payment that a charge made by the provider is, inserted if need be.

    One for each transaction, and one that is paid for each period: that of ``day``, if
    the provider names it, or of when the money was taken. None where it
    cannot be one of this plan: without a name, before the second period, another
    transaction for a period that was paid, or a name that another payment has.
    """
    with transaction.atomic(durable=True):
        plan = lock_plan(plan_id)
        reference = snapshot.provider_reference
        name = snapshot.merchant_reference or ""
        has_name = bool(reference or _REFERENCE.fullmatch(name))
        if not has_name or not ledger._COMPARABLE.fullmatch(reference):
            return None
        known = _known_charge(plan, reference, name)
        if known is not None:
            is_renewal = known.plan_id == plan.pk and known.pk != plan.first_payment_id
            return known if is_renewal else None
        due_on = _due_on_of(plan, snapshot, day)
        if due_on is None:
            return None
        earlier = attempts_at(plan, due_on)
        if any(map(is_collected, earlier)):
            return None
        if earlier and earlier[-1].status not in states.FINAL_STATUSES:
            return earlier[-1]
        now = timezone.now()
        payment = _payment_of(
            plan,
            amount_minor=_amount_at(plan, snapshot),
            initiator=Initiator.MERCHANT,
            status=PaymentStatus.PENDING,
            plan_due_on=due_on,
            plan_attempt=len(earlier),
            started_at=now,
            sync_at=now + ledger.SYNC_DELAYS[0],
        )
        is_free = not Payment.objects.filter(merchant_reference=name).exists()
        if is_free and _REFERENCE.fullmatch(name):
            # Their own order id is what they can be asked about.
            payment.merchant_reference = name
        payment.save(force_insert=True)
    return payment


def _known_charge(plan: RecurringPlan, reference: str, name: str) -> Payment | None:
    """Return the payment that has this transaction, or else this order id.

    A refusal may have only the latter; but a renewal may repeat that of the first.
    """
    payments = Payment.objects.filter(provider=plan.provider)
    by_transaction = payments.filter(
        Q(provider_reference=reference)
        | Q(transaction_reference=reference)
        | Q(transactions__provider_reference=reference)
    )
    found = by_transaction.first() if reference else None
    others = payments.exclude(registered_plan=plan)
    return found or others.filter(merchant_reference=name or "-").first()


def _due_on_of(
    plan: RecurringPlan, snapshot: PaymentSnapshot, day: date | None
) -> date | None:
    """Return the first day of the period that a charge is for.

    The provider's day may begin earlier than ours.
    """
    said, earlier = snapshot.plan, 0
    if day is None and snapshot.occurred_at is not None:
        day = snapshot.occurred_at.date()
    elif day is None and said is not None and said.next_on is not None:
        # The day of the charge after this one.
        day, earlier = said.next_on, 1
    day = day or timezone.localdate()
    period = recurrence.period_at(
        plan.start_on, plan.interval_months, day + timedelta(days=1)
    )
    return plan.due_date(period - earlier) if period > earlier else None


def _amount_at(plan: RecurringPlan, snapshot: PaymentSnapshot) -> int:
    """Return which amount of ``plan`` a charge should have, in minor units.

    The one it names, if that was in effect then: late news of a charge before a
    change of the amount have the amount from before it.
    """
    now = timezone.now()
    moment = min(snapshot.occurred_at or now, now)
    first = plan.first_payment
    amounts = [first.amount_minor if first else plan.amount_minor]
    begins: list[datetime | None] = [None]
    ends: list[datetime | None] = []
    for change in plan.operations.filter(
        kind=OperationKind.CHANGE_PLAN,
        amount_minor__gt=0,
        state__in=[OperationState.SUCCEEDED, *ledger._SENT_STATES],
    ).order_by("pk"):
        is_done = change.state == OperationState.SUCCEEDED
        ends.append(change.updated_at + LATE_AMOUNT if is_done else None)
        amounts.append(change.amount_minor)
        begins.append(change.created_at)
    ends.append(None)
    in_effect = {
        amount
        for amount, begin, end in zip(amounts, begins, ends, strict=True)
        if (begin is None or begin <= moment) and (end is None or moment <= end)
    }
    named = snapshot.amount
    if named is not None and named.currency.code == plan.currency:
        minor = money.to_minor(named)
        if minor in in_effect:
            return minor
    return plan.amount_minor


def overdue_plans() -> QuerySet[RecurringPlan]:
    """Return the plans of providers about which it is time to ask."""
    return RecurringPlan.objects.filter(
        managed_by=PlanManager.PROVIDER, sync_at__lte=DatabaseNow()
    )


@retried
def claim_sync(plan: RecurringPlan) -> bool:
    """Take the next inquiry about ``plan``; False if it is not due yet."""
    with transaction.atomic(durable=True):
        return bool(
            overdue_plans()
            .filter(pk=plan.pk)
            .update(sync_at=DatabaseNow() + SYNC_EVERY)
        )
