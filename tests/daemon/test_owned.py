"""Between two runs of a daemon whose socket is kept nobody's flush lets anything through; a node that is to be
everybody's is left to them."""

import signal
from collections.abc import Iterator

import pytest

from cellwall.attack.flood import Flood
from cellwall.model.addresses import mac_text
from cellwall.model.network import Network
from daemon.served import Daemon, served_node
from packet.test_blink import to_the_floor
from packet.test_half_replaced import to_the_node
from world import Stream, World, about_nftables, public

pytestmark = pytest.mark.root
GATEWAY = mac_text(Network().bridge_mac)


@pytest.fixture
def node() -> Iterator[tuple[Daemon, World]]:
    about_nftables("owners of tables")
    with served_node(keeps=True) as node:
        yield node


def live(world: World) -> str:
    return world.lab.node.run(["nft", "-s", "list", "table", "bridge", "cellwall"], check=False).text


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_flood_passes_nothing_while_others_flush_between_two_runs(
    node: tuple[Daemon, World], end: signal.Signals
) -> None:
    daemon, world = node
    lab, attacker = world.lab, world.attach("attacker")
    everywhere, at_node = lab.internet.serve(udp=[80]), lab.node.serve(udp=[80])
    for side in ("ingress", "egress"):  # it is the rules that hold
        lab.node.run(["tc", "filter", "del", "dev", "b9_br0", side, "pref", "2"])
    before = live(world)
    with Flood(
        attacker.host, "eth0", [*to_the_floor(attacker, GATEWAY), *to_the_node(attacker, GATEWAY)], every=0
    ) as flood:
        daemon.stop(end)
        for _ in range(20):
            lab.node.run(["nft", "flush", "ruleset"])
            flood.wait(1)
        assert live(world) == before
        daemon.give_back()
        daemon.start()
        flood.wait()
        assert live(world) == before
        newcomer = world.attach("newcomer")
        with Stream(newcomer.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<honest>")
    assert not everywhere.saw(b"<flood")
    assert not at_node.saw(b"<flood")


def test_a_node_that_is_no_daemons_by_now_is_everybodys_to_write(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    daemon.configure(mode="inprocess")
    assert daemon.stop() == 0
    daemon.until("FDSTOREREMOVE=1")
    assert daemon.store == {}
    assert world.lab.node.run(["nft", "delete", "table", "inet", "cellwall"], check=False).returncode == 0
