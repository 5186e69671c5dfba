"""A buyer with a browser, played over HTTP; knows the shop only by its pages."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests

from shop.demo.pages import NextStep, Page

TIMEOUT = 30
PATIENCE_SECONDS = 40
PENDING = frozenset({"created", "pending"})


class UnexpectedPage(Exception):
    """The shop showed something else than a buyer can go on with."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Where an order and its last payment stand, as their pages tell.

    ``heard`` is how often the shop acted on news about its payments.
    """

    order: str
    payment: str
    heard: int = 1

    def __str__(self) -> str:
        return f"order {self.order}, payment {self.payment}, heard {self.heard}"


def browser() -> requests.Session:
    """Return a fresh browser: no cookies, no proxy."""
    session = requests.Session()
    session.trust_env = False
    # The payment page may treat phones in another way.
    session.headers["User-Agent"] = "Mozilla/5.0 (demo check)"
    return session


class Buyer:
    """One visitor of the shop, with one order."""

    def __init__(self, shop_url: str) -> None:
        self.shop_url = shop_url
        self.browser = browser()
        # Somebody else than in the last order: providers remember whom they met.
        self.email = f"buyer-{secrets.token_hex(4)}@example.com"
        self.order_url = ""
        self.payment_url = ""

    def place_order(self, *, way: str, currency: str, capture_mode: str) -> None:
        """Fill the cart and check out, up to the door of the payment page."""
        self._post("/currency/", {"currency": currency, "next": "/"})
        for slug, quantity in (("tasting-box", "1"), ("paper-filters", "2")):
            self._post(f"/cart/{slug}/", {"add": "1", "quantity": quantity})
        answer = self._post(
            "/checkout/",
            {
                "name": "Demo Buyer",
                "email": self.email,
                "phone": "+81 3 1234 5678",
                "country": "JP",
                "way": way,
                "capture_mode": capture_mode,
            },
        )
        self._leave_for_payment(answer)
        orders = self.get("/orders/")
        self.order_url = next(
            link for link in orders.links if link.startswith("/orders/QK")
        )

    def subscribe(self, *, way: str, size: str, currency: str) -> None:
        """Begin a subscription to the coffee box, up to the door of the payment."""
        self._post("/currency/", {"currency": currency, "next": "/"})
        form = self.get("/coffee-box/").form_with("form_key")
        if form is None:
            raise UnexpectedPage("the coffee box has no form to subscribe")
        answer = self._post(
            "/coffee-box/",
            {
                **form.fields,
                "size": size,
                "way": way,
                "name": "Demo Buyer",
                "email": self.email,
                "country": "JP",
            },
        )
        self._leave_for_payment(answer)
        self.order_url = next(
            link
            for link in self.get("/subscriptions/").links
            if link.startswith("/subscriptions/QB")
        )

    def change_subscription(self, wish: str, **fields: str) -> None:
        """Press a button on the subscription's page."""
        answer = self._post(f"{self.order_url}{wish}/", fields)
        if answer.status_code != requests.codes.found:
            raise UnexpectedPage(f"{wish} was answered with HTTP {answer.status_code}")

    def pay_again(self, way: str = "") -> None:
        """Press the button on the order's page after a payment that failed.

        Without another ``way`` it is the one that the page proposes.
        """
        form = next(
            (form for form in self.get(self.order_url).forms if "/pay/" in form.action),
            None,
        )
        if form is None:
            raise UnexpectedPage(f"{self.order_url} offers no way to pay again")
        first_attempt = self.payment_url
        self._leave_for_payment(
            self._post(form.action, {**form.fields, **({"way": way} if way else {})})
        )
        if self.payment_url == first_attempt:
            raise UnexpectedPage("paying again led to the payment that failed")

    def start_payment(self) -> NextStep:
        """Say yes on the payment page, or go on where it was left; see what is next."""
        answer = self._visit(self.payment_url)
        if answer.ok and not answer.is_redirect:
            form = Page(answer.text).form_with("provider")
            if form is not None:
                answer = self._post(self.payment_url, form.fields)
                if not self._leads_away(answer):
                    answer = self._visit(self.payment_url)
        if self._leads_away(answer):
            return NextStep("redirect", answer.headers["Location"])
        answer.raise_for_status()
        step = Page(answer.text).next_step
        if step is None:
            raise UnexpectedPage(f"{self.payment_url} offers no next step")
        return step

    def come_back(self, url: str, fields: Mapping[str, str]) -> None:
        """Be sent back by the provider: a foreign POST, which carries no cookie."""
        self._land(
            browser().post(
                url, data=dict(fields), timeout=TIMEOUT, allow_redirects=False
            )
        )

    def follow(self, url: str) -> None:
        """Be sent back by the provider with a link."""
        answer = self.browser.get(url, timeout=TIMEOUT, allow_redirects=False)
        if answer.is_redirect:
            self._land(answer)
        answer.raise_for_status()

    def look(self, expected: Seen) -> Seen:
        """Return what the pages say, once they say ``expected`` or patience ends."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            page = self.get(self.order_url)
            seen = Seen(page.order_status, self._payment(), page.payment_events)
            if seen == expected or time.monotonic() > deadline:
                return seen
            time.sleep(0.5)

    def get(self, path: str) -> Page:
        """Read a page of the shop."""
        answer = self.browser.get(urljoin(self.shop_url, path), timeout=TIMEOUT)
        answer.raise_for_status()
        return Page(answer.text)

    def _land(self, answer: requests.Response) -> None:
        """See the outcome page after a return."""
        if answer.status_code != requests.codes.see_other or answer.cookies:
            raise UnexpectedPage(
                f"the return answered HTTP {answer.status_code} "
                f"with {len(answer.cookies)} cookies, not 303 with none"
            )
        outcome = self.browser.get(
            urljoin(answer.url, answer.headers["Location"]), timeout=TIMEOUT
        )
        outcome.raise_for_status()

    def _visit(self, path: str) -> requests.Response:
        return self.browser.get(
            urljoin(self.shop_url, path), timeout=TIMEOUT, allow_redirects=False
        )

    def _leads_away(self, answer: requests.Response) -> bool:
        """Say whether an answer sends the browser to another server."""
        target = urljoin(self.shop_url, answer.headers.get("Location", ""))
        return urlsplit(target).netloc != urlsplit(self.shop_url).netloc

    def _payment(self) -> str:
        answer = self.browser.get(
            urljoin(self.shop_url, f"{self.payment_url}state/"), timeout=TIMEOUT
        )
        answer.raise_for_status()
        return str(answer.json()["status"])

    def _leave_for_payment(self, answer: requests.Response) -> None:
        if answer.status_code != requests.codes.found:
            raise UnexpectedPage(
                f"{answer.url} answered HTTP {answer.status_code}, not the payment page"
            )
        self.payment_url = answer.headers["Location"]

    def _post(self, path: str, data: Mapping[str, str]) -> requests.Response:
        if "csrftoken" not in self.browser.cookies:
            self.get("/")
        answer = self.browser.post(
            urljoin(self.shop_url, path),
            data={
                **data,
                "csrfmiddlewaretoken": self.browser.cookies["csrftoken"],
            },
            headers={"Referer": self.shop_url},
            timeout=TIMEOUT,
            allow_redirects=False,
        )
        return answer
