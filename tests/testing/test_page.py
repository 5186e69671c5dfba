"""The page about testing: its shop is made as it says, and its tests are run there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from django_multipay.testing.buyer import BUTTONS
from tests.testing.test_kit import ENDS

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
FILES = dict(
    re.findall(
        r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
)


def pytest_in(
    folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest as a stranger does: no settings but those of the folder."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "PYTEST_", "DATABASE_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The files of the page, where it says."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_the_tests_of_the_page_pass(shop):
    said = pytest_in(shop)
    assert said.returncode == 0, said.stdout + said.stderr
    # One function stands for four outcomes.
    tests = len(re.findall(r"^def test_", "".join(FILES.values()), re.MULTILINE))
    assert f"{tests + 3} passed" in said.stdout


def test_a_shop_that_ships_twice_does_not_pass(shop):
    models = shop / "shop" / "models.py"
    careless = models.read_text(encoding="utf-8").replace(
        'get_or_create(notice_id=notice_id, defaults={"order": order})',
        "create(notice_id=uuid.uuid4(), order=order)",
    )
    models.write_text(
        f"import uuid\n{careless}\npayment_paid.connect(lambda **kw: ship(**kw), weak=False)",
        encoding="utf-8",
    )
    said = pytest_in(shop, "test_shop.py", "-k", "message_that_comes_again")
    assert said.returncode == 1, said.stdout
    assert "assert 2 == 1" in said.stdout


def test_a_project_without_django_pays_nothing(tmp_path):
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_own(request):\n"
        "    assert request.config.pluginmanager.has_plugin('multipay')\n"
        "    heavy = {'django', 'httpx', 'starlette', 'time_machine', 'requests'}\n"
        "    assert not heavy & set(sys.modules)\n",
        encoding="utf-8",
    )
    # What other plugins import is not ours.
    ours = ("-p", "multipay")
    said = pytest_in(tmp_path, *ours, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_page_tells_every_outcome():
    rows = re.findall(r"^\| `(\w+)` \|(.+)\|$", PAGE, re.MULTILINE)
    (names,) = re.findall(r"^\| Outcome \|(.+)\|$", PAGE, re.MULTILINE)
    providers = [name.strip().lower() for name in names.split("|")]
    rows = [(outcome, cells) for outcome, cells in rows if outcome in BUTTONS]
    told: dict[str, dict[str, str]] = {provider: {} for provider in providers}
    for outcome, cells in rows:
        for provider, cell in zip(providers, cells.split("|"), strict=True):
            if cell.strip():
                told[provider][outcome] = cell.strip(" `")
    # A deposit needs another currency than the others, and a test of its own.
    assert told["eximbay"].pop("awaiting_funds") == "awaiting_funds"
    assert told == ENDS
