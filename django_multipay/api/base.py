"""What every endpoint does: who may, how often, once for each key, and in JSON."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.db import transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from rest_framework import exceptions as drf
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from django_multipay.api.access import authenticators, buyer_of, caller_of, may
from django_multipay.api.bodies import StrictJSONParser
from django_multipay.api.problems import KINDS, Problem, answer_problem, problem_of
from django_multipay.api.schema import ApiSchema
from django_multipay.api.throttles import throttles_for
from django_multipay.enums import KeyRefusal, ProblemCode
from django_multipay.flows.idempotency import (
    Answer,
    Turn,
    begin_request,
    finish_request,
    forget_request,
    give_up_turn,
)
from django_multipay.models import Payment

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)

Work = Callable[[str | None], Response]
"""Carries a request out; it is given the ``idempotency_key`` for the flows."""


class _JSONOnly(BaseContentNegotiation):
    """Whatever a caller accepts, the answer is JSON."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """Return the parser for the body's media type, or None."""
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        return next((one for one in parsers if one.media_type == kind), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[Any, str]:
        """Return the only one there is."""
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    """An endpoint; nothing of it depends on the site's settings of REST framework."""

    schema = ApiSchema()
    renderer_classes = [JSONRenderer]
    parser_classes = [StrictJSONParser]
    content_negotiation_class = _JSONOnly
    metadata_class = None
    versioning_class = None

    permissions: ClassVar[Mapping[str, str]] = {}
    """Method to the permission that a member of staff needs."""
    open_to_buyers: ClassVar[frozenset[str]] = frozenset()
    """Methods for whoever has the client secret of the payment in the URL."""
    needs_key: ClassVar[frozenset[str]] = frozenset()
    """Methods that may move money, so that a key is required."""
    is_start: ClassVar[bool] = False

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view; outside ATOMIC_REQUESTS, because flows commit before calls."""
        return transaction.non_atomic_requests(super().as_view(**initkwargs))

    # Who and how often ---------------------------------------------------------

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Return the client secret's, then the site's own."""
        return authenticators()

    def get_throttles(self) -> list[BaseThrottle]:
        """Return what counts this very call."""
        return list(
            throttles_for(
                self.request,
                is_money=self.request.method in self.needs_key,
                is_start=self.is_start,
            )
        )

    def get_exception_handler(self) -> Callable[..., Response | None]:
        """Return ours, so that a problem looks the same on every site."""
        return answer_problem

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let the caller in, or not; strangers are counted before they are refused."""
        self.format_kwarg = None
        chosen = self.perform_content_negotiation(request)
        request.accepted_renderer, request.accepted_media_type = chosen
        request.version, request.versioning_scheme = None, None
        try:
            self.perform_authentication(request)
        finally:
            self.check_throttles(request)
        self.check_permissions(request)

    def check_permissions(self, request: Request) -> None:
        """Raise unless this caller may use this method here.

        For a buyer everything but their own payment does not exist, and for staff the
        permission is asked for before anything is looked up.
        """
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in self.permissions:
            raise drf.MethodNotAllowed(method)
        if buyer := buyer_of(request):
            is_theirs = self.kwargs.get("payment_uuid") == buyer.payment_uuid
            if method not in self.open_to_buyers or not is_theirs:
                raise drf.NotFound
            return
        if not caller_of(request):
            raise drf.NotAuthenticated
        if not may(request, self.permissions[method]):
            raise drf.PermissionDenied

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Keep every answer out of caches: it is about money, and one caller's."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"
        return response

    # What is asked for ---------------------------------------------------------

    def payment(self, payment_uuid: uuid.UUID) -> Payment:
        """Return the payment of the URL, or raise what says that there is none."""
        payments = Payment.objects.select_related("token", "plan")
        return get_object_or_404(payments, uuid=payment_uuid)

    def read(self, kind: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return the body's values as ``kind`` has them."""
        serializer = kind(data=self.request.data)
        serializer.is_valid(raise_exception=True)
        values: dict[str, Any] = serializer.validated_data
        return values

    # Once for each key ---------------------------------------------------------

    def carry_out(self, work: Work, *, is_local: bool = False) -> HttpResponseBase:
        """Do ``work`` once for the request's key, and answer as before to another.

        ``is_local``: it calls no provider, so that it and its answer are kept in one
        transaction.
        """
        request = self.request
        key = request.headers.get(KEY_HEADER)
        if key is None:
            if request.method in self.needs_key:
                raise Problem(ProblemCode.KEY_MISSING)
            return work(None)
        if not _KEY.fullmatch(key):
            raise Problem(
                ProblemCode.INVALID,
                f"{KEY_HEADER} is not 1 to 255 visible ASCII characters.",
            )
        body = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
        said = f"{request.method} {request.get_full_path()} {body}"
        begun = begin_request(caller_of(request), key, said)
        match begun:
            case Answer():
                return _as_response(begun, is_replayed=True)
            case KeyRefusal.IN_PROGRESS:
                raise Problem(ProblemCode.KEY_IN_PROGRESS, retry_after=1)
            case KeyRefusal.OTHER_REQUEST:
                raise Problem(ProblemCode.KEY_REUSED)
            case Turn():
                return self._carry_out(begun, work, is_local=is_local)

    def _carry_out(self, turn: Turn, work: Work, *, is_local: bool) -> HttpResponseBase:
        try:
            if is_local:
                with transaction.atomic():
                    return self._finish(turn, work(turn.flow_key), is_local=True)
            return self._finish(turn, work(turn.flow_key))
        except Exception as error:
            problem = problem_of(error)
            if problem and KINDS[problem.problem_code].status < 500:
                forget_request(turn)
            else:
                give_up_turn(turn)
            raise

    def _finish(
        self, turn: Turn, response: Response, *, is_local: bool = False
    ) -> HttpResponseBase:
        answer = Answer(
            status=response.status_code,
            body=JSONRenderer().render(response.data).decode(),
            location=response.headers.get("Location", ""),
        )
        if not finish_request(turn, answer) and is_local:
            # Another worker has the turn; what was written here is rolled back.
            raise Problem(ProblemCode.KEY_IN_PROGRESS, retry_after=1)
        return _as_response(answer)


def created(data: Mapping[str, Any], view_name: str, key: uuid.UUID) -> Response:
    """Return the answer about something new; ``view_name`` shows the one of ``key``."""
    place = reverse(f"multipay_api:{view_name}", args=[key])
    return Response(data, status=201, headers={"Location": place})


def _as_response(answer: Answer, *, is_replayed: bool = False) -> HttpResponse:
    response = HttpResponse(
        answer.body if answer.status != 204 else b"",
        status=answer.status,
        content_type="application/json",
    )
    if answer.location:
        response.headers["Location"] = answer.location
    if is_replayed:
        response.headers[REPLAYED_HEADER] = "true"
    return response


class NowhereView(ApiView):
    """Every other URL below the API: nothing is there, in the words of the API."""

    schema = None  # type: ignore[assignment]

    def check_permissions(self, request: Request) -> None:
        """Raise that nothing is here, whoever asks and however."""
        raise drf.NotFound
