"""The list and the page of a payment: quickly found, told in full, and nobody's
name where it must not stand."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from moneyed import Money

from django_multipay.enums import (
    DeclineCode,
    NoticeState,
    PaymentStatus,
    RefundStatus,
    ReviewReason,
    Source,
    TransactionKind,
    Verdict,
)
from django_multipay.exceptions import RequestRejected
from django_multipay.flows import receive_webhook, refund_payment, release_review
from django_multipay.messages import Buyer, Decline, LineItem, RefundSnapshot
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Refund,
    Transaction,
    WebhookDelivery,
)
from tests.admin.conftest import page_of
from tests.flows.scripted import message, new_payment

PAID = PaymentStatus.PAID
BUYER = Buyer(
    name="Maria Muster",
    email="maria.muster@example.com",
    phone="+49 30 901820",
    country="DE",
)
PERSONAL = ["Maria", "Muster", "maria.muster", "901820", "buyer-17"]

WICKED = {
    "html": "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>",
    "template": "{{ settings.SECRET_KEY }}{% load x %}{% debug %}",
    "crlf": "first\r\nSet-Cookie: a=b\r\n\r\n<b>body</b>",
    "bidi": "abc\u202efdp.exe\u2066\u200b\u200d\ufeff",
    "formula": '=HYPERLINK("https://evil.example","x")',
    "control": "bell\x07escape\x1b[31mback\x08",
    "script": "javascript:alert(1)",
    "percent": "%s %(x)s %n {0} {order_id}",
}


def usd(amount: str) -> Money:
    return Money(amount, "USD")


def titles(page: Any) -> list[str]:
    return [entry.title for entry in page.context["entries"]]


# Cheap ----------------------------------------------------------------------------------


def many_payments(count: int) -> None:
    Payment.objects.bulk_create(
        Payment(
            provider="scripted",
            order_id=f"S-{number}",
            amount_minor=1000,
            currency="USD",
            status=PAID,
            captured_minor=1000,
            provider_reference=f"T-{number}",
            buyer_email=f"buyer{number}@example.com",
            checkout_data={"street": "secret"},
        )
        for number in range(count)
    )


def queries_of(look: Any) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert look().status_code == 200
    return len(queries)


@pytest.mark.parametrize("query", [{}, {"status__exact": "paid"}, {"q": "S-1"}])
def test_the_list_asks_the_same_questions_whatever_its_length(ann, query):
    many_payments(3)
    few = queries_of(lambda: ann.list(**query))
    Payment.objects.all().delete()
    many_payments(300)
    # Where there is a second page, its keys are found first.
    assert queries_of(lambda: ann.list(**query)) <= few + 1 <= 11


def test_the_page_asks_the_same_questions_whatever_happened(
    ann, paid, django_assert_max_num_queries
):
    payment = paid(amount="10000.00", items=[_item("Coffee")], buyer=BUYER)
    ann.page(payment)
    ann.confirm(payment, "refund", amount="1.00")
    before = queries_of(lambda: ann.page(payment))
    for number in range(300):
        refund = Refund(
            payment=payment,
            amount_minor=1,
            status=RefundStatus.FAILED,
            merchant_reference=f"ref{number}",
            account={"account": {"number": "110-123"}},
        )
        Refund.objects.bulk_create([refund])
        Operation.objects.create(kind="refund", payment=payment, refund=refund)
        fact = Transaction.objects.create(
            payment=payment,
            kind=TransactionKind.REFUND,
            currency="USD",
            source=Source.SYNC,
            provider_reference=f"P-{number}",
        )
        Notice.objects.create(payment=payment, transaction=fact, signals=["payment_x"])
        WebhookDelivery.objects.create(
            provider="scripted", digest=str(number), payment=payment, payload={"a": 1}
        )
    with django_assert_max_num_queries(before):
        ann.page(payment)
    assert before <= 15


def test_lists_and_pages_open_no_envelope(ann, paid, monkeypatch):
    payment = paid(alias="bank", buyer=BUYER)
    receive_webhook("bank", message(payment, PAID, amount="1.00"))
    many_payments(1)

    def refuse(ciphertext: str) -> str:
        raise AssertionError("decrypted for a page that does not show it")

    monkeypatch.setattr("django_multipay.crypto.decrypt", refuse)
    assert ann.list().status_code == 200
    assert ann.page(payment).status_code == 200
    for model in ("webhookdelivery", "refund", "operation", "notice", "token"):
        url = reverse(f"admin:multipay_{model}_changelist")
        assert ann.client.get(url).status_code == 200, model


# Found ------------------------------------------------------------------------------------


def found(desk: Any, **query: str) -> list[Payment]:
    response = desk.list(**query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


@pytest.fixture
def wanted(paid):
    payment = paid(order_id="SHOP 17/b", buyer=BUYER)
    refund_payment(payment, usd("1.00"))
    paid(order_id="another")
    payment.refresh_from_db()
    return payment


@pytest.mark.parametrize(
    "reference",
    [
        lambda payment: payment.order_id,
        lambda payment: payment.merchant_reference,
        lambda payment: payment.provider_reference,
        lambda payment: payment.transaction_reference,
        lambda payment: str(payment.uuid),
        lambda payment: payment.uuid.hex,
        lambda payment: payment.buyer_email,
        lambda payment: payment.refunds.get().merchant_reference,
        lambda payment: f"  {payment.order_id} ",
    ],
    ids=[
        "order",
        "our reference",
        "provider's reference",
        "transaction",
        "uuid",
        "hex",
        "e-mail",
        "refund",
        "pasted",
    ],
)
def test_a_payment_is_found_by_whatever_staff_hold_in_hand(ann, wanted, reference):
    assert found(ann, q=reference(wanted)) == [wanted]


@pytest.mark.parametrize(
    "term",
    ["SHOP", "%", "_", "maria", "1' OR '1'='1", "\u202e", "x" * 500, "\uff10", "-1"],
)
def test_parts_wildcards_and_nonsense_find_nothing(ann, wanted, term):
    assert found(ann, q=term) == []


def test_a_search_for_a_null_character_is_told(ann, wanted):
    assert ann.list(q="a\x00b").status_code == 200


def test_what_an_account_called_it_is_found_after_the_account_left(
    ann, wanted, settings
):
    settings.MULTIPAY = settings.MULTIPAY | {"PROVIDERS": {}}
    assert found(ann, q=wanted.transaction_reference) == [wanted]


def test_an_order_with_blanks_at_its_end_is_found(ann, paid):
    payment = paid(order_id=" 17 ")
    assert found(ann, q=" 17 ") == [payment]


def test_the_link_to_all_payments_of_an_order_finds_them(ann, paid):
    first, second = paid(order_id="a&b=c #1"), paid(order_id="a&b=c #1")
    page = ann.page(first).content.decode()
    (query,) = re.findall(r'href="/admin/multipay/payment/(\?q=[^"]+)"', page)
    listed = ann.client.get("/admin/multipay/payment/" + query)
    assert set(listed.context["cl"].result_list) == {first, second}


def test_an_address_is_searched_only_by_those_who_may_see_it(desk, wanted):
    may = desk("may", "view_payment", "view_buyer_data")
    may_not = desk("may_not", "view_payment")
    assert found(may, q=BUYER.email) == [wanted]
    assert found(may_not, q=BUYER.email) == []


@pytest.mark.parametrize(
    "lookup",
    [
        "buyer_email",
        "buyer_email__startswith",
        "buyer_name__regex",
        "buyer_phone__contains",
        "customer_id__gte",
        "metadata__secret",
        "checkout_data__gt",
        "token__provider_token__gt",
        "transactions__detail__contains",
        "id__gt",
        "order_id__contains",
    ],
)
def test_no_address_filters_by_a_column_that_the_list_does_not_offer(
    ann, wanted, lookup
):
    assert ann.list(**{lookup: "m"}).status_code == 400


@pytest.mark.parametrize("order", ["1", "-6", "6.7", "99", "x", "-0"])
def test_no_address_sorts_a_million_rows(ann, wanted, order):
    listed = ann.list(o=order)
    assert listed.status_code == 200
    ordered = listed.context["cl"].queryset.query.order_by
    assert {name.removeprefix("-") for name in ordered} <= {"created_at", "id", "pk"}


@pytest.mark.parametrize(
    "query",
    [
        {"p": "0"},
        {"p": "99999999"},
        {"p": "-1"},
        {"p": "x"},
        {"all": ""},
        {"status__exact": "made up"},
        {"review": "made up"},
        {"provider": "made up"},
        {"created_at__year": "0"},
        {"created_at__year": "99999"},
        {"created_at__year": "2026", "created_at__month": "13"},
        {"created_at__year": "2026", "created_at__month": "2", "created_at__day": "30"},
        {"created_at__gte": "yesterday"},
        {"q": "x", "_popup": "1", "_to_field": "uuid"},
        {"_facets": "True"},
    ],
)
def test_no_address_of_the_list_breaks_it(ann, wanted, query):
    assert ann.list(**query).status_code in {200, 302, 400}


@pytest.mark.parametrize(
    "object_id", ["x", "0", "-1", "9" * 30, "1.5", "%00", "\uff11", "_"]
)
def test_no_address_of_a_page_breaks_it(ann, wanted, object_id):
    for tail in ("change/", "history/", "", "delete/", "step/refund/"):
        url = f"/admin/multipay/payment/{object_id}/{tail}"
        assert ann.client.get(url, follow=True).status_code in {200, 403, 404}


def test_the_list_says_what_staff_look_for(ann, paid, payment_that_is):
    payment = paid(order_id="A-1", buyer=BUYER)
    refund_payment(payment, usd("30.00"))
    Payment.objects.filter(pk=payment.pk).update(
        created_at=timezone.now() - timedelta(days=3)
    )
    page = ann.list().content.decode()
    for word in (
        "A-1",
        "$100.00",
        "&minus;$30.00",
        "partially refunded",
        "3",
        "scripted",
    ):
        assert word in page
    assert "m•••@example.com" in page


def test_the_review_queue_holds_what_waits_for_a_person(ann, paid, payment_that_is):
    waiting = payment_that_is(PaymentStatus.PENDING)
    receive_webhook("scripted", message(waiting, PAID, amount="1.00"))
    paid()
    assert found(ann, review="any") == [waiting]
    assert found(ann, review=ReviewReason.AMOUNT_MISMATCH) == [waiting]
    assert found(ann, review=ReviewReason.OVERPAID) == []
    assert "the amount differs from ours" in ann.list(review="any").content.decode()
    release_review(waiting, by="ann")
    assert found(ann, review="any") == []


@pytest.mark.parametrize("reason", ReviewReason.values)
def test_every_reason_for_review_is_explained(ann, paid, reason):
    payment = paid()
    Payment.objects.filter(pk=payment.pk).update(review_reason=reason)
    page = ann.page(payment)
    assert len(page.context["review"]["advice"]) > 40
    assert str(escape(ReviewReason(reason).label)) in page.content.decode()


def test_filters_and_dates_narrow_the_list(ann, paid, payment_that_is):
    old, new = paid(), payment_that_is(PaymentStatus.PENDING, alias="tracing")
    long_ago = timezone.now().replace(year=2020, month=5, day=4)
    Payment.objects.filter(pk=old.pk).update(created_at=long_ago)
    assert found(ann) == [new, old]
    assert found(ann, status__exact="paid") == [old]
    assert found(ann, provider="tracing") == [new]
    assert found(ann, created_at__year="2020") == [old]
    may = {"created_at__year": "2020", "created_at__month": "5"}
    assert found(ann, **may) == found(ann, **may, created_at__day="4") == [old]
    assert found(ann, **may, provider="tracing") == []


# Nobody's business --------------------------------------------------------------------


@pytest.fixture
def personal(payment_that_is):
    payment = payment_that_is(PAID, buyer=BUYER, customer_id="buyer-17@example.com")
    receive_webhook("scripted", message(payment, PAID, amount="1.00"))
    refund_payment(payment, usd("1.00"), by="carl")
    return payment


def pages_of(desk: Any, payment: Payment) -> dict[str, str]:
    urls = {
        "list": reverse("admin:multipay_payment_changelist"),
        "page": reverse("admin:multipay_payment_change", args=[payment.pk]),
        "history": reverse("admin:multipay_payment_history", args=[payment.pk]),
        "step": reverse("admin:multipay_payment_step", args=[payment.pk, "refund"]),
        "start": reverse("admin:index"),
    }
    for model in ("webhookdelivery", "refund", "operation", "notice"):
        name = f"admin:multipay_{model}"
        urls[model] = reverse(f"{name}_changelist")
        related: dict[str, Any] = {
            "webhookdelivery": payment.deliveries,
            "refund": payment.refunds,
            "operation": payment.operations,
            "notice": payment.notices,
        }
        row = related[model].first()
        urls[f"{model} row"] = reverse(f"{name}_change", args=[row.pk])
    answers = {name: desk.client.get(url) for name, url in urls.items()}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {name: answer.content.decode() for name, answer in answers.items()}


EYES = [
    "view_payment",
    "view_webhookdelivery",
    "view_refund",
    "view_operation",
    "view_notice",
    "refund_payment",
    "change_payment",
]


def test_who_may_not_see_buyers_finds_nothing_of_them_anywhere(desk, personal):
    nosy = desk("nosy", *EYES)
    for name, text in pages_of(nosy, personal).items():
        for word in PERSONAL:
            assert word not in text, (name, word)
    page = nosy.page(personal).content.decode()
    assert "m•••@example.com" in page
    assert "You may not see" in page


def test_who_may_see_buyers_sees_them_on_the_page_and_not_in_lists(desk, personal):
    pages = pages_of(desk("trusted", *EYES, "view_buyer_data"), personal)
    for word in PERSONAL:
        assert word in pages["page"]
        for name in ("list", "history", "start", "webhookdelivery row"):
            assert word not in pages[name]


def test_the_shops_own_notes_about_a_payment_are_not_shown(ann, paid):
    payment = paid(metadata={"note": "met in person"}, provider_data=None)
    assert "met in person" not in ann.page(payment).content.decode()


# Told in full ----------------------------------------------------------------------------


def test_the_story_merges_everything_in_order(ann, bob, paid, provider):
    payment = paid()
    receive_webhook("scripted", message(payment, PAID))
    ann.confirm(payment, "refund", amount="30.00", reason="one cup broken")
    ann.act(payment, "check")
    bob.client.post(
        reverse(
            "admin:multipay_webhookdelivery_replay",
            args=[payment.deliveries.get().pk],
        )
    )
    page = ann.page(payment)
    entries = page.context["entries"]
    assert {entry.kind for entry in entries} == {
        "payment",
        "fact",
        "call",
        "message",
        "refund",
        "notice",
        "staff",
    }
    moments = [entry.at for entry in entries]
    assert moments == sorted(moments, reverse=True)
    assert entries[-1].title == "Payment created"
    by_kind = {entry.kind: entry for entry in reversed(entries)}
    assert by_kind["refund"].actor == by_kind["call"].actor == "ann"
    assert "one cup broken" in by_kind["refund"].note
    assert by_kind["refund"].amount == "$30.00"
    sources = {entry.source for entry in entries}
    assert {str(Source.WEBHOOK.label), str(Source.OPERATION.label)} <= sources


def test_a_message_applied_again_is_on_the_story_with_its_person(
    ann, payment_that_is, logged
):
    payment = payment_that_is(PaymentStatus.PENDING)
    receive_webhook("scripted", message(payment, PAID, amount="1.00"))
    delivery = WebhookDelivery.objects.get()
    ann.client.post(
        reverse("admin:multipay_webhookdelivery_replay", args=[delivery.pk])
    )
    (entry,) = [
        entry for entry in ann.page(payment).context["entries"] if entry.kind == "staff"
    ]
    assert (entry.actor, entry.title) == ("ann", "A message was applied again")
    assert logged(payment) == logged(delivery)


def test_a_refund_made_at_the_provider_says_so(ann, paid):
    payment = paid()
    Refund.objects.create(payment=payment, amount_minor=100, is_external=True)
    assert "made at the provider" in ann.page(payment).content.decode()


def test_the_shops_page_of_the_order_is_one_click_away(ann, paid, settings):
    settings.MULTIPAY |= {"ORDER_URL": "https://shop.example/{other}/?o={order_id}"}
    payment = paid(order_id='"><a/b c')
    page = ann.page(payment).content.decode()
    assert "https://shop.example/{other}/?o=%22%3E%3Ca%2Fb%20c" in page


def test_nothing_of_a_payment_can_be_changed_or_deleted_or_added(ann, paid):
    payment = paid()
    base = "/admin/multipay/payment/"
    before = [*Payment.objects.values()]
    fields = {"status": "refunded", "amount_minor": "1", "_save": "1"}
    for url in (
        f"{base}{payment.pk}/change/",
        f"{base}{payment.pk}/delete/",
        f"{base}add/",
    ):
        assert ann.client.post(url, fields).status_code == 403
    ann.client.post(
        base, {"action": "delete_selected", "_selected_action": [payment.pk]}
    )
    assert [*Payment.objects.values()] == before
    page = ann.page(payment).content.decode()
    assert not re.findall(r'name="(?:amount|status|currency)[^"]*"', page)


# Whatever stands in the row -----------------------------------------------------------------


def _item(name: str) -> LineItem:
    return LineItem(name=name, quantity=1, unit_price=usd("1.00"))


@pytest.mark.parametrize(
    "shape",
    [
        None,
        [],
        {},
        "text",
        17,
        True,
        [None, 1, "x", []],
        [{}],
        [{"name": None, "quantity": "2", "unit_minor": None}],
        [{"name": "x", "quantity": 10**40, "unit_minor": 10**40}],
        [{"name": ["x"], "quantity": 1, "unit_minor": 1.5}],
        {"a": {"b": [1, {"c": None}]}, "1": 2},
        {"card_last4": ["4242"], "": "x"},
    ],
)
@pytest.mark.parametrize("column", ["items", "details", "metadata", "next_action"])
def test_no_shape_of_a_column_breaks_a_page(ann, paid, column, shape):
    payment = paid()
    if shape is None and column != "next_action":
        shape = "null"
    Payment.objects.filter(pk=payment.pk).update(**{column: shape})
    assert ann.page(payment).status_code == 200
    assert ann.list().status_code == 200
    assert ann.form(payment, "refund").status_code == 200


@pytest.mark.parametrize("signals", [None, [], {}, "text", [1, None], {"a": 1}])
def test_no_shape_of_a_notice_breaks_a_page(ann, paid, signals):
    payment = paid()
    if signals is not None:
        Notice.objects.update(signals=signals, state=NoticeState.WAITING)
    assert ann.page(payment).status_code == 200


def test_words_of_a_later_version_are_shown_as_they_are(ann, paid):
    payment = paid()
    Transaction.objects.create(
        payment=payment, kind="teleport", source="astral", reason="x", currency="USD"
    )
    Operation.objects.create(kind="teleport", payment=payment, state="floating")
    WebhookDelivery.objects.create(
        provider="gone", digest="1", payment=payment, verdict="odd", source="astral"
    )
    page = ann.page(payment).content.decode()
    assert page.count("eleport") >= 2
    assert "astral" in page


def test_a_payment_that_no_key_opens_is_readable(ann, paid, payment_that_is):
    payment = payment_that_is(PaymentStatus.PENDING)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE multipay_payment SET checkout_data = 'unreadable'")
    assert ann.page(payment).status_code == 200
    assert ann.list().status_code == 200
    for model in ("operation", "notice"):
        url = reverse(f"admin:multipay_{model}_changelist")
        assert ann.client.get(url).status_code == 200
    operation = payment.operations.get()
    url = reverse("admin:multipay_operation_change", args=[operation.pk])
    assert ann.client.get(url).status_code == 200


# What a stranger wrote ---------------------------------------------------------------------


class _Markup(HTMLParser):
    """Notes what a page would run, and where it would go."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.found.append(f"{tag} {name}")
            if name in {"href", "src", "action", "formaction"} and (
                (value or "").lower().strip().startswith(("javascript:", "data:"))
            ):
                self.found.append(f"{tag} {name}={value}")
        is_data = dict(attrs).get("type") == "application/json"
        if tag == "script" and not dict(attrs).get("src") and not is_data:
            self.found.append("inline script")
        if tag == "style" or (tag == "img" and dict(attrs).get("src") == "x"):
            self.found.append(tag)


@pytest.fixture
def wicked(request, ann, payment_that_is, provider):
    """A payment in which everything a stranger may write is an attack."""
    word = WICKED[request.param]
    payment = payment_that_is(
        PAID,
        order_id=word[:64],
        description=word,
        method="card",
        buyer=Buyer(name=word, email=word, phone=word[:40], country=word[:2]),
        customer_id=word[:64],
        metadata={word: word},
        items=[_item(word)],
        said={"method": word, "details": {word: word, "card_brand": {word: [word]}}},
    )
    Payment.objects.filter(pk=payment.pk).update(
        provider_reference=word, transaction_reference=word
    )
    decline = Decline(code=DeclineCode.GENERIC, message=word, provider_code=word)
    refused = RefundSnapshot(status=RefundStatus.FAILED, decline=decline)
    provider.will("refund", refused)
    ann.confirm(payment, "refund", amount="1.00", reason=word)
    ann.confirm(payment, "refund", amount="1.00", reason=word)
    receive_webhook("scripted", message(payment, PAID, amount="1.00", word=word))
    WebhookDelivery.objects.update(error=word, headers={word: word}, body=word)
    Operation.objects.update(error=word)
    Notice.objects.update(error=word, signals=[word])
    payment.refresh_from_db()
    ann.act(payment, "release", reason=payment.review_reason, note=word)
    return payment


@pytest.mark.parametrize("wicked", WICKED, indirect=True)
def test_what_strangers_write_is_text(ann, wicked):
    pages = pages_of(ann, wicked)
    shown = ann.preview(wicked, "refund", amount="1.00", reason=wicked.description)
    pages["preview"] = shown.content.decode()
    pages["refused"] = ann.press(wicked, "refund", {}).content.decode()
    for name, text in pages.items():
        markup = _Markup(text)
        assert markup.found == [], name
        assert "only-for-tests" not in text
        assert "<img src=x" not in text
        assert "<script>alert" not in text
    assert LogEntry.objects.filter(object_id=str(wicked.pk)).count() == 3


@pytest.mark.parametrize("wicked", ["crlf", "bidi", "html"], indirect=True)
def test_no_word_of_a_stranger_reaches_a_header(ann, wicked):
    for answer in (ann.page(wicked), ann.act(wicked, "check"), ann.list()):
        assert "set-cookie: a=b" not in str(answer.headers).lower()
    assert "a" not in ann.client.cookies


@pytest.mark.parametrize("wicked", ["bidi"], indirect=True)
def test_letters_that_turn_a_line_around_stay_in_their_own_box(ann, wicked):
    page = ann.page(wicked).content.decode()
    notes = re.findall(r"<(\w+)[^>]*>[^<>]*\u202e", page)
    assert set(notes) <= {"bdi", "dt", "dd", "td", "title", "h1", "div", "a", "input"}


def test_a_providers_words_with_a_null_are_logged_all_the_same(ann, paid, provider):
    provider.will("refund", RequestRejected("bad\x00news 4111111111111111"))
    payment = paid()
    assert ann.confirm(payment, "refund", amount="1.00").status_code == 200
    entry = LogEntry.objects.get()
    assert "\x00" not in entry.change_message
    assert "4111111111111111" not in entry.change_message


def test_pages_run_no_script_and_carry_no_style_of_their_own(ann, paid):
    payment = paid(buyer=BUYER, items=[_item("Coffee")])
    for answer in (
        ann.page(payment),
        ann.list(),
        ann.form(payment, "refund"),
        ann.preview(payment, "refund"),
    ):
        assert _Markup(answer.content.decode()).found == []


def test_a_payment_that_was_never_started_has_a_page(ann):
    page = ann.page(new_payment(provider=None))
    assert "not chosen yet" in page.content.decode()
    assert "Payment created" in titles(page)


def test_all_attempts_of_an_order_are_on_the_page_of_each(ann, payment_that_is):
    alone = new_payment(provider=None)
    declined = payment_that_is(PaymentStatus.FAILED)
    paid_in_the_end = payment_that_is(
        PaymentStatus.PAID, order_id=declined.order_id, retry_of=declined
    )

    for payment in (declined, paid_in_the_end):
        page = ann.page(payment)
        shown = [
            (item["attempt"].pk, item["is_this"]) for item in page.context["attempts"]
        ]
        assert shown == [
            (attempt.pk, attempt == payment) for attempt in (declined, paid_in_the_end)
        ]
        other = paid_in_the_end if payment == declined else declined
        assert f'href="{page_of(other)}"' in page.content.decode()
    assert "Attempts to pay this order" not in ann.page(alone).content.decode()


def test_verdicts_are_in_words(ann, payment_that_is):
    payment = payment_that_is(PaymentStatus.PENDING)
    receive_webhook("scripted", message(payment, PAID, amount="1.00"))
    assert f"Message received: {Verdict.HELD.label}" in titles(ann.page(payment))
