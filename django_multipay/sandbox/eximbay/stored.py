"""Eximbay's API for what it keeps for later: tokens and recurring plans."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from django_multipay.sandbox.eximbay import answers
from django_multipay.sandbox.eximbay.charges import Charges
from django_multipay.sandbox.eximbay.codes import OK, Account
from django_multipay.sandbox.eximbay.documents import (
    ADJUST,
    REBILL,
    REBILL_AS_EXAMPLE,
    Refused,
    bad_request,
    check_amount,
    check_order,
    flatten,
)
from django_multipay.sandbox.eximbay.gate import Gate, read_body
from django_multipay.sandbox.eximbay.ledger import Ledger, RecurringPlan, SavedToken
from django_multipay.sandbox.providers import Operation

# The spelling is Eximbay's own.
UNKNOWN_ID = "INVALID_REQEUST_ID"


class StoredApi:
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
        operation = self._gate.operation
        of_token = "/v1/payments/tokenbilling/{token_id}"  # noqa: S105
        of_plan = "/v1/payments/recurring/{recurring_id}"
        return (
            operation("rebill", f"{of_token}/rebill", self.rebill),
            operation("token_delete", f"{of_token}/delete", self.delete_token),
            operation("token_inquiry", of_token, self.identify_card, method="GET"),
            operation("recurring_delete", f"{of_plan}/delete", self.delete_plan),
            operation("recurring_adjust", f"{of_plan}/adjust", self.adjust_plan),
        )

    async def rebill(self, request: Request) -> Mapping[str, Any]:
        account = self._gate.authenticate(request)
        body = await read_body(request)
        is_lenient = self._settings["rebill_request"] == "example"
        form = REBILL_AS_EXAMPLE if is_lenient else REBILL
        check_order(body, form, self._gate.rules)
        self._gate.check_mid(account, body["merchant"]["mid"], "merchant.mid")
        token = self._token(account, request)
        if self._ledger.is_used(account.mid, body["payment"]["order_id"]):
            raise bad_request(
                "payment.order_id has been used before", "DUPLICATE_TRANSACTION"
            )
        fields = {**flatten(body), "txntype": "REBILL", "token_id": token.token_id}
        payment = self._charges.rebill(token, fields)
        if payment.rescode != OK:
            raise Refused(payment.rescode, payment.resmsg, payment.errcode)
        return answers.rebilled(payment, token, body, self._settings)

    async def delete_token(self, request: Request) -> Mapping[str, Any]:
        account = self._gate.authenticate(request)
        await self._gate.check_empty(request)
        self._token(account, request).deleted = True
        return answers.SUCCESS

    async def identify_card(self, request: Request) -> Mapping[str, Any]:
        account = self._gate.authenticate(request)
        await self._gate.check_empty(request)
        return answers.identified(self._token(account, request))

    async def delete_plan(self, request: Request) -> Mapping[str, Any]:
        account = self._gate.authenticate(request)
        await self._gate.check_empty(request)
        self._plan(account, request).deleted = True
        return answers.SUCCESS

    async def adjust_plan(self, request: Request) -> Mapping[str, Any]:
        account = self._gate.authenticate(request)
        body = await read_body(request)
        self._gate.check(body, ADJUST)
        plan = self._plan(account, request)
        check_amount(body["adjust_amount"], plan.currency, "adjust_amount")
        plan.amount = body["adjust_amount"]
        return answers.SUCCESS

    def _token(self, account: Account, request: Request) -> SavedToken:
        token = self._ledger.token(account.mid, request.path_params["token_id"])
        if token is None:
            raise bad_request("token_id is unknown", UNKNOWN_ID)
        return token

    def _plan(self, account: Account, request: Request) -> RecurringPlan:
        plan = self._ledger.plan(account.mid, request.path_params["recurring_id"])
        if plan is None:
            raise bad_request("recurring_id is unknown", UNKNOWN_ID)
        return plan
