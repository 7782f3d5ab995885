"""The arguments of the verbs, as callers write them: read the same by a wall and by the clients of a daemon.

Pure. InvalidSpec for what cannot be read.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypedDict

from cellwall.engine.requests import AttachRequest
from cellwall.errors import InvalidSpec
from cellwall.model.endpoint import EndpointKey, PortBinding, parse_binding, validate_binding
from cellwall.model.identifiers import parse_container_id, parse_link_name, parse_tenant
from cellwall.model.policy import Policy

Document = Mapping[str, object]
"""A policy, or a merge patch of one, as JSON and YAML have it."""

Subject = EndpointKey | str
"""Whose policy: an endpoint's own, or that of the tenant of that name."""


def parse_key(container_id: str, ifname: str) -> EndpointKey:
    """The key of an endpoint."""
    return EndpointKey(parse_container_id(container_id), parse_link_name(ifname, "ifname"))


def parse_subject(tenant: str, container: str, ifname: str) -> Subject:
    """Whose policy it is: one of the two must be named."""
    if bool(tenant) == bool(container):
        raise InvalidSpec("policy", tenant or container, "is of a tenant or of a container: name one of them")
    return parse_tenant(tenant) if tenant else parse_key(container, ifname)


def read_binding(entry: PortBinding | str, *, auto: bool = False) -> PortBinding:
    """A binding, from its text or as it is. `auto`: its host port may be any free one."""
    if isinstance(entry, str):
        return parse_binding(entry, auto=auto)
    if not isinstance(entry, PortBinding):
        raise InvalidSpec("expose", entry, "must be a PortBinding or its text, such as 8080:80")
    validate_binding(entry, auto=auto)
    return entry


def read_requests(requests: Sequence[AttachRequest]) -> Sequence[AttachRequest]:
    """The requests of a batch, each of them being one."""
    for number, request in enumerate(requests):
        if not isinstance(request, AttachRequest):
            raise InvalidSpec(f"requests[{number}]", request, "must be of the type AttachRequest")
    return requests


class AttachOptions(TypedDict, total=False):
    """What an attach may say beside the container. `netns`: the path of its network namespace. An endpoint has a policy
    of its own by `policy`, a value or a document, or by `block_network` and `allow_list` in its place."""

    netns: str | os.PathLike[str] | None
    ifname: str
    tenant: str | None
    expose: Sequence[PortBinding | str]
    address4: IPv4Address | None
    address6: IPv6Address | None
    mac: int | None
    policy: Policy | Document | None
    block_network: bool | None
    allow_list: Sequence[str] | None


class Asked(NamedTuple):
    """An attach as it was asked for: the request without a policy, and the policy as it was written."""

    request: AttachRequest
    policy: Policy | Document | None
    block_network: bool | None
    allow_list: Sequence[str] | None

    @property
    def names_policy(self) -> bool:
        """Whether the endpoint is to have one of its own."""
        return self.policy is not None or self.block_network is not None or self.allow_list is not None


def read_attach(
    container_id: str,
    *,
    netns: str | os.PathLike[str] | None = None,
    ifname: str = "eth0",
    tenant: str | None = None,
    expose: Sequence[PortBinding | str] = (),
    address4: IPv4Address | None = None,
    address6: IPv6Address | None = None,
    mac: int | None = None,
    policy: Policy | Document | None = None,
    block_network: bool | None = None,
    allow_list: Sequence[str] | None = None,
) -> Asked:
    """The arguments of an attach, what was left out being as it is here. TypeError for one that there is not."""
    request = AttachRequest(
        container_id=container_id,
        netns=None if netns is None else _path(netns),
        ifname=ifname,
        tenant=tenant,
        address4=address4,
        address6=address6,
        mac=mac,
        bindings=_bindings(expose) if expose != () else (),
    )
    return Asked(request, policy, block_network, allow_list)


def _path(netns: str | os.PathLike[str]) -> str:
    if not isinstance(netns, str | os.PathLike):
        raise InvalidSpec("netns", netns, "must be a path")
    return os.fspath(netns)


def _bindings(expose: Sequence[PortBinding | str]) -> tuple[PortBinding, ...]:
    if isinstance(expose, str) or not isinstance(expose, Iterable):
        raise InvalidSpec("expose", expose, "must be a list, of bindings or their texts")
    return tuple(read_binding(entry, auto=True) for entry in expose)


def permissions_patch(*, block_network: bool, allow_list: Sequence[str] | None) -> Document:
    """The merge patch of `update_network_permissions`."""
    return {"block_network": block_network, **({} if allow_list is None else {"allow_list": list(allow_list)})}
