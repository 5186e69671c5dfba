"""Fields that take what they say and nothing that merely looks like it.

REST framework's own are kind: they read ``"5"`` as a number, ``"yes"`` as true and
full-width digits as digits. Two readers of the same body must not differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import extend_schema_field
from moneyed import Money
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from django_multipay import money
from django_multipay.enums import ProblemCode
from django_multipay.exceptions import InvalidAmount

AMOUNT_PATTERN = r"^[0-9]{1,16}(\.[0-9]{1,8})?$"
CURRENCY_PATTERN = r"^[A-Z0-9]{3,8}$"

_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_YEARS = range(1970, 2200)
"""Moments outside would leave what a database can hold when the zone is applied."""


class Text(serializers.CharField):
    """Text as it is, not trimmed; numbers are no text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """Return ``data``, if it is text."""
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class Pattern(serializers.RegexField):
    """Text of a form that is also in the API's description; nothing around it."""

    def __init__(self, regex: str, **kwargs: Any) -> None:
        super().__init__(regex, trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """Return ``data``, if it is text; where ``$`` is, Python allows a line break."""
        if not isinstance(data, str) or data.endswith("\n"):
            self.fail("invalid")
        return data


class Word(serializers.ChoiceField):
    """One word of a closed list."""

    def to_internal_value(self, data: Any) -> Any:
        """Return ``data``, if it is one of the words."""
        if not isinstance(data, str):
            self.fail("invalid_choice", input=type(data).__name__)
        return super().to_internal_value(data)


class YesNo(serializers.BooleanField):
    """JSON's true and false."""

    def to_internal_value(self, data: Any) -> bool:
        """Return ``data``, if it is one of them."""
        if not isinstance(data, bool):
            self.fail("invalid", input=type(data).__name__)
        return data


class WholeNumber(serializers.IntegerField):
    """A whole number of JSON; true is none."""

    def to_internal_value(self, data: Any) -> int:
        """Return ``data``, if it is one."""
        if type(data) is not int:
            self.fail("invalid")
        return data


class Digits(serializers.IntegerField):
    """A whole number in a query string, in ASCII digits."""

    def to_internal_value(self, data: Any) -> int:
        """Return the number that ``data`` writes."""
        if not isinstance(data, str) or not _WHOLE.fullmatch(data):
            self.fail("invalid")
        return int(data)


@extend_schema_field({"type": "string", "enum": ["true", "false"]})
class TrueFalse(serializers.Field[bool, str, Any, Any]):
    """``true`` or ``false`` in a query string."""

    default_error_messages = {"invalid": "Write true or false."}

    def to_internal_value(self, data: Any) -> bool:
        """Return what ``data`` says."""
        if data not in {"true", "false"}:
            self.fail("invalid")
        return bool(data == "true")


class Moment(serializers.DateTimeField):
    """A moment of ISO 8601 with its zone."""

    def to_internal_value(self, value: Any) -> datetime:
        """Return the moment in UTC."""
        if not isinstance(value, str) or not _MOMENT.fullmatch(value):
            self.fail("invalid", format="2026-01-31T12:00:00Z")
        try:
            moment = parse_datetime(value)
        except ValueError:
            moment = None
        if moment is None or moment.year not in _YEARS:
            self.fail("invalid", format="2026-01-31T12:00:00Z")
        return moment.astimezone(UTC)


class Day(serializers.DateField):
    """A day as 2026-01-31."""

    def to_internal_value(self, value: Any) -> date:
        """Return the day."""
        if not isinstance(value, str) or not _DAY.fullmatch(value):
            self.fail("invalid", format="2026-01-31")
        try:
            day = date.fromisoformat(value)
        except ValueError:
            day = date.min
        if day.year not in _YEARS:
            self.fail("invalid", format="2026-01-31")
        return day


class Identifier(serializers.UUIDField):
    """A UUID in the one form in which we write it."""

    def to_internal_value(self, data: Any) -> UUID:
        """Return the UUID."""
        if not isinstance(data, str) or not _UUID.fullmatch(data):
            self.fail("invalid", value=str(data)[:40])
        return UUID(data)


@extend_schema_field({"type": "object", "additionalProperties": True})
class PlainObject(serializers.Field[dict[str, Any], Any, Any, Any]):
    """An object of the shop's own; its values are texts, whole numbers, lists, objects."""

    default_error_messages = {"invalid": "This is not an object."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return ``data``, if it is an object; the body's own rules hold inside."""
        if not isinstance(data, dict):
            self.fail("invalid")
        return data

    def to_representation(self, value: Any) -> Any:
        """Return it as it is."""
        return value


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not know, and those that cannot be set."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the values; ValidationError names every field that is wrong."""
        if isinstance(data, Mapping):
            errors = {}
            for name in data:
                field = self.fields.get(name)
                if field is None:
                    errors[name] = [
                        ErrorDetail("unknown field", ProblemCode.UNKNOWN_FIELD)
                    ]
                elif field.read_only:
                    errors[name] = [
                        ErrorDetail("cannot be set", ProblemCode.READ_ONLY_FIELD)
                    ]
            if errors:
                raise serializers.ValidationError(errors)
        return super().to_internal_value(data)


class AmountSerializer(StrictSerializer):
    """An amount: as text in major units, and in whole minor units; never a float.

    Send ``amount`` or ``amount_minor``; if both, they must agree.
    """

    amount = Pattern(
        AMOUNT_PATTERN, required=False, help_text="Major units, such as 26.30"
    )
    currency = Pattern(
        CURRENCY_PATTERN, help_text="ISO 4217, or a crypto asset such as USDT"
    )
    amount_minor = WholeNumber(
        required=False,
        min_value=0,
        max_value=money.MAX_MINOR,
        help_text="Whole minor units, such as 2630",
    )

    def to_internal_value(self, data: Any) -> Money:
        """Return Money; nothing is rounded."""
        values = super().to_internal_value(data)
        try:
            return _money(values)
        except InvalidAmount as error:
            raise serializers.ValidationError(
                {error.field: [ErrorDetail(str(error), ProblemCode.INVALID_AMOUNT)]}
            ) from error


def _money(values: Mapping[str, Any]) -> Money:
    currency = money.currency_of(values["currency"])
    if "amount" not in values and "amount_minor" not in values:
        raise InvalidAmount("send amount or amount_minor", "amount")
    if "amount" not in values:
        return money.from_minor(values["amount_minor"], currency.code)
    said = Money(money.parse_decimal(values["amount"]), currency)
    if values.get("amount_minor", minor := money.to_minor(said)) != minor:
        raise InvalidAmount("amount and amount_minor differ", "amount_minor")
    return said


class MoneySerializer(serializers.Serializer[Any]):
    """An amount, said in all three ways."""

    amount = serializers.RegexField(AMOUNT_PATTERN, help_text="Major units: 26.30")
    currency = serializers.RegexField(CURRENCY_PATTERN, help_text="ISO 4217, or USDT")
    amount_minor = serializers.IntegerField(help_text="Whole minor units: 2630")

    def to_representation(self, instance: Money) -> dict[str, Any]:
        """Return the amount, with all decimals of its currency."""
        minor = money.to_minor(instance)
        code = instance.currency.code
        exact = money.from_minor(minor, code)
        return {"amount": f"{exact.amount:f}", "currency": code, "amount_minor": minor}
