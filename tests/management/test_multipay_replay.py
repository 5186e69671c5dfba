"""Messages are chosen and applied again; what was applied does nothing."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_multipay.enums import PaymentStatus, Verdict
from django_multipay.flows import receive_webhook, start_payment
from django_multipay.models import Payment, WebhookDelivery
from tests.flows.scripted import message, new_payment

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("multipay_replay", *arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


@pytest.fixture
def held() -> WebhookDelivery:
    """A message that was held because our payment was another one then."""
    payment = new_payment()
    start_payment(payment)
    receive_webhook("scripted", message(payment, PaymentStatus.PAID, amount="99.00"))
    Payment.objects.filter(pk=payment.pk).update(amount_minor=9900)
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.HELD
    return delivery


@pytest.mark.parametrize(
    "choice",
    [
        lambda delivery: [str(delivery.uuid)],
        lambda delivery: ["--held"],
        lambda delivery: ["--since", "2020-01-01", "--provider", "scripted"],
    ],
    ids=["uuid", "held", "since"],
)
def test_a_chosen_message_is_applied(held, choice):
    said = json.loads(run(*choice(held), "--json"))
    assert said == {"messages": 1, "verdicts": {"applied": 1}}
    assert Payment.objects.get().captured_minor == 9900
    assert run(*choice(held)) == "0 messages\n"


def test_a_dry_run_applies_nothing(held):
    assert run("--held", "--dry-run") == "1 messages: 1 would be applied\n"
    assert WebhookDelivery.objects.get().verdict == Verdict.HELD


def test_older_messages_are_left_alone(held):
    tomorrow = timezone.now() + timedelta(days=1)
    assert run("--since", tomorrow.isoformat()) == "0 messages\n"


def test_a_message_that_no_key_opens_is_said_and_stops_no_other(held, settings):
    settings.MULTIPAY = {
        **settings.MULTIPAY,
        "ENCRYPTION_KEYS": ["another key of ours"],
    }
    payment = new_payment()
    receive_webhook("scripted", message(payment, PaymentStatus.PAID, order="nobody"))
    output = io.StringIO()
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("multipay_replay", "--held", stdout=output, stderr=io.StringIO())
    assert output.getvalue() == "2 messages: 1 unreadable, 1 held\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "--held or --since"),
        (["--provider", "scripted"], "--held or --since"),
        (["gone"], "gone is no uuid"),
        (["--since", "yesterday"], "--since yesterday is no moment"),
        (["--since", "2026-13-40"], "is no moment"),
        (["--held", "--provider", "gone"], "--provider gone .*scripted"),
        (["0" * 32], "no message has the uuid"),
    ],
)
def test_what_cannot_be_chosen_is_said(arguments, problem):
    with pytest.raises(CommandError, match=problem):
        run(*arguments)
