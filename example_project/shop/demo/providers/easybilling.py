"""EasyBilling: four gateways, and no webhook: the shop has to ask."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from shop.demo.buyer import Buyer, Seen
from shop.demo.outcomes import Outcome
from shop.demo.stage import Stage, Till

ALIAS = "easybilling"
LIFETIME_SECONDS = 1800
WITHOUT_CENTS = frozenset({"KRW", "JPY"})


def sandbox_settings(shop_url: str) -> Mapping[str, Any]:
    """Return what the sandbox must know: a shop on a laptop has no https."""
    return {"https_required": shop_url.startswith("https://")}


def amount_of(entry: Mapping[str, Any]) -> Decimal:
    """Return an amount of its books, which are in minor units."""
    amount = Decimal(entry["amount"])
    return amount if entry["currency"] in WITHOUT_CENTS else amount / 100


def outcomes(stage: Stage) -> list[Outcome]:
    """Return everything that can happen to a payment at EasyBilling."""
    till = Till(stage, ALIAS)

    def scan(outcome: str) -> Any:
        def act(buyer: Buyer) -> None:
            till.pay_by_code(buyer, outcome)

        return act

    def decline_then_approve(buyer: Buyer) -> None:
        till.pay(buyer, "decline")
        buyer.look(Seen("payment_failed", "failed"))
        buyer.pay_again(way="alipay")
        till.pay(buyer, "approve")

    def wait_then_pay(buyer: Buyer) -> None:
        till.pay(buyer, "pending")
        buyer.look(Seen("open", "pending", 0))
        till.decide("approve")

    def pay_then_vanish(buyer: Buyer) -> None:
        till.pay(buyer, "vanish")
        till.let_the_timer_run(buyer)

    def forge(buyer: Buyer) -> None:
        till.open(buyer)
        till.must_be_refused('{"status": "succeeded"}', {})
        # The shop may have asked about another payment since.
        return_url = [
            request["body"]["completePayRedirectUrl"]
            for request in stage.get(f"requests?provider={ALIAS}")
            if "completePayRedirectUrl" in (request["body"] or ())
        ][-1]
        buyer.follow(f"{return_url}?status=succeeded")

    def let_the_code_run_out(buyer: Buyer) -> None:
        buyer.start_payment()
        stage.move_clock(LIFETIME_SECONDS + 1)

    paid = Seen("paid", "paid")
    failed = Seen("payment_failed", "failed")
    canceled = Seen("open", "canceled")
    expired = Seen("open", "expired")
    return [
        Outcome("approved", till.choose("approve"), paid, ALIAS),
        Outcome("Alipay approved", till.choose("approve"), paid, "alipay"),
        Outcome(
            "PayerMax approved, in won", till.choose("approve"), paid, "payermax", "KRW"
        ),
        Outcome("WeChat code scanned and paid", scan("approve"), paid, "wechat"),
        Outcome("WeChat code scanned, declined", scan("decline"), failed, "wechat"),
        Outcome("declined", till.choose("decline"), failed, ALIAS),
        Outcome(
            "declined, paid another way",
            decline_then_approve,
            Seen("paid", "paid", 2),
            ALIAS,
        ),
        Outcome("canceled by the buyer", till.choose("cancel"), canceled, ALIAS),
        Outcome("pending, then paid", wait_then_pay, paid, ALIAS),
        Outcome("paid, browser closed", pay_then_vanish, paid, ALIAS),
        Outcome("expired", till.choose("expire"), expired, ALIAS),
        Outcome("forged message and return", forge, Seen("open", "pending", 0), ALIAS),
        Outcome(
            "WeChat code ran out",
            let_the_code_run_out,
            expired,
            "wechat",
            moves_clock=True,
        ),
    ]
