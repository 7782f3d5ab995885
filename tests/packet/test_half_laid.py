"""A wall in iptables is laid anew after a flush, table by table: who dies between two of them leaves nothing open."""

import errno
import re
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from cellwall.errors import KernelError
from cellwall.lab.addresses import NODE4, NODE6
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


TABLES = 17
"""Five that vouch are made before all, empty; then come five of each family of addresses and two of frames, each a
commit of its own."""


@pytest.mark.parametrize("loaded", range(TABLES + 1))
def test_a_death_between_two_tables_opens_nothing(world: World, tenants: tuple[Sandbox, Sandbox], loaded: int) -> None:
    tenant, victim = tenants
    host = world.wall._site.iptables()
    whole, texts = host.tables, []

    def restore(variant: object, family: object, text: str) -> None:
        for table in re.findall(r"^\*.*?^COMMIT\n", text, re.MULTILINE | re.DOTALL):
            if len(texts) == loaded:
                raise KernelError(errno.EIO, "die here")
            whole.restore(variant, family, table)  # type: ignore[arg-type]
            texts.append(table)

    world.lab.node.run(["nft", "flush", "ruleset"])
    host.tables = Wrapped(whole, restore=restore)  # type: ignore[assignment]
    try:
        with pytest.raises(KernelError, match="die here") if loaded < TABLES else nullcontext():
            world.wall.reconcile()
        assert len(texts) == loaded
        for family in (4, 6):
            for address in (*DENIED[family], victim.address(family)):
                assert_no_connection(tenant.host, address, 80)
    finally:
        host.tables = whole
    world.wall.reconcile()
    for family in (4, 6):
        assert_connection(tenant.host, public(family), 80)
