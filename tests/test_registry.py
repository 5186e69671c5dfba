"""Which provider is behind an alias."""

from __future__ import annotations

import threading

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_multipay.exceptions import ProviderConfigurationError
from django_multipay.registry import build, registry
from tests.flows.scripted import HintingProvider, ScriptedProvider, account_settings


@pytest.fixture
def accounts(settings):
    """Two accounts of two providers."""
    settings.MULTIPAY = account_settings(cards=ScriptedProvider, bank=HintingProvider)
    return settings


@pytest.mark.usefixtures("accounts")
def test_an_alias_leads_to_the_provider_of_its_settings():
    assert type(registry["cards"]) is ScriptedProvider
    assert type(registry["bank"]) is HintingProvider
    assert registry["cards"].alias == "cards"


@pytest.mark.usefixtures("accounts")
def test_aliases_come_in_the_order_of_the_settings():
    assert list(registry) == ["cards", "bank"]
    assert len(registry) == 2
    assert "cards" in registry
    assert "eximbay" not in registry


@pytest.mark.usefixtures("accounts")
def test_an_account_is_built_once_also_for_many_threads():
    barrier = threading.Barrier(8)
    built = []

    def ask():
        barrier.wait()
        built.append(registry["cards"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 8
    assert len(set(map(id, built))) == 1


def test_changed_settings_are_read_again(accounts):
    before = registry["cards"]
    accounts.MULTIPAY = account_settings(cards=HintingProvider)
    assert type(registry["cards"]) is HintingProvider
    assert registry["cards"] is not before
    assert "bank" not in registry


@pytest.mark.usefixtures("accounts")
def test_an_unknown_alias_names_the_known_ones():
    with pytest.raises(ProviderConfigurationError) as caught:
        registry["stripe"]
    assert str(caught.value) == (
        "MULTIPAY['PROVIDERS']['stripe'] does not exist; known: bank, cards"
    )
    assert isinstance(caught.value, ImproperlyConfigured)


def test_without_any_account_that_is_what_is_said(settings):
    settings.MULTIPAY = {}
    with pytest.raises(ProviderConfigurationError, match="known: none"):
        registry["stripe"]
    assert list(registry) == []


def test_two_accounts_of_one_provider_are_two_providers(settings):
    settings.MULTIPAY = account_settings(eu=ScriptedProvider, kr=ScriptedProvider)
    assert registry["eu"] is not registry["kr"]
    assert registry["eu"].http is not registry["kr"].http


def test_a_bad_account_does_not_spoil_the_others(settings):
    multipay = account_settings(good=ScriptedProvider)
    multipay["PROVIDERS"]["bad"] = {"BACKEND": "nowhere.to.be.Found"}
    settings.MULTIPAY = multipay
    with pytest.raises(ProviderConfigurationError, match=r"\['bad'\]\['BACKEND'\]"):
        registry["bad"]
    assert registry["good"].alias == "good"


@pytest.mark.usefixtures("accounts")
def test_building_does_not_touch_what_is_shared():
    assert build("cards") is not registry["cards"]
    assert build("cards").options == registry["cards"].options
