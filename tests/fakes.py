"""A provider without a wire: what it answers is what its options say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from django_multipay.enums import (
    AmountFormat,
    Capability,
    MethodKind,
    PaymentStatus,
    WebhookTrust,
)
from django_multipay.exceptions import (
    MultipayError,
    OutcomeUnknown,
    ProviderUnavailable,
    RequestRejected,
)
from django_multipay.messages import (
    Method,
    NextAction,
    PaymentQuery,
    PaymentRequest,
    PaymentSnapshot,
    PostForm,
    ProviderScript,
    QRCode,
    Redirect,
)
from django_multipay.providers.base import Provider, ProviderOptions

HOST = "https://pay.example"

NEVER = datetime(2100, 1, 2, 3, 4, tzinfo=UTC)

ACTIONS: Mapping[str, NextAction] = {
    "redirect": Redirect(f"{HOST}/page"),
    "post_form": PostForm(f"{HOST}/form", {"items": "two", "memo": '"><script>'}),
    "script": ProviderScript(
        src=f"{HOST}/sdk.js",
        call="FAKE.pay",
        payload={"memo": "</script><script>alert(1)</script>"},
        requires=[f"{HOST}/first.js"],
    ),
    "popup": ProviderScript(
        src=f"{HOST}/sdk.js",
        call="FAKE.pay",
        payload={"display": "P"},
        opens_popup=True,
    ),
    "code": QRCode(
        data="fake:pay?to=<b>",
        deep_link="fake://pay",
        fallback_url=f"{HOST}/page",
        expires_at=NEVER,
    ),
    "image": QRCode(image=f"{HOST}/code.png", deep_link="javascript:alert(1)"),
}

METHODS = (
    Method(code="card", kind=MethodKind.CARD),
    Method(code="kakao", kind=MethodKind.WALLET, name="KakaoPay"),
    Method(code="code", kind=MethodKind.QR, name="Scanpay"),
    Method(
        code="store", kind=MethodKind.CONVENIENCE_STORE, countries=frozenset({"JP"})
    ),
    Method(code="bank", kind=MethodKind.BANK_TRANSFER, currencies=frozenset({"KRW"})),
)

NOTHING = "nothing"
"""The answer of a provider that needs nothing from the buyer."""

ERRORS: Mapping[str, type[MultipayError]] = {
    "unavailable": ProviderUnavailable,
    "unknown": OutcomeUnknown,
    "rejected": RequestRejected,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeOptions(ProviderOptions):
    """``answer`` is a key of `ACTIONS` or `ERRORS`, or `NOTHING`."""

    answer: str = "redirect"


class FakeProvider(Provider):
    """Starts everything, knows nothing, and counts how often it was asked."""

    slug = "fake"
    display_name = "Fakepay"
    docs_url = HOST
    capabilities = frozenset({Capability.FETCH, Capability.REFRESH_ACTION})
    amount_format = AmountFormat.MINOR_INTEGER
    webhook_trust = WebhookTrust.NONE
    options_class = FakeOptions
    currencies = frozenset({"USD", "KRW"})
    methods = METHODS

    options: FakeOptions
    starts: ClassVar[list[PaymentRequest]] = []
    refreshes: ClassVar[list[PaymentQuery]] = []

    def start_payment(self, request: PaymentRequest) -> PaymentSnapshot:
        """Remember the request and give the answer of the options."""
        self.starts.append(request)
        if error := ERRORS.get(self.options.answer):
            raise error("no", self.alias)
        return PaymentSnapshot(
            status=PaymentStatus.PENDING, next_action=ACTIONS.get(self.options.answer)
        )

    def fetch_payment(self, query: PaymentQuery) -> PaymentSnapshot:
        """Say that nothing is known yet."""
        return PaymentSnapshot(status=PaymentStatus.PENDING)

    def refresh_action(self, query: PaymentQuery) -> PaymentSnapshot:
        """Return another code, or the error of the options."""
        self.refreshes.append(query)
        if error := ERRORS.get(self.options.answer):
            raise error("no", self.alias)
        return PaymentSnapshot(
            status=PaymentStatus.PENDING,
            amount=query.amount,
            next_action=QRCode(data="fake:new", expires_at=NEVER),
        )


class OtherProvider(FakeProvider):
    """A second name to choose from."""

    slug = "other"
    display_name = "Other & Sons"


def accounts(**answers: str) -> dict[str, Any]:
    """Return ``MULTIPAY`` with one fake account for each alias and its answer.

    An answer may be followed by the account's methods: "redirect: card kakao".
    """
    return {
        "PROVIDERS": {
            alias: {
                "BACKEND": "tests.fakes."
                + ("OtherProvider" if alias == "other" else "FakeProvider"),
                "OPTIONS": {"answer": answer},
                **({"METHODS": methods.split()} if methods else {}),
            }
            for alias, words in answers.items()
            for answer, _, methods in [words.partition(":")]
        }
    }
