"""The buyer's pages in every language that comes with the app, on a small telephone.

Needs Chromium; run with ``python -m pytest -m browser``. Each page is kept as a
picture in ``screenshots/``, to be looked at.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from django_multipay.enums import PaymentStatus
from tests.browser.stage import SCREENSHOTS
from tests.browser.test_pages import (
    DEPOSIT,
    SOON,
    _database_beside_the_browser,
    assert_accessible,
    declined,
    many_ways,
    started,
    visitor,
)
from tests.views.conftest import fake_accounts, pay

__all__ = [
    "_database_beside_the_browser",
    "fake_accounts",
    "many_ways",
    "pay",
    "visitor",
]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

# Wide for its parent, or cut off by it.
CUT_OFF = """
() => [...document.querySelectorAll("button, a, h1, h2, p, dd, dt, li, span")]
  .filter((part) => part.getClientRects().length
    && part.scrollWidth > part.clientWidth + 1
    && getComputedStyle(part).display !== "inline")
  .map((part) => part.textContent.trim())
"""


@pytest.mark.parametrize("language", ["en", "ko", "ja", "zh-hans"])
def test_pages_fit_a_small_telephone(visitor, pay, many_ways, language):
    page = visitor("phone", color_scheme="light")
    deposit = pay(
        locale=language,
        status=PaymentStatus.AWAITING_FUNDS,
        details=DEPOSIT,
        expires_at=SOON,
    )
    for name, address in {
        "choice": pay(provider=None, locale=language).get_checkout_url(),
        "popup": started(pay, "popup", locale=language).get_checkout_url(),
        "code": started(pay, "code", locale=language).get_checkout_url(),
        "deposit": deposit.get_outcome_url(),
        "failed": declined(
            pay, locale=language, is_provider_open=True
        ).get_outcome_url(),
        "paid": pay(locale=language, status=PaymentStatus.PAID).get_outcome_url(),
    }.items():
        page.goto(address)
        expect(page.locator("html")).to_have_attribute("lang", language)
        SCREENSHOTS.mkdir(exist_ok=True)
        file = f"pages-{name}-{language}.png"
        page.screenshot(path=SCREENSHOTS / file, full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"
        assert page.evaluate(CUT_OFF) == [], name
        assert_accessible(page, name)
