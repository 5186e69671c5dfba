"""Refunds, captures, voids, confirmations and settlements: what may be asked for,
what is sent, and what is remembered when the answer is lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import (
    CaptureMode,
    DeclineCode,
    OperationKind,
    OperationState,
    PaymentStatus,
    RefundStatus,
    ReviewReason,
    Source,
    TransactionKind,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidAmount,
    InvalidOperation,
    InvalidTransition,
    MultipayError,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderUnavailable,
    RequestRejected,
    UnsupportedOperation,
)
from django_multipay.flows import (
    abandon_operation,
    approve_refund,
    capture_payment,
    confirm_payment,
    reconcile,
    refund_payment,
    release_review,
    settle_payment,
    start_payment,
    sync_payment,
    sync_refund,
    void_payment,
)
from django_multipay.flows.operations import (
    capturable,
    refundable,
    resume_operation,
    why_not,
)
from django_multipay.messages import (
    BankAccount,
    Decline,
    DisputeSnapshot,
    PaymentSnapshot,
    RefundSnapshot,
)
from django_multipay.models import Operation, Payment, Refund
from django_multipay.registry import registry
from tests.flows.scripted import (
    ACCOUNT,
    BankProvider,
    ObligingProvider,
    SilentProvider,
    TracingProvider,
    WholesaleProvider,
    account_settings,
    new_payment,
    snapshot_of,
)

pytestmark = pytest.mark.django_db

PAID, AUTHORIZED = PaymentStatus.PAID, PaymentStatus.AUTHORIZED


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(
        scripted=ObligingProvider,
        tracing=TracingProvider,
        bank=BankProvider,
        wholesale=WholesaleProvider,
        silent=SilentProvider,
    )


@pytest.fixture
def provider() -> Any:
    return registry["scripted"]


@pytest.fixture
def tracing() -> Any:
    return registry["tracing"]


def usd(text: str) -> Money:
    return Money(Decimal(text), "USD")


def payment_that_is(
    status: PaymentStatus, amount: str = "100.00", alias: str = "scripted", **more: Any
) -> Payment:
    payment = new_payment(amount=usd(amount), provider=alias, **more)
    start_payment(payment)
    ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, status),
        account=ledger.Account(alias=alias, account=ACCOUNT, is_live=None),
        source=Source.SYNC,
    )
    payment.refresh_from_db()
    assert payment.status == status
    return payment


def paid(amount: str = "100.00", alias: str = "scripted") -> Payment:
    return payment_that_is(PAID, amount, alias)


def authorized(amount: str = "100.00", alias: str = "scripted") -> Payment:
    return payment_that_is(AUTHORIZED, amount, alias, capture_mode=CaptureMode.MANUAL)


def later() -> None:
    """Make everything due that waits for its turn."""
    past = timezone.now() - timedelta(days=1)
    Operation.objects.update(retry_at=past, lease_until=past)
    Refund.objects.exclude(sync_at=None).update(sync_at=past)
    reconcile()


def sums(payment: Payment) -> tuple[str, int, int]:
    payment.refresh_from_db()
    return (payment.status, payment.captured_minor, payment.refunded_minor)


# Refunds -----------------------------------------------------------------------------


def test_a_refund_of_all_that_is_left(provider, listen):
    told = listen("payment_refunded", "refund_status_changed")
    payment = paid()
    refund = refund_payment(payment, reason="damaged", by="ann")
    assert refund.status == RefundStatus.SUCCEEDED
    assert (refund.amount, refund.reason, refund.requested_by) == (
        usd("100.00"),
        "damaged",
        "ann",
    )
    assert sums(payment) == (PaymentStatus.REFUNDED, 10000, 10000)
    assert refundable(payment) == usd("0.00")
    (sent,) = provider.told("refund")
    assert sent.merchant_reference == refund.merchant_reference
    assert sent.key == refund.operations.get().key
    assert sent.query.transaction_reference == payment.transaction_reference
    assert (sent.amount, sent.refundable) == (usd("100.00"), usd("100.00"))
    reconcile()
    assert [news["name"] for news in told].count("payment_refunded") == 1
    assert {news["refund"] for news in told if news["refund"]} == {refund}


def test_two_equal_partial_refunds_are_two_refunds(provider):
    payment = paid()
    first = refund_payment(payment, usd("30.00"))
    second = refund_payment(payment, usd("30.00"))
    assert first.pk != second.pk
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)
    assert [sent.refundable for sent in provider.told("refund")] == [
        usd("100.00"),
        usd("70.00"),
    ]


def test_two_clicks_on_one_form_are_one_refund(provider):
    payment = paid()
    first = refund_payment(payment, usd("30.00"), idempotency_key="form-1")
    second = refund_payment(payment, usd("30.00"), idempotency_key="form-1")
    assert first == second
    assert len(provider.told("refund")) == 1
    with pytest.raises(InvalidOperation) as caught:
        refund_payment(payment, usd("31.00"), idempotency_key="form-1")
    assert caught.value.field == "idempotency_key"
    other = paid()
    assert refund_payment(other, usd("30.00"), idempotency_key="form-1") != first


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        (usd("0"), InvalidAmount),
        (usd("-1.00"), InvalidAmount),
        (usd("100.01"), InvalidAmount),
        (usd("0.001"), InvalidAmount),
        (Money("10", "EUR"), InvalidAmount),
        (Money("NaN", "USD"), InvalidAmount),
        (Money("Infinity", "USD"), InvalidAmount),
        (Decimal("10.00"), InvalidAmount),
        ("10.00", InvalidAmount),
    ],
)
def test_a_wrong_amount_is_refused_by_name_before_anything_is_sent(
    provider, amount, error
):
    payment = paid()
    with pytest.raises(error) as caught:
        refund_payment(payment, amount)
    assert caught.value.field == "amount"
    assert provider.told("refund") == []
    assert not Refund.objects.exists()


@pytest.mark.parametrize("kind", [OperationKind.REFUND, OperationKind.CAPTURE])
def test_who_looked_before_it_changed_must_look_again(provider, kind):
    flow: Any = refund_payment if kind == OperationKind.REFUND else capture_payment
    payment = paid() if kind == OperationKind.REFUND else authorized()
    flow(payment, usd("30.00"), expected_left=usd("100.00"))
    for amount in (usd("30.00"), None):
        with pytest.raises(InvalidTransition, match="look at it again") as caught:
            flow(payment, amount, expected_left=usd("100.00"))
        assert caught.value.field == "expected_left"
    assert len(provider.told(kind.value)) == 1
    flow(payment, usd("30.00"), expected_left=usd("70.00"))
    assert len(provider.told(kind.value)) == 2


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_is_refused(key):
    with pytest.raises(InvalidOperation) as caught:
        refund_payment(paid(), idempotency_key=key)
    assert caught.value.field == "idempotency_key"


def test_what_waits_for_its_answer_is_reserved(provider):
    payment = paid()
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    refund = Refund.objects.get()
    assert refund.status == RefundStatus.UNKNOWN
    assert refundable(payment) == usd("40.00")
    with pytest.raises(InvalidAmount):
        refund_payment(payment, usd("60.00"))
    assert sums(payment) == (PAID, 10000, 0)


def test_an_unknown_refund_heals_by_the_providers_total(provider):
    payment = paid()
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    provider.will(
        "fetch", snapshot_of(payment, PAID, captured=payment.amount, refunded=usd("60"))
    )
    later()
    refund = Refund.objects.get()
    assert refund.status == RefundStatus.SUCCEEDED
    assert refund.operations.get().state == OperationState.SUCCEEDED
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)
    assert len(provider.told("refund")) == 1


def test_an_unknown_refund_the_provider_does_not_show_waits_for_a_person(provider):
    payment = paid()
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    provider.will("fetch", snapshot_of(payment, PAID, captured=payment.amount))
    later()
    refund = Refund.objects.get()
    assert refund.status == RefundStatus.UNKNOWN
    assert len(provider.told("refund")) == 1
    abandon_operation(refund.operations.get(), by="ann")
    refund.refresh_from_db()
    assert refund.status == RefundStatus.FAILED
    assert refundable(payment) == usd("100.00")
    assert "ann" in refund.error


def test_late_proof_beats_a_person_who_said_it_did_not_happen(provider):
    payment = paid()
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    abandon_operation(Refund.objects.get().operations.get(), by="ann")
    provider.will(
        "fetch", snapshot_of(payment, PAID, captured=payment.amount, refunded=usd("60"))
    )
    sync_payment(payment)
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)


def test_an_unknown_refund_is_asked_about_and_sent_again_where_that_is_safe(tracing):
    payment = paid(alias="tracing")
    tracing.will("refund", OutcomeUnknown("lost", "tracing", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    later()
    assert Refund.objects.get().status == RefundStatus.SUCCEEDED
    first, second = tracing.told("refund")
    assert first.key == second.key
    assert first.merchant_reference == second.merchant_reference
    assert len(tracing.told("fetch_refund")) == 1
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)


def test_a_refund_the_provider_never_got_is_sent_later(provider):
    payment = paid()
    provider.will("refund", ProviderUnavailable("away", "scripted", "refund"))
    with pytest.raises(ProviderUnavailable):
        refund_payment(payment)
    refund = Refund.objects.get()
    assert refund.status == RefundStatus.REQUESTED
    later()
    refund.refresh_from_db()
    assert refund.status == RefundStatus.SUCCEEDED
    assert len(provider.told("refund")) == 2


@pytest.mark.parametrize(
    "error",
    [
        RequestRejected("no", "scripted", "refund"),
        CredentialsRejected("no", "scripted", "refund"),
    ],
)
def test_a_refused_refund_frees_what_it_reserved(provider, error):
    payment = paid()
    provider.will("refund", error)
    with pytest.raises(type(error)):
        refund_payment(payment)
    refund = Refund.objects.get()
    assert refund.status == RefundStatus.FAILED
    assert refund.error
    assert refundable(payment) == usd("100.00")


def test_a_decline_of_a_refund_is_a_result(provider):
    payment = paid()
    provider.will(
        "refund",
        RefundSnapshot(
            status=RefundStatus.FAILED,
            decline=Decline(code=DeclineCode.GENERIC, message="balance too small"),
        ),
    )
    refund = refund_payment(payment)
    assert (refund.status, refund.error) == (RefundStatus.FAILED, "balance too small")
    assert sums(payment) == (PAID, 10000, 0)


def test_a_refund_in_transit_arrives_or_fails(tracing):
    payment = paid(alias="tracing")
    pending = RefundSnapshot(status=RefundStatus.PENDING, provider_reference="rfd_1")
    tracing.will("refund", pending, pending)
    first, second = (refund_payment(payment, usd("40.00")) for _ in range(2))
    assert first.status == RefundStatus.PENDING
    assert refundable(payment) == usd("20.00")
    tracing.will("fetch_refund", RefundSnapshot(status=RefundStatus.SUCCEEDED))
    assert sync_refund(first) == RefundStatus.SUCCEEDED
    tracing.will("fetch_refund", RefundSnapshot(status=RefundStatus.FAILED))
    assert sync_refund(second) == RefundStatus.FAILED
    (asked, _) = tracing.told("fetch_refund")
    assert asked.provider_reference == "rfd_1"
    assert asked.merchant_reference == first.merchant_reference
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 4000)
    assert refundable(payment) == usd("60.00")


def test_a_refund_made_at_the_providers_console_is_recorded_as_external(provider):
    payment = paid()
    ours = refund_payment(payment, usd("10.00"))
    provider.will(
        "fetch", snapshot_of(payment, PAID, captured=payment.amount, refunded=usd("35"))
    )
    sync_payment(payment)
    theirs = Refund.objects.get(is_external=True)
    assert (theirs.amount, theirs.status) == (usd("25.00"), RefundStatus.SUCCEEDED)
    assert Refund.objects.get(is_external=False) == ours
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 3500)
    assert refundable(payment) == usd("65.00")


def test_a_total_that_includes_our_own_refunds_adds_nothing(provider):
    payment = paid()
    refund_payment(payment, usd("10.00"))
    for total in ("10.00", "0", "10.00"):
        provider.will(
            "fetch",
            snapshot_of(payment, PAID, captured=payment.amount, refunded=usd(total)),
        )
        sync_payment(payment)
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 1000)
    assert not Refund.objects.filter(is_external=True).exists()


def test_a_message_about_a_refund_counts_once_however_often_it_comes(provider):
    payment = paid()
    said = RefundSnapshot(
        status=RefundStatus.SUCCEEDED, provider_reference="rfd_9", amount=usd("12.00")
    )
    for _ in range(3):
        ledger.apply_refund(payment.pk, said, source=Source.WEBHOOK)
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 1200)
    assert Refund.objects.get().is_external


def test_a_message_about_our_refund_finishes_it(tracing):
    payment = paid(alias="tracing")
    tracing.will("refund", RefundSnapshot(status=RefundStatus.PENDING))
    refund = refund_payment(payment, usd("12.00"))
    said = RefundSnapshot(
        status=RefundStatus.SUCCEEDED,
        provider_reference="rfd_9",
        merchant_reference=refund.merchant_reference,
        amount=usd("12.00"),
    )
    for _ in range(2):
        ledger.apply_refund(payment.pk, said, source=Source.WEBHOOK)
    refund.refresh_from_db()
    assert (refund.status, refund.provider_reference) == (
        RefundStatus.SUCCEEDED,
        "rfd_9",
    )
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 1200)


def test_another_amount_than_ours_is_held_for_a_person_who_hears_at_once(
    provider, listen
):
    payment = paid()
    news = listen("payment_needs_review")
    provider.will(
        "refund", RefundSnapshot(status=RefundStatus.SUCCEEDED, amount=usd("99.00"))
    )
    refund = refund_payment(payment, usd("9.00"))
    payment.refresh_from_db()
    assert refund.status == RefundStatus.UNKNOWN
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH
    assert refundable(payment) == usd("91.00")
    assert [one["payment"] for one in news] == [payment]


def test_a_bank_deposit_goes_back_to_an_account_that_is_forgotten_then():
    payment = paid(alias="bank")
    with pytest.raises(InvalidOperation) as caught:
        refund_payment(payment)
    assert caught.value.field == "account"
    account = BankAccount(holder="Kim", bank_code="088", number="110-123-456789")
    refund = refund_payment(payment, account=account)
    (sent,) = registry["bank"].told("refund")
    assert sent.account == account
    assert refund.account is None


def test_a_provider_that_refunds_only_all_says_so_before_it_is_asked():
    payment = paid(alias="wholesale")
    with pytest.raises(InvalidAmount, match="all of it"):
        refund_payment(payment, usd("30.00"))
    assert refund_payment(payment).status == RefundStatus.SUCCEEDED


@pytest.mark.parametrize(
    "flow", [refund_payment, capture_payment, void_payment, settle_payment]
)
def test_what_a_provider_cannot_do_is_known_before(flow: Callable[..., object]):
    payment = paid(alias="silent")
    with pytest.raises(UnsupportedOperation):
        flow(payment)
    kind = OperationKind(flow.__name__.removesuffix("_payment"))
    assert "cannot" in why_not(payment, kind)


# A second person ----------------------------------------------------------------------


def test_a_large_refund_waits_for_a_second_person(settings):
    settings.MULTIPAY |= {"REFUND_APPROVAL_ABOVE": {"USD": "50"}}
    provider: Any = registry["scripted"]
    ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
    payment = paid()
    assert refund_payment(payment, usd("20.00"), by=ann).status == "succeeded"
    assert refund_payment(payment, usd("30.00"), by=ann).status == "succeeded"
    # Many small ones are one large one.
    refund = refund_payment(payment, usd("0.01"), by=ann)
    assert refund.status == RefundStatus.REQUESTED
    assert len(provider.told("refund")) == 2
    assert refundable(payment) == usd("49.99")
    later()
    assert len(provider.told("refund")) == 2
    with pytest.raises(InvalidTransition):
        approve_refund(refund, by=ann)
    with pytest.raises(InvalidTransition):
        approve_refund(refund, by=None)
    assert approve_refund(refund, by=bob).status == RefundStatus.SUCCEEDED
    operation = refund.operations.get()
    assert (operation.actor, operation.approved_by) == ("ann", "bob")
    with pytest.raises(InvalidTransition):
        approve_refund(refund, by=bob)


def test_a_refund_that_nobody_approves_can_be_dropped(settings):
    settings.MULTIPAY |= {"REFUND_APPROVAL_ABOVE": {"USD": "50"}}
    payment = paid()
    refund = refund_payment(payment, by="ann")
    abandon_operation(refund.operations.get(), by="bob")
    refund.refresh_from_db()
    assert refund.status == RefundStatus.FAILED
    assert refundable(payment) == usd("100.00")
    with pytest.raises(InvalidTransition):
        abandon_operation(refund.operations.get(), by="bob")


# Captures, voids, confirmations, settlements --------------------------------------------


def test_a_capture_of_all(provider):
    payment = authorized()
    assert capturable(payment) == usd("100.00")
    operation = capture_payment(payment, by="ann")
    assert operation.state == OperationState.SUCCEEDED
    assert operation.open_slot is None
    assert sums(payment) == (PAID, 10000, 0)
    (sent,) = provider.told("capture")
    assert (sent.amount, sent.key) == (usd("100.00"), operation.key)
    assert capturable(payment) == usd("0.00")
    with pytest.raises(InvalidTransition):
        capture_payment(payment)


def test_partial_captures_add_up(provider):
    payment = authorized()
    capture_payment(payment, usd("30.00"))
    assert sums(payment) == (PAID, 3000, 0)
    capture_payment(payment, usd("70.00"))
    assert sums(payment) == (PAID, 10000, 0)
    assert len(provider.told("capture")) == 2
    payment = authorized(alias="wholesale")
    with pytest.raises(InvalidAmount):
        capture_payment(payment, usd("30.00"))


@pytest.mark.parametrize("amount", [usd("100.01"), usd("0"), Money("1", "EUR")])
def test_a_wrong_capture_is_refused_before_anything_is_sent(provider, amount):
    with pytest.raises(InvalidAmount) as caught:
        capture_payment(authorized(), amount)
    assert caught.value.field == "amount"
    assert provider.told("capture") == []


def test_a_void_releases_the_authorization(provider, listen):
    told = listen("payment_failed", "payment_status_changed")
    payment = authorized()
    operation = void_payment(payment, by="ann")
    assert operation.state == OperationState.SUCCEEDED
    assert sums(payment) == (PaymentStatus.CANCELED, 0, 0)
    assert payment.review_reason == ""
    kinds = list(payment.transactions.values_list("kind", flat=True))
    assert kinds == [TransactionKind.AUTHORIZATION, TransactionKind.VOID]
    provider.will("fetch", snapshot_of(payment, PaymentStatus.CANCELED))
    sync_payment(payment)
    assert payment.transactions.count() == 2
    assert told
    with pytest.raises(InvalidTransition):
        capture_payment(payment)


def test_a_refused_void_leaves_the_authorization(provider):
    payment = authorized()
    provider.will(
        "void",
        snapshot_of(payment, PaymentStatus.FAILED, provider_reference="V-1"),
    )
    assert void_payment(payment).state == OperationState.REFUSED
    assert sums(payment) == (AUTHORIZED, 0, 0)
    assert capture_payment(payment).state == OperationState.SUCCEEDED


def test_while_a_capture_is_unknown_nothing_else_touches_the_authorization(provider):
    payment = authorized()
    provider.will("capture", OutcomeUnknown("lost", "scripted", "capture"))
    with pytest.raises(OutcomeUnknown):
        capture_payment(payment)
    with pytest.raises(InvalidTransition, match="under way"):
        void_payment(payment)
    assert capture_payment(payment).state == OperationState.UNKNOWN
    assert len(provider.told("capture")) == 1
    provider.will("fetch", snapshot_of(payment, PAID))
    later()
    assert sums(payment) == (PAID, 10000, 0)
    operation = payment.operations.get(kind=OperationKind.CAPTURE)
    assert (operation.state, operation.open_slot) == (OperationState.SUCCEEDED, None)


def test_a_person_may_say_that_an_unknown_capture_did_not_happen(provider):
    payment = authorized()
    provider.will("capture", OutcomeUnknown("lost", "scripted", "capture"))
    with pytest.raises(OutcomeUnknown):
        capture_payment(payment)
    abandon_operation(payment.operations.get(kind=OperationKind.CAPTURE), by="ann")
    assert void_payment(payment).state == OperationState.SUCCEEDED


def test_an_answer_that_is_not_final_is_unknown(provider):
    payment = authorized()
    provider.will("capture", snapshot_of(payment, PaymentStatus.PENDING))
    assert capture_payment(payment).state == OperationState.UNKNOWN
    assert sums(payment) == (AUTHORIZED, 0, 0)


def test_an_answer_about_another_amount_is_held(provider):
    payment = authorized()
    provider.will("capture", snapshot_of(payment, PAID, amount=usd("1.00")))
    assert capture_payment(payment).state == OperationState.UNKNOWN
    payment.refresh_from_db()
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH
    assert payment.captured_minor == 0


@pytest.mark.parametrize(("takes_money", "status"), [(True, PAID), (False, AUTHORIZED)])
def test_an_authenticated_payment_is_confirmed(provider, takes_money, status):
    payment = payment_that_is(PaymentStatus.AUTHENTICATED)
    operation = confirm_payment(payment, capture=takes_money)
    assert operation.state == OperationState.SUCCEEDED
    payment.refresh_from_db()
    assert payment.status == status
    (sent,) = provider.told("confirm")
    assert sent.capture is takes_money
    assert sent.authentication_reference == f"T-{payment.merchant_reference}"


def test_a_declined_confirmation_is_a_result(provider):
    payment = payment_that_is(PaymentStatus.AUTHENTICATED)
    provider.will(
        "confirm",
        snapshot_of(
            payment,
            PaymentStatus.FAILED,
            decline=Decline(code=DeclineCode.INSUFFICIENT_FUNDS),
        ),
    )
    assert confirm_payment(payment).state == OperationState.REFUSED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.FAILED
    assert payment.decline_code == DeclineCode.INSUFFICIENT_FUNDS


def test_a_payment_is_settled_once(provider):
    payment = paid()
    assert settle_payment(payment).state == OperationState.SUCCEEDED
    assert sums(payment) == (PAID, 10000, 0)
    with pytest.raises(InvalidTransition):
        settle_payment(payment)
    assert len(provider.told("settle")) == 1


@pytest.mark.parametrize(
    ("flow", "status"),
    [
        (refund_payment, AUTHORIZED),
        (capture_payment, PaymentStatus.AUTHENTICATED),
        (void_payment, PAID),
        (confirm_payment, AUTHORIZED),
        (settle_payment, AUTHORIZED),
    ],
)
def test_a_state_that_does_not_allow_it_is_known_before(provider, flow, status):
    payment = payment_that_is(status)
    kind = OperationKind(flow.__name__.removesuffix("_payment"))
    assert why_not(payment, kind)
    with pytest.raises(InvalidTransition):
        flow(payment)
    assert payment.operations.filter(kind=kind).count() == 0


# Callers' transactions, and crashes ------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_is_sent_after_the_commit(provider):
    payment = paid()
    with transaction.atomic():
        refund = refund_payment(payment)
        assert refund.status == RefundStatus.REQUESTED
        assert provider.told("refund") == []
    refund.refresh_from_db()
    assert refund.status == RefundStatus.SUCCEEDED
    assert provider.calls_in_a_transaction == []


@pytest.mark.django_db(transaction=True)
def test_a_callers_rollback_takes_the_intent_with_it(provider):
    payment = paid()

    class Changed(Exception):
        pass

    def change_ones_mind() -> None:
        with transaction.atomic():
            refund_payment(payment)
            raise Changed

    with pytest.raises(Changed):
        change_ones_mind()
    assert not Refund.objects.exists()
    assert provider.told("refund") == []


@pytest.mark.django_db(transaction=True)
def test_what_fails_after_a_commit_is_tried_again(provider):
    payment = paid()
    provider.will("refund", ProviderUnavailable("away", "scripted", "refund"))
    with transaction.atomic():
        refund_payment(payment)
    assert Refund.objects.get().status == RefundStatus.REQUESTED
    later()
    assert Refund.objects.get().status == RefundStatus.SUCCEEDED


def test_a_refund_is_unknown_only_when_its_worker_is_lost(provider):
    payment = paid()

    def look() -> RefundSnapshot:
        operation = Operation.objects.get(kind=OperationKind.REFUND)
        assert not ledger.expire_lease(operation)
        assert Refund.objects.get().status == RefundStatus.REQUESTED
        Operation.objects.update(lease_until=timezone.now() - timedelta(days=1))
        assert ledger.expire_lease(operation)
        assert Refund.objects.get().status == RefundStatus.UNKNOWN
        assert not ledger.expire_lease(operation)
        return RefundSnapshot(status=RefundStatus.SUCCEEDED)

    provider.will("refund", look)
    refund_payment(payment, usd("60.00"))
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)


# One call at a time ---------------------------------------------------------------------


def click_again(operation: Operation) -> None:
    assert operation.payment is not None
    again = refund_payment(operation.payment, usd("60.00"), idempotency_key="form-1")
    assert again == operation.refund


def carry_on(operation: Operation) -> None:
    assert resume_operation(operation) == OperationState.IN_FLIGHT


def drop(operation: Operation) -> None:
    with pytest.raises(InvalidTransition, match="under way"):
        abandon_operation(operation, by="eve")


@pytest.mark.parametrize("alias", ["scripted", "tracing"])
@pytest.mark.parametrize("meddle", [click_again, carry_on, drop])
def test_while_a_call_is_under_way_nobody_else_touches_it(meddle, alias):
    provider: Any = registry[alias]
    payment = paid(alias=alias)

    def answer() -> RefundSnapshot:
        operation = payment.operations.get(kind=OperationKind.REFUND)
        meddle(operation)
        operation.refresh_from_db()
        assert operation.state == OperationState.IN_FLIGHT
        assert refundable(payment) == usd("40.00")
        return RefundSnapshot(status=RefundStatus.SUCCEEDED)

    provider.will("refund", answer)
    refund = refund_payment(payment, usd("60.00"), idempotency_key="form-1")
    assert refund.status == RefundStatus.SUCCEEDED
    assert len(provider.told("refund")) == 1
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)


def test_a_second_capture_while_the_first_is_under_way_is_the_first(provider):
    payment = authorized()
    seen = []

    def answer() -> PaymentSnapshot:
        seen.append(capture_payment(Payment.objects.get(pk=payment.pk)))
        return snapshot_of(payment, PAID)

    provider.will("capture", answer)
    assert [capture_payment(payment)] == seen
    assert len(provider.told("capture")) == 1
    assert sums(payment) == (PAID, 10000, 0)


def test_a_worker_that_lost_its_lease_does_not_end_the_call_of_another(tracing):
    payment = paid(alias="tracing")
    slow = []

    def first() -> RefundSnapshot:
        slow.append(payment.operations.get(kind=OperationKind.REFUND))
        raise OutcomeUnknown("lost", "tracing", "refund")

    def second() -> RefundSnapshot:
        assert not ledger.conclude_operation(slow[0], OperationState.REFUSED, "late")
        assert refundable(payment) == usd("40.00")
        return RefundSnapshot(status=RefundStatus.SUCCEEDED)

    tracing.will("refund", first, second)
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    later()
    assert len(tracing.told("refund")) == 2
    assert payment.refunds.get().status == RefundStatus.SUCCEEDED
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("alias", ["scripted", "tracing"])
def test_a_worker_that_dies_in_the_call_loses_and_doubles_nothing(alias):
    provider: Any = registry[alias]
    payment = paid(alias=alias)

    def die() -> None:
        raise Killed

    provider.will("refund", die)
    with pytest.raises(Killed):
        refund_payment(payment, usd("60.00"))
    refund = Refund.objects.get()
    assert refund.operations.get().state == OperationState.IN_FLIGHT
    with pytest.raises(MultipayError):
        refund_payment(payment, usd("60.00"))
    if alias == "scripted":
        later()
        refund.refresh_from_db()
        assert refund.status == RefundStatus.UNKNOWN
        assert len(provider.told("refund")) == 1
    else:
        later()
        refund.refresh_from_db()
        assert refund.status == RefundStatus.SUCCEEDED
        keys = {sent.key for sent in provider.told("refund")}
        assert len(keys) == 1


def test_a_chargeback_is_for_a_person_and_may_be_won(provider):
    payment = paid()
    dispute = DisputeSnapshot(reference="dp_1", amount=usd("100.00"))
    ledger.apply_dispute(payment.pk, dispute, source=Source.WEBHOOK)
    payment.refresh_from_db()
    assert payment.review_reason == ReviewReason.CHARGEBACK
    won = DisputeSnapshot(reference="dp_1", amount=usd("100.00"), is_reversed=True)
    for _ in range(2):
        ledger.apply_dispute(payment.pk, won, source=Source.WEBHOOK)
    payment.refresh_from_db()
    assert payment.review_reason == ""


# What arrives twice under two names ------------------------------------------------------


def named(amount: str, reference: str = "rfd_1", **more: Any) -> RefundSnapshot:
    return RefundSnapshot(
        status=RefundStatus.SUCCEEDED,
        provider_reference=reference,
        amount=usd(amount),
        **more,
    )


def test_a_message_with_the_providers_name_only_may_come_before_our_answer(provider):
    payment = paid()

    def answer_late() -> RefundSnapshot:
        ledger.apply_refund(payment.pk, named("60.00"), source=Source.WEBHOOK)
        return named("60.00")

    provider.will("refund", answer_late)
    refund = refund_payment(payment, usd("60.00"))
    assert (refund.status, refund.provider_reference) == ("succeeded", "rfd_1")
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)
    assert Refund.objects.count() == 1


def test_a_nameless_message_of_another_amount_is_not_about_our_lost_refund(provider):
    payment = paid()
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    ledger.apply_refund(payment.pk, named("35.00"), source=Source.WEBHOOK)
    ours = Refund.objects.get(is_external=False)
    assert (ours.status, ours.provider_reference) == (RefundStatus.UNKNOWN, "")
    assert Refund.objects.get(is_external=True).amount == usd("35.00")
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 3500)
    assert refundable(payment) == usd("5.00")


@pytest.mark.parametrize("first", ["total", "message"])
def test_a_console_refund_seen_as_a_total_and_as_a_message_counts_once(provider, first):
    payment = paid()
    total = snapshot_of(payment, PAID, captured=payment.amount, refunded=usd("35"))
    provider.will("fetch", total, total)
    steps = [
        lambda: sync_payment(payment),
        lambda: ledger.apply_refund(payment.pk, named("35"), source=Source.WEBHOOK),
    ]
    for step in steps if first == "total" else steps[::-1]:
        step()
        step()
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 3500)
    assert Refund.objects.count() == 1


def test_a_dropped_refund_that_happened_counts_once_by_total_and_by_message(provider):
    payment = paid()
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    refund = Refund.objects.get()
    abandon_operation(refund.operations.get(), by="ann")
    provider.will(
        "fetch", snapshot_of(payment, PAID, captured=payment.amount, refunded=usd("60"))
    )
    sync_payment(payment)
    said = named("60.00", merchant_reference=refund.merchant_reference)
    ledger.apply_refund(payment.pk, said, source=Source.WEBHOOK)
    refund.refresh_from_db()
    assert refund.status == RefundStatus.SUCCEEDED
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)
    assert Refund.objects.count() == 1


def test_only_canceled_proves_a_void(provider):
    payment = authorized()
    provider.will("void", snapshot_of(payment, PAID))
    assert void_payment(payment).state == OperationState.UNKNOWN
    assert sums(payment) == (PAID, 10000, 0)


def test_captures_with_references_of_their_own_add_up(provider):
    payment = authorized()
    for reference, amount in (("C-1", "30.00"), ("C-2", "70.00")):
        provider.will(
            "capture", snapshot_of(payment, PAID, provider_reference=reference)
        )
        capture_payment(payment, usd(amount))
    assert sums(payment) == (PAID, 10000, 0)


def test_what_the_bank_took_back_cannot_be_refunded(provider):
    payment = paid()
    dispute = DisputeSnapshot(reference="dp_1", amount=usd("80.00"))
    ledger.apply_dispute(payment.pk, dispute, source=Source.WEBHOOK)
    payment.refresh_from_db()
    assert refundable(payment) == usd("20.00")
    with pytest.raises(InvalidAmount):
        refund_payment(payment, usd("20.01"))
    won = DisputeSnapshot(reference="dp_1", amount=usd("80.00"), is_reversed=True)
    ledger.apply_dispute(payment.pk, won, source=Source.WEBHOOK)
    assert refund_payment(payment).amount == usd("100.00")


def test_a_confirmation_under_way_is_no_answer_to_another_wish(provider):
    payment = payment_that_is(PaymentStatus.AUTHENTICATED)
    provider.will("confirm", OutcomeUnknown("lost", "scripted", "confirm"))
    with pytest.raises(OutcomeUnknown):
        confirm_payment(payment)
    with pytest.raises(InvalidTransition, match="under way"):
        confirm_payment(payment, capture=False)
    assert confirm_payment(payment).state == OperationState.UNKNOWN


def test_a_reservation_whose_answer_was_lost_is_asked_for_again_as_it_was(provider):
    payment = payment_that_is(PaymentStatus.AUTHENTICATED, "0.01")
    provider.will("confirm", OutcomeUnknown("lost", "scripted", "confirm"))
    with pytest.raises(OutcomeUnknown):
        confirm_payment(payment, capture=False)
    with pytest.raises(InvalidTransition, match="under way"):
        confirm_payment(payment)
    assert confirm_payment(payment, capture=False).state == OperationState.UNKNOWN
    assert [request.capture for request in provider.told("confirm")] == [False]


def test_a_single_minor_unit_can_be_confirmed(provider):
    confirm_payment(payment_that_is(PaymentStatus.AUTHENTICATED, "0.01"))
    assert [request.capture for request in provider.told("confirm")] == [True]


@pytest.mark.parametrize("limit", [0, Decimal("0.0"), "0.00"])
def test_a_limit_of_nothing_lets_every_refund_wait(settings, limit):
    settings.MULTIPAY |= {"REFUND_APPROVAL_ABOVE": {"USD": limit}}
    assert refund_payment(paid(), usd("0.01")).status == RefundStatus.REQUESTED


def test_the_shop_hears_of_a_refund_that_waits_and_of_one_made_elsewhere(
    settings, listen
):
    settings.MULTIPAY |= {"REFUND_APPROVAL_ABOVE": {"USD": 0}}
    told = listen("refund_status_changed")
    payment = paid()
    refund = refund_payment(payment, usd("1.00"))
    assert [news["refund"] for news in told] == [refund]
    ledger.apply_refund(payment.pk, named("5.00"), source=Source.WEBHOOK)
    reconcile()
    assert told[-1]["refund"].is_external


def test_a_refund_made_elsewhere_waits_for_nobody():
    payment = paid()
    ledger.apply_refund(payment.pk, named("5.00"), source=Source.WEBHOOK)
    with pytest.raises(InvalidTransition):
        approve_refund(Refund.objects.get(), by="bob")


# Reasons to look, and what answers them ---------------------------------------------------


def test_refunding_the_difference_answers_an_overpayment(provider):
    payment = paid()
    ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, PAID, captured=usd("120.00")),
        account=ledger.Account(alias="scripted", account=ACCOUNT, is_live=None),
        source=Source.SYNC,
    )
    payment.refresh_from_db()
    assert payment.review_reason == ReviewReason.OVERPAID
    refund_payment(payment, usd("20.00"))
    assert payment.review_reason == ""


@pytest.mark.parametrize("status", [PAID, AUTHORIZED])
def test_refunding_or_voiding_answers_a_risk_review(provider, status):
    payment = payment_that_is(PaymentStatus.IN_REVIEW)
    ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, status, needs_review=True),
        account=ledger.Account(alias="scripted", account=ACCOUNT, is_live=None),
        source=Source.SYNC,
    )
    payment.refresh_from_db()
    assert payment.review_reason == ReviewReason.RISK_REVIEW
    (refund_payment if status == PAID else void_payment)(payment)
    payment.refresh_from_db()
    assert payment.review_reason == ""


def test_nobody_lets_a_payment_pass_while_its_refund_is_under_way(provider):
    payment = payment_that_is(PaymentStatus.IN_REVIEW)
    ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, PAID, captured=usd("60.00")),
        account=ledger.Account(alias="scripted", account=ACCOUNT, is_live=None),
        source=Source.SYNC,
    )
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment)
    with pytest.raises(InvalidTransition, match="refund under way"):
        release_review(payment, by="ann")
    with pytest.raises(InvalidOperation) as caught:
        release_review(payment, by="ann", reason="nonsense")
    assert caught.value.field == "reason"


@pytest.mark.parametrize(
    "error",
    [
        CredentialsRejected("no", "tracing", "refund"),
        RequestRejected("no", "tracing", "refund"),
        ProviderUnavailable("no", "tracing", "refund"),
        InvalidOperation("no", "amount"),
        ProviderConfigurationError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_goes_wrong_the_second_time_says_nothing_about_the_first(tracing, error):
    payment = paid(alias="tracing")
    tracing.will("refund", OutcomeUnknown("lost", "tracing", "refund"), error)
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, usd("60.00"))
    later()
    assert len(tracing.told("refund")) == 2
    assert Refund.objects.get().status == RefundStatus.UNKNOWN
    assert refundable(payment) == usd("40.00")
    tracing.will(
        "fetch", snapshot_of(payment, PAID, captured=payment.amount, refunded=usd("60"))
    )
    sync_payment(payment)
    later()
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 6000)
    assert Refund.objects.count() == 1


def test_a_provider_that_refunds_only_all_is_not_asked_for_the_rest():
    payment = paid(alias="wholesale")
    ledger.apply_refund(payment.pk, named("40.00"), source=Source.WEBHOOK)
    with pytest.raises(InvalidAmount, match="all of it"):
        refund_payment(payment)


def test_the_same_wish_in_another_order_is_the_same_wish(provider):
    payment = paid()
    first, second = (
        refund_payment(payment, provider_data=data, idempotency_key="k")
        for data in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    )
    assert first == second


def test_the_digest_of_a_wish_cannot_be_guessed_from_a_bank_account(settings):
    intent = ledger.Intent(kind=OperationKind.REFUND, account={"number": "110-123"})
    settings.MULTIPAY |= {"ENCRYPTION_KEYS": ["the first key of two, made up"]}
    before = intent.fingerprint
    settings.MULTIPAY |= {"ENCRYPTION_KEYS": ["the second key of two, made up"]}
    assert intent.fingerprint != before


def test_two_refunds_behind_one_total_are_counted_once(provider):
    payment = paid()
    provider.will(
        "fetch",
        snapshot_of(payment, PAID, captured=payment.amount, refunded=usd("26")),
    )
    sync_payment(payment)
    for amount, reference in (("10.00", "rfd_1"), ("16.00", "rfd_2")):
        for _ in range(2):
            ledger.apply_refund(
                payment.pk, named(amount, reference), source=Source.WEBHOOK
            )
    assert sums(payment) == (PaymentStatus.PARTIALLY_REFUNDED, 10000, 2600)
    rows = Refund.objects.order_by("amount_minor")
    assert [(row.amount_minor, row.provider_reference) for row in rows] == [
        (1000, "rfd_1"),
        (1600, "rfd_2"),
    ]


def test_a_provider_that_asks_us_to_wait_is_left_alone_until_then(provider):
    payment = paid()
    busy = ProviderUnavailable("busy", "scripted", "refund", retry_after=120)
    provider.will("refund", busy)
    with pytest.raises(ProviderUnavailable):
        refund_payment(payment, idempotency_key="k")
    assert refund_payment(payment, idempotency_key="k").status == "requested"
    Operation.objects.update(retry_at=timezone.now() - timedelta(days=1))
    reconcile()
    assert len(provider.told("refund")) == 1
    later()
    assert Refund.objects.get().status == RefundStatus.SUCCEEDED


def test_a_checkout_waits_as_long_as_the_provider_asked(provider):
    payment = new_payment()
    provider.will(
        "start", ProviderUnavailable("busy", "scripted", "start", retry_after=120)
    )
    with pytest.raises(ProviderUnavailable):
        start_payment(payment)
    assert start_payment(payment) is None
    assert len(provider.told("start")) == 1
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert start_payment(payment) is not None
