"""What the page of the API tells a reader to type works as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from django_multipay.api.problems import KINDS
from django_multipay.api.throttles import RATES
from django_multipay.enums import PaymentStatus, ProblemCode
from django_multipay.models import Payment
from django_multipay.registry import registry
from tests.api.authentication import TOKEN
from tests.api.conftest import user_with
from tests.api.test_access import MATRIX
from tests.flows.scripted import ObligingProvider, account_settings, snapshot_of

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "api.md").read_text(
    encoding="utf-8"
)
COMMANDS = [
    block
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if block.startswith("curl")
]


@pytest.mark.django_db(transaction=True)
def test_the_walk_by_curl_ends_with_money_given_back(
    settings, live_server, monkeypatch
):
    monkeypatch.setattr("django_multipay.api.events.SETTLED_AFTER", timedelta(0))
    settings.MULTIPAY = account_settings(cards=ObligingProvider)
    settings.REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["tests.api.authentication.OneToken"]
    }
    user_with()
    known = {"API": f"{live_server.url}/payments/api", "TOKEN": TOKEN}

    def type_in(command: str):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            env={**os.environ, **known, "no_proxy": "*"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    create, methods, start, sync, refund, events = COMMANDS
    made = type_in(create)
    assert type_in(create) == made
    known |= {"PAYMENT": made["uuid"], "SECRET": made["client_secret"]}
    assert type_in(methods)[0]["provider"] == "cards"
    assert type_in(start)["next_action"]["type"] == "redirect"

    payment = Payment.objects.get()
    Payment.objects.update(sync_at=payment.created_at)
    provider = registry["cards"]
    assert isinstance(provider, ObligingProvider)
    provider.will("fetch", snapshot_of(payment, PaymentStatus.PAID))
    assert type_in(sync)["status"] == "paid"
    given_back = type_in(refund)
    assert given_back["status"] == "succeeded"
    assert given_back["amount"]["amount_minor"] == 630
    (fact,) = type_in(events)["results"]
    assert fact["payment"] == made["uuid"]


def test_the_page_knows_every_problem_scope_and_permission():
    for code in ProblemCode:
        row = rf"^\|[^|]*`{code}`[^|]*\| {KINDS[code].status} \|$"
        assert re.search(row, PAGE, re.MULTILINE), code
    for scope, rate in RATES.items():
        assert re.search(rf"^\| `{scope}` \|[^|]+\| {rate} \|$", PAGE, re.MULTILINE)
    for door in MATRIX.values():
        assert f"`{door.permission}`" in PAGE
