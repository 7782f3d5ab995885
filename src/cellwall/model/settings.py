"""What an operator configures, validated and typed. The file format lives in `cellwall.config`."""

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Literal, cast

import msgspec

from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Address, Prefix, parse_address
from cellwall.model.endpoint import parse_port
from cellwall.model.floor import metadata_address
from cellwall.model.identifiers import parse_label
from cellwall.model.network import Network

DEFAULT_NAT_PORTS = (10240, 29999)
"""Disjoint from Linux's default ip_local_port_range (32768-60999), from the well-known ports and from what people
expose: replies to a masqueraded flow must never share a port with a service of the host (CVE-2021-3773)."""


DEFAULT_RESERVED_PORTS = (61000, 65535)
"""Above Linux's default ip_local_port_range, below which lie the NAT range, what people expose, and the node ports of
clusters."""

MAX_CONNECTIONS = 1 << 20
MAX_NEW_CONNECTIONS = 100_000
MAX_PACKETS = 1_000_000
MAX_BYTES = 10**10
MAX_TOLD = 10_000
_UNBOUNDED_IF_ZERO = (
    ("new_connections", MAX_NEW_CONNECTIONS, " a second"),
    ("packets", MAX_PACKETS, " a second"),
    ("bytes", MAX_BYTES, " a second"),
    ("tenant_connections", MAX_CONNECTIONS, ""),
    ("tenant_new_connections", MAX_NEW_CONNECTIONS, " a second"),
    ("tenant_packets", MAX_PACKETS, " a second"),
    ("tenant_bytes", MAX_BYTES, " a second"),
)

DEFAULT_TENANT_CONNECTIONS = 8192
"""A sixteenth of the table of connections that the kernel gives a node of more than 4 GiB (262,144), counted twice: as
what sandboxes open, and as what others open to them. A hundred sandboxes with all that each may have would fill it."""

Mail = Literal["closed", "watched", "open"]
"""Mail straight to others' servers. `watched`: it passes, and is counted."""


Bound = Literal[
    "connections",
    "new_connections",
    "packets",
    "bytes",
    "tenant_connections",
    "tenant_new_connections",
    "tenant_packets",
    "tenant_bytes",
]
"""What can be watched and not kept."""


class Opening(msgspec.Struct, frozen=True):
    """One address, one transport protocol, one port: an exception of the floor, or a service of the node."""

    name: str
    address: Address
    protocol: Literal["tcp", "udp"]
    port: int


class Audit(msgspec.Struct, frozen=True):
    """`log`: whether rules tell of packets that they deny. `group`: of the kernel's packet log, which one program at a
    time listens to. `rate`, `burst`: how many a second, and how many at once after a silence, are told of a tenant's
    packets; again of those to each endpoint, and of the frames of each bridge port. Others are counted alone."""

    log: bool = True
    group: int = 26447
    rate: int = 10
    burst: int = 100

    def validate(self) -> None:
        """Raise InvalidSpec for the first field that cannot work."""
        for field, value, most in (
            ("audit.group", self.group, 65535),
            ("audit.rate", self.rate, MAX_TOLD),
            ("audit.burst", self.burst, 10 * MAX_TOLD),
        ):
            if not 1 <= value <= most:
                raise InvalidSpec(field, value, f"must be 1 to {most}")


class Settings(msgspec.Struct, frozen=True):
    """`reserved_ports`: what is given to who reserves host ports, any. `kept_ports`: ranges of which none but root may
    publish one.
    `interface` empty: the default route's. `dns` empty: the node's resolvers that the floor allows, else a
    public pair. `ipv6` auto: wherever the kernel can filter and translate it. `connections`: concurrent conntrack
    entries of one endpoint, per family: of flows that it opens, and again of flows to its published ports.
    `new_connections`: how many of either kind begin in a second, 0: as many as one likes. `packets` and `bytes`: how
    many a second cross the node from an endpoint, and again to it, per family; likewise. `tenant_connections` and what
    follows: the same of all endpoints of a tenant together, of both families; 0: as many as one likes. `watched`:
    bounds that are counted and not kept. `smtp`: what becomes of TCP to port 25 that no policy lists.
    `backend` auto: the one in force; of a node that is not up nftables where it works, else iptables. `iptables` auto:
    the variant that has more of the host's own rules."""

    network: Network = Network()
    interface: str = ""
    public_addresses: tuple[Address, ...] = ()
    protect: tuple[Prefix, ...] = ()
    exceptions: tuple[Opening, ...] = ()
    services: tuple[Opening, ...] = ()
    dns: tuple[Address, ...] = ()
    ipv6: Literal["auto", "off"] = "auto"
    nat_ports: tuple[int, int] = DEFAULT_NAT_PORTS
    reserved_ports: tuple[int, int] = DEFAULT_RESERVED_PORTS
    kept_ports: tuple[tuple[int, int], ...] = ()
    mark: int = 0x1000
    connections: int = 1024
    new_connections: int = 0
    packets: int = 0
    bytes: int = 0
    tenant_connections: int = DEFAULT_TENANT_CONNECTIONS
    tenant_new_connections: int = 0
    tenant_packets: int = 0
    tenant_bytes: int = 0
    watched: tuple[Bound, ...] = ()
    smtp: Mail = "closed"
    backend: Literal["auto", "nftables", "iptables"] = "auto"
    iptables: Literal["auto", "nft", "legacy"] = "auto"
    audit: Audit = Audit()

    @property
    def denied(self) -> tuple[Prefix, ...]:
        """What the operator adds to the floor: addresses that lead to the node, and what is to be protected."""
        return (*(ip_network(address) for address in self.public_addresses), *self.protect)

    @property
    def openings(self) -> tuple[Opening, ...]:
        """All that has a name: exceptions of the floor, and services of the node."""
        return (*self.exceptions, *self.services)

    def validate(self) -> None:
        """Raise InvalidSpec for the first field that cannot work."""
        self.network.validate()
        self.audit.validate()
        low, high = self.nat_ports
        if not 1024 <= low < high <= 65535 or high - low < 1023:
            raise InvalidSpec("node.nat_ports", f"{low}-{high}", "must be a range of at least 1024 ports above 1023")
        first, last = self.reserved_ports
        if not 1024 <= first <= last <= 65535:
            raise InvalidSpec("node.reserved_ports", f"{first}-{last}", "must be a range of ports above 1023")
        if low <= first and last <= high:
            raise InvalidSpec("node.reserved_ports", f"{first}-{last}", f"all lie in node.nat_ports, {low}-{high}")
        if self.interface in ("lo", self.network.bridge):
            raise InvalidSpec("node.interface", self.interface, "is no way to the Internet")
        if not 0 < self.mark < 1 << 32 or self.mark & (self.mark - 1):
            raise InvalidSpec("node.mark", f"{self.mark:#x}", "must be a single bit of the packet mark")
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise InvalidSpec("limits.connections", self.connections, f"must be 1 to {MAX_CONNECTIONS}")
        for name, most, unit in _UNBOUNDED_IF_ZERO:
            if not 0 <= getattr(self, name) <= most:
                raise InvalidSpec(f"limits.{name}", getattr(self, name), f"must be 0 (no bound) to {most}{unit}")
        for field, openings in (("network.exceptions", self.exceptions), ("node.services", self.services)):
            for opening in openings:
                _validate_opening(opening, field, opening)
                self._refuse_sandbox(opening, field)

    def _refuse_sandbox(self, opening: Opening, field: str) -> None:
        network = self.network
        inside = opening.address in network.subnet4 or opening.address in network.subnet6
        if inside and opening.address not in (network.gateway4, network.gateway6):
            given = f"{opening.name} {opening.address} {opening.protocol}/{opening.port}"
            raise InvalidSpec(field, given, "is an address of sandboxes, which no opening leads to")


_BROADCAST = IPv4Address("255.255.255.255")

PUBLIC_RESOLVERS: tuple[Address, ...] = (
    IPv4Address("1.1.1.1"),
    IPv4Address("8.8.8.8"),
    IPv6Address("2606:4700:4700::1111"),
    IPv6Address("2001:4860:4860::8888"),
)
"""What sandboxes are told where no resolver of the node's own is allowed by the floor and none is configured."""


def parse_openings(text: str, field: str) -> tuple[Opening, ...]:
    """Parse `NAME ADDRESS PROTOCOL[,PROTOCOL]/PORT`, as in `resolver 10.0.0.2 udp,tcp/53`.

    A range, a prefix, or a metadata address on another port than 53 is refused: an exception names one service.
    """
    words = text.split()
    if len(words) != 3:
        raise InvalidSpec(field, text, "must be NAME ADDRESS PROTOCOL[,PROTOCOL]/PORT")
    name, address_text, service = words
    if "/" in address_text or "-" in address_text:
        raise InvalidSpec(field, text, "opens a range; an exception names one address")
    protocols, _, port_text = service.partition("/")
    try:
        parse_label(name, field)
        address, port = parse_address(address_text, field), parse_port(port_text, field)
    except InvalidSpec as error:  # of a list of these the whole item is what can be found again
        what = "the port" if error.value == port_text else "the address" if error.value == address_text else "the name"
        raise InvalidSpec(field, text, f"{what} {error.reason}") from error
    openings = tuple(
        Opening(name, address, cast(Literal["tcp", "udp"], protocol), port) for protocol in protocols.split(",")
    )
    for opening in openings:
        _validate_opening(opening, field, text)
    return openings


def _validate_opening(opening: Opening, field: str, given: object) -> None:
    parse_label(opening.name, field)
    parse_port(opening.port, field)
    if opening.protocol not in ("tcp", "udp"):
        raise InvalidSpec(field, given, "the protocol must be tcp, udp or tcp,udp")
    address = opening.address
    if address.is_multicast or address.is_unspecified or address.is_loopback or address == _BROADCAST:
        raise InvalidSpec(field, given, "must name the address of one host, by which sandboxes reach it")
    if opening.port != 53 and metadata_address(opening.address):
        raise InvalidSpec(field, given, "is a metadata service; only its port 53 can be opened")
