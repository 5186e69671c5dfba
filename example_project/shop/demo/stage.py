"""The sandbox as people use it: a provider's pages, and the desk that moves them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urljoin

import requests

from shop.demo.buyer import (
    PATIENCE_SECONDS,
    TIMEOUT,
    Buyer,
    UnexpectedPage,
    browser,
)

Act = Callable[[Buyer], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where outcomes happen: the shop, the sandbox, and the shop's timer.

    ``reconcile`` runs ``multipay_reconcile`` for one alias, as a timer would.
    """

    shop_url: str
    sandbox_url: str
    reconcile: Callable[[str], None]

    def get(self, path: str) -> Any:
        """Read from the sandbox's control desk."""
        return self._ask("GET", path, None)

    def post(self, path: str, data: Mapping[str, Any] | None = None) -> Any:
        """Press a button of the sandbox's control desk."""
        return self._ask("POST", path, data or {})

    def deliver(self) -> None:
        """Wait until every message to the shop was delivered."""
        self.post("callbacks/flush")

    def move_clock(self, seconds: int) -> None:
        """Let time pass at the providers, all of them; there is no way back."""
        self.post("clock", {"advance_seconds": seconds})

    def move_months(self, months: int) -> None:
        """Let so many months of the calendar pass at the providers."""
        self.post("clock", {"advance_months": months})

    def _ask(self, method: str, path: str, data: Mapping[str, Any] | None) -> Any:
        answer = browser().request(
            method,
            urljoin(self.sandbox_url, f"/_control/{path}"),
            json=data,
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return answer.json(parse_float=Decimal)


def webhook_url(shop_url: str, alias: str) -> str:
    """Return where the provider of this alias sends its messages."""
    return urljoin(shop_url, f"/payments/webhook/{alias}/")


class Till:
    """One provider's side of a purchase; one purchase at a time."""

    def __init__(self, stage: Stage, alias: str) -> None:
        self.stage = stage
        self.alias = alias

    # What a buyer does ---------------------------------------------------------

    def choose(self, outcome: str, **choices: str) -> Act:
        """Return the act of a buyer who presses this button of the hosted page."""

        def act(buyer: Buyer) -> None:
            self.pay(buyer, outcome, **choices)

        return act

    def pay(self, buyer: Buyer, outcome: str, **choices: str) -> None:
        """Take ``buyer`` through the hosted page, and back if it leads back."""
        back = self.press(self.open(buyer), outcome, **choices)
        if back:
            buyer.follow(back)

    def pay_by_code(self, buyer: Buyer, outcome: str) -> None:
        """Let ``buyer`` scan the code on the payment page with a phone."""
        step = buyer.start_payment()
        if step.kind != "qr_code":
            raise UnexpectedPage(f"the next step is no code to scan: {step}")
        self.decide(outcome)

    def open(self, buyer: Buyer) -> str:
        """Open the payment; return the address of the hosted page."""
        step = buyer.start_payment()
        if step.kind != "redirect":
            raise UnexpectedPage(f"the next step is not another page: {step}")
        return step.url

    def press(self, page_url: str, outcome: str, **choices: str) -> str:
        """Press a button there; return where the browser is sent, "" if it stays."""
        window = browser()
        window.get(page_url, timeout=TIMEOUT).raise_for_status()
        answer = window.post(
            page_url,
            data={"outcome": outcome, **choices},
            timeout=TIMEOUT,
            allow_redirects=False,
        )
        answer.raise_for_status()
        target = urljoin(page_url, answer.headers.get("Location", ""))
        return target if target.startswith(self.stage.shop_url) else ""

    # What happens without a buyer -------------------------------------------------

    def decide(self, outcome: str, **choices: Any) -> None:
        """Let the newest payment end like this; nobody is sent back."""
        self.stage.post(
            f"{self.alias}/payments/{self.newest()['reference']}/outcome",
            {"outcome": outcome, **choices},
        )
        self.stage.deliver()

    def repeat(self, times: int) -> None:
        """Send each message about the newest payment again, all at once."""
        reference = self.newest()["reference"]
        for entry in self.stage.get(f"callbacks?provider={self.alias}"):
            if entry["order_id"] == reference and entry["attempts"]:
                self.stage.post(
                    f"callbacks/{entry['id']}/resend?times={times}&concurrent=1"
                )

    def message(self, **changes: Any) -> tuple[str, Mapping[str, str]]:
        """Return body and headers of a message that the newest payment was paid.

        Eximbay's is a form without any header of its own.
        """
        composed = self.stage.post(
            f"{self.alias}/payments/{self.newest()['reference']}/callback",
            {**changes, "send": False},
        )
        return composed["body"], composed.get("headers", {})

    def knock(self, body: str, headers: Mapping[str, str]) -> int:
        """Send a message to the shop as a stranger; return the HTTP status."""
        return (
            browser()
            .post(
                webhook_url(self.stage.shop_url, self.alias),
                data=body.encode(),
                headers=dict(headers),
                timeout=TIMEOUT,
            )
            .status_code
        )

    def must_be_refused(self, body: str, headers: Mapping[str, str]) -> None:
        """Send a forged message; it is an error if the shop takes it."""
        status = self.knock(body, headers)
        if status not in {requests.codes.bad_request, requests.codes.unauthorized}:
            raise UnexpectedPage(f"a forged message was answered with HTTP {status}")

    def let_the_timer_run(self, buyer: Buyer) -> None:
        """Run the shop's timer until the order has changed, without any buyer."""
        before = buyer.get(buyer.order_url).order_status
        deadline = time.monotonic() + PATIENCE_SECONDS
        while buyer.get(buyer.order_url).order_status == before:
            if time.monotonic() > deadline:
                raise UnexpectedPage(f"the timer left the order {before}")
            self.stage.reconcile(self.alias)

    def newest(self) -> Mapping[str, Any]:
        """Return the newest payment in the provider's own books."""
        payments: Sequence[Mapping[str, Any]] = self.stage.get(f"{self.alias}/payments")
        return payments[-1]
