"""How far a long command has come, for a person who watches."""

from __future__ import annotations

from collections.abc import Callable

from django.core.management.base import OutputWrapper

WIDTH = 30


def bar(stream: OutputWrapper) -> Callable[[int, int], None] | None:
    """Return what draws a bar on ``stream``; None where no person looks at it."""
    if not stream.isatty():
        return None

    def draw(done: int, total: int) -> None:
        filled = WIDTH * done // total if total else WIDTH
        marks = "#" * filled + "." * (WIDTH - filled)
        end = "\n" if done >= total else ""
        stream.write(f"\r[{marks}] {done} of {total}", ending=end)
        stream.flush()

    return draw
