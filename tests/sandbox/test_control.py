"""The control desk: deliveries, clock, settings, faults over a real socket."""

import html
import importlib
import json
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from django_multipay.sandbox import wire
from django_multipay.sandbox.agenda import months_later
from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.eximbay.codes import SEOUL
from django_multipay.sandbox.faults import AMOUNT_KEYS, WORK_IS_DONE, wrong_amounts
from django_multipay.sandbox.providers import discover

EXCOINZ_SECRET = "sk_sandbox_expay_4f1d0c7b9a2e4d6f"
EASYBILLING_LOGIN = {
    "username": "tea@sandbox.easybilling.example",
    "password": "jasmine-2026",
}
CLINK_KEY = "sk_test_clinkSandbox1a2b3c4d5e6f7a8b"
PAYER_KEY = "payer_test_5Wd8Qk2Zr7Tn4Yb9Hc3Mx6Vp"


def test_a_status_is_sent_until_the_exact_text_comes_back(merchant):
    merchant.settings(retry_delay_seconds=0.05)
    merchant.shop.answers = [b"OK", b"rescode=0000&resmsg=Success."]

    merchant.pay("approve")

    assert len(merchant.statuses()) == 3
    (status, _) = merchant.sandbox.get("/_control/callbacks").json()
    assert status["delivered"]
    answers = [attempt["answer"] for attempt in status["attempts"]]
    assert answers == [
        "OK",
        "rescode=0000&resmsg=Success.",
        "rescode=0000&resmsg=Success",
    ]
    bodies = {item.body for item in merchant.shop.received}
    assert bodies == {status["body"]}


def test_it_gives_up_after_the_last_try(merchant):
    merchant.settings(retry_delay_seconds=0, retry_count=4)
    merchant.shop.answer = b"no"

    merchant.pay("approve")

    assert len(merchant.statuses()) == 4
    assert merchant.flush() == {"pending": 0, "delivered": 1, "undelivered": 1}


def test_the_clock_makes_a_retry_due(merchant):
    merchant.settings(retry_delay_seconds=3600)
    merchant.shop.answers = [b"no"]
    merchant.pay("approve")
    assert len(merchant.shop.received) == 1

    clock = merchant.sandbox.post("/_control/clock", json={"advance_seconds": 3601})

    assert clock.json()["advanced_seconds"] == 3601
    assert len(merchant.statuses()) == 2


def test_a_shop_that_is_down_is_an_error_in_the_log(merchant):
    merchant.settings(retry_count=1)
    body = merchant.order(url={"status_url": "http://127.0.0.1:9/status/"})

    merchant.pay("approve", body)

    (status, _) = merchant.sandbox.get("/_control/callbacks").json()
    assert not status["delivered"]
    assert status["attempts"][0]["error"]


def test_status_notices_can_be_recorded_only_and_sent_by_hand(merchant):
    merchant.settings(callbacks_enabled=False)
    merchant.pay("approve")
    assert merchant.statuses() == []
    (status, returned) = merchant.sandbox.get("/_control/callbacks").json()
    assert (status["kind"], returned["kind"]) == ("status", "return")

    sent = merchant.sandbox.post(f"/_control/callbacks/{status['id']}/resend?times=5")
    merchant.sandbox.post(
        f"/_control/callbacks/{status['id']}/resend?times=3&concurrent=1"
    )
    merchant.sandbox.post(f"/_control/callbacks/{returned['id']}/resend")

    assert sent.json()["delivered"]
    assert len(merchant.statuses()) == 8
    assert merchant.shop.received[-1].path == "/return/"


def test_duplicates_are_sent_on_request(merchant):
    merchant.settings(duplicate_status=2)
    merchant.pay("approve")

    assert len(merchant.statuses()) == 3


def test_a_callback_can_be_forged_with_a_good_signature(merchant):
    merchant.open_page(merchant.order(payment={"order_id": "A"}))

    forged = merchant.sandbox.post(
        "/_control/eximbay/payments/A/callback",
        json={"amount": "0.01", "mid": "X", "auth_code": None, "send": False},
    ).json()

    assert "amount=0.01" in forged["body"]
    assert "auth_code" not in forged["body"]
    assert merchant.verify(forged["body"])["rescode"] == "0000"
    assert merchant.shop.received == []
    assert merchant.payment("A")["status"] == "NONE"

    sent = merchant.sandbox.post(
        "/_control/eximbay/payments/A/callback",
        json={"order_id": "B", "url": f"{merchant.shop.origin}/elsewhere/"},
    ).json()
    assert merchant.shop.received[0].path == "/elsewhere/"
    assert merchant.shop.received[0].fields["order_id"] == "B"
    assert sent["callback"]["delivered"]


def test_a_token_can_be_made_for_a_test(merchant):
    token = merchant.sandbox.post("/_control/eximbay/tokens", json={"method": "P102"})

    assert token.status_code == 201
    rebill = merchant.order(
        payment={"transaction_type": "REBILL"},
        tokenbilling={"token_id": token.json()["token_id"]},
    )
    assert merchant.ready(rebill).json()["rescode"] == "0000"


def test_every_request_is_in_the_books_without_its_credentials(merchant):
    merchant.ready(merchant.order())
    merchant.call("/v1/payments/nothing", {"a": 1})

    entries = merchant.sandbox.get("/_control/requests?provider=eximbay").json()

    assert [entry["operation"] for entry in entries] == ["ready", "unknown"]
    assert [entry["status"] for entry in entries] == [200, 404]
    assert entries[0]["headers"]["authorization"] == "[redacted]"
    assert entries[0]["body"]["payment"]["amount"] == "26.30"
    assert entries[0]["response"]["rescode"] == "0000"
    assert merchant.sandbox.get("/_control/requests?provider=nobody").json() == []


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"a": [1, "x"]}', {"a": [1, "x"]}),
        (b"a=1&b=2", "a=1&b=2"),
        (b"", ""),
        (b'{"a": NaN}', '{"a": NaN}'),
        (b'{"a": -Infinity}', '{"a": -Infinity}'),
        (b'{"a": 1e999}', '{"a": 1e999}'),
        (rb'{"a": "\ud800"}', r'{"a": "\ud800"}'),
        (b'{"a": "\xed\xa0\x80"}', '{"a": "\ufffd\ufffd\ufffd"}'),
        (b'{"a": ' + b"9" * 5000 + b"}", ('{"a": ' + "9" * 5000)[:2000]),
        (b'{"a":' * 40 + b"1" + b"}" * 40, None),
        (b"[" * 60 + b"]" * 60, "[" * 60 + "]" * 60),
        (b"[" * 100_000, "[" * 2000),
        (b"[" * 900 + b"]" * 900, "[" * 900 + "]" * 900),
    ],
    ids=range(13),
)
@pytest.mark.parametrize(
    "path",
    [
        "/v1/payments/ready",
        "/excoinz/payment/ready",
        "/payer/payments",
        "/clink/api/payment",
        "/easybilling/api/transactions",
    ],
)
def test_the_books_survive_every_body(sandbox, path, body, shown):
    """Whoever sends it is refused, and the list of requests is always valid JSON."""
    answer = sandbox.post(
        path,
        content=body,
        headers={
            "Content-Type": "application/json",
            "EXCOINZ_SECRET": f"Bearer {EXCOINZ_SECRET}",
            "Authorization": f"Bearer {PAYER_KEY}",
            "X-API-Key": CLINK_KEY,
            "X-Timestamp": str(int(time.time() * 1000)),
        },
    )

    assert answer.status_code < 500
    (entry,) = sandbox.get("/_control/requests").json()
    if shown is not None:
        assert entry["body"] == shown
    assert entry["status"] == answer.status_code
    assert sandbox.get("/_control/").status_code == 200


def test_a_password_and_its_token_stay_out_of_the_books(sandbox):
    login = "/easybilling/api/authenticate/login"
    token = sandbox.post(login, json=EASYBILLING_LOGIN).json()["token"]
    sandbox.post(login, content=b"password=jasmine-2026")
    sandbox.post(f"{login}/", json=EASYBILLING_LOGIN)

    first, second, third = sandbox.get("/_control/requests").json()

    assert first["body"] == {**EASYBILLING_LOGIN, "password": "[redacted]"}
    assert first["response"]["message"] == "Authentication successful"
    assert second["body"] == "[redacted]"
    assert third["body"]["username"] == EASYBILLING_LOGIN["username"]
    for text in (json.dumps([first, second, third]), sandbox.get("/_control/").text):
        assert EASYBILLING_LOGIN["password"] not in text
        assert token not in text


def excoinz_order(sandbox, order_id="BILL-1"):
    order = {
        "client_id": "SANDBOXEXPAY",
        "item_name": "Tea",
        "item_img_url": "",
        "partner_order_id": order_id,
        "partner_user_id": "",
        "amount": "5",
        "locale": "en",
    }
    header = {"EXCOINZ_SECRET": f"Bearer {EXCOINZ_SECRET}"}
    answer = sandbox.post("/excoinz/payment/ready", json=order, headers=header)
    return answer.raise_for_status().json()["redirect_url"]


def test_a_webhooks_secret_is_sent_but_not_shown_to_people(sandbox):
    excoinz_order(sandbox)
    pressed = sandbox.post("/_control/excoinz/payments/BILL-1/outcome?outcome=approve")
    assert pressed.status_code == 200

    (webhook,) = sandbox.get("/_control/callbacks").json()
    page = sandbox.get("/_control/").text

    assert json.loads(webhook["body"])["secret"] == EXCOINZ_SECRET
    assert EXCOINZ_SECRET not in page
    assert "[redacted]" in page


def test_what_is_due_is_done_before_the_clock_goes_on():
    clock = Clock()
    seen = []
    clock.on_move(lambda: seen.append(clock.advanced_seconds))

    clock.advance(60)
    assert seen == [60]
    clock.advance(1)
    assert seen == [60, 61]

    clock.reset()
    assert seen == [60, 61]
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        (date(2027, 1, 31), 1, date(2027, 2, 28)),
        (date(2028, 1, 31), 1, date(2028, 2, 29)),
        (date(2026, 12, 15), 1, date(2027, 1, 15)),
        (date(2026, 11, 30), 3, date(2027, 2, 28)),
        (
            datetime(2026, 10, 31, 23, 59, tzinfo=UTC),
            13,
            datetime(2027, 11, 30, 23, 59, tzinfo=UTC),
        ),
    ],
)
def test_a_month_later_is_the_same_day_or_the_last(start, months, end):
    assert months_later(start, months) == end


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"advance_days": 3}, lambda now: now + timedelta(days=3)),
        ({"advance_months": 14}, lambda now: months_later(now, 14)),
    ],
)
def test_the_clock_moves_by_days_and_months_of_the_calendar(sandbox, wish, expected):
    before = datetime.fromisoformat(sandbox.get("/_control/clock").json()["now"])

    after = sandbox.post("/_control/clock", json=wish).json()["now"]

    drift = datetime.fromisoformat(after) - expected(before)
    assert abs(drift) < timedelta(seconds=30)


def test_a_reset_forgets_everything(merchant):
    merchant.pay("approve", merchant.order(payment={"order_id": "A"}))
    merchant.settings(tamper_fgkey=True)
    merchant.fault("ready", "status")
    merchant.sandbox.post("/_control/clock", json={"advance_seconds": 60})

    merchant.sandbox.post("/_control/reset").raise_for_status()

    for path in ("requests", "callbacks", "faults", "eximbay/payments"):
        assert merchant.sandbox.get(f"/_control/{path}").json() == []
    assert merchant.sandbox.get("/_control/clock").json()["advanced_seconds"] == 0
    settings = merchant.sandbox.get("/_control/settings").json()
    assert settings["eximbay"]["tamper_fgkey"] is False


def test_a_shop_is_given_an_account_at_every_provider(sandbox):
    given = sandbox.get("/_control/accounts").json()

    assert set(given) == {provider.slug for provider in discover()}
    for slug, account in given.items():
        assert account["options"]["base_url"].startswith(str(sandbox.base_url)[:-1])
        (first, *_) = accounts(slug)
        known = {getattr(first, name) for name in first.__dataclass_fields__}
        texts = {text for text in account["options"].values() if isinstance(text, str)}
        assert known & texts
    assert {slug for slug, account in given.items() if account["saving"]} == {"clink"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("settings", {"nobody": {}}),
        ("settings", {"eximbay": {"tamper_fkgey": True}}),
        ("settings", {"eximbay": {"tamper_fgkey": "yes"}}),
        ("settings", {"eximbay": {"retry_count": -1}}),
        ("settings", {"eximbay": {"return_method": "PUT"}}),
        ("settings", []),
        ("clock", {"advance_seconds": -1}),
        ("clock", {"advance_seconds": 1e12}),
        ("clock", {"advance_seconds": "60"}),
        ("clock", {}),
        ("clock", {"advance_seconds": True}),
        ("clock", {"advance_days": 1.5}),
        ("clock", {"advance_days": 36_601}),
        ("clock", {"advance_months": 1201}),
        ("clock", {"advance_months": "1"}),
        ("clock", {"advance_days": 1, "advance_months": 1}),
        ("faults", {"fault": "earthquake"}),
        ("faults", {"fault": "latency", "seconds": "long"}),
    ],
)
def test_nonsense_is_refused_in_json(sandbox, path, body):
    answer = sandbox.post(f"/_control/{path}", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]


def test_unknown_things_are_404_in_json(sandbox):
    for path in ("callbacks/x/resend", "eximbay/payments/x/deposit", "nowhere"):
        answer = sandbox.post(f"/_control/{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]


def test_the_page_for_people_shows_it_all(merchant):
    order = {"order_id": "<A>", "currency": "KRW", "amount": "500"}
    merchant.pay("register", merchant.order(payment=order))
    merchant.fault("verify", "garbage")

    page = merchant.sandbox.get("/")

    assert page.url.path == "/_control/"
    for text in ("&lt;A&gt;", "Deposit arrives", "REGISTERED", "garbage", "KRW 500"):
        assert text in page.text
    assert merchant.sandbox.get("/_static/sandbox.css").status_code == 200


def test_a_row_leads_to_the_page_where_the_buyer_is(merchant):
    opened = merchant.open_page(merchant.order(payment={"order_id": "A"}))
    address = excoinz_order(merchant.sandbox)

    page = merchant.sandbox.get("/_control/").text

    assert f'<a href="{opened.url.path}"><code>A</code></a>' in page
    link = html.escape(address)
    assert f'<a href="{link}"><code>BILL-1</code></a>' in page


def test_an_order_is_decided_by_the_buttons_of_its_row(merchant):
    merchant.ready(merchant.order(payment={"order_id": "A"}))
    page = merchant.sandbox.get("/_control/").text
    (button,) = re.findall(r'data-send="([^"]*outcome=approve)"', page)

    assert merchant.sandbox.post(button).status_code == 200

    assert merchant.payment("A")["status"] == "SALE"


def test_the_page_says_which_settings_were_changed(merchant):
    assert "changed</span>" not in merchant.sandbox.get("/_control/").text

    merchant.settings(tamper_fgkey=True, retry_count=3)

    assert "1 changed</span>" in merchant.sandbox.get("/_control/").text


def planned(merchant):
    """A plan of Eximbay's and one of Clink's, begun on a day that every month has."""
    next_month = months_later(datetime.now(UTC).replace(day=10), 1)
    wait = (next_month - datetime.now(UTC)).total_seconds()
    clock = merchant.sandbox.post("/_control/clock", json={"advance_seconds": wait})
    now = datetime.fromisoformat(clock.json()["now"])
    today = now.astimezone(SEOUL).date()
    recurring = {
        "recurring_amount": "24.00",
        "recurring_start_date": f"{today:%Y%m%d}",
        "recurring_interval": "1",
        "recurring_noti_url": f"{merchant.shop.origin}/plan/",
    }
    merchant.pay("approve", merchant.order(recurring=recurring))
    session = {
        "originalAmount": 9.99,
        "originalCurrency": "USD",
        "productId": "prd_sandbox_tea",
        "priceId": "price_sandbox_tea_monthly",
        "customerEmail": "buyer@example.com",
        "merchantReferenceId": "SUB-1",
    }
    headers = {"X-API-Key": CLINK_KEY, "X-Timestamp": str(int(time.time() * 1000))}
    sandbox = merchant.sandbox
    sandbox.post("/clink/api/checkout/session", json=session, headers=headers)
    sandbox.post("/_control/clink/payments/SUB-1/outcome", json={"outcome": "approve"})


def part(page, name):
    """A part of the page, without its markup."""
    (found,) = re.findall(rf'data-live="{name}".*?</section>', page, re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found)).split())


def test_the_page_shows_every_plan_and_its_next_charge(merchant):
    planned(merchant)
    page = merchant.sandbox.get("/_control/").text

    (eximbay,) = merchant.sandbox.get("/_control/eximbay/plans").json()
    (clink,) = merchant.sandbox.get("/_control/clink/plans").json()
    day = date.fromisoformat(eximbay["recurring_next_date"])
    due = datetime.combine(day, datetime.min.time(), SEOUL).astimezone(UTC)
    plans = part(page, "plans")
    assert f"Eximbay {eximbay['recurring_id']} USD 24.00 every month active" in plans
    assert f"{due:%Y-%m-%d %H:%M}" in plans
    assert f"Clink {clink['subscriptionId']} USD 9.99 every month active" in plans
    assert plans.count(" once") == 2


def test_a_plan_that_is_over_has_no_next_charge(merchant):
    planned(merchant)
    (eximbay,) = merchant.sandbox.get("/_control/eximbay/plans").json()
    path = f"/v1/payments/recurring/{eximbay['recurring_id']}/delete"
    merchant.call(path, {}).raise_for_status()

    plans = part(merchant.sandbox.get("/_control/").text, "plans")

    assert "every month deleted never again once" in plans


def test_after_a_move_the_page_shows_what_happened(merchant):
    planned(merchant)
    before = part(merchant.sandbox.get("/_control/").text, "happened")
    assert (before.count("USD 9.99"), before.count("USD 26.30")) == (1, 1)

    for _ in range(12):
        merchant.sandbox.post("/_control/clock", json={"advance_months": 1})
    merchant.flush()
    page = merchant.sandbox.get("/_control/").text

    happened = part(page, "happened")
    assert happened.count("USD 24.00") == 12
    assert happened.count("USD 9.99") == 13
    assert "subscription.updated.renewed" in happened
    # Clink was given no address here, so nobody acknowledged its messages.
    assert "not acknowledged" in happened
    # Only the last month is marked.
    assert page.count("is-new") == 2
    assert part(page, "plans").count("13 times") == 2


def test_a_refused_charge_of_a_plan_is_seen_as_refused(merchant):
    planned(merchant)
    merchant.settings(charge_rescode="8327")

    merchant.sandbox.post("/_control/clock", json={"advance_months": 2})

    happened = part(merchant.sandbox.get("/_control/").text, "happened")
    assert len(re.findall(r"USD 24.00 Eximbay \S+ FAILED", happened)) == 2


# -- faults -----------------------------------------------------------------------


def was_done(merchant) -> bool:
    """`ready` leaves its order in the ledger."""
    return bool(merchant.sandbox.get("/_control/eximbay/payments").json())


@pytest.mark.parametrize(
    ("kind", "done"), [("drop_before", False), ("drop_after", True)]
)
def test_a_dropped_connection_really_closes(merchant, kind, done):
    merchant.fault("ready", kind)

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        merchant.ready(merchant.order())

    assert was_done(merchant) is done
    assert merchant.ready(merchant.order()).status_code == 200


def test_a_truncated_answer_ends_early(merchant):
    merchant.fault("ready", "truncate")

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        merchant.ready(merchant.order())

    assert was_done(merchant)


def test_a_status_comes_with_retry_after(merchant):
    merchant.fault("ready", "status", status=429, retry_after=7, times=2)

    for _ in range(2):
        answer = merchant.ready(merchant.order())
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert merchant.ready(merchant.order()).status_code == 200


def test_html_garbage_and_redirect(merchant):
    merchant.fault("*", "html")
    assert "<html>" in merchant.ready(merchant.order()).text
    merchant.fault("*", "garbage")
    garbage = merchant.ready(merchant.order())
    assert garbage.headers["content-type"] == "application/json"
    with pytest.raises(ValueError, match="utf-8"):
        garbage.json()
    merchant.fault("*", "redirect", status=307)
    merchant.sandbox.follow_redirects = False
    answer = merchant.ready(merchant.order())
    assert answer.status_code == 307
    assert answer.headers["location"] == "/v1/payments/ready?redirected=1"


def test_a_wrong_amount_is_one_more(merchant):
    merchant.pay("approve", merchant.order(payment={"order_id": "A"}))
    merchant.fault("retrieve", "wrong_amount")

    assert merchant.retrieve("A")["payment"]["amount"] == "27.30"
    assert merchant.retrieve("A")["payment"]["amount"] == "26.30"


def test_a_wrong_amount_keeps_its_form_and_its_digits():
    assert {
        json.dumps(value): wire.encode(wrong_amounts({"amount": value})["amount"])
        for value in ("26.30", "0", "0.000001", "n/a", None, True, 2630)
    } == {
        '"26.30"': '"27.30"',
        '"0"': '"1"',
        '"0.000001"': '"1.000001"',
        '"n/a"': '"n/a"',
        "null": "null",
        "true": "true",
        "2630": "2631",
    }
    assert wire.encode(wrong_amounts({"amount": Decimal("26.30")})) == (
        '{"amount": 27.30}'
    )


def test_an_amount_is_found_wherever_it_is_but_a_count_is_none():
    assert "total" not in AMOUNT_KEYS
    answer = {"total": 3, "rows": [{"amountTotal": Decimal("9.99"), "status": "1"}]}

    assert wrong_amounts(answer) == {
        "total": 3,
        "rows": [{"amountTotal": Decimal("10.99"), "status": "1"}],
    }


def test_a_wrong_amount_at_clink(sandbox):
    headers = {"X-API-Key": CLINK_KEY, "X-Timestamp": str(int(time.time() * 1000))}
    session = {
        "customerEmail": "buyer@example.com",
        "originalAmount": 26.3,
        "originalCurrency": "USD",
        "merchantReferenceId": "REF-1",
        "priceDataList": [
            {"name": "Tea", "quantity": 1, "unitAmount": 26.3, "currency": "USD"}
        ],
        "successUrl": "https://shop.example/thanks",
        "cancelUrl": "https://shop.example/cart",
    }
    sandbox.post("/clink/api/checkout/session", json=session, headers=headers)
    sandbox.post("/_control/clink/payments/REF-1/outcome", json={"outcome": "approve"})
    sandbox.post(
        "/_control/faults",
        json={"provider": "clink", "operation": "list_orders", "fault": "wrong_amount"},
    )

    wrong, right = (sandbox.get("/clink/api/order", headers=headers) for _ in range(2))

    assert '"amountTotal": 27.3,' in wrong.text
    assert (wrong.json()["total"], right.json()["total"]) == (1, 1)
    assert '"amountTotal": 26.3,' in right.text


def test_latency_answers_late_but_the_work_is_done_at_once(merchant):
    merchant.fault("ready", "latency", seconds=0.4)
    begun = time.monotonic()

    assert merchant.ready(merchant.order()).json()["rescode"] == "0000"

    assert time.monotonic() - begun >= 0.4


def test_a_slow_body_dribbles(merchant):
    merchant.fault("ready", "slow_body", seconds=0.4)
    begun = time.monotonic()

    assert merchant.ready(merchant.order()).json()["rescode"] == "0000"

    assert time.monotonic() - begun >= 0.4


def test_a_huge_body_is_huge(merchant):
    merchant.fault("ready", "huge_body", bytes=1_000_000)

    answer = merchant.ready(merchant.order())

    assert len(answer.content) > 900_000
    assert answer.json()["rescode"] == "0000"


def test_work_can_be_overridden(merchant):
    merchant.fault("ready", "status", work=True)

    assert merchant.ready(merchant.order()).status_code == 500
    assert was_done(merchant)


# -- the process ------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_prints_one_line_and_stops_cleanly(number):
    process = subprocess.Popen(
        [sys.executable, "-m", "django_multipay.sandbox", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Sandbox ready on http://127.0.0.1:")
        origin = line.split()[-1]
        assert httpx.get(f"{origin}/_control/clock", trust_env=False).status_code == 200
        process.send_signal(number)
        rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_a_taken_port_is_explained(sandbox_origin):
    port = sandbox_origin.rpartition(":")[2]

    done = subprocess.run(
        [sys.executable, "-m", "django_multipay.sandbox", "--port", port],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 2
    assert "cannot listen" in done.stderr


DOCS = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text("utf-8")


def accounts(slug):
    """The table of accounts, wherever the gateway keeps it."""
    for name in (f"{slug}.codes", f"{slug}.words", f"providers.{slug}"):
        try:
            module = importlib.import_module(f"django_multipay.sandbox.{name}")
        except ModuleNotFoundError:
            continue
        if hasattr(module, "ACCOUNTS"):
            return module.ACCOUNTS
    raise LookupError(slug)


def section(title):
    """A section of the docs with its subsections."""
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", DOCS, re.M | re.S)
    assert found is not None, title
    return found[0]


@pytest.mark.parametrize("provider", discover(), ids=lambda provider: provider.slug)
def test_the_docs_name_every_setting_operation_and_account(provider, sandbox):
    settings = sandbox.get("/_control/settings").json()[provider.slug]
    page = section(provider.display_name) + section("Settings of callbacks")

    for name, default in settings.items():
        assert f"| `{name}` | `{json.dumps(default)}` |" in page
    operations = sandbox.get("/_control/").text
    named = re.findall(rf'value="(\w+)" data-provider="{provider.slug}"', operations)
    assert named
    assert len(named) == len(set(named))
    for name in named:
        assert f"`{name}`" in page
    for account in accounts(provider.slug):
        values = [getattr(account, name) for name in account.__dataclass_fields__]
        texts = [value for value in values if isinstance(value, str)]
        assert texts
        for text in texts:
            assert f"`{text}`" in section("Accounts")


def test_the_docs_name_every_fault():
    for kind in WORK_IS_DONE:
        assert f"| `{kind}` |" in DOCS


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_no_page_of_a_stranger_presses_the_desks_buttons(sandbox, origin):
    settings = {"eximbay": {"webhook_url": "https://evil.example/"}}
    before = sandbox.get("/_control/settings").json()
    answer = sandbox.post(
        "/_control/settings",
        content=json.dumps(settings),
        headers={"Origin": origin, "Content-Type": "text/plain"},
    )
    assert answer.status_code == 403
    assert sandbox.get("/_control/settings").json() == before


def test_the_desks_own_page_presses_them(sandbox):
    origin = str(sandbox.base_url).rstrip("/")
    answer = sandbox.post("/_control/reset", headers={"Origin": origin})
    assert answer.is_success
