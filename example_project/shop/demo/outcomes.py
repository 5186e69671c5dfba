"""What can happen to a payment, and whether shop and payment agree on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shop.demo.buyer import Buyer, Seen

# Of what went wrong, in characters: the table shall stay a table.
LONGEST = 150


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way a payment can go: what the buyer does, and what must be seen then.

    ``way`` is the way to pay that the buyer chooses at the checkout. What moves the
    sandbox's clock lets the payments of others expire, so it comes last.
    """

    name: str
    act: Callable[[Buyer], None]
    expected: Seen
    way: str
    currency: str = "USD"
    capture_mode: str = "automatic"
    moves_clock: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table."""

    provider: str
    name: str
    expected: str
    seen: str

    @property
    def is_ok(self) -> bool:
        return self.seen == self.expected


def try_outcomes(
    provider: str, outcomes: Iterable[Outcome], shop_url: str
) -> list[Result]:
    """Buy something for each outcome and let it happen; then look at all of them.

    While one buyer waits for the provider's word, the next one is already at the till.
    """
    buyers = [(outcome, Buyer(shop_url)) for outcome in outcomes]
    problems = [_told(_act, outcome, buyer) for outcome, buyer in buyers]
    return [
        Result(
            provider,
            outcome.name,
            str(outcome.expected),
            problem or _told(buyer.look, outcome.expected),
        )
        for (outcome, buyer), problem in zip(buyers, problems, strict=True)
    ]


def _act(outcome: Outcome, buyer: Buyer) -> str:
    buyer.place_order(
        way=outcome.way,
        currency=outcome.currency,
        capture_mode=outcome.capture_mode,
    )
    outcome.act(buyer)
    return ""


def _told(step: Callable[..., object], *arguments: object) -> str:
    """Return what ``step`` says, or what went wrong."""
    try:
        return str(step(*arguments))
    except Exception as error:  # noqa: BLE001  (one broken row must not hide the others)
        return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]


def table(results: Iterable[Result]) -> str:
    """Return ``results`` as a table of plain text."""
    rows: list[Sequence[str]] = [
        (row.provider, row.name, row.expected, row.seen, "ok" if row.is_ok else "NO")
        for row in results
    ]
    rows.insert(0, ("provider", "outcome", "expected", "seen", "ok"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
