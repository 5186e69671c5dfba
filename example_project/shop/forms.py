"""The checkout form."""

from __future__ import annotations

from functools import cache
from typing import Any

from babel import Locale
from django import forms
from django.conf import settings
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from shop.models import Currency, Order

# Babel also lists regions that no parcel can be sent to.
NOT_COUNTRIES = frozenset({"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"})


@cache
def countries() -> list[tuple[str, str]]:
    """Return ISO 3166-1 codes with English names, by name."""
    return sorted(
        (
            (code, name)
            for code, name in Locale("en").territories.items()
            if len(code) == 2 and code.isalpha() and code not in NOT_COUNTRIES
        ),
        key=lambda country: country[1],
    )


class CheckoutForm(forms.ModelForm):  # type: ignore[type-arg]
    """Who buys; and, in the demo, how the money is to be taken."""

    country = forms.ChoiceField(
        choices=lambda: [("", _("Choose a country")), *countries()],
        widget=forms.Select(attrs={"autocomplete": "country"}),
    )
    phone = forms.CharField(
        required=False,
        max_length=24,
        validators=[
            RegexValidator(
                r"\A\+?[0-9][0-9 ()-]{4,22}\Z",
                _("Use digits, for example +81 3 1234 5678."),
            )
        ],
        widget=forms.TextInput(attrs={"autocomplete": "tel", "inputmode": "tel"}),
    )
    capture_mode = forms.ChoiceField(
        choices=[
            ("automatic", _("Take the money at once")),
            ("manual", _("Authorize now, capture when the parcel leaves")),
        ],
        label=_("Taking the money"),
        required=False,
    )

    class Meta:
        model = Order
        fields = ["name", "email", "phone", "country"]
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
        }

    def __init__(self, *args: Any, currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].help_text = _("The receipt goes there.")
        if currency == Currency.JPY:
            # A convenience store finds the payment by the buyer's number.
            self.fields["phone"].required = True
        else:
            self.fields["phone"].help_text = _("Optional.")
        if not settings.SHOP_DEMO_OPTIONS:
            del self.fields["capture_mode"]

    @property
    def chosen_capture_mode(self) -> str:
        """How the payment is to be captured; buyers are never asked."""
        return self.cleaned_data.get("capture_mode") or "automatic"
