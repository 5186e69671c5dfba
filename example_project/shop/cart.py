"""The shopping cart: product ids and quantities in the session, priced on reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from moneyed import Money

from shop.models import Product
from shop.money import money_of

MAX_QUANTITY = 20


@dataclass(frozen=True, slots=True)
class CartLine:
    """One product in the cart."""

    product: Product
    quantity: int

    @property
    def subtotal(self) -> Money:
        return self.product.price * self.quantity

    @property
    def one_less(self) -> int:
        return self.quantity - 1

    @property
    def one_more(self) -> int:
        return min(self.quantity + 1, MAX_QUANTITY)


class Cart:
    """What a visitor has put aside, in the currency the visitor chose."""

    def __init__(self, session: SessionBase) -> None:
        self._session = session
        self._quantities: dict[str, int] = session.get("cart", {})
        self._lines: list[CartLine] | None = None

    @property
    def currency(self) -> str:
        chosen = self._session.get("currency")
        if chosen in settings.SHOP_CURRENCIES:
            return str(chosen)
        return str(settings.SHOP_CURRENCIES[0])

    def choose_currency(self, currency: str) -> None:
        self._session["currency"] = currency
        self._lines = None

    def set_quantity(self, product: Product, quantity: int) -> None:
        """Put ``quantity`` of ``product`` in the cart; zero takes it out."""
        if quantity > 0:
            self._quantities[str(product.pk)] = min(quantity, MAX_QUANTITY)
        else:
            self._quantities.pop(str(product.pk), None)
        self._save()

    def add(self, product: Product, quantity: int) -> None:
        self.set_quantity(
            product, self._quantities.get(str(product.pk), 0) + max(quantity, 0)
        )

    def clear(self) -> None:
        self._quantities = {}
        self._session.pop("checkout_key", None)
        self._save()

    def ensure_checkout_key(self) -> UUID:
        """Return the key of the order this cart becomes; a cleared cart gets a new one."""
        key = self._session.get("checkout_key")
        if key is None:
            key = self._session["checkout_key"] = str(uuid4())
        return UUID(key)

    @property
    def lines(self) -> list[CartLine]:
        """The lines that can be bought in the chosen currency, as on the shelf."""
        if self._lines is None:
            products = (
                Product.objects.sold_in(self.currency).filter(pk__in=self._quantities)
                if self._quantities
                else []
            )
            self._lines = [
                CartLine(product, self._quantities[str(product.pk)])
                for product in products
            ]
        return self._lines

    @property
    def total(self) -> Money:
        return sum(
            (line.subtotal for line in self.lines),
            start=money_of(Decimal(0), self.currency),
        )

    def __iter__(self) -> Iterator[CartLine]:
        return iter(self.lines)

    def __len__(self) -> int:
        """The number of things, not of lines."""
        return sum(line.quantity for line in self.lines)

    def __bool__(self) -> bool:
        return bool(self.lines)

    def _save(self) -> None:
        self._session["cart"] = self._quantities
        self._lines = None
