"""The REST API: ``path("payments/api/", include("django_multipay.api.urls"))``.

Needs the extra ``drf``; `client_secret` does not.
"""

from django_multipay.api.clients import client_secret

__all__ = ["client_secret"]
