"""The ways to pay, as a buyer thinks of them: each is a provider and its method.

django-multipay's own payment page chooses between accounts. A shop that offers several
methods of one account, such as cards and a wallet, asks first and says both when it
creates the payment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from django_multipay.models import Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to pay. ``provider`` is an alias of the settings, ``mark`` a drawing.

    ``picture_field`` is what the provider calls a picture of the goods, where it shows
    one on its page. ``can_save``: the provider keeps the card for later payments, if
    the buyer wants. With a ``token`` it is such a card.
    """

    slug: str
    name: str
    by: str
    words: str
    provider: str
    currencies: tuple[str, ...]
    method: str = ""
    mark: str = "card"
    can_authorize: bool = False
    can_save: bool = False
    picture_field: str = ""
    token: Token | None = None


ISO = ("USD", "KRW", "JPY")

WAYS = (
    Way(
        slug="eximbay",
        name="Card and more",
        by="Eximbay",
        words="Virtual accounts for won, convenience stores for yen.",
        provider="eximbay",
        currencies=ISO,
        can_authorize=True,
        can_save=True,
    ),
    Way(
        slug="clink",
        name="Card",
        by="Clink",
        words="Or pay in the currency of your card.",
        provider="clink",
        method="CARD",
        currencies=ISO,
        can_save=True,
    ),
    Way(
        slug="easybilling",
        name="Card",
        by="EasyBilling",
        words="On a page of Stripe.",
        provider="easybilling",
        method="stripe-connect",
        currencies=ISO,
        can_save=True,
    ),
    Way(
        slug="payer",
        name="Card",
        by="Payer",
        words="On a plain page, in US dollars.",
        provider="payer",
        currencies=("USD",),
    ),
    Way(
        slug="cash-app",
        name="Cash App",
        by="Clink",
        words="Scan a code with your phone.",
        provider="clink",
        method="CASHAPP",
        currencies=("USD",),
        mark="code",
    ),
    Way(
        slug="wechat",
        name="WeChat Pay",
        by="EasyBilling",
        words="Scan a code with your phone.",
        provider="easybilling",
        method="wechat-pay-native",
        currencies=ISO,
        mark="code",
    ),
    Way(
        slug="alipay",
        name="Alipay",
        by="EasyBilling",
        words="Pay from your account there.",
        provider="easybilling",
        method="alipay-page",
        currencies=ISO,
        mark="wallet",
    ),
    Way(
        slug="kakao",
        name="KakaoPay",
        by="Clink",
        words="Pay from your account there.",
        provider="clink",
        method="KAKAO",
        currencies=("KRW",),
        mark="wallet",
    ),
    Way(
        slug="payermax",
        name="Local wallets",
        by="EasyBilling",
        words="What people use where you are.",
        provider="easybilling",
        method="payer-max-isv",
        currencies=ISO,
        mark="wallet",
    ),
    Way(
        slug="excoinz",
        name="USDT",
        by="Excoinz",
        words="From your own wallet, on Tron.",
        provider="excoinz",
        currencies=("USDT",),
        mark="coin",
        picture_field="item_img_url",
    ),
)


def ways_for(currency: str, customer_id: str = "") -> list[Way]:
    """Return the ways to pay in ``currency`` with the providers of the settings.

    The cards that this customer saved come first.
    """
    aliases = settings.MULTIPAY["PROVIDERS"]
    ways = [
        way for way in WAYS if currency in way.currencies and way.provider in aliases
    ]
    return [*_saved(ways, customer_id), *ways]


def _saved(ways: Sequence[Way], customer_id: str) -> list[Way]:
    keepers = {way.provider: way for way in ways if way.can_save}
    return [
        Way(
            slug=f"saved-{token.uuid}",
            name=name_of(token),
            by=keepers[token.provider].by,
            words=expiry_of(token) or "Saved by you.",
            provider=token.provider,
            currencies=keepers[token.provider].currencies,
            mark="saved",
            token=token,
        )
        for token in saved_methods(customer_id)
        if token.provider in keepers
    ]


def saved_methods(customer_id: str) -> list[Token]:
    """Return what this customer saved and can still be charged, the newest first."""
    if not customer_id:
        return []
    return list(
        Token.objects.filter(customer_id=customer_id, status=Token.Status.ACTIVE)
    )


def name_of(token: Token) -> str:
    """Name a saved method as its owner knows it; not every provider tells digits."""
    return f"{token.brand} •••• {token.last4}".strip() if token.last4 else "Saved card"


def expiry_of(token: Token) -> str:
    """Say how long a saved card lasts, where that is known."""
    return f"Valid until {token.expires_on:%m/%y}." if token.expires_on else ""
