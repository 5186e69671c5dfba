"""``manage.py multipay_reconcile``: finish what a crash or a lost message left open."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_multipay.flows import reconcile
from django_multipay.registry import registry


class Command(BaseCommand):
    """Run `reconcile` once and say what it did."""

    help = (
        "Applies stored messages, asks about open payments and refunds, carries on what "
        "was interrupted, delivers notices."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what `reconcile` takes."""
        parser.add_argument(
            "--provider",
            action="append",
            help="an alias of MULTIPAY['PROVIDERS']; may be given several times",
        )
        parser.add_argument("--limit", type=int, help="at most so many rows of a kind")
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the report, in words or as JSON."""
        for alias in options["provider"] or ():
            if alias not in registry:
                known = ", ".join(registry) or "none"
                raise CommandError(f"--provider {alias} is not known; use: {known}")
        report = dataclasses.asdict(
            reconcile(
                providers=options["provider"],
                limit=options["limit"],
                dry_run=options["dry_run"],
            )
        )
        if options["json"]:
            self.stdout.write(json.dumps(report))
            return
        verb = "would be " if options["dry_run"] else ""
        self.stdout.write(
            "{deliveries} messages {verb}applied, {payments} payments {verb}asked "
            "about, {operations} operations {verb}carried on, {refunds} refunds "
            "{verb}asked about, {notices} notices {verb}delivered, "
            "{errors} errors".format(verb=verb, **report)
        )
