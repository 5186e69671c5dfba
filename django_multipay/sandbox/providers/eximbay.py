"""Eximbay's doors: the API, what browsers open, and the control desk.

The rooms behind them (documents, ledger, outcomes, callbacks ...) are in
`django_multipay/sandbox/eximbay/`.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

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
)
from django_multipay.sandbox.eximbay.api import Api
from django_multipay.sandbox.eximbay.callback import (
    FORM_HEADERS,
    callback_fields,
    encode,
    is_acknowledged,
    is_answered,
    is_same,
    sign,
)
from django_multipay.sandbox.eximbay.changes import ChangesApi
from django_multipay.sandbox.eximbay.charges import Charges
from django_multipay.sandbox.eximbay.codes import (
    ACCOUNTS,
    ACCOUNTS_BY_MID,
    BAD_FGKEY,
    BAD_REQUEST,
    CANCELED_BY_BUYER,
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
from django_multipay.sandbox.eximbay.gate import Gate
from django_multipay.sandbox.eximbay.ledger import (
    AUTH,
    FAILED,
    REGISTERED,
    SALE,
    Ledger,
    Numbers,
    Payment,
    RecurringPlan,
    SavedToken,
    seoul_time,
    shown_amount,
    wire_amount,
    with_commas,
)
from django_multipay.sandbox.eximbay.outcomes import OUTCOMES, Till, Verdict
from django_multipay.sandbox.eximbay.plans import Plans
from django_multipay.sandbox.eximbay.stored import StoredApi
from django_multipay.sandbox.eximbay.switches import SETTINGS
from django_multipay.sandbox.providers import (
    Operation,
    PlanRow,
    Row,
    SandboxProvider,
    World,
    every_months,
)
from django_multipay.sandbox.wire import origin

# Colors of the control page.
TONES = {SALE: "good", AUTH: "good", REGISTERED: "wait", FAILED: "bad"}

# What the control desk pays with when nobody chooses.
USUAL_METHOD = "P101"
# The outcome that follows a registration.
DEPOSIT = "deposit"


class EximbayProvider(SandboxProvider):
    slug = "eximbay"
    display_name = "Eximbay"
    prefixes = ("/v1/", "/v2/", "/Gateway/")
    settings_table = SETTINGS
    shop_options = {
        "base_url": "",
        "mid": ACCOUNTS[0].mid,
        "api_key": ACCOUNTS[0].api_key,
        "secret_key": None,
        "sdk_url": None,
        "cancel_codes": (CANCELED_BY_BUYER,),
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.ledger = Ledger()
        self._numbers = Numbers(world.clock.now())
        self._till = Till(self.ledger, self._numbers, world.clock)
        charges = Charges(self.ledger, self._numbers, world.clock, self.settings)
        self._plans = Plans(charges, world.clock, self._tell_of_plan)
        self._outbox = Outbox(self.slug, world.deliveries, self.settings)
        gate = Gate(self.settings)
        self._api = Api(self.ledger, gate, self.settings)
        self._changes = ChangesApi(self.ledger, charges, gate, self.settings)
        self._stored = StoredApi(self.ledger, charges, gate, self.settings)

    def reset(self) -> None:
        super().reset()
        self._plans.clear()
        self.ledger.clear()

    # -- doors ---------------------------------------------------------------

    def operations(self) -> Sequence[Operation]:
        return (
            *self._api.operations(),
            *self._changes.operations(),
            *self._stored.operations(),
        )

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
            Route("/payments/{reference}", self.show_payment),
            Route("/payments/{reference}/outcome", self.outcome, methods=["POST"]),
            Route("/payments/{reference}/deposit", self.deposit, methods=["POST"]),
            Route("/payments/{reference}/callback", self.forge, methods=["POST"]),
            Route("/tokens", self.tokens, methods=["GET", "POST"]),
            Route("/plans", self.list_plans),
        )

    def rows(self) -> Sequence[Row]:
        return [self._row(item) for item in reversed(self.ledger.payments.values())]

    def refuse(self, status: int) -> Response:
        return self._api.refuse(status)

    def plan_rows(self) -> Sequence[PlanRow]:
        return [self._plan_row(plan) for plan in reversed(self.ledger.plans.values())]

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
        fields = await pages.read_form(request)
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
        form = await pages.read_form(request)
        try:
            verdict = self._till.decide(payment, form, origin(request))
        except Refused as refused:
            return self._choices(payment, problem=refused.resmsg)
        await self._send_out(payment, verdict)
        return self._back(payment)

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
            saved=self.ledger.token(payment.mid, payment.fields.get("token_id", "")),
            problem=problem,
        )

    def _deposit(self, payment: Payment) -> None:
        """The money of a registered order: told through the status URL alone."""
        if payment.status != REGISTERED:
            raise HTTPException(409, f"{payment.order_id} is not REGISTERED")
        self._till.receive_deposit(payment)
        if not self.settings["return_only"]:
            self._outbox.start(self._outbox.record(self._status(payment, payment)))

    # -- callbacks -----------------------------------------------------------

    async def _send_out(self, payment: Payment, verdict: Verdict) -> None:
        if payment.recurring_id:
            self._plans.expect(self.ledger.plans[payment.recurring_id])
        returned = None if self.settings["status_only"] else verdict.returned
        if returned is not None:
            payment.returned = self._encoded(returned)
        if not self.settings["return_only"]:
            entry = self._outbox.record(self._status(payment, verdict.notified))
            if verdict.is_return_first:
                self._outbox.start_late(entry)
            else:
                await self._outbox.deliver(entry)
        if returned is not None:
            self._outbox.record(self._return(payment))

    def _tell_of_plan(self, payment: Payment) -> None:
        """A charge of a plan, like any status notice, to the plan's own address."""
        if payment.fields["statusurl"]:
            message = replace(self._status(payment, payment), kind="recurring")
            self._outbox.start(self._outbox.record(message))

    def _encoded(self, told: Payment, forgery: Forgery | None = None) -> str:
        fields = callback_fields(told, self.settings)
        if forgery:
            changed = forgery.applied_to(fields)
            fields = {name: str(value) for name, value in changed.items()}
        return encode(told.account, fields, self.settings)

    def _status(
        self, payment: Payment, told: Payment, forgery: Forgery | None = None
    ) -> Message:
        """The server's notice; `told` is the payment as this notice has it."""
        return Message(
            kind="status",
            url=payment.fields.get("statusurl", ""),
            body=self._encoded(told, forgery),
            headers=FORM_HEADERS,
            order_id=payment.order_id,
            callbacks=payment.callbacks,
            is_acknowledged=is_acknowledged,
        )

    def _return(self, payment: Payment) -> Message:
        return Message(
            kind="return",
            url=payment.fields["returnurl"],
            body=payment.returned,
            headers=FORM_HEADERS,
            order_id=payment.order_id,
            callbacks=payment.callbacks,
            is_acknowledged=is_answered,
            # A return is in the buyer's hands; whether it arrives nobody tells us.
            delivered=True,
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

    async def outcome(self, request: Request) -> Response:
        """What a buyer would choose on the page, which need not be open."""
        payment = self._payment(request)
        outcome, wish = await read_outcome(request, (*OUTCOMES, DEPOSIT))
        if outcome == DEPOSIT:
            self._deposit(payment)
            # The buyer paid elsewhere: no browser is sent anywhere.
            return JSONResponse(self._left(payment, returned=""))
        if payment.closed:
            raise HTTPException(409, f"{payment.order_id} has an outcome")
        form = self._completed(wish, payment)
        payment.fields["param3"] = "OPENAPI"
        try:
            verdict = self._till.decide(payment, form, origin(request))
        except Refused as refused:
            raise HTTPException(400, refused.resmsg) from refused
        await self._send_out(payment, verdict)
        return JSONResponse(self._left(payment, payment.returned))

    def _completed(self, wish: dict[str, Any], payment: Payment) -> dict[str, str]:
        """The page's form, as the wish fills it in."""
        for name, value in wish.items():
            is_known = name in ("outcome", "method", "rescode")
            if not is_known or not isinstance(value, str):
                raise HTTPException(
                    400, f"{name}: use only method and rescode, both strings"
                )
        is_offered = USUAL_METHOD in self._till.offered(payment)
        return {"method": USUAL_METHOD if is_offered else "", **wish}

    def _left(self, payment: Payment, returned: str) -> dict[str, Any]:
        """Where the buyer's browser goes from here, and what is in the books."""
        url: str | None = payment.fields["returnurl"] if returned else None
        fields = dict(parse_qsl(returned, keep_blank_values=True))
        if url is not None and self.settings["return_method"] == "GET":
            url, fields = with_query(url, returned), {}
        return sent_back(
            url,
            method=self.settings["return_method"],
            fields=fields,
            payment=payment.as_json(),
        )

    async def deposit(self, request: Request) -> Response:
        payment = self._payment(request)
        self._deposit(payment)
        return JSONResponse(payment.as_json())

    async def forge(self, request: Request) -> Response:
        """A correctly signed callback with any field changed (null drops it)."""
        payment = self._payment(request)
        forgery = Forgery.read(await read_json(request))
        message = self._status(payment, self._as_if_paid(payment), forgery)
        return JSONResponse(await self._outbox.forge(message, forgery))

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
                holder="HONG GIL DONG",
            )
            self.ledger.tokens[token.token_id] = token
            return JSONResponse(token.as_json(), status_code=201)
        tokens = self.ledger.tokens.values()
        return JSONResponse([token.as_json() for token in tokens])

    async def list_plans(self, request: Request) -> Response:
        return JSONResponse([plan.as_json() for plan in self.ledger.plans.values()])

    def _payment(self, request: Request) -> Payment:
        payments = self.ledger.payments.values()
        return find_payment(request, payments, lambda one: {one.order_id})

    def _row(self, payment: Payment) -> Row:
        control = self.control_path(payment.order_id)
        actions = []
        if not payment.closed:
            actions += [
                (label, f"{control}/outcome?outcome={outcome}")
                for label, outcome in (("Approve", "approve"), ("Decline", "decline"))
            ]
        if payment.status == REGISTERED:
            actions.append(("Deposit arrives", f"{control}/deposit"))
        if payment.closed:
            actions.append(("Send another status", f"{control}/callback"))
        refunded = with_commas(wire_amount(payment.refunded, payment.currency))
        notes = [
            payment.transaction_type,
            LABELS.get(payment.method, payment.method),
            f"rescode {payment.rescode}" if payment.rescode else "",
            payment.dm_decision,
            "token saved" if payment.token_id else "",
            "recurring" if payment.recurring_id else "",
            "captured" if payment.captured_date else "",
            "settled" if payment.settled_date else "",
            f"refunded {refunded}" if payment.refunded else "",
        ]
        return Row(
            reference=payment.order_id,
            amount=shown_amount(payment),
            status=payment.status,
            tone=TONES.get(payment.status, ""),
            at=payment.decided_at,
            note=" / ".join(note for note in notes if note),
            actions=tuple(actions),
            page=self._page_of(payment),
        )

    def _plan_row(self, plan: RecurringPlan) -> PlanRow:
        payments = self.ledger.payments
        first = payments[plan.mid, plan.order_id]
        renewals = [payments[plan.mid, order_id] for order_id in plan.charges]
        amount = with_commas(wire_amount(Decimal(plan.amount), plan.currency))
        return PlanRow(
            reference=plan.recurring_id,
            amount=f"{plan.currency} {amount}",
            every=every_months(plan.interval_months),
            status="deleted" if plan.deleted else "active",
            tone="" if plan.deleted else "good",
            next_at=None if plan.deleted else plan.due_at,
            charges=sum(payment.charges for payment in (first, *renewals)),
        )

    def _page_of(self, payment: Payment) -> str:
        """What the buyer sees next: the instructions, else the page last opened."""
        if payment.status == REGISTERED:
            return f"/Gateway/instructions/{payment.transaction_id}"
        for page_id, opened in reversed(self.ledger.pages.items()):
            is_its = (opened.mid, opened.order_id) == (payment.mid, payment.order_id)
            # Decided elsewhere, the page only says that the order id is used up.
            if is_its and opened.closed == payment.closed:
                return f"/Gateway/pay/{page_id}"
        return ""


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
