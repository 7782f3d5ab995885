"""Mail on the wire: refused at once, and open to whom a policy lists it for as long as it does."""

from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network

import pytest

from cellwall.lab import connect
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from world import PUBLIC, Stream, World, assert_connection, open_world

pytestmark = pytest.mark.root
SMTP, SUBMISSION = 25, 587
SENDS = Policy(rules=tuple(Rule("allow", ip_network(prefix), "tcp", (SMTP, SMTP)) for prefix in ("0.0.0.0/0", "::/0")))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[SMTP, SUBMISSION], udp=[SMTP])
        yield world


def test_mail_is_refused_at_once_and_where_it_is_handed_in_is_open(world: World) -> None:
    tenant = world.attach("none")
    for address in PUBLIC:
        assert connect(tenant.host, address, SMTP, timeout=10.0).kind == "refused"
        assert_connection(tenant.host, address, SUBMISSION)
        assert_connection(tenant.host, address, SMTP, udp=True)


def test_a_policy_opens_mail_to_its_sandboxes_and_ends_open_flows_of_it_when_it_goes(world: World) -> None:
    tenant, other = world.attach("sender", tenant="post"), world.attach("other", tenant="else")
    world.wall.set_policy(SENDS, tenant="post")
    with ExitStack() as stack:
        flows = [stack.enter_context(Stream(tenant.host, address, SMTP, udp=False)) for address in PUBLIC]
        assert [flow.ask(world.token(), 1.0) for flow in flows] == [True, True]
        assert [connect(other.host, address, SMTP, timeout=10.0).kind for address in PUBLIC] == ["refused"] * 2
        assert world.wall.status().drift == ()
        world.wall.remove_policy(tenant="post")
        assert [flow.ask(world.token(), 0.2) for flow in flows] == [False, False]
    assert [connect(tenant.host, address, SMTP, timeout=10.0).kind for address in PUBLIC] == ["refused"] * 2
    assert world.wall.status().drift == ()


def test_mail_that_is_only_watched_passes_also_beside_policies() -> None:
    with open_world(settings=Settings(smtp="watched")) as world:
        world.lab.internet.serve(tcp=[SMTP])
        tenant = world.attach("one", tenant="post")
        for policy in (Policy(), SENDS):
            world.wall.set_policy(policy, tenant="post")
            for address in PUBLIC:
                assert_connection(tenant.host, address, SMTP)
            assert world.wall.status().drift == ()
