"""The networks that lie behind another of the node's routers than the default one.

Owns: which of a node's routes lead to somebody of its own, though not without a gateway. What is led through a further
router, by a route of a VPN or one of DHCP's option 121, is a network that the node can reach and the Internet need not.

Two things are no such network. Through the default's own router everything goes anyway. And who has a full table of
the Internet's routes, or splits it among routers, has it behind all of them: shares of it that are too short to be a
network's, and more networks than anybody names, are not told.
"""

from _socket import AF_INET6
from collections.abc import Iterable

from cellwall.adapters.routes import Behind, Route, Routed
from cellwall.model.announced import Network, cover

MOST = 256
"""How many of them are told that the operator made; more on one interface are the Internet."""


def networks_behind(led: Iterable[Route], routes: Iterable[Route]) -> Routed:
    """What routes say of the networks that they lead to through a gateway; the router of none. `routes` are all, of all
    tables."""
    made: dict[int, set[tuple[int, bytes, int]]] = {}
    announced: dict[int, set[Network]] = {}
    by_default = {kind: _defaults(routes, kind) for kind in (False, True)}
    for route in led:
        for hop in route.hops:
            if not hop.gateway or (hop.index, hop.gateway) in by_default[route.announced]:
                continue
            if route.announced:
                announced.setdefault(hop.index, set()).add((route.destination, route.prefixlen))
            else:
                made.setdefault(hop.index, set()).add((route.family, route.destination, route.prefixlen))
    untold = tuple(sorted(index for index, networks in made.items() if len(networks) > MOST))
    told = [Behind(index, *row) for index, rows in made.items() if index not in untold for row in rows]
    crowded = []
    for index, networks in announced.items():
        blocks, coarser = cover(networks)
        told += [Behind(index, AF_INET6, *block, announced=True) for block in blocks]
        if coarser:
            crowded.append(index)
    return Routed((), tuple(sorted(told)), tuple(crowded), untold)


def _defaults(routes: Iterable[Route], announced: bool) -> set[tuple[int, bytes]]:
    """The routers that everything goes through. By announcing itself nobody makes what the operator leads through it
    a part of the Internet."""
    shares = [route for route in routes if route.shares and route.announced <= announced]
    return {(hop.index, hop.gateway) for route in shares for hop in route.hops}
