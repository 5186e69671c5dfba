"""``manage.py multipay_rotate_keys``: bring every stored secret under the first key."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_multipay.flows import rotate_keys

_STEP = 10_000
"""Rows between two lines of progress."""


class Command(BaseCommand):
    """Run `rotate_keys` and say whether the old keys may go."""

    help = (
        "Encrypts every stored secret under the first of MULTIPAY['ENCRYPTION_KEYS'], "
        "then reads all of them and counts what is left under another key. Safe while "
        "the site runs; stopped halfway, run it again. Exits with 1 unless all is done."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add how it runs and how it tells."""
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the report, in words or as JSON."""
        is_told = not options["json"] and options["verbosity"] > 0
        report = rotate_keys(
            dry_run=options["dry_run"], progress=self._tell if is_told else None
        )
        if options["json"]:
            said = {**dataclasses.asdict(report), "is_complete": report.is_complete}
            self.stdout.write(json.dumps(said))
        else:
            for name, count in report.rows.items():
                self.stdout.write(
                    f"{name}: {count} rows, {report.rotated[name]} written anew, "
                    f"{report.left[name]} under another key, "
                    f"{report.unreadable[name]} opened by no key"
                )
        for name, numbers in report.named.items():
            self.stderr.write(f"{name}: look at {', '.join(map(str, numbers))}")
        is_lost = any(report.unreadable.values())
        if is_lost or not (report.is_complete or options["dry_run"]):
            raise CommandError(
                "not every value is under the first key: keep the old keys in "
                "MULTIPAY['ENCRYPTION_KEYS'] (put retired ones back at its end) and "
                "run this again"
            )
        if not options["json"] and report.is_complete:
            self.stdout.write("Every value is under the first key.")

    def _tell(self, name: str, done: int, total: int) -> None:
        if done % _STEP == 0:
            self.stdout.write(f"{name}: {done} of {total}")
