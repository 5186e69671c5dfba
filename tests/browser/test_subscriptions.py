"""A buyer with a real browser gets the coffee box, and a person moves the clock.

Needs Chromium; run with ``python -m pytest -m browser``. Each page is kept as a
picture in ``screenshots/``, to be looked at.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.stage import picture, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

SIZES: dict[str, ViewportSize] = {
    "1280": {"width": 1280, "height": 900},
    "360": {"width": 360, "height": 780},
}


@pytest.fixture(params=list(SIZES))
def size(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def page(size: str, browser: Browser) -> Iterator[Page]:
    with visit(browser, SIZES[size]) as visitor:
        yield visitor


def shoot(page: Page, name: str, size: str) -> None:
    """Keep a picture; nothing may stick out at the side."""
    picture(page, f"s-{name}", size, "R")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= SIZES[size]["width"]


def introduce(page: Page) -> None:
    page.get_by_label("Name").fill("Kim Minji")
    page.get_by_label("E-mail").fill(f"minji-{secrets.token_hex(4)}@example.com")
    page.get_by_label("Country").select_option("KR")


def subscribe(page: Page, shop: str, way: str, size: str) -> None:
    page.goto(shop)
    page.get_by_role("link", name="Coffee box").first.click()
    introduce(page)
    page.locator(f"input[name=way][value^={way}]").first.check()
    shoot(page, f"1-box-{way}", size)
    page.get_by_role("button", name="Subscribe").click()


def approve(page: Page) -> None:
    """Say yes on the provider's page; ours goes on to it by itself."""
    page.locator("button[name=outcome][value=approve]").click()
    page.wait_for_url("**/outcome/")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "paid")


def a_month_goes_by(page: Page, sandbox: str, name: str, size: str) -> None:
    """Press the button on the sandbox's own page."""
    page.goto(f"{sandbox}/_control/")
    before = page.locator(".face time").get_attribute("datetime")
    page.get_by_role("button", name="A month", exact=True).click()
    expect(page.locator(".face time")).not_to_have_attribute("datetime", before or "")
    expect(page.locator(".happening.is-new").first).to_be_visible()
    shoot(page, f"2-control-{name}", size)


def see_charges(page: Page, shop: str, count: int) -> None:
    """Open the newest subscription and look until so many charges are paid."""
    page.goto(f"{shop}/subscriptions/")
    page.locator("a.order-row").first.click()
    paid = page.locator("[data-charge=paid][data-box]")
    for _ in range(40):
        if paid.count() >= count:
            break
        page.wait_for_timeout(250)
        page.reload()
    expect(paid).to_have_count(count)


def test_a_month_later_the_next_box_is_charged_until_it_is_canceled(demo, page, size):
    subscribe(page, demo.shop, "eximbay-plan", size)
    approve(page)
    see_charges(page, demo.shop, 1)
    first_day = page.locator("[data-next-charge]").get_attribute("datetime")

    a_month_goes_by(page, demo.sandbox, "plan", size)

    plans = page.locator("#plans")
    expect(plans).to_contain_text(re.compile(r"Eximbay.*USD 16\.50.*2 times", re.S))
    see_charges(page, demo.shop, 2)
    charged = page.locator("[data-charge=paid] time").first
    expect(charged).to_have_attribute("datetime", first_day or "")
    shoot(page, "3-subscription", size)
    page.goto(f"{demo.shop}/subscriptions/")
    shoot(page, "4-subscriptions", size)
    page.locator("a.order-row").first.click()

    page.get_by_role("button", name="Cancel the subscription").click()

    expect(page.locator("[data-plan-status]")).to_have_attribute(
        "data-plan-status", "canceled"
    )
    shoot(page, "5-canceled", size)
    page.goto(f"{demo.sandbox}/_control/")
    expect(plans.locator("tbody tr").first).to_contain_text("never again")


def test_a_card_saved_at_the_checkout_pays_with_one_click_and_every_month(
    demo, page, size
):
    page.goto(f"{demo.shop}/coffee/tasting-box/")
    page.get_by_role("button", name="Add to cart").click()
    page.goto(f"{demo.shop}/checkout/")
    introduce(page)
    page.locator("input[name=way][value=wechat]").check()
    expect(page.get_by_label("Save this card")).to_be_hidden()
    page.locator("input[name=way][value=eximbay]").check()
    page.get_by_label("Save this card").check()
    shoot(page, "6-save", size)
    page.get_by_role("button", name="Pay $26.30").click()
    approve(page)

    # One click of the buyer's, no card number: first for an order ...
    page.goto(f"{demo.shop}/coffee/paper-filters/")
    page.get_by_role("button", name="Add to cart").click()
    page.goto(f"{demo.shop}/checkout/")
    introduce(page)
    page.locator("input[name=way][value^=saved-]").check()
    shoot(page, "7-saved", size)
    page.get_by_role("button", name="Pay $6.75").click()
    approve(page)

    # ... then for the box, which the shop charges by itself.
    subscribe(page, demo.shop, "saved-", size)
    see_charges(page, demo.shop, 1)
    a_month_goes_by(page, demo.sandbox, "saved", size)
    see_charges(page, demo.shop, 2)
    shoot(page, "8-saved-subscription", size)

    page.get_by_role("link", name="Your saved cards").first.click()
    expect(page.get_by_text("1111").first).to_be_visible()
    shoot(page, "9-cards", size)

    page.locator("summary", has_text="Delete").click()
    expect(page.get_by_text("It pays for a subscription")).to_be_visible()
    page.get_by_role("button", name="Delete VISA 1111").click()
    expect(page.get_by_text("Nothing is saved")).to_be_visible()
    shoot(page, "10-no-cards", size)
    page.get_by_role("link", name="Your subscriptions").click()
    page.locator("a.order-row").first.click()
    expect(page.get_by_text("there is no saved card to charge")).to_be_visible()
    shoot(page, "11-without-card", size)
