"""The page that tells how it went, and the state it asks for."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_multipay.enums import DeclineCode, PaymentStatus
from django_multipay.exceptions import ProviderUnavailable
from django_multipay.messages import dump_action
from django_multipay.models import Payment
from tests import fakes
from tests.views.conftest import Pay
from tests.views.pages import Page

pytestmark = pytest.mark.django_db

PHASES = {
    PaymentStatus.CREATED: ("open", "Not paid yet"),
    PaymentStatus.PENDING: ("waiting", "Waiting for the confirmation"),
    PaymentStatus.AWAITING_FUNDS: ("deposit", "Waiting for your deposit"),
    PaymentStatus.IN_REVIEW: ("review", "Your payment is being checked"),
    PaymentStatus.AUTHENTICATED: ("waiting", "Waiting for the confirmation"),
    PaymentStatus.AUTHORIZED: ("paid", "Thank you, your payment went through"),
    PaymentStatus.PAID: ("paid", "Thank you, your payment went through"),
    PaymentStatus.PARTIALLY_REFUNDED: (
        "refunded",
        "Part of the money was given back",
    ),
    PaymentStatus.REFUNDED: ("refunded", "The money was given back"),
    PaymentStatus.FAILED: ("failed", "The payment did not go through"),
    PaymentStatus.CANCELED: ("canceled", "The payment was canceled"),
    PaymentStatus.EXPIRED: ("expired", "The time to pay is over"),
}

STRANGERS = [
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "//evil.example/%2f..",
    "//evil.example:80/",
    "//user@evil.example/",
    "//testserver@evil.example/",
    "//testserver.evil.example/",
    "//evil.example#testserver",
    "//evil.example?testserver",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "\\\\\\evil.example",
    "/\\/evil.example",
    "/\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    "/\n/evil.example",
    "\n//evil.example",
    "/\r/evil.example",
    "\r\n//evil.example",
    "\x0b//evil.example",
    "\x1f//evil.example",
    "\x08//evil.example",
    " //evil.example",
    "http://evil.example",
    "https://evil.example",
    "HTTPS://EVIL.example",
    "https:evil.example",
    "http:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "http:///evil.example",
    "https:\\\\evil.example",
    "https:/\\evil.example",
    "http://\\evil.example",
    "https://testserver@evil.example/",
    "https://testserver:80@evil.example/",
    "https://testserver.evil.example/",
    "https://evil.example/testserver",
    "https://evil.example\\@testserver",
    "https://evil.example\\.testserver",
    "https://testserver\\@evil.example",
    "https://evil.example#@testserver/",
    "https://evil.example?@testserver/",
    "https://testserver:443@evil.example",
    "https://[::1]/",
    "https://[::1",
    "https://127.0.0.1.evil.example",
    "https://ⓔvil.example",
    "ftp://testserver/",
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "java\tscript:alert(1)",
    "\x01javascript:alert(1)",
    "javascript://testserver/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "blob:https://testserver/1",
    "file:///etc/passwd",
]


def outcome(client: Client, payment: Payment) -> Page:
    response = client.get(payment.get_outcome_url())
    assert response.status_code == 200
    return Page(response)


def state_of(client: Client, payment: Payment):
    return client.get(reverse("multipay:state", args=[payment.uuid])).json()


def block_of(page: Page) -> dict[str, str]:
    (block,) = (tag for tag in page.all("div") if "data-multipay-outcome" in tag)
    return block


def test_every_status_has_a_phase():
    assert set(PHASES) == set(PaymentStatus)


@pytest.mark.parametrize("status", PaymentStatus)
def test_every_phase_has_its_words(client: Client, pay: Pay, status: PaymentStatus):
    payment = pay(status=status)
    phase, title = PHASES[status]

    page = outcome(client, payment)

    assert page.text.count(title) == 2
    assert block_of(page)["data-phase"] == phase
    assert page.inline_code() == []
    assert len(page.all("h1")) == len(page.all("main")) == 1


@pytest.mark.parametrize("status", PaymentStatus)
def test_it_names_nobody(client: Client, pay: Pay, status: PaymentStatus):
    payment = pay(status=status)

    url = reverse("multipay:state", args=[payment.uuid])
    told = outcome(client, payment).markup + client.get(url).content.decode()

    for private in ("Ada", "Lovelace", "ada@", "buyer.example", "441234567"):
        assert private not in told
    assert payment.merchant_reference not in told


@pytest.mark.parametrize("status", PaymentStatus)
def test_state_says_where_it_stands(client: Client, pay: Pay, status: PaymentStatus):
    payment = pay(status=status)
    is_over = status in {"failed", "canceled", "expired"}

    assert state_of(client, payment) == {
        "status": status.value,
        "label": status.label,
        "phase": PHASES[status][0],
        "is_waiting": PHASES[status][0] == "waiting",
        "outcome_url": payment.get_outcome_url(),
        "next_url": "/cart/" if is_over else "/thanks/",
    }


def test_waiting_goes_on_without_scripts_and_can_be_resumed(client: Client, pay: Pay):
    payment = pay(
        status=PaymentStatus.PENDING,
        started_at=timezone.now(),
        next_action=dump_action(fakes.ACTIONS["redirect"]),
    )

    page = outcome(client, payment)

    assert "10" in {tag["content"] for tag in page.all("meta") if "http-equiv" in tag}
    assert payment.get_checkout_url() in page.links
    url = reverse("multipay:state", args=[payment.uuid])
    assert block_of(page)["data-state-url"] == url


def test_a_deposit_says_where_it_goes(client: Client, pay: Pay):
    payment = pay(
        status=PaymentStatus.AWAITING_FUNDS,
        details={
            "virtual_account_number": "27490176218341",
            "virtual_account_bank_name": "Shinhan <b>",
            "virtual_account_depositor": "EXIMBAY",
            "virtual_account_due_date": "2026-01-03 15:00",
        },
    )

    page = outcome(client, payment)

    for words in ("27490176218341", "Shinhan <b>", "EXIMBAY", "2026-01-03 15:00"):
        assert words in page.text
    copies = [tag["data-copy"] for tag in page.all("button") if "data-copy" in tag]
    assert copies == ["27490176218341"]


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [("https://pay.example/store", True), ("javascript:alert(1)", False)],
)
def test_a_store_payment_links_to_its_instructions(
    client: Client, pay: Pay, url: str, is_shown: bool
):
    payment = pay(status=PaymentStatus.AWAITING_FUNDS, details={"payment_url": url})

    assert (url in outcome(client, payment).links) is is_shown


@pytest.mark.parametrize("code", DeclineCode)
def test_a_failure_says_why_in_plain_words(client: Client, pay: Pay, code: DeclineCode):
    payment = pay(status=PaymentStatus.FAILED, decline_code=code)

    page = outcome(client, payment)

    assert "The order is not paid." in page.text
    assert (str(code.label) in page.text) is (code is not DeclineCode.GENERIC)
    assert "/cart/" in page.links


@pytest.mark.parametrize(("code", "says_try"), [("expired_card", False), ("", True)])
def test_a_failure_gives_one_piece_of_advice(
    client: Client, pay: Pay, code: str, says_try: bool
):
    payment = pay(status=PaymentStatus.FAILED, decline_code=code)

    page = outcome(client, payment)

    assert "Try again" in page.text
    assert ("You can try again, perhaps" in page.text) is says_try


def test_a_refund_says_how_much(client: Client, pay: Pay):
    payment = pay(
        status=PaymentStatus.PARTIALLY_REFUNDED,
        captured_minor=2630,
        refunded_minor=500,
    )

    assert "$5.00 of $26.30" in outcome(client, payment).text


def test_paid_leads_back_to_the_shop(client: Client, pay: Pay):
    page = outcome(client, pay(status=PaymentStatus.PAID))

    (link,) = (tag for tag in page.all("a") if "data-continue" in tag)
    assert link["href"] == "/thanks/"
    assert [tag for tag in page.all("button") if "data-stay" in tag]


@pytest.mark.parametrize("url", ["/thanks/?a=1", "http://testserver/thanks/"])
def test_own_addresses_are_links(client: Client, pay: Pay, url: str):
    payment = pay(status=PaymentStatus.PAID, success_url=url)

    assert url in outcome(client, payment).links
    assert state_of(client, payment)["next_url"] == url


@pytest.mark.parametrize("url", STRANGERS)
def test_foreign_addresses_are_never_links(client: Client, pay: Pay, url: str):
    addresses = {"success_url": url, "failure_url": url}
    paid = pay(status=PaymentStatus.PAID, **addresses)
    failed = pay(status=PaymentStatus.FAILED, **addresses)
    created = pay(**addresses)

    for payment in (paid, failed, created):
        assert state_of(client, payment)["next_url"] == ""
    pages = [
        outcome(client, paid),
        outcome(client, failed),
        Page(client.get(created.get_checkout_url())),
    ]
    for page in pages:
        assert url not in page.links
        assert not any("evil" in link for link in page.links)


def test_an_http_address_is_refused_on_https(client: Client, pay: Pay):
    payment = pay(status=PaymentStatus.PAID, success_url="http://testserver/thanks/")

    response = client.get(payment.get_outcome_url(), secure=True)

    assert "http://testserver/thanks/" not in Page(response).links


@pytest.mark.parametrize("status", PaymentStatus)
@pytest.mark.parametrize("name", ["outcome", "state"])
def test_headers(client: Client, pay: Pay, name: str, status: PaymentStatus):
    payment = pay(status=status)

    response = client.get(reverse(f"multipay:{name}", args=[payment.uuid]))

    assert not response.cookies
    assert response["X-Frame-Options"] == "DENY"
    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("name", ["outcome", "state"])
def test_they_are_only_read(client: Client, pay: Pay, name: str):
    url = reverse(f"multipay:{name}", args=[pay().uuid])

    assert client.post(url).status_code == 405


@pytest.mark.parametrize("name", ["outcome", "state"])
def test_one_query_tells_it(
    client: Client, pay: Pay, django_assert_num_queries, name: str
):
    payment = pay(status=PaymentStatus.PAID)

    with django_assert_num_queries(1):
        client.get(reverse(f"multipay:{name}", args=[payment.uuid]))


def test_an_inquiry_that_fails_does_not_fail_the_page(
    client: Client, pay: Pay, monkeypatch
):
    payment = pay(status=PaymentStatus.PENDING, sync_at=timezone.now())
    asked = []

    def fetch(provider: fakes.FakeProvider, query: object) -> None:
        asked.append(query)
        raise ProviderUnavailable("away", provider.alias)

    monkeypatch.setattr(fakes.FakeProvider, "fetch_payment", fetch)

    assert "Waiting" in outcome(client, payment).text
    assert state_of(client, payment)["phase"] == "waiting"
    assert len(asked) == 1


def test_a_payment_of_an_account_that_left_the_settings_stays_readable(
    client: Client, pay: Pay, settings
):
    pending = pay(status=PaymentStatus.PENDING, sync_at=timezone.now())
    settings.MULTIPAY = fakes.accounts()

    assert "Waiting" in outcome(client, pending).text
    assert client.get(pay(provider=None).get_checkout_url()).status_code == 200
