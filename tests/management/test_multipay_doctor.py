"""The doctor finds what is broken, says what to do, and repeats no secret."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from django_multipay.exceptions import (
    CredentialsRejected,
    ProviderUnavailable,
    UnexpectedAnswer,
)
from django_multipay.flows import start_payment
from django_multipay.models import Payment
from tests.flows.scripted import (
    SECRET,
    SilentProvider,
    account_settings,
    new_payment,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]


def run() -> tuple[dict[str, tuple[str, str]], bool]:
    """Severity and message by subject, and whether it ended well."""
    output, is_well = io.StringIO(), True
    try:
        call_command("multipay_doctor", "--json", stdout=output)
    except CommandError:
        is_well = False
    said = json.loads(output.getvalue())
    assert SECRET not in output.getvalue()
    return {one["subject"]: (one["severity"], one["message"]) for one in said}, is_well


def test_a_site_in_good_health(settings):
    said, is_well = run()
    assert is_well
    assert said["account scripted"][0] == "fine"
    assert said["database"][0] == "fine"
    assert "https://shop.example/payments/webhook/scripted/" in said["callback URLs"][1]
    assert {severity for severity, _ in said.values()} <= {"fine", "warning"}


def test_an_account_that_cannot_be_asked_is_not_asked(settings):
    settings.MULTIPAY = account_settings(scripted=SilentProvider)
    said, is_well = run()
    assert is_well
    assert said["account scripted"] == ("fine", "has no inquiry, so it was not asked")


def test_the_findings_can_be_read_by_people():
    output = io.StringIO()
    call_command("multipay_doctor", stdout=output)
    assert "account scripted: answers, and accepts our credentials" in output.getvalue()


@pytest.mark.parametrize(
    ("error", "severity", "words"),
    [
        (CredentialsRejected("no", "scripted"), "error", "mend its OPTIONS"),
        (ProviderUnavailable("no", "scripted"), "error", "does not answer"),
        (UnexpectedAnswer(SECRET, "scripted"), "warning", "UnexpectedAnswer"),
    ],
)
def test_an_account_that_does_not_work(scripted, error, severity, words):
    scripted.will("fetch", error)
    said, is_well = run()
    assert said["account scripted"][0] == severity
    assert words in said["account scripted"][1]
    assert is_well == (severity != "error")


def test_settings_that_cannot_work_are_named_and_nobody_is_called(scripted, settings):
    settings.MULTIPAY = {**settings.MULTIPAY, "CONCURRENCY": 0}
    said, is_well = run()
    assert not is_well
    assert said["settings (multipay.E017)"][0] == "error"
    assert scripted.told("fetch") == []


def test_secrets_that_no_key_opens(settings):
    new_payment(provider_data={"gift": "yes"})
    assert "newest 1 values" in run()[0]["payment.checkout_data"][1]
    settings.MULTIPAY = {
        **settings.MULTIPAY,
        "ENCRYPTION_KEYS": ["another key of ours"],
    }
    said, is_well = run()
    assert not is_well
    assert said["payment.checkout_data"][0] == "error"


def test_work_that_nobody_does():
    start_payment(new_payment())
    Payment.objects.update(sync_at=timezone.now() - timedelta(minutes=14))
    assert run()[1]
    Payment.objects.update(sync_at=timezone.now() - timedelta(minutes=16))
    said, is_well = run()
    assert not is_well
    assert "multipay_reconcile" in said["payments"][1]


def test_a_migration_that_was_forgotten():
    recorder: Any = MigrationRecorder.Migration
    latest = recorder.objects.filter(app="multipay").order_by("name").last()
    latest.delete()
    said, is_well = run()
    assert not is_well
    assert latest.name in said["database"][1]


def test_a_database_that_is_away(monkeypatch):
    def away(*arguments: object) -> None:
        raise OperationalError("password of postgres is wrong")

    monkeypatch.setattr(
        "django_multipay.management.commands.multipay_doctor.MigrationExecutor", away
    )
    said, is_well = run()
    assert not is_well
    assert said["database"] == ("error", "does not answer: OperationalError")


@pytest.mark.parametrize(
    ("site_url", "severity"),
    [(None, "warning"), ("http://shop.example", "warning")],
)
def test_callback_urls_that_are_no_good_outside(settings, site_url, severity):
    settings.MULTIPAY = {**settings.MULTIPAY, "SITE_URL": site_url, "PROVIDERS": {}}
    assert run()[0]["callback URLs"][0] == severity


@pytest.mark.urls("django.contrib.auth.urls")
def test_callback_urls_that_lead_nowhere():
    said, is_well = run()
    assert not is_well
    assert "django_multipay.urls" in said["callback URLs"][1]


def test_who_applies_messages_is_said(settings):
    assert "requests that bring them" in run()[0]["tasks"][1]
    settings.MULTIPAY = {**settings.MULTIPAY, "WEBHOOKS": "task"}
    assert "task engine" in run()[0]["tasks"][1]
