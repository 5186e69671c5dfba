"""Attacks on the callback doors, over real sockets to the sandbox.

Whoever sends, whatever is sent: a payment is paid only where the provider's books say
so, nothing unverified leaves a row, and nobody is answered by a crash.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import (
    DeclineCode,
    PaymentStatus,
    Purpose,
    ReviewReason,
    Source,
    TransactionKind,
    Verdict,
)
from django_multipay.flows import replay_delivery, webhooks
from django_multipay.messages import Decline, PaymentSnapshot
from django_multipay.models import Payment, Token, Transaction, WebhookDelivery
from django_multipay.registry import registry
from tests.corridor import (
    ACCEPTED,
    FORM,
    Corridor,
    Messages,
    everything,
    fields_of,
    heard,
    money_rows,
    reconcile_later,
    with_fields,
)

pytestmark = pytest.mark.django_db

WEBHOOK = "/payments/webhook/eximbay/"
REFUSED = {400, 401}
FOREIGN_TRANSACTION = "1849705C6420260102000001"


@pytest.fixture
def no_ration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message is checked, so that the checks themselves are under attack."""
    monkeypatch.setattr(webhooks, "REMOTE_CHECKS_PER_MINUTE", 10**9)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of refusals need not be written down thousands of times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def pending(corridor: Corridor) -> Payment:
    """Money has moved at the provider and we do not know it yet."""
    return corridor.payment()


@pytest.fixture
def messages(corridor: Corridor, pending: Payment) -> Messages:
    return corridor.pay(pending)


def captures(payment: Payment) -> list[Transaction]:
    return list(payment.transactions.filter(kind=TransactionKind.CAPTURE))


def assert_unpaid(payment: Payment) -> None:
    payment.refresh_from_db()
    assert payment.status not in {PaymentStatus.PAID, PaymentStatus.AUTHORIZED}
    assert payment.paid_at is None
    assert payment.captured_minor == 0
    assert captures(payment) == []


def account() -> ledger.Account:
    return ledger.Account(alias="eximbay", account="1849705C64", is_live=None)


def snapshot_of(payment: Payment, status: PaymentStatus, **more: Any) -> Any:
    """A snapshot that fits the payment in every field that is compared."""
    values: dict[str, Any] = {
        "provider_reference": "T-1",
        "merchant_reference": payment.merchant_reference,
        "account": "1849705C64",
        "amount": payment.amount,
        **more,
    }
    return PaymentSnapshot(status=status, **values)


def apply(payment: Payment, snapshot: PaymentSnapshot) -> Verdict:
    return ledger.apply_snapshot(
        payment.pk, snapshot, account=account(), source=Source.WEBHOOK
    )


# Forgery ------------------------------------------------------------------------------


FORGED_KEYS: dict[str, Callable[[str], str | None]] = {
    "missing": lambda key: None,
    "empty": lambda key: "",
    "blank": lambda key: "   ",
    "none": lambda key: "None",
    "null": lambda key: "null",
    "zeros": lambda key: "0" * 64,
    "another message's": lambda key: "AB" * 32,
    "reversed": lambda key: key[::-1],
    "lower case": lambda key: key.lower(),
    "extended": lambda key: key + "0",
    "repeated": lambda key: key + key,
    "many in one": lambda key: ",".join([key] * 1_000),
    "ended by a line": lambda key: key + "\n",
    "begun by a blank": lambda key: " " + key,
    "accented": lambda key: "é" + key[1:],
    "emoji": lambda key: "😀" * 64,
    "full width": lambda key: key.translate(
        {ord("0") + digit: chr(0xFF10 + digit) for digit in range(10)}
    ),
    "with a NUL": lambda key: key[:-1] + "\x00",
    "not hexadecimal": lambda key: "G" * 64,
}


@pytest.mark.parametrize("forge", FORGED_KEYS.values(), ids=FORGED_KEYS)
def test_a_forged_key_opens_neither_door_and_leaves_no_row(
    corridor: Corridor,
    pending: Payment,
    messages: Messages,
    forge: Callable[[str], str | None],
) -> None:
    before = everything()
    key = fields_of(messages.status_body)["fgkey"]
    body = with_fields(messages.status_body, fgkey=forge(key))

    assert corridor.send(messages.status_path, body).status_code in REFUSED
    assert corridor.send(WEBHOOK, body).status_code in REFUSED
    assert corridor.send(messages.return_path, body).status_code == 303
    answer = Client().get(messages.status_path, query_params=fields_of(body))
    assert answer.status_code in REFUSED

    assert everything() == before


def test_no_part_of_a_key_is_enough(
    corridor: Corridor, messages: Messages, no_ration: None
) -> None:
    before = everything()
    key = fields_of(messages.status_body)["fgkey"]
    for length in range(len(key)):
        body = with_fields(messages.status_body, fgkey=key[:length])
        assert corridor.send(messages.status_path, body).status_code in REFUSED
    assert everything() == before


def test_every_field_is_covered_whether_changed_dropped_or_given_twice(
    corridor: Corridor, messages: Messages, no_ration: None
) -> None:
    before = everything()
    body = messages.status_body
    forged = [with_fields(body, status="SALE"), with_fields(body, token_id="1")]
    for name, value in fields_of(body).items():
        forged.append(with_fields(body, **{name: value + "1"}))
        forged.append(with_fields(body, **{name: None}))
        forged.append(f"{body}&{urlencode({name: value})}")
        forged.append(f"{urlencode({name: value + '1'})}&{body}")

    for attempt in forged:
        answer = corridor.send(messages.status_path, attempt)
        assert answer.status_code in REFUSED, attempt
        assert corridor.send(messages.return_path, attempt).status_code == 303

    assert everything() == before


DISGUISES: dict[str, Callable[[str], str | bytes]] = {
    "a blank more": lambda body: body + " ",
    "a byte order mark": lambda body: "\ufeff" + body,
    "UTF-16": lambda body: body.encode("utf-16"),
    "not UTF-8": lambda body: body.encode() + b"\xff",
    "a shifted point": lambda body: body.replace("amount=26.30", "amount=2630"),
    "a shifted border": lambda body: body.replace("&amount=", "&amoun=t"),
    "a list": lambda body: body.replace("rescode=0000", "rescode[]=0000"),
    "JSON": lambda body: '{"rescode": "0000"}',
    "XML": lambda body: "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
    "10,000 fields": lambda body: "&".join(f"f{item}=1" for item in range(10_000)),
    "one long name": lambda body: "a" * 200_000,
    "percent signs": lambda body: "%" * 60_000,
    "nothing": lambda body: "",
}


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_bytes_that_are_not_the_message_are_not_the_message(
    corridor: Corridor, messages: Messages, disguise: Callable[[str], str | bytes]
) -> None:
    before = everything()
    body = disguise(messages.status_body)
    assert corridor.send(messages.status_path, body).status_code in REFUSED
    assert corridor.send(messages.return_path, body).status_code == 303
    assert everything() == before


def test_no_header_decides_whether_a_message_is_genuine(
    corridor: Corridor, messages: Messages, no_ration: None
) -> None:
    before = everything()
    body = with_fields(messages.status_body, amount="1.00")
    for name, value in {
        "Authorization": "Basic dGVzdF8xODQ5NzA1QzY0MkMyMTdFMEIyRDo=",
        "X-Forwarded-For": "15.165.144.33",
        "X-Original-URL": messages.return_path,
        "X-HTTP-Method-Override": "GET",
        "X-Fgkey": fields_of(messages.status_body)["fgkey"],
        "X-Verified": "true",
        "Content-Type": "text/xml",
    }.items():
        answer = Client().post(
            messages.status_path, body, content_type=FORM, headers={name: value}
        )
        assert answer.status_code in REFUSED
    assert everything() == before


# Replay and binding -------------------------------------------------------------------


def test_a_message_repeated_at_both_doors_pays_once(
    corridor: Corridor, pending: Payment, messages: Messages
) -> None:
    with heard() as signals:
        corridor.send(messages.status_path, messages.status_body)
        after_first = everything()
        for _ in range(10):
            again = corridor.send(messages.status_path, messages.status_body)
            assert again.content == ACCEPTED
            returned = corridor.send(messages.return_path, messages.return_body)
            assert returned.status_code == 303
            Client().get(f"{messages.return_path}?{messages.return_body}")
    assert everything() == after_first
    assert len(captures(pending)) == 1
    assert [name for name, *_ in signals].count("payment_paid") == 1
    assert corridor.calls()["verify"] == 1


def test_another_payments_genuine_message_does_nothing_here(
    corridor: Corridor, no_ration: None
) -> None:
    cheap, dear = corridor.payment("1.00"), corridor.payment("900.00")
    mine = corridor.pay(cheap)
    theirs = corridor.pay(dear, "decline")
    genuine = mine.status_body
    before = everything()

    for path in (theirs.status_path, theirs.return_path):
        door = 303 if path == theirs.return_path else 400
        assert corridor.send(path, genuine).status_code == door
        assert corridor.send(f"{path}?{genuine}", "").status_code in {303, 400}
        assert Client().get(f"{path}?{genuine}").status_code == door
        for hidden in (f"{path}?{genuine}", path):
            answer = corridor.send(hidden, with_fields(theirs.status_body))
            assert answer.status_code in {200, 303}
        assert (
            Client().generic("GET", path, genuine, content_type=FORM)
        ).status_code in {303, 400}
        mixed = with_fields(genuine, order_id=dear.merchant_reference)
        assert corridor.send(path, mixed).status_code in {303, 401}
        both = f"{genuine}&ref={dear.merchant_reference}"
        assert corridor.send(path, both).status_code in {303, 400}

    assert_unpaid(dear)
    assert_unpaid(cheap)
    ours = {"Payment", "Transaction", "Notice"}
    after = everything()
    assert {row["status"] for row in after["Payment"]} == {"pending", "failed"}
    assert all(len(after[name]) <= len(before[name]) + 1 for name in ours)


def test_an_account_door_applies_a_message_to_the_payment_it_names(
    corridor: Corridor,
) -> None:
    mine, theirs = corridor.payment(), corridor.payment()
    body = corridor.pay(mine).status_body
    assert corridor.send(WEBHOOK, body).content == ACCEPTED
    mine.refresh_from_db()
    assert mine.status == PaymentStatus.PAID
    assert_unpaid(theirs)


def test_the_transaction_of_another_order_pays_nothing(corridor: Corridor) -> None:
    paid, unpaid = corridor.payment(), corridor.payment()
    good = corridor.pay(paid)
    bad = corridor.pay(unpaid, "decline")
    corridor.send(good.status_path, good.status_body)
    paid.refresh_from_db()

    body = corridor.signed(
        unpaid,
        rescode="0000",
        status="SALE",
        transaction_id=paid.provider_reference,
    )
    corridor.send(bad.status_path, body)
    corridor.send(bad.return_path, body)
    reconcile_later()
    assert_unpaid(unpaid)

    claim = snapshot_of(
        unpaid, PaymentStatus.PAID, provider_reference=paid.provider_reference
    )
    assert apply(unpaid, claim) is Verdict.HELD
    assert_unpaid(unpaid)
    assert unpaid.review_reason == ReviewReason.REFERENCE_MISMATCH


@pytest.mark.parametrize(
    "status", [PaymentStatus.AWAITING_FUNDS, PaymentStatus.AUTHORIZED]
)
def test_a_reference_taken_by_another_payment_is_held_whatever_is_claimed(
    corridor: Corridor, status: PaymentStatus
) -> None:
    first, second = corridor.payment(), corridor.payment()
    assert apply(first, snapshot_of(first, status)) is Verdict.APPLIED
    assert apply(second, snapshot_of(second, status)) is Verdict.HELD


def test_two_registrations_without_a_reference_do_not_collide(
    corridor: Corridor,
) -> None:
    for payment in (corridor.payment(), corridor.payment()):
        claim = snapshot_of(
            payment, PaymentStatus.AWAITING_FUNDS, provider_reference=""
        )
        assert apply(payment, claim) is Verdict.APPLIED
        payment.refresh_from_db()
        assert payment.provider_reference is None


# A message inside a message -----------------------------------------------------------


def smuggled(path: str, body: str, query: str) -> Any:
    """A GET that carries the bytes of one message and the query of another."""
    return Client().generic("GET", path, body, content_type=FORM, QUERY_STRING=query)


def test_a_stored_message_does_not_vouch_for_the_one_that_carries_it(
    corridor: Corridor,
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment, "contradict")
    # The return is genuine, but the books say no: it is kept for later.
    corridor.send(messages.return_path, messages.return_body)
    assert WebhookDelivery.objects.get().verdict == Verdict.STORED
    before = money_rows()

    forged = with_fields(messages.return_body, rescode="X059", resmsg="Forged")
    smuggled(messages.return_path, messages.return_body, forged)
    smuggled(messages.status_path, messages.return_body, forged)

    assert money_rows() == before


def test_a_message_is_not_silenced_by_another_that_wears_its_bytes(
    corridor: Corridor,
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment, "contradict")
    smuggled(messages.status_path, messages.status_body, messages.return_body)
    answer = corridor.send(messages.status_path, messages.status_body)
    assert answer.content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.FAILED


def test_nobody_pays_with_a_card_token_they_made_up(corridor: Corridor) -> None:
    payment = corridor.payment(save_token=True, customer_id="mallory")
    messages = corridor.pay(payment, "approve", method="P101")
    corridor.fault("retrieve", "status", status=503)
    corridor.send(messages.return_path, messages.return_body)
    assert WebhookDelivery.objects.get().verdict == Verdict.STORED

    stolen = with_fields(messages.return_body, token_id="20260102030405000001")
    for _ in range(3):
        smuggled(messages.return_path, messages.return_body, stolen)

    tokens = [token.provider_token for token in Token.objects.all()]
    assert "20260102030405000001" not in tokens


# Amounts, currencies, accounts ---------------------------------------------------------


WRONG_FIELDS: dict[str, dict[str, str | None]] = {
    "one cent less": {"amount": "26.29"},
    "one cent more": {"amount": "26.31"},
    "a hundredfold": {"amount": "2630.00"},
    "a hundredth": {"amount": "0.26"},
    "without the point": {"amount": "2630"},
    "zero": {"amount": "0"},
    "zero cents": {"amount": "0.00"},
    "minus zero": {"amount": "-0"},
    "negative": {"amount": "-26.30"},
    "plus": {"amount": "+26.30"},
    "comma for a point": {"amount": "26,30"},
    "commas astray": {"amount": "2,6.30"},
    "not a number": {"amount": "NaN"},
    "signaling": {"amount": "sNaN"},
    "infinite": {"amount": "Infinity"},
    "exponent": {"amount": "2.63e1"},
    "huge exponent": {"amount": "1e1000000"},
    "underscore": {"amount": "2_6.30"},
    "full width": {"amount": "\uff12\uff16.\uff13\uff10"},
    "Arabic digits": {"amount": "\u0662\u0666.\u0663\u0660"},
    "blanks": {"amount": " 26.30 "},
    "more decimals": {"amount": "26.301"},
    "5,000 digits": {"amount": "9" * 5_000},
    "hexadecimal": {"amount": "0x1a"},
    "no amount": {"amount": None},
    "empty amount": {"amount": ""},
    "another currency": {"currency": "KRW"},
    "lower case currency": {"currency": "usd"},
    "padded currency": {"currency": "USD "},
    "full-width currency": {"currency": "\uff35\uff33\uff24"},
    "unknown currency": {"currency": "ZZZ"},
    "long currency": {"currency": "U" * 5_000},
    "no currency": {"currency": None},
    "another merchant": {"mid": "1849705C65"},
    "no merchant": {"mid": None},
    "another order": {"order_id": "a" * 24},
    "no order": {"order_id": None},
    "order in capitals": {"order_id": "A" * 24},
    "no result": {"rescode": None},
    "empty result": {"rescode": ""},
}


@pytest.mark.parametrize("changes", WRONG_FIELDS.values(), ids=WRONG_FIELDS)
@pytest.mark.parametrize("outcome", ["approve", "decline"])
def test_a_genuine_message_that_does_not_fit_is_held_or_refused(
    corridor: Corridor, outcome: str, changes: dict[str, str | None]
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment, outcome)
    claim: dict[str, str | None] = {
        "rescode": "0000",
        "status": "SALE",
        "transaction_id": FOREIGN_TRANSACTION,
        **changes,
    }
    body = corridor.signed(payment, **claim)

    answer = corridor.send(messages.status_path, body)
    assert answer.status_code in {200, *REFUSED}
    assert corridor.send(messages.return_path, body).status_code == 303

    assert_unpaid(payment)
    held = WebhookDelivery.objects.filter(verdict=Verdict.HELD).count()
    failed = payment.status == PaymentStatus.FAILED
    assert (answer.status_code == 200) == bool(held or failed)
    if held:
        assert payment.review_reason


def test_thousands_commas_of_the_right_amount_are_understood(
    corridor: Corridor,
) -> None:
    payment = corridor.payment("1234.50")
    messages = corridor.pay(payment)
    body = corridor.signed(payment, amount="1,234.50")
    assert corridor.send(messages.status_path, body).content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


def test_a_claim_of_money_that_the_books_deny_is_kept_and_never_believed(
    corridor: Corridor,
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment, "decline")
    body = corridor.signed(
        payment, rescode="0000", status="SALE", transaction_id=FOREIGN_TRANSACTION
    )
    answer = corridor.send(messages.status_path, body)
    assert answer.status_code == 503
    assert answer.content != ACCEPTED
    assert_unpaid(payment)
    assert WebhookDelivery.objects.get().verdict == Verdict.STORED


@pytest.mark.parametrize("field", ["account", "merchant_reference", "amount"])
@pytest.mark.parametrize(
    "status",
    [
        PaymentStatus.AWAITING_FUNDS,
        PaymentStatus.AUTHORIZED,
        PaymentStatus.PAID,
        PaymentStatus.REFUNDED,
    ],
)
def test_a_claim_of_success_that_leaves_out_what_we_compare_is_held(
    pending: Payment, status: PaymentStatus, field: str
) -> None:
    assert apply(pending, snapshot_of(pending, status, **{field: None})) is Verdict.HELD
    assert_unpaid(pending)
    assert pending.review_reason == ReviewReason.FIELD_MISSING


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"account": "1849705C65"}, ReviewReason.ACCOUNT_MISMATCH),
        ({"merchant_reference": "a" * 24}, ReviewReason.REFERENCE_MISMATCH),
        ({"amount": Money("26.31", "USD")}, ReviewReason.AMOUNT_MISMATCH),
        ({"amount": Money("26.30", "EUR")}, ReviewReason.CURRENCY_MISMATCH),
        ({"captured": Money("26.30", "EUR")}, ReviewReason.CURRENCY_MISMATCH),
        ({"provider_reference": ""}, ReviewReason.FIELD_MISSING),
    ],
)
def test_a_claim_that_differs_is_held_with_its_reason(
    pending: Payment, changes: dict[str, Any], reason: ReviewReason
) -> None:
    claim = snapshot_of(pending, PaymentStatus.PAID, **changes)
    assert apply(pending, claim) is Verdict.HELD
    assert_unpaid(pending)
    assert pending.review_reason == reason


# Failures never become payments ----------------------------------------------------------


@pytest.mark.parametrize("return_first", [True, False])
@pytest.mark.parametrize(
    ("outcome", "choices"),
    [
        ("decline", {}),
        ("decline", {"rescode": "X059"}),
        ("decline", {"rescode": "8327"}),
        ("decline", {"rescode": "DP00"}),
        ("decline", {"rescode": "0"}),
        ("decline", {"rescode": "00000"}),
        ("cancel", {}),
        ("contradict", {}),
    ],
)
def test_a_failure_is_never_paid_in_whichever_order_the_doors_hear_of_it(
    corridor: Corridor, outcome: str, choices: dict[str, str], return_first: bool
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment, outcome, **choices)
    steps = [
        (messages.return_path, messages.return_body),
        (messages.status_path, messages.status_body),
    ]
    with heard() as signals:
        for path, body in steps if return_first else reversed(steps):
            assert corridor.send(path, body).status_code in {200, 303}
        reconcile_later()
        assert_unpaid(payment)
        Payment.objects.update(sync_at=datetime(2020, 1, 1, tzinfo=UTC))
        reconcile_later()
    assert_unpaid(payment)
    assert payment.status == PaymentStatus.FAILED
    assert not WebhookDelivery.objects.filter(verdict=Verdict.STORED).exists()
    assert [name for name, *_ in signals].count("payment_failed") == 1
    assert "payment_paid" not in {name for name, *_ in signals}


def test_a_failure_after_the_money_is_shown_to_a_person_and_undoes_nothing(
    corridor: Corridor, pending: Payment, messages: Messages
) -> None:
    corridor.send(messages.status_path, messages.status_body)
    late = corridor.signed(pending, rescode="X059", transaction_id="")
    assert corridor.send(messages.status_path, late).content == ACCEPTED
    pending.refresh_from_db()
    assert pending.status == PaymentStatus.PAID
    assert pending.review_reason == ReviewReason.CONTRADICTION
    assert len(captures(pending)) == 1


# Hostile values ---------------------------------------------------------------------------


HOSTILE = {
    "SQL": "'; DROP TABLE multipay_payment; --",
    "SQL union": '" OR 1=1) UNION SELECT * FROM auth_user /*',
    "NUL": "a\x00b",
    "line breaks": "a\r\nSet-Cookie: sessionid=1",
    "markup": "<script>alert(1)</script>{{ 7*7 }}{% debug %}",
    "format": "%s%n{0.__class__}",
    "emoji and direction": "😀\u202e\ufffe",
    "60,000 characters": "x" * 60_000,
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_values_in_any_field_of_a_genuine_message_do_no_harm(
    corridor: Corridor,
    pending: Payment,
    messages: Messages,
    value: str,
    no_ration: None,
) -> None:
    for name in [*fields_of(messages.status_body), "status", "token_id", "errcode"]:
        if name == "fgkey":
            continue
        body = corridor.signed(pending, **{name: value})
        answer = corridor.send(messages.status_path, body)
        assert answer.status_code in {200, *REFUSED}, name
        assert "Set-Cookie" not in answer.headers
        assert corridor.send(messages.return_path, body).status_code == 303
    pending.refresh_from_db()
    assert pending.captured_minor in {0, 2630}
    assert len(captures(pending)) <= 1
    assert Payment.objects.count() == 1


@pytest.mark.parametrize(
    "value",
    ["%00", "%ED%A0%80", "%ED%BF%BF%FF", "%C0%80", "a" * 100_000, "%41" * 33_000],
    ids=["NUL", "surrogate", "surrogates", "overlong", "100 kB", "100 kB escaped"],
)
def test_hostile_bytes_in_any_field_of_a_forged_message_are_refused(
    corridor: Corridor, messages: Messages, value: str, no_ration: None
) -> None:
    before = everything()
    genuine = fields_of(messages.status_body)
    for name in genuine:
        body = "&".join(
            f"{key}={value if key == name else quote(text)}"
            for key, text in genuine.items()
        )
        assert corridor.send(messages.status_path, body).status_code in REFUSED
        assert corridor.send(messages.return_path, body).status_code == 303
    assert everything() == before


def test_a_date_that_no_calendar_has_does_not_stop_a_message(
    corridor: Corridor,
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment, "decline")
    body = corridor.signed(payment, transaction_date="00010101000000")
    assert corridor.send(messages.status_path, body).content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.FAILED


# What other providers may say -------------------------------------------------------------


def test_a_review_told_twice_in_one_snapshot_is_one_fact(pending: Payment) -> None:
    claim = snapshot_of(pending, PaymentStatus.IN_REVIEW, needs_review=True)
    assert apply(pending, claim) is Verdict.APPLIED
    assert pending.transactions.count() == 1


def test_a_reference_of_digits_that_looks_like_a_card_is_a_reference(
    pending: Payment,
) -> None:
    claim = snapshot_of(
        pending, PaymentStatus.PAID, provider_reference="4111111111111111"
    )
    assert apply(pending, claim) is Verdict.APPLIED


@pytest.mark.parametrize(
    "reference",
    [
        "T-1 ",
        " T-1",
        "T\x001",
        "T\ud800",
        "T\n",
        "T" * 101,
        "T+1",
        "\uff34-1",
        "é",
        "T 1",
    ],
)
def test_a_reference_that_databases_compare_differently_is_held(
    pending: Payment, reference: str
) -> None:
    good = snapshot_of(pending, PaymentStatus.PAID, provider_reference="T-1")
    assert apply(pending, good) is Verdict.APPLIED
    odd = snapshot_of(pending, PaymentStatus.PAID, provider_reference=reference)
    assert apply(pending, odd) is Verdict.HELD
    assert len(captures(pending)) == 1


def test_details_that_no_database_takes_are_stored_without_what_it_refuses(
    pending: Payment,
) -> None:
    claim = snapshot_of(
        pending, PaymentStatus.PAID, details={"bank": "a\x00b\ud800", "x": ["\x00"]}
    )
    assert apply(pending, claim) is Verdict.APPLIED
    pending.refresh_from_db()
    assert "\x00" not in str(pending.details)


@pytest.mark.parametrize("swap", [False, True])
def test_the_latest_failure_names_the_reason_whatever_its_time_zone(
    pending: Payment, swap: bool
) -> None:
    seoul = timezone(timedelta(hours=9))
    older = datetime(2026, 1, 1, 8, 30, tzinfo=seoul)  # 23:30 of the day before in UTC
    newer = datetime(2026, 1, 1, 9, 30, tzinfo=seoul)  # 00:30 in UTC
    claims = [
        snapshot_of(
            pending,
            PaymentStatus.FAILED,
            provider_reference=f"F-{code}",
            occurred_at=moment,
            decline=Decline(code=code),
        )
        for code, moment in (
            (DeclineCode.EXPIRED_CARD, older),
            (DeclineCode.INSUFFICIENT_FUNDS, newer),
        )
    ]
    for claim in reversed(claims) if swap else claims:
        apply(pending, claim)
    pending.refresh_from_db()
    assert pending.decline_code == DeclineCode.INSUFFICIENT_FUNDS


# Floods -------------------------------------------------------------------------------------


class Writes:
    """Counts statements that are not reads."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        if not sql.lstrip("( ").upper().startswith(("SELECT", "SAVEPOINT", "RELEASE")):
            self.statements.append(sql)
        return execute(sql, params, many, context)


def test_a_flood_of_forged_messages_writes_nothing_and_asks_within_the_ration(
    corridor: Corridor, messages: Messages, quiet: None
) -> None:
    client, before, writes = Client(), everything(), Writes()
    with connection.execute_wrapper(writes):
        for number in range(5_000):
            body = with_fields(messages.status_body, fgkey=f"{number:064X}")
            answer = client.post(messages.status_path, body, content_type=FORM)
            assert answer.status_code in {401, 503}
    assert writes.statements == []
    assert everything() == before
    # A minute may begin in the middle.
    assert 0 < corridor.calls()["verify"] <= 2 * webhooks.REMOTE_CHECKS_PER_MINUTE


def test_a_flood_that_names_another_order_each_time_shares_one_ration(
    corridor: Corridor, messages: Messages
) -> None:
    writes = Writes()
    with connection.execute_wrapper(writes):
        for number in range(500):
            body = with_fields(
                messages.status_body, order_id=f"x{number}", fgkey=f"{number:064X}"
            )
            assert corridor.send(WEBHOOK, body).status_code in {401, 503}
    assert writes.statements == []
    assert corridor.calls()["verify"] <= 2 * webhooks.REMOTE_CHECKS_PER_MINUTE


def test_a_flood_about_one_payment_does_not_silence_another(
    corridor: Corridor, messages: Messages
) -> None:
    other = corridor.payment()
    genuine = corridor.pay(other)
    for number in range(2 * webhooks.REMOTE_CHECKS_PER_MINUTE):
        for order_id in (None, f"x{number}"):
            forged = with_fields(messages.status_body, fgkey=f"{number:064X}")
            if order_id:
                corridor.send(WEBHOOK, with_fields(forged, order_id=order_id))
            else:
                corridor.send(messages.status_path, forged)
    assert corridor.send(genuine.status_path, genuine.status_body).content == ACCEPTED


def test_a_flood_of_names_does_not_silence_the_charges_of_a_plan(
    corridor: Corridor, pending: Payment, messages: Messages, quiet: None
) -> None:
    for number in range(2 * webhooks.REMOTE_CHECKS_PER_MINUTE):
        forged = with_fields(messages.status_body, order_id=f"x{number}")
        corridor.send(WEBHOOK, forged)
    # A charge has an order of its own, which we cannot know beforehand.
    charge = corridor.signed(pending, order_id="a" * 24)
    assert corridor.send(WEBHOOK, charge).status_code == 503
    assert corridor.send(messages.plan_path, charge).content == ACCEPTED
    assert WebhookDelivery.objects.get().verdict == Verdict.HELD
    assert_unpaid(pending)


def test_a_flood_of_one_genuine_message_that_waits_asks_within_the_ration(
    corridor: Corridor,
) -> None:
    payment = corridor.payment()
    messages = corridor.pay(payment, "contradict")
    for _ in range(300):
        corridor.send(messages.return_path, messages.return_body)
    assert WebhookDelivery.objects.count() == 1
    assert corridor.calls()["retrieve"] <= 2 * webhooks.REMOTE_CHECKS_PER_MINUTE


class BrokenCache:
    """A cache whose server is away."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionError("the cache is away")


def test_a_payment_is_settled_while_the_cache_is_away(
    corridor: Corridor,
    pending: Payment,
    messages: Messages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhooks, "cache", BrokenCache())
    answer = corridor.send(messages.status_path, messages.status_body)
    assert answer.content == ACCEPTED
    pending.refresh_from_db()
    assert pending.status == PaymentStatus.PAID


# The inbox ------------------------------------------------------------------------------------


def stored(payment: Payment, corridor: Corridor, count: int) -> list[WebhookDelivery]:
    """Genuine messages that were kept because the inquiry was away."""
    messages = corridor.pay(payment)
    for number in range(count):
        corridor.fault("retrieve", "status", status=503)
        body = corridor.signed(payment, param2=str(number))
        assert corridor.send(messages.status_path, body).status_code == 503
    return list(WebhookDelivery.objects.order_by("id"))


def test_a_late_worker_does_not_take_an_applied_message_back(
    corridor: Corridor, pending: Payment
) -> None:
    [slow] = stored(pending, corridor, 1)
    [fast] = WebhookDelivery.objects.all()
    assert replay_delivery(fast) is Verdict.APPLIED
    # The slow one had read the row before, and its inquiry was not answered.
    ledger.conclude_delivery(slow, Verdict.STORED, "the inquiry was away")
    ledger.conclude_delivery(slow, Verdict.IGNORED)
    row = WebhookDelivery.objects.get()
    assert row.verdict == Verdict.APPLIED
    assert row.payload is None


def test_a_message_stored_by_a_newer_version_is_applied(
    corridor: Corridor, pending: Payment
) -> None:
    [delivery] = stored(pending, corridor, 1)
    delivery.payload["a field of next year"] = True
    assert replay_delivery(delivery) is Verdict.APPLIED


def test_one_poisoned_message_does_not_stop_the_others(
    corridor: Corridor, pending: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned, *_ = stored(pending, corridor, 4)
    original = type(registry["eximbay"]).parse_webhook

    def parse(self: Any, incoming: Any) -> Any:
        if b"param2=0" in incoming.body:
            raise KeyError("a bug of ours")
        return original(self, incoming)

    monkeypatch.setattr(type(registry["eximbay"]), "parse_webhook", parse)
    reconcile_later()
    verdicts = set(
        WebhookDelivery.objects.exclude(pk=poisoned.pk).values_list(
            "verdict", flat=True
        )
    )
    assert verdicts <= {Verdict.APPLIED, Verdict.IGNORED}
    poisoned.refresh_from_db()
    assert poisoned.verdict == Verdict.HELD
    assert poisoned.payload is not None
    assert "KeyError" in poisoned.error
    pending.refresh_from_db()
    assert pending.status == PaymentStatus.PAID


def test_a_message_that_no_key_opens_does_not_stop_the_others(
    corridor: Corridor, settings: Settings
) -> None:
    first, second = corridor.payment(), corridor.payment()
    keys = {"ENCRYPTION_KEYS": ["the key of last year"]}
    settings.MULTIPAY = {**settings.MULTIPAY, **keys}
    stored(first, corridor, 1)
    settings.MULTIPAY = {**settings.MULTIPAY, "ENCRYPTION_KEYS": ["this year's"]}
    stored_second = corridor.pay(second)
    corridor.fault("retrieve", "status", status=503)
    corridor.send(stored_second.status_path, stored_second.status_body)
    report = reconcile_later()
    assert report.errors == 1
    second.refresh_from_db()
    assert second.status == PaymentStatus.PAID


def test_one_poisoned_payment_does_not_stop_the_inquiries(
    corridor: Corridor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = corridor.payment(), corridor.payment()
    corridor.pay(first), corridor.pay(second)
    Payment.objects.update(sync_at=datetime(2020, 1, 1, tzinfo=UTC))
    original = type(registry["eximbay"]).fetch_payment

    def fetch(self: Any, query: Any) -> Any:
        if query.merchant_reference == first.merchant_reference:
            raise KeyError("a bug of ours")
        return original(self, query)

    monkeypatch.setattr(type(registry["eximbay"]), "fetch_payment", fetch)
    assert reconcile_later().errors == 1
    second.refresh_from_db()
    assert second.status == PaymentStatus.PAID


# Fuzz ------------------------------------------------------------------------------------------


METHODS = ["POST"] * 12 + ["GET"] * 4 + ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"]
TYPES = [FORM] * 6 + [
    "application/json",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "text/plain; charset=utf-16",
    "application/x-www-form-urlencoded; charset=\udcff".encode(
        "ascii", "replace"
    ).decode(),
    "",
]
HEADERS: list[dict[str, str]] = [{}] * 8 + [
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "deflate, gzip"},
    {"Content-Length": "-1"},
    {"Content-Length": "1e3"},
    {"Content-Length": "99999999999"},
    {"Cookie": "sessionid=x; csrftoken=y; messages=z"},
    {"Origin": "https://evil.example", "Referer": "https://evil.example/"},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "evil.example"},
    {"Accept": "*/*;q=x", "Range": "bytes=0-"},
]
BYTES = [b"\x00", b"%00", b"&", b"=", b"%", b"+", b";", b"\xff", b"%ED%A0%80", b"[]"]


def mutate(chance: random.Random, body: bytes) -> bytes:
    """One to four small changes anywhere in ``body``."""
    for _ in range(chance.randint(1, 4)):
        spot = chance.randrange(len(body) + 1) if body else 0
        end = min(len(body), spot + chance.choice([1, 1, 2, 8, 64]))
        match chance.randrange(7):
            case 0:
                body = body[:spot] + body[end:]
            case 1:
                body = body[:spot] + chance.choice(BYTES) + body[spot:]
            case 2:
                body = body[:spot] + bytes([chance.randrange(256)]) + body[spot + 1 :]
            case 3:
                body = body[:spot] + body[spot:end] * 2 + body[end:]
            case 4:
                pairs = body.split(b"&")
                chance.shuffle(pairs)
                body = b"&".join(pairs[: chance.randint(1, len(pairs))])
            case 5:
                pairs = body.split(b"&")
                name, _, _ = chance.choice(pairs).partition(b"=")
                value = chance.choice([b"", b"0000", b"1", b"%s", b"SALE", b"9" * 99])
                body = b"&".join([*pairs, name + b"=" + value])
            case _:
                body = body[:spot]
    return body


def test_five_thousand_mutated_requests_change_nothing_and_crash_nothing(
    corridor: Corridor,
    pending: Payment,
    messages: Messages,
    no_ration: None,
    quiet: None,
) -> None:
    chance = random.Random(20261121)
    client = Client(raise_request_exception=True)
    genuine = messages.status_body.encode()
    known = frozenset(fields_of(messages.status_body).items())
    plan = corridor.path(pending, Purpose.PLAN)
    paths = [messages.status_path] * 4 + [messages.return_path] * 2 + [WEBHOOK, plan]
    before, sent = everything(), 0
    while sent < 5_000:
        body = mutate(chance, genuine)
        text = body.decode("utf-8", "replace")
        # Another order of the same fields is the same message, and genuine.
        if frozenset(fields_of(text).items()) == known:
            continue
        sent += 1
        path, method = chance.choice(paths), chance.choice(METHODS)
        if method != "POST" and chance.random() < 0.7:
            path, body = f"{path}?{quote(body, safe='&=%+')}", b""
        answer = client.generic(
            method,
            path,
            b"" if method == "TRACE" else body,
            content_type=chance.choice(TYPES),
            headers=chance.choice(HEADERS),
        )
        assert answer.status_code < 500, (method, path, body)
        assert answer.status_code != 200 or method == "OPTIONS", (method, path, body)
    assert everything() == before


def test_the_genuine_message_still_pays_after_all_that(
    corridor: Corridor, pending: Payment, messages: Messages
) -> None:
    for number in range(webhooks.REMOTE_CHECKS_PER_MINUTE * 2):
        body = with_fields(messages.status_body, fgkey=f"{number:064X}")
        corridor.send(messages.status_path, body)
    # The ration of this minute is used up: the provider is told to come again.
    assert corridor.send(messages.status_path, messages.status_body).status_code == 503
    cache.clear()  # The next minute.
    assert corridor.send(messages.status_path, messages.status_body).content == ACCEPTED
    pending.refresh_from_db()
    assert pending.status == PaymentStatus.PAID
    assert pending.captured == Money(Decimal("26.30"), "USD")
