"""``manage.py multipay_purge``: forget what need not be kept."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_multipay.flows import erase_buyer, purge
from django_multipay.management.progress import bar


class Command(BaseCommand):
    """Run `purge`, or `erase_buyer` for one buyer."""

    help = (
        "Takes out what MULTIPAY['RETENTION'] keeps no longer; with --customer or "
        "--email it forgets one buyer. Amounts, references and facts stay. Stopped "
        "halfway, run it again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add whom to forget, and how it tells."""
        parser.add_argument("--customer", default="", help="the shop's id of a buyer")
        parser.add_argument("--email", default="", help="the e-mail address of a buyer")
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the counts, in words or as JSON."""
        dry_run, progress = options["dry_run"], bar(self.stderr)
        is_erasure = bool(options["customer"] or options["email"])
        report = (
            erase_buyer(
                customer_id=options["customer"],
                email=options["email"],
                dry_run=dry_run,
                progress=progress,
            )
            if is_erasure
            else purge(dry_run=dry_run, progress=progress)
        )
        said = dataclasses.asdict(report)
        if options["json"]:
            self.stdout.write(json.dumps(said))
        else:
            verb = "would be purged" if dry_run else "purged"
            counts = ", ".join(f"{count} {name}" for name, count in said.items())
            self.stdout.write(f"{verb}: {counts}")
        if said.get("open_rows"):
            raise CommandError(
                "some payments, plans or saved methods of this buyer are not over; "
                "end them, then run this again"
            )
