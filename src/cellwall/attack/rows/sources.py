"""B01: sources that are not the sender's own, with its own MAC and with others'."""

from collections.abc import Iterator
from itertools import product

from cellwall.attack.probe import Layer, Probe, layers
from cellwall.attack.rows.routed import (
    PUBLIC,
    Choose,
    attackers,
    between,
    by_gateway,
    fixed,
    gateways,
    uplinks,
    victims,
    volley,
)
from cellwall.attack.rows.shapes import FAMILIES, PROTOCOLS
from cellwall.lab import addresses as at

_PORT = 9010
_MARTIAN = "the kernel takes no packet from an address of its own, nor from one that is no host's"


def _unpinned(family: int) -> frozenset[Layer]:
    """IPv4 is vouched for by the pin itself. For IPv6 the pin is a drop that stands before the vouching rules: without
    it a forged source is vouched for, and the mark proves nothing."""
    return layers("PIN", "RAW") if family == 4 else layers("PIN")


def _claims(family: int) -> Iterator[tuple[str, Choose, frozenset[Layer], str]]:
    """Name, source address, what stops it on the way out, and why the kernel itself does."""
    v6 = family == 6
    somebodys = _unpinned(family)
    nobodys = somebodys | layers("FWD")  # an address that is nobody's has no policy version
    outside = nobodys if v6 else nobodys | layers("SYS")  # rp_filter exists for IPv4 only

    def given(four: str, six: str) -> Choose:
        return fixed(six if v6 else four)

    yield "victim", victims(family), somebodys, ""
    yield "unassigned", given("192.168.9.9", "fd00:abcd::9:9"), nobodys, ""
    yield "subnet-last", given("192.168.15.254", "fd00:abcd::ffff:ffff:ffff:ffff"), nobodys, ""
    yield "network", given("192.168.0.0", "fd00:abcd::"), nobodys, ""
    yield "gateway", gateways(family), nobodys, "" if v6 else _MARTIAN
    yield "node", uplinks(family), nobodys, "" if v6 else _MARTIAN
    yield "node-infra", given(at.NODE_INFRA4, at.NODE_INFRA6), nobodys, "" if v6 else _MARTIAN
    yield "lan", given(at.LAN4, at.LAN6), outside, ""
    yield "infra", given(at.INFRA4, at.INFRA6), outside, ""
    yield "public", given("8.8.4.4", "2001:4860:4860::8844"), outside, ""
    yield "private", given("10.9.9.9", "fc00:9::8"), outside, ""
    yield "metadata", given("169.254.169.254", "fd00:ec2::254"), outside, ""
    yield "reserved", given("240.0.0.7", "5f00::7"), outside, ""
    yield "loopback", given("127.0.0.1", "::1"), outside, _MARTIAN
    yield "unspecified", given("0.0.0.0", "::"), outside, _MARTIAN
    yield "group", given("224.0.0.7", "ff02::7"), outside, _MARTIAN
    if v6:
        yield "link-local", lambda w: w.gateway.link_local, outside, "the kernel forwards no link-local source"
        yield "mapped", lambda w: f"::ffff:{w.victim.ip4}", outside, ""
        yield "compatible", lambda w: f"::{w.victim.ip4}", outside, ""
    else:
        yield "broadcast", fixed("255.255.255.255"), outside, _MARTIAN


def _out() -> Iterator[Probe]:
    for family in FAMILIES:
        for (name, source, stops, kernel), protocol in product(_claims(family), PROTOCOLS):
            yield volley(
                f"B01-{name}-{protocol}-v{family}",
                f"IPv{family} {protocol} to the Internet with a source of: {name}",
                stops,
                by_gateway(between(source, fixed(PUBLIC[family]), protocol, dport=_PORT)),
                "internet",
                family=family,
                kernel=kernel,
                gentle=True,
            )


def _elsewhere() -> Iterator[Probe]:
    """The same lies to the node and to the neighbour."""
    for family in FAMILIES:
        for name, source, _, kernel in _claims(family):
            # A refusal is told to the source, and quotes the packet: where that is the target, it proves nothing.
            if kernel or name in ("network", "victim", "gateway", "node", "node-infra"):
                continue
            routed = layers("SYS") if family == 4 and name not in ("unassigned", "subnet-last") else layers()
            yield volley(
                f"B01-{name}-to-node-v{family}",
                f"IPv{family} to a service of the node with a source of: {name}",
                _unpinned(family) | layers("PRE", "IN") | routed,
                by_gateway(between(source, gateways(family), "udp", dport=_PORT)),
                "node",
                family=family,
                gentle=True,
            )
            yield volley(
                f"B01-{name}-to-neighbour-v{family}",
                f"IPv{family} to a neighbour with a source of: {name}",
                _unpinned(family) | layers("FWD") | routed,
                by_gateway(between(source, victims(family), "udp", dport=_PORT)),
                "victim",
                family=family,
                gentle=True,
            )


def _frames_of_others() -> Iterator[Probe]:
    """A MAC that is not the port's, whatever the address."""
    macs: dict[str, Choose] = {
        "victims": lambda w: w.victim.mac,
        "random": fixed("02:f0:0d:00:00:09"),
        "gateways": lambda w: w.gateway.mac,
    }
    for family in FAMILIES:
        addresses = {"own": attackers(family), "victims": victims(family)}
        for (mac, choose), (name, source) in product(macs.items(), addresses.items()):
            yield volley(
                f"B01-{name}-address-{mac}-mac-v{family}",
                f"IPv{family} from the {name} address in a frame from the {mac} MAC",
                _unpinned(family) | layers("PORT"),
                by_gateway(between(source, fixed(PUBLIC[family]), "udp", dport=_PORT), mac=choose),
                "internet",
                family=family,
            )


PROBES: tuple[Probe, ...] = (*_out(), *_elsewhere(), *_frames_of_others())
