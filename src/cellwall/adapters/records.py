"""Endpoints and facts as bytes for the store. Addresses are written as text; the shape is versioned by the schema.

msgspec has no union of two custom types, so an address that may be of either family is text in a record and parsed
here, once.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

import msgspec

from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.facts import Features, InterfaceAddress, NodeFacts, OnLinkRoute


class _Binding(msgspec.Struct, frozen=True, array_like=True):
    protocol: Literal["tcp", "udp"]
    host_port: int
    port: int
    host_port_last: int
    bind: str
    sources: tuple[str, ...]


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


class _Facts(msgspec.Struct, frozen=True):
    boot_id: str
    addresses: tuple[InterfaceAddress, ...]
    on_link: tuple[OnLinkRoute, ...]
    default4: str
    default6: str
    uplink_mtu: int
    forwarding4: bool
    forwarding6: bool
    resolvers: tuple[str, ...]
    features: Features


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
        str(endpoint.address6 or ""),
        endpoint.generation,
        endpoint.netns,
        endpoint.netns_device,
        endpoint.netns_inode,
        endpoint.owns_netns,
        endpoint.past_generations,
        tuple(
            _Binding(b.protocol, b.host_port, b.port, b.host_port_last, str(b.bind or ""), tuple(map(str, b.sources)))
            for b in endpoint.bindings
        ),
    )
    return msgspec.json.encode(record)


def decode_endpoint(body: bytes) -> Endpoint:
    """The endpoint that `encode_endpoint` wrote."""
    record = _ENDPOINT.decode(body)
    return Endpoint(
        key=EndpointKey(record.container_id, record.ifname),
        tenant=record.tenant,
        host_link=record.host_link,
        host_index=record.host_index,
        mac=record.mac,
        address4=IPv4Address(record.address4),
        address6=IPv6Address(record.address6) if record.address6 else None,
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
            )
            for b in record.bindings
        ),
    )


def encode_facts(facts: NodeFacts) -> bytes:
    """Facts as JSON."""
    return msgspec.json.encode(
        _Facts(
            facts.boot_id,
            facts.addresses,
            facts.on_link,
            facts.default4,
            facts.default6,
            facts.uplink_mtu,
            facts.forwarding4,
            facts.forwarding6,
            tuple(map(str, facts.resolvers)),
            facts.features,
        )
    )


def decode_facts(body: bytes) -> NodeFacts:
    """The facts that `encode_facts` wrote."""
    record = msgspec.json.decode(body, type=_Facts)
    return NodeFacts(
        record.boot_id,
        record.addresses,
        record.on_link,
        record.default4,
        record.default6,
        record.uplink_mtu,
        record.forwarding4,
        record.forwarding6,
        tuple(ip_address(text) for text in record.resolvers),
        record.features,
    )
