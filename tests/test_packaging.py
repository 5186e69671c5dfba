"""What is shipped, and what the README tells a stranger to type."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

import django_multipay

PACKAGE = Path(django_multipay.__file__).parent
ROOT = Path(__file__).resolve().parent.parent


def test_the_version_is_said_once():
    assert metadata.version("django-multipay") == django_multipay.__version__


@pytest.mark.parametrize("name", ["locale", "py.typed", "static", "templates"])
def test_what_is_not_python_is_shipped(name):
    assert (PACKAGE / name).exists()


def test_the_pytest_plugin_is_registered():
    (plugin,) = metadata.entry_points(group="pytest11", name="multipay")
    assert plugin.value == "django_multipay.testing.plugin"


def test_the_version_is_the_newest_release_of_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, *releases = re.findall(r"^## \[(.+?)\](.*)$", changelog, re.MULTILINE)
    assert unreleased == ("Unreleased", "")
    assert all(re.fullmatch(r" - \d{4}-\d\d-\d\d", day) for _, day in releases)
    # A development version is on its way to a release that nobody has dated yet.
    if ".dev" not in django_multipay.__version__:
        assert releases[0][0] == django_multipay.__version__


def readme_commands(text: str) -> list[str]:
    """The lines of the README's shell blocks, without prompts and remarks."""
    blocks = re.findall(r"^```(?:bash|console|sh|shell)\n(.*?)^```", text, re.M | re.S)
    lines = [line.removeprefix("$ ").strip() for line in "\n".join(blocks).split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def unknown_names(commands: list[str], extras: set[str], root: Path) -> list[str]:
    """Extras and scripts that the commands name and the project does not have."""
    text = "\n".join(commands)
    wanted = {
        extra.strip()
        for names in re.findall(r"(?:\.|django-multipay)\[([a-z, ]+)\]", text)
        for extra in names.split(",")
    }
    scripts = set(re.findall(r"(?:python|bash) ([\w./-]+(?:\.py|/run))\b", text))
    return sorted(wanted - extras) + sorted(
        script for script in scripts if not (root / script).is_file()
    )


def test_the_readme_names_only_what_exists():
    commands = readme_commands((ROOT / "README.md").read_text(encoding="utf-8"))
    extras = set(metadata.metadata("django-multipay").get_all("Provides-Extra") or [])
    assert commands
    assert not unknown_names(commands, extras, ROOT)


def test_a_stale_readme_is_noticed(tmp_path):
    readme = '```bash\n$ pip install -e ".[gone]"  # a remark\npython gone.py demo\n```'
    commands = readme_commands(f"{readme}\n")
    assert unknown_names(commands, {"test"}, tmp_path) == ["gone", "gone.py"]
