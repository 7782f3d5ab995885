"""Reserved ports on a node: whose they are, what they keep away, and when they are free again."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address

import msgspec
import pytest

from cellwall.api import Wall
from cellwall.engine.requests import AttachRequest
from cellwall.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    InvalidSpec,
    KernelError,
    NotFound,
    Taken,
)
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.model import reserved
from cellwall.model.endpoint import AUTO, PortBinding
from cellwall.model.settings import Settings
from engine.steps import Fault, every_step, stepped
from world import World, assert_connection, open_world, write_setting

pytestmark = [
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
FEW = Settings(reserved_ports=(61000, 61009))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(settings=FEW) as world:
        yield world


@pytest.fixture(autouse=True)
def given_back(world: World) -> Iterator[None]:
    yield
    world.wall.detach_many([one.key for one in world.wall.endpoints()])
    for one in world.wall.reservations():
        world.wall.release_ports(one.container)


@contextmanager
def another_process(world: World) -> Iterator[Wall]:
    """A wall of the same node with sockets of its own."""
    with Wall.open(root=world.lab.root, settings=world.wall.settings) as wall:
        yield wall


def bindable(port: int, kind: int = socket.SOCK_STREAM) -> bool:
    with socket.socket(socket.AF_INET, kind) as one:
        try:
            one.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


def test_ports_are_held_for_a_container_until_they_are_given_back(world: World) -> None:
    made = world.wall.reserve_ports("web", 3, tenant="acme")
    assert (made.container, made.tenant, len(set(made.ports))) == ("web", "acme", 3)
    assert all(61000 <= port <= 61009 for port in made.ports)
    for port in made.ports:
        assert not bindable(port) and not bindable(port, socket.SOCK_DGRAM)
    assert [(one.container, one.ports) for one in world.wall.reservations()] == [("web", tuple(sorted(made.ports)))]
    assert world.wall.release_ports("web") == 3
    assert world.wall.release_ports("web") == 0
    assert all(bindable(port) for port in made.ports) and world.wall.reservations() == ()


def test_asked_again_the_same_ports_are_answered_and_no_more_than_asked_are_kept(world: World) -> None:
    three = world.wall.reserve_ports("web", 3).ports
    assert world.wall.reserve_ports("web", 3).ports == three
    five = world.wall.reserve_ports("web", 5).ports
    assert five[:3] == three
    assert world.wall.reserve_ports("web", 2).ports == three[:2]
    assert all(bindable(port) for port in five[2:])


def test_what_anything_else_may_want_is_given_to_nobody(world: World) -> None:
    """Ephemeral ports, those set aside by an operator, published ones, and those of a program."""
    node = world.lab.node
    write_setting(node, "net/ipv4/ip_local_port_range", "61005 61009")
    write_setting(node, "net/ipv4/ip_local_reserved_ports", "61000")
    world.attach("other", expose=["61001:80/udp"])
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as program:
            program.bind((NODE6, 61002))
            assert set(world.wall.reserve_ports("web", 2).ports) == {61003, 61004}
            with pytest.raises(Exhausted, match=r"^count: 3: 2 ports of 61000-61009 \(node\.reserved_ports\)"):
                world.wall.reserve_ports("web", 3)
        assert set(world.wall.reserve_ports("web", 3).ports) == {61002, 61003, 61004}
        with pytest.raises(Exhausted):
            world.wall.reserve_ports("another", 1)
    finally:
        write_setting(node, "net/ipv4/ip_local_port_range", "32768 60999")
        write_setting(node, "net/ipv4/ip_local_reserved_ports", "")


def test_what_cannot_be_reserved_whole_leaves_nothing(world: World) -> None:
    with pytest.raises(Exhausted):
        world.wall.reserve_ports("web", 11)
    assert world.wall.reservations() == () and all(bindable(port) for port in range(61000, 61010))
    for wrong in ({"count": 0}, {"count": 65}, {"seconds": 0.0}, {"tenant": "a b"}):
        with pytest.raises(InvalidSpec, match=f"^{next(iter(wrong))}: "):
            world.wall.reserve_ports("web", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_reserved_port_is_its_containers_alone_to_publish(world: World, protocol: str) -> None:
    (port,) = world.wall.reserve_ports("web", tenant="acme").ports
    world.wall.attach("other", tenant="acme")
    refused = rf"^expose\.host_port: {port}:80/{protocol}: {port} is reserved for container web$"
    with pytest.raises(Taken, match=refused):
        world.wall.expose("other", f"{port}:80/{protocol}")
    with pytest.raises(Taken, match=refused):
        world.wall.attach("third", expose=[f"{port}:80/{protocol}"])
    with pytest.raises(Taken):
        world.wall.expose("other", PortBinding("tcp", 60990, 60990, host_port_last=61020))
    with pytest.raises(Taken):
        world.wall.attach("web", tenant="evil", expose=[f"{port}:80/{protocol}"])
    box = world.host("web")
    world.wall.attach("web", netns=box.netns, tenant="acme", expose=[f"{port}:80/{protocol}"])
    with box.serve(tcp=[80], udp=[80]):
        for address in (NODE4, NODE6):
            assert_connection(world.lab.lan, address, port, udp=protocol == "udp")
            assert_connection(world.lab.node, address, port, udp=protocol == "udp")
    assert not bindable(port), "it is held for as long as it is published"
    world.wall.detach("web")
    assert bindable(port) and world.wall.reservations() == ()


def test_any_free_port_is_chosen_reserved_and_the_same_for_who_asks_again(world: World) -> None:
    box = world.host("web")
    (kept,) = world.wall.reserve_ports("web").ports
    web = world.wall.attach("web", netns=box.netns, expose=["auto:80", "auto:81/udp", "8080:82"])
    first, second, third = web.bindings
    assert first.host_port == kept, "what is reserved for it comes first"
    assert 61000 <= second.host_port <= 61009 and second.host_port != kept and third.host_port == 8080
    assert world.wall.attach("web", netns=box.netns, expose=["auto:80", "auto:81/udp", "8080:82"]) == web
    exposed = world.wall.expose("web", "auto:83")
    assert world.wall.expose("web", "auto:83") == exposed
    (reserved,) = world.wall.reservations()
    assert set(reserved.ports) == {one.host_port for one in exposed.bindings} - {8080}
    with box.serve(tcp=[80, 83]):
        for binding in exposed.bindings:
            if binding.port in (80, 83):
                assert_connection(world.lab.lan, NODE4, binding.host_port)
    with pytest.raises(AlreadyExists):
        world.wall.attach("web", netns=box.netns, expose=["auto:80"])
    with pytest.raises(Exhausted):
        world.wall.attach_many([AttachRequest("many", bindings=(PortBinding("tcp", AUTO, 80),) * 10)])
    assert {one.key.container_id for one in world.wall.endpoints()} == {"web"}
    with pytest.raises(InvalidSpec):
        world.wall.unexpose("web", "auto:80")


def test_what_is_refused_leaves_no_port_reserved_that_was_not_before(world: World) -> None:
    """Whatever it is refused for, which is seen after the port was chosen."""
    wall, web = world.wall, world.attach("web", expose=["8080:80"])
    (kept,) = wall.reserve_ports("late", seconds=5).ports
    any_port = (PortBinding("tcp", AUTO, 80), PortBinding("tcp", AUTO, 81))
    taken = PortBinding("tcp", 8080, 82)
    for refused, ask in (
        (Conflict, lambda: wall.attach("late", expose=["auto:80", "auto:81"], netns=web.host.netns)),
        (Taken, lambda: wall.attach("late", expose=["auto:80", "auto:81", "8080:82"])),
        (NotFound, lambda: wall.attach("late", expose=["auto:80", "auto:81"], netns="/nowhere")),
        (InvalidSpec, lambda: wall.attach("late", expose=["auto:80", "auto:81"], address4=IPv4Address("10.9.9.9"))),
        (AlreadyExists, lambda: wall.attach(web.name, expose=["auto:80"], netns=web.host.netns)),
        (Taken, lambda: wall.attach_many([AttachRequest("late", bindings=(*any_port, taken)), AttachRequest("more")])),
        (Taken, lambda: wall.claim_many([AttachRequest("late", bindings=(*any_port, taken))])),
        (Conflict, lambda: wall.expose(web.name, PortBinding("tcp", AUTO, 80, bind=IPv4Address("198.51.100.77")))),
    ):
        with pytest.raises(refused):
            ask()
        (left,) = wall.reservations()
        assert (left.container, left.ports) == ("late", (kept,)) and left.seconds <= 5, "as it was before"
        assert all(bindable(port) for port in range(61000, 61010) if port != kept)


def test_whatever_fails_what_any_free_port_reserved_is_published_or_given_back(world: World) -> None:
    """Also where it breaks off past the change: what is published then stays reserved."""
    world.wall.attach("web")
    published = 0
    for step in range(1, 100):
        fault = Fault(step)
        with suppress(KernelError):
            stepped(world.wall, fault).expose("web", "auto:80")
        ports = {binding.host_port for binding in world.wall.endpoint("web").bindings}
        assert {port for one in world.wall.reservations() for port in one.ports} == ports, f"step {step}"
        assert not any(map(bindable, ports)) and all(map(bindable, {*range(61000, 61010)} - ports))
        if not fault.happened:
            break
        published += len(ports)
        for port in ports:
            world.wall.unexpose("web", f"{port}:80")
        world.wall.release_ports("web")
    assert published and ports


def test_no_two_bindings_are_given_one_port(world: World) -> None:
    """Not those of two interfaces that are attached at once, nor one whose port another binding names."""
    both = [AttachRequest("web", bindings=(PortBinding("tcp", AUTO, 80),))]
    both.append(AttachRequest("web", ifname="eth1", bindings=(PortBinding("tcp", AUTO, 81),)))
    first, second = world.wall.attach_many(both)
    ports = {one.bindings[0].host_port for one in (first, second)}
    assert len(ports) == 2 and {*world.wall.reservations()[0].ports} == ports
    assert world.wall.attach_many(both) == (first, second)
    world.wall.detach_many([first.key, second.key])
    named, other = world.wall.reserve_ports("api", 2).ports
    api = world.wall.attach("api", expose=["auto:80", f"{named}:81/udp"])
    assert {one.host_port for one in api.bindings} == {named, other}
    world.wall.detach("api")
    all_but_one = world.wall.attach("wide", expose=["auto:80", "61000-61003:81", "61004-61008:90/udp"])
    assert all_but_one.bindings[0].host_port == 61009


def test_all_of_a_container_is_gone_before_its_ports_are(world: World) -> None:
    (port,) = world.wall.reserve_ports("web").ports
    world.wall.attach_many([AttachRequest("web"), AttachRequest("web", ifname="eth1"), AttachRequest("other")])
    world.wall.detach("web")
    world.wall.detach("other")
    assert not bindable(port)
    world.wall.detach("web", ifname="eth1")
    assert bindable(port)


def test_ports_wait_for_their_container_and_for_no_longer_than_that(world: World) -> None:
    world.wall.attach("web")
    (attached,) = world.wall.reserve_ports("web", seconds=1e-6).ports
    (waited,) = world.wall.reserve_ports("late", seconds=1e-6).ports
    assert world.wall.expire_reserved() == [f"port {waited} is not reserved for late any more"]
    assert bindable(waited) and not bindable(attached)
    assert world.wall.expire_reserved() == []


def test_another_process_goes_by_what_is_reserved_while_its_holder_lives(world: World) -> None:
    with another_process(world) as holder:
        (port,) = holder.reserve_ports("web").ports
        world.wall.attach("other")
        for protocol in ("tcp", "udp"):
            with pytest.raises(Conflict, match="is reserved for container web"):
                world.wall.expose("other", f"{port}:80/{protocol}")
        world.wall.attach("web", expose=[f"{port}:80/udp"])  # it is the container's, whoever attaches that
        world.wall.detach("web")
        (port,) = holder.reserve_ports("web").ports
    assert world.wall.reservations() == ()
    world.wall.expose("other", f"{port}:80/udp")
    assert not [line for line in world.wall.status().drift if str(port) in line]


def test_a_port_that_its_holder_lost_is_held_again_once_it_is_free(world: World) -> None:
    """As by a daemon that was away, while a program of the node took the port."""
    with another_process(world) as before:
        (port,) = before.reserve_ports("web").ports
        record = before._site.journal.get("reserved")
        assert record is not None
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as program:
        program.bind((NODE4, port))
        world.wall._site.journal.put("reserved", record)
        lost = world.wall.hold_reserved({}, lambda port, sockets: None, lambda port: None)
        assert lost == [f"port {port}, reserved for web, is held by another program"]
        world.wall.expire_reserved()
        assert [one.ports for one in world.wall.reservations()] == [(port,)], "it is still nobody else's to publish"
    world.wall.expire_reserved()
    assert not bindable(port)


def test_a_tenant_has_so_many_and_no_more(world: World) -> None:
    """However many containers it names: the others' ports are not its to keep."""
    with open_world(settings=Settings(reserved_ports=(61000, 63000)), up=False) as wide:
        for number in range(4):
            wide.wall.reserve_ports(f"c{number}", 64, tenant="greedy")
        with pytest.raises(Exhausted, match=r"^count: 1: tenant greedy has 256 ports reserved, of 256 at most$"):
            wide.wall.reserve_ports("one", 1, tenant="greedy")
        assert len(wide.wall.reserve_ports("one", 1, tenant="modest").ports) == 1


def test_ports_are_for_a_container_of_that_tenant_alone_and_without_one_for_one_that_has_none(world: World) -> None:
    (acmes,) = world.wall.reserve_ports("web", tenant="acme").ports
    refused = (
        rf"^expose\.host_port: {acmes}:80/tcp: {acmes} is reserved for container web of tenant acme \(tenant: none\)$"
    )
    with pytest.raises(Taken, match=refused):
        world.wall.attach("web", expose=[f"{acmes}:80"])
    assert world.wall.endpoints() == ()
    world.wall.attach("web", expose=["auto:80"])  # nobody keeps another from its name by ports that it has reserved
    (none,) = (one.ports[0] for one in world.wall.reservations() if one.tenant == "")
    world.wall.detach("web")
    assert bindable(none) and not bindable(acmes), "it waits for its own"
    world.wall.attach("web", tenant="acme", expose=[f"{acmes}:80"])
    world.wall.detach("web")
    assert bindable(acmes)
    (none,) = world.wall.reserve_ports("web").ports
    refused = (
        rf"^expose\.host_port: {none}:80/tcp: {none} is reserved for container web without a tenant \(tenant: acme\)$"
    )
    with pytest.raises(Taken, match=refused):
        world.wall.attach("web", tenant="acme", expose=[f"{none}:80"])
    world.wall.attach("web", expose=[f"{none}:80"])
    world.wall.detach("web")
    assert bindable(none)


def test_who_reserves_for_a_container_that_is_another_tenants_is_told_so_and_nothing_is_changed(world: World) -> None:
    """It is a slip: one of the two could never publish what it was given, and heard so when it did."""
    wall = world.wall
    (acmes,) = wall.reserve_ports("web", tenant="acme").ports
    before = [(one.container, one.tenant, one.ports) for one in wall.reservations()]
    for tenant, shown in ((None, "none"), ("other", '"other"')):
        refused = rf"^tenant: {shown}: ports are reserved for container web of tenant acme$"
        with pytest.raises(AlreadyExists, match=refused):
            wall.reserve_ports("web", 2, tenant=tenant)
    assert [(one.container, one.tenant, one.ports) for one in wall.reservations()] == before
    assert not bindable(acmes)
    assert wall.reserve_ports("web", tenant="acme").ports == (acmes,)
    (others,) = wall.reserve_ports("web", tenant="other", sees=lambda tenant: tenant == "other").ports
    assert not bindable(others), "that there is another of that name is not everybody's to know, nor their hindrance"
    assert wall.reserve_ports("web", tenant="other").ports == (others,)


def test_what_an_earlier_version_reserved_without_a_tenant_is_any_tenants_still(world: World) -> None:
    (port,) = world.wall.reserve_ports("web").ports
    journal = world.wall._site.journal
    record = msgspec.json.decode(journal.get("reserved") or b"")
    for row in record:
        del row["exact"], row["user"]
    journal.put("reserved", msgspec.json.encode(record))
    with pytest.raises(Taken):
        world.wall.attach("other", tenant="acme", expose=[f"{port}:80"])
    world.wall.attach("web", tenant="acme", expose=[f"{port}:80"])
    world.wall.expire_reserved()
    assert not bindable(port)
    world.wall.detach("web")
    assert bindable(port) and world.wall.reservations() == ()


def test_who_is_not_root_has_a_share_by_whichever_way_it_asks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserved, "MAX_OF_MEMBERS", 3)
    wall, refused = world.wall, r"^count: \d: others than root have 3 ports reserved, of 3 at most$"
    wall.reserve_ports("first", tenant="a", user=7)
    any_port = (PortBinding("tcp", AUTO, 80),)
    asked = AttachRequest("second", netns=None, tenant="b", bindings=any_port)
    wall.attach_many([asked])
    wall.expose("second", "auto:81", user=7)
    with pytest.raises(Exhausted, match="others than root have 2 ports reserved, of 3 at most"):
        wall.reserve_ports("third", 2, tenant="c", user=8)
    wall.reserve_ports("third", tenant="c", user=8)
    for ask in (
        lambda: wall.reserve_ports("fourth", tenant="d", user=7),
        lambda: wall.expose("second", "auto:82", user=7),
        lambda: wall.attach_many([AttachRequest("fifth", tenant="e", bindings=any_port, user=7)]),
    ):
        with pytest.raises(Exhausted, match=refused):
            ask()
    assert len(wall.reserve_ports("sixth", 2, tenant="f").ports) == 2
    wall.release_ports("first")
    wall.reserve_ports("fourth", tenant="d", user=7)


def test_a_death_at_any_step_leaves_ports_that_are_reserved_or_free(world: World) -> None:
    """Nothing is held by who has died, and a daemon that comes next holds what is on record, or gives it back."""
    for operation in ("reserve", "release"):
        for _ in every_step(world, lambda wall, verb=operation: carry_out(wall, verb), at_most=60):
            with another_process(world) as after:
                assert after.hold_reserved({}, lambda port, sockets: None, lambda port: None) == []
                held = [port for one in after.reservations() for port in one.ports]
                assert len(held) in (0, 2) and not any(map(bindable, held))
                assert len(after.reserve_ports("web", 2).ports) == 2
                after.release_ports("web")
            assert all(bindable(port) for port in range(61000, 61010))


def carry_out(wall: Wall, verb: str) -> None:
    wall.reserve_ports("web", 2)
    if verb == "release":
        wall.release_ports("web")


def test_a_death_amid_a_detach_leaves_no_port_reserved(world: World) -> None:
    """Nor for as long as it would have waited for its container: that it was detached is on record with it."""

    def prepared() -> int:
        world.wall.attach("web")
        return world.wall.reserve_ports("web").ports[0]

    port = prepared()
    for _ in every_step(world, lambda wall: wall.detach("web"), at_most=60):
        world.wall.detach("web")
        assert world.wall.reservations() == ()
        world.wall.expire_reserved()
        assert bindable(port)
        port = prepared()
    assert world.wall.status().drift == ()


def test_ports_that_the_operator_keeps_are_roots_to_publish() -> None:
    """Somebody may be served there for whom nothing listens: who asks a cluster's NodePort, or a service that is yet to
    start."""
    with open_world(settings=Settings(kept_ports=((8443, 8443), (8500, 8599)))) as world:
        name = world.attach("tenant").name
        write_setting(world.lab.node, "net/ipv4/ip_local_reserved_ports", "8700,8800-8899")
        for port, where in (
            ("8443:80", r"node\.kept_ports, 8443-8443"),
            ("8590-8600:8590", r"node\.kept_ports, 8500-8599"),
            ("8700:80/udp", r"net\.ipv4\.ip_local_reserved_ports, 8700-8700"),
            ("8850:80", r"net\.ipv4\.ip_local_reserved_ports, 8800-8899"),
        ):
            with pytest.raises(InvalidSpec, match=rf"^expose\.host_port: .* is in {where}"):
                world.wall.expose(name, port, user=7)
            world.wall.expose(name, port)
        world.wall.expose(name, "8442:80", user=7)
