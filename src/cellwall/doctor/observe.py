"""Reading a host: /proc, and the nft program. Nothing is written, nothing is decided.

/proc before netlink: the doctor must also speak where netlink says no, and it runs once.
"""

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Literal

from cellwall import names
from cellwall.adapters import process
from cellwall.adapters.events import nflog
from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.adapters.iptables.legacy_names import legacy_tables
from cellwall.adapters.iptables.tables import XtTables
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.adapters.news.alarms import somebody_listens
from cellwall.adapters.nftables.ownership import standing
from cellwall.adapters.nftables.tables import NftRules
from cellwall.adapters.node.facts import NodeObserver
from cellwall.adapters.other_programs.predecessor import Beta9Traces
from cellwall.adapters.tc.checksums import try_filter
from cellwall.adapters.tc.latch_trial import try_latch
from cellwall.doctor.features import try_features
from cellwall.doctor.neighbours import read_foreign, read_mark_routes
from cellwall.doctor.observation import InterfaceAddress, IptablesForm, Link, Listener, Observation, Presence, Route
from cellwall.engine.iptables.form import choose_form, refusal
from cellwall.engine.nftables.backend import NftablesBackend
from cellwall.engine.predecessor.containers import Adoption, decide
from cellwall.errors import CellwallError
from cellwall.model.settings import Settings

_NET = Path("/proc/thread-self/net")
_SYS = Path("/proc/sys")
_NEEDED = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}  # linux/capability.h
_RTF_ADDRCONF = 0x00040000  # linux/ipv6_route.h: the route was learned from a router advertisement
_TCP_LISTEN = "0A"
_UDP_UNCONNECTED = "07"
_MODULES = ("bridge", "veth", "br_netfilter")
_NATIVE: Literal["little", "big"] = sys.byteorder


def observe(settings: Settings, *, daemon: bool = False, silence: str = "") -> Observation:
    """One look at the host that the calling thread's network namespace belongs to. `daemon`: one is on record as the
    node's only writer, and does not answer where there is a `silence`."""
    missing = _missing_capabilities()
    version = _nft_version()
    routes = (*_routes4(), *_routes6())
    usable = version is not None and not missing
    legacy = tuple(dict.fromkeys((*legacy_tables(4), *legacy_tables(6))))
    chains, flow_tables = read_foreign(legacy) if usable else ((), ())
    adoption = _left_by_beta9(settings) if usable else None
    return Observation(
        kernel=_kernel(os.uname().release),
        missing_capabilities=missing,
        nft=version,
        features=try_features() if usable else {},
        unfiltered=try_filter() if usable else "",
        unlatched="" if missing else try_latch(),
        modules={name: _presence(name) for name in _MODULES},
        ipv6=_ipv6(),
        sysctls=_sysctls(settings.interface or next((route.interface for route in routes), "")),
        interfaces=frozenset(name for _, name in socket.if_nameindex()),
        links=_links(),
        addresses=_addresses(),
        routes=routes,
        listeners=tuple(_listeners()),
        chains=chains,
        flow_tables=flow_tables,
        mark_routes=read_mark_routes(),
        legacy_tables=legacy,
        watched=somebody_listens(),
        owners={} if missing else _owners(),
        daemon=daemon,
        silence=silence,
        log="" if missing else nflog.refusal(settings.audit.group),
        beta9=None if adoption is None else len(adoption.endpoints),
        beta9_closed=() if adoption is None else tuple(f"{port.name}: {port.reason}" for port in adoption.closed),
        refusals={} if missing else _refusals(settings),
        iptables=None if missing else _iptables(settings),
    )


def _owners() -> dict[str, int]:
    with suppress(CellwallError), open_netfilter_socket() as netfilter:
        return {f"{family} {name}": table.owner for (family, name), table in standing(netfilter).items()}
    return {}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _kernel(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _missing_capabilities() -> tuple[str, ...]:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", _text(Path("/proc/thread-self/status")), re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    return tuple(name for name, bit in _NEEDED.items() if not effective >> bit & 1)


def _nft_version() -> tuple[int, ...] | None:
    try:
        said = process.run(["nft", "--version"], timeout=10).text
    except CellwallError:
        return None
    found = re.search(r"v(\d+(?:\.\d+)*)", said)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def _presence(module: str) -> Presence:
    """A module without parameters that is built in shows nowhere but in the list of what is."""
    switch = _SYS / "net/bridge/bridge-nf-call-iptables"
    if switch.exists() if module == "br_netfilter" else Path("/sys/module", module).exists():
        return "loaded"
    modules = Path("/lib/modules") / os.uname().release
    listed = _text(modules / "modules.dep") + _text(modules / "modules.builtin")
    if not listed and module != "br_netfilter":  # which without its switch is not loaded, wherever it may be
        return "unknown"
    return "available" if f"/{module}.ko" in listed else "missing"


def _links() -> tuple[Link, ...]:
    """All interfaces; none where netlink says no."""
    try:
        with LinkLayer() as layer:
            links = layer.observe()
    except CellwallError:
        return ()
    names_by_index = {link.index: link.name for link in links}
    return tuple(
        Link(link.name, link.mtu, link.kind, names_by_index.get(link.master, ""), link.alias == names.LINK_ALIAS)
        for link in links
    )


def _refusals(settings: Settings) -> dict[str, str]:
    tables = XtTables()
    with NftRules() as rules:
        found = {"nftables": NftablesBackend(rules).refusal(settings)}
    try:
        return found | {"iptables": refusal(tables, settings)}
    except CellwallError as error:
        return found | {"iptables": str(error)}


def _iptables(settings: Settings) -> IptablesForm | None:
    tables = XtTables()
    try:
        if not tables.variants():
            return None
        form = choose_form(tables, settings, None)
    except CellwallError:
        return None
    return IptablesForm(form.variant, form.features)


def _left_by_beta9(settings: Settings) -> Adoption | None:
    try:
        with LinkLayer() as layer:
            bridge = layer.find(settings.network.bridge)
        if bridge is None or bridge.alias:
            return None
        return decide(Beta9Traces().observe(bridge), settings)
    except CellwallError:
        return None


def _addresses() -> tuple[InterfaceAddress, ...]:
    try:
        with NodeObserver() as node:
            return tuple(InterfaceAddress(row.interface, row.address) for row in node.observe().addresses)
    except CellwallError:
        return ()


def _ipv6() -> bool:
    """The protocol is compiled in and not disabled (`ipv6.disable=1` leaves no /proc/net/if_inet6)."""
    return (_NET / "if_inet6").exists() and _text(_SYS / "net/ipv6/conf/all/disable_ipv6").strip() != "1"


def _sysctls(uplink: str) -> dict[str, str]:
    names_read = [
        "net/ipv4/ip_local_port_range",
        "net/ipv4/conf/all/route_localnet",
        "net/netfilter/nf_conntrack_helper",
        "net/netfilter/nf_conntrack_max",
        "net/netfilter/nf_conntrack_count",
        "net/netfilter/nf_conntrack_tcp_be_liberal",
        "net/ipv4/ip_local_reserved_ports",
    ]
    values = {name.replace("/", "."): _text(_SYS / name).strip() for name in names_read}
    # By path: an interface's name may hold a dot, which is also sysctl's separator.
    values["accept_ra"] = _text(_SYS / "net/ipv6/conf" / uplink / "accept_ra").strip() if uplink else ""
    return {name: value for name, value in values.items() if value}


def _routes4() -> Iterator[Route]:
    for line in _text(_NET / "route").splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8 or not int(columns[3], 16) & 1:  # RTF_UP
            continue
        # Both are in network byte order, printed as the host's integer.
        address, mask = (int.from_bytes(bytes.fromhex(columns[i]), _NATIVE) for i in (1, 7))
        yield Route(columns[0], f"{IPv4Address(address)}/{mask.bit_count()}")


def _routes6() -> Iterator[Route]:
    for line in _text(_NET / "ipv6_route").splitlines():
        columns = line.split()
        if len(columns) < 10 or columns[9] == "lo":
            continue
        network = f"{IPv6Address(bytes.fromhex(columns[0]))}/{int(columns[1], 16)}"
        if ip_network(network).is_multicast or ip_network(network).is_link_local:
            continue
        yield Route(columns[9], network, learned=bool(int(columns[8], 16) & _RTF_ADDRCONF))


def _listeners() -> Iterator[Listener]:
    for protocol, state in (("tcp", _TCP_LISTEN), ("udp", _UDP_UNCONNECTED)):
        for suffix in ("", "6"):
            for line in _text(_NET / f"{protocol}{suffix}").splitlines()[1:]:
                columns = line.split()
                if len(columns) > 3 and columns[3] == state:
                    address, _, port = columns[1].partition(":")
                    yield Listener(protocol, _proc_address(address), int(port, 16))


def _proc_address(text: str) -> str:
    """An address of /proc/net/tcp: 32-bit words in the host's byte order."""
    words = [bytes.fromhex(text[i : i + 8]) for i in range(0, len(text), 8)]
    raw = b"".join(word[::-1] if _NATIVE == "little" else word for word in words)
    return str(IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw))
