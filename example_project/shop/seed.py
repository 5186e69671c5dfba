"""What stands on the shelf of a new shop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from django.db import transaction

from shop.models import Price, Product


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedProduct:
    """One product as it is first put on the shelf."""

    slug: str
    name: str
    tagline: str
    description: str
    picture_alt: str
    prices: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)


SHELF = (
    SeedProduct(
        slug="first-light",
        name="First Light",
        tagline="Whole beans, light roast",
        description=(
            "Washed, high-grown and roasted only just long enough. "
            "It smells of jasmine, tastes of apricot, and asks for clean water.\n\n"
            "Rest it a week after roasting; it forgives nearly everything else."
        ),
        picture_alt="A dark green bag of coffee with a rising sun on its label.",
        prices={"USD": "18.50", "KRW": "25000", "JPY": "2800", "USDT": "18.49"},
        facts={
            "Roast": "Light",
            "Tastes of": "Jasmine, apricot, black tea",
            "Weight": "250 g",
        },
    ),
    SeedProduct(
        slug="night-shift",
        name="Night Shift",
        tagline="Whole beans, dark roast",
        description=(
            "Slow, sweet and low in acid: chocolate first, toasted nuts later. "
            "Made for milk and for people who are still up.\n\n"
            "Grind it a little coarser than you think."
        ),
        picture_alt="A cream bag of coffee with a crescent moon on its label.",
        prices={"USD": "17.25", "KRW": "23000", "JPY": "2600", "USDT": "17.244"},
        facts={
            "Roast": "Dark",
            "Tastes of": "Cocoa, hazelnut, dried fig",
            "Weight": "250 g",
        },
    ),
    SeedProduct(
        slug="cone-dripper",
        name="Cone Dripper",
        tagline="Glazed stoneware, with server",
        description=(
            "Ribs inside the cone keep the paper off the wall, so that the water "
            "leaves when it should and not before. The server below holds four cups."
        ),
        picture_alt="A red coffee dripper on a glass server with coffee in it.",
        prices={"USD": "42.00", "KRW": "57000", "JPY": "6400", "USDT": "41.98"},
        facts={"Material": "Stoneware, glass", "Holds": "600 ml", "Filters": "Cone, 2"},
    ),
    SeedProduct(
        slug="gooseneck-kettle",
        name="Gooseneck Kettle",
        tagline="Pours where you look",
        description=(
            "A long thin neck turns a kettle into a pencil. The lid stays on when "
            "you tilt it, the handle stays cool when you forget it."
        ),
        picture_alt="A dark green kettle with a long curved spout.",
        prices={"USD": "68.00", "KRW": "93000", "JPY": "10300", "USDT": "67.965"},
        facts={"Material": "Enameled steel", "Holds": "900 ml", "Works on": "Any hob"},
    ),
    SeedProduct(
        slug="stoneware-cup",
        name="Blue Band Cup",
        tagline="With saucer, thrown by hand",
        description=(
            "Thick where it meets the table, thin where it meets you. "
            "The blue band is brushed on while the wheel turns; no two meet alike."
        ),
        picture_alt="A cream cup of coffee with a blue band, steaming on its saucer.",
        prices={"USD": "24.80", "KRW": "34000", "JPY": "3700", "USDT": "24.7875"},
        facts={"Material": "Stoneware", "Holds": "220 ml", "Dishwasher": "Yes"},
    ),
    SeedProduct(
        slug="hand-grinder",
        name="Hand Grinder",
        tagline="Forty turns to a cup",
        description=(
            "Steel burrs, a wooden knob, and a sound that does not wake the house. "
            "Thirty-six clicks lie between espresso and a French press."
        ),
        picture_alt="A hand coffee grinder with a crank and a wooden knob.",
        prices={"USD": "79.90", "KRW": "109000", "JPY": "12000", "USDT": "79.86"},
        facts={"Burrs": "Steel, 38 mm", "Holds": "24 g", "Weight": "480 g"},
    ),
    SeedProduct(
        slug="paper-filters",
        name="Paper Filters",
        tagline="A hundred cones, oat white",
        description=(
            "Dense enough to hold back the fines, open enough not to clog. "
            "Rinse one before you brew and it tastes of nothing at all."
        ),
        picture_alt="A fan of cone-shaped paper filters.",
        prices={"USD": "6.75", "KRW": "9000", "JPY": "1000", "USDT": "6.745625"},
        facts={"Size": "Cone, 2", "Number": "100"},
    ),
    SeedProduct(
        slug="tasting-box",
        name="Tasting Box",
        tagline="Three small roasts to compare",
        description=(
            "Light, dark and one that changes with the season, in bags for three "
            "brews each. Good as a present; better if you open it yourself."
        ),
        picture_alt="A green box with three small bags of coffee in it.",
        prices={"USD": "26.30", "KRW": "36000", "JPY": "3900", "USDT": "26.2869"},
        facts={"Contents": "3 x 60 g", "Roasts": "Light, dark, seasonal"},
    ),
)


@transaction.atomic
def seed_products() -> int:
    """Put the goods on the shelf, or set them right; return how many there are."""
    for position, goods in enumerate(SHELF, start=1):
        product, _ = Product.objects.update_or_create(
            slug=goods.slug,
            defaults={
                "name": goods.name,
                "tagline": goods.tagline,
                "description": goods.description,
                "facts": dict(goods.facts),
                "picture": goods.slug,
                "picture_alt": goods.picture_alt,
                "position": position,
                "is_active": True,
            },
        )
        for currency, amount in goods.prices.items():
            Price.objects.update_or_create(
                product=product,
                currency=currency,
                defaults={"amount": Decimal(amount)},
            )
    return len(SHELF)
