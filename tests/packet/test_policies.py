"""Policies on the wire: what they deny never arrives, what they allow is not touched, whenever they change."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Literal

import msgspec
import pytest

from cellwall.errors import AlreadyExists, InvalidSpec, NotFound, Unsupported
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6, PUBLIC4, PUBLIC6
from cellwall.model.policy import OPEN, Action, Policy, Rule, RuleProtocol, Tiers
from cellwall.model.settings import Settings, parse_openings
from streams import alive, flows
from world import (
    Sandbox,
    Stream,
    World,
    about_nftables,
    assert_connection,
    assert_no_connection,
    in_iptables,
    open_world,
    rewired,
)

pytestmark = pytest.mark.root
CLOSING, STAYING = (PUBLIC4[0], PUBLIC6[0]), (PUBLIC4[1], PUBLIC6[1])
BLOCK = Policy("block")


def rules(action: Action, *addresses: str) -> tuple[Rule, ...]:
    """With ports, as every mechanism has a form for."""
    protocols: tuple[RuleProtocol, ...] = ("tcp", "udp")
    return tuple(
        Rule(action, ip_network(address), protocol, (80, 81)) for address in addresses for protocol in protocols
    )


ONLY_STAYING, NOT_CLOSING = Policy("allow", rules("allow", *STAYING)), Policy("open", rules("deny", *CLOSING))


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80, 81], udp=[80, 81])
        yield world


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    yield shared
    for endpoint in shared.wall.endpoints():
        shared.wall.detach(endpoint.key.container_id)
    for tenant in shared.wall.policies():
        shared.wall.remove_policy(tenant=tenant)
    assert shared.wall.status().drift == ()


@pytest.mark.parametrize("policy", [ONLY_STAYING, NOT_CLOSING], ids=["allow", "deny"])
@pytest.mark.parametrize("tier", ["tenant", "endpoint"])
def test_open_flows_that_a_new_policy_denies_end_and_all_others_go_on(world: World, tier: str, policy: Policy) -> None:
    tenant, other = world.attach("one", tenant="acme"), world.attach("other", tenant="else")
    with flows(tenant.host, CLOSING) as cut, flows(other.host, CLOSING) as others, flows(tenant.host, STAYING) as kept:
        assert alive(world, [*cut, *others, *kept]) == [True] * 12
        world.wall.set_policy(policy, **({"tenant": "acme"} if tier == "tenant" else {"container": tenant.name}))
        assert alive(world, cut, 0.2) == [False] * 4
        assert alive(world, [*kept, *others]) == [True] * 8
        assert world.wall.status().drift == ()
    for address in CLOSING:
        assert connect(tenant.host, address, 80, timeout=10.0).kind == "refused"
        assert_connection(other.host, address, 80)
    for address in STAYING:
        assert_connection(tenant.host, address, 80)


def test_what_a_policy_denies_is_open_again_when_it_is_taken_away(world: World) -> None:
    tenant = world.attach("one", tenant="acme")
    world.wall.set_policy(BLOCK, tenant="acme")
    for address in (*CLOSING, *STAYING):
        assert_no_connection(tenant.host, address, 80)
    assert world.wall.remove_policy(tenant="acme")
    assert not world.wall.remove_policy(tenant="acme")
    for address in (*CLOSING, *STAYING):
        assert_connection(tenant.host, address, 80)


def test_an_endpoint_is_up_under_the_policy_that_its_tenant_had_before(world: World) -> None:
    world.wall.set_policy(ONLY_STAYING, tenant="acme")
    tenant = world.attach("one", tenant="acme")
    assert tenant.endpoint.tiers.tenant == ONLY_STAYING
    for closed, open_ in zip(CLOSING, STAYING, strict=True):
        assert_no_connection(tenant.host, closed, 80)
        assert_connection(tenant.host, open_, 80)


@pytest.mark.parametrize("options", [
    {"block_network": True},
    {"policy": {"mode": "block"}},
    {"policy": BLOCK},
    {"allow_list": ["9.9.9.0/24"]},
])  # fmt: skip
def test_an_endpoint_is_up_under_the_policy_that_its_attach_names(world: World, options: dict[str, object]) -> None:
    if "allow_list" in options:
        about_nftables("destinations without ports")
    tenant = world.attach("one", **options)
    for address in (*CLOSING, *STAYING):
        assert_no_connection(tenant.host, address, 80)


def test_the_permissions_of_an_endpoint_are_replaced_and_the_rest_of_its_policy_stays(world: World) -> None:
    about_nftables("destinations without ports")
    tenant = world.attach("one", policy={"sources": ["0.0.0.0/0"]})
    world.wall.update_network_permissions(tenant.name, block_network=True)
    assert_no_connection(tenant.host, STAYING[0], 80)
    world.wall.update_network_permissions(tenant.name, allow_list=list(STAYING))
    assert_no_connection(tenant.host, CLOSING[0], 80)
    assert_connection(tenant.host, STAYING[0], 80)
    world.wall.update_network_permissions(tenant.name)
    assert_connection(tenant.host, CLOSING[0], 80)
    assert world.wall.policy(container=tenant.name).policy == Policy(sources=(ip_network("0.0.0.0/0"),))


def test_what_iptables_has_no_words_for_is_refused_by_name_and_changes_nothing(world: World) -> None:
    if not in_iptables():
        pytest.skip("iptables only")
    tenant = world.attach("one", tenant="acme")
    world.wall.set_policy(ONLY_STAYING, tenant="acme")
    before = world.wall.policies(), world.wall.endpoints()
    for act in (
        lambda: world.wall.set_policy({"allow_list": ["9.9.9.0/24"]}, tenant="acme"),
        lambda: world.wall.update_network_permissions(tenant.name, allow_list=["9.9.9.0/24"]),
        lambda: world.attach("two", allow_list=["9.9.9.0/24"]),
    ):
        with pytest.raises(Unsupported) as caught:
            act()
        assert (caught.value.predicate, caught.value.backend) == ("Listed", "iptables")
        assert (world.wall.policies(), world.wall.endpoints()) == before
    assert_no_connection(tenant.host, CLOSING[0], 80)
    assert_connection(tenant.host, STAYING[0], 80)


def test_a_packet_needs_both_tiers(world: World) -> None:
    own = Policy("allow", rules("allow", CLOSING[0], STAYING[0]))
    tenant = world.attach("one", tenant="acme", policy=own)
    world.wall.set_policy(NOT_CLOSING, tenant="acme")
    assert_no_connection(tenant.host, CLOSING[0], 80)
    assert_connection(tenant.host, STAYING[0], 80)
    assert_no_connection(tenant.host, STAYING[1], 80)


def test_a_rule_of_ports_speaks_of_its_protocol_and_ports_alone(world: World) -> None:
    denials = tuple(Rule("deny", ip_network(address), "tcp", (81, 90)) for address in CLOSING)
    tenant = world.attach("one", policy=Policy("open", denials))
    for address in CLOSING:
        assert_no_connection(tenant.host, address, 81)
        assert_connection(tenant.host, address, 81, udp=True)
        assert_connection(tenant.host, address, 80)


def test_an_opening_of_the_floor_is_allowed_by_its_name_and_nothing_else_of_the_floor(world: World) -> None:
    address, other = "10.0.0.5", "10.0.0.6"
    opened = Settings(exceptions=parse_openings(f"db {address} tcp,udp/80", "x"))
    wall = rewired(world.wall, settings=opened)
    wall.up()
    host = world.host("one")
    tenant = Sandbox(host, wall.attach("one", netns=host.netns, tenant="acme"))
    assert_connection(tenant.host, address, 80)
    wall.set_policy({"mode": "allow", "rules": documents("allow", STAYING[0])}, tenant="acme")
    assert_no_connection(tenant.host, address, 80)
    wall.patch_policy({"exceptions": ["db"]}, tenant="acme")
    assert_connection(tenant.host, address, 80)
    assert_connection(tenant.host, address, 80, udp=True)
    assert_connection(tenant.host, STAYING[0], 80)
    for denied in (other, CLOSING[0]):
        assert_no_connection(tenant.host, denied, 80)
    two = wall.attach("two", netns=world.host("two").netns, policy={"mode": "allow", "exceptions": ["db"]})
    assert [str(rule) for rule in two.tiers.endpoint.rules] == [
        f"allow {address}/32 tcp 80",
        f"allow {address}/32 udp 80",
    ]
    with pytest.raises(InvalidSpec) as caught:
        wall.set_policy({"mode": "allow", "exceptions": ["nosuch"]}, tenant="acme")
    assert caught.value.field == "/exceptions/0"
    world.wall.up()


def documents(action: Action, *addresses: str) -> list[dict[str, object]]:
    """The same rules as they are written."""
    return [
        {"action": action, "prefix": str(rule.prefix), "protocol": rule.protocol, "ports": "80-81"}
        for rule in rules(action, *addresses)
    ]


def test_clients_of_published_ports_are_those_that_a_policy_names(world: World) -> None:
    tenant = world.attach("one", tenant="acme", expose=["8080:80"])
    with (
        tenant.host.serve(tcp=[80]),
        Stream(world.lab.lan, NODE4, 8080) as cut,
        Stream(world.lab.lan, NODE6, 8080) as cut6,
    ):
        assert alive(world, [cut, cut6]) == [True] * 2
        world.wall.set_policy({"inbound_cidr_allowlist": ["203.0.112.0/24", "2001:db9::/32"]}, tenant="acme")
        assert alive(world, [cut, cut6], 0.2) == [False] * 2
        world.wall.set_policy({"sources": ["0.0.0.0/0", "::/0"]}, tenant="acme")
        assert_connection(world.lab.lan, NODE4, 8080)
        assert_connection(world.lab.lan, NODE6, 8080)


def test_a_policy_that_monitors_denies_nothing(world: World) -> None:
    tenant = world.attach("one", policy=Policy("block", monitor=True))
    with flows(tenant.host, CLOSING) as streams:
        assert alive(world, streams) == [True] * 4
        world.wall.patch_policy({"monitor": False}, container=tenant.name)
        assert alive(world, streams, 0.2) == [False] * 4


def test_the_same_policy_is_no_change(world: World) -> None:
    tenant = world.attach("one", tenant="acme", policy=BLOCK)
    first = world.wall.set_policy(ONLY_STAYING, tenant="acme")
    before = world.wall.endpoint(tenant.name)
    assert world.wall.set_policy(ONLY_STAYING, tenant="acme") == first
    world.wall.set_policy(BLOCK, container=tenant.name)
    assert world.wall.endpoint(tenant.name) == before
    assert world.wall.set_policy(BLOCK, tenant="acme").generation > first.generation
    assert world.wall.endpoint(tenant.name).generation > before.generation


def test_what_is_refused_names_its_place_and_changes_nothing(world: World) -> None:
    tenant = world.attach("one", tenant="acme")
    world.wall.set_policy(ONLY_STAYING, tenant="acme")
    before = world.wall.policies(), world.wall.endpoints()
    refusals = {
        "/allow_list/1": lambda: world.wall.set_policy({"allow_list": ["1.1.1.1", "10.0.0.0/8"]}, tenant="acme"),
        "/rules/0/prefix": lambda: world.wall.set_policy(
            {"mode": "allow", "rules": [{"action": "allow", "prefix": "93.184.216.34"}]}, tenant="acme"
        ),  # the node's own network
        "/mode": lambda: world.wall.patch_policy({"mode": "closed"}, container=tenant.name),
        "rules[0].prefix": lambda: world.wall.set_policy(
            Policy("allow", (Rule("allow", ip_network("169.254.169.254/32")),)), tenant="new"
        ),
        "links": lambda: world.wall.set_policy(Policy(links=True), container=tenant.name),
        "/allow_list/0": lambda: world.attach("two", allow_list=["10.0.0.0/8"]),
        "allow_list": lambda: world.attach("two", policy=BLOCK, allow_list=["1.1.1.1"]),
        "policy": lambda: world.wall.set_policy(BLOCK),
    }
    for place, act in refusals.items():
        with pytest.raises(InvalidSpec) as caught:
            act()
        assert caught.value.field == place
        assert (world.wall.policies(), world.wall.endpoints()) == before
    with pytest.raises(NotFound):
        world.wall.set_policy(BLOCK, container="nobody")
    with pytest.raises(AlreadyExists):
        world.wall.attach(tenant.name, netns=tenant.host.netns, tenant="acme", policy=BLOCK)


def test_a_tenant_may_have_a_policy_before_anything_else(world: World) -> None:
    world.wall.set_policy({"mode": "block"}, tenant="later")
    assert world.wall.policy(tenant="later").policy == BLOCK
    assert world.wall.policy(tenant="never") is None
    assert world.wall.policy(container=world.attach("one").name).policy == OPEN


def test_what_is_wrong_with_live_policies_is_drift_and_is_repaired(world: World) -> None:
    tenant = world.attach("one", policy=NOT_CLOSING)
    without = msgspec.structs.replace(tenant.endpoint, tiers=Tiers())
    world.wall._site.backend.change([tenant.endpoint], [without])
    assert_connection(tenant.host, CLOSING[0], 80)
    assert world.wall.status().drift
    assert world.wall.reconcile().repaired
    assert_no_connection(tenant.host, CLOSING[0], 80)


@pytest.mark.parametrize("lost", ["tenantdeny4p32", "tenantlimits4", "kin4"])
@pytest.mark.parametrize("added", [(), (Rule("deny", ip_network("9.9.9.9/32")),)], ids=["the same", "one rule more"])
def test_a_policy_that_is_set_over_damage_is_in_force_when_the_call_returns(
    world: World, lost: str, added: tuple[Rule, ...]
) -> None:
    about_nftables("elements that somebody flushed")
    closed = Rule("deny", ip_network(f"{PUBLIC4[0]}/32"))
    world.wall.set_policy(Policy("open", (closed,), links=True), tenant="acme")
    one, two = world.attach("one", tenant="acme"), world.attach("two", tenant="acme")
    world.lab.node.run(["nft", "flush", "set", "inet", "cellwall", lost])
    world.wall.set_policy(Policy("open", (closed, *added), links=True), tenant="acme")
    assert_no_connection(one.host, PUBLIC4[0], 80)
    with two.host.serve(tcp=[80]):
        assert_connection(one.host, two.address(4), 80)
    assert world.wall.status().drift == ()


@pytest.mark.parametrize("admits", [OPEN, Policy(sources=(ip_network("203.0.113.0/24"),), monitor=True)])
@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_a_client_that_was_kept_out_comes_in_by_a_policy_that_admits_it(
    backend: Literal["nftables", "iptables"], admits: Policy
) -> None:
    """With the flow that it began while it was kept out, as a client does that keeps its source port."""
    with open_world(settings=Settings(backend=backend)) as world:
        tenant = world.attach("one", tenant="acme", expose=["8080:80/udp"])
        world.wall.set_policy(Policy(sources=(ip_network("203.0.113.0/24"),)), tenant="acme")
        with tenant.host.serve(udp=[80]), Stream(world.lab.internet, NODE4, 8080, udp=True) as client:
            assert [client.ask(world.token(), 0.3) for _ in range(2)] == [False, False]
            world.wall.set_policy(admits, tenant="acme")
            assert client.ask(world.token()) or client.ask(world.token())  # the first may meet an earlier refusal
