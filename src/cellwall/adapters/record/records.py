"""Endpoints and policies as bytes for the store. Addresses are written as text; the shape is versioned by the schema.

msgspec has no union of two custom types, so an address that may be of either family is text in a record and parsed
here, once.
"""

from _socket import AF_INET6, inet_ntop, inet_pton  # a tenth of what ipaddress takes; see `netlink` for the underscore
from _thread import allocate_lock as Lock  # what threading.Lock is, without the module: see `engine.caller`
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Literal

import msgspec

from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.policy import NO_TIERS, OPEN, Policy, PolicyRecord, Tiers, interned

if TYPE_CHECKING:
    from cellwall.model.figures import Metered


class _Binding(msgspec.Struct, frozen=True, array_like=True):
    protocol: Literal["tcp", "udp"]
    host_port: int
    port: int
    host_port_last: int
    bind: str
    sources: tuple[str, ...]
    proxy: Literal[0, 4, 6] = 0


class _Endpoint(msgspec.Struct, frozen=True, array_like=True):
    container_id: str
    ifname: str
    tenant: str
    host_link: str
    host_index: int
    mac: int
    address4: int
    address6: str
    generation: int
    netns: str
    netns_device: int
    netns_inode: int
    owns_netns: bool
    past_generations: tuple[int, ...]
    bindings: tuple[_Binding, ...]
    policy: str = ""  # the endpoint's own; that of its tenant has a record of its own
    tenant_number: int = 0
    member: bool = False  # the last one: `MEMBERS` is how a record ends


_ENDPOINT = msgspec.json.Decoder(_Endpoint)


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """An endpoint as JSON."""
    record = _Endpoint(
        endpoint.key.container_id,
        endpoint.key.ifname,
        endpoint.tenant,
        endpoint.host_link,
        endpoint.host_index,
        endpoint.mac,
        int(endpoint.address4),
        "" if endpoint.address6 is None else inet_ntop(AF_INET6, endpoint.address6.packed),
        endpoint.generation,
        endpoint.netns,
        endpoint.netns_device,
        endpoint.netns_inode,
        endpoint.owns_netns,
        endpoint.past_generations,
        tuple(
            _Binding(
                b.protocol,
                b.host_port,
                b.port,
                b.host_port_last,
                str(b.bind or ""),
                tuple(map(str, b.sources)),
                b.proxy,
            )
            for b in endpoint.bindings
        ),
        "" if endpoint.tiers.endpoint == OPEN else encode_policy(endpoint.tiers.endpoint).decode(),
        endpoint.tenant_number,
        endpoint.member,
    )
    return msgspec.json.encode(record)


def decode_endpoint(body: bytes, policy_of: Callable[[str], PolicyRecord | None] = lambda tenant: None) -> Endpoint:
    """The endpoint that `encode_endpoint` wrote, under the policy that its tenant has by now."""
    record = _ENDPOINT.decode(body)
    tenants, own = policy_of(record.tenant), decode_policy(record.policy.encode()) if record.policy else OPEN
    alone = NO_TIERS if own is OPEN else Tiers(endpoint=own)
    return Endpoint(
        key=EndpointKey(record.container_id, record.ifname),
        tenant=record.tenant,
        host_link=record.host_link,
        host_index=record.host_index,
        mac=record.mac,
        address4=IPv4Address(record.address4),
        address6=IPv6Address(inet_pton(AF_INET6, record.address6)) if record.address6 else None,
        generation=record.generation,
        netns=record.netns,
        netns_device=record.netns_device,
        netns_inode=record.netns_inode,
        owns_netns=record.owns_netns,
        past_generations=record.past_generations,
        bindings=tuple(
            PortBinding(
                b.protocol,
                b.host_port,
                b.port,
                b.host_port_last,
                ip_address(b.bind) if b.bind else None,
                tuple(ip_network(source) for source in b.sources),
                b.proxy,
            )
            for b in record.bindings
        ),
        tiers=alone if tenants is None else tenants.over(own),
        tenant_number=record.tenant_number,
        member=record.member,
    )


def decode_tenant_number(body: bytes) -> int:
    """The number of its tenant alone."""
    return _ENDPOINT.decode(body).tenant_number


LED_4, LED_6 = b"],4]", b"],6]"
"""In the record of every endpoint that has a port served by a proxy for clients of that family."""

MEMBERS = b",true]"
"""How the record ends of every endpoint that somebody asked for who is not root, and of no other."""

OWN_POLICY = b'"{'
"""In the record of every endpoint that has a policy of its own, and hardly in one of another."""


def decode_own_policy(body: bytes) -> tuple[EndpointKey, Policy | None]:
    """The endpoint's own policy alone."""
    record = _ENDPOINT.decode(body)
    own = decode_policy(record.policy.encode()) if record.policy else None
    return EndpointKey(record.container_id, record.ifname), own


def decode_metered(body: bytes) -> "Metered":
    """The same as far as figures are about it."""
    from cellwall.model.figures import Metered  # no attach has figures
    from cellwall.model.versions import STEM, stems

    record = _ENDPOINT.decode(body)
    return Metered(
        EndpointKey(record.container_id, record.ifname),
        record.tenant,
        record.host_index,
        record.address4,
        record.address6,
        len(record.bindings),
        stems((record.generation, *record.past_generations))
        if record.past_generations
        else (record.generation & STEM,),
    )


def encode_policy(policy: Policy) -> bytes:
    """A policy as its document, in JSON. What only who has policies needs is imported here and below."""
    from cellwall.model.policy_document import policy_document

    return msgspec.json.encode(policy_document(policy))


class _Decoded:
    """Policies by their documents, those asked for last: the same few, at every look at all endpoints. Bounded by the
    octets of the documents too, 450 of a thousand rules each: as policies they are seven times as large, and of those
    that a caller replaces again and again nobody has any but the last."""

    MOST = 2048
    MOST_OCTETS = 32 << 20

    def __init__(self) -> None:
        self._lock = Lock()
        self._policies: OrderedDict[bytes, Policy] = OrderedDict()
        self._octets = 0

    def get(self, body: bytes) -> Policy | None:
        with self._lock:
            if policy := self._policies.get(body):
                self._policies.move_to_end(body)
            return policy

    def keep(self, body: bytes, policy: Policy) -> None:
        with self._lock:
            if body not in self._policies:
                self._octets += len(body)
            self._policies[body] = policy
            while len(self._policies) > self.MOST or self._octets > self.MOST_OCTETS:
                self._octets -= len(self._policies.popitem(last=False)[0])


_decoded = _Decoded()


def decode_policy(body: bytes) -> Policy:
    """The policy that `encode_policy` wrote."""
    if (known := _decoded.get(body)) is not None:
        return known
    from cellwall.model.policy_document import parse_policy

    policy = interned(parse_policy(msgspec.json.decode(body)).policy)
    _decoded.keep(body, policy)
    return policy
