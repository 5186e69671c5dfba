"""The command writes a provider that works, wherever it goes, and overwrites nothing."""

from __future__ import annotations

import importlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from moneyed import Money

import django_multipay
from django_multipay.checks import check_settings
from django_multipay.flows import create_payment, refund_payment, start_payment
from django_multipay.models import Payment
from django_multipay.testing.accounts import at_sandbox
from django_multipay.testing.plugin import running_sandbox
from django_multipay.testing.sandbox_contract import Desk
from tests.conformance import conformance
from tests.test_house_rules import sisters_missing

PACKAGE = Path(django_multipay.__file__).parent
ROOT = Path(__file__).resolve().parent.parent.parent

OWN = ["zebrapay.md", "zebrapay.py", "zebrapay_sandbox.py", "test_zebrapay.py"]
SHORTEST, LONGEST = "ab", "abcdefghijklmnopqrst"


def start(slug: str, directory: str | None = None) -> str:
    """Call the command; return what it says."""
    output = io.StringIO()
    path = None if directory is None else Path(directory)
    call_command("multipay_startprovider", slug, directory=path, stdout=output)
    return output.getvalue()


def everything(folder: Path) -> dict[str, str]:
    """The files below a folder with their contents."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project of somebody else's, where one works."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checkout(project):
    """A copy of this one, as far as the command and a provider need it."""
    no_words = shutil.ignore_patterns("locale", "*.pyc")
    shutil.copytree(PACKAGE, project / "django_multipay", ignore=no_words)
    (project / "tests" / "providers").mkdir(parents=True)
    (project / "docs" / "providers").mkdir(parents=True)
    return project


# What is written --------------------------------------------------------------------


def test_four_files_go_to_a_package_that_is_made(project):
    said = start("zebrapay", "till/payments")
    assert sorted(everything(project)) == sorted(
        ["till/__init__.py", "till/payments/__init__.py"]
        + [f"till/payments/{name}" for name in OWN]
    )
    for name in OWN:
        assert f"wrote till/payments/{name}\n" in said
    assert "python -m pytest till/payments/test_zebrapay.py" in said
    assert "--provider till.payments.zebrapay_sandbox" in said


def test_a_package_that_is_there_is_left_as_it_is(project):
    (project / "till").mkdir()
    (project / "till" / "__init__.py").write_text("OPEN = True\n")
    start("zebrapay", "till")
    assert (project / "till" / "__init__.py").read_text() == "OPEN = True\n"


def test_the_module_is_named_as_python_finds_it(project, monkeypatch):
    monkeypatch.syspath_prepend(project / "src")
    said = start("zebrapay", "src/till")
    assert '"BACKEND": "till.zebrapay.ZebrapayProvider"' in said


def test_the_invented_gateway_is_not_left_behind(project):
    start("zebrapay", "till")
    for name, text in everything(project).items():
        assert "acmepay" not in text.lower(), name
        assert "{{" not in text, name
        assert "{%" not in text, name


# What is written is right -----------------------------------------------------------


def test_a_provider_of_this_project_is_written_where_its_sisters_are(checkout):
    before = set(everything(checkout))
    start("zebrapay")
    written = sorted(set(everything(checkout)) - before)
    assert written == [
        "django_multipay/providers/zebrapay.py",
        "django_multipay/sandbox/providers/zebrapay.py",
        "docs/providers/zebrapay.md",
        "tests/providers/test_zebrapay.py",
    ]
    assert not sisters_missing(["zebrapay"], checkout / "django_multipay", checkout)


def test_a_provider_of_this_project_passes_conformance(checkout):
    start("zebrapay")
    verdict = conformance(checkout, "tests/providers/test_zebrapay.py")
    assert verdict.status == 0, verdict.output
    assert verdict.counts["passed"] > 150


def test_a_provider_of_this_project_keeps_the_plan_of_the_house(checkout):
    start("zebrapay")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=checkout,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("slug", [SHORTEST, LONGEST])
@pytest.mark.parametrize("task", [["format", "--check"], ["check"]], ids=" ".join)
def test_what_is_written_has_our_form_however_long_the_name(checkout, slug, task):
    before = set(everything(checkout))
    start(slug)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    written = set(everything(checkout)) - before
    modules = [name for name in written if name.endswith(f"{slug}.py")]
    assert len(modules) == 3
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", *task, "--no-cache", *modules],
        cwd=checkout,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ruff.returncode == 0, ruff.stdout + ruff.stderr


@pytest.mark.parametrize("slug", [SHORTEST, LONGEST])
def test_what_is_written_elsewhere_has_the_form_of_ruff(project, slug):
    start(slug, "till")
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--isolated", "till"],
        cwd=project,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ruff.returncode == 0, ruff.stdout + ruff.stderr


@pytest.mark.django_db(transaction=True)
def test_a_shop_is_paid_by_it_and_gives_money_back(project, settings):
    start("zebrapay", "till/payments")
    importlib.invalidate_caches()
    with running_sandbox("till.payments.zebrapay_sandbox") as sandbox:
        backend = "till.payments.zebrapay.ZebrapayProvider"
        keys = {"api_key": "of the shop", "webhook_secret": "of the shop"}
        accounts = {"cards": {"BACKEND": backend, "OPTIONS": keys}}
        settings.MULTIPAY = at_sandbox(
            {"PROVIDERS": accounts}, sandbox, "https://shop.example"
        )
        assert check_settings() == []
        payment = create_payment(
            provider="cards", order_id="1001", amount=Money("26.30", "USD")
        )
        page = start_payment(payment).url
        assert "26.30 USD" in httpx.get(page).text
        returned = httpx.post(page, data={"outcome": "approve"})
        assert returned.status_code == 303
        assert returned.headers["location"].startswith("https://shop.example/")

        desk = Desk(sandbox, "zebrapay")
        (message,) = desk.messages(payment.merchant_reference)
        answer = Client().post(
            reverse("multipay:webhook", args=["cards"]),
            message.body,
            content_type="application/json",
            headers=dict(message.headers),
        )
        assert answer.status_code == 200
        payment.refresh_from_db()
        assert payment.status == Payment.Status.PAID

        refund_payment(payment, amount=Money("6.30", "USD"))
        payment.refresh_from_db()
        assert payment.status == Payment.Status.PARTIALLY_REFUNDED
        assert desk.books(payment.merchant_reference)["refunded"] == "630"


# What is refused --------------------------------------------------------------------


def test_nothing_is_overwritten(project):
    start("zebrapay", "till")
    (project / "till" / "zebrapay.py").write_text("# mine\n")
    (project / "till" / "zebrapay.md").unlink()
    before = everything(project)
    with pytest.raises(CommandError) as caught:
        start("zebrapay", "till")
    assert "slug is 'zebrapay'" in str(caught.value)
    assert "till/zebrapay.py, till/zebrapay_sandbox.py" in str(caught.value)
    assert "choose another slug" in str(caught.value)
    assert everything(project) == before


@pytest.mark.parametrize(
    "slug",
    ["", "a", "Zebrapay", "zebra-pay", "zebra_pay", "1pay", "zébra", "z" * 21, "class"],
)
def test_a_slug_that_is_no_module_is_refused(project, slug):
    with pytest.raises(CommandError, match=r"slug is .*; use 2 to 20 lower-case"):
        start(slug, "till")
    assert everything(project) == {}


@pytest.mark.parametrize("slug", ["payer", "base"])
def test_a_slug_that_is_taken_is_refused(project, slug):
    with pytest.raises(CommandError, match="which django-multipay has itself; choose"):
        start(slug, "till")
    assert everything(project) == {}


@pytest.mark.parametrize(
    "directory", [".", "..", "my-shop", "till/pay ments", "till/class"]
)
def test_a_directory_that_is_no_package_is_refused(project, directory):
    with pytest.raises(CommandError, match=r"directory is .*; name a folder below"):
        start("zebrapay", directory)
    assert everything(project) == {}


def test_elsewhere_the_directory_must_be_named(project):
    with pytest.raises(CommandError, match=r"directory is missing.*--directory"):
        start("zebrapay")
    assert everything(project) == {}
