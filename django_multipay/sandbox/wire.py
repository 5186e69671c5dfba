"""What every provider reads and writes alike: JSON without surprises, and addresses."""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

# No document has a request half as deep.
MOST_LEVELS = 50


class Malformed(ValueError):
    """The body is nothing that a provider reads; the text says why."""


class WrongMediaType(Malformed):
    """The body is not even said to be JSON."""


async def json_object(
    request: Request, *, parse_float: Callable[[str], Any] = float
) -> dict[str, Any]:
    """The body, which must be a JSON object and say so; else Malformed."""
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        raise WrongMediaType("the content type must be application/json")
    body = parse(await request.body(), parse_float=parse_float)
    if not isinstance(body, dict):
        raise Malformed("the body is not a JSON object")
    return body


def parse(body: bytes, *, parse_float: Callable[[str], Any] = float) -> Any:
    """JSON that can be written again, else Malformed.

    Python also reads NaN, infinite numbers, lone surrogates and endless nesting,
    which then break whatever repeats them: an answer, a callback, the books.
    """
    try:
        data = json.loads(body, parse_float=parse_float)
        json.dumps(data, ensure_ascii=False, allow_nan=False, default=str).encode()
        is_deep = _levels(data) > MOST_LEVELS
    except (ValueError, RecursionError) as error:
        raise Malformed("the body is not JSON") from error
    if is_deep:
        raise Malformed("the body is nested too deeply")
    return data


def encode(value: object, number: Callable[[Decimal], str] = "{:f}".format) -> str:
    """JSON whose Decimals are numbers, written by `number`: digit for digit."""
    match value:
        case Decimal():
            return number(value)
        case Mapping():
            pairs = (
                f"{json.dumps(key)}: {encode(item, number)}"
                for key, item in value.items()
            )
            return f"{{{', '.join(pairs)}}}"
        case list() | tuple():
            return f"[{', '.join(encode(item, number) for item in value)}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def is_web_address(value: object) -> bool:
    """An absolute http(s) URL without blanks."""
    if not isinstance(value, str) or re.search(r"[\s\x00-\x1f\x7f]", value):
        return False
    try:
        parts = urlsplit(value)
        has_good_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_good_port


def origin(request: Request) -> str:
    """Where this sandbox is for whoever asks: `http://127.0.0.1:8100`."""
    return f"{request.url.scheme}://{request.url.netloc}"


def _levels(node: object) -> int:
    children: list[object] = []
    if isinstance(node, dict):
        children = list(node.values())
    elif isinstance(node, list):
        children = node
    return 1 + max(map(_levels, children), default=0)
