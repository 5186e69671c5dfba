"""System checks: every bad setting is named, with its alias, key and remedy."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string
from moneyed import Money

from django_multipay import money
from django_multipay.conf import (
    DEFAULTS,
    ENDPOINT_DEFAULTS,
    PLAN_DEFAULTS,
    RETENTION,
    conf,
)
from django_multipay.enums import Capability, WebhookTrust
from django_multipay.exceptions import InvalidAmount, ProviderConfigurationError
from django_multipay.providers.base import Provider, Secret
from django_multipay.registry import build


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001 to E018: the shape of ``MULTIPAY`` and each provider's options."""
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
    found += _check_work(raw)
    found += _check_endpoints(raw.get("ENDPOINTS", {}))
    found += _check_customer_id(raw.get("CUSTOMER_ID"))
    found += _check_plans(raw.get("PLANS", {}))
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


def _check_customer_id(value: object) -> list[CheckMessage]:
    try:
        found = import_string(value) if isinstance(value, str) else value
    except ImportError:
        found = ""
    if found is None or callable(found):
        return []
    return [
        Error(
            "MULTIPAY['CUSTOMER_ID'] is neither a callable nor the path of one.",
            hint="Write 'shop.customers.customer_id', a function that takes the request "
            "and returns the customer's id or '', or leave it out.",
            id="multipay.E013",
        )
    ]


def _check_endpoints(value: object) -> list[CheckMessage]:
    if (
        isinstance(value, Mapping)
        and not set(value) - set(ENDPOINT_DEFAULTS)
        and isinstance(value.get("ALLOW_PRIVATE", False), bool)
        and _are_ports(value.get("PORTS", ()))
    ):
        return []
    return [
        Error(
            "MULTIPAY['ENDPOINTS'] has an unknown key or an unusable value.",
            hint="Write {'ALLOW_PRIVATE': False, 'PORTS': [443, 8443]}, or leave it "
            "out.",
            id="multipay.E012",
        )
    ]


def _are_ports(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(
        _is_whole(port, least=1) and port < 65536 for port in value
    )


def _check_plans(value: object) -> list[CheckMessage]:
    if isinstance(value, Mapping) and not set(value) - set(PLAN_DEFAULTS):
        days = value.get("RETRY_DAYS", ())
        grace = value.get("GRACE_DAYS", 0)
        is_list = isinstance(days, (list, tuple)) and all(
            _is_whole(day, least=1) for day in days
        )
        is_rising = is_list and list(days) == sorted(set(days))
        if is_rising and _is_whole(grace, least=0):
            return []
    return [
        Error(
            "MULTIPAY['PLANS'] has an unknown key or an unusable value.",
            hint="Write {'RETRY_DAYS': [1, 3, 5, 7], 'GRACE_DAYS': 7}: whole days, "
            "rising; or leave it out.",
            id="multipay.E014",
        )
    ]


def _check_work(raw: Mapping[Any, Any]) -> list[CheckMessage]:
    """E016 to E018: who does the work, how much at once, and what is kept."""
    found: list[CheckMessage] = []
    webhooks = raw.get("WEBHOOKS", "inline")
    has_tasks = find_spec("django.tasks") or find_spec("django_tasks")
    if webhooks not in ("inline", "task") or (webhooks == "task" and not has_tasks):
        found.append(
            Error(
                f"MULTIPAY['WEBHOOKS'] cannot be {webhooks!r}.",
                hint="Use 'inline', or 'task' with Django 6.0 or the extra 'tasks'.",
                id="multipay.E016",
            )
        )
    if not _is_whole(raw.get("CONCURRENCY", 1), least=1):
        found.append(
            Error(
                "MULTIPAY['CONCURRENCY'] must be a whole number, 1 or more.",
                hint="Each call at once needs a connection to the database.",
                id="multipay.E017",
            )
        )
    days = raw.get("RETENTION", {})
    if not isinstance(days, Mapping) or not all(
        name in RETENTION and (value is None or _is_whole(value, least=1))
        for name, value in days.items()
    ):
        found.append(
            Error(
                "MULTIPAY['RETENTION'] must be a dict of kind to days, or None.",
                hint=f"The kinds are {', '.join(RETENTION)}.",
                id="multipay.E018",
            )
        )
    return found


def _is_whole(value: object, *, least: int) -> bool:
    # A bool would pass for a whole number.
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


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


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """W001 to W008: what must not go live."""
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
    if conf.endpoints_allow_private:
        found.append(
            Warning(
                "MULTIPAY['ENDPOINTS']['ALLOW_PRIVATE'] is on: who may enter an "
                "endpoint can make this site call its own network.",
                hint="Use it for development only.",
                id="multipay.W006",
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
        if not is_sqlite and not _waits_within_bounds(database):
            found.append(
                Warning(
                    f"DATABASES[{alias!r}]: nothing bounds the wait for a row that "
                    "somebody else has locked.",
                    hint="Set lock_timeout (PostgreSQL) or innodb_lock_wait_timeout "
                    "(MariaDB) in its OPTIONS, as the page on operations shows.",
                    id="multipay.W008",
                )
            )
    return found


def _waits_within_bounds(database: Mapping[str, Any]) -> bool:
    # By its name: how it is set differs between drivers, and may be done by a server.
    said = str(database.get("OPTIONS") or "")
    return "lock_timeout" in said or "lock_wait_timeout" in said


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
