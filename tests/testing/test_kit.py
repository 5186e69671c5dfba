"""The fixtures for shops: any provider, any outcome, and what may go wrong between."""

from __future__ import annotations

import pytest
from django.shortcuts import redirect
from moneyed import Money

from django_multipay.enums import WebhookTrust
from django_multipay.flows import start_payment
from django_multipay.models import Token, WebhookDelivery
from django_multipay.providers.clink import ClinkProvider
from django_multipay.providers.payer import PayerProvider
from django_multipay.registry import registry
from django_multipay.testing.accounts import at_sandbox
from tests.testing.conftest import REAL

ENDS = {
    "eximbay": {
        "paid": "paid",
        "declined": "failed",
        "canceled": "canceled",
        "in_review": "in_review",
    },
    "excoinz": {
        "paid": "paid",
        "declined": "failed",
        "canceled": "failed",
        "expired": "failed",
        "pending": "pending",
        "underpaid": "in_review",
        "overpaid": "paid",
    },
    "payer": {
        "paid": "paid",
        "declined": "failed",
        "canceled": "pending",
        "pending": "pending",
    },
    "clink": {
        "paid": "paid",
        "declined": "pending",
        "canceled": "pending",
        "expired": "expired",
        "pending": "pending",
    },
    "easybilling": {
        "paid": "paid",
        "declined": "failed",
        "canceled": "canceled",
        "expired": "pending",
        "pending": "pending",
    },
}
"""What becomes of a payment, by provider and outcome; the documentation says the same."""

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("provider", "outcome"),
    [(provider, outcome) for provider, ends in ENDS.items() for outcome in ends],
)
def test_a_buyer_makes_this_of_a_payment(order, pay, provider, outcome):
    payment = pay(order(provider), outcome)
    assert payment.status == ENDS[provider][outcome]


@pytest.mark.parametrize("provider", ENDS)
def test_what_a_provider_cannot_do_is_said_with_what_it_can(order, pay, provider):
    has = ", ".join(ENDS[provider])
    impossible = next(
        outcome
        for outcome in ("overpaid", "in_review")
        if outcome not in ENDS[provider]
    )
    with pytest.raises(
        ValueError, match=f"cannot make .* {impossible}: it has .*{has[:4]}"
    ):
        pay(order(provider), impossible)


def test_a_slip_in_the_outcome_names_all_of_them(order, pay):
    with pytest.raises(
        ValueError, match="no outcome 'approved'; use one of: paid, dec"
    ):
        pay(order("payer"), "approved")


@pytest.mark.parametrize("provider", ["payer", "clink", "excoinz", "easybilling"])
def test_a_pending_payment_is_paid_later(order, pay, provider):
    payment = pay(order(provider), "pending")
    assert payment.status == "pending"
    assert pay(payment).status == "paid"


def test_a_deposit_arrives_after_the_account_was_given(order, pay):
    payment = pay(order("eximbay", amount=Money("50000", "KRW")), "awaiting_funds")
    assert payment.status == "awaiting_funds"
    assert pay(payment).status == "paid"


def test_the_buyer_chooses_where_the_shop_named_nobody(order, pay):
    assert pay(order(), provider="clink").provider == "clink"


def test_a_buyer_who_closes_the_browser_has_paid(order, pay):
    for provider in ("eximbay", "excoinz", "payer", "clink"):
        assert pay(order(provider), buyer_returns=False).status == "paid"


def test_a_shop_survives_a_lost_message_when_the_buyer_returns(order, pay):
    for provider in ("eximbay", "payer", "clink", "easybilling"):
        assert pay(order(provider), webhook=False).status == "paid"


@pytest.mark.parametrize("provider", ["eximbay", "excoinz", "payer", "clink"])
def test_a_message_may_come_late_and_again(order, pay, deliver_webhook, provider):
    payment = pay(order(provider), webhook=False, buyer_returns=False)
    assert payment.status == "pending"

    for _ in range(2):
        answers = deliver_webhook(payment)
        assert answers
        assert {answer.status_code for answer in answers} == {200}
        payment.refresh_from_db()
        assert payment.status == "paid"
    assert payment.transactions.filter(kind="capture").count() == 1


def test_messages_may_come_in_another_order(order, pay, deliver_webhook):
    payment = pay(order("clink"), webhook=False, buyer_returns=False)

    bodies = [answer.wsgi_request for answer in deliver_webhook(payment)]
    turned = [
        answer.wsgi_request for answer in deliver_webhook(payment, newest_first=True)
    ]

    lengths = [request.headers["X-Clink-Signature"] for request in bodies]
    assert len(lengths) > 1
    assert [request.headers["X-Clink-Signature"] for request in turned] == lengths[::-1]


@pytest.mark.parametrize("provider", ["eximbay", "excoinz", "clink"])
def test_a_forged_message_is_refused(order, pay, deliver_webhook, provider):
    payment = pay(order(provider), webhook=False, buyer_returns=False)

    (answer,) = deliver_webhook(payment, forged=True)

    payment.refresh_from_db()
    assert answer.status_code == 401
    assert payment.status == "pending"
    assert not WebhookDelivery.objects.exists()
    # The genuine ones are taken as before.
    deliver_webhook(payment)
    payment.refresh_from_db()
    assert payment.status == "paid"


def test_an_open_hint_moves_nothing(order, pay, deliver_webhook):
    payment = pay(order("payer"), "pending", buyer_returns=False)

    deliver_webhook(payment, forged=True)

    payment.refresh_from_db()
    assert payment.status == "pending"


def test_what_cannot_be_forged_is_said(order, pay, deliver_webhook):
    with pytest.raises(ValueError, match="EasyBilling sends no messages"):
        deliver_webhook(pay(order("easybilling")), forged=True)
    with pytest.raises(ValueError, match="name it"):
        deliver_webhook(forged=True)


class Credulous(ClinkProvider):
    """A provider class with a hole: it believes every message."""

    def verify_webhook(self, incoming):
        """Look the other way."""


class Stamped(PayerProvider):
    """One whose messages are authenticated in a way that the sandbox does not know."""

    webhook_trust = WebhookTrust.SIGNED


@pytest.mark.parametrize(
    ("backend", "alias", "error", "said"),
    [
        (Credulous, "clink", AssertionError, "took a forged message of Clink"),
        (Stamped, "payer", ValueError, "Payer has no switch to forge with"),
    ],
)
def test_a_hole_in_a_provider_class_is_found(
    order, pay, deliver_webhook, settings, backend, alias, error, said
):
    accounts = settings.MULTIPAY["PROVIDERS"]
    own = {**accounts[alias], "BACKEND": f"{__name__}.{backend.__name__}"}
    settings.MULTIPAY = {**settings.MULTIPAY, "PROVIDERS": {alias: own}}
    payment = order(alias)
    start_payment(payment)

    with pytest.raises(error, match=said):
        deliver_webhook(payment, forged=True)


def test_a_saved_method_is_ready_for_the_next_payment(order, pay):
    for provider in ("eximbay", "clink"):
        pay(order(provider, customer_id="c1", save_token=True))
        token = Token.objects.get(provider=provider)
        again = pay(order(provider, customer_id="c1", token=token))
        assert again.status == "paid", provider


def test_only_what_is_secret_or_an_address_is_exchanged(multipay_settings):
    options = {
        alias: account["OPTIONS"]
        for alias, account in multipay_settings.MULTIPAY["PROVIDERS"].items()
    }
    assert options["eximbay"]["display_type"] == "P"
    assert options["eximbay"]["shop_url"] == "https://shop.example/"
    real = {
        value
        for account in REAL.values()
        for name, value in account["OPTIONS"].items()
        if isinstance(value, str) and name not in {"display_type", "shop_url"}
    }
    assert not real & {
        str(value) for given in options.values() for value in given.values()
    }
    assert {provider.slug for provider in registry.values()} == set(ENDS)


def test_an_account_of_a_provider_that_is_not_played_stays_as_it_is(
    settings, multipay_sandbox
):
    stranger = {"BACKEND": "tests.flows.scripted.ScriptedProvider", "OPTIONS": {"a": 1}}
    moved = at_sandbox({"PROVIDERS": {"own": stranger}}, multipay_sandbox, "https://s")
    assert moved["PROVIDERS"]["own"] == stranger


def test_a_payment_that_would_go_to_a_real_address_is_not_started(order, pay, settings):
    stranger = {"BACKEND": "tests.flows.scripted.ScriptedProvider"}
    settings.MULTIPAY = {"PROVIDERS": {"own": stranger}}
    payment = order("own")
    with pytest.raises(LookupError, match=r"does not play .*running_sandbox\(\)"):
        pay(payment)
    assert registry["own"].calls == []


def test_an_outcome_that_comes_too_late_is_explained(order, pay):
    payment = pay(order("eximbay", amount=Money("50000", "KRW")), "awaiting_funds")
    with pytest.raises(ValueError, match=r"canceled: .* has an outcome"):
        pay(payment, "canceled")


def test_a_saved_method_leaves_nobody_to_decline(order, pay):
    pay(order("clink", customer_id="c1", save_token=True))
    again = order("clink", customer_id="c1", token=Token.objects.get())
    with pytest.raises(ValueError, match=r"nobody can make .* declined: it was paid"):
        pay(again, "declined")


@pytest.mark.parametrize("outcome", ["paid", "pending"])
def test_a_shop_that_is_in_the_way_of_messages_is_told(order, pay, settings, outcome):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.everybody_logs_in"]
    with pytest.raises(AssertionError, match="HTTP 302 /login/ to the"):
        pay(order("payer"), outcome)


def everybody_logs_in(get_response):
    """A middleware that some shops have."""
    return lambda request: redirect("/login/")
