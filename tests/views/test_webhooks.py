"""The doors themselves: what comes in, what goes out, whoever knocks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from io import BytesIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.messages import constants
from django.contrib.messages.storage.base import Message
from django.contrib.messages.storage.cookie import MessageEncoder
from django.core import signing
from django.core.handlers.asgi import ASGIRequest
from django.db import InterfaceError, OperationalError, connection
from django.test import Client, RequestFactory
from django.urls import reverse
from pytest_django import Settings

from django_multipay.enums import PaymentStatus, Purpose, Verdict, WebhookOutcome
from django_multipay.flows.webhooks import Reception
from django_multipay.messages import IncomingRequest, WebhookAnswer
from django_multipay.models import Payment, WebhookDelivery
from django_multipay.views import webhooks
from tests.corridor import (
    ACCEPTED,
    FORM,
    Corridor,
    Messages,
    everything,
    fields_of,
    reconcile_later,
)

pytestmark = pytest.mark.django_db

WEBHOOK = "/payments/webhook/eximbay/"
LIMIT = 256 * 1024


@pytest.fixture(autouse=True)
def multipay() -> None:
    """Not the fake accounts of the other views: behind these doors is the sandbox."""


@pytest.fixture
def payment(corridor: Corridor) -> Payment:
    return corridor.payment()


@pytest.fixture
def messages(corridor: Corridor, payment: Payment) -> Messages:
    return corridor.pay(payment)


@pytest.fixture
def stranger() -> Client:
    """Somebody on the internet, with CSRF checks as strict as in production."""
    return Client(enforce_csrf_checks=True)


def doors(messages: Messages) -> list[str]:
    return [
        messages.return_path,
        messages.status_path,
        messages.plan_path,
        WEBHOOK,
    ]


# What comes in ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_provider_needs_no_token_and_reads_the_words_it_waits_for(
    stranger: Client, payment: Payment, messages: Messages, method: str
) -> None:
    if method == "POST":
        answer = stranger.post(
            messages.status_path, messages.status_body, content_type=FORM
        )
    else:
        answer = stranger.get(f"{messages.status_path}?{messages.status_body}")
    assert answer.status_code == 200
    assert answer.content == b"rescode=0000&resmsg=Success"
    assert answer.headers["Content-Type"].startswith("text/plain")
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_buyer_is_shown_the_outcome_and_what_they_carry_counts(
    stranger: Client, payment: Payment, messages: Messages, method: str
) -> None:
    if method == "POST":
        answer = stranger.post(
            messages.return_path, messages.return_body, content_type=FORM
        )
    else:
        answer = stranger.get(f"{messages.return_path}?{messages.return_body}")
    assert answer.status_code == 303
    assert answer.headers["Location"] == payment.get_outcome_url()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


BYTES: dict[str, bytes] = {
    "nothing": b"",
    "junk": bytes(range(256)),
    "NUL": b"\x00" * 100,
    "not UTF-8": b"order_id=\xff\xfe",
    "surrogate": b"order_id=%ED%A0%80",
    "JSON": b'{"a": NaN}',
    "deep": b"[" * 100_000,
    "fields": b"&".join(b"a%d=1" % number for number in range(20_000)),
    "twice": b"order_id=a&order_id=b",
    "at the limit": b"a" * LIMIT,
    "above the limit": b"a" * (LIMIT + 1),
    "redirect": b"next=https://evil.example/&return_url=//evil.example",
}


@pytest.mark.parametrize("body", BYTES.values(), ids=BYTES)
def test_the_buyer_gets_to_the_outcome_page_whatever_the_bytes_are(
    stranger: Client, payment: Payment, messages: Messages, body: bytes
) -> None:
    before = everything()
    for content_type in (FORM, "application/json", "multipart/form-data; boundary=a"):
        answer = stranger.post(messages.return_path, body, content_type=content_type)
        assert answer.status_code == 303
        assert answer.headers["Location"] == payment.get_outcome_url()
    query = body.decode("latin-1")[:50_000]
    answer = stranger.generic("GET", messages.return_path, QUERY_STRING=query)
    assert answer.status_code == 303
    assert answer.headers["Location"] == payment.get_outcome_url()
    assert everything() == before


@pytest.mark.parametrize(
    "method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "GET\n"]
)
def test_no_other_method_is_heard(
    stranger: Client, messages: Messages, method: str
) -> None:
    before = everything()
    for path in doors(messages):
        body = b"" if method == "TRACE" else messages.status_body.encode()
        answer = stranger.generic(method, path, body, content_type=FORM)
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "GET, POST"
    assert everything() == before


# Size and encoding ------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 400), (LIMIT + 1, 413)])
def test_a_body_above_256_kib_is_refused(
    stranger: Client, messages: Messages, size: int, status: int
) -> None:
    answer = stranger.post(messages.status_path, b"a" * size, content_type=FORM)
    assert answer.status_code == status


class Untouchable(BytesIO):
    """A body that must not be read."""

    def read(self, *args: Any) -> bytes:
        raise AssertionError("the body was read")


def test_a_body_that_says_it_is_too_large_is_not_read(
    stranger: Client, messages: Messages
) -> None:
    answer = stranger.generic(
        "POST",
        messages.status_path,
        content_type=FORM,
        **{"wsgi.input": Untouchable(), "CONTENT_LENGTH": str(LIMIT + 1)},  # type: ignore[arg-type]
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("", 400),
        ("0", 400),
        ("10", 400),
        ("-1", 400),
        ("+5", 400),
        ("1e3", 400),
        ("\u0665", 400),
        ("x", 400),
        ("9" * 5_000, 413),
        (str(LIMIT + 1), 413),
    ],
)
def test_a_dishonest_length_is_no_crash_and_no_payment(
    stranger: Client, messages: Messages, length: str, status: int
) -> None:
    before = everything()
    answer = stranger.generic(
        "POST",
        messages.status_path,
        messages.status_body,
        content_type=FORM,
        CONTENT_LENGTH=length,
    )
    assert answer.status_code == status
    assert everything() == before


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 400), (LIMIT + 1, 413)])
def test_a_body_without_a_length_is_counted_while_it_is_read(
    messages: Messages, size: int, status: int
) -> None:
    # Under ASGI a chunked body arrives whole and without a length.
    request = ASGIRequest(
        {"type": "http", "method": "POST", "path": messages.status_path, "headers": []},
        BytesIO(b"a" * size),
    )
    signed = messages.status_path.split("/")[-2]
    assert webhooks.status(request, signed=signed).status_code == status


@pytest.mark.parametrize(("size", "kept"), [(LIMIT, LIMIT), (LIMIT + 1, 0)])
def test_a_query_above_256_kib_is_not_read(
    monkeypatch: pytest.MonkeyPatch, messages: Messages, size: int, kept: int
) -> None:
    heard: list[IncomingRequest] = []

    def hear(alias: str, incoming: IncomingRequest, **more: Any) -> Reception:
        heard.append(incoming)
        return Reception(WebhookAnswer(outcome=WebhookOutcome.ACCEPTED))

    monkeypatch.setattr(webhooks, "take_webhook", hear)
    request = RequestFactory().get(messages.status_path, QUERY_STRING="a" * size)
    signed = messages.status_path.split("/")[-2]
    assert webhooks.status(request, signed=signed).status_code == 200
    (incoming,) = heard
    assert len(incoming.query_string) == kept


class BrokenPipe(BytesIO):
    """A sender that hangs up in the middle."""

    def read(self, *args: Any) -> bytes:
        raise OSError("connection reset by peer")


def test_a_sender_that_hangs_up_is_no_crash(
    stranger: Client, messages: Messages
) -> None:
    for path, status in ((messages.status_path, 400), (messages.return_path, 303)):
        answer = stranger.generic(
            "POST",
            path,
            content_type=FORM,
            **{"wsgi.input": BrokenPipe(), "CONTENT_LENGTH": "600"},  # type: ignore[arg-type]
        )
        assert answer.status_code == status


@pytest.mark.parametrize(
    "encoding", ["gzip", "GZIP", "deflate", "br", "identity, gzip"]
)
def test_a_packed_body_is_refused_unopened(
    stranger: Client, messages: Messages, encoding: str
) -> None:
    before = everything()
    for path in doors(messages):
        answer = stranger.post(
            path,
            messages.status_body,
            content_type=FORM,
            headers={"Content-Encoding": encoding},
        )
        assert answer.status_code == (303 if path == messages.return_path else 415)
    assert everything() == before


def test_only_what_comes_with_the_buyer_counts_as_carried_by_them(
    monkeypatch: pytest.MonkeyPatch, stranger: Client, messages: Messages
) -> None:
    heard: list[bool] = []

    def hear(alias: str, incoming: IncomingRequest, **more: Any) -> Reception:
        heard.append(incoming.is_by_buyer)
        return Reception(WebhookAnswer(outcome=WebhookOutcome.ACCEPTED))

    monkeypatch.setattr(webhooks, "receive_webhook", hear)
    monkeypatch.setattr(webhooks, "take_webhook", hear)
    stranger.post(messages.return_path, messages.return_body, content_type=FORM)
    stranger.post(messages.status_path, messages.status_body, content_type=FORM)
    assert heard == [True, False]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"CONTENT_LENGTH": "x"}, 400),
        ({"CONTENT_LENGTH": "9" * 9}, 413),
        ({"CONTENT_LENGTH": "600", "wsgi.input": BrokenPipe()}, 400),
        ({"HTTP_CONTENT_ENCODING": "gzip"}, 415),
    ],
)
def test_what_is_refused_at_the_door_gets_no_further(
    monkeypatch: pytest.MonkeyPatch,
    stranger: Client,
    messages: Messages,
    changes: dict[str, Any],
    status: int,
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(webhooks, "take_webhook", lambda *told, **_: heard.append(told))
    answer = stranger.generic(
        "POST", messages.status_path, messages.status_body, FORM, **changes
    )
    assert (answer.status_code, heard) == (status, [])


# What goes out ----------------------------------------------------------------------------


def test_no_answer_may_be_kept_by_a_cache(stranger: Client, messages: Messages) -> None:
    for path in doors(messages)[:2]:
        for body in (messages.status_body, "junk"):
            answer = stranger.post(path, body, content_type=FORM)
            assert "no-store" in answer.headers["Cache-Control"]
    assert "no-store" in stranger.put(messages.status_path).headers["Cache-Control"]


@pytest.fixture
def buyer(db: None, settings: Settings) -> Client:
    """A buyer who is logged in and has a message pending."""
    settings.MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("buyer"))
    signer = signing.get_cookie_signer(salt="django.contrib.messages")
    client.cookies["messages"] = signer.sign_object(
        [Message(constants.INFO, "Welcome")],
        serializer=type("Serializer", (), {"dumps": staticmethod(_dump_messages)}),
    )
    client.cookies["csrftoken"] = "a" * 32
    return client


def _dump_messages(data: Any) -> bytes:
    return MessageEncoder(separators=(",", ":")).encode(data).encode("latin-1")


@pytest.mark.parametrize("visitor", ["stranger", "buyer"])
def test_no_door_sets_a_cookie_or_touches_a_session(
    request: pytest.FixtureRequest, messages: Messages, visitor: str
) -> None:
    client: Client = request.getfixturevalue(visitor)
    before = {name: morsel.value for name, morsel in client.cookies.items()}
    for path in doors(messages):
        for body in (messages.status_body, messages.status_body, "junk", ""):
            answer = client.post(path, body, content_type=FORM)
            assert not answer.cookies
            assert "Cookie" not in answer.headers.get("Vary", "")
            answer = client.get(f"{path}?{body}")
            assert not answer.cookies
            assert "Cookie" not in answer.headers.get("Vary", "")
    assert {name: morsel.value for name, morsel in client.cookies.items()} == before


def test_the_buyers_cookies_are_not_kept_with_the_message(
    buyer: Client, corridor: Corridor, messages: Messages
) -> None:
    corridor.fault("retrieve", "status", status=503)
    answer = buyer.post(messages.return_path, messages.return_body, content_type=FORM)
    assert answer.status_code == 303
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.STORED
    assert buyer.session.session_key
    assert buyer.session.session_key not in str(delivery.payload)
    assert "cookie" not in delivery.payload["headers"]


def test_the_outcome_of_a_return_is_the_same_for_every_visitor(
    stranger: Client, payment: Payment, messages: Messages
) -> None:
    # Whoever opens the link is sent to the same page and becomes nobody else.
    for visitor in (stranger, Client()):
        answer = visitor.get(messages.return_path)
        assert answer.headers["Location"] == payment.get_outcome_url()
        assert "_auth_user_id" not in visitor.session


# Links -------------------------------------------------------------------------------------


TRICKS: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "a line break": lambda link: link + "%0A",
    "a NUL": lambda link: link + "%00",
    "a blank": lambda link: link + "%20",
    "a blank before": lambda link: "%20" + link,
    "10 kB": lambda link: link + "a" * 10_000,
    "no signature": lambda link: link.partition(":")[0],
    "an empty signature": lambda link: link.partition(":")[0] + ":",
    "a short signature": lambda link: link[:-1],
    "an empty name": lambda link: ":" + link.partition(":")[2],
    "only a colon": lambda link: ":",
    "two colons": lambda link: link.replace(":", "::"),
    "another payment": lambda link: "0" * 32 + ":" + link.partition(":")[2],
    "hyphens": lambda link: f"{link[:8]}-{link[8:]}",
    "braces": lambda link: "{" + link.partition(":")[0] + "}:" + link.partition(":")[2],
    "a surrogate": lambda link: link + "%ED%A0%80",
    "not UTF-8": lambda link: link + "%FF",
    "full width": lambda link: link + "%EF%BC%91",
    "dots": lambda link: "..%2F" + link,
    "SQL": lambda link: "1'%20OR%20'1'='1",
    "an integer": lambda link: "1",
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_a_link_that_we_did_not_sign_leads_nowhere(
    stranger: Client, messages: Messages, trick: Callable[[str], str]
) -> None:
    before = everything()
    for path in doors(messages)[:3]:
        prefix, link, _ = path.rsplit("/", 2)
        for method in ("GET", "POST"):
            answer = stranger.generic(
                method,
                f"{prefix}/{trick(link)}/",
                messages.status_body,
                content_type=FORM,
            )
            assert answer.status_code == 404
    assert everything() == before


def test_a_link_opens_only_the_door_it_was_made_for(
    stranger: Client, corridor: Corridor, payment: Payment, messages: Messages
) -> None:
    before = everything()
    links = {
        purpose: corridor.path(payment, purpose).rsplit("/", 2)[1]
        for purpose in Purpose
    }
    routes = {
        Purpose.RETURN: "return",
        Purpose.STATUS: "status",
        Purpose.PLAN: "plan_notice",
    }
    for made_for, link in links.items():
        for purpose, route in routes.items():
            if purpose is not made_for:
                path = reverse(f"multipay:{route}", args=[link])
                answer = stranger.post(path, messages.status_body, content_type=FORM)
                assert answer.status_code == 404
    assert everything() == before


def test_a_link_of_another_signer_of_this_site_leads_nowhere(
    stranger: Client, payment: Payment
) -> None:
    for signer in (signing.Signer(), signing.TimestampSigner()):
        for route in ("return", "status", "plan_notice"):
            path = reverse(f"multipay:{route}", args=[signer.sign(payment.uuid.hex)])
            assert stranger.get(path).status_code == 404


def test_links_outlive_a_new_secret_key_with_the_old_one_as_fallback(
    stranger: Client, settings: Settings, messages: Messages
) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "this year's key"
    answer = stranger.post(
        messages.status_path, messages.status_body, content_type=FORM
    )
    assert answer.content == ACCEPTED
    assert stranger.get(messages.return_path).status_code == 303


def test_without_the_fallback_old_links_are_gone_and_the_inquiry_still_settles(
    stranger: Client, settings: Settings, payment: Payment, messages: Messages
) -> None:
    settings.SECRET_KEY = "this year's key"
    for path in (messages.status_path, messages.return_path):
        answer = stranger.post(path, messages.status_body, content_type=FORM)
        assert answer.status_code == 404
    Payment.objects.update(sync_at=payment.created_at)
    reconcile_later()
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


def test_a_message_kept_under_a_lost_key_is_answered_without_a_crash(
    stranger: Client, corridor: Corridor, settings: Settings, messages: Messages
) -> None:
    corridor.fault("retrieve", "status", status=503)
    stranger.post(messages.status_path, messages.status_body, content_type=FORM)
    settings.MULTIPAY = {**settings.MULTIPAY, "ENCRYPTION_KEYS": ["another"]}
    answer = stranger.post(
        messages.status_path, messages.status_body, content_type=FORM
    )
    assert answer.status_code == 503
    assert answer.content != ACCEPTED


@pytest.mark.parametrize(
    "alias",
    ["nobody", "Eximbay", "eximbay%00", "eximbay%0A", "..", "%20", "a" * 10_000],
)
def test_an_account_that_does_not_exist_has_no_door(
    stranger: Client, messages: Messages, alias: str
) -> None:
    answer = stranger.post(
        f"/payments/webhook/{alias}/", messages.status_body, content_type=FORM
    )
    assert answer.status_code == 404


def test_an_account_that_was_removed_has_no_door(
    stranger: Client, settings: Settings, messages: Messages
) -> None:
    settings.MULTIPAY = {**settings.MULTIPAY, "PROVIDERS": {}}
    for path in doors(messages):
        answer = stranger.post(path, messages.status_body, content_type=FORM)
        assert answer.status_code == 404


# Around the doors --------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize("good_statements", range(0, 24, 3))
def test_a_database_that_goes_away_is_the_providers_to_retry(
    stranger: Client,
    payment: Payment,
    messages: Messages,
    error: type[Exception],
    good_statements: int,
) -> None:
    left = good_statements

    def go_away(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0 and not sql.startswith(("SAVEPOINT", "ROLLBACK", "RELEASE")):
            raise error("the database is away")
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        stack.enter_context(connection.execute_wrapper(go_away))
        answer = stranger.post(
            messages.status_path, messages.status_body, content_type=FORM
        )
    if WebhookDelivery.objects.filter(verdict=Verdict.APPLIED).exists():
        # What comes after the answer is no reason to send the message again.
        assert answer.content == ACCEPTED
    else:
        assert left < 0
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "30"
    again = stranger.post(messages.status_path, messages.status_body, content_type=FORM)
    assert again.content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID
    assert payment.transactions.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_doors_work_on_a_site_with_atomic_requests(
    stranger: Client,
    payment: Payment,
    messages: Messages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert (
        stranger.post(
            messages.return_path, messages.return_body, content_type=FORM
        ).status_code
        == 303
    )
    answer = stranger.post(
        messages.status_path, messages.status_body, content_type=FORM
    )
    assert answer.content == ACCEPTED
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.PAID


def test_a_site_that_demands_a_login_everywhere_lets_the_provider_in(
    stranger: Client, settings: Settings, messages: Messages
) -> None:
    settings.MIDDLEWARE = [
        *django_settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert stranger.get(messages.return_path).status_code == 303
    answer = stranger.post(
        messages.status_path, messages.status_body, content_type=FORM
    )
    assert answer.content == ACCEPTED
    assert stranger.post(WEBHOOK, "junk", content_type=FORM).status_code == 400


@pytest.mark.parametrize("debug", [True, False])
def test_a_refusal_tells_nothing_about_us(
    stranger: Client, settings: Settings, messages: Messages, debug: bool
) -> None:
    settings.DEBUG = debug
    key = fields_of(messages.status_body)["fgkey"]
    body = messages.status_body.replace(key, "0" * 64)
    for path in (messages.status_path, WEBHOOK):
        answer = stranger.post(path, body, content_type=FORM)
        assert answer.status_code == 401
        assert answer.content == b"rescode=9999&resmsg=Refused"


def test_an_answer_that_is_closed_twice_tells_the_shop_once() -> None:
    told: list[str] = []
    answer = webhooks.Acknowledgment(
        Reception(
            WebhookAnswer(outcome=WebhookOutcome.ACCEPTED), lambda: told.append("news")
        )
    )
    assert told == []
    answer.close()
    answer.close()
    assert told == ["news"]
