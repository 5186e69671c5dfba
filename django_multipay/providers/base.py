"""The contract of every provider: what it is told, what it must answer.

A provider translates. It keeps no state between calls, decides nothing about a
payment and never answers a browser. It is built once per account, is immutable
afterwards and is shared between threads.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from moneyed import Money

from django_multipay import messages, money
from django_multipay.enums import (
    AmountFormat,
    Capability,
    MethodKind,
    WebhookOutcome,
    WebhookTrust,
)
from django_multipay.exceptions import (
    InvalidAmount,
    MultipayError,
    ProviderConfigurationError,
    SignatureMismatch,
    UnsupportedOperation,
)
from django_multipay.http import Breaker, HttpClient
from django_multipay.redaction import frames_of, without_frames

logger = logging.getLogger("django_multipay.providers")

CAPABILITY_METHODS: Mapping[Capability, str] = {
    Capability.FETCH: "fetch_payment",
    Capability.REFRESH_ACTION: "refresh_action",
    Capability.CONFIRM: "confirm_payment",
    Capability.CAPTURE: "capture_payment",
    Capability.VOID: "void_payment",
    Capability.REFUND: "refund_payment",
    Capability.FETCH_REFUND: "fetch_refund",
    Capability.SETTLE: "settle_payment",
    Capability.TOKENS: "charge_token",
    Capability.INSPECT_TOKEN: "inspect_token",
    Capability.DELETE_TOKEN: "delete_token",
    Capability.PLANS: "start_plan",
    Capability.FETCH_PLAN: "fetch_plan",
    Capability.CHANGE_PLAN: "change_plan",
    Capability.CANCEL_PLAN: "cancel_plan",
}
"""Declared capability means overridden method, and the other way round."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One or more secrets: the first signs, all verify. Never printed."""

    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.values or not all(value.strip() for value in self.values):
            raise ValueError("is empty; put the key from the provider's console here")

    @property
    def current(self) -> str:
        """The secret to sign or authenticate with."""
        return self.values[0]

    def __repr__(self) -> str:
        return "Secret(***)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderOptions:
    """Base of every provider's typed ``OPTIONS``; a field with a default is optional.

    Field types: ``str``, ``bool``, ``int``, ``Secret``, ``timedelta`` (seconds in the
    settings), ``tuple[str, ...]``, each of them optionally ``| None``. Metadata keys:
    ``help`` (for the docs table), ``choices``, ``url`` (True: checked as a base URL).
    """

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, alias: str) -> Self:
        """Return typed options.

        `ProviderConfigurationError` lists every unknown, missing, empty or malformed
        option by alias and name, with the remedy.
        """
        values: dict[str, Any] = {}
        problems = list(cls._read(mapping, values))
        if problems:
            raise ProviderConfigurationError(
                "\n".join(
                    f"MULTIPAY['PROVIDERS'][{alias!r}]['OPTIONS']{problem}"
                    for problem in problems
                )
            )
        return cls(**values)

    @classmethod
    def _read(cls, mapping: Mapping[str, Any], values: dict[str, Any]) -> Iterator[str]:
        fields = {field.name: field for field in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        for name in sorted(set(mapping) - set(fields), key=str):
            known = ", ".join(sorted(fields))
            yield f"[{name!r}] is unknown; remove it or use one of: {known}"
        for name, field in fields.items():
            if name in mapping:
                try:
                    values[name] = _convert(mapping[name], hints[name], field.metadata)
                except ValueError as error:
                    yield f"[{name!r}] {error}"
            elif (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            ):
                yield f"[{name!r}] is missing; {field.metadata.get('help', 'add it')}"


def _convert(value: Any, hint: Any, metadata: Mapping[str, Any]) -> Any:
    """Return ``value`` as ``hint`` wants it; ValueError says what is wrong."""
    arguments = typing.get_args(hint)
    if type(None) in arguments:
        if value is None:
            return None
        hint = next(item for item in arguments if item is not type(None))
    converted = _CONVERTERS[hint](value)
    choices = metadata.get("choices")
    if choices and converted not in choices:
        raise ValueError(f"is {value!r}; use one of: {', '.join(map(str, choices))}")
    if metadata.get("url"):
        _check_base_url(converted)
    return converted


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")
    if not value.strip():
        raise ValueError("is empty; give it a value or leave the option out")
    _check_ends(value)
    return value


def _to_secret(value: Any) -> Secret:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(item, str) for item in items
    ):
        raise ValueError("must be text, or a list of texts (the first signs)")
    secret = Secret(tuple(items))
    for item in items:
        _check_ends(item)
    return secret


def _check_ends(text: str) -> None:
    if text != text.strip():
        raise ValueError("begins or ends with a blank or a line break; remove it")


def _to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be True or False, not {type(value).__name__}")
    return value


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {type(value).__name__}")
    return value


def _to_timedelta(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    return timedelta(seconds=_to_int(value))


def _to_texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"must be a list of texts, not {type(value).__name__}")
    return tuple(_to_text(item) for item in value)


_CONVERTERS: Mapping[Any, Callable[[Any], Any]] = {
    str: _to_text,
    bool: _to_bool,
    int: _to_int,
    Secret: _to_secret,
    timedelta: _to_timedelta,
    tuple[str, ...]: _to_texts,
}


def _check_base_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_base = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_base = is_base and parts.port != 0
    except ValueError:
        is_base = False
    if not is_base or re.search(r"[\s\\?#@]", url):
        # A user part holds a password, so the message does not repeat the URL.
        raise ValueError(
            "is not a plain base URL; use one such as 'https://api.example.com'"
        )


def _without_frames(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``verb`` whose errors leave its frames behind.

    They hold requests, answers and keys, which no error report of a site may show.
    """

    @functools.wraps(verb)
    def bare(self: Provider, *args: Any, **kwargs: Any) -> Any:
        try:
            return verb(self, *args, **kwargs)
        except MultipayError as error:
            problem: Exception = error
        except Exception as error:  # noqa: BLE001  (raised again, below)
            problem = error
            logger.error("%s %s: %s", self.alias, verb.__name__, frames_of(error))
        without_frames(problem)
        raise problem

    return bare


class Provider(ABC):
    """One account at one payment provider.

    Every call may raise `ProviderError`; a decline is a result, not an error.
    Amounts are `moneyed.Money`; the provider writes them with `wire_amount`.
    """

    slug: ClassVar[str]
    display_name: ClassVar[str]
    docs_url: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]
    amount_format: AmountFormat
    """Of the class, or set in ``__init__`` where an option decides."""
    webhook_trust: ClassVar[WebhookTrust]
    options_class: ClassVar[type[ProviderOptions]]
    currencies: ClassVar[frozenset[str]]
    """Empty: the provider publishes no list, so it may refuse by itself."""
    exponents: ClassVar[Mapping[str, int]] = {}
    """Currencies whose number of decimals differs from ISO 4217 here."""
    repeatable: ClassVar[frozenset[Capability]] = frozenset()
    """What the provider documents to do once for the same key, however often asked."""
    methods: ClassVar[Sequence[messages.Method]] = ()
    """What a payment may name as its ``method``; the account's contract decides which
    of them it has. One with the code "" describes the provider's own page."""
    takes_saved_methods: ClassVar[bool] = False
    """`start_payment` takes a token: the buyer is there and pays by what they saved."""
    verifies_remotely: ClassVar[bool] = False
    """`verify_webhook` asks the provider, so calls to it are rationed."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("start_payment", *CAPABILITY_METHODS.values()):
            if verb := vars(cls).get(name):
                setattr(cls, name, _without_frames(verb))

    def __init__(self, alias: str, options: ProviderOptions) -> None:
        self.alias = alias
        self.options = options
        self.http = HttpClient(alias, breaker=Breaker(alias))
        self.offered: Sequence[messages.Method] = (self.method(""),)
        """What the payment page offers; the registry takes it from the settings."""

    # Facts about this account --------------------------------------------------

    @property
    def account(self) -> str | None:
        """The merchant account every message must name, or None if none is named."""
        return None

    @property
    def is_live(self) -> bool | None:
        """Live (True) or test (False) where messages say so, else None."""
        return None

    @property
    def health(self) -> messages.Health:
        """What this process last saw of the account."""
        return self.http.breaker.health if self.http.breaker else messages.Health()

    @property
    def is_paused(self) -> bool:
        """Whether a call would be stopped now, unsent, because many before it failed."""
        return self.http.breaker is not None and self.http.breaker.is_paused

    def problems(self) -> Sequence[str]:
        """Return what is wrong with the options beyond their types, as sentences."""
        return ()

    def deploy_problems(self) -> Sequence[str]:
        """Return what must not go live: test hosts, test keys, plain http."""
        return ()

    def can_take(self, amount: Money) -> bool:
        """Say whether a payment of ``amount`` may be started here."""
        return not self.currencies or amount.currency.code in self.currencies

    def method(self, code: str) -> messages.Method:
        """Return the method ``code``; `KeyError` where this provider has none so named.

        The provider's own page ("") is always there.
        """
        known = {method.code: method for method in self.methods}
        if code == "" and code not in known:
            return messages.Method(code="", kind=MethodKind.PAGE)
        return known[code]

    def methods_for(self, amount: Money, country: str = "") -> list[messages.Method]:
        """Return the offered ways to pay ``amount`` for a buyer in ``country``."""
        if not self.can_take(amount):
            return []
        code = amount.currency.code
        return [method for method in self.offered if method.suits(code, country)]

    def needs_refund_account(self, query: messages.PaymentQuery) -> bool:
        """Say whether a refund of this payment must name a bank account."""
        return False

    # A payment's life ----------------------------------------------------------

    @abstractmethod
    def start_payment(
        self, request: messages.PaymentRequest
    ) -> messages.PaymentSnapshot:
        """Open the payment; return a snapshot with the buyer's next action."""

    def fetch_payment(self, query: messages.PaymentQuery) -> messages.PaymentSnapshot:
        """Return what the provider knows now; unknown orders are *pending*."""
        raise self._unsupported(Capability.FETCH)

    def refresh_action(self, query: messages.PaymentQuery) -> messages.PaymentSnapshot:
        """Return a fresh next action, when the code the buyer was shown ran out."""
        raise self._unsupported(Capability.REFRESH_ACTION)

    def confirm_payment(
        self, request: messages.ConfirmRequest
    ) -> messages.PaymentSnapshot:
        """Charge after the buyer was authenticated."""
        raise self._unsupported(Capability.CONFIRM)

    def capture_payment(
        self, request: messages.CaptureRequest
    ) -> messages.PaymentSnapshot:
        """Take money that was authorized."""
        raise self._unsupported(Capability.CAPTURE)

    def void_payment(self, request: messages.VoidRequest) -> messages.PaymentSnapshot:
        """Release an authorization."""
        raise self._unsupported(Capability.VOID)

    def refund_payment(
        self, request: messages.RefundRequest
    ) -> messages.RefundSnapshot:
        """Give captured money back, whole or in part."""
        raise self._unsupported(Capability.REFUND)

    def fetch_refund(self, query: messages.RefundQuery) -> messages.RefundSnapshot:
        """Return what became of a refund; *requested*: the provider never heard of it."""
        raise self._unsupported(Capability.FETCH_REFUND)

    def settle_payment(
        self, request: messages.SettleRequest
    ) -> messages.PaymentSnapshot:
        """Release a payment into settlement."""
        raise self._unsupported(Capability.SETTLE)

    def charge_token(
        self, request: messages.TokenChargeRequest
    ) -> messages.PaymentSnapshot:
        """Charge a saved method; the buyer is not present."""
        raise self._unsupported(Capability.TOKENS)

    def inspect_token(self, reference: str) -> messages.TokenSnapshot:
        """Return what the provider knows about a saved method."""
        raise self._unsupported(Capability.INSPECT_TOKEN)

    def delete_token(self, reference: str) -> None:
        """Delete a saved method at the provider; cannot be undone."""
        raise self._unsupported(Capability.DELETE_TOKEN)

    def start_plan(self, request: messages.PaymentRequest) -> messages.PaymentSnapshot:
        """Register a plan that the provider charges, with its first payment."""
        raise self._unsupported(Capability.PLANS)

    def fetch_plan(self, reference: str) -> messages.PlanSnapshot:
        """Return what the provider knows now about the plan it calls ``reference``."""
        raise self._unsupported(Capability.FETCH_PLAN)

    def change_plan(self, request: messages.PlanChangeRequest) -> messages.PlanSnapshot:
        """Change the amount of a plan that the provider charges."""
        raise self._unsupported(Capability.CHANGE_PLAN)

    def cancel_plan(self, request: messages.PlanCancelRequest) -> messages.PlanSnapshot:
        """End a plan that the provider charges."""
        raise self._unsupported(Capability.CANCEL_PLAN)

    # Inbound -------------------------------------------------------------------

    def identify_return(self, incoming: messages.IncomingRequest) -> str:
        """Return the merchant reference the message is about, or "".

        *Which* payment came back, never *how it went*. `MalformedWebhook` when the
        message cannot be read.
        """
        return ""

    def verify_webhook(self, incoming: messages.IncomingRequest) -> None:
        """Raise `WebhookError` unless the message is authentic.

        The base refuses everything, so that nothing passes by default.
        """
        raise SignatureMismatch(f"{self.alias} accepts no webhooks")

    def parse_webhook(
        self, incoming: messages.IncomingRequest
    ) -> Sequence[messages.ProviderEvent]:
        """Return what the message says; `MalformedWebhook` if it cannot be read."""
        return ()

    def webhook_answer(
        self,
        outcome: WebhookOutcome,
        incoming: messages.IncomingRequest | None = None,
    ) -> messages.WebhookAnswer:
        """Return the answer the provider wants to read.

        ``incoming`` is the message answered, given once it was found authentic.
        """
        status = {
            WebhookOutcome.ACCEPTED: 200,
            WebhookOutcome.DEFERRED: 503,
            WebhookOutcome.REFUSED: 400,
        }[outcome]
        return messages.WebhookAnswer(outcome=outcome, status=status)

    # Given by the base, not overridden -------------------------------------------

    def wire_amount(self, amount: Money) -> str | int | Decimal:
        """Return ``amount`` as this provider writes it."""
        minor = money.to_minor(amount, self.exponents)
        if self.amount_format is AmountFormat.MINOR_INTEGER:
            return minor
        exponent = money.exponent_of(amount.currency.code, self.exponents)
        major = Decimal(minor).scaleb(-exponent)
        return (
            f"{major:f}" if self.amount_format is AmountFormat.MAJOR_STRING else major
        )

    def read_amount(self, value: object, code: str) -> Money:
        """Return the provider's ``value`` in currency ``code`` as Money.

        `InvalidAmount` unless it is an exact amount of that currency.
        """
        currency = money.currency_of(code)
        if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
            raise InvalidAmount(f"amount is a {type(value).__name__}", "amount")
        if isinstance(value, int) and abs(value) > money.MAX_MINOR:
            raise InvalidAmount(f"amount is above {money.MAX_MINOR}", "amount")
        number = money.parse_decimal(str(value))
        if self.amount_format is not AmountFormat.MINOR_INTEGER:
            amount = Money(number, currency)
        elif number == number.to_integral_value():
            amount = money.from_minor(int(number), code, self.exponents)
        else:
            raise InvalidAmount("amount is not in whole minor units", "amount")
        money.to_minor(amount, self.exponents)
        return amount

    def _unsupported(self, capability: Capability) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"{self.display_name} cannot {capability.value.replace('_', ' ')}"
        )
