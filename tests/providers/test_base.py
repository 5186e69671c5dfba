"""The base of every provider: options with remedies, exact amounts, safe defaults."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moneyed import Money

from django_multipay.enums import (
    AmountFormat,
    Capability,
    PaymentStatus,
    WebhookOutcome,
    WebhookTrust,
)
from django_multipay.exceptions import (
    InvalidAmount,
    ProviderConfigurationError,
    SignatureMismatch,
    UnsupportedOperation,
)
from django_multipay.messages import IncomingRequest, PaymentSnapshot
from django_multipay.money import MAX_MINOR, currency_of, from_minor
from django_multipay.providers.base import (
    CAPABILITY_METHODS,
    Provider,
    ProviderOptions,
    Secret,
)

# Options ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopOptions(ProviderOptions):
    """One option of every type."""

    mid: str = field(metadata={"help": "copy it from the console"})
    api_key: Secret
    base_url: str = field(default="https://api.example.com", metadata={"url": True})
    language: str = field(default="en", metadata={"choices": ("en", "ko")})
    is_strict: bool = False
    retries: int = 3
    tolerance: timedelta = timedelta(minutes=5)
    methods: tuple[str, ...] = ()
    webhook_secret: Secret | None = None
    status_url: str | None = field(default=None, metadata={"url": True})


GOOD = {"mid": "1849705C64", "api_key": "canary-key"}


def read(**changes: object) -> ShopOptions:
    mapping = {**GOOD, **changes}
    return ShopOptions.from_mapping(mapping, alias="cards_eu")


def problems(**changes: object) -> list[str]:
    with pytest.raises(ProviderConfigurationError) as caught:
        read(**changes)
    return str(caught.value).splitlines()


def test_what_is_left_out_has_its_default():
    options = read()
    assert (options.mid, options.language, options.retries) == ("1849705C64", "en", 3)
    assert options.webhook_secret is None


def test_each_type_is_read_from_settings():
    options = read(
        base_url="http://127.0.0.1:8100/eximbay/",
        is_strict=True,
        retries=0,
        tolerance=90,
        methods=["card", "wechat"],
        webhook_secret=["new", "old"],
        status_url=None,
    )
    assert options.is_strict is True
    assert options.tolerance == timedelta(seconds=90)
    assert options.methods == ("card", "wechat")
    assert options.webhook_secret == Secret(("new", "old"))
    assert options.webhook_secret.current == "new"
    assert read(tolerance=timedelta(hours=1)).tolerance == timedelta(hours=1)


BAD_OPTIONS: dict[str, tuple[dict[str, object], str, str]] = {
    "unknown": ({"apikey": "x"}, "apikey", "is unknown; remove it or use one of: "),
    "empty": ({"mid": ""}, "mid", "is empty; give it a value or leave the option out"),
    "blank": ({"mid": " \t"}, "mid", "is empty; give it a value"),
    "blank around": ({"mid": " x"}, "mid", "begins or ends with a blank"),
    "None": ({"mid": None}, "mid", "must be text, not NoneType"),
    "number for text": ({"mid": 7}, "mid", "must be text, not int"),
    "bytes for text": ({"mid": b"x"}, "mid", "must be text, not bytes"),
    "empty secret": ({"api_key": ""}, "api_key", "is empty; put the key"),
    "blank secret": ({"api_key": "  "}, "api_key", "is empty; put the key"),
    "no secrets": ({"api_key": []}, "api_key", "is empty; put the key"),
    "one empty": ({"api_key": ["canary", ""]}, "api_key", "is empty; put the key"),
    "line break": ({"api_key": "canary\n"}, "api_key", "begins or ends with a blank"),
    "no secret": ({"api_key": None}, "api_key", "must be text, or a list of texts"),
    "secret in a dict": ({"api_key": {"k": "v"}}, "api_key", "must be text, or a list"),
    "mixed secrets": ({"api_key": ["canary", 7]}, "api_key", "must be text, or a list"),
    "text for a switch": ({"is_strict": "no"}, "is_strict", "must be True or False"),
    "number for a switch": ({"is_strict": 0}, "is_strict", "must be True or False"),
    "switch for a number": ({"retries": True}, "retries", "must be a whole number"),
    "text for a number": ({"retries": "3"}, "retries", "must be a whole number"),
    "fraction": ({"retries": 1.5}, "retries", "must be a whole number"),
    "text for a time": ({"tolerance": "5m"}, "tolerance", "must be a whole number"),
    "text for a list": ({"methods": "card"}, "methods", "must be a list of texts"),
    "empty in a list": ({"methods": ["card", ""]}, "methods", "is empty; give"),
    "not a choice": ({"language": "xx"}, "language", "use one of: en, ko"),
    "bad optional": ({"status_url": "x"}, "status_url", "is not a plain base URL"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_bad_option_is_named_with_its_account_and_a_remedy(case):
    changes, name, remedy = BAD_OPTIONS[case]
    (problem,) = problems(**changes)
    place = f"MULTIPAY['PROVIDERS']['cards_eu']['OPTIONS']['{name}'] "
    assert problem.startswith(place)
    assert remedy in problem
    assert "canary" not in problem


@pytest.mark.parametrize(
    "url",
    [
        *("api.example.com", "//api.example.com", "ftp://api.example.com", "https://"),
        *("https:///path", "https:api.example.com", "javascript:alert(1)", "file:///x"),
        *("https://user:canary@api.example.com", "https://canary@api.example.com"),
        *("https://api.example.com?key=canary", "https://api.example.com#canary"),
        *("https://api.example.com/?", "https://api.example.com/#"),
        *("https://api.example.com:0", "https://api.example.com:99999"),
        *("https://api.example.com:x", "https://[::1", "https://api exa.com"),
        *("https://api.example.com/\tx", "https://api.example.com\\x", "https://a\nb"),
    ],
    ids=ascii,
)
def test_a_bad_url_is_refused_without_repeating_it(url):
    (problem,) = problems(base_url=url)
    assert problem.startswith(
        "MULTIPAY['PROVIDERS']['cards_eu']['OPTIONS']['base_url'] is not a plain base URL"
    )
    assert "canary" not in problem


@pytest.mark.parametrize(
    "url",
    ["https://api.example.com", "http://127.0.0.1:8100/x/", "https://[::1]:8443/v1"],
)
def test_a_plain_base_url_is_taken(url):
    assert read(base_url=url).base_url == url


def test_all_problems_are_told_at_once():
    with pytest.raises(ProviderConfigurationError) as caught:
        ShopOptions.from_mapping({"mid": "", "retries": "3", "x": 1}, alias="a")
    text = str(caught.value)
    assert [line.split("]")[3] for line in text.splitlines()] == [
        "['x'",
        "['mid'",
        "['api_key'",
        "['retries'",
    ]
    assert "['api_key'] is missing; add it" in text


def test_a_missing_option_comes_with_its_help():
    with pytest.raises(ProviderConfigurationError, match="copy it from the console"):
        ShopOptions.from_mapping({"api_key": "x"}, alias="a")


def test_no_text_of_the_options_shows_a_secret():
    options = read(webhook_secret=["canary-1", "canary-2"])
    assert "canary" not in f"{options} {options!r} {options.api_key}"


# Amounts ----------------------------------------------------------------------------


class ShopProvider(Provider):
    slug = "shop"
    display_name = "Shop"
    docs_url = "https://docs.example.com"
    capabilities = frozenset()
    amount_format = AmountFormat.MAJOR_STRING
    webhook_trust = WebhookTrust.NONE
    options_class = ShopOptions
    currencies = frozenset({"USD", "KRW"})

    def start_payment(self, request):
        return PaymentSnapshot(status=PaymentStatus.PENDING)


class MinorProvider(ShopProvider):
    amount_format = AmountFormat.MINOR_INTEGER


class NumberProvider(ShopProvider):
    amount_format = AmountFormat.MAJOR_NUMBER
    exponents = {"ISK": 2}


def provider(kind: type[Provider] = ShopProvider) -> Provider:
    return kind("cards_eu", read())


@pytest.mark.parametrize(
    ("kind", "code", "minor", "wire"),
    [
        (ShopProvider, "USD", 2630, "26.30"),
        (ShopProvider, "USD", 1, "0.01"),
        (ShopProvider, "KRW", 10_000_000, "10000000"),
        (ShopProvider, "KWD", 1234, "1.234"),
        (ShopProvider, "USDT", 1_500_000, "1.500000"),
        (ShopProvider, "USD", MAX_MINOR, "10000000000000.00"),
        (MinorProvider, "USD", 2630, 2630),
        (MinorProvider, "KRW", 1000, 1000),
        (MinorProvider, "USDT", 1, 1),
        (NumberProvider, "USD", 2630, Decimal("26.30")),
        (NumberProvider, "ISK", 1000, Decimal("10.00")),
        (NumberProvider, "KRW", 1000, Decimal("1000")),
    ],
)
def test_an_amount_is_written_as_the_provider_wants_it(kind, code, minor, wire):
    shop = provider(kind)
    money = from_minor(minor, code, kind.exponents)
    written = shop.wire_amount(money)
    assert type(written) is type(wire)
    assert str(written) == str(wire)
    assert shop.read_amount(written, code) == money


@settings(deadline=None)
@given(
    st.sampled_from([ShopProvider, MinorProvider, NumberProvider]),
    st.sampled_from(["JPY", "USD", "KWD", "CLF", "USDT", "ISK"]),
    st.integers(0, MAX_MINOR // 10**6),
)
def test_every_amount_survives_the_round_trip(kind, code, minor):
    shop = provider(kind)
    money = from_minor(minor, code, kind.exponents)
    assert shop.read_amount(shop.wire_amount(money), code) == money
    assert shop.read_amount(str(shop.wire_amount(money)), code) == money


BAD_AMOUNTS: list[object] = [
    *(None, True, 19.99, [], {}, b"1", "", " 1", "+1", "-0", "1e2", "1_000"),
    *("1,5", "NaN", "1.005", "0.001", "9" * 17, "9" * 5000),
    *(Decimal("NaN"), Decimal("Infinity"), Decimal("1E+5"), Decimal("1.005")),
    *(MAX_MINOR + 1, -MAX_MINOR - 1, 10**5000, str(MAX_MINOR + 1)),
]


@pytest.mark.parametrize("place", range(len(BAD_AMOUNTS)))
@pytest.mark.parametrize("kind", [ShopProvider, MinorProvider, NumberProvider])
def test_what_is_no_exact_amount_is_refused(kind, place):
    with pytest.raises(InvalidAmount):
        provider(kind).read_amount(BAD_AMOUNTS[place], "USD")


def test_minor_units_are_whole():
    with pytest.raises(InvalidAmount, match="whole minor units"):
        provider(MinorProvider).read_amount(Decimal("19.99"), "USD")
    assert provider(MinorProvider).read_amount("1999.00", "USD") == Money(
        "19.99", "USD"
    )


@pytest.mark.parametrize("code", ["usd", "", "XXXX", "USD "])
def test_an_amount_in_an_unknown_currency_is_refused(code):
    with pytest.raises(InvalidAmount):
        provider().read_amount("1.00", code)


def test_an_amount_with_too_many_decimals_is_not_written():
    with pytest.raises(InvalidAmount):
        provider().wire_amount(Money("1.005", "USD"))


# Safe defaults ------------------------------------------------------------------------


@pytest.mark.parametrize("capability", sorted(CAPABILITY_METHODS))
def test_what_a_provider_does_not_override_it_refuses(capability):
    method = getattr(provider(), CAPABILITY_METHODS[capability])
    with pytest.raises(UnsupportedOperation, match="Shop cannot "):
        method(None)


def test_every_capability_but_the_partial_ones_has_a_method():
    partial = {Capability.PARTIAL_CAPTURE, Capability.PARTIAL_REFUND}
    assert set(CAPABILITY_METHODS) == set(Capability) - partial
    for method in CAPABILITY_METHODS.values():
        assert callable(getattr(Provider, method))


def test_no_webhook_passes_by_default():
    incoming = IncomingRequest(method="POST", body=b"{}")
    with pytest.raises(SignatureMismatch, match="cards_eu accepts no webhooks"):
        provider().verify_webhook(incoming)
    assert list(provider().parse_webhook(incoming)) == []
    assert provider().identify_return(incoming) == ""


def test_a_provider_says_nothing_about_its_account_by_default():
    shop = provider()
    assert (shop.account, shop.is_live) == (None, None)
    assert (list(shop.problems()), list(shop.deploy_problems())) == ([], [])


def test_a_webhook_is_answered_so_that_the_provider_repeats_what_was_not_stored():
    statuses = {
        outcome: provider().webhook_answer(outcome).status for outcome in WebhookOutcome
    }
    assert statuses == {
        WebhookOutcome.ACCEPTED: 200,
        WebhookOutcome.DEFERRED: 503,
        WebhookOutcome.REFUSED: 400,
    }


def test_a_provider_takes_the_currencies_it_lists_or_all_when_it_lists_none():
    class Generous(ShopProvider):
        currencies = frozenset()

    assert provider().can_take(Money(1, "USD"))
    assert not provider().can_take(Money(1, "EUR"))
    assert provider(Generous).can_take(Money(1, currency_of("USDT")))


def test_a_provider_must_say_how_a_payment_starts():
    kind: Any = Provider
    with pytest.raises(TypeError, match="start_payment"):
        kind("a", read())


def test_building_a_provider_opens_no_connection():
    before = threading.active_count()
    assert provider().http.alias == "cards_eu"
    assert threading.active_count() == before
