"""Statements of the hot paths: written by Django once, run with other values each time.

Django compiles a statement anew whenever it is run. For a payment, with its fifty
columns, that takes longer than the database does. Here its text is kept, and values pass
through the columns' own conversions both ways. What is read is the same, what is written
too, but for what a locked row said before, and saved rows send the same signals.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    connections,
    models,
    transaction,
)
from django.db.models import F, Func
from django.db.models.expressions import BaseExpression, Expression
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


class RowVersion(Expression):
    """Which version of a row is read: another one after each write, whoever writes.

    Of the row that has ``column``, which must not be one that another row repeats: the
    key of what it names. On PostgreSQL alone. A lock makes no new version.
    """

    output_field = models.CharField()

    def __init__(self, column: str) -> None:
        super().__init__()
        self._column: Any = F(column)

    def get_source_expressions(self) -> list[Any]:
        """Return the column alone."""
        return [self._column]

    def set_source_expressions(self, exprs: Sequence[Any]) -> None:
        """Take the column as it was found."""
        (self._column,) = exprs

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return PostgreSQL's own number of the version, as a text."""
        return f"{connection.ops.quote_name(self._column.alias)}.xmin::text", ()


class Unflushed(Func):
    """True; and PostgreSQL does not wait for its disk before it says that it is done.

    For what is done again if it is lost: a crash of the server takes back what it did in
    less than a second. Only in a statement that is a transaction by itself.
    https://www.postgresql.org/docs/current/wal-async-commit.html
    """

    template = "set_config('synchronous_commit', 'off', true) = 'off'"
    output_field = models.BooleanField()


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
    """A query for rows; ``rows`` builds it, with `Given` for what changes.

    What a row says is remembered where it is locked, or where its `RowVersion` is read:
    then `update` writes only what changed.
    """

    def __init__(self, rows: models.QuerySet[M]) -> None:
        self._rows = rows
        self._written: dict[str, _Written] = {}
        query = rows.query
        self._remembers = query.select_for_update or any(
            isinstance(annotation, RowVersion)
            for annotation in query.annotations.values()
        )

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
        if self._remembers:
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
        self.model = rows.model
        self._rows = rows
        self._columns = columns
        self._written: dict[str, _Written] = {}

    def __call__(self, **values: Any) -> int:
        """Return how many rows were found."""
        connection = connections[DEFAULT_DB_ALIAS]
        sql, params = self.filled(values, connection)
        with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
            cursor.execute(sql, params)
            return int(cursor.rowcount)

    def later(self, **values: Any) -> None:
        """Do it at the end of `gathered`, whatever is found; at once outside of it."""
        gathering = _gathering.get()
        if gathering is None:
            self(**values)
        else:
            gathering.updates.append((self, values))

    def filled(self, values: dict[str, Any], connection: Any) -> tuple[str, list[Any]]:
        """Return the statement, and its parameters with ``values``."""
        written = self._written.get(connection.vendor)
        if written is None:
            query: Any = self._rows.query.chain(UpdateQuery)
            query.add_update_values(self._columns)
            compiler = query.get_compiler(connection=connection)
            written = self._written[connection.vendor] = _Written(*compiler.as_sql())
        return written.sql, written.filled(values, connection)


class Held:
    """What must be found, and is locked, for something else to be `gathered`.

    ``rows`` builds the query, with `Given` for what changes. ``asked`` are expressions
    that whoever writes hears of.
    """

    def __init__(self, rows: models.QuerySet[Any], **asked: BaseExpression) -> None:
        self._rows = rows.annotate(**asked).values("pk", *asked)
        self._written: _Written | None = None
        self.asked = list(asked)

    def filled(self, values: dict[str, Any], connection: Any) -> tuple[str, list[Any]]:
        """Return the part of a statement that holds it, and its parameters."""
        if self._written is None:
            compiler = self._rows.query.clone().get_compiler(connection=connection)
            sql, params = compiler.as_sql()
            # By hand: Django would refuse it here, where one statement is all.
            lock = connection.ops.for_update_sql()
            self._written = _Written(f"MATERIALIZED ({sql} {lock})", params)
        return self._written.sql, self._written.filled(values, connection)


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
        _tell_before([row], connection)
        table = _table(type(row), connection.vendor)
        source = written.sql, written.filled(values, connection)
        if not table.insert_from(row, *source, connection):
            return False
        _tell_after([row], connection)
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
        self.relations = [field for field in fields if field.is_relation]
        self.update = f"UPDATE {self.name}"
        self.insert = f"INSERT INTO {self.name}"

    def values(
        self,
        row: models.Model,
        names: Collection[str],
        connection: Any,
        *,
        is_new: bool,
        keys: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[dict[str, str], list[Any]]:
        """Return the texts and the parameters of what ``row`` says in ``names``.

        Without what it said already when it was locked. ``keys`` are texts for those
        of its fields that name a row which has no key yet.
        """
        self._settle(row, keys)
        was = getattr(row._state, _WAS, {})
        texts: dict[str, str] = {}
        params: list[Any] = []
        for name in names:
            field = self.fields[name]
            if name in keys:
                texts[name] = keys[name]
                continue
            value = field.pre_save(row, is_new)
            if hasattr(value, "resolve_expression"):
                texts[name], more = _expression(self.model, value, connection.vendor)
                params += more
                was.pop(field.attname, None)
            elif is_new or not _is_same(value, was.get(field.attname, _UNREAD)):
                prepared = field.get_db_prep_save(value, connection)
                texts[name] = _literal(prepared)
                if texts[name] == "%s":
                    params.append(prepared)
                was[field.attname] = value
        return texts, params

    def _settle(self, row: models.Model, keys: Collection[str]) -> None:
        """Let ``row`` say the keys of the rows that it names, but for those in ``keys``.

        What it names may have had no key then, or may have none now: an error.
        """
        for field in self.relations:
            named = row._state.fields_cache.get(field.name)
            if named is None or field.name in keys:
                continue
            if named.pk is None or named.pk != getattr(row, field.attname):
                row._prepare_related_fields_for_save(  # type: ignore[attr-defined]
                    "save", {field}
                )

    def unkeyed(self, row: models.Model, parts: Mapping[int, str]) -> dict[str, str]:
        """Return a text for each key that ``row`` names and that is not known yet.

        ``parts`` are the parts of the statement that insert those rows, by their `id`.
        """
        named = (
            (field.name, row._state.fields_cache.get(field.name))
            for field in self.relations
        )
        return {
            name: f"(SELECT key FROM {parts[id(other)]})"  # noqa: S608  (names of ours)
            for name, other in named
            if id(other) in parts
        }

    def assigning(self, texts: Mapping[str, str]) -> str:
        """Return the UPDATE that writes ``texts``, by columns, to the row of a key."""
        pairs = (f"{self.columns[name]} = {text}" for name, text in texts.items())
        return f"{self.update} SET {', '.join(pairs)} WHERE {self.key} = %s"

    def inserting(self, texts: Mapping[str, str]) -> str:
        """Return an INSERT that selects ``texts``, by columns, but for its source.

        Without those that say NULL, as a column does that is not named.
        """
        said = {name: text for name, text in texts.items() if text != _NULL}
        columns = ", ".join(self.columns[name] for name in said)
        return f"{self.insert} ({columns}) SELECT {', '.join(said.values())}"

    def insert_all(self, rows: Rows, connection: Any) -> None:
        """Insert ``rows`` and take over the keys that the database gives them."""
        said, params = [], []
        for row in rows:
            texts, more = self.values(row, self.columns, connection, is_new=True)
            said.append(texts)
            params += more
        if len(said) == 1:
            sql = self.inserting(said[0])
        else:
            columns = ", ".join(self.columns.values())
            groups = (f"({', '.join(texts.values())})" for texts in said)
            sql = f"{self.insert} ({columns}) VALUES {', '.join(groups)}"
        keys = self._keys(sql, params, connection)
        for row, key in zip(rows, keys, strict=True):
            row.pk = key

    def insert_from(
        self, row: models.Model, source: str, given: Sequence[Any], connection: Any
    ) -> bool:
        """Insert ``row`` and take over its key; False if ``source`` has no row."""
        texts, params = self.values(row, self.columns, connection, is_new=True)
        sql = f"{self.inserting(texts)} {source}"
        keys = self._keys(sql, [*params, *given], connection)
        for key in keys:
            row.pk = key
        return bool(keys)

    def _keys(self, sql: str, params: Sequence[Any], connection: Any) -> list[Any]:
        """Insert what ``sql`` says and return the keys."""
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


_NULL = "NULL"


def _literal(value: Any) -> str:
    """Return what stands for ``value``: itself where it says nothing, or a placeholder.

    Half of the columns of a new row say nothing, and each placeholder costs its time.
    """
    if value is None:
        return _NULL
    return "''" if isinstance(value, str) and not value else "%s"


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


@dataclass(slots=True)
class Gathering:
    """What is to be written, and what came of it."""

    rows: dict[Kind, list[models.Model]] = dataclasses.field(default_factory=dict)
    updates: list[tuple[Update, dict[str, Any]]] = dataclasses.field(
        default_factory=list
    )
    is_written: bool = False
    found: list[int] = dataclasses.field(default_factory=list)
    """How many rows each of the updates has found."""
    version: str = ""
    """The `RowVersion` of all that was written, if something was ``held``."""
    said: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What was asked of what was ``held``."""


_gathering: ContextVar[Gathering | None] = ContextVar("gathering", default=None)


@contextmanager
def gathered(held: Held | Update | None = None, **values: Any) -> Iterator[Gathering]:
    """Write at the end what is inserted and updated inside, many rows in a statement.

    On PostgreSQL, a few rows of all kinds in one. Nothing inside may look for what it
    has written.

    With ``held``, only if that finds something with ``values``, which is locked or
    updated by it: then all is one statement, which is a transaction, and rows that are
    updated must be among those that are held. Whether it was written says
    ``is_written``; it never is where `can_hold` says no, or where one statement is not
    enough.
    """
    gathering = Gathering()
    token = _gathering.set(gathering)
    try:
        yield gathering
    finally:
        _gathering.reset(token)
    connection = connections[DEFAULT_DB_ALIAS]
    if _fits_in_one(gathering, held, connection):
        one = _InOne(connection)
        if held is not None:
            one.hold(held, values)
        one.write(gathering)
    elif held is None:
        gathering.found = [update(**said) for update, said in gathering.updates]
        for (write, _model, names), rows in gathering.rows.items():
            write(rows, names)
        gathering.is_written = True


def can_hold(*tables: type[models.Model]) -> bool:
    """Say whether what is written to ``tables`` may depend on what is held meanwhile.

    Not inside of a transaction, and not where somebody hears the signals of their rows:
    what they write along with it would not be in it.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    return (
        connection.vendor == "postgresql"
        and connection.get_autocommit()
        and not any(
            signal.has_listeners(table)
            for table in tables
            for signal in (pre_save, post_save)
        )
    )


_MOST_IN_ONE = 8
"""More rows than this would be a long text, which is read anew each time."""


def _fits_in_one(
    gathering: Gathering, held: Held | Update | None, connection: Any
) -> bool:
    """Say whether one statement can write it: each row once, and not too many.

    Of two parts that write to a row PostgreSQL would leave one out, and not say so.
    """
    kinds = gathering.rows.items()
    rows = [row for _kind, of_a_kind in kinds for row in of_a_kind]
    updates = [update.model for update, _said in gathering.updates]
    if isinstance(held, Update):
        updates.append(held.model)
    updated = {model for (_write, model, names), _rows in kinds if names}
    return (
        connection.vendor == "postgresql"
        and 0 < len(rows) + len(updates) <= _MOST_IN_ONE
        and len({row if row.pk else id(row) for row in rows}) == len(rows)
        and len({*updates, *updated}) == len(updates) + len(updated)
    )


class _InOne:
    """A statement of PostgreSQL's that has a part for each thing to write."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._names: list[str] = []
        self._parts: list[str] = []
        self._params: list[Any] = []
        self._asked = ["''"]
        self._written: list[tuple[models.Model, Collection[str]]] = []
        self._inserting: dict[int, str] = {}
        """The parts that insert rows, by the `id` of the row."""
        self._source = self._condition = ""

    def hold(self, held: Held | Update, values: dict[str, Any]) -> None:
        """Let everything depend on whether ``held`` finds something."""
        sql, params = held.filled(values, self._connection)
        if isinstance(held, Held):
            self._add("held", sql, params)
            self._names = held.asked
        else:
            self._add("held", f"({sql} RETURNING 1)", params)
        self._source = " FROM held"
        self._condition = " AND EXISTS (SELECT 1 FROM held)"
        self._asked = ["pg_current_xact_id()::xid::text"]
        for name in self._names:
            self._ask(self._connection.ops.quote_name(name), "held")

    def write(self, gathering: Gathering) -> None:
        """Write it, and note in ``gathering`` what came of it."""
        for number, (update, said) in enumerate(gathering.updates):
            sql, params = update.filled(said, self._connection)
            part = f"u{number}"
            self._add(part, f"({sql}{self._condition} RETURNING 1)", params)
            self._ask("count(*)", part)
        for (_write, model, names), rows in gathering.rows.items():
            _tell_before(rows, self._connection, names)
            table = _table(model, self._connection.vendor)
            for row in rows:
                self._add_row(table, row, names)
        answers = self._answers()
        if answers is None:
            return
        found, keys = 1 + len(self._names), -len(self._written) or len(answers)
        gathering.version = answers[0]
        gathering.said = dict(zip(self._names, answers[1:found], strict=True))
        gathering.found = list(answers[found:keys])
        self._take_over(answers[keys:])
        for (_write, _model, names), rows in gathering.rows.items():
            _tell_after(rows, self._connection, names)
        gathering.is_written = True

    def _add(self, part: str, sql: str, params: Sequence[Any]) -> None:
        self._parts.append(f"{part} AS {sql}")
        self._params += params

    def _ask(self, what: str, part: str) -> None:
        self._asked.append(f"(SELECT {what} FROM {part})")  # noqa: S608  (names of ours)

    def _add_row(
        self, table: _Table, row: models.Model, names: Collection[str]
    ) -> None:
        """Insert ``row`` or, where there are ``names``, update what changed of them."""
        keys = table.unkeyed(row, self._inserting)
        texts, params = table.values(
            row, names or table.columns, self._connection, is_new=not names, keys=keys
        )
        part = f"w{len(self._written)}"
        if not names:
            sql = f"{table.inserting(texts)}{self._source}"
            self._inserting[id(row)] = part
        elif texts:
            sql = f"{table.assigning(texts)}{self._condition}"
            params.append(row.pk)
        else:
            return
        self._add(part, f"({sql} RETURNING {table.key} AS key)", params)
        self._ask("key", part)
        self._written.append((row, keys))

    def _answers(self) -> Sequence[Any] | None:
        """Run it and return what was asked, or None if nothing was held."""
        sql = f"WITH {', '.join(self._parts)} SELECT {', '.join(self._asked)}"
        if self._source:
            sql += " WHERE EXISTS (SELECT 1 FROM held)"
        with (
            transaction.mark_for_rollback_on_error(),
            self._connection.cursor() as cursor,
        ):
            cursor.execute(sql, self._params)
            answers: Sequence[Any] | None = cursor.fetchone()
            return answers

    def _take_over(self, keys: Sequence[Any]) -> None:
        """Let the rows say what the database made of them."""
        if None in keys:
            raise DatabaseError("there is no such row any more")
        for (row, unkeyed), key in zip(self._written, keys, strict=True):
            row.pk = key
            for name in unkeyed:
                setattr(row, name, getattr(row, name))


def _write(write: Writer, row: models.Model, names: tuple[str, ...]) -> None:
    gathering = _gathering.get()
    if gathering is None:
        write([row], names)
    else:
        gathering.rows.setdefault((write, type(row), names), []).append(row)


def _insert_all(rows: Rows, names: Collection[str]) -> None:
    model, connection = type(rows[0]), connections[DEFAULT_DB_ALIAS]
    _tell_before(rows, connection, names)
    table = _table(model, connection.vendor)
    size = 1
    if connection.features.can_return_rows_from_bulk_insert:
        size = max(connection.ops.bulk_batch_size(list(table.columns), rows), 1)
    for start in range(0, len(rows), size):
        table.insert_all(rows[start : start + size], connection)
    _tell_after(rows, connection, names)


def _tell_before(rows: Rows, connection: Any, names: Collection[str] = ()) -> None:
    """Send what comes before rows are inserted or, where there are ``names``, updated."""
    said = _said(connection, names)
    for row in rows:
        pre_save.send(type(row), instance=row, **said)


def _tell_after(rows: Rows, connection: Any, names: Collection[str] = ()) -> None:
    """Send what comes after rows were inserted or, where there are ``names``, updated."""
    said = _said(connection, names)
    for row in rows:
        if not names:
            row._state.adding, row._state.db = False, connection.alias
        post_save.send(type(row), instance=row, created=not names, **said)


def _said(connection: Any, names: Collection[str]) -> dict[str, Any]:
    return {
        "raw": False,
        "using": connection.alias,
        "update_fields": frozenset(names) if names else None,
    }


def _update_all(rows: Rows, names: Collection[str]) -> None:
    model, connection = type(rows[0]), connections[DEFAULT_DB_ALIAS]
    table = _table(model, connection.vendor)
    _tell_before(rows, connection, names)
    by_text: dict[str, list[list[Any]]] = {}
    for row in rows:
        texts, params = table.values(row, names, connection, is_new=False)
        if texts:
            by_text.setdefault(table.assigning(texts), []).append([*params, row.pk])
    with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
        for sql, params in by_text.items():
            if len(params) == 1:
                cursor.execute(sql, params[0])
            else:
                cursor.executemany(sql, params)
            if cursor.rowcount != len(params):
                raise DatabaseError("there is no such row any more")
    _tell_after(rows, connection, names)
