"""What we remember. Models know no provider and no HTTP; ``ledger`` writes them."""

from django_multipay.models.batch import Batch, BatchItem
from django_multipay.models.endpoint import Endpoint, EndpointDelivery
from django_multipay.models.health import AccountHealth
from django_multipay.models.idempotency import IdempotencyKey
from django_multipay.models.operation import Notice, Operation, WebhookDelivery
from django_multipay.models.payment import Payment, Refund, Transaction
from django_multipay.models.recurring import RecurringPlan, Token

__all__ = [
    "AccountHealth",
    "Batch",
    "BatchItem",
    "Endpoint",
    "EndpointDelivery",
    "IdempotencyKey",
    "Notice",
    "Operation",
    "Payment",
    "RecurringPlan",
    "Refund",
    "Token",
    "Transaction",
    "WebhookDelivery",
]
