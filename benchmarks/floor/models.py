"""What a careful engineer writes by hand for one shop and one provider."""

from __future__ import annotations

from django.db import models


class Charge(models.Model):
    """One payment of an order."""

    reference = models.CharField(max_length=30, unique=True)
    provider_reference = models.CharField(max_length=64, null=True, unique=True)
    order_id = models.CharField(max_length=64)
    status = models.CharField(max_length=20, default="created")
    amount_minor = models.BigIntegerField()
    refunded_minor = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=4)
    checkout_url = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)


class Event(models.Model):
    """One message of the provider, once."""

    charge = models.ForeignKey(Charge, on_delete=models.PROTECT)
    event_id = models.CharField(max_length=64, unique=True)
    body = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)


class Return(models.Model):
    """The intent to give money back; the charge says what came of it."""

    charge = models.ForeignKey(Charge, on_delete=models.PROTECT)
    reference = models.CharField(max_length=30, unique=True)
    amount_minor = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
