"""The coffee box: beans every month, in two sizes, and the ways to pay for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from moneyed import Money

from django_multipay.models import Token
from shop.money import money_of
from shop.ways import Way, ways_for

PROVIDER, SHOP = "provider", "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSize:
    """One size of the box; prices are set, never converted."""

    slug: str
    name: str
    words: str
    prices: Mapping[str, str]

    def price(self, currency: str) -> Money:
        """Return what a month of it costs."""
        return money_of(Decimal(self.prices[currency]), currency)


SIZES = {
    size.slug: size
    for size in (
        BoxSize(
            slug="one-bag",
            name="One bag",
            words="250 g, for one who counts.",
            prices={"USD": "16.50", "KRW": "22500", "JPY": "2500"},
        ),
        BoxSize(
            slug="two-bags",
            name="Two bags",
            words="500 g, light and dark.",
            prices={"USD": "31.20", "KRW": "42500", "JPY": "4700"},
        ),
    )
}
CURRENCIES = ("USD", "KRW", "JPY")

# At Clink a subscription names a price that was made in its dashboard.
CLINK_PRODUCT = "prd_quiet_kettle_box"


def clink_price(size: BoxSize, currency: str) -> str:
    """Return what the price of a size is called at Clink."""
    return f"price_quiet_kettle_{size.slug}_{currency}".lower().replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxWay:
    """One way to pay every month: who charges, and what.

    ``managed_by`` says who charges: the provider by itself, or the shop with a saved
    method. ``can_change``: the amount can be changed later.
    """

    slug: str
    name: str
    by: str
    words: str
    provider: str
    managed_by: str
    can_change: bool = True
    mark: str = "card"
    token: Token | None = None


BY_PROVIDERS = (
    BoxWay(
        slug="eximbay-plan",
        name="Card",
        by="Eximbay",
        words="Eximbay charges it every month.",
        provider="eximbay",
        managed_by=PROVIDER,
    ),
    BoxWay(
        slug="clink-plan",
        name="Card",
        by="Clink",
        words="Clink charges it every month.",
        provider="clink",
        managed_by=PROVIDER,
        # Its subscriptions are of one price.
        can_change=False,
    ),
)


SAVED_NOW = {
    # Its page asks the buyer, whatever the shop wants.
    "clink": "Let Clink save it; we charge it every month.",
}


def ways_to_subscribe(currency: str, customer_id: str) -> list[BoxWay]:
    """Return the ways to pay every month: cards saved before, providers, new cards."""
    by_shop = [
        _by_shop(way)
        for way in ways_for(currency, customer_id)
        if way.token is not None or way.can_save
    ]
    saved = [way for way in by_shop if way.token is not None]
    new = [way for way in by_shop if way.token is None]
    aliases = settings.MULTIPAY["PROVIDERS"]
    by_providers = [way for way in BY_PROVIDERS if way.provider in aliases]
    return [*saved, *by_providers, *new]


def _by_shop(way: Way) -> BoxWay:
    return BoxWay(
        slug=way.slug,
        name=way.name if way.token else "Card",
        by=way.by,
        words="We charge this card every month."
        if way.token
        else SAVED_NOW.get(way.provider, "Saved now; we charge it every month."),
        provider=way.provider,
        managed_by=SHOP,
        mark=way.mark,
        token=way.token,
    )
