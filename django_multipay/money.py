"""Whole minor units in, whole minor units out; a float never enters.

Exponents come from ISO 4217 through py-moneyed; a provider may override them
(USDT has 6, some providers treat ISK or UGX in their own way).

py-moneyed and Babel cost megabytes, and every model knows this room. So they are
imported where money is made or shown: a process that does neither never pays for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from django.utils.translation import get_language, to_locale

from django_multipay.exceptions import InvalidAmount

if TYPE_CHECKING:
    from moneyed import Currency, Money

MAX_MINOR = 10**15
"""Upper bound of an amount; far above any payment and inside every BIGINT."""

CRYPTO_EXPONENTS: Mapping[str, int] = {"USDT": 6}
"""Crypto assets that py-moneyed does not know, with their exponents."""

_PLAIN_DECIMAL = re.compile(r"(-(?=[0-9.]*[1-9]))?[0-9]{1,16}(\.[0-9]{1,8})?", re.ASCII)


def currency_of(code: str) -> Currency:
    """Return the currency with the exact ``code``; `InvalidAmount` if unknown."""
    from moneyed import CURRENCIES, Currency

    if code in CRYPTO_EXPONENTS:
        return Currency(code=code, name=code, countries=[])
    try:
        return CURRENCIES[code]
    except KeyError:
        raise InvalidAmount(
            f"currency {code[:12]!r} is unknown; use an ISO 4217 code such as 'USD'",
            "currency",
        ) from None


def exponent_of(code: str, overrides: Mapping[str, int] | None = None) -> int:
    """Return how many decimals the currency ``code`` has."""
    if overrides and code in overrides:
        return overrides[code]
    if code in CRYPTO_EXPONENTS:
        return CRYPTO_EXPONENTS[code]
    return len(str(currency_of(code).sub_unit)) - 1


def to_minor(money: Money, overrides: Mapping[str, int] | None = None) -> int:
    """Return ``money`` in whole minor units.

    `InvalidAmount` if it has more decimals than its currency, is not finite, or is
    out of bounds: an amount is never rounded silently.
    """
    code = money.currency.code
    amount = money.amount
    exponent = exponent_of(code, overrides)
    if (
        not amount.is_finite()
        or abs(amount) > MAX_MINOR
        or abs(amount).scaleb(exponent) > MAX_MINOR
    ):
        raise InvalidAmount(
            f"amount is not a number up to {MAX_MINOR} minor units", "amount"
        )
    # Arithmetic rounds to the context's 28 digits without a word; comparing does not.
    if amount != amount.quantize(Decimal(1).scaleb(-exponent)):
        raise InvalidAmount(
            f"amount {str(amount)[:20]} has more decimals than {code} allows "
            f"({exponent})",
            "amount",
        )
    return int(amount.scaleb(exponent))


def from_minor(
    minor: int, code: str, overrides: Mapping[str, int] | None = None
) -> Money:
    """Return ``minor`` units of the currency ``code`` as Money."""
    from moneyed import Money

    exponent = exponent_of(code, overrides)
    return Money(Decimal(minor).scaleb(-exponent), currency_of(code))


def parse_decimal(text: str) -> Decimal:
    """Read a plain ASCII decimal.

    `InvalidAmount` for signs other than minus, minus zero, blanks, exponents,
    underscores, other scripts' digits, NaN and overlong input, all of which
    ``Decimal`` would take.
    """
    if not _PLAIN_DECIMAL.fullmatch(text):
        raise InvalidAmount(
            f"{text[:20]!r} is not a plain decimal number such as '26.30'", "amount"
        )
    return Decimal(text)


def display(money: Money, locale: str = "") -> str:
    """Return ``money`` as a buyer reads it, e.g. ``$26.30``.

    ``locale`` is the active language's unless given; one that Babel does not know is
    read as American English.
    """
    from babel import UnknownLocaleError

    wanted = locale or to_locale(get_language() or "en-us")
    try:
        return _written(money, wanted)
    except UnknownLocaleError:
        return _written(money, "en_US")


def _written(money: Money, locale: str) -> str:
    from babel.numbers import format_decimal
    from moneyed.l10n import format_money

    code = money.currency.code
    if code in CRYPTO_EXPONENTS:
        # No locale has a pattern for them; two decimals at least, as money has.
        number = format_decimal(money.amount, format="#,##0.00####", locale=locale)
        return f"{number} {code}"
    return format_money(money, locale=locale)
