"""How much of the kernel the policy of one tenant takes, over all of its endpoints."""

import pytest

from cellwall.compile.policy_forms import policy_listings
from cellwall.compile.policy_size import MAX_ENTRIES, policy_size
from cellwall.engine.policies.totals import MAX_TENANT_ENTRIES, policy_total, refuse_total
from cellwall.engine.requests import AttachRequest
from cellwall.errors import Exhausted
from cellwall.model.policy import Policy
from unit.policy.test_checks import of_networks
from world import about_nftables, open_world

pytestmark = pytest.mark.root

LARGE = of_networks(MAX_ENTRIES // 30, (1, 65534))
MOST = MAX_TENANT_ENTRIES // len(policy_listings("tenant", LARGE))


def test_a_large_policy_is_for_few_endpoints_of_a_tenant() -> None:
    with open_world() as world:
        about_nftables("any ports")
        first = world.attach(tenant="acme")
        for _ in range(MOST - 1):
            world.attach(tenant="acme")
        known = world.wall.set_policy(LARGE, tenant="acme")
        with pytest.raises(Exhausted, match=f"{MAX_TENANT_ENTRIES}"):
            world.attach("beyond", tenant="acme")
        assert len(world.wall.endpoints()) == MOST
        with pytest.raises(Exhausted, match=f"{MAX_TENANT_ENTRIES}"):
            world.wall.set_policy(LARGE, container=first.name)
        assert world.wall.status().drift == ()
        assert world.wall.set_policy(Policy("block"), tenant="acme").policy.mode == "block"
        world.attach(tenant="acme")
        with pytest.raises(Exhausted, match="acme"):
            world.wall.set_policy(LARGE, tenant="acme")
        blocked = world.wall.policies()["acme"]
        assert (blocked.policy.mode, blocked.generation) == ("block", known.generation + 1)
        world.wall.set_policy(LARGE, tenant="other")
        world.attach(tenant="other")


def test_the_policies_of_its_endpoints_count_for_their_tenant() -> None:
    most = MAX_TENANT_ENTRIES // policy_size("endpoint", LARGE).entries
    batch = [AttachRequest(f"own-{number}", tenant="acme", policy=LARGE) for number in range(most + 1)]
    with open_world() as world:
        about_nftables("any ports")
        world.wall.attach_many(batch[:1])
        with pytest.raises(Exhausted, match=f"{MAX_TENANT_ENTRIES}"):
            world.wall.attach_many(batch[1:])
        assert [one.key.container_id for one in world.wall.endpoints()] == ["own-0"]
        world.attach("other", tenant="other", policy=LARGE)


def test_less_than_before_is_refused_to_nobody() -> None:
    before = policy_total(LARGE, MOST + 2, [LARGE])
    refuse_total("acme", policy_total(LARGE, MOST + 1, [LARGE]), before)
    with pytest.raises(Exhausted):
        refuse_total("acme", policy_total(LARGE, MOST + 3, [LARGE]), before)
    with pytest.raises(Exhausted):
        refuse_total("acme", policy_total(LARGE, MOST + 1, [LARGE]))
