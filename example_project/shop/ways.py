"""The ways to pay, as a buyer thinks of them: each is a provider and its method.

django-multipay's own payment page chooses between accounts. A shop that offers several
methods of one account, such as cards and a wallet, asks first and says both when it
creates the payment.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to pay. ``provider`` is an alias of the settings, ``mark`` a drawing.

    ``picture_field`` is what the provider calls a picture of the goods, where it shows
    one on its page.
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
    picture_field: str = ""


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
    ),
    Way(
        slug="clink",
        name="Card",
        by="Clink",
        words="Or pay in the currency of your card.",
        provider="clink",
        method="CARD",
        currencies=ISO,
    ),
    Way(
        slug="easybilling",
        name="Card",
        by="EasyBilling",
        words="On a page of Stripe.",
        provider="easybilling",
        method="stripe-connect",
        currencies=ISO,
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


def ways_for(currency: str) -> list[Way]:
    """Return the ways to pay in ``currency`` with the providers of the settings."""
    aliases = settings.MULTIPAY["PROVIDERS"]
    return [
        way for way in WAYS if currency in way.currencies and way.provider in aliases
    ]
