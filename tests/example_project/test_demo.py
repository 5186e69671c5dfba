"""The demo's own parts: ports, pages, the table."""

from __future__ import annotations

import socket

import pytest

from shop.demo.buyer import Seen
from shop.demo.outcomes import Outcome, Result, table, try_outcome
from shop.demo.pages import Page
from shop.demo.servers import HOST, DemoProblem, free_port, shop_environment


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

    env = shop_environment(shop_url="http://a", sandbox_url="http://b", DEBUG="on")

    assert not {"EXIMBAY_API_KEY", "EXIMBAY_URL"} & set(env)
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
    assert page.next_action == {"type": "x"}


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
    outcome = Outcome("approved", lambda buyer: None, Seen("paid", "paid"))

    result = try_outcome("eximbay", outcome, f"http://{HOST}:9/")

    assert not result.is_ok
    assert "ConnectionError" in result.seen
