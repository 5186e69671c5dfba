"""Decimals of the database and Money of the payments, in both directions."""

from __future__ import annotations

from decimal import Decimal

from moneyed import Money, get_currency


def money_of(amount: Decimal, currency: str) -> Money:
    """Return ``amount`` with exactly the decimals that ``currency`` has.

    The columns keep two decimals for every currency; won and yen have none.
    """
    decimals = len(str(get_currency(currency).sub_unit)) - 1
    return Money(amount.quantize(Decimal(1).scaleb(-decimals)), currency)
