"""Read just enough of an HTML page to act on it like a buyer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

NEXT_ACTION_ID = "multipay-next-action"


@dataclass(slots=True)
class Form:
    """One form: where it goes, what it holds, which buttons it offers."""

    id: str
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NextStep:
    """Where a buyer goes who has chosen a provider.

    ``kind`` is "redirect" (to ``url``), "qr_code" (a picture at ``url``, or one that
    is drawn in the page), or the type of the page's next action, in ``action``.
    """

    kind: str
    url: str = ""
    action: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Charge:
    """One charge of a subscription, as its page tells."""

    status: str
    amount: Decimal
    currency: str
    reference: str
    has_box: bool


class Page(HTMLParser):
    """The forms and links of a page, its next step, how an order or a plan stands."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.order_status = ""
        self.payment_events = 0
        self.plan_status = ""
        self.charges: list[Charge] = []
        self._form: Form | None = None
        self._script: list[str] | None = None
        self._is_code = False
        self.next_step: NextStep | None = None
        self.feed(html)
        self.close()

    def form_with(self, name: str) -> Form | None:
        """Return the first form with a field or a button called ``name``."""
        for form in self.forms:
            if name in form.fields or name in dict(form.buttons):
                return form
        return None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "data-order-status" in given:
            self.order_status = given["data-order-status"]
        self.payment_events += "data-payment-event" in given
        self.plan_status = given.get("data-plan-status", self.plan_status)
        if "data-charge" in given:
            self.charges.append(_charge(given))
        self._is_code = self._is_code or "data-multipay-code" in given
        if self._is_code and tag in {"img", "svg"}:
            self.next_step = NextStep("qr_code", given.get("src", ""))
            self._is_code = False
        if tag == "form":
            method = given.get("method", "get").lower()
            self._form = Form(given.get("id", ""), given.get("action", ""), method)
            self.forms.append(self._form)
        elif tag == "a":
            self.links.append(given.get("href", ""))
        elif tag == "script" and given.get("id") == NEXT_ACTION_ID:
            self._script = []
        elif self._form is not None and given.get("name"):
            self._add_control(self._form, tag, given)

    def _add_control(self, form: Form, tag: str, given: dict[str, str]) -> None:
        name, value = given["name"], given.get("value", "")
        if tag == "button":
            form.buttons.append((name, value))
        elif tag == "input" and (
            given.get("type") not in {"radio", "checkbox"} or "checked" in given
        ):
            form.fields[name] = value

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self._script.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "script" and self._script is not None:
            action = json.loads("".join(self._script))
            self.next_step = NextStep(action["type"], action=action)
            self._script = None


def _charge(given: Mapping[str, str]) -> Charge:
    return Charge(
        status=given["data-charge"],
        amount=Decimal(given["data-amount"]),
        currency=given["data-currency"],
        reference=given["data-reference"],
        has_box="data-box" in given,
    )
