"""What staff fill in before money moves."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from moneyed import Currency, Money

from django_multipay import money
from django_multipay.enums import ReviewReason
from django_multipay.exceptions import InvalidAmount
from django_multipay.messages import BankAccount

MAX_REASON = 255


class AmountField(forms.CharField):
    """An amount in major units; cleaned it is text, of which `amount_of` makes Money."""

    def __init__(self) -> None:
        attrs = {"inputmode": "decimal", "autocomplete": "off"}
        widget = forms.TextInput(attrs=attrs)
        super().__init__(label=_("Amount"), max_length=24, widget=widget)


def amount_of(text: str, currency: Currency) -> Money:
    """Return the amount above zero that ``text`` says, in major units of ``currency``.

    `ValidationError` tells a person what is wrong with it.
    """
    try:
        amount = Money(money.parse_decimal(text), currency)
        money.to_minor(amount)
    except InvalidAmount as error:
        raise forms.ValidationError(str(error)) from error
    if amount.amount <= 0:
        raise forms.ValidationError(_("The amount must be above zero."))
    return amount


class OperationForm(forms.Form):
    """A step that needs nothing but a yes."""

    def as_arguments(self) -> dict[str, Any]:
        """Return the cleaned data as arguments of the flow."""
        return {}


class AmountForm(OperationForm):
    """How much, in major units of the payment's currency."""

    amount = AmountField()

    def __init__(self, *args: Any, left: Money, may_be_partial: bool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.left = left
        field = self.fields["amount"]
        field.initial = f"{left.amount:f}"
        field.help_text = _("At most %(left)s.") % {"left": money.display(left)}
        if not may_be_partial:
            field.disabled = True
            field.help_text = _("The provider can only do all of it.")

    def clean_amount(self) -> Money:
        """Return the amount as Money, within what is left."""
        amount = amount_of(self.cleaned_data["amount"], self.left.currency)
        if amount > self.left:
            raise forms.ValidationError(
                _("Only %(left)s is left.") % {"left": money.display(self.left)}
            )
        return amount

    def as_arguments(self) -> dict[str, Any]:
        """Return the amount."""
        return {"amount": self.cleaned_data["amount"]}


class RefundForm(AmountForm):
    """An amount and a reason; a bank account where the money must be sent to one."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_("For your records; some providers show it to the buyer."),
    )
    account_holder = forms.CharField(label=_("Account holder"), max_length=80)
    account_bank_code = forms.CharField(label=_("Bank code"), max_length=20)
    account_number = forms.CharField(label=_("Account number"), max_length=40)

    def __init__(self, *args: Any, needs_account: bool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not needs_account:
            for name in ("account_holder", "account_bank_code", "account_number"):
                del self.fields[name]

    def as_arguments(self) -> dict[str, Any]:
        """Return amount, reason and account."""
        data = self.cleaned_data
        account = None
        if "account_number" in data:
            account = BankAccount(
                holder=data["account_holder"],
                bank_code=data["account_bank_code"],
                number=data["account_number"],
            )
        return {"amount": data["amount"], "reason": data["reason"], "account": account}


class ConfirmForm(OperationForm):
    """Whether a confirmed payment is charged now or only reserved."""

    capture = forms.BooleanField(
        label=_("Charge it now"),
        required=False,
        initial=True,
        help_text=_("Otherwise the money is only reserved."),
    )

    def as_arguments(self) -> dict[str, Any]:
        """Return the choice."""
        return {"capture": self.cleaned_data["capture"]}


class ReviewForm(forms.Form):
    """Which question about a payment a person answers, and why it may pass."""

    reason = forms.ChoiceField(
        choices=ReviewReason.choices, widget=forms.HiddenInput, label=_("Reason")
    )
    note = forms.CharField(
        label=_("Note"),
        max_length=150,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
