"""Korean, Japanese and Chinese: every word is translated, and buyers and staff see it.

Reads catalogs and sources by itself, so that no gettext tools are needed.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from babel.messages import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency
from django.contrib import admin
from django.contrib.admin.utils import label_for_field
from django.test import Client
from django.utils import formats, translation
from django.utils.text import capfirst
from django.utils.translation.template import templatize
from moneyed import Money
from pytest_django import Settings

import django_multipay
from django_multipay import money
from django_multipay.admin.records import RecordAdmin
from django_multipay.enums import (
    DECLINE_ADVICE,
    BatchKind,
    DeclineCode,
    PaymentStatus,
)
from django_multipay.messages import dump_action
from django_multipay.models import Payment, RecurringPlan
from django_multipay.views.letters import deposit_letter, link_letter
from tests import fakes
from tests.views.conftest import Pay, fake_accounts, pay
from tests.views.pages import Page

__all__ = ["fake_accounts", "pay"]

PACKAGE = Path(django_multipay.__file__).parent
LANGUAGES = {"ko": "ko", "ja": "ja", "zh-hans": "zh_Hans"}
"""Django's name of each language, and that of its folder."""

KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
# Tools for developers, in English.
UNTRANSLATED = {"sandbox", "testing"}

OWN_LETTERS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
SAME_EVERYWHERE = {"%(number)s%%", "webhook", "Address", "address"}
"""What is no word, or is a loan word in Latin letters in one of the languages."""

DEADLINE = datetime(2100, 1, 2, 3, 4, tzinfo=UTC)

Key = tuple[str | None, str]
"""What a catalog finds a translation by: the context and the words."""


def words_of(message: Message) -> tuple[str, ...]:
    said = message.id
    return tuple(map(str, said)) if isinstance(said, (list, tuple)) else (str(said),)


def translations_of(message: Message) -> tuple[str, ...]:
    said = message.string
    return tuple(said) if isinstance(said, (list, tuple)) else (said or "",)


def catalog(folder: str) -> Catalog:
    path = PACKAGE / "locale" / folder / "LC_MESSAGES" / "django.po"
    with path.open("rb") as file:
        return read_po(file)


def entries(found: Catalog) -> dict[Key, Message]:
    return {(context_of(one), words_of(one)[0]): one for one in found if one.id}


def context_of(message: Message) -> str | None:
    # Babel leaves those of a compiled catalog undecoded.
    context: str | bytes | None = message.context
    return context.decode() if isinstance(context, bytes) else context


def sources() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*")):
        if path.relative_to(PACKAGE).parts[0] in UNTRANSLATED:
            continue
        if path.suffix == ".py":
            yield path, path.read_text(encoding="utf-8")
        elif path.suffix in {".html", ".txt"}:
            text = templatize(path.read_text(encoding="utf-8"), origin=str(path))
            # What is left of the markup must not look like indented Python.
            yield path, "\n".join(line.lstrip() for line in text.split("\n"))


@cache
def said_in_sources() -> frozenset[Key]:
    found: set[Key] = set()
    for _, text in sources():
        file = io.BytesIO(text.encode())
        for _, words, _, context in extract("python", file, keywords=KEYWORDS):
            first = words[0] if isinstance(words, tuple) else words
            # Without its context, which Babel gives beside it.
            found.add((context, first))
    return frozenset(found)


@pytest.fixture
def browser_chooses(settings: Settings) -> Iterator[None]:
    """The site reads Accept-Language; what it activated is over with the test."""
    middleware = "django.middleware.locale.LocaleMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
    with translation.override(translation.get_language()):
        yield


def placeholders(text: str) -> Counter[str]:
    return Counter(re.findall(r"%\(\w+\)[sd]|%%|\{\w*\}|</?\w+[^>]*>", text))


# Catalogs -----------------------------------------------------------------------------


@pytest.mark.parametrize("folder", LANGUAGES.values())
def test_everything_that_is_said_has_an_entry_and_no_entry_is_left_over(folder):
    assert set(entries(catalog(folder))) == said_in_sources()


def test_words_of_templates_and_of_code_are_found():
    assert {
        (None, "Choose how to pay"),
        (None, "Pay %(amount)s with %(name)s"),
        (None, "partially refunded"),
        ("link", "Valid for"),
        (None, "every month"),
    } <= said_in_sources()


@pytest.mark.parametrize("folder", LANGUAGES.values())
def test_every_entry_is_translated(folder):
    found = catalog(folder)

    assert found.num_plurals == 1
    assert not found.fuzzy
    assert not found.obsolete
    for key, message in entries(found).items():
        assert not message.fuzzy, key
        assert len(translations_of(message)) == 1, key
        assert all(text.strip() for text in translations_of(message)), key


@pytest.mark.parametrize("folder", LANGUAGES.values())
def test_a_translation_keeps_the_placeholders_and_the_markup(folder):
    for key, message in entries(catalog(folder)).items():
        # With one form for all numbers it is the plural that counts.
        wanted = placeholders(words_of(message)[-1])
        for text in translations_of(message):
            assert placeholders(text) == wanted, key
            assert text.startswith("\n") == key[1].startswith("\n"), key


@pytest.mark.parametrize("folder", LANGUAGES.values())
def test_what_is_compiled_is_what_is_written(folder):
    with (PACKAGE / "locale" / folder / "LC_MESSAGES" / "django.mo").open("rb") as file:
        compiled = entries(read_mo(file))

    written = entries(catalog(folder))
    assert {key: translations_of(one) for key, one in compiled.items()} == {
        key: translations_of(one) for key, one in written.items()
    }


@pytest.mark.parametrize("folder", LANGUAGES.values())
def test_nothing_was_left_in_english(folder):
    left = {
        words
        for (_, words), message in entries(catalog(folder)).items()
        if not any(map(OWN_LETTERS.search, translations_of(message)))
    }
    assert left <= SAME_EVERYWHERE


# Staff ----------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_staff_read_every_column_in_their_language(language, rf, admin_user):
    request = rf.get("/")
    request.user = admin_user
    left = []
    for model, shown in admin.site._registry.items():
        if model._meta.app_label != "multipay":
            continue
        names = {*shown.get_list_display(request)}
        names |= {name for name in shown.list_filter if isinstance(name, str)}
        # Plans have a page of their own.
        if isinstance(shown, RecordAdmin) and model is not RecurringPlan:
            names |= {*shown.get_fields(request)}
        with translation.override(language):
            labels = {name: str(label_for_field(name, model, shown)) for name in names}
        left += [
            f"{model.__name__}.{name}: {label}"
            for name, label in labels.items()
            if not OWN_LETTERS.search(label)
        ]
    assert not left


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_staff_read_the_list_of_payments_in_their_language(
    language, admin_client, pay: Pay, browser_chooses
):
    pay()

    answer = admin_client.get(
        "/admin/multipay/payment/", headers={"accept-language": language}
    )
    with translation.override(language):
        actions = [capfirst(str(kind.label)) for kind in BatchKind]

    assert f'lang="{language}"' in answer.content.decode()
    for words in actions:
        assert words in answer.content.decode()


# Buyers ---------------------------------------------------------------------------------


def english_in(text: str) -> list[str]:
    """Sentences of ours that a buyer would read in English."""
    return [words for _, words in said_in_sources() if " " in words and words in text]


@pytest.mark.django_db
@pytest.mark.parametrize("answer", ["choice", *sorted({*fakes.ACTIONS} - {"redirect"})])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_way_to_pay_is_shown_in_the_language_of_the_payment(
    client: Client, pay: Pay, settings, language: str, answer: str
):
    if answer == "choice":
        settings.MULTIPAY = fakes.accounts(redirect="redirect: card", other="popup")
        payment = pay(provider=None, locale=language)
    else:
        action = dump_action(fakes.ACTIONS[answer])
        payment = pay(answer, locale=language, next_action=action, status="pending")

    answered = client.get(payment.get_checkout_url())

    page = Page(answered)
    assert page.all("html")[0]["lang"] == answered["Content-Language"] == language
    assert not english_in(page.text)
    assert OWN_LETTERS.search(page.text)
    assert written("26.30", "USD", language) in page.text


@pytest.mark.django_db
@pytest.mark.parametrize("status", PaymentStatus)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_outcome_is_told_in_the_language_of_the_payment(
    client: Client, pay: Pay, language: str, status: PaymentStatus
):
    payment = pay(
        locale=language,
        status=status,
        refunded_minor=1000,
        decline_code=DeclineCode.INSUFFICIENT_FUNDS,
        details={"virtual_account_number": "27490176218341"},
        amount=Money("26.30", "USD"),
    )
    Payment.objects.filter(pk=payment.pk).update(expires_at=DEADLINE)

    page = Page(client.get(payment.get_outcome_url()))

    assert page.all("html")[0]["lang"] == language
    assert not english_in(page.text)
    assert written("26.30", "USD", language) in page.text
    with translation.override(language):
        if status == PaymentStatus.AWAITING_FUNDS:
            assert formats.date_format(DEADLINE, "DATETIME_FORMAT") in page.text
        if status == PaymentStatus.FAILED:
            advice = DECLINE_ADVICE[DeclineCode.INSUFFICIENT_FUNDS]
            assert str(advice) in page.text
    if status == PaymentStatus.PARTIALLY_REFUNDED:
        assert written("10.00", "USD", language) in page.text


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        ("ja", "ja"),
        ("zh-CN,zh;q=0.9", "zh-hans"),
        ("zh-Hans-CN", "zh-hans"),
        ("en-GB,en;q=0.9", "en-gb"),
    ],
)
@pytest.mark.django_db
def test_a_browser_chooses_where_the_payment_does_not(
    client: Client, pay: Pay, browser_chooses, header: str, language: str
):
    payment = pay()
    Payment.objects.update(locale="")

    answer = client.get(payment.get_checkout_url(), headers={"accept-language": header})

    assert Page(answer).all("html")[0]["lang"] == language
    assert answer["Content-Language"] == language


@pytest.mark.django_db
def test_a_payment_keeps_the_language_in_which_it_was_made(pay: Pay):
    with translation.override("ko"):
        assert pay().locale == "ko"


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_letters_are_written_in_the_language_of_the_payment(
    pay: Pay, settings, language: str
):
    settings.MULTIPAY |= {"SITE_URL": "https://shop.example"}
    payment = pay(
        locale=language,
        amount=Money("50000", "KRW"),
        details={"virtual_account_number": "27490176218341"},
        items=(),
    )
    payment.expires_at = DEADLINE

    for letter in (deposit_letter(payment), link_letter(payment)):
        assert written("50000", "KRW", language) in letter.subject
        assert OWN_LETTERS.search(letter.subject)
        assert not english_in(letter.subject + letter.body)
        with translation.override(language):
            assert formats.date_format(DEADLINE, "DATETIME_FORMAT") in letter.body


def written(amount: str, currency: str, language: str) -> str:
    return format_currency(Decimal(amount), currency, locale=LANGUAGES[language])


@pytest.mark.parametrize("currency", ["USD", "KRW", "JPY", "CNY"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_amounts_are_written_as_they_are_there(language: str, currency: str):
    with translation.override(language):
        assert money.display(Money("28000", currency)) == written(
            "28000", currency, language
        )
