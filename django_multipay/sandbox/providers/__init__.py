"""The providers the sandbox plays: one module each, found by walking this package.

A module takes part by defining one subclass of `SandboxProvider`. Nothing else in
the sandbox names a provider. A module of somebody else's takes part by being named
when the sandbox starts.
"""

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from django_multipay.sandbox.books import Books, Clock
from django_multipay.sandbox.callbacks import Deliveries

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all providers share."""

    clock: Clock
    books: Books
    deliveries: Deliveries


@dataclass(frozen=True, slots=True)
class Setting:
    """A switch of a provider's behavior, changed through the control API.

    `choices` empty means: any value of the default's type.
    """

    name: str
    default: bool | int | float | str
    help: str
    choices: tuple[bool | int | float | str, ...] = ()

    def problem_with(self, value: object) -> str | None:
        if self.choices:
            if any(value is choice or value == choice for choice in self.choices):
                return None
            return f"{self.name} must be one of {', '.join(map(repr, self.choices))}"
        if isinstance(self.default, bool):
            return None if isinstance(value, bool) else f"{self.name} must be a boolean"
        if isinstance(self.default, int | float):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and value >= 0:  # type: ignore[operator]
                return None
            return f"{self.name} must be a number, zero or more"
        return None if isinstance(value, str) else f"{self.name} must be a string"


# Where there is one address per merchant; a provider that is told an address with each
# payment has no such setting.
WEBHOOK_URL = Setting(
    "webhook_url", "", help="Where callbacks go; empty: they are recorded, not sent."
)
# Of every provider that has callbacks; `callbacks.Outbox` obeys them.
CALLBACK_SETTINGS = (
    Setting("callbacks_enabled", True, help="false: callbacks are recorded, not sent."),
    Setting(
        "retry_count", 3, help="Tries to deliver a callback until it is acknowledged."
    ),
    Setting(
        "retry_delay_seconds", 2.0, help="Wait between two tries, on the sandbox clock."
    ),
    Setting(
        "duplicate_status",
        0,
        help="So many more deliveries of an already acknowledged callback.",
    ),
    Setting(
        "send_status_before_return",
        True,
        help="The page answers the buyer after the first try to deliver the callback.",
    ),
    Setting(
        "status_delay_seconds",
        1.0,
        help="How long after the return the callback is sent when the return is first.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One API endpoint: recorded, and open to faults under its name."""

    name: str
    method: str
    path: str
    handler: Handler
    # Called by a page of another origin (a provider's browser SDK).
    is_cross_origin: bool = False
    # Fields of the request or the answer that never enter the books.
    secret_fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One payment on the control page; actions are (label, URL to POST to)."""

    reference: str
    amount: str
    status: str
    # Color of the status: "good", "wait", "bad" or none.
    tone: str = ""
    # When the money was taken, or refused.
    at: datetime | None = None
    note: str = ""
    actions: tuple[tuple[str, str], ...] = ()
    # Address of the hosted page; empty when there is none.
    page: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One plan on the control page that the provider charges by itself."""

    reference: str
    amount: str
    every: str
    status: str
    tone: str = ""
    # None: it is never charged again.
    next_at: datetime | None = None
    # How often money was taken for it.
    charges: int = 0


class SandboxProvider(ABC):
    """One provider's side of the wire, with its own ledger."""

    slug: ClassVar[str]
    display_name: ClassVar[str]
    # Unknown paths below these are answered in the provider's own error form.
    prefixes: ClassVar[tuple[str, ...]]
    settings_table: ClassVar[tuple[Setting, ...]]
    # OPTIONS of one account here, as the settings of a shop write them. `base_url` is
    # what follows the sandbox's origin; None: the option must not be set.
    shop_options: ClassVar[Mapping[str, object]] = {}
    # What a buyer chooses beside an outcome to have the method saved, where the page
    # asks.
    saving: ClassVar[Mapping[str, object]] = {}

    def __init__(self, world: World) -> None:
        self.world = world
        # One dict for the provider's life: its parts may hold on to it.
        self.settings: dict[str, Any] = {}
        SandboxProvider.reset(self)

    def reset(self) -> None:
        """Forget everything: settings to their defaults, ledger empty."""
        self.settings.update({item.name: item.default for item in self.settings_table})

    def change_settings(self, changes: Mapping[str, object]) -> list[str]:
        """Take the changes, all or none; the answer names what is wrong."""
        known = {item.name: item for item in self.settings_table}
        problems = [
            f"{name} is no setting of {self.slug}"
            if name not in known
            else known[name].problem_with(value)
            for name, value in changes.items()
        ]
        found = [problem for problem in problems if problem is not None]
        if not found:
            self.settings.update(changes)
        return found

    def changed_settings(self) -> list[str]:
        """The names of the settings that are not as they were at first."""
        return [
            item.name
            for item in self.settings_table
            if self.settings[item.name] != item.default
        ]

    def control_path(self, reference: str) -> str:
        """Where the control API has this payment."""
        return f"/_control/{self.slug}/payments/{quote(reference, safe='')}"

    @abstractmethod
    def operations(self) -> Sequence[Operation]:
        """The API endpoints."""

    @abstractmethod
    def pages(self) -> Sequence[BaseRoute]:
        """What browsers open: SDK, payment pages."""

    @abstractmethod
    def control_routes(self) -> Sequence[BaseRoute]:
        """The provider's part of the control API, below `/_control/<slug>`."""

    @abstractmethod
    def rows(self) -> Sequence[Row]:
        """The ledger for the control page, newest first."""

    def plan_rows(self) -> Sequence[PlanRow]:
        """The plans it charges by itself, newest first; many providers have none."""
        return ()

    @abstractmethod
    def refuse(self, status: int) -> Response:
        """The answer to an unknown path (404) or a wrong method (405)."""


def every_months(months: int) -> str:
    """How often, for people."""
    return "month" if months == 1 else f"{months} months"


def discover(others: Sequence[str] = ()) -> list[type[SandboxProvider]]:
    """Every provider class of this package and of the modules `others`, by slug.

    ValueError: one of `others` has no provider, or one whose slug is taken.
    """
    found: dict[str, type[SandboxProvider]] = {}
    ours = [f"{__name__}.{info.name}" for info in pkgutil.iter_modules(__path__)]
    for name in (*ours, *others):
        classes = [
            item
            for _, item in inspect.getmembers(
                importlib.import_module(name), inspect.isclass
            )
            if issubclass(item, SandboxProvider) and item.__module__ == name
        ]
        if not classes:
            raise ValueError(
                f"{name} defines no subclass of SandboxProvider; name the module that "
                "does"
            )
        for item in classes:
            if item.slug in found:
                raise ValueError(
                    f"{name} has the slug {item.slug!r}, which is taken by "
                    f"{found[item.slug].__module__}; choose another"
                )
            found[item.slug] = item
    return [found[slug] for slug in sorted(found)]
