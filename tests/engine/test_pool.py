"""Ready sandboxes: each is given to one container, whole or not at all, and never keeps anybody else from anything."""

import os
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest

from cellwall.adapters.netlink.rtnetlink import RTM_DELADDR, RTM_NEWADDR, address_message, open_route_socket
from cellwall.adapters.netlink.sockets import NLM_F_CREATE
from cellwall.adapters.record.turns import FairMutex
from cellwall.adapters.sandbox import owners
from cellwall.api import AttachRequest, Wall
from cellwall.engine.requests import Reconciled
from cellwall.errors import CellwallError, Conflict, KernelError
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint, parse_binding
from cellwall.model.policy import Policy
from cellwall.model.pool import was_pooled
from cellwall.model.settings import Settings
from engine.pooled import is_let_in, left, two_ready
from engine.steps import assert_converged
from world import World, Wrapped, about_nftables, open_world, rewired

pytestmark = pytest.mark.root


@pytest.fixture
def pooled(node: World) -> Iterator[Wall]:
    with two_ready(node) as wall:
        yield wall


def test_a_container_gets_one_that_stood_ready_with_all_that_it_had(pooled: Wall) -> None:
    ready = pooled._site.journal.pooled()
    assert [is_let_in(pooled, one) for one in ready] == [False, False]
    web = pooled.claim("web", tenant="acme")
    same = ("host_link", "host_index", "mac", "address4", "address6", "netns", "netns_inode")
    assert all(getattr(web, name) == getattr(ready[0], name) for name in same)
    assert (web.key.container_id, web.tenant, was_pooled(web)) == ("web", "acme", True)
    assert is_let_in(pooled, web)
    assert pooled.endpoints() == (web,) and pooled.ready == 1
    assert_converged(pooled)


def test_who_claims_again_has_what_it_has(pooled: Wall) -> None:
    assert pooled.claim("web", tenant="acme") == pooled.claim("web", tenant="acme") == pooled.attach("web")
    assert pooled.ready == 1


def test_ready_ones_are_no_containers_but_status_counts_them(pooled: Wall) -> None:
    status = pooled.status()
    assert (pooled.endpoints(), status.endpoints, status.ready, status.drift) == ((), 0, 2, ())
    assert not any("~" in note for note in status.notes)
    pooled.claim("web")
    status = pooled.status()
    assert (status.endpoints, status.ready, status.drift) == (1, 1, ())


def test_a_claimed_one_is_under_the_policies_of_tenant_and_endpoint_and_publishes_its_ports(pooled: Wall) -> None:
    about_nftables("a list of networks, whatever the port")
    pooled.set_policy({"block_network": True}, tenant="acme")
    web = pooled.claim("web", tenant="acme", expose=["8080:80"], allow_list=["151.101.0.0/16"])
    assert was_pooled(web) and len(web.bindings) == 1
    assert (web.tiers.tenant.mode, web.tiers.endpoint.mode) == ("block", "allow")
    assert_converged(pooled)
    pooled.remove_policy(tenant="acme")


def test_who_follows_endpoints_is_told_whose_a_ready_one_is_before_it_is_let_in(pooled: Wall) -> None:
    site, told = pooled._site, dict[str, list[str]](let_in=[], known=[])

    class Listening:
        def change(self, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
            told["known"] = [one.key.container_id for one in after]

        def fill(self, endpoints: Sequence[Endpoint]) -> None:
            told["known"] = [one.key.container_id for one in endpoints]

    def let_in(bridge: str, index: int, link: str, mac: int) -> None:
        told["let_in"] += told["known"]
        site.links.let_in(bridge, index, link, mac)

    following = rewired(pooled, links=Wrapped(site.links, let_in=let_in))
    following.follow(Listening())
    following.claim("web", tenant="acme")
    assert told["let_in"] == ["web"]
    site.in_force.audience = None


def test_where_none_is_left_the_container_is_attached_as_any(pooled: Wall) -> None:
    made = [pooled.claim(f"c{number}") for number in range(3)]
    assert [was_pooled(one) for one in made] == [True, True, False]
    assert_converged(pooled)


@pytest.mark.parametrize(
    "needs", [{"mac": 0x02AABBCCDD01}, {"ifname": "net1"}, {"address4": IPv4Address("192.168.9.9")}]
)
def test_who_needs_what_they_have_not_is_attached_as_any(pooled: Wall, needs: dict[str, object]) -> None:
    web = pooled.claim("web", **needs)  # type: ignore[arg-type]
    assert not was_pooled(web) and all(needs[name] in (getattr(web, name, 0), web.key.ifname) for name in needs)
    assert pooled.ready == 2
    pooled.detach("web", ifname=web.key.ifname)


def test_a_claim_at_once_is_a_claim(pooled: Wall) -> None:
    pooled._caller.take_turns_by(FairMutex())
    ready = pooled._site.journal.pooled()
    for name in ("web", "worker"):  # the second one comes to know its tenant by the number of the first
        made = pooled.claim_at_once(AttachRequest(name, tenant="acme"))
        assert made == pooled.endpoint(name) and was_pooled(made) and made.tenant == "acme"
        assert is_let_in(pooled, made)
    assert [one.netns for one in pooled.endpoints()] == [one.netns for one in ready]
    assert_converged(pooled)
    assert pooled.claim_at_once(AttachRequest("third", tenant="acme")) is None  # none is left


@pytest.mark.parametrize(
    "needs",
    [
        {"ifname": "eth1"},
        {"address4": IPv4Address("192.168.0.77")},
        {"bindings": (parse_binding("8300:80"),)},
        {"policy": Policy("block")},
        {"tenant": "ruled"},
        {"container_id": "there"},
    ],
)
def test_what_is_more_than_a_claim_is_not_done_at_once(pooled: Wall, needs: dict[str, object]) -> None:
    pooled._caller.take_turns_by(FairMutex())
    pooled.set_policy({"mode": "block"}, tenant="ruled")
    there = pooled.attach("there")
    try:
        asked = msgspec.structs.replace(AttachRequest("web", tenant="acme"), **needs)
        assert pooled.claim_at_once(asked) is None
        assert pooled.ready == 2 and pooled.endpoints() == (there,)
    finally:
        pooled.remove_policy(tenant="ruled")


@pytest.mark.parametrize("needs", [{}, {"ifname": "eth1"}, {"tenant": "ruled"}])
def test_where_nothing_is_done_at_once_what_a_dead_process_left_is_there_still(
    pooled: Wall, needs: dict[str, object]
) -> None:
    """Its end is for whoever claims behind it, in turn."""
    pooled._caller.take_turns_by(FairMutex())
    pooled.set_policy({"mode": "block"}, tenant="ruled")
    left_behind = pooled.attach("web", tenant="acme")
    owners.claim(Path(pooled.paths.run), "web").release()  # as its end releases it
    asked = msgspec.structs.replace(AttachRequest("web", tenant="acme"), **needs)
    try:
        assert pooled.claim_at_once(asked) is None
        assert pooled.endpoints() == (left_behind,)
        (claimed,) = pooled.claim_many([asked])
        assert pooled.endpoints() == (claimed,) and claimed != left_behind
        pooled.detach("web", ifname=claimed.key.ifname)
    finally:
        pooled.remove_policy(tenant="ruled")


def test_nothing_is_done_at_once_while_somebody_has_the_turn(pooled: Wall) -> None:
    mutex, taken, go_on = FairMutex(), Event(), Event()
    pooled._caller.take_turns_by(mutex)

    def repair() -> None:
        with mutex:
            taken.set()
            go_on.wait(30)

    somebody = Thread(target=repair)
    somebody.start()
    try:
        assert taken.wait(30)
        assert pooled.claim_at_once(AttachRequest("web")) is None
    finally:
        go_on.set()
        somebody.join()
    assert pooled.claim_at_once(AttachRequest("web")) is not None


def test_of_a_node_that_changed_or_was_flushed_nothing_is_claimed_at_once(pooled: Wall, node: World) -> None:
    pooled._caller.take_turns_by(FairMutex())
    node.lab.node.run(["nft", "flush", "ruleset"])
    with pytest.raises(KernelError):
        pooled.claim_at_once(AttachRequest("web"))
    assert pooled.endpoints() == () and pooled.ready == 1
    pooled.reconcile()
    with node.lab.node.enter(), open_route_socket() as route:
        address = address_message(RTM_NEWADDR, 1, IPv4Address("198.51.100.77"), 32, flags=NLM_F_CREATE)
        route.transact([address], "give the node another address")
        pooled.fill_pool(1)
        assert pooled.claim_at_once(AttachRequest("other")) is None
        route.transact([address_message(RTM_DELADDR, 1, IPv4Address("198.51.100.77"), 32)], "take it back")


def test_under_other_settings_than_those_in_force_nothing_is_claimed_at_once(pooled: Wall, node: World) -> None:
    given = msgspec.structs.replace(pooled.settings, connections=77)
    with Wall.open(root=node.lab.root, settings=given) as other:
        other._caller.take_turns_by(FairMutex())
        with pytest.raises(Conflict, match="not those in force"):
            other.claim_at_once(AttachRequest("web"))
    assert pooled.ready == 2 and pooled.endpoints() == ()


def test_many_claims_are_one_operation_and_all_or_none(pooled: Wall) -> None:
    requests = [AttachRequest("a"), AttachRequest("b"), AttachRequest("c", bindings=())]
    assert [was_pooled(one) for one in pooled.claim_many(requests)] == [True, True, False]
    pooled.detach_many([one.key for one in pooled.endpoints()])
    pooled.fill_pool(2)
    with pytest.raises(CellwallError):
        pooled.claim_many([AttachRequest("a"), AttachRequest("b", netns="/nowhere")])
    assert pooled.endpoints() == ()
    assert_converged(pooled)


def test_one_that_was_claimed_is_nobodys_again_but_gone(pooled: Wall) -> None:
    first = pooled.claim("web")
    pooled.detach("web")
    assert not os.path.exists(first.netns)
    assert pooled.claim("web").netns != first.netns


def test_one_whose_namespace_was_taken_away_is_given_to_nobody(pooled: Wall, node: World) -> None:
    lost, kept = pooled._site.journal.pooled()
    node.lab.node.run(["umount", lost.netns])
    assert pooled.claim("web").netns == kept.netns
    assert pooled.ready == 0
    pooled.reconcile()


OPENED = {
    "its entry": (["bridge fdb add {mac} dev {link} master static sticky"], "lets it in"),
    "its entry for good": (["bridge fdb replace {mac} dev {link} master permanent"], "lets it in"),
    "its MAC at the node": (["ip link set {link} address {mac}"], "lets it in"),
    "any entry": (["bridge fdb add 02:00:00:00:77:77 dev {link} master static"], "unknown forwarding entry"),
    "off the bridge and on": (["ip link set {link} nomaster", "ip link set {link} master {bridge}"], "locked is 0"),
    "down": (["ip link set {link} down"], "is down"),
    "dormant": (["ip link set {link} down mode dormant", "ip link set {link} up"], "is dormant"),
}
"""What has one pass something by its bridge, or is not as it was left, and what is told of it."""


@pytest.mark.parametrize("how", OPENED)
def test_one_that_somebody_meddled_with_is_ended_by_a_repair(pooled: Wall, node: World, how: str) -> None:
    opened, _ = pooled._site.journal.pooled()
    names = {"mac": mac_text(opened.mac), "link": opened.host_link, "bridge": pooled.settings.network.bridge}
    commands, told = OPENED[how]
    for command in commands:
        node.lab.node.run(command.format(**names).split())
    assert any(told in line for line in pooled.status().drift)
    assert isinstance(pooled.reconcile(), Reconciled)
    assert pooled.ready == 1
    assert_converged(pooled)


@pytest.mark.parametrize("claims", ["in turn", "at once"])
@pytest.mark.parametrize("how", ["set {link} name another", "delete {link}"], ids=["renamed", "gone"])
def test_one_whose_link_is_not_what_it_was_is_passed_over(pooled: Wall, node: World, how: str, claims: str) -> None:
    lost, whole = pooled._site.journal.pooled()
    node.lab.node.run(["ip", "link", *how.format(link=lost.host_link).split()])
    if claims == "at once":
        pooled._caller.take_turns_by(FairMutex())
        with pytest.raises(KernelError):  # after which a daemon's writer claims in turn
            pooled.claim_at_once(AttachRequest("web", tenant="acme"))
    assert pooled.claim("web", tenant="acme").host_link == whole.host_link
    assert pooled.ready == 0
    node.lab.node.run(["ip", "link", "delete", "another"], check=False)
    assert_converged(pooled)


@pytest.mark.parametrize("how", ["down", "down mode dormant"])
def test_one_whose_link_was_put_down_is_let_in_all_the_same(pooled: Wall, node: World, how: str) -> None:
    """Dormant as well, as one is that an older program made."""
    shut, _ = pooled._site.journal.pooled()
    node.lab.node.run(["ip", "link", "set", shut.host_link, *how.split()])
    web = pooled.claim("web")
    assert web.host_link == shut.host_link and is_let_in(pooled, web)
    assert_converged(pooled)


def test_a_container_whose_link_somebody_made_dormant_is_let_in_again(pooled: Wall, node: World) -> None:
    web = pooled.claim("web")
    node.lab.node.run(["ip", "link", "set", web.host_link, "down", "mode", "dormant"])
    node.lab.node.run(["ip", "link", "set", web.host_link, "up"])
    assert any("is dormant" in line for line in pooled.status().drift)
    pooled.reconcile()
    assert is_let_in(pooled, web)
    assert_converged(pooled)


@pytest.mark.parametrize("ifname", ["eth0", "net1"])
def test_nobody_attaches_to_one_that_stands_ready_by_its_namespace(pooled: Wall, ifname: str) -> None:
    """Whoever claimed it later would have that interface, too."""
    ready = pooled._site.journal.pooled()[0]
    with pytest.raises(Conflict, match="stands ready"):
        pooled.attach("web", netns=ready.netns, ifname=ifname)
    assert pooled.ready == 2
    assert_converged(pooled)
    claimed = pooled.claim("web")
    assert pooled.attach("web", netns=claimed.netns, ifname="net1").netns == claimed.netns
    pooled.detach("web", ifname="net1")


def test_an_address_of_one_that_is_nobodys_is_given_to_who_asks_for_it(pooled: Wall, node: World) -> None:
    ready = pooled._site.journal.pooled()[0]
    host = node.host("named")
    assert pooled.attach("named", netns=host.netns, address4=ready.address4).address4 == ready.address4
    assert pooled.ready == 1
    assert_converged(pooled)


def test_rules_that_are_laid_anew_keep_ready_ones(pooled: Wall, node: World) -> None:
    node.lab.node.run(["nft", "flush", "ruleset"])
    pooled.reconcile()
    assert pooled.ready == 2
    assert was_pooled(pooled.claim("web"))
    assert_converged(pooled)


def test_a_claim_on_a_flushed_node_lays_the_wall_before_anything_is_opened(pooled: Wall, node: World) -> None:
    node.lab.node.run(["nft", "flush", "ruleset"])
    opened: list[bool] = []
    site = pooled._site

    def let_in(bridge: str, index: int, link: str, mac: int) -> None:
        opened.append(site.backend.stands())
        site.links.let_in(bridge, index, link, mac)

    links = Wrapped(site.links, let_in=let_in)
    assert was_pooled(rewired(pooled, links=links).claim("web"))
    assert opened == [True]


def test_what_was_detached_takes_no_room_from_ready_ones() -> None:
    """Nobody may attach again for long, and what drains is gathered until somebody needs it."""
    network = msgspec.structs.replace(Settings().network, subnet4=IPv4Network("192.168.0.0/27"))
    with open_world(settings=msgspec.structs.replace(Settings(), network=network)) as world:
        wall = world.wall
        keys = [wall.attach(f"c{number}").key for number in range(20)]
        wall.detach_many(keys)
        assert wall.status().pending == 20
        assert wall.fill_pool(10) == 10
        assert_converged(wall)


def test_a_full_subnet_takes_ready_ones_back_and_leaves_half_of_what_is_free() -> None:
    network = msgspec.structs.replace(Settings().network, subnet4=IPv4Network("192.168.0.0/27"))
    with open_world(settings=msgspec.structs.replace(Settings(), network=network)) as world:
        wall = world.wall
        made = wall.fill_pool(100)
        assert 0 < made <= 15
        assert [wall.fill_pool(2) for _ in range(4)] == [0] * 4, "nor bit by bit, as a daemon makes them"
        capacity = 29
        for number in range(capacity):
            world.attach(f"c{number}")
        assert wall.ready == 0 and len(wall.endpoints()) == capacity
        assert wall.fill_pool(5) == 0
        assert_converged(wall)


def test_ready_ones_keep_no_node_from_going_down() -> None:
    with open_world() as world:
        world.wall.fill_pool(2)
        world.wall.claim("web")
        with pytest.raises(Conflict, match="1 endpoint is attached"):
            world.wall.down()
        world.wall.detach("web")
        world.wall.fill_pool(2)
        world.wall.down()
        assert left(world) == [] and world.wall.ready == 0
        assert world.wall.fill_pool(2) == 0  # nobody brings a node up for it
        assert not world.wall.status().up


@pytest.mark.parametrize("begun", [False, True], ids=["all ready", "one that a dead process was ending"])
def test_ready_ones_go_with_the_network_that_they_are_of(fresh_node: World, begun: bool) -> None:
    fresh_node.wall.up()
    assert fresh_node.wall.fill_pool(2) == 2
    journal = fresh_node.wall._site.journal
    if begun:
        with journal.transaction():
            journal.set_phase([journal.pooled()[0].key], "detaching")
    network = msgspec.structs.replace(Settings().network, subnet4=IPv4Network("192.168.0.0/24"))
    with Wall.open(root=fresh_node.lab.root, settings=Settings(network=network)) as narrower:
        narrower.up()
        assert narrower.ready == 0 and left(fresh_node) == []
        assert_converged(narrower)


@pytest.mark.parametrize(
    ("subnet", "gateway", "attached"),
    [("192.168.0.0/24", "192.168.0.1", True), ("172.20.0.0/24", "172.20.0.1", False)],
    ids=["one is attached", "another interface has it"],
)
def test_ready_ones_stay_where_another_network_is_refused(
    fresh_node: World, subnet: str, gateway: str, attached: bool
) -> None:
    wall = fresh_node.wall
    wall.up()
    if attached:
        fresh_node.attach("web")
    assert wall.fill_pool(2) == 2
    places = {"subnet4": IPv4Network(subnet), "gateway4": IPv4Address(gateway)}
    network = msgspec.structs.replace(Settings().network, **places)
    with Wall.open(root=fresh_node.lab.root, settings=Settings(network=network)) as other, pytest.raises(Conflict):
        other.up()
    assert wall.ready == 2
    assert_converged(wall)
    assert was_pooled(wall.claim("api"))
