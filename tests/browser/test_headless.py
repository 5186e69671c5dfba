"""A buyer at the shop's own page, which pays through the REST API alone.

Needs Chromium; run with ``python -m pytest -m browser``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.stage import PATIENCE, SIZES, picture, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with visit(browser, SIZES["phone"]) as visitor:
        yield visitor


def order(page: Page, shop: str) -> list[str]:
    """Walk from the shelf to the ways to pay; return the URLs that were asked."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(shop)
    page.get_by_role("link", name="Tasting Box").first.click()
    page.get_by_role("button", name="Add to cart").click()
    page.goto(f"{shop}/headless/")
    page.get_by_label("Name").fill("Kim Minji")
    page.get_by_label("E-mail").fill("minji@example.com")
    page.get_by_label("Country").select_option("KR")
    page.get_by_role("button", name="Choose how to pay").click()
    expect(page.locator("[data-part=ways] button").first).to_be_visible()
    picture(page, "headless-ways", "phone", "R")
    return asked


def pay_with_payer(page: Page, outcome: str) -> None:
    page.locator("[data-part=ways]").get_by_role("button", name="Payer").click()
    page.locator(f"button[value={outcome}]").first.click()


def test_a_buyer_pays_without_the_payment_pages(demo, page):
    asked = order(page, demo.shop)
    pay_with_payer(page, "approve")
    page.wait_for_url("**/headless/")
    expect(page.locator("[data-part=verdict]")).to_have_text(
        "Paid. Thank you!", timeout=PATIENCE
    )
    picture(page, "headless-paid", "phone", "R")
    page.goto(f"{demo.shop}/orders/")
    page.locator("a[href*='/orders/']").last.click()
    expect(page.locator("#order")).to_have_attribute("data-order-status", "paid")
    secret = page.evaluate("JSON.parse(sessionStorage['headless-payment']).secret")
    assert secret
    assert not [url for url in asked if secret in url or secret[33:] in url]


def test_a_buyer_who_turned_back_goes_on_where_they_were(demo, page):
    order(page, demo.shop)
    pay_with_payer(page, "cancel")
    page.get_by_role("link", name="Back to the shop").click()
    page.wait_for_url("**/headless/")
    expect(page.locator("[data-part=status]")).to_have_attribute(
        "data-status", "pending", timeout=PATIENCE
    )
    page.get_by_role("button", name="Not paid yet? Continue").click()
    page.locator("button[value=approve]").first.click()
    page.wait_for_url("**/headless/")
    expect(page.locator("[data-part=verdict]")).to_have_text(
        "Paid. Thank you!", timeout=PATIENCE
    )


def test_a_buyer_who_was_declined_tries_again(demo, page):
    order(page, demo.shop)
    pay_with_payer(page, "decline")
    page.get_by_role("link", name="Back to the shop").click()
    page.wait_for_url("**/headless/")
    expect(page.locator("[data-part=status]")).to_have_attribute(
        "data-status", "failed", timeout=PATIENCE
    )
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("[data-part=ways] button").first).to_be_visible()
    pay_with_payer(page, "approve")
    page.wait_for_url("**/headless/")
    expect(page.locator("[data-part=verdict]")).to_have_text(
        "Paid. Thank you!", timeout=PATIENCE
    )


def test_the_page_of_the_api_shows_every_endpoint(demo, page):
    """Without anything from elsewhere: the scripts are the shop's own."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{demo.shop}/api/")
    expect(page.get_by_text("/refunds/", exact=True).first).to_be_visible()
    picture(page, "api", "phone", "R")
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {
        demo.shop.split("/")[2]
    }
