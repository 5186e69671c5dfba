"""One HTTP exchange, against a real server on the loopback that follows a script."""

from __future__ import annotations

import contextlib
import datetime
import inspect
import ipaddress
import logging
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from django_multipay import __version__
from django_multipay.exceptions import (
    CredentialsRejected,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    UnexpectedAnswer,
)
from django_multipay.http import (
    MAX_DEPTH,
    HttpClient,
    Limits,
    error_for_status,
    loads_strict,
    read_json,
)
from django_multipay.messages import HttpRequest, HttpResponse

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

# The server -------------------------------------------------------------------------


@dataclass
class Received:
    """One request as it arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        self.file = sock.makefile("rb")

    def read(self) -> Received | None:
        """Return the next request, or None when the client has gone."""
        line = self.file.readline().decode("latin-1").strip()
        if not line:
            return None
        headers = []
        while header := self.file.readline().decode("latin-1").strip():
            name, _, value = header.partition(": ")
            headers.append((name, value))
        received = Received(line, headers, b"")
        length = received.header("Content-Length")
        received.body = self.file.read(int(length[0]) if length else 0)
        self.server.received.append(received)
        return received

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close so that the client sees a reset instead of an end."""
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )

    def wait_for_the_client_to_leave(self) -> None:
        self.file.read(1)


Script = Callable[[Peer], None]


@dataclass
class Server:
    """Runs ``script`` once per connection, each in a thread of its own."""

    script: Script
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __enter__(self) -> Server:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()
        return self

    def __exit__(self, *details: object) -> None:
        # Closing alone does not wake a thread that waits in accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        # The client may leave at any moment; that is what most tests are about.
        with contextlib.suppress(OSError, ValueError), sock:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            with sock:
                peer = Peer(sock, self)
                with peer.file:
                    self.script(peer)
        self.closed.release()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"


def answering(*answers: bytes) -> Script:
    """Answer each request of a connection with the next of ``answers``, then close."""

    def script(peer: Peer) -> None:
        for answer in answers:
            if peer.read():
                peer.send(answer)

    return script


def always(answer: bytes) -> Script:
    """Answer every request of a connection with ``answer``."""

    def script(peer: Peer) -> None:
        while peer.read():
            peer.send(answer)

    return script


def one_after_the_other(*scripts: Script) -> Script:
    """Give each connection the next script; the last one serves all the others."""
    waiting = list(scripts)

    def script(peer: Peer) -> None:
        (waiting.pop(0) if len(waiting) > 1 else waiting[0])(peer)

    return script


def ask(server: Server, **values: Any) -> HttpRequest:
    values = {"operation": "ask", "method": "GET", "url": f"{server.url}/v1", **values}
    return HttpRequest(**values)


# Certificates -----------------------------------------------------------------------


@dataclass
class Authority:
    """A certificate authority that lives for one test run."""

    folder: Path

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        self.bundle = self.folder / "ca.pem"
        usage = dict.fromkeys(inspect.signature(x509.KeyUsage).parameters, False)
        certificate = (
            self._builder(self.name, self.key, self.name, self.key, days=30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .add_extension(x509.KeyUsage(**{**usage, "key_cert_sign": True}), True)
        )
        self.bundle.write_bytes(_pem(certificate.sign(self.key, hashes.SHA256())))

    @staticmethod
    def _builder(
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        issuer_key: ec.EllipticCurvePrivateKey,
        days: int,
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(UTC)
        # Python 3.13 wants the identifiers of the two keys.
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        signing = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            issuer_key.public_key()
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(own, False)
            .add_extension(signing, False)
        )

    def context(
        self, name: str, *, days: int = 30, is_self_signed: bool = False
    ) -> ssl.SSLContext:
        """Return a server's context for the host ``name``, valid for ``days``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        issuer, issuer_key = (subject, key) if is_self_signed else (self.name, self.key)
        signed = (
            self._builder(subject, key, issuer, issuer_key, days)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        path = self.folder / f"{x509.random_serial_number()}.pem"
        path.write_bytes(
            _pem(signed)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(authority, monkeypatch):
    """The authority, trusted as if it stood in the bundle of the HTTP library."""
    monkeypatch.setattr(
        "requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(authority.bundle)
    )
    return authority


# What goes out ----------------------------------------------------------------------


def sent(request_values: dict[str, Any]) -> Received:
    with Server(always(OK)) as server:
        HttpClient("shop").send(ask(server, **request_values))
        (received,) = server.received
    return received


def test_a_json_body_goes_out_with_a_get_as_well():
    received = sent({"method": "GET", "json": {"mid": "1"}})
    assert received.line == "GET /v1 HTTP/1.1"
    assert received.header("Content-Type") == ["application/json"]
    assert received.body == b'{"mid":"1"}'


def test_amounts_in_json_keep_exactly_their_digits():
    body = {
        "amount": Decimal("26.30"),
        "lines": [
            {"price": Decimal("1E+3"), "count": 2, "name": "Tee 차"},
            None,
            True,
        ],
    }
    assert sent({"method": "POST", "json": body}).body == (
        b'{"amount":26.30,"lines":[{"price":1000,"count":2,'
        b'"name":"Tee \\ucc28"},null,true]}'
    )


def test_a_form_goes_out_encoded():
    received = sent({"method": "POST", "form": {"a": "1 &=", "b": "차"}})
    assert received.header("Content-Type") == ["application/x-www-form-urlencoded"]
    assert received.body == b"a=1+%26%3D&b=%EC%B0%A8"


def test_a_post_without_a_body_says_so():
    received = sent({"method": "POST"})
    assert received.header("Content-Length") == ["0"]
    assert received.header("Content-Type") == []


def test_header_names_go_out_exactly_as_given():
    received = sent({"headers": {"EXCOINZ_SECRET": "Bearer x", "x-odd_Name": "1"}})
    assert ("EXCOINZ_SECRET", "Bearer x") in received.headers
    assert ("x-odd_Name", "1") in received.headers


def test_a_content_type_of_the_provider_wins():
    received = sent({"json": {}, "headers": {"content-type": "application/vnd.x+json"}})
    assert received.header("Content-Type") == ["application/vnd.x+json"]


def test_we_say_who_we_are_and_offer_no_compression():
    received = sent({"headers": {"Accept-Encoding": "gzip"}})
    assert received.header("User-Agent") == [f"django-multipay/{__version__}"]
    assert received.header("Accept-Encoding") == ["identity"]


@pytest.mark.parametrize(
    "values",
    [
        {"headers": {"Authorization": "canary\r\nX-Injected: 1"}},
        {"headers": {"Authorization": " canary"}},
        {"headers": {"Authorization": "canary-차"}},
        {"headers": {"Bad\nName": "canary"}},
        {"headers": {"Authorization": 7}},
        {"json": {"canary": [Decimal("NaN")]}},
        {"json": {"canary": float("inf")}},
        {"url": "no-scheme/v1"},
    ],
    ids=["CRLF", "blank", "not latin", "name", "number", "NaN", "Infinity", "URL"],
)
def test_what_http_cannot_say_is_refused_before_anything_is_sent(values):
    with Server(always(OK)) as server:
        with pytest.raises(RequestRejected) as caught:
            HttpClient("shop").send(ask(server, **values))
        assert server.connections == 0
    assert "canary" not in everything_reported(caught.value)


# What comes back --------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 404, 422, 429, 500, 503])
def test_an_answer_is_returned_whatever_its_status(status):
    answer = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nX-Request-ID: 7\r\n\r\n" % status
    with Server(always(answer)) as server:
        response = HttpClient("shop").send(ask(server))
    assert (response.status, response.body) == (status, b"")
    assert response.headers["x-request-id"] == "7"


def test_chunked_and_unbounded_answers_are_read_whole():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    with Server(always(chunked)) as server:
        assert HttpClient("shop").send(ask(server)).body == b"{}"
    with Server(answering(b"HTTP/1.0 200 OK\r\n\r\n{}")) as server:
        assert HttpClient("shop").send(ask(server)).body == b"{}"


def test_an_answer_of_exactly_one_mebibyte_is_read():
    body = b" " * (1024 * 1024)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with Server(always(answer)) as server:
        assert HttpClient("shop").send(ask(server)).body == body


# Faults -----------------------------------------------------------------------------

UNSENT = (ProviderUnavailable, ProviderUnavailable)
LOST = (ProviderUnavailable, OutcomeUnknown)
UNREADABLE = (UnexpectedAnswer, OutcomeUnknown)

HEAD = b"HTTP/1.1 200 OK\r\n"
SLOW_READ = Limits(read=timedelta(milliseconds=200))
SMALL_BUDGET = Limits(total=timedelta(milliseconds=300))


def says(answer: bytes) -> Script:
    """Read the request, send ``answer`` and close."""
    return answering(answer)


def resets_after(answer: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.read()
        if answer:
            peer.send(answer)
        peer.reset()

    return script


def stalls_after(answer: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.read()
        peer.send(answer)
        peer.wait_for_the_client_to_leave()

    return script


def drips(start: bytes, drop: bytes) -> Script:
    """Send ``start``, then ``drop`` again and again, each well within the limit."""

    def script(peer: Peer) -> None:
        peer.read()
        peer.send(start)
        pause = threading.Event()
        while True:
            peer.send(drop)
            pause.wait(timeout=0.02)

    return script


def closes_before_reading_the_body(peer: Peer) -> None:
    peer.file.readline()


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BIG = b"x" * (1024 * 1024 + 1)

FAULTS_AFTER_SENDING: dict[str, tuple[Script, Limits, Any]] = {
    "closed without an answer": (says(b""), Limits(), LOST),
    "reset without an answer": (resets_after(b""), Limits(), LOST),
    "closed in the request": (closes_before_reading_the_body, Limits(), LOST),
    "no answer": (stalls_after(b""), SLOW_READ, LOST),
    "no answer within the budget": (stalls_after(b""), SMALL_BUDGET, LOST),
    "half a status line": (says(b"HTTP/1.1 20"), Limits(), LOST),
    "half a header": (says(HEAD + b"Content-Le"), Limits(), LOST),
    "reset in the headers": (resets_after(HEAD + b"A: b\r\n"), Limits(), LOST),
    "stalled in the headers": (stalls_after(HEAD + b"A: b\r\n"), SLOW_READ, LOST),
    "a trickle of headers": (drips(HEAD, b"A: b\r\n"), SMALL_BUDGET, LOST),
    "a trickle in one header": (drips(HEAD + b"A: ", b"b"), SMALL_BUDGET, LOST),
    "interim answers for ever": (
        drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        SMALL_BUDGET,
        LOST,
    ),
    "not HTTP": (says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Limits(), LOST),
    "a body without a head": (says(b'{"status": "paid"}'), Limits(), LOST),
    "a status that is no number": (says(b"HTTP/1.1 OK\r\n\r\n"), Limits(), LOST),
    "too many headers": (says(HEAD + b"A: b\r\n" * 200 + b"\r\n"), Limits(), LOST),
    "a header too long": (says(HEAD + b"A: " + b"b" * 70_000), Limits(), LOST),
    "two lengths": (
        says(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
        Limits(),
        LOST,
    ),
    "truncated": (says(HEAD + b"Content-Length: 9\r\n\r\n{}"), Limits(), LOST),
    "no body at all": (says(HEAD + b"Content-Length: 9\r\n\r\n"), Limits(), LOST),
    "reset in the body": (
        resets_after(HEAD + b"Content-Length: 9\r\n\r\n{}"),
        Limits(),
        LOST,
    ),
    "stalled in the body": (
        stalls_after(HEAD + b"Content-Length: 9\r\n\r\n{}"),
        SLOW_READ,
        LOST,
    ),
    "a trickle in the body": (
        drips(HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
        SMALL_BUDGET,
        LOST,
    ),
    "a trickle of chunks": (drips(CHUNKED, b"1\r\nx\r\n"), SMALL_BUDGET, LOST),
    "chunks without an end": (says(CHUNKED + b"2\r\n{}\r\n"), Limits(), LOST),
    "a chunk that is cut": (says(CHUNKED + b"9\r\n{}"), Limits(), LOST),
    "a chunk without a size": (
        says(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
        Limits(),
        LOST,
    ),
    "one byte too many": (
        says(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(BIG), BIG)),
        Limits(),
        LOST,
    ),
    "chunks without limit": (
        drips(CHUNKED, b"10000\r\n" + b"x" * 0x10000 + b"\r\n"),
        Limits(),
        LOST,
    ),
    "compressed": (
        says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"),
        Limits(),
        UNREADABLE,
    ),
    "switching protocols": (
        says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"),
        Limits(),
        UNREADABLE,
    ),
    "a status from nowhere": (
        says(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"),
        Limits(),
        UNREADABLE,
    ),
}


def fails(server: Server, limits: Limits, *, is_read: bool) -> ProviderError:
    """Send a request that must fail, in a bounded time; return the error."""
    method = "GET" if is_read else "POST"
    request = ask(server, method=method, json={"a": 1}, is_read=is_read)
    started = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        HttpClient("shop", limits).send(request)
    assert time.monotonic() - started < 10
    error = caught.value
    assert (error.provider, error.operation) == ("shop", "ask")
    return error


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "write"])
@pytest.mark.parametrize("fault", FAULTS_AFTER_SENDING)
def test_a_fault_after_sending_says_what_may_have_happened(fault, is_read):
    script, limits, expected = FAULTS_AFTER_SENDING[fault]
    with Server(script) as server:
        error = fails(server, limits, is_read=is_read)
        assert type(error) is expected[0 if is_read else 1]
        # A write goes out once, whatever happens; a read at most twice.
        assert server.connections <= (2 if is_read else 1)


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "write"])
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_not_followed(status, is_read):
    with Server(always(OK)) as other:
        location = f"{other.url}/elsewhere".encode()
        answer = b"HTTP/1.1 %d X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
        with Server(always(answer % (status, location))) as server:
            error = fails(server, Limits(), is_read=is_read)
            assert len(server.received) == 1
        assert other.connections == 0
    assert type(error) is UNREADABLE[0 if is_read else 1]
    assert error.http_status == status


def test_the_endless_body_of_a_redirect_is_cut_like_any_other():
    redirect = b"HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 99999999\r\n\r\n"
    with Server(drips(redirect, b"x" * 65536)) as server:
        error = fails(server, Limits(), is_read=False)
    assert type(error) is OutcomeUnknown


# Faults before anything was sent ------------------------------------------------------


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "write"])
def test_a_refused_connection_means_nothing_happened(is_read):
    with Server(always(OK)) as server:
        pass
    assert type(fails(server, Limits(), is_read=is_read)) is ProviderUnavailable


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "write"])
def test_an_unknown_host_means_nothing_happened(is_read, monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with Server(always(OK)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", fail)
        assert type(fails(server, Limits(), is_read=is_read)) is ProviderUnavailable


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "write"])
def test_a_connection_that_is_not_accepted_in_time_means_nothing_happened(is_read):
    limits = Limits(connect=timedelta(milliseconds=100))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with contextlib.ExitStack() as fillers:
            # A full queue: further handshakes are dropped, not refused.
            for _ in range(4):
                filler = fillers.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(address)
            server = Server(always(OK))
            server.port = address[1]
            error = fails(server, limits, is_read=is_read)
    assert type(error) is ProviderUnavailable


def test_a_call_without_time_left_is_not_sent():
    with Server(always(OK)) as server:
        error = fails(server, Limits(total=timedelta()), is_read=False)
        assert server.connections == 0
    assert type(error) is ProviderUnavailable


# What the server shows, and OpenSSL's number of what is wrong with it.
CERTIFICATES: dict[str, tuple[dict[str, Any], int]] = {
    "another host": ({"name": "other.example"}, 64),
    "another address": ({"name": "127.0.0.2"}, 64),
    "expired": ({"name": "127.0.0.1", "days": -1}, 10),
    "self-signed": ({"name": "127.0.0.1", "is_self_signed": True}, 18),
}


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "write"])
@pytest.mark.parametrize("kind", CERTIFICATES)
def test_a_bad_certificate_means_nothing_was_sent(kind, is_read, trusted):
    values, number = CERTIFICATES[kind]
    with Server(always(OK), tls=trusted.context(**values)) as server:
        error = fails(server, Limits(), is_read=is_read)
        assert server.received == []
    assert type(error) is ProviderUnavailable
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert error.__cause__.verify_code == number


def test_a_certificate_of_an_unknown_authority_is_refused(authority):
    with Server(always(OK), tls=authority.context("127.0.0.1")) as server:
        error = fails(server, Limits(), is_read=False)
    assert type(error) is ProviderUnavailable
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


def test_a_good_certificate_is_accepted(trusted):
    with Server(always(OK), tls=trusted.context("127.0.0.1")) as server:
        assert HttpClient("shop").send(ask(server)).status == 200


def test_the_environment_can_neither_add_trust_nor_proxies_nor_credentials(
    authority, monkeypatch, tmp_path
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password canary\n")
    for name, value in {
        "NETRC": str(netrc),
        "REQUESTS_CA_BUNDLE": str(authority.bundle),
        "CURL_CA_BUNDLE": str(authority.bundle),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.lower(), value)
    assert sent({}).header("Authorization") == []
    with Server(always(OK), tls=authority.context("127.0.0.1")) as server:
        error = fails(server, Limits(), is_read=True)
    assert type(error) is ProviderUnavailable
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


def says_hello(data: bytes) -> Script:
    """Answer the first bytes of a TLS handshake with ``data`` and close."""

    def script(peer: Peer) -> None:
        peer.sock.recv(1)
        if data:
            peer.send(data)

    return script


def resets_the_handshake(peer: Peer) -> None:
    peer.sock.recv(1)
    peer.reset()


HANDSHAKES = {
    "closed": (says_hello(b""), Limits()),
    "reset": (resets_the_handshake, Limits()),
    "plain HTTP": (says_hello(OK), Limits()),
    "silence": (
        lambda peer: peer.wait_for_the_client_to_leave(),
        Limits(connect=timedelta(milliseconds=200), total=timedelta(seconds=1)),
    ),
}


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "write"])
@pytest.mark.parametrize("fault", HANDSHAKES)
def test_a_broken_handshake_means_nothing_happened(fault, is_read):
    script, limits = HANDSHAKES[fault]
    with Server(script) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(ProviderUnavailable):
            HttpClient("shop", limits).send(ask(server, url=url, is_read=is_read))


def ends_without_goodbye(peer: Peer) -> None:
    """Close the TCP connection below TLS, as a crash or an attacker would."""
    peer.read()
    socket.socket(fileno=peer.sock.detach()).close()


def speaks_garbage_below_tls(peer: Peer) -> None:
    peer.read()
    raw = socket.socket(fileno=os.dup(peer.sock.fileno()))
    with raw:
        raw.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "write"])
@pytest.mark.parametrize("script", [ends_without_goodbye, speaks_garbage_below_tls])
def test_a_tls_failure_after_sending_is_not_taken_for_one_before(
    script, is_read, trusted
):
    with Server(script, tls=trusted.context("127.0.0.1")) as server:
        error = fails(server, Limits(), is_read=is_read)
        assert len(server.received) in ({1, 2} if is_read else {1})
    assert type(error) is LOST[0 if is_read else 1]


# Repeating --------------------------------------------------------------------------


def test_a_read_is_repeated_once_when_the_connection_drops():
    with Server(one_after_the_other(says(b""), always(OK))) as server:
        assert HttpClient("shop").send(ask(server, is_read=True)).status == 200
        assert len(server.received) == 2


def test_a_read_is_not_repeated_for_ever():
    with Server(says(b"")) as server:
        fails(server, Limits(), is_read=True)
        assert len(server.received) == 2


def test_a_read_that_took_too_long_is_not_repeated():
    with Server(stalls_after(b"")) as server:
        fails(server, SLOW_READ, is_read=True)
        assert len(server.received) == 1


def test_a_write_is_never_repeated_once_it_was_sent():
    with Server(one_after_the_other(says(b""), always(OK))) as server:
        assert type(fails(server, Limits(), is_read=False)) is OutcomeUnknown
        assert len(server.received) == 1


def test_a_write_that_could_not_connect_is_tried_once_more(trusted):
    context = trusted.context("127.0.0.1")

    def speaks_tls(peer: Peer) -> None:
        with context.wrap_socket(peer.sock, server_side=True) as sock:
            always(OK)(Peer(sock, peer.server))

    with Server(one_after_the_other(says_hello(b""), speaks_tls)) as server:
        url = server.url.replace("http:", "https:")
        response = HttpClient("shop").send(ask(server, url=url, method="POST"))
        assert response.status == 200
        assert server.connections == 2
        assert len(server.received) == 1


# Connections ------------------------------------------------------------------------


def test_one_connection_serves_many_calls():
    with Server(always(OK)) as server:
        client = HttpClient("shop")
        for _ in range(20):
            client.send(ask(server, method="POST"))
        assert server.connections == 1


def test_answers_with_an_error_status_keep_the_connection_too():
    answer = b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"
    with Server(always(answer)) as server:
        client = HttpClient("shop")
        for _ in range(3):
            client.send(ask(server))
        assert server.connections == 1


def test_threads_share_the_pool_and_get_their_own_answers():
    everybody = threading.Barrier(8, timeout=30)

    def echoes(peer: Peer) -> None:
        while received := peer.read():
            everybody.wait()
            body = received.header("X-Number")[0].encode()
            peer.send(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    with Server(echoes) as server, ThreadPoolExecutor(8) as threads:
        client = HttpClient("shop")

        def call(number: int) -> bytes:
            return client.send(ask(server, headers={"X-Number": str(number)})).body

        for start in (0, 8, 16):
            answers = threads.map(call, range(start, start + 8))
            assert list(answers) == [b"%d" % n for n in range(start, start + 8)]
        assert server.connections == 8


def test_a_connection_the_provider_closed_meanwhile_is_not_written_into():
    with Server(answering(OK)) as server:
        client = HttpClient("shop")
        for _ in range(3):
            assert client.send(ask(server, method="POST")).status == 200
            assert server.closed.acquire(timeout=10)
        assert server.connections == 3


def test_a_connection_that_was_idle_for_long_is_not_written_into():
    with Server(always(OK)) as server:
        client = HttpClient("shop", Limits(idle=timedelta()))
        for _ in range(3):
            client.send(ask(server, method="POST"))
        assert server.connections == 3


def test_a_connection_whose_answer_was_cut_is_not_used_again():
    big = HEAD + b"Content-Length: 99999999\r\n\r\n" + BIG * 2
    with Server(one_after_the_other(stalls_after(big), always(OK))) as server:
        client = HttpClient("shop")
        with pytest.raises(OutcomeUnknown):
            client.send(ask(server, method="POST"))
        assert client.send(ask(server)).body == b"{}"
        assert server.connections == 2


def test_a_closed_client_opens_new_connections():
    with Server(always(OK)) as server:
        client = HttpClient("shop")
        client.close()
        client.send(ask(server))
        client.close()
        # The server has seen the end of the connection.
        assert server.closed.acquire(timeout=10)
        client.send(ask(server))
        assert server.connections == 2


def test_cookies_are_not_kept():
    answer = HEAD + b"Set-Cookie: session=1; Path=/\r\nContent-Length: 0\r\n\r\n"
    with Server(always(answer)) as server:
        client = HttpClient("shop")
        for _ in range(2):
            client.send(ask(server))
        assert [received.header("Cookie") for received in server.received] == [[], []]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_opens_its_own_connections():
    with Server(always(OK)) as server:
        client = HttpClient("shop")
        client.send(ask(server))
        with warnings.catch_warnings():
            # The child does nothing but one call, and does not return.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(Exception):
                status = 0 if client.send(ask(server)).status == 200 else 1
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert server.connections == 2
        client.send(ask(server))
        assert server.connections == 2


def test_importing_the_module_does_not_load_the_http_library():
    code = (
        "import sys, django_multipay.http\n"
        "sys.exit(bool({'requests', 'urllib3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Secrets ----------------------------------------------------------------------------


def everything_reported(error: BaseException) -> str:
    """Return all that an error report with local variables would show."""
    assert error.__traceback__ is not None
    report = traceback.TracebackException(
        type(error),
        error,
        # Without the test's own frame, which knows the canaries.
        error.__traceback__.tb_next,
        capture_locals=True,
    )
    return "".join(report.format()) + str(error) + repr(error)


SECRETS: dict[str, Any] = {
    "headers": {"Authorization": "Basic canary-header", "EXCOINZ_SECRET": "canary-key"},
    "json": {"card": {"number": "canary-body"}},
}


@pytest.mark.parametrize(
    "script",
    [
        always(
            HEAD + b"X-Token: canary-token\r\nContent-Length: 13\r\n\r\ncanary-answer"
        ),
        says(b"HTTP/1.1 302 X\r\nLocation: /canary-location\r\n\r\n"),
        says(b""),
        resets_after(b""),
        says(HEAD + b"Content-Length: 99\r\n\r\ncanary-answer"),
        says(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\ncanary-answer"),
    ],
    ids=["answered", "redirected", "closed", "reset", "truncated", "compressed"],
)
def test_logs_and_errors_hold_no_header_body_or_query(script, caplog):
    caplog.set_level(logging.DEBUG, logger="django_multipay")
    with Server(script) as server:
        url = f"{server.url}/v1/payments/p-17?key=canary-query"
        request = ask(server, method="POST", url=url, **SECRETS)
        with pytest.raises(ProviderError) as caught:
            read_json(request, HttpClient("shop").send(request), "shop")
    assert "canary" not in str(caught.value) + repr(caught.value)
    # The URL of the request is a local variable; nothing else is there.
    assert "canary" not in everything_reported(caught.value).replace("canary-query", "")
    assert "canary" not in caplog.text


def test_each_call_leaves_one_line_in_the_log(caplog):
    caplog.set_level(logging.DEBUG, logger="django_multipay")
    with Server(one_after_the_other(answering(OK), says(b""))) as server:
        url = f"{server.url}/v1/payments/p-17?key=1"
        client = HttpClient("shop")
        client.send(ask(server, operation="fetch", url=url))
        assert server.closed.acquire(timeout=10)
        with pytest.raises(OutcomeUnknown):
            client.send(ask(server, operation="refund", method="POST", url=url))
    first, second = caplog.messages
    assert first.startswith("shop fetch: GET 127.0.0.1/v1/payments/p-17 -> 200 in ")
    assert second.startswith(
        "shop refund: POST 127.0.0.1/v1/payments/p-17 -> OutcomeUnknown in "
    )


def test_a_path_that_holds_a_token_is_not_logged(caplog):
    caplog.set_level(logging.DEBUG, logger="django_multipay")
    with Server(one_after_the_other(answering(OK))) as server:
        url = f"{server.url}/tokens/canary-token/rebill"
        request = ask(server, operation="rebill", url=url, has_secret_path=True)
        HttpClient("shop").send(request)
    assert "canary-token" not in caplog.text
    assert "127.0.0.1/…" in caplog.text


# What a status means ------------------------------------------------------------------


def request_of(*, is_read: bool) -> HttpRequest:
    return HttpRequest(
        operation="ask", method="POST", url="https://a.example", is_read=is_read
    )


@pytest.mark.parametrize(
    ("status", "for_read", "for_write"),
    [
        (400, RequestRejected, RequestRejected),
        (401, CredentialsRejected, CredentialsRejected),
        (403, CredentialsRejected, CredentialsRejected),
        (404, RequestRejected, RequestRejected),
        (408, ProviderUnavailable, OutcomeUnknown),
        (409, RequestRejected, RequestRejected),
        (422, RequestRejected, RequestRejected),
        (425, ProviderUnavailable, ProviderUnavailable),
        (429, ProviderUnavailable, ProviderUnavailable),
        (500, ProviderUnavailable, OutcomeUnknown),
        (502, ProviderUnavailable, OutcomeUnknown),
        (503, ProviderUnavailable, OutcomeUnknown),
        (504, ProviderUnavailable, OutcomeUnknown),
        (200, UnexpectedAnswer, OutcomeUnknown),
        (302, UnexpectedAnswer, OutcomeUnknown),
        (700, UnexpectedAnswer, OutcomeUnknown),
    ],
)
def test_a_status_becomes_the_error_that_says_what_to_do(status, for_read, for_write):
    response = HttpResponse(status=status, headers={}, body=b"")
    for is_read, expected in ((True, for_read), (False, for_write)):
        error = error_for_status(request_of(is_read=is_read), response, "shop")
        assert type(error) is expected
        assert (error.provider, error.operation) == ("shop", "ask")
        assert error.http_status == status


def in_seconds(seconds: int) -> str:
    moment = datetime.datetime.now(UTC) + timedelta(seconds=seconds)
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("3601", 3600),
        ("9" * 5000, 3600),
        ("-1", None),
        ("1.5", None),
        ("\N{ARABIC-INDIC DIGIT SEVEN}", None),
        ("", None),
        ("soon", None),
        ("Thu, 99 Foo 2026 99:99:99 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_a_wish_to_wait_is_read_and_bounded(text, expected):
    response = HttpResponse(status=429, headers={"retry-after": text}, body=b"")
    error = error_for_status(request_of(is_read=True), response, "shop")
    assert error.retry_after == expected


def test_a_wish_to_wait_may_be_a_date():
    headers = {"retry-after": in_seconds(100)}
    response = HttpResponse(status=503, headers=headers, body=b"")
    error = error_for_status(request_of(is_read=True), response, "shop")
    assert error.retry_after is not None
    assert 90 <= error.retry_after <= 100


# JSON -------------------------------------------------------------------------------


def test_numbers_in_json_are_read_exactly():
    data = b'{"a": 19.99, "b": 26.30, "c": 7, "d": 1.5e3, "e": 0.1}'
    value = loads_strict(data)
    assert value == {
        "a": Decimal("19.99"),
        "b": Decimal("26.30"),
        "c": 7,
        "d": Decimal("1500"),
        "e": Decimal("0.1"),
    }
    assert str(value["b"]) == "26.30"
    assert type(value["c"]) is int


def test_json_may_be_as_deep_as_any_documented_message():
    assert loads_strict(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


BAD_JSON = {
    "empty": b"",
    "blank": b"  ",
    "HTML": b"<html>502 Bad Gateway</html>",
    "cut": b'{"a": 1',
    "trailing data": b'{"a": 1} {"a": 2}',
    "comment": b'{"a": 1 /* one */}',
    "single quotes": b"{'a': 1}",
    "duplicate key": b'{"status": "paid", "status": "failed"}',
    "duplicate key below": b'{"a": [{"b": 1, "b": 1}]}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "minus Infinity": b'{"a": -Infinity}',
    "large exponent": b'{"a": 1e400}',
    "small exponent": b'{"a": 1e-400}',
    "absurd exponent": b'{"a": 1e99999999999999999999999}',
    "zero with an exponent": b'{"a": 0e400}',
    "5,000 digits": b'{"a": %b}' % (b"9" * 5000),
    "5,000 decimals": b'{"a": 1.%b}' % (b"1" * 5000),
    "too deep": b'{"a": %b%b}' % (b"[" * MAX_DEPTH, b"]" * MAX_DEPTH),
    "100,000 deep arrays": b"[" * 100_000 + b"]" * 100_000,
    "100,000 deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "surrogate bytes": b'{"a": "\xed\xa0\x80"}',
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "control character": b'{"a": "\x00"}',
}


@pytest.mark.parametrize("data", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_bad_json_is_refused_in_no_time(data):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"JSON|codec|Exp|Extra|Invalid|Unexpected"):
        loads_strict(data)
    assert time.monotonic() - started < 1
    response = HttpResponse(status=200, headers={}, body=data)
    for is_read, expected in zip((True, False), UNREADABLE, strict=True):
        with pytest.raises(expected):
            read_json(request_of(is_read=is_read), response, "shop")


@pytest.mark.parametrize("data", [b"null", b"[]", b"7", b'"paid"', b"true", b"1.5"])
def test_an_answer_that_is_no_object_is_not_read(data):
    response = HttpResponse(status=200, headers={}, body=data)
    loads_strict(data)
    for is_read, expected in zip((True, False), UNREADABLE, strict=True):
        with pytest.raises(expected, match="not a JSON object"):
            read_json(request_of(is_read=is_read), response, "shop")


def test_an_answer_that_is_an_object_is_returned():
    response = HttpResponse(status=200, headers={}, body=b'{"amount": 26.30}')
    answer = read_json(request_of(is_read=False), response, "shop")
    assert answer == {"amount": Decimal("26.30")}
