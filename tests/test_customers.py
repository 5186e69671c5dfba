"""What is whose, where the database takes different texts for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from django_multipay.enums import TokenStatus
from django_multipay.flows import erase_buyer
from django_multipay.flows.checkout import ways_for
from django_multipay.ledger import retention
from django_multipay.models import Payment, RecurringPlan, Token
from tests.flows.scripted import account_settings, new_payment
from tests.flows.tokens import SavingProvider, pay_and_save, saved

pytestmark = pytest.mark.django_db(transaction=True)

LOOKALIKES = ("anna", "ANNA", "Anna ", "\u00c1nna")
"""What MariaDB takes for ``Anna`` unless it is told otherwise."""


class OneClickProvider(SavingProvider):
    """Its page takes what was saved."""

    takes_saved_methods = True


def whoever_says_so(request: HttpRequest) -> str:
    return request.headers["X-Customer"]


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = {
        **account_settings(saving=OneClickProvider),
        "CUSTOMER_ID": whoever_says_so,
    }


def collate(name: str) -> None:
    with connection.cursor() as cursor:
        for model in (Payment, RecurringPlan, Token):
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(
                f"ALTER TABLE {table} MODIFY customer_id varchar(64) "
                f"CHARACTER SET utf8mb4 COLLATE {name} NOT NULL"
            )


@pytest.fixture(autouse=True)
def database_as_it_comes() -> Iterator[None]:
    """Compare text as MariaDB does by default; the others compare exactly anyway."""
    is_mariadb = connection.vendor == "mysql"
    if is_mariadb:
        collate("utf8mb4_general_ci")
    yield
    if is_mariadb:
        collate(connection.settings_dict["TEST"]["COLLATION"])


def test_a_customer_with_a_similar_name_sees_and_deletes_nothing() -> None:
    token = saved(customer_id="Anna")
    url = reverse("multipay:method_delete", args=[token.uuid])
    for other in LOOKALIKES:
        browser = Client(headers={"X-Customer": other})
        assert "4242" not in browser.get("/payments/methods/").content.decode()
        assert browser.post(url).status_code == 404
        payment = new_payment(provider="saving", customer_id=other)
        ways = ways_for(payment, other)
        assert ways
        assert not any(way.token for way in ways)
    token.refresh_from_db()
    assert token.status == TokenStatus.ACTIVE
    own = Client(headers={"X-Customer": "Anna"})
    assert "4242" in own.get("/payments/methods/").content.decode()
    assert own.post(url).status_code == 303


def test_a_list_of_one_customer_has_nobody_elses() -> None:
    token = saved(customer_id="Anna")
    staff = User.objects.create_user("ann", is_staff=True)
    staff.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(staff)
    for place in ("tokens", "payments", "plans"):
        for other in LOOKALIKES:
            found = client.get(f"/payments/api/{place}/", {"customer_id": other})
            assert found.json()["results"] == []
    found = client.get("/payments/api/tokens/", {"customer_id": "Anna"})
    assert [row["uuid"] for row in found.json()["results"]] == [str(token.uuid)]


def test_forgetting_a_customer_forgets_nobody_else() -> None:
    theirs = pay_and_save("tok-1", customer_id="Anna")
    for other in LOOKALIKES:
        assert erase_buyer(customer_id=other).payments == 0
    similar = pay_and_save("tok-2", customer_id="anna")
    retention.forget_buyers([theirs.pk, similar.pk])
    names = Payment.objects.values_list("customer_id", flat=True)
    assert set(names) == {retention.pseudonym("Anna"), retention.pseudonym("anna")}


def test_an_address_is_the_same_in_capitals_and_not_with_accents() -> None:
    payment = pay_and_save(customer_id="Anna")
    assert erase_buyer(email="\u00e1da@example.com").payments == 0
    assert erase_buyer(email="ADA@example.com").payments == 1
    payment.refresh_from_db()
    assert payment.buyer_email == ""
