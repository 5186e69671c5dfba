"""A running sandbox, a shop that listens, and a merchant who plays by the document.

Everything goes over real sockets. Nothing here needs Django or a database.
"""

import base64
import html
import http.server
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import httpx
import pytest

from django_multipay.sandbox.server import SandboxServer

MID = "1849705C64"
API_KEY = "test_1849705C642C217E0B2D"
ACKNOWLEDGMENT = b"rescode=0000&resmsg=Success"


@dataclass
class Incoming:
    path: str
    body: str
    content_type: str

    @property
    def fields(self) -> dict[str, str]:
        return dict(parse_qsl(self.body, keep_blank_values=True))


@dataclass
class Shop:
    """Answers every POST with `answer` and keeps what it was sent."""

    origin: str = ""
    answer: bytes = ACKNOWLEDGMENT
    answers: list[bytes] = field(default_factory=list)
    received: list[Incoming] = field(default_factory=list)

    def next_answer(self) -> bytes:
        return self.answers.pop(0) if self.answers else self.answer


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()

    class Handler(http.server.BaseHTTPRequestHandler):
        # Head and body leave together, or the second waits for an acknowledgment.
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            shop.received.append(
                Incoming(self.path, body.decode(), self.headers.get("Content-Type", ""))
            )
            answer = shop.next_answer()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        shop.origin = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        yield shop
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def sandbox_origin() -> Iterator[str]:
    server = SandboxServer()
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield server.origin
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="session")
def sandbox_client(sandbox_origin: str) -> Iterator[httpx.Client]:
    """One client for all tests: making one loads certificates each time."""
    with httpx.Client(base_url=sandbox_origin, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
def sandbox(sandbox_client: httpx.Client) -> httpx.Client:
    """The sandbox, fresh: books, faults, settings and clock are reset."""
    sandbox_client.follow_redirects = True
    sandbox_client.post("/_control/reset").raise_for_status()
    return sandbox_client


class Merchant:
    """Speaks to the sandbox as a shop's server, its SDK and its buyer would."""

    def __init__(self, sandbox: httpx.Client, shop: Shop) -> None:
        self.sandbox = sandbox
        self.shop = shop
        self.api_key = API_KEY
        self._orders = 0

    def order(self, **objects) -> dict:
        """A good `ready` body; each object given is merged into the default."""
        self._orders += 1
        body: dict = {
            "payment": {
                "transaction_type": "PAYMENT",
                "order_id": f"ORDER-{self._orders}",
                "currency": "USD",
                "amount": "26.30",
                "lang": "EN",
            },
            "merchant": {"mid": MID},
            "buyer": {"name": "Hong Gil Dong", "email": "buyer@example.com"},
            "url": {
                "return_url": f"{self.shop.origin}/return/",
                "status_url": f"{self.shop.origin}/status/",
            },
            "settings": {"display_type": "R"},
        }
        for name, value in objects.items():
            if isinstance(value, dict):
                body[name] = {**body.get(name, {}), **value}
            else:
                body[name] = value
        return body

    def call(self, path: str, body: object, **headers: str) -> httpx.Response:
        credentials = base64.b64encode(f"{self.api_key}:".encode()).decode()
        return self.sandbox.post(
            path, json=body, headers={"Authorization": f"Basic {credentials}"} | headers
        )

    def ready(self, body: dict) -> httpx.Response:
        return self.call("/v1/payments/ready", body)

    def verify(self, data: str) -> dict:
        return self.call("/v1/payments/verify", {"data": data}).json()

    def retrieve(self, order_id: str, **changes: str) -> dict:
        body = {
            "mid": MID,
            "key_field": changes.pop("key_field", "order_id"),
            "payment": {
                "order_id": order_id,
                "currency": "USD",
                "amount": "26.30",
                "lang": "EN",
                **changes,
            },
        }
        return self.call("/v1/payments/retrieve", body).json()

    def open_page(self, body: dict) -> httpx.Response:
        """From `ready` to the hosted page, as the browser SDK does it."""
        fgkey = self.ready(body).raise_for_status().json()["fgkey"]
        answer = self.sandbox.post("/v1/payments", json={**body, "fgkey": fgkey})
        form = answer.raise_for_status().json()
        url = form.pop("url")
        form.pop("display_type")
        return self.sandbox.post(url, data={**form, "param3": "OPENAPI"})

    def choose(self, page: httpx.Response, outcome: str, **more: str) -> httpx.Response:
        return self.sandbox.post(str(page.url), data={"outcome": outcome, **more})

    def pay(self, outcome: str = "approve", body: dict | None = None, **more: str):
        """A whole payment; the answer is the last page the buyer sees."""
        return self.choose(self.open_page(body or self.order()), outcome, **more)

    def settings(self, **changes) -> None:
        self.sandbox.post(
            "/_control/settings", json={"eximbay": changes}
        ).raise_for_status()

    def fault(self, operation: str, kind: str, **more) -> None:
        fault = {"provider": "eximbay", "operation": operation, "fault": kind}
        self.sandbox.post("/_control/faults", json=fault | more).raise_for_status()

    def flush(self) -> dict:
        return self.sandbox.post("/_control/callbacks/flush").json()

    def payment(self, order_id: str) -> dict:
        return self.sandbox.get(f"/_control/eximbay/payments/{order_id}").json()

    def statuses(self) -> list[Incoming]:
        self.flush()
        return [item for item in self.shop.received if item.path == "/status/"]


@pytest.fixture
def merchant(sandbox: httpx.Client, shop: Shop) -> Merchant:
    return Merchant(sandbox, shop)


@pytest.fixture
def return_form():
    """The fields of the form that takes the buyer back, or None without one."""

    def read(page: httpx.Response) -> dict[str, str] | None:
        if 'id="returnForm"' not in page.text:
            return None
        pairs = re.findall(
            r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text
        )
        return {name: html.unescape(value) for name, value in pairs}

    return read
