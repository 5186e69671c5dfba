"""Who is measured. Each does the same jobs against the same stub."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from benchmarks.contestants.base import Contestant

RIVALS: Mapping[str, tuple[str, str]] = {
    "django-payments": ("payments", "django_payments.DjangoPayments"),
    "django-getpaid": ("getpaid", "getpaid.Getpaid"),
    "dj-stripe": ("djstripe", "dj_stripe.DjStripe"),
}
"""Other packages: the module that must be there, and the class that uses it."""


def contestants(provider_url: str) -> list[Contestant]:
    """Return everybody who can run here, the floor first; ``provider_url``: the stub's."""
    from benchmarks.contestants.floor import OrmFloor, SqlFloor
    from benchmarks.contestants.ours import Ours

    found: list[Contestant] = [OrmFloor(provider_url), SqlFloor(provider_url)]
    found.append(Ours(provider_url))
    for module, path in RIVALS.values():
        if find_spec(module):
            file, name = path.split(".")
            there = import_module(f"{__name__}.{file}")
            found.append(getattr(there, name)(provider_url))
    return found


def absent() -> list[str]:
    """Return the packages that are not installed here, and so not measured."""
    return [name for name, (module, _path) in RIVALS.items() if not find_spec(module)]
