"""One step for many payments: offered to whom it is allowed, confirmed, and watched."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from moneyed import Money

from django_multipay import tasks
from django_multipay.admin import batches
from django_multipay.enums import BatchItemState, BatchKind, PaymentStatus
from django_multipay.flows.batches import MOST, create_batch, run_batch
from django_multipay.models import Batch, Payment
from tests.admin.conftest import HIDDEN, Desk
from tests.flows.scripted import new_payment

DONE, FAILED, WAITING = (
    BatchItemState.DONE,
    BatchItemState.FAILED,
    BatchItemState.WAITING,
)
REFUND = BatchKind.REFUND
NEEDED = {
    BatchKind.CHECK: "change_payment",
    BatchKind.CAPTURE: "capture_payment",
    BatchKind.VOID: "void_payment",
    BatchKind.REFUND: "refund_payment",
}
LIST = "admin:multipay_payment_changelist"


def choose(who: Desk, kind: BatchKind, payments: list[Payment], **fields: str) -> Any:
    """Tick payments in the list and start an action."""
    ticked = [str(payment.pk) for payment in payments]
    sent = {"action": f"batch_{kind}", "_selected_action": ticked, "index": "0"}
    return who.client.post(reverse(LIST), {**sent, **fields})


def unseen(page: Any, button: str) -> dict[str, list[str]]:
    """Return what the form with this button sends along unseen, token and all."""
    forms = re.findall(r"<form.*?</form>", page.content.decode(), re.DOTALL)
    (form,) = [form for form in forms if button in form]
    fields: dict[str, list[str]] = {}
    for name, value in HIDDEN.findall(form):
        fields.setdefault(name, []).append(unescape(value))
    return fields


def confirm(who: Desk, kind: BatchKind, payments: list[Payment]) -> Any:
    """Choose, and press the button of the confirmation."""
    fields = unseen(choose(who, kind, payments), 'name="confirmed"')
    return who.client.post(reverse(LIST), {**fields, "confirmed": "1"})


def page_of(batch: Batch) -> str:
    return reverse("admin:multipay_batch_change", args=[batch.pk])


def way_on(batch: Batch) -> str:
    return reverse("admin:multipay_batch_go_on", args=[batch.pk])


def states(batch: Batch) -> list[str]:
    return list(batch.items.values_list("state", flat=True))


def templates_of(page: Any) -> list[str | None]:
    return [template.name for template in page.templates]


def offered(page: Any) -> set[str]:
    """The kinds of batch that a list of payments offers."""
    html = page.content.decode()
    return {kind for kind in NEEDED if f'<option value="batch_{kind}"' in html}


@pytest.fixture
def run(django_capture_on_commit_callbacks: Any) -> Callable[[], Any]:
    """Let the task engine work, which hears of a batch after the commit."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


# Who may ------------------------------------------------------------------------------


@pytest.mark.parametrize("permission", ["", *NEEDED.values()])
def test_an_action_is_offered_with_its_permission_only(
    desk, paid, provider, permission
):
    payment = paid()
    who = desk("who", "view_payment", *([permission] if permission else []))
    allowed = {kind for kind, needed in NEEDED.items() if needed == permission}
    assert offered(who.list()) == allowed
    before = list(provider.calls)
    for kind in NEEDED:
        asked = choose(who, kind, [payment])
        is_asked = "admin/multipay/batch/confirm.html" in templates_of(asked)
        assert is_asked == (kind in allowed)
        if kind not in allowed:
            choose(who, kind, [payment], confirmed="1")
    assert not Batch.objects.exists()
    assert provider.calls == before


@pytest.mark.parametrize("kind", NEEDED)
def test_an_action_of_another_list_asks_for_the_permission_itself(desk, rf, paid, kind):
    paid()
    others = set(NEEDED.values()) - {NEEDED[kind]}
    request = rf.post(reverse(LIST), {"confirmed": "1"})
    request.user = desk("who", "view_payment", *others).user
    with pytest.raises(PermissionDenied):
        batches.start(kind, request, Payment.objects.all())
    assert not Batch.objects.exists()


def test_who_may_do_everything_is_offered_everything(ann, paid):
    paid()
    page = ann.list()
    assert offered(page) == set(NEEDED)
    assert "delete_selected" not in page.content.decode()


def test_without_a_task_engine_nothing_is_offered(ann, paid, monkeypatch):
    payment = paid()
    monkeypatch.setattr(batches, "find_spec", lambda name: None)
    page = ann.list()
    assert page.status_code == 200
    assert offered(page) == set()
    choose(ann, REFUND, [payment], confirmed="1")
    assert not Batch.objects.exists()


def test_whoever_sees_payments_sees_batches_and_nobody_edits_them(desk, ann, paid):
    batch = create_batch(REFUND, [paid()], by="ann")
    viewer, stranger = desk("viewer", "view_payment"), desk("stranger", "view_refund")
    urls = [reverse("admin:multipay_batch_changelist"), page_of(batch)]
    for url in urls:
        assert viewer.client.get(url).status_code == 200
        assert stranger.client.get(url).status_code == 403
        assert Client().get(url).status_code == 302
    add = reverse("admin:multipay_batch_add")
    delete = reverse("admin:multipay_batch_delete", args=[batch.pk])
    for url in (add, delete):
        assert ann.client.post(url, {"post": "yes"}).status_code == 403
    assert ann.client.post(page_of(batch), {"kind": "void"}).status_code == 200
    assert Batch.objects.get().kind == REFUND
    assert states(batch) == [WAITING]


@pytest.mark.parametrize("key", ["0", "99999999999999999999999", "x"])
def test_a_batch_that_is_none_has_no_page(ann, key):
    url = f"{reverse('admin:multipay_batch_changelist')}{key}"
    assert ann.client.get(f"{url}/change/").status_code == 404
    assert ann.client.post(f"{url}/go-on/", follow=True).status_code == 404


# Chosen, then confirmed -------------------------------------------------------------------


@pytest.mark.parametrize("kind", NEEDED)
def test_the_confirmation_shows_what_was_chosen_and_does_nothing(
    ann, paid, provider, logged, kind
):
    chosen = [paid(order_id="A-1"), paid("20.50", order_id="A-2")]
    chosen.append(new_payment(order_id="A-3", amount=Money("7.00", "EUR")))
    other = paid(order_id="B-1")
    before = list(provider.calls)
    page = choose(ann, kind, chosen)
    html = page.content.decode()
    assert page.context["payments"] == chosen
    for payment in chosen:
        assert payment.order_id in html
    assert other.order_id not in html
    assert "3 payments were chosen." in html
    euros, dollars = page.context["totals"]
    assert ("7.00" in euros, "120.50" in dollars) == (True, True)
    assert f"{euros} + {dollars}" in html
    assert not Batch.objects.exists()
    assert provider.calls == before
    assert [logged(payment) for payment in chosen] == [[], [], []]


@pytest.mark.parametrize(
    ("kind", "status", "amounts"),
    [
        (BatchKind.CHECK, PaymentStatus.PAID, (10000, 0)),
        (BatchKind.CAPTURE, PaymentStatus.PAID, (10000, 0)),
        (BatchKind.VOID, PaymentStatus.CANCELED, (0, 0)),
        (BatchKind.REFUND, PaymentStatus.REFUNDED, (10000, 10000)),
    ],
)
def test_what_is_confirmed_is_done_and_remembered(
    ann, paid, authorized, logged, run, kind, status, amounts
):
    make = authorized if kind in {BatchKind.CAPTURE, BatchKind.VOID} else paid
    payments, other = [make(), make()], make()
    with run():
        answer = confirm(ann, kind, payments)
    batch = Batch.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, page_of(batch))
    assert (batch.kind, batch.actor, states(batch)) == (kind, "ann", [DONE, DONE])
    for payment in payments:
        payment.refresh_from_db()
        assert payment.status == status
        assert (payment.captured_minor, payment.refunded_minor) == amounts
        (line,) = logged(payment)
        assert line.startswith("ann: ")
        assert str(batch.uuid) in line
    assert logged(other) == []
    before = other.status
    other.refresh_from_db()
    assert other.status == before


def test_the_same_confirmation_twice_moves_money_once(ann, paid, provider, run):
    payments = [paid(), paid()]
    for _ in range(2):
        with run():
            confirm(ann, REFUND, payments)
    second, first = Batch.objects.all()
    assert (states(first), states(second)) == ([DONE, DONE], [FAILED, FAILED])
    assert len(provider.told("refund")) == 2


def test_more_than_a_batch_takes_is_refused_with_a_word(ann):
    Payment.objects.bulk_create(
        Payment(order_id=f"S-{number}", amount_minor=100, currency="USD")
        for number in range(MOST + 1)
    )
    ticked = list(Payment.objects.order_by("id")[:1])
    for fields in ({}, {"confirmed": "1"}):
        answer = choose(ann, REFUND, ticked, select_across="1", **fields)
        assert answer.status_code == 302
        told = f"Choose at most {MOST} payments at once."
        assert told in ann.client.get(answer["Location"]).content.decode()
    assert not Batch.objects.exists()
    Payment.objects.order_by("id").last().delete()
    page = choose(ann, REFUND, ticked, select_across="1")
    assert len(page.context["payments"]) == MOST


def test_payments_that_are_gone_make_no_batch(ann, paid):
    gone = paid()
    gone.pk += 1000
    answer = choose(ann, REFUND, [gone], confirmed="1")
    page = ann.client.get(answer["Location"]).content.decode()
    assert f"0 payments are chosen; choose 1 to {MOST}" in page
    assert not Batch.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_it_works_under_atomic_requests(ann, paid, provider, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    payments = [paid(), paid()]
    answer = confirm(ann, REFUND, payments)
    batch = Batch.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, page_of(batch))
    assert states(batch) == [DONE, DONE]
    waiting = create_batch(BatchKind.CHECK, payments, by="ann")
    assert ann.client.post(way_on(waiting)).status_code == 302
    assert states(waiting) == [DONE, DONE]
    assert provider.calls_in_a_transaction == []


# Watched ----------------------------------------------------------------------------------


def test_the_page_tells_how_far_it_is(ann, paid, provider, run):
    silent = paid(alias="silent", order_id="A-2")
    batch = create_batch(REFUND, [paid(order_id="A-1"), silent], by="carl")
    page = ann.client.get(page_of(batch))
    assert "2 payments: 2 waiting." in page.content.decode()
    assert "Asked for by carl." in page.content.decode()
    assert page["Refresh"] == batches.REFRESH_SECONDS
    run_batch(batch)
    page = ann.client.get(page_of(batch))
    html = page.content.decode()
    assert "2 payments: 1 done, 1 not done." in html
    for item in batch.items.all():
        assert item.payment.order_id in html
        assert item.get_state_display() in html
        assert item.note
        assert item.note in html
    assert "Refresh" not in page
    assert way_on(batch) not in html
    assert states(batch) == [DONE, FAILED]


def test_an_interrupted_batch_is_carried_on(ann, paid, provider, run):
    batch = create_batch(REFUND, [paid(), paid()], by="carl")
    assert way_on(batch) in ann.client.get(page_of(batch)).content.decode()
    for _ in range(2):
        with run():
            answer = ann.client.post(way_on(batch))
        assert (answer.status_code, answer["Location"]) == (302, page_of(batch))
    assert states(batch) == [DONE, DONE]
    assert len(provider.told("refund")) == 2


def test_to_go_on_needs_a_press_the_token_and_the_permission(
    desk, ann, paid, provider, run
):
    batch = create_batch(REFUND, [paid()], by="ann")
    url = way_on(batch)
    viewer = desk("viewer", "view_payment", "capture_payment")
    blind = desk("blind", "refund_payment")
    victim = desk("victim", "view_payment", "refund_payment", enforce_csrf_checks=True)
    with run():
        assert ann.client.get(url).status_code == 405
        assert viewer.client.post(url).status_code == 403
        assert blind.client.post(url).status_code == 403
        assert victim.client.post(url).status_code == 403
        assert Client().post(url).status_code == 302
    assert states(batch) == [WAITING]
    assert provider.told("refund") == []
    page = viewer.client.get(page_of(batch))
    assert url not in page.content.decode()
    fields = unseen(victim.client.get(page_of(batch)), "Go on")
    with run():
        assert victim.client.post(url, fields).status_code == 302
    assert states(batch) == [DONE]


def test_the_list_acts_with_the_token_of_its_pages_only(desk, paid):
    payment = paid()
    victim = desk("victim", "view_payment", "refund_payment", enforce_csrf_checks=True)
    assert choose(victim, REFUND, [payment], confirmed="1").status_code == 403
    assert not Batch.objects.exists()
    token = unseen(victim.list(), 'name="index"')["csrfmiddlewaretoken"][0]
    page = choose(victim, REFUND, [payment], csrfmiddlewaretoken=token)
    fields = unseen(page, 'name="confirmed"')
    answer = victim.client.post(reverse(LIST), {**fields, "confirmed": "1"})
    assert answer["Location"] == page_of(Batch.objects.get())


def test_a_batch_that_the_engine_did_not_take_waits_for_a_press(
    ann, paid, monkeypatch, run, caplog
):
    class Away:
        """An engine whose queue does not answer."""

        @staticmethod
        def enqueue(batch_uuid: str) -> None:
            raise ConnectionError("the queue is away")

    with monkeypatch.context() as patch, run():
        patch.setattr(tasks, "carry_out_batch", Away)
        answer = confirm(ann, REFUND, [paid()])
    batch = Batch.objects.get()
    assert answer["Location"] == page_of(batch)
    assert states(batch) == [WAITING]
    assert str(batch.uuid) in caplog.text
    with run():
        ann.client.post(way_on(batch))
    assert states(batch) == [DONE]


def test_a_name_is_shown_and_never_markup(ann, paid):
    wicked = "<script>alert(1)</script>\"'{{ 1 }}"
    payment = paid(order_id=wicked)
    batch = create_batch(REFUND, [payment], by=wicked)
    batch.items.update(note=wicked, state=FAILED)
    for page in (choose(ann, REFUND, [payment]), ann.client.get(page_of(batch))):
        html = page.content.decode()
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;{{ 1 }}" in html


def test_no_page_asks_more_questions_for_more_payments(ann, paid):
    def questions(look: Callable[[], Any]) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert look().status_code == 200
        return len(queries)

    def pages(count: int) -> list[int]:
        payments = [paid() for _ in range(count)]
        batch = create_batch(REFUND, payments, by="ann")
        batches_list = reverse("admin:multipay_batch_changelist")
        return [
            questions(lambda: choose(ann, REFUND, payments)),
            questions(lambda: ann.client.get(page_of(batch))),
            questions(lambda: ann.client.get(batches_list)),
        ]

    assert pages(1) == pages(30)
