"""The verbs of `cellwall.api.Wall` as requests to the daemon: what to send, and what its answer means. Pure but for
paths of namespaces, which are made such that they mean the same to another process.

All of them may be sent again where an answer was lost: the same request finds done what it asked for. What an answer
tells of a change is then what the second one found; `detach` gives False where the first took the endpoint away.
"""

import os
from collections.abc import Callable, Sequence
from threading import get_native_id
from typing import Generic, TypeVar

import msgspec

from cellwall.audit.events import Log
from cellwall.engine.arguments import Asked, Document, Subject, parse_key, read_binding, read_requests
from cellwall.engine.requests import AttachRequest, Reconciled, Status, UpReport
from cellwall.model.addresses import Address
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.figures import EndpointTraffic, Traffic, TrafficReport
from cellwall.model.identifiers import parse_container_id
from cellwall.model.policy import Policy, PolicyRecord
from cellwall.model.policy_document import parse_policy, policy_document
from cellwall.model.reserved import Reservation, validate_reservation
from cellwall.wire import answers, bodies, calls, documents
from cellwall.wire.calls import METRICS_PATH
from cellwall.wire.policies import PolicyAnswer, PolicyBody, body_of, record_of

R = TypeVar("R")
D = TypeVar("D", bound=msgspec.Struct)


class Ask(msgspec.Struct, Generic[R], frozen=True):
    """One request: `read` makes a value of the body of its answer. `short`: it may be answered within a millisecond."""

    method: str
    target: str
    read: Callable[[bytes], R]
    body: bytes = b""
    short: bool = False


def up() -> Ask[UpReport]:
    return _ask(calls.UP, documents.UpDocument, documents.up_of)


def down(*, force: bool) -> Ask[None]:
    return _ask(calls.DOWN, answers.DownAnswer, lambda _: None, bodies.DownBody(force))


def status() -> Ask[Status]:
    return _ask(calls.STATUS, documents.StatusDocument, documents.status_of)


def reconcile() -> Ask[Reconciled]:
    return _ask(calls.RECONCILE, documents.ReconciledDocument, documents.reconciled_of)


def dns() -> Ask[tuple[Address, ...]]:
    return _ask(calls.DNS, answers.DnsAnswer, lambda answer: documents.addresses_of(answer.dns))


def attach(asked: Asked) -> Ask[Endpoint]:
    return _of_request(calls.ATTACH, asked)


def claim(asked: Asked) -> Ask[Endpoint]:
    return msgspec.structs.replace(_of_request(calls.CLAIM, asked), short=True)


def attach_many(requests: Sequence[AttachRequest]) -> Ask[tuple[Endpoint, ...]]:
    body = bodies.AttachManyBody(tuple(bodies.attach_body(_elsewhere(request)) for request in read_requests(requests)))
    return _ask(calls.ATTACH_MANY, answers.EndpointsAnswer, _endpoints, body)


def detach(container_id: str, ifname: str) -> Ask[bool]:
    return _ask(
        calls.DETACH, answers.DetachedAnswer, lambda answer: answer.detached, key=parse_key(container_id, ifname)
    )


def detach_many(keys: Sequence[EndpointKey]) -> Ask[int]:
    body = bodies.DetachManyBody(tuple(bodies.KeyBody(key.container_id, key.ifname) for key in keys))
    return _ask(calls.DETACH_MANY, answers.DetachedManyAnswer, lambda answer: answer.detached, body)


def expose(container_id: str, ifname: str, binding: PortBinding | str) -> Ask[Endpoint]:
    body = bodies.ExposeBody(bodies.binding_body(read_binding(binding, auto=True)))
    return _ask(calls.EXPOSE, answers.EndpointAnswer, _endpoint, body, key=parse_key(container_id, ifname))


def unexpose(container_id: str, ifname: str, binding: PortBinding | str) -> Ask[Endpoint]:
    asked = _ask(calls.UNEXPOSE, answers.EndpointAnswer, _endpoint, key=parse_key(container_id, ifname))
    query = f"?binding={calls.quoted(bodies.spec_text(read_binding(binding)))}"
    return msgspec.structs.replace(asked, target=asked.target + query)


def reserve_ports(container_id: str, count: int, tenant: str | None, seconds: float) -> Ask[Reservation]:
    validate_reservation(container_id, tenant, count, seconds)
    body = bodies.ReserveBody(count, tenant, seconds)
    asked = _ask(calls.RESERVE, answers.ReservationAnswer, lambda answer: _reservation(answer.reservation), body)
    return _of_container(asked, calls.RESERVE, container_id)


def release_ports(container_id: str) -> Ask[int]:
    asked = _ask(calls.RELEASE, answers.ReleasedAnswer, lambda answer: answer.released)
    return _of_container(asked, calls.RELEASE, container_id)


def reservations() -> Ask[tuple[Reservation, ...]]:
    def read(answer: answers.ReservationsAnswer) -> tuple[Reservation, ...]:
        return tuple(_reservation(document) for document in answer.reservations)

    return _ask(calls.RESERVATIONS, answers.ReservationsAnswer, read)


def endpoints() -> Ask[tuple[Endpoint, ...]]:
    return _ask(calls.LIST, answers.EndpointsAnswer, _endpoints)


def endpoint(container_id: str, ifname: str) -> Ask[Endpoint]:
    return _ask(calls.SHOW, answers.EndpointAnswer, _endpoint, key=parse_key(container_id, ifname))


def verify(container_id: str, ifname: str) -> Ask[tuple[str, ...]]:
    return _ask(
        calls.FINDINGS, answers.FindingsAnswer, lambda answer: answer.findings, key=parse_key(container_id, ifname)
    )


def traffic() -> Ask[TrafficReport]:
    def read(answer: answers.TrafficAnswer) -> TrafficReport:
        return TrafficReport(answer.at, tuple(_traffic(one) for one in answer.endpoints))

    return _ask(calls.TRAFFIC, answers.TrafficAnswer, read)


def metrics() -> Ask[str]:
    return Ask("GET", METRICS_PATH, bytes.decode)


def policies() -> Ask[dict[str, PolicyRecord]]:
    def read(answer: answers.PoliciesAnswer) -> dict[str, PolicyRecord]:
        return {tenant: record_of(record) for tenant, record in answer.policies.items()}

    return _ask(calls.POLICIES, answers.PoliciesAnswer, read)


def policy(subject: Subject) -> Ask[PolicyRecord]:
    return _about(subject, calls.SHOW_POLICY, calls.SHOW_OWN_POLICY, PolicyAnswer, record_of)


def set_policy(subject: Subject, policy: Policy | Document) -> Ask[PolicyRecord]:
    body = _policy_body(policy)
    return _about(subject, calls.SET_POLICY, calls.SET_OWN_POLICY, PolicyAnswer, record_of, body)


def patch_policy(subject: Subject, patch: Document) -> Ask[PolicyRecord]:
    body = body_of(patch)
    return _about(subject, calls.PATCH_POLICY, calls.PATCH_OWN_POLICY, PolicyAnswer, record_of, body)


def remove_policy(subject: Subject) -> Ask[bool]:
    def read(answer: answers.RemovedAnswer) -> bool:
        return answer.removed

    return _about(subject, calls.REMOVE_POLICY, calls.REMOVE_OWN_POLICY, answers.RemovedAnswer, read)


def log(**words: str | int | None) -> Ask[Log]:
    def read(answer: answers.LogAnswer) -> Log:
        return Log(answer.events, answer.more, answer.unreadable, answer.reached)

    asked = _ask(calls.LOG, answers.LogAnswer, read)
    query = "&".join(f"{name}={calls.quoted(str(word))}" for name, word in words.items() if word)
    return msgspec.structs.replace(asked, target=asked.target + (f"?{query}" if query else ""))


def _of_request(call: calls.Call, asked: Asked) -> Ask[Endpoint]:
    body = bodies.attach_body(_elsewhere(asked.request))
    if asked.names_policy:
        body = msgspec.structs.replace(
            body,
            policy=None if asked.policy is None else _policy_body(asked.policy),
            block_network=asked.block_network,
            allow_list=None if asked.allow_list is None else tuple(asked.allow_list),
        )
    return _ask(call, answers.EndpointAnswer, _endpoint, body)


def _ask(
    call: calls.Call,
    answer: type[D],
    value: Callable[[D], R],
    body: msgspec.Struct | None = None,
    *,
    key: EndpointKey | None = None,
) -> Ask[R]:
    target = call.path if key is None else calls.path_of(call, container=key.container_id, ifname=key.ifname)
    return Ask(
        method=call.method,
        target=target,
        read=lambda raw: value(msgspec.json.decode(raw, type=answer)),
        body=b"" if body is None else msgspec.json.encode(body),
    )


def _about(
    subject: Subject,
    of_tenant: calls.Call,
    of_endpoint: calls.Call,
    answer: type[D],
    value: Callable[[D], R],
    body: msgspec.Struct | None = None,
) -> Ask[R]:
    if isinstance(subject, EndpointKey):
        return _ask(of_endpoint, answer, value, body, key=subject)
    asked = _ask(of_tenant, answer, value, body)
    return msgspec.structs.replace(asked, target=calls.path_of(of_tenant, tenant=subject))


def _of_container(asked: Ask[R], call: calls.Call, container_id: str) -> Ask[R]:
    return msgspec.structs.replace(asked, target=calls.path_of(call, container=parse_container_id(container_id)))


def _reservation(document: answers.ReservationDocument) -> Reservation:
    return Reservation(document.container, document.tenant, document.ports, document.seconds)


def _policy_body(policy: Policy | Document) -> PolicyBody:
    """What to send of a policy; what no policy could say is refused as by the wall itself."""
    if isinstance(policy, Policy):
        return body_of(policy_document(policy))
    parse_policy(policy)
    return body_of(policy)


def _traffic(one: answers.EndpointTraffic) -> EndpointTraffic:
    passed = Traffic(one.sent_bytes, one.sent_packets, one.received_bytes, one.received_packets)
    key = EndpointKey(one.container, one.interface)
    return EndpointTraffic(key, one.tenant, passed, one.connections, one.denied)


def _endpoint(answer: answers.EndpointAnswer) -> Endpoint:
    return documents.endpoint_of(answer.endpoint)


def _endpoints(answer: answers.EndpointsAnswer) -> tuple[Endpoint, ...]:
    return tuple(documents.endpoint_of(document) for document in answer.endpoints)


def _elsewhere(request: AttachRequest) -> AttachRequest:
    """The request with a path of its namespace that means the same to the daemon, which has another directory and
    another self."""
    if request.netns is None:
        return request
    path = _without_links(os.path.abspath(request.netns))
    for own, name in (("/proc/self/", ""), ("/proc/thread-self/", f"task/{get_native_id()}/")):
        if path.startswith(own):
            path = f"/proc/{os.getpid()}/{name}{path.removeprefix(own)}"
    return msgspec.structs.replace(request, netns=path)


def _without_links(path: str) -> str:
    """What symbolic links lead to, followed with the rights of this process: the daemon follows none. Those of /proc
    are the namespaces themselves."""
    for _ in range(40):  # MAXSYMLINKS of the kernel
        if path.startswith("/proc/") or not os.path.islink(path):
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    return path
