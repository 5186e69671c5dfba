"""A shop with an account at every provider, all of them played by the sandbox."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from django.test import Client
from django.utils import timezone
from moneyed import Money

from django_multipay import money
from django_multipay.enums import Purpose, RefundStatus
from django_multipay.exceptions import ProviderError
from django_multipay.flows import create_payment, reconcile, start_payment
from django_multipay.flows.links import callback_url
from django_multipay.flows.reconcile import Report
from django_multipay.messages import Buyer
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    RecurringPlan,
    Refund,
    Token,
    Transaction,
    WebhookDelivery,
)
from django_multipay.providers.base import Provider
from django_multipay.registry import registry
from django_multipay.testing.plugin import Sandbox
from django_multipay.testing.sandbox_contract import Desk

SITE = "https://testserver"
BUYER = Buyer(name="Hong Gil Dong", email="buyer@example.com")
DOLLARS = Money("26.30", "USD")
TETHER = Money("10.50", money.currency_of("USDT"))
MONEY_TABLES = (Payment, Transaction, Refund, Token, RecurringPlan)
TABLES = (*MONEY_TABLES, Operation, Notice, WebhookDelivery)


@dataclass(frozen=True, kw_only=True)
class Account:
    """What the sandbox made up for one provider; ``foreign`` is its second account."""

    backend: str
    path: str = ""
    options: Mapping[str, Any]
    foreign: Mapping[str, Any]
    amount: Money = DOLLARS
    switches: Mapping[str, object] = field(default_factory=dict)


# Nothing is delivered by itself: the test carries every message.
SILENT = {"callbacks_enabled": False}
ACCOUNTS: Mapping[str, Account] = {
    "eximbay": Account(
        backend="django_multipay.providers.eximbay.EximbayProvider",
        options={
            "mid": "1849705C64",
            "api_key": "test_1849705C642C217E0B2D",
            "secret_key": "289F40E6640124B2628640168C3C5464",
        },
        foreign={
            "mid": "SANDBOXKR1",
            "api_key": "test_SANDBOXKR1000000DE01",
            "secret_key": "5A4DB0C05A4DB0C05A4DB0C05A4DB0C0",
        },
        switches=SILENT,
    ),
    "excoinz": Account(
        backend="django_multipay.providers.excoinz.ExcoinzProvider",
        path="/excoinz",
        options={
            "client_id": "SANDBOXEXPAY",
            "secret_key": "sk_sandbox_expay_4f1d0c7b9a2e4d6f",
        },
        foreign={
            "client_id": "SANDBOXOTHER",
            "secret_key": "sk_sandbox_other_8b3a6e5d1c0f4a92",
        },
        amount=TETHER,
        switches={**SILENT, "require_all_fields": False},
    ),
    "payer": Account(
        backend="django_multipay.providers.payer.PayerProvider",
        path="/payer",
        options={"api_key": "payer_test_5Wd8Qk2Zr7Tn4Yb9Hc3Mx6Vp"},
        foreign={"api_key": "payer_test_9Fj3Lg6Sx2Ra8Ue5Kt7Bw4Nq"},
        switches=SILENT,
    ),
    "clink": Account(
        backend="django_multipay.providers.clink.ClinkProvider",
        path="/clink/api",
        options={
            "api_key": "sk_test_clinkSandbox1a2b3c4d5e6f7a8b",
            "webhook_secret": "whsec_clinkSandbox1a2b3c4d5e6f7a8b",
        },
        foreign={
            "api_key": "sk_test_clinkSandbox2b3c4d5e6f7a8b9c",
            "webhook_secret": "whsec_clinkSandbox2b3c4d5e6f7a8b9c",
        },
        switches=SILENT,
    ),
    "easybilling": Account(
        backend="django_multipay.providers.easybilling.EasyBillingProvider",
        path="/easybilling",
        options={"api_token": "eb_sandbox_4f2b8c1d9e7a6053"},
        foreign={"api_token": "eb_sandbox_90c3d7e5b1f8a264"},
    ),
}
FOREIGN = "_foreign"
"""Ends the alias of a provider's second account."""


def settings_at(sandbox: Sandbox) -> dict[str, Any]:
    """Return ``MULTIPAY`` with both accounts of every provider."""
    providers = {
        f"{slug}{suffix}": {
            "BACKEND": account.backend,
            "OPTIONS": {**options, "base_url": f"{sandbox.url}{account.path}"},
        }
        for slug, account in ACCOUNTS.items()
        for suffix, options in (("", account.options), (FOREIGN, account.foreign))
    }
    return {"SITE_URL": SITE, "PROVIDERS": providers}


def with_charges(multipay: dict[str, Any]) -> dict[str, Any]:
    """`settings_at`, with what accounts need to charge without the buyer."""
    needed = {
        "eximbay": {"shop_url": "https://shop.example/"},
        "easybilling": {"offline_redirect_url": "https://shop.example/"},
    }
    for alias, account in multipay["PROVIDERS"].items():
        account["OPTIONS"] |= needed.get(alias.removesuffix(FOREIGN), {})
    return multipay


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message to the shop: where it goes and what is in it."""

    path: str
    body: bytes
    headers: Mapping[str, str]

    def send(self, path: str = "") -> Any:
        """Post it as the provider does, without a session, without cookies."""
        headers = dict(self.headers)
        kind = headers.pop("Content-Type")
        return Client(enforce_csrf_checks=True).post(
            path or self.path, self.body, content_type=kind, headers=headers
        )


class Shop:
    """The shop's and the buyer's side of one provider, and the provider's books."""

    def __init__(self, sandbox: Sandbox, slug: str) -> None:
        self.slug = slug
        self.account = ACCOUNTS[slug]
        self.sandbox = sandbox
        self.desk = Desk(sandbox, slug)
        self.desk.set(self.account.switches)
        self._numbers = itertools.count(1)

    @property
    def provider(self) -> Provider:
        """The provider of the first account."""
        return registry[self.slug]

    def start(self, alias: str = "", **wishes: Any) -> Payment:
        """Return a payment whose buyer stands at the provider's door."""
        payment = self._create(provider=alias or self.slug, **wishes)
        start_payment(payment)
        return payment

    def _create(self, **wishes: Any) -> Payment:
        values: dict[str, Any] = {
            "provider": self.slug,
            "order_id": f"R-{next(self._numbers)}",
            "amount": self.account.amount,
            "buyer": BUYER,
        }
        return create_payment(**values | wishes)

    def start_plan(self, plan: RecurringPlan, **wishes: Any) -> Payment:
        """Return the first payment of ``plan``, its buyer at the provider's door."""
        payment = self._create(plan=plan, **wishes)
        plan.first_payment = payment
        plan.save(update_fields=["first_payment"])
        start_payment(payment)
        return payment

    def stumble(self) -> Payment:
        """Return a payment whose start failed."""
        payment = self._create()
        with pytest.raises(ProviderError):
            start_payment(payment)
        return payment

    def start_again(self, payment: Payment) -> Payment:
        """Return ``payment`` after its buyer tried once more."""
        assert start_payment(payment) is not None
        payment.refresh_from_db()
        return payment

    def decide(self, payment: Payment, outcome: str, **choices: object) -> Any:
        """Press a button of the hosted page; where the browser goes from there."""
        return self.desk.decide(payment.merchant_reference, outcome, **choices)

    def paid(self, **wishes: Any) -> Payment:
        """Return a payment that is paid and of which the shop has heard."""
        payment = self.start(**wishes)
        self.tell(payment, self.decide(payment, "approve"))
        payment.refresh_from_db()
        return payment

    def tell(self, payment: Payment, answer: Any = None) -> None:
        """Let the shop hear everything: messages, return, and the next inquiry."""
        for message in self.messages(payment):
            message.send()
        if answer:
            self.come_back(answer)
        reconcile_later()

    def messages(self, payment: Payment | None = None) -> list[Message]:
        """Return what the provider has to say about ``payment``, or at all."""
        entries = self.sandbox.get(f"/_control/callbacks?provider={self.slug}")
        return [
            self.message(entry)
            for entry in entries
            if payment is None or entry["order_id"] == payment.merchant_reference
            if entry["kind"] != "return"
        ]

    def message(self, entry: Mapping[str, Any]) -> Message:
        """Return a recorded callback as it would come in."""
        path = urlsplit(entry["url"] or "").path
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return Message(
            path=path if path.startswith("/payments/") else self.webhook,
            body=entry["body"].encode(),
            headers=entry.get("headers") or form,
        )

    def changed(self, payment: Payment, **changes: object) -> Message:
        """Return a message that the provider calls genuine, with fields changed."""
        path = f"{self.desk.path}/payments/{payment.merchant_reference}/callback"
        return self.message(self.sandbox.post(path, {"send": False, **changes}))

    def come_back(self, answer: Mapping[str, Any]) -> Any:
        """Bring the buyer's browser to where the provider sends it."""
        if not answer["return_url"]:
            return None
        url = answer["return_url"].removeprefix(SITE)
        if answer["return_method"] == "GET":
            return Client().get(url)
        body = urlencode(answer["return_fields"])
        form = "application/x-www-form-urlencoded"
        return Client(enforce_csrf_checks=True).post(url, body, content_type=form)

    @property
    def webhook(self) -> str:
        """The door for messages about anything of the account."""
        return f"/payments/webhook/{self.slug}/"

    def doors(self, payment: Payment) -> list[str]:
        """Return every door a stranger may knock at."""
        links = [
            urlsplit(callback_url(payment, purpose, None)).path for purpose in Purpose
        ]
        return [self.webhook, *links]

    def calls(self) -> Counter[str]:
        """Return how often the provider was asked what."""
        entries = self.sandbox.get(f"/_control/requests?provider={self.slug}")
        return Counter(entry["operation"] for entry in entries)

    def fault(self, operation: str, kind: str, **more: Any) -> None:
        """Arm a fault for the next call of ``operation``."""
        self.desk.break_line(operation, {"fault": kind, **more})

    def mend(self) -> None:
        """Disarm every fault that nothing ran into."""
        httpx.delete(f"{self.sandbox.url}/_control/faults", trust_env=False)

    # The provider's books -------------------------------------------------------------

    def books(self, payment: Payment) -> dict[str, Any]:
        """Return what the provider knows of ``payment``."""
        return self.desk.books(payment.merchant_reference)

    def sums(self, payment: Payment) -> tuple[Money, Money]:
        """Return what was taken and what was given back, by the books."""
        entry = self.books(payment)
        taken = entry.get("paid_amount", entry["amount"] if entry["charges"] else 0)
        return self._money(entry, taken), self._money(entry, entry["refunded"])

    def refunds(self, payment: Payment) -> list[Money]:
        """Return the refunds that the books call done or under way."""
        entry = self.books(payment)
        return [
            self._money(entry, refund["amount"])
            for refund in entry["refunds"]
            if "fail" not in refund["status"].lower()
        ]

    def _money(self, entry: Mapping[str, Any], value: object) -> Money:
        code = entry["currency"].upper()
        return self.provider.read_amount(Decimal(str(value or 0)), code)

    def agrees(self, payment: Payment) -> bool:
        """Say whether our sums of ``payment`` are the provider's, to the cent."""
        payment.refresh_from_db()
        return (payment.captured, payment.refunded) == self.sums(payment)


def rows(*tables: type[Any]) -> dict[str, list[dict[str, Any]]]:
    """Return every row of ``tables``: equal before and after, or not."""
    return {
        model.__name__: [*model._default_manager.order_by("pk").values()]
        for model in tables
    }


def reconcile_later(**options: Any) -> Report:
    """Run `reconcile` at a time when nothing has to wait any more."""
    past = timezone.now() - timedelta(seconds=1)
    WebhookDelivery.objects.update(retry_at=past)
    Payment.objects.filter(sync_at__isnull=False).update(sync_at=past)
    Refund.objects.filter(sync_at__isnull=False).update(sync_at=past)
    Operation.objects.filter(lease_until=None).update(retry_at=past)
    return reconcile(**options)


def facts(payment: Payment) -> Sequence[str]:
    """Return the kinds of the facts of ``payment``, in the order they came."""
    return [fact.kind for fact in payment.transactions.order_by("pk")]


def open_refunds(payment: Payment) -> Sequence[Refund]:
    """Return the refunds whose end is not known."""
    over = {RefundStatus.SUCCEEDED, RefundStatus.FAILED}
    return [refund for refund in payment.refunds.all() if refund.status not in over]
