"""The gate before every call: who asks, in which form, and how a no is said."""

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from django_multipay.sandbox.eximbay.codes import (
    ACCOUNTS,
    BAD_CONTENT_TYPE,
    BAD_CREDENTIALS,
    BAD_REQUESTS,
    BAD_TRANSACTION_ID,
    Account,
)
from django_multipay.sandbox.eximbay.documents import (
    Form,
    Refused,
    Rules,
    bad_request,
    check_form,
)
from django_multipay.sandbox.providers import Operation
from django_multipay.sandbox.wire import Malformed, WrongMediaType, json_object

Work = Callable[[Request], Awaitable[Mapping[str, Any]]]

TRANSACTION_ID_LENGTH = 24


class Gate:
    """Shared by all endpoints; each either answers or raises `Refused`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings

    @property
    def rules(self) -> Rules:
        return Rules(
            is_strict=self._settings["refuse_unknown_fields"],
            has_sum_rule=self._settings["check_sum_rule"],
            knows_codes=self._settings["refuse_unknown_codes"],
        )

    def operation(
        self,
        name: str,
        path: str,
        work: Work,
        *,
        method: str = "POST",
        is_cross_origin: bool = False,
    ) -> Operation:
        async def handler(request: Request) -> Response:
            try:
                return JSONResponse(await work(request))
            except Refused as refused:
                return self._refusal(refused)

        return Operation(
            name=name,
            method=method,
            path=path,
            handler=handler,
            is_cross_origin=is_cross_origin,
        )

    def authenticate(self, request: Request) -> Account:
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

    def check_mid(self, account: Account, mid: str, path: str) -> None:
        if mid != account.mid:
            raise bad_request(f"{path} does not belong to this API key")

    def check(self, body: Mapping[str, Any], form: Form) -> None:
        check_form(body, form, is_strict=self.rules.is_strict)

    async def check_empty(self, request: Request) -> None:
        """The calls without fields: the samples send `{}`, nobody says one must."""
        if await request.body():
            self.check(await read_body(request), Form())

    def transaction_id(self, request: Request) -> str:
        given = str(request.path_params["transaction_id"])
        if len(given) != TRANSACTION_ID_LENGTH:
            raise Refused(BAD_TRANSACTION_ID, "TransactionID length limited")
        return given

    def _refusal(self, refused: Refused) -> Response:
        status = 200
        if refused.rescode == BAD_CREDENTIALS:
            status = int(self._settings["auth_error_status"])
        elif refused.rescode in BAD_REQUESTS:
            status = int(self._settings["request_error_status"])
        return error(refused, status)


async def read_body(request: Request) -> dict[str, Any]:
    """The body as an object. The real SDK writes "application/json; UTF-8;"."""
    try:
        return await json_object(request)
    except WrongMediaType as problem:
        raise Refused(BAD_CONTENT_TYPE, "Content type invalid") from problem
    except Malformed as problem:
        raise bad_request(str(problem)) from problem


def error(refused: Refused, status: int) -> Response:
    body = {"rescode": refused.rescode, "resmsg": refused.resmsg}
    if refused.errcode:
        body["errcode"] = refused.errcode
    return JSONResponse(body, status_code=status)
