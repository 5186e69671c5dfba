"""Everything a line can do, to each of six calls, and what we may conclude from it.

The faults are those of `tests.test_http`, where a read and a write meet them; here the
calls are a provider's own, and the conclusion is the state of the operation. Nothing
that was sent and not answered may become *refused*.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from django_multipay.enums import OperationState
from django_multipay.exceptions import (
    CredentialsRejected,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    UnexpectedAnswer,
)
from django_multipay.flows.guards import state_after
from django_multipay.http import MAX_RETRY_AFTER, Limits
from tests.proof.figures import IS_FULL, Figures
from tests.providers import test_eximbay as eximbay
from tests.test_http import (
    FAULTS_AFTER_SENDING,
    HANDSHAKES,
    UNREADABLE,
    UNSENT,
    Script,
    Server,
    always,
)

READS = ("start_payment", "fetch_payment")
"""The start of an Eximbay payment only makes a form: nothing happens at Eximbay."""
WRITES = ("confirm_payment", "capture_payment", "void_payment", "refund_payment")

SILENCE = always(b"")
USUAL = Limits()

REJECTED = (RequestRejected, RequestRejected)
NO_CREDENTIALS = (CredentialsRejected, CredentialsRejected)
OVERLOADED = (ProviderUnavailable, OutcomeUnknown)
AFTER: Mapping[type[ProviderError], OperationState] = {
    ProviderUnavailable: OperationState.REQUESTED,
    OutcomeUnknown: OperationState.UNKNOWN,
    RequestRejected: OperationState.REFUSED,
    CredentialsRejected: OperationState.REFUSED,
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What the line does, and the error of a read and of a write."""

    expected: tuple[type[ProviderError], type[ProviderError]]
    script: Script = SILENCE
    limits: Limits = USUAL
    is_tls: bool = False
    is_down: bool = False
    has_no_name: bool = False


def answered(status: int, expected: Any, body: bytes = b"{}", more: str = "") -> Fault:
    head = f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return Fault(expected=expected, script=always(head.encode() + body))


def said(body: bytes) -> Fault:
    """Return a success that cannot be read."""
    return answered(200, UNREADABLE, body, "Content-Type: application/json\r\n")


FAULTS: Mapping[str, Fault] = {
    "refused": Fault(expected=UNSENT, is_down=True),
    "no such host": Fault(expected=UNSENT, has_no_name=True),
    **{
        f"handshake: {name}": Fault(
            expected=UNSENT, script=script, limits=limits, is_tls=True
        )
        for name, (script, limits) in HANDSHAKES.items()
    },
    **{
        name: Fault(expected=expected, script=script, limits=limits)
        for name, (script, limits, expected) in FAULTS_AFTER_SENDING.items()
    },
    **{
        str(status): answered(status, UNREADABLE, more="Location: /elsewhere\r\n")
        for status in (301, 302, 303, 307, 308)
    },
    **{str(status): answered(status, REJECTED) for status in (400, 404, 410, 422)},
    **{str(status): answered(status, NO_CREDENTIALS) for status in (401, 403)},
    **{str(status): answered(status, UNSENT) for status in (425, 429)},
    "429 for ever": answered(429, UNSENT, more=f"Retry-After: {'9' * 400}\r\n"),
    "429 since long": answered(
        429, UNSENT, more="Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    ),
    **{
        str(status): answered(status, OVERLOADED)
        for status in (408, 500, 501, 502, 503, 504, 520, 599)
    },
    "HTML": said(b"<!doctype html><title>Maintenance</title>"),
    "nothing": said(b""),
    "a list": said(b'[{"rescode": "0000"}]'),
    "a key twice": said(b'{"rescode": "0000", "rescode": "9999"}'),
    "half of it": said(b'{"rescode": "00'),
    "no number": said(b'{"rescode": "0000", "amount": NaN}'),
    "UTF-16": said('{"rescode": "0000"}'.encode("utf-16")),
    "too deep": said(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "another shape": said(b'{"status": "paid"}'),
}


@contextmanager
def broken_line(fault: Fault, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The base URL of a provider whose line has ``fault``."""

    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with Server(fault.script) as server, patch.context() as context:
        if fault.has_no_name:
            context.setattr(socket, "getaddrinfo", unknown)
        url = server.url
        if not fault.is_down:
            yield url.replace("http:", "https:") if fault.is_tls else url
    if fault.is_down:
        yield url


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        (name, verb)
        for name, fault in FAULTS.items()
        for verb in (*READS, *WRITES)
        # Who waits for a time-out waits once for each push: after a write.
        if IS_FULL or fault.limits == USUAL or verb == "refund_payment"
    ],
)
def test_a_fault_of_the_line_is_told_for_what_it_is(
    figures: Figures, monkeypatch: pytest.MonkeyPatch, name: str, verb: str
) -> None:
    fault, examples = FAULTS[name], eximbay.TestContract()
    with broken_line(fault, monkeypatch) as url:
        provider = examples.build(base_url=url)
        provider.http.limits = fault.limits
        with pytest.raises(ProviderError) as caught:
            getattr(provider, verb)(examples.message(verb))
    error, expected = caught.value, fault.expected[verb in WRITES]
    figures.did("faults")
    figures.found("misread", [error] * (type(error) is not expected))
    assert 0 <= (error.retry_after or 0) <= MAX_RETRY_AFTER
    if verb in WRITES:
        assert state_after(error) is AFTER[expected]


def test_the_faults_are_at_least_thirty_and_each_answer_has_its_word() -> None:
    assert len(FAULTS) >= 30
    errors = {error for fault in FAULTS.values() for error in fault.expected}
    assert errors == {*AFTER, UnexpectedAnswer}
