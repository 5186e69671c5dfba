"""Everything this package raises. The tree answers: what may the caller do now?

MultipayError
├── ProviderConfigurationError    mend MULTIPAY['PROVIDERS'][alias]
├── InvalidOperation              ask for something else; nothing was sent
│   ├── UnsupportedOperation
│   ├── InvalidTransition
│   └── InvalidAmount
├── ProviderError
│   ├── ProviderUnavailable       nothing happened: same request, same key, later
│   ├── OutcomeUnknown            it may have happened: fetch before anything else
│   ├── CredentialsRejected       ours to mend: alert somebody
│   ├── RequestRejected           our request was wrong: a bug or a limit
│   └── UnexpectedAnswer          a read came back in a shape nobody documented
└── WebhookError
    ├── SignatureMismatch
    ├── WebhookExpired
    └── MalformedWebhook

A decline is a result, not an exception, and so is a redirect.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation


class MultipayError(Exception):
    """The root; never raised itself."""


class ProviderConfigurationError(MultipayError, ImproperlyConfigured):
    """The settings of one provider account cannot work; the message names the alias."""


class InvalidOperation(MultipayError):
    """The caller asked for something that is refused before anything is sent.

    ``field`` names the argument that was wrong, or is empty.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message, field)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return self.message


class UnsupportedOperation(InvalidOperation):
    """The provider lacks the capability."""


class InvalidTransition(InvalidOperation):
    """The payment's state does not allow it."""


class InvalidAmount(InvalidOperation):
    """More than is left, another currency, too many decimals, not a number."""


class ProviderError(MultipayError):
    """A call to a provider did not bring a usable answer.

    Attributes: ``provider`` (alias), ``operation`` (name of the call), ``code``
    (the provider's own), ``http_status`` (0 when no answer came),
    ``retry_after`` (seconds the provider asked us to wait, or None).
    """

    def __init__(
        self,
        message: str,
        provider: str = "",
        operation: str = "",
        code: str = "",
        http_status: int = 0,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, provider, operation, code, http_status, retry_after)
        self.message = message
        self.provider = provider
        self.operation = operation
        self.code = code
        self.http_status = http_status
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = " ".join(part for part in (self.provider, self.operation) if part)
        facts = [f"code {self.code}"] if self.code else []
        facts += [f"HTTP {self.http_status}"] if self.http_status else []
        tail = f" ({', '.join(facts)})" if facts else ""
        return f"{where}: {self.message}{tail}" if where else f"{self.message}{tail}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross task queues, so they must survive pickling whole.
        return (type(self), self.args)


class ProviderUnavailable(ProviderError):
    """Nothing happened at the provider; the same request may be sent later."""


class OutcomeUnknown(ProviderError):
    """It may have happened; ask the provider before anything else."""


class CredentialsRejected(ProviderError):
    """The provider does not accept our key; no retry will help."""


class RequestRejected(ProviderError):
    """The provider refused the request itself; nothing happened."""


class UnexpectedAnswer(ProviderError):
    """A read was answered in a shape that nobody documented."""


class WebhookError(MultipayError, SuspiciousOperation):
    """A webhook is not believed; nothing was stored."""


class SignatureMismatch(WebhookError):
    """The message is not authentic."""


class WebhookExpired(WebhookError):
    """The message is authentic but too old, or from the future."""


class MalformedWebhook(WebhookError):
    """The message cannot be read."""
