"""Random small rulesets and frames from small pools of values, so that rules match about as often as not."""

from random import Random
from typing import Literal, get_args

import frames as fr
from frames import address as addr

from cellwall.errors import Unsupported
from cellwall.ruleset.dependencies import hidden_checks
from cellwall.ruleset.fields import FIELDS
from cellwall.ruleset.types import (
    Chain,
    ClearMark,
    Compare,
    Counter,
    Element,
    Field,
    FieldName,
    Hook,
    Interval,
    KeyType,
    LogPacket,
    Lookup,
    MarkPacket,
    MarkPacketFrom,
    NamedSet,
    Reject,
    Rule,
    Scalar,
    StampFlow,
    Statement,
    Table,
    TableFamily,
    Tally,
    UnmarkPacket,
    UnstampFlow,
    Verdict,
)

V4 = [addr(text) for text in ("10.9.1.2", "10.9.1.3", "10.9.1.130", "10.9.2.2", "10.9.0.2", "10.9.0.3")]
V6 = [addr(text) for text in ("fd09:1::2", "fd09:1::3", "fd09:1:0:8000::2", "fd09:2::2", "fd09::2", "fd09::3")]
PORTS = [53, 80, 443, 6000]
MARKS = [0x0, 0x1, 0x10, 0x11]
FULL = {32: 0xFFFFFFFF, 48: (1 << 48) - 1, 128: (1 << 128) - 1}


def _of(protocol: str) -> tuple[FieldName, ...]:
    return tuple(name for name in get_args(FieldName) if name.startswith(f"{protocol} "))


COMMON: tuple[FieldName, ...] = (
    "iifname",
    "iif",
    "meta mark",
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
    "icmp type",
    "icmpv6 type",
    "icmpv6 taddr",
    "th sport",
    "th dport",
    "exthdr hbh",
    "exthdr dst",
    "exthdr rt",
)
BRIDGE: tuple[FieldName, ...] = (*COMMON, *_of("arp"))
INET: tuple[FieldName, ...] = (*COMMON, "meta nfproto", "fib daddr type")
FLOW = tuple(name for name in _of("ct") if name != "ct label")  # nft writes no number of it in a comparison
_KEYS: dict[str, KeyType] = {
    kind: kind  # type: ignore[misc]
    for kind in ("iface_index", "ifname", "ether_addr", "ipv4_addr", "ipv6_addr", "inet_proto", "inet_service", "mark")
}


_REJECTS: tuple[Literal["tcp reset", "icmp admin-prohibited", "icmpv6 admin-prohibited"], ...] = (
    "tcp reset",
    "icmp admin-prohibited",
    "icmpv6 admin-prohibited",
)


class Generator:
    """Rules about one hook's packets. `links` are the interfaces that exist there, by name."""

    def __init__(self, random: Random, links: dict[str, int], macs: list[int]) -> None:
        self.random = random
        self.links = links
        self.macs = macs
        self.sets: list[NamedSet] = []

    def table(
        self, family: TableFamily, hooks: dict[str, tuple[Hook, tuple[FieldName, ...]]], *, name: str = "t"
    ) -> Table:
        """Base chains `hooks`, each with its own fields, and chains that they jump and go to."""
        self.sets = []
        chains: list[Chain] = []
        for chain, (hook, fields) in hooks.items():
            below = [f"{chain}{number}" for number in range(3)]
            chains.append(Chain(chain, self.rules(family, fields, below, 6), hook))
            for number, sub in enumerate(below):
                chains.append(Chain(sub, self.rules(family, fields, below[number + 1 :], 3)))
        return Table(family, name, tuple(self.sets), tuple(chains))

    def rules(
        self, family: TableFamily, fields: tuple[FieldName, ...], targets: list[str], count: int
    ) -> tuple[Rule, ...]:
        found: list[Rule] = []
        while len(found) < count:
            before = list(self.sets)
            rule = self.rule(fields, targets)
            try:
                hidden_checks(family, rule)
            except Unsupported:  # two protocols in one rule: nft would not take it either
                self.sets = before
                continue
            found.append(rule)
        return tuple(found)

    def rule(self, fields: tuple[FieldName, ...], targets: list[str]) -> Rule:
        matches = [self.match(fields) for _ in range(self.random.choice((1, 1, 2, 2, 3)))]
        matches.append(Counter())
        choice = self.random.random()
        if targets and choice < 0.5:
            kind = "jump" if choice < 0.25 else "goto"
            matches.append(Verdict(kind, self.random.choice(targets)))  # type: ignore[arg-type]
        elif choice < 0.75:
            matches.append(Verdict(self.random.choice(("accept", "drop", "return"))))  # type: ignore[arg-type]
        elif choice < 0.85:
            change = self.random.choice((MarkPacket, UnmarkPacket))
            matches.append(change(self.random.choice((0x1, 0x10))))
        elif choice < 0.9:
            # The counter stands behind what can still end the rule.
            matches.insert(-1, self.random.choice((self.mark_from, self.tally, self.log, ClearMark))())
        elif "ct mark" in fields:
            if choice < 0.95:
                matches.insert(-1, self.random.choice((self.stamp(), self.stamp(), UnstampFlow())))
            else:
                matches.append(self.reject())
        return Rule(tuple(matches))

    def mark_from(self) -> Statement:
        field: FieldName = self.random.choice(("ip saddr", "ip6 daddr", "meta mark"))
        data = [Element((value,), (self.random.choice(MARKS),)) for value in self.random.sample(self.pool(field), 4)]
        name = self.add(NamedSet(f"m{len(self.sets)}", (_KEYS[FIELDS[field].kind],), ("mark",), elements=tuple(data)))
        return MarkPacketFrom((Field(field),), name)

    def tally(self) -> Statement:
        field: FieldName = self.random.choice(("iif", "ip saddr", "ip6 daddr", "meta mark"))
        kind = _KEYS[FIELDS[field].kind]
        return Tally((Field(field),), self.add(NamedSet(f"d{len(self.sets)}", (kind,), dynamic=True, size=100)))

    def log(self) -> Statement:
        return LogPacket(self.random.choice((1, 9)), "told: anything", self.random.choice((1, 64, 2000)))

    def reject(self) -> Statement:
        return Reject(self.random.choice(_REJECTS))

    def stamp(self) -> Statement:
        field: FieldName = self.random.choice(("ct original ip saddr", "ct original ip6 saddr"))
        pool = self.pool(field)
        data = [Element((value,), (self.random.choice(MARKS),)) for value in self.random.sample(pool, 4)]
        name = self.add(NamedSet(f"m{len(self.sets)}", (FIELDS[field].kind,), ("mark",), elements=tuple(data)))
        return StampFlow((Field(field),), name)

    def match(self, fields: tuple[FieldName, ...]) -> Statement:
        if self.random.random() < 0.35:
            keyed = [name for name in fields if FIELDS[name].kind in _KEYS]
            return self.lookup(self.random.sample(keyed, self.random.choice((1, 1, 2, 3))))
        return self.compare(self.random.choice(fields))

    def compare(self, name: FieldName) -> Compare:
        pool = list(dict.fromkeys(self.pool(name)))
        several = FIELDS[name].kind != "presence" and self.random.random() < 0.4
        values = self.random.sample(pool, min(len(pool), 2 if several else 1))
        mask = self.mask(name) if len(values) == 1 else None
        if mask is not None:
            values = [value & mask for value in values if isinstance(value, int)]
        return Compare(Field(name, mask), tuple(values), negate=self.random.random() < 0.3)

    def lookup(self, names: list[FieldName]) -> Lookup:
        fields = tuple(Field(name, self.mask(name)) for name in names)
        interval = len(names) == 1 and FIELDS[names[0]].kind == "ipv4_addr" and self.random.random() < 0.5
        elements: dict[tuple[Scalar, ...], Element] = {}
        for _ in range(6):
            key = tuple(self.key(field) for field in fields)
            elements[key] = Element(key)
        if interval:
            low = self.random.choice(V4)
            elements = {(0,): Element((Interval(low, low + self.random.choice((0, 1, 127))),))}
        kinds = tuple(_KEYS[FIELDS[name].kind] for name in names)
        chosen = NamedSet(f"s{len(self.sets)}", kinds, interval=interval, elements=tuple(elements.values()))
        return Lookup(fields, self.add(chosen), negate=self.random.random() < 0.3)

    def key(self, field: Field) -> Scalar:
        pool = list(self.links) if FIELDS[field.name].kind == "ifname" else self.pool(field.name)
        value = self.random.choice(pool)
        return value if field.mask is None or isinstance(value, str) else value & field.mask

    def add(self, named: NamedSet) -> str:
        self.sets.append(named)
        return named.name

    def mask(self, name: FieldName) -> int | None:
        kind = FIELDS[name].kind
        if name == "ip frag-off":
            return self.random.choice((None, 0x3FFF))
        if self.random.random() < 0.7 or kind not in ("ipv4_addr", "ipv6_addr", "mark", "ether_addr"):
            return None
        bits = {"ipv4_addr": 32, "ipv6_addr": 128, "mark": 32, "ether_addr": 48}[kind]
        if kind == "mark":
            return 0x1
        high = self.random.choice((bits // 4, bits // 2, bits - 8, bits - 7))
        prefix = FULL[bits] ^ (FULL[bits] >> high)
        return prefix if self.random.random() < 0.7 else FULL[bits] ^ prefix

    def pool(self, name: FieldName) -> list[Scalar]:
        if name in ("iifname", "oifname"):
            return [*self.links, "b*", "c*"]
        if name == "ip6 hoplimit":
            return [64, 255]
        if name in _POOLS_BY_NAME:
            return _POOLS_BY_NAME[name]
        kind = FIELDS[name].kind
        if kind == "iface_index":
            return list(self.links.values())
        return list(self.macs) if kind == "ether_addr" else _POOLS[kind]


_POOLS_BY_NAME: dict[FieldName, list[Scalar]] = {
    "ip hdrlength": [5, 6],
    "ip frag-off": [0, 0x2000, 0x2001, 1],
    "arp htype": [1, 6],
    "arp hlen": [6, 8],
    "arp plen": [4, 16],
    "@nh,320,8": [6, 17, 44, 0],
}
_POOLS: dict[str, list[Scalar]] = {
    "ipv4_addr": list(V4),
    "ipv6_addr": list(V6),
    "inet_proto": [1, 6, 17, 58, 44, 0],
    "inet_service": list(PORTS),
    "mark": list(MARKS),
    "ether_type": [0x0800, 0x86DD, 0x0806, 0x8100, 0x88CC],
    "icmp_type": [0, 8, 3],
    "icmpv6_type": [128, 135, 136, 1],
    "arp_operation": [1, 2],
    "presence": [0, 1],
    "nf_family": ["ipv4", "ipv6"],
    "ct_state": ["new", "established", "related", "invalid", "untracked"],
    "ct_direction": ["original", "reply"],
    "ct_status": ["seen-reply", "assured", "confirmed", "snat", "dnat"],
    "fib_type": ["unicast", "local", "broadcast", "multicast"],
}


def bridge_frame(random: Random, macs: list[int], destinations: list[int]) -> bytes:
    """Anything that a tenant may send: tags, fragments, extension headers, cut headers, padding, nonsense."""
    if random.random() < 0.15:
        body, kind = _arp(random, macs), 0x0806
    elif random.random() < 0.5:
        body, kind = _ip4(random), 0x0800
    else:
        body, kind = _ip6(random), 0x86DD
    if random.random() < 0.1:
        kind = random.choice((0x0800, 0x86DD, 0x0806, 0x88CC, 0x0100))
    if random.random() < 0.1:
        body = body[: random.randrange(2, len(body))]
    if random.random() < 0.1:
        body += bytes(random.randrange(1, 20))
    tags = ((0x8100, 0), (0x8100, 5), (0x88A8, 7))
    chosen = tuple(random.choice(tags) for _ in range(random.choice((0, 0, 0, 0, 1, 1, 2))))
    source, destination = random.choice(macs), random.choice(destinations)
    return fr.ether(body, kind, source=source, destination=destination, tags=chosen)


def _arp(random: Random, macs: list[int]) -> bytes:
    hardware = random.choice((1, 1, 1, 6))
    operation = random.choice((1, 2, 3))
    return fr.arp(operation, random.choice(macs), random.choice(V4), random.choice(V4), hardware=hardware)


def _transport(random: Random, icmp: int) -> tuple[int, bytes]:
    protocol = random.choice((6, 17, icmp, 17, icmp, 132))
    ports = random.choice(PORTS), random.choice(PORTS)
    if protocol == 6:
        return protocol, fr.tcp(*ports)
    if protocol == 1:
        return protocol, fr.icmp(random.choice((0, 8, 3)), 7)
    if protocol == 58:
        return protocol, fr.icmp6_target(random.choice((128, 135, 136, 1)), random.choice(V6))
    return protocol, fr.udp(*ports)


def _ip4(random: Random) -> bytes:
    protocol, body = _transport(random, 1)
    fragment = random.choice((0, 0, 0, 8, 16))
    options = random.choice((b"", b"", b"\x01\x01\x01\x00"))
    total = random.choice((None, None, None, None, 20, 24, 200, 0))
    return fr.ip4(
        body,
        random.choice(V4),
        random.choice(V4),
        protocol,
        options=options,
        fragment=fragment,
        more=random.random() < 0.2,
        total=total,
    )


def _ip6(random: Random) -> bytes:
    protocol, body = _transport(random, 58)
    for _ in range(random.choice((0, 0, 0, 1, 1, 2, 3))):
        protocol, body = _extended(random, protocol, body)
    length = random.choice((None, None, None, None, 0, 8, 300))
    hop_limit = random.choice((64, 255))
    source, destination = random.choice(V6), random.choice(V6)
    return fr.ip6(body, source, destination, protocol, hop_limit=hop_limit, length=length)


def _extended(random: Random, protocol: int, body: bytes) -> tuple[int, bytes]:
    kind = random.choice((0, 60, 43, 44, 44, 51, 59))
    if kind == 43:
        return kind, fr.routing(protocol, body)
    if kind == 44:
        return kind, fr.fragment6(protocol, body, begin=random.choice((0, 0, 8)), more=random.random() < 0.5)
    if kind == 51:  # an authentication header counts in other units
        return kind, bytes((protocol, 2)) + bytes(14) + body
    return kind, fr.extension(protocol, body)
