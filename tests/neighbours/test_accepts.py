"""The accept that goes where others drop what the wall accepts: which place, and that it opens nothing of its own."""

from collections.abc import Iterator

import pytest

from cellwall.api import Wall
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6, PUBLIC4
from cellwall.model.settings import Settings
from neighbours.beside import comes_back, watched
from world import NAT_PORTS, Sandbox, World, assert_connection, assert_no_connection, open_world, public, ruleset

pytestmark = pytest.mark.root
assert 8080 not in NAT_PORTS
FAMILIES = (4, 6)
OURS = [f"-{way} b9_br0 -m connmark ! --mark 0x0 -m comment --comment cellwall -j ACCEPT" for way in "io"]


@pytest.fixture(params=["nft", "legacy"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def node(fresh_node: World) -> Iterator[World]:
    with fresh_node.lab.internet.serve(tcp=[80], udp=[80]):
        yield fresh_node


def iptables(world: World, variant: str, *commands: str) -> None:
    for program in ("iptables", "ip6tables"):
        for command in commands:
            world.lab.node.run([f"{program}-{variant}", "--wait", *command.split()])


def rules(world: World, variant: str, chain: str = "FORWARD", *, family: int = 4) -> list[str]:
    program = "iptables" if family == 4 else "ip6tables"
    said = world.lab.node.run([f"{program}-{variant}", "--wait", "-S", chain]).text.splitlines()
    return [line.removeprefix(f"-A {chain} ") for line in said if line.startswith("-A")]


def assert_works(world: World, sandbox: Sandbox) -> None:
    """Egress and a published port, both families."""
    with sandbox.host.serve(tcp=[80]):
        for family in FAMILIES:
            assert_connection(sandbox.host, public(family), 80)
            assert_connection(sandbox.host, public(family), 80, udp=True)
            assert_connection(world.lab.lan, NODE4 if family == 4 else NODE6, 8080)


def test_sandboxes_work_where_others_set_forward_to_drop(node: World, variant: str) -> None:
    iptables(node, variant, "-P FORWARD DROP", "-A FORWARD -i docker0 -j ACCEPT")
    assert_works(node, node.attach("web", expose=["8080:80"]))
    for family in FAMILIES:
        assert rules(node, variant, family=family) == ["-i docker0 -j ACCEPT", *OURS]


def test_what_others_forward_stays_forwarded_and_no_more(node: World, variant: str) -> None:
    """Both ends of the accept are the bridge's: between other links their policy is as it was."""
    iptables(node, variant, "-P FORWARD DROP")
    node.lab.node.run(["sysctl", "-qw", "net.ipv4.conf.all.forwarding=1"])
    node.wall.up()
    node.lab.infra.run(["ip", "route", "replace", PUBLIC4[0], "via", "172.20.0.10"])
    assert_no_connection(node.lab.infra, PUBLIC4[0], 80)


def test_the_accept_stands_before_a_last_rule_that_turns_everything_away(node: World, variant: str) -> None:
    last = "-m comment --comment the-rest -j REJECT --reject-with"
    node.lab.node.run([f"iptables-{variant}", "--wait", *f"-A FORWARD {last} icmp-host-prohibited".split()])
    node.lab.node.run([f"ip6tables-{variant}", *f"-A FORWARD {last} icmp6-adm-prohibited".split()])
    assert_works(node, node.attach("web", expose=["8080:80"]))
    assert rules(node, variant) == [*OURS, f"{last} icmp-host-prohibited"]


def test_what_somebody_turns_away_before_the_accept_is_drift(node: World, variant: str) -> None:
    """A rule that is appended behind one that turns everything away is met by no packet."""
    iptables(node, variant, "-P FORWARD DROP")
    sandbox = node.attach("web", expose=["8080:80"])
    iptables(node, variant, "-I FORWARD -j REJECT", "-A FORWARD -i virbr0 -j ACCEPT")
    assert_no_connection(sandbox.host, public(4), 80)
    drift = node.wall.status().drift
    assert len(drift) == 2
    assert node.wall.reconcile().repaired == drift
    assert_works(node, sandbox)
    for family in FAMILIES:
        first, second, reject, last = rules(node, variant, family=family)
        assert ([first, second], last) == (OURS, "-i virbr0 -j ACCEPT")
        assert reject.startswith("-j REJECT")
    assert not node.wall.up().changed
    iptables(node, variant, "-F FORWARD")
    assert node.wall.up().changed


def test_in_dockers_place_the_operators_own_rules_come_first(node: World, variant: str) -> None:
    iptables(node, variant, "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP")
    iptables(node, variant, "-A DOCKER-USER -p udp -m udp --dport 80 -j DROP", "-A DOCKER-USER -j RETURN")
    sandbox = node.attach("web")
    for family in FAMILIES:
        assert rules(node, variant, "DOCKER-USER", family=family) == [
            "-p udp -m udp --dport 80 -j DROP", *OURS, "-j RETURN",
        ]  # fmt: skip
        assert rules(node, variant, family=family) == ["-j DOCKER-USER"]
        assert_connection(sandbox.host, public(family), 80)
        assert_no_connection(sandbox.host, public(family), 80, udp=True)


def test_a_docker_chain_that_nothing_leads_to_is_no_place(node: World, variant: str) -> None:
    iptables(node, variant, "-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-P FORWARD DROP")
    node.wall.up()
    assert rules(node, variant, "DOCKER-USER") == ["-j RETURN"]
    assert rules(node, variant) == OURS


def test_nothing_is_put_where_nothing_is_dropped(node: World, variant: str) -> None:
    iptables(node, variant, "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-A FORWARD -i lo -j DROP")
    node.wall.up()
    assert rules(node, variant, "DOCKER-USER") == []
    assert rules(node, variant) == ["-j DOCKER-USER", "-i lo -j DROP"]


def test_no_table_of_iptables_is_made_for_it(node: World) -> None:
    node.wall.up()
    assert node.wall.status().drift == ()
    assert "table ip filter" not in ruleset(node)
    with node.lab.node.enter(), open("/proc/thread-self/net/ip_tables_names") as names:
        assert names.read() == ""


def test_a_second_up_changes_nothing_and_down_leaves_theirs(node: World, variant: str) -> None:
    iptables(node, variant, "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP")
    iptables(node, variant, "-A DOCKER-USER -i b9_br0 -m comment --comment theirs -j RETURN")
    iptables(node, variant, "-A DOCKER-USER -i eth9 -m comment --comment cellwall-quarantine -j DROP")
    before = [rules(node, variant, chain, family=family) for chain in ("FORWARD", "DOCKER-USER") for family in FAMILIES]
    assert node.wall.up().changed
    placed = rules(node, variant, "DOCKER-USER")
    assert not node.wall.up().changed
    assert rules(node, variant, "DOCKER-USER") == placed
    assert len(placed) == 4
    node.wall.down()
    after = [rules(node, variant, chain, family=family) for chain in ("FORWARD", "DOCKER-USER") for family in FAMILIES]
    assert after == before


def test_what_nothing_leads_to_any_more_goes_with_down_too(node: World, variant: str) -> None:
    iptables(node, variant, "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP")
    node.wall.up()
    iptables(node, variant, "-F FORWARD")
    assert rules(node, variant, "DOCKER-USER") == OURS
    node.wall.down()
    for family in FAMILIES:
        assert rules(node, variant, "DOCKER-USER", family=family) == []


def test_what_others_flushed_is_drift_and_reconcile_repairs_it(node: World, variant: str) -> None:
    iptables(node, variant, "-P FORWARD DROP")
    sandbox = node.attach("web")
    iptables(node, variant, "-F FORWARD")
    drift = node.wall.status().drift
    assert [line.partition(" drops ")[0] for line in drift] == [
        f"FORWARD of iptables-{variant}", f"FORWARD of ip6tables-{variant}",
    ]  # fmt: skip
    assert node.wall.reconcile().repaired == drift
    assert node.wall.reconcile().repaired == ()
    assert_connection(sandbox.host, public(4), 80)


def test_who_watches_puts_it_back(node: World) -> None:
    """iptables-legacy tells nobody of its changes: there it is back with the next look, half a minute later."""
    iptables(node, "nft", "-P FORWARD DROP")
    sandbox = node.attach("web")
    with watched(node):
        for flush in ("-F FORWARD", "-F"):
            iptables(node, "nft", flush)
            for family in FAMILIES:
                assert comes_back(lambda family=family: bool(connect(sandbox.host, public(family), 80)))


def test_a_wall_in_iptables_has_no_accept_before_it(node: World) -> None:
    """Whoever starts later puts his chains first: an accept in one of them would spare flows the wall."""
    iptables(node, "nft", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP")
    sandbox = node.attach("web")
    assert rules(node, "nft", "DOCKER-USER") == OURS
    with Wall.open(root=node.lab.root, settings=Settings(backend="iptables")) as wall:
        wall.up()
        for family in FAMILIES:
            assert rules(node, "nft", "DOCKER-USER", family=family) == []
            assert_connection(sandbox.host, public(family), 80)
        iptables(node, "nft", f"-A DOCKER-USER {OURS[0]}")
        assert any("passes the wall by" in line for line in wall.status().drift)
        assert wall.up().changed
        assert wall.status().drift == ()
        assert rules(node, "nft", "DOCKER-USER") == []


def test_a_wall_in_iptables_tells_of_a_closed_forward_of_the_other_sort() -> None:
    """The kernel asks the younger of the two first, which may be the one that drops."""
    with open_world(settings=Settings(backend="iptables", iptables="nft"), up=False) as world:
        assert not any("may drop" in line for line in world.wall.up().warnings)
        iptables(world, "legacy", "-P FORWARD DROP")
        told = [line for line in world.wall.up().warnings if "may drop" in line]
        assert [line.partition(" may drop")[0] for line in told] == [
            "FORWARD of iptables-legacy", "FORWARD of ip6tables-legacy",
        ]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_wall_the_accept_forwards_nothing(node: World, variant: str, family: int) -> None:
    iptables(node, variant, "-P FORWARD DROP")
    sandbox = node.attach("web")
    assert_connection(sandbox.host, public(family), 80)
    for of in ("bridge", "arp", "inet"):
        node.lab.node.run(["nft", "delete", "table", of, "cellwall"])
    with node.lab.internet.serve(udp=[81]) as services:
        connect(sandbox.host, public(family), 81, udp=True, payload=b"<leak>", timeout=0.2)
        assert not services.saw(b"<leak>")
    assert len(rules(node, variant, family=family)) == 2


def test_a_table_that_takes_no_rule_is_said_and_keeps_nothing_from_working(node: World) -> None:
    """`ip filter FORWARD` made by nft itself, with what iptables cannot read: its programs refuse to touch it."""
    chain = "type filter hook forward priority 0; policy drop; meta mark set ct mark;"
    node.lab.node.run(["nft", "-f", "-"], input=f"table ip filter {{ chain FORWARD {{ {chain} }}; }}".encode())
    warnings = node.wall.up().warnings
    assert any("ip filter FORWARD drops what the wall accepts" in line for line in warnings), warnings
    sandbox = node.attach("web")
    assert_connection(sandbox.host, public(6), 80)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("", True),
        ("iifname b9_br0 accept; oifname b9_br0 accept;", False),
        ("ct state established,related accept; iifname b9_br0 accept;", True),
        ("ct state established,related accept; iifname b9_br0 accept; ct status dnat accept;", False),
        ("iifname { lo, b9_br0 } tcp dport 443 accept;", True),
    ],
)
def test_a_chain_of_the_administrators_that_drops_what_the_wall_accepts_is_told(
    node: World, rule: str, told: bool
) -> None:
    text = f"table inet admin {{ chain transit {{ type filter hook forward priority 0; policy drop; {rule} }}; }}"
    node.lab.node.run(["nft", "-f", "-"], input=text.encode())
    warnings = [line for line in node.wall.up().warnings if "inet admin transit" in line]
    assert bool(warnings) == told
    if not told:
        assert_works(node, node.attach("web", expose=["8080:80"]))
