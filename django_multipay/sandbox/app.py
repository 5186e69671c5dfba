"""The app: every provider's endpoints behind one recorder and one fault box."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from django_multipay.sandbox import wire
from django_multipay.sandbox.books import (
    REDACTED,
    Books,
    Clock,
    RequestEntry,
    without_fields,
    without_secrets,
)
from django_multipay.sandbox.callbacks import Deliveries
from django_multipay.sandbox.control import Control
from django_multipay.sandbox.faults import FaultBox, spoil
from django_multipay.sandbox.pages import STATIC
from django_multipay.sandbox.providers import (
    Handler,
    Operation,
    SandboxProvider,
    World,
    discover,
)

# A browser SDK calls from the shop's origin; providers allow any.
CROSS_ORIGIN_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Accept, X-Requested-With",
    "Access-Control-Max-Age": "600",
}
TEXT_KEPT = 2_000


class OwnPagesOnly:
    """Lets programs and the desk's own pages press its buttons, no page of a stranger.

    Whatever site a developer visits could otherwise turn the messages to itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to what a browser sends for another site."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        app = self.app
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            app = JSONResponse({"error": f"{origin} may not do this"}, status_code=403)
        await app(scope, receive, send)


def create_app(others: Sequence[str] = ()) -> Starlette:
    """One fresh world, with the providers of the modules `others` beside our own.

    Everything lives in memory and dies with the process.
    """
    clock, books, faults = Clock(), Books(), FaultBox()
    deliveries = Deliveries(books, clock)
    world = World(clock=clock, books=books, deliveries=deliveries)
    providers = [provider(world) for provider in discover(others)]
    control = Control(world, faults, providers)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await deliveries.close()

    async def refuse(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return await _refuse(request, error, world, providers)

    app = Starlette(
        routes=[
            Route("/", RedirectResponse("/_control/")),
            Mount("/_static", StaticFiles(directory=STATIC)),
            Mount(
                "/_control",
                routes=control.routes(),
                middleware=[Middleware(OwnPagesOnly)],
            ),
            *_provider_routes(world, faults, providers),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: refuse},
    )
    # A client that adds a slash must see the provider's refusal, not a redirect.
    app.router.redirect_slashes = False
    return app


def _provider_routes(
    world: World, faults: FaultBox, providers: Sequence[SandboxProvider]
) -> list[BaseRoute]:
    routes: list[BaseRoute] = []
    for provider in providers:
        routes.extend(provider.pages())
        for operation in provider.operations():
            endpoint = _recorded(world, faults, provider, operation)
            if operation.is_cross_origin:
                routes.append(Route(operation.path, _preflight, methods=["OPTIONS"]))
            routes.append(Route(operation.path, endpoint, methods=[operation.method]))
    return routes


def _recorded(
    world: World, faults: FaultBox, provider: SandboxProvider, operation: Operation
) -> Handler:
    """The operation with its request in the books and its faults applied."""
    secret_fields = operation.secret_fields

    async def endpoint(request: Request) -> Response:
        entry = await _enter(
            world, request, provider.slug, operation.name, secret_fields
        )
        fault = faults.take(provider.slug, operation.name)
        entry.fault = None if fault is None else fault.kind
        if fault is not None and not fault.work:
            response = Response(b"")
        else:
            response = await operation.handler(request)
            entry.status = response.status_code
            entry.response = _readable(bytes(response.body), secret_fields)
        if fault is not None:
            response = await spoil(fault, response, request)
        if operation.is_cross_origin:
            response.headers.update(CROSS_ORIGIN_HEADERS)
        return response

    return endpoint


async def _preflight(request: Request) -> Response:
    return Response(status_code=204, headers=CROSS_ORIGIN_HEADERS)


async def _enter(
    world: World,
    request: Request,
    provider: str,
    operation: str,
    secret_fields: frozenset[str],
) -> RequestEntry:
    query = f"?{request.url.query}" if request.url.query else ""
    entry = RequestEntry(
        provider=provider,
        operation=operation,
        method=request.method,
        path=request.url.path + query,
        headers=without_secrets(dict(request.headers)),
        body=_readable(await request.body(), secret_fields),
        at=world.clock.now(),
    )
    world.books.add_request(entry)
    return entry


async def _refuse(
    request: Request,
    error: HTTPException,
    world: World,
    providers: Sequence[SandboxProvider],
) -> Response:
    """404 and 405 in the words of the provider whose address it was; else as JSON."""
    for provider in providers:
        if request.url.path.startswith(provider.prefixes):
            secret_fields = _any_secret(provider)
            entry = await _enter(
                world, request, provider.slug, "unknown", secret_fields
            )
            response = provider.refuse(error.status_code)
            entry.status = response.status_code
            entry.response = _readable(bytes(response.body), secret_fields)
            return response
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


def _any_secret(provider: SandboxProvider) -> frozenset[str]:
    """An unknown address may be a slip for one that takes a password."""
    fields = [operation.secret_fields for operation in provider.operations()]
    return frozenset().union(*fields)


def _readable(body: bytes, secret_fields: frozenset[str]) -> Any:
    """JSON where it is, text where not; either can be written as JSON again."""
    try:
        return without_fields(wire.parse(body), secret_fields)
    except wire.Malformed:
        if body and secret_fields:
            return REDACTED
        return body.decode("utf-8", "replace")[:TEXT_KEPT]
