"""A buyer with a real browser: shop, payment page, Eximbay's page, outcome, order.

Needs Chromium; run with ``python -m pytest -m browser``. Each page is kept as a
picture in ``screenshots/``, to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stage import Demo, picture, start_demo

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=["R", "P"], ids=["redirect", "popup"])
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Demo, str]]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("demo")
        yield start_demo(stack, folder, request.param), request.param


def order(page: Page, shop: str, size: str, display: str, currency: str) -> None:
    """Walk from the shelf through the payment page: it knows one way, so it goes on."""
    page.goto(shop)
    page.get_by_role("button", name=currency, exact=True).click()
    picture(page, f"1-shelf-{currency}", size, display)
    page.get_by_role("link", name="Tasting Box").first.click()
    page.get_by_role("button", name="Add to cart").click()
    page.goto(f"{shop}/cart/")
    page.get_by_role("link", name="Check out").click()
    page.get_by_label("Name").fill("Kim Minji")
    page.get_by_label("E-mail").fill("minji@example.com")
    page.get_by_label("Country").select_option("KR")
    picture(page, f"2-checkout-{currency}", size, display)
    page.get_by_role("button", name="Pay").click()


def to_eximbay(page: Page, display: str) -> Page:
    """Open Eximbay's page; return the window it is in."""
    if display == "R":
        page.wait_for_selector("[name=outcome]")
        return page
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Continue with Eximbay").click()
    popup = opened.value
    popup.wait_for_selector("[name=outcome]")
    return popup


def test_a_buyer_pays_and_sees_the_order_paid(demo, page, size):
    running, display = demo
    order(page, running.shop, size, display, "USD")
    eximbay = to_eximbay(page, display)
    picture(eximbay, "4-eximbay", size, display)
    eximbay.locator("button[name=outcome][value=approve]").click()

    page.wait_for_url("**/outcome/")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "paid")
    picture(page, "5-outcome", size, display)
    page.goto(f"{running.shop}/orders/")
    page.locator("a[href*='/orders/']").last.click()
    expect(page.locator("#order")).to_have_attribute("data-order-status", "paid")
    picture(page, "6-order", size, display)


@pytest.mark.parametrize("demo", ["P"], indirect=True)
@pytest.mark.parametrize("size", ["phone"], indirect=True)
def test_a_browser_that_opens_no_windows_pays_in_the_one_it_has(demo, page, size):
    running, display = demo
    page.add_init_script("window.open = () => null")
    order(page, running.shop, size, display, "USD")
    page.get_by_role("button", name="Continue with Eximbay").click()
    expect(page.get_by_text("Your browser blocked the payment window.")).to_be_visible()
    picture(page, "3-blocked", size, display)
    page.get_by_role("button", name="Continue in this window").click()

    page.locator("button[name=outcome][value=approve]").click()

    page.wait_for_url("**/outcome/")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "paid")
    expect(page.get_by_role("link", name="Back to the shop")).to_be_visible()


def test_a_buyer_who_is_declined_can_pay_again(demo, page, size):
    running, display = demo
    order(page, running.shop, size, display, "USD")
    to_eximbay(page, display).locator("button[name=outcome][value=decline]").click()

    page.wait_for_url("**/outcome/")
    picture(page, "7-declined", size, display)
    page.goto(f"{running.shop}/orders/")
    page.locator("a[href*='/orders/']").last.click()
    expect(page.locator("#order")).to_have_attribute(
        "data-order-status", "payment_failed"
    )
    page.get_by_role("button", name="Pay again").click()
    to_eximbay(page, display).locator("button[name=outcome][value=approve]").click()
    page.wait_for_url("**/outcome/")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "paid")


def test_a_deposit_turns_the_waiting_order_into_a_paid_one(demo, page, size):
    running, display = demo
    order(page, running.shop, size, display, "KRW")
    eximbay = to_eximbay(page, display)
    eximbay.locator("[value=P305]").first.check(force=True)
    picture(eximbay, "8-eximbay-krw", size, display)
    eximbay.locator("button[name=outcome][value=register]").click()

    page.wait_for_url("**/outcome/")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "deposit")
    picture(page, "9-deposit", size, display)
    books = page.request.get(f"{running.sandbox}/_control/eximbay/payments").json()
    waiting = [row for row in books if row["status"] == "REGISTERED"]
    paid = page.request.post(
        f"{running.sandbox}/_control/eximbay/payments/{waiting[-1]['order_id']}/deposit"
    )
    assert paid.ok
    page.goto(f"{running.shop}/orders/")
    page.locator("a[href*='/orders/']").last.click()
    for _ in range(20):
        if page.locator("#order").get_attribute("data-order-status") == "paid":
            break
        page.wait_for_timeout(500)
        page.reload()
    expect(page.locator("#order")).to_have_attribute("data-order-status", "paid")
