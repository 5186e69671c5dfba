"""The words of the house: every closed vocabulary stands here and nowhere else.

Database columns use Django's ``TextChoices`` (their labels are translated);
everything that is only said between rooms is a plain ``StrEnum``.
"""

from __future__ import annotations

from enum import StrEnum

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


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
    DELETED = "deleted", _("deleted")


class PlanStatus(TextChoices):
    """Where a recurring plan stands."""

    PENDING = "pending", _("pending")
    ACTIVE = "active", _("active")
    PAST_DUE = "past_due", _("past due")
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


class NoticeState(TextChoices):
    """Whether the shop has heard of a fact."""

    WAITING = "waiting", _("waiting")
    DELIVERED = "delivered", _("delivered")


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
