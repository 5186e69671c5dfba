"""Clink's doors: the API, what browsers and phones open, and the control desk.

The rooms behind them (documents, ledger, outcomes, billing ...) are in
`django_multipay/sandbox/clink/`.
"""

import hmac
from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from django_multipay.sandbox import pages
from django_multipay.sandbox.agenda import Agenda
from django_multipay.sandbox.clink.actions import (
    PNG,
    SVG,
    phone_address,
    picture_address,
    qr_data_url,
    qr_picture,
)
from django_multipay.sandbox.clink.api import Api
from django_multipay.sandbox.clink.billing import Billing
from django_multipay.sandbox.clink.codes import (
    ACCOUNTS,
    CARD,
    DECLINES,
    FAILURES,
    LABELS,
)
from django_multipay.sandbox.clink.desk import Desk, money_of, shown_amount
from django_multipay.sandbox.clink.documents import NOT_FOUND
from django_multipay.sandbox.clink.ledger import (
    CHECKOUT,
    EXPIRED,
    FAILED,
    OPEN,
    UNPAID,
    Ledger,
    Order,
    Session,
)
from django_multipay.sandbox.clink.outcomes import (
    Impossible,
    Till,
    UnknownChoice,
    read_choice,
)
from django_multipay.sandbox.clink.switches import SETTINGS
from django_multipay.sandbox.clink.webhook import SLUG, Webhooks
from django_multipay.sandbox.clink.wire import page_address
from django_multipay.sandbox.providers import (
    Handler,
    Operation,
    PlanRow,
    Row,
    SandboxProvider,
    World,
)

MEDIA_TYPES = {PNG: "image/png", SVG: "image/svg+xml"}


class PageMissing(Exception):
    """The address names nothing that has a page."""


class ClinkProvider(SandboxProvider):
    """Clink, with everything it remembers."""

    slug = SLUG
    display_name = "Clink"
    prefixes = ("/clink/",)
    settings_table = SETTINGS
    shop_options = {
        "base_url": "/clink/api",
        "api_key": ACCOUNTS[0].api_key,
        "webhook_secret": ACCOUNTS[0].webhook_secret,
    }
    saving = {"save_card": True}

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.ledger = Ledger()
        self._webhooks = Webhooks(world, self.settings)
        self._agenda = Agenda(world.clock, self._webhooks.start)
        self._billing = Billing(
            self.ledger, self._webhooks, self._agenda, world.clock, self.settings
        )
        self._till = Till(
            self.ledger, self._webhooks, self._billing, world.clock, self.settings
        )
        self._api = Api(
            self.ledger,
            self._till,
            self._billing,
            self._webhooks,
            self._agenda,
            world.clock,
            self.settings,
        )
        self._desk = Desk(world, self.ledger, self._till, self._webhooks, self.settings)

    def reset(self) -> None:
        super().reset()
        self._agenda.clear()
        self._webhooks.clear()
        self.ledger.clear()

    # -- doors ---------------------------------------------------------------

    def operations(self) -> Sequence[Operation]:
        return self._api.operations()

    def pages(self) -> Sequence[BaseRoute]:
        both = ["GET", "POST"]
        return (
            Route("/clink/pay/{id}", self._page(self.checkout), methods=both),
            Route("/clink/authorize/{id}", self._page(self.authorize), methods=both),
            Route(
                "/clink/challenge/{id}", self._page(self.challenge), methods=["POST"]
            ),
            Route("/clink/instructions/{id}", self._page(self.instructions)),
            Route("/clink/phone/{code}", self._page(self.phone), methods=both),
            Route("/clink/qr/{code}.{kind}", self._page(self.picture)),
        )

    def control_routes(self) -> Sequence[BaseRoute]:
        return self._desk.routes()

    def rows(self) -> Sequence[Row]:
        return [
            self._desk.row(subject, self.control_path(subject.reference))
            for subject in reversed(self._desk.subjects())
        ]

    def plan_rows(self) -> Sequence[PlanRow]:
        plans = self.ledger.subscriptions.values()
        return [self._desk.plan_row(plan) for plan in reversed(plans)]

    def refuse(self, status: int) -> Response:
        return self._api.refuse(status)

    # -- pages ---------------------------------------------------------------

    async def checkout(self, request: Request) -> Response:
        """The hosted page of a checkout session."""
        session = self.ledger.sessions.get(request.path_params["id"])
        if session is None or session.kind != CHECKOUT:
            raise PageMissing("This checkout does not exist")
        if request.method == "GET":
            return self._offer(session)
        back = await self._decide_by_form(session, request)
        if back is not None:
            return RedirectResponse(back, status_code=303)
        return self._offer(session)

    async def authorize(self, request: Request) -> Response:
        """Where a browser decides about a direct payment."""
        session, order = self._direct_payment(request)
        if request.method == "POST":
            back = await self._decide_by_form(session, request)
            if back is not None:
                return RedirectResponse(back, status_code=303)
        elif order.form_token and _is_open(session):
            return _stop("This page takes a form, not a link")
        return self._ask(session)

    async def challenge(self, request: Request) -> Response:
        """Where the form of an action goes; it must carry what `postData` had."""
        session, order = self._direct_payment(request)
        form = await pages.read_form(request)
        token = form.get("challengeToken", "").encode()
        is_right = hmac.compare_digest(token, order.form_token.encode())
        if (
            not order.form_token
            or not is_right
            or form.get("orderId") != order.order_id
        ):
            return _stop("The form is not the one of this payment")
        return self._ask(session)

    async def instructions(self, request: Request) -> Response:
        """The QR code as Clink itself shows it."""
        session, order = self._direct_payment(request)
        if not order.qr_code or not _is_open(session):
            return self._ask(session)
        return pages.page(
            "clink/instructions.html",
            **_facts(session),
            picture=picture_address(session, order, PNG),
            phone=phone_address(session, order),
            expires=order.qr_expires,
        )

    async def phone(self, request: Request) -> Response:
        """What a phone opens after reading the QR code; the browser stays where it is."""
        order = self.ledger.order_of_code(request.path_params["code"])
        if order is None or order.session is None or not self._is_fresh(order):
            return _stop("This QR code has expired", 410)
        if request.method == "GET":
            return self._ask(order.session, is_phone=True)
        await self._decide_by_form(order.session, request)
        return self._ask(order.session, is_phone=True)

    async def picture(self, request: Request) -> Response:
        order = self.ledger.order_of_code(request.path_params["code"])
        kind = request.path_params["kind"]
        if order is None or order.session is None or kind not in MEDIA_TYPES:
            raise HTTPException(404)
        return Response(
            qr_picture(phone_address(order.session, order), kind),
            media_type=MEDIA_TYPES[kind],
            headers=pages.PAGE_HEADERS,
        )

    def _page(self, work: Handler) -> Handler:
        async def handler(request: Request) -> Response:
            try:
                return await work(request)
            except UnknownChoice as error:
                return _stop(str(error))
            except PageMissing as error:
                return _stop(str(error), NOT_FOUND)
            except Impossible as error:
                return _stop(str(error), 409)

        return handler

    def _offer(self, session: Session) -> Response:
        if not _is_open(session):
            return self._ended(session)
        order = session.order
        offered = self._till.offered(session)
        # It only counts when it is also the one method asked for.
        wanted = session.request.get("directPaymentQrCodePaymentMethodType")
        is_on_qr = wanted is not None and offered == [wanted]
        return pages.page(
            "clink/pay.html",
            **_facts(session),
            methods=[(method, LABELS[method]) for method in offered],
            picture=qr_data_url(page_address(session)) if is_on_qr else "",
            can_save=CARD in offered,
            problem=order.failure_message if order and order.status == FAILED else "",
        )

    def _ask(self, session: Session, *, is_phone: bool = False) -> Response:
        if not _is_open(session):
            return self._ended(session, is_phone=is_phone)
        return pages.page("clink/authorize.html", **_facts(session), is_phone=is_phone)

    def _ended(self, session: Session, *, is_phone: bool = False) -> Response:
        is_lost = session.status == EXPIRED and session.kind == CHECKOUT
        address = session.request.get("cancelUrl")
        return pages.page(
            "clink/ended.html",
            **_facts(session),
            back=address if is_lost else self._till.way_back(session),
            is_phone=is_phone,
        )

    def _direct_payment(self, request: Request) -> tuple[Session, Order]:
        order = self.ledger.orders.get(request.path_params["id"])
        if order is None or order.session is None or order.session.kind == CHECKOUT:
            raise PageMissing("This payment does not exist")
        return order.session, order

    def _is_fresh(self, order: Order) -> bool:
        expires = order.qr_expires
        return expires is not None and self.world.clock.now() < expires

    async def _decide_by_form(self, session: Session, request: Request) -> str | None:
        form = await pages.read_form(request)
        back = self._till.decide(session, read_choice(form))
        await self._webhooks.deliver()
        return back


def _facts(session: Session) -> dict[str, Any]:
    """What all pages of a session show."""
    order = session.order
    amount, currency = money_of(session)
    return {
        "session": session,
        "order": order,
        "amount": shown_amount(amount, currency),
        "method": LABELS[order.method] if order else "",
        "declines": [(code, FAILURES[code]) for code in DECLINES],
    }


def _is_open(session: Session) -> bool:
    return session.status == OPEN and session.payment_status == UNPAID


def _stop(msg: str, status: int = 400) -> Response:
    """A page that ends here."""
    return pages.page("clink/stop.html", status=status, msg=msg)
