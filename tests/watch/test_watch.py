"""What somebody takes away is back without anyone acting, and nothing else ever changes."""

import signal
import time
from collections.abc import Iterator

import pytest

from cellwall.doctor import diagnose, observe
from cellwall.lab import connect
from cellwall.lab.addresses import LAN4
from cellwall.names import SPARE_TABLE
from cellwall.watch.pace import PATROL
from watch.watchman import Watchman, watched
from world import Stream, World, assert_connection, open_world, public, rewired, ruleset

pytestmark = pytest.mark.root

FLUSHED = "our rules were flushed"
DAMAGES = {
    "nft flush ruleset": FLUSHED,
    "nft delete table inet cellwall": FLUSHED,
    "nft delete table bridge cellwall": FLUSHED,
    "nft flush chain inet cellwall B9-FORWARD": FLUSHED,
    "nft insert rule inet cellwall forward accept": "our rules were changed",
    "nft flush set inet cellwall floor4": FLUSHED,
    "nft flush set inet cellwall noclients6": "our rules were changed",
    "nft flush set inet cellwall live": "missing element in inet live",
    "nft flush set bridge cellwall pin4": "missing element in bridge pin4",
    "tc qdisc del dev b9_br0 clsact": "does not latch",
    "tc filter del dev b9_br0 ingress pref 1": "does not filter unfinished checksums",
    "ip link set b9_br0 down": "is down",
    "ip address del 192.168.0.1/20 dev b9_br0": "lacks its address",
    "ip neighbour flush nud permanent dev b9_br0": "its neighbour",
    "sysctl -q -w net.ipv4.conf.b9_br0.rp_filter=2": "rp_filter is 2",
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80], udp=[80])
        yield world


@pytest.fixture(scope="module")
def man(world: World) -> Iterator[Watchman]:
    with watched(world) as man:
        yield man


@pytest.mark.parametrize("command", DAMAGES)
def test_what_somebody_changed_is_repaired_and_said(world: World, man: Watchman, command: str) -> None:
    tenant = world.attach("tenant")
    for _ in range(3 if DAMAGES[command] is FLUSHED else 1):  # also amid the look at what was repaired just now
        world.lab.node.run(command.split())
        assert DAMAGES[command] in man.heard("repaired in")
    assert world.wall.status().drift == ()
    for family in (4, 6):
        assert_connection(tenant.host, public(family), 80)
    assert connect(tenant.host, "169.254.169.254", 80, timeout=0.5).kind == "refused"
    world.detach(tenant)


def test_a_port_that_was_taken_off_the_bridge_is_put_back(world: World, man: Watchman) -> None:
    tenant = world.attach("tenant")
    world.lab.node.run(["ip", "link", "set", tenant.endpoint.host_link, "nomaster"])
    assert "is not on the bridge" in man.heard("repaired in")
    assert_connection(tenant.host, public(4), 80)
    world.detach(tenant)


def test_a_ready_sandbox_whose_port_was_unlocked_is_ended(world: World, man: Watchman) -> None:
    """Off the bridge and on, after which no port is as it was."""
    world.wall.fill_pool(1)
    (ready,) = world.wall._site.journal.pooled()
    for where in (["nomaster"], ["master", "b9_br0"]):
        world.lab.node.run(["ip", "link", "set", ready.host_link, *where])
    man.heard("repaired in")
    assert world.wall.ready == 0 and world.wall._site.links.find(ready.host_link) is None


def test_links_follow_the_node_interface_when_it_is_resized(world: World, man: Watchman) -> None:
    tenant = world.attach("tenant")
    node, host = world.lab.node, tenant.host
    for mtu in ("1400", "1500"):
        node.run(["ip", "link", "set", "eth0", "mtu", mtu])
        man.heard("repaired in")
        shown = [node.run(["ip", "link", "show", name]).text for name in ("b9_br0", tenant.endpoint.host_link)]
        assert all(f"mtu {mtu}" in text for text in (*shown, host.run(["ip", "link", "show", "eth0"]).text))
    world.detach(tenant)


def test_an_address_that_the_node_gets_is_closed_to_sandboxes(world: World, man: Watchman) -> None:
    tenant = world.attach("tenant")
    world.lab.node.serve(tcp=[81])
    world.lab.node.run(["ip", "address", "add", "9.9.9.1/24", "dev", "eth1"])
    man.heard("repaired in")
    assert "9.9.9.0" in ruleset(world)
    assert connect(tenant.host, "9.9.9.1", 81, timeout=0.5).kind == "refused"
    world.detach(tenant)


@pytest.mark.parametrize("family", [4, 6])
def test_a_network_to_which_a_routing_rule_leads_is_closed_to_sandboxes(
    world: World, man: Watchman, family: int
) -> None:
    tenant = world.attach("tenant")
    node, target = world.lab.node, public(family)
    node.run(["ip", f"-{family}", "route", "add", target, "dev", "eth0", "table", "100"])
    begun = time.monotonic()
    for change in ("add", "del"):
        node.run(["ip", f"-{family}", "rule", change, "to", target, "lookup", "100"])
        man.heard("repaired in")
        assert (target in ruleset(world)) is (change == "add")
    assert time.monotonic() - begun < PATROL / 3, "it is told of both, and finds neither by looking"
    assert_connection(tenant.host, target, 80)
    node.run(["ip", f"-{family}", "route", "del", target, "dev", "eth0", "table", "100"])
    world.detach(tenant)


def test_an_open_flow_outlives_a_flush(world: World, man: Watchman) -> None:
    tenant = world.attach("tenant")
    with Stream(tenant.host, public(4), 80) as stream:
        assert stream.ask(world.token())
        world.lab.node.run(["nft", "flush", "ruleset"])
        man.heard("repaired in")
        assert stream.ask(world.token(), 5.0)
    world.detach(tenant)


def test_operations_of_others_of_ours_are_no_damage() -> None:
    with open_world() as world, watched(world) as man:
        for _ in range(20):
            tenant = world.attach("tenant", expose=["8080:80"])
            world.wall.unexpose(tenant.name, "8080:80")
            world.detach(tenant)
        world.wall.up()
        world.wall.reconcile()
        assert world.wall.status().drift == ()
        status, said = man.stop()
        assert status == 0
        assert "repaired" not in said


def test_somebody_who_keeps_flushing_does_not_keep_us_repairing_all_the_time() -> None:
    with open_world() as world, watched(world) as man:
        heard: list[str] = []
        while len(heard) < 200 and not any("again and again" in line for line in heard):
            world.lab.node.run(["nft", "flush", "ruleset"])
            heard.append(man.heard("repaired"))
        assert "again and again" in heard[-1]
        assert man.stop()[0] == 0


def test_what_is_open_is_closed_while_its_repair_has_to_wait() -> None:
    with open_world() as world, watched(world) as man:
        world.attach("tenant")
        said: list[str] = []
        for _ in range(20):
            world.lab.node.run(["nft", "delete", "table", "inet", "cellwall"])
            said = man.heard_until("repaired in")
            if any("closed: what judges" in line for line in said):
                break
        else:
            pytest.fail("never closed")
        assert world.wall.status().drift == ()
        assert man.stop()[0] == 0


def test_what_is_open_is_closed_while_another_writer_has_the_lock_and_repaired_after_it() -> None:
    with open_world() as world, watched(world) as man:
        tenant, lan = world.attach("tenant"), world.lab.lan.serve(udp=[80])
        man.heard("nothing to repair")
        with world.wall._site.lock:
            for _ in range(3):  # until the lock is given back nothing is repaired
                world.lab.node.run(["nft", "flush", "table", "inet", "cellwall"])
                man.heard("closed: what judges")
                token = world.token()
                connect(tenant.host, LAN4, 80, udp=True, payload=token, timeout=0.1)
                assert not lan.saw(token)
                pins = tenant_pins(world)
                world.lab.node.run(["nft", "insert", "rule", "bridge", "cellwall", "port", "accept"])
            assert pins == 1
        man.heard("repaired in")
        assert world.wall.status().drift == ()
        assert man.stop()[0] == 0


def tenant_pins(world: World) -> int:
    """How many rules judge the frames of sandboxes."""
    return world.wall._site.rules.chains("bridge", "cellwall")["port"].rules


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_at_once_when_it_is_told_to_and_leaves_the_wall(world: World, number: int) -> None:
    before = ruleset(world)
    with watched(world) as man:
        status, said = man.stop(number)
        assert (status, "repaired" in said) == (0, False)
    assert ruleset(world) == before
    assert SPARE_TABLE not in before


def test_a_node_that_was_taken_down_stays_down_and_is_watched_when_it_is_up_again() -> None:
    with open_world() as world, watched(world) as man:
        world.wall.down()
        world.lab.node.run(["ip", "address", "add", "9.9.9.1/24", "dev", "eth1"])
        world.lab.node.run(["nft", "add", "table", "inet", "cellwall"])
        man.heard("nothing to repair")
        assert not world.wall.status().up
        assert "b9_br0" not in world.lab.node.run(["ip", "link"]).text
        world.lab.node.run(["nft", "delete", "table", "inet", "cellwall"])
        world.wall.up()
        world.lab.node.run(["nft", "flush", "ruleset"])
        man.heard("repaired in")
        assert world.wall.status().drift == ()


def test_it_ends_where_the_record_is_removed_after_everything_that_makes_an_event() -> None:
    with open_world() as world, watched(world) as man:
        world.wall.down()
        man.heard("nothing to repair")
        man.heard("nothing to repair")
        world.wall.uninstall()
        assert man.ended()[0] == 7


def test_it_ends_where_cellwall_was_uninstalled_and_leaves_nothing() -> None:
    with open_world() as world:
        place = world.wall.paths.run
        with watched(world) as man:
            world.wall.uninstall()
            assert man.ended()[0] == 7
        assert not place.exists()


def test_it_does_not_lay_its_version_over_a_newer_ones() -> None:
    with open_world() as world, watched(world) as man:
        rewired(world.wall, program="99.0").up()
        assert man.ended()[0] == 7
        found = world.wall._site.foundation()
        assert found is not None
        assert found.program == "99.0"


def test_the_doctor_names_a_node_that_nobody_watches() -> None:
    def told() -> bool:
        settings = world.wall.settings
        return any(finding.subject == "watch" for finding in diagnose(observe(settings), settings))

    with open_world() as world:
        world.attach("tenant")
        assert told()
        with watched(world):
            assert not told()
        assert told()
