"""Payer: an unsigned webhook that is only a hint, and refunds in its dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shop.demo.buyer import Buyer, Seen
from shop.demo.outcomes import Outcome
from shop.demo.stage import Stage, Till, webhook_url

ALIAS = "payer"


def sandbox_settings(shop_url: str) -> Mapping[str, Any]:
    """Return what the sandbox must know: where the shop listens."""
    return {"webhook_url": webhook_url(shop_url, ALIAS)}


def outcomes(stage: Stage) -> list[Outcome]:
    """Return everything that can happen to a payment at Payer."""
    till = Till(stage, ALIAS)

    def decline_then_approve(buyer: Buyer) -> None:
        till.pay(buyer, "decline")
        buyer.look(Seen("payment_failed", "failed"))
        buyer.pay_again()
        till.pay(buyer, "approve")

    def cancel_then_approve(buyer: Buyer) -> None:
        till.pay(buyer, "cancel")
        buyer.look(Seen("open", "pending", 0))
        till.pay(buyer, "approve")

    def wait_then_pay(buyer: Buyer) -> None:
        till.pay(buyer, "pending")
        buyer.look(Seen("open", "pending", 0))
        till.decide("approve")

    def approve_with_echo(buyer: Buyer) -> None:
        till.pay(buyer, "approve")
        till.repeat(times=5)

    def claim_it_was_paid(buyer: Buyer) -> None:
        till.open(buyer)
        till.knock(*till.message(status="completed"))
        till.must_be_refused('{"payment_id": "nobody"}', {})

    def refund_in_the_dashboard(buyer: Buyer) -> None:
        till.pay(buyer, "approve")
        buyer.look(Seen("paid", "paid"))
        stage.post(f"{ALIAS}/payments/{till.newest()['reference']}/refund")
        stage.deliver()

    paid = Seen("paid", "paid")
    waiting = Seen("open", "pending", 0)
    return [
        Outcome("approved", till.choose("approve"), paid, ALIAS),
        Outcome("approved, message sent six times", approve_with_echo, paid, ALIAS),
        Outcome(
            "declined", till.choose("decline"), Seen("payment_failed", "failed"), ALIAS
        ),
        Outcome(
            "declined, paid again", decline_then_approve, Seen("paid", "paid", 2), ALIAS
        ),
        Outcome("came back without paying", till.choose("cancel"), waiting, ALIAS),
        Outcome("came back, then paid", cancel_then_approve, paid, ALIAS),
        Outcome("pending, then paid", wait_then_pay, paid, ALIAS),
        Outcome("paid, browser closed", till.choose("close"), paid, ALIAS),
        Outcome("forged message", claim_it_was_paid, waiting, ALIAS),
        Outcome(
            "refunded in the dashboard",
            refund_in_the_dashboard,
            Seen("refunded", "refunded", 2),
            ALIAS,
        ),
    ]
