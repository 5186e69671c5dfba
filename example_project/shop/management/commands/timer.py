"""``manage.py timer``: what cron does for a shop, in one process, for the demo."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any

import requests
from django.core.management.base import BaseCommand
from django.utils import timezone

from django_multipay.flows import charge_due_plans, reconcile
from shop import clock
from shop.demo.servers import TIMER_READY

LOOK_SECONDS = 0.4
RECONCILE_SECONDS = 5.0


class Command(BaseCommand):
    help = (
        "Every few seconds ask about payments that nobody told us of, and on every day "
        "of the shop's clock (SHOP_CLOCK_URL) charge the subscriptions that the shop "
        "charges by itself; until stopped. A shop with the usual clock runs "
        "multipay_reconcile and multipay_charge_due from cron instead."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        day = clock.today()
        self._charge(day)
        self.stdout.write(f"{TIMER_READY} {day}.")
        self.stdout.flush()
        reconciled_at = 0.0
        while True:
            time.sleep(LOOK_SECONDS)
            if time.monotonic() - reconciled_at > RECONCILE_SECONDS:
                reconcile()
                reconciled_at = time.monotonic()
            try:
                today = clock.today()
            except requests.RequestException as error:
                self._complain([f"the clock does not answer: {error}"])
                continue
            # Nothing is skipped, however far somebody moved it; set back, it goes on
            # from there.
            while day < today:
                day += timedelta(days=1)
                self._charge(day)
            day = today

    def _charge(self, day: date) -> None:
        noon = datetime.combine(day, time_of_day(12), timezone.get_current_timezone())
        report = charge_due_plans(now=noon)
        if report.plans:
            self.stdout.write(
                f"{day}: {report.charged} charged, {report.refused} refused"
            )
            self.stdout.flush()
        self._complain(report.problems)

    def _complain(self, problems: Sequence[str]) -> None:
        for problem in problems:
            self.stderr.write(problem)
