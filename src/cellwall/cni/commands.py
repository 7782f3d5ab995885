"""The verbs, over an open wall.

Owns: the order of each verb's steps, so that a kill between any two of them leaves something that the next call of
the runtime puts right.
Refuses: a second ADD of an attachment whose result was delivered (the specification asks for an error), and a GC
without a list.

DEL succeeds where nothing is left to do: without a namespace, without state, a second time.
"""

import os
from typing import TYPE_CHECKING

from cellwall.cni.codes import CHECK_FAILED, INVALID_ENVIRONMENT, LIMITED_CONNECTIVITY, Finding, Refusal
from cellwall.cni.conf import AttachConf, CollectConf, Names
from cellwall.cni.invocation import Invocation
from cellwall.cni.ledger import Ledger
from cellwall.cni.links import read_port
from cellwall.cni.request import Request
from cellwall.cni.result import compare_result, render_result, told_names
from cellwall.errors import AlreadyExists, Conflict, InvalidSpec, NotFound
from cellwall.model.addresses import parse_address
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.resolvers import askable
from cellwall.model.settings import Settings

if TYPE_CHECKING:
    from cellwall.cni.contract import WallPort


def add(
    wall: "WallPort",
    ledger: Ledger,
    call: Invocation,
    conf: AttachConf,
    request: Request,
    chosen: Settings | None = None,
) -> bytes:
    """Attach; the result as JSON. The caller marks it delivered once it is written.

    `chosen`: other settings than those in force, to be brought into force; Conflict where anything is attached.
    """
    settings = chosen or wall.settings
    network = settings.network
    request.require_subnets(network)
    _require_reachable(conf.dns, settings)
    key = call.key
    stage = ledger.stage(key)
    if stage == "delivered" and _present(wall, key) is not None:
        raise AlreadyExists(f"CNI_CONTAINERID: {key} is attached already; it must be deleted first")
    # before the attach: a kill in between must leave a trace that this attachment is nobody's yet
    ledger.begin(key, conf.name)
    endpoint = None
    try:
        if chosen is not None:
            wall.up(settings=chosen)
        endpoint = _attach(wall, call, request, resumed=stage == "pending")
        names = told_names(conf.dns, wall.dns())
        port = read_port(endpoint.host_link)
        return render_result(conf.cni_version, endpoint, network, port, names, conf.previous)
    except BaseException:
        if endpoint is not None:
            wall.detach(key.container_id, ifname=key.ifname)
        if _present(wall, key) is None:
            ledger.drop(key)
        raise


def _require_reachable(names: Names, settings: Settings) -> None:
    """A name server that the floor swallows would leave the sandbox without names, and silently so."""
    for number, text in enumerate(names.nameservers):
        field = f"dns.nameservers[{number}]"
        address = parse_address(text, field)
        if not askable(settings, address):
            raise InvalidSpec(
                field, text, "is denied to sandboxes; open its port 53 over udp,tcp in network.exceptions"
            )


def _attach(wall: "WallPort", call: Invocation, request: Request, *, resumed: bool) -> Endpoint:
    try:
        return _ask(wall, call, request)
    except AlreadyExists:
        if not resumed:
            raise
    # the killed ADD was for another namespace or other ports; its result reached nobody, so nobody loses it
    wall.detach(call.container_id, ifname=call.ifname)
    return _ask(wall, call, request)


def _ask(wall: "WallPort", call: Invocation, request: Request) -> Endpoint:
    try:
        return wall.attach(
            call.container_id,
            netns=call.netns,
            ifname=call.ifname,
            tenant=request.tenant,
            expose=request.bindings,
            address4=request.address4,
            address6=request.address6,
            mac=request.mac,
        )
    except NotFound as error:
        # an attach looks up nothing else by name
        raise Refusal(INVALID_ENVIRONMENT, "CNI_NETNS", call.netns, "no such network namespace") from error
    except InvalidSpec as error:
        raise InvalidSpec(request.origin(error.field, error.value), error.value, error.reason) from error
    except (AlreadyExists, Conflict) as error:
        error.args = (request.retold(str(error)),)
        raise


def delete(wall: "WallPort", ledger: Ledger, key: EndpointKey) -> None:
    """Detach. The record goes last: a kill in between leaves one that GC and the next DEL still find."""
    wall.detach(key.container_id, ifname=key.ifname)
    ledger.drop(key)


def check(wall: "WallPort", call: Invocation, conf: AttachConf) -> None:
    """Compare the result that the runtime kept, the wall's state and the kernel's; raises Finding."""
    if conf.previous is None:
        raise InvalidSpec("prevResult", "", "is needed for CHECK")
    endpoint = wall.endpoint(call.container_id, ifname=call.ifname)
    findings = tuple(compare_result(conf.previous, endpoint, wall.settings.network))
    findings += _compare_namespace(call.netns, endpoint)
    findings += wall.verify(call.container_id, ifname=call.ifname)
    if findings:
        raise Finding(CHECK_FAILED, findings)


def _compare_namespace(path: str, endpoint: Endpoint) -> tuple[str, ...]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise Refusal(INVALID_ENVIRONMENT, "CNI_NETNS", path, f"{error.strerror}") from error
    if (found.st_dev, found.st_ino) != (endpoint.netns_device, endpoint.netns_inode):
        return (f"CNI_NETNS: {path} is not the namespace that was attached ({endpoint.netns})",)
    return ()


def status(wall: "WallPort") -> None:
    """Raise where the node could not serve an ADD, or serves its containers badly. Changes nothing: a node whose wall
    is not up yet is ready, the first ADD brings it up.

    A runtime that is told so may take no container any more. What is wrong with a single sandbox, which its tenant may
    have caused, is for CHECK to find."""
    drift = wall.status().node_drift
    if drift:
        raise Finding(LIMITED_CONNECTIVITY, drift)


def collect(wall: "WallPort", ledger: Ledger, conf: CollectConf) -> None:
    """Remove what this network's ADDs made and the runtime no longer knows."""
    if conf.valid is None:
        raise InvalidSpec("cni.dev/valid-attachments", "", "is needed for GC")
    valid = {EndpointKey(row.container_id, row.ifname) for row in conf.valid}
    stale = [key for key in ledger.keys(conf.name) if key not in valid]
    if stale:
        wall.detach_many(stale)  # absent ones too: what is half attached is not there, but has to go
    for key in stale:
        ledger.drop(key)


def _present(wall: "WallPort", key: EndpointKey) -> Endpoint | None:
    try:
        return wall.endpoint(key.container_id, ifname=key.ifname)
    except NotFound:
        return None
