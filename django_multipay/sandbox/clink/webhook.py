"""What the merchant is told: envelope, signature, delivery."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.books import CallbackEntry
from django_multipay.sandbox.callbacks import Message, Outbox, is_ok
from django_multipay.sandbox.clink.codes import Account
from django_multipay.sandbox.clink.ledger import Order, Session, milliseconds, new_id
from django_multipay.sandbox.clink.wire import encode, iso
from django_multipay.sandbox.providers import World

SLUG = "clink"
# As two public samples show the field when a merchant gave none.
REFERENCE_TRAPS = {"null": "null", "blank": " "}
ACCOUNT_RECORDS = ("account.created", "account.reloaded")


def sign(secret: str, timestamp: str, body: str) -> str:
    """HMAC-SHA256 over `<timestamp>.<raw body>`, in lower-case hexadecimal."""
    message = f"{timestamp}.{body}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


class Webhooks:
    """Records every event when it happens; a door decides when they leave."""

    def __init__(self, world: World, settings: Mapping[str, Any]) -> None:
        self._world = world
        self._settings = settings
        self.outbox = Outbox(SLUG, world.deliveries, settings)
        self._waiting: list[CallbackEntry] = []

    def clear(self) -> None:
        self._waiting.clear()

    def tell(self, kind: str, subject: Session | Order, data: dict[str, Any]) -> None:
        """An event about this session or order; `data` is its object."""
        self._waiting.append(self.outbox.record(self.compose(kind, subject, data)))

    def compose(
        self,
        kind: str,
        subject: Session | Order,
        data: Mapping[str, Any],
        *,
        event_id: str = "",
    ) -> Message:
        """The event as it would be sent, with the switches applied."""
        now = self._world.clock.now()
        is_new = self._settings["envelope"] == "new"
        shown = dict(data)
        trap = self._settings["merchant_reference_trap"]
        if trap in REFERENCE_TRAPS and "merchantReferenceId" in shown:
            shown["merchantReferenceId"] = REFERENCE_TRAPS[trap]
        event = {
            "id": event_id or new_id("event"),
            "object": "event",
            "created": milliseconds(now) if is_new else iso(now),
            "type": kind,
            "data": {"object": shown} if is_new else shown,
        }
        body = encode(event)
        return Message(
            kind=kind,
            url=self._settings["webhook_url"],
            body=body,
            headers=self._headers(subject.account, body),
            order_id=subject.reference,
            callbacks=subject.callbacks,
            is_acknowledged=self._acknowledgment(kind, body),
        )

    def start(self) -> None:
        """Send what is waiting, all at once, in the background."""
        for entry in self._leaving():
            self.outbox.start(entry)

    async def deliver(self) -> None:
        """Send what a page caused: before its answer, one by one, or after it."""
        for entry in self._leaving():
            await self.outbox.deliver(entry)

    def _leaving(self) -> list[CallbackEntry]:
        leaving = list(self._waiting)
        self._waiting.clear()
        return leaving

    def _headers(self, account: Account, body: str) -> dict[str, str]:
        is_real = self._settings["signing_clock"] == "real"
        now = datetime.now(UTC) if is_real else self._world.clock.now()
        unit = 1000 if self._settings["timestamp_unit"] == "ms" else 1
        timestamp = str(int(now.timestamp() * unit))
        signature = sign(account.webhook_secret, timestamp, body)
        if self._settings["tamper_signature"]:
            signature = signature[::-1]
        if self._settings["signature_case"] == "upper":
            signature = signature.upper()
        return {
            "Content-Type": "application/json",
            "X-Clink-Timestamp": timestamp,
            "X-Clink-Signature": signature,
            "X-Clink-SignType": "SHA256",
        }

    def _acknowledgment(self, kind: str, body: str) -> Callable[[int, str], bool]:
        def is_acknowledged(status: int, answer: str) -> bool:
            is_asked = self._settings["account_answer_required"]
            if kind == "order.succeeded" and is_asked and not _is_record(body, answer):
                return False
            return is_ok(status, answer)

        return is_acknowledged


def _is_record(body: str, answer: str) -> bool:
    """The account record: the order's e-mail, amount and currency, copied."""
    data = json.loads(body, parse_float=Decimal)["data"]
    order = data.get("object", data)
    try:
        given = json.loads(answer, parse_float=Decimal)
        record = given["data"]
        return (
            given["object"] == "event"
            and given["type"] in ACCOUNT_RECORDS
            and record["customerEmail"] == order["customerEmail"]
            and record["amount"] == order["amountTotal"]
            and record["currency"] == order["paymentCurrency"]
            and {"webSite", "userId"} <= record.keys()
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
