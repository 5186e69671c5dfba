"""What must not be stored or logged, and how it is taken out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

SENSITIVE_NAMES = re.compile(
    r"authorization|api.?key|secret|signature|fgkey|token|cavv|^xid$|cvv|cvc|"
    r"card_?(number|no|holder)|expiry|password|account_number|user_ci|birthday|"
    r"e?mail|phone|^(buyer|user)_?name$|depositor|user_info|customer_information|"
    r"(first|last)_name|street",
    re.IGNORECASE,
)
"""Names of fields whose values are secret, card data or personal data."""

_DIGIT_RUN = re.compile(r"(?<![0-9A-Za-z])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z])")


def _passes_luhn(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mask_card_numbers(text: str) -> str:
    """Replace every run of digits in ``text`` that could be a card number."""

    def mask(match: re.Match[str]) -> str:
        digits = re.sub(r"[^0-9]", "", match.group())
        return f"{MASK}{digits[-4:]}" if _passes_luhn(digits) else match.group()

    return _DIGIT_RUN.sub(mask, text)


def scrub(value: Any) -> Any:
    """Return a copy of JSON-like ``value`` fit to store: no card number, no NUL."""
    if isinstance(value, Mapping):
        return {scrub(key): scrub(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item) for item in value]
    return storable(value, len(value)) if isinstance(value, str) else value


def redact(value: Any, name: str = "") -> Any:
    """Return a copy of JSON-like ``value`` without secrets or personal data.

    Values under a sensitive name become ``***``; card numbers are masked anywhere.
    """
    if isinstance(value, Mapping):
        return {key: redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, name) for item in value]
    if value not in ("", None) and name and SENSITIVE_NAMES.search(name):
        return MASK
    return mask_card_numbers(value) if isinstance(value, str) else value


def storable(text: str, limit: int) -> str:
    """Return ``text`` fit for every database: no NUL, no lone surrogate, cut.

    Card numbers are masked. Use it for words that are shown, never for identifiers.
    """
    clean = text.replace("\x00", "\ufffd")
    clean = clean.encode("utf-8", "replace").decode("utf-8")
    return mask_card_numbers(clean)[:limit]
