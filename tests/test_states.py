"""The fold: the same facts give the same state, in whatever order they came."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_multipay import states
from django_multipay.enums import PaymentStatus, ReviewReason, TransactionKind
from django_multipay.states import Fact, State, fold

Kind = TransactionKind
Status = PaymentStatus
AMOUNT = 1000


def fact(kind: TransactionKind, amount: int = 0, reference: str = "", **more) -> Fact:
    return Fact(kind=kind, amount_minor=amount, provider_reference=reference, **more)


def fold_of(*facts: Fact, is_started: bool = True) -> State:
    return fold(AMOUNT, facts, is_started=is_started)


REGISTERED = fact(Kind.REGISTRATION, reference="p")
AUTHENTICATED = fact(Kind.AUTHENTICATION, reference="p")
AUTHORIZED = fact(Kind.AUTHORIZATION, AMOUNT, "p")
CAPTURED = fact(Kind.CAPTURE, AMOUNT, "p")
REVERSED = fact(Kind.CAPTURE_REVERSAL, AMOUNT, "p")
VOIDED = fact(Kind.VOID, AMOUNT, "v")
FAILED = fact(Kind.FAILURE, reference="f", reason="generic")
CANCELED = fact(Kind.CANCELLATION, reference="c")
EXPIRED = fact(Kind.EXPIRY, reference="e")
HELD = fact(Kind.REVIEW_HOLD, reference="r")
RELEASED = fact(Kind.REVIEW_RELEASE, reference="r")
REFUNDED = fact(Kind.REFUND, AMOUNT, "r1")
PART_REFUNDED = fact(Kind.REFUND, 300, "r2")
CHARGED_BACK = fact(Kind.CHARGEBACK, AMOUNT, "d1")
WON_BACK = fact(Kind.CHARGEBACK_REVERSAL, AMOUNT, "d1")


# Order ------------------------------------------------------------------------------

HISTORY = [
    AUTHORIZED,
    CAPTURED,
    CAPTURED,
    PART_REFUNDED,
    PART_REFUNDED,
    HELD,
    RELEASED,
]


def test_every_order_of_seven_events_with_duplicates_gives_one_state():
    results = {fold_of(*order) for order in itertools.permutations(HISTORY)}
    (result,) = results
    assert result.status is Status.PARTIALLY_REFUNDED
    assert (result.captured_minor, result.refunded_minor) == (AMOUNT, 300)
    assert result.is_settled


def test_facts_may_come_from_any_iterable():
    assert fold(AMOUNT, iter(HISTORY), is_started=True) == fold_of(*HISTORY)
    assert fold(AMOUNT, {*HISTORY}, is_started=True) == fold_of(*HISTORY)


MOMENTS = st.sampled_from(
    [None, *(datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2))]
)


@st.composite
def facts_of_one_payment(draw) -> list[Fact]:
    """Draw facts as the database holds them: one per kind and reference."""
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(Kind), st.sampled_from(["", "a", "b"])),
            unique=True,
            max_size=9,
        )
    )
    return [
        fact(
            kind,
            draw(st.integers(0, 2 * AMOUNT)),
            reference,
            reason=draw(st.sampled_from(ReviewReason))
            if kind is Kind.DISCREPANCY
            else draw(st.sampled_from(["", "generic"])),
            occurred_at=draw(MOMENTS),
        )
        for kind, reference in keys
    ]


@settings(deadline=None)
@given(facts_of_one_payment(), st.randoms(use_true_random=False), st.booleans())
def test_neither_order_nor_duplicates_change_the_state(facts, random, is_started):
    expected = fold(AMOUNT, facts, is_started=is_started)
    shuffled = [*facts, *(item for item in facts if random.random() < 1 / 2)]
    random.shuffle(shuffled)
    assert fold(AMOUNT, shuffled, is_started=is_started) == expected


@settings(deadline=None)
@given(facts_of_one_payment(), st.booleans())
def test_the_sums_always_make_sense(facts, is_started):
    state = fold(AMOUNT, facts, is_started=is_started)
    assert 0 <= state.captured_minor <= state.authorized_minor
    assert state.refunded_minor >= 0
    assert isinstance(state.status, PaymentStatus)
    if state.is_settled:
        assert state.captured_minor > 0
        assert state.status in {
            Status.PAID,
            Status.PARTIALLY_REFUNDED,
            Status.REFUNDED,
        }
    if state.captured_minor:
        assert state.status not in states.UNSUCCESSFUL_STATUSES
        assert state.decline_code == ""


@settings(deadline=None)
@given(facts_of_one_payment())
def test_money_that_did_not_come_back_is_never_an_unsuccessful_payment(facts):
    kept = [item for item in facts if item.kind is not Kind.CAPTURE_REVERSAL]
    assert fold_of(*kept, CAPTURED).status in {
        Status.PAID,
        Status.PARTIALLY_REFUNDED,
        Status.REFUNDED,
        Status.IN_REVIEW,
    }


# Statuses ---------------------------------------------------------------------------

EXPECTED = {
    "sent to the provider": ([], Status.PENDING),
    "a virtual account was given": ([REGISTERED], Status.AWAITING_FUNDS),
    "authenticated": ([AUTHENTICATED], Status.AUTHENTICATED),
    "authorized": ([AUTHENTICATED, AUTHORIZED], Status.AUTHORIZED),
    "captured": ([AUTHORIZED, CAPTURED], Status.PAID),
    "paid at once": ([CAPTURED], Status.PAID),
    "deposit arrived": ([REGISTERED, CAPTURED], Status.PAID),
    "captured in two parts": (
        [AUTHORIZED, fact(Kind.CAPTURE, 400, "1"), fact(Kind.CAPTURE, 600, "2")],
        Status.PAID,
    ),
    "captured in part by choice": (
        [AUTHORIZED, fact(Kind.CAPTURE, 400, "1")],
        Status.PAID,
    ),
    "refunded in part": ([CAPTURED, PART_REFUNDED], Status.PARTIALLY_REFUNDED),
    "refunded": ([CAPTURED, REFUNDED], Status.REFUNDED),
    "refunded in parts": (
        [CAPTURED, PART_REFUNDED, fact(Kind.REFUND, 700, "r3")],
        Status.REFUNDED,
    ),
    "refunded more than captured": (
        [CAPTURED, REFUNDED, PART_REFUNDED],
        Status.REFUNDED,
    ),
    "captured part was refunded": (
        [AUTHORIZED, fact(Kind.CAPTURE, 300, "1"), PART_REFUNDED],
        Status.REFUNDED,
    ),
    "refund before capture is known": ([PART_REFUNDED], Status.PENDING),
    "voided": ([AUTHORIZED, VOIDED], Status.CANCELED),
    "voided before it is known": ([VOIDED], Status.CANCELED),
    "canceled what was authorized": (
        [AUTHORIZED, fact(Kind.CANCELLATION, reference="p")],
        Status.CANCELED,
    ),
    "canceled another attempt": ([AUTHORIZED, CANCELED], Status.AUTHORIZED),
    "failed": ([FAILED], Status.FAILED),
    "failed, then authorized": ([FAILED, AUTHORIZED], Status.AUTHORIZED),
    "canceled": ([CANCELED], Status.CANCELED),
    "expired": ([EXPIRED], Status.EXPIRED),
    "deposit never came": ([REGISTERED, EXPIRED], Status.EXPIRED),
    "held while nothing moved": ([HELD], Status.IN_REVIEW),
    "held and failed": ([HELD, FAILED], Status.FAILED),
    "held while authorized": ([AUTHORIZED, HELD], Status.IN_REVIEW),
    "held while captured": ([CAPTURED, HELD], Status.IN_REVIEW),
    "held and released": ([CAPTURED, HELD, RELEASED], Status.PAID),
    "released before held": ([CAPTURED, RELEASED, HELD], Status.PAID),
    "held twice, released once": (
        [CAPTURED, HELD, RELEASED, fact(Kind.REVIEW_HOLD, reference="r9")],
        Status.IN_REVIEW,
    ),
    "held and refunded": ([CAPTURED, HELD, REFUNDED], Status.REFUNDED),
    "underpaid": ([fact(Kind.CAPTURE, 999, "p")], Status.IN_REVIEW),
    "overpaid": ([fact(Kind.CAPTURE, 1001, "p")], Status.PAID),
    "paid twice": ([CAPTURED, fact(Kind.CAPTURE, AMOUNT, "q")], Status.PAID),
    "charged back": ([CAPTURED, CHARGED_BACK], Status.PAID),
    "debit came back": ([CAPTURED, REVERSED], Status.FAILED),
    "debit came back before it came": ([REVERSED], Status.FAILED),
    "debit came back, paid again": (
        [CAPTURED, REVERSED, fact(Kind.CAPTURE, AMOUNT, "q")],
        Status.PAID,
    ),
    "discrepancy alone": (
        [fact(Kind.DISCREPANCY, 1, "x", reason="amount_mismatch")],
        Status.PENDING,
    ),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_the_facts_give_the_status(case):
    facts, expected = EXPECTED[case]
    for order in itertools.permutations(facts):
        assert fold_of(*order).status is expected


def test_a_single_minor_unit_is_money():
    authorized = fact(Kind.AUTHORIZATION, 1, "p")
    captured = fact(Kind.CAPTURE, 1, "p")
    refunded = fact(Kind.REFUND, 1, "r1")

    def of(amount_minor, *facts):
        state = fold(amount_minor, facts, is_started=True)
        return state.status, state.review_reason, state.is_settled

    assert of(1, authorized) == (Status.AUTHORIZED, None, False)
    assert of(1, authorized, HELD)[0] is Status.IN_REVIEW
    assert of(1, captured) == (Status.PAID, None, True)
    assert of(1, captured, HELD)[0] is Status.IN_REVIEW
    assert of(1, captured, refunded) == (Status.REFUNDED, None, True)
    assert of(2, captured) == (Status.IN_REVIEW, ReviewReason.UNDERPAID, False)
    assert of(2, captured, refunded) == (Status.REFUNDED, None, True)
    both = fact(Kind.CAPTURE, 2, "p")
    assert of(2, both, refunded) == (Status.PARTIALLY_REFUNDED, None, True)
    lost = fact(Kind.CHARGEBACK, 1, "d1")
    assert of(1, captured, lost)[1] is ReviewReason.CHARGEBACK


def test_before_the_buyer_was_sent_nothing_is_pending():
    assert fold_of(is_started=False).status is Status.CREATED
    assert fold_of(CAPTURED, is_started=False).status is Status.PAID


def test_every_status_can_be_reached():
    reached = {expected for _, expected in EXPECTED.values()}
    assert reached | {Status.CREATED} == set(Status)


@pytest.mark.parametrize("status", Status)
def test_every_status_has_its_place(status):
    places = [
        status in states.FINAL_STATUSES,
        status in states.WAITING_STATUSES,
        status in {Status.CREATED, Status.AUTHENTICATED, Status.AUTHORIZED},
    ]
    assert places.count(True) == 1
    assert states.UNSUCCESSFUL_STATUSES <= states.FINAL_STATUSES


@pytest.mark.parametrize("word", [FAILED, CANCELED, EXPIRED], ids=lambda f: f.kind)
def test_late_money_beats_words(word):
    assert fold_of(word).status in states.UNSUCCESSFUL_STATUSES
    late = fold_of(word, CAPTURED)
    assert (late.status, late.is_settled) == (Status.PAID, True)


# Reasons for a person to look ---------------------------------------------------------


REASONS = {
    "all is well": ([AUTHORIZED, CAPTURED, PART_REFUNDED], None),
    "underpaid": ([fact(Kind.CAPTURE, 999, "p")], ReviewReason.UNDERPAID),
    "less captured by choice": ([AUTHORIZED, fact(Kind.CAPTURE, 400, "p")], None),
    "overpaid": ([fact(Kind.CAPTURE, 1001, "p")], ReviewReason.OVERPAID),
    "paid twice": (
        [CAPTURED, fact(Kind.CAPTURE, AMOUNT, "q")],
        ReviewReason.OVERPAID,
    ),
    "held": ([CAPTURED, HELD], ReviewReason.RISK_REVIEW),
    "released": ([CAPTURED, HELD, RELEASED], None),
    "charged back": ([CAPTURED, CHARGED_BACK], ReviewReason.CHARGEBACK),
    "chargeback won": ([CAPTURED, CHARGED_BACK, WON_BACK], None),
    "second chargeback": (
        [CAPTURED, CHARGED_BACK, WON_BACK, fact(Kind.CHARGEBACK, AMOUNT, "d2")],
        ReviewReason.CHARGEBACK,
    ),
    "chargeback before capture": ([CHARGED_BACK], ReviewReason.CHARGEBACK),
    "an earlier attempt failed": ([FAILED, CAPTURED], None),
    "success and failure of the same": (
        [fact(Kind.FAILURE, reference="p"), CAPTURED],
        ReviewReason.CONTRADICTION,
    ),
    "success and a failure of nothing named": (
        [fact(Kind.FAILURE), CAPTURED],
        ReviewReason.CONTRADICTION,
    ),
    "another amount was named": (
        [fact(Kind.DISCREPANCY, 1, "x", reason="amount_mismatch")],
        ReviewReason.AMOUNT_MISMATCH,
    ),
    "the graver reason first": (
        [
            CAPTURED,
            HELD,
            CHARGED_BACK,
            fact(Kind.DISCREPANCY, 1, "x", reason="amount_mismatch"),
        ],
        ReviewReason.CHARGEBACK,
    ),
}


def test_what_is_held_is_asked_about_by_the_names_of_its_holds():
    other = fact(Kind.REVIEW_HOLD, reference="r9")
    twice = fact(Kind.REVIEW_HOLD, reference="ours", reason=ReviewReason.PAID_TWICE)
    assert fold_of(CAPTURED, HELD, RELEASED, other, twice).open_questions == {
        ReviewReason.PAID_TWICE: {"ours"},
        ReviewReason.RISK_REVIEW: {"r9"},
    }
    assert fold_of(CAPTURED, HELD, RELEASED).open_questions == {}


@pytest.mark.parametrize("case", REASONS)
def test_the_facts_give_the_reason_to_look(case):
    facts, expected = REASONS[case]
    for order in itertools.permutations(facts):
        assert fold_of(*order).review_reason is expected


@pytest.mark.parametrize("reason", ReviewReason)
def test_every_discrepancy_is_shown(reason):
    assert fold_of(fact(Kind.DISCREPANCY, reason=reason)).review_reason is reason


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param([fact(Kind.CAPTURE, 999, "p")], id="underpaid"),
        pytest.param([CAPTURED, HELD], id="held"),
        pytest.param([AUTHORIZED], id="only reserved"),
        pytest.param([CAPTURED, REVERSED], id="taken back"),
        pytest.param([REFUNDED], id="only a refund"),
        pytest.param([], id="nothing"),
    ],
)
def test_nothing_is_delivered_on_less_than_free_money(facts):
    assert not fold_of(*facts).is_settled


def test_a_refund_does_not_take_the_delivery_back():
    assert fold_of(CAPTURED, PART_REFUNDED).is_settled
    assert fold_of(CAPTURED, REFUNDED).is_settled


# Sums and declines ------------------------------------------------------------------


def test_the_sums_are_those_of_the_facts():
    state = fold_of(
        AUTHORIZED, fact(Kind.CAPTURE, 400, "1"), fact(Kind.CAPTURE, 600, "2"), REFUNDED
    )
    assert state.authorized_minor == AMOUNT
    assert state.captured_minor == AMOUNT
    assert state.refunded_minor == AMOUNT


def test_a_refund_that_came_before_its_capture_is_counted():
    assert fold_of(PART_REFUNDED).refunded_minor == 300


def test_a_capture_that_came_back_is_taken_off():
    assert fold_of(CAPTURED, REVERSED).captured_minor == 0
    assert fold_of(REVERSED).captured_minor == 0


def failure(reference: str, reason: str, day: int) -> Fact:
    return fact(
        Kind.FAILURE,
        reference=reference,
        reason=reason,
        occurred_at=datetime(2026, 11, day, tzinfo=UTC),
    )


def test_the_latest_decline_is_told_until_money_comes():
    first, second = failure("1", "expired_card", 1), failure("2", "generic", 2)
    assert fold_of(second, first).decline_code == "generic"
    assert fold_of(first, second, CAPTURED).decline_code == ""
    assert fold_of(CANCELED).decline_code == ""


def test_a_state_cannot_be_changed():
    state: Any = fold_of()
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.status = Status.PAID


# What leaves no mark ------------------------------------------------------------------

NO_MONEY = {
    Kind.REGISTRATION,
    Kind.AUTHENTICATION,
    Kind.FAILURE,
    Kind.CANCELLATION,
    Kind.EXPIRY,
    Kind.SETTLEMENT,
    Kind.REVIEW_HOLD,
    Kind.REVIEW_RELEASE,
    Kind.DISCREPANCY,
}
MISMATCHES = (ReviewReason.AMOUNT_MISMATCH, ReviewReason.ACCOUNT_MISMATCH)
ANY_FACT = [
    fact(
        kind,
        # As the ledger writes them: these are of money, the others of none.
        0 if kind in NO_MONEY else amount,
        reference,
        reason=reason,
    )
    for kind in Kind
    for amount in ((0,) if kind in NO_MONEY else (300, AMOUNT))
    for reference in ("p", "r")
    for reason in (MISMATCHES if kind is Kind.DISCREPANCY else ("",))
]
FIRST_CLAIMS = [
    fact(kind, amount, "p", reason=reason)
    for kind, amount, reason in (
        (Kind.CAPTURE, AMOUNT, ""),
        (Kind.CAPTURE, 300, ""),
        (Kind.AUTHORIZATION, AMOUNT, ""),
        (Kind.FAILURE, 0, "generic"),
        (Kind.CANCELLATION, 0, ""),
        (Kind.EXPIRY, 0, ""),
        (Kind.REGISTRATION, 0, ""),
        (Kind.AUTHENTICATION, 0, ""),
    )
]


def test_what_leaves_no_mark_changes_nothing_of_a_first_claim():
    """So the ledger need not read it: see `_is_unmarked` there."""
    unmarked = 0
    for size in (1, 2, 3):
        for facts in itertools.combinations(ANY_FACT, size):
            # A person answers what is open.
            questions = fold_of(*facts).open_questions.values()
            answers = [
                fact(Kind.REVIEW_RELEASE, reference=reference)
                for references in questions
                for reference in references
            ]
            before = (*facts, *answers)
            state = fold_of(*before)
            if (
                state.status is not Status.PENDING
                or state.review_reason
                or state.decline_code
                or state.authorized_minor + state.captured_minor + state.refunded_minor
            ):
                continue
            unmarked += 1
            for claim in FIRST_CLAIMS:
                assert fold_of(*before, claim) == fold_of(claim), (before, claim)
    assert unmarked > 100
