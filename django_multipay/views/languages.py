"""Which language a buyer reads: the one their payment was made in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from django.utils import translation

_ALIASES: Mapping[str, str] = {
    "cn": "zh-hans",
    "jp": "ja",
    "kr": "ko",
    "tw": "zh-hant",
}
"""What providers and shops write where they mean a language and name a country."""


def language_of(locale: str) -> str:
    """Return the site's language for a payment's ``locale``, or "" if it has none.

    ``locale`` as shops and providers write it: ``ko``, ``zh-CN``, ``zh_CN``, ``KR``.
    """
    wanted = locale.replace("_", "-").lower()
    try:
        return translation.get_supported_language_variant(_ALIASES.get(wanted, wanted))
    except LookupError:
        return ""


def speaking(locale: str) -> AbstractContextManager[object]:
    """Speak the language of ``locale`` inside the block, or go on as before."""
    language = language_of(locale)
    return translation.override(language) if language else nullcontext()
