"""The way of a buyer through Eximbay's pages, and every outcome it can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

import requests

from shop.demo.buyer import TIMEOUT, Buyer, Seen, UnexpectedPage, browser
from shop.demo.outcomes import Outcome
from shop.demo.pages import Page

ALIAS = "eximbay"


class Eximbay:
    """Eximbay's side of the browser, and the sandbox's control desk beside it."""

    def __init__(self, sandbox_url: str) -> None:
        self.sandbox_url = sandbox_url

    def pay(self, buyer: Buyer, outcome: str, **choices: str) -> str:
        """Take ``buyer`` through the hosted page; return Eximbay's order id."""
        action = buyer.start_payment(ALIAS)
        window = browser()
        page_url = self._run_script(window, action)
        answer = window.post(
            page_url, data={"outcome": outcome, **choices}, timeout=TIMEOUT
        )
        answer.raise_for_status()
        back = next(
            (form for form in Page(answer.text).forms if form.id == "returnForm"), None
        )
        if outcome == "close":
            if back is not None:
                raise UnexpectedPage("a closed window still leads back to the shop")
        elif back is None:
            raise UnexpectedPage("Eximbay's last page does not lead back to the shop")
        else:
            buyer.come_back(back.action, back.fields)
        self.control("callbacks/flush")
        return str(action["payload"]["payment"]["order_id"])

    def deposit(self, order_id: str) -> None:
        """Let the money of a registered payment arrive."""
        self.control(f"{ALIAS}/payments/{order_id}/deposit")
        self.control("callbacks/flush")

    def repeat_status(self, order_id: str, times: int) -> None:
        """Send the status callback of an order again, all at once."""
        entries = browser().get(
            urljoin(self.sandbox_url, "/_control/callbacks"), timeout=TIMEOUT
        )
        for entry in entries.json():
            if entry["order_id"] == order_id and entry["kind"] == "status":
                self.control(
                    f"callbacks/{entry['id']}/resend?times={times}&concurrent=1"
                )

    def control(self, path: str) -> None:
        """Press a button of the sandbox's control desk."""
        answer = browser().post(
            urljoin(self.sandbox_url, f"/_control/{path}"), timeout=TIMEOUT
        )
        answer.raise_for_status()

    def _run_script(self, window: requests.Session, action: Mapping[str, Any]) -> str:
        """Do what Eximbay's script does in a browser; return the hosted page."""
        if (action["type"], action.get("call")) != (
            "provider_script",
            "EXIMBAY.request_pay",
        ):
            raise UnexpectedPage(f"the next action is not Eximbay's script: {action}")
        script = window.get(action["src"], timeout=TIMEOUT)
        script.raise_for_status()
        answer = window.post(
            urljoin(action["src"], "/v1/payments"),
            json=action["payload"],
            timeout=TIMEOUT,
        ).json()
        if "url" not in answer:
            raise UnexpectedPage(f"Eximbay refuses to open its page: {answer}")
        fields = {
            name: value
            for name, value in answer.items()
            if name not in {"url", "display_type"}
        }
        page = window.post(
            answer["url"], data={**fields, "param3": "OPENAPI"}, timeout=TIMEOUT
        )
        page.raise_for_status()
        return page.url


def outcomes(sandbox_url: str) -> list[Outcome]:
    """Return everything that can happen to a payment at Eximbay."""
    eximbay = Eximbay(sandbox_url)

    def choose(outcome: str, **choices: str) -> Any:
        def go(buyer: Buyer) -> None:
            eximbay.pay(buyer, outcome, **choices)

        return go

    def approve_with_echo(buyer: Buyer) -> None:
        eximbay.repeat_status(eximbay.pay(buyer, "approve"), times=5)

    def decline_then_approve(buyer: Buyer) -> None:
        eximbay.pay(buyer, "decline")
        buyer.look(Seen("payment_failed", "failed"))
        buyer.pay_again()
        eximbay.pay(buyer, "approve")

    def register_then_deposit(buyer: Buyer) -> None:
        order_id = eximbay.pay(buyer, "register")
        buyer.look(Seen("awaiting_deposit", "awaiting_funds"))
        eximbay.deposit(order_id)

    paid = Seen("paid", "paid")
    failed = Seen("payment_failed", "failed")
    waiting = Seen("awaiting_deposit", "awaiting_funds")
    return [
        Outcome("approved", choose("approve"), paid),
        Outcome("approved, status sent six times", approve_with_echo, paid),
        Outcome("declined", choose("decline"), failed),
        Outcome("declined, paid again", decline_then_approve, Seen("paid", "paid", 2)),
        Outcome("canceled by the buyer", choose("cancel"), Seen("open", "canceled")),
        Outcome("paid, browser closed", choose("close"), paid),
        Outcome("declined, browser closed", choose("close", rescode="8327"), failed),
        Outcome("virtual account registered", choose("register"), waiting, "KRW"),
        Outcome(
            "virtual account deposited",
            register_then_deposit,
            Seen("paid", "paid", 2),
            "KRW",
        ),
        Outcome("convenience store registered", choose("register"), waiting, "JPY"),
        Outcome(
            "convenience store deposited",
            register_then_deposit,
            Seen("paid", "paid", 2),
            "JPY",
        ),
        Outcome("risk review", choose("review"), Seen("in_review", "in_review")),
        Outcome("yes on return, no in status", choose("contradict"), failed),
        Outcome(
            "authorized only",
            choose("approve"),
            Seen("authorized", "authorized"),
            capture_mode="manual",
        ),
    ]
