"""Excoinz ExPay's side of the wire: one call, one hosted page, one webhook.

Written from the public pages "Payment APIs" and "WebHook" (payment.excoinz.com, read
2026-11-21). They document one error code and no inquiry, refund or return URL; what
is marked ASSUMED below is ours.
"""

import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from django_multipay.sandbox import pages
from django_multipay.sandbox.agenda import Agenda
from django_multipay.sandbox.callbacks import Forgery, Message, Outbox
from django_multipay.sandbox.control import (
    find_payment,
    read_json,
    read_outcome,
    sent_back,
    unknown_outcome,
)
from django_multipay.sandbox.providers import (
    CALLBACK_SETTINGS,
    WEBHOOK_URL,
    Operation,
    Row,
    SandboxProvider,
    Setting,
    World,
)
from django_multipay.sandbox.wire import (
    Malformed,
    is_web_address,
    json_object,
    origin,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A merchant. The secret key authenticates its calls and our webhooks."""

    client_id: str
    secret_key: str = field(repr=False)


# Made up here; older pages of Excoinz give a client id twelve characters.
ACCOUNTS = (
    Account(
        client_id="SANDBOXEXPAY",
        secret_key="sk_sandbox_expay_4f1d0c7b9a2e4d6f",  # noqa: S106
    ),
    Account(
        client_id="SANDBOXOTHER",
        secret_key="sk_sandbox_other_8b3a6e5d1c0f4a92",  # noqa: S106
    ),
)

INVALID_CLIENT_ID = -101
# ASSUMED: the page "Error Code" is not public, so these are made up here.
INVALID_SECRET = -102
INVALID_REQUEST = -103
DUPLICATE_ORDER = -104
NOT_FOUND = -105

SYMBOL = "USDT"
LOCALES = ("en", "cn", "ko")
# name -> most characters; 0 where no page says. The lengths are of the older pages.
FIELDS: Mapping[str, int] = {
    "client_id": 0,
    "item_name": 0,
    "item_img_url": 0,
    "partner_order_id": 100,
    "partner_user_id": 100,
    "amount": 24,
    "locale": 0,
}
# ASSUMED: a shop without pictures, or a guest, sends these empty.
MAY_BE_EMPTY = frozenset({"item_img_url", "partner_user_id"})
PLAIN_DECIMAL = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)

# The three states of the webhook, and ours for an order nobody has paid yet.
READY = "ready"
SUCCESS = "success"
PENDING = "pending"
FAIL = "fail"
TONES = {SUCCESS: "good", PENDING: "wait", FAIL: "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One button of the hosted page; `share` of the amount is paid."""

    state: str
    label: str
    help: str
    share: Decimal = Decimal(0)


OUTCOMES: Mapping[str, Outcome] = {
    "approve": Outcome(
        state=SUCCESS,
        share=Decimal(1),
        label="Pay",
        help="The whole amount arrives: state success.",
    ),
    "decline": Outcome(
        state=FAIL, label="Fail", help="Refused, or too few coins: state fail."
    ),
    "cancel": Outcome(
        state=FAIL, label="Cancel", help="The buyer gives up: state fail."
    ),
    "expire": Outcome(
        state=FAIL, label="Let it expire", help="Nobody pays in time: state fail."
    ),
    "underpay": Outcome(
        state=SUCCESS,
        share=Decimal("0.5"),
        label="Pay less",
        help="State success, but half of the amount.",
    ),
    "overpay": Outcome(
        state=SUCCESS,
        share=Decimal("1.5"),
        label="Pay more",
        help="State success, and half as much again.",
    ),
    "pending": Outcome(
        state=PENDING,
        label="Pay, not confirmed yet",
        help="State pending; the order stays open for another outcome.",
    ),
}
# All that a page offers while the payment waits to be confirmed.
WHILE_PENDING = ("approve", "decline")

SETTINGS = (
    WEBHOOK_URL,
    *CALLBACK_SETTINGS,
    Setting(
        "webhook_secret",
        "",
        help="The secret in webhooks; empty: the secret key of the API.",
    ),
    Setting("wrong_secret", False, help="Webhooks carry a secret of somebody else."),
    Setting("null_ref_id", False, help="Webhooks carry `refId` null."),
    Setting("amount_differs", False, help="Webhooks say one USDT more than was paid."),
    Setting(
        "fail_amount",
        "paid",
        choices=("paid", "requested"),
        help="`amount` of a fail: what was paid (0), or what was asked for.",
    ),
    Setting(
        "status_word",
        "",
        help="Webhooks carry this word as `state`; empty: the right one.",
    ),
    Setting(
        "return_url", "", help="Where the last page links to; empty: it has no link."
    ),
    Setting(
        "page_lifetime_seconds",
        3600,
        help="How long a new page can be paid, on the sandbox clock.",
    ),
    Setting(
        "duplicate_order_answer",
        "refuse",
        choices=("refuse", "repeat", "page"),
        help="A used partner_order_id is refused, gets its first URL again, or the "
        "URL of a page that refuses.",
    ),
    Setting(
        "duplicate_order_status", 400, help="HTTP status of a refused partner_order_id."
    ),
    Setting(
        "require_all_fields",
        True,
        help="false: only client_id, item_name, partner_order_id and amount must be "
        "there.",
    ),
    Setting(
        "refuse_unknown_fields",
        True,
        help="A field the document does not know is refused.",
    ),
    Setting("amount_decimals", 6, help="Most decimals of an amount."),
    Setting("auth_error_status", 401, help="HTTP status of a wrong secret."),
    Setting("request_error_status", 400, help="HTTP status of a malformed request."),
)
ALWAYS_MANDATORY = frozenset({"client_id", "item_name", "partner_order_id", "amount"})


@dataclass(slots=True, kw_only=True)
class Payment:
    """One order. `ref_id` is Excoinz's own id, which only the webhook tells."""

    account: Account
    fields: Mapping[str, str]
    redirect_url: str
    ref_id: str
    created_at: datetime
    state: str = READY
    paid: Decimal = Decimal(0)
    charges: int = 0
    decided_at: datetime | None = None
    callbacks: list[str] = field(default_factory=list)

    @property
    def order_id(self) -> str:
        return self.fields["partner_order_id"]

    @property
    def amount(self) -> str:
        return self.fields["amount"]

    @property
    def is_closed(self) -> bool:
        """`success` and `fail` are final: the order id is closed afterwards."""
        return self.state in (SUCCESS, FAIL)

    def as_json(self) -> dict[str, Any]:
        return {
            "reference": self.order_id,
            "provider_reference": self.ref_id,
            "status": self.state,
            "amount": self.amount,
            "currency": SYMBOL,
            "paid_amount": f"{self.paid:f}",
            "refunded": "0",
            "refunds": [],
            "charges": self.charges,
            "client_id": self.account.client_id,
            "item_name": self.fields["item_name"],
            "item_img_url": self.fields.get("item_img_url", ""),
            "partner_user_id": self.fields.get("partner_user_id", ""),
            "locale": self.fields.get("locale", ""),
            "redirect_url": self.redirect_url,
            "created_at": self.created_at.isoformat(),
            "callbacks": self.callbacks,
        }


class Refused(Exception):
    """An answer of `/payment/ready` other than 200."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def answer(self) -> Response:
        return JSONResponse(
            {"code": self.code, "message": self.message}, status_code=self.status
        )


class ExcoinzProvider(SandboxProvider):
    slug = "excoinz"
    display_name = "Excoinz ExPay"
    prefixes = ("/excoinz/",)
    settings_table = SETTINGS
    shop_options = {
        "base_url": "/excoinz",
        "client_id": ACCOUNTS[0].client_id,
        "secret_key": ACCOUNTS[0].secret_key,
        "webhook_secret": None,
        "source_addresses": None,
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        # (client id, order id) and page token -> payment
        self._orders: dict[tuple[str, str], Payment] = {}
        self._pages: dict[str, Payment] = {}
        self._agenda = Agenda(world.clock)
        self._outbox = Outbox(self.slug, world.deliveries, self.settings)

    def reset(self) -> None:
        super().reset()
        self._agenda.clear()
        self._orders.clear()
        self._pages.clear()

    # -- doors ---------------------------------------------------------------

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                name="ready",
                method="POST",
                path="/excoinz/payment/ready",
                handler=self.ready,
            ),
        )

    def pages(self) -> Sequence[BaseRoute]:
        return (
            Route("/excoinz/pay/payment", self.payment_page, methods=["GET", "POST"]),
        )

    def control_routes(self) -> Sequence[BaseRoute]:
        return (
            Route("/payments", self.list_payments),
            Route("/payments/{reference}", self.show_payment),
            Route("/payments/{reference}/outcome", self.press, methods=["POST"]),
            Route("/payments/{reference}/callback", self.forge, methods=["POST"]),
        )

    def rows(self) -> Sequence[Row]:
        return [self._row(item) for item in reversed(self._orders.values())]

    def refuse(self, status: int) -> Response:
        message = "Method Not Allowed" if status == 405 else "Not Found"
        return Refused(status, NOT_FOUND, message).answer()

    # -- the call ------------------------------------------------------------

    async def ready(self, request: Request) -> Response:
        try:
            account = self._authenticate(request)
            fields = await json_object(request)
            if fields.get("client_id") != account.client_id:
                raise Refused(400, INVALID_CLIENT_ID, "Invalid Client ID")
            self._check(fields)
            redirect_url = self._open(request, account, fields)
        except Malformed as error:
            return self._malformed(str(error)).answer()
        except Refused as refused:
            return refused.answer()
        return JSONResponse({"redirect_url": redirect_url})

    def _authenticate(self, request: Request) -> Account:
        """The header's name has an underscore; a hyphen is another header."""
        given = request.headers.getlist("EXCOINZ_SECRET")
        for account in ACCOUNTS:
            expected = f"Bearer {account.secret_key}"
            if len(given) == 1 and hmac.compare_digest(
                given[0].encode(), expected.encode()
            ):
                return account
        raise Refused(
            int(self.settings["auth_error_status"]),
            INVALID_SECRET,
            "Invalid Secret Key",
        )

    def _check(self, fields: Mapping[str, Any]) -> None:
        if self.settings["refuse_unknown_fields"]:
            for name in fields:
                if name not in FIELDS:
                    raise self._malformed(f"{name} is unknown")
        is_strict = self.settings["require_all_fields"]
        for name, most in FIELDS.items():
            if name not in fields:
                if is_strict or name in ALWAYS_MANDATORY:
                    raise self._malformed(f"{name} is mandatory")
                continue
            value = fields[name]
            if not isinstance(value, str):
                raise self._malformed(f"{name} must be a string")
            if not value.strip() and name not in MAY_BE_EMPTY:
                raise self._malformed(f"{name} is empty")
            if most and len(value) > most:
                raise self._malformed(f"{name} is longer than {most} characters")
        self._check_amount(fields["amount"])
        if fields.get("locale", LOCALES[0]) not in LOCALES:
            raise self._malformed(f"locale must be one of {', '.join(LOCALES)}")
        picture = fields.get("item_img_url")
        if picture and not is_web_address(picture):
            raise self._malformed("item_img_url is not an http(s) URL")

    def _check_amount(self, amount: str) -> None:
        if not PLAIN_DECIMAL.fullmatch(amount) or not Decimal(amount):
            raise self._malformed("amount must be a plain decimal above zero")
        if len(amount.partition(".")[2]) > self.settings["amount_decimals"]:
            raise self._malformed("amount has too many decimals")

    def _malformed(self, message: str) -> Refused:
        return Refused(
            int(self.settings["request_error_status"]), INVALID_REQUEST, message
        )

    def _open(
        self, request: Request, account: Account, fields: Mapping[str, str]
    ) -> str:
        """The payment page of a new order. A used order id is never paid again."""
        locale = fields.get("locale", LOCALES[0])
        token = secrets.token_urlsafe(24)
        redirect_url = (
            f"{origin(request)}/excoinz/pay/payment?locale={locale}&t={token}"
        )
        key = (account.client_id, fields["partner_order_id"])
        if key in self._orders:
            reaction = self.settings["duplicate_order_answer"]
            if reaction == "repeat":
                return self._orders[key].redirect_url
            if reaction == "page":
                # No page knows this token, so it opens the page that refuses.
                return redirect_url
            raise Refused(
                int(self.settings["duplicate_order_status"]),
                DUPLICATE_ORDER,
                "Duplicate Partner Order ID",
            )
        payment = Payment(
            account=account,
            fields=fields,
            redirect_url=redirect_url,
            ref_id=secrets.token_hex(12),
            created_at=self.world.clock.now(),
        )
        self._orders[key] = self._pages[token] = payment
        # ASSUMED: no page says how long a payment page lives.
        lifetime = timedelta(seconds=self.settings["page_lifetime_seconds"])
        self._agenda.at(payment.created_at + lifetime, lambda: self._expire(payment))
        return redirect_url

    # -- the page ------------------------------------------------------------

    async def payment_page(self, request: Request) -> Response:
        locale = request.query_params.get("locale", "")
        lang = locale if locale in LOCALES else LOCALES[0]
        payment = self._pages.get(request.query_params.get("t", ""))
        if payment is None:
            return pages.page("excoinz/stop.html", status=404, lang=lang)
        problem = ""
        if request.method == "POST":
            outcome = (await pages.read_form(request)).get("outcome", "")
            if outcome in OUTCOMES:
                await self._decide(payment, outcome)
            else:
                problem = unknown_outcome(outcome, OUTCOMES)
        return pages.page(
            "excoinz/pay.html",
            status=400 if problem else 200,
            lang=lang,
            payment=payment,
            symbol=SYMBOL,
            outcomes={name: OUTCOMES[name] for name in offered(payment)},
            return_url=self.settings["return_url"],
            problem=problem,
        )

    async def _decide(self, payment: Payment, outcome: str) -> None:
        """Book what the buyer chose, then tell the shop. A closed order stays so."""
        if not payment.is_closed:
            self._book(payment, OUTCOMES[outcome])
            await self._outbox.deliver(self._outbox.record(self._message(payment)))

    def _expire(self, payment: Payment) -> None:
        if payment.state == READY:
            self._book(payment, OUTCOMES["expire"])
            self._outbox.start(self._outbox.record(self._message(payment)))

    def _book(self, payment: Payment, chosen: Outcome) -> None:
        payment.state = chosen.state
        if payment.is_closed:
            payment.decided_at = self.world.clock.now()
        if chosen.state == SUCCESS:
            smallest = Decimal(1).scaleb(-int(self.settings["amount_decimals"]))
            paid = Decimal(payment.amount) * chosen.share
            is_whole = chosen.share == 1
            payment.paid = paid if is_whole else paid.quantize(smallest, ROUND_DOWN)
            payment.charges += 1

    # -- the webhook ---------------------------------------------------------

    def _message(self, payment: Payment, forgery: Forgery | None = None) -> Message:
        told = self._webhook(payment)
        return Message(
            kind="webhook",
            url=self.settings["webhook_url"],
            body=json.dumps(forgery.applied_to(told) if forgery else told),
            headers={"Content-Type": "application/json"},
            order_id=payment.order_id,
            callbacks=payment.callbacks,
            secret_fields=frozenset({"secret"}),
        )

    def _webhook(self, payment: Payment) -> dict[str, Any]:
        """The six documented fields. An order nobody paid yet is told as paid."""
        state = SUCCESS if payment.state == READY else payment.state
        amount = Decimal(payment.amount)
        if payment.is_closed and (
            state == SUCCESS or self.settings["fail_amount"] == "paid"
        ):
            amount = payment.paid
        if self.settings["amount_differs"]:
            amount += 1
        secret = self.settings["webhook_secret"] or payment.account.secret_key
        return {
            "secret": f"not-{secret}" if self.settings["wrong_secret"] else secret,
            "txId": payment.order_id,
            "state": self.settings["status_word"] or state,
            "amount": f"{amount:f}",
            "symbol": SYMBOL,
            "refId": None if self.settings["null_ref_id"] else payment.ref_id,
        }

    # -- control desk --------------------------------------------------------

    async def list_payments(self, request: Request) -> Response:
        return JSONResponse([payment.as_json() for payment in self._orders.values()])

    async def show_payment(self, request: Request) -> Response:
        return JSONResponse(self._payment(request).as_json())

    async def press(self, request: Request) -> Response:
        """A button of the hosted page, pressed by a program."""
        payment = self._payment(request)
        outcome, _ = await read_outcome(request, OUTCOMES)
        await self._decide(payment, outcome)
        return JSONResponse(
            sent_back(self.settings["return_url"], payment=payment.as_json())
        )

    async def forge(self, request: Request) -> Response:
        """A webhook with the right secret and any field changed (null drops it)."""
        payment = self._payment(request)
        forgery = Forgery.read(await read_json(request))
        message = self._message(payment, forgery)
        return JSONResponse(await self._outbox.forge(message, forgery))

    def _payment(self, request: Request) -> Payment:
        """The newest with this order id: two merchants may use the same."""
        return find_payment(request, self._orders.values(), lambda one: {one.order_id})

    def _row(self, payment: Payment) -> Row:
        control = self.control_path(payment.order_id)
        actions = []
        if not payment.is_closed:
            actions += [
                (OUTCOMES[name].label, f"{control}/outcome?outcome={name}")
                for name in ("approve", "decline")
            ]
        actions.append(("Send another webhook", f"{control}/callback"))
        notes = [
            payment.fields["item_name"],
            payment.account.client_id,
            f"paid {payment.paid:f}" if payment.charges else "",
        ]
        return Row(
            reference=payment.order_id,
            amount=f"{payment.amount} {SYMBOL}",
            status=payment.state,
            tone=TONES.get(payment.state, ""),
            at=payment.decided_at,
            note=" / ".join(note for note in notes if note),
            actions=tuple(actions),
            page=payment.redirect_url,
        )


def offered(payment: Payment) -> Sequence[str]:
    """The outcomes an order can still have."""
    if payment.is_closed:
        return ()
    return WHILE_PENDING if payment.state == PENDING else tuple(OUTCOMES)
