"""The kernel features that the wall's rules use, each tried by loading a rule that needs it.

Every attempt is its own process in its own new network namespace (`unshare --net nft -f -`): the namespace and
whatever the rule made in it end with the process, and the host's rules are never written.
"""

from typing import Literal

import msgspec

from cellwall.adapters import process
from cellwall.errors import CellwallError

Need = Literal["error", "warning"]


class Feature(msgspec.Struct, frozen=True):
    """`need` is how bad its absence is, `lost` what that costs."""

    name: str
    need: Need
    lost: str
    rules: str


def _filter(family: str, hook: str, rule: str, *, sets: str = "") -> str:
    base = f"type filter hook {hook} priority 0; policy accept;"
    return f"table {family} probe {{ {sets} chain probe {{ {base} {rule}; }} ; }}"


def _nat(family: str, hook: str, rule: str, *, sets: str = "") -> str:
    return f"table {family} probe {{ {sets} chain probe {{ type nat hook {hook} priority 0; {rule}; }} ; }}"


_PIN = "set pin { type iface_index . ether_addr . ipv4_addr; };"
_COUNT = "set count { type ipv4_addr; size 65535; flags dynamic; };"
_RATE = "set rate { type iface_index; size 65535; flags dynamic,timeout; timeout 1m; };"
_VERSION = "map version { type ipv4_addr : mark; };"
_TENANT = "map tenant { type ipv4_addr : ct_label; };"
_TIMEOUTS = "ct timeout soon { protocol tcp; policy = { time_wait : 5 }; };"
_EXPOSED = "map exposed { type inet_proto . inet_service : ipv4_addr . inet_service; };"
_RANGES = "map ranges { type ipv4_addr . inet_proto . inet_service : ipv4_addr; flags interval; };"

FEATURES: tuple[Feature, ...] = (
    Feature(
        "inet tables", "error", "there is no wall at IP level", _filter("inet", "forward", "ct state invalid drop")
    ),
    Feature(
        "bridge tables",
        "error",
        "frames cannot be filtered before the bridge learns from them",
        _filter("bridge", "prerouting", 'iifname "probe*" drop'),
    ),
    Feature(
        "arp tables",
        "error",
        "an interface that is not yet a bridge port could speak ARP to the host",
        _filter("arp", "input", 'iifname "probe*" drop'),
    ),
    Feature(
        "concatenated sets",
        "error",
        "interface, MAC and address cannot be pinned together",
        _filter("bridge", "prerouting", "ether type ip iif . ether saddr . ip saddr @pin accept", sets=_PIN),
    ),
    Feature(
        "marks in bridge tables",
        "error",
        "the IP rules cannot know which frames the pins accepted",
        _filter("bridge", "prerouting", 'iifname "probe*" meta mark set meta mark | 0x1000'),
    ),
    Feature(
        "rate limits per sender",
        "error",
        "one sandbox could flood the neighbour table of the host",
        _filter("bridge", "prerouting", "add @rate { iif limit rate over 50/second } drop", sets=_RATE),
    ),
    Feature(
        "IPv6 extension headers",
        "error",
        "routing headers and options cannot be dropped",
        _filter("inet", "prerouting", "exthdr rt exists drop"),
    ),
    Feature(
        "fib lookups",
        "error",
        "the node's own addresses cannot be told from the Internet's",
        _filter("inet", "prerouting", "fib daddr type local drop"),
    ),
    Feature(
        "reject in prerouting",
        "error",
        "denied connections would hang instead of failing at once",
        _filter("inet", "prerouting", "meta l4proto tcp reject with tcp reset"),
    ),
    Feature(
        "ct count",
        "error",
        "one tenant could fill the connection table of the host",
        _filter("inet", "forward", "ct state new add @count { ip saddr ct count over 1024 } drop", sets=_COUNT),
    ),
    Feature(
        "ct timeout",
        "error",
        "one tenant could fill the connection table of the host with closed connections",
        _filter("inet", "forward", 'meta l4proto tcp ct state new ct timeout set "soon"', sets=_TIMEOUTS),
    ),
    Feature(
        "conntrack marks and original tuples",
        "error",
        "open connections cannot follow a changed policy",
        _filter("inet", "forward", "ct mark set ct original ip saddr map @version accept", sets=_VERSION),
    ),
    Feature(
        "conntrack labels",
        "error",
        "no flow can be counted by its tenant",
        _filter("inet", "forward", "ct label set ct original ip saddr map @tenant accept", sets=_TENANT),
    ),
    Feature(
        "log groups",
        "warning",
        "nobody is told of what is denied, which is only counted",
        _filter("inet", "forward", 'log prefix "probe" group 1 snaplen 128 drop'),
    ),
    Feature(
        "masquerade IPv4",
        "error",
        "sandboxes have no way out",
        _nat("inet", "postrouting", "meta nfproto ipv4 meta l4proto tcp masquerade to :10240-29999"),
    ),
    Feature(
        "masquerade IPv6",
        "warning",
        "sandboxes get no IPv6",
        _nat("inet", "postrouting", "meta nfproto ipv6 meta l4proto tcp masquerade to :10240-29999"),
    ),
    Feature(
        "DNAT from a map",
        "error",
        "ports cannot be published",
        _nat("inet", "prerouting", "dnat ip to meta l4proto . th dport map @exposed", sets=_EXPOSED),
    ),
    Feature(
        "DNAT of port ranges",
        "warning",
        "ranges of ports cannot be published",
        _nat("inet", "prerouting", "dnat ip to ip daddr . meta l4proto . th dport map @ranges", sets=_RANGES),
    ),
)


def try_features() -> dict[str, str]:
    """Feature name → "" where it works, else what nft said."""
    return {feature.name: _attempt(feature.rules) for feature in FEATURES}


def _attempt(rules: str) -> str:
    nft = process.find_program("nft") or "nft"  # unshare looks into PATH alone
    try:
        process.run(["unshare", "--net", nft, "-f", "-"], input=rules.encode(), timeout=10)
    except CellwallError as error:
        lines = str(error).splitlines()
        return next((line.strip() for line in lines if "Error" in line), lines[0])
    return ""
