"""The doors of all contestants."""

from __future__ import annotations

from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from benchmarks.contestants import orm_view, sql_view

urlpatterns = [
    path("payments/", include("django_multipay.urls")),
    path("floor/orm/", csrf_exempt(orm_view)),
    path("floor/sql/", csrf_exempt(sql_view)),
]
