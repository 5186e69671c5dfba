"""Which account of the sandbox stands in for each account of a shop?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.module_loading import import_string

from django_multipay.testing.plugin import Sandbox


def slug_of(account: Mapping[str, Any]) -> str:
    """Return the slug of the provider behind an entry of ``PROVIDERS``.

    ``ImportError`` where there is none.
    """
    return str(import_string(account["BACKEND"]).slug)


def at_sandbox(
    multipay: Mapping[str, Any], sandbox: Sandbox, site_url: str
) -> dict[str, Any]:
    """Return ``multipay`` with every account moved to ``sandbox``.

    Addresses and credentials become the sandbox's, other ``OPTIONS`` stay. A provider
    that the sandbox does not play is left as it is. ``site_url`` is where providers
    send messages and buyers. ``ImportError`` where an account has no provider.
    """
    played = sandbox.get("/_control/accounts")
    accounts = {}
    for alias, account in multipay.get("PROVIDERS", {}).items():
        stand_in = played.get(slug_of(account), {"options": {}})
        options = {**account.get("OPTIONS", {}), **stand_in["options"]}
        # None is said of what belongs to another server and must not be sent here.
        given = {name: value for name, value in options.items() if value is not None}
        accounts[alias] = {**account, "OPTIONS": given}
    return {**multipay, "PROVIDERS": accounts, "SITE_URL": site_url}


def hold_messages(sandbox: Sandbox, site_url: str) -> None:
    """Let every provider keep its messages: the test carries them to the shop."""
    wanted = {
        "callbacks_enabled": False,
        # What is signed after the clock was moved has the time of that clock.
        "signing_clock": "sandbox",
        "https_required": site_url.startswith("https:"),
    }
    change = {
        slug: {name: wanted[name] for name in wanted.keys() & settings.keys()}
        for slug, settings in sandbox.get("/_control/settings").items()
    }
    sandbox.post("/_control/settings", change)
