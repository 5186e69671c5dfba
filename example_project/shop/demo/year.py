"""A year of the coffee box in every mode, and whether both ledgers agree on it.

Who charges differs: a provider by itself, or the shop with a saved card. The clock of
the sandbox goes on month by month; the shop's timer follows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from shop.coffee_box import SIZES
from shop.demo.buyer import PATIENCE_SECONDS, Buyer, UnexpectedPage
from shop.demo.outcomes import LONGEST, Result
from shop.demo.pages import Charge, Page
from shop.demo.providers import discover
from shop.demo.stage import Stage
from shop.money import money_of

# After so many months the size is changed, where it can be.
CHANGE_AFTER = 6
YEAR = 12
# In the month after the year a card is refused; who was refused pays in person.
REFUSAL = YEAR + 1
REFUSED = "8327"
# Two more months show that nobody charges what was canceled.
MONTHS = YEAR + 2
# Every month has it, so that no plan moves to another day.
FIRST_DAY = 10
DAY_SECONDS = 86_400
SMALL, LARGE = "one-bag", "two-bags"

# Amount and currency of every charge, by the provider's own reference.
Ledger = Mapping[str, tuple[Decimal, str]]


class Payer(Protocol):
    """One provider's side of a purchase, as far as a subscription needs it."""

    def pay(self, buyer: Buyer, outcome: str, **choices: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to subscribe. ``choices`` are made on the provider's page.

    After a year it is canceled, unless it ``goes_on``; ``is_refused``: then a charge
    fails once.
    """

    provider: str
    name: str
    way: str
    currency: str = "USD"
    can_change: bool = True
    goes_on: bool = False
    is_refused: bool = False
    choices: tuple[tuple[str, str], ...] = ()


MODES = (
    Mode("eximbay", "a year, charged by Eximbay", "eximbay-plan"),
    Mode(
        "eximbay",
        "14 months, charged by us, refused once",
        "eximbay",
        "KRW",
        goes_on=True,
        is_refused=True,
    ),
    Mode("clink", "a year, charged by Clink", "clink-plan", can_change=False),
    Mode(
        "clink",
        "a year, charged by us",
        "clink",
        choices=(("save_card", "yes"),),
    ),
    # The last one that the timer charges: when it was charged, it is everybody's turn.
    Mode("easybilling", "14 months, charged by us", "easybilling", goes_on=True),
)


class Subscriber:
    """Somebody who gets the box in one mode."""

    def __init__(self, mode: Mode, stage: Stage) -> None:
        self.mode = mode
        self.buyer = Buyer(stage.shop_url)
        self.problem = ""
        self.page = Page("")

    @property
    def expected(self) -> str:
        """What it costs, to the cent."""
        small, large = (
            SIZES[size].price(self.mode.currency).amount for size in (SMALL, LARGE)
        )
        count = (MONTHS if self.mode.goes_on else YEAR) + 1
        # The first payment and the months before the change are of the old size.
        before = CHANGE_AFTER + 1 if self.mode.can_change else count
        paid = small * before + large * (count - before)
        status = "active" if self.mode.goes_on else "canceled"
        return _said(status, int(self.mode.is_refused), count, paid, self.mode.currency)

    @property
    def seen(self) -> str:
        """What the page said in the end, or what went wrong."""
        if self.problem:
            return self.problem
        charges = self.paid
        total = sum((charge.amount for charge in charges), Decimal(0))
        status = self.page.plan_status
        if self.boxes != len(charges):
            status = f"{self.boxes} boxes packed, {status}"
        refused = sum(charge.status == "failed" for charge in self.page.charges)
        return _said(status, refused, len(charges), total, self.mode.currency)

    @property
    def paid(self) -> list[Charge]:
        """The charges that brought money."""
        return [charge for charge in self.page.charges if charge.status == "paid"]

    @property
    def boxes(self) -> int:
        """How many of them were packed."""
        return sum(charge.has_box for charge in self.paid)

    def begin(self, payer: Payer) -> None:
        """Subscribe, and pay the first box."""
        self.buyer.subscribe(way=self.mode.way, size=SMALL, currency=self.mode.currency)
        payer.pay(self.buyer, "approve", **dict(self.mode.choices))
        self.wait_for(1)

    def wait_for(self, count: int) -> None:
        """Look until the page shows so many paid charges, each with its box."""
        self._look_until(lambda: self.boxes >= count, f"{count} boxes")

    def try_to(self, step: str, *arguments: object) -> None:
        """Do a step, unless something went wrong before; remember what does."""
        if self.problem:
            return
        try:
            getattr(self, step)(*arguments)
        except Exception as error:  # noqa: BLE001  (one broken row must not hide the others)
            self.problem = " ".join(f"{type(error).__name__}: {error}".split())
            self.problem = self.problem[:LONGEST]

    def enlarge(self) -> None:
        """Change to the larger box."""
        if self.mode.can_change:
            self.buyer.change_subscription("size", size=LARGE)

    def cancel(self) -> None:
        """End it."""
        self.buyer.change_subscription("cancel")

    def pay_in_person(self, payer: Payer) -> None:
        """Wait for the refusal, and follow the link of the page to pay."""
        self._look_until(lambda: self.page.plan_status == "past_due", "refused")
        link = next(link for link in self.page.links if link.startswith("/payments/"))
        self.buyer.payment_url = link
        payer.pay(self.buyer, "approve", **dict(self.mode.choices))

    def look(self) -> None:
        """See how it stands."""
        self.page = self.buyer.get(self.buyer.order_url)

    def _look_until(self, is_so: Callable[[], bool], wanted: str) -> None:
        """Look until ``is_so``; `UnexpectedPage` says what there is instead."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self.look()
        while not is_so():
            if time.monotonic() > deadline:
                raise UnexpectedPage(
                    f"{self.page.plan_status}, {self.boxes} boxes, not {wanted}"
                )
            time.sleep(0.2)
            self.look()


def live_a_year(stage: Stage) -> Iterator[Result]:
    """Subscribe in every mode and let the months go by; yield what was seen."""
    _go_to_first_day(stage)
    providers = {provider.alias: provider for provider in discover()}
    aliases = sorted({mode.provider for mode in MODES})
    before = {alias: set(_books(stage, alias)) for alias in aliases}
    subscribers = [Subscriber(mode, stage) for mode in MODES]
    for one in subscribers:
        one.try_to("begin", providers[one.mode.provider].till(stage))
    for month in range(1, MONTHS + 1):
        _refuse(stage, subscribers, is_on=month == REFUSAL)
        stage.move_months(1)
        stage.deliver()
        for one in subscribers:
            if month == REFUSAL and one.mode.is_refused:
                till = providers[one.mode.provider].till(stage)
                one.try_to("pay_in_person", till)
            if month <= YEAR or one.mode.goes_on:
                one.try_to("wait_for", month + 1)
            if month == CHANGE_AFTER:
                one.try_to("enlarge")
            if month == YEAR and not one.mode.goes_on:
                one.try_to("cancel")
    for one in subscribers:
        one.try_to("look")
        yield Result(one.mode.provider, one.mode.name, one.expected, one.seen)
    for alias in aliases:
        books = _books(stage, alias)
        theirs = {name: books[name] for name in books if name not in before[alias]}
        ours = _ledger([one for one in subscribers if one.mode.provider == alias])
        yield Result(alias, "those months in both ledgers", *compared(ours, theirs))


def _refuse(stage: Stage, subscribers: Sequence[Subscriber], *, is_on: bool) -> None:
    """Let saved cards be refused, where somebody is here to see it."""
    for alias in {one.mode.provider for one in subscribers if one.mode.is_refused}:
        stage.post("settings", {alias: {"charge_rescode": REFUSED if is_on else ""}})


def _go_to_first_day(stage: Stage) -> None:
    now = datetime.fromisoformat(stage.get("clock")["now"])
    days = (FIRST_DAY - now.day) % 28
    stage.move_clock(days * DAY_SECONDS)
    while datetime.fromisoformat(stage.get("clock")["now"]).day != FIRST_DAY:
        stage.move_clock(DAY_SECONDS)


def _books(stage: Stage, alias: str) -> Ledger:
    """Return what the provider says it took, by its own reference."""
    provider = next(one for one in discover() if one.alias == alias)
    return {
        entry["provider_reference"]: (
            provider.amount_of(entry) * entry["charges"],
            entry["currency"],
        )
        for entry in stage.get(f"{alias}/payments")
        if entry["charges"]
    }


def _ledger(subscribers: Sequence[Subscriber]) -> Ledger:
    """Return what the shop says it was paid, by the provider's reference."""
    return {
        charge.reference: (charge.amount, charge.currency)
        for one in subscribers
        for charge in one.paid
    }


def compared(ours: Ledger, theirs: Ledger) -> tuple[str, str]:
    """Return what both ledgers should say, and what they do."""
    expected = f"{len(theirs)} charges, {_sums(theirs)}"
    if ours == theirs:
        return expected, expected
    different = [
        f"{name}: {_amount(ours.get(name))} here, {_amount(theirs.get(name))} there"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    return expected, f"{len(different)} differ: {'; '.join(different)}"[:LONGEST]


def _sums(ledger: Ledger) -> str:
    sums: dict[str, Decimal] = {}
    for amount, currency in ledger.values():
        sums[currency] = sums.get(currency, Decimal(0)) + amount
    return ", ".join(_written(sums[code], code) for code in sorted(sums))


def _amount(entry: tuple[Decimal, str] | None) -> str:
    return _written(*entry) if entry else "nothing"


def _written(amount: Decimal, currency: str) -> str:
    return f"{money_of(amount, currency).amount} {currency}"


def _said(status: str, refused: int, count: int, total: Decimal, currency: str) -> str:
    once = f", {refused} refused" if refused else ""
    return f"{status}, {count} boxes{once}, {_written(total, currency)}"
