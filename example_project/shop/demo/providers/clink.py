"""Clink: cards on its page, wallets by a code or a page of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shop.coffee_box import CLINK_PRODUCT, CURRENCIES, SIZES, clink_price
from shop.demo.buyer import Buyer, Seen
from shop.demo.outcomes import Outcome
from shop.demo.stage import Stage, Till, webhook_url

ALIAS = "clink"
SESSION_SECONDS = 86_400


def sandbox_settings(shop_url: str) -> Mapping[str, Any]:
    """Return what the sandbox must know: where the shop listens."""
    return {"webhook_url": webhook_url(shop_url, ALIAS)}


def prepare(stage: Stage) -> None:
    """Make the prices of the coffee box, as in Clink's dashboard."""
    for size in SIZES.values():
        for currency in CURRENCIES:
            stage.post(
                f"{ALIAS}/prices",
                {
                    "price_id": clink_price(size, currency),
                    "product_id": CLINK_PRODUCT,
                    "product_name": "Coffee box",
                    "amount": str(size.price(currency).amount),
                    "currency": currency,
                    "interval_months": 1,
                },
            )


def outcomes(stage: Stage) -> list[Outcome]:
    """Return everything that can happen to a payment at Clink."""
    till = Till(stage, ALIAS)

    def scan(outcome: str) -> Any:
        def act(buyer: Buyer) -> None:
            till.pay_by_code(buyer, outcome)

        return act

    def approve_with_echo(buyer: Buyer) -> None:
        till.pay(buyer, "approve")
        till.repeat(times=5)

    def decline_then_approve(buyer: Buyer) -> None:
        page = till.open(buyer)
        till.press(page, "decline")
        buyer.follow(till.press(page, "approve"))

    def cancel_then_approve(buyer: Buyer) -> None:
        till.pay(buyer, "cancel")
        buyer.look(Seen("open", "pending", 0))
        till.pay(buyer, "approve")

    def wait_then(outcome: str) -> Any:
        def act(buyer: Buyer) -> None:
            till.pay(buyer, "pending")
            buyer.look(Seen("open", "pending", 0))
            till.decide(outcome)

        return act

    def approve_and_close(buyer: Buyer) -> None:
        till.press(till.open(buyer), "approve")

    def forge(buyer: Buyer) -> None:
        till.open(buyer)
        body, headers = till.message()
        till.must_be_refused(
            body.replace("order.succeeded", "order.succeeded "), headers
        )
        till.must_be_refused(body, {**headers, "X-Clink-Signature": "0" * 64})
        till.must_be_refused(body, {**headers, "X-Clink-Timestamp": "1700000000000"})

    def let_it_run_out(buyer: Buyer) -> None:
        till.open(buyer)
        stage.move_clock(SESSION_SECONDS + 1)
        till.newest()
        stage.deliver()

    paid = Seen("paid", "paid")
    failed = Seen("payment_failed", "failed")
    waiting = Seen("open", "pending", 0)
    expired = Seen("open", "expired")
    return [
        Outcome("approved", till.choose("approve"), paid, ALIAS),
        Outcome("approved, messages sent six times", approve_with_echo, paid, ALIAS),
        Outcome("approved, paid in euros", till.choose("convert"), paid, ALIAS),
        # The page lets the buyer try again, so nothing is lost yet.
        Outcome("declined on the page", till.choose("decline"), waiting, ALIAS),
        Outcome("declined, then approved there", decline_then_approve, paid, ALIAS),
        Outcome("came back without paying", till.choose("cancel"), waiting, ALIAS),
        Outcome("came back, then paid", cancel_then_approve, paid, ALIAS),
        Outcome("pending, then paid", wait_then("settle"), paid, ALIAS),
        Outcome("pending, then declined", wait_then("decline"), waiting, ALIAS),
        Outcome("paid, browser closed", approve_and_close, paid, ALIAS),
        Outcome("expired", till.choose("expire"), expired, ALIAS),
        Outcome("forged messages", forge, waiting, ALIAS),
        Outcome("Cash App code scanned and paid", scan("approve"), paid, "cash-app"),
        Outcome("Cash App code scanned, declined", scan("decline"), failed, "cash-app"),
        Outcome("Cash App code not used", scan("expire"), failed, "cash-app"),
        Outcome("KakaoPay approved", till.choose("approve"), paid, "kakao", "KRW"),
        Outcome("KakaoPay canceled", till.choose("cancel"), failed, "kakao", "KRW"),
        Outcome("ran out", let_it_run_out, expired, ALIAS, moves_clock=True),
    ]
