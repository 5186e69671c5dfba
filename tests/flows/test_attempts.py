"""Trying again: another attempt of the same order, and never a second charge unseen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from moneyed import Money

from django_multipay import ledger
from django_multipay.enums import (
    DeclineCode,
    Initiator,
    MethodKind,
    OperationKind,
    OperationState,
    PaymentStatus,
    ReviewReason,
    Source,
)
from django_multipay.exceptions import (
    InvalidOperation,
    InvalidTransition,
    OutcomeUnknown,
    ProviderUnavailable,
    RequestRejected,
)
from django_multipay.flows import (
    cancel_payment,
    check_payment,
    create_payment,
    deliver_notices,
    refund_payment,
    release_review,
    retry_payment,
    start_payment,
)
from django_multipay.flows.checkout import latest_attempt, paid_attempt, ways_for
from django_multipay.flows.guards import account_of
from django_multipay.messages import Buyer, Decline, LineItem, Method
from django_multipay.models import Operation, Payment, Token
from django_multipay.registry import registry
from tests.five import Shop, settings_at
from tests.flows.scripted import (
    ObligingProvider,
    account_settings,
    new_payment,
    snapshot_of,
)

OVER = (PaymentStatus.FAILED, PaymentStatus.CANCELED, PaymentStatus.EXPIRED)
NOT_OVER = sorted(set(PaymentStatus) - set(OVER))


@pytest.fixture(autouse=True)
def accounts(settings):
    settings.MULTIPAY = account_settings(
        scripted=ObligingProvider, other=ObligingProvider
    )


def hear(payment: Payment, status: PaymentStatus, **changes: object) -> None:
    """Apply what the provider says about ``payment``."""
    ledger.apply_snapshot(
        payment.pk,
        snapshot_of(payment, status, **changes),
        account=account_of(registry[payment.provider]),
        source=Source.WEBHOOK,
    )
    payment.refresh_from_db()


def attempted(status: PaymentStatus = PaymentStatus.FAILED, **values: object):
    """Return a payment that was opened and came to ``status``."""
    payment = new_payment(**values)
    start_payment(payment, provider="scripted")
    hear(payment, status)
    return payment


def paid_again(payment: Payment) -> Payment:
    """Return another attempt after ``payment``, which is paid."""
    second = retry_payment(payment)
    start_payment(second)
    hear(second, PaymentStatus.PAID)
    return second


# Beginning another attempt ------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_another_attempt_asks_for_the_same():
    wishes = {
        "provider": None,
        "amount": Money("26.30", "USD"),
        "items": [LineItem(name="Cup", unit_price=Money("26.30", "USD"))],
        "buyer": Buyer(name="Ada", email="ada@buyer.example", country="KR"),
        "customer_id": "7",
        "success_url": "/thanks/",
        "failure_url": "/cart/",
        "description": "Cups",
        "locale": "ko",
        "metadata": {"shelf": "3"},
        "save_token": True,
    }
    first = attempted(**wishes)

    second = retry_payment(first)

    same = (
        *("order_id", "amount", "items", "buyer_name", "buyer_email", "buyer_country"),
        *("customer_id", "success_url", "failure_url", "description", "locale"),
        *("metadata", "save_token", "capture_mode"),
    )
    assert {name: getattr(second, name) for name in same} == {
        name: getattr(first, name) for name in same
    }
    assert second.retry_of == first
    assert (second.provider, second.status) == ("", PaymentStatus.CREATED)
    assert second.merchant_reference != first.merchant_reference
    assert latest_attempt(first) == second


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("used", "again"), [("card", "card"), ("VISA", "")])
def test_what_the_shop_chose_stays_chosen(monkeypatch, used, again):
    card = Method(code="card", kind=MethodKind.CARD)
    monkeypatch.setattr(ObligingProvider, "methods", (card,))
    first = new_payment(method="card")
    start_payment(first)
    # Providers tell what was used in words of their own, such as a card's brand.
    hear(first, PaymentStatus.FAILED, method=used)

    second = retry_payment(first)

    assert (second.provider, second.method) == ("scripted", again)


@pytest.mark.django_db(transaction=True)
def test_after_a_saved_method_failed_every_way_is_open():
    token = Token.objects.create(
        provider="scripted", customer_id="ada", provider_token="t", token_digest="1"
    )
    first = new_payment(token=token, customer_id="ada")
    registry["scripted"].will("start", RequestRejected("no", "scripted"))
    with pytest.raises(RequestRejected):
        start_payment(first)
    # It was the shop's choice, so it is not taken back.
    assert [way.token for way in ways_for(first)] == [token]
    start_payment(first)
    hear(first, PaymentStatus.FAILED)

    second = retry_payment(first)

    assert (second.token, second.is_method_open) == (None, True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("status", OVER)
def test_two_clicks_make_one_attempt(status):
    first = attempted(status)

    assert retry_payment(first) == retry_payment(first)
    assert Payment.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_make_one_attempt():
    first = attempted()
    start = Barrier(4)

    def click(_: int) -> int:
        try:
            start.wait(timeout=20)
            return retry_payment(Payment.objects.get(pk=first.pk)).pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(click, range(4)))

    assert len(made) == 1
    assert Payment.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("status", NOT_OVER)
def test_nothing_is_tried_again_that_could_still_be_paid(status):
    payment = new_payment()
    Payment.objects.filter(pk=payment.pk).update(status=status)
    payment.refresh_from_db()

    with pytest.raises(InvalidTransition):
        retry_payment(payment)

    assert Payment.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("kind", "state", "is_refused"),
    [
        (OperationKind.CHECKOUT, OperationState.UNKNOWN, True),
        (OperationKind.CHECKOUT, OperationState.IN_FLIGHT, True),
        (OperationKind.CONFIRM, OperationState.REQUESTED, True),
        # A page that was never opened cannot be opened any more.
        (OperationKind.CHECKOUT, OperationState.REQUESTED, False),
    ],
)
def test_a_call_without_a_known_outcome_forbids_it(kind, state, is_refused):
    payment = attempted()
    Operation.objects.create(payment=payment, kind=kind, state=state, open_slot="x")

    if is_refused:
        with pytest.raises(InvalidTransition):
            retry_payment(payment)
    else:
        assert retry_payment(payment).retry_of == payment


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "column",
    [
        {"review_reason": ReviewReason.CONTRADICTION},
        {"pay_until": timezone.now() - timedelta(seconds=1)},
        {"initiator": Initiator.MERCHANT},
    ],
    ids=["held", "too late", "no buyer"],
)
def test_not_every_failure_may_be_tried_again(column):
    payment = attempted()
    Payment.objects.filter(pk=payment.pk).update(**column)
    payment.refresh_from_db()

    with pytest.raises(InvalidTransition):
        retry_payment(payment)


@pytest.mark.django_db(transaction=True)
def test_the_shops_deadline_holds_for_every_attempt_and_the_providers_does_not():
    moment = timezone.now() + timedelta(hours=3)
    limited, free = new_payment(expires_at=moment), new_payment()
    for payment in (limited, free):
        start_payment(payment)
        soon = timezone.now() + timedelta(minutes=5)
        hear(payment, PaymentStatus.FAILED, expires_at=soon)

    assert retry_payment(limited).expires_at == moment
    assert retry_payment(free).expires_at is None


@pytest.mark.django_db(transaction=True)
def test_a_shop_makes_its_own_attempt_after_one_that_is_over():
    first = attempted()

    second = new_payment(retry_of=first, provider="other")

    assert (second.retry_of, second.provider) == (first, "other")
    with pytest.raises(InvalidTransition, match="already"):
        new_payment(retry_of=first)
    with pytest.raises(InvalidTransition):
        new_payment(retry_of=second)
    with pytest.raises(InvalidOperation, match="order 1001"):
        new_payment(retry_of=first, order_id="1002")
    assert Payment.objects.count() == 2


# Never twice unseen --------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_late_money_for_an_order_that_was_paid_again_is_held(listen):
    first = attempted()
    second = paid_again(first)
    heard = listen("payment_paid", "payment_needs_review")

    hear(first, PaymentStatus.PAID, provider_reference="T-late")

    second.refresh_from_db()
    assert (second.status, second.review_reason) == (PaymentStatus.PAID, "")
    assert (first.status, first.review_reason) == (
        PaymentStatus.IN_REVIEW,
        ReviewReason.PAID_TWICE,
    )
    assert first.captured == first.amount
    deliver_notices()
    about_first = [news["name"] for news in heard if news["payment"] == first]
    assert about_first == ["payment_needs_review"]


@pytest.mark.django_db(transaction=True)
def test_the_second_payment_goes_back_or_is_let_pass():
    refunded, passed = attempted(order_id="1"), attempted(order_id="2")
    for payment in (refunded, passed):
        paid_again(payment)
        hear(
            payment, PaymentStatus.PAID, provider_reference="T-late" + payment.order_id
        )

    refund_payment(refunded)
    release_review(passed, by="ann")

    refunded.refresh_from_db()
    assert (refunded.status, refunded.review_reason) == (PaymentStatus.REFUNDED, "")
    assert (passed.status, passed.review_reason) == (PaymentStatus.PAID, "")


@pytest.mark.django_db(transaction=True)
def test_an_authorization_of_the_second_attempt_counts_too():
    first = attempted(capture_mode="manual")
    second = retry_payment(first)
    start_payment(second)
    hear(second, PaymentStatus.AUTHORIZED)

    hear(first, PaymentStatus.AUTHORIZED, provider_reference="T-late")

    assert first.review_reason == ReviewReason.PAID_TWICE


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_refunded", [True, False])
def test_money_that_went_back_is_no_first_payment(is_refunded):
    first = attempted()
    second = paid_again(first)
    if is_refunded:
        refund_payment(second)

    hear(first, PaymentStatus.PAID, provider_reference="T-late")

    assert bool(first.review_reason) is not is_refunded


@pytest.mark.django_db(transaction=True)
def test_two_orders_of_one_name_that_are_no_attempts_of_each_other_are_two():
    first, second = new_payment(), new_payment()
    for payment in (first, second):
        start_payment(payment)
        hear(payment, PaymentStatus.PAID)

    assert (first.review_reason, second.review_reason) == ("", "")
    assert paid_attempt(first) is None


@pytest.mark.django_db(transaction=True)
def test_payments_that_share_only_an_order_id_do_not_wait_for_each_other():
    first = attempted()
    retry_payment(first)
    strangers = [new_payment(order_id=first.order_id) for _ in range(3)]

    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        attempts = ledger.other_attempts(first, is_locked=True)
        alone = ledger.other_attempts(strangers[0], is_locked=True)

    assert [one.retry_of_id for one in attempts] == [first.pk]
    assert alone == []
    is_locking = connection.features.has_select_for_update
    locking = [query for query in queries if "FOR UPDATE" in query["sql"]]
    assert len(locking) == (1 if is_locking else 0)


@pytest.mark.django_db(transaction=True)
def test_an_attempt_of_a_paid_order_is_not_opened_any_more():
    first = attempted()
    second = retry_payment(first)
    hear(first, PaymentStatus.PAID, provider_reference="T-late")

    with pytest.raises(InvalidTransition, match="nobody needs to pay again"):
        start_payment(second)

    assert paid_attempt(second) == first
    # The first one that is paid is not the second.
    assert (first.status, first.review_reason) == (PaymentStatus.PAID, "")


def pay_both_at_once() -> list[str]:
    """Let two attempts of one order be paid in the same moment; the reasons after."""
    first = attempted()
    second = retry_payment(first)
    start_payment(second)
    start = Barrier(2)

    def pay(payment: Payment) -> None:
        try:
            start.wait(timeout=20)
            hear(payment, PaymentStatus.PAID, provider_reference=f"T{payment.pk}")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(pay, (first, second)))
    return sorted(Payment.objects.values_list("review_reason", flat=True))


@pytest.mark.django_db(transaction=True)
def test_of_two_that_are_paid_at_once_one_is_held():
    assert pay_both_at_once() == ["", ReviewReason.PAID_TWICE]


@pytest.mark.django_db(transaction=True)
def test_without_the_look_at_the_others_nobody_would_notice(monkeypatch):
    monkeypatch.setattr(ledger, "_hold_if_paid_twice", lambda *values: [])

    assert pay_both_at_once() == ["", ""]


@pytest.mark.django_db(transaction=True)
def test_the_sandbox_pays_late_and_staff_see_it(settings, multipay_sandbox):
    settings.MULTIPAY = settings_at(multipay_sandbox)
    shop = Shop(multipay_sandbox, "easybilling")
    first = shop.start(order_id="R-1")
    shop.tell(first, shop.decide(first, "expire"))
    first.refresh_from_db()
    assert first.status == PaymentStatus.EXPIRED
    second = retry_payment(first)
    start_payment(second)
    shop.tell(second, shop.decide(second, "approve"))

    shop.decide(first, "approve", force=True)
    # Nobody asks about a payment that is over; a person does, or a message comes.
    check_payment(first)

    second.refresh_from_db()
    assert (second.status, second.review_reason) == (PaymentStatus.PAID, "")
    assert first.review_reason == ReviewReason.PAID_TWICE
    assert shop.agrees(first)
    assert shop.agrees(second)


# Choosing again ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "error", [ProviderUnavailable("away"), RequestRejected("no", "scripted")]
)
def test_a_provider_that_could_not_start_does_not_stick(error):
    payment = create_payment(order_id="1", amount=Money("26.30", "USD"))
    registry["scripted"].will("start", error)
    with pytest.raises(type(error)):
        start_payment(payment, provider="scripted", method="card")

    payment.refresh_from_db()
    assert (payment.provider, payment.method) == ("", "")
    assert [way.provider.alias for way in ways_for(payment)] == ["scripted", "other"]
    assert start_payment(payment, provider="other") is not None
    assert (payment.provider, len(registry["other"].told("start"))) == ("other", 1)


@pytest.mark.django_db(transaction=True)
def test_a_start_with_unknown_outcome_sticks():
    payment = create_payment(order_id="1", amount=Money("26.30", "USD"))
    registry["scripted"].will("start", OutcomeUnknown("lost", "scripted"))
    with pytest.raises(OutcomeUnknown):
        start_payment(payment, provider="scripted", method="card")

    payment.refresh_from_db()
    assert (payment.provider, payment.method) == ("scripted", "card")
    with pytest.raises(InvalidTransition):
        start_payment(payment, provider="other")
    start_payment(payment, provider="scripted", method="wallet")
    first, second = registry["scripted"].told("start")
    assert (first.key, first.method) == (second.key, second.method)


@pytest.mark.django_db(transaction=True)
def test_a_provider_that_the_shop_chose_is_asked_again_with_the_same_key():
    payment = new_payment(method="card")
    registry["scripted"].will("start", ProviderUnavailable("away"))
    with pytest.raises(ProviderUnavailable):
        start_payment(payment)

    assert start_payment(payment) is not None
    first, second = registry["scripted"].told("start")
    assert first.key == second.key
    assert payment.provider == "scripted"


@pytest.mark.django_db(transaction=True)
def test_a_method_that_the_shop_chose_is_not_changed():
    payment = new_payment(method="card")

    with pytest.raises(InvalidTransition, match="card"):
        start_payment(payment, method="wallet")


@pytest.mark.django_db(transaction=True)
def test_the_reason_of_the_decline_stays_with_the_attempt():
    first = new_payment()
    start_payment(first)
    decline = Decline(code=DeclineCode.INSUFFICIENT_FUNDS)
    hear(first, PaymentStatus.FAILED, decline=decline)

    assert retry_payment(first).retry_of.decline_code == DeclineCode.INSUFFICIENT_FUNDS


# Given up ---------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_attempt_is_canceled_as_it_stands_now_not_as_it_was_read():
    payment = new_payment()
    stale = Payment.objects.get(pk=payment.pk)
    start_payment(payment)
    hear(payment, PaymentStatus.FAILED)
    cancel_payment(stale)
    assert stale.status == PaymentStatus.FAILED
    assert registry["scripted"].told("fetch") == []
    unopened = new_payment()
    cancel_payment(unopened)
    assert unopened.status == PaymentStatus.CANCELED
