"""What can happen at each provider: one module each, found by walking this package.

A module takes part by defining ``outcomes(stage)``. One whose sandbox must be told
about the shop first also defines ``sandbox_settings(shop_url)``, and one where the shop
must have made something first ``prepare(stage)``. ``TILL`` is its own kind of `Till`, and
``amount_of(entry)`` reads amounts of its books that are not in major units.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import ModuleType
from typing import Any

from shop.demo.outcomes import Outcome
from shop.demo.stage import Stage, Till


@dataclass(frozen=True, slots=True)
class DemoProvider:
    """One module of this package; its name is the alias, and the sandbox's slug."""

    alias: str
    module: ModuleType

    def outcomes(self, stage: Stage) -> Sequence[Outcome]:
        """Return everything that can happen to a payment there."""
        found: Sequence[Outcome] = self.module.outcomes(stage)
        return found

    def sandbox_settings(self, shop_url: str) -> Mapping[str, Any]:
        """Return what the provider has to be told about the shop at ``shop_url``."""
        settings = getattr(self.module, "sandbox_settings", None)
        return settings(shop_url) if settings else {}

    def prepare(self, stage: Stage) -> None:
        """Make there what a shop makes once, by hand, in the provider's dashboard."""
        prepare = getattr(self.module, "prepare", None)
        if prepare:
            prepare(stage)

    def till(self, stage: Stage) -> Till:
        """Return the provider's side of a purchase."""
        make: Callable[[Stage, str], Till] = getattr(self.module, "TILL", Till)
        return make(stage, self.alias)

    def amount_of(self, entry: Mapping[str, Any]) -> Decimal:
        """Return the amount of a payment in the provider's books, in major units."""
        read: Callable[[Mapping[str, Any]], Decimal] | None
        read = getattr(self.module, "amount_of", None)
        return read(entry) if read else Decimal(entry["amount"])


def discover() -> list[DemoProvider]:
    """Return the providers of the demo, by alias."""
    return [
        DemoProvider(info.name, importlib.import_module(f"{__name__}.{info.name}"))
        for info in pkgutil.iter_modules(__path__)
    ]
