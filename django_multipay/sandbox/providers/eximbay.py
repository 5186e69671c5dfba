"""Eximbay's doors: the API, what browsers open, and the control desk.

The rooms behind them (documents, ledger, outcomes, callbacks ...) are in
`django_multipay/sandbox/eximbay/`.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from django_multipay.sandbox import pages
from django_multipay.sandbox.books import CallbackEntry
from django_multipay.sandbox.callbacks import Policy
from django_multipay.sandbox.control import read_json
from django_multipay.sandbox.eximbay.api import Api, origin
from django_multipay.sandbox.eximbay.callback import (
    FORM_HEADERS,
    callback_fields,
    encode,
    is_acknowledged,
    is_answered,
    is_same,
    sign,
)
from django_multipay.sandbox.eximbay.codes import (
    ACCOUNTS,
    ACCOUNTS_BY_MID,
    BAD_FGKEY,
    BAD_REQUEST,
    DECLINES,
    DEFERRED,
    GROUP_OF,
    LABELS,
    LANGUAGES,
    NOT_FOUND,
    OK,
    card_digits,
    is_card,
)
from django_multipay.sandbox.eximbay.documents import (
    Refused,
)
from django_multipay.sandbox.eximbay.ledger import (
    AUTH,
    FAILED,
    REGISTERED,
    SALE,
    Ledger,
    Numbers,
    Payment,
    SavedToken,
    seoul_time,
    shown_amount,
)
from django_multipay.sandbox.eximbay.outcomes import Till, Verdict
from django_multipay.sandbox.eximbay.switches import SETTINGS
from django_multipay.sandbox.providers import (
    Operation,
    Row,
    SandboxProvider,
    World,
)

# Colors of the control page.
TONES = {SALE: "good", AUTH: "good", REGISTERED: "wait", FAILED: "bad"}


class EximbayProvider(SandboxProvider):
    slug = "eximbay"
    display_name = "Eximbay"
    prefixes = ("/v1/", "/v2/", "/Gateway/")
    settings_table = SETTINGS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.ledger = Ledger()
        self._numbers = Numbers(world.clock.now())
        self._till = Till(self.ledger, self._numbers, world.clock)
        self._api = Api(self.ledger, self.settings)

    def reset(self) -> None:
        super().reset()
        self.ledger.clear()

    # -- doors ---------------------------------------------------------------

    def operations(self) -> Sequence[Operation]:
        return self._api.operations()

    def pages(self) -> Sequence[BaseRoute]:
        return (
            Route("/{version}/javascriptSDK.js", self.sdk),
            Route("/Gateway/BasicProcessor.krp", self.open_page, methods=["POST"]),
            Route("/Gateway/pay/{page}", self.payment_page, methods=["GET", "POST"]),
            Route(
                "/Gateway/instructions/{transaction_id}",
                self.instructions,
                methods=["GET", "POST"],
            ),
        )

    def control_routes(self) -> Sequence[BaseRoute]:
        return (
            Route("/payments", self.list_payments),
            Route("/payments/{order_id}", self.show_payment),
            Route("/payments/{order_id}/deposit", self.deposit, methods=["POST"]),
            Route("/payments/{order_id}/callback", self.forge, methods=["POST"]),
            Route("/tokens", self.tokens, methods=["GET", "POST"]),
            Route("/plans", self.list_plans),
        )

    def rows(self) -> Sequence[Row]:
        return [self._row(item) for item in reversed(self.ledger.payments.values())]

    def refuse(self, status: int) -> Response:
        return self._api.refuse(status)

    # -- pages ---------------------------------------------------------------

    async def sdk(self, request: Request) -> Response:
        version = request.path_params["version"]
        if version not in ("v1", "v2"):
            raise HTTPException(404)
        return Response(
            pages.render("eximbay/javascriptSDK.js", uses_jquery=version == "v1"),
            media_type="text/javascript",
            headers={"Cache-Control": "no-store"},
        )

    async def open_page(self, request: Request) -> Response:
        """The form the SDK submits; every field of it is covered by the fgkey."""
        form = await request.form()
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        # Added by the SDK after signing; it comes back in every callback.
        param3 = fields.pop("param3", "")
        fgkey = fields.pop("fgkey", None)
        account = ACCOUNTS_BY_MID.get(fields.get("mid", ""))
        if account is None or not is_same(fgkey, sign(account.secret, fields.items())):
            return _stop(BAD_FGKEY, "fgkey mismatch")
        if self.ledger.is_used(account.mid, fields["ref"]):
            return _stop(BAD_REQUEST, "order_id has been used before")
        payment = Payment(fields={**fields, "param3": param3})
        page_id = secrets.token_urlsafe(16)
        self.ledger.pages[page_id] = payment
        return RedirectResponse(f"/Gateway/pay/{page_id}", status_code=303)

    async def payment_page(self, request: Request) -> Response:
        payment = self.ledger.pages.get(request.path_params["page"])
        if payment is None:
            return _stop(BAD_REQUEST, "this payment page does not exist", status=404)
        if payment.closed:
            return self._back(payment, is_reload=True)
        if self.ledger.is_used(payment.mid, payment.order_id):
            return _stop("EEEE", "Duplicated page call")
        if request.method == "GET":
            return self._choices(payment)
        form = {
            name: value
            for name, value in (await request.form()).items()
            if isinstance(value, str)
        }
        try:
            verdict = self._till.decide(payment, form, origin(request))
        except Refused as refused:
            return self._choices(payment, problem=refused.resmsg)
        return await self._send_out(payment, verdict)

    def _choices(self, payment: Payment, problem: str = "") -> Response:
        codes = self._till.offered(payment)
        groups: dict[str, list[tuple[str, str]]] = {}
        for code in codes:
            name = GROUP_OF.get(code, "wallets")
            groups.setdefault(name, []).append((code, LABELS.get(code, code)))
        return pages.page(
            "eximbay/pay.html",
            status=400 if problem else 200,
            lang=page_language(payment),
            payment=payment,
            amount=shown_amount(payment),
            groups=groups,
            declines=DECLINES,
            can_register=any(code in DEFERRED for code in codes),
            saved=self.ledger.tokens.get(payment.fields.get("token_id", "")),
            problem=problem,
        )

    def _deposit(self, payment: Payment) -> None:
        """The money of a registered order: told through the status URL alone."""
        if payment.status != REGISTERED:
            raise HTTPException(409, f"{payment.order_id} is not REGISTERED")
        self._till.receive_deposit(payment)
        if not self.settings["return_only"]:
            self._start(self._record_status(payment, payment), delay=0)

    # -- callbacks -----------------------------------------------------------

    async def _send_out(self, payment: Payment, verdict: Verdict) -> Response:
        returned = None if self.settings["status_only"] else verdict.returned
        if returned is not None:
            payment.returned = self._encoded(returned)
        if not self.settings["return_only"]:
            entry = self._record_status(payment, verdict.notified)
            is_first = self.settings["send_status_before_return"]
            if verdict.is_return_first or not is_first:
                self._start(entry, delay=self.settings["status_delay_seconds"])
            else:
                await self._start(entry, delay=0).wait()
        if returned is not None:
            self._record_return(payment)
        return self._back(payment)

    def _encoded(self, payment: Payment) -> str:
        fields = callback_fields(payment, self.settings)
        return encode(payment.account, fields, self.settings)

    def _record_status(self, payment: Payment, told: Payment) -> CallbackEntry:
        return self._record(
            payment,
            kind="status",
            url=payment.fields["statusurl"],
            body=self._encoded(told),
        )

    def _record_return(self, payment: Payment) -> CallbackEntry:
        return self._record(
            payment,
            kind="return",
            url=payment.fields["returnurl"],
            body=payment.returned,
        )

    def _record(
        self, payment: Payment, *, kind: str, url: str, body: str
    ) -> CallbackEntry:
        entry = self.world.deliveries.record(
            provider=self.slug,
            kind=kind,
            url=url,
            body=body,
            headers=FORM_HEADERS,
            order_id=payment.order_id,
            is_acknowledged=is_acknowledged if kind == "status" else is_answered,
            # A return is in the buyer's hands; whether it arrives nobody tells us.
            delivered=kind == "return",
        )
        payment.callbacks.append(entry.id)
        return entry

    def _start(self, entry: CallbackEntry, *, delay: float) -> asyncio.Event:
        """Begin delivery; the event is set after the first try."""
        if not self.settings["callbacks_enabled"]:
            recorded = asyncio.Event()
            recorded.set()
            return recorded
        return self.world.deliveries.schedule(
            entry,
            Policy(
                tries=int(self.settings["retry_count"]),
                retry_delay=self.settings["retry_delay_seconds"],
                first_delay=delay,
                duplicates=int(self.settings["duplicate_status"]),
            ),
        )

    def _back(self, payment: Payment, *, is_reload: bool = False) -> Response:
        """The last page: on to the shop by itself, by a button, or not at all.

        Without autoclose Eximbay shows its own page first, after a success only.
        """
        fields = parse_qsl(payment.returned, keep_blank_values=True)
        is_success = dict(fields).get("rescode", payment.rescode) == OK
        is_direct = payment.fields.get("autoclose") == "Y" or not is_success
        return pages.page(
            "eximbay/back.html",
            lang=page_language(payment),
            payment=payment,
            amount=shown_amount(payment),
            fields=fields,
            method=self.settings["return_method"],
            href=with_query(payment.fields["returnurl"], payment.returned),
            is_automatic=is_direct and not is_reload,
            is_success=is_success,
        )

    async def instructions(self, request: Request) -> Response:
        """How to pay a registered order, and the deposit itself."""
        wanted = request.path_params["transaction_id"]
        for payment in self.ledger.payments.values():
            if payment.transaction_id == wanted and payment.method in DEFERRED:
                break
        else:
            return _stop(NOT_FOUND, "No Transaction", status=404)
        if request.method == "POST" and payment.status == REGISTERED:
            self._deposit(payment)
        return pages.page(
            "eximbay/instructions.html",
            lang=page_language(payment),
            payment=payment,
            amount=shown_amount(payment),
        )

    # -- control desk --------------------------------------------------------

    async def list_payments(self, request: Request) -> Response:
        payments = self.ledger.payments.values()
        return JSONResponse([payment.as_json() for payment in payments])

    async def show_payment(self, request: Request) -> Response:
        return JSONResponse(self._payment(request).as_json())

    async def deposit(self, request: Request) -> Response:
        payment = self._payment(request)
        self._deposit(payment)
        return JSONResponse(payment.as_json())

    async def forge(self, request: Request) -> Response:
        """A correctly signed callback with any field changed (null drops it)."""
        payment = self._payment(request)
        overrides = await read_json(request)
        is_sent = overrides.pop("send", True)
        url = overrides.pop("url", payment.fields["statusurl"])
        fields: dict[str, str] = callback_fields(
            self._as_if_paid(payment), self.settings
        )
        for name, value in overrides.items():
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = str(value)
        body = encode(payment.account, fields, self.settings)
        answer: dict[str, Any] = {"body": body, "url": url, "callback": None}
        if is_sent:
            entry = self._record(payment, kind="status", url=url, body=body)
            await self.world.deliveries.send(entry)
            answer["callback"] = entry.as_json()
        return JSONResponse(answer)

    def _as_if_paid(self, payment: Payment) -> Payment:
        """An order without an outcome is forged as paid; the books do not change."""
        if payment.closed:
            return payment
        now = self.world.clock.now()
        return replace(
            payment,
            rescode=OK,
            resmsg="Success.",
            status=SALE,
            method="P101",
            auth_code="000000",
            transaction_date=seoul_time(now),
            transaction_id=self._numbers.transaction_id(
                payment.mid, now, is_domestic=False
            ),
        )

    async def tokens(self, request: Request) -> Response:
        if request.method == "POST":
            wish = await read_json(request)
            mid = str(wish.get("mid", ACCOUNTS[0].mid))
            method = str(wish.get("method", "P101"))
            if mid not in ACCOUNTS_BY_MID or not is_card(method):
                raise HTTPException(400, "unknown mid, or method is not a card")
            token = SavedToken(
                token_id=self._numbers.token_id(self.world.clock.now()),
                mid=mid,
                method=method,
                card=card_digits(method),
            )
            self.ledger.tokens[token.token_id] = token
            return JSONResponse(token.as_json(), status_code=201)
        tokens = self.ledger.tokens.values()
        return JSONResponse([token.as_json() for token in tokens])

    async def list_plans(self, request: Request) -> Response:
        return JSONResponse([plan.as_json() for plan in self.ledger.plans.values()])

    def _payment(self, request: Request) -> Payment:
        order_id = request.path_params["order_id"]
        payment = self.ledger.by_order(order_id)
        if payment is None:
            raise HTTPException(404, f"no payment {order_id}")
        return payment

    def _row(self, payment: Payment) -> Row:
        control = f"/_control/{self.slug}/payments/{quote(payment.order_id, safe='')}"
        actions = []
        if payment.status == REGISTERED:
            actions.append(("Deposit arrives", f"{control}/deposit"))
        if payment.closed:
            actions.append(("Send another status", f"{control}/callback"))
        notes = [
            payment.transaction_type,
            LABELS.get(payment.method, payment.method),
            f"rescode {payment.rescode}" if payment.rescode else "",
            payment.dm_decision,
            "token saved" if payment.token_id else "",
            "recurring" if payment.recurring_id else "",
        ]
        return Row(
            reference=payment.order_id,
            amount=shown_amount(payment),
            status=payment.status,
            tone=TONES.get(payment.status, ""),
            note=" / ".join(note for note in notes if note),
            actions=tuple(actions),
        )


def with_query(url: str, query: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{query}"


def page_language(payment: Payment) -> str:
    lang = payment.fields["lang"]
    return lang if lang in LANGUAGES else "EN"


def _stop(rescode: str, resmsg: str, status: int = 400) -> Response:
    """A page that ends the payment before any outcome."""
    return pages.page(
        "eximbay/stop.html", status=status, rescode=rescode, resmsg=resmsg
    )
