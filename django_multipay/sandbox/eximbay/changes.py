"""Eximbay's API for what is done to a payment: confirm, capture, settle, cancel."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from starlette.requests import Request

from django_multipay.sandbox.eximbay import answers
from django_multipay.sandbox.eximbay.charges import Charges
from django_multipay.sandbox.eximbay.codes import OK
from django_multipay.sandbox.eximbay.documents import (
    CANCEL,
    CAPTURE,
    CONFIRM,
    SETTLE,
    Form,
    Refused,
    bad_request,
    check_amount,
    check_refund_extras,
    no_transaction,
)
from django_multipay.sandbox.eximbay.gate import Gate, read_body
from django_multipay.sandbox.eximbay.ledger import (
    AUTHENTICATED,
    Ledger,
    Payment,
)
from django_multipay.sandbox.providers import Operation


class ChangesApi:
    def __init__(
        self,
        ledger: Ledger,
        charges: Charges,
        gate: Gate,
        settings: Mapping[str, Any],
    ) -> None:
        self._ledger = ledger
        self._charges = charges
        self._gate = gate
        self._settings = settings

    def operations(self) -> Sequence[Operation]:
        operation, of_payment = self._gate.operation, "/v1/payments/{transaction_id}"
        return (
            operation("confirm", "/v1/payments/confirm", self.confirm),
            operation("capture", f"{of_payment}/capture", self.capture),
            operation("settle", f"{of_payment}/settle", self.settle),
            operation("cancel", f"{of_payment}/cancel", self.cancel),
        )

    async def confirm(self, request: Request) -> Mapping[str, Any]:
        account = self._gate.authenticate(request)
        body = await read_body(request)
        self._gate.check(body, CONFIRM)
        self._gate.check_mid(account, body["mid"], "mid")
        asked = body["payment"]
        payment = self._ledger.payments.get((account.mid, asked["order_id"]))
        if payment is None or not payment.closed:
            raise no_transaction()
        if payment.transaction_type != "PAYER_AUTH" or not payment.payer_auth_id:
            raise bad_request(
                "the order is not authenticated", "INVALID_AUTHENTICATION"
            )
        if payment.payer_auth_id != asked["payer_auth_id"]:
            raise bad_request(
                "payment.payer_auth_id is of another order", "INVALID_AUTHENTICATION"
            )
        if payment.status != AUTHENTICATED:
            raise bad_request("the order is confirmed", "DUPLICATE_TRANSACTION")
        self._check_money(payment, asked)
        self._charges.confirm(payment, body["transaction_type"])
        if payment.rescode != OK:
            raise Refused(payment.rescode, payment.resmsg, payment.errcode)
        return _echoed(answers.confirmed(payment, self._settings), body)

    async def capture(self, request: Request) -> Mapping[str, Any]:
        payment, body = await self._asked(request, CAPTURE)
        asked = body["payment"]
        _check_currency(payment, asked)
        check_amount(asked["amount"], payment.currency, "payment.amount")
        self._charges.capture(payment, Decimal(asked["amount"]))
        return _echoed(answers.captured(payment, asked, self._settings), body)

    async def settle(self, request: Request) -> Mapping[str, Any]:
        payment, body = await self._asked(request, SETTLE)
        self._check_money(payment, body["payment"])
        self._charges.settle(payment)
        return answers.settled(payment, body["payment"])

    async def cancel(self, request: Request) -> Mapping[str, Any]:
        payment, body = await self._asked(request, CANCEL)
        asked, wish = body["payment"], body["refund"]
        self._check_money(payment, asked)
        if amount := wish.get("refund_amount"):
            check_amount(amount, payment.currency, "refund.refund_amount")
        check_refund_extras(body, payment.method)
        refund = self._charges.refund(payment, wish, Decimal(asked["balance"]))
        return _echoed(answers.canceled(payment, refund, self._settings), body)

    async def _asked(
        self, request: Request, form: Form
    ) -> tuple[Payment, dict[str, Any]]:
        """The payment of the path, and the body; they must speak of one order."""
        account = self._gate.authenticate(request)
        transaction_id = self._gate.transaction_id(request)
        body = await read_body(request)
        self._gate.check(body, form)
        self._gate.check_mid(account, body["mid"], "mid")
        payment = self._ledger.by_transaction(account.mid, transaction_id)
        if payment is None or payment.order_id != body["payment"]["order_id"]:
            raise no_transaction()
        return payment, body

    def _check_money(self, payment: Payment, asked: Mapping[str, str]) -> None:
        _check_currency(payment, asked)
        if Decimal(asked["amount"]) != Decimal(payment.amount):
            raise bad_request(
                "payment.amount is not the order's", "INVALID_REQEUST_AMOUNT"
            )


def _check_currency(payment: Payment, asked: Mapping[str, str]) -> None:
    if asked["currency"] != payment.currency:
        raise bad_request(
            "payment.currency is not the order's", "INVALID_REQEUST_AMOUNT"
        )


def _echoed(answer: dict[str, Any], body: Mapping[str, Any]) -> Mapping[str, Any]:
    if "other_param" in body:
        answer["other_param"] = body["other_param"]
    return answer
