"""Where a daemon writes nobody else does, and what it leaves is taken over whole by the next one."""

import pytest

from cellwall.api import Wall
from cellwall.config import drop_mode_record, recorded_mode
from cellwall.errors import Conflict, Unavailable
from cellwall.model.settings import Settings
from world import World, rewired

pytestmark = pytest.mark.root


def serving(world: World) -> Wall:
    return Wall.open(root=world.lab.root, settings=Settings(), serving=True)


def test_beside_a_daemon_a_wall_neither_opens_nor_writes(fresh_node: World) -> None:
    with serving(fresh_node) as daemon:
        assert recorded_mode(daemon.paths) == "daemon"
        with pytest.raises(Unavailable, match=r"cellwall\.client"):
            Wall.open(root=fresh_node.lab.root)
        with pytest.raises(Unavailable, match=r"cellwall\.client"):
            fresh_node.wall.up()  # it was open before the daemon began
        daemon.attach("web")
        with Wall.open(root=fresh_node.lab.root, reading=True) as beside:
            assert [endpoint.key.container_id for endpoint in beside.endpoints()] == ["web"]
            with pytest.raises(Unavailable):
                beside.detach("web")
    with pytest.raises(Unavailable):  # gone, and on record: whoever starts it again goes on
        fresh_node.wall.status()
    drop_mode_record(fresh_node.wall.paths)
    assert fresh_node.wall.detach("web")


def test_a_node_has_one_daemon(fresh_node: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellwall.api.HANDOVER", 0.05)
    with serving(fresh_node) as daemon, pytest.raises(Conflict, match="another daemon"):
        daemon.up()
        serving(fresh_node)
    with serving(fresh_node) as second:
        assert second.status().up
    drop_mode_record(fresh_node.wall.paths)


def test_a_daemon_takes_over_what_another_left(fresh_node: World) -> None:
    wall = fresh_node.wall
    wall.up()
    web = wall.attach("web", netns=fresh_node.host("web").netns)
    wall._site.journal.write_endpoints([web], "detaching")  # killed in the middle
    fresh_node.lab.node.run(["ip", "link", "set", wall.settings.network.bridge, "mtu", "1400"])
    with serving(fresh_node) as daemon:
        assert any("detachment of web" in line for line in daemon.resume())
        assert (daemon.endpoints(), daemon.status().drift, daemon.resume()) == ((), (), ())
    drop_mode_record(wall.paths)


def test_a_daemon_of_another_version_lays_its_own_rules(fresh_node: World) -> None:
    wall = fresh_node.wall
    wall.up()
    wall.attach("web")
    with serving(fresh_node) as daemon:
        newer = rewired(daemon, program="99.0")
        assert any("another program's" in line for line in newer.resume())
        found = newer._site.foundation()
        assert found is not None
        assert (found.program, newer.status().drift) == ("99.0", ())
    drop_mode_record(wall.paths)


def test_a_node_that_is_down_stays_down(fresh_node: World) -> None:
    with serving(fresh_node) as daemon:
        assert daemon.resume() == ()
        assert not daemon.status().up
    drop_mode_record(fresh_node.wall.paths)
