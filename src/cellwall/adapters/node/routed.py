"""The networks that lie behind another of the node's routers than the default one.

Owns: which of a node's routes lead to somebody of its own, though not without a gateway. What is led through a further
router, by a route of a VPN or one of DHCP's option 121, is a network that the node can reach and the Internet need not.

Two things are no such network. To the router that the default route of the main table leads to, packets to it would go
anyway; which of several default routes that is, or of shares of the Internet, the kernel's own choice says: the longest
prefix that holds the network, then the lowest metric. And who has a full table of the Internet's routes has it behind
all its routers: shares of it that are too short to be a network's, and more networks than anybody names, are not told.
Networks that every floor denies, as a cluster's nodes have routes to by the hundred, are neither told nor counted.
"""

from _socket import AF_INET6
from collections.abc import Iterable, Sequence

from cellwall.adapters.node.routes import Hop, Reached, Route, Routed, in_blocks
from cellwall.model.announced import Network

MOST = 256
"""How many of them are told that the operator made; more on one interface are the Internet."""


def networks_behind(led: Iterable[Route], routes: Sequence[Route]) -> Routed:
    """What routes say of the networks that they lead to through a gateway; the router of none. `routes` are all, of all
    tables."""
    made: dict[int, set[tuple[int, bytes, int]]] = {}
    announced: dict[int, set[Network]] = {}
    shares = [route for route in routes if route.shares and route.hops and not route.spare]
    # By announcing itself nobody makes what the operator leads through it a part of the Internet.
    lasting = [route for route in shares if not route.announced]
    for route in led:
        if route.denied_anyway:
            continue
        anyway = _anyway(route, shares if route.announced else lasting)
        for hop in route.hops:
            if not hop.gateway or hop in anyway:
                continue
            if route.announced:
                announced.setdefault(hop.index, set()).add((route.destination, route.prefixlen))
            else:
                made.setdefault(hop.index, set()).add((route.family, route.destination, route.prefixlen))
    untold = tuple(sorted(index for index, networks in made.items() if len(networks) > MOST))
    told = [Reached(index, *row) for index, rows in made.items() if index not in untold for row in rows]
    blocks, crowded = in_blocks(announced)
    return Routed((), tuple(sorted(told + blocks)), crowded, untold)


def _anyway(network: Route, shares: Sequence[Route]) -> Sequence[Hop]:
    """Where packets to a network would go, were there no route to it. Of equal routes IPv4 takes the first, IPv6 all
    (net/ipv4/fib_trie.c, fib_table_lookup; net/ipv6/route.c, find_rr_leaf)."""
    holding = [share for share in shares if _holds(share, network)]
    if not holding:
        return ()
    best = min(holding, key=_rank)
    if network.family != AF_INET6:
        return best.hops
    return [hop for share in holding if _rank(share) == _rank(best) for hop in share.hops]


def _rank(share: Route) -> tuple[int, int]:
    return -share.prefixlen, share.metric


def _holds(share: Route, network: Route) -> bool:
    """Shares are shorter than any network, and than two bytes."""
    if share.family != network.family:
        return False
    rest = 16 - share.prefixlen
    first, other = (int.from_bytes(route.destination[:2].ljust(2, b"\0"), "big") for route in (share, network))
    return first >> rest == other >> rest
