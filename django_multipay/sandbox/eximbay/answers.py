"""What Eximbay's API answers: the documented keys, by the text or by the example."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django_multipay.sandbox.eximbay.codes import (
    LABELS,
    NOT_FOUND,
    OK,
    card_digits,
    is_card,
)
from django_multipay.sandbox.eximbay.ledger import (
    NONE,
    Payment,
    Refund,
    SavedToken,
    wire_amount,
)

Settings = Mapping[str, Any]
Answer = dict[str, Any]

SUCCESS: Mapping[str, str] = {"rescode": OK, "resmsg": "Success."}
PAY_TO = "EXIMBAY.COM"
ACCESS_COUNTRY = "KR"


def retrieved(payment: Payment, settings: Settings) -> Answer:
    answer: Answer = {
        **SUCCESS,
        "mid": payment.mid,
        "payment": {
            "order_id": payment.order_id,
            "currency": payment.currency,
            "amount": payment.amount,
            "transaction_id": payment.transaction_id,
            "status": settings["status_word"] or payment.status,
            "auth_code": payment.auth_code,
            "transaction_date": payment.transaction_date,
            "balance": wire_amount(payment.balance, payment.currency),
            "payment_method": payment.method,
        },
    }
    if is_card(payment.method):
        first, last = card_digits(payment.method)
        spelling = settings["card_field_spelling"]
        answer["card_info"] = {f"{spelling}1": first, f"{spelling}4": last}
    return answer


def not_retrieved(mid: str) -> Answer:
    return {
        "rescode": NOT_FOUND,
        "resmsg": "No Transaction",
        "mid": mid,
        "payment": {"status": NONE},
    }


def confirmed(payment: Payment, settings: Settings) -> Answer:
    """The example prints the three keys at the top and nothing else."""
    top: Answer = {"rescode": OK, "resmsg": "Success", "mid": payment.mid}
    if settings["confirm_answer"] == "example":
        return top
    base, foreign = _exchange(payment, rate="1")
    answer: Answer = {
        **top,
        "payment": {
            "order_id": payment.order_id,
            "currency": payment.currency,
            "amount": payment.amount,
            "email": payment.fields["email"],
            "transaction_id": payment.transaction_id,
            "auth_code": payment.auth_code,
            "transaction_date": payment.transaction_date,
            "access_country": ACCESS_COUNTRY,
            "payment_method": payment.method,
            "pay_to": PAY_TO,
            **base,
        },
        "dm": _risk(payment),
    }
    if foreign:
        answer["foreign"] = {f"foreign_{name}": foreign[name] for name in foreign}
    if is_card(payment.method):
        answer["card_info"] = _card(payment.fields["buyer"].upper(), payment.method)
    if ship_to := _address(payment):
        answer["ship_to"] = ship_to
    return answer


def canceled(payment: Payment, refund: Refund, settings: Settings) -> Answer:
    is_example = settings["cancel_answer"] == "example"
    base, foreign = _exchange(payment, rate="0" if is_example else "1")
    # Only the confirmation and the callbacks have this one.
    base.pop("base_currency", None)
    shown = {
        "order_id": payment.order_id,
        "currency": payment.currency,
        "amount": wire_amount(Decimal(payment.amount), payment.currency),
        "transaction_id": payment.transaction_id,
        "balance": wire_amount(payment.balance, payment.currency),
        **base,
    }
    if is_example:
        shown["payment_method"] = payment.method
    else:
        shown["auth_code"] = payment.auth_code
    answer: Answer = {
        **SUCCESS,
        "mid": payment.mid,
        "refund": {
            "refund_amount": wire_amount(refund.amount, payment.currency),
            "refund_id": refund.refund_id,
            "refund_date": refund.date,
            "refund_transaction_id": refund.transaction_id,
        },
        "payment": shown,
    }
    if foreign:
        prefix = "foregin" if is_example else "foreign"
        answer["foreign"] = {f"{prefix}_{name}": foreign[name] for name in foreign}
    return answer


def captured(payment: Payment, asked: Mapping[str, str], settings: Settings) -> Answer:
    shown = {
        "order_id": payment.order_id,
        "currency": payment.currency,
        "amount": asked["amount"],
        "transaction_id": payment.transaction_id,
        "captured_date": payment.captured_date,
    }
    flag = settings["partially_cancelable"]
    if settings["capture_answer"] == "example":
        shown["allowed_pvoid"] = flag
    else:
        shown |= {"partially_cancelable": flag, "lang": asked["lang"]}
    return {**SUCCESS, "mid": payment.mid, "payment": shown}


def settled(payment: Payment, asked: Mapping[str, str]) -> Answer:
    return {
        **SUCCESS,
        "mid": payment.mid,
        "payment": {
            "order_id": payment.order_id,
            "currency": payment.currency,
            "amount": asked["amount"],
            "transaction_id": payment.transaction_id,
            "settled_date": payment.settled_date,
        },
    }


def rebilled(
    payment: Payment, token: SavedToken, body: Mapping[str, Any], settings: Settings
) -> Answer:
    answer: Answer = {
        **SUCCESS,
        "payment": {
            "order_id": payment.order_id,
            "currency": payment.currency,
            "amount": payment.amount,
            "transaction_id": payment.transaction_id,
            "auth_code": payment.auth_code,
            "transaction_date": payment.transaction_date,
            "access_country": ACCESS_COUNTRY,
            "payment_method": payment.method,
            "pay_to": PAY_TO,
            "lang": payment.fields.get("lang", ""),
            "payment_method_name": LABELS[payment.method],
        },
        "card_info": _card(token.holder, token.method),
    }
    if settings["rebill_answer"] == "example":
        return answer
    answer |= {
        "errcode": "",
        "tokenbilling": {"token_id": token.token_id},
        "merchant": body["merchant"],
        "dm": _risk(payment),
        "token_id": token.token_id,
        "token_creation": "Y",
    }
    answer |= {name: body[name] for name in ("buyer", "other_param") if name in body}
    if body.get("product"):
        # "The name of the first item will be used."
        answer["product"] = [{"name": body["product"][0].get("name", "")}]
    return answer


def identified(token: SavedToken) -> Answer:
    return {
        **SUCCESS,
        "token_id": token.token_id,
        "card_identifier": token.card_identifier,
    }


def _exchange(payment: Payment, *, rate: str) -> tuple[dict[str, str], dict[str, str]]:
    """What was acquired and what the buyer is billed: the same, without DCC.

    Both are "For Cross-Border payment Integration".
    """
    if payment.is_domestic:
        return {}, {}
    amount = wire_amount(Decimal(payment.amount), payment.currency)
    base = {
        "base_currency": payment.currency,
        "base_amount": amount,
        "base_rate": "1.000000",
        "dcc_rate": "1.000000",
    }
    return base, {"currency": payment.currency, "amount": amount, "rate": rate}


def _card(holder: str, method: str) -> dict[str, str]:
    first, last = card_digits(method)
    return {"card_holder": holder, "card_number1": first, "card_number4": last}


def _risk(payment: Payment) -> dict[str, str]:
    return {"dm_decision": payment.dm_decision, "dm_reject": "", "dm_review": ""}


def _address(payment: Payment) -> dict[str, str]:
    prefix = "shipTo_"
    return {
        name.removeprefix(prefix): value
        for name, value in payment.fields.items()
        if name.startswith(prefix)
    }
