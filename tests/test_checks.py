"""Every bad setting is named, with its alias, its key and its remedy."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import Error, Warning
from django.core.management import CommandError, call_command

from django_multipay import checks
from django_multipay.checks import check_deployment, check_settings
from tests.flows.scripted import (
    HintingProvider,
    ScriptedProvider,
    SilentProvider,
    UnprovableProvider,
    account_settings,
)

ROOT = Path(__file__).resolve().parent.parent
KEY = "live_1849705C642C217E0B2D"
GOOD: dict[str, Any] = {
    "PROVIDERS": {
        "cards": {
            "BACKEND": "django_multipay.providers.eximbay.EximbayProvider",
            "OPTIONS": {
                "mid": "1849705C64",
                "api_key": KEY,
                "base_url": "https://api.eximbay.com",
            },
        },
    },
    "SITE_URL": "https://shop.example",
    "ENCRYPTION_KEYS": ["a key of sixteen characters or more"],
}


@pytest.fixture
def change(settings):
    """Good settings with one thing changed; ``...`` takes it away."""

    def apply(*path, value):
        multipay = copy.deepcopy(GOOD)
        place = multipay
        for name in path[:-1]:
            place = place[name]
        if value is ...:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        settings.MULTIPAY = multipay

    return apply


def option(name):
    return ("PROVIDERS", "cards", "OPTIONS", name)


def test_good_settings_are_fine(settings):
    settings.MULTIPAY = GOOD
    assert check_settings() == []


def test_an_app_without_settings_is_fine(settings):
    del settings.MULTIPAY
    assert check_settings() == []


@pytest.mark.parametrize("value", [None, [], "eximbay", 1])
def test_multipay_must_be_a_dict(settings, value):
    settings.MULTIPAY = value
    (error,) = check_settings()
    assert error.id == "multipay.E001"
    assert error.msg == "MULTIPAY must be a dict."
    assert "PROVIDERS" in error.hint


def test_an_unknown_key_is_named_beside_the_known_ones(change):
    change("PROVIDER", value={})
    (error,) = check_settings()
    assert error.id == "multipay.E006"
    assert "MULTIPAY['PROVIDER']" in error.msg
    assert "PROVIDERS, SITE_URL, ENCRYPTION_KEYS" in error.hint


@pytest.mark.parametrize(
    "value",
    [
        "",
        "shop.example",
        "//shop.example",
        "ftp://shop.example",
        "https://",
        "https://shop.example/path",
        "https://shop.example?q",
        "https://shop.example#f",
        "https://user:p4ssw0rd@shop.example",
        "https://shop.example:0",
        "https://shop.example:port",
        "https://[shop.example",
        " https://shop.example",
        "https://shop.example\n",
        "https://shop example",
        "https:\\\\shop.example",
        b"https://shop.example",
        ["https://shop.example"],
        1,
    ],
)
def test_a_site_url_that_is_no_origin_is_refused(change, value):
    change("SITE_URL", value=value)
    (error,) = check_settings()
    assert error.id == "multipay.E002"
    assert "MULTIPAY['SITE_URL']" in error.msg
    assert "https://shop.example" in error.hint
    assert "p4ssw0rd" not in str(error)


@pytest.mark.parametrize(
    "value",
    [None, "https://shop.example/", "http://127.0.0.1:8000", "https://[::1]:8000"],
)
def test_an_origin_is_a_good_site_url(change, value):
    change("SITE_URL", value=value)
    assert check_settings() == []


@pytest.mark.parametrize(
    "value",
    [
        [],
        "one long text of more than 16",
        ["short"],
        [" " * 20],
        [b"x" * 20],
        [None],
        1,
    ],
)
def test_encryption_keys_that_protect_nothing_are_refused(change, value):
    change("ENCRYPTION_KEYS", value=value)
    (error,) = check_settings()
    assert error.id == "multipay.E003"
    assert "MULTIPAY['ENCRYPTION_KEYS']" in error.msg
    assert "get_random_secret_key" in error.hint


@pytest.mark.parametrize("value", [None, [], "eximbay", 1])
def test_providers_must_be_a_dict(change, value):
    change("PROVIDERS", value=value)
    (error,) = check_settings()
    assert error.id == "multipay.E007"
    assert "MULTIPAY['PROVIDERS']" in error.msg
    assert "BACKEND" in error.hint


@pytest.mark.parametrize("alias", ["", "a b", "a/b", "é", "x" * 65, "a\n", 1, None])
def test_an_alias_must_fit_into_a_url(change, alias):
    change("PROVIDERS", value={alias: GOOD["PROVIDERS"]["cards"]})
    (error,) = check_settings()
    assert error.id == "multipay.E008"
    assert f"MULTIPAY['PROVIDERS'][{alias!r}]" in error.msg
    assert "ASCII letters" in error.hint


@pytest.mark.parametrize("alias", ["eximbay", "cards_eu", "cards-2", "X" * 64])
def test_usual_aliases_are_fine(change, alias):
    change("PROVIDERS", value={alias: GOOD["PROVIDERS"]["cards"]})
    assert check_settings() == []


@pytest.mark.parametrize(
    ("account", "words"),
    [
        (None, "must be a dict with 'BACKEND'"),
        ("django_multipay.providers.eximbay.EximbayProvider", "must be a dict"),
        ({}, "['BACKEND'] is None; use the dotted path"),
        ({"BACKEND": 1}, "['BACKEND'] is 1; use the dotted path"),
        ({"BACKEND": ""}, "['BACKEND'] cannot be imported"),
        ({"BACKEND": "eximbay"}, "['BACKEND'] cannot be imported"),
        ({"BACKEND": ".eximbay"}, "['BACKEND'] cannot be imported"),
        ({"BACKEND": "..eximbay"}, "['BACKEND'] cannot be imported"),
        ({"BACKEND": "no.such.module"}, "['BACKEND'] cannot be imported"),
        ({"BACKEND": "django_multipay.money.Gone"}, "['BACKEND'] cannot be imported"),
        ({"BACKEND": "django_multipay.money.to_minor"}, "use the dotted path"),
        ({"BACKEND": "moneyed.Money"}, "use the dotted path of a Provider class"),
        ({"BACKEND": "django_multipay.providers.base.Provider"}, "use the dotted path"),
        ({**GOOD["PROVIDERS"]["cards"], "OPTION": {}}, "['OPTION'] is unknown; use"),
        ({**GOOD["PROVIDERS"]["cards"], "OPTIONS": None}, "['OPTIONS'] must be a dict"),
    ],
)
def test_an_account_that_cannot_be_built_is_an_error(change, account, words):
    change("PROVIDERS", "cards", value=account)
    (error,) = check_settings()
    assert error.id == "multipay.E004"
    assert error.msg.startswith("MULTIPAY['PROVIDERS']['cards']")
    assert words in error.msg


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("mid", ..., "is missing; your merchant id"),
        ("mid", "", "is empty"),
        ("mid", " ", "is empty"),
        ("mid", 1849705, "must be text, not int"),
        ("mid", "1849705C64\n", "begins or ends with a blank"),
        ("api_key", ..., "is missing; the API key"),
        ("api_key", "", "is empty; put the key"),
        ("api_key", "   ", "is empty; put the key"),
        ("api_key", [], "is empty; put the key"),
        ("api_key", [KEY, ""], "is empty; put the key"),
        ("api_key", None, "must be text, or a list of texts"),
        ("api_key", [KEY, 1], "must be text, or a list of texts"),
        ("api_key", {KEY}, "must be text, or a list of texts"),
        ("api_key", f"{KEY}\n", "begins or ends with a blank"),
        ("base_url", ..., "is missing; 'https://api-test.eximbay.com'"),
        ("base_url", "api.eximbay.com", "is not a plain base URL"),
        ("base_url", "https://u:p4ssw0rd@api.eximbay.com", "is not a plain base URL"),
        ("base_url", "https://api.eximbay.com?x=1", "is not a plain base URL"),
        ("base_url", "https://[", "is not a plain base URL"),
        ("display_type", "X", "is 'X'; use one of: R, P"),
        ("sdk_requires", "https://code.jquery.com/x.js", "must be a list of texts"),
        ("secret", "x", "is unknown; remove it or use one of: api_key"),
    ],
)
def test_a_bad_option_is_named_with_its_remedy(change, name, value, words):
    change(*option(name), value=value)
    (error,) = check_settings()
    assert error.id == "multipay.E004"
    assert error.msg.startswith(
        f"MULTIPAY['PROVIDERS']['cards']['OPTIONS'][{name!r}] {words}"
    )
    assert "documentation" in error.hint


def test_every_bad_option_is_reported_at_once(change):
    change("PROVIDERS", "cards", "OPTIONS", value={"mid": "", "extra": 1})
    named = re.findall(r"\['OPTIONS'\]\['(\w+)'\]", "".join(map(str, check_settings())))
    assert named == ["extra", "mid", "api_key", "base_url"]


def test_a_list_of_secrets_is_fine(change):
    change(*option("api_key"), value=[KEY, "live_1849705C640000000000"])
    assert check_settings() == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("mid", "1849705C65", "OPTIONS['api_key'] belongs to another mid"),
        ("api_key", KEY.replace("live", "test"), "OPTIONS['api_key'] is a test key"),
        ("base_url", "https://api-test.eximbay.com", "is a live key"),
        ("source_addresses", ["home"], "OPTIONS['source_addresses'] holds 'home'"),
    ],
)
def test_options_that_contradict_each_other_are_an_error(change, name, value, words):
    change(*option(name), value=value)
    (error,) = check_settings()
    assert error.id == "multipay.E009"
    assert error.msg.startswith("MULTIPAY['PROVIDERS']['cards']: ")
    assert words in error.msg


def test_a_provider_must_be_able_to_prove_a_payment(settings):
    settings.MULTIPAY = account_settings(faith=UnprovableProvider)
    (error,) = check_settings()
    assert error.id == "multipay.E005"
    assert "MULTIPAY['PROVIDERS']['faith']" in error.msg
    assert "inquiry" in error.hint


@pytest.mark.parametrize("kind", [ScriptedProvider, HintingProvider, SilentProvider])
def test_an_inquiry_or_authentic_messages_are_proof_enough(settings, kind):
    settings.MULTIPAY = account_settings(proof=kind)
    assert check_settings() == []


# Before going live ---------------------------------------------------------------------


def warnings_of(found):
    return {
        (warning.id, re.search(r"MULTIPAY\['\w+'\]|DATABASES\['\w+'\]", warning.msg)[0])
        for warning in found
        # Of the database that the tests run on.
        if warning.id not in {"multipay.W004", "multipay.W008"}
    }


def test_settings_fit_for_real_money_raise_no_warning(settings):
    settings.MULTIPAY = GOOD
    assert warnings_of(check_deployment()) == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {
                "api_key": KEY.replace("live", "test"),
                "base_url": "https://api-test.eximbay.com",
            },
            ["['base_url'] is the test system", "['api_key'] is a test key"],
        ),
        (
            {"base_url": "http://api.eximbay.com"},
            ["['base_url'] is not https", "['sdk_url'] is not https"],
        ),
    ],
)
def test_test_systems_and_plain_http_are_warned_of(settings, changes, words):
    multipay = copy.deepcopy(GOOD)
    multipay["PROVIDERS"]["cards"]["OPTIONS"] |= changes
    settings.MULTIPAY = multipay
    found = [item for item in check_deployment() if item.id == "multipay.W001"]
    assert len(found) == len(words)
    for warning, text in zip(found, words, strict=True):
        assert warning.msg.startswith("MULTIPAY['PROVIDERS']['cards']: OPTIONS")
        assert text in warning.msg


def test_callbacks_over_plain_http_are_warned_of(change):
    change("SITE_URL", value="http://shop.example")
    assert warnings_of(check_deployment()) == {
        ("multipay.W002", "MULTIPAY['SITE_URL']")
    }


@pytest.mark.parametrize("value", [None, ...])
def test_stored_secrets_without_a_key_of_their_own_are_warned_of(change, value):
    change("ENCRYPTION_KEYS", value=value)
    assert warnings_of(check_deployment()) == {
        ("multipay.W003", "MULTIPAY['ENCRYPTION_KEYS']")
    }


@pytest.mark.parametrize(
    ("engine", "options", "expected"),
    [
        ("django.db.backends.sqlite3", {}, ["multipay.W004"]),
        ("django.db.backends.sqlite3", None, ["multipay.W004"]),
        (
            "django.db.backends.sqlite3",
            {"transaction_mode": "DEFERRED"},
            ["multipay.W004"],
        ),
        ("django.db.backends.sqlite3", {"transaction_mode": "IMMEDIATE"}, []),
        ("django.db.backends.sqlite3", {"transaction_mode": "immediate"}, []),
    ],
)
def test_sqlite_must_queue_its_writers(
    monkeypatch, settings, engine, options, expected
):
    settings.MULTIPAY = GOOD
    database = {"ENGINE": engine, "OPTIONS": options}
    # Not through the fixture: Django warns of changed DATABASES.
    monkeypatch.setattr(settings._wrapped, "DATABASES", {"shop": database})
    found = check_deployment()
    assert [warning.id for warning in found] == expected
    for warning in found:
        assert "DATABASES['shop']" in warning.msg
        assert "IMMEDIATE" in warning.hint


@pytest.mark.parametrize(
    ("engine", "options", "expected"),
    [
        ("postgresql", {}, ["multipay.W008"]),
        ("postgresql", None, ["multipay.W008"]),
        ("postgresql", {"options": "-c lock_timeout=3s"}, []),
        ("mysql", {"charset": "utf8mb4"}, ["multipay.W008"]),
        ("mysql", {"init_command": "SET innodb_lock_wait_timeout = 3"}, []),
    ],
)
def test_nobody_waits_for_a_lock_for_ever(
    monkeypatch, settings, engine, options, expected
):
    settings.MULTIPAY = GOOD
    database = {"ENGINE": f"django.db.backends.{engine}", "OPTIONS": options}
    monkeypatch.setattr(settings._wrapped, "DATABASES", {"shop": database})
    assert [warning.id for warning in check_deployment()] == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("WEBHOOKS", "inline", []),
        ("WEBHOOKS", "task", []),
        ("WEBHOOKS", "celery", ["multipay.E016"]),
        ("WEBHOOKS", None, ["multipay.E016"]),
        ("CONCURRENCY", 1, []),
        ("CONCURRENCY", 0, ["multipay.E017"]),
        ("CONCURRENCY", "16", ["multipay.E017"]),
        ("CONCURRENCY", True, ["multipay.E017"]),
        ("RETENTION", {"MESSAGES": 30, "BUYERS": None}, []),
        ("RETENTION", {"FACTS": 30}, ["multipay.E018"]),
        ("RETENTION", {"MESSAGES": 0}, ["multipay.E018"]),
        ("RETENTION", {"MESSAGES": "30"}, ["multipay.E018"]),
        ("RETENTION", 30, ["multipay.E018"]),
    ],
)
def test_who_does_the_work_and_what_is_kept(change, key, value, expected):
    change(key, value=value)
    found = check_settings()
    assert [error.id for error in found] == expected
    for error in found:
        assert f"MULTIPAY['{key}']" in error.msg


def test_without_tasks_nothing_can_be_handed_to_them(change, monkeypatch):
    # As on Django 5.2 without the extra "tasks".
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    change("WEBHOOKS", value="task")
    assert [error.id for error in check_settings()] == ["multipay.E016"]
    change("WEBHOOKS", value="inline")
    assert check_settings() == []


def test_the_deploy_check_leaves_errors_to_the_other_one(change):
    change("PROVIDERS", value=None)
    assert check_deployment() == []


# That it counts --------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_check_command_fails_with_bad_settings(change):
    change(*option("mid"), value="")
    with pytest.raises(CommandError, match=r"multipay\.E004"):
        call_command("check")


@pytest.mark.django_db
def test_the_deploy_check_runs_with_deploy_only(change, capsys):
    change("SITE_URL", value="http://shop.example")
    call_command("check")
    assert "multipay.W002" not in capsys.readouterr().err
    call_command("check", deploy=True)
    assert "multipay.W002" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (option("api_key"), "CANARY-1 "),
        (option("api_key"), ["CANARY-1", ""]),
        (option("api_key"), {"CANARY-1": 1}),
        (option("api_key"), "live_CANARY00010123456789"),
        (option("api_key"), "test_CANARY"),
        (option("secret_key"), ["CANARY-1", 2]),
        (option("base_url"), "https://user:CANARY@api.eximbay.com"),
        (("SITE_URL",), "https://user:CANARY@shop.example"),
        (("ENCRYPTION_KEYS",), "CANARY"),
        (("ENCRYPTION_KEYS",), ["CANARY"]),
    ],
)
def test_no_message_repeats_a_secret(change, path, value):
    change(*path, value=value)
    found = [*check_settings(), *check_deployment()]
    assert found
    assert "CANARY" not in "".join(map(str, found))
    assert KEY not in "".join(map(str, found))


def ids_in_the_code() -> list[str]:
    tree = ast.parse(Path(checks.__file__).read_text(encoding="utf-8"))
    return [
        str(node.value.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "id"
        and isinstance(node.value, ast.Constant)
    ]


def test_an_id_stands_for_one_problem():
    ids = ids_in_the_code()
    assert len(ids) == len(set(ids)) >= 13


def test_every_id_is_documented_once_and_nothing_else_is():
    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(multipay\.[EW]\d{3})` \|", page, re.MULTILINE)
    assert documented == sorted(ids_in_the_code())


def test_errors_are_errors_and_warnings_are_warnings(change):
    change("SITE_URL", value="x")
    assert {type(item) for item in check_settings()} == {Error}
    change("SITE_URL", value="http://shop.example")
    assert {type(item) for item in check_deployment()} == {Warning}


def test_a_secret_that_stands_in_the_settings_module_is_named(settings):
    # The key of tests/settings.py is the one that Eximbay publishes for everybody.
    settings.MULTIPAY = {**settings.MULTIPAY, "SITE_URL": None}
    warnings = [item for item in check_deployment() if item.id == "multipay.W005"]
    assert len(warnings) == 1
    assert "MULTIPAY['PROVIDERS']['eximbay']['OPTIONS']['api_key']" in warnings[0].msg
    assert "test_1849705C642C217E0B2D" not in f"{warnings[0].msg} {warnings[0].hint}"


@pytest.mark.parametrize(
    "value",
    [None, [], "500", {"USD": "1e3"}, {"USD": "5.001"}, {"XXX1": "5"}, {"USD": None}],
)
def test_a_limit_for_refunds_is_an_amount_of_a_currency(settings, value):
    settings.MULTIPAY = {"REFUND_APPROVAL_ABOVE": value}
    assert [error.id for error in check_settings()] == ["multipay.E010"]


@pytest.mark.parametrize("value", [{}, {"USD": "500"}, {"KRW": 600000, "USD": "0.5"}])
def test_a_usable_limit_is_no_error(settings, value):
    settings.MULTIPAY = {"REFUND_APPROVAL_ABOVE": value}
    assert check_settings() == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"RETRIES": 3},
        {"RETRY_DAYS": 3},
        {"RETRY_DAYS": [3, 1]},
        {"RETRY_DAYS": [0, 1]},
        {"RETRY_DAYS": [True]},
        {"GRACE_DAYS": -1},
        {"GRACE_DAYS": "7"},
    ],
)
def test_the_days_of_plans_are_whole_and_rising(settings, value):
    settings.MULTIPAY = {"PLANS": value}
    assert [error.id for error in check_settings()] == ["multipay.E014"]


def test_usable_days_of_plans_are_no_error(settings):
    settings.MULTIPAY = {"PLANS": {"RETRY_DAYS": [], "GRACE_DAYS": 0}}
    assert check_settings() == []


@pytest.mark.parametrize("value", [7, "", "shop", "shop.gone.customer", "tests.fakes"])
def test_whoever_names_the_customer_must_be_there(settings, value):
    settings.MULTIPAY = {"CUSTOMER_ID": value}
    assert [error.id for error in check_settings()] == ["multipay.E013"]


@pytest.mark.parametrize("value", [None, str, "tests.fakes.accounts"], ids=repr)
def test_a_usable_way_to_the_customer_is_no_error(settings, value):
    settings.MULTIPAY = {"CUSTOMER_ID": value}
    assert check_settings() == []


@pytest.mark.parametrize("value", [None, 7, "/orders/", "/{order}/", "/{order_id/"])
def test_the_address_of_an_order_names_the_order(settings, value):
    settings.MULTIPAY = {"ORDER_URL": value}
    assert [error.id for error in check_settings()] == ["multipay.E011"]


def test_a_usable_address_of_an_order_is_no_error(settings):
    settings.MULTIPAY = {"ORDER_URL": "/admin/shop/order/?q={order_id}"}
    assert check_settings() == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"ALLOW_HTTP": True},
        {"ALLOW_PRIVATE": "no"},
        {"PORTS": 443},
        {"PORTS": [0]},
        {"PORTS": [True]},
        {"PORTS": ["443"]},
        {"PORTS": [65536]},
    ],
)
def test_the_options_of_endpoints_are_known_and_usable(settings, value):
    settings.MULTIPAY = {"ENDPOINTS": value}
    assert [error.id for error in check_settings()] == ["multipay.E012"]


def test_private_endpoints_must_not_go_live(change):
    change("ENDPOINTS", value={"PORTS": [443]})
    assert "multipay.W006" not in {item.id for item in check_deployment()}
    change("ENDPOINTS", value={"ALLOW_PRIVATE": True})
    assert check_settings() == []
    assert "multipay.W006" in {item.id for item in check_deployment()}
