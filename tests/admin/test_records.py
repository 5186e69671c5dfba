"""The inbox and the other records: read by staff, changed by nobody, told no secrets."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from moneyed import Money

from django_multipay.enums import PaymentStatus, PlanManager, Verdict
from django_multipay.exceptions import ProviderUnavailable
from django_multipay.flows import receive_webhook, refund_payment
from django_multipay.messages import BankAccount
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    RecurringPlan,
    Refund,
    Token,
    WebhookDelivery,
)
from tests.flows.scripted import message, snapshot_of

PAID, PENDING = PaymentStatus.PAID, PaymentStatus.PENDING
MODELS = {
    "webhookdelivery": WebhookDelivery,
    "refund": Refund,
    "operation": Operation,
    "notice": Notice,
    "token": Token,
    "recurringplan": RecurringPlan,
}
SECRETS = [
    "110-123-456789",
    "tok_secret",
    "digest-of-the-token",
    "fingerprint-1",
    "key-of-the-caller",
    "lease-1",
    "a secret of forty-two",
]


@pytest.fixture
def records(paid, payment_that_is):
    """One row of every kind, with everything that no page may show."""
    payment = paid(alias="bank")
    account = BankAccount(holder="Kim", bank_code="088", number="110-123-456789")
    refund_payment(payment, Money("1.00", "USD"), account=account, by="carl")
    Refund.objects.update(account={"account": {"number": "110-123-456789"}})
    Operation.objects.filter(kind="refund").update(
        key="key-1", client_key="key-of-the-caller", lease_token="lease-1"
    )
    receive_webhook("bank", message(payment, PAID, amount="1.00"))
    token = Token.objects.create(
        provider="bank",
        customer_id="maria@example.com",
        provider_token="tok_secret",
        token_digest="digest-of-the-token",
        fingerprint="fingerprint-1",
        brand="VISA",
        last4="4242",
        created_by_payment=payment,
    )
    RecurringPlan.objects.create(
        provider="bank",
        customer_id="maria@example.com",
        amount_minor=1990,
        currency="USD",
        start_on=date(2026, 1, 1),
        managed_by=PlanManager.APP,
        first_payment=payment,
        token=token,
    )
    Operation.objects.create(kind="charge", token=token, amount_minor=5)
    return payment


def list_of(model: str) -> str:
    return reverse(f"admin:multipay_{model}_changelist")


def page_of(model: str, pk: Any) -> str:
    return reverse(f"admin:multipay_{model}_change", args=[pk])


def texts(response: Any) -> str:
    return " ".join(str(item) for item in response.context["messages"])


# To be read -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_records_are_read_and_never_written(ann, records, model):
    for pk in [*MODELS[model].objects.values_list("pk", flat=True)]:
        page = ann.client.get(page_of(model, pk))
        assert page.status_code == 200
        text = page.content.decode()
        assert "<textarea" not in text
        assert 'name="_save"' not in text
        assert 'class="deletelink"' not in text
        before = [*MODELS[model].objects.values()]
        forged = {"amount_minor": "1", "status": "failed", "_save": "1"}
        for tail in ("change/", "delete/"):
            url = list_of(model) + f"{pk}/{tail}"
            assert ann.client.post(url, forged).status_code == 403
        chosen = {"action": "delete_selected", "_selected_action": pk}
        ann.client.post(list_of(model), chosen)
        assert [*MODELS[model].objects.values()] == before
    assert ann.client.get(list_of(model) + "add/").status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_records_tell_no_secret(ann, records, model):
    pages = [ann.client.get(list_of(model))]
    pages += [
        ann.client.get(page_of(model, pk))
        for pk in MODELS[model].objects.values_list("pk", flat=True)
    ]
    for page in pages:
        assert page.status_code == 200
        for secret in SECRETS:
            assert secret not in page.content.decode()


@pytest.mark.parametrize("model", MODELS)
def test_records_need_the_right_to_see_them(desk, records, model):
    row = MODELS[model].objects.values_list("pk", flat=True)[0]
    urls = [list_of(model), page_of(model, row)]
    blind = desk("blind", "view_payment", "refund_payment", "replay_delivery")
    assert {blind.client.get(url).status_code for url in urls} == {403}
    for act in ("view", "change"):
        person = desk(act, f"{act}_{model}")
        assert {person.client.get(url).status_code for url in urls} == {200}


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        ("token", "provider_token__gt"),
        ("token", "fingerprint__startswith"),
        ("token", "token_digest__startswith"),
        ("token", "customer_id__startswith"),
        ("operation", "key__startswith"),
        ("operation", "client_key__startswith"),
        ("operation", "lease_token__startswith"),
        ("operation", "payment__buyer_email__startswith"),
        ("refund", "account__startswith"),
        ("refund", "payment__buyer_name__contains"),
        ("webhookdelivery", "payload__startswith"),
        ("webhookdelivery", "digest__startswith"),
        ("notice", "payment__metadata__secret"),
    ],
)
def test_no_address_asks_a_hidden_column(ann, records, model, lookup):
    assert ann.client.get(list_of(model), {lookup: "a"}).status_code == 400


@pytest.mark.parametrize(
    ("model", "query"),
    [
        ("webhookdelivery", {"verdict__exact": "held"}),
        ("refund", {"status__exact": "succeeded", "is_external__exact": "0"}),
        ("operation", {"state__exact": "succeeded", "kind__exact": "refund"}),
        ("operation", {"needs_approval__exact": "0", "o": "1.-2"}),
        ("notice", {"state__exact": "delivered"}),
        ("token", {"status__exact": "active"}),
        ("recurringplan", {"status__exact": "pending", "managed_by__exact": "app"}),
    ],
)
def test_the_filters_beside_the_list_work(ann, records, model, query):
    listed = ann.client.get(list_of(model), query)
    assert listed.status_code == 200
    assert listed.context["cl"].result_count > 0


def test_amounts_are_shown_as_money(ann, records):
    for model, amount in (("refund", "$1.00"), ("recurringplan", "$19.90")):
        row = MODELS[model].objects.values_list("pk", flat=True)[0]
        for url in (list_of(model), page_of(model, row)):
            assert amount in ann.client.get(url).content.decode()


def test_customers_are_masked_for_whom_may_not_see_buyers(desk, records):
    rights = ["view_token", "view_recurringplan"]
    trusted, nosy = desk("trusted", *rights, "view_buyer_data"), desk("nosy", *rights)
    for model in ("token", "recurringplan"):
        row = MODELS[model].objects.values_list("pk", flat=True)[0]
        for url in (list_of(model), page_of(model, row)):
            assert "maria@example.com" in trusted.client.get(url).content.decode()
            shown = nosy.client.get(url).content.decode()
            assert "maria" not in shown
            assert "m•••@example.com" in shown


@pytest.mark.parametrize("model", ["webhookdelivery", "refund", "operation", "notice"])
def test_a_list_asks_the_same_questions_whatever_its_length(ann, paid, model):
    payment = paid()

    def fill(count: int) -> None:
        for number in range(count):
            refund = Refund.objects.create(payment=payment, amount_minor=1)
            Operation.objects.create(kind="refund", payment=payment, refund=refund)
            Notice.objects.create(payment=payment, refund=refund)
            WebhookDelivery.objects.create(
                provider="scripted", digest=f"{count} {number}", payment=payment
            )

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert ann.client.get(list_of(model)).status_code == 200
        return len(captured)

    fill(3)
    few = queries()
    fill(150)
    assert queries() <= few + 1 <= 6


def test_rows_whose_envelope_no_key_opens_are_readable(ann, records):
    with connection.cursor() as cursor:
        for table, column in [
            ("payment", "checkout_data"),
            ("refund", "account"),
            ("token", "provider_token"),
            ("webhookdelivery", "payload"),
        ]:
            cursor.execute(f"UPDATE multipay_{table} SET {column} = 'unreadable'")
    for model in MODELS:
        assert ann.client.get(list_of(model)).status_code == 200
        for pk in MODELS[model].objects.values_list("pk", flat=True):
            assert ann.client.get(page_of(model, pk)).status_code == 200
    assert ann.page(records).status_code == 200


@pytest.mark.parametrize("object_id", ["x", "0", "9" * 30, "%00", "1.5", "_"])
@pytest.mark.parametrize("model", MODELS)
def test_no_address_of_a_record_breaks_it(ann, records, model, object_id):
    url = f"{list_of(model)}{object_id}/change/"
    assert ann.client.get(url, follow=True).status_code in {200, 404}


# Applied again ---------------------------------------------------------------------------


def replay(desk: Any, delivery: WebhookDelivery) -> Any:
    url = reverse("admin:multipay_webhookdelivery_replay", args=[delivery.pk])
    return desk.client.post(url, follow=True)


def button(desk: Any, delivery: WebhookDelivery) -> bool:
    page = desk.client.get(page_of("webhookdelivery", delivery.pk)).content.decode()
    url = reverse("admin:multipay_webhookdelivery_replay", args=[delivery.pk])
    return f'formaction="{url}"' in page


@pytest.fixture
def stored(payment_that_is, provider):
    """A message that waits, because the provider could not be asked about it."""
    payment = payment_that_is(PENDING)
    provider.will("fetch", ProviderUnavailable("away", "scripted", "fetch"))
    receive_webhook("scripted", message(payment, PAID, ask=True))
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.STORED
    return payment, delivery


def test_a_stored_message_is_applied(ann, stored, provider, logged):
    payment, delivery = stored
    assert button(ann, delivery)
    provider.will("fetch", snapshot_of(payment, PAID))
    assert "Applied again: applied" in texts(replay(ann, delivery))
    payment.refresh_from_db()
    assert payment.status == PAID
    assert logged(delivery) == ["ann: Message applied again: applied"]
    assert logged(payment) == logged(delivery)


def test_a_message_that_must_wait_on_says_why(ann, stored, provider):
    _payment, delivery = stored
    provider.will("fetch", ProviderUnavailable("still away", "scripted", "fetch"))
    answer = replay(ann, delivery)
    assert "stored, not applied yet" in texts(answer)
    assert "still away" in answer.content.decode()


def test_a_held_message_is_held_again_while_nothing_changed(
    ann, payment_that_is, logged
):
    payment = payment_that_is(PENDING)
    receive_webhook("scripted", message(payment, PAID, amount="1.00"))
    delivery = WebhookDelivery.objects.get()
    assert button(ann, delivery)
    assert "held for staff" in texts(replay(ann, delivery))
    payment.refresh_from_db()
    assert (payment.status == PAID, len(logged(delivery))) == (False, 1)


def test_an_applied_message_offers_nothing_and_changes_nothing(
    ann, payment_that_is, logged
):
    payment = payment_that_is(PENDING)
    receive_webhook("scripted", message(payment, PAID))
    delivery = WebhookDelivery.objects.get()
    assert delivery.verdict == Verdict.APPLIED
    assert not button(ann, delivery)
    before = [*WebhookDelivery.objects.values()]
    assert "nothing is left to apply" in texts(replay(ann, delivery))
    assert [*WebhookDelivery.objects.values()] == before
    assert logged(delivery) == []


@pytest.mark.parametrize(
    "permissions",
    [
        [],
        ["view_webhookdelivery"],
        ["change_webhookdelivery"],
        ["replay_delivery"],
        ["view_payment", "change_payment", "refund_payment", "capture_payment"],
    ],
)
def test_only_who_may_see_and_replay_does(desk, stored, permissions):
    _payment, delivery = stored
    person = desk("person", *permissions)
    assert not button(person, delivery)
    assert replay(person, delivery).status_code == 403
    allowed = desk("allowed", "view_webhookdelivery", "replay_delivery")
    assert button(allowed, delivery)
    assert replay(allowed, delivery).status_code == 200


def test_looking_at_the_way_to_apply_again_does_nothing(ann, stored):
    _payment, delivery = stored
    url = reverse("admin:multipay_webhookdelivery_replay", args=[delivery.pk])
    assert ann.client.get(url).status_code == 405
    unknown = reverse("admin:multipay_webhookdelivery_replay", args=[10**9])
    assert ann.client.post(unknown).status_code == 404


def test_a_message_that_no_key_opens_is_told_and_not_lost(ann, stored):
    _payment, delivery = stored
    with connection.cursor() as cursor:
        cursor.execute("UPDATE multipay_webhookdelivery SET payload = 'unreadable'")
    answer = replay(ann, delivery)
    assert answer.status_code == 200
    assert texts(answer)


def test_a_message_of_an_account_that_left_is_told(ann, stored, settings):
    _payment, delivery = stored
    settings.MULTIPAY = settings.MULTIPAY | {"PROVIDERS": {}}
    assert "stored, not applied yet" in texts(replay(ann, delivery))


def test_a_message_about_no_payment_is_shown(ann):
    delivery = WebhookDelivery.objects.create(
        provider="gone", digest="1", source="webhook", verdict=Verdict.HELD
    )
    WebhookDelivery.objects.update(received_at=timezone.now() - timedelta(days=9))
    assert ann.client.get(list_of("webhookdelivery")).status_code == 200
    page = ann.client.get(page_of("webhookdelivery", delivery.pk))
    assert page.status_code == 200
    assert not Payment.objects.exists()
