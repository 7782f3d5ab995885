"""What was read off the node: the inputs of compile that nobody configures."""

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

import msgspec

from cellwall.model.addresses import Address, Prefix


class InterfaceAddress(msgspec.Struct, frozen=True, order=True):
    """One address of one of the node's interfaces, `address` in CIDR form as `ip addr` shows it."""

    interface: str
    address: str


class OnLinkRoute(msgspec.Struct, frozen=True, order=True):
    """A prefix that the node reaches without a gateway. `announced`: by a router, and not made by the operator."""

    interface: str
    prefix: str
    announced: bool = False


class RoutedNetwork(msgspec.Struct, frozen=True, order=True):
    """A prefix that the node reaches through a router of one of its networks, or that router alone. `announced`: by a
    router, and not made by the operator."""

    interface: str
    prefix: str
    announced: bool = False


class Features(msgspec.Struct, frozen=True):
    """What this kernel can do. `ipv6`: the protocol is compiled in and not disabled; `ipv6_nat`: an nft nat chain of
    that family loads; `packet_log`: rules can tell programs of packets (nfnetlink_log)."""

    ipv6: bool = True
    ipv6_nat: bool = True
    packet_log: bool = True


class NodeFacts(msgspec.Struct, frozen=True):
    """`default4` and `default6` are the interfaces of the default routes ("" where there is none).
    `forwarding4`/`forwarding6`: whether the node was a router before cellwall touched it.
    `resolvers` are the name servers of the node's resolv.conf. `routers` are those of all routes that lie in no network
    of `on_link`, `routed` the networks behind others than the Internet's own, `untold` the interfaces with so many
    of these that none is told (`cellwall.adapters.node.routed`). `crowded` are the interfaces to which routers announce
    more networks than are told apart (`cellwall.model.announced`)."""

    addresses: tuple[InterfaceAddress, ...] = ()
    on_link: tuple[OnLinkRoute, ...] = ()
    routers: tuple[RoutedNetwork, ...] = ()
    routed: tuple[RoutedNetwork, ...] = ()
    crowded: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    default4: str = ""
    default6: str = ""
    forwarding4: bool = False
    forwarding6: bool = False
    resolvers: tuple[Address, ...] = ()
    features: Features = Features()

    def own_prefixes(self, bridge: str, uplink: str) -> Iterator[Prefix]:
        """The node's addresses as host prefixes, its on-link networks and its routers, the bridge's own left out; and
        what the uplink leads to through other routers than the Internet's. By another interface nothing leaves."""
        for row in self.addresses:
            if row.interface != bridge:
                interface = ip_interface(row.address)
                yield type(interface.network)(int(interface.ip))
        for route in self.on_link:
            if route.interface != bridge:
                network = ip_interface(route.prefix).network
                if network.prefixlen:
                    yield network
        yield from (ip_network(row.prefix) for row in self.routers if row.interface != bridge)
        yield from (ip_network(row.prefix) for row in self.routed if row.interface == uplink != bridge)
