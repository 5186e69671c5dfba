"""A statement that is written once says what Django would have said."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    connection,
    connections,
    models,
    transaction,
)
from django.db.models import Exists, F, OuterRef, Value
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_multipay.ledger.claims import DatabaseNow
from django_multipay.ledger.statements import (
    Given,
    Held,
    InsertIf,
    RowVersion,
    Select,
    Update,
    can_hold,
    gathered,
    insert,
    refresh,
    update,
)
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Refund,
    Transaction,
    WebhookDelivery,
)

pytestmark = pytest.mark.django_db

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def payment(**fields: Any) -> Payment:
    """Not stored yet, with something in each kind of column."""
    return Payment(
        **{
            "provider": "cards",
            "order_id": "Ü-1001 %s",
            "amount_minor": 2630,
            "currency": "USD",
            "items": [{"name": "100 % wool", "quantity": 2}],
            "metadata": {"größe": None, "deep": {"a": [1, "2"]}},
            "checkout_data": {"street": "Rue d'Été", "amount": "1.50"},
            "next_action": None,
            "expires_at": MOMENT,
            "save_token": True,
        }
        | fields
    )


def stored() -> Payment:
    one = payment()
    one.save(force_insert=True)
    return one


ROWS: dict[str, Callable[[], models.Model]] = {
    "a payment": payment,
    "a fact": lambda: Transaction(
        payment=stored(), kind="capture", amount_minor=5, currency="USD", source="sync"
    ),
    "a refund": lambda: Refund(
        payment=stored(), amount_minor=5, account={"iban": "DE89370400440532013000"}
    ),
    "an operation": lambda: Operation(payment=stored(), kind="refund", state="unknown"),
    "a message": lambda: WebhookDelivery(
        provider="cards", digest="d" * 64, source="webhook", headers={"a": "b"}
    ),
    "a notice": lambda: Notice(signals=["payment_paid"], payment=stored()),
}


def columns(row: models.Model) -> dict[str, Any]:
    """What the database says, but for what must differ between two rows."""
    fresh = type(row)._base_manager.get(pk=row.pk)
    unlike = {"id", "uuid", "merchant_reference", "payment_id", "key"}
    moments = {"created_at", "updated_at", "received_at", "retry_at", "due_at"}
    return {
        field.attname: getattr(fresh, field.attname)
        for field in type(row)._meta.concrete_fields
        if field.attname not in unlike | moments
    }


@pytest.mark.parametrize("name", ROWS)
def test_an_insert_writes_what_save_writes(name: str) -> None:
    ours, theirs = ROWS[name](), ROWS[name]()
    insert(ours)
    if isinstance(theirs, WebhookDelivery):
        theirs.provider = "other"
    theirs.save(force_insert=True)
    assert ours.pk != theirs.pk
    said = columns(theirs)
    if "provider" in said and isinstance(theirs, WebhookDelivery):
        said["provider"] = "cards"
    assert columns(ours) == said
    assert not ours._state.adding
    assert ours._state.db == theirs._state.db == "default"


def test_an_inserted_row_knows_the_moments_that_were_written() -> None:
    one = payment()
    before = timezone.now()
    insert(one)
    fresh = Payment.objects.get(pk=one.pk)
    assert before <= one.created_at <= timezone.now()
    assert (fresh.created_at, fresh.updated_at) == (one.created_at, one.updated_at)


def test_an_expression_is_worked_out_by_the_database() -> None:
    one = Notice(signals=[], due_at=DatabaseNow() + timedelta(hours=1))
    insert(one)
    due_in = Notice.objects.get(pk=one.pk).due_at - timezone.now()
    assert timedelta(minutes=59) < due_in < timedelta(minutes=61)
    one.attempts = F("attempts") + 3
    update(one, ["attempts"])
    assert Notice.objects.get(pk=one.pk).attempts == 3


def test_an_update_writes_the_named_fields_alone() -> None:
    one = stored()
    Payment.objects.filter(pk=one.pk).update(description="of somebody else")
    one.description, one.status = "of ours", "pending"
    one.next_action = {"url": "https://pay.example/100%25"}
    one.checkout_data = None
    update(one, ["status", "next_action", "checkout_data", "updated_at"])
    fresh = Payment.objects.get(pk=one.pk)
    assert fresh.description == "of somebody else"
    assert fresh.status == "pending"
    assert fresh.next_action == {"url": "https://pay.example/100%25"}
    assert fresh.checkout_data is None
    assert fresh.updated_at == one.updated_at > fresh.created_at


def test_an_update_of_a_row_that_is_gone_is_an_error() -> None:
    one = stored()
    Payment.objects.filter(pk=one.pk).delete()
    with pytest.raises(DatabaseError, match="no such row"):
        update(one, ["status"])


# What was locked ------------------------------------------------------------------------


LOCKED = Select(Payment.objects.select_for_update().filter(pk=Given("pk")).order_by())


def locked(**fields: Any) -> Payment:
    """Return a stored payment as whoever holds its lock reads it."""
    one = payment(**fields)
    one.save(force_insert=True)
    (row,) = LOCKED(pk=one.pk)
    return row


def written(row: Payment, *names: str) -> set[str]:
    """Update ``names`` and return those of them that the statement wrote."""
    with CaptureQueriesContext(connection) as queries:
        update(row, names)
    said = "".join(one["sql"] for one in queries if "UPDATE" in one["sql"])
    columns = {field.name: field.column for field in Payment._meta.concrete_fields}
    quoted = connection.ops.quote_name
    return {name for name in names if f"{quoted(str(columns[name]))} =" in said}


def test_of_a_locked_row_only_what_it_did_not_say_before_is_written() -> None:
    one = locked(status="pending", metadata={"a": 1})
    one.captured_minor = 2630
    names = ("status", "captured_minor", "metadata", "method", "token", "updated_at")
    assert written(one, *names) == {"captured_minor", "metadata", "updated_at"}
    assert Payment.objects.get(pk=one.pk).captured_minor == 2630


def test_a_column_of_a_locked_row_may_change_and_change_back() -> None:
    one = locked(status="pending")
    for status in ("paid", "pending"):
        one.status = status
        assert written(one, "status") == {"status"}
        assert Payment.objects.get(pk=one.pk).status == status
    assert written(one, "status") == set()


def test_what_the_database_worked_out_is_no_longer_known() -> None:
    one = locked(sync_attempts=3)
    one.sync_attempts = F("sync_attempts") + 1
    update(one, ["sync_attempts"])
    one.sync_attempts = 3
    assert written(one, "sync_attempts") == {"sync_attempts"}
    assert Payment.objects.get(pk=one.pk).sync_attempts == 3


@pytest.mark.parametrize("change", ["in place", "for an equal one"])
def test_a_container_is_always_written(change: str) -> None:
    one = locked(metadata={"is_gift": 1})
    if change == "in place":
        one.metadata["is_gift"] = True
    else:
        one.metadata = {"is_gift": True}
    update(one, ["metadata"])
    assert Payment.objects.get(pk=one.pk).metadata["is_gift"] is True


def test_a_deferred_column_of_a_locked_row_is_written() -> None:
    deferring = Payment.objects.defer("checkout_data").select_for_update()
    (one,) = Select(deferring.filter(pk=Given("pk")))(pk=stored().pk)
    one.checkout_data = None
    update(one, ["checkout_data"])
    assert Payment.objects.get(pk=one.pk).checkout_data is None


# An insert with a condition -------------------------------------------------------------

IF_UNTOUCHED = InsertIf(
    Payment.objects.filter(
        pk=Given("pk"),
        status="created",
        updated_at=Given("updated_at", Payment._meta.get_field("updated_at")),
    ).order_by()
)


def call_about(one: Payment) -> Operation:
    return Operation(
        payment=one,
        kind="checkout",
        amount_minor=one.amount_minor,
        lease_until=DatabaseNow() + timedelta(minutes=1),
        open_slot="100 %s",
    )


def test_a_conditional_insert_writes_what_save_writes() -> None:
    one = stored()
    with heard(Operation) as ours:
        row = call_about(one)
        assert IF_UNTOUCHED(row, pk=one.pk, updated_at=one.updated_at)
    with heard(Operation) as theirs:
        other = call_about(stored())
        other.open_slot = None
        other.save(force_insert=True)
    assert ours == theirs
    assert columns(row) == columns(other) | {"open_slot": "100 %s"} | {
        "lease_until": columns(row)["lease_until"]
    }
    assert (row._state.adding, row._state.db) == (False, "default")
    lease = Operation.objects.get(pk=row.pk).lease_until
    assert lease is not None
    assert timedelta(seconds=59) < lease - timezone.now() < timedelta(seconds=61)


def test_a_conditional_insert_leaves_it_alone_where_nothing_is_found() -> None:
    one = stored()
    row = call_about(one)
    moment = one.updated_at
    one.save(update_fields=["updated_at"])
    with heard(Operation) as said:
        assert not IF_UNTOUCHED(row, pk=one.pk, updated_at=moment)
    assert [when for when, *_ in said] == ["before"]
    assert row._state.adding
    assert not Operation.objects.exists()
    assert IF_UNTOUCHED(row, pk=one.pk, updated_at=one.updated_at)
    assert Operation.objects.get() == row


def test_a_conditional_insert_breaks_no_rule() -> None:
    one = stored()
    assert IF_UNTOUCHED(call_about(one), pk=one.pk, updated_at=one.updated_at)
    with pytest.raises(IntegrityError), transaction.atomic():
        IF_UNTOUCHED(call_about(one), pk=one.pk, updated_at=one.updated_at)
    assert Operation.objects.count() == 1


# What is told ---------------------------------------------------------------------------


@contextmanager
def heard(model: type[models.Model]) -> Iterator[list[tuple[str, Any, Any]]]:
    calls: list[tuple[str, Any, Any]] = []

    def before(instance: models.Model, update_fields: Any, **said: Any) -> None:
        calls.append(("before", instance.pk is None, update_fields))

    def after(created: bool, update_fields: Any, **said: Any) -> None:
        calls.append(("after", created, update_fields))

    pre_save.connect(before, sender=model)
    post_save.connect(after, sender=model)
    try:
        yield calls
    finally:
        pre_save.disconnect(before, sender=model)
        post_save.disconnect(after, sender=model)


def test_django_s_signals_are_sent_as_for_save() -> None:
    with heard(Payment) as ours:
        one = payment()
        insert(one)
        update(one, ["status"])
    with heard(Payment) as theirs:
        other = payment()
        other.save(force_insert=True)
        other.save(update_fields=["status"])
    assert len(ours) == 4
    assert ours == theirs


def test_a_row_that_is_not_taken_rolls_its_transaction_back() -> None:
    one = stored()
    with transaction.atomic():
        with pytest.raises(IntegrityError):
            insert(payment(merchant_reference=one.merchant_reference))
        # Whatever was caught: nothing more may be done in it.
        with pytest.raises(transaction.TransactionManagementError):
            Payment.objects.count()


BY_ORDER = Select(
    Payment.objects.filter(order_id=Given("order")).annotate(
        answer=RawSQL("%s", [Given("answer")], models.IntegerField()),
        is_dear=models.Case(
            models.When(amount_minor__gt=1000, then=Value(True)),
            default=Value(False),
            output_field=models.BooleanField(),
        ),
    )
)


def test_rows_are_read_as_django_reads_them() -> None:
    first, second = stored(), stored()
    found = BY_ORDER(order="Ü-1001 %s", answer=42)
    assert found == [second, first]  # In the model's own order.
    assert [(row.answer, row.is_dear) for row in found] == [(42, True)] * 2  # type: ignore[attr-defined]
    assert [columns(row) for row in found] == [columns(second), columns(first)]
    for row, django in zip(found, Payment.objects.all(), strict=True):
        assert {k: v for k, v in vars(django).items() if k != "_state"}.items() <= (
            vars(row).items()
        )
        assert (row._state.adding, row._state.db) == (False, "default")
        assert row.uuid == django.uuid
    assert BY_ORDER(order="another", answer=1) == []


def test_a_statement_is_written_once() -> None:
    stored()
    BY_ORDER(order="x", answer=1)
    compiled: list[object] = []

    class Watched(type(Payment.objects.all().query)):  # type: ignore[misc]
        def get_compiler(self, *args: Any, **kwargs: Any) -> Any:
            compiled.append(self)
            return super().get_compiler(*args, **kwargs)

    rows = Payment.objects.filter(order_id=Given("order"))
    rows.query.__class__ = Watched
    once = Select(rows)
    with CaptureQueriesContext(connection) as queries:
        assert len(once(order="Ü-1001 %s")) == 1
        assert once(order="y") == []
    assert len(queries) == 2
    assert len(compiled) == 1


def test_deferred_columns_stay_deferred() -> None:
    one = stored()
    (row,) = Select(Payment.objects.defer("checkout_data").filter(pk=Given("pk")))(
        pk=one.pk
    )
    assert row.get_deferred_fields() == {"checkout_data"}
    assert row.checkout_data == one.checkout_data


SET_DEADLINE = Update(
    Payment.objects.filter(pk=Given("pk"), status=Given("status")),
    expires_at=Given("expires_at", Payment._meta.get_field("expires_at")),
    metadata=Given("metadata", Payment._meta.get_field("metadata")),
    sync_attempts=F("sync_attempts") + 1,
    description=Value("so it was"),
)


@pytest.mark.parametrize("moment", [MOMENT, None])
def test_values_are_converted_for_their_columns(moment: datetime | None) -> None:
    one = stored()
    said = {"metadata": {"a": "%s"}, "expires_at": moment}
    assert SET_DEADLINE(pk=one.pk, status="paid", **said) == 0
    assert SET_DEADLINE(pk=one.pk, status="created", **said) == 1
    one.refresh_from_db()
    assert (one.expires_at, one.metadata) == (moment, {"a": "%s"})
    assert (one.sync_attempts, one.description) == (1, "so it was")


def test_a_refreshed_row_forgets_what_was_read_with_it() -> None:
    one = stored()
    models.prefetch_related_objects([one], "transactions")
    Transaction.objects.create(payment=one, kind="failure", currency="USD")
    refresh(one, Payment.objects.get(pk=one.pk))
    assert one.transactions.count() == len(one.transactions.all()) == 1


@pytest.mark.django_db(transaction=True)
def test_rows_are_locked_in_a_transaction_only() -> None:
    locking = Select(Payment.objects.select_for_update().filter(pk=Given("pk")))
    one = stored()
    with transaction.atomic():
        assert locking(pk=one.pk) == [one]
    with pytest.raises(transaction.TransactionManagementError):
        locking(pk=one.pk)


@pytest.mark.django_db(transaction=True)
def test_threads_share_a_statement() -> None:
    one = stored()
    shared = Select(Payment.objects.filter(pk=Given("pk")))
    found: list[list[Payment]] = []

    def read() -> None:
        found.append(shared(pk=one.pk))
        connection.close()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [[one]] * 4


# Many at once ---------------------------------------------------------------------------


@pytest.fixture(params=["with its keys", "one by one"])
def way_to_insert(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Older databases return no keys for many rows."""
    if request.param == "one by one":
        features = type(connection.features)
        monkeypatch.setattr(features, "can_return_rows_from_bulk_insert", False)
    return str(request.param)


@pytest.mark.usefixtures("way_to_insert")
def test_what_is_gathered_is_written_at_the_end_as_one_by_one() -> None:
    ours, theirs = [stored() for _ in range(3)], [stored() for _ in range(3)]

    def write(rows: list[Payment]) -> None:
        for number, one in enumerate(rows):
            fact = Transaction(
                payment=one,
                kind="capture",
                amount_minor=number,
                currency="USD",
                source="sync",
            )
            insert(fact)
            one.captured_minor, one.next_action = number, {"place": number}
            update(one, ["captured_minor", "next_action", "updated_at"])
            insert(
                Notice(
                    transaction=fact,
                    payment=one,
                    signals=["payment_paid"],
                    due_at=DatabaseNow(),
                )
            )

    with gathered():
        write(ours)
        assert not Transaction.objects.exists()
    write(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert columns(one) == columns(other)
        assert columns(one.transactions.get()) == columns(other.transactions.get())
        notice = Notice.objects.get(payment=one)
        assert notice.transaction == one.transactions.get()
    kept = Notice.objects.order_by("pk")[:3]
    assert [notice.payment for notice in kept] == ours


def test_rows_that_are_gathered_get_their_keys_and_send_their_signals() -> None:
    said: list[tuple[str, object]] = []

    def before(instance: models.Model, **_more: Any) -> None:
        said.append(("before", instance.pk))

    def after(instance: models.Model, created: bool, **_more: Any) -> None:
        said.append(("created" if created else "updated", instance.pk))

    rows = [payment() for _ in range(3)]
    pre_save.connect(before, sender=Payment)
    post_save.connect(after, sender=Payment)
    try:
        with gathered():
            for row in rows:
                insert(row)
                assert row.pk is None
        with gathered():
            update(rows[0], ["status"])
    finally:
        pre_save.disconnect(before, sender=Payment)
        post_save.disconnect(after, sender=Payment)
    keys = [row.pk for row in rows]
    assert keys == sorted(Payment.objects.values_list("pk", flat=True))
    assert said == [
        *[("before", None)] * 3,
        *[("created", key) for key in keys],
        ("before", keys[0]),
        ("updated", keys[0]),
    ]


@pytest.mark.parametrize("count", [2, 8, 20])
def test_so_many_rows_are_one_statement(count: int) -> None:
    if not connection.features.can_return_rows_from_bulk_insert:
        assert connection.vendor != "postgresql"
        return
    with CaptureQueriesContext(connection) as queries, gathered():
        for _ in range(count):
            insert(payment())
    assert len([one for one in queries if "INSERT" in one["sql"]]) == 1
    assert Payment.objects.count() == count


SET_DESCRIPTION = Update(Payment.objects.filter(pk=Given("pk")), description="later")


def news_of(one: Payment) -> tuple[Transaction, Notice]:
    """Write what belongs together about ``one``, each row naming the one before."""
    fact = Transaction(
        payment=one, kind="capture", amount_minor=7, currency="USD", source="sync"
    )
    insert(fact)
    one.captured_minor, one.metadata = 7, {"a": None, "b": "%s"}
    update(one, ["captured_minor", "metadata", "updated_at"])
    notice = Notice(transaction=fact, payment=one, signals=[], due_at=DatabaseNow())
    insert(notice)
    return fact, notice


def assert_told(one: Payment, fact: Transaction, notice: Notice) -> None:
    """The rows are stored, and their objects say so."""
    fresh = Payment.objects.get(pk=one.pk)
    assert (fresh.captured_minor, fresh.metadata) == (7, {"a": None, "b": "%s"})
    assert fresh.updated_at == one.updated_at
    assert Transaction.objects.get(payment=one) == fact
    assert Notice.objects.get(payment=one) == notice
    assert notice.transaction_id == fact.pk == Notice.objects.get().transaction_id
    assert not fact._state.adding
    assert (notice._state.adding, notice._state.db) == (False, "default")


SET_ERROR = Update(Operation.objects.filter(pk=Given("pk")), error="later")


def test_few_rows_of_all_kinds_are_one_statement_on_postgresql() -> None:
    one = stored()
    call = Operation.objects.create(payment=one, kind="refund")
    with CaptureQueriesContext(connection) as queries, gathered() as gathering:
        SET_ERROR.later(pk=call.pk)
        fact, notice = news_of(one)
        assert not queries
    assert len(queries) == (1 if connection.vendor == "postgresql" else 4)
    assert (gathering.is_written, gathering.found) == (True, [1])
    assert_told(one, fact, notice)
    call.refresh_from_db()
    assert call.error == "later"


def test_what_is_said_later_outside_is_done_at_once() -> None:
    one = stored()
    SET_DESCRIPTION.later(pk=one.pk)
    one.refresh_from_db()
    assert one.description == "later"


def test_a_row_that_is_written_twice_says_both() -> None:
    one = payment()
    with gathered():
        insert(one)
        one.captured_minor = 5
        update(one, ["captured_minor"])
        one.description = "both"
        update(one, ["description"])
    fresh = Payment.objects.get()
    assert (fresh.captured_minor, fresh.description) == (5, "both")


# What depends on what is held -----------------------------------------------------------

VERSIONS = Select(Payment.objects.order_by().annotate(version=RowVersion("pk")))

UNCHANGED = Held(
    Payment.objects.order_by()
    .annotate(version=RowVersion("pk"))
    .filter(pk=Given("pk"), version=Given("version")),
    is_alone=~Exists(Refund.objects.filter(payment=OuterRef("pk"))),
)


def version_of(one: Payment) -> dict[str, Any]:
    (row,) = (row for row in VERSIONS() if row == one)
    return {"pk": row.pk, "version": vars(row)["version"]}


def nothing_can_be_held() -> bool:
    """Say so of other databases than PostgreSQL, where nothing is written then."""
    if can_hold(Payment):
        return False
    assert connection.vendor != "postgresql"
    with gathered(UNCHANGED, pk=1, version="1") as gathering:
        insert(payment())
    assert not gathering.is_written
    assert not Payment.objects.exists()
    return True


@pytest.mark.django_db(transaction=True)
def test_who_can_hold_something() -> None:
    is_able = connection.vendor == "postgresql"
    assert can_hold(Payment, Notice) == can_hold() == is_able
    with transaction.atomic():
        assert not can_hold()
    with heard(Notice):
        assert not can_hold(Payment, Notice)
        assert can_hold(Payment) == is_able


@pytest.mark.django_db(transaction=True)
def test_all_is_written_if_what_is_held_is_found() -> None:
    if nothing_can_be_held():
        return
    one = stored()
    before = version_of(one)
    with CaptureQueriesContext(connection) as queries:  # noqa: SIM117  (the end counts)
        with gathered(UNCHANGED, **before) as gathering:
            SET_ERROR.later(pk=-1)
            fact, notice = news_of(one)
    assert len(queries) == 1
    assert gathering.is_written
    assert (gathering.said, gathering.found) == ({"is_alone": True}, [0])
    assert version_of(one) == {"pk": one.pk, "version": gathering.version} != before
    assert_told(one, fact, notice)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_written_if_what_is_held_has_changed() -> None:
    if nothing_can_be_held():
        return
    one = stored()
    before = version_of(one)
    Payment.objects.filter(pk=one.pk).update(description="by hand")
    with gathered(UNCHANGED, **before) as gathering:
        SET_ERROR.later(pk=-1)
        fact, notice = news_of(one)
    assert not gathering.is_written
    assert all((fact._state.adding, notice._state.adding))
    assert not Transaction.objects.exists()
    assert not Notice.objects.exists()
    fresh = Payment.objects.get()
    assert (fresh.captured_minor, fresh.description) == (0, "by hand")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_changed", [True, False])
def test_who_holds_it_first_is_waited_for(is_changed: bool) -> None:
    if nothing_can_be_held():
        return
    one = stored()
    before = version_of(one)
    is_locked, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            row = Payment.objects.select_for_update().get(pk=one.pk)
            if is_changed:
                row.save(update_fields=["updated_at"])
            is_locked.set()
            assert may_end.wait(20)
        connection.close()

    def let_go() -> None:
        wait_for_a_lock()
        may_end.set()
        connection.close()

    threads = [threading.Thread(target=target) for target in (hold, let_go)]
    threads[0].start()
    assert is_locked.wait(20)
    threads[1].start()
    with gathered(UNCHANGED, **before) as gathering:
        news_of(one)
    for thread in threads:
        thread.join(20)
    assert gathering.is_written is not is_changed
    assert Transaction.objects.count() == Notice.objects.count() == (not is_changed)


def wait_for_a_lock() -> None:
    """Until somebody waits for one."""
    for _ in range(2000):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits for a lock")


@pytest.mark.django_db(transaction=True)
def test_what_takes_more_than_a_statement_cannot_depend_on_anything() -> None:
    if nothing_can_be_held():
        return
    one = stored()
    with gathered(UNCHANGED, **version_of(one)) as gathering:
        update(one, ["description"])
        update(one, ["status"])
    assert not gathering.is_written


@pytest.mark.django_db(transaction=True)
def test_an_update_holds_what_it_updates() -> None:
    if nothing_can_be_held():
        return
    one = stored()
    note = Notice.objects.create(payment=one, error="")
    set_error = Update(Notice.objects.filter(pk=Given("pk")), error="so it was")
    for pk, is_found in ((-1, False), (one.pk, True)):
        with gathered(SET_DESCRIPTION, pk=pk) as gathering:
            set_error.later(pk=note.pk)
        assert gathering.is_written is is_found
        assert gathering.found == ([1] if is_found else [])
        one.refresh_from_db()
        note.refresh_from_db()
        assert (one.description, note.error) == (
            ("later", "so it was") if is_found else ("", "")
        )


@pytest.mark.django_db(transaction=True)
def test_two_parts_that_may_write_to_one_row_are_not_one_statement() -> None:
    one = stored()
    with gathered() as gathering:
        SET_DESCRIPTION.later(pk=one.pk)
        one.captured_minor = 5
        update(one, ["captured_minor"])
    assert (gathering.is_written, gathering.found) == (True, [1])
    one.refresh_from_db()
    assert (one.description, one.captured_minor) == ("later", 5)
    with gathered(SET_DESCRIPTION, pk=one.pk) as gathering:
        SET_DESCRIPTION.later(pk=one.pk)
    assert not gathering.is_written


def test_when_one_of_those_that_are_gathered_is_gone_that_is_an_error() -> None:
    rows = [stored() for _ in range(3)]
    Payment.objects.filter(pk=rows[1].pk).delete()
    gathering = gathered()
    gathering.__enter__()
    for row in rows:
        update(row, ["status"])
    with pytest.raises(DatabaseError, match="no such row"):
        gathering.__exit__(None, None, None)


def test_nothing_of_what_was_gathered_is_written_after_an_error() -> None:
    with contextlib.suppress(RuntimeError), gathered():
        insert(payment())
        raise RuntimeError
    assert not Payment.objects.exists()
    insert(payment())
    assert Payment.objects.count() == 1


def test_a_row_that_names_what_is_not_stored_is_refused() -> None:
    with pytest.raises(ValueError, match="unsaved related object"):
        insert(payment(retry_of=payment()))
    assert not Payment.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_statement_keeps_no_connection_alive() -> None:
    read = Select(Payment.objects.filter(pk=Given("pk")))
    seen: list[weakref.ref[Any]] = []

    def work() -> None:
        assert read(pk=0) == []
        seen.append(weakref.ref(connections["default"]))
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    gc.collect()
    assert [one() for one in seen] == [None]
