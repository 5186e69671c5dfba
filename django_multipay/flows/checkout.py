"""From an order to a buyer who stands at the provider's door."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from django.core.cache import cache
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import get_language
from moneyed import Money

from django_multipay import ledger, money
from django_multipay.enums import (
    Capability,
    CaptureMode,
    Initiator,
    MethodKind,
    OperationState,
    PaymentStatus,
    PlanManager,
    Purpose,
    Source,
    TokenStatus,
    Verdict,
)
from django_multipay.exceptions import (
    InvalidOperation,
    InvalidTransition,
    MultipayError,
    ProviderConfigurationError,
    RequestRejected,
    UnsupportedOperation,
)
from django_multipay.flows.guards import (
    account_of,
    query_of,
    refuse_open_transaction,
    state_after,
    wait_of,
)
from django_multipay.flows.links import absolute_url, callback_url
from django_multipay.flows.notices import deliver_notices
from django_multipay.flows.wishes import (
    buyer_columns,
    check_amount,
    check_items,
    check_moment,
    check_token,
    check_usable,
    checkout_data,
    choice,
    dump_item,
    identifier,
    load_address,
    load_buyer,
    load_items,
    plain_json,
    words,
)
from django_multipay.ledger import attempts, plans
from django_multipay.messages import (
    Address,
    Buyer,
    LineItem,
    Method,
    NextAction,
    PaymentRequest,
    PlanTerms,
    QRCode,
)
from django_multipay.models import Payment, RecurringPlan, Token
from django_multipay.models.fields import exactly
from django_multipay.providers.base import Provider
from django_multipay.registry import registry
from django_multipay.states import UNSUCCESSFUL_STATUSES

logger = logging.getLogger("django_multipay.flows")

REFRESH_SECONDS = 10
"""A fresh code of one payment is asked for at most once in so many seconds."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way for a buyer to pay: an account, a method, or a method saved before."""

    provider: Provider
    method: Method
    token: Token | None = None

    @property
    def name(self) -> str:
        """What buyers know the way as, in their language."""
        if self.token is not None:
            brand = self.token.brand or self.provider.display_name
            return f"{brand} •••• {self.token.last4}" if self.token.last4 else brand
        if self.method.name:
            return self.method.name
        is_page = self.method.kind == MethodKind.PAGE
        return self.provider.display_name if is_page else str(self.method.kind.label)

    @property
    def is_named(self) -> bool:
        """Whether it has a name of its own, not that of a kind such as "Card"."""
        is_kind = not self.method.name and self.method.kind != MethodKind.PAGE
        return self.token is not None or not is_kind

    @property
    def key(self) -> str:
        """What tells the way from the others of a page, without personal data."""
        parts = [self.provider.alias, self.method.code]
        return ":".join([*parts, str(self.token.uuid)] if self.token else parts)


def create_payment(
    *,
    provider: str | None = None,
    order_id: str,
    amount: Money,
    buyer: Buyer | None = None,
    customer_id: str = "",
    success_url: str = "",
    failure_url: str = "",
    description: str = "",
    items: Sequence[LineItem] = (),
    locale: str = "",
    method: str = "",
    capture_mode: str = CaptureMode.AUTOMATIC,
    save_token: bool = False,
    token: Token | None = None,
    plan: RecurringPlan | None = None,
    metadata: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    ship_to: Address | None = None,
    provider_data: Mapping[str, Any] | None = None,
    retry_of: Payment | None = None,
) -> Payment:
    """Record that one ``amount`` is to be collected for ``order_id``; send nothing.

    ``provider`` is an alias, or None to let the buyer choose. ``amount`` is in major
    units, exactly as the currency allows. ``provider_data`` holds fields that only
    this provider knows (see its page). ``retry_of`` is the attempt of the same order
    that did not go through, if there is one. Joins the caller's transaction.

    `InvalidAmount`, `InvalidOperation` (with ``field``) or, for an unknown alias,
    `ProviderConfigurationError`; `InvalidTransition` when ``retry_of`` could still be
    paid, or the order was.
    """
    buyer = buyer or Buyer()
    chosen = registry[provider] if provider is not None else None
    check_amount(amount, chosen)
    check_items(items, amount)
    check_token(token, provider, customer_id)
    if save_token and not customer_id:
        raise InvalidOperation(
            "save_token needs customer_id: a saved method belongs to somebody",
            "customer_id",
        )
    check_moment("expires_at", expires_at)
    payment = Payment(
        provider=provider or "",
        order_id=identifier("order_id", order_id, 64),
        amount_minor=money.to_minor(amount),
        currency=amount.currency.code,
        capture_mode=choice("capture_mode", capture_mode, CaptureMode),
        method=identifier("method", method, 64, is_required=False),
        description=words("description", description, 255),
        items=[dump_item(item) for item in items],
        **buyer_columns(buyer),
        customer_id=identifier("customer_id", customer_id, 64, is_required=False),
        locale=identifier("locale", locale or get_language() or "", 16, False),
        success_url=identifier("success_url", success_url, 500, is_required=False),
        failure_url=identifier("failure_url", failure_url, 500, is_required=False),
        metadata=plain_json("metadata", metadata or {}),
        save_token=save_token,
        token=token,
        plan=plan,
        # As it is read again.
        expires_at=expires_at and expires_at.astimezone(UTC),
        checkout_data=checkout_data(buyer, ship_to, provider_data),
    )
    if retry_of is None:
        return ledger.open_payment(payment)
    if retry_of.order_id != order_id:
        raise InvalidOperation(
            f"retry_of is a payment of order {retry_of.order_id}, not of {order_id}",
            "retry_of",
        )
    if attempts.open_retry(retry_of, payment) is not payment:
        raise InvalidTransition(
            f"payment {retry_of.uuid} was tried again already; go on with that attempt",
            "retry_of",
        )
    return payment


def retry_payment(payment: Payment) -> Payment:
    """Return another attempt of the order of ``payment``, which did not go through.

    It asks for the same money for the same things; what the shop had left to the
    buyer is open again. A second call returns the same attempt. Joins the caller's
    transaction. `InvalidTransition` while ``payment`` could still be paid, when
    another attempt was, when the time to pay is over, or when no buyer was there.
    """
    if (latest := latest_attempt(payment)).pk != payment.pk:
        return latest
    check_retryable(payment)
    return attempts.open_retry(payment, _attempt_after(payment))


def _attempt_after(payment: Payment) -> Payment:
    method = "" if payment.is_method_open or payment.token else payment.method
    try:
        # Providers tell what was used in words of their own, such as a card's brand.
        registry[payment.provider].method(method)
    except (KeyError, ProviderConfigurationError):
        method = ""
    return Payment(
        provider="" if payment.is_provider_open else payment.provider,
        method=method,
        is_provider_open=payment.is_provider_open,
        is_method_open=not method,
        order_id=payment.order_id,
        expires_at=payment.pay_until,
        **{name: getattr(payment, name) for name in _KEPT_BY_A_RETRY},
    )


_KEPT_BY_A_RETRY = (
    "amount_minor",
    "currency",
    "capture_mode",
    "description",
    "items",
    "buyer_name",
    "buyer_email",
    "buyer_phone",
    "buyer_country",
    "customer_id",
    "locale",
    "success_url",
    "failure_url",
    "metadata",
    "save_token",
)
"""Addresses and what only one provider knows are erased when an attempt is over."""


def latest_attempt(payment: Payment) -> Payment:
    """Return the newest attempt after ``payment``, or ``payment`` itself."""
    while following := Payment.objects.filter(retry_of=payment).first():
        payment = following
    return payment


def attempts_of(payment: Payment) -> list[Payment]:
    """Return ``payment`` and all attempts before and after it, the first one first."""
    others = ledger.other_attempts(payment)
    return sorted([payment, *others], key=lambda attempt: attempt.pk)


def paid_attempt(payment: Payment) -> Payment | None:
    """Return another attempt of the same order that has the buyer's money."""
    is_alone = payment.retry_of_id is None and payment.status == PaymentStatus.CREATED
    return None if is_alone else attempts.paid_attempt(payment)


def check_retryable(payment: Payment) -> None:
    """Raise `InvalidTransition` unless `retry_payment` may begin another attempt."""
    if payment.plan_id is not None or payment.initiator != Initiator.BUYER:
        raise InvalidTransition(
            f"payment {payment.uuid} was not made by a buyer at the checkout"
        )
    if payment.pay_until and payment.pay_until <= timezone.now():
        raise InvalidTransition(
            f"the time to pay {payment.order_id} is over", "expires_at"
        )
    attempts.check_retryable(payment)


def refresh_action(payment: Payment) -> NextAction | None:
    """Return a fresh code to scan for ``payment``, and store it.

    However often it is called, the provider is asked once in `REFRESH_SECONDS`;
    in between the code at hand is returned, as it is where nothing waits to be
    scanned. `UnsupportedOperation` where the provider has no such call,
    `ProviderError` when it does not answer, `RuntimeError` inside a transaction.
    """
    refuse_open_transaction("refresh_action")
    payment.refresh_from_db()
    action = payment.action
    if payment.status != PaymentStatus.PENDING or not isinstance(action, QRCode):
        return action
    provider = registry[payment.provider]
    if Capability.REFRESH_ACTION not in provider.capabilities:
        raise UnsupportedOperation(f"{provider.display_name} makes no fresh codes")
    if not cache.add(f"multipay:refresh:{payment.uuid}", 1, timeout=REFRESH_SECONDS):
        return action
    snapshot = provider.refresh_action(query_of(payment))
    if snapshot.amount not in {None, payment.amount}:
        raise RequestRejected(
            f"the fresh code asks for {snapshot.amount}, not for {payment.amount}; "
            "nobody is shown it",
            payment.provider,
            "refresh",
        )
    attempts.store_action(payment.pk, snapshot)
    payment.refresh_from_db()
    return payment.action


def start_payment(
    payment: Payment,
    request: HttpRequest | None = None,
    *,
    provider: str = "",
    method: str = "",
    token: Token | None = None,
) -> NextAction | None:
    """Open ``payment`` at its provider and return what the buyer does next.

    Safe to call again: an action that was stored is returned as it is, and only one
    caller at a time reaches the provider. None means that another worker is opening
    it right now, so ask again in a moment; or, if it is not *created* any more, that
    the buyer has nothing to do there. ``provider`` chooses the alias while the
    payment has none, ``method`` and ``token`` (a method saved for this customer) what
    the shop left to the buyer. A provider that could not be reached, or refused, does
    not stick: what was open before is open again.

    `InvalidTransition` once the payment is over, `ProviderError` when the provider
    could not be reached or refused, `RuntimeError` inside a transaction.
    """
    refuse_open_transaction("start_payment")
    if payment.next_action:
        # A page that is shown once more needs no lock.
        payment.refresh_from_db()
        if payment.next_action:
            return payment.action

    def admit() -> None:
        _check_startable(payment, provider, method)
        alias = registry[payment.provider or provider].alias
        if token is not None:
            check_token(token, alias, payment.customer_id)

    if payment.plan_due_on is not None:
        payment.refresh_from_db()
        admit()
        plans.admit_buyer(payment)
    operation = ledger.begin_checkout(
        payment, admit, provider=provider, method=method, token=token
    )
    if operation is None:
        return payment.action
    chosen = registry[payment.provider]
    # Some charge a saved method at once: what goes wrong with a later attempt says
    # nothing about one whose answer was lost.
    is_again = operation.is_again and payment.token is not None
    try:
        wish = _payment_request(payment, operation.key, request)
        start = chosen.start_plan if wish.plan else chosen.start_payment
        snapshot = start(wish)
        is_open = snapshot.status in {PaymentStatus.CREATED, PaymentStatus.PENDING}
        if is_open and snapshot.amount not in {None, payment.amount}:
            raise RequestRejected(
                f"the provider would ask the buyer for {snapshot.amount}, not for "
                f"{payment.amount}; nobody is sent there",
                payment.provider,
                "start",
            )
    except MultipayError as error:
        state = OperationState.UNKNOWN if is_again else state_after(error)
        has_chosen = payment.is_provider_open or (
            payment.is_method_open and bool(payment.method or payment.token)
        )
        if has_chosen and state != OperationState.UNKNOWN:
            attempts.release_choice(payment.pk, operation, str(error))
            payment.refresh_from_db()
        else:
            wait = wait_of(error)
            if state == OperationState.UNKNOWN and payment.token is not None:
                # What may still be at work there must be seen by whoever asks for it
                # before it is sent again.
                wait = max(wait or 0, ledger.LEASE.seconds)
            ledger.conclude_operation(operation, state, str(error), wait)
        raise
    ledger.conclude_checkout(payment, operation, snapshot)
    verdict = Verdict.IGNORED
    if not is_open:
        verdict = ledger.apply_snapshot(
            payment.pk, snapshot, account=account_of(chosen), source=Source.START
        )
    plans.hear(payment, snapshot, verdict)
    if not is_open:
        deliver_notices()
        payment.refresh_from_db()
    return payment.action


def ways_for(payment: Payment, customer_id: str = "") -> list[Way]:
    """Return the ways in which the buyer can pay ``payment`` now.

    Accounts and their methods in the order of the settings, as far as they take the
    amount, its currency and the buyer's country; before them the methods that were
    saved for ``customer_id``, if that is who the payment is for. For a payment that
    did not go through they are those of another attempt.
    """
    if payment.status in UNSUCCESSFUL_STATUSES:
        payment = _attempt_after(payment)
    aliases = [payment.provider] if payment.provider else list(registry)
    if payment.token is not None and payment.provider in registry:
        # The shop chose what to pay with, or the buyer did and was not sent there yet.
        provider = registry[payment.provider]
        return [Way(provider=provider, method=provider.method(""), token=payment.token)]
    ways = [way for alias in aliases for way in _ways_of(alias, payment)]
    if not customer_id or payment.customer_id != customer_id:
        return ways
    if not payment.is_method_open or payment.capture_mode != CaptureMode.AUTOMATIC:
        return ways
    takers = {
        way.provider.alias: way.provider
        for way in ways
        if way.provider.takes_saved_methods
    }
    tokens = Token.objects.filter(
        Q(expires_on=None) | Q(expires_on__gte=timezone.localdate()),
        exactly("customer_id", customer_id),
        status=TokenStatus.ACTIVE,
        provider__in=takers,
    )
    saved = [
        Way(
            provider=takers[token.provider],
            method=takers[token.provider].method(""),
            token=token,
        )
        for token in tokens
    ]
    return [*saved, *ways]


def _ways_of(alias: str, payment: Payment) -> list[Way]:
    try:
        provider = registry[alias]
    except ProviderConfigurationError:
        # It left the settings, or they are broken: the system check says which.
        return []
    can = provider.capabilities
    is_manual = payment.capture_mode == CaptureMode.MANUAL
    if not payment.provider and (
        (is_manual and Capability.CAPTURE not in can)
        or (payment.save_token and Capability.TOKENS not in can)
    ):
        return []
    offered = provider.methods_for(payment.amount, payment.buyer_country)
    fixed = payment.method
    if fixed and provider.can_take(payment.amount):
        try:
            # What the shop chose itself need not be on the list of its settings.
            offered = [provider.method(fixed)] if payment.provider else offered
        except KeyError:
            offered = [Method(code=fixed, kind=MethodKind.PAGE)]
        offered = [method for method in offered if method.code == fixed]
    return [Way(provider=provider, method=method) for method in offered]


def _check_startable(payment: Payment, provider: str, method: str) -> None:
    if payment.status not in {PaymentStatus.CREATED, PaymentStatus.PENDING}:
        raise InvalidTransition(
            f"payment {payment.uuid} is {payment.status} and cannot be started; "
            "create a new payment for another attempt"
        )
    if payment.initiator != Initiator.BUYER:
        raise InvalidTransition(
            f"payment {payment.uuid} is charged by the shop, without the buyer"
        )
    if payment.review_reason:
        # Something was paid, perhaps by a click whose answer was lost.
        raise InvalidTransition(
            f"payment {payment.uuid} is held for review: {payment.review_reason}"
        )
    if payment.token is not None:
        check_usable(payment.token)
    if payment.expires_at and payment.expires_at <= timezone.now():
        raise InvalidTransition(
            f"payment {payment.uuid} expired; create a new payment", "expires_at"
        )
    if not (payment.provider or provider):
        raise InvalidOperation(
            "the payment has no provider yet; pass the alias the buyer chose",
            "provider",
        )
    if payment.provider and provider not in {"", payment.provider}:
        raise InvalidTransition(
            f"payment {payment.uuid} was already opened at {payment.provider}; "
            "create a new payment to use another provider",
            "provider",
        )
    if method and method != payment.method and not payment.is_method_open:
        raise InvalidTransition(
            f"payment {payment.uuid} is to be paid by {payment.method}", "method"
        )
    if not payment.provider:
        check_amount(payment.amount, registry[provider])
    if payment.retry_of_id is not None and (paid := attempts.paid_attempt(payment)):
        raise InvalidTransition(
            f"the order was paid by payment {paid.uuid}; nobody needs to pay again"
        )


def _payment_request(
    payment: Payment, key: str, request: HttpRequest | None
) -> PaymentRequest:
    data = payment.checkout_data or {}
    agent = request.headers.get("User-Agent", "") if request else ""
    return PaymentRequest(
        key=key,
        merchant_reference=payment.merchant_reference,
        order_id=payment.order_id,
        amount=payment.amount,
        return_url=callback_url(payment, Purpose.RETURN, request),
        status_url=callback_url(payment, Purpose.STATUS, request),
        cancel_url=absolute_url(payment.get_outcome_url(), request),
        capture_mode=CaptureMode(payment.capture_mode),
        method=payment.method,
        description=payment.description,
        items=load_items(payment),
        buyer=load_buyer(payment),
        ship_to=load_address(data.get("ship_to")),
        customer_id=payment.customer_id,
        locale=payment.locale,
        is_mobile="Mobi" in agent,
        # What is saved already is not saved once more.
        save_token=payment.save_token and payment.token is None,
        token=payment.token.provider_token if payment.token else "",
        plan=_plan_terms(payment, request),
        expires_at=payment.expires_at,
        metadata=payment.metadata,
        provider_data=data.get("provider_data") or {},
    )


def _plan_terms(payment: Payment, request: HttpRequest | None) -> PlanTerms | None:
    plan = payment.plan
    is_theirs = plan is not None and plan.managed_by == PlanManager.PROVIDER
    if plan is None or not is_theirs or plan.first_payment_id != payment.pk:
        return None
    start_on: date = plan.start_on
    return PlanTerms(
        amount=plan.amount,
        interval_months=plan.interval_months,
        start_on=start_on,
        notice_url=callback_url(payment, Purpose.PLAN, request),
    )
