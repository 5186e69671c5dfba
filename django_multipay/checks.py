"""System checks: every bad setting is named, with its alias, key and remedy."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from moneyed import Money

from django_multipay import money
from django_multipay.conf import DEFAULTS, conf
from django_multipay.enums import Capability, WebhookTrust
from django_multipay.exceptions import InvalidAmount, ProviderConfigurationError
from django_multipay.providers.base import Provider, Secret
from django_multipay.registry import build


@register(Tags.compatibility)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001 to E011: the shape of ``MULTIPAY`` and each provider's options."""
    raw = conf.raw
    if not isinstance(raw, Mapping):
        return [
            Error(
                "MULTIPAY must be a dict.",
                hint="Write MULTIPAY = {'PROVIDERS': {…}}.",
                id="multipay.E001",
            )
        ]
    found: list[CheckMessage] = [
        Error(
            f"MULTIPAY[{name!r}] is unknown.",
            hint=f"Remove it or use one of: {', '.join(DEFAULTS)}.",
            id="multipay.E006",
        )
        for name in sorted(set(raw) - set(DEFAULTS), key=str)
    ]
    found += _check_site_url(raw.get("SITE_URL"))
    found += _check_keys(raw.get("ENCRYPTION_KEYS"))
    found += _check_limits(raw.get("REFUND_APPROVAL_ABOVE", {}))
    found += _check_order_url(raw.get("ORDER_URL", ""))
    providers = raw.get("PROVIDERS", {})
    if not isinstance(providers, Mapping):
        return [
            *found,
            Error(
                "MULTIPAY['PROVIDERS'] must be a dict of alias to account.",
                hint="Write {'eximbay': {'BACKEND': '…', 'OPTIONS': {…}}}.",
                id="multipay.E007",
            ),
        ]
    for alias in providers:
        found += _check_provider(alias)
    return found


def _check_site_url(value: object) -> list[CheckMessage]:
    if value is None or _is_origin(value):
        return []
    # A user part would hold a password, so the value is not repeated.
    return [
        Error(
            "MULTIPAY['SITE_URL'] is no origin.",
            hint="Use scheme and host only, such as 'https://shop.example', or None.",
            id="multipay.E002",
        )
    ]


def _is_origin(value: object) -> bool:
    if not isinstance(value, str) or re.search(r"[\s\\?#@]", value):
        return False
    try:
        parts = urlsplit(value)
        has_port = parts.port != 0
    except ValueError:
        return False
    return (
        has_port
        and parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and parts.path in {"", "/"}
    )


def _check_keys(value: object) -> list[CheckMessage]:
    if value is None:
        return []
    if (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and value
        and all(isinstance(key, str) and len(key.strip()) >= 16 for key in value)
    ):
        return []
    return [
        Error(
            "MULTIPAY['ENCRYPTION_KEYS'] must be a list of texts of 16 characters "
            "or more.",
            hint="Make one with django.core.management.utils.get_random_secret_key(); "
            "the first encrypts, all decrypt.",
            id="multipay.E003",
        )
    ]


def _check_limits(value: object) -> list[CheckMessage]:
    return [
        Error(
            f"MULTIPAY['REFUND_APPROVAL_ABOVE']{problem}",
            hint="Write {'USD': '500.00'}, currency to amount in major units.",
            id="multipay.E010",
        )
        for problem in _problems_of_limits(value)
    ]


def _problems_of_limits(value: object) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield " must be a dict."
        return
    for code, limit in value.items():
        try:
            currency = money.currency_of(str(code))
            money.to_minor(Money(money.parse_decimal(str(limit)), currency))
        except InvalidAmount as error:
            yield f"[{code!r}]: {error}"


def _check_order_url(value: object) -> list[CheckMessage]:
    try:
        is_usable = isinstance(value, str) and (
            not value or value.format(order_id="A") != value
        )
    except (KeyError, IndexError, ValueError):
        is_usable = False
    if is_usable:
        return []
    return [
        Error(
            "MULTIPAY['ORDER_URL'] is no address with {order_id} in it.",
            hint="Write '/admin/shop/order/?q={order_id}', or leave it out.",
            id="multipay.E011",
        )
    ]


def _check_provider(alias: object) -> list[CheckMessage]:
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
        return [
            Error(
                f"MULTIPAY['PROVIDERS'][{alias!r}] is no usable alias.",
                hint="Use up to 64 ASCII letters, digits, '-' and '_': it stands in "
                "callback URLs.",
                id="multipay.E008",
            )
        ]
    try:
        provider = build(alias)
    except ProviderConfigurationError as error:
        return [
            Error(line, hint=_OPTIONS_HINT, id="multipay.E004")
            for line in str(error).splitlines()
        ]
    where = f"MULTIPAY['PROVIDERS'][{alias!r}]"
    found: list[CheckMessage] = [
        Error(f"{where}: {problem}", hint=_OPTIONS_HINT, id="multipay.E009")
        for problem in provider.problems()
    ]
    if not _has_proof(provider):
        found.append(
            Error(
                f"{where}: {provider.display_name} can prove no payment.",
                hint="Give the class a payment inquiry or authentic webhooks.",
                id="multipay.E005",
            )
        )
    return found


_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,64}")

_OPTIONS_HINT = "The provider's page in the documentation lists its options."


def _has_proof(provider: Provider) -> bool:
    return Capability.FETCH in provider.capabilities or provider.webhook_trust in {
        WebhookTrust.SIGNED,
        WebhookTrust.SHARED_SECRET,
    }


@register(Tags.security, deploy=True)
def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """W001 to W005: what must not go live."""
    found: list[CheckMessage] = []
    if check_settings():
        return found  # The errors come first; they are reported by their own check.
    for alias in conf.providers:
        found += [
            Warning(f"MULTIPAY['PROVIDERS'][{alias!r}]: {problem}", id="multipay.W001")
            for problem in build(alias).deploy_problems()
        ]
    found += _check_literal_secrets()
    if conf.site_url.startswith("http:"):
        found.append(
            Warning(
                "MULTIPAY['SITE_URL'] is plain http: callbacks can be read on the way.",
                hint="Use https.",
                id="multipay.W002",
            )
        )
    if conf.raw.get("ENCRYPTION_KEYS") is None:
        found.append(
            Warning(
                "MULTIPAY['ENCRYPTION_KEYS'] is not set, so stored secrets depend on "
                "SECRET_KEY.",
                hint="Set a key of its own, so that SECRET_KEY can be rotated alone.",
                id="multipay.W003",
            )
        )
    for alias, database in conf.databases.items():
        is_sqlite = str(database.get("ENGINE", "")).endswith("sqlite3")
        mode = (database.get("OPTIONS") or {}).get("transaction_mode")
        if is_sqlite and str(mode).upper() != "IMMEDIATE":
            found.append(
                Warning(
                    f"DATABASES[{alias!r}]: SQLite is not in IMMEDIATE mode, so "
                    "concurrent callbacks fail with 'database is locked'.",
                    hint="Set OPTIONS = {'transaction_mode': 'IMMEDIATE'}.",
                    id="multipay.W004",
                )
            )
    return found


def _check_literal_secrets() -> list[CheckMessage]:
    """W005: whoever reads the code, or its history, should not get the keys."""
    source = conf.source
    found: list[CheckMessage] = []
    for alias in conf.providers:
        options = build(alias).options
        for field in dataclasses.fields(options):
            secret = getattr(options, field.name)
            if isinstance(secret, Secret) and any(
                value in source for value in secret.values
            ):
                found.append(
                    Warning(
                        f"MULTIPAY['PROVIDERS'][{alias!r}]['OPTIONS'][{field.name!r}] "
                        "stands in the settings module as it is.",
                        hint="Read it from the environment, and change it: it is "
                        "in the history of your code.",
                        id="multipay.W005",
                    )
                )
    return found
