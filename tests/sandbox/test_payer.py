"""Payer in the sandbox against its one public page, over real sockets."""

import html
import json
import re
from datetime import datetime, timedelta

import pytest

API_KEY = "payer_test_5Wd8Qk2Zr7Tn4Yb9Hc3Mx6Vp"
OTHER_API_KEY = "payer_test_9Fj3Lg6Sx2Ra8Ue5Kt7Bw4Nq"
INACTIVE_API_KEY = "payer_test_1Cv4Pz7Gd9Mh2Xs6Jy8Ef5Lr"
RETURN_URL = "https://shop.example/thanks/"
FIELDS = {
    "id": str,
    "amount": int,
    "currency": str,
    "status": str,
    "checkout_url": str,
    "customer_email": str,
    "customer_name": str,
    "metadata": dict,
    "created_at": str,
}


class PayerMerchant:
    """A shop's server and its buyer, as the document describes them."""

    def __init__(self, sandbox, shop):
        self.sandbox = sandbox
        self.shop = shop

    def order(self, **changes):
        """A good body of create with every documented field; None drops one."""
        body = {
            "amount": 2630,
            "currency": "usd",
            "return_url": RETURN_URL,
            "customer_email": "buyer@example.com",
            "customer_name": "Hong Gil Dong",
            "metadata": {"merchant_reference": "M-1", "gift": True, "weight": 1.5},
        } | changes
        return {name: value for name, value in body.items() if value is not None}

    def create(self, body=None, api_key=API_KEY, **headers):
        """The answer of create; `Idempotency_Key="k"` adds that header."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.sandbox.post(
            "/payer/payments",
            json=self.order() if body is None else body,
            headers={"Authorization": f"Bearer {api_key}"} | more,
        )

    def retrieve(self, payment_id, api_key=API_KEY):
        return self.sandbox.get(
            f"/payer/payments/{payment_id}",
            headers={"Authorization": f"Bearer {api_key}"},
        )

    def created(self, **changes):
        return self.create(self.order(**changes)).raise_for_status().json()

    def choose(self, payment, outcome):
        return self.sandbox.post(payment["checkout_url"], data={"outcome": outcome})

    def settings(self, **changes):
        self.sandbox.post(
            "/_control/settings", json={"payer": changes}
        ).raise_for_status()

    def control(self, method, path, **body):
        return self.sandbox.request(
            method, f"/_control/payer/payments{path}", json=body or None
        )

    def books(self, reference="M-1"):
        return self.control("GET", f"/{reference}").raise_for_status().json()

    def press(self, outcome, reference="M-1"):
        return self.control("POST", f"/{reference}/outcome", outcome=outcome)

    def webhooks(self):
        """The bodies the shop received, once nothing is under way."""
        self.sandbox.post("/_control/callbacks/flush").raise_for_status()
        return [json.loads(item.body) for item in self.shop.received]

    def forward(self, seconds):
        self.sandbox.post("/_control/clock", json={"advance_seconds": seconds})


@pytest.fixture
def merchant(sandbox, shop):
    # The buyer's way back leads to a shop that is not there.
    sandbox.follow_redirects = False
    merchant = PayerMerchant(sandbox, shop)
    merchant.settings(webhook_url=f"{shop.origin}/webhook/")
    return merchant


# -- create and retrieve ------------------------------------------------------------


def test_create_answers_200_with_every_documented_field(merchant):
    answer = merchant.create()

    assert answer.status_code == 200
    payment = answer.json()
    assert {name: type(value) for name, value in payment.items()} == FIELDS
    assert payment.items() >= merchant.order(return_url=None).items()
    assert payment["status"] == "pending"
    assert payment["checkout_url"].endswith(f"/payer/checkout/{payment['id']}")
    assert datetime.fromisoformat(payment["created_at"]).utcoffset() == timedelta()


def test_what_was_not_given_is_absent_but_metadata_is_empty(merchant):
    body = merchant.order(customer_email=None, customer_name=None, metadata=None)

    payment = merchant.create(body).json()

    assert FIELDS.keys() - payment.keys() == {"customer_email", "customer_name"}
    assert payment["metadata"] == {}
    merchant.settings(null_absent_fields=True)
    assert merchant.create(body).json()["customer_email"] is None


def test_retrieve_gives_the_same_fields_and_metadata(merchant):
    payment = merchant.created()

    answer = merchant.retrieve(payment["id"])

    assert (answer.status_code, answer.json()) == (200, payment)


def test_the_currency_can_be_written_in_capitals(merchant):
    merchant.settings(uppercase_currency=True)

    assert merchant.created()["currency"] == "USD"


@pytest.mark.parametrize(
    "api_key", [API_KEY, OTHER_API_KEY], ids=["unknown id", "foreign shop"]
)
def test_only_the_shop_itself_finds_its_payment(merchant, api_key):
    payment = merchant.created()
    payment_id = payment["id"] if api_key == OTHER_API_KEY else "pay_unknown"

    answer = merchant.retrieve(payment_id, api_key)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "payment_not_found"


def test_an_inquiry_can_answer_any_status_word(merchant):
    payment = merchant.created()
    merchant.settings(status_word="on_hold")

    assert merchant.retrieve(payment["id"]).json()["status"] == "on_hold"
    assert merchant.books()["status"] == "pending"


# -- documented errors --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"amount": 49}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": -100}, "amount"),
        ({"amount": "2630"}, "amount"),
        ({"amount": 26.3}, "amount"),
        ({"amount": 2630.0}, "amount"),
        ({"amount": True}, "amount"),
        ({"currency": "eur"}, "currency"),
        ({"currency": "USD"}, "currency"),
        ({"currency": ["usd"]}, "currency"),
        ({"amount": None}, "amount"),
        ({"currency": None}, "currency"),
        ({"return_url": None}, "return_url"),
        ({"return_url": ""}, "return_url"),
        ({"return_url": "/thanks/"}, "return_url"),
        ({"return_url": "shop.example/thanks/"}, "return_url"),
        ({"return_url": "//shop.example/"}, "return_url"),
        ({"return_url": "ftp://shop.example/"}, "return_url"),
        ({"return_url": "javascript:alert(1)"}, "return_url"),
        ({"return_url": "https://"}, "return_url"),
        ({"return_url": "https://shop.example/a b"}, "return_url"),
        ({"return_url": "https://shop.example/\n"}, "return_url"),
        ({"return_url": "https://shop.example:99999/"}, "return_url"),
        ({"return_url": "https://[bad"}, "return_url"),
        ({"return_url": 7}, "return_url"),
        ({"customer_email": "buyer"}, "customer_email"),
        ({"customer_email": ""}, "customer_email"),
        ({"customer_email": 7}, "customer_email"),
        ({"customer_name": ""}, "customer_name"),
        ({"customer_name": {"first": "Gil"}}, "customer_name"),
        ({"metadata": []}, "metadata"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"a": None}}, "metadata"),
        ({"metadata": {"a": {}}}, "metadata"),
        ({"metadata": {"a": [1]}}, "metadata"),
        ({"metadata": {f"k{n}": n for n in range(51)}}, "metadata"),
        ({"metadata": {"a": "x" * 5120}}, "metadata"),
        ({"metadata": {"a": "\u20ac" * 1800}}, "metadata"),
        ({"cancel_url": RETURN_URL}, "cancel_url"),
    ],
)
def test_invalid_parameters_are_400_and_named(merchant, changes, named):
    answer = merchant.create(merchant.order(**changes))

    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]
    assert merchant.control("GET", "").json() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 50},
        {"amount": 10_000},
        {"metadata": {}},
        {"metadata": {f"k{n}": n for n in range(50)}},
        {"metadata": {"a": "x" * (5120 - len('{"a":""}'))}},
        {"return_url": "http://localhost:8000/return/?a=b#c"},
    ],
)
def test_the_limits_themselves_are_allowed(merchant, changes):
    assert merchant.create(merchant.order(**changes)).status_code == 200


def test_unknown_fields_and_larger_metadata_can_be_allowed(merchant):
    merchant.settings(refuse_unknown_fields=False, metadata_bytes=6000)
    body = merchant.order(cancel_url=RETURN_URL, metadata={"a": "x" * 5120})

    assert merchant.create(body).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"customer_name": "\\ud800"}',
        b'{"metadata": {"a": NaN}}',
        b'{"metadata": {"a": 1e999}}',
    ],
)
def test_a_body_that_is_no_json_object_is_400(merchant, content):
    answer = merchant.sandbox.post(
        "/payer/payments",
        content=content,
        headers={
            "Authorization": f"Bearer {API_KEY}",
            "Content-Type": "application/json",
        },
    )

    assert answer.status_code == 400


def test_a_form_is_400(merchant):
    answer = merchant.sandbox.post(
        "/payer/payments",
        data={"amount": "2630"},
        headers={"Authorization": f"Bearer {API_KEY}"},
    )

    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "api_key_missing"),
        ({"Authorization": "Bearer"}, "api_key_missing"),
        ({"X-Api-Key": API_KEY}, "api_key_missing"),
        ({"Authorization": API_KEY}, "api_key_missing"),
        ({"Authorization": f"Basic {API_KEY}"}, "api_key_malformed"),
        ({"Authorization": f"Bearer  {API_KEY}"}, "api_key_malformed"),
        ({"Authorization": f"Bearer {API_KEY}x"}, "api_key_malformed"),
        ({"Authorization": "Bearer sk_test_1"}, "api_key_malformed"),
        ({"Authorization": b"Bearer payer_test_\xe9"}, "api_key_malformed"),
        ({"Authorization": f"Bearer payer_live_{'0' * 24}"}, "api_key_unknown"),
        ({"Authorization": f"Bearer {INACTIVE_API_KEY}"}, "shop_inactive"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_bad_key_is_401_whatever_is_wrong_with_it(merchant, header, code, method):
    payment = merchant.created()
    path = "/payer/payments" + (f"/{payment['id']}" if method == "GET" else "")
    body = {"json": {}} if method == "POST" else {}

    answer = merchant.sandbox.request(method, path, headers=header, **body)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == code


def test_a_rate_limit_is_429_with_retry_after_until_the_minute_is_over(merchant):
    merchant.settings(rate_limit_per_minute=2)
    payment = merchant.created()
    assert merchant.retrieve(payment["id"]).status_code == 200

    refused = merchant.create()

    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limited"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert merchant.create(api_key=OTHER_API_KEY).status_code == 200
    merchant.forward(int(refused.headers["retry-after"]))
    assert merchant.create().status_code == 200


@pytest.mark.parametrize(
    ("operation", "status"), [("create", 429), ("create", 500), ("retrieve", 500)]
)
def test_429_and_500_come_as_faults_too(merchant, operation, status):
    payment = merchant.created()
    fault = {"provider": "payer", "operation": operation, "fault": "status"}
    merchant.sandbox.post(
        "/_control/faults", json=fault | {"status": status, "retry_after": 7}
    )

    if operation == "create":
        answer = merchant.create()
    else:
        answer = merchant.retrieve(payment["id"])

    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert len(merchant.control("GET", "").json()) == 1


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("nested", {"error": {"code": "not_found", "message": "Not found"}}),
        ("flat", {"error": "Not found"}),
        ("message", {"message": "Not found", "statusCode": 404}),
        ("empty", None),
    ],
)
def test_errors_have_the_chosen_shape(merchant, shape, body):
    merchant.settings(error_shape=shape)

    answer = merchant.sandbox.get("/payer/refunds")

    assert answer.status_code == 404
    assert (json.loads(answer.content) if answer.content else None) == body


def test_a_wrong_method_is_405(merchant):
    assert merchant.sandbox.get("/payer/payments").status_code == 405


def test_the_key_stays_out_of_the_books(merchant):
    merchant.create(Idempotency_Key="k")

    (entry,) = merchant.sandbox.get("/_control/requests?provider=payer").json()
    assert entry["operation"] == "create"
    assert API_KEY not in json.dumps(entry)


# -- idempotency --------------------------------------------------------------------


def test_the_same_key_and_body_get_the_same_answer(merchant):
    first = merchant.create(Idempotency_Key="k")
    merchant.press("approve")
    # The order of the fields is not part of the body's meaning.
    turned = dict(reversed(merchant.order().items()))

    again = merchant.create(turned, Idempotency_Key="k")

    assert again.json() == first.json()
    assert len(merchant.control("GET", "").json()) == 1


def test_without_a_key_each_request_is_a_payment(merchant):
    assert merchant.created()["id"] != merchant.created()["id"]


def test_keys_of_two_shops_do_not_meet(merchant):
    first = merchant.create(Idempotency_Key="k").json()
    second = merchant.create(api_key=OTHER_API_KEY, Idempotency_Key="k").json()

    assert first["id"] != second["id"]


@pytest.mark.parametrize("change", [{"amount": 2631}, {"metadata": {"gift": 1}}])
def test_the_same_key_with_another_body_is_refused(merchant, change):
    merchant.create(merchant.order(metadata={"gift": True}), Idempotency_Key="k")
    other = merchant.order(**{"metadata": {"gift": True}} | change)

    answer = merchant.create(other, Idempotency_Key="k")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "idempotency_mismatch"
    merchant.settings(idempotency_mismatch_status=422)
    assert merchant.create(other, Idempotency_Key="k").status_code == 422
    assert len(merchant.control("GET", "").json()) == 1


def test_another_body_can_get_the_first_answer_or_a_new_payment(merchant):
    first = merchant.create(Idempotency_Key="k").json()
    other = merchant.order(amount=100)

    merchant.settings(idempotency_mismatch="replay")
    assert merchant.create(other, Idempotency_Key="k").json() == first
    merchant.settings(idempotency_mismatch="create")
    second = merchant.create(other, Idempotency_Key="k").json()
    assert (second["amount"], second["id"] != first["id"]) == (100, True)


def test_a_refusal_does_not_use_up_the_key(merchant):
    refused = merchant.create(merchant.order(amount=1), Idempotency_Key="k")

    assert refused.status_code == 400
    assert merchant.create(Idempotency_Key="k").status_code == 200


def test_a_lost_answer_can_be_asked_for_again(merchant):
    fault = {"provider": "payer", "operation": "create", "fault": "html"}
    merchant.sandbox.post("/_control/faults", json=fault)
    assert "<html>" in merchant.create(Idempotency_Key="k").text

    answer = merchant.create(Idempotency_Key="k")

    assert answer.json()["id"] == merchant.books()["provider_reference"]
    assert len(merchant.control("GET", "").json()) == 1


def test_a_key_is_forgotten_after_its_time(merchant):
    first = merchant.create(Idempotency_Key="k").json()
    merchant.forward(86_399)
    assert merchant.create(Idempotency_Key="k").json() == first
    merchant.forward(2)

    assert merchant.create(Idempotency_Key="k").json()["id"] != first["id"]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_without_sense_is_400(merchant, key):
    assert merchant.create(Idempotency_Key=key).status_code == 400


# -- the hosted checkout ------------------------------------------------------------


def test_the_checkout_shows_the_payment_and_escapes_it(merchant):
    payment = merchant.created(customer_name="<b>Gil</b>", amount=123_456)

    page = merchant.sandbox.get(payment["checkout_url"])

    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    for text in ("$1,234.56", "&lt;b&gt;Gil&lt;/b&gt;", "buyer@example.com", "M-1"):
        assert text in page.text
    assert "<script" not in page.text


def test_the_checkout_needs_neither_buyer_nor_metadata(merchant):
    payment = merchant.created(customer_email=None, customer_name=None, metadata=None)

    page = merchant.sandbox.get(payment["checkout_url"])

    assert page.status_code == 200
    assert "Receipt to" not in page.text
    assert "Reference" not in page.text


def test_an_unknown_checkout_opens_nothing(merchant):
    assert merchant.sandbox.get("/payer/checkout/pay_guess").status_code == 404


@pytest.mark.parametrize(
    ("outcome", "status", "charges"),
    [
        ("approve", "completed", 1),
        ("decline", "failed", 0),
        ("cancel", "pending", 0),
        ("pending", "pending", 0),
    ],
)
def test_a_button_decides_and_leads_back_with_the_id(
    merchant, outcome, status, charges
):
    payment = merchant.created()
    page = merchant.sandbox.get(payment["checkout_url"])
    assert f'name="outcome" value="{outcome}"' in page.text

    answer = merchant.choose(payment, outcome)

    assert answer.status_code == 303
    assert answer.headers["location"] == f"{RETURN_URL}?payment_id={payment['id']}"
    assert merchant.retrieve(payment["id"]).json() == payment | {"status": status}
    assert merchant.books()["charges"] == charges
    decided = status != "pending"
    assert merchant.webhooks() == [payment | {"status": status}] * decided


def test_a_buyer_can_pay_and_never_come_back(merchant):
    payment = merchant.created()

    answer = merchant.choose(payment, "close")

    assert answer.status_code == 200
    assert "Payment complete" in answer.text
    assert merchant.books()["status"] == "completed"
    assert len(merchant.webhooks()) == 1


@pytest.mark.parametrize("first", ["cancel", "pending"])
def test_a_pending_payment_can_still_be_paid(merchant, first):
    payment = merchant.created()
    merchant.choose(payment, first)

    merchant.choose(payment, "approve")

    assert merchant.books()["status"] == "completed"


@pytest.mark.parametrize("first", ["approve", "decline"])
def test_a_decided_payment_is_closed(merchant, first):
    payment = merchant.created()
    merchant.choose(payment, first)
    before = merchant.books()

    again = merchant.choose(payment, "approve")
    merchant.press("approve")

    assert again.status_code == 200
    assert "<button" not in again.text
    link = re.search(r'id="returnLink" href="([^"]*)"', again.text)
    assert link is not None
    assert link[1] == f"{RETURN_URL}?payment_id={payment['id']}"
    assert merchant.books() == before
    assert len(merchant.webhooks()) == 1


def test_a_failed_payment_can_be_given_a_second_try(merchant):
    merchant.settings(failed_may_retry=True)
    payment = merchant.created()
    merchant.choose(payment, "decline")
    assert "The last try failed" in merchant.sandbox.get(payment["checkout_url"]).text

    merchant.choose(payment, "approve")

    assert [item["status"] for item in merchant.webhooks()] == ["failed", "completed"]
    assert merchant.books()["charges"] == 1


def test_an_unknown_button_is_a_problem_on_the_page(merchant):
    answer = merchant.choose(merchant.created(), "expire")

    assert answer.status_code == 400
    assert "use one of approve" in html.unescape(answer.text)
    assert merchant.books()["status"] == "pending"


@pytest.mark.parametrize(
    ("return_url", "expected"),
    [
        ("https://shop.example/r", "https://shop.example/r?pid={id}"),
        ("https://shop.example/r?a=b%20c", "https://shop.example/r?a=b%20c&pid={id}"),
        ("https://shop.example/r?a=b#top", "https://shop.example/r?a=b&pid={id}#top"),
    ],
)
def test_the_return_keeps_the_shops_own_query(merchant, return_url, expected):
    merchant.settings(return_parameter="pid")
    payment = merchant.created(return_url=return_url)

    location = merchant.choose(payment, "approve").headers["location"]

    assert location == expected.format(id=payment["id"])


# -- webhooks -----------------------------------------------------------------------


def test_a_webhook_is_json_with_the_details_and_the_metadata(merchant):
    payment = merchant.created()
    merchant.choose(payment, "approve")

    (webhook,) = merchant.webhooks()

    assert webhook == merchant.retrieve(payment["id"]).json()
    (incoming,) = merchant.shop.received
    assert incoming.path == "/webhook/"
    assert incoming.content_type == "application/json"


def test_a_webhook_can_have_another_shape(merchant):
    first, second = merchant.created(), merchant.created()
    merchant.settings(webhook_shape="event")
    merchant.choose(first, "decline")
    merchant.settings(webhook_shape="minimal")
    merchant.choose(second, "approve")

    assert merchant.webhooks() == [
        {"type": "payment.failed", "data": first | {"status": "failed"}},
        {"payment_id": second["id"]},
    ]


@pytest.mark.parametrize("off", [{"webhook_url": ""}, {"callbacks_enabled": False}])
def test_a_webhook_can_be_recorded_only(merchant, off):
    merchant.settings(**off)
    merchant.choose(merchant.created(), "approve")

    assert merchant.webhooks() == []
    (entry,) = merchant.sandbox.get("/_control/callbacks?provider=payer").json()
    assert json.loads(entry["body"])["status"] == "completed"
    assert (entry["kind"], entry["order_id"]) == ("webhook", "M-1")
    assert merchant.books()["callbacks"] == [entry["id"]]


def test_duplicates_are_the_very_same_body(merchant):
    merchant.settings(duplicate_status=2)
    merchant.choose(merchant.created(), "approve")

    assert len(merchant.webhooks()) == 3
    assert len({item.body for item in merchant.shop.received}) == 1
    assert merchant.books()["charges"] == 1


def test_a_webhook_is_tried_again_by_the_clock(merchant):
    merchant.settings(
        webhook_url="http://127.0.0.1:9/", retry_delay_seconds=3600, retry_count=2
    )
    merchant.choose(merchant.created(), "approve")
    merchant.forward(3601)
    merchant.webhooks()

    (entry,) = merchant.sandbox.get("/_control/callbacks").json()
    assert (len(entry["attempts"]), entry["delivered"]) == (2, False)


def test_the_webhook_can_be_later_than_the_return(merchant):
    merchant.settings(send_status_before_return=False, status_delay_seconds=3600)

    assert merchant.choose(merchant.created(), "approve").status_code == 303

    assert merchant.shop.received == []
    merchant.forward(3601)
    assert len(merchant.webhooks()) == 1


# -- the control API ----------------------------------------------------------------


def test_the_books_have_the_uniform_keys(merchant):
    first = merchant.created()
    second = merchant.created(metadata=None)

    one, two = merchant.control("GET", "").json()

    assert (
        one.items()
        >= {
            "reference": "M-1",
            "provider_reference": first["id"],
            "status": "pending",
            "amount": 2630,
            "currency": "usd",
            "refunded": "0",
            "refunds": [],
            "charges": 0,
            "customer_email": "buyer@example.com",
            "return_url": RETURN_URL,
        }.items()
    )
    assert two["reference"] == two["provider_reference"] == second["id"]
    assert merchant.books(first["id"]) == one
    assert merchant.control("GET", "/nobody").status_code == 404


def test_the_newest_payment_of_a_reference_is_found(merchant):
    merchant.created()
    newest = merchant.created()

    assert merchant.books()["provider_reference"] == newest["id"]


@pytest.mark.parametrize(
    ("outcome", "status"), [("approve", "completed"), ("cancel", "pending")]
)
def test_a_program_presses_the_same_buttons(merchant, outcome, status):
    payment = merchant.created()

    answer = merchant.press(outcome).json()

    assert answer == {
        "return_url": f"{RETURN_URL}?payment_id={payment['id']}",
        "return_method": "GET",
        "return_fields": {},
        "payment": merchant.books(),
    }
    assert answer["payment"]["status"] == status
    assert len(merchant.webhooks()) == (status == "completed")


def test_a_program_that_closes_the_browser_goes_nowhere(merchant):
    merchant.created()

    answer = merchant.press("close").json()

    assert answer["return_url"] is None
    assert answer["payment"]["status"] == "completed"


@pytest.mark.parametrize("outcome", ["expire", "refund", ""])
def test_an_unknown_outcome_names_the_known_ones(merchant, outcome):
    merchant.created()

    answer = merchant.press(outcome)

    assert answer.status_code == 400
    known = "use one of approve, decline, cancel, pending, close"
    assert known in answer.json()["error"]


def test_a_refund_is_made_in_the_dashboard_and_only_once(merchant):
    payment = merchant.created()
    assert merchant.control("POST", "/M-1/refund").status_code == 409
    merchant.press("approve")

    refunded = merchant.control("POST", "/M-1/refund").json()

    assert (refunded["status"], refunded["refunded"]) == ("refunded", "2630")
    (refund,) = refunded["refunds"]
    assert refund["provider_reference"]
    assert refund == refund | {"reference": "", "amount": 2630, "status": "succeeded"}
    assert merchant.retrieve(payment["id"]).json()["status"] == "refunded"
    statuses = [item["status"] for item in merchant.webhooks()]
    assert statuses == ["completed", "refunded"]
    assert merchant.control("POST", "/M-1/refund").status_code == 409
    assert "Payment refunded" in merchant.sandbox.get(payment["checkout_url"]).text


def test_a_webhook_can_be_forged(merchant):
    payment = merchant.created()

    forged = merchant.control(
        "POST", "/M-1/callback", amount=1, customer_name=None, send=False
    ).json()

    expected = payment | {"status": "completed", "amount": 1}
    del expected["customer_name"]
    assert json.loads(forged["body"]) == expected
    assert forged["headers"] == {"Content-Type": "application/json"}
    assert forged["callback"] is None
    assert merchant.webhooks() == []
    assert merchant.books()["status"] == "pending"


def test_a_forged_webhook_can_go_elsewhere_or_nowhere(merchant):
    merchant.created()
    elsewhere = f"{merchant.shop.origin}/elsewhere/"

    sent = merchant.control("POST", "/M-1/callback", id="pay_x", url=elsewhere).json()

    assert sent["callback"]["delivered"]
    assert merchant.shop.received[0].path == "/elsewhere/"
    assert merchant.webhooks()[0]["id"] == "pay_x"
    merchant.settings(webhook_url="")
    kept = merchant.control("POST", "/M-1/callback").json()
    assert kept["callback"]["attempts"] == []


def test_the_control_page_lists_the_payment_with_its_actions(merchant):
    payment = merchant.created(metadata={"merchant_reference": "<1>"})
    address = f"/_control/payer/payments/{payment['id']}"

    page = merchant.sandbox.get("/_control/").text
    assert "&lt;1&gt;" in page
    assert "$26.30" in page
    assert f'data-send="{address}/refund"' not in page
    assert f'data-send="{address}/outcome?outcome=approve"' in page

    merchant.sandbox.post(f"{address}/outcome?outcome=approve").raise_for_status()
    page = merchant.sandbox.get("/_control/").text
    assert f'data-send="{address}/refund"' in page
    assert f'data-send="{address}/outcome?outcome=approve"' not in page


def test_a_reset_forgets_payments_keys_and_rates(merchant):
    merchant.settings(rate_limit_per_minute=1)
    first = merchant.create(Idempotency_Key="k").json()
    merchant.sandbox.post("/_control/reset")

    assert merchant.control("GET", "").json() == []
    merchant.settings(rate_limit_per_minute=1)
    again = merchant.create(Idempotency_Key="k")
    assert again.status_code == 200
    assert again.json()["id"] != first["id"]
