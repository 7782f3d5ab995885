"""Published ports: who reaches a sandbox by them, and who does not."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network

import msgspec
import pytest

from cellwall.api import PortBinding
from cellwall.engine.nftables.desired import desired_elements
from cellwall.errors import Conflict, InvalidSpec
from cellwall.lab.addresses import LAN4, LAN6, NODE4, NODE6, NODE_INFRA4, NODE_INFRA6, NODE_OTHER4
from cellwall.lab.host import Host
from cellwall.lab.transfer import echoed_bytes
from world import Sandbox, Stream, World, assert_connection, assert_no_connection, public, ruleset

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
TRANSPORTS = pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
NODE = {4: NODE4, 6: NODE6}
LAN = {4: LAN4, 6: LAN6}
LAN_NET = {4: "93.184.216.16/28", 6: "2606:2800:220:1::20/124"}


@pytest.fixture(scope="module")
def web(node_lab: World) -> Iterator[Sandbox]:
    """Serves on 80 and on 9000 to 9010, TCP and UDP, and publishes both by port 8080."""
    sandbox = node_lab.attach("web", expose=["8080:80", "8080:80/udp"])
    ports = [80, 81, *range(9000, 9011)]
    with sandbox.host.serve(tcp=ports, udp=ports):
        yield sandbox


@pytest.fixture(scope="module")
def other_tenant(node_lab: World) -> Sandbox:
    return node_lab.attach("other", tenant="other")


def clients(world: World) -> list[Host]:
    return [world.lab.lan, world.lab.internet, world.lab.node]


@BOTH
@TRANSPORTS
def test_lan_internet_and_node_reach_a_published_port(node_lab: World, web: Sandbox, family: int, udp: bool) -> None:
    for client in clients(node_lab):
        assert assert_connection(client, NODE[family], 8080, udp=udp).startswith(web.host.name.encode())


@BOTH
def test_the_client_is_seen_as_it_is(node_lab: World, web: Sandbox, family: int) -> None:
    node_lab.wall.expose(web.name, "8085:85")
    token = node_lab.token()
    with web.host.serve(tcp=[85]) as services:
        with Stream(node_lab.lab.lan, NODE[family], 8085) as stream:
            assert stream.ask(token)
        (seen,) = [seen for seen in services.seen if token in seen]
    assert seen.peer[0] == LAN[family]
    assert seen.local == (web.address(family), 85)
    node_lab.wall.unexpose(web.name, "8085:85")


@BOTH
@TRANSPORTS
def test_nothing_else_is_published(node_lab: World, web: Sandbox, family: int, udp: bool) -> None:
    for client in (node_lab.lab.lan, node_lab.lab.internet):
        assert_no_connection(client, NODE[family], 81, udp=udp)
        assert_no_connection(client, NODE[family], 80, udp=udp)


@BOTH
@TRANSPORTS
def test_a_bind_address_limits_where_the_port_is(node_lab: World, web: Sandbox, family: int, udp: bool) -> None:
    protocol = "udp" if udp else "tcp"
    node_lab.lab.node.run(["ip", "address", "add", *SECOND[family], "dev", "eth0"])
    second = SECOND[family][0].partition("/")[0]
    bound = node_lab.wall.expose(web.name, PortBinding(protocol, 8090, 80, bind=ip_address(NODE[family])))
    try:
        for client in clients(node_lab):
            assert_connection(client, NODE[family], 8090, udp=udp)
        assert_no_connection(node_lab.lab.lan, second, 8090, udp=udp)
        assert_no_connection(node_lab.lab.node, second, 8090, udp=udp)
        # The other address's port is free for somebody else.
        taken = PortBinding(protocol, 8090, 81, bind=ip_address(second))
        node_lab.wall.expose(web.name, taken)
        assert_connection(node_lab.lab.lan, second, 8090, udp=udp)
        node_lab.wall.unexpose(web.name, taken)
    finally:
        node_lab.wall.unexpose(web.name, bound.bindings[-1])
        node_lab.lab.node.run(["ip", "address", "del", SECOND[family][0], "dev", "eth0"])


SECOND = {4: ("93.184.216.11/24",), 6: ("2606:2800:220:1::11/64", "nodad")}


@BOTH
@TRANSPORTS
@pytest.mark.parametrize("last", [8094, 8097], ids=["port", "range"])
def test_clients_of_one_bind_address_are_not_those_of_another(
    node_lab: World, web: Sandbox, family: int, udp: bool, last: int
) -> None:
    """The same host port, open at one address of the node and restricted at another, both of one container."""
    second = SECOND[family][0].partition("/")[0]
    open_to_all = PortBinding("udp" if udp else "tcp", 8094, 8094, host_port_last=last, bind=ip_address(second))
    restricted = msgspec.structs.replace(
        open_to_all, bind=ip_address(NODE[family]), sources=(ip_network(LAN_NET[family]),)
    )
    node_lab.lab.node.run(["ip", "address", "add", *SECOND[family], "dev", "eth0"])
    for binding in (open_to_all, restricted):
        node_lab.wall.expose(web.name, binding)
    ports = {"udp": [last]} if udp else {"tcp": [last]}
    try:
        with web.host.serve(**ports):
            for client in (node_lab.lab.lan, node_lab.lab.internet):
                assert_connection(client, second, last, udp=udp)
            assert_connection(node_lab.lab.lan, NODE[family], last, udp=udp)
            assert_no_connection(node_lab.lab.internet, NODE[family], last, udp=udp)
    finally:
        for binding in (open_to_all, restricted):
            node_lab.wall.unexpose(web.name, binding)
        node_lab.lab.node.run(["ip", "address", "del", SECOND[family][0], "dev", "eth0"])


@BOTH
@TRANSPORTS
def test_sources_limit_who_reaches_the_port(node_lab: World, web: Sandbox, family: int, udp: bool) -> None:
    binding = PortBinding("udp" if udp else "tcp", 8091, 80, sources=(ip_network(LAN_NET[family]),))
    node_lab.wall.expose(web.name, binding)
    assert_connection(node_lab.lab.lan, NODE[family], 8091, udp=udp)
    assert_no_connection(node_lab.lab.internet, NODE[family], 8091, udp=udp)
    # A source of one family opens nothing in the other.
    assert_no_connection(node_lab.lab.lan, NODE[10 - family], 8091, udp=udp)
    node_lab.wall.unexpose(web.name, binding)
    assert_no_connection(node_lab.lab.lan, NODE[family], 8091, udp=udp)


def test_sources_of_several_lengths_are_one_hash_set_each(node_lab: World, web: Sandbox) -> None:
    for source, client in (("93.184.216.20/32", node_lab.lab.lan), ("93.184.216.0/30", node_lab.lab.internet)):
        binding = PortBinding("tcp", 8092, 80, sources=(ip_network(source),))
        node_lab.wall.expose(web.name, binding)
        assert_connection(client, NODE4, 8092)
        others = {node_lab.lab.lan, node_lab.lab.internet} - {client}
        for other in others:
            assert_no_connection(other, NODE4, 8092)
        node_lab.wall.unexpose(web.name, binding)
    text = ruleset(node_lab)
    for length in (30, 32):
        (definition,) = [part for part in text.split("\tset ")[1:] if part.startswith(f"exposedto4p{length} ")]
        assert "interval" not in definition.partition("}")[0]


@BOTH
@TRANSPORTS
def test_a_range_is_published_whole(node_lab: World, web: Sandbox, family: int, udp: bool) -> None:
    binding = PortBinding("udp" if udp else "tcp", 9000, 9000, host_port_last=9010)
    endpoint = node_lab.wall.expose(web.name, binding)
    for port in (9000, 9005, 9010):
        for client in clients(node_lab):
            assert_connection(client, NODE[family], port, udp=udp)
    for port in (8999, 9011):
        assert_no_connection(node_lab.lab.lan, NODE[family], port, udp=udp)
    published = [row for row in desired_elements([endpoint]) if "publish" in row[1] and "range" in row[1]]
    assert len(published) == 2  # one interval a family, however long the range is
    node_lab.wall.unexpose(web.name, binding)
    assert_no_connection(node_lab.lab.lan, NODE[family], 9005, udp=udp)


@BOTH
def test_a_shifted_range_leads_to_the_shifted_port(node_lab: World, web: Sandbox, family: int) -> None:
    token = node_lab.token()
    binding = PortBinding("tcp", 7000, 9000, host_port_last=7010)
    node_lab.wall.expose(web.name, binding)
    with Stream(node_lab.lab.lan, NODE[family], 7004) as stream:
        assert stream.ask(token)
        # The echo server of the sandbox tells by which port it was asked.
    assert_connection(node_lab.lab.node, NODE[family], 7010)
    assert_no_connection(node_lab.lab.lan, NODE[family], 7011)
    node_lab.wall.unexpose(web.name, binding)


@BOTH
def test_a_range_with_sources(node_lab: World, web: Sandbox, family: int) -> None:
    binding = PortBinding("tcp", 9000, 9000, host_port_last=9010, sources=(ip_network(LAN_NET[family]),))
    node_lab.wall.expose(web.name, binding)
    assert_connection(node_lab.lab.lan, NODE[family], 9003)
    assert_no_connection(node_lab.lab.internet, NODE[family], 9003)
    node_lab.wall.unexpose(web.name, binding)


@BOTH
@pytest.mark.parametrize("bound", [False, True], ids=["any address", "one address"])
def test_client_networks_of_a_range_may_lie_within_each_other(
    node_lab: World, web: Sandbox, family: int, bound: bool
) -> None:
    lan, length = ip_network(LAN[family]), 28 if family == 4 else 120
    around = lan.supernet(new_prefix=length)
    bind = ip_address(NODE[family]) if bound else None
    binding = PortBinding("tcp", 9000, 9000, host_port_last=9010, bind=bind, sources=(around, lan, lan))
    node_lab.wall.expose(web.name, binding)
    assert node_lab.wall.status().drift == ()
    assert_connection(node_lab.lab.lan, NODE[family], 9003)
    node_lab.wall.unexpose(web.name, binding)
    only = msgspec.structs.replace(binding, sources=(lan,))
    node_lab.wall.expose(web.name, only)
    assert node_lab.wall.status().drift == ()
    assert node_lab.wall.reconcile().repaired == ()
    assert_connection(node_lab.lab.lan, NODE[family], 9003)
    assert_no_connection(node_lab.lab.internet, NODE[family], 9003)
    node_lab.wall.unexpose(web.name, only)
    assert node_lab.wall.status().drift == ()


@BOTH
@TRANSPORTS
def test_no_tenant_reaches_a_published_port(
    node_lab: World, web: Sandbox, other_tenant: Sandbox, family: int, udp: bool
) -> None:
    """By no address of the node, from no tenant: not another, not the same one, not the publisher itself."""
    network = node_lab.wall.settings.network
    kin = node_lab.attach("kin", tenant="web")
    addresses = {
        4: (NODE4, NODE_INFRA4, NODE_OTHER4, str(network.gateway4)),
        6: (NODE6, NODE_INFRA6, str(network.gateway6)),
    }[family]
    with node_lab.lab.internet.serve(tcp=[8080], udp=[8080]) as internet:
        for client in (other_tenant, kin, web):
            for address in addresses:
                assert assert_no_connection(client.host, address, 8080, udp=udp) == (
                    "unreachable" if udp else "refused"
                )
            # The port number is published on the node, not on the Internet: the destination decides.
            public = "151.101.1.69" if family == 4 else "2a04:4e42::1"
            assert assert_connection(client.host, public, 8080, udp=udp).startswith(b"internet ")
        assert internet.seen
    node_lab.detach(kin)


@BOTH
@TRANSPORTS
def test_withdrawing_cuts_the_open_flow_at_its_next_packet(
    node_lab: World, web: Sandbox, family: int, udp: bool
) -> None:
    binding = PortBinding("udp" if udp else "tcp", 8093, 80)
    kept = PortBinding("udp" if udp else "tcp", 8094, 80)
    node_lab.wall.expose(web.name, binding)
    node_lab.wall.expose(web.name, kept)
    lan = node_lab.lab.lan
    with (
        Stream(lan, NODE[family], 8093, udp=udp) as cut,
        Stream(lan, NODE[family], 8094, udp=udp) as stays,
        node_lab.lab.internet.serve(tcp=[82], udp=[82]) as internet,
        Stream(web.host, "151.101.1.69" if family == 4 else "2a04:4e42::1", 82, udp=udp) as outward,
    ):
        for stream in (cut, stays, outward):
            assert stream.ask(node_lab.token())
        node_lab.wall.unexpose(web.name, binding)
        assert not cut.ask(node_lab.token(), timeout=0.2)
        for _ in range(3):
            assert stays.ask(node_lab.token())
            assert outward.ask(node_lab.token())
        assert len(internet.seen) >= 4
    node_lab.wall.unexpose(web.name, kept)


@BOTH
@TRANSPORTS
@pytest.mark.parametrize("clients", [False, True], ids=["anyone", "clients"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((8196, 8196, 85), (8196, 8196, 86)),
        ((8190, 8199, 8190), (8196, 8196, 86)),
        ((8196, 8196, 86), (8190, 8199, 8190)),
    ],
    ids=["port", "range before", "range after"],
)
def test_a_host_port_led_to_another_port_ends_the_open_flow(
    node_lab: World,
    web: Sandbox,
    family: int,
    udp: bool,
    clients: bool,
    before: tuple[int, int, int],
    after: tuple[int, int, int],
) -> None:
    """Published again, it admits flows to what it leads to now, not those that it led elsewhere."""
    lan, protocol = node_lab.lab.lan, "udp" if udp else "tcp"
    sources = (ip_network(LAN_NET[family]),) if clients else ()
    first, second = (
        PortBinding(protocol, low, port, host_port_last=high, sources=sources) for low, high, port in (before, after)
    )
    inside = before[2] + 8196 - before[0]
    ports = {protocol: [85, 86, 8196]}
    with web.host.serve(**ports) as services:
        node_lab.wall.expose(web.name, first)
        try:
            with Stream(lan, NODE[family], 8196, udp=udp) as stream:
                assert stream.ask(node_lab.token())
                node_lab.wall.unexpose(web.name, first)
                node_lab.wall.expose(web.name, second)
                late = node_lab.token("late")
                stream.say(late)
            assert_connection(lan, NODE[family], 8196, udp=udp)
            assert not [seen for seen in services.seen if late in seen and seen.local[1] == inside]
        finally:
            node_lab.wall.unexpose(web.name, second)


@BOTH
def test_publishing_again_serves_clients_at_once(node_lab: World, web: Sandbox, family: int) -> None:
    """Also one that comes from the very port of its withdrawn flow: conntrack still knows that flow as it was."""
    for _ in range(3):
        node_lab.wall.expose(web.name, "8095:80/udp")
        with Stream(node_lab.lab.lan, NODE[family], 8095, udp=True, source_port=5000) as stream:
            assert stream.ask(node_lab.token())
            node_lab.wall.unexpose(web.name, "8095:80/udp")
            assert not stream.ask(node_lab.token(), timeout=0.1)


@BOTH
def test_ten_megabytes_through_a_published_port(node_lab: World, web: Sandbox, family: int) -> None:
    assert echoed_bytes(node_lab.lab.lan, NODE[family], 8080, 10 << 20) >= 10 << 20


def test_a_second_owner_of_a_port_is_refused(node_lab: World, web: Sandbox, other_tenant: Sandbox) -> None:
    for text in ("8080:9999", "8000-8100:8000", f"{NODE4}:8080:80", "8079-8081:1079"):
        with pytest.raises(Conflict, match=r"expose.host_port: .*" + web.name):
            node_lab.wall.expose(other_tenant.name, text)
    assert node_lab.wall.endpoint(other_tenant.name).bindings == ()
    assert node_lab.wall.expose(other_tenant.name, "8079:80/udp").bindings
    node_lab.wall.unexpose(other_tenant.name, "8079:80/udp")
    assert node_lab.wall.status().drift == ()


@pytest.mark.parametrize("text", ["10240:80", "29999:80", "5000-15000:5000", "20000-20010:20000"])
def test_a_port_inside_the_nat_range_is_refused(node_lab: World, web: Sandbox, text: str) -> None:
    with pytest.raises(InvalidSpec, match=r"expose.host_port.*NAT range"):
        node_lab.wall.expose(web.name, text)


@BOTH
@TRANSPORTS
def test_a_listener_of_the_node_is_not_shadowed_by_a_tenants_flow(
    node_lab: World, other_tenant: Sandbox, family: int, udp: bool
) -> None:
    """A tenant that talks to a client from the port number of a service of the node must not take over what that
    client says to the service: its flows leave from a port of the NAT range (CVE-2021-3773)."""
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    far = (public(family), 4501)
    with node_lab.lab.node.serve(tcp=[4500], udp=[4500]) as service, ExitStack() as open_:

        def at_the_far_port() -> socket.socket:
            sock = open_.enter_context(node_lab.lab.internet.socket(domain, kind))
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
            sock.settimeout(2.0)
            sock.bind(far)
            return sock

        server = at_the_far_port()
        if not udp:
            server.listen()
        stream = open_.enter_context(Stream(other_tenant.host, *far, udp=udp, source_port=4500))
        held = node_lab.token("held-open")
        stream.say(held)
        there = server if udp else open_.enter_context(server.accept()[0])
        assert there.recv(1000) == held
        # The same far address and port asks the service: that is the flow which the tenant's would be mistaken for.
        client = server if udp else at_the_far_port()
        client.connect((NODE[family], 4500))
        token = node_lab.token("to-the-service")
        client.sendall(token)
        assert client.recv(1000) == b"node " + token
        assert service.saw(token)
