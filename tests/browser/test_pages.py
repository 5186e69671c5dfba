"""Every page a buyer can see, in a real browser: large and small, with and without
scripts, light and dark, under a strict policy.

Needs Chromium; run with ``python -m pytest -m browser``. The provider is made up and
answers from here. Each page is kept as a picture in ``screenshots/``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from pytest_django import Settings

from django_multipay.enums import DeclineCode, PaymentStatus, Purpose
from django_multipay.flows.links import callback_url
from django_multipay.messages import dump_action
from django_multipay.models import Payment
from tests import fakes
from tests.browser.stage import SCREENSHOTS
from tests.views.conftest import Pay, fake_accounts, pay

__all__ = ["fake_accounts", "pay"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

HEAVIEST = 50_000
"""Bytes of a page with all it loads."""

LOOKS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {
        "viewport": {"width": 360, "height": 740},
        "color_scheme": "dark",
        "has_touch": True,
    },
}

SDK = """
window.FAKE = {
  pay: (payload) => {
    const form = document.createElement("form");
    form.method = "post";
    form.action = "https://pay.example/hosted";
    if (payload.display === "P") {
      if (!window.open("", "popOpen", "width=500,height=600")) return;
      form.target = "popOpen";
    }
    document.body.append(form);
    form.submit();
  },
};
"""
"""Sends a form as Eximbay's script does, in this window or in one of its own."""
HOSTED = "<!DOCTYPE html><title>Fakepay</title><h1>At the provider</h1>"


@pytest.fixture(scope="module", autouse=True)
def _database_beside_the_browser() -> Iterator[None]:
    # Playwright's loop runs in this thread; the tests themselves are not async.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield


def provider(route: Route) -> None:
    """Answer as the provider's servers do."""
    url = route.request.url
    if url.endswith("sdk.js"):
        route.fulfill(body=SDK, content_type="text/javascript")
    elif url.endswith(".js"):
        route.fulfill(body="", content_type="text/javascript")
    elif url.endswith(".png"):
        route.fulfill(body=PIXEL, content_type="image/png")
    else:
        route.fulfill(body=HOSTED, content_type="text/html")


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f64540"
    "0000000049454e44ae426082"
)


@pytest.fixture
def visitor(
    browser: Browser, live_server: Any, pay: Pay, settings: Settings
) -> Iterator[Callable[..., Page]]:
    """Let somebody come with a browser of their own.

    Script errors and what the policy forbids fail the test.
    """
    settings.MULTIPAY |= {"SITE_URL": live_server.url}
    settings.MIDDLEWARE = ["tests.views.policy.nonce_middleware", *settings.MIDDLEWARE]
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def note(message: Any) -> None:
        if "Content Security Policy" in message.text:
            problems.append(message.text)

    def come(look: str = "desktop", **more: Any) -> Page:
        context = browser.new_context(
            **{**LOOKS[look], "locale": "en-US", **more}, base_url=live_server.url
        )
        context.route(f"{fakes.HOST}/**", provider)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", note)
        page.set_default_timeout(10_000)
        return page

    yield come
    for context in contexts:
        context.close()
    assert not problems


# Every page ------------------------------------------------------------------------------

DEPOSIT = {
    "virtual_account_number": "27490176218341",
    "virtual_account_bank_name": "Shinhan Bank",
    "virtual_account_depositor": "EXIMBAY",
}
SOON = datetime(2100, 1, 3, 15, 0, tzinfo=UTC)


def started(pay: Pay, answer: str, **values: Any) -> Payment:
    return pay(
        provider=answer,
        status=PaymentStatus.PENDING,
        started_at=timezone.now(),
        next_action=dump_action(fakes.ACTIONS[answer]),
        **values,
    )


def declined(pay: Pay, **values: Any) -> Payment:
    return pay(
        status=PaymentStatus.FAILED,
        started_at=timezone.now(),
        decline_code=DeclineCode.INSUFFICIENT_FUNDS,
        **values,
    )


def every_page(pay: Pay) -> dict[str, tuple[str, str]]:
    """Return name → address and words that are on the page, with or without scripts."""

    def outcome(status: PaymentStatus, **values: Any) -> str:
        return pay(status=status, **values).get_outcome_url()

    late = timezone.now() - timedelta(minutes=1)
    return {
        "choice": (pay(provider=None).get_checkout_url(), "Choose how to pay"),
        "one way": (pay("other").get_checkout_url(), "Pay $26.30 with Other & Sons"),
        "declined": (declined(pay, is_provider_open=True).get_checkout_url(), "funds"),
        "try again": (
            f"{declined(pay, is_provider_open=True).get_checkout_url()}retry/",
            "The last attempt did not go through.",
        ),
        "too late": (
            pay(expires_at=late).get_checkout_url(),
            "The time to pay is over",
        ),
        "code": (started(pay, "code").get_checkout_url(), "Scan to pay"),
        "image": (started(pay, "image").get_checkout_url(), "Scan to pay"),
        "form": (started(pay, "post_form").get_checkout_url(), "To pay"),
        "script": (started(pay, "script").get_checkout_url(), "To pay"),
        "popup": (started(pay, "popup").get_checkout_url(), "To pay"),
        "open": (outcome(PaymentStatus.CREATED), "Not paid yet"),
        "waiting": (
            started(pay, "redirect").get_outcome_url(),
            "Waiting for the confirmation",
        ),
        "deposit": (
            outcome(PaymentStatus.AWAITING_FUNDS, details=DEPOSIT, expires_at=SOON),
            "27490176218341",
        ),
        "store": (
            outcome(
                PaymentStatus.AWAITING_FUNDS,
                details={"payment_url": f"{fakes.HOST}/store"},
            ),
            "Show the payment instructions",
        ),
        "review": (outcome(PaymentStatus.IN_REVIEW), "being checked"),
        "paid": (outcome(PaymentStatus.PAID), "Thank you"),
        "failed": (
            declined(pay, is_provider_open=True).get_outcome_url(),
            "There are not enough funds.",
        ),
        "canceled": (outcome(PaymentStatus.CANCELED), "canceled"),
        "expired": (outcome(PaymentStatus.EXPIRED), "The time to pay is over"),
        "refunded": (
            outcome(PaymentStatus.REFUNDED, captured_minor=2630, refunded_minor=2630),
            "The money was given back",
        ),
        "part refunded": (
            outcome(
                PaymentStatus.PARTIALLY_REFUNDED,
                captured_minor=2630,
                refunded_minor=500,
            ),
            "$5.00 of $26.30",
        ),
    }


@pytest.fixture
def many_ways(fake_accounts: Settings) -> None:
    fake_accounts.MULTIPAY = {
        "PROVIDERS": {
            **fake_accounts.MULTIPAY["PROVIDERS"],
            **fakes.accounts(redirect="redirect:card kakao code", other="redirect")[
                "PROVIDERS"
            ],
        }
    }
    # One account for each answer would be a long list.
    for alias in (*fakes.ERRORS, fakes.NOTHING, "script", "popup", "code", "image"):
        fake_accounts.MULTIPAY["PROVIDERS"][alias]["METHODS"] = ["bank"]
    fake_accounts.MULTIPAY["PROVIDERS"]["post_form"]["METHODS"] = ["bank"]
    fake_accounts.MULTIPAY["PROVIDERS"]["redirect"]["METHODS"] = [
        *("card", "kakao", "code", "")
    ]


@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_whole(visitor, pay, live_server, many_ways, look, has_scripts):
    page = visitor(look, java_script_enabled=has_scripts)
    # A page that goes on by itself stays to be seen.
    page.add_init_script(
        "for (const name of ['submit', 'requestSubmit'])"
        " HTMLFormElement.prototype[name] = () => {}"
    )
    seen: list[tuple[str, int]] = []
    page.on(
        "response",
        lambda response: (
            seen.append((response.url, len(response.body())))
            if response.status == 200
            else None
        ),
    )
    for name, (address, words) in every_page(pay).items():
        seen.clear()
        page.goto(address)
        expect(page.locator("main")).to_contain_text(words)
        suffix = look if has_scripts else f"{look}-plain"
        keep_picture(page, f"pages-{name.replace(' ', '-')}-{suffix}.png")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"
        ours = [size for url, size in seen if url.startswith(live_server.url)]
        assert 0 < sum(ours) < HEAVIEST, f"{name} weighs {sum(ours)} bytes"
        # What a provider must show or run itself comes from the provider alone.
        foreign = [url for url, _ in seen if not url.startswith(live_server.url)]
        assert all(url.startswith(f"{fakes.HOST}/") for url in foreign), name
        assert not foreign or name in {"image", "script", "popup"}, name
        if has_scripts:
            assert_accessible(page, name)


def keep_picture(page: Page, file: str) -> None:
    """Keep the whole page, as its own device shows it.

    A picture of more than the window would be one of a device with a mouse.
    """
    window = page.viewport_size
    assert window
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({**window, "height": height})
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / file)
    page.set_viewport_size(window)


def assert_accessible(page: Page, name: str) -> None:
    found = Axe().run(page).response["violations"]
    serious = [
        (rule["id"], rule["nodes"][0]["html"][:200])
        for rule in found
        if rule["impact"] in {"serious", "critical"}
    ]
    assert not serious, (name, serious)


# What happens on them --------------------------------------------------------------------


def from_shop(page: Page, live_server: Any, address: str) -> None:
    """Come as a buyer comes who pressed a button of this very shop."""
    page.route(
        f"{live_server.url}/shop/",
        lambda route: route.fulfill(
            body=f'<!DOCTYPE html><title>Shop</title><a href="{address}">Pay</a>',
            content_type="text/html",
        ),
    )
    page.goto("/shop/")
    page.get_by_role("link", name="Pay").click()


def settle(payment: Payment, status: PaymentStatus = PaymentStatus.PAID) -> None:
    Payment.objects.filter(pk=payment.pk).update(status=status, next_action=None)


def test_one_way_is_gone_straight_and_back_is_not(visitor, pay, live_server):
    page = visitor()
    from_shop(page, live_server, pay("post_form").get_checkout_url())
    expect(page.get_by_role("heading", name="At the provider")).to_be_visible()
    assert page.url == f"{fakes.HOST}/form"

    with page.expect_event("domcontentloaded"):
        page.go_back()
    # Whether the browser keeps a page that went on by itself is its own affair; who
    # comes back to it is not sent away again.
    shop = page.get_by_role("link", name="Pay", exact=True)
    button = page.get_by_role("button", name="Continue to Fakepay")
    expect(shop.or_(button)).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(shop.or_(button)).to_be_visible()


def test_who_comes_by_a_link_reads_first_what_there_is_to_pay(visitor, pay):
    page = visitor()
    payment = pay("nothing")

    page.goto(payment.get_checkout_url(), wait_until="networkidle")

    expect(page.get_by_role("button", name="Pay $26.30")).to_be_visible()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.CREATED


def test_the_way_of_last_time_is_first_the_next_time(visitor, pay, many_ways):
    page = visitor()
    page.goto(pay(None).get_checkout_url())
    assert page.locator("[data-way]").first.get_attribute("data-way") == "redirect:card"
    page.get_by_role("button", name="KakaoPay").click()
    expect(page.get_by_role("heading", name="At the provider")).to_be_visible()

    page.goto(pay(None).get_checkout_url())

    first = page.locator("[data-way]").first
    expect(first).to_contain_text("KakaoPay")
    expect(first.get_by_text("Last time")).to_be_visible()
    expect(page.locator("[data-last]:visible")).to_have_count(1)
    # It holds nothing about anybody, and no server hears of it.
    kept = page.evaluate("JSON.stringify(Object.entries(localStorage))")
    assert kept == '[["multipay-way","redirect:kakao"]]'
    assert {cookie["name"] for cookie in page.context.cookies()} == {"csrftoken"}


def test_a_decline_leads_to_another_way(visitor, pay, many_ways):
    page = visitor("phone")
    first = declined(
        pay,
        provider="redirect",
        method="card",
        is_provider_open=True,
        is_method_open=True,
    )
    page.goto(first.get_outcome_url())
    expect(page.locator("main")).to_contain_text("There are not enough funds.")
    page.get_by_role("link", name="Try again").click()
    expect(page.locator("main")).to_contain_text("Please use another card")
    expect(page.locator("[data-way='redirect:card']")).to_contain_text("Tried")

    page.get_by_role("button", name="KakaoPay").click()

    expect(page.get_by_role("heading", name="At the provider")).to_be_visible()
    second = Payment.objects.get(retry_of=first)
    assert (second.method, second.status) == ("kakao", PaymentStatus.PENDING)


@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
def test_buttons_lead_on_with_and_without_scripts(visitor, pay, has_scripts):
    page = visitor(java_script_enabled=has_scripts)
    page.goto(pay("post_form").get_checkout_url())
    page.get_by_role("button", name="Pay $26.30").click()
    if not has_scripts:
        page.get_by_role("button", name="Continue to Fakepay").click()
    expect(page.get_by_role("heading", name="At the provider")).to_be_visible()

    waiting = started(pay, "redirect")
    page.goto(waiting.get_outcome_url())
    settle(waiting)
    if has_scripts:
        expect(page.locator("[data-phase=paid]")).to_be_visible()
    else:
        refresh = page.locator("meta[http-equiv=refresh]").first
        assert refresh.get_attribute("content") == "10"
        page.reload()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    expect(page.get_by_role("link", name="Back to the shop")).to_be_visible()


def test_without_scripts_the_popup_says_what_it_needs(visitor, pay):
    page = visitor(java_script_enabled=False)
    page.goto(started(pay, "popup").get_checkout_url())

    words = page.locator("noscript .multipay-alert")
    expect(words).to_be_visible()
    expect(words).to_contain_text("This way to pay needs JavaScript.")


def test_the_popup_closes_by_itself_and_the_page_goes_on(visitor, pay, live_server):
    page = visitor()
    payment = started(pay, "popup")
    page.goto(payment.get_checkout_url())
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Continue with Fakepay").click()
    popup = opened.value
    expect(popup.get_by_role("heading", name="At the provider")).to_be_visible()
    expect(page.get_by_text("Please finish in the payment window.")).to_be_visible()

    settle(payment)
    with popup.expect_event("close"):
        # As the provider's page does it, or the browser would cut it off its opener.
        url = f"{live_server.url}{payment.get_outcome_url()}"
        popup.evaluate("url => window.location.assign(url)", url)

    expect(page.locator("[data-phase=paid]")).to_be_visible()


def test_a_popup_that_is_blocked_can_be_opened_by_hand(visitor, pay):
    page = visitor()
    page.add_init_script(
        "window.blocks = 1; const open = window.open.bind(window);"
        "window.open = (...a) => window.blocks-- > 0 ? null : open(...a)"
    )
    page.goto(started(pay, "popup").get_checkout_url())
    page.get_by_role("button", name="Continue with Fakepay").click()
    expect(page.get_by_role("alert")).to_contain_text("blocked the payment window")

    with page.context.expect_page():
        page.get_by_role("button", name="Open the window", exact=True).click()

    expect(page.get_by_text("Please finish in the payment window.")).to_be_visible()


def test_where_no_window_may_be_opened_the_buyer_goes_on_in_this_one(
    visitor, pay, live_server
):
    page = visitor("phone")
    page.add_init_script("window.open = () => null")
    payment = started(pay, "popup")
    from_shop(page, live_server, payment.get_checkout_url())
    page.get_by_role("button", name="Continue with Fakepay").click()

    page.get_by_role("button", name="Continue in this window").click()

    expect(page.get_by_role("heading", name="At the provider")).to_be_visible()
    assert page.url == f"{fakes.HOST}/hosted"
    assert len(page.context.pages) == 1
    settle(payment)
    # As the provider's page does it; the window bears the name of a pop-up now.
    url = f"{live_server.url}{payment.get_outcome_url()}"
    page.evaluate("url => window.location.assign(url)", url)
    expect(page.locator("[data-phase=paid]")).to_be_visible()
    expect(page.get_by_role("link", name="Back to the shop")).to_be_visible()


def test_a_script_that_does_not_load_can_be_loaded_again(visitor, pay):
    page = visitor()
    page.context.route(f"{fakes.HOST}/sdk.js", lambda route: route.abort(), times=1)
    page.goto(started(pay, "popup").get_checkout_url())
    expect(page.get_by_role("alert")).to_contain_text("Fakepay could not be reached")

    page.get_by_role("button", name="Try again").click()

    expect(page.get_by_role("button", name="Continue with Fakepay")).to_be_visible()


def test_a_code_runs_out_is_made_anew_and_turns_to_the_outcome(visitor, pay):
    page = visitor("phone")
    payment = started(pay, "code")
    page.clock.install(time=datetime(2100, 1, 2, 3, 3, 30, tzinfo=UTC))
    page.goto(payment.get_checkout_url())
    expect(page.get_by_role("timer")).to_have_text(re.compile("0:[23]\\d"))
    expect(page.get_by_role("link", name="Open the app on this phone")).to_be_visible()
    desk = visitor("desktop")
    desk.goto(payment.get_checkout_url())
    expect(desk.locator("figure")).to_be_visible()
    expect(desk.get_by_role("link", name="Open the app on this phone")).to_be_hidden()
    page.clock.run_for(31_000)
    expect(page.get_by_text("This code is no longer valid.")).to_be_visible()
    expect(page.locator("figure")).to_be_hidden()

    page.get_by_role("button", name="Get a new code").click()
    page.wait_for_load_state()
    payment.refresh_from_db()
    assert payment.action.data == "fake:new"

    settle(payment)
    page.clock.run_for(20_000)
    expect(page.locator("[data-phase=paid]")).to_be_visible()


def test_the_account_number_can_be_copied_and_mailed(visitor, pay):
    page = visitor("phone", permissions=["clipboard-read", "clipboard-write"])
    payment = pay(status=PaymentStatus.AWAITING_FUNDS, details=DEPOSIT)
    page.goto(payment.get_outcome_url())

    page.get_by_role("button", name="Copy").click()

    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "27490176218341"
    link = page.get_by_role("link", name="by e-mail").get_attribute("href")
    assert "27490176218341" in link


def test_after_paying_the_buyer_goes_on_unless_they_stay(visitor, pay):
    page = visitor()
    page.clock.install()
    payment = pay(status=PaymentStatus.PAID, success_url="/admin/login/")
    page.goto(payment.get_outcome_url())
    page.get_by_role("button", name="Stay on this page").click()
    page.clock.run_for(10_000)
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()

    page.reload()
    page.clock.run_for(10_000)
    page.wait_for_url("**/admin/login/")


def test_who_comes_back_sees_the_same_and_is_not_sent_away_again(visitor, pay):
    page = visitor()
    payment = pay(status=PaymentStatus.PAID, success_url="/admin/login/")
    page.goto(payment.get_outcome_url())
    expect(page.locator("[data-continuing]")).to_be_visible()
    page.get_by_role("link", name="Back to the shop").click()
    page.wait_for_url("**/admin/login/")

    page.go_back()

    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    expect(page.locator("[data-continuing]")).to_be_hidden()


def test_a_page_that_the_browser_kept_sends_nobody_away(visitor, pay):
    page = visitor()
    page.clock.install()
    payment = pay(status=PaymentStatus.PAID, success_url="/admin/login/")
    page.goto(payment.get_outcome_url())
    expect(page.locator("[data-continuing]")).to_be_visible()

    # Left, and brought back from memory with its timers.
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide'))")
    page.clock.run_for(10_000)

    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    expect(page.locator("[data-continuing]")).to_be_hidden()


def test_another_browser_and_a_foreign_form_see_the_same(visitor, pay, live_server):
    payment = started(pay, "redirect")
    path = urlsplit(callback_url(payment, Purpose.RETURN, None)).path
    settle(payment)
    page = visitor()
    page.context.route(
        f"{fakes.HOST}/done",
        lambda route: route.fulfill(
            body=f'<form method="post" action="{live_server.url}{path}">'
            "<button>Return</button></form>",
            content_type="text/html",
        ),
    )
    page.goto(f"{fakes.HOST}/done")

    page.get_by_role("button", name="Return").click()

    page.wait_for_url(f"**{payment.get_outcome_url()}")
    expect(page.locator("[data-phase=paid]")).to_be_visible()
    assert page.context.cookies(live_server.url) == []
    other = visitor("phone")
    other.goto(payment.get_outcome_url())
    expect(other.locator("[data-phase=paid]")).to_be_visible()
