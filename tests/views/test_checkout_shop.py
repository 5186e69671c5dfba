"""What a shop builds on the pages: JSON, languages, policies, letters, own templates."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import unquote

import django
import pytest
from django.template import engines
from django.test import Client, RequestFactory
from django.utils import translation
from moneyed import Money

from django_multipay.enums import PaymentStatus
from django_multipay.messages import dump_action
from django_multipay.models import Payment
from django_multipay.views.languages import language_of
from django_multipay.views.letters import deposit_letter, link_letter
from tests import fakes
from tests.views.conftest import Pay
from tests.views.pages import Page

pytestmark = pytest.mark.django_db

JSON = {"accept": "application/json"}
DEPOSIT = {
    "virtual_account_number": "27490176218341",
    "virtual_account_bank_name": "Shinhan",
    "virtual_account_depositor": "EXIMBAY",
    "virtual_account_due_date": "2026-01-03 15:00",
}


# JSON ------------------------------------------------------------------------------------


def test_who_asks_for_json_can_draw_the_page(client: Client, pay: Pay, settings):
    settings.MULTIPAY = fakes.accounts(redirect="redirect: card", other="popup")
    payment = pay(provider=None)

    answer = client.get(payment.get_checkout_url(), headers=JSON)

    assert answer["Content-Type"] == "application/json"
    assert answer.json() == {
        "status": "created",
        "label": "created",
        "phase": "open",
        "is_waiting": False,
        "outcome_url": payment.get_outcome_url(),
        "next_url": "/thanks/",
        "amount": "26.30",
        "currency": "USD",
        "shown_amount": "$26.30",
        "problem": "",
        "action": None,
        "ways": [
            {
                "provider": "redirect",
                "provider_name": "Fakepay",
                "method": "card",
                "kind": "card",
                "name": "Card",
                "token": "",
            },
            {
                "provider": "other",
                "provider_name": "Other & Sons",
                "method": "",
                "kind": "page",
                "name": "Other & Sons",
                "token": "",
            },
        ],
    }
    assert "Ada" not in answer.content.decode()


@pytest.mark.parametrize("answer", list(fakes.ACTIONS))
def test_the_start_answers_with_the_next_action(client: Client, pay: Pay, answer: str):
    payment = pay(provider=answer)
    pressed = {"provider": answer, "method": ""}

    started = client.post(payment.get_checkout_url(), pressed, headers=JSON)
    again = client.get(payment.get_checkout_url(), headers=JSON)

    assert started.status_code == 200
    assert started.json()["action"] == dump_action(fakes.ACTIONS[answer])
    assert started.json()["status"] == "pending"
    assert again.json() == started.json()
    assert len(fakes.FakeProvider.starts) == 1


@pytest.mark.parametrize(
    ("provider", "status", "problem"),
    [("unavailable", 503, "unavailable"), ("nobody", 409, "invalid")],
)
def test_a_problem_has_a_word(
    client: Client, pay: Pay, provider: str, status: int, problem: str
):
    payment = pay(provider=None)

    answer = client.post(
        payment.get_checkout_url(), {"provider": provider}, headers=JSON
    )

    assert (answer.status_code, answer.json()["problem"]) == (status, problem)
    assert answer.json()["ways"]


def test_json_needs_the_csrf_token_too(pay: Pay):
    client = Client(enforce_csrf_checks=True)

    answer = client.post(pay().get_checkout_url(), headers=JSON)

    assert answer.status_code == 403


def test_a_browser_is_never_given_json(client: Client, pay: Pay):
    browsers = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for accept in (browsers, "*/*", "text/html", ""):
        answer = client.get(pay().get_checkout_url(), headers={"accept": accept})
        assert answer["Content-Type"].startswith("text/html")


# Languages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("ko", "ko"),
        ("ko-KR", "ko"),
        ("ko_KR", "ko"),
        ("KR", "ko"),
        ("ja", "ja"),
        ("JP", "ja"),
        ("zh", "zh-hans"),
        ("zh-CN", "zh-hans"),
        ("zh_Hans_CN", "zh-hans"),
        ("CN", "zh-hans"),
        ("zh-TW", "zh-hant"),
        ("tw", "zh-hant"),
        ("en-US", "en"),
        ("en_GB", "en-gb"),
        ("pt_BR", "pt-br"),
        ("xx", ""),
        ("", ""),
        ("../etc", ""),
        ("<b>", ""),
    ],
)
def test_locales_of_shops_and_providers_are_languages(locale: str, language: str):
    assert language_of(locale) == language


def test_a_site_speaks_only_its_own_languages(settings):
    settings.LANGUAGES = [("en", "English")]

    assert language_of("ko") == ""
    assert language_of("en-GB") == "en"


@pytest.mark.parametrize("path", ["", "outcome/", "state/"])
def test_pages_speak_the_language_of_the_payment(client: Client, pay: Pay, path: str):
    payment = pay(locale="de")

    with translation.override("fr"):
        answer = client.get(
            f"{payment.get_checkout_url()}{path}", headers={"accept-language": "fr"}
        )
        # What comes after the page is not ours.
        assert translation.get_language() == "fr"

    assert answer["Content-Language"] == "de"
    if path != "state/":
        assert '<html class="multipay" lang="de"' in answer.content.decode()
        # Amounts as they are written there; the words follow with the translations.
        assert "26,30\N{NO-BREAK SPACE}$" in answer.content.decode()


def test_without_a_locale_the_page_speaks_as_the_site_does(client: Client, pay: Pay):
    payment = pay()
    Payment.objects.update(locale="")

    with translation.override("fr"):
        answer = client.get(payment.get_checkout_url())

    assert answer["Content-Language"] == "fr"


# Policies -------------------------------------------------------------------------------


def nonces(page: Page) -> set[str]:
    loaded = [*page.all("script"), *page.all("link")]
    return {
        tag.get("nonce", "")
        for tag in loaded
        if "src" in tag or tag.get("rel") == "stylesheet"
    }


MIDDLEWARE = ["tests.views.policy.nonce_middleware"]
if django.VERSION >= (6, 0):
    MIDDLEWARE.append("django.middleware.csp.ContentSecurityPolicyMiddleware")


@pytest.mark.parametrize("middleware", MIDDLEWARE)
@pytest.mark.parametrize(
    "answer", ["redirect", *sorted(set(fakes.ACTIONS) - {"redirect"})]
)
def test_scripts_and_sheets_carry_the_nonce_of_the_policy(
    client: Client, pay: Pay, settings, middleware: str, answer: str
):
    settings.MIDDLEWARE = [middleware, *settings.MIDDLEWARE]
    # Django's own middleware reads it; nothing but the nonce lets scripts pass.
    policy = {"default-src": ["'none'"], "script-src": ["<CSP_NONCE_SENTINEL>"]}
    settings.SECURE_CSP = policy
    payment = pay(provider=answer)
    client.post(payment.get_checkout_url())
    for url in (pay().get_checkout_url(), payment.get_checkout_url()):
        response = client.get(url)
        if response.status_code != 200:
            continue
        (nonce,) = nonces(Page(response))
        assert nonce
        assert f"'nonce-{nonce}'" in response["Content-Security-Policy"]
    outcome = client.get(payment.get_outcome_url())
    (nonce,) = nonces(Page(outcome))
    assert f"'nonce-{nonce}'" in outcome["Content-Security-Policy"]


def test_without_a_policy_there_is_no_nonce(client: Client, pay: Pay):
    page = Page(client.get(pay().get_checkout_url()))

    assert nonces(page) == {""}
    assert "nonce" not in page.markup


# Letters --------------------------------------------------------------------------------


def test_a_deposit_letter_says_where_and_until_when(pay: Pay):
    request = RequestFactory().get("/")
    payment = pay(status=PaymentStatus.AWAITING_FUNDS, details=DEPOSIT)

    letter = deposit_letter(payment, request)

    assert letter.subject == f"How to pay $26.30 for order {payment.order_id}"
    for words in (*DEPOSIT.values(), "exactly $26.30", payment.order_id):
        assert words in letter.body
    assert f"http://testserver{payment.get_outcome_url()}" in letter.body


def test_a_convenience_store_letter_leads_to_the_instructions(pay: Pay):
    payment = pay(
        status=PaymentStatus.AWAITING_FUNDS,
        details={"payment_url": f"{fakes.HOST}/store?a=1&b=2"},
        expires_at=datetime(2100, 1, 3, 15, 0, tzinfo=UTC),
    )

    letter = deposit_letter(payment, RequestFactory().get("/"))

    assert f"{fakes.HOST}/store?a=1&b=2" in letter.body
    assert "Jan. 3, 2100, 3 p.m. UTC" in letter.body
    assert "account" not in letter.body


def test_a_letter_is_plain_text_and_its_subject_one_line(pay: Pay):
    payment = pay(order_id="A & <b>")
    Payment.objects.update(order_id="A & <b>\nBcc: eve@evil.example")
    payment.refresh_from_db()

    letter = link_letter(payment, RequestFactory().get("/"), note="See you <soon>")

    assert "\n" not in letter.subject
    assert letter.subject.endswith("A & <b> Bcc: eve@evil.example")
    assert "See you <soon>" in letter.body
    assert "Hello Ada Lovelace," in letter.body


def test_buyers_can_mail_the_deposit_to_themselves(client: Client, pay: Pay):
    payment = pay(status=PaymentStatus.AWAITING_FUNDS, details=DEPOSIT)

    page = Page(client.get(payment.get_outcome_url()))

    (link,) = (link for link in page.links if link.startswith("mailto:"))
    assert link.startswith("mailto:?subject=")
    assert "Account number: 27490176218341" in unquote(link)


def test_a_mail_link_that_no_program_takes_is_left_out(client: Client, pay: Pay):
    payment = pay(
        status=PaymentStatus.AWAITING_FUNDS,
        details={**DEPOSIT, "payment_url": f"{fakes.HOST}/{'x' * 2000}"},
    )

    page = Page(client.get(payment.get_outcome_url()))

    assert not [link for link in page.links if link.startswith("mailto:")]


# Own templates --------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["styles", "header", "summary", "footer", "problem"])
def test_a_shop_replaces_one_block_and_keeps_the_rest(
    client: Client, pay: Pay, settings, block: str
):
    name = "base" if block != "problem" else "checkout"
    loader = (
        "django.template.loaders.locmem.Loader",
        {
            "shop/page.html": f'{{% extends "multipay/{name}.html" %}}'
            f"{{% block {block} %}}<i>the shop's own</i>{{% endblock %}}"
        },
    )
    settings.TEMPLATES = [
        {
            **settings.TEMPLATES[0],
            "APP_DIRS": False,
            "OPTIONS": {
                "loaders": [loader, "django.template.loaders.app_directories.Loader"]
            },
        }
    ]
    template = engines["django"].get_template("shop/page.html")

    markup = template.render({"payment": pay(), "ways": [1, 2], "items": []})

    assert "<i>the shop's own</i>" in markup
    assert markup.count("<main") == markup.count("</html>") == 1


def test_the_json_of_an_action_survives_the_round_trip(pay: Pay, client: Client):
    payment = pay(provider="code")
    answer = client.post(payment.get_checkout_url(), headers=JSON)

    payment.refresh_from_db()
    assert json.loads(answer.content)["action"] == payment.next_action
    assert payment.amount == Money("26.30", "USD")
