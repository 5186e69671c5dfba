"""What is said between rooms: frozen dataclasses, nothing else.

Requests go down to a provider, snapshots come back up; both are plain values that
know neither Django's models nor HTTP libraries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, ClassVar

from moneyed import Money

from django_multipay.enums import (
    CaptureMode,
    DeclineCode,
    MethodKind,
    PaymentStatus,
    PlanStatus,
    RefundStatus,
    TokenStatus,
    WebhookOutcome,
)

# People and goods ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A postal address; ``country`` is ISO 3166-1 alpha-2."""

    first_name: str = ""
    last_name: str = ""
    street: str = ""
    city: str = ""
    state: str = ""
    postal_code: str = ""
    country: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyer:
    """Who pays. ``address`` is the billing address."""

    name: str = ""
    email: str = ""
    phone: str = ""
    country: str = ""
    address: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineItem:
    """One line of an order.

    ``unit_price`` in the payment's currency; a negative one is a discount.
    ``is_surcharge`` marks what is not merchandise: shipping, fees, discounts.
    """

    name: str
    quantity: int = 1
    unit_price: Money
    url: str = ""
    is_surcharge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAccount:
    """Where a refund of a bank deposit goes; ``bank_code`` as the provider lists it."""

    holder: str = field(repr=False)
    bank_code: str
    number: str = field(repr=False)


# Next actions ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the buyer to ``url`` with a GET."""

    type: ClassVar[str] = "redirect"
    url: str


@dataclass(frozen=True, slots=True)
class PostForm:
    """Send the buyer to ``url`` with a form POST of ``fields``."""

    type: ClassVar[str] = "post_form"
    url: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProviderScript:
    """Load the provider's script ``src`` and call ``call`` with ``payload``.

    ``requires`` are scripts to load first; ``opens_popup`` says that the call must
    happen inside a click, or the browser blocks the window.
    """

    type: ClassVar[str] = "provider_script"
    src: str
    call: str
    payload: Mapping[str, Any]
    requires: Sequence[str] = ()
    opens_popup: bool = False


@dataclass(frozen=True, slots=True)
class QRCode:
    """Show a code to scan: ``data`` drawn by us, or the provider's ``image`` URL."""

    type: ClassVar[str] = "qr_code"
    data: str = ""
    image: str = ""
    deep_link: str = ""
    fallback_url: str = ""
    expires_at: datetime | None = None


_ACTIONS: Mapping[str, type] = {
    action.type: action for action in (Redirect, PostForm, ProviderScript, QRCode)
}

NextAction = Redirect | PostForm | ProviderScript | QRCode


def dump_action(action: NextAction) -> dict[str, Any]:
    """Return ``action`` as JSON-ready data, with its ``type``."""
    values = {name: _plain(getattr(action, name)) for name in action.__slots__}
    return {"type": action.type, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def load_action(data: Mapping[str, Any]) -> NextAction:
    """Return the action that `dump_action` made ``data`` from."""
    values = {name: value for name, value in data.items() if name != "type"}
    if values.get("expires_at"):
        values["expires_at"] = datetime.fromisoformat(values["expires_at"])
    if "requires" in values:
        values["requires"] = tuple(values["requires"])
    action: NextAction = _ACTIONS[data["type"]](**values)
    return action


# Ways to pay -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to pay at a provider.

    ``code`` is what a payment names as its ``method``; "" is the provider's own page,
    where the buyer chooses. ``name`` is a name of its own, such as "KakaoPay", or ""
    where the ``kind`` says enough. Empty ``currencies``: all that the provider takes;
    empty ``countries`` (ISO 3166-1 alpha-2, of the buyer): everywhere.
    """

    code: str
    kind: MethodKind
    name: str = ""
    currencies: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()

    def suits(self, currency: str, country: str) -> bool:
        """Say whether a buyer in ``country`` ("" unknown) pays ``currency`` so."""
        is_here = not (self.countries and country) or country.upper() in self.countries
        return is_here and (not self.currencies or currency in self.currencies)


# Requests to a provider ------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTerms:
    """A plan to register together with its first payment."""

    amount: Money
    interval_months: int
    start_on: date
    notice_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequest:
    """Start one payment. ``key`` is the idempotency key of this very operation."""

    key: str
    merchant_reference: str
    order_id: str
    amount: Money
    return_url: str
    status_url: str
    cancel_url: str = ""
    capture_mode: CaptureMode = CaptureMode.AUTOMATIC
    method: str = ""
    description: str = ""
    items: Sequence[LineItem] = ()
    buyer: Buyer = field(default_factory=Buyer, repr=False)
    ship_to: Address | None = field(default=None, repr=False)
    customer_id: str = ""
    locale: str = ""
    is_mobile: bool = False
    save_token: bool = False
    token: str = field(default="", repr=False)
    plan: PlanTerms | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    provider_data: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentQuery:
    """Ask about one payment; amounts as they were asked for at the start.

    ``provider_reference`` is what the provider called the payment first (a session,
    where it opens one), ``transaction_reference`` what it calls the transaction that
    took or reserved the money; both are "" until they are known, and often equal.
    """

    merchant_reference: str
    provider_reference: str
    amount: Money
    transaction_reference: str = ""
    method: str = ""
    customer_id: str = ""
    buyer_email: str = field(default="", repr=False)
    locale: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmRequest:
    """Charge a payment whose buyer was authenticated (``capture`` or only reserve)."""

    key: str
    query: PaymentQuery
    authentication_reference: str
    capture: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """Take ``amount`` of an authorization."""

    key: str
    query: PaymentQuery
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidRequest:
    """Release an authorization that was not captured."""

    key: str
    query: PaymentQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleRequest:
    """Release a captured payment into settlement."""

    key: str
    query: PaymentQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """Give ``amount`` back; ``refundable`` is what was left before this refund."""

    key: str
    query: PaymentQuery
    merchant_reference: str
    amount: Money
    refundable: Money
    reason: str = ""
    account: BankAccount | None = field(default=None, repr=False)
    provider_data: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundQuery:
    """Ask about one refund; ``provider_reference`` is "" until it is known."""

    query: PaymentQuery
    merchant_reference: str
    provider_reference: str
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChargeRequest:
    """Charge a saved method without the buyer present."""

    key: str
    merchant_reference: str
    token: str = field(repr=False)
    amount: Money
    description: str = ""
    items: Sequence[LineItem] = ()
    buyer: Buyer = field(default_factory=Buyer, repr=False)
    locale: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChangeRequest:
    """Change the amount of a plan that the provider charges."""

    key: str
    provider_reference: str
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCancelRequest:
    """End a plan that the provider charges."""

    key: str
    provider_reference: str
    at_period_end: bool = False


# Answers of a provider -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    """Why a payment did not go through; ``provider_code`` as the provider wrote it."""

    code: DeclineCode
    provider_code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSnapshot:
    """A saved payment method as the provider describes it; ``reference`` is secret."""

    reference: str = field(repr=False)
    status: TokenStatus = TokenStatus.ACTIVE
    fingerprint: str = ""
    brand: str = ""
    last4: str = ""
    expires_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSnapshot:
    """A recurring plan as the provider describes it."""

    reference: str
    status: PlanStatus
    next_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSnapshot:
    """What the provider says about one payment at one moment.

    ``amount`` is the gross amount of the payment. ``account``, ``amount`` and
    ``merchant_reference`` are compared with our record by the core before anything
    is believed. In an answer to our own call that does not repeat them, the provider
    class fills in what it asked about; in a message that does not name them they stay
    None. Only ``captured`` and no ``amount``: the provider says what was paid, not
    what was asked, so too little or too much is for a person.
    ``captured`` is the total taken under ``provider_reference`` and ``refunded`` the
    total given back, where the provider reports them.
    ``needs_review`` holds fulfillment although money may have moved.
    """

    status: PaymentStatus
    provider_reference: str = ""
    merchant_reference: str | None = None
    account: str | None = None
    is_live: bool | None = None
    amount: Money | None = None
    captured: Money | None = None
    refunded: Money | None = None
    method: str = ""
    provider_status: str = ""
    decline: Decline | None = None
    needs_review: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    next_action: NextAction | None = None
    expires_at: datetime | None = None
    occurred_at: datetime | None = None
    token: TokenSnapshot | None = None
    plan: PlanSnapshot | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundSnapshot:
    """What the provider says about one refund at one moment.

    ``merchant_reference`` is our reference of the refund where a message repeats it,
    None in an answer to our own call that does not. ``refundable`` is what is left of
    the payment afterwards, where the provider says so.
    """

    status: RefundStatus
    provider_reference: str = ""
    merchant_reference: str | None = None
    amount: Money | None = None
    refundable: Money | None = None
    decline: Decline | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeSnapshot:
    """The buyer's bank takes ``amount`` back, or (``is_reversed``) gives it up."""

    reference: str
    amount: Money
    is_reversed: bool = False
    occurred_at: datetime | None = None


# The inbound side ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingRequest:
    """One request to a callback URL: raw bytes, lower-case header names.

    ``is_by_buyer``: a buyer's browser carries it, from whatever address it has.
    """

    method: str
    body: bytes = field(repr=False)
    query_string: str = field(default="", repr=False)
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    remote_address: str = ""
    is_by_buyer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """One thing a webhook says.

    ``event_id`` is the provider's identity of the event, or empty; two messages with
    the same one are the same message. ``snapshot`` is what the message claims about
    the payment: it names it by ``merchant_reference`` or, failing that, by
    ``provider_reference``; status *pending* claims nothing. ``refund`` and ``dispute``
    are about that payment. ``must_fetch``: the provider's own documents say that the
    inquiry, not the message, is the proof that money moved. ``is_renewal``: a later
    charge of the plan in ``snapshot.plan``, so another payment than the one named;
    ``due_on`` is the first day of its period, where the message says so.
    """

    snapshot: PaymentSnapshot
    event_id: str = ""
    refund: RefundSnapshot | None = None
    dispute: DisputeSnapshot | None = None
    must_fetch: bool = False
    is_renewal: bool = False
    due_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAnswer:
    """What we answer to the provider."""

    outcome: WebhookOutcome
    status: int = 200
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


# The wire --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One call to a provider's API.

    ``is_read`` says that the call changes nothing there, so that a lost answer means
    "nothing happened". ``json`` is sent as a JSON body (also with a GET), ``form`` as
    a form, ``body`` as it is. ``operation`` names the call in errors and logs.
    ``has_secret_path``: the path holds a token, so it is not logged.
    """

    operation: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    is_read: bool = False
    has_secret_path: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """The provider's answer, whatever its status; lower-case header names."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What this process last saw of an account.

    ``failures`` counts those in a row: no answer, a 5xx, credentials refused.
    ``failure`` is the class of the last error, ``is_refused`` says that the account
    does not accept our credentials. Until ``paused_until`` nothing is sent.
    """

    failures: int = 0
    failure: str = ""
    is_refused: bool = False
    paused_until: datetime | None = None
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
