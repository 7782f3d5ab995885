"""What is refused about a node or its configuration before anything of it changes.

Networks of the node that overlap ours are refused where the operator chooses: on a node that is not up, or when the
network changes. Later they are a warning, for whoever closes a port must not depend on routes that others make; and a
network that a router announced, which is to say anybody on the LAN, is never more than that.
"""

from collections.abc import Collection, Iterator
from ipaddress import ip_network

from cellwall.compile.assemble import uplink_of
from cellwall.engine.site import Foundation, Site
from cellwall.errors import Conflict, InvalidSpec, Unsupported
from cellwall.model.addresses import Prefix
from cellwall.model.facts import NodeFacts, OnLinkRoute, RoutedNetwork
from cellwall.model.floor import lonely_addresses


def judge_node(site: Site, facts: NodeFacts, before: Foundation | None) -> str:
    """The uplink of a node that can be walled as configured; InvalidSpec, Conflict or Unsupported for another."""
    uplink = judge_place(site, facts, before)
    site.links.find_bridge(site.settings.network.bridge)  # refuses one that is not ours
    if before is not None and not site.has_network_of(before):
        refuse_attached(site)
    return uplink


def refuse_attached(site: Site) -> None:
    """Conflict where containers have endpoints in a network that is to be another. What was begun and what stands ready
    is nobody's, and goes with its network."""
    if any(not endpoint.key.pooled for endpoint in site.journal.endpoints("attached")):
        raise Conflict("network: its configuration changed while endpoints are attached; detach them first")


def judge_place(site: Site, facts: NodeFacts, before: Foundation | None) -> str:
    """What `judge_node` asks, but for whose the bridge is."""
    uplink = _uplink(site, facts, before)
    if before is None or not site.has_network_of(before):
        _refuse_overlaps(site, facts, before)
    return uplink


def _uplink(site: Site, facts: NodeFacts, before: Foundation | None) -> str:
    uplink = uplink_of(site.settings, facts)
    if not uplink and before is not None:
        return before.uplink  # the default route is gone: nothing leaves by another interface meanwhile
    if not uplink:
        raise Unsupported("node.interface: the node has no default route, and no interface is configured")
    if uplink == site.settings.network.bridge:
        raise InvalidSpec("network.bridge", uplink, "is the interface of all egress, and not ours")
    if site.links.find(uplink) is None:
        raise InvalidSpec("node.interface", uplink, "does not exist")
    return uplink


def overlaps(site: Site, facts: NodeFacts) -> tuple[str, ...]:
    """Networks of the node that overlap ours, and interfaces to which too many are announced, a line each."""
    lines = [line for _, line in _overlaps(site, facts, {site.settings.network.bridge})]
    for interface in facts.crowded:
        rows: tuple[OnLinkRoute | RoutedNetwork, ...] = (*facts.on_link, *facts.routed)
        blocks = [row.prefix for row in rows if row.interface == interface and row.announced]
        lines.append(f"{interface}: routers announce so many networks that {', '.join(blocks)} is denied as a whole")
    lines += [_untold(interface) for interface in facts.untold]
    return tuple(lines)


def lonely_warnings(uplink: str, facts: NodeFacts, protect: Collection[Prefix]) -> Iterator[str]:
    """Addresses of the uplink whose neighbours nobody can tell from the Internet, a line each."""
    addresses = ((row.interface, row.address) for row in facts.addresses)
    networks = ((row.interface, row.prefix) for row in facts.on_link)
    for address in lonely_addresses(uplink, addresses, networks, protect):
        yield (
            f"{address} of {uplink} lies in no network that the node knows: its neighbours are a part of the Internet "
            "to sandboxes, except those in node.protect"
        )


def _untold(interface: str) -> str:
    return (
        f"{interface}: routes lead to so many networks through other routers than the default one that they are taken "
        "for the Internet; name in node.protect those that sandboxes must not reach"
    )


def _refuse_overlaps(site: Site, facts: NodeFacts, before: Foundation | None) -> None:
    network = site.settings.network
    for route, line in _overlaps(site, facts, {network.bridge, before.bridge if before else network.bridge}):
        if not route.announced:
            raise Conflict(line)


def _overlaps(site: Site, facts: NodeFacts, ours: set[str]) -> Iterator[tuple[OnLinkRoute, str]]:
    network = site.settings.network
    for route in facts.on_link:
        other = ip_network(route.prefix, strict=False)
        own = network.subnet4 if other.version == 4 else network.subnet6
        if route.interface not in ours and other.prefixlen and own.overlaps(other):
            yield route, f"network.subnet{other.version}: {own}: overlaps {other} on interface {route.interface}"
