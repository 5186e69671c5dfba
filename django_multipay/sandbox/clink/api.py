"""Clink's API: what a shop's server may ask."""

import hmac
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from django_multipay.sandbox.agenda import Agenda
from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.clink.actions import make_action
from django_multipay.sandbox.clink.billing import RECURRING, Billing
from django_multipay.sandbox.clink.codes import (
    ACCOUNTS,
    METHODS_WITH_QR_REFRESH,
    METHODS_WITHOUT_INSTRUMENT,
    REFUND_REASONS,
    SUBSCRIPTION_METHODS_WITHOUT_INSTRUMENT,
    Account,
    Price,
    convert,
)
from django_multipay.sandbox.clink.documents import (
    CANCELLATION,
    CHECKOUT_SESSION,
    CUSTOMER_IDENTIFIER_NOT_MATCHED,
    CUSTOMER_NOT_FOUND,
    DIRECT_PAYMENT,
    INSTRUMENT,
    NEW_REFUND,
    NEW_SUBSCRIPTION,
    NOT_FOUND,
    Refused,
    Strictness,
    check,
    check_amount,
    check_instrument,
    check_items,
)
from django_multipay.sandbox.clink.ledger import (
    ACTIVE,
    CANCELLED,  # codespell:ignore
    CHECKOUT,
    INCOMPLETE_EXPIRED,
    PAYMENT,
    PENDING,
    REFUNDABLE,
    REQUIRES_ACTION,
    SUBSCRIPTION,
    Customer,
    Instrument,
    Ledger,
    Order,
    Session,
    Subscription,
    new_id,
)
from django_multipay.sandbox.clink.outcomes import Till
from django_multipay.sandbox.clink.webhook import Webhooks
from django_multipay.sandbox.clink.wire import (
    encode,
    instrument_object,
    invoice_object,
    order_object,
    refund_object,
    session_answer,
    session_object,
    subscription_object,
)
from django_multipay.sandbox.providers import Handler, Operation
from django_multipay.sandbox.wire import Malformed, json_object, origin

BASE = "/clink/api"
OK = 200
DEFAULT_PAGE_SIZE, LARGEST_PAGE = 20, 50

Work = Callable[[Account, Request, dict[str, Any]], dict[str, Any]]
Item = TypeVar("Item", Session, Order, Subscription)


class Unauthorized(Exception):
    """The only refusal with an HTTP status of its own."""


class Api:
    """One method per endpoint: account, request and body in; the answer out."""

    def __init__(
        self,
        ledger: Ledger,
        till: Till,
        billing: Billing,
        webhooks: Webhooks,
        agenda: Agenda,
        clock: Clock,
        settings: Mapping[str, Any],
    ) -> None:
        self._ledger = ledger
        self._till = till
        self._billing = billing
        self._webhooks = webhooks
        self._agenda = agenda
        self._clock = clock
        self._settings = settings

    def operations(self) -> Sequence[Operation]:
        table: tuple[tuple[str, str, str, Work], ...] = (
            ("create_session", "POST", "/checkout/session", self.create_session),
            ("get_session", "GET", "/checkout/session/{id}", self.get_session),
            ("payment", "POST", "/payment", self.payment),
            ("refresh_qrcode", "POST", "/payment/{id}/qrcode/refresh", self.refresh),
            ("payment_instrument", "POST", "/payment-instrument", self.instrument),
            ("list_orders", "GET", "/order", self.list_orders),
            ("get_order", "GET", "/order/{id}", self.get_order),
            ("refund", "POST", "/refund", self.refund),
            ("get_refund", "GET", "/refund/{id}", self.get_refund),
            ("subscription", "POST", "/subscription", self.subscribe),
            ("get_subscription", "GET", "/subscription/{id}", self.get_subscription),
            (
                "cancel_subscription",
                "POST",
                "/subscription/{id}/cancel",
                self.cancel_subscription,
            ),
            ("get_invoice", "GET", "/subscription/invoice/{id}", self.get_invoice),
        )
        return [
            Operation(
                name=name, method=method, path=BASE + path, handler=self._door(work)
            )
            for name, method, path, work in table
        ]

    def refuse(self, status: int) -> Response:
        msg = "Method not allowed" if status == 405 else "No such path"
        return _envelope({"code": status, "msg": msg, "data": None}, status)

    # -- checkout ------------------------------------------------------------

    def create_session(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        asked = check(body, CHECKOUT_SESSION, self._strictness)
        amount, currency = asked["originalAmount"], asked["originalCurrency"]
        check_amount("originalAmount", amount, currency, self._strictness)
        price = self._price(asked)
        self._check_price(price, amount, currency)
        items = asked.get("priceDataList", [])
        check_items(items, amount, currency, self._strictness)
        self._check_promotion(asked)
        if asked.get("uiMode") == "elements" and "returnUrl" not in asked:
            raise Refused("returnUrl is required for elements")
        customer = self._customer(account, asked)
        session = self._session(
            CHECKOUT, customer, request, asked, (Decimal(amount), currency), price
        )
        return _success(session_answer(session))

    def get_session(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        session = self._found(self._ledger.sessions, account, request)
        shown = session_object(session)
        if self._settings["status_word"]:
            shown["paymentStatus"] = self._settings["status_word"]
        return _success(shown)

    # -- direct payments -----------------------------------------------------

    def payment(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        asked = check(body, DIRECT_PAYMENT, self._strictness)
        price = self._price(asked)
        if price is not None and price.is_recurring:
            raise Refused("priceId is not a one-time price")
        amount, currency = self._priced(asked, price)
        items = asked.get("priceDataList", [])
        check_items(items, amount, currency, self._strictness)
        self._check_promotion(asked)
        total = _charged(asked, amount, currency)
        customer = self._customer(account, asked)
        instrument = self._instrument(
            account, customer, asked, METHODS_WITHOUT_INSTRUMENT
        )
        session = self._session(
            PAYMENT, customer, request, asked, (amount, currency), price
        )
        return self._direct(session, instrument, total, "onetime")

    def refresh(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        order = self._found(self._ledger.orders, account, request)
        if order.method not in METHODS_WITH_QR_REFRESH:
            raise Refused("Only CASHAPP supports a QR code refresh")
        if order.status != REQUIRES_ACTION or order.session is None:
            raise Refused("The order does not wait for an action")
        order.action = make_action(
            order.session, order, self._settings, self._clock.now()
        )
        return _success({"orderId": order.order_id, "action": order.action})

    def instrument(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        asked = check(body, INSTRUMENT, self._strictness)
        check_instrument(asked, self._strictness)
        customer = self._customer(account, asked)
        instrument = self._keep(customer, asked["paymentInstrumentType"])
        return _success(instrument_object(instrument))

    # -- orders and refunds --------------------------------------------------

    def get_order(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        order = self._found(self._ledger.orders, account, request)
        return _success(self._shown(order))

    def list_orders(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Newest first. A list stands at the top level, without `data`."""
        query = request.query_params
        number = _whole(query.get("pageNum", "1"), "pageNum")
        size = _whole(query.get("pageSize", str(DEFAULT_PAGE_SIZE)), "pageSize")
        size = min(size, LARGEST_PAGE)
        found = [
            order
            for order in reversed(self._ledger.orders.values())
            if order.account is account and _is_asked_for(order, query)
        ]
        rows = found[(number - 1) * size : number * size]
        return {
            "total": len(found),
            "rows": [self._shown(order) for order in rows],
            "code": OK,
            "msg": "success",
        }

    def refund(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        asked = check(body, NEW_REFUND, self._strictness)
        merchant_id = asked["refundMerchantOrderId"]
        known = self._ledger.refund_of(account, merchant_id)
        if known is not None:
            return _success(refund_object(known))
        order = self._ledger.orders.get(asked["orderId"])
        if order is None or order.account is not account:
            raise Refused("The order does not exist", NOT_FOUND)
        amount = Decimal(asked["refundAmount"])
        self._check_refund(order, amount)
        refund = self._till.open_refund(order, merchant_id, amount)
        if "refundReasonType" in asked:
            refund.reason = REFUND_REASONS[asked["refundReasonType"]]
        self._till.announce_refund(refund)
        if self._settings["refund_outcome"] != "pending":
            is_success = self._settings["refund_outcome"] == "succeed"
            self._till.finish_refund(refund, is_success=is_success)
        return _success(refund_object(refund))

    def get_refund(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        refund = self._ledger.refunds.get(request.path_params["id"])
        if refund is None or refund.order.account is not account:
            raise Refused("The refund does not exist", NOT_FOUND)
        return _success(refund_object(refund))

    # -- subscriptions -------------------------------------------------------

    def subscribe(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        asked = check(body, NEW_SUBSCRIPTION, self._strictness)
        price = self._price(asked)
        if price is None or not price.is_recurring:
            raise Refused("priceId is not a recurring price")
        self._check_promotion(asked)
        total = _charged(asked, price.amount, price.currency)
        customer = self._customer(account, asked)
        instrument = self._instrument(
            account, customer, asked, SUBSCRIPTION_METHODS_WITHOUT_INSTRUMENT
        )
        priced = (price.amount, price.currency)
        session = self._session(SUBSCRIPTION, customer, request, asked, priced, price)
        answer = self._direct(session, instrument, total, RECURRING)
        order = session.order
        if session.subscription is not None and order is not None and order.invoice:
            answer["data"]["subscriptionId"] = session.subscription.subscription_id
            answer["data"]["invoiceId"] = order.invoice.invoice_id
        return answer

    def get_subscription(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        found = self._found(self._ledger.subscriptions, account, request)
        return _success(subscription_object(found))

    def cancel_subscription(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        asked = check(body, CANCELLATION, self._strictness)
        found = self._found(self._ledger.subscriptions, account, request)
        if found.status in (CANCELLED, INCOMPLETE_EXPIRED):  # codespell:ignore
            raise Refused(f"The subscription is {found.status}")
        self._billing.cancel(
            found,
            asked["reason"],
            is_immediate=asked.get("cancelImmediately", False)
            or found.status != ACTIVE,
        )
        return _success(subscription_object(found))

    def get_invoice(
        self, account: Account, request: Request, body: dict[str, Any]
    ) -> dict[str, Any]:
        invoice = self._ledger.invoices.get(request.path_params["id"])
        if invoice is None or invoice.subscription.account is not account:
            raise Refused("The invoice does not exist", NOT_FOUND)
        return _success(invoice_object(invoice))

    # -- the door ------------------------------------------------------------

    def _door(self, work: Work) -> Handler:
        async def handler(request: Request) -> Response:
            try:
                account = self._authenticate(request)
                body = {} if request.method == "GET" else await _read_body(request)
                answer = work(account, request, body)
            except Unauthorized as error:
                return PlainTextResponse(str(error), status_code=401)
            except Refused as refused:
                answer = {"code": refused.code, "msg": refused.msg, "data": None}
                status = int(self._settings["business_error_status"])
                return _envelope(answer, status)
            self._webhooks.start()
            return _envelope(answer, OK)

        return handler

    def _authenticate(self, request: Request) -> Account:
        given = request.headers.get("x-api-key", "")
        owner = None
        for account in ACCOUNTS:
            if hmac.compare_digest(given.encode(), account.api_key.encode()):
                owner = account
        if owner is None:
            raise Unauthorized("Invalid API key")
        stamp = request.headers.get("x-timestamp", "")
        if not stamp.isascii() or not stamp.isdigit() or not self._is_fresh(int(stamp)):
            raise Unauthorized("Invalid X-Timestamp")
        return owner

    def _is_fresh(self, stamp: int) -> bool:
        """Near the real time, or up to where the sandbox clock was moved."""
        real = datetime.now(UTC).timestamp() * 1000
        skew = self._settings["timestamp_skew_seconds"] * 1000
        advanced = self._clock.advanced_seconds * 1000
        return bool(real - skew <= stamp <= real + advanced + skew)

    # -- rules ---------------------------------------------------------------

    @property
    def _strictness(self) -> Strictness:
        return Strictness(
            refuses_unknown=self._settings["refuse_unknown_fields"],
            checks_sums=self._settings["check_sum_rule"],
            checks_decimals=self._settings["check_decimals"],
        )

    def _price(self, asked: Mapping[str, Any]) -> Price | None:
        if ("priceId" in asked) != ("productId" in asked):
            raise Refused("priceId and productId come together")
        if "priceId" not in asked:
            return None
        price = self._ledger.prices.get(asked["priceId"])
        if price is None:
            raise Refused("The price does not exist", NOT_FOUND)
        if price.product_id != asked["productId"]:
            raise Refused("priceId does not belong to productId")
        return price

    def _check_price(self, price: Price | None, amount: Decimal, currency: str) -> None:
        if price is None or not self._strictness.checks_sums:
            return
        if (price.amount, price.currency) != (amount, currency):
            raise Refused("originalAmount or originalCurrency differs from the price")

    def _priced(
        self, asked: Mapping[str, Any], price: Price | None
    ) -> tuple[Decimal, str]:
        """What is asked for: by the price, or by amount and currency, never both."""
        has_amount = "amount" in asked or "currency" in asked
        if price is not None:
            if has_amount:
                raise Refused("Either priceId with productId, or amount with currency")
            return price.amount, price.currency
        if "amount" not in asked or "currency" not in asked:
            raise Refused("Either priceId with productId, or amount with currency")
        amount = Decimal(asked["amount"])
        check_amount("amount", amount, asked["currency"], self._strictness)
        return amount, asked["currency"]

    def _check_promotion(self, asked: Mapping[str, Any]) -> None:
        if "promotionCode" in asked:
            raise Refused("The promotion code does not exist", NOT_FOUND)

    def _check_refund(self, order: Order, amount: Decimal) -> None:
        if order.status not in REFUNDABLE:
            raise Refused(f"An order that is {order.status} cannot be refunded")
        check_amount("refundAmount", amount, order.currency, self._strictness)
        if amount > order.refundable:
            raise Refused("refundAmount exceeds what is left")
        if self._settings["refund_outcome"] == "refuse":
            raise Refused("The merchant's balance is too small")

    def _customer(self, account: Account, asked: Mapping[str, Any]) -> Customer:
        """By any of the three identifiers, which must mean the same customer."""
        ids = [asked.get(name, "") for name in IDENTIFIER_NAMES]
        customer_id, email, reference = ids
        if not any(ids) and not asked.get("historicalPaymentInstrumentImport"):
            raise Refused(CUSTOMER_NOT_FOUND)
        known = list(self._ledger.customers_of(account))
        by_email = [one for one in known if email and is_same_email(one.email, email)]
        by_reference = [
            one for one in known if reference and one.reference == reference
        ]
        found = [*by_email, *by_reference]
        if customer_id:
            named = self._ledger.customers.get(customer_id)
            if named is None or named.account is not account:
                raise Refused(CUSTOMER_NOT_FOUND, NOT_FOUND)
            found.append(named)
        if any(one is not found[0] for one in found):
            raise Refused(CUSTOMER_IDENTIFIER_NOT_MATCHED)
        customer = (
            found[0] if found else Customer(customer_id=new_id("cus"), account=account)
        )
        # What is still empty is bound; what is set must be what was given.
        if email and not is_same_email(customer.email or email, email):
            raise Refused(CUSTOMER_IDENTIFIER_NOT_MATCHED)
        if reference and (customer.reference or reference) != reference:
            raise Refused(CUSTOMER_IDENTIFIER_NOT_MATCHED)
        customer.email = customer.email or email
        customer.reference = customer.reference or reference
        self._ledger.customers[customer.customer_id] = customer
        return customer

    def _instrument(
        self,
        account: Account,
        customer: Customer,
        asked: Mapping[str, Any],
        without: frozenset[str],
    ) -> Instrument:
        method = asked["paymentMethodType"]
        if "paymentInstrumentId" not in asked:
            if method not in without:
                raise Refused(f"paymentInstrumentId is required for {method}")
            return self._keep(customer, method)
        instrument = self._ledger.instruments.get(asked["paymentInstrumentId"])
        if instrument is None or instrument.account is not account:
            raise Refused("The payment instrument does not exist", NOT_FOUND)
        if instrument.customer is not customer:
            raise Refused("The payment instrument belongs to another customer")
        if instrument.kind != method:
            raise Refused(f"The payment instrument is no {method}")
        return instrument

    # -- books ---------------------------------------------------------------

    def _keep(self, customer: Customer, kind: str) -> Instrument:
        instrument = Instrument(
            instrument_id=new_id("pi"),
            account=customer.account,
            customer=customer,
            kind=kind,
            created=self._clock.now(),
        )
        self._ledger.instruments[instrument.instrument_id] = instrument
        return instrument

    def _session(
        self,
        kind: str,
        customer: Customer,
        request: Request,
        asked: dict[str, Any],
        priced: tuple[Decimal, str],
        price: Price | None,
    ) -> Session:
        now = self._clock.now()
        lifetime = timedelta(seconds=self._settings["session_lifetime_seconds"])
        session = Session(
            session_id=new_id("sess"),
            account=customer.account,
            customer=customer,
            kind=kind,
            request=asked,
            token=secrets.token_urlsafe(24),
            amount=priced[0],
            currency=priced[1],
            price=price,
            created=now,
            expires=now + lifetime,
            origin=origin(request),
        )
        self._ledger.sessions[session.session_id] = session
        self._agenda.at(session.expires, lambda: self._till.expire_if_open(session))
        return session

    def _direct(
        self, session: Session, instrument: Instrument, total: Decimal, kind: str
    ) -> dict[str, Any]:
        """The order of a direct call, run as far as it goes without the buyer."""
        asked = session.request
        in_payment = self._settings["subtotal_currency"] == "payment"
        order = Order(
            order_id=new_id("order"),
            account=session.account,
            customer=session.customer,
            session=session,
            kind=kind,
            method=asked["paymentMethodType"],
            subtotal=total if in_payment else session.amount,
            total=total,
            original_currency=session.currency,
            currency=asked.get("paymentCurrency", session.currency),
            status=PENDING,
            created=self._clock.now(),
            merchant_reference=session.merchant_reference,
            price=session.price,
            items=asked.get("priceDataList"),
            metadata=asked.get("metadata"),
            instrument=instrument,
        )
        status = self._till.open_direct(session, order)
        return _success(
            {
                "orderId": order.order_id,
                "sessionId": session.session_id,
                "status": status,
                "paymentInstrumentId": instrument.instrument_id,
                "action": order.action,
                "amount": order.total,
                "currency": order.currency,
            }
        )

    def _shown(self, order: Order) -> dict[str, Any]:
        shown = order_object(order)
        if self._settings["status_word"]:
            shown["status"] = self._settings["status_word"]
        return shown

    def _found(
        self, items: Mapping[str, Item], account: Account, request: Request
    ) -> Item:
        item = items.get(request.path_params["id"])
        if item is None or item.account is not account:
            raise Refused("The object does not exist", NOT_FOUND)
        return item


IDENTIFIER_NAMES = ("customerId", "customerEmail", "referenceCustomerId")


def _charged(asked: Mapping[str, Any], amount: Decimal, currency: str) -> Decimal:
    """The amount in `paymentCurrency`, when that is another one."""
    total = convert(amount, currency, asked.get("paymentCurrency", currency))
    if total is None:
        raise Refused("paymentCurrency is not supported for this currency")
    return total


def is_same_email(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _success(data: dict[str, Any]) -> dict[str, Any]:
    return {"code": OK, "msg": "success", "data": data}


def _envelope(answer: Mapping[str, Any], status: int) -> Response:
    return Response(encode(answer), status_code=status, media_type="application/json")


async def _read_body(request: Request) -> dict[str, Any]:
    if not await request.body():
        return {}
    try:
        return await json_object(request, parse_float=Decimal)
    except Malformed as error:
        raise Refused(str(error)) from error


def _whole(text: str, name: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text, re.ASCII):
        raise Refused(f"{name} must be a whole number from 1")
    return int(text)


def _is_asked_for(order: Order, query: Mapping[str, str]) -> bool:
    subscription = order.subscription
    known = {
        "subscriptionId": subscription.subscription_id if subscription else None,
        "customerId": order.customer.customer_id,
        "merchantReferenceId": order.merchant_reference,
    }
    return all(query[name] == value for name, value in known.items() if name in query)
