"""The Payment Hub as its pages describe it: requests, answers, pages, control desk."""

import base64
import json
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

TOKEN = "eb_sandbox_4f2b8c1d9e7a6053"
FOREIGN_TOKEN = "eb_sandbox_90c3d7e5b1f8a264"
USERNAME, PASSWORD = "tea@sandbox.easybilling.example", "jasmine-2026"
TRACE = "0b7d2b1e-52e4-4d8a-9c55-3a6f2e9f8f10"
COMPLETE = "https://shop.example/return/?payment=7&x=%20a"
CANCEL = "https://shop.example/cancel/#cart"
BUYER = "buyer@example.com"

# Every word the documents know for a state, by outcome: create answer, status page,
# the unofficial guide.
WORDS = {
    "": ("waiting", "pending", "pending"),
    "pending": ("processing", "processing", "processing"),
    "approve": ("succeeded", "completed-with-success", "succeeded"),
    "decline": ("failed", "completed-with-failure", "failed"),
    "expire": ("closed", "expired", "expired"),
    "close": ("closed", "closed", "closed"),
}


class Client:
    """A merchant's server, a buyer's browser and a person at the control desk."""

    def __init__(self, sandbox: httpx.Client) -> None:
        self.sandbox = sandbox
        self.sandbox.follow_redirects = False
        self.token = TOKEN
        self._orders = 0

    def order(self, **changes) -> dict:
        """The document's example with real values; None leaves a field out."""
        self._orders += 1
        body = {
            "transactionId": f"ORDER-{self._orders}",
            "description": "Two tins of tea",
            "amount": "9900",
            "currency": "USD",
            "date": "2026-05-01",
            "paymentGatewayType": "stripe-connect",
            "completePayRedirectUrl": COMPLETE,
            "onlineScenario": True,
            "customerIdentifier": BUYER,
            "cancelPayRedirectUrl": CANCEL,
            **changes,
        }
        return {name: value for name, value in body.items() if value is not None}

    def call(self, method: str, path: str, **more) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "trace-id": TRACE}
        headers |= more.pop("headers", {})
        return self.sandbox.request(
            method, f"/easybilling{path}", headers=headers, **more
        )

    def start(self, **changes) -> httpx.Response:
        return self.call("POST", "/api/transactions", json=self.order(**changes))

    def started(self, **changes) -> dict:
        return self.start(**changes).raise_for_status().json()

    def status(self, transaction_id: str) -> dict:
        answer = self.call("GET", f"/transactions/{transaction_id}/status")
        return answer.raise_for_status().json()

    def press(self, started: dict, outcome: str) -> httpx.Response:
        return self.sandbox.post(started["paymentUrl"], data={"outcome": outcome})

    def paid(self, transaction_id: str = "PAID", **changes) -> dict:
        started = self.started(transactionId=transaction_id, **changes)
        assert self.decide(transaction_id, "approve").status_code == 200
        return started

    def refund(self, request_id: str = "R-1", **changes) -> httpx.Response:
        body = {"transactionId": "PAID", "requestId": request_id, "amount": "100"}
        return self.call("POST", "/api/refund", json=body | changes)

    def refund_status(self, **query: str) -> httpx.Response:
        return self.call("GET", "/api/refund", params=query)

    def save_method(self, gateway: str = "stripe-connect", customer: str = BUYER):
        wish = {"gateway": gateway, "customer": customer}
        answer = self.sandbox.post("/_control/easybilling/tokens", json=wish)
        assert answer.status_code == 201

    def settings(self, **changes) -> None:
        answer = self.sandbox.post("/_control/settings", json={"easybilling": changes})
        assert answer.status_code == 200, answer.text

    def forward(self, seconds: int) -> None:
        self.sandbox.post("/_control/clock", json={"advance_seconds": seconds})

    def payment(self, reference: str) -> dict:
        answer = self.sandbox.get(f"/_control/easybilling/payments/{reference}")
        return answer.raise_for_status().json()

    def decide(self, reference: str, outcome: str, **more) -> httpx.Response:
        return self.sandbox.post(
            f"/_control/easybilling/payments/{reference}/outcome",
            json={"outcome": outcome, **more},
        )

    def finish(self, reference: str, refund: str, outcome: str) -> httpx.Response:
        return self.sandbox.post(
            f"/_control/easybilling/payments/{reference}/refunds/{refund}/outcome",
            json={"outcome": outcome},
        )


@pytest.fixture
def hub(sandbox) -> Client:
    return Client(sandbox)


def assert_refused(answer: httpx.Response, status: int, *words: str) -> None:
    """The one shape of every refusal."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "message"}
    expected = {
        400: "invalid_request",
        401: "unauthorized",
        404: "not_found",
        405: "method_not_allowed",
        409: "conflict",
    }
    assert body["error"] == expected[status]
    for word in words:
        assert word in body["message"]


# -- authentication ----------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer wrong",
        f"bearer {TOKEN}",
        f"Token {TOKEN}",
        f"Bearer {TOKEN}x",
        TOKEN,
        "Basic dGVhOnRlYQ==",
    ],
)
def test_every_call_needs_a_known_bearer_token(hub, authorization):
    calls = [
        ("POST", "/api/transactions", hub.order()),
        ("GET", "/transactions/A/status", None),
        ("GET", "/api/transactions/A/status", None),
        ("POST", "/api/transactions/A/status", None),
        ("POST", "/api/refund", {}),
        ("GET", "/api/refund?requestId=A", None),
        ("POST", "/api/payment-methods", {}),
        ("POST", "/api/authenticate/logout", None),
    ]
    for method, path, body in calls:
        answer = hub.call(
            method, path, json=body, headers={"Authorization": authorization}
        )
        assert_refused(answer, 401, "token")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_log_in_gives_a_token_until_log_out(hub):
    answer = hub.sandbox.post(
        "/easybilling/api/authenticate/login",
        json={"username": USERNAME, "password": PASSWORD},
    )
    assert answer.status_code == 200
    assert set(answer.json()) == {"message", "token"}
    assert answer.json()["message"] == "Authentication successful"
    hub.token = answer.json()["token"]
    header, claims, signature = hub.token.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "RS256"
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"] == USERNAME
    assert signature

    assert hub.start().status_code == 200
    assert hub.call("POST", "/api/authenticate/logout").status_code == 200
    assert_refused(hub.start(), 401)


def test_a_token_lasts_as_long_as_the_setting_says_on_the_sandbox_clock(hub):
    hub.settings(token_lifetime_seconds=60)
    credentials = {"username": USERNAME, "password": PASSWORD}
    login = "/easybilling/api/authenticate/login"
    hub.token = hub.sandbox.post(login, json=credentials).json()["token"]

    assert hub.start().status_code == 200
    hub.forward(61)

    assert_refused(hub.start(), 401, "expired")
    again = hub.sandbox.post(login, json=credentials).json()["token"]
    assert again != hub.token
    hub.token = again
    assert hub.start().status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": USERNAME, "password": "wrong"}, 401),
        ({"username": "nobody", "password": PASSWORD}, 401),
        # A right user of one account with the password of another.
        ({"username": USERNAME, "password": "harbor-2026"}, 401),
        ({"username": USERNAME}, 400),
        ({"username": USERNAME, "password": 1}, 400),
        ({"username": "\ud800", "password": PASSWORD}, 400),
        ({"username": USERNAME, "password": PASSWORD, "otp": "1"}, 400),
        ([], 400),
    ],
)
def test_a_log_in_with_anything_wrong_is_refused(hub, body, status):
    answer = hub.sandbox.post(
        "/easybilling/api/authenticate/login",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
    )
    assert_refused(answer, status)


def test_an_api_token_cannot_log_out(hub):
    assert_refused(hub.call("POST", "/api/authenticate/logout"), 400)
    assert hub.start().status_code == 200


def test_a_token_never_shows_in_the_recorded_headers(hub):
    hub.start()
    (entry,) = hub.sandbox.get("/_control/requests?provider=easybilling").json()
    assert TOKEN not in json.dumps(entry)
    assert (entry["operation"], entry["status"]) == ("start", 200)


def test_a_payment_is_its_own_account_s(hub):
    hub.paid("MINE")
    hub.token = FOREIGN_TOKEN

    assert_refused(hub.call("GET", "/transactions/MINE/status"), 404)
    assert_refused(hub.refund(transactionId="MINE"), 404)
    assert_refused(hub.refund_status(transactionId="MINE"), 404)
    # The id itself is free there.
    assert hub.started(transactionId="MINE")["status"] == "waiting"


def test_a_trace_id_is_optional_by_default(hub):
    assert hub.call(
        "POST", "/api/transactions", json=hub.order(), headers={"trace-id": ""}
    ).is_success

    hub.settings(trace_id_required=True)

    assert hub.start().is_success
    for trace in ("", "123", TRACE + "0"):
        answer = hub.call("GET", "/transactions/A/status", headers={"trace-id": trace})
        assert_refused(answer, 400, "trace-id")


# -- starting a payment ------------------------------------------------------------


def test_the_answer_has_the_four_documented_fields(hub):
    answer = hub.start()

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"paymentUrl", "paymentId", "expireTime", "status"}
    page = hub.sandbox.base_url.join(f"/easybilling/pay/{body['paymentId']}")
    assert body["paymentUrl"] == str(page)
    assert body["expireTime"] == 1800
    assert type(body["expireTime"]) is int
    assert body["status"] == "waiting"


@pytest.mark.parametrize(
    "gateway", ["stripe-connect", "alipay-page", "wechat-pay-native", "payer-max-isv"]
)
def test_all_four_gateways_are_taken(hub, gateway):
    assert hub.started(paymentGatewayType=gateway)["status"] == "waiting"


@pytest.mark.parametrize(
    "name",
    [
        "transactionId",
        "amount",
        "currency",
        "date",
        "paymentGatewayType",
        "completePayRedirectUrl",
        "onlineScenario",
        "cancelPayRedirectUrl",
    ],
)
def test_every_required_field_of_the_seed_is_required(hub, name):
    assert_refused(hub.start(**{name: None}), 400, name)


@pytest.mark.parametrize("name", ["description", "customerIdentifier"])
def test_the_optional_fields_of_the_seed_are_optional(hub, name):
    assert hub.start(**{name: None}).status_code == 200


def test_the_seed_s_own_sample_lacks_the_date(hub):
    """Verbatim but for values that are no placeholders."""
    sample = {"date": None}
    assert_refused(hub.start(**sample), 400, "date")

    hub.settings(date_required=False)

    assert hub.start(**sample).status_code == 200
    assert_refused(hub.start(date="today"), 400, "date")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"transactionId": ""}, "transactionId"),
        ({"transactionId": "A" * 33}, "transactionId"),
        ({"transactionId": "A/B"}, "transactionId"),
        ({"transactionId": "A B"}, "transactionId"),
        ({"transactionId": "A\n"}, "transactionId"),
        ({"transactionId": 12}, "transactionId"),
        ({"amount": 9900}, "amount"),
        ({"amount": ""}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "+1"}, "amount"),
        ({"amount": "0100"}, "amount"),
        ({"amount": "99.00"}, "amount"),
        ({"amount": "9,900"}, "amount"),
        ({"amount": "1e3"}, "amount"),
        ({"amount": " 1"}, "amount"),
        ({"amount": "1\n"}, "amount"),
        ({"amount": "\u0661"}, "amount"),
        ({"amount": "1" * 16}, "amount"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "ZZZ"}, "currency"),
        ({"currency": "US"}, "currency"),
        ({"currency": 840}, "currency"),
        ({"date": "20260501"}, "date"),
        ({"date": "2026-5-1"}, "date"),
        ({"date": "2026-02-30"}, "date"),
        ({"date": "2026-W18-5"}, "date"),
        ({"date": "2026-05-01T00:00:00Z"}, "date"),
        ({"date": 20260501}, "date"),
        ({"paymentGatewayType": "stripe"}, "paymentGatewayType"),
        ({"paymentGatewayType": "STRIPE-CONNECT"}, "paymentGatewayType"),
        ({"onlineScenario": "true"}, "onlineScenario"),
        ({"onlineScenario": 1}, "onlineScenario"),
        ({"supportOfflineScenario": "false"}, "supportOfflineScenario"),
        ({"supportOfflineScenario": 0}, "supportOfflineScenario"),
        ({"completePayRedirectUrl": "http://shop.example/"}, "https"),
        ({"cancelPayRedirectUrl": "http://shop.example/"}, "https"),
        ({"completePayRedirectUrl": "/return/"}, "completePayRedirectUrl"),
        ({"completePayRedirectUrl": "https://"}, "completePayRedirectUrl"),
        ({"completePayRedirectUrl": "https://[::1"}, "completePayRedirectUrl"),
        ({"cancelPayRedirectUrl": "javascript:alert(1)"}, "cancelPayRedirectUrl"),
        ({"cancelPayRedirectUrl": "https://a.example/\r\nX: 1"}, "cancelPay"),
        ({"customerIdentifier": "user-12345"}, "email"),
        ({"customerIdentifier": ""}, "customerIdentifier"),
        ({"customerIdentifier": 5}, "customerIdentifier"),
        ({"description": 5}, "description"),
        ({"merchantId": "M"}, "merchantId"),
    ],
)
def test_a_request_that_a_right_client_never_sends_is_refused(hub, change, word):
    assert_refused(hub.start(**change), 400, word)
    assert hub.sandbox.get("/_control/easybilling/payments").json() == []


def test_null_is_no_value_of_any_field(hub):
    for name in hub.order():
        body = hub.order() | {name: None}
        assert_refused(hub.call("POST", "/api/transactions", json=body), 400, name)


def test_an_amount_in_major_units_has_the_currency_s_decimals(hub):
    hub.settings(amount_unit="major")

    for amount, currency in (("99.00", "USD"), ("99", "USD"), ("500", "JPY")):
        assert hub.start(amount=amount, currency=currency).status_code == 200
    assert hub.start(amount="1.234", currency="KWD").status_code == 200
    for amount, currency in (
        ("99.001", "USD"),
        ("500.0", "JPY"),
        ("0.00", "USD"),
        (".5", "USD"),
        ("5.", "USD"),
        ("1,000.00", "USD"),
    ):
        assert_refused(hub.start(amount=amount, currency=currency), 400, "amount")


def test_only_stripe_insists_on_https_and_an_email(hub):
    plain = {
        "completePayRedirectUrl": "http://127.0.0.1:8000/return/",
        "cancelPayRedirectUrl": "http://127.0.0.1:8000/cancel/",
    }
    for gateway in ("alipay-page", "wechat-pay-native", "payer-max-isv"):
        assert hub.start(
            paymentGatewayType=gateway, customerIdentifier="user-12345", **plain
        ).is_success
    assert_refused(hub.start(**plain), 400, "https")

    hub.settings(https_required=False)
    assert hub.start(**plain).is_success

    hub.settings(customer_required_for_stripe=True)
    assert_refused(hub.start(customerIdentifier=None), 400, "customerIdentifier")
    assert hub.start(
        customerIdentifier=None, paymentGatewayType="alipay-page"
    ).is_success


def test_longer_ids_and_unknown_fields_are_settings(hub):
    hub.settings(transaction_id_length=36, refuse_unknown_fields=False)

    assert hub.start(transactionId="A" * 36, merchantId="M").is_success
    assert_refused(hub.start(transactionId="A" * 37), 400)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"\xff", "application/json"),
        (b"amount=1", "application/x-www-form-urlencoded"),
        (b"{}", "text/plain"),
        (b'{"transactionId": "\\ud800"}', "application/json"),
    ],
)
def test_a_body_must_be_a_json_object(hub, content, media_type):
    answer = hub.call(
        "POST",
        "/api/transactions",
        content=content,
        headers={"Content-Type": media_type},
    )
    assert_refused(answer, 400)


def test_unknown_addresses_and_methods_are_refused_in_the_same_shape(hub):
    assert_refused(hub.call("GET", "/api/nothing"), 404)
    assert_refused(hub.call("GET", "/transactions/A/B/status"), 404)
    assert_refused(hub.call("GET", "/api/transactions"), 405)
    assert_refused(hub.call("POST", "/transactions/A/status"), 405)
    assert_refused(hub.call("POST", "/api/transactions/"), 404)


# -- repeating a transactionId -----------------------------------------------------


@pytest.mark.parametrize("outcome", ["", "pending"])
def test_a_repeat_of_an_open_payment_gets_the_same_answer(hub, outcome):
    first = hub.started(transactionId="A")
    if outcome:
        hub.decide("A", outcome)

    again = hub.started(transactionId="A")

    assert again["paymentId"] == first["paymentId"]
    assert again["paymentUrl"] == first["paymentUrl"]
    assert again["status"] == WORDS[outcome][0]
    assert len(hub.sandbox.get("/_control/easybilling/payments").json()) == 1


def test_a_repeat_after_a_failure_gets_a_new_link_and_the_old_one_dies(hub):
    first = hub.started(transactionId="A")
    hub.press(first, "decline")

    second = hub.started(transactionId="A")

    assert second["paymentId"] != first["paymentId"]
    assert second["status"] == "waiting"
    assert hub.press(first, "approve").status_code == 410
    assert hub.press(second, "approve").status_code == 303
    assert hub.payment("A")["charges"] == 1


def test_links_of_a_repeat_are_a_matter_of_policy(hub):
    hub.settings(reissue="always")
    first = hub.started(transactionId="A")
    second = hub.started(transactionId="A")
    assert second["paymentId"] != first["paymentId"]
    hub.decide("A", "decline")

    hub.settings(reissue="never")

    assert hub.started(transactionId="A")["paymentId"] == second["paymentId"]
    assert hub.started(transactionId="A")["status"] == "failed"


@pytest.mark.parametrize("outcome", ["approve", "close", "expire", "cancel"])
def test_a_repeat_of_a_finished_payment_is_a_conflict(hub, outcome):
    first = hub.started(transactionId="A")
    hub.decide("A", outcome)

    assert_refused(hub.start(transactionId="A"), 409)

    hub.settings(repeat_of_finished="same")
    assert hub.started(transactionId="A")["paymentId"] == first["paymentId"]
    assert hub.payment("A")["charges"] == (1 if outcome == "approve" else 0)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "9901"},
        {"currency": "EUR"},
        {"paymentGatewayType": "alipay-page"},
        {"customerIdentifier": "other@example.com"},
    ],
)
def test_a_changed_repeat_is_a_conflict(hub, change):
    first = hub.started(transactionId="A")

    assert_refused(hub.start(transactionId="A", **change), 409)

    hub.settings(changed_repeat="ignore")
    assert hub.started(transactionId="A", **change)["paymentId"] == first["paymentId"]
    assert hub.payment("A")["amount"] == "9900"


def test_another_day_or_address_is_no_change(hub):
    hub.started(transactionId="A")

    assert hub.start(
        transactionId="A", date="2026-05-02", cancelPayRedirectUrl=COMPLETE
    ).is_success


# -- status ------------------------------------------------------------------------


def test_both_addresses_and_the_refresh_tell_the_status(hub):
    started = hub.started(transactionId="A")
    for method, path in (
        ("GET", "/transactions/A/status"),
        ("GET", "/api/transactions/A/status"),
        ("POST", "/api/transactions/A/status"),
    ):
        answer = hub.call(method, path)
        assert answer.status_code == 200
        assert answer.json() == started | {"status": "pending"}
    assert_refused(hub.call("GET", "/transactions/B/status"), 404)


@pytest.mark.parametrize("outcome", WORDS)
def test_each_page_speaks_its_own_words(hub, outcome):
    hub.settings(repeat_of_finished="same", reissue="never")
    hub.started(transactionId="A")
    if outcome:
        hub.decide("A", outcome)
    seed, page, guide = WORDS[outcome]

    def words() -> tuple[str, str]:
        return hub.started(transactionId="A")["status"], hub.status("A")["status"]

    assert words() == (seed, page)
    hub.settings(vocabulary="seed")
    assert words() == (seed, seed)
    hub.settings(vocabulary="status-page")
    assert words() == (page, page)
    hub.settings(vocabulary="guide")
    assert words() == (guide, guide)
    hub.settings(vocabulary="capitals")
    assert words() == (seed.upper(), page.upper())


def test_any_word_can_stand_in_for_the_status_of_inquiries(hub):
    hub.settings(status_word="on-hold")

    assert hub.started(transactionId="A")["status"] == "waiting"
    assert hub.status("A")["status"] == "on-hold"


def test_the_hub_s_copy_may_be_stale_until_a_refresh(hub):
    hub.settings(stale_until_refresh=True)
    hub.started(transactionId="A")
    hub.decide("A", "approve")

    assert hub.status("A")["status"] == "pending"
    refreshed = hub.call("POST", "/api/transactions/A/status").json()
    assert refreshed["status"] == "completed-with-success"
    assert hub.status("A")["status"] == "completed-with-success"


def test_a_link_runs_out_on_the_sandbox_clock(hub):
    hub.settings(expire_seconds=600)
    started = hub.started(transactionId="A")
    assert started["expireTime"] == 600
    hub.forward(590)
    assert hub.status("A")["status"] == "pending"

    hub.forward(11)

    assert hub.status("A")["status"] == "expired"
    page = hub.press(started, "approve")
    assert page.status_code == 200
    assert "expired" in page.text
    assert hub.payment("A")["charges"] == 0
    assert hub.decide("A", "approve").status_code == 409


def test_what_is_in_progress_does_not_run_out(hub):
    hub.started(transactionId="A")
    hub.decide("A", "pending")
    hub.forward(7200)

    assert hub.status("A")["status"] == "processing"
    assert hub.decide("A", "approve").status_code == 200
    assert hub.status("A")["status"] == "completed-with-success"


# -- the hosted page ---------------------------------------------------------------


def test_the_page_shows_the_bill_and_escapes_it(hub):
    started = hub.started(
        amount="123450", description="<b>Tea</b>", supportOfflineScenario=True
    )

    page = hub.sandbox.get(started["paymentUrl"])

    assert page.status_code == 200
    assert "SANDBOX" in page.text
    assert "USD 1,234.50" in page.text
    assert "&lt;b&gt;Tea&lt;/b&gt;" in page.text
    assert "<script" not in page.text
    assert page.headers["cache-control"] == "no-store"
    for outcome in (
        "approve",
        "decline",
        "cancel",
        "expire",
        "pending",
        "close",
        "vanish",
    ):
        assert f'value="{outcome}"' in page.text


def test_an_amount_is_shown_with_its_currency_s_decimals(hub):
    for amount, currency, shown in (
        ("1500", "JPY", "JPY 1,500"),
        ("1500", "KWD", "KWD 1.500"),
    ):
        started = hub.started(amount=amount, currency=currency)
        assert shown in hub.sandbox.get(started["paymentUrl"]).text


@pytest.mark.parametrize(
    ("outcome", "target"),
    [
        # After success and failure the very same address, unchanged.
        ("approve", COMPLETE),
        ("decline", COMPLETE),
        ("pending", COMPLETE),
        ("cancel", CANCEL),
        ("expire", None),
        ("close", None),
        ("vanish", None),
    ],
)
def test_the_browser_goes_where_the_document_says(hub, outcome, target):
    started = hub.started(transactionId="A")

    gone = hub.press(started, outcome)

    assert gone.status_code == 303
    own_page = urlsplit(started["paymentUrl"]).path
    assert gone.headers["location"] == (target or own_page)
    again = hub.sandbox.get(started["paymentUrl"])
    assert again.status_code == 200
    assert ('id="returnLink"' in again.text) is (
        target is not None and outcome != "pending"
    )


def test_a_setting_adds_parameters_to_the_redirect(hub):
    hub.settings(return_parameters=True)
    started = hub.started(transactionId="A")

    parts = urlsplit(hub.press(started, "approve").headers["location"])

    assert parts.query.startswith(urlsplit(COMPLETE).query + "&")
    added = dict(parse_qsl(parts.query))
    assert added["transactionId"] == "A"
    assert added["paymentId"] == started["paymentId"]
    assert added["status"] == "succeeded"

    hub.started(transactionId="B")
    canceled = hub.decide("B", "cancel").json()["return_url"]
    assert canceled.startswith("https://shop.example/cancel/?transactionId=B&")
    assert canceled.endswith("#cart")


def test_a_cancel_may_leave_the_payment_open(hub):
    hub.settings(cancel_closes=False)
    started = hub.started(transactionId="A")

    assert hub.press(started, "cancel").headers["location"] == CANCEL
    assert hub.status("A")["status"] == "pending"
    assert hub.press(started, "approve").headers["location"] == COMPLETE
    assert hub.status("A")["status"] == "completed-with-success"


def test_a_second_press_takes_no_money(hub):
    started = hub.started(transactionId="A")
    hub.press(started, "approve")

    late = hub.press(started, "decline")

    assert late.status_code == 200
    assert hub.status("A")["status"] == "completed-with-success"
    assert hub.payment("A")["charges"] == 1


def test_an_unknown_button_or_page_is_refused(hub):
    started = hub.started(transactionId="A")

    again = hub.press(started, "steal")

    assert again.status_code == 400
    assert 'role="alert"' in again.text
    assert hub.payment("A")["status"] == "waiting"
    assert hub.sandbox.get("/easybilling/pay/nothing").status_code == 404


# -- WeChat ------------------------------------------------------------------------


def test_wechat_answers_a_code_and_the_phone_finds_its_page(hub):
    started = hub.started(
        transactionId="A", paymentGatewayType="wechat-pay-native", currency="CNY"
    )
    url = started["paymentUrl"]
    assert url.startswith("weixin://wxpay/bizpayurl?pr=")

    listed = hub.sandbox.get("/easybilling/wechat")
    assert hub.payment("A")["page"] in listed.text
    assert hub.sandbox.get("/easybilling/wechat?pr=nothing").status_code == 404
    scanned = hub.sandbox.get("/easybilling/wechat", params={"pr": url})
    assert scanned.status_code == 303
    page = scanned.headers["location"]
    assert url in hub.sandbox.get(page).text

    paid = hub.sandbox.post(page, data={"outcome": "approve"})

    # The phone pays; the browser with the shop's page is on another device.
    assert paid.headers["location"] == page
    assert "complete" in hub.sandbox.get(page).text
    assert hub.status("A")["status"] == "completed-with-success"
    assert hub.status("A")["paymentUrl"] == url


def test_the_phone_s_browser_may_go_to_the_shop(hub):
    hub.settings(wechat_returns=True)
    hub.started(transactionId="A", paymentGatewayType="wechat-pay-native")

    assert hub.decide("A", "approve").json()["return_url"] == COMPLETE


# -- saved methods and offline charges ---------------------------------------------


OFFLINE = {"onlineScenario": False}


def test_an_offline_charge_needs_a_saved_method(hub):
    assert_refused(hub.start(**OFFLINE), 400, "saved payment method")
    hub.paid("NOT-SAVED")
    assert_refused(hub.start(**OFFLINE), 400, "saved payment method")

    hub.paid("SAVED", supportOfflineScenario=True)
    charged = hub.started(transactionId="LATER", **OFFLINE)

    assert charged["status"] == "succeeded"
    assert charged["paymentUrl"] == ""
    assert isinstance(charged["expireTime"], int)
    assert hub.payment("LATER")["charges"] == 1
    assert hub.status("LATER")["status"] == "completed-with-success"


def test_a_method_is_saved_by_success_alone(hub):
    hub.started(transactionId="A", supportOfflineScenario=True)
    hub.decide("A", "decline")

    assert_refused(hub.start(**OFFLINE), 400)
    assert hub.sandbox.get("/_control/easybilling/tokens").json() == []


def test_a_method_belongs_to_customer_gateway_and_account(hub):
    hub.save_method()

    assert hub.start(**OFFLINE).is_success
    assert_refused(hub.start(customerIdentifier="o@example.com", **OFFLINE), 400)
    assert_refused(hub.start(paymentGatewayType="payer-max-isv", **OFFLINE), 400)
    hub.token = FOREIGN_TOKEN
    assert_refused(hub.start(**OFFLINE), 400)


@pytest.mark.parametrize(
    ("outcome", "word", "charges"),
    [("succeed", "succeeded", 1), ("pending", "processing", 0), ("fail", "failed", 0)],
)
def test_the_end_of_an_offline_charge_is_a_setting(hub, outcome, word, charges):
    hub.settings(offline_outcome=outcome)
    hub.save_method()

    assert hub.started(transactionId="A", **OFFLINE)["status"] == word
    assert hub.payment("A")["charges"] == charges


def test_a_pending_offline_charge_is_decided_at_the_control_desk(hub):
    hub.settings(offline_outcome="pending")
    hub.save_method()
    first = hub.started(transactionId="A", **OFFLINE)
    assert hub.started(transactionId="A", **OFFLINE) == first

    decided = hub.decide("A", "approve").json()

    assert decided["return_url"] is None
    assert decided["payment"]["charges"] == 1
    assert_refused(hub.start(transactionId="A", **OFFLINE), 409)
    assert hub.sandbox.get(f"/easybilling/pay/{first['paymentId']}").status_code == 404


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"onlineScenario": False, "customerIdentifier": None}, "customerIdentifier"),
        ({"onlineScenario": False, "supportOfflineScenario": True}, "onlineScenario"),
        (
            {"onlineScenario": False, "paymentGatewayType": "alipay-page"},
            "alipay-page",
        ),
        (
            {"supportOfflineScenario": True, "paymentGatewayType": "alipay-page"},
            "alipay-page",
        ),
        ({"supportOfflineScenario": True, "customerIdentifier": None}, "customer"),
    ],
)
def test_an_offline_scenario_that_cannot_be_is_refused(hub, change, word):
    assert_refused(hub.start(**change), 400, word)


def test_all_gateways_may_save_methods_by_setting(hub):
    hub.settings(offline_gateways="all")
    hub.paid("A", supportOfflineScenario=True, paymentGatewayType="alipay-page")

    assert hub.start(paymentGatewayType="alipay-page", **OFFLINE).is_success


def setup_body(**changes) -> dict:
    body = {
        "paymentGatewayType": "stripe-connect",
        "customerIdentifier": "user-12345",
        "redirectUrl": "https://shop.example/saved/",
        "cancelUrl": "https://shop.example/not-saved/",
    } | changes
    return {name: value for name, value in body.items() if value is not None}


@pytest.mark.parametrize(
    ("outcome", "target", "is_saved"),
    [
        ("save", "https://shop.example/saved/", True),
        ("cancel", "https://shop.example/not-saved/", False),
    ],
)
def test_a_set_up_page_saves_a_method(hub, outcome, target, is_saved):
    answer = hub.call("POST", "/api/payment-methods", json=setup_body())
    assert answer.status_code == 200
    url = answer.json()
    assert isinstance(url, str)
    page = hub.sandbox.get(url)
    assert "user-12345" in page.text
    assert hub.sandbox.post(url, data={"outcome": "steal"}).status_code == 400

    gone = hub.sandbox.post(url, data={"outcome": outcome})

    assert (gone.status_code, gone.headers["location"]) == (303, target)
    saved = hub.sandbox.get("/_control/easybilling/tokens").json()
    assert [method["customer"] for method in saved] == ["user-12345"] * is_saved
    assert hub.sandbox.post(url, data={"outcome": "save"}).status_code == 200
    assert hub.sandbox.get("/_control/easybilling/tokens").json() == saved


@pytest.mark.parametrize(
    "change",
    [
        {"paymentGatewayType": "alipay-page"},
        {"paymentGatewayType": None},
        {"customerIdentifier": None},
        {"redirectUrl": None},
        {"redirectUrl": "saved/"},
        {"cancelUrl": None},
        {"amount": "1"},
    ],
)
def test_a_wrong_set_up_is_refused(hub, change):
    answer = hub.call("POST", "/api/payment-methods", json=setup_body(**change))
    assert_refused(answer, 400)


def test_payermax_sets_up_without_a_cancel_address(hub):
    body = setup_body(paymentGatewayType="payer-max-isv", cancelUrl=None)
    url = hub.call("POST", "/api/payment-methods", json=body).json()
    gone = hub.sandbox.post(url, data={"outcome": "cancel"})
    assert gone.headers["location"] == urlsplit(url).path
    assert "Nothing was saved" in hub.sandbox.get(url).text
    assert hub.sandbox.get("/easybilling/setup/nothing").status_code == 404


def test_a_set_up_is_decided_at_the_control_desk(hub):
    hub.call("POST", "/api/payment-methods", json=setup_body(customerIdentifier=BUYER))
    (setup,) = hub.sandbox.get("/_control/easybilling/setups").json()
    address = f"/_control/easybilling/setups/{setup['id']}/outcome"

    assert hub.sandbox.post(address, json={"outcome": "x"}).status_code == 400
    decided = hub.sandbox.post(address, json={"outcome": "save"})
    assert decided.json()["return_url"] == "https://shop.example/saved/"
    assert decided.json()["setup"]["status"] == "saved"
    assert hub.sandbox.post(address, json={"outcome": "save"}).status_code == 409
    missing = address.replace(setup["id"], "x")
    assert hub.sandbox.post(missing, json={"outcome": "save"}).status_code == 404
    assert hub.start(**OFFLINE).is_success


# -- refunds -----------------------------------------------------------------------


def test_a_refund_answers_transaction_and_status(hub):
    hub.paid()

    answer = hub.refund(amount="123")

    assert answer.status_code == 200
    assert answer.json() == {"transactionId": "PAID", "status": "success"}
    (refund,) = hub.payment("PAID")["refunds"]
    assert refund["reference"] == "R-1"
    assert refund["amount"] == "123"
    assert hub.payment("PAID")["refunded"] == "123"
    assert hub.status("PAID")["status"] == "completed-with-success"


def test_the_status_of_the_field_table_is_tolerated(hub):
    hub.paid()
    assert hub.refund(status="created").is_success


@pytest.mark.parametrize(
    "change",
    [
        {"transactionId": 1},
        {"requestId": ""},
        {"requestId": "A" * 33},
        {"requestId": "a b"},
        {"amount": 100},
        {"amount": "0"},
        {"amount": "1.00"},
        {"amount": "-1"},
        {"reason": "damaged"},
    ],
)
def test_a_wrong_refund_is_refused(hub, change):
    hub.paid()
    assert_refused(hub.refund(**change), 400)
    assert hub.payment("PAID")["refunds"] == []


@pytest.mark.parametrize("name", ["transactionId", "requestId", "amount"])
def test_the_three_fields_of_the_refund_sample_are_required(hub, name):
    hub.paid()
    body = {"transactionId": "PAID", "requestId": "R", "amount": "100"}
    del body[name]
    assert_refused(hub.call("POST", "/api/refund", json=body), 400, name)


def test_only_what_was_paid_can_be_refunded(hub):
    assert_refused(hub.refund(), 404)
    for outcome in ("", "pending", "decline", "close"):
        hub.started(transactionId=f"X{outcome}")
        if outcome:
            hub.decide(f"X{outcome}", outcome)
        assert_refused(hub.refund(transactionId=f"X{outcome}"), 409)


def test_a_request_id_refunds_once(hub):
    hub.paid()
    first = hub.refund()

    assert hub.refund().json() == first.json()
    assert hub.payment("PAID")["refunded"] == "100"
    assert_refused(hub.refund(amount="101"), 409)
    hub.paid("OTHER")
    assert_refused(hub.refund(transactionId="OTHER"), 409)
    assert hub.payment("OTHER")["refunds"] == []
    # Another account's requests are its own.
    hub.token = FOREIGN_TOKEN
    hub.paid("THEIRS")
    assert hub.refund(transactionId="THEIRS").is_success


def test_parts_add_up_to_the_whole_and_never_more(hub):
    hub.paid()

    assert hub.refund("R-1", amount="4900").is_success
    assert_refused(hub.refund("R-2", amount="5001"), 400, "left")
    assert hub.refund("R-2", amount="5000").is_success
    assert_refused(hub.refund("R-3", amount="1"), 400, "left")

    assert hub.payment("PAID")["refunded"] == "9900"
    assert hub.status("PAID")["status"] == "refunded"
    hub.settings(vocabulary="seed")
    assert hub.status("PAID")["status"] == "succeeded"


def test_what_is_under_way_counts_and_what_failed_does_not(hub):
    hub.settings(refund_outcome="pending")
    hub.paid()
    assert hub.refund("R-1", amount="9900").json()["status"] == "created"
    assert_refused(hub.refund("R-2", amount="1"), 400, "left")
    assert hub.payment("PAID")["refunded"] == "0"

    finished = hub.finish("PAID", "R-1", "fail")

    assert finished.json()["refunds"][0]["status"] == "failure"
    hub.settings(refund_outcome="succeed")
    assert hub.refund("R-2", amount="9900").json()["status"] == "success"
    assert hub.refund("R-1", amount="9900").json()["status"] == "failure"


@pytest.mark.parametrize(
    ("outcome", "word", "guide"),
    [
        ("succeed", "success", "succeeded"),
        ("fail", "failure", "failed"),
        ("cancel", "cancel", "canceled"),
        ("close", "closed", "closed"),
    ],
)
def test_a_pending_refund_goes_through_every_word(hub, outcome, word, guide):
    hub.settings(refund_outcome="pending")
    hub.paid()
    assert hub.refund().json()["status"] == "created"
    assert hub.refund_status(requestId="R-1").json()["status"] == "refunding"

    assert hub.finish("PAID", "R-1", outcome).status_code == 200

    assert hub.refund_status(requestId="R-1").json()["status"] == word
    assert hub.finish("PAID", "R-1", outcome).status_code == 409
    hub.settings(refund_vocabulary="guide")
    assert hub.refund_status(requestId="R-1").json()["status"] == guide
    hub.settings(refund_vocabulary="capitals")
    assert hub.refund_status(requestId="R-1").json()["status"] == word.upper()


def test_a_refund_takes_its_time_on_the_sandbox_clock(hub):
    hub.settings(refund_delay_seconds=3600)
    hub.paid()
    assert hub.refund(amount="9900").json()["status"] == "created"
    assert hub.refund_status(requestId="R-1").json()["status"] == "refunding"
    assert hub.status("PAID")["status"] == "completed-with-success"

    hub.forward(3601)

    assert hub.refund_status(requestId="R-1").json()["status"] == "success"
    assert hub.status("PAID")["status"] == "refunded"


def test_a_refund_may_fail(hub):
    hub.settings(refund_outcome="fail")
    hub.paid()

    assert hub.refund().json()["status"] == "failure"
    assert hub.payment("PAID")["refunded"] == "0"


def test_a_refund_is_found_by_transaction_or_request(hub):
    hub.paid()
    hub.refund("R-1")
    hub.settings(refund_outcome="fail")
    hub.refund("R-2", amount="200")

    by_both = hub.refund_status(transactionId="PAID", requestId="R-1")
    assert by_both.json() == {"transactionId": "PAID", "status": "success"}
    assert hub.refund_status(requestId="R-2").json()["status"] == "failure"
    # The newest, when only the transaction is named.
    assert hub.refund_status(transactionId="PAID").json()["status"] == "failure"
    assert_refused(hub.refund_status(), 400)
    assert_refused(hub.refund_status(requestId="R-3"), 404)
    assert_refused(hub.refund_status(transactionId="X", requestId="R-1"), 404)


# -- the uniform control desk ------------------------------------------------------


def test_the_books_say_what_the_demo_needs(hub):
    started = hub.paid("A")
    hub.started(transactionId="B")
    hub.refund(transactionId="A")

    first, second = hub.sandbox.get("/_control/easybilling/payments").json()

    assert (first["reference"], second["reference"]) == ("A", "B")
    assert first["provider_reference"] == started["paymentId"]
    assert (first["status"], second["status"]) == ("succeeded", "waiting")
    assert (first["amount"], first["currency"]) == ("9900", "USD")
    assert (first["refunded"], second["refunded"]) == ("100", "0")
    assert (first["charges"], second["charges"]) == (1, 0)
    (refund,) = first["refunds"]
    assert set(refund) == {"reference", "provider_reference", "amount", "status"}
    assert hub.payment("A") == first
    expires = datetime.fromisoformat(second["expires_at"])
    now = datetime.fromisoformat(hub.sandbox.get("/_control/clock").json()["now"])
    assert timedelta(minutes=29) < expires - now <= timedelta(minutes=30)


@pytest.mark.parametrize(
    ("outcome", "status", "target"),
    [
        ("approve", "succeeded", COMPLETE),
        ("decline", "failed", COMPLETE),
        ("cancel", "closed", CANCEL),
        ("expire", "expired", None),
        ("pending", "processing", COMPLETE),
        ("close", "closed", None),
        ("vanish", "succeeded", None),
    ],
)
def test_the_desk_does_what_the_button_does(hub, outcome, status, target):
    hub.started(transactionId="A")

    answer = hub.decide("A", outcome)

    assert answer.status_code == 200
    assert answer.json() == {
        "return_url": target,
        "return_method": "GET",
        "return_fields": {},
        "payment": hub.payment("A"),
    }
    assert hub.payment("A")["status"] == status


def test_the_desk_refuses_what_it_does_not_know(hub):
    hub.started(transactionId="A")

    for wrong in ("underpay", 5, None, ["approve"]):
        refused = hub.decide("A", wrong)
        assert refused.status_code == 400
        assert "use one of approve, decline, cancel, expire" in refused.json()["error"]
    assert hub.decide("B", "approve").status_code == 404
    assert hub.sandbox.get("/_control/easybilling/payments/B").status_code == 404
    assert hub.finish("A", "R", "succeed").status_code == 404
    assert hub.sandbox.post("/_control/easybilling/tokens", json={}).status_code == 400


def test_late_money_can_be_forced_and_is_taken_once(hub):
    hub.started(transactionId="A")
    hub.decide("A", "expire")
    assert hub.decide("A", "approve").status_code == 409

    assert hub.decide("A", "approve", force=True).status_code == 200
    hub.decide("A", "approve", force=True)

    assert hub.status("A")["status"] == "completed-with-success"
    assert hub.payment("A")["charges"] == 1


def test_the_control_page_has_buttons_that_work(hub):
    hub.settings(refund_outcome="pending")
    hub.started(transactionId="A")
    approve = "/_control/easybilling/payments/A/outcome?outcome=approve"
    assert approve in hub.sandbox.get("/_control/").text
    assert hub.sandbox.post(approve).status_code == 200
    hub.refund(transactionId="A")
    succeed = "/_control/easybilling/payments/A/refunds/R-1/outcome?outcome=succeed"
    page = hub.sandbox.get("/_control/").text
    assert succeed in page
    assert approve not in page
    assert hub.sandbox.post(succeed).json()["refunded"] == "100"


def test_a_reset_forgets_everything(hub):
    hub.paid("A", supportOfflineScenario=True)
    hub.settings(vocabulary="capitals")

    hub.sandbox.post("/_control/reset")

    assert hub.sandbox.get("/_control/easybilling/payments").json() == []
    assert hub.sandbox.get("/_control/easybilling/tokens").json() == []
    assert hub.started(transactionId="A")["status"] == "waiting"


def test_a_fault_after_the_work_leaves_the_payment_in_the_books(hub):
    fault = {"provider": "easybilling", "operation": "start", "fault": "drop_after"}
    hub.sandbox.post("/_control/faults", json=fault)

    with pytest.raises(httpx.RemoteProtocolError):
        hub.start(transactionId="A")

    assert hub.status("A")["status"] == "pending"


def test_nothing_is_ever_sent_to_the_shop(hub, shop):
    hub.settings(https_required=False)
    hub.paid(
        completePayRedirectUrl=f"{shop.origin}/return/",
        cancelPayRedirectUrl=f"{shop.origin}/cancel/",
    )
    hub.refund()

    assert hub.sandbox.post("/_control/callbacks/flush").json()["pending"] == 0
    assert hub.sandbox.get("/_control/callbacks?provider=easybilling").json() == []
    assert shop.received == []
