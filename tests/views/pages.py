"""What a page is made of, for assertions about it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """The parsed markup of a response: elements with attributes, and the text."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._is_silent = False
        self.markup: str = response.content.decode()
        self.feed(self.markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._is_silent = tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._is_silent = False

    def handle_data(self, data: str) -> None:
        if not self._is_silent:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every ``tag``."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def links(self) -> set[str]:
        """Return every address that the page may lead or refresh to."""
        return {
            value
            for _, attributes in self.elements
            for name, value in attributes.items()
            if name in {"href", "src", "action", "formaction", "content"}
        }

    def inline_code(self) -> list[str]:
        """Return what a strict content security policy would refuse."""
        found = []
        for tag, attributes in self.elements:
            is_data = attributes.get("type") == "application/json"
            if tag == "style" or (
                tag == "script" and "src" not in attributes and not is_data
            ):
                found.append(f"<{tag}>")
            found += [
                f"{tag} {name}"
                for name in attributes
                if name == "style" or name.startswith("on")
            ]
        return found
