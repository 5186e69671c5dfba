"""Three doors: the shop, the payments, the staff."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import URLPattern, URLResolver, include, path

admin.site.site_header = "Quiet Kettle"
admin.site.site_title = "Quiet Kettle"
admin.site.index_title = "Back room"

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("payments/", include("django_multipay.urls")),
    path("", include("shop.urls")),
]

if settings.SERVE_STATIC:
    # A demo should look right behind a bare gunicorn too; runserver never gets here.
    urlpatterns.insert(0, path("static/<path:path>", serve, {"insecure": True}))
