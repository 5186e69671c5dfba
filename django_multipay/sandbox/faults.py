"""Trouble on demand: what a client must survive between its call and the answer.

A fault is armed for one operation of one provider and used up by its requests. Each
kind knows whether the provider's work is still done; `"work": true|false` overrides.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from django_multipay.sandbox import wire

# Where server.py leaves the connection of a request.
TRANSPORT_KEY = "sandbox.transport"

ANY_OPERATION = "*"

# kind -> is the provider's work done although the answer is spoilt?
WORK_IS_DONE: Mapping[str, bool] = {
    "latency": True,
    "status": False,
    "drop_before": False,
    "drop_after": True,
    "truncate": True,
    "html": True,
    "wrong_amount": True,
    "redirect": False,
    "garbage": True,
    "slow_body": True,
    "huge_body": True,
}

DEFAULT_SECONDS: Mapping[str, float] = {"latency": 5.0, "slow_body": 30.0}
DEFAULT_STATUS: Mapping[str, int] = {"status": 500, "redirect": 302}
DEFAULT_HUGE_BYTES = 64 * 1024 * 1024

# Where the gateways' answers have money. EasyBilling's have it nowhere, and a `total`
# counts the rows of a list.
AMOUNT_KEYS = frozenset(
    {
        "amount",
        "amt",
        "balance",
        "amountTotal",
        "amountSubtotal",
        "originalAmount",
        "refundAmount",
        "unitAmount",
    }
)

ERROR_PAGE = """<!doctype html>
<html><head><title>Service temporarily unavailable</title></head>
<body><h1>Service temporarily unavailable</h1><p>Sandbox fault: html.</p></body></html>
"""
GARBAGE = b'{"rescode": "0000", "resmsg": \xff\xfe\x00 not json'
CHUNK = b" " * 65_536


class UnknownFault(ValueError):
    """The request to the control API describes no fault we have."""


@dataclass(slots=True, kw_only=True)
class Fault:
    provider: str
    operation: str
    kind: str
    times: int
    seconds: float
    status: int
    retry_after: str | None
    location: str | None
    size: int
    work: bool

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Fault":
        kind = str(data.get("fault"))
        if kind not in WORK_IS_DONE:
            raise UnknownFault(f"fault must be one of {', '.join(WORK_IS_DONE)}")
        retry_after = data.get("retry_after")
        try:
            return cls(
                provider=str(data.get("provider", ANY_OPERATION)),
                operation=str(data.get("operation", ANY_OPERATION)),
                kind=kind,
                times=int(data.get("times", 1)),
                seconds=float(data.get("seconds", DEFAULT_SECONDS.get(kind, 0))),
                status=int(data.get("status", DEFAULT_STATUS.get(kind, 200))),
                retry_after=None if retry_after is None else str(retry_after),
                location=data.get("location"),
                size=int(data.get("bytes", DEFAULT_HUGE_BYTES)),
                work=bool(data.get("work", WORK_IS_DONE[kind])),
            )
        except (TypeError, ValueError) as error:
            raise UnknownFault(f"not a number: {error}") from error

    def matches(self, provider: str, operation: str) -> bool:
        return self.provider in (ANY_OPERATION, provider) and self.operation in (
            ANY_OPERATION,
            operation,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "operation": self.operation,
            "fault": self.kind,
            "times": self.times,
            "seconds": self.seconds,
            "status": self.status,
            "retry_after": self.retry_after,
            "location": self.location,
            "bytes": self.size,
            "work": self.work,
        }


class FaultBox:
    """The armed faults, oldest first; each request takes at most one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def arm(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def armed(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, provider: str, operation: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.matches(provider, operation):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                    return fault
        return None


async def spoil(fault: Fault, response: Response, request: Request) -> Response:
    """The answer the client gets instead of the right one."""
    match fault.kind:
        case "latency":
            await asyncio.sleep(fault.seconds)
            return response
        case "status":
            return _bare_status(fault)
        case "drop_before" | "drop_after":
            return DroppedConnection()
        case "truncate":
            return TruncatedResponse(response)
        case "html":
            return HTMLResponse(ERROR_PAGE, status_code=fault.status)
        case "wrong_amount":
            return _with_wrong_amount(response)
        case "redirect":
            # By default back to where it came from: a client that follows it
            # leaves a second request in the books.
            target = fault.location or f"{request.url.path}?redirected=1"
            return RedirectResponse(target, status_code=fault.status)
        case "garbage":
            return Response(GARBAGE, media_type="application/json")
        case "slow_body":
            return DribbledResponse(response, _dribble(response, fault.seconds))
        case _:
            return DribbledResponse(response, _pad(response, fault.size))


class DroppedConnection(Response):
    """Closes the TCP connection without a single byte of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = (scope.get("extensions") or {}).get(TRANSPORT_KEY)
        if transport is None:
            # No socket beneath (an in-process client): it gets the error itself.
            raise ConnectionResetError("the sandbox dropped this connection")
        transport.abort()
        await _until_disconnected(receive)


class TruncatedResponse(Response):
    """Promises the whole body, sends half of it, hangs up."""

    def __init__(self, whole: Response) -> None:
        super().__init__(
            content=whole.body, status_code=whole.status_code, headers=whole.headers
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = (scope.get("extensions") or {}).get(TRANSPORT_KEY)
        if transport is None:
            raise ConnectionResetError("the sandbox truncated this answer")
        await send(_start(self))
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        transport.close()
        await _until_disconnected(receive)


class DribbledResponse(Response):
    """Sends a body piece by piece."""

    def __init__(self, whole: Response, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(status_code=whole.status_code, headers=whole.headers)
        # The length is not known beforehand: the server chunks it.
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(_start(self))
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _start(response: Response) -> dict[str, Any]:
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": response.raw_headers,
    }


async def _until_disconnected(receive: Receive) -> None:
    """uvicorn answers 500 for an app that returns early; so wait for the cut."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _dribble(response: Response, seconds: float) -> AsyncIterator[bytes]:
    body = bytes(response.body)
    pause = seconds / max(len(body), 1)
    for position in range(len(body)):
        yield body[position : position + 1]
        await asyncio.sleep(pause)


async def _pad(response: Response, size: int) -> AsyncIterator[bytes]:
    """Blanks before JSON are legal: only a client with a limit notices."""
    for _ in range(size // len(CHUNK)):
        yield CHUNK
    yield bytes(response.body)


def _bare_status(fault: Fault) -> Response:
    headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
    try:
        phrase = HTTPStatus(fault.status).phrase
    except ValueError:
        phrase = "Unknown"
    return Response(
        phrase, status_code=fault.status, headers=headers, media_type="text/plain"
    )


def _with_wrong_amount(response: Response) -> Response:
    try:
        data = wire.parse(bytes(response.body), parse_float=Decimal)
    except wire.Malformed:
        return response
    return Response(
        wire.encode(wrong_amounts(data)),
        status_code=response.status_code,
        media_type="application/json",
    )


def wrong_amounts(node: Any) -> Any:
    """The answer with every amount one unit higher, written as it was."""
    if isinstance(node, dict):
        return {
            key: _one_more(value)
            if key in AMOUNT_KEYS and not isinstance(value, dict | list)
            else wrong_amounts(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [wrong_amounts(child) for child in node]
    return node


def _one_more(value: Any) -> Any:
    """One unit more, text or number as it was, with as many digits."""
    try:
        more = Decimal(str(value)) + 1
    except InvalidOperation:
        return value
    return f"{more:f}" if isinstance(value, str) else more
