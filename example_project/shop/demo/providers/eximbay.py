"""The way of a buyer through Eximbay's pages, and every outcome it can have."""

from __future__ import annotations

from urllib.parse import urljoin

import requests

from shop.demo.buyer import TIMEOUT, Buyer, Seen, UnexpectedPage, browser
from shop.demo.outcomes import Outcome
from shop.demo.pages import NextStep, Page
from shop.demo.stage import Stage, Till

ALIAS = "eximbay"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Eximbay(Till):
    """Eximbay's side of the browser, where a script opens the hosted page."""

    def pay(self, buyer: Buyer, outcome: str, **choices: str) -> None:
        """Take ``buyer`` through the hosted page."""
        step = buyer.start_payment()
        window = browser()
        page_url = self._run_script(window, step)
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
        self.stage.deliver()

    def deposit(self) -> None:
        """Let the money of the newest registered payment arrive."""
        self.stage.post(f"{ALIAS}/payments/{self.newest()['reference']}/deposit")
        self.stage.deliver()

    def _run_script(self, window: requests.Session, step: NextStep) -> str:
        """Do what Eximbay's script does in a browser; return the hosted page."""
        action = step.action
        if action.get("call") != "EXIMBAY.request_pay":
            raise UnexpectedPage(f"the next step is not Eximbay's script: {step}")
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


TILL = Eximbay


def outcomes(stage: Stage) -> list[Outcome]:
    """Return everything that can happen to a payment at Eximbay."""
    till = Eximbay(stage, ALIAS)

    def approve_with_echo(buyer: Buyer) -> None:
        till.pay(buyer, "approve")
        till.repeat(times=5)

    def decline_then_approve(buyer: Buyer) -> None:
        till.pay(buyer, "decline")
        buyer.look(Seen("payment_failed", "failed"))
        buyer.pay_again()
        till.pay(buyer, "approve")

    def register_then_deposit(buyer: Buyer) -> None:
        till.pay(buyer, "register")
        buyer.look(Seen("awaiting_deposit", "awaiting_funds"))
        till.deposit()

    def forge(buyer: Buyer) -> None:
        buyer.start_payment()
        body, _ = till.message()
        till.must_be_refused(body.replace("amount=", "amount=1"), FORM)

    paid = Seen("paid", "paid")
    failed = Seen("payment_failed", "failed")
    waiting = Seen("awaiting_deposit", "awaiting_funds")
    deposited = Seen("paid", "paid", 2)
    contradicted = Seen("in_review", "failed", 2)
    register, approve = till.choose("register"), till.choose("approve")
    rows = [
        ("approved", approve, paid),
        ("approved, status sent six times", approve_with_echo, paid),
        ("declined", till.choose("decline"), failed),
        ("declined, paid again", decline_then_approve, Seen("paid", "paid", 2)),
        ("canceled by the buyer", till.choose("cancel"), Seen("open", "canceled")),
        ("paid, browser closed", till.choose("close"), paid),
        ("declined, browser closed", till.choose("close", rescode="8327"), failed),
        ("risk review", till.choose("review"), Seen("in_review", "in_review")),
        # Its return was signed, so a person has to look, once the timer gave up on it.
        ("yes on return, no in status", till.choose("contradict"), contradicted),
        ("forged message", forge, Seen("open", "pending", 0)),
    ]
    deferred = [
        ("virtual account registered", register, waiting, "KRW"),
        ("virtual account deposited", register_then_deposit, deposited, "KRW"),
        ("convenience store registered", register, waiting, "JPY"),
        ("convenience store deposited", register_then_deposit, deposited, "JPY"),
    ]
    return [
        *(Outcome(name, act, seen, ALIAS) for name, act, seen in rows),
        *(
            Outcome(name, act, seen, ALIAS, currency)
            for name, act, seen, currency in deferred
        ),
        Outcome(
            "authorized only",
            approve,
            Seen("authorized", "authorized"),
            ALIAS,
            capture_mode="manual",
        ),
    ]
