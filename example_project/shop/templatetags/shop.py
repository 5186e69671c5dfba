"""What the shop's templates need beyond Django's own tags."""

from __future__ import annotations

from django import template
from moneyed import Money

from shop.forms import countries
from shop.money import written

register = template.Library()


@register.filter
def money(value: Money) -> str:
    """Write an amount as a buyer reads it."""
    return written(value)


@register.filter
def country(code: str) -> str:
    """Write the name of a country."""
    return dict(countries()).get(code, code)
