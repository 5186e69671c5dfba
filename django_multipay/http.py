"""How we speak to a provider: one bounded, honest HTTP exchange at a time.

The only module that knows the HTTP library. It answers one question precisely: was
anything sent? A call that was never sent *did not happen*; a write whose answer is
lost *may have happened* and says so; only reads are ever repeated.

There is no session on purpose, only the pooled transport below it: without a session
nothing follows redirects, keeps cookies, reads ``.netrc`` or proxy variables, or can
switch the verification of certificates off.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import io
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django_multipay import __version__
from django_multipay.exceptions import (
    CredentialsRejected,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    UnexpectedAnswer,
)
from django_multipay.messages import Health, HttpRequest, HttpResponse
from django_multipay.signals import account_health_changed

if TYPE_CHECKING:
    # Imported on the first call: starting a site should not cost an HTTP library.
    from requests import PreparedRequest, Response
    from requests.adapters import HTTPAdapter

logger = logging.getLogger(__name__)

MAX_RETRY_AFTER = 3600
"""Seconds; a provider may not put us off for longer."""

MAX_NUMBER_LENGTH = 64
MAX_EXPONENT = 30
MAX_DEPTH = 64
"""Bounds of JSON: far above any documented message, far below any harm."""

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how large one call may be.

    ``connect`` holds for each address of a host. ``total`` covers everything, retry
    included, but the system's name look-up, which cannot be interrupted. A connection
    that was ``idle`` for longer is not used again: whatever sits between us and the
    provider may have forgotten it, and a write into it would be lost.
    """

    connect: timedelta = timedelta(seconds=3)
    read: timedelta = timedelta(seconds=10)
    total: timedelta = timedelta(seconds=15)
    idle: timedelta = timedelta(seconds=30)
    body_bytes: int = 1024 * 1024


DEFAULT_LIMITS = Limits()

Resolver = Callable[[str, int], Sequence[str]]
"""Host and port to the IP addresses that may be connected to, in their order.

`ValueError` where none may be.
"""


# One call ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Call:
    """What the sockets of the running call must know and report."""

    limits: Limits
    deadline: int
    has_secret_path: bool = False
    has_sent: bool = False
    resolve: Resolver | None = None

    @property
    def time_left(self) -> timedelta:
        return timedelta(microseconds=(self.deadline - time.monotonic_ns()) // 1000)

    def timeout(self, limit: timedelta) -> Any:
        """Return ``limit``, or what is left of the budget, in seconds."""
        left = min(limit, self.time_left)
        if left <= timedelta():
            raise TimeoutError("the call took longer than its total limit")
        return left.total_seconds()


_current_call: ContextVar[_Call] = ContextVar("multipay_http_call")


def _has_no_secret_path(record: logging.LogRecord) -> bool:
    call = _current_call.get(None)
    return call is None or not call.has_secret_path


class _BudgetedReader(io.RawIOBase):
    """The bytes of a socket; each wait is cut to what is left of the budget.

    A limit per read is not enough: a server that sends one byte now and then would
    keep a worker busy for hours, in the headers as well as in the body.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self.has_ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        call = _current_call.get()
        self._sock.settimeout(call.timeout(call.limits.read))
        count = self._raw.readinto(buffer)
        self.has_ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BudgetedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reader = _BudgetedReader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        # The standard library takes the end of the connection for the end of the
        # headers, and what was cut for an answer with an empty body.
        if self._reader.has_ended:
            raise http.client.IncompleteRead(b"")


@functools.cache
def _pool_classes() -> Mapping[str, Any]:
    """Return connection pools whose connections report to the running call."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.util.connection import create_connection

    # The library logs every path, for whoever turns its logger on.
    logging.getLogger("urllib3.connectionpool").addFilter(_has_no_secret_path)

    class Connection(HTTPConnection):
        response_class = _BudgetedResponse
        _last_used = 0

        @property
        def is_connected(self) -> bool:
            # Asked before a pooled connection is used again.
            idle = timedelta(
                microseconds=(time.monotonic_ns() - self._last_used) // 1000
            )
            return super().is_connected and idle < _current_call.get().limits.idle

        def _new_conn(self) -> socket.socket:
            call = _current_call.get()
            if call.resolve is None:
                return super()._new_conn()
            # Connects to what was looked at: a second look-up of the name could bring
            # another address. TLS still asks for the name.
            problem = OSError("the host has no address")
            for address in call.resolve(self._dns_host, self.port):
                try:
                    return create_connection(
                        (address, self.port),
                        call.timeout(call.limits.connect),
                        socket_options=self.socket_options,
                    )
                except OSError as error:
                    problem = error
            raise problem

        def send(self, data: Any) -> None:
            if self.sock is None:
                self.connect()
            # Set before the first byte leaves: from here on a failure is ambiguous.
            _current_call.get().has_sent = True
            self._last_used = time.monotonic_ns()
            super().send(data)

    class TLSConnection(Connection, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class TLSPool(HTTPSConnectionPool):
        ConnectionCls = TLSConnection

    return {"http": Pool, "https": TLSPool}


# Leaving a provider alone that does not answer ----------------------------------------

MOST_FAILURES = 10
"""Failures in a row after which an account is left alone for a while."""

PAUSES = tuple(timedelta(seconds=seconds) for seconds in (15, 30, 60, 120))
"""For how long, after each attempt that fails again; the last one repeats."""


class Breaker:
    """Stops the calls of one account after many failures; one at a time tries again.

    A call that is stopped is not sent, so it is `ProviderUnavailable`, whatever it is:
    what is unknown stays unknown. Every news is sent as `account_health_changed`.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.health = Health()
        self._lock = threading.Lock()
        self._pauses = 0
        self._until_ns = 0
        self._trying_until_ns = 0

    @property
    def is_paused(self) -> bool:
        """Whether a call would be stopped now."""
        return bool(self._pauses) and time.monotonic_ns() < max(
            self._until_ns, self._trying_until_ns
        )

    def enter(self, request: HttpRequest, limits: Limits) -> None:
        """Let a call pass, or raise `ProviderUnavailable`: nothing was sent."""
        with self._lock:
            if not self.is_paused:
                if self._pauses:
                    # The others wait for what this one finds out.
                    self._trying_until_ns = time.monotonic_ns() + _ns(limits.total)
                return
            left = max(self._until_ns, self._trying_until_ns) - time.monotonic_ns()
        raise ProviderUnavailable(
            f"left alone after {self.health.failures} failures in a row, nothing was "
            "sent",
            self.alias,
            request.operation,
            retry_after=max(1, -(-left // 10**9)),
        )

    def note(self, failure: str, *, is_refused: bool = False) -> None:
        """Take down how a call went: the class of its error, or "" for an answer."""
        now = datetime.now(UTC)
        with self._lock:
            before = self.health
            if not failure:
                self._pauses = self._until_ns = self._trying_until_ns = 0
                self.health = Health(
                    succeeded_at=now, failed_at=before.failed_at, failure=before.failure
                )
            else:
                self.health = dataclasses.replace(
                    before,
                    failures=before.failures + 1,
                    failure=failure,
                    is_refused=before.is_refused or is_refused,
                    failed_at=now,
                    paused_until=self._pause(before.failures + 1, now),
                )
            after = self.health
        is_news = (
            after.paused_until != before.paused_until
            or after.is_refused != before.is_refused
        )
        if is_news:
            logger.log(
                logging.ERROR if failure else logging.INFO,
                "%s: %s",
                self.alias,
                f"{after.failures} failures in a row, the last one {failure}"
                if failure
                else "answers again",
            )
            account_health_changed.send_robust(
                sender=Breaker, provider=self.alias, health=after
            )

    def _pause(self, failures: int, now: datetime) -> datetime | None:
        if failures < MOST_FAILURES:
            return None
        if time.monotonic_ns() < self._until_ns:
            # A call that was under way when the pause began.
            return self.health.paused_until
        pause = PAUSES[min(self._pauses, len(PAUSES) - 1)]
        self._pauses += 1
        self._until_ns = time.monotonic_ns() + _ns(pause)
        self._trying_until_ns = 0
        return now + pause


def _ns(period: timedelta) -> int:
    return period // timedelta(microseconds=1) * 1000


# The client -------------------------------------------------------------------------


class HttpClient:
    """The connections of one provider account; safe to share between threads.

    ``alias`` names the account in errors and logs. ``session_token`` is a log-in that
    a provider class may keep here: like the connections it is shared, may be lost at
    any time and is then made again. ``resolve`` decides which addresses of a host may
    be connected to; without it, all. A ``breaker`` stops calls after many failures.
    """

    def __init__(
        self,
        alias: str,
        limits: Limits = DEFAULT_LIMITS,
        resolve: Resolver | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.alias = alias
        self.limits = limits
        self.resolve = resolve
        self.breaker = breaker
        self.session_token = ""
        self._adapters: dict[int, HTTPAdapter] = {}

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send ``request`` and return the answer, whatever its 2xx, 4xx or 5xx status.

        `ProviderUnavailable`: nothing happened. `OutcomeUnknown`: a write may have
        happened. `UnexpectedAnswer`: a read was answered by a redirect or in an
        encoding we did not offer. `RequestRejected`: it cannot be written as HTTP.
        """
        prepared = self._prepare(request)
        if self.breaker is not None:
            self.breaker.enter(request, self.limits)
        started = time.monotonic_ns()
        result: object = "interrupted"
        try:
            response = self._send(request, prepared)
            result = response.status
            self._note(response.status)
        except ProviderError as error:
            result = type(error).__name__
            self._note(error.http_status, result)
            raise
        finally:
            parts = urlsplit(prepared.url or "")
            logger.info(
                "%s %s: %s %s%s -> %s in %d ms",
                self.alias,
                request.operation,
                prepared.method,
                parts.hostname,
                "/…" if request.has_secret_path else parts.path,
                result,
                (time.monotonic_ns() - started) // 1_000_000,
            )
        if response.status // 100 not in {2, 4, 5}:
            raise error_for_status(request, response, self.alias)
        return response

    def _note(self, status: int, failure: str = "") -> None:
        if self.breaker is None:
            return
        is_refused = status in {401, 403}
        if is_refused:
            failure = CredentialsRejected.__name__
        elif status // 100 == 5:
            failure = f"HTTP {status}"
        self.breaker.note(failure, is_refused=is_refused)

    def close(self) -> None:
        """Close this process's idle connections; the next call opens new ones."""
        if adapter := self._adapters.pop(os.getpid(), None):
            adapter.close()

    def _prepare(self, request: HttpRequest) -> PreparedRequest:
        from requests import Request

        try:
            is_json = request.json is not None
            prepared = Request(
                request.method,
                request.url,
                headers={
                    **({"Content-Type": "application/json"} if is_json else {}),
                    **request.headers,
                    "User-Agent": f"django-multipay/{__version__}",
                    # A compressed answer could unpack to any size.
                    "Accept-Encoding": "identity",
                },
                data=_dump_json(request.json)
                if is_json
                else request.form or request.body,
            ).prepare()
            "".join(prepared.headers.values()).encode("latin-1")
        except ValueError:
            problem = "the URL, a header or the body cannot be sent as HTTP"
        else:
            return prepared
        # Outside the handler, and without its cause: that one quotes the header.
        raise RequestRejected(problem, self.alias, request.operation)

    def _adapter(self) -> HTTPAdapter:
        # One pool per process: a forked child must not write into its parent's
        # connections. The parent's pool is kept, since closing it takes its locks,
        # which another thread may have held at the fork.
        adapter = self._adapters.get(os.getpid())
        if adapter is None:
            from requests.adapters import HTTPAdapter

            adapter = HTTPAdapter(pool_connections=4, pool_maxsize=32)
            adapter.poolmanager.pool_classes_by_scheme = _pool_classes()
            adapter = self._adapters.setdefault(os.getpid(), adapter)
        return adapter

    def _send(self, request: HttpRequest, prepared: PreparedRequest) -> HttpResponse:
        """Return the answer; repeat once what certainly changed nothing."""
        from urllib3.exceptions import HTTPError
        from urllib3.exceptions import TimeoutError as PoolTimeout

        adapter = self._adapter()
        total = self.limits.total // timedelta(microseconds=1) * 1000
        call = _Call(
            self.limits,
            deadline=time.monotonic_ns() + total,
            has_secret_path=request.has_secret_path,
            resolve=self.resolve,
        )
        has_retried = False
        while True:
            call.has_sent = False
            token = _current_call.set(call)
            try:
                return self._exchange(request, prepared, adapter, call)
            except (OSError, ValueError, http.client.HTTPException, HTTPError) as error:
                reason = _bare_reason(error)
            finally:
                _current_call.reset(token)
            is_slow = isinstance(reason, (TimeoutError, PoolTimeout))
            is_safe = not call.has_sent or (request.is_read and not is_slow)
            if has_retried or not is_safe:
                break
            has_retried = True
        if call.has_sent:
            raise _lost(request, self.alias, "the answer was lost") from reason
        raise ProviderUnavailable(
            "could not connect, nothing was sent", self.alias, request.operation
        ) from reason

    def _exchange(
        self,
        request: HttpRequest,
        prepared: PreparedRequest,
        adapter: HTTPAdapter,
        call: _Call,
    ) -> HttpResponse:
        timeout = (call.timeout(self.limits.connect), call.timeout(self.limits.read))
        answer = adapter.send(prepared, stream=True, timeout=timeout, verify=True)
        status = answer.status_code
        try:
            encoding = answer.headers.get("Content-Encoding", "identity")
            if encoding.strip().lower() != "identity":
                message = "the answer is compressed, which we did not offer"
                raise _unreadable(request, self.alias, message, status)
            body = self._read_body(answer)
            if body is None:
                message = f"the answer is larger than {self.limits.body_bytes} bytes"
                raise _lost(request, self.alias, message, status)
        finally:
            # Gives a connection back that was read to its end, closes any other.
            answer.close()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return HttpResponse(status=status, headers=headers, body=body)

    def _read_body(self, answer: Response) -> bytes | None:
        """Return the body, or None when it is too large."""
        body = bytearray()
        while chunk := answer.raw.read(_CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > self.limits.body_bytes:
                return None
        return bytes(body)


def _bare_reason(error: BaseException) -> BaseException:
    """Return what really happened, without the library's wrapping and frames.

    The wrappers quote the URL with its query, and the frames hold headers and body;
    both would end up in error reports.
    """
    while True:
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = error.args[0] if error.args else None
        if not isinstance(inner, BaseException):
            break
        error = inner
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


# What an answer means ---------------------------------------------------------------


def error_for_status(
    request: HttpRequest, response: HttpResponse, alias: str
) -> ProviderError:
    """Return the error that an answer other than the documented success stands for.

    Call it after the provider's own documented refusals were read from the body.
    """
    status = response.status
    message = "the provider answered with an error"
    kind: type[ProviderError] = RequestRejected
    if status in {401, 403}:
        kind = CredentialsRejected
        message = "the provider does not accept our credentials; check the account"
    elif status in {425, 429}:
        kind = ProviderUnavailable
        message = "the provider asks us to come back later"
    elif status == 408 or 500 <= status < 600:
        # A time-out that a proxy reports is no promise that nothing was passed on.
        kind = ProviderUnavailable if request.is_read else OutcomeUnknown
    elif not 400 <= status < 500:
        return _unreadable(request, alias, "this status is not expected", status)
    return kind(
        message,
        alias,
        request.operation,
        http_status=status,
        retry_after=_retry_after(response.headers),
    )


def _lost(
    request: HttpRequest, alias: str, message: str, status: int = 0
) -> ProviderError:
    kind = ProviderUnavailable if request.is_read else OutcomeUnknown
    return kind(message, alias, request.operation, http_status=status)


def _unreadable(
    request: HttpRequest, alias: str, message: str, status: int
) -> ProviderError:
    kind = UnexpectedAnswer if request.is_read else OutcomeUnknown
    return kind(message, alias, request.operation, http_status=status)


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Return the wait in seconds, 0 to an hour, or None if none is named."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        return min(int(text[:9]), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime.now(UTC)) // timedelta(seconds=1)
    return max(0, min(seconds, MAX_RETRY_AFTER))


# JSON -------------------------------------------------------------------------------


def read_json(
    request: HttpRequest, response: HttpResponse, alias: str
) -> dict[str, Any]:
    """Return the JSON object in ``response``; numbers with a point are Decimal.

    Anything else is `UnexpectedAnswer` for a read; after a write it is
    `OutcomeUnknown`, for the provider has acted before it answered.
    """
    try:
        answer = loads_strict(response.body)
    except ValueError as error:
        message = "the answer is not valid JSON"
        # Without the frames of the reader: they hold the body.
        cause = error.with_traceback(None)
        raise _unreadable(request, alias, message, response.status) from cause
    if not isinstance(answer, dict):
        message = "the answer is not a JSON object"
        raise _unreadable(request, alias, message, response.status)
    return answer


def loads_strict(data: bytes) -> Any:
    """Return the JSON value in ``data``, for answers and for webhooks alike.

    Numbers with a point or an exponent are Decimal. ValueError for whatever two
    readers could take differently, or that is built to do harm: not UTF-8, a byte
    order mark, duplicate keys, NaN, Infinity, huge numbers, deep nesting.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_float=_read_decimal,
            parse_int=_read_int,
            parse_constant=_refuse_constant,
            object_pairs_hook=_read_object,
        )
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for parent in level
            if isinstance(parent, (dict, list))
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
    if level:
        raise ValueError("JSON is nested too deeply")
    return value


def _read_decimal(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError("JSON holds a number that is too long")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("JSON holds a number that is too large") from None
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError("JSON holds a number that is too large or too small")
    return number


def _read_int(text: str) -> int:
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError("JSON holds a number that is too long")
    return int(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"JSON holds {text}")


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("JSON holds a key twice")
    return result


def _dump_json(value: Any) -> str:
    """Return ``value`` as JSON, a Decimal as a number with exactly its digits."""
    if isinstance(value, Mapping):
        items = (f"{json.dumps(key)}:{_dump_json(item)}" for key, item in value.items())
        return f"{{{','.join(items)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_dump_json, value))}]"
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("JSON cannot say this number")
        return f"{value:f}"
    return json.dumps(value, allow_nan=False)
