"""What the frame around every page shows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from shop.cart import Cart


def shop(request: HttpRequest) -> dict[str, Any]:
    """Add the visitor's cart and the currencies to choose from."""
    return {"cart": Cart(request.session), "currencies": settings.SHOP_CURRENCIES}
