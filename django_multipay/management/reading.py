"""What commands take from the command line."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime, time
from typing import Protocol

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime


class Aliases(Container[object], Iterable[str], Protocol):
    """What knows the aliases of the accounts."""


def check_aliases(given: Sequence[str] | None, known: Aliases) -> None:
    """Raise `CommandError` for an account that is not there, with those that are."""
    for alias in given or ():
        if alias not in known:
            names = ", ".join(known) or "none"
            raise CommandError(f"--provider {alias} is not known; use: {names}")


def moment_of(option: str, text: str | None) -> datetime | None:
    """Return the moment that ``text`` names: a day, which is its beginning, or a time.

    Without a time zone, in the site's.
    """
    if not text:
        return None
    try:
        moment = parse_datetime(text) if "T" in text or ":" in text else None
        day = None if moment else parse_date(text)
    except ValueError:
        moment = day = None
    if day is not None:
        moment = datetime.combine(day, time())
    if moment is None:
        raise CommandError(
            f"{option} {text} is no moment; use 2026-11-21 or 2026-11-21T09:30"
        )
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
