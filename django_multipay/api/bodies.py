"""Strict JSON: what two readers could understand differently is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from django.http import UnreadablePostError
from rest_framework.parsers import BaseParser

from django_multipay.api.problems import Problem
from django_multipay.enums import ProblemCode

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
_MAX_DIGITS = 18


class StrictJSONParser(BaseParser):
    """One JSON object in UTF-8, small, shallow, without duplicates and fractions."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the object; `Problem` says what is wrong with the body."""
        try:
            raw = stream.read(MAX_BYTES + 1)
        except UnreadablePostError as error:
            raise Problem(
                ProblemCode.MALFORMED, "The body ended before it was read."
            ) from error
        if len(raw) > MAX_BYTES:
            raise Problem(ProblemCode.TOO_LARGE)
        try:
            data = json.loads(
                raw.decode("utf-8"),
                object_pairs_hook=_object,
                parse_int=_whole,
                parse_float=_refuse,
                parse_constant=_refuse,
            )
        except _Unfit as error:
            raise Problem(ProblemCode.MALFORMED, str(error)) from error
        except (ValueError, RecursionError) as error:
            raise Problem(
                ProblemCode.MALFORMED, "The body is no JSON in UTF-8."
            ) from error
        if not isinstance(data, dict):
            raise Problem(ProblemCode.MALFORMED, "The body is not a JSON object.")
        _check(data)
        return data


class _Unfit(ValueError):
    """JSON by the letter, and still not to be trusted."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Unfit("A name comes twice in one object.")
    return found


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS or text == "-0":
        raise _Unfit("A number is out of bounds; write it as text.")
    return int(text)


def _refuse(text: str) -> None:
    raise _Unfit(f"{text[:20]} would lose digits; write it as text.")


def _check(data: Any) -> None:
    """Raise `Problem` for what is too deep, or text that no database takes."""
    level = [data]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str) and not _is_text(value):
                raise Problem(ProblemCode.MALFORMED, "A text holds no characters.")
        level = inner
        if not level:
            return
    raise Problem(
        ProblemCode.MALFORMED, f"The body is nested more than {MAX_DEPTH - 1} deep."
    )


def _is_text(value: str) -> bool:
    """Say whether there is neither NUL nor half a surrogate pair in it."""
    return "\x00" not in value and not any(
        "\ud800" <= sign <= "\udfff" for sign in value
    )
