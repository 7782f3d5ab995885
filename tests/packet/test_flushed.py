"""Who attaches, publishes or withdraws a port after somebody flushed what the wall stands on lays it first: entries of
an endpoint would open a wall whose floor is empty, and a success would be none where no rule is left."""

import errno
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from cellwall.errors import KernelError
from cellwall.lab import connect
from cellwall.lab.addresses import INFRA4, INFRA6, LAN4, LAN6, NODE4, NODE6
from cellwall.lab.services import Services
from cellwall.model.settings import Settings
from world import Sandbox, World, Wrapped, assert_connection, open_world, public, rewired

pytestmark = pytest.mark.root

TABLES = ("filter", "nat", "mangle", "raw", "security")
DENIED = {"lan": (LAN4, LAN6), "node": (NODE4, NODE6), "infra": (INFRA4, INFRA6)}
SETTINGS = {
    "nftables": Settings(backend="nftables"),
    "iptables-nft": Settings(backend="iptables", iptables="nft"),
    "iptables-legacy": Settings(backend="iptables", iptables="legacy"),
}
FLUSHES = (
    ("nftables", "nft flush ruleset"),
    ("nftables", "nft flush table inet cellwall"),
    ("nftables", "nft flush table bridge cellwall"),
    ("nftables", "nft delete table bridge cellwall"),
    ("nftables", "nft flush chain inet cellwall B9-FORWARD"),
    ("nftables", "nft add table inet cellwall { flags dormant; }"),
    ("nftables", "chain forward"),
    ("nftables", "chain input"),
    ("nftables", "nft flush set inet cellwall floor4"),
    ("nftables", "nft flush set inet cellwall floor6"),
    ("iptables-nft", "ipset flush"),
    ("iptables-nft", "ipset flush b9floor6"),
    ("iptables-nft", "nft flush ruleset"),
    ("iptables-nft", "every table"),
    ("iptables-nft", "every table of ip6tables"),
    ("iptables-nft", "every table, chains of ours"),
    ("iptables-nft", "every table, an accept first"),
    ("iptables-nft", "ebtables-nft -t nat -F"),
    ("iptables-legacy", "nft flush ruleset"),
    ("iptables-legacy", "ipset flush"),
    ("iptables-legacy", "every table"),
    ("iptables-legacy", "every table of ip6tables"),
    ("iptables-legacy", "every table, chains of ours"),
    ("iptables-legacy", "every table, an accept first"),
)


class Node(NamedTuple):
    """A node, what is denied to its sandboxes, and one of these."""

    holder: str
    world: World
    services: dict[str, Services]
    tenant: Sandbox

    def heard(self, sandbox: Sandbox) -> set[str]:
        """Who of those that are denied hears it."""
        tokens = {(name, address): self.world.token(name) for name, pair in DENIED.items() for address in pair}
        for (_, address), token in tokens.items():
            connect(sandbox.host, address, 80, udp=True, payload=token, timeout=0.1)
        return {name for (name, _), token in tokens.items() if self.services[name].saw(token)}

    def assert_whole(self, *sandboxes: Sandbox) -> None:
        assert self.world.wall.status().drift == ()
        for sandbox in sandboxes:
            for family in (4, 6):
                assert_connection(sandbox.host, public(family), 80)
            assert not self.heard(sandbox)


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with open_world(settings=SETTINGS[request.param]) as world:
        lab = world.lab
        lab.internet.serve(tcp=[80])
        hosts = (("lan", lab.lan), ("node", lab.node), ("infra", lab.infra))
        yield Node(request.param, world, {name: host.serve(udp=[80]) for name, host in hosts}, world.attach("tenant"))


def flush(node: Node, command: str) -> None:
    """Of "every table" the rules and chains go, as `-F` and `-X` of each do, or the rules in chains of ours alone, or
    before all of them comes one that accepts; "chain" and a name is a base chain of ours, which is deleted."""
    if command.startswith("chain "):
        for verb in ("flush", "delete"):
            node.world.lab.node.run(["nft", verb, "chain", "inet", "cellwall", command.removeprefix("chain ")])
        return
    if not command.startswith("every table"):
        node.world.lab.node.run(command.split())
        return
    lines = {"chains of ours": [":B9-INPUT -", ":B9-FORWARD -", ":B9-GUARD -"]}
    lines["an accept first"] = ["-I INPUT -j ACCEPT", "-I FORWARD -j ACCEPT"]
    within = lines.get(command.partition(", ")[2])
    tables = TABLES if within is None else ("filter", "security")
    text = "".join("\n".join([f"*{table}", *(within or ()), "COMMIT", ""]) for table in tables).encode()
    variant = node.holder.partition("-")[2]
    kept = [] if within is None else ["--noflush"]
    for name in ["ip6tables"] if command.endswith("ip6tables") else ["iptables", "ip6tables"]:
        node.world.lab.node.run([f"{name}-{variant}-restore", *kept, "-w", "10"], input=text)


on_each = pytest.mark.parametrize(("node", "command"), FLUSHES, indirect=["node"])
unjudged = pytest.mark.parametrize(
    ("node", "command"), [pair for pair in FLUSHES if pair[1].startswith("every table")], indirect=["node"]
)
"""What judges is gone, and the pins that vouch are not."""


@on_each
def test_an_attach_lays_what_was_flushed(node: Node, command: str) -> None:
    flush(node, command)
    newcomer = node.world.attach("newcomer")
    node.assert_whole(newcomer, node.tenant)
    node.world.detach(newcomer)


@on_each
def test_publishing_and_withdrawing_a_port_lays_what_was_flushed(node: Node, command: str) -> None:
    flush(node, command)
    node.world.wall.expose(node.tenant.name, "8080:80")
    node.assert_whole(node.tenant)
    flush(node, command)
    node.world.wall.unexpose(node.tenant.name, "8080:80")
    node.assert_whole(node.tenant)


@on_each
def test_what_is_left_of_a_dead_process_opens_nothing_that_was_flushed(node: Node, command: str) -> None:
    wall = node.world.wall
    with wall._site.journal.transaction():
        wall._site.journal.put("pending", b"elements")
    flush(node, command)
    heard = node.heard(node.tenant)
    wall.detach("nobody")  # closing recovers as well, and lays nothing
    assert node.heard(node.tenant) == heard
    wall.reconcile()
    node.assert_whole(node.tenant)


@pytest.mark.parametrize("node", ["nftables"], indirect=True)
def test_nothing_that_is_missing_is_added_to_a_wall_that_does_not_stand(node: Node) -> None:
    wall, rules = node.world.wall, node.world.wall._site.rules
    with wall._site.journal.transaction():
        wall._site.journal.put("pending", b"elements")
    for command in ("nft flush set inet cellwall live", "nft flush set inet cellwall floor4"):
        flush(node, command)
    wall.detach("nobody")  # which recovers, and lays nothing
    assert rules.elements("inet", "cellwall", "live") == frozenset()
    wall.reconcile()
    assert rules.elements("inet", "cellwall", "live")
    node.assert_whole(node.tenant)


@unjudged
def test_a_repair_closes_before_it_begins(node: Node, command: str) -> None:
    def die(*_: object) -> None:
        raise KernelError(errno.EIO, "die here")

    wall = node.world.wall
    flush(node, command)
    assert node.heard(node.tenant)  # what closing is for
    doomed = rewired(wall, node=Wrapped(wall._site.node, observe=die))
    for act in (lambda: doomed.attach("next"), doomed.repair, doomed.up):
        with pytest.raises(KernelError, match="die here"):
            act()
        assert not node.heard(node.tenant)
    assert not wall.close_unjudged()  # it is closed
    wall.repair()
    node.assert_whole(node.tenant)


@pytest.mark.parametrize("node", SETTINGS, indirect=True)
def test_a_wall_that_stands_is_not_closed(node: Node) -> None:
    assert node.world.wall._site.backend.stands()
    assert not node.world.wall.close_unjudged()
    node.assert_whole(node.tenant)
