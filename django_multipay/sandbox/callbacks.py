"""Messages to the shop: sent, sent again until acknowledged, and all remembered."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


class Deliveries:
    """Delivers callbacks in the background and knows what is still under way."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def record(
        self,
        *,
        provider: str,
        kind: str,
        url: str,
        body: str,
        headers: Mapping[str, str],
        order_id: str,
        is_acknowledged: Callable[[int, str], bool],
        delivered: bool = False,
    ) -> CallbackEntry:
        entry = CallbackEntry(
            id=self._books.next_callback_id(),
            provider=provider,
            kind=kind,
            url=url,
            body=body,
            headers=dict(headers),
            order_id=order_id,
            at=self._clock.now(),
            is_acknowledged=is_acknowledged,
            delivered=delivered,
        )
        self._books.add_callback(entry)
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
