"""The words of the house: every closed vocabulary stands here and nowhere else.

Database columns use Django's ``TextChoices`` (their labels are translated);
everything that is only said between rooms is a plain ``StrEnum``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise


class PaymentStatus(TextChoices):
    """Where a payment stands; always a fold of its facts (see ``states``)."""

    CREATED = "created", _("created")
    PENDING = "pending", _("pending")
    AWAITING_FUNDS = "awaiting_funds", _("awaiting deposit")
    IN_REVIEW = "in_review", _("in review")
    AUTHENTICATED = "authenticated", _("authenticated, not charged")
    AUTHORIZED = "authorized", _("authorized")
    PAID = "paid", _("paid")
    PARTIALLY_REFUNDED = "partially_refunded", _("partially refunded")
    REFUNDED = "refunded", _("refunded")
    FAILED = "failed", _("failed")
    CANCELED = "canceled", _("canceled")
    EXPIRED = "expired", _("expired")


class RefundStatus(TextChoices):
    """Where one refund stands."""

    REQUESTED = "requested", _("requested")
    PENDING = "pending", _("pending")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    UNKNOWN = "unknown", _("outcome unknown")


class TokenStatus(TextChoices):
    """Whether a saved payment method may still be charged."""

    ACTIVE = "active", _("active")
    DEAD = "dead", _("no longer accepted")
    DELETED = "deleted", _("deleted")


class Initiator(TextChoices):
    """Who is present when a payment is made."""

    BUYER = "buyer", _("the buyer")
    MERCHANT = "merchant", _("the shop, without the buyer")


class PlanStatus(TextChoices):
    """Where a recurring plan stands."""

    PENDING = "pending", _("pending")
    ACTIVE = "active", _("active")
    PAST_DUE = "past_due", _("past due")
    PAUSED = "paused", _("paused")
    CANCELED = "canceled", _("canceled")
    ENDED = "ended", _("ended")


class PlanManager(TextChoices):
    """Who charges a plan when it falls due."""

    PROVIDER = "provider", _("the provider")
    APP = "app", _("this site")


class CaptureMode(TextChoices):
    """Whether authorization and capture happen at once or in two steps."""

    AUTOMATIC = "automatic", _("automatic")
    MANUAL = "manual", _("manual")


class TransactionKind(TextChoices):
    """The facts a payment can have; each is one confirmed event at the provider."""

    REGISTRATION = "registration", _("registered, waiting for the deposit")
    AUTHENTICATION = "authentication", _("buyer authenticated")
    AUTHORIZATION = "authorization", _("authorization")
    CAPTURE = "capture", _("capture")
    CAPTURE_REVERSAL = "capture_reversal", _("capture taken back")
    SETTLEMENT = "settlement", _("released into settlement")
    REFUND = "refund", _("refund")
    VOID = "void", _("void")
    CHARGEBACK = "chargeback", _("chargeback")
    CHARGEBACK_REVERSAL = "chargeback_reversal", _("chargeback won")
    FAILURE = "failure", _("failure")
    CANCELLATION = "cancellation", _("canceled by the buyer")
    EXPIRY = "expiry", _("expiry")
    REVIEW_HOLD = "review_hold", _("held for risk review")
    REVIEW_RELEASE = "review_release", _("risk review passed")
    DISCREPANCY = "discrepancy", _("does not fit our record")


class Source(TextChoices):
    """Where a fact came from; shown on the timeline."""

    START = "start", _("start of the checkout")
    RETURN = "return", _("buyer's return")
    WEBHOOK = "webhook", _("webhook")
    SYNC = "sync", _("inquiry at the provider")
    OPERATION = "operation", _("answer to our call")
    STAFF = "staff", _("staff")
    SITE = "site", _("this site")


class OperationKind(TextChoices):
    """The calls that change something at a provider."""

    CHECKOUT = "checkout", _("start of the checkout")
    CONFIRM = "confirm", _("confirmation")
    CAPTURE = "capture", _("capture")
    VOID = "void", _("void")
    REFUND = "refund", _("refund")
    SETTLE = "settle", _("settlement")
    CHARGE = "charge", _("charge of a saved method")
    DELETE_TOKEN = "delete_token", _("deletion of a saved method")
    CHANGE_PLAN = "change_plan", _("change of a plan")
    CANCEL_PLAN = "cancel_plan", _("cancellation of a plan")


class OperationState(TextChoices):
    """The life of one call: requested, in flight and unknown reserve money."""

    REQUESTED = "requested", _("requested")
    IN_FLIGHT = "in_flight", _("in flight")
    SUCCEEDED = "succeeded", _("succeeded")
    REFUSED = "refused", _("refused")
    UNKNOWN = "unknown", _("outcome unknown")
    ABANDONED = "abandoned", _("abandoned by staff")


class Verdict(TextChoices):
    """What became of a webhook delivery after it was authenticated."""

    STORED = "stored", _("stored, not applied yet")
    APPLIED = "applied", _("applied")
    IGNORED = "ignored", _("nothing new")
    HELD = "held", _("held for staff")


class ReviewReason(TextChoices):
    """Why a person should look at a payment."""

    ACCOUNT_MISMATCH = "account_mismatch", _("another merchant account was named")
    REFERENCE_MISMATCH = "reference_mismatch", _("another order was named")
    AMOUNT_MISMATCH = "amount_mismatch", _("the amount differs from ours")
    CURRENCY_MISMATCH = "currency_mismatch", _("the currency differs from ours")
    MODE_MISMATCH = "mode_mismatch", _("test and live mode were mixed")
    FIELD_MISSING = "field_missing", _("the message lacks a field we must compare")
    OVERPAID = "overpaid", _("more money arrived than was asked for")
    UNDERPAID = "underpaid", _("less money arrived than was asked for")
    CONTRADICTION = "contradiction", _("the provider reported success and failure")
    RISK_REVIEW = "risk_review", _("the provider's risk check wants a decision")
    CHARGEBACK = "chargeback", _("the buyer's bank took the money back")
    PAID_TWICE = "paid_twice", _("another attempt of the same order was paid too")


class DeclineCode(TextChoices):
    """Why an issuer or provider said no, in words a buyer can act upon."""

    GENERIC = "generic", _("The payment was declined.")
    INSUFFICIENT_FUNDS = "insufficient_funds", _("There are not enough funds.")
    LIMIT_EXCEEDED = "limit_exceeded", _("A limit of the card was exceeded.")
    EXPIRED_CARD = "expired_card", _("The card has expired.")
    INCORRECT_DATA = "incorrect_data", _("The card data were not accepted.")
    INCORRECT_CVC = "incorrect_cvc", _("The security code was not accepted.")
    AUTHENTICATION_FAILED = (
        "authentication_failed",
        _("The bank could not confirm that it was you."),
    )
    LOST_OR_STOLEN = "lost_or_stolen", _("The card cannot be used.")
    SUSPECTED_FRAUD = "suspected_fraud", _("The payment was refused by a risk check.")
    NOT_SUPPORTED = "not_supported", _("This card or method is not accepted here.")
    CONTACT_ISSUER = "contact_issuer", _("Please contact your bank.")
    CANCELED_BY_BUYER = "canceled_by_buyer", _("The payment was canceled.")
    TEMPORARY = "temporary", _("The provider had a problem. Please try again.")
    NOT_ASKED = "not_asked", _("This way to pay is out of order at the moment.")
    """Ours, never a provider's: no bank was asked, so nobody refused anything."""


_ANOTHER_CARD = _("Please use another card or another way to pay.")
_CHECK_DATA = _("Please check the number, the date and the code, and try again.")

DECLINE_ADVICE: Mapping[DeclineCode, StrPromise] = {
    DeclineCode.GENERIC: _(
        "Please try another card or another way to pay, or ask your bank."
    ),
    DeclineCode.INSUFFICIENT_FUNDS: _("Please use another card or another account."),
    DeclineCode.LIMIT_EXCEEDED: _(
        "Please use another card, or ask your bank to raise the limit."
    ),
    DeclineCode.EXPIRED_CARD: _ANOTHER_CARD,
    DeclineCode.INCORRECT_DATA: _CHECK_DATA,
    DeclineCode.INCORRECT_CVC: _CHECK_DATA,
    DeclineCode.AUTHENTICATION_FAILED: _(
        "Please try again and confirm the payment in the app of your bank."
    ),
    DeclineCode.LOST_OR_STOLEN: _ANOTHER_CARD,
    DeclineCode.SUSPECTED_FRAUD: _("Please choose another way to pay."),
    DeclineCode.NOT_SUPPORTED: _ANOTHER_CARD,
    DeclineCode.CONTACT_ISSUER: _("Your bank can tell you why, or use another card."),
    DeclineCode.CANCELED_BY_BUYER: _("You can start again whenever you like."),
    DeclineCode.TEMPORARY: _("If it happens again, please choose another way to pay."),
    DeclineCode.NOT_ASKED: _("Please choose another way to pay, or try again later."),
}
"""What a buyer can do about each reason."""


class MethodKind(TextChoices):
    """What sort of way to pay a method is; each has its own drawing."""

    PAGE = "page", _("All ways to pay")
    CARD = "card", _("Card")
    WALLET = "wallet", _("Wallet")
    QR = "qr", _("Code to scan")
    BANK_TRANSFER = "bank_transfer", _("Bank transfer")
    VIRTUAL_ACCOUNT = "virtual_account", _("Deposit to an account")
    CONVENIENCE_STORE = "convenience_store", _("Convenience store")
    CRYPTO = "crypto", _("Cryptocurrency")


class NoticeState(TextChoices):
    """Whether the shop has heard of a fact."""

    WAITING = "waiting", _("waiting")
    DELIVERED = "delivered", _("delivered")


class EndpointStatus(TextChoices):
    """Whether an address of the shop's own systems is told of events."""

    ENABLED = "enabled", _("enabled")
    DISABLED = "disabled", _("disabled")


class EndpointTrouble(TextChoices):
    """Why an endpoint was disabled."""

    GONE = "gone", _("it answered 410: it wants to hear no more")
    FAILING = "failing", _("it took nothing for five days")
    STAFF = "staff", _("by staff")


class EndpointDeliveryState(TextChoices):
    """What became of one event for one endpoint."""

    WAITING = "waiting", _("waiting")
    DELIVERED = "delivered", _("delivered")
    FAILED = "failed", _("given up")


class BatchKind(TextChoices):
    """What can be asked for many payments at once."""

    CHECK = "check", _("check with provider")
    CAPTURE = "capture", _("capture all that is left")
    VOID = "void", _("void")
    REFUND = "refund", _("refund all that is left")


class BatchItemState(TextChoices):
    """What became of one payment of a batch."""

    WAITING = "waiting", _("waiting")
    OPEN = "open", _("under way")
    DONE = "done", _("done")
    FAILED = "failed", _("not done")


class Capability(StrEnum):
    """What a provider can do; declared exactly when the method is overridden."""

    FETCH = "fetch"
    REFRESH_ACTION = "refresh_action"
    CONFIRM = "confirm"
    CAPTURE = "capture"
    PARTIAL_CAPTURE = "partial_capture"
    VOID = "void"
    REFUND = "refund"
    PARTIAL_REFUND = "partial_refund"
    FETCH_REFUND = "fetch_refund"
    SETTLE = "settle"
    TOKENS = "tokens"
    INSPECT_TOKEN = "inspect_token"  # noqa: S105
    DELETE_TOKEN = "delete_token"  # noqa: S105
    PLANS = "plans"
    FETCH_PLAN = "fetch_plan"
    CHANGE_PLAN = "change_plan"
    CANCEL_PLAN = "cancel_plan"


class WebhookTrust(StrEnum):
    """What a webhook of this provider proves by itself."""

    NONE = "none"
    HINT = "hint"
    SHARED_SECRET = "shared_secret"  # noqa: S105
    SIGNED = "signed"


class AmountFormat(StrEnum):
    """How a provider writes amounts on the wire."""

    MINOR_INTEGER = "minor_integer"
    MAJOR_STRING = "major_string"
    MAJOR_NUMBER = "major_number"


class Purpose(StrEnum):
    """What a signed callback URL may be used for."""

    RETURN = "return"
    STATUS = "status"
    PLAN = "plan"


class WebhookOutcome(StrEnum):
    """What the provider should learn from our answer to its webhook."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REFUSED = "refused"


class KeyRefusal(StrEnum):
    """Why a request with an idempotency key is not carried out."""

    IN_PROGRESS = "in_progress"
    OTHER_REQUEST = "other_request"


class ProblemCode(StrEnum):
    """What went wrong with a request to the API; part of its interface."""

    MALFORMED = "malformed"
    INVALID = "invalid"
    INVALID_AMOUNT = "invalid_amount"
    UNKNOWN_FIELD = "unknown_field"
    READ_ONLY_FIELD = "read_only_field"
    KEY_MISSING = "key_missing"
    NOT_AUTHENTICATED = "not_authenticated"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INVALID_TRANSITION = "invalid_transition"
    UNSUPPORTED = "unsupported"
    NOT_CONFIGURED = "not_configured"
    KEY_IN_PROGRESS = "key_in_progress"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    KEY_REUSED = "key_reused"
    THROTTLED = "throttled"
    PROVIDER_REFUSED = "provider_refused"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    SITE_UNAVAILABLE = "site_unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Drift(StrEnum):
    """How the provider's view of a payment differs from ours."""

    AMOUNTS_DIFFER = "amounts_differ"
    ONLY_OURS = "only_ours"
    ONLY_THEIRS = "only_theirs"


class Severity(StrEnum):
    """How bad a finding of the doctor is."""

    FINE = "fine"
    WARNING = "warning"
    ERROR = "error"
