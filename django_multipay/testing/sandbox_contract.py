"""What every provider class and its sandbox must come to together, as tests to inherit.

Both are written from the gateway's documents, neither from the other, and here they
meet over real HTTP. A provider's test module says::

    class TestSandbox(SandboxContract):
        provider_class = AcmeProvider
        options = {"api_key": "…"}
        base_path = "/acme"

and inherits the rest. What a provider cannot do is skipped with its name.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

import pytest
from moneyed import Money

from django_multipay import money
from django_multipay.enums import (
    Capability,
    CaptureMode,
    PaymentStatus,
    PlanStatus,
    RefundStatus,
    WebhookTrust,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    InvalidOperation,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    UnexpectedAnswer,
    WebhookError,
)
from django_multipay.http import Limits
from django_multipay.messages import (
    Address,
    Buyer,
    CaptureRequest,
    ConfirmRequest,
    IncomingRequest,
    LineItem,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    PlanCancelRequest,
    PlanChangeRequest,
    PlanTerms,
    ProviderEvent,
    RefundQuery,
    RefundRequest,
    RefundSnapshot,
    SettleRequest,
    TokenChargeRequest,
    VoidRequest,
)
from django_multipay.providers.base import Provider
from django_multipay.testing.plugin import Sandbox

# The other side ---------------------------------------------------------------------

IMPATIENT = Limits(
    read=timedelta(milliseconds=400),
    total=timedelta(milliseconds=800),
    body_bytes=64 * 1024,
)
"""Limits for one call that is meant to run into them."""


class Desk:
    """The sandbox's control desk as far as one gateway is concerned."""

    def __init__(self, sandbox: Sandbox, slug: str) -> None:
        self.sandbox = sandbox
        self.slug = slug
        self.path = f"/_control/{slug}"

    def books(self, reference: str) -> dict[str, Any]:
        """What the gateway knows of the payment with our ``reference``."""
        entry: dict[str, Any] = self.sandbox.get(f"{self.path}/payments/{reference}")
        return entry

    def count(self, reference: str) -> int:
        """How many payments the gateway has under our ``reference``."""
        payments = self.sandbox.get(f"{self.path}/payments")
        return sum(payment["reference"] == reference for payment in payments)

    def decide(self, reference: str, outcome: str, **choices: object) -> dict[str, Any]:
        """Press a button of the hosted page; where the browser goes from there."""
        wish = {"outcome": outcome, **choices}
        answer: dict[str, Any] = self.sandbox.post(
            f"{self.path}/payments/{reference}/outcome", wish
        )
        return answer

    def finish_refund(self, reference: str, refund: str, outcome: str) -> None:
        """Decide a refund that is under way."""
        path = f"{self.path}/payments/{reference}/refunds/{refund}/outcome"
        self.sandbox.post(path, {"outcome": outcome})

    def set(self, settings: Mapping[str, object]) -> None:
        """Change the gateway's switches."""
        self.sandbox.post("/_control/settings", {self.slug: dict(settings)})

    def break_line(self, operation: str, fault: Mapping[str, object]) -> None:
        """Arm a fault for the next call of ``operation``."""
        self.sandbox.post(
            "/_control/faults",
            {"provider": self.slug, "operation": operation, **fault},
        )

    def requests(self, operation: str) -> list[dict[str, Any]]:
        """The calls of ``operation`` that came in, oldest first."""
        entries = self.sandbox.get(f"/_control/requests?provider={self.slug}")
        return [entry for entry in entries if entry["operation"] == operation]

    def messages(self, reference: str) -> list[IncomingRequest]:
        """The gateway's own messages about a payment, oldest first; no returns."""
        entries = self.sandbox.get(f"/_control/callbacks?provider={self.slug}")
        return [
            incoming(entry["body"], entry["headers"])
            for entry in entries
            if entry["order_id"] == reference and entry["kind"] != "return"
        ]

    def message(self, reference: str, **changes: object) -> IncomingRequest:
        """A genuine message with some of its fields changed; it is not sent."""
        path = f"{self.path}/payments/{reference}/callback"
        entry = self.sandbox.post(path, {"send": False, **changes})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return incoming(entry["body"], entry.get("headers", headers))


def incoming(body: str, headers: Mapping[str, str]) -> IncomingRequest:
    """Return a message as a shop's server would have it."""
    names = {name.lower(): text for name, text in headers.items()}
    return IncomingRequest(
        method="POST",
        body=body.encode(),
        content_type=names.get("content-type", ""),
        headers=names,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFault:
    """A fault and what it leaves us knowing after a read and after a write."""

    json: Mapping[str, object]
    after_read: type[ProviderError] = ProviderUnavailable
    is_beyond_limits: bool = False


LINE_FAULTS: Mapping[str, LineFault] = {
    # A read is repeated once by itself, so both tries fail.
    "drop_before": LineFault(json={"fault": "drop_before", "times": 2}),
    "drop_after": LineFault(json={"fault": "drop_after", "times": 2}),
    "truncate": LineFault(json={"fault": "truncate", "times": 2}),
    "500": LineFault(json={"fault": "status", "status": 500}),
    "503": LineFault(json={"fault": "status", "status": 503, "retry_after": "7"}),
    "html": LineFault(json={"fault": "html"}, after_read=UnexpectedAnswer),
    "garbage": LineFault(json={"fault": "garbage"}, after_read=UnexpectedAnswer),
    "redirect": LineFault(json={"fault": "redirect"}, after_read=UnexpectedAnswer),
    "latency": LineFault(
        json={"fault": "latency", "seconds": 2}, is_beyond_limits=True
    ),
    "slow_body": LineFault(
        json={"fault": "slow_body", "seconds": 20}, is_beyond_limits=True
    ),
    "huge_body": LineFault(
        json={"fault": "huge_body", "bytes": 1 << 18}, is_beyond_limits=True
    ),
}
"""What can go wrong between a call and its answer, by name."""

FAULTED: Mapping[str, Capability] = {
    "inquiry_fault": Capability.FETCH,
    "refund_fault": Capability.REFUND,
    "charge_fault": Capability.TOKENS,
}
"""Argument of a test that runs with every fault → what the provider must be able to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """A payment whose money was taken, and the question that finds it."""

    request: PaymentRequest
    query: PaymentQuery
    snapshot: PaymentSnapshot


# The promises -----------------------------------------------------------------------


class SandboxContract:
    """Inherit, name an account of the sandbox, get the tests."""

    provider_class: ClassVar[type[Provider]]
    options: ClassVar[Mapping[str, Any]]
    """Of an account that the sandbox knows, without ``base_url``."""
    foreign_options: ClassVar[Mapping[str, Any]]
    """The same of another account."""
    wrong_options: ClassVar[Mapping[str, Any]]
    """Credentials that the sandbox does not know."""
    base_path: ClassVar[str] = ""
    amount: ClassVar[Money] = Money(Decimal("26.30"), "USD")
    written: ClassVar[str] = "26.30"
    """``amount`` as this gateway counts it, so that a wrong unit is no agreement."""
    operations: ClassVar[Mapping[str, str]]
    """Verb → the sandbox's name of the call that does it."""
    outcomes: ClassVar[
        Mapping[str, tuple[PaymentStatus | None, PaymentStatus | None]]
    ] = {
        "approve": (PaymentStatus.PAID, PaymentStatus.PAID),
        "decline": (PaymentStatus.FAILED, PaymentStatus.FAILED),
        "cancel": (PaymentStatus.CANCELED, PaymentStatus.CANCELED),
        "expire": (PaymentStatus.EXPIRED, PaymentStatus.EXPIRED),
    }
    """Outcome of the hosted page → what the inquiry says and what the message says;
    None: nothing is said. An outcome that the gateway does not have is left out."""
    settings: ClassVar[Mapping[str, object]] = {}
    """Switches of the sandbox that make it this account's gateway."""
    forgery: ClassVar[Mapping[str, object]] = {}
    """Switches with which its messages are signed wrongly."""
    start_is_read: ClassVar[bool] = False
    repeated_start: ClassVar[str] = "same"
    """What a start with a known reference gets: the *same* payment, a *refusal*, or
    *another* page for the same reference, when the address of the first was lost."""
    no_wrong_amount: ClassVar[str] = ""
    """Why the inquiry cannot be made to name a wrong amount."""
    saving: ClassVar[Mapping[str, object]] = {}
    """What a buyer chooses on the page to have the method saved."""
    declined_charge: ClassVar[Mapping[str, object]] = {}
    """Switches with which a saved method is declined."""

    # Examples to bring --------------------------------------------------------------

    def request(self, number: int = 1, **changes: Any) -> PaymentRequest:
        """Return a request to start payment ``number`` of a test."""
        values: dict[str, Any] = {
            "key": f"6a0f5f0e-1a55-4f0b-9d53-7c8e2b1d000{number}",
            "merchant_reference": f"MP-SANDBOX-{number}",
            "order_id": f"100{number}",
            "amount": self.amount,
            "return_url": "https://shop.example/payments/return/signed/",
            "status_url": "https://shop.example/payments/status/signed/",
            "cancel_url": "https://shop.example/payments/cancel/signed/",
            "description": f"Order 100{number}",
            "buyer": Buyer(name="Hong Gil Dong", email="hong@shop.example"),
            "customer_id": "customer-7",
            "locale": "en",
        }
        return PaymentRequest(**values | changes)

    def authentication_request(self) -> PaymentRequest:
        """Return a request that only authenticates the buyer."""
        raise NotImplementedError

    def authentication_reference(self, snapshot: PaymentSnapshot) -> str:
        """Return what names the authentication of ``snapshot``."""
        return snapshot.provider_reference

    def plan_request(self) -> PaymentRequest:
        """Return a request for a payment that registers a monthly plan."""
        start_on = (datetime.now(UTC) + timedelta(days=40)).date()
        terms = PlanTerms(amount=self.amount, interval_months=1, start_on=start_on)
        return self.request(plan=terms)

    # Fixtures -----------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test with every fault; with one, to be skipped, where it cannot be."""
        for name in FAULTED.keys() & set(metafunc.fixturenames):
            can = FAULTED[name] in self.provider_class.capabilities
            metafunc.parametrize(name, list(LINE_FAULTS)[: None if can else 1])

    @pytest.fixture
    def desk(self, multipay_sandbox: Sandbox) -> Desk:
        """The gateway's control desk; books are empty."""
        desk = Desk(multipay_sandbox, self.provider_class.slug)
        if self.settings:
            desk.set(self.settings)
        return desk

    @pytest.fixture
    def provider(self, desk: Desk) -> Provider:
        """The provider under test, talking to the sandbox."""
        return self.build(desk)

    def build(self, desk: Desk, **changes: Any) -> Provider:
        """Return the provider with ``options``, some of them changed."""
        base_url = f"{desk.sandbox.url}{self.base_path}"
        options = {**self.options, "base_url": base_url, **changes}
        return self.provider_class(
            "cards_eu",
            self.provider_class.options_class.from_mapping(options, alias="cards_eu"),
        )

    # Start --------------------------------------------------------------------------

    def test_a_started_payment_stands_in_the_books(
        self, desk: Desk, provider: Provider
    ) -> None:
        request = self.request()
        snapshot = provider.start_payment(request)
        assert snapshot.status is PaymentStatus.PENDING
        assert snapshot.next_action is not None
        entry = desk.books(request.merchant_reference)
        assert Decimal(str(entry["amount"])) == Decimal(self.written)
        assert self.money(provider, entry, "amount") == request.amount
        assert entry["charges"] == 0

    def test_our_key_or_reference_is_in_the_call(
        self, desk: Desk, provider: Provider
    ) -> None:
        request = self.request()
        provider.start_payment(request)
        (call,) = desk.requests(self.operations["start_payment"])
        wire = f"{call['path']} {call['headers']} {call['body']}"
        assert request.key in wire or request.merchant_reference in wire

    def test_unknown_credentials_are_named_as_the_reason(self, desk: Desk) -> None:
        provider = self.build(desk, **self.wrong_options)
        with pytest.raises(CredentialsRejected):
            provider.start_payment(self.request())

    # Orders -------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("code", "text"),
        [("KRW", "132000"), ("USD", "26.30"), ("KWD", "4.125"), ("USDT", "1.000001")],
    )
    def test_an_amount_means_the_same_on_both_sides(
        self, desk: Desk, provider: Provider, code: str, text: str
    ) -> None:
        amount = Money(Decimal(text), money.currency_of(code))
        if not provider.can_take(amount):
            pytest.skip(f"{provider.display_name} takes no {code}")
        try:
            paid = self.pay(desk, provider, self.request(amount=amount))
        except RequestRejected:
            # Without a published list the gateway refuses by itself.
            assert not provider.currencies
            pytest.skip(f"the sandbox's {provider.display_name} refuses {code}")
        entry = desk.books(paid.request.merchant_reference)
        assert self.money(provider, entry, "amount") == amount
        assert paid.snapshot.captured == amount

    def test_an_order_has_lines_and_letters_of_all_kinds(
        self, desk: Desk, provider: Provider
    ) -> None:
        item = self.part_of(self.amount)
        rest = self.amount - item - item
        gift = self.part_of(item)
        request = self.request(
            description="홍차 & “Größe” <b>10%</b> = +1 🫖",
            buyer=Buyer(
                name="홍길동",
                email="hong+tea@shop.example",
                phone="+82 10-1234-5678",
                country="KR",
                address=Address(
                    first_name="길동",
                    last_name="홍",
                    street="Main Street 1",
                    city="Seoul",
                    state="Seoul",
                    postal_code="04524",
                    country="KR",
                ),
            ),
            items=[
                LineItem(name="홍차", quantity=2, unit_price=item),
                LineItem(name="Shipping", unit_price=rest + gift, is_surcharge=True),
                LineItem(name="Discount", unit_price=-gift, is_surcharge=True),
            ],
            is_mobile=True,
            locale="ko-KR",
        )
        assert self.pay(desk, provider, request).snapshot.status is PaymentStatus.PAID

    def test_an_order_can_do_with_little(self, desk: Desk, provider: Provider) -> None:
        request = self.request(description="", cancel_url="", customer_id="", locale="")
        assert self.pay(desk, provider, request).snapshot.status is PaymentStatus.PAID

    # Outcomes -----------------------------------------------------------------------

    @pytest.mark.parametrize("outcome", ["approve", "decline", "cancel", "expire"])
    def test_the_inquiry_says_what_the_buyer_decided(
        self, desk: Desk, provider: Provider, outcome: str
    ) -> None:
        self.needs(provider, Capability.FETCH)
        expected = self.expected(provider, outcome)[0]
        request = self.request()
        query = self.query(request, provider.start_payment(request))
        assert provider.fetch_payment(query).status is PaymentStatus.PENDING
        desk.decide(request.merchant_reference, outcome)
        snapshot = provider.fetch_payment(query)
        assert snapshot.status is expected
        self.check(provider, desk, request, snapshot)

    @pytest.mark.parametrize("outcome", ["approve", "decline", "cancel", "expire"])
    def test_the_message_says_what_the_buyer_decided(
        self, desk: Desk, provider: Provider, outcome: str
    ) -> None:
        self.needs_messages(provider)
        expected = self.expected(provider, outcome)[1]
        request = self.request()
        provider.start_payment(request)
        desk.decide(request.merchant_reference, outcome)
        told = [
            event.snapshot
            for event in self.events(desk, provider, request.merchant_reference)
            if event.snapshot.status is not PaymentStatus.PENDING
        ]
        if expected is None:
            assert not told
            return
        assert {snapshot.status for snapshot in told} == {expected}
        self.check(provider, desk, request, told[-1])

    def test_a_hint_leads_to_the_payment_and_proves_nothing(
        self, desk: Desk, provider: Provider
    ) -> None:
        if provider.webhook_trust is not WebhookTrust.HINT:
            pytest.skip(f"{provider.display_name} sends no hints")
        request = self.request()
        started = provider.start_payment(request)
        desk.decide(request.merchant_reference, "approve")
        message = desk.messages(request.merchant_reference)[-1]
        provider.verify_webhook(message)
        (event,) = provider.parse_webhook(message)
        assert event.snapshot.status is PaymentStatus.PENDING
        assert event.snapshot.captured is None
        assert event.snapshot.provider_reference == started.provider_reference

    @pytest.mark.parametrize("outcome", ["approve", "decline", "cancel"])
    def test_the_return_is_to_the_shop_and_names_no_other_payment(
        self, desk: Desk, provider: Provider, outcome: str
    ) -> None:
        self.expected(provider, outcome)
        request = self.request()
        provider.start_payment(request)
        answer = desk.decide(request.merchant_reference, outcome)
        url = answer["return_url"]
        if not url:
            pytest.skip(f"{provider.display_name} sends no buyer back after {outcome}")
        assert url.startswith((request.return_url, request.cancel_url))
        assert provider.identify_return(returned(answer)) in {
            "",
            request.merchant_reference,
        }

    def test_an_unknown_status_word_is_pending_and_logged(
        self, desk: Desk, provider: Provider, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk.set({"status_word": "half-done"})
        request = self.request()
        query = self.query(request, provider.start_payment(request))
        desk.decide(request.merchant_reference, "approve")
        snapshot = self.truth(desk, provider, query)
        assert snapshot.status is PaymentStatus.PENDING
        assert snapshot.captured is None
        assert any(record.levelno >= logging.WARNING for record in caplog.records)

    # The line -----------------------------------------------------------------------

    @pytest.mark.parametrize("name", LINE_FAULTS)
    def test_a_start_whose_answer_is_spoilt_can_be_repeated(
        self, desk: Desk, provider: Provider, name: str
    ) -> None:
        request = self.request()
        self.spoil(
            desk,
            provider,
            "start_payment",
            request,
            name,
            is_read=self.start_is_read,
        )
        started = PaymentSnapshot(status=PaymentStatus.PENDING)
        try:
            started = provider.start_payment(request)
        except RequestRejected:
            assert self.repeated_start == "refusal"
        is_alone = desk.count(request.merchant_reference) == 1
        assert is_alone or self.repeated_start == "another"
        desk.decide(request.merchant_reference, "approve")
        snapshot = self.truth(desk, provider, self.query(request, started))
        assert snapshot.status is PaymentStatus.PAID
        assert desk.books(request.merchant_reference)["charges"] == 1

    def test_an_inquiry_whose_answer_is_spoilt_says_nothing(
        self, desk: Desk, provider: Provider, inquiry_fault: str
    ) -> None:
        self.needs(provider, Capability.FETCH)
        paid = self.pay(desk, provider)
        self.spoil(
            desk, provider, "fetch_payment", paid.query, inquiry_fault, is_read=True
        )
        assert provider.fetch_payment(paid.query) == paid.snapshot

    def test_a_wrong_amount_is_seen(self, desk: Desk, provider: Provider) -> None:
        self.needs(provider, Capability.FETCH)
        if self.no_wrong_amount:
            pytest.skip(f"{provider.display_name}: {self.no_wrong_amount}")
        paid = self.pay(desk, provider)
        operation = self.operations["fetch_payment"]
        desk.break_line(operation, {"fault": "wrong_amount"})
        snapshot = provider.fetch_payment(paid.query)
        assert {snapshot.amount, snapshot.captured} != {paid.request.amount}

    # Messages -----------------------------------------------------------------------

    def test_a_message_twice_says_the_same_twice(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs_messages(provider)
        paid = self.pay(desk, provider)
        reference = paid.request.merchant_reference
        first = self.events(desk, provider, reference)
        assert self.events(desk, provider, reference) == first
        (again,) = self.read(provider, desk.message(reference))
        told = [
            event.snapshot
            for event in first
            if event.snapshot.status is PaymentStatus.PAID
        ]
        for snapshot in told:
            assert snapshot.status is again.snapshot.status
            assert snapshot.captured == again.snapshot.captured
            assert snapshot.provider_reference == again.snapshot.provider_reference

    def test_a_message_that_is_signed_wrongly_is_refused(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs_messages(provider)
        if not self.forgery:
            pytest.skip(f"the sandbox's {provider.display_name} signs always well")
        request = self.request()
        provider.start_payment(request)
        desk.set(self.forgery)
        desk.decide(request.merchant_reference, "approve")
        messages = desk.messages(request.merchant_reference)
        assert messages
        for message in messages:
            with pytest.raises(WebhookError):
                provider.verify_webhook(message)

    def test_a_message_that_was_changed_on_the_way_is_refused(
        self, desk: Desk, provider: Provider
    ) -> None:
        if provider.webhook_trust is not WebhookTrust.SIGNED:
            pytest.skip(f"{provider.display_name} signs no messages")
        paid = self.pay(desk, provider)
        reference = paid.request.merchant_reference
        for message in desk.messages(reference):
            changed = message.body.replace(reference.encode(), b"MP-SANDBOX-2")
            assert changed != message.body
            with pytest.raises(WebhookError):
                provider.verify_webhook(replace(message, body=changed))

    def test_a_message_of_another_account_is_refused(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs_messages(provider)
        theirs = self.pay(desk, self.build(desk, **self.foreign_options))
        messages = desk.messages(theirs.request.merchant_reference)
        assert messages
        for message in messages:
            with pytest.raises(WebhookError):
                provider.verify_webhook(message)

    def test_a_payment_of_another_account_is_not_ours(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.FETCH)
        theirs = self.pay(desk, self.build(desk, **self.foreign_options))
        try:
            snapshot = provider.fetch_payment(theirs.query)
        except (CredentialsRejected, RequestRejected):
            return
        assert snapshot.status is PaymentStatus.PENDING
        assert snapshot.captured is None

    # Authorizations -----------------------------------------------------------------

    def test_an_authorization_is_captured_once(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.CAPTURE)
        paid = self.authorize(desk, provider)
        request = CaptureRequest(
            key="capture-1", query=paid.query, amount=paid.request.amount
        )
        snapshot = provider.capture_payment(request)
        assert snapshot.status is PaymentStatus.PAID
        assert snapshot.captured == paid.request.amount
        assert self.truth(desk, provider, paid.query).status is PaymentStatus.PAID
        assert desk.books(paid.request.merchant_reference)["charges"] == 1

    def test_a_capture_whose_answer_is_lost_happens_once(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.CAPTURE)
        paid = self.authorize(desk, provider)
        request = CaptureRequest(
            key="capture-1", query=paid.query, amount=paid.request.amount
        )
        self.spoil(desk, provider, "capture_payment", request, "drop_after")
        assert self.truth(desk, provider, paid.query).status is PaymentStatus.PAID
        with contextlib.suppress(RequestRejected):
            snapshot = provider.capture_payment(request)
            assert snapshot.status is PaymentStatus.PAID
        assert desk.books(paid.request.merchant_reference)["charges"] == 1

    @pytest.mark.parametrize("name", ["", "drop_before", "drop_after"])
    def test_an_authorization_is_released(
        self, desk: Desk, provider: Provider, name: str
    ) -> None:
        self.needs(provider, Capability.VOID)
        paid = self.authorize(desk, provider)
        request = VoidRequest(key="void-1", query=paid.query)
        if name:
            self.spoil(desk, provider, "void_payment", request, name)
        snapshot = provider.void_payment(request)
        assert snapshot.status is PaymentStatus.CANCELED
        assert snapshot.captured is None
        assert desk.books(paid.request.merchant_reference)["charges"] == 0

    def test_an_authenticated_buyer_is_charged_once(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.CONFIRM)
        asked = self.authentication_request()
        query = self.query(asked, provider.start_payment(asked))
        desk.decide(asked.merchant_reference, "approve")
        (reference,) = {
            self.authentication_reference(snapshot)
            for snapshot in self.told(desk, provider, query)
            if snapshot.status is PaymentStatus.AUTHENTICATED
        }
        request = ConfirmRequest(
            key="confirm-1", query=query, authentication_reference=reference
        )
        self.spoil(desk, provider, "confirm_payment", request, "drop_after")
        with contextlib.suppress(RequestRejected):
            assert provider.confirm_payment(request).status is PaymentStatus.PAID
        snapshot = provider.fetch_payment(query)
        assert snapshot.status is PaymentStatus.PAID
        self.check(provider, desk, asked, snapshot)

    def test_a_payment_is_released_into_settlement(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.SETTLE)
        paid = self.pay(desk, provider)
        snapshot = provider.settle_payment(
            SettleRequest(key="settle-1", query=paid.query)
        )
        assert snapshot.status is PaymentStatus.PAID
        assert desk.books(paid.request.merchant_reference)["charges"] == 1

    # Refunds ------------------------------------------------------------------------

    def test_the_whole_payment_goes_back(self, desk: Desk, provider: Provider) -> None:
        self.needs(provider, Capability.REFUND)
        paid = self.pay(desk, provider)
        request = self.refund(paid, paid.request.amount)
        snapshot = self.settled(provider, request, provider.refund_payment(request))
        assert snapshot.status is RefundStatus.SUCCEEDED
        self.check_refunds(desk, provider, paid, paid.request.amount, count=1)
        (refund,) = desk.books(paid.request.merchant_reference)["refunds"]
        assert refund["reference"] == request.merchant_reference

    def test_the_payment_goes_back_in_parts(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.PARTIAL_REFUND)
        paid = self.pay(desk, provider)
        part = self.part_of(paid.request.amount)
        rest = paid.request.amount - part
        first = self.refund(paid, part)
        second = self.refund(paid, rest, number=2, refundable=rest)
        for request in (first, second):
            snapshot = self.settled(provider, request, provider.refund_payment(request))
            assert snapshot.status is RefundStatus.SUCCEEDED
        self.check_refunds(desk, provider, paid, paid.request.amount, count=2)

    def test_no_more_goes_back_than_was_paid(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.PARTIAL_REFUND)
        paid = self.pay(desk, provider)
        part = self.part_of(paid.request.amount)
        first = self.refund(paid, part)
        self.settled(provider, first, provider.refund_payment(first))
        left = paid.request.amount - part
        # The shop's own sums are wrong, so the gateway has the last word.
        request = self.refund(paid, paid.request.amount, number=2, refundable=left)
        with contextlib.suppress(RequestRejected, InvalidOperation):
            snapshot = provider.refund_payment(request)
            assert snapshot.status is RefundStatus.FAILED
        self.check_refunds(desk, provider, paid, part, count=1)

    @pytest.mark.parametrize("outcome", ["succeed", "fail"])
    def test_a_message_about_a_refund_says_which_and_how(
        self, desk: Desk, provider: Provider, outcome: str
    ) -> None:
        self.needs(provider, Capability.REFUND)
        self.needs_messages(provider)
        paid = self.pay(desk, provider)
        desk.set({"refund_outcome": outcome})
        request = self.refund(paid, self.part_of(paid.request.amount))
        provider.refund_payment(request)
        reference = paid.request.merchant_reference
        events = self.events(desk, provider, reference)
        told = [event.refund for event in events if event.refund]
        if not told:
            pytest.skip(f"{provider.display_name} sends no message about a refund")
        is_good = outcome == "succeed"
        expected = RefundStatus.SUCCEEDED if is_good else RefundStatus.FAILED
        assert told[-1].status is expected
        assert told[-1].amount == request.amount
        assert {refund.merchant_reference for refund in told} == {
            request.merchant_reference
        }

    @pytest.mark.parametrize("outcome", ["succeed", "fail"])
    def test_a_refund_that_takes_its_time_is_followed_to_its_end(
        self, desk: Desk, provider: Provider, outcome: str
    ) -> None:
        self.needs(provider, Capability.FETCH_REFUND)
        paid = self.pay(desk, provider)
        desk.set({"refund_outcome": "pending"})
        request = self.refund(paid, paid.request.amount)
        first = provider.refund_payment(request)
        assert first.status is RefundStatus.PENDING
        query = self.refund_query(request, first)
        assert provider.fetch_refund(query).status is RefundStatus.PENDING
        desk.finish_refund(
            paid.request.merchant_reference, request.merchant_reference, outcome
        )
        is_good = outcome == "succeed"
        expected = RefundStatus.SUCCEEDED if is_good else RefundStatus.FAILED
        assert provider.fetch_refund(query).status is expected
        given = paid.request.amount if is_good else paid.request.amount * 0
        self.check_refunds(desk, provider, paid, given, count=int(is_good))

    def test_a_refund_that_fails_is_a_result(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.REFUND)
        paid = self.pay(desk, provider)
        desk.set({"refund_outcome": "fail"})
        request = self.refund(paid, paid.request.amount)
        snapshot = self.settled(provider, request, provider.refund_payment(request))
        assert snapshot.status is RefundStatus.FAILED
        assert snapshot.decline is not None
        self.check_refunds(desk, provider, paid, paid.request.amount * 0, count=0)

    def test_a_refund_whose_answer_is_spoilt_happens_once(
        self, desk: Desk, provider: Provider, refund_fault: str
    ) -> None:
        self.needs(provider, Capability.REFUND)
        paid = self.pay(desk, provider)
        request = self.refund(paid, paid.request.amount)
        self.spoil(desk, provider, "refund_payment", request, refund_fault)
        if not self.is_refund_known(provider, request):
            provider.refund_payment(request)
        self.check_refunds(desk, provider, paid, paid.request.amount, count=1)

    # Saved methods ------------------------------------------------------------------

    def test_a_saved_method_is_charged_without_the_buyer(
        self, desk: Desk, provider: Provider
    ) -> None:
        charge = self.saved(desk, provider)
        snapshot = provider.charge_token(charge)
        self.check_charge(desk, provider, charge, snapshot)

    def test_a_charge_whose_answer_is_spoilt_happens_once(
        self, desk: Desk, provider: Provider, charge_fault: str
    ) -> None:
        charge = self.saved(desk, provider)
        self.spoil(desk, provider, "charge_token", charge, charge_fault)
        with contextlib.suppress(RequestRejected, OutcomeUnknown):
            snapshot = provider.charge_token(charge)
            assert snapshot.status in {PaymentStatus.PAID, PaymentStatus.PENDING}
        self.check_charge(
            desk, provider, charge, PaymentSnapshot(status=PaymentStatus.PENDING)
        )

    def test_a_declined_charge_is_a_result(
        self, desk: Desk, provider: Provider
    ) -> None:
        charge = self.saved(desk, provider)
        if not self.declined_charge:
            pytest.skip(f"the sandbox's {provider.display_name} declines no charge")
        desk.set(self.declined_charge)
        snapshot = provider.charge_token(charge)
        assert snapshot.status is PaymentStatus.FAILED
        assert snapshot.decline is not None
        assert desk.books(charge.merchant_reference)["charges"] == 0

    def test_a_saved_method_of_another_account_is_refused(
        self, desk: Desk, provider: Provider
    ) -> None:
        charge = self.saved(desk, self.build(desk, **self.foreign_options))
        with contextlib.suppress(RequestRejected):
            snapshot = provider.charge_token(charge)
            assert snapshot.status is PaymentStatus.FAILED

    def test_a_saved_method_can_be_looked_at(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.INSPECT_TOKEN)
        charge = self.saved(desk, provider)
        snapshot = provider.inspect_token(charge.token)
        assert snapshot.reference == charge.token
        assert snapshot == provider.inspect_token(charge.token)

    def test_a_deleted_method_is_charged_no_more(
        self, desk: Desk, provider: Provider
    ) -> None:
        self.needs(provider, Capability.DELETE_TOKEN)
        charge = self.saved(desk, provider)
        provider.delete_token(charge.token)
        with contextlib.suppress(RequestRejected):
            snapshot = provider.charge_token(charge)
            assert snapshot.status is PaymentStatus.FAILED
        with pytest.raises(RequestRejected):
            provider.inspect_token(charge.token)

    # Plans --------------------------------------------------------------------------

    def test_a_plan_is_registered_with_its_first_payment(
        self, desk: Desk, provider: Provider
    ) -> None:
        reference = self.plan(desk, provider)
        if Capability.FETCH_PLAN in provider.capabilities:
            assert provider.fetch_plan(reference).status is PlanStatus.ACTIVE

    def test_a_plan_gets_another_amount(self, desk: Desk, provider: Provider) -> None:
        self.needs(provider, Capability.CHANGE_PLAN)
        reference = self.plan(desk, provider)
        snapshot = provider.change_plan(
            PlanChangeRequest(
                key="change-1",
                provider_reference=reference,
                amount=self.part_of(self.amount),
            )
        )
        assert snapshot.reference == reference
        assert snapshot.status is PlanStatus.ACTIVE

    def test_a_plan_ends(self, desk: Desk, provider: Provider) -> None:
        self.needs(provider, Capability.CANCEL_PLAN)
        reference = self.plan(desk, provider)
        snapshot = provider.cancel_plan(
            PlanCancelRequest(key="cancel-1", provider_reference=reference)
        )
        assert snapshot.reference == reference
        assert snapshot.status is PlanStatus.CANCELED
        if Capability.FETCH_PLAN in provider.capabilities:
            assert provider.fetch_plan(reference).status is PlanStatus.CANCELED

    # Steps --------------------------------------------------------------------------

    def query(self, request: PaymentRequest, started: PaymentSnapshot) -> PaymentQuery:
        """Return the question about a payment as the core would ask it."""
        return PaymentQuery(
            merchant_reference=request.merchant_reference,
            provider_reference=started.provider_reference,
            amount=request.amount,
            method=started.method or request.method,
            customer_id=request.customer_id,
            buyer_email=request.buyer.email,
            locale=request.locale,
        )

    def truth(
        self, desk: Desk, provider: Provider, query: PaymentQuery
    ) -> PaymentSnapshot:
        """Return what proves a payment here: the inquiry, or else the last message."""
        if Capability.FETCH in provider.capabilities:
            return provider.fetch_payment(query)
        return self.events(desk, provider, query.merchant_reference)[-1].snapshot

    def events(
        self, desk: Desk, provider: Provider, reference: str
    ) -> list[ProviderEvent]:
        """Return what the gateway's messages about a payment say, all authentic."""
        messages = desk.messages(reference)
        return [event for message in messages for event in self.read(provider, message)]

    def read(
        self, provider: Provider, message: IncomingRequest
    ) -> Sequence[ProviderEvent]:
        """Return what a message says once it was found authentic."""
        provider.verify_webhook(message)
        return provider.parse_webhook(message)

    def pay(
        self,
        desk: Desk,
        provider: Provider,
        request: PaymentRequest | None = None,
        expected: PaymentStatus = PaymentStatus.PAID,
        choices: Mapping[str, object] | None = None,
    ) -> Paid:
        """Start a payment and have the buyer approve it with these ``choices``."""
        request = request or self.request()
        start = provider.start_plan if request.plan else provider.start_payment
        query = self.query(request, start(request))
        desk.decide(request.merchant_reference, "approve", **(choices or {}))
        snapshot = self.truth(desk, provider, query)
        assert snapshot.status is expected
        query = replace(
            query,
            provider_reference=query.provider_reference or snapshot.provider_reference,
            transaction_reference=snapshot.provider_reference,
        )
        # A provider may now ask by another way, which must come to the same.
        return Paid(
            request=request, query=query, snapshot=self.truth(desk, provider, query)
        )

    def authorize(self, desk: Desk, provider: Provider) -> Paid:
        """Start a payment whose money is only reserved."""
        return self.pay(
            desk,
            provider,
            self.request(capture_mode=CaptureMode.MANUAL),
            expected=PaymentStatus.AUTHORIZED,
        )

    def refund(
        self,
        paid: Paid,
        amount: Money,
        number: int = 1,
        refundable: Money | None = None,
    ) -> RefundRequest:
        """Return a request to give ``amount`` of a payment back."""
        return RefundRequest(
            key=f"0d4f0c52-5a2e-4d3b-8a63-55f1c7ab000{number}",
            query=paid.query,
            merchant_reference=f"RF-SANDBOX-{number}",
            amount=amount,
            refundable=refundable or paid.request.amount,
            reason="damaged",
        )

    def refund_query(
        self, request: RefundRequest, snapshot: RefundSnapshot | None = None
    ) -> RefundQuery:
        """Return the question about a refund; without a snapshot only we named it."""
        return RefundQuery(
            query=request.query,
            merchant_reference=request.merchant_reference,
            provider_reference=snapshot.provider_reference if snapshot else "",
            amount=request.amount,
        )

    def settled(
        self, provider: Provider, request: RefundRequest, snapshot: RefundSnapshot
    ) -> RefundSnapshot:
        """Return the end of a refund that needs no further decision."""
        if snapshot.status is RefundStatus.PENDING:
            return provider.fetch_refund(self.refund_query(request, snapshot))
        return snapshot

    def is_refund_known(self, provider: Provider, request: RefundRequest) -> bool:
        """Say whether a refund with a lost answer must not be asked for again."""
        if Capability.REFUND in provider.repeatable:
            return False
        if Capability.FETCH_REFUND in provider.capabilities:
            found = provider.fetch_refund(self.refund_query(request))
            return found.status is not RefundStatus.REQUESTED
        refunded = provider.fetch_payment(request.query).refunded
        return refunded is not None and refunded.amount > 0

    def saved(self, desk: Desk, provider: Provider) -> TokenChargeRequest:
        """Save a method with a payment; return a request to charge it."""
        self.needs(provider, Capability.TOKENS)
        request = self.request(save_token=True)
        paid = self.pay(desk, provider, request, choices=self.saving)
        told = self.told(desk, provider, paid.query)
        (token,) = {item.token.reference for item in told if item.token}
        return TokenChargeRequest(
            key="9b1cf2a4-77ce-4b7a-9a3f-3e8d5c6f0002",
            merchant_reference="MP-SANDBOX-2",
            token=token,
            amount=request.amount,
            description="Order 1002",
            buyer=request.buyer,
            locale=request.locale,
        )

    def plan(self, desk: Desk, provider: Provider) -> str:
        """Register a plan; return what the provider calls it."""
        self.needs(provider, Capability.PLANS)
        paid = self.pay(desk, provider, self.plan_request())
        told = self.told(desk, provider, paid.query)
        (reference,) = {item.plan.reference for item in told if item.plan}
        return reference

    def told(
        self, desk: Desk, provider: Provider, query: PaymentQuery
    ) -> list[PaymentSnapshot]:
        """Return all that is said about a payment, by the inquiry and by messages."""
        truth = self.truth(desk, provider, query)
        if provider.webhook_trust is not WebhookTrust.SIGNED:
            return [truth]
        events = self.events(desk, provider, query.merchant_reference)
        return [truth, *(event.snapshot for event in events)]

    def part_of(self, amount: Money) -> Money:
        """Return a part of ``amount``, in whole minor units."""
        code = amount.currency.code
        exponents = self.provider_class.exponents
        third = money.to_minor(amount, exponents) // 3
        return money.from_minor(third, code, exponents)

    def spoil(
        self,
        desk: Desk,
        provider: Provider,
        verb: str,
        message: object,
        name: str,
        *,
        is_read: bool = False,
    ) -> None:
        """Call ``verb`` over a line with this fault; the error must be the right one."""
        fault = LINE_FAULTS[name]
        times = fault.json.get("times", 1) if is_read else 1
        desk.break_line(self.operations[verb], {**fault.json, "times": times})
        patient = provider.http.limits
        if fault.is_beyond_limits:
            provider.http.limits = IMPATIENT
        expected = fault.after_read if is_read else OutcomeUnknown
        with pytest.raises(ProviderError) as caught:
            getattr(provider, verb)(message)
        provider.http.limits = patient
        assert type(caught.value) is expected

    # Shortcuts ----------------------------------------------------------------------

    def expected(
        self, provider: Provider, outcome: str
    ) -> tuple[PaymentStatus | None, PaymentStatus | None]:
        """Return what is said after ``outcome``; skip what the gateway has not."""
        if outcome not in self.outcomes:
            pytest.skip(f"{provider.display_name} has no outcome {outcome}")
        return self.outcomes[outcome]

    def check(
        self,
        provider: Provider,
        desk: Desk,
        request: PaymentRequest,
        snapshot: PaymentSnapshot,
    ) -> None:
        """What the core compares is there, and money is where the status says."""
        if snapshot.status is not PaymentStatus.PENDING:
            assert snapshot.account == provider.account
        assert snapshot.is_live is not True
        assert snapshot.merchant_reference in {None, request.merchant_reference}
        assert snapshot.amount in (None, request.amount)
        is_paid = snapshot.status is PaymentStatus.PAID
        charges = desk.books(request.merchant_reference)["charges"]
        assert charges == int(is_paid)
        if is_paid:
            assert snapshot.merchant_reference == request.merchant_reference
            assert snapshot.captured == request.amount
            assert snapshot.provider_reference
        else:
            assert snapshot.captured is None or not snapshot.captured.amount
        if snapshot.status is PaymentStatus.FAILED:
            assert snapshot.decline is not None

    def check_refunds(
        self, desk: Desk, provider: Provider, paid: Paid, given: Money, *, count: int
    ) -> None:
        """The books show so much money given back, by so many refunds."""
        entry = desk.books(paid.request.merchant_reference)
        assert self.money(provider, entry, "refunded") == given
        amounts = [
            self.money(provider, {**entry, **refund}, "amount")
            for refund in entry["refunds"]
            if "fail" not in refund["status"].lower()
        ]
        assert len(amounts) == count
        assert sum(amounts, given * 0) == given
        assert entry["charges"] == 1

    def check_charge(
        self,
        desk: Desk,
        provider: Provider,
        charge: TokenChargeRequest,
        snapshot: PaymentSnapshot,
    ) -> None:
        """The saved method was charged once, by the answer or by the inquiry."""
        if snapshot.status is not PaymentStatus.PAID:
            request = self.request(2, merchant_reference=charge.merchant_reference)
            snapshot = self.truth(desk, provider, self.query(request, snapshot))
        assert snapshot.status is PaymentStatus.PAID
        assert snapshot.captured == charge.amount
        assert snapshot.merchant_reference == charge.merchant_reference
        assert desk.count(charge.merchant_reference) == 1
        assert desk.books(charge.merchant_reference)["charges"] == 1

    def money(self, provider: Provider, entry: Mapping[str, Any], name: str) -> Money:
        """Return an amount of the books."""
        amount = Decimal(str(entry[name]))
        return provider.read_amount(amount, entry["currency"].upper())

    def needs(self, provider: Provider, capability: Capability) -> None:
        """Skip what the provider cannot do."""
        if capability not in provider.capabilities:
            words = capability.value.replace("_", " ")
            pytest.skip(f"{provider.display_name} cannot {words}")

    def needs_messages(self, provider: Provider) -> None:
        """Skip where messages prove nothing."""
        if provider.webhook_trust not in {
            WebhookTrust.SIGNED,
            WebhookTrust.SHARED_SECRET,
        }:
            pytest.skip(f"{provider.display_name} signs no webhooks")


def returned(answer: Mapping[str, Any]) -> IncomingRequest:
    """Return the browser's request to the shop that the gateway causes."""
    is_post = answer["return_method"] == "POST"
    return IncomingRequest(
        method=answer["return_method"],
        body=urlencode(answer["return_fields"]).encode() if is_post else b"",
        query_string=urlsplit(answer["return_url"]).query,
        content_type="application/x-www-form-urlencoded" if is_post else "",
        is_by_buyer=True,
    )
