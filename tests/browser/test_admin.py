"""Staff with a real browser: money goes back once, whatever fingers and lines do.

Needs Chromium; run with ``python -m pytest -m browser``. Eximbay's sandbox keeps the
books that are compared. Each page is kept as a picture in ``screenshots/``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    expect,
)

from django_multipay.enums import PaymentStatus, RefundStatus
from django_multipay.models import AccountHealth, Endpoint, Payment
from tests.corridor import Corridor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

SCREENSHOTS = Path(__file__).resolve().parent.parent.parent / "screenshots"
SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
}
PATIENCE = 20_000


@pytest.fixture(scope="module", autouse=True)
def _database_beside_the_browser() -> Iterator[None]:
    # Playwright's loop runs in this thread; the tests themselves are not async.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield


@pytest.fixture
def staff(browser: Browser, live_server: Any) -> Iterator[Callable[..., Page]]:
    """Let somebody sit down at a browser of their own; script errors fail the test."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def sit_down(name: str, *permissions: str, **look: Any) -> Page:
        user, _is_new = User.objects.get_or_create(
            username=name, defaults={"is_staff": True, "is_superuser": not permissions}
        )
        for codename in permissions:
            user.user_permissions.add(Permission.objects.get(codename=codename))
        client = Client()
        client.force_login(user)
        session = client.cookies[django_settings.SESSION_COOKIE_NAME].value
        context = browser.new_context(
            **{"viewport": SIZES["desktop"], "locale": "en-US", **look},
            base_url=live_server.url,
        )
        cookie: Any = {
            "name": django_settings.SESSION_COOKIE_NAME,
            "value": session,
            "url": live_server.url,
        }
        context.add_cookies([cookie])
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.set_default_timeout(PATIENCE)
        return page

    yield sit_down
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def paid(corridor: Corridor, transactional_db: None) -> Payment:
    """A payment of 26.30 USD that a buyer has made in the sandbox."""
    payment = corridor.payment()
    messages = corridor.pay(payment)
    corridor.send(messages.status_path, messages.status_body)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    return payment


def books(corridor: Corridor, payment: Payment) -> tuple[str, int]:
    """What Eximbay gave back: the sum, and in how many refunds."""
    entry = corridor.sandbox.get(
        f"/_control/eximbay/payments/{payment.merchant_reference}"
    )
    return str(entry["refunded"]), len(entry["refunds"])


def ours(payment: Payment) -> tuple[int, list[str]]:
    payment.refresh_from_db()
    return payment.refunded_minor, [
        refund.status for refund in payment.refunds.order_by("pk")
    ]


def page_of(payment: Payment) -> str:
    return reverse("admin:multipay_payment_change", args=[payment.pk])


def preview(page: Page, payment: Payment, amount: str) -> None:
    """Walk from the payment's page to the preview of a refund."""
    page.goto(page_of(payment))
    page.get_by_role("link", name="Refund", exact=True).click()
    page.get_by_label("Amount").fill(amount)
    page.get_by_label("Reason").fill("one cup arrived broken")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("This will be sent")).to_be_visible()


def confirm(page: Page) -> None:
    page.get_by_role("button", name="Refund", exact=True).click()


def said(page: Page) -> Any:
    return page.locator(".messagelist")


def picture(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"admin-{name}.png", full_page=True)


def test_a_part_goes_back_and_the_books_agree(staff, corridor, paid):
    page = staff("ann")
    preview(page, paid, "6.30")
    expect(page.get_by_text("$6.30")).to_be_visible()
    assert books(corridor, paid)[1] == 0
    confirm(page)
    expect(said(page)).to_contain_text("Refund of $6.30: succeeded")
    assert books(corridor, paid) == ("6.30", 1)
    assert ours(paid) == (630, [RefundStatus.SUCCEEDED])
    expect(page.get_by_text("partially refunded").first).to_be_visible()
    expect(page.locator(".multipay-timeline")).to_contain_text("by ann")
    preview(page, paid, "20.00")
    confirm(page)
    expect(said(page)).to_contain_text("Refund of $20.00: succeeded")
    assert books(corridor, paid) == ("26.30", 2)
    assert paid.refunds.count() == 2
    expect(page.get_by_role("link", name="Refund", exact=True)).to_have_count(0)


def test_a_double_click_refunds_once(staff, corridor, paid):
    page = staff("ann")
    preview(page, paid, "6.30")
    page.get_by_role("button", name="Refund", exact=True).dblclick(no_wait_after=True)
    # The second press may abort the way to the page that answers the first one.
    expect(page).to_have_url(re.compile(f"{re.escape(page_of(paid))}$"))
    expect(said(page)).to_be_visible()
    # The server may still be busy with the press whose answer nobody waits for.
    page.goto(page_of(paid))
    assert books(corridor, paid) == ("6.30", 1)
    assert ours(paid) == (630, [RefundStatus.SUCCEEDED])


def test_sending_the_form_again_refunds_once(staff, corridor, paid):
    page = staff("ann")
    preview(page, paid, "6.30")
    with page.expect_request(lambda request: request.method == "POST") as sent:
        confirm(page)
    expect(said(page)).to_contain_text("succeeded")
    page.reload()
    # What "Confirm form resubmission" sends after going back; nobody can press it here.
    again = page.request.post(
        sent.value.url,
        data=sent.value.post_data,
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert "nothing was sent twice" in again.text()
    assert books(corridor, paid) == ("6.30", 1)
    assert ours(paid) == (630, [RefundStatus.SUCCEEDED])


def test_going_back_shows_what_is_left_now(staff, corridor, paid):
    page = staff("ann")
    preview(page, paid, "6.30")
    confirm(page)
    expect(said(page)).to_contain_text("succeeded")
    page.evaluate("history.go(-2)")
    expect(page.get_by_label("Amount")).to_have_value("20.00")
    assert books(corridor, paid) == ("6.30", 1)


@pytest.mark.parametrize("who", ["ann", "bob"], ids=["two tabs", "two staff"])
def test_the_second_of_two_must_look_again(staff, corridor, paid, who):
    first, second = staff("ann"), staff(who)
    preview(first, paid, "6.30")
    preview(second, paid, "6.30")
    confirm(first)
    expect(said(first)).to_contain_text("succeeded")
    confirm(second)
    expect(second.get_by_role("alert")).to_contain_text("changed meanwhile")
    expect(second.get_by_label("Amount")).to_have_value("20.00")
    picture(second, f"changed-meanwhile-{who}")
    assert books(corridor, paid) == ("6.30", 1)
    assert ours(paid) == (630, [RefundStatus.SUCCEEDED])


def test_who_may_only_look_sees_no_button_and_is_refused(staff, corridor, paid):
    page = staff("vera", "view_payment")
    page.goto(page_of(paid))
    expect(page.get_by_text("$26.30").first).to_be_visible()
    expect(page.locator(".multipay-steps a, .multipay-steps button")).to_have_count(0)
    expect(page.get_by_text("buyer@example.com")).to_have_count(0)
    url = reverse("admin:multipay_payment_step", args=[paid.pk, "refund"])
    answer = page.goto(url)
    assert answer is not None
    assert answer.status == 403
    assert books(corridor, paid)[1] == 0


def test_a_lost_answer_is_unknown_and_heals(staff, corridor, paid):
    page = staff("ann")
    preview(page, paid, "6.30")
    corridor.fault("cancel", "drop_after")
    confirm(page)
    expect(said(page)).to_contain_text("unknown, being checked")
    expect(page.get_by_text("If the provider's console shows")).to_be_visible()
    picture(page, "unknown")
    assert books(corridor, paid) == ("6.30", 1)
    assert ours(paid) == (0, [RefundStatus.UNKNOWN])
    page.get_by_role("button", name="Check with provider").click()
    expect(said(page)).to_contain_text("partially refunded")
    expect(page.get_by_role("heading", name="Not finished")).to_have_count(0)
    assert books(corridor, paid) == ("6.30", 1)
    assert ours(paid) == (630, [RefundStatus.SUCCEEDED])


def test_the_admin_needs_no_script_or_style_of_its_own(staff, live_server, paid):
    page = staff("ann")
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))

    def with_policy(route: Any) -> None:
        answer = route.fetch()
        policy = {"content-security-policy": "default-src 'self'; img-src 'self' data:"}
        route.fulfill(response=answer, headers={**answer.headers, **policy})

    page.route(f"{live_server.url}/**", with_policy)
    preview(page, paid, "6.30")
    confirm(page)
    expect(said(page)).to_contain_text("succeeded")
    for url in ("multipay_payment_changelist", "multipay_webhookdelivery_changelist"):
        page.goto(reverse(f"admin:{url}"))
    assert not [text for text in problems if "Content Security Policy" in text]


LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": SIZES["phone"]},
}


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_fits_its_window(staff, corridor, paid, look):
    waiting = corridor.payment()
    messages = corridor.pay(waiting)
    amount_changed = corridor.signed(waiting, amount="1.00")
    corridor.send(messages.status_path, amount_changed)
    page = staff("ann", **LOOKS[look])
    preview(page, paid, "6.30")
    picture(page, f"preview-{look}")
    confirm(page)
    urls = {
        "list": reverse("admin:multipay_payment_changelist"),
        "queue": reverse("admin:multipay_payment_changelist") + "?review=any",
        "payment": page_of(paid),
        "review": page_of(waiting),
        "refund": reverse("admin:multipay_payment_step", args=[paid.pk, "refund"]),
        "inbox": reverse("admin:multipay_webhookdelivery_changelist"),
        "message": reverse(
            "admin:multipay_webhookdelivery_change",
            args=[paid.deliveries.latest("pk").pk],
        ),
    }
    for name, url in urls.items():
        page.goto(url)
        picture(page, f"{name}-{look}")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"


def test_no_column_of_a_list_is_cut_off_on_a_laptop(
    staff: Callable[..., Page], transactional_db: None
) -> None:
    endpoint = Endpoint.objects.create(
        url="https://warehouse.example.com/payments", secrets=[]
    )
    endpoint.deliveries.create(
        event_id="evt_1",
        event_type="payment.status_changed",
        body="{}",
        error="the name warehouse.example.com could not be found",
    )
    AccountHealth.objects.create(
        provider="eximbay",
        succeeded_at=timezone.now(),
        failed_at=timezone.now(),
        failure="eximbay could not be reached: the connection was refused",
        failures=7,
        paused_until=timezone.now() + timedelta(minutes=1),
    )
    page = staff("ann")
    for name in ("endpointdelivery", "accounthealth"):
        page.goto(reverse(f"admin:multipay_{name}_changelist"))
        table, place = page.locator("#result_list").evaluate(
            "table => [table.scrollWidth, table.parentElement.clientWidth]"
        )
        assert table <= place, name
