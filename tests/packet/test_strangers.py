"""Ports that somebody else put on our bridge speak to nobody, each other included; other bridges of the node do."""

from collections.abc import Iterator

import pytest

from cellwall.lab import connect
from cellwall.lab.host import Host
from watch.watchman import watched
from world import World, assert_no_connection, open_world

pytestmark = pytest.mark.root


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


def put_on_bridge(world: World, number: int) -> Host:
    """A machine behind a port of its own on our bridge, with addresses of the sandboxes' networks."""
    host = world.host("stranger")
    world.lab.node.ip(
        [
            f"link add stranger{number} type veth peer name eth0 netns {host.netns.name}",
            f"link set stranger{number} master b9_br0 up",
        ]
    )
    host.ip(
        [
            f"address add 192.168.9.{number}/20 dev eth0",
            f"address add fd00:abcd::9:{number}/64 dev eth0 nodad",
            "link set eth0 up",
        ]
    )
    return host


def spoken(world: World, left: Host, right: Host, number: int) -> list[str]:
    """By what the left one reaches the right one: in IP, and in frames that no IP rule sees."""
    token, sentinel = world.token("frame"), world.token("sentinel")
    ethers = bytes.fromhex(right.mac("eth0").replace(":", "")), bytes.fromhex(left.mac("eth0").replace(":", ""))
    heard = []
    with right.serve(tcp=[80]):
        for address in (f"192.168.9.{number}", f"fd00:abcd::9:{number}"):
            if connect(left, address, 80, timeout=0.3).kind == "answer":
                heard.append(address)
    with right.capture("eth0", outgoing=False) as wire:
        left.inject("eth0", [b"".join(ethers) + b"\x88\xb5" + token + bytes(60)])
        left.inject("eth0", [b"\xff" * 6 + ethers[1] + b"\x88\xb5" + token + bytes(60)])
        world.lab.node.inject("stranger2", [ethers[0] + bytes(6) + b"\x88\xb5" + sentinel + bytes(60)])
        heard += ["frame" for data in wire.read_until(sentinel) if token in data]
    return heard


def test_strangers_on_the_bridge_speak_to_nobody(world: World) -> None:
    for name in ("iptables", "ip6tables"):  # the rules for routed packets are not what holds
        world.lab.node.run(["sysctl", "-qw", f"net.bridge.bridge-nf-call-{name}=0"])
    left, right = put_on_bridge(world, 1), put_on_bridge(world, 2)
    victim = world.attach("victim")
    assert len(spoken(world, left, right, 2)) == 4  # before anybody looked
    drift = world.wall.status().drift
    assert [line for line in drift if "stranger1" in line and "is not shut" in line]
    assert [line for line in world.wall.reconcile().repaired if "stranger2" in line]
    assert world.wall.status().drift == ()
    assert spoken(world, left, right, 2) == []
    with victim.host.serve(tcp=[80]):
        assert_no_connection(left, victim.address(4), 80)
    assert "master b9_br0" in world.lab.node.run(["ip", "link", "show", "stranger1"]).text


def test_the_port_of_a_closed_endpoint_is_no_strangers(world: World) -> None:
    world.detach(world.attach())
    assert world.lab.node.run(["bridge", "link", "show"]).text.count("master b9_br0") == 1  # not deleted yet
    assert world.wall.status().drift == ()


def test_up_shuts_strangers(world: World) -> None:
    left, right = put_on_bridge(world, 1), put_on_bridge(world, 2)
    world.wall.up()
    assert spoken(world, left, right, 2) == []


def test_one_that_is_shut_hears_no_sandbox_where_all_rules_are_gone(world: World) -> None:
    """Nor does a sandbox hear it: what shuts it is no rule. Before it is shut they hear each other."""
    for name in ("iptables", "ip6tables"):
        world.lab.node.run(["sysctl", "-qw", f"net.bridge.bridge-nf-call-{name}=0"])
    victim, stranger = world.attach("victim"), put_on_bridge(world, 2)
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert "frame" in spoken(world, victim.host, stranger, 2)
    world.wall.reconcile()
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert spoken(world, victim.host, stranger, 2) == []
    stranger.inject(
        "eth0", [b"\xff" * 6 + bytes.fromhex(stranger.mac("eth0").replace(":", "")) + b"\x88\xb5" + bytes(60)]
    )
    with victim.host.capture("eth0", outgoing=False) as wire:
        token, sentinel = world.token("frame"), world.token("sentinel")
        to_victim = bytes.fromhex(victim.host.mac("eth0").replace(":", ""))
        stranger.inject("eth0", [to_victim + bytes(6) + b"\x88\xb5" + token + bytes(60)])
        world.lab.node.inject(victim.endpoint.host_link, [to_victim + bytes(6) + b"\x88\xb5" + sentinel + bytes(60)])
        assert not [data for data in wire.read_until(sentinel) if token in data]


def test_a_stranger_is_shut_where_somebody_watches(world: World) -> None:
    with watched(world) as man:
        put_on_bridge(world, 1)
        assert "stranger1" in man.heard("is not shut")
        assert world.wall.status().drift == ()


def test_a_sandbox_whose_port_was_renamed_is_a_stranger_that_one_look_shuts(world: World) -> None:
    renamed = world.attach("renamed")
    world.lab.node.ip([f"link set {renamed.endpoint.host_link} name xyz0"])
    repaired = world.wall.reconcile().repaired
    assert any(line.startswith("detached renamed") for line in repaired), repaired
    assert any('"xyz0"' in line and "is not shut" in line for line in repaired), repaired
    assert world.wall.status().drift == ()
    assert world.wall.reconcile().repaired == ()
