"""What moves money without a buyer: confirm, tokens, plans, capture, refunds.

It books and refuses; it reads no request and sends nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.eximbay.codes import (
    KOREAN_ONLY,
    NO_REFUND_FUNDS,
    Refusal,
    refusal_of,
)
from django_multipay.sandbox.eximbay.documents import Refused, bad_request
from django_multipay.sandbox.eximbay.ledger import (
    AUTH,
    SALE,
    Ledger,
    Numbers,
    Payment,
    RecurringPlan,
    Refund,
    SavedToken,
    seoul_time,
    wire_amount,
)


class Charges:
    """Eximbay's back office. One per ledger."""

    def __init__(
        self,
        ledger: Ledger,
        numbers: Numbers,
        clock: Clock,
        settings: Mapping[str, Any],
    ) -> None:
        self._ledger = ledger
        self._numbers = numbers
        self._clock = clock
        self._settings = settings

    def confirm(self, payment: Payment, transaction_type: str) -> None:
        """Charge (or authorize) what was only authenticated on the page."""
        status = SALE if transaction_type == "PAYMENT_PA" else AUTH
        self._charge(payment, status, self._clock.now())

    def rebill(self, token: SavedToken, fields: dict[str, str]) -> Payment:
        payment = Payment(fields=fields, method=token.method, token_id=token.token_id)
        self._ledger.put(payment)
        self._charge(payment, SALE, self._clock.now())
        return payment

    def charge_plan(self, plan: RecurringPlan) -> Payment:
        """The plan's next charge, booked on its own day. A refused one is not retried.

        It is a payment of its own, with an order id made of plan and number.
        """
        moment = plan.due_at
        first = self._ledger.payments[plan.mid, plan.order_id]
        payment = Payment(
            fields={
                **first.fields,
                "txntype": "PAYMENT",
                "ref": f"{plan.recurring_id}-{len(plan.charges) + 1}",
                "amt": plan.amount,
                "returnurl": "",
                "statusurl": plan.noti_url,
            },
            method=plan.method,
        )
        self._ledger.put(payment)
        self._charge(payment, SALE, moment)
        plan.charges.append(payment.order_id)
        plan.period += 1
        payment.recurring_id = plan.recurring_id
        payment.extras = {
            "recurring_payment": "Y",
            "recurring_id": plan.recurring_id,
            "recurring_next_date": f"{plan.next_date:%Y%m%d}",
        }
        return payment

    def capture(self, payment: Payment, amount: Decimal) -> None:
        authorized = payment.balance
        if payment.status == SALE:
            raise bad_request("it is captured", "TRANSACTION_ALREADY_CAPTURED")
        if payment.status != AUTH:
            raise bad_request("nothing is authorized", "INVALID_CAPTURE_REQUEST")
        if not authorized:
            raise bad_request("it is canceled", "TRANSACTION_ALREADY_CANCELED")
        is_less = amount < authorized and self._settings["partial_capture"]
        if amount != authorized and not is_less:
            raise bad_request(
                "payment.amount is not what was authorized", "INVALID_CAPTURE_REQUEST"
            )
        payment.status = SALE
        payment.balance = amount
        payment.charges = 1
        payment.captured_date = seoul_time(self._clock.now())

    def settle(self, payment: Payment) -> None:
        if payment.status != SALE:
            raise bad_request("it is no sale", "VALIDATION_FAILED")
        if payment.settled_date:
            raise bad_request("it is settled", "DUPLICATE_TRANSACTION")
        payment.settled_date = seoul_time(self._clock.now())

    def refund(
        self, payment: Payment, wish: Mapping[str, str], balance: Decimal
    ) -> Refund:
        """One cancel; `balance` is what the shop believes is left."""
        if self._ledger.is_refund_id_used(payment.mid, wish["refund_id"]):
            raise bad_request(
                "refund.refund_id has been used before", "DUPLICATION_DECLINE"
            )
        if payment.status not in (AUTH, SALE):
            raise bad_request("nothing was paid", "INVALID_CANCEL_REQUEST")
        if not payment.balance:
            raise bad_request("nothing is left", "TRANSACTION_ALREADY_CANCELED")
        if balance != payment.balance:
            left = wire_amount(payment.balance, payment.currency)
            raise bad_request(f"payment.balance is {left}", "INVALID_REQEUST_AMOUNT")
        amount = self._refund_amount(payment, wish)
        has_failed = self._settings["refund_outcome"] == "fail"
        now = self._clock.now()
        refund = Refund(
            refund_id=wish["refund_id"],
            transaction_id="" if has_failed else self._transaction_id(payment, now),
            date=seoul_time(now),
            amount=amount,
            errcode=NO_REFUND_FUNDS.errcode if has_failed else "",
        )
        payment.refunds.append(refund)
        if has_failed:
            raise _refused(NO_REFUND_FUNDS)
        payment.balance -= amount
        return refund

    def _refund_amount(self, payment: Payment, wish: Mapping[str, str]) -> Decimal:
        """The amount after all the rules about full and partial refunds."""
        is_full = wish["refund_type"] == "F"
        given = wish.get("refund_amount")
        if not given and not is_full:
            raise bad_request("refund.refund_amount is mandatory")
        amount = Decimal(given) if given else payment.balance
        if amount > payment.balance:
            raise bad_request(
                "refund.refund_amount is more than the balance",
                "INVALID_CANCEL_REQUEST",
            )
        if is_full and amount != payment.balance:
            raise bad_request(
                "refund.refund_amount is not the full amount", "INVALID_CANCEL_REQUEST"
            )
        if is_full and payment.refunded and not self._settings["full_refund_of_rest"]:
            raise bad_request(
                "refund.refund_type F does not follow a partial refund",
                "INVALID_CANCEL_REQUEST",
            )
        if amount < payment.balance and not self._may_be_split(payment):
            raise bad_request(
                "refund.refund_type P is not available here", "INVALID_CANCEL_REQUEST"
            )
        return amount

    def _may_be_split(self, payment: Payment) -> bool:
        if payment.status == AUTH:
            return bool(self._settings["partial_void"])
        if payment.captured_date:
            return bool(self._settings["partially_cancelable"] == "Y")
        return True

    def _charge(self, payment: Payment, status: str, moment: datetime) -> None:
        if rescode := str(self._settings["charge_rescode"]):
            payment.refuse(refusal_of(rescode), moment)
        else:
            payment.accept(status, self._transaction_id(payment, moment), moment)

    def _transaction_id(self, payment: Payment, moment: datetime) -> str:
        return self._numbers.transaction_id(
            payment.mid, moment, is_domestic=payment.method in KOREAN_ONLY
        )


def _refused(refusal: Refusal) -> Refused:
    return Refused(refusal.rescode, refusal.resmsg, refusal.errcode)
