"""What can happen at each provider: one module each, found by walking this package.

A module takes part by defining ``outcomes(stage)``. One whose sandbox must be told
about the shop first also defines ``sandbox_settings(shop_url)``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from shop.demo.outcomes import Outcome
from shop.demo.stage import Stage


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


def discover() -> list[DemoProvider]:
    """Return the providers of the demo, by alias."""
    return [
        DemoProvider(info.name, importlib.import_module(f"{__name__}.{info.name}"))
        for info in pkgutil.iter_modules(__path__)
    ]
