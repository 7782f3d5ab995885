"""Reading a host: /proc, and the nft program. Nothing is written, nothing is decided.

/proc and not netlink: the doctor must also speak where netlink says no, and it runs once.
"""

import os
import re
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Literal

import msgspec

from cellwall import names
from cellwall.adapters import process
from cellwall.doctor.features import try_features
from cellwall.doctor.observation import Listener, Observation, Presence, Route
from cellwall.errors import CellwallError
from cellwall.model.settings import Settings

_NET = Path("/proc/thread-self/net")
_SYS = Path("/proc/sys")
_NEEDED = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}  # linux/capability.h
_RTF_ADDRCONF = 0x00040000  # linux/ipv6_route.h: the route was learned from a router advertisement
_TCP_LISTEN = "0A"
_UDP_UNCONNECTED = "07"
_TABLE = re.compile(r"table (\S+) (\S+) \{")
_CHAIN = re.compile(r"\tchain (\S+) \{")
_FLOW_MARK = re.compile(r"\bct mark set\b|xt target \"CONNMARK\"")
_PACKET_MARK = re.compile(r"\bmeta mark set\b|xt target \"MARK\"")
_NATIVE: Literal["little", "big"] = sys.byteorder


def observe(settings: Settings) -> Observation:
    """One look at the host that the calling thread's network namespace belongs to."""
    missing = _missing_capabilities()
    version = _nft_version()
    routes = (*_routes4(), *_routes6())
    usable = version is not None and not missing
    return Observation(
        kernel=_kernel(os.uname().release),
        missing_capabilities=missing,
        nft=version,
        features=try_features() if usable else {},
        bridge_netfilter=_bridge_netfilter(),
        ipv6=_ipv6(),
        sysctls=_sysctls(settings.interface or next((route.interface for route in routes), "")),
        interfaces=frozenset(name for _, name in socket.if_nameindex()),
        routes=routes,
        listeners=tuple(_listeners()),
        foreign_drops=_foreign_drops() if usable else (),
        foreign_marks=_foreign_marks() if usable else (),
        legacy_tables=tuple(_text(_NET / "ip_tables_names").split()),
    )


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


def _bridge_netfilter() -> Presence:
    if (_SYS / "net/bridge/bridge-nf-call-iptables").exists():
        return "loaded"
    modules = Path("/lib/modules") / os.uname().release
    listed = _text(modules / "modules.dep") + _text(modules / "modules.builtin")
    return "available" if "/br_netfilter.ko" in listed else "missing"


def _ipv6() -> bool:
    """The protocol is compiled in and not disabled (`ipv6.disable=1` leaves no /proc/net/if_inet6)."""
    return (_NET / "if_inet6").exists() and _text(_SYS / "net/ipv6/conf/all/disable_ipv6").strip() != "1"


def _sysctls(uplink: str) -> dict[str, str]:
    names_read = [
        "net/ipv4/ip_local_port_range",
        "net/ipv4/conf/all/route_localnet",
        "net/netfilter/nf_conntrack_helper",
        "net/netfilter/nf_conntrack_max",
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


def _foreign_drops() -> tuple[str, ...]:
    """Base chains of other tables in the path of a sandbox's packets whose policy is drop."""
    try:
        listing = msgspec.json.decode(process.run(["nft", "-j", "list", "chains"], timeout=20).stdout)
    except (CellwallError, msgspec.DecodeError):
        return ()
    chains = [entry["chain"] for entry in listing.get("nftables", []) if "chain" in entry]
    return tuple(
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("policy") == "drop" and chain.get("hook") == "forward" and chain["table"] != names.TABLE
    )


def _foreign_marks() -> tuple[str, ...]:
    """Chains of other tables that write the conntrack mark, and bridge chains that write the packet mark: elsewhere
    that one has been read already."""
    try:
        listing = process.run(["nft", "--stateless", "list", "ruleset"], timeout=20).text
    except CellwallError:
        return ()
    found: dict[str, None] = {}
    family = table = chain = ""
    for line in listing.splitlines():
        if opened := _TABLE.match(line):
            family, table = opened.groups()
        elif opened := _CHAIN.match(line):
            chain = opened[1]
        elif table not in (names.TABLE, names.SPARE_TABLE) and (
            _FLOW_MARK.search(line) or (family == "bridge" and _PACKET_MARK.search(line))
        ):
            found[f"{family} {table} {chain}"] = None
    return tuple(found)
