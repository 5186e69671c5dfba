"""When a recurring plan falls due, and when a refused charge is tried again.

Days are counted from the plan's first day, never from the day before: a plan of the
31st is due on the last day of a short month and on the 31st again after it.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import date, timedelta

from django_multipay.enums import DeclineCode

HARD_DECLINES = frozenset(
    {
        DeclineCode.EXPIRED_CARD,
        DeclineCode.LOST_OR_STOLEN,
        DeclineCode.SUSPECTED_FRAUD,
        DeclineCode.INCORRECT_DATA,
        DeclineCode.INCORRECT_CVC,
        DeclineCode.AUTHENTICATION_FAILED,
        DeclineCode.CANCELED_BY_BUYER,
    }
)
"""Refusals that another try without the buyer cannot change."""

MAX_INTERVAL = 120
"""The longest interval of a plan, in months."""


def due_date(start_on: date, months: int) -> date:
    """Return ``start_on`` plus ``months``, on the month's last day if it is shorter.

    `OverflowError` after the year 9999.
    """
    years, month = divmod(start_on.month - 1 + months, 12)
    year = start_on.year + years
    if not date.min.year <= year <= date.max.year:
        raise OverflowError(f"{months} months after {start_on} are out of range")
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(start_on.day, last))


def period_at(start_on: date, interval_months: int, day: date) -> int:
    """Return the number of the period that ``day`` lies in; below 0 before the first.

    Period n begins on ``due_date(start_on, n * interval_months)``.
    """
    months = (day.year - start_on.year) * 12 + day.month - start_on.month
    number = months // interval_months
    if due_date(start_on, number * interval_months) > day:
        number -= 1
    return number


def next_try(
    code: str, failures: int, first_failed_on: date, days: Sequence[int]
) -> date | None:
    """Return when to try again after ``failures`` refusals, the last for ``code``.

    ``days`` are counted from the first refusal. None: only the buyer can help.
    """
    if code in HARD_DECLINES or failures > len(days):
        return None
    return first_failed_on + timedelta(days=days[failures - 1])
