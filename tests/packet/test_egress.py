"""What a sandbox reaches of the Internet, and how it looks from there."""

import socket
import threading
from collections.abc import Iterator

import pytest

from cellwall.lab import connect, ping
from cellwall.lab.addresses import NAMED4, NAMED6, NODE, RESOLVERS4, RESOLVERS6
from cellwall.lab.dns import framed, question
from cellwall.lab.services import Services
from cellwall.lab.transfer import echoed_bytes
from world import NAT_PORTS, Sandbox, Stream, World, assert_connection, in_iptables, public

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
TRANSPORTS = pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])


@pytest.fixture(scope="module")
def internet(node_lab: World) -> Services:
    return node_lab.lab.internet.serve(tcp=[80, 443], udp=[80, 443])


@pytest.fixture(scope="module")
def tenant(node_lab: World) -> Sandbox:
    return node_lab.attach("tenant")


@BOTH
@TRANSPORTS
def test_egress_is_answered(tenant: Sandbox, internet: Services, family: int, udp: bool) -> None:
    assert assert_connection(tenant.host, public(family), 80, udp=udp).startswith(b"internet ")


@BOTH
def test_ping_is_answered(tenant: Sandbox, family: int) -> None:
    assert ping(tenant.host, public(family)).kind == "answer"
    # A fragmented echo request is reassembled by the node before it is judged. ICMPv6 may not be fragmented at all: the
    # pins see to it where they see frames; iptables sees packets, put together already.
    whole = family == 4 or in_iptables()
    answer = ping(tenant.host, public(family), size=4000, timeout=10.0 if whole else 0.2)
    assert answer.kind == ("answer" if whole else "timeout")


@BOTH
def test_gateway_answers_ping_and_nothing_else(node_lab: World, tenant: Sandbox, family: int) -> None:
    network = node_lab.wall.settings.network
    gateway = str(network.gateway4 if family == 4 else network.gateway6)
    assert ping(tenant.host, gateway).kind == "answer"
    assert connect(tenant.host, gateway, 22).kind == "refused"


@BOTH
@TRANSPORTS
def test_flows_leave_by_a_port_of_the_nat_range(
    node_lab: World, tenant: Sandbox, internet: Services, family: int, udp: bool
) -> None:
    # From a port inside the node's ephemeral range, and from one inside the NAT range that another flow may hold.
    for source_port in (40001, 53, 12000):
        token = node_lab.token("nat")
        with Stream(tenant.host, public(family), 443, udp=udp, source_port=source_port) as stream:
            assert stream.ask(token)
        (seen,) = [seen for seen in internet.seen if token in seen]
        address, port = seen.peer
        assert address == NODE[family]
        assert port in NAT_PORTS


@pytest.mark.parametrize("resolver", [*RESOLVERS4, *RESOLVERS6])
@TRANSPORTS
def test_names_resolve(tenant: Sandbox, resolver: str, udp: bool) -> None:
    for kind, address in ((1, NAMED4), (28, NAMED6)):
        asked = question("www.test", kind)
        answer = connect(tenant.host, resolver, 53, udp=udp, payload=asked if udp else framed(asked))
        packed = socket.inet_pton(socket.AF_INET if kind == 1 else socket.AF_INET6, address)
        assert answer.kind == "answer"
        assert packed in answer.data


def test_sandboxes_are_told_resolvers_that_they_reach(node_lab: World, tenant: Sandbox) -> None:
    for resolver in node_lab.wall.dns():
        assert connect(tenant.host, str(resolver), 53, udp=True, payload=question("www.test")).kind == "answer"


@BOTH
def test_ten_megabytes_pass_both_ways(tenant: Sandbox, internet: Services, family: int) -> None:
    assert echoed_bytes(tenant.host, public(family), 443, 10 << 20) >= 10 << 20


def test_ipv6_works_from_the_first_millisecond(node_lab: World, internet: Services) -> None:
    host = node_lab.host("early")
    sandbox = node_lab.attach(host=host)
    # A socket cannot be bound to an address that is still looked for duplicates of, nor a route chosen that is not
    # there yet; and the first packet is a datagram, which nothing sends again.
    answer = connect(host, public(6), 80, udp=True, source=sandbox.address(6), timeout=5.0)
    assert answer.kind == "answer"
    node_lab.detach(sandbox)


@BOTH
def test_a_sandbox_has_as_many_flows_as_the_bound_says_and_not_one_more(
    node_lab: World, internet: Services, family: int
) -> None:
    greedy, modest = node_lab.attach("greedy"), node_lab.attach("modest")
    limit = node_lab.wall.settings.connections
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    flow, sentinel = node_lab.token("flow"), node_lab.token("sentinel")
    with node_lab.lab.internet.capture("eth0", outgoing=False) as wire:
        with greedy.host.socket(domain, socket.SOCK_DGRAM) as sock:
            for port in range(1000, 1000 + limit + 200):
                sock.sendto(flow, (public(family), port))
        with modest.host.socket(domain, socket.SOCK_DGRAM) as sock:
            sock.sendto(sentinel, (public(family), 999))
        passed = [frame for frame in wire.read_until(sentinel) if flow in frame]
    assert len(passed) == limit
    assert connect(greedy.host, public(family), 80).kind == "refused"
    assert assert_connection(modest.host, public(family), 80)
    node_lab.detach(greedy)
    node_lab.detach(modest)


@pytest.fixture(scope="module")
def far_away(node_lab: World) -> Iterator[Services]:
    """A host behind a link of 1,300 bytes on the far side of the Internet's router."""
    lab = node_lab.lab
    far = lab.sandbox("far")
    router = [
        f"link add narrow mtu 1300 type veth peer eth0 mtu 1300 netns {far.netns.name}",
        "address add 104.16.0.1/24 dev narrow",
        "address add 2606:4700:10::1/64 dev narrow nodad",
        "link set narrow up",
    ]
    lab.internet.ip(router)
    beyond = [
        "address add 104.16.0.2/24 dev eth0",
        "address add 2606:4700:10::2/64 dev eth0 nodad",
        "link set eth0 up",
        "route add default via 104.16.0.1",
        "route add default via 2606:4700:10::1",
    ]
    far.ip(beyond)
    lab.internet.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
    with far.serve(tcp=[80], udp=[80]) as services:
        yield services


FAR = {4: "104.16.0.2", 6: "2606:4700:10::2"}


@BOTH
def test_path_mtu_errors_reach_the_sandbox(tenant: Sandbox, far_away: Services, family: int) -> None:
    discover, mtu, level = (10, 14, socket.IPPROTO_IP) if family == 4 else (23, 24, socket.IPPROTO_IPV6)
    with tenant.host.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(level, discover, 2)  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER: always
        sock.settimeout(10.0)
        sock.connect((FAR[family], 80))
        assert sock.getsockopt(level, mtu) == 1500
        sock.send(bytes(1400))
        with pytest.raises(OSError) as told:
            sock.recv(10)
        assert not isinstance(told.value, TimeoutError)
        assert sock.getsockopt(level, mtu) == 1300
        sock.send(bytes(1200))
        assert sock.recv(2000)


@BOTH
def test_large_transfer_over_a_narrow_path(tenant: Sandbox, far_away: Services, family: int) -> None:
    assert echoed_bytes(tenant.host, FAR[family], 80, 1 << 20) >= 1 << 20


@BOTH
def test_path_mtu_errors_reach_an_exposed_sandbox(node_lab: World, far_away: Services, family: int) -> None:
    server = node_lab.attach("mtu", expose=["8081:80"])
    far = node_lab.lab._sandboxes["far"]
    with server.host.serve(tcp=[80]):
        assert echoed_bytes(far, NODE[family], 8081, 1 << 20) >= 1 << 20
    node_lab.detach(server)


def test_many_threads_of_one_sandbox_are_served_at_once(tenant: Sandbox, internet: Services) -> None:
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(connect(tenant.host, public(4), 80, timeout=3).kind))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["answer"] * 16
