"""How much of the kernel the policy of one tenant takes, over all of its endpoints."""

import pytest

from cellwall.compile.policy_forms import policy_listings
from cellwall.compile.policy_size import MAX_ENTRIES
from cellwall.engine.crowds import MAX_TENANT_ENTRIES
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
        for _ in range(MOST):
            world.attach(tenant="acme")
        known = world.wall.set_policy(LARGE, tenant="acme")
        with pytest.raises(Exhausted, match=f"{MAX_TENANT_ENTRIES}"):
            world.attach("beyond", tenant="acme")
        assert len(world.wall.endpoints()) == MOST
        assert world.wall.status().drift == ()
        assert world.wall.set_policy(Policy("block"), tenant="acme").policy.mode == "block"
        world.attach(tenant="acme")
        with pytest.raises(Exhausted, match="acme"):
            world.wall.set_policy(LARGE, tenant="acme")
        blocked = world.wall.policies()["acme"]
        assert (blocked.policy.mode, blocked.generation) == ("block", known.generation + 1)
        world.wall.set_policy(LARGE, tenant="other")
        world.attach(tenant="other")
