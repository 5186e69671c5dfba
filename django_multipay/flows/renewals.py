"""Renewals: what a provider charged by itself becomes a payment of the plan."""

from __future__ import annotations

import dataclasses

from django_multipay.enums import Capability, Verdict
from django_multipay.ledger import plans
from django_multipay.messages import PaymentSnapshot, ProviderEvent
from django_multipay.models import Payment, RecurringPlan
from django_multipay.providers.base import Provider


def payment_of_renewal(
    provider: Provider, event: ProviderEvent
) -> tuple[Payment | Verdict | None, ProviderEvent]:
    """Return the payment that a renewal is, and the event as one about that payment.

    The payment is written down first, with the amount that the plan had then; like
    any other it believes nothing that does not fit. None for a plan that we do not
    know, or not yet; *held* for what cannot be a renewal of it.
    """
    claim = event.snapshot
    plan = plans.find_plan(provider.alias, claim.plan.reference if claim.plan else "")
    if plan is None:
        return None, event
    if _is_foreign(provider, claim):
        return Verdict.HELD, event
    payment = plans.open_renewal(plan.pk, claim, event.due_on)
    if payment is None:
        return Verdict.HELD, event
    named = dataclasses.replace(claim, merchant_reference=payment.merchant_reference)
    return payment, dataclasses.replace(event, snapshot=named)


def _is_foreign(provider: Provider, claim: PaymentSnapshot) -> bool:
    """Say whether a message is not of our account, or of the other mode."""
    return any(
        ours is not None and ours != theirs
        for ours, theirs in (
            (provider.account, claim.account),
            (provider.is_live, claim.is_live),
        )
    )


def hear_of_plan(
    provider: Provider, payment: Payment | None, event: ProviderEvent, verdict: Verdict
) -> Verdict | None:
    """Let a plan follow a message; return the verdict on it, None if it is not ours.

    A message about the plan itself may be old, so that its provider is asked, where
    it can be.
    """
    said = event.snapshot.plan
    plan = payment.plan if payment is not None else None
    if plan is None and said is not None:
        plan = plans.find_plan(provider.alias, said.reference)
    if plan is None:
        return verdict if payment is not None else None
    before = _standing(plan)
    if payment is not None:
        plans.hear(payment, event.snapshot, verdict)
    can_ask = Capability.FETCH_PLAN in provider.capabilities
    if (
        said is not None
        and not event.is_renewal
        and can_ask
        and verdict != Verdict.HELD
    ):
        current = provider.fetch_plan(said.reference)
        plans.learn(plan.pk, current, payment_id=None, is_current=True)
        plans.follow(plan.pk)
    plan.refresh_from_db()
    is_news = _standing(plan) != before
    return Verdict.APPLIED if is_news and verdict == Verdict.IGNORED else verdict


def _standing(plan: RecurringPlan) -> list[object]:
    return [plan.status, plan.next_on, plan.provider_reference, plan.attempts]
