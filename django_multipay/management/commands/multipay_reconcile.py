"""``manage.py multipay_reconcile``: finish what a crash or a lost message left open."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_multipay.flows import drift_report, reconcile
from django_multipay.management.progress import bar
from django_multipay.management.reading import check_aliases, moment_of
from django_multipay.registry import registry


class Command(BaseCommand):
    """Run `reconcile` once and say what it did; or `drift_report`."""

    help = (
        "Applies stored messages, asks about open payments and refunds, carries on what "
        "was interrupted, delivers notices. With --drift it compares the providers' "
        "view with ours instead, changes nothing, and exits with 1 if they differ."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what `reconcile` and `drift_report` take."""
        parser.add_argument(
            "--provider",
            action="append",
            help="an alias of MULTIPAY['PROVIDERS']; may be given several times",
        )
        parser.add_argument("--limit", type=int, help="at most so many rows of a kind")
        parser.add_argument(
            "--older-than", type=int, metavar="SECONDS", help="leave younger rows out"
        )
        parser.add_argument(
            "--budget",
            type=int,
            metavar="SECONDS",
            help="begin no further row after this time; the next run goes on",
        )
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.add_argument("--drift", action="store_true", help="compare, read only")
        parser.add_argument("--since", help="with --drift: the first moment or day")
        parser.add_argument("--until", help="with --drift: the moment or day after")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the report, in words or as JSON."""
        check_aliases(options["provider"], registry)
        if options["drift"]:
            self._compare(options)
            return
        report = reconcile(
            providers=options["provider"],
            limit=options["limit"],
            older_than=_seconds(options["older_than"]),
            budget=_seconds(options["budget"]),
            dry_run=options["dry_run"],
            progress=bar(self.stderr),
        )
        said = dataclasses.asdict(report)
        if options["json"]:
            self.stdout.write(json.dumps(said))
            return
        for problem in report.problems:
            self.stderr.write(problem)
        for alias in report.paused:
            self.stderr.write(f"{alias} does not answer and is left alone for a while")
        verb = "would be " if options["dry_run"] else ""
        self.stdout.write(
            "{deliveries} messages {verb}applied, {payments} payments {verb}asked "
            "about, {operations} operations {verb}carried on, {refunds} refunds "
            "{verb}asked about, {notices} notices {verb}delivered, "
            "{errors} errors".format(verb=verb, **said)
        )

    def _compare(self, options: dict[str, Any]) -> None:
        report = drift_report(
            providers=options["provider"],
            since=moment_of("--since", options["since"]),
            until=moment_of("--until", options["until"]),
            progress=bar(self.stderr),
        )
        if options["json"]:
            said = dataclasses.asdict(report)
            self.stdout.write(json.dumps(said, default=str))
        else:
            for one in report.differences:
                self.stdout.write(
                    f"{one.kind} {one.field}: payment {one.payment} (order "
                    f"{one.order_id}, {one.provider}): ours {one.ours}, theirs "
                    f"{one.theirs}"
                )
            for problem in report.problems:
                self.stderr.write(problem)
            self.stdout.write(
                f"{report.compared} payments compared, {len(report.differences)} "
                f"differences, {report.errors} not answered"
            )
        if report.differences or report.errors:
            raise CommandError("the providers' view is not ours, or not known")


def _seconds(value: int | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)
