"""A wall in iptables is laid anew after a flush, table by table: who dies between two of them leaves nothing open."""

import errno
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext

import pytest

from cellwall.engine.iptables.contracts import Variant
from cellwall.errors import KernelError
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.lower.xt.tables import Family
from cellwall.model.settings import Settings
from world import Sandbox, World, Wrapped, assert_connection, assert_no_connection, open_world, public

pytestmark = pytest.mark.root

DENIED = {4: ("169.254.169.254", NODE4, "192.168.0.1"), 6: ("fd00:ec2::254", NODE6, "fd00:abcd::1")}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables="nft")) as world:
        for host in (world.lab.internet, world.lab.node):
            host.serve(tcp=[80])
        yield world


@pytest.fixture(scope="module")
def tenants(world: World) -> tuple[Sandbox, Sandbox]:
    tenant, victim = world.attach("tenant"), world.attach("victim")
    victim.host.serve(tcp=[80])
    return tenant, victim


TABLES = {"ipv4": 5, "ipv6": 5, "bridge": 2}
"""Of each family, a commit of its own each: those of addresses beside each other, and those of frames behind both."""
ALONE = [(family, loaded) for family in TABLES for loaded in range(TABLES[family])]
DEATHS = [dict([death]) for death in ALONE] + [{"ipv4": loaded, "ipv6": loaded} for loaded in range(5)] + [{}]


@pytest.mark.parametrize(
    "deaths", DEATHS, ids=lambda deaths: "-".join(f"{family}.{at}" for family, at in deaths.items())
)
def test_a_death_between_two_tables_opens_nothing(
    world: World, tenants: tuple[Sandbox, Sandbox], deaths: Mapping[str, int]
) -> None:
    """`deaths`: after how many of its tables which family's program ends."""
    tenant, victim = tenants
    host = world.wall._site.iptables()
    whole, loaded = host.tables, Counter[str]()

    def restore(variant: Variant, family: Family, text: str) -> None:
        for table in re.findall(r"^\*.*?^COMMIT\n", text, re.MULTILINE | re.DOTALL):
            if loaded[family] == deaths.get(family):
                raise KernelError(errno.EIO, "die here")
            whole.restore(variant, family, table)
            loaded[family] += 1

    world.lab.node.run(["nft", "flush", "ruleset"])
    host.tables = Wrapped(whole, restore=restore)
    try:
        with pytest.raises(KernelError, match="die here") if deaths else nullcontext():
            world.wall.reconcile()
        frames = deaths.get("bridge", 0) if deaths else TABLES["bridge"]
        assert loaded == Counter({**TABLES, "bridge": frames, **deaths})
        for family in (4, 6):
            for address in (*DENIED[family], victim.address(family)):
                assert_no_connection(tenant.host, address, 80)
    finally:
        host.tables = whole
    world.wall.reconcile()
    for family in (4, 6):
        assert_connection(tenant.host, public(family), 80)
