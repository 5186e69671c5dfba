"""Fixtures for every room's tests."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connections, transaction
from django.dispatch import Signal
from django.test import TransactionTestCase
from pytest_django import Settings

from django_multipay import signals
from django_multipay.registry import registry
from django_multipay.testing.plugin import Sandbox
from tests.corridor import Corridor
from tests.flows.scripted import (
    ObligingProvider,
    ScriptedProvider,
    account_settings,
)

MADE_BY_MIGRATE = {"auth_permission", "django_content_type", "django_migrations"}
AROUND_DELETE = {
    # What is append-only refuses this, too, but not TRUNCATE.
    "postgresql": (
        ["ALTER TABLE multipay_transaction DISABLE TRIGGER USER"],
        [
            "SET CONSTRAINTS ALL IMMEDIATE",
            "ALTER TABLE multipay_transaction ENABLE TRIGGER USER",
        ],
    )
}

# Browser tests need the extra "browser"; the others go on without it.
collect_ignore = [] if importlib.util.find_spec("playwright") else ["browser"]


@pytest.fixture(scope="session", autouse=True)
def rows_are_deleted() -> Iterator[None]:
    """Empty the tables by DELETE after a test that commits.

    Django's own way truncates each table and makes permissions and content types anew,
    which took longer than most tests.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(TransactionTestCase, "_fixture_teardown", _delete_rows)
        yield


def _delete_rows(case: Any) -> None:
    for alias in case._databases_names(include_mirrors=False):
        connection = connections[alias]
        tables = connection.introspection.django_table_names(
            only_existing=True, include_views=False
        )
        with (
            connection.constraint_checks_disabled(),
            transaction.atomic(using=alias),
            connection.cursor() as cursor,
        ):
            before, after = AROUND_DELETE.get(connection.vendor, ([], []))
            deletions = [
                f"DELETE FROM {connection.ops.quote_name(table)}"
                for table in set(tables) - MADE_BY_MIGRATE
            ]
            for statement in (*before, *deletions, *after):
                cursor.execute(statement)


@pytest.fixture
def sandbox_settings(settings: Settings, multipay_sandbox: Sandbox) -> Settings:
    """Settings whose accounts all talk to the sandbox."""
    multipay = copy.deepcopy(settings.MULTIPAY)
    for account in multipay["PROVIDERS"].values():
        account["OPTIONS"]["base_url"] = multipay_sandbox.url
    settings.MULTIPAY = multipay
    return settings


@pytest.fixture
def corridor(sandbox_settings: Settings, multipay_sandbox: Sandbox) -> Corridor:
    """A shop on ``http://testserver`` whose payments are started in the sandbox."""
    sandbox_settings.MULTIPAY |= {"SITE_URL": "http://testserver"}
    cache.clear()
    return Corridor(multipay_sandbox)


@pytest.fixture
def scripted(settings: Settings) -> ScriptedProvider:
    """The provider behind the alias ``scripted``, with an empty script."""
    return _scripted(settings, ScriptedProvider)


@pytest.fixture
def obliging(settings: Settings) -> ScriptedProvider:
    """The same, but it does everything that can be done with money."""
    return _scripted(settings, ObligingProvider)


def _scripted(settings: Settings, kind: type[ScriptedProvider]) -> ScriptedProvider:
    settings.MULTIPAY = account_settings(scripted=kind)
    provider = registry["scripted"]
    assert isinstance(provider, kind)
    return provider


@pytest.fixture
def listen() -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Connect a receiver to signals by name; it notes what it is told."""
    connected: list[tuple[Signal, Callable[..., None]]] = []

    def connect(*names: str) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        for name in names:
            signal: Signal = getattr(signals, name)

            def receiver(name: str = name, **news: Any) -> None:
                heard.append({**news, "name": name})

            signal.connect(receiver, weak=False)
            connected.append((signal, receiver))
        return heard

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)
