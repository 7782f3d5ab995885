"""A host port that the node serves itself is not published over it: connections to the node would end in a sandbox."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cellwall.errors import Conflict, InvalidSpec
from cellwall.lab.addresses import NODE4, NODE6, NODE_INFRA4
from cellwall.model.settings import Settings, parse_openings
from world import Sandbox, World, assert_connection, open_world, rewired

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def node_lab() -> Iterator[World]:
    with open_world(settings=Settings(services=parse_openings(f"registry {NODE4} tcp/5000", "x"))) as world:
        yield world


@pytest.fixture
def tenant(node_lab: World) -> Iterator[Sandbox]:
    tenant = node_lab.attach("tenant")
    yield tenant
    node_lab.detach(tenant)


@contextmanager
def listening(
    world: World, address: str, port: int, *, udp: bool = False, only6: bool = False, interface: str = ""
) -> Iterator[None]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with world.lab.node.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only6))
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.bind((address, port))
        if not udp:
            sock.listen()
        yield


CLASHES = [
    ("0.0.0.0", "7000:80", False),
    ("0.0.0.0", f"{NODE4}:7000:80", False),
    (NODE4, "7000:80", False),
    (NODE4, f"{NODE4}:7000:80", False),
    (NODE_INFRA4, "7000:80", False),
    ("::", "7000:80", False),
    ("::", "7000:80", True),
    ("::", f"[{NODE6}]:7000:80", True),
    ("::", f"{NODE4}:7000:80", False),
    (NODE6, "7000:80", False),
    ("0.0.0.0", "6990-7010:6990", False),
]
NO_CLASHES = [
    ("127.0.0.1", "7000:80", False),
    ("127.0.0.53", "7000:80", False),
    ("::1", "7000:80", False),
    (NODE_INFRA4, f"{NODE4}:7000:80", False),
    (NODE6, f"{NODE4}:7000:80", False),
    ("::", f"{NODE4}:7000:80", True),
    ("0.0.0.0", f"[{NODE6}]:7000:80", False),
    ("0.0.0.0", "7001:7000", False),
]


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize(("address", "binding", "only6"), CLASHES)
def test_a_port_on_which_the_node_listens_is_refused(
    node_lab: World, tenant: Sandbox, address: str, binding: str, only6: bool, udp: bool
) -> None:
    wanted = f"{binding}/udp" if udp else binding
    place = node_lab.host("unborn")
    with listening(node_lab, address, 7000, udp=udp, only6=only6):
        with pytest.raises(Conflict, match=r"^expose\.host_port: .*70[01]0.*: the node itself listens"):
            node_lab.wall.expose(tenant.name, wanted)
        with pytest.raises(Conflict, match=r"^expose\.host_port: "):
            node_lab.attach("unborn", host=place, expose=[wanted])
        assert [row.key.container_id for row in node_lab.wall.endpoints()] == [tenant.name]
        assert node_lab.wall.expose(tenant.name, "7000:80" if udp else "7000:80/udp").bindings  # another protocol
    assert len(node_lab.wall.expose(tenant.name, wanted).bindings) == 2


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize(("address", "binding", "only6"), NO_CLASHES)
def test_a_listener_that_the_port_would_not_capture_keeps_nobody_from_publishing(
    node_lab: World, tenant: Sandbox, address: str, binding: str, only6: bool, udp: bool
) -> None:
    with listening(node_lab, address, 7000, udp=udp, only6=only6):
        assert node_lab.wall.expose(tenant.name, f"{binding}/udp" if udp else binding).bindings


def test_a_declared_service_of_the_node_is_never_published_over(node_lab: World, tenant: Sandbox) -> None:
    """Whether or not it runs at the moment."""
    for binding in ("5000:80", f"{NODE4}:5000:80", "4990-5010:4990"):
        with pytest.raises(InvalidSpec, match=r"^expose\.host_port: .*50[01]0.*: is registry of node\.services"):
            node_lab.wall.expose(tenant.name, binding)
        with pytest.raises(InvalidSpec, match=r"^expose\.host_port: "):
            node_lab.attach("unborn", expose=[binding])
    for binding in ("5000:80/udp", f"[{NODE6}]:5000:80"):
        assert node_lab.wall.expose(tenant.name, binding).bindings


def test_a_service_that_is_declared_over_a_published_port_is_a_warning(node_lab: World, tenant: Sandbox) -> None:
    """Nobody's port is taken away by a change of the configuration; the operator is told whose it is."""
    node_lab.wall.expose(tenant.name, f"{NODE4}:5300-5310:5300/udp")
    openings = parse_openings(f"names {NODE4} udp,tcp/5301", "x") + parse_openings(f"names6 {NODE6} udp/5301", "x")
    declared = Settings(services=node_lab.wall.settings.services + openings)
    said = rewired(node_lab.wall, settings=declared).up().warnings
    assert [line for line in said if "5300" in line] == [
        f"{NODE4}:5300-5310:5300/udp of {tenant.name}/eth0 captures names of node.services"
    ]
    assert not [line for line in node_lab.wall.up().warnings if "captures" in line]


def test_what_is_published_stays_so_when_a_program_of_the_node_listens_later(node_lab: World) -> None:
    """Asking again for what one has is no new capture."""
    tenant = node_lab.attach("tenant", expose=["7100:80"])
    with tenant.host.serve(tcp=[80]), listening(node_lab, "0.0.0.0", 7100):
        assert node_lab.wall.expose(tenant.name, "7100:80") == tenant.endpoint
        again = node_lab.wall.attach(tenant.name, netns=tenant.host.netns, expose=["7100:80"])
        assert again == tenant.endpoint
        assert_connection(node_lab.lab.lan, NODE4, 7100)
    node_lab.detach(tenant)


def test_a_connection_of_the_node_is_no_listener(node_lab: World, tenant: Sandbox) -> None:
    """Neither is a datagram socket that speaks to one peer alone."""
    with node_lab.lab.internet.serve(tcp=[80], udp=[80]):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with node_lab.lab.node.socket(socket.AF_INET, kind) as client:
                client.bind(("0.0.0.0", 7200))
                client.connect(("151.101.1.69", 80))
                protocol = "udp" if kind == socket.SOCK_DGRAM else "tcp"
                assert node_lab.wall.expose(tenant.name, f"7200:80/{protocol}").bindings


def test_a_listener_bound_to_another_interface_than_the_uplink_is_captured_by_nothing(
    node_lab: World, tenant: Sandbox
) -> None:
    with node_lab.lab.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth1")
        sock.bind(("0.0.0.0", 7300))
        assert node_lab.wall.expose(tenant.name, "7300:80/udp").bindings


def test_what_listens_at_the_uplink_alone_counts_and_what_listens_elsewhere_does_not(
    node_lab: World, tenant: Sandbox
) -> None:
    uplink = node_lab.wall.up().uplink
    with listening(node_lab, "0.0.0.0", 7345, interface=uplink), pytest.raises(Conflict, match="itself listens"):
        node_lab.wall.expose(tenant.name, "7345:80")
    with listening(node_lab, "0.0.0.0", 7345, interface="lo"):
        assert node_lab.wall.expose(tenant.name, "7345:80").bindings


def test_the_status_names_a_published_port_at_which_the_node_listens_by_now(node_lab: World) -> None:
    tenant = node_lab.attach("tenant", expose=["7300-7302:7300", "7303:80/udp"])
    assert not [line for line in node_lab.wall.status().warnings if "7300" in line]
    uplink = node_lab.wall.up().uplink
    with (
        listening(node_lab, "0.0.0.0", 7301),
        listening(node_lab, "0.0.0.0", 7303),
        listening(node_lab, NODE6, 7302, interface=uplink),
        listening(node_lab, "127.0.0.1", 7300),
    ):
        said = [line for line in node_lab.wall.status().warnings if "the node listens by now" in line]
    whose = f"7300-7302:7300/tcp of {tenant.name}/eth0 takes what comes to"
    assert sorted(said) == [
        f"{whose} 0.0.0.0 port 7301, where the node listens by now",
        f"{whose} {NODE6} port 7302, where the node listens by now",
    ]
    node_lab.detach(tenant)
