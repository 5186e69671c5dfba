"""Receiving: verify, store, apply, answer, in this order."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from django.core.cache import cache
from django.db import InterfaceError, OperationalError
from django.utils.module_loading import import_string

from django_multipay import ledger
from django_multipay.conf import conf
from django_multipay.enums import (
    PaymentStatus,
    ReviewReason,
    Source,
    Verdict,
    WebhookOutcome,
    WebhookTrust,
)
from django_multipay.exceptions import (
    MalformedWebhook,
    MultipayError,
    ProviderError,
    ProviderUnavailable,
    WebhookError,
)
from django_multipay.flows.guards import account_of, refuse_open_transaction
from django_multipay.flows.notices import deliver_notices, tell
from django_multipay.flows.renewals import hear_of_plan, payment_of_renewal
from django_multipay.flows.sync import ask
from django_multipay.messages import (
    IncomingRequest,
    PaymentSnapshot,
    ProviderEvent,
    WebhookAnswer,
)
from django_multipay.models import Notice, Payment, WebhookDelivery
from django_multipay.providers.base import Provider
from django_multipay.redaction import MASK, frames_of, scrub, storable
from django_multipay.registry import registry
from django_multipay.states import PAID_STATUSES, UNSUCCESSFUL_STATUSES

logger = logging.getLogger("django_multipay.webhooks")

REMOTE_CHECKS_PER_MINUTE = 30
"""How often one callback URL may make us ask the provider whether it is genuine."""

_SHOWN_HEADERS = frozenset({"content-type", "content-length", "user-agent"})

_REFERENCE = re.compile(r"[A-Za-z0-9-]{1,30}")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Reception:
    """What to answer to a message, and what is left to do once it is answered.

    ``tell`` lets the shop hear of it. If it is never called, `reconcile` does it.
    """

    answer: WebhookAnswer
    tell: Callable[[], object] = lambda: None


def receive_webhook(
    provider: str,
    incoming: IncomingRequest,
    *,
    payment: Payment | None = None,
    source: Source = Source.WEBHOOK,
    door: str = "",
) -> WebhookAnswer:
    """Take one message of the account ``provider`` and return what to answer.

    ``payment`` is the one that a signed callback URL names; a message about another
    payment is refused there. ``door`` names a signed URL that is not about one
    payment: what comes through it is rationed by itself.

    Never raises because of what was sent: what is not authentic is refused and leaves
    no trace but a log line; what is authentic is stored before it is applied, or with
    it; what could not be applied is answered so that the provider sends it again, and
    kept for `reconcile`.
    """
    reception = take_webhook(
        provider, incoming, payment=payment, source=source, door=door
    )
    reception.tell()
    return reception.answer


def take_webhook(
    provider: str,
    incoming: IncomingRequest,
    *,
    payment: Payment | None = None,
    source: Source = Source.WEBHOOK,
    door: str = "",
) -> Reception:
    """Take a message as `receive_webhook`; the caller answers, then tells the shop."""
    refuse_open_transaction("receive_webhook")
    account = registry[provider]
    try:
        delivery, notices = _accept(account, incoming, payment, source, door)
    except WebhookError as error:
        logger.warning("%s: a message is refused: %s", provider, error)
        answer = account.webhook_answer(WebhookOutcome.REFUSED)
        is_malformed = isinstance(error, MalformedWebhook)
        return Reception(
            dataclasses.replace(answer, status=400 if is_malformed else 401)
        )
    except MultipayError as error:
        # The provider is away, or something of ours is to be mended first.
        logger.warning("%s: a message could not be checked: %s", provider, error)
        return Reception(account.webhook_answer(WebhookOutcome.DEFERRED))
    accepted = account.webhook_answer(WebhookOutcome.ACCEPTED, incoming)
    if notices:
        return Reception(accepted, functools.partial(tell, notices))
    if delivery.verdict == Verdict.STORED:
        if conf.webhooks == "task" and _hand_over(delivery):
            return Reception(accepted)
        # What was verified, not what came now: its digest may be all they share.
        _apply_again(delivery)
    elif account.webhook_trust is WebhookTrust.HINT:
        # The same words again may be about something new: they only say "ask".
        apply_delivery(delivery, incoming)
    else:
        return Reception(accepted)
    if delivery.verdict == Verdict.STORED:
        deferred = account.webhook_answer(WebhookOutcome.DEFERRED, incoming)
        return Reception(deferred, deliver_notices)
    return Reception(accepted, deliver_notices)


_ENGINE = "django_multipay.tasks.apply_delivery"
"""By its name: the tasks stand on a floor above."""


def _hand_over(delivery: WebhookDelivery) -> bool:
    """Let the task engine apply ``delivery``; False if it does not take it.

    It is stored, so a task that is lost later is made up for by `reconcile`.
    """
    try:
        import_string(_ENGINE).enqueue(str(delivery.uuid))
    except Exception:
        logger.exception("the task engine took no message; it is applied at once")
        return False
    return True


def carries_message(payment: Payment, incoming: IncomingRequest) -> bool:
    """Say whether a buyer who returns carries anything but their own way back.

    A provider whose messages come by webhook only may still add to its return URL.
    """
    provider = registry[payment.provider]
    if not (incoming.body or incoming.query_string):
        return False
    is_silent = type(provider).identify_return is Provider.identify_return
    return not is_silent or provider.webhook_trust is WebhookTrust.HINT


def replay_delivery(delivery: WebhookDelivery) -> Verdict:
    """Apply a stored delivery again; harmless for one that was applied."""
    refuse_open_transaction("replay_delivery")
    verdict = _apply_again(delivery)
    deliver_notices()
    return verdict


def _apply_again(delivery: WebhookDelivery) -> Verdict:
    if delivery.payload is None:
        return Verdict(delivery.verdict)
    return apply_delivery(delivery, _load_incoming(delivery.payload))


def apply_delivery(delivery: WebhookDelivery, incoming: IncomingRequest) -> Verdict:
    """Turn an authentic, stored message into facts; note what became of it.

    The shop is told by the caller.
    """
    verdict, error, is_stray = Verdict.IGNORED, "", False
    try:
        provider = registry[delivery.provider]
        found = [
            _apply_event(provider, delivery, event)
            for event in provider.parse_webhook(incoming)
        ]
        is_stray = None in found
        verdicts = [one or Verdict.HELD for one in found]
        for candidate in (Verdict.APPLIED, Verdict.HELD):
            if candidate in verdicts:
                verdict = candidate
    except MultipayError as problem:
        verdict, error = Verdict.STORED, str(problem)
        logger.warning("%s: a message waits: %s", delivery.provider, problem)
    except (OperationalError, InterfaceError):
        raise
    except Exception as problem:  # noqa: BLE001  (logged, without what was sent)
        # A bug of ours would come back with every repetition: a person must look.
        verdict, error = Verdict.HELD, f"{type(problem).__name__}, a bug: see the log"
        logger.error(
            "%s: a message could not be applied: %s",
            delivery.provider,
            frames_of(problem),
        )
    ledger.conclude_delivery(delivery, verdict, error, is_stray=is_stray)
    return verdict


def _accept(
    provider: Provider,
    incoming: IncomingRequest,
    payment: Payment | None,
    source: Source,
    door: str,
) -> tuple[WebhookDelivery, list[Notice]]:
    """Return the inbox row of an authentic message; `WebhookError` for any other.

    With the notices that are ours to deliver, if it could be applied at once.
    """
    reference = _shielded(provider.identify_return, incoming)
    if payment and reference and reference != payment.merchant_reference:
        raise MalformedWebhook("the message is about another payment than its URL")
    if provider.verifies_remotely:
        digest = _digest(incoming)
        seen = ledger.find_delivery(provider.alias, digest)
        if seen is None or seen.verdict == Verdict.STORED:
            _ration(provider, door or _name(provider, payment, reference))
        if seen is not None:
            return seen, []
    _shielded(provider.verify_webhook, incoming)
    events = _shielded(provider.parse_webhook, incoming)
    ids = [event.event_id for event in events]
    if ids and all(ids):
        digest = _sha256("\n".join(ids).encode("utf-8", "replace"))
    else:
        digest = _digest(incoming)
    if provider.webhook_trust is WebhookTrust.HINT:
        _check_hint(provider, events, payment)
    delivery = WebhookDelivery(
        provider=provider.alias,
        digest=digest,
        source=source,
        headers=scrub(
            {
                name: value
                for name, value in incoming.headers.items()
                if name in _SHOWN_HEADERS
            }
        ),
        body=_shown_body(incoming),
        payload=_dump_incoming(incoming),
    )
    if len(events) == 1 and _needs_nothing_else(provider, events[0]):
        applied = _apply_at_once(provider, delivery, events[0])
        if applied is not None:
            return applied
    return ledger.store_delivery(delivery), []


def _needs_nothing_else(provider: Provider, event: ProviderEvent) -> bool:
    """Say whether ``event`` can be believed as it is, and is about a payment alone."""
    snapshot = event.snapshot
    return (
        not any((event.refund, event.dispute, snapshot.plan, snapshot.token))
        and not (event.must_fetch or event.is_renewal)
        and provider.webhook_trust is not WebhookTrust.HINT
        and conf.webhooks == "inline"
    )


def _apply_at_once(
    provider: Provider, delivery: WebhookDelivery, event: ProviderEvent
) -> tuple[WebhookDelivery, list[Notice]] | None:
    """Store and apply in one; None if it must be stored first.

    Whatever goes wrong goes wrong again after it was stored, and is noted there.
    """
    name = _name_in(event.snapshot)
    if name is None:
        return None
    try:
        return ledger.apply_at_once(
            delivery, name, event.snapshot, account=account_of(provider)
        )
    except Exception as error:  # noqa: BLE001  (logged, without what was sent)
        logger.error(
            "%s: a message is stored first: %s", provider.alias, frames_of(error)
        )
    return None


def _check_hint(
    provider: Provider, events: Sequence[ProviderEvent], payment: Payment | None
) -> None:
    """Let a hint pass only if it names a payment of ours, and not too often.

    Anybody can send one, so it must neither fill the inbox nor make us ask for ever.
    """
    for event in events:
        named = _payment_of(provider, event.snapshot)
        if named is None or (payment is not None and named.pk != payment.pk):
            raise MalformedWebhook("the hint names no payment of ours")
        _ration(provider, named.merchant_reference)


def _shielded(step: Callable[[IncomingRequest], T], incoming: IncomingRequest) -> T:
    """Run one step of a provider; a stranger's bytes must never become our 500."""
    try:
        return step(incoming)
    except (WebhookError, ProviderError):
        raise
    except Exception as error:  # noqa: BLE001  (logged, without what was sent)
        logger.error("%s failed on a message: %s", step.__qualname__, frames_of(error))
        problem = MalformedWebhook(f"unreadable: {type(error).__name__}")
    raise problem


def _name(provider: Provider, payment: Payment | None, reference: str) -> str:
    """Return what a message is counted as: one of our payments, or all the others.

    A stranger can make up as many references as they like.
    """
    payment = payment or _payment_named(provider, reference)
    return payment.merchant_reference if payment else ""


def _ration(provider: Provider, name: str) -> None:
    """Raise `ProviderUnavailable` when ``name`` makes us ask the provider too often."""
    key = f"multipay:check:{provider.alias}:{_sha256(name.encode())[:32]}"
    try:
        cache.add(key, 0, timeout=60)
        count = cache.incr(key)
    except ValueError:
        return  # The key expired between the two calls: a new minute has begun.
    except Exception:
        # Without its cache a site is slow enough; it must not lose payments too.
        logger.exception("the cache did not count a check")
        return
    if count > REMOTE_CHECKS_PER_MINUTE:
        raise ProviderUnavailable("too many messages to check", provider.alias)


def _payment_named(provider: Provider, reference: str) -> Payment | None:
    """Return the payment with this reference of ours, whatever a sender put there."""
    if not _REFERENCE.fullmatch(reference):
        return None
    return ledger.find_payment(provider.alias, ledger.Name("ours", reference))


def _payment_of(provider: Provider, snapshot: PaymentSnapshot) -> Payment | None:
    """Return the payment a message is about."""
    name = _name_in(snapshot)
    return ledger.find_payment(provider.alias, name) if name is not None else None


def _name_in(snapshot: PaymentSnapshot) -> ledger.Name | None:
    """Return how a payment is named, by our reference or else by theirs, if any can be.

    Whatever a sender put there.
    """
    if snapshot.merchant_reference is not None:
        reference = snapshot.merchant_reference
        is_ours = _REFERENCE.fullmatch(reference)
        return ledger.Name("ours", reference) if is_ours else None
    reference = snapshot.provider_reference
    # No database takes NUL, and no provider makes references as long as that.
    if not reference or not reference.isprintable() or len(reference) > 128:
        return None
    return ledger.Name("theirs", reference)


def _apply_event(
    provider: Provider, delivery: WebhookDelivery, event: ProviderEvent
) -> Verdict | None:
    """Apply one event; None if it names no payment of ours, or none yet."""
    payment: Payment | Verdict | None
    if event.is_renewal:
        payment, event = payment_of_renewal(provider, event)
    else:
        payment = _payment_of(provider, event.snapshot)
    if isinstance(payment, Verdict):
        return payment
    if payment is None:
        return hear_of_plan(provider, None, event, Verdict.IGNORED)
    delivery.payment = payment
    source = Source(delivery.source)
    verdicts = {
        ledger.apply_snapshot(
            payment.pk,
            snapshot,
            account=account_of(provider),
            source=source,
            suspicion=suspicion,
        )
        for snapshot, suspicion in _believed(provider, payment, event)
    }
    if event.refund is not None:
        verdicts.add(ledger.apply_refund(payment.pk, event.refund, source=source))
    if event.dispute is not None:
        verdicts.add(ledger.apply_dispute(payment.pk, event.dispute, source=source))
    for verdict in (Verdict.HELD, Verdict.APPLIED, Verdict.IGNORED):
        if verdict in verdicts:
            break
    return hear_of_plan(provider, payment, event, verdict)


_CLAIMS_NO_MONEY = UNSUCCESSFUL_STATUSES | {
    PaymentStatus.AUTHENTICATED,
    PaymentStatus.IN_REVIEW,
}
_MONEY = PAID_STATUSES | {PaymentStatus.AUTHORIZED}

Belief = tuple[PaymentSnapshot, ReviewReason | None]
"""A snapshot, and why a person should look at it instead of believing it."""


def _believed(
    provider: Provider, payment: Payment, event: ProviderEvent
) -> list[Belief]:
    """Return what to believe of ``event``.

    A hint proves nothing: only the inquiry counts. An authentic message whose
    provider wants it confirmed is believed without the inquiry only where it claims
    no money. If the inquiry proves money and the message says failure, both stand:
    the fold shows the contradiction to a person. A claim of money that the inquiry
    does not confirm waits (`ProviderUnavailable`), because the inquiry may lag; about
    a payment that has failed it is a contradiction, and the provider is asked on.
    """
    claim = event.snapshot
    is_hint = provider.webhook_trust is WebhookTrust.HINT
    if not is_hint and not event.must_fetch:
        return [(claim, None)]
    fetched = ask(provider, payment)
    if is_hint:
        return [(fetched, None)]
    is_unknown = fetched.status in {PaymentStatus.CREATED, PaymentStatus.PENDING}
    if _differs(claim, payment) or (is_unknown and claim.status in _CLAIMS_NO_MONEY):
        return [(claim, None)]
    # Without a status of its own, a message's success may be a mere registration.
    is_explicit = is_unknown or bool(claim.provider_status)
    is_behind = fetched.status not in _MONEY and payment.captured_minor == 0
    if claim.status in _MONEY and is_explicit and is_behind:
        if payment.status in UNSUCCESSFUL_STATUSES:
            return [(claim, ReviewReason.CONTRADICTION)]
        raise ProviderUnavailable(
            "the inquiry does not confirm the money yet", provider.alias, "fetch"
        )
    if claim.status in UNSUCCESSFUL_STATUSES:
        return [(fetched, None), (claim, None)]
    beliefs: list[Belief] = [
        (
            dataclasses.replace(
                fetched,
                method=fetched.method or claim.method,
                details={**fetched.details, **claim.details},
                expires_at=fetched.expires_at or claim.expires_at,
                needs_review=fetched.needs_review or claim.needs_review,
                token=claim.token,
                plan=claim.plan,
            ),
            None,
        )
    ]
    names = {claim.provider_reference, fetched.provider_reference} - {""}
    if claim.status in _MONEY and fetched.status in _MONEY and len(names) > 1:
        # Two transactions for one order: only one is proven, a person must look.
        beliefs.append((claim, ReviewReason.REFERENCE_MISMATCH))
    return beliefs


def _differs(claim: PaymentSnapshot, payment: Payment) -> bool:
    """Say whether an authentic message names another amount than ours.

    It goes to the ledger as it is then, which holds it: a good answer to our inquiry
    must not hide that the provider told us something else.
    """
    return claim.amount != payment.amount


# The message as bytes -----------------------------------------------------------------


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest(incoming: IncomingRequest) -> str:
    """Return the identity of a message: what was said, by body or by query string.

    One of the two speaks, as for the provider: the body of a POST, else the query.
    """
    is_post = incoming.method == "POST"
    query = incoming.query_string.encode("utf-8", "replace")
    return _sha256(incoming.body if is_post else query)


def _shown_body(incoming: IncomingRequest) -> str:
    """Return what staff may see of a message: that it came, and how long it was."""
    length = len(incoming.body or incoming.query_string)
    kind = storable(incoming.content_type, 100) or "query string"
    return f"{kind}, {length} bytes {MASK}"


_SAID = [field.name for field in dataclasses.fields(IncomingRequest)]


def _dump_incoming(incoming: IncomingRequest) -> dict[str, Any]:
    return {
        **{name: getattr(incoming, name) for name in _SAID},
        "headers": dict(incoming.headers),
        "body": base64.b64encode(incoming.body).decode(),
    }


def _load_incoming(data: Mapping[str, Any]) -> IncomingRequest:
    # Another version of this package may have stored it, with a field more.
    values = {name: value for name, value in data.items() if name in _SAID}
    return IncomingRequest(**{**values, "body": base64.b64decode(data["body"])})
