"""What staff do to a payment: who may, what is sent, and that it is sent once."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core import signing
from django.test import Client
from django.urls import reverse
from moneyed import Money
from pytest_django import Settings

from django_multipay.admin.payments import STEPS, TICKET_SALT
from django_multipay.enums import (
    CaptureMode,
    DeclineCode,
    OperationState,
    PaymentStatus,
    RefundStatus,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    OutcomeUnknown,
    ProviderUnavailable,
    RequestRejected,
)
from django_multipay.flows import receive_webhook, refund_payment
from django_multipay.messages import Decline, RefundSnapshot
from django_multipay.models import Operation, Payment, Refund, WebhookDelivery
from django_multipay.registry import registry
from tests.corridor import everything
from tests.flows.scripted import ACCOUNT, message, new_payment, snapshot_of

AUTHENTICATED, PAID = PaymentStatus.AUTHENTICATED, PaymentStatus.PAID
KINDS = ["confirm", "capture", "void", "settle", "refund"]
CALLS = {
    "confirm": "confirm_payment",
    "capture": "capture_payment",
    "void": "void_payment",
    "settle": "settle_payment",
    "refund": "refund_payment",
}
NEEDED = {
    "confirm": "capture_payment",
    "capture": "capture_payment",
    "settle": "capture_payment",
    "void": "void_payment",
    "refund": "refund_payment",
}
SOLE = [
    "refund_payment",
    "capture_payment",
    "void_payment",
    "replay_delivery",
    "view_buyer_data",
    "change_payment",
]


def usd(amount: str) -> Money:
    return Money(amount, "USD")


def texts(response: Any) -> str:
    """What the admin told the person after their act."""
    return " ".join(str(item) for item in response.context["messages"])


def moved(provider: Any) -> list[str]:
    """The calls that changed something at the provider."""
    return [verb for verb, _ in provider.calls if verb not in {"start", "fetch"}]


def rows() -> Any:
    return everything() | {
        "Refund": [*Refund.objects.order_by("pk").values()],
        "LogEntry": [*LogEntry.objects.order_by("pk").values()],
    }


@pytest.fixture
def ready(payment_that_is, paid, authorized):
    """A payment at which the step of this kind is possible."""

    def make(kind: str) -> Payment:
        if kind == "confirm":
            return payment_that_is(AUTHENTICATED)
        if kind in {"capture", "void"}:
            return authorized()
        return paid()

    return make


@pytest.fixture
def two_must_agree(settings: Settings, accounts: None) -> None:
    """More than 50.00 USD of a payment needs a second person; before any provider."""
    settings.MULTIPAY |= {"REFUND_APPROVAL_ABOVE": {"USD": "50"}}


@pytest.fixture
def held(payment_that_is):
    """A payment with a message that was not applied: it names another amount."""
    payment = payment_that_is(PaymentStatus.PENDING)
    receive_webhook("scripted", message(payment, PAID, amount="1.00"))
    payment.refresh_from_db()
    return payment, WebhookDelivery.objects.get()


# Who may ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("permission", ["", *SOLE])
def test_a_step_needs_its_own_permission_and_the_right_to_see(
    desk, ready, provider, kind, permission
):
    payment = ready(kind)
    may = permission == NEEDED[kind]
    seeing = desk("sees", "view_payment", *([permission] if permission else []))
    page = seeing.page(payment)
    assert page.status_code == 200
    button = reverse("admin:multipay_payment_step", args=[payment.pk, kind])
    assert (button in page.content.decode()) == may
    assert seeing.form(payment, kind).status_code == (200 if may else 403)
    before = rows()
    forged = {"confirmed": "1", "ticket": "made up", "amount": "100.00"}
    assert seeing.post(payment, kind, forged).status_code == (409 if may else 403)
    assert rows() == before
    if permission != "change_payment":  # which includes the right to see
        blind = desk("blind", *([permission] if permission else []))
        assert blind.page(payment).status_code == 403
        assert blind.form(payment, kind).status_code == 403
        assert blind.post(payment, kind, forged).status_code == 403
    assert moved(provider) == []


@pytest.mark.parametrize("permission", ["", *SOLE])
def test_checking_and_reviewing_need_the_right_to_change(
    desk, held, provider, permission
):
    payment, _delivery = held
    person = desk("sees", "view_payment", *([permission] if permission else []))
    may = permission == "change_payment"
    page = person.page(payment).content.decode()
    for act in ("check", "release"):
        url = reverse(f"admin:multipay_payment_{act}", args=[payment.pk])
        assert (url in page) == may
        assert person.client.get(url).status_code == 405
        asked = len(provider.told("fetch"))
        answer = person.act(payment, act, reason=payment.review_reason)
        assert answer.status_code == (200 if may else 403)
        assert may or len(provider.told("fetch")) == asked
    payment.refresh_from_db()
    assert (payment.review_reason == "") == may


@pytest.mark.parametrize("permission", ["", *SOLE])
@pytest.mark.parametrize("act", ["approve", "abandon"])
def test_deciding_about_a_refund_needs_the_right_to_refund(
    two_must_agree, desk, paid, provider, permission, act
):
    payment = paid()
    refund_payment(payment, by="carl")
    person = desk("sees", "view_payment", *([permission] if permission else []))
    url = reverse(
        "admin:multipay_payment_operation",
        args=[payment.pk, payment.operations.latest("pk").pk, act],
    )
    may = permission == "refund_payment"
    assert (url in person.page(payment).content.decode()) == may
    assert person.client.get(url).status_code == 405
    assert person.decide(payment, act).status_code == (200 if may else 403)
    state = payment.operations.latest("pk").state
    assert (state != OperationState.REQUESTED) == may
    assert moved(provider) == (["refund"] if may and act == "approve" else [])


def test_strangers_and_buyers_are_sent_to_the_login(paid, django_user_model):
    payment = paid()
    buyer = Client()
    buyer.force_login(django_user_model.objects.create_user("buyer"))
    for client in (Client(), buyer):
        for kind in KINDS:
            url = reverse("admin:multipay_payment_step", args=[payment.pk, kind])
            for answer in (client.get(url), client.post(url, {"confirmed": "1"})):
                assert answer.status_code == 302
                assert "/login/" in answer["Location"]


def test_looking_never_acts(ann, held, authorized, provider):
    payment, delivery = held
    other = authorized()
    query = {"confirmed": "1", "preview": "1", "amount": "1.00", "reason": "x"}
    ann.page(payment)  # the session and its messages are warm
    before = rows()
    operation = other.operations.latest("pk").pk
    urls = [
        reverse("admin:multipay_payment_changelist"),
        *(
            reverse("admin:multipay_payment_step", args=[other.pk, kind])
            for kind in KINDS
        ),
        reverse("admin:multipay_payment_change", args=[payment.pk]),
        reverse("admin:multipay_payment_history", args=[payment.pk]),
        reverse("admin:multipay_payment_check", args=[payment.pk]),
        reverse("admin:multipay_payment_release", args=[payment.pk]),
        reverse(
            "admin:multipay_payment_operation", args=[other.pk, operation, "abandon"]
        ),
        reverse("admin:multipay_webhookdelivery_change", args=[delivery.pk]),
        reverse("admin:multipay_webhookdelivery_replay", args=[delivery.pk]),
    ]
    for url in urls:
        assert ann.client.get(url, query).status_code in {200, 302, 400, 405}, url
        assert ann.client.head(url, query).status_code in {200, 302, 400, 405}, url
    assert rows() == before
    assert moved(provider) == []


def test_nothing_is_done_without_the_token_against_forgery(held, authorized, desk):
    payment, delivery = held
    other = authorized()
    everything_allowed = ["view_payment", "view_webhookdelivery", *SOLE]
    victim = desk("victim", *everything_allowed, enforce_csrf_checks=True)
    before = rows()
    operation = other.operations.latest("pk").pk
    for name, args in [
        *(("payment_step", [other.pk, kind]) for kind in KINDS),
        ("payment_check", [payment.pk]),
        ("payment_release", [payment.pk]),
        ("payment_operation", [other.pk, operation, "abandon"]),
        ("webhookdelivery_replay", [delivery.pk]),
    ]:
        url = reverse(f"admin:multipay_{name}", args=args)
        assert victim.client.post(url, {"confirmed": "1"}).status_code == 403, url
    assert rows() == before


@pytest.mark.parametrize("kind", ["checkout", "charge", "delete_token", "nonsense"])
def test_only_the_five_steps_have_a_page(ann, paid, kind):
    payment = paid()
    assert ann.form(payment, kind).status_code == 404
    assert ann.post(payment, kind, {"confirmed": "1"}).status_code == 404
    assert set(STEPS) == set(KINDS)


def test_a_call_of_another_payment_cannot_be_decided_about(two_must_agree, ann, paid):
    first, second = paid(), paid()
    refund_payment(first, by="carl")
    operation = first.operations.latest("pk")
    for act in ("approve", "abandon", "explode"):
        args = [second.pk, operation.pk, act]
        url = reverse("admin:multipay_payment_operation", args=args)
        assert ann.client.post(url).status_code == 404
    operation.refresh_from_db()
    assert operation.state == OperationState.REQUESTED


def test_only_a_refund_can_be_approved(ann, authorized, provider):
    provider.will("capture", ProviderUnavailable("away", "scripted", "capture"))
    payment = authorized()
    ann.confirm(payment, "capture")
    assert ann.decide(payment, "approve").status_code == 404
    assert payment.operations.latest("pk").state == OperationState.REQUESTED


def test_the_start_of_a_checkout_is_nobodys_to_decide(ann, payment_that_is):
    payment = payment_that_is(PaymentStatus.PENDING)
    for act in ("approve", "abandon"):
        assert ann.decide(payment, act).status_code in {403, 404}


# What is sent -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_shown_first_then_confirmed_and_remembered(
    ann, ready, provider, logged, kind
):
    payment = ready(kind)
    shown = ann.preview(
        payment, kind, **({"amount": "30.00"} if kind == "refund" else {})
    )
    assert shown.status_code == 200
    assert "This will be sent" in shown.content.decode()
    assert moved(provider) == []
    after = ann.press(payment, kind, ann.unseen(shown))
    assert after.status_code == 200
    assert moved(provider) == [kind]
    (entry,) = logged(payment)
    assert entry.startswith(f"ann: {STEPS[kind].verb}")
    operation = payment.operations.latest("pk")
    assert (operation.kind, operation.actor) == (kind, "ann")
    assert operation.state == OperationState.SUCCEEDED
    told = [entry for entry in ann.page(payment).context["entries"] if entry.actor]
    assert {entry.actor for entry in told} == {"ann"}


def test_the_form_is_filled_with_what_is_left(ann, paid):
    payment = paid()
    refund_payment(payment, usd("30.00"))
    form = ann.form(payment, "refund").content.decode()
    assert 'value="70.00"' in form
    assert "At most $70.00." in form


def test_a_refund_sends_what_was_previewed(ann, paid, provider):
    payment = paid()
    shown = ann.preview(payment, "refund", amount="12.5", reason="one cup broken")
    text = shown.content.decode()
    for word in ("$12.50", "one cup broken", "1001", "Scripted (scripted)"):
        assert word in text
    ann.press(payment, "refund", ann.unseen(shown))
    (sent,) = provider.told("refund")
    assert (sent.amount, sent.reason) == (usd("12.50"), "one cup broken")
    refund = payment.refunds.get()
    assert (refund.requested_by, refund.reason) == ("ann", "one cup broken")


def test_a_capture_may_take_a_part(ann, authorized, provider):
    payment = authorized()
    ann.confirm(payment, "capture", amount="40.00")
    (sent,) = provider.told("capture")
    assert sent.amount == usd("40.00")


@pytest.mark.parametrize(
    ("fields", "captures"), [({}, True), ({"capture": None}, False)]
)
def test_a_confirmation_charges_or_reserves(
    ann, payment_that_is, provider, fields, captures
):
    payment = payment_that_is(AUTHENTICATED)
    shown = ann.preview(payment, "confirm", **fields)
    assert ("yes" if captures else "no") in shown.content.decode()
    ann.press(payment, "confirm", ann.unseen(shown))
    assert [sent.capture for sent in provider.told("confirm")] == [captures]


def test_a_bank_refund_asks_for_the_account_and_keeps_it_secret(ann, paid, bank):
    payment = paid(alias="bank")
    assert 'name="account_number"' in ann.form(payment, "refund").content.decode()
    incomplete = ann.preview(payment, "refund", amount="5.00", account_holder="Kim")
    assert set(incomplete.context["form"].errors) == {
        "account_bank_code",
        "account_number",
    }
    account = {
        "account_holder": "Kim Minji",
        "account_bank_code": "088",
        "account_number": "110-123-456789",
    }
    bank.will("refund", RefundSnapshot(status=RefundStatus.PENDING))
    after = ann.confirm(payment, "refund", amount="5.00", **account)
    (sent,) = bank.told("refund")
    assert (sent.account.holder, sent.account.number) == ("Kim Minji", "110-123-456789")
    refund = reverse("admin:multipay_refund_change", args=[payment.refunds.get().pk])
    for page in (after, ann.client.get(refund), ann.client.get(refund + "../")):
        assert "110-123-456789" not in page.content.decode()
    assert "110-123" not in str([*LogEntry.objects.values()])


@pytest.fixture
def bank():
    return registry["bank"]


def test_no_account_is_asked_for_where_none_is_needed(ann, paid):
    assert "account_number" not in ann.form(paid(), "refund").content.decode()


def test_a_provider_that_knows_only_whole_amounts_gets_one(ann, paid):
    payment = paid(alias="wholesale")
    form = ann.form(payment, "refund").content.decode()
    assert "disabled" in form
    assert "only do all of it" in form
    ann.confirm(payment, "refund", amount="1.00")
    (sent,) = registry["wholesale"].told("refund")
    assert sent.amount == usd("100.00")


@pytest.mark.parametrize(
    ("amount", "remedy"),
    [
        ("0", "above zero"),
        ("0.00", "above zero"),
        ("-1", "above zero"),
        ("-0", "such as '26.30'"),
        ("100.01", "Only $100.00 is left"),
        ("9999999999999999", "amount"),
        ("1.005", "more decimals than USD allows (2)"),
        ("1e2", "such as '26.30'"),
        ("\uff11\uff10", "such as '26.30'"),
        ("NaN", "such as '26.30'"),
        ("Infinity", "such as '26.30'"),
        ("5,00", "such as '26.30'"),
        ("1_0", "such as '26.30'"),
        ("+5", "such as '26.30'"),
        ("$5", "such as '26.30'"),
        ("5 0", "such as '26.30'"),
        ("0x10", "such as '26.30'"),
        ("", "required"),
        ("   ", "required"),
        ("5" * 25, "at most 24 characters"),
        ("5\x000", "Null characters are not allowed"),
    ],
)
def test_a_wrong_amount_is_told_at_its_field_and_nothing_is_sent(
    ann, paid, provider, amount, remedy
):
    payment = paid()
    before = rows()
    answer = ann.preview(payment, "refund", amount=amount)
    assert answer.status_code == 200
    assert remedy in str(answer.context["form"].errors["amount"].as_data())
    assert "This will be sent" not in answer.content.decode()
    fields = {"ticket": ann.unseen(answer)["ticket"], "amount": amount}
    assert ann.press(payment, "refund", fields).status_code == 409
    assert (rows(), moved(provider)) == (before, [])


def test_a_blank_around_an_amount_is_a_slip_of_pasting(ann, paid, provider):
    payment = paid()
    ann.confirm(payment, "refund", amount=" 5 ")
    assert [sent.amount for sent in provider.told("refund")] == [usd("5.00")]


def test_a_reason_that_is_too_long_is_told(ann, paid, provider):
    answer = ann.preview(paid(), "refund", amount="1.00", reason="x" * 256)
    assert set(answer.context["form"].errors) == {"reason"}
    assert moved(provider) == []


def test_currencies_without_decimals_take_none(ann, payment_that_is, provider):
    payment = payment_that_is(PAID, alias="scripted")
    Payment.objects.filter(pk=payment.pk).update(currency="KRW")
    answer = ann.preview(payment, "refund", amount="10.5")
    assert "KRW allows (0)" in str(answer.context["form"].errors["amount"].as_data())
    assert 'value="10000"' in ann.form(payment, "refund").content.decode()


# Sent once ------------------------------------------------------------------------------


def test_the_same_confirmation_twice_is_one_refund(ann, paid, provider, logged):
    payment = paid()
    fields = ann.unseen(ann.preview(payment, "refund", amount="30.00"))
    first = ann.press(payment, "refund", fields)
    second = ann.press(payment, "refund", fields)
    assert "Refund of $30.00: succeeded" in texts(first)
    assert "nothing was sent twice" in texts(second)
    assert len(provider.told("refund")) == payment.refunds.count() == 1
    assert len(logged(payment)) == 1


def test_a_second_press_while_the_first_is_under_way_sends_nothing(
    ann, paid, provider, logged
):
    payment = paid()
    fields = ann.unseen(ann.preview(payment, "refund", amount="30.00"))
    said: list[str] = []

    def press_again() -> RefundSnapshot:
        said.append(texts(ann.press(payment, "refund", fields)))
        return RefundSnapshot(status=RefundStatus.SUCCEEDED, provider_reference="R-1")

    provider.will("refund", press_again)
    ann.press(payment, "refund", fields)
    assert len(provider.told("refund")) == payment.refunds.count() == 1
    assert "nothing was sent twice" in said[0]
    assert "second person" not in said[0]
    assert len(logged(payment)) == 1


def test_going_back_to_an_old_form_makes_no_second_refund(ann, paid, provider):
    payment = paid()
    shown = ann.preview(payment, "refund", amount="30.00")
    ann.press(payment, "refund", ann.unseen(shown))
    ticket = ann.unseen(shown)["ticket"]
    # The browser shows the form as it was, with its ticket; the person presses on.
    fields = {"ticket": ticket, "amount": "30.00", "preview": "1"}
    again = ann.post(payment, "refund", fields)
    ann.press(payment, "refund", ann.unseen(again))
    assert len(provider.told("refund")) == 1
    # With another amount it is another wish, which needs another look.
    other = ann.press(payment, "refund", {"ticket": ticket, "amount": "20.00"})
    assert other.status_code == 409
    assert "sent before, with something else" in other.content.decode()
    assert ann.unseen(other)["ticket"] != ticket
    assert len(provider.told("refund")) == 1


@pytest.mark.parametrize("second", ["ann", "bob"])
def test_of_two_who_look_at_the_same_money_the_second_must_look_again(
    ann, bob, paid, provider, second
):
    payment = paid()
    tabs = {"ann": ann, "bob": bob}
    mine = ann.unseen(ann.preview(payment, "refund", amount="30.00"))
    theirs = tabs[second].unseen(
        tabs[second].preview(payment, "refund", amount="30.00")
    )
    ann.press(payment, "refund", mine)
    answer = tabs[second].press(payment, "refund", theirs)
    assert answer.status_code == 409
    text = answer.content.decode()
    assert "The payment has changed meanwhile: $70.00 is left." in text
    assert 'value="70.00"' in text
    assert len(provider.told("refund")) == 1
    # Having looked, they may still mean it.
    tabs[second].confirm(payment, "refund", amount="30.00")
    assert len(provider.told("refund")) == 2


def test_of_two_who_refund_all_the_second_is_told_that_nothing_is_left(
    ann, bob, paid, provider
):
    payment = paid()
    mine = ann.unseen(ann.preview(payment, "refund"))
    theirs = bob.unseen(bob.preview(payment, "refund"))
    ann.press(payment, "refund", mine)
    assert "nothing is left to refund" in texts(bob.press(payment, "refund", theirs))
    assert len(provider.told("refund")) == 1


@pytest.mark.parametrize("kind", ["capture", "void", "confirm", "settle"])
def test_of_two_who_do_the_same_step_one_does_it(ann, bob, ready, provider, kind):
    payment = ready(kind)
    mine = ann.unseen(ann.preview(payment, kind))
    theirs = bob.unseen(bob.preview(payment, kind))
    ann.press(payment, kind, mine)
    answer = bob.press(payment, kind, theirs)
    assert moved(provider) == [kind]
    assert "nothing is left" in texts(answer)


def test_a_capture_and_a_void_at_once_are_one_of_them(ann, bob, authorized, provider):
    payment = authorized()
    mine = ann.unseen(ann.preview(payment, "capture"))
    theirs = bob.unseen(bob.preview(payment, "void"))
    provider.will("capture", OutcomeUnknown("lost", "scripted", "capture"))
    ann.press(payment, "capture", mine)
    answer = bob.press(payment, "void", theirs)
    assert moved(provider) == ["capture"]
    assert "a capture is under way" in texts(answer)


def test_a_ticket_is_good_for_one_payment_one_step_and_one_person(
    ann, bob, paid, authorized, provider
):
    first, second = paid(), paid(order_id="1002")
    ticket = ann.unseen(ann.preview(first, "refund", amount="5.00"))["ticket"]
    other = authorized(order_id="1003")
    for person, payment, kind in [
        (ann, second, "refund"),
        (ann, first, "settle"),
        (ann, other, "capture"),
        (bob, first, "refund"),
    ]:
        fields = {"ticket": ticket, "amount": "5.00"}
        answer = person.press(payment, kind, fields)
        assert answer.status_code == 409
        assert "too old" in answer.content.decode()
    assert moved(provider) == []


@pytest.mark.parametrize(
    "ticket",
    [
        "",
        "nonsense",
        "a:b:c",
        signing.dumps(["x", "y", 1], salt="another salt"),
        signing.dumps(["x", "y", 1], key="another key", salt=TICKET_SALT),
    ],
)
def test_a_forged_ticket_is_worth_nothing(ann, paid, provider, ticket):
    answer = ann.press(paid(), "refund", {"ticket": ticket, "amount": "5.00"})
    assert answer.status_code == 409
    assert moved(provider) == []


def test_an_old_ticket_asks_to_look_again(ann, paid, provider, monkeypatch):
    payment = paid()
    fields = ann.unseen(ann.preview(payment, "refund", amount="5.00"))
    monkeypatch.setattr("django_multipay.admin.payments.TICKET_AGE", -1)
    answer = ann.press(payment, "refund", fields)
    assert answer.status_code == 409
    assert moved(provider) == []


# How it ended ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (OutcomeUnknown("lost", "scripted", "refund"), "unknown, being checked"),
        (ProviderUnavailable("away", "scripted", "refund"), "Nothing happened yet"),
        (RequestRejected("too late", "scripted", "refund", "E7"), "too late (code E7)"),
        (CredentialsRejected("bad key", "scripted", "refund"), "bad key"),
    ],
)
def test_a_failure_is_told_in_words_and_logged(
    ann, paid, provider, logged, problem, said
):
    provider.will("refund", problem)
    payment = paid()
    answer = ann.confirm(payment, "refund", amount="5.00")
    assert said in texts(answer)
    (entry,) = logged(payment)
    assert entry.startswith("ann: Refund: ")
    assert len(provider.told("refund")) == 1


def test_a_refusal_is_told_with_the_providers_words(ann, paid, provider):
    decline = Decline(code=DeclineCode.GENERIC, message="Already settled")
    provider.will("refund", RefundSnapshot(status=RefundStatus.FAILED, decline=decline))
    answer = ann.confirm(paid(), "refund", amount="5.00")
    assert "The provider refused: Already settled" in texts(answer)


@pytest.mark.parametrize("kind", ["capture", "void", "settle"])
def test_a_refused_step_is_told_with_the_providers_words(ann, ready, provider, kind):
    payment = ready(kind)
    decline = Decline(code=DeclineCode.GENERIC, message="Not today")
    refused = snapshot_of(payment, PaymentStatus.FAILED, decline=decline)
    provider.will(kind, refused)
    assert "The provider refused: Not today" in texts(ann.confirm(payment, kind))


def test_an_unknown_outcome_heals_by_checking(ann, paid, logged):
    provider: Any = registry["tracing"]
    payment = paid(alias="tracing")
    provider.will("refund", OutcomeUnknown("lost", "tracing", "refund"))
    ann.confirm(payment, "refund", amount="30.00")
    page = ann.page(payment).content.decode()
    assert "unknown, being checked" in page
    done = RefundSnapshot(status=RefundStatus.SUCCEEDED, provider_reference="R-1")
    provider.will("fetch_refund", done)
    paid_snapshot = snapshot_of(payment, PAID)
    provider.will("fetch", paid_snapshot)
    after = ann.act(payment, "check")
    assert "partially refunded" in texts(after)
    assert payment.refunds.get().status == RefundStatus.SUCCEEDED
    assert len(provider.told("refund")) == 1
    assert "Not finished" not in after.content.decode()
    assert logged(payment)[-1] == "ann: Checked with provider: partially_refunded"


def test_a_refund_that_turns_out_to_have_failed_is_news(ann, paid):
    provider: Any = registry["tracing"]
    payment = paid(alias="tracing")
    provider.will("refund", RefundSnapshot(status=RefundStatus.PENDING))
    ann.confirm(payment, "refund", amount="30.00")
    Refund.objects.update(sync_at="2020-01-01T00:00:00Z")
    provider.will("fetch_refund", RefundSnapshot(status=RefundStatus.FAILED))
    assert "nothing new" not in texts(ann.act(payment, "check"))


def test_checking_leaves_its_trace_with_the_person(ann, bob, paid, provider, logged):
    payment = paid()
    provider.will("fetch", snapshot_of(payment, PAID))
    assert "nothing new" in texts(ann.act(payment, "check"))
    provider.will("fetch", ProviderUnavailable("away", "scripted", "fetch"))
    assert "away" in texts(bob.act(payment, "check"))
    assert [entry.split(":")[0] for entry in logged(payment)] == ["ann", "bob"]
    acts = [
        (entry.actor, entry.note)
        for entry in ann.page(payment).context["entries"]
        if entry.title == "The provider was asked"
    ]
    assert acts == [("bob", "scripted fetch: away"), ("ann", "paid")]


def test_what_waits_for_the_provider_is_sent_by_checking(ann, paid, provider):
    payment = paid()
    provider.will("refund", ProviderUnavailable("away", "scripted", "refund"))
    ann.confirm(payment, "refund", amount="30.00")
    provider.will("fetch", snapshot_of(payment, PAID))
    ann.act(payment, "check")
    assert payment.refunds.get().status == RefundStatus.SUCCEEDED


def test_asking_again_for_what_was_never_sent_sends_it(
    ann, bob, authorized, provider, logged
):
    payment = authorized()
    provider.will("capture", ProviderUnavailable("away", "scripted", "capture"))
    ann.confirm(payment, "capture")
    assert "Capture: succeeded" in texts(bob.confirm(payment, "capture"))
    assert [entry.split(":")[0] for entry in logged(payment)] == ["ann", "bob"]
    assert payment.operations.filter(kind="capture").count() == 1


def test_what_did_not_happen_can_be_dropped(ann, bob, paid, provider, logged):
    payment = paid()
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    ann.confirm(payment, "refund", amount="100.00")
    assert "nothing is left" in texts(ann.form_after(payment))
    answer = bob.decide(payment, "abandon")
    assert "free again" in texts(answer)
    assert logged(payment)[-1] == "bob: Refund: dropped"
    assert "abandoned by bob" in answer.content.decode()
    assert "over, or under way" in texts(bob.decide(payment, "abandon"))
    ann.confirm(payment, "refund", amount="100.00")
    assert len(provider.told("refund")) == 2


# A second person -------------------------------------------------------------------------


def test_above_the_threshold_a_second_person_must_agree(
    two_must_agree, ann, bob, paid, provider, logged
):
    payment = paid()
    ann.confirm(payment, "refund", amount="50.00")
    assert len(provider.told("refund")) == 1
    answer = ann.confirm(payment, "refund", amount="0.01")
    assert "waits for a second person" in texts(answer)
    assert "Another person must approve it." in answer.content.decode()
    assert "another one must agree" in texts(ann.decide(payment, "approve"))
    ann.act(payment, "check")
    assert len(provider.told("refund")) == 1
    assert "Approve and send" in bob.page(payment).content.decode()
    assert "succeeded" in texts(bob.decide(payment, "approve"))
    assert len(provider.told("refund")) == 2
    assert "approved by bob" in bob.page(payment).content.decode()
    assert [entry.split(":")[0] for entry in logged(payment)][-1] == "bob"
    assert "another one must agree" in texts(bob.decide(payment, "approve"))
    assert len(provider.told("refund")) == 2


def test_what_waits_for_approval_can_be_dropped(two_must_agree, ann, paid, provider):
    payment = paid()
    ann.confirm(payment, "refund")
    ann.decide(payment, "abandon")
    assert payment.refunds.get().status == RefundStatus.FAILED
    assert moved(provider) == []


def test_an_approval_whose_answer_is_lost_is_unknown(
    two_must_agree, ann, bob, paid, provider
):
    payment = paid()
    ann.confirm(payment, "refund")
    provider.will("refund", OutcomeUnknown("lost", "scripted", "refund"))
    assert "unknown, being checked" in texts(bob.decide(payment, "approve"))
    assert "another one must agree" in texts(bob.decide(payment, "approve"))
    assert len(provider.told("refund")) == 1


# A person's review ----------------------------------------------------------------------


def test_a_review_passes_with_a_note(ann, held, logged):
    payment, _delivery = held
    page = ann.page(payment).content.decode()
    assert "the amount differs from ours" in page
    assert "was not applied" in page
    reason = payment.review_reason
    ann.act(payment, "release", reason=reason, note="asked them by phone")
    payment.refresh_from_db()
    assert payment.review_reason == ""
    assert "asked them by phone" in logged(payment)[0]
    after = ann.page(payment)
    assert "A person should look" not in after.content.decode()
    assert any(entry.actor.startswith("ann") for entry in after.context["entries"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"note": "x" * 151}, "Note: "),
        ({"note": "a\x00b"}, "Note: "),
        ({"reason": ""}, "Reason: "),
        ({"reason": "made_up"}, "Reason: "),
        ({"reason": "overpaid"}, "is not held for review"),
    ],
)
def test_a_review_that_was_not_understood_lets_nothing_pass(
    ann, held, fields, said, logged
):
    payment, _delivery = held
    before = payment.review_reason
    answer = ann.act(payment, "release", **{"reason": before, "note": "", **fields})
    assert said in texts(answer)
    payment.refresh_from_db()
    assert (payment.review_reason, logged(payment)) == (before, [])


# What is not possible ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_provider_that_cannot_is_explained(ann, paid, kind):
    payment = paid(alias="silent")
    page = ann.page(payment).content.decode()
    assert reverse("admin:multipay_payment_step", args=[payment.pk, kind]) not in page
    answer = ann.client.get(
        reverse("admin:multipay_payment_step", args=[payment.pk, kind]), follow=True
    )
    assert f"cannot {kind} payments" in texts(answer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings_say", ["nothing", "nonsense"])
def test_an_account_that_left_the_settings_offers_nothing_that_fails(
    ann, ready, settings, kind, settings_say
):
    payment = ready(kind)
    providers = {**settings.MULTIPAY["PROVIDERS"]}
    providers["scripted"] = {"BACKEND": "no.such.Provider", "OPTIONS": {}}
    if settings_say == "nothing":
        del providers["scripted"]
    settings.MULTIPAY = settings.MULTIPAY | {"PROVIDERS": providers}
    page = ann.page(payment)
    assert page.status_code == 200
    assert page.content.decode().count("Its account is not in the settings") == 1
    for other in KINDS:
        url = reverse("admin:multipay_payment_step", args=[payment.pk, other])
        assert url not in page.content.decode()
    check = reverse("admin:multipay_payment_check", args=[payment.pk])
    assert check not in page.content.decode()
    assert ann.list().status_code == 200
    for fields in ({"preview": "1"}, {"confirmed": "1", "ticket": "x"}):
        answer = ann.post(payment, kind, fields)
        assert "its account is not in the settings" in texts(answer)
    assert ann.act(payment, "check").status_code == 200


def test_a_payment_without_a_provider_offers_nothing(ann):
    payment = new_payment(provider=None)
    page = ann.page(payment).content.decode()
    assert page.lower().count("the buyer has not chosen a provider yet") == 1
    assert "/step/" not in page
    assert ann.act(payment, "check").status_code == 200


def test_a_payment_that_nobody_asked_about_can_be_captured_in_two_goes(
    ann, authorized, provider
):
    payment = authorized(capture_mode=CaptureMode.MANUAL)
    total = snapshot_of(payment, PAID, account=ACCOUNT, captured=usd("40.00"))
    provider.will("capture", total)
    ann.confirm(payment, "capture", amount="40.00")
    assert 'value="60.00"' in ann.form(payment, "capture").content.decode()


def test_every_operation_of_the_admin_names_its_actor(ann, ready):
    for kind in KINDS:
        ann.confirm(ready(kind), kind)
    acts = Operation.objects.filter(kind__in=KINDS)
    assert {operation.actor for operation in acts} == {"ann"}
    assert acts.count() == len(KINDS)
