"""What the node has and the sandboxes use: links and their width, bridge ports, the conntrack table, source ports.
Pure."""

from collections.abc import Iterator

from cellwall.doctor.finding import Finding
from cellwall.doctor.observation import Observation
from cellwall.model.network import Network
from cellwall.model.settings import Settings

_IPV6_MTU = 1280
_NEARLY_FULL = 0.9


def widths(host: Observation, settings: Settings) -> Iterator[Finding]:
    """MTU of the node interface against that of the sandboxes' links."""
    network = settings.network
    uplink = host.link(settings.interface or host.default_interface(4) or host.default_interface(6))
    if uplink is None:
        return
    if uplink.mtu < _IPV6_MTU:
        yield Finding(
            "warning",
            "MTU",
            f"{uplink.name} has {uplink.mtu}",
            f"there is no IPv6 below {_IPV6_MTU}; sandboxes' links have {_IPV6_MTU}, and what is larger than "
            f"{uplink.mtu} is fragmented or depends on ICMP errors",
            f"raise the MTU of {uplink.name}",
        )
    elif network.mtu > uplink.mtu:
        yield Finding(
            "warning",
            "network.mtu",
            f"{network.mtu}, and {uplink.name} has {uplink.mtu}",
            "TCP is fitted to the path; other datagrams that are too large depend on ICMP errors that may be lost",
            f"set network.mtu to 0, or to at most {uplink.mtu}",
        )
    wanted = network.link_mtu(uplink.mtu)
    links = [link for link in host.links if link.name == network.bridge or _is_port(link.name, link.bridge, settings)]
    wrong = [f"{link.name} has {link.mtu}" for link in links if link.mtu != wanted]
    if wrong:
        yield Finding(
            "warning",
            "MTU",
            f"{', '.join(wrong[:3])}{' and others' * (len(wrong) > 3)}; it should be {wanted}, by {uplink.name}",
            "packets of another size than the path takes are lost where ICMP errors are",
            "run `cellwall up`, or `cellwall reconcile`",
        )


def bridge_ports(host: Observation, settings: Settings) -> Iterator[Finding]:
    """Whose the bridge is, and who else is on it."""
    network = settings.network
    bridge = host.link(network.bridge)
    if host.beta9 is not None:
        yield Finding(
            "note",
            "network.bridge",
            f"{network.bridge} is beta9's, with {host.beta9} container(s) that can be taken over",
            "what they send is not walled yet",
            "run `cellwall up`: it takes over the bridge, the containers and their published ports",
        )
        for line in host.beta9_closed:
            yield Finding(
                "warning",
                "network.bridge",
                f"port {line}",
                "`up` takes over what is beside it, and this port stays closed: the container behind it has no network",
                "put its addresses right inside, or attach the container anew once the wall stands",
            )
    elif bridge is not None and not (bridge.kind == "bridge" and bridge.ours):
        yield Finding(
            "error",
            "network.bridge",
            f"{bridge.name} is a {bridge.kind or 'interface'} that cellwall did not make",
            "`up` refuses: whose ports these are is not known",
            "choose another network.bridge, or remove it",
        )
        return
    yield from _strangers(host, network)


def _strangers(host: Observation, network: Network) -> Iterator[Finding]:
    for link in host.links:
        if link.bridge == network.bridge and not link.name.startswith(network.veth_prefix):
            yield Finding(
                "warning",
                "bridge ports",
                f"{link.name} is on {network.bridge}, put there by somebody else",
                "no sandbox hears it, and once `up`, `reconcile` or `watch` has shut its port, nobody does",
                f"ip link set {link.name} nomaster",
            )
        elif link.name.startswith(network.veth_prefix) and not link.bridge:
            yield Finding(
                "warning",
                "network.veth_prefix",
                f"{link.name} begins with {network.veth_prefix}, and is no port of {network.bridge}",
                "whatever has such a name is cut off: the wall takes it for a sandbox's link before it is attached",
                "rename it, or choose another network.veth_prefix",
            )


def conntrack(host: Observation, settings: Settings) -> Iterator[Finding]:
    """The table of connections against what the sandboxes may fill of it."""
    size, used = (_number(host, f"net.netfilter.nf_conntrack_{name}") for name in ("max", "count"))
    if not size:
        return
    containers = sum(_is_port(link.name, link.bridge, settings) for link in host.links)
    families = 2 if host.ipv6 and settings.ipv6 != "off" else 1
    # Of flows that a sandbox opens and again of flows to it, each counted per family.
    cap = 2 * families * settings.connections
    remedy = f"set net.netfilter.nf_conntrack_max to at least {max(containers, 1) * cap}, or lower limits.connections"
    if containers * cap > size or cap > size:
        yield Finding(
            "warning",
            "conntrack size",
            f"{containers} container(s) may hold {cap} flows each; net.netfilter.nf_conntrack_max is {size}",
            "sandboxes together can fill the table, and then nobody on this host opens a connection",
            remedy,
        )
    elif (tenants := 2 * settings.tenant_connections) > size // 2:
        yield Finding(
            "warning",
            "conntrack size",
            f"one tenant may hold {tenants} flows, out and in; net.netfilter.nf_conntrack_max is {size}",
            "two tenants can fill the table, and then nobody on this host opens a connection",
            f"set net.netfilter.nf_conntrack_max to at least {4 * tenants}, or lower limits.tenant_connections",
        )
    elif used > _NEARLY_FULL * size:
        yield Finding(
            "warning",
            "conntrack size",
            f"{used} of {size} entries are in use",
            "when the table is full nobody on this host opens a connection",
            "raise net.netfilter.nf_conntrack_max",
        )


def source_ports(host: Observation, settings: Settings) -> Iterator[Finding]:
    """The ports that flows are masqueraded into, of which each flow to one address, port and protocol takes one,
    against the flows that the sandboxes there are may have open, or those of one tenant."""
    width = settings.nat_ports[1] - settings.nat_ports[0] + 1
    containers = sum(_is_port(link.name, link.bridge, settings) for link in host.links)
    together = containers * min(settings.connections, settings.tenant_connections or settings.connections)
    alone = settings.tenant_connections or together
    lost = "of one address, port and protocol, such as a resolver's; no other sandbox then begins a flow to it"
    if alone >= width:
        yield Finding(
            "warning",
            "NAT ports",
            f"one tenant may have {alone} flows open; node.nat_ports has {width}",
            f"it can use up all source ports {lost}",
            "lower limits.tenant_connections to a quarter of it, or widen node.nat_ports",
        )
    elif together >= width:
        yield Finding(
            "note",
            "NAT ports",
            f"{containers} container(s) may have {together} flows open; node.nat_ports has {width}",
            f"sandboxes that work together can use up all source ports {lost}",
            "lower limits.connections and limits.tenant_connections, or widen node.nat_ports",
        )


def _is_port(name: str, bridge: str, settings: Settings) -> bool:
    return bridge == settings.network.bridge and name.startswith(settings.network.veth_prefix)


def _number(host: Observation, name: str) -> int:
    text = host.sysctls.get(name, "")
    return int(text) if text.isdigit() else 0
