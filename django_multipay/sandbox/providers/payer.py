"""Payer's side of the wire: create, retrieve, a hosted checkout and a webhook.

Written from the one public page, "Create payment" (payer.mintlify.app, read
2026-11-21), whose code blocks are missing. So paths, key format, error bodies and the
webhook's shape are ASSUMED: ours, each in one place, most of them switchable. The
tables and switches are in `django_multipay/sandbox/payer/`.
"""

import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from django_multipay.sandbox import pages
from django_multipay.sandbox.callbacks import Forgery, Message, Outbox
from django_multipay.sandbox.control import (
    find_payment,
    read_json,
    read_outcome,
    sent_back,
    unknown_outcome,
)
from django_multipay.sandbox.payer.codes import (
    ACCOUNTS,
    API_KEY_FORM,
    COMPLETED,
    CURRENCY,
    E_MAIL,
    FAILED,
    FIELDS,
    KEY_LENGTH,
    METADATA_KEYS,
    OUTCOMES,
    PENDING,
    RATE_WINDOW,
    REFUNDED,
    SMALLEST_AMOUNT,
    TONES,
    Account,
)
from django_multipay.sandbox.payer.switches import SETTINGS
from django_multipay.sandbox.providers import (
    Operation,
    Row,
    SandboxProvider,
    World,
)
from django_multipay.sandbox.wire import (
    Malformed,
    is_web_address,
    json_object,
    origin,
)


@dataclass(slots=True, kw_only=True)
class Payment:
    """One payment; `body` is the request that made it."""

    id: str
    account: Account
    body: Mapping[str, Any]
    checkout_url: str
    created_at: datetime
    status: str = PENDING
    charges: int = 0
    decided_at: datetime | None = None
    refund_ids: list[str] = field(default_factory=list)
    callbacks: list[str] = field(default_factory=list)

    @property
    def metadata(self) -> Mapping[str, Any]:
        metadata: Mapping[str, Any] = self.body.get("metadata", {})
        return metadata

    @property
    def reference(self) -> str:
        """The merchant's own, which Payer knows only as metadata; else the id."""
        return str(self.metadata.get("merchant_reference") or self.id)

    @property
    def shown_amount(self) -> str:
        dollars, cents = divmod(self.body["amount"], 100)
        return f"${dollars:,}.{cents:02d}"

    def as_json(self) -> dict[str, Any]:
        amount = self.body["amount"]
        return {
            "reference": self.reference,
            "provider_reference": self.id,
            "status": self.status,
            "amount": amount,
            "currency": self.body["currency"],
            "refunded": str(amount if self.refund_ids else 0),
            "refunds": [
                {
                    "reference": "",
                    "provider_reference": refund_id,
                    "amount": amount,
                    "status": "succeeded",
                }
                for refund_id in self.refund_ids
            ],
            "charges": self.charges,
            "shop": self.account.shop,
            "customer_email": self.body.get("customer_email", ""),
            "customer_name": self.body.get("customer_name", ""),
            "metadata": self.metadata,
            "return_url": self.body["return_url"],
            "checkout_url": self.checkout_url,
            "created_at": self.created_at.isoformat(),
            "callbacks": self.callbacks,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What an Idempotency-Key stands for."""

    body: str
    answer: Mapping[str, Any]
    at: datetime


class Refused(Exception):
    """An answer other than 200; `code` is our word for the cause."""

    def __init__(
        self, status: int, code: str, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


class PayerProvider(SandboxProvider):
    slug = "payer"
    display_name = "Payer"
    prefixes = ("/payer/",)
    settings_table = SETTINGS
    shop_options = {
        "base_url": "/payer",
        "api_key": ACCOUNTS[0].api_key,
        "create_path": None,
        "retrieve_path": None,
        "webhook_id_field": None,
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._payments: dict[str, Payment] = {}
        # (shop, Idempotency-Key) -> the answer given
        self._remembered: dict[tuple[str, str], Remembered] = {}
        # shop -> when its minute began, and how many requests since
        self._rates: dict[str, tuple[datetime, int]] = {}
        self._outbox = Outbox(self.slug, world.deliveries, self.settings)

    def reset(self) -> None:
        super().reset()
        self._payments.clear()
        self._remembered.clear()
        self._rates.clear()

    # -- doors ---------------------------------------------------------------

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                name="create",
                method="POST",
                path="/payer/payments",
                handler=self.create,
            ),
            Operation(
                name="retrieve",
                method="GET",
                path="/payer/payments/{id}",
                handler=self.retrieve,
            ),
        )

    def pages(self) -> Sequence[BaseRoute]:
        return (Route("/payer/checkout/{id}", self.checkout, methods=["GET", "POST"]),)

    def control_routes(self) -> Sequence[BaseRoute]:
        return (
            Route("/payments", self.list_payments),
            Route("/payments/{reference}", self.show_payment),
            Route("/payments/{reference}/outcome", self.press, methods=["POST"]),
            Route("/payments/{reference}/refund", self.refund, methods=["POST"]),
            Route("/payments/{reference}/callback", self.forge, methods=["POST"]),
        )

    def rows(self) -> Sequence[Row]:
        return [self._row(item) for item in reversed(self._payments.values())]

    def refuse(self, status: int) -> Response:
        if status == 405:
            return self._error(Refused(405, "method_not_allowed", "Method not allowed"))
        return self._error(Refused(404, "not_found", "Not found"))

    # -- the calls -----------------------------------------------------------

    async def create(self, request: Request) -> Response:
        try:
            account = self._authenticate(request)
            body = await json_object(request)
            self._check(body)
            answer = self._create_once(request, account, body)
        except Malformed as error:
            return self._error(invalid(str(error)))
        except Refused as refused:
            return self._error(refused)
        return JSONResponse(answer)

    async def retrieve(self, request: Request) -> Response:
        try:
            account = self._authenticate(request)
            payment = self._payments.get(request.path_params["id"])
            if payment is None or payment.account is not account:
                raise Refused(404, "payment_not_found", "Payment not found")
        except Refused as refused:
            return self._error(refused)
        return JSONResponse(
            self._wire(payment, self.settings["status_word"] or payment.status)
        )

    def _authenticate(self, request: Request) -> Account:
        header = request.headers.get("authorization", "")
        scheme, _, given = header.partition(" ")
        if not given:
            raise Refused(401, "api_key_missing", "API key not provided")
        if scheme != "Bearer" or not API_KEY_FORM.fullmatch(given):
            raise Refused(401, "api_key_malformed", "API key format is incorrect")
        for account in ACCOUNTS:
            if hmac.compare_digest(given, account.api_key):
                break
        else:
            raise Refused(401, "api_key_unknown", "API key does not exist")
        if not account.is_active:
            raise Refused(401, "shop_inactive", "Shop is inactive")
        self._count_request(account)
        return account

    def _count_request(self, account: Account) -> None:
        now = self.world.clock.now()
        begun, count = self._rates.get(account.shop, (now, 0))
        if now - begun >= RATE_WINDOW:
            begun, count = now, 0
        self._rates[account.shop] = begun, count + 1
        most = self.settings["rate_limit_per_minute"]
        if most and count >= most:
            left = ceil((begun + RATE_WINDOW - now).total_seconds())
            raise Refused(429, "rate_limited", "Rate limit exceeded", retry_after=left)

    def _check(self, body: Mapping[str, Any]) -> None:
        if self.settings["refuse_unknown_fields"]:
            for name in body:
                if name not in FIELDS:
                    raise invalid(f"{name} is unknown")
        for name, is_required in FIELDS.items():
            if is_required and name not in body:
                raise invalid(f"{name} is required")
        # In Python a boolean is an integer; in JSON it is not.
        if type(body["amount"]) is not int:
            raise invalid("amount must be an integer")
        if body["amount"] < SMALLEST_AMOUNT:
            raise invalid(f"amount must be at least {SMALLEST_AMOUNT} cents")
        if body["currency"] != CURRENCY:
            raise invalid("currency must be usd; only USD is supported")
        if not is_web_address(body["return_url"]):
            raise invalid("return_url must be an absolute http(s) URL")
        e_mail = body.get("customer_email", "a@b")
        if not isinstance(e_mail, str) or not E_MAIL.fullmatch(e_mail):
            raise invalid("customer_email must be an e-mail address")
        name = body.get("customer_name", "-")
        if not isinstance(name, str) or not name.strip():
            raise invalid("customer_name must be a string and not empty")
        self._check_metadata(body.get("metadata", {}))

    def _check_metadata(self, metadata: object) -> None:
        if not isinstance(metadata, dict):
            raise invalid("metadata must be an object")
        if len(metadata) > METADATA_KEYS:
            raise invalid(f"metadata exceeds {METADATA_KEYS} keys")
        for value in metadata.values():
            if not isinstance(value, str | int | float | bool):
                raise invalid("metadata values must be strings, numbers or booleans")
        if len(compact(metadata)) > self.settings["metadata_bytes"]:
            raise invalid("metadata is too large")

    def _create_once(
        self, request: Request, account: Account, body: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """With a key: once for all requests that carry it. A refusal is not kept."""
        key = request.headers.get("idempotency-key")
        if key is None:
            return self._create(request, account, body)
        if not key or len(key) > KEY_LENGTH:
            raise invalid(f"Idempotency-Key must have 1 to {KEY_LENGTH} characters")
        now = self.world.clock.now()
        text = json.dumps(body, sort_keys=True)
        known = self._remembered.get((account.shop, key))
        kept = timedelta(seconds=self.settings["idempotency_seconds"])
        if known is not None and now - known.at < kept:
            reaction = self.settings["idempotency_mismatch"]
            if known.body == text or reaction == "replay":
                return known.answer
            if reaction == "refuse":
                raise Refused(
                    int(self.settings["idempotency_mismatch_status"]),
                    "idempotency_mismatch",
                    "Idempotency-Key was used with another body",
                )
        answer = self._create(request, account, body)
        self._remembered[account.shop, key] = Remembered(
            body=text, answer=answer, at=now
        )
        return answer

    def _create(
        self, request: Request, account: Account, body: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        payment_id = f"pay_{secrets.token_hex(10)}"
        payment = Payment(
            id=payment_id,
            account=account,
            body=body,
            checkout_url=f"{origin(request)}/payer/checkout/{payment_id}",
            created_at=self.world.clock.now(),
        )
        self._payments[payment_id] = payment
        return self._wire(payment, payment.status)

    def _wire(self, payment: Payment, status: str) -> dict[str, Any]:
        """The documented fields, all of them or without the absent ones."""
        currency = payment.body["currency"]
        answer = {
            "id": payment.id,
            "amount": payment.body["amount"],
            "currency": currency.upper()
            if self.settings["uppercase_currency"]
            else currency,
            "status": status,
            "checkout_url": payment.checkout_url,
            "customer_email": payment.body.get("customer_email"),
            "customer_name": payment.body.get("customer_name"),
            "metadata": payment.metadata,
            "created_at": f"{payment.created_at:%Y-%m-%dT%H:%M:%SZ}",
        }
        if self.settings["null_absent_fields"]:
            return answer
        return {name: value for name, value in answer.items() if value is not None}

    def _error(self, refused: Refused) -> Response:
        bodies: Mapping[str, Any] = {
            "nested": {"error": {"code": refused.code, "message": refused.message}},
            "flat": {"error": refused.message},
            "message": {"message": refused.message, "statusCode": refused.status},
        }
        body = bodies.get(self.settings["error_shape"])
        if body is None:
            return Response(status_code=refused.status, headers=refused.headers)
        return JSONResponse(body, status_code=refused.status, headers=refused.headers)

    # -- the checkout --------------------------------------------------------

    async def checkout(self, request: Request) -> Response:
        payment = self._payments.get(request.path_params["id"])
        if payment is None:
            return pages.page("payer/stop.html", status=404)
        problem = ""
        if request.method == "POST" and self._is_open(payment):
            outcome = (await pages.read_form(request)).get("outcome", "")
            if outcome not in OUTCOMES:
                problem = unknown_outcome(outcome, OUTCOMES)
            else:
                await self._decide(payment, outcome)
                if OUTCOMES[outcome].is_return:
                    return RedirectResponse(self._return_url(payment), status_code=303)
        return pages.page(
            "payer/checkout.html",
            status=400 if problem else 200,
            payment=payment,
            is_open=self._is_open(payment),
            outcomes=OUTCOMES,
            return_url=self._return_url(payment),
            problem=problem,
        )

    def _is_open(self, payment: Payment) -> bool:
        is_retry = payment.status == FAILED and self.settings["failed_may_retry"]
        return payment.status == PENDING or is_retry

    async def _decide(self, payment: Payment, outcome: str) -> None:
        """Book what the buyer chose, then tell the shop. Nobody pays twice."""
        status = OUTCOMES[outcome].status
        if not status or not self._is_open(payment):
            return
        payment.status = status
        payment.decided_at = self.world.clock.now()
        payment.charges += status == COMPLETED
        await self._tell(payment)

    async def _tell(self, payment: Payment) -> None:
        message = self._message(payment, payment.status)
        await self._outbox.deliver(self._outbox.record(message))

    def _return_url(self, payment: Payment) -> str:
        parts = urlsplit(str(payment.body["return_url"]))
        added = urlencode({self.settings["return_parameter"]: payment.id})
        query = f"{parts.query}&{added}" if parts.query else added
        return urlunsplit(parts._replace(query=query))

    # -- the webhook ---------------------------------------------------------

    def _message(
        self, payment: Payment, status: str, forgery: Forgery | None = None
    ) -> Message:
        told = self._webhook(payment, status)
        return Message(
            kind="webhook",
            url=self.settings["webhook_url"],
            body=json.dumps(forgery.applied_to(told) if forgery else told),
            headers={"Content-Type": "application/json"},
            order_id=payment.reference,
            callbacks=payment.callbacks,
        )

    def _webhook(self, payment: Payment, status: str) -> dict[str, Any]:
        """Documented is only that it has the payment's details and its metadata."""
        match self.settings["webhook_shape"]:
            case "minimal":
                return {"payment_id": payment.id}
            case "event":
                data = self._wire(payment, status)
                return {"type": f"payment.{status}", "data": data}
            case _:
                return self._wire(payment, status)

    # -- control desk --------------------------------------------------------

    async def list_payments(self, request: Request) -> Response:
        payments = self._payments.values()
        return JSONResponse([payment.as_json() for payment in payments])

    async def show_payment(self, request: Request) -> Response:
        return JSONResponse(self._payment(request).as_json())

    async def press(self, request: Request) -> Response:
        """A button of the checkout, pressed by a program."""
        payment = self._payment(request)
        outcome, _ = await read_outcome(request, OUTCOMES)
        await self._decide(payment, outcome)
        is_return = OUTCOMES[outcome].is_return
        url = self._return_url(payment) if is_return else None
        return JSONResponse(sent_back(url, payment=payment.as_json()))

    async def refund(self, request: Request) -> Response:
        """Somebody refunds the whole payment in Payer's dashboard; no API does."""
        payment = self._payment(request)
        if payment.status != COMPLETED:
            raise HTTPException(409, f"{payment.reference} is not {COMPLETED}")
        payment.status = REFUNDED
        payment.refund_ids.append(f"ref_{secrets.token_hex(10)}")
        await self._tell(payment)
        return JSONResponse(payment.as_json())

    async def forge(self, request: Request) -> Response:
        """A webhook with any field changed (null drops it); pending says completed."""
        payment = self._payment(request)
        forgery = Forgery.read(await read_json(request))
        status = COMPLETED if payment.status == PENDING else payment.status
        message = self._message(payment, status, forgery)
        return JSONResponse(await self._outbox.forge(message, forgery))

    def _payment(self, request: Request) -> Payment:
        """By id, or the newest with this reference: Payer lets it repeat."""
        payments = self._payments.values()
        return find_payment(request, payments, lambda one: {one.id, one.reference})

    def _row(self, payment: Payment) -> Row:
        control = self.control_path(payment.id)
        actions = []
        if self._is_open(payment):
            actions += [
                (OUTCOMES[name].label, f"{control}/outcome?outcome={name}")
                for name in ("approve", "decline")
            ]
        if payment.status == COMPLETED:
            actions.append(("Refund in the dashboard", f"{control}/refund"))
        actions.append(("Send another webhook", f"{control}/callback"))
        notes = [payment.id, payment.account.shop]
        return Row(
            reference=payment.reference,
            amount=payment.shown_amount,
            status=payment.status,
            tone=TONES.get(payment.status, ""),
            at=payment.decided_at,
            note=" / ".join(notes),
            actions=tuple(actions),
            page=payment.checkout_url,
        )


def invalid(message: str) -> Refused:
    return Refused(400, "invalid_parameters", message)


def compact(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
