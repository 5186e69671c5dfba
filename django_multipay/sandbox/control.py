"""The control desk below /_control/: JSON for tests, one page for a person.

It has no log-in: the sandbox is for one machine and listens on 127.0.0.1.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from django_multipay.sandbox import pages, wire
from django_multipay.sandbox.agenda import months_later
from django_multipay.sandbox.books import CallbackEntry, without_fields
from django_multipay.sandbox.faults import (
    WORK_IS_DONE,
    Fault,
    FaultBox,
    UnknownFault,
)
from django_multipay.sandbox.providers import Row, SandboxProvider, World

FLUSH_SECONDS = 10.0
# A person reads the newest entries; tests read them all as JSON.
ENTRIES_SHOWN = 50
MOST_RESENDS = 1_000
# A hundred years: the calendar ends somewhere.
MOST_SECONDS = 100 * 366 * 86_400
# How the clock may be moved: by so many of one of these.
DAYS, MONTHS = "advance_days", "advance_months"
SPANS = {"advance_seconds": MOST_SECONDS, DAYS: 100 * 366, MONTHS: 100 * 12}
DAY_SECONDS = 86_400

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Happening:
    """One payment that was decided."""

    at: datetime
    provider: str
    row: Row


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on one day of the sandbox clock, the newest first."""

    day: date
    happenings: list[Happening] = field(default_factory=list)
    callbacks: list[CallbackEntry] = field(default_factory=list)

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """The kinds of messages, each with their number."""
        return list(Counter(entry.kind for entry in self.callbacks).items())

    @property
    def unheard(self) -> int:
        """How many messages the shop has not acknowledged."""
        return sum(not entry.delivered for entry in self.callbacks)


class Control:
    """Reads and changes one sandbox world."""

    def __init__(
        self, world: World, faults: FaultBox, providers: Sequence[SandboxProvider]
    ) -> None:
        self._world = world
        self._faults = faults
        self._everyone = list(providers)
        self._providers = {provider.slug: provider for provider in providers}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.show),
            Route("/reset", self.reset, methods=["POST"]),
            Route("/requests", self.list_requests),
            Route("/callbacks", self.list_callbacks),
            Route("/callbacks/flush", self.flush, methods=["POST"]),
            Route("/callbacks/{id}/resend", self.resend, methods=["POST"]),
            Route("/clock", self.clock, methods=["GET", "POST"]),
            Route("/settings", self.settings, methods=["GET", "POST"]),
            Route("/accounts", self.list_accounts),
            Route("/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            *(
                Mount(f"/{slug}", routes=provider.control_routes())
                for slug, provider in self._providers.items()
            ),
        ]

    async def show(self, request: Request) -> Response:
        books, clock = self._world.books, self._world.clock
        rows = {provider.slug: provider.rows() for provider in self._everyone}
        callbacks = books.callbacks()
        return pages.page(
            "control.html",
            providers=self._everyone,
            rows=rows,
            plans=[
                (provider, plan)
                for provider in self._everyone
                for plan in provider.plan_rows()
            ],
            days=self._what_happened(rows, callbacks),
            requests=books.requests()[: -ENTRIES_SHOWN - 1 : -1],
            callbacks=callbacks[: -ENTRIES_SHOWN - 1 : -1],
            shown_body=_shown_body,
            calls={provider.slug: _names(provider) for provider in self._everyone},
            faults=self._faults.armed(),
            fault_kinds=list(WORK_IS_DONE),
            now=clock.now(),
            advanced=_span(timedelta(seconds=clock.advanced_seconds)),
            left_at=clock.left_at,
            span=_span,
            utc=lambda moment: moment.astimezone(UTC),
            shown=ENTRIES_SHOWN,
        )

    async def reset(self, request: Request) -> Response:
        await self._world.deliveries.cancel()
        self._world.books.reset()
        self._world.clock.reset()
        self._faults.clear()
        for provider in self._providers.values():
            provider.reset()
        return JSONResponse({"reset": True})

    async def list_requests(self, request: Request) -> Response:
        entries = self._world.books.requests(request.query_params.get("provider"))
        return JSONResponse([entry.as_json() for entry in entries])

    async def list_callbacks(self, request: Request) -> Response:
        entries = self._world.books.callbacks(request.query_params.get("provider"))
        return JSONResponse([entry.as_json() for entry in entries])

    async def flush(self, request: Request) -> Response:
        return JSONResponse(await self._world.deliveries.flush(FLUSH_SECONDS))

    async def resend(self, request: Request) -> Response:
        entry = self._callback(request.path_params["id"])
        times = _whole_number(request.query_params.get("times", "1"))
        sends = [self._world.deliveries.send(entry) for _ in range(times)]
        if request.query_params.get("concurrent") == "1":
            await asyncio.gather(*sends)
        else:
            for send in sends:
                await send
        return JSONResponse(entry.as_json())

    async def clock(self, request: Request) -> Response:
        clock = self._world.clock
        if request.method == "POST":
            clock.advance(_seconds_of(await read_json(request), clock.now()))
        return JSONResponse(
            {"now": clock.now().isoformat(), "advanced_seconds": clock.advanced_seconds}
        )

    async def settings(self, request: Request) -> Response:
        if request.method == "POST":
            for slug, changes in (await read_json(request)).items():
                if slug not in self._providers or not isinstance(changes, dict):
                    raise HTTPException(400, f"no provider {slug} here")
                if problems := self._providers[slug].change_settings(changes):
                    raise HTTPException(400, "; ".join(problems))
        return JSONResponse(
            {slug: provider.settings for slug, provider in self._providers.items()}
        )

    async def list_accounts(self, request: Request) -> Response:
        return JSONResponse(
            {
                slug: {
                    "options": {
                        **provider.shop_options,
                        "base_url": wire.origin(request)
                        + str(provider.shop_options["base_url"]),
                    },
                    "saving": provider.saving,
                }
                for slug, provider in self._providers.items()
                if provider.shop_options
            }
        )

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
        if request.method == "POST":
            try:
                self._faults.arm(Fault.from_json(await read_json(request)))
            except UnknownFault as error:
                raise HTTPException(400, str(error)) from error
        return JSONResponse([fault.as_json() for fault in self._faults.armed()])

    def _what_happened(
        self,
        rows: Mapping[str, Sequence[Row]],
        callbacks: Sequence[CallbackEntry],
    ) -> list[Day]:
        """The newest decisions and messages by the days of the sandbox clock."""
        days: dict[date, Day] = {}
        happenings = [
            Happening(at=row.at, provider=provider.display_name, row=row)
            for provider in self._everyone
            for row in rows[provider.slug]
            if row.at is not None
        ]
        happenings.sort(key=lambda one: one.at, reverse=True)
        for happening in happenings[:ENTRIES_SHOWN]:
            day = happening.at.astimezone(UTC).date()
            days.setdefault(day, Day(day)).happenings.append(happening)
        oldest = min(days, default=date.max)
        for entry in callbacks:
            # A return is the buyer's browser, not a message of the provider.
            day = entry.at.date()
            if day >= oldest and entry.kind != "return":
                days.setdefault(day, Day(day)).callbacks.append(entry)
        return [days[day] for day in sorted(days, reverse=True)]

    def _callback(self, callback_id: str) -> CallbackEntry:
        entry = self._world.books.callback(callback_id)
        if entry is None:
            raise HTTPException(404, f"no callback {callback_id}")
        return entry


async def read_json(request: Request) -> dict[str, Any]:
    """The body as an object; an empty body is an empty object."""
    try:
        data = wire.parse(await request.body() or b"{}")
    except wire.Malformed as error:
        raise HTTPException(400, str(error)) from error
    if not isinstance(data, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return data


async def read_wish(request: Request) -> dict[str, Any]:
    """The body; the control page's buttons have none and use the query instead."""
    return {**request.query_params, **await read_json(request)}


async def read_outcome(
    request: Request, known: Collection[str]
) -> tuple[str, dict[str, Any]]:
    """The wished outcome, which must be a known one, and the wish around it."""
    wish = await read_wish(request)
    outcome = wish.get("outcome")
    if not isinstance(outcome, str) or outcome not in known:
        raise HTTPException(400, unknown_outcome(outcome, known))
    return outcome, wish


def unknown_outcome(outcome: object, known: Iterable[str]) -> str:
    return f"unknown outcome {outcome!r}: use one of {', '.join(known)}"


def sent_back(
    url: str | None,
    *,
    method: str = "GET",
    fields: Mapping[str, str] | None = None,
    **books: Any,
) -> dict[str, Any]:
    """The answer to an outcome: where the buyer's browser goes, and the books.

    No URL: the buyer is not sent anywhere.
    """
    return {
        "return_url": url or None,
        "return_method": method,
        "return_fields": fields or {},
        **books,
    }


def find_payment(
    request: Request,
    payments: Iterable[Item],
    names: Callable[[Item], Collection[str]],
) -> Item:
    """The newest payment that goes by the name in the path, or 404.

    Payments are given oldest first.
    """
    reference = request.path_params["reference"]
    for payment in reversed(list(payments)):
        if reference in names(payment):
            return payment
    raise HTTPException(404, f"no payment {reference}")


def _names(provider: SandboxProvider) -> list[str]:
    """Of its operations, each once: some have two spellings of their address."""
    return list(dict.fromkeys(operation.name for operation in provider.operations()))


def _shown_body(entry: CallbackEntry) -> str:
    """A callback's body for people: a line for each field, no secrets."""
    try:
        data = wire.parse(entry.body.encode())
    except wire.Malformed:
        return entry.body.replace("&", "\n&")
    shown = without_fields(data, entry.secret_fields)
    return json.dumps(shown, indent=2, ensure_ascii=False)


def _seconds_of(wish: Mapping[str, Any], now: datetime) -> float:
    """How far to move the clock: by exactly one kind of span, a month by the calendar."""
    given = [name for name in SPANS if name in wish]
    if len(given) != 1:
        raise HTTPException(400, f"give one of {', '.join(SPANS)}")
    (name,) = given
    number, most = wish[name], SPANS[name]
    # Seconds alone may have a fraction.
    is_number = isinstance(number, int if name in (DAYS, MONTHS) else int | float)
    if not is_number or isinstance(number, bool) or not 0 <= number <= most:
        raise HTTPException(400, f"{name} must be 0 to {most}")
    if name == MONTHS:
        return (months_later(now, number) - now).total_seconds()
    return float(number * DAY_SECONDS if name == DAYS else number)


def _span(span: timedelta) -> str:
    """How long, for people, by the largest unit that says enough."""
    seconds = span.total_seconds()
    for unit, length in (("days", DAY_SECONDS), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} seconds" if seconds else ""


def _whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST_RESENDS:
        raise HTTPException(400, f"times must be 1 to {MOST_RESENDS}")
    return int(text)
