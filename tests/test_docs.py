"""The pages say what the code does: their examples run, their lists are whole."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.dispatch import Signal

from django_multipay import checks, enums, flows, models, signals, urls
from django_multipay.admin.access import BUYER, CHECK, PERMISSIONS, REPLAY
from django_multipay.admin.payments import STEPS
from django_multipay.checks import check_settings
from django_multipay.conf import DEFAULTS
from django_multipay.flows.endpoints import EVENT_TYPES, event_type_of
from django_multipay.ledger.endpoints import ENDPOINT_DELAYS, JITTER, PATIENCE
from django_multipay.registry import registry
from docs._generate import (
    CAPABILITIES,
    fields_table,
    provider_classes,
    providers_table,
    words_table,
)

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

GIVEN = """
import pathlib
from datetime import timedelta
from django.db import transaction
from django.dispatch import receiver
from django.shortcuts import redirect
from django.urls import include, path
from moneyed import Money
from django_multipay.exceptions import (
    InvalidTransition, OutcomeUnknown, ProviderUnavailable,
)
from django_multipay.flows import (
    abandon_operation, approve_refund, capture_payment, create_payment, reconcile,
    refund_payment, settle_payment, start_payment, sync_payment, sync_refund,
    void_payment,
)
from django_multipay.messages import Buyer
from django_multipay.models import Payment
from django_multipay.signals import payment_paid

BASE_DIR = pathlib.Path("/nowhere")
INSTALLED_APPS, urlpatterns, shipped = [], [], []

def env(name):
    return {"MULTIPAY_KEY": "a key of sixteen characters or more"}.get(
        name,
        "1849705C64" if name.endswith("MID")
        else "https://api-test.eximbay.com" if name.endswith("URL")
        else "test_1849705C642C217E0B2D",
    )

class Order:
    number, name, email = "1001", "Hong Gil Dong", "buyer@example.com"
    def mark_as_paid(self):
        shipped.append(self.number)

orders = {"1001": Order()}

class Shipment:
    @staticmethod
    def get_or_create(notice_id, order_id):
        shipped.append(order_id)
"""
"""What a reader of the examples has: imports, an environment, a shop."""

BOUGHT = """
from contextlib import closing
from tests.flows.buyer import EximbayBuyer

def bought(order_id, amount="26.30", **more):
    payment = create_payment(
        provider="cards",
        order_id=order_id,
        amount=Money(amount, "USD"),
        buyer=Buyer(name="Hong Gil Dong", email="buyer@example.com"),
        **more,
    )
    start_payment(payment)
    buyer = EximbayBuyer(payment)
    with closing(buyer.client):
        buyer.pay()
    sync_payment(payment)
    return payment

payment, another = bought("1001"), bought("1002")
reserved = bought("1003", capture_mode="manual")
unwanted = bought("1004", capture_mode="manual")
large = bought("1005", "900.00")
"""
"""Payments at the sandbox, for the pages that begin after the checkout."""

A_CUSTOMER = """
from contextlib import closing
from urllib.parse import urlsplit
from django.test import Client
from django_multipay.flows import charge_token, delete_token
from django_multipay.models import Token
from tests.flows.buyer import EximbayBuyer

def pay_as_the_buyer(payment):
    start_payment(payment)
    buyer = EximbayBuyer(payment)
    with closing(buyer.client):
        url, body = buyer.pay(method="P101")
    form = "application/x-www-form-urlencoded"
    Client().post(urlsplit(url).path, body, content_type=form)
"""
"""A buyer at the sandbox whose card the provider keeps."""

A_SUBSCRIBER = (
    A_CUSTOMER
    + """
from django.utils import timezone
from django_multipay.flows import (
    cancel_plan, change_plan, charge_due_plans, create_plan, pause_plan,
    recovery_payment, resume_plan,
)
from django_multipay.signals import plan_status_changed
"""
)
"""The same, and what a shop with plans imports."""

AN_OPERATOR = """
from django.conf import settings
from django.utils import timezone
from django_multipay.flows import drift_report, erase_buyer
from django_multipay.signals import account_health_changed

MULTIPAY, DATABASES, alarms = dict(settings.MULTIPAY), {"default": {}}, []
"""
"""Whoever runs the site."""

A_VISITOR = """
import copy
from django.conf import settings
from django.test import Client, override_settings
from django_multipay.flows import cancel_payment, retry_payment, ways_for
from django_multipay.views.letters import deposit_letter

offering = copy.deepcopy(settings.MULTIPAY)
del offering["PROVIDERS"]["eximbay"]
offering["PROVIDERS"]["cards"]["METHODS"] = ["P000", "P302", "P001", ""]
override_settings(MULTIPAY=offering).enable()
client = Client()
waiting = create_payment(
    provider="cards", order_id="1002", amount=Money("50000", "KRW"), locale="en"
)
waiting.details = {"virtual_account_number": "27490176218341"}
"""
"""A browser, and a shop whose account offers several methods."""

A_LIVE_SITE = """
from django.test import override_settings

DATABASES = {"default": {}}

def env(name):
    return {
        "EXIMBAY_MID": "ABCDEF1234",
        "EXIMBAY_API_KEY": "live_ABCDEF1234ABCDEF12",
        "MULTIPAY_KEY": "a key of sixteen characters or more",
    }[name]
"""
"""Real money: no test key, no test host."""

A_MOVE = (
    BOUGHT[: BOUGHT.index("payment, another")]
    + """
orders["1002"] = Order()
orders["1002"].number = "1002"

def was_paid_before(order_number):
    return False
"""
)
"""A shop whose old package took other orders."""

PAGES = {
    "README.md": """
assert INSTALLED_APPS == ["django_multipay"]
assert len(urlpatterns) == 1
assert pay(None, orders["1001"]).url.startswith("/payments/")
ship(payment=Payment.objects.get(), notice_id="1")
assert shipped == ["1001"]
""",
    "docs/api.md": """
assert len(urlpatterns) == 2
assert INSTALLED_APPS == ["rest_framework", "rest_framework.authtoken"]
payment = create_payment(
    provider="cards", order_id="1001", amount=Money("26.30", "USD")
)
assert payment.uuid.hex in checkout_data(payment)["secret"]
""",
    "docs/settings.md": "assert DATABASES['default']['NAME'].name == 'db.sqlite3'",
    "docs/models.md": "",
    "docs/flow.md": """
ship(payment=payment, notice_id="1")
assert shipped == ["1001"]
""",
    "docs/webhooks.md": """
from django_multipay.signatures import standard_webhook_signature
now = datetime.now(UTC)
body = b'{"id":"1","type":"payment.paid","data":{"payment":{"order_id":"1001"}}}'
headers = {
    "webhook-id": "1",
    "webhook-timestamp": str(int(now.timestamp())),
    "webhook-signature": standard_webhook_signature(secret, "1", now, body),
}
assert [receive(body, headers) for _ in range(2)] == [204, 204]
assert shipped == ["1001"]
""",
    "docs/refunds.md": """
for refunded in (payment, another, large):
    refunded.refresh_from_db()
    assert refunded.status == Payment.Status.REFUNDED
""",
    "docs/pages.md": "",
    "docs/plans.md": "plan_status_changed.disconnect(dun)",
    "docs/tokens.md": "assert Token.objects.get().provider_token is None",
    "docs/operations.md": """
account_health_changed.disconnect(page_somebody)
assert TASKS and RQ_QUEUES and DATABASES
""",
    "docs/going-live.md": """
from django_multipay.checks import check_deployment
assert "lock_timeout" in DATABASES["default"]["OPTIONS"]["options"]
with override_settings(MULTIPAY=MULTIPAY):
    assert check_deployment() == []
""",
    "docs/moving.md": """
assert len(urlpatterns) == 1
assert pay(None, orders["1001"]).url.startswith("/payments/")
bought = bought("1002")
assert shipped == ["1002"]
assert is_paid("1002") and not is_paid("1001")
assert give_back(bought, Money("6.30", "USD"), "ann").amount_minor == 630
""",
    "docs/scaling.md": "assert TASKS and RQ_QUEUES and CACHES",
    "docs/security.md": "",
    "docs/troubleshooting.md": "assert ShopConfig.ready",
    "docs/providers/clink.md": "",
    "docs/providers/easybilling.md": "",
    "docs/providers/excoinz.md": "",
    "docs/providers/eximbay.md": "",
    "docs/providers/payer.md": "",
}
"""The pages whose Python runs, with what must be true afterwards."""

RUN_ELSEWHERE = {
    "docs/quickstart.md": "tests/test_quickstart.py",
    "docs/testing.md": "tests/testing/test_page.py",
}
"""Pages whose Python is a project of its own, and the test that runs it."""

BEFORE = {
    "docs/going-live.md": A_LIVE_SITE,
    "docs/moving.md": A_MOVE,
    "docs/security.md": AN_OPERATOR,
    "docs/operations.md": AN_OPERATOR,
    "docs/scaling.md": AN_OPERATOR,
    "docs/pages.md": A_VISITOR,
    "docs/refunds.md": BOUGHT,
    "docs/tokens.md": A_CUSTOMER,
    "docs/plans.md": A_SUBSCRIBER,
}
"""What is true before the first example of a page."""


def python_of(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shop(sandbox_settings):
    """The settings of the examples, before a running sandbox."""
    account = sandbox_settings.MULTIPAY["PROVIDERS"]["eximbay"]
    account["OPTIONS"]["shop_url"] = "https://shop.example/"
    sandbox_settings.MULTIPAY = {
        "PROVIDERS": {"eximbay": account, "cards": account},
        "SITE_URL": "https://shop.example",
        "REFUND_APPROVAL_ABOVE": {"USD": "500.00"},
    }
    return sandbox_settings


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run_in_their_order(shop, page):
    blocks = python_of(page)
    assert blocks
    namespace: dict = {"__name__": "example"}
    try:
        for block in [GIVEN, BEFORE.get(page, ""), *blocks, PAGES[page]]:
            exec(compile(block, page, "exec"), namespace)
    finally:
        signals.payment_paid.disconnect(namespace.get("ship"))
    if "MULTIPAY" in namespace:
        shop.MULTIPAY = namespace["MULTIPAY"]
        assert check_settings() == []
        assert list(registry)


def test_no_page_with_python_is_forgotten():
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    names = [
        page.relative_to(ROOT).as_posix() for page in pages if "_build" not in str(page)
    ]
    executed = {*PAGES, *RUN_ELSEWHERE}
    assert {name for name in names if python_of(name)} == executed
    for page, test in RUN_ELSEWHERE.items():
        assert f'"{Path(page).name}"' in (ROOT / test).read_text(encoding="utf-8")


def generated(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("model", models.__all__)
def test_the_page_of_the_models_lists_every_field(model):
    table = fields_table(getattr(models, model))
    assert f"\n## {model}\n" in generated("models.md")
    assert table in generated("models.md")


@pytest.mark.parametrize(
    "name",
    [
        "PaymentStatus",
        "ReviewReason",
        "DeclineCode",
        "TransactionKind",
        "RefundStatus",
        "OperationState",
        "Verdict",
        "BatchKind",
        "BatchItemState",
        "EndpointTrouble",
        "EndpointDeliveryState",
    ],
)
def test_the_page_of_the_models_lists_every_word(name):
    table = words_table(getattr(enums, name))
    assert table in generated("models.md")


def test_the_page_of_the_providers_compares_all_of_them():
    slugs = [provider.slug for provider in provider_classes()]
    assert slugs == ["clink", "easybilling", "excoinz", "eximbay", "payer"]
    assert list(CAPABILITIES) == list(enums.Capability)
    assert providers_table() in generated("providers.md")
    for slug in slugs:
        assert f"](providers/{slug}.md)" in providers_table()
        assert generated(f"providers/{slug}.md")


def test_every_setting_has_its_chapter():
    chapters = re.findall(r"^## `(\w+)`$", generated("settings.md"), re.MULTILINE)
    assert chapters == list(DEFAULTS)


def test_the_guide_for_staff_knows_every_reason_step_and_permission():
    guide = generated("staff.md").lower()
    labels = [
        *enums.ReviewReason.labels,
        *enums.Verdict.labels,
        *enums.BatchKind.labels,
        *(step.verb for step in STEPS.values()),
    ]
    for label in labels:
        assert str(label).lower() in guide, label
    codes = {*PERMISSIONS.values(), BUYER, CHECK, REPLAY}
    for model in (models.Payment, models.WebhookDelivery):
        codes |= {code for code, _ in model._meta.permissions}
    for code in codes:
        assert f"`{code.removeprefix('multipay.')}`" in guide, code


def test_every_signal_is_listed_once():
    listed = re.findall(r"^\| `(\w+)` \|", generated("flow.md"), re.MULTILINE)
    sent = [
        name for name in vars(signals) if isinstance(getattr(signals, name), Signal)
    ]
    assert sorted(listed) == sorted(sent)


def test_the_words_of_the_drawings_are_words_of_the_code():
    drawings = re.findall(
        r"^```text\n(.*?)^```", generated("flow.md"), re.MULTILINE | re.DOTALL
    )
    picture = generated("_static/flow.svg")
    words = set(re.findall(r"`(\w+)`", "".join(drawings)))
    words |= set(re.findall(r'class="word">(\w+)<', picture))
    for flow in re.findall(r"(\w+)\(\)", picture):
        assert hasattr(flows, flow)
    known = {
        *enums.PaymentStatus.values,
        *enums.RefundStatus.values,
        *enums.OperationState.values,
        *enums.Verdict.values,
        *enums.NoticeState.values,
    }
    assert "](_static/flow.svg)" in generated("flow.md")
    assert len(drawings) == 1
    assert words
    assert words <= known


def test_the_page_of_the_outgoing_webhooks_lists_every_event():
    listed = re.findall(
        r"^\| `(\w+\.\w+)` \| `(\w+)` \|$", generated("webhooks.md"), re.MULTILINE
    )
    assert [event_type for event_type, _ in listed] == list(EVENT_TYPES)
    assert all(event_type == event_type_of(signal) for event_type, signal in listed)


def test_the_page_of_the_outgoing_webhooks_tells_the_schedule():
    page = generated("webhooks.md")
    (said,) = re.findall(r"sent again after (.+?):", page)
    seconds = [delay // timedelta(seconds=1) for delay in ENDPOINT_DELAYS]
    assert seconds == [5, 5 * 60, 30 * 60, *(3600 * n for n in (2, 5, 10, 14, 20, 20))]
    assert said == "5 seconds, 5 minutes, 30 minutes, 2, 5, 10, 14, 20 and 20 hours"
    assert timedelta(days=5) == PATIENCE
    assert JITTER == 10


# Everything that has a name is explained, and nothing else ------------------------


def all_pages() -> dict[str, str]:
    """Every page, by its path from the root; the docs include the last three."""
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
    return {
        page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
        for page in pages
        if "_build" not in page.parts
    }


def test_every_check_is_listed():
    listed = re.findall(
        r"^\| `(multipay\.\w+)` \|", generated("checks.md"), re.MULTILINE
    )
    given = set(re.findall(r'id="(multipay\.\w+)"', inspect.getsource(checks)))
    assert listed == sorted(listed)
    assert set(listed) == given


def test_every_address_is_listed():
    listed = re.findall(
        r"^\| `(\w+)` \| `([\w<>/]+)` \|", generated("pages.md"), re.MULTILINE
    )
    routes = {
        pattern.name: re.sub(r"<\w+:(?:\w+_)?(\w+)>", r"<\1>", str(pattern.pattern))
        for pattern in urls.urlpatterns
    }
    assert dict(listed) == routes


def test_every_command_is_explained_and_is_called_as_it_can_be():
    commands = {
        name
        for name, app in get_commands().items()
        if app == "django_multipay" and not name.startswith("_")
    }
    text = "\n".join(all_pages().values())
    called = re.findall(r"(manage\.py |`)(multipay_\w+)([^`|\n]*)", text)
    assert {name for how, name, _ in called if how != "`"} == commands
    for _, name, arguments in called:
        if name not in commands:
            continue  # a fixture or a throttle
        parser = load_command_class("django_multipay", name).create_parser("", name)
        known = set(parser._option_string_actions)
        options = {word for word in arguments.split() if word.startswith("--")}
        assert options <= known, f"{name}{arguments}"


def test_the_log_lines_of_the_troubles_are_in_the_code():
    package = ROOT / "django_multipay"
    code = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    code = re.sub(r"%[srd]", "…", re.sub(r'"\s+f?"', "", code))
    page = generated("troubleshooting.md")
    said = re.findall(r"log (?:line )?says (`[^`]+`)", page)
    assert len(said) >= 8
    for line in said:
        for part in line.strip("`").split("…"):
            assert part.strip(" :") in code, line


def test_the_troubles_are_told_by_their_symptoms():
    symptoms = re.findall(r"^### (.+)$", generated("troubleshooting.md"), re.MULTILINE)
    assert len(symptoms) >= 15
    assert len(set(symptoms)) == len(symptoms)


@pytest.mark.django_db
def test_an_empty_message_to_a_callback_is_refused_by_the_app_itself(shop, client):
    for alias in shop.MULTIPAY["PROVIDERS"]:
        answer = client.post(f"/payments/webhook/{alias}/")
        assert answer.status_code in {400, 401}
    assert client.post("/payments/webhook/nobody/").status_code == 404


CHAPTERS = [
    "What it is",
    "Options",
    "Capabilities",
    "How the buyer pays",
    "Callbacks to register",
    "Amounts",
    "Test mode",
    "Limits and quirks",
    "What we could not verify",
    "Sources",
]


@pytest.mark.parametrize("provider", [one.slug for one in provider_classes()])
def test_the_page_of_a_provider_has_every_chapter_and_dates_its_sources(provider):
    page = generated(f"providers/{provider}.md")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == CHAPTERS
    sources = page.partition("## Sources")[2]
    rows = [line for line in sources.splitlines() if line.startswith("| [")]
    assert rows
    for row in rows:
        assert re.search(r"\| 20\d\d-\d\d-\d\d", row), row


# Links ---------------------------------------------------------------------------------

FENCED = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
BARE = re.compile(r"<(https?://[^>\s]+)>")
OWN_MACHINE = re.compile(r"http://127\.0\.0\.1:\d+/[\w/]*")


def anchors(text: str) -> set[str]:
    """What a link into the page may end with, as GitHub and MyST make it."""
    prose = FENCED.sub("", text)
    headings = re.findall(r"^#{1,3} (.+)$", prose, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    named = re.findall(r"^\(([\w-]+)\)=$", prose, re.MULTILINE)
    return {heading.replace(" ", "-") for heading in plain} | set(named)


def links(text: str) -> list[str]:
    prose = FENCED.sub("", text)
    return [*LINK.findall(prose), *BARE.findall(prose)]


@pytest.mark.parametrize("page", all_pages())
def test_no_link_of_a_page_is_dead(page):
    pages = all_pages()
    for link in links(pages[page]):
        if link.startswith("http"):
            assert link.startswith("https://") or OWN_MACHINE.fullmatch(link), link
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            name = target.resolve().relative_to(ROOT).as_posix()
            assert anchor in anchors(pages[name]), link


def test_every_picture_is_shown_and_small():
    shown = "\n".join(all_pages().values())
    for picture in (DOCS / "_static").iterdir():
        # A link in the text, or the directive "image".
        shapes = (f"_static/{picture.name}{end}" for end in (")", "\n"))
        assert any(shape in shown for shape in shapes), picture.name
        assert picture.stat().st_size <= 200 * 1024, picture.name
