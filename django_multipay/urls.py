"""``path("payments/", include("django_multipay.urls"))``"""

from __future__ import annotations

from django.urls import path

from django_multipay.views import checkout, methods, webhooks

app_name = "multipay"

urlpatterns = [
    path("return/<str:signed>/", webhooks.buyer_return, name="return"),
    path("status/<str:signed>/", webhooks.status, name="status"),
    path("plan/<str:signed>/", webhooks.plan_notice, name="plan_notice"),
    path("webhook/<str:alias>/", webhooks.webhook, name="webhook"),
    path("methods/", methods.methods, name="methods"),
    path(
        "methods/<uuid:token_uuid>/delete/", methods.method_delete, name="method_delete"
    ),
    path("<uuid:payment_uuid>/", checkout.checkout, name="checkout"),
    path("<uuid:payment_uuid>/retry/", checkout.retry, name="retry"),
    path("<uuid:payment_uuid>/refresh/", checkout.refresh, name="refresh"),
    path("<uuid:payment_uuid>/outcome/", checkout.outcome, name="outcome"),
    path("<uuid:payment_uuid>/state/", checkout.state, name="state"),
]
