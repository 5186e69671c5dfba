"""Tables of the pages, written from the classes by cog.

``DJANGO_SETTINGS_MODULE=tests.settings PYTHONPATH=. cog -r docs/providers/*.md``
writes them; ``cog --check`` finds a page that lags behind.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import models

from django_multipay.enums import Capability
from django_multipay.providers.base import CAPABILITY_METHODS, Provider, Secret

TYPES = {
    str: "text",
    bool: "true or false",
    int: "number",
    Secret: "secret, or a list of them",
    timedelta: "seconds",
    tuple[str, ...]: "list of texts",
}

COLUMNS = {
    "BigInteger": "whole number",
    "Boolean": "true or false",
    "Char": "text",
    "Date": "day",
    "DateTime": "moment, in UTC",
    "Email": "e-mail address",
    "EncryptedJSON": "JSON, encrypted",
    "JSON": "JSON",
    "PositiveSmallInteger": "whole number",
    "Text": "text",
    "UUID": "random UUID",
}


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
