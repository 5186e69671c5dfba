"""``manage.py multipay_charge_due``: charge the recurring plans that are due."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from django_multipay.flows import charge_due_plans
from django_multipay.management.progress import bar
from django_multipay.management.reading import check_aliases
from django_multipay.registry import registry


class Command(BaseCommand):
    """Run `charge_due_plans` once and say what it did."""

    help = (
        "Charges the recurring plans that are due today; safe to run as often, and on "
        "as many machines, as you like."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what `charge_due_plans` takes."""
        parser.add_argument(
            "--provider",
            action="append",
            help="an alias of MULTIPAY['PROVIDERS']; may be given several times",
        )
        parser.add_argument("--limit", type=int, help="at most so many plans")
        parser.add_argument(
            "--catch-up",
            action="store_true",
            help="charge all periods in arrears at once, not one a day",
        )
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show the progress, then the report, in words or as JSON."""
        check_aliases(options["provider"], registry)
        report = charge_due_plans(
            providers=options["provider"],
            limit=options["limit"],
            dry_run=options["dry_run"],
            catch_up=options["catch_up"],
            progress=bar(self.stderr),
        )
        if options["json"]:
            self.stdout.write(json.dumps(dataclasses.asdict(report)))
            return
        if options["dry_run"]:
            self.stdout.write(
                f"{report.plans} plans would be looked at, {report.asked} asked about"
            )
            return
        for problem in report.problems:
            self.stderr.write(problem)
        self.stdout.write(
            f"{report.plans} plans: {report.charged} charged, {report.refused} "
            f"refused, {report.open} open, {report.ended} ended, {report.asked} asked "
            f"about, {report.errors} errors"
        )
