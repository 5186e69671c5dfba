"""``manage.py multipay_replay``: apply messages of the inbox again."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections import Counter
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from django_multipay.enums import Verdict
from django_multipay.exceptions import MultipayError
from django_multipay.flows import replay_delivery
from django_multipay.management.progress import bar
from django_multipay.management.reading import check_aliases, moment_of
from django_multipay.models import WebhookDelivery
from django_multipay.registry import registry


class Command(BaseCommand):
    """Run `replay_delivery` for the messages that were chosen."""

    help = (
        "Applies messages of the inbox again, by their uuids or chosen by --held, "
        "--since and --provider. What was applied already does nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add how messages are chosen."""
        parser.add_argument("uuid", nargs="*", help="of a webhook delivery")
        parser.add_argument("--held", action="store_true", help="those held for staff")
        parser.add_argument("--since", help="those that came at this moment or later")
        parser.add_argument("--provider", action="append", help="only of this account")
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what became of the messages; exit with 1 if one could not be read."""
        keys = list(self._chosen(options).order_by("id").values_list("pk", flat=True))
        draw = bar(self.stderr)
        said: Counter[str] = Counter()
        for done, key in enumerate(keys, start=1):
            said["would be applied" if options["dry_run"] else self._again(key)] += 1
            if draw is not None:
                draw(done, len(keys))
        if options["json"]:
            self.stdout.write(json.dumps({"messages": len(keys), "verdicts": said}))
        else:
            words = ", ".join(f"{count} {word}" for word, count in said.items())
            self.stdout.write(f"{len(keys)} messages{': ' if words else ''}{words}")
        if said["unreadable"]:
            raise CommandError("some messages cannot be read; see the log")

    def _again(self, key: int) -> str:
        try:
            return str(replay_delivery(WebhookDelivery.objects.get(pk=key)))
        except MultipayError as error:
            self.stderr.write(f"message {key}: {error}")
            return "unreadable"

    def _chosen(self, options: dict[str, Any]) -> QuerySet[WebhookDelivery]:
        check_aliases(options["provider"], registry)
        rows = WebhookDelivery.objects.all()
        if options["uuid"]:
            uuids = [_uuid(text) for text in options["uuid"]]
            rows = rows.filter(uuid__in=uuids)
            if missing := set(uuids) - set(rows.values_list("uuid", flat=True)):
                raise CommandError(f"no message has the uuid {min(missing)}")
        elif not (options["held"] or options["since"]):
            raise CommandError("name uuids, or choose with --held or --since")
        if options["held"]:
            rows = rows.filter(verdict=Verdict.HELD)
        if options["since"]:
            since = moment_of("--since", options["since"])
            rows = rows.filter(received_at__gte=since)
        if options["provider"]:
            rows = rows.filter(provider__in=options["provider"])
        # Of the others nothing is left to apply.
        return rows.exclude(payload="")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(f"{text} is no uuid") from None
