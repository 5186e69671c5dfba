"""What the database itself promises, whatever the code above it does."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models import F
from django.utils import timezone
from moneyed import Money

from django_multipay.enums import (
    BatchKind,
    OperationKind,
    PaymentStatus,
    PlanManager,
    Source,
    TransactionKind,
)
from django_multipay.exceptions import InvalidOperation, MultipayError
from django_multipay.models import (
    AccountHealth,
    Batch,
    BatchItem,
    Endpoint,
    EndpointDelivery,
    IdempotencyKey,
    Notice,
    Operation,
    Payment,
    RecurringPlan,
    Refund,
    Token,
    Transaction,
    WebhookDelivery,
)
from django_multipay.money import MAX_MINOR
from tests.flows.scripted import new_payment

pytestmark = pytest.mark.django_db

OLD, NEW = "the retired key of the shop", "the present key of the shop"


def a_payment(**changes) -> Payment:
    values = {"order_id": "1001", "amount_minor": 2630, "currency": "USD"}
    return Payment.objects.create(provider="eximbay", **{**values, **changes})


def a_fact(payment: Payment, **changes) -> Transaction:
    values = {
        "kind": TransactionKind.CAPTURE,
        "amount_minor": 2630,
        "currency": "USD",
        "provider_reference": "T-1",
        "source": Source.SYNC,
    }
    return Transaction.objects.create(payment=payment, **{**values, **changes})


def a_plan(**changes) -> RecurringPlan:
    values = {
        "provider": "eximbay",
        "amount_minor": 500,
        "currency": "USD",
        "start_on": "2026-12-01",
        "managed_by": PlanManager.APP,
    }
    return RecurringPlan.objects.create(**{**values, **changes})


def refused():
    """Expect the database to say no, and go on afterwards."""
    return pytest.raises(IntegrityError)


# Amounts -----------------------------------------------------------------------------


@pytest.mark.parametrize("minor", [0, -1, MAX_MINOR + 1])
@pytest.mark.parametrize(
    "create",
    [
        lambda minor: a_payment(amount_minor=minor),
        lambda minor: Refund.objects.create(payment=a_payment(), amount_minor=minor),
        lambda minor: a_plan(amount_minor=minor),
    ],
    ids=["payment", "refund", "plan"],
)
def test_an_amount_is_above_zero_and_within_bounds(create, minor):
    with refused(), transaction.atomic():
        create(minor)


@pytest.mark.parametrize("minor", [1, MAX_MINOR])
def test_the_bounds_themselves_are_fine(minor):
    assert a_payment(amount_minor=minor).amount_minor == minor


@pytest.mark.parametrize("minor", [-1, MAX_MINOR + 1])
def test_a_fact_is_about_a_sane_amount(minor):
    with refused(), transaction.atomic():
        a_fact(a_payment(), amount_minor=minor)


@pytest.mark.parametrize("name", ["authorized", "captured", "refunded"])
def test_a_sum_is_never_below_zero(name):
    with refused(), transaction.atomic():
        a_payment(**{f"{name}_minor": -1})


@pytest.mark.parametrize(
    "create",
    [
        lambda: a_payment(status="settled"),
        lambda: Refund.objects.create(
            payment=a_payment(), amount_minor=1, status="settled"
        ),
        lambda: a_plan(interval_months=0),
    ],
    ids=["payment", "refund", "interval"],
)
def test_only_known_words_are_stored(create):
    with refused(), transaction.atomic():
        create()


# Once --------------------------------------------------------------------------------


def test_a_merchant_reference_is_used_once():
    payment = a_payment()
    with refused(), transaction.atomic():
        a_payment(merchant_reference=payment.merchant_reference)


def test_merchant_references_are_random_and_fit_every_provider():
    references = {a_payment().merchant_reference for _ in range(50)}
    assert len(references) == 50
    for reference in references:
        assert len(reference) == 24
        assert reference.isascii()
        assert reference.isalnum()
        assert reference == reference.lower()


@pytest.mark.parametrize("create", [a_payment, a_plan], ids=["payment", "plan"])
def test_a_providers_reference_belongs_to_one_row_and_many_have_none(create):
    for _ in range(3):
        create(provider_reference=None)
    create(provider_reference="T-1")
    with refused(), transaction.atomic():
        create(provider_reference="T-1")
    create(provider_reference="T-2")


def test_each_due_date_of_a_plan_is_charged_once():
    plan = a_plan()
    for _ in range(2):
        a_payment(plan=plan, plan_due_on=None)
        a_payment(plan=None, plan_due_on=None)
    a_payment(plan=plan, plan_due_on="2026-12-01")
    with refused(), transaction.atomic():
        a_payment(plan=plan, plan_due_on="2026-12-01")
    a_payment(plan=a_plan(), plan_due_on="2026-12-01")


def test_a_fact_is_stored_once():
    payment = a_payment()
    a_fact(payment)
    with refused(), transaction.atomic():
        a_fact(payment, source=Source.WEBHOOK, amount_minor=1)
    a_fact(payment, provider_reference="T-2")
    a_fact(payment, kind=TransactionKind.FAILURE)
    a_fact(a_payment())


@pytest.mark.parametrize(
    ("model", "values", "other"),
    [
        (WebhookDelivery, {"provider": "a", "digest": "x"}, {"digest": "y"}),
        (Token, {"provider": "a", "token_digest": "x"}, {"provider": "b"}),
        (Operation, {"key": "x"}, {"key": "y"}),
        (Operation, {"open_slot": "checkout:1"}, {"open_slot": None}),
        (Operation, {"client_key": "x"}, {"client_key": None}),
    ],
)
def test_what_must_be_once_is_once(model, values, other):
    values = {"kind": OperationKind.CAPTURE, **values} if model is Operation else values
    model.objects.create(**values)
    with refused(), transaction.atomic():
        model.objects.create(**values)
    model.objects.create(**{**values, **other})


def test_closed_operations_share_an_empty_slot():
    for _ in range(3):
        Operation.objects.create(kind=OperationKind.CAPTURE, open_slot=None)
    assert Operation.objects.count() == 3


def test_a_fact_has_one_notice():
    fact = a_fact(a_payment())
    Notice.objects.create(transaction=fact, payment=fact.payment)
    with refused(), transaction.atomic():
        Notice.objects.create(transaction=fact, payment=fact.payment)


# Facts stay --------------------------------------------------------------------------


CHANGES = {
    "save": lambda fact: fact.save(),
    "save a field": lambda fact: fact.save(update_fields=["amount_minor"]),
    "delete": lambda fact: fact.delete(),
    "update all": lambda fact: Transaction.objects.update(amount_minor=1),
    "update one": lambda fact: Transaction.objects.filter(pk=fact.pk).update(kind="x"),
    "update related": lambda fact: fact.payment.transactions.update(amount_minor=1),
    "bulk update": lambda fact: Transaction.objects.bulk_update([fact], ["kind"]),
    "delete all": lambda fact: Transaction.objects.all().delete(),
    "delete related": lambda fact: fact.payment.transactions.all().delete(),
    "update or create": lambda fact: Transaction.objects.update_or_create(
        pk=fact.pk, defaults={"amount_minor": 1}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_models_change_no_fact(change):
    fact = a_fact(a_payment())
    fact.amount_minor = 1
    with pytest.raises(InvalidOperation, match="cannot be"):
        change(fact)
    assert Transaction.objects.get().amount_minor == 2630


def test_a_fact_cannot_be_replaced_under_its_own_key():
    fact = a_fact(a_payment())
    impostor = Transaction(
        pk=fact.pk, payment=fact.payment, kind="void", currency="USD", source="sync"
    )
    with refused(), transaction.atomic():
        impostor.save()
    assert Transaction.objects.get().kind == TransactionKind.CAPTURE


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE multipay_transaction SET amount_minor = 1",
        "UPDATE multipay_transaction SET kind = 'void' WHERE id = %s",
    ],
)
def test_the_database_changes_no_fact_either(statement):
    fact = a_fact(a_payment())
    parameters = [fact.pk] if "%s" in statement else []
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, parameters)
    assert Transaction.objects.get().amount_minor == 2630


def test_the_database_forgets_no_fact_where_django_can_live_with_that():
    a_fact(a_payment())
    # On the others such a trigger would stop Django's own flush.
    is_guarded = connection.vendor == "postgresql"
    outcome = (
        pytest.raises(DatabaseError, match="append-only")
        if is_guarded
        else contextlib.nullcontext()
    )
    with outcome, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM multipay_transaction")
    assert Transaction.objects.exists() is is_guarded


@pytest.mark.parametrize("row", ["payment", "plan", "token"])
def test_what_money_rests_on_cannot_be_deleted(row):
    token = Token.objects.create(provider="eximbay", token_digest="x")
    plan = a_plan(token=token)
    payment = a_payment(token=token, plan=plan)
    a_fact(payment)
    with pytest.raises(models.ProtectedError):
        {"payment": payment, "plan": plan, "token": token}[row].delete()


def test_the_migrations_make_what_the_models_say():
    call_command("makemigrations", "multipay", check=True, dry_run=True, verbosity=0)


TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    "mysql": "SELECT trigger_name FROM information_schema.triggers "
    "WHERE trigger_schema = DATABASE()",
}


def triggers() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(TRIGGERS[connection.vendor])
        return {name for (name,) in cursor.fetchall()}


def test_migrating_makes_the_trigger():
    assert "multipay_transaction_append_only" in triggers()


@pytest.mark.django_db(transaction=True)
def test_the_trigger_can_be_taken_away_and_made_again():
    try:
        call_command("migrate", "multipay", "0001", verbosity=0)
        assert "multipay_transaction_append_only" not in triggers()
    finally:
        call_command("migrate", "multipay", verbosity=0)
    assert "multipay_transaction_append_only" in triggers()


@pytest.mark.django_db(transaction=True)
def test_payments_from_before_attempts_can_be_chosen_for_and_end():
    pay_until = timezone.now() + timedelta(hours=1)
    made = {
        "open": new_payment(provider=None, method="", expires_at=pay_until),
        "fixed": new_payment(provider="eximbay", method="card"),
    }
    try:
        call_command("migrate", "multipay", "0012", verbosity=0)
    finally:
        call_command("migrate", "multipay", verbosity=0)
    for payment in made.values():
        payment.refresh_from_db()
    before, fixed = made["open"], made["fixed"]
    assert (before.is_provider_open, before.is_method_open) == (True, True)
    assert before.pay_until == before.expires_at
    assert (fixed.is_provider_open, fixed.is_method_open) == (False, False)
    assert fixed.pay_until is None


# Secrets at rest -------------------------------------------------------------------------


def stored_text(model: type[models.Model], name: str) -> str:
    """What really stands in the column."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {name} FROM {table}")
        (row,) = cursor.fetchall()
    return str(row[0])


@pytest.mark.parametrize(
    ("model", "name", "value", "others"),
    [
        (Payment, "checkout_data", {"street": "canary"}, {}),
        (WebhookDelivery, "payload", {"body": "canary", "n": 1}, {"provider": "a"}),
        (Token, "provider_token", "canary", {"provider": "a"}),
        (Refund, "account", {"number": "canary"}, {"amount_minor": 1}),
    ],
)
def test_an_encrypted_column_holds_no_plain_text(model, name, value, others):
    if model is Payment:
        row = a_payment(**{name: value})
    else:
        extra = {"payment": a_payment()} if model is Refund else {}
        row = model.objects.create(**{name: value}, **others, **extra)
    text = stored_text(model, name)
    assert "canary" not in text
    assert len(text) > 50
    row.refresh_from_db()
    assert getattr(row, name) == value


def test_nothing_is_stored_as_nothing():
    payment = a_payment(checkout_data=None)
    assert stored_text(Payment, "checkout_data") == ""
    payment.refresh_from_db()
    assert payment.checkout_data is None


def test_every_column_for_secrets_is_encrypted():
    encrypted = {
        f"{model.__name__}.{field.name}"
        for model in apps.get_app_config("multipay").get_models()
        for field in model._meta.get_fields()
        if type(field).__name__ == "EncryptedJSONField"
    }
    assert encrypted == {
        "Endpoint.secrets",
        "IdempotencyKey.answer_body",
        "Payment.checkout_data",
        "Refund.account",
        "Token.identity",
        "Token.provider_token",
        "WebhookDelivery.payload",
    }


def keys(settings, *values):
    settings.MULTIPAY = {**settings.MULTIPAY, "ENCRYPTION_KEYS": list(values)}


def test_a_new_key_reads_what_the_old_one_wrote(settings):
    keys(settings, OLD)
    payment = a_payment(checkout_data={"street": "canary"})
    old_text = stored_text(Payment, "checkout_data")
    keys(settings, NEW, OLD)
    payment.refresh_from_db()
    assert payment.checkout_data == {"street": "canary"}
    payment.save(update_fields=["checkout_data"])
    assert stored_text(Payment, "checkout_data") != old_text
    keys(settings, NEW)
    payment.refresh_from_db()
    assert payment.checkout_data == {"street": "canary"}


def test_a_lost_key_is_named_as_the_reason(settings):
    keys(settings, OLD)
    payment = a_payment(checkout_data={"street": "canary"})
    keys(settings, NEW)
    with pytest.raises(MultipayError, match="ENCRYPTION_KEYS"):
        payment.refresh_from_db()


def test_secret_key_and_its_fallbacks_serve_while_no_key_is_set(settings):
    payment = a_payment(checkout_data={"street": "canary"})
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "rotated"
    payment.refresh_from_db()
    assert payment.checkout_data == {"street": "canary"}


# What shops read -------------------------------------------------------------------------


def test_amounts_are_money():
    payment = a_payment(
        amount_minor=5000,
        authorized_minor=4000,
        captured_minor=3000,
        refunded_minor=2000,
    )
    assert payment.amount == Money("50", "USD")
    assert payment.authorized == Money("40", "USD")
    assert payment.captured == Money("30", "USD")
    assert payment.refunded == Money("20", "USD")
    assert a_fact(payment).amount == Money("26.30", "USD")
    assert Refund(payment=payment, amount_minor=100).amount == Money("1", "USD")
    assert a_plan().amount == Money("5", "USD")


@pytest.mark.parametrize(
    ("code", "amount"), [("KRW", "2630"), ("KWD", "2.630"), ("USDT", "0.002630")]
)
def test_money_has_the_decimals_of_its_currency(code, amount):
    payment = a_payment(currency=code)
    assert str(payment.amount.amount) == amount
    assert payment.amount.currency.code == code


def test_links_carry_the_public_id_and_never_the_key():
    payment = a_payment()
    assert payment.get_checkout_url() == f"/payments/{payment.uuid}/"
    assert payment.get_outcome_url() == f"/payments/{payment.uuid}/outcome/"
    assert payment.uuid.version == 4


@pytest.mark.parametrize("model", list(apps.get_app_config("multipay").get_models()))
def test_rows_name_themselves(model):
    payment = a_payment()
    fact = a_fact(payment)
    rows = {
        Payment: lambda: payment,
        Transaction: lambda: fact,
        Refund: lambda: Refund(payment=payment, amount_minor=1),
        Token: lambda: Token(brand="VISA"),
        RecurringPlan: a_plan,
        Operation: lambda: Operation(kind=OperationKind.CHECKOUT),
        WebhookDelivery: lambda: WebhookDelivery.objects.create(provider="eximbay"),
        Notice: lambda: Notice(signals=["payment_paid"]),
        Batch: lambda: Batch(kind=BatchKind.CHECK),
        BatchItem: lambda: BatchItem(payment=payment),
        AccountHealth: lambda: AccountHealth(provider="eximbay"),
        Endpoint: lambda: Endpoint(url="https://shop.example/"),
        EndpointDelivery: lambda: EndpointDelivery(event_type="payment.paid"),
        IdempotencyKey: lambda: IdempotencyKey(digest="a" * 64),
    }
    assert str(rows[model]())


def test_a_status_has_a_word_for_people():
    assert a_payment().get_status_display() == "created"
    assert Payment.Status is PaymentStatus


def test_a_payment_is_older_than_the_next_one():
    first, second = a_payment(), a_payment()
    assert list(Payment.objects.all()) == [second, first]
    assert Payment.objects.filter(pk__gt=F("pk")).count() == 0


def test_dumped_data_give_away_no_secret_and_can_be_loaded_again(tmp_path):
    payment = a_payment(checkout_data={"street": "canary"})
    dump = tmp_path / "dump.json"
    call_command("dumpdata", "multipay", output=str(dump), verbosity=0)
    assert "1001" in dump.read_text()
    assert "canary" not in dump.read_text()
    payment.delete()
    call_command("loaddata", str(dump), verbosity=0)
    assert Payment.objects.get().checkout_data == {"street": "canary"}
