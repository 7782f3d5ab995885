"""What the OpenAPI document promises holds for whatever anybody sends: no defect, no partial change."""

from collections.abc import Iterator

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.schemas import APIOperation

from cellwall.wire.calls import CALLS, CNI
from cellwall.wire.openapi import openapi_document
from served import Served, open_served
from unixhttp import session

pytestmark = pytest.mark.root

load_all_checks()
SCHEMA = schemathesis.openapi.from_dict(msgspec.json.decode(openapi_document()))
OPERATIONS = [operation.ok() for operation in SCHEMA.get_all_operations()]
NODE = {call.name for call in CALLS if call.verb == "node"}
UNSUITABLE = {
    "positive_data_acceptance",  # what is of the right shape may still be taken, or lie outside the network: below
    "ignored_auth",  # who asks is told by the kernel
}
CHECKED = [
    check for name, check in zip(CHECKS.get_all_names(), CHECKS.get_all(), strict=True) if name not in UNSUITABLE
]
LISTS = ("http://cellwall/v1/endpoints", "http://cellwall/v1/policies")
DECODERS = ("Expected ", "Invalid ", "Object ", "Number out of range")
"""How the reasons begin that a body has not the shape that the call takes."""


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Served]:
    """A daemon of its own, whose node is taken up and down."""
    with open_served() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def http(fuzzed: Served) -> Iterator[requests.Session]:
    with session(fuzzed.path) as made:
        yield made


def test_the_document_is_a_valid_one_of_every_call() -> None:
    SCHEMA.validate()
    described = {(operation.method.upper(), operation.path) for operation in OPERATIONS}
    assert described == {(call.method, call.path) for call in CALLS if call is not CNI}


def test_the_document_is_served(served: Served) -> None:
    with served.connect() as plain:
        answer = plain.ask("GET", "/openapi.json")
    assert (answer.status, answer.body) == (200, openapi_document())
    assert answer.headers["content-type"] == "application/json"


def _listed(http: requests.Session) -> list[object]:
    """What calls change; but for reservations that end by themselves before the next look."""
    kept = http.get("http://cellwall/v1/reservations").json()["reservations"]
    lasting = [{**one, "seconds": None} for one in kept if one["seconds"] > 60]
    return [*(http.get(place).json() for place in LISTS), lasting]


def _named(value: object) -> str:
    return value.value if isinstance(value, GenerationMode) else str(getattr(value, "label", value))


TRIED = [(operation, GenerationMode.POSITIVE) for operation in OPERATIONS] + [
    (operation, GenerationMode.NEGATIVE)
    for operation in OPERATIONS
    if operation.definition.raw["parameters"] or "requestBody" in operation.definition.raw  # else nothing can be wrong
]


@pytest.mark.parametrize(("operation", "mode"), TRIED, ids=_named)
def test_whatever_is_sent_is_answered_as_promised(
    http: requests.Session, operation: APIOperation, mode: GenerationMode
) -> None:
    _fuzz(http, operation, mode, 3 if operation.definition.raw["operationId"] in NODE else 12)


@pytest.mark.full
@pytest.mark.parametrize(("operation", "mode"), TRIED, ids=_named)
def test_whatever_is_sent_for_long_is_answered_as_promised(
    http: requests.Session, operation: APIOperation, mode: GenerationMode
) -> None:
    _fuzz(http, operation, mode, 10 if operation.definition.raw["operationId"] in NODE else 200)


def _fuzz(http: requests.Session, operation: APIOperation, mode: GenerationMode, count: int) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=count, database=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate,))
    def each(case: Case) -> None:
        before = _listed(http)
        response = case.call(base_url="http://cellwall", session=http)
        case.validate_response(response, checks=CHECKED)
        if response.status_code < 400:
            return
        problem = response.json()
        assert problem["status"] == response.status_code
        assert _listed(http) == before, "refused, and changed something"
        if mode is GenerationMode.POSITIVE and "got `float`" not in problem["detail"]:  # 80.0 is no port number to us
            assert not problem.get("reason", "").startswith(DECODERS), (
                f"the document allows what the decoder refuses: {problem}"
            )

    each()
