"""A claim is bound as an attach is, though room for its sandbox was found before."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import pytest

from cellwall.adapters.record.turns import FairMutex
from cellwall.api import AttachRequest, Wall
from cellwall.errors import Exhausted, KernelError
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings
from engine.pooled import two_ready
from unit.policy.test_checks import of_networks
from world import World, Wrapped, open_world, rewired

pytestmark = pytest.mark.root

Claim = Callable[[Wall, AttachRequest], Endpoint | None]


@pytest.fixture
def pooled(node: World) -> Iterator[Wall]:
    with two_ready(node) as wall:
        yield wall


def in_turn(wall: Wall, request: AttachRequest) -> Endpoint:
    return wall.claim_many([request])[0]


def at_once(wall: Wall, request: AttachRequest) -> Endpoint | None:
    wall._caller.take_turns_by(FairMutex())
    return wall.claim_at_once(request)


@pytest.mark.parametrize("claim", [in_turn, at_once])
def test_the_last_quarter_of_a_node_is_no_others_than_roots_to_claim(
    pooled: Wall, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellwall.engine.attachments.admission.MAX_BRIDGE_PORTS", 1)
    members = AttachRequest("web", tenant="acme", user=1000)
    assert claim(pooled, members) is not None
    with pytest.raises(Exhausted, match="last quarter"):
        claim(pooled, msgspec.structs.replace(members, container_id="beyond"))
    assert pooled.ready == 1
    assert claim(pooled, AttachRequest("roots", tenant="acme")) is not None


def test_a_tenant_that_has_room_for_no_more_policies_claims_none(pooled: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that stands ready, and which ends with a claim that is refused later."""
    pooled.set_policy(of_networks(1, (80, 80)), tenant="acme")
    monkeypatch.setattr("cellwall.engine.policies.totals.MAX_TENANT_ENTRIES", 0)
    try:
        with pytest.raises(Exhausted, match="acme"):
            pooled.claim("web", tenant="acme")
        assert pooled.ready == 2 and pooled.endpoints() == ()
    finally:
        pooled.remove_policy(tenant="acme")


@pytest.mark.parametrize("claim", [in_turn, at_once])
def test_a_flushed_node_in_iptables_lets_nobody_in_who_adds_no_entry(claim: Claim) -> None:
    """Nothing there is made of whose a sandbox is."""
    with open_world(settings=Settings(backend="iptables", iptables="nft")) as world:
        assert world.wall.fill_pool(2) == 2
        first = claim(world.wall, AttachRequest("first", tenant="acme"))
        assert first is not None
        site, opened = world.wall._site, list[bool]()

        def let_in(bridge: str, index: int, link: str, mac: int) -> None:
            opened.append(site.backend.stands())
            site.links.let_in(bridge, index, link, mac)

        wall = rewired(world.wall, links=Wrapped(site.links, let_in=let_in))
        world.lab.node.run(["nft", "flush", "ruleset"])
        with suppress(KernelError):
            claim(wall, AttachRequest("second", tenant="acme"))
        assert False not in opened
