"""Every encrypted value under the first key: found from the models, row by row.

Each value is replaced only if it is still what was read, so whoever writes meanwhile
wins, and what is done needs no doing again: stopped halfway, the next run goes on.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import IntegrityError, models, transaction
from django.db.models import Exists, ExpressionWrapper, F, OuterRef, Q, TextField

from django_multipay import crypto
from django_multipay.exceptions import MultipayError
from django_multipay.ledger import claims
from django_multipay.ledger.claims import retried
from django_multipay.ledger.statements import Given, Update
from django_multipay.models.fields import EncryptedJSONField
from django_multipay.signatures import constant_time_equal

logger = logging.getLogger("django_multipay.ledger")

MOST_NAMED = 20
"""How many rows of a kind are named; all are counted."""


@dataclass(slots=True)
class Tally:
    """What was found in the rows of one model, and what was written."""

    rows: int = 0
    old: int = 0
    """Rows with a value under another key than the first."""
    unreadable: int = 0
    """Rows with a value that no key opens."""
    named: list[int] = field(default_factory=list)
    """The first rows that need a person: unreadable, or with a digest that another row
    has already."""

    def name(self, key: int) -> None:
        """Name the row ``key``, unless `MOST_NAMED` are named."""
        if len(self.named) < MOST_NAMED:
            self.named.append(key)


def sealed_models() -> Iterator[tuple[type[models.Model], Sequence[str]]]:
    """Return the models of this app with encrypted columns, and those columns."""
    for model in apps.get_app_config("multipay").get_models():
        names = [
            column.name
            for column in model._meta.concrete_fields
            if isinstance(column, EncryptedJSONField)
        ]
        if names:
            yield model, names


def chunks(
    model: type[models.Model], names: Sequence[str]
) -> Iterator[list[dict[str, Any]]]:
    """Return the rows with anything encrypted, as stored, a chunk at a time."""
    rows = _sealed_rows(model, names).values("pk", *_columns(model, names))
    # By their keys: a database that takes such rows for rare would read all others for
    # each chunk.
    for keys in claims.chunks(model._base_manager.all()):
        if chunk := list(rows.filter(pk__in=keys).order_by("pk")):
            yield chunk


def count(model: type[models.Model], names: Sequence[str]) -> int:
    """Return how many rows `chunks` will give."""
    return _sealed_rows(model, names).count()


def _raw(name: str) -> ExpressionWrapper[F]:
    """Return a column as it is stored: not decrypted."""
    return ExpressionWrapper(F(name), output_field=TextField())


def _sealed_rows(
    model: type[models.Model], names: Sequence[str]
) -> models.QuerySet[Any]:
    is_sealed = Q()
    for name in names:
        is_sealed |= ~Q(**{f"raw_{name}": ""})
    raw = {f"raw_{name}": _raw(name) for name in names}
    rows: models.QuerySet[Any] = model._base_manager.annotate(**raw)
    return rows.filter(is_sealed)


def _columns(model: type[models.Model], names: Sequence[str]) -> list[str]:
    return [*(f"raw_{name}" for name in names), *_digests(model)]


def _digests(model: type[models.Model]) -> Mapping[str, str]:
    digests: Mapping[str, str] = getattr(model, "digests", {})
    return digests


def changes(
    model: type[models.Model], names: Sequence[str], row: Mapping[str, Any]
) -> dict[str, str]:
    """Return the columns of ``row`` that are under another key, as they should be.

    `MultipayError` if a value is opened by no key.
    """
    wanted = {
        name: crypto.rotate(row[f"raw_{name}"])
        for name in names
        if row[f"raw_{name}"] and not crypto.is_current(row[f"raw_{name}"])
    }
    for digest, name in _digests(model).items():
        if row[f"raw_{name}"]:
            plain = json.loads(crypto.decrypt(row[f"raw_{name}"]))
            current = crypto.keyed_digest(plain)
            if not constant_time_equal(row[digest], current):
                wanted[digest] = current
    return wanted


def rotate_chunk(
    model: type[models.Model],
    names: Sequence[str],
    chunk: Sequence[Mapping[str, Any]],
    tally: Tally,
    *,
    is_counting: bool,
) -> None:
    """Write what is under another key of ``chunk`` anew, or only count it."""
    wanted: list[tuple[Mapping[str, Any], dict[str, str]]] = []
    for row in chunk:
        tally.rows += 1
        try:
            changed = changes(model, names, row)
        except (MultipayError, ValueError):
            tally.unreadable += 1
            tally.name(row["pk"])
            continue
        if changed:
            tally.old += 1
            wanted.append((row, changed))
    if is_counting or not wanted:
        return
    try:
        _write(model, wanted)
    except IntegrityError:
        # Somewhere among them; so each by itself, and the one is named.
        for row, changed in wanted:
            if _has_twin(model, row, changed):
                tally.name(row["pk"])
            else:
                _write(model, [(row, changed)])


@retried
def _write(
    model: type[models.Model],
    wanted: Sequence[tuple[Mapping[str, Any], dict[str, str]]],
) -> None:
    with transaction.atomic(durable=True):
        for row, changed in wanted:
            read = tuple(name for name in row if name.startswith("raw_"))
            _replacing(model, read, tuple(changed))(**{**row, **changed})


@functools.lru_cache(maxsize=20)
def _replacing(
    model: type[models.Model], read: Sequence[str], changed: Sequence[str]
) -> Update:
    """Return what writes ``changed`` of a row that still says what was ``read``."""
    rows = model._base_manager.annotate(
        **{name: _raw(name.removeprefix("raw_")) for name in read}
    )
    is_as_read = {name: Given(name) for name in ("pk", *read)}
    return Update(rows.filter(**is_as_read), **{name: Given(name) for name in changed})


def _has_twin(
    model: type[models.Model], row: Mapping[str, Any], changed: Mapping[str, str]
) -> bool:
    """Say whether another row of the same account has the new digest already."""
    digests = {name: changed[name] for name in _digests(model) if name in changed}
    others = model._base_manager.filter(provider=OuterRef("provider"), **digests)
    others = others.exclude(pk=row["pk"])
    mine = model._base_manager.filter(pk=row["pk"])
    return bool(digests) and mine.filter(Exists(others)).exists()
