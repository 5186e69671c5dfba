"""A server of pytest-django: the providers send a real browser to it."""

from __future__ import annotations

import httpx
import pytest

from django_multipay.flows import start_payment

pytestmark = pytest.mark.django_db(transaction=True)


def press(payment, outcome):
    """Press a button of the hosted page; return the shop's page at the end."""
    browser = httpx.Client(trust_env=False, follow_redirects=True, timeout=20)
    with browser:
        return browser.post(payment.action.url, data={"outcome": outcome})


@pytest.mark.parametrize("provider", ["payer", "clink", "easybilling"])
def test_the_browser_comes_back_to_the_server(
    order, live_server, deliver_webhook, provider
):
    payment = order(provider)
    start_payment(payment)

    page = press(payment, "approve")

    assert page.status_code == 200
    assert str(page.url).startswith(live_server.url)
    deliver_webhook(payment)
    payment.refresh_from_db()
    # EasyBilling sends nothing: the page asks some seconds later.
    assert payment.status == ("pending" if provider == "easybilling" else "paid")


def test_a_buyer_without_a_browser_still_pays(order, live_server, pay):
    assert pay(order("easybilling")).status == "paid"
    assert pay(order("eximbay")).status == "paid"
