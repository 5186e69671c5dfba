"""Excoinz: USDT, one message with a shared secret, nobody is sent back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from shop.demo.buyer import Buyer, Seen
from shop.demo.outcomes import Outcome
from shop.demo.stage import Stage, Till, webhook_url

ALIAS = "excoinz"
LIFETIME_SECONDS = 3600


def sandbox_settings(shop_url: str) -> Mapping[str, Any]:
    """Return what the sandbox must know: where the shop listens and its orders are."""
    return {
        "webhook_url": webhook_url(shop_url, ALIAS),
        "return_url": urljoin(shop_url, "/orders/"),
    }


def outcomes(stage: Stage) -> list[Outcome]:
    """Return everything that can happen to a payment at Excoinz."""
    till = Till(stage, ALIAS)

    def approve_with_echo(buyer: Buyer) -> None:
        till.pay(buyer, "approve")
        till.repeat(times=5)

    def decline_then_approve(buyer: Buyer) -> None:
        till.pay(buyer, "decline")
        buyer.look(Seen("payment_failed", "failed"))
        buyer.pay_again()
        till.pay(buyer, "approve")

    def wait_then(outcome: str) -> Any:
        def act(buyer: Buyer) -> None:
            till.pay(buyer, "pending")
            buyer.look(Seen("open", "pending", 0))
            till.decide(outcome)

        return act

    def forge(buyer: Buyer) -> None:
        till.open(buyer)
        till.must_be_refused(*till.message(state="success", secret="guessed"))  # noqa: S106
        till.must_be_refused(*till.message(state="success", secret=None))

    def let_it_run_out(buyer: Buyer) -> None:
        till.open(buyer)
        stage.move_clock(LIFETIME_SECONDS + 1)
        till.newest()
        stage.deliver()

    paid = Seen("paid", "paid")
    failed = Seen("payment_failed", "failed")
    waiting = Seen("open", "pending", 0)
    rows = [
        ("approved", till.choose("approve"), paid),
        ("approved, message sent six times", approve_with_echo, paid),
        ("declined", till.choose("decline"), failed),
        ("declined, paid again", decline_then_approve, Seen("paid", "paid", 2)),
        ("canceled by the buyer", till.choose("cancel"), failed),
        ("expired", till.choose("expire"), failed),
        ("too little paid", till.choose("underpay"), Seen("in_review", "in_review")),
        ("too much paid", till.choose("overpay"), Seen("in_review", "paid", 2)),
        ("pending", till.choose("pending"), waiting),
        ("pending, then paid", wait_then("approve"), paid),
        ("pending, then declined", wait_then("decline"), failed),
        ("forged message", forge, waiting),
    ]
    return [
        *(Outcome(name, act, seen, ALIAS, "USDT") for name, act, seen in rows),
        Outcome("ran out", let_it_run_out, failed, ALIAS, "USDT", moves_clock=True),
    ]
