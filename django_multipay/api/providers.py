"""The accounts of the settings: what they can do, and how an amount can be paid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from moneyed import Money
from rest_framework import exceptions as drf
from rest_framework.request import Request
from rest_framework.response import Response

from django_multipay import money
from django_multipay.api.base import ApiView
from django_multipay.api.fields import (
    AMOUNT_PATTERN,
    CURRENCY_PATTERN,
    Pattern,
    StrictSerializer,
    Text,
)
from django_multipay.api.pages import read_query
from django_multipay.api.schema import described
from django_multipay.api.serializers import MethodSerializer, ProviderSerializer
from django_multipay.flows.checkout import Way
from django_multipay.registry import registry

VIEW = "multipay.view_payment"


def methods_data(ways: Iterable[Way]) -> list[dict[str, Any]]:
    """Return ways to pay as they are written."""
    return [
        {
            "provider": way.provider.alias,
            "method": way.method.code,
            "kind": way.method.kind,
            "name": way.name,
        }
        for way in ways
    ]


class ProvidersView(ApiView):
    """All accounts."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="listProviders",
        tags=["providers"],
        responses=ProviderSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """List the accounts of the settings, with capabilities and currencies."""
        accounts = [registry[alias] for alias in registry]
        return Response(ProviderSerializer(accounts, many=True).data)


class ProviderView(ApiView):
    """One account."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="getProvider", tags=["providers"], responses=ProviderSerializer
    )
    def get(self, request: Request, alias: str) -> Response:
        """Return one account."""
        if alias not in registry:
            raise drf.NotFound
        return Response(ProviderSerializer(registry[alias]).data)


class MethodQuery(StrictSerializer):
    """The amount that somebody wants to pay, and from where."""

    amount = Pattern(AMOUNT_PATTERN)
    currency = Pattern(CURRENCY_PATTERN)
    country = Text(
        required=False, max_length=2, help_text="ISO 3166-1 alpha-2, of the buyer"
    )


class MethodsView(ApiView):
    """The ways to pay an amount."""

    permissions = {"GET": VIEW}

    @described(
        operation_id="listMethods",
        tags=["providers"],
        parameters=[MethodQuery],
        responses=MethodSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """List the ways to pay an amount."""
        query = read_query(request, MethodQuery)
        currency = money.currency_of(query["currency"])
        amount = Money(money.parse_decimal(query["amount"]), currency)
        money.to_minor(amount)
        country = query.get("country", "")
        return Response(
            methods_data(
                Way(provider=registry[alias], method=method)
                for alias in registry
                for method in registry[alias].methods_for(amount, country)
            )
        )
