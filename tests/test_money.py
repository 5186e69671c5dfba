"""Whole minor units in and out, for every currency; nothing is rounded silently."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from django.utils import translation
from hypothesis import given, settings
from hypothesis import strategies as st
from moneyed import CURRENCIES, Money

from django_multipay.exceptions import InvalidAmount
from django_multipay.money import (
    MAX_MINOR,
    currency_of,
    display,
    exponent_of,
    from_minor,
    parse_decimal,
    to_minor,
)

# ISO 4217, list one, read in November 2026: the currencies in use by decimals.
ISO_WITHOUT_DECIMALS = (
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
)
ISO_WITH_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
ISO_WITH_FOUR_DECIMALS = "CLF UYW"
ISO_WITH_TWO_DECIMALS = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN "
    "BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
    "GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD "
    "KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN "
    "NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG "
    "SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH "
    "USD UYU UZS VES WST XCD YER ZAR ZMW"
)
EXPONENTS = {
    code: exponent
    for codes, exponent in (
        (ISO_WITHOUT_DECIMALS, 0),
        (ISO_WITH_TWO_DECIMALS, 2),
        (ISO_WITH_THREE_DECIMALS, 3),
        (ISO_WITH_FOUR_DECIMALS, 4),
        ("USDT", 6),
    )
    for code in codes.split()
}
CODES = sorted({*EXPONENTS, *CURRENCIES})


# Exponents --------------------------------------------------------------------------


@pytest.mark.parametrize("code", EXPONENTS)
def test_a_currency_has_the_decimals_of_iso_4217(code):
    assert exponent_of(code) == EXPONENTS[code]


def test_every_currency_counts_in_powers_of_ten():
    # Ouguiya and ariary divide into fifths in the street, but not in ISO 4217.
    for code, currency in CURRENCIES.items():
        assert currency.sub_unit == 10 ** exponent_of(code)


def test_a_provider_may_count_otherwise():
    overrides = {"ISK": 2, "UGX": 2, "TWD": 0}
    assert exponent_of("ISK", overrides) == 2
    assert exponent_of("USD", overrides) == 2
    assert to_minor(Money("10.00", "ISK"), overrides) == 1000
    assert from_minor(1000, "ISK", overrides) == Money("10", "ISK")
    with pytest.raises(InvalidAmount):
        to_minor(Money("10.50", "TWD"), overrides)


@pytest.mark.parametrize(
    "code",
    [
        "",
        " ",
        "usd",
        "EUR ",
        " EUR",
        "\N{FULLWIDTH LATIN CAPITAL LETTER E}UR",
        "XYZW",
        "U\x00D",
        "€",
        "978",
        "U" * 5000,
    ],
)
def test_an_unknown_currency_is_refused_with_a_remedy(code):
    with pytest.raises(InvalidAmount, match="use an ISO 4217 code") as caught:
        currency_of(code)
    assert caught.value.field == "currency"
    assert len(str(caught.value)) < 120


# Round trips ------------------------------------------------------------------------


@settings(deadline=None)
@given(st.sampled_from(CODES), st.integers(-MAX_MINOR // 10**6, MAX_MINOR // 10**6))
def test_minor_units_survive_the_round_trip(code, minor):
    money = from_minor(minor, code)
    assert to_minor(money) == minor
    assert money.currency.code == code


@pytest.mark.parametrize("code", CODES)
def test_the_largest_and_the_smallest_amount_survive_the_round_trip(code):
    for minor in (MAX_MINOR, MAX_MINOR - 1, 1, 0, -1, -MAX_MINOR):
        assert to_minor(from_minor(minor, code)) == minor


@settings(deadline=None)
@given(st.sampled_from(CODES), st.decimals(allow_nan=False, allow_infinity=False))
def test_an_amount_is_exact_or_refused(code, amount):
    money = Money(amount, code if code in CURRENCIES else currency_of(code))
    try:
        minor = to_minor(money)
    except InvalidAmount:
        return
    assert Decimal(minor) == amount * 10 ** exponent_of(code)
    assert abs(minor) <= MAX_MINOR


# Bad amounts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("1.005", "USD"),
        ("0.5", "JPY"),
        ("0.0001", "KWD"),
        ("0.0000001", "USDT"),
        ("1." + "0" * 40 + "1", "USD"),
        ("1." + "0" * 5000 + "1", "USD"),
        ("1e-999999", "USD"),
    ],
)
def test_more_decimals_than_the_currency_has_are_not_rounded(amount, code):
    with pytest.raises(InvalidAmount, match=f"more decimals than {code} allows"):
        to_minor(Money(Decimal(amount), currency_of(code)))


@pytest.mark.parametrize("amount", ["1.50", "1.5", "1.500000", "1." + "5" + "0" * 5000])
def test_zeros_behind_the_last_decimal_do_no_harm(amount):
    assert to_minor(Money(Decimal(amount), "USD")) == 150


@pytest.mark.parametrize(
    "amount",
    [
        *("NaN", "sNaN", "Infinity", "-Infinity"),
        *("1e16", "1e999999", "-1e999999", "9" * 5000),
        # Within the bound as dollars, beyond it as cents.
        *(str(MAX_MINOR + 1), str(MAX_MINOR), "10000000000000.01"),
    ],
    ids=lambda amount: amount[:20],
)
def test_an_amount_beyond_all_bounds_is_refused_at_once(amount):
    started = time.monotonic()
    with pytest.raises(InvalidAmount) as caught:
        to_minor(Money(Decimal(amount), "USD"))
    assert time.monotonic() - started < 0.05
    assert caught.value.field == "amount"
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "sNaN", "Infinity", "-Infinity"),
        *("-0", "-0.00", "1e2", "1E+5", "1e1000000"),
        *("1_000", " 7 ", "7\n", "+5", "--5", "", " ", ".", "-", ".5", "5.", "1\x00"),
        *("1,50", "1.000,50", "1.2.3", "0x10", "$5", "5 USD"),
        *("\N{DEVANAGARI DIGIT SEVEN}", "\N{ARABIC-INDIC DIGIT THREE}.50"),
        *("\N{FULLWIDTH DIGIT SEVEN}", "\N{SUPERSCRIPT TWO}"),
        *("1.123456789", "1" * 17, "9" * 5000, "1." + "0" * 5000),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_plain_decimal_is_refused_at_once(text):
    started = time.monotonic()
    with pytest.raises(InvalidAmount, match="not a plain decimal") as caught:
        parse_decimal(text)
    assert time.monotonic() - started < 0.05
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("text", ["0", "7", "26.30", "-5", "-0.01", "1000000000000000"])
def test_a_plain_decimal_is_read(text):
    assert str(parse_decimal(text)) == text


@settings(deadline=None)
@given(st.decimals(-(10**15), 10**15, places=4).filter(bool))
def test_every_plain_decimal_is_read_exactly(number):
    assert parse_decimal(f"{number:f}") == number


# Display ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("money", "locale", "expected"),
    [
        (Money("26.30", "USD"), "en_US", "$26.30"),
        (Money("10000", "KRW"), "ko_KR", "₩10,000"),
        (Money("26.30", "EUR"), "de_DE", "26,30\xa0€"),
        (from_minor(1_500_000, "USDT"), "en_US", "1.50 USDT"),
        (Money(Decimal("1E+3"), currency_of("USDT")), "en_US", "1,000.00 USDT"),
        (from_minor(1_234_567_800, "USDT"), "de", "1.234,5678 USDT"),
    ],
)
def test_a_buyer_reads_the_amount_in_the_own_locale(money, locale, expected):
    assert display(money, locale) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en-us", "$26.30"),
        ("de", "26,30\xa0$"),
        ("ko", "US$26.30"),
        ("zh-hans", "US$26.30"),
        ("tlh", "$26.30"),
        (None, "$26.30"),
    ],
)
def test_without_a_locale_the_language_of_the_page_counts(language, expected):
    with translation.override(language):
        assert display(Money("26.30", "USD")) == expected
