"""Eximbay's API before money moves: open a page, verify a callback, ask."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from django_multipay.sandbox.eximbay import answers
from django_multipay.sandbox.eximbay.callback import is_same, sign
from django_multipay.sandbox.eximbay.codes import (
    ACCOUNTS_BY_MID,
    BAD_FGKEY,
    BAD_METHOD,
    BAD_REQUEST,
    OK,
)
from django_multipay.sandbox.eximbay.documents import (
    READY_FORM,
    RETRIEVE,
    VERIFY,
    Refused,
    bad_request,
    check_order,
    flatten,
)
from django_multipay.sandbox.eximbay.gate import Gate, error, read_body
from django_multipay.sandbox.eximbay.ledger import RETRIEVABLE, Ledger, Payment
from django_multipay.sandbox.providers import Operation
from django_multipay.sandbox.wire import origin


class Api:
    def __init__(self, ledger: Ledger, gate: Gate, settings: Mapping[str, Any]) -> None:
        self._ledger = ledger
        self._gate = gate
        self._settings = settings

    def operations(self) -> Sequence[Operation]:
        operation = self._gate.operation
        return (
            operation("ready", "/v1/payments/ready", self.ready),
            operation("payments", "/v1/payments", self.payments, is_cross_origin=True),
            operation("verify", "/v1/payments/verify", self.verify),
            operation("retrieve", "/v1/payments/retrieve", self.retrieve),
        )

    def refuse(self, status: int) -> Response:
        if status == 405:
            refused = Refused(BAD_METHOD, "HTTP method invalid")
        else:
            refused = Refused(BAD_REQUEST, "Invalid request parameter: unknown path")
        return error(refused, status)

    async def ready(self, request: Request) -> Mapping[str, Any]:
        account = self._gate.authenticate(request)
        body = await read_body(request)
        self._check_payment_request(body)
        self._gate.check_mid(account, body["merchant"]["mid"], "merchant.mid")
        fields = flatten(body)
        self._ledger.put(Payment(fields=fields))
        return {
            "rescode": OK,
            "resmsg": "Success",
            "fgkey": sign(account.secret, fields.items()),
        }

    async def payments(self, request: Request) -> Mapping[str, Any]:
        """The call of the browser SDK: from no document, decoded by integrators."""
        body = await read_body(request)
        fgkey = body.pop("fgkey", None)
        self._check_payment_request(body)
        account = ACCOUNTS_BY_MID.get(body["merchant"]["mid"])
        if account is None:
            raise bad_request("merchant.mid is unknown")
        fields = flatten(body)
        if not is_same(fgkey, sign(account.secret, fields.items())):
            raise Refused(BAD_FGKEY, "fgkey mismatch")
        return {
            "url": f"{origin(request)}/Gateway/BasicProcessor.krp",
            "display_type": fields["displaytype"],
            **fields,
            "fgkey": fgkey,
        }

    async def verify(self, request: Request) -> Mapping[str, Any]:
        """Integrity only: a genuine notice of a failure is a success here."""
        account = self._gate.authenticate(request)
        body = await read_body(request)
        self._gate.check(body, VERIFY)
        pairs = parse_qsl(body["data"], keep_blank_values=True)
        given = [value for name, value in pairs if name == "fgkey"]
        if len(given) != 1 or not is_same(given[0], sign(account.secret, pairs)):
            raise Refused(BAD_FGKEY, "fgkey mismatch")
        return {"rescode": OK, "resmsg": "Success"}

    async def retrieve(self, request: Request) -> Mapping[str, Any]:
        account = self._gate.authenticate(request)
        body = await read_body(request)
        self._gate.check(body, RETRIEVE)
        self._gate.check_mid(account, body["mid"], "mid")
        key_field, asked = body["key_field"], body["payment"]
        if key_field == "transaction_id" and not asked.get("transaction_id"):
            raise bad_request("payment.transaction_id is mandatory")
        payment = self._find(account.mid, key_field, asked)
        if payment is None:
            answer = answers.not_retrieved(account.mid)
        else:
            answer = answers.retrieved(payment, self._settings)
        if "other_param" in body:
            answer["other_param"] = body["other_param"]
        return answer

    def _find(
        self, mid: str, key_field: str, asked: Mapping[str, str]
    ) -> Payment | None:
        """Currency and amount are part of the question (measured by integrators)."""
        if key_field == "order_id":
            payment = self._ledger.payments.get((mid, asked["order_id"]))
        else:
            payment = self._ledger.by_transaction(mid, asked["transaction_id"])
        if payment is None or payment.status not in RETRIEVABLE:
            return None
        if payment.currency != asked["currency"]:
            return None
        if self._settings["retrieve_amount_as_text"]:
            return payment if payment.amount == asked["amount"] else None
        is_same = Decimal(payment.amount) == Decimal(asked["amount"])
        return payment if is_same else None

    def _check_payment_request(self, body: Mapping[str, Any]) -> None:
        check_order(body, READY_FORM, self._gate.rules)
        for problem in (*self._token_problems(body), *_domestic_problems(body)):
            raise bad_request(problem)
        if self._ledger.is_used(body["merchant"]["mid"], body["payment"]["order_id"]):
            raise bad_request(
                "payment.order_id has been used before", "DUPLICATE_TRANSACTION"
            )

    def _token_problems(self, body: Mapping[str, Any]) -> Iterable[str]:
        kind = body["payment"]["transaction_type"]
        wishes = body.get("tokenbilling", {})
        for name in ("token_creation", "unique_token_id"):
            if wishes.get(name) and kind != "PAYMENT":
                yield f"tokenbilling.{name} is only for PAYMENT"
        token_id = wishes.get("token_id")
        if kind != "REBILL":
            if token_id:
                yield "tokenbilling.token_id is only for REBILL"
            return
        if not token_id:
            yield "tokenbilling.token_id is mandatory"
        elif self._ledger.token(body["merchant"]["mid"], token_id) is None:
            yield "tokenbilling.token_id is unknown"


def _domestic_problems(body: Mapping[str, Any]) -> Iterable[str]:
    """What is "For Cross-Border payment Integration" only."""
    account = ACCOUNTS_BY_MID.get(body["merchant"]["mid"])
    if account is None or not account.is_domestic:
        return
    if body["payment"].get("multi_payment_method"):
        yield "payment.multi_payment_method is only for cross-border accounts"
    if body.get("settings", {}).get("site_foreign_currency"):
        yield "settings.site_foreign_currency is only for cross-border accounts"
