"""The command says what was forgotten, and what could not be."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from django_multipay.models import Payment
from tests.flows.scripted import new_payment
from tests.flows.test_purge import KNOWN, make_old, paid

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted")]


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("multipay_purge", *arguments, stdout=output)
    return output.getvalue()


def test_what_is_old_is_purged():
    paid()
    make_old(91)
    assert "would be purged: 1 messages, 0 events, 1 notices" in run("--dry-run")
    assert json.loads(run("--json"))["messages"] == 1
    assert run().startswith("purged: 0 messages")


def test_a_buyer_is_forgotten():
    paid()
    assert json.loads(run("--email", "hong@example.com", "--json"))["payments"] == 1
    assert Payment.objects.get().buyer_email == ""


def test_what_is_not_over_is_an_error():
    new_payment(**KNOWN)
    with pytest.raises(CommandError, match="not over"):
        run("--customer", "hong")
