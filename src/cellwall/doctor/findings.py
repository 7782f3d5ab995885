"""From an observation to findings: each says what is wrong, what follows from it, and what to do.

Pure. What other programs' rules do is in `beside`, what links and tables have room for in `resources`.
"""

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Literal

from cellwall.doctor.beside import beside
from cellwall.doctor.features import FEATURES
from cellwall.doctor.finding import Finding
from cellwall.doctor.mechanisms import mechanisms, would_hold
from cellwall.doctor.observation import Observation
from cellwall.doctor.resources import bridge_ports, conntrack, widths
from cellwall.model.settings import Settings

OLDEST_KERNEL = (6, 1)
OLDEST_NFT = (1, 0, 6)


def _privileges(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.missing_capabilities:
        yield Finding(
            "error",
            "privileges",
            f"{' and '.join(host.missing_capabilities)} missing",
            "neither rules nor interfaces can be made; kernel features were not tried",
            "run as root",
        )


def _kernel(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.kernel < OLDEST_KERNEL:
        yield Finding(
            "error",
            "kernel",
            f"Linux {host.kernel[0]}.{host.kernel[1]}",
            "the wall is not tested on it, and features it relies on may differ",
            f"use Linux {OLDEST_KERNEL[0]}.{OLDEST_KERNEL[1]} or newer",
        )


def _nft(host: Observation, settings: Settings) -> Iterator[Finding]:
    if would_hold(host, settings) == "iptables":
        return
    wanted = ".".join(str(part) for part in OLDEST_NFT)
    if host.nft is None:
        yield Finding("error", "nft", "not installed", "no rule can be loaded", "install the package nftables")
    elif host.nft < OLDEST_NFT:
        shown = ".".join(str(part) for part in host.nft) or "unknown"
        yield Finding("error", "nft", f"version {shown}", "the rules may be refused", f"use nft {wanted} or newer")


def _features(host: Observation, settings: Settings) -> Iterator[Finding]:
    if would_hold(host, settings) == "iptables":
        return
    for feature in FEATURES:
        said = host.features.get(feature.name, "")
        if said and not ("IPv6" in feature.name and not host.ipv6):
            remedy = "use a kernel with this part of nf_tables (module or built in)"
            yield Finding(feature.need, feature.name, said, feature.lost, remedy)


_MODULES: dict[str, tuple[Literal["error", "warning"], str, str]] = {
    "bridge": ("error", "there is nothing to attach a sandbox to", "install the kernel's modules"),
    "veth": ("error", "there is nothing to attach a sandbox by", "install the kernel's modules"),
    "br_netfilter": (
        "warning",
        "frames between bridge ports pass no IP rules; the wall's own frame rules hold without it",
        "install the kernel's extra modules, or ignore this",
    ),
    "cls_bpf": (
        "warning",
        "nothing outside the rules latches the bridge: whoever flushes the whole ruleset opens the node until "
        "`cellwall reconcile`",
        "install the kernel's extra modules",
    ),
}


def _modules(host: Observation, _: Settings) -> Iterator[Finding]:
    for name, (severity, consequence, remedy) in _MODULES.items():
        if host.modules.get(name) == "missing":
            yield Finding(severity, name, "neither loaded nor installed", consequence, remedy)


def _checksums(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.unfiltered:
        yield Finding(
            "warning",
            "unfinished checksums",
            host.unfiltered,
            "a sandbox with CAP_NET_RAW can have a card write two bytes of a packet behind every rule, also into its "
            "address",
            "use Linux 5.8 or newer that describes its types (CONFIG_DEBUG_INFO_BTF) and is not locked down to "
            "confidentiality",
        )


def _uplink(host: Observation, settings: Settings) -> Iterator[Finding]:
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


def _ipv6(host: Observation, settings: Settings) -> Iterator[Finding]:
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


def _subnets(host: Observation, settings: Settings) -> Iterator[Finding]:
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


def _nat_ports(host: Observation, settings: Settings) -> Iterator[Finding]:
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


def _legacy(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.legacy_tables:
        yield Finding(
            "note",
            "iptables-legacy",
            f"tables {', '.join(host.legacy_tables)} are loaded",
            "its rules run beside the wall's and do not show in nft's listings",
            "none needed if you know them",
        )


def _kernel_settings(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.sysctls.get("net.ipv4.conf.all.route_localnet") == "1":
        yield Finding(
            "warning",
            "route_localnet",
            "net.ipv4.conf.all.route_localnet = 1",
            "neighbours on the LAN may reach services bound to the loopback while the wall is down",
            "set it to 0",
        )
    if host.sysctls.get("net.netfilter.nf_conntrack_tcp_be_liberal") == "1":
        yield Finding(
            "warning",
            "conntrack",
            "net.netfilter.nf_conntrack_tcp_be_liberal = 1",
            "segments outside a connection's window count as part of it",
            "set it to 0",
        )
    if host.sysctls.get("net.netfilter.nf_conntrack_helper") == "1":
        yield Finding(
            "warning",
            "conntrack helpers",
            "net.netfilter.nf_conntrack_helper = 1",
            "helpers open ports that a tenant's payload asks for",
            "set it to 0",
        )


CHECKS: tuple[Callable[[Observation, Settings], Iterator[Finding]], ...] = (
    _privileges,
    _kernel,
    _nft,
    _features,
    mechanisms,
    _modules,
    _checksums,
    _uplink,
    _ipv6,
    _subnets,
    _nat_ports,
    beside,
    _legacy,
    widths,
    bridge_ports,
    conntrack,
    _kernel_settings,
)


def diagnose(host: Observation, settings: Settings) -> tuple[Finding, ...]:
    """All findings about a host, errors first."""
    found = [finding for check in CHECKS for finding in check(host, settings)]
    return tuple(sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.severity)))


def render_findings(findings: tuple[Finding, ...]) -> str:
    """The findings for people."""
    blocks = [
        f"{finding.severity}: {finding.subject}: {finding.observed}\n"
        f"    so:  {finding.consequence}\n"
        f"    do:  {finding.remedy}"
        for finding in findings
    ]
    errors, warnings = (sum(finding.severity == kind for finding in findings) for kind in ("error", "warning"))
    verdict = f"{errors} error(s)" if errors else "this host can carry the wall"
    verdict += f", {warnings} warning(s)" * bool(warnings)
    return "\n".join([*blocks, verdict])
