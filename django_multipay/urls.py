"""``path("payments/", include("django_multipay.urls"))``"""

from __future__ import annotations

from django.urls import path

from django_multipay.views import checkout, webhooks

app_name = "multipay"

urlpatterns = [
    path("return/<str:signed>/", webhooks.buyer_return, name="return"),
    path("status/<str:signed>/", webhooks.status, name="status"),
    path("plan/<str:signed>/", webhooks.plan_notice, name="plan_notice"),
    path("webhook/<str:alias>/", webhooks.webhook, name="webhook"),
    path("<uuid:payment_uuid>/", checkout.checkout, name="checkout"),
    path("<uuid:payment_uuid>/outcome/", checkout.outcome, name="outcome"),
    path("<uuid:payment_uuid>/state/", checkout.state, name="state"),
]
