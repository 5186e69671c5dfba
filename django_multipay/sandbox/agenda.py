"""What happens when the sandbox clock gets there: expiries, renewals, charges."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TypeVar

from django_multipay.sandbox.books import Clock

Action = Callable[[], None]
Day = TypeVar("Day", bound=date)


def months_later(day: Day, months: int) -> Day:
    """The same day (and time of day) of a later month, or that month's last day."""
    years, month = divmod(day.month - 1 + months, 12)
    first = day.replace(year=day.year + years, month=month + 1, day=1)
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return first.replace(day=min(day.day, last.day))


class Agenda:
    """Actions by moment. `after` runs when at least one of them was due.

    Moving the clock does what is due before it returns; real time does it through
    an alarm.
    """

    def __init__(self, clock: Clock, after: Action | None = None) -> None:
        self._clock = clock
        self._after = after
        self._numbers = itertools.count()
        self._entries: list[tuple[datetime, int, Action]] = []
        self._alarm: asyncio.Task[None] | None = None
        clock.on_move(self._catch_up)

    def clear(self) -> None:
        self._entries.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def at(self, moment: datetime, action: Action) -> None:
        """Only from inside the event loop, as all handlers are."""
        is_first = not self._entries or moment < self._entries[0][0]
        heapq.heappush(self._entries, (moment, next(self._numbers), action))
        if is_first or self._alarm is None or self._alarm.done():
            self._set_alarm()

    def _catch_up(self) -> None:
        """Do what is due, oldest first; an action may put down its next one."""
        is_any_due = False
        while self._entries and self._entries[0][0] <= self._clock.now():
            is_any_due = True
            _, _, action = heapq.heappop(self._entries)
            action()
        if is_any_due and self._after is not None:
            self._after()

    def _set_alarm(self) -> None:
        ringing = asyncio.current_task()
        if self._alarm is not None and self._alarm is not ringing:
            self._alarm.cancel()
        elif self._alarm is not None:
            # Called from an action of the alarm itself, which looks again anyway.
            return
        self._alarm = asyncio.get_running_loop().create_task(self._ring())

    async def _ring(self) -> None:
        while self._entries:
            left = self._entries[0][0] - self._clock.now()
            await self._clock.sleep(left.total_seconds())
            self._catch_up()
