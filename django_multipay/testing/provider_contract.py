"""What every provider promises, as tests to inherit; bring examples, get questions.

A provider's test module says::

    class TestContract(ProviderContract):
        provider_class = AcmeProvider
        options = {"api_key": "…", "base_url": "…"}

        def reply(self, call): ...      # a provider that works, in a few lines
        def webhook(self, secret): ...  # a genuine message

and inherits the rest. The provider under test talks to a real HTTP server on this
machine; nothing is patched.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import pickle
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, get_args, get_type_hints
from urllib.parse import unquote

import pytest
from moneyed import Money

from django_multipay import money
from django_multipay.enums import (
    Capability,
    PaymentStatus,
    WebhookOutcome,
    WebhookTrust,
)
from django_multipay.exceptions import (
    CredentialsRejected,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    UnexpectedAnswer,
    WebhookError,
)
from django_multipay.http import loads_strict
from django_multipay.messages import (
    Buyer,
    CaptureRequest,
    ConfirmRequest,
    IncomingRequest,
    PaymentQuery,
    PaymentRequest,
    PlanCancelRequest,
    PlanChangeRequest,
    PlanTerms,
    RefundQuery,
    RefundRequest,
    SettleRequest,
    TokenChargeRequest,
    VoidRequest,
    dump_action,
    load_action,
)
from django_multipay.providers.base import CAPABILITY_METHODS, Provider, Secret

# A provider on this machine ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that reached the local server; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return loads_strict(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the local server answers; ``is_lost`` closes the line instead."""

    status: int = 200
    json: Any = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_lost: bool = False


class LocalServer:
    """A real HTTP server whose answers are a function from call to reply."""

    def __init__(self, reply: Callable[[Call], Reply]) -> None:
        self.reply = reply
        self.calls: list[Call] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler_class())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalServer:
        threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.01},
            daemon=True,
        ).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                size = int(self.headers.get("Content-Length", "0"))
                call = Call(
                    method=self.command,
                    path=self.path,
                    headers={name.lower(): text for name, text in self.headers.items()},
                    body=self.rfile.read(size),
                )
                server.calls.append(call)
                reply = server.reply(call)
                self.close_connection = True
                if reply.is_lost:
                    return
                body = reply.body
                if reply.json is not None:
                    body = json.dumps(reply.json).encode()
                self.send_response(reply.status)
                for name, text in reply.headers.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        return Handler


def unused_url() -> str:
    """Return a local address that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# Faults of the line -----------------------------------------------------------------

PAGE = Reply(body=b"<html>We are sorry</html>", headers={"Content-Type": "text/html"})

FAULTS: Mapping[str, tuple[Reply, type[ProviderError], type[ProviderError]]] = {
    # what comes back: the error of a read, the error of a write
    "answer lost": (Reply(is_lost=True), ProviderUnavailable, OutcomeUnknown),
    "not JSON": (PAGE, UnexpectedAnswer, OutcomeUnknown),
    "cut JSON": (Reply(body=b'{"status": "pa'), UnexpectedAnswer, OutcomeUnknown),
    "a JSON list": (Reply(json=[1, 2]), UnexpectedAnswer, OutcomeUnknown),
    "a key twice": (
        Reply(body=b'{"status": 1, "status": 2}'),
        UnexpectedAnswer,
        OutcomeUnknown,
    ),
    "redirect": (
        Reply(status=302, headers={"Location": "/elsewhere"}),
        UnexpectedAnswer,
        OutcomeUnknown,
    ),
    "400": (dataclasses.replace(PAGE, status=400), RequestRejected, RequestRejected),
    "401": (
        dataclasses.replace(PAGE, status=401),
        CredentialsRejected,
        CredentialsRejected,
    ),
    "404": (dataclasses.replace(PAGE, status=404), RequestRejected, RequestRejected),
    "429": (
        dataclasses.replace(PAGE, status=429),
        ProviderUnavailable,
        ProviderUnavailable,
    ),
    "500": (dataclasses.replace(PAGE, status=500), ProviderUnavailable, OutcomeUnknown),
    "503": (dataclasses.replace(PAGE, status=503), ProviderUnavailable, OutcomeUnknown),
}
"""Answers that no provider documents, and what each leaves us knowing."""

GARBAGE: Mapping[str, bytes] = {
    "empty": b"",
    "blank": b" \r\n",
    "NUL": b"a=\x00&b=%00",
    "not UTF-8": b"\xff\xfe\x00",
    "null": b"null",
    "JSON list": b"[1]",
    "JSON object": b'{"a": 1}',
    "deep JSON": b"[" * 5000,
    "repeated fields": b"id=1&id=2&status=paid&status=failed",
    "many fields": b"&".join(b"f%d=1" % number for number in range(5000)),
    "large": b"a=" + b"x" * 300_000,
    "broken escapes": b"a=%&b=%zz&c=%ff",
}
"""Bodies that nobody signed."""


# Every verb, with an example --------------------------------------------------------

START = "start_payment"
KEY = "8d1f0a5e-63b1-4b0c-9c6a-0d7f5b1e2a3c"
REFUND_KEY = "2b9c4f71-5d08-4a1e-8a37-c1f6e0d9b542"


class Examples:
    """A message for every verb; override what the provider wants to have otherwise."""

    amount: ClassVar[Money] = Money(Decimal("26.30"), "USD")

    def payment_request(self) -> PaymentRequest:
        """Return a request to start the payment; override to add what is needed."""
        return PaymentRequest(
            key=KEY,
            merchant_reference="MP-CONTRACT-1",
            order_id="1001",
            amount=self.amount,
            return_url="https://shop.example/payments/return/signed/",
            status_url="https://shop.example/payments/status/signed/",
            description="Order 1001",
            buyer=Buyer(name="Canary Buyer", email="canary@buyer.example"),
            locale="en",
        )

    def query(self) -> PaymentQuery:
        """Return the question about the payment of `payment_request`."""
        return PaymentQuery(
            merchant_reference="MP-CONTRACT-1",
            provider_reference="",
            amount=self.amount,
            locale="en",
        )

    def known_query(self) -> PaymentQuery:
        """Return the same once the provider has named payment and transaction."""
        query = self.query()
        return replace(
            query,
            provider_reference=query.provider_reference or "payment-1",
            transaction_reference="transaction-1",
        )

    def confirm_request(self) -> ConfirmRequest:
        """Return a request to charge the payment, whose buyer was authenticated."""
        return ConfirmRequest(
            key=KEY,
            query=self.known_query(),
            authentication_reference="authentication-1",
        )

    def capture_request(self) -> CaptureRequest:
        """Return a request to take the whole authorization."""
        return CaptureRequest(key=KEY, query=self.known_query(), amount=self.amount)

    def void_request(self) -> VoidRequest:
        """Return a request to release the authorization."""
        return VoidRequest(key=KEY, query=self.known_query())

    def refund_request(self) -> RefundRequest:
        """Return a request to give the whole payment back."""
        return RefundRequest(
            key=REFUND_KEY,
            query=self.known_query(),
            merchant_reference="RF-CONTRACT-1",
            amount=self.amount,
            refundable=self.amount,
            reason="damaged",
        )

    def refund_query(self) -> RefundQuery:
        """Return the question about the refund of `refund_request`."""
        return RefundQuery(
            query=self.known_query(),
            merchant_reference="RF-CONTRACT-1",
            provider_reference="refund-1",
            amount=self.amount,
        )

    def settle_request(self) -> SettleRequest:
        """Return a request to release the payment into settlement."""
        return SettleRequest(key=KEY, query=self.known_query())

    def token_reference(self) -> str:
        """Return what the provider calls a saved method."""
        return "canary-token@buyer.example"

    def token_charge(self) -> TokenChargeRequest:
        """Return a request to charge `token_reference` without the buyer."""
        request = self.payment_request()
        return TokenChargeRequest(
            key=KEY,
            merchant_reference="MP-CONTRACT-2",
            token=self.token_reference(),
            amount=self.amount,
            description=request.description,
            buyer=request.buyer,
            locale=request.locale,
        )

    def plan_request(self) -> PaymentRequest:
        """Return a request for a payment that also registers a monthly plan."""
        terms = PlanTerms(
            amount=self.amount,
            interval_months=1,
            start_on=(datetime.now(UTC) + timedelta(days=40)).date(),
            notice_url="https://shop.example/payments/plan/signed/",
        )
        return replace(self.payment_request(), plan=terms)

    def plan_reference(self) -> str:
        """Return what the provider calls a plan."""
        return "plan-1"

    def plan_change(self) -> PlanChangeRequest:
        """Return a request to charge another amount from now on."""
        return PlanChangeRequest(
            key=KEY,
            provider_reference=self.plan_reference(),
            amount=self.amount + self.amount,
        )

    def plan_cancel(self) -> PlanCancelRequest:
        """Return a request to end the plan at once."""
        return PlanCancelRequest(key=KEY, provider_reference=self.plan_reference())

    def message(self, verb: str) -> Any:
        """Return the example that the method called ``verb`` takes."""
        examples: Mapping[str, Callable[[], object]] = {
            START: self.payment_request,
            "fetch_payment": self.query,
            "refresh_action": self.known_query,
            "confirm_payment": self.confirm_request,
            "capture_payment": self.capture_request,
            "void_payment": self.void_request,
            "refund_payment": self.refund_request,
            "fetch_refund": self.refund_query,
            "settle_payment": self.settle_request,
            "charge_token": self.token_charge,
            "inspect_token": self.token_reference,
            "delete_token": self.token_reference,
            "start_plan": self.plan_request,
            "fetch_plan": self.plan_reference,
            "change_plan": self.plan_change,
            "cancel_plan": self.plan_cancel,
        }
        return examples[verb]()

    def names(self, verb: str) -> set[str]:
        """Return what makes a repetition of the write ``verb`` recognizable.

        Our key, our reference of what is made, or, where the same call twice comes to
        the same (a deleted token, a canceled plan), the provider's name of it.
        """
        message = self.message(verb)
        if isinstance(message, str):
            return {message}
        if isinstance(message, (PlanChangeRequest, PlanCancelRequest)):
            return {message.key, message.provider_reference}
        if isinstance(message, (PaymentRequest, RefundRequest, TokenChargeRequest)):
            return {message.key, message.merchant_reference}
        return {message.key, message.query.merchant_reference}


# The promises -----------------------------------------------------------------------


class ProviderContract(Examples):
    """Inherit, bring the examples, get the tests.

    ``options`` are those of an account that works; ``base_url`` is replaced by the
    local server's. ``reads`` are the verbs that change nothing at the provider, so
    that a lost answer means "nothing happened"; ``start_is_read`` adds the start.
    """

    provider_class: ClassVar[type[Provider]]
    options: ClassVar[Mapping[str, Any]]
    reads: ClassVar[frozenset[str]] = frozenset(
        {"fetch_payment", "fetch_refund", "inspect_token", "fetch_plan"}
    )
    start_is_read: ClassVar[bool] = False
    nameless: ClassVar[Mapping[str, str]] = {}
    """Writes that cannot carry a key or a reference of ours, with the reason."""
    webhook_secret: ClassVar[str] = ""
    """The secret the genuine message is signed with."""
    webhook_secret_option: ClassVar[str] = ""
    """The option that holds it."""
    webhook_changes: ClassVar[Sequence[tuple[bytes, bytes]]] = ()
    """Pieces of a genuine body and what a forger would put in their place."""
    webhook_tolerance: ClassVar[timedelta | None] = None
    """How old a genuine message may be; None: messages do not say when they left."""

    # Examples to bring --------------------------------------------------------------

    def reply(self, call: Call) -> Reply:
        """Answer ``call`` as a provider where the payment of `query` is paid."""
        raise NotImplementedError

    def unknown_status(self, call: Call) -> Reply:
        """Answer the inquiry with a status word that nobody documented."""
        raise NotImplementedError

    def webhook(self, secret: str) -> IncomingRequest:
        """Return a message about the payment of `query`, signed with ``secret``."""
        raise NotImplementedError

    def unsigned_webhook(self) -> IncomingRequest:
        """Return the same message without its signature."""
        raise NotImplementedError

    def webhook_at(self, secret: str, moment: datetime) -> IncomingRequest:
        """Return the message of `webhook` as it was signed at ``moment``."""
        raise NotImplementedError

    # Fixtures -----------------------------------------------------------------------

    @pytest.fixture
    def server(self) -> Iterator[LocalServer]:
        """A provider on this machine that works until a test says otherwise."""
        with LocalServer(self.reply) as server:
            yield server

    @pytest.fixture
    def provider(self, server: LocalServer) -> Provider:
        """The provider under test, talking to ``server``."""
        return self.build(base_url=server.url)

    def build(self, **changes: Any) -> Provider:
        """Return the provider with ``options``, some of them changed."""
        options = {**self.options, **changes}
        return self.provider_class(
            "cards_eu",
            self.provider_class.options_class.from_mapping(options, alias="cards_eu"),
        )

    # What it is ---------------------------------------------------------------------

    def test_the_slug_is_the_name_of_the_module(self) -> None:
        assert self.provider_class.slug == self.provider_class.__module__.split(".")[-1]
        assert self.provider_class.display_name
        assert self.provider_class.docs_url.startswith("https://")

    @pytest.mark.parametrize("capability", CAPABILITY_METHODS)
    def test_a_capability_is_declared_exactly_when_its_method_is_there(
        self, capability: Capability
    ) -> None:
        method = CAPABILITY_METHODS[capability]
        is_overridden = getattr(self.provider_class, method) is not getattr(
            Provider, method
        )
        assert (capability in self.provider_class.capabilities) == is_overridden

    def test_a_part_can_be_done_only_where_the_whole_can(self) -> None:
        capabilities = self.provider_class.capabilities
        for part, whole in (
            (Capability.PARTIAL_CAPTURE, Capability.CAPTURE),
            (Capability.PARTIAL_REFUND, Capability.REFUND),
        ):
            assert part not in capabilities or whole in capabilities

    def test_there_is_a_proof_of_payment(self) -> None:
        assert (
            Capability.FETCH in self.provider_class.capabilities
            or self.provider_class.webhook_trust
            in {WebhookTrust.SIGNED, WebhookTrust.SHARED_SECRET}
        )

    def test_webhooks_are_checked_exactly_when_they_are_trusted(self) -> None:
        is_overridden = (
            self.provider_class.verify_webhook is not Provider.verify_webhook
        )
        assert is_overridden == (
            self.provider_class.webhook_trust is not WebhookTrust.NONE
        )

    def test_its_currencies_exist(self) -> None:
        for code in self.provider_class.currencies:
            assert money.currency_of(code).code == code

    def test_it_takes_the_example_and_nothing_in_a_foreign_currency(self) -> None:
        provider = self.build()
        assert provider.can_take(self.amount)
        if self.provider_class.currencies:
            assert not provider.can_take(Money(1, "XTS"))

    # Options ------------------------------------------------------------------------

    def test_the_example_options_have_no_problems(self) -> None:
        assert list(self.build().problems()) == []

    def test_every_option_explains_itself(self) -> None:
        for option in dataclasses.fields(self.provider_class.options_class):
            assert option.metadata.get("help"), option.name

    def test_an_unknown_option_names_the_alias_and_the_remedy(self) -> None:
        with pytest.raises(ProviderConfigurationError) as caught:
            self.build(no_such_option="x")
        message = str(caught.value)
        assert message.startswith(
            "MULTIPAY['PROVIDERS']['cards_eu']['OPTIONS']['no_such_option']"
        )
        assert "remove it" in message

    def test_a_missing_option_is_named(self) -> None:
        options_class = self.provider_class.options_class
        required = [
            option.name
            for option in dataclasses.fields(options_class)
            if option.default is dataclasses.MISSING
            and option.default_factory is dataclasses.MISSING
        ]
        with pytest.raises(ProviderConfigurationError) as caught:
            options_class.from_mapping({}, alias="cards_eu")
        lines = str(caught.value).splitlines()
        assert len(lines) == len(required) > 0
        for name, line in zip(required, lines, strict=True):
            assert f"['cards_eu']['OPTIONS'][{name!r}] is missing" in line

    @pytest.mark.parametrize("value", ["", "   ", [], [""], None, 7])
    def test_no_secret_may_be_empty(self, value: object) -> None:
        for name in self._secret_options():
            hint = get_type_hints(self.provider_class.options_class)[name]
            if value is None and type(None) in get_args(hint):
                continue
            with pytest.raises(ProviderConfigurationError, match=name):
                self.build(**{name: value})

    def test_no_secret_shows(self) -> None:
        provider = self.build()
        text = f"{provider!r} {provider.options!r} {provider.options}"
        for secret in self._secrets():
            assert secret not in text

    # Starting -----------------------------------------------------------------------

    def test_a_start_says_where_the_buyer_goes_next(self, provider: Provider) -> None:
        snapshot = provider.start_payment(self.payment_request())
        assert snapshot.status is PaymentStatus.PENDING
        assert snapshot.captured is None
        assert snapshot.next_action is not None
        stored = json.loads(json.dumps(dump_action(snapshot.next_action)))
        assert load_action(stored) == load_action(dump_action(snapshot.next_action))
        assert pickle.loads(pickle.dumps(snapshot)) == snapshot  # noqa: S301

    def test_a_start_names_the_payment_on_the_wire(
        self, provider: Provider, server: LocalServer
    ) -> None:
        request = self.payment_request()
        provider.start_payment(request)
        first = server.calls[0]
        wire = f"{first.path} {dict(first.headers)} {first.body.decode()}"
        assert request.key in wire or request.merchant_reference in wire

    def test_it_remembers_nothing(self, provider: Provider) -> None:
        before = {name: copy.copy(value) for name, value in vars(provider).items()}
        before.pop("http")
        provider.start_payment(self.payment_request())
        after = {
            name: value for name, value in vars(provider).items() if name != "http"
        }
        assert after == before

    # Asking -------------------------------------------------------------------------

    def test_paid_is_captured_and_names_what_the_core_compares(
        self, provider: Provider
    ) -> None:
        self._needs(Capability.FETCH)
        query = self.query()
        snapshot = provider.fetch_payment(query)
        assert snapshot.status is PaymentStatus.PAID
        assert snapshot.captured == snapshot.amount == query.amount
        assert snapshot.provider_reference
        assert snapshot.account == provider.account
        assert snapshot.merchant_reference == query.merchant_reference
        assert pickle.loads(pickle.dumps(snapshot)) == snapshot  # noqa: S301

    def test_an_unknown_status_is_pending_and_logged(
        self,
        provider: Provider,
        server: LocalServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self._needs(Capability.FETCH)
        server.reply = self.unknown_status
        snapshot = provider.fetch_payment(self.query())
        assert snapshot.status is PaymentStatus.PENDING
        assert snapshot.captured is None
        assert any(record.levelno >= logging.WARNING for record in caplog.records)

    # The line -----------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A test that names a ``verb`` runs with each one the provider declares."""
        if "verb" in metafunc.fixturenames:
            declared = self.provider_class.capabilities
            can = [
                CAPABILITY_METHODS[item]
                for item in CAPABILITY_METHODS
                if item in declared
            ]
            metafunc.parametrize("verb", [START, *can])

    def test_without_a_connection_nothing_happened(self, verb: str) -> None:
        call = self._verb(self.build(base_url=unused_url()), verb)
        with pytest.raises(ProviderUnavailable):
            call()

    def test_a_repeated_write_can_be_recognized(
        self, provider: Provider, server: LocalServer, verb: str
    ) -> None:
        call = self._verb(provider, verb)
        if self._is_read(verb):
            pytest.skip(f"{verb} changes nothing at {provider.display_name}")
        if verb in self.nameless:
            pytest.skip(f"{provider.display_name}: {self.nameless[verb]}")
        self._dry_run(call)
        sent = [item for item in server.calls if item.method != "GET"][-1]
        wire = unquote(f"{sent.path} {dict(sent.headers)} {sent.body.decode()}")
        assert any(name in wire for name in self.names(verb))

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_of_the_line_is_the_right_error_and_keeps_secrets(
        self,
        provider: Provider,
        server: LocalServer,
        caplog: pytest.LogCaptureFixture,
        verb: str,
        fault: str,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        call = self._verb(provider, verb)
        reply, error_of_read, error_of_write = FAULTS[fault]
        self._dry_run(call)
        # Whatever a verb asks before it acts is answered well until its turn comes.
        for number, sent in enumerate(list(server.calls)):
            is_read = self._is_read(verb) or sent.method == "GET"
            server.reply = self._well_until(number, reply)
            with pytest.raises(ProviderError) as caught:
                call()
            error = caught.value
            assert type(error) is (error_of_read if is_read else error_of_write)
            assert error.provider == "cards_eu"
            assert error.operation
            assert pickle.loads(pickle.dumps(error)).args == error.args  # noqa: S301
            ours = [
                record.getMessage()
                for record in caplog.records
                if record.name.startswith("django_multipay")
            ]
            told = unquote(f"{error} {error!r} {error.__cause__!r} {ours}")
            # urllib3 logs paths at level DEBUG, and a token may be a part of one.
            assert self.token_reference() not in told
            for secret in (*self._secrets(), *self._personal_data()):
                assert secret not in told + unquote(caplog.text)

    # Amounts ------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("code", "text"),
        [("KRW", "132000"), ("USD", "26.30"), ("KWD", "4.125"), ("USDT", "1.000001")],
    )
    def test_an_amount_survives_the_round_trip(self, code: str, text: str) -> None:
        provider = self.build()
        currency = money.currency_of(code)
        for number in (Decimal(text), Decimal(money.MAX_MINOR).scaleb(-6)):
            amount = Money(number.quantize(Decimal(text)), currency)
            wire = provider.wire_amount(amount)
            written = f"{wire:f}" if isinstance(wire, Decimal) else json.dumps(wire)
            assert "e" not in written.lower()
            assert provider.read_amount(loads_strict(written.encode()), code) == amount

    # Webhooks -----------------------------------------------------------------------

    def test_a_genuine_message_is_believed(self, provider: Provider) -> None:
        self._needs_signatures()
        message = self.webhook(self.webhook_secret)
        provider.verify_webhook(message)
        events = provider.parse_webhook(message)
        assert [event.snapshot.merchant_reference for event in events] == [
            self.query().merchant_reference
        ]
        assert [event.snapshot.account for event in events] == [provider.account]
        assert pickle.loads(pickle.dumps(events)) == events  # noqa: S301

    def test_a_changed_message_is_refused(self, provider: Provider) -> None:
        self._needs_signatures()
        message = self.webhook(self.webhook_secret)
        assert self.webhook_changes
        for piece, forged in self.webhook_changes:
            assert piece in message.body
            changed = message.body.replace(piece, forged)
            with pytest.raises(WebhookError):
                provider.verify_webhook(dataclasses.replace(message, body=changed))

    def test_a_message_without_signature_is_refused_without_a_call(
        self, provider: Provider, server: LocalServer
    ) -> None:
        self._needs_signatures()
        with pytest.raises(WebhookError):
            provider.verify_webhook(self.unsigned_webhook())
        assert server.calls == []

    @pytest.mark.parametrize("secret", ["somebody-else", " "])
    def test_a_message_with_a_foreign_secret_is_refused(
        self, provider: Provider, secret: str
    ) -> None:
        self._needs_signatures()
        with pytest.raises(WebhookError):
            provider.verify_webhook(self.webhook(secret))

    def test_the_older_of_two_secrets_still_works(self, server: LocalServer) -> None:
        self._needs_signatures()
        if not self.webhook_secret_option:
            pytest.skip("its messages are not signed with a secret of the options")
        secrets = ["the-new-secret-of-the-account", self.webhook_secret]
        provider = self.build(
            **{"base_url": server.url, self.webhook_secret_option: secrets}
        )
        provider.verify_webhook(self.webhook(self.webhook_secret))

    @pytest.mark.parametrize("direction", [-1, 1], ids=["too old", "from the future"])
    def test_a_message_out_of_its_time_is_refused(
        self, provider: Provider, direction: int
    ) -> None:
        self._needs_signatures()
        tolerance = self.webhook_tolerance
        if tolerance is None:
            pytest.skip(
                f"messages of {provider.display_name} do not say when they left"
            )
        now, margin = datetime.now(UTC), timedelta(seconds=30)
        just_in_time = now + direction * (tolerance - margin)
        provider.verify_webhook(self.webhook_at(self.webhook_secret, just_in_time))
        out_of_time = now + direction * (tolerance + margin)
        with pytest.raises(WebhookError):
            provider.verify_webhook(self.webhook_at(self.webhook_secret, out_of_time))

    @pytest.mark.parametrize("name", GARBAGE)
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_garbage_is_refused_without_a_call(
        self, provider: Provider, server: LocalServer, method: str, name: str
    ) -> None:
        body = GARBAGE[name]
        is_post = method == "POST"
        message = IncomingRequest(
            method=method,
            body=body if is_post else b"",
            query_string="" if is_post else body.decode("latin-1"),
            content_type="application/x-www-form-urlencoded",
        )
        with pytest.raises(WebhookError):
            provider.verify_webhook(message)
        assert server.calls == []
        for read in (provider.identify_return, provider.parse_webhook):
            try:
                read(message)
            except WebhookError:
                pass

    @pytest.mark.parametrize("outcome", WebhookOutcome)
    def test_an_answer_is_a_success_only_if_the_message_was_stored(
        self, outcome: WebhookOutcome
    ) -> None:
        answer = self.build().webhook_answer(outcome)
        assert answer.outcome is outcome
        assert (200 <= answer.status < 300) == (outcome is WebhookOutcome.ACCEPTED)

    # Shortcuts ----------------------------------------------------------------------

    def _verb(self, provider: Provider, verb: str) -> Callable[[], object]:
        """Return the call of ``verb`` with its example."""
        return lambda: getattr(provider, verb)(self.message(verb))

    def _dry_run(self, call: Callable[[], object]) -> None:
        """Let the server see what ``call`` sends, whatever comes of it."""
        with contextlib.suppress(ProviderError):
            call()

    def _well_until(self, number: int, reply: Reply) -> Callable[[Call], Reply]:
        """Answer so many calls well, and all that follow with ``reply``."""
        left = [self.reply] * number
        return lambda call: left.pop()(call) if left else reply

    def _is_read(self, verb: str) -> bool:
        is_start = verb in {START, "start_plan"}
        return verb in self.reads or (is_start and self.start_is_read)

    def _personal_data(self) -> list[str]:
        buyer = self.payment_request().buyer
        return [buyer.name, buyer.email]

    def _secret_options(self) -> list[str]:
        hints = get_type_hints(self.provider_class.options_class)
        return [
            name for name, hint in hints.items() if Secret in (hint, *get_args(hint))
        ]

    def _secrets(self) -> list[str]:
        values = [self.options.get(name) for name in self._secret_options()]
        texts = [value for value in values if isinstance(value, str)]
        return [*texts, *filter(None, [self.webhook_secret])]

    def _needs(self, capability: Capability) -> None:
        if capability not in self.provider_class.capabilities:
            words = capability.value.replace("_", " ")
            pytest.skip(f"{self.provider_class.display_name} cannot {words}")

    def _needs_signatures(self) -> None:
        if self.provider_class.webhook_trust not in {
            WebhookTrust.SIGNED,
            WebhookTrust.SHARED_SECRET,
        }:
            pytest.skip(f"{self.provider_class.display_name} signs no webhooks")
