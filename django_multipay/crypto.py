"""Encryption at rest: authenticated, with key rotation, by ``cryptography``.

That library costs megabytes, and the models know this room. So it is imported where a
value is encrypted or opened: a process that does neither never pays for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from django_multipay.conf import conf
from django_multipay.exceptions import MultipayError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet, MultiFernet


def _ciphers() -> list[Fernet]:
    from cryptography.fernet import Fernet

    keys = (hashlib.sha256(key.encode()).digest() for key in conf.encryption_keys)
    return [Fernet(base64.urlsafe_b64encode(key)) for key in keys]


def _cipher() -> MultiFernet:
    from cryptography.fernet import MultiFernet

    return MultiFernet(_ciphers())


def encrypt(text: str) -> str:
    """Return ``text`` encrypted under the first of ``ENCRYPTION_KEYS``."""
    return _cipher().encrypt(text.encode()).decode()


def decrypt(ciphertext: str) -> str:
    """Return the text; `MultipayError` when no configured key opens it."""
    from cryptography.fernet import InvalidToken

    try:
        return _cipher().decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        raise _unopened() from None


def rotate(ciphertext: str) -> str:
    """Return the same text encrypted under the first key; as `decrypt`."""
    from cryptography.fernet import InvalidToken

    try:
        return _cipher().rotate(ciphertext.encode()).decode()
    except InvalidToken:
        raise _unopened() from None


def _unopened() -> MultipayError:
    return MultipayError(
        "no key in MULTIPAY['ENCRYPTION_KEYS'] opens this value; "
        "put the retired key back at the end of the list"
    )


def keyed_digest(text: str) -> str:
    """Return a SHA-256 of ``text`` under the first of ``ENCRYPTION_KEYS``.

    Equal values are found, not revealed. What was written before the keys were
    rotated is among `keyed_digests`.
    """
    return keyed_digests(text)[0]


def keyed_digests(text: str) -> list[str]:
    """Return the keyed digests of ``text`` under every key, the first key's first."""
    return [
        hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
        for key in conf.encryption_keys
    ]


def is_current(ciphertext: str) -> bool:
    """Say whether the first of ``ENCRYPTION_KEYS`` opens ``ciphertext``."""
    from cryptography.fernet import InvalidToken

    try:
        _ciphers()[0].decrypt(ciphertext.encode())
    except InvalidToken:
        return False
    return True
