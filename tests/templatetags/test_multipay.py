"""The tags a shop puts on its own pages."""

from __future__ import annotations

import pytest
from django.template import engines
from django.test import RequestFactory
from moneyed import Money

from django_multipay.enums import PaymentStatus
from django_multipay.flows import create_payment
from django_multipay.models import Payment
from django_multipay.templatetags.multipay import qr_svg, safe_image, safe_link
from tests import fakes


@pytest.fixture
def payment(db: None, settings) -> Payment:
    settings.MULTIPAY = fakes.accounts(redirect="redirect", other="popup")
    return create_payment(
        order_id="<1>", amount=Money("26.30", "USD"), description="<b>"
    )


def rendered(tag: str, payment: Payment) -> str:
    template = engines["django"].from_string(
        "{% load multipay %}{% " + tag + " payment %}"
    )
    return template.render({"payment": payment}, RequestFactory().get("/")).strip()


def test_pay_button_is_a_link(payment: Payment):
    assert rendered("pay_button", payment) == (
        f'<a class="multipay-button" href="{payment.get_checkout_url()}">Pay $26.30</a>'
    )


def test_pay_buttons_are_forms_with_a_token(payment: Payment):
    markup = rendered("pay_buttons", payment)

    assert markup.count("<form") == markup.count("csrfmiddlewaretoken") == 2
    assert markup.count(f'action="{payment.get_checkout_url()}"') == 2
    assert 'name="provider" value="other"' in markup
    assert "Pay $26.30 with Other &amp; Sons" in markup


@pytest.mark.parametrize("tag", ["pay_button", "pay_buttons"])
def test_nothing_is_left_to_pay(payment: Payment, tag: str):
    payment.status = PaymentStatus.PAID

    assert rendered(tag, payment) == ""


@pytest.mark.parametrize("status", PaymentStatus)
def test_payment_status_is_a_badge(payment: Payment, status: PaymentStatus):
    payment.status = status

    markup = rendered("payment_status", payment)

    assert f"multipay-badge-{status.value}" in markup
    assert str(status.label).capitalize() in markup
    assert "$26.30" in markup


@pytest.mark.parametrize("tag", ["pay_button", "pay_buttons", "payment_status"])
def test_classes_are_our_own(payment: Payment, tag: str):
    markup = rendered(tag, payment)

    names = " ".join(part.split('"')[0] for part in markup.split('class="')[1:])
    assert all(name.startswith("multipay-") for name in names.split())
    assert "style=" not in markup


def test_qr_svg_draws_and_says_nothing():
    markup = qr_svg("</svg><script>alert(1)</script>")

    assert markup.startswith("<svg viewBox=")
    assert markup.count("<") == 3
    assert "alert" not in markup


@pytest.mark.parametrize("url", ["https://a.example/?b", "kakao-pay://x", "tel:123"])
def test_safe_link_passes_links(url: str):
    assert safe_link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "//evil.example",
        "/path",
        "https://a.example/ b",
    ],
)
def test_safe_link_stops_the_rest(url: object):
    assert safe_link(url) == ""


@pytest.mark.parametrize(
    ("source", "is_shown"),
    [
        ("https://provider.example/code.png", True),
        ("data:image/png;base64,iVBORw0KGgo=", True),
        ("data:image/svg+xml;base64,PHN2Zy8+", True),
        ("data:text/html;base64,PHN2Zy8+", False),
        ("data:image/svg+xml,<svg onload=x>", False),
        ("javascript:alert(1)", False),
        ('data:image/png;base64,iVBO" onerror=x', False),
        ("", False),
        (None, False),
    ],
)
def test_a_picture_of_a_code_is_an_address_or_the_picture_itself(source, is_shown):
    assert bool(safe_image(source)) is is_shown
