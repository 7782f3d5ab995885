"""What callers ask of the engine and what they are told."""

from ipaddress import IPv4Address, IPv6Address

import msgspec

from cellwall.errors import Forbidden, InvalidSpec
from cellwall.model.addresses import Address, mac_text
from cellwall.model.endpoint import EndpointKey, PortBinding, validate_binding
from cellwall.model.identifiers import parse_container_id, parse_link_name, parse_tenant
from cellwall.model.network import Network, default_mac
from cellwall.model.policy import Policy
from cellwall.model.settings import Settings


class AttachRequest(msgspec.Struct, frozen=True):
    """One sandbox to attach. `netns` None: cellwall makes a namespace and removes it at detach. `tenant` None: the
    container is no tenant's, and under no tenant's policy. `address6` can only be the one that belongs to `address4`.
    `policy`: the endpoint's own, under that of its tenant. `user`: the uid of who asks, where that is not root: a
    namespace must be of that user's own making."""

    container_id: str
    netns: str | None = None
    ifname: str = "eth0"
    tenant: str | None = None
    address4: IPv4Address | None = None
    address6: IPv6Address | None = None
    mac: int | None = None
    bindings: tuple[PortBinding, ...] = ()
    policy: Policy | None = None
    user: int | None = None

    @property
    def key(self) -> EndpointKey:
        return EndpointKey(self.container_id, self.ifname)


class UpReport(msgspec.Struct, frozen=True):
    """What `up` found and did. `mechanism`: what holds the wall, in a few words."""

    changed: bool
    uplink: str
    ipv6: bool
    dns: tuple[Address, ...]
    warnings: tuple[str, ...] = ()
    mechanism: str = ""


class Status(msgspec.Struct, frozen=True):
    """`drift`: differences between desired and live, one line each; `node_drift` those of rules, bridge and kernel
    settings, which no tenant can cause. `pending`: addresses that drain. `ready`: sandboxes that wait
    for a container. `notes`: what the wall can do nothing about.
    `mechanism`: what holds the wall, in a few words.
    """

    up: bool
    endpoints: int
    pending: int
    drift: tuple[str, ...] = ()
    node_drift: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    mechanism: str = ""
    ready: int = 0


class Reconciled(msgspec.Struct, frozen=True):
    """What was repaired, one line each; empty when live was as desired."""

    repaired: tuple[str, ...] = ()


def validate_request(request: AttachRequest, settings: Settings) -> None:
    """Raise InvalidSpec for the first field that is wrong whatever the state, and Forbidden for a path that its user
    may not name; changes nothing."""
    network = settings.network
    parse_container_id(request.container_id)
    parse_link_name(request.ifname, "ifname")
    if request.ifname == "lo":
        raise InvalidSpec("ifname", request.ifname, "is the loopback interface")
    if request.tenant is not None:
        parse_tenant(request.tenant)
    if request.netns is not None:
        _validate_netns(request.netns, request.user)
    if request.bindings or (request.address4, request.address6, request.mac) != (None, None, None):
        _validate_kinds(request)  # most ask for none of these, and a claim is counted in microseconds
    if request.mac is not None:
        validate_mac(request.mac, request.address4, network)
    if request.address6 is not None:
        _validate_address6(request.address6, request.address4, network)
    if request.bindings:
        from cellwall.model.published import validate_bindings  # here and not above: most attaches publish nothing

        for binding in request.bindings:
            validate_host_ports(binding, settings)
        validate_bindings(request.bindings)


def _validate_netns(path: str, user: int | None) -> None:
    if not isinstance(path, str):
        raise InvalidSpec("netns", path, "must be a path, as text")
    if user is None:
        return
    # Before anything is looked for, as root: by `..` they would learn which directories there are, and a file system
    # may answer when it likes. What they make is at no other place where the node sees it.
    names = ("N" if name.isascii() and name.isdecimal() else name for name in path.split("/"))
    if "/".join(names) not in ("/proc/N/ns/net", "/proc/N/task/N/ns/net", "/proc/N/fd/N"):
        raise not_made_by(user, path)


def not_made_by(user: int, path: str | None) -> Forbidden:
    """The one refusal of whatever is at a path that is no namespace of this user's."""
    return Forbidden(f"netns: {path}: is no network namespace of the making of uid {user}")


def _validate_kinds(request: AttachRequest) -> None:
    """Types are not checked at run time, and an address as text is what comes to mind first."""
    for field, value, kind in (
        ("ip", request.address4, IPv4Address),
        ("ip", request.address6, IPv6Address),
        ("mac", request.mac, int),
        *(("expose", binding, PortBinding) for binding in request.bindings),
    ):
        if value is not None and not isinstance(value, kind):
            raise InvalidSpec(field, value, f"must be of the type {kind.__name__}")


def validate_host_ports(binding: PortBinding, settings: Settings) -> None:
    """A binding must be valid and must not share a port with masqueraded flows. Its port may be any free one."""
    validate_binding(binding, auto=True)
    low, high = settings.nat_ports
    if binding.host_port <= high and binding.last >= low:
        raise InvalidSpec("expose.host_port", str(binding), f"lies in the NAT range {low}-{high} (node.nat_ports)")


def validate_mac(mac: int, address4: IPv4Address | None, network: Network) -> None:
    """Raise InvalidSpec for a MAC that no sandbox may have: a group's, the gateway's, or the one that follows from
    another address than `address4`."""
    text = mac_text(mac)
    if not 0 < mac < 1 << 48 or mac >> 40 & 1:
        raise InvalidSpec("mac", text, "must be a unicast, non-zero Ethernet address")
    if mac == network.bridge_mac:
        raise InvalidSpec("mac", text, "is the gateway's address")
    derived = IPv4Address(mac & 0xFFFFFFFF)
    if mac == default_mac(derived) and derived in network.subnet4 and derived != address4:
        raise InvalidSpec("mac", text, f"belongs to {derived}")


def _validate_address6(address6: IPv6Address, address4: IPv4Address | None, network: Network) -> None:
    if address6 not in network.subnet6:
        raise InvalidSpec("ip", address6, f"is not inside {network.subnet6}")
    if address4 is None:
        offset = int(address6) - int(network.subnet6.network_address)
        if not 0 < offset < network.subnet4.num_addresses - 1:
            raise InvalidSpec("ip", address6, f"has no IPv4 counterpart in {network.subnet4}")
    elif network.address6(address4) != address6:
        raise InvalidSpec("ip", address6, f"does not belong to {address4}; that is {network.address6(address4)}")
