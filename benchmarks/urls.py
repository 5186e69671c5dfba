"""The doors of all contestants."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from benchmarks.contestants.floor import orm_view, sql_view

urlpatterns = [
    path("admin/", admin.site.urls),
    path("payments/", include("django_multipay.urls")),
    path("floor/orm/", orm_view),
    path("floor/sql/", sql_view),
]
if "payments" in settings.INSTALLED_APPS:
    urlpatterns.append(path("rivals/payments/", include("payments.urls")))
if "getpaid" in settings.INSTALLED_APPS:
    urlpatterns.append(path("rivals/getpaid/", include("getpaid.urls")))
if "djstripe" in settings.INSTALLED_APPS:
    urlpatterns.append(path("rivals/stripe/", include("djstripe.urls")))
