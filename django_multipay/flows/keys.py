"""New encryption keys: what was written under the old ones is written anew."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from django_multipay.flows.guards import refuse_open_transaction
from django_multipay.ledger import keys

logger = logging.getLogger("django_multipay.flows")

Progress = Callable[[str, int, int], None]
"""Called with the name of a model, how many rows were looked at, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What one run of `rotate_keys` found, by the name of the model.

    ``rotated`` were written anew, ``left`` are under another key than the first all
    the same (with ``dry_run``: all that are), ``unreadable`` are opened by no key.
    ``named`` are the first rows that need a person, by their keys in the database.
    """

    rows: Mapping[str, int]
    rotated: Mapping[str, int]
    left: Mapping[str, int]
    unreadable: Mapping[str, int]
    named: Mapping[str, list[int]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every value is under the first key, so that the others may go."""
        return not any(self.left.values()) and not any(self.unreadable.values())


def rotate_keys(*, dry_run: bool = False, progress: Progress | None = None) -> Rotation:
    """Encrypt every stored value under the first of ``ENCRYPTION_KEYS``.

    Of every model of this app, and the keyed digests that find rows again. Safe while
    the site runs, safe to stop and to run again: what is done is not done twice.
    Afterwards every row is read once more and what is left is counted. ``dry_run``
    only counts. `RuntimeError` inside a transaction.
    """
    refuse_open_transaction("rotate_keys")
    rows, rotated, left, unreadable = {}, {}, {}, {}
    named: dict[str, list[int]] = {}
    for model, names in keys.sealed_models():
        label = model._meta.model_name or ""
        total = keys.count(model, names)
        first, second = keys.Tally(), keys.Tally()
        if not dry_run:
            for chunk in keys.chunks(model, names):
                keys.rotate_chunk(model, names, chunk, first, is_counting=False)
                if progress:
                    progress(label, first.rows, total)
        for chunk in keys.chunks(model, names):
            keys.rotate_chunk(model, names, chunk, second, is_counting=True)
            if progress and dry_run:
                progress(label, second.rows, total)
        rows[label] = second.rows
        left[label] = second.old
        rotated[label] = max(first.old - second.old, 0)
        unreadable[label] = second.unreadable
        if troubled := dict.fromkeys([*second.named, *first.named]):
            named[label] = [*troubled][: keys.MOST_NAMED]
    report = Rotation(
        rows=rows, rotated=rotated, left=left, unreadable=unreadable, named=named
    )
    logger.info("keys: %s rows, complete: %s", sum(rows.values()), report.is_complete)
    return report
