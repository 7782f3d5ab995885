"""What is written on one side of the socket is what is read on the other."""

from typing import TypeVar

import msgspec
from hypothesis import given

from cellwall.engine.requests import AttachRequest, Status, UpReport
from cellwall.model.endpoint import Endpoint
from cellwall.wire import bodies, documents
from unit.wire import values

T = TypeVar("T", bound=msgspec.Struct)


def over(document: T) -> T:
    return msgspec.json.decode(msgspec.json.encode(document), type=type(document))


@given(values.endpoints)
def test_an_endpoint_survives_the_socket(endpoint: Endpoint) -> None:
    assert documents.endpoint_of(over(documents.endpoint_document(endpoint))) == endpoint


@given(values.statuses)
def test_a_status_survives_the_socket(status: Status) -> None:
    assert documents.status_of(over(documents.status_document(status))) == status


@given(values.reports)
def test_a_report_survives_the_socket(report: UpReport) -> None:
    assert documents.up_of(over(documents.up_document(report))) == report


@given(values.requests)
def test_a_request_survives_the_socket(request: AttachRequest) -> None:
    assert bodies.attach_request(over(bodies.attach_body(request))) == request


@given(values.endpoints)
def test_the_ports_of_a_document_can_be_asked_for_as_they_are(endpoint: Endpoint) -> None:
    shown = msgspec.to_builtins(documents.endpoint_document(endpoint))["exposed"]
    asked = msgspec.convert({"container": "c", "expose": shown}, bodies.AttachBody)
    assert bodies.attach_request(asked).bindings == endpoint.bindings


def test_a_newer_daemon_may_say_more() -> None:
    body = b'{"repaired": ["x"], "unheard": 1}'
    assert msgspec.json.decode(body, type=documents.ReconciledDocument) == documents.ReconciledDocument(("x",))
