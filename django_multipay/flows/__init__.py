"""What is done, in which order. The public Python interface of the package."""

from django_multipay.flows.batches import create_batch, run_batch
from django_multipay.flows.checkout import create_payment, start_payment
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
from django_multipay.flows.reconcile import reconcile
from django_multipay.flows.review import release_review
from django_multipay.flows.sync import sync_payment
from django_multipay.flows.webhooks import receive_webhook, replay_delivery

__all__ = [
    "abandon_operation",
    "approve_refund",
    "capturable",
    "capture_payment",
    "check_payment",
    "confirm_payment",
    "create_batch",
    "create_payment",
    "deliver_notices",
    "receive_webhook",
    "reconcile",
    "refund_payment",
    "refundable",
    "release_review",
    "replay_delivery",
    "run_batch",
    "settle_payment",
    "start_payment",
    "sync_payment",
    "sync_refund",
    "void_payment",
    "why_not",
]
