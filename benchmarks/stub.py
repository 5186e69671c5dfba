"""A payment provider with nothing in it: what remains is the cost of the shop's side.

    python benchmarks/stub.py [--delay MILLISECONDS] [--status paid]

Prints its port, then answers ``POST /payments``, ``POST /refunds`` and
``GET /payments/REFERENCE`` after the delay; ``GET /connections`` says how many
connections were opened. In a process of its own, so that it shares no lock with
what is measured. ``GET /v1/…`` speaks as much of Stripe's API as dj-stripe asks for.
"""

from __future__ import annotations

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ACCOUNT = {"id": "acct_benchmark", "object": "account", "type": "standard"}


def payment_intent(key: str) -> dict[str, object]:
    """Return a payment as Stripe describes one that was paid."""
    return {
        "id": key,
        "object": "payment_intent",
        "amount": 2630,
        "amount_capturable": 0,
        "amount_received": 2630,
        "capture_method": "automatic",
        "client_secret": f"{key}_secret_benchmark",
        "confirmation_method": "automatic",
        "created": 1795000000,
        "currency": "usd",
        "customer": None,
        "livemode": False,
        "metadata": {},
        "payment_method": None,
        "payment_method_types": ["card"],
        "status": "succeeded",
    }


class Server(ThreadingHTTPServer):
    """Counts the connections it accepts."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, delay: float, status: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.delay = delay
        self.status = status
        self.connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count, and go on."""
        self.connections += 1
        super().process_request(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers as any provider would that says yes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        """Open a payment, or give money back."""
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.server.delay)
        reference = said["reference"]
        self.answer({"id": f"P-{reference}", "url": f"https://pay.example/{reference}"})

    def do_GET(self) -> None:
        """Say how a payment stands, or how busy the server was."""
        if self.path == "/connections":
            self.answer({"connections": self.server.connections})
            return
        time.sleep(self.server.delay)
        reference = self.path.partition("?")[0].rpartition("/")[2]
        if self.path.startswith("/v1/payment_intents/"):
            self.answer(payment_intent(reference))
        elif self.path.startswith("/v1/account"):
            self.answer(ACCOUNT)
        else:
            self.answer({"id": f"P-{reference}", "status": self.server.status})

    def answer(self, data: object) -> None:
        """Send ``data`` as JSON in one piece."""
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=int, default=0, help="milliseconds")
    parser.add_argument("--status", default="paid", help="how every payment stands")
    options = parser.parse_args()
    server = Server(options.delay / 1000, options.status)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
