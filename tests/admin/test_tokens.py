"""Saved methods in the admin: seen without secrets, deleted by whom it is given to."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from django_multipay.enums import TokenStatus
from django_multipay.exceptions import ProviderUnavailable
from django_multipay.models import Token
from django_multipay.registry import registry
from tests.flows.scripted import account_settings
from tests.flows.tokens import KeepingProvider, SavingProvider, saved

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def saving(settings: Settings, accounts: None) -> Any:
    """An account that saves methods; the provider behind it."""
    settings.MULTIPAY = account_settings(saving=SavingProvider, keeping=KeepingProvider)
    return registry["saving"]


@pytest.fixture
def token() -> Token:
    return saved("tok-canary")


def page_of(token: Token) -> str:
    return reverse("admin:multipay_token_change", args=[token.pk])


def end_of(token: Token) -> str:
    return reverse("admin:multipay_token_end", args=[token.pk])


def words(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def test_staff_delete_a_method_for_good(ann, token, saving, logged):
    page = ann.client.get(page_of(token)).content.decode()
    assert end_of(token) in page
    response = ann.client.post(end_of(token), follow=True)
    assert "was deleted" in words(response)
    token.refresh_from_db()
    assert (token.status, token.provider_token) == (TokenStatus.DELETED, None)
    assert saving.told("delete") == ["tok-canary"]
    assert logged(token) == ["ann: Deleted at the provider"]
    assert token.operations.get(kind="delete_token").actor == "ann"
    assert end_of(token) not in response.content.decode()


def test_a_provider_that_is_away_is_said_and_asked_again(ann, token, saving):
    saving.will("delete", ProviderUnavailable("down", "saving", "delete"))
    response = ann.client.post(end_of(token), follow=True)
    assert "down" in words(response)
    token.refresh_from_db()
    assert token.status == TokenStatus.DELETED
    # As long as it is kept there, the button is.
    assert end_of(token) in response.content.decode()
    ann.client.post(end_of(token))
    assert saving.told("delete") == ["tok-canary"] * 2


@pytest.mark.parametrize(
    "permissions", [(), ("view_token",), ("end_token",), ("view_payment", "end_token")]
)
def test_only_who_may_see_and_delete_does(desk, token, permissions):
    person = desk("person", *permissions)
    assert person.client.post(end_of(token)).status_code == 403
    assert end_of(token) not in person.client.get(page_of(token)).content.decode()
    token.refresh_from_db()
    assert token.status == TokenStatus.ACTIVE


def test_who_may_does(desk, token):
    person = desk("person", "view_token", "end_token")
    assert person.client.post(end_of(token)).status_code == 302
    token.refresh_from_db()
    assert token.status == TokenStatus.DELETED


def test_looking_deletes_nothing_and_a_forged_form_neither(ann, token):
    assert ann.client.get(end_of(token)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="ann"))
    assert strict.post(end_of(token)).status_code == 403
    token.refresh_from_db()
    assert token.status == TokenStatus.ACTIVE


def test_a_method_that_is_not_there_is_not_found(ann, token):
    assert ann.client.post(end_of(Token(pk=token.pk + 1))).status_code == 404


def test_a_method_that_no_key_opens_can_be_seen_and_is_charged_no_more(
    ann, token, settings
):
    settings.MULTIPAY |= {"ENCRYPTION_KEYS": ["another key of the shop"]}
    assert ann.client.get(page_of(token)).status_code == 200
    response = ann.client.post(end_of(token), follow=True)
    assert "no key" in words(response)
    row = Token.objects.defer("provider_token", "identity").get(pk=token.pk)
    assert row.status == TokenStatus.DELETED
