"""Attacks on a live node: two sandboxes come and go, nothing else changes."""

import signal
import subprocess
import sys

import msgspec
import pytest

from cellwall.api import Wall
from cellwall.attack import main
from cellwall.attack.live import gentle
from cellwall.attack.probe import Volley
from cellwall.attack.rows import every_probe
from cellwall.errors import Conflict
from running import come_to
from world import World, open_world

pytestmark = pytest.mark.root


def rules(world: World) -> str:
    """Without what is in sets: limits remember who spoke."""
    return world.lab.node.run(["nft", "-s", "-t", "list", "ruleset"]).text


def run(world: World, *arguments: str) -> int:
    return main(["--here", "--root", str(world.lab.root), *arguments])


def test_nothing_is_through_a_live_wall(node_lab: World, capsys: pytest.CaptureFixture[str]) -> None:
    tenant = node_lab.attach("tenant", expose=["8080:80"])
    others = node_lab.wall.endpoints()
    before = rules(node_lab)
    assert run(node_lab, "--json") == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert {probe["row"] for probe in told["probes"]} >= {"A02", "A13", "B01", "C01", "D01"}
    assert node_lab.wall.endpoints() == others
    assert rules(node_lab) == before
    assert node_lab.wall.status().drift == ()
    node_lab.detach(tenant)


def test_what_the_operator_named_is_attacked_too(capsys: pytest.CaptureFixture[str]) -> None:
    with open_world(up=False) as world:
        world.wall.paths.config_file.parent.mkdir(parents=True, exist_ok=True)
        world.wall.paths.config_file.write_text(
            '[node]\npublic_addresses = ["151.101.65.9"]\nprotect = ["151.101.129.0/24", "2a04:4e42:129::/64"]\n'
        )
        with Wall.open(root=world.lab.root) as wall:
            wall.up()
        assert run(world, "--json", "--only", "C04") == 0
    told = {probe["id"] for probe in msgspec.json.decode(capsys.readouterr().out)["probes"]}
    assert {
        "C04-hidden-public-v4-http",
        "C04-protected-v4-dns",
        "C04-protected-last-v6-ping",
        "C04-router-v4-ping",
    } <= told
    assert not any(name.startswith(("C04-hidden-public-v6", "C04-lan", "C04-infra")) for name in told)


def test_a_node_without_ipv6_is_attacked_over_ipv4(capsys: pytest.CaptureFixture[str]) -> None:
    with open_world(ipv6=False) as world:
        assert run(world, "--json", "--only", "A02,B01,C01,D01") == 0
    told = {probe["id"] for probe in msgspec.json.decode(capsys.readouterr().out)["probes"]}
    assert {"A02-udp-v4", "D01-gateway-ssh-v4"} <= told
    assert not any(name.endswith("-v6") for name in told)


def test_a_hole_in_a_live_wall_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with open_world() as world:
        table = next(line for line in rules(world).splitlines() if "chain B9-FORWARD" not in line and "inet" in line)
        world.lab.node.run(["nft", "insert", "rule", "inet", table.split()[2], "B9-FORWARD", "accept"])
        assert run(world, "--only", "A02,C01") == 10
        assert "THROUGH A02-udp-v4" in capsys.readouterr().out
        assert world.wall.endpoints() == ()


def test_a_node_without_a_wall_is_not_given_one(fresh_node: World) -> None:
    before = rules(fresh_node)
    with pytest.raises(Conflict, match="not up"):
        run(fresh_node)
    assert rules(fresh_node) == before


def test_only_attacker_and_victim_send_on_a_live_node(node_lab: World) -> None:
    from cellwall.attack.live import live_world

    with live_world(str(node_lab.lab.root)) as world:
        volleys = [probe for probe in gentle(every_probe()) if isinstance(probe, Volley) and world.applies(probe)]
        assert len(volleys) > 100
        origins = {shot.origin for probe in volleys for shot in world.shots(probe)}
    assert origins <= {"attacker", "victim"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_a_signal_it_leaves_no_sandbox(node_lab: World, number: signal.Signals) -> None:
    running = start(node_lab)
    running.send_signal(number)
    assert running.wait(60) != 0
    assert node_lab.wall.endpoints() == ()


def test_what_a_killed_attack_leaves_is_detached_by_reconcile(node_lab: World) -> None:
    running = start(node_lab)
    running.kill()
    running.wait(60)
    repaired = node_lab.wall.reconcile().repaired
    assert len([line for line in repaired if "detached attack-" in line]) == 2
    assert node_lab.wall.endpoints() == ()
    assert node_lab.wall.status().drift == ()


def start(world: World) -> "subprocess.Popen[bytes]":
    """The command on the node, and its sandboxes attached."""
    code = "import sys; from cellwall.attack import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "--here", "--root", str(world.lab.root)]
    running = world.lab.node.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    come_to(running, lambda: bool(world.wall.endpoints()))
    return running
