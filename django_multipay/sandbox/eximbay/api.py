"""Eximbay's API: what a shop's server (and the browser SDK) may ask."""

import base64
import binascii
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from django_multipay.sandbox.eximbay.callback import is_same, sign
from django_multipay.sandbox.eximbay.codes import (
    ACCOUNTS,
    ACCOUNTS_BY_MID,
    BAD_CONTENT_TYPE,
    BAD_CREDENTIALS,
    BAD_FGKEY,
    BAD_METHOD,
    BAD_REQUEST,
    NOT_FOUND,
    OK,
    Account,
    card_digits,
    is_card,
)
from django_multipay.sandbox.eximbay.documents import (
    RETRIEVE,
    VERIFY,
    Field,
    Refused,
    bad_request,
    check_objects,
    check_payment_request,
    flatten,
)
from django_multipay.sandbox.eximbay.ledger import (
    NONE,
    RETRIEVABLE,
    Ledger,
    Payment,
    wire_amount,
)
from django_multipay.sandbox.providers import Operation


class Api:
    """One handler per endpoint; each either answers or raises `Refused`."""

    def __init__(self, ledger: Ledger, settings: Mapping[str, Any]) -> None:
        self._ledger = ledger
        self._settings = settings

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                name="ready",
                method="POST",
                path="/v1/payments/ready",
                handler=self.ready,
            ),
            Operation(
                name="payments",
                method="POST",
                path="/v1/payments",
                handler=self.payments,
                is_cross_origin=True,
            ),
            Operation(
                name="verify",
                method="POST",
                path="/v1/payments/verify",
                handler=self.verify,
            ),
            Operation(
                name="retrieve",
                method="POST",
                path="/v1/payments/retrieve",
                handler=self.retrieve,
            ),
        )

    def refuse(self, status: int) -> Response:
        if status == 405:
            refused = Refused(BAD_METHOD, "HTTP method invalid")
        else:
            refused = Refused(BAD_REQUEST, "Invalid request parameter: unknown path")
        return _error(refused, status)

    async def ready(self, request: Request) -> Response:
        try:
            account = self._authenticate(request)
            body = await _json_object(request)
            self._check_payment_request(body)
            self._check_mid(account, body["merchant"]["mid"], "merchant.mid")
        except Refused as refused:
            return self._refusal(refused)
        fields = flatten(body)
        self._ledger.put(Payment(fields=fields))
        return JSONResponse(
            {
                "rescode": OK,
                "resmsg": "Success",
                "fgkey": sign(account.secret, fields.items()),
            }
        )

    async def payments(self, request: Request) -> Response:
        """The call of the browser SDK: from no document, decoded by integrators."""
        try:
            body = await _json_object(request)
            fgkey = body.pop("fgkey", None)
            self._check_payment_request(body)
            account = ACCOUNTS_BY_MID.get(body["merchant"]["mid"])
            if account is None:
                raise bad_request("merchant.mid is unknown")
            fields = flatten(body)
            if not is_same(fgkey, sign(account.secret, fields.items())):
                raise Refused(BAD_FGKEY, "fgkey mismatch")
        except Refused as refused:
            return self._refusal(refused)
        return JSONResponse(
            {
                "url": f"{origin(request)}/Gateway/BasicProcessor.krp",
                "display_type": fields["displaytype"],
                **fields,
                "fgkey": fgkey,
            }
        )

    async def verify(self, request: Request) -> Response:
        """Integrity only: a genuine notice of a failure is a success here."""
        try:
            account = self._authenticate(request)
            body = await _json_object(request)
            self._check(body, VERIFY)
            pairs = parse_qsl(body["data"], keep_blank_values=True)
            given = [value for name, value in pairs if name == "fgkey"]
            if len(given) != 1 or not is_same(given[0], sign(account.secret, pairs)):
                raise Refused(BAD_FGKEY, "fgkey mismatch")
        except Refused as refused:
            return self._refusal(refused)
        return JSONResponse({"rescode": OK, "resmsg": "Success"})

    async def retrieve(self, request: Request) -> Response:
        try:
            account = self._authenticate(request)
            body = await _json_object(request)
            self._check(body, RETRIEVE, "payment")
            self._check_mid(account, body["mid"], "mid")
            asked = body["payment"]
            if body["key_field"] == "transaction_id" and not asked.get(
                "transaction_id"
            ):
                raise bad_request("payment.transaction_id is mandatory")
        except Refused as refused:
            return self._refusal(refused)
        payment = self._find(account.mid, body["key_field"], asked)
        if payment is None:
            answer = {
                "rescode": NOT_FOUND,
                "resmsg": "No Transaction",
                "mid": account.mid,
                "payment": {"status": NONE},
            }
        else:
            answer = self._retrieved(payment)
        if "other_param" in body:
            answer["other_param"] = body["other_param"]
        return JSONResponse(answer)

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

    def _retrieved(self, payment: Payment) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "rescode": OK,
            "resmsg": "Success.",
            "mid": payment.mid,
            "payment": {
                "order_id": payment.order_id,
                "currency": payment.currency,
                "amount": payment.amount,
                "transaction_id": payment.transaction_id,
                "status": payment.status,
                "auth_code": payment.auth_code,
                "transaction_date": payment.transaction_date,
                "balance": wire_amount(payment.balance, payment.currency),
                "payment_method": payment.method,
            },
        }
        if is_card(payment.method):
            first, last = card_digits(payment.method)
            spelling = self._settings["card_field_spelling"]
            answer["card_info"] = {f"{spelling}1": first, f"{spelling}4": last}
        return answer

    def _authenticate(self, request: Request) -> Account:
        """`Basic base64(api_key + ":")`: the key as user name, no password."""
        header = request.headers.get("authorization", "")
        if not header:
            raise Refused(BAD_CREDENTIALS, "Authorization required")
        scheme, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            given = b""
        for account in ACCOUNTS:
            if scheme.lower() == "basic" and hmac.compare_digest(
                given, f"{account.api_key}:".encode()
            ):
                return account
        raise Refused(BAD_CREDENTIALS, "Authorization is invalid")

    def _check_mid(self, account: Account, mid: str, path: str) -> None:
        if mid != account.mid:
            raise bad_request(f"{path} does not belong to this API key")

    def _check(
        self,
        body: Mapping[str, Any],
        table: Mapping[str, tuple[Field, ...]],
        *mandatory: str,
    ) -> None:
        is_strict = self._settings["refuse_unknown_fields"]
        check_objects(body, table, mandatory=mandatory, is_strict=is_strict)

    def _check_payment_request(self, body: Mapping[str, Any]) -> None:
        check_payment_request(
            body,
            is_strict=self._settings["refuse_unknown_fields"],
            has_sum_rule=self._settings["check_sum_rule"],
        )
        for problem in self._token_problems(body):
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
        token = self._ledger.tokens.get(token_id or "")
        if not token_id:
            yield "tokenbilling.token_id is mandatory"
        elif token is None or token.deleted or token.mid != body["merchant"]["mid"]:
            yield "tokenbilling.token_id is unknown"

    def _refusal(self, refused: Refused) -> Response:
        is_about_key = refused.rescode == BAD_CREDENTIALS
        name = "auth_error_status" if is_about_key else "request_error_status"
        return _error(refused, int(self._settings[name]))


async def _json_object(request: Request) -> dict[str, Any]:
    # The SDK of the real thing writes "application/json; UTF-8;".
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        raise Refused(BAD_CONTENT_TYPE, "Content type invalid")
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise bad_request("the body is not JSON") from error
    if not isinstance(body, dict):
        raise bad_request("the body is not an object")
    return body


def _error(refused: Refused, status: int) -> Response:
    body = {"rescode": refused.rescode, "resmsg": refused.resmsg}
    if refused.errcode:
        body["errcode"] = refused.errcode
    return JSONResponse(body, status_code=status)


def origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"
