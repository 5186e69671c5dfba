"""Asking the provider: the proof of a payment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django_multipay import ledger
from django_multipay.enums import Capability, PaymentStatus, Source, Verdict
from django_multipay.exceptions import UnsupportedOperation
from django_multipay.flows.guards import (
    account_of,
    query_of,
    refuse_open_transaction,
)
from django_multipay.flows.notices import deliver_notices
from django_multipay.ledger import plans
from django_multipay.messages import PaymentSnapshot
from django_multipay.models import Notice, Payment
from django_multipay.providers.base import Provider
from django_multipay.registry import registry


def sync_payment(payment: Payment, *, source: Source = Source.SYNC) -> Verdict:
    """Ask the provider about ``payment`` and believe its answer.

    Refreshes ``payment``. `UnsupportedOperation` where the provider has no inquiry,
    `ProviderError` when it does not answer, `RuntimeError` inside a transaction.
    """
    refuse_open_transaction("sync_payment")
    provider = registry[payment.provider]
    if Capability.FETCH not in provider.capabilities:
        raise UnsupportedOperation(f"{provider.display_name} has no payment inquiry")
    snapshot = ask(provider, payment)
    verdict = ledger.apply_snapshot(
        payment.pk, snapshot, account=account_of(provider), source=source
    )
    plans.hear(payment, snapshot, verdict)
    deliver_notices()
    payment.refresh_from_db()
    return verdict


def sync_if_due(payment: Payment) -> bool:
    """Sync ``payment`` if an inquiry is due; say whether the provider was asked.

    For pages that buyers reload: however often they do, the provider is asked at
    growing intervals only.
    """
    # Claimed first: one that nobody can ask about must not stay first in the queue.
    if not ledger.claim_sync(payment) or payment.provider not in registry:
        return False
    can_ask = Capability.FETCH in registry[payment.provider].capabilities
    if can_ask:
        sync_payment(payment)
    else:
        payment.refresh_from_db()
    if ledger.is_abandoned(payment):
        _expire(payment)
    return can_ask


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said about a payment, and the payment as it was read before."""

    payment: Payment
    snapshot: PaymentSnapshot
    account: ledger.Account


def sync_claimed(payment: Payment) -> bool | Answer:
    """Sync ``payment``, whose inquiry the caller has taken; say whether it was asked.

    An `Answer` is for the caller to apply, alone or with others. Tells the shop nothing
    yet: who works on many payments delivers notices at the end.
    """
    provider = registry[payment.provider]
    if Capability.FETCH not in provider.capabilities:
        end_if_abandoned(payment)
        return False
    answer = Answer(payment, ask(provider, payment), account_of(provider))
    if _can_wait(answer):
        return answer
    apply_answer(answer)
    return True


def _can_wait(answer: Answer) -> bool:
    """Say whether ``answer`` is news, and still the same news a moment later.

    A total of refunds is not: it may lack a refund of ours that is made meanwhile.
    """
    snapshot = answer.snapshot
    is_of_refunds = snapshot.refunded or snapshot.status in (
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.REFUNDED,
    )
    return not is_of_refunds and _has_news(answer)


def _has_news(answer: Answer) -> bool:
    return ledger.has_news(answer.payment, answer.snapshot, account=answer.account)


def apply_answer(answer: Answer) -> bool:
    """Believe ``answer``."""
    payment, verdict = answer.payment, Verdict.IGNORED
    if _has_news(answer):
        verdict = ledger.apply_snapshot(
            payment.pk, answer.snapshot, account=answer.account, source=Source.SYNC
        )
    plans.hear(payment, answer.snapshot, verdict)
    if verdict == Verdict.APPLIED:
        payment.refresh_from_db(fields=["status", "expires_at"])
    end_if_abandoned(payment)
    return True


def apply_answers(
    answers: Sequence[Answer],
) -> tuple[Mapping[int, Payment], list[Notice]]:
    """Believe ``answers`` of one account at once, in one transaction.

    Returns the payments, by their keys, as they are now, and the notices, which are
    the caller's. Those that are left out are for `apply_answer`. Whatever is raised, no
    answer was applied.
    """
    applied, notices = ledger.apply_snapshots(
        {answer.payment.pk: answer.snapshot for answer in answers},
        account=answers[0].account,
        source=Source.SYNC,
    )
    return {payment.pk: payment for payment in applied}, notices


def end_if_abandoned(payment: Payment) -> bool:
    """Expire ``payment``, once it was asked about, if nothing is expected any more."""
    if ledger.is_abandoned(payment):
        payment.refresh_from_db(fields=["status", "expires_at"])
        if ledger.is_abandoned(payment):
            _expire(payment)
    return True


def _expire(payment: Payment) -> None:
    """End a payment that nobody paid; late proof of money still counts."""
    account = account_of(registry[payment.provider])
    ledger.apply_snapshot(
        payment.pk,
        PaymentSnapshot(
            status=PaymentStatus.EXPIRED,
            merchant_reference=payment.merchant_reference,
            account=account.account,
            is_live=account.is_live,
            amount=payment.amount,
        ),
        account=account,
        source=Source.SYNC,
    )
    deliver_notices()
    payment.refresh_from_db()


def ask(provider: Provider, payment: Payment) -> PaymentSnapshot:
    """Return what ``provider`` says about ``payment`` now; writes nothing."""
    return provider.fetch_payment(query_of(payment))
