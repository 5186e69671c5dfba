"""Fixtures for every room's tests."""

from __future__ import annotations

import copy

import pytest
from pytest_django import Settings

from django_multipay.testing.plugin import Sandbox


@pytest.fixture
def sandbox_settings(settings: Settings, multipay_sandbox: Sandbox) -> Settings:
    """Settings whose accounts all talk to the sandbox."""
    multipay = copy.deepcopy(settings.MULTIPAY)
    for account in multipay["PROVIDERS"].values():
        account["OPTIONS"]["base_url"] = multipay_sandbox.url
    settings.MULTIPAY = multipay
    return settings
