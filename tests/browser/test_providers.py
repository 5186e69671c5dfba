"""A buyer with a real browser at every provider, and a phone that reads the codes.

Needs Chromium, like ``test_buying``; the codes are read from pictures of the page.
"""

from __future__ import annotations

import io
import re
import secrets
from typing import Any

import pytest
import zxingcpp
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.stage import PATIENCE, Demo, picture

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

HOSTED = [
    # the way to pay, the currency, and whether the provider sends the buyer back
    ("eximbay", "USD", True),
    ("clink", "USD", True),
    ("easybilling", "USD", True),
    ("payer", "USD", True),
    ("kakao", "KRW", True),
    ("excoinz", "USDT", False),
]


def order(page: Page, shop: str, way: str, currency: str, size: str) -> None:
    """Walk from the shelf through the payment page: it knows one way, so it goes on."""
    page.goto(shop)
    page.get_by_role("button", name=currency, exact=True).click()
    page.get_by_role("link", name="Tasting Box").first.click()
    page.get_by_role("button", name="Add to cart").click()
    page.goto(f"{shop}/checkout/")
    page.get_by_label("Name").fill("Kim Minji")
    page.get_by_label("E-mail").fill(f"minji-{secrets.token_hex(4)}@example.com")
    page.get_by_label("Country").select_option("KR")
    page.locator(f"input[name=way][value={way}]").check()
    picture(page, f"p1-checkout-{currency}", size, way)
    page.locator("form.checkout button.button").click()


def expect_order(page: Page, shop: str, status: str) -> None:
    """Look at the order until it says so."""
    page.goto(f"{shop}/orders/")
    page.locator("a[href*='/orders/QK']").last.click()
    for _ in range(40):
        if page.locator("#order").get_attribute("data-order-status") == status:
            break
        page.wait_for_timeout(500)
        page.reload()
    expect(page.locator("#order")).to_have_attribute("data-order-status", status)


def newest(page: Page, demo: Demo, slug: str) -> dict[str, Any]:
    """Return the newest payment in the provider's books."""
    books = page.request.get(f"{demo.sandbox}/_control/{slug}/payments").json()
    return books[-1]


def decide(page: Page, demo: Demo, slug: str, outcome: str) -> None:
    """Do on the phone what decides the newest payment."""
    reference = newest(page, demo, slug)["reference"]
    answer = page.request.post(
        f"{demo.sandbox}/_control/{slug}/payments/{reference}/outcome",
        data={"outcome": outcome},
    )
    assert answer.ok, answer.text()


def scanned(page: Page) -> str:
    """Return what a phone reads that is held before the screen."""
    page.locator("figure.multipay-code").wait_for()
    page.wait_for_load_state("networkidle")
    screen = Image.open(io.BytesIO(page.screenshot())).convert("L")
    codes = zxingcpp.read_barcodes(screen)
    assert len(codes) == 1, "the screen must show exactly one code"
    return codes[0].text


@pytest.mark.parametrize(
    ("way", "currency", "is_sent_back"), HOSTED, ids=[row[0] for row in HOSTED]
)
def test_a_buyer_pays_on_the_providers_page(
    demo, page, size, way, currency, is_sent_back
):
    order(page, demo.shop, way, currency, size)
    page.wait_for_selector("button[name=outcome][value=approve]")
    assert page.url.startswith(demo.sandbox)
    picture(page, "p3-hosted", size, way)
    page.locator("button[name=outcome][value=approve]").click()

    if is_sent_back:
        page.wait_for_url("**/outcome/")
        expect(page.locator("[data-phase]")).to_have_attribute(
            "data-phase", "paid", timeout=PATIENCE
        )
        picture(page, "p4-outcome", size, way)
    else:
        page.locator("#returnLink").click()
        page.wait_for_url("**/orders/")
    expect_order(page, demo.shop, "paid")
    picture(page, "p5-order", size, way)


def test_the_wechat_code_can_be_read_and_paid(demo, page, size):
    order(page, demo.shop, "wechat", "USD", size)

    text = scanned(page)

    assert text.startswith("weixin://wxpay/bizpayurl")
    assert newest(page, demo, "easybilling")["wechat_code"] in text
    picture(page, "p3-code", size, "wechat")
    decide(page, demo, "easybilling", "approve")
    # The page asks for itself, without a click.
    page.wait_for_url("**/outcome/")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "paid")
    expect_order(page, demo.shop, "paid")


@pytest.mark.parametrize("kind", ["url", "base64", "data_url"])
def test_the_cash_app_code_can_be_read_and_leads_to_the_payment(demo, page, size, kind):
    page.request.post(
        f"{demo.sandbox}/_control/settings", data={"clink": {"qr_picture": kind}}
    )
    order(page, demo.shop, "cash-app", "USD", size)

    address = scanned(page)

    assert re.fullmatch(rf"{demo.sandbox}/clink/phone/[\w-]+", address)
    picture(page, f"p3-code-{kind}", size, "cash-app")
    phone = page.context.new_page()
    phone.goto(address)
    phone.locator("button[name=outcome][value=approve]").click()
    expect(phone.locator("button[name=outcome]")).to_have_count(0)
    assert newest(page, demo, "clink")["status"] == "success"
    page.wait_for_url("**/outcome/")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "paid")
    expect_order(page, demo.shop, "paid")


def test_after_a_decline_the_order_offers_every_way_again(demo, page, size):
    order(page, demo.shop, "easybilling", "USD", size)
    page.locator("button[name=outcome][value=decline]").click()
    page.wait_for_url("**/outcome/")
    picture(page, "p6-waiting", size, "easybilling")
    page.wait_for_selector("[data-phase=failed]")
    picture(page, "p7-declined", size, "easybilling")
    expect_order(page, demo.shop, "payment_failed")
    expect(page.locator("input[name=way][value=easybilling]")).to_be_checked()
    picture(page, "p8-order", size, "easybilling")

    page.locator("input[name=way][value=payer]").check()
    page.get_by_role("button", name="Pay again").click()
    page.locator("button[name=outcome][value=approve]").click()
    page.wait_for_url("**/outcome/")
    expect_order(page, demo.shop, "paid")
