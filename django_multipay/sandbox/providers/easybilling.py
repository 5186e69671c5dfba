"""EasyBilling's doors: the Payment Hub's API, what browsers open, the control desk.

The rooms behind them (documents, ledger, words ...) are in
`django_multipay/sandbox/easybilling/`.
"""

from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit, urlunsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from django_multipay.sandbox import pages
from django_multipay.sandbox.control import (
    find_payment,
    read_json,
    read_outcome,
    sent_back,
)
from django_multipay.sandbox.easybilling.api import BASE, Api
from django_multipay.sandbox.easybilling.documents import Refused
from django_multipay.sandbox.easybilling.ledger import (
    Ledger,
    Payment,
    Refund,
    SetupPage,
    shown_amount,
)
from django_multipay.sandbox.easybilling.switches import SETTINGS
from django_multipay.sandbox.easybilling.words import (
    ACCOUNTS,
    CLOSED,
    EXPIRED,
    FAILED,
    GATEWAYS,
    OUTCOMES,
    PROCESSING,
    REFUND_OPEN,
    REFUND_OUTCOMES,
    REFUNDED,
    SUCCEEDED,
    WAITING,
    WECHAT,
    payment_word,
)
from django_multipay.sandbox.providers import Operation, Row, SandboxProvider, World

# Colors of the control page and of the hosted page.
TONES = {
    WAITING: "wait",
    PROCESSING: "wait",
    SUCCEEDED: "good",
    REFUNDED: "good",
    FAILED: "bad",
    CLOSED: "bad",
    EXPIRED: "bad",
}
HEADLINES = {
    PROCESSING: "Your payment is being processed",
    SUCCEEDED: "Payment complete",
    REFUNDED: "Payment refunded",
    FAILED: "Payment failed",
    CLOSED: "This payment was closed",
    EXPIRED: "This payment link has expired",
}
# Buttons of the control page for an open payment.
DESK_OUTCOMES = ("approve", "decline", "expire")
SETUP_OUTCOMES = ("save", "cancel")


class EasyBillingProvider(SandboxProvider):
    """The Payment Hub. It has no callbacks: whoever wants to know must ask."""

    slug = "easybilling"
    display_name = "EasyBilling"
    prefixes = (f"{BASE}/",)
    settings_table = SETTINGS
    shop_options = {
        "base_url": BASE,
        "api_token": ACCOUNTS[0].api_token,
        "username": None,
        "password": None,
        "login_url": None,
        "amount_unit": None,
        "status_path": None,
        # It is the sandbox that refuses them, if the shop has https.
        "require_https": False,
        # By default base_url, which the sandbox has without https.
        "offline_redirect_url": "https://shop.example/",
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.ledger = Ledger(world.clock, self.settings)
        self._api = Api(self.ledger, world.clock, self.settings)

    def reset(self) -> None:
        super().reset()
        self.ledger.clear()

    # -- doors ---------------------------------------------------------------

    def operations(self) -> Sequence[Operation]:
        return self._api.operations()

    def pages(self) -> Sequence[BaseRoute]:
        both = ["GET", "POST"]
        return (
            Route(f"{BASE}/pay/{{payment_id}}", self.payment_page, methods=both),
            Route(f"{BASE}/setup/{{setup_id}}", self.setup_page, methods=both),
            Route(f"{BASE}/wechat", self.wechat),
        )

    def control_routes(self) -> Sequence[BaseRoute]:
        payment = "/payments/{reference}"
        refund = f"{payment}/refunds/{{refund}}"
        return (
            Route("/payments", self.list_payments),
            Route(payment, self.show_payment),
            Route(f"{payment}/outcome", self.decide, methods=["POST"]),
            Route(f"{refund}/outcome", self.finish_refund, methods=["POST"]),
            Route("/tokens", self.tokens, methods=["GET", "POST"]),
            Route("/setups", self.list_setups),
            Route("/setups/{setup_id}/outcome", self.decide_setup, methods=["POST"]),
        )

    def rows(self) -> Sequence[Row]:
        return [self._row(payment) for payment in reversed(self._payments())]

    def refuse(self, status: int) -> Response:
        return self._api.refuse(status)

    # -- pages ---------------------------------------------------------------

    async def payment_page(self, request: Request) -> Response:
        """Where the buyer decides; for WeChat Pay it stands for the phone."""
        payment = self.ledger.pages.get(request.path_params["payment_id"])
        if payment is None or not payment.order.is_online:
            return _stop("This payment link does not exist", status=404)
        if self.ledger.is_replaced(payment):
            return _stop("This payment link was replaced by a newer one", status=410)
        self.ledger.look_at_clock(payment)
        if request.method == "GET" or not payment.is_open:
            return self._show(payment)
        outcome = (await pages.read_form(request)).get("outcome", "")
        if outcome not in OUTCOMES:
            return self._show(payment, problem=f"use one of {', '.join(OUTCOMES)}")
        self.ledger.decide(payment, outcome)
        target = self._return_url(payment) or payment.page
        return RedirectResponse(target, status_code=303)

    def _show(self, payment: Payment, problem: str = "") -> Response:
        is_wechat = payment.order.gateway == WECHAT
        return pages.page(
            "easybilling/pay.html",
            status=400 if problem else 200,
            payment=payment,
            order=payment.order,
            gateway=GATEWAYS[payment.order.gateway],
            amount=shown_amount(payment.order, self.settings["amount_unit"]),
            payment_url=payment.payment_url("") if is_wechat else "",
            outcomes=OUTCOMES,
            headline=HEADLINES.get(payment.state, ""),
            tone=TONES[payment.state],
            back=self._return_url(payment),
            problem=problem,
        )

    def _return_url(self, payment: Payment) -> str:
        """Where the browser goes: the merchant's own address, untouched by default."""
        url = payment.return_url
        if not url or not self.settings["return_parameters"]:
            return url
        word = payment_word(
            payment.state, page="seed", vocabulary=self.settings["vocabulary"]
        )
        added = {
            "transactionId": payment.order.transaction_id,
            "paymentId": payment.payment_id,
            "status": word,
        }
        parts = urlsplit(url)
        query = "&".join(filter(None, (parts.query, urlencode(added))))
        return urlunsplit(parts._replace(query=query))

    async def setup_page(self, request: Request) -> Response:
        """Where a buyer saves a method for later charges."""
        page = self.ledger.setups.get(request.path_params["setup_id"])
        if page is None:
            return _stop("This set-up link does not exist", status=404)
        problem = ""
        if request.method == "POST" and page.status == "open":
            outcome = (await pages.read_form(request)).get("outcome", "")
            if outcome in SETUP_OUTCOMES:
                target = self.ledger.decide_setup(page, outcome) or page.page
                return RedirectResponse(target, status_code=303)
            problem = f"use one of {', '.join(SETUP_OUTCOMES)}"
        return pages.page(
            "easybilling/setup.html",
            status=400 if problem else 200,
            page=page,
            gateway=GATEWAYS[page.setup.gateway],
            problem=problem,
        )

    async def wechat(self, request: Request) -> Response:
        """The phone's scanner: from the code in a QR picture to its payment."""
        code = request.query_params.get("pr", "").rpartition("pr=")[2].strip()
        waiting = [
            payment
            for payment in self._payments()
            if payment.wechat_code and payment.is_open
        ]
        for payment in waiting:
            if payment.wechat_code == code:
                return RedirectResponse(payment.page, status_code=303)
        unit = self.settings["amount_unit"]
        return pages.page(
            "easybilling/wechat.html",
            status=404 if code else 200,
            code=code,
            waiting=[
                (payment, shown_amount(payment.order, unit)) for payment in waiting
            ],
        )

    # -- control desk --------------------------------------------------------

    async def list_payments(self, request: Request) -> Response:
        return JSONResponse([payment.as_json() for payment in self._payments()])

    async def show_payment(self, request: Request) -> Response:
        return JSONResponse(self._payment(request).as_json())

    async def decide(self, request: Request) -> Response:
        """What the buyer's button does; `"force": true` also after the end."""
        payment = self._payment(request)
        outcome, wish = await read_outcome(request, OUTCOMES)
        try:
            self.ledger.decide(payment, outcome, is_forced=wish.get("force") is True)
        except Refused as refused:
            raise HTTPException(refused.status, refused.message) from refused
        url = self._return_url(payment)
        return JSONResponse(sent_back(url, payment=payment.as_json()))

    async def finish_refund(self, request: Request) -> Response:
        payment = self._payment(request)
        refund = _refund_of(payment, request.path_params["refund"])
        outcome, _ = await read_outcome(request, REFUND_OUTCOMES)
        if refund.status not in REFUND_OPEN:
            raise HTTPException(409, f"the refund is {refund.status}")
        self.ledger.finish_refund(payment, refund, REFUND_OUTCOMES[outcome])
        return JSONResponse(payment.as_json())

    async def tokens(self, request: Request) -> Response:
        """The saved methods. Merchants get no token: the customer's name is the key."""
        if request.method == "POST":
            wish = await read_json(request)
            gateway, customer = wish.get("gateway"), wish.get("customer")
            account = wish.get("account", ACCOUNTS[0].name)
            is_known = account in {known.name for known in ACCOUNTS}
            if gateway not in GATEWAYS or not isinstance(customer, str) or not is_known:
                raise HTTPException(400, "give gateway and customer of an account")
            self.ledger.methods.add((account, str(gateway), customer))
        return JSONResponse(
            [
                {"account": account, "gateway": gateway, "customer": customer}
                for account, gateway, customer in sorted(self.ledger.methods)
            ],
            status_code=201 if request.method == "POST" else 200,
        )

    async def list_setups(self, request: Request) -> Response:
        return JSONResponse([page.as_json() for page in self.ledger.setups.values()])

    async def decide_setup(self, request: Request) -> Response:
        page = self._setup(request)
        outcome, _ = await read_outcome(request, SETUP_OUTCOMES)
        try:
            url = self.ledger.decide_setup(page, outcome)
        except Refused as refused:
            raise HTTPException(refused.status, refused.message) from refused
        return JSONResponse(sent_back(url, setup=page.as_json()))

    def _payments(self) -> list[Payment]:
        payments = list(self.ledger.payments.values())
        for payment in payments:
            self.ledger.look_at_clock(payment)
        return payments

    def _payment(self, request: Request) -> Payment:
        payments = self._payments()
        return find_payment(request, payments, lambda one: {one.order.transaction_id})

    def _setup(self, request: Request) -> SetupPage:
        page = self.ledger.setups.get(request.path_params["setup_id"])
        if page is None:
            raise HTTPException(404, "no such set-up")
        return page

    def _row(self, payment: Payment) -> Row:
        control = self.control_path(payment.order.transaction_id)
        actions = []
        if payment.is_open:
            actions += [
                (OUTCOMES[name].label, f"{control}/outcome?outcome={name}")
                for name in DESK_OUTCOMES
            ]
        for refund in payment.refunds:
            if refund.status in REFUND_OPEN:
                finish = f"{control}/refunds/{refund.request_id}/outcome?outcome"
                actions += [
                    (f"Refund {refund.amount} succeeds", f"{finish}=succeed"),
                    (f"Refund {refund.amount} fails", f"{finish}=fail"),
                ]
        notes = [
            GATEWAYS[payment.order.gateway],
            "" if payment.order.is_online else "offline",
            payment.order.customer,
            f"refunded {payment.refunded}" if payment.refunded else "",
        ]
        return Row(
            reference=payment.order.transaction_id,
            amount=shown_amount(payment.order, self.settings["amount_unit"]),
            status=payment.state,
            tone=TONES[payment.state],
            at=payment.decided_at,
            note=" / ".join(note for note in notes if note),
            actions=tuple(actions),
            page=payment.page,
        )


def _refund_of(payment: Payment, request_id: str) -> Refund:
    for refund in payment.refunds:
        if refund.request_id == request_id:
            return refund
    raise HTTPException(404, f"no refund {request_id}")


def _stop(reason: str, status: int) -> Response:
    """A page that leads nowhere."""
    return pages.page("easybilling/stop.html", status=status, reason=reason)
