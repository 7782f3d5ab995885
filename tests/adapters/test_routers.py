"""What is behind routers, and what routers announced, as facts of the node."""

import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from cellwall.adapters.node.facts import NodeObserver
from cellwall.model.facts import OnLinkRoute, RoutedNetwork

from .conftest import Namespace

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
