"""What a detach leaves for later: closed from its return on, and cleaned up by whoever comes next."""

import shutil
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from cellwall.api import AttachRequest, EndpointKey, Wall
from cellwall.engine.attachments.admission import MAX_BRIDGE_PORTS
from cellwall.engine.contracts import ObservedLink
from cellwall.errors import AlreadyExists, Conflict, Exhausted
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4
from cellwall.model.addresses import mac_text
from cellwall.model.network import Network
from cellwall.model.settings import Settings
from cellwall.names import REAPER_GROUP
from cellwall.names import host_link as host_link_name
from world import PUBLIC4, PUBLIC6, Sandbox, World, Wrapped, assert_connection, open_world, rewired

pytestmark = pytest.mark.root
GATEWAY4 = "192.168.0.1"


@pytest.fixture(scope="module", autouse=True)
def far_services(node_lab: World) -> None:
    node_lab.lab.internet.serve(tcp=[80], udp=[80])


def host_link(world: World, sandbox: Sandbox) -> ObservedLink | None:
    return world.wall._site.links.find(sandbox.endpoint.host_link)


def assert_retired(link: ObservedLink | None) -> None:
    assert link is None or (not link.up and link.group == REAPER_GROUP)


def test_nothing_passes_a_closed_endpoint_whose_link_still_stands(node_lab: World) -> None:
    """Out with the frames that passed a moment ago, and in with the node's own; the neighbour's are the sentinel."""
    leaving, staying = node_lab.attach("leaving"), node_lab.attach("staying")
    endpoint = leaving.endpoint
    ether = Ether(src=mac_text(endpoint.mac), dst="02:00:00:00:00:01")

    def frames(token: bytes) -> list[bytes]:
        upper = UDP(sport=7, dport=80) / Raw(token)
        return [
            bytes(ether / IP(src=str(endpoint.address4), dst=PUBLIC4) / upper),
            bytes(ether / IPv6(src=str(endpoint.address6), dst=PUBLIC6) / upper),
        ]

    question = bytes(ether / ARP(hwsrc=ether.src, psrc=str(endpoint.address4), pdst=GATEWAY4))
    before, after, sentinel = (node_lab.token(name) for name in ("before", "after", "sentinel"))
    with (
        node_lab.lab.internet.capture("eth0", outgoing=False) as wire,
        leaving.host.capture("eth0", outgoing=False) as inside,
    ):
        leaving.host.inject("eth0", [question, *frames(before)])
        assert connect(staying.host, PUBLIC4, 80, udp=True, payload=sentinel + b"1").kind == "answer"
        passed = {frame[12:14] for frame in wire.read_until(sentinel + b"1") if before in frame}
        assert passed == {b"\x08\x00", b"\x86\xdd"}
        assert [frame for frame in inside.drain() if frame[12:14] == b"\x08\x06"]
        node_lab.detach(leaving)
        link = host_link(node_lab, leaving)
        assert link is not None and link.up, "the link is down already: this test shows nothing about the rules"
        leaving.host.inject("eth0", [question, *frames(after)])
        for address in (str(endpoint.address4), str(endpoint.address6)):
            connect(node_lab.lab.node, address, 80, udp=True, payload=after, timeout=0.05)
        assert connect(staying.host, PUBLIC4, 80, udp=True, payload=sentinel + b"2").kind == "answer"
        assert not [frame for frame in wire.read_until(sentinel + b"2") if after in frame]
        assert not [frame for frame in inside.drain() if after in frame or frame[12:14] == b"\x08\x06"]


def test_the_next_operation_shuts_the_link_of_a_closed_endpoint(node_lab: World) -> None:
    leaving = node_lab.attach("leaving")
    node_lab.detach(leaving)
    with Wall.open(root=node_lab.lab.root, settings=node_lab.wall.settings) as other:
        other.attach("next-one")  # by anybody
        assert_retired(host_link(node_lab, leaving))
        other.detach("next-one")


def test_closing_the_wall_deletes_the_links_that_its_detaches_left(node_lab: World) -> None:
    leaving = node_lab.attach("leaving")
    with Wall.open(root=node_lab.lab.root, settings=node_lab.wall.settings) as other:
        other.detach(leaving.name)
        assert "eth0" in leaving.host.run(["ip", "-o", "link"]).text
    assert host_link(node_lab, leaving) is None
    assert "eth0" not in leaving.host.run(["ip", "-o", "link"]).text
    assert node_lab.wall.status().drift == ()


def test_a_sandbox_that_stays_is_attached_again_at_once(node_lab: World) -> None:
    sandbox = node_lab.attach("again")
    for _ in range(3):
        node_lab.detach(sandbox)
        node_lab.wall.attach(sandbox.name, netns=sandbox.host.netns)
        assert_connection(sandbox.host, PUBLIC4, 80)
        assert_connection(sandbox.host, PUBLIC6, 80)


def test_addresses_of_sandboxes_that_stay_come_free_without_reconcile() -> None:
    """Churn in namespaces that nobody deletes: neither links nor leases grow with the number of attachments."""
    with open_world() as world:
        hosts = [world.host(f"stays-{number}") for number in range(4)]
        for turn in range(100):
            host = hosts[turn % len(hosts)]
            world.wall.attach(f"turn-{turn}", netns=host.netns)
            world.wall.detach(f"turn-{turn}")
        for turn in range(60):
            world.wall.attach(f"own-{turn}")
            world.wall.detach(f"own-{turn}")
        assert world.wall.status().pending <= 128
        assert len(world.wall._site.links.observe()) <= 150
        assert world.wall.status().drift == ()


@pytest.mark.slow
def test_retired_links_do_not_keep_a_bridge_from_its_last_port() -> None:
    """A retired link is a port of the bridge until it is deleted, and a bridge has 1,023."""
    with open_world() as world:
        world.lab.internet.serve(tcp=[80])
        wall = world.wall
        hosts = world.lab.sandboxes([f"many-{number}" for number in range(MAX_BRIDGE_PORTS)])
        requests = [AttachRequest(host.name, netns=str(host.netns)) for host in hosts]
        wall.attach_many(requests)
        replaced = requests[:40]
        wall.detach_many([EndpointKey(request.container_id, request.ifname) for request in replaced])
        wall.attach_many(replaced)
        assert_connection(hosts[0], PUBLIC4, 80)
        assert_connection(hosts[-1], PUBLIC6, 80)
        assert wall.status().drift == ()


def test_a_full_bridge_gets_its_room_from_closed_endpoints_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask after each of a thousand attached ones takes longer than the attach that waits for it."""
    with open_world() as world:
        monkeypatch.setattr("cellwall.engine.attachments.admission.MAX_BRIDGE_PORTS", 2)
        closed, alive = world.attach("closed"), world.attach("alive")
        world.detach(closed)
        links, asked_after = world.wall._site.links, list[str]()

        def index_of(name: str) -> int:
            asked_after.append(name)
            return links.index_of(name)

        successor = world.host("successor")
        rewired(world.wall, links=Wrapped(links, index_of=index_of)).attach("successor", netns=successor.netns)
        assert closed.endpoint.host_link in asked_after
        assert alive.endpoint.host_link not in asked_after
        with pytest.raises(Exhausted, match="2 ports"):
            world.attach("third")


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_that_is_asked_for_is_had_right_after_its_release(node_lab: World, family: int) -> None:
    """A sandbox that is restarted asks for what it had."""
    former = node_lab.attach("former")
    endpoint = former.endpoint
    node_lab.detach(former)
    asked = {"address4": endpoint.address4} if family == 4 else {"address6": endpoint.address6}
    successor = node_lab.attach("successor", mac=endpoint.mac if family == 4 else None, **asked)
    assert successor.endpoint.address4 == endpoint.address4
    assert_connection(successor.host, PUBLIC4, 80)
    assert_connection(successor.host, PUBLIC6, 80)


def test_a_former_sandbox_does_not_speak_for_the_successor_of_its_mac(node_lab: World) -> None:
    """Its namespace lives on, and so does its pair, which nobody shuts here: what it sends with the identity that it
    had, or with that of its successor, arrives nowhere, and nothing that is the successor's arrives there."""
    mac = 0x02_AB_CD_EF_00_01
    former = node_lab.attach("former", mac=mac)
    node_lab.detach(former)
    untidy = rewired(node_lab.wall, links=Wrapped(node_lab.wall._site.links, retire=lambda *_: None))
    host = node_lab.host("successor")
    successor = Sandbox(host, untidy.attach("successor", netns=host.netns, mac=mac, expose=["8300:80"]))
    link = host_link(node_lab, former)
    assert link is not None and link.up
    ether = Ether(src=mac_text(mac), dst="02:00:00:00:00:01")
    token, sentinel = node_lab.token("former"), node_lab.token("sentinel")
    upper = UDP(sport=7, dport=80) / Raw(token)
    frames = [
        bytes(ether / layer / upper)
        for owner in (former, successor)
        for layer in (IP(src=owner.address(4), dst=PUBLIC4), IPv6(src=owner.address(6), dst=PUBLIC6))
    ]
    with (
        node_lab.lab.internet.capture("eth0", outgoing=False) as wire,
        former.host.capture("eth0", outgoing=False) as inside,
        successor.host.serve(tcp=[80]),
    ):
        former.host.inject("eth0", frames)
        assert connect(successor.host, PUBLIC4, 80, udp=True, payload=sentinel).kind == "answer"
        assert not [frame for frame in wire.read_until(sentinel) if token in frame]
        assert_connection(node_lab.lab.lan, NODE4, 8300)
        assert_connection(successor.host, PUBLIC6, 80)
        assert inside.drain() == []


def test_sandboxes_that_died_without_a_detach_do_not_fill_the_pool() -> None:
    small = Settings(network=Network(subnet4=ip_network("10.77.0.0/29"), gateway4=ip_address("10.77.0.1")))
    with open_world(settings=small) as world:
        hosts = [world.host(f"full-{number}") for number in range(5)]
        for host in hosts:
            world.wall.attach(host.name, netns=host.netns)
        newcomer = world.host("newcomer")
        with pytest.raises(Exhausted):
            world.wall.attach(newcomer.name, netns=newcomer.netns)
        dead = world.wall.endpoint(hosts[2].name)
        world.lab.node.run(["ip", "link", "delete", dead.host_link])  # as the end of its namespace does
        assert world.wall.attach(newcomer.name, netns=newcomer.netns).address4 == dead.address4
        assert len(world.wall.endpoints()) == 5
        dead = world.wall.endpoint(hosts[3].name)
        world.lab.node.run(["ip", "link", "delete", dead.host_link])
        with pytest.raises(Conflict):  # a living one does not make room
            world.wall.attach("heir", address4=world.wall.endpoint(hosts[4].name).address4)
        assert world.wall.attach("heir", address4=dead.address4).address4 == dead.address4
        assert world.wall.status().drift == ()


def test_a_link_of_somebody_elses_under_a_containers_name_is_left_alone(node_lab: World) -> None:
    node, host = node_lab.lab.node, node_lab.host("squatted")
    link = host_link_name(Network().veth_prefix, EndpointKey(host.name))
    node.run(["ip", "link", "add", link, "type", "veth", "peer", "name", "squatter"])
    before = node.run(["ip", "-o", "link", "show", "dev", link]).text
    with pytest.raises(AlreadyExists, match=link):
        node_lab.wall.attach(host.name, netns=host.netns)
    assert node.run(["ip", "-o", "link", "show", "dev", link]).text == before
    node.run(["ip", "link", "del", link])


def test_links_of_a_lost_journal_are_in_nobodys_way() -> None:
    """Somebody cleaned /run, and what it knew of still stands. The same containers are attached again."""
    with open_world() as world:
        world.lab.internet.serve(tcp=[80])
        host = world.host("survivor")
        world.wall.attach(host.name, netns=host.netns)
        world.wall.attach("own")
        world.lab.node.run(["umount", *map(str, (world.wall.paths.run / "netns").iterdir())])
        shutil.rmtree(world.wall.paths.run)
        with Wall.open(root=world.lab.root, settings=world.wall.settings) as wall:
            wall.attach(host.name, netns=host.netns)
            wall.attach("own")
            assert_connection(host, PUBLIC4, 80)
            assert_connection(host, PUBLIC6, 80)
            assert wall.status().drift == ()
