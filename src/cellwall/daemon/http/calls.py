"""What each call of the table does: from its parts to the node, and from what that says to a document."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from cellwall import __version__
from cellwall.audit.events import DEFAULT_LIMIT, Log
from cellwall.audit.selection import parse_limit, parse_selection
from cellwall.daemon.asker import Asker
from cellwall.daemon.http.answers import document_response, json_response
from cellwall.daemon.node import Node
from cellwall.engine.arguments import Subject
from cellwall.errors import InvalidSpec
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding, parse_binding
from cellwall.model.figures import EndpointTraffic
from cellwall.model.identifiers import parse_container_id, parse_link_name, parse_tenant
from cellwall.model.policy import PolicyRecord
from cellwall.model.reserved import Reservation
from cellwall.wire import answers, calls, documents
from cellwall.wire.bodies import (
    AttachBody,
    AttachManyBody,
    DetachManyBody,
    ExposeBody,
    Places,
    binding_of,
    key_of,
)
from cellwall.wire.pointers import placed
from cellwall.wire.policies import record_answer


class Misnamed(Exception):
    """A parameter of path or query that cannot be accepted."""

    def __init__(self, parameter: str, error: InvalidSpec) -> None:
        self.parameter = parameter
        self.error = error
        super().__init__(str(error))


class Ask(msgspec.Struct, frozen=True):
    """One call: who asks, the parameters of path and query, the body, or what `READ` has made of it. `alone`: nobody
    else waits for an answer."""

    asker: Asker
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    alone: bool = False

    def key(self) -> EndpointKey:
        """The endpoint that the path names; Misnamed."""
        return EndpointKey(self.container(), _parsed("ifname", lambda: parse_link_name(self.path["ifname"], "ifname")))

    def container(self) -> str:
        """The container that the path names; Misnamed."""
        container: str = _parsed("container", lambda: parse_container_id(self.path["container"]))
        return container

    def subject(self) -> Subject:
        """Whose policy the path names: a tenant's, or an endpoint's own; Misnamed."""
        if "tenant" not in self.path:
            return self.key()
        tenant: str = _parsed("tenant", lambda: parse_tenant(self.path["tenant"]))
        return tenant


Act = Callable[[Node, Ask], Awaitable[web.Response]]

_encode = msgspec.json.Encoder().encode


async def _version(_: Node, __: Ask) -> web.Response:
    return document_response(answers.VersionAnswer(__version__, calls.API_VERSION))


async def _status(node: Node, _: Ask) -> web.Response:
    return document_response(documents.status_document(await node.status()))


async def _up(node: Node, _: Ask) -> web.Response:
    return document_response(documents.up_document(await node.up()))


async def _down(node: Node, ask: Ask) -> web.Response:
    await node.down(force=ask.body.force)
    return document_response(answers.DownAnswer())


async def _reconcile(node: Node, _: Ask) -> web.Response:
    return document_response(documents.reconciled_document(await node.reconcile()))


async def _dns(node: Node, ask: Ask) -> web.Response:
    return document_response(answers.DnsAnswer(documents.addresses_text(await node.dns(ask.asker))))


async def _list(node: Node, ask: Ask) -> web.Response:
    return json_response(await node.endpoints.all(ask.asker, _encoded))


async def _show(node: Node, ask: Ask) -> web.Response:
    return _one(await node.endpoints.one(ask.asker, ask.key()))


async def _attach(node: Node, ask: Ask) -> web.Response:
    attached = await node.attachments.attach(ask.asker, ask.body)
    return _one(attached.endpoint, 200 if attached.before else 201)


async def _claim(node: Node, ask: Ask) -> web.Response:
    claimed = await node.attachments.claim(ask.asker, ask.body, alone=ask.alone)
    return _one(claimed.endpoint, 200 if claimed.before else 201)


async def _attach_many(node: Node, ask: Ask) -> web.Response:
    attached = await node.attachments.attach_many(ask.asker, ask.body)
    return json_response(await node.aside.do(lambda: _encoded(attached), whose=ask.asker.whose))


async def _detach(node: Node, ask: Ask) -> web.Response:
    return document_response(answers.DetachedAnswer(await node.attachments.detach(ask.asker, ask.key())))


async def _detach_many(node: Node, ask: Ask) -> web.Response:
    return document_response(answers.DetachedManyAnswer(await node.attachments.detach_many(ask.asker, ask.body)))


async def _findings(node: Node, ask: Ask) -> web.Response:
    return document_response(answers.FindingsAnswer(await node.endpoints.findings(ask.asker, ask.key())))


async def _traffic(node: Node, ask: Ask) -> web.Response:
    return json_response(await node.endpoints.traffic(ask.asker, _encoded_traffic))


async def _expose(node: Node, ask: Ask) -> web.Response:
    return _one(await node.ports.expose(ask.asker, ask.key(), ask.body))


async def _unexpose(node: Node, ask: Ask) -> web.Response:
    key, binding = ask.key(), _parsed("binding", lambda: parse_binding(ask.query["binding"]))
    return _one(await node.ports.unexpose(ask.asker, key, binding))


async def _reservations(node: Node, ask: Ask) -> web.Response:
    known = await node.ports.reservations(ask.asker)
    return document_response(answers.ReservationsAnswer(tuple(_reservation(one) for one in known)))


async def _reserve(node: Node, ask: Ask) -> web.Response:
    body = ask.body
    if body.tenant is not None:
        with placed("/tenant"):
            parse_tenant(body.tenant)
    made = await node.ports.reserve(ask.asker, ask.container(), body.count, body.tenant, body.seconds)
    return document_response(answers.ReservationAnswer(_reservation(made)))


async def _release(node: Node, ask: Ask) -> web.Response:
    return document_response(answers.ReleasedAnswer(await node.ports.release(ask.asker, ask.container())))


def _reservation(made: Reservation) -> answers.ReservationDocument:
    return answers.ReservationDocument(made.container, made.tenant, made.ports, made.seconds)


async def _policies(node: Node, ask: Ask) -> web.Response:
    return json_response(await node.policies.all(ask.asker, _encoded_policies))


async def _show_policy(node: Node, ask: Ask) -> web.Response:
    return document_response(record_answer(await node.policies.one(ask.asker, ask.subject())))


async def _set_policy(node: Node, ask: Ask) -> web.Response:
    return document_response(record_answer(await node.policies.set(ask.asker, ask.subject(), ask.body, patch=False)))


async def _patch_policy(node: Node, ask: Ask) -> web.Response:
    return document_response(record_answer(await node.policies.set(ask.asker, ask.subject(), ask.body, patch=True)))


async def _remove_policy(node: Node, ask: Ask) -> web.Response:
    return document_response(answers.RemovedAnswer(await node.policies.remove(ask.asker, ask.subject())))


async def _log(node: Node, ask: Ask) -> web.Response:
    words, limit = dict(ask.query), DEFAULT_LIMIT
    for name in words:
        if not words[name]:
            raise Misnamed(name, InvalidSpec(name, "", "is empty: left out, it asks for all"))
    if "limit" in words:
        limit = _parsed("limit", lambda: parse_limit(words.pop("limit")))
    try:
        selection = parse_selection(**words, now=time.time())
    except InvalidSpec as error:
        raise Misnamed(error.field, error) from error
    return json_response(await node.tried.latest(ask.asker, selection, limit, _encoded_log))


ACTS: dict[str, Act] = {
    calls.VERSION.name: _version,
    calls.STATUS.name: _status,
    calls.UP.name: _up,
    calls.DOWN.name: _down,
    calls.RECONCILE.name: _reconcile,
    calls.DNS.name: _dns,
    calls.LIST.name: _list,
    calls.SHOW.name: _show,
    calls.ATTACH.name: _attach,
    calls.CLAIM.name: _claim,
    calls.ATTACH_MANY.name: _attach_many,
    calls.DETACH.name: _detach,
    calls.DETACH_MANY.name: _detach_many,
    calls.FINDINGS.name: _findings,
    calls.TRAFFIC.name: _traffic,
    calls.EXPOSE.name: _expose,
    calls.UNEXPOSE.name: _unexpose,
    calls.RESERVATIONS.name: _reservations,
    calls.RESERVE.name: _reserve,
    calls.RELEASE.name: _release,
    calls.POLICIES.name: _policies,
    calls.SHOW_POLICY.name: _show_policy,
    calls.SET_POLICY.name: _set_policy,
    calls.PATCH_POLICY.name: _patch_policy,
    calls.REMOVE_POLICY.name: _remove_policy,
    calls.SHOW_OWN_POLICY.name: _show_policy,
    calls.SET_OWN_POLICY.name: _set_policy,
    calls.PATCH_OWN_POLICY.name: _patch_policy,
    calls.REMOVE_OWN_POLICY.name: _remove_policy,
    calls.LOG.name: _log,
}
"""By the name of the call; `cni` is not one of them, for its texts are another specification's."""


def _read_attach(body: AttachBody) -> Places:
    return Places([body], [""])


def _read_attach_many(body: AttachManyBody) -> Places:
    return Places(body.endpoints, [f"/endpoints/{number}" for number in range(len(body.endpoints))])


def _read_detach_many(body: DetachManyBody) -> list[EndpointKey]:
    return [key_of(one, f"/endpoints/{number}") for number, one in enumerate(body.endpoints)]


def _read_expose(body: ExposeBody) -> PortBinding:
    return binding_of(body.binding, "/binding")


READ: dict[str, Callable[[Any], Any]] = {
    calls.ATTACH.name: _read_attach,
    calls.CLAIM.name: _read_attach,
    calls.ATTACH_MANY.name: _read_attach_many,
    calls.DETACH_MANY.name: _read_detach_many,
    calls.EXPOSE.name: _read_expose,
}
"""What its act is given in place of the body, where to make that of a long one takes a while. Pure; Refused."""


def _one(endpoint: Endpoint, status: int = 200) -> web.Response:
    return document_response(answers.EndpointAnswer(documents.endpoint_document(endpoint)), status)


def _encoded_log(found: Log) -> bytes:
    return _encode(answers.LogAnswer(found.events, found.more, found.unreadable, found.reached))


def _encoded(endpoints: Sequence[Endpoint]) -> bytes:
    return _encode(answers.EndpointsAnswer(tuple(documents.endpoint_document(one) for one in endpoints)))


def _encoded_policies(known: Mapping[str, PolicyRecord]) -> bytes:
    return _encode(answers.PoliciesAnswer({tenant: record_answer(record) for tenant, record in known.items()}))


def _encoded_traffic(at: float, endpoints: Sequence[EndpointTraffic]) -> bytes:
    found = (
        answers.EndpointTraffic(
            container=one.key.container_id,
            interface=one.key.ifname,
            tenant=one.tenant,
            connections=one.connections,
            denied=one.denied,
            **msgspec.structs.asdict(one.traffic),
        )
        for one in endpoints
    )
    return _encode(answers.TrafficAnswer(at, tuple(found)))


def _parsed(parameter: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except InvalidSpec as error:
        raise Misnamed(parameter, error) from error
