"""The tree of errors: drawn, pickled and free of secrets."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation

from django_multipay import exceptions
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidOperation,
    MultipayError,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailable,
    WebhookError,
)


def descendants(kind: type[MultipayError]) -> list[type[MultipayError]]:
    return [
        item for child in kind.__subclasses__() for item in (child, *descendants(child))
    ]


CLASSES = [MultipayError, *descendants(MultipayError)]


def drawn_tree() -> list[tuple[int, str]]:
    """Return depth and name of each line of the tree in the module's docstring."""
    lines = re.findall(
        r"^([│├└─ ]*)([A-Z]\w+Error\b|[A-Z][a-z]+[A-Z]\w+)",
        exceptions.__doc__ or "",
        re.MULTILINE,
    )
    return [(len(indent) // 4, name) for indent, name in lines]


def real_tree(kind: type[MultipayError], depth: int = 0) -> list[tuple[int, str]]:
    return [
        (depth, kind.__name__),
        *(
            line
            for child in kind.__subclasses__()
            for line in real_tree(child, depth + 1)
        ),
    ]


def test_the_drawn_tree_is_the_real_one():
    assert drawn_tree() == real_tree(MultipayError)


def test_every_error_is_in_the_one_module():
    assert {kind.__module__ for kind in CLASSES} == {exceptions.__name__}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_what_it_means(kind):
    assert "__doc__" in vars(kind)
    assert kind.__doc__


def example(kind: type[MultipayError]) -> MultipayError:
    if issubclass(kind, ProviderError):
        return kind("was lost", "cards", "capture", "E1", 502, 30)
    if issubclass(kind, InvalidOperation):
        return kind("is too much", "amount")
    return kind("is wrong")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_a_task_queue(kind, protocol):
    error = example(kind)
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_django_answers_a_refused_webhook_with_400_and_stops_on_bad_settings():
    assert issubclass(WebhookError, SuspiciousOperation)
    assert issubclass(ProviderConfigurationError, ImproperlyConfigured)


def test_a_provider_error_says_who_what_and_which():
    error = OutcomeUnknown("the answer was lost", "cards", "capture", "E1", 502)
    assert str(error) == "cards capture: the answer was lost (code E1, HTTP 502)"
    assert str(ProviderUnavailable("could not connect")) == "could not connect"
    assert str(ProviderUnavailable("no", "cards", http_status=503)) == (
        "cards: no (HTTP 503)"
    )


def test_a_provider_error_carries_its_facts():
    error = ProviderUnavailable("wait", "cards", "capture", retry_after=30)
    assert (error.message, error.provider, error.operation) == (
        "wait",
        "cards",
        "capture",
    )
    assert (error.code, error.http_status, error.retry_after) == ("", 0, 30)


def test_an_invalid_operation_names_the_argument():
    error = InvalidAmount("is too much", "amount")
    assert (str(error), error.field) == ("is too much", "amount")


def test_the_text_of_an_error_leaves_out_its_cause():
    try:
        try:
            raise OSError("https://api.example.com/?key=canary")
        except OSError as cause:
            raise OutcomeUnknown("the answer was lost", "cards") from cause
    except OutcomeUnknown as error:
        shown = f"{error} {error!r}"
    assert "canary" not in shown
