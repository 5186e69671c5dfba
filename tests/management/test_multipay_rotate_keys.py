"""New keys: every stored secret comes under the first one, and that is proven."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from django_multipay import crypto
from django_multipay.exceptions import MultipayError
from django_multipay.flows import charge_token, delete_token
from django_multipay.ledger import claims, keys
from django_multipay.messages import Address, Buyer
from django_multipay.models import Payment, Token, WebhookDelivery
from django_multipay.models.fields import EncryptedJSONField
from tests.flows.scripted import account_settings, new_payment
from tests.flows.tokens import PRICE, SavingProvider, pay_and_save, saved

pytestmark = pytest.mark.django_db

OLD, NEW = "an old key of the shop", "a new key of the shop"


@pytest.fixture(autouse=True)
def use_keys(settings: Settings) -> Callable[..., None]:
    """Return a function that sets the keys; the old one is set already."""

    def use(*encryption_keys: str) -> None:
        settings.MULTIPAY = {
            **account_settings(saving=SavingProvider),
            "ENCRYPTION_KEYS": list(encryption_keys),
        }

    use(OLD)
    return use


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command(
        "multipay_rotate_keys", *arguments, stdout=output, stderr=io.StringIO()
    )
    return output.getvalue()


def report(*arguments: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run("--json", *arguments))
    return said


def fill() -> Token:
    """A row in every table that has secrets the flows write; return the method."""
    new_payment(provider="saving", buyer=Buyer(address=Address(city="Seoul")))
    WebhookDelivery.objects.create(
        provider="saving", digest="d", source="webhook", payload={"body": "x"}
    )
    delete_token(saved("tok-gone"))
    return saved()


def stored() -> list[str]:
    """Every encrypted value as it stands in the database."""
    values = []
    for model in apps.get_app_config("multipay").get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, EncryptedJSONField):
                sql = f"SELECT {field.column} FROM {model._meta.db_table}"
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    values += [value for (value,) in cursor.fetchall() if value]
    return values


def test_every_secret_of_every_model_comes_under_the_first_key(use_keys):
    token = fill()
    use_keys(NEW, OLD)
    before = stored()
    assert len(before) == 5
    assert not any(map(crypto.is_current, before))
    said = report()
    assert (
        said["rotated"] | {"token": 2, "payment": 1, "webhookdelivery": 1}
        == (said["rotated"])
    )
    assert said["is_complete"]
    assert not any(said["left"].values())
    use_keys(NEW)
    assert all(map(crypto.is_current, stored()))
    token.refresh_from_db()
    assert token.provider_token == "tok-1"
    assert Payment.objects.filter(checkout_data="").exists()
    assert charge_token(token, "box-1", PRICE).captured == PRICE


def test_methods_are_found_again_and_stay_their_owners_under_the_new_key(use_keys):
    fill()
    use_keys(NEW, OLD)
    run()
    use_keys(NEW)
    # Also the one whose token was erased: nobody else may save it.
    pay_and_save("tok-gone", customer_id="mallory")
    pay_and_save("tok-1", customer_id="mallory")
    assert set(Token.objects.values_list("customer_id", flat=True)) == {"42"}


def test_what_is_done_is_not_written_again(use_keys):
    fill()
    use_keys(NEW, OLD)
    run()
    before = stored()
    assert not any(report()["rotated"].values())
    assert stored() == before


def test_a_dry_run_counts_and_writes_nothing(use_keys):
    fill()
    use_keys(NEW, OLD)
    before = stored()
    said = report("--dry-run")
    assert (said["left"]["token"], said["is_complete"]) == (2, False)
    assert stored() == before
    assert "2 under another key" in run("--dry-run")


def test_what_no_key_opens_is_named_and_ends_in_failure(use_keys):
    token = fill()
    use_keys(NEW)
    for arguments in ([], ["--dry-run"]):
        with pytest.raises(CommandError, match="put retired ones back"):
            run(*arguments)
    errors = io.StringIO()
    with pytest.raises(CommandError):
        call_command("multipay_rotate_keys", stdout=io.StringIO(), stderr=errors)
    assert f"token: look at {token.pk - 1}, {token.pk}" in errors.getvalue()
    use_keys(NEW, OLD)
    run()


class Killed(BaseException):
    """The process is gone."""


def test_killed_halfway_the_next_run_goes_on(use_keys, monkeypatch):
    for number in range(6):
        saved(f"tok-{number}")
    use_keys(NEW, OLD)
    monkeypatch.setattr(claims, "CHUNK", 2)
    original, written = keys._write, []

    def dying(*args: Any) -> None:
        if len(written) == 2:
            raise Killed
        written.append(args)
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(keys, "_write", dying)
        with pytest.raises(Killed):
            run()
    assert sum(map(crypto.is_current, stored())) == 2 * 4
    said = report()
    assert (said["rotated"]["token"], said["is_complete"]) == (2, True)


def test_only_a_chunk_is_read_at_a_time(monkeypatch, django_assert_max_num_queries):
    for number in range(5):
        saved(f"tok-{number}")
    monkeypatch.setattr(claims, "CHUNK", 2)
    sizes = [len(chunk) for chunk in keys.chunks(Token, ["provider_token", "identity"])]
    assert sizes == [2, 2, 1]
    with django_assert_max_num_queries(60):
        run()


def test_what_is_written_meanwhile_is_not_overwritten(use_keys, monkeypatch):
    token = saved()
    use_keys(NEW, OLD)
    original = keys._write

    def overtaken(*args: Any) -> None:
        Token.objects.filter(pk=token.pk).update(provider_token="tok-new")
        original(*args)

    monkeypatch.setattr(keys, "_write", overtaken)
    with pytest.raises(CommandError):
        run()
    token.refresh_from_db()
    assert token.provider_token == "tok-new"
    monkeypatch.setattr(keys, "_write", original)
    assert report()["is_complete"]


def test_one_method_in_two_rows_is_named_not_merged(use_keys):
    token = saved()
    use_keys(NEW, OLD)
    twin = Token.objects.create(
        provider="saving",
        customer_id="43",
        provider_token="tok-1",
        identity=token.identity,
        token_digest=crypto.keyed_digest(token.identity),
    )
    fine = saved("tok-2")
    errors = io.StringIO()
    with pytest.raises(CommandError):
        call_command("multipay_rotate_keys", stdout=io.StringIO(), stderr=errors)
    assert f"token: look at {token.pk}\n" in errors.getvalue()
    for row in (twin, fine):
        row.refresh_from_db()
        assert row.token_digest == crypto.keyed_digest(row.identity)


def test_progress_is_told_while_it_runs(use_keys, monkeypatch):
    saved()
    monkeypatch.setattr(
        "django_multipay.management.commands.multipay_rotate_keys._STEP", 1
    )
    use_keys(NEW, OLD)
    said = run()
    assert "token: 1 of 1\n" in said
    assert said.endswith("Every value is under the first key.\n")
    use_keys(NEW)
    assert "token: 1 of 1\n" in run("--dry-run")


def test_what_is_rotated_is_as_secret_and_as_safe_as_before(use_keys):
    ciphertext = crypto.encrypt("canary")
    use_keys(NEW, OLD)
    rotated = crypto.rotate(ciphertext)
    use_keys(NEW)
    assert crypto.decrypt(rotated) == "canary"
    with pytest.raises(MultipayError, match="put the retired key back"):
        crypto.rotate(ciphertext)
