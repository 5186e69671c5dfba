"""What the shop's endpoints were sent, by the API."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from django_multipay.flows import (
    create_endpoint,
    deliver_endpoints,
    deliver_notices,
    disable_endpoint,
)
from django_multipay.flows import endpoints as flow
from django_multipay.models import Endpoint, EndpointDelivery
from django_multipay.outgoing import Receipt
from tests.api.conftest import Caller, paid_payment

pytestmark = pytest.mark.django_db


@pytest.fixture
def heard(monkeypatch) -> list[dict[str, Any]]:
    """What endpoints were sent; the first answer is no, every other one is yes."""
    heard: list[dict[str, Any]] = []

    def send(url: str, **sent: Any) -> Receipt:
        heard.append(sent)
        is_away = len(heard) == 1
        return Receipt(status=503, error="HTTP 503") if is_away else Receipt(status=200)

    monkeypatch.setattr(flow, "send_event", send)
    return heard


@pytest.fixture
def endpoint(staff: Caller, heard) -> Endpoint:
    """An endpoint that did not take the news of one paid payment."""
    endpoint = create_endpoint("https://hooks.example/", events=["payment.paid"])
    paid_payment()
    deliver_notices()
    assert deliver_endpoints() == 0
    return endpoint


def test_what_was_not_taken_is_found_and_sent_again(staff, endpoint, heard):
    other = create_endpoint("https://other.example/")
    found = staff.get("/endpoint-deliveries/", endpoint=str(endpoint.uuid)).json()
    (row,) = found["results"]
    assert row == {
        "endpoint": str(endpoint.uuid),
        "event_id": heard[0]["event_id"],
        "type": "payment.paid",
        "state": "waiting",
        "attempts": 1,
        "last_status": 503,
        "error": "HTTP 503",
        "created_at": row["created_at"],
        "due_at": row["due_at"],
        "delivered_at": None,
    }
    path = f"/endpoint-deliveries/{row['endpoint']}/{row['event_id']}/"
    assert staff.get(path).json() == row
    sent = staff.post(f"{path}send/", key="k-1")
    assert (sent.status_code, sent.json()["state"]) == (200, "delivered")
    assert staff.get(path).json() == sent.json()
    # The same event, as every receiver may expect.
    assert heard[1]["event_id"] == heard[0]["event_id"]
    assert heard[1]["body"] == heard[0]["body"]
    # The same request is the same attempt.
    assert staff.post(f"{path}send/", key="k-1").content == sent.content
    assert len(heard) == 2
    # It is told of, but by another endpoint, or in other letters, nothing is there.
    for wrong in (
        path.replace(row["endpoint"], str(other.uuid)),
        path.replace("evt", "EVT"),
    ):
        assert staff.get(wrong).status_code == 404
        assert staff.post(f"{wrong}send/").status_code == 404


def test_a_disabled_endpoint_is_sent_nothing(staff, endpoint, heard):
    disable_endpoint(endpoint)
    delivery = EndpointDelivery.objects.get()
    path = f"/endpoint-deliveries/{endpoint.uuid}/{delivery.event_id}/send/"
    assert staff.post(path, key=None).json()["state"] == "waiting"
    assert len(heard) == 1


def test_the_filters_find_what_they_name(staff, endpoint):
    now = timezone.now().isoformat()
    for query, count in (
        ({}, 1),
        ({"state": "waiting"}, 1),
        ({"state": "delivered"}, 0),
        ({"type": "payment.paid"}, 1),
        ({"type": "payment.failed"}, 0),
        ({"created_before": now}, 1),
        ({"created_after": now}, 0),
    ):
        found = staff.get("/endpoint-deliveries/", **query).json()["results"]
        assert len(found) == count, query


def test_nothing_of_what_was_sent_and_of_what_signs_it_is_shown(staff, endpoint):
    page = staff.get("/endpoint-deliveries/").content.decode()
    assert "whsec" not in page
    assert "hooks.example" not in page
    assert "26.30" not in page
