"""The ways to pay: which are offered, which are remembered, and trying again."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.utils import timezone
from moneyed import Money

from django_multipay.enums import (
    DECLINE_ADVICE,
    DeclineCode,
    MethodKind,
    PaymentStatus,
    TokenStatus,
)
from django_multipay.exceptions import ProviderConfigurationError
from django_multipay.flows import ways_for
from django_multipay.messages import Buyer, Method, QRCode, dump_action
from django_multipay.models import Payment, Token
from django_multipay.registry import registry
from tests import fakes
from tests.views.conftest import Pay
from tests.views.pages import Page

pytestmark = pytest.mark.django_db

ALL = "redirect: card kakao code store bank"
MANY = fakes.accounts(redirect=ALL, other="popup", unavailable="unavailable: card")


@pytest.fixture(autouse=True)
def many_ways(fake_accounts):
    fake_accounts.MULTIPAY = MANY


def keys(payment: Payment) -> list[str]:
    return [way.key for way in ways_for(payment)]


def declined(pay: Pay, **values: object) -> Payment:
    return pay(
        status=PaymentStatus.FAILED,
        started_at=timezone.now(),
        **{"decline_code": DeclineCode.EXPIRED_CARD, "is_provider_open": True} | values,
    )


def retry_url(payment: Payment) -> str:
    return f"{payment.get_checkout_url()}retry/"


# Which are offered ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("currency", "country", "offered"),
    [
        ("USD", "", "card kakao code store"),
        ("USD", "JP", "card kakao code store"),
        ("USD", "KR", "card kakao code"),
        ("KRW", "kr", "card kakao code bank"),
        ("EUR", "", ""),
    ],
)
def test_the_methods_for_currency_and_country_are_offered(
    pay: Pay, currency: str, country: str, offered: str
):
    payment = pay(
        provider=None,
        amount=Money(26, currency),
        items=[],
        buyer=Buyer(country=country),
    )

    of_first = [key for key in keys(payment) if key.startswith("redirect:")]
    assert of_first == [f"redirect:{code}" for code in offered.split()]
    assert bool(offered) == ("other:" in keys(payment))


def test_a_provider_or_a_method_that_the_shop_chose_is_all_there_is(pay: Pay):
    assert keys(pay(provider="other")) == ["other:"]
    assert keys(pay(provider="redirect", method="kakao")) == ["redirect:kakao"]
    # The settings need not offer it to everybody.
    assert keys(pay(provider="other", method="kakao")) == ["other:kakao"]
    assert keys(pay(provider="other", method="unheard-of")) == ["other:unheard-of"]
    assert keys(pay(provider=None, method="card")) == [
        "redirect:card",
        "unavailable:card",
    ]


def test_each_way_says_what_it_is_and_where_it_leads(client: Client, pay: Pay):
    page = Page(client.get(pay(provider=None).get_checkout_url()))

    for words in ("Card", "KakaoPay", "Scanpay", "Convenience store", "Other & Sons"):
        assert words in page.text
    assert page.text.count("You will be taken to Fakepay.") == 5
    posted = [
        field["value"] for field in page.all("input") if field["name"] == "method"
    ]
    assert posted == ["card", "kakao", "code", "store", "", "card"]
    assert [tag for tag in page.all("form") if "data-multipay-straight" in tag] == []
    assert page.inline_code() == []


@pytest.mark.parametrize("kind", MethodKind)
def test_every_kind_has_a_drawing_of_its_own(kind: MethodKind):
    drawings = {
        other: render_to_string("multipay/parts/method.html", {"kind": other})
        for other in MethodKind
    }
    assert drawings[kind].count("<svg") == 1
    assert [*drawings.values()].count(drawings[kind]) == 1


@pytest.mark.parametrize(
    ("methods", "complaint"),
    [
        (["card", "cash"], "names 'cash'"),
        ([["card"]], "names"),
        ("card", "must be a list"),
        ([], "must be a list"),
    ],
)
def test_methods_that_the_provider_does_not_have_are_refused(
    settings, methods: object, complaint: str
):
    settings.MULTIPAY = fakes.accounts(redirect="redirect")
    settings.MULTIPAY["PROVIDERS"]["redirect"]["METHODS"] = methods

    with pytest.raises(ProviderConfigurationError, match=complaint) as caught:
        registry["redirect"]
    assert "'kakao'" in str(caught.value)


def test_without_methods_the_providers_own_page_is_the_way():
    assert registry["other"].offered == (Method(code="", kind=MethodKind.PAGE),)


# Pressing one ---------------------------------------------------------------------------


def test_the_pressed_way_is_what_the_provider_is_told(client: Client, pay: Pay):
    payment = pay(provider=None)

    response = client.post(
        payment.get_checkout_url(), {"provider": "redirect", "method": "kakao"}
    )

    assert response["Location"] == f"{fakes.HOST}/page"
    payment.refresh_from_db()
    assert (payment.provider, payment.method) == ("redirect", "kakao")
    assert [request.method for request in fakes.FakeProvider.starts] == ["kakao"]


@pytest.mark.parametrize(
    "pressed",
    [
        {"provider": "redirect", "method": "cash"},
        {"provider": "redirect", "method": "bank"},
        {"provider": "redirect"},
        {"provider": "other", "method": "card"},
        {"provider": "other", "method": "", "token": "1"},
        {"method": "card"},
    ],
)
def test_a_way_that_is_not_on_offer_is_refused(client: Client, pay: Pay, pressed: dict):
    payment = pay(provider=None)

    response = client.post(payment.get_checkout_url(), pressed)

    assert response.status_code == 409
    payment.refresh_from_db()
    assert payment.provider == ""
    assert fakes.FakeProvider.starts == []


def test_a_provider_that_is_away_does_not_stick(client: Client, pay: Pay):
    payment = pay(provider=None)

    refused = client.post(
        payment.get_checkout_url(), {"provider": "unavailable", "method": "card"}
    )

    page = Page(refused)
    assert refused.status_code == 503
    assert "Please choose another way to pay" in page.text
    assert page.text.count("Not now") == 1
    assert len(page.all("form")) == 6
    pressed = {"provider": "redirect", "method": "card"}
    assert client.post(payment.get_checkout_url(), pressed).status_code == 303


def test_one_way_is_straight_and_a_choice_is_not(client: Client, pay: Pay):
    def is_straight(url: str) -> bool:
        forms = Page(client.get(url)).all("form")
        return any("data-multipay-straight" in form for form in forms)

    assert is_straight(pay(provider="other").get_checkout_url())
    assert not is_straight(pay(provider=None).get_checkout_url())
    # Who was declined reads why first.
    failed = declined(pay, provider="other", is_provider_open=False)
    assert not is_straight(retry_url(failed))
    # Who tries again from the shop's own page has read it there.
    again = pay(provider="other", order_id=failed.order_id, retry_of=failed)
    assert is_straight(again.get_checkout_url())


# Saved before ---------------------------------------------------------------------------


@pytest.fixture
def at_home(settings, monkeypatch):
    """The shop knows who everybody is by a cookie; a provider takes what they saved."""
    monkeypatch.setattr(fakes.OtherProvider, "takes_saved_methods", True)
    settings.MULTIPAY = MANY | {
        "CUSTOMER_ID": lambda request: request.COOKIES.get("customer", "")
    }


def saved(customer_id: str = "ada", **values: object) -> Token:
    return Token.objects.create(
        **{
            "provider": "other",
            "customer_id": customer_id,
            "provider_token": f"secret of {customer_id}",
            "token_digest": f"{customer_id}{Token.objects.count()}",
            "brand": "VISA",
            "last4": "4242",
            **values,
        }
    )


def test_customers_see_what_they_saved_and_pay_by_it(client: Client, pay: Pay, at_home):
    token = saved()
    payment = pay(provider=None, customer_id="ada", save_token=True)
    Payment.objects.filter(pk=payment.pk).update(save_token=False)
    client.cookies["customer"] = "ada"

    page = Page(client.get(payment.get_checkout_url()))
    pressed = {"provider": "other", "method": "", "token": str(token.uuid)}
    response = client.post(payment.get_checkout_url(), pressed)

    assert "VISA •••• 4242" in page.text
    assert "secret of ada" not in page.markup
    assert response.status_code == 303
    (request,) = fakes.FakeProvider.starts
    assert (request.token, request.save_token) == ("secret of ada", False)


@pytest.mark.parametrize(
    ("who", "values"),
    [
        ("eve", {}),
        ("", {}),
        ("ada", {"status": TokenStatus.DELETED}),
        ("ada", {"expires_on": date(2020, 1, 31)}),
        ("ada", {"provider": "redirect"}),
        ("ada", {"customer_id": "eve"}),
    ],
    ids=["a stranger", "a guest", "deleted", "expired", "not taken", "another's"],
)
def test_nobody_else_sees_or_uses_it(
    client: Client, pay: Pay, at_home, who: str, values: dict
):
    token = saved(**values)
    payment = pay(provider=None, customer_id="ada")
    client.cookies["customer"] = who

    page = Page(client.get(payment.get_checkout_url()))
    pressed = {"provider": token.provider, "method": "", "token": str(token.uuid)}
    response = client.post(payment.get_checkout_url(), pressed)

    assert "4242" not in page.text
    assert response.status_code == 409
    assert fakes.FakeProvider.starts == []


@pytest.mark.parametrize("who", ["eve", "ADA", ""])
def test_a_link_shows_and_charges_nobody_elses_method(
    client: Client, pay: Pay, at_home, who: str
):
    payment = pay(provider="other", customer_id="ada", token=saved())
    url = payment.get_checkout_url()
    client.cookies["customer"] = who

    page = Page(client.get(url))
    answer = client.get(url, headers={"Accept": "application/json"})
    response = client.post(url, {"method": ""})

    assert "please log in at the shop" in page.text
    assert "4242" not in page.text
    assert answer.json()["ways"] == []
    assert response.status_code == 409
    assert fakes.FakeProvider.starts == []
    # Their own customer pays by the same link.
    client.cookies["customer"] = "ada"
    assert "VISA •••• 4242" in Page(client.get(url)).text
    assert client.post(url, {"method": ""}).status_code == 303
    (request,) = fakes.FakeProvider.starts
    assert request.token == "secret of ada"


def test_where_the_shop_names_no_customers_the_link_is_enough(
    client: Client, pay: Pay, at_home, settings
):
    settings.MULTIPAY = MANY
    payment = pay(provider="other", customer_id="ada", token=saved())
    assert "VISA •••• 4242" in Page(client.get(payment.get_checkout_url())).text


@pytest.mark.parametrize(
    "values", [{"capture_mode": "manual"}, {"method": "card"}, {"provider": "redirect"}]
)
def test_what_the_shop_decided_rules_it_out(
    client: Client, pay: Pay, at_home, values: dict
):
    saved()
    payment = pay(**{"provider": None, "customer_id": "ada"} | values)
    client.cookies["customer"] = "ada"

    assert "4242" not in client.get(payment.get_checkout_url()).content.decode()


def test_providers_that_cannot_do_what_the_shop_wants_are_not_offered(pay: Pay):
    reserved = pay(provider=None, capture_mode="manual")
    kept = pay(provider=None, customer_id="ada", save_token=True)

    Payment.objects.filter(pk=kept.pk).update(save_token=True)
    kept.refresh_from_db()
    assert keys(reserved) == keys(kept) == []
    assert keys(pay(provider="other", capture_mode="manual")) == ["other:"]


# Trying again ----------------------------------------------------------------------------


def test_every_reason_has_its_advice():
    assert set(DECLINE_ADVICE) == set(DeclineCode)


@pytest.mark.parametrize("code", DeclineCode)
def test_the_page_says_why_and_offers_every_way(
    client: Client, pay: Pay, code: DeclineCode
):
    payment = declined(pay, decline_code=code)

    page = Page(client.get(retry_url(payment)))

    assert "The last attempt did not go through." in page.text
    assert str(DECLINE_ADVICE[code]) in page.text
    assert (str(code.label) in page.text) is (code is not DeclineCode.GENERIC)
    assert len(page.all("form")) == 6
    assert {form["action"] for form in page.all("form")} == {retry_url(payment)}
    assert Payment.objects.count() == 1


def test_the_way_that_failed_is_marked(client: Client, pay: Pay):
    payment = declined(pay, provider="redirect", method="kakao", is_method_open=True)

    page = Page(client.get(retry_url(payment)))

    assert page.text.count("Tried") == 1


def test_trying_again_is_a_new_payment_of_the_same_order(client: Client, pay: Pay):
    first = declined(pay)

    pressed = {"provider": "redirect", "method": "card"}
    _, response = (client.post(retry_url(first), pressed) for _ in range(2))

    second = Payment.objects.get(retry_of=first)
    assert (second.order_id, second.status) == (first.order_id, PaymentStatus.PENDING)
    assert (second.provider, second.method) == ("redirect", "card")
    # The second press finds the attempt of the first.
    assert response["Location"] == second.get_checkout_url()
    assert len(fakes.FakeProvider.starts) == 1
    assert Payment.objects.count() == 2


def test_an_attempt_that_does_not_start_can_be_chosen_again(client: Client, pay: Pay):
    first = declined(pay)

    response = client.post(
        retry_url(first), {"provider": "unavailable", "method": "card"}
    )

    second = Payment.objects.get(retry_of=first)
    page = Page(response)
    assert response.status_code == 503
    assert {form["action"] for form in page.all("form")} == {second.get_checkout_url()}
    again = Page(client.get(second.get_checkout_url()))
    assert "The card has expired." in again.text


def test_an_old_page_leads_to_the_newest_attempt(client: Client, pay: Pay):
    first = declined(pay)
    client.post(retry_url(first), {"provider": "redirect", "method": "card"})
    second = Payment.objects.get(retry_of=first)

    assert client.get(retry_url(first))["Location"] == second.get_checkout_url()
    page = Page(client.get(first.get_outcome_url()))
    assert second.get_checkout_url() in page.links


@pytest.mark.parametrize(
    "status", sorted(set(PaymentStatus) - {"failed", "canceled", "expired"})
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_what_can_still_be_paid_is_not_tried_again(
    client: Client, pay: Pay, status: str, method: str
):
    payment = pay(status=status)

    response = getattr(client, method)(retry_url(payment))

    assert response.status_code == 303
    assert response["Location"] == payment.get_outcome_url()
    assert Payment.objects.count() == 1


def test_after_the_shops_deadline_nothing_is_offered(client: Client, pay: Pay):
    payment = declined(pay, pay_until=timezone.now() - timedelta(seconds=1))

    page = Page(client.get(payment.get_outcome_url()))

    assert retry_url(payment) not in page.links
    assert client.get(retry_url(payment))["Location"] == payment.get_outcome_url()


def test_an_order_that_was_paid_is_not_paid_again(client: Client, pay: Pay):
    first = declined(pay)
    second = pay(provider=None, retry_of=first, order_id=first.order_id)
    Payment.objects.filter(pk=first.pk).update(
        status=PaymentStatus.PAID, captured_minor=2630
    )

    response = client.get(second.get_checkout_url())

    assert response["Location"] == first.get_outcome_url()


def test_a_failed_attempt_of_a_paid_order_says_so(client: Client, pay: Pay):
    first = declined(pay)
    second = pay(
        retry_of=first,
        order_id=first.order_id,
        status=PaymentStatus.PAID,
        captured_minor=2630,
    )

    page = Page(client.get(first.get_outcome_url()))

    assert "the order is paid. Please do not pay again" in page.text
    assert second.get_outcome_url() in page.links
    assert retry_url(first) not in page.links


def test_trying_again_needs_the_csrf_token(pay: Pay):
    payment = declined(pay)
    client = Client(enforce_csrf_checks=True)

    assert client.post(retry_url(payment), {"provider": "other"}).status_code == 403
    assert Payment.objects.count() == 1


# A fresh code -----------------------------------------------------------------------------


def waiting(pay: Pay, answer: str) -> Payment:
    return pay(
        provider=answer,
        status=PaymentStatus.PENDING,
        started_at=timezone.now(),
        next_action=dump_action(fakes.ACTIONS["code"]),
    )


def test_a_fresh_code_is_asked_for_once_in_a_while(client: Client, pay: Pay):
    payment = waiting(pay, "redirect")
    assert "Get a new code" in Page(client.get(payment.get_checkout_url())).text

    for _ in range(5):
        response = client.post(f"{payment.get_checkout_url()}refresh/")
        assert response["Location"] == payment.get_checkout_url()

    payment.refresh_from_db()
    assert payment.action == QRCode(data="fake:new", expires_at=fakes.NEVER)
    assert len(fakes.FakeProvider.refreshes) == 1


def test_no_fresh_code_leaves_the_one_there_is(client: Client, pay: Pay):
    payment = waiting(pay, "unavailable")

    response = client.post(f"{payment.get_checkout_url()}refresh/")

    assert response.status_code == 503
    assert "There is no new code just now." in Page(response).text
    payment.refresh_from_db()
    assert payment.action == fakes.ACTIONS["code"]


@pytest.mark.parametrize("status", [PaymentStatus.CREATED, PaymentStatus.PAID])
def test_where_nothing_is_to_be_scanned_there_is_no_fresh_code(
    client: Client, pay: Pay, status: PaymentStatus
):
    payment = pay(status=status)

    assert client.post(f"{payment.get_checkout_url()}refresh/").status_code == 303
    assert client.get(f"{payment.get_checkout_url()}refresh/").status_code == 405
    assert fakes.FakeProvider.refreshes == []


def test_a_code_for_another_amount_is_shown_to_nobody(
    client: Client, pay: Pay, monkeypatch
):
    payment = waiting(pay, "redirect")
    fresh = fakes.FakeProvider.refresh_action

    def cheaper(self, query):
        return replace(fresh(self, query), amount=Money("1.00", "USD"))

    monkeypatch.setattr(fakes.FakeProvider, "refresh_action", cheaper)

    assert client.post(f"{payment.get_checkout_url()}refresh/").status_code == 503
    payment.refresh_from_db()
    assert payment.action == fakes.ACTIONS["code"]
