"""How many stand ready, whose they are that go, and what those who claim together are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.adapters.record.turns import FairMutex
from cellwall.adapters.sandbox import owners
from cellwall.api import AttachRequest, Wall
from cellwall.errors import InvalidSpec
from engine.pooled import two_ready
from world import World

pytestmark = pytest.mark.root


@pytest.fixture
def pooled(node: World) -> Iterator[Wall]:
    with two_ready(node) as wall:
        yield wall


def test_half_of_the_ports_of_a_bridge_are_left_to_others(pooled: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellwall.engine.attachments.admission.MAX_BRIDGE_PORTS", 10)
    pooled.attach("web")
    assert pooled.fill_pool(100) == 2
    assert pooled.fill_pool(100) == 0


def test_those_that_stand_ready_for_the_longest_time_are_claimed_first_and_end_last(pooled: Wall) -> None:
    pooled.fill_pool(2)
    first, second, *_ = pooled._site.journal.pooled()
    assert pooled.empty_pool(2) == 2
    assert pooled.claim("web").host_index == first.host_index
    assert pooled.claim("other").host_index == second.host_index


def test_nobody_claims_twice_in_one_batch(pooled: Wall) -> None:
    with pytest.raises(InvalidSpec, match=r"web/eth0.*is asked for twice in one batch"):
        pooled.claim_many([AttachRequest("web"), AttachRequest("web")])
    assert pooled.ready == 2 and pooled.endpoints() == ()


def test_those_of_one_tenant_are_known_as_its_also_where_they_are_claimed_together(pooled: Wall) -> None:
    pooled.fill_pool(1)
    one, other, strange = pooled.claim_many(
        [AttachRequest("one", tenant="acme"), AttachRequest("other", tenant="acme"), AttachRequest("strange")]
    )
    assert one.tenant_number == other.tenant_number != strange.tenant_number
    pooled.fill_pool(1)
    pooled._caller.take_turns_by(FairMutex())
    third = pooled.claim_at_once(AttachRequest("third", tenant="acme", user=1000))
    assert third is not None and third.tenant_number == one.tenant_number
    assert third.member and not one.member
    assert pooled.claim_many([AttachRequest("fourth", tenant="acme", user=1000)])[0].member


def test_who_claims_in_a_dead_processs_place_is_not_taken_for_what_that_one_left(pooled: Wall) -> None:
    """Of which a later repair detaches all that has its name; and what was reserved for the name is its own."""
    pooled.attach("web", ifname="eth1")
    reserved = pooled.reserve_ports("web").ports
    owners.claim(Path(pooled.paths.run), "web").release()
    pooled._caller.take_turns_by(FairMutex())
    assert pooled.claim_at_once(AttachRequest("web")) is not None
    pooled.reconcile()
    assert [str(one.key) for one in pooled.endpoints()] == ["web/eth0"]
    assert [one.ports for one in pooled.reservations()] == [reserved]
