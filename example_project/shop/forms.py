"""The checkout form."""

from __future__ import annotations

from functools import cache
from typing import Any

from babel import Locale
from django import forms
from django.conf import settings
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from shop.coffee_box import SIZES, BoxWay, ways_to_subscribe
from shop.models import Currency, Order
from shop.ways import Way, ways_for

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


class WayForm(forms.Form):
    """How the buyer wants to pay; without an answer the payment page asks."""

    def __init__(
        self, *args: Any, currency: str, customer_id: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.ways = {way.slug: way for way in ways_for(currency, customer_id)}
        self.fields["way"] = forms.ChoiceField(
            choices=[(way.slug, way.name) for way in self.ways.values()],
            initial=next(iter(self.ways), ""),
            required=False,
        )

    @property
    def has_saved(self) -> bool:
        """Whether a card can be charged without a further question."""
        return any(way.token is not None for way in self.ways.values())

    @property
    def chosen_way(self) -> Way | None:
        """The way of a valid form."""
        return self.ways.get(self.cleaned_data["way"])


class CheckoutForm(WayForm, forms.ModelForm):  # type: ignore[type-arg]
    """Who buys, and how; in the demo, also how the money is to be taken."""

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

    save_card = forms.BooleanField(
        label=_("Save this card for next time"), required=False
    )

    class Meta:
        model = Order
        fields = ["name", "email", "phone", "country"]
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
        }

    def __init__(
        self, *args: Any, currency: str, customer_id: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, currency=currency, customer_id=customer_id, **kwargs)
        self.fields["email"].help_text = _("The receipt goes there.")
        if currency == Currency.JPY:
            # A convenience store finds the payment by the buyer's number.
            self.fields["phone"].required = True
        else:
            self.fields["phone"].help_text = _("Optional.")
        if not settings.SHOP_DEMO_OPTIONS:
            del self.fields["capture_mode"]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        way = self.ways.get(self.cleaned_data.get("way", ""))
        if way and not way.can_authorize and self.chosen_capture_mode == "manual":
            self.add_error(
                "capture_mode",
                _("%(provider)s takes the money at once.") % {"provider": way.by},
            )
        return cleaned

    @property
    def chosen_capture_mode(self) -> str:
        """How the payment is to be captured; buyers are never asked."""
        return self.cleaned_data.get("capture_mode") or "automatic"

    @property
    def saves_card(self) -> bool:
        """Whether the buyer wants the card kept, and the provider can."""
        way = self.chosen_way
        return bool(self.cleaned_data["save_card"] and way and way.can_save)


class SubscribeForm(forms.Form):
    """Which box, for whom, and how it is paid every month."""

    form_key = forms.UUIDField(widget=forms.HiddenInput)
    size = forms.ChoiceField(
        choices=[(size.slug, size.name) for size in SIZES.values()],
        initial=next(iter(SIZES)),
    )
    name = forms.CharField(
        max_length=80, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    email = forms.EmailField(
        label=_("E-mail"), widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    country = forms.ChoiceField(
        choices=lambda: [("", _("Choose a country")), *countries()],
        widget=forms.Select(attrs={"autocomplete": "country"}),
    )

    def __init__(
        self, *args: Any, currency: str, customer_id: str, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sizes = [(size, size.price(currency)) for size in SIZES.values()]
        self.ways = {way.slug: way for way in ways_to_subscribe(currency, customer_id)}
        self.fields["way"] = forms.ChoiceField(
            choices=[(way.slug, way.name) for way in self.ways.values()],
            initial=next(iter(self.ways), ""),
        )

    @property
    def chosen_way(self) -> BoxWay:
        """The way of a valid form."""
        return self.ways[self.cleaned_data["way"]]
