"""From our doors to the sandbox and back: what the tests of attacks walk through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.test import Client
from django.utils import timezone
from moneyed import Money

from django_multipay import signals
from django_multipay.enums import Purpose
from django_multipay.flows import create_payment, reconcile, start_payment
from django_multipay.flows.links import callback_url
from django_multipay.flows.reconcile import Report
from django_multipay.messages import Buyer
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Refund,
    Token,
    Transaction,
    WebhookDelivery,
)
from django_multipay.testing.plugin import Sandbox
from tests.flows.buyer import EximbayBuyer

FORM = "application/x-www-form-urlencoded"
ACCEPTED = b"rescode=0000&resmsg=Success"
TABLES = (Payment, Transaction, Operation, WebhookDelivery, Notice, Token)


@dataclass(frozen=True, kw_only=True)
class Messages:
    """What Eximbay has to tell about one payment, and the doors made for it."""

    return_path: str
    return_body: str
    status_path: str
    status_body: str
    plan_path: str


class Corridor:
    """A shop, its visitors from the internet, and the sandbox behind them."""

    buyer = Buyer(name="Hong Gil Dong", email="buyer@example.com")

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        # Nothing is delivered by itself: the test carries every message.
        sandbox.post("/_control/settings", {"eximbay": {"callbacks_enabled": False}})

    def payment(self, amount: str = "26.30", **more: Any) -> Payment:
        """A payment whose buyer stands before Eximbay's page."""
        payment = create_payment(
            provider="eximbay",
            order_id="R-1001",
            amount=Money(amount, "USD"),
            buyer=self.buyer,
            **more,
        )
        start_payment(payment)
        return payment

    def pay(self, payment: Payment, outcome: str = "approve", **more: str) -> Messages:
        """Let the buyer choose; return the messages, none of them delivered."""
        buyer = EximbayBuyer(payment)
        with closing(buyer.client):
            returned = buyer.pay(outcome, **more)
        status = [
            entry
            for entry in self.sandbox.get("/_control/callbacks")
            if entry["order_id"] == payment.merchant_reference
            and entry["kind"] == "status"
        ][-1]
        return Messages(
            return_path=self.path(payment, Purpose.RETURN),
            return_body=returned[1] if returned else "",
            status_path=self.path(payment, Purpose.STATUS),
            status_body=status["body"],
            plan_path=self.path(payment, Purpose.PLAN),
        )

    def path(self, payment: Payment, purpose: Purpose) -> str:
        """Where messages of this purpose arrive."""
        return urlsplit(callback_url(payment, purpose, None)).path

    def signed(self, payment: Payment, **changes: str | None) -> str:
        """A body that Eximbay itself would call genuine, with fields changed."""
        answer = self.sandbox.post(
            f"/_control/eximbay/payments/{payment.merchant_reference}/callback",
            {"send": False, **changes},
        )
        return str(answer["body"])

    def send(self, path: str, body: str | bytes) -> Any:
        """POST ``body`` as Eximbay does, without a session, without cookies."""
        return Client(enforce_csrf_checks=True).post(path, body, content_type=FORM)

    def calls(self) -> Counter[str]:
        """How often Eximbay was asked what."""
        entries = self.sandbox.get("/_control/requests")
        return Counter(entry["operation"] for entry in entries)

    def fault(self, operation: str, kind: str, **more: Any) -> None:
        """Arm a fault for the next call of ``operation``."""
        self.sandbox.post(
            "/_control/faults",
            {"provider": "eximbay", "operation": operation, "fault": kind, **more},
        )


def fields_of(body: str) -> dict[str, str]:
    """The fields of a form body, blanks kept."""
    return dict(parse_qsl(body, keep_blank_values=True))


def with_fields(body: str, **changes: str | None) -> str:
    """``body`` with fields changed (None drops one) under its old fgkey."""
    fields: dict[str, str | None] = {**fields_of(body), **changes}
    return urlencode(
        {name: value for name, value in fields.items() if value is not None}
    )


def everything() -> dict[str, list[dict[str, Any]]]:
    """Every row of money, messages and notices: equal before and after, or not."""
    return {
        model.__name__: [*model._default_manager.order_by("pk").values()]
        for model in TABLES
    }


def money_rows() -> dict[str, list[dict[str, Any]]]:
    """The rows that say how payments stand, without the inbox."""
    rows = everything()
    del rows["WebhookDelivery"]
    return rows


@contextmanager
def heard() -> Iterator[list[tuple[str, int, str]]]:
    """Collect (signal, payment, notice) of every signal while it is open."""
    heard: list[tuple[str, int, str]] = []
    receivers = []
    for name in dir(signals):
        signal = getattr(signals, name)
        if not name.startswith("payment_"):
            continue

        def receive(name: str = name, **kwargs: Any) -> None:
            heard.append((name, kwargs["payment"].pk, kwargs["notice_id"]))

        signal.connect(receive)
        receivers.append((signal, receive))
    try:
        yield heard
    finally:
        for signal, receive in receivers:
            signal.disconnect(receive)


def reconcile_later(**options: Any) -> Report:
    """Run `reconcile` at a time when no stored message has to wait any more."""
    WebhookDelivery.objects.update(retry_at=timezone.now() - timedelta(seconds=1))
    return reconcile(**options)


def let_everything_be_due() -> None:
    """Every lease on a call that moves money has run out, every inquiry is due."""
    past = timezone.now() - timedelta(days=1)
    Operation.objects.update(retry_at=past)
    Operation.objects.filter(lease_until__isnull=False).update(lease_until=past)
    Payment.objects.filter(sync_at__isnull=False).update(sync_at=past)
    Refund.objects.filter(sync_at__isnull=False).update(sync_at=past)
