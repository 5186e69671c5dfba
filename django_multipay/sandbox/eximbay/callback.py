"""What the shop is told: the fields of a callback, its signature, its wire form."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from django_multipay.sandbox.eximbay.codes import (
    DEFERRED,
    Account,
    card_digits,
    is_card,
)
from django_multipay.sandbox.eximbay.ledger import (
    NONE,
    RETRIEVABLE,
    Payment,
    with_commas,
)

# The callback: exactly these keys in this order came in a real test callback of
# 2024, blanks included. What a payment adds (status, token ...) follows them.

CALLBACK_KEYS = [
    "card_number4",
    "dm_reject",
    "card_number1",
    "mid",
    "foreign_currency",
    "card_holder",
    "dm_review",
    "base_amount",
    "currency",
    "pay_to",
    "email",
    "payment_method",
    "transaction_id",
    "transaction_date",
    "base_currency",
    "amount",
    "dcc_rate",
    "installment_months",
    "dm_decision",
    "transaction_type",
    "param3",
    "resmsg",
    "foreign_rate",
    "version",
    "param1",
    "rescode",
    "param2",
    "auth_code",
    "fgkey",
    "base_rate",
    "foreign_amount",
    "order_id",
    "access_country",
]

# After PAYER_AUTH nothing is charged: no transaction, but proof of authentication
# (keys of a public sample of 2023, in the new names).
PAYER_AUTH_KEYS = [
    "version",
    "mid",
    "transaction_type",
    "order_id",
    "currency",
    "amount",
    "email",
    "param1",
    "param2",
    "param3",
    "rescode",
    "resmsg",
    "fgkey",
    "payer_auth_id",
    "cavv",
    "xid",
    "eci",
    "dm_decision",
    "dm_reject",
    "dm_review",
]

LEGACY_KEYS = {
    "version": "ver",
    "transaction_type": "txntype",
    "order_id": "ref",
    "currency": "cur",
    "amount": "amt",
    "transaction_id": "transid",
    "auth_code": "authcode",
    "transaction_date": "resdt",
    "payment_method": "paymethod",
    "card_number1": "cardno1",
    "card_number4": "cardno4",
    "card_holder": "cardholder",
    "payer_auth_id": "payerauthid",
    "payment_url": "paymentURL",
}

ACKNOWLEDGMENT = "rescode=0000&resmsg=Success"
FORM_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}


def sign(secret: str, pairs: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over secret, "?" and the decoded pairs in ASCII order, blanks kept."""
    joined = "&".join(
        f"{name}={value}" for name, value in sorted(pairs) if name != "fgkey"
    )
    return hashlib.sha256(f"{secret}?{joined}".encode()).hexdigest().upper()


def is_same(given: object, right: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(
        given.encode("utf-8", "replace"), right.encode()
    )


def callback_fields(payment: Payment, settings: Mapping[str, Any]) -> dict[str, str]:
    """The callback in the new names, unsigned; `fgkey` holds its place."""
    is_authentication = payment.transaction_type == "PAYER_AUTH"
    keys = PAYER_AUTH_KEYS if is_authentication else CALLBACK_KEYS
    fields = dict.fromkeys(keys, "")
    known = {**_common_values(payment), **_result_values(payment)}
    fields.update({key: known[key] for key in keys if key in known})
    if _tells_status(payment, settings):
        is_known = payment.status in RETRIEVABLE
        fields["status"] = payment.status if is_known else NONE
    if payment.errcode and settings["errcode_in_callback"]:
        fields["errcode"] = payment.errcode
    return {**fields, **payment.extras}


def _common_values(payment: Payment) -> dict[str, str]:
    sent = payment.fields
    return {
        "version": sent["ver"],
        "mid": payment.mid,
        "transaction_type": payment.transaction_type,
        "order_id": payment.order_id,
        "currency": payment.currency,
        "amount": payment.amount,
        "email": sent.get("email", ""),
        "param1": sent.get("param1", ""),
        "param2": sent.get("param2", ""),
        "param3": sent.get("param3", "OPENAPI"),
        "rescode": payment.rescode,
        "resmsg": payment.resmsg,
        "dm_decision": payment.dm_decision,
        "dm_review": "SANDBOX-1" if payment.dm_decision == "REVIEW" else "",
        "dm_reject": "SANDBOX-2" if payment.dm_decision == "REJECT" else "",
        "pay_to": "EXIMBAY.COM",
        "access_country": "KR",
    }


def _result_values(payment: Payment) -> dict[str, str]:
    values = {
        "payment_method": payment.method,
        "transaction_id": payment.transaction_id,
        "transaction_date": payment.transaction_date,
        "auth_code": payment.auth_code,
        "payer_auth_id": payment.payer_auth_id,
    }
    if payment.payer_auth_id:
        proof = hashlib.sha256(payment.payer_auth_id.encode()).digest()[:20]
        values["cavv"] = values["xid"] = base64.b64encode(proof).decode()
        values["eci"] = "05"
    if is_card(payment.method):
        first, last = card_digits(payment.method)
        values["card_number1"], values["card_number4"] = first, last
        values["card_holder"] = payment.fields.get("buyer", "").upper()
        values["installment_months"] = "00"
    return values


def _tells_status(payment: Payment, settings: Mapping[str, Any]) -> bool:
    match settings["status_in_callback"]:
        case "always" | True:
            return True
        case "never" | False:
            return False
        case _:
            return payment.method in DEFERRED or payment.transaction_type == "AUTHORIZE"


def encode(
    account: Account, fields: Mapping[str, str], settings: Mapping[str, Any]
) -> str:
    """The callback as it goes over the wire, with the switches applied."""
    sent = dict(fields)
    if settings["comma_amounts"] and "amount" in sent:
        sent["amount"] = with_commas(sent["amount"])
    names = {"version": str(settings["version_key"])}
    if settings["legacy_key_names"]:
        names = LEGACY_KEYS
    sent = {names.get(key, key): value for key, value in sent.items()}
    if not sent.get("fgkey"):
        sent["fgkey"] = sign(account.secret, sent.items())
    if settings["tamper_fgkey"]:
        sent["fgkey"] = sent["fgkey"][::-1]
    return urlencode(sent)


def is_acknowledged(status: int, answer: str) -> bool:
    """The exact text counts; nobody documents that the HTTP status does."""
    return answer == ACKNOWLEDGMENT


def is_answered(status: int, answer: str) -> bool:
    return status < 500
