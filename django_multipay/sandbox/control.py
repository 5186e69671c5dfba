"""The control desk below /_control/: JSON for tests, one page for a person.

It has no log-in: the sandbox is for one machine and listens on 127.0.0.1.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from django_multipay.sandbox import pages, wire
from django_multipay.sandbox.books import CallbackEntry, without_fields
from django_multipay.sandbox.faults import (
    WORK_IS_DONE,
    Fault,
    FaultBox,
    UnknownFault,
)
from django_multipay.sandbox.providers import SandboxProvider, World

FLUSH_SECONDS = 10.0
# A person reads the newest entries; tests read them all as JSON.
ENTRIES_SHOWN = 50
MOST_RESENDS = 1_000
# A hundred years: the calendar ends somewhere.
MOST_SECONDS = 100 * 366 * 86_400

Item = TypeVar("Item")


class Control:
    """Reads and changes one sandbox world."""

    def __init__(
        self, world: World, faults: FaultBox, providers: Sequence[SandboxProvider]
    ) -> None:
        self._world = world
        self._faults = faults
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
            Route("/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            *(
                Mount(f"/{slug}", routes=provider.control_routes())
                for slug, provider in self._providers.items()
            ),
        ]

    async def show(self, request: Request) -> Response:
        books, clock = self._world.books, self._world.clock
        return pages.page(
            "control.html",
            providers=list(self._providers.values()),
            requests=books.requests()[: -ENTRIES_SHOWN - 1 : -1],
            callbacks=books.callbacks()[: -ENTRIES_SHOWN - 1 : -1],
            shown_body=_shown_body,
            calls={
                provider.slug: _names(provider) for provider in self._providers.values()
            },
            faults=self._faults.armed(),
            fault_kinds=list(WORK_IS_DONE),
            now=clock.now(),
            advanced=clock.advanced_seconds,
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
            seconds = (await read_json(request)).get("advance_seconds")
            if not isinstance(seconds, int | float) or not 0 <= seconds <= MOST_SECONDS:
                raise HTTPException(400, f"advance_seconds must be 0 to {MOST_SECONDS}")
            clock.advance(seconds)
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

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
        if request.method == "POST":
            try:
                self._faults.arm(Fault.from_json(await read_json(request)))
            except UnknownFault as error:
                raise HTTPException(400, str(error)) from error
        return JSONResponse([fault.as_json() for fault in self._faults.armed()])

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


def _whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST_RESENDS:
        raise HTTPException(400, f"times must be 1 to {MOST_RESENDS}")
    return int(text)
