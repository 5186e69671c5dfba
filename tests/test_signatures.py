"""Whether a message is believed: equal, signed, fresh."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_multipay.exceptions import SignatureMismatch, WebhookExpired
from django_multipay.signatures import (
    check_timestamp,
    constant_time_equal,
    verify_hmac_sha256,
)

PAYLOAD = b'1700000000.{"order": "1001"}'
OLD, NEW = "whsec_old", "whsec_new"


def sign(payload: bytes, secret: str) -> str:
    return hmac.digest(secret.encode(), payload, "sha256").hex()


# Equality ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [("abc", "abc"), (b"abc", "abc"), ("é", "é"), ("차", b"\xec\xb0\xa8")],
    ids=ascii,
)
def test_equal_values_are_equal_as_text_or_bytes(given_value, expected):
    assert constant_time_equal(given_value, expected)
    assert constant_time_equal(expected, given_value)


@pytest.mark.parametrize(
    "value",
    [None, 0, 7, True, [], ["abc"], {}, {"a": 1}, "", " ", b"", "é", "😀", "\ud800"],
    ids=ascii,
)
def test_whatever_else_a_sender_puts_there_is_just_not_equal(value):
    assert constant_time_equal(value, "abc") is False


@pytest.mark.parametrize("blank", ["", " ", "\t\n", b"", b" "], ids=ascii)
def test_blank_is_not_equal_to_blank(blank):
    assert not constant_time_equal(blank, blank)


def test_every_prefix_and_extension_is_refused():
    for length in range(64):
        assert not constant_time_equal(("a" * 64)[:length], "a" * 64)
    assert not constant_time_equal("a" * 65, "a" * 64)
    assert not constant_time_equal("a" * 128, "a" * 64)


@settings(deadline=None)
@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
@example("\x85", "\x85")
def test_no_text_raises(one, other):
    assert constant_time_equal(one, other) is (one == other and bool(one.strip()))


# HMAC -------------------------------------------------------------------------------


def test_the_published_test_vector_of_hmac_sha256_is_accepted():
    # RFC 4231, test case 2.
    digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    verify_hmac_sha256(b"what do ya want for nothing?", digest, ["Jefe"])


def test_each_of_two_rotated_secrets_is_accepted():
    for secret in (OLD, NEW):
        verify_hmac_sha256(PAYLOAD, sign(PAYLOAD, secret), [NEW, OLD])


def test_a_retired_or_foreign_secret_is_refused():
    with pytest.raises(SignatureMismatch):
        verify_hmac_sha256(PAYLOAD, sign(PAYLOAD, OLD), [NEW])


@pytest.mark.parametrize("secrets", [[], [""], [" "]], ids=ascii)
def test_without_a_secret_nothing_is_accepted(secrets):
    for secret in ("", " "):
        with pytest.raises(SignatureMismatch):
            verify_hmac_sha256(PAYLOAD, sign(PAYLOAD, secret), secrets)


@pytest.mark.parametrize(
    "payload",
    [
        PAYLOAD + b" ",
        b"\xef\xbb\xbf" + PAYLOAD,
        PAYLOAD.replace(b": ", b":"),
        PAYLOAD.decode().encode("utf-16"),
        PAYLOAD.replace(b"1001", b"1002"),
        b"",
    ],
)
def test_a_changed_body_is_refused(payload):
    with pytest.raises(SignatureMismatch):
        verify_hmac_sha256(payload, sign(PAYLOAD, NEW), [NEW])


GOOD = sign(PAYLOAD, NEW)

BAD_SIGNATURES = {
    "one more": GOOD + "0",
    "line break": GOOD + "\n",
    "blank before": f" {GOOD}",
    "twice": GOOD * 2,
    "list": f"{GOOD},{GOOD}",
    "upper case": GOOD.upper(),
    "prefix": f"sha256={GOOD}",
    "not ASCII": "é" * 64,
    "foreign digits": "\N{ARABIC-INDIC DIGIT THREE}" * 64,
    "surrogates": "\ud800" * 64,
    "null": "null",
    "hash without key": hashlib.sha256(PAYLOAD).hexdigest(),
}


@pytest.mark.parametrize(
    "signature", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES.keys()
)
def test_a_signature_that_is_not_exactly_right_is_refused(signature):
    with pytest.raises(SignatureMismatch) as caught:
        verify_hmac_sha256(PAYLOAD, signature, [NEW])
    assert NEW not in str(caught.value)


@pytest.mark.parametrize("length", range(64))
def test_a_signature_that_is_cut_is_refused(length):
    with pytest.raises(SignatureMismatch):
        verify_hmac_sha256(PAYLOAD, GOOD[:length], [NEW])


def test_ten_thousand_signatures_are_refused_before_hashing(monkeypatch):
    monkeypatch.setattr(hmac, "new", pytest.fail)
    with pytest.raises(SignatureMismatch):
        verify_hmac_sha256(PAYLOAD, ",".join([GOOD] * 10_000), [NEW])


def test_every_candidate_is_compared_in_constant_time(monkeypatch):
    compared = []

    def spy(one, other):
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", spy)
    with pytest.raises(SignatureMismatch):
        verify_hmac_sha256(PAYLOAD, GOOD, [NEW, OLD])
    assert len(compared) == 2


# Freshness --------------------------------------------------------------------------

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOLERANCE = timedelta(seconds=300)


def stamp(moment: datetime) -> str:
    return str(int(moment.timestamp()))


@pytest.mark.parametrize("seconds", [-300, -1, 0, 1, 300])
def test_a_timestamp_within_the_tolerance_is_accepted(seconds):
    text = stamp(NOW + timedelta(seconds=seconds))
    check_timestamp(text, NOW, TOLERANCE)
    check_timestamp(f"{text}000", NOW, TOLERANCE)


@pytest.mark.parametrize(
    "text",
    [
        stamp(NOW - timedelta(seconds=301)),
        stamp(NOW + timedelta(seconds=301)),
        f"{stamp(NOW - timedelta(seconds=301))}999",
        f"{stamp(NOW + timedelta(seconds=300))}001",
        "0000000000",
        "9999999999",
        "9999999999999",
    ],
)
def test_a_timestamp_too_old_or_too_new_is_refused(text):
    with pytest.raises(WebhookExpired):
        check_timestamp(text, NOW, TOLERANCE)


SECONDS = stamp(NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        f"+{SECONDS}",
        f"-{SECONDS}",
        f" {SECONDS}",
        f"{SECONDS} ",
        f"{SECONDS}\n",
        f"{SECONDS}.0",
        f"{SECONDS[0]}_{SECONDS[1:]}",
        "1.7e9",
        "0x6560000000",
        SECONDS[:9],
        f"{SECONDS}0",
        f"{SECONDS}000000",
        "9" * 5000,
        SECONDS.translate({ord("0") + n: 0x660 + n for n in range(10)}),
        SECONDS.translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
        NOW.isoformat(),
    ],
)
def test_a_timestamp_that_is_not_plain_digits_is_refused(text):
    with pytest.raises(SignatureMismatch):
        check_timestamp(text, NOW, TOLERANCE)
