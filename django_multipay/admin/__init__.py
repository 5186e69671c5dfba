"""The cockpit for staff; Django's admin finds the registrations here.

Every process of a site with the admin imports this room when it starts: workers,
shells, migrations. The cockpit opens the flows, the ledger and the providers, so each
page is built when the admin's URLs are, or somebody asks the site for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import models
from django.utils.functional import SimpleLazyObject
from django.utils.module_loading import import_string

from django_multipay.models import (
    AccountHealth,
    Batch,
    Endpoint,
    EndpointDelivery,
    Notice,
    Operation,
    Payment,
    RecurringPlan,
    Refund,
    Token,
    WebhookDelivery,
)

PAGES: dict[type[models.Model], str] = {
    AccountHealth: "health.AccountHealthAdmin",
    Batch: "batches.BatchAdmin",
    Endpoint: "endpoints.EndpointAdmin",
    EndpointDelivery: "endpoints.EndpointDeliveryAdmin",
    Notice: "records.NoticeAdmin",
    Operation: "records.OperationAdmin",
    Payment: "payments.PaymentAdmin",
    RecurringPlan: "plans.RecurringPlanAdmin",
    Refund: "records.RefundAdmin",
    Token: "tokens.TokenAdmin",
    WebhookDelivery: "records.WebhookDeliveryAdmin",
}


def _when_asked_for(name: str) -> Callable[[type[models.Model], admin.AdminSite], Any]:
    def build(model: type[models.Model], site: admin.AdminSite) -> Any:
        return SimpleLazyObject(
            lambda: import_string(f"django_multipay.admin.{name}")(model, site)
        )

    return build


for _model, _name in PAGES.items():
    # A site calls what it is given with the model and itself; its type says "a class".
    admin.site.register(_model, _when_asked_for(_name))  # type: ignore[arg-type]
