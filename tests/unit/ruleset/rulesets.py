"""Rulesets that the tests share: one that uses every statement and field, shaped like a real wall."""

from ipaddress import ip_address, ip_network

from cellwall.ruleset.types import (
    Chain,
    Compare,
    ConnectionsOver,
    Counter,
    Dnat,
    Element,
    Field,
    FieldName,
    Hook,
    Interval,
    Lookup,
    MarkPacket,
    Masquerade,
    Meter,
    NamedSet,
    RateOver,
    Reject,
    Rule,
    Ruleset,
    Scalar,
    StampFlow,
    Statement,
    Table,
    Verdict,
)

GATEWAY_MAC = 0x020000000001


def ip(text: str) -> int:
    return int(ip_address(text))


def mac(text: str) -> int:
    return int(text.replace(":", ""), 16)


def net(text: str) -> Interval:
    network = ip_network(text)
    return Interval(int(network.network_address), int(network.broadcast_address))


def f(name: FieldName, mask: int | None = None) -> Field:
    return Field(name, mask)


def eq(name: FieldName, *values: Scalar, mask: int | None = None) -> Compare:
    return Compare(Field(name, mask), values)


def ne(name: FieldName, *values: Scalar, mask: int | None = None) -> Compare:
    return Compare(Field(name, mask), values, negate=True)


def within(name: str, *fields: FieldName | Field) -> Lookup:
    return Lookup(_fields(fields), name)


def outside(name: str, *fields: FieldName | Field) -> Lookup:
    return Lookup(_fields(fields), name, negate=True)


def _fields(fields: tuple[FieldName | Field, ...]) -> tuple[Field, ...]:
    return tuple(field if isinstance(field, Field) else Field(field) for field in fields)


def rule(*statements: Statement, comment: str = "", layer: str = "") -> Rule:
    return Rule(statements, comment, layer)


def jump(chain: str) -> Verdict:
    return Verdict("jump", chain)


def goto(chain: str) -> Verdict:
    return Verdict("goto", chain)


ACCEPT, DROP, RETURN, COUNT = Verdict("accept"), Verdict("drop"), Verdict("return"), Counter()


def one_chain(*rules: Rule, family: str = "inet", sets: tuple[NamedSet, ...] = ()) -> Ruleset:
    """A ruleset of one base chain in prerouting."""
    chain = Chain("pre", rules, Hook("filter", "prerouting", -300))
    return Ruleset((Table(family, "t", sets, (chain,)),))  # type: ignore[arg-type]


_PIN = (
    Element((7, mac("0a:58:c0:a8:00:02"), ip("192.168.0.2"))),
    Element((9, mac("0a:58:c0:a8:00:03"), ip("192.168.0.3"))),
)
_ARP = (eq("arp htype", 1), eq("arp ptype", 0x0800), eq("arp hlen", 6), eq("arp plen", 4))


def _bridge() -> Table:
    sets = (
        NamedSet("pin4", ("iface_index", "ether_addr", "ipv4_addr"), elements=_PIN),
        NamedSet("pin6", ("iface_index", "ether_addr", "ipv6_addr")),
        NamedSet("ndl", ("iface_index",), dynamic=True, timeout=60, size=65535),
    )
    pre = Chain("pre", (rule(eq("iifname", "b9h*"), goto("port")),), Hook("filter", "prerouting", -500))
    gateway = eq("ether daddr", GATEWAY_MAC)
    port = Chain(
        "port",
        (
            rule(gateway, eq("ether type", 0x0800), goto("p4"), layer="pin"),
            rule(gateway, eq("ether type", 0x86DD), goto("p6"), layer="pin"),
            rule(eq("ether type", 0x0806), goto("parp"), layer="pin"),
            rule(eq("ether daddr", mac("33:33:ff:00:00:00"), mask=mac("ff:ff:ff:00:00:00")), goto("p6")),
            rule(COUNT, DROP, comment="not IP, not ARP, or tagged", layer="pin"),
        ),
    )
    p4 = Chain(
        "p4",
        (
            rule(
                eq("ip hdrlength", 5),
                within("pin4", "iif", "ether saddr", "ip saddr"),
                MarkPacket(0x10000000),
                ACCEPT,
            ),
            rule(COUNT, DROP),
        ),
    )
    p6 = Chain(
        "p6",
        (
            rule(eq("ip6 nexthdr", 58), goto("nd")),
            rule(outside("pin6", "iif", "ether saddr", "ip6 saddr"), COUNT, DROP),
            rule(eq("ip6 nexthdr", 6, 17), ACCEPT),
            rule(eq("ip6 nexthdr", 44), eq("@nh,320,8", 6, 17), ACCEPT),
            rule(COUNT, DROP),
        ),
    )
    nd = Chain(
        "nd",
        (
            rule(ne("ip6 hoplimit", 255), DROP),
            rule(Meter((f("iif"),), "ndl", RateOver(50, 20)), COUNT, DROP),
            rule(eq("icmpv6 type", 135), eq("icmpv6 taddr", ip("fe80::1"), ip("fd00:abcd::1")), ACCEPT),
            rule(eq("icmpv6 type", 136), within("pin6", "iif", "ether saddr", "icmpv6 taddr"), ACCEPT),
            rule(COUNT, DROP),
        ),
    )
    parp = Chain(
        "parp",
        (
            rule(ne("ether daddr", GATEWAY_MAC, 0xFFFFFFFFFFFF), DROP),
            rule(
                *_ARP,
                eq("arp daddr ip", ip("192.168.0.1")),
                within("pin4", "iif", "ether saddr", "arp saddr ip"),
                within("pin4", "iif", "arp saddr ether", "arp saddr ip"),
                eq("arp operation", 1, 2),
                ACCEPT,
            ),
            rule(COUNT, DROP),
        ),
    )
    forward = Chain("forward", (rule(eq("oifname", "b9h*"), COUNT, DROP),), Hook("filter", "forward", -500))
    return Table("bridge", "cw", sets, (pre, port, p4, p6, nd, parp, forward))


def _arp() -> Table:
    chain = Chain("in", (rule(eq("iifname", "b9h*"), COUNT, DROP),), Hook("filter", "input", -500))
    return Table("arp", "cw", (), (chain,))


def _inet() -> Table:
    svc = ("ipv4_addr", "inet_proto", "inet_service")
    sets = (
        NamedSet("sub4", ("ipv4_addr",), interval=True, elements=(Element((net("192.168.0.0/20"),)),)),
        NamedSet(
            "floor4",
            ("ipv4_addr",),
            interval=True,
            elements=(
                Element((net("10.0.0.0/8"),)),
                Element((ip("168.63.129.16"),)),
                Element((Interval(ip("172.16.0.1"), ip("172.16.0.9")),)),
            ),
        ),
        NamedSet(
            "floorp",
            ("inet_proto", "inet_service"),
            interval=True,
            elements=(Element((6, 25)), Element((17, Interval(6000, 6063)))),
        ),
        NamedSet("own4", ("ether_addr", "ipv4_addr"), elements=(Element(_PIN[0].key[1:]),)),
        NamedSet("gen4", ("ipv4_addr",), ("mark",), elements=(Element((ip("192.168.0.2"),), (5,)),)),
        NamedSet("gen6", ("ipv6_addr",), ("mark",)),
        NamedSet("live", ("mark",), elements=(Element((5,)),)),
        NamedSet("a4_24", ("ipv4_addr", "ipv4_addr")),
        NamedSet("exp4", ("ipv4_addr", "inet_proto", "inet_service")),
        NamedSet("exp6", ("ipv6_addr", "inet_proto", "inet_service")),
        NamedSet("cc4", ("ipv4_addr",), size=65535, dynamic=True),
        NamedSet(
            "dnat4",
            ("inet_proto", "inet_service"),
            ("ipv4_addr", "inet_service"),
            elements=(Element((6, 8080), (ip("192.168.0.2"), 80)),),
        ),
        NamedSet("dnat4a", svc, ("ipv4_addr",)),  # type: ignore[arg-type]
        NamedSet(
            "range4",
            ("inet_proto", "inet_service"),
            ("ipv4_addr",),
            interval=True,
            elements=(Element((6, Interval(9000, 9009)), (ip("192.168.0.3"),)),),
        ),
        NamedSet("dnat6", ("inet_proto", "inet_service"), ("ipv6_addr", "inet_service")),
    )
    return Table("inet", "cw", sets, (*_inet_pre(), *_inet_forward(), *_inet_nat()))


def _inet_pre() -> tuple[Chain, ...]:
    raw = Chain(
        "raw_pre",
        (
            rule(eq("iifname", "b9_br0", "lo"), RETURN),
            rule(within("sub4", "ip daddr"), COUNT, DROP, comment="direct routing", layer="raw"),
            rule(outside("own4", "ether saddr", "ip saddr"), COUNT, DROP),
            rule(eq("exthdr rt", 1), COUNT, DROP),
            rule(eq("exthdr hbh", 1), COUNT, DROP),
            rule(eq("exthdr dst", 0), RETURN),
        ),
        Hook("filter", "prerouting", -300),
    )
    guard = Chain(
        "guard",
        (
            rule(eq("ct state", "established", "related"), eq("ct direction", "reply"), ACCEPT),
            rule(eq("ct state", "invalid", "untracked"), COUNT, DROP),
            rule(ne("ct state", "new", "related"), COUNT, DROP),
            rule(ne("fib daddr type", "unicast"), COUNT, DROP),
            rule(eq("fib daddr type", "local", "multicast"), RETURN),
            rule(eq("ip daddr", ip("192.168.0.1")), eq("icmp type", 8), ACCEPT),
            rule(eq("ip daddr", ip("127.0.0.0"), mask=ip("255.0.0.0")), DROP),
            rule(ne("ip6 daddr", ip("2000::"), mask=ip("e000::")), DROP),
            rule(eq("ip6 daddr", ip("::1"), mask=0xFFFF), DROP),
        ),
    )
    pre = Chain("pre", (rule(eq("iif", 3, 4), jump("guard")),), Hook("filter", "prerouting", -150))
    return raw, guard, pre


def _inet_forward() -> tuple[Chain, ...]:
    flow = ("ct reply ip saddr", "ct reply protocol", "ct reply proto-src")
    flow6 = ("ct reply ip6 saddr", "ct reply protocol", "ct reply proto-src")
    wall = Chain(
        "B9-FORWARD",
        (
            rule(eq("iifname", "b9_br0"), eq("oifname", "b9_br0"), COUNT, DROP, comment="tenant to tenant"),
            rule(within("floor4", "ct original ip daddr"), goto("deny")),
            rule(within("floorp", "ct original protocol", "ct original proto-dst"), goto("deny")),
            rule(within("live", f("ct mark", 0x00FFFFFF)), ACCEPT),
            rule(eq("meta mark", 0x10000000, mask=0x10000000), RETURN),
            rule(ne("ct status", "dnat"), RETURN),
            rule(Meter((f("ip saddr"),), "cc4", ConnectionsOver(1000)), COUNT, goto("deny")),
            rule(within("a4_24", "ct original ip saddr", f("ct original ip daddr", ip("255.255.255.0")))),
            rule(within("exp4", *flow), goto("stamp")),
            rule(within("exp6", *flow6), goto("stamp")),
        ),
    )
    stamp = Chain(
        "stamp",
        (
            rule(eq("meta l4proto", 6, 17, 1), StampFlow((f("ct original ip saddr"),), "gen4"), ACCEPT),
            rule(eq("meta nfproto", "ipv6"), StampFlow((f("ct original ip6 saddr"),), "gen6"), ACCEPT),
        ),
    )
    deny = Chain(
        "deny",
        (
            rule(COUNT, Reject("tcp reset")),
            rule(COUNT, Reject("icmp admin-prohibited")),
            rule(COUNT, Reject("icmpv6 admin-prohibited")),
        ),
    )
    hook = Chain("forward", (rule(jump("B9-FORWARD")),), Hook("filter", "forward", -10))
    return wall, stamp, deny, hook


def _inet_nat() -> tuple[Chain, ...]:
    local = (eq("iifname", "eth0"), eq("fib daddr type", "local"))
    port = (f("meta l4proto"), f("th dport"))
    dnat = Chain(
        "nat_pre",
        (
            rule(*local, eq("meta nfproto", "ipv4"), Dnat("ip", (f("ip daddr"), *port), "dnat4a")),
            rule(*local, eq("meta nfproto", "ipv4"), Dnat("ip", port, "dnat4")),
            rule(*local, eq("meta nfproto", "ipv4"), Dnat("ip", port, "range4")),
            rule(*local, eq("meta nfproto", "ipv6"), Dnat("ip6", port, "dnat6")),
        ),
        Hook("nat", "prerouting", -110),
    )
    masquerade = Chain(
        "nat_post",
        (
            rule(eq("oifname", "eth0"), eq("meta l4proto", 6, 17), Masquerade(10240, 29999)),
            rule(eq("oifname", "eth0"), Masquerade()),
        ),
        Hook("nat", "postrouting", 90),
    )
    return dnat, masquerade


WALL = Ruleset((_bridge(), _arp(), _inet()))
