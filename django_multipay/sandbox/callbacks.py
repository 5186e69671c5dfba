"""Messages to the shop: sent, sent again until acknowledged, and all remembered.

`Deliveries` is the courier of the whole sandbox. A provider hands its messages to its
own `Outbox`, which knows the settings that all providers share.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from django_multipay.sandbox.books import Attempt, Books, CallbackEntry, Clock

# A provider hangs up on a slow shop; no document says after how long.
TIMEOUT_SECONDS = 10.0
ANSWER_KEPT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How stubbornly one callback is delivered."""

    tries: int = 3
    retry_delay: float = 2.0
    first_delay: float = 0.0
    # Sent this many times more although it was acknowledged.
    duplicates: int = 0


def is_ok(status: int, answer: str) -> bool:
    """The usual acknowledgment: any 2xx."""
    return 200 <= status < 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a provider has to say about one payment."""

    kind: str
    url: str
    body: str
    headers: Mapping[str, str]
    order_id: str
    # The payment's own list of its callbacks; the id is added to it.
    callbacks: list[str]
    is_acknowledged: Callable[[int, str], bool] = is_ok
    # Fields of a JSON body that the control page hides.
    secret_fields: frozenset[str] = frozenset()
    # Handed to the buyer's browser: nobody tells us whether it arrives.
    delivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """A wish to the control API: a good message, some of its fields changed."""

    changes: Mapping[str, Any]
    url: str
    is_sent: bool

    @classmethod
    def read(cls, wish: Mapping[str, Any]) -> "Forgery":
        """`send` and `url` are about the delivery; all else is fields."""
        return cls(
            changes={
                name: value
                for name, value in wish.items()
                if name not in ("send", "url")
            },
            url=str(wish.get("url") or ""),
            is_sent=bool(wish.get("send", True)),
        )

    def applied_to(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields with the changes; null drops one."""
        changed = {**fields, **self.changes}
        dropped = {name for name, value in self.changes.items() if value is None}
        return {name: changed[name] for name in changed if name not in dropped}


class Deliveries:
    """Delivers callbacks in the background and knows what is still under way."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, provider: str, message: Message) -> CallbackEntry:
        entry = CallbackEntry(
            id=self._books.next_callback_id(),
            provider=provider,
            kind=message.kind,
            url=message.url,
            body=message.body,
            headers=dict(message.headers),
            order_id=message.order_id,
            at=self._clock.now(),
            is_acknowledged=message.is_acknowledged,
            secret_fields=message.secret_fields,
            delivered=message.delivered,
        )
        self._books.add_callback(entry)
        message.callbacks.append(entry.id)
        return entry

    def schedule(self, entry: CallbackEntry, policy: Policy) -> asyncio.Event:
        """Deliver in the background; the event is set after the first try."""
        tried = asyncio.Event()
        task = asyncio.get_running_loop().create_task(
            self._deliver(entry, policy, tried)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: tried.set())
        return tried

    async def send(self, entry: CallbackEntry) -> bool:
        """One try, now. True when the shop acknowledged it."""
        attempt = Attempt(at=self._clock.now())
        try:
            response = await self._http().post(
                entry.url, content=entry.body.encode(), headers=entry.headers
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            attempt.error = f"{type(error).__name__}: {error}"
        else:
            attempt.status = response.status_code
            attempt.answer = response.text[:ANSWER_KEPT]
        entry.attempts.append(attempt)
        acknowledged = attempt.status is not None and entry.is_acknowledged(
            attempt.status, attempt.answer or ""
        )
        entry.delivered = entry.delivered or acknowledged
        return acknowledged

    async def flush(self, seconds: float = 10.0) -> dict[str, int]:
        """Wait until nothing is under way, at most so long; then count."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._tasks:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait(set(self._tasks), timeout=left)
        entries = self._books.callbacks()
        delivered = sum(entry.delivered for entry in entries)
        return {
            "pending": len(self._tasks),
            "delivered": delivered,
            "undelivered": len(entries) - delivered,
        }

    async def cancel(self) -> None:
        """Forget everything under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.cancel()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _deliver(
        self, entry: CallbackEntry, policy: Policy, tried: asyncio.Event
    ) -> None:
        await self._clock.sleep(policy.first_delay)
        for number in range(policy.tries):
            if number:
                await self._clock.sleep(policy.retry_delay)
            acknowledged = await self.send(entry)
            tried.set()
            if acknowledged:
                break
        for _ in range(policy.duplicates):
            await self.send(entry)

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            # trust_env=False: a proxy from the environment must not see callbacks
            # to this machine. Redirects are not followed, as nobody documents it.
            self._client = httpx.AsyncClient(
                timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False
            )
        return self._client


class Outbox:
    """One provider's messages, sent as its standard settings say."""

    def __init__(
        self, provider: str, deliveries: Deliveries, settings: Mapping[str, Any]
    ) -> None:
        self._provider = provider
        self._deliveries = deliveries
        self._settings = settings

    def record(self, message: Message) -> CallbackEntry:
        """Into the books, as it is now; nothing is sent yet."""
        return self._deliveries.record(self._provider, message)

    def start(self, entry: CallbackEntry, delay: float = 0) -> asyncio.Event:
        """Send in the background; the event is set after the first try, if any."""
        if entry.url and self._settings["callbacks_enabled"]:
            return self._deliveries.schedule(entry, self._policy(delay))
        settled = asyncio.Event()
        settled.set()
        return settled

    def start_late(self, entry: CallbackEntry) -> None:
        """Send it some time after the buyer was sent back."""
        self.start(entry, self._settings["status_delay_seconds"])

    async def deliver(self, entry: CallbackEntry) -> None:
        """Send what a page caused: before the page answers the buyer, or later."""
        if self._settings["send_status_before_return"]:
            await self.start(entry).wait()
        else:
            self.start_late(entry)

    async def forge(self, message: Message, wish: Forgery) -> dict[str, Any]:
        """Send a forged message once, or only show it; the control API's answer."""
        message = replace(message, url=wish.url or message.url)
        answer = {
            "body": message.body,
            "headers": message.headers,
            "url": message.url,
            "callback": None,
        }
        if wish.is_sent:
            entry = self.record(message)
            if entry.url:
                await self._deliveries.send(entry)
            answer["callback"] = entry.as_json()
        return answer

    def _policy(self, delay: float) -> Policy:
        return Policy(
            tries=int(self._settings["retry_count"]),
            retry_delay=self._settings["retry_delay_seconds"],
            first_delay=delay,
            duplicates=int(self._settings["duplicate_status"]),
        )
