"""``manage.py multipay_doctor``: is everything here that payments need?"""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from django_multipay.conf import conf
from django_multipay.enums import Severity
from django_multipay.flows.diagnosis import Finding, diagnose


class Command(BaseCommand):
    """Run the checks, look at database, accounts, keys and waiting work."""

    help = (
        "Looks at the configuration, the database, every account, callback URLs, "
        "encryption keys and the work that waits. Changes nothing, prints no secret. "
        "Exits with 1 if something is wrong."
    )
    # It says itself what is wrong, instead of stopping at the first.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add how it tells."""
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings, the worst of which is the exit status."""
        findings = list(self._findings())
        if options["json"]:
            said = [dataclasses.asdict(finding) for finding in findings]
            self.stdout.write(json.dumps(said))
        else:
            for one in findings:
                self.stdout.write(
                    self._style(one)(f"{one.severity:7} {one.subject}: {one.message}")
                )
        if any(finding.severity is Severity.ERROR for finding in findings):
            raise CommandError("something is wrong; see above")

    def _style(self, finding: Finding) -> Any:
        return {
            Severity.FINE: self.style.SUCCESS,
            Severity.WARNING: self.style.WARNING,
            Severity.ERROR: self.style.ERROR,
        }[finding.severity]

    def _findings(self) -> Iterator[Finding]:
        is_usable = True
        for message in checks.run_checks(include_deployment_checks=True):
            if str(message.id).startswith("multipay."):
                is_error = message.level >= checks.ERROR
                is_usable = is_usable and not is_error
                yield Finding(
                    severity=Severity.ERROR if is_error else Severity.WARNING,
                    subject=f"settings ({message.id})",
                    message=" ".join(filter(None, [message.msg, message.hint])),
                )
        try:
            pending = self._pending()
        except DatabaseError as error:
            yield Finding(
                severity=Severity.ERROR,
                subject="database",
                message=f"does not answer: {type(error).__name__}",
            )
            return
        yield Finding(
            severity=Severity.ERROR if pending else Severity.FINE,
            subject="database",
            message=f"lacks migrations, run migrate: {', '.join(pending)}"
            if pending
            else f"{connection.display_name} answers, and every migration is there",
        )
        yield Finding(
            severity=Severity.FINE,
            subject="tasks",
            message=f"messages are applied by {_who()}",
        )
        if is_usable and not pending:
            yield from diagnose()

    def _pending(self) -> list[str]:
        executor = MigrationExecutor(connection)
        targets = executor.loader.graph.leaf_nodes("multipay")
        return [migration.name for migration, _ in executor.migration_plan(targets)]


def _who() -> str:
    if conf.webhooks == "inline":
        return "the requests that bring them"
    engine = conf.tasks.get("default", {}).get("BACKEND", "the request, at once")
    return f"the task engine: {engine}"
