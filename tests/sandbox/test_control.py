"""The control desk: deliveries, clock, settings, faults over a real socket."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from django_multipay.sandbox.eximbay.codes import ACCOUNTS
from django_multipay.sandbox.faults import WORK_IS_DONE


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
        ("clock", {}),
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


def test_the_docs_name_every_setting_fault_and_account(sandbox):
    page = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text("utf-8")
    settings = sandbox.get("/_control/settings").json()["eximbay"]

    for name, default in settings.items():
        assert f"| `{name}` | `{json.dumps(default)}` |" in page
    for kind in WORK_IS_DONE:
        assert f"| `{kind}` |" in page
    for account in ACCOUNTS:
        assert f"| `{account.mid}` | `{account.api_key}` |" in page
