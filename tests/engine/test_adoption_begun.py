"""Taking over that is refused, or dies on the way: nothing is taken, or the next `up` finishes it."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from beta9 import rules_of
from cellwall.adapters.other_programs.predecessor import Beta9Traces
from cellwall.engine.predecessor.adopt import bring_up
from cellwall.engine.requests import Status
from cellwall.errors import Conflict, Unsupported
from cellwall.lab.addresses import NODE4
from engine.adoption import KINDS, Site, found_site, inner, links
from world import World, assert_connection, assert_no_connection, open_world, public

pytestmark = pytest.mark.root

PORT = "ip link add b9h12 type veth peer name x"


@pytest.fixture(params=KINDS)
def found(request: pytest.FixtureRequest) -> Iterator[Site]:
    with found_site(request.param) as site:
        yield site


class Killed(BaseException):
    pass


class Dying(Beta9Traces):
    """Ends the process in one of its steps."""

    def __init__(self, step: str) -> None:
        super().__init__()
        setattr(self, step, self._die)

    def _die(self, *_: object) -> None:
        raise Killed


@pytest.mark.parametrize("step", ["rename", "claim", "remove"])
def test_an_up_that_died_half_way_is_finished_by_the_next(found: Site, step: str) -> None:
    world = found.world
    renames = found.shape.veth != "b9h"
    with suppress(Killed):
        bring_up(world.wall._site, Dying(step))
        assert step == "rename" and not renames
    world.wall.up()
    assert {str(endpoint.address4) for endpoint in world.wall.endpoints()} == {found.web.address4, found.job.address4}
    assert [line for line in rules_of(world.lab, found.shape) if "b9_" in line or "b9h" in line] == []
    assert_connection(world.lab.lan, NODE4, 30080)
    assert world.wall.status().drift == ()


def test_what_an_attempt_that_died_had_on_record_is_read_anew(found: Site) -> None:
    """A container that ended before the next `up` is no endpoint then."""
    with suppress(Killed):
        bring_up(found.world.wall._site, Dying("claim"))
    assert len(found.world.wall.endpoints()) == 2
    for link in (found.web.veth, found.world.wall.endpoints()[0].host_link):
        found.world.lab.node.run(["ip", "link", "delete", link], check=False)
    found.world.wall.up()
    assert [endpoint.key.container_id for endpoint in found.world.wall.endpoints()] == [found.job.name]
    assert found.world.wall.status().drift == ()


def test_a_bridge_that_somebody_gave_an_alias_is_his(found: Site) -> None:
    found.world.lab.node.run(["ip", "link", "set", "b9_br0", "alias", "lan"])
    with pytest.raises(Conflict, match="b9_br0"):
        found.world.wall.up()
    assert found.world.wall.endpoints() == ()


class Claiming(Beta9Traces):
    """Ends the process right after the bridge was claimed: before any wall was laid."""

    def claim(self, bridge_index: int) -> None:
        super().claim(bridge_index)
        raise Killed


def without_a_way_out(world: World) -> None:
    for family in ("-4", "-6"):
        world.lab.node.run(["ip", family, "route", "flush", "default"], check=False)


def test_an_up_that_is_refused_takes_nothing(found: Site) -> None:
    before = found.world.lab.node.run(["ip", "route", "show", "default"]).text.split()
    without_a_way_out(found.world)
    there, rules = links(found.world), rules_of(found.world.lab, found.shape)
    with pytest.raises(Unsupported, match="default route"):
        found.world.wall.up()
    assert (links(found.world), rules_of(found.world.lab, found.shape)) == (there, rules)
    assert found.world.wall.endpoints() == ()
    found.world.lab.node.run(["ip", "route", "add", *before])
    found.world.wall.up()
    assert_connection(found.job.host, public(4), 80)


def test_a_network_of_the_nodes_that_overlaps_keeps_everything_as_it_is(found: Site) -> None:
    pair = ["link add lan9 type veth peer name lan8", "link set lan9 up", "address add 192.168.7.1/24 dev lan9"]
    found.world.lab.node.ip(pair)
    with pytest.raises(Conflict, match="lan9"):
        found.world.wall.up()
    assert "alias cellwall" not in links(found.world)
    assert found.world.wall.endpoints() == ()


def test_what_was_claimed_and_not_walled_can_be_closed_and_taken_down(found: Site) -> None:
    """Nothing is laid for it, which the node may be without the means for."""
    world, wall = found.world, found.world.wall
    with suppress(Killed):
        bring_up(wall._site, Claiming())
    without_a_way_out(world)
    status = wall.status()
    assert (status.up, status.endpoints, len(status.drift)) == (False, 2, 1)
    assert_connection(found.job.host, found.web.address4, 80)
    with pytest.raises(Conflict, match="not up"):
        wall.unexpose(found.web.name, "30080:80", ifname=inner(found.web))
    assert wall.detach(found.job.name, ifname=inner(found.job))
    assert_no_connection(found.job.host, found.web.address4, 80)
    with pytest.raises(Conflict, match="1 endpoint is attached"):
        wall.down()
    wall.down(force=True)
    assert "b9_br0" not in links(world)
    assert wall.status() == Status(up=False, endpoints=0, pending=0)


def test_a_node_whose_bridge_is_gone_is_taken_down_without_it(found: Site) -> None:
    with suppress(Killed):
        bring_up(found.world.wall._site, Claiming())
    without_a_way_out(found.world)
    found.world.lab.node.run(["ip", "link", "delete", "b9_br0"])
    found.world.wall.down(force=True)
    assert found.web.veth not in links(found.world)
    assert found.world.wall.status() == Status(up=False, endpoints=0, pending=0)


@pytest.mark.parametrize(
    "commands",
    [
        ["ip link add b9_br0 type bridge", "ip address add 192.168.0.1/20 dev b9_br0"],
        ["ip link add b9_br0 type bridge", PORT, "ip link set b9h12 master b9_br0"],
        ["ip link add b9_br0 type bridge", "ip address add 10.9.0.1/20 dev b9_br0",
         "iptables-nft -A FORWARD -i b9_br0 -o eth0 -j ACCEPT"],
    ],
    ids=["nothing beta9 makes", "no address of ours", "another network"],
)  # fmt: skip
def test_a_bridge_that_nothing_of_beta9_speaks_for_is_refused(commands: list[str]) -> None:
    with open_world(up=False) as world:
        for command in commands:
            world.lab.node.run(command.split())
        with pytest.raises(Conflict, match="b9_br0"):
            world.wall.up()
        assert not world.wall.endpoints()
