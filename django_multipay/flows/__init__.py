"""What is done, in which order. The public Python interface of the package."""

from django_multipay.flows.batches import create_batch, run_batch
from django_multipay.flows.cancellation import cancel_payment
from django_multipay.flows.checkout import (
    create_payment,
    refresh_action,
    retry_payment,
    start_payment,
    ways_for,
)
from django_multipay.flows.drift import drift_report
from django_multipay.flows.endpoints import (
    change_endpoint,
    create_endpoint,
    deliver_endpoints,
    disable_endpoint,
    enable_endpoint,
    resend_since,
    reveal_secret,
    rotate_secret,
    send_now,
    send_test_event,
)
from django_multipay.flows.keys import rotate_keys
from django_multipay.flows.notices import deliver_notices
from django_multipay.flows.operations import (
    abandon_operation,
    approve_refund,
    capturable,
    capture_payment,
    check_payment,
    confirm_payment,
    refund_payment,
    refundable,
    settle_payment,
    sync_refund,
    void_payment,
    why_not,
)
from django_multipay.flows.plans import (
    cancel_plan,
    change_plan,
    charge_due_plans,
    charge_plan,
    create_plan,
    pause_plan,
    recovery_payment,
    resume_plan,
    sync_plan,
)
from django_multipay.flows.purge import erase_buyer, purge
from django_multipay.flows.reconcile import reconcile
from django_multipay.flows.review import release_review
from django_multipay.flows.sync import sync_payment
from django_multipay.flows.tokens import charge_token, delete_token, inspect_token
from django_multipay.flows.webhooks import receive_webhook, replay_delivery

__all__ = [
    "abandon_operation",
    "approve_refund",
    "cancel_payment",
    "cancel_plan",
    "capturable",
    "capture_payment",
    "change_endpoint",
    "change_plan",
    "charge_due_plans",
    "charge_plan",
    "charge_token",
    "check_payment",
    "confirm_payment",
    "create_batch",
    "create_endpoint",
    "create_payment",
    "create_plan",
    "delete_token",
    "deliver_endpoints",
    "deliver_notices",
    "disable_endpoint",
    "drift_report",
    "enable_endpoint",
    "erase_buyer",
    "inspect_token",
    "pause_plan",
    "purge",
    "receive_webhook",
    "reconcile",
    "recovery_payment",
    "refresh_action",
    "refund_payment",
    "refundable",
    "release_review",
    "replay_delivery",
    "resend_since",
    "resume_plan",
    "retry_payment",
    "reveal_secret",
    "rotate_keys",
    "rotate_secret",
    "run_batch",
    "send_now",
    "send_test_event",
    "settle_payment",
    "start_payment",
    "sync_payment",
    "sync_plan",
    "sync_refund",
    "void_payment",
    "ways_for",
    "why_not",
]
