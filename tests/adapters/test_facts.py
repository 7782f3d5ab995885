"""The node's facts, against namespaces that are built to be hard to read."""

import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from cellwall.adapters.facts import NodeObserver
from cellwall.adapters.netlink import Message, Netlink, Reply
from cellwall.adapters.resolvers import read_resolvers
from cellwall.model.facts import InterfaceAddress, NodeFacts, OnLinkRoute, RoutedNetwork

from .conftest import Namespace


@pytest.mark.root
def test_an_ordinary_host(observer: NodeObserver) -> None:
    facts = observer.observe()
    assert facts.addresses == (
        InterfaceAddress("eth0", "2606:2800:220:1::10/64"),
        InterfaceAddress("eth0", "93.184.216.10/24"),
        InterfaceAddress("lo", "127.0.0.1/8"),
        InterfaceAddress("lo", "::1/128"),
    )
    assert facts.on_link == (
        OnLinkRoute("eth0", "2606:2800:220:1::/64"),
        OnLinkRoute("eth0", "93.184.216.0/24"),
    )
    assert (facts.default4, facts.default6) == ("eth0", "eth0")
    assert (observer.mtu("eth0"), observer.mtu("nosuch")) == (1400, 0)
    assert (facts.forwarding4, facts.forwarding6) == (False, False)
    assert facts.resolvers == (ip_address("9.9.9.9"), ip_address("2620:fe::fe"))
    assert facts.features.ipv6


@pytest.mark.root
def test_a_namespace_without_anything(node: Namespace, tmp_path: Path) -> None:
    with NodeObserver(resolv_conf=str(tmp_path / "absent")) as observer:
        facts = observer.observe()
        assert observer.fingerprint() == observer.fingerprint()
    assert (facts.addresses, facts.on_link, facts.default4, facts.default6) == ((), (), "", "")
    assert facts.resolvers == ()


@pytest.mark.root
@pytest.mark.parametrize(
    ("commands", "default4"),
    [
        (["ip route add default via 10.1.0.1 metric 20"], "wan"),
        (["ip route add default via 10.1.0.1 metric 60"], "eth0"),
        (["ip route add default via 10.1.0.1 table 99"], "eth0"),
        (["ip route add unreachable default metric 1"], "eth0"),
        (["ip route add default dev wan metric 1"], "wan"),
        (["ip route add default metric 1 nexthop via 10.1.0.1 nexthop via 93.184.216.1"], "wan"),
        (["ip nexthop add id 7 via 10.1.0.1 dev wan", "ip route add default nhid 7 metric 1"], "wan"),
        (["ip route del default"], ""),
    ],
    ids=["better", "worse", "other table", "unreachable", "no gateway", "multipath", "next-hop object", "gone"],
)
def test_the_default_route(observer: NodeObserver, node: Namespace, commands: list[str], default4: str) -> None:
    for command in ["ip link add wan type bridge", "ip link set wan up", "ip address add 10.1.0.2/24 dev wan"]:
        node.run(command)
    before = observer.fingerprint()
    for command in commands:
        node.run(command)
    assert observer.observe().default4 == default4
    if default4 != "eth0":
        assert observer.fingerprint() != before


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "prefix"),
    [
        ("ip route add 10.8.0.0/24 dev eth0", "10.8.0.0/24"),
        ("ip route add 10.8.0.1 dev eth0", "10.8.0.1/32"),
        ("ip -6 route add fd00:8::/48 dev eth0", "fd00:8::/48"),
        ("ip -6 route add fc00::/7 dev eth0", "fc00::/7"),
        ("ip route add 10.5.0.0/16 nexthop via 93.184.216.3 nexthop dev eth0", "10.5.0.0/16"),
    ],
)
def test_on_link_prefix_is_a_fact(observer: NodeObserver, node: Namespace, command: str, prefix: str) -> None:
    before = observer.fingerprint()
    node.run(command)
    assert OnLinkRoute("eth0", prefix) in observer.observe().on_link
    assert observer.fingerprint() != before


OBJECTS = """\
ip link add wan up type bridge
ip nexthop add id 5 dev eth0
ip nexthop add id 6 via 93.184.216.3 dev eth0
ip nexthop add id 7 dev wan
ip nexthop add id 8 group 6/7
ip nexthop add id 9 blackhole
ip -6 nexthop add id 15 dev eth0
ip route add 10.1.0.0/16 nhid 5
ip route add 10.2.0.0/16 nhid 6
ip route add 10.3.0.0/16 nhid 8
ip route add 10.4.0.0/16 nhid 9
ip -6 route add 2a0a:1::/64 nhid 15
ip route add default nhid 7 metric 1"""
LED_BY_OBJECTS = [
    OnLinkRoute("eth0", "10.1.0.0/16"),
    OnLinkRoute("eth0", "2a0a:1::/64"),
    OnLinkRoute("wan", "10.3.0.0/16"),
]


@pytest.mark.root
def test_where_a_next_hop_object_leads_is_known_also_if_the_kernel_names_it_alone(
    observer: NodeObserver, node: Namespace
) -> None:
    """net.ipv4.nexthop_compat_mode says whether routes are told as if there were no such objects."""
    without = observer.observe().on_link
    for line in OBJECTS.splitlines():
        node.run(line)
    digests = set()
    for compatible in (1, 0):
        node.run(f"sysctl -qw net.ipv4.nexthop_compat_mode={compatible}")
        facts = observer.observe()
        assert sorted({*facts.on_link} - {*without}) == LED_BY_OBJECTS
        assert facts.default4 == "wan"
        digests.add(observer.fingerprint())
        with NodeObserver() as other:
            digests.add(other.fingerprint())
    assert len(digests) == 1


@pytest.mark.root
@pytest.mark.parametrize(
    "change",
    [
        "ip nexthop replace id 5 dev wan",
        "ip nexthop replace id 8 group 6",
        "ip nexthop del id 5",
        "ip nexthop del id 15",
        "ip link set eth0 name uplink0",
        "ip link set wan down",
        "ip link del wan",
    ],
)
def test_a_next_hop_object_that_changes_is_news(observer: NodeObserver, node: Namespace, change: str) -> None:
    node.run("sysctl -qw net.ipv4.nexthop_compat_mode=0")
    for line in OBJECTS.splitlines():
        node.run(line)
    digest = observer.fingerprint()
    node.run(change)
    changed = observer.fingerprint()
    assert changed != digest
    with NodeObserver() as other:
        assert other.fingerprint() == changed


@pytest.mark.root
@pytest.mark.parametrize(
    "command",
    [
        "ip route add 10.9.0.0/16 via 93.184.216.1",
        "ip route add 0.0.0.0/1 via 93.184.216.2",
        "ip -6 route add 2000::/3 via 2606:2800:220:1::20",
        "ip route add 128.0.0.0/1 dev eth0",
        "ip -6 route add 2000::/3 dev eth0",
        "ip route add blackhole 10.6.0.0/16",
        "ip route add 10.7.0.0/24 dev eth0 table 99",
        "ip route add 224.0.0.0/4 dev eth0",
        "ip link add br9 up type bridge",
        "ip address add fe80::77/64 dev eth0 nodad",
    ],
)
def test_what_is_not_on_link_is_no_fact(observer: NodeObserver, node: Namespace, command: str) -> None:
    before = (observer.observe(), observer.fingerprint())
    node.run(command)
    assert (observer.observe(), observer.fingerprint()) == before


ROUTED = [
    (["ip route add 151.102.0.0/16 via 93.184.216.20"], "93.184.216.20", "151.102.0.0/16"),
    (["ip -6 route add 2a04:4e43::/32 via 2606:2800:220:1::20"], "2606:2800:220:1::20", "2a04:4e43::/32"),
    (["ip -6 route add 2a04:4e43::/32 via fe80::20 dev eth0"], "fe80::20", "2a04:4e43::/32"),
    (["ip route add 151.102.0.0/16 via 203.0.114.1 dev eth0 onlink"], "203.0.114.1", "151.102.0.0/16"),
    (["ip route add 151.102.0.0/16 via inet6 fe80::20 dev eth0"], "fe80::20", "151.102.0.0/16"),
    (["ip route add 151.102.0.0/16 via inet6 2a04:5::1 dev eth0 onlink"], "2a04:5::1", "151.102.0.0/16"),
    (
        ["ip route add 151.102.0.0/16 nexthop via 93.184.216.1 nexthop via 203.0.114.1 dev eth0 onlink"],
        "203.0.114.1",
        "151.102.0.0/16",
    ),
    (
        ["ip nexthop add id 7 via 203.0.114.1 dev eth0 onlink", "ip route add 151.102.0.0/16 nhid 7"],
        "203.0.114.1",
        "151.102.0.0/16",
    ),
    (
        ["ip rule add to 151.0.0.0/8 lookup 1000", "ip route add 151.102.0.0/16 via 93.184.216.20 table 1000"],
        "93.184.216.20",
        "151.102.0.0/16",
    ),
]


@pytest.mark.root
@pytest.mark.parametrize(("commands", "router", "network"), ROUTED)
@pytest.mark.parametrize("compatible", [1, 0])
def test_a_router_and_what_is_behind_it_are_facts_where_it_is_not_the_default(
    observer: NodeObserver, node: Namespace, commands: list[str], router: str, network: str, compatible: int
) -> None:
    node.run(f"sysctl -qw net.ipv4.nexthop_compat_mode={compatible}")
    before = observer.fingerprint()
    for command in commands:
        node.run(command)
    facts = observer.observe()
    assert facts.routed == (RoutedNetwork("eth0", network),)
    address = ip_address(router)
    near = router.startswith(("93.184.216.", "2606:2800:", "fe80"))  # in a network of the node's, or the floor
    assert facts.routers == (() if near else (RoutedNetwork("eth0", f"{address}/{address.max_prefixlen}"),))
    assert observer.fingerprint() != before


BEHIND4, BEHIND6 = "151.102.0.0/16", "2a04:4e43::/32"
HALVES = "ip route add 0.0.0.0/1 via {0}; ip route add 128.0.0.0/1 via {0}"


@pytest.mark.root
@pytest.mark.parametrize(
    ("commands", "told"),
    [
        ("ip route add default via 93.184.216.20 metric 900", True),
        ("ip route add default via 93.184.216.20 table 1000; ip rule add from 10.9.0.0/24 lookup 1000", True),
        ("ip route append default via 93.184.216.20 metric 50", True),
        ("ip route add 64.0.0.0/3 via 93.184.216.20", True),
        (HALVES.format("93.184.216.30"), True),
        ("ip -6 route add fc00::/7 via 2606:2800:220:1::20", True),
        ("ip -6 route add default via 2606:2800:220:1::20 metric 9000", True),
        ("ip route add default via 93.184.216.20 metric 5", False),
        ("ip route add default metric 5 nexthop via 93.184.216.30 nexthop via 93.184.216.20", False),
        (HALVES.format("93.184.216.20"), False),
        ("ip -6 route add 2000::/3 via 2606:2800:220:1::20", False),
        ("ip -6 route append default via 2606:2800:220:1::20", False),
    ],
)
def test_a_router_is_the_internets_where_packets_to_the_network_would_go_to_it_anyway(
    observer: NodeObserver, node: Namespace, commands: str, told: bool
) -> None:
    prefix, router = (BEHIND6, "2606:2800:220:1::20") if "-6" in commands else (BEHIND4, "93.184.216.20")
    node.run(f"ip route add {prefix} via {router}")
    before = observer.observe().routed
    assert before == (RoutedNetwork("eth0", prefix),)
    for command in commands.split("; "):
        node.run(command)
    assert observer.observe().routed == (before if told else ())


@pytest.mark.root
def test_a_router_without_a_network_around_it_is_a_fact(observer: NodeObserver, node: Namespace) -> None:
    """As clouds give a node one address, and a default route through another."""
    for command in (
        "ip address flush dev eth0 scope global",
        "ip address add 93.184.216.10/32 dev eth0",
        "ip -6 address add 2606:2800:220:1::10/128 dev eth0 nodad",
        "ip route add default via 93.184.216.1 dev eth0 onlink",
        "ip -6 route replace default via 2606:2800:220:1::1 dev eth0 onlink",
    ):
        node.run(command)
    facts = observer.observe()
    assert facts.routers == (
        RoutedNetwork("eth0", "2606:2800:220:1::1/128"),
        RoutedNetwork("eth0", "93.184.216.1/32"),
    )
    assert facts.routed == ()


@pytest.mark.root
@pytest.mark.parametrize("family", ["", "-6 "])
def test_a_table_is_read_once_a_rule_leads_to_it(observer: NodeObserver, node: Namespace, family: str) -> None:
    prefix = "2a0a:7::/48" if family else "151.103.0.0/24"
    node.run(f"ip {family}route add {prefix} dev eth0 table 1000")
    before = observer.fingerprint()
    assert OnLinkRoute("eth0", prefix) not in observer.observe().on_link
    node.run(f"ip {family}rule add from all lookup 1000")
    assert OnLinkRoute("eth0", prefix) in observer.observe().on_link
    led = observer.fingerprint()
    assert led != before
    node.run(f"ip {family}route del {prefix} dev eth0 table 1000")
    assert observer.fingerprint() == before
    node.run(f"ip {family}route add {prefix} dev eth0 table 1000")
    assert observer.fingerprint() == led
    node.run(f"ip {family}rule del from all lookup 1000")
    assert observer.fingerprint() == before


@pytest.mark.root
def test_many_tables_are_read_at_once(observer: NodeObserver, node: Namespace) -> None:
    for table in range(300, 320):
        node.run(f"ip rule add from all lookup {table}")
    node.run("ip route add 151.103.0.0/24 dev eth0 table 319")
    node.run("ip route add 151.104.0.0/24 dev eth0 table 99")
    networks = {row.prefix for row in observer.observe().on_link}
    assert "151.103.0.0/24" in networks
    assert "151.104.0.0/24" not in networks


@pytest.mark.root
def test_a_table_of_the_internet_is_no_list_of_networks(
    observer: NodeObserver, node: Namespace, tmp_path: Path
) -> None:
    batch = tmp_path / "routes"
    batch.write_text("".join(f"route add 151.{n >> 8}.{n & 255}.0/24 via 93.184.216.20\n" for n in range(257)))
    node.run(f"ip -batch {batch}")
    facts = observer.observe()
    assert (facts.routed, facts.untold) == ((), ("eth0",))
    node.run("ip route del 151.0.0.0/24")
    facts = observer.observe()
    assert (len(facts.routed), facts.untold) == (256, ())


@pytest.mark.root
def test_networks_that_every_floor_denies_are_none_of_those_that_are_counted(
    observer: NodeObserver, node: Namespace, tmp_path: Path
) -> None:
    """A cluster's nodes have a route to each other's containers."""
    node.run("ip route add 151.102.0.0/16 via 93.184.216.20")
    before = (observer.observe(), observer.fingerprint())
    batch = tmp_path / "routes"
    batch.write_text("".join(f"route add 10.{n >> 8}.{n & 255}.0/24 via 93.184.216.30\n" for n in range(300)))
    node.run(f"ip -batch {batch}")
    node.run("ip -6 route add fd00:1::/48 via fe80::20 dev eth0")
    node.run("ip -6 route add fd00:2::/64 via fe80::20 dev eth0 proto ra")
    assert (observer.observe(), observer.fingerprint()) == before


@pytest.mark.root
def test_who_announces_routes_hides_none_that_the_operator_made(
    observer: NodeObserver, node: Namespace, tmp_path: Path
) -> None:
    """Anybody on the LAN may call itself a router, as often as it likes."""
    node.run("ip -6 route add 2a04:4e43::/32 via fe80::20 dev eth0")
    node.run("ip -6 route add default via fe80::20 dev eth0 proto ra metric 2000")
    batch = tmp_path / "routes"
    batch.write_text("".join(f"route add 2a0a:{n:x}::/64 via fe80::30 dev eth0 proto ra\n" for n in range(300)))
    node.run(f"ip -6 -batch {batch}")
    facts = observer.observe()
    assert facts.routed == (
        RoutedNetwork("eth0", "2a04:4e43::/32"),
        RoutedNetwork("eth0", "2a0a::/16", announced=True),
    )
    assert (facts.crowded, facts.untold) == (("eth0",), ())


@pytest.mark.root
def test_an_ordinary_node_is_asked_three_times(node: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who attaches in a process of its own asks once."""
    asked: list[str] = []
    dump = Netlink.dump

    def counting(self: Netlink, message: Message, operation: str) -> list[Reply]:
        asked.append(operation)
        return dump(self, message, operation)

    monkeypatch.setattr(Netlink, "dump", counting)
    with NodeObserver() as observer:
        observer.fingerprint()
    assert len(asked) == 3, asked


@pytest.mark.root
def test_address_and_name_of_an_interface_are_in_the_fingerprint(observer: NodeObserver, node: Namespace) -> None:
    seen = {observer.fingerprint()}
    for command in ("ip address add 10.4.4.4/32 dev eth0", "ip link set eth0 down", "ip link set eth0 name uplink0"):
        node.run(command)
        seen.add(observer.fingerprint())
    assert len(seen) == 4


@pytest.mark.root
def test_forwarding_and_missing_ipv6_are_seen(observer: NodeObserver, node: Namespace) -> None:
    for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.all.disable_ipv6=1"):
        node.run(f"sysctl -qw {setting}")
    facts: NodeFacts = observer.observe()
    assert (facts.forwarding4, facts.forwarding6) == (True, True)
    assert (facts.features.ipv6, facts.features.ipv6_nat) == (False, False)


@pytest.mark.root
def test_asking_for_ipv6_nat_leaves_nothing_behind(observer: NodeObserver, node: Namespace) -> None:
    assert observer.observe().features.ipv6_nat
    assert node.run("nft list ruleset") == ""


def test_the_stub_resolver_is_looked_through(tmp_path: Path) -> None:
    stub, upstream = tmp_path / "stub", tmp_path / "upstream"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    upstream.write_text("nameserver 10.0.0.2\nnameserver nonsense\nnameserver 10.0.0.2\n")
    assert read_resolvers(str(stub), str(upstream)) == (ip_address("10.0.0.2"),)
    assert read_resolvers(str(stub), str(tmp_path / "absent")) == ()
    upstream.write_text("nameserver 1.1.1.1\n")
    assert read_resolvers(str(upstream), str(stub)) == (ip_address("1.1.1.1"),)


@pytest.mark.root
@pytest.mark.parametrize(
    ("commands", "prefix", "announced"),
    [
        (["ip -6 route add 2a0a:1::/64 dev eth0"], "2a0a:1::/64", False),
        (["ip -6 route add 2a0a:1::/64 dev eth0 proto static"], "2a0a:1::/64", False),
        (["ip -6 route add 2a0a:1::/64 dev eth0 proto ra"], "2a0a:1::/64", True),
        (["ip -6 route add 2a0a:1::/64 dev eth0 proto kernel"], "2a0a:1::/64", True),
        (["ip -6 route add 2a0a:1::/64 dev eth0 proto kernel expires 600"], "2a0a:1::/64", True),
        (["ip -6 address add 2a0a:1::5/64 dev eth0 nodad"], "2a0a:1::/64", False),
        (["ip -6 address add 2a0a:1::5 peer 2a0a:2::1/64 dev eth0 nodad"], "2a0a:1::/64", False),
        (["ip -6 address add 2a0a:1::5/64 dev eth0 nodad valid_lft 600 preferred_lft 600"], "2a0a:1::/64", True),
    ],
)
def test_a_network_that_a_router_announced_is_told_from_one_that_the_operator_made(
    observer: NodeObserver, node: Namespace, commands: list[str], prefix: str, announced: bool
) -> None:
    for command in commands:
        node.run(command)
    deadline = time.monotonic() + 5
    # A worker of the kernel puts in the route to an address's peer.
    while not (rows := [row for row in observer.observe().on_link if row.prefix == prefix]):
        assert time.monotonic() < deadline, f"no route to {prefix}"
    assert rows == [OnLinkRoute("eth0", prefix, announced)]


@pytest.mark.root
def test_many_announced_networks_are_few_facts_that_more_of_them_do_not_change(
    observer: NodeObserver, node: Namespace, tmp_path: Path
) -> None:
    def learn(first: int, last: int) -> None:
        batch = tmp_path / "routes"
        batch.write_text("".join(f"route add 2a0a:{n:x}::/64 dev eth0 proto ra\n" for n in range(first, last)))
        node.run(f"ip -6 -batch {batch}")

    learn(0, 5)
    assert len([row for row in observer.observe().on_link if row.announced]) == 5
    assert observer.observe().crowded == ()
    learn(5, 500)
    facts, digest = observer.observe(), observer.fingerprint()
    assert [row for row in facts.on_link if row.announced] == [OnLinkRoute("eth0", "2a0a::/16", announced=True)]
    assert facts.crowded == ("eth0",)
    assert OnLinkRoute("eth0", "2606:2800:220:1::/64") in facts.on_link
    learn(500, 600)
    assert (observer.observe(), observer.fingerprint()) == (facts, digest)
