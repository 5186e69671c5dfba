"""Columns that more than one model needs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from django_multipay import crypto

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.expressions import Expression

    TextFieldBase = models.TextField[Any, Any]
else:
    TextFieldBase = models.TextField


class EncryptedJSONField(TextFieldBase):
    """JSON that is encrypted at rest; None is stored as an empty string."""

    if TYPE_CHECKING:
        _pyi_private_set_type: Any
        _pyi_private_get_type: Any

    def from_db_value(
        self, value: str, expression: Expression, connection: BaseDatabaseWrapper
    ) -> Any:
        """Return the decrypted value; `MultipayError` if no key opens it."""
        return json.loads(crypto.decrypt(value), parse_float=Decimal) if value else None

    def get_prep_value(self, value: Any) -> str:
        """Return the ciphertext under the first of the encryption keys."""
        if value is None or value == "":
            return ""
        return crypto.encrypt(json.dumps(value, cls=DjangoJSONEncoder))


def minor_units(**kwargs: Any) -> models.BigIntegerField[int, int]:
    """Return a column for an amount in whole minor units of ``currency``."""
    return models.BigIntegerField(editable=False, **kwargs)


def currency_code() -> models.CharField[str, str]:
    """Return a column for a currency: ISO 4217, or a crypto asset's code."""
    return models.CharField(max_length=8, editable=False)
