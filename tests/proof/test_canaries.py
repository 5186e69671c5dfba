"""Card numbers, security codes, keys, tokens and addresses, planted wherever somebody
could put them, and looked for wherever somebody could read them."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.core.cache import cache
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, reverse
from django.views.debug import ExceptionReporter
from moneyed import Money
from pytest_django import Settings

from django_multipay import flows
from django_multipay.enums import PaymentStatus, Purpose
from django_multipay.exceptions import MultipayError
from django_multipay.flows import wishes
from django_multipay.flows.links import callback_url
from django_multipay.messages import (
    Address,
    Buyer,
    IncomingRequest,
    LineItem,
    PaymentSnapshot,
    RefundSnapshot,
)
from django_multipay.models import Payment
from django_multipay.testing.provider_contract import (
    Call,
    LocalServer,
    ProviderContract,
    Reply,
)
from tests.flows.scripted import ScriptedProvider, account_settings, new_payment
from tests.proof.figures import Figures
from tests.providers import (
    test_clink,
    test_easybilling,
    test_excoinz,
    test_eximbay,
    test_payer,
)

PAN = "4929123456789015"
GROUPED = "4929 1234 5678 9015"
CODE = "83920174"
"""Longer than a security code, so that nothing else looks like it."""
TOKEN = "canary-token-1f9a2c"
EMAIL = "canary-plant@buyer.example"
STREET = "Canary Plant Street 1"

PROVIDERS: Mapping[str, type[ProviderContract]] = {
    "eximbay": test_eximbay.TestContract,
    "clink": test_clink.TestContract,
    "excoinz": test_excoinz.TestContract,
    "payer": test_payer.TestContract,
    "easybilling": test_easybilling.TestContract,
}

# Where they are planted ------------------------------------------------------------------

HEADERS = {
    "X-Card": PAN,
    "X-Api-Key": TOKEN,
    "Authorization": f"Bearer {TOKEN}",
    "Cookie": f"sessionid={TOKEN}",
    "User-Agent": f"agent {PAN}",
    "X-Forwarded-For": EMAIL,
}


def spoilt(value: Any) -> Any:
    """Return ``value`` with canaries in every object and behind every message."""
    if isinstance(value, Mapping):
        return {
            "card_number": PAN,
            "cvv": CODE,
            "email": EMAIL,
            "memo": GROUPED,
            "card_token": TOKEN,
            **{name: spoilt_field(name, item) for name, item in value.items()},
        }
    if isinstance(value, list):
        return [spoilt(item) for item in value]
    return value


def spoilt_field(name: str, item: Any) -> Any:
    is_prose = any(word in name.lower() for word in ("message", "resmsg", "reason"))
    if is_prose and isinstance(item, str):
        return f"{item} {PAN}"
    return spoilt(item)


QUOTES: Sequence[Reply] = [
    Reply(
        status=status,
        json={"message": f"card {PAN} of buyer", "code": "E1", "detail": spoilt({})},
    )
    for status in (400, 401, 409, 500)
] + [
    Reply(body=f"<html>{PAN} {EMAIL} {TOKEN}</html>".encode()),
    Reply(json=[PAN, EMAIL]),
    Reply(body=f'{{"card": {PAN}'.encode()),
    Reply(status=302, headers={"Location": f"/?card={PAN}&email={EMAIL}"}),
]
"""Answers that quote what they should not."""


class Planted:
    """A shop at one provider of this machine, and everything that was planted."""

    def __init__(self, examples: ProviderContract, server: LocalServer) -> None:
        self.examples = examples
        self.server = server
        self.places = 0

    def plant(self, step: Callable[[], object]) -> None:
        """Do something with a canary in it; how it ends is another test's matter."""
        self.places += 1
        with contextlib.suppress(MultipayError):
            step()

    def payment(self) -> Payment:
        """Return a payment with canaries in every field that takes words."""
        payment = flows.create_payment(
            provider="planted",
            order_id="1001",
            amount=self.examples.amount,
            description=f"paid with {PAN}",
            items=[LineItem(name=f"gift {GROUPED}", quantity=1, unit_price=self.part)],
            buyer=Buyer(
                name=f"Buyer {PAN}",
                email=EMAIL,
                address=Address(
                    first_name="A",
                    last_name="B",
                    street=STREET,
                    city="Seoul",
                    postal_code="04524",
                    country="KR",
                ),
            ),
            metadata={"note": PAN, PAN: "key", "cvv": CODE, "deep": [{"cvc": CODE}]},
        )
        # The provider of the examples knows the payment under this name.
        rows = Payment.objects.filter(pk=payment.pk)
        rows.update(merchant_reference="MP-CONTRACT-1")
        self.places += 7
        return rows.get()

    @property
    def part(self) -> Money:
        return Money("1.00", self.examples.amount.currency)

    def post(self, path: str, incoming: IncomingRequest) -> None:
        """Bring a message with canaries in its headers and its query."""
        Client(raise_request_exception=False).post(
            f"{path}?card={PAN}&email={EMAIL}&token={TOKEN}",
            incoming.body,
            content_type=incoming.content_type or "application/json",
            headers={**incoming.headers, **HEADERS},
        )
        self.places += len(HEADERS) + 1


@pytest.fixture(params=PROVIDERS)
def planted(
    request: pytest.FixtureRequest, settings: Settings, figures: Figures
) -> Iterator[Planted]:
    """One provider after the other."""
    examples = PROVIDERS[request.param]()
    with LocalServer(examples.reply) as server:
        provider = examples.build(base_url=server.url)
        backend = f"{type(provider).__module__}.{type(provider).__qualname__}"
        options = {
            **examples.options,
            "base_url": server.url,
        }
        if request.param == "easybilling":
            options["offline_redirect_url"] = "https://shop.example/"
        settings.MULTIPAY = {
            "SITE_URL": "https://testserver",
            "PROVIDERS": {"planted": {"BACKEND": backend, "OPTIONS": options}},
        }
        settings.ADMINS = [("Admin", "admin@shop.example")]
        cache.clear()
        yield Planted(examples, server)


def walk(planted: Planted) -> None:
    """A whole life, with a canary in everything that anybody says in it."""
    examples, server = planted.examples, planted.server

    def well(call: Call) -> Reply:
        reply = examples.reply(call)
        return replace(reply, json=spoilt(reply.json)) if reply.json else reply

    payment = planted.payment()
    for quote in QUOTES:
        server.reply = lambda call, quote=quote: quote  # type: ignore[misc]
        planted.plant(lambda: flows.start_payment(payment))
        planted.plant(lambda: flows.sync_payment(payment))
        payment.operations.update(lease_until=None, state="requested")
    server.reply = well
    planted.plant(lambda: flows.start_payment(payment))
    for path in paths(payment):
        for message in messages(examples):
            planted.post(path, message)
    planted.plant(lambda: flows.sync_payment(payment))
    Payment.objects.filter(pk=payment.pk).update(
        status=PaymentStatus.PAID, captured_minor=payment.amount_minor
    )
    for quote in QUOTES:
        server.reply = lambda call, quote=quote: quote  # type: ignore[misc]
        planted.plant(lambda: flows.refund_payment(payment, reason=f"{PAN} stolen"))
        payment.operations.filter(kind="refund").update(state="refused")
        payment.refunds.update(status="failed")
    server.reply = well
    planted.plant(lambda: flows.refund_payment(payment, by=f"ann {PAN}"))
    Client().get(f"{payment.get_checkout_url()}?card={PAN}&email={EMAIL}")
    planted.places += 2
    flows.reconcile()


def paths(payment: Payment) -> list[str]:
    """Return the doors of ``payment``."""
    links = [callback_url(payment, purpose, None) for purpose in Purpose]
    return [
        reverse("multipay:webhook", args=["planted"]),
        *(link.removeprefix("https://testserver") for link in links),
    ]


def messages(examples: ProviderContract) -> Iterator[IncomingRequest]:
    """Return the provider's message, genuine and with canaries in it."""
    try:
        genuine = examples.webhook(examples.webhook_secret)
    except NotImplementedError:
        genuine = IncomingRequest(method="POST", body=b'{"id": "payment-1"}')
    yield genuine
    for canary in (
        f'{{"card": "{PAN}", "email": "{EMAIL}", "token": "{TOKEN}"}}',
        f"card={PAN}&email={EMAIL}&cvv={CODE}&status=paid",
    ):
        yield replace(genuine, body=canary.encode())


# Where they are looked for ------------------------------------------------------------------


def canaries(planted: Planted) -> list[str]:
    """Return everything that must not be found."""
    secrets = [secret for secret in planted.examples._secrets() if len(secret) > 3]
    return [PAN, GROUPED, CODE, TOKEN, STREET, *secrets]


def tables() -> Iterator[tuple[str, str]]:
    """Return every row of every table as the database shows it to its keeper."""
    for model in apps.get_models():
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            columns = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for column, value in zip(columns, row, strict=True):
                    yield f"{table}.{column}", str(value)


def pages(user: User) -> Iterator[tuple[str, str]]:
    """Return every page of the admin that shows a row of ours."""
    client = Client()
    client.force_login(user)
    for model in apps.get_app_config("multipay").get_models():
        name = f"admin:multipay_{model._meta.model_name}"
        with contextlib.suppress(NoReverseMatch):
            listed = client.get(reverse(f"{name}_changelist"))
            yield f"{name} list", listed.content.decode()
            for row in model._default_manager.all()[:5]:
                page = client.get(reverse(f"{name}_change", args=[row.pk]))
                yield f"{name} page", page.content.decode()


def found(places: Iterator[tuple[str, str]], words: Sequence[str]) -> list[str]:
    return [
        f"{word} in {place}: …{text[max(0, text.find(word) - 60) : text.find(word) + 40]}"
        for place, text in places
        for word in words
        if word in text
    ]


@pytest.mark.django_db
def test_nothing_that_was_planted_is_found_again(
    planted: Planted, figures: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    walk(planted)
    assert planted.places >= 40
    figures.did("plants", planted.places)
    words = canaries(planted)
    logs = iter([("the log", caplog.text)])
    figures.found("leaks", found(logs, [*words, EMAIL]))
    figures.found("leaks", found(tables(), words))
    columns = {place for place, text in tables() if EMAIL in text}
    figures.found("leaks", sorted(columns - {"multipay_payment.buyer_email"}))
    mails = iter([("a mail", f"{one.subject} {one.body}") for one in mail.outbox])
    figures.found("leaks", found(mails, [*words, EMAIL]))
    boss = User.objects.create_superuser("boss")
    figures.found("leaks", found(pages(boss), words))
    clerk = User.objects.create_user("clerk", is_staff=True)
    views = Permission.objects.filter(
        content_type__app_label="multipay", codename__startswith="view_"
    ).exclude(codename="view_buyer_data")
    clerk.user_permissions.set(views)
    figures.found("leaks", found(pages(clerk), [*words, EMAIL]))


@pytest.mark.django_db
@pytest.mark.parametrize("verb", ["start_payment", "fetch_payment", "parse_webhook"])
def test_a_bug_that_quotes_what_it_read_is_logged_without_the_quote(
    planted: Planted,
    settings: Settings,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    verb: str,
) -> None:
    caplog.set_level(logging.DEBUG)

    def broken(*args: Any) -> None:
        raise ValueError(f"cannot read {PAN} of {EMAIL}, {TOKEN}")

    payment = planted.payment()
    kind = type(planted.examples.build(base_url=planted.server.url))
    # As the class would have it: what is set later is not looked after.
    subclass = type("Broken", (kind,), {verb: broken, "__module__": __name__})
    monkeypatch.setitem(globals(), "Broken", subclass)
    account = settings.MULTIPAY["PROVIDERS"]["planted"]
    broken_account = {**account, "BACKEND": f"{__name__}.Broken"}
    settings.MULTIPAY = {"PROVIDERS": {"planted": broken_account}}
    for step in (flows.start_payment, flows.sync_payment):
        with contextlib.suppress(MultipayError, ValueError):
            step(payment)
        figures.did("plants")
    for message in messages(planted.examples):
        planted.post(reverse("multipay:webhook", args=["planted"]), message)
    words = [*canaries(planted), EMAIL]
    figures.found("leaks", found(iter([("the log", caplog.text)]), words))
    figures.found("leaks", found(tables(), canaries(planted)))


@pytest.mark.django_db
def test_twin_without_the_mask_card_numbers_are_found(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.MULTIPAY = account_settings(scripted=ScriptedProvider)
    monkeypatch.setattr(wishes, "storable", lambda text, limit: text[:limit])
    new_payment(description=f"paid with {PAN}")
    assert found(tables(), [PAN])


# Error reports ------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("broken", [PaymentSnapshot, RefundSnapshot])
def test_an_error_report_shows_nothing_of_it(
    planted: Planted,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
    broken: type[Any],
) -> None:
    """A bug while an answer is read: the frames hold request, answer and account."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a bug of ours")

    payment = planted.payment()
    Payment.objects.filter(pk=payment.pk).update(
        status=PaymentStatus.PAID, captured_minor=payment.amount_minor
    )
    reply = planted.examples.reply
    planted.server.reply = lambda call: replace(
        reply(call), json=spoilt(reply(call).json)
    )
    monkeypatch.setattr(broken, "__init__", fail)
    request = RequestFactory().post("/", HTTP_USER_AGENT="agent")
    hits = []
    for step in (
        lambda: flows.start_payment(
            flows.create_payment(
                provider="planted",
                order_id="1",
                amount=planted.examples.amount,
                buyer=Buyer(email=EMAIL),
            )
        ),
        lambda: flows.sync_payment(payment),
        lambda: flows.refund_payment(payment),
    ):
        try:
            step()
        except MultipayError:
            continue
        except RuntimeError:
            kind, error, trace = sys.exc_info()
            reporter = ExceptionReporter(request, kind, error, trace, is_email=True)
            report = reporter.get_traceback_html() + reporter.get_traceback_text()
            places = iter([("a report", report)])
            hits += found(places, [*canaries(planted), EMAIL])
            figures.did("plants")
    figures.found("leaks", hits)
