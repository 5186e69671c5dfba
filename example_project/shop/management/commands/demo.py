"""``manage.py demo``: the shop and the sandbox together, or a check of both."""

from __future__ import annotations

import secrets
import signal
import tempfile
import time
import webbrowser
from argparse import ArgumentParser, BooleanOptionalAction
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

from shop.demo.outcomes import Result, table, try_outcomes
from shop.demo.providers import discover
from shop.demo.servers import (
    HOST,
    DemoProblem,
    free_port,
    manage,
    shop_environment,
    start_sandbox,
    start_shop,
    start_timer,
)
from shop.demo.stage import Stage
from shop.demo.year import live_a_year
from shop.management.commands.seed import STAFF_NAME


class Command(BaseCommand):
    help = (
        "Start the demo shop with the payment sandbox beside it. "
        "With --check, let a buyer try every outcome and compare."
    )
    # Each server brings its own; here they would speak of the wrong settings.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="default: 8000")
        parser.add_argument(
            "--sandbox-port", type=int, default=8100, help="default: 8100"
        )
        parser.add_argument(
            "--browser",
            action=BooleanOptionalAction,
            default=False,
            help="open the shop in a browser",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="use a temporary database and free ports, try every outcome, exit",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _as_interrupt)
        try:
            with tempfile.TemporaryDirectory(
                prefix="multipay-demo-", ignore_cleanup_errors=True
            ) as folder:
                if options["check"]:
                    self._check(Path(folder))
                else:
                    self._serve(Path(folder), options)
        except DemoProblem as problem:
            raise CommandError(str(problem)) from problem
        except KeyboardInterrupt:
            self.stdout.write("\nStopped.")

    def _serve(self, folder: Path, options: dict[str, Any]) -> None:
        shop_port = self._port("shop", options["port"], "--port")
        sandbox_port = self._port("sandbox", options["sandbox_port"], "--sandbox-port")
        if sandbox_port == shop_port:
            sandbox_port = free_port(sandbox_port + 1)
        shop_url = f"http://{HOST}:{shop_port}"
        password = secrets.token_urlsafe(9)
        env = shop_environment(
            shop_url=shop_url,
            sandbox_url=f"http://{HOST}:{sandbox_port}",
            SEED_STAFF_PASSWORD=password,
        )
        self.stdout.write("Preparing the database ...")
        manage("migrate", "--no-input", env=env)
        manage("seed", env=env)
        with (
            start_sandbox(sandbox_port, log=folder / "sandbox.log") as sandbox,
            start_shop(shop_url, env=env, log=folder / "shop.log") as shop,
            start_timer(env=env, log=folder / "timer.log") as timer,
        ):
            _introduce(shop.url, sandbox.url)
            self.stdout.write(
                f"""
  Shop      {shop.url}/
  Staff     {shop.url}/admin/
            log in as {STAFF_NAME} with {password}
  Sandbox   {sandbox.url}/_control/
            plays the payment providers; no money moves.
            Move its clock there to see what subscriptions do
  Logs      {folder}

Press Ctrl-C to stop.
"""
            )
            self.stdout.flush()
            if options["browser"]:
                webbrowser.open(shop.url)
            while True:
                shop.ensure_running()
                sandbox.ensure_running()
                timer.ensure_running()
                time.sleep(0.5)

    def _port(self, name: str, wanted: int, option: str) -> int:
        port = free_port(wanted)
        if port != wanted:
            self.stdout.write(
                f"Port {wanted} is busy, so the {name} takes {port}; "
                f"{option} chooses another."
            )
        return port

    def _check(self, folder: Path) -> None:
        shop_url = f"http://{HOST}:{free_port()}"
        with start_sandbox(0, log=folder / "sandbox.log") as sandbox:
            env = shop_environment(
                shop_url=shop_url,
                sandbox_url=sandbox.url,
                DATABASE_URL=f"sqlite:///{folder / 'check.sqlite3'}",
            )
            manage("migrate", "--no-input", env=env)
            manage("seed", env=env)
            with (
                start_shop(shop_url, env=env, log=folder / "shop.log") as shop,
                start_timer(env=env, log=folder / "timer.log"),
            ):
                _introduce(shop.url, sandbox.url)
                results = _try_all(
                    Stage(
                        shop.url,
                        sandbox.url,
                        lambda alias: manage(
                            "multipay_reconcile", "--provider", alias, env=env
                        ),
                    )
                )
                self._report(results, shop.tail())

    def _report(self, results: list[Result], shop_log: str) -> None:
        self.stdout.write(table(results))
        wrong = sum(not result.is_ok for result in results)
        if wrong:
            raise CommandError(
                f"{wrong} of {len(results)} outcomes differ. "
                f"The end of the shop's log:\n{shop_log}"
            )
        self.stdout.write(f"\nAll {len(results)} outcomes are as expected.")


def _introduce(shop_url: str, sandbox_url: str) -> None:
    """Tell each provider of the sandbox what it has to know about the shop."""
    settings = {
        provider.alias: provider.sandbox_settings(shop_url) for provider in discover()
    }
    stage = Stage(shop_url, sandbox_url, lambda alias: None)
    stage.post("settings", settings)
    for provider in discover():
        provider.prepare(stage)


def _try_all(stage: Stage) -> list[Result]:
    """Try every outcome: the providers beside each other, each one in its order.

    What moves the clock, which all share, comes after that, and a year last of all.
    """
    offered = [(provider.alias, provider.outcomes(stage)) for provider in discover()]

    with ThreadPoolExecutor(len(offered)) as pool:
        usual = [
            pool.submit(
                try_outcomes,
                alias,
                [one for one in outcomes if not one.moves_clock],
                stage.shop_url,
            )
            for alias, outcomes in offered
        ]
    results = {
        alias: done.result() for (alias, _), done in zip(offered, usual, strict=True)
    }
    for alias, outcomes in offered:
        last = [one for one in outcomes if one.moves_clock]
        results[alias] += try_outcomes(alias, last, stage.shop_url)
    for result in live_a_year(stage):
        results[result.provider].append(result)
    return [result for alias, _ in offered for result in results[alias]]


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
