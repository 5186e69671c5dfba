"""Payment links: made by staff, sent by e-mail, paid by a buyer, and over one day."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.core import mail
from django.core.cache import cache
from django.core.mail.backends.locmem import EmailBackend
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from moneyed import Money

from django_multipay.enums import PaymentStatus
from django_multipay.flows import start_payment
from django_multipay.models import Payment

ADD = "admin:multipay_payment_link_add"
MAY = ("view_payment", "add_payment_link")
FORM = {
    "order_id": "R-77",
    "amount": "26.30",
    "currency": "usd",
    "description": "Two cups",
    "provider": "scripted",
    "buyer_name": "Ada Lovelace",
    "buyer_email": "ada@buyer.example",
    "locale": "en",
    "days": "7",
}


def url_of(payment: Payment) -> str:
    return reverse("admin:multipay_payment_link", args=[payment.pk])


def make(desk, **changes: str):
    fields = {**FORM, "ticket": str(uuid4()), **changes}
    return desk.client.post(reverse(ADD), fields)


@pytest.fixture(autouse=True)
def mailer(settings) -> None:
    # Django 6.1 and newer want it to be named; the tests keep what is sent.
    backend = "django.core.mail.backends.locmem.EmailBackend"
    settings.MAILERS = {"default": {"BACKEND": backend}}


@pytest.fixture
def link(ann) -> Payment:
    """A link that ann has made."""
    make(ann)
    return Payment.objects.get()


def test_a_form_becomes_a_payment_with_a_deadline(ann, logged):
    page = ann.client.get(reverse(ADD))
    assert page.status_code == 200
    assert page.context["form"]["locale"].value() == "en"

    answer = make(ann)

    payment = Payment.objects.get()
    assert answer["Location"] == url_of(payment)
    assert payment.amount == Money("26.30", "USD")
    assert (payment.order_id, payment.provider) == ("R-77", "scripted")
    assert (payment.buyer_name, payment.description) == ("Ada Lovelace", "Two cups")
    left = payment.expires_at - timezone.now()
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    assert payment.pay_until == payment.expires_at
    assert payment.status == PaymentStatus.CREATED
    assert logged(payment) == ["ann: link: created"]


def test_the_buyer_may_choose_the_provider(ann):
    make(ann, provider="")

    payment = Payment.objects.get()
    assert (payment.provider, payment.is_provider_open) == ("", True)


@pytest.mark.parametrize("is_remembered", [True, False])
def test_the_same_form_makes_one_link(ann, is_remembered):
    ticket = str(uuid4())
    first = make(ann, ticket=ticket)
    if not is_remembered:
        cache.clear()

    second = make(ann, ticket=ticket)

    assert first["Location"] == second["Location"]
    assert Payment.objects.count() == 1


def test_a_form_that_is_being_sent_elsewhere_is_not_made_twice(ann):
    ticket = str(uuid4())
    cache.add(f"multipay:link:{ticket}", 1)

    answer = make(ann, ticket=ticket)

    assert "This link is being made" in answer.content.decode()
    assert Payment.objects.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", "26.305"),
        ("amount", "0"),
        ("amount", "-1"),
        ("amount", "1e3"),
        ("amount", "26,30"),
        ("amount", "\N{FULLWIDTH DIGIT TWO}6"),
        ("amount", "NaN"),
        ("currency", "XXZ"),
        ("currency", ""),
        ("buyer_email", "ada@buyer.example\nBcc: eve@evil.example"),
        ("provider", "nobody"),
        ("days", "1000"),
        ("locale", "xx"),
        ("order_id", ""),
        ("ticket", "1"),
    ],
)
def test_a_form_that_makes_no_sense_is_shown_again(ann, field, value):
    answer = make(ann, **{field: value})

    assert answer.status_code == 200
    assert answer.context["form"].errors
    assert Payment.objects.count() == 0


def test_what_the_flow_refuses_is_said_and_can_be_mended(ann):
    ticket = str(uuid4())

    refused = make(ann, ticket=ticket, currency="JPY", amount="26")
    mended = make(ann, ticket=ticket)

    assert "does not take" in refused.content.decode()
    assert mended.status_code == 302
    assert Payment.objects.count() == 1


def test_the_page_shows_the_whole_address(ann, link):
    page = ann.client.get(url_of(link)).content.decode()

    assert f"https://shop.example{link.get_checkout_url()}" in page
    assert "Please pay $26.30 for order R-77" in page


def test_the_link_is_sent_to_the_buyer(ann, link, logged):
    fields = {"email": "ada@buyer.example", "note": "See you soon"}

    answer = ann.client.post(url_of(link), fields, follow=True)

    assert "The link was sent to ada@buyer.example." in answer.content.decode()
    (letter,) = mail.outbox
    assert letter.to == ["ada@buyer.example"]
    assert letter.subject == "Please pay $26.30 for order R-77"
    for words in (link.get_checkout_url(), "See you soon", "Two cups", "valid until"):
        assert words in letter.body
    assert logged(link)[-1] == "ann: link: sent to a•••@buyer.example"


@pytest.mark.parametrize("to", ["", "ada", "a@b.example\nBcc: eve@evil.example"])
def test_a_letter_goes_to_one_address_only(ann, link, to):
    ann.client.post(url_of(link), {"email": to})

    assert mail.outbox == []


def test_a_mail_server_that_is_away_is_told(ann, link, monkeypatch, logged):
    def fail(backend: EmailBackend, messages: object) -> int:
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(EmailBackend, "send_messages", fail)

    answer = ann.client.post(url_of(link), {"email": "a@b.example"}, follow=True)

    assert "The e-mail could not be sent." in answer.content.decode()
    assert "not sent" in logged(link)[-1]


@pytest.mark.parametrize(
    "change", [{"status": PaymentStatus.PAID}, {"expires_at": None}]
)
def test_a_link_that_is_over_is_not_sent(ann, link, change):
    if "expires_at" in change:
        change = {"expires_at": timezone.now() - timedelta(seconds=1)}
    Payment.objects.filter(pk=link.pk).update(**change)

    page = ann.client.post(url_of(link), {"email": "a@b.example"})

    assert "leads to no payment any more" in page.content.decode()
    assert mail.outbox == []


def test_an_expired_link_says_so_to_the_buyer_and_takes_nothing(link, provider):
    past = timezone.now() - timedelta(seconds=1)
    Payment.objects.filter(pk=link.pk).update(expires_at=past, pay_until=past)
    client = Client()

    page = client.get(link.get_checkout_url())
    pressed = client.post(link.get_checkout_url(), {"provider": "scripted"})

    assert "The time to pay is over." in page.content.decode()
    assert "<form" not in page.content.decode()
    assert pressed.status_code == 409
    assert provider.told("start") == []


@pytest.mark.django_db(transaction=True)
def test_the_buyer_pays_by_the_link(link, provider):
    assert start_payment(link) is not None
    assert [request.order_id for request in provider.told("start")] == ["R-77"]


@pytest.mark.parametrize("permissions", [(), ("view_payment",), ("change_payment",)])
def test_only_who_may_makes_and_sends_links(desk, link, permissions):
    eve = desk("eve", *permissions)

    assert make(eve).status_code == 403
    assert eve.client.get(reverse(ADD)).status_code == 403
    assert eve.client.get(url_of(link)).status_code == 403
    assert eve.client.post(url_of(link), {"email": "a@b.example"}).status_code == 403
    assert Payment.objects.count() == 1
    assert mail.outbox == []


def test_who_may_not_see_buyers_types_the_address(desk, link):
    vera = desk("vera", *MAY)

    page = vera.client.get(url_of(link)).content.decode()

    assert 'value="ada@buyer.example"' not in page
    assert make(vera).status_code == 302


def test_who_may_not_see_buyers_reads_no_name_in_the_letter(desk, ann, link):
    assert "Ada Lovelace" in ann.client.get(url_of(link)).content.decode()
    vera = desk("vera", *MAY)
    assert "Lovelace" not in vera.client.get(url_of(link)).content.decode()
    vera.client.post(url_of(link), {"email": "ada@buyer.example", "note": ""})
    assert "Ada Lovelace" in mail.outbox[-1].body


def test_the_list_leads_to_a_new_link_for_who_may(desk, ann):
    words = "New payment link"

    assert words in ann.list().content.decode()
    assert words in desk("vera", *MAY).list().content.decode()
    assert words not in desk("eve", "view_payment").list().content.decode()


def test_forms_need_the_csrf_token(desk, link):
    strict = desk("vera", *MAY, enforce_csrf_checks=True)

    assert make(strict).status_code == 403
    assert strict.client.post(url_of(link), {"email": "a@b.example"}).status_code == 403
