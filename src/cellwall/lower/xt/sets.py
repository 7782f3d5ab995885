"""The ipsets: everything that changes per endpoint, binding or node, and their text for `ipset restore`.

| set | type | one entry per |
|---|---|---|
| `b9pin4` | bitmap:ip,mac | endpoint |
| `b9pin6` | hash:ip,mac | endpoint with IPv6 |
| … where there is no such type | hash:ip, the last 32 bits of the MAC as its mark | endpoint that asked for a MAC |
| `b9oui6` (only then) | hash:ip, the first 16 bits of it as its mark | endpoint that asked for a MAC |
| `b9version4` `b9version6` | hash:ip, the policy version as its mark | endpoint and family |
| `b9born4` `b9born6` | hash:ip, the first of its versions as its mark | endpoint and family |
| `b9exposed4` … | hash:ip,port | binding open to anyone; a range is its ports |
| `b9exposedto4` … | hash:ip,port,net | binding and client network |
| `b9published4` … | hash:net,port | published TCP port of the node, of one address or of two halves of all |
| `b9tlimits4` … `b9ewatches4` … | hash:ip | endpoint under such a policy of its tenant, or its own |
| `b9tallow4` `b9tdeny4` … | hash:ip,port,net | listed port and network; a range is its ports |
| `b9mail4` `b9mail6` | hash:ip | endpoint with a policy that lists mail |
| `b9sent4` … `b9got4` … | hash:ip, packets counted | address of whose packets some were denied: rules add it |
| `b9reset4` `b9reset6` | hash:ip,port,net, for 3 s | ends of packets in flows that were reset: rules add it |
| `b9stray4` `b9stray6` | hash:ip,port,net, for 6 s | … in ended flows, that are not forwarded |
| `b9lingering4` … | hash:ip, for 6 s | endpoint that keeps too many ended flows, or whose clients do |
| `b9floor4` … `b9noclients4` … | hash:net | row |
| `b9opened4` … `b9services4` … | hash:ip,port | row |
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Literal

import msgspec

from cellwall.compile.usage import PolicyUsage
from cellwall.compile.wall import CLOSE, TIME_WAIT, OpenedService, Wall
from cellwall.lower.xt.features import PinForm, XtFeatures, pin_form
from cellwall.model.addresses import PROTOCOL_NUMBERS, Prefix, mac_text
from cellwall.model.policy import TierName

SetType = Literal[
    "hash:ip", "hash:net", "hash:ip,port", "hash:net,port", "hash:ip,port,net", "hash:ip,mac", "bitmap:ip,mac"
]

SET_PREFIX = "b9"

SMALLEST_PORT_BITS = 6
"""Of a block of ports that a policy lists: each of its at most 1,024 ports is an entry of its own."""

_ENTRIES = 1 << 20  # a range of ports is that many entries; the kernel allocates as they come
_NUMBERS = {number: name for name, number in PROTOCOL_NUMBERS.items() if name in ("tcp", "udp")}
_ALL_BITS = 0xFFFFFFFF


class Entry(msgspec.Struct, frozen=True):
    """One entry of a set, as far as the set's type has the field. Numbers as in packets; `prefixlen` of a network's
    address, `client` and `client_bits` of the network that ends a hash:ip,port,net. `mark`: what the entry maps to."""

    address: int
    prefixlen: int = -1
    protocol: int = 0
    port: int = 0
    last: int = 0
    client: int = 0
    client_bits: int = -1
    mac: int = 0
    mark: int = 0


class IpSet(msgspec.Struct, frozen=True):
    """A set. `marks`: its entries map to packet marks. `static`: its content is the node's and replaced as a whole;
    otherwise it belongs to the endpoints and `entries` is empty. `span`: the network of a bitmap. `counts`: rules add
    its entries, each with a count of packets, and nobody else does. `seconds`: rules add them, and they go so many
    after the last time; 0: they stay."""

    name: str
    type: SetType
    version: Literal[4, 6]
    marks: bool = False
    static: bool = False
    span: str = ""
    counts: bool = False
    seconds: int = 0
    entries: tuple[Entry, ...] = ()


_OF_ENDPOINTS = ("pin", "oui", "version", "born", "exposed", "exposedto", "published", "mail")
_OF_POLICIES: tuple[tuple[str, SetType], ...] = (
    ("limits", "hash:ip"),
    ("blocks", "hash:ip"),
    ("lists", "hash:ip"),
    ("watches", "hash:ip"),
    ("allow", "hash:ip,port,net"),
    ("deny", "hash:ip,port,net"),
)
COUNTING = ("sent", "got")
"""What was denied of what an address sent, and of what was sent to it."""
_NOTING: dict[str, tuple[SetType, int]] = {
    "reset": ("hash:ip,port,net", CLOSE + 1),
    "stray": ("hash:ip,port,net", TIME_WAIT + 1),
    "lingering": ("hash:ip", TIME_WAIT + 1),
    "lingeringclients": ("hash:ip", TIME_WAIT + 1),
}
"""Ends of flows that have ended, and who keeps too many, for as long as those are known and a second more."""
ENDS: dict[Literal["original", "reply"], tuple[str, str, str]] = {
    "original": ("src", "src", "dst"),
    "reply": ("dst", "dst", "src"),
}
"""The ends of a flow in a packet of either direction: address and port of who opened it, address of the other. The type
is one that every wall has; what rules add has the network of one address."""
_TIERS: dict[TierName, str] = {"tenant": "t", "endpoint": "e"}
_OF_NODE: tuple[tuple[str, SetType], ...] = (
    ("floor", "hash:net"),
    ("noclients", "hash:net"),
    ("opened", "hash:ip,port"),
    ("services", "hash:ip,port"),
)
_SPARE = "n"  # ends the name of the set by which one of the node's is replaced
_OWN = re.compile(
    rf"{SET_PREFIX}(?:({'|'.join((*_OF_ENDPOINTS, *COUNTING, *_NOTING))})[46]"
    rf"|[te]({'|'.join(name for name, _ in _OF_POLICIES)})[46]"
    rf"|({'|'.join(name for name, _ in _OF_NODE)})[46]{_SPARE}?)",
    re.ASCII,
)


def is_own_set(name: str) -> bool:
    """Whether that is the name of a set of ours, in whatever form of the wall."""
    return _OWN.fullmatch(name) is not None


def set_name(name: str, version: int) -> str:
    """The full name of a family's set."""
    return f"{SET_PREFIX}{name}{version}"


def policy_set(tier: TierName, name: str, version: int) -> str:
    """The full name of a set about policies of one tier."""
    return set_name(_TIERS[tier] + name, version)


def wall_sets(wall: Wall, features: XtFeatures) -> tuple[IpSet, ...]:
    """Every set of a wall, with what the wall itself puts into it."""
    content = {}
    for version in (4, 6):
        floor, strangers = (wall.floor4, wall.strangers4) if version == 4 else (wall.floor6, wall.strangers6)
        content[set_name("floor", version)] = _prefixes(floor)
        content[set_name("noclients", version)] = _prefixes(strangers)
        content[set_name("opened", version)] = _services(version, wall.exceptions)
        content[set_name("services", version)] = _services(version, wall.services)
    own = (msgspec.structs.replace(one, entries=content[one.name]) for one in node_sets())
    counting = counting_sets() if wall.reports is not None and features.packet_log else ()
    noting = noting_sets() if features.timeouts else ()
    return (*endpoint_sets(wall.scene.subnet4, features, wall.policies), *counting, *noting, *own)


def counting_sets() -> tuple[IpSet, ...]:
    """The sets that rules add what they deny to."""
    versions: tuple[Literal[4, 6], ...] = (4, 6)
    return tuple(
        IpSet(set_name(name, version), "hash:ip", version, counts=True) for version in versions for name in COUNTING
    )


def noting_sets() -> tuple[IpSet, ...]:
    """The sets of what rules note for some seconds."""
    versions: tuple[Literal[4, 6], ...] = (4, 6)
    return tuple(
        IpSet(set_name(name, version), kind, version, seconds=seconds)
        for version in versions
        for name, (kind, seconds) in _NOTING.items()
    )


def node_sets() -> tuple[IpSet, ...]:
    """The sets whose content is the node's, without it."""
    versions: tuple[Literal[4, 6], ...] = (4, 6)
    return tuple(
        IpSet(set_name(name, version), kind, version, static=True) for version in versions for name, kind in _OF_NODE
    )


def endpoint_sets(subnet4: IPv4Network, features: XtFeatures, policies: PolicyUsage) -> tuple[IpSet, ...]:
    """The sets that endpoints have entries in."""
    sets: list[IpSet] = []
    for version in (4, 6):
        family: Literal[4, 6] = 4 if version == 4 else 6
        sets += _pins(subnet4, family, pin_form(version, subnet4, features))
        sets += [
            IpSet(set_name("version", version), "hash:ip", family, marks=True),
            IpSet(set_name("born", version), "hash:ip", family, marks=True),
            IpSet(set_name("exposed", version), "hash:ip,port", family),
            IpSet(set_name("exposedto", version), "hash:ip,port,net", family),
            IpSet(set_name("published", version), "hash:net,port", family),
            *([IpSet(set_name("mail", version), "hash:ip", family)] if policies.mail else []),
            *(
                IpSet(policy_set(tier, name, version), kind, family)
                for tier in policies.tiers
                for name, kind in _OF_POLICIES
            ),
        ]
    return tuple(sets)


def _pins(subnet4: IPv4Network, version: Literal[4, 6], form: PinForm | None) -> list[IpSet]:
    name = set_name("pin", version)
    if form == "bitmap":
        return [IpSet(name, "bitmap:ip,mac", version, span=str(subnet4))]
    if form == "hash":
        return [IpSet(name, "hash:ip,mac", version)]
    if form == "program":
        names = (name, set_name("oui", version))
        return [IpSet(one, "hash:ip", version, marks=True) for one in names]
    return []


def _prefixes(rows: Iterable[Prefix]) -> tuple[Entry, ...]:
    return tuple(Entry(int(row.network_address), prefixlen=row.prefixlen) for row in rows)


def _services(version: int, rows: tuple[OpenedService, ...]) -> tuple[Entry, ...]:
    return tuple(
        Entry(row.address, protocol=row.protocol, port=row.port, last=row.port)
        for row in rows
        if row.version == version
    )


# ---------------------------------------------------------------- text


def render_sets(sets: Iterable[IpSet]) -> str:
    """Text for `ipset restore`: every set is there, and the static ones have exactly their content, each replaced at
    once (`swap`). Endpoints' entries stay. Fails where a set of that name has another type."""
    return "".join(line + "\n" for one in sets for line in _set_lines(one))


def definition(one: IpSet, name: str = "") -> str:
    """What follows `create`."""
    words = [name or one.name, one.type]
    if one.type == "bitmap:ip,mac":
        words += ["range", one.span]
    else:
        words += ["family", "inet" if one.version == 4 else "inet6", "maxelem", str(_ENTRIES)]
    words += ["timeout", str(one.seconds)] if one.seconds else []
    return " ".join([*words, *(["counters"] if one.counts else []), *(["skbinfo"] if one.marks else [])])


def _set_lines(one: IpSet) -> Iterable[str]:
    yield f"create {definition(one)} -exist"
    if one.static:
        spare = one.name + _SPARE
        yield f"create {definition(one, spare)} -exist"
        yield f"flush {spare}"
        for entry in one.entries:
            yield f"add {spare} {entry_text(one, entry)}"
        yield f"swap {spare} {one.name}"
        yield f"destroy {spare}"


def entry_text(one: IpSet, entry: Entry) -> str:
    """An entry as `ipset` writes it."""
    make = IPv4Address if one.version == 4 else IPv6Address
    words = str(make(entry.address))
    if one.type in ("hash:net", "hash:net,port"):
        words += f"/{entry.prefixlen}"
    if one.type in ("hash:ip,mac", "bitmap:ip,mac"):
        words += "," + mac_text(entry.mac).upper()
    elif one.type not in ("hash:ip", "hash:net"):
        span = str(entry.port) if entry.last in (0, entry.port) else f"{entry.port}-{entry.last}"
        words += f",{_NUMBERS[entry.protocol]}:{span}"
        if one.type == "hash:ip,port,net":
            words += f",{make(entry.client)}/{entry.client_bits}"
    return words + (f" skbmark {entry.mark:#x}/{_ALL_BITS:#x}" if one.marks else "")
