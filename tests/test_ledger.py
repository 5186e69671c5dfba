"""What may change, and is it safe? Facts in, states and notices out."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import (
    DeclineCode,
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    RefundStatus,
    ReviewReason,
    Source,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import InvalidTransition
from django_multipay.messages import (
    Address,
    Buyer,
    Decline,
    PaymentSnapshot,
    Redirect,
    RefundSnapshot,
    TokenSnapshot,
)
from django_multipay.models import Notice, Operation, Payment, Refund, Token
from tests.flows.scripted import ACCOUNT, new_payment, snapshot_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]

OURS = ledger.Account(alias="scripted", account=ACCOUNT, is_live=None)


def say(payment: Payment, status: PaymentStatus, ours=OURS, **changes) -> Verdict:
    """The provider says something about the payment; the payment is read again."""
    verdict = ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, status, **changes),
        account=ours,
        source=Source.WEBHOOK,
    )
    payment.refresh_from_db()
    return verdict


def kinds(payment: Payment) -> list[str]:
    return [fact.kind for fact in payment.transactions.all()]


def news(payment: Payment) -> list[list[str]]:
    return [
        notice.signals
        for notice in Notice.objects.filter(payment=payment).order_by("id")
    ]


# What does not fit ------------------------------------------------------------------

MISMATCHES = [
    ({"account": "shop-2"}, ReviewReason.ACCOUNT_MISMATCH),
    ({"account": None}, ReviewReason.FIELD_MISSING),
    ({"merchant_reference": "another"}, ReviewReason.REFERENCE_MISMATCH),
    ({"merchant_reference": None}, ReviewReason.FIELD_MISSING),
    ({"amount": Money("26.31", "USD")}, ReviewReason.AMOUNT_MISMATCH),
    ({"amount": Money("26.29", "USD")}, ReviewReason.AMOUNT_MISMATCH),
    ({"amount": Money("2630", "USD")}, ReviewReason.AMOUNT_MISMATCH),
    ({"amount": Money("0", "USD")}, ReviewReason.AMOUNT_MISMATCH),
    ({"amount": Money("-26.30", "USD")}, ReviewReason.AMOUNT_MISMATCH),
    ({"amount": Money("26.3000001", "USD")}, ReviewReason.AMOUNT_MISMATCH),
    ({"amount": None}, ReviewReason.FIELD_MISSING),
    ({"amount": Money("26.30", "EUR")}, ReviewReason.CURRENCY_MISMATCH),
    ({"provider_reference": "x" * 129}, ReviewReason.REFERENCE_MISMATCH),
    ({"provider_reference": "T\x001"}, ReviewReason.REFERENCE_MISMATCH),
]


@pytest.mark.parametrize("status", [PaymentStatus.PAID, PaymentStatus.AUTHORIZED])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *MISMATCHES,
        ({"provider_reference": ""}, ReviewReason.FIELD_MISSING),
        ({"captured": Money("26.30", "EUR")}, ReviewReason.CURRENCY_MISMATCH),
    ],
)
def test_a_claim_of_money_that_does_not_fit_is_held_for_staff(status, changes, reason):
    payment = new_payment()
    verdicts = {say(payment, status, **changes) for _ in range(4)}
    assert verdicts == {Verdict.HELD}
    assert payment.status == PaymentStatus.CREATED
    assert payment.captured_minor == payment.authorized_minor == 0
    assert payment.provider_reference is None
    assert payment.review_reason == reason
    assert kinds(payment) == [TransactionKind.DISCREPANCY]
    assert news(payment) == [["payment_needs_review"]]


@pytest.mark.parametrize("captured", ["0", "-26.30"])
def test_a_claim_to_have_taken_nothing_is_no_payment(captured):
    payment = new_payment()
    verdict = say(payment, PaymentStatus.PAID, captured=Money(captured, "USD"))
    assert verdict is Verdict.HELD
    assert say(payment, PaymentStatus.PAID) is Verdict.APPLIED
    assert payment.status == PaymentStatus.PAID


@pytest.mark.parametrize("status", set(PaymentStatus) - {PaymentStatus.CREATED})
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (changes, reason)
        for changes, reason in MISMATCHES
        if reason is not ReviewReason.FIELD_MISSING
    ],
)
def test_a_message_that_contradicts_our_record_changes_no_status(
    status, changes, reason
):
    payment = new_payment()
    assert say(payment, status, **changes) is Verdict.HELD
    assert payment.status == PaymentStatus.CREATED
    assert payment.review_reason == reason


@pytest.mark.parametrize(
    "status",
    [
        PaymentStatus.AWAITING_FUNDS,
        PaymentStatus.AUTHENTICATED,
        PaymentStatus.IN_REVIEW,
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.REFUNDED,
    ],
)
@pytest.mark.parametrize("field", ["account", "merchant_reference", "amount"])
def test_good_news_that_leaves_a_field_out_is_held(status, field):
    payment = new_payment()
    assert say(payment, status, **{field: None}) is Verdict.HELD
    assert payment.status == PaymentStatus.CREATED
    assert payment.review_reason == ReviewReason.FIELD_MISSING


@pytest.mark.parametrize(
    "status", [PaymentStatus.FAILED, PaymentStatus.CANCELED, PaymentStatus.EXPIRED]
)
@pytest.mark.parametrize("name", ["account", "merchant_reference", "amount"])
def test_bad_news_must_name_what_it_is_about_too(status, name):
    payment = new_payment()
    before = payment.status
    assert say(payment, status, **{name: None}) is Verdict.HELD
    assert payment.status == before
    assert payment.review_reason == ReviewReason.FIELD_MISSING


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (True, False, ReviewReason.MODE_MISMATCH),
        (False, True, ReviewReason.MODE_MISMATCH),
        (True, None, ReviewReason.FIELD_MISSING),
    ],
)
def test_test_money_is_never_taken_for_real_money(ours, theirs, reason):
    payment = new_payment()
    account = ledger.Account(alias="scripted", account=ACCOUNT, is_live=ours)
    verdict = say(payment, PaymentStatus.PAID, ours=account, is_live=theirs)
    assert verdict is Verdict.HELD
    assert payment.status == PaymentStatus.CREATED
    assert payment.review_reason == reason


def test_a_message_of_another_alias_is_held():
    payment = new_payment()
    account = ledger.Account(alias="other", account=ACCOUNT, is_live=None)
    assert say(payment, PaymentStatus.PAID, ours=account) is Verdict.HELD
    assert payment.review_reason == ReviewReason.ACCOUNT_MISMATCH


def test_different_discrepancies_are_different_facts():
    payment = new_payment()
    for amount in ("26.29", "26.31", "26.29"):
        say(payment, PaymentStatus.PAID, amount=Money(amount, "USD"))
    assert kinds(payment) == [TransactionKind.DISCREPANCY] * 2


def test_a_good_message_after_a_bad_one_counts_and_the_flag_stays():
    payment = new_payment()
    say(payment, PaymentStatus.PAID, amount=Money("26.29", "USD"))
    assert say(payment, PaymentStatus.PAID) is Verdict.APPLIED
    assert payment.status == PaymentStatus.PAID
    assert payment.review_reason == ReviewReason.AMOUNT_MISMATCH


@pytest.mark.parametrize(
    "status",
    [PaymentStatus.PAID, PaymentStatus.AUTHORIZED, PaymentStatus.AWAITING_FUNDS],
)
def test_the_money_of_one_payment_cannot_pay_another(status):
    cheap, dear = new_payment(), new_payment()
    say(cheap, PaymentStatus.PAID, provider_reference="T-1")
    assert say(dear, status, provider_reference="T-1") is Verdict.HELD
    assert dear.status == PaymentStatus.CREATED
    assert dear.review_reason == ReviewReason.REFERENCE_MISMATCH


def test_two_providers_may_use_the_same_reference(settings):
    providers = settings.MULTIPAY["PROVIDERS"]
    settings.MULTIPAY = {
        **settings.MULTIPAY,
        "PROVIDERS": {**providers, "other": providers["scripted"]},
    }
    here, there = new_payment(), new_payment(provider="other")
    other = ledger.Account(alias="other", account=ACCOUNT, is_live=None)
    say(here, PaymentStatus.PAID, provider_reference="T-1")
    say(there, PaymentStatus.PAID, ours=other, provider_reference="T-1")
    assert here.status == there.status == PaymentStatus.PAID


def test_registrations_without_a_reference_do_not_collide():
    first, second = new_payment(), new_payment()
    for payment in (first, second):
        say(payment, PaymentStatus.AWAITING_FUNDS, provider_reference="")
        assert payment.status == PaymentStatus.AWAITING_FUNDS
        assert payment.provider_reference is None


# What fits ---------------------------------------------------------------------------


def test_a_paid_payment_says_so_everywhere():
    payment = new_payment()
    assert say(payment, PaymentStatus.PAID) is Verdict.APPLIED
    assert payment.status == PaymentStatus.PAID
    assert payment.captured == payment.authorized == Money("26.30", "USD")
    assert payment.refunded == Money("0", "USD")
    assert payment.provider_reference == f"T-{payment.merchant_reference}"
    assert payment.paid_at is not None
    assert payment.review_reason == payment.decline_code == ""
    (fact,) = payment.transactions.all()
    assert (fact.kind, fact.amount, fact.source) == (
        TransactionKind.CAPTURE,
        Money("26.30", "USD"),
        Source.WEBHOOK,
    )
    assert news(payment) == [["payment_status_changed", "payment_paid"]]


def test_a_duplicate_adds_nothing():
    payment = new_payment()
    verdicts = [say(payment, PaymentStatus.PAID) for _ in range(5)]
    assert verdicts == [Verdict.APPLIED] + [Verdict.IGNORED] * 4
    assert kinds(payment) == [TransactionKind.CAPTURE]
    assert payment.captured == Money("26.30", "USD")
    assert len(news(payment)) == 1


@pytest.mark.parametrize("status", [PaymentStatus.CREATED, PaymentStatus.PENDING])
def test_no_news_is_ignored(status):
    payment = new_payment()
    assert say(payment, status, provider_reference="") is Verdict.IGNORED
    assert kinds(payment) == []


def test_money_that_comes_twice_is_kept_and_flagged():
    payment = new_payment()
    say(payment, PaymentStatus.PAID, provider_reference="T-1")
    say(payment, PaymentStatus.PAID, provider_reference="T-2")
    assert payment.status == PaymentStatus.PAID
    assert payment.captured == Money("52.60", "USD")
    assert payment.provider_reference == "T-1"
    assert payment.review_reason == ReviewReason.OVERPAID
    assert news(payment) == [
        ["payment_status_changed", "payment_paid"],
        ["payment_needs_review"],
    ]


def test_less_money_than_asked_for_is_not_paid_until_the_rest_comes():
    payment = new_payment()
    say(
        payment,
        PaymentStatus.PAID,
        provider_reference="T-1",
        captured=Money("20", "USD"),
    )
    assert payment.status == PaymentStatus.IN_REVIEW
    assert payment.review_reason == ReviewReason.UNDERPAID
    assert payment.paid_at is None
    say(
        payment,
        PaymentStatus.PAID,
        provider_reference="T-2",
        captured=Money("6.30", "USD"),
    )
    assert payment.status == PaymentStatus.PAID
    assert payment.captured == payment.amount
    assert payment.review_reason == ""
    assert [names.count("payment_paid") for names in news(payment)] == [0, 1]


@pytest.mark.parametrize(
    "status", [PaymentStatus.FAILED, PaymentStatus.CANCELED, PaymentStatus.EXPIRED]
)
def test_late_money_beats_bad_news(status):
    payment = new_payment()
    say(payment, status, provider_reference="attempt-1")
    say(payment, PaymentStatus.PAID, provider_reference="attempt-2")
    assert payment.status == PaymentStatus.PAID
    assert payment.review_reason == payment.decline_code == ""
    assert [names.count("payment_paid") for names in news(payment)] == [0, 1]


@pytest.mark.parametrize("is_paid_first", [True, False])
def test_success_and_failure_of_one_transaction_are_for_a_person(is_paid_first):
    payment = new_payment()
    order = [PaymentStatus.PAID, PaymentStatus.FAILED]
    for status in order if is_paid_first else reversed(order):
        say(payment, status)
    assert payment.status == PaymentStatus.PAID
    assert payment.review_reason == ReviewReason.CONTRADICTION


def test_a_decline_says_why_until_money_comes():
    payment = new_payment()
    decline = Decline(code=DeclineCode.EXPIRED_CARD, message="no\x00 4111111111111111")
    say(payment, PaymentStatus.FAILED, provider_reference="1", decline=decline)
    assert payment.decline_code == DeclineCode.EXPIRED_CARD
    (fact,) = payment.transactions.all()
    assert "4111111111111111" not in fact.detail
    assert "\x00" not in fact.detail
    assert news(payment) == [["payment_status_changed", "payment_failed"]]


@pytest.mark.parametrize("is_hold_first", [True, False])
def test_a_risk_review_stops_delivery_but_keeps_the_money(is_hold_first):
    payment = new_payment()
    if is_hold_first:
        say(payment, PaymentStatus.IN_REVIEW)
        assert payment.status == PaymentStatus.IN_REVIEW
    say(payment, PaymentStatus.PAID, needs_review=True)
    assert payment.status == PaymentStatus.IN_REVIEW
    assert payment.captured == payment.amount
    assert payment.paid_at is None
    assert payment.review_reason == ReviewReason.RISK_REVIEW
    assert not any("payment_paid" in names for names in news(payment))


def test_a_review_may_be_said_twice_in_one_message():
    payment = new_payment()
    say(payment, PaymentStatus.IN_REVIEW, needs_review=True)
    assert kinds(payment) == [TransactionKind.REVIEW_HOLD]


def test_an_authorization_becomes_a_payment_when_it_is_captured():
    payment = new_payment(capture_mode="manual")
    say(payment, PaymentStatus.AUTHORIZED)
    assert payment.status == PaymentStatus.AUTHORIZED
    assert payment.authorized == payment.amount
    assert payment.captured == Money("0", "USD")
    assert payment.paid_at is None
    say(payment, PaymentStatus.PAID)
    assert payment.status == PaymentStatus.PAID
    assert payment.authorized == payment.captured == payment.amount
    assert news(payment) == [
        ["payment_status_changed"],
        ["payment_status_changed", "payment_paid"],
    ]


def test_the_order_of_authorization_and_capture_does_not_matter():
    payment = new_payment(capture_mode="manual")
    say(payment, PaymentStatus.PAID)
    say(payment, PaymentStatus.AUTHORIZED)
    assert payment.status == PaymentStatus.PAID
    assert payment.authorized == payment.captured == payment.amount


def test_capturing_less_than_was_authorized_is_the_shops_own_choice():
    payment = new_payment(capture_mode="manual")
    say(payment, PaymentStatus.AUTHORIZED)
    say(payment, PaymentStatus.PAID, captured=Money("10", "USD"))
    assert payment.status == PaymentStatus.PAID
    assert payment.captured == Money("10", "USD")
    assert payment.review_reason == ""


def test_every_order_of_arrival_gives_one_result():
    said = [
        (PaymentStatus.AWAITING_FUNDS, "T-1"),
        (PaymentStatus.FAILED, "T-0"),
        (PaymentStatus.PAID, "T-1"),
        (PaymentStatus.PAID, "T-1"),
    ]
    results = set()
    for order in itertools.permutations(said):
        payment = new_payment()
        for status, reference in order:
            reference = f"{reference}-{payment.pk}"
            say(payment, status, provider_reference=reference)
        results.add(
            (
                payment.status,
                payment.captured_minor,
                payment.review_reason,
                payment.decline_code,
                payment.provider_reference == f"T-1-{payment.pk}",
                sum(names.count("payment_paid") for names in news(payment)),
            )
        )
    assert results == {("paid", 2630, "", "", True, 1)}


def test_every_fact_has_its_notice_even_if_nobody_must_hear_of_it():
    payment = new_payment()
    say(payment, PaymentStatus.PAID)
    say(payment, PaymentStatus.FAILED, provider_reference="an-older-attempt")
    notices = Notice.objects.filter(payment=payment).order_by("id")
    assert [notice.state for notice in notices] == [
        NoticeState.WAITING,
        NoticeState.DELIVERED,
    ]


# What is kept and what is erased -----------------------------------------------------


def with_secrets() -> Payment:
    payment = new_payment(
        buyer=Buyer(name="Hong Gil Dong", address=Address(street="1 Teheran-ro")),
        ship_to=Address(city="Seoul"),
        provider_data={"param1": "x"},
    )
    operation = begin(payment)
    action = Redirect("https://provider.example/pay/1")
    ledger.conclude_checkout(
        payment,
        operation,
        PaymentSnapshot(status=PaymentStatus.PENDING, next_action=action),
    )
    return payment


def begin(payment: Payment) -> Operation:
    """Let a worker take the checkout."""
    operation = ledger.begin_checkout(payment, lambda: None)
    assert operation is not None
    return operation


@pytest.mark.parametrize(
    "status",
    [
        PaymentStatus.PAID,
        PaymentStatus.FAILED,
        PaymentStatus.CANCELED,
        PaymentStatus.EXPIRED,
    ],
)
def test_addresses_and_the_next_action_are_erased_when_a_payment_is_final(status):
    payment = with_secrets()
    assert payment.checkout_data
    assert payment.next_action
    say(payment, status)
    assert payment.checkout_data is None
    assert payment.next_action is None
    assert payment.sync_at is None


def test_an_open_payment_keeps_its_addresses_but_not_a_used_action():
    payment = with_secrets()
    say(payment, PaymentStatus.AWAITING_FUNDS)
    assert payment.checkout_data
    assert payment.next_action is None
    assert payment.sync_at is not None


def test_a_message_that_is_held_takes_nothing_away_from_the_buyer():
    payment = with_secrets()
    say(payment, PaymentStatus.PAID, amount=Money("26.29", "USD"))
    assert payment.status == PaymentStatus.PENDING
    assert payment.next_action
    assert payment.checkout_data


def test_details_are_kept_without_card_numbers():
    payment = new_payment()
    details = {
        "card_last4": "1111",
        "note": "4111 1111 1111 1111",
        "empty": "",
    }
    say(payment, PaymentStatus.PAID, method="P101\x00", details=details)
    assert payment.details == {
        "card_last4": "1111",
        "note": "***1111",
    }
    assert payment.method == "P101\ufffd"


def test_later_details_are_added_to_earlier_ones():
    payment = new_payment()
    say(payment, PaymentStatus.PAID, details={"a": "1"})
    say(payment, PaymentStatus.PAID, details={"b": "2", "a": ""})
    assert payment.details == {"a": "1", "b": "2"}


def test_a_saved_method_is_stored_once_for_its_customer():
    token = TokenSnapshot(reference="tok-1", brand="VISA", last4="1111")
    for _ in range(2):
        payment = new_payment(save_token=True, customer_id="42")
        say(payment, PaymentStatus.PAID, token=token)
    saved = Token.objects.get()
    assert (saved.customer_id, saved.provider_token) == ("42", "tok-1")
    assert str(saved) == "VISA •••• 1111"


def test_a_method_is_not_saved_unless_the_buyer_asked():
    payment = new_payment(customer_id="42")
    say(payment, PaymentStatus.PAID, token=TokenSnapshot(reference="tok-1"))
    assert not Token.objects.exists()


@pytest.mark.parametrize(("hours", "is_over"), [(23, False), (25, True)])
def test_a_deposit_has_one_day_after_its_deadline(hours, is_over):
    payment = new_payment()
    payment.status = PaymentStatus.AWAITING_FUNDS
    payment.expires_at = timezone.now() - timedelta(hours=hours)
    assert ledger.is_abandoned(payment) is is_over


# Operations ----------------------------------------------------------------------------


def expire_lease(operation: Operation) -> None:
    Operation.objects.filter(pk=operation.pk).update(
        lease_until=timezone.now() - timedelta(seconds=1)
    )


def other_worker(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def opened(url: str) -> PaymentSnapshot:
    return PaymentSnapshot(status=PaymentStatus.PENDING, next_action=Redirect(url))


def test_only_one_worker_at_a_time_owns_an_operation():
    operation = begin(new_payment())
    assert not ledger.claim_operation(other_worker(operation))
    operation.refresh_from_db()
    assert operation.state == OperationState.IN_FLIGHT
    assert operation.attempts == 1
    assert operation.lease_until > timezone.now() + timedelta(seconds=45)


def test_a_payment_has_one_open_checkout_however_often_it_is_asked_for():
    payment = new_payment()
    begin(payment)
    for _ in range(2):
        assert ledger.begin_checkout(payment, lambda: None) is None
    assert payment.operations.count() == 1


def test_a_checkout_whose_worker_was_lost_is_taken_over_and_says_so():
    payment = new_payment()
    first = begin(payment)
    assert not first.is_again
    expire_lease(first)
    second = begin(payment)
    assert second.pk == first.pk
    assert second.is_again


def test_what_forbids_a_checkout_leaves_no_trace_of_it():
    payment = new_payment()

    def refuse() -> None:
        raise InvalidTransition("not now")

    with pytest.raises(InvalidTransition):
        ledger.begin_checkout(payment, refuse)
    assert not payment.operations.exists()


def test_an_expired_lease_is_taken_over():
    operation = begin(new_payment())
    rival = other_worker(operation)
    expire_lease(operation)
    assert ledger.claim_operation(rival)
    assert rival.lease_token != operation.lease_token
    rival.refresh_from_db()
    assert rival.attempts == 2


def test_whoever_lost_the_lease_cannot_conclude_the_operation():
    operation = begin(new_payment())
    rival = other_worker(operation)
    expire_lease(operation)
    ledger.claim_operation(rival)
    assert not ledger.conclude_operation(operation, OperationState.REFUSED, "late")
    rival.refresh_from_db()
    assert rival.state == OperationState.IN_FLIGHT
    assert rival.error == ""


def test_a_late_page_of_a_lost_lease_does_not_replace_the_winners_page():
    payment = new_payment()
    operation = begin(payment)
    rival = other_worker(operation)
    expire_lease(operation)
    ledger.claim_operation(rival)
    ledger.conclude_checkout(payment, rival, opened("https://provider.example/2"))
    late = Payment.objects.get(pk=payment.pk)
    ledger.conclude_checkout(late, operation, opened("https://provider.example/1"))
    assert late.action == Redirect("https://provider.example/2")
    payment.refresh_from_db()
    assert payment.action == Redirect("https://provider.example/2")


def test_a_late_page_is_better_than_none():
    payment = new_payment()
    operation = begin(payment)
    rival = other_worker(operation)
    expire_lease(operation)
    ledger.claim_operation(rival)
    late = Payment.objects.get(pk=payment.pk)
    ledger.conclude_checkout(late, operation, opened("https://provider.example/1"))
    assert late.action == Redirect("https://provider.example/1")
    rival.refresh_from_db()
    assert rival.state == OperationState.IN_FLIGHT


@pytest.mark.parametrize(
    ("state", "keeps_slot", "is_claimable"),
    [
        (OperationState.REQUESTED, True, True),
        (OperationState.UNKNOWN, True, True),
        (OperationState.REFUSED, False, False),
        (OperationState.SUCCEEDED, False, False),
    ],
)
def test_only_a_definite_end_frees_the_slot(state, keeps_slot, is_claimable):
    operation = begin(new_payment())
    assert ledger.conclude_operation(operation, state, "x" * 300)
    operation.refresh_from_db()
    assert bool(operation.open_slot) is keeps_slot
    assert operation.lease_until is None
    assert len(operation.error) == 255
    assert ledger.claim_operation(operation) is is_claimable


def test_an_unknown_outcome_of_anything_but_a_checkout_is_never_sent_again():
    operation = Operation.objects.create(
        kind=OperationKind.CAPTURE, payment=new_payment(), state=OperationState.UNKNOWN
    )
    assert not ledger.claim_operation(operation)


def test_a_page_that_opens_after_the_payment_is_over_is_not_shown():
    payment = new_payment()
    operation = begin(payment)
    say(payment, PaymentStatus.PAID)
    ledger.conclude_checkout(payment, operation, opened("https://provider.example/1"))
    assert payment.status == PaymentStatus.PAID
    assert payment.action is None


def test_a_fact_settles_a_checkout_whose_outcome_was_unknown():
    payment = new_payment()
    operation = begin(payment)
    ledger.conclude_operation(operation, OperationState.UNKNOWN)
    say(payment, PaymentStatus.PAID)
    operation.refresh_from_db()
    assert operation.state == OperationState.SUCCEEDED
    assert operation.open_slot is None


# Trouble with the database -----------------------------------------------------------


class Trouble:
    """Fails so many times, then works."""

    def __init__(self, times: int, error: type[Exception]) -> None:
        self.left = times
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error("deadlock found")
        return "done"


def retried(trouble: Trouble):
    def work() -> str:
        return trouble()

    return ledger.claims.retried(work)


@pytest.fixture
def without_waiting(monkeypatch):
    monkeypatch.setattr(ledger.claims.time, "sleep", lambda seconds: None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("without_waiting")
@pytest.mark.parametrize("error", [OperationalError, IntegrityError])
def test_a_deadlock_or_a_lost_race_is_tried_again(error):
    connection.ensure_connection()
    trouble = Trouble(4, error)
    assert retried(trouble)() == "done"
    assert trouble.calls == 5


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("without_waiting")
def test_trouble_that_does_not_end_is_reported():
    connection.ensure_connection()
    trouble = Trouble(99, OperationalError)
    with pytest.raises(OperationalError):
        retried(trouble)()
    assert trouble.calls == 5


@pytest.mark.django_db(transaction=True)
def test_trouble_inside_the_callers_transaction_is_the_callers():
    trouble = Trouble(1, OperationalError)
    with transaction.atomic(), pytest.raises(OperationalError):
        retried(trouble)()
    assert trouble.calls == 1


@pytest.mark.django_db(transaction=True)
def test_the_ledger_refuses_to_run_inside_a_transaction():
    payment = new_payment()
    with transaction.atomic(), pytest.raises(RuntimeError):
        say(payment, PaymentStatus.PAID)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.CREATED


def test_the_database_tells_the_time_that_leases_are_measured_by():
    payment = new_payment()
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SET time_zone = '+09:00'")
    try:
        operation = begin(payment)
        operation.refresh_from_db()
    finally:
        with connection.cursor() as cursor:
            if connection.vendor == "mysql":
                cursor.execute("SET time_zone = '+00:00'")
    left = operation.lease_until - timezone.now()
    assert timedelta(seconds=50) < left <= timedelta(seconds=61)


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        ("56119012345675", "56119012345675"),
        ("110-123-456789", "110-123-456789"),
        ("4111111111111111\x00", "***1111\ufffd"),
    ],
)
def test_a_buyer_sees_the_whole_account_to_pay_into(number, kept):
    payment = new_payment()
    details = {"virtual_account_number": number, "auth_code": "56119012345675"}
    say(payment, PaymentStatus.AWAITING_FUNDS, details=details)
    payment.refresh_from_db()
    assert payment.details["virtual_account_number"] == kept
    assert payment.details["auth_code"] == "***5675"


# What no key opens -----------------------------------------------------------------------


def spoil(row: Payment | Refund, column: str) -> None:
    """Store something that none of our keys made."""
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {row._meta.db_table} SET {column} = 'gAAAAA'")


def test_news_of_money_need_nothing_that_is_kept_under_a_key():
    payment = new_payment()
    spoil(payment, "checkout_data")
    payment = Payment.objects.defer("checkout_data").get()
    verdict = ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, PaymentStatus.PAID),
        account=OURS,
        source=Source.SYNC,
    )
    assert verdict == Verdict.APPLIED
    payment.refresh_from_db()
    assert (payment.status, payment.checkout_data) == (PaymentStatus.PAID, None)


@pytest.mark.parametrize("status", [RefundStatus.SUCCEEDED, RefundStatus.PENDING])
def test_what_became_of_a_refund_is_written_down_without_its_account(status):
    payment = new_payment()
    say(payment, PaymentStatus.PAID)
    refund = Refund.objects.create(
        payment=payment, amount_minor=100, status=RefundStatus.UNKNOWN
    )
    spoil(refund, "account")
    refund = Refund.objects.defer("account").get()
    said = RefundSnapshot(status=status, provider_reference="R-1")
    ledger.conclude_refund(refund, said, source=Source.SYNC)
    assert Refund.objects.defer("account").get().status == status
