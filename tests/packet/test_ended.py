"""Connections that have ended, which no count has: how many a tenant can keep up, and who is not hurt by the bound."""

import socket
import time
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest

from cellwall.attack.rows.ended import ROUND, Way, hold
from cellwall.attack.rows.exhaustion import forget
from cellwall.attack.stage import SETTINGS, WalledStage, walled_stage
from cellwall.lower.nft.sets import FULL_SETS
from cellwall.names import TABLE
from packet.ended_flows import TOKEN
from packet.test_exhaustion import open_and_close
from world import open_world, public

pytestmark = pytest.mark.root
LIMIT = 300
"""Some of it is for what tells that everything before has arrived, which is a flow each time."""
TRIED = 4800
CHURN = 1000


@pytest.fixture(scope="module")
def stage() -> Iterator[WalledStage]:
    settings = msgspec.structs.replace(SETTINGS, tenant_connections=LIMIT, new_connections=0, packets=0)
    with walled_stage(settings) as stage:
        yield stage


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("way", get_args(Way))
def test_a_tenant_keeps_few_ended_connections_however_it_keeps_them_up(
    stage: WalledStage, way: Way, family: int
) -> None:
    """As many as may be open at once, as many a second while they are kept, and those that are open just then."""
    try:
        held = hold(stage.world, TOKEN, family, way, TRIED)
    finally:
        forget(stage.world)
    assert held.opened >= TRIED
    assert LIMIT / 2 < held.kept < held.opened
    assert held.kept <= LIMIT * (1 + held.seconds) + ROUND  # and of five seconds' worth no more, however long it tries


def test_who_kept_too_many_connects_again_when_they_are_gone(stage: WalledStage) -> None:
    stage.lab.internet.serve(tcp=[80])
    hold(stage.world, TOKEN, 4, "reset", TRIED)
    began = time.monotonic()
    with stage.world.attacker.host.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect((public(4), 80))  # tries again by itself, after 1, 3 and 7 seconds
    assert 1 < time.monotonic() - began < 16


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
def test_one_short_connection_after_the_other_waits_for_nothing(family: int) -> None:
    """As a client has them that asks again and again, under the bounds that a node has by default."""
    with open_world() as world:
        world.lab.internet.serve(tcp=[80])
        client = world.attach("client").host
        for number in range(CHURN):
            open_and_close(client, public(family), reset=number % 4 == 0)
        found = world.lab.node.run(["nft", "list", "set", "inet", TABLE, FULL_SETS["ended"]]).text
        assert "elements" not in found
