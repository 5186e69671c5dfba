"""Clink in the sandbox: the document's own example, its rules, pages and webhooks."""

import base64
import hashlib
import hmac
import json
import re
import struct
import time
import zlib
from decimal import Decimal

import pytest
import segno

KEY = "sk_test_clinkSandbox1a2b3c4d5e6f7a8b"
SECRET = "whsec_clinkSandbox1a2b3c4d5e6f7a8b"
OTHER_KEY = "sk_test_clinkSandbox2b3c4d5e6f7a8b9c"
OTHER_SECRET = "whsec_clinkSandbox2b3c4d5e6f7a8b9c"
DAY = 86_400
MONTHLY = {
    "productId": "prd_sandbox_tea",
    "priceId": "price_sandbox_tea_monthly",
}
ONCE = {"productId": "prd_sandbox_tea", "priceId": "price_sandbox_tea_once"}

# The sample of the reference page; its ids are placeholders there.
DOCUMENTED_PAYMENT = {
    "customerId": "cus_xxxxx",
    "productId": "prd_xxxxx",
    "priceId": "price_xxxxx",
    "paymentInstrumentId": "pi_xxxxx",
    "paymentMethodType": "CARD",
    "returnUrl": "https://merchant.example.com/payment/return",
    "merchantReferenceId": "pay_ref_123",
    "platformType": "WEB",
    "deviceType": "Android",
}
ORDER_KEYS = {
    "orderId",
    "type",
    "merchantReferenceId",
    "sessionId",
    "invoiceId",
    "customerId",
    "customerEmail",
    "createTime",
    "productId",
    "priceId",
    "priceDataList",
    "paymentMethod",
    "paymentExecutionDetails",
    "amountSubtotal",
    "amountTotal",
    "paymentCurrency",
    "originalCurrency",
    "status",
    "failureCode",
    "failureMessage",
    "paymentTime",
    "metadata",
    "riskLevel",
}
WALLET_KEYS = {
    "imageUrlPng",
    "imageUrlSvg",
    "imageDataUrl",
    "hostedInstructionsUrl",
    "mobileAuthUrl",
    "fallbackUrl",
    "packageName",
    "expiresAt",
    "expiresSecond",
}


class Merchant:
    """Speaks to the sandbox as a shop's server does, and as its buyers do."""

    def __init__(self, sandbox, shop):
        self.sandbox = sandbox
        self.shop = shop
        self.key = KEY
        self.settings(webhook_url=f"{shop.origin}/webhook/", retry_delay_seconds=0)

    def settings(self, **changes):
        answer = self.sandbox.post("/_control/settings", json={"clink": changes})
        answer.raise_for_status()

    def raw(self, method, path, body=None, **headers):
        known = {"X-API-KEY": self.key, "X-Timestamp": str(now_ms())}
        given = {name: text for name, text in (known | headers).items() if text}
        return self.sandbox.request(
            method, f"/clink/api{path}", json=body, headers=given
        )

    def post(self, path, body=None):
        return read(self.raw("POST", path, body))

    def get(self, path):
        return read(self.raw("GET", path))

    def session(self, **changes):
        body = {
            "originalAmount": 26.3,
            "originalCurrency": "USD",
            "customerEmail": "buyer@example.com",
            "merchantReferenceId": "REF-1",
            "successUrl": "https://shop.example/thanks?order=1",
            "cancelUrl": "https://shop.example/cart",
        }
        return self.post("/checkout/session", without_none(body | changes))

    def direct(self, **changes):
        body = {
            "customerEmail": "buyer@example.com",
            "paymentMethodType": "CASHAPP",
            "returnUrl": "https://shop.example/return",
            "amount": 12.5,
            "currency": "USD",
            "merchantReferenceId": "REF-1",
        }
        return self.post("/payment", without_none(body | changes))

    def saved_card(self):
        """The customer and the card he kept at a checkout."""
        self.session(merchantReferenceId="FIRST")
        self.outcome("approve", reference="FIRST", save_card=True)
        kept = self.payment("FIRST")
        return {
            "customerId": kept["customer_id"],
            "customerEmail": None,
            "paymentMethodType": "CARD",
            "paymentInstrumentId": kept["payment_instrument_id"],
        }

    def paid_order(self, reference="REF-1", **changes):
        self.session(merchantReferenceId=reference, **changes)
        self.outcome("approve", reference=reference)
        return self.payment(reference)["order_id"]

    def refund(self, order_id, amount, merchant_id="RF-1", **more):
        body = {
            "orderId": order_id,
            "refundMerchantOrderId": merchant_id,
            "refundAmount": amount,
        }
        return self.post("/refund", body | more)

    def subscribe(self, **changes):
        body = {
            **MONTHLY,
            "paymentCurrency": "USD",
            "returnUrl": "https://shop.example/return",
            "merchantReferenceId": "SUB-1",
            **self.saved_card(),
        }
        return self.post("/subscription", without_none(body | changes))

    def try_outcome(self, outcome, reference="REF-1", **more):
        return self.sandbox.post(
            f"/_control/clink/payments/{reference}/outcome",
            json={"outcome": outcome, **more},
        )

    def outcome(self, outcome, reference="REF-1", **more):
        answer = self.try_outcome(outcome, reference, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def payment(self, reference="REF-1"):
        return self.sandbox.get(f"/_control/clink/payments/{reference}").json()

    def advance(self, seconds):
        self.sandbox.post("/_control/clock", json={"advance_seconds": seconds})

    def callbacks(self):
        return self.sandbox.get("/_control/callbacks?provider=clink").json()

    def kinds(self):
        return [item["kind"] for item in self.callbacks()]

    def events(self, kind):
        """What the shop was sent of this kind, in its order of arrival."""
        self.sandbox.post("/_control/callbacks/flush")
        bodies = [json.loads(item.body) for item in self.shop.received]
        return [body for body in bodies if body["type"] == kind]


@pytest.fixture
def clink(sandbox, shop):
    return Merchant(sandbox, shop)


def now_ms():
    return int(time.time() * 1000)


def without_none(body):
    return {name: value for name, value in body.items() if value is not None}


def read(answer):
    """An envelope, with amounts as they are written."""
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


def signature_of(secret, timestamp, body):
    """Written again from the rule, so that the sandbox cannot vouch for itself."""
    text = (timestamp + "." + body).encode()
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


# -- who may call -----------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-KEY": ""},
        {"X-API-KEY": "sk_test_unknown"},
        {"X-API-KEY": "pk_test_clinkSandbox1a2b3c4d5e6f7a8b"},
        {"X-Timestamp": ""},
        {"X-Timestamp": "yesterday"},
        {"X-Timestamp": str(int(time.time()))},
    ],
)
def test_a_call_without_good_headers_is_401_with_a_plain_string(clink, headers):
    answer = clink.raw("GET", "/order", **headers)

    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/plain")
    assert "{" not in answer.text


def test_a_timestamp_more_than_two_minutes_away_is_refused(clink):
    for offset, status in ((-125, 401), (-115, 200), (115, 200), (125, 401)):
        stamp = str(now_ms() + offset * 1000)
        answer = clink.raw("GET", "/order", **{"X-Timestamp": stamp})
        assert answer.status_code == status, offset

    clink.settings(timestamp_skew_seconds=10_000)
    assert (
        clink.raw(
            "GET", "/order", **{"X-Timestamp": str(now_ms() - 9_000_000)}
        ).status_code
        == 200
    )


def test_both_clocks_are_good_after_the_sandbox_clock_moved(clink):
    clink.advance(DAY)

    for stamp in (now_ms(), now_ms() + DAY * 1000):
        answer = clink.raw("GET", "/order", **{"X-Timestamp": str(stamp)})
        assert answer.status_code == 200


def test_what_one_merchant_has_another_never_finds(clink):
    session = clink.session()["data"]
    order = clink.paid_order("REF-2")
    refund = clink.refund(order, 1)["data"]["refundId"]
    clink.key = OTHER_KEY

    for path in (
        f"/checkout/session/{session['sessionId']}",
        f"/order/{order}",
        f"/refund/{refund}",
    ):
        assert clink.get(path)["code"] == 404
    assert clink.get("/order")["total"] == 0
    assert clink.refund(order, 1, "RF-9")["code"] == 404
    # The customer of the one is unknown to the other.
    assert clink.session(customerId=session["customerId"])["msg"] == (
        "CUSTOMER_NOT_FOUND"
    )


def test_an_unknown_path_and_a_wrong_method_come_in_the_envelope(clink):
    missing = clink.raw("GET", "/orders")
    wrong = clink.raw("DELETE", "/order")

    assert (missing.status_code, missing.json()["code"]) == (404, 404)
    assert (wrong.status_code, wrong.json()["code"]) == (405, 405)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"originalAmount": NaN}', "application/json"),
        (b"{}", "text/plain"),
    ],
)
def test_a_body_that_is_no_json_object_is_400_in_an_http_200(
    clink, content, media_type
):
    answer = clink.sandbox.post(
        "/clink/api/checkout/session",
        content=content,
        headers={
            "X-API-KEY": KEY,
            "X-Timestamp": str(now_ms()),
            "Content-Type": media_type,
        },
    )

    assert (answer.status_code, answer.json()["code"]) == (200, 400)
    assert answer.json()["data"] is None


def test_the_http_status_of_refusals_can_be_changed(clink):
    clink.settings(business_error_status=422)

    assert clink.raw("GET", "/order/order_unknown").status_code == 422


# -- checkout sessions ------------------------------------------------------------


def test_a_session_is_answered_as_documented(clink):
    answer = clink.session()

    assert (answer["code"], answer["msg"]) == (200, "success")
    data = answer["data"]
    assert set(data) == {
        "sessionId",
        "tokenValue",
        "customerId",
        "originalAmount",
        "originalCurrency",
        "uiMode",
        "returnUrl",
        "url",
        "merchantReferenceId",
        "expireTime",
    }
    assert data["sessionId"].startswith("sess_")
    assert data["customerId"].startswith("cus_")
    assert data["originalAmount"] == Decimal("26.3")
    assert data["url"].endswith(f"/clink/pay/{data['sessionId']}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data["expireTime"])


def test_an_inquiry_shows_an_open_session_without_an_order(clink):
    session = clink.session()["data"]

    seen = clink.get(f"/checkout/session/{session['sessionId']}")["data"]

    assert (seen["status"], seen["paymentStatus"]) == ("open", "unpaid")
    assert seen["orderId"] is None
    assert seen["amountTotal"] == Decimal("26.3")
    assert seen["customer"] == {
        "customerId": session["customerId"],
        "email": "buyer@example.com",
    }


def test_the_same_reference_twice_is_two_sessions(clink):
    first, second = clink.session()["data"], clink.session()["data"]

    assert first["sessionId"] != second["sessionId"]
    clink.outcome("approve", reference=first["sessionId"])
    clink.outcome("approve", reference=second["sessionId"])
    assert clink.payment("REF-1")["charges"] == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"originalAmount": None}, "originalAmount"),
        ({"originalAmount": "26.30"}, "originalAmount"),
        ({"originalAmount": 0}, "originalAmount"),
        ({"originalAmount": -1}, "originalAmount"),
        ({"originalAmount": True}, "originalAmount"),
        ({"originalAmount": 1.234}, "decimals"),
        ({"originalCurrency": "KRW", "originalAmount": 1.5}, "decimals"),
        ({"originalCurrency": "usd"}, "originalCurrency"),
        ({"originalCurrency": None}, "originalCurrency"),
        ({"successUrl": "/thanks"}, "successUrl"),
        ({"cancelUrl": "javascript:alert(1)"}, "cancelUrl"),
        ({"customerEmail": "nobody"}, "customerEmail"),
        ({"merchantReferenceId": 7}, "merchantReferenceId"),
        ({"merchantReferenceId": ""}, "merchantReferenceId"),
        ({"uiMode": "popup"}, "uiMode"),
        ({"uiMode": "elements"}, "returnUrl"),
        ({"paymentMethodType": "card"}, "paymentMethodType"),
        ({"paymentMethodTypeBlackList": ["TNG"]}, "paymentMethodTypeBlackList"),
        ({"priceId": "price_sandbox_tea_once"}, "productId"),
        ({"priceId": "price_x", "productId": "prd_x"}, "price"),
        ({**ONCE, "productId": "prd_sandbox_kimchi"}, "productId"),
        ({**ONCE, "originalAmount": 19.98}, "originalAmount"),
        ({"priceDataList": [{"name": "Tea"}]}, "unitAmount"),
        ({"priceDataList": [{"name": "Tea", "unitAmount": 26}]}, "adds up"),
        (
            {"priceDataList": [{"name": "Tea", "unitAmount": 26.3, "quantity": 0}]},
            "quantity",
        ),
        (
            {"priceDataList": [{"name": "Tea", "unitAmount": 26.3, "currency": "EUR"}]},
            "currency",
        ),
        ({"promotionCode": "TEN"}, "promotion"),
        ({"allowPromotionCodes": "yes"}, "allowPromotionCodes"),
        ({"metadata": {"shop": 1}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(21)}}, "metadata"),
        ({"metadata": {"k" * 41: ""}}, "metadata"),
        ({"metadata": {"k": "v" * 501}}, "metadata"),
        ({"amount": 26.3}, "amount"),
    ],
)
def test_a_session_request_that_breaks_a_rule_names_the_field(clink, changes, named):
    answer = clink.session(**changes)

    assert answer["code"] in (400, 404)
    assert named in answer["msg"]
    assert clink.sandbox.get("/_control/clink/payments").json() == []


def test_everything_documented_is_accepted(clink):
    answer = clink.session(
        referenceCustomerId="shop-7",
        priceDataList=[
            {
                "name": "Tea",
                "unitAmount": 13.15,
                "quantity": 2,
                "currency": "USD",
                "imageUrl": "https://shop.example/tea.png",
            }
        ],
        uiMode="hostedPage",
        paymentMethodTypeBlackList=["UPI", "PIX"],
        allowPromotionCodes=True,
        showPromotionCode=False,
        localPriceOnly=False,
        metadata={"k" * 40: "v" * 500},
    )

    assert answer["code"] == 200


def test_the_doubtful_checks_can_be_switched_off(clink):
    clink.settings(
        refuse_unknown_fields=False, check_sum_rule=False, check_decimals=False
    )

    answer = clink.session(
        amount=1,
        originalAmount=26.333,
        priceDataList=[{"name": "Tea", "unitAmount": 1}],
    )

    assert answer["code"] == 200


def test_elements_have_no_page_and_return_with_the_session_id(clink):
    session = clink.session(
        uiMode="elements", returnUrl="https://shop.example/e?s={ELEMENTS_SESSION_ID}"
    )["data"]

    assert session["url"] is None
    back = clink.outcome("approve")["return_url"]
    assert back == f"https://shop.example/e?s={session['sessionId']}"


# -- customers --------------------------------------------------------------------


def test_a_customer_must_be_named(clink):
    answer = clink.session(customerEmail=None)

    assert (answer["code"], answer["msg"]) == (400, "CUSTOMER_NOT_FOUND")


def test_identifiers_find_bind_and_contradict(clink):
    first = clink.session()["data"]["customerId"]
    assert (
        clink.session(customerEmail="BUYER@example.com")["data"]["customerId"] == first
    )
    bound = clink.session(customerId=first, referenceCustomerId="shop-7")
    assert bound["data"]["customerId"] == first
    by_reference = clink.session(customerEmail=None, referenceCustomerId="shop-7")
    assert by_reference["data"]["customerId"] == first
    other = clink.session(customerEmail=None, referenceCustomerId="shop-8")
    assert other["data"]["customerId"] != first

    for contradiction in (
        {"customerId": first, "customerEmail": "other@example.com"},
        {"customerId": first, "referenceCustomerId": "shop-8"},
        {"customerEmail": "buyer@example.com", "referenceCustomerId": "shop-8"},
        {"customerEmail": "buyer@example.com", "referenceCustomerId": "shop-9"},
    ):
        answer = clink.session(**contradiction)
        assert answer["msg"] == "CUSTOMER_IDENTIFIER_NOT_MATCHED", contradiction
    assert clink.session(customerId="cus_unknown")["msg"] == "CUSTOMER_NOT_FOUND"


# -- direct payments --------------------------------------------------------------


def test_the_documented_payment_gets_the_documented_answer(clink):
    card = clink.saved_card()
    body = DOCUMENTED_PAYMENT | ONCE | without_none(card)

    answer = clink.post("/payment", body)

    assert (answer["code"], answer["msg"]) == (200, "success")
    data = answer["data"]
    assert set(data) == {
        "orderId",
        "sessionId",
        "status",
        "paymentInstrumentId",
        "action",
        "amount",
        "currency",
    }
    assert data["status"] == 1
    assert (data["amount"], data["currency"]) == (Decimal("19.99"), "USD")
    assert data["paymentInstrumentId"] == card["paymentInstrumentId"]
    assert clink.payment("pay_ref_123")["charges"] == 1


def test_the_placeholders_of_the_document_are_unknown_here(clink):
    assert clink.post("/payment", DOCUMENTED_PAYMENT)["code"] == 404


@pytest.mark.parametrize(
    ("result", "status", "word"),
    [
        ("success", 1, "success"),
        ("pending", 2, "pending"),
        ("failure", 3, "failed"),
        ("action", 5, "requires_action"),
    ],
)
def test_every_status_can_be_had(clink, result, status, word):
    clink.settings(payment_result=result)

    data = clink.direct()["data"]

    assert data["status"] == status
    assert (data["action"] is not None) is (status == 5)
    order = clink.get(f"/order/{data['orderId']}")["data"]
    assert set(order) == ORDER_KEYS
    assert order["status"] == word
    assert order["failureCode"] == ("card_declined" if status == 3 else None)


def test_an_action_can_stray_into_another_status(clink):
    clink.settings(payment_result="success", action_always=True)

    assert clink.direct()["data"]["action"]["redirectUrl"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"paymentMethodType": "CARD"}, "paymentInstrumentId"),
        ({"paymentMethodType": "PIX"}, "paymentInstrumentId"),
        ({"paymentMethodType": "UPI"}, "paymentInstrumentId"),
        ({"paymentMethodType": "PAYPAL"}, "paymentMethodType"),
        ({"paymentInstrumentId": "pi_unknown"}, "instrument"),
        ({"returnUrl": None}, "returnUrl"),
        ({"amount": None}, "amount"),
        ({"currency": None}, "currency"),
        (ONCE, "Either"),
        ({**MONTHLY, "amount": None, "currency": None}, "one-time"),
        ({"amount": "12.50"}, "amount"),
        ({"paymentCurrency": "XYZ"}, "paymentCurrency"),
        ({"platformType": "DESKTOP"}, "platformType"),
        ({"deviceType": "ios"}, "deviceType"),
        ({"metadata": {"n": 1}}, "metadata"),
    ],
)
def test_a_payment_that_breaks_a_rule_names_the_field(clink, changes, named):
    answer = clink.direct(**changes)

    assert answer["code"] in (400, 404)
    assert named in answer["msg"]
    assert clink.sandbox.get("/_control/clink/payments").json() == []


def test_an_instrument_works_for_its_customer_and_its_method_only(clink):
    card = clink.saved_card()

    stranger = clink.direct(
        **card | {"customerId": None, "customerEmail": "other@example.com"}
    )
    mistaken = clink.direct(**card | {"paymentMethodType": "GCASH"})

    assert "another customer" in stranger["msg"]
    assert "GCASH" in mistaken["msg"]


def test_a_payment_in_another_currency_is_converted(clink):
    data = clink.direct(paymentCurrency="KRW")["data"]

    assert (data["amount"], data["currency"]) == (16250, "KRW")
    order = clink.get(f"/order/{data['orderId']}")["data"]
    assert order["originalCurrency"] == "USD"
    assert order["amountSubtotal"] == Decimal("12.5")
    assert (order["amountTotal"], order["paymentCurrency"]) == (16250, "KRW")


@pytest.mark.parametrize(
    ("method", "shows_qr"),
    [
        ("ALIPAY", False),
        ("CASHAPP", True),
        ("GCASH", False),
        ("KAKAO", False),
        ("PROMPTPAY", True),
        ("QRIS", True),
        ("TNG", False),
        ("WECHAT", True),
    ],
)
def test_methods_without_an_instrument_get_one_and_an_action(clink, method, shows_qr):
    data = clink.direct(paymentMethodType=method)["data"]

    assert data["status"] == 5
    assert data["paymentInstrumentId"].startswith("pi_")
    wallet = data["action"]["walletHandleRedirectOrDisplayQrCode"]
    assert (wallet is not None) is shows_qr
    assert data["action"]["redirectUrl"].startswith("http")
    assert clink.kinds() == ["order.created", "order.next_action"]


def test_a_redirect_leads_to_a_page_that_decides(clink):
    data = clink.direct(paymentMethodType="ALIPAY")["data"]
    action = data["action"]
    assert (action["method"], action["type"]) == ("GET", "ALIPAY")
    assert action["postData"] is None
    assert action["walletHandleRedirectOrDisplayQrCode"] is None
    clink.sandbox.follow_redirects = False

    page = clink.sandbox.get(action["redirectUrl"])
    back = clink.sandbox.post(action["redirectUrl"], data={"outcome": "approve"})

    assert "USD 12.50" in page.text
    assert back.status_code == 303
    assert back.headers["location"] == "https://shop.example/return"
    assert clink.payment()["status"] == "success"


def test_a_form_action_opens_only_with_its_fields(clink):
    clink.settings(action_shape="post_form")
    action = clink.direct()["data"]["action"]
    assert action["method"] == "POST"
    fields = action["postData"]
    assert all(isinstance(value, str) for value in fields.values())

    good = clink.sandbox.post(action["redirectUrl"], data=fields)
    forged = clink.sandbox.post(
        action["redirectUrl"], data=fields | {"challengeToken": "x"}
    )
    linked = clink.sandbox.get(action["redirectUrl"])

    assert good.status_code == 200
    assert "Approve USD 12.50" in good.text
    assert forged.status_code == 400
    assert linked.status_code == 405


# -- QR codes and wallets ---------------------------------------------------------


def modules_of(png):
    """The dark modules of a QR picture: a PNG reader for what segno writes."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    position, data, width, height = 8, b"", 0, 0
    while position < len(png):
        (size,) = struct.unpack(">I", png[position : position + 4])
        kind, chunk = png[position + 4 : position + 8], png[position + 8 :][:size]
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", chunk[:10])
            assert (depth, color) == (1, 0)
        data += chunk if kind == b"IDAT" else b""
        position += size + 12
    raw, stride = zlib.decompress(data), (width + 7) // 8 + 1
    rows = [bytes(stride - 1)]
    for line in range(height):
        start = line * stride
        above = rows[-1] if raw[start] == 2 else bytes(stride - 1)
        assert raw[start] in (0, 2)
        row = raw[start + 1 : start + stride]
        rows.append(bytes((a + b) % 256 for a, b in zip(row, above, strict=True)))
    del rows[0]
    scale, border = 8, 4
    size = width // scale - 2 * border
    picked = [(border + index) * scale for index in range(size)]
    return [[not rows[y][x // 8] >> (7 - x % 8) & 1 for x in picked] for y in picked]


def is_qr_of(png, content):
    expected = segno.make_qr(content).matrix
    return modules_of(png) == [[bool(module) for module in row] for row in expected]


def wallet_of(answer):
    return answer["data"]["action"]["walletHandleRedirectOrDisplayQrCode"]


def test_a_wallet_gets_pictures_links_and_a_deadline_in_seconds(clink):
    wallet = wallet_of(clink.direct())

    assert set(wallet) == WALLET_KEYS
    assert abs(wallet["expiresAt"] - (time.time() + 900)) < 60
    assert wallet["expiresSecond"] == 900
    png = clink.sandbox.get(wallet["imageUrlPng"])
    svg = clink.sandbox.get(wallet["imageUrlSvg"])
    assert png.headers["content-type"] == "image/png"
    assert is_qr_of(png.content, wallet["mobileAuthUrl"])
    assert svg.headers["content-type"].startswith("image/svg+xml")
    assert b"<svg" in svg.content
    assert wallet["imageDataUrl"] is None
    shown = clink.sandbox.get(wallet["hostedInstructionsUrl"])
    assert wallet["imageUrlPng"] in shown.text


def test_pictures_can_be_base64_or_a_data_url(clink):
    clink.settings(qr_picture="base64")
    wallet = wallet_of(clink.direct())
    png = base64.b64decode(wallet["imageUrlPng"], validate=True)
    assert is_qr_of(png, wallet["mobileAuthUrl"])
    assert b"<svg" in base64.b64decode(wallet["imageUrlSvg"], validate=True)

    clink.settings(qr_picture="data_url")
    wallet = wallet_of(clink.direct())
    head, _, encoded = wallet["imageDataUrl"].partition(",")
    assert head == "data:image/png;base64"
    assert is_qr_of(base64.b64decode(encoded), wallet["mobileAuthUrl"])
    assert wallet["imageUrlPng"] is None


def test_a_deep_link_can_be_one_that_only_an_app_opens(clink):
    clink.settings(deep_link="app")

    wallet = wallet_of(clink.direct())

    assert wallet["mobileAuthUrl"].startswith("clinksandbox://")
    assert wallet["fallbackUrl"].startswith("http")


def test_a_person_approves_on_the_phone_and_stays_there(clink):
    phone = wallet_of(clink.direct())["mobileAuthUrl"]
    page = clink.sandbox.get(phone)
    assert "on your phone" in page.text

    done = clink.sandbox.post(phone, data={"outcome": "approve"})

    assert done.status_code == 200
    assert "Payment complete" in done.text
    assert clink.payment()["status"] == "success"
    assert len(clink.events("order.succeeded")) == 1


def test_a_refreshed_code_replaces_the_old_one_for_cash_app_only(clink):
    first = clink.direct()
    order_id = first["data"]["orderId"]
    clink.advance(901)
    assert clink.sandbox.get(wallet_of(first)["mobileAuthUrl"]).status_code == 410

    again = clink.post(f"/payment/{order_id}/qrcode/refresh")

    assert set(again["data"]) == {"orderId", "action"}
    assert again["data"]["orderId"] == order_id
    fresh = wallet_of(again)["mobileAuthUrl"]
    assert fresh != wallet_of(first)["mobileAuthUrl"]
    assert clink.sandbox.get(fresh).status_code == 200
    assert clink.sandbox.get(wallet_of(first)["mobileAuthUrl"]).status_code == 410
    other = clink.direct(paymentMethodType="WECHAT")["data"]["orderId"]
    assert clink.post(f"/payment/{other}/qrcode/refresh")["code"] == 400
    assert clink.post("/payment/order_unknown/qrcode/refresh")["code"] == 404


def test_a_finished_payment_has_no_code_to_refresh(clink):
    order_id = clink.direct()["data"]["orderId"]
    clink.outcome("approve")

    assert clink.post(f"/payment/{order_id}/qrcode/refresh")["code"] == 400


# -- instruments ------------------------------------------------------------------


def test_an_instrument_is_made_as_documented(clink):
    data = clink.post(
        "/payment-instrument",
        {
            "paymentInstrumentType": "PIX",
            "customerEmail": "buyer@example.com",
            "cpfName": "Maria Silva",
            "cpfNumber": "123.456.789-09",
        },
    )["data"]

    assert set(data) == {"id", "customerId", "type", "card", "wallet", "created"}
    assert data["id"].startswith("pi_")
    assert data["type"] == "PIX"
    paid = clink.direct(paymentMethodType="PIX", paymentInstrumentId=data["id"])
    assert paid["data"]["status"] == 5


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"paymentInstrumentType": "CARD"}, "paymentInstrumentType"),
        ({"paymentInstrumentType": "APPLEPAY"}, "paymentInstrumentType"),
        ({"paymentInstrumentType": "PIX", "cpfName": "M"}, "cpfNumber"),
        (
            {"paymentInstrumentType": "PIX", "cpfName": "M", "cpfNumber": "1"},
            "cpfNumber",
        ),
        ({"paymentInstrumentType": "GCASH", "cpfName": "M"}, "cpfName"),
        ({"paymentInstrumentType": "UPI", "upiName": "a@upi"}, "phoneNumber"),
        (
            {
                "paymentInstrumentType": "UPI",
                "upiName": "a@upi",
                "phoneNumber": "+91 1",
                "billingAddress": {"city": "Pune"},
            },
            "billingAddress.",
        ),
    ],
)
def test_an_instrument_that_breaks_a_rule_names_the_field(clink, body, named):
    answer = clink.post(
        "/payment-instrument", body | {"customerEmail": "buyer@example.com"}
    )

    assert answer["code"] == 400
    assert named in answer["msg"]


def test_a_upi_instrument_needs_its_whole_address(clink):
    body = {
        "paymentInstrumentType": "UPI",
        "customerEmail": "buyer@example.com",
        "upiName": "a@upi",
        "phoneNumber": "+91 1",
        "billingAddress": {
            "city": "Pune",
            "region": "MH",
            "country": "IN",
            "line1": "MG Road",
            "postalCode": "411001",
        },
    }

    assert clink.post("/payment-instrument", body)["code"] == 200


def test_a_card_is_kept_only_when_the_buyer_says_so(clink):
    clink.session()
    clink.outcome("approve")
    assert clink.payment()["payment_instrument_id"] is None

    card = clink.saved_card()
    order = clink.get(f"/order/{clink.payment('FIRST')['order_id']}")["data"]

    method = order["paymentMethod"]
    assert method["paymentInstrumentId"] == card["paymentInstrumentId"]
    assert method["cardLastFour"] == "4242"
    (token,) = clink.sandbox.get("/_control/clink/tokens").json()
    assert (token["id"], token["charges"]) == (card["paymentInstrumentId"], 1)


# -- orders -----------------------------------------------------------------------


def test_a_list_stands_at_the_top_level_and_is_paged(clink):
    for number in range(3):
        clink.paid_order(f"REF-{number}")

    page = clink.get("/order?pageNum=2&pageSize=2")
    one = clink.get("/order?merchantReferenceId=REF-1")
    none = clink.get("/order?customerId=cus_unknown")

    assert set(page) == {"total", "rows", "code", "msg"}
    assert (page["total"], page["code"]) == (3, 200)
    assert [row["merchantReferenceId"] for row in page["rows"]] == ["REF-0"]
    assert set(page["rows"][0]) == ORDER_KEYS
    assert one["total"] == 1
    assert none == {"total": 0, "rows": [], "code": 200, "msg": "success"}
    assert clink.get("/order?pageSize=none")["code"] == 400
    assert clink.get("/order?pageNum=0")["code"] == 400


def test_a_page_is_never_longer_than_fifty(clink):
    clink.settings(callbacks_enabled=False)
    for _ in range(51):
        clink.direct(paymentMethodType="GCASH")

    assert len(clink.get("/order?pageSize=1000")["rows"]) == 50
    assert len(clink.get("/order")["rows"]) == 20


def test_an_unknown_order_is_404_in_an_http_200(clink):
    answer = clink.get("/order/order_unknown")

    assert (answer["code"], answer["data"]) == (404, None)


def test_a_status_word_can_be_put_into_inquiries(clink):
    session = clink.session()["data"]["sessionId"]
    clink.outcome("approve")
    clink.settings(status_word="frozen")

    order = clink.get("/order?merchantReferenceId=REF-1")["rows"][0]
    assert order["status"] == "frozen"
    assert clink.get(f"/order/{order['orderId']}")["data"]["status"] == "frozen"
    seen = clink.get(f"/checkout/session/{session}")["data"]
    assert seen["paymentStatus"] == "frozen"
    assert clink.payment()["status"] == "success"


# -- refunds ----------------------------------------------------------------------


def test_a_refund_is_answered_as_documented_and_only_once(clink):
    order = clink.paid_order(metadata={"shop": "tea"})

    first = clink.refund(order, 6.3, refundReasonType=2, remark="x" * 500)["data"]
    again = clink.refund(order, 6.3)["data"]

    assert set(first) == {
        "createTime",
        "refundId",
        "refundMerchantOrderId",
        "orderId",
        "customerId",
        "refundAmount",
        "refundCurrency",
        "status",
        "failureCode",
        "failureMessage",
        "refundReason",
        "metadata",
        "paymentInstrumentId",
    }
    assert again == first
    assert first["refundId"].startswith("rfd_")
    assert first["refundAmount"] == Decimal("6.3")
    assert first["refundReason"] == "Customer Initiated Refund"
    assert first["status"] == "success"
    assert clink.get(f"/refund/{first['refundId']}")["data"] == first
    assert clink.payment()["refunded"] == "6.3"
    assert clink.payment()["refunds"] == [
        {
            "reference": "RF-1",
            "provider_reference": first["refundId"],
            "amount": 6.3,
            "status": "success",
        }
    ]


def test_refunds_end_with_what_is_left(clink):
    order = clink.paid_order()

    def status():
        return clink.get(f"/order/{order}")["data"]["status"]

    assert clink.refund(order, 26.31)["code"] == 400
    assert clink.refund(order, 20, "RF-2")["code"] == 200
    assert status() == "partial_refunded"
    assert clink.refund(order, 6.31, "RF-3")["code"] == 400
    assert clink.refund(order, 6.3, "RF-4")["code"] == 200
    assert status() == "refunded"
    assert clink.refund(order, 0.01, "RF-5")["code"] == 400
    assert clink.get("/refund/rfd_unknown")["code"] == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"refundAmount": "6.30"},
        {"refundAmount": 0},
        {"refundAmount": 1.001},
        {"refundReasonType": 4},
        {"refundReasonType": "2"},
        {"remark": "x" * 501},
        {"refundMerchantOrderId": None},
        {"orderId": None},
        {"reason": "damaged"},
    ],
)
def test_a_refund_that_breaks_a_rule_is_refused(clink, changes):
    body = {
        "orderId": clink.paid_order(),
        "refundMerchantOrderId": "RF-1",
        "refundAmount": 1,
    }

    assert clink.post("/refund", without_none(body | changes))["code"] == 400
    assert clink.payment()["refunds"] == []


def test_an_order_that_was_not_paid_is_not_refunded(clink):
    clink.session()
    clink.outcome("decline")

    assert clink.refund(clink.payment()["order_id"], 1)["code"] == 400


@pytest.mark.parametrize(
    ("outcome", "status", "left"),
    [("succeed", "success", "6.3"), ("fail", "failed", "0")],
)
def test_a_pending_refund_is_finished_later(clink, outcome, status, left):
    clink.settings(refund_outcome="pending")
    order = clink.paid_order()
    refund = clink.refund(order, 6.3)["data"]
    assert refund["status"] == "refunding"
    assert clink.payment()["status"] == "success"
    # What is under way is no longer left.
    assert clink.refund(order, 26.3, "RF-2")["code"] == 400

    path = "/_control/clink/payments/REF-1/refunds/RF-1/outcome"
    clink.sandbox.post(path, json={"outcome": outcome}).raise_for_status()

    seen = clink.get(f"/refund/{refund['refundId']}")["data"]
    assert seen["status"] == status
    assert (seen["failureCode"] is None) is (outcome == "succeed")
    assert clink.payment()["refunded"] == left
    assert clink.sandbox.post(path, json={"outcome": outcome}).status_code == 409
    assert clink.sandbox.post(path, json={"outcome": "x"}).status_code == 400
    word = {"succeed": "succeeded", "fail": "failed"}[outcome]
    assert len(clink.events("refund.created")) == 1
    assert len(clink.events(f"refund.{word}")) == 1


def test_a_refund_can_fail_at_once_or_be_refused(clink):
    order = clink.paid_order()
    clink.settings(refund_outcome="fail")
    assert clink.refund(order, 26.3)["data"]["status"] == "failed"
    assert clink.payment()["status"] == "success"
    clink.settings(refund_outcome="refuse")
    assert clink.refund(order, 26.3, "RF-2")["code"] == 400
    clink.settings(refund_outcome="succeed")
    assert clink.refund(order, 26.3, "RF-3")["data"]["status"] == "success"


# -- the hosted page and its outcomes ---------------------------------------------


def test_the_page_shows_the_order_and_escapes_it(clink):
    url = clink.session(
        merchantReferenceId="<b>1</b>",
        priceDataList=[{"name": "<script>x</script>", "unitAmount": 26.3}],
        paymentMethodTypeBlackList=["PAYPAL"],
    )["data"]["url"]

    page = clink.sandbox.get(url)

    assert "USD 26.30" in page.text
    assert "&lt;b&gt;1" in page.text
    assert "<script>x" not in page.text
    assert 'value="CARD"' in page.text
    assert 'value="PAYPAL"' not in page.text
    for outcome in ("approve", "decline", "cancel", "expire", "pending", "convert"):
        assert f'name="outcome" value="{outcome}"' in page.text


def test_a_session_can_open_on_its_qr_code(clink):
    both = {"directPaymentQrCodePaymentMethodType": "QRIS"}
    alone = clink.sandbox.get(clink.session(**both)["data"]["url"])
    equal = clink.sandbox.get(
        clink.session(**both, paymentMethodType="QRIS")["data"]["url"]
    )

    assert "Choose how to pay" in alone.text
    assert 'src="data:image/png;base64,' in equal.text


def test_a_buyer_pays_saves_the_card_and_is_sent_back(clink):
    session = clink.session()["data"]
    clink.sandbox.follow_redirects = False

    back = clink.sandbox.post(
        session["url"],
        data={"outcome": "approve", "method": "CARD", "save_card": "yes"},
    )

    assert back.status_code == 303
    assert back.headers["location"] == (
        f"https://shop.example/thanks?order=1&sessionId={session['sessionId']}"
    )
    seen = clink.get(f"/checkout/session/{session['sessionId']}")["data"]
    assert (seen["status"], seen["paymentStatus"]) == ("completed", "paid")
    order = clink.get(f"/order/{seen['orderId']}")["data"]
    assert order["status"] == "success"
    assert order["paymentMethod"]["paymentInstrumentId"].startswith("pi_")
    again = clink.sandbox.get(session["url"])
    assert "Payment complete" in again.text
    twice = clink.sandbox.post(session["url"], data={"outcome": "approve"})
    assert twice.status_code == 409
    assert clink.payment()["charges"] == 1


def test_the_name_of_the_return_parameter_is_a_setting(clink):
    clink.settings(return_parameter="session_id")
    session = clink.session(successUrl="https://shop.example/ok")["data"]["sessionId"]
    back = clink.outcome("approve")["return_url"]
    assert back == f"https://shop.example/ok?session_id={session}"

    clink.settings(return_parameter="")
    clink.session(merchantReferenceId="REF-2")
    back = clink.outcome("approve", "REF-2")["return_url"]
    assert back == "https://shop.example/thanks?order=1"


def test_a_declined_buyer_stays_and_may_try_again(clink):
    url = clink.session()["data"]["url"]

    page = clink.sandbox.post(
        url,
        data={"outcome": "decline", "failure_code": "processor_communication_error"},
    )

    assert page.status_code == 200
    assert "could not be reached" in page.text
    first = clink.payment()
    assert (first["status"], first["session_status"]) == ("failed", "open")
    assert clink.outcome("approve")["return_url"]
    second = clink.payment()
    assert (second["status"], second["charges"]) == ("success", 1)
    assert len(second["order_ids"]) == 2
    failed = clink.get(f"/order/{first['order_id']}")["data"]
    assert failed["failureCode"] == "processor_communication_error"


def test_cancel_leaves_the_session_open(clink):
    clink.session()

    assert clink.outcome("cancel")["return_url"] == "https://shop.example/cart"
    assert clink.payment()["status"] == "unpaid"
    assert clink.kinds() == []
    assert clink.outcome("approve")["payment"]["status"] == "success"


def test_a_session_expires_when_the_clock_says_so(clink):
    session = clink.session()["data"]["sessionId"]
    clink.advance(DAY - 60)
    assert clink.payment()["status"] == "unpaid"

    clink.advance(61)

    seen = clink.get(f"/checkout/session/{session}")["data"]
    assert (seen["status"], seen["paymentStatus"]) == ("expired", "unpaid")
    (event,) = clink.events("session.expired")
    assert event["data"]["object"]["sessionId"] == session
    assert clink.try_outcome("approve").status_code == 409


def test_an_expiry_is_told_before_the_clock_answers(clink):
    clink.settings(session_lifetime_seconds=60)
    clink.session()

    clink.advance(61)

    assert clink.kinds() == ["session.expired"]
    assert len(clink.events("session.expired")) == 1


def test_an_expiry_in_real_time_needs_nobody_to_ask(clink):
    clink.settings(session_lifetime_seconds=0)
    clink.session()

    assert len(clink.events("session.expired")) == 1


def test_expire_is_an_outcome_too(clink):
    clink.session()
    answer = clink.outcome("expire")
    assert answer["return_url"] is None
    assert answer["payment"]["status"] == "expired"

    clink.direct(merchantReferenceId="REF-2")
    assert clink.outcome("expire", "REF-2")["payment"]["status"] == "failed"
    (failed,) = clink.events("order.failed")
    assert failed["data"]["object"]["failureCode"] == "payment_expired"


def test_a_pending_payment_is_settled_or_declined_later(clink):
    session = clink.session()["data"]["sessionId"]
    assert clink.outcome("pending")["return_url"].startswith("https://shop.example/th")
    seen = clink.get(f"/checkout/session/{session}")["data"]
    assert (seen["status"], seen["paymentStatus"]) == ("open", "processing")
    assert clink.payment()["status"] == "pending"
    assert clink.try_outcome("approve").status_code == 409
    # The deadline of the session does not cut off a payment under way.
    clink.advance(2 * DAY)
    assert clink.payment()["status"] == "pending"

    assert clink.outcome("settle")["payment"]["status"] == "success"
    assert clink.events("order.succeeded")

    clink.session(merchantReferenceId="REF-2")
    clink.outcome("pending", "REF-2")
    assert clink.outcome("decline", "REF-2")["payment"]["status"] == "failed"
    assert clink.try_outcome("settle", "REF-2").status_code == 409


def test_paying_in_another_currency_keeps_the_original_one(clink):
    session = clink.session()["data"]["sessionId"]
    clink.outcome("convert")

    for seen in (
        clink.get(f"/checkout/session/{session}")["data"],
        clink.get("/order?merchantReferenceId=REF-1")["rows"][0],
    ):
        assert (seen["amountTotal"], seen["paymentCurrency"]) == (
            Decimal("23.67"),
            "EUR",
        )
        assert seen["originalCurrency"] == "USD"
        assert seen["amountSubtotal"] == Decimal("26.3")
    refund = clink.refund(clink.payment()["order_id"], 23.67)["data"]
    assert refund["refundCurrency"] == "EUR"

    clink.settings(subtotal_currency="payment")
    clink.session(merchantReferenceId="REF-2")
    clink.outcome("convert", "REF-2")
    order = clink.get("/order?merchantReferenceId=REF-2")["rows"][0]
    assert order["amountSubtotal"] == Decimal("23.67")


def test_a_currency_without_a_rate_cannot_be_converted(clink):
    clink.session(originalCurrency="TWD")

    assert clink.try_outcome("convert").status_code == 409
    assert clink.payment()["order_ids"] == []
    assert clink.direct(currency="TWD", paymentCurrency="USD")["code"] == 400


@pytest.mark.parametrize("outcome", ["decline", "cancel"])
def test_a_direct_payment_has_one_attempt(clink, outcome):
    clink.direct()

    answer = clink.outcome(outcome)

    assert answer["return_url"] == "https://shop.example/return"
    assert answer["payment"]["status"] == "failed"
    assert clink.try_outcome("approve").status_code == 409
    assert clink.payment()["charges"] == 0


def test_a_direct_payment_expires_with_its_session(clink):
    clink.direct()

    clink.advance(DAY + 1)

    assert clink.payment()["status"] == "failed"


def test_a_page_of_nothing_is_404(clink):
    for path in ("pay/sess_x", "authorize/order_x", "instructions/order_x"):
        assert clink.sandbox.get(f"/clink/{path}").status_code == 404
    assert clink.sandbox.get("/clink/phone/x").status_code == 410
    assert clink.sandbox.get("/clink/qr/x.png").status_code == 404
    url = clink.session()["data"]["url"]
    assert clink.sandbox.post(url, data={"outcome": "x"}).status_code == 400


# -- subscriptions ----------------------------------------------------------------


def test_a_subscription_on_a_saved_card_starts_at_once(clink):
    data = clink.subscribe()["data"]

    assert data["status"] == 1
    subscription = clink.get(f"/subscription/{data['subscriptionId']}")["data"]
    assert subscription["status"] == "active"
    assert subscription["merchantReference"] == "SUB-1"
    invoice = clink.get(f"/subscription/invoice/{data['invoiceId']}")["data"]
    assert invoice["status"] == "paid"
    assert invoice["amountTotal"] == Decimal("9.99")
    order = clink.get(f"/order?subscriptionId={data['subscriptionId']}")["rows"][0]
    assert (order["type"], order["invoiceId"]) == ("recurring", data["invoiceId"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"priceId": "price_sandbox_tea_once"}, "recurring"),
        ({"productId": None}, "productId"),
        ({"paymentCurrency": None}, "paymentCurrency"),
        ({"paymentCurrency": "CHF"}, "paymentCurrency"),
        ({"returnUrl": None}, "returnUrl"),
        ({"paymentMethodType": "ALIPAY"}, "paymentMethodType"),
        ({"paymentInstrumentId": None}, "paymentInstrumentId"),
        ({"amount": 9.99}, "amount"),
    ],
)
def test_a_subscription_that_breaks_a_rule_names_the_field(clink, changes, named):
    answer = clink.subscribe(**changes)

    assert answer["code"] == 400
    assert named in answer["msg"]
    assert clink.sandbox.get("/_control/clink/plans").json() == []


def test_each_renewal_is_charged_once_and_told_twice(clink):
    subscription = clink.subscribe()["data"]["subscriptionId"]
    before = len(clink.kinds())
    clink.advance(20 * DAY)
    assert len(clink.kinds()) == before

    clink.advance(12 * DAY)

    assert clink.kinds()[before:] == [
        "invoice.open",
        "order.succeeded",
        "invoice.paid",
        "subscription.updated.renewed",
    ]
    rows = clink.get(f"/order?subscriptionId={subscription}")["rows"]
    assert [row["type"] for row in rows] == ["recurring", "recurring"]
    assert rows[0]["sessionId"] is None
    assert rows[0]["merchantReferenceId"] == "SUB-1"
    (plan,) = clink.sandbox.get("/_control/clink/plans").json()
    assert plan["charges"] == 2
    item = plan["recurringInvoiceItem"]
    assert item["periodStart"] > plan["currentPeriodStart"]
    assert clink.payment("SUB-1")["charges"] == 1
    renewal = rows[0]["orderId"]
    assert clink.payment(renewal)["charges"] == 1
    assert clink.try_outcome("approve", renewal).status_code == 409
    assert clink.refund(renewal, 9.99)["code"] == 200
    assert clink.payment(renewal)["refunded"] == "9.99"
    paid = clink.events("invoice.paid")[-1]["data"]["object"]
    assert paid["amountTotal"] == "9.99"


def test_a_year_of_renewals_is_made_up_for(clink):
    clink.subscribe()

    clink.advance(366 * DAY)

    (plan,) = clink.sandbox.get("/_control/clink/plans").json()
    assert plan["charges"] == 13
    periods = [
        (invoice["periodStart"], invoice["periodEnd"]) for invoice in plan["invoices"]
    ]
    assert [end for _, end in periods[:-1]] == [start for start, _ in periods[1:]]


@pytest.mark.parametrize(
    ("events", "order", "invoice"), [("order", 1, 0), ("invoice", 0, 1)]
)
def test_a_renewal_can_tell_one_event_only(clink, events, order, invoice):
    clink.subscribe()
    before = len(clink.kinds())
    clink.settings(renewal_events=events, renewal_reference="none")

    clink.advance(32 * DAY)

    told = clink.kinds()[before:]
    assert (told.count("order.succeeded"), told.count("invoice.paid")) == (
        order,
        invoice,
    )
    assert clink.get("/order")["rows"][0]["merchantReferenceId"] is None


def test_a_failed_renewal_is_past_due_until_one_succeeds(clink):
    subscription = clink.subscribe()["data"]["subscriptionId"]
    clink.settings(renewal_outcome="fail")
    clink.advance(32 * DAY)
    assert clink.get(f"/subscription/{subscription}")["data"]["status"] == "past_due"
    assert {"order.failed", "subscription.past_due"} <= set(clink.kinds())

    clink.settings(renewal_outcome="succeed")
    clink.advance(32 * DAY)

    assert clink.get(f"/subscription/{subscription}")["data"]["status"] == "active"
    assert clink.sandbox.get("/_control/clink/plans").json()[0]["charges"] == 2


def test_a_cancellation_at_the_end_of_the_period(clink):
    path = f"/subscription/{clink.subscribe()['data']['subscriptionId']}"
    assert clink.post(f"{path}/cancel", {})["code"] == 400
    assert clink.post(f"{path}/cancel", {"reason": "x" * 256})["code"] == 400
    bad = {"reason": "x", "cancelReasonCode": "bored"}
    assert clink.post(f"{path}/cancel", bad)["code"] == 400

    good = {"reason": "too much tea", "cancelReasonCode": "no_longer_needed"}
    data = clink.post(f"{path}/cancel", good)["data"]

    assert (data["status"], data["cancelAtPeriodEnd"]) == ("active", True)
    clink.advance(32 * DAY)
    assert clink.get(path)["data"]["status"] == "cancelled"  # codespell:ignore
    assert clink.kinds()[-1] == "subscription.cancelled"  # codespell:ignore
    assert clink.get("/order")["total"] == 2
    assert clink.post(f"{path}/cancel", good)["code"] == 400


def test_an_immediate_cancellation_charges_nothing_more(clink):
    path = f"/subscription/{clink.subscribe()['data']['subscriptionId']}"

    data = clink.post(f"{path}/cancel", {"reason": "now", "cancelImmediately": True})

    assert data["data"]["status"] == "cancelled"  # codespell:ignore
    clink.advance(100 * DAY)
    assert clink.get("/order")["total"] == 2


def test_a_subscription_by_checkout_keeps_the_card_and_renews(clink):
    session = clink.session(**MONTHLY, originalAmount=9.99)["data"]["sessionId"]
    clink.outcome("decline")
    clink.outcome("approve")

    seen = clink.get(f"/checkout/session/{session}")["data"]

    assert seen["subscriptionId"].startswith("sub_")
    assert seen["invoiceId"].startswith("inv_")
    clink.advance(32 * DAY)
    (plan,) = clink.sandbox.get("/_control/clink/plans").json()
    assert plan["charges"] == 2
    assert plan["paymentInstrumentId"].startswith("pi_")


def test_a_subscription_nobody_pays_ends_incomplete(clink):
    data = clink.subscribe(paymentMethodType="GCASH", paymentInstrumentId=None)["data"]
    assert data["status"] == 5
    assert (
        clink.get(f"/subscription/{data['subscriptionId']}")["data"]["status"]
        == "incomplete"
    )

    clink.advance(DAY + 1)

    seen = clink.get(f"/subscription/{data['subscriptionId']}")["data"]
    assert seen["status"] == "incomplete_expired"
    invoice = clink.get(f"/subscription/invoice/{data['invoiceId']}")["data"]
    assert invoice["status"] == "void"


def test_the_desk_can_add_a_price(clink):
    price = {
        "price_id": "price_new",
        "product_id": "prd_new",
        "amount": "3.50",
        "currency": "USD",
        "interval_months": 3,
    }
    clink.sandbox.post("/_control/clink/prices", json=price).raise_for_status()

    data = clink.subscribe(priceId="price_new", productId="prd_new")["data"]

    assert data["amount"] == Decimal("3.5")
    broken = clink.sandbox.post("/_control/clink/prices", json={"price_id": "x"})
    assert broken.status_code == 400


# -- webhooks ---------------------------------------------------------------------


def test_a_webhook_is_signed_as_documented(clink):
    clink.paid_order()
    clink.events("order.succeeded")

    for entry, wire in zip(clink.callbacks(), clink.shop.received, strict=True):
        headers = entry["headers"]
        assert entry["body"] == wire.body
        assert wire.content_type == "application/json"
        assert headers["X-Clink-SignType"] == "SHA256"
        stamp = headers["X-Clink-Timestamp"]
        assert headers["X-Clink-Signature"] == signature_of(SECRET, stamp, wire.body)
        assert abs(int(stamp) - now_ms()) < 60_000
        assert entry["delivered"]


def test_the_envelope_and_the_order_in_it(clink):
    clink.paid_order(metadata={"k": "v"})

    (event,) = clink.events("order.succeeded")

    assert set(event) == {"id", "object", "created", "type", "data"}
    assert event["id"].startswith("event_")
    assert event["object"] == "event"
    assert isinstance(event["created"], int)
    order = event["data"]["object"]
    assert set(order) == ORDER_KEYS - {"createTime"}
    assert order["amountTotal"] == 26.3
    assert order["metadata"] == {"k": "v"}
    (created,) = clink.events("order.created")
    assert created["data"]["object"]["status"] == "created"
    assert created["id"] != event["id"]
    (session,) = clink.events("session.complete")
    assert session["data"]["object"]["orderId"] == order["orderId"]


def test_the_traps_of_the_wire_can_be_set(clink):
    clink.settings(
        envelope="old",
        timestamp_unit="s",
        signature_case="upper",
        merchant_reference_trap="null",
        order_created_status="pending",
    )
    clink.paid_order()

    (event,) = clink.events("order.succeeded")
    assert event["data"]["merchantReferenceId"] == "null"
    assert re.match(r"\d{4}-\d\d-\d\dT", event["created"])
    assert clink.events("order.created")[0]["data"]["status"] == "pending"
    headers = clink.callbacks()[0]["headers"]
    assert abs(int(headers["X-Clink-Timestamp"]) - time.time()) < 60
    body = clink.callbacks()[0]["body"]
    good = signature_of(SECRET, headers["X-Clink-Timestamp"], body)
    assert headers["X-Clink-Signature"] == good.upper()

    clink.settings(merchant_reference_trap="blank", tamper_signature=True)
    clink.paid_order("REF-2")
    entry = clink.callbacks()[-1]
    assert '"merchantReferenceId": " "' in entry["body"]
    stamp = entry["headers"]["X-Clink-Timestamp"]
    good = signature_of(SECRET, stamp, entry["body"])
    assert entry["headers"]["X-Clink-Signature"].lower() != good


def test_the_timestamp_follows_the_real_clock_unless_told_otherwise(clink):
    clink.advance(DAY)
    clink.paid_order("REF-1")
    assert abs(
        int(clink.callbacks()[-1]["headers"]["X-Clink-Timestamp"]) - now_ms()
    ) < (60_000)

    clink.settings(signing_clock="sandbox")
    clink.paid_order("REF-2")

    ahead = int(clink.callbacks()[-1]["headers"]["X-Clink-Timestamp"]) - now_ms()
    assert abs(ahead - DAY * 1000) < 60_000


def test_each_merchant_has_a_secret(clink):
    clink.key = OTHER_KEY
    clink.paid_order()

    entry = clink.callbacks()[-1]
    stamp = entry["headers"]["X-Clink-Timestamp"]
    assert entry["headers"]["X-Clink-Signature"] == signature_of(
        OTHER_SECRET, stamp, entry["body"]
    )


def test_without_an_address_webhooks_are_recorded_and_not_sent(clink):
    clink.settings(webhook_url="")
    clink.paid_order()

    assert clink.events("order.succeeded") == []
    assert "order.succeeded" in clink.kinds()
    assert all(entry["attempts"] == [] for entry in clink.callbacks())


def test_a_webhook_is_sent_again_until_it_is_acknowledged(clink):
    clink.settings(webhook_url="http://127.0.0.1:9/", retry_count=2)
    clink.paid_order()
    clink.events("order.succeeded")

    assert {len(entry["attempts"]) for entry in clink.callbacks()} == {2}
    assert not any(entry["delivered"] for entry in clink.callbacks())


def test_duplicates_are_sent_on_request(clink):
    clink.settings(duplicate_status=2)
    clink.paid_order()

    events = clink.events("order.succeeded")

    assert len(events) == 3
    assert len({event["id"] for event in events}) == 1


def test_the_account_record_can_be_required_for_order_succeeded(clink):
    clink.settings(account_answer_required=True, retry_count=1)
    clink.paid_order()
    clink.events("order.succeeded")
    delivered = {entry["kind"]: entry["delivered"] for entry in clink.callbacks()}
    assert delivered["order.created"]
    assert not delivered["order.succeeded"]

    record = {
        "object": "event",
        "type": "account.created",
        "data": {
            "customerEmail": "buyer@example.com",
            "webSite": "https://shop.example",
            "userId": "7",
            "amount": 26.3,
            "currency": "USD",
        },
    }
    clink.shop.answer = json.dumps(record).encode()
    clink.paid_order("REF-2")
    clink.events("order.succeeded")
    assert clink.callbacks()[-2]["delivered"]

    record["data"]["amount"] = 26.31
    clink.shop.answer = json.dumps(record).encode()
    clink.paid_order("REF-3")
    clink.events("order.succeeded")
    assert not clink.callbacks()[-2]["delivered"]


def test_webhooks_may_come_after_the_return(clink):
    clink.settings(send_status_before_return=False, status_delay_seconds=3600)
    clink.paid_order()
    assert clink.shop.received == []

    clink.advance(3601)

    assert len(clink.events("order.succeeded")) == 1


def test_an_event_can_be_forged_with_a_good_signature(clink):
    clink.session()
    path = "/_control/clink/payments/REF-1/callback"

    forged = clink.sandbox.post(
        path,
        json={
            "amountTotal": 0.01,
            "status": "success",
            "riskLevel": None,
            "send": False,
        },
    ).json()

    event = json.loads(forged["body"])
    assert event["type"] == "order.succeeded"
    assert event["data"]["object"]["amountTotal"] == 0.01
    assert "riskLevel" not in event["data"]["object"]
    stamp = forged["headers"]["X-Clink-Timestamp"]
    assert forged["headers"]["X-Clink-Signature"] == signature_of(
        SECRET, stamp, forged["body"]
    )
    assert clink.shop.received == []
    assert clink.payment()["charges"] == 0

    sent = clink.sandbox.post(
        path,
        json={
            "event": "session.expired",
            "event_id": "event_1",
            "url": f"{clink.shop.origin}/elsewhere/",
        },
    ).json()
    assert clink.shop.received[0].path == "/elsewhere/"
    assert json.loads(clink.shop.received[0].body)["id"] == "event_1"
    assert sent["callback"]["delivered"]
    assert (
        clink.sandbox.post(path, json={"event": "refund.succeeded"}).status_code == 400
    )


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("subscription.activated", "subscriptionId"),
        ("invoice.paid", "invoiceId"),
        ("refund.failed", "refundId"),
        ("dispute.created", "chargeBackId"),
        ("session.complete", "sessionId"),
    ],
)
def test_any_group_of_events_can_be_forged(clink, kind, field):
    data = clink.subscribe()["data"]
    clink.refund(data["orderId"], 1)

    forged = clink.sandbox.post(
        "/_control/clink/payments/SUB-1/callback",
        json={"event": kind, "send": False, "forged": True},
    ).json()

    event = json.loads(forged["body"])
    assert event["type"] == kind
    assert event["data"]["object"]["forged"] is True
    assert event["data"]["object"][field]


@pytest.mark.parametrize(
    ("outcome", "kinds", "status"),
    [
        ("won", ["dispute.won", "dispute.closed"], 3),
        ("lost", ["dispute.lost", "dispute.closed"], 4),
        ("withdrawn", ["dispute.closed"], 5),
    ],
)
def test_a_dispute_is_opened_and_ends(clink, outcome, kinds, status):
    clink.paid_order()
    path = "/_control/clink/payments/REF-1/dispute"
    assert clink.sandbox.post(path, json={"outcome": outcome}).status_code == 409

    clink.sandbox.post(path, json={"outcome": "open"}).raise_for_status()
    clink.sandbox.post(path, json={"outcome": outcome}).raise_for_status()

    (created,) = clink.events("dispute.created")
    opened = created["data"]["object"]
    assert (opened["status"], opened["disputeAmount"]) == (1, 26.3)
    assert isinstance(opened["evidenceDeadline"], int)
    assert clink.kinds()[-len(kinds) :] == kinds
    (closed,) = clink.events("dispute.closed")
    assert closed["data"]["object"]["status"] == status
    assert clink.sandbox.post(path, json={"outcome": "open"}).status_code == 409
    assert clink.sandbox.post(path, json={"outcome": "x"}).status_code == 400


def test_dispute_times_can_be_iso_dates(clink):
    clink.settings(dispute_times="iso")
    clink.paid_order()
    path = "/_control/clink/payments/REF-1/dispute"
    clink.sandbox.post(path, json={"outcome": "open"}).raise_for_status()

    (created,) = clink.events("dispute.created")

    assert created["data"]["object"]["evidenceDeadline"].endswith("Z")


# -- the control desk -------------------------------------------------------------


def test_the_desk_lists_payments_newest_last(clink):
    clink.session()
    clink.direct(merchantReferenceId="REF-2")
    clink.session(merchantReferenceId=None)

    first, second, third = clink.sandbox.get("/_control/clink/payments").json()

    assert (first["reference"], second["reference"]) == ("REF-1", "REF-2")
    assert third["reference"] == third["session_id"]
    assert first["provider_reference"] == first["session_id"]
    assert second["provider_reference"] == second["order_id"]
    assert (first["amount"], first["currency"]) == (26.3, "USD")
    assert (first["status"], second["status"]) == ("unpaid", "requires_action")
    assert (first["refunded"], first["refunds"], first["charges"]) == ("0", [], 0)
    by_session = f"/_control/clink/payments/{first['session_id']}"
    assert clink.sandbox.get(by_session).json() == first
    assert clink.sandbox.get("/_control/clink/payments/none").status_code == 404


def test_an_outcome_answers_where_the_browser_goes(clink):
    session = clink.session()["data"]["sessionId"]

    answer = clink.outcome("approve")

    assert (answer["return_method"], answer["return_fields"]) == ("GET", {})
    assert answer["return_url"].endswith(f"&sessionId={session}")
    assert answer["payment"] == clink.payment()
    unknown = clink.try_outcome("deposit")
    assert unknown.status_code == 400
    assert "use one of approve, decline" in unknown.json()["error"]
    assert clink.try_outcome("decline", failure_code="x").status_code == 400


def test_the_control_page_has_a_button_for_what_is_next(clink):
    clink.session()
    page = clink.sandbox.get("/_control/").text
    (address,) = re.findall(r'data-send="([^"]*outcome=approve)"', page)

    clink.sandbox.post(address).raise_for_status()

    assert clink.payment()["status"] == "success"
    clink.settings(refund_outcome="pending")
    clink.refund(clink.payment()["order_id"], 1)
    page = clink.sandbox.get("/_control/").text
    for address in re.findall(r'data-send="([^"]*clink/payments/[^"]*)"', page):
        clink.sandbox.post(address).raise_for_status()
    assert clink.payment()["refunded"] == "1"
    assert clink.payment()["dispute"]["status"] == 1


def test_a_fault_after_the_work_leaves_the_payment_in_the_books(clink):
    card = clink.saved_card()
    fault = {"provider": "clink", "operation": "payment", "fault": "garbage"}
    clink.sandbox.post("/_control/faults", json=fault).raise_for_status()
    body = {
        **without_none(card),
        "returnUrl": "https://shop.example/return",
        "amount": 5,
        "currency": "USD",
        "merchantReferenceId": "LOST",
    }

    assert b"not json" in clink.raw("POST", "/payment", body).content
    assert clink.payment("LOST")["charges"] == 1
    clink.post("/payment", body)
    assert clink.payment("LOST")["charges"] == 2


def test_a_reset_forgets_everything(clink):
    clink.subscribe()
    clink.sandbox.post("/_control/reset").raise_for_status()

    assert clink.sandbox.get("/_control/clink/payments").json() == []
    assert clink.sandbox.get("/_control/clink/plans").json() == []
    assert clink.get("/order")["total"] == 0
    clink.advance(100 * DAY)
    assert clink.kinds() == []


def test_the_books_hold_no_api_key(clink):
    clink.session()

    (entry,) = clink.sandbox.get("/_control/requests?provider=clink").json()

    assert entry["operation"] == "create_session"
    assert KEY not in json.dumps(entry)
