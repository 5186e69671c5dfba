"""A site that was installed early comes to the newest tables with all its rows."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps as newest_apps
from django.db import DatabaseError, IntegrityError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState

from django_multipay.models import Payment, Token, Transaction
from django_multipay.models.fields import EncryptedJSONField
from django_multipay.money import MAX_MINOR

ALIAS = "early_site"
FIRST_WHOLE = 1
"""The first step after which the app worked: facts are append-only since then."""

Key = tuple[str, Any]
"""A row: the name of its model, and its primary key."""


Rows = dict[Key, dict[str, Any]]

Historical = Any
"""A model as it was at some step, which no type describes."""


@pytest.fixture(scope="module")
def empty_database(
    django_db_blocker: Any, tmp_path_factory: Any
) -> Iterator[BaseDatabaseWrapper]:
    """A database beside the one of the tests, under an alias of its own."""
    settings = copy.deepcopy(connections["default"].settings_dict)
    settings["TEST"]["NAME"] = f"{ALIAS}_{uuid.uuid4().hex[:8]}"
    if connections["default"].vendor == "sqlite":
        folder = tmp_path_factory.mktemp(ALIAS)
        settings["TEST"]["NAME"] = str(folder / "db.sqlite3")
    with django_db_blocker.unblock():
        connections.databases[ALIAS] = settings
        connection = connections[ALIAS]
        # Only the database: create_test_db() would migrate it, too.
        creation: Any = connection.creation
        name = creation._create_test_db(verbosity=0, autoclobber=True)
        connection.close()
        settings["NAME"] = connection.settings_dict["NAME"] = name
        try:
            yield connection
        finally:
            original = connections["default"].settings_dict["NAME"]
            creation.destroy_test_db(original, verbosity=0)
            del connections[ALIAS], connections.databases[ALIAS]


@pytest.fixture(scope="module")
def written(empty_database: BaseDatabaseWrapper) -> Rows:
    """Every row that was written on the way to the newest tables, step by step."""
    executor = MigrationExecutor(empty_database)
    graph = executor.loader.graph
    (newest,) = graph.leaf_nodes("multipay")
    state = ProjectState()
    rows: Rows = {}
    for number, step in enumerate(graph.forwards_plan(newest)):
        state = executor.apply_migration(state, graph.nodes[step])
        if number >= FIRST_WHOLE:
            then = list(state.apps.get_app_config("multipay").get_models())
            rows |= fill(in_order(then), number)
    return rows


def value_of(field: models.Field[Any, Any], step: int) -> Any:
    """Return a value for ``field`` that no other step has, and that is no default."""
    if field.name == "currency":
        return "KRW"
    if field.choices:
        return list(field.flatchoices)[step % len(field.flatchoices)][0]
    match field:
        case EncryptedJSONField():
            return {"whole": f"비밀 {step}"}
        case models.JSONField():
            return {"step": step, "text": ["é", None]}
        case models.UUIDField():
            return uuid.uuid4()
        case models.DateTimeField():
            return datetime(2026, 2, 28, 23, 59, 59, 999_000, UTC) + timedelta(step)
        case models.DateField():
            return date(2026, 2, 28) + timedelta(step)
        case models.BooleanField():
            return not field.default
        case models.BigIntegerField():
            return MAX_MINOR - step
        case models.IntegerField():
            return step + 1
        case models.CharField() | models.TextField():
            return f"{step:02}é{field.name}"[: field.max_length]
    raise AssertionError(f"give {field} a value here")


def fill(models_of_then: list[Historical], step: int) -> Rows:
    """Add a row to every table of that time; return what the rows hold."""
    rows: dict[str, Any] = {}
    for model in models_of_then:
        values = {
            field.name: value_of(field, step)
            for field in model._meta.concrete_fields
            if not field.is_relation and not field.primary_key
        }
        required = {
            field.name: rows[field.related_model._meta.object_name]
            for field in model._meta.concrete_fields
            if field.is_relation and not field.null
        }
        row = model(**values, **required)
        row.save(using=ALIAS)
        rows[model._meta.object_name] = row
    # What may be empty points at rows that did not exist yet.
    for model in models_of_then:
        row = rows[model._meta.object_name]
        links = {
            field.name: rows[field.related_model._meta.object_name]
            for field in model._meta.concrete_fields
            if field.is_relation and field.null
        }
        if links:
            type(row)._base_manager.using(ALIAS).filter(pk=row.pk).update(**links)
    return {
        (name, row.pk): type(row)._base_manager.using(ALIAS).values().get(pk=row.pk)
        for name, row in rows.items()
    }


def in_order(models_of_then: list[Historical]) -> list[Historical]:
    """Return the models so that each comes after those that its rows must name."""
    ordered: list[Historical] = []
    names: set[str] = set()
    while len(ordered) < len(models_of_then):
        for model in models_of_then:
            needed = {
                field.related_model._meta.object_name
                for field in model._meta.concrete_fields
                if field.is_relation and not field.null
            }
            if model not in ordered and needed <= names:
                ordered.append(model)
                names.add(model._meta.object_name)
    return ordered


def test_no_row_of_any_time_loses_anything_on_the_way_to_the_newest_tables(written):
    assert len({name for name, _ in written}) == len(
        list(newest_apps.get_app_config("multipay").get_models())
    )
    lost = []
    for (name, key), values in written.items():
        model = newest_apps.get_model("multipay", name)
        row = model._base_manager.using(ALIAS).values().get(pk=key)
        lost += [
            (name, key, column)
            for column, value in values.items()
            if row.get(column, ...) != value
        ]
    # What found a saved method outlives its token since 0008, which made it anew.
    assert {(name, column) for name, _, column in lost} <= {("Token", "token_digest")}


def test_the_newest_code_reads_the_rows_of_every_time(written):
    payments = list(Payment.objects.using(ALIAS).order_by("pk"))
    assert len(payments) == len([name for name, _ in written if name == "Payment"])
    for payment in payments:
        assert payment.amount.currency.code == "KRW"
        assert payment.transactions.get().amount == payment.amount
        assert payment.refunds.get().amount == payment.amount
        assert payment.checkout_data["whole"].startswith("비밀")
    for token in Token.objects.using(ALIAS):
        assert token.provider_token["whole"].startswith("비밀")
        assert token.identity


def test_what_the_tables_refuse_they_refuse_after_every_migration(written):
    fact = Transaction.objects.using(ALIAS).latest("pk")
    with pytest.raises(DatabaseError, match="append-only"):
        models.QuerySet(Transaction, using=ALIAS).filter(pk=fact.pk).update(reason="x")
    again = copy.copy(fact)
    again.pk, again._state.adding = None, True
    with pytest.raises(IntegrityError):
        again.save(using=ALIAS)
    payments = Payment.objects.using(ALIAS).filter(pk=fact.payment_id)
    for wrong in (
        {"amount_minor": 0},
        {"amount_minor": MAX_MINOR + 1},
        {"refunded_minor": -1},
        {"status": "stolen"},
    ):
        with pytest.raises(IntegrityError):
            payments.update(**wrong)
