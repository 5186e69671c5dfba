"""The command says what `reconcile` did, in words or for programs."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_multipay.enums import PaymentStatus
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
    assert json.loads(run("--dry-run", "--json")) == wanted
    assert "would be asked about" in run("--dry-run")
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PENDING


def test_an_unknown_provider_is_named_with_the_known_ones():
    with pytest.raises(CommandError, match=r"--provider gone .*scripted"):
        run("--provider", "gone")
