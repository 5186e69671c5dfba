"""Eximbay's API in the sandbox against the reference document's own examples."""

import base64

import pytest

MID = "1849705C64"
DOCUMENTED_FGKEY = "0E9BE04BA239A519E68171F26B68604ADA0A85C8350DBF5C8C0FCCF98461DB09"
DOCUMENTED_BODY = {
    "payment": {
        "transaction_type": "PAYMENT",
        "order_id": "20220819105102",
        "currency": "USD",
        "amount": "1",
        "lang": "EN",
    },
    "merchant": {"mid": MID},
    "buyer": {"name": "eximbay", "email": "test@eximbay.com"},
    "url": {"return_url": "eximbay.com", "status_url": "eximbay.com"},
}
# The rest of the document's request example; its fgkey was made without it.
DOCUMENTED_EXTRAS = {
    "tokenbilling": {"token_creation": "Y", "unique_token_id": "Y"},
    "recurring": {
        "recurring_amount": "1.15",
        "recurring_start_date": "20250210",
        "recurring_interval": "1",
        "recurring_noti_url": "https://Merchant url",
        "remind_email_interval": "5",
    },
}
SYNTHETIC_CALLBACK = (
    "card_number4=1111&dm_reject=&card_number1=4111&mid=1849705C64&foreign_currency="
    "&card_holder=HONG+GIL+DONG&dm_review=&base_amount=&currency=USD"
    "&pay_to=EXIMBAY.COM&email=buyer%2B1%40example.com&payment_method=P101"
    "&transaction_id=1849705C6420260102000001&transaction_date=20260102030405"
    "&base_currency=&amount=26.30&dcc_rate=&installment_months=00&dm_decision="
    "&transaction_type=PAYMENT&param3=OPENAPI&resmsg=Success.&foreign_rate="
    "&version=230&param1=&rescode=0000&param2=&auth_code=123456&base_rate="
    "&foreign_amount=&order_id=ORDER-1&access_country=KR"
)
SYNTHETIC_FGKEY = "72B5F086E3545F3A9F8AA6969363F7526CE5F08C14449D4BFDAB22D519294664"


def test_ready_reproduces_the_documented_fgkey(merchant):
    answer = merchant.ready(DOCUMENTED_BODY)

    assert answer.status_code == 200
    assert answer.json() == {
        "rescode": "0000",
        "resmsg": "Success",
        "fgkey": DOCUMENTED_FGKEY,
    }


def test_the_documented_authorization_header_is_accepted(sandbox):
    answer = sandbox.post(
        "/v1/payments/ready",
        json=DOCUMENTED_BODY,
        headers={"Authorization": "Basic dGVzdF8xODQ5NzA1QzY0MkMyMTdFMEIyRDo="},
    )

    assert answer.json()["rescode"] == "0000"


def test_the_whole_documented_request_is_accepted_and_signed_with_its_extras(merchant):
    answer = merchant.ready(DOCUMENTED_BODY | DOCUMENTED_EXTRAS).json()

    assert answer["rescode"] == "0000"
    assert answer["fgkey"] != DOCUMENTED_FGKEY


def test_every_documented_object_is_accepted(merchant):
    address = {
        "city": "Seoul",
        "country": "KR",
        "first_name": "Gil Dong",
        "last_name": "Hong",
        "phone_number": "+82 2 1",
        "postal_code": "04524",
        "state": "",
        "street1": "Sejong-daero 110",
    }
    body = merchant.order(
        payment={"multi_payment_method": "P000-P185-P186"},
        merchant={"shop": "Hanok", "partner_code": "1"},
        buyer={"phone_number": "+82 10"},
        tax={"receipt_status": "Y", "amount_vat": "2.39"},
        other_param={"param1": "a", "param2": "b" * 255},
        product=[
            {
                "name": "Tea",
                "quantity": "2",
                "unit_price": "13.65",
                "link": "https://shop.example/tea",
            }
        ],
        surcharge=[{"name": "Coupon", "quantity": "1", "unit_price": "-1.00"}],
        ship_to=address,
        bill_to=address,
        settings={
            "autoclose": "Y",
            "call_from_app": "N",
            "call_from_scheme": "",
            "issuer_country": "KR",
            "ostype": "M",
            "virtualaccount_expiry_date": "2026123123",
        },
        fast_payment={
            "user_id": "u1",
            "user_ci": "",
            "phone_number": "",
            "birthday": "",
            "gender": "",
            "foreigner": "",
        },
    )

    # 2 x 13.65 - 1.00 = 26.30
    assert merchant.ready(body).json()["rescode"] == "0000"


@pytest.mark.parametrize(
    ("objects", "named"),
    [
        ({"payment": {"transaction_type": "SALE"}}, "payment.transaction_type"),
        ({"payment": {"order_id": ""}}, "payment.order_id"),
        ({"payment": {"order_id": "x" * 31}}, "payment.order_id"),
        ({"payment": {"order_id": None}}, "payment.order_id"),
        ({"payment": {"currency": "usd"}}, "payment.currency"),
        ({"payment": {"amount": 26.3}}, "payment.amount"),
        ({"payment": {"amount": 26}}, "payment.amount"),
        ({"payment": {"amount": "0"}}, "payment.amount"),
        ({"payment": {"amount": "-1"}}, "payment.amount"),
        ({"payment": {"amount": "1,000"}}, "payment.amount"),
        ({"payment": {"amount": "1.001"}}, "payment.amount"),
        ({"payment": {"amount": "1e3"}}, "payment.amount"),
        ({"payment": {"amount": "26.30 "}}, "payment.amount"),
        ({"payment": {"amount": "\uff11"}}, "payment.amount"),
        ({"payment": {"currency": "JPY", "amount": "1.5"}}, "payment.amount"),
        ({"payment": {"lang": ""}}, "payment.lang"),
        ({"payment": {"payment_method": "VISA"}}, "payment.payment_method"),
        (
            {"payment": {"multi_payment_method": "P000,P101"}},
            "payment.multi_payment_method",
        ),
        ({"payment": {"payment_method": "P999"}}, "payment.payment_method"),
        (
            {"payment": {"multi_payment_method": "P000-P999"}},
            "payment.multi_payment_method",
        ),
        ({"payment": {"currency": "BHD"}}, "payment.currency"),
        ({"payment": {"shade": "red"}}, "payment.shade"),
        ({"merchant": {"mid": "0000000000"}}, "merchant.mid"),
        ({"buyer": {"name": ""}}, "buyer.name"),
        ({"buyer": {"email": ""}}, "buyer.email"),
        ({"url": {"return_url": ""}}, "url.return_url"),
        ({"url": {"status_url": None}}, "url.status_url"),
        ({"tax": {"receipt_status": "X"}}, "tax.receipt_status"),
        ({"payment": {"payment_method": "P301"}}, "tax.receipt_status"),
        ({"payment": {"payment_method": "P308"}}, "tax.receipt_status"),
        ({"payment": {"payment_method": "P006"}}, "buyer.phone_number"),
        (
            {
                "payment": {"payment_method": "P101"},
                "settings": {"site_foreign_currency": "EUR"},
            },
            "settings.site_foreign_currency",
        ),
        ({"other_param": {"param1": "x" * 256}}, "other_param.param1"),
        ({"other_param": {"param3": "x"}}, "other_param.param3"),
        ({"settings": {"display_type": "X"}}, "settings.display_type"),
        ({"settings": {"autoclose": "y"}}, "settings.autoclose"),
        ({"settings": "R"}, "settings"),
        (
            {"settings": {"virtualaccount_expiry_date": "20261231"}},
            "settings.virtualaccount_expiry_date",
        ),
        ({"tokenbilling": {"token_creation": "N"}}, "tokenbilling.token_creation"),
        (
            {
                "payment": {"transaction_type": "AUTHORIZE"},
                "tokenbilling": {"token_creation": "Y"},
            },
            "tokenbilling.token_creation",
        ),
        ({"tokenbilling": {"token_id": "1"}}, "tokenbilling.token_id"),
        ({"payment": {"transaction_type": "REBILL"}}, "tokenbilling.token_id"),
        (
            {
                "payment": {"transaction_type": "REBILL"},
                "tokenbilling": {"token_id": "nobody's"},
            },
            "tokenbilling.token_id",
        ),
        ({"recurring": {"recurring_amount": "1"}}, "recurring.recurring_start_date"),
        ({"fast_payment": {"user_id": ""}}, "fast_payment.user_id"),
        ({"product": {}}, "product"),
        ({"product": [{"name": "Tea"}]}, "product[0].quantity"),
        ({"surcharge": [{"quantity": "0"}]}, "surcharge[0].quantity"),
        ({"surcharge": [{"unit_price": "1,0"}]}, "surcharge[0].unit_price"),
        ({"cart": []}, "cart"),
    ],
)
def test_a_wrong_field_is_ec00_and_named(merchant, objects, named):
    answer = merchant.ready(merchant.order(**objects))

    assert answer.status_code == 400
    assert answer.json()["rescode"] == "EC00"
    assert f" {named} " in f"{answer.json()['resmsg']} "


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recurring_amount": "12345678.90"}, "recurring.recurring_amount"),
        ({"recurring_amount": "1.005"}, "recurring.recurring_amount"),
        ({"recurring_amount": "0.00"}, "recurring.recurring_amount"),
        ({"recurring_start_date": "2025-02-10"}, "recurring.recurring_start_date"),
        ({"recurring_start_date": "20250230"}, "recurring.recurring_start_date"),
        ({"recurring_interval": "11"}, "recurring.recurring_interval"),
        ({"recurring_interval": "0"}, "recurring.recurring_interval"),
        ({"recurring_noti_url": "x" * 256}, "recurring.recurring_noti_url"),
        ({"remind_email_interval": "100"}, "recurring.remind_email_interval"),
    ],
)
def test_a_wrong_recurring_field_is_named(merchant, change, named):
    plan = DOCUMENTED_EXTRAS["recurring"] | change

    answer = merchant.ready(merchant.order(recurring=plan)).json()

    assert answer["rescode"] == "EC00"
    assert named in answer["resmsg"]


@pytest.mark.parametrize("name", ["payment", "merchant", "url", "buyer"])
def test_a_missing_mandatory_object_is_named(merchant, name):
    body = merchant.order()
    del body[name]

    assert name in merchant.ready(body).json()["resmsg"]


@pytest.mark.parametrize("name", ["product", "surcharge"])
def test_at_most_three_lines(merchant, name):
    line = {
        "name": "Tea",
        "quantity": "1",
        "unit_price": "1.00",
        "link": "https://shop.example/",
    }
    if name == "surcharge":
        del line["link"]

    answer = merchant.ready(merchant.order(**{name: [line] * 4})).json()

    assert answer["rescode"] == "EC00"
    assert name in answer["resmsg"]


def test_the_sum_rule_can_be_switched_off(merchant):
    line = {
        "name": "Tea",
        "quantity": "1",
        "unit_price": "1.00",
        "link": "https://shop.example/",
    }
    assert merchant.ready(merchant.order(product=[line])).json()["rescode"] == "EC00"

    merchant.settings(check_sum_rule=False)

    assert merchant.ready(merchant.order(product=[line])).json()["rescode"] == "0000"


def test_codes_outside_the_tables_can_be_let_through(merchant):
    body = merchant.order(payment={"currency": "MYR", "payment_method": "P999"})
    assert merchant.ready(body).json()["errcode"] == "CURRENCY_NOT_SUPPORTED"

    merchant.settings(refuse_unknown_codes=False)

    assert merchant.ready(body).json()["rescode"] == "0000"


@pytest.mark.parametrize(
    ("objects", "named"),
    [
        ({"payment": {"multi_payment_method": "P000-P003"}}, "multi_payment_method"),
        ({"settings": {"site_foreign_currency": "USD"}}, "site_foreign_currency"),
    ],
)
def test_the_domestic_account_has_nothing_of_cross_border(merchant, objects, named):
    merchant.api_key = "test_SANDBOXKR1000000DE01"

    answer = merchant.ready(
        merchant.order(merchant={"mid": "SANDBOXKR1"}, **objects)
    ).json()

    assert answer["rescode"] == "EC00"
    assert named in answer["resmsg"]


def test_unknown_fields_can_be_let_through(merchant):
    merchant.settings(refuse_unknown_fields=False)

    body = merchant.order(cart=[], payment={"shade": "red"})

    assert merchant.ready(body).json()["rescode"] == "0000"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"test_1849705C642C217E0B2D").decode(),
        "Basic " + base64.b64encode(b"1849705C64:test_1849705C642C217E0B2D").decode(),
        "Basic " + base64.b64encode(b"test_1849705C642C217E0B2E:").decode(),
        "Bearer " + base64.b64encode(b"test_1849705C642C217E0B2D:").decode(),
    ],
)
@pytest.mark.parametrize(
    "operation",
    [
        "ready",
        "confirm",
        "verify",
        "retrieve",
        "1849705C6420220922000013/cancel",
        "1849705C6420220922000013/capture",
        "1849705C6420220922000013/settle",
        "tokenbilling/T/rebill",
        "tokenbilling/T/delete",
        "recurring/R/delete",
        "recurring/R/adjust",
    ],
)
def test_only_the_api_key_as_user_name_is_let_in(sandbox, operation, header):
    headers = {} if header is None else {"Authorization": header}

    answer = sandbox.post(f"/v1/payments/{operation}", json={}, headers=headers)

    assert answer.status_code == 401
    assert answer.json()["rescode"] == "EC1000"


def test_wrong_content_type_method_and_path(merchant):
    assert (
        merchant.call(
            "/v1/payments/ready", {}, **{"Content-Type": "text/plain"}
        ).json()["rescode"]
        == "EC1001"
    )
    wrong_method = merchant.sandbox.get("/v1/payments/ready")
    assert (wrong_method.status_code, wrong_method.json()["rescode"]) == (405, "EC1003")
    unknown = merchant.call("/v1/payments/nothing", {})
    assert (unknown.status_code, unknown.json()["rescode"]) == (404, "EC00")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_refused(merchant, body):
    answer = merchant.sandbox.post(
        "/v1/payments/ready",
        content=body,
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic dGVzdF8xODQ5NzA1QzY0MkMyMTdFMEIyRDo=",
        },
    )

    assert answer.json()["rescode"] == "EC00"


@pytest.mark.parametrize("outcome", ["approve", "decline", "cancel", "contradict"])
def test_an_order_id_is_never_used_again_even_after_a_failure(merchant, outcome):
    body = merchant.order()
    assert merchant.ready(body).json() == merchant.ready(body).json()

    merchant.pay(outcome, body)

    refused = merchant.ready(body).json()
    assert refused["rescode"] == "EC00"
    assert "payment.order_id" in refused["resmsg"]
    assert refused["errcode"] == "DUPLICATE_TRANSACTION"


def test_verify_accepts_the_published_rule_and_blanks_count(merchant):
    assert merchant.verify(f"{SYNTHETIC_CALLBACK}&fgkey={SYNTHETIC_FGKEY}") == {
        "rescode": "0000",
        "resmsg": "Success",
    }
    without_blanks = "&".join(
        pair for pair in SYNTHETIC_CALLBACK.split("&") if not pair.endswith("=")
    )
    for data in (
        SYNTHETIC_CALLBACK,
        f"{SYNTHETIC_CALLBACK}&fgkey=",
        f"{SYNTHETIC_CALLBACK}&fgkey={SYNTHETIC_FGKEY}&fgkey={SYNTHETIC_FGKEY}",
        f"{without_blanks}&fgkey={SYNTHETIC_FGKEY}",
        f"{SYNTHETIC_CALLBACK}&fgkey={SYNTHETIC_FGKEY}".replace("26.30", "26.31"),
        f"?{SYNTHETIC_CALLBACK}&fgkey={SYNTHETIC_FGKEY}",
        f"{SYNTHETIC_CALLBACK}&fgkey={SYNTHETIC_FGKEY}&amount=1",
    ):
        assert merchant.verify(data)["rescode"] == "VE00"


def test_verify_wants_the_one_key_data(merchant):
    for body in ({}, {"data": ""}, {"data": {}}, {"data": "x", "mid": MID}):
        answer = merchant.call("/v1/payments/verify", body).json()
        assert answer["rescode"] == "EC00"


def test_verify_knows_only_callbacks_of_the_callers_own_account(merchant):
    merchant.api_key = "test_SANDBOXKR1000000DE01"

    answer = merchant.verify(f"{SYNTHETIC_CALLBACK}&fgkey={SYNTHETIC_FGKEY}")

    assert answer["rescode"] == "VE00"


def test_retrieve_answers_in_the_documented_form(merchant):
    merchant.pay("approve", merchant.order(payment={"order_id": "A"}))

    answer = merchant.retrieve("A", amount="26.3")

    payment = answer.pop("payment")
    assert answer == {
        "rescode": "0000",
        "resmsg": "Success.",
        "mid": MID,
        "card_info": {"cardno1": "4111", "cardno4": "1111"},
    }
    assert payment["status"] == "SALE"
    assert payment["amount"] == payment["balance"] == "26.30"
    assert len(payment["transaction_id"]) == 24
    assert payment["transaction_id"].startswith(MID)
    assert len(payment["transaction_date"]) == 14
    by_transaction = merchant.retrieve(
        "anything",
        key_field="transaction_id",
        transaction_id=payment["transaction_id"],
    )
    assert by_transaction["payment"] == payment


@pytest.mark.parametrize(
    "changes",
    [
        {"currency": "EUR"},
        {"amount": "26.31"},
        {"order_id": "B"},
        {"key_field": "transaction_id", "transaction_id": "1849705C64202601020000ZZ"},
    ],
)
def test_retrieve_finds_nothing_under_another_question(merchant, changes):
    merchant.pay("approve", merchant.order(payment={"order_id": "A"}))

    answer = merchant.retrieve(changes.pop("order_id", "A"), **changes)

    assert answer["rescode"] == "Q004"
    assert answer["payment"] == {"status": "NONE"}


def test_retrieve_can_insist_on_the_very_text_of_the_amount(merchant):
    merchant.pay("approve", merchant.order(payment={"order_id": "A"}))
    merchant.settings(retrieve_amount_as_text=True, card_field_spelling="card_number")

    assert merchant.retrieve("A", amount="26.3")["rescode"] == "Q004"
    assert merchant.retrieve("A")["card_info"] == {
        "card_number1": "4111",
        "card_number4": "1111",
    }


@pytest.mark.parametrize("outcome", [None, "decline", "cancel", "contradict"])
def test_retrieve_finds_nothing_before_and_without_success(merchant, outcome):
    body = merchant.order(payment={"order_id": "A"})
    page = merchant.open_page(body)
    if outcome:
        merchant.choose(page, outcome)

    assert merchant.retrieve("A")["rescode"] == "Q004"


def test_retrieve_checks_its_question(merchant):
    for body, named in (
        ({"key_field": "order_id", "payment": {}}, "mid"),
        ({"mid": MID, "key_field": "x", "payment": {}}, "key_field"),
        ({"mid": MID, "key_field": "order_id"}, "payment"),
        ({"mid": MID, "key_field": "order_id", "payment": {}}, "payment.order_id"),
    ):
        answer = merchant.call("/v1/payments/retrieve", body).json()
        assert answer["rescode"] == "EC00"
        assert named in answer["resmsg"]
    answer = merchant.retrieve("A", key_field="transaction_id")
    assert "payment.transaction_id" in answer["resmsg"]


def test_http_status_of_refusals_is_a_setting(merchant):
    merchant.settings(auth_error_status=403, request_error_status=200)

    assert merchant.ready({}).status_code == 200
    merchant.api_key = "wrong"
    assert merchant.ready({}).status_code == 403
