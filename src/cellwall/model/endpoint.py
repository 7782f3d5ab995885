"""An attachment of a sandbox to a network, and the ports published for it."""

from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import msgspec

from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Address, Prefix, Protocol, is_number, parse_address, parse_prefix
from cellwall.model.policy import NO_TIERS, PolicyRecord, Tiers

Phase = Literal["attaching", "claiming", "attached", "detaching"]
"""How far an endpoint's operation came; every phase but `attached` that outlives its process is a crash. One that is
`claiming` has been given a ready sandbox, and may have been answered: it counts as attached, and is finished, never
taken back."""

MAX_SHIFTED_RANGE = 1024
"""The longest port range whose host and container ports differ: the kernel has no map with an offset, so each
port of such a range is an element of its own."""


MAX_BINDINGS = 64
"""Of one endpoint; a range is one."""

MAX_CLIENTS = 256
"""Networks of clients of one binding."""


POOLED = "~"
"""How the key of a sandbox begins that is nobody's yet. No id of a container does (`model/identifiers.py`), so nobody
can ask for it, nor be refused for it."""


PROXIES: dict[Literal[0, 4, 6], str] = {0: "", 4: "4to6", 6: "6to4"}
"""What stands behind a protocol: whose clients are led, and to what."""


AUTO = -1
"""As a host port: any that is free. It is chosen before anything is on record."""


class EndpointKey(msgspec.Struct, frozen=True, order=True):
    """What identifies an attachment: the container and the interface inside it."""

    container_id: str
    ifname: str = "eth0"

    @property
    def pooled(self) -> bool:
        """Of a ready sandbox, that is nobody's yet (`model/pool.py`)."""
        return self.container_id.startswith(POOLED)

    def __str__(self) -> str:
        return f"{self.container_id}/{self.ifname}"


class PortBinding(msgspec.Struct, frozen=True):
    """Host ports `host_port`..`host_port_last` lead to container ports `port`.. of one endpoint.

    `bind` limits the binding to one address of the node (None: every address, of each family the endpoint has);
    `sources` limits its clients (empty: anyone). `proxy`: clients of that family are served by a proxy of the daemon,
    by the server's address of the other one; 0: none are.
    """

    protocol: Protocol
    host_port: int
    port: int
    host_port_last: int = 0  # 0: one port
    bind: Address | None = None
    sources: tuple[Prefix, ...] = ()
    proxy: Literal[0, 4, 6] = 0

    @property
    def last(self) -> int:
        """The last host port."""
        return self.host_port_last or self.host_port

    @property
    def shifted(self) -> bool:
        """Host and container port numbers differ."""
        return self.host_port != self.port

    def overlaps(self, other: "PortBinding") -> bool:
        """Both would claim some packet of a client."""
        same_address = self.bind is None or other.bind is None or self.bind == other.bind
        in_range = self.host_port <= other.last and other.host_port <= self.last
        return self.protocol == other.protocol and same_address and in_range

    def __str__(self) -> str:
        bind = f"[{self.bind}]:" if self.bind is not None and self.bind.version == 6 else ""
        bind = bind or (f"{self.bind}:" if self.bind is not None else "")
        span = f"-{self.last}" if self.last != self.host_port else ""
        host = "auto" if self.host_port == AUTO else self.host_port
        shown = f"{bind}{host}{span}:{self.port}/{self.protocol}{PROXIES[self.proxy]}"
        return shown + "".join(f" from {source}" for source in self.sources)


class Endpoint(msgspec.Struct, frozen=True):
    """One interface of a sandbox with its addresses.

    `generation` is the policy version in force (`cellwall.model.versions`), of a block that no other endpoint has;
    `past_generations` are of its former blocks, one of each that flows may still carry. `netns_device` and
    `netns_inode` identify the namespace, its path may be reused by another one. `owns_netns`: cellwall made it and
    removes it. `tenant` is empty where none was named: by its id alone a container would be of any tenant called so.
    `tiers` are the policies that its flows are judged by, from that version on. `tenant_number` is what rules know its
    tenant by, one of its own where it has none. `member`: somebody asked for it who is not root.
    """

    key: EndpointKey
    tenant: str
    host_link: str
    host_index: int
    mac: int
    address4: IPv4Address
    address6: IPv6Address | None
    generation: int
    netns: str
    netns_device: int
    netns_inode: int
    owns_netns: bool = False
    past_generations: tuple[int, ...] = ()
    bindings: tuple[PortBinding, ...] = ()
    tiers: Tiers = NO_TIERS
    tenant_number: int = 0
    member: bool = False

    @property
    def own_policy(self) -> PolicyRecord:
        """Its own policy, beside its tenant's."""
        return PolicyRecord(self.tiers.endpoint, self.generation)


def parse_binding(text: str, field: str = "expose", *, auto: bool = False) -> PortBinding:
    """Parse `[BIND:]HOST[-LAST]:PORT[/PROTO][@SOURCE,SOURCE…]`; an IPv6 bind address stands in brackets.

    `8080:80`, `8080:80/udp`, `80:80/tcp6to4`, `93.184.216.10:443:8443/tcp`, `[2001:db8::1]:443:443`, `9000-9010:9000`,
    `8080:80@203.0.113.0/24`. A part that is announced but empty (`8080:80@`, `:8080:80`) is refused: it is an unset
    variable in somebody's script, and reading it as left out would publish the port to anyone. `auto`: HOST may be that
    word, for any free port.
    """
    ports, at, sources_text = text.partition("@")
    ports, slash, protocol = ports.partition("/")
    bind, host, port = _split(ports, text, field)
    first, dash, last = host.partition("-")
    led: Literal[0, 4, 6] = next((family for family, word in PROXIES.items() if protocol == f"tcp{word}"), 0)
    if slash and protocol != "udp" and protocol != f"tcp{PROXIES[led]}":
        raise InvalidSpec(field, text, "the protocol must be tcp or udp, or tcp6to4 or tcp4to6 by a proxy")
    host_port = AUTO if auto and host == "auto" else parse_port(first, f"{field}.host_port")
    host_port_last = parse_port(last, f"{field}.host_port") if dash else host_port
    binding = PortBinding(
        protocol="udp" if protocol == "udp" else "tcp",
        host_port=host_port,
        host_port_last=host_port_last if host_port_last != host_port else 0,
        port=parse_port(port, f"{field}.port"),
        bind=None if bind is None else parse_address(bind, f"{field}.bind"),
        sources=tuple(parse_prefix(part, f"{field}.sources") for part in sources_text.split(",")) if at else (),
        proxy=led,
    )
    validate_binding(binding, field, auto=auto)
    return binding


def validate_binding(binding: PortBinding, field: str = "expose", *, auto: bool = False) -> None:
    """Raise InvalidSpec for the first field that no node could serve. `auto`: the host port may be any."""
    if binding.protocol not in ("tcp", "udp"):
        raise InvalidSpec(f"{field}.protocol", binding.protocol, "must be tcp or udp")
    if not (auto and binding.host_port == AUTO and not binding.host_port_last):
        parse_port(binding.host_port, f"{field}.host_port")
        parse_port(binding.last, f"{field}.host_port")
    parse_port(binding.port, f"{field}.port")
    length = binding.last - binding.host_port
    if length < 0:
        raise InvalidSpec(f"{field}.host_port", f"{binding.host_port}-{binding.last}", "ends before it starts")
    if binding.port + length > 65535:
        raise InvalidSpec(f"{field}.port", binding.port, "the range leaves the port space")
    if binding.shifted and length >= MAX_SHIFTED_RANGE:
        raise InvalidSpec(f"{field}.host_port", str(binding), f"a shifted range has at most {MAX_SHIFTED_RANGE} ports")
    if binding.bind is not None and (binding.bind.is_loopback or binding.bind.is_unspecified):
        raise InvalidSpec(f"{field}.bind", binding.bind, "must be an address of the node's interface")
    if len(binding.sources) > MAX_CLIENTS:
        raise InvalidSpec(f"{field}.sources", len(binding.sources), f"are more than {MAX_CLIENTS}")
    if binding.proxy:
        _validate_proxy(binding, field)
    families = {source.version for source in binding.sources}
    if binding.bind is not None and families - {binding.bind.version}:
        raise InvalidSpec(f"{field}.sources", str(binding), "are of another family than the bind address")


def _validate_proxy(binding: PortBinding, field: str) -> None:
    if binding.proxy not in PROXIES or binding.protocol != "tcp":
        raise InvalidSpec(f"{field}.proxy", str(binding), "only TCP is led from one family to the other")
    if binding.last != binding.host_port:
        raise InvalidSpec(f"{field}.proxy", str(binding), "is a range; a proxy has one port")
    if binding.bind is not None and binding.bind.version != binding.proxy:
        raise InvalidSpec(f"{field}.proxy", str(binding), "nobody of that family comes by this bind address")


def parse_port(value: str | int, field: str) -> int:
    """A transport port, 1 to 65535, in plain digits."""
    text = str(value)
    if not is_number(text, 5) or not 1 <= int(text) <= 65535:
        raise InvalidSpec(field, value, "must be a port number from 1 to 65535")
    return int(text)


def _split(ports: str, text: str, field: str) -> tuple[str | None, str, str]:
    """Bind address (None: none was written), host port (range) and container port of the part before `/`."""
    if ports.startswith("["):
        bind, bracket, rest = ports[1:].partition("]:")
        host, colon, port = rest.partition(":")
        if not bracket or not colon:
            raise InvalidSpec(field, text, "must be [ADDRESS]:HOST:PORT")
        return bind, host, port
    parts = ports.split(":")
    if len(parts) == 2:
        return None, parts[0], parts[1]
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    raise InvalidSpec(field, text, "must be [BIND:]HOST[-LAST]:PORT[/tcp|/udp][@SOURCES]")
