"""Lists by cursor: whole, stable and cheap; and how often somebody may ask."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_multipay.api import events, throttles
from django_multipay.enums import PaymentStatus, Verdict
from django_multipay.exceptions import ProviderUnavailable
from django_multipay.flows import deliver_notices, receive_webhook, start_payment
from django_multipay.models import Payment, Transaction, WebhookDelivery
from django_multipay.registry import registry
from tests.api.conftest import caller, paid_payment, user_with
from tests.flows.scripted import (
    HintingProvider,
    account_settings,
    message,
    new_payment,
    snapshot_of,
)

pytestmark = pytest.mark.django_db


def walk(who, path, **query):
    """Every page of a list, by its own links."""
    pages = [who.get(path, **query).json()]
    while pages[-1]["next"]:
        pages.append(who.client.get(pages[-1]["next"]).json())
    return pages


def orders(page) -> list[str]:
    return [row["order_id"] for row in page["results"]]


@pytest.fixture
def five(staff) -> list[str]:
    """Five payments, of which three were made in the same microsecond."""
    names = ["1", "2", "3", "4", "5"]
    made = [new_payment(order_id=name) for name in names]
    same = made[1].created_at
    Payment.objects.filter(order_id__in=["2", "3", "4"]).update(created_at=same)
    return names


@pytest.mark.parametrize("ordering", ["created_at", "-created_at"])
def test_the_pages_hold_every_row_once_in_order(staff, five, ordering):
    pages = walk(staff, "/payments/", page_size=2, ordering=ordering)
    wanted = five if ordering == "created_at" else five[::-1]
    assert [orders(page) for page in pages] == [wanted[:2], wanted[2:4], wanted[4:]]
    back = [staff.client.get(pages[-1]["previous"]).json()]
    back.append(staff.client.get(back[-1]["previous"]).json())
    assert [orders(page) for page in back] == [wanted[2:4], wanted[:2]]
    assert back[-1]["previous"] is None
    assert pages[0]["previous"] is None
    forward = staff.client.get(back[-1]["next"]).json()
    assert orders(forward) == wanted[2:4]


def test_rows_that_come_meanwhile_move_nothing(staff, five):
    first = staff.get("/payments/", page_size=2).json()
    new_payment(order_id="6")
    assert orders(staff.client.get(first["next"]).json()) == ["3", "2"]


def test_a_cursor_tells_nothing_and_fits_one_list(staff, five):
    page = staff.get("/payments/", page_size=2).json()
    for other in (
        staff.get("/payments/", cursor=page["cursor"], ordering="created_at"),
        staff.get("/events/", cursor=page["cursor"]),
        staff.get("/payments/", cursor=page["cursor"].swapcase()),
        staff.get("/payments/", cursor=page["cursor"][:-4]),
    ):
        assert (other.status_code, other.json()["field"]) == (400, "cursor")


def test_integer_keys_never_leave_the_database(staff):
    payment = paid_payment()
    assert payment.pk
    for path in ("/payments/", "/events/", "/refunds/", "/deliveries/"):
        for row in staff.get(path).json()["results"]:
            assert "pk" not in row
            assert not isinstance(row.get("id", ""), int)
            assert not isinstance(row.get("payment", ""), int)


def test_the_filters_find_what_they_name(staff):
    paid = paid_payment(order_id="paid", customer_id="7")
    held = new_payment(order_id="held")
    Payment.objects.filter(pk=held.pk).update(
        review_reason="overpaid", created_at=timezone.now() - timedelta(days=2)
    )
    yesterday = (timezone.now() - timedelta(days=1)).isoformat()
    for query, found in (
        ({"status": "paid"}, ["paid"]),
        ({"status": "created"}, ["held"]),
        ({"order_id": "paid"}, ["paid"]),
        ({"order_id": "pai"}, []),
        ({"customer_id": "7"}, ["paid"]),
        ({"provider": "scripted"}, ["paid", "held"]),
        ({"provider": "other"}, []),
        ({"needs_review": "true"}, ["held"]),
        ({"needs_review": "false"}, ["paid"]),
        ({"created_after": yesterday}, ["paid"]),
        ({"created_before": yesterday}, ["held"]),
        ({"status": "paid", "needs_review": "true"}, []),
    ):
        assert orders(staff.get("/payments/", **query).json()) == found, query
    assert paid.order_id == "paid"


def test_a_page_costs_as_many_queries_as_it_did_with_one_row(staff):
    def cost() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert staff.get("/payments/").status_code == 200
        return len(seen)

    new_payment()
    staff.get("/payments/")
    before = cost()
    for number in range(5):
        new_payment(order_id=str(number))
    assert cost() == before <= 6


# The ledger -----------------------------------------------------------------------------


def test_the_feed_tells_every_fact_and_where_to_go_on(staff, monkeypatch, listen):
    heard = listen("payment_paid")
    monkeypatch.setattr(events, "SETTLED_AFTER", timedelta(0))
    payment = paid_payment()
    deliver_notices()
    page = staff.get("/events/").json()
    (fact,) = page["results"]
    assert fact["kind"] == "capture"
    assert fact["amount"] == {
        "amount": "26.30",
        "currency": "USD",
        "amount_minor": 2630,
    }
    assert fact["payment"] == str(payment.uuid)
    assert fact["id"] in {str(news["notice_id"]) for news in heard}
    assert page["next"] is None

    idle = staff.get("/events/", cursor=page["cursor"]).json()
    assert (idle["results"], idle["cursor"]) == ([], page["cursor"])
    other = paid_payment(order_id="1002")
    news = staff.get("/events/", cursor=idle["cursor"]).json()
    assert [row["payment"] for row in news["results"]] == [str(other.uuid)]
    only = staff.get("/events/", payment=str(payment.uuid), kind="capture").json()
    assert [row["id"] for row in only["results"]] == [fact["id"]]


def test_the_feed_waits_for_transactions_that_may_still_commit(staff):
    """A fact with a smaller key may appear later; nobody must have passed it."""
    paid_payment()
    assert Transaction.objects.count() == 1
    assert staff.get("/events/").json()["results"] == []


# Other lists ---------------------------------------------------------------------------


def test_refunds_are_listed_by_their_payment(staff):
    one, two = paid_payment(order_id="1"), paid_payment(order_id="2")
    made = staff.post("/refunds/", {"payment": str(one.uuid)}).json()
    staff.post("/refunds/", {"payment": str(two.uuid)})
    (found,) = staff.get("/refunds/", payment=str(one.uuid)).json()["results"]
    assert found == made == staff.get(f"/refunds/{made['uuid']}/").json()
    assert (made["status"], made["requested_by"]) == ("succeeded", "ann")
    assert len(staff.get("/refunds/", status="succeeded").json()["results"]) == 2
    assert staff.get("/refunds/", status="failed").json()["results"] == []


def test_messages_are_listed_without_what_they_said(staff):
    payment = paid_payment()
    delivery = WebhookDelivery.objects.create(
        provider="scripted",
        digest="d" * 64,
        payment=payment,
        verdict=Verdict.HELD,
        body="a body",
        payload={"said": "a secret"},
    )
    page = staff.get("/deliveries/", verdict="held")
    assert [row["uuid"] for row in page.json()["results"]] == [str(delivery.uuid)]
    for hidden in ("a body", "a secret", "d" * 64):
        assert hidden not in page.text
    assert staff.get("/deliveries/", verdict="applied").json()["results"] == []


def test_a_message_that_could_not_be_applied_is_applied_again_once(staff, settings):
    settings.MULTIPAY = account_settings(scripted=HintingProvider)
    provider = registry["scripted"]
    assert isinstance(provider, HintingProvider)
    payment = new_payment()
    start_payment(payment)
    provider.will("fetch", ProviderUnavailable("down", "scripted", "fetch"))
    receive_webhook("scripted", message(payment, PaymentStatus.PAID))
    (waiting,) = staff.get("/deliveries/", provider="scripted").json()["results"]
    assert (waiting["verdict"], waiting["applied_at"]) == ("stored", None)

    paid = snapshot_of(payment, PaymentStatus.PAID)
    provider.will("fetch", paid, paid)
    for _ in range(2):
        replayed = staff.post(f"/deliveries/{waiting['uuid']}/replay/", key=None)
        assert (replayed.status_code, replayed.json()["verdict"]) == (200, "applied")
    assert staff.get(f"/deliveries/{waiting['uuid']}/").json() == replayed.json()
    assert staff.get(f"/payments/{payment.uuid}/").json()["status"] == "paid"
    assert payment.transactions.count() == 1


def test_accounts_say_what_they_can_and_nothing_secret(staff, shop):
    (account,) = staff.get("/providers/").json()
    assert account["alias"] == "scripted"
    assert account["capabilities"] == sorted(shop.capabilities)
    assert account["currencies"] == ["EUR", "KRW", "USD"]
    answer = staff.get("/providers/scripted/")
    assert answer.json() == account
    assert shop.options.secret.current not in answer.text
    assert shop.options.account not in answer.text


def test_the_ways_to_pay_depend_on_the_amount(staff):
    for currency, found in (("USD", ["scripted"]), ("JPY", [])):
        ways = staff.get("/methods/", amount="10", currency=currency).json()
        assert [way["provider"] for way in ways] == found
    for query in ({"amount": "10"}, {"amount": "1.5", "currency": "KRW"}):
        assert staff.get("/methods/", **query).status_code == 400


# How often -----------------------------------------------------------------------------


@pytest.fixture
def rates(monkeypatch):
    """Two of everything in a minute."""
    monkeypatch.setattr(throttles, "RATES", dict.fromkeys(throttles.RATES, "2/min"))
    cache.clear()


def statuses(call, times: int = 3) -> list[int]:
    return [call().status_code for _ in range(times)]


def test_everybody_is_counted_alone(staff, buyer, rates):
    payment, other = new_payment(), new_payment(order_id="2")
    path = f"/payments/{payment.uuid}/"
    one, two = buyer(payment), buyer(other)
    assert statuses(lambda: one.get(path)) == [200, 200, 429]
    assert statuses(lambda: two.get(f"/payments/{other.uuid}/")) == [200, 200, 429]
    assert statuses(lambda: staff.get("/payments/")) == [200, 200, 429]
    assert statuses(lambda: caller(user_with(name="bob")).get("/payments/"), 1) == [200]
    late = staff.get("/payments/")
    assert late.json()["code"] == "throttled"
    assert 0 < int(late["Retry-After"]) <= 61


def test_strangers_are_counted_by_address_whatever_they_forge(db, shop, rates):
    tries = [caller(**{"X-Forwarded-For": f"10.0.0.{number}"}) for number in range(3)]
    assert [who.get("/payments/").status_code for who in tries] == [401, 401, 429]
    forger = caller(Authorization="Multipay-Client guess")
    assert forger.get("/payments/").status_code == 429


def test_one_address_opens_few_payments(db, shop, buyer, monkeypatch):
    """Trying cards needs many starts; each of another payment."""
    monkeypatch.setattr(
        throttles, "RATES", {**throttles.RATES, "multipay_start": "2/min"}
    )
    cache.clear()
    made = [new_payment(order_id=str(number)) for number in range(3)]
    opened = [
        buyer(one).post(f"/payments/{one.uuid}/start/", key=None).status_code
        for one in made
    ]
    assert opened == [200, 200, 429]
    assert len(shop.told("start")) == 2


def test_calls_on_money_are_counted_beside_all_others(staff, monkeypatch):
    monkeypatch.setattr(
        throttles, "RATES", {**throttles.RATES, "multipay_money": "2/min"}
    )
    new = {"order_id": "1", "amount": {"amount": "1.00", "currency": "USD"}}
    assert statuses(lambda: staff.post("/payments/", new)) == [201, 201, 429]
    assert statuses(lambda: staff.get("/payments/"), 1) == [200]


def test_the_site_sets_its_own_rates(staff, settings):
    settings.REST_FRAMEWORK = {"DEFAULT_THROTTLE_RATES": {"multipay_staff": "1/min"}}
    assert statuses(lambda: staff.get("/payments/"), 2) == [200, 429]


def test_without_its_cache_the_site_still_takes_money(buyer, monkeypatch):
    class Broken:
        def get(self, *args):
            raise ConnectionError("no cache")

    monkeypatch.setattr(throttles.Throttle, "cache", Broken())
    payment = paid_payment(PaymentStatus.PENDING)
    assert buyer(payment).get(f"/payments/{payment.uuid}/").status_code == 200
