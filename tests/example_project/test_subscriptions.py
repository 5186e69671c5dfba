"""The coffee box: one plan for one form, one box for one charge, nobody else's."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from moneyed import Money
from pytest_django import Settings

from django_multipay import flows
from django_multipay.models import Payment, RecurringPlan, Token
from django_multipay.signals import plan_charged
from django_multipay.testing.buyer import DeliverWebhook, Pay
from django_multipay.testing.clock import Clock
from django_multipay.testing.plugin import Sandbox
from shop import clock
from shop.coffee_box import ways_to_subscribe
from shop.models import Box, Subscription

pytestmark = pytest.mark.django_db

Status = RecurringPlan.Status


def wish(**changes: Any) -> dict[str, Any]:
    return {
        "form_key": uuid.uuid4(),
        "size": "one-bag",
        "way": "eximbay-plan",
        "name": "Ada",
        "email": "ada@example.com",
        "country": "GB",
        **changes,
    }


def subscribe(client: Client, **changes: Any) -> Subscription:
    answer = client.post("/coffee-box/", wish(**changes))
    assert answer.status_code == 302, answer.context["form"].errors
    return Subscription.objects.latest("pk")


def plan_of(subscription: Subscription) -> RecurringPlan:
    assert subscription.plan
    subscription.plan.refresh_from_db()
    return subscription.plan


def reach(subscription: Subscription, status: str, **values: Any) -> RecurringPlan:
    """Bring the plan where the ledger would have brought it."""
    plan = plan_of(subscription)
    RecurringPlan.objects.filter(pk=plan.pk).update(status=status, **values)
    return plan_of(subscription)


def break_line(sandbox: Sandbox, provider: str, operation: str, fault: str) -> None:
    """Let the next call of an operation go wrong."""
    sandbox.post(
        "/_control/faults",
        {"provider": provider, "operation": operation, "fault": fault},
    )


def save_card(client: Client, **values: Any) -> Token:
    """A card of this visitor, as the ledger would have saved it."""
    client.get("/cards/")
    token: Token = Token.objects.create(
        **{
            "provider": "eximbay",
            "customer_id": client.session["customer_id"],
            "provider_token": "secret",
            "token_digest": uuid.uuid4().hex,
            "brand": "VISA",
            "last4": "1111",
            **values,
        }
    )
    return token


def begin(client: Client, pay: Pay, **changes: Any) -> Subscription:
    """A subscription whose first box is paid."""
    made = subscribe(client, **changes)
    payment = plan_of(made).first_payment
    assert payment
    assert pay(payment).status == Payment.Status.PAID
    return made


@pytest.fixture
def subscription(client: Client, pay: Pay) -> Subscription:
    """One that runs, with a saved card that the shop charges."""
    return begin(client, pay, way="clink")


# Beginning --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "provider", "managed_by", "saves"),
    [
        ("eximbay-plan", "eximbay", "provider", False),
        ("clink-plan", "clink", "provider", False),
        ("eximbay", "eximbay", "app", True),
        ("clink", "clink", "app", True),
        ("easybilling", "easybilling", "app", True),
    ],
)
def test_a_new_card_leads_to_a_payment(
    client: Client, way: str, provider: str, managed_by: str, saves: bool
) -> None:
    answer = client.post("/coffee-box/", wish(way=way, size="two-bags"))

    made = Subscription.objects.get()
    plan = plan_of(made)
    payment = Payment.objects.get()
    assert answer["Location"] == payment.get_checkout_url()
    assert (plan.provider, plan.managed_by) == (provider, managed_by)
    assert plan.amount == payment.amount == Money("31.20", "USD")
    assert plan.first_payment == payment
    assert (plan.interval_months, plan.start_on) == (1, timezone.localdate())
    assert payment.save_token == saves
    assert payment.order_id == made.reference
    assert plan.customer_id == made.customer_id == client.session["customer_id"]


def test_the_same_form_sent_twice_is_one_subscription(client: Client) -> None:
    form = wish()

    first, second = (client.post("/coffee-box/", form) for _ in range(2))

    assert first["Location"] == second["Location"]
    assert Subscription.objects.count() == RecurringPlan.objects.count() == 1
    assert Payment.objects.count() == 1


def test_the_form_of_somebody_else_begins_nothing(client: Client) -> None:
    form = wish()
    client.post("/coffee-box/", form)

    assert Client().post("/coffee-box/", form).status_code == 404
    assert Subscription.objects.count() == RecurringPlan.objects.count() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "barrel"},
        {"way": "payer"},
        {"way": f"saved-{uuid.uuid4()}"},
        {"email": ""},
        {"form_key": "x"},
    ],
    ids=["size", "way", "card", "email", "key"],
)
def test_nonsense_begins_nothing(client: Client, changes: dict[str, str]) -> None:
    assert client.post("/coffee-box/", wish(**changes)).status_code == 200
    assert not RecurringPlan.objects.exists()


@pytest.mark.parametrize(("currency", "price"), [("KRW", "42500"), ("USDT", "31.20")])
def test_the_box_has_a_price_in_the_money_of_cards(
    client: Client, currency: str, price: str
) -> None:
    client.post("/currency/", {"currency": currency})

    made = subscribe(client, size="two-bags")

    # Nobody charges a wallet every month.
    assert plan_of(made).amount == Money(price, "KRW" if currency == "KRW" else "USD")


def charges_at_clink(sandbox: Sandbox) -> int:
    """How often Clink took money, by its own books."""
    payments = sandbox.get("/_control/clink/payments")
    return sum(payment["charges"] for payment in payments)


def test_a_saved_card_is_charged_at_once_and_once(
    client: Client, subscription: Subscription, multipay_sandbox: Sandbox
) -> None:
    token = plan_of(subscription).token
    assert token
    form = wish(way=f"saved-{token.uuid}")
    before = charges_at_clink(multipay_sandbox)

    answers = [client.post("/coffee-box/", form) for _ in range(2)]

    made = Subscription.objects.latest("pk")
    assert [answer["Location"] for answer in answers] == [made.get_absolute_url()] * 2
    assert charges_at_clink(multipay_sandbox) == before + 1
    assert plan_of(made).token == token
    assert plan_of(made).status == Status.ACTIVE


def test_a_saved_card_that_cannot_be_charged_now_is_tried_later(
    client: Client, subscription: Subscription, multipay_sandbox: Sandbox
) -> None:
    token = plan_of(subscription).token
    assert token
    break_line(multipay_sandbox, "clink", "payment", "drop_before")

    made = subscribe(client, way=f"saved-{token.uuid}")

    assert plan_of(made).status == Status.PENDING
    assert "will try again" in client.get(made.get_absolute_url()).text
    assert not made.boxes.exists()


def test_saved_cards_come_first_and_only_ones_own(client: Client) -> None:
    token = save_card(client)
    save_card(Client(), last4="9999")
    save_card(client, status=Token.Status.DELETED)
    save_card(client, provider="excoinz")

    saved = [
        way
        for way in ways_to_subscribe("USD", token.customer_id)
        if way.token is not None
    ]

    assert [way.token for way in saved] == [token]
    page = client.get("/coffee-box/").text
    assert page.index("VISA •••• 1111") < page.index("Eximbay charges it every month")
    assert "9999" not in page


# Looking after it ----------------------------------------------------------------------


def test_anothers_subscription_does_not_exist(subscription: Subscription) -> None:
    stranger = Client()
    url = subscription.get_absolute_url()

    assert stranger.get(url).status_code == 404
    for wanted in ("cancel", "pause", "resume", "size", "card", "charge"):
        assert stranger.post(f"{url}{wanted}/").status_code == 404
    assert subscription.reference not in stranger.get("/subscriptions/").text
    assert plan_of(subscription).status == Status.ACTIVE


def test_nothing_changes_by_get_or_by_an_unknown_wish(
    client: Client, subscription: Subscription
) -> None:
    url = subscription.get_absolute_url()

    assert client.get(f"{url}cancel/").status_code == 405
    assert client.post(f"{url}explode/").status_code == 404
    assert plan_of(subscription).status == Status.ACTIVE


def test_a_buyer_pauses_resumes_and_cancels(
    client: Client, subscription: Subscription
) -> None:
    url = subscription.get_absolute_url()
    seen = []
    for wanted in ("pause", "resume", "cancel"):
        client.post(f"{url}{wanted}/")
        seen.append(plan_of(subscription).status)

    assert seen == [Status.PAUSED, Status.ACTIVE, Status.CANCELED]
    assert "This subscription is over" in client.get(url).text


def test_another_size_costs_its_price_from_now_on(
    client: Client, subscription: Subscription
) -> None:
    url = subscription.get_absolute_url()

    client.post(f"{url}size/", {"size": "two-bags"})

    subscription.refresh_from_db()
    assert subscription.size == "two-bags"
    assert plan_of(subscription).amount == Money("31.20", "USD")
    assert client.post(f"{url}size/", {"size": "barrel"}).status_code == 404


def test_a_size_that_may_not_be_changed_there_is_not_changed_here(
    client: Client, pay: Pay, multipay_sandbox: Sandbox
) -> None:
    made = begin(client, pay, way="eximbay-plan")
    break_line(multipay_sandbox, "eximbay", "recurring_adjust", "drop_after")
    url = made.get_absolute_url()

    page = client.post(f"{url}size/", {"size": "two-bags"}, follow=True)

    assert "will know in a few minutes" in page.text
    made.refresh_from_db()
    assert made.size == "one-bag"


def test_another_card_of_ones_own_can_be_charged(
    client: Client, subscription: Subscription
) -> None:
    mine = save_card(client, last4="2222", provider="clink")
    theirs = save_card(Client(), last4="9999", provider="clink")
    url = subscription.get_absolute_url()
    assert "2222" in client.get(url).text

    assert client.post(f"{url}card/", {"token": theirs.uuid}).status_code == 404
    client.post(f"{url}card/", {"token": mine.uuid})

    assert plan_of(subscription).token == mine


def test_a_card_that_was_deleted_is_not_named_any_more(
    subscription: Subscription, client: Client
) -> None:
    page = subscription.get_absolute_url()
    assert "charged by us to" in client.get(page).text
    token = plan_of(subscription).token
    assert token

    flows.delete_token(token)

    text = client.get(page).text
    assert "charged by us to" not in text
    assert "we will ask you to pay it yourself" in text
    RecurringPlan.objects.update(status=Status.PAST_DUE, needs_buyer=True)
    assert "There is no card to charge." in client.get(page).text


def test_who_was_refused_pays_in_person(
    client: Client, pay: Pay, multipay_clock: Clock, multipay_sandbox: Sandbox
) -> None:
    user = User.objects.create_user("ada")
    client.force_login(user)
    subscription = begin(client, pay, way="clink")
    multipay_sandbox.post(
        "/_control/settings", {"clink": {"payment_result": "failure"}}
    )
    multipay_clock.advance(months=1)
    flows.charge_due_plans()
    assert plan_of(subscription).status == Status.PAST_DUE
    # No session lasts a month.
    client.force_login(user)
    page = client.get(subscription.get_absolute_url()).text

    recovery = Payment.objects.latest("pk")
    assert recovery.save_token
    assert f'href="{recovery.get_checkout_url()}"' in page
    # Looking again asks for the same money, not for more.
    client.get(subscription.get_absolute_url())
    assert Payment.objects.latest("pk") == recovery

    pay(recovery)
    assert plan_of(subscription).status == Status.ACTIVE
    assert subscription.boxes.count() == 2


def test_what_is_wrong_with_the_card_is_said(
    client: Client, subscription: Subscription
) -> None:
    reach(subscription, Status.PAST_DUE, needs_buyer=True, decline_code="expired_card")

    assert "The card has expired." in client.get(subscription.get_absolute_url()).text


def test_the_second_of_two_clicks_charges_no_month_ahead(
    client: Client, subscription: Subscription, multipay_sandbox: Sandbox
) -> None:
    before = charges_at_clink(multipay_sandbox)

    page = client.post(f"{subscription.get_absolute_url()}charge/", follow=True)

    assert "Nothing is owed." in page.text
    assert charges_at_clink(multipay_sandbox) == before


@pytest.mark.parametrize("way", ["eximbay-plan", "clink"])
def test_a_quarter_is_four_boxes_whoever_charges(
    client: Client,
    pay: Pay,
    deliver_webhook: DeliverWebhook,
    multipay_clock: Clock,
    way: str,
) -> None:
    made = begin(client, pay, way=way)

    for _ in range(3):
        multipay_clock.advance(months=1)
        flows.charge_due_plans()
        deliver_webhook()

    assert made.boxes.count() == 4


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("way", ["eximbay", "clink-plan"])
def test_a_page_exists_for_every_status(client: Client, way: str, status: str) -> None:
    made = subscribe(client, way=way)
    reach(made, status, next_on=date(2030, 1, 31))

    page = client.get(made.get_absolute_url())

    assert page.status_code == 200
    assert f'data-plan-status="{status}"' in page.text
    assert ("/cancel/" in page.text) == (status not in {"canceled", "ended"})
    assert made.reference in client.get("/subscriptions/").text


# What the shop hears --------------------------------------------------------------------


def tell(subscription: Subscription, payment: Payment) -> None:
    """Send the notice of a charge once more, as the outbox does."""
    results = plan_charged.send_robust(
        sender=Payment,
        plan=subscription.plan,
        payment=payment,
        notice_id=str(uuid.uuid4()),
    )
    for _, answer in results:
        assert not isinstance(answer, Exception), answer


def test_a_charge_packs_one_box_however_often_it_is_told(
    client: Client, subscription: Subscription
) -> None:
    payment = plan_of(subscription).payments.get()

    for _ in range(2):
        tell(subscription, payment)

    assert subscription.boxes.get().payment_uuid == payment.uuid
    assert "One box packed" in client.get(subscription.get_absolute_url()).text


def test_a_plan_of_somebody_else_packs_nothing(
    place_order: Callable[..., Any], subscription: Subscription
) -> None:
    _, payment = place_order()
    before = Box.objects.count()
    Subscription.objects.filter(pk=subscription.pk).update(plan=None)

    tell(subscription, payment)

    assert Box.objects.count() == before


def test_staff_read_subscriptions_and_find_the_plan(
    subscription: Subscription,
) -> None:
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))

    for path in ("", f"{subscription.pk}/change/"):
        page = staff.get(f"/admin/shop/subscription/{path}")
        assert page.status_code == 200
        assert subscription.reference in page.text
    page = staff.get(f"/admin/shop/subscription/{subscription.pk}/change/")
    assert f"/multipay/recurringplan/{subscription.plan_id}/" in page.text
    assert staff.get("/admin/shop/subscription/add/").status_code == 403


# The clock -----------------------------------------------------------------------------


def test_the_shop_reads_its_own_clock_unless_told_otherwise() -> None:
    assert abs(clock.now() - timezone.now()) < timedelta(seconds=30)
    assert clock.today() == timezone.localdate()


def test_the_shop_follows_the_clock_it_is_told(
    settings: Settings, multipay_sandbox: Sandbox
) -> None:
    settings.SHOP_CLOCK_URL = f"{multipay_sandbox.url}/_control/clock"
    evening = (timezone.now() + timedelta(days=40)).replace(hour=23, minute=30)
    left = evening - timezone.now()

    multipay_sandbox.post("/_control/clock", {"advance_seconds": left.total_seconds()})

    assert clock.today() == evening.date()
    settings.TIME_ZONE = "Asia/Seoul"
    assert clock.today() == evening.date() + timedelta(days=1)
