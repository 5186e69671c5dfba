"""Tables of the pages, written from the classes by cog.

``DJANGO_SETTINGS_MODULE=tests.settings PYTHONPATH=. cog -r docs/providers/*.md``
writes them; ``cog --check`` finds a page that lags behind.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import models

from django_multipay import providers
from django_multipay.enums import AmountFormat, Capability, WebhookTrust
from django_multipay.providers.base import CAPABILITY_METHODS, Provider, Secret

TYPES = {
    str: "text",
    bool: "true or false",
    int: "number",
    Secret: "secret, or a list of them",
    timedelta: "seconds",
    tuple[str, ...]: "list of texts",
}

CAPABILITIES = {
    Capability.FETCH: "Ask how a payment stands",
    Capability.REFRESH_ACTION: "Get a fresh code for the buyer to scan",
    Capability.CONFIRM: "Authenticate the buyer first, charge later",
    Capability.CAPTURE: "Reserve first, capture later",
    Capability.PARTIAL_CAPTURE: "Capture a part",
    Capability.VOID: "Release what was reserved",
    Capability.REFUND: "Refund",
    Capability.PARTIAL_REFUND: "Refund a part",
    Capability.FETCH_REFUND: "Ask how a refund stands",
    Capability.SETTLE: "Release into settlement",
    Capability.TOKENS: "Charge a saved method",
    Capability.INSPECT_TOKEN: "Look at a saved method",
    Capability.DELETE_TOKEN: "Delete a saved method",
    Capability.PLANS: "Plans that the provider charges",
    Capability.FETCH_PLAN: "Ask how a plan stands",
    Capability.CHANGE_PLAN: "Change the amount of a plan",
    Capability.CANCEL_PLAN: "End a plan",
}
"""What a shop can do, in the order of a payment's life."""

SUMMARY = (
    Capability.CAPTURE,
    Capability.REFUND,
    Capability.PARTIAL_REFUND,
    Capability.TOKENS,
    Capability.PLANS,
)
"""What a reader of the README asks first."""

WEBHOOKS = {
    WebhookTrust.NONE: "none, the shop asks",
    WebhookTrust.HINT: "unsigned, so the shop asks",
    WebhookTrust.SHARED_SECRET: "with a shared secret",
    WebhookTrust.SIGNED: "signed",
}

AMOUNTS = {
    AmountFormat.MINOR_INTEGER: "whole minor units",
    AmountFormat.MAJOR_STRING: "decimal text",
    AmountFormat.MAJOR_NUMBER: "decimal number",
}

FEW = 3

COLUMNS = {
    "BigInteger": "whole number",
    "Boolean": "true or false",
    "Char": "text",
    "Date": "day",
    "DateTime": "moment, in UTC",
    "Email": "e-mail address",
    "EncryptedJSON": "JSON, encrypted",
    "JSON": "JSON",
    "PositiveInteger": "whole number",
    "PositiveSmallInteger": "whole number",
    "Text": "text",
    "UUID": "random UUID",
}


def provider_classes() -> list[type[Provider]]:
    """Every provider class that ships with the package, by slug."""
    found: list[type[Provider]] = []
    for info in pkgutil.iter_modules(providers.__path__):
        module = importlib.import_module(f"{providers.__name__}.{info.name}")
        found += [
            item
            for _, item in inspect.getmembers(module, inspect.isclass)
            if issubclass(item, Provider)
            and item.__module__ == module.__name__
            and not inspect.isabstract(item)
        ]
    return sorted(found, key=lambda provider: provider.slug)


def providers_table(
    capabilities: Sequence[Capability] = tuple(Capability), folder: str = "providers"
) -> str:
    """What each provider can do; ``folder`` is where their pages are from here."""
    classes = provider_classes()
    links = [f"[{one.display_name}]({folder}/{one.slug}.md)" for one in classes]
    facts = {
        "Webhooks": [WEBHOOKS[one.webhook_trust] for one in classes],
        "Currencies": [_currencies(one) for one in classes],
        "Amounts on the wire": [_amounts(one) for one in classes],
    }
    rows = [
        (
            CAPABILITIES[capability],
            *("yes" if capability in one.capabilities else "" for one in classes),
        )
        for capability in capabilities
    ]
    rows += [(name, *cells) for name, cells in facts.items()]
    return _table(("", *links), rows)


def _currencies(provider: type[Provider]) -> str:
    codes = sorted(provider.currencies)
    if not codes:
        return "no list published"
    return ", ".join(codes) if len(codes) <= FEW else str(len(codes))


def _amounts(provider: type[Provider]) -> str:
    # A provider without one of its class has an option for it.
    style = getattr(provider, "amount_format", None)
    return AMOUNTS[style] if style else "as an option says"


def options_table(provider: type[Provider]) -> str:
    """Every option with its type, its default and what it is for."""
    hints = typing.get_type_hints(provider.options_class)
    rows = [
        (f"`{field.name}`", _type(hints[field.name]), _default(field), _help(field))
        for field in dataclasses.fields(provider.options_class)
    ]
    return _table(("Option", "Type", "Default", "What it is"), rows)


def capabilities_table(provider: type[Provider]) -> str:
    """Every capability, whether this provider has it or not."""
    rows = [
        (
            capability.value.replace("_", " "),
            f"`{CAPABILITY_METHODS[capability]}`"
            if capability in CAPABILITY_METHODS
            else "",
            "yes" if capability in provider.capabilities else "no",
        )
        for capability in Capability
    ]
    return _table(("Capability", "Method", "Supported"), rows)


def mapping_table(titles: Sequence[str], rows: Mapping[str, Any]) -> str:
    """A table of a provider module, both columns as code."""
    return _table(titles, [(f"`{key}`", f"`{value}`") for key, value in rows.items()])


def _type(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        hint = next(item for item in typing.get_args(hint) if item is not type(None))
    return TYPES[hint]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if isinstance(field.default, timedelta):
        return f"`{field.default // timedelta(seconds=1)}`"
    return f"`{field.default!r}`" if field.default else ""


def _help(field: dataclasses.Field[Any]) -> str:
    text: str = field.metadata["help"]
    return text[0].upper() + text[1:]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n"
        for line in lines
    )


def words_table(vocabulary: type[models.TextChoices]) -> str:
    """Every word of a vocabulary as it is stored, and as people read it."""
    rows = [(f"`{word.value}`", str(word.label)) for word in vocabulary]
    return _table(("Stored", "Shown"), rows)


def fields_table(model: type[models.Model]) -> str:
    """Every column of a model but its integer key."""
    rows = [
        (f"`{field.name}`", _column(field), "yes" if field.null else "")
        for field in model._meta.concrete_fields
        if not field.primary_key
    ]
    return _table(("Field", "What it holds", "May be `None`"), rows)


def _column(field: models.Field[Any, Any]) -> str:
    if field.related_model:
        return f"a `{field.related_model.__name__}`"
    if field.name.endswith("_minor"):
        return "amount in whole minor units"
    if field.choices:
        words = [value for value, _ in field.flatchoices]
        shown = words if len(words) < 4 else [*words[:3], "…"]
        return "one of " + ", ".join(f"`{word}`" for word in shown).replace("`…`", "…")
    kind = type(field).__name__.removesuffix("Field")
    return COLUMNS[kind] + (
        f", up to {field.max_length} characters"
        if field.max_length and kind != "UUID"
        else ""
    )
