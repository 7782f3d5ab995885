"""Values of the model as hypothesis makes them: whatever an engine may hold, or a caller ask for."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

from hypothesis import strategies as st

from cellwall.engine.requests import AttachRequest, Status, UpReport
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.policy import NO_TIERS, Policy, Rule, Tiers

container_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
link_names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", fullmatch=True)
tenants = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,20}", fullmatch=True)
macs = st.integers(1, (1 << 48) - 1).filter(lambda mac: not mac >> 40 & 1)
usable4 = st.integers(0x0A000001, 0x0AFFFFFF).map(IPv4Address)
usable6 = st.ip_addresses(v=6, network="2001:db8::/32")
lines = st.lists(st.text(max_size=20), max_size=3).map(tuple)


def _prefix(kind: type[IPv4Network] | type[IPv6Network], number: int, length: int) -> IPv4Network | IPv6Network:
    return kind((number, length), strict=False)


@st.composite
def bindings(draw: st.DrawFn) -> PortBinding:
    host, port = draw(st.integers(1, 64000)), draw(st.integers(1, 64000))
    span = draw(st.integers(0, 1000))
    bind = draw(st.none() | usable4 | usable6)
    version = bind.version if bind is not None else draw(st.sampled_from((4, 6)))
    kind, bits = (IPv4Network, 32) if version == 4 else (IPv6Network, 128)
    prefix = st.builds(_prefix, st.just(kind), st.integers(0, (1 << bits) - 1), st.integers(0, bits))
    protocol = draw(st.sampled_from(("tcp", "udp")))
    led = draw(st.sampled_from((0, 4, 6))) if protocol == "tcp" and not span else 0
    return PortBinding(
        protocol=protocol,
        host_port=host,
        port=port,
        host_port_last=host + span if span else 0,
        bind=bind,
        sources=tuple(draw(st.lists(prefix, max_size=2))),
        proxy=led if bind is None or bind.version == led else 0,
    )


def _rules(action: str, prefix: Any, protocol: str, first: int, span: int | None) -> Rule:
    ports = None if span is None or protocol not in ("tcp", "udp") else (first, min(first + span, 65535))
    return Rule(action, prefix, protocol, ports)  # type: ignore[arg-type]


prefixes = usable4.map(IPv4Network) | usable6.map(IPv6Network)
policies = st.builds(
    Policy,
    mode=st.sampled_from(("open", "block", "allow")),
    rules=st.lists(
        st.builds(
            _rules,
            st.sampled_from(("allow", "deny")),
            prefixes,
            st.sampled_from(("any", "tcp", "udp", "icmp")),
            st.integers(1, 65535),
            st.none() | st.integers(0, 1000),
        ),
        max_size=3,
    ).map(tuple),
    sources=st.none() | st.lists(prefixes, max_size=2).map(tuple),
    links=st.booleans(),
    monitor=st.booleans(),
)
tiers = st.builds(Tiers, policies, policies, st.integers(0, 65535)) | st.just(NO_TIERS)
keys = st.builds(EndpointKey, container_ids, link_names)
numbers = st.integers(0, (1 << 32) - 1)
endpoints = st.builds(
    Endpoint,
    key=keys,
    tenant=tenants,
    host_link=link_names,
    host_index=numbers,
    mac=macs,
    address4=usable4,
    address6=st.none() | usable6,
    generation=numbers,
    netns=st.text(),
    netns_device=numbers,
    netns_inode=st.integers(0, (1 << 53)),
    owns_netns=st.booleans(),
    past_generations=st.lists(numbers, max_size=3).map(tuple),
    bindings=st.lists(bindings(), max_size=3).map(tuple),
    tiers=tiers,
)
requests = st.builds(
    AttachRequest,
    container_id=container_ids,
    netns=st.none() | st.text(),
    ifname=link_names,
    tenant=st.none() | tenants,
    address4=st.none() | usable4,
    address6=st.none() | usable6,
    mac=st.none() | macs,
    bindings=st.lists(bindings(), max_size=3).map(tuple),
    policy=st.none() | policies,
)
statuses = st.builds(
    Status,
    st.booleans(),
    numbers,
    numbers,
    lines,
    lines,
    lines,
    lines,
    st.text(max_size=20),
)
reports = st.builds(
    UpReport,
    st.booleans(),
    link_names,
    st.booleans(),
    st.lists(usable4 | usable6, max_size=3).map(tuple),
    lines,
    st.text(max_size=20),
)
