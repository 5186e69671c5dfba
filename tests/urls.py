"""URLs of the test project: the app below ``payments/``, as the README mounts it."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("payments/api/", include("django_multipay.api.urls")),
    path("payments/", include("django_multipay.urls")),
]
