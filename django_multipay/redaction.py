"""What must not be stored or logged, and how it is taken out."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MASK = "***"

SENSITIVE_NAMES = re.compile(
    r"authorization|cookie|api.?key|secret|signature|fgkey|token|cavv|^xid$|cv[vcn]|"
    r"security_?code|card_?(number|no|holder)|^(pan|pin|otp)$|expiry|passw(or)?d|"
    r"account_?(number|holder)|^iban$|user_?ci|birth|e?mail|phone|"
    r"^(buyer|user|customer)_?name$|depositor|user_?info|customer_?information|"
    r"(first|last|given|family|full)_?name|street|address_?line",
    re.IGNORECASE,
)
"""Names of fields whose values are secret, card data or personal data."""

_SECURITY_CODES = re.compile(
    r"^(card_?)?(cv[vcn]2?|cav2?|csc|security_?code|verification_?(code|value))$",
    re.IGNORECASE,
)
"""Names of what may not be stored by anybody, for whatever purpose."""

_DIGIT_GROUPS = re.compile(r"(?<![0-9A-Za-z])[0-9]+(?:[ -]{1,3}[0-9]+)*(?![0-9A-Za-z])")
_CARD = re.compile(r"[3-9][0-9]{12,18}|2[2-7][0-9]{14}")
"""What schemes issue; no times such as 20261121063000 or 1700000000000."""

_LONGEST_CARD = 19
_DOUBLED = str.maketrans("0123456789", "0246813579")


def _is_card(digits: str) -> bool:
    if not _CARD.fullmatch(digits):
        return False
    doubled = digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, digits[::-2] + doubled)) % 10 == 0


def mask_card_numbers(text: str) -> str:
    """Replace every run of digits in ``text`` that could be a card number.

    Groups of digits are tried alone and together with their neighbors, so that a
    month or a security code behind the number does not hide it.
    """
    return _DIGIT_GROUPS.sub(_mask_groups, text)


def _mask_groups(match: re.Match[str]) -> str:
    # Digits at the even places, what stands between them at the odd ones.
    parts = re.split(r"([ -]+)", match.group())
    start = 0
    while start < len(parts):
        digits = ""
        for end in range(start, len(parts), 2):
            digits += parts[end]
            if len(digits) > _LONGEST_CARD:
                break
            if _is_card(digits):
                parts[start : end + 1] = [f"{MASK}{digits[-4:]}"]
                break
        start += 2
    return "".join(parts)


def scrub(value: Any) -> Any:
    """Return a copy of JSON-like ``value`` fit to store.

    No card number, nothing that is named as a security code, no NUL.
    """
    if isinstance(value, Mapping):
        return {
            scrub(key): MASK if _SECURITY_CODES.search(str(key)) else scrub(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [scrub(item) for item in value]
    return storable(value, len(value)) if isinstance(value, str) else _masked(value)


def redact(value: Any, name: str = "") -> Any:
    """Return a copy of JSON-like ``value`` without secrets or personal data.

    Whatever stands under a sensitive name becomes ``***``, also a whole object; card
    numbers are masked anywhere, written as text or as a number.
    """
    if value not in ("", None) and SENSITIVE_NAMES.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {
            mask_card_numbers(str(key)): redact(item, str(key))
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    return _masked(value)


def _masked(value: Any) -> Any:
    """Return ``value``, or text in its place if it is a card number."""
    if not isinstance(value, (str, int, Decimal)) or isinstance(value, bool):
        return value
    masked = mask_card_numbers(str(value))
    return value if masked == str(value) else masked


def storable(text: str, limit: int) -> str:
    """Return ``text`` fit for every database: no NUL, no lone surrogate, cut.

    Card numbers are masked. Use it for words that are shown, never for identifiers.
    """
    clean = text.replace("\x00", "\ufffd")
    clean = clean.encode("utf-8", "replace").decode("utf-8")
    return mask_card_numbers(clean)[:limit]


def frames_of(error: BaseException) -> str:
    """Return what ``error`` is and where it came up, without any value.

    Its message may quote what could not be read, and an error report shows what the
    frames held: an answer, a message, an account. This text is for the log instead.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__}, without its message\n{frames}"


def without_frames(error: BaseException) -> None:
    """Take the frames off ``error`` and off what led to it."""
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
