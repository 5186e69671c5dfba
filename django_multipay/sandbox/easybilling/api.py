"""EasyBilling's Payment Hub API: what a merchant's server may ask."""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.easybilling.documents import (
    ERRORS,
    Refused,
    read_login,
    read_payment_method,
    read_refund,
    read_transaction,
)
from django_multipay.sandbox.easybilling.ledger import Ledger, Payment, Refund
from django_multipay.sandbox.easybilling.words import (
    ACCOUNTS,
    Account,
    payment_word,
    refund_word,
)
from django_multipay.sandbox.providers import Handler, Operation
from django_multipay.sandbox.wire import Malformed, json_object, origin

BASE = "/easybilling"
UUID = r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

Authorized = Callable[[Account, Request], Awaitable[Response]]


class Api:
    """One handler per endpoint; each either answers or raises `Refused`."""

    def __init__(
        self, ledger: Ledger, clock: Clock, settings: Mapping[str, Any]
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._settings = settings

    def operations(self) -> Sequence[Operation]:
        transaction = "/transactions/{transaction_id}/status"
        return (
            self._operation(
                "login",
                "POST",
                "/api/authenticate/login",
                self.login,
                secret_fields=frozenset({"password", "token"}),
            ),
            self._guarded("logout", "POST", "/api/authenticate/logout", self.logout),
            self._guarded("start", "POST", "/api/transactions", self.start),
            # The status page has no /api in its path, unlike all others.
            self._guarded("status", "GET", transaction, self.status),
            self._guarded("status", "GET", f"/api{transaction}", self.status),
            self._guarded("refresh", "POST", f"/api{transaction}", self.refresh),
            self._guarded("refund", "POST", "/api/refund", self.refund),
            self._guarded("refund_status", "GET", "/api/refund", self.refund_status),
            self._guarded(
                "payment_method", "POST", "/api/payment-methods", self.payment_method
            ),
        )

    def refuse(self, status: int) -> Response:
        message = "no such method here" if status == 405 else "no such address"
        return _error(Refused(status, message))

    # -- log-in --------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        self._check_trace(request)
        body = await json_object(request)
        username, password = read_login(body, self._settings)
        for account in ACCOUNTS:
            is_user = _is_same(username, account.username)
            if _is_same(password, account.password) and is_user:
                return JSONResponse(
                    {
                        "message": "Authentication successful",
                        "token": self._ledger.log_in(account),
                    }
                )
        raise Refused(401, "wrong username or password")

    async def logout(self, account: Account, request: Request) -> Response:
        token = _bearer(request)
        if token not in self._ledger.sessions:
            raise Refused(400, "an API token has no session to end")
        del self._ledger.sessions[token]
        return JSONResponse({"message": "Logout successful"})

    # -- payments ------------------------------------------------------------

    async def start(self, account: Account, request: Request) -> Response:
        body = await json_object(request)
        order = read_transaction(body, self._settings)
        payment = self._ledger.start(account, order)
        word = payment_word(
            payment.state, page="seed", vocabulary=self._settings["vocabulary"]
        )
        return _payment_answer(payment, word, request)

    async def status(self, account: Account, request: Request) -> Response:
        payment = self._ledger.find(account, request.path_params["transaction_id"])
        if not self._settings["stale_until_refresh"]:
            payment.copied_state = payment.state
        return self._status_answer(payment, request)

    async def refresh(self, account: Account, request: Request) -> Response:
        """The hub asks the gateway anew; only the unofficial guide has this call."""
        payment = self._ledger.find(account, request.path_params["transaction_id"])
        payment.copied_state = payment.state
        return self._status_answer(payment, request)

    def _status_answer(self, payment: Payment, request: Request) -> Response:
        word = self._settings["status_word"] or payment_word(
            payment.copied_state,
            page="status-page",
            vocabulary=self._settings["vocabulary"],
        )
        return _payment_answer(payment, word, request)

    # -- refunds -------------------------------------------------------------

    async def refund(self, account: Account, request: Request) -> Response:
        wish = read_refund(await json_object(request), self._settings)
        refund = self._ledger.refund(account, wish)
        return self._refund_answer(wish.transaction_id, refund)

    async def refund_status(self, account: Account, request: Request) -> Response:
        """By requestId; without one, the newest refund of the transaction."""
        transaction_id = request.query_params.get("transactionId", "")
        request_id = request.query_params.get("requestId", "")
        if not transaction_id and not request_id:
            raise Refused(400, "transactionId or requestId is mandatory")
        payment, refund = self._ledger.find_refund(account, transaction_id, request_id)
        self._ledger.progress(refund)
        return self._refund_answer(payment.order.transaction_id, refund)

    def _refund_answer(self, transaction_id: str, refund: Refund) -> Response:
        word = refund_word(
            refund.status, vocabulary=self._settings["refund_vocabulary"]
        )
        return JSONResponse({"transactionId": transaction_id, "status": word})

    # -- saved methods -------------------------------------------------------

    async def payment_method(self, account: Account, request: Request) -> Response:
        """The answer is no object but a bare JSON string."""
        setup = read_payment_method(await json_object(request), self._settings)
        page = self._ledger.open_setup(account, setup)
        return JSONResponse(f"{origin(request)}{page.page}")

    # -- the door ------------------------------------------------------------

    def _guarded(
        self, name: str, method: str, path: str, work: Authorized
    ) -> Operation:
        """An operation that needs a bearer token."""

        async def handler(request: Request) -> Response:
            account = self._authenticate(request)
            self._check_trace(request)
            return await work(account, request)

        return self._operation(name, method, path, handler)

    def _operation(
        self,
        name: str,
        method: str,
        path: str,
        work: Handler,
        *,
        secret_fields: frozenset[str] = frozenset(),
    ) -> Operation:
        async def handler(request: Request) -> Response:
            try:
                return await work(request)
            except Malformed as error:
                return _error(Refused(400, str(error)))
            except Refused as refused:
                return _error(refused)

        return Operation(
            name=name,
            method=method,
            path=BASE + path,
            handler=handler,
            secret_fields=secret_fields,
        )

    def _authenticate(self, request: Request) -> Account:
        given = _bearer(request)
        for account in ACCOUNTS:
            if _is_same(given, account.api_token):
                return account
        session = self._ledger.sessions.get(given)
        if session is None:
            raise Refused(401, "the token is missing or unknown")
        if self._clock.now() >= session.ends_at:
            raise Refused(401, "the token has expired")
        return session.account

    def _check_trace(self, request: Request) -> None:
        trace = request.headers.get("trace-id", "")
        if self._settings["trace_id_required"] and not re.fullmatch(UUID, trace):
            raise Refused(400, "the trace-id header must be a UUID")


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _payment_answer(payment: Payment, word: str, request: Request) -> Response:
    return JSONResponse(
        {
            "paymentUrl": payment.payment_url(origin(request)),
            "paymentId": payment.payment_id,
            "expireTime": payment.expire_seconds,
            "status": word,
        }
    )


def _error(refused: Refused) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
    return JSONResponse(
        {"error": ERRORS[refused.status], "message": refused.message},
        status_code=refused.status,
        headers=headers,
    )
