"""Encryption at rest: authenticated, with key rotation, by ``cryptography``."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from django_multipay.conf import conf
from django_multipay.exceptions import MultipayError


def _cipher() -> MultiFernet:
    keys = (hashlib.sha256(key.encode()).digest() for key in conf.encryption_keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])


def encrypt(text: str) -> str:
    """Return ``text`` encrypted under the first of ``ENCRYPTION_KEYS``."""
    return _cipher().encrypt(text.encode()).decode()


def decrypt(ciphertext: str) -> str:
    """Return the text; `MultipayError` when no configured key opens it."""
    try:
        return _cipher().decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        raise MultipayError(
            "no key in MULTIPAY['ENCRYPTION_KEYS'] opens this value; "
            "put the retired key back at the end of the list"
        ) from None


def keyed_digest(text: str) -> str:
    """Return a keyed SHA-256 of ``text``: equal values are found, not revealed."""
    key = conf.encryption_keys[-1].encode()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
