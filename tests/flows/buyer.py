"""A buyer without a browser: does what Eximbay's script and page make one do."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from django_multipay.messages import ProviderScript
from django_multipay.models import Payment


class _Forms(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            self.forms.append({"action": values.get("action") or "", "fields": {}})
        elif tag == "input" and self.forms and values.get("name"):
            self.forms[-1]["fields"][values["name"]] = values.get("value") or ""


class EximbayBuyer:
    """One buyer at the sandbox's hosted page; ``pay`` returns what comes back."""

    def __init__(self, payment: Payment) -> None:
        action = payment.action
        assert isinstance(action, ProviderScript)
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(action.src))
        self.client = httpx.Client(timeout=20)
        answer = self.client.post(
            f"{self.origin}/v1/payments", json=json.loads(json.dumps(action.payload))
        ).json()
        self.url = urljoin(self.origin, answer.pop("url"))
        answer.pop("display_type", None)
        self.fields = {**answer, "param3": "OPENAPI"}

    def pay(self, outcome: str = "approve", **choices: str) -> tuple[str, str] | None:
        """Choose ``outcome``; return (return_url, form body), None if none comes."""
        page = self.client.post(self.url, data=self.fields, follow_redirects=True)
        assert page.status_code == 200, page.text
        form = next(
            form
            for form in _Forms(page.text).forms
            if "outcome" in form["fields"] or "outcome" in page.text
        )
        end = self.client.post(
            urljoin(str(page.url), form["action"]),
            data={**form["fields"], "outcome": outcome, **choices},
            follow_redirects=True,
        )
        assert end.status_code == 200, end.text
        for form in _Forms(end.text).forms:
            if "fgkey" in form["fields"] or "rescode" in form["fields"]:
                body = str(httpx.QueryParams(form["fields"]))
                return form["action"], body
        return None
