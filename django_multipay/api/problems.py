"""What a caller reads when something went wrong: RFC 9457, with a code and a remedy."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions as drf
from rest_framework.response import Response

from django_multipay.api.clients import PROBLEM_TYPE, SCHEME
from django_multipay.enums import ProblemCode
from django_multipay.exceptions import (
    InvalidAmount,
    InvalidOperation,
    InvalidTransition,
    MultipayError,
    OutcomeUnknown,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailable,
    UnsupportedOperation,
)
from django_multipay.views.outages import RETRY_AFTER

logger = logging.getLogger("django_multipay.api")

_LONGEST_NAME = 100


class Kind(NamedTuple):
    """What is the same for every problem of one code."""

    status: int
    title: str | Promise
    remedy: str | Promise


KINDS: Mapping[ProblemCode, Kind] = {
    ProblemCode.MALFORMED: Kind(
        400, _("The request cannot be read."), _("Send one plain JSON object.")
    ),
    ProblemCode.INVALID: Kind(
        400, _("A value is not accepted."), _("Correct the field that is named.")
    ),
    ProblemCode.INVALID_AMOUNT: Kind(
        400,
        _("The amount is not accepted."),
        _("Send an amount above zero, exactly as its currency allows."),
    ),
    ProblemCode.UNKNOWN_FIELD: Kind(
        400, _("There is no such field."), _("Leave it out.")
    ),
    ProblemCode.READ_ONLY_FIELD: Kind(
        400, _("This field cannot be set."), _("Leave it out.")
    ),
    ProblemCode.KEY_MISSING: Kind(
        400,
        _("The header Idempotency-Key is missing."),
        _("Send a random text of 1 to 255 characters, a new one for every wish."),
    ),
    ProblemCode.NOT_AUTHENTICATED: Kind(
        401,
        _("Nobody is named."),
        _("Log in, or send the client secret of the payment."),
    ),
    ProblemCode.PERMISSION_DENIED: Kind(
        403, _("This is not allowed."), _("Ask for the permission.")
    ),
    ProblemCode.NOT_FOUND: Kind(404, _("There is nothing here."), _("Check the URL.")),
    ProblemCode.METHOD_NOT_ALLOWED: Kind(
        405,
        _("This cannot be done here."),
        _("Use a method of the header Allow."),
    ),
    ProblemCode.INVALID_TRANSITION: Kind(
        409,
        _("Its state does not allow it now."),
        _("Look at it again, then decide."),
    ),
    ProblemCode.UNSUPPORTED: Kind(
        409,
        _("The provider cannot do this."),
        _("See what its capabilities are."),
    ),
    ProblemCode.NOT_CONFIGURED: Kind(
        409,
        _("There is no such provider account."),
        _("Use an account of the settings."),
    ),
    ProblemCode.KEY_IN_PROGRESS: Kind(
        409,
        _("The same request is under way."),
        _("Wait a moment and send it again, with the same key."),
    ),
    ProblemCode.TOO_LARGE: Kind(
        413, _("The request is too large."), _("Send less at once.")
    ),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: Kind(
        415, _("This media type is not read."), _("Send application/json.")
    ),
    ProblemCode.KEY_REUSED: Kind(
        422,
        _("The idempotency key came with another request."),
        _("Use a new key for a new wish."),
    ),
    ProblemCode.THROTTLED: Kind(
        429, _("Too many requests."), _("Wait as long as Retry-After says.")
    ),
    ProblemCode.PROVIDER_REFUSED: Kind(
        502,
        _("The provider refused the request; nothing happened."),
        _("Tell whoever runs the shop: its log says why."),
    ),
    ProblemCode.PROVIDER_UNAVAILABLE: Kind(
        503,
        _("The provider cannot be reached; nothing happened."),
        _("Send the same request again later, with the same key."),
    ),
    ProblemCode.SITE_UNAVAILABLE: Kind(
        503,
        _("The site cannot answer now."),
        _("Send the same request again later, with the same key."),
    ),
    ProblemCode.OUTCOME_UNKNOWN: Kind(
        504,
        _("The provider's answer was lost; it may have happened."),
        _("Do not use a new key. Ask for the payment; it is being found out."),
    ),
}


class Problem(drf.APIException):
    """One problem by its code; ``field`` is a dotted path into the body, or empty."""

    def __init__(
        self,
        code: ProblemCode,
        detail: str = "",
        field: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail or str(KINDS[code].title))
        self.status_code = KINDS[code].status
        self.problem_code = code
        self.field = field
        self.retry_after = retry_after
        self.complaints: list[dict[str, str]] = []


_CODES_OF_DRF: Sequence[tuple[type[Exception], ProblemCode]] = (
    (drf.ParseError, ProblemCode.MALFORMED),
    (drf.AuthenticationFailed, ProblemCode.NOT_AUTHENTICATED),
    (drf.NotAuthenticated, ProblemCode.NOT_AUTHENTICATED),
    (drf.PermissionDenied, ProblemCode.PERMISSION_DENIED),
    (PermissionDenied, ProblemCode.PERMISSION_DENIED),
    (drf.NotFound, ProblemCode.NOT_FOUND),
    (Http404, ProblemCode.NOT_FOUND),
    (drf.MethodNotAllowed, ProblemCode.METHOD_NOT_ALLOWED),
    (drf.UnsupportedMediaType, ProblemCode.UNSUPPORTED_MEDIA_TYPE),
    (drf.Throttled, ProblemCode.THROTTLED),
)
_CODES_OF_FLOWS: Sequence[tuple[type[Exception], ProblemCode]] = (
    (InvalidAmount, ProblemCode.INVALID_AMOUNT),
    (UnsupportedOperation, ProblemCode.UNSUPPORTED),
    (InvalidTransition, ProblemCode.INVALID_TRANSITION),
    (InvalidOperation, ProblemCode.INVALID),
    (ProviderConfigurationError, ProblemCode.NOT_CONFIGURED),
    (ProviderUnavailable, ProblemCode.PROVIDER_UNAVAILABLE),
    (OutcomeUnknown, ProblemCode.OUTCOME_UNKNOWN),
    (ProviderError, ProblemCode.PROVIDER_REFUSED),
)
_HIDDEN_FROM_BUYERS = frozenset(
    {ProblemCode.NOT_CONFIGURED, ProblemCode.PROVIDER_REFUSED}
)


def problem_of(error: Exception) -> Problem | None:
    """Return what a caller is told about ``error``; None: it is a bug."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, drf.ValidationError):
        return _first_of(error)
    if isinstance(error, MultipayError):
        return _of_flow(error)
    if isinstance(error, (OperationalError, InterfaceError)):
        return Problem(ProblemCode.SITE_UNAVAILABLE, retry_after=RETRY_AFTER)
    for kind, code in _CODES_OF_DRF:
        if isinstance(error, kind):
            # Nothing of what was asked for is repeated, so that what is foreign
            # looks like what does not exist.
            wait = getattr(error, "wait", None)
            return Problem(code, retry_after=int(wait) + 1 if wait else None)
    return None


def _of_flow(error: MultipayError) -> Problem | None:
    for kind, code in _CODES_OF_FLOWS:
        if isinstance(error, kind):
            field = getattr(error, "field", "")
            if field == "idempotency_key":
                return Problem(ProblemCode.KEY_REUSED)
            wait = getattr(error, "retry_after", None)
            return Problem(code, str(error), field, wait)
    return None


class _Complaint(NamedTuple):
    field: str
    code: str
    detail: str


def _first_of(error: drf.ValidationError) -> Problem:
    """Return the problem for a body or query; all complaints go with the first."""
    complaints = list(_complaints(error.get_full_details()))
    first = complaints[0]
    known = first.code in set(ProblemCode)
    problem = Problem(
        ProblemCode(first.code) if known else ProblemCode.INVALID,
        first.detail,
        first.field,
    )
    problem.complaints = [complaint._asdict() for complaint in complaints]
    return problem


def _complaints(details: Any, path: str = "") -> Iterator[_Complaint]:
    if isinstance(details, Mapping) and set(details) == {"message", "code"}:
        yield _Complaint(path, str(details["code"]), str(details["message"]))
    elif isinstance(details, Mapping):
        for name, inner in details.items():
            own = str(name)[:_LONGEST_NAME]
            is_whole = own == "non_field_errors"
            yield from _complaints(
                inner, path if is_whole else f"{path}.{own}" if path else own
            )
    else:
        for number, inner in enumerate(details):
            # The errors of one field, or (also empty ones) those of a list's items.
            is_item = isinstance(inner, Mapping) and set(inner) != {"message", "code"}
            yield from _complaints(inner, f"{path}.{number}" if is_item else path)


def problem_data(problem: Problem) -> dict[str, Any]:
    """Return ``problem`` as a caller reads it."""
    code = problem.problem_code
    kind = KINDS[code]
    return {
        "type": f"urn:multipay:problem:{code}",
        "title": str(kind.title),
        "status": kind.status,
        "detail": str(problem.detail),
        "code": str(code),
        "field": problem.field,
        "remedy": str(kind.remedy),
        "errors": problem.complaints,
    }


def answer_problem(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Return the answer for ``error``; None lets it become a server error."""
    problem = problem_of(error)
    if problem is None:
        return None
    code = problem.problem_code
    kind = KINDS[code]
    request = context.get("request")
    is_hidden = code in _HIDDEN_FROM_BUYERS and not (
        request is not None and getattr(request.user, "is_staff", False)
    )
    headers = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if code is ProblemCode.NOT_AUTHENTICATED:
        headers["WWW-Authenticate"] = SCHEME
    if kind.status >= 500:
        logger.warning("API: %s: %s", code, error)
    return Response(
        problem_data(Problem(code) if is_hidden else problem),
        status=kind.status,
        headers=headers,
        content_type=PROBLEM_TYPE,
    )
