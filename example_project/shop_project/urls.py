"""Three doors: the shop, the payments, the staff."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

admin.site.site_header = "Quiet Kettle"
admin.site.site_title = "Quiet Kettle"
admin.site.index_title = "Back room"

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("payments/api/", include("django_multipay.api.urls")),
    path(
        "api/",
        SpectacularSwaggerSplitView.as_view(
            url_name="multipay_api:schema",
            template_name="shop/api.html",
            authentication_classes=[],
            permission_classes=[],
        ),
        name="api_page",
    ),
    path("payments/", include("django_multipay.urls")),
    # Asked for by pages that name no icon, such as the admin's.
    path(
        "favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}shop/mark.svg")
    ),
    path("", include("shop.urls")),
]

if settings.SERVE_STATIC:
    # A demo should look right behind a bare gunicorn too; runserver never gets here.
    urlpatterns.insert(0, path("static/<path:path>", serve, {"insecure": True}))
