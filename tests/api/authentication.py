"""A token for the walk-through of the docs, without a table for tokens."""

from __future__ import annotations

from django.contrib.auth.models import User
from rest_framework.authentication import TokenAuthentication

TOKEN = "0123456789abcdef"


class OneToken(TokenAuthentication):
    """The token of the docs is ann's."""

    def authenticate_credentials(self, key: str) -> tuple[User, None]:
        assert key == TOKEN
        return User.objects.get(username="ann"), None
