"""People at a desk: staff of a shop in front of the admin, with what they may do."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from moneyed import Money
from pytest_django import Settings

from django_multipay import ledger
from django_multipay.enums import CaptureMode, PaymentStatus, Source
from django_multipay.flows import start_payment
from django_multipay.models import Payment
from django_multipay.registry import registry
from tests.flows.scripted import (
    ACCOUNT,
    BankProvider,
    ObligingProvider,
    SilentProvider,
    TracingProvider,
    WholesaleProvider,
    account_settings,
    new_payment,
    snapshot_of,
)

HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


class Desk:
    """One person of the staff and their browser."""

    def __init__(self, user: User, *, enforce_csrf_checks: bool = False) -> None:
        self.user = user
        self.client = Client(enforce_csrf_checks=enforce_csrf_checks)
        self.client.force_login(user)

    def list(self, **query: str) -> Any:
        """Look at the list of payments."""
        return self.client.get(reverse("admin:multipay_payment_changelist"), query)

    def page(self, payment: Payment) -> Any:
        """Look at one payment."""
        return self.client.get(page_of(payment))

    def form(self, payment: Payment, kind: str) -> Any:
        """Open the form of a step."""
        return self.client.get(step_of(payment, kind))

    def preview(self, payment: Payment, kind: str, **fields: str | None) -> Any:
        """Fill the form of a step in, and ask what would be sent.

        What is not named stays as the form came; None is a box that is not ticked.
        """
        page = self.form(payment, kind)
        assert page.status_code == 200, page
        filled = {
            **{bound.name: bound.value() for bound in page.context["form"]},
            **self.unseen(page),
            **fields,
            "preview": "1",
        }
        sent = {name: str(value) for name, value in filled.items() if value is not None}
        return self.post(payment, kind, sent)

    def form_after(self, payment: Payment, kind: str = "refund") -> Any:
        """Open the form of a step, and land where it sends the person."""
        return self.client.get(step_of(payment, kind), follow=True)

    def confirm(self, payment: Payment, kind: str, **fields: str | None) -> Any:
        """Walk all the way: form, preview, confirmation; return the page after it."""
        shown = self.preview(payment, kind, **fields)
        return self.press(payment, kind, self.unseen(shown))

    @staticmethod
    def unseen(page: Any) -> dict[str, str]:
        """Return what a page sends along unseen, but for the token against forgery."""
        found = HIDDEN.findall(page.content.decode())
        return {
            name: unescape(value)
            for name, value in found
            if name != "csrfmiddlewaretoken"
        }

    def press(self, payment: Payment, kind: str, fields: dict[str, str]) -> Any:
        """Press the button of a preview, as it was shown then."""
        return self.post(payment, kind, {**fields, "confirmed": "1"})

    def post(self, payment: Payment, kind: str, fields: dict[str, str]) -> Any:
        """Send the form of a step as it is."""
        return self.client.post(step_of(payment, kind), fields, follow=True)

    def act(self, payment: Payment, act: str, **fields: str) -> Any:
        """Press one of the small buttons of a payment's page."""
        url = reverse(f"admin:multipay_payment_{act}", args=[payment.pk])
        return self.client.post(url, fields, follow=True)

    def decide(self, payment: Payment, act: str) -> Any:
        """Approve or abandon the newest call of a payment."""
        operation = payment.operations.latest("pk")
        args = [payment.pk, operation.pk, act]
        url = reverse("admin:multipay_payment_operation", args=args)
        return self.client.post(url, follow=True)


def page_of(payment: Payment) -> str:
    return reverse("admin:multipay_payment_change", args=[payment.pk])


def step_of(payment: Payment, kind: str) -> str:
    return reverse("admin:multipay_payment_step", args=[payment.pk, kind])


@pytest.fixture(autouse=True)
def accounts(settings: Settings, db: None) -> None:
    settings.MULTIPAY = account_settings(
        scripted=ObligingProvider,
        tracing=TracingProvider,
        bank=BankProvider,
        wholesale=WholesaleProvider,
        silent=SilentProvider,
    )
    cache.clear()
    # Asked for once per process, and not by the page that is counted.
    ContentType.objects.get_for_model(Payment)


@pytest.fixture
def provider() -> Any:
    return registry["scripted"]


@pytest.fixture
def desk() -> Callable[..., Desk]:
    """Give somebody a desk: their name, and the permissions they have."""

    def seat(name: str, *permissions: str, **options: bool) -> Desk:
        user = User.objects.create_user(name, is_staff=True)
        for codename in permissions:
            user.user_permissions.add(
                Permission.objects.get(
                    content_type__app_label="multipay", codename=codename
                )
            )
        return Desk(user, **options)

    return seat


@pytest.fixture
def ann() -> Desk:
    """May do everything."""
    return Desk(User.objects.create_superuser("ann"))


@pytest.fixture
def bob() -> Desk:
    """May do everything, too."""
    return Desk(User.objects.create_superuser("bob"))


@pytest.fixture
def payment_that_is() -> Callable[..., Payment]:
    """Make a payment of 100.00 USD that stands where the test wants it."""

    def make(
        status: PaymentStatus,
        amount: str = "100.00",
        alias: str = "scripted",
        **more: Any,
    ) -> Payment:
        said = more.pop("said", {})
        payment = new_payment(
            amount=Money(Decimal(amount), "USD"), provider=alias, **more
        )
        start_payment(payment)
        if status != PaymentStatus.PENDING:
            ledger.apply_snapshot(
                payment.pk,
                snapshot_of(payment, status, **said),
                account=ledger.Account(alias=alias, account=ACCOUNT, is_live=None),
                source=Source.WEBHOOK,
            )
        payment.refresh_from_db()
        return payment

    return make


@pytest.fixture
def paid(payment_that_is: Callable[..., Payment]) -> Callable[..., Payment]:
    """Make a payment whose money was taken."""
    return lambda *args, **more: payment_that_is(PaymentStatus.PAID, *args, **more)


@pytest.fixture
def authorized(payment_that_is: Callable[..., Payment]) -> Callable[..., Payment]:
    """Make a payment whose money is reserved."""

    def make(*args: Any, **more: Any) -> Payment:
        more = {"capture_mode": CaptureMode.MANUAL, **more}
        return payment_that_is(PaymentStatus.AUTHORIZED, *args, **more)

    return make


@pytest.fixture
def logged() -> Callable[[Any], list[str]]:
    """What the admin's log says about a row, the oldest first."""

    def read(row: Any) -> list[str]:
        entries = LogEntry.objects.filter(
            object_id=str(row.pk),
            content_type=ContentType.objects.get_for_model(type(row)),
        )
        return [
            f"{entry.user.get_username()}: {entry.change_message}"
            for entry in entries.order_by("pk").select_related("user")
        ]

    return read
