"""What is done, in which order. The public Python interface of the package."""

from django_multipay.flows.checkout import create_payment, start_payment
from django_multipay.flows.notices import deliver_notices
from django_multipay.flows.reconcile import reconcile
from django_multipay.flows.review import release_review
from django_multipay.flows.sync import sync_payment
from django_multipay.flows.webhooks import receive_webhook, replay_delivery

__all__ = [
    "create_payment",
    "deliver_notices",
    "receive_webhook",
    "reconcile",
    "release_review",
    "replay_delivery",
    "start_payment",
    "sync_payment",
]
