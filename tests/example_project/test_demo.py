"""The demo's own parts: ports, pages, the table."""

from __future__ import annotations

import socket

import pytest
from django.conf import settings
from django.urls import reverse

from shop.demo.buyer import Seen
from shop.demo.outcomes import Outcome, Result, table, try_outcome
from shop.demo.pages import NextStep, Page
from shop.demo.providers import discover
from shop.demo.servers import HOST, DemoProblem, free_port, shop_environment
from shop.demo.stage import Stage
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

    result = try_outcome("eximbay", outcome, f"http://{HOST}:9/")

    assert not result.is_ok
    assert "ConnectionError" in result.seen
