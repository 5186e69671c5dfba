"""The running demo, and pictures of what a visitor sees of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize

ROOT = Path(__file__).resolve().parent.parent.parent
SCREENSHOTS = ROOT / "screenshots"
SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
}
PATIENCE = 20_000


@dataclass
class Demo:
    """A running demo: the shop's address and the sandbox's."""

    shop: str
    sandbox: str


def start_demo(stack: ExitStack, folder: Path, display_type: str) -> Demo:
    """Start ``manage.py demo`` as the README says, on a database of its own."""
    process = subprocess.Popen(
        [sys.executable, "example_project/manage.py", "demo"],
        cwd=ROOT,
        env={
            **{
                name: value
                for name, value in os.environ.items()
                if name != "DJANGO_SETTINGS_MODULE"
            },
            "DATABASE_URL": f"sqlite:///{folder / 'demo.sqlite3'}",
            "EXIMBAY_DISPLAY_TYPE": display_type,
            "PYTHONUNBUFFERED": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    stack.callback(process.stdout.close)
    stack.callback(process.wait, timeout=30)
    stack.callback(process.terminate)
    urls: list[str] = []
    for line in process.stdout:
        urls += re.findall(r"http://127\.0\.0\.1:\d+", line)
        if len(set(urls)) >= 2 and "Ctrl" in line:
            break
    assert len(set(urls)) >= 2, "the demo did not print its addresses"
    shop, sandbox = list(dict.fromkeys(urls))[:2]
    return Demo(shop=shop, sandbox=sandbox)


@contextmanager
def visit(browser: Browser, size: ViewportSize) -> Iterator[Page]:
    """A fresh visitor; a script error or a breach of the policy fails the test."""
    context = browser.new_context(viewport=size, locale="en-US")
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    context.on(
        "console",
        lambda said: (
            problems.append(said.text)
            if "Content Security Policy" in said.text
            else None
        ),
    )
    page.set_default_timeout(PATIENCE)
    yield page
    context.close()
    assert not problems


def picture(page: Page, name: str, size: str, display: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{display}-{size}.png", full_page=True)
