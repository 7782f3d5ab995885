"""The node's facts, against namespaces that are built to be hard to read."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.adapters.node.facts import NodeObserver
from cellwall.adapters.node.resolvers import read_resolvers
from cellwall.model.facts import InterfaceAddress, NodeFacts, OnLinkRoute

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
