"""From an observation to findings: each says what is wrong, what follows from it, and what to do.

Pure. What other programs' rules do is in `beside`, what links and tables have room for in `resources`.
"""

from collections.abc import Callable, Iterator
from typing import Literal

from cellwall.doctor.addresses import ipv6, lonely, nat_ports, subnets, uplink
from cellwall.doctor.beside import beside
from cellwall.doctor.features import FEATURES
from cellwall.doctor.finding import Finding
from cellwall.doctor.mechanisms import mechanisms, would_hold
from cellwall.doctor.observation import Observation
from cellwall.doctor.owners import owners
from cellwall.doctor.resources import bridge_ports, conntrack, source_ports, widths
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


def _latch(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.unlatched:
        yield Finding(
            "warning",
            "latch",
            host.unlatched,
            "nothing outside the rules latches the bridge: `nft flush ruleset`, and `iptables -F` where iptables holds "
            "the wall, open the node until `cellwall watch` or `cellwall reconcile` has laid it again",
            "use a kernel with cls_bpf (module or built in), and run `cellwall watch`",
        )


def _watch(host: Observation, settings: Settings) -> Iterator[Finding]:
    bridge = host.link(settings.network.bridge)
    if bridge is not None and bridge.ours and not host.watched:
        yield Finding(
            "note",
            "watch",
            "`cellwall watch` does not run",
            "whoever flushes all rules cuts sandboxes off, and whoever takes away part of the wall (`nft flush ruleset "
            "inet`, the table `inet cellwall`; in iptables all tables at once) opens the node to them, until `cellwall "
            "reconcile`",
            "enable cellwall-watch.service",
        )


def _legacy(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.legacy_tables:
        yield Finding(
            "note",
            "iptables-legacy",
            f"tables {', '.join(host.legacy_tables)} are loaded",
            "its rules run beside the wall's and do not show in nft's listings",
            "none needed if you know them",
        )


_WEAKENING: dict[str, tuple[str, str]] = {
    "net.ipv4.conf.all.route_localnet": (
        "route_localnet",
        "neighbours on the LAN may reach services bound to the loopback while the wall is down",
    ),
    "net.netfilter.nf_conntrack_tcp_be_liberal": (
        "conntrack",
        "segments outside a connection's window count as part of it",
    ),
    "net.netfilter.nf_conntrack_helper": ("conntrack helpers", "helpers open ports that a tenant's payload asks for"),
}
"""Settings that weaken the wall where they are 1: subject and consequence."""


def _kernel_settings(host: Observation, _: Settings) -> Iterator[Finding]:
    for name, (subject, consequence) in _WEAKENING.items():
        if host.sysctls.get(name) == "1":
            yield Finding("warning", subject, f"{name} = 1", consequence, "set it to 0")


def _log(host: Observation, settings: Settings) -> Iterator[Finding]:
    """A daemon that answers listens itself, or says why not."""
    if host.log and settings.audit.log and not (host.daemon and not host.silence):
        yield Finding(
            "warning",
            "log of denials",
            host.log,
            "the daemon could record nothing of what sandboxes try",
            "set audit.group to a group that nobody listens to, on a kernel that has them",
        )


def _daemon(host: Observation, _: Settings) -> Iterator[Finding]:
    if host.daemon and host.silence:
        yield Finding(
            "warning",
            "daemon",
            f"it is on record as the only writer, and does not answer: {host.silence}",
            "nothing is attached, detached or repaired on this node; the wall stands as it is, and nothing opens",
            "start cellwall-daemon.service; or, where it is not wanted any more, set node.mode and call `cellwall up`",
        )


CHECKS: tuple[Callable[[Observation, Settings], Iterator[Finding]], ...] = (
    _privileges,
    _kernel,
    _nft,
    _features,
    mechanisms,
    _modules,
    _checksums,
    _latch,
    _watch,
    owners,
    _daemon,
    _log,
    uplink,
    lonely,
    ipv6,
    subnets,
    nat_ports,
    beside,
    _legacy,
    widths,
    bridge_ports,
    conntrack,
    source_ports,
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
