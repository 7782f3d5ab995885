"""From an observation to findings: each says what is wrong, what follows from it, and what to do.

An `error` means that the wall does not stand or can be passed, and decides the exit status; a `warning` that
something works less well or that another program stands in the way; a `note` needs no action. Pure.
"""

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Literal

import msgspec

from cellwall.doctor.features import FEATURES
from cellwall.doctor.observation import Observation
from cellwall.model.settings import Settings

OLDEST_KERNEL = (6, 1)
OLDEST_NFT = (1, 0, 6)


class Finding(msgspec.Struct, frozen=True):
    """One fact about the host that matters."""

    severity: Literal["error", "warning", "note"]
    subject: str
    observed: str
    consequence: str
    remedy: str


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


def _nft(host: Observation, _: Settings) -> Iterator[Finding]:
    wanted = ".".join(str(part) for part in OLDEST_NFT)
    if host.nft is None:
        yield Finding("error", "nft", "not installed", "no rule can be loaded", "install the package nftables")
    elif host.nft < OLDEST_NFT:
        shown = ".".join(str(part) for part in host.nft) or "unknown"
        yield Finding("error", "nft", f"version {shown}", "the rules may be refused", f"use nft {wanted} or newer")


def _features(host: Observation, _: Settings) -> Iterator[Finding]:
    for feature in FEATURES:
        said = host.features.get(feature.name, "")
        if said and not ("IPv6" in feature.name and not host.ipv6):
            remedy = "use a kernel with this part of nf_tables (module or built in)"
            yield Finding(feature.need, feature.name, said, feature.lost, remedy)


def _bridge_netfilter(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.bridge_netfilter == "missing":
        yield Finding(
            "warning",
            "br_netfilter",
            "neither loaded nor installed",
            "frames between bridge ports pass no IP rules; the wall's own frame rules hold without it",
            "install the kernel's extra modules, or ignore this",
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


def _nat_ports(host: Observation, settings: Settings) -> Iterator[Finding]:
    low, high = settings.nat_ports
    ephemeral = host.sysctls.get("net.ipv4.ip_local_port_range", "").split()
    if len(ephemeral) == 2 and int(ephemeral[0]) <= high and low <= int(ephemeral[1]):
        yield Finding(
            "error",
            "node.nat_ports",
            f"{low}-{high} overlaps net.ipv4.ip_local_port_range {ephemeral[0]}-{ephemeral[1]}",
            "a tenant's flow can take the port of a connection of the host, and its packets (port shadowing)",
            "make the two ranges disjoint",
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


def _foreign_rules(host: Observation, _: Settings) -> Iterator[Finding]:
    for chain in host.foreign_drops:
        yield Finding(
            "warning",
            "other rules",
            f"the chain `{chain}` drops by default",
            "an accept of the wall is not final: sandboxes may have no way in or out",
            "let that program accept what comes from and goes to the bridge",
        )
    for chain in host.foreign_marks:
        yield Finding(
            "warning",
            "other rules",
            f"the chain `{chain}` writes marks",
            "a sandbox's flow whose conntrack mark others change is dropped: it is the wall's policy version",
            "let that program leave alone what comes from and goes to the bridge",
        )
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
    _bridge_netfilter,
    _uplink,
    _ipv6,
    _subnets,
    _nat_ports,
    _foreign_rules,
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
    counted = sum(finding.severity == "error" for finding in findings)
    verdict = f"{counted} error(s)" if counted else "this host can carry the wall"
    return "\n".join([*blocks, verdict])
