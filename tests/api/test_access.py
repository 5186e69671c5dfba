"""Five callers at every endpoint, before their own things and others'."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.test import Client
from django.urls import URLPattern, reverse

from django_multipay.admin.access import BUYER, CHECK, PERMISSIONS, REPLAY
from django_multipay.admin.endpoints import MANAGE
from django_multipay.api import (
    access,
    client_secret,
    deliveries,
    endpoints,
    payments,
)
from django_multipay.api.clients import payment_named_by
from django_multipay.api.urls import urlpatterns
from django_multipay.enums import MethodKind, PaymentStatus
from django_multipay.messages import Method
from django_multipay.models import (
    EndpointDelivery,
    IdempotencyKey,
    Operation,
    Payment,
    RecurringPlan,
    Refund,
    Token,
    Transaction,
    WebhookDelivery,
)
from tests.api.conftest import USD, Caller, caller, ids_beside, paid_payment, user_with
from tests.flows.scripted import (
    ObligingProvider,
    ScriptedProvider,
    account_settings,
    new_payment,
)

pytestmark = pytest.mark.django_db


class Door(NamedTuple):
    """Who may use one method of one endpoint."""

    permission: str
    for_buyers: bool = False
    body: Any = None


REFUND = {"amount": {"amount": "1.00", "currency": "USD"}}

MATRIX = {
    ("payments", "GET"): Door("view_payment"),
    ("payments", "POST"): Door("add_payment", body={"order_id": "1", "amount": USD}),
    ("payment", "GET"): Door("view_payment", for_buyers=True),
    ("start", "POST"): Door("change_payment", for_buyers=True),
    ("refresh", "POST"): Door("change_payment", for_buyers=True),
    ("retry", "POST"): Door("add_payment", for_buyers=True),
    ("cancel", "POST"): Door("void_payment", for_buyers=True),
    ("sync", "POST"): Door("change_payment", for_buyers=True),
    ("payment_methods", "GET"): Door("view_payment", for_buyers=True),
    ("capture", "POST"): Door("capture_payment"),
    ("void", "POST"): Door("void_payment"),
    ("confirm", "POST"): Door("capture_payment"),
    ("settle", "POST"): Door("capture_payment"),
    ("refunds", "GET"): Door("view_refund"),
    ("refunds", "POST"): Door("refund_payment", body=REFUND),
    ("refund", "GET"): Door("view_refund"),
    ("tokens", "GET"): Door("view_token"),
    ("token", "GET"): Door("view_token"),
    ("token", "DELETE"): Door("end_token"),
    ("charge", "POST"): Door("add_payment", body={"order_id": "1", "amount": USD}),
    ("plans", "GET"): Door("view_recurringplan"),
    ("plans", "POST"): Door("manage_plan"),
    ("plan", "GET"): Door("view_recurringplan"),
    ("change_plan", "POST"): Door("manage_plan"),
    ("pause_plan", "POST"): Door("manage_plan"),
    ("resume_plan", "POST"): Door("manage_plan"),
    ("cancel_plan", "POST"): Door("manage_plan"),
    ("charge_plan", "POST"): Door("manage_plan", body={"due_on": "2030-01-31"}),
    ("providers", "GET"): Door("view_payment"),
    ("provider", "GET"): Door("view_payment"),
    ("methods", "GET"): Door("view_payment"),
    ("events", "GET"): Door("view_transaction"),
    ("deliveries", "GET"): Door("view_webhookdelivery"),
    ("delivery", "GET"): Door("view_webhookdelivery"),
    ("replay", "POST"): Door("replay_delivery"),
    ("endpoint_deliveries", "GET"): Door("view_endpointdelivery"),
    ("endpoint_delivery", "GET"): Door("view_endpointdelivery"),
    ("send_again", "POST"): Door("change_endpoint"),
}
"""Written by hand: what the views say is compared with it, not copied from it."""

OPEN = {"schema", "nowhere"}
"""The description is everybody's, and nothing is nobody's."""

ROUTES: dict[str, URLPattern] = {str(route.name): route for route in urlpatterns}


def test_every_endpoint_is_in_the_matrix():
    found = {
        (name, method.upper())
        for name, route in ROUTES.items()
        if name not in OPEN
        for method in ("get", "post", "put", "patch", "delete")
        if hasattr(route.callback.cls, method)
    }
    assert found == set(MATRIX)
    for (name, method), door in MATRIX.items():
        view = ROUTES[name].callback.cls
        assert view.permissions[method] == f"multipay.{door.permission}"
        assert (method in view.open_to_buyers) is door.for_buyers


def test_the_permissions_are_those_of_the_admin():
    assert access.STEPS == PERMISSIONS
    assert (payments.CHECK, access.BUYER_DATA, deliveries.REPLAY, endpoints.SEND) == (
        CHECK,
        BUYER,
        REPLAY,
        MANAGE,
    )


class Things(NamedTuple):
    """One of everything, and a payment of somebody else."""

    payment: Payment
    foreign: Payment
    ids: dict[str, Any]


@pytest.fixture
def things(shop) -> Things:
    payment = paid_payment()
    refund = Refund.objects.create(payment=payment, amount_minor=1)
    return Things(
        payment,
        paid_payment(PaymentStatus.PENDING, order_id="foreign"),
        ids_beside(payment) | {"refund_uuid": str(refund.uuid)},
    )


NOWHERE = {
    name: uuid.UUID("6f9c3c1e-0a52-4a7b-9c43-0d4a3f1f6a10")
    for name in (
        "payment_uuid",
        "refund_uuid",
        "token_uuid",
        "plan_uuid",
        "delivery_uuid",
        "endpoint_uuid",
    )
} | {"alias": "nobody", "event_id": "evt_0"}


def url_of(name: str, ids: dict[str, Any]) -> str:
    wanted = ROUTES[name].pattern.converters
    kwargs = {key: ids[key] for key in wanted}
    query = "?amount=1.00&currency=USD" if name == "methods" else ""
    return reverse(f"multipay_api:{name}", kwargs=kwargs) + query


def knock(who: Caller, name: str, method: str, ids: dict[str, Any]) -> Any:
    body = dict(MATRIX[name, method].body or {}) if (name, method) in MATRIX else {}
    if (name, method) == ("refunds", "POST"):
        body["payment"] = str(ids["payment_uuid"])
    return who.client.generic(
        method,
        url_of(name, ids),
        json.dumps(body) if method == "POST" else b"",
        content_type="application/json",
        headers={**who.headers, "Idempotency-Key": uuid.uuid4().hex},
    )


def world() -> list[Any]:
    """What nobody who is turned away may change."""
    counted = (Payment, Refund, Transaction, Operation, IdempotencyKey)
    return [
        *(model.objects.count() for model in counted),
        *Payment.objects.order_by("id").values_list("status", "updated_at"),
        *Token.objects.values_list("status"),
        *RecurringPlan.objects.values_list("status"),
        *WebhookDelivery.objects.values_list("verdict", "attempts"),
        *EndpointDelivery.objects.values_list("state", "attempts", "due_at"),
    ]


def secret_of(payment: Payment) -> Caller:
    return caller(Authorization=f"Multipay-Client {client_secret(payment)}")


@pytest.mark.parametrize(("name", "method"), MATRIX)
def test_who_may_not_learns_nothing_and_changes_nothing(things, shop, name, method):
    door = MATRIX[name, method]
    everything_else = [
        code
        for code in {one.permission for one in MATRIX.values()} | {"view_buyer_data"}
        if code != door.permission
    ]
    clerk = caller(user_with(*everything_else))
    customer = User.objects.create_user("customer")
    customer.user_permissions.set(clerk_permissions(door.permission))
    before, calls = world(), list(shop.calls)

    turned_away: list[tuple[Caller, dict[str, Any], int]] = [
        (caller(), things.ids, 401),
        (caller(), NOWHERE, 401),
        (clerk, things.ids, 403),
        (clerk, NOWHERE, 403),
        # With the permission, but no member of staff: as in the admin.
        (caller(customer), things.ids, 403),
        (secret_of(things.foreign), things.ids, 404),
        (secret_of(things.foreign), NOWHERE, 404),
        (secret_of(things.payment), NOWHERE, 404),
    ]
    if not door.for_buyers:
        turned_away.append((secret_of(things.payment), things.ids, 404))
    bodies: dict[int, set[bytes]] = {401: set(), 403: set(), 404: set()}
    for who, ids, status in turned_away:
        answer = knock(who, name, method, ids)
        assert answer.status_code == status, answer.content
        bodies[status].add(answer.content)
        assert answer["Content-Type"] == "application/problem+json"
    assert [len(bodies[status]) for status in bodies] == [1, 1, 1]
    assert world() == before
    assert shop.calls == calls


def clerk_permissions(code: str) -> Any:
    from django.contrib.auth.models import Permission

    return Permission.objects.filter(content_type__app_label="multipay", codename=code)


@pytest.mark.parametrize(("name", "method"), MATRIX)
def test_who_may_comes_in_with_this_one_permission(things, name, method):
    door = MATRIX[name, method]
    clerk = caller(user_with(door.permission))
    inside = [knock(clerk, name, method, things.ids)]
    if door.for_buyers:
        inside.append(knock(secret_of(things.payment), name, method, things.ids))
    for answer in inside:
        assert answer.status_code in {200, 201, 400, 409}, answer.content
    if ROUTES[name].pattern.converters:
        missing = knock(clerk, name, method, NOWHERE)
        foreign = caller(
            Authorization=secret_of(things.payment).headers["Authorization"]
        )
        assert missing.status_code == 404
        # What is not there looks to staff as what is foreign looks to buyers.
        assert missing.content == knock(foreign, name, method, NOWHERE).content


@pytest.mark.parametrize("name", sorted({name for name, _ in MATRIX}))
def test_every_other_method_is_refused_whoever_asks(things, name):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        if (name, method) in MATRIX:
            continue
        for who in (caller(), secret_of(things.payment)):
            answer = knock(who, name, method, things.ids)
            assert answer.status_code == 405, (method, answer.content)


@pytest.mark.parametrize(("name", "method"), [key for key in MATRIX if key[1] != "GET"])
def test_a_session_needs_the_csrf_token_and_a_secret_does_not(things, name, method):
    user = user_with()
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    before = world()
    answer = knock(Caller(client), name, method, things.ids)
    assert answer.status_code == 403
    assert answer.json()["code"] == "permission_denied"
    assert world() == before
    buyer = secret_of(things.payment)
    buyer.client = Client(enforce_csrf_checks=True)
    assert knock(buyer, name, method, things.ids).status_code != 403


def test_a_form_that_cannot_be_read_is_turned_away_in_the_words_of_the_api(things):
    """The check of the CSRF token looks into forms before anybody else does."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_with())
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = client.generic(
            "POST",
            reverse("multipay_api:payments"),
            b"--x\r\nContent-Length: nonsense\r\n",
            content_type=kind,
            headers={"Idempotency-Key": "1"},
        )
        assert answer.status_code in {400, 403, 415}
        assert answer["Content-Type"] == "application/problem+json"


def test_unknown_urls_answer_as_foreign_ones(things):
    for path in (
        "",
        "a%0Ab",
        "nothing/",
        "payments/1/",
        "payments",
        f"payments/{uuid.UUID(int=1)}",
    ):
        for who in (
            caller(),
            secret_of(things.payment),
            caller(user_with(name=f"u{path}")),
        ):
            answer = who.get(f"/{path}")
            assert answer.status_code == 404
            assert (
                answer.content
                == knock(secret_of(things.payment), "payment", "GET", NOWHERE).content
            )


# The secret ---------------------------------------------------------------------------

FORGERIES: dict[str, Callable[[Payment, str], str]] = {
    "empty": lambda payment, secret: "",
    "blank": lambda payment, secret: " ",
    "the uuid": lambda payment, secret: payment.uuid.hex,
    "no signature": lambda payment, secret: f"{payment.uuid.hex}:",
    "one byte short": lambda payment, secret: secret[:-1],
    "one byte more": lambda payment, secret: f"{secret}A",
    "twice": lambda payment, secret: f"{secret}{secret}",
    "two at once": lambda payment, secret: f"{secret}, {secret}",
    "in capitals": lambda payment, secret: secret.upper(),
    "another payment's signature": lambda payment, secret: (
        f"{uuid.UUID(int=1).hex}:{secret.partition(':')[2]}"
    ),
    "another purpose": lambda payment, secret: signing.Signer(
        salt="django_multipay.return"
    ).sign(payment.uuid.hex),
    "without a salt": lambda payment, secret: signing.Signer().sign(payment.uuid.hex),
    "another key": lambda payment, secret: signing.Signer(
        key="guessed", salt="django_multipay.api.client_secret"
    ).sign(payment.uuid.hex),
    "no uuid": lambda payment, secret: signing.Signer(
        salt="django_multipay.api.client_secret"
    ).sign("nonsense"),
    "not ASCII": lambda payment, secret: f"{secret}\u00e9",
    "very long": lambda payment, secret: "A" * 50_000,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_secret_opens_nothing(things, name):
    payment = things.payment
    forged = FORGERIES[name](payment, client_secret(payment))
    who = caller(Authorization=f"Multipay-Client {forged}")
    answer = who.get(f"/payments/{payment.uuid}/")
    assert answer.status_code == 401, answer.content
    assert answer["WWW-Authenticate"] == "Multipay-Client"


def test_a_secret_counts_in_its_header_only(things):
    payment, secret = things.payment, client_secret(things.payment)
    path = f"/payments/{payment.uuid}/"
    assert (
        caller(Authorization=f"multipay-client {secret}").get(path).status_code == 200
    )
    for who in (
        caller(Authorization=f"Bearer {secret}"),
        caller(Authorization=f"Token {secret}"),
        caller(**{"X-Client-Secret": secret}),
        caller(**{"X-Forwarded-User": "ann", "Remote-User": "ann"}),
    ):
        assert who.get(path).status_code == 401
    assert caller().get(path, client_secret=secret).status_code == 401


def test_a_retired_key_still_verifies_and_a_lost_one_does_not(things, settings):
    old = client_secret(things.payment)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the next one"
    assert payment_named_by(old) == things.payment.uuid
    assert client_secret(things.payment) != old
    settings.SECRET_KEY_FALLBACKS = []
    assert payment_named_by(old) is None


def test_a_session_beside_the_secret_gives_the_buyer_no_more(things):
    """Whoever sends a secret speaks as a buyer, even in a colleague's browser."""
    clerk = caller(user_with())
    clerk.headers = secret_of(things.payment).headers
    assert knock(clerk, "payments", "GET", things.ids).status_code == 404
    seen = knock(clerk, "payment", "GET", things.ids).json()
    assert "merchant_reference" not in seen


@pytest.mark.parametrize("wish", [{"method": "invoice"}, {"provider": "hidden"}])
def test_a_buyer_starts_only_what_is_on_offer(buyer, shop, settings, monkeypatch, wish):
    card = Method(code="card", kind=MethodKind.CARD)
    invoice = Method(code="invoice", kind=MethodKind.PAGE)
    monkeypatch.setattr(ObligingProvider, "methods", (card, invoice))
    accounts = account_settings(scripted=ObligingProvider, hidden=ScriptedProvider)
    accounts["PROVIDERS"]["scripted"]["METHODS"] = ["card"]
    settings.MULTIPAY = accounts
    # The other account cannot reserve money, so the payment page leaves it out.
    payment = new_payment(provider=None, capture_mode="manual")
    path = f"/payments/{payment.uuid}/start/"
    refused = buyer(payment).post(path, {"provider": "scripted", **wish})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")
    payment.refresh_from_db()
    assert (payment.provider, payment.status) == ("", "created")
    started = buyer(payment).post(path, {"provider": "scripted", "method": "card"})
    assert started.json()["status"] == "pending"
