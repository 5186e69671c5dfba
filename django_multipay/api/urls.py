"""``path("payments/api/", include("django_multipay.api.urls"))``"""

from __future__ import annotations

from django.urls import path, re_path

from django_multipay.api import (
    base,
    deliveries,
    endpoints,
    events,
    payments,
    plans,
    providers,
    refunds,
    schema,
    tokens,
)

app_name = "multipay_api"

_ONE = "payments/<uuid:payment_uuid>"
_TOLD = "endpoint-deliveries/<uuid:endpoint_uuid>/<slug:event_id>"

urlpatterns = [
    path("payments/", payments.PaymentsView.as_view(), name="payments"),
    path(f"{_ONE}/", payments.PaymentView.as_view(), name="payment"),
    path(f"{_ONE}/start/", payments.StartView.as_view(), name="start"),
    path(f"{_ONE}/refresh/", payments.RefreshView.as_view(), name="refresh"),
    path(f"{_ONE}/retry/", payments.RetryView.as_view(), name="retry"),
    path(f"{_ONE}/cancel/", payments.CancelView.as_view(), name="cancel"),
    path(f"{_ONE}/sync/", payments.SyncView.as_view(), name="sync"),
    path(
        f"{_ONE}/methods/",
        payments.PaymentMethodsView.as_view(),
        name="payment_methods",
    ),
    path(f"{_ONE}/capture/", payments.CaptureView.as_view(), name="capture"),
    path(f"{_ONE}/void/", payments.VoidView.as_view(), name="void"),
    path(f"{_ONE}/confirm/", payments.ConfirmView.as_view(), name="confirm"),
    path(f"{_ONE}/settle/", payments.SettleView.as_view(), name="settle"),
    path("refunds/", refunds.RefundsView.as_view(), name="refunds"),
    path("refunds/<uuid:refund_uuid>/", refunds.RefundView.as_view(), name="refund"),
    path("tokens/", tokens.TokensView.as_view(), name="tokens"),
    path("tokens/<uuid:token_uuid>/", tokens.TokenView.as_view(), name="token"),
    path(
        "tokens/<uuid:token_uuid>/charge/", tokens.ChargeView.as_view(), name="charge"
    ),
    path("plans/", plans.PlansView.as_view(), name="plans"),
    path("plans/<uuid:plan_uuid>/", plans.PlanView.as_view(), name="plan"),
    path(
        "plans/<uuid:plan_uuid>/change/",
        plans.ChangePlanView.as_view(),
        name="change_plan",
    ),
    path(
        "plans/<uuid:plan_uuid>/pause/",
        plans.PausePlanView.as_view(),
        name="pause_plan",
    ),
    path(
        "plans/<uuid:plan_uuid>/resume/",
        plans.ResumePlanView.as_view(),
        name="resume_plan",
    ),
    path(
        "plans/<uuid:plan_uuid>/cancel/",
        plans.CancelPlanView.as_view(),
        name="cancel_plan",
    ),
    path(
        "plans/<uuid:plan_uuid>/charge/",
        plans.ChargePlanView.as_view(),
        name="charge_plan",
    ),
    path("providers/", providers.ProvidersView.as_view(), name="providers"),
    path("providers/<str:alias>/", providers.ProviderView.as_view(), name="provider"),
    path("methods/", providers.MethodsView.as_view(), name="methods"),
    path("events/", events.EventsView.as_view(), name="events"),
    path("deliveries/", deliveries.DeliveriesView.as_view(), name="deliveries"),
    path(
        "deliveries/<uuid:delivery_uuid>/",
        deliveries.DeliveryView.as_view(),
        name="delivery",
    ),
    path(
        "deliveries/<uuid:delivery_uuid>/replay/",
        deliveries.ReplayView.as_view(),
        name="replay",
    ),
    path(
        "endpoint-deliveries/",
        endpoints.EndpointDeliveriesView.as_view(),
        name="endpoint_deliveries",
    ),
    path(
        f"{_TOLD}/",
        endpoints.EndpointDeliveryView.as_view(),
        name="endpoint_delivery",
    ),
    path(f"{_TOLD}/send/", endpoints.SendAgainView.as_view(), name="send_again"),
    path("schema/", schema.schema, name="schema"),
    # Whatever else, also what a path converter would not take, such as a line break.
    re_path("", base.NowhereView.as_view(), name="nowhere"),
]
