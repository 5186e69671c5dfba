"""Every provider from the order to the money and back, over real HTTP to the sandbox.

Whatever comes in which order, whatever gets lost: in the end our sums are those of the
provider's books, to the cent, and the shop has heard of each piece of news once.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone
from moneyed import Money
from pytest_django import Settings

from django_multipay.enums import (
    Capability,
    OperationState,
    PaymentStatus,
    PlanManager,
    RefundStatus,
    ReviewReason,
    Verdict,
)
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidOperation,
    InvalidTransition,
    OutcomeUnknown,
    ProviderError,
    UnsupportedOperation,
)
from django_multipay.flows import (
    abandon_operation,
    capture_payment,
    check_payment,
    confirm_payment,
    refund_payment,
    release_review,
    settle_payment,
    sync_payment,
    void_payment,
)
from django_multipay.flows.guards import query_of
from django_multipay.flows.operations import refundable
from django_multipay.messages import RefundRequest, RefundSnapshot
from django_multipay.models import (
    Operation,
    Payment,
    RecurringPlan,
    WebhookDelivery,
)
from django_multipay.testing.plugin import Sandbox
from tests.five import (
    ACCOUNTS,
    DOLLARS,
    FOREIGN,
    TABLES,
    Shop,
    facts,
    open_refunds,
    reconcile_later,
    rows,
    settings_at,
)

pytestmark = pytest.mark.django_db

Listen = Callable[..., list[dict[str, Any]]]
Step = Callable[[], object]

PAID, FAILED = PaymentStatus.PAID, PaymentStatus.FAILED
WON = Money("132000", "KRW")
PART, REST = Money("10.00", "USD"), Money("16.30", "USD")
NEWS = ("payment_paid", "payment_failed", "payment_refunded", "payment_needs_review")
REFUNDERS = {"eximbay": "cancel", "clink": "refund", "easybilling": "refund"}
"""Provider that can refund → what the sandbox calls it."""


@pytest.fixture
def shop(
    request: pytest.FixtureRequest, settings: Settings, multipay_sandbox: Sandbox
) -> Shop:
    """The shop's side of the provider that a test is about."""
    settings.MULTIPAY = settings_at(multipay_sandbox)
    cache.clear()
    return Shop(multipay_sandbox, request.param)


def at(*slugs: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shop", slugs, indirect=True)


def names(heard: Sequence[dict[str, Any]]) -> Counter[str]:
    return Counter(news["name"] for news in heard)


def can_ask(shop: Shop) -> bool:
    return Capability.FETCH in shop.provider.capabilities


# Outcomes -------------------------------------------------------------------------------

OUTCOMES: Sequence[tuple[str, dict[str, Any], Sequence[str], str, Sequence[str]]] = [
    # the provider and what is wished of it, what the buyer presses, what it comes to, and its facts
    ("eximbay", {}, ["approve"], PAID, ["capture"]),
    ("eximbay", {}, ["decline"], FAILED, ["failure"]),
    ("eximbay", {}, ["cancel"], FAILED, ["failure"]),
    ("eximbay", {}, ["close"], PAID, ["capture"]),
    ("eximbay", {"amount": WON}, ["register", "deposit"], PAID, ["capture"]),
    ("excoinz", {}, ["approve"], PAID, ["capture"]),
    ("excoinz", {}, ["decline"], FAILED, ["failure"]),
    ("excoinz", {}, ["cancel"], FAILED, ["failure"]),
    ("excoinz", {}, ["expire"], FAILED, ["failure"]),
    ("excoinz", {}, ["pending", "approve"], PAID, ["capture"]),
    ("excoinz", {}, ["pending", "decline"], FAILED, ["failure"]),
    ("payer", {}, ["approve"], PAID, ["capture"]),
    ("payer", {}, ["decline"], FAILED, ["failure"]),
    ("payer", {}, ["cancel"], PaymentStatus.PENDING, []),
    ("payer", {}, ["cancel", "approve"], PAID, ["capture"]),
    ("payer", {}, ["pending", "approve"], PAID, ["capture"]),
    ("payer", {}, ["close"], PAID, ["capture"]),
    ("clink", {}, ["approve"], PAID, ["capture"]),
    # Its page stays open after a refusal, so that decides nothing.
    ("clink", {}, ["decline"], PaymentStatus.PENDING, []),
    ("clink", {}, ["cancel"], PaymentStatus.PENDING, []),
    ("clink", {}, ["expire"], PaymentStatus.EXPIRED, ["expiry"]),
    ("clink", {}, ["pending", "settle"], PAID, ["capture"]),
    ("clink", {}, ["pending", "decline"], PaymentStatus.PENDING, []),
    ("clink", {}, ["decline", "approve"], PAID, ["capture"]),
    ("clink", {}, ["decline", "decline", "approve"], PAID, ["capture"]),
    ("clink", {}, ["decline", "expire"], FAILED, ["failure", "expiry"]),
    ("clink", {"method": "ALIPAY"}, ["approve"], PAID, ["capture"]),
    ("clink", {"method": "ALIPAY"}, ["decline"], FAILED, ["failure"]),
    ("clink", {"method": "ALIPAY"}, ["pending", "settle"], PAID, ["capture"]),
    ("clink", {"method": "ALIPAY"}, ["pending", "decline"], FAILED, ["failure"]),
    ("easybilling", {}, ["approve"], PAID, ["capture"]),
    ("easybilling", {}, ["decline"], FAILED, ["failure"]),
    ("easybilling", {}, ["cancel"], PaymentStatus.CANCELED, ["cancellation"]),
    ("easybilling", {}, ["expire"], PaymentStatus.EXPIRED, ["expiry"]),
    ("easybilling", {}, ["pending", "approve"], PAID, ["capture"]),
    ("easybilling", {}, ["pending", "decline"], FAILED, ["failure"]),
    ("easybilling", {}, ["vanish"], PAID, ["capture"]),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shop", "wishes", "presses", "status", "expected"),
    [
        pytest.param(*row, id="-".join([row[0], *map(str, row[1].values()), *row[2]]))
        for row in OUTCOMES
    ],
    indirect=["shop"],
)
def test_an_outcome_is_the_same_in_whatever_order_and_how_often_it_is_told(
    shop: Shop,
    listen: Listen,
    wishes: dict[str, Any],
    presses: Sequence[str],
    status: PaymentStatus,
    expected: Sequence[str],
    seed: int,
) -> None:
    heard = listen(*NEWS)
    payment = shop.start(**wishes)
    answers = [shop.decide(payment, press) for press in presses]
    steps: list[Step] = [*(message.send for message in shop.messages(payment))] * 3
    steps += [lambda answer=answer: shop.come_back(answer) for answer in answers] * 2
    if can_ask(shop):
        steps += [lambda: sync_payment(payment)] * 2
    random.Random(seed).shuffle(steps)

    for step in steps:
        step()
    reconcile_later()

    assert shop.agrees(payment)
    assert payment.status == status
    assert Counter(facts(payment)) == Counter(expected)
    told = names(heard)
    assert told["payment_paid"] == (status == PAID)
    assert told["payment_failed"] <= 1
    if status in {FAILED, PaymentStatus.CANCELED, PaymentStatus.EXPIRED}:
        assert told["payment_failed"] == 1
    assert not payment.review_reason
    assert not told["payment_needs_review"]
    assert not WebhookDelivery.objects.filter(verdict=Verdict.STORED).exists()


@at(*ACCOUNTS)
def test_a_payment_becomes_paid_when_its_pending_time_is_over(shop: Shop) -> None:
    if shop.slug == "eximbay":
        payment = shop.start(amount=WON)
        waiting, arriving = "register", "deposit"
    else:
        payment = shop.start()
        waiting, arriving = "pending", "settle" if shop.slug == "clink" else "approve"
    shop.tell(payment, shop.decide(payment, waiting))
    assert shop.agrees(payment)
    assert payment.status in {PaymentStatus.PENDING, PaymentStatus.AWAITING_FUNDS}
    shop.tell(payment, shop.decide(payment, arriving))
    assert shop.agrees(payment)
    assert payment.status == PAID


@at("eximbay", "excoinz", "payer", "clink")
def test_messages_alone_are_enough(shop: Shop, listen: Listen) -> None:
    heard = listen(*NEWS)
    payment = shop.start()
    shop.decide(payment, "approve")
    for message in shop.messages(payment):
        assert message.send().status_code == 200
    assert shop.agrees(payment)
    assert names(heard) == {"payment_paid": 1}


@at("eximbay", "payer", "clink", "easybilling")
def test_asking_alone_is_enough(shop: Shop, listen: Listen) -> None:
    heard = listen(*NEWS)
    payment = shop.start()
    shop.decide(payment, "approve")
    reconcile_later()
    reconcile_later()
    assert shop.agrees(payment)
    assert payment.status == PAID
    assert names(heard) == {"payment_paid": 1}


@at("eximbay", "excoinz", "payer", "clink")
def test_a_message_of_the_second_account_is_refused_at_every_door(shop: Shop) -> None:
    payment = shop.start()
    theirs = shop.start(alias=f"{shop.slug}{FOREIGN}")
    shop.decide(theirs, "approve")
    messages = shop.messages(theirs)
    assert messages
    before = rows(*TABLES)
    for message in messages:
        for door in shop.doors(payment):
            is_return = "/return/" in door
            refused = {303} if is_return else {400, 401}
            assert message.send(path=door).status_code in refused
    assert rows(*TABLES) == before


@at("eximbay", "excoinz", "payer", "clink")
def test_a_message_about_one_payment_does_nothing_at_the_door_of_another(
    shop: Shop,
) -> None:
    cheap, dear = shop.start(), shop.start(amount=shop.account.amount * 100)
    shop.decide(cheap, "approve")
    shop.decide(dear, "decline")
    for message, door in itertools.product(shop.messages(cheap), shop.doors(dear)):
        message.send(path=door)
    dear.refresh_from_db()
    assert dear.status == PaymentStatus.PENDING
    assert not facts(dear)


@at("easybilling")
def test_without_webhooks_only_the_inquiry_counts(shop: Shop) -> None:
    payment = shop.start()
    answer = shop.decide(payment, "approve")
    assert not shop.messages(payment)
    assert shop.come_back(answer).status_code == 303
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING
    reconcile_later()
    assert shop.agrees(payment)
    assert payment.status == PAID


@at("excoinz")
def test_without_an_inquiry_only_the_message_counts(shop: Shop) -> None:
    payment = shop.start()
    shop.decide(payment, "approve")
    with pytest.raises(UnsupportedOperation):
        sync_payment(payment)
    reconcile_later()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING
    shop.tell(payment)
    assert shop.agrees(payment)
    assert payment.status == PAID


SPELLINGS: Sequence[tuple[str, dict[str, object]]] = [
    ("excoinz", {"null_ref_id": True}),
    ("excoinz", {"fail_amount": "requested"}),
    ("payer", {"webhook_shape": "event"}),
    ("payer", {"webhook_shape": "minimal"}),
    ("payer", {"return_parameter": "id"}),
    ("payer", {"uppercase_currency": True}),
    ("payer", {"null_absent_fields": True}),
    ("clink", {"envelope": "old"}),
    ("clink", {"timestamp_unit": "s"}),
    ("clink", {"signature_case": "upper"}),
    ("clink", {"merchant_reference_trap": "null"}),
    ("clink", {"merchant_reference_trap": "blank"}),
    ("clink", {"order_created_status": "pending"}),
    ("clink", {"return_parameter": ""}),
    ("easybilling", {"vocabulary": "guide"}),
    ("easybilling", {"vocabulary": "capitals"}),
    ("easybilling", {"return_parameters": True}),
]


@pytest.mark.parametrize(
    ("shop", "spelling"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in SPELLINGS],
    indirect=["shop"],
)
def test_every_known_spelling_of_a_message_is_understood(
    shop: Shop, listen: Listen, spelling: dict[str, object]
) -> None:
    heard = listen(*NEWS)
    shop.desk.set(spelling)
    payment = shop.start()
    answer = shop.decide(payment, "approve")
    for _ in range(2):
        shop.tell(payment, answer)
    assert shop.agrees(payment)
    assert payment.status == PAID
    assert not payment.review_reason
    assert facts(payment) == ["capture"]
    assert names(heard) == {"payment_paid": 1}


@at("payer", "clink", "easybilling")
def test_a_word_that_nobody_knows_is_no_money(shop: Shop) -> None:
    payment = shop.start()
    answer = shop.decide(payment, "approve")
    shop.desk.set({"status_word": "half-done"})
    if shop.slug != "clink":
        shop.tell(payment, answer)
    sync_payment(payment)
    assert payment.status == PaymentStatus.PENDING
    assert not facts(payment)
    shop.desk.set({"status_word": ""})
    shop.tell(payment)
    assert shop.agrees(payment)
    assert payment.status == PAID


# What is special to one provider ----------------------------------------------------------


@at("excoinz")
def test_too_little_waits_until_a_person_takes_it(shop: Shop, listen: Listen) -> None:
    heard = listen(*NEWS)
    payment = shop.start()
    shop.decide(payment, "underpay")
    shop.tell(payment)
    shop.tell(payment)
    assert shop.agrees(payment)
    assert payment.captured == payment.amount / 2
    assert payment.status == PaymentStatus.IN_REVIEW
    assert payment.review_reason == ReviewReason.UNDERPAID
    assert names(heard) == {"payment_needs_review": 1}
    release_review(payment, by="Kim", note="the rest was paid in cash")
    assert payment.status == PAID
    assert not payment.review_reason
    assert names(heard) == {"payment_needs_review": 1, "payment_paid": 1}
    assert shop.agrees(payment)


@at("excoinz")
def test_too_much_is_paid_and_shown_to_a_person(shop: Shop, listen: Listen) -> None:
    heard = listen(*NEWS)
    payment = shop.start()
    shop.decide(payment, "overpay")
    shop.tell(payment)
    assert shop.agrees(payment)
    assert payment.captured == payment.amount * Decimal("1.5")
    assert payment.status == PAID
    assert payment.review_reason == ReviewReason.OVERPAID
    release_review(payment, by="Kim")
    assert not payment.review_reason
    assert names(heard) == {"payment_needs_review": 1, "payment_paid": 1}
    assert shop.agrees(payment)


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "asked"])
@at("payer")
def test_a_refund_in_the_dashboard_is_noticed_once(
    shop: Shop, listen: Listen, is_told: bool
) -> None:
    heard = listen(*NEWS)
    payment = shop.paid()
    shop.sandbox.post(f"{shop.desk.path}/payments/{payment.merchant_reference}/refund")
    steps: list[Step] = [lambda: shop.tell(payment), lambda: sync_payment(payment)]
    for step in steps if is_told else reversed(steps):
        step()
    assert shop.agrees(payment)
    assert payment.status == PaymentStatus.REFUNDED
    (refund,) = payment.refunds.all()
    assert refund.is_external
    assert refund.status == RefundStatus.SUCCEEDED
    assert names(heard) == {"payment_paid": 1, "payment_refunded": 1}


@at("clink")
def test_a_converted_payment_is_paid_in_our_currency_and_not_refunded_by_us(
    shop: Shop,
) -> None:
    payment = shop.start()
    shop.tell(payment, shop.decide(payment, "convert"))
    sync_payment(payment)
    entry = shop.books(payment)
    assert (entry["currency"], entry["charges"]) == ("EUR", 1)
    assert payment.status == PAID
    assert payment.captured == payment.amount
    assert payment.details["charged_currency"] == "EUR"
    assert Decimal(payment.details["charged_amount"]) == Decimal(str(entry["amount"]))
    with pytest.raises(InvalidOperation):
        refund_payment(payment)
    assert not shop.calls()["refund"]
    payment.refresh_from_db()
    assert refundable(payment) == payment.amount


WRONG: dict[str, tuple[dict[str, object], ReviewReason]] = {
    "a cent more": ({"amountSubtotal": 26.31}, ReviewReason.AMOUNT_MISMATCH),
    "a cent less": ({"amountSubtotal": 26.29}, ReviewReason.AMOUNT_MISMATCH),
    "a hundred times": ({"amountSubtotal": 2630}, ReviewReason.AMOUNT_MISMATCH),
    "nothing": ({"amountSubtotal": 0}, ReviewReason.AMOUNT_MISMATCH),
    "less than a cent": ({"amountSubtotal": 26.305}, ReviewReason.FIELD_MISSING),
    "no amount": ({"amountSubtotal": None}, ReviewReason.FIELD_MISSING),
    "a text": ({"amountSubtotal": "a lot"}, ReviewReason.FIELD_MISSING),
    "euros": ({"originalCurrency": "EUR"}, ReviewReason.CURRENCY_MISMATCH),
}


@pytest.mark.parametrize(("changes", "reason"), WRONG.values(), ids=WRONG)
@at("clink")
def test_a_genuine_message_about_another_amount_is_held(
    shop: Shop, changes: dict[str, object], reason: ReviewReason
) -> None:
    payment = shop.start()
    shop.decide(payment, "approve")
    for _ in range(2):
        assert shop.changed(payment, **changes).send().status_code == 200
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING
    assert payment.review_reason == reason
    assert payment.captured == payment.amount * 0
    sync_payment(payment)
    assert shop.agrees(payment)
    assert payment.status == PAID
    assert payment.review_reason == reason


@at("clink")
def test_two_pages_of_one_payment_that_are_both_paid_are_shown_to_a_person(
    shop: Shop, listen: Listen
) -> None:
    heard = listen(*NEWS)
    shop.fault("create_session", "drop_after")
    payment = shop.start_again(shop.stumble())
    pages = [
        entry["provider_reference"]
        for entry in shop.sandbox.get("/_control/clink/payments")
        if entry["reference"] == payment.merchant_reference
    ]
    assert len(pages) == 2
    for page in pages:
        shop.desk.decide(page, "approve")
    for _ in range(2):
        shop.tell(payment)
        sync_payment(payment)
    assert payment.captured == payment.amount * 2
    assert payment.status == PAID
    assert payment.review_reason == ReviewReason.OVERPAID
    assert facts(payment) == ["capture", "capture"]
    assert names(heard) == {"payment_paid": 1, "payment_needs_review": 1}


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "the other way"])
@at("clink")
def test_a_payment_that_failed_and_expired_is_told_to_have_failed_once(
    shop: Shop, listen: Listen, turned: bool
) -> None:
    heard = listen(*NEWS)
    payment = shop.start()
    for press in ("decline", "expire"):
        shop.decide(payment, press)
    for message in shop.messages(payment)[:: -1 if turned else 1]:
        message.send()
    payment.refresh_from_db()
    assert payment.status == FAILED
    assert names(heard) == {"payment_failed": 1}


def dispute(shop: Shop, payment: Payment, outcome: str) -> None:
    path = f"{shop.desk.path}/payments/{payment.merchant_reference}/dispute"
    shop.sandbox.post(path, {"outcome": outcome})


@pytest.mark.parametrize(
    ("outcome", "is_over"), [("won", True), ("withdrawn", True), ("lost", False)]
)
@pytest.mark.parametrize("seed", range(3))
@at("clink")
def test_a_dispute_is_for_a_person_until_it_is_won(
    shop: Shop, listen: Listen, outcome: str, is_over: bool, seed: int
) -> None:
    payment = shop.paid()
    heard = listen(*NEWS)
    dispute(shop, payment, "open")
    shop.tell(payment)
    payment.refresh_from_db()
    assert payment.review_reason == ReviewReason.CHARGEBACK
    assert payment.status == PAID
    dispute(shop, payment, outcome)
    steps: list[Step] = [*(message.send for message in shop.messages(payment))] * 2
    random.Random(seed).shuffle(steps)
    for step in steps:
        step()
    assert shop.agrees(payment)
    assert payment.review_reason == ("" if is_over else ReviewReason.CHARGEBACK)
    reversals = ["chargeback_reversal"] * is_over
    assert facts(payment) == ["capture", "chargeback", *reversals]
    assert names(heard) == {"payment_needs_review": 1}


@at("clink")
def test_renewals_of_a_plan_never_count_on_the_first_payment(
    shop: Shop, listen: Listen
) -> None:
    price = Money("9.99", "USD")
    plan = RecurringPlan(
        provider="clink",
        customer_id="customer-7",
        start_on=timezone.now().date(),
        managed_by=PlanManager.PROVIDER,
    )
    plan.amount = price
    plan.save()
    heard = listen(*NEWS)
    payment = shop.start_plan(
        plan,
        amount=price,
        customer_id="customer-7",
        provider_data={
            "productId": "prd_sandbox_tea",
            "priceId": "price_sandbox_tea_monthly",
        },
    )
    shop.tell(payment, shop.decide(payment, "approve"))
    assert shop.agrees(payment)
    assert payment.status == PAID

    shop.sandbox.post(
        "/_control/clock", {"advance_seconds": timedelta(days=70).total_seconds()}
    )
    shop.sandbox.get("/_control/clink/payments")
    shop.sandbox.post("/_control/callbacks/flush")
    (entry,) = shop.sandbox.get("/_control/clink/plans")
    assert entry["charges"] == 3
    for message in shop.messages() * 2:
        assert message.send().status_code == 200
    reconcile_later()
    sync_payment(payment)

    assert payment.captured == price
    assert facts(payment) == ["capture"]
    assert not payment.review_reason
    assert names(heard) == {"payment_paid": 3}
    renewals = plan.payments.exclude(pk=payment.pk)
    assert [facts(renewal) for renewal in renewals] == [["capture"]] * 2
    assert not WebhookDelivery.objects.filter(verdict=Verdict.HELD).exists()


# Refunds ----------------------------------------------------------------------------------


@at(*REFUNDERS)
def test_all_of_it_goes_back(shop: Shop, listen: Listen) -> None:
    payment = shop.paid()
    heard = listen(*NEWS)
    refund = refund_payment(payment, by="Kim", reason="came back")
    shop.tell(payment)
    refund.refresh_from_db()
    assert shop.agrees(payment)
    assert refund.status == RefundStatus.SUCCEEDED
    assert payment.status == PaymentStatus.REFUNDED
    assert payment.refunded == payment.amount
    assert shop.refunds(payment) == [payment.amount]
    assert names(heard) == {"payment_refunded": 1}
    with pytest.raises(InvalidTransition):
        refund_payment(payment)


@at(*REFUNDERS)
def test_two_parts_go_back(shop: Shop, listen: Listen) -> None:
    payment = shop.paid()
    heard = listen(*NEWS)
    for part, left in ((PART, REST), (REST, REST * 0)):
        refund_payment(payment, part)
        shop.tell(payment)
        assert shop.agrees(payment)
        assert refundable(payment) == left
    sync_payment(payment)
    assert shop.agrees(payment)
    assert payment.status == PaymentStatus.REFUNDED
    assert sorted(shop.refunds(payment)) == [PART, REST]
    assert names(heard) == {"payment_refunded": 2}


@at(*REFUNDERS)
def test_more_than_is_left_is_refused_before_anything_is_sent(shop: Shop) -> None:
    payment = shop.paid()
    refund_payment(payment, PART)
    shop.tell(payment)
    calls = shop.calls()
    with pytest.raises(InvalidAmount):
        refund_payment(payment, REST + Money("0.01", "USD"))
    with pytest.raises(InvalidAmount):
        refund_payment(payment, Money("1.00", "EUR"))
    assert shop.calls() == calls
    assert payment.refunds.count() == 1
    assert shop.agrees(payment)


@at(*REFUNDERS)
def test_the_same_key_is_one_refund(shop: Shop) -> None:
    payment = shop.paid()
    for _ in range(3):
        refund_payment(payment, PART, idempotency_key="form 7")
    shop.tell(payment)
    assert shop.agrees(payment)
    assert shop.refunds(payment) == [PART]


HEALERS: dict[str, Callable[[Shop, Payment], object]] = {
    "a person asks": lambda shop, payment: check_payment(payment),
    "reconcile": lambda shop, payment: reconcile_later(),
    "messages": lambda shop, payment: shop.tell(payment),
}


@pytest.mark.parametrize("healer", HEALERS.values(), ids=HEALERS)
@pytest.mark.parametrize("amount", [DOLLARS, PART], ids=["all", "a part"])
@pytest.mark.parametrize("fault", ["drop_after", "truncate", "html", "garbage"])
@at(*REFUNDERS)
def test_a_refund_whose_answer_is_lost_heals_to_exactly_one(
    shop: Shop,
    listen: Listen,
    fault: str,
    amount: Money,
    healer: Callable[[Shop, Payment], object],
) -> None:
    payment = shop.paid()
    heard = listen(*NEWS)
    shop.fault(REFUNDERS[shop.slug], fault)
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, amount)
    (refund,) = payment.refunds.all()
    assert refund.status == RefundStatus.UNKNOWN
    payment.refresh_from_db()
    assert refundable(payment) == payment.amount - amount

    for _ in range(2):
        healer(shop, payment)
        assert shop.refunds(payment) == [amount]
    shop.tell(payment)

    refund.refresh_from_db()
    assert refund.status == RefundStatus.SUCCEEDED
    assert refund.operations.get().state == OperationState.SUCCEEDED
    assert shop.refunds(payment) == [amount]
    assert shop.agrees(payment)
    assert payment.refunds.count() == 1
    assert names(heard) == {"payment_refunded": 1}


@pytest.mark.parametrize("fault", ["drop_before", "status"])
@at(*REFUNDERS)
def test_a_refund_that_never_arrived_is_never_doubled(
    shop: Shop, listen: Listen, fault: str
) -> None:
    payment = shop.paid()
    heard = listen(*NEWS)
    shop.fault(REFUNDERS[shop.slug], fault)
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, PART)
    for _ in range(2):
        reconcile_later()
        check_payment(payment)
        shop.tell(payment)
    (refund,) = payment.refunds.all()
    if Capability.REFUND not in shop.provider.repeatable:
        # It is not known to be safe, so nobody but a person may send it again.
        assert refund.status == RefundStatus.UNKNOWN
        assert shop.refunds(payment) == []
        assert refundable(payment) == REST
        abandon_operation(refund.operations.get(), by="Kim")
        refund = refund_payment(payment, PART)
        shop.tell(payment)
    refund.refresh_from_db()
    assert refund.status == RefundStatus.SUCCEEDED
    assert shop.refunds(payment) == [PART]
    assert shop.agrees(payment)
    assert names(heard) == {"payment_refunded": 1}


@pytest.mark.parametrize("outcome", ["succeed", "fail"])
@pytest.mark.parametrize("amount", [DOLLARS, PART], ids=["all", "a part"])
@pytest.mark.parametrize("is_told", [True, False], ids=["told", "asked"])
@at("clink", "easybilling")
def test_a_refund_in_transit_arrives_or_fails(
    shop: Shop, listen: Listen, outcome: str, amount: Money, is_told: bool
) -> None:
    payment = shop.paid()
    heard = listen(*NEWS)
    shop.desk.set({"refund_outcome": "pending"})
    refund = refund_payment(payment, amount)
    shop.tell(payment)
    refund.refresh_from_db()
    assert refund.status == RefundStatus.PENDING
    payment.refresh_from_db()
    assert payment.refunded == payment.amount * 0
    assert refundable(payment) == payment.amount - amount

    reference = payment.merchant_reference
    shop.desk.finish_refund(reference, refund.merchant_reference, outcome)
    steps: list[Step] = [lambda: shop.tell(payment), lambda: check_payment(payment)]
    for step in steps if is_told else reversed(steps):
        step()

    refund.refresh_from_db()
    is_good = outcome == "succeed"
    assert refund.status == (RefundStatus.SUCCEEDED if is_good else RefundStatus.FAILED)
    assert shop.agrees(payment)
    assert payment.refunded == (amount if is_good else amount * 0)
    assert not open_refunds(payment)
    assert names(heard) == {"payment_refunded": 1} if is_good else not heard


@at(*REFUNDERS)
def test_a_refund_that_fails_frees_the_money_for_another(shop: Shop) -> None:
    payment = shop.paid()
    shop.desk.set({"refund_outcome": "fail"})
    refund = refund_payment(payment)
    shop.tell(payment)
    refund.refresh_from_db()
    assert refund.status == RefundStatus.FAILED
    assert shop.agrees(payment)
    assert refundable(payment) == payment.amount
    shop.desk.set({"refund_outcome": "succeed"})
    refund_payment(payment)
    shop.tell(payment)
    assert shop.agrees(payment)
    assert payment.status == PaymentStatus.REFUNDED
    assert shop.refunds(payment) == [payment.amount]


@pytest.mark.parametrize("lost", [PART, REST], ids=["the first", "the second"])
@at(*REFUNDERS)
def test_one_of_two_refunds_is_lost_and_found(
    shop: Shop, listen: Listen, lost: Money
) -> None:
    payment = shop.paid()
    heard = listen(*NEWS)
    for part in (PART, REST):
        if part == lost:
            shop.fault(REFUNDERS[shop.slug], "drop_after")
            with pytest.raises(OutcomeUnknown):
                refund_payment(payment, part)
            if part == PART:
                check_payment(payment)
        else:
            refund_payment(payment, part)
    for _ in range(2):
        shop.tell(payment)
        check_payment(payment)
    assert shop.agrees(payment)
    assert sorted(shop.refunds(payment)) == [PART, REST]
    assert {refund.status for refund in payment.refunds.all()} == {
        RefundStatus.SUCCEEDED
    }
    assert payment.refunds.count() == 2
    assert names(heard) == {"payment_refunded": 2}


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
@pytest.mark.parametrize("second", [PART, Money("5.00", "USD"), REST], ids=str)
@at(*REFUNDERS)
def test_a_second_refund_while_the_first_is_unknown_never_gives_too_much(
    shop: Shop, fault: str, second: Money
) -> None:
    payment = shop.paid()
    shop.fault(REFUNDERS[shop.slug], fault)
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, PART)
    # Eximbay wants to hear what is left, and nobody knows.
    with contextlib.suppress(OutcomeUnknown):
        refund_payment(payment, second)
    for _ in range(2):
        shop.tell(payment)
        check_payment(payment)
    assert shop.agrees(payment)
    assert payment.refunds.filter(is_external=True).count() == 0
    done = payment.refunds.filter(status=RefundStatus.SUCCEEDED)
    assert sorted(refund.amount for refund in done) == sorted(shop.refunds(payment))


def refund_at_the_console(
    shop: Shop, payment: Payment, amount: Money, number: int = 1
) -> RefundSnapshot:
    """Give money back as somebody does who uses the provider's own pages."""
    return shop.provider.refund_payment(
        RefundRequest(
            key=f"console-{number}",
            query=query_of(payment),
            merchant_reference=f"CONSOLE-{number}",
            amount=amount,
            refundable=payment.captured - payment.refunded,
        )
    )


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "asked"])
@pytest.mark.parametrize("slug", ["clink", "eximbay"])
@pytest.mark.parametrize("amount", [DOLLARS, PART], ids=["all", "a part"])
def test_a_refund_made_at_the_console_counts_once(
    settings: Settings,
    multipay_sandbox: Sandbox,
    listen: Listen,
    slug: str,
    amount: Money,
    is_told: bool,
) -> None:
    settings.MULTIPAY = settings_at(multipay_sandbox)
    cache.clear()
    shop = Shop(multipay_sandbox, slug)
    payment = shop.paid()
    heard = listen(*NEWS)
    refund_at_the_console(shop, payment, amount)
    steps: list[Step] = [lambda: shop.tell(payment), lambda: sync_payment(payment)]
    for step in steps if is_told else reversed(steps):
        step()
    assert shop.agrees(payment)
    (refund,) = payment.refunds.all()
    assert refund.is_external
    assert names(heard) == {"payment_refunded": 1}


@at("clink", "eximbay")
def test_a_refund_at_the_console_and_one_of_ours_add_up(shop: Shop) -> None:
    payment = shop.paid()
    refund_at_the_console(shop, payment, PART)
    shop.tell(payment)
    sync_payment(payment)
    assert shop.agrees(payment)
    refund_payment(payment, REST)
    shop.tell(payment)
    sync_payment(payment)
    assert shop.agrees(payment)
    assert payment.status == PaymentStatus.REFUNDED
    assert payment.refunds.count() == 2


@at("clink", "eximbay")
def test_a_refund_of_ours_that_never_arrived_is_not_proven_by_one_at_the_console(
    shop: Shop,
) -> None:
    payment = shop.paid()
    shop.fault(REFUNDERS[shop.slug], "drop_before")
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, PART)
    refund_at_the_console(shop, payment, Money("5.00", "USD"))
    for _ in range(2):
        shop.tell(payment)
        check_payment(payment)
    assert shop.agrees(payment)


@pytest.mark.parametrize("is_mixed", [False, True], ids=["theirs", "one of ours"])
@at("clink")
def test_refunds_at_the_console_that_a_total_told_first_are_counted_once(
    shop: Shop, is_mixed: bool
) -> None:
    payment = shop.paid()
    refund_at_the_console(shop, payment, PART, 1)
    if is_mixed:
        refund_payment(payment, REST)
    else:
        refund_at_the_console(shop, payment, REST, 2)
    # The inquiry says that all of it went back; how, only the messages say.
    sync_payment(payment)
    assert shop.agrees(payment)
    shop.tell(payment)
    assert shop.agrees(payment)
    assert payment.status == PaymentStatus.REFUNDED


@pytest.mark.parametrize("amount", [DOLLARS, REST], ids=["all", "the rest"])
@at("clink")
def test_a_total_does_not_prove_a_refund_of_ours_that_its_message_explains(
    shop: Shop, amount: Money
) -> None:
    payment = shop.paid()
    if amount != payment.amount:
        refund_payment(payment, PART)
    shop.fault("refund", "drop_before")
    with pytest.raises(OutcomeUnknown):
        refund_payment(payment, Money("5.00", "USD"))
    refund_at_the_console(shop, payment, amount)
    sync_payment(payment)
    assert shop.agrees(payment)
    shop.tell(payment)
    assert shop.agrees(payment)


AMOUNTS = [Money(text, "USD") for text in ("5.00", "10.00", "16.30", "26.30")]


@pytest.mark.parametrize("seed", range(12))
@at(*REFUNDERS)
def test_whatever_happens_to_refunds_the_sums_are_those_of_the_books(
    shop: Shop, seed: int
) -> None:
    chance = random.Random(f"{shop.slug} {seed}")
    payment = shop.paid()
    operation, numbers = REFUNDERS[shop.slug], itertools.count(1)
    # EasyBilling tells nobody about a part that others gave back.
    is_told = shop.slug != "easybilling"

    def ours() -> None:
        if fault := chance.choice(["", "", "drop_after", "drop_before", "html"]):
            shop.fault(operation, fault)
        refund_payment(payment, chance.choice(AMOUNTS))

    def theirs() -> None:
        if is_told:
            refund_at_the_console(shop, payment, chance.choice(AMOUNTS), next(numbers))

    def deliver() -> None:
        for message in chance.choices(shop.messages(payment), k=3) if is_told else ():
            message.send()

    steps: list[Step] = [ours, ours, theirs, deliver, deliver, reconcile_later]
    steps += [lambda: sync_payment(payment), lambda: check_payment(payment)]
    for step in chance.choices(steps, k=12):
        # What is refused, and what is not known, is part of the story.
        with contextlib.suppress(ProviderError, InvalidOperation):
            step()
        shop.mend()
        payment.refresh_from_db()
        given = sum(shop.refunds(payment), payment.amount * 0)
        assert given <= payment.amount
        assert payment.refunded <= given

    for _ in range(3):
        shop.tell(payment)
        check_payment(payment)
    assert shop.agrees(payment)
    assert refundable(payment) <= payment.captured - payment.refunded


# Authorizations: Eximbay -------------------------------------------------------------------


def authorized(shop: Shop) -> Payment:
    payment = shop.start(capture_mode="manual")
    shop.tell(payment, shop.decide(payment, "approve"))
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.AUTHORIZED
    return payment


def authenticated(shop: Shop) -> Payment:
    payment = shop.start(provider_data={"transaction_type": "PAYER_AUTH"})
    shop.tell(payment, shop.decide(payment, "approve"))
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.AUTHENTICATED
    return payment


@at("eximbay")
def test_an_authorization_is_captured_and_refunded(shop: Shop, listen: Listen) -> None:
    heard = listen(*NEWS)
    payment = authorized(shop)
    assert shop.agrees(payment)
    assert capture_payment(payment).state == OperationState.SUCCEEDED
    sync_payment(payment)
    assert shop.agrees(payment)
    assert payment.status == PAID
    refund_payment(payment, PART)
    sync_payment(payment)
    assert shop.agrees(payment)
    assert payment.status == PaymentStatus.PARTIALLY_REFUNDED
    assert shop.books(payment)["charges"] == 1
    assert names(heard) == {"payment_paid": 1, "payment_refunded": 1}


@at("eximbay")
def test_an_authorization_is_released(shop: Shop) -> None:
    payment = authorized(shop)
    assert void_payment(payment).state == OperationState.SUCCEEDED
    sync_payment(payment)
    assert payment.status == PaymentStatus.CANCELED
    assert payment.captured == payment.refunded == payment.amount * 0
    assert not payment.review_reason
    assert shop.books(payment)["charges"] == 0
    with pytest.raises(InvalidTransition):
        capture_payment(payment)


@pytest.mark.parametrize("takes_money", [True, False], ids=["charged", "reserved"])
@at("eximbay")
def test_an_authenticated_buyer_is_charged(shop: Shop, takes_money: bool) -> None:
    payment = authenticated(shop)
    assert shop.agrees(payment)
    confirm_payment(payment, capture=takes_money)
    if not takes_money:
        assert payment.status == PaymentStatus.AUTHORIZED
        capture_payment(payment)
    sync_payment(payment)
    assert shop.agrees(payment)
    assert payment.status == PAID
    assert shop.books(payment)["charges"] == 1


@at("eximbay")
def test_a_declined_confirmation_ends_the_payment(shop: Shop, listen: Listen) -> None:
    heard = listen(*NEWS)
    payment = authenticated(shop)
    shop.desk.set({"charge_rescode": "0005"})
    confirm_payment(payment)
    assert payment.status == FAILED
    assert shop.agrees(payment)
    assert names(heard) == {"payment_failed": 1}


@at("eximbay")
def test_a_payment_is_settled_once(shop: Shop) -> None:
    payment = shop.paid()
    assert settle_payment(payment).state == OperationState.SUCCEEDED
    assert shop.books(payment)["settled_date"]
    with pytest.raises(InvalidTransition):
        settle_payment(payment)
    sync_payment(payment)
    assert shop.agrees(payment)
    assert facts(payment) == ["capture", "settlement"]
    assert payment.status == PAID


MOVES: dict[str, tuple[Any, Any, str, PaymentStatus, int]] = {
    "capture": (authorized, capture_payment, "capture", PAID, 1),
    "void": (authorized, void_payment, "cancel", PaymentStatus.CANCELED, 0),
    "confirm": (authenticated, confirm_payment, "confirm", PAID, 1),
}


@pytest.mark.parametrize("healer", HEALERS.values(), ids=HEALERS)
@pytest.mark.parametrize("fault", ["drop_after", "truncate", "html"])
@pytest.mark.parametrize(
    ("begin", "move", "operation", "status", "charges"), MOVES.values(), ids=MOVES
)
@at("eximbay")
def test_a_move_whose_answer_is_lost_heals_and_happens_once(
    shop: Shop,
    begin: Callable[[Shop], Payment],
    move: Callable[[Payment], Operation],
    operation: str,
    status: PaymentStatus,
    charges: int,
    fault: str,
    healer: Callable[[Shop, Payment], object],
) -> None:
    payment = begin(shop)
    shop.fault(operation, fault)
    with pytest.raises(OutcomeUnknown):
        move(payment)
    for _ in range(2):
        healer(shop, payment)
    payment.refresh_from_db()
    assert payment.status == status
    assert not payment.review_reason
    assert shop.books(payment)["charges"] == charges
    assert shop.calls()[operation] == 1
    if charges:
        assert shop.agrees(payment)
    open_ones = payment.operations.exclude(state=OperationState.SUCCEEDED)
    assert not open_ones.exists()


@pytest.mark.parametrize(
    ("begin", "move", "operation", "status", "charges"), MOVES.values(), ids=MOVES
)
@at("eximbay")
def test_a_move_that_never_arrived_is_never_doubled(
    shop: Shop,
    begin: Callable[[Shop], Payment],
    move: Callable[[Payment], Operation],
    operation: str,
    status: PaymentStatus,
    charges: int,
) -> None:
    payment = begin(shop)
    before = payment.status
    shop.fault(operation, "drop_before")
    with pytest.raises(OutcomeUnknown):
        move(payment)
    for _ in range(2):
        reconcile_later()
        check_payment(payment)
    assert payment.status == before
    assert shop.calls()[operation] == 1
    (unknown,) = payment.operations.filter(state=OperationState.UNKNOWN)
    abandon_operation(unknown, by="Kim")
    assert move(payment).state == OperationState.SUCCEEDED
    assert payment.status == status
    assert shop.books(payment)["charges"] == charges


@pytest.mark.parametrize("seed", range(12))
@at("eximbay")
def test_whatever_happens_to_an_authorization_it_is_taken_or_released_once(
    shop: Shop, seed: int
) -> None:
    chance = random.Random(seed)
    payment = chance.choice([authorized, authenticated])(shop)
    calls: Sequence[tuple[str, Callable[[Payment], object]]] = [
        ("confirm", confirm_payment),
        ("capture", capture_payment),
        ("cancel", void_payment),
        ("cancel", lambda payment: refund_payment(payment, PART)),
        ("settle", settle_payment),
    ]

    def move() -> None:
        operation, call = chance.choice(calls)
        if fault := chance.choice(["", "drop_after", "drop_before", "html"]):
            shop.fault(operation, fault)
        call(payment)

    def give_up() -> None:
        for operation in payment.operations.filter(state=OperationState.UNKNOWN):
            abandon_operation(operation, by="Kim")

    steps: list[Step] = [move, move, move, reconcile_later, give_up]
    steps += [lambda: sync_payment(payment), lambda: check_payment(payment)]
    for step in chance.choices(steps, k=12):
        with contextlib.suppress(ProviderError, InvalidOperation):
            step()
        shop.mend()
        payment.refresh_from_db()
        entry = shop.books(payment)
        assert entry["charges"] <= 1
        assert payment.captured <= payment.amount * entry["charges"]

    for _ in range(2):
        check_payment(payment)
    assert not payment.review_reason
    if shop.books(payment)["charges"]:
        assert shop.agrees(payment)
    else:
        assert payment.captured == payment.refunded == payment.amount * 0


@at("eximbay")
def test_a_settlement_whose_answer_is_lost_waits_for_a_person(shop: Shop) -> None:
    payment = shop.paid()
    shop.fault("settle", "drop_after")
    with pytest.raises(OutcomeUnknown):
        settle_payment(payment)
    for _ in range(2):
        reconcile_later()
        check_payment(payment)
    assert shop.calls()["settle"] == 1
    assert payment.operations.filter(state=OperationState.UNKNOWN).count() == 1
    assert shop.agrees(payment)
    assert payment.status == PAID


# Starts -----------------------------------------------------------------------------------

STARTS = {
    "eximbay": "ready",
    "payer": "create",
    "clink": "create_session",
    "easybilling": "start",
}


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "html", "status"])
@at(*STARTS)
def test_a_start_whose_answer_is_lost_is_repeated_and_paid_once(
    shop: Shop, listen: Listen, fault: str
) -> None:
    heard = listen(*NEWS)
    # A read is repeated once by itself, so it breaks twice.
    is_repeated = shop.slug == "eximbay" and fault.startswith("drop")
    shop.fault(STARTS[shop.slug], fault, times=2 if is_repeated else 1)
    payment = shop.stumble()
    payment = shop.start_again(payment)
    shop.tell(payment, shop.decide(payment, "approve"))
    assert shop.agrees(payment)
    assert payment.status == PAID
    assert shop.books(payment)["charges"] == 1
    assert names(heard) == {"payment_paid": 1}
