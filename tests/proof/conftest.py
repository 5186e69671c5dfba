"""What every proof has: the counts of this run, and a crew of processes."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from django.db import connection
from pytest_django import Settings

from tests.proof.crew import Crew
from tests.proof.figures import FIGURES, IS_FULL, REPORT, Figures
from tests.proof.lives import accounts_at


@pytest.fixture
def figures() -> Figures:
    """The counts of this run."""
    return FIGURES


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the providers of all processes write to."""
    return tmp_path_factory.mktemp("books") / "books.jsonl"


@pytest.fixture
def accounts(settings: Settings, books: Path) -> None:
    """Accounts at providers that keep books: careful, plain and taciturn."""
    settings.MULTIPAY = accounts_at(books)


@pytest.fixture(scope="module")
def crew(django_db_setup: None, books: Path) -> Iterator[Crew]:
    """Processes that do what they are told, and die or stop where they are told."""
    with Crew(accounts_at(books)) as crew:
        yield crew


class Counting:
    """Counts the tests of all rooms; a hook of this file would see only its own."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what belongs to the proof, and what failed."""
        FIGURES.reported(report.nodeid, report.when, report.outcome)


def pytest_configure(config: pytest.Config) -> None:
    """Let the counts begin."""
    config.pluginmanager.register(Counting())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the counts where the command that asked for them finds them."""
    if path := os.environ.get(REPORT):
        FIGURES.write(
            Path(path),
            {
                "vendor": connection.vendor,
                "python": platform.python_version(),
                "django": django.get_version(),
                "size": "full" if IS_FULL else "per push",
            },
        )
