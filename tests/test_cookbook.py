"""Whoever follows the page about writing a provider ends with one that is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.conformance import conformance

PAGE = Path(__file__).resolve().parent.parent / "docs" / "write-a-provider.md"

BLOCK = re.compile(
    r"^(`{3,})\{code-block\} \w+\n:caption: (\S+)\n\n(.*?\n)\1$",
    re.MULTILINE | re.DOTALL,
)
STEPS = [
    "Imports",
    "Tables",
    "Options",
    "Facts",
    "Start a payment",
    "Ask how it stands",
    "Refund",
    "Webhooks",
    "To the wire and back",
]
"""What the page builds the provider class in."""


def files_of(page: str) -> dict[str, str]:
    """The files of a page: each block goes to the end of the file it names."""
    files: dict[str, str] = {}
    for _, name, block in BLOCK.findall(page):
        before = files.get(name, "")
        is_definition = re.match(r"@|class |def ", block) is not None
        is_after_one = before.rpartition("\n")[0].rpartition("\n")[2].startswith(" ")
        is_outside = not block.startswith(" ")
        blanks = 2 if is_definition or (is_after_one and is_outside) else 1
        files[name] = f"{before}{blanks * chr(10)}{block}" if before else block
    return files


def write(files: dict[str, str], project: Path) -> None:
    """Write the files, each folder of theirs a package."""
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for package in (path.parent, path.parent.parent):
            (package / "__init__.py").touch()


@pytest.fixture
def page():
    return PAGE.read_text(encoding="utf-8")


def test_what_the_page_builds_passes_conformance(page, tmp_path):
    write(files_of(page), tmp_path)
    verdict = conformance(tmp_path, "shop/payments/test_acmepay.py")
    assert verdict.status == 0, verdict.output
    assert verdict.counts["passed"] > 150


def test_the_page_and_the_command_write_the_same(page, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    call_command("multipay_startprovider", "acmepay", directory=Path("shop/payments"))
    files = files_of(page)
    assert len(files) == 4
    for name, text in files.items():
        undated = [
            re.sub(r"\d{4}-\d\d-\d\d", "a day", one)
            for one in (text, (tmp_path / name).read_text(encoding="utf-8"))
        ]
        assert undated[0] == undated[1], name


def without(page: str, step: str) -> str:
    """The page without a chapter that it has."""
    chapter = re.search(rf"^### {step}\n.*?(?=^##)", page, re.MULTILINE | re.DOTALL)
    assert chapter is not None
    assert BLOCK.search(chapter[0])
    return page.replace(chapter[0], "")


def test_whoever_leaves_out_a_step_sees_it(page, tmp_path):
    tests = {}
    for number, step in enumerate([*STEPS, ""]):
        # Each in a package of its own, so that one run of pytest is enough.
        shop = f"shop{number}"
        changed = without(page, step) if step else page
        write(
            files_of(re.sub(r"\bshop([./]payments)", rf"{shop}\1", changed)), tmp_path
        )
        tests[step] = f"{shop}/payments/test_acmepay.py"
    verdict = conformance(
        tmp_path,
        "--continue-on-collection-errors",
        # These need no sandbox, and wait for no fault of the line.
        "-k=TestContract and not fault",
        *tests.values(),
    )
    assert verdict.red == {test for step, test in tests.items() if step}


def test_no_step_of_the_provider_class_is_forgotten(page):
    chapter = re.search(
        r"^## Your side of the wire\n.*?(?=^## )", page, re.MULTILINE | re.DOTALL
    )
    assert chapter is not None
    assert re.findall(r"^### (.+)$", chapter[0], re.MULTILINE) == STEPS
