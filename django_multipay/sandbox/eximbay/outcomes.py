"""What a buyer's choice on the hosted page does to the ledger. It sends nothing."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.eximbay.codes import (
    ANY_CARD,
    CANCELED,
    CANCELED_BY_BUYER,
    CARDS,
    CONTRADICTION,
    DECLINES,
    DECLINES_BY_CODE,
    DEFERRED,
    KOREAN_CARDS,
    KOREAN_ONLY,
    OK,
    SEOUL,
    TOKEN_REFUSED,
    USUAL_CROSS_BORDER,
    USUAL_KOREAN,
    USUAL_YEN,
    YEN_ONLY,
    Refusal,
    card_digits,
    is_card,
    refusal_of,
)
from django_multipay.sandbox.eximbay.documents import bad_request, read_day
from django_multipay.sandbox.eximbay.ledger import (
    AUTH,
    AUTHENTICATED,
    REGISTERED,
    SALE,
    Ledger,
    Numbers,
    Payment,
    RecurringPlan,
    SavedToken,
)

OUTCOMES = (
    "approve",
    "decline",
    "cancel",
    "close",
    "register",
    "review",
    "contradict",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The payment as each message tells it; `None` is not sent."""

    returned: Payment | None
    notified: Payment
    is_return_first: bool = False


class Till:
    """Where the buyer decides. One per ledger."""

    def __init__(self, ledger: Ledger, numbers: Numbers, clock: Clock) -> None:
        self._ledger = ledger
        self._numbers = numbers
        self._clock = clock

    def offered(self, payment: Payment) -> list[str]:
        """The methods this page shows, in order, each once."""
        if payment.transaction_type == "REBILL":
            token = self._ledger.token(payment.mid, payment.fields["token_id"])
            return [token.method] if token is not None else []
        is_krw, is_jpy = payment.currency == "KRW", payment.currency == "JPY"
        cards = [*KOREAN_CARDS] if payment.is_domestic and is_krw else []
        cards += CARDS
        multi = payment.fields.get("multipaymethod", "")
        # "For Cross-Border payment Integration": the domestic page ignores it.
        asked = multi.split("-") if multi and not payment.is_domestic else []
        if payment.fields.get("paymethod"):
            asked = [payment.fields["paymethod"]]
        if not asked:
            asked = [ANY_CARD]
            if payment.transaction_type == "PAYER_AUTH":
                # 3-D Secure is a matter of cards.
                return cards
            if payment.is_domestic:
                asked += USUAL_KOREAN
            else:
                asked += [*USUAL_YEN, *USUAL_CROSS_BORDER, "P305"]
        codes: list[str] = []
        for code in asked:
            codes += cards if code == ANY_CARD else [code]
        return [
            code
            for code in dict.fromkeys(codes)
            if (is_krw or code not in KOREAN_ONLY) and (is_jpy or code not in YEN_ONLY)
        ]

    def decide(self, payment: Payment, form: Mapping[str, str], origin: str) -> Verdict:
        """Book what the buyer (or the test) chose. Nothing is sent yet."""
        outcome = form.get("outcome", "")
        if outcome not in OUTCOMES:
            raise bad_request(f"outcome must be one of {', '.join(OUTCOMES)}")
        method = self._chosen_method(payment, form.get("method", ""), outcome)
        refusal = _chosen_refusal(outcome, form.get("rescode", ""))
        self._ledger.put(payment)
        payment.closed = True
        payment.method = "" if outcome == "cancel" else method
        if refusal is None and self._is_card_taken(payment):
            refusal = TOKEN_REFUSED
        if refusal is not None:
            payment.refuse(refusal, self._clock.now())
        else:
            self._succeed(payment, origin, is_reviewed=outcome == "review")
        told = replace(payment)
        if outcome != "contradict":
            returned = None if outcome == "close" else told
            return Verdict(returned=returned, notified=told)
        self._contradict(payment)
        return Verdict(returned=told, notified=replace(payment), is_return_first=True)

    def _chosen_method(self, payment: Payment, method: str, outcome: str) -> str:
        offered = self.offered(payment)
        if method and method not in offered:
            raise bad_request(f"method {method} is not offered here")
        if outcome == "register":
            # The page posts its chosen card along; only a deferred one registers.
            offered = [code for code in offered if code in DEFERRED]
        if not offered:
            raise bad_request("no payment method fits this outcome and currency")
        return method if method in offered else offered[0]

    def _is_card_taken(self, payment: Payment) -> bool:
        if not is_card(payment.method) or payment.fields.get("unique_token_id") != "Y":
            return False
        card = card_digits(payment.method)
        return (
            payment.fields.get("token_creation") == "Y"
            and self._ledger.token_of_card(payment.mid, payment.method, card)
            is not None
        )

    def _succeed(self, payment: Payment, origin: str, *, is_reviewed: bool) -> None:
        now = self._clock.now()
        payment.dm_decision = "REVIEW" if is_reviewed else ""
        if payment.transaction_type == "PAYER_AUTH":
            payment.rescode, payment.resmsg = OK, "Success."
            payment.status = AUTHENTICATED
            payment.payer_auth_id = self._numbers.payer_auth_id(now)
            return
        transaction_id = self._numbers.transaction_id(
            payment.mid, now, is_domestic=payment.method in KOREAN_ONLY
        )
        if payment.method in DEFERRED:
            payment.accept(REGISTERED, transaction_id, now)
            payment.extras = self._deferred_extras(payment, origin)
            return
        status = AUTH if payment.transaction_type == "AUTHORIZE" else SALE
        payment.accept(status, transaction_id, now)
        self._save_token(payment, now)
        self._save_plan(payment, now)

    def receive_deposit(self, payment: Payment) -> None:
        """The money of a REGISTERED order arrives; the transaction id stays."""
        payment.accept(SALE, payment.transaction_id, self._clock.now())

    def _contradict(self, payment: Payment) -> None:
        """Seen live: the return says yes, a second later the status says no."""
        self._ledger.tokens.pop(payment.token_id, None)
        self._ledger.plans.pop(payment.recurring_id, None)
        payment.refuse(CONTRADICTION, self._clock.now())

    def _deferred_extras(self, payment: Payment, origin: str) -> dict[str, str]:
        if payment.method == "P006":
            address = f"{origin}/Gateway/instructions/{payment.transaction_id}"
            return {"payment_url": address}
        due = self._clock.now() + timedelta(days=7)
        asked = payment.fields.get("vaexpirydate")
        return {
            "virtual_account_number": f"79{secrets.randbelow(10**12):012d}",
            "virtual_account_bank_name": "SANDBOX BANK",
            "virtual_account_depositor": payment.fields.get("shop") or payment.mid,
            "virtual_account_due_date": asked or f"{due.astimezone(SEOUL):%Y%m%d%H}",
        }

    def _save_token(self, payment: Payment, now: datetime) -> None:
        if payment.transaction_type == "REBILL":
            payment.token_id = payment.fields["token_id"]
            return
        if payment.fields.get("token_creation") != "Y" or not is_card(payment.method):
            return
        payment.token_id = self._numbers.token_id(now)
        payment.extras |= {"token_id": payment.token_id, "token_creation": "Y"}
        self._ledger.tokens[payment.token_id] = SavedToken(
            token_id=payment.token_id,
            mid=payment.mid,
            method=payment.method,
            card=card_digits(payment.method),
            holder=payment.fields["buyer"].upper(),
            order_id=payment.order_id,
        )

    def _save_plan(self, payment: Payment, now: datetime) -> None:
        fields = payment.fields
        if "recurring_amount" not in fields:
            return
        plan = RecurringPlan(
            recurring_id=self._numbers.recurring_id(now),
            mid=payment.mid,
            order_id=payment.order_id,
            currency=payment.currency,
            amount=fields["recurring_amount"],
            start_date=read_day(fields["recurring_start_date"]),
            interval_months=int(fields["recurring_interval"]),
            noti_url=fields.get("recurring_noti_url", ""),
            method=payment.method,
        )
        # A start in the past owes nothing: the first charge is the next one to come.
        plan.skip_until_after(now.astimezone(SEOUL).date())
        self._ledger.plans[plan.recurring_id] = plan
        payment.recurring_id = plan.recurring_id
        payment.extras |= {
            "recurring_payment": "Y",
            "recurring_id": plan.recurring_id,
            "recurring_next_date": f"{plan.next_date:%Y%m%d}",
        }


def _chosen_refusal(outcome: str, rescode: str) -> Refusal | None:
    """None when the money side of the outcome is a yes."""
    if outcome == "cancel":
        return DECLINES_BY_CODE.get(rescode) or replace(
            CANCELED, rescode=rescode or CANCELED_BY_BUYER
        )
    closes_after_refusal = outcome == "close" and rescode not in ("", OK)
    if outcome != "decline" and not closes_after_refusal:
        return None
    if not rescode:
        return DECLINES[0]
    if not re.fullmatch(r"[A-Z0-9]{1,8}", rescode) or rescode == OK:
        raise bad_request("rescode is malformed")
    return refusal_of(rescode)
