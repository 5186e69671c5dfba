"""What the shop's templates need beyond Django's own tags."""

from __future__ import annotations

from django import template
from moneyed import Money
from moneyed.l10n import format_money

from shop.forms import countries

register = template.Library()


@register.filter
def money(value: Money) -> str:
    """Write an amount as a buyer reads it: ``$26.30``, ``₩25,000``."""
    return format_money(value, locale="en_US")


@register.filter
def country(code: str) -> str:
    """Write the name of a country."""
    return dict(countries()).get(code, code)
