"""Who takes away what judges and leaves what vouches opens the node, until somebody looks: closing comes first then,
before anything is compared, compiled or laid, and whatever becomes of that."""

import errno
from collections.abc import Iterator

import pytest

from cellwall.errors import KernelError
from cellwall.lab import connect
from cellwall.lab.addresses import INFRA4, INFRA6, LAN4, LAN6, NODE4, NODE6
from cellwall.lab.services import Services
from world import Sandbox, World, Wrapped, assert_connection, open_world, public, rewired

pytestmark = pytest.mark.root

FLUSHES = (
    "nft delete table inet cellwall",
    "nft flush table inet cellwall",
    "nft flush ruleset inet",
    "nft flush chain inet cellwall B9-FORWARD",
    "nft add table inet cellwall { flags dormant; }",
    "nft flush chain inet cellwall forward; delete chain inet cellwall forward",
)
DENIED = {"lan": (LAN4, LAN6), "node": (NODE4, NODE6), "infra": (INFRA4, INFRA6)}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80])
        yield world


@pytest.fixture(scope="module")
def services(world: World) -> dict[str, Services]:
    lab = world.lab
    return {name: host.serve(udp=[80]) for name, host in (("lan", lab.lan), ("node", lab.node), ("infra", lab.infra))}


@pytest.fixture(scope="module")
def tenant(world: World) -> Sandbox:
    return world.attach("tenant")


def reached(world: World, tenant: Sandbox, services: dict[str, Services]) -> set[str]:
    """Who of those that are denied hears the sandbox."""
    tokens = {(name, address): world.token(name) for name, pair in DENIED.items() for address in pair}
    for (_, address), token in tokens.items():
        connect(tenant.host, address, 80, udp=True, payload=token, timeout=0.1)
    return {name for (name, _), token in tokens.items() if services[name].saw(token)}


@pytest.mark.parametrize("command", FLUSHES)
def test_a_repair_closes_before_it_begins(
    world: World, tenant: Sandbox, services: dict[str, Services], command: str
) -> None:
    def die(*_: object) -> None:
        raise KernelError(errno.EIO, "die here")

    world.lab.node.run(command.split())
    assert reached(world, tenant, services)  # what closing is for
    doomed = rewired(
        world.wall, node=Wrapped(world.wall._site.node, observe=die), rules=Wrapped(world.wall._site.rules, lay=die)
    )
    for act in (doomed.repair, doomed.up):
        with pytest.raises(KernelError, match="die here"):
            act()
        assert not reached(world, tenant, services)
    world.wall.repair()
    assert world.wall.status().drift == ()
    for family in (4, 6):
        assert_connection(tenant.host, public(family), 80)
    assert not reached(world, tenant, services)


def test_a_wall_that_stands_is_not_closed(world: World, tenant: Sandbox) -> None:
    shape = world.wall._site.rules.shape()
    assert not world.wall.close_unjudged()
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert not world.wall.close_unjudged()  # nobody vouches for anything
    world.wall.repair()
    assert world.wall._site.rules.shape() == shape
