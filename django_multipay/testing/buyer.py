"""What do a buyer and a provider do to the shop under test?

They speak to the shop through Django's test client, so no server has to run. The
messages of the sandbox wait in its books, and are carried to the shop one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast, get_args
from urllib.parse import urlencode, urlsplit

import httpx
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_multipay.enums import WebhookTrust
from django_multipay.flows import start_payment
from django_multipay.models import Payment
from django_multipay.registry import registry
from django_multipay.testing.plugin import Sandbox

Outcome = Literal[
    "paid",
    "declined",
    "canceled",
    "expired",
    "pending",
    "awaiting_funds",
    "in_review",
    "underpaid",
    "overpaid",
]
"""What a buyer makes of a payment; no provider has all of them."""

BUTTONS: Mapping[str, Sequence[str]] = {
    # The others are for a payment that was pending, or that waits for a deposit.
    "paid": ("approve", "settle", "deposit"),
    "declined": ("decline",),
    "canceled": ("cancel",),
    "expired": ("expire",),
    "pending": ("pending",),
    "awaiting_funds": ("register",),
    "in_review": ("review",),
    "underpaid": ("underpay",),
    "overpaid": ("overpay",),
}
"""Outcome to the buttons of hosted pages that lead there; the first that can, does."""

FORGERIES = ("tamper_fgkey", "tamper_signature", "wrong_secret")
"""Switches of the sandbox with which a provider's messages are not genuine."""

PAST_THE_PAGE = frozenset(
    {
        Payment.Status.AWAITING_FUNDS,
        Payment.Status.AUTHENTICATED,
        Payment.Status.IN_REVIEW,
    }
)
FORM = "application/x-www-form-urlencoded"
UNPROCESSED = range(300, 500)


class DeliverWebhook:
    """Carries messages of providers to the shop."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._carried: set[str] = set()

    def __call__(
        self,
        payment: Payment | None = None,
        *,
        newest_first: bool = False,
        forged: bool = False,
    ) -> list[HttpResponse]:
        """Bring messages to the shop's webhook; return what it answered to each.

        With a ``payment`` all messages about it, also those that the shop has had
        before. Without, every message that was not brought yet, such as news of a
        plan. ``newest_first`` turns their order around. ``forged`` brings only one,
        made up by somebody else, which says that the payment was paid: AssertionError
        if the shop takes it from a provider whose messages are authenticated.

        ValueError: the provider sends no messages, or the sandbox cannot forge them.
        """
        if forged:
            if payment is None:
                raise ValueError("a forged message is about a payment: name it")
            return [self._forged(payment)]
        found = list(self._messages_about(payment))
        return [
            self._carry(entry) for entry in (found[::-1] if newest_first else found)
        ]

    def carry_news(self, payment: Payment) -> None:
        """Bring what was not brought yet about ``payment``.

        AssertionError if the shop has no ear for it, as when a middleware sends the
        provider to a log-in.
        """
        for entry in self._messages_about(payment):
            if entry["id"] not in self._carried:
                answer = self._carry(entry)
                assert answer.status_code not in UNPROCESSED, _refusal(
                    "message", answer
                )

    def _messages_about(self, payment: Payment | None) -> Iterator[dict[str, Any]]:
        for entry in self._sandbox.get("/_control/callbacks"):
            if entry["kind"] == "return":
                continue
            is_wanted = (
                entry["id"] not in self._carried
                if payment is None
                else entry["order_id"] == payment.merchant_reference
            )
            if is_wanted:
                yield entry

    def _carry(self, entry: Mapping[str, Any]) -> HttpResponse:
        self._carried.add(entry["id"])
        return _posted(self._path(entry), entry)

    def _path(self, entry: Mapping[str, Any]) -> str:
        """Return where a message arrives: at its own address, or at the account's."""
        if entry["url"]:
            return str(urlsplit(entry["url"]).path)
        known = Payment.objects.filter(merchant_reference=entry["order_id"]).first()
        alias = known.provider if known else _alias_of(entry["provider"])
        return reverse("multipay:webhook", args=[alias])

    def _forged(self, payment: Payment) -> HttpResponse:
        provider = registry[payment.provider]
        if provider.webhook_trust is WebhookTrust.NONE:
            raise ValueError(f"{provider.display_name} sends no messages to forge")
        settings = self._sandbox.get("/_control/settings")[provider.slug]
        genuine = {name: settings[name] for name in FORGERIES if name in settings}
        is_open = provider.webhook_trust is WebhookTrust.HINT
        if not (genuine or is_open):
            raise ValueError(
                f"the sandbox of {provider.display_name} has no switch to forge with; "
                f"it would be one of {', '.join(FORGERIES)}"
            )
        self._switch(provider.slug, dict.fromkeys(genuine, True))
        try:
            message = self._sandbox.post(
                f"/_control/{provider.slug}/payments/{payment.merchant_reference}"
                "/callback",
                {"send": False},
            )
        finally:
            self._switch(provider.slug, genuine)
        answer = _posted(
            self._path({**message, "order_id": payment.merchant_reference}), message
        )
        assert is_open or answer.status_code >= 400, (
            f"the shop took a forged message of {provider.display_name}"
        )
        return answer

    def _switch(self, slug: str, settings: Mapping[str, object]) -> None:
        self._sandbox.post("/_control/settings", {slug: settings})


class Pay:
    """A buyer with a browser, at whatever provider a payment is."""

    def __init__(
        self, sandbox: Sandbox, deliver_webhook: DeliverWebhook, client: Client
    ) -> None:
        self._sandbox = sandbox
        self._deliver_webhook = deliver_webhook
        self._client = client

    def __call__(
        self,
        payment: Payment,
        outcome: Outcome = "paid",
        *,
        provider: str = "",
        webhook: bool = True,
        buyer_returns: bool = True,
        client: Client | None = None,
    ) -> Payment:
        """Open ``payment``, let the buyer make ``outcome`` of it; return it refreshed.

        A payment that was opened before is continued, so ``pay(payment, "pending")``
        may be followed by ``pay(payment)``. ``provider`` is the alias that the buyer
        chooses where the shop named none. ``webhook=False`` keeps the provider's
        messages back, for `DeliverWebhook`; ``buyer_returns=False`` closes the browser
        on the provider's page. ``client`` is the buyer's browser at the shop, by
        default the fixture ``client``.

        ValueError names the outcomes that the provider has, if this is none of them.
        AssertionError: the shop received the message or the buyer with an error or a
        redirect to somewhere else. What `start_payment` raises is not caught.
        LookupError: the sandbox does not play the provider; nothing was sent to it.
        """
        if outcome not in BUTTONS:
            known = ", ".join(get_args(Outcome))
            raise ValueError(f"there is no outcome {outcome!r}; use one of: {known}")
        payment.refresh_from_db()
        if alias := provider or payment.provider:
            self._refuse_real_address(alias)
        if payment.status not in PAST_THE_PAGE:
            start_payment(payment, provider=provider)
        way_back = self._decided(payment, outcome)
        if webhook:
            self._deliver_webhook.carry_news(payment)
        if buyer_returns and way_back.get("return_url"):
            _return(payment, client or self._client, way_back)
        payment.refresh_from_db()
        return payment

    def _refuse_real_address(self, alias: str) -> None:
        """Raise LookupError for an account that was not moved to the sandbox."""
        slug = registry[alias].slug
        if slug not in self._sandbox.get("/_control/accounts"):
            raise LookupError(
                f"the sandbox of this test does not play {slug!r}, so {alias!r} would "
                "be called at its real address; let the fixture multipay_sandbox be a "
                "running_sandbox() with the module that plays it, and set its "
                "shop_options"
            )

    def _decided(self, payment: Payment, outcome: str) -> Mapping[str, Any]:
        """Press the button of the provider's page; return where it leads."""
        waiting = {Payment.Status.PENDING, *PAST_THE_PAGE}
        if payment.status not in waiting:
            # A saved method is charged at once: nobody was asked.
            if outcome == "paid":
                return {}
            raise ValueError(
                f"nobody can make the payment {outcome}: it was {payment.status} at "
                "once, with a saved method"
            )
        provider = registry[payment.provider]
        path = (
            f"/_control/{provider.slug}/payments/{payment.merchant_reference}/outcome"
        )
        choices = {}
        if payment.save_token:
            accounts = self._sandbox.get("/_control/accounts")
            choices = accounts[provider.slug]["saving"]
        reasons = []
        for button in BUTTONS[outcome]:
            try:
                answer: Mapping[str, Any] = self._sandbox.post(
                    path, {"outcome": button, **choices}
                )
            except httpx.HTTPStatusError as error:
                reasons.append(str(error.response.json()["error"]))
            else:
                return answer
        raise ValueError(
            f"{provider.display_name} cannot make this payment {outcome}: "
            f"{_explained(reasons)}"
        )


def _alias_of(slug: str) -> str:
    """Return the first account of a provider."""
    return next(alias for alias in registry if registry[alias].slug == slug)


def _posted(path: str, message: Mapping[str, Any]) -> HttpResponse:
    """Post a message as a provider does: without a session, without cookies."""
    headers = {**message.get("headers", {})}
    kind = headers.pop("Content-Type", FORM)
    answer = Client(enforce_csrf_checks=True).post(
        path, message["body"].encode(), content_type=kind, headers=headers, secure=True
    )
    return cast("HttpResponse", answer)


def _return(payment: Payment, client: Client, way_back: Mapping[str, Any]) -> None:
    """Bring the buyer's browser back to the shop, up to the page of the outcome."""
    url = urlsplit(way_back["return_url"])
    target = f"{url.path}?{url.query}" if url.query else url.path
    is_secure = url.scheme == "https"
    if way_back["return_method"] == "GET":
        answer = client.get(target, secure=is_secure)
    else:
        # Browsers send no cookies along when another site posts a form to the shop.
        body = urlencode(way_back["return_fields"])
        answer = Client(enforce_csrf_checks=True).post(
            target, body, content_type=FORM, secure=is_secure
        )
    # Who did not want to pay may be sent straight to the page.
    assert answer.status_code in {200, 303}, _refusal("returning buyer", answer)
    # A page that waits asks the provider after some seconds, which nobody waits here.
    Payment.objects.filter(pk=payment.pk, sync_at__isnull=False).update(
        sync_at=timezone.now()
    )
    client.get(payment.get_outcome_url(), secure=is_secure)


def _refusal(who: str, answer: Any) -> str:
    where = answer.headers.get("Location", "")
    return (
        f"the shop answered HTTP {answer.status_code} {where} to the {who}; nothing may "
        "stand between providers and the URLs of django_multipay"
    )


def _explained(reasons: Sequence[str]) -> str:
    """Return why no button did it: what the provider has, or what it said."""
    unknown = [reason for reason in reasons if reason.startswith("unknown outcome")]
    if len(unknown) < len(reasons):
        return "; ".join(reason for reason in reasons if reason not in unknown)
    named = set(re.findall(r"\w+", unknown[0].partition("use one of ")[2]))
    words = [word for word, buttons in BUTTONS.items() if named.intersection(buttons)]
    return f"it has {', '.join(words)}"
