"""The payment page: what it shows, what a click does, what it never does."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from moneyed import Money

from django_multipay.enums import PaymentStatus
from django_multipay.messages import LineItem, dump_action
from tests import fakes
from tests.views.conftest import Pay
from tests.views.pages import Page

pytestmark = pytest.mark.django_db

STEPS = ("post_form", "script", "popup", "code", "image")
HOSTILE = "\"'><script>alert(1)</script>{{ 7|add:7 }}{% now 'Y' %}</title>"


def started(pay: Pay, answer: str, **values):
    return pay(
        provider=answer,
        status=PaymentStatus.PENDING,
        started_at=timezone.now(),
        next_action=dump_action(fakes.ACTIONS[answer]),
        **values,
    )


# What it shows ---------------------------------------------------------------------


def test_one_provider_is_one_button(client: Client, pay: Pay):
    payment = pay()

    response = client.get(payment.get_checkout_url())

    page = Page(response)
    assert response.status_code == 200
    assert page.text.count("Pay $26.30 with Fakepay") == 1
    assert "You will be taken to Fakepay" in page.text
    assert [form["method"] for form in page.all("form")] == ["post"]
    for words in (payment.order_id, "Cup", "$23.30", "Shipping", "$3.00", "$26.30"):
        assert words in page.text


def test_a_choice_is_one_form_for_each_provider(client: Client, pay: Pay, settings):
    settings.MULTIPAY = fakes.accounts(redirect="redirect", other="popup")

    page = Page(client.get(pay(provider=None).get_checkout_url()))

    hidden = [
        field["value"] for field in page.all("input") if field["name"] == "provider"
    ]
    assert hidden == ["redirect", "other"]
    assert len(page.all("form")) == 2
    assert "You will be taken to Other & Sons." in page.text


def test_only_providers_that_take_the_currency_are_offered(client: Client, pay: Pay):
    payment = pay(provider=None, amount=Money("10", "EUR"), items=[])

    page = Page(client.get(payment.get_checkout_url()))

    assert page.all("form") == []
    assert "cannot be made any more" in page.text


def test_an_expired_payment_has_no_button(client: Client, pay: Pay):
    payment = pay(expires_at=timezone.now() - timedelta(seconds=1))

    page = Page(client.get(payment.get_checkout_url()))

    assert page.all("form") == []
    assert "/cart/" in page.links


@pytest.mark.parametrize("answer", STEPS)
def test_each_next_step_has_its_page(client: Client, pay: Pay, answer: str):
    payment = started(pay, answer)

    response = client.get(payment.get_checkout_url())

    assert response.status_code == 200
    assert "$26.30" in Page(response).text
    policy = response["Cross-Origin-Opener-Policy"]
    assert policy == "same-origin-allow-popups"


def test_a_form_carries_every_field(client: Client, pay: Pay):
    page = Page(client.get(started(pay, "post_form").get_checkout_url()))

    (form,) = page.all("form")
    assert form["action"] == f"{fakes.HOST}/form"
    fields = {field["name"]: field["value"] for field in page.all("input")}
    assert fields == {"items": "two", "memo": '"><script>'}


def test_a_script_is_described_by_data(client: Client, pay: Pay):
    payment = started(pay, "script")

    page = Page(client.get(payment.get_checkout_url()))

    (data,) = (tag for tag in page.all("script") if "id" in tag)
    assert data == {"id": "multipay-next-action", "type": "application/json"}
    raw = page.markup.split('type="application/json">')[1].split("</script>")[0]
    assert json.loads(raw) == payment.next_action
    assert not any(
        tag.get("src", "").startswith(fakes.HOST) for tag in page.all("script")
    )
    (block,) = (tag for tag in page.all("div") if "data-multipay-call" in tag)
    assert block["data-state-url"] == reverse("multipay:state", args=[payment.uuid])
    assert block["data-outcome-url"] == payment.get_outcome_url()
    assert page.all("noscript")


def test_a_code_is_drawn_and_has_its_ways_out(client: Client, pay: Pay):
    page = Page(client.get(started(pay, "code").get_checkout_url()))

    assert [tag for tag in page.all("svg") if "class" not in tag]
    assert {"fake://pay", f"{fakes.HOST}/page"} <= page.links
    assert "2100-01-02T03:04:00+00:00" in page.markup


def test_a_script_is_no_deep_link(client: Client, pay: Pay):
    page = Page(client.get(started(pay, "image").get_checkout_url()))

    assert f"{fakes.HOST}/code.png" in page.links
    assert "javascript:" not in page.markup


@pytest.mark.parametrize("answer", ["redirect", *STEPS])
def test_nothing_is_inline(client: Client, pay: Pay, answer: str):
    urls = [pay().get_checkout_url(), started(pay, answer).get_checkout_url()]

    for url in urls:
        response = client.get(url)
        if response.status_code == 200:
            assert Page(response).inline_code() == []


@pytest.mark.parametrize("answer", STEPS)
def test_what_the_shop_wrote_is_only_text(client: Client, pay: Pay, answer: str):
    words = {
        "order_id": HOSTILE[:64],
        "description": HOSTILE,
        "items": [LineItem(name=HOSTILE, unit_price=Money("26.30", "USD"))],
    }
    urls = [
        pay(**words).get_checkout_url(),
        started(pay, answer, **words).get_checkout_url(),
        pay(status=PaymentStatus.PAID, **words).get_outcome_url(),
    ]

    for url in urls:
        page = Page(client.get(url))
        assert page.inline_code() == []
        assert page.text.count(HOSTILE) >= 2
        assert "<script>alert" not in page.markup


# What a click does --------------------------------------------------------------------


def test_get_never_starts(client: Client, pay: Pay):
    payment = pay()

    for _ in range(2):
        client.get(payment.get_checkout_url())
        client.head(payment.get_checkout_url())

    payment.refresh_from_db()
    assert payment.status == PaymentStatus.CREATED
    assert fakes.FakeProvider.starts == []


def test_post_needs_the_csrf_token(pay: Pay):
    client = Client(enforce_csrf_checks=True)
    payment = pay()

    assert client.post(payment.get_checkout_url()).status_code == 403
    assert fakes.FakeProvider.starts == []

    page = Page(client.get(payment.get_checkout_url()))
    fields = {field["name"]: field["value"] for field in page.all("input")}
    assert client.post(payment.get_checkout_url(), fields).status_code == 303


def test_post_sends_the_buyer_to_the_provider(client: Client, pay: Pay):
    payment = pay()

    response = client.post(payment.get_checkout_url(), {"provider": "redirect"})

    assert response.status_code == 303
    assert response["Location"] == f"{fakes.HOST}/page"


@pytest.mark.parametrize("answer", STEPS)
def test_post_leads_to_a_page_that_can_be_loaded_again(
    client: Client, pay: Pay, answer: str
):
    payment = pay(provider=answer)

    response = client.post(payment.get_checkout_url())

    assert response.status_code == 303
    assert response["Location"] == payment.get_checkout_url()
    assert client.get(payment.get_checkout_url()).status_code == 200


def test_two_posts_start_once(client: Client, pay: Pay):
    payment = pay()

    answers = [client.post(payment.get_checkout_url()) for _ in range(2)]

    assert [answer["Location"] for answer in answers] == [f"{fakes.HOST}/page"] * 2
    assert len(fakes.FakeProvider.starts) == 1


def test_no_next_step_leads_to_the_outcome_and_starts_once(client: Client, pay: Pay):
    payment = pay(provider=fakes.NOTHING)

    for _ in range(2):
        response = client.post(payment.get_checkout_url(), follow=True)
        assert response.redirect_chain[-1][0] == payment.get_outcome_url()

    assert len(fakes.FakeProvider.starts) == 1


def test_the_choice_is_kept(client: Client, pay: Pay):
    payment = pay(provider=None)

    client.post(payment.get_checkout_url(), {"provider": "popup"})
    client.post(payment.get_checkout_url(), {"provider": "code"})

    payment.refresh_from_db()
    assert payment.provider == "popup"
    assert len(fakes.FakeProvider.starts) == 1


@pytest.mark.parametrize("provider", ["", "nobody", "../x", "<script>"])
def test_a_choice_that_is_none_is_refused(client: Client, pay: Pay, provider: str):
    payment = pay(provider=None)

    response = client.post(payment.get_checkout_url(), {"provider": provider})

    page = Page(response)
    assert response.status_code == 409
    assert "choose again" in page.text
    assert page.all("form")
    assert page.inline_code() == []


@pytest.mark.parametrize("answer", list(fakes.ERRORS))
def test_a_provider_that_is_away_can_be_tried_again(
    client: Client, pay: Pay, answer: str
):
    payment = pay(provider=answer)

    response = client.post(payment.get_checkout_url())

    page = Page(response)
    assert response.status_code == 503
    assert "could not be opened just now" in page.text
    assert page.all("form")
    assert page.inline_code() == []


def test_a_payment_that_is_being_opened_is_waited_for(client: Client, pay: Pay):
    payment = pay()
    payment.operations.create(
        kind="checkout",
        open_slot=f"checkout:{payment.pk}",
        state="in_flight",
        lease_until=timezone.now() + timedelta(days=2),
    )

    response = client.post(payment.get_checkout_url())

    page = Page(response)
    assert response.status_code == 202
    refreshes = [tag for tag in page.all("meta") if "http-equiv" in tag]
    assert [tag["content"] for tag in refreshes] == [
        f"2; url={payment.get_checkout_url()}"
    ]
    assert fakes.FakeProvider.starts == []


@pytest.mark.parametrize(
    "status",
    sorted(set(PaymentStatus.values) - {"created", "pending"}),
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_payment_past_its_start_leads_to_its_outcome(
    client: Client, pay: Pay, status: str, method: str
):
    payment = pay(status=status)

    response = getattr(client, method)(payment.get_checkout_url())

    assert response.status_code == 302
    assert response["Location"] == payment.get_outcome_url()
    assert fakes.FakeProvider.starts == []


# Around it -----------------------------------------------------------------------------


def test_headers(client: Client, pay: Pay):
    response = client.get(pay().get_checkout_url())

    assert response["X-Frame-Options"] == "DENY"
    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] == "same-origin"


def test_unknown_payment_and_method(client: Client, pay: Pay):
    url = pay().get_checkout_url()
    unknown = "/payments/00000000-0000-4000-8000-000000000000/"

    assert client.put(url).status_code == 405
    for page in ("", "outcome/", "state/"):
        assert client.get(f"{unknown}{page}").status_code == 404


@pytest.mark.parametrize("answer", ["", *STEPS])
def test_one_query_shows_it(
    client: Client, pay: Pay, django_assert_num_queries, answer: str
):
    payment = started(pay, answer) if answer else pay(provider=None)

    with django_assert_num_queries(1):
        client.get(payment.get_checkout_url())


def test_guests_are_let_in(client: Client, pay: Pay, settings):
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    payment = pay()

    for name in ("checkout", "outcome", "state"):
        url = reverse(f"multipay:{name}", args=[payment.uuid])
        assert client.get(url).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_atomic_requests_do_not_hold_a_transaction(
    client: Client, pay: Pay, monkeypatch
):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    payment = pay()

    response = client.post(payment.get_checkout_url())

    assert response["Location"] == f"{fakes.HOST}/page"
