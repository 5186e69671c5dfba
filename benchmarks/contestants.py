"""Who is measured. Each does the same jobs against the same stub.

``checkout()`` opens a payment and returns its reference; ``message(reference)`` is
what the provider would send about it; ``callback(message)`` takes it and answers;
``refund(reference)`` gives a paid payment back.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass

import requests
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import resolve

from benchmarks.floor.models import Charge, Event, Return
from benchmarks.settings import SECRET

AMOUNT_MINOR = 2630


@dataclass(frozen=True)
class Message:
    """A webhook as it arrives."""

    body: bytes
    signature: str


def sign(body: bytes) -> str:
    """Return what proves that the stub wrote ``body``."""
    return hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


class Contestant:
    """The jobs, and what they have in common."""

    name: str
    url: str

    def __init__(self, provider_url: str) -> None:
        self.provider_url = provider_url
        self.factory = RequestFactory()

    def message(self, reference: str) -> Message:
        """Return a genuine message that ``reference`` was paid."""
        said = {
            "event": f"E-{reference}",
            "id": f"P-{reference}",
            "reference": reference,
            "status": "paid",
            "amount_minor": AMOUNT_MINOR,
            "currency": "USD",
        }
        body = json.dumps(said).encode()
        return Message(body, sign(body))

    def callback(self, message: Message) -> HttpResponse:
        """Let the view of this contestant take ``message``."""
        request = self.factory.post(
            self.url,
            data=message.body,
            content_type="application/json",
            headers={"X-Signature": message.signature},
        )
        match = resolve(self.url)
        return match.func(request, *match.args, **match.kwargs)


class OrmFloor(Contestant):
    """The floor: Django's ORM, a pooled session, a lock, a unique event."""

    name = "floor (ORM)"
    url = "/floor/orm/"

    def __init__(self, provider_url: str) -> None:
        super().__init__(provider_url)
        self.session = requests.Session()

    def checkout(self) -> str:
        """Insert, call, update."""
        charge = Charge.objects.create(
            reference=secrets.token_hex(12),
            order_id="1001",
            amount_minor=AMOUNT_MINOR,
            currency="USD",
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
        """Insert under the lock, call, conclude both rows."""
        with transaction.atomic():
            charge = Charge.objects.select_for_update().get(reference=reference)
            back = Return.objects.create(
                charge=charge,
                reference=secrets.token_hex(12),
                amount_minor=charge.amount_minor,
            )
        self.call("refunds", back.reference, back.amount_minor)
        Charge.objects.filter(pk=charge.pk).update(
            status="refunded", refunded_minor=charge.amount_minor
        )

    def call(self, path: str, reference: str, amount_minor: int) -> dict[str, str]:
        """Ask the stub."""
        answer = self.session.post(
            f"{self.provider_url}/{path}",
            json={
                "reference": reference,
                "amount_minor": amount_minor,
                "currency": "USD",
            },
            timeout=(3, 10),
        )
        answer.raise_for_status()
        return answer.json()


def orm_view(request: HttpRequest) -> HttpResponse:
    """Check, lock, update, remember, answer."""
    body = request.body
    given = request.headers.get("X-Signature", "")
    if not hmac.compare_digest(given.encode(), sign(body).encode()):
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
        pass
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
                " VALUES (%s, '1001', 'created', %s, 0, 'USD', '',"
                " CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)",
                [reference, AMOUNT_MINOR],
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
                pk = lock(cursor, reference)
                cursor.execute(
                    "INSERT INTO floor_return (charge_id, reference, amount_minor,"
                    " status) VALUES (%s, %s, %s, 'requested')",
                    [pk, back, AMOUNT_MINOR],
                )
            self.call("refunds", back, AMOUNT_MINOR)
            cursor.execute(
                "UPDATE floor_charge SET status = 'refunded',"
                " refunded_minor = amount_minor WHERE id = %s",
                [pk],
            )


def lock(cursor: object, reference: str) -> int:
    """Return the key of the row, locked where the database can."""
    tail = " FOR UPDATE" if connection.features.has_select_for_update else ""
    cursor.execute(
        f"SELECT id FROM floor_charge WHERE reference = %s{tail}", [reference]
    )
    return cursor.fetchone()[0]


def sql_view(request: HttpRequest) -> HttpResponse:
    """Check, lock, update, remember, answer."""
    body = request.body
    given = request.headers.get("X-Signature", "")
    if not hmac.compare_digest(given.encode(), sign(body).encode()):
        return HttpResponse(status=401)
    said = json.loads(body)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            pk = lock(cursor, said["reference"])
            cursor.execute(
                "INSERT INTO floor_event (charge_id, event_id, body, created_at)"
                " VALUES (%s, %s, %s, CURRENT_TIMESTAMP)",
                [pk, said["event"], body.decode()],
            )
            cursor.execute(
                "UPDATE floor_charge SET status = %s, updated_at = CURRENT_TIMESTAMP"
                " WHERE id = %s",
                [said["status"], pk],
            )
    except IntegrityError:
        pass
    return HttpResponse(status=200)


class Ours(Contestant):
    """This package, through its public interface and its own view."""

    name = "django-multipay"
    url = "/payments/webhook/stub/"

    def checkout(self) -> str:
        """Create and start."""
        from moneyed import Money

        from django_multipay.flows import create_payment, start_payment

        payment = create_payment(
            provider="stub",
            order_id="1001",
            amount=Money("26.30", "USD"),
            success_url="/thanks/",
            failure_url="/cart/",
        )
        start_payment(payment)
        return payment.merchant_reference

    def refund(self, reference: str) -> None:
        """Give all of it back."""
        from django_multipay.flows import refund_payment
        from django_multipay.models import Payment

        refund_payment(Payment.objects.get(merchant_reference=reference))
