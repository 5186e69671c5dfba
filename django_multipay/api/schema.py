"""The OpenAPI description of the API; whatever the site's own settings say."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import extend_schema

from django_multipay import __version__
from django_multipay.api.clients import PROBLEM_TYPE, SCHEME
from django_multipay.api.problems import KINDS, Problem, problem_data

DESCRIPTION = """\
Payments, refunds, saved methods, plans, the ledger and the inbox of one shop.

**Who calls.** Staff, by Django's authentication and permissions; or the buyer of one
payment, by its client secret in the header `Authorization: Multipay-Client <secret>`.
For a buyer everything but their own payment does not exist.

**Money** is an object: `amount` as text in major units, `currency`, and `amount_minor`
in whole minor units. A float is refused.

**Idempotency-Key**: required where money may move, welcome on every POST. The answer is
kept for a day, and the same request with the same key gets the same answer.

**Problems** are `application/problem+json`: `code` for programs, `field` and `remedy`
for people.
"""

SETTINGS: Mapping[str, Any] = {
    "TITLE": "django-multipay",
    "VERSION": __version__,
    "DESCRIPTION": DESCRIPTION,
    "OAS_VERSION": "3.1.1",
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_NO_READ_ONLY_REQUIRED": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "PaymentStatus": "django_multipay.enums.PaymentStatus",
        "RefundStatus": "django_multipay.enums.RefundStatus",
        "TokenStatus": "django_multipay.enums.TokenStatus",
        "PlanStatus": "django_multipay.enums.PlanStatus",
    },
    "SCHEMA_PATH_PREFIX": None,
    "SCHEMA_PATH_PREFIX_TRIM": False,
    "SCHEMA_PATH_PREFIX_INSERT": "",
    "PREPROCESSING_HOOKS": [],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "django_multipay.api.schema.add_links_and_problems",
    ],
    "SERVERS": [],
    "TAGS": [],
    "SECURITY": [],
    "APPEND_COMPONENTS": {},
    "CAMELIZE_NAMES": False,
}


class ClientSecretScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a buyer's browser names itself."""

    target_class = "django_multipay.api.access.ClientSecretAuthentication"
    name = "clientSecret"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        """Return the header."""
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": f"`{SCHEME} <secret>`, the secret of one payment",
        }


class ApiSchema(AutoSchema):
    """One operation, with the problems and headers that every endpoint shares."""

    always: ClassVar[tuple[int, ...]] = (400, 401, 403, 404, 405, 429, 503)
    with_body: ClassVar[tuple[int, ...]] = (413, 415)
    with_key: ClassVar[tuple[int, ...]] = (409, 422)
    with_provider: ClassVar[tuple[int, ...]] = (502, 504)

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        """Return the operation; None where it is no part of the description."""
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        codes = [*self.always]
        if self.method == "POST":
            codes += [*self.with_body, *self.with_key, *self.with_provider]
            operation.setdefault("parameters", []).append(self._key_parameter())
        if self.method == "DELETE":
            codes += [409, *self.with_provider]
        for code in codes:
            operation["responses"].setdefault(str(code), self._problem(code))
        operation["responses"] = dict(sorted(operation["responses"].items()))
        return operation

    def get_auth(self) -> list[dict[str, Any]]:
        """Return who may call: staff, and buyers where the view is open to them."""
        is_open = self.method in getattr(self.view, "open_to_buyers", ())
        return [
            way
            for way in super().get_auth()
            if way and (is_open or ClientSecretScheme.name not in way)
        ]

    def get_summary(self) -> str | None:
        """Return the first line of the method's own words."""
        return (super().get_description() or "").partition("\n")[0] or None

    def get_description(self) -> str:  # type: ignore[override]
        """Return the lines after the first."""
        return (super().get_description() or "").partition("\n")[2].strip()

    def _key_parameter(self) -> dict[str, Any]:
        return {
            "in": "header",
            "name": "Idempotency-Key",
            "required": self.method in getattr(self.view, "needs_key", ()),
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            "description": "A random text, a new one for every wish",
        }

    def _problem(self, status: int) -> dict[str, Any]:
        # Here, because the serializers' fields import this module's neighbors.
        from django_multipay.api.serializers import ProblemSerializer

        self.resolve_serializer(ProblemSerializer, "response")
        return {"$ref": f"#/components/responses/Problem{status}"}


_PAYMENT = {"payment_uuid": "$response.body#/uuid"}
_LINKS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "createPayment": {
        "getPayment": _PAYMENT,
        "listMethodsOfPayment": _PAYMENT,
        "startPayment": _PAYMENT,
        "syncPayment": _PAYMENT,
        "cancelPayment": _PAYMENT,
        "retryPayment": _PAYMENT,
    },
    "createRefund": {"getRefund": {"refund_uuid": "$response.body#/uuid"}},
    "chargeToken": {"getPayment": _PAYMENT},
    "createPlan": {
        name: {"plan_uuid": "$response.body#/uuid"}
        for name in ("getPlan", "changePlan", "pausePlan", "resumePlan", "cancelPlan")
    },
}
"""What can be done with the answer of a call."""


def _problems() -> dict[str, Any]:
    """Return an answer for each status, with an example for each of its codes."""
    found: dict[str, Any] = {}
    for code, kind in KINDS.items():
        answer = found.setdefault(
            f"Problem{kind.status}",
            {
                "description": "A problem; `code` says which",
                "content": {
                    PROBLEM_TYPE: {
                        "schema": {"$ref": "#/components/schemas/Problem"},
                        "examples": {},
                    }
                },
            },
        )
        # In the words of the source, whoever asks for the description first.
        with translation.override(None):
            example = {"value": problem_data(Problem(code))}
        answer["content"][PROBLEM_TYPE]["examples"][str(code)] = example
    return found


def add_links_and_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Complete the description: what all operations share, and where they lead."""
    result["components"]["responses"] = _problems()
    for name, kind in result["components"]["schemas"].items():
        if name.endswith("OfCaller"):
            # What staff see contains what a buyer sees, so both may fit.
            kind["anyOf"] = kind.pop("oneOf")
    operations = [
        operation for path in result["paths"].values() for operation in path.values()
    ]
    for operation in operations:
        for name, parameters in _LINKS.get(operation["operationId"], {}).items():
            operation["responses"]["201"].setdefault("links", {})[name] = {
                "operationId": name,
                "parameters": dict(parameters),
            }
    return result


Method = TypeVar("Method", bound=Callable[..., Any])


def described(**how: Any) -> Callable[[Method], Method]:
    """Describe a view's method by `extend_schema`, on the ground of `ApiSchema`.

    Without this the ground would be the site's ``DEFAULT_SCHEMA_CLASS``.
    """

    def decorate(method: Method) -> Method:
        method.kwargs = {"schema": ApiSchema}  # type: ignore[attr-defined]
        return extend_schema(**how)(method)

    return decorate


def description() -> dict[str, Any]:
    """Return the description as data; paths are relative to where the API is."""
    return copy.deepcopy(_description())


@functools.cache
def _description() -> dict[str, Any]:
    with patched_settings(SETTINGS):
        generator = SchemaGenerator(  # type: ignore[no-untyped-call]
            urlconf="django_multipay.api.urls"
        )
        found: dict[str, Any] = generator.get_schema(  # type: ignore[no-untyped-call]
            public=True
        )
    return found


@login_not_required
@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """Serve the description to everybody: it says nothing of this site."""
    root = request.path.removesuffix("schema/").rstrip("/")
    data = {**description(), "servers": [{"url": root}]}
    body = OpenApiJsonRenderer().render(data)
    return HttpResponse(body, content_type="application/json")
