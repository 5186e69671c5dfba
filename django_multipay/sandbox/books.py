"""What the sandbox remembers: every request, every callback, and what time it is.

Each provider keeps its own ledger beside these books. All handlers run on one event
loop, so a handler that does not await is atomic by itself; the lock is for readers
on other threads (tests, fixtures) that look while the sandbox works.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

# A sandbox may run for days under a demo shop; the oldest entries make room.
ENTRIES_KEPT = 10_000

# Header names that carry credentials at one provider or another. Their values
# never enter the books.
REDACTED = "[redacted]"
SECRET_HEADER_WORDS = ("authorization", "secret", "key", "token", "cookie", "signature")

# It only tells two calls from each other, and a test must see that it is sent.
OPEN_HEADERS = frozenset({"idempotency-key"})


class Clock:
    """The one clock of the sandbox: real time plus what was advanced."""

    def __init__(self) -> None:
        self._offset = timedelta()
        self._left_at: datetime | None = None
        self._moved = asyncio.Event()
        self._on_move: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    @property
    def advanced_seconds(self) -> float:
        return self._offset.total_seconds()

    @property
    def left_at(self) -> datetime | None:
        """The moment from which it was last moved; None: it never was."""
        return self._left_at

    def on_move(self, callback: Callable[[], None]) -> None:
        """Called whenever the clock moves forward, before `advance` returns.

        It is for what is due on a day: whoever moves the clock then finds it done.
        Registered once, for the life of the clock; a reset does not call it.
        """
        self._on_move.append(callback)

    def advance(self, seconds: float) -> None:
        self._left_at = self.now()
        self._offset += timedelta(seconds=seconds)
        for callback in self._on_move:
            callback()
        self._wake()

    def reset(self) -> None:
        self._offset = timedelta()
        self._left_at = None
        self._wake()

    async def sleep(self, seconds: float) -> None:
        """Wait on this clock: moving it forward lets what is due happen now."""
        due = self.now() + timedelta(seconds=seconds)
        while (left := (due - self.now()).total_seconds()) > 0:
            try:
                await asyncio.wait_for(self._moved.wait(), timeout=left)
            except TimeoutError:
                return

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


@dataclass(slots=True, kw_only=True)
class RequestEntry:
    """One API request as it came in, and what was answered."""

    provider: str
    operation: str
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: datetime
    status: int | None = None
    response: Any = None
    fault: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "operation": self.operation,
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "body": self.body,
            "status": self.status,
            "response": self.response,
            "fault": self.fault,
            "at": self.at.isoformat(),
        }


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One try to deliver a callback."""

    at: datetime
    status: int | None = None
    answer: str | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(),
            "status": self.status,
            "answer": self.answer,
            "error": self.error,
        }


@dataclass(slots=True, kw_only=True)
class CallbackEntry:
    """One message to the shop: a server-to-server notice or a buyer's return."""

    id: str
    provider: str
    kind: str
    url: str
    body: str
    headers: dict[str, str]
    order_id: str
    at: datetime
    is_acknowledged: Callable[[int, str], bool]
    # Fields of the body that people are not shown.
    secret_fields: frozenset[str] = frozenset()
    attempts: list[Attempt] = field(default_factory=list)
    delivered: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "provider": self.provider,
            "kind": self.kind,
            "url": self.url,
            "body": self.body,
            "headers": self.headers,
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "delivered": self.delivered,
            "order_id": self.order_id,
            "at": self.at.isoformat(),
        }


class Books:
    """The requests and callbacks of all providers, in the order they happened."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._requests: deque[RequestEntry] = deque(maxlen=ENTRIES_KEPT)
        self._callbacks: dict[str, CallbackEntry] = {}
        self._callbacks_made = 0

    def reset(self) -> None:
        with self.lock:
            self._requests.clear()
            self._callbacks.clear()

    def add_request(self, entry: RequestEntry) -> None:
        with self.lock:
            self._requests.append(entry)

    def requests(self, provider: str | None = None) -> list[RequestEntry]:
        with self.lock:
            return [
                entry for entry in self._requests if provider in (None, entry.provider)
            ]

    def next_callback_id(self) -> str:
        """Ids go on counting after a reset, so that an old one is never mistaken."""
        with self.lock:
            self._callbacks_made += 1
            return f"cb{self._callbacks_made:06d}"

    def add_callback(self, entry: CallbackEntry) -> None:
        with self.lock:
            self._callbacks[entry.id] = entry
            while len(self._callbacks) > ENTRIES_KEPT:
                del self._callbacks[next(iter(self._callbacks))]

    def callback(self, callback_id: str) -> CallbackEntry | None:
        with self.lock:
            return self._callbacks.get(callback_id)

    def callbacks(self, provider: str | None = None) -> list[CallbackEntry]:
        with self.lock:
            return [
                entry
                for entry in self._callbacks.values()
                if provider in (None, entry.provider)
            ]


def without_fields(data: Any, secret_fields: Collection[str]) -> Any:
    """JSON with the values of these fields redacted, at every depth."""
    if isinstance(data, dict):
        return {
            name: REDACTED
            if name in secret_fields
            else without_fields(value, secret_fields)
            for name, value in data.items()
        }
    if isinstance(data, list):
        return [without_fields(value, secret_fields) for value in data]
    return data


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: REDACTED if _is_secret(name.lower()) else value
        for name, value in headers.items()
    }


def _is_secret(name: str) -> bool:
    is_open = name in OPEN_HEADERS
    return not is_open and any(word in name for word in SECRET_HEADER_WORDS)
