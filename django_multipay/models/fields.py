"""Columns that more than one model needs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Q
from django.db.models.lookups import Exact

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.expressions import Expression

    TextFieldBase = models.TextField[Any, Any]
else:
    TextFieldBase = models.TextField


class Exactly(Exact):
    """Equal in every character, whatever the database's collation makes of them.

    MariaDB's default takes ``anna``, ``ANNA``, ``Ánna`` and ``Anna `` for one text; where
    it says whose something is, one customer would be shown what belongs to another.
    """

    def as_mysql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        """Return the comparison that uses the index, and the one of the bytes."""
        sql, params = self.as_sql(compiler, connection)
        return f"({sql} AND BINARY {sql})", [*params, *params]


def exactly(name: str, value: str) -> Q:
    """Return the condition that the column ``name`` is ``value``, as `Exactly`."""
    return Q(Exactly(F(name), value))


_DUMPED = "encrypted:"


def _load(ciphertext: str) -> Any:
    if not ciphertext:
        return None
    # Not at the top: a process that only starts encrypts and opens nothing.
    from django_multipay import crypto

    return json.loads(crypto.decrypt(ciphertext), parse_float=Decimal)


class EncryptedJSONField(TextFieldBase):
    """JSON that is encrypted at rest; None is stored as an empty string."""

    if TYPE_CHECKING:
        _pyi_private_set_type: Any
        _pyi_private_get_type: Any

    def from_db_value(
        self, value: str, expression: Expression, connection: BaseDatabaseWrapper
    ) -> Any:
        """Return the decrypted value; `MultipayError` if no key opens it."""
        return _load(value)

    def get_prep_value(self, value: Any) -> str:
        """Return the ciphertext under the first of the encryption keys."""
        if value is None or value == "":
            return ""
        from django_multipay import crypto

        return crypto.encrypt(json.dumps(value, cls=DjangoJSONEncoder))

    def value_to_string(self, obj: models.Model) -> str:
        """Return what ``dumpdata`` writes: the ciphertext, never the value."""
        return f"{_DUMPED}{self.get_prep_value(self.value_from_object(obj))}"

    def to_python(self, value: Any) -> Any:
        """Return the value, also of what `value_to_string` wrote."""
        if isinstance(value, str) and value.startswith(_DUMPED):
            return _load(value.removeprefix(_DUMPED))
        return value


def minor_units(**kwargs: Any) -> models.BigIntegerField[int, int]:
    """Return a column for an amount in whole minor units of ``currency``."""
    return models.BigIntegerField(editable=False, **kwargs)


def currency_code() -> models.CharField[str, str]:
    """Return a column for a currency: ISO 4217, or a crypto asset's code."""
    return models.CharField(max_length=8, editable=False)
