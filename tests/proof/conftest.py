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

from tests.flows.test_operation_crash import PROVIDERS, book_settings
from tests.proof.crew import Crew
from tests.proof.figures import FIGURES, IS_FULL, REPORT, Figures


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
    settings.MULTIPAY = book_settings(PROVIDERS, books)


@pytest.fixture(scope="module")
def crew(django_db_setup: None, books: Path) -> Iterator[Crew]:
    """Processes that do what they are told, and die or stop where they are told."""
    with Crew(book_settings(PROVIDERS, books)) as crew:
        yield crew


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the tests of other rooms that belong to the proof."""
    if report.when == "call" and report.passed:
        FIGURES.passed(report.nodeid)


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
