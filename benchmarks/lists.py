"""The admin's pages at a thousand payments and at a million, for the one command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import admin


def measure(rows: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each page: its time at both sizes, and the ratio."""
    client = admin.log_in()
    admin.fill(0, admin.SMALL)
    small = admin.measure(client, admin.SMALL)
    admin.fill(admin.SMALL, rows)
    for name, (milliseconds, statements) in admin.measure(client, rows).items():
        yield {
            "job": "admin",
            "contestant": "django-multipay",
            "what": name,
            "rows": rows,
            "small_ms": small[name][0],
            "large_ms": milliseconds,
            "ratio": milliseconds / small[name][0],
            "statements": statements,
        }
