"""Endpoints at the desk: added, tested, rotated, sent to again; the secret seen once."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.urls import reverse
from django.utils import timezone

from django_multipay.enums import EndpointStatus, PaymentStatus
from django_multipay.flows import create_endpoint, deliver_endpoints, deliver_notices
from django_multipay.flows import endpoints as flow
from django_multipay.models import Endpoint, EndpointDelivery
from django_multipay.outgoing import Receipt

URL = "https://hooks.example/multipay"
LIST = "admin:multipay_endpoint_changelist"
RIGHTS = ("view_endpoint", "change_endpoint", "view_endpointdelivery")


@pytest.fixture(autouse=True)
def receivers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every endpoint takes what it is sent, and it is noted here."""
    heard: list[dict[str, Any]] = []

    def send(url: str, **sent: Any) -> Receipt:
        heard.append({"url": url, **sent})
        return Receipt(status=200)

    monkeypatch.setattr(flow, "send_event", send)
    return heard


@pytest.fixture
def endpoint() -> Endpoint:
    return create_endpoint(URL, events=["payment.paid"])


@pytest.fixture
def sold(paid: Any) -> Any:
    """Make a payment whose money was taken, and of which everybody was told."""

    def make() -> None:
        paid()
        deliver_notices()

    return make


def page_of(row: Any) -> str:
    name = f"admin:multipay_{row._meta.model_name}_change"
    return reverse(name, args=[row.pk])


def press(desk: Any, row: Any, act: str, **fields: str) -> Any:
    """Press a button of the row's page, as the page sends it."""
    name = f"admin:multipay_{row._meta.model_name}_{act}"
    return desk.client.post(reverse(name, args=[row.pk]), fields, follow=True)


def texts(answer: Any) -> str:
    return " ".join(str(item) for item in answer.context["messages"])


def shown_secret(answer: Any) -> str:
    found = re.search(r"<code>(whsec_[^<]+)</code>", answer.content.decode())
    return unescape(found.group(1)) if found else ""


def test_an_endpoint_is_added_and_its_secret_seen_once(ann):
    fields = {"url": URL, "description": "Warehouse", "events": ["payment.paid"]}
    answer = ann.client.post(reverse("admin:multipay_endpoint_add"), fields)
    assert answer.status_code == 302
    endpoint = Endpoint.objects.get()
    assert (endpoint.url, endpoint.description) == (URL, "Warehouse")
    assert endpoint.events == ["payment.paid"]
    (secret,) = endpoint.live_secrets
    pages = [ann.client.get(page_of(endpoint)), ann.client.get(reverse(LIST))]
    assert "not shown yet" in pages[0].content.decode()
    first = press(ann, endpoint, "reveal")
    assert shown_secret(first) == secret
    assert "no-store" in first["Cache-Control"]
    second = press(ann, endpoint, "reveal")
    assert shown_secret(second) == ""
    assert "shown before" in texts(second)
    pages += [second, ann.client.get(page_of(endpoint))]
    assert "Show the secret" not in pages[-1].content.decode()
    for page in pages:
        assert secret not in page.content.decode()
    kept = [session.get_decoded() for session in Session.objects.all()]
    logged = [entry.get_change_message() for entry in LogEntry.objects.all()]
    cookies = [morsel.value for morsel in ann.client.cookies.values()]
    assert secret not in str([kept, logged, cookies])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"url": "http://hooks.example/"}, "does not begin with https://"),
        ({"url": "https://127.0.0.1/"}, "names no host of the internet"),
        ({"url": ""}, "required"),
        ({"url": URL, "events": ["no.event"]}, "not one of the available choices"),
    ],
)
def test_what_cannot_work_is_refused_at_the_field(ann, fields, why):
    answer = ann.client.post(reverse("admin:multipay_endpoint_add"), fields)
    assert why in unescape(answer.content.decode())
    assert not Endpoint.objects.exists()


def test_an_endpoint_is_changed_and_never_deleted(ann, endpoint):
    before = endpoint.live_secrets
    fields = {"url": "https://new.example/", "description": "New", "status": "disabled"}
    assert ann.client.post(page_of(endpoint), fields).status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.events) == ("https://new.example/", [])
    assert endpoint.status == EndpointStatus.ENABLED
    assert endpoint.live_secrets == before
    url = reverse("admin:multipay_endpoint_delete", args=[endpoint.pk])
    assert ann.client.post(url, {"post": "yes"}).status_code == 403
    bad = {"url": "https://10.0.0.1/"}
    assert ann.client.post(page_of(endpoint), bad).status_code == 200
    endpoint.refresh_from_db()
    assert endpoint.url == "https://new.example/"


def test_a_new_secret_can_be_seen_again_once(ann, endpoint, logged):
    (old,) = endpoint.live_secrets
    press(ann, endpoint, "reveal")
    assert "signs on for a day" in texts(press(ann, endpoint, "rotate"))
    endpoint.refresh_from_db()
    new, kept = endpoint.live_secrets
    assert kept == old
    assert shown_secret(press(ann, endpoint, "reveal")) == new
    press(ann, endpoint, "replace")
    endpoint.refresh_from_db()
    assert len(endpoint.live_secrets) == 1
    assert {old, new}.isdisjoint(endpoint.live_secrets)
    assert logged(endpoint) == [
        "ann: Secret shown",
        "ann: New secret",
        "ann: Secret shown",
        "ann: New secret, drop the old one now",
    ]


def test_a_test_event_says_how_it_went(ann, endpoint, receivers, monkeypatch):
    assert "took the event" in texts(press(ann, endpoint, "test"))
    assert [sent["url"] for sent in receivers] == [URL]
    refused = Receipt(status=404, error="the endpoint answered 404")
    monkeypatch.setattr(flow, "send_event", lambda *said, **sent: refused)
    assert "answered 404" in texts(press(ann, endpoint, "test"))


def test_an_endpoint_is_disabled_and_enabled(ann, endpoint, logged):
    press(ann, endpoint, "disable")
    endpoint.refresh_from_db()
    assert endpoint.status == EndpointStatus.DISABLED
    page = ann.client.get(page_of(endpoint)).content.decode()
    assert "Send a test event" not in page
    assert "disable it first" not in page
    assert "enable it first" in texts(press(ann, endpoint, "test"))
    press(ann, endpoint, "enable")
    endpoint.refresh_from_db()
    assert endpoint.status == EndpointStatus.ENABLED
    assert logged(endpoint) == ["ann: Disable", "ann: Enable"]


def test_everything_since_a_moment_is_sent_again(ann, sold, receivers):
    sold()
    endpoint = create_endpoint(URL, events=["payment.paid"])
    early = (timezone.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    late = (timezone.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    assert "0 events" in texts(press(ann, endpoint, "resend", since=late))
    assert "1 event is" in texts(press(ann, endpoint, "resend", since=early))
    assert deliver_endpoints() == 1
    for wrong in ("", "yesterday", "9999-99-99T00:00"):
        answer = press(ann, endpoint, "resend", since=wrong)
        assert "Say since when" in texts(answer)


def test_deliveries_are_read_filtered_and_sent_again(ann, endpoint, sold, receivers):
    other = create_endpoint("https://other.example/")
    sold()
    deliver_endpoints()
    delivery = endpoint.deliveries.get()
    page = ann.client.get(page_of(delivery)).content.decode()
    assert delivery.event_id in page
    assert "Send again" in page
    assert unescape(page).count('"amount_minor": ') == 2
    listed = reverse("admin:multipay_endpointdelivery_changelist")
    for query, count in [
        ({}, EndpointDelivery.objects.count()),
        ({"endpoint": str(endpoint.pk)}, 1),
        ({"endpoint": "0"}, 0),
        ({"endpoint": "x"}, 0),
        ({"endpoint": str(other.pk), "state__exact": "waiting"}, 0),
    ]:
        found = ann.client.get(listed, query)
        assert found.context["cl"].result_count == count, query
    assert ann.client.get(listed, {"endpoint__secrets__gt": "a"}).status_code == 400
    before = len(receivers)
    assert "took the event" in texts(press(ann, delivery, "send"))
    assert receivers[before]["event_id"] == delivery.event_id
    for tail in ("change/", "delete/"):
        assert ann.client.post(f"{listed}{delivery.pk}/{tail}").status_code == 403


def test_no_page_shows_a_secret(ann, endpoint, sold):
    (secret,) = endpoint.live_secrets
    sold()
    deliver_endpoints()
    rows = [endpoint, endpoint.deliveries.get()]
    urls = [page_of(row) for row in rows]
    urls += [page_of(endpoint).replace("/change/", "/history/"), reverse(LIST)]
    urls += [reverse("admin:multipay_endpointdelivery_changelist")]
    for url in urls:
        page = ann.client.get(url)
        assert page.status_code == 200
        assert secret not in page.content.decode()
    assert ann.client.get(reverse(LIST), {"secrets__gt": "a"}).status_code == 400


@pytest.mark.parametrize(
    "permissions",
    [[], ["view_endpoint", "view_endpointdelivery"], ["change_payment"]],
)
def test_who_may_not_change_endpoints_gets_no_button(desk, endpoint, sold, permissions):
    sold()
    delivery = endpoint.deliveries.get()
    person = desk("person", *permissions)
    for row in (endpoint, delivery):
        page = person.client.get(page_of(row)).content.decode()
        assert "formaction" not in page
    for act in ("reveal", "resend", *EVERY_ACT):
        assert press(person, endpoint, act).status_code == 403
    assert press(person, delivery, "send").status_code == 403
    endpoint.refresh_from_db()
    assert endpoint.secret_shown_at is None
    allowed = desk("allowed", *RIGHTS)
    assert "formaction" in allowed.client.get(page_of(endpoint)).content.decode()
    assert press(allowed, delivery, "send").status_code == 200


EVERY_ACT = ("test", "rotate", "replace", "disable", "enable")


def test_looking_at_the_address_of_a_step_does_nothing(ann, endpoint):
    for act in ("reveal", "resend", *EVERY_ACT):
        url = reverse(f"admin:multipay_endpoint_{act}", args=[endpoint.pk])
        assert ann.client.get(url).status_code == 405
        nobody = reverse(f"admin:multipay_endpoint_{act}", args=[10**9])
        assert ann.client.post(nobody).status_code == 404
    nothing = reverse("admin:multipay_endpointdelivery_send", args=[10**9])
    assert ann.client.post(nothing).status_code == 404


def test_a_secret_that_no_key_opens_is_told_and_can_be_replaced(
    ann, endpoint, settings
):
    settings.MULTIPAY |= {"ENCRYPTION_KEYS": ["a quite new key of this test"]}
    assert ann.client.get(page_of(endpoint)).status_code == 200
    assert "ENCRYPTION_KEYS" in texts(press(ann, endpoint, "reveal"))
    press(ann, endpoint, "rotate")
    assert shown_secret(press(ann, endpoint, "reveal")).startswith("whsec_")


def test_the_overview_counts_endpoints_in_trouble(ann, endpoint):
    overview = reverse("admin:multipay_payment_overview")
    label = "Endpoints that were disabled because nothing was taken"
    Endpoint.objects.update(status="disabled", disabled_reason="staff")
    assert label not in ann.client.get(overview).content.decode()
    Endpoint.objects.update(disabled_reason="failing")
    page = ann.client.get(overview).content.decode()
    assert label in page
    assert f"{reverse(LIST)}?status__exact=disabled" in page


def test_the_money_is_told_whoever_looks(ann, endpoint, payment_that_is):
    """The admin's own steps go through the outbox like everything else."""
    payment = payment_that_is(PaymentStatus.AUTHORIZED)
    ann.confirm(payment, "capture")
    assert endpoint.deliveries.get().event_type == "payment.paid"
