"""Which provider is behind an alias: built once per account, shared by threads."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_multipay.conf import conf
from django_multipay.exceptions import ProviderConfigurationError
from django_multipay.messages import Method
from django_multipay.providers.base import Provider


class Registry(Mapping[str, Provider]):
    """Maps an alias of ``MULTIPAY['PROVIDERS']`` to its provider."""

    def __init__(self) -> None:
        self._built: dict[str, Provider] = {}
        self._lock = threading.Lock()

    def __getitem__(self, alias: str) -> Provider:
        """Return the provider; `ProviderConfigurationError` if it cannot be built."""
        built = self._built.get(alias)
        if built is None:
            with self._lock:
                built = self._built.get(alias) or build(alias)
                self._built[alias] = built
        return built

    def __iter__(self) -> Iterator[str]:
        return iter(conf.providers)

    def __len__(self) -> int:
        return len(conf.providers)

    def __contains__(self, alias: object) -> bool:
        return alias in conf.providers

    def clear(self) -> None:
        """Forget every provider, so that changed settings are read again."""
        while self._built:
            self._built.popitem()[1].http.close()


def build(alias: str) -> Provider:
    """Return a new provider for ``alias``.

    `ProviderConfigurationError` names the alias, the key and the remedy.
    """
    where = f"MULTIPAY['PROVIDERS'][{alias!r}]"
    if alias not in conf.providers:
        known = ", ".join(sorted(conf.providers)) or "none"
        raise ProviderConfigurationError(f"{where} does not exist; known: {known}")
    account = conf.providers[alias]
    if not isinstance(account, Mapping):
        raise ProviderConfigurationError(f"{where} must be a dict with 'BACKEND'")
    if unknown := sorted(set(account) - {"BACKEND", "OPTIONS", "METHODS"}, key=str):
        raise ProviderConfigurationError(
            f"{where}[{unknown[0]!r}] is unknown; use 'BACKEND', 'OPTIONS' and "
            "'METHODS'"
        )
    provider_class = _import_backend(where, account.get("BACKEND"))
    options = account.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        raise ProviderConfigurationError(f"{where}['OPTIONS'] must be a dict")
    provider = provider_class(
        alias, provider_class.options_class.from_mapping(options, alias=alias)
    )
    provider.offered = _offered(where, provider, account.get("METHODS", [""]))
    return provider


def _offered(where: str, provider: Provider, codes: object) -> tuple[Method, ...]:
    """Return the methods that the account's settings name, in their order."""
    known = sorted(method.code for method in provider.methods if method.code)
    if not isinstance(codes, (list, tuple)) or not codes:
        raise ProviderConfigurationError(
            f"{where}['METHODS'] must be a list of methods, the first shown first; use "
            f"'' (the provider's own page){''.join(f', {code!r}' for code in known)}"
        )
    offered = []
    for code in codes:
        try:
            offered.append(provider.method(code))
        except (KeyError, TypeError):
            raise ProviderConfigurationError(
                f"{where}['METHODS'] names {code!r}, which {provider.display_name} does "
                f"not have; use '' (its own page)"
                f"{''.join(f', {name!r}' for name in known)}"
            ) from None
    return tuple(dict.fromkeys(offered))


def _import_backend(where: str, path: object) -> type[Provider]:
    try:
        provider_class = import_string(path) if isinstance(path, str) else None
    except (ImportError, TypeError, ValueError) as error:
        raise ProviderConfigurationError(
            f"{where}['BACKEND'] cannot be imported: {error}"
        ) from error
    if (
        not isinstance(provider_class, type)
        or not issubclass(provider_class, Provider)
        or inspect.isabstract(provider_class)
    ):
        raise ProviderConfigurationError(
            f"{where}['BACKEND'] is {path!r}; use the dotted path of a Provider class, "
            "such as 'django_multipay.providers.eximbay.EximbayProvider'"
        )
    return provider_class


registry = Registry()


def _forget_on_change(*, setting: str, **kwargs: Any) -> None:
    if setting == "MULTIPAY":
        registry.clear()


setting_changed.connect(_forget_on_change)
