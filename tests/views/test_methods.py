"""Saved methods, seen and deleted by whom they belong to and by nobody else."""

from __future__ import annotations

import uuid
from datetime import date, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from django_multipay.enums import PlanManager, PlanStatus, TokenStatus
from django_multipay.exceptions import InvalidOperation, ProviderUnavailable
from django_multipay.flows.customers import customer_of
from django_multipay.models import RecurringPlan, Token
from django_multipay.registry import registry
from tests.flows.scripted import account_settings
from tests.flows.tokens import PRICE, SavingProvider, saved
from tests.views.pages import Page

pytestmark = pytest.mark.django_db

LIST = "/payments/methods/"


@pytest.fixture(autouse=True)
def accounts(settings: Settings) -> None:
    settings.MULTIPAY = account_settings(saving=SavingProvider)


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def token(user: User) -> Token:
    return saved("tok-canary", customer_id=str(user.pk))


@pytest.fixture
def browser(user: User) -> Client:
    """The customer's browser."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


def delete_url(token: Token) -> str:
    return reverse("multipay:method_delete", args=[token.uuid])


def delete(client: Client, token: Token) -> Any:
    page = client.get(LIST)
    values = {"csrfmiddlewaretoken": page.context["csrf_token"]}
    return client.post(delete_url(token), values)


def test_customers_see_what_they_saved_and_nothing_that_could_be_charged(
    browser, token
):
    saved("tok-other", customer_id="another")
    response = browser.get(LIST)
    page = Page(response)
    assert response.status_code == 200
    assert "Visa •••• 4242" in page.text
    assert "expires 12/2040" in page.text
    forms = [form["action"] for form in page.all("form")]
    assert forms == [delete_url(token)]
    assert "canary" not in page.markup
    assert page.inline_code() == []
    assert response["Cache-Control"].split(", ").count("no-store") == 1
    assert response["X-Frame-Options"] == "DENY"


def test_nothing_saved_is_said(browser):
    assert "Nothing is saved" in Page(browser.get(LIST)).text


def test_deleting_a_method_deletes_it_at_the_provider(browser, token):
    response = delete(browser, token)
    assert (response.status_code, response["Location"]) == (303, f"{LIST}?deleted")
    token.refresh_from_db()
    assert (token.status, token.provider_token) == (TokenStatus.DELETED, None)
    provider: Any = registry["saving"]
    assert provider.told("delete") == ["tok-canary"]
    page = Page(browser.get(response["Location"]))
    assert "will not be charged any more" in page.text
    assert "Nothing is saved" in page.text
    # The second click of a hasty finger.
    assert delete(browser, token).status_code == 303
    assert len(provider.told("delete")) == 1


def test_a_provider_that_is_away_keeps_nobody_from_deleting(browser, token):
    provider: Any = registry["saving"]
    provider.will("delete", ProviderUnavailable("down", "saving", "delete"))
    assert delete(browser, token).status_code == 303
    token.refresh_from_db()
    assert token.status == TokenStatus.DELETED


def test_what_belongs_to_another_is_not_there(browser, token):
    foreign = saved("tok-other", customer_id="another")
    unknown = Token(uuid=uuid.uuid4())
    nobodys = Token.objects.create(
        provider="saving", customer_id="", provider_token="t", token_digest="d"
    )
    for other in (foreign, unknown, nobodys):
        assert delete(browser, other).status_code == 404
    foreign.refresh_from_db()
    assert foreign.status == TokenStatus.ACTIVE


def test_who_is_not_logged_in_is_asked_to(token):
    for response in (Client().get(LIST), Client().post(delete_url(token))):
        assert response.status_code == 302
        assert response["Location"] == f"/accounts/login/?next={LIST}"
    token.refresh_from_db()
    assert token.status == TokenStatus.ACTIVE


def test_only_a_post_of_our_own_form_deletes(browser, token):
    assert browser.get(delete_url(token)).status_code == 405
    assert browser.post(delete_url(token)).status_code == 403
    token.refresh_from_db()
    assert token.status == TokenStatus.ACTIVE


def test_a_dead_and_an_expired_method_are_called_so(browser, token):
    Token.objects.update(status=TokenStatus.DEAD)
    assert "No longer accepted" in Page(browser.get(LIST)).text
    yesterday = timezone.now().date() - timedelta(days=1)
    Token.objects.update(status=TokenStatus.ACTIVE, expires_on=yesterday)
    assert "Expired" in Page(browser.get(LIST)).text


def test_a_method_without_a_brand_is_called_after_its_provider(browser, token):
    Token.objects.update(brand="", last4="")
    assert "Scripted" in Page(browser.get(LIST)).text
    Token.objects.update(provider="gone")
    assert "gone" in Page(browser.get(LIST)).text


@pytest.mark.parametrize(
    ("status", "is_warned"), [(PlanStatus.ACTIVE, True), (PlanStatus.CANCELED, False)]
)
def test_who_deletes_what_pays_for_a_subscription_is_told(
    browser, token, status, is_warned
):
    RecurringPlan.objects.create(
        provider="saving",
        customer_id=token.customer_id,
        token=token,
        amount_minor=990,
        currency=PRICE.currency.code,
        start_on=date(2026, 1, 1),
        status=status,
        managed_by=PlanManager.APP,
    )
    assert ("subscription" in Page(browser.get(LIST)).text) is is_warned


# The hook ------------------------------------------------------------------------------


def by_header(request: HttpRequest) -> str:
    """A shop whose customers are no users."""
    return request.headers.get("X-Customer", "")


@pytest.mark.parametrize(
    "hook", [by_header, f"{__name__}.by_header"], ids=["it", "path"]
)
def test_the_shop_says_who_its_customers_are(settings, hook):
    settings.MULTIPAY |= {"CUSTOMER_ID": hook}
    saved(customer_id="guest-7")
    guest = Client(headers={"X-Customer": "guest-7"})
    assert "4242" in Page(guest.get(LIST)).text
    assert Client().get(LIST).status_code == 302


def test_a_user_who_is_no_customer_is_refused(settings, browser, token):
    settings.MULTIPAY |= {"CUSTOMER_ID": lambda request: ""}
    assert browser.get(LIST).status_code == 403
    assert browser.get(LIST, headers={"X-Customer": token.customer_id}).status_code == (
        403
    )


def test_a_hook_that_returns_no_text_is_a_mistake_not_a_customer(settings, rf):
    settings.MULTIPAY |= {"CUSTOMER_ID": lambda request: None}
    with pytest.raises(InvalidOperation, match="NoneType"):
        customer_of(rf.get(LIST))


def test_without_users_nobody_is_a_customer(rf):
    assert customer_of(rf.get(LIST)) == ""
