"""What a shop's server does after the page: the reference's own examples, and refusals.

The examples are the document's words (developer.eximbay.com, read 2026-11-21). Only ids
which Eximbay itself gives out are put in their place.
"""

import calendar
import hashlib
import json
from datetime import date, datetime, timedelta, timezone
from urllib.parse import parse_qsl

import pytest

MID = "1849705C64"
DOMESTIC = {"mid": "SANDBOXKR1", "api_key": "test_SANDBOXKR1000000DE01"}
SECRET = "289F40E6640124B2628640168C3C5464"
AUTHORIZATION = "Basic dGVzdF8xODQ5NzA1QzY0MkMyMTdFMEIyRDo="
SEOUL = timezone(timedelta(hours=9))

CONFIRM = """{
    "transaction_type" : "PAYMENT_PA",
    "mid" : "1849705C64",
    "payment" : {
        "order_id" : "20220902101716",
        "currency" : "USD",
        "amount" : "1",
        "payer_auth_id" : "20220902101716",
        "lang" : "EN"
    }
}"""
# As printed, without the comma that keeps it from being JSON.
CONFIRM_ANSWER = {"rescode": "0000", "resmsg": "Success", "mid": "1849705C64"}

RETRIEVE = """{
    "mid" : "1849705C64",
    "key_field" : "order_id",
    "payment" : {
        "order_id" : "20220902101716",
        "currency" : "USD",
        "amount" : "1",
        "transaction_id" : "20220902101716",
        "lang" : "EN"
    }
}"""
RETRIEVE_ANSWER = {
    "rescode": "0000",
    "resmsg": "Success.",
    "mid": "1849705C64",
    "payment": {
        "order_id": "20220902101716",
        "currency": "USD",
        "amount": "1",
        "transaction_id": "1849705C6420220902000010",
        "status": "AUTH",
        "auth_code": "485760",
        "transaction_date": "20220902101749",
        "balance": "1.00",
    },
    "card_info": {"cardno1": "4111", "cardno4": "1111"},
}

CANCEL = """{
    "mid" : "1849705C64",
    "refund" : {
        "refund_type" : "F",
        "refund_amount" : "1",
        "refund_id" : "1849705C64",
        "reason" : "change of mind"
    },
    "payment" : {
        "order_id" : "20220829170258",
        "currency" : "USD",
        "amount" : "1",
        "balance" : "1",
        "lang" : "EN"
    }
}"""
CANCEL_ANSWER = {
    "rescode": "0000",
    "resmsg": "Success.",
    "mid": "1849705C64",
    "refund": {
        "refund_amount": "1.00",
        "refund_id": "1849705C64",
        "refund_date": "20220922113927",
        "refund_transaction_id": "1849705C6420220922000014",
    },
    "payment": {
        "order_id": "20220922113330",
        "currency": "USD",
        "amount": "1.00",
        "transaction_id": "1849705C6420220922000013",
        "balance": "0.00",
        "base_amount": "1.00",
        "base_rate": "1.000000",
        "dcc_rate": "1.000000",
        "payment_method": "P101",
    },
    "foreign": {
        "foregin_currency": "USD",
        "foregin_amount": "1.00",
        "foregin_rate": "0",
    },
}

CAPTURE = """{
    "mid" : "1849705C64",
    "payment" : {
        "order_id" : "20220902101716",
        "currency" : "USD",
        "amount" : "1",
        "lang" : "EN"
    }
}"""
CAPTURE_ANSWER = {
    "rescode": "0000",
    "resmsg": "Success.",
    "mid": "1849705C64",
    "payment": {
        "order_id": "20220922114007",
        "currency": "USD",
        "amount": "1",
        "transaction_id": "1849705C6420220922000016",
        "captured_date": "20220922114212",
        "allowed_pvoid": "Y",
    },
}

SETTLE = """{
    "mid" : "1849705C64",
    "payment" : {
        "order_id" : "20220902101716",
        "currency" : "USD",
        "amount" : "1"
    }
}"""
SETTLE_ANSWER = {
    "rescode": "0000",
    "resmsg": "Success.",
    "mid": "1849705C64",
    "payment": {
        "order_id": "20220922114007",
        "currency": "USD",
        "amount": "1",
        "transaction_id": "1849705C6420220922000016",
        "settled_date": "20220922114212",
    },
}

REBILL = """{
    "payment" : {
        "order_id" : "20220902101716",
        "currency" : "USD",
        "amount" : "1"
    },
    "merchant" : {
        "mid" : "1849705C64"
    },
    "product" : [
        {
        "name" : "",
        "quantity" : "",
        "unit_price" : ""
        }
    ]
}"""
REBILL_ANSWER = {
    "rescode": "0000",
    "resmsg": "Success.",
    "payment": {
        "order_id": "20220902101716",
        "currency": "USD",
        "amount": "1",
        "transaction_id": "EN",
        "auth_code": "EN",
        "transaction_date": "EN",
        "access_country": "EN",
        "payment_method": "EN",
        "pay_to": "EN",
        "lang": "EN",
        "payment_method_name": "EN",
    },
    "card_info": {
        "card_holder": "HONG GIL DONG",
        "card_number1": "4111",
        "card_number4": "1111",
    },
}

TOKEN_ANSWER = {
    "rescode": "0000",
    "resmsg": "Success.",
    "token_id": "",
    "card_identifier": "",
}
SUCCESS = {"rescode": "0000", "resmsg": "Success."}
ADJUST = """{
    "adjust_amount" : "10.50"
}"""
TAX = {
    "receipt_status": "Y",
    "amount_tax_free": "0",
    "amount_taxable": "120000",
    "amount_vat": "12000",
    "amount_service_fee": "0",
}
ACCOUNT = {"user_name": "Hong", "bank_code": "004", "account_number": "123-45"}


def shape(value):
    """The keys and the types of an answer, without its values."""
    if isinstance(value, dict):
        return {key: shape(child) for key, child in value.items()}
    if isinstance(value, list):
        return [shape(child) for child in value]
    return type(value)


def fgkey_of(raw: str) -> str:
    """Written again from the rule, so that the sandbox cannot vouch for itself."""
    pairs = parse_qsl(raw, keep_blank_values=True)
    text = "&".join(f"{key}={value}" for key, value in sorted(pairs) if key != "fgkey")
    return hashlib.sha256((SECRET + "?" + text).encode()).hexdigest().upper()


def send(merchant, path: str, example: str, method: str = "POST"):
    """The curl command of the document, with its own header."""
    answer = merchant.sandbox.request(
        method,
        path,
        content=example,
        headers={
            "Authorization": AUTHORIZATION,
            "Content-Type": "application/json; charset=UTF-8",
        },
    )
    return answer.json()


def paid(merchant, kind: str = "PAYMENT", method: str = "", **payment: str) -> dict:
    """An approved payment as the control desk shows it."""
    order = {"order_id": "A", "transaction_type": kind, **payment}
    body = merchant.order(payment=order)
    merchant.pay("approve", body, **({"method": method} if method else {}))
    return merchant.payment(order["order_id"])


def refund(merchant, payment: dict, amount: str = "", /, **changes) -> dict:
    """One cancel; `refund` and `payment` in the changes are merged, others set."""
    wish = {
        "refund_type": "P" if amount else "F",
        "refund_amount": amount or payment["amount"],
        "refund_id": "R-1",
        "reason": "damaged",
    }
    asked = {
        "order_id": payment["order_id"],
        "currency": payment["currency"],
        "amount": payment["amount"],
        "balance": merchant.payment(payment["order_id"])["balance"],
        "lang": "EN",
    }
    body = {
        "mid": payment["mid"],
        "refund": wish | changes.pop("refund", {}),
        "payment": asked | changes.pop("payment", {}),
        **changes,
    }
    path = f"/v1/payments/{payment['transaction_id']}/cancel"
    return merchant.call(path, body).json()


def act(merchant, verb: str, payment: dict, **changes: str) -> dict:
    """A capture or a settle."""
    asked = {name: payment[name] for name in ("order_id", "currency", "amount")}
    if verb == "capture":
        asked["lang"] = "EN"
    body = {"mid": payment["mid"], "payment": asked | changes}
    path = f"/v1/payments/{payment['transaction_id']}/{verb}"
    return merchant.call(path, body).json()


def confirm(merchant, payment: dict, kind: str = "PAYMENT_PA", **changes: str) -> dict:
    names = ("order_id", "currency", "amount", "payer_auth_id")
    asked = {name: payment[name] for name in names}
    body = {
        "transaction_type": kind,
        "mid": changes.pop("mid", payment["mid"]),
        "payment": {**asked, "lang": "EN", **changes},
    }
    return merchant.call("/v1/payments/confirm", body).json()


def token_of(merchant, **wish: str) -> str:
    made = merchant.sandbox.post("/_control/eximbay/tokens", json=wish)
    return made.raise_for_status().json()["token_id"]


def rebill(merchant, token_id: str, /, **objects) -> dict:
    payment = {
        "order_id": "B",
        "currency": "USD",
        "amount": "26.30",
        "lang": "EN",
        **objects.pop("payment", {}),
    }
    body = {
        "payment": payment,
        "merchant": {"mid": MID},
        "buyer": {"name": "Hong Gil Dong", "email": "buyer@example.com"},
        **objects,
    }
    return merchant.call(f"/v1/payments/tokenbilling/{token_id}/rebill", body).json()


def refusal(answer: dict) -> tuple[str, str | None]:
    return answer["rescode"], answer.get("errcode")


# -- confirm ----------------------------------------------------------------------


def test_the_documented_confirm_is_accepted(merchant):
    order = {"order_id": "20220902101716", "amount": "1"}
    authenticated = paid(merchant, "PAYER_AUTH", **order)
    # Its payer_auth_id is a placeholder: well formed, but of nobody.
    placeholder = send(merchant, "/v1/payments/confirm", CONFIRM)
    assert refusal(placeholder) == ("EC00", "INVALID_AUTHENTICATION")
    merchant.settings(confirm_answer="example")
    example = json.loads(CONFIRM)
    example["payment"]["payer_auth_id"] = authenticated["payer_auth_id"]

    answer = send(merchant, "/v1/payments/confirm", json.dumps(example))

    assert answer == CONFIRM_ANSWER
    found = send(merchant, "/v1/payments/retrieve", RETRIEVE)
    assert found["payment"]["status"] == "SALE"


@pytest.mark.parametrize(
    ("kind", "status", "charges"),
    [("PAYMENT_PA", "SALE", 1), ("AUTHORIZE_PA", "AUTH", 0)],
)
def test_a_confirm_tells_all_its_text_promises(merchant, kind, status, charges):
    address = {"city": "Seoul", "country": "KR"}
    order = {"order_id": "A", "transaction_type": "PAYER_AUTH"}
    merchant.pay("approve", merchant.order(payment=order, ship_to=address))
    assert merchant.payment("A")["charges"] == 0

    answer = confirm(merchant, merchant.payment("A"), kind)

    stored = merchant.payment("A")
    assert (stored["status"], stored["charges"]) == (status, charges)
    assert answer["payment"] == {
        "order_id": "A",
        "currency": "USD",
        "amount": "26.30",
        "email": "buyer@example.com",
        "transaction_id": stored["transaction_id"],
        "auth_code": answer["payment"]["auth_code"],
        "transaction_date": answer["payment"]["transaction_date"],
        "access_country": "KR",
        "payment_method": "P101",
        "pay_to": "EXIMBAY.COM",
        "base_currency": "USD",
        "base_amount": "26.30",
        "base_rate": "1.000000",
        "dcc_rate": "1.000000",
    }
    assert set(answer) == {
        *CONFIRM_ANSWER,
        *("payment", "dm", "foreign", "card_info", "ship_to"),
    }
    assert set(answer["dm"]) == {"dm_decision", "dm_reject", "dm_review"}
    assert answer["foreign"] == {
        "foreign_currency": "USD",
        "foreign_amount": "26.30",
        "foreign_rate": "1",
    }
    assert answer["card_info"] == {
        "card_holder": "HONG GIL DONG",
        "card_number1": "4111",
        "card_number4": "1111",
    }
    assert answer["ship_to"] == address
    assert len(stored["transaction_id"]) == 24


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"order_id": "nobody"}, ("Q004", "ORIGINAL_TRANSACTION_NOT_EXIST")),
        ({"payer_auth_id": "x" * 24}, ("EC00", "INVALID_AUTHENTICATION")),
        ({"amount": "26.31"}, ("EC00", "INVALID_REQEUST_AMOUNT")),
        ({"currency": "EUR"}, ("EC00", "INVALID_REQEUST_AMOUNT")),
        ({"payer_auth_id": ""}, ("EC00", "INVALID_OR_MISSING_FIELD")),
        ({"lang": ""}, ("EC00", "INVALID_OR_MISSING_FIELD")),
        ({"kind": "PAYMENT"}, ("EC00", "INVALID_OR_MISSING_FIELD")),
        ({"mid": "SANDBOXKR1"}, ("EC00", "INVALID_OR_MISSING_FIELD")),
    ],
)
def test_a_wrong_confirm_charges_nothing(merchant, changes, expected):
    payment = paid(merchant, "PAYER_AUTH")

    assert refusal(confirm(merchant, payment, **changes)) == expected

    assert merchant.payment("A")["status"] == "AUTHENTICATED"
    assert merchant.payment("A")["charges"] == 0


def test_only_an_authenticated_order_is_confirmed_and_only_once(merchant):
    charged = paid(merchant) | {"payer_auth_id": "x" * 24}
    assert refusal(confirm(merchant, charged))[1] == "INVALID_AUTHENTICATION"
    payment = paid(merchant, "PAYER_AUTH", order_id="B")

    assert confirm(merchant, payment)["rescode"] == "0000"

    assert refusal(confirm(merchant, payment))[1] == "DUPLICATE_TRANSACTION"
    assert merchant.payment("B")["charges"] == 1


def test_an_issuer_may_decline_a_confirm(merchant):
    payment = paid(merchant, "PAYER_AUTH")
    merchant.settings(charge_rescode="8327")

    answer = confirm(merchant, payment)

    assert refusal(answer) == ("8327", "CARD_VELOCITY_EXCEEDED")
    assert merchant.payment("A")["status"] == "FAILED"
    assert merchant.retrieve("A")["rescode"] == "Q004"


# -- retrieve ---------------------------------------------------------------------


def test_the_documented_retrieve_is_answered_as_documented(merchant):
    paid(merchant, "AUTHORIZE", order_id="20220902101716", amount="1")

    answer = send(merchant, "/v1/payments/retrieve", RETRIEVE)

    assert answer["payment"].pop("payment_method") == "P101"
    assert shape(answer) == shape(RETRIEVE_ANSWER)
    given = {"transaction_id", "auth_code", "transaction_date"}
    for name in set(RETRIEVE_ANSWER["payment"]) - given:
        assert answer["payment"][name] == RETRIEVE_ANSWER["payment"][name]
    assert answer["card_info"] == RETRIEVE_ANSWER["card_info"]


def test_a_refunded_payment_is_still_a_sale_with_less_balance(merchant):
    payment = paid(merchant)
    refund(merchant, payment, "6.30")
    assert merchant.retrieve("A")["payment"]["balance"] == "20.00"

    refund(merchant, payment, "20.00", refund={"refund_id": "R-2"})

    found = merchant.retrieve("A")["payment"]
    assert (found["status"], found["balance"]) == ("SALE", "0.00")
    by_transaction = merchant.retrieve(
        "A", key_field="transaction_id", transaction_id=payment["transaction_id"]
    )
    assert by_transaction["payment"] == found


def test_a_refund_is_not_found_by_its_own_transaction_id(merchant):
    answer = refund(merchant, paid(merchant))

    found = merchant.retrieve(
        "A",
        key_field="transaction_id",
        transaction_id=answer["refund"]["refund_transaction_id"],
    )

    assert found["rescode"] == "Q004"


def test_retrieve_can_say_any_word(merchant):
    paid(merchant)
    merchant.settings(status_word="ON_THE_MOON")

    assert merchant.retrieve("A")["payment"]["status"] == "ON_THE_MOON"
    assert merchant.payment("A")["status"] == "SALE"


# -- cancel -----------------------------------------------------------------------


def test_the_documented_cancel_is_accepted_and_answered_as_documented(merchant):
    payment = paid(merchant, order_id="20220829170258", amount="1")

    answer = send(merchant, f"/v1/payments/{payment['transaction_id']}/cancel", CANCEL)

    assert shape(answer) == shape(CANCEL_ANSWER)
    for part, given in {
        "refund": {"refund_date", "refund_transaction_id"},
        "payment": {"order_id", "transaction_id"},
        "foreign": set(),
    }.items():
        for name in set(CANCEL_ANSWER[part]) - given:
            assert answer[part][name] == CANCEL_ANSWER[part][name]
    assert answer["payment"]["transaction_id"] == payment["transaction_id"]
    new_id = answer["refund"]["refund_transaction_id"]
    assert len(new_id) == 24
    assert new_id != payment["transaction_id"]


def test_a_cancel_can_answer_in_the_words_of_its_text(merchant):
    merchant.settings(cancel_answer="text")
    answer = refund(merchant, paid(merchant), other_param={"param1": "x"})

    assert set(answer["payment"]) == {
        *("order_id", "currency", "amount", "transaction_id", "balance"),
        *("auth_code", "base_amount", "base_rate", "dcc_rate"),
    }
    assert answer["foreign"] == {
        "foreign_currency": "USD",
        "foreign_amount": "26.30",
        "foreign_rate": "1",
    }
    assert answer["other_param"] == {"param1": "x"}


def test_partial_refunds_go_down_to_nothing(merchant):
    payment = paid(merchant)
    balances = [
        refund(merchant, payment, amount, refund={"refund_id": f"R-{number}"})[
            "payment"
        ]["balance"]
        for number, amount in enumerate(["0.30", "6", "20.00"])
    ]

    assert balances == ["26.00", "20.00", "0.00"]
    stored = merchant.payment("A")
    assert (stored["refunded"], stored["charges"]) == ("26.30", 1)
    assert [item["amount"] for item in stored["refunds"]] == ["0.30", "6.00", "20.00"]
    assert {item["status"] for item in stored["refunds"]} == {"SUCCEEDED"}
    late = refund(merchant, payment, "1", refund={"refund_id": "R-9"})
    assert refusal(late) == ("EC00", "TRANSACTION_ALREADY_CANCELED")


def test_a_full_refund_needs_no_amount(merchant):
    answer = refund(merchant, paid(merchant), refund={"refund_amount": ""})

    assert answer["refund"]["refund_amount"] == "26.30"


@pytest.mark.parametrize(
    ("changes", "errcode"),
    [
        ({"refund": {"refund_type": "X"}}, "INVALID_OR_MISSING_FIELD"),
        ({"refund": {"refund_id": ""}}, "INVALID_OR_MISSING_FIELD"),
        ({"refund": {"reason": ""}}, "INVALID_OR_MISSING_FIELD"),
        ({"refund": {"refund_amount": "0"}}, "INVALID_OR_MISSING_FIELD"),
        ({"refund": {"refund_amount": "1.001"}}, "INVALID_OR_MISSING_FIELD"),
        ({"refund": {"refund_amount": "1,000"}}, "INVALID_OR_MISSING_FIELD"),
        (
            {"refund": {"refund_type": "P", "refund_amount": ""}},
            "INVALID_OR_MISSING_FIELD",
        ),
        ({"payment": {"balance": ""}}, "INVALID_OR_MISSING_FIELD"),
        ({"payment": {"lang": ""}}, "INVALID_OR_MISSING_FIELD"),
        ({"payment": {"transaction_id": "x"}}, "INVALID_OR_MISSING_FIELD"),
        ({"refund_account": {"user_name": "Hong"}}, "INVALID_OR_MISSING_FIELD"),
        ({"mid": "SANDBOXKR1"}, "INVALID_OR_MISSING_FIELD"),
        ({"payment": {"balance": "26.29"}}, "INVALID_REQEUST_AMOUNT"),
        ({"payment": {"amount": "26.29"}}, "INVALID_REQEUST_AMOUNT"),
        ({"payment": {"currency": "EUR"}}, "INVALID_REQEUST_AMOUNT"),
        ({"refund": {"refund_amount": "26.31"}}, "INVALID_CANCEL_REQUEST"),
        (
            {"refund": {"refund_type": "P", "refund_amount": "26.31"}},
            "INVALID_CANCEL_REQUEST",
        ),
        ({"refund": {"refund_amount": "26.29"}}, "INVALID_CANCEL_REQUEST"),
    ],
)
def test_a_wrong_cancel_refunds_nothing(merchant, changes, errcode):
    payment = paid(merchant)

    assert refusal(refund(merchant, payment, **changes)) == ("EC00", errcode)

    assert merchant.payment("A")["balance"] == "26.30"
    assert merchant.payment("A")["refunds"] == []


def test_a_refund_id_is_used_once_whatever_it_refunds(merchant):
    first, second = paid(merchant), paid(merchant, order_id="B")
    refund(merchant, first, "1")

    again = [refund(merchant, first, "1"), refund(merchant, second, "1")]

    assert [refusal(answer)[1] for answer in again] == ["DUPLICATION_DECLINE"] * 2
    assert merchant.payment("A")["refunded"] == "1.00"
    assert merchant.payment("B")["refunded"] == "0.00"


def test_a_full_refund_of_the_rest_is_a_switch(merchant):
    payment = paid(merchant)
    refund(merchant, payment, "6.30")
    rest = {"refund_type": "F", "refund_id": "R-2", "refund_amount": "20.00"}
    refused = refund(merchant, payment, refund=rest)
    assert refusal(refused) == ("EC00", "INVALID_CANCEL_REQUEST")

    merchant.settings(full_refund_of_rest=True)

    assert refund(merchant, payment, refund=rest)["payment"]["balance"] == "0.00"


def test_a_refund_can_be_refused_for_lack_of_funds(merchant):
    payment = paid(merchant)
    merchant.settings(refund_outcome="fail")

    answer = refund(merchant, payment, "1")

    assert refusal(answer) == ("RF00", "INSUFFICIENT_MERCHANT_REFUND_FUNDS")
    stored = merchant.payment("A")
    assert (stored["balance"], stored["refunded"]) == ("26.30", "0.00")
    assert [item["status"] for item in stored["refunds"]] == ["FAILED"]


def test_an_authorization_is_voided_whole(merchant):
    payment = paid(merchant, "AUTHORIZE")
    part = refund(merchant, payment, "1")
    assert refusal(part) == ("EC00", "INVALID_CANCEL_REQUEST")

    assert refund(merchant, payment)["payment"]["balance"] == "0.00"

    assert merchant.retrieve("A")["payment"]["status"] == "AUTH"
    assert merchant.payment("A")["charges"] == 0
    late = act(merchant, "capture", payment)
    assert refusal(late) == ("EC00", "TRANSACTION_ALREADY_CANCELED")


def test_a_part_of_an_authorization_is_voided_by_a_switch(merchant):
    payment = paid(merchant, "AUTHORIZE")
    merchant.settings(partial_void=True)

    assert refund(merchant, payment, "6.30")["payment"]["balance"] == "20.00"


def test_a_registered_order_has_nothing_to_refund(merchant):
    order = {"order_id": "A", "currency": "KRW", "amount": "132000"}
    merchant.pay("register", merchant.order(payment=order))
    payment = merchant.payment("A")
    more = {"refund_account": ACCOUNT, "tax": TAX, "payment": {"balance": "132000"}}

    answer = refund(merchant, payment, **more)

    assert refusal(answer) == ("EC00", "INVALID_CANCEL_REQUEST")


def test_a_virtual_account_is_refunded_to_an_account_with_its_tax(merchant):
    order = {"order_id": "A", "currency": "KRW", "amount": "132000"}
    merchant.pay("register", merchant.order(payment=order))
    merchant.sandbox.post("/_control/eximbay/payments/A/deposit").raise_for_status()
    payment = merchant.payment("A")

    without_account = refund(merchant, payment, tax=TAX)
    assert refusal(without_account) == ("EC00", "INVALID_ACCOUNT")
    for name in TAX:
        refused = refund(
            merchant, payment, tax=TAX | {name: ""}, refund_account=ACCOUNT
        )
        assert f"tax.{name}" in refused["resmsg"]
    done = refund(merchant, payment, tax=TAX, refund_account=ACCOUNT)
    assert done["payment"]["balance"] == "0"


def test_naver_points_are_refunded_with_their_tax(merchant):
    order = {"order_id": "A", "currency": "KRW", "amount": "132000"}
    order["payment_method"] = "P308"
    merchant.pay("approve", merchant.order(payment=order, tax=TAX))
    payment = merchant.payment("A")

    assert "tax.receipt_status" in refund(merchant, payment)["resmsg"]
    assert refund(merchant, payment, tax=TAX)["rescode"] == "0000"


# -- capture and settle -----------------------------------------------------------


def test_the_documented_capture_is_accepted_and_answered_as_documented(merchant):
    payment = paid(merchant, "AUTHORIZE", order_id="20220902101716", amount="1")
    path = f"/v1/payments/{payment['transaction_id']}/capture"

    answer = send(merchant, path, CAPTURE)

    assert shape(answer) == shape(CAPTURE_ANSWER)
    assert answer["payment"]["transaction_id"] == payment["transaction_id"]
    assert answer["payment"]["amount"] == "1"
    assert answer["payment"]["allowed_pvoid"] == "Y"
    stored = merchant.payment("20220902101716")
    assert (stored["status"], stored["charges"]) == ("SALE", 1)
    again = send(merchant, path, CAPTURE)
    assert refusal(again) == ("EC00", "TRANSACTION_ALREADY_CAPTURED")


def test_a_capture_can_answer_in_the_words_of_its_text(merchant):
    payment = paid(merchant, "AUTHORIZE")
    merchant.settings(capture_answer="text", partially_cancelable="N")

    answer = act(merchant, "capture", payment)["payment"]

    assert set(answer) == {
        *("order_id", "transaction_id", "currency", "amount", "lang"),
        *("captured_date", "partially_cancelable"),
    }
    assert (answer["lang"], answer["partially_cancelable"]) == ("EN", "N")


def test_what_is_captured_may_refuse_partial_refunds(merchant):
    payment = paid(merchant, "AUTHORIZE")
    act(merchant, "capture", payment)
    merchant.settings(partially_cancelable="N")

    part = refund(merchant, payment, "1")
    assert refusal(part) == ("EC00", "INVALID_CANCEL_REQUEST")
    assert refund(merchant, payment)["rescode"] == "0000"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"amount": "26.31"}, ("EC00", "INVALID_CAPTURE_REQUEST")),
        ({"amount": "26.29"}, ("EC00", "INVALID_CAPTURE_REQUEST")),
        ({"amount": "0"}, ("EC00", "INVALID_OR_MISSING_FIELD")),
        ({"currency": "EUR"}, ("EC00", "INVALID_REQEUST_AMOUNT")),
        ({"order_id": "B"}, ("Q004", "ORIGINAL_TRANSACTION_NOT_EXIST")),
        ({"lang": ""}, ("EC00", "INVALID_OR_MISSING_FIELD")),
    ],
)
def test_a_wrong_capture_takes_nothing(merchant, changes, expected):
    payment = paid(merchant, "AUTHORIZE")

    assert refusal(act(merchant, "capture", payment, **changes)) == expected

    assert merchant.payment("A")["status"] == "AUTH"


def test_less_may_be_captured_by_a_switch(merchant):
    payment = paid(merchant, "AUTHORIZE")
    merchant.settings(partial_capture=True)

    assert act(merchant, "capture", payment, amount="20")["rescode"] == "0000"

    found = merchant.retrieve("A")["payment"]
    assert (found["status"], found["amount"], found["balance"]) == (
        "SALE",
        "26.30",
        "20.00",
    )


def test_only_an_authorization_is_captured(merchant):
    sale = act(merchant, "capture", paid(merchant))
    assert refusal(sale) == ("EC00", "TRANSACTION_ALREADY_CAPTURED")
    order = {"order_id": "B", "currency": "KRW", "amount": "132000"}
    merchant.pay("register", merchant.order(payment=order))

    waiting = act(merchant, "capture", merchant.payment("B"))

    assert refusal(waiting) == ("EC00", "INVALID_CAPTURE_REQUEST")


def test_the_documented_settle_is_accepted_and_answered_as_documented(merchant):
    payment = paid(merchant, order_id="20220902101716", amount="1")
    path = f"/v1/payments/{payment['transaction_id']}/settle"

    answer = send(merchant, path, SETTLE)

    assert shape(answer) == shape(SETTLE_ANSWER)
    assert answer["payment"]["transaction_id"] == payment["transaction_id"]
    assert refusal(send(merchant, path, SETTLE)) == ("EC00", "DUPLICATE_TRANSACTION")


def test_only_a_sale_is_settled_for_its_own_amount(merchant):
    authorized = paid(merchant, "AUTHORIZE")
    early = act(merchant, "settle", authorized)
    assert refusal(early) == ("EC00", "VALIDATION_FAILED")
    act(merchant, "capture", authorized)

    wrong = act(merchant, "settle", authorized, amount="1")
    with_language = act(merchant, "settle", authorized, lang="EN")

    assert refusal(wrong) == ("EC00", "INVALID_REQEUST_AMOUNT")
    assert "payment.lang" in with_language["resmsg"]
    assert act(merchant, "settle", authorized)["rescode"] == "0000"


# -- whose transaction ------------------------------------------------------------


@pytest.mark.parametrize("verb", ["cancel", "capture", "settle"])
def test_a_transaction_id_has_24_characters_and_is_ones_own(merchant, verb):
    bodies = {"cancel": CANCEL, "capture": CAPTURE, "settle": SETTLE}
    short = send(merchant, f"/v1/payments/1849705C64/{verb}", bodies[verb])
    assert short["rescode"] == "EC1002"
    unknown = f"/v1/payments/1849705C6420220922000013/{verb}"
    answer = send(merchant, unknown, bodies[verb])
    assert refusal(answer) == ("Q004", "ORIGINAL_TRANSACTION_NOT_EXIST")
    payment = paid(merchant)
    merchant.api_key = DOMESTIC["api_key"]
    foreign = payment | {"mid": DOMESTIC["mid"]}

    if verb == "cancel":
        stolen = refund(merchant, foreign)
    else:
        stolen = act(merchant, verb, foreign)

    assert stolen["rescode"] == "Q004"


def test_a_domestic_refund_has_no_exchange(merchant):
    merchant.api_key = DOMESTIC["api_key"]
    order = {"order_id": "A", "currency": "KRW", "amount": "500"}
    body = merchant.order(payment=order, merchant={"mid": DOMESTIC["mid"]})
    merchant.pay("approve", body, method="P111")

    answer = refund(merchant, merchant.payment("A"), "200")

    assert "foreign" not in answer
    assert "base_amount" not in answer["payment"]
    assert answer["payment"]["balance"] == "300"
    assert answer["refund"]["refund_transaction_id"][10] == "W"


def test_the_http_status_tells_a_wrong_request_from_an_outcome(merchant):
    payment = paid(merchant)
    path = f"/v1/payments/{payment['transaction_id']}/cancel"
    assert merchant.call(path, {}).status_code == 400
    assert merchant.call("/v1/payments/short/cancel", {}).status_code == 400
    unknown = "/v1/payments/1849705C6420220922000013/cancel"
    assert merchant.call(unknown, json.loads(CANCEL)).status_code == 200
    assert merchant.sandbox.get(path).json()["rescode"] == "EC1003"


# -- tokens -----------------------------------------------------------------------


def test_the_documented_rebill_is_accepted_by_a_switch(merchant):
    token_id = token_of(merchant)
    path = f"/v1/payments/tokenbilling/{token_id}/rebill"
    # Its own text makes lang and buyer mandatory.
    assert "payment.lang" not in REBILL
    assert send(merchant, path, REBILL)["rescode"] == "EC00"
    merchant.settings(rebill_request="example")

    answer = send(merchant, path, REBILL)

    assert shape(answer) == shape(REBILL_ANSWER)
    assert answer["card_info"] == REBILL_ANSWER["card_info"]
    found = send(merchant, "/v1/payments/retrieve", RETRIEVE)["payment"]
    assert found["transaction_id"] == answer["payment"]["transaction_id"]
    assert (found["status"], found["balance"]) == ("SALE", "1.00")


def test_a_rebill_can_answer_all_of_its_text(merchant):
    merchant.settings(rebill_answer="text")
    token_id = token_of(merchant)
    line = {
        "name": "Tea",
        "quantity": "2",
        "unit_price": "13.15",
        "link": "https://shop.example/tea",
    }

    answer = rebill(merchant, token_id, product=[line], other_param={"param1": "x"})

    assert set(answer) == {
        *REBILL_ANSWER,
        *("errcode", "tokenbilling", "merchant", "buyer", "other_param"),
        *("product", "dm", "token_id", "token_creation"),
    }
    assert set(answer["payment"]) == set(REBILL_ANSWER["payment"])
    assert answer["tokenbilling"] == {"token_id": token_id}
    assert answer["product"] == [{"name": "Tea"}]
    assert answer["merchant"] == {"mid": MID}
    assert answer["payment"]["payment_method_name"] == "VISA"


@pytest.mark.parametrize(
    ("objects", "named"),
    [
        ({"payment": {"lang": ""}}, "payment.lang"),
        ({"payment": {"amount": "0"}}, "payment.amount"),
        ({"payment": {"currency": "BHD"}}, "payment.currency"),
        ({"payment": {"transaction_type": "REBILL"}}, "payment.transaction_type"),
        ({"buyer": {"name": "Hong"}}, "buyer.email"),
        ({"merchant": {"mid": "SANDBOXKR1"}}, "merchant.mid"),
        ({"product": [{"name": "Tea"}]}, "product[0].quantity"),
        ({"surcharge": [{"quantity": "0"}]}, "surcharge[0].quantity"),
        ({"url": {}}, "url"),
    ],
)
def test_a_wrong_rebill_is_ec00_and_named(merchant, objects, named):
    answer = rebill(merchant, token_of(merchant), **objects)

    assert answer["rescode"] == "EC00"
    assert named in answer["resmsg"]
    assert merchant.sandbox.get("/_control/eximbay/payments").json() == []


def test_a_rebill_never_charges_an_order_twice(merchant):
    token_id = token_of(merchant)
    assert rebill(merchant, token_id)["rescode"] == "0000"

    again = rebill(merchant, token_id)

    assert refusal(again) == ("EC00", "DUPLICATE_TRANSACTION")
    assert merchant.payment("B")["charges"] == 1
    assert refund(merchant, merchant.payment("B"))["rescode"] == "0000"
    assert merchant.statuses() == []


def test_a_declined_rebill_uses_up_its_order(merchant):
    token_id = token_of(merchant)
    merchant.settings(charge_rescode="X059")
    assert refusal(rebill(merchant, token_id)) == ("X059", "STOLEN_OR_LOST_CARD")
    merchant.settings(charge_rescode="")

    assert refusal(rebill(merchant, token_id))[1] == "DUPLICATE_TRANSACTION"
    assert merchant.payment("B")["status"] == "FAILED"
    assert merchant.payment("B")["charges"] == 0


def test_a_card_has_one_identifier_and_the_documented_get_reads_it(merchant):
    first, second = token_of(merchant), token_of(merchant)
    other = token_of(merchant, method="P102")

    answers = [
        send(merchant, f"/v1/payments/tokenbilling/{token_id}", "{\n}", "GET")
        for token_id in (first, second, other)
    ]

    assert [answer["token_id"] for answer in answers] == [first, second, other]
    for answer in answers:
        assert shape(answer) == shape(TOKEN_ANSWER)
        assert 0 < len(answer["card_identifier"]) <= 64
    identifiers = [answer["card_identifier"] for answer in answers]
    assert identifiers[0] == identifiers[1] != identifiers[2]
    bare = merchant.sandbox.get(
        f"/v1/payments/tokenbilling/{first}", headers={"Authorization": AUTHORIZATION}
    )
    assert bare.json() == answers[0]
    unasked = merchant.sandbox.get(f"/v1/payments/tokenbilling/{first}")
    assert unasked.json()["rescode"] == "EC1000"


def test_a_deleted_token_is_gone_for_good(merchant):
    body = merchant.order(tokenbilling={"token_creation": "Y"})
    merchant.pay("approve", body)
    token_id = merchant.statuses()[0].fields["token_id"]
    path = f"/v1/payments/tokenbilling/{token_id}"
    waiting = merchant.open_page(
        merchant.order(
            payment={"transaction_type": "REBILL"}, tokenbilling={"token_id": token_id}
        )
    )

    assert send(merchant, f"{path}/delete", "{}") == SUCCESS

    refused = [
        send(merchant, f"{path}/delete", "{}"),
        send(merchant, path, "{}", "GET"),
        rebill(merchant, token_id),
    ]
    assert [refusal(item) for item in refused] == [("EC00", "INVALID_REQEUST_ID")] * 3
    assert merchant.choose(waiting, "approve").status_code == 400
    assert len(merchant.statuses()) == 1


def test_a_token_belongs_to_its_merchant(merchant):
    token_id = token_of(merchant, mid=DOMESTIC["mid"])

    assert refusal(rebill(merchant, token_id))[1] == "INVALID_REQEUST_ID"
    body = merchant.order(
        payment={"transaction_type": "REBILL"}, tokenbilling={"token_id": token_id}
    )
    assert "tokenbilling.token_id" in merchant.ready(body).json()["resmsg"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("approve", "SALE"), ("decline", "FAILED"), ("review", "SALE")],
)
def test_a_token_is_charged_on_the_page_with_any_outcome(merchant, outcome, status):
    token_id = token_of(merchant, method="P102")
    body = merchant.order(
        payment={"order_id": "B", "transaction_type": "REBILL"},
        tokenbilling={"token_id": token_id},
    )
    page = merchant.open_page(body)
    assert "5555" in page.text
    assert 'value="P101"' not in page.text

    merchant.choose(page, outcome)

    assert merchant.payment("B")["status"] == status
    (notice,) = merchant.statuses()
    assert notice.fields["transaction_type"] == "REBILL"
    assert notice.fields["fgkey"] == fgkey_of(notice.body)


@pytest.mark.parametrize("body", ['{"mid": "1849705C64"}', "[]", "{"])
def test_the_calls_without_fields_take_none(merchant, body):
    path = f"/v1/payments/tokenbilling/{token_of(merchant)}/delete"

    assert send(merchant, path, body)["rescode"] == "EC00"
    assert send(merchant, path, "") == SUCCESS


# -- plans ------------------------------------------------------------------------


def seoul_today(merchant) -> date:
    now = merchant.sandbox.get("/_control/clock").json()["now"]
    return datetime.fromisoformat(now).astimezone(SEOUL).date()


def in_months(day: date, months: int) -> date:
    year, month = divmod(day.month - 1 + months, 12)
    last = calendar.monthrange(day.year + year, month + 1)[1]
    return date(day.year + year, month + 1, min(day.day, last))


def go_to(merchant, day: date) -> None:
    """To noon of that day in Korea."""
    now = datetime.fromisoformat(merchant.sandbox.get("/_control/clock").json()["now"])
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=SEOUL)
    merchant.sandbox.post(
        "/_control/clock", json={"advance_seconds": (noon - now).total_seconds()}
    ).raise_for_status()


def plans(merchant) -> list[dict]:
    return merchant.sandbox.get("/_control/eximbay/plans").json()


def notices(merchant) -> list[dict]:
    """What the plan's own address was told, charge by charge.

    Notices of one moment overtake each other.
    """
    merchant.flush()
    told = [item for item in merchant.shop.received if item.path == "/plan/"]
    return sorted(told, key=lambda item: item.fields["order_id"])


def planned(merchant, start: date, outcome: str = "approve", **changes: str) -> None:
    plan = {
        "recurring_amount": "10.50",
        "recurring_start_date": f"{start:%Y%m%d}",
        "recurring_interval": "1",
        "recurring_noti_url": f"{merchant.shop.origin}/plan/",
        **changes,
    }
    order = {"order_id": "A"}
    merchant.pay(outcome, merchant.order(payment=order, recurring=plan))


def test_a_plan_is_charged_on_its_days_and_each_is_told(merchant):
    start = seoul_today(merchant)
    planned(merchant, start)
    (plan,) = plans(merchant)
    first, second, third = (in_months(start, number) for number in (1, 2, 3))
    assert plan["recurring_next_date"] == f"{first:%Y%m%d}"
    go_to(merchant, first - timedelta(days=1))
    assert notices(merchant) == []

    go_to(merchant, second)

    told = [item.fields for item in notices(merchant)]
    assert [item["transaction_date"] for item in told] == [
        f"{first:%Y%m%d}000000",
        f"{second:%Y%m%d}000000",
    ]
    assert [item["recurring_next_date"] for item in told] == [
        f"{second:%Y%m%d}",
        f"{third:%Y%m%d}",
    ]
    order_ids = [item["order_id"] for item in told]
    assert len({"A", *order_ids}) == 3
    assert plans(merchant)[0]["charges"] == order_ids
    for fields, notice in zip(told, notices(merchant), strict=True):
        assert (fields["rescode"], fields["amount"]) == ("0000", "10.50")
        assert fields["recurring_payment"] == "Y"
        assert fields["recurring_id"] == plan["recurring_id"]
        assert fields["email"] == "buyer@example.com"
        assert fields["fgkey"] == fgkey_of(notice.body)
        assert merchant.verify(notice.body)["rescode"] == "0000"
        found = merchant.retrieve(fields["order_id"], amount="10.50")["payment"]
        assert found["transaction_id"] == fields["transaction_id"]
        assert found["status"] == "SALE"
        assert merchant.payment(fields["order_id"])["charges"] == 1
    assert len(merchant.statuses()) == 1


def test_a_plan_is_charged_before_the_clock_answers(merchant):
    planned(merchant, seoul_today(merchant))

    go_to(merchant, in_months(seoul_today(merchant), 1))

    callbacks = merchant.sandbox.get("/_control/callbacks").json()
    assert [item["kind"] for item in callbacks] == ["status", "return", "recurring"]
    assert merchant.flush()["pending"] == 0
    assert [item.path for item in merchant.shop.received][-1:] == ["/plan/"]


def test_a_plan_of_the_31st_goes_back_to_the_31st(merchant):
    today = seoul_today(merchant)
    start = date(today.year + 1, 1, 31)
    planned(merchant, start)
    seen = [plans(merchant)[0]["recurring_next_date"]]
    for number in (1, 2):
        go_to(merchant, in_months(start, number))
        seen.append(plans(merchant)[0]["recurring_next_date"])

    assert seen == [f"{in_months(start, number):%Y%m%d}" for number in (1, 2, 3)]
    assert [day[6:] for day in seen[1:]] == ["31", "30"]


def test_a_start_in_the_past_owes_nothing(merchant):
    planned(merchant, date(2025, 2, 10), recurring_interval="3")

    (plan,) = plans(merchant)
    assert plan["charges"] == []
    assert plan["recurring_next_date"] > f"{seoul_today(merchant):%Y%m%d}"
    assert plan["recurring_next_date"][4:] in {"0210", "0510", "0810", "1110"}


def test_a_declined_charge_is_told_and_the_plan_goes_on(merchant):
    start = seoul_today(merchant)
    planned(merchant, start)
    merchant.settings(charge_rescode="8327")
    go_to(merchant, in_months(start, 1))
    failed = notices(merchant)[0].fields
    merchant.settings(charge_rescode="")

    go_to(merchant, in_months(start, 2))

    assert (failed["rescode"], failed["transaction_id"]) == ("8327", "")
    assert failed["recurring_id"] == plans(merchant)[0]["recurring_id"]
    assert notices(merchant)[1].fields["rescode"] == "0000"


def test_the_documented_adjust_changes_later_charges(merchant):
    start = seoul_today(merchant)
    planned(merchant, start, recurring_amount="9.15")
    path = f"/v1/payments/recurring/{plans(merchant)[0]['recurring_id']}/adjust"
    go_to(merchant, in_months(start, 1))

    assert send(merchant, path, ADJUST) == SUCCESS

    go_to(merchant, in_months(start, 2))
    told = [item.fields["amount"] for item in notices(merchant)]
    assert told == ["9.15", "10.50"]


@pytest.mark.parametrize(
    "amount", ["", "0", "0.00", "-1", "1,000.00", "1.005", "12345678.90", 10.5, None]
)
def test_a_wrong_adjust_changes_nothing(merchant, amount):
    planned(merchant, seoul_today(merchant))
    recurring_id = plans(merchant)[0]["recurring_id"]

    answer = merchant.call(
        f"/v1/payments/recurring/{recurring_id}/adjust", {"adjust_amount": amount}
    ).json()

    assert answer["rescode"] == "EC00"
    assert "adjust_amount" in answer["resmsg"]
    assert plans(merchant)[0]["recurring_amount"] == "10.50"


def test_a_deleted_plan_is_never_charged_again(merchant):
    start = seoul_today(merchant)
    planned(merchant, start)
    path = f"/v1/payments/recurring/{plans(merchant)[0]['recurring_id']}"

    assert send(merchant, f"{path}/delete", "{}") == SUCCESS

    go_to(merchant, in_months(start, 3))
    assert notices(merchant) == []
    for verb, body in (("delete", "{}"), ("adjust", ADJUST)):
        refused = send(merchant, f"{path}/{verb}", body)
        assert refusal(refused) == ("EC00", "INVALID_REQEUST_ID")


def test_a_plan_belongs_to_its_merchant(merchant):
    planned(merchant, seoul_today(merchant))
    path = f"/v1/payments/recurring/{plans(merchant)[0]['recurring_id']}/delete"
    merchant.api_key = DOMESTIC["api_key"]

    assert merchant.call(path, {}).json()["errcode"] == "INVALID_REQEUST_ID"
    assert not plans(merchant)[0]["deleted"]


def test_a_payment_that_failed_leaves_no_plan_and_no_token(merchant):
    planned(merchant, seoul_today(merchant), outcome="contradict")
    body = merchant.order(tokenbilling={"token_creation": "Y"})
    merchant.pay("contradict", body)

    assert plans(merchant) == []
    assert merchant.sandbox.get("/_control/eximbay/tokens").json() == []


def test_a_reset_forgets_plans_under_way(merchant):
    planned(merchant, seoul_today(merchant))
    merchant.sandbox.post("/_control/reset").raise_for_status()

    go_to(merchant, in_months(seoul_today(merchant), 2))

    assert notices(merchant) == []
    assert merchant.sandbox.get("/_control/callbacks").json() == []


# -- the uniform control API ------------------------------------------------------


def decide(merchant, order_id: str, outcome: str, **more: str):
    return merchant.sandbox.post(
        f"/_control/eximbay/payments/{order_id}/outcome",
        json={"outcome": outcome, **more},
    )


def test_an_outcome_needs_no_open_page(merchant):
    body = merchant.order(payment={"order_id": "A"})
    merchant.ready(body)

    answer = decide(merchant, "A", "approve").json()

    (notice,) = merchant.statuses()
    assert answer["return_url"] == body["url"]["return_url"]
    assert answer["return_method"] == "POST"
    assert answer["return_fields"] == notice.fields
    assert answer["return_fields"]["param3"] == "OPENAPI"
    assert notice.fields["fgkey"] == fgkey_of(notice.body)
    assert answer["payment"] == merchant.payment("A")
    for name, value in {
        "reference": "A",
        "provider_reference": notice.fields["transaction_id"],
        "status": "SALE",
        "amount": "26.30",
        "currency": "USD",
        "refunded": "0.00",
        "refunds": [],
        "charges": 1,
        "payment_method": "P101",
    }.items():
        assert answer["payment"][name] == value
    assert decide(merchant, "A", "approve").status_code == 409


def test_an_outcome_names_the_whole_url_of_a_get(merchant):
    merchant.settings(return_method="GET")
    body = merchant.order(payment={"order_id": "A"})
    merchant.ready(body)

    answer = decide(merchant, "A", "decline", rescode="HE01").json()

    address, _, query = answer["return_url"].partition("?")
    assert address == body["url"]["return_url"]
    assert dict(parse_qsl(query))["rescode"] == "HE01"
    assert (answer["return_method"], answer["return_fields"]) == ("GET", {})
    assert answer["payment"]["status"] == "FAILED"


@pytest.mark.parametrize(
    ("outcome", "status", "comes_back"),
    [
        ("approve", "SALE", True),
        ("decline", "FAILED", True),
        ("cancel", "FAILED", True),
        ("close", "SALE", False),
        ("review", "SALE", True),
        ("contradict", "FAILED", True),
    ],
)
def test_every_outcome_of_the_page_is_known(merchant, outcome, status, comes_back):
    merchant.ready(merchant.order(payment={"order_id": "A"}))

    answer = decide(merchant, "A", outcome).json()

    assert answer["payment"]["status"] == status
    assert (answer["return_url"] is not None) is comes_back
    assert bool(answer["return_fields"]) is comes_back


def test_a_method_can_be_chosen_and_a_deposit_follows(merchant):
    order = {"order_id": "A", "currency": "KRW", "amount": "132000"}
    merchant.ready(merchant.order(payment=order))

    registered = decide(merchant, "A", "register", method="P305").json()
    deposited = decide(merchant, "A", "deposit").json()

    assert registered["payment"]["status"] == "REGISTERED"
    assert registered["payment"]["charges"] == 0
    assert deposited["return_url"] is None
    assert deposited["payment"]["status"] == "SALE"
    assert deposited["payment"]["charges"] == 1
    assert decide(merchant, "A", "deposit").status_code == 409


def test_the_domestic_default_is_still_a_card_of_visa(merchant):
    merchant.api_key = DOMESTIC["api_key"]
    order = {"order_id": "A", "currency": "KRW", "amount": "500"}
    merchant.ready(merchant.order(payment=order, merchant={"mid": DOMESTIC["mid"]}))
    assert (
        decide(merchant, "A", "approve").json()["payment"]["payment_method"] == "P101"
    )
    other = {**order, "order_id": "B", "payment_method": "P302"}
    merchant.ready(merchant.order(payment=other, merchant={"mid": DOMESTIC["mid"]}))

    assert (
        decide(merchant, "B", "approve").json()["payment"]["payment_method"] == "P302"
    )


@pytest.mark.parametrize(
    "wish",
    [
        {"outcome": "expire"},
        {"outcome": None},
        {},
        {"outcome": "approve", "method": "P305"},
        {"outcome": "approve", "method": 101},
        {"outcome": "approve", "color": "red"},
        {"outcome": "decline", "rescode": "<b>"},
        {"outcome": "register"},
    ],
)
def test_an_impossible_outcome_is_400_and_changes_nothing(merchant, wish):
    merchant.ready(merchant.order(payment={"order_id": "A"}))

    answer = merchant.sandbox.post("/_control/eximbay/payments/A/outcome", json=wish)

    assert answer.status_code == 400
    assert answer.json()["error"]
    if "expire" in wish.values():
        assert "use one of approve, " in answer.json()["error"]
    assert merchant.payment("A")["status"] == "NONE"


def test_the_control_api_lists_newest_last_and_404s(merchant):
    for order_id in ("A", "B"):
        merchant.ready(merchant.order(payment={"order_id": order_id}))

    listed = merchant.sandbox.get("/_control/eximbay/payments").json()

    assert [item["reference"] for item in listed] == ["A", "B"]
    assert merchant.sandbox.get("/_control/eximbay/payments/C").status_code == 404
    assert decide(merchant, "C", "approve").status_code == 404


def test_the_page_for_people_tells_of_refunds_and_captures(merchant):
    payment = paid(merchant, "AUTHORIZE")
    act(merchant, "capture", payment)
    act(merchant, "settle", payment)
    refund(merchant, payment, "6.30")

    page = merchant.sandbox.get("/_control/").text

    assert "captured / settled / refunded 6.30" in page


@pytest.mark.parametrize(
    "operation",
    [
        *("confirm", "cancel", "capture", "settle", "rebill"),
        *("token_delete", "token_inquiry", "recurring_delete", "recurring_adjust"),
    ],
)
def test_every_operation_is_recorded_under_its_name_and_open_to_faults(
    merchant, operation
):
    transaction = "/v1/payments/1849705C6420220922000013"
    path = {
        "confirm": "/v1/payments/confirm",
        "cancel": f"{transaction}/cancel",
        "capture": f"{transaction}/capture",
        "settle": f"{transaction}/settle",
        "rebill": "/v1/payments/tokenbilling/T/rebill",
        "token_delete": "/v1/payments/tokenbilling/T/delete",
        "token_inquiry": "/v1/payments/tokenbilling/T",
        "recurring_delete": "/v1/payments/recurring/R/delete",
        "recurring_adjust": "/v1/payments/recurring/R/adjust",
    }[operation]
    merchant.fault(operation, "status", status=503)

    method = "GET" if operation == "token_inquiry" else "POST"
    assert merchant.sandbox.request(method, path).status_code == 503

    (entry,) = merchant.sandbox.get("/_control/requests").json()
    assert (entry["operation"], entry["fault"]) == (operation, "status")
