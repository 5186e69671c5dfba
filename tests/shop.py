"""A shop in processes of its own, which writes down what it is told."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connection

CREATE = "CREATE TABLE shop_diary (notice_id VARCHAR(36), order_id VARCHAR(64))"
DROP = "DROP TABLE shop_diary"
READ = "SELECT order_id, notice_id FROM shop_diary"


class Shop(AppConfig):
    """Listens for payments."""

    name = "tests.shop"
    label = "shop"

    def ready(self) -> None:
        """Connect."""
        from django_multipay.signals import payment_paid

        payment_paid.connect(write_down)


def write_down(payment: Any, notice_id: str, **news: Any) -> None:
    """Add a line for each time that it is told."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO shop_diary (notice_id, order_id) VALUES (%s, %s)",
            [notice_id, payment.order_id],
        )
