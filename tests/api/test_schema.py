"""The description of the API is what the API does."""

from __future__ import annotations

import os
from pathlib import Path

import jsonschema_rs
import pytest
import schemathesis
import yaml
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import GenerationMode, checks
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from django_multipay.api import schema as api_schema
from django_multipay.api import throttles
from django_multipay.api.problems import KINDS
from django_multipay.enums import PaymentStatus, ProblemCode
from tests.api.conftest import USD, caller, ids_beside, paid_payment, user_with

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
IS_FULL = os.environ.get("MULTIPAY_PROOF") == "full"


def as_yaml() -> str:
    """The description as ``docs/openapi.yaml`` has it."""
    return yaml.safe_dump(
        api_schema.description(), sort_keys=False, allow_unicode=True, width=88
    )


def test_the_page_of_the_docs_has_not_drifted():
    """To write it anew: ``MULTIPAY_WRITE_OPENAPI=1 pytest tests/api/test_schema.py``."""
    path = DOCS / "openapi.yaml"
    if os.environ.get("MULTIPAY_WRITE_OPENAPI"):
        path.write_text(as_yaml(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == as_yaml()


def operations() -> list[dict]:
    """Every operation of the description."""
    return [
        operation
        for path in api_schema.description()["paths"].values()
        for operation in path.values()
    ]


def test_it_is_openapi_by_the_letter():
    validate_schema(api_schema.description())


def test_every_example_fits_and_no_body_is_left_without_one():
    data = api_schema.description()
    bodies = [
        operation["requestBody"]
        for operation in operations()
        if "requestBody" in operation
    ]
    answers = [
        answer
        for operation in operations()
        for answer in operation["responses"].values()
    ]
    shared = list(data["components"]["responses"].values())
    seen = 0
    for holder in (*bodies, *answers, *shared):
        for media in holder.get("content", {}).values():
            root = {**media["schema"], "components": data["components"]}
            for example in media.get("examples", {}).values():
                jsonschema_rs.Draft202012Validator(root).validate(example["value"])
                seen += 1
    assert seen
    for body in bodies:
        media = body["content"]["application/json"]
        kind = data["components"]["schemas"][media["schema"]["$ref"].split("/")[-1]]
        assert media.get("examples") or not kind.get("required"), kind


@pytest.mark.django_db
def test_the_examples_of_problems_are_what_a_caller_reads(shop):
    shared = api_schema.description()["components"]["responses"]
    nobody, staff = caller(), caller(user_with())
    answers = [
        nobody.get("/payments/"),
        caller(user_with("view_payment", name="bob")).get("/refunds/"),
        staff.get("/nothing/"),
        staff.delete("/payments/"),
        staff.post("/payments/", {"order_id": "1", "amount": USD}, key=None),
    ]
    assert [answer.status_code for answer in answers] == [401, 403, 404, 405, 400]
    for answer in answers:
        said = answer.json()
        content = shared[f"Problem{said['status']}"]["content"]
        examples = content[answer["Content-Type"]]["examples"]
        assert examples[said["code"]]["value"] == said


def test_the_site_serves_it_for_where_the_api_is(client):
    answer = client.get("/payments/api/schema/")
    assert answer.status_code == 200
    said = answer.json()
    assert said["openapi"].startswith("3.1")
    assert said["servers"] == [{"url": "/payments/api"}]
    assert said["paths"].keys() == api_schema.description()["paths"].keys()
    assert client.post("/payments/api/schema/").status_code == 405


def test_every_operation_says_who_may_and_what_can_go_wrong():
    for path, methods in api_schema.description()["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["security"], where
            documented = set(operation["responses"])
            assert {"400", "401", "403", "404", "405", "429", "503"} <= documented, (
                where
            )
            names = {one["name"] for one in operation.get("parameters", ())}
            assert ("Idempotency-Key" in names) is (method == "post"), where


def test_every_problem_has_its_status_and_words():
    assert set(KINDS) == set(ProblemCode)
    known = set(api_schema.description()["paths"]["/refunds/"]["post"]["responses"])
    for kind in KINDS.values():
        assert str(kind.status) in known
        assert str(kind.title)
        assert str(kind.remedy)


# The machine ---------------------------------------------------------------------------


@pytest.fixture
def ids(shop, monkeypatch) -> dict[str, str]:
    """One of everything, by the parameters of the paths; and nobody is throttled."""
    monkeypatch.setattr(throttles, "RATES", dict.fromkeys(throttles.RATES))
    payment = paid_payment(PaymentStatus.AUTHORIZED, capture_mode="manual")
    return ids_beside(payment)


@pytest.fixture
def by_staff(db, client) -> dict[str, dict[str, str]]:
    """How the browser of a member of staff asks."""
    client.force_login(user_with())
    csrf = "c" * 32
    session = client.cookies["sessionid"].value
    return {
        "headers": {"X-CSRFToken": csrf},
        "cookies": {"sessionid": session, "csrftoken": csrf},
    }


@pytest.fixture(scope="module")
def application():
    """The description, as schemathesis reads it, before the very application."""
    data = {**api_schema.description(), "servers": [{"url": "/payments/api"}]}
    config = SchemathesisConfig.from_dict(
        {"generation": {"with-security-parameters": False}}
    )
    found = schemathesis.openapi.from_dict(data, config=config)
    found.app = get_wsgi_application()
    return found


@pytest.fixture
def described(application):
    """The same, while a test's transaction outlives a request.

    Django's own client arranges that too, and undoes it after each of its requests.
    """
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield application
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


CHECKED = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
"""No server error, and no status, type, header or body that is not described."""

OPERATIONS = sorted(operation["operationId"] for operation in operations())


def sparing(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=10,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.django_db
@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_no_call_gets_an_answer_that_is_not_described(
    described, by_staff, ids, operation_id
):
    operation = described.find_operation_by_id(operation_id)

    @sparing(100 if IS_FULL else 5)
    @given(
        case=operation.as_strategy()
        | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
        is_ours=st.booleans(),
    )
    def call(case, is_ours):
        if is_ours:
            case.path_parameters.update(
                {name: ids[name] for name in case.path_parameters if name in ids}
            )
        answer = case.call_and_validate(**by_staff, checks=CHECKED)
        assert answer.status_code not in {401, 403}

    call()


@pytest.mark.django_db
def test_no_chain_of_calls_ends_in_an_answer_that_is_not_described(
    described, by_staff, ids
):
    statuses: set[int] = set()

    class Machine(described.as_state_machine()):
        def get_call_kwargs(self, case):
            return by_staff

        def validate_response(self, response, case, **_):
            statuses.add(response.status_code)
            case.validate_response(response, checks=CHECKED)

    run_state_machine_as_test(Machine, settings=sparing(200 if IS_FULL else 5))
    assert {200, 201} & statuses
    assert not {401, 403} & statuses
