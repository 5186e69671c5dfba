"""What grows with the years, and whether anything slows down with it.

    DATABASE_URL=postgres://… python -m benchmarks.growth [--rows 1000000]

Fills a PostgreSQL database of its own, which must not exist yet and is dropped
afterwards, with payments and all that belongs to them. Then lets the real flows run,
asks the database for the plan of every statement that they make, and prints the plans
that read a whole table, the slowest statements, and the size of each table's rows and
indexes per payment.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import django

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()

from django.contrib.auth.models import User
from django.core.management.color import no_style
from django.db import connection, models, transaction
from django.test import Client, override_settings
from django.test.utils import setup_test_environment
from django.urls import reverse
from django.utils import timezone
from moneyed import Money

from django_multipay.enums import (
    NoticeState,
    OperationKind,
    OperationState,
    PaymentStatus,
    RefundStatus,
    Source,
    TokenStatus,
    TransactionKind,
    Verdict,
)
from django_multipay.flows import (
    capture_payment,
    charge_token,
    deliver_notices,
    drift_report,
    erase_buyer,
    purge,
    receive_webhook,
    reconcile,
    refund_payment,
    retry_payment,
    start_payment,
    sync_payment,
    void_payment,
)
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Refund,
    Token,
    Transaction,
    WebhookDelivery,
)
from tests.flows.scripted import account_settings, message, new_payment
from tests.flows.tokens import SavingProvider

FIRST_DAY = datetime(2024, 10, 1, tzinfo=UTC)
"""When the first payment was made; then one a minute."""

DUE_OF = 100
"""One payment of so many is open still, and the provider should be asked about it."""

REFUNDED_OF = 20
TOKENS_OF = 20

_DIALECTS = {
    "postgresql": {
        "uuid": "gen_random_uuid()",
        "reference": "substr(md5(random()::text), 1, 24)",
        "digest": "md5(random()::text) || md5(random()::text)",
        "{0}": "{0} + n * interval '1 minute'",
    },
    "sqlite": {
        "uuid": "lower(hex(randomblob(16)))",
        "reference": "lower(hex(randomblob(12)))",
        "digest": "lower(hex(randomblob(32)))",
        "{0}": "datetime({0}, n || ' minutes')",
    },
}


# Rows -----------------------------------------------------------------------------


def fill(payments: int, provider: str = "stub") -> None:
    """Insert so many payments of the alias ``provider``, each with all its rows.

    One of ten failed, another was canceled, a third expired, one of a hundred is open
    and due; the others were paid, and one of twenty refunded. Each has its checkout,
    one message, one fact and one notice, of which the shop did not hear the last ones
    yet; one of twenty left a saved method. The times begin at `FIRST_DAY`. PostgreSQL (outside of a transaction) and SQLite.
    """
    with transaction.atomic():
        if connection.vendor == "postgresql":
            # What is cloned fits: no row need be looked up for each that names it.
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
        payment = _payment(provider)
        fact = _fact(payment)
        _multiply(payments, payment, fact)
        _refund(payments, payment)
    with connection.cursor() as cursor:
        # What the server would do by itself, sooner or later.
        is_postgresql = connection.vendor == "postgresql"
        cursor.execute("VACUUM ANALYZE" if is_postgresql else "ANALYZE")


def _payment(provider: str) -> Payment:
    payment = Payment.objects.create(
        provider=provider,
        order_id="SHOP-0",
        provider_reference="P-0",
        transaction_reference="T-0",
        status=PaymentStatus.REFUNDED,
        amount_minor=2630,
        captured_minor=2630,
        refunded_minor=2630,
        currency="USD",
        method="card",
        description="Two mugs and a saucer",
        items=[
            {
                "name": "Mug, blue",
                "quantity": 2,
                "unit_minor": 1315,
                "url": "https://shop.example/mugs/blue/",
            }
        ],
        buyer_name="Sunhee Kim",
        buyer_email="buyer0@example.com",
        buyer_phone="+82 2 555 0100",
        buyer_country="KR",
        customer_id="customer-0",
        locale="ko",
        success_url="https://shop.example/orders/1001/thanks/",
        failure_url="https://shop.example/cart/",
        metadata={"channel": "web"},
        details={"card_brand": "visa", "card_last4": "1111"},
        started_at=FIRST_DAY,
        paid_at=FIRST_DAY,
    )
    Payment.objects.filter(pk=payment.pk).update(
        created_at=FIRST_DAY, updated_at=FIRST_DAY
    )
    return payment


def _fact(payment: Payment) -> Transaction:
    return Transaction.objects.create(
        payment=payment,
        kind=TransactionKind.CAPTURE,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        provider_reference="T-0",
        source=Source.WEBHOOK,
        occurred_at=FIRST_DAY,
    )


def _multiply(count: int, payment: Payment, fact: Transaction) -> None:
    """Insert ``count`` - 1 payments like ``payment``, and what belongs to all."""
    is_open = f"n % {DUE_OF} = {DUE_OF - 1}"
    status = (
        f"CASE WHEN {is_open} THEN '{PaymentStatus.PENDING}'"
        f" WHEN n % 10 = 7 THEN '{PaymentStatus.FAILED}'"
        f" WHEN n % 10 = 8 THEN '{PaymentStatus.CANCELED}'"
        f" WHEN n % 10 = 9 THEN '{PaymentStatus.EXPIRED}'"
        f" WHEN n % {REFUNDED_OF} = 0 THEN '{PaymentStatus.REFUNDED}'"
        f" ELSE '{PaymentStatus.PAID}' END"
    )
    is_paid = "n % 10 < 7"
    _clone(
        payment,
        count,
        id="id + n",
        uuid=_sql("uuid"),
        merchant_reference=_sql("reference"),
        order_id="'SHOP-' || n",
        provider_reference="'P-' || (id + n)",
        transaction_reference=f"CASE WHEN {is_paid} THEN 'T-' || (id + n) END",
        status=status,
        amount_minor="1000 + n % 90000",
        captured_minor=f"CASE WHEN {is_paid} THEN 1000 + n % 90000 ELSE 0 END",
        refunded_minor=f"CASE WHEN n % {REFUNDED_OF} = 0"
        " THEN 1000 + n % 90000 ELSE 0 END",
        buyer_email="'buyer' || (n % 400000) || '@example.com'",
        customer_id="'customer-' || (n % 400000)",
        review_reason="CASE WHEN n % 200 = 3 THEN 'overpaid' ELSE '' END",
        started_at=_later("started_at"),
        paid_at=f"CASE WHEN {is_paid} THEN {_later('paid_at')} END",
        sync_at=f"CASE WHEN {is_open} THEN {_later('created_at')} END",
        created_at=_later("created_at"),
        updated_at=_later("updated_at"),
    )
    _clone(
        fact,
        count,
        where=f"NOT ({is_open})",
        id="id + n",
        payment_id="payment_id + n",
        kind=f"CASE WHEN {is_paid} THEN '{TransactionKind.CAPTURE}'"
        f" WHEN n % 10 = 7 THEN '{TransactionKind.FAILURE}'"
        f" WHEN n % 10 = 8 THEN '{TransactionKind.CANCELLATION}'"
        f" ELSE '{TransactionKind.EXPIRY}' END",
        amount_minor=f"CASE WHEN {is_paid} THEN 1000 + n % 90000 ELSE 0 END",
        provider_reference=f"CASE WHEN {is_paid}"
        " THEN 'T-' || (payment_id + n) ELSE '' END",
        occurred_at=_later("occurred_at"),
        # Nobody may change when the first was written.
        created_at=_later("occurred_at"),
    )
    checkout = Operation.objects.create(
        kind=OperationKind.CHECKOUT,
        payment=payment,
        amount_minor=payment.amount_minor,
        state=OperationState.SUCCEEDED,
        lease_token="0" * 32,
        attempts=1,
        retry_at=FIRST_DAY,
    )
    _clone(
        checkout,
        count,
        key=_sql("reference"),
        payment_id="payment_id + n",
        lease_token=_sql("reference"),
        retry_at=_later("retry_at"),
    )
    message = WebhookDelivery.objects.create(
        provider=payment.provider,
        digest="0" * 64,
        payment=payment,
        source=Source.WEBHOOK,
        verdict=Verdict.APPLIED,
        headers={
            "content-type": "application/json",
            "user-agent": "Provider-Webhooks/1.0",
            "x-request-id": "6f1de1c2-6f13-4f3c-8d0a-2b9c6a2a7c55",
            "x-signature": "[removed]",
        },
        body='{"event": "E-0", "data": "%s"}' % ("said by a provider " * 30),
        attempts=1,
        retry_at=FIRST_DAY,
        applied_at=FIRST_DAY,
    )
    WebhookDelivery.objects.filter(pk=message.pk).update(received_at=FIRST_DAY)
    _clone(
        message,
        count,
        where=f"NOT ({is_open})",
        uuid=_sql("uuid"),
        digest=_sql("digest"),
        payment_id="payment_id + n",
        received_at=_later("received_at"),
        retry_at=_later("retry_at"),
        applied_at=_later("applied_at"),
    )
    notice = Notice.objects.create(
        payment=payment,
        transaction=fact,
        signals=["payment_status_changed", "payment_paid"],
        state=NoticeState.DELIVERED,
        attempts=1,
        due_at=FIRST_DAY,
        delivered_at=FIRST_DAY,
    )
    Notice.objects.filter(pk=notice.pk).update(created_at=FIRST_DAY)
    _clone(
        notice,
        count,
        where=f"NOT ({is_open})",
        uuid=_sql("uuid"),
        payment_id="payment_id + n",
        transaction_id="transaction_id + n",
        state=f"CASE WHEN n < {count} * 0.997 THEN state"
        f" ELSE '{NoticeState.WAITING}' END",
        due_at=_later("due_at"),
        created_at=_later("created_at"),
        delivered_at=_later("delivered_at"),
    )
    is_expired = f"n % {TOKENS_OF * 2} = 0"
    token = Token.objects.create(
        provider=payment.provider,
        customer_id="customer-0",
        provider_token="tok_0000000000000000000000000000",
        token_digest="0" * 64,
        fingerprint="0" * 32,
        brand="visa",
        last4="1111",
        expires_on=date(2030, 1, 31),
        status=TokenStatus.ACTIVE,
        created_by_payment=payment,
    )
    _clone(
        token,
        count,
        where=f"n % {TOKENS_OF} = 0",
        uuid=_sql("uuid"),
        customer_id="'customer-' || (n % 400000)",
        expires_on=f"CASE WHEN {is_expired} THEN DATE('2025-01-31')"
        " ELSE expires_on END",
        expiry_told_at=f"CASE WHEN {is_expired} THEN created_at END",
        token_digest=_sql("digest"),
        created_by_payment_id="created_by_payment_id + n",
    )
    _count_on(Payment, Transaction)


def _refund(count: int, payment: Payment) -> None:
    """Insert what belongs to a refund; nobody hears of it."""
    refund = Refund.objects.create(
        payment=payment,
        provider_reference="R-0",
        amount_minor=payment.amount_minor,
        status=RefundStatus.SUCCEEDED,
        reason="damaged",
        requested_by="ann",
    )
    fact = Transaction.objects.create(
        payment=payment,
        kind=TransactionKind.REFUND,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        provider_reference=refund.merchant_reference,
        source=Source.OPERATION,
    )
    call = Operation.objects.create(
        kind=OperationKind.REFUND,
        payment=payment,
        refund=refund,
        amount_minor=payment.amount_minor,
        state=OperationState.SUCCEEDED,
        lease_token="0" * 32,
        attempts=1,
        actor="ann",
    )
    is_refunded = f"n % {REFUNDED_OF} = 0"
    _clone(
        refund,
        count,
        where=is_refunded,
        id="id + n",
        uuid=_sql("uuid"),
        payment_id="payment_id + n",
        merchant_reference=_sql("reference"),
        provider_reference="'R-' || (id + n)",
        amount_minor="1000 + n % 90000",
    )
    _clone(
        fact,
        count,
        where=is_refunded,
        payment_id="payment_id + n",
        amount_minor="1000 + n % 90000",
        provider_reference=_sql("reference"),
    )
    _clone(
        call,
        count,
        where=is_refunded,
        key=_sql("reference"),
        payment_id="payment_id + n",
        refund_id="refund_id + n",
        lease_token=_sql("reference"),
    )
    _count_on(Refund)


def _sql(name: str) -> str:
    return _DIALECTS[connection.vendor][name]


def _later(column: str) -> str:
    """Return ``column``, as many minutes later as the row's number."""
    return _sql("{0}").format(column)


def _clone(row: models.Model, count: int, *, where: str = "", **changed: str) -> None:
    """Insert ``count`` - 1 rows like ``row``, numbered ``n`` from 1.

    ``changed`` are SQL expressions by column; the database gives the key unless it is
    one of them.
    """
    meta = row._meta
    columns = [
        str(field.column)
        for field in meta.concrete_fields
        if not field.primary_key or "id" in changed
    ]
    values = [changed.get(column, column) for column in columns]
    condition = f" AND {where}" if where else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {meta.db_table} ({', '.join(columns)})"
            " WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL"
            f" SELECT n + 1 FROM numbers WHERE n + 1 < {count})"
            f" SELECT {', '.join(values)} FROM {meta.db_table}, numbers"
            f" WHERE id = {row.pk} AND n < {count}{condition}"
        )


def _count_on(*kinds: type[models.Model]) -> None:
    """Let the database give the keys after those that are there."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), kinds):
            cursor.execute(statement)


# Plans ----------------------------------------------------------------------------

GROWING = frozenset(
    kind._meta.db_table
    for kind in (
        Notice,
        Operation,
        Payment,
        Refund,
        Token,
        Transaction,
        WebhookDelivery,
    )
)
"""The tables that have more rows with every payment."""

MOST_IN_VAIN = 1000
"""Rows that one statement may read and not want, whatever the size of the table."""

ONCE_OVER = frozenset({"purge", "erasure by e-mail"})
"""Work that looks at every row once, on purpose, and that nobody waits for."""

_BLOCKING = frozenset({"Sort", "Hash", "Materialize", "Unique"})
"""Nodes that read all that is below them before they give a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the database carries out one statement of one piece of work."""

    work: str
    sql: str
    root: Mapping[str, Any]

    @property
    def problems(self) -> list[str]:
        """What of it takes longer when a table grows."""
        if self.work in ONCE_OVER:
            return []
        return list(_problems(self.root, is_limited=False))

    @property
    def scans(self) -> list[str]:
        """Which tables are read, and by which index."""
        return [
            f"{node['Node Type']} {node.get('Index Name') or node['Relation Name']}"
            for node in _nodes(self.root)
            if "Scan" in node["Node Type"]
            and (node.get("Relation Name") or node.get("Index Name"))
        ]


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _problems(node: Mapping[str, Any], *, is_limited: bool) -> Iterator[str]:
    kind = node["Node Type"]
    table = node.get("Relation Name")
    if table in GROWING and kind == "Seq Scan":
        yield f"reads all of {table}"
    is_walk = kind in {"Index Scan", "Index Only Scan"} and "Index Cond" not in node
    if table in GROWING and is_walk and not is_limited:
        yield f"walks along all of {node['Index Name']}"
    in_vain = node.get("Actual Loops", 0) * (
        node.get("Rows Removed by Filter", 0)
        + node.get("Rows Removed by Index Recheck", 0)
    )
    if in_vain > MOST_IN_VAIN:
        yield f"reads {in_vain} rows in vain ({kind} of {table})"
    is_limited = kind == "Limit" or (is_limited and kind not in _BLOCKING)
    for child in node.get("Plans", ()):
        yield from _problems(child, is_limited=is_limited)


@dataclass
class Explainer:
    """Asks for the plan of each different statement, just before it is executed."""

    work: str = ""
    plans: list[Plan] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Ask about what the default connection executes meanwhile."""
        with connection.execute_wrapper(self._execute):
            yield

    def _execute(
        self, execute: Callable[..., Any], sql: str, params: Any, *rest: Any
    ) -> Any:
        word = sql.split(" ", 1)[0]
        if word in {"SELECT", "UPDATE", "INSERT", "DELETE"} and sql not in self._seen:
            self._seen.add(sql)
            # Only what reads can be carried out a second time.
            how = "ANALYZE, " if word == "SELECT" else ""
            with connection.connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN ({how}FORMAT JSON) {sql}", params)
                (found,) = cursor.fetchone()
            found = json.loads(found) if isinstance(found, str) else found
            self.plans.append(Plan(work=self.work, sql=sql, root=found[0]["Plan"]))
        return execute(sql, params, *rest)


# Work -----------------------------------------------------------------------------

ACCOUNT = "scripted"
"""The alias of the account that all this is done with; it answers at once."""


def explained() -> list[Plan]:
    """Do once what a shop does every day; return the plan of each statement.

    The tables are filled with payments of `ACCOUNT`, which the settings know.
    """
    explainer = Explainer()
    for name, work in _works().items():
        explainer.work = name
        with explainer.listening():
            work()
    return explainer.plans


def _works() -> Mapping[str, Callable[[], object]]:
    """Return what is done, by name; the payments it needs are made here."""
    fresh, named, refused = (started() for _ in range(3))
    paid = paid_payment()
    captured, voided = (
        paid_payment(PaymentStatus.AUTHORIZED, capture_mode="manual") for _ in range(2)
    )
    charged = Token.objects.filter(provider=ACCOUNT).latest("pk")
    old = Payment.objects.filter(refunded_minor=0, status=PaymentStatus.PAID)[1000]
    asked = Payment.objects.filter(sync_at__isnull=False).latest("pk")
    client, api = desk(), "/payments/api"
    news = message(fresh, PaymentStatus.PAID)
    return {
        "checkout": started,
        "payment page": lambda: client.get(fresh.get_checkout_url()),
        "callback": lambda: receive_webhook(ACCOUNT, news),
        "duplicate": lambda: receive_webhook(ACCOUNT, news),
        "callback by the provider's reference": lambda: receive_webhook(
            ACCOUNT,
            message(
                named,
                PaymentStatus.PAID,
                order=None,
                reference=named.provider_reference,
            ),
        ),
        "callback of a decline": lambda: receive_webhook(
            ACCOUNT, message(refused, PaymentStatus.FAILED)
        ),
        "callback about nobody": lambda: receive_webhook(
            ACCOUNT, message(refused, PaymentStatus.PAID, order="nobody")
        ),
        "outcome": lambda: client.get(fresh.get_outcome_url()),
        "state": lambda: client.get(reverse("multipay:state", args=[fresh.uuid])),
        "sync": lambda: sync_payment(asked),
        "refund": lambda: refund_payment(paid, Money("1.00", "USD")),
        "refund of an old payment": lambda: refund_payment(old),
        "capture": lambda: capture_payment(captured),
        "void": lambda: void_payment(voided),
        "charge of a saved method": lambda: charge_token(
            charged, order_id="1002", amount=Money("26.30", "USD")
        ),
        "retry": lambda: retry_payment(Payment.objects.get(pk=refused.pk)),
        "outbox": deliver_notices,
        "reconcile": lambda: reconcile(limit=40),
        "drift": lambda: drift_report(
            since=FIRST_DAY, until=FIRST_DAY + timedelta(hours=1)
        ),
        "purge": purge,
        "erasure": lambda: erase_buyer(customer_id=old.customer_id),
        "erasure by e-mail": lambda: erase_buyer(email="buyer77@example.com"),
        **_pages(client, old, "/admin/multipay"),
        **_calls(client, old, api),
    }


def _pages(
    client: Client, payment: Payment, site: str
) -> Mapping[str, Callable[[], object]]:
    """Return what staff look at."""
    listing = f"{site}/payment/"
    searched = {
        "order": payment.order_id,
        "our reference": payment.merchant_reference,
        "the provider's reference": payment.provider_reference or "",
        "e-mail": payment.buyer_email,
        "public id": str(payment.uuid),
        "nothing that is there": "nowhere",
    }
    pages = {
        "first page": listing,
        "a far page": f"{listing}?p=30",
        **{f"search by {name}": f"{listing}?q={q}" for name, q in searched.items()},
        "paid only": f"{listing}?status__exact=paid",
        "one status that is rare": f"{listing}?status__exact=in_review",
        "review queue": f"{listing}?review=any",
        "one account": f"{listing}?provider={ACCOUNT}",
        "one day": f"{listing}?created_at__year=2024&created_at__month=10"
        "&created_at__day=1",
        "one payment": f"{listing}{payment.pk}/change/",
        "overview": f"{listing}overview/",
        "refunds": f"{site}/refund/",
        "operations": f"{site}/operation/",
        "messages": f"{site}/webhookdelivery/",
        "notices": f"{site}/notice/",
        "saved methods": f"{site}/token/",
    }
    return {
        f"admin, {name}": functools.partial(visit, client, url)
        for name, url in pages.items()
    }


def _calls(
    client: Client, payment: Payment, api: str
) -> Mapping[str, Callable[[], object]]:
    """Return what a shop's programs ask the API."""
    first = visit(client, f"{api}/payments/").json()
    latest = visit(client, f"{api}/payments/?ordering=-created_at").json()
    calls = {
        "payments": f"{api}/payments/",
        "payments, next page": first["next"],
        "payments, the latest": f"{api}/payments/?ordering=-created_at",
        "payments, next of the latest": latest["next"],
        "payments of an order": f"{api}/payments/?order_id={payment.order_id}",
        "payments of a customer": f"{api}/payments/?customer_id={payment.customer_id}",
        "one payment": f"{api}/payments/{payment.uuid}/",
        "refunds": f"{api}/refunds/",
        "tokens of a customer": f"{api}/tokens/?customer_id={payment.customer_id}",
        "deliveries": f"{api}/deliveries/",
        "events": f"{api}/events/",
    }
    return {
        f"API, {name}": functools.partial(visit, client, url)
        for name, url in calls.items()
    }


def desk() -> Client:
    """Return the browser of somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("growth"))
    return client


def visit(client: Client, url: str) -> Any:
    """GET ``url``, which is there."""
    answer = client.get(url)
    assert answer.status_code == 200, (url, answer.status_code, answer.content[:500])
    return answer


def started() -> Payment:
    """Return a payment whose buyer is at the provider."""
    payment = new_payment()
    start_payment(payment)
    payment.provider_reference = f"P-{payment.merchant_reference}"
    payment.save(update_fields=["provider_reference"])
    return payment


def paid_payment(status: PaymentStatus = PaymentStatus.PAID, **more: Any) -> Payment:
    """Return a payment of which the provider said that it is ``status``."""
    payment = new_payment(**more)
    start_payment(payment)
    receive_webhook(ACCOUNT, message(payment, status))
    payment.refresh_from_db()
    return payment


# Figures --------------------------------------------------------------------------


def sizes() -> list[tuple[str, int, int, int]]:
    """Return each table's rows, and bytes of its rows and of its indexes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, reltuples::bigint, pg_table_size(oid),"
            " pg_indexes_size(oid) FROM pg_class WHERE relname = ANY(%s)"
            " ORDER BY pg_total_relation_size(oid) DESC",
            [[*GROWING]],
        )
        rows: list[tuple[str, int, int, int]] = cursor.fetchall()
    return rows


def unused_indexes() -> list[str]:
    """Return the indexes of growing tables that no statement has asked so far."""
    with connection.cursor() as cursor:
        # What a connection counted is written when it has been idle for a moment.
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT indexrelname FROM pg_stat_user_indexes"
            " WHERE idx_scan = 0 AND relname = ANY(%s) ORDER BY 1",
            [[*GROWING]],
        )
        return [name for (name,) in cursor.fetchall()]


def report(payments: int, plans: Sequence[Plan]) -> None:
    """Print what was found."""
    print(f"| {payments:,} payments | rows | bytes of rows | of indexes |")
    print("| --- | ---: | ---: | ---: |")
    tables = sizes()
    for name, rows, table, indexes in tables:
        print(f"| {name} | {rows:,} | {table:,} | {indexes:,} |")
    table = sum(size for _, _, size, _ in tables)
    indexes = sum(size for _, _, _, size in tables)
    print(
        f"| for each payment | | {table / payments:,.0f} | {indexes / payments:,.0f} |"
    )
    print(f"\nNo statement asked: {', '.join(unused_indexes()) or 'none'}")
    print(f"\n{len(plans)} statements; the slowest that read:\n")
    reading = [plan for plan in plans if "Actual Total Time" in plan.root]
    for plan in sorted(reading, key=lambda plan: -plan.root["Actual Total Time"])[:20]:
        print(f"{plan.root['Actual Total Time']:8.1f} ms  {plan.work}: {plan.scans}")
    for plan in plans:
        for problem in plan.problems:
            print(f"\n{plan.work}: {problem}\n{plan.sql}")


def main() -> None:
    """Fill a database, let the flows run on it, and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    first_day = (timezone.now() - FIRST_DAY - timedelta(hours=2)).days
    settings = {
        **account_settings(**{ACCOUNT: SavingProvider}),
        "CONCURRENCY": 1,
        "RETENTION": dict.fromkeys(["MESSAGES", "NOTICES", "CHECKOUTS"], first_day),
    }
    setup_test_environment()
    connection.creation.create_test_db(verbosity=0)
    try:
        with override_settings(MULTIPAY=settings):
            fill(options.rows, ACCOUNT)
            report(options.rows, explained())
    finally:
        connection.creation.destroy_test_db(os.environ["DATABASE_URL"], verbosity=0)


if __name__ == "__main__":
    main()
