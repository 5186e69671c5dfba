"""Decimals of the database and Money of the payments, in both directions."""

from __future__ import annotations

from decimal import Decimal

from moneyed import Currency, Money, get_currency
from moneyed.l10n import format_money

# Not a currency of ISO 4217, so py-moneyed has to be told how many decimals it has.
USDT = Currency("USDT", sub_unit=10**6, name="USDT", countries=[])


def money_of(amount: Decimal, currency: str) -> Money:
    """Return ``amount`` with exactly the decimals that ``currency`` has.

    The columns keep six decimals for every currency; dollars have two, won and yen
    none.
    """
    known = USDT if currency == USDT.code else get_currency(currency)
    decimals = len(str(known.sub_unit)) - 1
    return Money(amount.quantize(Decimal(1).scaleb(-decimals)), known)


def written(money: Money) -> str:
    """Write an amount as a buyer reads it: ``$26.30``, ``₩25,000``, ``6.7456 USDT``."""
    if money.currency != USDT:
        return format_money(money, locale="en_US")
    whole, _, decimals = f"{money.amount:,f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')} {USDT.code}"
