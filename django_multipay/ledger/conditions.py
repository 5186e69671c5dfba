"""What the hot paths ask in passing, in SQL.

As querysets inside of a query, each of these costs more to compile than the query
that it belongs to costs to run. Only names and words of ours are in the text; what
came from outside is a parameter. All three databases run it as it is.
"""

from __future__ import annotations

from django.db.models import BooleanField
from django.db.models.expressions import RawSQL

from django_multipay.enums import TransactionKind
from django_multipay.models import Payment, Transaction

_PAYMENT = Payment._meta.db_table


NAMING_KINDS = (
    TransactionKind.AUTHORIZATION,
    TransactionKind.CAPTURE,
    TransactionKind.REGISTRATION,
)
"""The facts whose reference becomes the payment's own."""


def is_unheard(reference: object) -> RawSQL:
    """Say whether no provider named the transaction of a fact by ``reference``."""
    return _condition(_IS_UNHEARD, reference)


_IS_UNHEARD = f"""NOT EXISTS (
    SELECT 1 FROM {Transaction._meta.db_table} AS fact
    WHERE fact.provider_reference = %s)"""  # noqa: S608


def is_free(provider: object, key: object, reference: object) -> RawSQL:
    """Say whether ``provider`` calls no payment but that of ``key`` by ``reference``."""
    whose = [provider, key]
    return _condition(_IS_FREE, *whose, reference, reference, *whose, reference)


_KINDS = ", ".join(f"'{kind}'" for kind in NAMING_KINDS)

_IS_FREE = f"""NOT EXISTS (
    SELECT 1 FROM {_PAYMENT} AS other
    WHERE other.provider = %s AND other.id <> %s
    AND (other.provider_reference = %s OR other.transaction_reference = %s))
AND NOT EXISTS (
    SELECT 1 FROM {Transaction._meta.db_table} AS fact
    JOIN {_PAYMENT} AS payer ON payer.id = fact.payment_id
    WHERE payer.provider = %s AND payer.id <> %s
    AND fact.provider_reference = %s AND fact.kind IN ({_KINDS}))"""  # noqa: S608


def _condition(sql: str, *params: object) -> RawSQL:
    return RawSQL(sql, params, BooleanField())  # noqa: S611
