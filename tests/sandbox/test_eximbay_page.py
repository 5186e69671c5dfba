"""The browser SDK's call, the hosted page, and what is sent out afterwards."""

import hashlib
from urllib.parse import parse_qsl

import pytest

SECRET = "289F40E6640124B2628640168C3C5464"
# Exactly what a real test callback of 2024-06 had.
REAL_CALLBACK = (
    "card_number4&dm_reject&card_number1&mid&foreign_currency&card_holder&dm_review"
    "&base_amount&currency&pay_to&email&payment_method&transaction_id"
    "&transaction_date&base_currency&amount&dcc_rate&installment_months&dm_decision"
    "&transaction_type&param3&resmsg&foreign_rate&version&param1&rescode&param2"
    "&auth_code&fgkey&base_rate&foreign_amount&order_id&access_country"
)
CALLBACK_KEYS = list(dict(parse_qsl(REAL_CALLBACK, keep_blank_values=True)))


def fgkey_of(raw: str, secret: str = SECRET) -> str:
    """Written again from the rule, so that the sandbox cannot vouch for itself."""
    pairs = parse_qsl(raw, keep_blank_values=True)
    text = "&".join(f"{key}={value}" for key, value in sorted(pairs) if key != "fgkey")
    return hashlib.sha256((secret + "?" + text).encode()).hexdigest().upper()


# -- the call of the SDK ----------------------------------------------------------


def test_the_sdk_may_call_from_any_origin(merchant):
    preflight = merchant.sandbox.options(
        "/v1/payments",
        headers={
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "content-type" in preflight.headers["access-control-allow-headers"].lower()
    refused = merchant.sandbox.post("/v1/payments", json={})
    assert refused.headers["access-control-allow-origin"] == "*"


def test_the_sdk_gets_the_legacy_form_and_an_unchanged_fgkey(merchant):
    body = merchant.order(settings={"display_type": "P"})
    fgkey = merchant.ready(body).json()["fgkey"]

    answer = merchant.sandbox.post("/v1/payments", json={**body, "fgkey": fgkey}).json()

    assert answer["url"].endswith("/Gateway/BasicProcessor.krp")
    assert answer["display_type"] == "P"
    assert answer["fgkey"] == fgkey
    assert answer["ref"] == body["payment"]["order_id"]
    assert (answer["cur"], answer["amt"]) == ("USD", "26.30")
    # All fields become form fields, so no result code may be among them.
    assert "rescode" not in answer


@pytest.mark.parametrize(
    "change",
    [
        {"payment": {"amount": "26.3"}},
        {"payment": {"lang": "KR"}},
        {"url": {"return_url": "https://evil.example/"}},
        {"buyer": {"name": "Hong"}},
        {"other_param": {"param1": "x"}},
        {"product": []},
    ],
)
def test_any_difference_from_ready_is_ve00(merchant, change):
    body = merchant.order()
    fgkey = merchant.ready(body).json()["fgkey"]
    changed = dict(body)
    for name, value in change.items():
        is_object = isinstance(value, dict)
        changed[name] = {**body.get(name, {}), **value} if is_object else value

    answer = merchant.sandbox.post("/v1/payments", json={**changed, "fgkey": fgkey})

    if change == {"product": []}:
        assert "url" in answer.json()  # an empty list adds no field to sign
    else:
        assert answer.json()["rescode"] == "VE00"
        assert "url" not in answer.json()


def test_the_form_cannot_be_changed_between_sdk_and_page(merchant):
    body = merchant.order()
    fgkey = merchant.ready(body).json()["fgkey"]
    form = merchant.sandbox.post("/v1/payments", json={**body, "fgkey": fgkey}).json()
    url = form.pop("url")
    form.pop("display_type")

    page = merchant.sandbox.post(url, data={**form, "amt": "1.00", "param3": "OPENAPI"})

    assert page.status_code == 400
    assert "VE00" in page.text


def test_both_sdks_are_served_and_only_v1_needs_jquery(sandbox):
    for version, needs in (("v1", True), ("v2", False)):
        answer = sandbox.get(f"/{version}/javascriptSDK.js")
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "request_pay" in answer.text
        assert ("jQuery." in answer.text) is needs
    assert sandbox.get("/v3/javascriptSDK.js").status_code == 404


# -- the page ---------------------------------------------------------------------


def test_the_page_shows_the_order_and_escapes_it(merchant):
    body = merchant.order(
        merchant={"shop": "<b>Tea & Co</b>"}, buyer={"name": "<script>x</script>"}
    )

    page = merchant.open_page(body)

    assert page.status_code == 200
    assert "SANDBOX" in page.text
    assert "&lt;b&gt;Tea &amp; Co&lt;/b&gt;" in page.text
    assert "<script>x" not in page.text
    assert "USD 26.30" in page.text
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("lang", "word", "html_lang"),
    [
        ("EN", "Choose how to pay", "en"),
        ("KR", "결제수단을 선택하세요", "ko"),
        ("JP", "お支払い方法をお選びください", "ja"),
        ("CN", "请选择付款方式", "zh-Hans"),
        ("TW", "請選擇付款方式", "zh-Hant"),
        ("RU", "Выберите способ оплаты", "ru"),
        ("TH", "เลือกวิธีชำระเงิน", "th"),
        ("VN", "Chọn cách thanh toán", "vi"),
        ("XX", "Choose how to pay", "en"),
    ],
)
def test_the_page_speaks_the_language_or_english(merchant, lang, word, html_lang):
    page = merchant.open_page(merchant.order(payment={"lang": lang}))

    assert word in page.text
    assert f'<html lang="{html_lang}">' in page.text


@pytest.mark.parametrize(
    ("payment", "settings", "offered", "missing"),
    [
        ({}, {}, ["P101", "P001"], ["P305", "P006", "P111"]),
        ({"payment_method": "P001"}, {}, ["P001"], ["P101"]),
        ({"multi_payment_method": "P003-P141"}, {}, ["P003", "P141"], ["P101"]),
        ({"multi_payment_method": "P000-P185-P186"}, {}, ["P101", "P185"], ["P001"]),
        ({"transaction_type": "PAYER_AUTH"}, {}, ["P101"], ["P001"]),
        (
            {"currency": "KRW", "amount": "500", "multi_payment_method": "P003"},
            {"issuer_country": "KR"},
            ["P111", "P302"],
            ["P003"],
        ),
        ({"currency": "JPY", "amount": "500"}, {}, ["P006", "P354"], ["P305"]),
        ({"currency": "KRW", "amount": "500"}, {}, ["P305"], ["P006", "P111"]),
        (
            {"currency": "KRW", "amount": "500"},
            {"issuer_country": "KR"},
            ["P111", "P302", "P305"],
            ["P001", "P006"],
        ),
    ],
)
def test_the_page_offers_what_fits(merchant, payment, settings, offered, missing):
    page = merchant.open_page(merchant.order(payment=payment, settings=settings))

    for code in offered:
        assert f'value="{code}"' in page.text
    for code in missing:
        assert f'value="{code}"' not in page.text


def test_an_impossible_choice_shows_the_page_again(merchant):
    page = merchant.open_page(merchant.order(payment={"order_id": "A"}))

    for choice in (
        {"outcome": "steal"},
        {"outcome": "register"},
        {"outcome": "approve", "method": "P305"},
        {"outcome": "decline", "rescode": "<b>"},
    ):
        again = merchant.sandbox.post(str(page.url), data=choice)
        assert again.status_code == 400
        assert 'role="alert"' in again.text
    assert merchant.payment("A")["status"] == "NONE"


def test_a_second_page_of_a_finished_order_is_refused(merchant):
    body = merchant.order()
    first, second = merchant.open_page(body), merchant.open_page(body)

    merchant.choose(first, "approve")
    late = merchant.choose(second, "approve")

    assert late.status_code == 400
    assert "EEEE" in late.text
    assert len(merchant.statuses()) == 1


def test_a_reload_of_the_last_page_sends_nothing_again(merchant, return_form):
    page = merchant.open_page(merchant.order(settings={"autoclose": "Y"}))
    done = merchant.choose(page, "approve")

    again = merchant.choose(page, "decline")

    assert return_form(again) == return_form(done)
    assert "data-automatic" in done.text
    assert "data-automatic" not in again.text
    assert len(merchant.statuses()) == 1


# -- outcomes ---------------------------------------------------------------------


def test_an_approved_payment_is_told_twice_with_the_same_signed_fields(
    merchant, return_form
):
    body = merchant.order(
        payment={"order_id": "A"}, other_param={"param1": "a b&c=d", "param2": "é"}
    )

    done = merchant.pay("approve", body)

    (status,) = merchant.statuses()
    assert status.content_type == "application/x-www-form-urlencoded"
    assert list(status.fields) == CALLBACK_KEYS
    assert return_form(done) == status.fields
    assert status.fields["fgkey"] == fgkey_of(status.body)
    assert merchant.verify(status.body)["rescode"] == "0000"
    for name, value in {
        "rescode": "0000",
        "resmsg": "Success.",
        "order_id": "A",
        "amount": "26.30",
        "currency": "USD",
        "param1": "a b&c=d",
        "param2": "é",
        "param3": "OPENAPI",
        "version": "230",
        "transaction_type": "PAYMENT",
        "payment_method": "P101",
        "card_number1": "4111",
        "card_number4": "1111",
        "dm_decision": "",
    }.items():
        assert status.fields[name] == value
    assert merchant.payment("A")["status"] == "SALE"


def test_the_status_comes_before_the_return_unless_switched(merchant):
    merchant.pay("approve")
    assert [item.path for item in merchant.shop.received] == ["/status/"]

    merchant.settings(send_status_before_return=False, status_delay_seconds=0.3)
    merchant.pay("approve")

    assert len(merchant.shop.received) == 1
    assert len(merchant.statuses()) == 2


def test_autoclose_goes_straight_back_and_otherwise_a_button_does(merchant):
    shown = merchant.pay("approve")
    direct = merchant.pay("approve", merchant.order(settings={"autoclose": "Y"}))

    assert "data-automatic" not in shown.text
    assert "data-automatic" in direct.text


@pytest.mark.parametrize(
    ("outcome", "more", "rescode"),
    [
        ("decline", {}, "8327"),
        ("decline", {"rescode": "X059"}, "X059"),
        ("decline", {"rescode": "9999"}, "9999"),
        ("cancel", {}, "XC00"),
    ],
)
def test_a_failure_is_told_on_both_ways_without_a_transaction(
    merchant, return_form, outcome, more, rescode
):
    done = merchant.pay(outcome, merchant.order(payment={"order_id": "A"}), **more)

    (status,) = merchant.statuses()
    assert list(status.fields) == CALLBACK_KEYS
    assert status.fields == return_form(done)
    assert status.fields["rescode"] == rescode
    assert status.fields["transaction_id"] == status.fields["auth_code"] == ""
    assert "data-automatic" in done.text
    # verify proves integrity, not success.
    assert merchant.verify(status.body)["rescode"] == "0000"
    assert merchant.payment("A")["status"] == "FAILED"


def test_a_closed_browser_leaves_only_the_status(merchant, return_form):
    done = merchant.pay("close", merchant.order(payment={"order_id": "A"}))
    failed = merchant.pay("close", rescode="8327")

    assert return_form(done) is None
    assert return_form(failed) is None
    assert [item.fields["rescode"] for item in merchant.statuses()] == ["0000", "8327"]
    assert merchant.payment("A")["status"] == "SALE"


def test_a_risk_review_is_a_success_with_a_decision_pending(merchant):
    merchant.pay("review")

    fields = merchant.statuses()[0].fields
    assert (fields["rescode"], fields["dm_decision"]) == ("0000", "REVIEW")
    assert fields["dm_review"]


def test_the_return_says_yes_and_the_status_says_no(merchant, return_form):
    merchant.settings(status_delay_seconds=0.2)

    done = merchant.pay("contradict", merchant.order(payment={"order_id": "A"}))

    assert merchant.shop.received == []
    assert return_form(done)["rescode"] == "0000"
    assert merchant.statuses()[0].fields["rescode"] == "X059"
    assert merchant.retrieve("A")["rescode"] == "Q004"


def test_a_virtual_account_is_registered_and_paid_later(merchant, return_form):
    order = {"order_id": "A", "currency": "KRW", "amount": "132000"}
    done = merchant.pay("register", merchant.order(payment=order))
    question = {"currency": "KRW", "amount": "132000"}

    (registered,) = merchant.statuses()
    assert return_form(done) == registered.fields
    assert registered.fields["status"] == "REGISTERED"
    assert registered.fields["payment_method"] == "P305"
    for name in ("number", "bank_name", "depositor", "due_date"):
        assert registered.fields[f"virtual_account_{name}"]
    found = merchant.retrieve("A", **question)["payment"]
    assert (found["status"], found["balance"]) == ("REGISTERED", "0")

    merchant.sandbox.post("/_control/eximbay/payments/A/deposit").raise_for_status()

    paid = merchant.statuses()[1].fields
    assert paid["status"] == "SALE"
    assert paid["transaction_id"] == registered.fields["transaction_id"]
    found = merchant.retrieve("A", **question)["payment"]
    assert (found["status"], found["balance"]) == ("SALE", "132000")
    again = merchant.sandbox.post("/_control/eximbay/payments/A/deposit")
    assert again.status_code == 409


def test_a_convenience_store_payment_has_a_page_where_the_deposit_arrives(merchant):
    order = {"order_id": "A", "currency": "JPY", "amount": "5400", "lang": "JP"}
    merchant.pay("register", merchant.order(payment=order), method="P006")
    payment_url = merchant.statuses()[0].fields["payment_url"]

    assert "お支払い手順" in merchant.sandbox.get(payment_url).text
    merchant.sandbox.post(payment_url)

    assert merchant.statuses()[1].fields["status"] == "SALE"
    assert merchant.payment("A")["status"] == "SALE"


def test_choosing_a_deferred_method_registers_on_approval(merchant):
    order = {"order_id": "A", "currency": "KRW", "amount": "500"}
    merchant.pay("approve", merchant.order(payment=order), method="P305")

    assert merchant.payment("A")["status"] == "REGISTERED"


def test_authorize_is_auth_and_says_so(merchant):
    order = {"order_id": "A", "transaction_type": "AUTHORIZE"}
    merchant.pay("approve", merchant.order(payment=order))

    assert merchant.statuses()[0].fields["status"] == "AUTH"
    assert merchant.retrieve("A")["payment"]["status"] == "AUTH"


def test_payer_auth_charges_nothing(merchant):
    order = {"order_id": "A", "transaction_type": "PAYER_AUTH"}
    merchant.pay("approve", merchant.order(payment=order))

    (status,) = merchant.statuses()
    assert len(status.fields["payer_auth_id"]) == 24
    assert status.fields["cavv"]
    assert status.fields["xid"]
    assert status.fields["eci"]
    assert "transaction_id" not in status.fields
    assert merchant.verify(status.body)["rescode"] == "0000"
    assert merchant.retrieve("A")["rescode"] == "Q004"


def test_korean_methods_use_the_domestic_form_of_transaction_id(merchant):
    body = merchant.order(
        payment={"currency": "KRW", "amount": "500"}, settings={"issuer_country": "KR"}
    )
    merchant.pay("approve", body, method="P111")

    transaction_id = merchant.statuses()[0].fields["transaction_id"]
    assert len(transaction_id) == 24
    assert transaction_id[10] == "W"


def test_a_token_is_saved_and_charged_on_a_page(merchant):
    body = merchant.order(tokenbilling={"token_creation": "Y", "unique_token_id": "Y"})
    merchant.pay("approve", body)
    saved = merchant.statuses()[0].fields
    assert saved["token_creation"] == "Y"
    assert 0 < len(saved["token_id"]) <= 20

    rebill = merchant.order(
        payment={"order_id": "B", "transaction_type": "REBILL"},
        tokenbilling={"token_id": saved["token_id"]},
    )
    page = merchant.open_page(rebill)
    assert "4111" in page.text
    merchant.choose(page, "approve")

    assert merchant.payment("B")["status"] == "SALE"
    assert merchant.payment("B")["payment_method"] == "P101"


def test_a_card_with_a_unique_token_gets_no_second_one(merchant):
    wish = {"token_creation": "Y", "unique_token_id": "Y"}
    merchant.pay("approve", merchant.order(tokenbilling=wish))
    merchant.pay("approve", merchant.order(tokenbilling=wish))
    merchant.pay("approve", merchant.order(tokenbilling=wish), method="P102")
    merchant.pay(
        "approve", merchant.order(tokenbilling={**wish, "unique_token_id": "N"})
    )

    codes = [item.fields["rescode"] for item in merchant.statuses()]
    assert codes == ["0000", "TK01", "0000", "0000"]
    assert len(merchant.sandbox.get("/_control/eximbay/tokens").json()) == 3


def test_a_recurring_plan_is_registered(merchant):
    plan = {
        "recurring_amount": "10.50",
        "recurring_start_date": "20960131",
        "recurring_interval": "1",
    }
    merchant.pay("approve", merchant.order(recurring=plan))

    fields = merchant.statuses()[0].fields
    assert fields["recurring_payment"] == "Y"
    assert 0 < len(fields["recurring_id"]) <= 20
    assert fields["recurring_next_date"] == "20960229"
    (stored,) = merchant.sandbox.get("/_control/eximbay/plans").json()
    assert stored["recurring_id"] == fields["recurring_id"]


def test_the_domestic_account_works_with_its_own_key(merchant):
    merchant.api_key = "test_SANDBOXKR1000000DE01"
    body = merchant.order(
        merchant={"mid": "SANDBOXKR1"}, payment={"currency": "KRW", "amount": "500"}
    )
    page = merchant.open_page(body)
    assert 'value="P302"' in page.text

    merchant.choose(page, "approve")

    assert merchant.verify(merchant.statuses()[0].body)["rescode"] == "0000"


# -- switches ---------------------------------------------------------------------


def test_callbacks_can_use_the_older_names(merchant):
    merchant.settings(legacy_key_names=True)
    merchant.pay("approve")

    (status,) = merchant.statuses()
    for name in ("ver", "ref", "cur", "amt", "transid", "txntype", "cardno1"):
        assert status.fields[name]
    assert status.fields["fgkey"] == fgkey_of(status.body)


def test_amounts_can_carry_commas_and_version_another_name(merchant):
    merchant.settings(comma_amounts=True, version_key="ver")
    merchant.pay(
        "approve", merchant.order(payment={"currency": "KRW", "amount": "132000"})
    )

    (status,) = merchant.statuses()
    assert status.fields["amount"] == "132,000"
    assert status.fields["ver"] == "230"
    assert merchant.verify(status.body)["rescode"] == "0000"


def test_a_tampered_fgkey_does_not_verify(merchant):
    merchant.settings(tamper_fgkey=True)
    merchant.pay("approve")

    assert merchant.verify(merchant.statuses()[0].body)["rescode"] == "VE00"


@pytest.mark.parametrize(
    ("value", "expected"), [("always", "SALE"), (True, "SALE"), ("never", None)]
)
def test_status_in_callbacks_is_a_switch(merchant, value, expected):
    merchant.settings(status_in_callback=value)
    merchant.pay("approve")

    assert merchant.statuses()[0].fields.get("status") == expected


def test_errcode_can_be_told(merchant):
    merchant.settings(errcode_in_callback=True)
    merchant.pay("decline", rescode="HE01")

    assert merchant.statuses()[0].fields["errcode"] == "EXPIRED_CARD"


def test_status_only_and_return_only(merchant, return_form):
    merchant.settings(status_only=True)
    assert return_form(merchant.pay("approve")) is None
    assert len(merchant.statuses()) == 1

    merchant.settings(status_only=False, return_only=True)
    assert return_form(merchant.pay("approve")) is not None
    assert len(merchant.statuses()) == 1


def test_the_return_can_be_a_get(merchant, return_form):
    merchant.settings(return_method="GET")
    done = merchant.pay("approve")

    assert return_form(done) is None
    assert f'href="{merchant.shop.origin}/return/?card_number4=1111&amp;' in done.text
