"""What time is it, for the shop and for the providers of a test?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db.models import DateTimeField, Value
from django.utils import timezone

from django_multipay.ledger.claims import DatabaseNow
from django_multipay.registry import registry
from django_multipay.testing.plugin import Sandbox

DATABASES = ("mysql", "postgresql", "sqlite")


class Clock:
    """One clock for this process and the sandbox; it goes on, and only forward."""

    def __init__(self, sandbox: Sandbox, traveller: time_machine.Traveller) -> None:
        self._sandbox = sandbox
        self._traveller = traveller

    @property
    def now(self) -> datetime:
        """The moment, in UTC, as shop and providers see it."""
        return datetime.fromisoformat(self._sandbox.get("/_control/clock")["now"])

    def advance(
        self,
        *,
        months: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: int = 0,
    ) -> datetime:
        """Let time pass, months by the calendar first; return the new moment.

        What is due at a provider by then is done when this returns: sessions expire,
        plans are charged. Messages about it wait for ``deliver_webhook()``, and what
        the shop does by a timer for whoever calls it. ``httpx.HTTPStatusError`` if
        it would go back.
        """
        span = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if months:
            self._sandbox.post("/_control/clock", {"advance_months": months})
        if span:
            wish = {"advance_seconds": span.total_seconds()}
            self._sandbox.post("/_control/clock", wish)
        self._traveller.move_to(self.now.timestamp())
        # Who did not answer is left alone for a while, measured by a clock that stands
        # still in a test: a provider that is built anew is asked again.
        registry.clear()
        return self.now


@contextmanager
def ticking(sandbox: Sandbox) -> Iterator[Clock]:
    """Let this process follow the clock of ``sandbox`` for the ``with`` block.

    Nobody can move the clock of a database server, which leases and retries are
    measured by, so the time of this process stands in for it.
    """
    now = datetime.fromisoformat(sandbox.get("/_control/clock")["now"])
    with (
        # A number, because a moment with a zone would change the zone of the process.
        time_machine.travel(now.timestamp(), tick=True) as traveller,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        for vendor in DATABASES:
            monkeypatch.setattr(DatabaseNow, f"as_{vendor}", _compile_now)
        yield Clock(sandbox, traveller)


def _compile_now(_: DatabaseNow, compiler: Any, connection: Any, **more: Any) -> Any:
    return compiler.compile(Value(timezone.now(), output_field=DateTimeField()))
