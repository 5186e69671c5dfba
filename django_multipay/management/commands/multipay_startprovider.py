"""``manage.py multipay_startprovider``: the four files of a new provider."""

from __future__ import annotations

import keyword
import pkgutil
import re
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.template import Context, Engine
from django.utils import timezone

from django_multipay import providers

SCAFFOLD = Path(__file__).parent.parent / "scaffold"

OWN_FILES: Mapping[str, str] = {
    "provider.py-tpl": "{slug}.py",
    "sandbox.py-tpl": "{slug}_sandbox.py",
    "test.py-tpl": "test_{slug}.py",
    "page.md-tpl": "{slug}.md",
}
"""Template → file in the directory of whoever writes a provider for one shop."""

SHIPPED_FILES: Mapping[str, str] = {
    "provider.py-tpl": "django_multipay/providers/{slug}.py",
    "sandbox.py-tpl": "django_multipay/sandbox/providers/{slug}.py",
    "test.py-tpl": "tests/providers/test_{slug}.py",
    "page.md-tpl": "docs/providers/{slug}.md",
}
"""Template → file in a checkout of django-multipay."""

OWN_STEPS = """
Next:
1. python -m pytest {test}
2. Change the tables, then the calls, to what your gateway's document says.
3. Name the provider in the settings:
   "{slug}": {{"BACKEND": "{module}.{name}Provider", "OPTIONS": {{...}}}}
4. python manage.py multipay_sandbox --provider {sandbox_module}
"""

SHIPPED_STEPS = """
Next:
1. python -m pytest {test}
2. Change the tables, then the calls, to what the gateway's document says.
3. Fill the tables of the pages: CONTRIBUTING.md, "Add a provider", has the command.
4. python -m pytest tests/test_docs.py tests/sandbox/test_control.py
   They name what else the pages have to say.
"""


class Command(BaseCommand):
    """Write a small provider that works, to be changed into another."""

    help = (
        "Writes a small provider that works and passes the conformance suite: its "
        "class, its side of the sandbox, its test and its page. Overwrites nothing."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what it is called and where it goes."""
        parser.add_argument(
            "slug", help="what settings and URLs call it, such as 'acmepay'"
        )
        parser.add_argument(
            "--directory",
            type=Path,
            help="the package of yours it goes to, such as shop/payments; left out, it "
            "goes to the checkout of django-multipay that this is called in",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Write all of the files or none; `CommandError` says why none."""
        slug: str = options["slug"]
        directory: Path | None = options["directory"]
        _check_slug(slug)
        if directory is None:
            _check_checkout()
            package = "django_multipay.providers"
            sandbox_module = f"django_multipay.sandbox.providers.{slug}"
        else:
            package = _package_of(directory)
            sandbox_module = f"{package}.{slug}_sandbox"
        names = OWN_FILES if directory else SHIPPED_FILES
        paths = {
            template: (directory or Path()) / name.format(slug=slug)
            for template, name in names.items()
        }
        if taken := [str(path) for path in paths.values() if path.exists()]:
            raise CommandError(
                f"slug is {slug!r}, and {', '.join(taken)} exists; nothing was "
                "written: choose another slug, or move what is there"
            )
        words = {
            "slug": slug,
            "name": slug.capitalize(),
            "module": f"{package}.{slug}",
            "sandbox_module": sandbox_module,
        }
        facts = {
            **words,
            "is_shipped": directory is None,
            "today": timezone.now().date().isoformat(),
        }
        if directory is not None:
            _make_package(directory)
        for template, path in paths.items():
            path.write_text(_render(template, facts), encoding="utf-8")
            self.stdout.write(f"wrote {path}")
        steps = OWN_STEPS if directory else SHIPPED_STEPS
        self.stdout.write(steps.format(test=paths["test.py-tpl"], **words))


def _check_slug(slug: str) -> None:
    if not (re.fullmatch(r"[a-z][a-z0-9]{1,19}", slug, re.ASCII) and _is_name(slug)):
        raise CommandError(
            f"slug is {slug!r}; use 2 to 20 lower-case letters and digits, a letter "
            "first and no word of Python's, such as 'acmepay'"
        )
    taken = sorted(info.name for info in pkgutil.iter_modules(providers.__path__))
    if slug in taken:
        raise CommandError(
            f"slug is {slug!r}, which django-multipay has itself; choose another than "
            f"{', '.join(taken)}"
        )


def _check_checkout() -> None:
    missing = [
        str(folder)
        for folder in (Path(name).parent for name in SHIPPED_FILES.values())
        if not folder.is_dir()
    ]
    if missing:
        raise CommandError(
            "directory is missing, and this is no checkout of django-multipay; say "
            "which package of yours the files go to, such as --directory shop/payments"
        )


def _package_of(directory: Path) -> str:
    """Return the dotted path by which Python finds ``directory``."""
    folder = directory.resolve()
    roots = [Path(entry).resolve() for entry in sys.path]
    below = [folder.relative_to(root).parts for root in roots if root in folder.parents]
    parts = min(below, key=len, default=())
    if not parts or not all(map(_is_name, parts)):
        raise CommandError(
            f"directory is '{directory}', which Python cannot import from; name a "
            "folder below the one that holds manage.py, such as shop/payments"
        )
    return ".".join(parts)


def _is_name(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)


def _make_package(directory: Path) -> None:
    for folder in (*reversed(directory.parents), directory):
        if not folder.exists():
            folder.mkdir()
            (folder / "__init__.py").touch()


def _render(template: str, facts: Mapping[str, Any]) -> str:
    # An engine of its own: a site's template settings have no say here.
    engine = Engine(autoescape=False)
    text = (SCAFFOLD / template).read_text(encoding="utf-8")
    return engine.from_string(text).render(Context(facts, autoescape=False))
