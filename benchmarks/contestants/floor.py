"""The floors: what a careful engineer writes by hand for one shop and one provider."""

from __future__ import annotations

import json
import secrets
from typing import Any

import requests
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from benchmarks.contestants.base import (
    AMOUNT_MINOR,
    CURRENCY,
    ORDER_ID,
    Contestant,
    is_genuine,
)
from benchmarks.floor.models import Charge, Event, Return


class OrmFloor(Contestant):
    """Django's ORM, a pooled session, a lock, a unique event."""

    name = "floor (ORM)"
    url = "/floor/orm/"

    def __init__(self, provider_url: str) -> None:
        super().__init__(provider_url)
        self.session = requests.Session()

    def checkout(self) -> str:
        """Insert, call, update."""
        charge = Charge.objects.create(
            reference=secrets.token_hex(12),
            order_id=ORDER_ID,
            amount_minor=AMOUNT_MINOR,
            currency=CURRENCY,
        )
        answer = self.call("payments", charge.reference, AMOUNT_MINOR)
        charge.provider_reference = answer["id"]
        charge.checkout_url = answer["url"]
        charge.status = "pending"
        charge.save(
            update_fields=["provider_reference", "checkout_url", "status", "updated_at"]
        )
        return charge.reference

    def refund(self, reference: str) -> None:
        """Insert under the lock, call, conclude."""
        with transaction.atomic():
            charge = Charge.objects.select_for_update().get(reference=reference)
            back = Return.objects.create(
                charge=charge,
                reference=secrets.token_hex(12),
                amount_minor=charge.amount_minor,
            )
        self.call("refunds", back.reference, back.amount_minor)
        Charge.objects.filter(pk=charge.pk).update(
            status="refunded",
            refunded_minor=charge.amount_minor,
            updated_at=timezone.now(),
        )

    def call(self, path: str, reference: str, amount_minor: int) -> dict[str, str]:
        """Ask the provider to do something."""
        answer = self.session.post(
            f"{self.provider_url}/{path}",
            json={
                "reference": reference,
                "amount_minor": amount_minor,
                "currency": CURRENCY,
            },
            timeout=(3, 10),
        )
        answer.raise_for_status()
        said: dict[str, str] = answer.json()
        return said


@csrf_exempt
def orm_view(request: HttpRequest) -> HttpResponse:
    """Check, lock, update, remember, answer."""
    body = request.body
    if not is_genuine(body, request.headers.get("X-Signature", "")):
        return HttpResponse(status=401)
    said = json.loads(body)
    try:
        with transaction.atomic():
            charge = Charge.objects.select_for_update().get(reference=said["reference"])
            if (charge.amount_minor, charge.currency) != (
                said["amount_minor"],
                said["currency"],
            ):
                return HttpResponse(status=400)
            Event.objects.create(
                charge=charge, event_id=said["event"], body=body.decode()
            )
            charge.status = said["status"]
            charge.save(update_fields=["status", "updated_at"])
    except IntegrityError:
        pass  # It came before, and what it said was done.
    return HttpResponse(status=200)


class SqlFloor(OrmFloor):
    """The same in SQL by hand."""

    name = "floor (SQL)"
    url = "/floor/sql/"

    def checkout(self) -> str:
        """Insert, call, update."""
        reference = secrets.token_hex(12)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO floor_charge (reference, order_id, status, amount_minor,"
                " refunded_minor, currency, checkout_url, created_at, updated_at)"
                " VALUES (%s, %s, 'created', %s, 0, %s, '',"
                " CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)",
                [reference, ORDER_ID, AMOUNT_MINOR, CURRENCY],
            )
            answer = self.call("payments", reference, AMOUNT_MINOR)
            cursor.execute(
                "UPDATE floor_charge SET provider_reference = %s, checkout_url = %s,"
                " status = 'pending', updated_at = CURRENT_TIMESTAMP"
                " WHERE reference = %s",
                [answer["id"], answer["url"], reference],
            )
        return reference

    def refund(self, reference: str) -> None:
        """Insert under the lock, call, conclude."""
        back = secrets.token_hex(12)
        with connection.cursor() as cursor:
            with transaction.atomic():
                key, amount_minor, _currency = locked(cursor, reference)
                cursor.execute(
                    "INSERT INTO floor_return (charge_id, reference, amount_minor,"
                    " created_at) VALUES (%s, %s, %s, CURRENT_TIMESTAMP)",
                    [key, back, amount_minor],
                )
            self.call("refunds", back, amount_minor)
            cursor.execute(
                "UPDATE floor_charge SET status = 'refunded',"
                " refunded_minor = amount_minor, updated_at = CURRENT_TIMESTAMP"
                " WHERE id = %s",
                [key],
            )


def locked(cursor: Any, reference: str) -> tuple[int, int, str]:
    """Return key, amount and currency of a charge, locked where the database can."""
    tail = " FOR UPDATE" if connection.features.has_select_for_update else ""
    cursor.execute(
        "SELECT id, amount_minor, currency FROM floor_charge"
        f" WHERE reference = %s{tail}",
        [reference],
    )
    row: tuple[int, int, str] = cursor.fetchone()
    return row


@csrf_exempt
def sql_view(request: HttpRequest) -> HttpResponse:
    """Check, lock, update, remember, answer."""
    body = request.body
    if not is_genuine(body, request.headers.get("X-Signature", "")):
        return HttpResponse(status=401)
    said = json.loads(body)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            key, *price = locked(cursor, said["reference"])
            if price != [said["amount_minor"], said["currency"]]:
                return HttpResponse(status=400)
            cursor.execute(
                "INSERT INTO floor_event (charge_id, event_id, body, created_at)"
                " VALUES (%s, %s, %s, CURRENT_TIMESTAMP)",
                [key, said["event"], body.decode()],
            )
            cursor.execute(
                "UPDATE floor_charge SET status = %s, updated_at = CURRENT_TIMESTAMP"
                " WHERE id = %s",
                [said["status"], key],
            )
    except IntegrityError:
        pass  # It came before, and what it said was done.
    return HttpResponse(status=200)
