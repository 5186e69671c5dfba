"""The demo's own parts: ports, pages, the table."""

from __future__ import annotations

import socket
from datetime import date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from django_multipay.flows.plans import PlanReport
from shop import clock
from shop.coffee_box import (
    BY_PROVIDERS,
    CURRENCIES,
    SIZES,
    clink_price,
    ways_to_subscribe,
)
from shop.demo.buyer import Seen
from shop.demo.outcomes import Outcome, Result, table, try_outcomes
from shop.demo.pages import NextStep, Page
from shop.demo.providers import discover
from shop.demo.servers import HOST, DemoProblem, free_port, shop_environment
from shop.demo.stage import Stage
from shop.demo.year import MODES, Subscriber, compared
from shop.management.commands import timer
from shop.ways import WAYS


def test_a_busy_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert port < free_port(port) <= port + 50


def test_no_port_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop.demo.servers.PORTS_TRIED", 1)
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()

        with pytest.raises(DemoProblem, match="--port"):
            free_port(taken.getsockname()[1])


def test_real_keys_stay_out_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXIMBAY_API_KEY", "live_key")
    monkeypatch.setenv("EXIMBAY_URL", "https://api.eximbay.com")
    monkeypatch.setenv("PAYER_API_KEY", "live_key")
    monkeypatch.setenv("EXIMBAY_DISPLAY_TYPE", "P")

    env = shop_environment(shop_url="http://a", sandbox_url="http://b", DEBUG="on")

    assert not {"EXIMBAY_API_KEY", "EXIMBAY_URL", "PAYER_API_KEY"} & set(env)
    assert env["EXIMBAY_DISPLAY_TYPE"] == "P"
    assert env["SANDBOX_URL"] == "http://b"
    assert env["DEBUG"] == "on"


def test_a_page_gives_forms_links_and_next_action() -> None:
    page = Page(
        """
        <section data-order-status="paid"><i data-payment-event></i><a href="/orders/QK1/">order</a></section>
        <form id="f" action="/go/" method="POST">
          <input type="hidden" name="a" value="1 &amp; 2">
          <input type="radio" name="b" value="x"><input type="radio" name="b"
            value="y" checked>
          <button name="provider" value="eximbay">Pay</button>
        </form>
        <script id="multipay-next-action" type="application/json">{"type": "x"}</script>
        """
    )

    form = page.form_with("provider")
    assert form is not None
    assert (form.action, form.method) == ("/go/", "post")
    assert form.fields == {"a": "1 & 2", "b": "y"}
    assert page.links == ["/orders/QK1/"]
    assert page.order_status == "paid"
    assert page.payment_events == 1
    assert page.next_step == NextStep("x", action={"type": "x"})


@pytest.mark.parametrize(
    ("code", "url"),
    [("<svg></svg>", ""), ('<img src="data:image/png;base64,AA==">', "data:image/")],
)
def test_a_page_gives_its_code_to_scan(code: str, url: str) -> None:
    step = Page(f"<img src='logo'><div data-multipay-code>{code}</div>").next_step

    assert step is not None
    assert step.kind == "qr_code"
    assert step.url.startswith(url)


def test_every_account_of_the_shop_is_tried() -> None:
    stage = Stage("http://shop", "http://sandbox", lambda alias: None)
    tried = {provider.alias: provider.outcomes(stage) for provider in discover()}

    assert set(tried) == set(settings.MULTIPAY["PROVIDERS"])
    assert {one.way for outcomes in tried.values() for one in outcomes} == {
        way.slug for way in WAYS
    }


def test_no_name_of_an_outcome_is_used_twice() -> None:
    stage = Stage("http://shop", "http://sandbox", lambda alias: None)
    for provider in discover():
        names = [one.name for one in provider.outcomes(stage)]
        assert len(names) == len(set(names)), provider.alias


def test_providers_are_told_where_the_shop_listens() -> None:
    told = {
        provider.alias: provider.sandbox_settings("http://shop:1").get("webhook_url")
        for provider in discover()
    }

    for alias in ("clink", "excoinz", "payer"):
        path = reverse("multipay:webhook", args=[alias])
        assert told[alias] == f"http://shop:1{path}"


def test_the_table_tells_equal_from_different() -> None:
    text = table(
        [
            Result("eximbay", "approved", "order paid", "order paid"),
            Result("eximbay", "declined", "order open", "order paid"),
        ]
    )

    lines = text.splitlines()
    assert lines[0].split() == ["provider", "outcome", "expected", "seen", "ok"]
    assert lines[2].endswith("ok")
    assert lines[3].endswith("NO")


def test_a_broken_outcome_is_a_row_not_a_crash() -> None:
    outcome = Outcome("approved", lambda buyer: None, Seen("paid", "paid"), "payer")

    (result,) = try_outcomes("eximbay", [outcome], f"http://{HOST}:9/")

    assert not result.is_ok
    assert "ConnectionError" in result.seen


# A year of the coffee box ---------------------------------------------------------------


def charge(status: str, amount: str, *, box: bool = True) -> str:
    return (
        f'<li data-charge="{status}" data-amount="{amount}" data-currency="USD" '
        f'data-reference="r"{" data-box" if box else ""}></li>'
    )


def subscriber(way: str, html: str) -> Subscriber:
    mode = next(mode for mode in MODES if mode.way == way)
    one = Subscriber(mode, Stage(f"http://{HOST}:9", "", lambda alias: None))
    one.page = Page(html)
    return one


def test_a_year_is_as_expected_only_to_the_cent() -> None:
    status = '<section data-plan-status="canceled"></section>'
    year = status + 13 * charge("paid", "16.50")

    exact = subscriber("clink-plan", year)
    assert exact.seen == exact.expected == "canceled, 13 boxes, 214.50 USD"
    for wrong in (
        status + 12 * charge("paid", "16.50"),
        status + 12 * charge("paid", "16.50") + charge("paid", "16.51"),
        status + 12 * charge("paid", "16.50") + charge("paid", "16.50", box=False),
        year + charge("failed", "16.50", box=False),
        year.replace("canceled", "active"),
    ):
        other = subscriber("clink-plan", wrong)
        assert other.seen != other.expected


def test_a_change_of_size_and_a_longer_time_are_expected() -> None:
    expected = {mode.way: subscriber(mode.way, "").expected for mode in MODES}

    # Seven small boxes, then six large ones; two more where it goes on.
    assert expected["eximbay-plan"] == "canceled, 13 boxes, 302.70 USD"
    assert expected["easybilling"] == "active, 15 boxes, 365.10 USD"
    assert expected["eximbay"] == "active, 15 boxes, 1 refused, 497500 KRW"


def test_every_way_to_subscribe_is_lived_through() -> None:
    assert [mode.way for mode in MODES if mode.way.endswith("-plan")] == [
        way.slug for way in BY_PROVIDERS
    ]
    assert {mode.way for mode in MODES} == {
        way.slug for way in ways_to_subscribe("USD", "")
    }


def test_two_ledgers_are_compared_charge_by_charge() -> None:
    ours = {"a": (Decimal("16.50"), "USD"), "b": (Decimal(22500), "KRW")}

    expected, seen = compared(ours, dict(ours))
    assert expected == seen == "2 charges, 22500 KRW, 16.50 USD"
    for theirs in (
        {},
        {"a": ours["a"]},
        {**ours, "c": ours["a"]},
        {**ours, "a": (Decimal("16.51"), "USD")},
        {**ours, "a": (Decimal("16.50"), "EUR")},
        {"a": ours["a"], "c": ours["b"]},
    ):
        expected, seen = compared(ours, theirs)
        assert expected != seen
    assert "a: 16.50 USD here, nothing there" in compared(ours, {})[1]


def test_what_goes_wrong_once_stays_the_row() -> None:
    one = subscriber("easybilling", "")

    one.try_to("wait_for", "a number")
    first = one.seen
    one.try_to("cancel")

    assert "Error" in first
    assert one.seen == first != one.expected


def test_the_timer_leaves_out_no_day(monkeypatch: pytest.MonkeyPatch) -> None:
    days = iter([date(2027, 1, 30), date(2027, 1, 30), date(2027, 2, 2)])
    charged: list[date] = []
    reconciled: list[bool] = []

    def today() -> date:
        day = next(days, None)
        if day is None:
            raise KeyboardInterrupt
        return day

    def charge_due(now: datetime) -> PlanReport:
        charged.append(timezone.localdate(now))
        return PlanReport()

    monkeypatch.setattr(clock, "today", today)
    monkeypatch.setattr(timer, "charge_due_plans", charge_due)
    monkeypatch.setattr(timer, "reconcile", lambda: reconciled.append(True))
    monkeypatch.setattr(timer, "LOOK_SECONDS", 0)

    with pytest.raises(KeyboardInterrupt):
        call_command("timer", stdout=StringIO())

    assert charged == [date(2027, 1, 30 + step) for step in (0, 1)] + [
        date(2027, 2, day) for day in (1, 2)
    ]
    assert reconciled == [True]


def test_the_prices_of_the_box_are_made_at_clink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[str, Any]] = []
    monkeypatch.setattr(Stage, "post", lambda stage, *wish: made.append(wish))
    stage = Stage("http://shop", "http://sandbox", lambda alias: None)

    for provider in discover():
        provider.prepare(stage)

    assert {path for path, _ in made} == {"clink/prices"}
    assert {wish["price_id"] for _, wish in made} == {
        clink_price(size, currency)
        for size in SIZES.values()
        for currency in CURRENCIES
    }
