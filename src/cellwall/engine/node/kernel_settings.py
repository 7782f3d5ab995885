"""Kernel settings that `up` changes, and how `uninstall` puts them back.

The bridge is ours and goes with its settings; the uplink and the global ones are the node's. Forwarding is turned on
per interface, so that no other network of the node is routed; where a kernel has that for IPv4 only (before 6.17),
IPv6 forwarding is global and the forward hook drops what is not ours. How long fragments wait is the whole node's, and
only ever made shorter.

Who writes a value that is there already leaves no trace. So where somebody turned forwarding on for every interface
since, which sets them all, what he needs of ours stays: `_for_all`. Of IPv6 forwarding that is global there is no such
sign, and it is put back.
"""

import msgspec

from cellwall.engine.site import Foundation, Site
from cellwall.errors import Unsupported
from cellwall.model.facts import NodeFacts

_BRIDGE4 = {
    "forwarding": "1",
    "accept_redirects": "0",
    "send_redirects": "0",
    "accept_source_route": "0",
    "route_localnet": "0",
    "proxy_arp": "0",
    "rp_filter": "1",
    "arp_ignore": "1",
}
_BRIDGE6 = {"accept_ra": "0", "autoconf": "0", "accept_redirects": "0", "seg6_enabled": "0"}
FRAGMENTS_WAIT = 5
"""Seconds for the rest of a datagram, where the kernel gives IPv4 30 and IPv6 60: parts that were sent together are
milliseconds apart, and those of datagrams that never become whole take the place of others' (`compile.pins`)."""
_FRAGMENTS = ("net/ipv4/ipfrag_time", "net/netfilter/nf_conntrack_frag6_timeout")
_BRIDGE_NETFILTER = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


def original_facts(site: Site, facts: NodeFacts) -> NodeFacts:
    """Facts with the forwarding state from before cellwall changed it."""
    before = _before(site)
    every = before.get("net/ipv6/conf/all/forwarding")
    return facts if every is None else msgspec.structs.replace(facts, forwarding6=every == "1")


def apply_settings(site: Site, uplink: str, *, ipv6: bool) -> bool:
    """Everything but bridge-nf-call; whether anything changed. Unsupported where one cannot be had: the wall that was
    asked for would not stand."""
    wanted = desired_settings(site, uplink, ipv6=ipv6)
    changed = [_require(site, name, value) for name, value in wanted.items()]
    return any(changed)


def desired_settings(site: Site, uplink: str, *, ipv6: bool) -> dict[str, str]:
    """Name → value, in the order in which they are set. An uplink that is gone, or has no IPv6, has no settings."""
    bridge = site.settings.network.bridge
    wanted = {f"net/ipv4/conf/{bridge}/{name}": value for name, value in _BRIDGE4.items()}
    of_uplink = {f"net/ipv4/conf/{uplink}/forwarding": "1"}
    if ipv6:
        wanted |= {f"net/ipv6/conf/{bridge}/{name}": value for name, value in _BRIDGE6.items()}
        of_uplink |= _forwarding6_of(site, uplink)
    wanted |= {name: value for name, value in of_uplink.items() if site.sysctls.read(name) is not None}
    wanted |= {name: str(FRAGMENTS_WAIT) for name in _FRAGMENTS if int(site.sysctls.read(name) or 0) > FRAGMENTS_WAIT}
    return wanted | _forwarding6(site, bridge) if ipv6 else wanted


def settings_drift(site: Site, found: Foundation) -> list[str]:
    """Settings of the wall that have another value by now, a line each."""
    bridge = site.settings.network.bridge
    wanted = desired_settings(site, found.uplink, ipv6=found.ipv6)
    wanted[f"net/ipv6/conf/{bridge}/disable_ipv6"] = "0" if found.ipv6 else "1"
    if found.bridge_netfilter:
        wanted |= dict.fromkeys(_BRIDGE_NETFILTER, "1")
    present = {name: site.sysctls.read(name) for name in wanted}
    return [
        f"kernel setting {name} is {present[name]}, not {value}"
        for name, value in wanted.items()
        if present[name] not in (None, value)
    ]


def enable_bridge_netfilter(site: Site) -> bool:
    """Set both bridge-nf-call settings; False where the kernel has none and none can be loaded."""
    if site.sysctls.read(_BRIDGE_NETFILTER[0]) is None:
        site.sysctls.load_module("br_netfilter")
    if site.sysctls.read(_BRIDGE_NETFILTER[0]) is None:
        return False
    for name in _BRIDGE_NETFILTER:
        _set(site, name, "1")
    return all(site.sysctls.read(name) == "1" for name in _BRIDGE_NETFILTER)


def restore_settings(site: Site) -> None:
    """Put former values back, last change first; a value that somebody changed since stays, and so does one that
    somebody needs who made the node a router since."""
    written, around = _record(site, "settings_written"), _record(site, "settings_around")
    routing = {name for name, value in around.items() if value == "0" and site.sysctls.read(name) not in (None, "0")}
    for name, value in reversed(_before(site).items()):
        if site.sysctls.read(name) == written.get(name) and _for_all(name) not in routing:
            site.sysctls.write(name, value)
    with site.journal.transaction():
        for key in ("settings_before", "settings_written", "settings_around"):
            site.journal.drop(key)


def _for_all(name: str) -> str:
    """The setting that others turn this one on by; "" where there is none. Docker and kubelet, which make a node a
    router, have bridged frames pass iptables as well."""
    *_, last = name.split("/")
    if name in _BRIDGE_NETFILTER or (name.startswith("net/ipv4/conf/") and last == "forwarding"):
        return "net/ipv4/conf/all/forwarding"
    return "net/ipv6/conf/all/force_forwarding" if last == "force_forwarding" else ""


def _forwarding6(site: Site, bridge: str) -> dict[str, str]:
    own = f"net/ipv6/conf/{bridge}/force_forwarding"
    return {own: "1"} if site.sysctls.read(own) is not None else {"net/ipv6/conf/all/forwarding": "1"}


def _forwarding6_of(site: Site, uplink: str) -> dict[str, str]:
    own, listening = f"net/ipv6/conf/{uplink}/force_forwarding", f"net/ipv6/conf/{uplink}/accept_ra"
    if site.sysctls.read(own) is not None:
        return {own: "1"}
    # A router ignores router advertisements unless accept_ra is 2: without it the node would lose its own route
    # (Documentation/networking/ip-sysctl.rst, accept_ra).
    return {listening: "2"} if site.sysctls.read(listening) == "1" else {}


def _require(site: Site, name: str, value: str) -> bool:
    """Set it; whether that changed anything. What a kernel does not have is as good as switched off."""
    present = site.sysctls.read(name)
    if present == value or (present is None and value == "0"):
        return False
    if present is None or not _set(site, name, value):
        state = "does not exist" if present is None else f"is {present}"
        raise Unsupported(f"kernel setting {name} {state} and cannot be set to {value}")
    return True


def _set(site: Site, name: str, value: str) -> bool:
    present = site.sysctls.read(name)
    if present is None or present == value:
        return False
    own = f"/conf/{site.settings.network.bridge}/" in name
    if not own:
        before, written = _before(site), _record(site, "settings_written")
        around, others = _record(site, "settings_around"), _for_all(name)
        before.setdefault(name, present)
        written[name] = value
        if others:
            around.setdefault(others, site.sysctls.read(others) or "")
        with site.journal.transaction():
            site.journal.put("settings_before", msgspec.json.encode(before))
            site.journal.put("settings_written", msgspec.json.encode(written))
            site.journal.put("settings_around", msgspec.json.encode(around))
    return site.sysctls.write(name, value)


def _before(site: Site) -> dict[str, str]:
    return _record(site, "settings_before")


def _record(site: Site, key: str) -> dict[str, str]:
    body = site.journal.get(key)
    return {} if body is None else msgspec.json.decode(body, type=dict[str, str])
