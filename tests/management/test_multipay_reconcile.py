"""The command says what `reconcile` did, in words or for programs."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_multipay.enums import PaymentStatus
from django_multipay.exceptions import ProviderUnavailable
from django_multipay.flows import start_payment
from django_multipay.models import Payment
from tests.flows.scripted import new_payment, snapshot_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("multipay_reconcile", *arguments, stdout=output)
    return output.getvalue()


def due_payment() -> Payment:
    payment = new_payment()
    start_payment(payment)
    Payment.objects.filter(pk=payment.pk).update(
        sync_at=timezone.now() - timedelta(seconds=1)
    )
    return payment


def test_a_due_payment_is_asked_about(scripted):
    payment = due_payment()
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    assert run().startswith("0 messages applied, 1 payments asked about")
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


def test_a_dry_run_only_counts():
    payment = due_payment()
    nothing = ("deliveries", "operations", "refunds", "notices", "errors")
    wanted = {"payments": 1, **dict.fromkeys(nothing, 0)}
    said = json.loads(run("--dry-run", "--json"))
    assert {name: said[name] for name in wanted} == wanted
    assert said["loops"] == {**dict.fromkeys(said["loops"], 0), "payments": 1}
    assert "would be asked about" in run("--dry-run")
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING


def test_an_unknown_provider_is_named_with_the_known_ones():
    with pytest.raises(CommandError, match=r"--provider gone .*scripted"):
        run("--provider", "gone")


def test_drift_is_shown_and_is_an_error(scripted):
    payment = new_payment()
    start_payment(payment)
    assert "1 payments compared, 0 differences" in run("--drift")
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    output = io.StringIO()
    with pytest.raises(CommandError, match="not ours"):
        call_command("multipay_reconcile", "--drift", stdout=output)
    assert f"only_theirs captured: payment {payment.uuid}" in output.getvalue()
    scripted.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    output = io.StringIO()
    with pytest.raises(CommandError):
        call_command("multipay_reconcile", "--drift", "--json", stdout=output)
    assert json.loads(output.getvalue())["differences"][0]["kind"] == "only_theirs"
    payment.refresh_from_db()
    assert payment.captured_minor == 0


def test_a_span_of_days_can_be_compared():
    start_payment(new_payment())
    assert "0 payments compared" in run("--drift", "--until", "2020-01-01")
    assert "1 payments compared" in run("--drift", "--since", "2020-01-01T10:00")


def test_problems_and_a_budget_are_told(scripted):
    due_payment()
    assert '"is_complete": false' in run("--budget", "0", "--json")
    assert json.loads(run("--older-than", "3600", "--json"))["payments"] == 0
    scripted.will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    problems = io.StringIO()
    call_command("multipay_reconcile", stdout=io.StringIO(), stderr=problems)
    assert "down" in problems.getvalue()


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_a_person_sees_a_bar():
    due_payment()
    screen = Terminal()
    call_command("multipay_reconcile", stdout=io.StringIO(), stderr=screen)
    assert screen.getvalue().endswith(f"\r[{'#' * 30}] 1 of 1\n")
