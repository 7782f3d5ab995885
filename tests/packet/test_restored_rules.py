"""Rules that an operator saved by `nft list ruleset` and loaded again by `nft -f`: nft writes a tenant's number by its
lowest bit alone. Until somebody repairs that, tenants share what each may use, and none has more."""

from collections.abc import Iterator

import pytest

from cellwall.attack.frames import frame, packet
from cellwall.lab import connect
from cellwall.lab.addresses import INFRA4, INFRA6
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from watch.watchman import watched
from world import Sandbox, World, assert_connection, open_world, public

pytestmark = pytest.mark.root
MANY, FLOOD = 40, 150
Numbers = frozenset[tuple[str, tuple[object, ...]]]


@pytest.fixture(scope="module")
def node() -> Iterator[World]:
    with open_world(settings=Settings(backend="nftables", tenant_connections=MANY)) as world:
        world.lab.internet.serve(tcp=[80])
        yield world


@pytest.fixture(scope="module")
def tenants(node: World) -> list[Sandbox]:
    """Two sandboxes of one tenant, and one each of two others."""
    return [node.attach(name, tenant=tenant) for name, tenant in zip("abcd", ("x", "x", "y", "z"), strict=True)]


def restore(node: World) -> None:
    """What a boot unit of nftables does with what somebody saved."""
    saved = node.lab.node.run(["nft", "list", "ruleset"]).stdout
    node.lab.node.run(["nft", "-f", "-"], input=b"flush ruleset\n" + saved)


def numbers(node: World) -> list[Numbers]:
    """What stands in the kernel of whose an address is, in each family."""
    rules = node.wall._site.rules
    return [frozenset(rules.elements("inet", "cellwall", f"tenant{family}")) for family in (4, 6)]  # type: ignore[misc]


def arrived(node: World, sandbox: Sandbox) -> int:
    """How many of a flood of flows."""
    macs = mac_text(sandbox.endpoint.mac), mac_text(node.wall.settings.network.bridge_mac)
    shots = [
        frame(*macs, packet(sandbox.address(family), public(family), "udp", b"flood", sport=10000 + number, dport=9))
        for family in (4, 6)
        for number in range(FLOOD)
    ]
    with node.lab.internet.capture("eth0", outgoing=False) as wire:
        sandbox.host.inject("eth0", shots)
        for family in (4, 6):  # by another tenant's way, which is no longer than that of the flood
            connect(sandbox.host, public(family), 80, timeout=0.3)
        return sum(b"flood" in one for one in wire.drain())


def test_what_a_tenant_may_use_stays_bounded_on_rules_that_were_loaded_again(
    node: World, tenants: list[Sandbox]
) -> None:
    restore(node)
    node.lab.node.run(["conntrack", "-F"])
    assert sum(arrived(node, sandbox) for sandbox in tenants) == MANY
    for address in (INFRA4, INFRA6):
        assert connect(tenants[0].host, address, 80, timeout=0.3).kind != "answer"
    node.wall.reconcile()


def test_rules_that_were_loaded_again_are_drift_and_repaired(node: World, tenants: list[Sandbox]) -> None:
    before = numbers(node)
    restore(node)
    assert numbers(node) != before
    drift = node.wall.status().drift
    for family in (4, 6):
        assert sum(f"in inet tenant{family}" in line for line in drift) == 2 * len(tenants)
    node.wall.reconcile()
    assert numbers(node) == before
    assert node.wall.status().drift == ()
    node.lab.node.run(["conntrack", "-F"])
    assert [arrived(node, sandbox) for sandbox in (tenants[0], *tenants[2:])] == [MANY] * 3


def test_the_watch_repairs_them_at_once(node: World, tenants: list[Sandbox]) -> None:
    before = numbers(node)
    with watched(node) as man:
        restore(node)
        man.heard("repaired in")
        assert numbers(node) == before
    assert node.wall.status().drift == ()
    assert_connection(tenants[0].host, public(4), 80)
