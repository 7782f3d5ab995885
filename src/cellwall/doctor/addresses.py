"""The node's way out, its networks and its ports, against what the sandboxes use of each. Pure."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

from cellwall.doctor.finding import Finding
from cellwall.doctor.observation import Observation
from cellwall.model.floor import lonely_addresses
from cellwall.model.settings import Settings


def uplink(host: Observation, settings: Settings) -> Iterator[Finding]:
    """The interface of all egress."""
    if settings.interface:
        if settings.interface not in host.interfaces:
            yield Finding(
                "error",
                "node.interface",
                f"{settings.interface} does not exist",
                "sandboxes have no way out",
                "name an interface that exists, or none to follow the default route",
            )
    elif not host.default_interface(4) and not host.default_interface(6):
        yield Finding(
            "error",
            "default route",
            "there is none",
            "the interface of all egress is unknown, `up` refuses",
            "bring the network up, or set node.interface",
        )


def lonely(host: Observation, settings: Settings) -> Iterator[Finding]:
    """Who is beside the node, of whom only its networks tell."""
    interface = settings.interface or host.default_interface(4) or host.default_interface(6)
    networks = ((route.interface, route.prefix) for route in host.routes)
    for address in lonely_addresses(
        interface, ((row.interface, row.address) for row in host.addresses), networks, settings.protect
    ):
        yield Finding(
            "warning",
            "neighbours",
            f"{address} of {interface} lies in no network that the node knows",
            "but for its routers, sandboxes reach whoever is beside it as they reach the Internet",
            "name the network around it, and others of yours, in node.protect",
        )


def ipv6(host: Observation, settings: Settings) -> Iterator[Finding]:
    """What sandboxes get of it, and whether the node keeps its own."""
    if settings.ipv6 == "off":
        return
    if not host.ipv6:
        yield Finding("note", "IPv6", "disabled on this host", "sandboxes have IPv4 only", "none needed")
    elif not host.default_interface(6):
        yield Finding("note", "IPv6", "no default route", "sandboxes reach nothing over IPv6", "none needed")
    learned = any(route.learned and route.prefix == "::/0" for route in host.routes)
    if learned and host.sysctls.get("accept_ra") == "1":
        yield Finding(
            "warning",
            "IPv6 default route",
            "learned from router advertisements, with accept_ra = 1",
            "a kernel that forwards ignores advertisements at 1: the node may lose its own IPv6 route",
            f"set net.ipv6.conf.{host.default_interface(6)}.accept_ra = 2",
        )


def subnets(host: Observation, settings: Settings) -> Iterator[Finding]:
    """Networks and addresses of the node against those of sandboxes."""
    network = settings.network
    for key, subnet in (("network.subnet4", network.subnet4), ("network.subnet6", network.subnet6)):
        for route in host.routes:
            prefix = ip_network(route.prefix)
            ours = route.interface == network.bridge or prefix.prefixlen == 0
            if ours or prefix.version != subnet.version:
                continue
            if prefix.overlaps(subnet) and route.learned:
                yield Finding(
                    "warning",
                    key,
                    f"{subnet} overlaps {prefix}, which a router announced on {route.interface}",
                    "the node itself may look for sandboxes on that interface",
                    f"choose another {key}, or find out who announces it",
                )
            elif prefix.overlaps(subnet):
                yield Finding(
                    "error",
                    key,
                    f"{subnet} overlaps {prefix} on {route.interface}",
                    "`up` refuses: sandboxes would shadow a network of the node",
                    f"choose another {key}",
                )
        for row in host.addresses:
            address = ip_interface(row.address).ip
            if row.interface != network.bridge and address.version == subnet.version and address in subnet:
                yield Finding(
                    "error",
                    key,
                    f"{subnet} has {address}, an address of {row.interface}",
                    "a sandbox may be given the node's own address, and then neither is reached",
                    f"choose another {key}, or take the address away",
                )


def nat_ports(host: Observation, settings: Settings) -> Iterator[Finding]:
    """What else uses the ports that flows are masqueraded into."""
    low, high = settings.nat_ports
    ephemeral = host.sysctls.get("net.ipv4.ip_local_port_range", "").split()
    kept = _ports(host.sysctls.get("net.ipv4.ip_local_reserved_ports", ""))
    if len(ephemeral) == 2 and set(range(max(int(ephemeral[0]), low), min(int(ephemeral[1]), high) + 1)) - kept:
        yield Finding(
            "error",
            "node.nat_ports",
            f"{low}-{high} overlaps net.ipv4.ip_local_port_range {ephemeral[0]}-{ephemeral[1]}",
            "a tenant's flow can take the port of a connection of the host, and its packets (port shadowing)",
            f"make the two ranges disjoint, or set net.ipv4.ip_local_reserved_ports = {low}-{high}",
        )
    for listener in sorted(set(host.listeners), key=lambda one: (one.port, one.protocol, one.address)):
        if low <= listener.port <= high and not ip_address(listener.address).is_loopback:
            yield Finding(
                "error",
                "node.nat_ports",
                f"a {listener.protocol} service listens on {listener.address} port {listener.port}, in {low}-{high}",
                "a tenant can take packets that a client sends to this service (port shadowing)",
                "move the service, or set node.nat_ports to a range that no service uses",
            )


def _ports(text: str) -> set[int]:
    """The ports of a list of ports and ranges, as sysctl has it."""
    ends = [part.partition("-") for part in text.split(",") if part.strip()]
    return {port for first, _, last in ends for port in range(int(first), int(last or first) + 1)}
