"""Events that leave the house: signed as the standard says, and never to our own net.

The receivers are real servers on the loopback; no name is ever looked up.
"""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from django_multipay import outgoing
from django_multipay.exceptions import InvalidOperation
from django_multipay.outgoing import check_url, is_public, resolve, send_event
from django_multipay.signatures import standard_webhook_signature
from tests.test_http import Authority, Server, always, answering, one_after_the_other

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"test": 2432232314}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def connections():
    """A client of its own for each test."""
    outgoing._client.cache_clear()
    yield
    outgoing._client().close()
    outgoing._client.cache_clear()


@pytest.fixture
def at_home(settings):
    """Settings of a developer: events may go to the loopback."""
    settings.MULTIPAY = {"ENDPOINTS": {"ALLOW_PRIVATE": True}}


def send(url: str, **changes: Any) -> outgoing.Receipt:
    values: dict[str, Any] = {
        "event_id": "evt_1",
        "body": BODY,
        "secrets": [SECRET],
        "moment": datetime.now(UTC),
        **changes,
    }
    return send_event(url, **values)


def answer(status: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", "Content-Length: 0", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


# Signed as the standard says ----------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "message_id", "seconds", "body", "expected"),
    [
        # The vector in the tests of every library of the standard.
        (
            SECRET,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            BODY,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            SECRET.removeprefix("whsec_"),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            BODY,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ],
)
def test_the_published_vectors_pass(secret, message_id, seconds, body, expected):
    moment = datetime.fromtimestamp(seconds, UTC)
    assert standard_webhook_signature(secret, message_id, moment, body) == expected


def test_the_package_of_the_standard_verifies_what_arrives(at_home):
    body = json.dumps({"name": "Tee 차", "amount": "26.30"}, ensure_ascii=False)
    with Server(always(OK)) as server:
        receipt = send(f"{server.url}/hooks?a=1", body=body.encode())
        (received,) = server.received
    assert receipt == outgoing.Receipt(status=200)
    assert received.line == "POST /hooks?a=1 HTTP/1.1"
    assert received.header("Content-Type") == ["application/json"]
    assert received.header("webhook-id") == ["evt_1"]
    headers = dict(received.headers)
    assert Webhook(SECRET).verify(received.body, headers)["amount"] == "26.30"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(received.body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(received.body, headers | {"webhook-id": "evt_2"})
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(received.body, headers)


def test_every_live_secret_signs_while_they_are_changed(at_home):
    with Server(always(OK)) as server:
        send(server.url, secrets=[OTHER, SECRET])
        (received,) = server.received
    headers = dict(received.headers)
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(received.body, headers)
    assert headers["webhook-signature"].count("v1,") == 2
    assert headers["webhook-signature"].count(" ") == 1


def test_an_old_attempt_is_not_taken_for_a_new_one(at_home):
    with Server(always(OK)) as server:
        send(server.url, moment=datetime.now(UTC) - timedelta(minutes=6))
        (received,) = server.received
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(received.body, dict(received.headers))


# What an answer means ----------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_means_that_it_was_taken(at_home, status):
    with Server(always(answer(status))) as server:
        assert send(server.url) == outgoing.Receipt(status=status)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 410, 422, 500])
def test_everything_else_means_that_it_was_not(at_home, status):
    with Server(always(OK)) as elsewhere:
        moved = answer(status, f"Location: {elsewhere.url}")
        with Server(always(moved)) as server:
            receipt = send(server.url)
    assert receipt.status == status
    assert str(status) in receipt.error
    assert elsewhere.connections == 0
    assert server.connections == 1


@pytest.mark.parametrize(
    ("said", "expected"), [("7", 7), ("999999999", 3600), ("soon", None), ("-1", None)]
)
def test_a_receiver_may_ask_for_a_rest_within_bounds(at_home, said, expected):
    busy = answer(503, f"Retry-After: {said}")
    with Server(always(busy)) as server:
        assert send(server.url).retry_after == expected


@pytest.mark.parametrize(
    ("said", "is_taken"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 99999, True),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", True),
        (b"HTTP/1.1 500 X\r\nContent-Encoding: gzip\r\n\r\n", False),
        (b"HTTP/1.1 200", False),
        (b"", False),
        (b"\x00\x01\r\n\r\n", False),
    ],
    ids=["endless", "compressed", "compressed 500", "half a line", "nothing", "noise"],
)
def test_an_answer_is_not_read_further_than_its_status(at_home, said, is_taken):
    with Server(answering(said)) as server:
        receipt = send(server.url)
    assert (receipt.error == "") is is_taken
    assert server.connections == 1


def test_where_nobody_listens_nothing_was_sent(at_home):
    with Server(always(OK)) as server:
        url = server.url
    receipt = send(url)
    assert receipt.status is None
    assert "nothing was sent" in receipt.error


def test_a_connection_is_used_again(at_home):
    with Server(always(OK)) as server:
        assert {send(server.url).status for _ in range(3)} == {200}
        assert (server.connections, len(server.received)) == (1, 3)


def test_no_proxy_of_the_environment_is_asked(at_home, monkeypatch):
    with Server(always(OK)) as proxy, Server(always(OK)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert send(server.url).status == 200
    assert proxy.connections == 0


# Not into our own net ------------------------------------------------------------------

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:0:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:a9fe:a9fe::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "2606:4700::1111%lo",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "169.253.255.255",
    "192.169.0.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450::1",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_ours_is_known(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_known(address):
    assert is_public(address)


TRICKS = [
    "https://127.0.0.1/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0x7f000001/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://0x7F.1/",
    "https://00000127.0.0.1/",
    "https://127.0.0.1./",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://[::1]/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[fe80::1%25lo]/",
    "https://[fe80::1%lo]/",
    "https://[fd00::1]/",
    "https://[v1.127.0.0.1]/",
    "https://127.0.0.1%2f@example.com/",
    "https://example.com@127.0.0.1/",
    "https://user:password@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com#@127.0.0.1/",
    "https://127.0.0.1#.example.com/",
    "https://127.0.0.1\\.example.com/",
    "https://127.0.0.1\t/",
    "https://127.0.0.1\n/",
    "https://127.0.0.1 /",
    " https://127.0.0.1/",
    "https:127.0.0.1",
    "https:///127.0.0.1/",
    "https:/\\127.0.0.1/",
    "//127.0.0.1/",
    "http://example.com/",
    "http://127.0.0.1/",
    "HTTP://127.0.0.1/",
    "ftp://127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_PING",
    "unix:///run/docker.sock",
    "https://\u2460\u2461\u2467.0.0.1/",
    "https://127\u30020\u30020\u30021/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://127%2e0%2e0%2e1/",
    "https://rebinds.example/",
    "https://half-inside.example/",
    "https://metadata.example/",
    "https://mapped.example/",
    "https://nat64.example/",
    "https://xn--nxasmq6b.example/",
    "https://outside.example:22/",
    "https://outside.example:6379/",
    "https://outside.example:0/",
    "https://outside.example:65536/",
    "https://outside.example:+443/",
    "https://outside.example:/",
    "https://outside.example:443@127.0.0.1:443/",
    "https://intranet/",
    "https://.example/",
    "https://-.example/",
    "https://a..example/",
    "https:// /",
    "https://",
    "",
    f"https://{'a' * 600}.example/",
]

NAMES = {
    "localhost": ["127.0.0.1"],
    "half-inside.example": ["8.8.8.8", "10.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "nat64.example": ["64:ff9b::a00:1"],
    "xn--nxasmq6b.example": ["fd00::1"],
    "outside.example": ["8.8.8.8"],
    "example.com": ["8.8.8.8"],
    "intranet": ["10.0.0.1"],
}


class Internet:
    """The names a test knows, and the addresses that somebody tried to reach."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.asked: list[str] = []

    def look_up(self, host: str, port: Any, *more: Any, **options: Any) -> list[Any]:
        """Answer for the known names; numbers as the system reads them."""
        self.asked.append(host)
        if host == "rebinds.example":
            # Public for whoever checks first, ours for whoever connects afterwards.
            addresses = ["8.8.8.8"] if len(self.asked) == 1 else ["127.0.0.1"]
        elif host.rstrip(".").lower() in NAMES:
            addresses = NAMES[host.rstrip(".").lower()]
        else:
            numeric = {**options, "flags": socket.AI_NUMERICHOST}
            return original_look_up(host, port, **numeric)
        return [
            item
            for address in addresses
            for item in original_look_up(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        ]

    def connect(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Note who is called; nobody answers."""
        self.reached.append(address[0])
        raise ConnectionRefusedError("nobody answers in this test")


original_look_up = socket.getaddrinfo


@pytest.fixture
def internet(monkeypatch):
    found = Internet()
    monkeypatch.setattr(socket, "getaddrinfo", found.look_up)
    monkeypatch.setattr(
        socket.socket, "connect", lambda sock, address: found.connect(sock, address)
    )
    return found


def test_no_trick_reaches_our_own_net(settings, internet):
    settings.MULTIPAY = {}
    assert len(set(TRICKS)) == len(TRICKS) > 40
    for url in TRICKS:
        internet.asked.clear()
        internet.reached.clear()
        receipt = send(url)
        # A name that is public at the first look is called there and nowhere else.
        expected = {"8.8.8.8"} if "rebinds" in url else set()
        assert (url, set(internet.reached)) == (url, expected)
        assert receipt.status is None, url
        assert receipt.error, url


def test_twin_without_the_look_at_the_address_tricks_arrive(
    settings, internet, monkeypatch
):
    settings.MULTIPAY = {}
    monkeypatch.setattr(outgoing, "is_public", lambda address: True)
    for url in TRICKS:
        internet.asked.clear()
        send(url)
    ours = {address for address in internet.reached if not is_public(address)}
    assert {"127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"} <= ours


def test_what_is_looked_at_is_what_is_connected_to(settings, internet):
    """One look-up for each connection: a second one could bring another answer."""
    settings.MULTIPAY = {}
    send("https://outside.example/")
    assert internet.reached
    assert internet.asked.count("outside.example") == len(internet.reached)
    # Whatever else is looked up is a number, which no name server answers.
    assert set(internet.asked) <= {"outside.example", "8.8.8.8"}


def test_a_name_that_is_not_known_reaches_nobody(settings, internet):
    settings.MULTIPAY = {}
    assert send("https://unknown.example/").status is None
    assert internet.reached == []


def test_why_it_was_not_sent_does_not_tell_the_address(settings, internet):
    settings.MULTIPAY = {}
    receipt = send("https://metadata.example/")
    assert receipt.error == "the host has an address that is not public"


def test_a_refused_port_is_refused_at_the_connection_too(settings, internet):
    settings.MULTIPAY = {"ENDPOINTS": {"PORTS": [443]}}
    with pytest.raises(ValueError, match="not public"):
        resolve("outside.example", 22)
    assert resolve("outside.example", 443) == ["8.8.8.8"]


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/hooks/1?key=a%20b",
        "https://SHOP.example",
        "https://shop.example:8443/",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:443/",
    ],
)
def test_usual_addresses_are_taken(settings, url):
    settings.MULTIPAY = {}
    check_url(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://shop.example/", "https://"),
        ("https://shop.example:99/", "another port than 443, 8443"),
        ("https://u:p@shop.example/", "user name"),
        ("https://shop.example/#a", "fragment"),
        ("https://10.0.0.1/", "no host of the internet"),
        ("https://shop.example/a b", "character"),
        ("https://[::1/", "cannot be read"),
    ],
)
def test_a_refused_address_says_why(settings, url, why):
    settings.MULTIPAY = {}
    with pytest.raises(InvalidOperation, match=why) as caught:
        check_url(url)
    assert caught.value.field == "url"


def test_the_certificate_is_that_of_the_name(settings, monkeypatch, tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    monkeypatch.setattr(
        "requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(authority.bundle)
    )
    settings.MULTIPAY = {"ENDPOINTS": {"ALLOW_PRIVATE": True}}
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, *more, **options: original_look_up(
            "127.0.0.1", port, type=socket.SOCK_STREAM
        ),
    )
    with Server(always(OK), tls=authority.context("hooks.example")) as server:
        assert send(f"https://hooks.example:{server.port}/").status == 200
        stranger = send(f"https://other.example:{server.port}/")
    assert stranger.status is None
    assert len(server.received) == 1


def test_the_path_of_an_endpoint_is_not_logged(at_home, caplog):
    caplog.set_level("DEBUG")
    with Server(one_after_the_other(answering(b""), always(OK))) as server:
        for _ in range(2):
            send(f"{server.url}/services/canary?key=canary", secrets=[SECRET])
    assert caplog.text
    assert "canary" not in caplog.text
    assert SECRET not in caplog.text
