"""The web server around the app: one socket, one ready line, connections it can cut."""

import asyncio
import socket
from collections.abc import Callable, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from django_multipay.sandbox.app import create_app
from django_multipay.sandbox.faults import TRANSPORT_KEY

# How long a stop waits for answers under way; a latency fault must not hold it up.
GRACE_SECONDS = 1


class CuttableProtocol(H11Protocol):
    """Hands each request the connection it came in on, so that a fault can cut it.

    ASGI has no message for "close without an answer". h11 also keeps header names
    with underscores, which one provider authenticates with.
    """

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        app = self.app

        async def app_with_transport(scope, receive, send):  # type: ignore[no-untyped-def]
            scope["extensions"] = {
                **(scope.get("extensions") or {}),
                TRANSPORT_KEY: transport,
            }
            await app(scope, receive, send)

        self.app = app_with_transport


class SandboxServer(uvicorn.Server):
    """Serves one sandbox world on one socket; `origin` is known before it runs."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        others: Sequence[str] = (),
        on_ready: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(others),
                http=CuttableProtocol,
                ws="none",
                lifespan="on",
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        # The protocol is named because asyncio looks at it: without TCP_NODELAY
        # every answer would wait 40 ms for an acknowledgment.
        self._socket = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        self._on_ready = on_ready
        self.origin = f"http://{host}:{self._socket.getsockname()[1]}"

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self._socket])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready(self.origin)
