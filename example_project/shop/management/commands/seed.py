"""``manage.py seed``: goods on the shelf, and somebody in the back room."""

from __future__ import annotations

import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from shop.seed import seed_products

STAFF_NAME = "staff"


class Command(BaseCommand):
    help = (
        "Put the products on the shelf. With SEED_STAFF_PASSWORD in the environment, "
        "also make the user 'staff' with that password. Safe to repeat."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        count = seed_products()
        self.stdout.write(f"{count} products are on the shelf.")
        # From the environment, because the process list shows arguments.
        password = os.environ.get("SEED_STAFF_PASSWORD")
        if password:
            users = get_user_model()._default_manager
            staff, _ = users.update_or_create(
                username=STAFF_NAME, defaults={"is_staff": True, "is_superuser": True}
            )
            staff.set_password(password)
            staff.save(update_fields=["password"])
            self.stdout.write(f"The user {STAFF_NAME!r} can log in.")
