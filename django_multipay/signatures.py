"""How we check that a message is from whom it says it is, and sign our own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django_multipay.exceptions import SignatureMismatch, WebhookExpired

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def constant_time_equal(given: object, expected: str | bytes) -> bool:
    """Say whether ``given`` is ``expected``, in a time that tells nothing.

    ``given`` may be whatever a sender put there: what is not text, and what no
    encoding can write, is just not equal. Blank is never equal, not even to blank:
    two missing secrets prove nothing.
    """
    if not isinstance(given, (str, bytes)):
        return False
    # As text: more characters are blank there than among bytes.
    is_blank = not given.strip() or not expected.strip()
    given, expected = (
        value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        for value in (given, expected)
    )
    return hmac.compare_digest(given, expected) and not is_blank


def verify_hmac_sha256(payload: bytes, signature: str, secrets: Sequence[str]) -> None:
    """Raise `SignatureMismatch` unless ``signature`` is that of ``payload``.

    ``signature`` is one HMAC-SHA256 in lower-case hexadecimal; anything longer is
    refused before hashing, so a list of thousands costs nothing. Each of ``secrets``
    may have made it, so that a key can be rotated.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", signature, re.ASCII):
        raise SignatureMismatch("the signature is missing or malformed")
    matches = [
        constant_time_equal(
            signature, hmac.digest(secret.encode(), payload, "sha256").hex()
        )
        for secret in secrets
        if secret.strip()
    ]
    if not any(matches):
        raise SignatureMismatch("the signature does not fit the message")


def check_timestamp(text: str, now: datetime, tolerance: timedelta) -> None:
    """Raise unless ``text`` is within ``tolerance`` of ``now``, before or after.

    ``text`` is Unix time, 10 digits for seconds or 13 for milliseconds; the number
    of digits decides for every moment until 2286. `SignatureMismatch` if it is
    anything else, `WebhookExpired` if it is too far away. Check the signature too:
    by itself a timestamp proves nothing.
    """
    if not re.fullmatch(r"[0-9]{10}|[0-9]{13}", text, re.ASCII):
        raise SignatureMismatch("the timestamp is missing or malformed")
    unit = timedelta(seconds=1) if len(text) == 10 else timedelta(milliseconds=1)
    if abs(now - (_EPOCH + int(text) * unit)) > tolerance:
        raise WebhookExpired("the message is too old, or from the future")


def unix_time(moment: datetime) -> int:
    """Return whole seconds since 1970."""
    return (moment - _EPOCH) // timedelta(seconds=1)


SECRET_PREFIX = "whsec_"  # noqa: S105


def standard_webhook_signature(
    secret: str, message_id: str, moment: datetime, body: bytes
) -> str:
    """Return the signature of a message by Standard Webhooks 1.0: ``v1,<base64>``.

    ``secret`` is ``whsec_`` and a key in base64; ``message_id`` must hold no point.
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    signed = b".".join([message_id.encode(), str(unix_time(moment)).encode(), body])
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
