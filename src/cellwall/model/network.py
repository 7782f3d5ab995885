"""A network: a bridge on the node, one IPv4 and at most one IPv6 subnet, and what its endpoints are told."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from cellwall.errors import InvalidSpec
from cellwall.model.addresses import link_local

_SMALLEST_SUBNET4 = 29  # network, gateway, broadcast and at least five endpoints
_LARGEST_SUBNET4 = 12
_UNUSABLE4 = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))
_UNUSABLE6 = tuple(IPv6Network(text) for text in ("::/8", "fe80::/10", "ff00::/8"))

_LEAST_MTU, _USUAL_MTU, _LARGEST_MTU = 1280, 1500, 65535


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shapes: `bridge` an interface name, `bridge_mac` an int, gateways inside their subnets.

    The IPv6 host part of an endpoint is its IPv4 offset (`192.168.0.7` → `fd00:abcd::7`), so the IPv6 subnet
    must be at least as large as the IPv4 one. `veth_prefix` starts the name of every host-side link and nothing
    else on the node may use it: rules match it before a link is enslaved.
    """

    name: str = "cellwall"
    bridge: str = "b9_br0"
    bridge_mac: int = 0x020000000001
    veth_prefix: str = "b9h"
    subnet4: IPv4Network = IPv4Network("192.168.0.0/20")
    gateway4: IPv4Address = IPv4Address("192.168.0.1")
    subnet6: IPv6Network = IPv6Network("fd00:abcd::/64")
    gateway6: IPv6Address = IPv6Address("fd00:abcd::1")
    mtu: int = 0  # 0: the node interface's

    def validate(self) -> None:
        """Raise InvalidSpec for the first field that cannot work."""
        length = self.subnet4.prefixlen
        if not _LARGEST_SUBNET4 <= length <= _SMALLEST_SUBNET4:
            raise InvalidSpec("network.subnet4", self.subnet4, "must be between /12 and /29")
        for field, subnet, unusable in (
            ("network.subnet4", self.subnet4, _UNUSABLE4),
            ("network.subnet6", self.subnet6, _UNUSABLE6),
        ):
            clash = next((prefix for prefix in unusable if subnet.overlaps(prefix)), None)
            if clash is not None:
                raise InvalidSpec(field, subnet, f"lies in {clash}, which cannot be routed to a sandbox")
        for field, gateway, subnet in (
            ("network.gateway4", self.gateway4, self.subnet4),
            ("network.gateway6", self.gateway6, self.subnet6),
        ):
            if gateway not in subnet:
                raise InvalidSpec(field, gateway, f"is not inside {subnet}")
            if gateway in (subnet.network_address, subnet.broadcast_address):
                raise InvalidSpec(field, gateway, f"is the network or broadcast address of {subnet}")
        if 128 - self.subnet6.prefixlen < 32 - length:
            raise InvalidSpec("network.subnet6", self.subnet6, f"is smaller than {self.subnet4}")
        if self.mtu and not _LEAST_MTU <= self.mtu <= _LARGEST_MTU:
            raise InvalidSpec("network.mtu", self.mtu, "must be 0 (automatic) or 1280 to 65535")
        if len(self.veth_prefix) != 3 or not self.veth_prefix.isalnum() or not self.veth_prefix.isascii():
            raise InvalidSpec("network.veth_prefix", self.veth_prefix, "must be three letters or digits")
        if self.bridge == "lo":
            raise InvalidSpec("network.bridge", self.bridge, "is the loopback interface")
        if self.bridge.startswith(self.veth_prefix):
            raise InvalidSpec("network.bridge", self.bridge, "must not start with network.veth_prefix")

    def fields(self) -> dict[str, int | str]:
        """Each field by its name, for a record: a number, or text."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value if isinstance(value, int) else str(value) for name, value in values}

    def link_mtu(self, uplink_mtu: int, before: int = 0) -> int:
        """The MTU of every link: the configured one, else the node interface's, as far as a link with IPv6 (RFC 8200 5)
        and a veth (drivers/net/veth.c) can have it. Of an interface that is gone (0), what it was `before`."""
        if self.mtu:
            return self.mtu
        return min(max(uplink_mtu, _LEAST_MTU), _LARGEST_MTU) if uplink_mtu else before or _USUAL_MTU

    def is_as_recorded(self, fields: Mapping[str, int | str]) -> bool:
        """Nothing differs from a record, that another version of the program may have written: what that did not know
        was as it is by default, and what it alone knew is not looked at. The MTU may change: links follow it."""
        recorded = {**Network().fields(), **fields}
        return all(recorded[name] == value for name, value in self.fields().items() if name != "mtu")

    @property
    def gateway_link_local(self) -> IPv6Address:
        """The link-local address of the bridge."""
        return link_local(self.bridge_mac)

    def address6(self, address4: IPv4Address) -> IPv6Address:
        """The IPv6 address that belongs to an IPv4 address of the subnet."""
        offset = int(address4) - int(self.subnet4.network_address)
        return IPv6Address(int(self.subnet6.network_address) + offset)


def default_mac(address4: IPv4Address) -> int:
    """The MAC of an endpoint that did not ask for one: locally administered 0a:58 and its IPv4 address, so it is
    as unique as the lease is."""
    return 0x0A58 << 32 | int(address4)
