"""Statements of the hot paths: written by Django once, run with other values each time.

Django compiles a statement anew whenever it is run. For a payment, with its fifty
columns, that takes longer than the database does. Here its text is kept, and values pass
through the columns' own conversions both ways. What is read is the same, what is written
too, but for what a locked row said before, and saved rows send the same signals.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    connections,
    models,
    transaction,
)
from django.db.models.expressions import Expression
from django.db.models.signals import post_save, pre_save
from django.db.models.sql import UpdateQuery

M = TypeVar("M", bound=models.Model)
Rows = Sequence[models.Model]
Writer = Callable[[Rows, Collection[str]], None]
Kind = tuple[Writer, type[models.Model], tuple[str, ...]]
"""Rows of one table that are written the same way, and which of their fields."""


class Given(Expression):
    """The place of a value that is given when a statement is run.

    It is converted for ``field``; without one, the database takes it as it is.
    """

    def __init__(self, name: str, field: models.Field[Any, Any] | None = None) -> None:
        super().__init__(output_field=field)
        self.name = name
        self.converted_for = field

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return a placeholder, with itself in place of the value."""
        return "%s", (self,)

    def value(self, values: dict[str, Any], connection: Any) -> Any:
        """Return what the database is told."""
        value = values[self.name]
        if self.converted_for is None:
            return value
        return self.converted_for.get_db_prep_save(value, connection)


class _Written(NamedTuple):
    """A statement as one kind of database reads it."""

    sql: str
    params: Sequence[Any]
    names: Sequence[str] = ()
    """The columns of a row that is read; then what was annotated."""
    conversions: Sequence[tuple[int, list[Any], Any]] = ()

    def filled(self, values: dict[str, Any], connection: Any) -> list[Any]:
        """Return the parameters with ``values`` where they are `Given`."""
        return [
            param.value(values, connection) if isinstance(param, Given) else param
            for param in self.params
        ]


class Select(Generic[M]):
    """A query for rows; ``rows`` builds it, with `Given` for what changes."""

    def __init__(self, rows: models.QuerySet[M]) -> None:
        self._rows = rows
        self._written: dict[str, _Written] = {}

    def __call__(self, **values: Any) -> list[M]:
        """Return the rows; those that are locked, inside of a transaction only."""
        connection = connections[DEFAULT_DB_ALIAS]
        if self._rows.query.select_for_update and connection.get_autocommit():
            raise transaction.TransactionManagementError(
                "rows are locked in a transaction only"
            )
        written = self._written.get(connection.vendor)
        if written is None:
            written = self._written[connection.vendor] = self._write(connection)
        with connection.cursor() as cursor:
            cursor.execute(written.sql, written.filled(values, connection))
            found = cursor.fetchall()
        return [self._row(written, list(row), connection) for row in found]

    def _write(self, connection: Any) -> _Written:
        # Of a copy: to compile a query changes it, and threads may do so at once.
        compiler = self._rows.query.clone().get_compiler(connection=connection)
        sql, params = compiler.as_sql()
        columns = [column for column, _sql, _alias in compiler.select]
        return _Written(
            sql,
            params,
            [alias or column.target.attname for column, _sql, alias in compiler.select],
            [
                (place, [_unbound(one, connection) for one in converters], column)
                for place, (converters, column) in compiler.get_converters(
                    columns
                ).items()
            ],
        )

    def _row(self, written: _Written, values: list[Any], connection: Any) -> M:
        for place, converters, column in written.conversions:
            for converter in converters:
                convert = (
                    getattr(connection.ops, converter)
                    if isinstance(converter, str)
                    else converter
                )
                values[place] = convert(values[place], column, connection)
        count = len(written.names) - len(self._rows.query.annotations)
        row = self._rows.model.from_db(
            connection.alias, written.names[:count], values[:count]
        )
        if self._rows.query.select_for_update:
            was = dict(zip(written.names[:count], values[:count], strict=True))
            setattr(row._state, _WAS, was)
        for name, value in zip(written.names[count:], values[count:], strict=True):
            setattr(row, name, value)
        return row


_WAS = "was"
"""Where the state of a row that a `Select` has locked keeps what its columns say."""

_UNREAD = object()


def _is_same(value: Any, was: Any) -> bool:
    """Say whether a column need not be written, because it says so already."""
    # A container may have been changed in place, or hold True for what was 1.
    return value == was and not isinstance(value, (dict, list))


def _unbound(converter: Any, connection: Any) -> Any:
    """Return ``converter``, or its name where it would keep this connection alive."""
    is_of_connection = getattr(converter, "__self__", None) is connection.ops
    return converter.__name__ if is_of_connection else converter


class Update:
    """An UPDATE of what ``rows`` finds, with `Given` for what changes."""

    def __init__(self, rows: models.QuerySet[Any], **columns: Any) -> None:
        self._rows = rows
        self._columns = columns
        self._written: dict[str, _Written] = {}

    def __call__(self, **values: Any) -> int:
        """Return how many rows were found."""
        connection = connections[DEFAULT_DB_ALIAS]
        written = self._written.get(connection.vendor)
        if written is None:
            query: Any = self._rows.query.chain(UpdateQuery)
            query.add_update_values(self._columns)
            compiler = query.get_compiler(connection=connection)
            written = self._written[connection.vendor] = _Written(*compiler.as_sql())
        with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
            cursor.execute(written.sql, written.filled(values, connection))
            return int(cursor.rowcount)


class InsertIf:
    """An INSERT of a row that only takes place if ``rows`` finds something.

    What it finds is locked meanwhile. `Given` stands for what changes in the query.
    """

    def __init__(self, rows: models.QuerySet[Any]) -> None:
        self._rows = rows.values_list("pk")
        self._written: dict[str, _Written] = {}

    def __call__(self, row: models.Model, **values: Any) -> bool:
        """Insert ``row`` as its ``save(force_insert=True)`` does; False if it was not.

        It was to be, as far as the signals are concerned that come before.
        """
        connection = connections[DEFAULT_DB_ALIAS]
        written = self._written.get(connection.vendor)
        if written is None:
            written = self._written[connection.vendor] = self._write(connection)
        _tell_before_insert([row], connection)
        table = _table(type(row), connection.vendor)
        source = written.sql, written.filled(values, connection)
        if not table.insert_from(row, *source, connection):
            return False
        _tell_after_insert([row], connection)
        return True

    def _write(self, connection: Any) -> _Written:
        compiler = self._rows.query.clone().get_compiler(connection=connection)
        sql, params = compiler.as_sql()
        _selected, _from, source = sql.partition(" FROM ")
        lock = ""
        if connection.features.has_select_for_update:
            # By hand: Django would refuse it here, where one statement is all.
            lock = f" {connection.ops.for_update_sql()}"
        return _Written(f"FROM {source}{lock}", params)


class _Table:
    """A model's table, with the names that one kind of database quotes."""

    def __init__(self, model: type[models.Model], vendor: str) -> None:
        quoted = connections[DEFAULT_DB_ALIAS].ops.quote_name
        fields: Sequence[Any] = model._meta.concrete_fields
        self.model = model
        self.name = quoted(model._meta.db_table)
        (self.key,) = (quoted(field.column) for field in fields if field.primary_key)
        self.columns = {
            field.name: quoted(field.column)
            for field in fields
            if not field.primary_key
        }
        self.fields = {field.name: field for field in fields}
        self.update = f"UPDATE {self.name}"
        self.insert = f"INSERT INTO {self.name} ({', '.join(self.columns.values())})"

    def values(
        self,
        row: models.Model,
        names: Collection[str],
        connection: Any,
        *,
        is_new: bool,
    ) -> tuple[dict[str, str], list[Any]]:
        """Return the texts and the parameters of what ``row`` says in ``names``.

        Without what it said already when it was locked.
        """
        # What it names may have had no key then, or may have none now: an error.
        row._prepare_related_fields_for_save("save")  # type: ignore[attr-defined]
        was = getattr(row._state, _WAS, {})
        texts: dict[str, str] = {}
        params: list[Any] = []
        for name in names:
            field = self.fields[name]
            value = field.pre_save(row, is_new)
            if hasattr(value, "resolve_expression"):
                texts[name], more = _expression(self.model, value, connection.vendor)
                params += more
                was.pop(field.attname, None)
            elif is_new or not _is_same(value, was.get(field.attname, _UNREAD)):
                texts[name] = "%s"
                params.append(field.get_db_prep_save(value, connection))
                was[field.attname] = value
        return texts, params

    def insert_all(self, rows: Rows, connection: Any) -> None:
        """Insert ``rows`` and take over the keys that the database gives them."""
        groups, params = [], []
        for row in rows:
            texts, more = self.values(row, self.columns, connection, is_new=True)
            groups.append(f"({', '.join(texts.values())})")
            params += more
        keys = self._keys(f"VALUES {', '.join(groups)}", params, connection)
        for row, key in zip(rows, keys, strict=True):
            row.pk = key

    def insert_from(
        self, row: models.Model, source: str, given: Sequence[Any], connection: Any
    ) -> bool:
        """Insert ``row`` and take over its key; False if ``source`` has no row."""
        texts, params = self.values(row, self.columns, connection, is_new=True)
        keys = self._keys(
            f"SELECT {', '.join(texts.values())} {source}",
            [*params, *given],
            connection,
        )
        for key in keys:
            row.pk = key
        return bool(keys)

    def _keys(self, rows: str, params: Sequence[Any], connection: Any) -> list[Any]:
        """Insert what the text ``rows`` says and return the keys."""
        sql = f"{self.insert} {rows}"
        with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
            if connection.features.can_return_columns_from_insert:
                cursor.execute(f"{sql} RETURNING {self.key}", params)
                return [key for (key,) in cursor.fetchall()]
            cursor.execute(sql, params)
            if not cursor.rowcount:
                return []
            meta = self.model._meta
            return [
                connection.ops.last_insert_id(
                    cursor, meta.db_table, str(meta.pk.column)
                )
            ]


@functools.cache
def _table(model: type[models.Model], vendor: str) -> _Table:
    return _Table(model, vendor)


@functools.lru_cache(maxsize=100)
def _expression(
    model: type[models.Model], value: Any, vendor: str
) -> tuple[str, Sequence[Any]]:
    query = UpdateQuery(model)
    compiler = query.get_compiler(using=DEFAULT_DB_ALIAS)
    resolved = value.resolve_expression(query, allow_joins=False, for_save=True)
    sql, params = compiler.compile(resolved)
    return sql, params


def refresh(row: M, fresh: M) -> None:
    """Let ``row`` say what ``fresh`` says, and forget what was read along with it.

    But for columns that were not read for ``fresh``.
    """
    row.__dict__.pop("_prefetched_objects_cache", None)
    row.__dict__.update(fresh.__dict__)


def insert(row: models.Model) -> None:
    """Insert ``row`` as its ``save(force_insert=True)`` does.

    Inside of `gathered` it has no key before that ends.
    """
    _write(_insert_all, row, ())


def update(row: models.Model, names: Collection[str]) -> None:
    """Write the fields ``names`` of ``row`` as its ``save(update_fields=…)`` does.

    But for those of a row that a `Select` has locked which say what they said then. So
    whoever locked it writes to these columns by `update` alone.
    """
    _write(_update_all, row, tuple(names))


_gathering: ContextVar[dict[Kind, list[models.Model]] | None] = ContextVar(
    "gathering", default=None
)


@contextmanager
def gathered() -> Iterator[None]:
    """Write at the end what is inserted and updated inside, many rows in a statement.

    The kinds of rows in the order in which they first come. Nothing inside may look
    for what it has written.
    """
    rows: dict[Kind, list[models.Model]] = {}
    token = _gathering.set(rows)
    try:
        yield
    finally:
        _gathering.reset(token)
    for (write, _model, names), of_a_kind in rows.items():
        write(of_a_kind, names)


def _write(write: Writer, row: models.Model, names: tuple[str, ...]) -> None:
    rows = _gathering.get()
    if rows is None:
        write([row], names)
    else:
        rows.setdefault((write, type(row), names), []).append(row)


def _insert_all(rows: Rows, _names: Collection[str]) -> None:
    model, connection = type(rows[0]), connections[DEFAULT_DB_ALIAS]
    _tell_before_insert(rows, connection)
    table = _table(model, connection.vendor)
    size = 1
    if connection.features.can_return_rows_from_bulk_insert:
        size = max(connection.ops.bulk_batch_size(list(table.columns), rows), 1)
    for start in range(0, len(rows), size):
        table.insert_all(rows[start : start + size], connection)
    _tell_after_insert(rows, connection)


def _tell_before_insert(rows: Rows, connection: Any) -> None:
    said = {"raw": False, "using": connection.alias, "update_fields": None}
    for row in rows:
        pre_save.send(type(row), instance=row, **said)


def _tell_after_insert(rows: Rows, connection: Any) -> None:
    said = {"raw": False, "using": connection.alias, "update_fields": None}
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias
        post_save.send(type(row), instance=row, created=True, **said)


def _update_all(rows: Rows, names: Collection[str]) -> None:
    model, connection = type(rows[0]), connections[DEFAULT_DB_ALIAS]
    table = _table(model, connection.vendor)
    said = {
        "raw": False,
        "using": connection.alias,
        "update_fields": frozenset(names),
    }
    for row in rows:
        pre_save.send(model, instance=row, **said)
    by_text: dict[str, list[list[Any]]] = {}
    for row in rows:
        texts, params = table.values(row, names, connection, is_new=False)
        if not texts:
            continue
        pairs = (f"{table.columns[name]} = {text}" for name, text in texts.items())
        by_text.setdefault(", ".join(pairs), []).append([*params, row.pk])
    with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
        for assignments, params in by_text.items():
            sql = f"{table.update} SET {assignments} WHERE {table.key} = %s"
            if len(params) == 1:
                cursor.execute(sql, params[0])
            else:
                cursor.executemany(sql, params)
            if cursor.rowcount != len(params):
                raise DatabaseError("there is no such row any more")
    for row in rows:
        post_save.send(model, instance=row, created=False, **said)
