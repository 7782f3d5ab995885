"""The typed nftables ruleset: what lowering produces and everything else consumes.

Renderer, differ and evaluator all read these frozen values; none of them re-reads text. A statement that a
consumer does not know is an error there, never a silent pass.

Scalars are plain: addresses, MACs, protocol and port numbers, marks and interface indices are `int` (an
IPv6 address is a 128-bit int), interface names are `str`. The key or field type says how one is written and
packed.
"""

from typing import Literal

import msgspec

TableFamily = Literal["inet", "bridge", "arp"]
TABLE_FAMILIES: tuple[TableFamily, ...] = ("inet", "bridge", "arp")
KeyType = Literal[
    "iface_index",
    "ifname",
    "ether_addr",
    "ipv4_addr",
    "ipv6_addr",
    "inet_proto",
    "inet_service",
    "mark",
    "ct_label",
]
Scalar = int | str

FieldName = Literal[
    "iifname",
    "oifname",
    "iif",
    "oif",
    "meta mark",
    "meta nfproto",
    "meta l4proto",
    "ether saddr",
    "ether daddr",
    "ether type",
    "ip saddr",
    "ip daddr",
    "ip hdrlength",
    "ip frag-off",
    "ip protocol",
    "ip6 saddr",
    "ip6 daddr",
    "ip6 nexthdr",
    "ip6 hoplimit",
    "@nh,320,8",
    "@nh,384,128",
    "icmp type",
    "icmpv6 type",
    "icmpv6 taddr",
    "arp htype",
    "arp ptype",
    "arp hlen",
    "arp plen",
    "arp operation",
    "arp saddr ether",
    "arp saddr ip",
    "arp daddr ip",
    "th sport",
    "th dport",
    "tcp flags",
    "ct state",
    "ct direction",
    "ct status",
    "ct mark",
    "ct label",
    "ct original ip saddr",
    "ct original ip daddr",
    "ct original ip6 saddr",
    "ct original ip6 daddr",
    "ct original protocol",
    "ct original proto-dst",
    "ct reply ip saddr",
    "ct reply ip daddr",
    "ct reply ip6 saddr",
    "ct reply ip6 daddr",
    "ct reply protocol",
    "ct reply proto-src",
    "ct reply proto-dst",
    "fib saddr type",
    "fib daddr type",
    "exthdr hbh",
    "exthdr dst",
    "exthdr rt",
]
"""Every packet, flow or node fact that a rule may read; `@nh,320,8` is the next header inside an IPv6
fragment header that directly follows the fixed header,
`@nh,384,128` the target address of a neighbour solicitation that does (nft has a name for it only since 1.0.9)."""


class Field(msgspec.Struct, frozen=True):
    """One fact of a packet, optionally masked (`field & mask`) before it is used."""

    name: FieldName
    mask: int | None = None


class Interval(msgspec.Struct, frozen=True, order=True):
    """A closed range `low`..`high` as one part of a set element's key."""

    low: int
    high: int


KeyPart = int | str | Interval


# ---------------------------------------------------------------- what a rule is made of


class Compare(msgspec.Struct, frozen=True, tag=True):
    """The field equals one of `values` (`negate`: none of them).

    `ct label` takes one value: any of its bits is set.
    `ct state`, `ct status`, `ct direction`, `fib daddr type`, `meta nfproto` take their symbolic names; the
    first two are bit masks: any of the named bits set. `exthdr …` takes the values 1 (exists) and 0. An
    interface name that ends in `*` compares as a prefix.
    """

    field: Field
    values: tuple[Scalar, ...]
    negate: bool = False


class Lookup(msgspec.Struct, frozen=True, tag=True):
    """The concatenation of `fields` is (`negate`: is not) an element of a named set."""

    fields: tuple[Field, ...]
    set: str
    negate: bool = False


class Counter(msgspec.Struct, frozen=True, tag=True):
    """Counts packets and bytes; changes nothing."""


class Verdict(msgspec.Struct, frozen=True, tag=True):
    """Ends the rule. `chain` names the target of jump and goto."""

    kind: Literal["accept", "drop", "return", "jump", "goto"]
    chain: str = ""


class Reject(msgspec.Struct, frozen=True, tag=True):
    """Drops the packet and tells its sender at once."""

    kind: Literal["tcp reset", "icmp admin-prohibited", "icmpv6 admin-prohibited"]


class MarkPacket(msgspec.Struct, frozen=True, tag=True):
    """Sets `bits` in the packet mark and leaves the other bits alone."""

    bits: int


class UnmarkPacket(msgspec.Struct, frozen=True, tag=True):
    """Takes `bits` out of the packet mark and leaves the other bits alone."""

    bits: int


class MarkPacketFrom(msgspec.Struct, frozen=True, tag=True):
    """Sets the whole packet mark from a map; a miss leaves it and ends the rule without a verdict."""

    fields: tuple[Field, ...]
    map: str


class ClearMark(msgspec.Struct, frozen=True, tag=True):
    """Sets the whole packet mark to 0, others' bits too: for packets that go nowhere."""


class StampFlow(msgspec.Struct, frozen=True, tag=True):
    """Sets the conntrack mark from a map; a miss ends the rule without a verdict."""

    fields: tuple[Field, ...]
    map: str


class UnstampFlow(msgspec.Struct, frozen=True, tag=True):
    """Sets the conntrack mark to 0."""


class LabelFlow(msgspec.Struct, frozen=True, tag=True):
    """Adds the bits of a map's number to the conntrack label; a miss ends the rule without a verdict."""

    fields: tuple[Field, ...]
    map: str


class ClearPriority(msgspec.Struct, frozen=True, tag=True):
    """Sets the packet's priority in the queues of the node's interfaces to 0."""


class ClampSegments(msgspec.Struct, frozen=True, tag=True):
    """Lowers the maximum segment size of a TCP handshake to what the routes to both of its ends take; a segment that
    names none, or less, stays as it is."""


class SetTimeouts(msgspec.Struct, frozen=True, tag=True):
    """Gives a flow that conntrack has just begun the timeouts of a named object; without effect on any other."""

    name: str


class Dnat(msgspec.Struct, frozen=True, tag=True):
    """Rewrites the destination from a map (address, and port where the map's data has one); a miss ends the
    rule."""

    family: Literal["ip", "ip6"]
    fields: tuple[Field, ...]
    map: str


class Masquerade(msgspec.Struct, frozen=True, tag=True):
    """Rewrites the source to the output interface's address; TCP and UDP into ports `low`..`high` when
    given."""

    low: int = 0
    high: int = 0


class ConnectionsOver(msgspec.Struct, frozen=True, tag=True):
    """True while the key has more than `limit` conntrack entries, this one included."""

    limit: int


class RateOver(msgspec.Struct, frozen=True, tag=True):
    """True for packets beyond `rate` a second with a bucket of `burst`."""

    rate: int
    burst: int


class BytesOver(msgspec.Struct, frozen=True, tag=True):
    """True for packets beyond `rate` bytes a second, with a bucket of `rate` + `burst`: so the kernel makes it
    (net/netfilter/nft_limit.c, nft_limit_init)."""

    rate: int
    burst: int


class RateWithin(msgspec.Struct, frozen=True, tag=True):
    """True for all others, but for a packet whose key cannot be read, or that the full set has no room for."""

    rate: int
    burst: int


class Meter(msgspec.Struct, frozen=True, tag=True):
    """Counts per key in a dynamic set; the rule goes on only where the bound is exceeded, or is not (`RateWithin`).

    The element is added by the packet, and where `lasting` stays as long as packets come. A static one with a
    connection count is garbage-collected in two seconds and counts nothing (nft_connlimit.c, nft_set_hash.c)."""

    fields: tuple[Field, ...]
    set: str
    bound: ConnectionsOver | RateOver | RateWithin | BytesOver
    lasting: bool = False


class Tally(msgspec.Struct, frozen=True, tag=True):
    """Counts packets and bytes per key in a dynamic set; a full set ends the rule without a verdict."""

    fields: tuple[Field, ...]
    set: str


class ForgottenWithin(msgspec.Struct, frozen=True, tag=True):
    """The packet's flow is forgotten in less than `seconds` if no other packet comes; without one, no match."""

    seconds: int


class LogPacket(msgspec.Struct, frozen=True, tag=True):
    """Tells whoever listens to a group of the kernel's packet log of the packet, `length` bytes of it from the network
    header on; whether anybody does changes nothing. `prefix` is printable ASCII of at most 127 characters."""

    group: int
    prefix: str
    length: int


Statement = (
    Compare
    | Lookup
    | Counter
    | Verdict
    | Reject
    | MarkPacket
    | UnmarkPacket
    | MarkPacketFrom
    | ClearMark
    | StampFlow
    | UnstampFlow
    | LabelFlow
    | ForgottenWithin
    | SetTimeouts
    | ClearPriority
    | ClampSegments
    | Dnat
    | Masquerade
    | Meter
    | Tally
    | LogPacket
)

# ---------------------------------------------------------------- what a table is made of


class Rule(msgspec.Struct, frozen=True):
    """Statements from left to right. `layer` is the layer of the wall that it belongs to ("" for plumbing);
    `comment` (printable ASCII, at most 128 characters: NFT_USERDATA_MAXLEN) is shown by `nft list`."""

    statements: tuple[Statement, ...]
    comment: str = ""
    layer: str = ""


class Hook(msgspec.Struct, frozen=True):
    """Where a base chain is attached. The policy is always accept: a wall's drops are rules of its own, so
    that traffic which is not ours is never judged by a policy."""

    type: Literal["filter", "nat"]
    hook: Literal["prerouting", "input", "forward", "output", "postrouting"]
    priority: int


class Chain(msgspec.Struct, frozen=True):
    """A base chain where it has a hook, else one that others lead to."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None


class Element(msgspec.Struct, frozen=True):
    """A set element, or a map element with `data`."""

    key: tuple[KeyPart, ...]
    data: tuple[Scalar, ...] = ()


class NamedSet(msgspec.Struct, frozen=True):
    """A set, or a map where `data` is not empty. `timeout` is in seconds; `elements` are its present
    content. `static`: nobody but the ruleset puts anything into it, so a refresh of the rules refills it."""

    name: str
    key: tuple[KeyType, ...]
    data: tuple[KeyType, ...] = ()
    interval: bool = False
    dynamic: bool = False
    static: bool = False
    timeout: int | None = None
    size: int | None = None
    elements: tuple[Element, ...] = ()


FlowState = Literal["syn_sent", "syn_recv", "time_wait", "close", "unreplied"]
"""What conntrack calls the states of a flow; the last one is UDP's."""


class Timeouts(msgspec.Struct, frozen=True):
    """How many seconds conntrack keeps a flow of this protocol in each of these states; in others as long as the
    kernel's settings say."""

    name: str
    seconds: tuple[tuple[FlowState, int], ...]
    protocol: Literal["tcp", "udp"] = "tcp"


class Table(msgspec.Struct, frozen=True):
    """A table of one family, whole."""

    family: TableFamily
    name: str
    sets: tuple[NamedSet, ...]
    chains: tuple[Chain, ...]
    timeouts: tuple[Timeouts, ...] = ()


class Ruleset(msgspec.Struct, frozen=True):
    """All tables that belong to us, and nothing else."""

    tables: tuple[Table, ...]


class ElementChange(msgspec.Struct, frozen=True):
    """One element to add to, or delete from, a set of ours."""

    op: Literal["add", "delete"]
    family: TableFamily
    table: str
    set: str
    element: Element
