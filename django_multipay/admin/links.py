"""Payment links: staff write one and send it; the buyer pays on the payment page."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import global_settings
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.core.mail import EmailMessage
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language, gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from django_multipay import flows, money
from django_multipay.admin.access import BUYER, LINK, masked, may
from django_multipay.admin.forms import AmountField, amount_of
from django_multipay.enums import PaymentStatus
from django_multipay.exceptions import InvalidAmount, InvalidOperation
from django_multipay.flows.links import absolute_url
from django_multipay.messages import Buyer
from django_multipay.models import Payment
from django_multipay.registry import registry
from django_multipay.views.languages import language_of
from django_multipay.views.letters import link_letter

TICKET_SECONDS = 12 * 60 * 60
"""How long a form may lie open and still make one link only."""

DAYS = (1, 3, 7, 14, 30, 90)


class LinkForm(forms.Form):
    """What is to be paid, by whom, and until when."""

    ticket = forms.UUIDField(widget=forms.HiddenInput)
    order_id = forms.CharField(label=_("Order"), max_length=64)
    amount = AmountField()
    currency = forms.CharField(
        label=_("Currency"),
        max_length=4,
        widget=forms.TextInput(attrs={"size": 4, "autocapitalize": "characters"}),
        help_text=_("Three letters, such as USD."),
    )
    description = forms.CharField(
        label=_("What it is for"),
        max_length=255,
        required=False,
        help_text=_("The buyer reads it on the payment page."),
    )
    provider = forms.ChoiceField(label=_("Provider"), required=False)
    buyer_name = forms.CharField(
        label=_("Name of the buyer"), max_length=150, required=False
    )
    buyer_email = forms.EmailField(
        label=_("E-mail of the buyer"), max_length=254, required=False
    )
    locale = forms.ChoiceField(label=_("Language"))
    days = forms.TypedChoiceField(
        label=pgettext_lazy("link", "Valid for"), coerce=int, initial=7, choices=[]
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, Any] = self.fields
        fields["provider"].choices = [
            ("", _("The buyer chooses")),
            *((alias, registry[alias].display_name) for alias in registry),
        ]
        fields["locale"].choices = [
            (code, name) for code, name in _LANGUAGES if language_of(code)
        ]
        fields["days"].choices = [
            (days, gettext("%(days)s days") % {"days": days}) for days in DAYS
        ]

    def clean_currency(self) -> str:
        """Return the code in capitals, if such a currency exists."""
        code: str = self.cleaned_data["currency"].strip().upper()
        try:
            money.currency_of(code)
        except InvalidAmount as error:
            raise forms.ValidationError(
                _("There is no such currency; use three letters such as USD.")
            ) from error
        return code

    def clean(self) -> dict[str, Any]:
        """Make an amount of digits and currency."""
        cleaned = self.cleaned_data
        if "amount" in cleaned and "currency" in cleaned:
            currency = money.currency_of(cleaned["currency"])
            try:
                cleaned["money"] = amount_of(cleaned["amount"], currency)
            except forms.ValidationError as error:
                self.add_error("amount", error)
        return cleaned

    def create(self) -> Payment:
        """Return the payment; `InvalidOperation` when the flow refuses it."""
        data = self.cleaned_data
        return flows.create_payment(
            provider=data["provider"] or None,
            order_id=data["order_id"],
            amount=data["money"],
            description=data["description"],
            buyer=Buyer(name=data["buyer_name"], email=data["buyer_email"]),
            locale=data["locale"],
            expires_at=timezone.now() + timedelta(days=data["days"]),
            metadata={"link_ticket": str(data["ticket"])},
        )


class LetterForm(forms.Form):
    """To whom a link goes, and with which words."""

    email = forms.EmailField(label=_("Recipient"), max_length=254)
    note = forms.CharField(
        label=_("A word of yours"),
        max_length=1000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
    )


_LANGUAGES = global_settings.LANGUAGES
"""With their names in English, as Django lists them; only those of the site are shown."""


def add_view(request: HttpRequest, model_admin: ModelAdmin[Payment]) -> HttpResponse:
    """Ask for what is to be paid; make one link of it, however often it is sent."""
    _check_permission(request)
    if request.method == "POST":
        form = LinkForm(request.POST)
        if form.is_valid():
            payment = _made_before(form) or _make(request, form, model_admin)
            if payment is not None:
                return HttpResponseRedirect(_url(payment))
    else:
        language = language_of(get_language() or "")
        form = LinkForm(initial={"ticket": uuid.uuid4(), "locale": language})
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": gettext("New payment link"),
        "form": form,
    }
    return TemplateResponse(request, "admin/multipay/payment/link_form.html", context)


def link_view(
    request: HttpRequest, model_admin: ModelAdmin[Payment], payment_id: int
) -> HttpResponse:
    """Show a link, to be copied or sent."""
    _check_permission(request)
    payment = get_object_or_404(Payment.objects.defer("checkout_data"), pk=payment_id)
    is_valid = _is_valid(payment)
    form = LetterForm(
        request.POST or None,
        initial={"email": payment.buyer_email if may(request, BUYER) else ""},
    )
    if request.method == "POST" and is_valid and form.is_valid():
        _send(request, model_admin, payment, form)
        return HttpResponseRedirect(_url(payment))
    if not may(request, BUYER):
        # For the letter as it is shown; nothing is saved or sent from here on.
        payment.buyer_name = masked(payment.buyer_name)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": gettext("Payment link"),
        "payment": payment,
        "amount": money.display(payment.amount),
        "link": absolute_url(payment.get_checkout_url(), request),
        "is_valid": is_valid,
        "form": form,
        "letter": link_letter(payment, request) if is_valid else None,
    }
    return TemplateResponse(request, "admin/multipay/payment/link.html", context)


def _check_permission(request: HttpRequest) -> None:
    if not may(request, LINK):
        raise PermissionDenied


def _is_valid(payment: Payment) -> bool:
    is_open = payment.status in {PaymentStatus.CREATED, PaymentStatus.PENDING}
    is_over = payment.expires_at is not None and payment.expires_at <= timezone.now()
    return is_open and not is_over


def _make(
    request: HttpRequest, form: LinkForm, model_admin: ModelAdmin[Payment]
) -> Payment | None:
    ticket = form.cleaned_data["ticket"]
    if not cache.add(f"multipay:link:{ticket}", 1, timeout=TICKET_SECONDS):
        form.add_error(None, gettext("This link is being made; look at the list."))
        return None
    try:
        payment = form.create()
    except InvalidOperation as error:
        cache.delete(f"multipay:link:{ticket}")
        form.add_error(error.field if error.field in form.fields else None, str(error))
        return None
    model_admin.log_change(request, payment, "link: created")
    return payment


def _made_before(form: LinkForm) -> Payment | None:
    """Return the link that was made of the very same form, sent once more."""
    ticket = str(form.cleaned_data["ticket"])
    rows = Payment.objects.filter(order_id=form.cleaned_data["order_id"])
    return next(
        (row for row in rows if row.metadata.get("link_ticket") == ticket), None
    )


def _send(
    request: HttpRequest,
    model_admin: ModelAdmin[Payment],
    payment: Payment,
    form: LetterForm,
) -> None:
    email = form.cleaned_data["email"]
    letter = link_letter(payment, request, form.cleaned_data["note"])
    try:
        EmailMessage(letter.subject, letter.body, to=[email]).send()
    except OSError as error:
        # Mail servers fail with it, and so do connections.
        model_admin.log_change(request, payment, f"link: not sent ({error})"[:200])
        messages.error(request, gettext("The e-mail could not be sent. Copy the link."))
        return
    model_admin.log_change(request, payment, f"link: sent to {masked(email)}")
    messages.success(request, gettext("The link was sent to %(to)s.") % {"to": email})


def _url(payment: Payment) -> str:
    return reverse("admin:multipay_payment_link", args=[payment.pk])
