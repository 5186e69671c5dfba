"""Excoinz ExPay in the sandbox against its public pages, over real sockets."""

import html
import json
import re
import socket
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import pytest

CLIENT_ID = "SANDBOXEXPAY"
SECRET_KEY = "sk_sandbox_expay_4f1d0c7b9a2e4d6f"
OTHER_CLIENT_ID = "SANDBOXOTHER"
OTHER_SECRET_KEY = "sk_sandbox_other_8b3a6e5d1c0f4a92"
WEBHOOK_KEYS = ["secret", "txId", "state", "amount", "symbol", "refId"]


class ExPayMerchant:
    """A shop's server and its buyer, as the document describes them."""

    def __init__(self, sandbox, shop):
        self.sandbox = sandbox
        self.shop = shop
        self._orders = 0

    def order(self, **changes):
        """A good body of `/payment/ready`; None drops a field."""
        self._orders += 1
        body = {
            "client_id": CLIENT_ID,
            "item_name": "Green tea",
            "item_img_url": "https://shop.example/tea.png",
            "partner_order_id": f"BILL-{self._orders}",
            "partner_user_id": "user-7",
            "amount": "12.50",
            "locale": "en",
        } | changes
        return {name: value for name, value in body.items() if value is not None}

    def ready(self, body, secret=SECRET_KEY, **headers):
        header = {"EXCOINZ_SECRET": f"Bearer {secret}"} | headers
        return self.sandbox.post("/excoinz/payment/ready", json=body, headers=header)

    def open_page(self, **changes):
        """The URL of the hosted page of a new order."""
        answer = self.ready(self.order(**changes))
        return answer.raise_for_status().json()["redirect_url"]

    def choose(self, page, outcome):
        return self.sandbox.post(page, data={"outcome": outcome})

    def settings(self, **changes):
        self.sandbox.post(
            "/_control/settings", json={"excoinz": changes}
        ).raise_for_status()

    def control(self, method, path, **body):
        return self.sandbox.request(
            method, f"/_control/excoinz/payments{path}", json=body or None
        )

    def payment(self, reference="BILL-1"):
        return self.control("GET", f"/{reference}").raise_for_status().json()

    def press(self, outcome, reference="BILL-1"):
        return self.control("POST", f"/{reference}/outcome", outcome=outcome)

    def webhooks(self):
        """The bodies the shop received, once nothing is under way."""
        self.sandbox.post("/_control/callbacks/flush").raise_for_status()
        return [json.loads(item.body) for item in self.shop.received]

    def forward(self, seconds):
        self.sandbox.post("/_control/clock", json={"advance_seconds": seconds})


@pytest.fixture
def merchant(sandbox, shop):
    merchant = ExPayMerchant(sandbox, shop)
    merchant.settings(webhook_url=f"{shop.origin}/webhook/")
    return merchant


# -- the call ---------------------------------------------------------------------


def test_ready_answers_one_field_in_the_documented_shape(merchant):
    answer = merchant.ready(merchant.order())

    assert answer.status_code == 200
    assert list(answer.json()) == ["redirect_url"]
    url = urlsplit(answer.json()["redirect_url"])
    assert url.path == "/excoinz/pay/payment"
    query = parse_qs(url.query, strict_parsing=True)
    assert list(query) == ["locale", "t"]
    assert query["locale"] == ["en"]
    assert query["t"][0]


def test_an_unknown_client_is_the_documented_error(merchant):
    answer = merchant.ready(merchant.order(client_id="NOBODY"))

    assert answer.status_code == 400
    assert answer.json() == {"code": -101, "message": "Invalid Client ID"}


def test_the_client_of_another_secret_is_unknown(merchant):
    answer = merchant.ready(merchant.order(client_id=OTHER_CLIENT_ID))

    assert answer.json()["code"] == -101
    good = merchant.order(client_id=OTHER_CLIENT_ID)
    assert merchant.ready(good, OTHER_SECRET_KEY).status_code == 200


@pytest.mark.parametrize("client_id", [None, 12, "", CLIENT_ID.lower()])
def test_a_wrong_client_id_of_any_type_is_unknown(merchant, client_id):
    body = merchant.order() | {"client_id": client_id}

    assert merchant.ready(body).json()["code"] == -101


def over_a_socket(sandbox, header):
    """The answer to a request of exactly these bytes."""
    body = json.dumps(
        {
            "client_id": CLIENT_ID,
            "item_name": "Tea",
            "item_img_url": "",
            "partner_order_id": "RAW-1",
            "partner_user_id": "",
            "amount": "1",
            "locale": "ko",
        }
    ).encode()
    address = sandbox.base_url
    with socket.create_connection((address.host, address.port), timeout=10) as wire:
        wire.sendall(
            b"POST /excoinz/payment/ready HTTP/1.1\r\nHost: sandbox\r\n"
            b"Content-Type: application/json\r\nConnection: close\r\n"
            + f"{header}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return b"".join(iter(lambda: wire.recv(65_536), b"")).decode()


def test_the_underscore_of_the_header_arrives(sandbox):
    answer = over_a_socket(sandbox, f"EXCOINZ_SECRET: Bearer {SECRET_KEY}")

    assert answer.startswith("HTTP/1.1 200")
    assert "redirect_url" in answer


@pytest.mark.parametrize(
    "header",
    [
        f"EXCOINZ-SECRET: Bearer {SECRET_KEY}",
        f"EXCOINZ_SECRET: {SECRET_KEY}",
        f"EXCOINZ_SECRET: bearer {SECRET_KEY}",
        f"EXCOINZ_SECRET: Bearer  {SECRET_KEY}",
        f"EXCOINZ_SECRET: Bearer {SECRET_KEY}x",
        f"EXCOINZ_SECRET: Bearer {SECRET_KEY}\r\nEXCOINZ_SECRET: Bearer {SECRET_KEY}",
        f"Authorization: Bearer {SECRET_KEY}",
        "EXCOINZ_SECRET: Bearer",
        "X-Nothing: 1",
    ],
)
def test_any_other_header_is_refused(sandbox, header):
    answer = over_a_socket(sandbox, header)

    assert answer.startswith("HTTP/1.1 401")
    assert json.loads(answer.rpartition("\r\n\r\n")[2])["code"] == -102
    assert sandbox.get("/_control/excoinz/payments").json() == []


def test_the_secret_stays_out_of_the_books(merchant):
    merchant.ready(merchant.order())

    (entry,) = merchant.sandbox.get("/_control/requests?provider=excoinz").json()
    assert entry["operation"] == "ready"
    assert entry["headers"]["excoinz_secret"] == "[redacted]"
    assert SECRET_KEY not in json.dumps(entry)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"amount": 12.5}, "amount"),
        ({"amount": 12}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "0.000"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "+1"}, "amount"),
        ({"amount": "1,000"}, "amount"),
        ({"amount": "1e3"}, "amount"),
        ({"amount": "01"}, "amount"),
        ({"amount": "1."}, "amount"),
        ({"amount": ".5"}, "amount"),
        ({"amount": " 1"}, "amount"),
        ({"amount": "1\n"}, "amount"),
        ({"amount": "\uff11"}, "amount"),
        ({"amount": "1.0000001"}, "amount"),
        ({"amount": "1" * 25}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"locale": "EN"}, "locale"),
        ({"locale": "ja"}, "locale"),
        ({"locale": ""}, "locale"),
        ({"item_name": ""}, "item_name"),
        ({"item_name": ["Tea"]}, "item_name"),
        ({"item_img_url": "/tea.png"}, "item_img_url"),
        ({"item_img_url": "javascript:alert(1)"}, "item_img_url"),
        ({"item_img_url": "https://[bad"}, "item_img_url"),
        ({"partner_order_id": ""}, "partner_order_id"),
        ({"partner_order_id": 17}, "partner_order_id"),
        ({"partner_order_id": "x" * 101}, "partner_order_id"),
        ({"partner_user_id": "x" * 101}, "partner_user_id"),
        ({"partner_user_id": 7}, "partner_user_id"),
        ({"currency": "USDT"}, "currency"),
        ({"item_name": None}, "item_name"),
        ({"item_img_url": None}, "item_img_url"),
        ({"partner_order_id": None}, "partner_order_id"),
        ({"partner_user_id": None}, "partner_user_id"),
        ({"amount": None}, "amount"),
        ({"locale": None}, "locale"),
    ],
)
def test_a_wrong_field_is_refused_and_named(merchant, changes, named):
    answer = merchant.ready(merchant.order(**changes))

    assert answer.status_code == 400
    assert list(answer.json()) == ["code", "message"]
    assert answer.json()["code"] == -103
    assert named in answer.json()["message"]
    assert merchant.control("GET", "").json() == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b"\xff", b'{"item_name": "\\ud800"}'],
)
def test_a_body_that_is_no_json_object_is_refused(merchant, content):
    answer = merchant.sandbox.post(
        "/excoinz/payment/ready",
        content=content,
        headers={
            "EXCOINZ_SECRET": f"Bearer {SECRET_KEY}",
            "Content-Type": "application/json",
        },
    )

    assert (answer.status_code, answer.json()["code"]) == (400, -103)


def test_a_form_is_refused(merchant):
    answer = merchant.sandbox.post(
        "/excoinz/payment/ready",
        data=merchant.order(),
        headers={"EXCOINZ_SECRET": f"Bearer {SECRET_KEY}"},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, -103)


def test_picture_and_user_may_be_empty(merchant):
    body = merchant.order(item_img_url="", partner_user_id="")

    assert merchant.ready(body).status_code == 200


def test_the_strictness_can_be_switched(merchant):
    merchant.settings(
        require_all_fields=False,
        refuse_unknown_fields=False,
        auth_error_status=403,
        request_error_status=422,
        amount_decimals=0,
    )
    few = merchant.order(
        item_img_url=None, partner_user_id=None, locale=None, amount="5"
    )

    assert merchant.ready(few | {"note": "x"}).status_code == 200
    assert "locale=en" in merchant.payment()["redirect_url"]
    assert merchant.ready(merchant.order(amount="5.5")).status_code == 422
    assert merchant.ready(merchant.order(item_name=None)).status_code == 422
    assert merchant.ready(merchant.order(), "wrong").status_code == 403


def test_other_addresses_and_methods_answer_in_the_gateways_form(merchant):
    unknown = merchant.sandbox.post("/excoinz/payment/refund")
    wrong = merchant.sandbox.get("/excoinz/payment/ready")

    assert (unknown.status_code, wrong.status_code) == (404, 405)
    for answer in (unknown, wrong):
        assert list(answer.json()) == ["code", "message"]


# -- a used partner_order_id --------------------------------------------------------


def test_a_used_order_id_is_refused_and_the_first_payment_stays(merchant):
    body = merchant.order()
    merchant.ready(body)

    again = merchant.ready(body | {"amount": "1"})

    assert again.status_code == 400
    assert again.json()["code"] == -104
    assert merchant.payment()["amount"] == "12.50"
    merchant.settings(duplicate_order_status=409)
    assert merchant.ready(body).status_code == 409


def test_a_used_order_id_can_get_its_first_url_again(merchant):
    merchant.settings(duplicate_order_answer="repeat")
    body = merchant.order()

    first, second = merchant.ready(body).json(), merchant.ready(body).json()

    assert first == second
    assert len(merchant.control("GET", "").json()) == 1


def test_a_used_order_id_can_get_a_page_that_refuses(merchant):
    merchant.settings(duplicate_order_answer="page")
    body = merchant.order()
    merchant.ready(body)

    page = merchant.ready(body).raise_for_status().json()["redirect_url"]

    assert merchant.sandbox.get(page).status_code == 404
    assert merchant.choose(page, "approve").status_code == 404
    assert merchant.payment()["charges"] == 0


def test_two_merchants_may_use_the_same_order_id(merchant):
    merchant.ready(merchant.order(partner_order_id="SAME"))
    other = merchant.order(partner_order_id="SAME", client_id=OTHER_CLIENT_ID)

    assert merchant.ready(other, OTHER_SECRET_KEY).status_code == 200

    merchant.press("approve", "SAME")
    assert merchant.webhooks()[0]["secret"] == OTHER_SECRET_KEY


def test_a_lost_answer_has_used_the_order_id(merchant):
    fault = {"provider": "excoinz", "operation": "ready", "fault": "html"}
    merchant.sandbox.post("/_control/faults", json=fault)
    body = merchant.order()

    assert "<html>" in merchant.ready(body).text

    assert merchant.ready(body).json()["code"] == -104


# -- the hosted page ----------------------------------------------------------------


def test_the_page_shows_the_order_and_escapes_it(merchant):
    page = merchant.sandbox.get(merchant.open_page(item_name="<b>Tea</b>"))

    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "&lt;b&gt;Tea&lt;/b&gt;" in page.text
    assert "12.50 USDT" in page.text
    assert 'src="https://shop.example/tea.png"' in page.text
    assert "<script" not in page.text


@pytest.mark.parametrize(
    ("locale", "word", "html_lang"),
    [
        ("en", "Pay from your wallet", "en"),
        ("cn", "从您的钱包付款", "zh-Hans"),
        ("ko", "지갑에서 결제하기", "ko"),
    ],
)
def test_the_page_speaks_the_locale(merchant, locale, word, html_lang):
    page = merchant.sandbox.get(merchant.open_page(locale=locale))

    assert word in page.text
    assert f'<html lang="{html_lang}">' in page.text


def test_an_unknown_token_opens_nothing(merchant):
    page = merchant.sandbox.get("/excoinz/pay/payment?locale=xx&t=guess")

    assert page.status_code == 404
    assert "cannot be opened" in page.text
    assert merchant.sandbox.get("/excoinz/pay/payment").status_code == 404


@pytest.mark.parametrize(
    ("outcome", "state", "amount", "charges"),
    [
        ("approve", "success", "12.50", 1),
        ("decline", "fail", "0", 0),
        ("cancel", "fail", "0", 0),
        ("expire", "fail", "0", 0),
        ("underpay", "success", "6.250000", 1),
        ("overpay", "success", "18.750000", 1),
        ("pending", "pending", "12.50", 0),
    ],
)
def test_each_button_sends_the_six_documented_fields(
    merchant, outcome, state, amount, charges
):
    page = merchant.open_page()
    assert f'name="outcome" value="{outcome}"' in merchant.sandbox.get(page).text

    last = merchant.choose(page, outcome)

    assert last.status_code == 200
    payment = merchant.payment()
    (webhook,) = merchant.webhooks()
    assert list(webhook) == WEBHOOK_KEYS
    assert webhook == {
        "secret": SECRET_KEY,
        "txId": "BILL-1",
        "state": state,
        "amount": amount,
        "symbol": "USDT",
        "refId": payment["provider_reference"],
    }
    assert (payment["status"], payment["charges"]) == (state, charges)
    (incoming,) = merchant.shop.received
    assert incoming.path == "/webhook/"
    assert incoming.content_type == "application/json"


def test_an_unknown_button_is_a_problem_on_the_page(merchant):
    answer = merchant.choose(merchant.open_page(), "steal")

    assert answer.status_code == 400
    assert "use one of approve" in html.unescape(answer.text)
    assert merchant.payment()["status"] == "ready"


@pytest.mark.parametrize("first", ["approve", "decline", "underpay"])
def test_a_final_order_is_closed(merchant, first):
    page = merchant.open_page()
    merchant.choose(page, first)
    before = merchant.payment()

    again = merchant.choose(page, "approve")
    merchant.press("approve")

    assert "<button" not in again.text
    assert merchant.payment() == before
    assert len(merchant.webhooks()) == 1


@pytest.mark.parametrize(
    ("then", "state", "charges"), [("approve", "success", 1), ("decline", "fail", 0)]
)
def test_a_pending_order_can_still_end(merchant, then, state, charges):
    page = merchant.open_page()
    waiting = merchant.choose(page, "pending")
    assert 'value="approve"' in waiting.text
    assert 'value="cancel"' not in waiting.text

    merchant.choose(page, then)

    assert [item["state"] for item in merchant.webhooks()] == ["pending", state]
    assert merchant.payment()["charges"] == charges


def test_the_last_page_only_says_that_it_is_done(merchant):
    done = merchant.choose(merchant.open_page(), "approve")

    assert "Payment complete" in done.text
    assert "returnLink" not in done.text
    assert "<form" not in done.text


def test_the_last_page_can_link_back(merchant):
    merchant.settings(return_url="https://shop.example/thanks/")

    done = merchant.choose(merchant.open_page(), "decline")

    link = re.search(r'id="returnLink" href="([^"]*)"', done.text)
    assert link is not None
    assert link[1] == "https://shop.example/thanks/"


def test_an_unpaid_page_expires_by_the_clock(merchant):
    page = merchant.open_page()
    merchant.forward(3599)
    assert merchant.payment()["status"] == "ready"

    merchant.forward(2)

    assert "Payment not completed" in merchant.choose(page, "approve").text
    assert [item["state"] for item in merchant.webhooks()] == ["fail"]
    assert merchant.payment()["charges"] == 0


def test_unpaid_pages_have_expired_when_the_clock_answers(merchant):
    merchant.settings(page_lifetime_seconds=60)
    merchant.open_page()
    merchant.open_page()
    merchant.choose(merchant.open_page(), "pending")

    merchant.forward(61)

    told = [(item["txId"], item["state"]) for item in merchant.webhooks()]
    assert told[0] == ("BILL-3", "pending")
    assert sorted(told[1:]) == [("BILL-1", "fail"), ("BILL-2", "fail")]
    listed = merchant.control("GET", "").json()
    assert [item["status"] for item in listed] == ["fail", "fail", "pending"]


def test_a_page_expires_in_real_time_too(merchant):
    merchant.settings(page_lifetime_seconds=0)
    merchant.open_page()

    assert [item["state"] for item in merchant.webhooks()] == ["fail"]


# -- the webhook --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ({"wrong_secret": True}, "secret", f"not-{SECRET_KEY}"),
        ({"webhook_secret": "whsec"}, "secret", "whsec"),
        ({"null_ref_id": True}, "refId", None),
        ({"amount_differs": True}, "amount", "13.50"),
        ({"status_word": "settled"}, "state", "settled"),
    ],
)
def test_a_switch_spoils_one_field(merchant, setting, field, value):
    merchant.settings(**setting)
    merchant.choose(merchant.open_page(), "approve")

    (webhook,) = merchant.webhooks()

    right = {
        "secret": SECRET_KEY,
        "txId": "BILL-1",
        "state": "success",
        "amount": "12.50",
        "symbol": "USDT",
        "refId": merchant.payment()["provider_reference"],
    }
    assert webhook == right | {field: value}


def test_a_fail_can_say_what_was_asked_for(merchant):
    merchant.settings(fail_amount="requested")
    merchant.choose(merchant.open_page(), "cancel")

    assert merchant.webhooks()[0]["amount"] == "12.50"


def test_duplicates_are_the_very_same_body(merchant):
    merchant.settings(duplicate_status=2)
    merchant.choose(merchant.open_page(), "approve")

    assert len(merchant.webhooks()) == 3
    assert len({item.body for item in merchant.shop.received}) == 1
    assert merchant.payment()["charges"] == 1


def test_a_webhook_is_sent_until_the_shop_answers_2xx(merchant):
    merchant.settings(
        webhook_url="http://127.0.0.1:9/", retry_delay_seconds=3600, retry_count=2
    )
    merchant.choose(merchant.open_page(), "approve")
    (entry,) = merchant.sandbox.get("/_control/callbacks?provider=excoinz").json()
    assert (entry["kind"], entry["order_id"]) == ("webhook", "BILL-1")
    assert (len(entry["attempts"]), entry["delivered"]) == (1, False)

    merchant.forward(3601)
    merchant.webhooks()

    (entry,) = merchant.sandbox.get("/_control/callbacks?provider=excoinz").json()
    assert (len(entry["attempts"]), entry["delivered"]) == (2, False)


@pytest.mark.parametrize("off", [{"webhook_url": ""}, {"callbacks_enabled": False}])
def test_a_webhook_can_be_recorded_only(merchant, off):
    merchant.settings(**off)
    merchant.choose(merchant.open_page(), "approve")

    assert merchant.webhooks() == []
    (entry,) = merchant.sandbox.get("/_control/callbacks").json()
    assert json.loads(entry["body"])["state"] == "success"
    assert merchant.payment()["callbacks"] == [entry["id"]]


def test_the_webhook_can_be_later_than_the_page(merchant):
    merchant.settings(send_status_before_return=False, status_delay_seconds=3600)
    page = merchant.open_page()

    assert "Payment complete" in merchant.choose(page, "approve").text

    assert merchant.shop.received == []
    merchant.forward(3601)
    assert len(merchant.webhooks()) == 1


# -- the control API ------------------------------------------------------------------


def test_the_books_have_the_uniform_keys(merchant):
    merchant.open_page()
    merchant.open_page()

    first, second = merchant.control("GET", "").json()

    assert (first["reference"], second["reference"]) == ("BILL-1", "BILL-2")
    assert first["provider_reference"] != second["provider_reference"]
    assert (
        first.items()
        >= {
            "status": "ready",
            "amount": "12.50",
            "currency": "USDT",
            "paid_amount": "0",
            "refunded": "0",
            "refunds": [],
            "charges": 0,
            "client_id": CLIENT_ID,
            "partner_user_id": "user-7",
        }.items()
    )
    assert datetime.fromisoformat(first["created_at"]).tzinfo
    assert merchant.control("GET", "/nobody").status_code == 404


def test_a_program_presses_the_same_buttons(merchant):
    merchant.open_page()

    answer = merchant.press("underpay").json()

    assert answer == {
        "return_url": None,
        "return_method": "GET",
        "return_fields": {},
        "payment": merchant.payment(),
    }
    assert answer["payment"]["status"] == "success"
    assert answer["payment"]["paid_amount"] == "6.250000"
    assert len(merchant.webhooks()) == 1


def test_the_return_of_a_program_is_the_link_of_the_page(merchant):
    merchant.settings(return_url="https://shop.example/thanks/")
    merchant.open_page()

    answer = merchant.press("approve").json()

    assert answer["return_url"] == "https://shop.example/thanks/"


def test_an_unknown_outcome_names_the_known_ones(merchant):
    merchant.open_page()

    answer = merchant.press("refund")

    assert answer.status_code == 400
    assert (
        "use one of approve, decline, cancel, expire, underpay, overpay, pending"
        in answer.json()["error"]
    )
    assert merchant.press("approve", "nobody").status_code == 404


def test_a_webhook_can_be_forged_with_the_right_secret(merchant):
    merchant.open_page()

    forged = merchant.control(
        "POST", "/BILL-1/callback", amount="0.01", refId=None, send=False
    ).json()

    assert json.loads(forged["body"]) == {
        "secret": SECRET_KEY,
        "txId": "BILL-1",
        "state": "success",
        "amount": "0.01",
        "symbol": "USDT",
    }
    assert forged["headers"] == {"Content-Type": "application/json"}
    assert forged["callback"] is None
    assert merchant.webhooks() == []
    assert merchant.payment()["status"] == "ready"


def test_a_forged_webhook_can_go_elsewhere(merchant):
    merchant.open_page()

    sent = merchant.control(
        "POST", "/BILL-1/callback", txId="X", url=f"{merchant.shop.origin}/elsewhere/"
    ).json()

    assert sent["callback"]["delivered"]
    assert merchant.shop.received[0].path == "/elsewhere/"
    assert merchant.webhooks()[0]["txId"] == "X"


def test_a_forged_webhook_without_an_address_is_only_recorded(merchant):
    merchant.settings(webhook_url="")
    merchant.open_page()

    sent = merchant.control("POST", "/BILL-1/callback").json()

    assert sent["callback"]["attempts"] == []


def test_the_control_page_lists_the_order_with_its_actions(merchant):
    merchant.choose(merchant.open_page(partner_order_id="<1>"), "pending")

    page = merchant.sandbox.get("/_control/").text

    assert "&lt;1&gt;" in page
    action = "/_control/excoinz/payments/%3C1%3E/outcome?outcome=approve"
    assert f'data-send="{action}"' in page
    merchant.sandbox.post(action).raise_for_status()
    assert merchant.payment("<1>")["status"] == "success"
    assert f'data-send="{action}"' not in merchant.sandbox.get("/_control/").text


def test_a_reset_forgets_orders_and_pages(merchant):
    page = merchant.open_page()
    merchant.sandbox.post("/_control/reset")

    assert merchant.control("GET", "").json() == []
    assert merchant.sandbox.get(page).status_code == 404
