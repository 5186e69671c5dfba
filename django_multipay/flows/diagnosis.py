"""Looking over a site: does everything answer that it needs, and is nothing left over?

Sends no payment and changes nothing. No finding repeats a secret, nor the words of a
provider's answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import DatabaseError
from django.db.models import Min, QuerySet
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from moneyed import Money

from django_multipay import ledger
from django_multipay.conf import conf
from django_multipay.enums import Capability, Severity
from django_multipay.exceptions import (
    CredentialsRejected,
    MultipayError,
    ProviderConfigurationError,
    ProviderUnavailable,
)
from django_multipay.ledger import keys
from django_multipay.messages import PaymentQuery
from django_multipay.models.payment import new_merchant_reference
from django_multipay.registry import registry

NEWEST = 5
"""Rows of each kind whose encrypted values are opened, the latest ones."""

OVERDUE = timedelta(minutes=15)
"""After this, what is due should have been worked on by somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, whether it is as it should be, and what to do."""

    severity: Severity
    subject: str
    message: str


def diagnose() -> Iterator[Finding]:
    """Yield what was found about accounts, callback URLs, keys and waiting work."""
    for alias in registry:
        yield _account(alias)
    yield from _callbacks()
    yield from _keys()
    yield from _work()


def _account(alias: str) -> Finding:
    """Ask for a payment that nobody knows: the answer proves the way and the key."""
    subject = f"account {alias}"
    try:
        provider = registry[alias]
    except ProviderConfigurationError as error:
        return _error(subject, str(error))
    if Capability.FETCH not in provider.capabilities:
        return _fine(subject, "has no inquiry, so it was not asked")
    code = min(provider.currencies, default="USD")
    try:
        provider.fetch_payment(
            PaymentQuery(
                merchant_reference=new_merchant_reference(),
                provider_reference="",
                amount=Money(1, code),
            )
        )
    except CredentialsRejected:
        return _error(subject, "does not accept our credentials: mend its OPTIONS")
    except ProviderUnavailable:
        return _error(subject, "does not answer: is its base_url right, is it up?")
    except MultipayError as error:
        # It answered, although not that it knows no such payment.
        return _warning(subject, f"answers, but with {type(error).__name__}")
    return _fine(subject, "answers, and accepts our credentials")


def _callbacks() -> Iterator[Finding]:
    subject = "callback URLs"
    try:
        reverse("multipay:webhook", args=["a"])
    except NoReverseMatch:
        yield _error(
            subject, "lead nowhere: add include('django_multipay.urls') to the URLs"
        )
        return
    if not conf.site_url:
        yield _warning(
            subject,
            "depend on the request: set MULTIPAY['SITE_URL'], or tasks and code "
            "without a request cannot start payments",
        )
        return
    if urlsplit(conf.site_url).scheme != "https":
        yield _warning(subject, "are plain http: set MULTIPAY['SITE_URL'] to https")
    for alias in registry:
        path = reverse("multipay:webhook", args=[alias])
        yield _fine(subject, f"{alias}: {conf.site_url}{path}")


def _keys() -> Iterator[Finding]:
    """Open the newest value of every encrypted column."""
    for model, names in keys.sealed_models():
        for name in names:
            subject = f"{model._meta.model_name}.{name}"
            rows = model._default_manager.exclude(**{name: ""}).order_by("-pk")
            try:
                opened = len(rows.values_list(name, flat=True)[:NEWEST])
            except MultipayError:
                yield _error(
                    subject,
                    "is opened by no key: put the retired one back at the end of "
                    "MULTIPAY['ENCRYPTION_KEYS']",
                )
                continue
            if opened:
                yield _fine(subject, f"the newest {opened} values can be read")


def _work() -> Iterator[Finding]:
    """Look for what has been due for long: does anybody run `reconcile`?"""
    waiting: tuple[tuple[str, QuerySet[Any], str], ...] = (
        ("messages", ledger.due_deliveries(), "retry_at"),
        ("payments", ledger.due_payments(), "sync_at"),
        ("operations", ledger.due_operations(), "retry_at"),
        ("refunds", ledger.due_refunds(), "sync_at"),
        ("notices", ledger.due_notices(), "due_at"),
    )
    for name, due, moment in waiting:
        try:
            oldest = due.aggregate(oldest=Min(moment))["oldest"]
        except DatabaseError as error:
            yield _error(name, f"cannot be looked at: {type(error).__name__}")
            continue
        if oldest is None or oldest > timezone.now() - OVERDUE:
            yield _fine(name, "nothing waits for long")
        else:
            yield _error(
                name,
                f"have been due since {oldest:%Y-%m-%d %H:%M} UTC: does cron run "
                "multipay_reconcile?",
            )


def _fine(subject: str, message: str) -> Finding:
    return Finding(severity=Severity.FINE, subject=subject, message=message)


def _warning(subject: str, message: str) -> Finding:
    return Finding(severity=Severity.WARNING, subject=subject, message=message)


def _error(subject: str, message: str) -> Finding:
    return Finding(severity=Severity.ERROR, subject=subject, message=message)
