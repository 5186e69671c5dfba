"""The clients of the benchmark of throughput: requests in, times out, as JSON."""

from __future__ import annotations

import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def main() -> None:
    """Send every request of the standard input, from so many clients at once.

    All times that it prints are in seconds; a line that breaks is an ``OSError``.
    """
    said = json.load(sys.stdin)
    requests = [text.encode() for text in said["requests"]]

    def send(request: bytes) -> tuple[int, float]:
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", said["port"])) as line:
            line.sendall(request)
            answer = b""
            while piece := line.recv(65536):
                answer += piece
        return int(answer.split(b" ", 2)[1]), time.perf_counter() - began

    with ThreadPoolExecutor(said["clients"]) as pool:
        began = time.perf_counter()
        answers = list(pool.map(send, requests))
        seconds = time.perf_counter() - began
    statuses, waited = zip(*answers, strict=True)
    json.dump({"seconds": seconds, "statuses": statuses, "waited": waited}, sys.stdout)


if __name__ == "__main__":
    main()
